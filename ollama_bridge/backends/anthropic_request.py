"""A chat as Anthropic's Messages API wants it. Pure: a request in, a JSON body out.

What the API refuses (`providers.md` §2) is translated, or dropped with one log line for the request; what it
refuses of one model only is in the model's `Rules`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog
from anthropic import transform_schema

from ollama_bridge.backends import anthropic_cache
from ollama_bridge.backends.anthropic_thinking import may_begin, signed
from ollama_bridge.backends.sealing import Kept, laid_out
from ollama_bridge.backends.tool_choice import choice_for, forces
from ollama_bridge.backends.tool_names import ToolNames
from ollama_bridge.chat import ChatRequest, Effort, Image, Message, Tool
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.events import ToolCall
from ollama_bridge.history import BEGINNING, CONTINUE, repair

log = structlog.get_logger(__name__)

Block = dict[str, Any]

IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
SAMPLING_VERSION: Final = "2023-06-01"
"""The `anthropic-version` that still knows temperature, top_p and top_k; the SDK's own refuses them."""

_DIALS: Final = frozenset(
    {
        "temperature", "top_p", "top_k", "min_p", "typical_p", "seed",
        "presence_penalty", "frequency_penalty", "repeat_penalty",
    }
)  # fmt: skip
"""Options that shape the answer: dropping one is worth a log line. The rest (`num_ctx`, …) is about hardware."""

_BUDGETS: Final[Mapping[str, int]] = {"low": 2048, "medium": 8192, "high": 16384, "max": 31999}
_MIN_BUDGET: Final = 1024
_EFFORTS: Final[tuple[Effort, ...]] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_JSON_ONLY: Final = "Answer with one valid JSON value and nothing else: no explanation, no code fence."
_EMPTY: Final = "(empty)"


@dataclass(slots=True)
class Prepared:
    """A request ready to be sent.

    Args:
        body: The JSON object.
        headers: Beyond those of every request.
        tool_names: A tool's name on the wire to its name at the client, where the two differ.
        marked: Whether the client says what of it is to be cached.
    """

    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    tool_names: dict[str, str] = field(default_factory=dict)
    marked: bool = False


def prepare(request: ChatRequest) -> Prepared:
    """Translate a request.

    Raises:
        InvalidRequest: It asks for what no Claude can do, such as looking at a BMP.
    """
    dropped: list[str] = []
    messages = repair(request.messages)
    thoughts = [signed(message, request.target.model) for message in messages]
    names = ToolNames(_LONGEST_NAME)
    body: dict[str, Any] = {
        "model": request.target.model,
        "max_tokens": _max_tokens(request),
        "stream": True,
    }
    _think(request, body, dropped, may_begin=may_begin(messages, thoughts))
    if not _may_think(request, body):
        thoughts = [[] for _ in messages]
    system, turns = _conversation(messages, thoughts, names, dropped)
    _format(request, system, body)
    _end_with_user(request, turns, body)
    if system and not turns:
        turns, system = [{"role": "user", "content": system}], []
    if not turns:
        raise InvalidRequest("the conversation is empty: there is nothing to answer")
    body["messages"] = turns
    if system:
        body["system"] = system
    _tools(request.tools, messages, names, body)
    _tool_choice(request, names, body, dropped)
    most = 0 if request.target.prompt_cache is False else anthropic_cache.MOST
    marked = anthropic_cache.keep_within_limits(body, most)
    headers = _options(request, body, dropped)
    if dropped:
        log.info("options dropped", options=sorted(set(dropped)), model=request.target.model)
    return Prepared(body, headers, names.changed, marked)


def _max_tokens(request: ChatRequest) -> int:
    wanted = request.options.get("num_predict", -1)
    most = request.target.max_output_tokens
    return min(wanted, most) if wanted > 0 else most  # more than the model has is a 400


# ------------------------------------------------------------------------------------------ messages


def _conversation(
    messages: Iterable[Message], thoughts: Iterable[list[Kept]], names: ToolNames, dropped: list[str]
) -> tuple[list[Block], list[dict[str, Any]]]:
    """The leading system messages, and the turns of user and assistant in alternation."""
    system: list[Block] = []
    turns: list[dict[str, Any]] = []
    for message, thought in zip(messages, thoughts, strict=True):
        if message.role == "system" and not turns:
            system.append(_text(message.content))
            anthropic_cache.mark(system, message.cache)
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message, thought, names, dropped)
        if not blocks:
            continue
        anthropic_cache.mark(blocks, message.cache)
        if turns and turns[-1]["role"] == role:
            # All results of one turn's calls have to stand in one message.
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    if turns and turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": [_text(BEGINNING)]})
    return system, turns


