"""Vectors are of unit length and written as Go writes a float32."""

import base64
import json
import math
import re
import struct
from array import array

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_bridge.errors import InvalidRequest
from ollama_bridge.surfaces.vectors import base64_text, doubles, numbers, unit

FLOAT32 = st.floats(-1, 1, width=32)
NORMAL = st.floats(-1e6, 1e6).filter(lambda x: not x or abs(x) > 1e-6)


def as_float32(number):
    [made] = struct.unpack("f", struct.pack("f", number))
    return made


def digits(text):
    """The digits that count."""
    return re.sub(r"e.*|[-.]", "", text).lstrip("0").rstrip("0")


@given(st.lists(NORMAL, min_size=1, max_size=50), st.integers(1, 60))
def test_a_unit_vector_has_length_1_and_points_where_it_did(vector, width):
    """Within float32, at any width; what has no length has none afterwards."""
    kept = vector[:width]
    made = unit(vector, width)
    length = math.hypot(*kept)
    assert len(made) == len(kept)
    assert math.hypot(*made) == pytest.approx(1 if length else 0, abs=2e-6)
    assert [number * length for number in made] == pytest.approx(kept, abs=1e-6 * length + 1e-9)


def test_what_is_a_unit_vector_already_is_left_alone():
    """The provider's own float32s, to the last bit."""
    vector = array("f", [0.6, 0.8])
    assert unit(vector) is vector
    assert unit(vector, 7) is vector


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_cannot_be_scaled_is_refused(bad):
    """In Ollama's words."""
    with pytest.raises(InvalidRequest, match="embedding contains NaN or Inf values"):
        unit([0.5, bad])


@given(st.lists(FLOAT32, min_size=1, max_size=30))
@example([1e-6, 9.999999e-7, -1.5e-6, 1e-5, 1.0, 0.1, -0.5, 2.0**-149])
def test_every_float32_comes_back_from_its_decimal(vector):
    """No bit is lost, and no more than nine digits are spent."""
    sent = array("f", vector)
    text = numbers(sent).decode()
    assert array("f", json.loads(text)) == sent
    assert all(len(digits(one)) <= 9 for one in text[1:-1].split(","))


@given(st.floats(width=32, min_value=2.0**-100, max_value=1.0))
def test_no_shorter_decimal_would_do(number):
    """One digit less is another number, as with Go's `strconv.FormatFloat(x, 'g', -1, 32)`."""
    text = numbers(array("f", [number])).decode()[1:-1]
    count = len(digits(text))
    if count > 7:  # up to there, seven digits and fewer are tried at once
        assert as_float32(float(f"{number:.{count - 1}g}")) != number


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (1.0, "1"), (0.0, "0"), (-1.0, "-1"), (0.1, "0.1"), (1 / 3, "0.33333334"), (2.5e-5, "0.000025"),
        (1e-6, "0.000001"), (1.5e-6, "0.0000015"), (-2.34567e-6, "-0.00000234567"), (9e-7, "9e-7"), (1e-16, "1e-16"),
        (1.25e-6, "0.00000125"), (-0.0149892215, "-0.0149892215"), (100.0, "100"),
    ],
)  # fmt: skip
def test_numbers_look_as_gos(number, written):
    """No `.0`, and an exponent only below a millionth."""
    assert numbers(array("f", [number, number])).decode() == f"[{written},{written}]"
    assert numbers(array("f", [number])).decode() == f"[{written}]"


def test_float64s_are_written_whole():
    """`/api/embeddings` shows every digit of a float32, as a real server does."""
    assert doubles(array("f", [0.1, 2.0])) == b"[0.10000000149011612,2]"
    assert doubles([0.1, 3]) == b"[0.1,3]"
    assert doubles(()) == b"[]"


def test_base64_is_little_endian():
    vector = array("f", [1.0, -2.5])
    assert base64.b64decode(base64_text(vector)) == struct.pack("<2f", 1.0, -2.5)
    assert vector == array("f", [1.0, -2.5])
