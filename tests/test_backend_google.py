"""Gemini, through the real google-genai over loopback, on both of its request paths."""

import asyncio
import importlib.util
import json
import os
import socket
from contextlib import aclosing, asynccontextmanager

import aiohttp
import pytest
import structlog
from google.genai import errors as genai_errors
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.backends import ProviderSettings, google_paths
from ollama_bridge.backends.google import GoogleBackend, GoogleFailures
from ollama_bridge.backends.google_stream import GenerateReader
from ollama_bridge.backends.google_words import FINISH_REASONS
from ollama_bridge.chat import ChatRequest, Message, Rules, Target, Tool, singly
from ollama_bridge.errors import (
    InvalidRequest,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamError,
    UpstreamRejected,
    UpstreamUnreachable,
)
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, TokenLogprob, ToolCall, Usage
from shared import SHARED
from upstream import Upstream, split_at_random, sse

KEY = "AIzaSyD-not-a-real-key-at-all-0123456789"
TARGET = Target("google", "gemini-3-flash", rules=Rules(thinking=frozenset({"level"})))
HELLO = ChatRequest("gemini", (Message("user", "Hello"),), target=TARGET)


@pytest.fixture(params=["lower", "typed"])
def path(request, monkeypatch):
    """Each test that takes this runs on both request paths."""
    if request.param == "typed":
        monkeypatch.setattr(google_paths, "SDK_MINOR", "0.0.")
    return request.param


@asynccontextmanager
async def gemini(upstream, **settings):
    fields = {"api_keys": (KEY,), "base_url": upstream and upstream.url} | settings
    backend = GoogleBackend(ProviderSettings("google", "google", **fields))
    try:
        yield backend
    finally:
        await backend.aclose()


async def ask(backend, request=HELLO):
    async with aclosing(singly(backend.chat(request))) as events:
        return [event async for event in events]


async def reply_of(body, request=HELLO, **script):
    async with Upstream() as upstream, gemini(upstream) as backend:
        upstream.reply(body, **script)
        return await ask(backend, request)


def frame(*parts, finish=None, usage=None, **more):
    candidate = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    found = {"candidates": [candidate], "responseId": "r1", **more}
    if usage:
        found["usageMetadata"] = usage
    return json.dumps(found).encode()


WHOLE = sse(
    frame({"text": "Let me see…", "thought": True}),
    frame({"text": "Grüße "}),
    frame({"text": "🎉", "thoughtSignature": "c2ln"}, {"functionCall": {"name": "add", "args": {"b": 1, "a": 2}}}),
    frame({"functionCall": {"name": "now", "id": "own"}}),
    frame(
        {"text": ""},
        finish="STOP",
        usage={
            "promptTokenCount": 10,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 3,
            "cachedContentTokenCount": 4,
            "totalTokenCount": 18,
        },
    ),
)  # fmt: skip
USAGE = Usage(input_tokens=10, output_tokens=8, cached_read_tokens=4, reasoning_tokens=3)


@pytest.mark.parametrize("seed", range(5))
async def test_a_whole_reply(path, seed):
    """Everything Gemini says arrives, whatever the borders of the reads."""
    events = await reply_of(split_at_random(WHOLE, seed))
    made_up = events[3].id
    assert made_up.startswith("call_")
    assert events == [
        ThinkingDelta("Let me see…"),
        TextDelta("Grüße "),
        TextDelta("🎉"),
        ToolCall(made_up, "add", {"b": 1, "a": 2}),
        ToolCall("own", "now", {}),
        Finish(
            "tool_calls",
            USAGE,
            "STOP",
            b'["google","gemini-3-flash",[[0,6,1,{"thoughtSignature":"c2ln"}]]]',
        ),
    ]
    assert list(events[3].arguments) == ["b", "a"]


async def test_the_request(path):
    """The key travels in its header, the SDK names itself, the body is ours to the letter."""
    request = ChatRequest(
        "gemini",
        (Message("system", "S"), Message("user", "Hello")),
        options={"seed": 1},
        target=TARGET,
    )
    async with Upstream() as upstream, gemini(upstream, headers={"x-extra": "1"}) as backend:
        upstream.reply(WHOLE)
        await ask(backend, request)
        await ask(backend, request)
    seen = upstream.requests[0]
    assert (seen.method, seen.path) == ("POST", "/v1beta/models/gemini-3-flash:streamGenerateContent?alt=sse")
    assert seen.headers["x-goog-api-key"] == KEY
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["x-extra"] == "1"
    assert "google-genai-sdk" in seen.headers["user-agent"]
    assert KEY not in seen.path
    assert seen.json == {
        "systemInstruction": {"parts": [{"text": "S"}]},
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
        "generationConfig": {"seed": 1},
    }
    assert upstream.connections == 1, "the connection is used again"


