"""Replies of /api/chat and /api/generate, sans I/O: events in, whole lines or one whole object out.

An encoder serves one reply. Make it when the request is understood: its clock starts there, before the
provider is asked. Then either `encode` every event into a line, or `add` every event and write `whole()`::

    encoder = ChatEncoder(call.model, arrived_ns=arrived_ns)
    async for event in events:
        await response.write(encoder.encode(event))

Key order, and what is left out when empty, are those of Ollama's Go structs. Every line is built around
constant bytes: only the text itself is encoded as JSON.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final, assert_never

import orjson

from ollama_bridge.chat import Message
from ollama_bridge.errors import BridgeError, UpstreamError
from ollama_bridge.events import Event, Finish, Line, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.gojson import dump_text
from ollama_bridge.surfaces.ollama_context import pack
from ollama_bridge.surfaces.ollama_lines import folded
from ollama_bridge.surfaces.said import NOTHING, Said, answered_by, fold, logprobs, whole

NDJSON: Final = "application/x-ndjson"
"""A stream of lines."""

JSON: Final = "application/json; charset=utf-8"
"""Everything else: whole replies, load, unload and debug replies even of streaming requests, errors."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_NS: Final = 1_000_000_000

_DONE_REASONS: Final = {"stop": b"stop", "length": b"length", "tool_calls": b"stop", "refusal": b"stop"}
"""Ollama has no word for tool calls or refusals: native clients expect `stop`."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Shape:
    """The constant bytes of one endpoint's lines, between the time, the text, and the end.

    Args:
        text: Before a piece of text, and after it.
        thinking: Before a piece of thinking, and after it.
        tool_call: Before a tool call, and after it.
    """

    text: tuple[bytes, bytes]
    thinking: tuple[bytes, bytes]
    tool_call: tuple[bytes, bytes]


class _Encoder(ABC):
    """What both endpoints share.

    Args:
        model: The name as the client sent it, echoed on every line.
        now: The wall clock, with a zone; asked once.
        clock_ns: A monotonic clock in nanoseconds; all durations and the progress of `created_at` come from it.
        arrived_ns: When the request arrived, by the same clock; default: now.
    """

    stream_headers: ClassVar[Mapping[str, str]] = {"Content-Type": NDJSON}
    whole_headers: ClassVar[Mapping[str, str]] = {"Content-Type": JSON}

    _shape: ClassVar[_Shape]

    def __init__(
        self,
        model: str,
        *,
        now: Callable[[], datetime] = utc_now,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        arrived_ns: int | None = None,
    ) -> None:
        started_ns = clock_ns()
        self._clock_ns = clock_ns
        self._arrived_ns = started_ns if arrived_ns is None else arrived_ns
        self._epoch_ns = (now() - EPOCH) // timedelta(microseconds=1) * 1000 - started_ns
        self._stamped_ns = 0
        self._second_ns = 0
        self._head = b""
        self._model = model
        self._before_rest = b'{"model":%b' % gojson.dump(model)
        self._before_time = self._before_rest + b',"created_at":"'
        self._first_ns = 0
        self._pieces = 0
        self._calls = 0
        self._folded: list[Event] = []
        self._before_text, self._after_text = self._shape.text
        self._asked_ns = clock_ns()

    def encode(self, event: Event) -> bytes:
        """One line, with its newline; nothing if a later event comes with the line of a real Ollama."""
        now_ns = self._mark()
        if event.line is not None:
            return self._as_sent(event.line, event)
        if type(event) is TextDelta and not event.logprobs:  # nearly always
            return b"".join((self._stamp(now_ns), self._before_text, dump_text(event.text), self._after_text))
        match event:
            case TextDelta():
                before, after = self._shape.text
                after = after[:-2] + b',"logprobs":' + logprobs(event.logprobs) + after[-2:]
                return self._stamp(now_ns) + before + dump_text(event.text) + after
            case ThinkingDelta():
                before, after = self._shape.thinking
                return self._stamp(now_ns) + before + dump_text(event.text) + after
            case ToolCall():
                before, after = self._shape.tool_call
                call = _tool_call(self._calls, event)
                self._calls += 1
                return self._stamp(now_ns) + before + call + after
            case Finish():
                return self._last(NOTHING, event, now_ns) + b"\n"
            case _:
                assert_never(event)

    def add(self, event: Event) -> None:
        """Keep an event for `whole`; call it as the event arrives, for the durations."""
        self._mark()
        self._folded.append(event)

    def whole(self, events: Iterable[Event] = ()) -> bytes:
        """The reply that is not streamed: what was added, and `events`, as one object without a newline.

        Raises:
            ValueError: The last event is no `Finish`: half a reply is not shown as a whole one.
        """
        for event in events:
            self.add(event)
        said, finish = whole(self._folded)
        if finish.line is not None and all(event.line is not None for event in said):
            return self._folded_lines(finish)
        return self._last(fold(said), finish, self._clock_ns())

    def heartbeat(self) -> bytes:
        """A line without content: the only sign of life that every client's parser takes."""
        before, after = self._shape.text
        return b"".join((self._stamp(self._clock_ns()), before, b'""', after))

    def error(self, exc: BridgeError) -> bytes:
        """The line that ends a stream which has already begun."""
        return error_body(exc) + b"\n"

    def _as_sent(self, line: Line, event: Event) -> bytes:
        if not line.rest:
            return b""
        answered = answered_by(event) if type(event) is Finish else b""
        rest = line.rest if not answered else line.rest[:-2] + answered + line.rest[-2:]
        return self._before_rest + rest

    def _folded_lines(self, finish: Finish) -> bytes:
        """All lines of a real Ollama in one, as it folds them itself; of what nobody here knows the last one counts."""
        lines = (event.line.rest for event in self._folded if event.line is not None and event.line.rest)
        one = folded(orjson.loads(b'{"model":""' + rest) for rest in lines)
        return gojson.dump(
            {**one, "model": self._model, **({"answered_by": by} if (by := finish.answered_by) else {})}
        )

    @abstractmethod
    def _last(self, said: Said, finish: Finish, now_ns: int) -> bytes:
        """The object that ends the reply: a stream's last line, or all of a reply that is not streamed."""

    def _mark(self) -> int:
        now_ns = self._clock_ns()
        if not self._pieces:
            self._first_ns = now_ns
        self._pieces += 1
        return now_ns

    def _stamp(self, now_ns: int) -> bytes:
        """The line up to and including the time: nanoseconds without trailing zeros, never twice the same."""
        wall_ns = self._epoch_ns + now_ns
        if wall_ns <= self._stamped_ns:
            wall_ns = self._stamped_ns + 1
        self._stamped_ns = wall_ns
        fraction_ns = wall_ns - self._second_ns
        if fraction_ns >= _SECOND_NS:
            second, fraction_ns = divmod(wall_ns, _SECOND_NS)
            self._second_ns = second * _SECOND_NS
            self._head = self._before_time + rfc3339(second).encode()
        return self._head + (b".%09d" % fraction_ns).rstrip(b"0.")

    def _metrics(self, usage: Usage, now_ns: int) -> bytes:
        """Durations in nanoseconds, none of them zero, for Go would leave those out, and so would clients break.

        A provider that does not count gets the least that is certainly true: a prompt has a token, and each
        piece of the answer has one.
        """
        output_tokens = usage.output_tokens or self._pieces - 1
        return (
            b',"total_duration":%d,"load_duration":%d,"prompt_eval_count":%d,"prompt_eval_duration":%d%b,"eval_duration":%d'
            % (
                max(1, now_ns - self._arrived_ns),
                max(1, self._asked_ns - self._arrived_ns),
                max(1, usage.input_tokens),
                max(1, self._first_ns - self._asked_ns),
                b',"eval_count":%d' % output_tokens if output_tokens > 0 else b"",
                max(1, now_ns - self._first_ns),
            )
        )


