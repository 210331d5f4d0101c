"""What pydantic found wrong, in the operator's words, and without a value that might be a secret."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from ollama_bridge.config.nearest import suggestion
from ollama_bridge.config.schema import Config, KeyPath
from ollama_bridge.masking import mask

_WORDS: Final[Mapping[str, str]] = {
    "int": "must be a whole number",
    "float": "must be a number",
    "finite": "must be a finite number",
    "bool": "must be true or false",
    "string": "must be text",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "must be visible ASCII signs without spaces",
    "tuple": "must be a list",
    "dict": "must hold keys with values",
    "model": "must hold keys with values",
    "missing": "is missing",
}
"""By pydantic's error type or its first word (`int_parsing`, `int_from_float`, …); others have good messages."""

_SECRET_KEYS: Final = frozenset(
    {"api_key", "headers", "clients", "state", "credentials", "ca_bundle", "token_url"}
)
_LONGEST_VALUE: Final = 40


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `value` is None where it must not be shown or would not help."""

    path: KeyPath
    message: str
    value: object = None

    def text(self, *, hide_value: bool) -> str:
        """The sentence after the line number."""
        if self.value is None or hide_value:
            return _on_one_line(self.message)
        return _on_one_line(f"{self.message}, not {mask(repr(self.value))}")


def _on_one_line(text: str) -> str:
    """What a key or a value may hold, and a terminal or a log should not be given, as escapes."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def faults(error: ValidationError) -> list[Fault]:
    """All of them, in pydantic's order; never empty."""
    return [_fault(dict(details)) for details in error.errors(include_url=False)]


def dotted(path: KeyPath) -> str:
    """`models[0].name`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return mask(text.removeprefix("."))


def _fault(details: Mapping[str, Any]) -> Fault:
    path: KeyPath = details["loc"]
    kind: str = details["type"]
    context = details.get("ctx", {})
    if "path" in context:
        return Fault(context["path"], context["message"])
    if kind == "extra_forbidden":
        return Fault(path, _unknown_key(path))
    words = _WORDS.get(kind) or _WORDS.get(kind.partition("_")[0])
    message = words or details["msg"].replace("Input should be", "must be")
    value = details["input"]
    showable = isinstance(value, str | int | float) and len(str(value)) <= _LONGEST_VALUE
    if "base_url" in path and "@" in str(value):  # a password, perhaps
        showable = False
    if not showable or _SECRET_KEYS & set(path) or kind.startswith(("model", "dict", "tuple", "missing")):
        value = None
    return Fault(path, f"{dotted(path)} {message}", value)


def _unknown_key(path: KeyPath) -> str:
    *above, key = path
    section = Config.SECTIONS.get(str(above[0]), Config) if above else Config
    where = f" in '{dotted(tuple(above))}'" if above else ""
    keys = [field.alias or name for name, field in section.model_fields.items()]
    hint = suggestion(str(key), keys) or f"; known: {', '.join(keys)}"
    return f"unknown key '{mask(str(key))}'{where}{hint}"
