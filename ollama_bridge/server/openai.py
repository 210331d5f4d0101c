"""The routes of OpenAI's chat and text completions, of its lists of models, and of its transcriptions."""

from typing import NoReturn

from aiohttp import web

from ollama_bridge.chat import ChatRequest
from ollama_bridge.server.answering import Handlers, answer_call, decoded, found, note_call
from ollama_bridge.server.routing import Routes
from ollama_bridge.server.v1 import read_v1_body
from ollama_bridge.surfaces import openai
from ollama_bridge.surfaces.calls import ShownCall
from ollama_bridge.surfaces.converter import ConverterError


class OpenAIHandlers(Handlers):
    """The handlers of `/v1/chat/completions`, `/v1/completions`, `/v1/models` and `/v1/audio/transcriptions`."""

    def routes(self) -> Routes:
        """Every path with its methods."""
        return {
            "/v1/chat/completions": {"POST": self.chat},
            "/v1/completions": {"POST": self.completion},
            "/v1/models": {"GET": self.models},
            "/v1/models/{model}": {"GET": self.model},
            "/v1/audio/transcriptions": {"POST": self.transcription},
        }

    async def models(self, _: web.Request) -> web.Response:
        """All models."""
        registry = await self._current().refreshed()
        return _json(openai.models_body(registry.models()))

    async def model(self, request: web.Request) -> web.Response:
        """One model."""
        call = ShownCall(model=request.match_info["model"])
        return _json(openai.model_body(await found(self._current(), call), requested=call.model))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer a conversation."""
        call = await decoded(openai.decode_chat, await read_v1_body(request))
        encoder = openai.ChatEncoder(call.model, include_usage=call.include_usage)
        if call.debug:
            return _json(encoder.debug(await self._question(request, call)))
        return await answer_call(request, self._current(), call, encoder)

    async def completion(self, request: web.Request) -> web.StreamResponse:
        """Complete a prompt, or fill the gap between it and a suffix."""
        call = await decoded(openai.decode_completion, await read_v1_body(request))
        echo = call.prompt if call.echo else ""
        encoder = openai.CompletionEncoder(call.model, include_usage=call.include_usage, echo=echo)
        if call.debug:
            return _json(encoder.debug(await self._question(request, call)))
        if call.load:
            await self._question(request, call)
            headers = encoder.stream_headers if call.stream else encoder.whole_headers
            return web.Response(body=encoder.load(stream=call.stream), headers=headers)
        return await answer_call(request, self._current(), call, encoder)

    async def transcription(self, request: web.Request) -> NoReturn:
        """Say that nobody here listens."""
        await read_v1_body(request)
        if request.content_type != "multipart/form-data":
            raise ConverterError(
                "failed to parse multipart form: request Content-Type isn't multipart/form-data"
            )
        raise ConverterError("audio inputs are not currently supported: no provider is asked to listen")

    async def _question(
        self, request: web.Request, call: openai.ChatCall | openai.CompletionCall
    ) -> ChatRequest:
        """What would be asked, checked; the model counts as used."""
        note_call(request, call)
        gateway = self._current()
        model = await found(gateway, call)
        question = call.request(model)
        gateway.shared.residency.touch(model.name)
        return question


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": openai.JSON})
