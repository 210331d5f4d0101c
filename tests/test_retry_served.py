"""Asking again, as clients of the running daemon see it: answers, status, heartbeats, and what the log says of it."""

import asyncio
import json

import pytest

from embedders import EMBEDDERS, JSON
from faults import KEY, PROMPT, refusal
from journal import journal
from ollama_bridge import gateway
from ollama_bridge.config import Config
from ollama_bridge.config.file import Source
from ollama_bridge.policies.retry import Backoff, Retry
from ollama_bridge.server import delivery
from running import ask, connect, request, running
from upstream import Upstream, sse
from wires import WIRES, Said

ONE = WIRES[0]
AT_ONCE = {"max_retries": 3, "initial_backoff_ms": 0}
CHAT = {"model": "m", "messages": [{"role": "user", "content": PROMPT}]}
SURFACES = {
    "/api/chat": CHAT,
    "/api/generate": {"model": "m", "prompt": PROMPT},
    "/v1/chat/completions": CHAT,
    "/v1/responses": {"model": "m", "input": PROMPT},
    "/v1/messages": {**CHAT, "max_tokens": 100},
}


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("path", SURFACES)
async def test_on_every_surface_the_client_sees_only_the_answer(path, streamed):
    """Three failures of three kinds, and then the answer, as if nothing had been."""
    replies = []
    for failures in ([], [refusal(529), refusal(500), lambda _: {"then": "vanish"}]):
        async with Upstream() as upstream:
            config = Config.model_validate(ONE.config(upstream.url, retry=AT_ONCE))
            async with running(config) as daemon:
                for failure in failures:
                    upstream.reply(**failure(ONE))
                upstream.reply(ONE.stream(Said("Hello there")))
                replies.append(await ask(daemon.url, "POST", path, {**SURFACES[path], "stream": streamed}))
            assert len(upstream.requests) == len(failures) + 1
            assert len({seen.body for seen in upstream.requests}) == 1
    plain, recovered = replies
    assert (recovered.status, recovered.headers.keys()) == (200, plain.headers.keys())
    assert b"Hello" in recovered.body
    assert b"error" not in recovered.body.replace(b'"error":null', b"").replace(b'"error": null', b"")


@pytest.mark.parametrize("embedder", EMBEDDERS, ids=lambda embedder: embedder.name)
async def test_embeddings_are_asked_for_again(embedder):
    """As answers are, of every provider."""
    async with Upstream() as upstream:
        config = embedder.config(upstream.url).model_copy(
            update={"retry": Config.model_validate({"retry": AT_ONCE}).retry}
        )
        async with running(config) as daemon:
            upstream.reply(b"{}", status=503)
            upstream.reply(b'{"data": [{"emb', headers=JSON)
            embedder.answer(upstream, [[1.0, 0.0]])
            got = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": ["text"]})
    assert got.json["embeddings"] == [[1.0, 0.0]]
    assert len(upstream.requests) == 3
    assert len({seen.body for seen in upstream.requests}) == 1


@pytest.fixture
def pause(monkeypatch):
    """Replaces the wait of all retries: `begun` is set with it, and it lasts until `over`."""

    class Pause:
        def __init__(self):
            self.begun, self.over, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def sleep(self, _seconds):
            self.begun.set()
            try:
                await self.over.wait()
            except asyncio.CancelledError:
                self.left.set()
                raise

    made = Pause()

    class Pausing(Retry):
        def __init__(self, inner, backoff, **more):
            super().__init__(inner, backoff, sleep=made.sleep, **more)

    monkeypatch.setattr(gateway, "Retry", Pausing)
    return made


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
async def test_who_leaves_during_the_wait_ends_it(wire, streamed, pause):
    """At once, and its provider hears no more of it."""
    async with Upstream() as upstream:
        config = Config.model_validate(wire.config(upstream.url, retry=AT_ONCE))
        async with running(config) as daemon:
            upstream.reply(**refusal(500)(wire))
            _, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", {**CHAT, "stream": streamed}))
            await asyncio.wait_for(pause.begun.wait(), 10)
            writer.close()
            await asyncio.wait_for(pause.left.wait(), 10)
    assert len(upstream.requests) == 1


