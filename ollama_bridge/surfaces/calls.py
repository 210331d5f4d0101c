"""What the calls of all surfaces have in common: the model they name, and what it has to be able to do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import orjson

from ollama_bridge.catalog import Model
from ollama_bridge.chat import CacheTtl, Capability, Role, Think
from ollama_bridge.errors import InvalidRequest, ModelNotFound
from ollama_bridge.names import InvalidName, normalise_name, parse_name
from ollama_bridge.surfaces import gojson

ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
"""A role in lower case to ours; whoever else speaks is the user."""

_SPARE_LEVELS: Final = 16
"""How many levels of its own a provider's request may put around what a client nests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedCall:
    """A call that names a model.

    Args:
        model: The name exactly as sent: replies echo it.
    """

    model: str

    needs_name: ClassVar[bool] = True
    """Whether a call without a name is told so; else that there is no such model."""

    def lookup_name(self) -> str:
        """The normalised name to find the model by, whatever its case.

        Raises:
            InvalidRequest: 400, `model is required` or `invalid model name`.
            ModelNotFound: Where an empty name is merely unknown.
        """
        if not self.needs_name and not self.model.strip():
            raise self.not_found()
        try:
            return normalise_name(self.model)
        except InvalidName as invalid:
            raise InvalidRequest(str(invalid)) from None

    def not_found(self) -> ModelNotFound:
        """What to raise when there is no such model: it shows the name as the client sent it."""
        return ModelNotFound(self.model)


class ShownCall(NamedCall):
    """A call that asks about a model, which a real server looks for by its normalised name."""

    __slots__ = ()

    def not_found(self) -> ModelNotFound:
        """What to raise when there is no such model: here it shows the normalised name."""
        return ModelNotFound(self.lookup_name())


def check_abilities(model: Model, *needs: Capability, named: str, verb: str, think: Think = None) -> None:
    """See that `model` can do what a call asks of it, in the order of a real server.

    Args:
        model: As it is offered.
        needs: Beyond answering at all.
        named: The model as the client named it.
        verb: What the endpoint does, in Ollama's words: `chat`, `generate`.
        think: Whether it is to think.

    Raises:
        InvalidRequest: 400.
    """
    able = model.capabilities
    if think and "thinking" not in able:
        raise InvalidRequest(f"{gojson.quote(named)} does not support thinking")
    if "completion" not in able:
        raise InvalidRequest(f"{gojson.quote(named)} does not support {verb}")
    missing = "\n".join(need for need in needs if need not in able)
    if missing:
        raise InvalidRequest(f"{parse_name(model.name).full} does not support {missing}")


def read_cache(sent: Any) -> CacheTtl:
    """A `cache_control`, of whatever shape."""
    if not isinstance(sent, dict) or sent.get("type") != "ephemeral":
        return ""
    return "1h" if sent.get("ttl") == "1h" else "5m"


def read_top_logprobs(number: int) -> int:
    """How many alternatives per token.

    Raises:
        InvalidRequest: 400.
    """
    if not 0 <= number <= 20:
        raise InvalidRequest("top_logprobs must be between 0 and 20")
    return number


def refuse_endless(nested: Any) -> None:
    """What clients may nest freely is sent on as JSON: at most 254 levels, and no infinite numbers.

    Raises:
        InvalidRequest: 400.
    """
    for _ in range(_SPARE_LEVELS):
        nested = [nested]
    try:
        orjson.dumps(nested)
    except TypeError:
        raise InvalidRequest(
            "format, options, tools or tool_calls are nested too deeply or hold a number that is too large"
        ) from None
