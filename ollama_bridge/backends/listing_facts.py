"""What one entry of a provider's list of models says: readers of its fields, as data where fields are all that differ.

Sources: `providers.md` §5, openrouter.ai/docs/models, docs.mistral.ai, console.groq.com/docs/models,
docs.cohere.com/reference/list-models, lmstudio.ai/docs/api/rest-api, huggingface.co/docs/inference-providers,
developers.cloudflare.com/workers-ai, llama.cpp's and vLLM's servers.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias

from pydantic import ValidationError

from ollama_bridge.allowances import Price
from ollama_bridge.chat import Capability, Effort
from ollama_bridge.facts import Listed, ModelKind

Entry: TypeAlias = Mapping[str, Any]
Said: TypeAlias = dict[str, Any]
"""Arguments of a `Listed`."""

_MOST_TOKENS: Final = 10**9
_LONGEST_ID: Final = 300
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_CHAT_WORDS: Final = frozenset("chat,llm,vlm,language,text,text generation,text-generation".split(","))
_EMBEDDING_WORDS: Final = frozenset(
    "embedding,embeddings,embedder,embed,embedding_model,text embeddings,feature-extraction".split(",")
)
_OTHER_WORDS: Final = frozenset(
    (
        "image,audio,video,moderation,rerank,reranker,transcribe,transcription,tts,aicheck,speech,flumina_base_model,"
        "text-to-image,text-to-speech,automatic speech recognition,automatic-speech-recognition,text classification,"
        "translation,image classification,object detection,summarization,image-to-text,text-to-video,classification,"
        "upscale,inpaint,asr,music"
    ).split(",")
)
"""Words for what a model is for. Of any other word nobody knows what it means."""

_CONTEXT: Final = (
    ("loaded_context_length",),  # LM Studio, of a model that is in memory: less than it could have
    ("context_length",),
    ("context_window",),
    ("max_context_length",),
    ("max_model_len",),
    ("max_input_tokens",),
    ("inputTokenLimit",),
    ("meta", "n_ctx"),
    ("meta", "n_ctx_train"),
    ("capabilities", "limits", "max_context_window_tokens"),
    ("model_spec", "availableContextTokens"),
    ("metadata", "context_length"),
    ("top_provider", "context_length"),
)
_OUTPUT: Final = (
    ("max_completion_tokens",),
    ("max_output_tokens",),
    ("max_output_length",),
    ("outputTokenLimit",),
    ("top_provider", "max_completion_tokens"),
    ("capabilities", "limits", "max_output_tokens"),
    ("metadata", "max_tokens"),
)
_RETIRES: Final = ("shutdown_date", "retires_at", "expiration_date")

_ABLE: Final[Mapping[str, Capability]] = {
    **dict.fromkeys("tools tool_calls tool_use tool-use function_calling function-calling".split(), "tools"),
    **dict.fromkeys("trained_for_tool_use supports_tools supports_tool_calls".split(), "tools"),
    **dict.fromkeys("supports_function_calling supportsFunctionCalling".split(), "tools"),
    **dict.fromkeys("vision multimodal image_input supports_vision supportsVision".split(), "vision"),
    **dict.fromkeys("supports_image_input supports_image_in".split(), "vision"),
    **dict.fromkeys("reasoning thinking supports_reasoning supportsReasoning".split(), "thinking"),
    "completion_fim": "insert",
}
"""Words of many, to ours: as keys that are true or false, or in a list."""

_TALKS: Final = ("completion_chat", "supports_chat", "chat_completion")
"""Keys that say whether one can chat with it."""

_OPTIONS: Final[Mapping[str, str]] = {
    **{name: name for name in ("temperature", "top_p", "top_k", "min_p", "seed", "stop")},
    **{name: name for name in ("presence_penalty", "frequency_penalty", "logprobs")},
    "repetition_penalty": "repeat_penalty",
}
"""OpenRouter's names of parameters to `Rules.accepts`."""

_CLAUDE_EFFORTS: Final[tuple[Effort, ...]] = ("low", "medium", "high", "xhigh", "max")
_CLAUDE_THINKING: Final = ("adaptive", "disabled", "between_tools")


def read_all(entries: Iterable[Any], reader: Callable[[Entry], Listed | None]) -> list[Listed]:
    """What the entries say that are any."""
    return [model for entry in entries if isinstance(entry, dict) and (model := reader(entry)) is not None]


def openai_entry(entry: Entry) -> Listed | None:
    """An entry of whoever speaks OpenAI's APIs; None: it names no model."""
    name = next((entry[key] for key in ("id", "key", "name", "model") if _is_id(entry.get(key))), None)
    if isinstance(entry.get("task"), dict):  # Cloudflare's `id` is the database's
        name = entry.get("name")
    if not _is_id(name):
        return None
    said: Said = {"id": name, "able": {}, **_usual(entry)}
    if isinstance(shown := entry.get("display_name") or entry.get("name"), str) and shown != name:
        said["display_name"] = shown
    for read in _READERS:
        read(entry, said)
    return Listed(**said)


