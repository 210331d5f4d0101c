"""Which parameter of a request a provider refuses, read out of its error, and what may be done about it.

Pure. Texts as providers send them: OpenAI's `param` and `code`, pydantic's `loc`, Google's `Unknown name`, prose of all
the others. Only what was sent counts, and nothing that makes the request another one: no message, no tool, no image.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

import orjson

from ollama_bridge.chat import Effort
from ollama_bridge.repairs import Repair, held

_UNTOUCHED: Final = frozenset(
    "model messages input contents content tools functions stream prompt suffix requests instructions system "
    "systemInstruction user".split()
)
"""What makes the request: an error that names one of these stays an error."""

_HOLDERS: Final = frozenset({"generationConfig", "text"})
"""Parameters stand in them; they are none themselves."""

_TOO_SHORT: Final = frozenset(
    {"type", "name", "mode", "format", "schema", "strict", "display", "description"}
)
"""Ends of paths that mean something else without the rest."""

_ALIASES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (r"penalty", ("generationConfig.presencePenalty", "generationConfig.frequencyPenalty")),
    (r"json mode", ("response_format", "generationConfig.responseMimeType", "text.format")),
    (
        r"structured outputs?",
        (
            "response_format",
            "text.format",
            "output_config.format",
            "generationConfig.responseJsonSchema",
        ),
    ),
    (r"(?<=support\s)matryoshka", ("dimensions", "outputDimensionality")),
    (r"logprobs", ("generationConfig.responseLogprobs",)),
    (r"budget(?=\s\d)", ("generationConfig.thinkingConfig.thinkingBudget",)),
    (r"(?:tool ?/ ?)?function calling|tool calls?", ("tools",)),
    (r"thinking|reasoning", ("thinking", "reasoning_effort", "reasoning", "generationConfig.thinkingConfig")),
)
"""What else a parameter is called in prose: the first that was sent is meant."""

_REFUSES: Final = re.compile(
    r"un-?supported|not (?:\w+ )?(?:be )?supported|n(?:o|')t (?:currently )?(?:support|accept)|unknown|unrecogni[sz]ed"
    r"|not (?:permitted|allowed|enabled|available|compatible|recogni[sz]ed)|is not a (?:valid|known) \w+|deprecated"
    r"|unexpected (?:\w+ )?(?:argument|field|property|parameter)|extra_forbidden|additional properties|unavailable"
    r"|cannot (?:both )?be|cannot both|can't be (?:disabled|used)|only (?:\S+ ){1,8}(?:supported|allowed|permitted)"
    r"|must be (?:one of|either|unset|['\"`])|input should be ['\"`]|(?:not|any of|is) one of|invalid value at"
    r"|expected tags|only works|may (?:only|not) be|no longer|verified to|incompatible|budget \(?\d+\)? is invalid",
    re.IGNORECASE,
)
"""That the model, or its provider, never takes this: not that it was used in the wrong way."""

_RANGE: Final = re.compile(
    r"(?:above|below) (?:the )?(?:maximum|minimum)|(?:greater|less|smaller|larger|higher|lower) than|between|\brange\b"
    r"|at (?:most|least)|[<>≤≥]=? ?\d|too (?:large|small|high|low|big|long)|exceed|maximum (?:value|allowed|length)"
    r"|out of bounds|choose a value",
    re.IGNORECASE,
)
"""That a number is too large, or too small: the parameter itself is taken."""

_UNKNOWN: Final = re.compile(
    r"un(?:known|recogni[sz]ed|expected)|extra|not permitted|additional|unsupported|not a valid \w+",
    re.IGNORECASE,
)
_ONLY_IF_UNKNOWN: Final = frozenset({"store"})
"""Left out, these mean something else to whoever knows them: without `store: false` OpenAI keeps the conversation."""

_TOGETHER: Final = re.compile(
    r"cannot both|not both|(?:combined?|together|used|compatible) with|only one of|when (?:thinking|reasoning|tools)\b",
    re.IGNORECASE,
)
_BOTH: Final = re.compile(r"\bboth\b|only one of", re.IGNORECASE)

_BEFORE: Final = re.compile(
    r"(?:['\"`(\[]|\b(?:parameters?|arguments?|propert(?:y|ies)|fields?|options?|names?|values?|supports?|supplied|invalid"
    r"|unsupported|support the|accept|output|model|for):?\W{0,3})\Z",
    re.IGNORECASE,
)
_AFTER: Final = re.compile(
    r"['\"`)\]]*\s*(?:parameters?|arguments?|fields?|options?|is|are|was|does|do|cannot|can't|must|should|value|not)\b"
    r"|['\"`]*\s*[:=\[]|\.\w|['\"`]|\s\(?\d",
    re.IGNORECASE,
)
"""What stands around a word that is a parameter's name, and an English word as well."""

