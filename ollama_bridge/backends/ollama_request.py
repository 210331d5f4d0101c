"""What a real Ollama is asked: in the client's own words while they hold, else put anew. Pure."""

import operator
from collections.abc import Sequence
from typing import Any

import structlog

from ollama_bridge.backends.tool_choice import AUTO
from ollama_bridge.chat import ChatRequest, EmbedRequest, Message, Tool
from ollama_bridge.native import Native, called

log = structlog.get_logger(__name__)


def in_own_words(request: ChatRequest) -> tuple[str, dict[str, Any]] | None:
    """The route and the body that the client itself sent; None: it sent none, or it is no longer what is asked.

    A model's name is not the client's but the provider's, the answer is always streamed, and generation options of a
    preset come in beside the client's. Whoever changes more of a conversation (a preset's messages, `recall`,
    `resume`, `infill`) has put other objects in its place, which is how it is noticed.
    """
    native = request.native
    if native is None:
        return None
    parts = (request.messages, request.tools, request.format, request.think, request.infill)
    if not all(map(operator.is_, parts, native.read_as)):
        return None
    return native.route, {**_in_own_words(native, request), "stream": True}


def embed_in_own_words(request: EmbedRequest) -> tuple[str, dict[str, Any]] | None:
    """As `in_own_words`, for texts."""
    native = request.native
    return None if native is None else (native.route, _in_own_words(native, request))


def to_body(request: ChatRequest) -> dict[str, Any]:
    """The body of `POST /api/chat` or `/api/generate`: everything the client asked for, in Ollama's own terms."""
    body: dict[str, Any] = {"model": request.target.model, **_question(request), "stream": True}
    if tools := _offered(request):
        body["tools"] = [_tool(tool) for tool in tools]
    if request.format is not None:
        body["format"] = request.format if isinstance(request.format, str) else dict(request.format)
    if request.think is not None:
        body["think"] = request.think
    body |= _settings(request)
    if request.logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    return body


def to_embed_body(request: EmbedRequest) -> dict[str, Any]:
    """The body of `POST /api/embed`."""
    body: dict[str, Any] = {
        "model": request.target.model,
        "input": list(request.inputs),
        "truncate": request.truncate,
    }
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return body | _settings(request)


def _in_own_words(native: Native, request: ChatRequest | EmbedRequest) -> dict[str, Any]:
    body = {**native.body, "model": called(request.model, request.target.model)}
    if request.options != native.options:
        body["options"] = dict(request.options)
    return body


def _settings(request: ChatRequest | EmbedRequest) -> dict[str, Any]:
    """What a chat and embeddings are told alike."""
    options = {"options": dict(request.options)} if request.options else {}
    return options if request.keep_alive_s is None else {**options, "keep_alive": request.keep_alive_s}


def _offered(request: ChatRequest) -> Sequence[Tool]:
    """Ollama cannot be told which tools to call; but those that it is not offered it will not call."""
    choice, dropped = request.tool_choice or AUTO, []
    if request.tools:
        dropped += ["tool_choice"] * (choice.mode in {"required", "tool"})
        dropped += ["parallel_tool_calls"] * (request.parallel_tool_calls is False)
    if dropped:
        log.info("options dropped", options=dropped, model=request.target.model)
    if choice.mode == "none":
        return ()
    return [tool for tool in request.tools if choice.mode != "tool" or tool.name == choice.name]


def _question(request: ChatRequest) -> dict[str, Any]:
    gap = request.infill
    if gap is None:
        return {"messages": [_message(message) for message in request.messages]}
    # Without a suffix Ollama would take the prefix for a question, and answer it.
    return {"prompt": gap.prefix, **({"suffix": gap.suffix} if gap.suffix else {"raw": True})}


def _message(message: Message) -> dict[str, Any]:
    sent: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        sent["thinking"] = message.thinking
    if message.images:
        sent["images"] = [image.data for image in message.images]
    if message.tool_calls:
        sent["tool_calls"] = [
            {
                **({"id": call.id} if call.id else {}),
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_name:
        sent["tool_name"] = message.tool_name
    if message.tool_call_id:
        sent["tool_call_id"] = message.tool_call_id
    return sent


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "description": tool.description}
    function["parameters"] = dict(tool.parameters) or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}
