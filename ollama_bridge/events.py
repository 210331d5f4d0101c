"""What a model says: one closed union of events.

Grammar of a reply::

    reply := (ThinkingDelta | TextDelta | ToolCall | Aside)* Finish

Every backend yields these, every policy passes them on, every surface encodes them. A member is added
only when a surface must show something new; `assert_never` then makes every encoder decide.

The classes are slotted and compare by value. They are not `frozen`: a frozen dataclass assigns
through `object.__setattr__` and costs three times as much to make, once per token. Treat them as values.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "refusal"]
"""Why a reply ended: by itself or at a stop word; at a token limit; to have tools called; because the
provider declined to go on (safety, content filter)."""


@dataclass(slots=True)
class Line:
    """A line that a real Ollama sent: what Ollama's own wire shows in place of the events that it was read as.

    Only who asks in Ollama's own words gets one (`native.Native`). Who makes other events of what it came with leaves
    it out; what is not plain is not to be taken apart.

    Args:
        rest: The line behind its `{"model":"…"`, with its end; empty: it comes with a later event of the same burst.
        is_plain: Whether it says nothing but what its one event says, and when.
    """

    rest: bytes
    is_plain: bool = False


WITH_A_LATER_ONE: Final = Line(b"")
"""Of all events of a line but the last, which has it."""


@dataclass(slots=True)
class TokenLogprob:
    """One token with its log probability (natural logarithm) and the alternatives that were asked for."""

    token: str
    logprob: float
    top: tuple["TokenLogprob", ...] = ()


@dataclass(slots=True)
class TextDelta:
    """A piece of the answer; never empty. `logprobs` describes exactly its tokens, if asked for."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    line: Line | None = field(default=None, compare=False, repr=False)


@dataclass(slots=True)
class ThinkingDelta:
    """A piece of the model's visible reasoning; never empty."""

    text: str
    line: Line | None = field(default=None, compare=False, repr=False)


@dataclass(slots=True)
class ToolCall:
    """One whole tool call. `id` is the provider's own, or made by the backend; never empty.

    `arguments` is a JSON object, in the order the model wrote it.
    """

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    line: Line | None = field(default=None, compare=False, repr=False)


@dataclass(slots=True)
class Aside:
    """What only Ollama's own wire has words for, such as a step on the way to an image; others pass it over."""

    line: Line = field(repr=False)


@dataclass(slots=True)
class Usage:
    """Tokens of one reply.

    Args:
        input_tokens: All of the prompt, cached or not.
        output_tokens: All that was generated, reasoning included.
        cached_read_tokens: The part of `input_tokens` that was read from the provider's prompt cache.
        cached_write_tokens: The part of `input_tokens` that was written to it.
        cached_hour_tokens: The part of `cached_write_tokens` that is kept for an hour, at a higher price.
        reasoning_tokens: The part of `output_tokens` that was reasoning, as far as the provider says.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_read_tokens: int = 0
    cached_write_tokens: int = 0
    reasoning_tokens: int = 0
    cached_hour_tokens: int = 0


def total(usages: Iterable[Usage]) -> Usage:
    """Tokens of several replies together."""
    told = list(usages)
    return told[0] if len(told) == 1 else Usage(*(sum(getattr(one, kind) for one in told) for kind in _KINDS))


_KINDS: Final = tuple(each.name for each in fields(Usage))


@dataclass(slots=True)
class Finish:
    """The end of a reply; always the last event, and only when the provider really said so.

    Args:
        reason: Why.
        usage: What it took.
        detail: The provider's own word for the reason (`end_turn`, `SAFETY`, …), for logs.
        sealed: What the provider wants back with this turn and no client's wire can carry: signatures of
            thinking, encrypted reasoning. Only the backend that wrote it can read it; see `chat.Message`.
        answered_by: The model that answered, as lists show it, where it is not the one that was asked for.
    """

    reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    detail: str = ""
    sealed: bytes = b""
    answered_by: str = ""
    line: Line | None = field(default=None, compare=False, repr=False)


Event: TypeAlias = TextDelta | ThinkingDelta | ToolCall | Aside | Finish
