"""A load generator that costs little: raw HTTP/1.1 clients, kept alive, that note when bytes came.

It shares a CPU with the upstream and not with the target, and does its counting after the clock has
stopped: a reply's body is kept as it arrived and taken apart only when asked for.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"
PATIENCE_S = 60.0
"""Longest wait for one reply; a target that needs more is broken."""


class BadReply(RuntimeError):
    """The target did not do the work it is measured for."""


@dataclass
class Reply:
    """One reply as it arrived; times in seconds since the request was written."""

    started: float
    status: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    length: int | None = None
    raw: list[bytes] = field(default_factory=list)

    def body(self) -> bytes:
        """The body without its chunked framing."""
        raw = b"".join(self.raw)
        if self.length is not None:
            return raw
        parts, at = [], 0
        while size := int(raw[at : (start := raw.index(b"\r\n", at) + 2) - 2], 16):
            parts.append(raw[start : start + size])
            at = start + size + 2
        return b"".join(parts)


def post(path: str, body: dict[str, Any], method: str = "POST") -> bytes:
    """A request with a JSON body, ready to be written."""
    content = json.dumps(body, separators=(",", ":")).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(content)}\r\n\r\n".encode() + content


class Client(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""
        self._reply: Reply | None = None
        self._done: asyncio.Future[Reply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for writing."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """A reply that was under way is lost."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(BadReply("the target closed the connection in mid-reply"))

    async def ask(self, request: bytes) -> Reply:
        """Write `request`, wait for the whole reply.

        Raises:
            BadReply: The connection broke.
            TimeoutError: No end within `PATIENCE_S`.
        """
        self._head = self._tail = b""
        self._done = asyncio.get_running_loop().create_future()
        self._reply = Reply(perf_counter())
        self.transport.write(request)
        async with asyncio.timeout(PATIENCE_S):
            return await self._done

    def data_received(self, data: bytes) -> None:
        """Note the time, keep the bytes, see whether it was the end."""
        reply = self._reply
        if reply is None or self._done is None or self._done.done():
            return
        if not reply.status:
            self._head += data
            end = self._head.find(b"\r\n\r\n") + 4
            if end == 3:
                return
            data = self._head[end:]
            reply.status = int(self._head[9:12])
            length = _LENGTH.search(self._head, 0, end)
            reply.length = int(length[1]) if length else None
        if data:
            if not reply.raw:
                reply.first_s = perf_counter() - reply.started
            reply.raw.append(data)
        if self._ended(reply, data):
            reply.last_s = perf_counter() - reply.started
            self._done.set_result(reply)

    def _ended(self, reply: Reply, data: bytes) -> bool:
        if reply.length is not None:
            return sum(map(len, reply.raw)) >= reply.length
        self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
        return self._tail in (_LAST_CHUNK, _LAST_CHUNK[2:])


@asynccontextmanager
async def crowd(port: int, users: int) -> AsyncIterator[list[Client]]:
    """`users` open connections to a target on loopback."""
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(Client, "127.0.0.1", port))[1] for _ in range(users)]
    try:
        yield clients
    finally:
        for client in clients:
            client.transport.close()


async def ask_all(clients: list[Client], request: bytes, times: int = 1, apart_s: float = 0.0) -> list[Reply]:
    """Every client asks `times` times in a row; they start `apart_s` seconds after each other."""

    async def one(index: int, client: Client) -> list[Reply]:
        await asyncio.sleep(index * apart_s)
        return [await client.ask(request) for _ in range(times)]

    replies = await asyncio.gather(*(one(index, client) for index, client in enumerate(clients)))
    return [reply for of_one in replies for reply in of_one]
