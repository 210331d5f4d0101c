"""Recorded replies of the real API, through the real SDK, at random borders."""

import importlib.util
import json
import re
from types import ModuleType

import pytest

from anthropic_asking import backend, reply, start, stop
from ollama_bridge.errors import UpstreamBusy, UpstreamError
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, ToolCall
from shared import SHARED
from upstream import Upstream, split_at_random, sse

PATHS = sorted((SHARED / "recordings" / "anthropic").glob("messages-*.json")) if SHARED else []
RECORDINGS = {path.stem: json.loads(path.read_text()) for path in PATHS}
REPLIES = [
    pytest.param({**one, "response": {**one["response"], "body": body}}, id=f"{name}-{turn}")
    for name, one in RECORDINGS.items()
    if one["stream"] and one["response"]["status"] == 200 and "error" not in name
    # One file holds a whole dialogue; its turns of server-side tool calls stream no blocks and are not for us.
    for turn, body in enumerate(
        re.split("(?=^event: message_start$)", one["response"]["body"], flags=re.MULTILINE)
    )
    if "content_block_start" in body or body == one["response"]["body"]
]
FAULTS = [name for name, one in RECORDINGS.items() if one["response"]["status"] >= 400]

pytestmark = pytest.mark.skipif(not RECORDINGS, reason="the folder of recordings is not here")


def check() -> ModuleType:
    """`check.py` beside the recordings says what a client should end up with."""
    spec = importlib.util.spec_from_file_location("recordings_check", SHARED / "recordings" / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def served(upstream, recording, *, seed=1):
    response = recording["response"]
    upstream.reply(
        split_at_random(response["body"].encode(), seed),
        status=response["status"],
        headers=response["headers"],
    )


@pytest.mark.parametrize("recording", REPLIES)
async def test_a_recorded_stream_means_what_it_says(recording):
    """Text, thinking, tool calls, finish reason and usage are those that the recording holds."""
    facts, _ = check().facts(recording)
    async with Upstream() as upstream:
        served(upstream, recording)
        if facts["finish"] == "pause_turn":  # it is asked to go on, and has nothing to add
            upstream.reply(sse(start(input_tokens=0), *stop(output_tokens=0)))
            facts["finish"] = "end_turn"
        claude = backend(upstream.url)
        events = await reply(claude)
        await claude.aclose()
    finish = events[-1]
    usage = facts["usage"]
    cached = [usage.get(f"cache_{kind}_input_tokens") or 0 for kind in ("read", "creation")]
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == facts["text"]
    assert "".join(event.text for event in events if isinstance(event, ThinkingDelta)) == facts["thinking"]
    assert [
        {"name": event.name, "args": event.arguments} for event in events if isinstance(event, ToolCall)
    ] == [{**tool, "args": tool["args"] or {}} for tool in facts["tools"]]
    assert isinstance(finish, Finish)
    assert finish.detail == facts["finish"]
    assert finish.usage.input_tokens == usage["input_tokens"] + sum(cached)
    assert finish.usage.output_tokens == usage["output_tokens"]
    assert [finish.usage.cached_read_tokens, finish.usage.cached_write_tokens] == cached


@pytest.mark.parametrize("name", FAULTS)
async def test_a_recorded_error_is_told_in_the_providers_words(name):
    """Whatever the status, the message that the API sent is part of ours."""
    recording = RECORDINGS[name]
    async with Upstream() as upstream:
        served(upstream, recording)
        claude = backend(upstream.url)
        with pytest.raises(UpstreamError) as caught:
            await reply(claude)
        await claude.aclose()
    said = json.loads(recording["response"]["body"])["error"]["message"]
    assert " ".join(said.split())[:400] in str(caught.value)
    assert caught.value.retryable == (recording["response"]["status"] in {429, 529})


@pytest.mark.parametrize("name", [name for name in RECORDINGS if "mid-stream-error" in name])
async def test_a_recorded_error_inside_a_stream_is_an_error(name):
    """Overloaded, with status 200."""
    async with Upstream() as upstream:
        served(upstream, RECORDINGS[name])
        claude = backend(upstream.url)
        with pytest.raises(UpstreamBusy, match="Overloaded"):
            await reply(claude)
        await claude.aclose()
