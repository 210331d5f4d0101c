"""The Go types that requests are declared with, and how decoded JSON is taken into them.

A request is a table: `Struct("ChatRequest", {"model": STRING, "stream": BOOL, …})`; `decode` gives a plain
dict of what was sent and not null. What does not fit raises `InvalidRequest` in the words of
`encoding/json`, for example `json: cannot unmarshal string into Go struct field ChatRequest.stream of type
bool`. Keys match whatever their case, and unknown ones are ignored.

Go goes on after a value of the wrong type and reports the first of them at the end, but stops at once when
a type that decodes itself (`Custom`, `Itself`) fails: such an error wins over an earlier mismatch.
"""

import base64
import math
import string
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from ollama_bridge.errors import InvalidRequest
from ollama_bridge.surfaces import gojson

T = TypeVar("T")

_KINDS: Final[Mapping[type, str]] = {
    str: "string",
    bool: "bool",
    int: "number",
    float: "number",
    gojson.Literal: "number",
    list: "array",
    dict: "object",
}
_BASE64: Final = (string.ascii_letters + string.digits + "+/").encode()


class GoType(Protocol):
    """How one Go type takes a value that is not null."""

    def read(self, value: Any) -> Any:
        """The value in Python, or `Mismatch`, or `InvalidRequest`."""
        ...


class Mismatch(Exception):
    """A value of the wrong type; its place is filled in on the way out.

    Args:
        got: What the JSON has: `string`, `array`, `number 1.5`, …
        wanted: The Go type.
        words: The whole message, where it is not about types.
    """

    def __init__(self, got: str, wanted: str, words: str = "") -> None:
        super().__init__(got, wanted, words)
        self.got = got
        self.wanted = wanted
        self.words = words
        self.struct = ""
        self.path = ""
        self.fatal = False

    def happened_in(self, struct: str, field: str) -> None:
        """Note one more level: Go names the innermost struct, and the whole path of fields."""
        self.struct = self.struct or struct
        self.path = f"{field}.{self.path}" if self.path else field

    def __str__(self) -> str:
        if self.words:
            return self.words
        place = f"struct field {self.struct}.{self.path}" if self.path else "value"
        return f"json: cannot unmarshal {self.got} into Go {place} of type {self.wanted}"


def kind(value: Any) -> str:
    """What JSON calls a decoded value."""
    return _KINDS[type(value)]


class Plain:
    """`string` or `bool`."""

    def __init__(self, name: str, python: type) -> None:
        self._name = name
        self._python = python

    def read(self, value: Any) -> Any:
        """The value itself."""
        if type(value) is self._python:
            return value
        raise Mismatch(kind(value), self._name)


class Int:
    """A whole number, written without point and exponent; `limit` is the first that is too large."""

    def __init__(self, name: str, lowest: int, limit: int) -> None:
        self._name = name
        self._range = range(lowest, limit)

    def read(self, value: Any) -> int:
        """The number."""
        number = value
        if type(value) is gojson.Literal:
            try:
                number = int(value.text)
            except ValueError:
                number = None
        if type(number) is int and number in self._range:
            return number
        got = kind(value)
        if got == "number":
            got = f"number {value.text if type(value) is gojson.Literal else value}"
        raise Mismatch(got, self._name)


class Float:
    """`float32` or `float64`: any number that is finite."""

    def __init__(self, name: str) -> None:
        self._name = name

    def read(self, value: Any) -> float:
        """The number."""
        got = kind(value)
        if got == "number" and math.isfinite(value):
            number: float = value
            return number
        raise Mismatch(f"number {value.text}" if got == "number" else got, self._name)


class Anything:
    """`any` and `json.RawMessage`."""

    def read(self, value: Any) -> Any:
        """Whatever it is."""
        return value


class Map:
    """An object whose fields are not looked at."""

    def __init__(self, name: str = "map[string]interface {}") -> None:
        self._name = name

    def read(self, value: Any) -> dict[str, Any]:
        """The object as sent."""
        if type(value) is dict:
            return value
        raise Mismatch(kind(value), self._name)


class Slice:
    """`[]item`; a null in it becomes `zero`."""

    def __init__(self, name: str, item: GoType, zero: Any) -> None:
        self._name = name
        self._item = item
        self._zero = zero

    def read(self, value: Any) -> list[Any]:
        """Its items."""
        if type(value) is not list:
            raise Mismatch(kind(value), self._name)
        read, zero = self._item.read, self._zero
        try:
            return [zero if item is None else read(item) for item in value]
        except Mismatch as mismatch:
            if not mismatch.fatal:
                self._fail_for_good(value)
            raise

    def _fail_for_good(self, items: list[Any]) -> None:
        for item in items:
            try:
                if item is not None:
                    self._item.read(item)
            except Mismatch as mismatch:
                if mismatch.fatal:
                    raise


