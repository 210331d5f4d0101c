"""A real Ollama elsewhere."""

import asyncio
import importlib.util
import json
from contextlib import aclosing, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.backends import ProviderSettings, ollama_reply
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.ollama import OllamaBackend
from ollama_bridge.backends.ollama_reply import ChatReader
from ollama_bridge.chat import ChatRequest, Image, Message, Target, Tool, singly
from ollama_bridge.errors import (
    UpstreamBroken,
    UpstreamBusy,
    UpstreamError,
    UpstreamRejected,
    UpstreamUnreachable,
)
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, TokenLogprob, ToolCall, Usage
from shared import SHARED
from upstream import Upstream, split_at_random

TARGET = Target("den", "qwen3:4b")
HELLO = ChatRequest("mine", (Message("user", "Hello"),), target=TARGET)
NDJSON = {"content-type": "application/x-ndjson"}


@asynccontextmanager
async def den(upstream, **settings):
    fields = {"base_url": upstream and upstream.url} | settings
    backend = OllamaBackend(ProviderSettings("den", "ollama", **fields))
    try:
        await backend.warm()
        yield backend
    finally:
        await backend.aclose()


async def ask(backend, request=HELLO):
    async with aclosing(singly(backend.chat(request))) as events:
        return [event async for event in events]


async def reply_of(body, request=HELLO, **script):
    async with Upstream() as upstream, den(upstream) as backend:
        upstream.reply(body, **{"headers": NDJSON} | script)
        return await ask(backend, request)


def line(done=False, **more):
    message = {"role": "assistant", "content": ""} | more.pop("message", {})
    found = {"model": "qwen3:4b", "created_at": "2026-11-20T00:00:00Z", "message": message, "done": done}
    return json.dumps(found | more, ensure_ascii=False).encode() + b"\n"


DONE = line(done=True, done_reason="stop", prompt_eval_count=7, eval_count=9)
CALL = {"function": {"index": 0, "name": "add", "arguments": {"b": 1, "a": 2}}}
WHOLE = (
    line(message={"thinking": "hm"})
    + line(message={"content": "Grüße "})
    + line(message={"content": "🎉", "tool_calls": [{"id": "call_x", **CALL}, CALL]})
    + DONE
)


@pytest.mark.parametrize("seed", range(5))
async def test_a_whole_reply(seed):
    """Everything the other Ollama says arrives, whatever the borders of the reads."""
    assert await reply_of(split_at_random(WHOLE, seed)) == [
        ThinkingDelta("hm"),
        TextDelta("Grüße "),
        TextDelta("🎉"),
        ToolCall("call_x", "add", {"b": 1, "a": 2}),
        ToolCall("call_1", "add", {"b": 1, "a": 2}),
        Finish("tool_calls", Usage(7, 9), "stop"),
    ]