_LOC: Final = re.compile(r"['\"]loc['\"]: ?[\[(]([^\])]*)[\])]")
_NUMBER: Final = re.compile(r"(?<![\w.-])(\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)(?![\w-]|[.,]\d)")
_WORD: Final = re.compile(r"[A-Za-z]+")
_ALLOWED: Final = re.compile(
    r"supported (?:values|levels|options)|one of|allowed values|values? (?:are|is)|choose from|expected|must be|should be"
    r"|supports? only|only",
    re.IGNORECASE,
)
_BODY: Final = re.compile(r"\b(?:body|request)\.(?=\w)")
_ROLE: Final = re.compile(r"\brole\b", re.IGNORECASE)
_MAX_CHARS: Final = 4000
_LEAST_TOKENS: Final = 16

_LIMITS: Final[Mapping[str, str]] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "",
    "generationConfig.maxOutputTokens": "",
}
"""How an answer is limited, and what else it may be called; never left out, for that would cost money."""

_EFFORTS: Final = frozenset(
    {
        "reasoning_effort",
        "reasoning.effort",
        "output_config.effort",
        "generationConfig.thinkingConfig.thinkingLevel",
    }
)
_BUDGET: Final = "generationConfig.thinkingConfig.thinkingBudget"
_THINKING_TYPES: Final = ("adaptive", "enabled", "disabled", "between_tools")
_FORMATS: Final = ("response_format", "text.format")
_SCHEMAS: Final = ("output_config.format", "generationConfig.responseJsonSchema")
_CHOICES: Final = ("tool_choice", "toolConfig")
_FREE_CHOICES: Final = frozenset({"none", "NONE", "auto", "AUTO"})


def repair_for(body: Any, message: str, sent: Mapping[str, Any]) -> Repair | None:
    """What to do about a refusal (400 or 422); None: nothing that would leave the request what it is.

    Args:
        body: The error as JSON, of whatever shape.
        message: Its text.
        sent: The body of the request that was refused.
    """
    error, text = _innermost(body, message)
    text = _BODY.sub("", text[:_MAX_CHARS])
    paths = list(_paths(sent))
    said = f"{error.get('code')} {error.get('type')} {text}"
    if role := _role(error, text, sent):
        return role
    path = _structured(error, text, paths)
    if path is None:
        found = _mentioned(text, paths, sent)
        return _beside(said, found) or _repair(found[0] if found else "", said, text, sent)
    return _repair(path, said, text, sent)


def _innermost(body: Any, message: str) -> tuple[Mapping[str, Any], str]:
    """The error itself, and its text: OpenRouter puts that of the provider behind it into its own."""
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error", body) if isinstance(body, dict) else {}
    error = error if isinstance(error, dict) else {}
    raw = held(error, "metadata.raw")
    if not isinstance(raw, str):
        return error, message
    try:
        inner = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return error, raw
    inner = inner.get("error", inner) if isinstance(inner, dict) else {}
    inner = inner if isinstance(inner, dict) else {}
    told = inner.get("message")
    return inner, told if isinstance(told, str) else raw


# ------------------------------------------------------------------------------------- which parameter


def _paths(sent: Mapping[str, Any], above: str = "", depth: int = 3) -> Iterator[str]:
    """All that was sent, as paths."""
    for name, value in sent.items():
        if above or name not in _HOLDERS:
            yield above + name
        if isinstance(value, dict) and name not in _UNTOUCHED and depth > 1:
            yield from _paths(value, f"{above}{name}.", depth - 1)


