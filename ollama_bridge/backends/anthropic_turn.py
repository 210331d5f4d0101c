"""What Claude has said of one turn, block by block, and how it is asked to go on when it pauses. Pure.

https://platform.claude.com/docs/en/agents-and-tools/tool-use/server-tools: a turn in which the provider's own tools
take long ends with `pause_turn`; sent back as it is, it is gone on with. Gateways add such tools by themselves.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import orjson

from ollama_bridge.backends.anthropic_thinking import SIGNED_FIELDS, seal_thoughts
from ollama_bridge.backends.sealing import Kept
from ollama_bridge.events import Usage

PAUSES: Final = 8
"""How often one turn is gone on with."""


class Block:
    """One content block.

    Args:
        head: As it began.
    """

    __slots__ = ("_citations", "head", "pieces", "texts")

    def __init__(self, head: Mapping[str, Any]) -> None:
        self.head = head
        self.texts: list[str] = []
        """The text that it goes on with."""
        self.pieces: defaultdict[str, list[str]] = defaultdict(list, text=self.texts)
        """All that it goes on with, by the name of the member."""
        self._citations: list[object] = []

    def cite(self, citation: object) -> None:
        """It goes on with where it has its text from."""
        self._citations.append(citation)

    def arguments(self) -> dict[str, Any]:
        """Of a call, whoever is called.

        Raises:
            ValueError: They are no JSON object, or not all of one.
        """
        if text := "".join(self.pieces.get("partial_json", ())):
            found = orjson.loads(text)
        else:
            found = self.head.get("input") or {}
        if isinstance(found, dict):
            return found
        raise ValueError("no JSON object")

    def whole(self) -> dict[str, Any]:
        """All of it, as the API takes it back: what is null in a reply may not be allowed in a request."""
        block = {name: value for name, value in self.head.items() if value is not None}
        for name, pieces in self.pieces.items():
            if name == "partial_json":
                block["input"] = self.arguments()
            elif pieces:
                block[name] = block.get(name, "") + "".join(pieces)
        if self._citations:
            block["citations"] = [*block.get("citations", ()), *self._citations]
        return block

    def chars(self) -> int:
        """Characters of the answer that it holds."""
        begun = self.head.get("text") if self.head["type"] == "text" else ""
        return len(begun or "") + sum(map(len, self.texts))


class Turn:
    """The blocks of one turn, over all its pauses."""

    __slots__ = ("_blocks", "container", "open")

    def __init__(self) -> None:
        self.container = ""
        """Where the provider's tools keep what they work on; they want to find it again."""
        self.open: dict[object, Block] = {}
        """The blocks of the reply that is being read, by their numbers."""
        self._blocks: list[Block] = []

    @property
    def has_text(self) -> bool:
        """Whether anything was said that a client sees as the answer."""
        return any(block.chars() for block in self._blocks)

    def begin(self, index: object, head: Mapping[str, Any]) -> Block:
        """A block begins."""
        block = self.open[index] = Block(head)
        self._blocks.append(block)
        return block

    def pause(self) -> None:
        """What follows is numbered anew."""
        self.open.clear()

    def content(self) -> list[dict[str, Any]]:
        """All of it, to be sent back.

        Raises:
            ValueError: A call of the provider's own tools is not whole.
        """
        content = [whole for block in self._blocks if _is_taken_back(whole := block.whole())]
        if content and content[-1]["type"] == "text":  # white space at the end is a 400
            content[-1]["text"] = content[-1]["text"].rstrip()
        return content

    def sealed(self, model: str) -> bytes:
        """Its signed thinking, for `Finish.sealed`; what is not signed the API does not take back."""
        kept: list[Kept] = []
        calls = chars = 0
        for block in self._blocks:
            kind = block.head["type"]
            if kind in SIGNED_FIELDS:
                whole = block.whole()
                if whole.get("signature") or whole.get("data"):
                    piece = {name: whole.get(name, "") for name in SIGNED_FIELDS[kind]}
                    kept.append(Kept(calls, chars, 0, piece))
            calls += kind == "tool_use"
            chars += block.chars()
        return seal_thoughts(model, kept)


def continued(body: Mapping[str, Any], turn: Turn, spent: Usage) -> dict[str, Any] | None:
    """The request that goes on with a turn that pauses; None where it cannot be gone on with.

    Args:
        body: The request that began it.
        turn: What it has come to.
        spent: What it has taken.
    """
    try:
        said = turn.content()
    except ValueError:
        return None
    left = body["max_tokens"] - spent.output_tokens
    if not said or left <= body.get("thinking", {}).get("budget_tokens", 0):
        return None
    messages = list(body["messages"])
    if messages[-1]["role"] == "assistant":  # the client had begun the turn
        said = [*messages.pop()["content"], *said]
    messages.append({"role": "assistant", "content": said})
    kept = {"container": turn.container} if turn.container else {}
    return {**body, **kept, "messages": messages, "max_tokens": left}


def _is_taken_back(block: Mapping[str, Any]) -> bool:
    """Neither an empty text is, nor thinking without a signature."""
    needed = {"text": "text", "thinking": "signature"}.get(block["type"])
    return needed is None or bool(str(block.get(needed) or "").strip())
