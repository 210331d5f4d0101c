"""The only code that touches both a socket and an event.

What fails before the first event becomes a status; what fails after it becomes the last line. A burst is
decoded, encoded and written at once, and nothing that is encoded waits while the provider is silent.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from typing import Final, Protocol, Self

from aiohttp import web

from ollama_bridge.chat import Reply
from ollama_bridge.errors import BridgeError
from ollama_bridge.events import Event, Finish
from ollama_bridge.server.connection import ClientLeft
from ollama_bridge.server.middleware import internal_error, note

FIRST_HEARTBEAT_S: Final = 5.0
"""The least silence before the first heartbeat: with it the status is out, and what fails later cannot have one."""


class Encoder(Protocol):
    """One reply on one wire, sans I/O: either every event is encoded, or every event added and then told."""

    @property
    def stream_headers(self) -> Mapping[str, str]:
        """Of a streamed reply."""
        ...

    @property
    def whole_headers(self) -> Mapping[str, str]:
        """Of a reply in one object."""
        ...

    def encode(self, event: Event) -> bytes:
        """Whole lines, or whole server-sent events; with the first what precedes it, with `Finish` what ends it."""
        ...

    def heartbeat(self) -> bytes:
        """The same, saying nothing; it may come before the first event."""
        ...

    def add(self, event: Event) -> None:
        """Keep an event for `whole`."""
        ...

    def error(self, exc: BridgeError) -> bytes:
        """The end of a reply that failed in the middle."""
        ...

    def whole(self) -> bytes:
        """The reply in one object, for clients that do not stream."""
        ...


class _Stream(web.StreamResponse):
    """Its first lines are there when it begins, so the headers need not leave before them."""

    _send_headers_immediately = False


async def deliver(
    request: web.Request, events: Reply, encoder: Encoder, *, stream: bool, heartbeat_s: float
) -> web.StreamResponse:
    """Answer `request` with `events`; they are closed when this returns, however it does.

    Args:
        request: Whose answer it is.
        events: The answer.
        encoder: Of the request's surface.
        stream: Whether the client reads as it comes.
        heartbeat_s: Seconds of silence after which a stream shows that it lives; 0: never.

    Raises:
        BridgeError: There is no answer; nothing has been written.
        ClientLeft: Nobody reads it any more.
    """
    async with aclosing(events):
        if not stream:
            async for burst in events:
                for event in burst:
                    encoder.add(event)
            return web.Response(body=encoder.whole(), headers=encoder.whole_headers)
        response = _Stream(headers=encoder.stream_headers)
        with _Pulse(request, response, encoder, heartbeat_s) as pulse:
            last = await _write_all(response, events, encoder, pulse)
        with leaving():
            await response.write_eof(last)
        await _finish(events)
        return response


async def _write_all(response: web.StreamResponse, events: Reply, encoder: Encoder, pulse: "_Pulse") -> bytes:
    """Write every burst as it comes, but the last, which is returned: it leaves together with the end."""
    try:
        burst = await anext(events)
    except Exception as exc:
        if not await pulse.has_begun():
            raise  # it becomes a status
        return _failure(encoder, exc)
    await pulse.begin()
    lines: list[bytes] = []
    try:
        while True:
            lines.extend(map(encoder.encode, burst))  # what was encoded before a bug stays
            if type(burst[-1]) is Finish:
                break
            with leaving():
                await response.write(b"".join(lines))
            pulse.moved()
            lines.clear()
            burst = await anext(events)
    except ClientLeft:
        raise
    except Exception as exc:  # noqa: BLE001 - it is told and logged
        lines.append(_failure(encoder, exc))
    return b"".join(lines)


class _Pulse:
    """Begins the response, at the latest when it has been silent for long, and then shows that it lives.

    One timer a reply, which looks back when it is due: what is written only leaves its time.
    """

    def __init__(
        self, request: web.Request, response: web.StreamResponse, encoder: Encoder, every_s: float
    ) -> None:
        self._request = request
        self._response = response
        self._encoder = encoder
        self._every_s = every_s
        self._loop = asyncio.get_running_loop()
        self._moved_s = self._loop.time()
        self._beat: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        if self._every_s > 0:
            self._timer = self._loop.call_later(max(self._every_s, FIRST_HEARTBEAT_S), self._due)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._beat is not None:
            self._beat.cancel()

    def moved(self) -> None:
        """Something was written just now."""
        self._moved_s = self._loop.time()

    async def has_begun(self) -> bool:
        """Whether the status is out, so that a failure cannot have one any more."""
        if self._beat is not None:
            await asyncio.wait((self._beat,))
        return self._response.prepared

    async def begin(self) -> None:
        """Send the headers, if they are not out yet."""
        if not await self.has_begun():
            with leaving():
                await self._response.prepare(self._request)
        self.moved()

    def _due(self) -> None:
        wait_s = self._moved_s + self._every_s - self._loop.time()
        if wait_s <= 0:
            self._beat = self._loop.create_task(self._show())
            wait_s = self._every_s
        self._timer = self._loop.call_later(wait_s, self._due)

    async def _show(self) -> None:
        with suppress(ConnectionError):  # who reads it has left, and the handler learns it by itself
            await self._response.prepare(self._request)
            await self._response.write(self._encoder.heartbeat())
            self.moved()


def _failure(encoder: Encoder, exc: Exception) -> bytes:
    if isinstance(exc, BridgeError):
        note(exc)
        return encoder.error(exc)
    return encoder.error(internal_error(exc))  # a bug; it is logged


async def _finish(events: Reply) -> None:
    """Read what follows the end: nothing, but only then can the provider's connection be used again.

    The client has all of it, and may leave: Codex hangs up at the last event of every answer, and would never
    find an open connection to its provider. The policy `complete` bounds the wait.
    """
    rest = asyncio.create_task(_read_rest(events))
    try:
        await asyncio.shield(rest)
    except asyncio.CancelledError:
        await rest


async def _read_rest(events: Reply) -> None:
    try:
        await anext(events, None)
    except BridgeError:
        pass
    except Exception as exc:  # noqa: BLE001 - a bug, and too late to tell the client
        internal_error(exc)


@contextmanager
def leaving() -> Iterator[None]:
    """Around writing: what fails here is not to be taken for a backend's fault."""
    try:
        yield
    except ConnectionError as exc:
        raise ClientLeft from exc
