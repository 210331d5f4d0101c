"""What a question is known by: two that have the same key have the same answer. Pure.

Lists and JSON schemas count in their order, which a model reads as well; only options have none.
"""

import hashlib
from typing import Final

import orjson

from ollama_bridge import __version__
from ollama_bridge.chat import ChatRequest, EmbedRequest, Message, Tool

LARGE_CHARACTERS: Final = 100_000
"""From here on a key is computed in a thread: it takes about 3 µs for each 1,000 characters."""


def chat_key(request: ChatRequest, who: object) -> bytes | None:
    """The key of a chat; None: it cannot be written as JSON, and so is like no other.

    Args:
        request: As it comes from a surface, presets applied.
        who: Everything about who answers that can change the answer.
    """
    return _hashed(
        "chat",
        who,
        [_message(message) for message in request.messages],
        [_tool(tool) for tool in request.tools],
        request.tool_choice,
        request.parallel_tool_calls,
        request.format,
        request.think,
        _options(request),
        request.infill,
        request.logprobs,
        request.top_logprobs,
    )


def embed_key(request: EmbedRequest, who: object) -> bytes | None:
    """The key of texts to be embedded, as `chat_key`."""
    return _hashed("embed", who, request.inputs, request.dimensions, request.truncate, _options(request))


def is_large(request: ChatRequest | EmbedRequest) -> bool:
    """Whether the key is better not computed on the event loop."""
    if isinstance(request, EmbedRequest):
        return sum(map(len, request.inputs)) > LARGE_CHARACTERS
    size = sum(len(message.content) for message in request.messages)
    size += sum(len(image.data) for message in request.messages for image in message.images)
    return size > LARGE_CHARACTERS


def _message(message: Message) -> list[object]:
    """All but where the client marked a prefix for the provider's prompt cache: that changes the price alone."""
    return [
        message.role,
        message.content,
        message.thinking,
        message.images,
        message.tool_calls,
        message.tool_call_id,
        message.tool_name,
        message.sealed,
    ]


def _tool(tool: Tool) -> list[object]:
    return [tool.name, tool.description, tool.parameters]


def _options(request: ChatRequest | EmbedRequest) -> list[tuple[str, object]]:
    return sorted((name, _number(value)) for name, value in request.options.items())


def _number(value: object) -> object:
    """One surface reads 0, another one 0.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _hashed(*parts: object) -> bytes | None:
    # Another version of the bridge may ask the provider in another way.
    try:
        text = orjson.dumps([__version__, *parts], default=_plain)
    except TypeError:
        return None
    return hashlib.blake2b(text, digest_size=32).digest()


def _plain(value: object) -> object:
    """What dataclasses hold beside what JSON has."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, range):
        return [value.start, value.stop, value.step]
    raise TypeError
