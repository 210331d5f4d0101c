"""Claude's replies, over a real socket and through the real SDK."""

import asyncio
import logging

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthropic_asking import KEY, asking, backend, block, call, reply, start, stop, text
from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.anthropic import AnthropicBackend
from ollama_bridge.backends.anthropic_stream import Reader
from ollama_bridge.backends.anthropic_words import PAUSE, STOP_REASONS
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.sse import SseReader
from ollama_bridge.chat import Message, Tool, singly
from ollama_bridge.errors import (
    UpstreamBroken,
    UpstreamBusy,
    UpstreamError,
    UpstreamRejected,
    UpstreamUnreachable,
)
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, ToolCall, Usage
from upstream import Upstream, split_at_random, sse

FAILURES = Failures(
    ProviderSettings("claude", "anthropic"), "http://x", "ANTHROPIC_API_KEY", anthropic.AnthropicError
)
THINKING = block(
    0,
    "thinking",
    {"type": "thinking_delta", "thinking": "Let me "},
    {"type": "thinking_delta", "thinking": "see."},
    {"type": "signature_delta", "signature": "c2ln"},
    thinking="",
    signature="",
)
WHOLE = [
    start(input_tokens=10, cache_read_input_tokens=200, cache_creation_input_tokens=30, output_tokens=1),
    {"type": "ping"},
    *THINKING,
    *text(1, "It is ", "", "in Pärís 🗼."),
    *call(2, "look", "", '{"city": "Par', 'is", "n": 2}'),
    *call(3, "now", id_="toolu_2"),
    *stop("tool_use", 42, stop_sequence=None),
]
EVENTS = [
    ThinkingDelta("Let me "),
    ThinkingDelta("see."),
    TextDelta("It is "),
    TextDelta("in Pärís 🗼."),
    ToolCall("toolu_1", "look", {"city": "Paris", "n": 2}),
    ToolCall("toolu_2", "now", {}),
    Finish(
        "tool_calls",
        Usage(240, 42, 200, 30),
        "tool_use",
        b'["anthropic","claude-test",'
        b'[[0,0,0,{"type":"thinking","thinking":"Let me see.","signature":"c2ln"}]]]',
    ),
]


def read(*payloads):
    reader = Reader(FAILURES, "m")
    return [event for payload in payloads for event in reader.feed(payload)]


async def failing(body, **script):
    """The error that an answer makes, and what came before it."""
    seen = []
    async with Upstream() as upstream:
        upstream.reply(body, **script)
        claude = backend(upstream.url)
        events = singly(claude.chat(asking()))
        with pytest.raises(UpstreamError) as caught:  # noqa: PT012 - the events before the error count as well
            while True:
                seen.append(await anext(events))
        await claude.aclose()
    return caught.value, seen


# ------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("seed", range(6))
async def test_a_reply_is_the_same_however_the_bytes_arrive(seed):
    """Text, thinking, tools and usage, whatever the borders of the writes."""
    async with Upstream() as upstream:
        upstream.reply(split_at_random(sse(*WHOLE), seed), gap_s=0.0005)
        claude = backend(upstream.url)
        assert await reply(claude) == EVENTS
        await claude.aclose()


@given(st.lists(st.integers(1, 60), min_size=1))
def test_a_reply_is_the_same_wherever_it_is_cut(sizes):
    """The same sans I/O, at any borders at all."""
    import orjson

    wire, bytes_read, reader, events = sse(*WHOLE), SseReader(), Reader(FAILURES, "claude-test"), []
    turn = 0
    while wire:
        size = sizes[turn % len(sizes)]
        turn += 1
        for payload in bytes_read.feed(wire[:size]):
            events += reader.feed(orjson.loads(payload))
        wire = wire[size:]
    assert events == EVENTS


@pytest.mark.parametrize("reason", [*(STOP_REASONS.keys() - {PAUSE}), "brand_new", None])
def test_stop_reasons(reason):
    """By the table; what is unknown is an ordinary stop."""
    assert read(start(), *text(0, "x"), *stop(reason))[-1] == Finish(
        STOP_REASONS.get(reason, "stop"), Usage(3, 7), reason or ""
    )


def test_blocks_of_unknown_kinds_lose_no_text():
    """Server tools, citations and redacted thinking pass in silence; text in a block yet unknown is text."""
    events = read(
        start(),
        *block(0, "redacted_thinking", data="xyz"),
        *block(1, "server_tool_use", {"type": "input_json_delta", "partial_json": "{"}, id="s", name="web"),
        *block(2, "web_search_tool_result", tool_use_id="s", content=[]),
        *block(
            3,
            "text",
            {"type": "text_delta", "text": "so"},
            {"type": "citations_delta", "citation": {"url": "https://x"}},
            text="And ",
            citations=[],
        ),
        *block(4, "hologram", {"type": "text_delta", "text": " it is"}, {"type": "glow", "watts": 3}),
        {"type": "brand_new_event", "data": 1},
        *stop(),
    )
    assert [event.text for event in events[:-1]] == ["And ", "so", " it is"]


