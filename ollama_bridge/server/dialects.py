"""How the clients of each surface are told of a failure that still has a status: known by the path alone.

So what fails before a handler is asked, such as a missing client key, is told as what fails in it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ollama_bridge.errors import BridgeError
from ollama_bridge.surfaces import anthropic_messages, converter, ollama, openai_errors


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way to tell it.

    Args:
        error_body: The body.
        error_type: Its content type; the second argument: whether the client had asked for a stream.
    """

    error_body: Callable[[BridgeError], bytes]
    error_type: Callable[[BridgeError, bool], str]


_NATIVE: Final = Dialect(ollama.error_body, ollama.content_type_of_error)
_BY_BEGINNING: Final = {
    "/v1/messages": Dialect(anthropic_messages.error_body, converter.error_type),
    "/v1/": Dialect(openai_errors.error_body, converter.error_type),
}


def dialect_of(path: str) -> Dialect:
    """The dialect of a path, served or not."""
    return next((one for beginning, one in _BY_BEGINNING.items() if path.startswith(beginning)), _NATIVE)
