"""Claude to its depths: what is sent over the real SDK, and what clients of the daemon get."""

import copy
import json

import pytest
from structlog.testing import capture_logs

import heard
from anthropic_asking import asking, block, call, start, stop, text
from heard import TOOLS, bridged
from ollama_bridge.backends.anthropic_request import prepare
from ollama_bridge.backends.anthropic_words import PASSED_BLOCKS, PASSED_DELTAS, STOP_REASONS
from upstream import split_at_random, sse
from wires import WIRES

WAYS = (heard.native, heard.openai, heard.anthropic)
WORDS = {
    "stop": ("stop", "stop", "end_turn"),
    "tool_calls": ("stop", "tool_calls", "tool_use"),
    "length": ("length", "length", "max_tokens"),
    "refusal": ("stop", "content_filter", "refusal"),
}


async def answered(*payloads, ask=heard.native, **fields):
    async with bridged("anthropic") as (daemon, upstream):
        upstream.reply(split_at_random(sse(*payloads), seed=len(payloads)))
        return await ask(daemon, **fields)


# ---------------------------------------------------------------------------------------------- how it ends


@pytest.mark.parametrize("word", [*STOP_REASONS, "brand_new", None])
async def test_each_stop_reason_in_each_clients_words(word):
    """What is not known is a stop."""
    reason = STOP_REASONS.get(word, "stop")
    if word == "tool_use":
        reason = "tool_calls"
    for at, ask in enumerate(WAYS):
        said = [*text(0, "Hi"), *(call(1, "look", "{}") if reason == "tool_calls" else [])]
        found = await answered(start(), *said, *stop(word, output_tokens=600), ask=ask, **LIMIT[ask])
        assert (found.ended, found.error) == (WORDS[reason][at], "")
        assert set(found.text) == set("Hi")


LIMIT = {
    heard.native: {"options": {"num_predict": 500}},
    heard.openai: {"max_tokens": 500},
    heard.anthropic: {"max_tokens": 500},
}
"""So that a turn that pauses has nothing left to be gone on with."""


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"type": "refusal", "category": "cyber", "explanation": "Too dangerous."}, "Too dangerous."),
        ({"type": "refusal", "category": "bio", "explanation": None}, "The model declined to answer."),
        ({"explanation": 7}, "The model declined to answer."),
        ("odd", "The model declined to answer."),
        (None, "The model declined to answer."),
    ],
)
async def test_a_refusal_without_a_text_explains_itself(details, words):
    """And one behind a text leaves the text as it is."""
    for at, ask in enumerate(WAYS):
        refused = stop("refusal", stop_details=details)
        found = await answered(start(), *refused, ask=ask)
        assert (found.text, found.ended) == (words, WORDS["refusal"][at])
        found = await answered(start(), *text(0, "I would"), *refused, ask=ask)
        assert (found.text, found.ended) == ("I would", WORDS["refusal"][at])


async def test_a_call_that_nobody_says_is_at_its_end_is_made():
    """And a turn that calls tools says so, whatever its stop reason."""
    begun, *deltas, _ = call(0, "look", '{"at": ', '"x"}')
    for at, ask in enumerate(WAYS):
        found = await answered(start(), begun, *deltas, *stop("end_turn"), ask=ask)
        assert (found.calls, found.ended) == ([("look", {"at": "x"})], WORDS["tool_calls"][at])


