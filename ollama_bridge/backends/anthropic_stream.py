"""What Claude says: Messages stream events in, our events out. Sans I/O.

https://platform.claude.com/docs/en/build-with-claude/streaming
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

from ollama_bridge.backends.anthropic_turn import PAUSES, Block, Turn
from ollama_bridge.backends.anthropic_words import (
    PASSED_BLOCKS,
    PASSED_DELTAS,
    PAUSE,
    READ_BLOCKS,
    STOP_REASONS,
)
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.openai_wire import HALF_CALL
from ollama_bridge.backends.usage import count
from ollama_bridge.events import (
    Event,
    Finish,
    FinishReason,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    Usage,
    total,
)
from ollama_bridge.history import call_id

_DECLINED: Final = "The model declined to answer."


class Reader:
    """Reads one turn, which pauses may divide into several replies.

    Blocks of kinds that no client of ours could show (server tools, redacted thinking, citations) pass, the text in
    them stays. Signed thinking is sealed into the `Finish` of a turn that calls tools: in answering them it is wanted
    back. Of other turns nobody wants it.

    Args:
        failures: Makes the errors.
        model: For errors.
        tool_names: A tool's name on the wire to its name at the client, where they differ.
        place: Position of the answer in the conversation, from which missing call ids are made.
    """

    __slots__ = (
        "_calls", "_failures", "_model", "_open", "_place", "_stop", "_told", "_tool_names", "_usages",
        "finished", "moved", "paused", "turn",
    )  # fmt: skip

    def __init__(
        self,
        failures: Failures,
        model: str,
        tool_names: Mapping[str, str] | None = None,
        *,
        place: int = 0,
    ) -> None:
        self.finished = False
        """Whether the reply has ended: `Finish` is out, or the turn is paused."""
        self.paused = False
        """Whether the turn is to be gone on with."""
        self.moved = False
        """Whether the last payload was more than a sign of life."""
        self.turn = Turn()
        """What there is of it."""
        self._open = self.turn.open
        self._failures = failures
        self._model = model
        self._tool_names = tool_names or {}
        self._place = place
        self._calls: dict[object, tuple[ToolCall, Block]] = {}
        self._told = 0  # whole tool calls
        self._stop: dict[str, Any] = {}
        self._usages: list[dict[str, Any]] = [{}]

    @property
    def calling(self) -> bool:
        """Whether a tool call has begun and is not whole."""
        return bool(self._calls)

    def feed(self, payload: dict[str, Any]) -> Iterable[Event]:
        """The events that one stream event amounts to; unknown ones amount to none.

        Raises:
            UpstreamError: The provider reports an error, or a tool call makes no sense.
            TypeError, KeyError, AttributeError: A field is missing or of the wrong type.
        """
        kind = payload["type"]
        self.moved = kind != "ping"
        handler = self._handlers.get(kind)
        if handler is not None:
            return handler(self, payload)
        if self.moved:
            self._failures.odd("event", kind, self._model)
        return ()

    def resume(self) -> None:
        """The turn is gone on with: what comes next is another reply."""
        self.turn.pause()
        self._usages.append({})
        self._stop = {}
        self.paused = self.finished = False

    def give_up(self) -> Iterable[Event]:
        """A turn that pauses is not gone on with: it ends here, and is not whole."""
        return self._finish(PAUSE, STOP_REASONS[PAUSE])

    def usage(self) -> Usage | None:
        """What the provider has told so far of the tokens, of all replies; None before the first has begun."""
        return total(map(_usage, self._usages)) if any(self._usages) else None

    def first_usage(self) -> Usage | None:
        """What it has told of the first reply's."""
        return _usage(self._usages[0]) if self._usages[0] else None

    def _block_delta(self, payload: dict[str, Any]) -> Iterable[Event]:
        delta = payload["delta"]
        kind = delta["type"]
        index = payload.get("index")
        block = self._open.get(index)
        if kind == "text_delta" and block is not None and (text := delta["text"]) and text.__class__ is str:
            # Nearly all events are one word: they take the short way.
            block.texts.append(text)
            return (TextDelta(text),)
        read = self._deltas.get(kind)
        if read is not None:
            # One that nobody said begins is one of text.
            return read(self, delta, block or self.turn.begin(index, {"type": "text"}))
        if PASSED_DELTAS.get(kind, True):
            self._failures.odd("delta", kind, self._model)
        return ()

    def _text_delta(self, delta: dict[str, Any], block: Block) -> Iterable[Event]:
        text = delta["text"]
        if not text:
            return ()
        if text.__class__ is not str:
            raise TypeError
        block.texts.append(text)
        return (TextDelta(text),)

    def _thinking_delta(self, delta: dict[str, Any], block: Block) -> Iterable[Event]:
        thought = _checked(delta["thinking"])
        block.pieces["thinking"].append(thought)
        return (ThinkingDelta(thought),) if thought else ()

    def _signature_delta(self, delta: dict[str, Any], block: Block) -> Iterable[Event]:
        block.pieces["signature"].append(_checked(delta["signature"]))
        return ()

    def _json_delta(self, delta: dict[str, Any], block: Block) -> Iterable[Event]:
        piece = delta["partial_json"]
        if piece.__class__ is not str:
            raise TypeError
        block.pieces["partial_json"].append(piece)
        return ()

    def _citations_delta(self, delta: dict[str, Any], block: Block) -> Iterable[Event]:
        block.cite(delta.get("citation"))
        return ()

    def _block_start(self, payload: dict[str, Any]) -> Iterable[Event]:
        head, index = payload["content_block"], payload["index"]
        kind = head["type"]
        block = self.turn.begin(index, head)
        if kind == "text":
            text = _checked(head.get("text") or "")
            return (TextDelta(text),) if text else ()
        if kind == "thinking":
            return _thinking(head.get("thinking"))
        if kind == "tool_use":
            name = _checked(head["name"])
            if not name:
                raise self._failures.broken(HALF_CALL, self._model)
            made = head.get("id") or call_id(self._place, self._told + len(self._calls), name)
            self._calls[index] = ToolCall(_checked(made), self._tool_names.get(name, name)), block
        elif kind not in READ_BLOCKS and PASSED_BLOCKS.get(kind, True):
            self._failures.odd("block", kind, self._model)
        return ()

    def _block_stop(self, payload: dict[str, Any]) -> Iterable[Event]:
        return self._called(payload["index"]) if payload["index"] in self._calls else ()

    def _called(self, index: object) -> Iterable[Event]:
        call, block = self._calls[index]
        try:
            call.arguments = block.arguments()
        except ValueError:
            return ()  # perhaps cut off at the token limit, which the stop reason will tell
        del self._calls[index]
        self._told += 1
        return (call,)

    def _start(self, payload: dict[str, Any]) -> Iterable[Event]:
        message = payload["message"]
        self._count(message.get("usage"))
        self._place_of_work(message)
        return ()

    def _message_delta(self, payload: dict[str, Any]) -> Iterable[Event]:
        self._stop = payload["delta"]
        self._count(payload.get("usage"))
        self._place_of_work(self._stop)
        return ()

    def _count(self, usage: object) -> None:
        told = self._failures.usage(usage, self._model)
        self._usages[-1].update({name: value for name, value in told.items() if value is not None})

    def _place_of_work(self, told: Mapping[str, Any]) -> None:
        container = told.get("container")
        if isinstance(container, dict) and isinstance(found := container.get("id"), str):
            self.turn.container = found

    def _message_stop(self, _payload: dict[str, Any]) -> Iterable[Event]:
        detail = self._stop.get("stop_reason") or ""
        if detail and detail not in STOP_REASONS:
            self._failures.odd("stop reason", detail, self._model)
        reason = STOP_REASONS.get(detail, "stop")
        late: list[Event] = []
        if detail != PAUSE and reason != "length":
            late = [
                call for index in list(self._calls) for call in self._called(index)
            ]  # nobody said it ended
        if self._calls and reason != "length":
            name = next(iter(self._calls.values()))[0].name
            raise self._failures.broken(
                f"the arguments of its call of '{name}' are no JSON object: ask again", self._model
            )
        self.finished = True
        if detail == PAUSE and not self._told and len(self._usages) <= PAUSES:
            self.paused = True
            return ()
        if self._told and (reason == "stop" or detail == PAUSE):
            reason = "tool_calls"
        return [*late, *self._finish(detail, reason)]

    def _finish(self, detail: str, reason: FinishReason) -> Iterable[Event]:
        sealed = self.turn.sealed(self._model) if self._told else b""
        finish = Finish(reason, self.usage() or Usage(), detail, sealed)
        if reason == "refusal" and not self.turn.has_text and not self._told:
            details = self._stop.get("stop_details")
            explanation = details.get("explanation") if isinstance(details, dict) else None
            return (TextDelta(explanation if explanation and type(explanation) is str else _DECLINED), finish)
        return (finish,)

    def _error(self, payload: dict[str, Any]) -> Iterable[Event]:
        raise self._failures.told(payload, self._model)

    _handlers: ClassVar[Mapping[str, Callable[["Reader", dict[str, Any]], Iterable[Event]]]] = {
        "message_start": _start,
        "content_block_start": _block_start,
        "content_block_delta": _block_delta,
        "content_block_stop": _block_stop,
        "message_delta": _message_delta,
        "message_stop": _message_stop,
        "error": _error,
    }
    _deltas: ClassVar[Mapping[str, Callable[["Reader", dict[str, Any], Block], Iterable[Event]]]] = {
        "text_delta": _text_delta,
        "thinking_delta": _thinking_delta,
        "signature_delta": _signature_delta,
        "input_json_delta": _json_delta,
        "citations_delta": _citations_delta,
    }


def _thinking(text: str) -> Iterable[Event]:
    return (ThinkingDelta(_checked(text)),) if text else ()


def _checked(text: str) -> str:
    if type(text) is not str:
        raise TypeError
    return text


def _usage(usage: Mapping[str, Any]) -> Usage:
    read = count(usage, "cache_read_input_tokens")
    written = count(usage, "cache_creation_input_tokens")
    return Usage(
        input_tokens=count(usage, "input_tokens") + read + written,
        output_tokens=count(usage, "output_tokens"),
        cached_read_tokens=read,
        cached_write_tokens=written,
        cached_hour_tokens=count(usage, "cache_creation", "ephemeral_1h_input_tokens"),
        reasoning_tokens=count(usage, "output_tokens_details", "thinking_tokens"),
    )
