"""The model that needs no key: it proves that a client reaches the bridge, before a key is bought.

It answers deterministically and in every shape a client may test: text word by word, thinking, tool calls,
JSON by schema, stop words, a token limit (a token is a word here). No network, no state.
"""

import asyncio
import hashlib
import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import orjson

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Message, Reply, Tool
from ollama_bridge.events import Event, Finish, FinishReason, TextDelta, ThinkingDelta, ToolCall, Usage

_ECHOED_CHARACTERS: Final = 200
_LONGEST: Final = 1000  # items or characters, however many a schema wants at least
_DEEPEST_SCHEMA: Final = 32  # a schema that requires itself has no finite instance: it ends in null here
_EMBEDDING_LENGTH: Final = 256
_BACKGROUND: Final = 0.05  # a vector that was cut to where no word counts has a length all the same
_WORD: Final = re.compile(r"\s*\S+\s*|\s+")

_GREETING: Final = (
    "Hello! I am the demo model of ollama-bridge. "
    "If you can read this, your client talks to the bridge and everything between you works."
)
_REMEDY: Final = "For real models set ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY or another provider's key and restart `ollama-bridge serve`."


class DemoBackend:
    """Answers everything by itself. `settings` is taken as by every backend, and holds nothing of interest."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._provider = settings.name

    async def chat(self, request: ChatRequest) -> Reply:
        """Stream the reply; never fails."""
        for event in _reply(request):
            yield (event,)
            await asyncio.sleep(0)  # each word is its own write, and a client that left is noticed

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Count words: texts that share words get vectors that are near each other, and that is all it knows."""
        words = [text.lower().split() or [""] for text in request.inputs]
        return Embeddings([_counted(some) for some in words], sum(map(len, words)))

    async def warm(self) -> None:
        """Nothing to pay."""

    async def aclose(self) -> None:
        """Nothing to close."""


def _reply(request: ChatRequest) -> Iterator[Event]:
    asked = sum(len(message.content.split()) for message in request.messages)
    thought = 0
    if request.think:
        thinking = "The user talks to a demo model, so a short and friendly answer will do."
        thought = len(thinking.split())
        yield ThinkingDelta(thinking)
    if tool := _tool_asked_for(request):
        arguments = instance(tool.parameters or {"type": "object"})
        yield ToolCall("call_demo", tool.name, arguments if isinstance(arguments, dict) else {})
        yield Finish("tool_calls", Usage(asked, thought + 1, reasoning_tokens=thought))
        return
    text = _before_stops(_text(request), request.options.get("stop", ()))
    words = _WORD.findall(text)
    limit = request.options.get("num_predict", -1)
    reason: FinishReason = "length" if 0 < limit < len(words) else "stop"
    words = words[:limit] if reason == "length" else words
    for word in words:
        yield TextDelta(word)
    yield Finish(reason, Usage(asked, thought + len(words), reasoning_tokens=thought))


def _tool_asked_for(request: ChatRequest) -> Tool | None:
    last = request.messages[-1] if request.messages else Message("user")
    if last.role != "user":
        return None
    named = (
        tool
        for tool in request.tools
        if re.search(rf"(?<!\w){re.escape(tool.name)}(?!\w)", last.content, re.IGNORECASE)
    )
    return next(named, None)


def _text(request: ChatRequest) -> str:
    if isinstance(request.format, Mapping):
        return orjson.dumps(instance(request.format)).decode()
    if request.format == "json":
        return orjson.dumps({"message": _GREETING}).decode()
    last = request.messages[-1] if request.messages else Message("user")
    if last.role == "tool":
        return f"The tool {last.tool_name or 'you ran'} answered: {_shortened(last.content)}\n\n{_REMEDY}"
    user = next(
        (message for message in reversed(request.messages) if message.role == "user"), Message("user")
    )
    paragraphs = [_GREETING]
    if user.content:
        paragraphs.append(f"You said: {_shortened(user.content)}")
    if user.images:
        paragraphs.append(f"Images that came with it: {len(user.images)}.")
    return "\n\n".join([*paragraphs, _REMEDY])


def _shortened(text: str) -> str:
    return text if len(text) <= _ECHOED_CHARACTERS else text[:_ECHOED_CHARACTERS] + "…"


def _before_stops(text: str, stops: str | Iterable[str]) -> str:
    words = [stops] if isinstance(stops, str) else stops
    return text[: min((at for stop in words if stop and (at := text.find(stop)) >= 0), default=len(text))]


def _counted(words: Iterable[str]) -> "array[float]":
    """Each word adds 1 in a place of its own, as nearly as there are places: feature hashing."""
    vector = array("d", [_BACKGROUND]) * _EMBEDDING_LENGTH
    for word in words:
        vector[hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=1).digest()[0]] += 1
    return vector


def instance(schema: Mapping[str, Any]) -> Any:
    """The smallest value that a JSON Schema allows, as far as its everyday keywords say.

    Understood: `type`, `enum`, `const`, `properties`, `required`, `items`, `minItems`, `minLength`, the four
    bounds of numbers, `anyOf`, `oneOf`, `allOf` and local `$ref`s.
    """
    return _instance(schema, schema, 0)


def _instance(schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _DEEPEST_SCHEMA:
        return None
    if isinstance(reference := schema.get("$ref"), str):
        return _instance(_referred(reference, root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if isinstance(choices := schema.get("enum"), list) and choices:
        return choices[0]
    for keyword in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(keyword), list) and options:
            return _instance(options[0], root, depth + 1)
    if isinstance(parts := schema.get("allOf"), list):
        return _merged([_instance(part, root, depth + 1) for part in parts], _object(schema, root, depth))
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    match kind:
        case "array":
            item = _instance(schema.get("items", {}), root, depth + 1)
            return [item] * _count(schema.get("minItems"))
        case "string":
            return "demo".ljust(_count(schema.get("minLength")), ".")
        case "integer" | "number":
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _object(schema, root, depth)


def _referred(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _merged(parts: list[Any], own: dict[str, Any]) -> Any:
    if not all(isinstance(part, dict) for part in parts):
        return parts[0]
    return {name: value for part in [*parts, own] for name, value in part.items()}


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> dict[str, Any]:
    properties, required = schema.get("properties"), schema.get("required")
    known = properties if isinstance(properties, Mapping) else {}
    names = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    return {name: _instance(known.get(name, {}), root, depth + 1) for name in names}


def _number(schema: Mapping[str, Any], *, whole: bool) -> int | float:
    bounds = {key: value for key, value in schema.items() if type(value) in {int, float}}
    low, high = bounds.get("minimum", -math.inf), bounds.get("maximum", math.inf)
    if "exclusiveMinimum" in bounds:
        low = max(low, bounds["exclusiveMinimum"] + (1 if whole else 0.5))
    if "exclusiveMaximum" in bounds:
        high = min(high, bounds["exclusiveMaximum"] - (1 if whole else 0.5))
    value: float = max(low, min(0, high))
    return math.ceil(value) if whole else value


def _count(value: Any) -> int:
    return min(value, _LONGEST) if type(value) is int else 0