class ChatEncoder(_Encoder):
    """Encodes one /api/chat reply.

    Args:
        model: The name as the client sent it, echoed on every line.
        now: The wall clock, with a zone; asked once.
        clock_ns: A monotonic clock in nanoseconds, the unit of every `*_duration` on this wire.
        arrived_ns: When the request arrived, by the same clock; default: now.
    """

    _shape: ClassVar[_Shape] = _Shape(
        text=(b'Z","message":{"role":"assistant","content":', b'},"done":false}\n'),
        thinking=(b'Z","message":{"role":"assistant","content":"","thinking":', b'},"done":false}\n'),
        tool_call=(b'Z","message":{"role":"assistant","content":"","tool_calls":[', b']},"done":false}\n'),
    )

    def _last(self, said: Said, finish: Finish, now_ns: int) -> bytes:
        parts = [self._stamp(now_ns), self._shape.text[0], dump_text(said.content)]
        if said.thinking:
            parts += [b',"thinking":', dump_text(said.thinking)]
        if said.calls:
            parts += [b',"tool_calls":', _tool_calls(said.calls)]
        parts += [b'},"done":true,"done_reason":"', _DONE_REASONS[finish.reason], b'"']
        if said.logprobs:
            parts += [b',"logprobs":', logprobs(said.logprobs)]
        parts += [self._metrics(finish.usage, now_ns), answered_by(finish), b"}"]
        return b"".join(parts)


