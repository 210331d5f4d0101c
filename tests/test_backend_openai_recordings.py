"""Recorded replies of OpenAI and of everybody who speaks its APIs, through the backend."""

import pytest

from ollama_bridge.errors import UpstreamError
from ollama_bridge.events import Finish
from openai_asking import ask_until_it_fails, backend_at, calls, recorded, recordings, said, thought
from upstream import Upstream, split_at_random

CHATS = recordings("*/chat-stream-*.json", "openai.chat")


@pytest.mark.skipif(not CHATS, reason="the recordings are not there")
@pytest.mark.parametrize("path", CHATS, ids=lambda path: f"{path.parent.name}/{path.stem}")
async def test_chat_completions(path):
    """Every recorded stream, cut at random byte borders, gives what an independent reading of it gives."""
    recording, facts = recorded(path)
    response = recording["response"]
    async with Upstream() as upstream, backend_at(upstream) as backend:
        pieces = split_at_random(response["body"].encode(), seed=len(response["body"]))
        upstream.reply(pieces, status=response["status"], headers=response["headers"])
        events, failure = await ask_until_it_fails(backend)
    if facts["errors"] or response["status"] >= 400:
        assert isinstance(failure, UpstreamError)
        assert not any(isinstance(event, Finish) for event in events)
        assert response["status"] >= 400 or thought(events) == facts["thinking"]
        return
    assert failure is None
    assert said(events) == facts["text"] + facts["refusal"]
    assert thought(events) == facts["thinking"]
    # An argument text that is no JSON is half of one: the oracle keeps it, we drop the call.
    whole = [call for call in facts["tools"] if not isinstance(call["args"], str)]
    assert calls(events) == [{"name": call["name"], "args": call["args"] or {}} for call in whole]
    finish = events[-1]
    assert finish.detail == (facts["finish"] or "stop")  # who says `[DONE]`, but not why, has stopped
    assert finish.usage.input_tokens == facts["usage"].get("prompt_tokens", 0)
    assert finish.usage.cached_read_tokens == facts["cached"]


RESPONSES = recordings("*/responses-stream-*.json", "openai.responses")


@pytest.mark.skipif(not RESPONSES, reason="the recordings are not there")
@pytest.mark.parametrize("path", RESPONSES, ids=lambda path: f"{path.parent.name}/{path.stem}")
async def test_responses(path):
    """Every recorded stream, cut at random byte borders, gives what an independent reading of it gives."""
    recording, facts = recorded(path)
    response = recording["response"]
    async with Upstream() as upstream, backend_at(upstream, api="responses") as backend:
        pieces = split_at_random(response["body"].encode(), seed=len(response["body"]))
        upstream.reply(pieces, status=response["status"], headers=response["headers"])
        events, failure = await ask_until_it_fails(backend)
    if facts["errors"]:
        assert isinstance(failure, UpstreamError)
        return
    assert failure is None
    assert said(events) == facts["text"] + facts["refusal"]
    # The oracle joins the parts of a summary without the blank line that stands between them.
    assert thought(events).replace("\n\n", "") == facts["thinking"].replace("\n\n", "")
    assert calls(events) == facts["tools"]
    finish = events[-1]
    assert finish.detail == facts["finish"].removeprefix("incomplete:")
    assert finish.usage.input_tokens == facts["usage"]["input_tokens"]
    assert finish.usage.output_tokens == facts["usage"]["output_tokens"]
    assert finish.usage.cached_read_tokens == facts["cached"]
