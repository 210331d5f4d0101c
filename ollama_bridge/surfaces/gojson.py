r"""JSON as Go's `encoding/json` reads and writes it, for clients that compare texts and bytes.

Reading (`parse`): only the first value of a body counts, what follows it is ignored; invalid UTF-8 and
lone surrogates become U+FFFD; a byte order mark is an error; errors have Go's words. orjson does the work.
Only when it refuses does the scanner below look for the end of the first value, or for Go's words.

Writing (`dump`, `escape`): compact, raw UTF-8, with `<`, `>`, `&`, U+2028 and U+2029 as `\u003c` and so on.
"""

import codecs
import json
import math
from functools import cache
from typing import Any, Final, NoReturn, Self

import orjson
import regex as re  # `re` of Python 3.11.2, which Debian 12 has, is wrong about possessive groups

from ollama_bridge.errors import InvalidRequest

MAX_DEPTH: Final = 10_000
"""Go's own limit of nested arrays and objects."""

_KEPT_DEPTH: Final = 400
"""What is nested deeper becomes null: the parsers' recursion ends there, and so does any provider's patience."""

_STRING: Final = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'
_NUMBER: Final = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+"
_SCALAR: Final = rb'(?:%b"|%b|true|false|null)' % (_STRING, _NUMBER)
_S: Final = rb"[ \t\r\n]*+"

_space: Final = re.compile(_S)
_scalar: Final = re.compile(_SCALAR)
_open_string: Final = re.compile(_STRING)
_hex: Final = re.compile(rb"[0-9a-fA-F]{0,4}")
LARGE_BYTES: Final = 65_536
"""From here on it pays to compile the expressions that skip runs of simple values."""

_RUN_DEPTH: Final = 2

_BROKEN_NUMBERS: Final = (
    (re.compile(rb"-(?![0-9])"), "in numeric literal"),
    (re.compile(rb"-?(?:0|[1-9][0-9]*+)\.(?![0-9])"), "after decimal point in numeric literal"),
    (
        re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+[eE][+-]?+(?![0-9])"),
        "in exponent of numeric literal",
    ),
)
_WORDS: Final = {word[0]: word for word in (b"true", b"false", b"null")}
_CLOSES: Final = {b"{": ord("}"), b"[": ord("]")}

_escape_or_lone_surrogate: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair, kept
    r"|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)


class Literal(float):
    """A number that remembers how it was written, for error messages."""

    __slots__ = ("text",)

    def __new__(cls, text: str) -> Self:
        """Make one from JSON's text of a number."""
        made = super().__new__(cls, text)
        made.text = text
        return made

    text: str


def parse(body: bytes) -> Any:
    """The first JSON value in `body`; a number too large for a float is a `Literal` of infinity.

    Raises:
        InvalidRequest: With Go's words.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as refused:
        if refused.msg.startswith("unexpected content after document"):
            text = refused.doc[: refused.pos]
        else:
            text = first_value(body)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # all that is left to refuse: a number too large for a float
        return json.loads(text, parse_float=_number, parse_int=_number)


def parse_literally(body: bytes) -> Any:
    """As `parse`, but every number is a `Literal`: slow, for wording an error."""
    return json.loads(first_value(body), parse_float=Literal, parse_int=Literal)


def quote(text: str) -> str:
    r"""As Go's `%q`: `"` and `\` escaped, unprintable characters as `\n`, `\x1f`, `\u00ad`."""
    return '"' + "".join(map(_quoted_character, text)) + '"'


def dump(value: Any) -> bytes:
    """`value` as JSON, escaped as Go does."""
    try:
        return escape(orjson.dumps(value))
    except TypeError:  # a lone surrogate, an integer beyond 64 bits, or deeper than orjson goes
        text = json.dumps(value, separators=(",", ":"), default=dict)
        return escape(_without_lone_surrogates(text).encode())


def dump_text(text: str) -> bytes:
    """A string as `dump` writes it, without a look at what else it might be."""
    try:
        return escape(orjson.dumps(text))
    except TypeError:  # a lone surrogate
        return dump(text)


def escape(encoded: bytes) -> bytes:
    """Already encoded JSON, with the five characters that Go escapes for the sake of HTML."""
    # Asked by number: `b"<" in encoded` is ten times as slow.
    if 0x3C in encoded or 0x3E in encoded or 0x26 in encoded:
        encoded = encoded.replace(b"<", rb"\u003c").replace(b">", rb"\u003e").replace(b"&", rb"\u0026")
    if 0xE2 in encoded:
        encoded = encoded.replace(b"\xe2\x80\xa8", rb"\u2028").replace(b"\xe2\x80\xa9", rb"\u2029")
    return encoded


def first_value(body: bytes) -> str:
    """The text of the first JSON value, made fit for any parser.

    Raises:
        InvalidRequest: If there is none; with Go's words.
    """
    if _space.fullmatch(body):
        raise InvalidRequest("missing request body")
    scanner = _Scanner(body)
    scanner.run()
    kept, start = [], 0
    for cut, resume in scanner.too_deep:
        kept += [body[start:cut], b"null"]
        start = resume
    kept.append(body[start : scanner.position])
    return _without_lone_surrogates(b"".join(kept).decode("utf-8", "ollama_bridge.gojson"))


