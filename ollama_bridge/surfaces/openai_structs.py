"""The requests of OpenAI's chat and text completions as tables of fields, named as Ollama's Go structs are.

Fields that Ollama itself ignores are `ANY`: whatever a client puts there, no type error comes of it.
"""

from collections.abc import Mapping
from typing import Any, Final

from ollama_bridge.surfaces.gotypes import (
    ANY,
    BOOL,
    FLOAT32,
    FLOAT64,
    INT,
    STRING,
    Custom,
    GoType,
    Map,
    Mismatch,
    Slice,
    Struct,
    kind,
)


def _prompt(sent: Any) -> str:
    """A string; OpenAI's own clients may also put one into an array."""
    if type(sent) is list and len(sent) == 1:
        (sent,) = sent
    if type(sent) is str:
        return sent
    raise Mismatch(kind(sent) if sent is not None else "null", "string")


_FOR_BOTH: Final[Mapping[str, GoType]] = {
    "model": STRING,
    "stream": BOOL,
    "stream_options": Struct("StreamOptions", {"include_usage": BOOL}, "openai"),
    "max_tokens": INT,
    "seed": INT,
    "stop": ANY,
    "_debug_render_only": BOOL,
    "n": ANY,
    "options": ANY,
}
_TOOL_CALL: Final = Struct(
    "ToolCall",
    {
        "id": STRING,
        "index": INT,
        "type": STRING,
        "function": Struct("Function", {"name": STRING, "arguments": ANY}, "openai"),
    },
    "openai",
)
_MESSAGE: Final = Struct(
    "Message",
    {
        "role": STRING,
        "content": ANY,
        "reasoning": STRING,
        "tool_calls": Slice("[]openai.ToolCall", _TOOL_CALL, {}),
        "name": STRING,
        "tool_call_id": STRING,
        "function_call": ANY,
        "refusal": ANY,
        "cache_control": ANY,
    },
    "openai",
)
_FUNCTION: Final = Struct(
    "ToolFunction",
    {
        "name": STRING,
        "description": STRING,
        "parameters": Map("api.ToolFunctionParameters"),
        "cache_control": ANY,
    },
)
_TOOL: Final = Struct("Tool", {"type": STRING, "function": _FUNCTION, "cache_control": ANY})
_RESPONSE_FORMAT: Final = Struct(
    "ResponseFormat",
    {"type": STRING, "json_schema": Struct("JsonSchema", {"schema": ANY}, "openai")},
    "openai",
)
CHAT: Final = Struct(
    "ChatCompletionRequest",
    {
        **_FOR_BOTH,
        "messages": Slice("[]openai.Message", _MESSAGE, {}),
        "max_completion_tokens": INT,
        "temperature": FLOAT64,
        "top_p": FLOAT64,
        "frequency_penalty": FLOAT64,
        "presence_penalty": FLOAT64,
        "response_format": _RESPONSE_FORMAT,
        "tools": Slice("[]api.Tool", _TOOL, {}),
        "tool_choice": ANY,
        "parallel_tool_calls": ANY,
        "functions": ANY,
        "reasoning": Struct("Reasoning", {"effort": STRING}, "openai"),
        "reasoning_effort": STRING,
        "logprobs": BOOL,
        "top_logprobs": INT,
        "prompt_cache_key": ANY,
    },
    "openai",
)
COMPLETION: Final = Struct(
    "CompletionRequest",
    {
        **_FOR_BOTH,
        "prompt": Custom(_prompt),
        "suffix": STRING,
        "temperature": FLOAT32,
        "top_p": FLOAT32,
        "frequency_penalty": FLOAT32,
        "presence_penalty": FLOAT32,
        "logprobs": INT,
        "echo": ANY,
        "best_of": ANY,
    },
    "openai",
)
