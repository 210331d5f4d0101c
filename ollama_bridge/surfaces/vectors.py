"""Vectors as Ollama gives them: of unit length, and written as Go writes a float32. Pure.

A float32 becomes the shortest decimal that leads back to it, six to nine digits. Python has no such writer; so
all numbers of a vector are written and read back at once with seven digits, those that did not come back with
eight, and the rest with nine.
"""

import base64
import math
import re
import sys
from array import array
from collections.abc import Sequence
from itertools import compress
from operator import ne
from typing import Final, TypeAlias

import orjson

from ollama_bridge.errors import InvalidRequest

Float32s: TypeAlias = "array[float]"

_UNIT_TOLERANCE: Final = 1e-6
"""How far from 1 the length of a vector may be that somebody has normalised in float32."""

_FEW_DIGITS: Final = 7
_MORE_DIGITS: Final = (8, 9)
_small: Final = re.compile(rb"(\d)(?:\.(\d+))?e-6(?!\d)")  # Go has no exponent there, orjson has


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
    found: list[float] = _through_decimals(vector, _FEW_DIGITS)
    for digits in _MORE_DIGITS:
        changed = list(compress(range(len(found)), map(ne, vector, array("f", found))))
        if not changed:
            break
        better = _through_decimals([vector[at] for at in changed], digits)
        for at, number in zip(changed, better, strict=True):
            found[at] = number
    return found


def _through_decimals(vector: Sequence[float], digits: int) -> list[float]:
    written = ",".join([f"%.{digits}g"] * len(vector)) % tuple(vector)
    read: list[float] = orjson.loads(f"[{written}]")
    return read


def _as_go(text: bytes) -> bytes:
    """Whole numbers without `.0`, and no exponent where Go has none."""
    if b"e-6" in text:
        text = _small.sub(lambda found: b"0.00000" + found[1] + (found[2] or b""), text)
    return text.replace(b".0,", b",").replace(b".0]", b"]")
