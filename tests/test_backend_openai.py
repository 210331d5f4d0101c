"""The openai backend: keys, headers, failures, and leaving."""

import asyncio
import email.utils
import os
import socket
from contextlib import aclosing

import openai
import pytest

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.openai import OpenAIBackend
from ollama_bridge.backends.sdk import payloads
from ollama_bridge.chat import Message, Rules, singly
from ollama_bridge.errors import (
    ContextOverflow,
    InvalidRequest,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamError,
    UpstreamRejected,
    UpstreamUnreachable,
)
from ollama_bridge.events import Finish, TextDelta
from openai_asking import ask, ask_until_it_fails, backend_at, question, said
from upstream import Upstream, split_at_random, sse

KEY = "sk-test-0123456789abcdef"
JSON = {"content-type": "application/json"}

CHAT = (
    {"choices": [{"index": 0, "delta": {"content": "Hel"}}]},
    {"choices": [{"index": 0, "delta": {"content": "lo €"}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
)
RESPONSES = (
    {"type": "response.output_text.delta", "delta": "Hel"},
    {"type": "response.output_text.delta", "delta": "lo €"},
    {"type": "response.completed", "response": {"usage": {"input_tokens": 3, "output_tokens": 2}}},
)
STREAMS = {"chat": sse(*CHAT, done=True), "responses": sse(*RESPONSES)}
BEGUN = {"chat": sse(CHAT[0]), "responses": sse(RESPONSES[0])}

each_api = pytest.mark.parametrize("api", ["chat", "responses"])


# ------------------------------------------------------------------------------------ keys and headers


@each_api
async def test_headers_say_what_is_needed_and_nothing_of_this_machine(api, monkeypatch):
    """The key as Bearer, our own name; neither organisation nor custom headers nor facts about the machine."""
    for name, value in {
        "OPENAI_ORG_ID": "org-secret",
        "OPENAI_PROJECT_ID": "proj-secret",
        "OPENAI_CUSTOM_HEADERS": "X-Secret: 1",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "OPENAI_ADMIN_KEY": "sk-admin",
        "HTTP_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    async with Upstream() as upstream, backend_at(upstream, api=api, headers={"X-Title": "t"}) as backend:
        assert dict(os.environ) == before
        upstream.reply(STREAMS[api])
        await ask(backend)
        headers = upstream.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["user-agent"].startswith("ollama-bridge/")
    assert headers["x-title"] == "t"
    assert set(headers) == {
        "accept",
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "x-title",
    }


@pytest.mark.parametrize("keys", [(), ("none",), ("",)])
async def test_a_server_that_wants_no_key_gets_none_of_anybody(keys, monkeypatch):
    """Without a key of its own a local server gets a placeholder, never the key meant for OpenAI."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    async with Upstream() as upstream, backend_at(upstream, keys=keys) as backend:
        upstream.reply(STREAMS["chat"])
        await ask(backend)
        assert upstream.requests[0].headers["authorization"] == "Bearer none"


@pytest.mark.parametrize("base_url", [None, "https://api.openai.com/v1", "https://eu.api.openai.com/v1"])
async def test_openai_itself_wants_a_key(base_url):
    """Without one nothing is sent (no network here), and the error says which variable to set."""
    backend = OpenAIBackend(ProviderSettings("openai", "openai", ("none",), base_url))
    try:
        events, failure = await ask_until_it_fails(backend)
    finally:
        await backend.aclose()
    assert (events, type(failure), failure.status) == ([], UpstreamRejected, 502)
    assert "OPENAI_API_KEY" in str(failure)


@pytest.mark.parametrize(
    ("setting", "rule", "path"),
    [
        (None, "chat", "/v1/chat/completions"),
        (None, "responses", "/v1/responses"),
        ("chat", "responses", "/v1/chat/completions"),
        ("responses", "chat", "/v1/responses"),
    ],
)
async def test_which_api_is_asked(setting, rule, path):
    """The provider's setting decides, or else the model's rules."""
    async with Upstream() as upstream, backend_at(upstream, api=setting) as backend:
        upstream.reply(STREAMS["chat" if "chat" in path else "responses"])
        events = await ask(backend, question(rules=Rules(api=rule)))
        assert upstream.requests[0].path == path
        assert isinstance(events[-1], Finish)


async def test_what_cannot_be_asked():
    """No conversation at all, and text that is no text, never reach the provider."""
    async with Upstream() as upstream, backend_at(upstream) as backend:
        for messages in ((), (Message("user", "\ud800"),)):
            with pytest.raises(InvalidRequest):
                await ask(backend, question(messages=messages))
        assert not upstream.requests


async def test_warming_up_asks_nobody():
    """First-use costs are paid without a word to the provider, and the connection is used again."""
    async with Upstream() as upstream, backend_at(upstream) as backend:
        await backend.warm()
        assert not upstream.requests
        upstream.reply(STREAMS["chat"])
        for _ in range(3):
            await ask(backend)
        assert (len(upstream.requests), upstream.connections) == (3, 1)


# --------------------------------------------------------------------------------------------- streams


@each_api
@pytest.mark.parametrize("seed", range(5))
async def test_the_borders_of_the_reads_change_nothing(api, seed):
    """Cut at arbitrary bytes, inside characters too, the reply is the same."""
    body = STREAMS[api] if seed % 2 else STREAMS[api].replace(b"\n", b"\r\n")
    async with Upstream() as upstream, backend_at(upstream, api=api) as backend:
        upstream.reply(split_at_random(body, seed))
        events = await ask(backend)
    assert said(events) == "Hello €"
    assert (events[-1].reason, events[-1].usage.output_tokens) == ("stop", 2)


@each_api
@pytest.mark.parametrize(
    ("ending", "then"),
    [
        (b"", "end"),  # a clean end, without a terminal event
        (b'data: {"choices": [{"delta": {"con', "end"),  # inside an event
    ],
)
async def test_a_reply_without_its_end_has_no_finish(api, ending, then):
    """The SDK is silent about it; whoever reads the events can tell, as there is no `Finish`."""
    async with Upstream() as upstream, backend_at(upstream, api=api) as backend:
        upstream.reply(BEGUN[api] + ending, then=then)
        assert await ask(backend) == [TextDelta("Hel")]


@each_api
@pytest.mark.parametrize("then", ["cut", "reset"])
async def test_a_connection_that_breaks(api, then):
    """A body cut off or reset in the middle is a broken reply, which may be tried again."""
    async with Upstream() as upstream, backend_at(upstream, api=api) as backend:
        upstream.reply(BEGUN[api], then=then)
        events, failure = await ask_until_it_fails(backend)
    assert events == [TextDelta("Hel")]
    assert (type(failure), failure.retryable) == (UpstreamBroken, True)


@each_api
@pytest.mark.parametrize(
    "payload", [b"data: {malformed\n\n", b"data: []\n\n", b"data: 3\n\n", b"data: null\n\n"]
)
async def test_what_is_no_event(api, payload):
    """Malformed JSON, and JSON of another kind, are a broken reply."""
    async with Upstream() as upstream, backend_at(upstream, api=api) as backend:
        upstream.reply(BEGUN[api] + payload + STREAMS[api])
        events, failure = await ask_until_it_fails(backend)
    assert events == [TextDelta("Hel")]
    assert type(failure) is UpstreamBroken


@each_api
async def test_what_means_nothing(api):
    """Comments, pings, empty data, ids and unknown events pass without a trace; no `[DONE]` is needed."""
    noise = b": OPENROUTER PROCESSING\n\ndata:\n\nevent: ping\n\nid: 3\nretry: 9\n\n" + sse({"type": "ping"})
    body = noise + STREAMS[api].replace(b"data: [DONE]\n\n", b"").replace(b"\n\n", b"\n\n" + noise)
    async with Upstream() as upstream, backend_at(upstream, api=api) as backend:
        upstream.reply(body)
        events = await ask(backend)
    assert said(events) == "Hello €"
    assert isinstance(events[-1], Finish)


@each_api
@pytest.mark.parametrize(
    ("headers", "body", "kind", "words"),
    [
        ({"content-type": "text/html"}, b"<html>hi</html>", UpstreamBroken, "text/html"),
        (JSON, b'{"error":{"message":"no","code":429}}', UpstreamBusy, "no"),
        (JSON, b'{"object":"error","message":"no","type":"invalid_request_error"}', UpstreamRejected, "no"),
        (JSON, b'{"hello":1}', UpstreamBroken, "instead of an event stream"),
    ],
)
async def test_200_without_a_stream(api, headers, body, kind, words):
    """What the SDK takes for an empty stream is an error that tells what came instead."""
    async with Upstream() as upstream, backend_at(upstream, api=api) as backend:
        upstream.reply(body, headers=headers)
        events, failure = await ask_until_it_fails(backend)
    assert (events, type(failure)) == ([], kind)
    assert words in str(failure)


@each_api
async def test_an_empty_stream_says_nothing(api):
    """No event, no `Finish`."""
    async with Upstream() as upstream, backend_at(upstream, api=api) as backend:
        upstream.reply(b"")
        assert await ask(backend) == []


# -------------------------------------------------------------------------------------------- refusals

OPENAI_ERROR = b'{"error":{"message":"the reason","type":"t","param":null,"code":null}}'


@each_api
@pytest.mark.parametrize(
    ("status", "kind", "shown", "words"),
    [
        (400, UpstreamRejected, 400, "the reason"),
        (401, UpstreamRejected, 502, "check providers.acme.api_key"),
        (402, UpstreamBusy, 429, "credit"),
        (403, UpstreamRejected, 502, "check providers.acme.api_key"),
        (404, UpstreamRejected, 404, "backend_model"),
        (408, UpstreamUnreachable, 504, "the reason"),
        (413, ContextOverflow, 400, "too large"),
        (429, UpstreamBusy, 429, "the reason"),
        (498, UpstreamBusy, 503, "the reason"),
        (500, UpstreamBroken, 502, "the reason"),
        (503, UpstreamBusy, 503, "the reason"),
    ],
)
async def test_every_status(api, status, kind, shown, words):
    """A provider's status becomes the right error, asked for once, and tells model, provider and reason."""
    async with Upstream() as upstream, backend_at(upstream, api=api) as backend:
        upstream.reply(OPENAI_ERROR, status=status)
        events, failure = await ask_until_it_fails(backend)
        assert len(upstream.requests) == 1
    assert (events, type(failure), failure.status) == ([], kind, shown)
    assert words in str(failure)
    assert str(failure).startswith("acme: model 'gpt-x': ")


async def test_every_exception_of_the_sdk_is_ours_in_the_end():
    """Whatever error class the SDK has, `mapped` makes an `UpstreamError` of it."""

    def family(kind):
        return {kind}.union(*(family(child) for child in kind.__subclasses__()))

    classes = family(openai.OpenAIError)
    assert openai.RateLimitError in classes
    async with Upstream() as upstream, backend_at(upstream) as backend:
        for kind in classes:
            with pytest.raises(UpstreamError), backend._failures.mapped("m"):
                raise kind.__new__(kind)


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"retry-after": "7"}, 7, 7),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5, 1.5),
        ({"retry-after": email.utils.formatdate(4102444800, usegmt=True)}, 86400, 1e10),  # in the year 2100
        ({"retry-after": "soon"}, None, None),
        ({}, None, None),
    ],
)
async def test_how_long_to_wait(headers, least, most):
    """Seconds, milliseconds or a date: what the provider asked for is passed on."""
    async with Upstream() as upstream, backend_at(upstream) as backend:
        upstream.reply(OPENAI_ERROR, status=429, headers={**JSON, **headers})
        _, failure = await ask_until_it_fails(backend)
    if least is None:
        assert failure.retry_after_s is None
    else:
        assert least <= failure.retry_after_s <= most


