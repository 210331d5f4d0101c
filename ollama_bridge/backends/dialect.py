"""How compatible vendors differ from OpenAI on the wire they share: flags, and named functions for what needs more.

A vendor's row in `vendors` holds one `Dialect`; the backend reads it once a request and knows no vendor by name. What
differs from model to model of one vendor is in the models' `Rules`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from ollama_bridge.chat import ChatRequest, Effort

Asking: TypeAlias = Callable[[ChatRequest, Effort | None], Mapping[str, Any]]
"""How thinking is asked for: the request, and the model's word for how hard (None: it has none, or nobody asked), to
members of the body."""

NAMES: Final[Mapping[str, str]] = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    # Beyond OpenAI; only for models whose rules accept them.
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
}
"""What OpenAI, and nearly everybody, calls an option, by Ollama's name for it."""

BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
"""Beyond these a value is a 400; Ollama takes any."""


def effort(_: ChatRequest, word: Effort | None) -> Mapping[str, Any]:
    """`reasoning_effort`, as OpenAI has it, and whoever has nothing of his own."""
    return {"reasoning_effort": word} if word else {}


def thinking_type(request: ChatRequest, word: Effort | None) -> Mapping[str, Any]:
    """`thinking: {type}` and, while it is on, `reasoning_effort`: DeepSeek, GLM, Kimi.

    https://api-docs.deepseek.com/guides/thinking_mode, https://docs.z.ai/guides/capabilities/thinking-mode,
    https://platform.kimi.ai/docs/guide/use-kimi-k2-thinking-model
    """
    on = _switch(request)
    if on is None:
        return effort(request, word)
    said = {"thinking": {"type": "enabled" if on else "disabled"}}
    return {**said, **effort(request, word)} if on else said


def reasoning(request: ChatRequest, word: Effort | None) -> Mapping[str, Any]:
    """`reasoning: {effort}` or `{enabled}`, never both: OpenRouter, Vercel.

    https://openrouter.ai/docs/use-cases/reasoning-tokens
    """
    on = _switch(request)
    if on is False:
        return {"reasoning": {"enabled": False}}
    if word:
        return {"reasoning": {"effort": word}}
    return {"reasoning": {"enabled": True}} if on else {}


def reasoning_switch(request: ChatRequest, word: Effort | None) -> Mapping[str, Any]:
    """`reasoning: {enabled}` beside `reasoning_effort`: Together.

    https://docs.together.ai/docs/inference/chat/reasoning
    """
    on = _switch(request)
    said = {} if on is None else {"reasoning": {"enabled": on}}
    return said if on is False else {**said, **effort(request, word)}


def enable_thinking(request: ChatRequest, _: Effort | None) -> Mapping[str, Any]:
    """`enable_thinking`: Qwen at Alibaba.

    https://www.alibabacloud.com/help/en/model-studio/deep-thinking
    """
    on = _switch(request)
    return {} if on is None else {"enable_thinking": on}


def template(request: ChatRequest, word: Effort | None) -> Mapping[str, Any]:
    """`chat_template_kwargs`, the words of the chat template: vLLM, llama.cpp, LM Studio and who runs them.

    https://docs.vllm.ai/en/stable/features/reasoning_outputs/
    """
    on = _switch(request)
    said = {} if on is None else {"chat_template_kwargs": {"enable_thinking": on}}
    return said if on is False else {**said, **effort(request, word)}


def parsed(request: ChatRequest, word: Effort | None) -> Mapping[str, Any]:
    """`reasoning_format`, without which some models think aloud in the answer; their switch is a word: Groq, Cerebras.

    https://console.groq.com/docs/reasoning, https://inference-docs.cerebras.ai/capabilities/reasoning
    """
    on = _switch(request)
    said = {"reasoning_format": "parsed"} if "parsed" in request.target.rules.thinking else {}
    if on is None:
        return {**said, **effort(request, word)}
    return {**said, "reasoning_effort": "default" if on else "none"}


def _switch(request: ChatRequest) -> bool | None:
    """Whether thinking is to be switched on or off; None: neither, or the model has no switch."""
    if request.think is None or "switch" not in request.target.rules.thinking:
        return None
    return request.think is not False


@dataclass(frozen=True, slots=True)
class Echo:
    """That an assistant's thoughts go back with it while tools are called: without them the next turn is a 400.

    Args:
        name: Of the member of the message.
        unknown: Said of thoughts that neither we nor the client have kept.
        is_list: Whether they are a list, which only its vendor understands and no client has.
    """

    name: str = "reasoning_content"
    unknown: str = ""
    is_list: bool = False


DETAILS: Final = Echo("reasoning_details", is_list=True)
"""Of gateways to providers that sign and encrypt: OpenRouter, Vercel."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What of a request is written in another way than OpenAI's documentation has it; nothing by default.

    Args:
        names: What it calls options, by Ollama's name.
        bounds: Between which values an option must be, by Ollama's name.
        stream_options: Whether it may be asked for the usage of a stream; others tell it unasked, or refuse the word.
        pads: Whether it pads the events of a stream unless told not to, which costs as much again.
        tool_choice: Its words for `none` and `required`. Without a word for `none` the tools are left out.
        parallel_tool_calls: Whether it may be told not to call several tools in one turn.
        while_tools: Members of the body of a request with tools.
        always: Members of every body.
        think: How thinking is asked for.
        asks_all: Whether it is also of models that are not known to think; most vendors refuse the words then.
        echo: Whether and how an assistant's thoughts go back.
        null_content: Whether the content of a message may be null.
        strict_roles: Whether system messages come first, user and assistant take turns after them, and the user does
            not speak behind a tool.
        json_object: Whether it takes `json_object`; else any JSON is asked for by a schema that everything follows.
        cache_key: Whether `prompt_cache_key` keeps the requests of one conversation together.
        caps_output: Whether more tokens of an answer than the model has are a 400.
        headers: Added to every request.
        encoding: Of embeddings; None: it refuses to be asked.
        embed_inputs: Texts that one call for embeddings may hold.
        embed_bytes: Bytes of all of them.
        rewrite: Puts a body of Chat Completions that is ready in its own way; gets also the list of what is dropped.
    """

    names: Mapping[str, str] = field(default_factory=lambda: NAMES)
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=lambda: BOUNDS)
    stream_options: bool = True
    pads: bool = False
    tool_choice: Mapping[str, str] = field(default_factory=lambda: {"none": "none", "required": "required"})
    parallel_tool_calls: bool = True
    while_tools: Mapping[str, Any] = field(default_factory=dict)
    always: Mapping[str, Any] = field(default_factory=dict)
    think: Asking = effort
    asks_all: bool = False
    echo: Echo | None = None
    null_content: bool = True
    strict_roles: bool = False
    json_object: bool = True
    cache_key: bool = False
    caps_output: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    encoding: Literal["base64", "float"] | None = "float"
    embed_inputs: int = 96  # what Cohere takes, and most others
    embed_bytes: int = 200_000  # decimals are also read faster in small parts
    rewrite: Callable[[dict[str, Any], list[str]], None] | None = None


PLAIN: Final = Dialect(asks_all=True)
"""Of whoever nothing is known about."""

OPENAI: Final = Dialect(
    asks_all=True,
    pads=True,
    cache_key=True,
    caps_output=True,
    encoding="base64",  # which halves the reply; strict vendors refuse it
    embed_inputs=2048,
    embed_bytes=600_000,  # it takes 300,000 tokens in a call, and a token rarely has fewer than two bytes
)
"""Of OpenAI itself."""
