"""Another model answers when the one that was asked cannot: until the first event, and only who is able to.

Each of them has its own policies, retries included, which have done what they could before this one goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from ollama_bridge.catalog import Model
from ollama_bridge.chat import Backend, ChatRequest, Embedder, Embeddings, EmbedRequest, Reply
from ollama_bridge.errors import (
    BridgeError,
    ContextOverflow,
    RateLimited,
    UpstreamError,
    UpstreamRejected,
)
from ollama_bridge.events import Event
from ollama_bridge.policies.capable import embeds_alike, lacks
from ollama_bridge.record import CallRecord
from ollama_bridge.tokens import measure

log = structlog.get_logger(__name__)

_MALFORMED: Final = 400
"""Of a refusal: it is for the request itself, and would be the same everywhere."""


@dataclass(frozen=True, slots=True)
class Begun:
    """An answer that has begun.

    Args:
        model: Who gives it.
        first: Its first burst.
        rest: All that follows.
    """

    model: Model
    first: Sequence[Event]
    rest: Reply


class Fallback:
    """Asks one model after the other until one begins to answer.

    It goes on to the next at whatever the provider is at fault for, at a refusal that is not for the request itself
    (an unknown model, a bad key), at a prompt that is too long, if the next has a longer context, and at a limit of
    ours that is not everybody's. Passed over are models that lack what the request has, and those whose context is
    too short for it. The first is asked whatever it lacks: somebody chose it.

    Args:
        backends: Who answers, by the provider's key.
        embedders: Who embeds, by the same.
        find: The model of that name, None if nobody may be asked under it.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        embedders: Mapping[str, Embedder],
        find: Callable[[str], Model | None],
    ) -> None:
        self._backends = backends
        self._embedders = embedders
        self._find = find

    async def begun(
        self, request: ChatRequest, candidates: Sequence[Model], ask: Callable[[Model], ChatRequest]
    ) -> Begun:
        """Ask until somebody begins; what is left of its reply is to be closed.

        Args:
            request: The question, by which candidates are chosen.
            candidates: Who may be asked, in order; at least one.
            ask: The question as that model is to be asked.

        Raises:
            BridgeError: What the last one failed with; if others were asked too, it names all.
        """
        line = _Line(candidates, self._find, lambda model, context: _unfit(model, request, context))
        for model in line:
            note(request.record, model)
            reply = self._backends[model.target.provider].chat(ask(model))
            try:
                first = await anext(reply)
            except BridgeError as exc:
                line.failed(exc)
            else:
                return Begun(model, first, reply)
        raise line.failure()

    async def embed(
        self, request: EmbedRequest, candidates: Sequence[Model], ask: Callable[[Model], EmbedRequest]
    ) -> Embeddings:
        """Embed, by the same model of another provider if need be.

        Raises:
            BridgeError: As `begun`.
        """
        asked = candidates[0]
        line = _Line(
            candidates, self._find, lambda model, _: "" if embeds_alike(model, asked) else "its vectors"
        )
        for model in line:
            note(request.record, model)
            try:
                return await self._embedders[model.target.provider].embed(ask(model))
            except BridgeError as exc:
                line.failed(exc)
        raise line.failure()


def note(record: CallRecord, model: Model) -> None:
    """Tell who is asked now: the last one is who answered."""
    record.model, record.provider, record.target = model.name, model.target.provider, model.target.model


class _Line:
    """Who is asked next, and what is told in the end.

    Args:
        candidates: In order.
        find: As in `Fallback`.
        unfit: What a model lacks, given the tokens that its context has to exceed; empty: it may be asked.
    """

    def __init__(
        self,
        candidates: Sequence[Model],
        find: Callable[[str], Model | None],
        unfit: Callable[[Model, int], str],
    ) -> None:
        self._ahead = list(candidates)
        self._find = find
        self._unfit = unfit
        self._asked: list[Model] = []
        self._reason: BridgeError | None = None
        self._told: BridgeError | None = None
        self._context = 0

    def __iter__(self) -> "_Line":
        return self

    def __next__(self) -> Model:
        while self._ahead:
            model = self._ahead.pop(0)
            lacking = "" if not self._asked else self._lacking(model)
            if not lacking:
                if self._asked:
                    self._tell(self._asked[-1], model)
                self._asked.append(model)
                return model
            log.debug("fallback passed over", model=model.name, lacks=lacking)
        raise StopIteration

    def failed(self, exc: BridgeError) -> None:
        """The last one has not answered."""
        self._reason = exc
        is_stand_in = len(self._asked) > 1
        if isinstance(exc, ContextOverflow):
            self._context = max(self._context, self._asked[-1].context_length)
        elif isinstance(exc, RateLimited):
            self._limited(exc)
        elif not isinstance(exc, UpstreamError):
            if is_stand_in:
                return  # what only a stand-in cannot do, such as looking at a BMP, is not what the client is told
            self._ahead.clear()
        elif isinstance(exc, UpstreamRejected) and exc.status == _MALFORMED:
            self._ahead.clear()
        self._told = exc

    def failure(self) -> BridgeError:
        """What to raise when there is nobody left."""
        assert self._told is not None  # noqa: S101 - nobody is left only after the first has failed
        if len(self._asked) > 1:
            self._told.append(f" (asked in turn: {', '.join(model.name for model in self._asked)})")
        return self._told

    def _lacking(self, model: Model) -> str:
        return "a second chance" if model in self._asked else self._unfit(model, self._context)

    def _tell(self, last: Model, model: Model) -> None:
        log.info(
            "another model is asked",
            provider=last.target.provider,
            model=last.target.model,
            instead=model.name,
            reason=self._reason.summary if self._reason else "",
        )

    def _limited(self, exc: RateLimited) -> None:
        if not exc.elsewhere:
            self._ahead.clear()
        if exc.instead and (instead := self._find(exc.instead)) is not None:
            self._ahead.insert(0, instead)


def _unfit(model: Model, request: ChatRequest, context: int) -> str:
    if need := lacks(model, request):
        return need
    if model.context_length <= context or model.context_length < measure(request).likely:
        return "context"
    return ""
