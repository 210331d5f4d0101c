"""/v1/responses through the running daemon: the official `openai` package and Codex's way of asking."""

import asyncio
import json
from contextlib import asynccontextmanager

import openai
import pytest
import zstandard
from pydantic import BaseModel

from ollama_bridge.config import Config
from ollama_bridge.server import delivery
from running import ask, connect, request, running
from upstream import Upstream, split_at_random
from wires import WIRES, Said

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
}
PARIS = ("get_weather", {"city": "Paris"})
HI = {"model": "m", "input": "hi"}

every_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


class Answer(BaseModel):
    n: int


@asynccontextmanager
async def bridge(wire, *said, **extra):
    """The daemon, and the client; one upstream says `said`, one after the other, cut at random borders."""
    async with Upstream() as upstream:
        for number, one in enumerate(said):
            upstream.reply(split_at_random(wire.stream(one), seed=number))
        async with running(Config.model_validate(wire.config(upstream.url, **extra))) as daemon:
            base_url = f"{daemon.url}/v1"
            async with openai.AsyncOpenAI(api_key="none", base_url=base_url, max_retries=0) as client:
                yield client, upstream


@every_wire
@pytest.mark.clients
async def test_an_answer(wire):
    """Thinking and text, with what they took."""
    async with bridge(wire, Said("Hello there", thinking="Hm. ")) as (client, _):
        response = await client.responses.create(model="m", input="hi", instructions="Be brief.")
    assert response.output_text == "Hello there"
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.output[0].summary[0].text == "Hm. "
    assert (response.status, response.model, response.instructions) == ("completed", "m", "Be brief.")
    assert response.usage.total_tokens == 18


@every_wire
@pytest.mark.clients
async def test_a_stream(wire):
    """The package's own accumulator takes every event, and ends with the whole response."""
    async with bridge(wire, Said("Hello there", thinking="Hm. ")) as (client, _):
        async with client.responses.stream(model="m", input="hi") as stream:
            events = [event async for event in stream]
        response = await stream.get_final_response()
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == response.output_text == "Hello there"
    assert len(deltas) > 1
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert response.usage.output_tokens == 7


@every_wire
@pytest.mark.clients
@pytest.mark.parametrize("stream", [True, False])
async def test_tools_in_two_turns(wire, stream):
    """All items of the first reply go back with the results, and the provider is asked a history it takes."""
    first = Said("Let me see.", thinking="Hm. ", calls=(PARIS, ("get_weather", {"city": "Rome"})))
    async with bridge(wire, first, Said("Sunny in both.")) as (client, upstream):

        async def said(items):
            asked = {"model": "m", "input": items, "tools": [WEATHER]}
            if not stream:
                return await client.responses.create(**asked)
            async with client.responses.stream(**asked) as events:
                return await events.get_final_response()

        history = [{"role": "user", "content": "Weather?"}]
        response = await said(history)
        calls = [item for item in response.output if item.type == "function_call"]
        assert response.output_text == "Let me see."
        assert [(call.name, json.loads(call.arguments)) for call in calls] == [
            PARIS,
            ("get_weather", {"city": "Rome"}),
        ]
        history += [item.model_dump(exclude_none=True) for item in response.output]
        history += [
            {"type": "function_call_output", "call_id": call.call_id, "output": f"sunny, {call.call_id}"}
            for call in calls
        ]
        last = await said(history)
    assert last.output_text == "Sunny in both."
    asked = upstream.requests[1].body.decode()
    if wire.name == "anthropic":  # what it sealed returns though the wire does not carry it
        assert '"signature":"c2ln"' in asked.replace(": ", ":")
    for text in ("Weather?", "Let me see.", "Paris", "Rome", *(f"sunny, {call.call_id}" for call in calls)):
        assert asked.count(text) == 1, text


