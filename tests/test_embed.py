"""Texts become vectors: every route of the running daemon, through every SDK, with what the provider was asked."""

import asyncio
import base64
import json
import math
import struct

import pytest

from embedders import EMBEDDERS, GEMINI, JSON, OLLAMA, OPENAI, TRANSLATED, VENDOR, embedding
from ollama_bridge.backends import google_paths
from ollama_bridge.config import Config
from running import ask, connect, request, running
from upstream import Upstream

EACH = pytest.mark.parametrize("embedder", EMBEDDERS, ids=lambda embedder: embedder.name)
EACH_OTHER_WIRE = pytest.mark.parametrize("embedder", TRANSLATED, ids=lambda embedder: embedder.name)
LONG = [3.0, 4.0, 0.0, 0.0]
UNIT = [0.6, 0.8, 0, 0]


def numbered(texts):
    """For each text a vector of its own, known by where it points."""
    return [[math.cos(number), math.sin(number)] for number in map(int, texts)]


def nearly(vector):
    return pytest.approx(vector, abs=1e-7)


@EACH_OTHER_WIRE
async def test_one_text_becomes_a_vector_of_unit_length(embedder):
    """The keys, their order and their types are Ollama's; no count is zero, whether the provider counts or not."""
    async with embedding(embedder) as (daemon, upstream):
        embedder.answer(upstream, [LONG])
        got = await ask(daemon.url, "POST", "/api/embed", {"model": "E:latest", "input": "hello"})
    assert (got.status, got.headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert list(got.json) == ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"]
    assert got.json["model"] == "E:latest"
    assert b'"embeddings":[[0.6,0.8,0,0]]' in got.body
    assert all(type(got.json[key]) is int and got.json[key] > 0 for key in list(got.json)[2:])
    assert got.json["prompt_eval_count"] == (7 if embedder.counts else len("hello") // 4 + 1)
    [seen] = upstream.requests
    assert (seen.path, embedder.texts(seen)) == (embedder.path, ["hello"])


async def test_what_each_provider_is_asked():
    """The whole body: base64 of OpenAI alone, a content for each text of Gemini, everything of a real Ollama."""
    asked = {
        "model": "e",
        "input": ["a", ""],
        "dimensions": 256,
        "truncate": False,
        "options": {"num_ctx": 9, "temperature": None},
        "keep_alive": "1m",
    }
    bodies = {}
    for embedder in EMBEDDERS:
        async with embedding(embedder) as (daemon, upstream):
            embedder.answer(upstream, [LONG, LONG])
            await ask(daemon.url, "POST", "/api/embed", asked)
            bodies[embedder.name] = upstream.requests[0].json
    rest = {"model": "models/gemini-embedding-2", "outputDimensionality": 256}
    assert bodies == {
        "openai": {
            "model": "text-embedding-3-small",
            "input": ["a", " "],
            "encoding_format": "base64",
            "dimensions": 256,
        },
        "acme": {"model": "mxbai-embed-large", "input": ["a", " "], "encoding_format": "float"},
        "google": {
            "requests": [{**rest, "content": {"parts": [{"text": text}]}} for text in ("a", " ")],
        },
        "den": {**asked, "model": "nomic-embed-text"},
    }


@pytest.mark.parametrize(
    ("embedder", "route"),
    [
        *((embedder, "/v1/embeddings") for embedder in EMBEDDERS),
        *((embedder, "/api/embed") for embedder in TRANSLATED),
    ],
    ids=lambda one: one if isinstance(one, str) else one.name,
)
async def test_many_texts_are_asked_for_in_parts_and_come_back_in_order(embedder, route):
    """No call has more texts than the provider takes, none is lost, and each gets its own vector."""
    texts = [str(number) for number in range(embedder.most + 5)]
    async with embedding(embedder) as (daemon, upstream):
        parts = [texts[: embedder.most], texts[embedder.most :]]
        # The parts are asked for at the same time; whichever comes first gets the first answer.
        held = asyncio.Event()
        upstream.reply(embedder.reply(numbered(parts[0])), headers=JSON, hold=held)
        upstream.reply(embedder.reply(numbered(parts[1])), headers=JSON)
        asking = asyncio.create_task(ask(daemon.url, "POST", route, {"model": "e", "input": texts}))
        for _ in range(2):
            await upstream.arrivals.acquire()
        held.set()
        got = await asking
        assert [embedder.texts(seen) for seen in upstream.requests] == parts
    vectors = got.json.get("embeddings") or [entry["embedding"] for entry in got.json["data"]]
    assert len(vectors) == len(texts)
    assert all(one == nearly(other) for one, other in zip(vectors, numbered(texts), strict=True))
    if embedder.counts and route == "/api/embed":
        assert got.json["prompt_eval_count"] == 14


async def test_parts_have_a_bearable_number_of_bytes():
    """OpenAI counts the tokens of a call; a single text may be as large as it is."""
    texts = ["1" * 400_000, "2" * 300_000, "3" * 300_000, "4" * 700_000]
    async with embedding(OPENAI) as (daemon, upstream):
        OPENAI.answer(upstream, [UNIT])
        upstream.reply(OPENAI.reply([UNIT]), headers=JSON)
        upstream.reply(OPENAI.reply([UNIT, UNIT]), headers=JSON)
        await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": texts})
        sizes = sorted(sum(map(len, seen.json["input"])) for seen in upstream.requests)
    assert sizes == [400_000, 600_000, 700_000]


@EACH_OTHER_WIRE
@pytest.mark.parametrize("wanted", [2, 3, 4, 4096, 0, -1])
async def test_dimensions_cut_and_scale_again(embedder, wanted):
    """Whether the provider cut or not; what is no width of the vector counts as not said."""
    async with embedding(embedder) as (daemon, upstream):
        embedder.answer(upstream, [[1.0, 1.0, 1.0, 1.0]])
        got = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": "x", "dimensions": wanted})
    width = wanted if wanted in {2, 3} else 4
    assert got.json["embeddings"] == [nearly([1 / math.sqrt(width)] * width)]


@pytest.mark.parametrize(
    ("embedder", "wanted", "sent"),
    [(OPENAI, 1536, None), (OPENAI, 9999, None), (OPENAI, 1, 1), (GEMINI, 64, None), (GEMINI, 3071, 3071)],
)
async def test_only_widths_that_the_model_takes_are_sent(embedder, wanted, sent):
    """The provider would refuse any other, which Ollama does not."""
    async with embedding(embedder) as (daemon, upstream):
        embedder.answer(upstream, [LONG])
        got = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": "x", "dimensions": wanted})
    body = upstream.requests[0].json
    assert body.get("dimensions", body.get("requests", [{}])[0].get("outputDimensionality")) == sent
    assert got.status == 200


@EACH_OTHER_WIRE
async def test_the_older_route_gives_the_vector_as_it_came(embedder):
    """`/api/embeddings`: one text, one vector, not scaled."""
    async with embedding(embedder) as (daemon, upstream):
        embedder.answer(upstream, [[3.0, 4.5, -0.25]])
        got = await ask(
            daemon.url, "POST", "/api/embeddings", {"model": "e", "prompt": "hello", "input": "ignored"}
        )
    assert got.body == b'{"embedding":[3,4.5,-0.25]}'
    assert embedder.texts(upstream.requests[0]) == ["hello"]


@EACH
async def test_openais_dialect_as_numbers_and_as_base64(embedder):
    """The same vectors either way, in little-endian float32, and the envelope in Go's order of keys."""
    async with embedding(embedder) as (daemon, upstream):
        embedder.answer(upstream, [LONG, UNIT])
        body = {"model": "e", "input": ["a", "b"]}
        numbers = await ask(daemon.url, "POST", "/v1/embeddings", body)
        packed = await ask(daemon.url, "POST", "/v1/embeddings", {**body, "encoding_format": "base64"})
    tokens = 7 if embedder.counts else 2
    head = b'{"object":"list","data":[{"object":"embedding","embedding":[0.6,0.8,0,0],"index":0},'
    tail = b'"model":"e","usage":{"prompt_tokens":%d,"total_tokens":%d}}\n' % (tokens, tokens)
    assert numbers.body.startswith(head)
    assert numbers.body.endswith(tail)
    assert packed.body.endswith(tail)
    assert numbers.headers["Content-Type"] == "application/json"
    for entry, other in zip(numbers.json["data"], packed.json["data"], strict=True):
        assert struct.unpack("<4f", base64.b64decode(other["embedding"])) == nearly(entry["embedding"])


@pytest.mark.parametrize("index", [None, 0])
async def test_servers_that_do_not_number_are_taken_at_their_word(index):
    """The order is then that of the texts."""
    async with embedding(VENDOR) as (daemon, upstream):
        data = [{"embedding": [1, 0], "index": index}, {"embedding": [0, 1], "index": index}]
        upstream.reply(json.dumps({"data": data}).encode(), headers=JSON)
        got = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": ["a", "b"]})
    assert got.json["embeddings"] == [[1, 0], [0, 1]]
    assert got.json["prompt_eval_count"] == 2


async def test_a_vendor_may_answer_in_base64_and_openai_in_numbers():
    """What was asked for is a wish."""
    for asked, answering in ((VENDOR, OPENAI), (OPENAI, VENDOR)):
        async with embedding(asked) as (daemon, upstream):
            answering.answer(upstream, [LONG])
            got = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": "x"})
        assert got.json["embeddings"] == [nearly(UNIT)]


@pytest.mark.parametrize("body", [{}, {"input": ""}, {"input": None}, {"input": []}])
async def test_an_empty_input_loads_the_model(body):
    """Nobody is asked, and `/api/ps` shows the model until its time is over; then it is gone."""
    async with embedding(VENDOR) as (daemon, upstream):
        loaded = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "keep_alive": 60, **body})
        shown = await ask(daemon.url, "GET", "/api/ps")
        old = await ask(daemon.url, "POST", "/api/embeddings", {"model": "e", "keep_alive": 0})
        gone = await ask(daemon.url, "GET", "/api/ps")
    assert loaded.body == b'{"model":"e","embeddings":[]}'
    assert old.body == b'{"embedding":[]}'
    assert [model["name"] for model in shown.json["models"]] == ["e:latest"]
    assert gone.json["models"] == []
    assert upstream.requests == []


