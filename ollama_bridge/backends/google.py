"""Gemini models, through google-genai.

The request goes through the SDK client's own lower path, which keeps its URLs, keys, transport and typed
errors, and the reply is read by our own event-stream reader: 1.04 times the cost of a bare HTTP client instead
of the typed path's 6 to 56 (`providers.md` §7.1).  That path is private, so `lower_path_misfit` looks at it once
before it is used; where it does not fit, the public typed path serves, in a task of its own.
See `.github/decisions/0001-google-genai-lower-request-path.md`.
"""

import asyncio
import inspect
import logging
import urllib.parse
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeAlias, cast

import aiohttp
import orjson
import structlog
from google import genai
from google.genai import types

from ollama_bridge.backends import ProviderSettings, framing, google_embed, whole
from ollama_bridge.backends.bursts import bursts, told
from ollama_bridge.backends.embedding import embed_in_parts, read_reply, whole_reply
from ollama_bridge.backends.google_failures import ERROR_STATUSES, SDK_ERRORS, GoogleFailures
from ollama_bridge.backends.google_params import build
from ollama_bridge.backends.google_stream import GenerateReader
from ollama_bridge.backends.sdk import TLS, USER_AGENT, encode, neutral_environment, other_key
from ollama_bridge.backends.session import client_session
from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Reply
from ollama_bridge.repairs import mend
from ollama_bridge.tokens import estimate_tokens

log = structlog.get_logger(__name__)

Frames: TypeAlias = AsyncGenerator[Iterable[Any], None]
"""The decoded JSON of a streamed reply, one iterable for each read that ends an event."""

SDK_MINOR: Final = "3.4."
"""The versions of google-genai whose lower path was read and tested; `pyproject.toml` asks for the same."""

DEFAULT_BASE_URL: Final = "https://generativelanguage.googleapis.com"
_API_VERSION: Final = "v1beta"  # the SDK's own default, v1, knows no `*-latest` models

NO_HEADERS: Final[Mapping[str, str]] = {}
"""Beside those that the client has from the start."""

# At INFO it writes a line for each call, at DEBUG more than belongs into a log.
logging.getLogger("google_genai").setLevel(logging.WARNING)