async def test_a_path_in_the_base_url_and_a_full_model_name(path):
    async with Upstream() as upstream, gemini(upstream, base_url=upstream.url + "/gate/") as backend:
        upstream.reply(WHOLE)
        await ask(backend, ChatRequest("x", HELLO.messages, target=Target("google", "tunedModels/a b")))
    assert upstream.requests[0].path == "/gate/v1beta/tunedModels/a%20b:streamGenerateContent?alt=sse"


async def test_a_renamed_tool_is_called_by_its_own_name(path):
    """The client never learns that Gemini knew its tool by another name."""
    request = ChatRequest("gemini", HELLO.messages, tools=(Tool("1.go"),), target=TARGET)
    call, _ = await reply_of(sse(frame({"functionCall": {"name": "_1_go"}}, finish="STOP")), request)
    assert call.name == "1.go"


@pytest.mark.parametrize("text", ["\ud800", 2**70])
async def test_what_json_cannot_hold_is_the_clients_mistake(path, text):
    call = ToolCall("1", "f", {"x": text})
    messages = (*HELLO.messages, Message("assistant", tool_calls=(call,)))
    with pytest.raises(InvalidRequest):
        await reply_of(WHOLE, ChatRequest("gemini", messages, target=TARGET))


async def test_cookies_are_not_kept(path):
    """What one person's reply sets must not travel with the next one's request."""
    async with Upstream() as upstream, gemini(upstream) as backend:
        upstream.reply(WHOLE, headers={"content-type": "text/event-stream", "set-cookie": "a=b"})
        await ask(backend)
        await ask(backend)
    assert "cookie" not in upstream.requests[1].headers


async def test_large_response_headers(path):
    headers = {"content-type": "text/event-stream", "x-policy": "p" * 20_000}
    assert (await reply_of(WHOLE, headers=headers))[-1].usage == USAGE


async def test_dropped_options_make_one_line(path):
    """One line names what was dropped; no line holds what was asked."""
    request = ChatRequest("x", (Message("user", "secret words"),), options={"top_k": 1}, target=TARGET)
    async with Upstream() as upstream, gemini(upstream) as backend:
        upstream.reply(WHOLE)
        await backend.warm()
        with structlog.testing.capture_logs() as lines:
            await ask(backend, request)
    assert [(line["event"], line["options"]) for line in lines] == [("options dropped", ["top_k"])]


# ---------------------------------------------------------------------------------------------- recordings


def recordings():
    if SHARED is None:
        return []
    folders = [SHARED / "recordings" / name for name in ("gemini", "vertex")]
    return sorted(path for folder in folders for path in folder.glob("*generate-stream*"))


@pytest.mark.skipif(SHARED is None, reason="../shared/recordings is not here")
@pytest.mark.parametrize("recording", recordings(), ids=lambda file: file.stem)
async def test_a_recorded_reply(path, recording):
    """What Gemini really said comes out as an independent reader of the recordings understands it."""
    spec = importlib.util.spec_from_file_location("check", SHARED / "recordings" / "check.py")
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    found = json.loads(recording.read_text())
    response = found["response"]
    body = response["body"].encode()
    content_type = response["headers"].get("content-type", "text/event-stream")
    script = {"status": response["status"], "headers": {"content-type": content_type}}
    if response["status"] != 200:
        with pytest.raises(UpstreamError) as caught:
            await reply_of(body, **script)
        assert caught.value.status == {400: 502, 404: 404, 503: 503}[response["status"]]
        return
    facts, _ = check.facts(found)
    if path == "typed" and (facts["tools"] or body.startswith(b"[")):
        pytest.skip("google-genai's typed path takes neither partial arguments nor a plain array")
    *events, finish = await reply_of(split_at_random(body, 1), **script)
    usage = facts["usage"]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == facts["text"]
    assert "".join(event.text for event in events if isinstance(event, ThinkingDelta)) == facts["thinking"]
    assert [
        {"name": event.name, "args": event.arguments} for event in events if isinstance(event, ToolCall)
    ] == [{"name": tool["name"], "args": tool["args"] or {}} for tool in facts["tools"]]
    assert finish.detail == facts["finish"]
    assert finish.usage.cached_read_tokens == facts["cached"]
    assert finish.usage.input_tokens == usage.get("promptTokenCount", 0) + usage.get(
        "toolUsePromptTokenCount", 0
    )


