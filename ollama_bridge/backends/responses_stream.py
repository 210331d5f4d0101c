"""What OpenAI's Responses API says: stream events in, our events out. Sans I/O.

https://developers.openai.com/api/reference/resources/responses/streaming-events. What others who speak it leave out of
the stream is taken from what is told of it later: a part, an item, or the response that is done.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

from ollama_bridge.backends import openai_wire as wire
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.responses_calls import ARGUMENTS, BegunCalls, arguments_of, call_name
from ollama_bridge.backends.responses_words import (
    END_EVENTS,
    INCOMPLETE,
    PASSED_EVENTS,
    PASSED_ITEMS,
    STATUSES,
)
from ollama_bridge.backends.retold import Retold
from ollama_bridge.backends.sealing import Kept, seal
from ollama_bridge.backends.usage import count
from ollama_bridge.events import (
    Event,
    Finish,
    FinishReason,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCall,
    Usage,
)
from ollama_bridge.history import call_id

SIGNED: Final = "responses"
"""The kind of what this backend seals: `reasoning` items, and the `phase` of messages."""


class ResponsesReader:
    """Turns stream events into ours: feed it the payloads of one stream, then close it.

    `Finish` comes with the event that ends the response, and only then. A response that did not come as a stream is
    read as such an event: `{"type": "response.completed", "response": …}`.

    Args:
        failures: Makes our errors of those that the stream reports.
        model: Who is answering, for errors.
        turn: Position of the answer in the conversation, from which missing call ids are made.
        logprobs: Whether log probabilities were asked for.
        tool_names: A tool's name on the wire to the client's, where they differ.
    """

    def __init__(
        self,
        failures: Failures,
        model: str,
        *,
        turn: int = 0,
        logprobs: bool = False,
        tool_names: Mapping[str, str] | None = None,
    ) -> None:
        self.done = False
        """Whether `Finish` is out; what follows is not read."""
        self.moved = False
        """Whether the last event of which none of ours came was more than a sign of life."""
        self._failures = failures
        self._model = model
        self._turn = turn
        self._tool_names = tool_names or {}
        self._wants_logprobs = logprobs
        self._logprobs: tuple[TokenLogprob, ...] = ()
        self._text = Retold()
        self._thoughts = Retold()
        self._aloud = ""  # which of the two forms of an item's reasoning is being told
        self._has_gap = False
        self._begun = BegunCalls()
        self._called: set[str] = set()
        self._calls = 0
        self._items = 0
        self._kept: list[Kept] = []
        self._has_half_call = False
        self._refused = False
        self._usage: Mapping[str, Any] = {}

    @property
    def calling(self) -> bool:
        """Whether a tool call has begun and is not whole."""
        return bool(self._begun)

    def feed(self, event: Any) -> Iterable[Event]:
        """Our events for one of theirs.

        Raises:
            UpstreamError: It reports a failure, or ends a reply that makes no sense.
            AttributeError, LookupError, TypeError: It has not the shape it should have (`Failures.mapped`).
        """
        kind = event.get("type")
        read = self._table.get(kind)
        if read is not None:
            return read(self, event)
        if kind not in PASSED_EVENTS and (event.get("error") or event.get("object") == "error"):
            raise self._failures.told(event, self._model)
        self.moved = kind != "keepalive"
        if PASSED_EVENTS.get(kind, True):
            self._failures.odd("event", kind, self._model)
        return ()

    def close(self) -> Iterable[Event]:
        """The stream has ended; whoever ends a reply here says so in an event of its own."""
        return ()

    def usage(self) -> Usage | None:
        """What the provider has told of the tokens: only at the end, but also at a bad one."""
        return _usage(self._usage) if self._usage else None

    # ---------------------------------------------------------------------------------------- in pieces

    def _delta(self, event: dict[str, Any]) -> Iterable[Event]:
        text = event["delta"]
        if self._wants_logprobs:
            self._logprobs += wire.token_logprobs(event.get("logprobs"))
        if text.__class__ is not str:
            raise TypeError("a delta that is no text")
        if not text:
            return ()
        self._text.add(text)
        if not self._logprobs:
            return (TextDelta(text),)
        found, self._logprobs = self._logprobs, ()
        return (TextDelta(text, found),)

    def _refusal(self, event: dict[str, Any]) -> Iterable[Event]:
        self._refused = True
        return self._delta(event)

    def _summary(self, event: dict[str, Any]) -> Iterable[Event]:
        return self._thought(event["delta"], "summary")

    def _reasoning(self, event: dict[str, Any]) -> Iterable[Event]:
        return self._thought(event["delta"], "content")

    def _thought(self, thought: str, form: str) -> Iterable[Event]:
        if thought.__class__ is not str:
            raise TypeError("a delta that is no text")
        if not thought or (form != self._aloud and not self._is_aloud(form)):
            return ()
        self._thoughts.add(thought)
        return self._thinking(thought) if self._has_gap else (ThinkingDelta(thought),)

    def _is_aloud(self, form: str) -> bool:
        """Whether this form of an item's reasoning is the one to be shown: some tell it both in full and in short."""
        if not self._aloud:
            self._aloud = form
        return self._aloud == form

    def _thinking(self, thought: str) -> Iterable[Event]:
        if not self._has_gap:
            return (ThinkingDelta(thought),)
        self._has_gap = False
        return (ThinkingDelta("\n\n"), ThinkingDelta(thought))

    def _next_thought(self, _: dict[str, Any]) -> Iterable[Event]:
        # Parts are paragraphs, each under its own heading.
        self._has_gap = self._thoughts.length > 0
        return ()

    def _item_begun(self, event: dict[str, Any]) -> Iterable[Event]:
        self._aloud, self.moved = "", True
        if event["item"].get("type") in ARGUMENTS:
            self._begun.begin(event["item"], event.get("output_index"))
        return ()

    def _arguments(self, event: dict[str, Any]) -> Iterable[Event]:
        self.moved = True
        self._begun.add(event.get("delta"), event.get("output_index"))
        return ()

    def _all_arguments(self, event: dict[str, Any]) -> Iterable[Event]:
        self._begun.settle(event.get("arguments") or event.get("input"), event.get("output_index"))
        return ()

    # ------------------------------------------------------------------------------------------ as a whole

    def _text_done(self, event: dict[str, Any]) -> Iterable[Event]:
        place = (event.get("output_index"), event.get("content_index"))
        return self._rest(self._text.rest_of_part(event.get("text"), place), event.get("logprobs"))

    def _refusal_done(self, event: dict[str, Any]) -> Iterable[Event]:
        self._refused = True
        return self._text_done({**event, "text": event.get("refusal")})

    def _part_done(self, event: dict[str, Any]) -> Iterable[Event]:
        part = event["part"]
        read = {"output_text": self._text_done, "refusal": self._refusal_done}.get(part.get("type"))
        return read({**part, **event}) if read else ()

    def _rest(self, text: str, logprobs: object = None) -> Iterable[Event]:
        if not text:
            return ()
        return (TextDelta(text, wire.token_logprobs(logprobs) if self._wants_logprobs else ()),)

    def _summary_done(self, event: dict[str, Any]) -> Iterable[Event]:
        return self._thought_done(event.get("text"), "summary", event)

    def _summary_part_done(self, event: dict[str, Any]) -> Iterable[Event]:
        return self._thought_done(event["part"].get("text"), "summary", event)

    def _reasoning_done(self, event: dict[str, Any]) -> Iterable[Event]:
        return self._thought_done(event.get("text"), "content", event)

    def _thought_done(self, thought: object, form: str, event: dict[str, Any]) -> Iterable[Event]:
        place = (event.get("output_index"), event.get("summary_index", event.get("content_index")))
        if not thought or not self._is_aloud(form):
            return ()
        rest = self._thoughts.rest_of_part(thought, place)
        return self._thinking(rest) if rest else ()

    def _item_done(self, event: dict[str, Any]) -> Iterable[Event]:
        item = event["item"]
        kind = item.get("type")
        read = self._items_table.get(kind)
        self._items, self.moved = self._items + 1, True
        try:
            if read is not None:
                return read(self, item, event.get("output_index"))
            if PASSED_ITEMS.get(kind, True):
                self._failures.odd("item", kind, self._model)
            return ()
        finally:
            self._aloud = ""

    def _message(self, item: dict[str, Any], _: object = None) -> Iterable[Event]:
        text = self._text_of(item)
        rest = self._text.rest_of_item(text)
        self._keep(item, self._calls, max(self._text.length - len(text), 0))
        logprobs = [one for part in _parts(item, "content") for one in part.get("logprobs") or ()]
        return self._rest(rest, logprobs if rest == text else None)

    def _text_of(self, item: dict[str, Any]) -> str:
        parts = _parts(item, "content")
        self._refused = self._refused or any(part.get("refusal") for part in parts)
        return "".join(_texts(parts, "text", "refusal"))

    def _reasoned(self, item: dict[str, Any], _: object = None) -> Iterable[Event]:
        self._keep(item, self._calls, self._text.length)
        thoughts = [*_texts(_parts(item, self._aloud or "summary"), "text")]
        if not thoughts and not self._aloud:
            thoughts = [*_texts(_parts(item, "content"), "text")]
        whole = "".join(thoughts)
        is_new = not self._aloud
        self._has_gap = is_new and self._thoughts.length > 0
        rest = self._thoughts.rest_of_item(whole)
        # Of one that nothing was heard of, the paragraphs have to be set apart as well.
        return self._thinking("\n\n".join(thoughts) if is_new else rest) if rest else ()

    def _call(self, item: dict[str, Any], place: object = None) -> Iterable[Event]:
        arguments = arguments_of(item, self._begun.end(item, place))
        name = item.get("name")
        self._called.add(call_name(item))
        if arguments is None or not name or not isinstance(name, str) or item.get("status") == "incomplete":
            self._has_half_call = True  # whether that is a fault, the end will tell
            return ()
        made = call_id(self._turn, self._calls, name)
        self._calls += 1
        return (ToolCall(call_name(item) or made, self._tool_names.get(name, name), arguments),)

    def _keep(self, item: dict[str, Any], calls: int, chars: int) -> None:
        """Keep what belongs back into the next request, here and nowhere else complete."""
        if item["type"] == "reasoning" and item.get("encrypted_content"):
            piece = {"summary": item.get("summary") or [], "encrypted_content": item["encrypted_content"]}
            self._kept.append(Kept(calls, chars, 0, piece))
        elif item["type"] == "message" and item.get("phase"):
            self._kept.append(Kept(calls, chars, len(self._text_of(item)), {"phase": item["phase"]}))

    def _sealed(self) -> bytes:
        """Reasoning is wanted back with the results of the calls it led to; of a last answer, only its phase."""
        kept = self._kept if self._calls else [one for one in self._kept if "phase" in one.piece]
        return seal(SIGNED, self._model, kept)

    # ------------------------------------------------------------------------------------------- the end

    def _end(self, event: dict[str, Any]) -> Iterable[Event]:
        response = event.get("response") or {}
        how = END_EVENTS[event["type"]]
        if how == "completed" and (status := response.get("status")):
            if status not in STATUSES:
                self._failures.odd("status", status, self._model)
            how = STATUSES.get(status, how)
        self._usage = self._failures.usage(response.get("usage"), self._model)
        if how == "failed":
            raise self._failures.told(response.get("error") or event.get("error") or {}, self._model)
        if how == "cancelled":
            raise self._failures.broken("the provider cancelled its answer: ask again", self._model)
        rest = self._unsaid(response.get("output"), is_whole=how == "completed")
        why = how
        reason: FinishReason = "tool_calls" if self._calls else "stop"
        if how == "incomplete":
            why = (response.get("incomplete_details") or {}).get("reason") or how
            if why not in INCOMPLETE and why != how:
                self._failures.odd("reason to be incomplete", why, self._model)
            reason = INCOMPLETE.get(why, "length")
        return [*rest, *self._finish(reason, str(why))]

    def _finish(self, reason: FinishReason, detail: str) -> Iterable[Event]:
        if self._has_half_call and reason != "length":
            raise self._failures.broken(wire.HALF_CALL, self._model)
        if self._refused:
            reason = "refusal"
        self.done = True
        finish = Finish(reason, _usage(self._usage), detail, self._sealed())
        if reason == "refusal" and not self._text.length:
            return (TextDelta(wire.FILTERED), finish)
        return (finish,)

    def _unsaid(self, output: object, *, is_whole: bool) -> Iterable[Event]:
        """What the response holds that the stream has not told."""
        items = [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []
        if not (self._items or self._begun or self._text.length or self._thoughts.length):
            return [event for item in items for event in self._item_done({"item": item})]
        calls = chars = 0
        has_thought = self._thoughts.length > 0
        thoughts: list[Event] = []
        texts: list[str] = []
        for item in items:
            kind = item.get("type")
            if not self._items and kind in {"reasoning", "message"}:
                self._keep(item, calls, chars)
            if kind == "message":
                texts.append(self._text_of(item))
                chars += len(texts[-1])
            elif kind == "reasoning" and not has_thought:
                thoughts += self._reasoned({**item, "encrypted_content": None})
            calls += kind in ARGUMENTS
        return [
            *thoughts,
            *self._rest(self._text.rest_of_all("".join(texts))),
            *self._uncalled(items, is_whole=is_whole),
        ]

    def _uncalled(self, items: Iterable[dict[str, Any]], *, is_whole: bool) -> Iterable[Event]:
        """The calls that were never said to be done; of an answer that was cut off, only those that are."""
        told = frozenset(self._called)
        pending = [item for item in self._begun.rest() if call_name(item) or not items]
        for item in [*items, *pending]:
            name = call_name(item)
            if item.get("type") not in ARGUMENTS or name in (self._called if name else told):
                continue
            if is_whole or item.get("status") == "completed":
                yield from self._call(item)

    def _error(self, event: dict[str, Any]) -> Iterable[Event]:
        raise self._failures.told(event, self._model)

    _table: ClassVar[Mapping[str, Callable[["ResponsesReader", dict[str, Any]], Iterable[Event]]]] = {
        "response.output_text.delta": _delta,
        "response.output_text.done": _text_done,
        "response.refusal.delta": _refusal,
        "response.refusal.done": _refusal_done,
        "response.content_part.done": _part_done,
        "response.reasoning_summary_text.delta": _summary,
        "response.reasoning_summary_text.done": _summary_done,
        "response.reasoning_summary_part.added": _next_thought,
        "response.reasoning_summary_part.done": _summary_part_done,
        "response.reasoning_text.delta": _reasoning,
        "response.reasoning_text.done": _reasoning_done,
        "response.output_item.added": _item_begun,
        "response.output_item.done": _item_done,
        "response.function_call_arguments.delta": _arguments,
        "response.function_call_arguments.done": _all_arguments,
        "response.custom_tool_call_input.delta": _arguments,
        "response.custom_tool_call_input.done": _all_arguments,
        **dict.fromkeys(END_EVENTS, _end),
        "error": _error,
    }
    _items_table: ClassVar[
        Mapping[str, Callable[["ResponsesReader", dict[str, Any], object], Iterable[Event]]]
    ] = {
        "message": _message,
        "reasoning": _reasoned,
        **dict.fromkeys(ARGUMENTS, _call),
    }


def _parts(item: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    return [part for part in item.get(name) or () if isinstance(part, dict)]


def _texts(parts: Iterable[Mapping[str, Any]], *names: str) -> Iterable[str]:
    """The text of each part, under the first of these names that it has."""
    for part in parts:
        if text := next((found for name in names if isinstance(found := part.get(name), str) and found), ""):
            yield text


def _usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        input_tokens=count(usage, "input_tokens"),
        output_tokens=count(usage, "output_tokens"),
        cached_read_tokens=count(usage, "input_tokens_details", "cached_tokens"),
        cached_write_tokens=count(usage, "input_tokens_details", "cache_write_tokens"),
        reasoning_tokens=count(usage, "output_tokens_details", "reasoning_tokens"),
    )
