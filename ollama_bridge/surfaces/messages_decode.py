"""What /v1/messages and /v1/messages/count_tokens ask, sans I/O.

Beyond what a real Ollama reads, it understands what clients of Anthropic's API want and the real one ignores:
`tool_choice`, `cache_control`, `budget_tokens`, `output_config.format`, documents of plain text.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from ollama_bridge.catalog import Model
from ollama_bridge.chat import ChatRequest, Message, Think, Tool, ToolChoice
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.presets import primed
from ollama_bridge.surfaces.calls import NamedCall, check_abilities, read_cache, refuse_endless
from ollama_bridge.surfaces.converter import converting, decode_body
from ollama_bridge.surfaces.gotypes import ANY, BOOL, FLOAT64, INT, STRING, Slice, Struct
from ollama_bridge.surfaces.messages_blocks import MessageParam, read_message, read_system
from ollama_bridge.surfaces.messages_tools import (
    TOOL,
    TOOL_CHOICE,
    read_tool_choice,
    read_tools,
)

_REQUEST: Final = Struct(
    "MessagesRequest",
    {
        "model": STRING,
        "max_tokens": INT,
        "messages": Slice("[]anthropic.MessageParam", MessageParam(), ("", [])),
        "system": ANY,
        "stream": BOOL,
        "temperature": FLOAT64,
        "top_p": FLOAT64,
        "top_k": INT,
        "stop_sequences": Slice("[]string", STRING, ""),
        "tools": Slice("[]anthropic.Tool", TOOL, {}),
        "tool_choice": TOOL_CHOICE,
        "thinking": Struct("ThinkingConfig", {"type": STRING, "budget_tokens": INT}, "anthropic"),
        "output_config": Struct("OutputConfig", {"effort": STRING, "format": ANY}, "anthropic"),
        "output_format": ANY,  # what `output_config.format` was called while it was a beta
        "cache_control": ANY,
    },
    "anthropic",
)

_OPTIONS: Final[Mapping[str, str]] = {
    "max_tokens": "num_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "stop_sequences": "stop",
}
"""A request's field to Ollama's option."""

_EFFORTS: Final[Mapping[str, Think]] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "max",
}
_BUDGETS: Final[tuple[tuple[int, Think], ...]] = ((4096, "low"), (12288, "medium"))
"""Most tokens of thinking to a level. Whoever allows more gets `high` and never `max`: Claude Code's usual 31999
is a bound, and no wish that every answer take as long as it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagesCall(NamedCall):
    """One POST /v1/messages, or the question how long it is; repr shows nothing of the conversation.

    Args:
        stream: Whether the reply is a stream, as it is only if the client says true.
        options: By Ollama's names.
        tool_choice: None: the client said nothing.
        parallel_tool_calls: False, or None: the client said nothing.
    """

    stream: bool = False
    messages: tuple[Message, ...] = field(default=(), repr=False)
    tools: tuple[Tool, ...] = field(default=(), repr=False)
    format: Mapping[str, Any] | None = field(default=None, repr=False)
    think: Think = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: Literal[False] | None = None

    def request(self, model: Model) -> ChatRequest:
        """The question to `model`. One that cannot think is asked without, as a real server does here.

        Raises:
            InvalidRequest: 400, the model cannot chat, or cannot call tools.
        """
        needs: tuple[Literal["tools"], ...] = ("tools",) if self.tools else ()
        check_abilities(model, *needs, named=self.model, verb="chat")
        request = ChatRequest(
            model=self.model,
            messages=self.messages,
            tools=self.tools,
            format=self.format,
            think=self.think if "thinking" in model.capabilities else None,
            options=self.options,
            stream=self.stream,
            tool_choice=self.tool_choice,
            parallel_tool_calls=self.parallel_tool_calls,
            target=model.target,
        )
        return primed(request, model.preset)


def decode_messages(body: bytes) -> MessagesCall:
    """Read the body of POST /v1/messages.

    Raises:
        ConverterError: 400, in Ollama's words and order.
    """
    sent = decode_body(body, _REQUEST)
    with converting():
        _require_model(sent)
        if sent.get("max_tokens", 0) <= 0:
            raise InvalidRequest("max_tokens is required and must be positive")
        return _call(sent)


def decode_count_tokens(body: bytes) -> MessagesCall:
    """Read the body of POST /v1/messages/count_tokens: the same without a limit of the answer.

    Raises:
        ConverterError: 400, in the words of /v1/messages.
    """
    sent = decode_body(body, _REQUEST)
    with converting():
        _require_model(sent)
        return _call({**sent, "stream": False})


def _require_model(sent: Mapping[str, Any]) -> None:
    if not sent.get("model"):
        raise InvalidRequest("model is required")


def _call(sent: Mapping[str, Any]) -> MessagesCall:
    if not sent.get("messages"):
        raise InvalidRequest("messages is required")
    messages = read_system(sent.get("system"))
    for role, blocks in sent["messages"]:
        messages += read_message(role, blocks)
    tools = read_tools(sent.get("tools", ()))
    wanted, choice = _format(sent), sent.get("tool_choice", {})
    refuse_endless(
        [wanted, [tool.parameters for tool in tools], [_arguments(message) for message in messages]]
    )
    return MessagesCall(
        model=sent["model"],
        stream=sent.get("stream", False),
        messages=_cached(messages, sent),
        tools=tools,
        format=wanted,
        think=_think(sent),
        options={ours: sent[name] for name, ours in _OPTIONS.items() if name in sent},
        tool_choice=read_tool_choice(choice, tools),
        parallel_tool_calls=False if choice.get("disable_parallel_tool_use") else None,
    )


def _arguments(message: Message) -> list[Mapping[str, Any]]:
    return [call.arguments for call in message.tool_calls]


def _cached(messages: list[Message], sent: Mapping[str, Any]) -> tuple[Message, ...]:
    """A `cache_control` of the whole request marks its end."""
    ttl = read_cache(sent.get("cache_control"))
    if ttl and messages and not messages[-1].cache:
        messages[-1] = replace(messages[-1], cache=ttl)
    return tuple(messages)


def _think(sent: Mapping[str, Any]) -> Think:
    """`adaptive` is no wish of its own; an effort says more than a budget, which says more than nothing."""
    thinking = sent.get("thinking", {})
    named = thinking.get("type")
    if named == "disabled":
        return False
    effort = _EFFORTS.get(sent.get("output_config", {}).get("effort", "").strip().lower())
    if effort or named != "enabled":
        return effort
    budget = thinking.get("budget_tokens", 0)
    return next((level for most, level in _BUDGETS if budget <= most), "high") if budget > 0 else True


def _format(sent: Mapping[str, Any]) -> Mapping[str, Any] | None:
    wanted = sent.get("output_config", {}).get("format") or sent.get("output_format")
    schema = wanted.get("schema") if isinstance(wanted, dict) else None
    return schema if isinstance(schema, dict) else None
