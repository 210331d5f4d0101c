"""An answer that is written and read again says the same, to the last digit, or is not written at all."""

from array import array
from dataclasses import fields

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.chat import Embeddings
from ollama_bridge.events import (
    WITH_A_LATER_ONE,
    Aside,
    Finish,
    Line,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCall,
    Usage,
)
from ollama_bridge.policies.kept_answer import read, read_vectors, written, written_vectors

TEXT = st.text(max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
TOKEN = st.builds(TokenLogprob, TEXT, st.floats(), st.just(()))
TOKENS = st.lists(
    st.builds(TokenLogprob, TEXT, st.floats(), st.lists(TOKEN, max_size=2).map(tuple)), max_size=2
)
DELTA = st.builds(TextDelta, TEXT.filter(bool), TOKENS.map(tuple)) | st.builds(
    ThinkingDelta, TEXT.filter(bool)
)
CALL = st.builds(ToolCall, TEXT, TEXT, st.dictionaries(TEXT, JSON, max_size=3))
COUNT = st.integers(0, 2**40)
USAGE = st.builds(Usage, *[COUNT] * len(fields(Usage)))
REASON = st.sampled_from(["stop", "length", "tool_calls", "refusal"])
FINISH = st.builds(Finish, REASON, USAGE, TEXT, st.binary(max_size=8), TEXT)
REPLY = st.tuples(st.lists(DELTA | CALL, max_size=12), FINISH).map(lambda both: [*both[0], both[1]])


def fold(events):
    """What is said, letter by letter, in its order."""
    said = []
    for event in events:
        match event:
            case TextDelta(text, logprobs):
                # Whether a letter stands in a text with probabilities shows, too.
                said += [("text", letter, bool(logprobs)) for letter in text]
            case ThinkingDelta(text):
                said += [("thinking", letter) for letter in text]
            case _:
                said.append(event)
    return said, [token for event in events if isinstance(event, TextDelta) for token in event.logprobs]


@given(REPLY)
def test_any_reply_comes_back_as_it_was(reply):
    """Text and thinking in their order, calls, probabilities, seals and usage; or it was not written."""
    value = written(reply)
    assert value is None or fold(read(value)) == fold(reply)


@given(st.lists(TEXT.filter(bool), min_size=1), st.lists(TEXT.filter(bool), min_size=1), FINISH)
def test_pieces_become_one(thoughts, words, finish):
    """However many there were, so that an answer of thousands of tokens is read in microseconds."""
    reply = [*map(ThinkingDelta, thoughts), *map(TextDelta, words), finish]
    assert read(written(reply)) == [ThinkingDelta("".join(thoughts)), TextDelta("".join(words)), finish]


def test_nothing_of_an_end_is_left_out():
    """Who adds a field to it has to write it as well; a real Ollama's own line is not kept."""
    kept = ["reason", "usage", "detail", "sealed", "answered_by"]
    assert [field.name for field in fields(Finish)] == [*kept, "line"]


@pytest.mark.parametrize(
    "event",
    [Aside(Line(b",1}\n")), TextDelta("a", line=Line(b",1}\n")), ToolCall("1", "f", line=WITH_A_LATER_ONE)],
)
def test_what_a_real_ollama_says_beyond_our_words_is_not_kept(event):
    """Of what it says in our words, its own times and counts are left out."""
    plain = TextDelta("b", line=Line(b",2}\n", is_plain=True))
    end = Finish("stop", line=Line(b",3}\n"))
    assert written([plain, event, end]) is None
    found = read(written([plain, end]))
    assert (found, [one.line for one in found]) == ([TextDelta("b"), Finish("stop")], [None, None])


@pytest.mark.parametrize(
    "event",
    [
        ToolCall("1", "f", {"x": float("nan")}),
        ToolCall("1", "f", {"x": [float("inf")]}),
        ToolCall("1", "f", {"x": 2**64}),
        ToolCall("1", "f", {"x": (1, 2)}),
        TextDelta("x", (TokenLogprob("x", float("-inf")),)),
        TextDelta("\ud800"),
    ],
)
def test_what_would_come_back_otherwise_is_not_written(event):
    """Numbers that JSON does not have, and half letters."""
    assert written([event, Finish()]) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"{",
        b"[1]",
        b"[[]]",
        b'[["text"]]',
        b'[["other", 1]]',
        b'[["finish","stop",{"x":1},"","",""]]',
    ],
)
def test_what_is_no_answer_is_not_read(value):
    """As somebody else, or another version, may have put it there."""
    assert read(value) is None
    assert read_vectors(value) is None


VECTOR = st.lists(st.floats(width=32), max_size=4).map(lambda numbers: array("f", numbers)) | st.lists(
    st.floats(), max_size=4
).map(lambda numbers: array("d", numbers))


@given(st.lists(VECTOR, max_size=4), st.integers(0, 2**40))
def test_vectors_keep_every_bit(vectors, tokens):
    """Also those of numbers that are none."""
    answer = read_vectors(written_vectors(Embeddings(vectors, tokens), 1 << 20))
    assert answer.input_tokens == tokens
    assert [(one.typecode, one.tobytes()) for one in answer.vectors] == [
        (one.typecode, one.tobytes()) for one in vectors
    ]


def test_vectors_that_are_too_large_or_half_are_none():
    """What does not fit is not even copied; what was cut off is not taken for shorter vectors."""
    answer = Embeddings([[0.5] * 100, array("f", [0.25] * 100)], 3)
    value = written_vectors(answer, 1200)
    assert written_vectors(answer, 1199) is None
    assert read_vectors(value).vectors == [array("d", [0.5] * 100), array("f", [0.25] * 100)]
    for cut in (1, 4, 500):
        assert read_vectors(value[:-cut]) is None
    assert read_vectors(value + b"x") is None
    foreign = orjson.dumps(["other", 3, []]) + b"\n"
    assert read_vectors(foreign) is None
