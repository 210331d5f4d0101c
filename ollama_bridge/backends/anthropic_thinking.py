"""Signed thinking, there and back: what of a reply Claude wants to see again, and when it insists on it. Pure.

https://platform.claude.com/docs/en/build-with-claude/thinking-tool-workflows: within a tool loop the thinking
blocks come back complete, unmodified and in their place.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from ollama_bridge.backends.sealing import Kept, seal, unseal
from ollama_bridge.chat import Message

_KIND: Final = "anthropic"

_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "thinking": ("type", "thinking", "signature"),
    "redacted_thinking": ("type", "data"),
}


class Thoughts:
    """Collects the signed blocks of one reply; sans I/O. What is not signed the API does not take back."""

    __slots__ = ("_blocks", "_open", "_place")

    def __init__(self) -> None:
        self._blocks: list[Kept] = []
        self._open: dict[str, list[str]] = {}
        self._place = (0, 0)

    def begin(self, block: Mapping[str, str], *, calls: int, chars: int) -> None:
        """A block of `thinking` or `redacted_thinking` begins, behind so many calls and characters of text."""
        self._open = {name: [block.get(name) or ""] for name in _FIELDS[block["type"]]}
        self._place = (calls, chars)

    def add(self, name: str, piece: str) -> None:
        """More of the `thinking` or the `signature` of the block that is open."""
        if name in self._open:
            self._open[name].append(piece)

    def end(self) -> None:
        """A block ends, perhaps of another type."""
        if self._open:
            block = {name: "".join(pieces) for name, pieces in self._open.items()}
            if block.get("signature") or block.get("data"):
                self._blocks.append(Kept(*self._place, 0, block))
            self._open = {}

    def sealed(self, model: str) -> bytes:
        """All of them, for `Finish.sealed`."""
        return seal(_KIND, model, self._blocks)


def signed(message: Message, model: str) -> list[Kept]:
    """The blocks of a turn that called tools, as far as they are known; of other turns the API needs none."""
    return unseal(_KIND, model, message.sealed, _is_ours) if message.tool_calls else []


def _is_ours(kept: Kept) -> bool:
    return tuple(kept.piece) == _FIELDS.get(str(kept.piece.get("type"))) and all(
        isinstance(value, str) for value in kept.piece.values()
    )


def may_begin(messages: Sequence[Message], thoughts: Sequence[Sequence[Kept]]) -> bool:
    """Whether thinking by budget can be on: a tool loop that is under way has to have begun with thinking.

    Claude 4.5 and before think once, ahead of the first call: the turns behind it have none of their own.

    Args:
        messages: The conversation, repaired.
        thoughts: `signed` of each of them.
    """
    first = None
    for at in range(len(messages) - 1, -1, -1):
        message = messages[at]
        if message.role == "assistant":
            if first is None and not message.tool_calls:
                return True
            first = at
        elif message.role == "user" and first is not None:
            break
    return first is None or any(not kept.calls and not kept.start for kept in thoughts[first][:1])
