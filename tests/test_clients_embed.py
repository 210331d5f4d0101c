"""Real clients, and the requests of others as they were seen on the wire, embed through the running daemon."""

import base64
import json
import struct
from contextlib import asynccontextmanager

import ollama
import openai
import pytest

from embedders import EMBEDDERS, JSON, OPENAI, TRANSLATED, VENDOR, embedding
from ollama_bridge.config import Config
from running import ask, running
from shared import SHARED
from upstream import Upstream

pytestmark = pytest.mark.clients
EACH = pytest.mark.parametrize("embedder", EMBEDDERS, ids=lambda embedder: embedder.name)
LONG = [3.0, 4.0, 0.0]
UNIT = [pytest.approx(number, abs=1e-7) for number in (0.6, 0.8, 0)]
LANGCHAIN_OPTIONS = dict.fromkeys(
    "mirostat mirostat_eta mirostat_tau num_ctx num_gpu num_thread repeat_last_n repeat_penalty temperature "
    "stop tfs_z top_k top_p".split()
)


@asynccontextmanager
async def native(url):
    client = ollama.AsyncClient(host=url, trust_env=False)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def dialect(url):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("embedder", TRANSLATED, ids=lambda embedder: embedder.name)
async def test_the_official_package_embeds(embedder):
    """Both of its verbs, with everything its own types demand; and what fails has the status and the words."""
    async with embedding(embedder) as (daemon, upstream), native(daemon.url) as client:
        embedder.answer(upstream, [LONG, LONG], [LONG])
        many = await client.embed("e", ["a", "b"], dimensions=2, keep_alive="1m", options={"num_ctx": 5})
        one = await client.embeddings("e", "a")
        shown = await client.show("e")
        with pytest.raises(ollama.ResponseError, match='model "nope" not found, try pulling it') as caught:
            await client.embed("nope", "a")
    assert many.embeddings == [UNIT[:2]] * 2
    assert one.embedding == LONG
    assert min(many.total_duration, many.load_duration, many.prompt_eval_count) > 0
    assert shown.capabilities == ["embedding"]
    assert shown.modelinfo["bert.embedding_length"] > 0
    assert caught.value.status_code == 404


@EACH
async def test_the_openai_package_embeds(embedder):
    """It asks for base64 unless told otherwise, decodes it itself, and raises its own errors."""
    async with embedding(embedder) as (daemon, upstream), dialect(daemon.url) as client:
        embedder.answer(upstream, [LONG, LONG])
        packed = await client.embeddings.create(model="e", input=["a", "b"])
        plain = await client.embeddings.create(
            model="e", input=["a", "b"], encoding_format="float", dimensions=2
        )
        upstream.only(b'{"error":{"message":"slow down"}}', status=429)
        with pytest.raises(openai.RateLimitError, match="slow down"):
            await client.embeddings.create(model="e", input="a")
        with pytest.raises(openai.NotFoundError, match="nope"):
            await client.embeddings.create(model="nope", input="a")
        with pytest.raises(openai.BadRequestError, match="invalid input type"):
            await client.embeddings.create(model="e", input=[[1, 2], [3]])
    assert [entry.embedding for entry in packed.data] == [UNIT] * 2
    assert [entry.embedding for entry in plain.data] == [UNIT[:2]] * 2
    assert [entry.index for entry in plain.data] == [0, 1]
    assert packed.usage.prompt_tokens > 0


@pytest.mark.parametrize(
    ("route", "body"),
    [
        pytest.param(
            "/api/embed",
            {
                "model": "e",
                "input": ["a", "b"],
                "truncate": None,
                "dimensions": None,
                "options": LANGCHAIN_OPTIONS,
                "keep_alive": None,
            },
            id="LangChain",
        ),
        pytest.param(
            "/api/embed", {"model": "e", "input": ["a", "b"], "truncate": False}, id="@langchain/ollama"
        ),
        pytest.param("/api/embed", {"model": "e:latest", "input": ["a", "b"]}, id="koog, Continue and Roo"),
        pytest.param("/api/embed", {"model": "e", "input": ["a", "b"], "keep_alive": 300}, id="langchain4j"),
    ],
)
async def test_what_clients_send_is_understood(route, body):
    """Nulls are as good as nothing, and an option that does not concern embeddings reaches nobody."""
    async with embedding(VENDOR) as (daemon, upstream):
        VENDOR.answer(upstream, [LONG, LONG])
        got = await ask(daemon.url, "POST", route, body)
    assert got.json["embeddings"] == [UNIT] * 2
    assert upstream.requests[0].json == {
        "model": VENDOR.model,
        "input": ["a", "b"],
        "encoding_format": "float",
    }


async def test_an_index_of_batches_of_64_is_complete():
    """As Continue makes it: one request after the other, each vector belongs to its text."""
    texts = [str(number) for number in range(200)]
    found = []
    async with embedding(OPENAI) as (daemon, upstream):
        for start in range(0, 200, 64):
            batch = texts[start : start + 64]
            upstream.only(OPENAI.reply([[float(text) + 1, 1.0] for text in batch]), headers=JSON)
            got = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": batch})
            found += got.json["embeddings"]
    assert [first / second for first, second in found] == pytest.approx([n + 1 for n in range(200)], rel=1e-4)


def recordings():
    folder = SHARED / "recordings" if SHARED else None
    paths = sorted(folder.glob("*/*embed*.json")) if folder and folder.is_dir() else []
    return [path for path in paths if json.loads(path.read_text())["response"]["status"] == 200]


@pytest.mark.skipif(not recordings(), reason="../shared/recordings is not there")
@pytest.mark.parametrize("path", recordings(), ids=lambda path: path.stem)
async def test_what_real_providers_answered_becomes_vectors(path):
    """Recorded replies: the numbers come out as they went in, as far as float32 goes."""
    recording = json.loads(path.read_text())
    if recording["api"] not in {"openai.embeddings", "ollama.embed"}:
        pytest.skip("a reply that nobody asks for any more")
    kind = recording["api"].partition(".")[0]
    body = recording["response"]["body"].encode()
    sent = json.loads(body)
    vectors = sent.get("embeddings") or [entry["embedding"] for entry in sent["data"]]
    async with Upstream() as upstream:
        upstream.reply(body, headers=JSON)
        config = {
            "server": {"port": 0},
            "providers": {"p": {"kind": kind, "api_key": "k", "base_url": upstream.url}},
            "models": [{"name": "e", "backend": "p", "backend_model": recording["model"]}],
        }
        async with running(Config.model_validate(config)) as daemon:
            asked = {"model": "e", "input": ["x"] * len(vectors)}
            raw = await ask(daemon.url, "POST", "/api/embeddings", {"model": "e", "prompt": "x"})
            got = await ask(daemon.url, "POST", "/v1/embeddings", {**asked, "encoding_format": "base64"})
    if kind != "ollama":  # whose own replies pass as they are: `test_real_ollama`
        assert raw.json["embedding"] == vectors[0]
    packed = base64.b64decode(got.json["data"][0]["embedding"])
    assert struct.unpack(f"<{len(packed) // 4}f", packed) == pytest.approx(vectors[0], rel=1e-3, abs=1e-6)