# ------------------------------------------------------------------------------------------------- leaving


@pytest.mark.parametrize("received", [0, 1])
async def test_leaving_closes_the_connection(path, received):
    """Before the first event or after it: who cancels the reader closes Google's connection."""
    async with Upstream() as upstream, gemini(upstream) as backend:
        upstream.reply(sse(frame({"text": "a"})) if received else b"", then="stall")
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


async def test_closing_the_reply_closes_the_connection(path):
    """A reader that simply stops, in the middle of a burst, leaves nothing open."""
    async with Upstream() as upstream, gemini(upstream) as backend:
        upstream.reply(sse(frame({"text": "a"}), frame({"text": "b"})), then="stall")
        async with aclosing(singly(backend.chat(HELLO))) as events:
            assert await anext(events) == TextDelta("a")
        await asyncio.wait_for(upstream.closed_early.wait(), 5)


async def test_leaving_before_the_response_begins(path):
    async with Upstream() as upstream, gemini(upstream) as backend:
        upstream.reply(WHOLE, head_delay_s=3600)
        asking = asyncio.create_task(ask(backend))
        await upstream.asked.wait()
        asking.cancel()
        await asyncio.wait_for(upstream.closed_early.wait(), 5)


# -------------------------------------------------------------------------------------------------- faults

TEXT = sse(frame({"text": "Hel"}))


async def test_a_stream_that_just_ends_has_no_finish(path):
    """A truncated answer never looks whole: no `Finish` is made up."""
    assert await reply_of(TEXT) == [TextDelta("Hel")]
    assert await reply_of(b"") == []


async def test_a_stream_that_ends_inside_an_event_has_no_finish():
    assert await reply_of(TEXT + b'data: {"candidates": [{"conte') == [TextDelta("Hel")]


@pytest.mark.parametrize("then", ["cut", "reset"])
async def test_a_broken_connection(path, then):
    with pytest.raises(UpstreamBroken, match="cut off"):
        await reply_of(TEXT, then=then)


async def test_malformed_json(path):
    with pytest.raises(UpstreamBroken, match="malformed JSON"):
        await reply_of(TEXT + b"data: {nonsense}\n\n")


async def test_an_error_in_the_stream(path):
    """An overload in the middle of the answer is one, although the HTTP status said 200."""
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    with pytest.raises(UpstreamBusy, match="overloaded") as caught:
        await reply_of(TEXT + sse(json.dumps(error)))
    assert caught.value.status == 503


async def test_comments_and_empty_data_are_ignored():
    wire = (
        b": ping\n\ndata:\n\n" + TEXT + b": ping\n\n" + sse(frame({"text": "lo"}, finish="STOP"), done=True)
    )
    events = await reply_of(wire)
    assert [event.text for event in events[:-1]] == ["Hel", "lo"]


async def test_a_web_page_instead_of_a_stream():
    """Hotel networks and wrong addresses answer 200 with HTML; an empty answer would hide that."""
    with pytest.raises(UpstreamBroken, match=r"text/html.*providers\.google\.base_url"):
        await reply_of(b"<html>", headers={"content-type": "text/html"})


async def test_an_error_instead_of_a_stream():
    error = {"error": {"message": "slow down", "status": "RESOURCE_EXHAUSTED"}}
    with pytest.raises(UpstreamBusy, match="slow down"):
        await reply_of(json.dumps(error).encode(), headers={"content-type": "application/json"})


async def test_a_plain_array_is_read_as_well():
    """What Gemini sends when a proxy loses `alt=sse`."""
    body = b"[" + frame({"text": "a"}) + b",\n" + frame({"text": "b"}, finish="STOP") + b"]"
    events = await reply_of(body, headers={"content-type": "application/json; charset=UTF-8"})
    assert [event.text for event in events[:-1]] == ["a", "b"]


async def test_unknown_fields_are_ignored(path):
    wire = sse(frame({"text": "a", "new": 1}, {"newPart": {}}, finish="STOP", brandNew={"x": [1]}))
    assert [event for event in await reply_of(wire) if isinstance(event, TextDelta)] == [TextDelta("a")]


