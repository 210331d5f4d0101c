"""Content blocks of a Messages request as messages of ours, sans I/O.

A user's blocks become one message each, in their order: `chat.Message` has no order within it, and whoever wants
the turns in one piece joins them. An image goes with the text that follows it. The results of tools come first,
as `tool` messages. An assistant's turn stays whole: its calls belong together, and its text and thinking are put
together as they were told. Blocks of unknown kinds are passed over.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ollama_bridge import media
from ollama_bridge.chat import CacheTtl, Image, Message, Role
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.events import ToolCall
from ollama_bridge.surfaces.calls import ROLES, read_cache
from ollama_bridge.surfaces.gotypes import ANY, BOOL, IMAGE, STRING, Map, Mismatch, Slice, Struct

Block: TypeAlias = Mapping[str, Any]

_BLOCK: Final = Struct(
    "ContentBlock",
    {
        "type": STRING,
        "text": STRING,
        "source": ANY,
        "id": STRING,
        "name": STRING,
        "input": Map("api.ToolCallFunctionArguments"),
        "tool_use_id": STRING,
        "content": ANY,
        "is_error": BOOL,
        "thinking": STRING,
        "title": ANY,
        "context": ANY,
        "cache_control": ANY,
    },
    "anthropic",
)
_BLOCKS: Final = Slice("[]anthropic.ContentBlock", _BLOCK, {})
_MESSAGE: Final = Struct("MessageParam", {"role": STRING, "content": ANY}, "anthropic")

# Tuples, for what a client nests inside a block may have a list for its type, and that cannot be sought in a set.
_INNER: Final = ("text", "image")
_PLAIN_SOURCES: Final = ("text", "content")


class MessageParam:
    """A message as sent: its role in lower case, and its blocks. A text alone is one block."""

    def read(self, value: Any) -> tuple[str, list[Block]]:
        """As Go reads a type that decodes itself: what is wrong in it ends everything."""
        try:
            sent = _MESSAGE.read(value)
            content = sent.get("content", "")
            blocks = [{"type": "text", "text": content}] if type(content) is str else _BLOCKS.read(content)
        except Mismatch as mismatch:
            mismatch.fatal = True
            mismatch.struct = ""
            raise
        return sent.get("role", "").lower(), blocks


def read_system(sent: Any) -> list[Message]:
    """The system prompt: a text, or text blocks, each a message of its own."""
    if type(sent) is str:
        return [Message("system", sent)] if sent else []
    blocks = [block for block in sent if isinstance(block, dict)] if isinstance(sent, list) else []
    return [
        Message("system", text, cache=read_cache(block.get("cache_control")))
        for block in blocks
        if block.get("type") == "text" and isinstance(text := block.get("text"), str) and text
    ]


def read_message(role: str, blocks: Sequence[Block]) -> list[Message]:
    """One message of the wire.

    Raises:
        InvalidRequest: 400, in Ollama's words where a real server refuses it too.
    """
    # What a tool returned is a block here, so `tool` is no role.
    ours = ROLES.get(role, "user")
    results = [_result(block) for block in blocks if block.get("type") == "tool_result"]
    if ours == "assistant":
        return [*_assistant(blocks), *results]
    return [*results, *_spoken("system" if ours == "system" else "user", blocks)]


def _spoken(role: Role, blocks: Iterable[Block]) -> list[Message]:
    said: list[Message] = []
    images: list[Image] = []
    for block in blocks:
        text, seen = _piece(block)
        images += seen
        cache = read_cache(block.get("cache_control"))
        if text or (cache and images):
            said.append(Message(role, text, images=tuple(images), cache=cache))
            images.clear()
    if images:
        said.append(Message(role, images=tuple(images)))
    return said


def _assistant(blocks: Iterable[Block]) -> list[Message]:
    texts: list[str] = []
    thoughts: list[str] = []
    images: list[Image] = []
    calls: list[ToolCall] = []
    cache: CacheTtl = ""
    for block in blocks:
        match block.get("type"):
            case "thinking":
                thoughts.append(block.get("thinking", ""))
            case "tool_use":
                calls.append(_call(block))
            case _:
                text, seen = _piece(block)
                texts.append(text)
                images += seen
        cache = read_cache(block.get("cache_control")) or cache
    message = Message(
        "assistant",
        "".join(texts),
        thinking="".join(thoughts),
        images=tuple(images),
        tool_calls=tuple(calls),
        cache=cache,
    )
    return [message] if message.content or message.thinking or images or calls else []


def _call(block: Block) -> ToolCall:
    for name in ("id", "name"):
        if not block.get(name):
            raise InvalidRequest(f"tool_use block missing required '{name}' field")
    return ToolCall(block["id"], block["name"], block.get("input", {}))


def _result(block: Block) -> Message:
    content = block.get("content")
    texts: list[str] = []
    images: list[Image] = []
    for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
        text, seen = _piece(part) if isinstance(part, dict) else ("", [])
        texts.append(text)
        images += seen
    told = "\n".join(filter(None, texts))
    if block.get("is_error") and "error" not in told.lower():
        told = f"Error: {told}" if told else "Error"  # no other provider has a mark for it
    return Message(
        "tool",
        told,
        images=tuple(images),
        tool_call_id=block.get("tool_use_id", ""),
        cache=read_cache(block.get("cache_control")),
    )


def _piece(block: Block) -> tuple[str, list[Image]]:
    """What a block says, and what it shows; nothing, if it is of another kind."""
    match block.get("type"):
        case "text":
            return _text(block.get("text")), []
        case "image":
            return "", _image(block.get("source"))
        case "document":
            return _document(block)
        case "search_result":
            text, images = _parts(block.get("content"))
            return _joined(block.get("title"), block.get("source"), text), images
        case _:
            return "", []


def _document(block: Block) -> tuple[str, list[Image]]:
    source = block.get("source")
    named = source.get("type") if isinstance(source, dict) else None
    if not isinstance(source, dict) or named not in _PLAIN_SOURCES:
        shown = named if isinstance(named, str) else "none"
        raise InvalidRequest(
            f"documents of source type {shown[:40]} are not supported: send the document's text"
        )
    text, images = _parts(source.get("data" if named == "text" else "content"))
    return _joined(block.get("title"), block.get("context"), text), images


def _parts(content: Any) -> tuple[str, list[Image]]:
    """A text, or a list of text and image blocks inside another block."""
    if not isinstance(content, list):
        return _text(content), []
    inner = [block for block in content if isinstance(block, dict) and block.get("type") in _INNER]
    pieces = [_piece(block) for block in inner]
    return _joined(*(text for text, _ in pieces)), [image for _, images in pieces for image in images]


def _image(source: Any) -> list[Image]:
    if not isinstance(source, dict):
        raise InvalidRequest("invalid image source")
    named = source.get("type")
    if named != "base64":
        shown = named if isinstance(named, str) else ""
        raise InvalidRequest(f"invalid image source type: {shown[:40]}. Only base64 images are supported.")
    try:
        data = IMAGE.read(_text(source.get("data")))
    except Mismatch as mismatch:
        raise InvalidRequest(f"invalid base64 image data: {mismatch}") from None
    if not data:
        return []
    sniffed, told = media.sniff(data), _text(source.get("media_type"))
    # What the bytes say counts; clients call every image a PNG.
    return [Image(data, told if sniffed == media.UNKNOWN and told.startswith("image/") else sniffed)]


def _joined(*texts: Any) -> str:
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
