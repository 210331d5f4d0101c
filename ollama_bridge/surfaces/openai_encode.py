"""Replies of /v1/chat/completions and /v1/completions, sans I/O: events in, server-sent events or one object out.

An encoder serves one reply, as in `ollama_encode`. Key order, and what is left out when empty, are those of
Ollama's Go structs; what Ollama does not have stands behind them. Every event is built around constant bytes.
"""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, assert_never

from ollama_bridge.chat import ChatRequest
from ollama_bridge.errors import BridgeError
from ollama_bridge.events import (
    Aside,
    Event,
    Finish,
    FinishReason,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCall,
    Usage,
)
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.converter import JSON, SSE
from ollama_bridge.surfaces.gojson import dump_text
from ollama_bridge.surfaces.ollama_single import debug_info
from ollama_bridge.surfaces.openai_errors import error_event
from ollama_bridge.surfaces.said import NOTHING, Said, answered_by, fold, logprobs, number, whole

_DONE: Final = b"data: [DONE]\n\n"
_FINGERPRINT: Final = b'"system_fingerprint":"fp_ollama"'
_NO_USAGE: Final = b'{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'
_IDS: Final = 999  # Ollama's ids go from 0 to 998

_FINISH_REASONS: Final[Mapping[FinishReason, bytes]] = {
    "stop": b'"stop"',
    "length": b'"length"',
    "tool_calls": b'"tool_calls"',
    "refusal": b'"content_filter"',
}
_NONE: Final = b"null"


class _Encoder(ABC):
    """What both kinds of completion share.

    Args:
        model: The name as the client sent it, echoed in every chunk.
        include_usage: Whether a stream tells its tokens, in a chunk of its own before its end.
        now: The wall clock, in seconds since 1970; asked once.
    """

    stream_headers: ClassVar[Mapping[str, str]] = {"Content-Type": SSE}
    whole_headers: ClassVar[Mapping[str, str]] = {"Content-Type": JSON}

    _id: ClassVar[bytes]
    _kind: ClassVar[bytes]
    _reasons: ClassVar[Mapping[FinishReason, bytes]] = _FINISH_REASONS

    def __init__(
        self, model: str, *, include_usage: bool = False, now: Callable[[], float] = time.time
    ) -> None:
        self._include_usage = include_usage
        self._model = gojson.dump(model)
        self._created = int(now())
        self._number = random.randrange(_IDS)  # noqa: S311 - a real server's are no secret either
        self._folded: list[Event] = []

    def add(self, event: Event) -> None:
        """Keep an event for `whole`."""
        self._folded.append(event)

    def whole(self) -> bytes:
        """The reply that is not streamed: what was added, as one object with its newline.

        Raises:
            ValueError: The last event is no `Finish`: half a reply is not shown as a whole one.
        """
        said, finish = whole(self._folded)
        choice = self._choice(fold(said), self._reasons[finish.reason])
        return self._object(choice, _usage(finish.usage), answered_by(finish))

    def error(self, exc: BridgeError) -> bytes:
        """The event that ends a stream which has already begun; no `[DONE]` follows."""
        return error_event(exc)

    def debug(self, request: ChatRequest) -> bytes:
        """The answer to `_debug_render_only`: one object, never streamed, with a rendering of the prompt."""
        info = b',"_debug_info":' + gojson.dump(debug_info(request))
        return self._object(self._choice(NOTHING, _NONE), _NO_USAGE, info)

    @abstractmethod
    def encode(self, event: Event) -> bytes:
        """Whole server-sent events; with `Finish` all that ends the stream."""

    @abstractmethod
    def heartbeat(self) -> bytes:
        """A chunk without content: it shows that the stream lives."""

    @abstractmethod
    def _choice(self, said: Said, finish: bytes) -> bytes:
        """The one choice of a whole reply; `finish` is its reason, as JSON."""

    def _object(self, choice: bytes, usage: bytes, more: bytes = b"") -> bytes:
        return b'{%b%b,%b,"choices":[%b],"usage":%b%b}\n' % (
            self._head(),
            self._model,
            _FINGERPRINT,
            choice,
            usage,
            more,
        )

    def _head(self) -> bytes:
        return b'"id":"%b-%d","object":"%b","created":%d,"model":' % (
            self._id,
            self._number,
            self._kind,
            self._created,
        )


