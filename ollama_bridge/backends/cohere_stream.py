"""Cohere's own wire, `POST /v2/chat`, put as chunks of Chat Completions. Sans I/O.

https://docs.cohere.com/v2/reference/chat-stream: events that are named in their `type`, deltas that look like messages, and
other words for the reasons of the end. What clients have no place for goes without a trace, as on every wire: plans,
citations, log probabilities.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

Json = Mapping[str, Any]


def chunk_of(said: Json) -> Json | None:
    """One event of a stream, or a reply in one piece, as a chunk that `openai_chat.ChatReader` reads.

    Returns:
        None, if it is neither.

    Raises:
        AttributeError, LookupError, TypeError: It has not the shape of what it says it is (`Failures.mapped`).
    """
    read = _EVENTS.get(str(said.get("type")))
    if read is not None:
        return read(said)
    return _whole(said) if is_reply(said) else None


def is_reply(said: Any) -> bool:
    """Whether this is an answer in one piece."""
    return isinstance(said, dict) and isinstance(said.get("message"), dict) and "finish_reason" in said


def _content(said: Json) -> Json:
    content = said["delta"]["message"]["content"]
    return _chunk({"content": content.get("text"), "reasoning_content": content.get("thinking")})


def _call(said: Json) -> Json:
    call = said["delta"]["message"]["tool_calls"]
    return _chunk({"tool_calls": [{**call, "index": said.get("index")}]})


def _end(said: Json) -> Json:
    delta = said["delta"]
    return _chunk({}, delta.get("finish_reason"), delta.get("usage"))


def _whole(said: Json) -> Json:
    message = said["message"]
    delta = {"content": message.get("content"), "tool_calls": message.get("tool_calls")}
    return _chunk(delta, said["finish_reason"], said.get("usage"))


def _chunk(delta: Json, reason: Any = None, usage: Any = None) -> Json:
    chunk: dict[str, Any] = {"choices": [{"delta": delta, "finish_reason": reason}]}
    if usage:
        chunk["usage"] = _usage(usage)
    return chunk


def _usage(usage: Json) -> Json:
    """`tokens` is what was read and written, pictures beside the text; `billed_units` is without Cohere's own prompt."""
    tokens = usage.get("tokens") or usage.get("billed_units") or {}
    asked = sum(tokens.get(name) or 0 for name in ("input_tokens", "image_tokens"))
    return {
        "prompt_tokens": asked,
        "completion_tokens": tokens.get("output_tokens"),
        "completion_tokens_details": {"reasoning_tokens": tokens.get("reasoning_tokens")},
        "prompt_tokens_details": {"cached_tokens": usage.get("cached_tokens")},
    }


_EVENTS: Final[Mapping[str, Callable[[Json], Json]]] = {
    "content-delta": _content,
    "tool-call-start": _call,
    "tool-call-delta": _call,
    "message-end": _end,
}
