"""Replies of /api/chat and /api/generate: their bytes, their clocks, and that nothing said is lost."""

import itertools
import json
import re
from datetime import UTC, datetime
from typing import get_args

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import blocks, without_times
from offered import ask
from ollama_bridge.errors import ModelNotFound, UpstreamBroken
from ollama_bridge.events import (
    Aside,
    Event,
    Finish,
    Line,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCall,
    Usage,
)
from ollama_bridge.surfaces import ollama
from ollama_bridge.surfaces.ollama import ChatEncoder, GenerateEncoder, decode_chat, decode_generate
from shared import SHARED

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
USAGE = Usage(input_tokens=11, output_tokens=4)


def ticking(step_ns=1_000_000, start_ns=5_000):
    """A clock that moves a millisecond each time it is asked."""
    return itertools.count(start_ns, step_ns).__next__


def chat_encoder(model="m", **clocks):
    return ChatEncoder(model, **{"now": lambda: NOON, "clock_ns": ticking(), **clocks})


def generate_encoder(model="m", **clocks):
    return GenerateEncoder(model, **{"now": lambda: NOON, "clock_ns": ticking(), **clocks})


def text_of(line):
    return line["message"]["content"] if "message" in line else line["response"]


def thinking_of(line):
    return line.get("message", line).get("thinking", "")


def calls_of(line):
    return line.get("message", line).get("tool_calls", [])


# The scripted runner behind the golden replies said this.
def _said(body):
    ask_for = json.dumps(body)
    if "THINK" in ask_for:
        yield from (ThinkingDelta("Let me "), ThinkingDelta("think."))
    if "TOOLS" in ask_for:
        yield TextDelta("Calling.")
        yield ToolCall("abc123", "get_weather", {"city": "Paris", "n": 2})
        yield ToolCall("def456", "get_weather", {"city": "<Rome>"})
    else:
        top = body.get("top_logprobs")
        for text in ("Hel", "lo <b>&"):
            token = text[:3].strip()
            others = (TokenLogprob(token, -0.25), TokenLogprob("x", -2.5)) if top else ()
            yield TextDelta(text, (TokenLogprob(token, -0.25, others),) if body.get("logprobs") else ())
    yield Finish("length" if "LEN" in ask_for else "stop", USAGE)


def _comparable(block):
    # Tools are streamed in the other of Ollama's two shapes: one call a line, before the last.
    words = ("MIDERR", "DIE", "trailing", '"TOOLS"')
    return block.status == 200 and not block.cut and not any(word in block.body.decode() for word in words)


GOLDEN = [block for name in ("t3", "t4") for block in blocks(name) if _comparable(block)]


@pytest.mark.skipif(SHARED is None, reason="no golden replies beside the project")
def test_the_golden_replies_were_found():
    """The files are read: otherwise the test below would test nothing."""
    assert len(GOLDEN) > 25


@pytest.mark.parametrize("block", GOLDEN, ids=lambda block: block.body.decode()[:60])
def test_replies_are_byte_for_byte_those_of_a_real_server(block):
    """Key order, what is absent, escapes and content types; only times, durations and context differ."""
    chat = block.path == "/api/chat"
    call = (decode_chat if chat else decode_generate)(block.body)
    request = ask(call)
    body = {key.lower(): value for key, value in json.loads(block.body).items()}
    encoder = (chat_encoder if chat else generate_encoder)(call.model)
    content_type = ollama.JSON
    if call.load:
        reply = ollama.load_reply(call)
    elif call.debug:
        reply = ollama.debug_reply(call, request)
    elif call.stream:
        reply = b"".join(map(encoder.encode, _said(body))).removesuffix(b"\n")
        content_type = ollama.NDJSON
    else:
        reply = encoder.whole(_said(body))
    assert without_times(reply.decode()) == without_times(block.reply)
    assert content_type == block.content_type


