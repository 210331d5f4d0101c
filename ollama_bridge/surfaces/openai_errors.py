"""How clients of OpenAI's dialect are told of an error, sans I/O."""

from typing import Final

from ollama_bridge.errors import BridgeError
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.converter import ended

_TYPES: Final = {400: "invalid_request_error", 404: "not_found_error"}


def error_body(exc: BridgeError) -> bytes:
    """The envelope; the type follows the status."""
    return ended(exc, _envelope(exc))


def error_event(exc: BridgeError) -> bytes:
    """A server-sent event of the envelope: the end of a stream that failed in the middle.

    A real server breaks off without a word there. OpenAI's clients raise what this says.
    """
    return b"data: %b\n\n" % _envelope(exc)


def _envelope(exc: BridgeError) -> bytes:
    kind = _TYPES.get(exc.status, "api_error")
    return gojson.dump({"error": {"message": str(exc), "type": kind, "param": None, "code": None}})
