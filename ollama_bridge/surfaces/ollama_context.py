"""The `context` of /api/generate: a conversation as an array of integers, so that no server need remember it. Pure.

A real server puts its tokens there; clients keep the array unread and send it back with the next prompt. Ours holds
the messages themselves: compressed JSON, two bytes to an integer. A checksum tells what is not ours, or no longer
whole. Images are not in it: of them the model is told that there were some.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final, get_args

import orjson

from ollama_bridge.chat import Message, Role
from ollama_bridge.surfaces import gojson

_MAGIC: Final = (20290, 21063, 1)
"""The first two integers of every context of ours, and its version."""

_MOST_BYTES: Final = 64_000
"""Compressed; 32,000 integers of up to five digits are less than 200 kB of JSON."""

_MOST_CHARACTERS: Final = 1 << 18
"""Before it is compressed, which happens on the event loop: some ten milliseconds at most."""

_MOST_TEXT_BYTES: Final = 8 * _MOST_CHARACTERS  # more than so many characters can be, whatever they are
_LEVEL: Final = 1
_ROLES: Final = frozenset(get_args(Role))


def pack(messages: Sequence[Message], answer: str) -> list[int]:
    """The conversation as integers; of one that is too long only the system prompt and its end.

    Args:
        messages: What was asked.
        answer: What the model said to it.
    """
    turns = [[message.role, _content(message)] for message in messages]
    turns.append(["assistant", answer])
    first = int(turns[0][0] == "system")
    surplus = sum(len(text) for _, text in turns) - _MOST_CHARACTERS
    while True:
        while surplus > 0 and len(turns) > first:
            surplus -= len(turns.pop(first)[1])
        if len(turns) == first:
            return []
        packed = zlib.compress(gojson.dump(turns), _LEVEL)
        if len(packed) <= _MOST_BYTES:
            return _integers(packed)
        # In proportion, and a little more, so that a long conversation is not tried turn by turn.
        total = sum(len(text) for _, text in turns)
        surplus = total - int(0.95 * total * _MOST_BYTES / len(packed))


def unpack(context: Sequence[int]) -> tuple[Message, ...]:
    """The conversation that `pack` made into `context`; none of what is not ours, or broken."""
    head = len(_MAGIC)
    if len(context) < head + 3 or tuple(context[:head]) != _MAGIC:
        return ()
    high, low, is_odd, *pairs = context[head:]
    try:
        packed = struct.pack(f">{len(pairs)}H", *pairs)
    except struct.error:
        return ()
    packed = packed[:-1] if is_odd else packed
    return _messages(packed) if (high << 16) + low == zlib.crc32(packed) else ()


def _content(message: Message) -> str:
    if not message.images:
        return message.content
    return f"{message.content}\n[{len(message.images)} image(s) were shown here and are no longer.]"


def _integers(packed: bytes) -> list[int]:
    odd = len(packed) % 2
    pairs = struct.unpack(f">{(len(packed) + odd) // 2}H", packed + b"\0" * odd)
    return [*_MAGIC, *divmod(zlib.crc32(packed), 1 << 16), odd, *pairs]


def _messages(packed: bytes) -> tuple[Message, ...]:
    try:
        inflate = zlib.decompressobj()
        # What somebody made by hand could become a thousand times as long.
        text = inflate.decompress(packed, _MOST_TEXT_BYTES)
        turns: Any = orjson.loads(text)
        found = [(role, content) for role, content in turns]
    except (zlib.error, orjson.JSONDecodeError, TypeError, ValueError):
        return ()
    if not all(type(role) is str and role in _ROLES and type(content) is str for role, content in found):
        return ()
    return tuple(Message(role, content) for role, content in found)
