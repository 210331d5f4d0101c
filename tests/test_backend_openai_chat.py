"""Chat Completions: what is asked."""

import re

import pytest
from structlog.testing import capture_logs

from ollama_bridge.backends import openai_chat
from ollama_bridge.backends.dialect import OPENAI, PLAIN
from ollama_bridge.chat import Image, Message, Rules, Tool
from ollama_bridge.events import ToolCall
from openai_asking import (
    ask,
    backend_at,
    question,
    said,
)
from upstream import Upstream, sse

ALL_OPTIONS = frozenset(
    "temperature top_p top_k min_p seed stop presence_penalty frequency_penalty repeat_penalty logprobs".split()
)


def chunk(delta=None, finish=None, **more):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}


STOP = chunk(finish="stop")


async def asked(request, **settings):
    """The body of the one request that reaches the provider."""
    async with Upstream() as upstream, backend_at(upstream, **settings) as backend:
        upstream.reply(sse(chunk({"content": "ok"}), STOP, done=True))
        await ask(backend, request)
        (seen,) = upstream.requests
        assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
        return seen.json


async def test_the_whole_request():
    """Everything a client can say arrives as Chat Completions has it, and nothing else."""
    calls = (ToolCall("call_1", "look", {"where": "desk"}), ToolCall("", "ring", {}))
    request = question(
        rules=Rules(accepts=ALL_OPTIONS, system_role="developer", max_tokens_field="max_completion_tokens"),
        messages=(
            Message("system", "Be brief."),
            Message("system", "Be kind."),
            Message(
                "user", "What is this?", images=(Image("aGk=", "image/png"), Image("aG8=", "image/webp"))
            ),
            Message("assistant", "A moment.", thinking="hm", tool_calls=calls),
            Message("tool", "a pen", tool_call_id="call_1", tool_name="look"),
            Message("tool", "", tool_name="ring"),
            Message("system", "It is late."),
            Message("user", "And?"),
        ),
        tools=(
            Tool("look", "Look somewhere.", {"type": "object", "properties": {"where": {}}}),
            Tool("ring"),
        ),
        format={"type": "object"},
        think="high",
        logprobs=True,
        top_logprobs=3,
        options={
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "min_p": 0.1,
            "seed": 7,
            "stop": ["END"],
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "repeat_penalty": 1.1,
            "num_predict": 64,
            "num_ctx": 4096,
        },
    )
    body = await asked(request)
    made = body["messages"][3]["tool_calls"][1]["id"]
    assert re.fullmatch("[A-Za-z0-9]{9}", made)
    assert body == {
        "model": "gpt-x",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "developer", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                    {"type": "image_url", "image_url": {"url": "data:image/webp;base64,aG8="}},
                ],
            },
            {
                "role": "assistant",
                "content": "A moment.",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "look", "arguments": '{"where":"desk"}'},
                    },
                    {"id": made, "type": "function", "function": {"name": "ring", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "a pen"},
            {"role": "tool", "tool_call_id": made, "content": ""},
            {"role": "developer", "content": "It is late."},
            {"role": "user", "content": "And?"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "description": "Look somewhere.",
                    "parameters": {"type": "object", "properties": {"where": {}}},
                },
            },
            {
                "type": "function",
                "function": {"name": "ring", "parameters": {"type": "object", "properties": {}}},
            },
        ],
        "max_completion_tokens": 64,
        "reasoning_effort": "high",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "response", "schema": {"type": "object"}, "strict": False},
        },
        "logprobs": True,
        "top_logprobs": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "seed": 7,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "repetition_penalty": 1.1,
        "stop": ["END"],
    }


async def test_the_least_request():
    """Nothing is sent that was not asked for."""
    assert await asked(question(options={"num_predict": -1, "seed": -1, "stop": []})) == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_only_openai_is_told_of_obfuscation():
    """Padding is switched off where it exists; vendors might refuse the word."""
    for is_openai, expected in (
        (True, {"include_usage": True, "include_obfuscation": False}),
        (False, {"include_usage": True}),
    ):
        prepared = openai_chat.prepare(question(), (), OPENAI if is_openai else PLAIN)
        assert prepared.body["stream_options"] == expected


