"""What POST /v1/responses asks, sans I/O.

As in `ollama_decode`, decoding takes two steps, with the look-up of the model between them. What a real server
ignores and clients want is read as well: `tool_choice`, `parallel_tool_calls`, `top_logprobs`, JSON without a
schema, custom tools. Nothing is stored: what names something stored is refused, for an answer that knows only
half of the conversation is worse than none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ollama_bridge.catalog import Model
from ollama_bridge.chat import ChatRequest, Message, Think
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.presets import primed
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.calls import NamedCall, check_abilities, read_top_logprobs
from ollama_bridge.surfaces.converter import converting, decode_body
from ollama_bridge.surfaces.gotypes import ANY, BOOL, FLOAT64, INT, STRING, Custom, Map, Slice, Struct
from ollama_bridge.surfaces.openai_values import read_effort
from ollama_bridge.surfaces.responses_input import read_conversation, read_input
from ollama_bridge.surfaces.responses_tools import TOOLS, Toolbox, read_tools, sorted_json

_FORMAT: Final = Struct(
    "ResponsesTextFormat", {"type": STRING, "name": STRING, "schema": ANY, "strict": BOOL}, "openai"
)
_REQUEST: Final = Struct(
    "ResponsesRequest",
    {
        "model": STRING,
        "input": Custom(read_input),
        "instructions": STRING,
        "max_output_tokens": INT,
        "reasoning": Struct("ResponsesReasoning", {"effort": STRING, "summary": STRING}, "openai"),
        "temperature": FLOAT64,
        "top_p": FLOAT64,
        "text": Struct("ResponsesText", {"format": _FORMAT, "verbosity": STRING}, "openai"),
        "truncation": STRING,
        "tools": TOOLS,
        "stream": BOOL,
        "background": BOOL,
        "tool_choice": ANY,
        "parallel_tool_calls": BOOL,
        "top_logprobs": INT,
        "include": Slice("[]string", STRING, ""),
        "metadata": Map(),
        "prompt_cache_key": STRING,
        "previous_response_id": ANY,
        "conversation": ANY,
        "prompt": ANY,
    },
    "openai",
)
_STORED: Final = {
    "previous_response_id": "send the whole conversation as input",
    "conversation": "send the whole conversation as input",
    "prompt": "send its text as instructions",
}
"""What refers to something stored, and what to do instead."""

_OPTIONS: Final = {"temperature": "temperature", "top_p": "top_p", "max_output_tokens": "num_predict"}
_LOGPROBS: Final = "message.output_text.logprobs"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponsesCall(NamedCall):
    """One POST /v1/responses; repr shows nothing of the conversation.

    Args:
        stream: Whether the reply is a stream.
        messages: None at all: the client wants the model loaded. Answer with nothing but a `Finish`.
        toolbox: What the model may call.
        top_logprobs: 0 to 20.
        echo: What the response object repeats of the request.
    """

    stream: bool = False
    messages: tuple[Message, ...] = field(default=(), repr=False)
    toolbox: Toolbox = field(default_factory=Toolbox, repr=False)
    parallel_tool_calls: bool | None = None
    think: Think = None
    wanted: Any = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    logprobs: bool = False
    top_logprobs: int = 0
    echo: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def request(self, model: Model) -> ChatRequest:
        """The question to `model`; also for a load, where only the checks matter.

        Raises:
            InvalidRequest: 400, the model cannot do that.
        """
        tools = self.toolbox.tools
        check_abilities(
            model, *(("tools",) if tools else ()), named=self.model, verb="chat", think=self.think
        )
        request = ChatRequest(
            model=self.model,
            messages=self.messages,
            tools=tools,
            format=self.wanted,
            think=self.think,
            options=self.options,
            stream=self.stream,
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs,
            tool_choice=self.toolbox.choice,
            parallel_tool_calls=self.parallel_tool_calls if tools else None,
            cache_key=self.echo.get("prompt_cache_key") or "",
            target=model.target,
        )
        return primed(request, model.preset)


def decode_responses(body: bytes) -> ResponsesCall:
    """Read the body of POST /v1/responses.

    Raises:
        ConverterError: 400, in Ollama's words where it has any.
    """
    sent = decode_body(body, _REQUEST)
    with converting():
        for name, remedy in _STORED.items():
            if sent.get(name):
                raise InvalidRequest(f"{name}: nothing is stored here, {remedy}")
        top_logprobs = read_top_logprobs(sent.get("top_logprobs", 0))
        toolbox = read_tools(sent.get("tools", ()), sent.get("tool_choice"))
        return ResponsesCall(
            model=sent.get("model", ""),
            stream=sent.get("stream", False),
            messages=read_conversation(sent.get("instructions", ""), sent.get("input", "")),
            toolbox=toolbox,
            parallel_tool_calls=sent.get("parallel_tool_calls"),
            think=read_effort(sent.get("reasoning", {}).get("effort", "")),
            wanted=_wanted(sent.get("text", {}).get("format", {})),
            # Temperature and top_p are not set to 1 when absent, as a real server does: several models take
            # neither, and 1 is what the others have anyway.
            options={name: sent[key] for key, name in _OPTIONS.items() if key in sent},
            logprobs=_LOGPROBS in sent.get("include", ()),
            top_logprobs=top_logprobs,
            echo=_echo(sent, toolbox),
        )


def _wanted(text_format: Mapping[str, Any]) -> Any:
    match text_format.get("type"):
        case "json_object":
            return "json"
        case "json_schema":
            schema = text_format.get("schema")
            if not isinstance(schema, dict):
                raise InvalidRequest("text.format.schema is required, and must be a JSON Schema object")
            return schema
        case None | "" | "text":
            return None
        case other:
            raise InvalidRequest(f"text.format: unknown type {gojson.quote(other)}")


def _echo(sent: Mapping[str, Any], toolbox: Toolbox) -> Mapping[str, Any]:
    choice = sent.get("tool_choice", "auto")
    text = {"format": {"type": "text"}, **sent.get("text", {})}
    if "schema" in text["format"]:
        text["format"] = {**text["format"], "schema": sorted_json(text["format"]["schema"])}
    return {
        "instructions": sent.get("instructions"),
        "tools": toolbox.echo,
        "tool_choice": choice if isinstance(choice, str) else sorted_json(choice),
        "truncation": sent.get("truncation", "disabled"),
        "parallel_tool_calls": sent.get("parallel_tool_calls", True),
        "text": text,
        "top_p": sent.get("top_p", 1),
        "top_logprobs": sent.get("top_logprobs", 0),
        "temperature": sent.get("temperature", 1),
        "reasoning": sent.get("reasoning"),
        "max_output_tokens": sent.get("max_output_tokens"),
        "background": sent.get("background", False),
        "metadata": sorted_json(sent.get("metadata", {})),
        "prompt_cache_key": sent.get("prompt_cache_key"),
    }