def _blocks(message: Message, thoughts: list[Kept], names: ToolNames, dropped: list[str]) -> list[Block]:
    text = [_text(message.content)] if message.content.strip() else []
    match message.role:
        case "user":
            return [*map(_image, message.images), *text]
        case "system":
            # Later than at the start it stays in its place: hoisted, it would empty the prompt cache.
            return [_text(f"<system>\n{message.content}\n</system>")]
        case "assistant":
            if message.images:
                dropped.append("images of an assistant message")
            return list(_said(message, thoughts, names))
        case "tool":
            content = [*text, *map(_image, message.images)] if message.images else message.content
            empty = isinstance(content, str) and not content.strip()
            return [
                {
                    "type": "tool_result",
                    "tool_use_id": message.tool_call_id,
                    "content": _EMPTY if empty else content,
                }
            ]


def _said(message: Message, thoughts: list[Kept], names: ToolNames) -> Iterator[Block]:
    """An assistant's turn, its signed thinking as it came and where it came."""
    for said, thought in laid_out(message, thoughts):
        if thought:
            yield thought
        elif isinstance(said, ToolCall):
            yield {
                "type": "tool_use",
                "id": said.id,
                "name": names.to_wire(said.name),
                "input": dict(said.arguments),
            }
        elif said and said.strip():
            yield _text(said)


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _image(image: Image) -> Block:
    if image.media_type not in IMAGE_TYPES:
        raise InvalidRequest(
            f"an image of kind {image.media_type} is not accepted: send JPEG, PNG, GIF or WebP"
        )
    return {
        "type": "image",
        "source": {"type": "base64", "media_type": image.media_type, "data": image.data},
    }


def _end_with_user(request: ChatRequest, turns: list[dict[str, Any]], body: Mapping[str, Any]) -> None:
    """A conversation that ends with the assistant asks it to go on, which newer models and modes refuse."""
    if not turns or turns[-1]["role"] != "assistant":
        return
    if request.target.rules.prefill and not _thinks(body) and "output_config" not in body:
        last = turns[-1]["content"][-1]
        last["text"] = last["text"].rstrip()  # white space at the end is a 400
    else:
        turns.append({"role": "user", "content": [_text(CONTINUE)]})


# -------------------------------------------------------------------------------- thinking and format


def _think(request: ChatRequest, body: dict[str, Any], dropped: list[str], *, may_begin: bool) -> None:
    """`think` by the model's rules: https://platform.claude.com/docs/en/build-with-claude/thinking."""
    think, rules = request.think, request.target.rules
    if think is None:
        if "adaptive" in rules.thinking and "disabled" not in rules.thinking:
            # It thinks whatever we say, and by default says nothing of it; what such a model says between two
            # tool calls would be lost with it.
            body["thinking"] = {"type": "adaptive", "display": "summarized"}
        elif "adaptive" in rules.thinking and rules.forced_tools and forces(request):
            # By default it may think, and who thinks cannot be made to call: a 400.
            body["thinking"] = {"type": "disabled"}
        return
    if think is False:
        for kind in ("disabled", "between_tools"):
            if kind in rules.thinking:
                body["thinking"] = {"type": kind}
                return
        if rules.efforts:  # it always thinks: as little as possible, then
            body["output_config"] = {"effort": rules.efforts[0]}
    elif "adaptive" in rules.thinking:
        # The newer models' default display leaves the thinking text out.
        body["thinking"] = {"type": "adaptive", "display": "summarized"}
        if isinstance(think, str) and rules.efforts:
            body["output_config"] = {"effort": _nearest(think, rules.efforts)}
    elif "budget" in rules.thinking and may_begin and body["max_tokens"] > _MIN_BUDGET:
        budget = _BUDGETS["medium" if think is True else think]
        body["thinking"] = {"type": "enabled", "budget_tokens": min(budget, body["max_tokens"] - 1)}
    else:
        dropped.append("think")


def _may_think(request: ChatRequest, body: Mapping[str, Any]) -> bool:
    """Whether the model may think in this turn; one that does not has no use for what it thought before."""
    if "budget" in request.target.rules.thinking:
        return _thinks(body)
    return bool(body.get("thinking", {}).get("type") != "disabled")


def _thinks(body: Mapping[str, Any]) -> bool:
    return body.get("thinking", {}).get("type") in {"enabled", "adaptive", "between_tools"}


def _nearest(effort: Effort, known: tuple[Effort, ...]) -> Effort:
    wanted = _EFFORTS.index(effort)
    return min(known, key=lambda word: abs(_EFFORTS.index(word) - wanted))


def _format(request: ChatRequest, system: list[Block], body: dict[str, Any]) -> None:
    if request.format is None:
        return
    if request.format == "json":  # there is no such mode
        system.append(_text(_JSON_ONLY))
        return
    schema = _output_schema(request.format) if request.target.rules.schema else None
    if schema is None:
        words = orjson.dumps(dict(request.format)).decode()
        system.append(_text(f"{_JSON_ONLY} It conforms to this JSON Schema:\n{words}"))
    else:
        body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}


