"""When the client goes away the provider's connection is closed, in every mode, through every SDK."""

import asyncio

import pytest
from structlog.testing import capture_logs

from ollama_bridge.config import Config
from ollama_bridge.policies import complete
from running import ask, connect, request, running
from upstream import Upstream
from wires import WIRES, Said

ENDING = [wire for wire in WIRES if wire.name != "google"]
"""Whose answer ends before its body does."""


def through(wires):
    return pytest.mark.parametrize("wire", wires, ids=lambda wire: wire.name)


@through(WIRES)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("when", ["before the first token", "after the first token"])
async def test_the_provider_is_left_when_the_client_leaves(wire, stream, when):
    """The daemon's own runner, a fake provider that watches its socket, a client that closes its own."""
    body = wire.stream(Said("one two three four five six seven"))
    half = body[: len(body) // 2]
    async with Upstream() as upstream:
        upstream.reply([] if when.startswith("before") else [half], then="stall")
        async with running(Config.model_validate(wire.config(upstream.url))) as daemon:
            reader, writer = await connect(daemon.url)
            question = {"model": "m", "messages": [{"role": "user", "content": "?"}], "stream": stream}
            writer.write(request(daemon.url, "POST", "/api/chat", question))
            async with asyncio.timeout(20):  # the SDK is imported first
                await upstream.asked.wait()
                if stream and when.startswith("after"):
                    await reader.readuntil(b'"done":false}')
            assert not upstream.closed_early.is_set()
            writer.close()
            async with asyncio.timeout(2):
                await upstream.closed_early.wait()


def answered(logged):
    """The status of each conversation so far, from the log: there is nothing to wait for."""
    return [line["status"] for line in logged if line["event"] == "request" and "model" in line]


@through(ENDING)
async def test_who_leaves_with_the_whole_answer_has_been_answered(wire, monkeypatch):
    """Codex hangs up at the last event: it counts as answered, and the next turn finds the provider's connection."""
    monkeypatch.setattr(complete, "LINGER_S", 60.0)
    rest = asyncio.Event()
    async with Upstream() as upstream:
        upstream.reply([wire.stream(Said("one two three")), b": the end\n\n"], hold=rest, held_after=1)
        async with running(Config.model_validate(wire.config(upstream.url))) as daemon, asyncio.timeout(20):
            question = {"model": "m", "input": "?", "stream": True}
            with capture_logs() as logged:
                reader, writer = await connect(daemon.url)
                writer.write(request(daemon.url, "POST", "/v1/responses", question))
                await reader.readuntil(b"event: response.completed")
                writer.close()
                await ask(daemon.url, "GET", "/api/version")  # the daemon has read that the client left
                rest.set()
                while not answered(logged):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await ask(daemon.url, "POST", "/v1/responses", question)
    assert answered(logged) == [200]
    assert upstream.connections == 1
