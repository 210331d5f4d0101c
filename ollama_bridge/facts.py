"""What is known about one upstream model: a row of the catalogue, and what its provider's own list says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

from ollama_bridge.allowances import Price
from ollama_bridge.chat import Capability, Effort, Rules

_EMBEDS: Final[tuple[Capability, ...]] = ("embedding",)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about one upstream model.

    Args:
        id: As the provider knows it.
        display_name: For people.
        family: Also `general.architecture`: lower-case letters and digits only.
        context_length: Tokens of prompt and answer together.
        max_output_tokens: Most tokens of one answer; of an embedding model, which gives none, 1.
        capabilities: In Ollama's order.
        rules: How it differs from its neighbours.
        offered: Whether it is shown as soon as its provider has a key.
        embedding_length: Of an embedding model the width of its vectors. Clients demand the number even of chat
            models (koog), and of those no provider publishes it.
        known: False where all of this is a guess, so that the operator's defaults go first.
    """

    id: str
    display_name: str
    family: str
    context_length: int
    max_output_tokens: int
    capabilities: tuple[Capability, ...]
    rules: Rules
    offered: bool = True
    embedding_length: int = 8192
    known: bool = True


ModelKind: TypeAlias = Literal["chat", "embedding", "other", ""]
"""What a model is for: only the first two can be served; empty: its provider does not say."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What a provider's own list says of one of its models; None, or nothing, where it does not say.

    Args:
        id: As the provider knows it.
        display_name: For people.
        kind: What it is for.
        context_length: Tokens of prompt and answer together.
        max_output_tokens: Most tokens of one answer.
        able: Capabilities that it certainly has (true) or lacks.
        accepts: As `Rules.accepts`.
        thinking: As `Rules.thinking`.
        efforts: As `Rules.efforts`.
        schema: As `Rules.schema`.
        price: What it costs.
        retires: The day on which it is to be shut down, `2026-12-31`.
        gone: Whether it is shut down already.
        minor: Whether it is of interest to those only who ask for it: a dated twin, a predecessor, a preview.
        window: Tokens of its context, if not its provider but the price list `genai-prices` says it.
    """

    id: str
    display_name: str = ""
    kind: ModelKind = ""
    context_length: int | None = None
    max_output_tokens: int | None = None
    able: Mapping[Capability, bool] = field(default_factory=dict)
    accepts: frozenset[str] | None = None
    thinking: frozenset[str] | None = None
    efforts: tuple[Effort, ...] | None = None
    schema: bool | None = None
    price: Price | None = None
    retires: str = ""
    gone: bool = False
    minor: bool = False
    window: int | None = None


class Lister(Protocol):
    """Anything that can be asked which models it has. A provider that cannot lacks the method."""

    async def models(self) -> Sequence[Listed] | None:
        """All of them, of any kind; None: it publishes no list. Bounded in size and in pages, not in time.

        Raises:
            UpstreamError: The provider failed, or what it sent is no list.
        """
        ...


def embedder(
    model_id: str,
    name: str,
    context_length: int,
    width: int,
    *,
    narrowest: int | None = None,
    offered: bool = True,
    known: bool = True,
) -> Facts:
    """A model that embeds and does nothing else.

    Its family is that of nearly all embedding models of a real Ollama, and what clients (Page Assist and its kin)
    tell them by from those one can chat with.

    Args:
        model_id: As the provider knows it.
        name: For people.
        context_length: Tokens of one text.
        width: Of its vectors.
        narrowest: The least width it can be asked for; None: it has only its own.
        offered: As in `Facts`.
        known: As in `Facts`.
    """
    dimensions = range(0) if narrowest is None else range(narrowest, width)
    rules = Rules(thinking=frozenset(), efforts=(), dimensions=dimensions)
    return Facts(model_id, name, "bert", context_length, 1, _EMBEDS, rules, offered, width, known)