async def test_heartbeats_go_on_during_the_wait(pause, monkeypatch):
    """A streamed answer shows that it lives while we wait to ask again, and then is whole."""
    monkeypatch.setattr(delivery, "FIRST_HEARTBEAT_S", 0.02)
    async with Upstream() as upstream:
        made = ONE.config(upstream.url, retry=AT_ONCE, streaming={"heartbeat_s": 0.02})
        async with running(Config.model_validate(made)) as daemon:
            upstream.reply(**refusal(529)(ONE))
            upstream.reply(ONE.stream(Said("Hello there")))
            reader, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", CHAT))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            body = b""
            for _ in range(2):
                body += await chunk(reader)
            assert pause.begun.is_set()
            assert len(upstream.requests) == 1
            pause.over.set()
            while piece := await chunk(reader):
                body += piece
            writer.close()
    lines = [json.loads(line) for line in body.splitlines()]
    assert [line["message"]["content"] for line in lines[:2]] == ["", ""]
    assert "".join(line["message"]["content"] for line in lines) == "Hello there"
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]


async def chunk(reader):
    size = int(await reader.readline(), 16)
    piece = await reader.readexactly(size)
    await reader.readline()
    return piece


async def test_the_log_tells_of_each_retry_without_the_providers_words():
    """Who, why, how long; providers quote keys and prompts."""
    with journal() as written:
        async with Upstream() as upstream:
            config = Config.model_validate(ONE.config(upstream.url, retry={**AT_ONCE, "max_retries": 1}))
            async with running(config) as daemon:
                body = json.dumps({"error": {"message": f"overloaded by {PROMPT} of {KEY}"}}).encode()
                upstream.reply(body, status=529)
                got = await ask(daemon.url, "POST", "/api/chat", CHAT)
    assert got.status == 503
    lines = [line for line in written.lines if line["event"] == "provider asked again"]
    assert [(line["level"], line["provider"], line["model"], line["wait_s"]) for line in lines] == [
        ("info", ONE.key, ONE.model, 0.0)
    ]
    assert "HTTP 529" in lines[0]["reason"]
    assert PROMPT not in written.text
    assert KEY not in written.text


async def test_a_failure_after_the_heartbeat_is_told_in_the_stream(monkeypatch):
    """The status is out by then: the last failure becomes the error line."""
    monkeypatch.setattr(delivery, "FIRST_HEARTBEAT_S", 0.02)
    go_on = asyncio.Event()
    async with Upstream() as upstream:
        made = ONE.config(upstream.url, retry=AT_ONCE, streaming={"heartbeat_s": 0.02})
        async with running(Config.model_validate(made)) as daemon:
            upstream.reply(**refusal(529)(ONE))
            upstream.reply(sse({"type": "message_start", "message": {}}), then="cut", hold=go_on)
            reader, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", CHAT))
            await reader.readuntil(b"\r\n\r\n")
            go_on.set()
            body = b""
            while piece := await chunk(reader):
                body += piece
            writer.close()
    assert len(upstream.requests) == 4
    assert "cut off" in json.loads(body.splitlines()[-1])["error"]


async def test_the_settings_reach_the_policy(tmp_path):
    """The environment's names, in milliseconds, become seconds; 0 retries stack nothing at all."""
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"providers": {"demo": {}}, "models": [{"name": "m", "backend": "demo"}]}))
    environ = {
        "MAX_RETRIES": "5",
        "INITIAL_BACKOFF": "250",
        "MAX_BACKOFF": "9000",
        "BACKOFF_FACTOR": "1.5",
        "JITTER": "0.3",
    }
    config = Source(path, environ=environ).load().config
    assert gateway._backoff(config) == Backoff(5, 0.25, 9.0, 1.5, 0.3, 60.0)
    assert gateway._backoff(Config()) == Backoff()
    for retries in (0, 1):
        asked = config.model_copy(update={"retry": config.retry.model_copy(update={"max_retries": retries})})
        stacked = gateway.assemble(asked).registry._backends["demo"]
        assert isinstance(stacked, gateway.Retry) is bool(retries)
