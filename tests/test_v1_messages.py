"""/v1/messages of the running daemon, through each SDK: the official `anthropic` package and plain sockets ask."""

import asyncio
import base64
import json
from contextlib import asynccontextmanager

import anthropic
import pytest
import zstandard

from messages_asking import client_of, sent
from ollama_bridge.config import Config
from ollama_bridge.server import delivery
from running import ask, running
from upstream import Upstream, split_at_random
from wires import WIRES, Said

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(24)).decode()
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
USER = {"role": "user", "content": "hello"}
HI = {"model": "m", "max_tokens": 100, "messages": [USER]}
ENDS = {"stop": "end_turn", "length": "max_tokens"}

each_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


@asynccontextmanager
async def daemon_saying(wire, *said):
    """The daemon, and its upstream that says `said`, one after the other, cut at random borders."""
    async with Upstream() as upstream:
        for number, one in enumerate(said):
            upstream.reply(split_at_random(wire.stream(one), seed=number))
        async with running(Config.model_validate(wire.config(upstream.url))) as daemon:
            yield daemon, upstream


@asynccontextmanager
async def bridge(wire, *said):
    async with daemon_saying(wire, *said) as (daemon, upstream), client_of(daemon) as client:
        yield client, upstream


# ------------------------------------------------------------------------------------------ the official client


@each_wire
@pytest.mark.parametrize("ended", ["stop", "length"])
async def test_a_message(wire, ended):
    """Text, model, stop reason and usage; system prompt and limit arrive at the provider."""
    async with bridge(wire, Said("Hello there", ended=ended)) as (client, upstream):
        message = await client.messages.create(**HI, system="Be brief.")
        assert [block.text for block in message.content] == ["Hello there"]
        assert (message.model, message.role, message.stop_reason) == ("m", "assistant", ENDS[ended])
        assert message.stop_sequence is None
        assert (message.usage.input_tokens, message.usage.output_tokens) == (11, 7)
        assert "Be brief." in sent(upstream)
        assert "hello" in sent(upstream)


@each_wire
@pytest.mark.parametrize(
    "said",
    [
        Said("Hello there"),
        Said("Hello there", thinking="Let me think."),
        Said("Calling.", calls=(("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"}))),
        Said(thinking="Hm.", calls=(("get_weather", {"city": "<Ö>"}),)),
        Said("Half", ended="length"),
    ],
)
async def test_a_stream_amounts_to_the_whole_message(wire, said):
    """The client's own accumulator ends with what a whole answer says; blocks of `said` are all there."""
    async with bridge(wire, said, said) as (client, _):
        async with client.messages.stream(**HI, tools=[WEATHER]) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            streamed = await stream.get_final_message()
        whole = await client.messages.create(**HI, tools=[WEATHER])
    bare = {"exclude_none": True}
    assert streamed.to_dict(**bare) | {"id": whole.id} == whole.to_dict(**bare)
    assert text == said.text
    assert [block.thinking for block in whole.content if block.type == "thinking"] == [said.thinking] * bool(
        said.thinking
    )
    calls = [(block.name, block.input) for block in whole.content if block.type == "tool_use"]
    assert calls == list(said.calls)
    assert len({block.id for block in whole.content if block.type == "tool_use"}) == len(calls)
    assert whole.stop_reason == ("tool_use" if calls else ENDS[said.ended])


