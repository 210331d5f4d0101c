"""Fast fake providers for all wires on one port: the work that every target of a benchmark does equally.

    $ python tests/benchmarks/upstreams.py --chunks 200 --per-s 0
    40123                                        # the port, then it serves until it is ended

The path decides the wire. `PUT /_reply {"chunks": 5, "per_s": 50}` changes what the next requests get:
`chunks` words each, `per_s` words a second, or all of it in one write when that is 0.

The protocol reads no more of a request than where it ends and whether it wants a stream; replies are encoded
once. Every event is an HTTP chunk of its own, as providers flush them.
"""

import argparse
import asyncio
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from replies import SCRIPTS

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": *true')
_PATHS = {b"/v1/messages": "anthropic", b"/v1/chat/completions": "chat", b"/v1/responses": "responses"}
_HEAD = b"HTTP/1.1 %b\r\ncontent-type: %b\r\nrequest-id: req_bench\r\n%b\r\n\r\n"


@dataclass
class Pace:
    """How the next requests are answered: `chunks` words, `per_s` a second (0: in one write)."""

    chunks: int
    per_s: float


@cache
def streamed(wire: str, chunks: int) -> list[bytes]:
    """The reply in the pieces that are written one after the other; the first with the head, the last with the end."""
    pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in SCRIPTS[wire](chunks).pieces()]
    pieces[0] = _HEAD % (b"200 OK", b"text/event-stream", b"transfer-encoding: chunked") + pieces[0]
    pieces[-1] += b"0\r\n\r\n"
    return pieces


@cache
def burst(wire: str, chunks: int) -> bytes:
    """The whole streamed reply as one write."""
    return b"".join(streamed(wire, chunks))


@cache
def once(wire: str, chunks: int) -> bytes:
    """The reply as one JSON document."""
    return _document(b"200 OK", SCRIPTS[wire](chunks).once)


def _document(status: bytes, body: bytes) -> bytes:
    return _HEAD % (status, b"application/json", b"content-length: %d" % len(body)) + body


class Upstream(asyncio.Protocol):
    """One connection, kept alive; one request at a time, as HTTP/1.1 clients do."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport is written to directly; replies fit its buffer."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    def connection_lost(self, exc: Exception | None) -> None:
        """A target that left gets no more."""
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end == 3:
            return
        length = _LENGTH.search(self._buffer, 0, end)
        whole = end + (int(length[1]) if length else 0)
        if len(self._buffer) < whole:
            return
        request, self._buffer = self._buffer[:whole], self._buffer[whole:]
        self._answer(request.split(b" ", 2)[1], request[end:])

    def _answer(self, target: bytes, body: bytes) -> None:
        path, chunks = target.partition(b"?")[0], self._pace.chunks
        if path == b"/_reply":
            self._pace.__dict__.update(json.loads(body))
            self._transport.write(_document(b"200 OK", body))
            return
        streams = b":stream" in path or _STREAM.search(body) is not None
        wire = "google" if b"/models/" in path else _PATHS.get(path)
        if wire is None:
            self._transport.write(_document(b"404 Not Found", b'{"error":{"message":"no such wire"}}'))
        elif not streams:
            self._transport.write(once(wire, chunks))
        elif not self._pace.per_s:
            self._transport.write(burst(wire, chunks))
        else:
            self._write_paced(streamed(wire, chunks), 0, self._loop.time(), 1 / self._pace.per_s)

    def _write_paced(self, pieces: list[bytes], index: int, started: float, gap_s: float) -> None:
        self._transport.write(pieces[index])
        index += 1
        if index < len(pieces):  # against the start, not the last write: lateness must not add up
            due = started + index * gap_s
            self._timer = self._loop.call_at(due, self._write_paced, pieces, index, started, gap_s)


async def serve(pace: Pace, port: int) -> None:
    """Serve on 127.0.0.1 until cancelled; prints the port first."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(pace), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description="Fake providers for benchmarks.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one, printed as the first line")
    parser.add_argument("--chunks", type=int, default=200, help="words of a reply, at least 2")
    parser.add_argument("--per-s", type=float, default=0.0, help="words a second; 0: everything at once")
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(Pace(arguments.chunks, arguments.per_s), arguments.port))


if __name__ == "__main__":
    main()
