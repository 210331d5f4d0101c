"""What clients of OpenAI's dialect are told: server-sent events and whole objects, byte for byte."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.catalog import ModelConfig, complete
from ollama_bridge.errors import UpstreamBusy
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, TokenLogprob, ToolCall, Usage
from ollama_bridge.surfaces import openai

USAGE = Usage(11, 4)
EVENTS = [
    ThinkingDelta("hm"),
    TextDelta("a <b>\n"),
    ToolCall("c1", "f", {"city": "<Rome>"}),
    ToolCall("c2", "g"),
    Finish("tool_calls", USAGE),
]


def chat(**fields):
    return openai.ChatEncoder("m<", now=lambda: 1795220001.9, **fields)


def completion(**fields):
    return openai.CompletionEncoder("m<", now=lambda: 1795220001.9, **fields)


def masked(wire):
    return re.sub(rb"cmpl-\d{1,3}\b", b"cmpl-7", wire).decode()


def streamed(encoder, events):
    return masked(b"".join(map(encoder.encode, events)))


def whole(encoder, events):
    for event in events:
        encoder.add(event)
    return masked(encoder.whole())


def frames(wire):
    """The payloads of a stream, which must be whole events."""
    assert wire.endswith("\n\n")
    events = wire[:-2].split("\n\n")
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [event.removeprefix("data: ") for event in events]


def parsed(wire):
    *chunks, done = frames(wire)
    assert done == "[DONE]"
    return [json.loads(chunk) for chunk in chunks]


# --------------------------------------------------------------------------------------------------- chat

CHUNK = (
    '{"id":"chatcmpl-7","object":"chat.completion.chunk","created":1795220001,"model":"m\\u003c",'
    '"system_fingerprint":"fp_ollama","choices":['
)


def delta(said, more=""):
    return f'{CHUNK}{{"index":0,"delta":{{{said}}},"finish_reason":null{more}}}]}}'


def test_the_chunks_of_a_chat():
    """Role once, `reasoning`, one whole call a chunk, a finish without delta, the end."""
    assert frames(streamed(chat(), EVENTS)) == [
        delta('"role":"assistant","content":"","reasoning":"hm"'),
        delta('"content":"a \\u003cb\\u003e\\n"'),
        delta(
            '"content":"","tool_calls":[{"id":"c1","index":0,"type":"function",'
            r'"function":{"name":"f","arguments":"{\"city\":\"\\u003cRome\\u003e\"}"}}]'
        ),
        delta(
            '"content":"","tool_calls":[{"id":"c2","index":1,"type":"function",'
            '"function":{"name":"g","arguments":"{}"}}]'
        ),
        CHUNK + '{"index":0,"delta":{},"finish_reason":"tool_calls"}]}',
        "[DONE]",
    ]


def test_the_usage_has_a_chunk_of_its_own():
    """Before the end and without choices; no other chunk speaks of it."""
    *chunks, usage, done = frames(streamed(chat(include_usage=True), EVENTS))
    assert usage == CHUNK + '],"usage":{"prompt_tokens":11,"completion_tokens":4,"total_tokens":15}}'
    assert done == "[DONE]"
    assert not any("usage" in chunk for chunk in chunks)


def test_a_chat_in_one_object():
    """The keys in Ollama's order, with a line end."""
    assert whole(chat(), EVENTS) == (
        '{"id":"chatcmpl-7","object":"chat.completion","created":1795220001,"model":"m\\u003c",'
        '"system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant",'
        '"content":"a \\u003cb\\u003e\\n","reasoning":"hm","tool_calls":['
        '{"id":"c1","index":0,"type":"function","function":{"name":"f","arguments":'
        r'"{\"city\":\"\\u003cRome\\u003e\"}"}},'
        '{"id":"c2","index":1,"type":"function","function":{"name":"g","arguments":"{}"}}]},'
        '"finish_reason":"tool_calls"}],'
        '"usage":{"prompt_tokens":11,"completion_tokens":4,"total_tokens":15}}\n'
    )


def test_an_answer_that_says_nothing():
    """Its first chunk tells the role all the same."""
    assert frames(streamed(chat(), [Finish()]))[:2] == [
        delta('"role":"assistant","content":""'),
        CHUNK + '{"index":0,"delta":{},"finish_reason":"stop"}]}',
    ]


@pytest.mark.parametrize(
    ("reason", "told"),
    [("stop", "stop"), ("length", "length"), ("tool_calls", "tool_calls"), ("refusal", "content_filter")],
)
def test_reasons(reason, told):
    """OpenAI has a word for each; a text completion has none for calls."""
    assert parsed(streamed(chat(), [Finish(reason)]))[-1]["choices"][0]["finish_reason"] == told
    assert json.loads(whole(completion(), [Finish(reason)]))["choices"][0]["finish_reason"] == (
        "stop" if reason == "tool_calls" else told
    )


