"""Anthropic's Messages API: HTTP in, HTTP out; what the bodies mean is the surface's business."""

from functools import partial

from aiohttp import web

from ollama_bridge.server.answering import Handlers, answer_call, decoded, found, note_call
from ollama_bridge.server.routing import Routes
from ollama_bridge.server.v1 import read_v1_body
from ollama_bridge.surfaces import anthropic_messages as surface
from ollama_bridge.surfaces.converter import JSON
from ollama_bridge.tokens import estimate_tokens


class MessagesHandlers(Handlers):
    """The handlers of Anthropic's surface."""

    def routes(self) -> Routes:
        """Every path of this surface with its methods."""
        return {
            "/v1/messages": {"POST": self.messages},
            "/v1/messages/count_tokens": {"POST": self.count_tokens},
        }

    async def messages(self, request: web.Request) -> web.StreamResponse:
        """Answer a conversation."""
        call = await decoded(surface.decode_messages, await read_v1_body(request))
        estimate = partial(estimate_tokens, call.messages, call.tools)
        encoder = surface.MessagesEncoder(call.model, input_tokens=estimate)
        return await answer_call(request, self._current(), call, encoder)

    async def count_tokens(self, request: web.Request) -> web.Response:
        """Tell how long a conversation is, without asking for an answer."""
        call = await decoded(surface.decode_count_tokens, await read_v1_body(request))
        note_call(request, call)
        gateway = self._current()
        question = call.request(await found(gateway, call))
        with gateway.in_use():
            counted = await gateway.count(question)
        return web.Response(body=surface.count_tokens_body(counted), headers={"Content-Type": JSON})
