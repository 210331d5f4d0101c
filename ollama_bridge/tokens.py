"""How many tokens a prompt has, where nobody counts: a rough figure, and one that it does not exceed. Pure."""

from collections.abc import Iterable
from typing import Final

import orjson

from ollama_bridge.chat import ChatRequest, EmbedRequest, Message, Tool
from ollama_bridge.events import ToolCall

BYTES_PER_TOKEN: Final = 4
"""Of UTF-8, as a real Ollama estimates: right for English prose, high for code, and near for Chinese."""

IMAGE_TOKENS: Final = 1500
"""Of one image: what Anthropic takes for one of its largest size, and no provider takes much more."""

MESSAGE_TOKENS: Final = 4
TOOL_TOKENS: Final = 16
"""Around a message, and around a tool's name, description and schema."""

MOST_IMAGE_TOKENS: Final = 8192
"""Of one image, whatever its size: twice what any model takes but gpt-4o-mini, which counts 37 000 and is cheap."""

MOST_AROUND_TOKENS: Final = 2048
"""Around everything: the provider's own words about tools, and ours about JSON."""

MOST_MESSAGE_TOKENS: Final = 32
MOST_TOOL_TOKENS: Final = 256
MOST_SEALED_TOKENS: Final = 4096
"""Around a message and a tool; and of the thoughts before one turn's tool calls, which clients do not send back."""


def estimate_tokens(messages: Iterable[Message], tools: Iterable[Tool] = ()) -> int:
    """Tokens of the prompt, at least 1: a quarter of its bytes, and something for every image, message and tool."""
    written = around = 0
    for message in messages:
        around += MESSAGE_TOKENS + IMAGE_TOKENS * len(message.images)
        written += _message_bytes(message)
    for tool in tools:
        around += TOOL_TOKENS
        written += _tool_bytes(tool)
    return max(1, around + written // BYTES_PER_TOKEN)


def estimate_prompt(request: ChatRequest | EmbedRequest) -> int:
    """Tokens of all that is asked, at least 1."""
    if isinstance(request, EmbedRequest):
        return max(1, sum(map(_size, request.inputs)) // BYTES_PER_TOKEN)
    gap = request.infill
    between = (_size(gap.prefix) + _size(gap.suffix)) // BYTES_PER_TOKEN if gap else 0
    return between + estimate_tokens(request.messages, request.tools)


def most_tokens(request: ChatRequest | EmbedRequest) -> int:
    """Tokens that the prompt does not exceed: no tokeniser makes more than one of a byte.

    It cannot be longer than what the model reads either; but of a model that nobody knows, that is a guess.
    """
    most = _most_written(request)
    return min(most, max(request.target.context_length, most // 2))


def call_bytes(call: ToolCall) -> int:
    """Bytes of a call as JSON."""
    return _size(call.name) + len(orjson.dumps(dict(call.arguments)))


def _most_written(request: ChatRequest | EmbedRequest) -> int:
    if isinstance(request, EmbedRequest):
        return sum(_size(text) + MOST_MESSAGE_TOKENS for text in request.inputs)
    most = MOST_AROUND_TOKENS
    for message in request.messages:
        most += MOST_MESSAGE_TOKENS + MOST_IMAGE_TOKENS * len(message.images) + _message_bytes(message)
        if message.tool_calls and request.target.rules.thinking:
            most += MOST_SEALED_TOKENS
    for tool in request.tools:
        most += MOST_TOOL_TOKENS + _tool_bytes(tool)
    if request.infill is not None:
        most += _size(request.infill.prefix) + _size(request.infill.suffix)
    if request.format is not None and not isinstance(request.format, str):
        most += len(orjson.dumps(dict(request.format)))
    return most


def _message_bytes(message: Message) -> int:
    return _size(message.content) + _size(message.thinking) + sum(map(call_bytes, message.tool_calls))


def _tool_bytes(tool: Tool) -> int:
    return _size(tool.name) + _size(tool.description) + len(orjson.dumps(dict(tool.parameters)))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
