"""What the bridge relies on in the SDKs beyond their documented features: a new release that differs fails here."""

import inspect
import json

import anthropic
import httpx2
import pytest

from anthropic_asking import KEY, backend, reply, start, stop, text
from ollama_bridge.backends.anthropic import DEFAULT_URL
from upstream import Upstream, sse

REPLY = sse(start(), *text(0, "hi"), *stop())


def test_anthropic_posts_bytes_and_streams_what_it_is_told():
    """`post(content=…, cast_to=object, stream=True, stream_cls=…)` is the verb the backend drives."""
    parameters = inspect.signature(anthropic.AsyncAnthropic.post).parameters
    assert {"path", "content", "cast_to", "options", "stream", "stream_cls"} <= set(parameters)
    assert anthropic.AsyncStream.__annotations__["response"] == "httpx2.Response"


def test_httpx2_takes_a_transport_and_gives_bytes():
    """The public interface behind which `SessionTransport` stands."""
    assert "transport" in inspect.signature(httpx2.AsyncClient).parameters
    assert inspect.iscoroutinefunction(httpx2.AsyncBaseTransport.handle_async_request)
    assert inspect.isasyncgenfunction(httpx2.Response.aiter_bytes)


async def test_the_default_address_is_the_sdks_own():
    """It is passed explicitly, because the SDK prefers `ANTHROPIC_BASE_URL` to its own default."""
    async with anthropic.AsyncAnthropic(api_key="x") as client:
        assert str(client.base_url).rstrip("/") == DEFAULT_URL


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:9"),
        ("ANTHROPIC_CUSTOM_HEADERS", "x-evil: 1"),
        ("ANTHROPIC_AUTH_TOKEN", "evil"),
        ("ANTHROPIC_API_KEY", "evil"),
        ("ANTHROPIC_LOG", "debug"),
        ("HTTP_PROXY", "http://127.0.0.1:9"),
        ("ALL_PROXY", "http://127.0.0.1:9"),
    ],
)
async def test_the_environment_changes_neither_where_nor_what_we_send(variable, value, monkeypatch):
    """The SDK reads all of these, even beside explicit arguments."""
    monkeypatch.setenv(variable, value)
    async with Upstream() as upstream:
        upstream.reply(REPLY)
        claude = backend(upstream.url)
        await reply(claude)
        await claude.aclose()
    headers = upstream.requests[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert not any("evil" in name or "evil" in content for name, content in headers.items())


async def test_a_profile_on_disk_is_not_used(monkeypatch, tmp_path):
    """`ANTHROPIC_CONFIG_DIR` may hold somebody's credentials and address."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "default.json").write_text(json.dumps({"base_url": "http://127.0.0.1:9"}))
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
    async with Upstream() as upstream:
        upstream.reply(REPLY)
        claude = backend(upstream.url)
        await reply(claude)
        await claude.aclose()
        assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"
