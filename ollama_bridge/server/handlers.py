"""Ollama's native routes: HTTP in, HTTP out; what the bodies mean is the surfaces' business."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from aiohttp import web

from ollama_bridge.catalog import Model
from ollama_bridge.errors import ModelNotFound
from ollama_bridge.gateway import Gateway
from ollama_bridge.registry import ModelRegistry
from ollama_bridge.server.connection import read_body
from ollama_bridge.server.delivery import Encoder, deliver
from ollama_bridge.server.middleware import MODEL, STREAM
from ollama_bridge.server.routing import Routes
from ollama_bridge.surfaces import ollama, ollama_models

C = TypeVar("C")

LARGE_BODY_BYTES: Final = 1_000_000
"""From here on a request body is decoded in a thread."""


class OllamaHandlers:
    """The handlers of the native surface.

    Args:
        current: The gateway of the configuration in force.
    """

    def __init__(self, current: Callable[[], Gateway]) -> None:
        self._current = current

    def routes(self) -> Routes:
        """Every native path with its methods, in the order of gin's `Allow` header."""
        root, version, tags = self.root, self.version, self.tags
        return {
            "/": {"HEAD": root, "GET": root},
            "/api/version": {"HEAD": version, "GET": version},
            "/api/tags": {"HEAD": tags, "GET": tags},
            "/api/ps": {"GET": self.ps},
            "/api/show": {"POST": self.show},
            "/api/generate": {"POST": self.generate},
            "/api/chat": {"POST": self.chat},
        }

    async def root(self, _: web.Request) -> web.Response:
        """The heartbeat: the command line asks it before every command."""
        return web.Response(body=b"Ollama is running", headers={"Content-Type": "text/plain; charset=utf-8"})

    async def version(self, _: web.Request) -> web.Response:
        """The version of Ollama whose wire this is; VS Code demands at least 0.6.4."""
        return _json(ollama_models.version_body())

    async def tags(self, _: web.Request) -> web.Response:
        """All models, from memory."""
        return _json(ollama_models.tags_body(self._current().registry.models()))

    async def ps(self, _: web.Request) -> web.Response:
        """The models in use, and until when."""
        gateway = self._current()
        return _json(ollama_models.ps_body(gateway.registry.models(), gateway.residency.loaded()))

    async def show(self, request: web.Request) -> web.Response:
        """One model, from memory."""
        call = ollama.decode_show(await read_body(request))
        body = ollama_models.show_body(
            _found(self._current().registry, call),
            requested=call.model,
            user_agent=request.headers.get("User-Agent", ""),
            system=call.system,
        )
        return _json(body)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer a conversation."""
        arrived_ns = time.monotonic_ns()
        call = await _decoded(ollama.decode_chat, await read_body(request))
        return await self._answer(request, call, ollama.ChatEncoder(call.model, arrived_ns=arrived_ns))

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """Answer a prompt."""
        arrived_ns = time.monotonic_ns()
        call = await _decoded(ollama.decode_generate, await read_body(request))
        encoder = ollama.GenerateEncoder(call.model, arrived_ns=arrived_ns, raw=call.raw)
        return await self._answer(request, call, encoder)

    async def _answer(
        self, request: web.Request, call: ollama.ChatCall | ollama.GenerateCall, encoder: Encoder
    ) -> web.StreamResponse:
        request[MODEL] = call.model
        request[STREAM] = call.stream
        gateway = self._current()
        model = _found(gateway.registry, call)
        question = call.request(model)
        gateway.residency.touch(model.name, 0 if call.load == "unload" else call.keep_alive_s)
        if call.load:
            return _json(ollama.load_reply(call))
        if call.debug:
            return _json(ollama.debug_reply(call, question))
        with gateway.in_use():
            return await deliver(request, gateway.chat(question), encoder, stream=call.stream)


async def _decoded(decode: Callable[[bytes], C], body: bytes) -> C:
    """Large bodies are read beside the loop: a malformed one of many megabytes takes seconds to be named."""
    return decode(body) if len(body) < LARGE_BODY_BYTES else await asyncio.to_thread(decode, body)


class _Call(Protocol):
    def lookup_name(self) -> str: ...

    def not_found(self) -> ModelNotFound: ...


def _found(registry: ModelRegistry, call: _Call) -> Model:
    try:
        return registry.resolve(call.lookup_name())
    except ModelNotFound:
        raise call.not_found() from None  # each endpoint has its own words for it


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": ollama.JSON})