async def test_the_whole_request_is_passed_on():
    """What a client asked for reaches the other Ollama in Ollama's own terms, unknown options included."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    request = ChatRequest(
        "mine",
        (
            Message("system", "S"),
            Message("user", "Look", images=(Image("iVBORw0KGgo=", "image/png"),)),
            Message(
                "assistant", "", thinking="hm", tool_calls=(ToolCall("1", "f", {"a": 1}), ToolCall("", "g"))
            ),
            Message("tool", "r", tool_call_id="1", tool_name="f"),
            Message("tool", "s"),
        ),
        tools=(Tool("f", "d", schema), Tool("g")),
        format=schema,
        think="high",
        options={"temperature": 0.1, "num_ctx": 8192, "brand_new": [1]},
        stream=False,
        keep_alive_s=-1.0,
        logprobs=True,
        top_logprobs=2,
        target=TARGET,
    )
    async with Upstream() as upstream, den(upstream, api_keys=("s3cret",), headers={"x-a": "b"}) as backend:
        upstream.reply(WHOLE, headers=NDJSON)
        await ask(backend, request)
        await ask(backend)
    seen, plain = upstream.requests
    assert (seen.method, seen.path) == ("POST", "/api/chat")
    assert seen.headers["authorization"] == "Bearer s3cret"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["x-a"] == "b"
    assert seen.json == {
        "model": "qwen3:4b",
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "Look", "images": ["iVBORw0KGgo="]},
            {
                "role": "assistant",
                "content": "",
                "thinking": "hm",
                "tool_calls": [
                    {"id": "1", "function": {"name": "f", "arguments": {"a": 1}}},
                    {"function": {"name": "g", "arguments": {}}},
                ],
            },
            {"role": "tool", "content": "r", "tool_name": "f", "tool_call_id": "1"},
            {"role": "tool", "content": "s"},
        ],
        "stream": True,
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}},
            {
                "type": "function",
                "function": {
                    "name": "g",
                    "description": "",
                    "parameters": {"type": "object", "properties": {}},
                },
            },
        ],
        "format": schema,
        "think": "high",
        "options": {"temperature": 0.1, "num_ctx": 8192, "brand_new": [1]},
        "keep_alive": -1.0,
        "logprobs": True,
        "top_logprobs": 2,
    }
    assert plain.json == {
        "model": "qwen3:4b",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
    }
    assert upstream.connections == 1, "the connection is used again"


async def test_no_key_is_no_header():
    async with Upstream() as upstream, den(upstream, base_url=upstream.url + "/") as backend:
        upstream.reply(WHOLE, headers=NDJSON)
        await ask(backend)
    assert "authorization" not in upstream.requests[0].headers
    assert upstream.requests[0].path == "/api/chat"


@pytest.mark.parametrize(
    ("word", "reason"),
    [("stop", "stop"), ("length", "length"), ("load", "stop"), (None, "stop")],
)
async def test_how_it_finishes(word, reason):
    found = json.loads(DONE) | ({"done_reason": word} if word else {})
    if word is None:
        del found["done_reason"]
    finish = (await reply_of(json.dumps(found).encode() + b"\n"))[-1]
    assert (finish.reason, finish.detail) == (reason, word or "stop")


async def test_log_probabilities_wait_for_their_text():
    """Ollama sends those of tokens that its parser holds back on a line without content."""
    first = {"token": "a", "logprob": -1.5, "top_logprobs": [{"token": "a", "logprob": -1.5}]}
    wire = (
        line(logprobs=[first])
        + line(message={"content": "ab"}, logprobs=[{"token": "b", "logprob": -2}])
        + DONE
    )
    expected = (TokenLogprob("a", -1.5, (TokenLogprob("a", -1.5),)), TokenLogprob("b", -2))
    assert (await reply_of(wire))[0] == TextDelta("ab", expected)


# ---------------------------------------------------------------------------------------------- recordings


def recordings():
    return sorted((SHARED / "recordings/ollama").glob("*native-chat-stream*")) if SHARED else []


@pytest.mark.skipif(SHARED is None, reason="../shared/recordings is not here")
@pytest.mark.parametrize("recording", recordings(), ids=lambda file: file.stem)
async def test_a_recorded_reply(recording):
    """What Ollama really said comes out as an independent reader of the recordings understands it."""
    spec = importlib.util.spec_from_file_location("check", SHARED / "recordings" / "check.py")
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    found = json.loads(recording.read_text())
    facts, _ = check.facts(found)
    body = split_at_random(found["response"]["body"].encode(), 3)
    if facts["errors"]:
        with pytest.raises(UpstreamBroken, match=facts["errors"][0]):
            await reply_of(body)
        return
    *events, finish = await reply_of(body)
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == facts["text"]
    assert "".join(event.text for event in events if isinstance(event, ThinkingDelta)) == facts["thinking"]
    assert [
        {"name": event.name, "args": event.arguments} for event in events if isinstance(event, ToolCall)
    ] == facts["tools"]
    assert finish.detail == facts["finish"]
    assert (finish.usage.input_tokens, finish.usage.output_tokens) == tuple(facts["usage"].values())


# ------------------------------------------------------------------------------------------------- leaving


@pytest.mark.parametrize("received", [0, 1])
async def test_leaving_closes_the_connection(received):
    """Before the first event or after it: who cancels the reader closes the other Ollama's connection."""
    async with Upstream() as upstream, den(upstream) as backend:
        upstream.reply(line(message={"content": "a"}) if received else b"", headers=NDJSON, then="stall")
        arrived = asyncio.Event()

        async def read():
            async with aclosing(singly(backend.chat(HELLO))) as events:
                async for _ in events:
                    arrived.set()

        reading = asyncio.create_task(read())
        await (arrived.wait() if received else upstream.asked.wait())
        reading.cancel()
        await asyncio.wait_for(upstream.closed_early.wait(), 5)
        with pytest.raises(asyncio.CancelledError):
            await reading


async def test_leaving_before_the_response_begins():
    """Ollama loads a model before it answers at all; who leaves then must not keep it loading."""
    async with Upstream() as upstream, den(upstream) as backend:
        upstream.reply(WHOLE, head_delay_s=3600)
        asking = asyncio.create_task(ask(backend))
        await upstream.asked.wait()
        asking.cancel()
        await asyncio.wait_for(upstream.closed_early.wait(), 5)


