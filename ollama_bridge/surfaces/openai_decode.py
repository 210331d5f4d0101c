"""What /v1/chat/completions, /v1/completions and /v1/models/{model} ask, sans I/O.

As in `ollama_decode`, decoding takes two steps, with the look-up of the model between them. What Ollama ignores
and clients want is read as well: `max_completion_tokens`, `tool_choice`, `parallel_tool_calls`, `cache_control`, `prompt_cache_key`,
and Goose's `options`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ollama_bridge.catalog import Model
from ollama_bridge.chat import ChatRequest, Infill, Message, Think, Tool, ToolChoice
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.infill import recognise
from ollama_bridge.presets import primed
from ollama_bridge.surfaces.calls import NamedCall, check_abilities, read_top_logprobs, refuse_endless
from ollama_bridge.surfaces.converter import converting, decode_body
from ollama_bridge.surfaces.ollama_options import read_format, read_options
from ollama_bridge.surfaces.openai_messages import read_choice, read_messages, read_tools
from ollama_bridge.surfaces.openai_structs import CHAT, COMPLETION
from ollama_bridge.surfaces.openai_values import read_effort


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(NamedCall):
    """What both kinds of completion have in common; repr shows nothing of what is said.

    Args:
        stream: Whether the reply is a stream.
        include_usage: Whether a stream tells its tokens.
        logprobs: Whether log probabilities are wanted.
        top_logprobs: 0 to 20.
        debug: `_debug_render_only`: the client wants to see the prompt. Answer with the encoder's `debug`.
        options_sent: By Ollama's names; not validated before `request`.
    """

    stream: bool = False
    include_usage: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    debug: bool = False
    options_sent: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def _request(self, model: Model, **asked: Any) -> ChatRequest:
        request = ChatRequest(
            model=self.model,
            options=read_options(self.options_sent),
            stream=self.stream,
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs,
            target=model.target,
            **asked,
        )
        return primed(request, model.preset)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall(Call):
    """One POST /v1/chat/completions."""

    messages: tuple[Message, ...] = field(default=(), repr=False)
    tools: tuple[Tool, ...] = field(default=(), repr=False)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    think: Think = None
    format_sent: Any = field(default=None, repr=False)
    cache_key: str = field(default="", repr=False)

    def request(self, model: Model) -> ChatRequest:
        """The question to `model`.

        Raises:
            InvalidRequest: The model cannot do that (400); an option or the format is wrong (500).
        """
        needs = ("tools",) if self.tools else ()
        check_abilities(model, *needs, named=self.model, verb="chat", think=self.think)
        return self._request(
            model,
            messages=self.messages,
            tools=self.tools,
            tool_choice=self.tool_choice,
            parallel_tool_calls=self.parallel_tool_calls,
            think=self.think,
            format=read_format(self.format_sent),
            cache_key=self.cache_key,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionCall(Call):
    """One POST /v1/completions.

    Args:
        prompt: Becomes the user's message; with a suffix, what stands before the gap.
        suffix: What stands behind it.
        echo: Whether the answer begins with the prompt.
    """

    prompt: str = field(default="", repr=False)
    suffix: str = field(default="", repr=False)
    echo: bool = False

    needs_name: ClassVar[bool] = False

    @property
    def load(self) -> bool:
        """Whether nothing is asked: the client wants the model loaded. Answer with the encoder's `load`."""
        return not (self.prompt or self.suffix)

    def request(self, model: Model) -> ChatRequest:
        """As `ChatCall.request`."""
        needs = ("insert",) if self.suffix else ()
        check_abilities(model, *needs, named=self.model, verb="generate")
        if self.suffix:
            return self._request(model, infill=Infill(self.prompt, self.suffix))
        # A completion has no template of its own: markers in the prompt are the client's.
        if "insert" in model.capabilities and (gap := recognise(self.prompt, raw=True)):
            return self._request(model, infill=gap)
        messages = (Message("user", self.prompt),) if self.prompt else ()
        return self._request(model, messages=messages)


