"""The `input` of a /v1/responses request as a conversation, sans I/O.

A real server reads all items before it makes messages of them, and so do we: what is wrong with an item's shape
is told with its place, what is wrong with its content without.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from ollama_bridge.chat import Image, Message
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.events import ToolCall
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.calls import ROLES, refuse_endless
from ollama_bridge.surfaces.gotypes import ANY, STRING, Mismatch, Struct, kind
from ollama_bridge.surfaces.openai_values import in_order, joined, read_image
from ollama_bridge.surfaces.responses_tools import CUSTOM_INPUT, qualified

Item = Mapping[str, Any]
SentPart = Mapping[str, Any]

_ITEM: Final = Struct(
    "ResponsesInputItem",
    {
        **dict.fromkeys(
            "type id role call_id name namespace arguments input encrypted_content".split(), STRING
        ),
        **dict.fromkeys("content output summary action".split(), ANY),
    },
    "openai",
)
_PARTS: Final = frozenset({"input_text", "output_text", "text", "refusal", "input_image", "input_file"})
_HOSTED: Final = frozenset(
    "web_search_call file_search_call code_interpreter_call image_generation_call mcp_list_tools".split()
)
"""What OpenAI's own tools did in an earlier turn: nothing that a client's tool or the model said."""

_SEALED_BY_OPENAI: Final = "gAAAA"
"""How thinking begins that only OpenAI can read, from a conversation that began there."""

_LOCAL_SHELL: Final = "local_shell"


# ------------------------------------------------------------------------------------------------ the shape


def read_input(sent: Any) -> str | list[Item]:
    """`input` as it was sent, its items checked.

    Raises:
        InvalidRequest: In Ollama's words.
    """
    if isinstance(sent, str):
        return sent
    if not isinstance(sent, list):
        wanted = "json: cannot unmarshal %s into Go value of type []json.RawMessage"
        raise InvalidRequest(f"input must be a string or array: {wanted % kind(sent)}")
    return [_read_item(place, item) for place, item in enumerate(sent)]


def _read_item(place: int, sent: Any) -> Item:
    try:
        return _checked(_ITEM.read({} if sent is None else sent))
    except (InvalidRequest, Mismatch) as wrong:
        raise InvalidRequest(f"input[{place}]: {wrong}") from None


def _checked(item: dict[str, Any]) -> Item:
    name = item.setdefault("type", "message" if "role" in item else "")
    if not name:
        raise InvalidRequest("input item missing required 'type' field")
    if name == "item_reference":
        raise InvalidRequest("item_reference: no item is stored here, send the item itself (store: false)")
    if name not in _ITEMS and name not in _HOSTED:
        raise InvalidRequest(f"unknown input item type: {gojson.quote(name)}")
    for where in ("content", "output"):
        if isinstance(item.get(where), list) and name != "reasoning":
            item[where] = [_read_part(where, *part) for part in enumerate(item[where])]
    return item


def _read_part(where: str, place: int, sent: Any) -> SentPart:
    if not isinstance(sent, dict):
        raise InvalidRequest(f"{where}[{place}]: it must be an object")
    named = sent.get("type")
    if not isinstance(named, str) or named not in _PARTS:
        shown = named if isinstance(named, str) else ""
        raise InvalidRequest(f"{where}[{place}]: unknown content type: {shown}")
    return sent


# ------------------------------------------------------------------------------------------ the conversation


def read_conversation(instructions: str, sent: str | Sequence[Item]) -> tuple[Message, ...]:
    """The messages that the items make up; none of an empty input.

    Raises:
        InvalidRequest: In Ollama's words.
    """
    if isinstance(sent, str):
        messages = [Message("user", sent)] if sent else []
    else:
        conversation = _Conversation()
        for item in sent:
            if read := _ITEMS.get(item["type"]):
                read(conversation, item)
        conversation.end_turn()
        messages = conversation.messages
    return tuple([Message("system", instructions), *messages] if instructions and messages else messages)


@dataclass(slots=True)
class _Turn:
    """What the assistant said, thought and called without being interrupted: one message of ours."""

    said: list[str] = field(default_factory=list)
    thought: list[str] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    spoke_last: bool = False


class _Conversation:
    """Takes the items one by one."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._turn: _Turn | None = None

    def message(self, item: Item) -> None:
        """Somebody said something."""
        role = ROLES.get(item.get("role", "").lower(), "user")
        parts = _parts(item.get("content"))
        if role != "assistant":
            self.end_turn()
            self.messages += in_order(role, ((part, "") for part in parts))
            return
        if self._turn is not None and self._turn.spoke_last:  # one reply never has two messages in a row
            self.end_turn()
        turn = self._open()
        said = joined(role, parts)
        turn.said.append(said.content)
        turn.images += said.images
        turn.spoke_last = True

    def reasoning(self, item: Item) -> None:
        """The assistant thought: the summary, or what a real server took it for."""
        thought = "\n\n".join(_texts(item.get("summary"))) or "\n\n".join(_texts(item.get("content")))
        sealed = item.get("encrypted_content", "")
        if not thought and not sealed.startswith(_SEALED_BY_OPENAI):
            thought = sealed
        turn = self._open()
        turn.thought.append(thought)
        turn.spoke_last = False

    def function_call(self, item: Item) -> None:
        """The assistant called a function."""
        self._call(item, qualified(item.get("namespace", ""), item.get("name", "")), _arguments(item))

    def custom_tool_call(self, item: Item) -> None:
        """The assistant called a custom tool."""
        name = qualified(item.get("namespace", ""), item.get("name", ""))
        self._call(item, name, {CUSTOM_INPUT: item.get("input", "")})

    def local_shell_call(self, item: Item) -> None:
        """The assistant called the shell that OpenAI's older Codex models have built in."""
        action = item.get("action")
        arguments = (
            {key: value for key, value in action.items() if key != "type"} if isinstance(action, dict) else {}
        )
        refuse_endless(arguments)
        self._call(item, _LOCAL_SHELL, arguments)

    def output(self, item: Item) -> None:
        """A tool returned something."""
        self.end_turn()
        said = joined("tool", _parts(item.get("output")))
        self.messages.append(replace(said, tool_call_id=_call_id(item)))

    def end_turn(self) -> None:
        """What follows is not the assistant's."""
        turn, self._turn = self._turn, None
        if turn is not None:
            self.messages.append(
                Message(
                    "assistant",
                    "".join(turn.said),
                    thinking="".join(turn.thought),
                    images=tuple(turn.images),
                    tool_calls=tuple(turn.calls),
                )
            )

    def _call(self, item: Item, name: str, arguments: Mapping[str, Any]) -> None:
        turn = self._open()
        turn.calls.append(ToolCall(_call_id(item), name, arguments))
        turn.spoke_last = False

    def _open(self) -> _Turn:
        if self._turn is None:
            self._turn = _Turn()
        return self._turn


