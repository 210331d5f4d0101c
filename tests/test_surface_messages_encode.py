"""Replies of /v1/messages: the bytes of a real server, and that nothing said is lost."""

import json
import re
from typing import get_args

import pytest
from anthropic.types import Message as Accumulated
from anthropic.types import StopReason
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_bridge.chat import Image, Message, Tool
from ollama_bridge.errors import BodyTooLarge, BridgeError, InvalidRequest, ModelNotFound, UpstreamBusy
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_bridge.surfaces.anthropic_messages import MessagesEncoder, error_body
from ollama_bridge.surfaces.converter import JSON, ConverterError, error_type
from ollama_bridge.tokens import IMAGE_TOKENS, estimate_tokens

USAGE = Usage(input_tokens=11, output_tokens=4)
CALL = ToolCall("abc123", "get_weather", {"city": "Paris", "n": 2})

REAL = """\
event: message_start
data: {"type":"message_start","message":{"id":"msg_843a","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":26,"output_tokens":0}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Calling."}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"abc123","name":"get_weather","input":{}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"city\\":\\"Paris\\",\\"n\\":2}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"input_tokens":11,"output_tokens":4}}

event: message_stop
data: {"type":"message_stop"}

"""
"""`ollama-api.md` §12 M."""


def encoder(**how):
    return MessagesEncoder("m", **{"input_tokens": lambda: 26, "message_id": "msg_843a", **how})


def streamed(*events, **how):
    one = encoder(**how)
    return b"".join(map(one.encode, events))


def read(wire):
    """The events of a stream; each has a name, and says the same name itself."""
    events = []
    for block in wire.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def whole(*events, **how):
    one = encoder(**how)
    for event in events:
        one.add(event)
    return one.whole()


def accumulated(wire):
    """The message that a stream amounts to, put together as Anthropic's API says; it is well-formed."""
    first, *events = read(wire)
    assert first["type"] == "message_start"
    message, opened = first["message"], None
    for event in events:
        match event["type"]:
            case "content_block_start":
                assert opened is None
                assert event["index"] == len(message["content"])
                opened = event["content_block"]
                message["content"].append(opened)
                pieces = []
            case "content_block_delta":
                assert event["index"] == len(message["content"]) - 1
                kind, piece = list(event["delta"].values())
                assert (
                    kind
                    == {"text": "text_delta", "thinking": "thinking_delta", "tool_use": "input_json_delta"}[
                        opened["type"]
                    ]
                )
                pieces.append(piece)
            case "content_block_stop":
                assert event["index"] == len(message["content"]) - 1
                said = "".join(pieces)
                opened.update(
                    {"input": json.loads(said)} if opened["type"] == "tool_use" else {opened["type"]: said}
                )
                opened = None
            case "message_delta":
                assert opened is None
                message.update(event["delta"])
                message["usage"].update(event["usage"])
            case "message_stop":
                assert event is events[-1]
    assert events[-1]["type"] == "message_stop"
    return message


def test_the_bytes_of_a_real_server():
    """Text, then a tool call."""
    wire = streamed(TextDelta("Calling."), CALL, Finish("tool_calls", USAGE))
    assert wire.decode() == REAL


def test_the_whole_message_of_a_real_server():
    """Its keys in their order, compact, with a newline; without `stop_sequence`."""
    got = whole(TextDelta("Call"), TextDelta("ing."), CALL, Finish("tool_calls", USAGE))
    assert got == (
        b'{"id":"msg_843a","type":"message","role":"assistant","model":"m","content":[{"type":"text","text":"Calling."},'
        b'{"type":"tool_use","id":"abc123","name":"get_weather","input":{"city":"Paris","n":2}}],'
        b'"stop_reason":"tool_use","usage":{"input_tokens":11,"output_tokens":4}}\n'
    )


def test_it_is_escaped_as_go_does():
    """In a delta, and twice within the JSON of arguments."""
    wire = streamed(TextDelta("<é>"), ToolCall("1", "f", {"a": "<"}), Finish())
    assert rb'"text":"\u003c\xc3\xa9\u003e"'.replace(rb"\xc3\xa9", "é".encode()) in wire
    assert rb'"partial_json":"{\"a\":\"\\u003c\"}"' in wire
    assert accumulated(wire)["content"][1]["input"] == {"a": "<"}