async def test_what_a_model_refuses_is_dropped_with_one_line():
    """Refused options never reach the provider, and the log names them once; the runner's are nobody's business."""
    request = question(
        rules=Rules(accepts=frozenset()),
        options={
            "temperature": 1.0,
            "top_k": 3,
            "typical_p": 1.0,
            "num_ctx": 8,
            "num_predict": 9,
            "stop": "x",
        },
        logprobs=True,
    )
    with capture_logs() as lines:
        body = await asked(request)
    assert set(body) == {"model", "messages", "stream", "stream_options", "max_tokens"}
    assert [line for line in lines if line["event"] == "options dropped"] == [
        {
            "event": "options dropped",
            "log_level": "info",
            "model": "gpt-x",
            "options": ["temperature", "top_k", "typical_p", "logprobs"],
        }
    ]


EFFORTS = ("none", "low", "medium", "high", "xhigh")


@pytest.mark.parametrize(
    ("think", "efforts", "sent"),
    [
        (None, EFFORTS, None),
        (False, EFFORTS, "none"),
        (False, ("minimal", "low", "high"), "minimal"),
        (True, EFFORTS, "medium"),
        (True, ("low", "medium", "high"), None),
        ("low", EFFORTS, "low"),
        ("max", EFFORTS, "xhigh"),
        ("low", ("none", "medium", "high"), "medium"),
        ("high", ("none",), None),
        ("high", (), None),
        (False, (), None),
    ],
)
async def test_think_becomes_the_nearest_effort_the_model_knows(think, efforts, sent):
    """A word the model lacks is replaced, never sent; `true` wakes a model that may not think by default."""
    body = await asked(question(think=think, rules=Rules(efforts=efforts)))
    assert body.get("reasoning_effort") == sent


async def test_a_model_that_cannot_be_told_is_not_told():
    """Thinking that is asked for in no way OpenAI knows is left alone."""
    body = await asked(question(think=True, rules=Rules(thinking=frozenset({"adaptive"}))))
    assert "reasoning_effort" not in body


@pytest.mark.parametrize(
    ("content", "rules", "first"),
    [
        ("Answer as json.", Rules(), {"role": "user", "content": "Answer as json."}),
        ("Hello", Rules(), {"role": "system", "content": "Answer with a JSON object."}),
    ],
)
async def test_json_mode_says_json(content, rules, first):
    """OpenAI refuses `json_object` unless some message says "JSON": one is added only then."""
    body = await asked(question(messages=(Message("user", content),), format="json", rules=rules))
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][0] == first


async def test_a_schema_for_a_model_that_takes_none_is_told_in_words():
    """The schema is not lost: it stands in a message, and the answer is at least JSON."""
    body = await asked(question(format={"type": "array"}, rules=Rules(schema=False)))
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][0]["content"].endswith('JSON Schema: {"type":"array"}')


async def test_what_a_tool_shows_follows_as_the_users():
    """A tool message holds text only: its images come after all results of the turn."""
    picture = Image("aGk=", "image/png")
    messages = (
        Message("user", "Look"),
        Message("assistant", tool_calls=(ToolCall("a", "f"), ToolCall("b", "f"))),
        Message("tool", "1", tool_call_id="a", images=(picture,)),
        Message("tool", "2", tool_call_id="b"),
    )
    body = await asked(question(messages=messages))
    assert body["messages"][1]["content"] is None
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "tool", "tool", "user"]
    assert body["messages"][4]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    ]


@pytest.mark.parametrize(("prefill", "last"), [(True, "assistant"), (False, "user")])
async def test_the_last_word_is_the_users_where_it_must_be(prefill, last):
    """A model without prefill gets a user message behind the assistant's."""
    messages = (Message("user", "Count"), Message("assistant", "one, two"))
    body = await asked(question(messages=messages, rules=Rules(prefill=prefill)))
    assert body["messages"][-1]["role"] == last


async def test_stop_words_beyond_what_the_model_takes_are_seen_to_here():
    """The first go to the provider; the others cut the text all the same."""
    async with Upstream() as upstream, backend_at(upstream) as backend:
        upstream.reply(sse(chunk({"content": "one t"}), chunk({"content": "wo three"})), then="stall")
        events = await ask(backend, question(rules=Rules(max_stops=1), options={"stop": ["x", "two"]}))
        assert upstream.requests[0].json["stop"] == ["x"]
        assert (said(events), events[-1].reason) == ("one ", "stop")
        await upstream.closed_early.wait()
