"""Replies that providers really signed, sent back to them by clients that know nothing of it."""

import json
import re

import pytest

from ollama_bridge.config import Config
from running import ask, running
from shared import SHARED
from signed import ANTHROPIC, GOOGLE, RESPONSES
from upstream import Upstream, split_at_random, sse

FOLDER = SHARED / "recordings" if SHARED else None
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("weather", "get_capital", "read_theme", "read_screen")
]
ASK = [{"role": "user", "content": "Go on, use the tools."}]

pytestmark = pytest.mark.skipif(
    FOLDER is None or not FOLDER.is_dir(), reason="../shared/recordings is not here"
)


def recording(name):
    found = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    body = found["response"]["body"]
    return found["model"], body if isinstance(body, str) else json.dumps(body)


def payloads(body):
    return [json.loads(line) for line in re.findall(r"^data: (\{.*)$", body, re.MULTILINE)]


def anthropic_events(message):
    """A whole message as the stream it would have been."""
    yield {"type": "message_start", "message": {**message, "content": []}}
    for index, block in enumerate(message["content"]):
        empty = {
            "thinking": {"thinking": "", "signature": ""},
            "text": {"text": ""},
            "tool_use": {"input": {}},
        }
        deltas = {
            "thinking": [("thinking_delta", "thinking"), ("signature_delta", "signature")],
            "text": [("text_delta", "text")],
            "tool_use": [("input_json_delta", "input")],
        }[block["type"]]
        yield {
            "type": "content_block_start",
            "index": index,
            "content_block": {**block, **empty[block["type"]]},
        }
        for kind, field in deltas:
            value = {"partial_json": json.dumps(block[field])} if field == "input" else {field: block[field]}
            yield {"type": "content_block_delta", "index": index, "delta": {"type": kind, **value}}
        yield {"type": "content_block_stop", "index": index}
    yield {
        "type": "message_delta",
        "delta": {"stop_reason": message["stop_reason"]},
        "usage": message["usage"],
    }
    yield {"type": "message_stop"}


async def sent_back(wire, model, body):
    """What the second request of a tool loop holds of the first reply, of a client that drops all it can."""
    async with Upstream() as upstream:
        config = wire.config(upstream.url)
        config["models"][0]["backend_model"] = model
        async with running(Config.model_validate(config)) as daemon:
            upstream.only(split_at_random(body.encode(), seed=3))
            asked = {"model": "m", "messages": ASK, "tools": TOOLS, "stream": False}
            message = (await ask(daemon.url, "POST", "/api/chat", asked)).json["message"]
            calls = [{"function": call["function"]} for call in message["tool_calls"]]
            turn = {"role": "assistant", "content": message["content"].strip() or None, "tool_calls": calls}
            results = [{"role": "tool", "content": "done"}] * len(calls)
            again = {**asked, "messages": [*ASK, turn, *results]}
            assert (await ask(daemon.url, "POST", "/api/chat", again)).status == 200
        return wire.held(upstream.requests[1].json)


async def test_claude_gets_its_thinking_and_signature_back():
    """To the letter, ahead of the call."""
    _, body = recording("anthropic/messages-once-claude-sonnet-4-20250514-thinking-tools-837667.json")
    message = json.loads(body)
    thinking, call = message["content"]
    held = await sent_back(ANTHROPIC, "claude-sonnet-4-6", sse(*anthropic_events(message)).decode())
    assert held[0] == thinking
    assert held[0]["signature"].startswith("Es8DCkYICxgCKkBR")
    assert [(block["name"], block["input"]) for block in held[1:]] == [(call["name"], call["input"])]


@pytest.mark.parametrize(
    "name",
    [
        "generate-stream-gemini-3-flash-preview-thinking-parallel-tools-many-tools-cec793",
        "generate-once-gemini-3-pro-preview-thinking-tools-non-latin-38fff0",
    ],
)
async def test_gemini_gets_its_signature_back_on_the_first_call(name):
    """Of several in parallel only the first has one; thoughts stay away."""
    model, body = recording(f"gemini/{name}.json")
    frames = [json.loads(body)] if "-once-" in name else payloads(body)
    parts = [
        part
        for frame in frames
        for candidate in frame.get("candidates", ())
        for part in candidate.get("content", {}).get("parts", ())
    ]
    (signature,) = [part["thoughtSignature"] for part in parts if "thoughtSignature" in part]
    held = await sent_back(GOOGLE, model, sse(json.dumps(frames[0])).decode() if "-once-" in name else body)
    assert [part.get("thoughtSignature") for part in held] == [signature] + [None] * (len(held) - 1)
    names = [part["functionCall"]["name"] for part in parts if part.get("functionCall", {}).get("name")]
    assert [part["functionCall"]["name"] for part in held] == names


@pytest.mark.parametrize(
    "name",
    [
        "responses-stream-gpt-5-thinking-tools-527482",
        "responses-stream-gpt-5-5-redacted-thinking-tools-476691",
    ],
)
async def test_openai_gets_its_reasoning_back_ahead_of_the_call(name):
    """Summary and encrypted content, without the id that would not be found; the message keeps its phase."""
    model, body = recording(f"openai/{name}.json")
    items = [event["item"] for event in payloads(body) if event["type"] == "response.output_item.done"]
    want = []
    for item in items:
        if item["type"] == "reasoning":
            fields = ("type", "summary", "encrypted_content")
            want.append({field: item[field] for field in fields})
        elif item["type"] == "message":
            text = "".join(part["text"] for part in item["content"])
            want.append({"role": "assistant", "content": text, "phase": item["phase"]})
        else:
            want.append({"type": "function_call", "name": item["name"]})
    held = await sent_back(RESPONSES, model, body)
    for item in held:
        if item.get("type") == "function_call":
            del item["call_id"], item["arguments"]
    assert held == want
