"""Replies of /v1/responses: every event list becomes a stream that the strictest reader takes, and one object."""

import json
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from ollama_bridge.errors import (
    BridgeError,
    InvalidRequest,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamRejected,
)
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, TokenLogprob, ToolCall, Usage
from ollama_bridge.surfaces.responses_decode import decode_responses
from ollama_bridge.surfaces.responses_encode import ResponsesEncoder

TOOLS = [
    {"type": "function", "name": "f", "parameters": {"type": "object"}},
    {"type": "custom", "name": "patch"},
    {"type": "namespace", "name": "crm", "description": "d", "tools": [{"type": "function", "name": "find"}]},
]
USAGE = Usage(11, 7, cached_read_tokens=5, cached_write_tokens=3, reasoning_tokens=2)
WHO = {"provider": "acme", "model": "acme-1"}
EVENT = TypeAdapter(ResponseStreamEvent)


def encoder(**sent):
    call = decode_responses(json.dumps({"model": "m", "input": "hi", "tools": TOOLS, **sent}).encode())
    return ResponsesEncoder("m", call.echo, forms=call.toolbox.forms, now=lambda: 1000.5, number=42)


def streamed(events, **sent):
    one = encoder(**sent)
    return parsed(b"".join(map(one.encode, events)))


def whole(events, **sent):
    one = encoder(**sent)
    for event in events:
        one.add(event)
    return json.loads(one.whole())


def in_order(pairs):
    """Go sorts the keys of a map."""
    assert pairs == sorted(pairs)
    return dict(pairs)


def parsed(wire):
    """The payloads; each block is an event's name and its data, and the name is the data's type."""
    assert wire.endswith(b"\n\n")
    payloads = []
    for block in wire.decode().split("\n\n")[:-1]:
        name, data = block.split("\n")
        payload = json.loads(data.removeprefix("data: "), object_pairs_hook=in_order)
        assert name == f"event: {payload['type']}"
        payloads.append(payload)
    return payloads


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
calls = st.builds(
    ToolCall,
    st.uuids().map(str),
    st.sampled_from(["f", "patch", "crm__find", "unknown"]),
    # Beyond 64 bits a number is read as a float, as most readers of JSON do.
    st.dictionaries(st.sampled_from(["a", "input"]), texts | st.integers(-(2**63), 2**64 - 1), max_size=2),
)
said = st.lists(st.one_of(texts.map(TextDelta), texts.map(ThinkingDelta), calls), max_size=8)
ends = st.sampled_from(["stop", "length", "tool_calls", "refusal"]).map(lambda why: Finish(why, USAGE))


@settings(deadline=None)  # the machine may be busy
@given(said, ends)
def test_any_reply_is_a_well_formed_stream(events, end):
    """Numbers follow each other from 0; every item has a place of its own, and is closed once, before the next."""
    payloads = streamed([*events, end])
    assert [one["sequence_number"] for one in payloads] == list(range(len(payloads)))
    assert [one["type"] for one in payloads[:2]] == ["response.created", "response.in_progress"]
    assert [one["type"] for one in payloads].count("response.completed") == 1
    output = payloads[-1]["response"]["output"]
    body = [one for one in payloads if "output_index" in one]
    assert [one["output_index"] for one in body] == sorted(one["output_index"] for one in body)
    for index, about in groupby(body, lambda one: one["output_index"]):
        first, *middle, last = about
        assert (first["type"], last["type"]) == ("response.output_item.added", "response.output_item.done")
        assert last["item"] == output[index]
        assert first["item"]["id"] == last["item"]["id"]
        assert {one["item_id"] for one in middle} == {last["item"]["id"]}
    assert len({item["id"] for item in output}) == len(output)
    assert {one["output_index"] for one in body} == set(range(len(output)))


@settings(deadline=None)  # the machine may be busy
@given(said, ends)
def test_the_openai_package_accumulates_it(events, end):
    """Its own accumulator takes every event, and ends with the response that we sent."""
    state = ResponseStreamState(input_tools=[], text_format=omit)
    payloads = streamed([*events, end])
    for payload in payloads:
        state.handle_event(EVENT.validate_python(payload))
    assert state._completed_response.output_text == "".join(
        event.text for event in events if isinstance(event, TextDelta)
    )


@settings(deadline=None)  # the machine may be busy
@given(said, ends)
def test_the_last_object_is_the_whole_reply(events, end):
    """A stream ends with the object that a client gets which does not stream."""
    assert streamed([*events, end])[-1]["response"] == whole([*events, end])