def test_details_of_the_usage_only_where_there_are_some():
    """What the provider's cache gave, and what was spent on reasoning."""
    usage = Usage(11, 4, cached_read_tokens=8, cached_write_tokens=2, reasoning_tokens=3)
    told = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
    told |= {
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert json.loads(whole(chat(), [Finish("stop", usage)]))["usage"] == told
    assert parsed(streamed(chat(include_usage=True), [Finish("stop", usage)]))[-1]["usage"] == told


LOGGED = TextDelta("Hi", (TokenLogprob("Hi", -1.0, (TokenLogprob("Ho", float("-inf")),)),))
LOGPROBS = (
    '{"content":[{"token":"Hi","logprob":-1,"bytes":[72,105],'
    '"top_logprobs":[{"token":"Ho","logprob":-9999,"bytes":[72,111]}]}]}'
)


def test_log_probabilities_of_a_chat():
    """On the chunk of their tokens, and at the end of the whole choice."""
    chunks = frames(streamed(chat(), [LOGGED, Finish()]))
    assert chunks[0] == delta('"role":"assistant","content":"Hi"', f',"logprobs":{LOGPROBS}')
    assert f'"finish_reason":"stop","logprobs":{LOGPROBS}}}]' in whole(chat(), [LOGGED, Finish()])


def test_a_heartbeat_says_nothing():
    """With the role if it is the first word, and without it later."""
    encoder = chat()
    assert frames(masked(encoder.heartbeat())) == [delta('"role":"assistant","content":""')]
    assert frames(masked(encoder.heartbeat())) == [delta('"content":""')]
    assert frames(masked(encoder.encode(TextDelta("a")))) == [delta('"content":"a"')]


@pytest.mark.parametrize("encoder", [chat(), completion()])
def test_a_failure_in_the_middle_is_told(encoder):
    """By an event that OpenAI's clients raise; nothing says that the answer is done."""
    encoder.encode(TextDelta("a"))
    (told,) = frames(encoder.error(UpstreamBusy("is overloaded", provider="p", model="x")).decode())
    assert json.loads(told) == {
        "error": {
            "message": "p: model 'x': is overloaded",
            "type": "api_error",
            "param": None,
            "code": None,
        }
    }


@pytest.mark.parametrize("encoder", [chat, completion])
def test_half_a_reply_is_none(encoder):
    """What has no finish is not shown as whole."""
    with pytest.raises(ValueError, match="Finish"):
        whole(encoder(), EVENTS[:-1])


# -------------------------------------------------------------------------------------------- completions


def text_chunk(said, usage=""):
    return (
        f'{{"id":"cmpl-7","object":"text_completion","created":1795220001,"choices":[{said}],'
        f'"model":"m\\u003c","system_fingerprint":"fp_ollama"{usage}}}'
    )


ZEROS = ',"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'


def test_the_chunks_of_a_completion():
    """Another order of keys, the reason on a last empty text, and empty chunks for thoughts and calls."""
    empty = '{"text":"","index":0,"finish_reason":null}'
    assert frames(streamed(completion(), EVENTS)) == [
        text_chunk(empty),
        text_chunk('{"text":"a \\u003cb\\u003e\\n","index":0,"finish_reason":null}'),
        text_chunk(empty),
        text_chunk(empty),
        text_chunk('{"text":"","index":0,"finish_reason":"stop"}'),
        "[DONE]",
    ]


def test_every_chunk_of_a_completion_has_a_usage_or_none():
    """If it is asked for, all but the last count nothing."""
    said = [TextDelta("a"), Finish("stop", USAGE)]
    assert frames(streamed(completion(include_usage=True), said)) == [
        text_chunk('{"text":"a","index":0,"finish_reason":null}', ZEROS),
        text_chunk('{"text":"","index":0,"finish_reason":"stop"}', ZEROS),
        text_chunk("", ',"usage":{"prompt_tokens":11,"completion_tokens":4,"total_tokens":15}'),
        "[DONE]",
    ]


def test_a_completion_in_one_object():
    """Text only."""
    assert whole(completion(), EVENTS) == (
        '{"id":"cmpl-7","object":"text_completion","created":1795220001,"model":"m\\u003c",'
        '"system_fingerprint":"fp_ollama",'
        '"choices":[{"text":"a \\u003cb\\u003e\\n","index":0,"finish_reason":"stop"}],'
        '"usage":{"prompt_tokens":11,"completion_tokens":4,"total_tokens":15}}\n'
    )


def test_an_echo_comes_first_and_once():
    """Streamed, whole, and where nothing follows it."""
    said = [TextDelta("a"), TextDelta("b"), Finish()]
    texts = [chunk["choices"][0]["text"] for chunk in parsed(streamed(completion(echo="Hi "), said))]
    assert texts == ["Hi a", "b", ""]
    assert json.loads(whole(completion(echo="Hi "), said))["choices"][0]["text"] == "Hi ab"
    assert parsed(streamed(completion(echo="Hi"), [Finish()]))[0]["choices"][0]["text"] == "Hi"


def test_log_probabilities_of_a_completion():
    """In OpenAI's older form, with the place of each token in the text."""
    said = [LOGGED, TextDelta("!", (TokenLogprob("!", -0.5),)), Finish()]
    first, second, last = parsed(streamed(completion(echo="12"), said))
    assert json.loads(whole(completion(echo="12"), said))["choices"][0]["logprobs"] == {
        "text_offset": [2, 4],
        "token_logprobs": [-1, -0.5],
        "tokens": ["Hi", "!"],
        "top_logprobs": [{"Ho": -9999}, {}],
    }
    assert first["choices"][0]["logprobs"]["text_offset"] == [2]
    assert second["choices"][0]["logprobs"]["text_offset"] == [4]
    assert "logprobs" not in last["choices"][0]


def test_a_load():
    """Says that the model is there, streamed or whole."""
    assert frames(masked(completion().load(stream=True))) == [
        text_chunk('{"text":"","index":0,"finish_reason":"load"}'),
        "[DONE]",
    ]
    told = json.loads(completion().load(stream=False))
    assert told["choices"] == [{"text": "", "index": 0, "finish_reason": "load"}]


# ------------------------------------------------------------------------------------------------- models


def test_a_model_by_the_name_that_was_asked_for():
    """The list has the full one; a namespace owns what is in it."""
    found = complete(ModelConfig(name="work/m", backend="demo"), kind="demo")
    listed = {"id": "work/m:latest", "object": "model", "created": 1795132800, "owned_by": "work"}
    assert json.loads(openai.models_body([found])) == {"object": "list", "data": [listed]}
    assert json.loads(openai.model_body(found, requested="Work/M")) == {**listed, "id": "Work/M"}
    assert openai.models_body([]) == b'{"object":"list","data":null}\n'


# --------------------------------------------------------------------------------------------- properties

said = st.one_of(
    st.builds(TextDelta, st.text(min_size=1)),
    st.builds(ThinkingDelta, st.text(min_size=1)),
    st.builds(ToolCall, st.text(), st.text(), st.dictionaries(st.text(), st.text() | st.integers())),
)
finish = st.builds(
    Finish,
    st.sampled_from(["stop", "length", "tool_calls", "refusal"]),
    st.builds(Usage, *[st.integers(0, 10**6)] * 5),
)


@given(st.lists(said), finish, st.booleans())
def test_a_stream_says_what_the_whole_says(events, last, beats):
    """Put together, its chunks are the reply in one object, with heartbeats between them or without."""
    encoder = chat(include_usage=True)
    writes = []
    for event in [*events, last]:
        if beats:
            writes.append(encoder.heartbeat())
        writes.append(encoder.encode(event))
    for write in writes:
        frames(write.decode())
    *chunks, usage = parsed(masked(b"".join(writes)))
    roles = [chunk["choices"][0]["delta"].get("role") for chunk in chunks]
    assert roles == ["assistant"] + [None] * (len(chunks) - 1)
    message = {"role": "assistant", "content": "", "reasoning": "", "tool_calls": []}
    for chunk in chunks:
        found = chunk["choices"][0]["delta"]
        for key in ("content", "reasoning", "tool_calls"):
            message[key] += found.get(key, type(message[key])())
    object_ = json.loads(whole(chat(), [*events, last]))
    choice = object_["choices"][0]
    assert {key: value for key, value in message.items() if value or key == "content"} == choice["message"]
    assert chunks[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]
    assert usage["usage"] == object_["usage"]


@given(st.lists(said), finish, st.text())
def test_a_streamed_completion_says_what_the_whole_says(events, last, echo):
    """The texts of its chunks are the whole text."""
    *chunks, usage = parsed(streamed(completion(include_usage=True, echo=echo), [*events, last]))
    object_ = json.loads(whole(completion(echo=echo), [*events, last]))
    text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
    assert text == object_["choices"][0]["text"]
    assert chunks[-1]["choices"][0]["finish_reason"] == object_["choices"][0]["finish_reason"]
    assert usage["usage"] == object_["usage"]
