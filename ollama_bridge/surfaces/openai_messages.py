"""The messages and tools of a chat completion in ours, sans I/O.

Everything here raises `InvalidRequest`, in Ollama's words where it has any.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ollama_bridge.chat import CacheTtl, Message, Role, Tool, ToolChoice
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.events import ToolCall
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.calls import ROLES, read_cache
from ollama_bridge.surfaces.gotypes import IMAGE, Mismatch, kind
from ollama_bridge.surfaces.openai_values import Part, in_order, read_image

_ROLES: Final[Mapping[str, Role]] = {**ROLES, "function": "tool"}
_GO_NAMES: Final = {"number": "float64", "bool": "bool", "object": "map[string]interface {}"}
"""How Go calls what `content` must not be."""

_CHOICES: Final[Mapping[str, ToolChoice]] = {
    "auto": ToolChoice(),
    "none": ToolChoice("none"),
    "required": ToolChoice("required"),
    "any": ToolChoice("required"),  # Mistral's word
}
_NO_CHOICE: Final = 'invalid tool_choice: it is "none", "auto", "required", or an object that names a function or allowed_tools'


def read_messages(sent: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The conversation. Unlike Ollama, which makes a message of each part, it keeps a text with its images.

    Raises:
        InvalidRequest: 400.
    """
    names: dict[str, str] = {}
    messages: list[Message] = []
    for one in sent:
        role = _ROLES.get(one.get("role", "").lower(), "user")
        calls = tuple(_calls(one)) if role == "assistant" else ()
        names |= {call.id: call.name for call in calls if call.id}
        said = in_order(role, _parts(role, one), read_cache(one.get("cache_control")))
        if role == "assistant":
            said[-1] = replace(said[-1], tool_calls=calls, thinking=one.get("reasoning", ""))
        elif role == "tool":
            call_id = one.get("tool_call_id", "")
            name = one.get("name") or names.get(call_id, "")
            said[-1] = replace(said[-1], tool_call_id=call_id, tool_name=name)
        messages += said
    return tuple(messages)


def read_tools(sent: Iterable[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """The functions among the tools; a provider's own tools have none and are left out."""
    tools = []
    for one in sent:
        function = one.get("function", {})
        if name := function.get("name"):
            cache = read_cache(one.get("cache_control")) or read_cache(function.get("cache_control"))
            tools.append(
                Tool(name, function.get("description", ""), function.get("parameters", {}), cache=cache)
            )
    return tuple(tools)


def read_choice(sent: Any, tools: tuple[Tool, ...]) -> tuple[ToolChoice | None, tuple[Tool, ...]]:
    """`tool_choice`, and the tools that it leaves.

    Raises:
        InvalidRequest: 400, it is none, or names a tool that there is not.
    """
    if not sent or not tools:
        return None, tools
    if isinstance(sent, str):
        if sent not in _CHOICES:
            raise InvalidRequest(_NO_CHOICE)
        return _CHOICES[sent], tools
    match sent:
        case {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto" | "required" as mode, "tools": list(some)},
        }:
            allowed = _known({_name_of(one) for one in some}, tools)
            return _CHOICES[mode], tuple(tool for tool in tools if tool.name in allowed)
        case {"type": "function"}:
            name = _name_of(sent)
            _known({name}, tools)
            return ToolChoice("tool", name), tools
        case {"type": str(word)} if word in _CHOICES:
            return _CHOICES[word], tools
        case _:
            raise InvalidRequest(_NO_CHOICE)


def _name_of(one: Any) -> str:
    match one:
        case {"function": {"name": str(name)}} | {"name": str(name)}:
            return name
        case _:
            raise InvalidRequest(_NO_CHOICE)


def _known(names: set[str], tools: Iterable[Tool]) -> set[str]:
    if unknown := sorted(names - {tool.name for tool in tools}):
        raise InvalidRequest(f"tool_choice names {gojson.quote(unknown[0])}, which is not among the tools")
    return names


# ------------------------------------------------------------------------------------------ what is said


def _parts(role: Role, sent: Mapping[str, Any]) -> Iterator[tuple[Part, CacheTtl]]:
    content = sent.get("content")
    if isinstance(content, str):
        yield content, ""
    elif isinstance(content, list):
        for part in content:
            yield _part(part), read_cache(part.get("cache_control"))
    elif content is not None:
        raise InvalidRequest(f"invalid message content type: {_GO_NAMES[kind(content)]}")
    elif role == "assistant":
        if isinstance(refusal := sent.get("refusal"), str):
            yield refusal, ""
    elif role != "tool":  # a tool may well return nothing
        raise InvalidRequest("invalid message content type: <nil>")


def _part(sent: Any) -> Part:
    match sent:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": "image_url", "image_url": {"url": str(url)} | str(url)}:
            return read_image(url)
        case {"type": "input_audio", "input_audio": {"data": str(data)}}:
            raise _no_audio(data)
        case {"type": "file"}:
            raise InvalidRequest("file inputs are not currently supported")
        case _:
            raise InvalidRequest("invalid message format")


def _no_audio(data: str) -> InvalidRequest:
    try:
        IMAGE.read(data)
    except Mismatch as corrupt:
        return InvalidRequest(f"invalid input_audio base64 data: {corrupt}")
    return InvalidRequest("audio inputs are not currently supported")


# ---------------------------------------------------------------------------------------------- tool calls


def _calls(sent: Mapping[str, Any]) -> Iterator[ToolCall]:
    for call in sent.get("tool_calls", ()):
        function = call.get("function", {})
        yield ToolCall(call.get("id", ""), function.get("name", ""), _arguments(function.get("arguments")))
    match sent.get("function_call"):  # what there was before tools
        case {"name": str(name), "arguments": arguments}:
            yield ToolCall("", name, _arguments(arguments))


def _arguments(sent: Any) -> Mapping[str, Any]:
    """The object in a string, or, from clients that know Ollama's own wire, the object."""
    if isinstance(sent, str):
        sent = _value_of(sent)
    if sent is None:
        return {}
    if not isinstance(sent, dict):
        raise InvalidRequest("invalid tool call arguments")
    return sent


def _value_of(text: str) -> Any:
    """What a JSON text says; None for an empty one, and the text itself if it is no JSON, or more than one."""
    try:  # as an array, for nothing may follow the value
        values = gojson.parse(b"[%b]" % text.encode("utf-8", "replace"))
    except InvalidRequest:
        return text
    return values[0] if len(values) == 1 else text if values else None
