"""The parts of an Ollama request that validate themselves: options, format, think, keep_alive.

Wrong options and formats are 500 in Ollama, because it finds them only while it loads the model.
"""

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final, Literal

import orjson

from ollama_bridge.chat import Think
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.surfaces import gojson, gotypes

FOREVER_S: Final = -1.0
"""What every negative `keep_alive` means."""

_LEVELS: Final = ("high", "medium", "low", "max")
_CHOICES: Final = '"high", "medium", "low", "max", true, or false'
_INT64: Final = 2**63
_NANOSECONDS: Final[Mapping[str, int]] = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5
    "μs": 1_000,  # U+03BC
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
}
_quantity: Final = re.compile(r"(?P<whole>[0-9]*)(?:\.(?P<part>[0-9]*))?(?P<unit>[^0-9.]*)")


class InvalidFormat(InvalidRequest):
    """`format` is neither `"json"` nor a schema: found only when generation starts, hence 500."""

    default_status = 500


def read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Ollama's options in their types: whole numbers truncated, nulls left out, unknown ones kept.

    Raises:
        InvalidRequest: 500, `option "num_ctx" must be of type integer`.
    """
    return {
        name: reader(name, value) if (reader := _OPTIONS.get(name)) else value
        for name, value in options.items()
        if value is not None
    }


def read_format(sent: Any) -> Literal["json"] | dict[str, Any] | None:
    """`"json"`, a JSON Schema, or None for the empty string and null.

    Raises:
        InvalidFormat: 500.
    """
    if sent is None or sent == "":
        return None
    if sent == "json":
        return "json"
    if type(sent) is dict:
        return sent
    shown = gojson.quote(orjson.dumps(sent).decode())
    raise InvalidFormat(f'invalid format: {shown}; expected "json" or a valid JSON Schema object')


def read_think(sent: Any) -> Think:
    """True, False or a level.

    Raises:
        InvalidRequest: 400.
    """
    if sent is True or sent is False or sent in _LEVELS:
        level: Think = sent
        return level
    if type(sent) is str:
        raise InvalidRequest(f"invalid think value: {gojson.quote(sent)} (must be {_CHOICES})")
    raise InvalidRequest(f"think must be a boolean or string ({_CHOICES})")


def read_keep_alive(sent: Any) -> float:
    """Seconds; `FOREVER_S` for anything negative.

    Raises:
        InvalidRequest: 400, in the words of Go's `time` package.
        Mismatch: The number is too large even for a float.
    """
    match gotypes.kind(sent):
        case "number":
            if math.isinf(sent):
                raise gotypes.Mismatch(f"number {sent.text}", "float64")
            # A nanosecond is Go's smallest time: less than one is none at all, and means "unload".
            # What none of its durations can hold is forever.
            return math.floor(sent * 1e9) / 1e9 if 0 <= sent * 1e9 < _INT64 else FOREVER_S
        case "string":
            nanoseconds = parse_duration(sent)
            return FOREVER_S if nanoseconds < 0 else nanoseconds / 1e9
        case "bool":
            raise InvalidRequest("Unsupported type: 'bool'")
        case "array":
            raise InvalidRequest("Unsupported type: '[]interface {}'")
        case _:
            raise InvalidRequest("Unsupported type: 'map[string]interface {}'")


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration such as `1h15m30.5s`, `300ms`, `-1m`, `0`.

    Raises:
        InvalidRequest: `time: missing unit in duration "10"` and the like.
    """
    rest = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if rest == "0":
        return 0
    total = 0
    if not rest:
        raise _invalid_duration(text)
    while rest:
        found = _quantity.match(rest)
        if found is None or not (found["whole"] or found["part"]):
            raise _invalid_duration(text)
        unit = found["unit"]
        if not unit:
            raise InvalidRequest(f"time: missing unit in duration {_quote_bytes(text)}")
        if unit not in _NANOSECONDS:
            raise InvalidRequest(f"time: unknown unit {_quote_bytes(unit)} in duration {_quote_bytes(text)}")
        if len(found[0]) > 40:  # no such number is in range; Python's own limit on digits is not far
            raise _invalid_duration(text)
        amount = Fraction(f"{found['whole'] or 0}.{found['part'] or 0}")
        total += int(amount * _NANOSECONDS[unit])
        if total > _INT64 or (total == _INT64 and not text.startswith("-")):
            raise _invalid_duration(text)
        rest = rest[found.end() :]
    return -total if text.startswith("-") else total


def _invalid_duration(text: str) -> InvalidRequest:
    return InvalidRequest(f"time: invalid duration {_quote_bytes(text)}")


def _quote_bytes(text: str) -> str:
    r"""As Go's `time` package quotes: everything but printable ASCII as bytes, `\xc2`."""
    shown = "".join(
        f"\\{chr(byte)}" if byte in b'"\\' else chr(byte) if 0x20 <= byte < 0x80 else f"\\x{byte:02x}"
        for byte in text.encode("utf-8")
    )
    return f'"{shown}"'


def _integer(name: str, value: Any) -> int:
    if gotypes.kind(value) != "number":
        raise _wrong_type(name, "type integer")
    return max(-_INT64, min(int(value), _INT64 - 1))


def _number(name: str, value: Any) -> float:
    if gotypes.kind(value) != "number":
        raise _wrong_type(name, "type float32")
    number: float = value
    return number


def _boolean(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise _wrong_type(name, "type boolean")
    return value


def _strings(name: str, value: Any) -> list[str]:
    if type(value) is not list:
        raise _wrong_type(name, "type array")
    if not all(type(item) is str for item in value):
        raise _wrong_type(name, "an array of strings")
    return value


def _wrong_type(name: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f'option "{name}" must be of {wanted}', status=500)


_OPTIONS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    **dict.fromkeys(
        (
            "num_keep seed num_predict top_k repeat_last_n num_ctx num_batch num_gpu main_gpu num_thread "
            "draft_num_predict"
        ).split(),
        _integer,
    ),
    **dict.fromkeys(
        "top_p min_p typical_p temperature repeat_penalty presence_penalty frequency_penalty".split(),
        _number,
    ),
    "use_mmap": _boolean,
    "stop": _strings,
}
