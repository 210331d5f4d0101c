"""What the official packages make of the bridge's own inventions: signs of life, client keys, memory without a server."""

import asyncio
from contextlib import asynccontextmanager

import anthropic
import ollama
import openai
import pytest

from ollama_bridge.config import Config
from ollama_bridge.server import delivery
from running import running
from upstream import Upstream
from wires import WIRES, Said

KEY = "client-key-0123456789"
WORDS = "Hello there, whoever you are."
USER = [{"role": "user", "content": "Hi"}]


async def by_ollama(url, key):
    async with ollama.AsyncClient(host=url, headers={"Authorization": f"Bearer {key}"}) as client:
        return "".join([part.message.content async for part in await client.chat("m", USER, stream=True)])


async def by_ollama_generate(url, key):
    async with ollama.AsyncClient(host=url, headers={"Authorization": f"Bearer {key}"}) as client:
        return "".join([part.response async for part in await client.generate("m", "Hi", stream=True)])


async def by_openai(url, key):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        chunks = await client.chat.completions.create(model="m", messages=USER, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])


async def by_completions(url, key):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        chunks = await client.completions.create(model="m", prompt="Hi", stream=True)
        return "".join([chunk.choices[0].text async for chunk in chunks if chunk.choices])


async def by_responses(url, key):
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client,
        client.responses.stream(model="m", input="Hi") as events,
    ):
        return (await events.get_final_response()).output_text


async def by_anthropic(url, key):
    async with (
        anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as client,
        client.messages.stream(model="m", max_tokens=100, messages=USER) as events,
    ):
        return await events.get_final_text()


CLIENTS = [by_ollama, by_ollama_generate, by_openai, by_completions, by_responses, by_anthropic]
REFUSED = (ollama.ResponseError, openai.AuthenticationError, anthropic.AuthenticationError)

every_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__[3:])


@asynccontextmanager
async def bridge(**config):
    async with Upstream() as upstream:
        whole = {**WIRES[0].config(upstream.url), **config}
        async with running(Config.model_validate(whole)) as daemon:
            yield daemon, upstream


@every_client
async def test_silence_that_is_filled_leaves_no_trace(client, monkeypatch):
    """Before the first word and between two of them: the text is the model's, and the client never stumbles."""
    monkeypatch.setattr(delivery, "FIRST_HEARTBEAT_S", 0.01)
    beats = 0
    show = delivery._Pulse._show
    enough = asyncio.Event()

    async def counted(pulse):
        nonlocal beats
        await show(pulse)
        beats += 1
        if beats >= 3:
            enough.set()

    monkeypatch.setattr(delivery._Pulse, "_show", counted)
    whole = WIRES[0].stream(Said(WORDS))
    half = whole.index(b" ther")
    async with bridge(streaming={"heartbeat_s": 0.01}) as (daemon, upstream):
        upstream.reply([whole[:half], whole[half:]], head_delay_s=0.05, hold=enough, held_after=1)
        assert await asyncio.wait_for(client(daemon.url, "any"), 20) == WORDS
    assert beats >= 3


@every_client
async def test_a_client_with_its_key_is_served(client):
    """Each package has a place of its own for it."""
    async with bridge(server={"port": 0, "api_keys": KEY}) as (daemon, upstream):
        upstream.reply(WIRES[0].stream(Said(WORDS)))
        assert await client(daemon.url, KEY) == WORDS
        assert KEY not in str(upstream.requests[0].headers)


@every_client
async def test_a_client_with_another_key_raises_what_it_raises_at_its_own_provider(client):
    """And says what is missing; no provider is asked."""
    async with bridge(server={"port": 0, "api_keys": KEY}) as (daemon, upstream):
        with pytest.raises(REFUSED, match="client key is required") as raised:
            await client(daemon.url, "another")
        assert raised.value.status_code == 401
        assert not upstream.requests


async def test_context_that_is_sent_back_is_memory():
    """The package returns `context` as a list of integers, and takes it; the model is asked with all that was said."""
    async with bridge() as (daemon, upstream), ollama.AsyncClient(host=daemon.url) as client:
        upstream.reply(WIRES[0].stream(Said("I am Claude.")))
        first = await client.generate("m", "Who are you?")
        await client.generate("m", "And who am I?", context=first.context)
        asked = [turn["content"][0]["text"] for turn in upstream.requests[1].json["messages"]]
    assert asked == ["Who are you?", "I am Claude.", "And who am I?"]


async def test_a_suffix_makes_a_gap():
    """Only the middle comes back, through the package's own argument."""
    wire = WIRES[0]
    config = wire.config("")
    config["models"][0]["capabilities"].append("insert")
    async with (
        bridge(models=config["models"]) as (daemon, upstream),
        ollama.AsyncClient(host=daemon.url) as client,
    ):
        upstream.reply(wire.stream(Said("```python\nreturn a + b\n```")))
        filled = await client.generate("m", "def add(a, b):\n    ", suffix="\n\nprint(add(1, 2))\n")
    assert filled.response == "return a + b"


async def test_what_is_kept_shows_and_what_is_unloaded_does_not():
    """`keep_alive` and an empty prompt, as `ollama ps` and `ollama stop` tell and use them."""
    async with bridge() as (daemon, upstream), ollama.AsyncClient(host=daemon.url) as client:
        upstream.reply(WIRES[0].stream(Said("Hi")))
        await client.generate("m", "Hi", keep_alive="10m")
        assert [model.model for model in (await client.ps()).models] == ["m:latest"]
        assert (await client.generate("m", "", keep_alive=0)).done_reason == "unload"
        assert not (await client.ps()).models
        assert len(upstream.requests) == 1