@settings(deadline=None)  # the machine may be busy
@given(said, ends)
def test_nothing_said_is_lost(events, end):
    """Deltas, finished items, and calls hold what the events held, in their order."""
    payloads = streamed([*events, end])
    deltas = {}
    for one in payloads:
        if "delta" in one:
            deltas[one["type"]] = deltas.get(one["type"], "") + one["delta"]
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    thought = "".join(event.text for event in events if isinstance(event, ThinkingDelta))
    assert deltas.get("response.output_text.delta", "") == text
    assert deltas.get("response.reasoning_summary_text.delta", "") == thought
    output = payloads[-1]["response"]["output"]
    assert "".join(item["content"][0]["text"] for item in output if item["type"] == "message") == text
    assert "".join(item["summary"][0]["text"] for item in output if item["type"] == "reasoning") == thought
    told = [item["call_id"] for item in output if item["type"].endswith("_call")]
    assert told == [event.id for event in events if isinstance(event, ToolCall)]


@settings(deadline=None)  # the machine may be busy
@given(said)
def test_what_is_sent_back_is_what_was_said(events):
    """The output of one turn, as input of the next, is one message of the assistant that holds all of it."""
    output = whole([*events, Finish()])["output"]
    call = decode_responses(json.dumps({"model": "m", "input": output}).encode())
    (message,) = call.messages
    assert message.content == "".join(event.text for event in events if isinstance(event, TextDelta))
    assert message.thinking == "".join(event.text for event in events if isinstance(event, ThinkingDelta))
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert [(one.id, one.name) for one in message.tool_calls] == [(one.id, one.name) for one in calls]
    plain = [one.arguments for one in message.tool_calls if one.name != "patch"]
    assert plain == [one.arguments for one in calls if one.name != "patch"]


@pytest.mark.parametrize("events", [[], [ThinkingDelta("Hm.")]])
def test_a_reply_without_an_answer_has_an_empty_message(events):
    """As a real server's: clients look for one."""
    output = whole([*events, Finish()])["output"]
    assert [part["text"] for part in output[-1]["content"]] == [""]
    assert streamed([*events, Finish()])[-1]["response"]["output"] == output


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("refusal", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_a_reply_that_was_cut_short_says_so(reason, status, details):
    """In the response and in its last item, at the event that every client takes for the end."""
    payloads = streamed([ThinkingDelta("a"), TextDelta("b"), Finish(reason)])
    assert payloads[-1]["type"] == "response.completed"
    response = payloads[-1]["response"]
    assert (response["status"], response["incomplete_details"]) == (status, details)
    assert response["output"][-1]["status"] == status


def test_tokens_are_told():
    usage = whole([TextDelta("a"), Finish(usage=USAGE)])["usage"]
    assert usage == {
        "input_tokens": 11,
        "output_tokens": 7,
        "total_tokens": 18,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3},
        "output_tokens_details": {"reasoning_tokens": 2},
    }


def test_calls_come_in_the_form_the_client_knows():
    """The tools of a namespace under their own names, a custom tool's input as text."""
    calls = [
        ToolCall("a", "f", {"x": "<"}),
        ToolCall("b", "patch", {"input": "*** Begin"}),
        ToolCall("c", "patch", {"other": 1}),
        ToolCall("d", "crm__find", {}),
    ]
    assert whole([*calls, Finish("tool_calls")])["output"] == [
        {"id": "fc_42_0", "type": "function_call", "status": "completed", "call_id": "a", "name": "f", "arguments": '{"x":"\\u003c"}'},
        {"id": "ctc_42_1", "type": "custom_tool_call", "status": "completed", "call_id": "b", "name": "patch", "input": "*** Begin"},
        {"id": "ctc_42_2", "type": "custom_tool_call", "status": "completed", "call_id": "c", "name": "patch", "input": '{"other":1}'},
        {"id": "fc_42_3", "type": "function_call", "status": "completed", "call_id": "d", "namespace": "crm", "name": "find", "arguments": "{}"},
    ]  # fmt: skip
    kinds = [one["type"] for one in streamed([calls[1], Finish("tool_calls")]) if "output_index" in one]
    assert kinds == [
        "response.output_item.added",
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
        "response.output_item.done",
    ]


