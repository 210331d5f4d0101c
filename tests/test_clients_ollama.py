"""The official `ollama` package, in what it does beyond other clients; test_clients.py has what all of them do."""

from contextlib import asynccontextmanager

import ollama
import pytest

from ollama_bridge.config import Config
from running import running
from upstream import Upstream, split_at_random
from wires import WIRES, Said

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


async def test_asks_for_json(wire):
    """Plain JSON mode reaches the provider."""
    async with bridge(wire, Said('{"n": 4}')) as (client, upstream):
        reply = await client.chat("m", USER, format="json")
    assert reply.message.content == '{"n": 4}'
    assert "json" in upstream.requests[0].body.decode().lower()


async def test_a_used_model_is_running(wire):
    """`ollama ps` has it after an answer, for as long as the client wants it kept; before there is none."""
    async with bridge(wire, Said("yes")) as (client, _):
        assert (await client.ps()).models == []
        await client.chat("m", USER, keep_alive="1h")
        [loaded] = (await client.ps()).models
    assert loaded.model == "m:latest"
    assert loaded.context_length > 0


async def test_generates(wire):
    """`/api/generate`, streamed and whole, with a system prompt."""
    async with bridge(wire, Said("yes")) as (client, upstream):
        whole = await client.generate("m", "is it?", system="Be brief.")
        parts = [part async for part in await client.generate("m", "is it?", stream=True)]
    assert whole.response == "".join(part.response for part in parts) == "yes"
    assert "Be brief." in upstream.requests[0].body.decode()
