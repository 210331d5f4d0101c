"""What /api/chat, /api/generate and /api/show ask, sans I/O.

Decoding takes two steps, because a real server looks the model up between them, and errors come in its
order. `decode_chat(body)` finds everything that is wrong with the body alone; `call.lookup_name()` judges
the model's name; then, with the model found, `call.request(model)` checks what it can do, its options and
its format::

    call = decode_chat(body)                            # InvalidRequest
    try:
        model = registry.find(call.lookup_name())       # InvalidRequest, ModelNotFound
    except ModelNotFound:
        raise call.not_found() from None                # each endpoint words it its own way
    request = call.request(model)                       # InvalidRequest
    if call.load: ...                                   # answer with `load_reply(call)`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from ollama_bridge import media
from ollama_bridge.catalog import Model
from ollama_bridge.chat import Capability, ChatRequest, Image, Infill, Message, Think, Tool
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.events import ToolCall
from ollama_bridge.infill import recognise
from ollama_bridge.native import Native
from ollama_bridge.presets import Preset, primed
from ollama_bridge.surfaces.calls import (
    ROLES,
    NamedCall,
    ShownCall,
    check_abilities,
    read_top_logprobs,
    refuse_endless,
)
from ollama_bridge.surfaces.gotypes import decode_whole
from ollama_bridge.surfaces.ollama_context import unpack
from ollama_bridge.surfaces.ollama_options import read_format, read_options
from ollama_bridge.surfaces.ollama_structs import CHAT, GENERATE, SHOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(NamedCall):
    """What /api/chat and /api/generate have in common; repr shows nothing of the conversation.

    Args:
        stream: Whether the reply is a stream, as it is unless the client says false.
        load: Not a question at all: the client wants the model loaded, or unloaded. Answer with `load_reply`.
        keep_alive_s: Seconds; negative: forever; None: not said.
        debug: `_debug_render_only`: the client wants to see the prompt. Answer with `debug_reply`.
        top_logprobs: 0 to 20.
        format_sent: Not validated before `request`.
        options_sent: Not validated before `request`.
        sent: All of it, with what nobody here knows.
    """

    stream: bool = True
    load: Literal["load", "unload"] | None = None
    keep_alive_s: float | None = None
    think: Think = None
    debug: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    format_sent: Any = field(default=None, repr=False)
    options_sent: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sent: Mapping[str, Any] = field(default_factory=dict, repr=False)

    verb: ClassVar[Literal["chat", "generate"]]

    def _request(
        self,
        model: Model,
        messages: tuple[Message, ...],
        tools: tuple[Tool, ...],
        *needs: Capability,
        preset: Preset,
        infill: Infill | None = None,
        begins: bool = True,
    ) -> ChatRequest:
        """Check in the order of a real server: thinking, other abilities, options, format.

        What a real Ollama's model is able to do, that one itself will say.
        """
        options: Mapping[str, Any] = {}
        wanted = None
        if self.load != "unload":  # which asks nothing of the model
            if model.resident is None:
                check_abilities(model, *needs, named=self.model, verb=self.verb, think=self.think)
            options = read_options(self.options_sent)
        if self.load is None and not self.debug:
            wanted = read_format(self.format_sent)
        request = ChatRequest(
            model=self.model,
            messages=messages,
            tools=tools,
            format=wanted,
            think=self.think,
            options=options,
            stream=self.stream,
            keep_alive_s=self.keep_alive_s,
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs,
            infill=infill,
            target=model.target,
            # A `context` of ours, by which it may go on, says nothing to anybody else.
            native=Native(self.verb, self.sent, (messages, tools, wanted, self.think, infill), options)
            if begins
            else None,
        )
        return primed(request, preset, begins=begins)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall(Call):
    """One POST /api/chat."""

    messages: tuple[Message, ...] = field(default=(), repr=False)
    tools: tuple[Tool, ...] = field(default=(), repr=False)

    verb: ClassVar[Literal["chat", "generate"]] = "chat"

    def request(self, model: Model) -> ChatRequest:
        """The question to `model`; also for a load, where only the checks matter.

        Raises:
            InvalidRequest: The model cannot do that (400); an option or the format is wrong (500).
        """
        needs: tuple[Capability, ...] = ("tools",) if self.tools else ()
        return self._request(model, self.messages, self.tools, *needs, preset=model.preset)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateCall(Call):
    """One POST /api/generate.

    Args:
        raw: The prompt is complete as it is. Replies then have no `context`.
        template: Instead of the model's own; `templates` says what effect it has.
        context: As sent.
        remembered: The conversation that `context` holds; none if it is another server's.
    """

    prompt: str = field(default="", repr=False)
    suffix: str = field(default="", repr=False)
    system: str = field(default="", repr=False)
    template: str = field(default="", repr=False)
    context: Sequence[int] = field(default=(), repr=False)
    remembered: tuple[Message, ...] = field(default=(), repr=False)
    raw: bool = False
    images: tuple[Image, ...] = field(default=(), repr=False)

    verb: ClassVar[Literal["chat", "generate"]] = "generate"
    needs_name: ClassVar[bool] = False

    def request(self, model: Model) -> ChatRequest:
        """As `ChatCall.request`: the prompt becomes the user's message, or a gap to fill; InvalidTemplate (500) too."""
        if self.raw and self.load != "unload" and (self.template or self.system or self.context):
            raise InvalidRequest("raw mode does not support template, system, or context")
        needs: tuple[Capability, ...] = ("insert",) if self.suffix else ()
        preset = Preset(options=model.preset.options) if self.raw else model.preset
        if self.template and model.resident is None:
            preset = replace(preset, template=self.template)
        begins = not self.remembered
        if gap := self._gap(model):
            return self._request(model, (), (), *needs, preset=preset, infill=gap, begins=begins)
        if not self.prompt:
            return self._request(model, (), (), *needs, preset=preset)
        prompt = Message("user", self.prompt, images=self.images)
        # A client that goes on sends its system prompt with every turn; once is enough.
        is_new = self.system and Message("system", self.system) not in self.remembered
        system = (Message("system", self.system),) if is_new else ()
        messages = (*self.remembered, *system, prompt)
        return self._request(model, messages, (), *needs, preset=preset, begins=begins)

    def _gap(self, model: Model) -> Infill | None:
        """What is to be filled, if anything, and if the model says it can."""
        if not self.prompt or "insert" not in model.capabilities:
            return None
        if self.suffix:
            return Infill(self.prompt, self.suffix)
        return None if self.images else recognise(self.prompt, raw=self.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowCall(ShownCall):
    """One POST /api/show, whose `model` may be called `name`.

    Args:
        system: Replaces the system prompt in the answer.
        sent: All of it, with what nobody here knows.
    """

    system: str = field(default="", repr=False)
    sent: Mapping[str, Any] = field(default_factory=dict, repr=False)


def decode_chat(body: bytes) -> ChatCall:
    """Read the body of POST /api/chat.

    Raises:
        InvalidRequest: 400, in Ollama's words.
    """
    sent, whole = decode_whole(body, CHAT)
    messages = sent.get("messages", [])
    return ChatCall(
        **_common(sent),
        sent=whole,
        load=_load(sent, asks=bool(messages)),
        messages=tuple(map(_message, messages)),
        tools=tuple(_tool(tool["function"]) for tool in sent.get("tools", ()) if _is_named(tool)),
    )


def decode_generate(body: bytes) -> GenerateCall:
    """Read the body of POST /api/generate.

    Raises:
        InvalidRequest: 400, in Ollama's words.
    """
    sent, whole = decode_whole(body, GENERATE)
    context = sent.get("context", ())
    return GenerateCall(
        **_common(sent),
        sent=whole,
        load=_load(sent, asks=bool(sent.get("prompt"))),
        prompt=sent.get("prompt", ""),
        suffix=sent.get("suffix", ""),
        system=sent.get("system", ""),
        template=sent.get("template", ""),
        context=context,
        remembered=unpack(context),
        raw=sent.get("raw", False),
        images=_images(sent),
    )


def decode_show(body: bytes) -> ShowCall:
    """Read the body of POST /api/show.

    Raises:
        InvalidRequest: 400, in Ollama's words.
    """
    sent, whole = decode_whole(body, SHOW)
    return ShowCall(
        model=sent.get("model") or sent.get("name", ""), system=sent.get("system", ""), sent=whole
    )


def _common(sent: Mapping[str, Any]) -> dict[str, Any]:
    top_logprobs = read_top_logprobs(sent.get("top_logprobs", 0))
    calls = [message.get("tool_calls") for message in sent.get("messages", ())]
    refuse_endless([sent.get("format"), sent.get("options"), sent.get("tools"), *calls])
    return {
        "model": sent.get("model", ""),
        "stream": sent.get("stream", True),
        "keep_alive_s": sent.get("keep_alive"),
        "think": sent.get("think"),
        "debug": sent.get("_debug_render_only", False),
        "logprobs": sent.get("logprobs", False),
        "top_logprobs": top_logprobs,
        "format_sent": sent.get("format"),
        "options_sent": sent.get("options", {}),
    }


def _load(sent: Mapping[str, Any], *, asks: bool) -> Literal["load", "unload"] | None:
    if asks:
        return None
    return "unload" if sent.get("keep_alive") == 0 else "load"


def _message(sent: Mapping[str, Any]) -> Message:
    return Message(
        role=ROLES.get(sent.get("role", "").lower(), "user"),
        content=sent.get("content", ""),
        thinking=sent.get("thinking", ""),
        images=_images(sent),
        tool_calls=tuple(map(_tool_call, sent.get("tool_calls", ()))),
        tool_call_id=sent.get("tool_call_id", ""),
        tool_name=sent.get("tool_name", ""),
    )


def _images(sent: Mapping[str, Any]) -> tuple[Image, ...]:
    return tuple(Image(data, media.sniff(data)) for data in sent.get("images", ()) if data)


def _tool_call(sent: Mapping[str, Any]) -> ToolCall:
    function = sent.get("function", {})
    return ToolCall(sent.get("id", ""), function.get("name", ""), function.get("arguments", {}))


def _is_named(tool: Mapping[str, Any]) -> bool:
    """Whether a model could call it: some clients list provider-side tools, which have no function."""
    return bool(tool.get("function", {}).get("name"))


def _tool(function: Mapping[str, Any]) -> Tool:
    return Tool(function["name"], function.get("description", ""), function.get("parameters", {}))
