"""The only code that touches both a socket and an event.

What fails before the first event becomes a status; what fails after it becomes the last line. A burst is
decoded, encoded and written at once, and nothing that is encoded waits while the provider is silent.
"""

import asyncio
from contextlib import aclosing, suppress
from typing import Final, Protocol

import structlog
from aiohttp import web

from ollama_bridge.chat import Reply
from ollama_bridge.errors import BridgeError
from ollama_bridge.events import Event, Finish
from ollama_bridge.stepping import Waiting, start
from ollama_bridge.surfaces.ollama import JSON, NDJSON

MOST_LINES: Final = 512
"""Lines are gathered up to this number before they are written even in the middle of a burst."""

log = structlog.get_logger(__name__)


class Encoder(Protocol):
    """One reply on one wire, sans I/O: either every event is encoded, or every event added and then told."""

    def encode(self, event: Event) -> bytes:
        """Whole lines."""
        ...

    def add(self, event: Event) -> None:
        """Keep an event for `whole`."""
        ...

    def error(self, exc: BridgeError) -> bytes:
        """The last line of a reply that failed in the middle."""
        ...

    def whole(self) -> bytes:
        """The reply in one object, for clients that do not stream."""
        ...


class _Stream(web.StreamResponse):
    """Its first lines are there when it begins, so the headers need not leave before them."""

    _send_headers_immediately = False


async def deliver(
    request: web.Request, events: Reply, encoder: Encoder, *, stream: bool
) -> web.StreamResponse:
    """Answer `request` with `events`; they are closed when this returns, however it does."""
    async with aclosing(events):
        first = await anext(events)  # what fails up to here becomes a status
        if not stream:
            encoder.add(first)
            async for event in events:
                encoder.add(event)
            return web.Response(body=encoder.whole(), headers={"Content-Type": JSON})
        response = _Stream(headers={"Content-Type": NDJSON})
        await response.prepare(request)
        last = await _write_all(response, first, events, encoder)
        await response.write_eof(last)
        # The client has all of it. What is left is the provider ending its body, so that its connection
        # can be used again; the policy `complete` bounds that.
        with suppress(BridgeError):
            await anext(events, None)
        return response


async def _write_all(response: web.StreamResponse, first: Event, events: Reply, encoder: Encoder) -> bytes:
    """Write everything but the last lines, which are returned."""
    encode = encoder.encode
    lines = [encode(first)]
    event = first
    try:
        while type(event) is not Finish:
            step = start(anext(events))
            if isinstance(step, Waiting):
                if lines:
                    await _flush(response, b"".join(lines), step)
                    lines.clear()
                event = await step
            else:
                event = step
            lines.append(encode(event))
            if len(lines) > MOST_LINES:
                await response.write(b"".join(lines))
                lines.clear()
    except BridgeError as exc:
        log.warning("failed in the middle of the answer", error=str(exc))
        lines.append(encoder.error(exc))
    return b"".join(lines)


async def _flush(response: web.StreamResponse, lines: bytes, pending: Waiting[Event]) -> None:
    """Write while `pending` waits; if that fails, `pending` is cancelled and cleaned up first."""
    try:
        await response.write(lines)
    except BaseException:
        # Not the client's exception: inside, a ConnectionResetError would look like the provider's fault.
        with suppress(BaseException):
            await pending.fail(asyncio.CancelledError())
        raise