@pytest.mark.parametrize(
    "odd",
    [
        [],
        3,
        "text",
        None,
        {"candidates": 3},
        {"candidates": [3]},
        {"candidates": [{"content": "x"}]},
        {"candidates": [{"content": {"parts": ["x"]}}]},
        {"candidates": [{"content": {"parts": [{"text": 5}]}}]},
        {"candidates": [{"content": {"parts": [{"functionCall": 5}]}}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {}}]}}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": 7}}]}}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": [1]}}]}}]},
        {"promptFeedback": 1},
    ],
    ids=json.dumps,
)
async def test_odd_shapes_are_a_broken_reply(odd):
    """Whatever type stands where another is expected: a clean error, never a traceback."""
    with pytest.raises(UpstreamBroken, match="unknown shape"):
        await reply_of(sse(json.dumps(odd)))


async def test_odd_counts_count_nothing():
    usage = {"promptTokenCount": "ten", "candidatesTokenCount": None}
    assert (await reply_of(sse(frame({"text": "a"}, finish="STOP", usage=usage))))[-1].usage == Usage()


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["candidates", "content", "parts", "text", "functionCall", "name", "args", "usageMetadata", "promptFeedback", "finishReason", "error", "partialArgs", "jsonPath"]), inner)))  # fmt: skip
def test_no_json_at_all_is_a_traceback(found):
    """The reader raises nothing but our own errors."""
    reader = reader_of()
    try:
        reader.feed(found)
        reader.close()
    except UpstreamError:
        pass


# ------------------------------------------------------------------------------------------ how it finishes


def reader_of(**options):
    failures = GoogleFailures(ProviderSettings("google", "google"), "", "K", genai_errors.APIError)
    return GenerateReader(failures, "m", **options)


def finish_of(word, *parts):
    reader = reader_of()
    events = reader.feed(json.loads(frame(*parts, finish=word)))
    return [*events, *reader.close()]


@pytest.mark.parametrize("word", [word for word, reason in FINISH_REASONS.items() if reason == "broken"])
def test_a_failure_of_the_model_is_an_error(word):
    """A malformed tool call can be asked for again; shown as an answer it would be a lie."""
    with pytest.raises(UpstreamBroken, match=word):
        finish_of(word, {"text": "a"})


@pytest.mark.parametrize("word", [word for word, reason in FINISH_REASONS.items() if reason != "broken"])
def test_every_other_reason_finishes(word):
    said, finish = finish_of(word, {"text": "a"})
    assert said == TextDelta("a")
    assert (finish.reason, finish.detail) == (FINISH_REASONS[word], word)


@pytest.mark.parametrize(("word", "reason"), [("SAFETY", "refusal"), ("A_REASON_OF_NEXT_YEAR", "stop")])
def test_a_silent_end_explains_itself(word, reason):
    """A client shows something, even of an end of a kind we do not know yet."""
    explanation, finish = finish_of(word)
    assert word in explanation.text
    assert finish.reason == reason


@pytest.mark.parametrize("reason", [reason.value for reason in types.BlockedReason])
async def test_a_blocked_prompt_explains_itself(reason):
    """A blocked prompt has no candidates at all; an empty answer would say nothing."""
    blocked = {"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 7}}
    explanation, finish = await reply_of(sse(json.dumps(blocked)))
    assert reason in explanation.text
    assert finish == Finish("refusal", Usage(7), reason)


def test_a_reason_on_every_frame_finishes_once():
    """Some models say STOP with each frame; only the end of the stream is the end."""
    reader = reader_of()
    for text in "ab":
        assert reader.feed(json.loads(frame({"text": text}, finish="STOP"))) == [TextDelta(text)]
    assert reader.close() == [Finish("stop", Usage(), "STOP")]


def test_a_call_that_comes_in_parts_is_one_call():
    """Vertex streams arguments by JSON path; a call is passed on when it is whole."""
    pieces = [
        {"name": "f", "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.a.b", "stringValue": "x", "willContinue": True}], "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.a.b", "stringValue": "y"}], "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.l[0].n", "numberValue": 1}], "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.l[1]", "boolValue": True}, {"jsonPath": "$.z"}], "willContinue": True},
        {},
    ]  # fmt: skip
    reader = reader_of()
    events = [event for piece in pieces for event in reader.feed(json.loads(frame({"functionCall": piece})))]
    assert [event.arguments for event in events] == [{"a": {"b": "xy"}, "l": [{"n": 1}, True], "z": None}]


