"""What is sent to Anthropic: exact bodies, through the real SDK."""

from dataclasses import replace

import pytest
import structlog

from anthropic_asking import KEY, RULES, asking, backend, reply, start, stop, text
from ollama_bridge import __version__
from ollama_bridge.backends.anthropic_request import prepare
from ollama_bridge.chat import Image, Message, Rules, Tool
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.events import ToolCall
from ollama_bridge.history import NOTHING_SAID
from upstream import Upstream, sse

PNG = Image("iVBORw0KGgo=", "image/png")
OLD = Rules(
    accepts=frozenset({"temperature", "top_p", "top_k", "stop"}),
    thinking=frozenset({"budget", "disabled"}),
    efforts=(),
)
ALWAYS = replace(RULES, thinking=frozenset({"adaptive"}))
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 1}, "who": {"type": ["string", "null"]}},
    "required": ["n"],
}


def user(content):
    return {"role": "user", "content": [{"type": "text", "text": content}]}


def body(*messages, **fields):
    return prepare(asking(*messages, **fields)).body


def dropped(*messages, **fields):
    with structlog.testing.capture_logs() as logs:
        prepare(asking(*messages, **fields))
    assert len(logs) <= 1
    return logs[0]["options"] if logs else []


async def test_a_whole_request_is_exactly_this():
    """System, images, thinking, calls and results, tools, options: the JSON and the headers on the wire."""
    request = asking(
        Message("system", "Be brief."),
        Message("system", "Be kind."),
        Message("user", "What is this?", images=(PNG,)),
        Message(
            "assistant",
            "Let me look.",
            thinking="unsigned",
            tool_calls=(ToolCall("", "look", {"at": "it"}), ToolCall("toolu_9", "now", {})),
        ),
        Message("tool", "", tool_name="now"),
        Message("tool", "a dot", images=(PNG,)),
        Message("user", "Go on."),
        Message("system", "It is late."),
        think="high",
        tools=(
            Tool("look", "Look at it", {"type": "object", "properties": {"at": {"type": "string"}}}),
            Tool("now"),
        ),
        options={"num_predict": 500, "stop": ["END", " "], "temperature": 0.1, "num_ctx": 8192},
    )
    async with Upstream() as upstream:
        upstream.reply(sse(start(), *text(0, "hi"), *stop()))
        host = upstream.url.removeprefix("http://")
        claude = backend(upstream.url, headers={"X-Team": "blue"})
        await reply(claude, request)
        await claude.aclose()
    sent = upstream.requests[0]
    cached = {"cache_control": {"type": "ephemeral"}}
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG.data}}
    assert sent.json == {
        "model": "claude-test",
        "max_tokens": 500,
        "stream": True,
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": "high"},
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        "messages": [
            {"role": "user", "content": [picture, {"type": "text", "text": "What is this?", **cached}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Let me look."},
                    {"type": "tool_use", "id": "Oloc8HOlE", "name": "look", "input": {"at": "it"}},
                    {"type": "tool_use", "id": "toolu_9", "name": "now", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "Oloc8HOlE",
                        "content": [{"type": "text", "text": "a dot"}, picture],
                    },
                    {"type": "tool_result", "tool_use_id": "toolu_9", "content": "(empty)"},
                    {"type": "text", "text": "Go on."},
                    {"type": "text", "text": "<system>\nIt is late.\n</system>", **cached},
                ],
            },
        ],
        "tools": [
            {
                "name": "look",
                "description": "Look at it",
                "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}},
            },
            {"name": "now", "input_schema": {"type": "object", "properties": {}}},
        ],
        "stop_sequences": ["END"],
    }
    assert (sent.method, sent.path) == ("POST", "/v1/messages")
    headers = dict(sent.headers)
    assert int(headers.pop("content-length")) == len(sent.body)
    assert headers.pop("host") == host
    assert headers.pop("accept-encoding")
    assert headers == {
        "accept": "application/json",
        "anthropic-version": "2026-10-21",
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "user-agent": f"ollama-bridge/{__version__}",
        "x-team": "blue",
    }


async def test_old_models_get_sampling_with_the_version_that_knows_it():
    """Temperature exists only under the old `anthropic-version`; top_p beside it is a 400, and 2.0 is too hot."""
    options = {"temperature": 1.7, "top_p": 0.9, "top_k": 40}
    async with Upstream() as upstream:
        upstream.reply(sse(start(), *text(0, "hi"), *stop()))
        claude = backend(upstream.url)
        await reply(claude, asking(rules=OLD, options=options))
        await claude.aclose()
    sent = upstream.requests[0]
    assert sent.headers["anthropic-version"] == "2023-06-01"
    assert {name: sent.json.get(name) for name in options} == {"temperature": 1.0, "top_p": None, "top_k": 40}