# -------------------------------------------------------------------------------------------------- faults

TEXT = line(message={"content": "Hel"})


async def test_a_stream_that_just_ends_has_no_finish():
    """A truncated answer never looks whole: no `Finish` is made up, of half a line neither."""
    assert await reply_of(TEXT) == [TextDelta("Hel")]
    assert await reply_of(TEXT + DONE[:-10]) == [TextDelta("Hel")]
    assert await reply_of(b"") == []


async def test_a_last_line_needs_no_end():
    assert (await reply_of(TEXT + DONE.rstrip()))[-1].usage == Usage(7, 9)


@pytest.mark.parametrize("then", ["cut", "reset"])
async def test_a_broken_connection(then):
    with pytest.raises(UpstreamBroken, match="cut off"):
        await reply_of(TEXT, then=then)


@pytest.mark.parametrize("end", [b"\n", b""])
async def test_an_error_line(end):
    """Ollama ends a stream that fails with an error line; that of its cloud has no line end."""
    with pytest.raises(UpstreamBroken, match="unexpected EOF"):
        await reply_of(TEXT + b'{"error":"unexpected EOF"}' + end)


@pytest.mark.parametrize("end", [b"\n", b""])
async def test_a_web_page_instead_of_a_stream(end):
    with pytest.raises(UpstreamBroken, match=r"a web page.*providers\.den\.base_url"):
        await reply_of(b"<html></html>" + end, headers={"content-type": "text/html"})


@pytest.mark.parametrize(
    "odd",
    [
        [],
        3,
        {"message": 3},
        {"message": {"content": 3}},
        {"message": {"thinking": [1]}},
        {"message": {"tool_calls": 3}},
        {"message": {"tool_calls": [{"id": "x"}]}},
        {"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}},
        {"message": {"content": "x"}, "logprobs": [{}]},
    ],
    ids=json.dumps,
)
async def test_odd_shapes_are_a_broken_reply(odd):
    with pytest.raises(UpstreamBroken, match="unknown shape"):
        await reply_of(json.dumps(odd).encode() + b"\n")


@given(st.binary())
def test_no_bytes_at_all_are_a_traceback(wire):
    """The reader raises nothing but our own errors."""
    reader = ChatReader(Failures(ProviderSettings("den", "ollama"), "", "", OSError), "m")
    try:
        for event in [*reader.feed(wire), *reader.close()]:
            raise AssertionError(event)
    except UpstreamError:
        pass


async def test_an_endless_line_is_refused(monkeypatch):
    monkeypatch.setattr(ollama_reply, "MAX_LINE_BYTES", 10)
    with pytest.raises(UpstreamBroken, match="too large"):
        await reply_of(b'{"message": {"content"')


@pytest.mark.parametrize(
    ("body", "status", "kind", "shown", "words"),
    [
        (b'{"error":"model \'x\' not found"}', 404, UpstreamRejected, 404, "model 'x' not found"),
        (b'{"error":"\\"x\\" does not support tools"}', 400, UpstreamRejected, 400, "does not support tools"),
        (b'{"error":"unauthorized"}', 401, UpstreamRejected, 502, "OLLAMA_API_KEY"),
        (b'{"error":"server busy"}', 503, UpstreamBusy, 503, "server busy"),
        (b'{"error":"model runner has unexpectedly stopped"}', 500, UpstreamBroken, 502, "unexpectedly stopped"),
        (b"<html>", 502, UpstreamBroken, 502, "HTTP 502"),
    ],
)  # fmt: skip
async def test_an_error_status(body, status, kind, shown, words):
    with pytest.raises(UpstreamError, match=words) as caught:
        await reply_of(body, status=status, headers={"content-type": "application/json", "retry-after": "3"})
    assert (type(caught.value), caught.value.status, caught.value.retry_after_s) == (kind, shown, 3)
    assert str(caught.value).startswith("den: model 'qwen3:4b': ")


async def test_an_ollama_that_is_not_there():
    async with Upstream() as upstream:
        url = upstream.url
    async with den(None, base_url=url) as backend:
        with pytest.raises(UpstreamUnreachable, match="is http://127"):
            await ask(backend)


async def test_the_environment_changes_nothing(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "OLLAMA_HOST"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await reply_of(WHOLE))[-1].usage == Usage(7, 9)
