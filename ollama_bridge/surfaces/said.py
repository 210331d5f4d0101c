"""A reply put together, for clients that do not stream, and the parts of it that Go writes alike everywhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ollama_bridge.events import Event, Finish, TextDelta, ThinkingDelta, TokenLogprob, ToolCall
from ollama_bridge.surfaces import gojson

LOWEST_LOGPROB: Final = -9999.0
"""What OpenAI says for minus infinity, which JSON cannot say."""


@dataclass(frozen=True, slots=True)
class Said:
    """A reply without its finish."""

    content: str = ""
    thinking: str = ""
    calls: Sequence[ToolCall] = ()
    logprobs: Sequence[TokenLogprob] = ()


NOTHING: Final = Said()


def whole(events: Sequence[Event]) -> tuple[Sequence[Event], Finish]:
    """What was said, and how it ended.

    Raises:
        ValueError: The last event is no `Finish`: half a reply is not shown as a whole one.
    """
    match events:
        case [*said, Finish() as finish]:
            return said, finish
        case _:
            raise ValueError("a reply without its Finish")


def fold(events: Sequence[Event]) -> Said:
    """Everything that was said, in the order of its kind."""
    texts = [event for event in events if type(event) is TextDelta]
    return Said(
        content="".join(event.text for event in texts),
        thinking="".join(event.text for event in events if type(event) is ThinkingDelta),
        calls=[event for event in events if type(event) is ToolCall],
        logprobs=[token for event in texts for token in event.logprobs],
    )


def answered_by(finish: Finish) -> bytes:
    """A key of our own, behind all others, that names the model that answered in place of the one that was asked."""
    return b',"answered_by":' + gojson.dump(finish.answered_by) if finish.answered_by else b""


def logprobs(tokens: Sequence[TokenLogprob]) -> bytes:
    """`[{token, logprob, bytes, top_logprobs}]`, as Ollama and OpenAI write it."""
    entries = []
    for token in tokens:
        entry = _logprob(token)
        if token.top:
            entry["top_logprobs"] = [_logprob(other) for other in token.top]
        entries.append(entry)
    return gojson.dump(entries)


def number(logprob: float) -> int | float:
    """A log probability as Go writes it: finite, and -1 rather than -1.0."""
    finite = (
        float(logprob) if math.isfinite(logprob) else LOWEST_LOGPROB
    )  # who wrote -1 gave us a whole number
    return int(finite) if finite.is_integer() else finite


def _logprob(token: TokenLogprob) -> dict[str, Any]:
    entry: dict[str, Any] = {"token": token.token, "logprob": number(token.logprob)}
    if token.token:
        entry["bytes"] = list(token.token.encode("utf-8", "replace"))
    return entry