@every_wire
@pytest.mark.clients
async def test_structured_output(wire):
    """`parse` gives the object, and the provider is told the schema."""
    async with bridge(wire, Said('{"n": 5}')) as (client, upstream):
        response = await client.responses.parse(model="m", input="a number as JSON", text_format=Answer)
    assert response.output_parsed == Answer(n=5)
    assert '"integer"' in json.dumps(upstream.requests[0].json)


@every_wire
@pytest.mark.clients
async def test_images(wire):
    """An image reaches the provider beside its text."""
    content = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{PNG}"},
    ]
    async with bridge(wire, Said("A dot.")) as (client, upstream):
        response = await client.responses.create(model="m", input=[{"role": "user", "content": content}])
    assert response.output_text == "A dot."
    assert PNG in upstream.requests[0].body.decode()


@every_wire
@pytest.mark.clients
async def test_a_forced_tool(wire):
    """`tool_choice` reaches the provider in its own words."""
    async with bridge(wire, Said(calls=(PARIS,))) as (client, upstream):
        response = await client.responses.create(
            model="m", input="x", tools=[WEATHER], tool_choice="required", reasoning={"effort": "none"}
        )
    assert response.output[0].name == "get_weather"
    sent = upstream.requests[0].json
    choice = sent.get("tool_choice") or sent["toolConfig"]["functionCallingConfig"]
    assert choice in ("required", {"type": "any"}, {"mode": "ANY"})


@every_wire
@pytest.mark.clients
async def test_a_reply_that_was_cut_short(wire):
    """The text is there, and the status says that there is more."""
    async with bridge(wire, *2 * [Said("Hello", ended="length")]) as (client, _):
        whole = await client.responses.create(model="m", input="hi", max_output_tokens=20)
        async with client.responses.stream(model="m", input="hi") as stream:
            streamed = await stream.get_final_response()
    for response in (whole, streamed):
        assert (response.status, response.output_text) == ("incomplete", "Hello")
        assert response.incomplete_details.reason == "max_output_tokens"


@every_wire
@pytest.mark.clients
@pytest.mark.parametrize("stream", [True, False])
async def test_a_provider_that_fails_at_once(wire, stream):
    """The package raises the error of the status, with our words."""
    never = {"heartbeat_s": 0}  # however slow the machine: a heartbeat would take the status away
    async with bridge(wire, streaming=never) as (client, upstream):
        upstream.only(b'{"error":{"message":"down"}}', status=503)
        with pytest.raises(openai.InternalServerError, match="model") as failed:
            await client.responses.create(model="m", input="hi", stream=stream)
    assert failed.value.status_code == 503
    assert failed.value.type == "api_error"


@every_wire
@pytest.mark.clients
async def test_a_provider_that_fails_in_mid_stream(wire):
    """What was said so far comes, then the failure, in the response; the stream ends properly."""
    whole = wire.stream(Said("Hello there"))
    async with bridge(wire) as (client, upstream):
        upstream.only([whole[: whole.index(b" ther")]], then="cut")
        async with client.responses.stream(model="m", input="hi") as stream:
            events = [event async for event in stream]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text
    assert "Hello".startswith(text)
    response = events[-1].response
    assert (events[-1].type, response.status) == ("response.failed", "failed")
    assert response.error.code == "server_error"
    assert response.output_text == text