def _pattern(name: str) -> str:
    """The name however it is spelled: `thinkingLevel`, `thinking_level`, `Thinking level`."""
    words = re.findall(r"[a-z0-9]+|[A-Z][a-z0-9]*", name)
    return r"[ _-]?".join(words)


def _spelled(path: str) -> str:
    return r"\.".join(map(_pattern, path.split(".")))


def _structured(error: Mapping[str, Any], text: str, paths: Sequence[str]) -> str | None:
    """The parameter that `param` or `loc` names, empty if that is nothing to be touched; None: they name none."""
    places = [[word.strip(" '\"") for word in found.split(",")] for found in _LOC.findall(text)]
    named = [".".join(words[1:] if words[0] == "body" else words) for words in places]
    param = error.get("param")
    if isinstance(param, str):
        named.append(param.removeprefix("body."))
    for name in named:
        if (path := _resolved(name, paths)) is not None:
            return path
    return None


def _resolved(name: str, paths: Sequence[str]) -> str | None:
    """The path that is meant, or the one that it is a part of."""
    words = re.split(r"[.\[]", name)
    if words[0] in _UNTOUCHED:
        return ""
    while words:
        asked = ".".join(words)
        for path in paths:
            end = path.rpartition(".")[2]
            if re.fullmatch(_spelled(path), asked, re.IGNORECASE) or (
                end not in _TOO_SHORT and re.fullmatch(_pattern(end), words[-1], re.IGNORECASE)
            ):
                return path
        words.pop()
    return None


def _mentioned(text: str, paths: Sequence[str], sent: Mapping[str, Any]) -> list[str]:
    """The parameters that a text names, in its order; of two that begin together the longer."""
    found: dict[int, tuple[int, str]] = {}

    def look(pattern: str, path: str, *, is_plain: bool) -> None:
        for match in re.finditer(rf"(?<![\w.-]){pattern}(?!\w|-)", text, re.IGNORECASE):
            before, after = text[: match.start()], text[match.end() :]
            if is_plain and not (_BEFORE.search(before[-40:]) or _AFTER.match(after)):
                continue
            if path == "model" and not before.endswith(("'", '"', "`")):
                continue  # as in "not supported with this model"
            if found.get(match.start(), (0, ""))[0] < match.end():
                found[match.start()] = (match.end(), path)

    for path in paths:
        look(_spelled(path), path, is_plain=path.islower() and path.isalpha())
        above, _, end = path.rpartition(".")
        if above and end not in _TOO_SHORT:
            look(_pattern(end), path, is_plain=end.islower() and end.isalpha())
        elif path.endswith(".type"):
            look(rf"{_spelled(path)}\.\w+", path, is_plain=False)
    for pattern, candidates in _ALIASES:
        if meant := next((path for path in candidates if held(sent, path) is not None), None):
            look(pattern, meant, is_plain=" " not in pattern)
    return list(dict.fromkeys(found[at][1] for at in sorted(found)))


# --------------------------------------------------------------------------------------- what to do


def _beside(said: str, found: Sequence[str]) -> Repair | None:
    """Two parameters that are taken, but not together."""
    if len(found) < 2 or not _TOGETHER.search(said):
        return None
    kept, other = found[:2] if _BOTH.search(said) else found[1::-1]
    if other in _UNTOUCHED:
        kept, other = other, kept
    if other in _UNTOUCHED or other in _LIMITS or other.startswith(f"{kept}."):
        return None
    return Repair(other, beside=kept)


def _repair(path: str, said: str, text: str, sent: Mapping[str, Any]) -> Repair | None:
    if not path or path.partition(".")[0] in _UNTOUCHED:
        return None
    value = held(sent, path)
    if path in _LIMITS:
        return _limit(path, said, text, sent)
    number = len(value) if isinstance(value, list) else value
    if _is_number(number) and path != _BUDGET and _RANGE.search(said):
        most = _below(text, number)
        return Repair(path, most) if most else None
    if not _REFUSES.search(said):
        return None
    if path in _ONLY_IF_UNKNOWN and not _UNKNOWN.search(said):
        return None
    for root, special in _SPECIAL:
        if path == root or path.startswith(f"{root}."):
            return special(path, text, sent)
    return Repair(path)


