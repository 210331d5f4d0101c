"""The four provider wires as a test sees them: how to configure one, and what it would send.

Shapes are those of the recordings in `../shared/recordings`, short and with known content.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from upstream import sse


@dataclass(frozen=True)
class Said:
    """What a model says, independent of any wire."""

    text: str = ""
    thinking: str = ""
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()
    ended: str = "stop"  # or "length"
    first_call: int = 0  # its number in the conversation, of which ids are made


@dataclass(frozen=True)
class Wire:
    """One provider's wire.

    Args:
        provider: The configuration's entry, without base_url.
        base: What is appended to the upstream's URL for `base_url`.
        model: A model of the catalogue that thinks, sees and calls tools.
        stream: The body of a streamed reply that says so.
    """

    name: str
    provider: dict[str, Any]
    base: str
    model: str
    stream: Callable[[Said], bytes]

    def config(self, url: str, **extra: Any) -> dict[str, Any]:
        """A configuration whose one provider is the fake upstream at `url`; it is asked once."""
        return {
            "server": {"port": 0},
            "retry": {"max_retries": 0},
            "providers": {self.key: {**self.provider, "base_url": url + self.base}},
            "models": [
                {
                    "name": "m",
                    "backend": self.key,
                    "backend_model": self.model,
                    "capabilities": ["completion", "tools", "vision", "thinking"],
                }
            ],
            **extra,
        }

    @property
    def key(self) -> str:
        """The provider's name in the configuration: only `openai` itself has OpenAI's own models."""
        return "openai" if self.name == "responses" else f"my-{self.name}"


def _split(text: str) -> list[str]:
    return [text[at : at + 5] for at in range(0, len(text), 5)]


def anthropic(said: Said) -> bytes:
    """Messages."""
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": "c", "content": []}
    events = [
        {"type": "message_start", "message": {**start, "usage": {"input_tokens": 11, "output_tokens": 1}}}
    ]

    def block(content: dict[str, Any], deltas: list[dict[str, Any]]) -> None:
        index = sum(event["type"] == "content_block_start" for event in events)
        events.append({"type": "content_block_start", "index": index, "content_block": content})
        events.extend({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        events.append({"type": "content_block_stop", "index": index})

    if said.thinking:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _split(said.thinking)]
        block(
            {"type": "thinking", "thinking": "", "signature": ""},
            [*deltas, {"type": "signature_delta", "signature": "c2ln"}],
        )
    if said.text:
        block(
            {"type": "text", "text": ""},
            [{"type": "text_delta", "text": piece} for piece in _split(said.text)],
        )
    for number, (name, arguments) in enumerate(said.calls):
        content = {"type": "tool_use", "id": f"toolu_{said.first_call + number}", "name": name, "input": {}}
        pieces = ["", *_split(json.dumps(arguments))]
        block(content, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces])
    reason = "max_tokens" if said.ended == "length" else "tool_use" if said.calls else "end_turn"
    events.append(
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": 7},
        }
    )
    return sse(*events, {"type": "message_stop"})


def openai_chat(said: Said) -> bytes:
    """Chat Completions."""

    def chunk(delta: dict[str, Any], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]})

    events = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({"reasoning_content": piece}) for piece in _split(said.thinking)]
    events += [chunk({"content": piece}) for piece in _split(said.text)]
    for number, (name, arguments) in enumerate(said.calls):
        head = {
            "index": number,
            "id": f"call_{said.first_call + number}",
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        events.append(chunk({"tool_calls": [head]}))
        events += [
            chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})
            for piece in _split(json.dumps(arguments))
        ]
    events.append(chunk({}, "length" if said.ended == "length" else "tool_calls" if said.calls else "stop"))
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    events.append(json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": usage}))
    return sse(*events, done=True)


def openai_responses(said: Said) -> bytes:
    """Responses."""
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {"id": "r", "status": "in_progress"}}
    ]
    if said.thinking:
        events += [
            {
                "type": "response.reasoning_summary_part.added",
                "summary_index": 0,
                "item_id": "rs",
                "output_index": 0,
            },
            *(
                {
                    "type": "response.reasoning_summary_text.delta",
                    "delta": piece,
                    "item_id": "rs",
                    "summary_index": 0,
                }
                for piece in _split(said.thinking)
            ),
        ]
    events += [
        {"type": "response.output_text.delta", "delta": piece, "item_id": "m", "content_index": 0}
        for piece in _split(said.text)
    ]
    for number, (name, arguments) in enumerate(said.calls):
        item = {
            "type": "function_call",
            "id": f"fc_{said.first_call + number}",
            "call_id": f"call_{said.first_call + number}",
            "name": name,
        }
        whole = json.dumps(arguments)
        events += [
            {"type": "response.output_item.added", "output_index": number, "item": {**item, "arguments": ""}},
            {"type": "response.function_call_arguments.delta", "item_id": item["id"], "delta": whole},
            {
                "type": "response.output_item.done",
                "output_index": number,
                "item": {**item, "arguments": whole},
            },
        ]
    short = said.ended == "length"
    response = {
        "id": "r",
        "status": "incomplete" if short else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if short else None,
        "usage": {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18},
    }
    return sse(
        *events, {"type": "response.incomplete" if short else "response.completed", "response": response}
    )


def google(said: Said) -> bytes:
    """streamGenerateContent."""
    parts: list[dict[str, Any]] = [{"text": piece, "thought": True} for piece in _split(said.thinking)]
    parts += [{"text": piece} for piece in _split(said.text)]
    parts += [{"functionCall": {"name": name, "args": arguments}} for name, arguments in said.calls]
    frames = [{"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]} for part in parts]
    reason = "MAX_TOKENS" if said.ended == "length" else "STOP"
    usage = {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18}
    last = {"candidates": [{"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": reason}]}
    return sse(*(json.dumps(frame) for frame in [*frames, {**last, "usageMetadata": usage}]))


WIRES = [
    Wire("anthropic", {"kind": "anthropic", "api_key": "k-test"}, "", "claude-sonnet-4-6", anthropic),
    Wire("responses", {"kind": "openai", "api_key": "k-test"}, "/v1", "gpt-5.4", openai_responses),
    Wire("chat", {"kind": "openai", "api": "chat", "api_key": "k-test"}, "/v1", "acme-1", openai_chat),
    Wire("google", {"kind": "google", "api_key": "k-test"}, "", "gemini-2.5-flash", google),
]
