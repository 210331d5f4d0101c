"""Lines of an answer before readers that forgive nothing; `clients.md` names who they are."""

import json
from typing import Annotated, Literal

import pytest
from pydantic import Field, JsonValue

from ollama_bridge.config import Config
from running import ask, running
from strict import Closed, Count, Moment
from upstream import Upstream, split_at_random
from wires import WIRES, Said

ON_EVERY_WIRE = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


class Called(Closed):
    index: Count
    name: str
    arguments: dict[str, JsonValue]  # an object, for ollama-python, LangChain, LlamaIndex and langchain4j


class ToolCall(Closed):
    id: str
    function: Called


class SaidNow(Closed):
    role: Literal["assistant"]
    content: str  # always there: koog, Zed, ollama-ai-provider-v2
    thinking: str = ""
    # llm.el reads but the first of a line
    tool_calls: list[ToolCall] = Field(default_factory=list, min_length=1, max_length=1)


class Metrics(Closed):
    done: Literal[True]
    done_reason: Literal["stop", "length"]
    total_duration: Count
    load_duration: Count
    prompt_eval_count: Count
    prompt_eval_duration: Count
    eval_count: Count
    eval_duration: Count


class ChatLine(Closed):
    model: str
    created_at: Moment
    message: SaidNow
    done: Literal[False]


class SaidLast(SaidNow):
    content: Literal[""]


class ChatEnd(Metrics):
    model: str
    created_at: Moment
    message: SaidLast


class GenerateLine(Closed):
    model: str
    created_at: Moment
    response: str
    thinking: str = ""
    done: Literal[False]


class GenerateEnd(Metrics):
    model: str
    created_at: Moment
    response: Literal[""]
    context: list[int] = Field(default_factory=list)


class SaidWhole(SaidNow):
    tool_calls: list[ToolCall] = Field(default_factory=list)


class ChatWhole(Metrics):
    model: str
    created_at: Moment
    message: SaidWhole


class GenerateWhole(Metrics):
    model: str
    created_at: Moment
    response: str
    thinking: str = ""
    context: list[int] = Field(default_factory=list)


class Failure(Closed):
    error: Annotated[str, Field(min_length=1)]


ORDER = (
    *("model", "created_at", "message", "response", "thinking", "done", "done_reason", "context"),
    *("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration"),
    *("eval_count", "eval_duration"),
)
"""Of the keys of a line. Readers that take the second key of a call for its function also take `model` for the first."""

CALLS = (("get_weather", {"city": "Paris <&>"}), ("get_weather", {"city": "Rome"}))
DEEP = Said("Two\nlines, “quoted” & 👩‍🚀.", thinking="hm, so it is", calls=CALLS)
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
USER = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "m", "messages": USER, "tools": TOOLS, "think": True}
GENERATE = {"model": "m", "prompt": "Hi", "think": True}
PLAIN = Said("Two\nlines, “quoted” & 👩‍🚀.", thinking="hm, so it is")


async def answered(wire, path, body, said=PLAIN, seed=1, cut=None, **how):
    """What the daemon says when the model says so; `cut` bytes of it."""
    async with Upstream() as upstream:
        stream = wire.stream(said)[:cut]
        upstream.reply(split_at_random(stream, seed), **how)
        async with running(Config.model_validate(wire.config(upstream.url))) as daemon:
            return await ask(daemon.url, "POST", path, json.dumps(body))


def lines_of(chunk: bytes) -> list[bytes]:
    """What ollama-rs parses of one chunk, without the ones around it."""
    assert chunk.endswith(b"\n"), "a line must not be spread over two writes"
    lines = chunk[:-1].split(b"\n")
    assert all(lines), "a blank line is an error to ollama-python, LangChain, Zed and OllamaSharp"
    return lines


def in_order(line: bytes) -> None:
    keys = list(json.loads(line))
    assert keys == sorted(keys, key=ORDER.index)
    assert b"null" not in line


@ON_EVERY_WIRE
@pytest.mark.parametrize(
    ("path", "body", "said", "one", "last"),
    [
        ("/api/chat", CHAT, DEEP, ChatLine, ChatEnd),
        ("/api/generate", GENERATE, PLAIN, GenerateLine, GenerateEnd),
    ],
    ids=["chat", "generate"],
)
async def test_every_line_is_whole_closed_and_typed(wire, path, body, said, one, last):
    """Each write holds whole lines; every line has the keys of its kind and no other, in order; metrics come last."""
    got = await answered(wire, path, body, said)
    assert got.headers["Content-Type"] == "application/x-ndjson"
    lines = [line for chunk in got.chunks for line in lines_of(chunk)]
    assert len(lines) > 3
    for line in lines:
        in_order(line)
    for line in lines[:-1]:
        one.model_validate_json(line)
    last.model_validate_json(lines[-1])


@ON_EVERY_WIRE
async def test_the_second_key_of_a_call_is_its_function(wire):
    """`{"id":…,"function":{…}}` and nothing else, in this order: llm.el takes the second key, whatever it is."""
    got = await answered(wire, "/api/chat", CHAT, DEEP)
    calls = [line for line in got.lines if "tool_calls" in line["message"]]
    assert len(calls) == len(CALLS)
    for number, line in enumerate(calls):
        [call] = line["message"]["tool_calls"]
        assert list(call) == ["id", "function"]
        assert list(call["function"]) == ["index", "name", "arguments"]
        assert call["function"]["index"] == number
        assert line["message"]["content"] == ""
    assert len({line["message"]["tool_calls"][0]["id"] for line in calls}) == len(calls)


@ON_EVERY_WIRE
@pytest.mark.parametrize(
    ("path", "body", "said", "whole"),
    [
        ("/api/chat", CHAT, DEEP, ChatWhole),
        ("/api/generate", GENERATE, PLAIN, GenerateWhole),
    ],
    ids=["chat", "generate"],
)
async def test_the_whole_answer_is_as_strict(wire, path, body, said, whole):
    """`stream: false`: one object of the type that older koogs demand, with all metrics as integers."""
    got = await answered(wire, path, {**body, "stream": False}, said)
    assert got.headers["Content-Type"] == "application/json; charset=utf-8"
    in_order(got.body)
    whole.model_validate_json(got.body)


@ON_EVERY_WIRE
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_a_failure_in_mid_stream_is_one_line_and_the_last(wire, path):
    """After good lines one `{"error": "…"}`, in a write of whole lines, and nothing behind it."""
    body = CHAT if path == "/api/chat" else GENERATE
    half = len(wire.stream(PLAIN)) * 2 // 3
    got = await answered(wire, path, body, cut=half, then="cut")
    assert got.status == 200
    lines = [line for chunk in got.chunks for line in lines_of(chunk)]
    assert len(lines) > 1
    for line in lines[:-1]:
        (ChatLine if path == "/api/chat" else GenerateLine).model_validate_json(line)
    Failure.model_validate_json(lines[-1])


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 529])
async def test_a_failure_before_the_first_word_never_asks_for_a_sign_in(status):
    """`{"error": "…"}` with a status; 401 and 403 of a provider would make the CLI say "sign in to Ollama"."""
    async with Upstream() as upstream:
        upstream.reply(json.dumps({"error": {"message": "no"}}).encode(), status=status)
        config = Config.model_validate(WIRES[0].config(upstream.url))
        async with running(config) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", json.dumps(CHAT))
    assert got.status >= 400
    assert got.status not in {401, 403}
    assert got.headers["Content-Type"].startswith("application/json")
    Failure.model_validate_json(got.body)
