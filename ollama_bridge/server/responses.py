"""The handler of OpenAI's /v1/responses: HTTP in, HTTP out; what the bodies mean is the surface's business."""

from typing import Final

import structlog
from aiohttp import web

from ollama_bridge.chat import Reply
from ollama_bridge.events import Finish
from ollama_bridge.server.answering import Handlers, answer_call, decoded, found, note_call
from ollama_bridge.server.delivery import deliver
from ollama_bridge.server.middleware import SHOWN
from ollama_bridge.server.routing import Routes
from ollama_bridge.server.v1 import read_v1_body
from ollama_bridge.surfaces.responses_decode import decode_responses
from ollama_bridge.surfaces.responses_encode import ResponsesEncoder

_KINDS: Final = 10  # of the kinds of tools a client sent, in a line of the log

log = structlog.get_logger(__name__)


class ResponsesHandlers(Handlers):
    """The handler of the surface."""

    def routes(self) -> Routes:
        """The one path there is: nothing is stored, so nothing can be fetched or deleted."""
        return {"/v1/responses": {"POST": self.responses}}

    async def responses(self, request: web.Request) -> web.StreamResponse:
        """Answer a conversation; without one the model is only looked up and noted as used."""
        call = await decoded(decode_responses, await read_v1_body(request))
        gateway = self._current()
        encoder = ResponsesEncoder(call.model, call.echo, forms=call.toolbox.forms)
        if call.toolbox.dropped:
            kinds = sorted({kind[:40] for kind in call.toolbox.dropped})[:_KINDS]
            log.info("tools dropped", kinds=kinds, model=call.model[:SHOWN])
        if call.messages:
            return await answer_call(request, gateway, call, encoder)
        note_call(request, call)
        model = await found(gateway, call)
        call.request(model)
        gateway.shared.residency.touch(model.name, None)
        return await deliver(request, _nothing(), encoder, stream=call.stream, heartbeat_s=0)


async def _nothing() -> Reply:
    yield (Finish(),)
