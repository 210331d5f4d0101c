"""How long a prompt is, where nobody counts its tokens: a rough figure, and one that it does not exceed. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
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


def estimate_tokens(messages: Sequence[Message], tools: Sequence[Tool] = ()) -> int:
    """Tokens of the prompt, at least 1: a quarter of its bytes, and something for every image, message and tool."""
    written, images = _walked(messages, tools)
    return _likely(written, _around(len(messages), len(tools), images))


def text_tokens(text: str) -> int:
    """Tokens of a piece of text, such as an answer so far; 0 of nothing."""
    return -(-_size(text) // BYTES_PER_TOKEN)


@dataclass(frozen=True, slots=True)
class Prompt:
    """How long a prompt is.

    Args:
        likely: Tokens, at least 1.
        most: Tokens that it does not exceed: no tokeniser makes more than one of a byte. Where it is known how much
            the model reads, it cannot be longer either.
    """

    likely: int
    most: int


def measure(request: ChatRequest | EmbedRequest) -> Prompt:
    """All that is asked."""
    if isinstance(request, EmbedRequest):
        written = sum(map(_size, request.inputs))
        return _prompt(request, written, likely=0, most=MOST_MESSAGE_TOKENS * len(request.inputs))
    written, images = _walked(request.messages, request.tools)
    if request.infill is not None:
        written += _size(request.infill.prefix) + _size(request.infill.suffix)
    messages, tools = len(request.messages), len(request.tools)
    most = MOST_AROUND_TOKENS + MOST_MESSAGE_TOKENS * messages + MOST_TOOL_TOKENS * tools
    most += MOST_IMAGE_TOKENS * images
    if request.target.rules.thinking:
        most += MOST_SEALED_TOKENS * sum(bool(message.tool_calls) for message in request.messages)
    if request.format is not None and not isinstance(request.format, str):
        most += len(orjson.dumps(dict(request.format)))
    return _prompt(request, written, likely=_around(messages, tools, images), most=most)


def characters(request: ChatRequest | EmbedRequest) -> int:
    """Of what is written in all that is asked; tools are not."""
    if isinstance(request, EmbedRequest):
        return sum(map(len, request.inputs))
    gap = request.infill
    written = sum(len(message.content) for message in request.messages)
    return written + (len(gap.prefix) + len(gap.suffix) if gap is not None else 0)


def call_bytes(call: ToolCall) -> int:
    """Bytes of a call as JSON."""
    return _size(call.name) + len(orjson.dumps(dict(call.arguments)))


def _prompt(request: ChatRequest | EmbedRequest, written: int, *, likely: int, most: int) -> Prompt:
    """So many bytes, and around them so many tokens, likely and at most."""
    most += written
    window = request.target.window
    # Each of many texts to embed has a window to itself.
    if window is not None and isinstance(request, ChatRequest):
        # Windows grow: at two bytes a token, which hardly a text has, the provider's own refusal is not counted on.
        most = min(most, max(window, most // 2))
    return Prompt(_likely(written, likely), most)


def _likely(written: int, around: int) -> int:
    return max(1, around + written // BYTES_PER_TOKEN)


def _around(messages: int, tools: int, images: int) -> int:
    """Tokens of so many of each, besides what is written."""
    return MESSAGE_TOKENS * messages + TOOL_TOKENS * tools + IMAGE_TOKENS * images


def _walked(messages: Sequence[Message], tools: Sequence[Tool]) -> tuple[int, int]:
    """Bytes of all that is written, and how many images there are."""
    written = images = 0
    for message in messages:
        written += _message_bytes(message)
        images += len(message.images)
    for tool in tools:
        written += _size(tool.name) + _size(tool.description) + len(orjson.dumps(dict(tool.parameters)))
    return written, images


def _message_bytes(message: Message) -> int:
    written = _size(message.content)
    if message.thinking:
        written += _size(message.thinking)
    for call in message.tool_calls:
        written += call_bytes(call)
    return written


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