def test_nothing_said_is_an_empty_list_and_no_null():
    """A real server says null, and SDKs stumble over it."""
    assert json.loads(whole(Finish("stop", USAGE)))["content"] == []
    assert [event["type"] for event in read(streamed(Finish()))] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]


def test_thinking_is_a_block_with_an_empty_signature():
    """The types of Anthropic's SDKs demand one."""
    events = (ThinkingDelta("Let me "), ThinkingDelta("think."), TextDelta("Hi"), Finish("stop", USAGE))
    thought = {"type": "thinking", "thinking": "Let me think.", "signature": ""}
    assert accumulated(streamed(*events))["content"] == [thought, {"type": "text", "text": "Hi"}]
    assert json.loads(whole(*events))["content"] == [thought, {"type": "text", "text": "Hi"}]


@pytest.mark.parametrize(
    ("reason", "calls", "told"),
    [
        ("stop", False, "end_turn"),
        ("stop", True, "tool_use"),
        ("length", False, "max_tokens"),
        ("length", True, "max_tokens"),
        ("tool_calls", True, "tool_use"),
        ("tool_calls", False, "end_turn"),
        ("refusal", False, "refusal"),
        ("refusal", True, "refusal"),
    ],
)
def test_why_it_stopped(reason, calls, told):
    """`tool_use` exactly when there is something to run."""
    events = [TextDelta("x"), *([CALL] if calls else []), Finish(reason, USAGE)]
    assert told in get_args(StopReason)
    assert accumulated(streamed(*events))["stop_reason"] == told
    assert json.loads(whole(*events))["stop_reason"] == told


def test_tokens_of_the_prompt_cache():
    """Only where there are any; Anthropic's clients add the three up."""
    usage = Usage(input_tokens=100, output_tokens=4, cached_read_tokens=70, cached_write_tokens=20)
    told = {
        "input_tokens": 10,
        "output_tokens": 4,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 70,
    }
    assert json.loads(whole(Finish("stop", usage)))["usage"] == told
    assert read(streamed(Finish("stop", usage)))[1]["usage"] == told


def test_it_is_estimated_once_and_only_where_somebody_reads_it():
    """A whole answer of a provider that counts, and a question that is refused, do not pay for it."""
    asked = []
    how = {"input_tokens": lambda: asked.append(1) or 26}
    encoder(**how).error(BridgeError("no"))
    whole(TextDelta("hi"), Finish("stop", USAGE), **how)
    assert not asked
    streamed(TextDelta("hi"), Finish(), **how)
    assert asked == [1]


def test_a_provider_that_does_not_count_leaves_the_estimate():
    """Instead of a prompt of no tokens."""
    assert read(streamed(Finish()))[1]["usage"] == {"input_tokens": 26, "output_tokens": 0}


def test_two_calls_of_one_id_stay_two_calls():
    """A client matches results by id; a real server drops the second."""
    events = (CALL, CALL, ToolCall("abc123_1", "f"), Finish())
    for content in (accumulated(streamed(*events))["content"], json.loads(whole(*events))["content"]):
        ids = [block["id"] for block in content]
        assert len(content) == len(set(ids)) == 3
        assert ids[0] == "abc123"


def test_a_heartbeat_is_a_ping_behind_the_start():
    """Whenever it comes, the stream begins with `message_start` once."""
    one = encoder()
    wire = one.heartbeat() + one.heartbeat() + one.encode(TextDelta("a")) + one.heartbeat()
    wire += one.encode(TextDelta("b")) + one.encode(Finish())
    kinds = [event["type"] for event in read(wire)]
    assert kinds[:3] == ["message_start", "ping", "ping"]
    assert (kinds.count("message_start"), kinds.count("ping")) == (1, 3)
    assert accumulated(wire)["content"] == [{"type": "text", "text": "ab"}]


