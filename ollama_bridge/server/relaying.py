"""A client's request passed on to a real Ollama behind us, and its answer passed back, both as they are."""

from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import orjson
from aiohttp import web

from ollama_bridge.errors import BridgeError, InvalidRequest
from ollama_bridge.gateway import Gateway
from ollama_bridge.native import Relayed
from ollama_bridge.roster import Roster
from ollama_bridge.server.connection import ClientLeft, piece
from ollama_bridge.server.delivery import leaving
from ollama_bridge.server.middleware import note
from ollama_bridge.surfaces.ollama import NDJSON, error_body

_MOST_BYTES: Final = 1 << 28


async def passed_on(
    request: web.Request,
    gateway: Gateway,
    roster: Roster,
    body: Mapping[str, Any] | bytes = b"",
    *,
    path: str | None = None,
    headers: Mapping[str, str] | None = None,
    shape: Callable[[bytes], bytes] | None = None,
) -> web.StreamResponse:
    """Ask a real Ollama what the client asks, and answer what it answers: its status, its progress as it comes.

    Args:
        request: Whose method, and whose path, if no other is given, it is asked by.
        gateway: In whose hands that Ollama is, and stays until this is over.
        roster: That Ollama's.
        body: Instead of the client's own.
        path: Instead of the client's own.
        headers: Beside its own.
        shape: Changes an answer that is not an error; it is then waited for as a whole.

    Raises:
        BridgeError: It does not answer.
        ClientLeft: Nobody waits for it any more.
    """
    sent = body if isinstance(body, bytes) else _written(body)
    return await _passed_on(
        request, gateway, roster, sent, path=path or request.rel_url.raw_path, headers=headers, shape=shape
    )


async def uploaded(request: web.Request, gateway: Gateway, roster: Roster, path: str) -> web.StreamResponse:
    """As `passed_on`, the request's body piece by piece: it may be a model.

    Raises:
        BridgeError: It does not answer, or the rest of the body does not come.
        ClientLeft: The rest of it will never come.
    """
    upload = _Upload(request)
    try:
        return await _passed_on(request, gateway, roster, upload.pieces(), path=path)
    except BridgeError as exc:
        raise (upload.fault or exc) from exc


class _Upload:
    """A request's body on its way; why it did not come to its end is not for the HTTP client in between to say."""

    def __init__(self, request: web.Request) -> None:
        self.fault: Exception | None = None
        self._request = request

    async def pieces(self) -> AsyncIterable[bytes]:
        try:
            while found := await piece(self._request):
                yield found
        except (BridgeError, ClientLeft) as exc:
            self.fault = exc
            raise


async def _passed_on(
    request: web.Request,
    gateway: Gateway,
    roster: Roster,
    body: bytes | AsyncIterable[bytes],
    *,
    path: str,
    headers: Mapping[str, str] | None = None,
    shape: Callable[[bytes], bytes] | None = None,
) -> web.StreamResponse:
    with gateway.in_use():
        async with roster.relay(request.method, path, body, headers) as relayed:
            if relayed.content_type.startswith(NDJSON) and shape is None:
                return await _streamed(request, relayed)
            whole = await _whole(relayed)
    if shape is not None and relayed.status == 200:
        try:
            whole = shape(whole)
        except (AttributeError, TypeError, ValueError):
            words = f"the Ollama behind this bridge ({roster.name}) answered {path} with something unknown"
            raise BridgeError(words, status=502) from None
    kind = {"Content-Type": relayed.content_type} if relayed.content_type else None
    return web.Response(status=relayed.status, body=whole or None, headers=kind)


async def _streamed(request: web.Request, relayed: Relayed) -> web.StreamResponse:
    response = web.StreamResponse(status=relayed.status, headers={"Content-Type": relayed.content_type})
    with leaving():
        await response.prepare(request)
    last = b""
    try:
        async with aclosing(relayed.chunks) as chunks:
            async for chunk in chunks:
                with leaving():
                    await response.write(chunk)
    except BridgeError as exc:
        note(exc)
        last = error_body(exc) + b"\n"
    with leaving():
        await response.write_eof(last)
    return response


async def _whole(relayed: Relayed) -> bytes:
    found = bytearray()
    async with aclosing(relayed.chunks) as chunks:
        async for chunk in chunks:
            found += chunk
            if len(found) > _MOST_BYTES:
                raise BridgeError("the answer of the Ollama behind this bridge is too large", status=502)
    return bytes(found)


def _written(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as exc:
        raise InvalidRequest(f"the request cannot be passed on as JSON: {exc}") from None
