"""What is true of a model, and who says so: its provider's own list, else the catalogue, else a careful guess. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from ollama_bridge.chat import Rules
from ollama_bridge.facts import Facts, Listed, embedder

OPERATOR: Final = "operator"
LIST: Final = "provider's list"
CATALOGUE: Final = "catalogue"
PRICE_LIST: Final = "genai-prices"
ASSUMED: Final = "assumed"

Sources: TypeAlias = Mapping[str, tuple[str, ...]]
"""Facts by their key in the configuration (and `thinking`, `efforts`), to whoever says it: more than one where each says
a part."""

_EMBEDDER_WIDTH: Final = 1024
_EMBEDDER_TOKENS: Final = 8192
_RULES: Final = ("accepts", "thinking", "efforts", "schema")
"""Fields of `Listed` that are those of `Rules`."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about a model.

    Args:
        facts: All of it.
        sources: Who says it.
        window: Tokens that it is known to read; None: that is a guess.
    """

    facts: Facts
    sources: Sources
    window: int | None


def known_of(facts: Facts, listed: Listed | None) -> Known:
    """Put what a provider's list says over what the catalogue has, or guesses.

    Names stay the catalogue's where it knows the model: clients remember them.
    """
    own = CATALOGUE if facts.known else ASSUMED
    sources: dict[str, tuple[str, ...]] = dict.fromkeys(
        ("display_name", "family", "context_length", "max_tokens", "capabilities", "thinking", "efforts"),
        (own,),
    )
    if listed is None:
        return Known(facts, sources, facts.context_length if facts.known else None)
    if listed.kind == "embedding" and "embedding" not in facts.capabilities:
        facts = embedder(facts.id, facts.display_name, _EMBEDDER_TOKENS, _EMBEDDER_WIDTH, known=False)
        sources["capabilities"] = (LIST,)
    said: dict[str, Any] = {}
    if listed.display_name and not facts.known:
        said["display_name"], sources["display_name"] = listed.display_name, (LIST,)
    if listed.context_length is not None:
        said["context_length"], sources["context_length"] = listed.context_length, (LIST,)
    elif listed.window is not None and not facts.known:
        said["context_length"], sources["context_length"] = listed.window, (PRICE_LIST,)
    if listed.max_output_tokens is not None and "embedding" not in facts.capabilities:
        said["max_output_tokens"], sources["max_tokens"] = listed.max_output_tokens, (LIST,)
    if listed.able:
        lacks = {ability for ability, has in listed.able.items() if not has}
        has = {ability for ability, has in listed.able.items() if has}
        said["capabilities"] = tuple({*facts.capabilities, *has} - lacks)
        rest = {*facts.capabilities} - {"completion", "embedding"} - listed.able.keys()
        sources["capabilities"] = (LIST, own) if rest else (LIST,)
    said["rules"] = _ruled(facts.rules, listed, sources)
    facts = replace(facts, **said)
    window = facts.context_length if sources["context_length"] != (ASSUMED,) else None
    return Known(facts, sources, window)


def _ruled(rules: Rules, listed: Listed, sources: dict[str, tuple[str, ...]]) -> Rules:
    told = {name: value for name in _RULES if (value := getattr(listed, name)) is not None}
    if listed.able.get("thinking") is False:  # what does not think is not asked to
        told = {"thinking": frozenset(), "efforts": (), **told}
    sources.update(dict.fromkeys(told.keys() & sources.keys(), (LIST,)))
    return replace(rules, **told) if told else rules
