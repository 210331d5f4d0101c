"""A fake provider on loopback: scripted bytes over a real socket, and a memory of what it was asked.

Nothing between the test and the backend is mocked: the real SDK speaks HTTP to this.

    async with Upstream() as upstream:
        upstream.reply(sse(b'{"type": ...}', ...))          # or status=, headers=, pieces=, then=
        backend = AnthropicBackend(ProviderSettings(..., base_url=upstream.url))
        ...
        assert upstream.requests[0].json["model"] == "..."
"""

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

End = Literal["end", "cut", "reset", "stall", "vanish"]


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Script:
    """One answer.

    `pieces` are written one by one, `gap_s` apart. `then`: `end` closes the body properly, `cut` closes the
    connection inside the chunked body, `reset` sends a TCP reset there, `stall` keeps it open in silence; `vanish`
    sends the reset in place of any answer.
    With `hold`, what follows the first `held_after` pieces (with none of them, the head as well) waits for it.
    """

    pieces: list[bytes]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    gap_s: float = 0.0
    then: End = "end"
    head_delay_s: float = 0.0
    hold: asyncio.Event | None = None
    held_after: int = 0


def sse(*payloads: bytes | str | dict[str, Any], done: bool = False) -> bytes:
    """An event stream. A dict becomes JSON, and its `type` the event's name, as Anthropic and OpenAI do."""
    blocks = []
    for payload in payloads:
        name = b""
        if isinstance(payload, dict):
            if "type" in payload:
                name = b"event: " + payload["type"].encode() + b"\n"
            payload = json.dumps(payload)  # noqa: PLW2901
        data = payload.encode() if isinstance(payload, str) else payload
        blocks.append(name + b"data: " + data + b"\n\n")
    if done:
        blocks.append(b"data: [DONE]\n\n")
    return b"".join(blocks)


def split_at_random(body: bytes, seed: int, most: int = 40) -> list[bytes]:
    """Cut `body` into pieces at arbitrary byte borders; no bytes lost."""
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(1, len(body)), min(most, max(len(body) - 1, 0)))) if len(body) > 1 else []
    return [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]


_ENTRY: dict[str, Any] = {
    "modified_at": "2026-01-02T03:04:05Z",
    "size": 1,
    "digest": "0" * 64,
    "details": {"format": "gguf", "family": "x", "families": ["x"], "parameter_size": "1B"},
}
"""What every entry of a real Ollama's list has; clients demand it."""

_SHOWN: dict[str, Any] = {
    "details": _ENTRY["details"],
    "model_info": {"general.architecture": "x", "x.context_length": 2048},
    "capabilities": ["embedding"],
}


class Upstream:
    """Answers with the scripts in order; the last one again and again. Unscripted: 500.

    With `decide` the answer follows from the request instead.
    """

    def __init__(self, decide: Callable[[Seen], Script] | None = None) -> None:
        self.decide = decide
        self.requests: list[Seen] = []
        self.closed_early = asyncio.Event()
        """Set when a client closed its connection while an answer was still being sent."""
        self.asked = asyncio.Event()
        self.arrivals = asyncio.Semaphore(0)
        """One to acquire for each request that has come."""
        self.connections = 0
        self.has: tuple[str, ...] | None = ()
        """What a real Ollama's list holds, which a bridge asks for by itself, and for what there is to know of each;
        None: that is scripted as all else."""
        self._scripts: deque[Script] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()

    def reply(
        self,
        body: bytes | Iterable[bytes] = b"",
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        gap_s: float = 0.0,
        then: End = "end",
        head_delay_s: float = 0.0,
        hold: asyncio.Event | None = None,
        held_after: int = 0,
    ) -> None:
        """Append one answer to the script."""
        pieces = [body] if isinstance(body, bytes) else list(body)
        kind = {"content-type": "text/event-stream" if status == 200 else "application/json"}
        self._scripts.append(
            Script(pieces, status, dict(headers or kind), gap_s, then, head_delay_s, hold, held_after)
        )

    def only(self, body: bytes | Iterable[bytes] = b"", **how: Any) -> None:
        """Forget what was scripted, and answer so from now on."""
        self._scripts.clear()
        self.reply(body, **how)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(task := asyncio.current_task())
        self.connections += 1
        try:
            begun: bytes | None = b""
            while begun is not None:
                begun = await self._exchange(reader, writer, begun)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # cancelled only at the end of the test
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begun: bytes
    ) -> bytes | None:
        """Answer one request, of which `begun` has come; what has come of the next, None when there will be none."""
        seen = await _read_request(reader, begun)
        if seen is None:
            return None
        if self.has is not None and (seen.method, seen.path) == ("GET", "/api/tags"):
            entries = {"models": [_ENTRY | {"name": name, "model": name} for name in self.has]}
            held = Script([json.dumps(entries).encode()], headers={"content-type": "application/json"})
            return b"" if await _answer(held, writer) else None
        if self.has and (seen.method, seen.path) == ("POST", "/api/show"):
            shown = Script([json.dumps(_SHOWN).encode()], headers={"content-type": "application/json"})
            return b"" if await _answer(shown, writer) else None
        self.requests.append(seen)
        self.asked.set()
        self.arrivals.release()
        if self.decide:
            script = self.decide(seen)
        elif not self._scripts:
            script = Script([b'{"error":"nothing scripted"}'], 500, {"content-type": "application/json"})
        else:
            script = self._scripts.popleft() if len(self._scripts) > 1 else self._scripts[0]
        gone = asyncio.ensure_future(reader.read(1))  # the next byte, or b"" when the client has left
        answer = asyncio.ensure_future(_answer(script, writer))
        try:
            await asyncio.wait({gone, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                self.closed_early.set()
                return None
            if not answer.result():
                return None
            if gone.done():  # who has read the end of the answer may be quicker than we are
                return gone.result() or None
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            return b""
        finally:
            for task in (gone, answer):
                task.cancel()
            await asyncio.gather(gone, answer, return_exceptions=True)


async def _answer(script: Script, writer: asyncio.StreamWriter) -> bool:
    """Write the answer; True when the connection can be used again."""
    await asyncio.sleep(script.head_delay_s)
    if script.hold and not script.held_after:
        await script.hold.wait()
    if script.then == "vanish":
        writer.transport.abort()
        return False
    head = "".join(f"{name}: {value}\r\n" for name, value in script.headers.items())
    writer.write(f"HTTP/1.1 {script.status} Scripted\r\n{head}transfer-encoding: chunked\r\n\r\n".encode())
    for index, piece in enumerate(script.pieces):
        if index:
            await asyncio.sleep(script.gap_s)
            if script.hold and index == script.held_after:
                await script.hold.wait()
        if piece:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
    match script.then:
        case "end":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            return True
        case "reset":
            await asyncio.sleep(0.02)  # what was written must leave before the reset discards it
            writer.transport.abort()
        case "stall":
            await asyncio.sleep(3600)
        case "cut":
            writer.close()
    return False


async def _read_request(reader: asyncio.StreamReader, begun: bytes) -> Seen | None:
    try:
        head = (begun + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, body)
