"""Go templates as far as they say how a prompt is worded: `TEMPLATE "Translate into French: {{ .Prompt }}"`.

A provider has a template of its own for roles, tools and special tokens. So only texts around `.Prompt` are taken,
with `if .Field`, `else` and `end`; everything else a template may hold (`range`, functions, `<|im_start|>`) says how a
local model's tokens are laid out, and has no effect. `.System` renders as nothing: the system prompt
reaches the provider in its own place. Pure.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from ollama_bridge.errors import InvalidRequest

_FIELDS: Final = frozenset({".Prompt", ".System", ".Suffix", ".Response"})
_OPENS: Final = frozenset({"if", "range", "with", "block", "define"})
_SPACE: Final = " \t\r\n"
_CONTROL: Final = re.compile(
    r"<[|\uff5c]|[|\uff5c]>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|\[gMASK\]"
)
_LONGEST: Final = 65_536  # characters; a prompt's wording is short
_DEEPEST: Final = 50
_STRING: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|\}\}|[^"`}]+|.', re.DOTALL)


class InvalidTemplate(InvalidRequest):
    """Not a template by Go's grammar; the words are Go's, and so is the status of /api/generate."""

    default_status = 500


@dataclass(frozen=True, slots=True)
class _Field:
    name: str


@dataclass(frozen=True, slots=True)
class _If:
    field: str
    then: "tuple[_Part, ...]"
    otherwise: "tuple[_Part, ...]"


_Part: TypeAlias = str | _Field | _If


class _Beyond(Exception):
    """More than we render."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How a prompt is put."""

    parts: tuple[_Part, ...]

    def of(self, prompt: str) -> str:
        """What to ask instead of `prompt`."""
        said: list[str] = []
        for piece in _rendered(self.parts, {".Prompt": prompt}):
            if piece is None:  # where the model's answer begins
                break
            said.append(piece)
        return "".join(said)


@lru_cache(maxsize=256)
def wording(template: str) -> Wording | None:
    """What `template` says of a prompt's wording, with the prompt in it once; None: nothing, it has no effect.

    Raises:
        InvalidTemplate: It is no template: `template: :1: unclosed action` and its like.
    """
    if len(template) > _LONGEST:
        return None
    tokens = list(_tokens(template))
    texts = (text for kind, text, _ in tokens if kind == "text")
    if _check_nesting(tokens) > _DEEPEST or any(map(_CONTROL.search, texts)):
        return None
    try:
        told = Wording(_parsed(tokens, 0)[0])
    except _Beyond:
        return None
    return told if told.of("\0").count("\0") == 1 else None


_Token: TypeAlias = tuple[str, str, int]
"""`text` or `action`, what it is, and its line."""


def _tokens(template: str) -> Iterator[_Token]:
    at, line = 0, 1
    trim = False
    while True:
        opening = template.find("{{", at)
        text = template[at:] if opening < 0 else template[at:opening]
        shown = text.lstrip(_SPACE) if trim else text
        line += text.count("\n")
        if opening < 0:
            yield "text", shown, line
            return
        left = re.match(r"-[ \t\r\n]", template[opening + 2 : opening + 4])
        yield "text", shown.rstrip(_SPACE) if left else shown, line
        action, at = _action(template, opening + (3 if left else 2), line)
        line += template.count("\n", opening, at)
        trim = bool(re.search(r"[ \t\r\n]-\Z", action))
        action = action[:-1] if trim else action
        if not action.strip().startswith("/*"):
            yield "action", action.strip(), line


def _action(template: str, start: int, line: int) -> tuple[str, int]:
    """The inside of an action, and the place behind it."""
    if comment := re.compile(r"\s*/\*").match(template, start):
        end = template.find("*/", comment.end())
        if end < 0:
            raise InvalidTemplate(f"template: :{line}: unclosed comment")
        start_of_end = end + 2
    else:
        start_of_end = start
    for found in _STRING.finditer(template, start_of_end):
        if found[0] == "}}":
            return template[start : found.start()], found.end()
        if found[0] == '"':
            raise InvalidTemplate(f"template: :{line}: unterminated quoted string")
    raise InvalidTemplate(f"template: :{line}: unclosed action")


def _check_nesting(tokens: Sequence[_Token]) -> int:
    """How deep it goes."""
    depth = deepest = 0
    for kind, text, line in tokens:
        if kind == "text":
            continue
        word = text.split(maxsplit=1)[0] if text else ""
        if not word:
            raise InvalidTemplate(f"template: :{line}: missing value for command")
        depth += (word in _OPENS) - (word == "end")
        deepest = max(deepest, depth)
        if depth < 0 or (word == "else" and not depth):
            raise InvalidTemplate(f"template: :{line}: unexpected {{{{{word}}}}}")
    if depth:
        raise InvalidTemplate(f"template: :{tokens[-1][2]}: unexpected EOF")
    return deepest


def _parsed(tokens: Sequence[_Token], at: int) -> tuple[tuple[_Part, ...], int]:
    """The parts up to an `else` or `end` that belongs to somebody above, and its place."""
    parts: list[_Part] = []
    while at < len(tokens):
        kind, text, _ = tokens[at]
        words = text.split()
        if kind == "text":
            parts.append(text)
        elif text in _FIELDS:
            parts.append(_Field(text))
        elif words[0] in {"else", "end"}:
            break
        elif len(words) == 2 and words[0] == "if" and words[1] in _FIELDS:
            part, at = _branches(tokens, at, words[1])
            parts.append(part)
        else:
            raise _Beyond
        at += 1
    return tuple(parts), at


def _branches(tokens: Sequence[_Token], at: int, field: str) -> tuple[_If, int]:
    """The `if` at `at`, and the place of its `end`."""
    then, at = _parsed(tokens, at + 1)
    words = tokens[at][1].split()
    if words == ["end"]:
        return _If(field, then, ()), at
    if words == ["else"]:
        otherwise, at = _parsed(tokens, at + 1)
        return _If(field, then, otherwise), at
    if len(words) == 3 and words[1] == "if" and words[2] in _FIELDS:
        inner, at = _branches(tokens, at, words[2])
        return _If(field, then, (inner,)), at
    raise _Beyond


def _rendered(parts: Sequence[_Part], values: Mapping[str, str]) -> Iterator[str | None]:
    for part in parts:
        match part:
            case str():
                yield part
            case _Field(".Response"):
                yield None
            case _Field(name):
                yield values.get(name, "")
            case _If(field, then, otherwise):
                yield from _rendered(then if values.get(field) else otherwise, values)