@cache
def _runs() -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """What continues an array, and an object, as far as its values are simple.

    A large body has millions of values: those of two levels or less are skipped at the speed of the regular
    expression. Compiled only when needed, for that takes longer than most requests.
    """
    value = _SCALAR
    for _ in range(_RUN_DEPTH):
        field = rb'%b"%b:%b%b%b' % (_STRING, _S, _S, value, _S)
        item = value + _S
        value = rb"(?>%b|\[%b(?:%b(?:,%b%b)*+)?+\]|\{%b(?:%b(?:,%b%b)*+)?+\})" % (
            *(_SCALAR, _S, item, _S, item),
            *(_S, field, _S, field),
        )
    items = rb"(?:%b,%b%b(?=%b[,\]]))*+" % (_S, _S, value, _S)
    fields = rb'(?:%b,%b%b"%b:%b%b(?=%b[,}]))*+' % (_S, _S, _STRING, _S, _S, value, _S)
    return re.compile(items), re.compile(fields)


class _Scanner:
    """Finds the end of the first value without recursion, or words the error as Go would."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.position = 0
        self.too_deep: list[tuple[int, int]] = []
        self._closers = bytearray()  # the bracket that ends each open array or object, outermost first
        self._cut = 0
        self._runs = _runs() if len(body) >= LARGE_BYTES else None

    def run(self) -> None:
        """Move `position` behind the first value."""
        while True:
            opening = self._next()
            if opening in _CLOSES:
                if not self._open(opening):
                    continue
            else:
                self._literal()
            if not self._after_value():
                return

    def _next(self) -> bytes:
        self.position = _space.match(self.body, self.position).end()  # type: ignore[union-attr]  # always matches
        return self.body[self.position : self.position + 1]

    def _open(self, opening: bytes) -> bool:
        """Enter an array or object; True if it is empty, so that only its end follows."""
        self._closers.append(_CLOSES[opening])
        if len(self._closers) > MAX_DEPTH:
            self._fail(self.position, "exceeded max depth")
        if len(self._closers) == _KEPT_DEPTH + 1:
            self._cut = self.position
        self.position += 1
        if self._next() == bytes(self._closers[-1:]):
            return True
        if opening == b"{":
            self._key()
        return False

    def _after_value(self) -> bool:
        """Close what ends here; True if another value must follow."""
        while self._closers:
            in_object = self._closers[-1] == _CLOSES[b"{"]
            if self._runs and len(self._closers) <= MAX_DEPTH - _RUN_DEPTH:
                run = self._runs[in_object].match(self.body, self.position)
                self.position = run.end()  # type: ignore[union-attr]  # always matches, if only nothing
            found = self._next()
            if found == b",":
                self.position += 1
                if in_object:
                    self._key()
                return True
            if found != bytes(self._closers[-1:]):
                self._fail(
                    self.position, "after object key:value pair" if in_object else "after array element"
                )
            self._closers.pop()
            self.position += 1
            if len(self._closers) == _KEPT_DEPTH:
                self.too_deep.append((self._cut, self.position))
        return False

    def _key(self) -> None:
        if self._next() != b'"':
            self._fail(self.position, "looking for beginning of object key string")
        self._literal()
        if self._next() != b":":
            self._fail(self.position, "after object key")
        self.position += 1

    def _literal(self) -> None:
        found = _scalar.match(self.body, self.position)
        if found and self.body[found.end() : found.end() + 1] not in {b".", b"e", b"E"}:
            self.position = found.end()
            return
        for pattern, context in _BROKEN_NUMBERS:
            if broken := pattern.match(self.body, self.position):
                self._fail(broken.end(), context)
        if found:  # and what follows it is wrong for another reason
            self.position = found.end()
        elif word := _WORDS.get(self.body[self.position] if self.position < len(self.body) else 0):
            right = 1
            while self.body[self.position + right : self.position + right + 1] == word[right : right + 1]:
                right += 1
            self._fail(self.position + right, f"in literal {word.decode()} (expecting '{chr(word[right])}')")
        elif string := _open_string.match(self.body, self.position):
            self._fail_in_string(string.end())
        else:
            self._fail(self.position, "looking for beginning of value")

    def _fail_in_string(self, stop: int) -> NoReturn:
        if self.body[stop : stop + 1] != b"\\":
            self._fail(stop, "in string literal")
        if self.body[stop + 1 : stop + 2] != b"u":
            self._fail(stop + 1, "in string escape code")
        digits = _hex.match(self.body, stop + 2)
        self._fail(digits.end(), r"in \u hexadecimal character escape")  # type: ignore[union-attr]  # always matches

    def _fail(self, position: int, context: str) -> NoReturn:
        if position >= len(self.body):
            raise InvalidRequest("unexpected EOF")
        character = chr(self.body[position])  # Go shows the byte as if it were Latin-1
        shown = {"'": r"'\''", '"': "'\"'"}.get(character) or f"'{_quoted_character(character)}'"
        raise InvalidRequest(f"invalid character {shown} {context}")


def _number(text: str) -> int | float:
    if len(text) < 19 and text.lstrip("-").isdigit():  # surely within 64 bits
        return int(text)
    number = Literal(text)
    return float(number) if math.isfinite(number) else number


def _replace_bytes(error: UnicodeError) -> tuple[str, int]:
    """Go replaces every byte that is no UTF-8; Python's own `replace` may join several."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error("ollama_bridge.gojson", _replace_bytes)


def _without_lone_surrogates(text: str) -> str:
    if "\\u" not in text:
        return text
    return _escape_or_lone_surrogate.sub(
        lambda found: r"\ufffd" if found["lone"] else found[0],
        text,
    )


_QUOTED: Final = {
    '"': r"\"", "\\": r"\\", "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v",
}  # fmt: skip


def _quoted_character(character: str) -> str:
    if escaped := _QUOTED.get(character):
        return escaped
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
