"""What Gemini is asked: a `ChatRequest` as the JSON body of `models:streamGenerateContent`.

Shapes: https://ai.google.dev/api/generate-content. Names are the REST ones (camelCase); unset fields are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import orjson

from ollama_bridge import media
from ollama_bridge.backends.google_stream import SIGNED
from ollama_bridge.backends.openai_wire import schema_hint
from ollama_bridge.backends.sealing import Kept, laid_out, unseal
from ollama_bridge.backends.tool_choice import choice_for
from ollama_bridge.backends.tool_names import ToolNames
from ollama_bridge.chat import ChatRequest, Effort, Message, Tool, ToolChoice
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.events import ToolCall
from ollama_bridge.history import BEGINNING, repair

Json: TypeAlias = dict[str, Any]

UNSIGNED_CALL: Final = "skip_thought_signature_validator"
"""Gemini 3 answers 400 when the first function call of a step has no thought signature; this stands for
one that is not known (https://ai.google.dev/gemini-api/docs/thought-signatures)."""

_OPTIONS: Final[Mapping[str, str]] = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "seed": "seed",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
}
_FOREIGN_OPTIONS: Final = ("min_p", "repeat_penalty", "typical_p")
"""Change the answer in Ollama, and do not exist here; the rest of Ollama's options is about hardware."""

_STRENGTH: Final[tuple[Effort, ...]] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

LEVELS: Final[Mapping[Effort, str]] = {
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "XHIGH",
}
"""`thinkingLevel`, Gemini 3 and later."""

BUDGETS: Final[Mapping[Effort, int]] = {
    "none": 0,
    "minimal": 128,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
}
"""`thinkingBudget` in tokens, Gemini 2.5. A model that cannot stop thinking (2.5 Pro) lacks `none` in its rules."""

_SIGNED_FIELDS: Final = {"text": str, "thought": bool, "thoughtSignature": str}

_DYNAMIC_BUDGET: Final = -1
_LONGEST_NAME: Final = 64


@dataclass(slots=True)
class Params:
    """A request body.

    Args:
        body: As JSON will have it.
        dropped: What the client asked for and the model does not take.
        names: How tools are called on the wire.
    """

    body: Json
    dropped: list[str] = field(default_factory=list)
    names: ToolNames = field(default_factory=lambda: ToolNames(_LONGEST_NAME, letter_first=True))


def build(request: ChatRequest) -> Params:
    """The body for `request`, whose `target` says by which rules.

    Raises:
        InvalidRequest: An image is of no kind that is known, or there is nothing to answer.
    """
    params = Params({})
    system, contents = _conversation(request, params.names)
    if isinstance(request.format, Mapping) and not request.target.rules.schema:
        system = "\n\n".join(filter(None, (system, schema_hint(request.format))))
    if system and not contents:  # at least one turn is demanded
        system, contents = "", [{"role": "user", "parts": [{"text": system}]}]
    if not contents:
        raise InvalidRequest("the conversation is empty: there is nothing to answer")
    if system:
        params.body["systemInstruction"] = {"parts": [{"text": system}]}
    params.body["contents"] = contents
    if request.tools:
        tools = {tool.name: tool for tool in request.tools}  # two of one name are a 400
        declared = [_declaration(tool, params.names) for tool in tools.values()]
        params.body["tools"] = [{"functionDeclarations": declared}]
        if choice := _choice(request, params):
            params.body["toolConfig"] = {"functionCallingConfig": choice}
    if generation := _generation(request, params.dropped):
        params.body["generationConfig"] = generation
    return params


def _conversation(request: ChatRequest, names: ToolNames) -> tuple[str, list[Json]]:
    system: list[str] = []
    contents: list[Json] = []
    for message in repair(request.messages):
        if message.role == "system":
            system.append(message.content)
            continue
        role = "model" if message.role == "assistant" else "user"
        parts = (
            _result(message, names)
            if message.role == "tool"
            else _parts(message, request.target.model, names)
        )
        if contents and contents[-1]["role"] == role:  # turns have to alternate
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    if contents and contents[0]["role"] == "model":
        # A function call has to follow a turn of the user's.
        contents.insert(0, {"role": "user", "parts": [{"text": BEGINNING}]})
    if "level" in request.target.rules.thinking:
        _sign(contents)
    return "\n\n".join(system), contents


def _parts(message: Message, model: str, names: ToolNames) -> list[Json]:
    parts: list[Json] = []
    for said, piece in laid_out(message, unseal(SIGNED, model, message.sealed, _is_ours)):
        # A part with a signature is not to be joined with one that has none.
        beside = piece or {}
        if isinstance(said, ToolCall):
            call = {"id": said.id, "name": names.to_wire(said.name), "args": dict(said.arguments)}
            parts.append({"functionCall": call, **beside})
        else:
            parts.append({"text": said or "", **beside})
    return [*parts, *_images(message)]


def _is_ours(kept: Kept) -> bool:
    return isinstance(kept.piece.get("thoughtSignature"), str) and all(
        type(value) is _SIGNED_FIELDS.get(name) for name, value in kept.piece.items()
    )


