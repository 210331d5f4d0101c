"""How many tokens a prompt has, where nobody counts: a rough figure. Pure."""

from collections.abc import Iterable
from typing import Final

import orjson

from ollama_bridge.chat import Message, Tool

BYTES_PER_TOKEN: Final = 4
"""Of UTF-8, as a real Ollama estimates: right for English prose, high for code, and near for Chinese."""

IMAGE_TOKENS: Final = 1500
"""Of one image: what Anthropic takes for one of its largest size, and no provider takes much more."""

MESSAGE_TOKENS: Final = 4
TOOL_TOKENS: Final = 16
"""Around a message, and around a tool's name, description and schema."""


def estimate_tokens(messages: Iterable[Message], tools: Iterable[Tool] = ()) -> int:
    """Tokens of the prompt, at least 1: a quarter of its bytes, and something for every image, message and tool."""
    written = around = 0
    for message in messages:
        around += MESSAGE_TOKENS + IMAGE_TOKENS * len(message.images)
        written += _size(message.content) + _size(message.thinking)
        for call in message.tool_calls:
            written += _size(call.name) + len(orjson.dumps(dict(call.arguments)))
    for tool in tools:
        around += TOOL_TOKENS
        written += _size(tool.name) + _size(tool.description) + len(orjson.dumps(dict(tool.parameters)))
    return max(1, around + written // BYTES_PER_TOKEN)


def text_tokens(text: str) -> int:
    """Tokens of a piece of text, such as an answer so far; 0 of nothing."""
    return -(-_size(text) // BYTES_PER_TOKEN)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
