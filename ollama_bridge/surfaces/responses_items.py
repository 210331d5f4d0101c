"""The output of a /v1/responses reply as a list of items, sans I/O.

Thinking and text become one item for every stretch of them, a tool call is an item of its own. Keys are in the
order of Ollama's Go structs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import orjson

from ollama_bridge.events import TokenLogprob, ToolCall
from ollama_bridge.surfaces import gojson, said
from ollama_bridge.surfaces.responses_tools import CUSTOM_INPUT, Form

Item: TypeAlias = dict[str, Any]
Status: TypeAlias = Literal["in_progress", "completed", "incomplete"]

NUMBERS: Final = 10**15
"""Ids are made of numbers below. A real server's have six digits, but clients keep items by their ids for as long
as a conversation lasts."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is said bit by bit: thinking, or text.

    Args:
        prefix: Of the item's id.
        before: The bytes before a delta's text.
        after: The bytes behind its sequence number.
    """

    prefix: str
    before: bytes
    after: bytes


REASONING: Final = Kind(
    "rs",
    b'event: response.reasoning_summary_text.delta\ndata: {"delta":',
    b',"summary_index":0,"type":"response.reasoning_summary_text.delta"}\n\n',
)
MESSAGE: Final = Kind(
    "msg",
    b'event: response.output_text.delta\ndata: {"content_index":0,"delta":',
    b',"type":"response.output_text.delta"}\n\n',
)


@dataclass(slots=True)
class OpenItem:
    """An item that is being said.

    Args:
        index: Its place in the output.
        middle: The bytes between a delta's text and its sequence number.
        pieces: What was said of it.
    """

    kind: Kind
    id: str
    index: int
    middle: bytes
    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)

    @property
    def place(self) -> Mapping[str, Any]:
        """How events about it name it."""
        part = "summary_index" if self.kind is REASONING else "content_index"
        return {part: 0, "item_id": self.id, "output_index": self.index}

    def begun(self) -> Item:
        """The item before anything was said."""
        if self.kind is REASONING:
            return {"id": self.id, "type": "reasoning", "summary": []}
        return _message(self.id, "in_progress", [])

    def item(self, status: Status) -> Item:
        """The item with all that was said."""
        text = clean("".join(self.pieces))
        if self.kind is MESSAGE:
            return _message(self.id, status, [text_part(text, self.logprobs)])
        # As a real server, which reads its thinking back from the second.
        summary = [{"type": "summary_text", "text": text}]
        return {"id": self.id, "type": "reasoning", "summary": summary, "encrypted_content": text}


class Items:
    """The output of one reply.

    Args:
        number: From which the ids are made.
        forms: Tools that are no plain functions, by the name the model calls them.
    """

    def __init__(self, number: int, forms: Mapping[str, Form]) -> None:
        self.done: list[Item] = []
        """The items that are whole, in their places."""
        self.open: OpenItem | None = None
        """The item behind them."""
        self._number = number
        self._forms = forms
        self._calls = 0

    @property
    def have_answer(self) -> bool:
        """Whether there is more than thinking."""
        is_text = self.open is not None and self.open.kind is MESSAGE
        return is_text or any(item["type"] != "reasoning" for item in self.done)

    def start(self, kind: Kind) -> OpenItem:
        """Open an item; none may be open."""
        index = len(self.done)
        name = f"{kind.prefix}_{(self._number + 1 + index) % NUMBERS}"
        logprobs = b',"logprobs":[]' if kind is MESSAGE else b""
        middle = b',"item_id":"%b"%b,"output_index":%d,"sequence_number":' % (name.encode(), logprobs, index)
        self.open = OpenItem(kind, name, index, middle)
        return self.open

    def shut(self, status: Status = "completed") -> None:
        """Close what is open."""
        if self.open is not None:
            self.done.append(self.open.item(status))
            self.open = None

    def call(self, call: ToolCall) -> Item:
        """Append a tool call; nothing may be open."""
        form = self._forms.get(call.name) or Form(call.name)
        arguments = dict(call.arguments)
        kind, key, content = "function_call", "arguments", gojson.dump(arguments).decode()
        if form.custom:
            kind, key = "custom_tool_call", "input"
            if isinstance(arguments.get(CUSTOM_INPUT), str):
                content = clean(arguments[CUSTOM_INPUT])
        item = {
            "id": f"{'ctc' if form.custom else 'fc'}_{self._number}_{self._calls}",
            "type": kind,
            "status": "completed",
            "call_id": clean(call.id),
            **({"namespace": form.namespace} if form.namespace else {}),
            "name": clean(form.name),
            key: content,
        }
        self._calls += 1
        self.done.append(item)
        return item


def text_part(text: str, logprobs: Sequence[TokenLogprob] = ()) -> Item:
    """The content of a message."""
    likely = orjson.Fragment(said.logprobs(logprobs)) if logprobs else []
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": likely}


def clean(text: str) -> str:
    """Without lone surrogates, which some providers' SDKs let through and JSON cannot say."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _message(name: str, status: Status, content: list[Item]) -> Item:
    return {"id": name, "type": "message", "status": status, "role": "assistant", "content": content}