def _images(message: Message) -> list[Json]:
    for image in message.images:
        if image.media_type == media.UNKNOWN:
            raise InvalidRequest("an image is neither PNG, JPEG, WebP, HEIC nor GIF; send one of these")
    return [{"inlineData": {"mimeType": image.media_type, "data": image.data}} for image in message.images]


def _result(message: Message, names: ToolNames) -> list[Json]:
    answer = {
        "id": message.tool_call_id,
        "name": names.to_wire(message.tool_name),
        "response": _as_object(message.content),
    }
    return [{"functionResponse": answer}, *_images(message)]


def _as_object(content: str) -> Json:
    """A tool's result: its own object, or, since an object is demanded, one around it."""
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {"output": content}
    if isinstance(value, dict):
        return value
    return {"output": value if isinstance(value, list) else content}


def _sign(contents: Sequence[Json]) -> None:
    for content in contents:
        if first := next((part for part in content["parts"] if "functionCall" in part), None):
            first.setdefault("thoughtSignature", UNSIGNED_CALL)


def _declaration(tool: Tool, names: ToolNames) -> Json:
    declaration: Json = {"name": names.to_wire(tool.name), "description": tool.description}
    if tool.parameters.get("properties") or "$ref" in tool.parameters:
        # Not `parameters`: that is a subset of OpenAPI and refuses `$schema` or `additionalProperties`.
        declaration["parametersJsonSchema"] = dict(tool.parameters)
    return declaration


def _choice(request: ChatRequest, params: Params) -> Json:
    if request.parallel_tool_calls is False:  # there is no word for it
        params.dropped.append("parallel_tool_calls")
    match choice_for(request, params.dropped):
        case ToolChoice("tool", name):
            return {"mode": "ANY", "allowedFunctionNames": [params.names.to_wire(name)]}
        case ToolChoice("required"):
            return {"mode": "ANY"}
        case ToolChoice("none"):
            return {"mode": "NONE"}
        case _:
            return {}


def _generation(request: ChatRequest, dropped: list[str]) -> Json:
    config: Json = {}
    rules, options = request.target.rules, request.options
    for option, field_name in _OPTIONS.items():
        if option in options:
            if option in rules.accepts:
                config[field_name] = options[option]
            else:
                dropped.append(option)
    dropped += [option for option in _FOREIGN_OPTIONS if option in options]
    if (limit := options.get("num_predict", -1)) > 0:
        config["maxOutputTokens"] = limit
    _add_stops(request, config, dropped)
    _add_format(request, config, dropped)
    if request.logprobs:
        if "logprobs" in rules.accepts:
            config["responseLogprobs"] = True
            if request.top_logprobs:
                config["logprobs"] = request.top_logprobs
        else:
            dropped.append("logprobs")
    if thinking := _thinking(request):
        config["thinkingConfig"] = thinking
    return config


def _add_stops(request: ChatRequest, config: Json, dropped: list[str]) -> None:
    rules, stops = request.target.rules, request.options.get("stop", ())
    words = [word for word in ([stops] if isinstance(stops, str) else stops) if word]
    taken = words[: rules.max_stops] if "stop" in rules.accepts else []
    if len(taken) < len(words):
        dropped.append("stop")
    if taken:
        config["stopSequences"] = taken


def _add_format(request: ChatRequest, config: Json, dropped: list[str]) -> None:
    rules = request.target.rules
    if request.format is None:
        return
    if request.tools and "level" not in rules.thinking:
        # Up to Gemini 2.5: "Function calling with a response mime type: 'application/json' is unsupported".
        dropped.append("format")
        return
    config["responseMimeType"] = "application/json"
    if isinstance(request.format, Mapping) and rules.schema:
        config["responseJsonSchema"] = dict(request.format)


def _thinking(request: ChatRequest) -> Json:
    """`thinkingConfig`: a level or a budget, never both, which would be a 400."""
    rules, think = request.target.rules, request.think
    if not rules.thinking & {"level", "budget"}:
        return {}
    if think is None:
        # A model that can think shows its thoughts by default in Ollama; how hard it thinks is its own choice.
        return {"includeThoughts": True} if "thinking" in request.target.capabilities else {}
    config: Json = {"includeThoughts": bool(think)}
    if "level" in rules.thinking:
        if think is not True:
            config["thinkingLevel"] = LEVELS[nearest(think or "none", rules.efforts, LEVELS)]
    elif think is True:
        config["thinkingBudget"] = _DYNAMIC_BUDGET
    else:
        config["thinkingBudget"] = BUDGETS[nearest(think or "none", rules.efforts, BUDGETS)]
    return config


def nearest(effort: Effort, efforts: Sequence[Effort], scale: Mapping[Effort, object]) -> Effort:
    """Of the model's `efforts` that are on `scale` (all of the scale, if none is) the one nearest to `effort`.

    Of two equally near ones the weaker, which costs less.
    """
    known = [word for word in efforts if word in scale] or list(scale)
    wanted = _STRENGTH.index(effort)
    return min(known, key=lambda word: (abs(_STRENGTH.index(word) - wanted), _STRENGTH.index(word)))