def test_arguments_given_at_once_are_taken():
    """Some compatible servers put the whole input into the block's start."""
    events = read(start(), *block(0, "tool_use", id="", name="look", input={"q": 1}), *stop("tool_use"))
    assert events[0].arguments == {"q": 1}
    assert events[0].id


def test_a_call_cut_off_at_the_limit_is_left_out():
    """Half of its arguments would run a tool with nonsense; the finish says why it is missing."""
    events = read(start(), *text(0, "x"), *call(1, "look", '{"city": "Par'), *stop("max_tokens"))
    assert events == [TextDelta("x"), Finish("length", Usage(3, 7), "max_tokens")]


@pytest.mark.parametrize("pieces", [['{"city": '], ["[1]"], ["nonsense"]])
def test_arguments_that_are_no_object_are_a_broken_reply(pieces):
    """Without a token limit to blame, the error names the tool."""
    with pytest.raises(UpstreamBroken, match="'look'"):
        read(start(), *call(0, "look", *pieces), *stop("tool_use"))


def test_a_refusal_without_words_gets_them():
    """An empty answer looks like a fault; the provider's explanation, or a sentence of ours, is shown."""
    explained = stop("refusal", stop_details={"type": "refusal", "explanation": "Too dangerous."})
    assert read(start(), *explained)[0] == TextDelta("Too dangerous.")
    assert read(start(), *stop("refusal"))[0] == TextDelta("The model declined to answer.")
    assert [type(event) for event in read(start(), *text(0, "I"), *explained)] == [TextDelta, Finish]


def test_usage_counts_the_cache_as_input():
    """Anthropic reports cached tokens beside `input_tokens`, ours are a part of it; reasoning is one of output."""
    details = {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}, "input_tokens": None}
    events = read(
        start(input_tokens=1, cache_read_input_tokens=20, cache_creation_input_tokens=300),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": details},
        {"type": "message_stop"},
    )
    assert events == [Finish("stop", Usage(321, 9, 20, 300, 4), "end_turn")]


async def test_renamed_tools_come_back_under_their_own_name():
    """`files.read` is no name for Anthropic; the client's tool is called nevertheless."""
    async with Upstream() as upstream:
        upstream.reply(sse(start(), *call(0, "files_read", "{}"), *stop("tool_use")))
        claude = backend(upstream.url)
        events = await reply(claude, asking(tools=(Tool("files.read"),)))
        assert upstream.requests[0].json["tools"][0]["name"] == "files_read"
        assert events[0].name == "files.read"
        await claude.aclose()


# -------------------------------------------------------------------------------------------- faults

HALF = sse(start(), *text(0, "Hel"))


async def unfinished(body, **script):
    async with Upstream() as upstream:
        upstream.reply(body, **script)
        claude = backend(upstream.url)
        events = await reply(claude)
        await claude.aclose()
    return events


@pytest.mark.parametrize(
    "tail", [b"", b'event: message_delta\ndata: {"type": "mess', b"event: message_stop\n"]
)
async def test_an_end_before_the_end_has_no_finish(tail):
    """A clean end of the body, even inside an event, is no whole answer: the `complete` policy tells it."""
    assert await unfinished(HALF + tail) == [TextDelta("Hel")]


async def test_a_last_event_without_its_blank_line_counts():
    """It was whole, so nothing is missing."""
    assert (await unfinished(sse(*WHOLE).removesuffix(b"\n\n")))[-1] == EVENTS[-1]


@pytest.mark.parametrize("then", ["cut", "reset"])
async def test_a_connection_lost_in_the_middle_is_a_broken_reply(then):
    """The transport's own exception, which anthropic does not wrap."""
    error, seen = await failing(HALF, then=then)
    assert isinstance(error, UpstreamBroken)
    assert "claude: model 'claude-test'" in str(error)
    assert seen == [TextDelta("Hel")]


@pytest.mark.parametrize(
    "odd",
    [
        b"{not json",
        b"[]",
        b"7",
        b"{}",
        b'{"type": []}',
        b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 5}}',
        b'{"type": "content_block_delta", "index": 0, "delta": "x"}',
        b'{"type": "content_block_start", "index": 0, "content_block": null}',
        b'{"type": "message_start", "message": "x"}',
        b"\xff\xfe",
    ],
)
async def test_an_event_that_makes_no_sense_is_a_broken_reply(odd):
    """Malformed JSON or a field of the wrong type: what came before is delivered, then a clean error."""
    error, seen = await failing(HALF + b"data: " + odd + b"\n\n")
    assert isinstance(error, UpstreamBroken)
    assert seen == [TextDelta("Hel")]


