"""Shared by the tests of the Anthropic backend: a reply as Claude streams it, and how to ask for it."""

from contextlib import aclosing
from typing import Any

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.anthropic import AnthropicBackend
from ollama_bridge.chat import ChatRequest, Message, Rules, Target, singly
from ollama_bridge.events import Event

KEY = "sk-ant-api03-very-secret-0123456789"
RULES = Rules(
    accepts=frozenset({"stop"}),
    max_stops=8191,
    thinking=frozenset({"adaptive", "disabled"}),
    efforts=("low", "medium", "high", "xhigh", "max"),
    prefill=False,
)


def backend(base_url: str, **settings: Any) -> AnthropicBackend:
    return AnthropicBackend(ProviderSettings("claude", "anthropic", (KEY,), base_url, **settings))


def asking(*messages: Message, rules: Rules = RULES, most: int = 64000, **fields: Any) -> ChatRequest:
    target = Target("claude", "claude-test", most, rules=rules)
    return ChatRequest("claude", messages or (Message("user", "Hello"),), target=target, **fields)


async def reply(backend: AnthropicBackend, request: ChatRequest | None = None) -> list[Event]:
    async with aclosing(singly(backend.chat(request or asking()))) as events:
        return [event async for event in events]


def start(**usage: int) -> dict[str, Any]:
    return {"type": "message_start", "message": {"usage": usage or {"input_tokens": 3}}}


def block(index: int, kind: str, *deltas: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": {"type": kind, **fields}},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(index: int, *pieces: str) -> list[dict[str, Any]]:
    return block(index, "text", *({"type": "text_delta", "text": piece} for piece in pieces), text="")


def call(index: int, name: str, *pieces: str, id_: str = "toolu_1") -> list[dict[str, Any]]:
    deltas = ({"type": "input_json_delta", "partial_json": piece} for piece in pieces)
    return block(index, "tool_use", *deltas, id=id_, name=name, input={})


def stop(reason: str | None = "end_turn", output_tokens: int = 7, **delta: Any) -> list[dict[str, Any]]:
    return [
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, **delta},
            "usage": {"output_tokens": output_tokens},
        },
        {"type": "message_stop"},
    ]
