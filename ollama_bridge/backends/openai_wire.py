"""What OpenAI's two APIs have in common, both on the way out and on the way back."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, get_args

import orjson

from ollama_bridge.backends.dialect import BOUNDS, OPENAI, Dialect
from ollama_bridge.backends.prefix import conversation as conversation_key
from ollama_bridge.backends.sdk import encode
from ollama_bridge.backends.tool_names import ToolNames
from ollama_bridge.chat import ChatRequest, Effort, Image, Message, Rules, Think, Tool
from ollama_bridge.events import TokenLogprob, ToolCall

FILTERED: Final = "The provider's content filter stopped this reply."
"""Said in place of an answer when the provider filters it and explains nothing."""

JSON_HINT: Final = "Answer with a JSON object."
"""OpenAI refuses `json_object` when no message says "JSON"; Ollama's clients need not say it."""

HALF_CALL: Final = "sent a tool call that has no name, or arguments that are no JSON object: ask again"

NO_PARAMETERS: Final = {"type": "object", "properties": {}}

_EFFORTS: Final[tuple[Effort, ...]] = get_args(Effort)
_ELSEWHERE: Final = frozenset({"num_predict", "stop"})
_RUNNER: Final = frozenset(
    "num_ctx num_keep num_batch num_gpu main_gpu use_mmap num_thread draft_num_predict repeat_last_n numa "
    "low_vram f16_kv vocab_only use_mlock".split()
)
"""How Ollama's own runner loads a model: nothing to a model elsewhere, and not worth a log line."""


_LONGEST_KEY: Final = 64


class Prepared:
    """A request on its way to the wire.

    Args:
        request: The question.
        names: What the API calls each option it has, by Ollama's name.
        bounds: Between which values some of them must be, by the same names.
    """

    def __init__(
        self,
        request: ChatRequest,
        names: Mapping[str, str],
        bounds: Mapping[str, tuple[float, float]] = BOUNDS,
    ) -> None:
        self.body: dict[str, Any] = {"model": request.target.model}
        """The JSON object to send."""
        self.stops: tuple[str, ...] = ()
        """Stop words that neither API nor model take: `StopWords` sees to them."""
        self.dropped: list[str] = []
        """What the model refuses, by Ollama's names."""
        self.tool_names = ToolNames(64)
        self.reading: dict[str, Any] = {}
        """What the reader of the answer has to know, beyond what all have to."""
        self.sampling: dict[str, Any] = {}
        """The options that are sent."""
        rules = request.target.rules
        for name, value in request.options.items():
            if name in _ELSEWHERE or name in _RUNNER:
                continue
            if name not in names or name not in rules.accepts:
                self.dropped.append(name)
            elif name in bounds:
                least, most = bounds[name]
                self.sampling[names[name]] = min(max(value, least), most)
            elif name != "seed" or value >= 0:  # Ollama's -1: any seed will do
                self.sampling[names[name]] = value
        stop = request.options.get("stop") or ()
        words = [word for word in ([stop] if isinstance(stop, str) else stop) if word]
        taken = rules.max_stops if "stop" in names and "stop" in rules.accepts else 0
        if words[:taken]:
            self.sampling["stop"] = words[:taken]
        self.stops = tuple(words[taken:])

    def function(self, tool: Tool) -> dict[str, Any]:
        """A tool's declaration, without what the two APIs put around it."""
        said = {"description": tool.description} if tool.description else {}
        name = self.tool_names.to_wire(tool.name)
        return {"name": name, **said, "parameters": dict(tool.parameters) or NO_PARAMETERS}

    def call(self, call: ToolCall) -> dict[str, str]:
        """A call of the past, without what the two APIs put around it."""
        return {
            "name": self.tool_names.to_wire(call.name),
            "arguments": encode(dict(call.arguments)).decode(),
        }


def limit(request: ChatRequest, dialect: Dialect) -> int | None:
    """Most tokens to write; None: as many as the model has."""
    wanted = int(request.options.get("num_predict", -1))
    if wanted <= 0:  # -1 and -2 are Ollama's words for no limit
        return None
    # Of a vendor's model without a row nobody knows it.
    caps = dialect is OPENAI or (dialect.caps_output and request.target.window is not None)
    return min(wanted, request.target.max_output_tokens) if caps else wanted


def cache_key(request: ChatRequest) -> dict[str, str]:
    """What keeps the requests of one conversation together: the client's word for it, or a hash.

    https://developers.openai.com/api/docs/guides/prompt-caching: a request is routed by the hash of its beginning and
    this key, to where its prefix may still be cached.
    """
    if request.target.prompt_cache is False:
        return {}
    told = request.cache_key
    return {"prompt_cache_key": told if 0 < len(told) <= _LONGEST_KEY else conversation_key(request)}


def tools(request: ChatRequest) -> Iterable[Tool]:
    """The request's tools, one of each name."""
    return {tool.name: tool for tool in request.tools}.values()


def wants_logprobs(request: ChatRequest, prepared: Prepared) -> bool:
    """Whether log probabilities are asked for and can be had; otherwise they join what is dropped."""
    if request.logprobs and "logprobs" not in request.target.rules.accepts:
        prepared.dropped.append("logprobs")
        return False
    return request.logprobs


def thinks(rules: Rules) -> bool:
    """Whether the model lets itself be told how hard to think."""
    return "effort" in rules.thinking and bool(rules.efforts)


def effort(think: Think, rules: Rules) -> Effort | None:
    """The model's word for how hard to think; None: say nothing, its own default is what was asked for."""
    if think is None or not thinks(rules):
        return None
    if think is False:
        return rules.efforts[0]
    words = [word for word in rules.efforts if word != "none"]
    if think is True:
        # A model that can leave thinking out may do so by default, and would have to be told.
        return _nearest("medium", words) if "none" in rules.efforts and words else None
    return _nearest(think, words) if words else None


def _nearest(wanted: Effort, words: Sequence[Effort]) -> Effort:
    place = _EFFORTS.index(wanted)
    return min(words, key=lambda word: (abs(_EFFORTS.index(word) - place), _EFFORTS.index(word)))


def data_url(image: Image) -> str:
    """The image as the one string OpenAI takes."""
    return f"data:{image.media_type};base64,{image.data}"


def schema_hint(schema: Mapping[str, Any]) -> str:
    """A schema in words, for models that only know "some JSON"."""
    return f"{JSON_HINT} It follows this JSON Schema: {encode(dict(schema)).decode()}"


def speaks_of_json(messages: Iterable[Message]) -> bool:
    """Whether OpenAI will be content with `json_object`."""
    return any("json" in message.content.lower() for message in messages)


def call_arguments(text: object) -> Mapping[str, Any] | None:
    """The arguments of a call as the provider wrote them; None when they are not a JSON object.

    Nothing at all, and `null`, are no arguments. Some vendors encode twice, some send the object itself.
    """
    for _ in range(2):
        if isinstance(text, str):
            try:
                text = orjson.loads(text) if text.strip() else None
            except orjson.JSONDecodeError:
                return None
    return {} if text is None else text if isinstance(text, dict) else None


def token_logprobs(entries: object) -> tuple[TokenLogprob, ...]:
    """Both APIs' `[{token, logprob, top_logprobs}]`; entries without a number are left out."""
    if not isinstance(entries, list):
        return ()
    return tuple(
        TokenLogprob(str(entry.get("token", "")), logprob, token_logprobs(entry.get("top_logprobs")))
        for entry in entries
        if isinstance(entry, dict) and isinstance(logprob := entry.get("logprob"), float | int)
    )
