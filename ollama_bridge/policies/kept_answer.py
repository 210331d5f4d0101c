"""Answers as bytes, and back: what a client is shown then is the same, to the last digit. Pure.

Pieces of text that follow each other become one. What JSON cannot hold exactly is not written at all, nor is an answer
of a real Ollama that says more than other wires have words for; of others its own times and counts are left out.
"""

import base64
import math
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from typing import Any, Final, TypeAlias

import orjson

from ollama_bridge.chat import Embeddings
from ollama_bridge.events import Event, Finish, TextDelta, ThinkingDelta, TokenLogprob, ToolCall, Usage

_Row: TypeAlias = list[Any]


def written(events: Sequence[Event]) -> bytes | None:
    """A whole reply; None: it cannot be written exactly."""
    if any(map(_says_more, events)):
        return None
    try:
        return orjson.dumps([_WRITERS[type(event)](event) for event in _joined(events)])
    except (TypeError, ValueError):
        return None


def read(value: bytes) -> list[Event] | None:
    """The reply that was written so; None: it was not."""
    try:
        return [_READERS[kind](*rest) for kind, *rest in orjson.loads(value)]
    except (TypeError, ValueError, KeyError):
        return None


def written_vectors(answer: Embeddings, most_bytes: int) -> bytes | None:
    """Vectors; None: they take more bytes than that."""
    vectors = [vector if isinstance(vector, array) else array("d", vector) for vector in answer.vectors]
    if sum(len(vector) * vector.itemsize for vector in vectors) > most_bytes:
        return None
    shapes = [[vector.typecode, len(vector)] for vector in vectors]
    head = orjson.dumps([sys.byteorder, answer.input_tokens, shapes])
    return head + b"\n" + b"".join(vectors)


def read_vectors(value: bytes) -> Embeddings | None:
    """The vectors that were written so; None: they were not."""
    head, _, numbers = value.partition(b"\n")
    try:
        byteorder, input_tokens, shapes = orjson.loads(head)
        if byteorder != sys.byteorder:
            return None
        vectors, at = [], 0
        for typecode, width in shapes:
            vector = array(typecode)
            size = width * vector.itemsize
            vector.frombytes(memoryview(numbers)[at : at + size])
            at += size
            vectors.append(vector)
    except (TypeError, ValueError):
        return None
    return Embeddings(vectors, input_tokens) if at == len(numbers) else None


def _says_more(event: Event) -> bool:
    """Whether it is what a line of a real Ollama says, and not all of that."""
    return event.line is not None and not (event.line.is_plain or isinstance(event, Finish))


def _joined(events: Iterable[Event]) -> Iterator[Event]:
    """The same, with text that comes in pieces in one, as long as all of it or none has log probabilities."""
    for kind, run in groupby(events, _kind):
        if kind[0] is TextDelta:
            pieces = [event for event in run if isinstance(event, TextDelta)]
            text = "".join(piece.text for piece in pieces)
            yield TextDelta(text, tuple(chain.from_iterable(piece.logprobs for piece in pieces)))
        elif kind[0] is ThinkingDelta:
            yield ThinkingDelta("".join(event.text for event in run if isinstance(event, ThinkingDelta)))
        else:
            yield from run


def _kind(event: Event) -> tuple[type[Event], bool]:
    return type(event), isinstance(event, TextDelta) and bool(event.logprobs)


def _text(event: TextDelta) -> _Row:
    return ["text", event.text, [_probability(token) for token in event.logprobs]]


def _read_text(text: str, logprobs: Sequence[_Row]) -> TextDelta:
    return TextDelta(text, tuple(_read_probability(*row) for row in logprobs))


def _probability(token: TokenLogprob) -> _Row:
    if not math.isfinite(token.logprob):
        raise ValueError
    return [token.token, token.logprob, [_probability(other) for other in token.top]]


def _read_probability(token: str, logprob: float, top: Sequence[_Row]) -> TokenLogprob:
    return TokenLogprob(token, logprob, tuple(_read_probability(*row) for row in top))


def _call(event: ToolCall) -> _Row:
    # Not a number becomes null: only what comes back can be kept.
    if orjson.loads(orjson.dumps(event.arguments)) != event.arguments:
        raise ValueError
    return ["call", event.id, event.name, event.arguments]


def _finish(event: Finish) -> _Row:
    sealed = base64.b64encode(event.sealed).decode()
    return ["finish", event.reason, event.usage, event.detail, sealed, event.answered_by]


def _read_finish(reason: Any, usage: Mapping[str, int], detail: str, sealed: str, answered_by: str) -> Finish:
    return Finish(reason, Usage(**usage), detail, base64.b64decode(sealed), answered_by)


_WRITERS: Final[Mapping[type[Event], Callable[[Any], _Row]]] = {
    TextDelta: _text,
    ThinkingDelta: lambda event: ["thinking", event.text],
    ToolCall: _call,
    Finish: _finish,
}
_READERS: Final[Mapping[str, Callable[..., Event]]] = {
    "text": _read_text,
    "thinking": ThinkingDelta,
    "call": ToolCall,
    "finish": _read_finish,
}
