"""What the bridge relies on in google-genai and has no promise of. One of these failing says what to look at."""

import asyncio
import inspect
import json
import logging
import threading
from contextlib import aclosing, asynccontextmanager

import aiohttp
import pytest
from google import genai
from google.genai import errors, types

from ollama_bridge.backends import ProviderSettings, google
from ollama_bridge.backends.google import GoogleBackend
from ollama_bridge.backends.google_paths import TypedPath, lower_path_misfit
from ollama_bridge.backends.vertex import Held
from upstream import Upstream, sse

FRAME = {"candidates": [{"content": {"parts": [{"text": "a"}]}}]}


@asynccontextmanager
async def sdk_client(url="http://127.0.0.1:9"):
    backend = GoogleBackend(ProviderSettings("google", "google", api_keys=("k",), base_url=url))
    await backend.warm()
    try:
        yield backend._client
    finally:
        await backend.aclose()


async def test_the_lower_path_fits_the_installed_version():
    """If not, the bridge still works, slower: read `_api_client.py`, then raise `SDK_MINOR`."""
    async with sdk_client() as client:
        assert lower_path_misfit(client) == ""


@pytest.mark.parametrize("name", ["_build_request", "_async_request", "_use_aiohttp"])
async def test_a_missing_method_is_noticed(monkeypatch, name):
    async with sdk_client() as client:
        monkeypatch.delattr(type(client._api_client), name)
        assert "changed" in lower_path_misfit(client)


async def test_a_changed_signature_is_noticed(monkeypatch):
    async def _async_request(self, http_request, stream=False):
        """Lacks `http_options`."""

    async with sdk_client() as client:
        monkeypatch.setattr(type(client._api_client), "_async_request", _async_request)
        assert "changed" in lower_path_misfit(client)


async def test_another_version_is_noticed(monkeypatch):
    async with sdk_client() as client:
        monkeypatch.setattr(genai, "__version__", "3.5.0")
        assert "3.5.0" in lower_path_misfit(client)


async def test_a_misfit_takes_the_typed_path(monkeypatch):
    monkeypatch.setattr(google, "lower_path_misfit", lambda _: "for the test")
    backend = GoogleBackend(ProviderSettings("google", "google", api_keys=("k",)))
    await backend.warm()
    assert isinstance(backend._path, TypedPath)
    await backend.aclose()


async def test_bytes_are_sent_as_they_are():
    """`HttpRequest.data` takes bytes, which spares encoding the request a second time."""
    body = b'{ "contents" :  [] }'
    async with Upstream() as upstream, sdk_client(upstream.url) as client:
        upstream.reply(sse(json.dumps(FRAME)))
        request = client._api_client._build_request("post", "models/m:x", {})
        request.data = body
        answer = await client._api_client._async_request(request, None, stream=True)
        assert isinstance(answer.response_stream, aiohttp.ClientResponse)
        answer.response_stream.close()
    assert upstream.requests[0].body == body


async def test_errors_of_the_lower_path_are_typed_and_carry_the_response():
    body = {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": []}}
    async with Upstream() as upstream, sdk_client(upstream.url) as client:
        upstream.reply(
            json.dumps(body).encode(),
            status=429,
            headers={"content-type": "application/json", "retry-after": "5"},
        )
        request = client._api_client._build_request("post", "models/m:x", {})
        with pytest.raises(errors.ClientError) as caught:
            await client._api_client._async_request(request, None, stream=True)
    assert (caught.value.code, caught.value.details) == (429, body)
    assert caught.value.response.headers["retry-after"] == "5"


async def test_an_extra_body_replaces_what_the_typed_path_made():
    """Whatever the typed path makes of its arguments, the wire carries our body, names of properties untouched."""
    schema = {"type": "object", "properties": {"my_key": {}, "myKey": {}, "contents": {}}}
    extra = {
        "contents": [{"role": "user", "parts": [{"text": "ours"}]}],
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}],
        "generationConfig": {"temperature": 0.5},
    }
    config = types.GenerateContentConfig(http_options=types.HttpOptions(extra_body=extra))
    async with Upstream() as upstream, sdk_client(upstream.url) as client:
        upstream.reply(sse(json.dumps(FRAME)))
        stream = await client.aio.models.generate_content_stream(model="m", contents="x", config=config)
        async for _ in stream:
            pass
    assert upstream.requests[0].json == extra