@each_wire
async def test_tools_round_trip(wire):
    """Two turns: the calls, their results behind them, one of them an error with an image; then the answer."""
    first = Said(
        "Looking.", thinking="Hm.", calls=(("get_weather", {"city": "Paris"}), ("get_weather", {"city": "X"}))
    )
    async with bridge(wire, first, Said("21 degrees.")) as (client, upstream):
        asked = await client.messages.create(**HI, tools=[WEATHER], tool_choice={"type": "auto"})
        calls = [block for block in asked.content if block.type == "tool_use"]
        results = [
            {"type": "tool_result", "tool_use_id": calls[0].id, "content": "21 C"},
            {
                "type": "tool_result",
                "tool_use_id": calls[1].id,
                "is_error": True,
                "content": [
                    {"type": "text", "text": "no such city"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                ],
            },
            {"type": "text", "text": "Well?"},
        ]
        answer = await client.messages.create(
            **{
                **HI,
                "messages": [
                    USER,
                    {"role": "assistant", "content": asked.content},
                    {"role": "user", "content": results},
                ],
            },
            tools=[WEATHER],
        )
        assert answer.content[0].text == "21 degrees."
        body = sent(upstream)
    places = [
        body.index(words) for words in ("hello", "Looking.", "Paris", "21 C", "Error: no such city", "Well?")
    ]
    assert places == sorted(places)
    assert PNG in body


@each_wire
async def test_images(wire):
    """They arrive at the provider, with the kind their bytes have."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG}}
    content = [image, {"type": "text", "text": "What is it?"}]
    async with bridge(wire, Said("A picture.")) as (client, upstream):
        message = await client.messages.create(**{**HI, "messages": [{"role": "user", "content": content}]})
        assert message.content[0].text == "A picture."
        assert PNG in sent(upstream)
        assert "image/png" in sent(upstream)


@each_wire
async def test_thinking_is_asked_for_and_comes_back(wire):
    """Blocks with our empty signature, and redacted ones, are taken back."""
    async with bridge(wire, Said("Hi", thinking="Hm."), Said("Bye")) as (client, _):
        first = await client.messages.create(
            **{**HI, "max_tokens": 3000}, thinking={"type": "enabled", "budget_tokens": 2000}
        )
        assert [block.type for block in first.content] == ["thinking", "text"]
        turn = [*(block.to_dict() for block in first.content), {"type": "redacted_thinking", "data": "x"}]
        second = await client.messages.create(
            **{**HI, "messages": [USER, {"role": "assistant", "content": turn}, USER]}
        )
        assert second.content[-1].text == "Bye"


@each_wire
async def test_what_claude_code_sends_is_taken(wire):
    """Cache marks everywhere, betas, server tools, adaptive thinking with an effort, metadata, a query string."""
    mark = {"type": "ephemeral", "ttl": "1h"}
    async with bridge(wire, Said("Fine.")) as (client, upstream):
        message = await client.beta.messages.create(
            **{
                **HI,
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "hello", "cache_control": mark}]}
                ],
            },
            betas=["context-management-2025-06-27"],
            system=[{"type": "text", "text": "You are an agent.", "cache_control": mark}],
            tools=[{**WEATHER, "cache_control": mark}, {"type": "web_search_20250305", "name": "web_search"}],
            tool_choice={"type": "auto", "disable_parallel_tool_use": True},
            thinking={"type": "adaptive"},
            output_config={"effort": "medium"},
            metadata={"user_id": "u"},
        )
        assert message.content[0].text == "Fine."
        assert "You are an agent." in sent(upstream)
        assert "web_search" not in sent(upstream)
        body = upstream.requests[0].json
    if wire.name == "anthropic":  # the only one that knows such marks
        marked = [body["system"][0], body["tools"][0], body["messages"][0]["content"][0]]
        assert [block["cache_control"] for block in marked] == [mark] * 3
        assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


@each_wire
async def test_a_provider_that_refuses_is_a_typed_error(wire):
    """Before the first word: the status, Anthropic's envelope, and who failed at what."""
    async with Upstream() as upstream:
        upstream.reply(b'{"error":{"message":"slow down","type":"rate_limit_error"}}', status=429)
        async with (
            running(Config.model_validate(wire.config(upstream.url))) as daemon,
            client_of(daemon) as client,
        ):
            for stream in (False, True):
                with pytest.raises(anthropic.RateLimitError) as caught:
                    await client.messages.create(**HI, stream=stream)
                told = caught.value.body
                assert told["error"]["type"] == "rate_limit_error"
                assert wire.key in told["error"]["message"]
                assert told["request_id"].startswith("req_")


@each_wire
async def test_a_provider_that_breaks_off_is_an_error_in_the_stream(wire):
    """What was said is there, then the client raises: half an answer is not taken for a whole one."""
    said = wire.stream(Said("Hello there, and so on"))
    async with Upstream() as upstream:
        upstream.reply(said[: said.index(b" ther") + 60], then="cut")
        async with (
            running(Config.model_validate(wire.config(upstream.url))) as daemon,
            client_of(daemon) as client,
        ):
            text = ""
            async with client.messages.stream(**HI) as stream:
                pieces = aiter(stream.text_stream)
                text += await anext(pieces)
                with pytest.raises(anthropic.APIStatusError) as caught:
                    text += "".join([piece async for piece in pieces])
            with pytest.raises(anthropic.InternalServerError):
                await client.messages.create(**HI)
    assert text
    assert "Hello there, and so on".startswith(text)
    assert caught.value.body["error"]["type"] == "api_error"


async def test_the_clients_types_of_errors():
    """Unknown models and malformed requests are what Anthropic's clients call them."""
    async with bridge(WIRES[0], Said("x")) as (client, upstream):
        with pytest.raises(anthropic.NotFoundError, match="model 'nope' not found"):
            await client.messages.create(**{**HI, "model": "nope"})
        with pytest.raises(anthropic.BadRequestError, match="max_tokens is required and must be positive"):
            await client.messages.create(**{**HI, "max_tokens": 0})
        assert not upstream.requests


# ------------------------------------------------------------------------------------------------ plain sockets


@pytest.mark.parametrize(
    ("body", "status", "kind", "words", "content_type"),
    [
        (b"", 400, "invalid_request_error", "EOF", "application/json; charset=utf-8"),
        (b"{}", 400, "invalid_request_error", "model is required", "application/json; charset=utf-8"),
        ({**HI, "model": "nope"}, 404, "not_found_error", "model 'nope' not found", "application/json"),
        (
            {**HI, "model": "a b", "stream": True},
            400,
            "invalid_request_error",
            "invalid model name",
            "application/json",
        ),
        (
            {**HI, "model": "mute", "tools": [WEATHER]},
            400,
            "invalid_request_error",
            "registry.ollama.ai/library/mute:latest does not support tools",
            "application/json",
        ),
    ],
)
async def test_errors_are_those_of_a_real_server(body, status, kind, words, content_type):
    """§12 N: envelope, status, and who says his charset."""
    async with Upstream() as upstream:
        config = WIRES[0].config(upstream.url)
        config["models"].append({**config["models"][0], "name": "mute", "capabilities": ["completion"]})
        async with running(Config.model_validate(config)) as daemon:
            got = await ask(daemon.url, "POST", "/v1/messages", body)
    assert (got.status, got.headers["Content-Type"]) == (status, content_type)
    assert list(got.json) == ["type", "error", "request_id"]
    assert got.json["error"] == {"type": kind, "message": words}


async def test_the_bytes_of_replies():
    """Headers and framing of a stream, and of a whole answer; a query string changes nothing; bodies may be zstd."""
    async with daemon_saying(WIRES[2], Said("Hi"), Said("Hi")) as (daemon, _):
        squeezed = zstandard.compress(json.dumps({**HI, "stream": True}).encode())
        got = await ask(
            daemon.url,
            "POST",
            "/v1/messages?beta=true",
            squeezed,
            {"Content-Encoding": "zstd", "x-api-key": ""},
        )
        assert got.headers["Content-Type"] == "text/event-stream"
        assert got.headers["Cache-Control"] == "no-cache"
        blocks = got.body.decode().split("\n\n")
        names = [block.partition("\n")[0] for block in blocks]
        assert names == [
            *("event: message_start", "event: content_block_start", "event: content_block_delta"),
            *("event: content_block_stop", "event: message_delta", "event: message_stop", ""),
        ]
        start = json.loads(blocks[0].partition("data: ")[2])["message"]
        assert "stop_reason" not in start
        assert start["usage"]["input_tokens"] > 0
        got = await ask(daemon.url, "POST", "/v1/messages", HI)
        assert got.headers["Content-Type"] == "application/json"
        assert got.body.endswith(b"}\n")
        assert list(got.json) == ["id", "type", "role", "model", "content", "stop_reason", "usage"]


async def test_a_silent_stream_pings_and_a_late_failure_is_an_event(monkeypatch):
    """Once it has begun there is no status any more; the client still raises."""
    monkeypatch.setattr(delivery, "FIRST_HEARTBEAT_S", 0.02)
    go_on = asyncio.Event()
    async with Upstream() as upstream:
        upstream.reply(b'{"error":{"message":"x","type":"overloaded_error"}}', status=529, hold=go_on)
        config = WIRES[0].config(upstream.url, streaming={"heartbeat_s": 0.02})
        async with running(Config.model_validate(config)) as daemon, client_of(daemon) as client:
            response = await client.messages.with_raw_response.create(**HI, stream=True)
            lines = response.http_response.aiter_lines()
            told = [await anext(lines) for _ in range(6)]
            go_on.set()
            told += [line async for line in lines]
    names = [line.removeprefix("event: ") for line in told if line.startswith("event: ")]
    assert names[:2] == ["message_start", "ping"]
    assert (names[-1], set(names[1:-1])) == ("error", {"ping"})
    failure = json.loads(
        next(line for line in reversed(told) if line.startswith("data: ")).removeprefix("data: ")
    )
    assert failure["error"]["type"] == "overloaded_error"


async def test_a_client_that_leaves_ends_the_call():
    """The provider's connection is closed, as on every surface."""
    said = WIRES[0].stream(Said("Hello there"))
    half = said.index(b" ther")
    async with Upstream() as upstream:
        upstream.reply([said[:half], said[half:]], hold=asyncio.Event(), held_after=1)
        async with (
            running(Config.model_validate(WIRES[0].config(upstream.url))) as daemon,
            client_of(daemon) as client,
        ):
            async with client.messages.stream(**HI) as stream:
                assert await anext(aiter(stream.text_stream)) == "Hello"
            await asyncio.wait_for(upstream.closed_early.wait(), 5)
