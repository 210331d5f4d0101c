"""What a client of the daemon ends up with, over any of three wires, streamed: for tests of what providers send."""

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ollama_bridge.config import Config
from running import ask, running
from upstream import Upstream
from wires import WIRES

BY_NAME = {wire.name: wire for wire in WIRES}
TOOLS = [
    {"type": "function", "function": {"name": "look", "description": "d", "parameters": {"type": "object"}}}
]


@dataclass
class Heard:
    """One answer.

    `ended` is the wire's own word for the end; `error` the message of an error, before or within the answer.
    """

    text: str = ""
    thinking: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    ended: str | None = None
    tokens: tuple[int, int] | None = None
    error: str = ""
    status: int = 200


@asynccontextmanager
async def bridged(name, **extra):
    """A daemon whose model `m` is of the wire called `name`, and its scripted upstream."""
    wire = BY_NAME[name]
    async with (
        Upstream() as upstream,
        running(Config.model_validate(wire.config(upstream.url, **extra))) as daemon,
    ):
        yield daemon, upstream


async def native(daemon, **fields) -> Heard:
    """Over `/api/chat`."""
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}], **fields}
    got = await ask(daemon.url, "POST", "/api/chat", body)
    heard = Heard(status=got.status)
    if got.status != 200:
        heard.error = got.json["error"]
        return heard
    for line in map(json.loads, got.body.splitlines()):
        message = line.get("message", {})
        heard.text += message.get("content") or ""
        heard.thinking += message.get("thinking") or ""
        for call in message.get("tool_calls", ()):
            heard.calls.append((call["function"]["name"], call["function"]["arguments"]))
        if line.get("done"):
            heard.ended = line["done_reason"]
            heard.tokens = line["prompt_eval_count"], line["eval_count"]
        heard.error += line.get("error", "")
    return heard


def _events(got) -> list[dict[str, Any]]:
    lines = [line[6:] for line in got.body.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


async def openai(daemon, **fields) -> Heard:
    """Over `/v1/chat/completions`."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        **fields,
    }
    got = await ask(daemon.url, "POST", "/v1/chat/completions", body)
    heard = Heard(status=got.status)
    if got.status != 200:
        heard.error = got.json["error"]["message"]
        return heard
    for chunk in _events(got):
        if "error" in chunk:
            heard.error += chunk["error"]["message"]
        for choice in chunk.get("choices", ()):
            delta = choice["delta"]
            heard.text += delta.get("content") or ""
            heard.thinking += delta.get("reasoning") or ""
            for call in delta.get("tool_calls", ()):
                said = call["function"]
                heard.calls.append((said["name"], json.loads(said["arguments"])))
            heard.ended = choice["finish_reason"] or heard.ended
        if usage := chunk.get("usage"):
            heard.tokens = usage["prompt_tokens"], usage["completion_tokens"]
    return heard


async def anthropic(daemon, **fields) -> Heard:
    """Over `/v1/messages`."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "?"}],
        "stream": True,
        "max_tokens": 4000,
        **fields,
    }
    got = await ask(daemon.url, "POST", "/v1/messages", body)
    heard = Heard(status=got.status)
    if got.status != 200:
        heard.error = got.json["error"]["message"]
        return heard
    arguments: dict[int, str] = {}
    for event in _events(got):
        delta = event.get("delta", {})
        heard.text += delta.get("text", "")
        heard.thinking += delta.get("thinking", "")
        block = event.get("content_block", {})
        if block.get("type") == "tool_use":
            heard.calls.append((block["name"], {}))
            arguments[event["index"]] = ""
        if "partial_json" in delta:
            arguments[event["index"]] += delta["partial_json"]
        if event["type"] == "message_delta":
            heard.ended = delta["stop_reason"]
            usage = event["usage"]
            heard.tokens = usage["input_tokens"], usage["output_tokens"]
        if event["type"] == "error":
            heard.error += event["error"]["message"]
    heard.calls = [
        (name, json.loads(text or "{}"))
        for (name, _), text in zip(heard.calls, arguments.values(), strict=True)
    ]
    return heard
