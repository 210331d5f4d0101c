"""Replies of /v1/responses, sans I/O: events in, server-sent events or one whole object out.

An encoder serves one reply. Beyond what a real server does (`ollama-api.md` §7.5) every item that was opened is
closed, has an index of its own and stands in its place in the last object, text beside calls is kept, a reply
that was cut short says so, and a failure is told.

Keys are in the order of Ollama's Go structs in a whole reply, and sorted in a stream, as there.
"""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, assert_never

import orjson

from ollama_bridge.errors import BridgeError, RequestError, UpstreamBusy, UpstreamRejected
from ollama_bridge.events import Aside, Event, Finish, FinishReason, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_bridge.surfaces import gojson, said
from ollama_bridge.surfaces.converter import JSON, UNCACHED_SSE
from ollama_bridge.surfaces.responses_items import (
    MESSAGE,
    NUMBERS,
    REASONING,
    Item,
    Items,
    Kind,
    OpenItem,
    Status,
    text_part,
)
from ollama_bridge.surfaces.responses_tools import Form

_INCOMPLETE: Final[Mapping[FinishReason, str]] = {"length": "max_output_tokens", "refusal": "content_filter"}
"""Why a reply is not whole, in OpenAI's words."""

_EMPTY_LOGPROBS: Final = b'"logprobs":[]'