_ITEMS: Final[Mapping[str, Callable[[_Conversation, Item], None]]] = {
    "message": _Conversation.message,
    "reasoning": _Conversation.reasoning,
    "function_call": _Conversation.function_call,
    "function_call_output": _Conversation.output,
    "custom_tool_call": _Conversation.custom_tool_call,
    "custom_tool_call_output": _Conversation.output,
    "local_shell_call": _Conversation.local_shell_call,
    "local_shell_call_output": _Conversation.output,
}


def _call_id(item: Item) -> str:
    # The results of a local shell name their call in `id`.
    call_id: str = item.get("call_id") or item.get("id", "")
    return call_id


def _arguments(item: Item) -> Mapping[str, Any]:
    text = item.get("arguments", "").strip()
    try:
        arguments = _object(gojson.parse(text.encode("utf-8", "replace"))) if text else {}
        refuse_endless(arguments)
    except InvalidRequest as wrong:
        raise InvalidRequest(f"failed to parse function call arguments: {wrong}") from None
    return arguments


def _object(value: Any) -> Mapping[str, Any]:
    if type(value) is dict:
        return value
    if value is None:
        return {}
    raise InvalidRequest(
        f"json: cannot unmarshal {kind(value)} into Go value of type map[string]interface {{}}"
    )


# ------------------------------------------------------------------------------------------------ what is said


def _parts(sent: Any) -> list[str | Image]:
    if sent is None:
        return []
    if isinstance(sent, str):
        return [sent]
    if isinstance(sent, list):
        return list(map(_part, sent))
    refuse_endless(sent)
    return [orjson.dumps(sent).decode()]  # a result that its client forgot to turn into text


def _part(part: SentPart) -> str | Image:
    if part["type"] == "input_file":
        raise InvalidRequest("file inputs are not currently supported")
    if part["type"] == "input_image":
        url = part.get("image_url")
        if not isinstance(url, str):
            raise InvalidRequest("invalid image input")
        return read_image(url)
    text = part.get("refusal" if part["type"] == "refusal" else "text")
    if text is None or isinstance(text, str):
        return text or ""
    raise InvalidRequest("invalid message format")


def _texts(sent: Any) -> Iterator[str]:
    for part in sent if isinstance(sent, list) else ():
        text = part.get("text") if isinstance(part, dict) else None
        if isinstance(text, str) and text:
            yield text
