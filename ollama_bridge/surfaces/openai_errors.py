"""How every `/v1` surface of OpenAI's dialect reads a body and tells an error, sans I/O.

A real server translates such a request into a native one before it looks at it. What it finds wrong then is
told with a charset and no line end, and what the native handler finds wrong the other way round
(`ollama-api.md` §7.0): the first are `ConverterError`s here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from ollama_bridge.errors import BridgeError, InvalidRequest
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.gotypes import Struct, decode

JSON: Final = "application/json"
"""Of whole replies, and of errors that are not the converter's."""

_CONVERTER_JSON: Final = "application/json; charset=utf-8"
_TYPES: Final = {400: "invalid_request_error", 404: "not_found_error"}


class ConverterError(InvalidRequest):
    """The request cannot be translated: its body or one of its fields is wrong in itself."""


@contextmanager
def converting() -> Iterator[None]:
    """What turns out to be an invalid request inside is the converter's finding."""
    try:
        yield
    except InvalidRequest as exc:
        raise ConverterError(str(exc), status=exc.status) from None


def decode_body(body: bytes, struct: Struct) -> dict[str, Any]:
    """Read a request body into `struct`, as `gotypes.decode` does.

    Raises:
        ConverterError: In Go's words; of an empty body they are `EOF` on `/v1`.
    """
    if not body.strip(b" \t\r\n"):
        raise ConverterError("EOF")
    with converting():
        return decode(body, struct)


def error_body(exc: BridgeError) -> bytes:
    """The envelope; the type follows the status."""
    return _envelope(exc) if isinstance(exc, ConverterError) else _envelope(exc) + b"\n"


def error_event(exc: BridgeError) -> bytes:
    """A server-sent event of the envelope: the end of a stream that failed in the middle.

    A real server breaks off without a word there. OpenAI's clients raise what this says.
    """
    return b"data: %b\n\n" % _envelope(exc)


def error_type(exc: BridgeError, stream: bool) -> str:  # noqa: ARG001 - a `Dialect` is told both
    """The content type of the envelope, the same for streams and others."""
    return _CONVERTER_JSON if isinstance(exc, ConverterError) else JSON


def _envelope(exc: BridgeError) -> bytes:
    kind = _TYPES.get(exc.status, "api_error")
    return gojson.dump({"error": {"message": str(exc), "type": kind, "param": None, "code": None}})