def _output_schema(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema within the API's subset, all objects closed; None when it cannot be said in it."""
    try:
        return transform_schema(_plain_schema(schema))
    except (ValueError, TypeError, AttributeError, AssertionError, RecursionError):
        return None


def _plain_schema(schema: Any) -> Any:
    """Say older drafts' words in those that `transform_schema` knows."""
    if not isinstance(schema, Mapping):
        return schema
    plain: dict[str, Any] = {}
    for key, value in schema.items():
        if key in {"definitions", "$defs", "properties"}:
            name = "$defs" if key == "definitions" else key
            plain[name] = {inner: _plain_schema(one) for inner, one in value.items()}
        elif key in {"anyOf", "oneOf", "allOf"}:
            plain[key] = [_plain_schema(one) for one in value]
        elif key == "$ref":
            plain[key] = value.replace("#/definitions/", "#/$defs/")
        elif key == "items":
            plain[key] = _plain_schema(value)
        elif key != "$schema":
            plain[key] = value
    _check_closable(plain)
    if isinstance(kinds := plain.get("type"), list):
        rest = {key: value for key, value in plain.items() if key != "type"}
        return {"anyOf": [{"type": kind} if kind == "null" else {**rest, "type": kind} for kind in kinds]}
    return plain


def _check_closable(schema: Mapping[str, Any]) -> None:
    """Objects have to be closed: one whose keys are the model's to choose would always be empty.

    Raises:
        ValueError: It is such a one.
    """
    kinds, more = schema.get("type"), schema.get("additionalProperties")
    is_object = kinds == "object" or (isinstance(kinds, list) and "object" in kinds)
    is_known = any(schema.get(key) for key in ("properties", "anyOf", "oneOf", "allOf", "$ref"))
    if (isinstance(more, Mapping) and more) or (is_object and more is not False and not is_known):
        raise ValueError("its keys are not known")


# -------------------------------------------------------------------------------- tools and options

_LONGEST_NAME: Final = 128
_CHOICES: Final = {"auto": "auto", "none": "none", "required": "any", "tool": "tool"}


def _tools(
    tools: Iterable[Tool], messages: Iterable[Message], names: ToolNames, body: dict[str, Any]
) -> None:
    declared = [_tool(tool, names) for tool in {tool.name: tool for tool in tools}.values()]
    if not declared:
        # Calls in the history need declarations, even if no tool is to be called any more.
        used = dict.fromkeys(call.name for message in messages for call in message.tool_calls)
        declared = [_tool(Tool(name), names) for name in used]
        if declared:
            body["tool_choice"] = {"type": "none"}
    if declared:
        body["tools"] = declared


def _tool(tool: Tool, names: ToolNames) -> dict[str, Any]:
    schema = {key: value for key, value in tool.parameters.items() if key != "$schema"}
    declared: dict[str, Any] = {"name": names.to_wire(tool.name)}
    if tool.description:
        declared["description"] = tool.description
    declared["input_schema"] = (
        {"type": "object", **schema} if schema else {"type": "object", "properties": {}}
    )
    anthropic_cache.mark([declared], tool.cache)
    return declared


def _tool_choice(request: ChatRequest, names: ToolNames, body: dict[str, Any], dropped: list[str]) -> None:
    """A model that thinks cannot be made to call: that is a 400."""
    choice = choice_for(request, dropped, can_force=not _thinks(body))
    sent: dict[str, Any] = {"type": _CHOICES[choice.mode]}
    if choice.mode == "tool":
        sent["name"] = names.to_wire(choice.name)
    if request.tools and request.parallel_tool_calls is False and choice.mode != "none":
        sent["disable_parallel_tool_use"] = True
    if sent != {"type": "auto"}:
        body["tool_choice"] = sent


def _options(request: ChatRequest, body: dict[str, Any], dropped: list[str]) -> dict[str, str]:
    """Put the options the model takes into the body; the headers they need."""
    options, rules = request.options, request.target.rules
    dropped += [name for name in options if name in _DIALS - rules.accepts]
    if request.logprobs:
        dropped.append("logprobs")
    if stops := options.get("stop"):
        wanted = [stops] if isinstance(stops, str) else list(stops)
        usable = [stop for stop in wanted if stop.strip()] if "stop" in rules.accepts else []
        if kept := usable[: rules.max_stops]:
            body["stop_sequences"] = kept
        if len(kept) < len(wanted):
            dropped.append("stop")
    sampling = _sampling(request, body, dropped)
    body.update(sampling)
    return {"anthropic-version": SAMPLING_VERSION} if sampling else {}


def _sampling(request: ChatRequest, body: Mapping[str, Any], dropped: list[str]) -> dict[str, Any]:
    wanted: dict[str, Any] = {
        name: request.options[name]
        for name in ("temperature", "top_p", "top_k")
        if name in request.options and name in request.target.rules.accepts
    }
    kept = dict(wanted)
    if _thinks(body):
        kept = {name: value for name, value in wanted.items() if name == "top_p" and 0.95 <= value <= 1}
    elif "temperature" in kept:
        kept["temperature"] = min(max(kept["temperature"], 0.0), 1.0)  # Ollama's goes to 2
        kept.pop("top_p", None)  # both together are a 400
    if kept.get("top_k", 1) <= 0:  # Ollama's word for no limit
        del kept["top_k"], wanted["top_k"]
    if not 0 <= kept.get("top_p", 0.5) <= 1:
        del kept["top_p"]
    dropped += [name for name in wanted if name not in kept]
    return kept
