"""Ollama's native routes: HTTP in, HTTP out; what the bodies mean is the surfaces' business."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

import structlog
from aiohttp import web

from ollama_bridge.catalog import Model
from ollama_bridge.chat import ChatRequest
from ollama_bridge.native import called
from ollama_bridge.server.answering import Handlers, answer, decoded, found, json_response, note_call
from ollama_bridge.server.connection import read_body
from ollama_bridge.server.delivery import Encoder
from ollama_bridge.server.middleware import SHOWN
from ollama_bridge.server.relaying import passed_on
from ollama_bridge.server.routing import Routes
from ollama_bridge.surfaces import ollama, ollama_models
from ollama_bridge.surfaces.ollama_lines import renamed

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
        """All models, from memory, but for those of real Ollamas, which are asked what they have now."""
        registry = await self._current().refreshed()
        return json_response(ollama_models.tags_body(registry.models()))

    async def ps(self, _: web.Request) -> web.Response:
        """The models in use, and until when."""
        gateway = self._current()
        models = gateway.registry.models()
        loaded, running = await asyncio.gather(
            gateway.shared.residency.loaded(), gateway.live.running(models)
        )
        return json_response(ollama_models.ps_body(models, loaded, running))

    async def show(self, request: web.Request) -> web.StreamResponse:
        """One model, from memory, or as the real Ollama shows it that has it."""
        call = ollama.decode_show(await read_body(request))
        gateway = self._current()
        model = await found(gateway, call)
        agent = request.headers.get("User-Agent", "")
        if home := gateway.live.home(model):
            return await passed_on(
                request,
                gateway,
                home,
                {**call.sent, "model": called(call.model, model.target.model)},
                headers={"User-Agent": agent} if agent else None,
                shape=ollama_models.amended(model, requested=call.model, user_agent=agent),
            )
        body = ollama_models.show_body(model, requested=call.model, user_agent=agent, system=call.system)
        return json_response(body)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer a conversation."""
        arrived_ns = time.monotonic_ns()
        call = await decoded(ollama.decode_chat, await read_body(request))
        return await self._answer(
            request, call, lambda *_: ollama.ChatEncoder(call.model, arrived_ns=arrived_ns)
        )

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """Answer a prompt."""
        arrived_ns = time.monotonic_ns()
        call = await decoded(ollama.decode_generate, await read_body(request))

        def encoder(model: Model, question: ChatRequest) -> Encoder:
            if call.context and not call.remembered and model.resident is None:
                log.info("context dropped: it is another server's, or broken", model=call.model[:SHOWN])
            return ollama.GenerateEncoder(
                call.model, arrived_ns=arrived_ns, raw=call.raw, asked=question.messages
            )

        return await self._answer(request, call, encoder)

    async def _answer(
        self,
        request: web.Request,
        call: ollama.ChatCall | ollama.GenerateCall,
        encoder: Callable[[Model, ChatRequest], Encoder],
    ) -> web.StreamResponse:
        note_call(request, call)
        gateway = self._current()
        model = await found(gateway, call)
        question = call.request(model)
        home = gateway.live.home(model)
        if home and (call.load or call.debug):
            sent = {**call.sent, "model": called(call.model, model.target.model)}
            return await passed_on(request, gateway, home, sent, shape=partial(renamed, model=call.model))
        gateway.shared.residency.touch(model.name, 0 if call.load == "unload" else call.keep_alive_s)
        if call.load:
            return json_response(ollama.load_reply(call))
        if call.debug:
            return json_response(ollama.debug_reply(call, question))
        # A real Ollama shows no sign of life either, and what fails in it later still has a status.
        return await answer(
            request, gateway, model, question, encoder(model, question), shows_life=home is None
        )
