"""OpenAI's Responses API: the request, and a reader for its event stream. Sans I/O.

The API for OpenAI's own reasoning models: only here do tools and reasoning go together, and only here can
the reasoning be read, as a summary. It knows no seed, no penalties and no stop words.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from ollama_bridge.backends import openai_wire as wire
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.oddities import Oddities
from ollama_bridge.backends.openai_wire import Prepared
from ollama_bridge.backends.sealing import Kept, laid_out, seal, unseal
from ollama_bridge.backends.tool_choice import choice_for
from ollama_bridge.chat import ChatRequest, Message, ToolChoice
from ollama_bridge.errors import UpstreamBroken
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

INCOMPLETE: Final[Mapping[str, FinishReason]] = {
    "max_output_tokens": "length",
    "content_filter": "refusal",
    "max_messages": "length",
    "steered": "stop",
}
"""`incomplete_details.reason` to ours; an unknown one counts as `length`: the answer is not whole."""

SIGNED: Final = "responses"
"""The kind of what this backend seals: `reasoning` items, and the `phase` of messages."""

MIN_OUTPUT_TOKENS: Final = 16
"""The least the API takes as `max_output_tokens`."""

COUNTED: Final = frozenset(
    {"model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning", "text"}
)
"""What of a request is sent to have its tokens counted: the rest is refused there."""

# What of an item goes back. Not its id: what is not stored cannot be found by one, and that is an error.
_REASONING: Final = {"summary": list, "encrypted_content": str}
_PHASE: Final = {"phase": str}
_NAMES: Final = {"temperature": "temperature", "top_p": "top_p"}


def prepare(request: ChatRequest, messages: Sequence[Message], *, is_openai: bool) -> Prepared:
    """The body of one request, and what else is to be done about it.

    Args:
        request: The question; its own messages are not looked at.
        messages: Its conversation, repaired.
        is_openai: Whether OpenAI itself will read this: others may refuse what only it knows.
    """
    prepared = Prepared(request, _NAMES)
    body = prepared.body
    # Without anything else to say the instructions are the input: there must be one.
    spoken = next((place for place, message in enumerate(messages) if message.role != "system"), 0)
    body["input"] = [item for message in messages[spoken:] for item in _items(message, prepared)]
    body["stream"] = True
    body["store"] = False
    if is_openai:
        body["stream_options"] = {"include_obfuscation": False}
        body.update(wire.cache_key(request))
    if spoken:
        body["instructions"] = "\n\n".join(message.content for message in messages[:spoken])
    if request.tools:
        # `strict` defaults to true here, and would refuse most schemas that clients write.
        functions = map(prepared.function, wire.tools(request))
        body["tools"] = [{"type": "function", **function, "strict": False} for function in functions]
        _choose(request, prepared)
    if limit := wire.limit(request, is_openai=is_openai):
        body["max_output_tokens"] = max(MIN_OUTPUT_TOKENS, limit)
    if reasoning := _reasoning(request):
        body["reasoning"] = reasoning
    if request.format is not None:
        _format(body, request, messages[spoken:])
    include = ["reasoning.encrypted_content"] if _reasons_between_tools(request, is_openai=is_openai) else []
    if wire.wants_logprobs(request, prepared):
        include.append("message.output_text.logprobs")
        body["top_logprobs"] = request.top_logprobs
    if include:
        body["include"] = include
    body.update(prepared.sampling)
    return prepared


def _choose(request: ChatRequest, prepared: Prepared) -> None:
    match choice_for(request, prepared.dropped):
        case ToolChoice("tool", name):
            prepared.body["tool_choice"] = {"type": "function", "name": prepared.tool_names.to_wire(name)}
        case ToolChoice("none" | "required" as mode):
            prepared.body["tool_choice"] = mode
    if request.parallel_tool_calls is False:
        prepared.body["parallel_tool_calls"] = False


def _reasons_between_tools(request: ChatRequest, *, is_openai: bool) -> bool:
    """Whether the reply may hold reasoning that its next turn is better with. Others' servers may not know it."""
    rules = request.target.rules
    return bool(request.tools) and wire.thinks(rules) and (is_openai or rules.api == "responses")


def _reasoning(request: ChatRequest) -> dict[str, str]:
    target, think, out = request.target, request.think, {}
    if word := wire.effort(think, target.rules):
        out["effort"] = str(word)
    # Ollama's thinking models show their thoughts unless told not to.
    shows = "thinking" in target.capabilities if think is None else think is not False
    if shows and wire.thinks(target.rules):
        out["summary"] = "auto"
    return out