def test_half_a_call_is_not_made():
    """A call cut off by the token limit is dropped, by anything else an error."""
    half = {"functionCall": {"name": "f", "willContinue": True}}
    assert finish_of("MAX_TOKENS", half) == [Finish("length", Usage(), "MAX_TOKENS")]
    with pytest.raises(UpstreamBroken, match="inside a tool call"):
        finish_of("STOP", half)


def test_log_probabilities():
    result = {
        "chosenCandidates": [{"token": "a", "logProbability": -0.1}, {"token": "b", "logProbability": -2}],
        "topCandidates": [{"candidates": [{"token": "a", "logProbability": -0.1}]}],
    }
    found = json.loads(frame({"text": "t", "thought": True}, {"text": "ab"}))
    found["candidates"][0]["logprobsResult"] = result
    expected = (TokenLogprob("a", -0.1, (TokenLogprob("a", -0.1),)), TokenLogprob("b", -2))
    assert reader_of(logprobs=True).feed(found)[1] == TextDelta("ab", expected)
    assert reader_of().feed(found)[1] == TextDelta("ab")


def test_made_up_ids_differ_between_calls_and_replies():
    call = {"functionCall": {"name": "f"}}
    first, second = reader_of().feed(json.loads(frame(call, call)))
    other = reader_of().feed(json.loads(frame(call, responseId="r2")))[0]
    assert len({first.id, second.id, other.id}) == 3


# -------------------------------------------------------------------------------------------------- errors


def google_error(code, status, *details, message="Words of Google."):
    return json.dumps(
        {"error": {"code": code, "message": message, "status": status, "details": list(details)}}
    ).encode()


BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}


@pytest.mark.parametrize(
    ("body", "status", "kind", "shown", "wait_s", "words"),
    [
        (google_error(400, "INVALID_ARGUMENT"), 400, UpstreamRejected, 400, None, "Words of Google"),
        (google_error(400, "INVALID_ARGUMENT", BAD_KEY), 400, UpstreamRejected, 502, None, "GEMINI_API_KEY"),
        (google_error(401, "UNAUTHENTICATED"), 401, UpstreamRejected, 502, None, "GEMINI_API_KEY"),
        (google_error(403, "PERMISSION_DENIED"), 403, UpstreamRejected, 502, None, "GEMINI_API_KEY"),
        (google_error(404, "NOT_FOUND"), 404, UpstreamRejected, 404, None, "does not know this model"),
        (google_error(429, "RESOURCE_EXHAUSTED", RETRY), 429, UpstreamBusy, 429, 34.5, "rate limit"),
        (b"[" + google_error(429, "RESOURCE_EXHAUSTED", RETRY) + b"]", 429, UpstreamBusy, 429, 34.5, "rate"),
        (google_error(500, "INTERNAL"), 500, UpstreamBroken, 502, None, "failed"),
        (google_error(503, "UNAVAILABLE"), 503, UpstreamBusy, 503, None, "overloaded"),
        (google_error(504, "DEADLINE_EXCEEDED"), 504, UpstreamUnreachable, 504, None, "timed out"),
        (b'"odd"', 500, UpstreamBroken, 502, None, "HTTP 500"),
        (b"", 503, UpstreamBusy, 503, None, "overloaded"),
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
async def test_an_error_status(path, content_type, body, status, kind, shown, wait_s, words):
    """Each status has its class, its status for the client, its wait, and words that help."""
    with pytest.raises(UpstreamError, match=words) as caught:
        await reply_of(body, status=status, headers={"content-type": content_type})
    assert (type(caught.value), caught.value.status, caught.value.retry_after_s) == (kind, shown, wait_s)
    assert str(caught.value).startswith("google: model 'gemini-3-flash': ")


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [("text/html", UpstreamBusy), ("text/event-stream", UpstreamBusy), ("application/json", UpstreamBroken)],
)
async def test_an_error_without_json(path, content_type, kind):
    """A gateway's page is an error by its status; called JSON, the SDK stumbles over it, and it is broken."""
    with pytest.raises(UpstreamError) as caught:
        await reply_of(b"<html>{</html>", status=503, headers={"content-type": content_type})
    assert type(caught.value) is kind
    assert "html>" not in str(caught.value)


async def test_the_header_says_how_long_to_wait(path):
    headers = {"content-type": "application/json", "retry-after": "7"}
    with pytest.raises(UpstreamBusy) as caught:
        await reply_of(google_error(429, "RESOURCE_EXHAUSTED"), status=429, headers=headers)
    assert caught.value.retry_after_s == 7


async def test_an_error_holds_no_key(path):
    """Providers repeat keys; our errors do not, and nor does what a log would print behind them."""
    with pytest.raises(UpstreamError) as caught:
        await reply_of(google_error(400, "INVALID_ARGUMENT", message=f"bad key {KEY}"), status=400)
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_a_refused_connection_is_told_at_once(path):
    """Google's own client would wait up to ten seconds and ask again; we do neither."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with gemini(None, base_url=url) as backend:
            with pytest.raises(UpstreamUnreachable, match="connection refused: is http://127"):
                await ask(backend)


async def test_a_failed_request_is_sent_once(path):
    async with Upstream() as upstream, gemini(upstream) as backend:
        upstream.reply(google_error(503, "UNAVAILABLE"), status=503)
        with pytest.raises(UpstreamBusy):
            await ask(backend)
        assert len(upstream.requests) == 1


async def test_a_host_that_does_not_answer_is_given_up(path):
    """The time to connect is bounded, although google-genai knows no such bound."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        fillers = []
        for _ in range(4):  # the accept queue is full now: further connections hang
            fillers.append(socket.socket())
            fillers[-1].setblocking(False)
            fillers[-1].connect_ex(deaf.getsockname())
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        async with gemini(None, base_url=url, connect_timeout_s=0.05) as backend:
            with pytest.raises(UpstreamUnreachable, match="in time"):
                await ask(backend)
        for filler in fillers:
            filler.close()


async def test_no_key_needs_no_network_to_find_out(path):
    async with Upstream() as upstream, gemini(upstream, api_keys=()) as backend:
        await backend.warm()
        with pytest.raises(UpstreamRejected, match=r"set GEMINI_API_KEY or providers\.google\.api_key"):
            await ask(backend)
        assert upstream.connections == 0


def classes_of(base):
    return {base}.union(*(classes_of(kind) for kind in base.__subclasses__()))


SDK_CLASSES = {
    kind
    for kind in vars(genai_errors).values()
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, Warning)
}