@pytest.mark.clients
async def test_log_probabilities():
    """They are asked for by `include`."""
    async with bridge(WIRES[2]) as (client, upstream):
        content = [{"token": "Hi", "logprob": -0.5, "top_logprobs": []}]
        choice = {"index": 0, "delta": {"content": "Hi"}, "logprobs": {"content": content}}
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        chunks = [json.dumps({"choices": [one]}) for one in (choice, end)]
        upstream.only("".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"]).encode())
        response = await client.responses.create(
            model="m", input="hi", include=["message.output_text.logprobs"], top_logprobs=2
        )
    (entry,) = response.output[0].content[0].logprobs
    assert (entry.token, entry.logprob, entry.bytes) == ("Hi", -0.5, [72, 105])
    assert upstream.requests[0].json["top_logprobs"] == 2


# ------------------------------------------------------------------------------------------------------- Codex

PATCH = "*** Begin Patch\n*** Update File: a.py\n*** End Patch"


def codex(*items):
    """A request as Codex makes it."""
    return {
        "model": "m",
        "instructions": "You are Codex.",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Sandbox."}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix it."}]},
            *items,
        ],
        "tools": [
            {"type": "function", "name": "shell", "strict": False, "description": "d", "parameters": {"type": "object"}},
            {"type": "custom", "name": "apply_patch", "description": "Edit files.", "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin"}},
            {"type": "namespace", "name": "mcp__docs__", "description": "d", "tools": [{"type": "function", "name": "find", "parameters": {"type": "object"}}]},
            {"type": "web_search", "external_web_access": False},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "0199",
        "text": {"verbosity": "low"},
        "client_metadata": {"x": "y"},
    }  # fmt: skip


def items_done(got):
    """What Codex reads of a stream: finished items, once the response is complete."""
    events = [json.loads(line[6:]) for line in got.body.decode().split("\n") if line.startswith("data: ")]
    assert events[-1]["type"] == "response.completed"
    return [event["item"] for event in events if event["type"] == "response.output_item.done"]


@every_wire
async def test_codex_edits_a_file_in_two_turns(wire):
    """Compressed bodies, free text tools, namespaces, hosted tools; ids are not sent back, thinking is."""
    calls = (("apply_patch", {"input": PATCH}), ("mcp__docs__find", {"q": "x"}))
    zstd = {"Content-Encoding": "zstd"}
    async with Upstream() as upstream:
        upstream.reply(wire.stream(Said("On it.", thinking="Hm. ", calls=calls)))
        upstream.reply(wire.stream(Said("Done.")))
        async with running(Config.model_validate(wire.config(upstream.url))) as daemon:

            async def turn(*items):
                body = zstandard.compress(json.dumps(codex(*items)).encode())
                return items_done(await ask(daemon.url, "POST", "/v1/responses", body, zstd))

            said = await turn()
            assert [item["type"] for item in said] == [
                "reasoning",
                "message",
                "custom_tool_call",
                "function_call",
            ]
            patch, find = said[2:]
            assert (patch["name"], patch["input"]) == ("apply_patch", PATCH)
            assert (find["namespace"], find["name"], find["arguments"]) == (
                "mcp__docs__",
                "find",
                '{"q":"x"}',
            )
            history = [
                {key: value for key, value in item.items() if key not in {"id", "status"}} for item in said
            ]
            history += [
                {"type": "custom_tool_call_output", "call_id": patch["call_id"], "output": "patched"},
                {"type": "function_call_output", "call_id": find["call_id"], "output": "found"},
            ]
            (last,) = await turn(*history)
    assert last["content"][0]["text"] == "Done."
    first, second = (one.body.decode() for one in upstream.requests)
    assert all(
        name in first for name in ("You are Codex.", "Sandbox.", "apply_patch", "mcp__docs__find", "shell")
    )
    assert "web_search" not in first
    assert all(text in second for text in ("Update File: a.py", "patched", "found", "On it."))


# ---------------------------------------------------------------------------------------------- the bare wire


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(delivery, "FIRST_HEARTBEAT_S", 0.02)