async def test_an_empty_text_is_embedded_where_it_is_meant():
    """`[""]` natively, and `""` in OpenAI's dialect."""
    async with embedding(OLLAMA) as (daemon, upstream):
        OLLAMA.answer(upstream, [UNIT])
        native = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": [""]})
        dialect = await ask(daemon.url, "POST", "/v1/embeddings", {"model": "e", "input": ""})
    assert native.json["embeddings"] == [UNIT]
    assert dialect.json["data"][0]["embedding"] == UNIT
    assert [seen.json["input"] for seen in upstream.requests] == [[""], [""]]


async def test_a_vector_of_nothing_stays_nothing():
    """There is no length to scale by."""
    async with embedding(VENDOR) as (daemon, upstream):
        VENDOR.answer(upstream, [[0.0, 0.0]])
        got = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": "x"})
    assert got.json["embeddings"] == [[0, 0]]


@EACH_OTHER_WIRE
async def test_a_text_that_is_too_long_is_cut_only_when_it_was_refused(embedder):
    """First to what fits in most languages, then to what fits in any; between two letters, never inside one."""
    text = "ä" * 400
    async with embedding(embedder, context_length=100) as (daemon, upstream):
        for _ in range(2):
            upstream.reply(b'{"error":{"message":"too long"}}', status=400)
        embedder.answer(upstream, [UNIT, UNIT])
        got = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": [text, "short"]})
    assert got.status == 200
    assert [embedder.texts(seen) for seen in upstream.requests] == [
        [text, "short"],
        ["ä" * 150, "short"],
        ["ä" * 50, "short"],
    ]


