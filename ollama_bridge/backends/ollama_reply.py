"""What a real Ollama answers: its lines as events, each with its line where the client speaks the same wire. Pure."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.usage import count
from ollama_bridge.errors import Told, UpstreamBroken, UpstreamError
from ollama_bridge.events import (
    WITH_A_LATER_ONE,
    Aside,
    Event,
    Finish,
    FinishReason,
    Line,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCall,
    Usage,
)

MAX_LINE_BYTES: Final = 64 * 1024 * 1024

_REASONS: Final[Mapping[str, FinishReason]] = {"stop": "stop", "length": "length"}

_PLAIN: Final = frozenset({"model", "created_at", "message", "response", "thinking", "done"})
_NOTHING: Final = frozenset({"model", "created_at"})
_PLAIN_MESSAGE: Final = frozenset({"role", "content", "thinking"})
"""Fields that say nothing beyond one event and its time."""


class ChatReader:
    """Reads one reply of `/api/chat` or `/api/generate`: bytes in, events out. Sans I/O.

    Args:
        failures: Makes the right error of an `error` line.
        model: For errors.
        named: What the request calls it: each line goes with the events that it was read as. None: none does.
    """

    def __init__(self, failures: Failures, model: str, *, named: str | None = None) -> None:
        self.moved = False
        """Whether the last chunk was more than a sign of life, for which an empty line would do."""
        self._failures = failures
        self._model = model
        self._keeps_lines = named is not None
        self._head = b'{"model":' + orjson.dumps(named)
        self._rest = b""
        self._calls = itertools.count(1)
        self._called = False
        self._held: tuple[TokenLogprob, ...] = ()

    def feed(self, chunk: bytes) -> Iterable[Event]:
        """The events of every line that `chunk` completes.

        Raises:
            UpstreamError: A line is an error, or no line of a chat at all.
        """
        self.moved = not chunk.isspace()
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise self._broken("it sent a line that is too large: ask for less at once", retryable=False)
        for line in lines:
            if line.strip():
                yield from self._line(line)

    def close(self) -> Iterable[Event]:
        """The events of a last line without its line end, as Ollama sends errors of the cloud; half a line is none."""
        rest, self._rest = self._rest.strip(), b""
        if rest.startswith(b"{"):
            try:
                orjson.loads(rest)
            except orjson.JSONDecodeError:
                return []
        return self._line(rest) if rest else []

    def _line(self, line: bytes) -> list[Event]:
        try:
            found = orjson.loads(line)
            events = self._events(found)
            return self._with_line(events, line.strip(), found) if self._keeps_lines else events
        except orjson.JSONDecodeError:
            start = line[:80].decode("utf-8", "replace")
            what = "a web page" if start.lstrip().startswith("<") else "something else"
            raise self._broken(
                f"it answered with {what} instead of JSON lines: "
                f"check providers.{self._failures.provider}.base_url",
                retryable=False,
            ) from None
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise self._broken("it sent a line of an unknown shape: ask again") from exc

    def _events(self, line: Mapping[str, Any]) -> list[Event]:
        if line.get("error"):
            raise self._failure(line)
        events: list[Event] = []
        message = line.get("message") or line  # of a chat, or of a generation
        if thinking := message.get("thinking"):
            events.append(ThinkingDelta(_text(thinking)))
        if logprobs := line.get("logprobs"):
            self._held += tuple(map(_logprob, logprobs))
        if content := message.get("content") or message.get("response"):
            # Tokens whose text Ollama's parser still held back came before, on lines without content.
            held, self._held = self._held, ()
            events.append(TextDelta(_text(content), held))
        events += map(self._call, message.get("tool_calls") or ())
        if line.get("done"):
            events.append(self._finish(line))
        return events

    def _with_line(self, events: list[Event], line: bytes, found: Mapping[str, Any]) -> list[Event]:
        """The same events, the last of which has the line; of what says nothing to other wires, an `Aside`."""
        head = len(self._head)
        if line.startswith(self._head) and line[head : head + 1] in {b",", b"}"}:  # as Go writes it: always
            rest = line[head:]
        else:
            others = {key: value for key, value in found.items() if key != "model"}
            rest = b"," + orjson.dumps(others)[1:] if others else b"}"
        message = found.get("message") or {}
        is_plain = len(events) == 1 and found.keys() <= _PLAIN and message.keys() <= _PLAIN_MESSAGE
        kept = Line(rest + b"\n", is_plain)
        if not events:
            return [] if found.keys() <= _NOTHING else [Aside(kept)]
        for event in events[:-1]:
            event.line = WITH_A_LATER_ONE
        events[-1].line = kept
        return events

    def _failure(self, line: Mapping[str, Any]) -> UpstreamError:
        failure = self._failures.told(line, self._model)
        if self._keeps_lines:
            failure.told = Told(orjson.dumps(line))
            failure.status = 500  # as it answers itself, where it has not begun
        return failure

    def _call(self, call: Mapping[str, Any]) -> ToolCall:
        self._called = True
        function = call["function"]
        arguments = function.get("arguments") or {}
        if not isinstance(arguments, dict):
            raise TypeError("arguments")
        name = _text(function["name"])
        if not name:
            raise KeyError("name")
        return ToolCall(str(call.get("id") or f"call_{next(self._calls)}"), name, arguments)

    def _finish(self, line: Mapping[str, Any]) -> Finish:
        word = str(line.get("done_reason") or "stop")
        reason = _REASONS.get(word, "stop")
        if reason == "stop" and self._called:
            reason = "tool_calls"
        usage = Usage(count(line, "prompt_eval_count"), count(line, "eval_count"))
        return Finish(reason, usage, word)

    def _broken(self, message: str, *, retryable: bool = True) -> UpstreamBroken:
        return self._failures.broken(message, self._model, retryable=retryable)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("text")
    return value


def _logprob(found: Mapping[str, Any]) -> TokenLogprob:
    top = tuple(TokenLogprob(each["token"], each["logprob"]) for each in found.get("top_logprobs") or ())
    return TokenLogprob(found["token"], found["logprob"], top)