def anthropic_entry(entry: Entry) -> Listed | None:
    """An entry of Anthropic's list, which tells what it thinks with, and how hard."""
    if not _is_id(entry.get("id")):
        return None
    said: Said = {"id": entry["id"], "able": {}, "kind": "chat", **_usual(entry)}
    if isinstance(shown := entry.get("display_name"), str):
        said["display_name"] = shown
    if (most := _tokens(entry.get("max_tokens"))) is not None:
        said["max_output_tokens"] = most
    said["gone"] = entry.get("lifecycle") == "retired"
    capabilities = entry.get("capabilities")
    if not isinstance(capabilities, dict):
        return Listed(**said)
    for key, ours in (("image_input", "vision"), ("thinking", "thinking")):
        if (supported := _supported(capabilities, key)) is not None:
            said["able"][ours] = supported
    if (structured := _supported(capabilities, "structured_outputs")) is not None:
        said["schema"] = structured
    if (types := _thinking(capabilities)) is not None:
        said["thinking"] = types
    if (effort := _supported(capabilities, "effort")) is not None:
        levels = capabilities["effort"]
        said["efforts"] = tuple(word for word in _CLAUDE_EFFORTS if effort and _supported(levels, word))
    return Listed(**said)


def google_entry(entry: Entry) -> Listed | None:
    """An entry of Gemini's list. That it generates says nothing: those that speak and paint do so too."""
    name = entry.get("name")
    if not _is_id(name):
        return None
    said: Said = {"id": str(name).removeprefix("models/"), "able": {}, **_usual(entry)}
    if isinstance(shown := entry.get("displayName"), str):
        said["display_name"] = shown
    actions = entry.get("supportedGenerationMethods") or entry.get("supportedActions")
    if isinstance(actions, list):
        embeds = "embedContent" in actions or "batchEmbedContents" in actions
        said["kind"] = "" if "generateContent" in actions else "embedding" if embeds else "other"
    if isinstance(thinks := entry.get("thinking"), bool):
        said["able"]["thinking"] = thinks
        if not thinks:
            said |= {"thinking": frozenset(), "efforts": ()}
    return Listed(**said)


# ------------------------------------------------------------------------------------------------ one reader each


def _flags(entry: Entry, said: Said) -> None:
    """`capabilities` as keys (Mistral, xAI, Copilot, Venice, LM Studio), or beside the id (Fireworks, Moonshot)."""
    capabilities = entry.get("capabilities")
    for flags in (
        entry,
        capabilities,
        _at(entry, ("capabilities", "supports")),
        _at(entry, ("model_spec", "capabilities")),
    ):
        if not isinstance(flags, dict):
            continue
        for key, ours in _ABLE.items():
            if isinstance(flag := flags.get(key), bool):
                said["able"][ours] = flag
        for key in _TALKS:
            if isinstance(talks := flags.get(key), bool):
                said["kind"] = "chat" if talks else "embedding" if "embed" in said["id"].lower() else "other"


def _words(entry: Entry, said: Said) -> None:
    """The same as a list of words (llama.cpp, LM Studio), which may leave out what it does not know."""
    for key in ("capabilities", "tags", "supported_features"):
        if isinstance(words := entry.get(key), list):
            said["able"] |= {_ABLE[word]: True for word in words if isinstance(word, str) and word in _ABLE}
    if isinstance(features := entry.get("features"), list):  # Cohere: all of them
        said["able"] |= {ability: ability in features for ability in ("tools", "vision")}


def _purpose(entry: Entry, said: Said) -> None:
    """What it is for: one word (Together, LM Studio, GigaChat), a task (Cloudflare), or routes that take it (Cohere)."""
    for value in (
        entry.get("type"),
        entry.get("kind"),
        _at(entry, ("task", "name")),
        _at(entry, ("capabilities", "type")),
    ):
        if kind := _kind(value):
            said["kind"] = kind
    if isinstance(routes := entry.get("endpoints"), list) and routes:
        said["kind"] = "chat" if "chat" in routes else "embedding" if "embed" in routes else "other"
    if entry.get("type") == "vlm":
        said["able"]["vision"] = True


def _modalities(entry: Entry, said: Said) -> None:
    """What it reads and writes: OpenRouter, HuggingFace, xAI."""
    for holder in (entry.get("architecture"), entry):
        if not isinstance(holder, dict):
            continue
        if isinstance(inputs := holder.get("input_modalities"), list):
            said["able"]["vision"] = "image" in inputs
        if isinstance(outputs := holder.get("output_modalities"), list) and outputs:
            embeds = "embeddings" in outputs or "embedding" in outputs
            said["kind"] = "chat" if "text" in outputs else "embedding" if embeds else "other"


def _parameters(entry: Entry, said: Said) -> None:
    """OpenRouter: every parameter that one of those behind it takes."""
    taken = entry.get("supported_parameters")
    if not isinstance(taken, list):
        return
    said["able"] |= {"tools": "tools" in taken, "thinking": "reasoning" in taken}
    said["accepts"] = frozenset(ours for name, ours in _OPTIONS.items() if name in taken)
    said["schema"] = "structured_outputs" in taken
    if "reasoning" not in taken:
        said |= {"thinking": frozenset(), "efforts": ()}


