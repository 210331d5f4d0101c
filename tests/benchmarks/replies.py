"""What the three providers say, pre-encoded: as long as asked for, shaped like the recordings of the real ones.

A reply of `chunks` words has that many text deltas between what its provider opens and closes with, so
that a bridge's client gets `chunks` lines and a last one. Key order, spacing and line ends are the
providers' own: Google writes CRLF and one text part an event, OpenAI pads with nulls, Anthropic names events.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]

INPUT_TOKENS: Final = 31


@dataclass(frozen=True)
class Script:
    """One reply, both ways.

    Args:
        opening: Events before the first word.
        deltas: One event for each word.
        closing: Events after the last word, terminal one included.
        once: The same reply as one JSON document.
    """

    opening: bytes
    deltas: tuple[bytes, ...]
    closing: bytes
    once: bytes

    def pieces(self) -> list[bytes]:
        """The streamed reply as a provider flushes it: the opening leaves with the first word, the closing with the last."""
        first, *between, last = self.deltas
        return [self.opening + first, *between, last + self.closing]


def _words(count: int) -> list[str]:
    return [f" word{index}" for index in range(count)]


def _dump(payload: Json) -> bytes:
    return json.dumps(payload, separators=(",", ":")).encode()


def _named(payloads: Iterable[Json]) -> list[bytes]:
    return [b"event: %b\ndata: %b\n\n" % (payload["type"].encode(), _dump(payload)) for payload in payloads]


def anthropic(chunks: int) -> Script:
    """`POST /v1/messages`."""
    usage = {"input_tokens": INPUT_TOKENS, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    message = {"id": "msg_0138UNF3YbNp49KkqZtUBWqz", "type": "message", "role": "assistant"}
    message |= {"model": "claude-sonnet-5-5", "content": [], "stop_reason": None, "stop_sequence": None}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    opening = [
        {"type": "message_start", "message": message | {"usage": usage | {"output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
    ]
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
        for word in _words(chunks)
    ]
    closing = [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": chunks}},
        {"type": "message_stop"},
    ]
    text = {"type": "text", "text": "".join(_words(chunks))}
    once = message | ended | {"content": [text], "usage": usage | {"output_tokens": chunks}}
    return Script(b"".join(_named(opening)), tuple(_named(deltas)), b"".join(_named(closing)), _dump(once))


def chat(chunks: int) -> Script:
    """`POST /v1/chat/completions`; the usage chunk always comes, as every bridge asks for it."""
    head = {"id": "chatcmpl-B87cPAYlQPYYJ6Ok4tP0dPmPyKu1u", "object": "chat.completion.chunk"}
    head |= {"created": 1741275609, "model": "gpt-4.1-2025-04-14", "service_tier": "default"}
    head |= {"system_fingerprint": "fp_fc9f1d7035"}
    usage = {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": chunks,
        "total_tokens": INPUT_TOKENS + chunks,
    }

    def chunk(delta: Json, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return b"data: %b\n\n" % _dump(head | {"choices": [choice], "usage": None})

    said = {"role": "assistant", "content": "".join(_words(chunks)), "refusal": None}
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": "stop"}
    return Script(
        chunk({"role": "assistant", "content": "", "refusal": None}),
        tuple(chunk({"content": word}) for word in _words(chunks)),
        chunk({}, "stop") + b"data: %b\n\ndata: [DONE]\n\n" % _dump(head | {"choices": [], "usage": usage}),
        _dump(head | {"object": "chat.completion", "choices": [choice], "usage": usage}),
    )


def responses(chunks: int) -> Script:
    """`POST /v1/responses`; numbered events, as OpenAI sends them."""
    text, item_id = "".join(_words(chunks)), "msg_681e3e15a8608191aea93e9864c0dce8047f076151f76bcc"
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    item = {"id": item_id, "type": "message", "status": "in_progress", "content": [], "role": "assistant"}
    done_item = item | {"status": "completed", "content": [part | {"text": text}]}
    usage = {"input_tokens": INPUT_TOKENS, "input_tokens_details": {"cached_tokens": 0}}
    usage |= {"output_tokens": chunks, "output_tokens_details": {"reasoning_tokens": 0}}
    started = {"id": "resp_681e3e15125c8191afb05fabbf3b86d6047f076151f76bcc", "object": "response"}
    started |= {"created_at": 1746812437, "status": "in_progress", "error": None, "incomplete_details": None}
    started |= {"model": "gpt-5-mini-2025-08-07", "output": [], "usage": None, "metadata": {}}
    done = started | {"status": "completed", "output": [done_item]}
    done |= {"usage": usage | {"total_tokens": INPUT_TOKENS + chunks}}
    opening: list[Json] = [
        {"type": "response.created", "response": started},
        {"type": "response.in_progress", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": part},
    ]
    deltas: list[Json] = [
        {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []}
        for word in _words(chunks)
    ]
    closing: list[Json] = [
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part | {"text": text}},
        {"type": "response.output_item.done", "output_index": 0, "item": done_item},
        {"type": "response.completed", "response": done},
    ]
    for number, payload in enumerate([*opening, *deltas, *closing]):
        payload["sequence_number"] = number
    return Script(b"".join(_named(opening)), tuple(_named(deltas)), b"".join(_named(closing)), _dump(done))


def google(chunks: int) -> Script:
    """`POST /v1beta/models/{model}:streamGenerateContent?alt=sse`; opens with nothing, closes inside the last word."""

    def reply(text: str, output_tokens: int, **ending: str) -> Json:
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, **ending, "index": 0}
        usage = {"promptTokenCount": INPUT_TOKENS, "candidatesTokenCount": output_tokens}
        usage |= {"totalTokenCount": INPUT_TOKENS + output_tokens}
        seen = [{"modality": "TEXT", "tokenCount": INPUT_TOKENS}]
        said = {"modelVersion": "gemini-2.5-flash", "responseId": "jNcEavSuHfWA7_UP9-uokQs"}
        return {"candidates": [candidate], "usageMetadata": {**usage, "promptTokensDetails": seen}, **said}

    *words, last = _words(chunks)
    events = [reply(word, number) for number, word in enumerate(words, 1)]
    events.append(reply(last, chunks, finishReason="STOP"))
    deltas = tuple(b"data: %b\r\n\r\n" % _dump(event) for event in events)
    return Script(b"", deltas, b"", _dump(reply("".join(_words(chunks)), chunks, finishReason="STOP")))


SCRIPTS: Final[Mapping[str, Callable[[int], Script]]] = {
    "anthropic": anthropic,
    "chat": chat,
    "responses": responses,
    "google": google,
}
"""Wire to its replies."""
