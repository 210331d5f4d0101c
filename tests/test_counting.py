"""How long a prompt is: each SDK asks its provider through the running daemon, and what comes of it if it does not tell."""

import asyncio

import pytest
from anthropic.types.message_count_tokens_params import MessageCountTokensParams
from openai.types.responses.input_token_count_params import InputTokenCountParams

import anthropic_asking
import openai_asking
from messages_asking import client_of, sent
from ollama_bridge.backends import anthropic as anthropic_backend
from ollama_bridge.backends import google, responses
from ollama_bridge.chat import Message, Rules, Tool
from ollama_bridge.config import Config
from ollama_bridge.errors import UpstreamRejected
from running import ask, running
from upstream import Upstream
from wires import WIRES

USER = {"role": "user", "content": "hello"}
ASKED = {"model": "m", "messages": [USER]}
PATH = "/v1/messages/count_tokens"
JSON = {"content-type": "application/json"}
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
LONG = (Message("system", "Be brief."), Message("user", "hello"))
TOOLS = (Tool("f", "d", {"type": "object", "properties": {"a": {"type": "string"}}}),)

each_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


COUNTED = {
    "anthropic": (b'{"input_tokens": 42}', "/v1/messages/count_tokens"),
    "google": (b'{"totalTokens": 42}', "/v1beta/models/gemini-2.5-flash:countTokens"),
}


@each_wire
async def test_tokens_are_counted_by_the_provider_or_estimated(wire):
    """With system prompt and tools; who cannot count is not asked."""
    body, path = COUNTED.get(wire.name, (b"", ""))
    async with Upstream() as upstream:
        upstream.reply(body, headers=JSON)
        async with (
            running(Config.model_validate(wire.config(upstream.url))) as daemon,
            client_of(daemon) as client,
        ):
            counted = await client.messages.count_tokens(
                model="m", messages=[USER], system="Be brief. " * 40, tools=[WEATHER]
            )
    assert [seen.path for seen in upstream.requests] == [path] * bool(path)
    if path:
        assert counted.input_tokens == 42
        assert "Be brief." in sent(upstream)
        assert "get_weather" in sent(upstream)
        assert "max" not in sent(upstream)
    else:
        assert 100 < counted.input_tokens < 300


@pytest.mark.parametrize("wire", [WIRES[0], WIRES[3]], ids=lambda wire: wire.name)
@pytest.mark.parametrize(
    ("body", "how"),
    [
        (b'{"error":{"message":"no such route"}}', {"status": 404}),
        (b"{}", {}),
        (b"<html>", {}),
        (b"", {"then": "cut"}),
        (b"", {"hold": True}),
    ],
    ids=["refused", "odd", "html", "cut", "silent"],
)
async def test_a_provider_that_does_not_count_leaves_an_estimate(wire, body, how, monkeypatch):
    """Whatever it does instead, and soon."""
    monkeypatch.setattr("ollama_bridge.gateway.COUNT_WITHIN_S", 0.3 if how.get("hold") else 30.0)
    how = {**how, "hold": asyncio.Event()} if how.get("hold") else how
    async with Upstream() as upstream:
        upstream.reply(body, headers=JSON, **how)
        async with running(Config.model_validate(wire.config(upstream.url))) as daemon:
            got = await ask(daemon.url, "POST", PATH, ASKED)
            assert got.status == 200
            assert 1 <= got.json["input_tokens"] < 30


async def test_what_cannot_be_counted_is_told():
    """In the words of /v1/messages."""
    async with (
        Upstream() as upstream,
        running(Config.model_validate(WIRES[0].config(upstream.url))) as daemon,
    ):
        got = await ask(daemon.url, "POST", PATH, {**ASKED, "model": "nope"})
        assert (got.status, got.json["error"]["type"]) == (404, "not_found_error")
        got = await ask(daemon.url, "POST", PATH, {"model": "m"})
        assert (got.status, got.json["error"]["message"]) == (400, "messages is required")


# ---------------------------------------------------------------------------------------------- what is asked


