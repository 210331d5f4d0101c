"""Chat Completions: the request as OpenAI and its many imitators take it, and a reader for what they send.

Sans I/O. The reader bears with every shape known of a compatible vendor (`providers.md` §2.9): reasoning
under five names, content as a list, tool calls without index or with the same one, errors in mid-stream.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import structlog

from ollama_bridge.backends import cohere_stream, openai_messages
from ollama_bridge.backends import openai_wire as wire
from ollama_bridge.backends.dialect import Dialect
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.framing import DONE
from ollama_bridge.backends.openai_calls import Calls
from ollama_bridge.backends.openai_thoughts import Thoughts
from ollama_bridge.backends.openai_wire import Prepared
from ollama_bridge.backends.tool_choice import choice_for
from ollama_bridge.backends.usage import count
from ollama_bridge.chat import ChatRequest, Message, ToolChoice
from ollama_bridge.events import (
    Event,
    Finish,
    FinishReason,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    Usage,
)

log = structlog.get_logger(__name__)

FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "refusal",
    # Vendors' own words, from here on.
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "end_turn": "stop",
    "completed": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
    "safety": "refusal",
    "sensitive": "refusal",
    "blacklist": "refusal",  # GigaChat
    # Cohere's own
    "complete": "stop",
    "tool_call": "tool_calls",
    "error_limit": "length",
    "error_toxic": "refusal",
}
"""`finish_reason`, in lower case, to ours; an unknown word counts as `stop`."""

FAILURES: Final[Mapping[str, str]] = {
    "error": "server_error",
    "network_error": "server_error",
    "insufficient_system_resource": "overloaded_error",
    "abort": "server_error",
    "timeout": "timeout_error",
}
"""Words in `finish_reason` that mean there is no answer, to the kind of error they stand for."""

_ANY_OBJECT: Final = {"type": "object"}
_REASONING: Final = ("reasoning_content", "reasoning", "reasoning_text", "thinking", "reasoning_details")


def prepare(request: ChatRequest, messages: Sequence[Message], dialect: Dialect) -> Prepared:
    """The body of one request, and what else is to be done about it.

    Args:
        request: The question; its own messages are not looked at.
        messages: Its conversation, repaired.
        dialect: Of who will read this.
    """
    rules, prepared = request.target.rules, Prepared(request, dialect.names, dialect.bounds)
    body = prepared.body
    format_, hint = _format(request, messages, dialect)
    hinted = (Message("system", hint), *messages) if hint else messages
    body["messages"] = openai_messages.to_wire(hinted, prepared, rules, dialect)
    body["stream"] = True
    if dialect.echo is not None:
        in_loop = any(message.tool_calls for message in messages)
        prepared.reading["thoughts"] = Thoughts(dialect.echo, in_loop=in_loop)
    if dialect.stream_options:
        body["stream_options"] = {"include_usage": True}
        if dialect.pads:
            body["stream_options"]["include_obfuscation"] = False
    if dialect.cache_key:
        body.update(wire.cache_key(request))
    if request.tools:
        _tools(request, prepared, dialect)
    if limit := wire.limit(request, dialect):
        body[rules.max_tokens_field] = limit
    able = dialect.asks_all or "thinking" in request.target.capabilities
    asked = request if able else replace(request, think=None)
    body.update(dialect.think(asked, wire.effort(asked.think, rules)))
    body.update(format_)
    if wire.wants_logprobs(request, prepared):
        body["logprobs"] = True
        if request.top_logprobs:
            body["top_logprobs"] = request.top_logprobs
    body.update(prepared.sampling)
    body.update(dialect.always)
    return prepared


def _tools(request: ChatRequest, prepared: Prepared, dialect: Dialect) -> None:
    choice, body = choice_for(request, prepared.dropped), prepared.body
    if choice.mode == "none" and "none" not in dialect.tool_choice:
        return  # who is shown no tools calls none
    functions = map(prepared.function, wire.tools(request))
    body["tools"] = [{"type": "function", "function": function} for function in functions]
    body.update(dialect.while_tools)
    match choice:
        case ToolChoice("tool", name):
            function = {"name": prepared.tool_names.to_wire(name)}
            body["tool_choice"] = {"type": "function", "function": function}
        case ToolChoice("none" | "required" as mode):
            body["tool_choice"] = dialect.tool_choice[mode]
    # True is what happens anyway, and not every vendor knows the word.
    if request.parallel_tool_calls is False:
        if dialect.parallel_tool_calls:
            body["parallel_tool_calls"] = False
        else:
            prepared.dropped.append("parallel_tool_calls")


def _format(
    request: ChatRequest, messages: Sequence[Message], dialect: Dialect
) -> tuple[Mapping[str, Any], str]:
    """What the answer is to look like, and the words that say so as well where they are needed."""
    asked, any_json = request.format, {"response_format": {"type": "json_object"}}
    if asked is None:
        return {}, ""
    if not isinstance(asked, Mapping):
        hint = "" if wire.speaks_of_json(messages) else wire.JSON_HINT
        return (any_json if dialect.json_object else _schema(_ANY_OBJECT)), hint
    if not request.target.rules.schema:
        return any_json, wire.schema_hint(asked)
    return _schema(asked), ""


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    # Not strict: strict demands `additionalProperties: false` everywhere, which clients do not write.
    described = {"name": "response", "schema": dict(schema), "strict": False}
    return {"response_format": {"type": "json_schema", "json_schema": described}}


class ChatReader:
    """Turns chunks into events: feed it the payloads of one stream, then close it.

    `Finish` comes only if a `finish_reason` came, and then with the usage: at the chunk that carries
    nothing else, or at the close.

    Args:
        failures: Makes our errors of those that the stream reports.
        model: Who is answering, for errors.
        turn: Position of the answer in the conversation, from which missing call ids are made.
        logprobs: Whether log probabilities were asked for.
        tool_names: A tool's name on the wire to the client's, where they differ.
        thoughts: Where reasoning is kept that is wanted back.
    """

    def __init__(
        self,
        failures: Failures,
        model: str,
        *,
        turn: int = 0,
        logprobs: bool = False,
        tool_names: Mapping[str, str] | None = None,
        thoughts: Thoughts | None = None,
    ) -> None:
        self.done = False
        """Whether `Finish` is out; what follows is not read."""
        self.moved = False
        """Whether the last chunk was more than a sign of life."""
        self._failures = failures
        self._model = model
        self._wants_logprobs = logprobs
        self._logprobs: tuple[TokenLogprob, ...] = ()
        self._calls = Calls(failures, model, turn, tool_names or {})
        self._thoughts = thoughts
        self._finish = ""
        self._refused = False
        self._spoke = False
        self._usage: Mapping[str, Any] = {}
        self._word: Mapping[str, Any] = {}  # the last chunk that was one word and nothing else

    @property
    def calling(self) -> bool:
        """Whether a tool call has begun and is not told yet."""
        return self._calls.are_pending

    def feed(self, chunk: Any) -> Iterable[Event]:
        """The events of one chunk.

        Raises:
            UpstreamError: The chunk reports an error, or ends a reply that makes no sense.
            AttributeError, LookupError, TypeError: It has not the shape of a chunk (`Failures.mapped`).
        """
        choices = chunk.get("choices")
        if choices and len(choices) == 1 and not self._wants_logprobs:
            # Nearly all chunks are one word and nothing else: they take the short way.
            choice = choices[0]
            delta = choice.get("delta")
            if (
                delta
                and len(delta) == 1
                and (text := delta.get("content")).__class__ is str
                and text
                and not choice.get("finish_reason")
                and not choice.get("index")
            ):
                self._spoke = True
                self._word = chunk
                return (TextDelta(text),)
        return self._read(chunk)

    def close(self) -> Iterable[Event]:
        """The stream has ended: `Finish`, if there was a reason to."""
        if self.done or not self._finish:
            return ()
        self.done = True
        events: list[Event] = [*self._calls.take(is_cut_off=self._reason() == "length")]
        reason = self._reason()
        if reason is None:
            log.info("unknown finish reason", model=self._model, reason=self._finish[:64])
            reason = "stop"
        if self._refused:
            reason = "refusal"
        elif reason == "stop" and self._calls.were_taken:
            reason = "tool_calls"
        if reason == "refusal" and not self._spoke:
            events.append(TextDelta(wire.FILTERED))
        thoughts, has_calls = self._thoughts, self._calls.were_taken
        sealed = thoughts.sealed(self._model, has_calls=has_calls) if thoughts else b""
        events.append(Finish(reason, _usage(self._usage), self._finish, sealed))
        return events

    def _ended(self) -> Iterable[Event]:
        """`[DONE]`: whoever answered and gave no reason to end, as Snowflake's Claude, has stopped by itself."""
        if not self._finish and (self._spoke or self._calls.are_pending):
            self._finish = "stop"
        return self.close()

    def usage(self) -> Usage | None:
        """What the provider has told so far of the tokens; some do with every chunk."""
        usage = self._word.get("usage") or self._usage
        return _usage(usage) if usage else None

    def _reason(self) -> FinishReason | None:
        return FINISH_REASONS.get(self._finish.lower())

    def _read(self, chunk: Mapping[str, Any]) -> list[Event]:
        if chunk.get("error") or chunk.get("object") == "error":
            raise self._failures.told(chunk, self._model)
        if "choices" not in chunk:
            if chunk is DONE:
                return [*self._ended()]
            chunk = cohere_stream.chunk_of(chunk) or chunk
        usage = chunk.get("usage")
        if not usage and (groq := chunk.get("x_groq")):
            usage = groq.get("usage")
        if usage and (usage := self._failures.usage(usage, self._model)):
            self._usage = usage
        events: list[Event] = []
        self.moved = False
        choices = chunk.get("choices") or ()
        for choice in choices:
            if not choice.get("index"):
                self._choice(choice, events)
        if self._finish and usage and not choices:
            events += self.close()
        return events

    def _choice(self, choice: dict[str, Any], events: list[Event]) -> None:
        if error := choice.get("error"):
            raise self._failures.told(error, self._model)
        if self._wants_logprobs and (found := choice.get("logprobs")):
            self._logprobs += wire.token_logprobs(found.get("content"))
        delta = choice.get("delta")
        if delta is None and not (self._spoke or self._calls.are_pending or self._calls.were_taken):
            delta = choice.get("message")  # all of it in one event; behind other events some repeat it there
        delta = delta or {}
        thought = _reasoning(delta)
        if thought:
            events.append(ThinkingDelta(thought))
        if self._thoughts is not None:
            self._thoughts.add(delta, thought)
        content = delta.get("content", choice.get("text"))  # `text`: of Completions
        if isinstance(content, str):
            self._say(content, events)
        else:
            for part in content or ():
                self._part(part, events)
        if refusal := delta.get("refusal"):
            self._refused = True
            self._say(refusal, events)
        for fragment in delta.get("tool_calls") or ():
            self._calls.add(fragment)
        if legacy := delta.get("function_call"):
            self._calls.add({"index": "function_call", "function": legacy})
        self.moved = bool(events) or any(delta.values())
        if word := choice.get("finish_reason"):
            if kind := FAILURES.get(str(word).lower()):
                told = {"type": kind, "message": f"the reply ended with '{word}'"}
                raise self._failures.told(told, self._model)
            self._finish = str(word)
            events += self._calls.take(is_cut_off=self._reason() == "length")

    def _say(self, text: Any, events: list[Event]) -> None:
        if not isinstance(text, str):
            raise TypeError("text that is none")
        if text:
            self._spoke = True
            events.append(TextDelta(text, self._logprobs))
            self._logprobs = ()

    def _part(self, part: Any, events: list[Event]) -> None:
        """One part of a content list: Mistral's reasoning models send them."""
        if isinstance(part, str):
            self._say(part, events)
        elif part.get("type") == "text":
            self._say(part.get("text") or "", events)
        elif part.get("type") == "thinking" and (thought := _joined(part.get("thinking"))):
            events.append(ThinkingDelta(thought))