class GoogleBackend:
    """Gemini. Make it inside the running event loop; the SDK's client is made, in a thread, at the first use."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._failures = GoogleFailures(
            settings=settings,
            default_url=DEFAULT_BASE_URL,
            key_variable="GEMINI_API_KEY",
            sdk_error=SDK_ERRORS,
            error_types=ERROR_STATUSES,
        )
        self._opening = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        self._client: genai.Client | None = None
        self._path: LowerPath | TypedPath | None = None

    async def chat(self, request: ChatRequest) -> Reply:
        """Stream the reply.

        Raises:
            UpstreamError: Google failed, or there is no key.
            InvalidRequest: The request cannot be asked at all.
        """
        model = request.target.model
        path = await self._open(request)
        params = build(request)
        if params.dropped:
            log.info("options dropped", provider=self._settings.name, model=model, options=params.dropped)
        mend(params.body, request.target.rules.repairs)
        failures = self._failures.about(params.body)
        reader = GenerateReader(
            failures,
            model,
            turn=len(request.messages),
            names=params.names.changed,
            logprobs=request.logprobs,
        )
        body = encode(params.body)
        with failures.mapped(model), told(request.record, reader):
            async with (
                aclosing(path.frames(model, body, self._key(request))) as frames,
                aclosing(bursts(reader, frames, request.progress)) as said,
            ):
                async for burst in said:
                    yield burst

    async def count(self, request: ChatRequest) -> int:
        """Count the prompt's tokens; see `chat.Counter`. The SDK's typed call refuses tools and system prompts."""
        model = request.target.model
        path = await self._open(request)
        if isinstance(path, TypedPath):
            return estimate_tokens(request.messages, request.tools)
        body = encode({"generateContentRequest": {"model": _model_path(model), **build(request).body}})
        with self._failures.mapped(model):
            return await path.count(model, body, self._key(request))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Embed all inputs; see `chat.Embedder`."""
        path = await self._open(request)
        return await embed_in_parts(request, google_embed.LIMITS, partial(self._embed_part, path))

    async def _embed_part(self, path: "LowerPath | TypedPath", request: EmbedRequest) -> Embeddings:
        model = request.target.model
        body = google_embed.to_body(request, _model_path(model))
        failures = self._failures.about(body["requests"][0])
        with failures.mapped(model):
            kind, reply = await path.embeddings(model, encode(body), self._key(request))
            return await read_reply(google_embed.read, reply, kind, request, failures)

    async def warm(self) -> None:
        """Make the client, which takes tens of milliseconds. Without a key there is nothing to warm."""
        if self._settings.api_keys:
            await self._open(ChatRequest(""))

    async def aclose(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aio.aclose()
            self._client.close()
        if self._session is not None:
            await self._session.close()

    def _key(self, request: ChatRequest | EmbedRequest) -> dict[str, str]:
        return other_key(self._settings, request.key, header="x-goog-api-key", scheme="")

    async def _open(self, request: ChatRequest | EmbedRequest) -> "LowerPath | TypedPath":
        if self._path is not None:
            return self._path
        first_key = self._failures.key(replace(request, key=0))
        async with self._opening:
            if self._path is None:
                if self._session is None:
                    self._session = client_session(
                        self._settings, self._settings.base_url or DEFAULT_BASE_URL
                    )
                self._client = await asyncio.to_thread(_client, self._settings, first_key, self._session)
                if misfit := lower_path_misfit(self._client):
                    log.warning("typed google-genai calls in use", reason=misfit)
                    self._path = TypedPath(self._client)
                else:
                    self._path = LowerPath(self._client, self._failures)
            return self._path


def _client(settings: ProviderSettings, api_key: str, session: aiohttp.ClientSession) -> genai.Client:
    with neutral_environment():
        return genai.Client(
            api_key=api_key,
            vertexai=False,
            debug_config=genai.client.DebugConfig(client_mode=None, replays_directory=None, replay_id=None),
            http_options=types.HttpOptions(
                base_url=settings.base_url or DEFAULT_BASE_URL,
                api_version=_API_VERSION,
                headers={"User-Agent": USER_AGENT, **settings.headers},
                # Unset, a failed connection is tried again after up to 10 s, whatever the options say.
                retry_options=types.HttpRetryOptions(attempts=1),
                # The context of all providers; the four that it would make of its own take 70 ms.
                client_args={"verify": TLS},
                async_client_args={"verify": TLS, "ssl": TLS},
                aiohttp_client=session,
            ),
        )


# ---------------------------------------------------------------------------------------------- two paths


def lower_path_misfit(client: genai.Client) -> str:
    """Why `LowerPath` cannot drive `client`; empty when it can. Asks nobody, takes no time to speak of."""
    if not genai.__version__.startswith(SDK_MINOR):
        return f"google-genai {genai.__version__} is not {SDK_MINOR}*"
    try:
        api = client._api_client  # noqa: SLF001 - see the decision record
        built = [*inspect.signature(api._build_request).parameters]  # noqa: SLF001
        sent = [*inspect.signature(api._async_request).parameters]  # noqa: SLF001
        request = api._build_request("post", "models/m:streamGenerateContent?alt=sse", {})  # noqa: SLF001
        fits = (
            built == ["http_method", "path", "request_dict", "http_options"]
            and sent == ["http_request", "http_options", "stream"]
            and inspect.iscoroutinefunction(api._async_request)  # noqa: SLF001
            and request.url.endswith(f"/{_API_VERSION}/models/m:streamGenerateContent?alt=sse")
            and "x-goog-api-key" in request.headers
            and hasattr(request, "data")
            and api._use_aiohttp()  # noqa: SLF001
        )
    except (AttributeError, TypeError, ValueError) as exc:
        return f"its request path has changed: {type(exc).__name__}"
    return "" if fits else "its request path has changed"


class LowerPath:
    """The client's own request path, below its types."""

    def __init__(self, client: genai.Client, failures: GoogleFailures) -> None:
        self._api = client._api_client  # noqa: SLF001 - see the decision record
        self._failures = failures

    async def frames(self, model: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> Frames:
        """Ask, and yield what arrives. Closing it closes the connection."""
        response = await self._post(f"{_path(model)}:streamGenerateContent?alt=sse", body, headers)
        try:
            chunks = response.content.iter_any()
            kind = response.headers.get("content-type", "")
            async with aclosing(
                framing.payloads(chunks, kind, self._failures, model, whole=whole.generation)
            ) as frames:
                async for found in frames:
                    yield found
        finally:
            response.close()  # nothing to do when it was read to its end

    async def count(self, model: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Ask for the number of tokens of a prompt."""
        _, counted = await self._whole(f"{_path(model)}:countTokens", body, model, headers)
        return int(orjson.loads(counted)["totalTokens"])

    async def embeddings(self, model: str, body: bytes, headers: Mapping[str, str]) -> tuple[str, bytes]:
        """Ask `:batchEmbedContents`, and read all of the reply: its content type, and its body."""
        return await self._whole(f"{_path(model)}:batchEmbedContents", body, model, headers)

    async def _whole(
        self, path: str, body: bytes, model: str, headers: Mapping[str, str]
    ) -> tuple[str, bytes]:
        response = await self._post(path, body, headers)
        try:
            chunks = response.content.iter_any()
            return response.content_type, await whole_reply(chunks, self._failures, model)
        finally:
            response.close()  # nothing to do when it was read to its end

    async def _post(self, path: str, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        request = self._api._build_request("post", path, {})  # noqa: SLF001
        request.headers.update(headers)
        request.data = body
        answer = await self._api._async_request(request, None, stream=True)  # noqa: SLF001
        return cast("aiohttp.ClientResponse", answer.response_stream)


class TypedPath:
    """The SDK's public typed path, for versions whose lower one is not known."""

    def __init__(self, client: genai.Client) -> None:
        self._client = client

    async def frames(self, model: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> Frames:
        """Ask, and yield what arrives. Closing it closes the connection.

        The SDK is read in a task of its own: closing its iterator leaves the connection open, cancelling
        whoever waits inside it does not (https://github.com/googleapis/python-genai/issues/2425).
        """
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        reading = asyncio.create_task(self._read(model, body, headers, arrived), name=f"read {model}")
        try:
            while (frame := await arrived.get()) is not None:
                yield [frame]
            await reading
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def embeddings(self, model: str, body: bytes, headers: Mapping[str, str]) -> tuple[str, bytes]:
        """Ask, and put what the types hold back into the wire's names."""
        options = types.HttpOptions(extra_body=orjson.loads(body), headers=dict(headers))
        config = types.EmbedContentConfig(http_options=options)
        reply = await self._client.aio.models.embed_content(
            model=_model_path(model), contents="replaced by extra_body", config=config
        )
        return "application/json", reply.model_dump_json(by_alias=True, exclude_none=True).encode()

    async def _read(
        self, model: str, body: bytes, headers: Mapping[str, str], arrived: asyncio.Queue[Any]
    ) -> None:
        # The queue has no bound: the task must only ever wait inside the SDK, where cancelling it helps.
        config = types.GenerateContentConfig(
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            automatic_continuation=False,
            http_options=types.HttpOptions(extra_body=orjson.loads(body), headers=dict(headers)),
        )
        try:
            stream = await self._client.aio.models.generate_content_stream(
                model=_path(model), contents="replaced by extra_body", config=config
            )
            async for chunk in stream:
                arrived.put_nowait(chunk.model_dump(mode="json", by_alias=True, exclude_none=True))
        finally:
            arrived.put_nowait(None)


def _model_path(model: str) -> str:
    """`models/…`, or `tunedModels/…` as the operator wrote it."""
    return model if "/" in model else f"models/{model}"


def _path(model: str) -> str:
    return urllib.parse.quote(_model_path(model))