@pytest.mark.parametrize(
    ("think", "rules", "expected"),
    [
        (None, RULES, {}),
        (False, RULES, {"thinking": {"type": "disabled"}}),
        (
            False,
            replace(RULES, thinking=frozenset({"adaptive", "between_tools"})),
            {"thinking": {"type": "between_tools"}},
        ),
        (False, ALWAYS, {"output_config": {"effort": "low"}}),
        (False, Rules(thinking=frozenset(), efforts=()), {}),
        (True, RULES, {"thinking": {"type": "adaptive", "display": "summarized"}}),
        (
            "max",
            replace(RULES, efforts=("low", "medium", "high")),
            {
                "thinking": {"type": "adaptive", "display": "summarized"},
                "output_config": {"effort": "high"},
            },
        ),
        (True, OLD, {"thinking": {"type": "enabled", "budget_tokens": 8192}}),
        ("low", OLD, {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
        ("max", OLD, {"thinking": {"type": "enabled", "budget_tokens": 31999}}),
        (True, Rules(thinking=frozenset(), efforts=()), {}),
    ],
)
def test_think(think, rules, expected):
    """Each word of Ollama's in each of Anthropic's ways."""
    sent = body(rules=rules, think=think)
    assert {name: sent[name] for name in ("thinking", "output_config") if name in sent} == expected


def test_a_thinking_budget_leaves_room_for_the_answer():
    """It has to be smaller than `max_tokens`, and at least 1024; without that room thinking is left out."""
    sent = body(rules=OLD, think="high", options={"num_predict": 3000})
    assert sent["thinking"]["budget_tokens"] == 2999
    assert "thinking" not in body(rules=OLD, think="high", options={"num_predict": 1024})
    assert dropped(rules=OLD, think="high", options={"num_predict": 1024}) == ["think"]


def test_budget_thinking_pauses_inside_a_tool_loop():
    """The last turn would have to start with its signed thinking block, which clients do not return."""
    loop = [
        Message("user", "x"),
        Message("assistant", tool_calls=(ToolCall("a", "look", {}),)),
        Message("tool", "seen", tool_call_id="a"),
    ]
    assert "thinking" not in body(*loop, rules=OLD, think=True)
    assert body(*loop, think=True)["thinking"]["type"] == "adaptive"
    after = [*loop, Message("assistant", "done"), Message("user", "and now?")]
    assert body(*after, rules=OLD, think=True)["thinking"]["type"] == "enabled"


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"temperature": 0.2, "top_p": 0.97, "top_k": 3}, {"top_p": 0.97}),
        ({"temperature": 0.2, "top_p": 0.5}, {}),
    ],
)
def test_sampling_beside_thinking(options, kept):
    """Then only a top_p of 0.95 and more is accepted."""
    sent = body(rules=OLD, think=True, options=options)
    assert {name: sent[name] for name in options if name in sent} == kept


def test_what_a_model_refuses_is_dropped_with_one_line():
    """The line names the options, never a value of the conversation; hardware options are not worth one."""
    options = {"temperature": 0, "seed": 7, "stop": ["\n"], "num_ctx": 4096, "num_gpu": 1, "mirostat": 0}
    assert dropped(options=options, logprobs=True) == ["logprobs", "seed", "stop", "temperature"]
    assert dropped(options={"num_ctx": 4096}) == []
    assert dropped(rules=OLD, options={"top_k": -1}) == []


@pytest.mark.parametrize(("wanted", "sent"), [(-1, 8000), (-2, 8000), (0, 8000), (10, 10), (9000, 8000)])
def test_num_predict(wanted, sent):
    """The API demands a limit and refuses more than the model has."""
    assert body(most=8000, options={"num_predict": wanted})["max_tokens"] == sent


def test_stop_words_are_counted():
    """A single word is a list of one; beyond the API's number the rest is dropped."""
    assert body(options={"stop": "END"})["stop_sequences"] == ["END"]
    few = replace(RULES, max_stops=1)
    assert body(rules=few, options={"stop": ["A", "B"]})["stop_sequences"] == ["A"]
    assert dropped(rules=few, options={"stop": ["A", "B"]}) == ["stop"]


