"""Gemini models, through google-genai.

How the SDK is asked is in `google_paths`, who asks at Vertex AI in `vertex`.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

import aiohttp
import structlog
from google import genai
from google.genai import types

from ollama_bridge.backends import ProviderSettings, google_embed, listing, vertex
from ollama_bridge.backends.bursts import bursts, told
from ollama_bridge.backends.embedding import embed_in_parts, read_reply
from ollama_bridge.backends.google_failures import ERROR_STATUSES, SDK_ERRORS, GoogleFailures
from ollama_bridge.backends.google_params import build
from ollama_bridge.backends.google_paths import (
    API_VERSION,
    PAGE_SIZE,
    LowerPath,
    TypedPath,
    lower_path_misfit,
    model_path,
)
from ollama_bridge.backends.google_stream import GenerateReader
from ollama_bridge.backends.listing_facts import google_entry
from ollama_bridge.backends.sdk import USER_AGENT, encode, neutral_environment, other_key, tls
from ollama_bridge.backends.session import client_session
from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Reply
from ollama_bridge.errors import UpstreamError
from ollama_bridge.facts import Listed
from ollama_bridge.repairs import mend
from ollama_bridge.tokens import estimate_tokens

log = structlog.get_logger(__name__)

DEFAULT_BASE_URL: Final = "https://generativelanguage.googleapis.com"
VERTEX_URL: Final = "https://aiplatform.googleapis.com"
"""The location's name comes in front of it, but for `global`."""
_LIST: Final = f"models?pageSize={PAGE_SIZE}"

# At INFO it writes a line for each call, at DEBUG more than belongs into a log.
logging.getLogger("google_genai").setLevel(logging.WARNING)


class GoogleBackend:
    """Gemini. Make it inside the running event loop; the SDK's client is made, in a thread, at the first use."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._is_vertex = settings.kind == "vertex"
        self._account: vertex.Account | None = None
        self._failures = GoogleFailures(
            settings=settings,
            default_url=VERTEX_URL if self._is_vertex else DEFAULT_BASE_URL,
            key_variable="GOOGLE_APPLICATION_CREDENTIALS" if self._is_vertex else "GEMINI_API_KEY",
            sdk_error=SDK_ERRORS,
            error_types=ERROR_STATUSES,
            secrets=lambda: self._account.secrets() if self._account else (),
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
        asked = {"model": model_path(model), **build(request).body}
        body = encode(vertex.counted(asked) if self._is_vertex else {"generateContentRequest": asked})
        with self._failures.mapped(model):
            return await path.count(model, body, self._key(request))

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Embed all inputs; see `chat.Embedder`."""
        path = await self._open(request)
        return await embed_in_parts(request, google_embed.LIMITS, partial(self._embed_part, path))

    async def _embed_part(self, path: LowerPath | TypedPath, request: EmbedRequest) -> Embeddings:
        model = request.target.model
        verb, body = google_embed.to_body(request, None if self._is_vertex else model_path(model))
        failures = self._failures.about((body.get("requests") or [body])[0])
        with failures.mapped(model):
            kind, reply = await path.embeddings(model, encode(body), self._key(request), verb)
            return await read_reply(google_embed.read, reply, kind, request, failures)

    async def models(self) -> Sequence[Listed] | None:
        """What it has; see `facts.Lister`. Of Vertex AI the SDK lists only what a project has made for itself."""
        if self._is_vertex:
            return None
        path = await self._open(ChatRequest(""))
        with self._failures.mapped(""):
            return await listing.listed(path.models, [_LIST], self._failures, google_entry)

    async def warm(self) -> None:
        """Make the client, which takes tens of milliseconds; but ask no server for credentials."""
        if self._settings.api_keys or self._settings.credentials:
            with suppress(UpstreamError):  # whoever asks first is told
                await self._open(ChatRequest(""))

    async def aclose(self) -> None:
        """Close all connections."""
        if self._account is not None:
            await self._account.aclose()
        if self._client is not None:
            await self._client.aio.aclose()
            self._client.close()
        if self._session is not None:
            await self._session.close()

    def _key(self, request: ChatRequest | EmbedRequest) -> dict[str, str]:
        return other_key(self._settings, request.key, header="x-goog-api-key", scheme="")

    async def _open(self, request: ChatRequest | EmbedRequest) -> LowerPath | TypedPath:
        if self._path is not None:
            return self._path
        by_key = not self._is_vertex or bool(self._settings.api_keys)
        first_key = self._failures.key(replace(request, key=0)) if by_key else ""
        async with self._opening:
            if self._path is None:
                if self._session is None:
                    self._session = client_session(self._settings, self._failures.where)
                if not by_key and self._account is None:
                    self._account = await asyncio.to_thread(vertex.Account, self._settings)
                made = partial(_client, self._settings, first_key, self._session, self._account)
                self._client = await asyncio.to_thread(made)
                if misfit := lower_path_misfit(self._client):
                    log.warning("typed google-genai calls in use", reason=misfit)
                    self._path = TypedPath(self._client, self._account)
                else:
                    self._path = LowerPath(self._client, self._failures, self._account)
            return self._path


def _client(
    settings: ProviderSettings,
    api_key: str,
    session: aiohttp.ClientSession,
    account: vertex.Account | None = None,
) -> genai.Client:
    is_vertex, trusted = settings.kind == "vertex", tls(settings)
    who: dict[str, Any] = {"api_key": api_key}
    if account is not None:
        who = {"credentials": account.held, "project": account.project, "location": account.location}
    with neutral_environment():
        return genai.Client(
            vertexai=is_vertex,
            **who,
            debug_config=genai.client.DebugConfig(client_mode=None, replays_directory=None, replay_id=None),
            http_options=types.HttpOptions(
                base_url=settings.base_url or (None if is_vertex else DEFAULT_BASE_URL),
                api_version=vertex.API_VERSION if is_vertex else API_VERSION,
                headers={"User-Agent": USER_AGENT, **settings.headers},
                # Unset, a failed connection is tried again after up to 10 s, whatever the options say.
                retry_options=types.HttpRetryOptions(attempts=1),
                # The context of all providers; the four that it would make of its own take 70 ms.
                client_args={"verify": trusted},
                async_client_args={"verify": trusted, "ssl": trusted},
                aiohttp_client=session,
            ),
        )