class ResponsesEncoder:
    """Encodes one /v1/responses reply.

    Args:
        model: The name as the client sent it.
        echo: What of the request the response object repeats: `ResponsesCall.echo`.
        forms: Tools that are no plain functions, by the name the model calls them.
        now: The wall clock, in seconds since 1970.
        number: From which the ids are made, below `NUMBERS`; default: any.
    """

    stream_headers: ClassVar[Mapping[str, str]] = UNCACHED_SSE
    whole_headers: ClassVar[Mapping[str, str]] = {"Content-Type": JSON}

    def __init__(
        self,
        model: str,
        echo: Mapping[str, Any],
        *,
        forms: Mapping[str, Form],
        now: Callable[[], float] = time.time,
        number: int | None = None,
    ) -> None:
        number = random.randrange(NUMBERS) if number is None else number  # noqa: S311 - a name, no secret
        self._id = f"resp_{number}"
        self._model = model
        self._echo = echo
        self._now = now
        self._created_at = int(now())
        self._sequence = 0
        self._items = Items(number, forms)
        self._kept: list[Event] = []

    def encode(self, event: Event) -> bytes:
        """Whole server-sent events; before the first of them what opens every response."""
        item = self._items.open
        if type(event) is TextDelta and item is not None and item.kind is MESSAGE:  # nearly always
            return self._delta(item, event)
        begun = b"" if self._sequence else self._begin()
        match event:
            case TextDelta():
                return begun + self._turn_to(MESSAGE, event)
            case ThinkingDelta():
                return begun + self._turn_to(REASONING, event)
            case ToolCall():
                return begun + self._close("completed") + self._call(event)
            case Finish():
                return begun + self._end(event)
            case Aside():
                return begun
            case _:
                assert_never(event)

    def heartbeat(self) -> bytes:
        """The opening, then its second event again: Codex counts events, not comments, to tell whether we live."""
        return self._in_progress() if self._sequence else self._begin()

    def add(self, event: Event) -> None:
        """Keep an event for `whole`."""
        self._kept.append(event)

    def error(self, exc: BridgeError) -> bytes:
        """The end of a stream that failed.

        What is open stays open: Codex takes an item that was closed into the conversation, and then asks again.
        """
        begun = b"" if self._sequence else self._begin()
        self._items.shut("incomplete")
        failed = self._response("failed", error={"code": _code(exc), "message": _told(exc)})
        return begun + self._event("response.failed", response=failed)

    def whole(self) -> bytes:
        """The reply that is not streamed: what was added, as one object with a newline.

        Raises:
            ValueError: The last event is no `Finish`: half a reply is not shown as a whole one.
        """
        events, finish = said.whole(self._kept)
        self._fold(events)
        if not self._items.have_answer:
            self._items.shut()
            self._items.start(MESSAGE)
        self._items.shut(_status(finish))
        return gojson.escape(orjson.dumps(self._finished(finish))) + b"\n"

    def _fold(self, events: Sequence[Event]) -> None:
        items = self._items
        for event in events:
            if isinstance(event, TextDelta | ThinkingDelta):
                kind = MESSAGE if isinstance(event, TextDelta) else REASONING
                item = items.open
                if item is None or item.kind is not kind:
                    items.shut()
                    item = items.start(kind)
                item.pieces.append(event.text)
                if isinstance(event, TextDelta):
                    item.logprobs += event.logprobs
            elif isinstance(event, ToolCall):
                items.shut()
                items.call(event)

    def _turn_to(self, kind: Kind, event: TextDelta | ThinkingDelta) -> bytes:
        """The event, in an item of its kind: what else is open is closed."""
        item, opened = self._items.open, b""
        if item is None or item.kind is not kind:
            opened = self._close("completed")
            item = self._items.start(kind)
            opened += self._added(item)
        return opened + self._delta(item, event)

    def _delta(self, item: OpenItem, event: TextDelta | ThinkingDelta) -> bytes:
        text, middle = event.text, item.middle
        item.pieces.append(text)
        if type(event) is TextDelta and event.logprobs:
            item.logprobs += event.logprobs
            middle = middle.replace(_EMPTY_LOGPROBS, b'"logprobs":' + said.logprobs(event.logprobs), 1)
        sequence = self._sequence
        self._sequence = sequence + 1
        kind = item.kind
        return b"".join((kind.before, gojson.dump_text(text), middle, b"%d" % sequence, kind.after))

    def _added(self, item: OpenItem) -> bytes:
        added = self._event("response.output_item.added", item=item.begun(), output_index=item.index)
        if item.kind is REASONING:
            return added
        return added + self._event("response.content_part.added", part=text_part(""), **item.place)

    def _close(self, status: Status) -> bytes:
        item = self._items.open
        if item is None:
            return b""
        self._items.shut(status)
        whole = self._items.done[-1]
        if item.kind is REASONING:
            text = whole["summary"][0]["text"]
            done = self._event("response.reasoning_summary_text.done", text=text, **item.place)
        else:
            part: Item = whole["content"][0]
            likely, text = part["logprobs"], part["text"]
            done = self._event("response.output_text.done", text=text, logprobs=likely, **item.place)
            done += self._event("response.content_part.done", part=part, **item.place)
        return done + self._event("response.output_item.done", item=whole, output_index=item.index)

    def _call(self, call: ToolCall) -> bytes:
        index = len(self._items.done)
        item = self._items.call(call)
        custom = item["type"] == "custom_tool_call"
        key, kind = (
            ("input", "custom_tool_call_input") if custom else ("arguments", "function_call_arguments")
        )
        place = {"item_id": item["id"], "output_index": index}
        begun = {**item, "status": "in_progress", key: ""}
        return b"".join(
            (
                self._event("response.output_item.added", item=begun, output_index=index),
                self._event(f"response.{kind}.delta", delta=item[key], **place),
                self._event(f"response.{kind}.done", **{key: item[key]}, **place),
                self._event("response.output_item.done", item=item, output_index=index),
            )
        )

    def _begin(self) -> bytes:
        created = self._event("response.created", response=self._response("in_progress"))
        return created + self._in_progress()

    def _in_progress(self) -> bytes:
        return self._event("response.in_progress", response=self._response("in_progress"))

    def _end(self, finish: Finish) -> bytes:
        """The last events.

        A reply that was cut short ends with `response.completed` too, as a real server's does, and says so in
        its status: at `response.incomplete` Codex asks again, and the `openai` package finds no response at all.
        """
        opened = b""
        if not self._items.have_answer:
            opened = self._close("completed")
            opened += self._added(self._items.start(MESSAGE))
        closed = self._close(_status(finish))
        return opened + closed + self._event("response.completed", response=self._finished(finish))

    def _finished(self, finish: Finish) -> Item:
        why = _INCOMPLETE.get(finish.reason)
        return self._response(
            _status(finish),
            details={"reason": why} if why else None,
            usage=_usage(finish.usage),
            completed_at=int(self._now()),
            answered_by=finish.answered_by,
        )

    def _response(
        self,
        status: Status | Literal["failed"],
        *,
        error: Mapping[str, str] | None = None,
        details: Mapping[str, str] | None = None,
        usage: Mapping[str, Any] | None = None,
        completed_at: int | None = None,
        answered_by: str = "",
    ) -> Item:
        echo = self._echo
        metadata = echo["metadata"]
        if answered_by:  # where any client expects keys that it does not know
            metadata = {**orjson.loads(orjson.dumps(metadata)), "answered_by": answered_by}
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created_at,
            "completed_at": completed_at,
            "status": status,
            "incomplete_details": details,
            "model": self._model,
            "previous_response_id": None,
            "instructions": echo["instructions"],
            "output": [] if status == "in_progress" else self._items.done,
            "error": error,
            "tools": echo["tools"],
            "tool_choice": echo["tool_choice"],
            "truncation": echo["truncation"],
            "parallel_tool_calls": echo["parallel_tool_calls"],
            "text": echo["text"],
            "top_p": echo["top_p"],
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "top_logprobs": echo["top_logprobs"],
            "temperature": echo["temperature"],
            "reasoning": echo["reasoning"],
            "usage": usage,
            "max_output_tokens": echo["max_output_tokens"],
            "max_tool_calls": None,
            "store": False,
            "background": echo["background"],
            "service_tier": "default",
            "metadata": metadata,
            "safety_identifier": None,
            "prompt_cache_key": echo["prompt_cache_key"],
        }

    def _event(self, kind: str, **fields: Any) -> bytes:
        payload = {**fields, "sequence_number": self._sequence, "type": kind}
        self._sequence += 1
        data = gojson.escape(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS))
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _status(finish: Finish) -> Status:
    return "incomplete" if finish.reason in _INCOMPLETE else "completed"


def _usage(usage: Usage) -> Item:
    # A real server has only the first of the two; the `openai` package's types want both.
    cached = {"cached_tokens": usage.cached_read_tokens, "cache_write_tokens": usage.cached_write_tokens}
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "input_tokens_details": cached,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _code(exc: BridgeError) -> str:
    """OpenAI's word for a failure. Codex asks again at all but the first."""
    if isinstance(exc, RequestError | UpstreamRejected):
        return "invalid_prompt"
    limited = isinstance(exc, UpstreamBusy) and exc.status == 429
    return "rate_limit_exceeded" if limited else "server_error"


def _told(exc: BridgeError) -> str:
    if exc.retry_after_s is None:
        return str(exc)
    # In a stream there is no Retry-After: Codex reads it from these words.
    return f"{exc}; try again in {math.ceil(exc.retry_after_s)}s"
