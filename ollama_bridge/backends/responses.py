"""What OpenAI's Responses API is asked. Sans I/O; `responses_stream` reads the reply.

The API for OpenAI's own reasoning models: only here do tools and reasoning go together, and only here can
the reasoning be read, as a summary. It knows no seed, no penalties and no stop words.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ollama_bridge.backends import openai_wire as wire
from ollama_bridge.backends.dialect import OPENAI, Dialect
from ollama_bridge.backends.openai_wire import Prepared
from ollama_bridge.backends.responses_stream import SIGNED
from ollama_bridge.backends.sealing import Kept, laid_out, unseal
from ollama_bridge.backends.tool_choice import choice_for
from ollama_bridge.chat import ChatRequest, Message, ToolChoice
from ollama_bridge.events import ToolCall

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


def prepare(request: ChatRequest, messages: Sequence[Message], dialect: Dialect) -> Prepared:
    """The body of one request, and what else is to be done about it.

    Args:
        request: The question; its own messages are not looked at.
        messages: Its conversation, repaired.
        dialect: Of who will read this: others than OpenAI may refuse what only it knows.
    """
    prepared = Prepared(request, _NAMES)
    body = prepared.body
    # Without anything else to say the instructions are the input: there must be one.
    spoken = next((place for place, message in enumerate(messages) if message.role != "system"), 0)
    body["input"] = [item for message in messages[spoken:] for item in _items(message, prepared)]
    body["stream"] = True
    body["store"] = False
    if dialect.pads:
        body["stream_options"] = {"include_obfuscation": False}
    if dialect.cache_key:
        body.update(wire.cache_key(request))
    if spoken:
        body["instructions"] = "\n\n".join(message.content for message in messages[:spoken])
    if request.tools:
        # `strict` defaults to true here, and would refuse most schemas that clients write.
        functions = map(prepared.function, wire.tools(request))
        body["tools"] = [{"type": "function", **function, "strict": False} for function in functions]
        _choose(request, prepared)
    if limit := wire.limit(request, dialect):
        body["max_output_tokens"] = max(MIN_OUTPUT_TOKENS, limit)
    if reasoning := _reasoning(request):
        body["reasoning"] = reasoning
    if request.format is not None:
        _format(body, request, messages[spoken:])
    include = ["reasoning.encrypted_content"] if _reasons_between_tools(request, dialect) else []
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


def _reasons_between_tools(request: ChatRequest, dialect: Dialect) -> bool:
    """Whether the reply may hold reasoning that its next turn is better with. Others' servers may not know it."""
    rules = request.target.rules
    return bool(request.tools) and wire.thinks(rules) and (dialect is OPENAI or rules.api == "responses")


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
