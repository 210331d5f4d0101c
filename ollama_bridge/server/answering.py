"""From an understood call to its delivered answer: the same for every chat surface."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from aiohttp import web

from ollama_bridge.catalog import Model
from ollama_bridge.chat import ChatRequest, EmbedRequest, Reuse
from ollama_bridge.errors import ModelNotFound
from ollama_bridge.gateway import Gateway
from ollama_bridge.server.delivery import Encoder, deliver
from ollama_bridge.server.guard import CALLER
from ollama_bridge.server.middleware import MODEL, RECORD, REQUEST_ID, STREAM
from ollama_bridge.server.routing import Routes
from ollama_bridge.surfaces.ollama import JSON

C = TypeVar("C")
Q = TypeVar("Q", ChatRequest, EmbedRequest)


class Handlers(ABC):
    """The handlers of one surface.

    Args:
        current: The gateway of the configuration in force; called once per request.
    """

    def __init__(self, current: Callable[[], Gateway]) -> None:
        self._current = current

    @abstractmethod
    def routes(self) -> Routes:
        """Every path of the surface with its methods, in the order of gin's `Allow` header."""


LARGE_BODY_BYTES: Final = 1_000_000
"""From here on a request body is decoded in a thread."""


_IPV4_MAPPED: Final = "::ffff:"
"""What stands before a client's IPv4 address where one socket serves both families."""


class Named(Protocol):
    """A call that names a model."""

    def lookup_name(self) -> str:
        """The normalised name; InvalidRequest or ModelNotFound if it is none."""
        ...

    def not_found(self) -> ModelNotFound:
        """What to raise when there is no such model: each endpoint has its own words for it."""
        ...


class Question(Named, Protocol):
    """A call that wants an answer."""

    @property
    def model(self) -> str:
        """As the client named it."""
        ...

    @property
    def stream(self) -> bool:
        """Whether the client reads as it comes."""
        ...

    def request(self, model: Model) -> ChatRequest:
        """The question to `model`; InvalidRequest if it cannot do that."""
        ...


async def decoded(decode: Callable[[bytes], C], body: bytes) -> C:
    """Large bodies are read beside the loop: a malformed one of many megabytes takes seconds to be named."""
    return decode(body) if len(body) < LARGE_BODY_BYTES else await asyncio.to_thread(decode, body)


async def found(gateway: Gateway, call: Named) -> Model:
    """The model that `call` names, be it that a real Ollama has it since just now.

    Raises:
        InvalidRequest, ModelNotFound: In the words of the call's endpoint.
    """
    try:
        return await gateway.find(call.lookup_name())
    except ModelNotFound:
        raise call.not_found() from None


def note_call(request: web.Request, call: Question) -> None:
    """Tell the log, and whoever words an error, what the exchange is about."""
    request[MODEL] = call.model
    request[STREAM] = call.stream


def introduce(request: web.Request, model: Model, question: ChatRequest | EmbedRequest) -> None:
    """Note on a question's record who asks for what and where; the log tells what comes of it."""
    caller = request[CALLER]
    record = question.record
    record.request_id = request[REQUEST_ID]
    record.surface = request.path
    record.address = (request.remote or "").removeprefix(_IPV4_MAPPED)
    record.key = caller.key
    record.client = caller.name or caller.key or record.address
    record.asked = model.name
    request[RECORD] = record


def as_wished(request: web.Request, question: Q) -> Q:
    """The question with what `Cache-Control` says of other calls' answers."""
    wish = request.headers.get("Cache-Control")
    if wish is None:
        return question
    reuse: Reuse = "never" if "no-store" in wish.lower() else "renew" if "no-cache" in wish.lower() else "yes"
    return replace(question, reuse=reuse)


def json_response(body: bytes) -> web.Response:
    """One object, as gin writes it."""
    return web.Response(body=body, headers={"Content-Type": JSON})


async def answer(
    request: web.Request,
    gateway: Gateway,
    model: Model,
    question: ChatRequest,
    encoder: Encoder,
    *,
    shows_life: bool = True,
) -> web.StreamResponse:
    """Ask, and deliver what is said; `shows_life`: whether a client that waits for long is told that it does."""
    introduce(request, model, question)
    with gateway.in_use():
        return await deliver(
            request,
            gateway.chat(as_wished(request, question)),
            encoder,
            stream=question.stream,
            heartbeat_s=gateway.heartbeat_s if shows_life else 0,
        )


async def answer_call(
    request: web.Request, gateway: Gateway, call: Question, encoder: Encoder
) -> web.StreamResponse:
    """Find the model, note its use, ask it, and deliver what it says: all that most surfaces need."""
    note_call(request, call)
    model = await found(gateway, call)
    question = call.request(model)
    gateway.shared.residency.touch(model.name, question.keep_alive_s)
    return await answer(request, gateway, model, question, encoder)