class ChatEncoder(_Encoder):
    """Encodes one reply of /v1/chat/completions."""

    _id: ClassVar[bytes] = b"chatcmpl"
    _kind: ClassVar[bytes] = b"chat.completion"

    def __init__(
        self, model: str, *, include_usage: bool = False, now: Callable[[], float] = time.time
    ) -> None:
        super().__init__(model, include_usage=include_usage, now=now)
        self._before = (
            b'data: {"id":"chatcmpl-%d","object":"chat.completion.chunk","created":%d,"model":%b,%b,'
            % (
                self._number,
                self._created,
                self._model,
                _FINGERPRINT,
            )
        )
        self._later = self._before + b'"choices":[{"index":0,"delta":{'
        self._opening = self._later + b'"role":"assistant",'
        self._begun = False
        self._calls = 0

    def encode(self, event: Event) -> bytes:
        """One chunk for a piece of the answer; with the first one the role is told."""
        if type(event) is TextDelta and not event.logprobs:  # nearly always
            return self._chunk(b'"content":', dump_text(event.text))
        match event:
            case TextDelta():
                tokens = b'},"finish_reason":null,"logprobs":{"content":' + logprobs(event.logprobs)
                return self._chunk(b'"content":', dump_text(event.text), end=tokens + b"}}]}\n\n")
            case ThinkingDelta():
                return self._chunk(b'"content":"","reasoning":', dump_text(event.text))
            case ToolCall():
                call = _tool_call(self._calls, event)
                self._calls += 1
                return self._chunk(b'"content":"","tool_calls":[', call, b"]")
            case Finish():
                return self._last(event)
            case Aside():
                return b""
            case _:
                assert_never(event)

    def heartbeat(self) -> bytes:
        """As in `_Encoder`; before the first event it tells the role."""
        return self._chunk(b'"content":""')

    def _chunk(self, *delta: bytes, end: bytes = b'},"finish_reason":null}]}\n\n') -> bytes:
        opening, self._opening = self._opening, self._later
        self._begun = True
        return b"".join((opening, *delta, end))

    def _last(self, finish: Finish) -> bytes:
        begin = b"" if self._begun else self.heartbeat()
        end = b'%b"choices":[{"index":0,"delta":{},"finish_reason":%b}]%b}\n\n' % (
            self._before,
            self._reasons[finish.reason],
            answered_by(finish),
        )
        usage = b""
        if self._include_usage:
            usage = b'%b"choices":[],"usage":%b}\n\n' % (self._before, _usage(finish.usage))
        return b"".join((begin, end, usage, _DONE))

    def _choice(self, said: Said, finish: bytes) -> bytes:
        role = b"" if finish == _NONE else b"assistant"  # a rendering is nobody's
        parts = [b'{"index":0,"message":{"role":"%b","content":' % role, dump_text(said.content)]
        if said.thinking:
            parts += [b',"reasoning":', dump_text(said.thinking)]
        if said.calls:
            calls = (_tool_call(index, call) for index, call in enumerate(said.calls))
            parts += [b',"tool_calls":[', b",".join(calls), b"]"]
        parts += [b'},"finish_reason":', finish]
        if said.logprobs:
            parts += [b',"logprobs":{"content":', logprobs(said.logprobs), b"}"]
        parts.append(b"}")
        return b"".join(parts)


