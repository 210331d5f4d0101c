"""The official client against a bridge in front of a real Ollama: what it reads is what it would read without us."""

import hashlib

import ollama
import pytest

from real_ollama import RealOllama, behind, line

USER = [{"role": "user", "content": "Hi"}]
CHAT = [
    line(message={"role": "assistant", "content": "", "thinking": "Hm."}, done=False),
    line(message={"role": "assistant", "content": "Hel"}, done=False),
    line(message={"role": "assistant", "content": "lo"}, done=False),
    line(
        message={"role": "assistant", "content": ""},
        done=True,
        done_reason="stop",
        total_duration=5,
        load_duration=1,
        prompt_eval_count=3,
        prompt_eval_duration=2,
        eval_count=4,
        eval_duration=3,
    ),
]

pytestmark = pytest.mark.clients


@pytest.fixture
async def real():
    async with RealOllama("qwen3:4b") as server:
        yield server


@pytest.fixture
async def client(real, tmp_path):
    async with behind(real, tmp_path) as url:
        asked = ollama.AsyncClient(url)
        await asked.list()
        yield asked
        await asked._client.aclose()


@pytest.fixture
async def direct(real):
    asked = ollama.AsyncClient(real.url)
    yield asked
    await asked._client.aclose()


async def test_lists(real, client, direct):
    """Listed, running and shown, as that one says it."""
    real.running = [
        {"name": "qwen3:4b", "model": "qwen3:4b", "size_vram": 77, "expires_at": "2026-11-21T10:00:00Z"}
    ]
    assert (await client.list()).models[1:] == (await direct.list()).models
    assert await client.ps() == await direct.ps()
    assert await client.show("qwen3:4b") == await direct.show("qwen3:4b")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_conversation(real, client, direct, stream):
    """Every part of it; in one piece with that one's own times and counts."""
    real.lines = CHAT
    got = [
        part async for part in await client.chat("qwen3:4b", USER, stream=True, think="high", keep_alive="1h")
    ]
    assert got == [part async for part in await direct.chat("qwen3:4b", USER, stream=True)]
    assert real.questions("/api/chat")[0].json["think"] == "high"
    if not stream:
        whole = await client.chat("qwen3:4b", USER)
        assert (whole.message.content, whole.message.thinking) == ("Hello", "Hm.")
        assert (whole.total_duration, whole.eval_count, whole.created_at) == (5, 4, got[-1].created_at)


async def test_a_generation(real, client):
    """Raw, with a suffix and a context of that one's own."""
    real.lines = [line(response="x", done=False), line(response="", done=True, context=[5, 6], eval_count=1)]
    parts = [part async for part in await client.generate("qwen3:4b", "a", suffix="b", raw=True, stream=True)]
    assert ("".join(part.response for part in parts), list(parts[-1].context)) == ("x", [5, 6])
    whole = await client.generate("qwen3:4b", "a", context=[5, 6], options={"num_ctx": 99})
    asked = real.questions("/api/generate")
    assert (asked[0].json["suffix"], asked[0].json["raw"]) == ("b", True)
    assert (asked[1].json["context"], asked[1].json["options"]) == ([5, 6], {"num_ctx": 99})
    assert (whole.response, list(whole.context)) == ("x", [5, 6])


async def test_steps_of_an_image(real, client):
    real.lines = [
        line(response="", done=False, completed=1, total=2),
        line(response="", done=True, image="aW1n", done_reason="stop"),
    ]
    parts = [
        part async for part in await client.generate("qwen3:4b", "a cat", width=8, height=8, stream=True)
    ]
    assert (parts[0].completed, parts[0].total, parts[-1].image) == (1, 2, "aW1n")
    assert real.questions("/api/generate")[0].json["width"] == 8


async def test_vectors(real, client, direct):
    real.reply = b'{"model":"qwen3:4b","embeddings":[[0.010071029,-0.0017594862]],"prompt_eval_count":8}'
    assert await client.embed("qwen3:4b", "Hi") == await direct.embed("qwen3:4b", "Hi")
    real.reply = b'{"embedding":[3.5,4]}'
    assert await client.embeddings("qwen3:4b", "Hi") == await direct.embeddings("qwen3:4b", "Hi")


async def test_a_model_comes_and_goes(real, client):
    """Pulled with its progress, made, uploaded to, copied and deleted: there, and listed here at once."""

    async def listed():
        return [model.model for model in (await client.list()).models][1:]

    real.lines = [
        b'{"status":"pulling manifest"}\n',
        b'{"status":"pulling 7cd4618c1faf","digest":"sha256:7c","total":9,"completed":5}\n',
        b'{"status":"success"}\n',
    ]
    steps = [step async for step in await client.pull("new", stream=True)]
    assert [(step.status, step.completed) for step in steps][1:] == [
        ("pulling 7cd4618c1faf", 5),
        ("success", None),
    ]
    assert await listed() == ["qwen3:4b", "new:latest"]
    assert (await client.create("mario", from_="new", system="S", stream=False)).status == "success"
    await client.copy("mario", "luigi")
    assert await listed() == ["qwen3:4b", "new:latest", "mario:latest", "luigi:latest"]
    for name in ("new", "mario", "luigi"):
        await client.delete(name)
    assert await listed() == ["qwen3:4b"]


async def test_a_file(real, client, tmp_path):
    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF" * 100_000)
    digest = await client.create_blob(file)
    assert digest == "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
    assert real.blobs == {digest}


async def test_errors(real, client):
    """With status and words of that one."""
    real.refusal = (400, "application/json", b'{"error":"\\"qwen3:4b\\" does not support thinking"}')
    with pytest.raises(ollama.ResponseError, match='"qwen3:4b" does not support thinking') as caught:
        await client.chat("qwen3:4b", USER, think=True)
    assert caught.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="model 'nope' not found"):
        await client.delete("nope")
    real.refusal, real.lines = None, [CHAT[0], b'{"error":"boom"}\n']
    with pytest.raises(ollama.ResponseError, match="boom"):
        async for _ in await client.chat("qwen3:4b", USER, stream=True):
            pass
