"""What OpenAI's two APIs have in common, both on the way out and on the way back."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_args

import orjson

from ollama_bridge.chat import ChatRequest, Effort, Image, Message, Rules, Think, Tool
from ollama_bridge.events import TokenLogprob

FILTERED: Final = "The provider's content filter stopped this reply."
"""Said in place of an answer when the provider filters it and explains nothing."""

JSON_HINT: Final = "Answer with a JSON object."
"""OpenAI refuses `json_object` when no message says "JSON"; Ollama's clients need not say it."""

HALF_CALL: Final = "sent a tool call that has no name, or arguments that are no JSON object"

NO_PARAMETERS: Final = {"type": "object", "properties": {}}

_EFFORTS: Final[tuple[Effort, ...]] = get_args(Effort)
_ELSEWHERE: Final = frozenset({"num_predict", "stop"})
_RUNNER: Final = frozenset(
    "num_ctx num_keep num_batch num_gpu main_gpu use_mmap num_thread draft_num_predict repeat_last_n numa "
    "low_vram f16_kv vocab_only use_mlock".split()
)
"""How Ollama's own runner loads a model: nothing to a model elsewhere, and not worth a log line."""


@dataclass(slots=True)
class Options:
    """A request's `options`, as one API takes them.

    Args:
        sent: Parameters for the body.
        stops: Stop words the API does not take: `StopWords` sees to them.
        dropped: Ollama's names of what the model refuses.
    """

    sent: dict[str, Any] = field(default_factory=dict)
    stops: tuple[str, ...] = ()
    dropped: list[str] = field(default_factory=list)


def options(request: ChatRequest, names: Mapping[str, str]) -> Options:
    """Sort the request's options by what the API (`names`: Ollama's name to its) and the model take."""
    rules, out = request.target.rules, Options()
    for name, value in request.options.items():
        if name in _ELSEWHERE or name in _RUNNER:
            continue
        if name not in names or name not in rules.accepts:
            out.dropped.append(name)
        elif name != "seed" or value >= 0:  # Ollama's -1: any seed will do
            out.sent[names[name]] = value
    stop = request.options.get("stop") or ()
    words = [word for word in ([stop] if isinstance(stop, str) else stop) if word]
    taken = rules.max_stops if "stop" in names and "stop" in rules.accepts else 0
    if words[:taken]:
        out.sent["stop"] = words[:taken]
    out.stops = tuple(words[taken:])
    return out


def wants_logprobs(request: ChatRequest, dropped: list[str]) -> bool:
    """Whether log probabilities are asked for and can be had; a wish that cannot joins `dropped`."""
    if request.logprobs and "logprobs" not in request.target.rules.accepts:
        dropped.append("logprobs")
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


def function(tool: Tool) -> dict[str, Any]:
    """A tool's declaration, without what the two APIs put around it."""
    said = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **said, "parameters": tool.parameters or NO_PARAMETERS}


def schema_hint(schema: Mapping[str, Any]) -> str:
    """A schema in words, for models that only know "some JSON"."""
    return f"{JSON_HINT} It follows this JSON Schema: {orjson.dumps(schema, default=dict).decode()}"


def speaks_of_json(messages: Iterable[Message]) -> bool:
    """Whether OpenAI will be content with `json_object`."""
    return any("json" in message.content.lower() for message in messages)


def json_arguments(arguments: Mapping[str, Any]) -> str:
    """A call's arguments as the JSON text both APIs want."""
    return orjson.dumps(arguments, default=dict).decode()


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


def count(usage: Mapping[str, Any], *path: str) -> int:
    """A number of tokens somewhere in a usage object; 0 for whatever is not one."""
    value: Any = usage
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return int(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else 0