def test_what_was_asked_is_repeated():
    """What was honoured, not what a real server would have ignored."""
    asked = {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "temperature": 0.5,
        "max_output_tokens": 100,
        "reasoning": {"effort": "high"},
        "truncation": "auto",
    }
    response = whole([Finish()], **asked, store=True, text={"verbosity": "low"})
    assert {key: response[key] for key in asked} == asked
    assert response["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert (response["store"], response["previous_response_id"]) == (False, None)
    Response.model_validate(response, strict=True)


def test_log_probabilities_stand_beside_their_text():
    """In the delta, and again in the finished part; a part without them has none."""
    token = TokenLogprob("b", -0.5, (TokenLogprob("b", -0.5), TokenLogprob("c", float("-inf"))))
    entry = {
        "token": "b",
        "logprob": -0.5,
        "bytes": [98],
        "top_logprobs": [
            {"token": "b", "logprob": -0.5, "bytes": [98]},
            {"token": "c", "logprob": -9999, "bytes": [99]},
        ],
    }
    one = encoder()
    events = [TextDelta("a"), TextDelta("b", (token,)), Finish()]
    wire = b"".join(map(one.encode, events)).decode().split("\n\n")[:-1]
    payloads = [json.loads(block.partition("data: ")[2]) for block in wire]
    deltas = [payload["logprobs"] for payload in payloads if payload["type"] == "response.output_text.delta"]
    assert deltas == [[], [entry]]
    assert payloads[-1]["response"]["output"][0]["content"][0]["logprobs"] == [entry]
    assert payloads[-1]["response"] == whole(events)


def test_half_a_character_does_not_break_the_stream():
    """Some SDKs let lone surrogates through; two halves become one where they meet."""
    events = [
        TextDelta("a\ud83d"),
        TextDelta("\ude00b\ud83d"),
        ToolCall("\ud83d", "f", {"a": "\ud83d"}),
        Finish(),
    ]
    response = streamed(events)[-1]["response"]
    assert response["output"][0]["content"][0]["text"] == "a\U0001f600b\ufffd"
    assert response["output"][1]["call_id"] == "\ufffd"
    assert response == whole(events)


@pytest.mark.parametrize(
    ("exc", "code", "words"),
    [
        (UpstreamBroken("cut off", **WHO), "server_error", "acme: model 'acme-1': cut off"),
        (BridgeError("a bug"), "server_error", "a bug"),
        (UpstreamBusy("busy", **WHO), "server_error", "acme: model 'acme-1': busy"),
        (UpstreamBusy("slow", status=429, retry_after_s=1.2, **WHO), "rate_limit_exceeded", "acme: model 'acme-1': slow; try again in 2s"),
        (UpstreamRejected("no", status=400, **WHO), "invalid_prompt", "acme: model 'acme-1': no"),
        (InvalidRequest("no"), "invalid_prompt", "no"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", [[], [TextDelta("Hel")], [ThinkingDelta("Hm"), TextDelta("Hel")]])
def test_a_failure_is_told_in_the_response(exc, code, words, before):
    """Its code says whether asking again helps; what was said so far is kept, and the accumulator takes it."""
    one = encoder()
    payloads = parsed(b"".join(map(one.encode, before)) + one.error(exc))
    assert [payload["sequence_number"] for payload in payloads] == list(range(len(payloads)))
    response = payloads[-1]["response"]
    assert payloads[-1]["type"] == "response.failed"
    assert (response["status"], response["error"]) == ("failed", {"code": code, "message": words})
    assert [item["type"] for item in response["output"]] == ["reasoning", "message"][2 - len(before) :]
    assert all(item.get("status", "incomplete") == "incomplete" for item in response["output"])
    state = ResponseStreamState(input_tools=[], text_format=omit)
    for payload in payloads:
        state.handle_event(EVENT.validate_python(payload))


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.sampled_from(["beat", "text", "think"]), max_size=6))
def test_a_heartbeat_is_an_event_that_says_nothing(script):
    """It may come first and anywhere: numbers stay in order, and the accumulator takes it."""
    one = encoder()
    wire = b""
    for step in script:
        wire += (
            one.heartbeat()
            if step == "beat"
            else one.encode({"text": TextDelta, "think": ThinkingDelta}[step]("x"))
        )
    payloads = parsed(wire + one.encode(Finish()))
    assert [payload["sequence_number"] for payload in payloads] == list(range(len(payloads)))
    assert [payload["type"] for payload in payloads].count("response.created") == 1
    state = ResponseStreamState(input_tools=[], text_format=omit)
    for payload in payloads:
        state.handle_event(EVENT.validate_python(payload))
    assert state._completed_response.output_text == "x" * script.count("text")


def test_half_a_reply_is_not_shown_as_a_whole_one():
    one = encoder()
    one.add(TextDelta("a"))
    with pytest.raises(ValueError, match="Finish"):
        one.whole()


def test_ids_differ_from_reply_to_reply():
    call = decode_responses(b'{"model":"m","input":"hi"}')
    ids = {json.loads(_told(ResponsesEncoder("m", call.echo, forms={})))["id"] for _ in range(20)}
    assert len(ids) == 20


def _told(one):
    one.add(Finish())
    return one.whole()