def test_a_schema_is_closed_and_within_the_apis_subset():
    """Objects are closed, what the API refuses becomes description, lists of types become alternatives."""
    sent = body(format=SCHEMA)["output_config"]["format"]
    assert sent == {
        "type": "json_schema",
        "schema": {
            "type": "object",
            "properties": {
                "n": {"type": "integer", "description": "{minimum: 1}"},
                "who": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "additionalProperties": False,
            "required": ["n"],
        },
    }


def test_a_schema_of_an_older_draft_keeps_its_references():
    """`definitions`, as zod and pydantic 1 write them."""
    inner = {"type": "object", "properties": {"x": {"type": "string"}}}
    schema = {
        "type": "object",
        "properties": {"definitions": {"$ref": "#/definitions/Inner"}},
        "definitions": {"Inner": inner},
    }
    sent = body(format=schema)["output_config"]["format"]["schema"]
    assert sent["$defs"]["Inner"]["additionalProperties"] is False
    assert sent["properties"]["definitions"] == {"$ref": "#/$defs/Inner"}


@pytest.mark.parametrize(
    ("wanted", "rules"),
    [("json", RULES), ({"anything": True}, RULES), (SCHEMA, replace(RULES, schema=False))],
)
def test_json_without_a_mode_for_it_is_an_instruction(wanted, rules):
    """There is no schemaless mode, and some schemas cannot be said in the API's subset."""
    sent = body(Message("system", "Be brief."), Message("user", "x"), format=wanted, rules=rules)
    assert "output_config" not in sent
    assert sent["system"][0]["text"] == "Be brief."
    assert "valid JSON" in sent["system"][1]["text"]


def test_consecutive_roles_are_joined_and_empty_messages_left_out():
    """The API wants alternation and refuses empty text blocks."""
    sent = body(
        Message("user", "a"),
        Message("user", " "),
        Message("user", "b"),
        Message("assistant", ""),
        Message("assistant", "c", thinking="only thought"),
        Message("assistant", thinking="only thought"),
        Message("user", "d"),
    )
    assert [(turn["role"], [part["text"] for part in turn["content"]]) for turn in sent["messages"]] == [
        ("user", ["a", "b"]),
        ("assistant", ["c"]),
        ("user", ["d"]),
    ]


def test_an_assistant_at_the_end_is_a_prefill_or_an_instruction():
    """Where it is refused (newer models, thinking, schemas) the model is asked to go on instead."""
    talk = (Message("user", "Count."), Message("assistant", "1, 2, "))
    prefilled = body(*talk, rules=OLD)["messages"][-1]
    assert prefilled == {"role": "assistant", "content": [{"type": "text", "text": "1, 2,"}]}
    for fields in ({}, {"rules": OLD, "think": True}, {"rules": OLD, "format": SCHEMA}):
        last = body(*talk, **fields)["messages"]
        assert [turn["role"] for turn in last] == ["user", "assistant", "user"]
        assert "Continue" in last[-1]["content"][0]["text"]


def test_a_conversation_starts_with_the_user():
    """A greeting by the assistant gets a line before it; a system prompt alone is the question."""
    greeted = body(Message("assistant", "Hello!"), Message("user", "x"))["messages"]
    assert [turn["role"] for turn in greeted] == ["user", "assistant", "user"]
    alone = body(Message("system", "Write a poem."))
    assert alone["messages"] == [user("Write a poem.")]
    assert "system" not in alone
    assert body(Message("user", ""))["messages"] == [user(NOTHING_SAID)]


@pytest.mark.parametrize("kind", ["image/bmp", "image/heic", "application/octet-stream"])
def test_images_of_other_kinds_are_the_clients_fault(kind):
    """The message names the kind and what would do."""
    with pytest.raises(InvalidRequest, match=f"{kind}.*PNG"):
        body(Message("user", "x", images=(replace(PNG, media_type=kind),)))


def test_calls_without_declarations_get_them():
    """Continue sends the history of tools without the tools; the model may not call them."""
    sent = body(
        Message("user", "x"),
        Message("assistant", tool_calls=(ToolCall("a", "look", {}),)),
        Message("tool", "seen", tool_call_id="a"),
    )
    assert sent["tools"] == [{"name": "look", "input_schema": {"type": "object", "properties": {}}}]
    assert sent["tool_choice"] == {"type": "none"}


def test_tool_names_fit_the_apis_alphabet_and_stay_apart():
    """Two names that would become one are numbered, and each comes back as its own."""
    tools = (Tool("a.b"), Tool("a b"), Tool("a_c"), Tool("ж" * 200))
    prepared = prepare(asking(tools=tools))
    names = [tool["name"] for tool in prepared.body["tools"]]
    assert names == ["a_b", "a_b_2", "a_c", "_" * 128]
    assert [prepared.tool_names.get(name, name) for name in names] == [tool.name for tool in tools]


def test_a_tool_declared_twice_is_sent_once():
    """The API refuses a name that stands twice."""
    assert len(body(tools=(Tool("a", "old"), Tool("a", "new")))["tools"]) == 1