class Struct:
    """A struct: its name, the types of its fields by their JSON names, in lower case, and its package."""

    def __init__(self, name: str, fields: Mapping[str, GoType], package: str = "api") -> None:
        self.name = name
        self.fields = fields
        self._package = package

    def read(self, value: Any) -> dict[str, Any]:
        """The known fields that were given and not null."""
        if type(value) is not dict:
            raise Mismatch(kind(value), f"{self._package}.{self.name}")
        found: dict[str, Any] = {}
        first: Mismatch | None = None
        for key, item in value.items():
            name = key
            go_type = self.fields.get(name)
            if go_type is None:
                name = _folded(key)
                go_type = self.fields.get(name)
                if go_type is None:
                    continue
            if item is None:
                found.pop(name, None)
                continue
            try:
                found[name] = go_type.read(item)
            except Mismatch as mismatch:
                mismatch.happened_in(self.name, name)
                if mismatch.fatal:
                    raise
                first = first or mismatch
        if first is not None:
            raise first
        return found

    def spelled(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """The whole object as it was sent, unknown fields too; known ones under their own names."""
        return {
            key if key in self.fields or (name := _folded(key)) not in self.fields else name: item
            for key, item in value.items()
        }


class Itself:
    """A struct with its own `UnmarshalJSON`: its errors end everything, and say the outer struct's name."""

    def __init__(self, struct: Struct) -> None:
        self._struct = struct

    def read(self, value: Any) -> dict[str, Any]:
        """As the struct."""
        try:
            return self._struct.read(value)
        except Mismatch as mismatch:
            mismatch.fatal = True
            mismatch.struct = ""
            raise


class Custom(Generic[T]):
    """Any other type with its own `UnmarshalJSON`: a function that raises `InvalidRequest` or `Mismatch`."""

    def __init__(self, convert: Callable[[Any], T]) -> None:
        self._convert = convert

    def read(self, value: Any) -> T:
        """What the function makes of it."""
        try:
            return self._convert(value)
        except Mismatch as mismatch:
            mismatch.fatal = True
            raise


_BYTES: Final = Slice("[]uint8", Int("uint8", 0, 256), 0)


class Base64:
    """`api.ImageData`: standard base64, padded, without `data:` prefix; line breaks are dropped."""

    def read(self, value: Any) -> str:
        """The text without line breaks; Go also takes the bytes themselves, as numbers."""
        if type(value) is list:
            return base64.b64encode(bytes(_BYTES.read(value))).decode()
        if type(value) is not str:
            raise Mismatch(kind(value), "api.ImageData")
        if "\n" in value or "\r" in value:
            without_breaks = value.replace("\n", "").replace("\r", "")
        else:
            without_breaks = value
        # Deleting the alphabet leaves the padding: ten times as fast as decoding what nobody reads here.
        left = without_breaks.encode("utf-8").translate(None, _BASE64)
        if (
            len(without_breaks) % 4
            or left not in {b"", b"=", b"=="}
            or not without_breaks.endswith(left.decode())
        ):
            position = first_corrupt(value.encode("utf-8"))
            raise Mismatch("string", "api.ImageData", f"illegal base64 data at input byte {position}")
        return without_breaks


def first_corrupt(data: bytes) -> int:
    """Where Go's decoder gives up on base64 that is not valid."""
    digits = [at for at, byte in enumerate(data) if byte not in b"\r\n"]
    clean = bytes(data[at] for at in digits)
    digits += [len(data)] * 2
    good = len(clean) - len(clean.lstrip(_BASE64))
    if good == len(clean):  # too short: Go names the place where the unfinished group would have begun
        return len(data) - good % 4
    if clean[good : good + 1] != b"=" or good % 4 < 2:
        return digits[good]
    if good % 4 == 3:
        return digits[good + 1]
    if good + 1 == len(clean):
        return len(data)
    return digits[good + 2] if clean[good + 1 : good + 2] == b"=" else digits[good + 1] - 1


STRING: Final = Plain("string", str)
BOOL: Final = Plain("bool", bool)
INT: Final = Int("int", -(2**63), 2**63)
FLOAT32: Final = Float("float32")
FLOAT64: Final = Float("float64")
ANY: Final = Anything()
IMAGE: Final = Base64()


def decode(body: bytes, struct: Struct) -> dict[str, Any]:
    """Read a request body into `struct`; a body of `null` is an empty request.

    Raises:
        InvalidRequest: In Go's words.
    """
    return _decoded(gojson.parse(body), body, struct)


def decode_whole(body: bytes, struct: Struct) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `decode`, and the same with all that `struct` does not know, for who does.

    Raises:
        InvalidRequest: In Go's words.
    """
    value = gojson.parse(body)
    return _decoded(value, body, struct), struct.spelled(value or {})


def _folded(key: str) -> str:
    """As Go folds; `lower` turns the Kelvin sign into k."""
    return key.lower().replace("\u017f", "s")


def _decoded(value: Any, body: bytes, struct: Struct) -> dict[str, Any]:
    try:
        return {} if value is None else struct.read(value)
    except Mismatch as mismatch:
        found = mismatch
    if found.got.startswith("number "):  # the message shows the number as it was written
        try:
            struct.read(gojson.parse_literally(body))
        except Mismatch as mismatch:
            found = mismatch
    raise InvalidRequest(str(found))