async def test_a_silent_model_is_seen_to_live_and_may_still_fail(impatient):
    """The stream opens before the model speaks; a failure then is told in it."""
    go_on = asyncio.Event()
    wire = WIRES[0]
    async with Upstream() as upstream:
        config = wire.config(upstream.url, streaming={"heartbeat_s": 0.02})
        async with running(Config.model_validate(config)) as daemon:
            upstream.reply(b"{}", status=529, hold=go_on)
            reader, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/v1/responses", {**HI, "stream": True}))
            head = await reader.readuntil(b"event: response.in_progress\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            await reader.readuntil(b"event: response.in_progress\n")
            go_on.set()
            rest = (await reader.readuntil(b"\r\n0\r\n\r\n")).decode()
            writer.close()
    last = json.loads(rest.rpartition("data: ")[2].partition("\n")[0])
    assert last["type"] == "response.failed"
    assert last["response"]["output"] == []


@pytest.mark.parametrize("stream", [True, False])
async def test_a_load_asks_nobody(stream):
    """As in a real server, no input is no question: the model counts as used, and nothing is generated."""
    wire = WIRES[0]
    async with Upstream() as upstream, running(Config.model_validate(wire.config(upstream.url))) as daemon:
        got = await ask(daemon.url, "POST", "/v1/responses", {"model": "m", "stream": stream})
        loaded = (await ask(daemon.url, "GET", "/api/ps")).json["models"]
    response = json.loads(got.body.decode().rpartition("data: ")[2]).get("response") if stream else got.json
    assert response["output"][0]["content"][0]["text"] == ""
    assert [model["name"] for model in loaded] == ["m:latest"]
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "EOF"),
        (b"{", 400, "unexpected EOF"),
        (b"[]", 400, "json: cannot unmarshal array into Go value of type openai.ResponsesRequest"),
        (b'{"input":"x","model":5}', 400, "json: cannot unmarshal number into Go struct field ResponsesRequest.model of type string"),
        (b'{"INPUT":"x","Model":"nope"}', 404, "model 'nope' not found"),
        (b'{"input":"x","model":" "}', 400, "model is required"),
        (b'{"input":"x","model":"m","previous_response_id":"resp_1"}', 400, "previous_response_id: nothing is stored here, send the whole conversation as input"),
    ],
)  # fmt: skip
async def test_bad_requests(body, status, words):
    """OpenAI's envelope, Ollama's words."""
    wire = WIRES[0]
    async with Upstream() as upstream, running(Config.model_validate(wire.config(upstream.url))) as daemon:
        got = await ask(daemon.url, "POST", "/v1/responses", body)
    kind = {400: "invalid_request_error", 404: "not_found_error"}[status]
    assert (got.status, got.json) == (
        status,
        {"error": {"message": words, "type": kind, "param": None, "code": None}},
    )


async def test_a_body_that_is_no_zstd():
    wire = WIRES[0]
    async with Upstream() as upstream, running(Config.model_validate(wire.config(upstream.url))) as daemon:
        got = await ask(daemon.url, "POST", "/v1/responses", HI, {"Content-Encoding": "zstd"})
    assert got.status == 400
    assert "zstd" in got.json["error"]["message"]


async def test_a_client_that_leaves_ends_the_call():
    """The provider's connection is closed at once."""
    hold = asyncio.Event()
    wire = WIRES[0]
    whole = wire.stream(Said("Hello there"))
    async with Upstream() as upstream, running(Config.model_validate(wire.config(upstream.url))) as daemon:
        upstream.reply([whole[: whole.index(b" ther")], b""], hold=hold, held_after=1)
        reader, writer = await connect(daemon.url)
        writer.write(request(daemon.url, "POST", "/v1/responses", {**HI, "stream": True}))
        await reader.readuntil(b"response.output_text.delta")
        writer.close()
        await asyncio.wait_for(upstream.closed_early.wait(), 5)


async def test_a_thousand_tools_and_a_wrong_method():
    """Tools are taken as they are; the route knows only POST."""
    wire = WIRES[0]
    tools = [{**WEATHER, "name": f"tool_{number}"} for number in range(1000)]
    async with Upstream() as upstream, running(Config.model_validate(wire.config(upstream.url))) as daemon:
        upstream.reply(wire.stream(Said("Hello")))
        got = await ask(daemon.url, "POST", "/v1/responses", {**HI, "tools": tools})
        other = await ask(daemon.url, "GET", "/v1/responses")
    assert len(got.json["tools"]) == len(upstream.requests[0].json["tools"]) == 1000
    assert (other.status, other.headers["Allow"]) == (405, "POST")