async def test_a_key_never_leaves_in_an_error():
    """Even a provider that repeats the key does not get it into our error, nor into its repr or its causes."""
    async with Upstream() as upstream, backend_at(upstream) as backend:
        upstream.reply(b'{"error":{"message":"Incorrect API key: %s"}}' % KEY.encode(), status=401)
        _, failure = await ask_until_it_fails(backend)
        assert KEY not in repr(backend._settings)
    while failure is not None:
        assert KEY not in f"{failure} {failure!r}"
        failure = failure.__cause__


async def test_nobody_at_home():
    """A refused connection is one; the SDK calls it a timeout."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    backend = OpenAIBackend(ProviderSettings("acme", "openai", (), f"http://127.0.0.1:{port}/v1"))
    try:
        events, failure = await ask_until_it_fails(backend)
    finally:
        await backend.aclose()
    assert (events, type(failure), failure.status) == ([], UpstreamUnreachable, 502)
    assert "connection refused" in str(failure)


# --------------------------------------------------------------------------------------------- leaving


@each_api
async def test_leaving_before_the_provider_answers(api):
    """Cancelled while waiting for the response's head, the provider's connection is closed."""
    async with Upstream() as upstream, backend_at(upstream, api=api) as backend:
        upstream.reply(b"", head_delay_s=3600)
        task = asyncio.create_task(ask(backend))
        await upstream.asked.wait()
        task.cancel()
        await upstream.closed_early.wait()
        with pytest.raises(asyncio.CancelledError):
            await task


@each_api
async def test_leaving_before_the_first_event(api, monkeypatch):
    """Cancelled between the head and the first event, the provider's connection is closed."""
    reading = asyncio.Event()

    async def noticed(*args):
        reading.set()
        async with aclosing(payloads(*args)) as batches:
            async for batch in batches:
                yield batch

    monkeypatch.setattr("ollama_bridge.backends.openai.payloads", noticed)
    async with Upstream() as upstream, backend_at(upstream, api=api) as backend:
        upstream.reply(b": wait\n\n", then="stall")
        task = asyncio.create_task(ask(backend))
        await reading.wait()
        assert not upstream.closed_early.is_set()
        task.cancel()
        await upstream.closed_early.wait()
        with pytest.raises(asyncio.CancelledError):
            await task


@each_api
async def test_leaving_in_the_middle(api):
    """Closing the reply after its first event closes the provider's connection."""
    async with Upstream() as upstream, backend_at(upstream, api=api) as backend:
        upstream.reply(BEGUN[api], then="stall")
        async with aclosing(singly(backend.chat(question()))) as events:
            assert await anext(events) == TextDelta("Hel")
            assert not upstream.closed_early.is_set()
        await upstream.closed_early.wait()


@each_api
async def test_a_provider_that_never_hangs_up(api):
    """`Finish` does not wait for the end of the body, and the connection is given up then."""
    async with Upstream() as upstream, backend_at(upstream, api=api) as backend:
        upstream.reply(STREAMS[api], then="stall")
        events = await ask(backend)
        assert isinstance(events[-1], Finish)
        await upstream.closed_early.wait()
