"""The routes that turn texts into vectors: HTTP in, HTTP out."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from aiohttp import web

from ollama_bridge.chat import Embeddings
from ollama_bridge.native import called
from ollama_bridge.server.answering import Handlers, as_wished, decoded, found, introduce
from ollama_bridge.server.connection import read_body
from ollama_bridge.server.middleware import MODEL
from ollama_bridge.server.relaying import passed_on
from ollama_bridge.server.routing import Routes
from ollama_bridge.server.v1 import read_v1_body
from ollama_bridge.surfaces import converter, ollama, ollama_embed, openai_embeddings
from ollama_bridge.surfaces.ollama_embed import NO_EMBEDDINGS, EmbedCall
from ollama_bridge.surfaces.ollama_lines import renamed

_MANY_NUMBERS: Final = 8_192
"""From here on vectors are written in a thread: each number takes half a microsecond."""


class EmbeddingHandlers(Handlers):
    """The handlers of the native embedding routes and of OpenAI's."""

    def routes(self) -> Routes:
        """Every path with its methods."""
        return {
            "/api/embed": {"POST": self.embed},
            "/api/embeddings": {"POST": self.embeddings},
            "/v1/embeddings": {"POST": self.v1_embeddings},
        }

    async def embed(self, request: web.Request) -> web.StreamResponse:
        """Vectors of unit length for one text or many."""
        arrived_ns = time.monotonic_ns()
        call = await decoded(ollama_embed.decode_embed, await read_body(request))
        reply = ollama_embed.EmbedReply(call, arrived_ns=arrived_ns)
        return await self._answer(request, call, reply, ollama.JSON)

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        """One vector, of any length: the older route."""
        call = await decoded(ollama_embed.decode_embeddings, await read_body(request))
        return await self._answer(request, call, ollama_embed.embeddings_reply, ollama.JSON)

    async def v1_embeddings(self, request: web.Request) -> web.StreamResponse:
        """As `embed`, in OpenAI's dialect."""
        call = await decoded(openai_embeddings.decode_embeddings, await read_v1_body(request))
        reply = openai_embeddings.EmbeddingsReply(call)
        return await self._answer(request, call, reply, converter.JSON)

    async def _answer(
        self,
        request: web.Request,
        call: EmbedCall,
        reply: Callable[[Embeddings], bytes],
        content_type: str,
    ) -> web.StreamResponse:
        """Find the model, note its use, ask it if there is a text, and write `reply`."""
        request[MODEL] = call.model
        gateway = self._current()
        model = await found(gateway, call)
        question = call.request(model)
        home = gateway.live.home(model)
        if home and call.sent is not None and not call.inputs:  # it only loads the model, there
            sent = {**call.sent, "model": called(call.model, model.target.model)}
            return await passed_on(request, gateway, home, sent, shape=partial(renamed, model=call.model))
        gateway.shared.residency.touch(model.name, call.keep_alive_s)
        answer = NO_EMBEDDINGS
        if call.inputs:
            introduce(request, model, question)
            with gateway.in_use():
                answer = await gateway.embed(as_wished(request, question))
        if sum(map(len, answer.vectors)) < _MANY_NUMBERS:
            body = reply(answer)
        else:
            body = await asyncio.to_thread(reply, answer)
        return web.Response(body=body, headers={"Content-Type": content_type})