async def test_cancelling_the_typed_iterator_closes_the_connection():
    """What `TypedPath` is built on: cancelled while it waits inside the SDK, the SDK lets go of the connection."""
    async with Upstream() as upstream, sdk_client(upstream.url) as client:
        upstream.reply(sse(json.dumps(FRAME)), then="stall")
        arrived = asyncio.Event()

        async def read():
            async for _ in await client.aio.models.generate_content_stream(model="m", contents="x"):
                arrived.set()

        reading = asyncio.create_task(read())
        await arrived.wait()
        reading.cancel()
        await asyncio.wait_for(upstream.closed_early.wait(), 5)


async def test_a_chunk_is_dumped_under_the_names_of_the_wire():
    """The one reader for both paths expects camelCase, and enumerations by value."""
    wire = {
        "candidates": [
            {
                "content": {"role": "model", "parts": [{"functionCall": {"id": "1", "name": "f", "args": {"my_key": 1}}}]},
                "finishReason": "MAX_TOKENS",
            }
        ],
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 1, "thoughtsTokenCount": 2},
        "responseId": "r",
    }  # fmt: skip
    async with Upstream() as upstream, sdk_client(upstream.url) as client:
        upstream.reply(sse(json.dumps(wire)))
        async with aclosing(TypedPath(client).frames("m", b'{"contents": []}')) as frames:
            found = [frame async for batch in frames for frame in batch]
    assert [{key: chunk[key] for key in wire} for chunk in found] == [wire]


def test_retries_are_off_only_when_they_are_set():
    """Without options of ours the client would try a failed connection again by itself, after up to 10 s."""
    source = inspect.getsource(genai._api_client.BaseApiClient._async_request_once)
    assert "self._http_options.retry_options" in source


def test_its_log_is_quiet():
    """At INFO google-genai writes a line for every call."""
    assert logging.getLogger("google_genai").level == logging.WARNING


async def test_vertex_takes_its_token_from_the_credentials_it_was_given():
    """Before each request, as it is then; and it renews nothing that does not expire."""
    held = Held(None)
    async with Upstream() as upstream:
        upstream.reply(sse(json.dumps(FRAME)))
        client = genai.Client(
            vertexai=True,
            credentials=held,
            project="p",
            location="l",
            http_options=types.HttpOptions(base_url=upstream.url, api_version="v1beta1"),
        )
        try:
            assert client._api_client._credentials is held
            for token in ("one", "two"):
                held.token = token
                request = client._api_client._build_request("post", "publishers/google/models/m:x", {})
                answer = await client._api_client._async_request(request, None, stream=True)
                await answer.response_stream.read()
        finally:
            await client.aio.aclose()
            client.close()
    assert [seen.headers["authorization"] for seen in upstream.requests] == ["Bearer one", "Bearer two"]
    assert {seen.path for seen in upstream.requests} == {
        "/v1beta1/projects/p/locations/l/publishers/google/models/m:x"
    }


async def test_of_itself_it_renews_a_token_twice_when_who_began_leaves():
    """Why `token_cache` does it instead. If this fails, that may have become needless."""
    begun, go = threading.Semaphore(0), threading.Event()

    class Slow(Held):
        def refresh(self, request):
            begun.release()
            go.wait(10)
            self.token = "t"

    client = genai.Client(vertexai=True, credentials=Slow(None), project="p", location="l")
    try:
        first = asyncio.create_task(client._api_client._async_access_token())
        await asyncio.to_thread(begun.acquire)
        first.cancel()
        second = asyncio.create_task(client._api_client._async_access_token())
        assert await asyncio.to_thread(begun.acquire, timeout=10)  # while the first is still under way
        go.set()
        assert await second == "t"
    finally:
        go.set()
        await client.aio.aclose()
        client.close()