def test_the_lines_of_a_chat():
    """Every kind of line, byte for byte, with one tool call a line."""
    events = [
        ThinkingDelta("hm"),
        TextDelta("a\n\u2028"),
        ToolCall("c1", "f", {"b": 1, "a": {}}),
        ToolCall("c2", "g"),
        Finish("tool_calls", USAGE),
    ]
    start = b'{"model":"m","created_at":"T","message":{"role":"assistant","content":'
    assert without_times(b"".join(map(chat_encoder().encode, events)).decode()).encode() == b"".join(
        [
            start + b'"","thinking":"hm"},"done":false}\n',
            start + rb'"a\n\u2028"},"done":false}' + b"\n",
            start
            + b'"","tool_calls":[{"id":"c1","function":{"index":0,"name":"f","arguments":{"b":1,"a":{}}}}]},"done":false}\n',
            start
            + b'"","tool_calls":[{"id":"c2","function":{"index":1,"name":"g","arguments":{}}}]},"done":false}\n',
            start + b'""},"done":true,"done_reason":"stop","total_duration":0,"load_duration":0,'
            b'"prompt_eval_count":11,"prompt_eval_duration":0,"eval_count":4,"eval_duration":0}\n',
        ]
    )


def test_the_lines_of_a_generation():
    """The same for generate, where tool calls and logprobs come last."""
    token = TokenLogprob("a", -1.0)
    events = [
        ThinkingDelta("hm"),
        TextDelta("a", (token,)),
        ToolCall("c1", "f", {"x": 1}),
        Finish("length", USAGE),
    ]
    start = '{"model":"m","created_at":"T","response":'
    logprobs = '"logprobs":[{"token":"a","logprob":-1,"bytes":[97]}]'
    call = '"tool_calls":[{"id":"c1","function":{"index":0,"name":"f","arguments":{"x":1}}}]'
    end = (
        '"done":true,"done_reason":"length","context":[],"total_duration":0,"load_duration":0,'
        '"prompt_eval_count":11,"prompt_eval_duration":0,"eval_count":4,"eval_duration":0'
    )
    assert without_times(b"".join(map(generate_encoder().encode, events)).decode()).splitlines() == [
        start + '"","thinking":"hm","done":false}',
        start + '"a","done":false,' + logprobs + "}",
        start + '"","done":false,' + call + "}",
        start + '"",' + end + "}",
    ]
    whole = without_times(generate_encoder().whole(events).decode())
    assert whole == f'{start}"a","thinking":"hm",{end},{call},{logprobs}}}'


def test_raw_replies_have_no_context():
    """Only the others carry one, empty, for ai-sdk's provider demands it."""
    assert b'"context":[]' in generate_encoder().encode(Finish())
    assert b"context" not in generate_encoder(raw=True).encode(Finish())
    assert b"context" not in generate_encoder(raw=True).whole([Finish()])


@pytest.mark.parametrize(
    ("reason", "word"), {"stop": "stop", "length": "length", "tool_calls": "stop", "refusal": "stop"}.items()
)
def test_why_it_ended(reason, word):
    """Ollama says only stop or length."""
    assert json.loads(chat_encoder().encode(Finish(reason)))["done_reason"] == word


@pytest.mark.parametrize("encoder", [chat_encoder, generate_encoder])
def test_durations_are_those_of_the_clock(encoder):
    """From arrival to asking, to the first event, to the end: together the total."""
    clock = iter([1_000, 2_000, 52_000, 60_000, 152_000])
    made = encoder(clock_ns=clock.__next__, arrived_ns=500)
    made.encode(TextDelta("a"))
    made.encode(TextDelta("b"))
    last = json.loads(made.encode(Finish("stop", USAGE)))
    durations = {key: value for key, value in last.items() if key.endswith("_duration")}
    assert durations == {
        "total_duration": 151_500,
        "load_duration": 1_500,
        "prompt_eval_duration": 50_000,
        "eval_duration": 100_000,
    }


def test_no_duration_vanishes_and_a_missing_usage_is_replaced():
    """Zero would be left out, and clients that demand numbers would fail: at least 1 for what surely was."""
    made = chat_encoder(clock_ns=lambda: 7)
    made.add(TextDelta("a"))
    made.add(ThinkingDelta("b"))
    whole = json.loads(made.whole([Finish()]))
    assert [value for key, value in whole.items() if key.endswith("_duration")] == [1, 1, 1, 1]
    assert (whole["prompt_eval_count"], whole["eval_count"]) == (1, 2)
    assert "eval_count" not in json.loads(chat_encoder().encode(Finish()))


