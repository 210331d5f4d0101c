"""What is known about one upstream model: the shape of a row of the catalogue."""

from dataclasses import dataclass
from typing import Final

from ollama_bridge.chat import Capability, Rules

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
