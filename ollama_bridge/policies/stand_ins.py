"""Models that stand for others: `small` and `big`, `auto` and `auto:<task>`. Pure.

Which exist follows from the models that are enabled; who answers is chosen for each request, by what the operator
prefers, by who can be asked now, by what the request needs, and by price.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, TypeAlias

import structlog

from ollama_bridge.allowances import ModelSize, Task
from ollama_bridge.catalog import Model, standing_for
from ollama_bridge.chat import ChatRequest
from ollama_bridge.errors import BridgeError, InvalidRequest
from ollama_bridge.names import parse_name
from ollama_bridge.policies.capable import lacks
from ollama_bridge.policies.tasks import TASKS, suits, task_of
from ollama_bridge.tokens import characters, measure

MOST: Final = 5
"""How many are asked in turn at most: each may take its time to fail."""

_SIZES: Final[Mapping[ModelSize | None, int]] = {"BIG": 0, None: 1, "SMALL": 2}

PriceOf: TypeAlias = Callable[[Model], Decimal | int | None]
"""What a model costs, in any unit that is the same for all; None: nobody knows."""

Blocks: TypeAlias = Callable[[Model], BridgeError | None]
"""What a request to a model would be told now, instead of being passed on; None: it would be."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Role:
    """What a name stands for; with neither, for whatever the request is for."""

    title: str
    task: Task | None = None
    size: ModelSize | None = None


_ROLES: Final[Mapping[str, _Role]] = {
    "auto:latest": _Role("Auto"),
    **{f"auto:{task}": _Role(f"Auto: {task.replace('_', ' ')}", task=task) for task in TASKS},
    "small:latest": _Role("Small", size="SMALL"),
    "big:latest": _Role("Big", size="BIG"),
}

NAMES: Final = tuple(_ROLES)
"""Of all of them, as lists show them."""


class StandIns:
    """Offers them, and chooses who answers for one.

    Args:
        auto: Whether there are `auto` and `auto:<task>`.
        listed: Whether clients see all of these in lists.
        blocks: Who cannot be asked now, and why.
        price_of: What they cost.
    """

    def __init__(
        self,
        *,
        auto: bool = True,
        listed: bool = False,
        blocks: Blocks = lambda _: None,
        price_of: PriceOf = lambda _: None,
    ) -> None:
        self.listed = listed
        self._auto = auto
        self._blocks = blocks
        self._price_of = price_of

    def among(self, models: Sequence[Model]) -> tuple[Model, ...]:
        """Those that exist if these are enabled, as lists show them."""
        return tuple(
            standing_for(name, role.title, candidates)
            for name, role in _ROLES.items()
            if role.size or self._auto
            if (candidates := self._in_order(role, role.task, models))
        )

    def choose(self, name: str, models: Sequence[Model], request: ChatRequest) -> tuple[Model, ...]:
        """Who is to answer, and who if that one does not, in order.

        Args:
            name: Of one of these, as lists show it.
            models: The enabled ones.
            request: What is asked.

        Raises:
            InvalidRequest: 404: none of the models is able to.
            BridgeError: 503: those that are cannot be asked now.
        """
        role = _ROLES[name]
        task = role.task if role.task or role.size else task_of(request)
        candidates = self._in_order(role, task, models) or self._in_order(role, None, models)
        chosen: list[Model] = []
        unable: list[str] = []
        blocked: list[BridgeError] = []
        tokens = measure(request).likely
        for model in candidates:
            if why := _unfit(model, request, tokens):
                unable.append(f"{model.name} {why}")
            elif exc := self._blocks(model):
                blocked.append(exc)
            else:
                chosen.append(model)
                if len(chosen) == MOST:
                    break
        if not chosen:
            raise _nobody(name, unable, blocked)
        log.debug("a model is chosen", stand_in=name, task=task, model=chosen[0].name)
        return tuple(chosen)

    def _in_order(self, role: _Role, task: Task | None, models: Iterable[Model]) -> list[Model]:
        if role.size:
            able = [model for model in models if _talks(model) and model.config.model_size == role.size]
        else:
            able = [model for model in models if _talks(model) and (task is None or suits(model, task))]
        leaning = TASKS[task].leaning if task else "cheap" if role.size else "strong"
        return sorted(able, key=lambda model: self._rank(model, leaning))

    def _rank(self, model: Model, leaning: Literal["cheap", "strong"]) -> tuple[object, ...]:
        """Before whom it goes; of equals the first that was configured."""
        price = self._price_of(model)
        size, by_price = _SIZES[model.config.model_size], (price is None, price or 0)
        if leaning == "cheap":
            return (model.config.priority, *by_price, -size)
        # The cheapest of those that are not said to be big is hardly the strongest: they stay in the order of the
        # configuration, where the best of a provider comes first.
        return (size, model.config.priority, *(by_price if size == 0 else ()))


def _talks(model: Model) -> bool:
    return "completion" in model.capabilities


def _unfit(model: Model, request: ChatRequest, tokens: int) -> str:
    """Why a model cannot answer this, for people; empty: it can."""
    if need := lacks(model, request):
        return f"lacks {need}"
    if tokens > model.context_length:
        return f"reads {model.context_length} tokens, and these are about {tokens}"
    most = model.config.max_request_length
    if most is not None and characters(request) > most:
        return f"takes {most} characters"
    return ""


def _nobody(name: str, unable: Sequence[str], blocked: Sequence[BridgeError]) -> BridgeError:
    """All of them, with the reason of each."""
    shown = parse_name(name).shortest.removesuffix(":latest")
    reasons = "; ".join([*map(str, blocked), *unable])
    if not blocked:
        return InvalidRequest(f"'{shown}' finds no model for this: {reasons}", status=404)
    waits = [exc.retry_after_s for exc in blocked if exc.retry_after_s is not None]
    return BridgeError(
        f"'{shown}' finds no model that answers now: {reasons}",
        status=503,
        retry_after_s=min(waits, default=None),
    )
