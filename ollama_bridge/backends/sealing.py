"""What only a provider can read and wants back with its turn: taken from its reply, put back in its place. Pure.

Signed thinking, thought signatures, encrypted reasoning: no client's wire carries them, so they travel as the
opaque `Finish.sealed` and `Message.sealed`. Each piece keeps its place, as the number of tool calls and of
characters of text before it, since calls and text are what a client does send back.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import orjson

from ollama_bridge.chat import Message
from ollama_bridge.events import ToolCall

CALL: Final = -1
"""What a piece covers when it belongs to the tool call behind it."""

Piece: TypeAlias = dict[str, Any]
Laid: TypeAlias = tuple[str | ToolCall | None, Piece | None]
"""A stretch of text or a call, and what belongs to it; nothing and a piece that stands alone."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One piece of a turn.

    Args:
        calls: How many of the turn's tool calls precede it.
        start: How many characters of its text do.
        covers: `CALL`, or how many characters of text it belongs to; 0: it stands alone.
        piece: What the provider wants back, in the form that its backend gave it.
    """

    calls: int
    start: int
    covers: int
    piece: Piece = field(repr=False)


def seal(kind: str, model: str, pieces: list[Kept]) -> bytes:
    """The pieces of a reply, for `Finish.sealed`; empty if there are none.

    Args:
        kind: Whose pieces they are.
        model: The model, as the provider knows it, that alone can read them.
        pieces: In their order.
    """
    if not pieces:
        return b""
    return orjson.dumps([kind, model, [[kept.calls, kept.start, kept.covers, kept.piece] for kept in pieces]])


def unseal(kind: str, model: str, sealed: bytes, is_ours: Callable[[Kept], bool]) -> list[Kept]:
    """What `seal` was given; nothing of another kind, of another model, or of what is no seal at all.

    The bytes may have been in a client's hands: `is_ours` says whether a piece is what its backend makes.
    """
    if not sealed:
        return []
    try:
        found_kind, found_model, found = orjson.loads(sealed)
        pieces = [Kept(*kept) for kept in found]
    except (ValueError, TypeError):
        return []
    if found_kind != kind or found_model != model:
        return []
    return [
        kept
        for kept in pieces
        if isinstance(kept.piece, dict)
        and all(type(number) is int for number in (kept.calls, kept.start, kept.covers))
        and min(kept.calls, kept.start, kept.covers - CALL) >= 0
        and is_ours(kept)
    ]


def laid_out(message: Message, pieces: list[Kept]) -> Iterator[Laid]:
    """A turn as it was said: the text and the calls of `message`, each piece in its place among them.

    What a client has shortened meanwhile moves the pieces, and loses none. Without pieces it is the text, then
    the calls.
    """
    text, at = message.content, 0
    calls = iter(message.tool_calls)
    passed = 0
    for kept in pieces:
        if text[at : kept.start]:
            yield text[at : kept.start], None
        at = max(at, kept.start)
        while passed < kept.calls and (call := next(calls, None)):
            passed += 1
            yield call, None
        if kept.covers == CALL:
            passed += 1
            if call := next(calls, None):
                yield call, kept.piece
        else:
            covered = text[at : at + kept.covers] if kept.covers > 0 else ""
            at += len(covered)
            yield covered or None, kept.piece
    if text[at:]:
        yield text[at:], None
    for call in calls:
        yield call, None
