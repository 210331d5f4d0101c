"""A real Ollama elsewhere: its own wire, both ways, with nothing taken away.

`POST /api/chat`, for gaps `POST /api/generate`, and their stream of JSON lines: https://github.com/ollama/ollama/blob/main/docs/api.md.
What a client of Ollama's own routes sent goes there as it is, and the lines that answer it come back as they are.
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import aiohttp
import orjson

from ollama_bridge.backends import ProviderSettings, listing
from ollama_bridge.backends.bursts import bursts
from ollama_bridge.backends.embedding import Limits, embed_in_parts, read_reply, whole_reply
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.listing_facts import openai_entry
from ollama_bridge.backends.ollama_reply import ChatReader
from ollama_bridge.backends.ollama_request import (
    embed_in_own_words,
    in_own_words,
    to_body,
    to_embed_body,
)
from ollama_bridge.backends.sdk import USER_AGENT, encode, other_key
from ollama_bridge.backends.session import client_session
from ollama_bridge.backends.usage import count
from ollama_bridge.backends.verdicts import ERROR_TYPES, Verdict
from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Reply
from ollama_bridge.errors import Told, UpstreamError, UpstreamRejected
from ollama_bridge.facts import Listed
from ollama_bridge.native import Relayed

DEFAULT_BASE_URL: Final = "http://127.0.0.1:11434"

_VECTORS: Final = {"embed": "embeddings", "embeddings": "embedding"}
"""Routes to where their vectors stand. Whoever answers one in the shape of the other is not passed on as it is."""

EMBED_LIMITS: Final = Limits(inputs=512)
"""Of our own making, so that no reply is too large."""

_MAX_ERROR_BYTES: Final = 1 << 20
_ABOUT_KEYS: Final = (401, 403)
"""Statuses that are about our key, if we sent one; else about that Ollama's own account, and it says where to sign in."""

_FAILED: Final = "failed"
_ABOUT_THIS: Final = Verdict(
    UpstreamRejected, 500, "it failed", ": ask again, or another model", retryable=False, means=500
)
"""A 500 of a real Ollama: mostly about this very request, such as a model that its memory does not hold."""