def _reasoning(delta: dict[str, Any]) -> str:
    for name in _REASONING:
        if (found := delta.get(name)) and (thought := _joined(found)):
            return thought
    return ""


def _joined(thought: Any) -> str:
    """Reasoning as text: a string, an object with some, or a list of these."""
    if not thought or isinstance(thought, str):
        return thought or ""
    if isinstance(thought, dict):
        return str(thought.get("text") or thought.get("summary") or thought.get("content") or "")
    return "".join(map(_joined, thought))


def _usage(usage: Mapping[str, Any]) -> Usage:
    reasoning = count(usage, "completion_tokens_details", "reasoning_tokens") or count(
        usage, "reasoning_tokens"
    )
    asked, answered = count(usage, "prompt_tokens"), count(usage, "completion_tokens")
    if reasoning and count(usage, "total_tokens") == asked + answered + reasoning:
        answered += reasoning  # xAI counts reasoning beside the completion, everybody else in it
    return Usage(
        input_tokens=asked,
        output_tokens=answered,
        cached_read_tokens=count(usage, "prompt_tokens_details", "cached_tokens")
        or count(usage, "prompt_cache_hit_tokens")
        or count(usage, "num_cached_tokens")
        or count(usage, "cached_tokens")
        or count(usage, "precached_prompt_tokens"),
        cached_write_tokens=count(usage, "prompt_tokens_details", "cache_write_tokens"),
        reasoning_tokens=reasoning,
    )
