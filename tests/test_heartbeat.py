"""A silent stream shows that it lives, without taking away an error's status."""

import asyncio
import json

import pytest

from ollama_bridge.config import Config
from ollama_bridge.server import delivery
from running import answer, ask, connect, request, running
from upstream import Upstream
from wires import WIRES, Said

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(delivery, "FIRST_HEARTBEAT_S", 0.02)


def config(url, wire=WIRES[0], **streaming):
    return Config.model_validate(wire.config(url, streaming={"heartbeat_s": 0.02, **streaming}))


async def beating(daemon, path, body):
    """The connection, after two lines of its answer came."""
    reader, writer = await connect(daemon.url)
    writer.write(request(daemon.url, "POST", path, body))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    lines = []
    for _ in range(2):
        size = int(await reader.readline(), 16)
        lines.append(await reader.readexactly(size))
        await reader.readline()
    return reader, writer, lines


async def rest(reader):
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    return body


@pytest.mark.parametrize(
    ("path", "body", "empty"),
    [
        ("/api/chat", CHAT, {"message": {"role": "assistant", "content": ""}, "done": False}),
        ("/api/generate", {"model": "m", "prompt": "Hi"}, {"response": "", "done": False}),
    ],
)
async def test_silence_before_the_first_word_is_filled_and_nothing_is_lost(path, body, empty):
    """While the model says nothing come whole lines without content; what it then says is all there."""
    go_on = asyncio.Event()
    async with Upstream() as upstream, running(config(upstream.url)) as daemon:
        upstream.reply(WIRES[0].stream(Said("Hello there")), hold=go_on)
        reader, writer, lines = await beating(daemon, path, body)
        for line in lines:
            assert line.endswith(b"\n")
            beat = json.loads(line)
            assert beat.pop("model") == "m"
            assert beat.pop("created_at")
            assert beat == empty
        go_on.set()
        said = [json.loads(line) for line in (await rest(reader)).splitlines()]
        text = "".join(one.get("response", one.get("message", {}).get("content", "")) for one in said)
        assert text == "Hello there"
        assert said[-1]["done"] is True
        writer.close()


async def test_silence_within_an_answer_is_filled():
    """The same after words have come."""
    go_on = asyncio.Event()
    whole = WIRES[0].stream(Said("Hello there"))
    half = whole.index(b" ther")
    async with Upstream() as upstream, running(config(upstream.url)) as daemon:
        upstream.reply([whole[:half], whole[half:]], hold=go_on, held_after=1)
        reader, writer, lines = await beating(daemon, "/api/chat", CHAT)
        contents = [json.loads(line)["message"]["content"] for line in b"".join(lines).splitlines()]
        while contents[-2:] != ["Hello", ""]:  # on a slow machine there is silence before the first word, too
            await reader.readline()
            contents.append(json.loads(await reader.readline())["message"]["content"])
            await reader.readline()
        go_on.set()
        last = [json.loads(line) for line in (await rest(reader)).splitlines()]
        assert "".join(one["message"]["content"] for one in last) == " there"
        assert set(contents) == {"Hello", ""}
        writer.close()


async def test_a_failure_after_a_heartbeat_is_the_last_line():
    """The status is out: the error is told in the stream, and the stream ends."""
    go_on = asyncio.Event()
    async with Upstream() as upstream, running(config(upstream.url)) as daemon:
        upstream.reply(
            b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', status=529, hold=go_on
        )
        reader, writer, _ = await beating(daemon, "/api/chat", CHAT)
        go_on.set()
        last = [json.loads(line) for line in (await rest(reader)).splitlines()][-1]
        assert list(last) == ["error"]
        writer.close()


async def test_a_failure_of_the_first_seconds_has_its_status(monkeypatch):
    """However short the operator's `heartbeat_s` is."""
    monkeypatch.setattr(delivery, "FIRST_HEARTBEAT_S", 30.0)
    async with Upstream() as upstream, running(config(upstream.url, heartbeat_s=0.001)) as daemon:
        upstream.reply(b"{}", status=529, head_delay_s=0.05)
        got = await ask(daemon.url, "POST", "/api/chat", CHAT)
        assert got.status == 503


async def test_zero_is_never():
    """`heartbeat_s: 0` leaves a silent stream silent."""
    go_on = asyncio.Event()
    async with Upstream() as upstream, running(config(upstream.url, heartbeat_s=0)) as daemon:
        upstream.reply(WIRES[0].stream(Said("Hello")), hold=go_on)
        reader, writer = await connect(daemon.url)
        writer.write(request(daemon.url, "POST", "/api/chat", CHAT))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.2)
        go_on.set()
        assert (await answer(reader)).lines[0]["message"]["content"]
        writer.close()


async def test_who_does_not_stream_gets_no_heartbeat():
    """A whole answer is one object, however long it took."""
    async with Upstream() as upstream, running(config(upstream.url)) as daemon:
        upstream.reply(WIRES[0].stream(Said("Hello")), head_delay_s=0.1)
        got = await ask(daemon.url, "POST", "/api/chat", {**CHAT, "stream": False})
        assert got.json["message"]["content"] == "Hello"


async def test_a_client_that_leaves_a_beating_stream_ends_the_call():
    """The provider's connection is closed, as always."""
    async with Upstream() as upstream, running(config(upstream.url)) as daemon:
        upstream.reply(b"", hold=asyncio.Event())
        _reader, writer, _ = await beating(daemon, "/api/chat", CHAT)
        await upstream.asked.wait()  # a stream beats also while the provider's SDK is being loaded
        writer.close()
        await asyncio.wait_for(upstream.closed_early.wait(), 5)
