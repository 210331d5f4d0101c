"""The daemon's own runner inside the test's event loop, and a client that shows the bytes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ollama_bridge.config import Config, edit
from ollama_bridge.config.file import Source
from ollama_bridge.daemon import Daemon


@asynccontextmanager
async def running(
    config: Config | None = None,
    *,
    load: Callable[[], Config] | None = None,
    watched: Sequence[Path] = (),
    change: Callable[..., object] | None = None,
) -> AsyncIterator[Daemon]:
    """A daemon on a free port of loopback; with `load` it reloads when a `watched` file changes."""
    config = config or load()
    daemon = Daemon(load or (lambda: config), watched, change=change)
    task = asyncio.create_task(daemon.run(config))
    started = asyncio.create_task(daemon.started.wait())
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        started.cancel()
        await task
    try:
        yield daemon
    finally:
        daemon.stop()
        await task


@asynccontextmanager
async def managed(path: Path, text: str = "", **environ: str) -> AsyncIterator[Daemon]:
    """A daemon with a configuration file behind it, which clients may change."""
    path.write_text(text)  # noqa: ASYNC240 - a few bytes, before anything runs
    source = Source(path, environ=environ, flags={("server", "port"): ("--port", 0)})
    async with running(
        load=lambda: source.load().config, watched=source.files, change=partial(edit.apply, source)
    ) as daemon:
        yield daemon


@dataclass
class Got:
    """A reply as it came over the wire, chunked framing removed."""

    status: int
    headers: dict[str, str]
    body: bytes
    chunks: Sequence[bytes] = ()
    """Of a chunked body: what one write held each, as clients that parse each network chunk see it."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.decode().split("\n")[:-1]]


async def ask(
    url: str,
    method: str,
    path: str,
    body: bytes | str | dict[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Got:
    """One exchange over a connection of its own."""
    reader, writer = await connect(url)
    writer.write(request(url, method, path, body, headers))
    try:
        return await answer(reader, head=method == "HEAD")
    finally:
        writer.close()


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


def request(url, method, path, body=None, headers=None) -> bytes:
    """The bytes of a request; a dict becomes JSON."""
    if isinstance(body, dict):
        body = json.dumps(body)
    data = body.encode() if isinstance(body, str) else body or b""
    head = {"Host": urlsplit(url).netloc, **(headers or {})}
    if body is not None:
        head["Content-Length"] = str(len(data))
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + data


async def answer(reader: asyncio.StreamReader, *, head: bool = False) -> Got:
    """Read one reply."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    status = int(first.split(" ")[1])
    headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if head or status in {204, 304}:
        return Got(status, headers, b"")
    if headers.get("Transfer-Encoding") == "chunked":
        chunks = []
        while size := int(await reader.readline(), 16):
            chunks.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return Got(status, headers, b"".join(chunks), chunks)
    return Got(status, headers, await reader.readexactly(int(headers["Content-Length"])))
