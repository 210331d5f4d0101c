"""How google-genai is asked: by its own lower path, or else by its types.

The request goes through the SDK client's own lower path, which keeps its URLs, keys, transport and typed
errors, and the reply is read by our own event-stream reader: 1.04 times the cost of a bare HTTP client instead
of the typed path's 6 to 56 (`providers.md` §7.1).  That path is private, so `lower_path_misfit` looks at it once
before it is used; where it does not fit, the public typed path serves, in a task of its own.
See `.github/decisions/0001-google-genai-lower-request-path.md`.
"""

import asyncio
import inspect
import urllib.parse
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Final, TypeAlias, cast

import aiohttp
import orjson
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

from ollama_bridge.backends import framing, listing, vertex, whole
from ollama_bridge.backends.embedding import whole_reply
from ollama_bridge.backends.google_failures import GoogleFailures
from ollama_bridge.backends.sdk import encode

Frames: TypeAlias = AsyncGenerator[Iterable[Any], None]
"""The decoded JSON of a streamed reply, one iterable for each read that ends an event."""

SDK_MINOR: Final = "3.4."
"""The versions of google-genai whose lower path was read and tested; `pyproject.toml` asks for the same."""

API_VERSION: Final = "v1beta"  # the SDK's own default, v1, knows no `*-latest` models

PAGE_SIZE: Final = 1000  # the most there is, and more than it has

_REPLACED: Final = types.Content(role="user", parts=[types.Part(text="replaced by extra_body")])

NO_HEADERS: Final[Mapping[str, str]] = {}
"""Beside those that the client has from the start."""


def lower_path_misfit(client: genai.Client) -> str:
    """Why `LowerPath` cannot drive `client`; empty when it can. Asks nobody, takes no time to speak of."""
    if not genai.__version__.startswith(SDK_MINOR):
        return f"google-genai {genai.__version__} is not {SDK_MINOR}*"
    try:
        api = client._api_client  # noqa: SLF001 - see the decision record
        built = [*inspect.signature(api._build_request).parameters]  # noqa: SLF001
        sent = [*inspect.signature(api._async_request).parameters]  # noqa: SLF001
        path = f"{_path(client, 'm')}:streamGenerateContent?alt=sse"
        request = api._build_request("post", path, {})  # noqa: SLF001
        by_key = bool(api.api_key)
        below = "" if by_key else f"projects/{api.project}/locations/{api.location}/"
        version = vertex.API_VERSION if api.vertexai else API_VERSION
        fits = (
            built == ["http_method", "path", "request_dict", "http_options"]
            and sent == ["http_request", "http_options", "stream"]
            and inspect.iscoroutinefunction(api._async_request)  # noqa: SLF001
            and request.url.endswith(f"/{version}/{below}{path}")
            and ("x-goog-api-key" in request.headers or isinstance(api._credentials, vertex.Held))  # noqa: SLF001
            and hasattr(request, "data")
            and api._use_aiohttp()  # noqa: SLF001
        )
    except (AttributeError, TypeError, ValueError) as exc:
        return f"its request path has changed: {type(exc).__name__}"
    return "" if fits else "its request path has changed"


class LowerPath:
    """The client's own request path, below its types."""

    def __init__(
        self, client: genai.Client, failures: GoogleFailures, account: vertex.Account | None = None
    ) -> None:
        self._client = client
        self._api = client._api_client  # noqa: SLF001 - see the decision record
        self._failures = failures
        self._account = account

    async def frames(self, model: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> Frames:
        """Ask, and yield what arrives. Closing it closes the connection."""
        response = await self._post(
            f"{_path(self._client, model)}:streamGenerateContent?alt=sse", body, headers
        )
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
        _, counted = await self._whole(f"{_path(self._client, model)}:countTokens", body, model, headers)
        return int(orjson.loads(counted)["totalTokens"])

    async def embeddings(
        self, model: str, body: bytes, headers: Mapping[str, str], verb: str
    ) -> tuple[str, bytes]:
        """Ask for embeddings, and read all of the reply: its content type, and its body."""
        return await self._whole(f"{_path(self._client, model)}:{verb}", body, model, headers)

    async def models(self, path: str) -> tuple[str, bytes]:
        """A page of the list of models: its content type, and its body."""
        request = self._api._build_request("get", path, {})  # noqa: SLF001
        with self._failures.mapped(""):
            answer = await self._api._async_request(request, None, stream=True)  # noqa: SLF001
        response = cast("aiohttp.ClientResponse", answer.response_stream)
        try:
            return response.content_type, await listing.bounded(response.content.iter_any(), self._failures)
        finally:
            response.close()  # nothing to do when it was read to its end

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
        """Ask; with credentials of Google Cloud once more when the token was refused: it may have been withdrawn."""
        if self._account is None:
            return await self._sent(path, body, headers)
        token = await self._account.sign()
        try:
            return await self._sent(path, body, headers)
        except genai_errors.ClientError as exc:
            if exc.code != 401:
                raise
            self._account.refused(token)
        await self._account.sign()
        return await self._sent(path, body, headers)

    async def _sent(self, path: str, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        request = self._api._build_request("post", path, {})  # noqa: SLF001
        request.headers.update(headers)
        request.data = body
        answer = await self._api._async_request(request, None, stream=True)  # noqa: SLF001
        return cast("aiohttp.ClientResponse", answer.response_stream)


class TypedPath:
    """The SDK's public typed path, for versions whose lower one is not known."""

    def __init__(self, client: genai.Client, account: vertex.Account | None = None) -> None:
        self._client = client
        self._account = account

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

    async def embeddings(
        self, model: str, body: bytes, headers: Mapping[str, str], _: str
    ) -> tuple[str, bytes]:
        """Ask, and put what the types hold back into the wire's names; the verb the SDK knows."""
        if self._account is not None:
            await self._account.sign()
        options = types.HttpOptions(extra_body=orjson.loads(body), headers=dict(headers))
        config = types.EmbedContentConfig(http_options=options)
        reply = await self._client.aio.models.embed_content(
            model=_path(self._client, model),
            contents=[_REPLACED, _REPLACED],  # for one alone it may have a verb of its own
            config=config,
        )
        return "application/json", reply.model_dump_json(by_alias=True, exclude_none=True).encode()

    async def models(self, _path: str) -> tuple[str, bytes]:
        """The list of models, in the wire's names; which path to ask for the SDK knows."""
        pager = await self._client.aio.models.list(config={"page_size": PAGE_SIZE, "query_base": True})
        found = [model.model_dump(mode="json", by_alias=True, exclude_none=True) for model in pager.page]
        return "application/json", encode({"models": found})

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
            if self._account is not None:
                await self._account.sign()
            stream = await self._client.aio.models.generate_content_stream(
                model=_path(self._client, model), contents="replaced by extra_body", config=config
            )
            async for chunk in stream:
                arrived.put_nowait(chunk.model_dump(mode="json", by_alias=True, exclude_none=True))
        finally:
            arrived.put_nowait(None)


def model_path(model: str) -> str:
    """`models/…`, or `tunedModels/…` as the operator wrote it."""
    return model if "/" in model else f"models/{model}"


def _path(client: genai.Client, model: str) -> str:
    return urllib.parse.quote(vertex.model_path(model) if client.vertexai else model_path(model))
