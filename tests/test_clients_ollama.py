"""The official `ollama` package against the running daemon, through each SDK, over real sockets."""

import base64
import json
from contextlib import asynccontextmanager

import ollama
import pytest

from ollama_bridge.config import Config
from running import running
from upstream import Upstream, split_at_random
from wires import WIRES, Said

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string", "description": "Where"}},
        },
    },
}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
USER = [{"role": "user", "content": "hello"}]

pytestmark = [pytest.mark.clients, pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)]


@asynccontextmanager
async def bridge(wire, *said):
    """The daemon, with one upstream that says `said`, one after the other, cut at random borders."""
    async with Upstream() as upstream:
        for number, one in enumerate(said):
            upstream.reply(split_at_random(wire.stream(one), seed=number))
        async with running(Config.model_validate(wire.config(upstream.url))) as daemon:
            client = ollama.AsyncClient(host=daemon.url, trust_env=False)
            try:
                yield client, upstream
            finally:
                await client.close()


async def test_lists_and_shows(wire):
    """What is on offer, with everything the client's own types demand; the provider is not asked."""
    async with bridge(wire) as (client, upstream):
        (model,) = (await client.list()).models
        shown = await client.show(model.model)
        running_models = await client.ps()
    assert model.model == "m:latest"
    assert "completion" in shown.capabilities
    architecture = shown.modelinfo["general.architecture"]
    assert shown.modelinfo[f"{architecture}.context_length"] > 0
    assert running_models.models == []
    assert upstream.requests == []


async def test_chats_streamed_and_whole(wire):
    """Both ways say the same, byte for byte, and count the same tokens."""
    text = "Grüße, <b>world</b> & 你好 👩‍🚀!\n\tdone"
    async with bridge(wire, Said(text), Said(text)) as (client, _):
        parts = [part async for part in await client.chat("m", USER, stream=True)]
        whole = await client.chat("m", USER)
    assert "".join(part.message.content for part in parts) == whole.message.content == text
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    for last in (parts[-1], whole):
        assert (last.prompt_eval_count, last.eval_count, last.done_reason) == (11, 7, "stop")
        assert last.total_duration > 0
    assert len(parts) > 2


async def test_the_token_limit_is_told(wire):
    """`num_predict` reaches the provider, and its limit comes back as `length`."""
    async with bridge(wire, Said("cut", ended="length")) as (client, upstream):
        reply = await client.chat("m", USER, options={"num_predict": 77})
    assert reply.done_reason == "length"
    assert "77" in upstream.requests[0].body.decode()


async def test_thinks(wire):
    """The model's thinking comes as thinking, before the answer."""
    async with bridge(wire, Said("four", thinking="two and two")) as (client, _):
        parts = [part async for part in await client.chat("m", USER, think=True, stream=True)]
    assert "".join(part.message.thinking or "" for part in parts) == "two and two"
    assert "".join(part.message.content for part in parts) == "four"
    kinds = ["thinking" if part.message.thinking else "content" for part in parts[:-1]]
    assert kinds == sorted(kinds, reverse=True)


async def test_calls_tools_and_takes_their_results(wire):
    """A whole round: two calls out, two results back without ids, then an answer."""
    calls = (("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome <&>"}))
    async with bridge(wire, Said("Looking.", calls=calls), Said("Rain.")) as (client, upstream):
        asked = await client.chat("m", USER, tools=[WEATHER])
        found = [(call.function.name, dict(call.function.arguments)) for call in asked.message.tool_calls]
        results = [
            {"role": "tool", "content": f"{city}: rain", "tool_name": "get_weather"} for city in ("P", "R")
        ]
        reply = await client.chat("m", [*USER, asked.message, *results], tools=[WEATHER])
    assert found == list(calls)
    assert asked.done_reason == "stop"
    assert reply.message.content == "Rain."
    assert "get_weather" in json.dumps(upstream.requests[0].json["tools"])
    sent = upstream.requests[1].body.decode()
    assert "P: rain" in sent
    assert "R: rain" in sent


async def test_sends_images(wire):
    """An image arrives at the provider as it was sent, with its media type."""
    async with bridge(wire, Said("a dot")) as (client, upstream):
        await client.chat("m", [{"role": "user", "content": "what?", "images": [PNG]}])
    sent = upstream.requests[0].body.decode()
    assert base64.b64encode(PNG).decode() in sent
    assert "image/png" in sent


async def test_asks_for_a_schema(wire):
    """A JSON schema reaches the provider, and plain JSON mode asks for JSON."""
    async with bridge(wire, Said('{"n": 4}')) as (client, upstream):
        reply = await client.chat("m", USER, format=SCHEMA)
        await client.chat("m", USER, format="json")
    assert json.loads(reply.message.content) == {"n": 4}
    assert '"integer"' in upstream.requests[0].body.decode()
    assert "json" in upstream.requests[1].body.decode().lower()


async def test_generates(wire):
    """`/api/generate`, streamed and whole, with a system prompt."""
    async with bridge(wire, Said("yes")) as (client, upstream):
        whole = await client.generate("m", "is it?", system="Be brief.")
        parts = [part async for part in await client.generate("m", "is it?", stream=True)]
    assert whole.response == "".join(part.response for part in parts) == "yes"
    assert "Be brief." in upstream.requests[0].body.decode()


async def test_an_unknown_model_is_not_found(wire):
    """404, in the words clients match."""
    async with bridge(wire) as (client, _):
        with pytest.raises(ollama.ResponseError, match="model 'nope' not found") as caught:
            await client.chat("nope", USER)
    assert caught.value.status_code == 404
