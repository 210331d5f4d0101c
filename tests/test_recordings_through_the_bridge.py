"""What providers really said, read back through the daemon by the real `ollama` package."""

import importlib.util
import json
import re
from collections.abc import Container, Iterator, Mapping
from types import ModuleType
from typing import Any, TypeAlias

import ollama
import pytest

from anthropic_asking import start, stop
from ollama_bridge.config import Config
from running import running
from shared import SHARED
from upstream import Upstream, split_at_random, sse
from wires import WIRES

FOLDER = SHARED / "recordings" if SHARED else None
FILES = {
    "anthropic": "anthropic/messages-stream-*.json",
    "responses": "openai/responses-stream-*.json",
    "chat": "openai/chat-stream-*.json",
    "google": "gemini/generate-stream-*.json",
}
Recording: TypeAlias = dict[str, Any]

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(FOLDER is None or not FOLDER.is_dir(), reason="../shared/recordings is not here"),
]


def oracle() -> ModuleType:
    """`check.py` beside the recordings says what a client should end up with."""
    spec = importlib.util.spec_from_file_location("recordings_oracle", FOLDER / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recordings(name: str) -> Iterator[tuple[str, Recording]]:
    for path in sorted(FOLDER.glob(FILES[name])):
        recording = json.loads(path.read_text(encoding="utf-8"))
        response = recording["response"]
        # One file holds a dialogue of several replies; those that stream no block are not for us.
        replies = re.split("(?=^event: message_start$)", response["body"], flags=re.MULTILINE)
        if len(replies) > 2:
            for turn, body in enumerate(reply for reply in replies if "content_block_start" in reply):
                yield f"{path.stem} {turn}", {**recording, "response": {**response, "body": body}}
        else:
            yield path.stem, recording


def tokens(name: str, usage: Mapping[str, Any]) -> tuple[int, int]:
    """Of the prompt and of the answer, cached and reasoning ones included."""

    def total(*keys: str) -> int:
        return sum(usage.get(key) or 0 for key in keys)

    match name:
        case "anthropic":
            prompt = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
            return total(*prompt), total("output_tokens")
        case "chat":
            return total("prompt_tokens"), total("completion_tokens")
        case "google":
            prompt = ("promptTokenCount", "toolUsePromptTokenCount")
            return total(*prompt), total("candidatesTokenCount", "thoughtsTokenCount")
        case _:
            return total("input_tokens"), total("output_tokens")


async def asked(
    client: ollama.AsyncClient, *, stream: bool
) -> tuple[str, str, list[Any], ollama.ChatResponse]:
    """Text, thinking, calls, and the object that ends the answer."""
    question = [{"role": "user", "content": "?"}]
    if stream:
        parts = [part async for part in await client.chat("m", question, stream=True)]
        assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    else:
        parts = [await client.chat("m", question)]
    return (
        "".join(part.message.content or "" for part in parts),
        "".join(part.message.thinking or "" for part in parts),
        [
            {"name": call.function.name, "args": dict(call.function.arguments)}
            for part in parts
            for call in part.message.tool_calls or ()
        ],
        parts[-1],
    )


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_a_recorded_stream_is_what_the_client_gets(wire, subtests):
    """Text, thinking, tool calls, the reason of the end and the counts are the recording's, streamed and whole."""
    check = oracle()
    found = 0
    async with Upstream() as upstream, running(Config.model_validate(wire.config(upstream.url))) as daemon:
        client = ollama.AsyncClient(host=daemon.url, trust_env=False)
        for name, recording in recordings(wire.name):
            if recording["response"]["status"] != 200:
                continue
            facts, _ = check.facts(recording)
            if facts["finish"] is None or facts["errors"]:
                continue
            found += 1
            for stream in (True, False):
                with subtests.test(name, stream=stream):
                    body = recording["response"]["body"].encode()
                    upstream.only(split_at_random(body, seed=found), headers=recording["response"]["headers"])
                    if facts["finish"] == "pause_turn":  # it is asked to go on, and has nothing to add
                        upstream.reply(sse(start(input_tokens=0), *stop(output_tokens=0)))
                    _compare(wire.name, facts, await asked(client, stream=stream), check.TRUNC)
        await client.close()
    assert found >= 6


async def test_half_of_a_recorded_stream_is_an_error(subtests):
    """Cut anywhere before its end, a recorded stream never ends in `done`."""
    for wire in WIRES:
        _, recording = next(one for one in recordings(wire.name) if one[1]["response"]["status"] == 200)
        body = recording["response"]["body"].encode()
        async with (
            Upstream() as upstream,
            running(Config.model_validate(wire.config(upstream.url))) as daemon,
        ):
            client = ollama.AsyncClient(host=daemon.url, trust_env=False)
            for at in range(0, len(body) * 3 // 4, max(len(body) // 12, 1)):
                for stream in (True, False):
                    with subtests.test(wire.name, at=at, stream=stream):
                        upstream.only(split_at_random(body[:at], seed=at) if at else b"")
                        with pytest.raises(ollama.ResponseError, match=wire.model):
                            await asked(client, stream=stream)
            await client.close()


def _compare(name: str, facts: Mapping[str, Any], got: Any, truncated: Container[str]) -> None:
    text, thinking, calls, last = got
    assert text == facts["text"] + facts["refusal"]
    # The oracle joins the parts of a summary without the blank line that stands between them.
    assert thinking.replace("\n\n", "") == facts["thinking"].replace("\n\n", "")
    whole = [tool for tool in facts["tools"] if not isinstance(tool["args"], str)]  # no JSON: half a call
    assert calls == [{"name": tool["name"], "args": tool["args"] or {}} for tool in whole]
    assert last.done_reason == ("length" if facts["finish"] in truncated else "stop")
    prompt, answer = tokens(name, facts["usage"] or {})
    assert last.prompt_eval_count == max(1, prompt)
    if answer:
        assert last.eval_count == answer
