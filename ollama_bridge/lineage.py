"""Models that are made from others, and what they inherit. Pure.

    models:
      - {name: mario, from: claude-sonnet-5-5, system: You are Mario., parameters: {temperature: 0.2}}
      - {name: luigi, from: mario, system: You are his brother.}

Who answers, by which rules and with which limits, comes down from the first that has a backend; on the way each
adds what it says itself. `from` may name a hidden model: hiding one does not take away what was made from it.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from ollama_bridge.catalog import ModelConfig
from ollama_bridge.errors import ConfigError
from ollama_bridge.names import InvalidName, parse_name

_INHERITED: Final = (
    "backend",
    "backend_model",
    "family",
    "context_length",
    "max_tokens",
    "capabilities",
    "fallbacks",
    "resume",
    "requests_per_minute",
    "requests_per_hour",
    "requests_per_day",
    "tokens_per_minute",
    "max_request_length",
    "price",
    "budget",
    "chunk_size",
    "delay_ms",
    "system",
    "messages",
    "template",
)
"""Keys of which the child's own value replaces the parent's."""


class BrokenLineage(ConfigError):
    """A `from` that leads nowhere, or in a circle.

    Args:
        message: Which, and what to do.
        index: Place of the model among those given.
    """

    def __init__(self, message: str, index: int) -> None:
        super().__init__(message)
        self.index = index


def places(models: Iterable[ModelConfig]) -> dict[str, int]:
    """The key of every name to the place of its model: aliases too, enabled or not.

    A name goes before an alias, and an alias that clients see before one of a hidden model. What is no name at all
    is the name of no model.
    """
    given = tuple(models)
    aliases = (
        (alias, index)
        for shown in (False, True)
        for index, model in enumerate(given)
        if model.enabled is shown
        for alias in model.aliases
    )
    names = ((model.name, index) for index, model in enumerate(given))
    found = {key_of(name): index for pairs in (aliases, names) for name, index in pairs}
    found.pop("", None)
    return found


def folded(models: Sequence[ModelConfig]) -> tuple[ModelConfig, ...]:
    """The same models, those with a `from` with all that they inherit; their `from` is the parent's name.

    Those with a backend have it all already.

    Raises:
        BrokenLineage: A parent does not exist, or is made from its own child.
    """
    known = places(models)
    done = {index: model for index, model in enumerate(models) if model.backend or not model.from_}
    for index in range(len(models)):
        line: list[int] = []
        at = index
        while at not in done:
            if at in line:
                raise BrokenLineage(
                    f"model '{models[at].name}' is made from itself, by way of its 'from'", at
                )
            line.append(at)
            parent = known.get(key_of(models[at].from_))
            if parent is None:
                raise BrokenLineage(
                    f"model '{models[at].name}' is made from '{models[at].from_}', which does not exist", at
                )
            at = parent
        for child in reversed(line):
            done[child] = _child(models[child], done[at])
            at = child
    return tuple(done[index] for index in range(len(models)))


def inherited(child: Mapping[str, Any], parent: Mapping[str, Any]) -> dict[str, Any]:
    """The child's entry as it is to be when the parent's is gone: both as the file has them."""
    merged = {key: parent[key] for key in _INHERITED if key in parent} | dict(child)
    if "backend" in parent:
        merged.setdefault("backend_model", parent["name"].removesuffix(":latest"))
    if parameters := {**(parent.get("parameters") or {}), **(child.get("parameters") or {})}:
        merged["parameters"] = parameters
    old, new = parent.get("license") or "", child.get("license") or ""
    if old or new:
        merged["license"] = old if new in old else f"{old}\n{new}".strip("\n")
    merged.pop("from", None)
    if "from" in parent:
        merged["from"] = parent["from"]
    return merged


@lru_cache(maxsize=4096)
def key_of(name: str) -> str:
    """What to look a model up by; empty for what is no name at all."""
    try:
        return parse_name(name).key
    except InvalidName:
        return ""


def _child(model: ModelConfig, parent: ModelConfig) -> ModelConfig:
    entry = inherited(_entry(model), _entry(parent))
    entry |= {"from": parent.name, "display_name": model.display_name or model.name}
    return ModelConfig.model_validate(entry)


def _entry(model: ModelConfig) -> dict[str, Any]:
    return model.model_dump(exclude_unset=True)
