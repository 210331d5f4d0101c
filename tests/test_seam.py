"""Where a continued answer is joined: every character once, whatever is repeated and however it is cut into pieces."""

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ollama_bridge.policies.seam import LONGEST, TELLING, TELLING_EXACT, Seam

WORDS = st.text("abcdefghijklmnopqrstuvwxyzäöü你好", min_size=1, max_size=9)
BETWEEN = st.sampled_from([" ", "  ", "\n", "\n\n", ", ", ".\n    ", "\t", ""])
TEXTS = st.lists(st.tuples(WORDS, BETWEEN), min_size=1, max_size=80).map(
    lambda pairs: "".join(word + between for word, between in pairs)
)


def joined(said, pieces, *, exact):
    seam = Seam(said, exact=exact)
    return said + "".join(map(seam.feed, pieces)) + seam.close()


def cut(text, places):
    borders = [0, *sorted({place % (len(text) + 1) for place in places}), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders)]


def repetition(said, rest):
    """The longest beginning of `rest` that `said` ends with."""
    sizes = range(min(len(said), len(rest)), 0, -1)
    return next((rest[:size] for size in sizes if said.endswith(rest[:size])), "")


def tells(text, least):
    return sum(map(str.isalnum, text)) >= least


@given(TEXTS, st.data())
def test_a_text_cut_anywhere_is_told_once_whatever_is_repeated(text, data):
    """By a model that was sent all of it: what it repeats, it repeats once; what it does not, is not taken away."""
    at = data.draw(st.integers(1, len(text)))
    said = text[:at]
    assume(said.strip())
    again = data.draw(st.integers(0, min(at, LONGEST)))
    continuation = text[at - again :]
    pieces = cut(continuation, data.draw(st.lists(st.integers(0), max_size=6)))
    # Chance must not make another repetition of it, nor a part of one.
    bare, told = said.rstrip(), continuation.lstrip()
    longest = repetition(bare, told)
    if again:
        assume(tells(longest, TELLING))
        assume(longest == bare[len(said) - again :].lstrip())
        assume(not any(longest.startswith(longest[place:]) for place in range(1, len(longest) // 2 + 1)))
    else:
        assume(not tells(longest, TELLING))
        assume(not tells(repetition(bare, continuation), TELLING))
    assert joined(said, pieces, exact=False) == text


@given(TEXTS, st.data())
def test_who_goes_on_to_the_letter_is_given_the_text_without_the_space_at_its_end(text, data):
    """And begins with that space, which was delivered already."""
    at = data.draw(st.integers(1, len(text)))
    said = text[:at]
    assume(said.strip())
    continuation = text[len(said.rstrip()) :]
    assume(not tells(repetition(said.rstrip(), continuation.lstrip()), TELLING_EXACT))
    pieces = cut(continuation, data.draw(st.lists(st.integers(0), max_size=6)))
    assert joined(said, pieces, exact=True) == text


FEW = st.text("ab \n", max_size=30)


@given(FEW, st.lists(FEW), st.booleans())
def test_how_a_continuation_is_cut_into_pieces_changes_nothing(said, pieces, exact):
    """Nor does it invent anything: what comes out is the end of what came in."""
    whole = joined(said, ["".join(pieces)], exact=exact)
    assert joined(said, pieces, exact=exact) == whole
    assert "".join(pieces).endswith(whole[len(said) :])


@pytest.mark.parametrize(
    ("said", "continuation", "exact", "text"),
    [
        ("The quick brown", " fox", False, "The quick brown fox"),
        ("The quick brown", "quick brown fox", False, "The quick brown fox"),
        ("The quick brown", "\n\nquick brown fox", False, "The quick brown fox"),
        ("The quick brown ", "quick brown fox", False, "The quick brown fox"),
        ("The quick brown\n\n", "quick brown\nfox", False, "The quick brown\n\nfox"),
        ("A paragraph.\n", "\nAnother.", False, "A paragraph.\n\nAnother."),
        ("A paragraph.\n", "\n\nAnother.", True, "A paragraph.\n\nAnother."),
        ("A paragraph.\n\n", "\nAnother.", True, "A paragraph.\n\nAnother."),
        ("A paragraph.\n\n", "Another.", True, "A paragraph.\n\nAnother."),
        ("[0, 0, 0, 0, 0, 0, 0, 0,", " 0, 0, 0, 0]", False, "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"),
        ("bo", "ok", False, "book"),
        ("ha ha", " ha ha!", True, "ha ha ha ha!"),
    ],
)
def test_joints(said, continuation, exact, text):
    """What is a repetition and what is the answer's own."""
    assert joined(said, [continuation], exact=exact) == text
    assert joined(said, continuation, exact=exact) == text


def test_no_more_is_held_back_than_could_be_a_repetition():
    """Even if the model says all of a long answer again, from anywhere in it."""
    text = "".join(f"{number:04}." for number in range(1000))
    seam = Seam(text, exact=False)
    held = 0
    for letter in text[-LONGEST * 2 :]:
        held = 0 if seam.feed(letter) else held + 1
        assert held <= LONGEST