@pytest.mark.parametrize(
    ("usage", "end", "tokens"),
    [
        ({"input_tokens": 3, "cache_read_input_tokens": None}, {"output_tokens": 7}, (3, 7)),
        ({"input_tokens": "3", "cache_read_input_tokens": "20"}, {"output_tokens": 7.0}, (23, 7)),
        ({"input_tokens": 3, "cache_creation": "odd"}, {"output_tokens": "seven", "output_tokens_details": []}, (3, 0)),
        (None, None, (1, 0)),
        (7, "odd", (1, 0)),
    ],
)  # fmt: skip
async def test_odd_usage_spoils_no_answer(usage, end, tokens):
    """What is no number counts nothing; the text is kept."""
    finish, last = stop()
    begun = {"type": "message_start", "message": {"usage": usage}}
    found = await answered(begun, *text(0, "Hi"), {**finish, "usage": end}, last)
    assert (found.text, found.ended, found.error) == ("Hi", "stop", "")
    assert found.tokens[0] == tokens[0]
    assert tokens[1] in (0, found.tokens[1])


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, 503, "Overloaded"),
        ({"type": "rate_limit_error", "message": "Slow down"}, 429, "rate limit is reached"),
        ({"type": "api_error", "message": "Oops"}, 502, "Oops"),
        ({"type": "timeout_error", "message": "Too slow"}, 504, "timed out"),
        ({"type": "billing_error", "message": "Pay"}, 429, "no credit left"),
        ({"type": "permission_error", "message": "No"}, 502, "key was refused"),
        ({"type": "invalid_request_error", "message": "Bad"}, 400, "refused the request"),
        (
            {"type": "rate_limit_error", "message": "Limit", "details": {"error_code": "enforced_spend_limit_reached"}},
            429,
            "no credit left",
        ),
        ({"type": "rate_limit_error", "message": "Limit", "details": {"error_code": ["odd"]}}, 429, "rate limit"),
        ({"type": "brand_new_error", "message": "New"}, 502, "New"),
    ],
)  # fmt: skip
async def test_each_error_event(error, status, words):
    """With its status before the first event, and within the answer behind it."""
    for ask in WAYS:
        found = await answered(start(), {"type": "error", "error": error}, ask=ask)
        assert (found.status, found.ended) == (status, None)
        assert words in found.error
        found = await answered(start(), *text(0, "Hi"), {"type": "error", "error": error}, ask=ask)
        assert (found.status, found.text, found.ended) == (200, "Hi", None)
        assert words in found.error


# --------------------------------------------------------------------------------------------------- blocks


async def test_blocks_of_all_kinds_lose_no_text():
    """Server tools, citations, redacted thinking, what is beta and what is not known yet: the text around them stays."""
    passed = [
        one
        for at, kind in enumerate([*PASSED_BLOCKS, "hologram"])
        for one in block(
            at + 10,
            kind,
            {"type": "input_json_delta", "partial_json": '{"query": '},
            {"type": "brand_new_delta", "glow": 3},
            *({"type": delta} for delta in PASSED_DELTAS),
            id="srv",
            name="web_search",
            input={},
            content=[{"type": "web_search_result", "title": "secret"}],
        )
    ]
    cited = block(
        1,
        "text",
        {"type": "citations_delta", "citation": {"url": "https://x"}},
        {"type": "text_delta", "text": "so"},
        {"type": "citations_delta", "citation": None},
        text="And ",
        citations=[],
    )
    odd = block(2, "hologram", {"type": "text_delta", "text": " it"})
    unseen = {"type": "content_block_delta", "index": 99, "delta": {"type": "text_delta", "text": " is."}}
    payloads = [start(), *passed[:20], *cited, {"type": "brand_new_event"}, *passed[20:], *odd, unseen]
    with capture_logs() as lines:
        async with bridged("anthropic") as (daemon, upstream):
            upstream.reply(sse(*payloads, *stop()))
            for _ in range(2):
                found = await heard.native(daemon)
                assert (found.text, found.thinking, found.ended) == ("And so it is.", "", "stop")
                assert found.calls == []
    told = {(line["what"], line["word"]) for line in lines if line["event"] == "passed over"}
    wanted = {("block", kind) for kind, is_told in PASSED_BLOCKS.items() if is_told}
    assert told == wanted | {
        ("block", "hologram"),
        ("delta", "brand_new_delta"),
        ("event", "brand_new_event"),
    }
    assert len([line for line in lines if line["event"] == "passed over"]) == len(told)
    assert not any("secret" in str(line) for line in lines)


