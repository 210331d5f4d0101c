"""The listening sockets, and what a connection does with bytes that are not a request.

Everything that is a request is answered by the handlers; this is about what comes before: malformed HTTP, and
a client that stops in the middle of its body.
"""

import asyncio
import socket
from typing import Final

import structlog
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from ollama_bridge.errors import BodyTooLarge, BridgeError, InvalidRequest
from ollama_bridge.listening import BACKLOG
from ollama_bridge.surfaces import ollama

MAX_HEADER_BYTES: Final = 64 * 1024
"""For each line of a request's head. Browsers send the cookies of everything else that runs on localhost."""

MAX_HEADERS: Final = 1000

BODY_TIMEOUT_S: Final = 120.0
"""Seconds for a request body to arrive as a whole, or for the next piece of one that is taken piece by piece."""

_PIECE_BYTES: Final = 1024 * 1024

log = structlog.get_logger(__name__)


class ClientLeft(ConnectionResetError):
    """The client closed its connection while it sent, or was sent, something; nobody's fault."""


class Site(web.BaseSite):
    """A bound socket whose connections are `Connection`s."""

    def __init__(self, runner: web.AppRunner, listener: socket.socket) -> None:
        super().__init__(runner, backlog=BACKLOG)
        self._listener = listener

    @property
    def name(self) -> str:
        """The address, for people."""
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Accept."""
        await super().start()
        loop = asyncio.get_running_loop()
        server = self._runner.server

        def connection() -> Connection:
            return Connection(
                server,  # type: ignore[arg-type]  # there is one: BaseSite asked for it
                loop=loop,
                access_log=None,  # type: ignore[arg-type]  # None is how aiohttp turns it off
                # The real server does not decode request bodies either, and so no small body becomes a huge one.
                auto_decompress=False,
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
                max_headers=MAX_HEADERS,
            )

        self._server = await loop.create_server(connection, sock=self._listener, backlog=BACKLOG)


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_body", "_broken", "_fault")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._body: StreamReader | None = None
        self._broken: StreamReader | None = None
        self._fault = ""
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. A message behind an unfinished body is aiohttp's note of malformed chunks.

        While the server stops aiohttp drops what arrives, even the rest of a body that a handler waits for.
        """
        closes, ends = self._close, self._force_close
        if (closes or ends) and self._body is not None and not self._body.is_eof():
            self._close = self._force_close = False
        super().data_received(data)
        self._close, self._force_close = self._close or closes, ends
        if self._messages:
            before, self._body = self._body, self._messages[-1][1]
            if before is not self._body:
                self._give_up(before, "malformed chunked encoding")

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Let the answer finish. Who has just come and asks nothing is overlooked by aiohttp, and would be waited for."""
        if self._waiter is not None:
            self._waiter.cancel()
        await super().shutdown(timeout)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's protocols may answer
        """True, and the connection stays, if a request's body is incomplete: Go tells such a client so.

        Whoever else says no more has left, and what is done for them ends.
        """
        return self._give_up(self._body, "unexpected EOF")

    def fault_of(self, body: StreamReader) -> str:
        """In Go's words, why a request's body is incomplete; empty: it is not."""
        return self._fault if body is self._broken else ""

    def _give_up(self, body: StreamReader | None, fault: str) -> bool:
        """Wake who waits for the rest of `body`, if it is unfinished; once that is answered, close."""
        if body is None or body.is_eof():
            return False
        self._broken, self._fault = body, fault
        body.feed_eof()
        self.close()
        return True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP. aiohttp would quote it, in a traceback at ERROR and to the client."""
        if isinstance(exc, ClientLeft):
            raise exc
        # aiohttp repeats an `Expect` that it does not know, whatever its bytes; what fails in the application is told
        # by its middleware and never gets here.
        if not isinstance(exc, HttpProcessingError | UnicodeEncodeError):
            return super().handle_error(request, status, exc, message)
        log.info("malformed request", fault=type(exc).__name__, client=request.remote)
        if isinstance(exc, LineTooLong):
            words = f"the request line or a header is longer than {MAX_HEADER_BYTES} bytes"
            told = InvalidRequest(words, status=431)
        else:
            told = InvalidRequest("malformed HTTP request")
        # aiohttp names itself and its version where the application's hooks do not reach.
        headers = {"Content-Type": ollama.JSON, "Server": "ollama-bridge"}
        response = web.Response(status=told.status, headers=headers, body=ollama.error_body(told))
        response.force_close()
        return response


async def read_body(request: web.Request) -> bytes:
    """The whole request body, whatever its Content-Type.

    Raises:
        BodyTooLarge: It exceeds the server's limit; no more of it is kept.
        InvalidRequest: It ended early or is malformed (400), or did not arrive in time (408).
        ClientLeft: The rest of it will never come.
    """
    if (request.content_length or 0) > request.client_max_size:
        raise _too_large(request)
    try:
        if request.content.is_eof():  # nearly always: it came with the head, and no clock is needed
            body = await request.read()
        else:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(request) from None
    except TimeoutError:
        raise InvalidRequest("the request body did not arrive in time", status=408) from None
    except ConnectionError as exc:
        raise ClientLeft from exc
    if fault := _body_fault(request):
        raise InvalidRequest(fault)
    return body


async def piece(request: web.Request) -> bytes:
    """The next bytes of a body, many at once; none: it has ended.

    Raises:
        InvalidRequest: Nothing came for a long time (408), or it ended early (400).
        ClientLeft: The rest will never come.
    """
    pieces = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while len(pieces) < _PIECE_BYTES and (found := await request.content.readany()):
                pieces += found
    except TimeoutError:
        raise InvalidRequest("the rest of the request body did not arrive in time", status=408) from None
    except ConnectionError as exc:
        raise ClientLeft from exc
    if not pieces and (fault := _body_fault(request)):
        raise InvalidRequest(fault)
    return bytes(pieces)


def _body_fault(request: web.Request) -> str:
    """In Go's words, why a body that has ended is incomplete; empty: it is not."""
    return request.protocol.fault_of(request.content) if isinstance(request.protocol, Connection) else ""


def _too_large(request: web.Request) -> BridgeError:
    return BodyTooLarge(
        f"the request body is larger than {request.client_max_size} bytes; `max_body_bytes` of the bridge's "
        "`server` configuration sets the limit"
    )
