"""The only code that touches both a socket and an event.

What fails before the first event becomes a status; what fails after it becomes the last line. A burst is
decoded, encoded and written at once, and nothing that is encoded waits while the provider is silent.
"""

from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Protocol

from aiohttp import web

from ollama_bridge.chat import Reply
from ollama_bridge.errors import BridgeError
from ollama_bridge.events import Event, Finish
from ollama_bridge.server.connection import ClientLeft
from ollama_bridge.server.middleware import internal_error, note
from ollama_bridge.surfaces.ollama import JSON, NDJSON


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
    """Answer `request` with `events`; they are closed when this returns, however it does.

    Raises:
        BridgeError: There is no answer; nothing has been written.
        ClientLeft: Nobody reads it any more.
    """
    async with aclosing(events):
        first = await anext(events)  # what fails up to here becomes a status
        if not stream:
            for event in first:
                encoder.add(event)
            async for burst in events:
                for event in burst:
                    encoder.add(event)
            return web.Response(body=encoder.whole(), headers={"Content-Type": JSON})
        response = _Stream(headers={"Content-Type": NDJSON})
        with _leaving():
            await response.prepare(request)
        last = await _write_all(response, first, events, encoder)
        with _leaving():
            await response.write_eof(last)
        await _finish(events)
        return response


async def _write_all(
    response: web.StreamResponse, first: Sequence[Event], events: Reply, encoder: Encoder
) -> bytes:
    """Write every burst as it comes, but the last, which is returned: it leaves together with the end."""
    burst = first
    lines: list[bytes] = []
    try:
        while True:
            lines.extend(map(encoder.encode, burst))  # what was encoded before a bug stays
            if type(burst[-1]) is Finish:
                break
            with _leaving():
                await response.write(b"".join(lines))
            lines.clear()
            burst = await anext(events)
    except BridgeError as exc:
        note(exc)
        lines.append(encoder.error(exc))
    except ClientLeft:
        raise
    except Exception as exc:  # noqa: BLE001 - a bug; it is logged
        lines.append(encoder.error(internal_error(exc)))
    return b"".join(lines)


async def _finish(events: Reply) -> None:
    """Read what follows the end: nothing, but only then can the provider's connection be used again.

    The client has all of it; the policy `complete` bounds the wait.
    """
    try:
        await anext(events, None)
    except BridgeError:
        pass
    except Exception as exc:  # noqa: BLE001 - a bug, and too late to tell the client
        internal_error(exc)


@contextmanager
def _leaving() -> Iterator[None]:
    """Around writing: what fails here is not to be taken for a backend's fault."""
    try:
        yield
    except ConnectionError as exc:
        raise ClientLeft from exc