@pytest.mark.parametrize(
    ("now", "clock", "stamps"),
    [
        (NOON, [0, 0, 0, 0, 0], ["12:00:00Z", "12:00:00.000000001Z", "12:00:00.000000002Z"]),
        (NOON, [0, 0, 20_160_698, 500_000_000, 999_999_999], ["12:00:00.020160698Z", "12:00:00.5Z", "12:00:00.999999999Z"]),
        (NOON, [0, 0, 1, 59_000_000_000, 3_600_000_000_100], ["12:00:00.000000001Z", "12:00:59Z", "13:00:00.0000001Z"]),
        (NOON.replace(microsecond=999_999), [9, 9, 9, 1_009, 1_010], ["12:00:00.999999Z", "12:00:01Z", "12:00:01.000000001Z"]),
    ],
)  # fmt: skip
def test_times_are_written_as_go_writes_them_and_never_twice(now, clock, stamps):
    """RFC 3339 in UTC, nanoseconds without trailing zeros; the monotonic clock moves them on."""
    made = chat_encoder(now=lambda: now, clock_ns=iter(clock).__next__)
    lines = [json.loads(made.encode(TextDelta("x"))) for _ in stamps]
    assert [line["created_at"] for line in lines] == [f"2026-11-21T{stamp}" for stamp in stamps]


def test_single_replies_have_the_time_too():
    """Microseconds, as the wall clock gives them, trailing zeros trimmed."""
    call = decode_generate(b'{"model":"plain"}')
    made = ollama.load_reply(call, now=lambda: NOON.replace(microsecond=120))
    assert b'"created_at":"2026-11-21T12:00:00.00012Z"' in made
    assert b'"created_at":"2026-11-21T12:00:00Z"' in ollama.load_reply(call, now=lambda: NOON)


def test_logprobs_hold_what_json_can_say():
    """Bytes of the token; minus infinity becomes what OpenAI says for it; whole numbers have no point."""
    tokens = (TokenLogprob("é", float("-inf")), TokenLogprob("", 0.0, (TokenLogprob("b", -1e-7),)))
    line = chat_encoder().encode(TextDelta("é", tokens))
    assert line.endswith(
        '"logprobs":[{"token":"é","logprob":-9999,"bytes":[195,169]},'
        '{"token":"","logprob":0,"top_logprobs":[{"token":"b","logprob":-1e-7,"bytes":[98]}]}]}\n'.encode()
    )


def test_an_error_ends_a_stream_as_a_line():
    """One line with nothing but the message."""
    error = UpstreamBroken("cut <off>", provider="p", model="m")
    assert chat_encoder().error(error) == rb'{"error":"p: model ' + rb"'m': cut \u003coff\u003e" + b'"}\n'
    assert ollama.content_type_of_error(error, stream=True) == "application/json"
    assert ollama.content_type_of_error(error, stream=False) == ollama.JSON
    assert ollama.content_type_of_error(ModelNotFound("x"), stream=True) == ollama.JSON


def test_half_a_reply_is_not_shown_as_a_whole_one():
    """Without its Finish there is no object."""
    with pytest.raises(ValueError, match="Finish"):
        chat_encoder().whole([TextDelta("a")])
    with pytest.raises(ValueError, match="Finish"):
        chat_encoder().whole()


def test_a_debug_reply_shows_the_prompt():
    """Readable, with tools and calls, and the number of images."""
    body = {
        "model": "jinja",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "hi", "images": ["iVBORw0KGgo="]},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
            {"role": "tool", "content": "5"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "_debug_render_only": True,
    }
    call = decode_chat(orjson.dumps(body))
    reply = json.loads(ollama.debug_reply(call, ask(call)))
    assert reply["_debug_info"] == {
        "rendered_template": '<|tools|>[{"name":"f","description":"","parameters":{}}]<|system|>s<|user|>hi'
        '<|assistant|><|tool_call|>{"name":"f","arguments":{"a":1}}<|tool|>5<|assistant|>',
        "image_count": 1,
    }
    raw = decode_generate(b'{"model":"plain","prompt":"as it is","raw":true,"_debug_render_only":true}')
    reply = json.loads(ollama.debug_reply(raw, ask(raw)))
    assert list(reply) == ["model", "created_at", "response", "done", "_debug_info"]
    assert reply["_debug_info"] == {"rendered_template": "as it is"}


