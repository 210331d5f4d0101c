"""The transport that both httpx2 SDKs speak through, over a real socket."""

import gzip
import os
import subprocess
import sys

import httpx2
import pytest

from anthropic_asking import asking, backend, reply, start, stop, text
from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.sdk import encode, http_client, neutral_environment
from ollama_bridge.errors import InvalidRequest, UpstreamUnreachable
from ollama_bridge.events import Finish, TextDelta, Usage
from upstream import Upstream, sse

REPLY = sse(start(), *text(0, "hi"), *stop())
EVENTS = [TextDelta("hi"), Finish("stop", Usage(3, 7), "end_turn")]
SSE = {"content-type": "text/event-stream"}


async def test_one_connection_serves_one_reply_after_another():
    """The body is read to its end after the last event, so that the next turn needs no handshake."""
    async with Upstream() as upstream:
        upstream.reply([REPLY[:-20], REPLY[-20:]])
        claude = backend(upstream.url)
        assert [await reply(claude) for _ in range(3)] == [EVENTS] * 3
        assert upstream.connections == 1
        await claude.aclose()


async def test_a_provider_that_never_ends_the_body_does_not_hold_the_reply():
    """The end is waited for a moment; the connection is then given up."""
    async with Upstream() as upstream:
        upstream.reply(REPLY, then="stall")
        claude = backend(upstream.url)
        assert await reply(claude) == EVENTS
        await upstream.closed_early.wait()
        await claude.aclose()


async def test_cookies_are_forgotten():
    """One tenant's cookie does not travel with the next one's request."""
    async with Upstream() as upstream:
        upstream.reply(REPLY, headers={**SSE, "set-cookie": "session=abc; Path=/"})
        claude = backend(upstream.url)
        await reply(claude)
        await reply(claude)
        assert "cookie" not in upstream.requests[1].headers
        await claude.aclose()


async def test_large_response_headers_are_read():
    """Some gateways send more than aiohttp's default of 8 KiB in one field."""
    async with Upstream() as upstream:
        upstream.reply(REPLY, headers={**SSE, "x-policy": "x" * 60_000})
        claude = backend(upstream.url)
        assert await reply(claude) == EVENTS
        await claude.aclose()


async def test_a_compressed_stream_is_read():
    """httpx2 decompresses what the transport hands it."""
    async with Upstream() as upstream:
        upstream.reply(gzip.compress(REPLY), headers={**SSE, "content-encoding": "gzip"})
        claude = backend(upstream.url)
        assert await reply(claude) == EVENTS
        await claude.aclose()


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_proxies_of_the_environment_are_used_only_if_wanted(variable, monkeypatch):
    """`trust_env` decides; without it a stray variable does not redirect prompts."""
    async with Upstream() as upstream, Upstream() as proxy:
        monkeypatch.setenv(variable, proxy.url)
        upstream.reply(REPLY)
        proxy.reply(REPLY)
        direct, through = backend(upstream.url), backend("http://provider.invalid", trust_env=True)
        await reply(direct)
        assert not proxy.requests
        await reply(through)
        assert proxy.requests[0].path == "http://provider.invalid/v1/messages"
        await direct.aclose()
        await through.aclose()


async def test_no_proxy_is_honoured(monkeypatch):
    """A local server beside a company's proxy."""
    async with Upstream() as upstream:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        upstream.reply(REPLY)
        claude = backend(upstream.url, trust_env=True)
        assert await reply(claude) == EVENTS
        await claude.aclose()


async def test_a_netrc_does_not_take_the_keys_place(monkeypatch, tmp_path):
    """aiohttp's own `trust_env` would send its login instead of ours."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password mine\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with Upstream() as upstream:
        upstream.reply(REPLY)
        claude = backend(upstream.url, trust_env=True)
        await reply(claude)
        assert upstream.requests[0].headers["authorization"].startswith("Bearer sk-ant")
        await claude.aclose()


async def test_a_connection_takes_no_longer_than_allowed():
    """Only the connection is bounded here; silence afterwards is the timeout policy's business."""
    client = http_client(ProviderSettings("acme", "anthropic", connect_timeout_s=2.5))
    assert client.timeout == httpx2.Timeout(None, connect=2.5)
    await client.aclose()


async def test_warming_up_touches_no_network():
    """The first-use costs are paid against the transport itself: nobody listens at this address."""
    claude = backend("http://127.0.0.1:9")
    await claude.warm()
    with pytest.raises(UpstreamUnreachable, match="connection refused"):
        await reply(claude, asking())
    await claude.aclose()


def test_the_environment_comes_back(monkeypatch):
    """What is hidden from an SDK's constructor belongs to others in this process."""
    import os

    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.example")
    with neutral_environment():
        assert "OPENAI_BASE_URL" not in os.environ
    assert os.environ["OPENAI_BASE_URL"] == "http://elsewhere.example"


@pytest.mark.parametrize("odd", ["\ud800", 2**70, {1: 2}])
def test_what_is_not_json_is_the_clients_fault(odd):
    """Half a surrogate pair in a prompt is a 400, not a traceback."""
    with pytest.raises(InvalidRequest, match="JSON"):
        encode({"odd": odd})


def test_what_the_sdks_look_up_is_whole_before_they_do():
    """Whoever imports httpx later, in whatever thread: while it was half there, every request failed."""
    code = (
        "import sys, ollama_bridge.backends.sdk; sys.exit(not hasattr(sys.modules.get('httpx'), 'Timeout'))"
    )
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": os.pathsep.join(sys.path)}, check=True)