class CompletionEncoder(_Encoder):
    """Encodes one reply of /v1/completions, which has neither thinking nor tool calls.

    Args:
        model: The name as the client sent it, echoed in every chunk.
        include_usage: Whether a stream tells its tokens: then every chunk has a usage, all but the last of zeros.
        echo: What the text begins with.
        now: The wall clock, in seconds since 1970; asked once.
    """

    _id: ClassVar[bytes] = b"cmpl"
    _kind: ClassVar[bytes] = b"text_completion"
    _reasons: ClassVar[Mapping[FinishReason, bytes]] = {**_FINISH_REASONS, "tool_calls": b'"stop"'}

    def __init__(
        self,
        model: str,
        *,
        include_usage: bool = False,
        echo: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(model, include_usage=include_usage, now=now)
        self._echo = echo
        self._written = len(echo)
        self._before = b'data: {"id":"cmpl-%d","object":"text_completion","created":%d,"choices":[' % (
            self._number,
            self._created,
        )
        self._after = b'],"model":%b,%b' % (self._model, _FINGERPRINT)
        self._end = self._after + (b',"usage":%b}\n\n' % _NO_USAGE if include_usage else b"}\n\n")

    def encode(self, event: Event) -> bytes:
        """One chunk; of what this wire has no word for, an empty one, as a real server does."""
        match event:
            case TextDelta():
                tokens = self._logprobs(event.logprobs, self._written) if event.logprobs else b""
                self._written += len(event.text)
                return self._chunk(event.text, tokens=tokens)
            case ThinkingDelta() | ToolCall():
                return self.heartbeat()
            case Finish():
                return self._last(self._reasons[event.reason], _usage(event.usage), answered_by(event))
            case Aside():
                return b""
            case _:
                assert_never(event)

    def heartbeat(self) -> bytes:
        """As in `_Encoder`."""
        return self._chunk("")

    def load(self, *, stream: bool) -> bytes:
        """The answer to a call that asks nothing: the model is there."""
        finish = b'"load"'
        return (
            self._last(finish, _NO_USAGE)
            if stream
            else self._object(self._choice(NOTHING, finish), _NO_USAGE)
        )

    def _chunk(
        self, text: str, finish: bytes = _NONE, *, tokens: bytes = b"", answered: bytes = b""
    ) -> bytes:
        echo, self._echo = self._echo, ""
        choice = b'{"text":%b,"index":0,"finish_reason":%b%b}' % (dump_text(echo + text), finish, tokens)
        end = self._end.replace(self._after, self._after + answered, 1) if answered else self._end
        return b"".join((self._before, choice, end))

    def _last(self, finish: bytes, usage: bytes, answered: bytes = b"") -> bytes:
        parts = [self._chunk("", finish, answered=answered)]
        if self._include_usage:
            parts.append(b'%b%b,"usage":%b}\n\n' % (self._before, self._after, usage))
        return b"".join((*parts, _DONE))

    def _choice(self, said: Said, finish: bytes) -> bytes:
        tokens = self._logprobs(said.logprobs, len(self._echo)) if said.logprobs else b""
        text = dump_text(self._echo + said.content)
        return b'{"text":%b,"index":0,"finish_reason":%b%b}' % (text, finish, tokens)

    def _logprobs(self, tokens: Sequence[TokenLogprob], offset: int) -> bytes:
        """OpenAI's older form: lists beside each other. Ollama leaves them out."""
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.token)
        told: dict[str, Any] = {
            "text_offset": offsets,
            "token_logprobs": [number(token.logprob) for token in tokens],
            "tokens": [token.token for token in tokens],
            "top_logprobs": [{other.token: number(other.logprob) for other in token.top} for token in tokens],
        }
        return b',"logprobs":' + gojson.dump(told)


def _tool_call(index: int, call: ToolCall) -> bytes:
    """Its arguments are JSON within JSON, escaped by Go at both levels."""
    return b'{"id":%b,"index":%d,"type":"function","function":{"name":%b,"arguments":%b}}' % (
        dump_text(call.id),
        index,
        dump_text(call.name),
        dump_text(gojson.dump(call.arguments).decode()),
    )


def _usage(usage: Usage) -> bytes:
    """Ollama's three numbers; what OpenAI tells beyond them, only where there is something to tell."""
    cached = b',"prompt_tokens_details":{"cached_tokens":%d}' % usage.cached_read_tokens
    reasoning = b',"completion_tokens_details":{"reasoning_tokens":%d}' % usage.reasoning_tokens
    return b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d%b%b}' % (
        usage.input_tokens,
        usage.output_tokens,
        usage.input_tokens + usage.output_tokens,
        cached if usage.cached_read_tokens else b"",
        reasoning if usage.reasoning_tokens else b"",
    )