names = st.text(min_size=1)
logprobs = st.lists(
    st.builds(TokenLogprob, st.text(), st.floats(), st.lists(st.builds(TokenLogprob, st.text(), st.floats())).map(tuple)),
    max_size=2,
).map(tuple)  # fmt: skip
events = st.lists(
    st.builds(TextDelta, st.text(min_size=1), logprobs)
    | st.builds(ThinkingDelta, st.text(min_size=1))
    | st.builds(ToolCall, names, names, st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
)
finishes = st.builds(
    Finish,
    st.sampled_from(["stop", "length", "tool_calls", "refusal"]),
    st.builds(Usage, st.integers(0, 9), st.integers(0, 9)),
)


@pytest.mark.parametrize("encoder", [chat_encoder, generate_encoder])
@settings(deadline=None)
@given(said=events, finish=finishes, model=st.text())
def test_nothing_is_lost_and_the_whole_is_the_fold_of_the_lines(encoder, said, finish, model):
    """One object a line, done once and last, time moving on; put together they are the reply in one piece."""
    made = encoder(model)
    encoded = [made.encode(event) for event in [*said, finish]]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in encoded)
    lines = [json.loads(line) for line in encoded]
    assert [line["done"] for line in lines] == [False] * len(said) + [True]
    assert all(line["model"] == model for line in lines)
    times = [line["created_at"].removesuffix("Z").ljust(30, "0") for line in lines]
    assert times == sorted(set(times))
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z", line["created_at"])
        for line in lines
    )

    whole = json.loads(encoder(model).whole([*said, finish]))
    assert (
        "".join(map(text_of, lines))
        == text_of(whole)
        == "".join(e.text for e in said if type(e) is TextDelta)
    )
    assert "".join(map(thinking_of, lines)) == thinking_of(whole)
    assert thinking_of(whole) == "".join(e.text for e in said if type(e) is ThinkingDelta)
    calls = [call for line in lines for call in calls_of(line)]
    assert calls == calls_of(whole)
    assert [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls] == [
        (e.id, e.name, e.arguments) for e in said if type(e) is ToolCall
    ]
    assert [call["function"]["index"] for call in calls] == list(range(len(calls)))
    assert [token for line in lines for token in line.get("logprobs", [])] == whole.get("logprobs", [])
    for key in ("done_reason", "prompt_eval_count", "eval_count", "context"):
        assert lines[-1].get(key) == whole.get(key)
    assert list(whole) == sorted(whole, key=_order(encoder).index)


def _order(encoder):
    metrics = "total_duration load_duration prompt_eval_count prompt_eval_duration eval_count eval_duration"
    if encoder is chat_encoder:
        return f"model created_at message done done_reason logprobs {metrics}".split()
    return (
        f"model created_at response thinking done done_reason context {metrics} tool_calls logprobs".split()
    )


def test_lone_surrogates_do_not_end_a_stream():
    """Half an emoji from a provider is shown as U+FFFD."""
    line = chat_encoder().encode(TextDelta("a\ud83d"))
    assert json.loads(line)["message"]["content"] == "a\ufffd"


@pytest.mark.parametrize("encoder", [chat_encoder, generate_encoder])
def test_every_member_of_the_union_is_encoded(encoder):
    """A new kind of event must be decided on here."""
    examples = {
        TextDelta: TextDelta("a"),
        ThinkingDelta: ThinkingDelta("a"),
        ToolCall: ToolCall("i", "n"),
        Finish: Finish(),
        Aside: Aside(Line(b',"x":1}\n')),
    }
    assert set(get_args(Event)) == set(examples)
    for event in examples.values():
        assert json.loads(encoder().encode(event))["model"] == "m"
