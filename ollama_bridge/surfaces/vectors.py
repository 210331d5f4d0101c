"""Vectors as Ollama gives them: of unit length, and written as Go writes a float32. Pure.

A float32 becomes the shortest decimal that leads back to it, six to nine digits. Python has no such writer, and a
batch has a million numbers, so it is done by arithmetic: scaled so that from one float32 to the next it is between
1 and 10, a number is rounded to the nearest multiple of ten if that is still nearest to itself, else to a whole
number; and a whole number divided by a power of ten is the double that is printed as that decimal.
"""

import base64
import math
import sys
from array import array
from collections.abc import Sequence
from typing import Final, TypeAlias

import orjson

from ollama_bridge.errors import InvalidRequest

Float32s: TypeAlias = "array[float]"

_UNIT_TOLERANCE: Final = 1e-6
"""How far from 1 the length of a vector may be that somebody has normalised in float32."""

_TO_INTEGER: Final = 1.5 * 2.0**52
"""Added to a double and taken away again, it leaves the nearest whole number."""

_DIGITS: Final = range(6, 10)
_LARGEST_SCALE: Final = 22
"""Powers of ten up to here are exact in a double."""


def _step(exponent: int) -> tuple[float, float]:
    """By what to scale a float32 of that exponent, and half the distance to the next one then."""
    distance = 2.0 ** (exponent - 24)
    places = min(max(math.floor(1 - math.log10(distance)), 0), _LARGEST_SCALE)
    return 10.0**places, distance * 10.0**places / 2


_STEPS: Final = {exponent: _step(exponent) for exponent in range(-148, 129)}


def unit(vector: Sequence[float], width: int | None = None) -> Float32s:
    """`vector` cut to `width`, if it is longer, and scaled to length 1; what has no length stays zero.

    Raises:
        InvalidRequest: It cannot be scaled; with a real server's status and words.
    """
    if width is not None and 0 < width < len(vector):
        vector = vector[:width]
    length = math.hypot(*vector)
    if not math.isfinite(length):
        raise InvalidRequest("embedding contains NaN or Inf values")
    if abs(length - 1) <= _UNIT_TOLERANCE or not length:
        return vector if isinstance(vector, array) and vector.typecode == "f" else array("f", vector)
    return array("f", [number / length for number in vector])


def numbers(vector: Float32s) -> bytes:
    """A vector as a JSON array."""
    return _as_go(orjson.dumps(_shortest(vector)))


def doubles(vector: Sequence[float]) -> bytes:
    """A vector as a JSON array of float64s."""
    return _as_go(orjson.dumps(list(vector)))


def base64_text(vector: Float32s) -> bytes:
    """A vector as the base64 of its bytes, little-endian."""
    if sys.byteorder == "big":
        vector = vector[:]
        vector.byteswap()
    return base64.b64encode(vector)


def _shortest(vector: Float32s) -> list[float]:
    """Doubles whose shortest decimals are those of the float32s."""
    found = []
    # A million times: what is looked up here need not be looked up there.
    steps, frexp, to_integer = _STEPS, math.frexp, _TO_INTEGER
    for number in vector:
        scale, half = steps[frexp(number)[1]]
        scaled = number * scale
        digits = (scaled * 0.1 + to_integer - to_integer) * 10.0
        if not -half < digits - scaled < half:
            digits = scaled + to_integer - to_integer
        found.append(digits / scale)
    if (read := array("f", found)) != vector:
        for at, number in enumerate(vector):
            if read[at] != number:
                found[at] = _tried(number)
    return found


def _tried(number: float) -> float:
    """For powers of two, below which float32s are closer, and for what is too small for the scales: one by one."""
    attempts = (float(f"{number:.{digits}g}") for digits in _DIGITS)
    return next(made for made in attempts if array("f", [made])[0] == number)


def _as_go(text: bytes) -> bytes:
    """Whole numbers without `.0`, and no exponent where Go has none."""
    if b"e-6" in text:
        text = b"[%b]" % b",".join(map(_without_exponent, text[1:-1].split(b",")))
    return text.replace(b".0,", b",").replace(b".0]", b"]")


def _without_exponent(number: bytes) -> bytes:
    """Millionths: orjson writes `1.5e-6`, and Go `0.0000015`."""
    if not number.endswith(b"e-6"):
        return number
    sign = b"-" if number.startswith(b"-") else b""
    return sign + b"0.00000" + number.lstrip(b"-").removesuffix(b"e-6").replace(b".", b"")