async def test_thinking_goes_back_as_it_came_redacted_or_not():
    """In its place before the calls that it led to, in signed blocks and in encrypted ones."""
    payloads = [
        start(),
        *block(0, "thinking", {"type": "thinking_delta", "thinking": "Hm."}, {"type": "signature_delta", "signature": "c2"}, {"type": "signature_delta", "signature": "ln"}, thinking="", signature=""),
        *block(1, "redacted_thinking", data="ZW5j"),
        *text(2, "Let me look."),
        *block(3, "thinking", {"type": "signature_delta", "signature": "b21p"}, thinking="", signature=""),
        *call(4, "look", '{"at": "x"}'),
        *stop("tool_use"),
    ]  # fmt: skip
    conversation = [
        {"role": "user", "content": "?"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [{"id": "toolu_1", "function": {"name": "look", "arguments": {"at": "x"}}}],
        },
        {"role": "tool", "content": "a pen", "tool_call_id": "toolu_1"},
    ]
    async with bridged("anthropic") as (daemon, upstream):
        upstream.reply(sse(*payloads))
        upstream.reply(sse(start(), *text(0, "A pen."), *stop()))
        first = await heard.native(daemon, tools=TOOLS, think=True)
        assert (first.thinking, first.text) == ("Hm.", "Let me look.")
        await heard.native(daemon, tools=TOOLS, think=True, messages=conversation)
    assert upstream.requests[1].json["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZW5j"},
        {"type": "text", "text": "Let me look."},
        {"type": "thinking", "thinking": "", "signature": "b21p"},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "x"}},
    ]


# ------------------------------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("model", "think", "thinking", "effort"),
    [
        ("claude-sonnet-4-6", True, {"type": "adaptive", "display": "summarized"}, None),
        ("claude-sonnet-4-6", "high", {"type": "adaptive", "display": "summarized"}, "high"),
        ("claude-sonnet-4-6", False, {"type": "disabled"}, None),
        ("claude-sonnet-5-5", False, {"type": "between_tools"}, None),
        ("claude-opus-5-5", False, None, "low"),
        ("claude-opus-5-5", "max", {"type": "adaptive", "display": "summarized"}, "max"),
        ("claude-opus-5-5", None, {"type": "adaptive", "display": "summarized"}, None),
        ("claude-haiku-4-5", True, {"type": "enabled", "budget_tokens": 8192}, None),
        ("claude-haiku-4-5", "low", {"type": "enabled", "budget_tokens": 2048}, None),
        ("claude-haiku-4-5", None, None, None),
    ],
)
async def test_thinking_and_a_schema_are_asked_for_by_the_models_rules(model, think, thinking, effort):
    """Adaptive, by budget, between tools or not at all; the effort and the format in one `output_config`."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    config = WIRES[0].config("")["models"][0]
    async with bridged("anthropic", models=[{**config, "backend_model": model}]) as (daemon, upstream):
        upstream.reply(sse(start(), *text(0, "{}"), *stop()))
        await heard.native(daemon, format=schema, **({} if think is None else {"think": think}))
    body = upstream.requests[0].json
    assert body.get("thinking") == thinking
    assert body["output_config"] == {
        "format": {"type": "json_schema", "schema": {**schema, "additionalProperties": False}},
        **({"effort": effort} if effort else {}),
    }


CLOSED = [
    {"type": "object", "properties": {"n": {"type": "integer"}}},
    {
        "type": "object",
        "additionalProperties": True,
        "properties": {"o": {"type": "object", "properties": {"n": {"type": "null"}}}},
    },
    {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}},
    {"anyOf": [{"type": "object", "properties": {"n": {"type": "null"}}}, {"type": "null"}]},
    {"$defs": {"D": {"type": "object", "properties": {"n": {"type": "string"}}}}, "$ref": "#/$defs/D"},
    {"type": ["object", "null"], "properties": {"n": {"type": "string"}}},
]


def objects(schema):
    """Every schema of an object in it."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for inner in schema.values():
            yield from objects(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from objects(inner)


@pytest.mark.parametrize("schema", CLOSED, ids=json.dumps)
def test_every_object_of_a_schema_is_closed_and_the_clients_schema_stays(schema):
    """The API refuses any other; what the client sent is the client's."""
    before = copy.deepcopy(schema)
    sent = prepare(asking(format=schema)).body["output_config"]["format"]["schema"]
    assert schema == before
    assert [one["additionalProperties"] for one in objects(sent)] == [False] * len([*objects(sent)])
    assert [*objects(sent)]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {
            "type": "object",
            "properties": {"by_name": {"type": "object", "additionalProperties": {"type": "number"}}},
        },
        {"type": "object", "properties": {"any": {"type": "object", "properties": {}}}},
    ],
    ids=json.dumps,
)
def test_an_object_whose_keys_the_model_chooses_is_asked_for_in_words(schema):
    """Closed, it would always be empty."""
    body = prepare(asking(format=schema)).body
    assert "output_config" not in body
    assert json.dumps(schema, separators=(",", ":")) in body["system"][0]["text"]