@EACH_OTHER_WIRE
async def test_a_text_that_must_not_be_cut_is_an_error(embedder):
    """In Ollama's words, with the provider's behind them; it is asked once."""
    async with embedding(embedder, context_length=100) as (daemon, upstream):
        upstream.reply(b'{"error":{"message":"at most 100 tokens"}}', status=400)
        got = await ask(
            daemon.url, "POST", "/api/embed", {"model": "e", "input": "x" * 301, "truncate": False}
        )
    assert got.status == 400
    assert got.json["error"].startswith("the input length exceeds the context length (")
    assert "at most 100 tokens" in got.json["error"]
    assert len(upstream.requests) == 1


@EACH_OTHER_WIRE
@pytest.mark.parametrize("parts", [1, 2])
async def test_a_client_that_leaves_takes_its_requests_with_it(embedder, parts):
    """The provider's connections are closed, and the daemon goes on."""
    texts = ["x"] * (embedder.most * (parts - 1) + 1)
    async with embedding(embedder) as (daemon, upstream):
        upstream.reply(b"{", headers=JSON, then="stall")
        _, writer = await connect(daemon.url)
        writer.write(request(daemon.url, "POST", "/api/embed", {"model": "e", "input": texts}))
        for _ in range(parts):
            await upstream.arrivals.acquire()
        writer.close()
        await asyncio.wait_for(upstream.closed_early.wait(), 5)
        assert (await ask(daemon.url, "GET", "/api/version")).status == 200


