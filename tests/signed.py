"""The wires that sign or want reasoning back: what a model says on each, and how exactly that has to come back."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from upstream import sse


@dataclass(frozen=True)
class Thought:
    """Thinking that is signed; `data` instead of all else: redacted."""

    text: str = ""
    signature: str = ""
    data: str = ""


@dataclass(frozen=True)
class Text:
    text: str
    signature: str = ""


@dataclass(frozen=True)
class Call:
    id: str
    name: str
    arguments: dict[str, Any]
    signature: str = ""


Turn = Sequence[Thought | Text | Call]


def _calls(turn: Turn) -> bool:
    return any(isinstance(block, Call) for block in turn)


def anthropic(turn: Turn) -> bytes:
    events: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {"id": "msg_1", "role": "assistant", "usage": {"input_tokens": 3}},
        }
    ]
    for index, block in enumerate(turn):
        match block:
            case Thought(data="") as thought:
                content = {"type": "thinking", "thinking": "", "signature": ""}
                half = len(thought.signature) // 2
                deltas = [{"type": "thinking_delta", "thinking": piece} for piece in thought.text]
                deltas += [
                    {"type": "signature_delta", "signature": piece}
                    for piece in (thought.signature[:half], thought.signature[half:])
                ]
            case Thought(data=data):
                content, deltas = {"type": "redacted_thinking", "data": data}, []
            case Text(text=text):
                content = {"type": "text", "text": ""}
                deltas = [{"type": "text_delta", "text": text}]
            case Call() as call:
                content = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
                deltas = [{"type": "input_json_delta", "partial_json": json.dumps(call.arguments)}]
        events.append({"type": "content_block_start", "index": index, "content_block": content})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    reason = "tool_use" if _calls(turn) else "end_turn"
    events.append({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 7}})
    return sse(*events, {"type": "message_stop"})


def anthropic_again(turn: Turn) -> list[dict[str, Any]]:
    back: list[dict[str, Any]] = []
    for block in turn:
        match block:
            case Thought(data="") as thought:
                back.append({"type": "thinking", "thinking": thought.text, "signature": thought.signature})
            case Thought(data=data):
                back.append({"type": "redacted_thinking", "data": data})
            case Text(text=text):
                back.append({"type": "text", "text": text})
            case Call() as call:
                back.append({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments})
    return back


def google(turn: Turn) -> bytes:
    parts: list[dict[str, Any]] = []
    for block in turn:
        match block:
            case Thought(text=text):
                part = {"text": text, "thought": True}
            case Text(text=text):
                part = {"text": text}
            case Call() as call:
                part = {"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}}
        if block.signature and not isinstance(block, Thought):
            part["thoughtSignature"] = block.signature
        parts.append(part)
    frames = [{"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]} for part in parts]
    last = {"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}]}
    return sse(*(json.dumps(frame) for frame in [*frames, last]))


def google_again(turn: Turn) -> list[dict[str, Any]]:
    back: list[dict[str, Any]] = []
    for block in turn:
        match block:
            case Text(text=text):
                back.append({"text": text})
            case Call() as call:
                back.append({"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}})
            case _:
                continue
        if block.signature:
            back[-1]["thoughtSignature"] = block.signature
    first = next((part for part in back if "functionCall" in part), {})
    first.setdefault("thoughtSignature", "skip_thought_signature_validator")
    return back


def responses(turn: Turn) -> bytes:
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {"id": "r"}}]
    for index, block in enumerate(turn):
        match block:
            case Thought() as thought:
                events.append({"type": "response.reasoning_summary_text.delta", "delta": thought.text or "."})
                item = {
                    "id": f"rs_{index}",
                    "type": "reasoning",
                    "content": [],
                    "summary": [{"type": "summary_text", "text": thought.text}],
                    "encrypted_content": thought.signature or thought.data,
                }
            case Text() as text:
                events.append({"type": "response.output_text.delta", "delta": text.text})
                content = [{"type": "output_text", "text": text.text, "annotations": []}]
                item = {"id": f"msg_{index}", "type": "message", "role": "assistant", "content": content}
                if text.signature:
                    item["phase"] = text.signature
            case Call() as call:
                item = {"id": f"fc_{index}", "type": "function_call", "call_id": call.id, "name": call.name}
                item["arguments"] = json.dumps(call.arguments)
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    usage = {"input_tokens": 3, "output_tokens": 7}
    return sse(*events, {"type": "response.completed", "response": {"id": "r", "usage": usage}})


def responses_again(turn: Turn) -> list[dict[str, Any]]:
    back: list[dict[str, Any]] = []
    for block in turn:
        match block:
            case Thought() as thought:
                summary = [{"type": "summary_text", "text": thought.text}]
                encrypted = thought.signature or thought.data
                back.append({"type": "reasoning", "summary": summary, "encrypted_content": encrypted})
            case Text() as text:
                phase = {"phase": text.signature} if text.signature else {}
                back.append({"role": "assistant", "content": text.text, **phase})
            case Call() as call:
                arguments = json.dumps(call.arguments, separators=(",", ":"))
                back.append(
                    {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}
                )
    return back


def chat(turn: Turn) -> bytes:
    """Chat Completions, with reasoning as DeepSeek sends it, and in pieces as OpenRouter does."""
    deltas: list[dict[str, Any]] = []
    for index, block in enumerate(turn):
        match block:
            case Thought() as thought:
                place = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": index}
                deltas += [
                    {"reasoning_content": piece, "reasoning_details": [{**place, "text": piece}]}
                    for piece in thought.text
                ]
                deltas.append(
                    {"content": "", "reasoning_details": [{**place, "signature": thought.signature}]}
                )
            case Text(text=text):
                deltas.append({"content": text})
            case Call() as call:
                function = {"name": call.name, "arguments": json.dumps(call.arguments)}
                deltas.append({"tool_calls": [{"index": index, "id": call.id, "function": function}]})
    reason = "tool_calls" if _calls(turn) else "stop"
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    return sse(*(json.dumps(chunk) for chunk in [*chunks, last]), "[DONE]")


def _chat_again(turn: Turn) -> dict[str, Any]:
    text = "".join(block.text for block in turn if isinstance(block, Text))
    message: dict[str, Any] = {"role": "assistant", "content": text}
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments, separators=(",", ":"))},
        }
        for call in turn
        if isinstance(call, Call)
    ]
    return {**message, "content": text or None, "tool_calls": calls} if calls else message


def text_again(turn: Turn) -> list[dict[str, Any]]:
    thoughts = "".join(block.text for block in turn if isinstance(block, Thought))
    return [{**_chat_again(turn), "reasoning_content": thoughts}]


def details_again(turn: Turn) -> list[dict[str, Any]]:
    details = [
        {
            "type": "reasoning.text",
            "format": "anthropic-claude-v1",
            "index": index,
            "text": thought.text,
            "signature": thought.signature,
        }
        for index, thought in enumerate(turn)
        if isinstance(thought, Thought)
    ]
    return [{**_chat_again(turn), **({"reasoning_details": details} if details else {})}]


CAPABLE = ["completion", "tools", "thinking"]


@dataclass(frozen=True)
class Wire:
    """One provider's wire.

    Args:
        models: Two models of it, `m` and `other`.
        stream: The body of a streamed reply that is this turn.
        again: The turn as the next request has to hold it, if everything is known.
        held: The assistant's turns of a request body, in the form of `again`.
    """

    name: str
    kind: str
    models: tuple[str, str]
    stream: Callable[[Turn], bytes]
    again: Callable[[Turn], list[dict[str, Any]]]
    held: Callable[[dict[str, Any]], list[dict[str, Any]]]

    def config(self, url: str, **extra: Any) -> dict[str, Any]:
        base = url + "/v1" if self.kind == "openai" else url
        return {
            "server": {"port": 0},
            "providers": {self.kind: {"api_key": "k-test", "base_url": base}},
            "models": [
                {"name": name, "backend": self.kind, "backend_model": model, "capabilities": CAPABLE}
                for name, model in zip(("m", "other"), self.models, strict=True)
            ],
            **extra,
        }


def _anthropic_held(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [block for turn in body["messages"] if turn["role"] == "assistant" for block in turn["content"]]


def _google_held(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for turn in body["contents"] if turn["role"] == "model" for part in turn["parts"]]


def _responses_held(body: dict[str, Any]) -> list[dict[str, Any]]:
    mine = {"reasoning", "function_call"}
    return [item for item in body["input"] if item.get("role") == "assistant" or item.get("type") in mine]


def _chat_held(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [message for message in body["messages"] if message["role"] == "assistant"]


ANTHROPIC = Wire(
    "anthropic",
    "anthropic",
    ("claude-sonnet-4-6", "claude-opus-4-6"),
    anthropic,
    anthropic_again,
    _anthropic_held,
)
GOOGLE = Wire(
    "google",
    "google",
    ("gemini-3-flash-preview", "gemini-3.5-flash-lite"),
    google,
    google_again,
    _google_held,
)
RESPONSES = Wire("responses", "openai", ("gpt-5.4", "gpt-5.5"), responses, responses_again, _responses_held)
OPENROUTER = Wire(
    "openrouter",
    "openrouter",
    ("anthropic/claude-sonnet-4.6", "anthropic/claude-opus-4.6"),
    chat,
    details_again,
    _chat_held,
)
DEEPSEEK = Wire("deepseek", "deepseek", ("deepseek-chat", "deepseek-reasoner"), chat, text_again, _chat_held)
WIRES = [ANTHROPIC, GOOGLE, RESPONSES, OPENROUTER]
THINKING = [*WIRES, DEEPSEEK]
"""With those to whom a client that keeps the thinking need not be helped."""
