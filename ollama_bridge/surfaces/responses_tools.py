"""The tools of a /v1/responses request, and which of them the model is to call. Sans I/O.

Functions are what every provider knows. The tools of a namespace become functions under a longer name; a custom
tool, whose input is free text (Codex's `apply_patch`), becomes a function with one argument. `Form` is the way
back. Tools that OpenAI runs itself, such as `web_search`, nobody runs here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from ollama_bridge.chat import Tool, ToolChoice
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.calls import refuse_endless
from ollama_bridge.surfaces.gotypes import ANY, BOOL, STRING, GoType, Map, Slice, Struct

CUSTOM_INPUT: Final = "input"
"""The one argument of a custom tool."""

_FUNCTION_FIELDS: Final[Mapping[str, GoType]] = {
    "type": STRING,
    "name": STRING,
    "description": STRING,
    "strict": BOOL,
    "parameters": Map(),
    "format": ANY,
}
_FUNCTION: Final = Struct("ResponsesTool", _FUNCTION_FIELDS, "openai")
TOOLS: Final = Slice(
    "[]openai.ResponsesTool",
    Struct(
        "ResponsesTool",
        {**_FUNCTION_FIELDS, "tools": Slice("[]openai.ResponsesTool", _FUNCTION, {})},
        "openai",
    ),
    {},
)
"""The type of `tools`: kinds we do not know keep only these fields."""

_MODES: Final = {mode.mode: mode for mode in (ToolChoice(), ToolChoice("none"), ToolChoice("required"))}
_CALLABLE: Final = ("function", "custom")


@dataclass(frozen=True, slots=True)
class Form:
    """A tool as the client knows it.

    Args:
        namespace: Empty: it stands in none.
        custom: Whether its input is free text.
    """

    name: str
    namespace: str = ""
    custom: bool = False


@dataclass(frozen=True, slots=True)
class Toolbox:
    """What the client lets the model call.

    Args:
        forms: Tools that are no plain functions, by the name the model calls them.
        echo: `tools`, as the response object repeats them.
        dropped: Types of the tools that nobody runs here.
    """

    tools: tuple[Tool, ...] = ()
    choice: ToolChoice | None = None
    forms: Mapping[str, Form] = field(default_factory=dict)
    echo: Sequence[Mapping[str, Any]] = ()
    dropped: tuple[str, ...] = ()


def qualified(namespace: str, name: str) -> str:
    """What the model calls the tool of a namespace: one name, since providers know no namespaces."""
    if not namespace:
        return name
    return f"{namespace}{name}" if namespace.endswith("_") else f"{namespace}__{name}"


def sorted_json(value: Any) -> orjson.Fragment:
    """What a client may nest freely, as Go writes a map; it is also sent on.

    Raises:
        InvalidRequest: It is nested too deeply, or holds a number that is too large.
    """
    refuse_endless(value)
    return orjson.Fragment(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def read_tools(sent: Sequence[Mapping[str, Any]], choice: Any) -> Toolbox:
    """The tools, and how they are to be chosen from.

    Args:
        sent: As `TOOLS` read them.
        choice: `tool_choice` as sent; None: the client said nothing.

    Raises:
        InvalidRequest: There are only tools that nobody runs here; or `choice` makes no sense.
    """
    tools: list[Tool] = []
    forms: dict[str, Form] = {}
    echo: list[Mapping[str, Any]] = []
    dropped: list[str] = []
    for tool in sent:
        found = list(_functions(tool))
        if not found:
            dropped.append(tool.get("type", ""))
            continue
        echo.append(_echo(tool))
        for function, form in found:
            tools.append(function)
            forms[function.name] = form
    if dropped and not tools:
        raise InvalidRequest(f"{gojson.quote(dropped[0])} tools do not run here; offer functions")
    tools, chosen = _choose(tools, forms, choice)
    return Toolbox(
        tools=tuple(tools),
        choice=chosen,
        forms={name: form for name, form in forms.items() if form != Form(name)},
        echo=echo,
        dropped=tuple(dropped),
    )


def _functions(tool: Mapping[str, Any], namespace: str = "") -> Iterable[tuple[Tool, Form]]:
    kind, name = tool.get("type"), tool.get("name", "")
    if kind == "namespace" and not namespace:
        for inner in tool.get("tools", ()):
            yield from _functions(inner, name)
    elif kind in _CALLABLE and name:
        custom = kind == "custom"
        parameters = _free_text(tool) if custom else tool.get("parameters", {})
        function = Tool(qualified(namespace, name), tool.get("description", ""), parameters)
        yield function, Form(name, namespace, custom)


def _free_text(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parameters that hold free text; a grammar is told in words, for nobody enforces it."""
    wanted = tool.get("format")
    argument = {"type": "string"}
    if isinstance(wanted, dict) and isinstance(wanted.get("definition"), str):
        syntax = wanted.get("syntax", "")
        argument["description"] = f"Text that follows this {syntax} grammar:\n{wanted['definition']}"
    return {
        "type": "object",
        "properties": {CUSTOM_INPUT: argument},
        "required": [CUSTOM_INPUT],
        "additionalProperties": False,
    }


def _echo(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = tool.get("parameters")
    told: dict[str, Any] = {
        "type": tool["type"],
        "name": tool.get("name", ""),
        "description": tool.get("description"),
    }
    if tool["type"] == "namespace":
        return {**told, "tools": [_echo(inner) for inner in tool["tools"] if any(_functions(inner))]}
    if tool["type"] == "custom":
        return {**told, "format": sorted_json(tool["format"])} if "format" in tool else told
    return {
        **told,
        "strict": tool.get("strict"),
        "parameters": None if parameters is None else sorted_json(parameters),
    }


def _choose(
    tools: list[Tool], forms: Mapping[str, Form], choice: Any
) -> tuple[list[Tool], ToolChoice | None]:
    if isinstance(choice, str):
        if choice not in _MODES:
            known = "'none', 'auto' or 'required'"
            raise InvalidRequest(f"tool_choice: invalid value {gojson.quote(choice)}: it must be {known}")
        # A real server takes any choice among no tools, and providers none.
        return tools, _MODES[choice] if tools else None
    if choice is None:
        return tools, None
    kind = _type_of(choice)
    if kind == "allowed_tools" and isinstance(choice.get("tools"), list):
        names = {_named(forms, one) for one in choice["tools"] if _type_of(one) in _CALLABLE}
        allowed = [tool for tool in tools if tool.name in names]
        mode = _MODES["required" if choice.get("mode") == "required" else "auto"]
        return allowed, mode if allowed else None
    if kind in _CALLABLE:
        return tools, ToolChoice("tool", _named(forms, choice))
    raise InvalidRequest(f"tool_choice: {gojson.quote(str(kind))} tools do not run here")


def _named(forms: Mapping[str, Form], wanted: Mapping[str, Any]) -> str:
    """The name that the model knows the wanted tool by."""
    name = wanted.get("name")
    for called, form in forms.items():
        if name in (form.name, called):
            return called
    raise InvalidRequest(f"tool_choice: there is no tool {gojson.quote(str(name))}")


def _type_of(wanted: Any) -> Any:
    return wanted.get("type") if isinstance(wanted, dict) else None