def _format(body: dict[str, Any], request: ChatRequest, messages: Sequence[Message]) -> None:
    schema, hint = request.format, ""
    if isinstance(schema, Mapping) and request.target.rules.schema:
        described = {"type": "json_schema", "name": "response", "schema": dict(schema), "strict": False}
        body["text"] = {"format": described}
        return
    body["text"] = {"format": {"type": "json_object"}}
    if isinstance(schema, Mapping):
        hint = wire.schema_hint(schema)
    elif not wire.speaks_of_json(messages):
        hint = wire.JSON_HINT
    if hint:  # in the input: the API does not look for the word among the instructions
        body["input"].insert(0, {"role": "developer", "content": hint})


def _items(message: Message, prepared: Prepared) -> Iterator[dict[str, Any]]:
    if message.role == "system":
        yield {"role": "developer", "content": message.content}
    elif message.role == "user":
        yield {"role": "user", "content": _content(message)}
    elif message.role == "tool":
        yield {
            "type": "function_call_output",
            "call_id": message.tool_call_id,
            "output": _content(message),
        }
    else:
        kept = unseal(SIGNED, prepared.body["model"], message.sealed, _is_ours)
        for said, piece in laid_out(message, kept):
            if isinstance(said, ToolCall):
                yield {"type": "function_call", "call_id": said.id, **prepared.call(said)}
            elif said:
                yield {"role": "assistant", "content": said, **(piece or {})}
            elif piece and "encrypted_content" in piece:
                yield {"type": "reasoning", **piece}


def _is_ours(kept: Kept) -> bool:
    fields = {name: type(value) for name, value in kept.piece.items()}
    return fields == (_PHASE if kept.covers else _REASONING)


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.images:
        return message.content
    text = [{"type": "input_text", "text": message.content}] if message.content else []
    return [
        *text,
        *(
            {"type": "input_image", "detail": "auto", "image_url": wire.data_url(image)}
            for image in message.images
        ),
    ]