def decode_chat(body: bytes) -> ChatCall:
    """Read the body of POST /v1/chat/completions.

    Raises:
        ConverterError: 400.
        InvalidRequest: 400, of what the native handler would find.
    """
    sent = decode_body(body, CHAT)
    with converting():
        if not sent.get("messages"):
            raise InvalidRequest("[] is too short - 'messages'")
        messages = read_messages(sent["messages"])
        tools = read_tools(sent.get("tools", ()))
        choice, tools = read_choice(sent.get("tool_choice"), tools)
        parallel = sent.get("parallel_tool_calls")
        options = _options(sent)
        think = _think(sent)
    _only_one(sent, "n")
    if sent.get("functions"):
        raise InvalidRequest("functions are not supported: send them as tools")
    schema = _format(sent)
    calls = [dict(call.arguments) for message in messages for call in message.tool_calls]
    refuse_endless([schema, options, [dict(tool.parameters) for tool in tools], calls])
    return ChatCall(
        **_common(sent, options),
        logprobs=sent.get("logprobs", False),
        top_logprobs=read_top_logprobs(sent.get("top_logprobs", 0)),
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel if isinstance(parallel, bool) else None,
        think=think,
        format_sent=schema,
        cache_key=cache_key if isinstance(cache_key := sent.get("prompt_cache_key"), str) else "",
    )


def decode_completion(body: bytes) -> CompletionCall:
    """Read the body of POST /v1/completions.

    Raises:
        ConverterError: 400.
        InvalidRequest: 400, of what the native handler would find.
    """
    sent = decode_body(body, COMPLETION)
    with converting():
        options = _options(sent)
    _only_one(sent, "n")
    _only_one(sent, "best_of")
    refuse_endless(options)
    return CompletionCall(
        **_common(sent, options),
        logprobs="logprobs" in sent,
        top_logprobs=read_top_logprobs(sent.get("logprobs", 0)),
        prompt=sent.get("prompt", ""),
        suffix=sent.get("suffix", ""),
        echo=sent.get("echo") is True,
    )


def _common(sent: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": sent.get("model", ""),
        "stream": sent.get("stream", False),
        "include_usage": sent.get("stream_options", {}).get("include_usage", False),
        "debug": sent.get("_debug_render_only", False),
        "options_sent": options,
    }


def _options(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Ollama's options. Goose sends some by their own names, in an object beside OpenAI's.

    Ollama sets temperature and top_p to 1 when they are absent. Here the provider's defaults hold then, and the
    parameters of a created model: several models take neither, and 1 is what the others have anyway.
    """
    given = sent.get("options")
    options = dict(given) if isinstance(given, dict) else {}
    for name in ("seed", "temperature", "top_p", "frequency_penalty", "presence_penalty"):
        if name in sent:
            options[name] = sent[name]
    limit = sent.get("max_completion_tokens", sent.get("max_tokens"))
    if limit is not None:
        options["num_predict"] = limit
    if stop := _stop(sent.get("stop")):
        options["stop"] = stop
    return options


def _stop(sent: Any) -> list[str]:
    words = [sent] if isinstance(sent, str) else sent
    if words is None:
        return []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidRequest("invalid type for 'stop' field: it is a string, or an array of strings")
    return [word for word in words if word]


def _only_one(sent: Mapping[str, Any], name: str) -> None:
    number = sent.get(name)
    if isinstance(number, int | float) and number > 1:
        raise InvalidRequest(f"{name} must be 1: there is one answer to a request")


def _think(sent: Mapping[str, Any]) -> Think:
    effort = sent["reasoning"].get("effort") if "reasoning" in sent else sent.get("reasoning_effort")
    return read_effort(effort or "")


def _format(sent: Mapping[str, Any]) -> Any:
    wanted = sent.get("response_format", {})
    match wanted.get("type"):
        case "json_object":
            return "json"
        case "json_schema":
            return wanted.get("json_schema", {}).get("schema")
        case _:
            return None
