"""Signed thinking, there and back: what of a reply Claude wants to see again, and when it insists on it. Pure.

https://platform.claude.com/docs/en/build-with-claude/thinking-tool-workflows: within a tool loop the thinking
blocks come back complete, unmodified and in their place.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from ollama_bridge.backends.sealing import Kept, seal, unseal
from ollama_bridge.chat import Message

_KIND: Final = "anthropic"

SIGNED_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "thinking": ("type", "thinking", "signature"),
    "redacted_thinking": ("type", "data"),
}
"""Kinds of blocks that are wanted back, and all that they hold."""


def seal_thoughts(model: str, kept: list[Kept]) -> bytes:
    """The signed blocks of a turn, for `Finish.sealed`."""
    return seal(_KIND, model, kept)


def signed(message: Message, model: str) -> list[Kept]:
    """The blocks of a turn that called tools, as far as they are known; of other turns the API needs none."""
    return unseal(_KIND, model, message.sealed, _is_ours) if message.tool_calls else []


def _is_ours(kept: Kept) -> bool:
    return tuple(kept.piece) == SIGNED_FIELDS.get(str(kept.piece.get("type"))) and all(
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
