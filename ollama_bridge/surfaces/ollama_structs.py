"""The requests of Ollama's API as tables of fields, named as its Go structs are: clients see the names in errors."""

from collections.abc import Mapping
from typing import Any, Final

from ollama_bridge.errors import InvalidRequest
from ollama_bridge.surfaces.gotypes import (
    ANY,
    BOOL,
    IMAGE,
    INT,
    STRING,
    Custom,
    GoType,
    Itself,
    Map,
    Slice,
    Struct,
)
from ollama_bridge.surfaces.ollama_options import read_keep_alive, read_think


def _arguments(sent: Any) -> dict[str, Any]:
    if type(sent) is dict:
        return sent
    raise InvalidRequest("Value looks like object, but can't find closing '}' symbol")


_FOR_BOTH: Final[Mapping[str, GoType]] = {
    "model": STRING,
    "stream": BOOL,
    "format": ANY,
    "keep_alive": Custom(read_keep_alive),
    "options": Map(),
    "think": Custom(read_think),
    "truncate": BOOL,
    "shift": BOOL,
    "_debug_render_only": BOOL,
    "logprobs": BOOL,
    "top_logprobs": INT,
}
_TOOL_CALL_FUNCTION: Final = Struct(
    "ToolCallFunction", {"index": INT, "name": STRING, "arguments": Custom(_arguments)}
)
_TOOL_CALL: Final = Struct("ToolCall", {"id": STRING, "function": _TOOL_CALL_FUNCTION})
_MESSAGE: Final = Struct(
    "Alias",  # Ollama decodes messages through a local type of that name, and clients see it in errors
    {
        "role": STRING,
        "content": STRING,
        "thinking": STRING,
        "images": Slice("[]api.ImageData", IMAGE, ""),
        "tool_calls": Slice("[]api.ToolCall", _TOOL_CALL, {}),
        "tool_name": STRING,
        "tool_call_id": STRING,
    },
)
# Ollama has a struct of its own for `parameters` and drops what it does not know; providers know more.
_TOOL_FUNCTION: Final = Struct(
    "ToolFunction",
    {"name": STRING, "description": STRING, "parameters": Map("api.ToolFunctionParameters")},
)
_TOOL: Final = Struct("Tool", {"type": STRING, "function": _TOOL_FUNCTION})
CHAT: Final = Struct(
    "ChatRequest",
    {
        **_FOR_BOTH,
        "messages": Slice("[]api.Message", Itself(_MESSAGE), {}),
        "tools": Slice("api.Tools", _TOOL, {}),
    },
)
GENERATE: Final = Struct(
    "GenerateRequest",
    {
        **_FOR_BOTH,
        "prompt": STRING,
        "suffix": STRING,
        "system": STRING,
        "template": STRING,
        "context": Slice("[]int", INT, 0),
        "raw": BOOL,
        "images": Slice("[]api.ImageData", IMAGE, ""),
    },
)
EMBED: Final = Struct(
    "EmbedRequest",
    {
        "model": STRING,
        "input": ANY,
        "keep_alive": Custom(read_keep_alive),
        "truncate": BOOL,
        "dimensions": INT,
        "options": Map(),
    },
)
EMBEDDINGS: Final = Struct(
    "EmbeddingRequest",
    {"model": STRING, "prompt": STRING, "keep_alive": Custom(read_keep_alive), "options": Map()},
)
SHOW: Final = Struct(
    "ShowRequest",
    {
        "model": STRING,
        "name": STRING,
        "system": STRING,
        "template": STRING,
        "verbose": BOOL,
        "options": Map(),
    },
)

_NAMED: Final[Mapping[str, GoType]] = {"model": STRING, "name": STRING}
_MOVED: Final[Mapping[str, GoType]] = {
    **_NAMED,
    "insecure": BOOL,
    "username": STRING,
    "password": STRING,
    "stream": BOOL,
}
PULL: Final = Struct("PullRequest", _MOVED)
PUSH: Final = Struct("PushRequest", _MOVED)
DELETE: Final = Struct("DeleteRequest", _NAMED)
COPY: Final = Struct("CopyRequest", {"source": STRING, "destination": STRING})
CREATE: Final = Struct(
    "CreateRequest",
    {
        **_NAMED,
        "stream": BOOL,
        "quantize": STRING,
        "quantization": STRING,
        "draft_quantize": STRING,
        "from": STRING,
        "remote_host": STRING,
        "files": Map("map[string]string"),
        "adapters": Map("map[string]string"),
        "draft_files": Map("map[string]string"),
        "template": STRING,
        "license": ANY,
        "system": STRING,
        "parameters": Map(),
        "messages": Slice("[]api.Message", Itself(_MESSAGE), {}),
        "renderer": STRING,
        "parser": STRING,
        "requires": STRING,
        "info": Map(),
    },
)
