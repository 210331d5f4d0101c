"""Who answered in place of the model that was asked: told on every wire, and no official package stumbles over it."""

from contextlib import AsyncExitStack

import anthropic
import ollama
import openai
import pytest

from ollama_bridge.config import Config
from running import ask, running
from upstream import Upstream
from wires import WIRES, Said

WORDS = "hello from the other"
TURN = [{"role": "user", "content": "hi"}]


@pytest.fixture(params=[True, False], ids=["fallback", "asked"])
async def stage(request):
    """A daemon whose model `m` is answered by its fallback, or by itself, and the name that is to be told."""

    chat = WIRES[2]
    async with Upstream() as down, Upstream() as upstream:
        down.reply(b'{"error":{"message":"no"}}', status=503)
        upstream.reply(chat.stream(Said(WORDS)))
        made = chat.config((down if request.param else upstream).url)
        made["providers"]["other"] = {**chat.provider, "base_url": f"{upstream.url}/v1"}
        [model] = made["models"]
        made["models"] = [{**model, "fallbacks": ["n"]}, {**model, "name": "n", "backend": "other"}]
        async with running(Config.model_validate(made)) as daemon:
            yield daemon.url, "n:latest" if request.param else None


@pytest.fixture
async def closing():
    """Closes a package's client at the end."""
    async with AsyncExitStack() as stack:

        def opened(client):
            stack.push_async_callback(client.close)
            return client

        yield opened


def extra(told, name="answered_by"):
    return (told.model_extra or {}).get(name)


async def test_ollama(stage, closing):
    """Ollama's own package leaves what it does not know out, and is content."""
    url, name = stage
    client = closing(ollama.AsyncClient(host=url))
    whole = await client.chat("m", TURN)
    parts = [part async for part in await client.chat("m", TURN, stream=True)]
    assert whole.message.content == "".join(part.message.content for part in parts) == WORDS
    whole = await client.generate("m", "hi")
    parts = [part async for part in await client.generate("m", "hi", stream=True)]
    assert whole.response == "".join(part.response for part in parts) == WORDS
    for path, asked in (("/api/chat", {"messages": TURN}), ("/api/generate", {"prompt": "hi"})):
        for streamed in (True, False):
            got = await ask(url, "POST", path, {"model": "m", "stream": streamed, **asked})
            *lines, last = got.lines if streamed else [got.json]
            assert last.get("answered_by") == name
            assert not any("answered_by" in line for line in lines)


async def test_chat_completions(stage, closing):
    url, name = stage
    client = closing(openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0))
    whole = await client.chat.completions.create(model="m", messages=TURN)
    assert (whole.choices[0].message.content, extra(whole)) == (WORDS, name)
    stream = await client.chat.completions.create(
        model="m", messages=TURN, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == WORDS
    [ending] = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert extra(ending) == name
    assert [extra(chunk) for chunk in chunks if chunk is not ending] == [None] * (len(chunks) - 1)


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
async def test_completions(stage, closing, options):
    url, name = stage
    client = closing(openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0))
    whole = await client.completions.create(model="m", prompt="hi")
    assert (whole.choices[0].text, extra(whole)) == (WORDS, name)
    stream = await client.completions.create(model="m", prompt="hi", stream=True, **options)
    chunks = [chunk async for chunk in stream]
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == WORDS
    assert [extra(chunk) for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason] == [name]


@pytest.mark.parametrize("metadata", [{}, {"mine": "kept"}])
async def test_responses(stage, closing, metadata):
    """In the metadata, beside the client's own."""
    url, name = stage
    client = closing(openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0))
    told = {**metadata, **({"answered_by": name} if name else {})}
    whole = await client.responses.create(model="m", input="hi", metadata=metadata)
    assert (whole.output_text, whole.metadata) == (WORDS, told)
    async with client.responses.stream(model="m", input="hi", metadata=metadata) as stream:
        final = await stream.get_final_response()
    assert (final.output_text, final.metadata) == (WORDS, told)


async def test_messages(stage, closing):
    url, name = stage
    client = closing(anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0))
    asked = {"model": "m", "messages": TURN, "max_tokens": 100}
    whole = await client.messages.create(**asked)
    assert (whole.content[0].text, extra(whole)) == (WORDS, name)
    async with client.messages.stream(**asked) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_message()
    assert final.content[0].text == WORDS
    [delta] = [event for event in events if event.type == "message_delta"]
    assert extra(delta) == name
