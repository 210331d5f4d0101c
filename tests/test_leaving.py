"""When the client goes away the provider's connection is closed, in every mode, through every SDK."""

import asyncio

import pytest

from ollama_bridge.config import Config
from running import connect, request, running
from upstream import Upstream
from wires import WIRES, Said

pytestmark = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


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
