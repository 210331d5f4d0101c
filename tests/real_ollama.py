"""A real Ollama, as far as a bridge in front of one can tell: strict about names, generous with fields nobody knows.

Everything it is asked is kept as it came, so that a test can say what reached it; what it answers is the test's own
bytes, or what a real server (0.12.6, 0.33) answers, with fields of a later one put in.

    async with RealOllama("qwen3:4b") as real, behind(real, tmp_path) as url:
        real.lines = [b'{"model":"qwen3:4b", …}\n', …]
        got = await ask(url, "POST", "/api/chat", {"model": "qwen3:4b", …})
        assert got.lines == [json.loads(line) for line in real.lines]
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from aiohttp import web

import ollama_bridge.backends.ollama  # noqa: F401 - lists are waited for a second, imports on a busy machine take longer
from running import managed

JSON = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
BRAND_NEW = {"since": "0.99", "deep": [{"a": None}, 1.5, "ß<&>"]}
"""What no bridge of today can know."""


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class RealOllama:
    """One server on loopback.

    Args:
        names: Its models.
        says_what_they_can: Whether its list says so, as those of late 2026 do.
    """

    def __init__(self, *names: str, says_what_they_can: bool = True) -> None:
        self.says_what_they_can = says_what_they_can
        self.models = {name: self._entry(name) for name in names}
        self.running: list[dict[str, Any]] = []
        self.asked: list[Asked] = []
        self.blobs: set[str] = set()
        self.lines: list[bytes] = []
        """Of a chat, a generation or the progress of a pull."""
        self.reply: bytes = b""
        """Of anything that is one object: embeddings, a load."""
        self.shown: bytes | None = None
        """What to answer to `/api/show` instead of what is known."""
        self.refusal: tuple[int, str, bytes] | None = None
        """Status, content type and body, instead of any answer of a model."""
        self.show: dict[str, Any] = {}
        """Beside what is always shown."""
        self.pieces: list[bytes] = []
        """Of the last upload, as they came."""
        self.hold: asyncio.Event | None = None
        """What follows the first line waits for it."""
        self.hold_lists: asyncio.Event | None = None
        """The list of models waits for it, as it was when it was asked for."""
        self.left = asyncio.Event()
        """Set when somebody left before an answer was whole."""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True)
        await self._runner.setup()
        await self.start(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        for hold in (self.hold, self.hold_lists):
            if hold:
                hold.set()
        await self._runner.cleanup()

    async def start(self, port: int | None = None) -> None:
        """Listen, again if need be."""
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port if port is None else port)
        await self._site.start()
        self.port = self._site._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Be gone."""
        await self._site.stop()
        for connection in self._runner.server.connections:
            connection.transport.abort()

    def questions(self, path: str) -> list[Asked]:
        return [one for one in self.asked if one.path == path]

    def _entry(self, name: str) -> dict[str, Any]:
        entry = {
            "name": name,
            "model": name,
            "modified_at": "2026-11-01T10:00:00.123456789+02:00",
            "size": 2019393189,
            "digest": hashlib.sha256(name.encode()).hexdigest(),
            "details": {"parent_model": "", "format": "gguf", "family": "qwen3", "families": None}
            | {"parameter_size": "4.0B", "quantization_level": "Q4_K_M", "brand_new": BRAND_NEW},
            "brand_new": BRAND_NEW,
        }
        if self.says_what_they_can:
            entry["capabilities"] = ["completion", "tools", "brand_new"]
            entry["details"]["context_length"] = 40960
        return entry

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST" and request.path.startswith("/api/blobs/"):
            return await self._upload(request)
        asked = Asked(request.method, request.path, dict(request.headers), await request.read())
        self.asked.append(asked)
        answers = {
            ("GET", "/"): lambda _: web.Response(text="Ollama is running"),
            ("GET", "/api/tags"): lambda _: said({"models": list(self.models.values()), "new": BRAND_NEW}),
            ("GET", "/api/ps"): lambda _: said({"models": self.running}),
            ("GET", "/api/version"): lambda _: said({"version": "0.99.1"}),
            ("POST", "/api/show"): self._show,
            ("POST", "/api/copy"): self._copy,
            ("DELETE", "/api/delete"): self._delete,
            ("POST", "/api/me"): lambda _: said({"id": "1", "name": "me", "plan": "free"}),
        }
        if answer := answers.get((asked.method, asked.path)):
            found = answer(asked)
            if asked.path == "/api/tags" and self.hold_lists:
                await self.hold_lists.wait()
            return found
        if asked.path in {"/api/pull", "/api/push", "/api/create"}:
            return await self._change(request, asked)
        if asked.path in {"/api/chat", "/api/generate", "/api/embed", "/api/embeddings"}:
            return await self._ask(request, asked)
        if asked.method == "HEAD":
            return web.Response(status=200 if asked.path.rpartition("/")[2] in self.blobs else 404)
        return web.Response(status=404, text="404 page not found")

    def _named(self, name: str) -> str | None:
        """As a real one looks a name up: the tag may be missing, the case may not differ."""
        return next((full for full in (name, f"{name}:latest") if full in self.models), None)

    def _missing(self, name: str) -> web.Response:
        return said({"error": f"model '{name}' not found"}, 404)

    def _show(self, asked: Asked) -> web.Response:
        if self.shown is not None:
            return refused(200, "application/json", self.shown)
        if self._named(asked.json["model"]) is None:
            return self._missing(asked.json["model"])
        info = {"general.architecture": "qwen3", "qwen3.context_length": 40960, "new": BRAND_NEW}
        if asked.json.get("verbose"):
            info["tokenizer.ggml.tokens"] = ["a", "b"]
        shown = {"modelfile": "FROM x\n", "template": "{{ .Prompt }}", "model_info": info}
        shown["tensors"] = [{"name": "output.weight", "type": "F32", "shape": [32, 2]}]
        return said(shown | {"capabilities": ["completion", "thinking", "new"], "brand_new": 1} | self.show)

    def _copy(self, asked: Asked) -> web.Response:
        source = self._named(asked.json["source"])
        if source is None:
            return said({"error": f'model "{asked.json["source"]}" not found'}, 404)
        name = _full(asked.json["destination"])
        self.models[name] = self._entry(name)
        return web.Response()

    def _delete(self, asked: Asked) -> web.Response:
        name = self._named(asked.json["model"])
        if name is None:
            return self._missing(asked.json["model"])
        del self.models[name]
        return web.Response()

    async def _change(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        if self.refusal:
            return refused(*self.refusal)
        response = await self._streamed(request, asked)
        if asked.path != "/api/push":
            name = _full(asked.json["model"])
            self.models[name] = self._entry(name)
        return response

    async def _ask(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        if self._named(asked.json["model"]) is None:
            return self._missing(asked.json["model"])
        if self.refusal:
            return refused(*self.refusal)
        if self.reply:
            return refused(200, JSON, self.reply)
        assert asked.json["stream"] is True, "an answer is always streamed, for its progress"
        return await self._streamed(request, asked)

    async def _streamed(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        if asked.json.get("stream") is False:
            return refused(200, "application/json", self.lines[-1].rstrip(b"\n"))
        response = web.StreamResponse(headers={"Content-Type": NDJSON})
        try:
            await response.prepare(request)
            for number, line in enumerate(self.lines):
                if number and self.hold:
                    await self.hold.wait()
                await response.write(line)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        return response

    async def _upload(self, request: web.Request) -> web.Response:
        self.pieces = []
        try:
            while piece := await request.content.readany():
                self.pieces.append(piece)
        except (asyncio.CancelledError, ConnectionError):
            self.left.set()
            raise
        self.asked.append(Asked("POST", request.path, dict(request.headers), b""))
        wanted = request.path.rpartition("/")[2]
        got = "sha256:" + hashlib.sha256(b"".join(self.pieces)).hexdigest()
        if got != wanted:
            return said({"error": f'digest mismatch, expected "{wanted}", got "{got}"'}, 400)
        if wanted in self.blobs:
            return web.Response(status=200)
        self.blobs.add(wanted)
        return web.Response(status=201)


def said(found: dict[str, Any], status: int = 200) -> web.Response:
    return refused(status, JSON, json.dumps(found, ensure_ascii=False).encode())


def refused(status: int, content_type: str, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, headers={"Content-Type": content_type})


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def line(**fields: Any) -> bytes:
    """As Go writes it: compact, `model` first."""
    found = {"model": "qwen3:4b", "created_at": "2026-11-20T10:00:00.1Z"} | fields
    return json.dumps(found, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


@asynccontextmanager
async def behind(real: RealOllama, folder: Path, **config: Any) -> AsyncIterator[str]:
    """A bridge in front of it, which has a model `demo` of its own as well."""
    provider = {"base_url": real.url} | config.pop("ollama", {})
    whole = {"providers": {"demo": {}, "ollama": provider}, "retry": {"max_retries": 0}} | config
    async with managed(folder / "config.yaml", json.dumps(whole)) as daemon:
        yield daemon.url
