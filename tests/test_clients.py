"""Real clients against the running daemon, through each SDK, over a provider that answers what it is asked."""

import asyncio
import base64
import json
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from dialogue import Weatherman, schema_of
from driven import Client, Driven, Fleet, Raised
from embedders import EMBEDDERS, JSON, embedding
from ollama_bridge.config import Config
from running import running
from upstream import Script, Upstream
from wires import WIRES, Said

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PROMPT = "Grüße, <b>world</b> & 你好 👩‍🚀!"
WORDS = "the prompt says too much"
REFUSED = {"type": "error", "error": {"type": "invalid_request_error", "code": 400, "message": WORDS}}


def has(*steps):
    return frozenset(steps)


CLIENTS = [
    Client("ollama", "run_ollama.py", "ollama", has("list", "show", "embed")),
    Client("langchain", "run_langchain.py", "langchain_ollama", has("list", "embed")),
    Client("llama-index", "run_llama_index.py", "llama_index", has("show", "embed")),
    Client("llm", "run_llm.py", "llm_ollama", has("list", "show", "embed")),
    Client(
        "litellm",
        "run_litellm.py",
        "litellm",
        has("show", "embed"),
        own_python="litellm",
        joins_calls=True,
    ),
    Client("pydantic-ai", "run_pydantic_ai.py", "pydantic_ai", has("embed")),
    Client("openai", "run_openai.py", "openai", has("list", "embed")),
    Client("openai-responses", "run_openai_responses.py", "openai"),
    Client("anthropic", "run_anthropic.py", "anthropic", has("list")),
    Client("openai-js", "run_openai.mjs", "openai", has("list", "embed")),
    Client("ollama-js", "run_ollama.mjs", "ollama", has("list", "show", "embed")),
    Client(
        "ollama-ai-provider-v2",
        "run_ollama_ai_provider.mjs",
        "ollama-ai-provider-v2",
        has("embed"),
        swallows=True,
        mute=True,
    ),
    Client("ai-sdk-ollama", "run_ai_sdk_ollama.mjs", "ai-sdk-ollama", has("embed")),
    Client("langchain-js", "run_langchain.mjs", "@langchain/ollama", has("embed")),
]

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    fleet = Fleet(tmp_path_factory.mktemp("clients"))
    yield fleet
    fleet.close()


@dataclass
class Stage:
    """A client, the daemon it talks to, and the provider behind."""

    driven: Driven
    upstream: Upstream
    weatherman: Weatherman
    url: str

    async def ask(self, step, **order):
        order = {"url": self.url, **({} if step == "list" else {"model": "m"}), **order}
        return await asyncio.to_thread(self.driven.ask, step, **order)


@asynccontextmanager
async def on_stage(fleet, client, wire, **extra):
    driven = await asyncio.to_thread(lambda: fleet[client])
    weatherman = Weatherman(wire)
    async with (
        Upstream(weatherman) as upstream,
        running(Config.model_validate(wire.config(upstream.url, **extra))) as daemon,
    ):
        yield Stage(driven, upstream, weatherman, daemon.url)


def every(step=""):
    """Each client that can do it."""
    chosen = [client for client in CLIENTS if not step or step in client.steps]
    return pytest.mark.parametrize("client", chosen, ids=lambda client: client.name)


on_every_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


@every("list")
async def test_lists(fleet, client):
    """The models are found, by their names; the provider is not asked."""
    async with on_stage(fleet, client, WIRES[0]) as stage:
        assert await stage.ask("list") == ["m:latest"]
    assert stage.upstream.requests == []


@every("show")
async def test_shows(fleet, client):
    """What a client reads of a model is what the bridge knows of it."""
    async with on_stage(fleet, client, WIRES[2]) as stage:
        shown = await stage.ask("show")
    assert shown.get("context_length", 32768) == 32768
    assert set(shown.get("capabilities", ())) <= {"completion", "tools", "vision", "thinking"}
    assert {"completion", "tools"} <= set(shown.get("capabilities", ("completion", "tools")))
    assert shown
    assert stage.upstream.requests == []


@every()
@on_every_wire
async def test_chats(fleet, client, wire):
    """A question arrives to the letter, and so do the answer and its tokens."""
    async with on_stage(fleet, client, wire) as stage:
        told = await stage.ask("chat", prompt=PROMPT)
    assert told == {"text": f"You said: {PROMPT}", "input": 11, "output": 7}


@every()
@on_every_wire
async def test_streams(fleet, client, wire):
    """The answer comes in pieces, and joined it is the answer."""
    async with on_stage(fleet, client, wire) as stage:
        told = await stage.ask("stream", prompt=PROMPT)
    assert "".join(told["pieces"]) == f"You said: {PROMPT}"
    assert len(told["pieces"]) > 2
    assert (told.get("input", 11), told.get("output", 7)) == (11, 7)