@pytest.mark.parametrize(
    "kind",
    sorted(SDK_CLASSES | classes_of(aiohttp.ClientError) | {TimeoutError, OSError, json.JSONDecodeError}, key=str),
)  # fmt: skip
def test_every_exception_is_mapped(kind):
    """Nothing that google-genai or aiohttp can raise gets past the backend as it is."""
    failures = GoogleBackendFailures()
    exc = kind.__new__(kind)
    for name, value in {"code": 500, "details": None, "message": None, "response": None}.items():
        if issubclass(kind, genai_errors.APIError):
            setattr(exc, name, value)
    with pytest.raises(UpstreamError), failures.mapped("m"):
        raise exc


def GoogleBackendFailures():  # noqa: N802 - reads as what it is
    return GoogleBackend(ProviderSettings("google", "google"))._failures


# --------------------------------------------------------------------------------------------- environment


async def test_the_environment_changes_nothing(path, monkeypatch):
    """Keys, addresses and proxies of the shell do not reach the request."""
    for name, value in {
        "GOOGLE_API_KEY": "wrong",
        "GEMINI_API_KEY": "wrong",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9",
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_GENAI_USE_ENTERPRISE": "true",
        "GOOGLE_CLOUD_PROJECT": "p",
        "GOOGLE_GENAI_API_VERSION": "v9",
        "GOOGLE_GENAI_CLIENT_MODE": "replay",
        "GOOGLE_GENAI_HTTP_CLIENT": "httpx",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv(name.lower(), value)
    before = dict(os.environ)
    async with Upstream() as upstream, gemini(upstream) as backend:
        upstream.reply(WHOLE)
        assert (await ask(backend))[-1].usage == USAGE
    assert upstream.requests[0].headers["x-goog-api-key"] == KEY
    assert upstream.requests[0].path.startswith("/v1beta/models/")
    assert dict(os.environ) == before


async def test_a_proxy_that_is_wanted_is_used(path, monkeypatch):
    """With `trust_env` the request goes to the proxy, and to nobody else."""
    async with Upstream() as proxy:
        proxy.reply(WHOLE)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with gemini(None, base_url="http://gemini.invalid", trust_env=True) as backend:
            await ask(backend)
    assert proxy.requests[0].path.startswith("http://gemini.invalid/v1beta/models/")