class GenerateEncoder(_Encoder):
    """Encodes one /api/generate reply.

    Args:
        model: The name as the client sent it, echoed on every line.
        now: The wall clock, with a zone; asked once.
        clock_ns: A monotonic clock in nanoseconds, the unit of every `*_duration` on this wire.
        arrived_ns: When the request arrived, by the same clock; default: now.
        raw: Whether the request was raw: the reply then has no `context`.
        asked: The conversation so far, which `context` will hold together with the answer.
    """

    _shape: ClassVar[_Shape] = _Shape(
        text=(b'Z","response":', b',"done":false}\n'),
        thinking=(b'Z","response":"","thinking":', b',"done":false}\n'),
        tool_call=(b'Z","response":"","done":false,"tool_calls":[', b"]}\n"),
    )

    def __init__(
        self,
        model: str,
        *,
        now: Callable[[], datetime] = utc_now,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        arrived_ns: int | None = None,
        raw: bool = False,
        asked: Sequence[Message] = (),
    ) -> None:
        super().__init__(model, now=now, clock_ns=clock_ns, arrived_ns=arrived_ns)
        self._raw = raw
        self._asked = asked
        self._answer: list[str] = []

    def encode(self, event: Event) -> bytes:
        """One line, with its newline."""
        if type(event) is TextDelta:
            self._answer.append(event.text)
        return super().encode(event)

    def _last(self, said: Said, finish: Finish, now_ns: int) -> bytes:
        parts = [self._stamp(now_ns), self._shape.text[0], dump_text(said.content)]
        if said.thinking:
            parts += [b',"thinking":', dump_text(said.thinking)]
        parts += [b',"done":true,"done_reason":"', _DONE_REASONS[finish.reason], b'"']
        if not self._raw:
            # Go would leave an empty `context` out, but ai-sdk's provider refuses a last line without one.
            parts += [b',"context":', self._context(said)]
        parts.append(self._metrics(finish.usage, now_ns))
        if said.calls:
            parts += [b',"tool_calls":', _tool_calls(said.calls)]
        if said.logprobs:
            parts += [b',"logprobs":', logprobs(said.logprobs)]
        parts += [answered_by(finish), b"}"]
        return b"".join(parts)

    def _context(self, said: Said) -> bytes:
        answer = said.content or "".join(self._answer)
        return orjson.dumps(pack(self._asked, answer) if self._asked else [])


def error_body(exc: BridgeError) -> bytes:
    """The body of an answer that failed before it began; a real Ollama's own, if it was asked in its own words."""
    if isinstance(exc, UpstreamError) and exc.told is not None:
        return exc.told.body
    return gojson.dump({"error": str(exc)})


def rfc3339(second: int) -> str:
    """Seconds since 1970 as a time without its fraction and zone."""
    return (EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")


def _tool_call(index: int, call: ToolCall) -> bytes:
    """In exactly this key order: Emacs' llm takes the second key for the function."""
    function = b'{"index":%d,"name":%b,"arguments":%b}' % (
        index,
        dump_text(call.name),
        gojson.dump(call.arguments),
    )
    return b'{"id":%b,"function":%b}' % (dump_text(call.id), function)


def _tool_calls(calls: Sequence[ToolCall]) -> bytes:
    return b"[%b]" % b",".join(_tool_call(index, call) for index, call in enumerate(calls))