def test_half_a_reply_is_not_shown_as_a_whole_one():
    """Without `Finish` there is nothing to show."""
    with pytest.raises(ValueError, match="without its Finish"):
        whole(TextDelta("x"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("x"), "invalid_request_error"),
        (BridgeError("x", status=401), "authentication_error"),
        (BridgeError("x", status=403), "permission_error"),
        (ModelNotFound("nope"), "not_found_error"),
        (BodyTooLarge("x"), "request_too_large"),
        (BridgeError("x", status=429), "rate_limit_error"),
        (BridgeError("x", status=500), "api_error"),
        (UpstreamBusy("x", provider="p", model="m"), "overloaded_error"),
        (BridgeError("x", status=529), "overloaded_error"),
        (BridgeError("x", status=502), "api_error"),
        (BridgeError("x", status=504), "timeout_error"),
    ],
)
def test_the_envelope_of_errors(error, kind):
    """Before and in mid-stream the same; the type follows the status."""
    told = json.loads(error_body(error))
    assert re.fullmatch("req_[0-9a-f]{24}", told.pop("request_id"))
    assert told == {"type": "error", "error": {"type": kind, "message": str(error)}}
    (event,) = read(encoder().error(error))
    event.pop("request_id")
    assert event == told


def test_who_found_the_error_shows():
    """The converter says its charset, the handler behind it ends its line (`ollama-api.md` §7.0)."""
    found = ConverterError("x")
    assert not error_body(found).endswith(b"\n")
    assert error_type(found, stream=False) == "application/json; charset=utf-8"
    assert error_body(InvalidRequest("x")).endswith(b"}\n")
    assert error_type(InvalidRequest("x"), stream=True) == JSON == "application/json"


def test_ids_are_anthropics_and_never_the_same():
    """`msg_` and 24 hexadecimal digits."""
    ids = {json.loads(whole(Finish(), message_id=""))["id"] for _ in range(9)}
    assert len(ids) == 9
    assert all(re.fullmatch("msg_[0-9a-f]{24}", one) for one in ids)


# ------------------------------------------------------------------------------------------------- properties

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
SAYING = st.lists(
    st.one_of(
        st.builds(TextDelta, WORDS),
        st.builds(ThinkingDelta, WORDS),
        st.builds(
            ToolCall,
            st.sampled_from(["1", "2", "3"]),
            WORDS,
            st.dictionaries(st.text(max_size=3), st.integers(-9, 9) | st.text(max_size=5), max_size=3),
        ),
    ),
    max_size=12,
)
FINISH = st.builds(
    Finish,
    st.sampled_from(get_args(Finish.__dataclass_fields__["reason"].type)),
    st.builds(Usage, st.integers(0, 99), st.integers(0, 99)),
)


@settings(max_examples=200)
@given(SAYING, FINISH, st.lists(st.integers(0, 12)))
def test_any_reply_is_a_well_formed_stream_and_the_same_as_the_whole(said, finish, beats):
    """Every block is opened and closed once, indices are contiguous, nothing is lost, wherever it pings."""
    one, wire = encoder(), b""
    for at, event in enumerate([*said, finish]):
        wire += (one.heartbeat() if at in beats else b"") + one.encode(event)
    got = accumulated(wire)
    assert got == json.loads(whole(*said, finish))
    Accumulated.model_validate(got)
    for kind, name in ((TextDelta, "text"), (ThinkingDelta, "thinking")):
        told = "".join(block[name] for block in got["content"] if block["type"] == name)
        assert told == "".join(event.text for event in said if type(event) is kind)
    calls = [block["input"] for block in got["content"] if block["type"] == "tool_use"]
    assert calls == [event.arguments for event in said if type(event) is ToolCall]


# --------------------------------------------------------------------------------------------------- estimates


def test_an_estimate_grows_with_all_that_is_sent():
    """Text in any script, images, calls and tools; it is never nothing."""
    assert estimate_tokens(()) == 1
    hello = Message("user", "x" * 400)
    bare = estimate_tokens([hello])
    assert 100 <= bare <= 110
    assert estimate_tokens([Message("user", "字" * 400)]) >= 300
    assert estimate_tokens([hello, Message("user", images=(Image("", "image/png"),))]) > bare + IMAGE_TOKENS
    assert estimate_tokens([hello], [Tool("f", "d" * 400, {"a": "b" * 400})]) > bare + 200
    call = Message("assistant", thinking="t" * 400, tool_calls=(ToolCall("1", "f", {"a": "b" * 400}),))
    assert estimate_tokens([hello, call]) > bare + 200
