"""What tells one message from another without the whole of it: it may hold files. Pure.

How long it is, how it begins and how it ends. By its opening, the user's first message, a conversation is known
again, of which only a hash is kept.
"""

import hashlib
from collections.abc import Iterable
from typing import Final, TypeAlias

from ollama_bridge.chat import Message

ENDS: Final = 1000
"""Characters at either end that tell a text."""

Ends: TypeAlias = tuple[int, str, str]
"""How many characters a text has, how it begins, and how it ends."""


def ends(text: str) -> Ends:
    """What tells this text."""
    return len(text), text[:ENDS], text[-ENDS:]


def first_asked(messages: Iterable[Message]) -> list[object]:
    """What tells the user's first message, whatever stands before it, as JSON has it; empty: there is none."""
    for message in messages:
        if message.role == "user":
            images = [[len(image.data), image.data[-ENDS:]] for image in message.images]
            return [*ends(message.content), images]
    return []


def hashed(written: bytes) -> bytes:
    """16 bytes to know it again by."""
    return hashlib.blake2b(written, digest_size=16).digest()