class ResponsesReader:
    """Turns stream events into ours: feed it the payloads of one stream, then close it.

    `Finish` comes with `response.completed` or `response.incomplete`, and only then.

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
        self.calling = False
        """Whether a tool call has begun and is not whole."""
        self.moved = False
        """Whether the last event of which none of ours came was more than a sign of life."""
        self._failures = failures
        self._model = model
        self._turn = turn
        self._tool_names = tool_names or {}
        self._wants_logprobs = logprobs
        self._logprobs: tuple[TokenLogprob, ...] = ()
        self._calls = 0
        self._chars = 0
        self._kept: list[Kept] = []
        self._has_half_call = False
        self._refused = False
        self._thought = False
        self._usage: Mapping[str, Any] = {}
        self._odd = Oddities(failures.provider, model)

    def feed(self, event: Any) -> Iterable[Event]:
        """Our events for one of theirs.

        Raises:
            UpstreamError: It reports a failure, or ends a reply that makes no sense.
            AttributeError, LookupError, TypeError: It has not the shape it should have (`Failures.mapped`).
        """
        read = self._table.get(event.get("type"))
        if read is not None:
            return read(self, event)
        self.moved = event.get("type") != "keepalive"
        if event.get("error") or event.get("object") == "error":
            raise self._failures.told(event, self._model)
        return ()

    def close(self) -> Iterable[Event]:
        """The stream has ended; whoever ends a reply here says so in an event of its own."""
        return ()

    def usage(self) -> Usage | None:
        """What the provider has told of the tokens: only at the end, but also at a bad one."""
        return _usage(self._usage) if self._usage else None

    def _text(self, event: dict[str, Any]) -> Iterable[Event]:
        text = event["delta"]
        if self._wants_logprobs:
            self._logprobs += wire.token_logprobs(event.get("logprobs"))
        if text.__class__ is not str:
            raise TypeError("a delta that is no text")
        if not text:
            return ()
        self._chars += len(text)
        found, self._logprobs = self._logprobs, ()
        return (TextDelta(text, found),)

    def _refusal(self, event: dict[str, Any]) -> Iterable[Event]:
        self._refused = True
        return self._text(event)

    def _thinking(self, event: dict[str, Any]) -> Iterable[Event]:
        thought = event["delta"]
        if thought.__class__ is not str:
            raise TypeError("a delta that is no text")
        if not thought:
            return ()
        self._thought = True
        return (ThinkingDelta(thought),)

    def _next_thought(self, _: dict[str, Any]) -> Iterable[Event]:
        # Parts are paragraphs, each under its own heading.
        return (ThinkingDelta("\n\n"),) if self._thought else ()

    def _begun(self, event: dict[str, Any]) -> Iterable[Event]:
        self.calling = event["item"].get("type") == "function_call"
        self.moved = True
        return ()

    def _item(self, event: dict[str, Any]) -> Iterable[Event]:
        item = event["item"]
        self.calling, self.moved = False, True
        if item.get("type") != "function_call":
            self._keep(item)
            return ()
        arguments = wire.call_arguments(item.get("arguments"))
        if arguments is None or not item.get("name"):
            self._has_half_call = True  # whether that is a fault, the end will tell
            return ()
        name = item["name"]
        if not isinstance(name, str):
            raise TypeError("a name that is no text")
        made = call_id(self._turn, self._calls, name)
        self._calls += 1
        given = str(item.get("call_id") or item.get("id") or made)
        return (ToolCall(given, self._tool_names.get(name, name), arguments),)

    def _keep(self, item: dict[str, Any]) -> None:
        """Keep what belongs back into the next request, here and nowhere else complete."""
        kind = item.get("type")
        if kind == "reasoning" and item.get("encrypted_content"):
            piece = {"summary": item.get("summary") or [], "encrypted_content": item["encrypted_content"]}
            self._kept.append(Kept(self._calls, self._chars, 0, piece))
        elif kind == "message" and item.get("phase"):
            texts = (part.get("text") or part.get("refusal") or "" for part in item.get("content") or ())
            size = sum(map(len, texts))
            self._kept.append(Kept(self._calls, max(self._chars - size, 0), size, {"phase": item["phase"]}))

    def _sealed(self) -> bytes:
        """Reasoning is wanted back with the results of the calls it led to; of a last answer, only its phase."""
        kept = self._kept if self._calls else [one for one in self._kept if "phase" in one.piece]
        return seal(SIGNED, self._model, kept)

    def _completed(self, event: dict[str, Any]) -> Iterable[Event]:
        return self._end(event, "tool_calls" if self._calls else "stop", "completed")

    def _incomplete(self, event: dict[str, Any]) -> Iterable[Event]:
        why = (event["response"].get("incomplete_details") or {}).get("reason") or "incomplete"
        return self._end(event, INCOMPLETE.get(why, "length"), why)

    def _end(self, event: dict[str, Any], reason: FinishReason, detail: str) -> Iterable[Event]:
        if self._has_half_call and reason != "length":
            raise UpstreamBroken(wire.HALF_CALL, provider=self._failures.provider, model=self._model)
        if self._refused:
            reason = "refusal"
        self.done = True
        finish = Finish(
            reason, _usage(self._odd.usage(event["response"].get("usage"))), detail, self._sealed()
        )
        if reason == "refusal" and not self._chars:
            return (TextDelta(wire.FILTERED), finish)
        return (finish,)

    def _failed(self, event: dict[str, Any]) -> Iterable[Event]:
        self._usage = self._odd.usage(event["response"].get("usage"))
        raise self._failures.told(event["response"].get("error") or {}, self._model)

    def _error(self, event: dict[str, Any]) -> Iterable[Event]:
        raise self._failures.told(event, self._model)

    _table: ClassVar[Mapping[str, Callable[["ResponsesReader", dict[str, Any]], Iterable[Event]]]] = {
        "response.output_text.delta": _text,
        "response.refusal.delta": _refusal,
        "response.reasoning_summary_text.delta": _thinking,
        "response.reasoning_text.delta": _thinking,
        "response.reasoning_summary_part.added": _next_thought,
        "response.output_item.added": _begun,
        "response.output_item.done": _item,
        "response.completed": _completed,
        "response.incomplete": _incomplete,
        "response.failed": _failed,
        "error": _error,
    }


def _usage(usage: Mapping[str, Any]) -> Usage:
    return Usage(
        input_tokens=wire.count(usage, "input_tokens"),
        output_tokens=wire.count(usage, "output_tokens"),
        cached_read_tokens=wire.count(usage, "input_tokens_details", "cached_tokens"),
        cached_write_tokens=wire.count(usage, "input_tokens_details", "cache_write_tokens"),
        reasoning_tokens=wire.count(usage, "output_tokens_details", "reasoning_tokens"),
    )