async def test_anthropic_is_asked_with_what_it_counts():
    """Prompt, tools and thinking; nothing of how the answer is to be, which is refused there."""
    async with Upstream() as upstream:
        upstream.reply(b'{"input_tokens": 42}', headers=JSON)
        claude = anthropic_asking.backend(upstream.url)
        options = {"num_predict": 9, "stop": ["x"]}
        request = anthropic_asking.asking(*LONG, tools=TOOLS, think="low", options=options)
        assert await claude.count(request) == 42
        await claude.aclose()
    assert upstream.requests[0].path == "/v1/messages/count_tokens"
    assert upstream.requests[0].json.keys() == {
        *("model", "messages", "system", "tools", "thinking", "output_config"),
    }
    assert MessageCountTokensParams.__annotations__.keys() >= anthropic_backend.COUNTED


async def test_openai_is_asked_with_what_it_counts(monkeypatch):
    """The Responses API only, and of OpenAI itself only."""
    assert InputTokenCountParams.__annotations__.keys() >= responses.COUNTED
    rules = Rules(api="responses", efforts=("low", "medium"))
    request = openai_asking.question(messages=LONG, tools=TOOLS, rules=rules, options={"num_predict": 99})
    async with Upstream() as upstream, openai_asking.backend_at(upstream) as backend:
        upstream.reply(b'{"object":"response.input_tokens","input_tokens":42}', headers=JSON)
        assert await backend.count(request) < 42
        monkeypatch.setattr(backend, "_is_openai", True)
        assert await backend.count(openai_asking.question(messages=LONG)) < 42
        assert not upstream.requests
        assert await backend.count(request) == 42
    assert upstream.requests[0].path == "/v1/responses/input_tokens"
    assert upstream.requests[0].json.keys() == {"model", "input", "instructions", "tools"}


async def test_gemini_is_asked_for_the_whole_request(monkeypatch):
    """With system prompt and tools, which the SDK's typed call refuses; where only that one fits, we estimate."""
    async with Upstream() as upstream:
        upstream.reply(b'{"totalTokens": 42}', headers=JSON)
        config = Config.model_validate(WIRES[3].config(upstream.url))
        asked = {**ASKED, "system": "Be brief.", "tools": [WEATHER]}
        async with running(config) as daemon:
            assert (await ask(daemon.url, "POST", PATH, asked)).json == {"input_tokens": 42}
        (seen,) = upstream.requests
        inner = seen.json["generateContentRequest"]
        assert list(seen.json) == ["generateContentRequest"]
        assert inner["model"] == "models/gemini-2.5-flash"
        assert inner["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
        assert inner["tools"][0]["functionDeclarations"][0]["name"] == "get_weather"
        monkeypatch.setattr(google, "lower_path_misfit", lambda _: "another version")
        async with running(config) as daemon:
            assert (await ask(daemon.url, "POST", PATH, asked)).json["input_tokens"] > 42
        assert len(upstream.requests) == 1


async def test_without_a_key_nobody_is_asked():
    """It is told as for a chat, and the daemon then estimates."""
    async with Upstream() as upstream:
        claude = anthropic_backend.AnthropicBackend(
            anthropic_backend.ProviderSettings("claude", "anthropic", (), upstream.url)
        )
        with pytest.raises(UpstreamRejected, match="no API key"):
            await claude.count(anthropic_asking.asking())
        await claude.aclose()
        assert not upstream.requests


async def test_the_clients_mistakes_are_no_reason_to_estimate():
    """What could not be asked at all is refused here as well."""
    bmp = {"type": "image", "source": {"type": "base64", "media_type": "image/bmp", "data": "Qk0AAAAA"}}
    asked = {"model": "m", "messages": [{"role": "user", "content": [bmp]}]}
    async with (
        Upstream() as upstream,
        running(Config.model_validate(WIRES[0].config(upstream.url))) as daemon,
    ):
        got = await ask(daemon.url, "POST", PATH, asked)
    assert got.status == 400
    assert "image/bmp" in got.json["error"]["message"]