def _limit(path: str, said: str, text: str, sent: Mapping[str, Any]) -> Repair | None:
    """Its other name, or the most that is taken."""
    other = _LIMITS[path]
    if other and "messages" in sent and re.search(rf"\buse\W+{other}\b", text, re.IGNORECASE):
        return Repair(path, other)
    if _RANGE.search(said):
        value = held(sent, path)
        most = _below(text, value) if _is_number(value) else None
        return Repair(path, most) if most and most >= _LEAST_TOKENS else None
    if other and "messages" in sent and _REFUSES.search(said):
        return Repair(path, other)
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _below(text: str, value: float) -> int | float | None:
    """The largest number in the text that is less than what was sent."""
    numbers = [float(found.replace(",", "")) for found in _NUMBER.findall(text)]
    most = max((number for number in numbers if 0 < number < value), default=None)
    if most is None:
        return None
    return int(most) if most.is_integer() else most


def _effort(path: str, text: str, sent: Mapping[str, Any]) -> Repair:
    """The words that are taken instead, or else all but the one that is not."""
    allowed = _ALLOWED.search(text)
    named = {word.lower() for word in _WORD.findall(text[allowed.end() :])} if allowed else set()
    value = str(held(sent, path)).lower()
    words = tuple(word for word in get_args(Effort) if word in named and word != value)
    if words:
        return Repair(path, words)
    is_named = re.search(rf"['\"`]{value}['\"`]|\b{value.upper()}\b", text)
    return Repair(path, refused=value if is_named else "")


def _budget(path: str, text: str, sent: Mapping[str, Any]) -> Repair:
    """Most that cannot be told to think for so long can be told nothing; some only cannot be told not to."""
    cannot_stop = held(sent, path) == 0 and re.search(r"\b0\b|disabled|thinking mode", text)
    return Repair(path, refused="none" if cannot_stop else "")


def _thinking(path: str, text: str, sent: Mapping[str, Any]) -> Repair:
    kind = held(sent, "thinking.type")
    named = [word for word in _THINKING_TYPES if re.search(rf"\b{word}\b", text)]
    others = tuple(word for word in named if word != kind)
    if kind in named or others:
        return Repair("thinking.type", others or None, refused=str(kind))
    return Repair(path)


def _format(path: str, text: str, sent: Mapping[str, Any]) -> Repair:  # noqa: ARG001 - as the others
    """A schema gives way to some JSON and the schema in words, some JSON to words alone."""
    root = next(root for root in _FORMATS if path.startswith(root))
    kind = held(sent, f"{root}.type")
    return Repair(f"{root}.type", "json_object" if kind == "json_schema" else None, refused=str(kind))


def _choice(path: str, text: str, sent: Mapping[str, Any]) -> Repair:  # noqa: ARG001 - as the others
    """A call that cannot be forced is left to the model."""
    for place in ("tool_choice", "tool_choice.type", "toolConfig.functionCallingConfig.mode"):
        word = held(sent, place)
        if isinstance(word, str) and word in _FREE_CHOICES:
            return Repair(place, refused=word)
    return Repair(path if path == "tool_choice.disable_parallel_tool_use" else path.partition(".")[0])


def _schema(path: str, text: str, sent: Mapping[str, Any]) -> Repair:  # noqa: ARG001 - as the others
    return Repair(next(root for root in _SCHEMAS if path.startswith(root)))


def _role(error: Mapping[str, Any], text: str, sent: Mapping[str, Any]) -> Repair | None:
    """What OpenAI calls `developer` is `system` to all others."""
    place = f"{error.get('param')} {text}"
    if not _ROLE.search(place) or "developer" not in text:
        return None
    messages = sent.get("messages")
    roles = {each.get("role") for each in messages} if isinstance(messages, list) else set()
    return Repair("messages.role", "system", refused="developer") if "developer" in roles else None


_Special = Callable[[str, str, Mapping[str, Any]], Repair]
_SPECIAL: Final[tuple[tuple[str, _Special], ...]] = (
    *((path, _effort) for path in sorted(_EFFORTS)),
    (_BUDGET, _budget),
    ("thinking", _thinking),
    *((path, _format) for path in _FORMATS),
    *((path, _schema) for path in _SCHEMAS),
    *((path, _choice) for path in _CHOICES),
)
"""Parameters that are not merely left out, by the root of their paths."""
