"""The tools of a Messages request: the client's own, and those that Anthropic defines, sans I/O.

A client's tool brings its schema. Of Anthropic's own some run at the client (`bash`, the text editor, the memory
tool): only Claude knows them by name, so every other model is given their documented schema. The rest runs at
Anthropic (web search, code execution) or needs to know the screen (`computer`): there is nobody to run it here.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import structlog

from ollama_bridge.chat import CacheTtl, Tool, ToolChoice
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.calls import read_cache
from ollama_bridge.surfaces.gotypes import ANY, BOOL, STRING, Mismatch, Struct, kind

log = structlog.get_logger(__name__)

TOOL: Final = Struct(
    "Tool",
    {"type": STRING, "name": STRING, "description": STRING, "input_schema": ANY, "cache_control": ANY},
    "anthropic",
)
TOOL_CHOICE: Final = Struct(
    "ToolChoice", {"type": STRING, "name": STRING, "disable_parallel_tool_use": BOOL}, "anthropic"
)

_MODES: Final[Mapping[str, Literal["auto", "none", "required", "tool"]]] = {
    "auto": "auto",
    "any": "required",
    "none": "none",
    "tool": "tool",
}

_VERSION: Final = re.compile(r"_\d{8}$")


def _schema(required: str, **properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


def _words(description: str) -> dict[str, str]:
    return {"type": "string", "description": description}


_EDITS: Final[Mapping[str, Mapping[str, Any]]] = {
    "view_range": {
        "type": "array",
        "items": {"type": "integer"},
        "description": "First and last line to view, from 1; -1: to the end",
    },
    "old_str": _words("The text to replace; it stands there exactly once"),
    "new_str": _words("What to put in its place"),
    "insert_line": {"type": "integer", "description": "The line after which to insert; 0: at the top"},
    "insert_text": _words("What to insert"),
    "file_text": _words("All of the file to create"),
}

_CLIENT_TOOLS: Final[Mapping[str, tuple[str, str, Mapping[str, Any]]]] = {
    "bash": (
        "bash",
        "Run a command in a bash shell that lasts.",
        _schema(
            "",
            command=_words("The command; not needed to restart"),
            restart={"type": "boolean", "description": "Restart the shell"},
        ),
    ),
    "text_editor": (
        "str_replace_based_edit_tool",
        "View, create and edit files.",
        _schema(
            "command path",
            command={"type": "string", "enum": ["view", "create", "str_replace", "insert"]},
            path=_words("The file, or for `view` the directory"),
            **_EDITS,
        ),
    ),
    "memory": (
        "memory",
        "Look into, and write, the files under /memories, which outlast the conversation.",
        _schema(
            "command",
            command={
                "type": "string",
                "enum": ["view", "create", "str_replace", "insert", "delete", "rename"],
            },
            path=_words("Where, below /memories"),
            old_path=_words("What to rename"),
            new_path=_words("Its new name"),
            **_EDITS,
        ),
    ),
}
"""Type without its version to name, description and schema, in the words of Anthropic's documentation:
https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview."""


def read_tools(sent: Iterable[Mapping[str, Any]]) -> tuple[Tool, ...]:
    """The tools a model may call; what nobody here could run is left out, with one line in the log.

    Raises:
        InvalidRequest: 400, `invalid input_schema for tool "x": …`.
    """
    tools, dropped = [], []
    for one in sent:
        named = one.get("type", "")
        known = None if "input_schema" in one else _CLIENT_TOOLS.get(_VERSION.sub("", named))
        cache = read_cache(one.get("cache_control"))
        if known is not None:
            name, description, schema = known
            tools.append(Tool(one.get("name") or name, description, schema, cache))
        elif named in {"", "custom"} or "input_schema" in one:
            if one.get("name"):
                tools.append(_own(one, cache))
        else:
            dropped.append(named)
    if dropped:
        log.info("tools dropped", types=[named[:40] for named in dropped[:20]])
    return tuple(tools)


def read_tool_choice(sent: Mapping[str, Any], tools: Iterable[Tool]) -> ToolChoice | None:
    """What the client says of calling `tools`; None if that is nothing, or is about a tool that is not there."""
    mode = _MODES.get(sent.get("type", ""))
    if mode is None:
        return None
    names = {tool.name for tool in tools}
    if mode != "tool":
        return ToolChoice(mode) if names else None
    name = sent.get("name", "")
    return ToolChoice("tool", name) if name in names else None


def _own(sent: Mapping[str, Any], cache: CacheTtl) -> Tool:
    schema = sent.get("input_schema", {})
    if not isinstance(schema, dict):
        mismatch = Mismatch(kind(schema), "api.ToolFunctionParameters")
        raise InvalidRequest(f"invalid input_schema for tool {gojson.quote(sent['name'])}: {mismatch}")
    return Tool(sent["name"], sent.get("description", ""), schema, cache)