class OllamaBackend:
    """Another Ollama. Make it inside the running event loop. A key is sent as a bearer token, if there is one."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._provider = settings.name
        self._settings = settings
        self._url = (settings.base_url or DEFAULT_BASE_URL).rstrip("/")
        self._failures = Failures(
            settings=settings,
            default_url=DEFAULT_BASE_URL,
            key_variable="OLLAMA_API_KEY",
            sdk_error=aiohttp.ClientError,
            error_types={**ERROR_TYPES, _FAILED: _ABOUT_THIS},
        )
        self._headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
        if settings.api_keys:
            self._headers["Authorization"] = f"Bearer {settings.api_keys[0]}"
        self._headers |= settings.headers
        self._session = client_session(settings, self._url)

    async def chat(self, request: ChatRequest) -> Reply:
        """Stream the reply.

        Raises:
            UpstreamError: The other Ollama failed.
            InvalidRequest: The request cannot be written as JSON.
        """
        model = request.target.model
        own = in_own_words(request)
        route, body = own or ("chat" if request.infill is None else "generate", to_body(request))
        reader = ChatReader(self._failures, model, named=body["model"] if own else None)
        with self._failures.mapped(model):
            async with (
                aclosing(self._chunks(route, encode(body), request, is_own=own is not None)) as chunks,
                aclosing(bursts(reader, chunks, request.progress)) as said,
            ):
                async for burst in said:
                    yield burst

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Embed all inputs; see `chat.Embedder`. What the client itself said is asked at once, and answered so."""
        own = embed_in_own_words(request)
        if own is None:
            return await embed_in_parts(request, EMBED_LIMITS, self._embed_part)
        route, body = own
        return await self._embedded(route, body, request, is_own=True)

    async def _embed_part(self, request: EmbedRequest) -> Embeddings:
        return await self._embedded("embed", to_embed_body(request), request)

    async def _embedded(
        self, route: str, body: Mapping[str, Any], request: EmbedRequest, *, is_own: bool = False
    ) -> Embeddings:
        model = request.target.model
        replies: list[Mapping[str, Any]] = []

        def read(reply: Mapping[str, Any]) -> tuple[list[Any], int]:
            replies.append(reply)
            vectors = reply["embeddings"] if "embeddings" in reply else [reply["embedding"]]
            return vectors, count(reply, "prompt_eval_count")

        with self._failures.mapped(model):
            response = await self._post(route, encode(body), request, is_own=is_own)
            try:
                whole = await whole_reply(response.content.iter_any(), self._failures, model)
            finally:
                response.close()  # nothing to do when it was read to its end
            answer = await read_reply(read, whole, response.content_type, request, self._failures)
        if not is_own or _VECTORS.get(route) not in replies[0]:
            return answer
        return replace(answer, native=replies[0])

    async def models(self) -> Sequence[Listed] | None:
        """What it has; see `facts.Lister`."""
        with self._failures.mapped(""):
            return await listing.listed(self._tags, [self._url + "/api/tags"], self._failures, openai_entry)

    async def _tags(self, url: str) -> tuple[str, bytes]:
        async with self._session.get(url, headers=self._headers, allow_redirects=False) as response:
            if response.status != 200:
                raise await self._refusal(response, "", is_own=False)
            return response.content_type, await listing.bounded(response.content.iter_any(), self._failures)

    async def warm(self) -> None:
        """Nothing to pay."""

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()

    @asynccontextmanager
    async def relay(
        self,
        method: str,
        path: str,
        body: bytes | AsyncIterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Relayed]:
        """Ask whatever else there is to ask; see `native.Relay`."""
        with self._failures.mapped(""):
            response = await self._session.request(
                method,
                self._url + path,
                data=body or None,
                headers={**self._headers, **(headers or {})},
                allow_redirects=False,
            )
        try:
            async with aclosing(self._relayed(response)) as chunks:
                yield Relayed(response.status, response.headers.get("Content-Type", ""), chunks)
        finally:
            response.close()

    async def _relayed(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        with self._failures.mapped(""):
            async for chunk in response.content.iter_any():
                yield chunk

    async def _chunks(
        self, route: str, body: bytes, request: ChatRequest, *, is_own: bool
    ) -> AsyncGenerator[tuple[bytes], None]:
        response = await self._post(route, body, request, is_own=is_own)
        try:
            async for chunk in response.content.iter_any():
                yield (chunk,)
        finally:
            response.close()  # nothing to do when it was read to its end

    async def _post(
        self, route: str, body: bytes, request: ChatRequest | EmbedRequest, *, is_own: bool
    ) -> aiohttp.ClientResponse:
        headers = {**self._headers, **other_key(self._settings, request.key)}
        response = await self._session.post(f"{self._url}/api/{route}", data=body, headers=headers)
        if response.status == 200:
            return response
        try:
            raise await self._refusal(response, request.target.model, is_own=is_own)
        finally:
            response.close()

    async def _refusal(self, response: aiohttp.ClientResponse, model: str, *, is_own: bool) -> UpstreamError:
        body = b""
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _MAX_ERROR_BYTES:
                break
        try:
            told = orjson.loads(body)
        except orjson.JSONDecodeError:
            told, is_own = body.decode("utf-8", "replace"), False
        is_own = is_own and not (response.status in _ABOUT_KEYS and self._settings.api_keys)
        codes = [_FAILED] if is_own and response.status == 500 else []
        failure = self._failures.told(
            told, model, status=response.status, headers=response.headers, codes=codes
        )
        if not is_own:
            return failure
        failure.status = response.status
        failure.told = Told(body, response.headers.get("Content-Type", ""))
        return failure