async def test_the_typed_path_of_google_asks_and_answers_the_same(monkeypatch):
    """For versions of google-genai whose lower path is not known."""
    asked = {"model": "e", "input": ["a", ""], "dimensions": 256}
    seen = []
    for minor in (google_paths.SDK_MINOR, "0.0."):
        monkeypatch.setattr(google_paths, "SDK_MINOR", minor)
        async with embedding(GEMINI) as (daemon, upstream):
            GEMINI.answer(upstream, [LONG, UNIT])
            got = await ask(daemon.url, "POST", "/api/embed", asked)
            upstream.only(b'{"error":{"code":429,"message":"busy"}}', status=429)
            refused = await ask(daemon.url, "POST", "/api/embed", asked)
        seen.append(
            (upstream.requests[0].path, upstream.requests[0].json, got.json["embeddings"], refused.body)
        )
    assert seen[0] == seen[1]


async def test_the_demo_counts_words():
    """Texts that share words are nearer to each other than others, without a key and always the same."""
    config = {
        "server": {"port": 0},
        "providers": {"demo": {}},
        "models": [{"name": "nomic-embed-text", "backend": "demo", "backend_model": "demo-embed"}],
    }
    texts = ["the cat sat", "the cat slept", "tax law of 1986", ""]
    async with running(Config.model_validate(config)) as daemon:
        got = await ask(daemon.url, "POST", "/api/embed", {"model": "nomic-embed-text", "input": texts})
        again = await ask(daemon.url, "POST", "/v1/embeddings", {"model": "nomic-embed-text", "input": texts})
        listed = await ask(daemon.url, "GET", "/api/tags")
    cat, other_cat, tax, _ = got.json["embeddings"]
    assert sum(map(float.__mul__, cat, other_cat)) > sum(map(float.__mul__, cat, tax))
    assert [entry["embedding"] for entry in again.json["data"]] == got.json["embeddings"]
    assert listed.json["models"][0]["capabilities"] == ["embedding"]
    assert listed.json["models"][0]["details"]["embedding_length"] == len(cat)


async def test_a_large_batch_does_not_stop_the_loop():
    """While a thread writes a million numbers, others are answered."""
    vectors = [[((row * 7 + column) % 997 - 498) / 997 for column in range(1536)] for row in range(700)]
    async with embedding(OPENAI) as (daemon, upstream):
        OPENAI.answer(upstream, vectors)
        asking = asyncio.create_task(
            ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": ["x"] * len(vectors)})
        )
        await upstream.asked.wait()
        answered = 0
        while not asking.done():
            assert (await ask(daemon.url, "GET", "/api/version")).status == 200
            answered += 1
        got = await asking
    assert answered > 3
    assert len(got.json["embeddings"]) == 700
    assert all(math.hypot(*vector) == pytest.approx(1, abs=1e-6) for vector in got.json["embeddings"])


async def test_chat_on_an_embedding_model_is_refused_as_ollama_refuses():
    """`/api/chat`, `/api/generate`, and OpenAI's dialect; the golden replies have these words."""
    async with Upstream() as upstream, running(VENDOR.config(upstream.url)) as daemon:
        messages = {"model": "e", "messages": [{"role": "user", "content": "hi"}]}
        chat = await ask(daemon.url, "POST", "/api/chat", messages)
        generate = await ask(daemon.url, "POST", "/api/generate", {"model": "e", "prompt": "x"})
        dialect = await ask(daemon.url, "POST", "/v1/chat/completions", messages)
    assert (chat.status, chat.json) == (400, {"error": '"e" does not support chat'})
    assert (generate.status, generate.json) == (400, {"error": '"e" does not support generate'})
    assert (dialect.status, dialect.json["error"]["message"]) == (400, '"e" does not support chat')