def _price(entry: Entry, said: Said) -> None:
    """OpenRouter and Vercel write dollars a token, as text; Together dollars a million, as numbers.

    What costs nothing there may be free; as a number it only says that nobody has filled it in.
    """
    pricing = entry.get("pricing")
    if not isinstance(pricing, dict) or _usd(pricing.get("request")):
        return
    prompt, completion = (
        pricing.get("prompt", pricing.get("input")),
        pricing.get("completion", pricing.get("output")),
    )
    factor = 1_000_000 if isinstance(prompt, str) else 1
    if factor == 1 and not (prompt and completion):
        return
    told = {
        "input": prompt,
        "output": completion,
        "cached_read": pricing.get("input_cache_read"),
        "cached_write": pricing.get("input_cache_write"),
    }
    amounts = {key: usd * factor for key, value in told.items() if (usd := _usd(value)) is not None}
    try:
        said["price"] = Price.model_validate(amounts)
    except ValidationError:
        return  # one of them is missing, or below nothing: the price is another one each time


def _providers(entry: Entry, said: Said) -> None:
    """HuggingFace's router: whoever of those behind it is chosen, so much they all can do."""
    providers = entry.get("providers")
    if not isinstance(providers, list):
        return
    live = [one for one in providers if isinstance(one, dict) and one.get("status", "live") == "live"]
    if windows := [size for one in live if (size := _tokens(one.get("context_length"))) is not None]:
        said["context_length"] = min(windows)
    if tools := [flag for one in live if isinstance(flag := one.get("supports_tools"), bool)]:
        said["able"]["tools"] = any(tools)
    said["gone"] = bool(providers) and not live


def _properties(entry: Entry, said: Said) -> None:
    """Cloudflare: pairs of key and text."""
    properties = entry.get("properties")
    if not isinstance(properties, list):
        return
    pairs = ((one.get("property_id"), one.get("value")) for one in properties if isinstance(one, dict))
    told = {key: value for key, value in pairs if isinstance(key, str) and isinstance(value, str)}
    if (size := _tokens(told.get("context_window"))) is not None:
        said["context_length"] = size
    for key, ours in _ABLE.items():
        if (flag := told.get(key)) in {"true", "false"}:
            said["able"][ours] = flag == "true"


def _end(entry: Entry, said: Said) -> None:
    """Who cannot be asked any more: Groq, Anthropic behind a gateway, Cohere's `is_deprecated` is not that yet."""
    if entry.get("active") is False or entry.get("lifecycle") == "retired":
        said["gone"] = True


_READERS: Final = (_flags, _words, _modalities, _purpose, _parameters, _price, _providers, _properties, _end)


# ------------------------------------------------------------------------------------------------ fields


def _usual(entry: Entry) -> Said:
    """What most of them tell, under some name."""
    said: Said = {}
    for name, paths in (("context_length", _CONTEXT), ("max_output_tokens", _OUTPUT)):
        found = (_tokens(_at(entry, path)) for path in paths)
        if (size := next((size for size in found if size is not None), None)) is not None:
            said[name] = size
    for key in _RETIRES:
        if isinstance(day := entry.get(key), str) and (match := _DAY.match(day)):
            said["retires"] = match[0]
            break
    return said


def _at(entry: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        entry = entry.get(key) if isinstance(entry, dict) else None
    return entry


def _tokens(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 < value <= _MOST_TOKENS else None


def _usd(value: Any) -> Decimal | None:
    if type(value) not in {str, int, float}:
        return None
    try:
        return Decimal(str(value)).normalize()
    except InvalidOperation:
        return None


def _is_id(value: Any) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= _LONGEST_ID
        and value.isprintable()
        and not value.isspace()
    )


def _kind(value: Any) -> ModelKind:
    word = value.lower() if isinstance(value, str) else ""
    return next((kind for kind, words in _PURPOSES if word in words), "")


_PURPOSES: Final[tuple[tuple[ModelKind, frozenset[str]], ...]] = (
    ("chat", _CHAT_WORDS),
    ("embedding", _EMBEDDING_WORDS),
    ("other", _OTHER_WORDS),
)


def _supported(of: Any, key: str) -> bool | None:
    flag = _at(of, (key, "supported"))
    return flag if isinstance(flag, bool) else None


def _thinking(capabilities: Entry) -> frozenset[str] | None:
    """As `Rules.thinking` has it; a budget is for those only that cannot find the measure by themselves."""
    types = _at(capabilities, ("thinking", "types"))
    if not isinstance(types, dict):
        return None
    thinks = {ours for ours in _CLAUDE_THINKING if _supported(types, ours)}
    if "adaptive" not in thinks and _supported(types, "enabled"):
        thinks.add("budget")
    return frozenset(thinks) if thinks & {"adaptive", "budget"} else frozenset()
