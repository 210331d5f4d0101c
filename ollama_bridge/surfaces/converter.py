"""How every `/v1` surface reads a body, and what its answers are called in HTTP, sans I/O.

A real server translates such a request into a native one before it looks at it. What it finds wrong then is
told with a charset and no line end, and what the native handler finds wrong the other way round
(`ollama-api.md` §7.0): the first are `ConverterError`s here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from ollama_bridge.errors import BridgeError, InvalidRequest
from ollama_bridge.surfaces.gotypes import Struct, decode

JSON: Final = "application/json"
"""Of whole replies, and of errors that are not the converter's."""

SSE: Final = "text/event-stream"
"""Of a stream of server-sent events."""

UNCACHED_SSE: Final[Mapping[str, str]] = {"Content-Type": SSE, "Cache-Control": "no-cache"}
"""The headers of a stream of /v1/responses and /v1/messages."""

_CONVERTER_JSON: Final = "application/json; charset=utf-8"


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


def ended(exc: BridgeError, envelope: bytes) -> bytes:
    """An error's body: with a line end, unless it is the converter's."""
    return envelope if isinstance(exc, ConverterError) else envelope + b"\n"


def error_type(exc: BridgeError, stream: bool) -> str:  # noqa: ARG001 - a `Dialect` is told both
    """The content type of an error, the same for streams and others."""
    return _CONVERTER_JSON if isinstance(exc, ConverterError) else JSON