async def test_an_error_event_is_classified_by_its_type():
    """The status is 200; overloaded is overloaded all the same."""
    error, seen = await failing(
        HALF + sse({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    )
    assert isinstance(error, UpstreamBusy)
    assert "Overloaded" in str(error)
    assert seen == [TextDelta("Hel")]


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"<html>Sign in to the hotel</html>", "text/html; charset=utf-8", UpstreamBroken),
        (b'{"type": "error", "error": {"type": "rate_limit_error"}}', "application/json", UpstreamBusy),
        (
            b'{"object": "error", "message": "no such thing", "code": 404}',
            "application/json",
            UpstreamRejected,
        ),
        (b'{"content": []}', "application/json", UpstreamBroken),
        (b"", "text/plain", UpstreamBroken),
    ],
)
async def test_a_200_that_is_no_event_stream_is_named(body, kind, expected):
    """A captive portal's page or a JSON error would be an empty answer to the SDK."""
    error, seen = await failing(body, headers={"content-type": kind})
    assert isinstance(error, expected)
    assert seen == []
    if expected is UpstreamBroken:
        assert kind.split(";")[0] in str(error)


@pytest.mark.parametrize(
    ("status", "expected", "shown"),
    [
        (400, UpstreamRejected, 400),
        (401, UpstreamRejected, 502),
        (403, UpstreamRejected, 502),
        (404, UpstreamRejected, 404),
        (413, UpstreamRejected, 400),
        (429, UpstreamBusy, 429),
        (500, UpstreamBroken, 502),
        (529, UpstreamBusy, 503),
    ],
)
async def test_statuses_reach_us_through_the_sdk(status, expected, shown):
    """Each with the provider's words and the time to wait, after exactly one request."""
    async with Upstream() as upstream:
        upstream.reply(
            b'{"type": "error", "error": {"type": "x", "message": "because of sk-ant-api03-abcdefgh"}}',
            status=status,
            headers={"content-type": "application/json", "retry-after": "3"},
        )
        claude = backend(upstream.url)
        with pytest.raises(expected) as caught:
            await reply(claude)
        await claude.aclose()
    assert caught.value.status == shown
    assert caught.value.retry_after_s == 3.0
    assert "because of ***" in str(caught.value)
    assert len(upstream.requests) == 1


async def test_a_refused_connection_names_the_address():
    """Nobody listens: the message says where."""
    async with Upstream() as upstream:
        url = upstream.url
    claude = backend(url)
    with pytest.raises(UpstreamUnreachable, match=url):
        await reply(claude)
    await claude.aclose()


async def test_a_connection_closed_before_any_answer_may_be_tried_again():
    """A server restarting: no status, no byte."""

    async def hang_up(_reader, writer):
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    claude = backend(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(UpstreamError) as caught:
        await reply(claude)
    assert caught.value.retryable
    await claude.aclose()
    server.close()


async def test_without_a_key_nothing_is_sent():
    """The message says which variable to set."""
    async with Upstream() as upstream:
        claude = AnthropicBackend(ProviderSettings("claude", "anthropic", (), upstream.url))
        with pytest.raises(UpstreamRejected, match="set ANTHROPIC_API_KEY"):
            await reply(claude)
        assert upstream.connections == 0
        await claude.aclose()


# ------------------------------------------------------------------------------------------- leaving


@pytest.mark.parametrize("head_delay_s", [0, 3600])
async def test_leaving_before_the_first_event_closes_the_connection(head_delay_s):
    """Whether the provider has answered with headers or with nothing at all."""
    async with Upstream() as upstream:
        upstream.reply(b": ping\n\n", then="stall", head_delay_s=head_delay_s)
        claude = backend(upstream.url)
        task = asyncio.ensure_future(reply(claude))
        await upstream.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await upstream.closed_early.wait()
        await claude.aclose()


@pytest.mark.parametrize("how", ["aclose", "cancel"])
async def test_leaving_after_the_first_event_closes_the_connection(how):
    """Closing the generator, and cancelling who waits for the next event."""
    async with Upstream() as upstream:
        upstream.reply(HALF, then="stall")
        claude = backend(upstream.url)
        events = singly(claude.chat(asking()))
        assert await anext(events) == TextDelta("Hel")
        if how == "aclose":
            await events.aclose()
        else:
            task = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await upstream.closed_early.wait()
        await claude.aclose()


# ------------------------------------------------------------------------------------------- secrecy


async def test_neither_prompts_nor_keys_are_logged(caplog, monkeypatch):
    """At DEBUG the SDK logs request bodies and headers; it is held at WARNING, whatever the environment says."""
    monkeypatch.setenv("ANTHROPIC_LOG", "debug")
    caplog.set_level(logging.DEBUG)
    async with Upstream() as upstream:
        upstream.reply(sse(*WHOLE))
        claude = backend(upstream.url)
        await reply(claude, asking(Message("user", "my secret prompt")))
        await claude.aclose()
    assert "secret prompt" not in caplog.text
    assert KEY not in caplog.text
    assert KEY not in repr(ProviderSettings("x", "anthropic", (KEY,)))
