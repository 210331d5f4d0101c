"""Ollama's native routes: HTTP in, HTTP out; what the bodies mean is the surfaces' business."""

import time
from collections.abc import Callable

import structlog
from aiohttp import web

from ollama_bridge.chat import ChatRequest
from ollama_bridge.server.answering import Handlers, answer, decoded, found, json_response, note_call
from ollama_bridge.server.connection import read_body
from ollama_bridge.server.delivery import Encoder
from ollama_bridge.server.middleware import SHOWN
from ollama_bridge.server.routing import Routes
from ollama_bridge.surfaces import ollama, ollama_models

log = structlog.get_logger(__name__)


class OllamaHandlers(Handlers):
    """The handlers of the native surface."""

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
        return json_response(ollama_models.version_body())

    async def tags(self, _: web.Request) -> web.Response:
        """All models, from memory."""
        return json_response(ollama_models.tags_body(self._current().registry.models()))

    async def ps(self, _: web.Request) -> web.Response:
        """The models in use, and until when."""
        gateway = self._current()
        loaded = await gateway.shared.residency.loaded()
        return json_response(ollama_models.ps_body(gateway.registry.models(), loaded))

    async def show(self, request: web.Request) -> web.Response:
        """One model, from memory."""
        call = ollama.decode_show(await read_body(request))
        body = ollama_models.show_body(
            found(self._current().registry, call),
            requested=call.model,
            user_agent=request.headers.get("User-Agent", ""),
            system=call.system,
        )
        return json_response(body)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer a conversation."""
        arrived_ns = time.monotonic_ns()
        call = await decoded(ollama.decode_chat, await read_body(request))
        return await self._answer(
            request, call, lambda _: ollama.ChatEncoder(call.model, arrived_ns=arrived_ns)
        )

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """Answer a prompt."""
        arrived_ns = time.monotonic_ns()
        call = await decoded(ollama.decode_generate, await read_body(request))
        if call.context and not call.remembered:
            log.info("context dropped: it is another server's, or broken", model=call.model[:SHOWN])

        def encoder(question: ChatRequest) -> Encoder:
            return ollama.GenerateEncoder(
                call.model, arrived_ns=arrived_ns, raw=call.raw, asked=question.messages
            )

        return await self._answer(request, call, encoder)

    async def _answer(
        self,
        request: web.Request,
        call: ollama.ChatCall | ollama.GenerateCall,
        encoder: Callable[[ChatRequest], Encoder],
    ) -> web.StreamResponse:
        note_call(request, call)
        gateway = self._current()
        model = found(gateway.registry, call)
        question = call.request(model)
        gateway.shared.residency.touch(model.name, 0 if call.load == "unload" else call.keep_alive_s)
        if call.load:
            return json_response(ollama.load_reply(call))
        if call.debug:
            return json_response(ollama.debug_reply(call, question))
        return await answer(request, gateway, model, question, encoder(question))