@every()
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@on_every_wire
async def test_uses_tools_over_two_turns(fleet, client, wire, streamed):
    """Two calls at once and their results, an answer, a second question with a call of its own: every result reaches
    the provider beside its call, whatever of the ids the client kept.
    """
    turns = (
        [("Paris", "Rome"), ("Oslo",)] if not (client.joins_calls and streamed) else [("Paris",), ("Oslo",)]
    )
    prompts = [f"Is it raining in {' and in '.join(cities)}?" for cities in turns]
    async with on_stage(fleet, client, wire) as stage:
        told = await stage.ask("tools", prompts=prompts, streamed=streamed)
    assert told["calls"] == [["get_weather", {"city": city}] for cities in turns for city in cities]
    rain = "{}: rain, 9 degrees".format
    assert told["texts"] == [f"Now: {'; '.join(map(rain, cities))}" for cities in turns]
    last = stage.weatherman.heard[-1]
    kinds = [part.kind for part in last if part.kind in {"call", "result"}]
    assert kinds == [kind for cities in turns for kind in ("call", "result") for _ in cities]
    asked = {part.id: json.loads(part.text)["city"] for part in last if part.kind == "call"}
    assert len(asked) == len(told["calls"])
    assert {part.id: part.text for part in last if part.kind == "result"} == {
        id_: rain(city) for id_, city in asked.items()
    }
    assert [part.text.strip() for part in last if part.kind == "user"] == prompts


@every()
@on_every_wire
async def test_shows_a_picture(fleet, client, wire):
    """An image arrives at the provider to the byte, with its media type."""
    async with on_stage(fleet, client, wire) as stage:
        text = await stage.ask("image", prompt="What is it?", png=PNG)
    assert text == f"image/png of {len(base64.b64decode(PNG))} bytes"
    assert [part.text for part in stage.weatherman.heard[-1] if part.kind == "picture"] == [PNG]


@every()
@on_every_wire
async def test_asks_for_a_schema(fleet, client, wire):
    """The schema reaches the provider in its own words, and the answer is read by it."""
    async with on_stage(fleet, client, wire) as stage:
        assert await stage.ask("schema", prompt="How many?") == {"n": 4}
    wanted = schema_of(wire, stage.upstream.requests[-1].json)
    assert wanted["properties"]["n"]["type"] == "integer"


@every("embed")
@pytest.mark.parametrize("embedder", EMBEDDERS, ids=lambda embedder: embedder.name)
async def test_embeds(fleet, client, embedder):
    """Each text has the vector of its own, of unit length, in the order of the texts."""
    driven = await asyncio.to_thread(lambda: fleet[client])
    texts = ["first", "the second", "and a third <&>"]

    def decide(seen):
        vectors = [
            [3.0 * len(text), 4.0 * len(text), float(texts.index(text))] for text in embedder.texts(seen)
        ]
        return Script([embedder.reply(vectors)], headers=JSON)

    async with embedding(embedder) as (daemon, upstream):
        upstream.decide = decide
        found = await asyncio.to_thread(driven.ask, "embed", url=daemon.url, model="e", texts=texts)
    assert sorted(text for seen in upstream.requests for text in embedder.texts(seen)) == sorted(texts)
    for number, (text, vector) in enumerate(zip(texts, found, strict=True)):
        length = math.hypot(5 * len(text), number)
        assert vector == pytest.approx(
            [3 * len(text) / length, 4 * len(text) / length, number / length], abs=1e-6
        )


@every()
@pytest.mark.parametrize("step", ["chat", "stream"])
@on_every_wire
async def test_a_refusal_is_told(fleet, client, wire, step):
    """What fails before the first word is raised, in the provider's words."""
    async with on_stage(fleet, client, wire) as stage:
        stage.upstream.decide = None
        stage.upstream.reply(json.dumps(REFUSED).encode(), status=400)
        with pytest.raises(Raised, match=None if client.mute else WORDS):
            await stage.ask(step, prompt=PROMPT)
    assert len(stage.upstream.requests) == 1


@every()
@on_every_wire
async def test_a_broken_answer_is_never_taken_for_a_whole_one(fleet, client, wire):
    """An answer that breaks off in the middle is raised, or at least did not end by itself."""
    body = wire.stream(Said("one two three four five six seven eight"))
    async with on_stage(fleet, client, wire) as stage:
        stage.upstream.decide = None
        stage.upstream.reply([body[: len(body) // 2]], then="cut")
        if client.swallows:
            told = await stage.ask("stream", prompt=PROMPT)
            assert told["reason"] not in {"stop", "length"}
        else:
            with pytest.raises(Raised):
                await stage.ask("stream", prompt=PROMPT)


@every()
async def test_an_unknown_model_is_not_found(fleet, client):
    """Whoever asks for a model that there is not is told so."""
    async with on_stage(fleet, client, WIRES[0]) as stage:
        with pytest.raises(Raised, match=None if client.mute else "(?i)nope|not found|unknown"):
            await stage.ask("chat", model="nope", prompt=PROMPT)
    assert stage.upstream.requests == []
