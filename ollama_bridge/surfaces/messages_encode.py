"""Replies of /v1/messages, sans I/O: events in, server-sent events or one whole message out.

As a real Ollama writes them, with these exceptions, all of them what Anthropic's own API does and its clients read:
an empty `content` is `[]` and no null, over which SDKs stumble; a thinking block has a `signature`, an empty one, for
their types demand it; blocks come in the order in which the model spoke; tokens of the prompt cache are told where
there are any, and are then no part of `input_tokens`; a refusal is a `refusal`; a silent stream says `ping`; and what
fails in mid-stream is an `error` event instead of silence.
"""

import functools
import itertools
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, assert_never

from ollama_bridge.errors import BridgeError
from ollama_bridge.events import Aside, Event, Finish, FinishReason, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.converter import JSON, UNCACHED_SSE, ended
from ollama_bridge.surfaces.said import whole

_ERROR_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STOP_REASONS: Final[Mapping[FinishReason, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "end_turn",  # without a single call: whoever waits for one would wait for ever
    "refusal": "refusal",
}

_START: Final = (
    b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
)
_DELTA: Final = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b'
_AFTER: Final = b"}}\n\n"
_STOP: Final = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_END: Final = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'

_BLOCKS: Final[Mapping[type, tuple[bytes, bytes]]] = {
    TextDelta: (b'{"type":"text","text":""}', b'{"type":"text_delta","text":'),
    ThinkingDelta: (
        b'{"type":"thinking","thinking":"","signature":""}',
        b'{"type":"thinking_delta","thinking":',
    ),
}
"""How a block of such events begins, and how each of them does."""


class MessagesEncoder:
    """Encodes one reply of /v1/messages.

    Args:
        model: The name as the client sent it.
        input_tokens: Estimates them, which takes a walk through all of a long history: asked once, and only where a
            stream begins before anybody has counted, or nobody does.
        message_id: Default: a random one.
    """

    stream_headers: ClassVar[Mapping[str, str]] = UNCACHED_SSE
    whole_headers: ClassVar[Mapping[str, str]] = {"Content-Type": JSON}

    def __init__(self, model: str, *, input_tokens: Callable[[], int], message_id: str = "") -> None:
        self._head: dict[str, Any] = {
            "id": message_id or f"msg_{secrets.token_hex(12)}",
            "type": "message",
            "role": "assistant",
            "model": model,
        }
        self._estimate = functools.cache(input_tokens)
        self._begun = False
        self._index = 0
        self._open: type | None = None
        self._before = b""
        self._ids: set[str] = set()
        self._added: list[Event] = []

    def encode(self, event: Event) -> bytes:
        """The server-sent events for one event; with the first of them `message_start`, with the last the end."""
        match event:
            case TextDelta() | ThinkingDelta():
                opened = b"" if type(event) is self._open else self._opened(type(event))
                return b"".join((opened, self._before, gojson.dump_text(event.text), _AFTER))
            case ToolCall():
                return self._begin() + self._close() + self._tool_use(event)
            case Finish():
                delta = {
                    "type": "message_delta",
                    "delta": {"stop_reason": self._stop_reason(event)},
                    "usage": self._usage(event.usage),
                    **_answered_by(event),
                }
                return self._begin() + self._close() + _event(b"message_delta", delta) + _END
            case Aside():
                return b""
            case _:
                assert_never(event)

    def heartbeat(self) -> bytes:
        """Anthropic's own sign of life; before the first word behind `message_start`, with which a stream begins."""
        return self._begin() + _PING

    def add(self, event: Event) -> None:
        """Keep an event for `whole`."""
        self._added.append(event)

    def error(self, exc: BridgeError) -> bytes:
        """The event that ends a stream which has already begun: Anthropic's SDKs raise it."""
        return _event(b"error", _envelope(exc))

    def whole(self) -> bytes:
        """The message that was added, and a newline.

        Raises:
            ValueError: The last event is no `Finish`: half a reply is not shown as a whole one.
        """
        said, finish = whole(self._added)
        message = {
            **self._head,
            "content": self._content(said),
            "stop_reason": self._stop_reason(finish),
            "usage": self._usage(finish.usage),
            **_answered_by(finish),
        }
        return gojson.dump(message) + b"\n"

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        usage = {"input_tokens": self._estimate(), "output_tokens": 0}
        message = {**self._head, "content": [], "usage": usage}
        return _event(b"message_start", {"type": "message_start", "message": message})

    def _opened(self, kind: type) -> bytes:
        start, delta = _BLOCKS[kind]
        before = self._begin() + self._close()
        self._open = kind
        self._before = _DELTA % (self._index, delta)
        return before + _START % (self._index, start)

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        self._index += 1
        return _STOP % (self._index - 1)

    def _tool_use(self, call: ToolCall) -> bytes:
        index = self._index
        self._index += 1
        block = self._block(call, index, {})
        arguments = gojson.dump(gojson.dump(dict(call.arguments)).decode())
        delta = b'{"type":"input_json_delta","partial_json":' + arguments
        return _START % (index, gojson.dump(block)) + _DELTA % (index, delta) + _AFTER + _STOP % index

    def _content(self, said: Sequence[Event]) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = []
        for kind, run in itertools.groupby(said, type):
            if kind is ToolCall:
                calls = [event for event in run if isinstance(event, ToolCall)]
                first = len(content)
                content += [
                    self._block(call, at, dict(call.arguments)) for at, call in enumerate(calls, first)
                ]
            else:
                text = "".join(event.text for event in run if isinstance(event, TextDelta | ThinkingDelta))
                thinking = {"type": "thinking", "thinking": text, "signature": ""}
                content.append({"type": "text", "text": text} if kind is TextDelta else thinking)
        return content

    def _block(self, call: ToolCall, index: int, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "type": "tool_use",
            "id": self._id_of(call, index),
            "name": call.name,
            "input": arguments,
        }

    def _id_of(self, call: ToolCall, index: int) -> str:
        """Its own, unless another call of this message has it: results are matched by it."""
        unique = call.id
        while unique in self._ids:
            unique = f"{unique}_{index}"
        self._ids.add(unique)
        return unique

    def _stop_reason(self, finish: Finish) -> str:
        if self._ids and finish.reason in {"stop", "tool_calls"}:
            return "tool_use"
        return _STOP_REASONS[finish.reason]

    def _usage(self, usage: Usage) -> dict[str, int]:
        read, written = usage.cached_read_tokens, usage.cached_write_tokens
        told = {
            "input_tokens": max(0, (usage.input_tokens or self._estimate()) - read - written),
            "output_tokens": usage.output_tokens,
        }
        if written:
            told["cache_creation_input_tokens"] = written
        if read:
            told["cache_read_input_tokens"] = read
        return told


def error_body(exc: BridgeError) -> bytes:
    """The body of an answer that failed before it began."""
    return ended(exc, gojson.dump(_envelope(exc)))


def count_tokens_body(input_tokens: int) -> bytes:
    """The answer of /v1/messages/count_tokens."""
    return b'{"input_tokens":%d}\n' % input_tokens


def _answered_by(finish: Finish) -> dict[str, str]:
    """Who answered in place of the model that was asked: a key that Anthropic's own API does not have."""
    return {"answered_by": finish.answered_by} if finish.answered_by else {}


def _envelope(exc: BridgeError) -> dict[str, Any]:
    return {
        "type": "error",
        "error": {"type": _ERROR_TYPES.get(exc.status, "api_error"), "message": str(exc)},
        "request_id": f"req_{secrets.token_hex(12)}",
    }


def _event(name: bytes, data: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name, gojson.dump(data))
