"""Whatever a chat model wraps around the middle of a gap, and however it streams it: the middle comes out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.policies.middle import Middle


def middle_of(answer, prefix="", suffix="", *, cuts=(), cut=False):
    """What comes out when the answer arrives in pieces."""
    middle, said, start = Middle(prefix, suffix), [], 0
    for at in [*sorted(cuts), len(answer)]:
        said.append(middle.feed(answer[start:at]))
        start = at
        if middle.over:
            return "".join(said) + middle.close(cut=False)
    return "".join(said) + middle.close(cut=cut)


# Three alphabets, so that a coincidence is not taken for a repetition by the test's own fault.
def lines(alphabet, **sizes):
    line = st.text(alphabet + " (=)", min_size=8, max_size=30).filter(
        lambda text: sum(map(str.isalnum, text)) >= 8
    )
    return st.lists(line, **sizes).map("\n".join)


BEFORE = lines("abcdef", min_size=1, max_size=4)
INDENT = st.sampled_from(["", "    ", "\t"])
BEHIND = lines("tuvwxyz", min_size=1, max_size=30)
MIDDLE = st.one_of(st.just(""), st.text("klmnop .;{}\n`", max_size=40)).filter(
    lambda text: "```" not in text and not text.startswith((" ", "\t", "\n", "`"))
)
CUTS = st.lists(st.integers(0, 400), max_size=12)
LANGUAGE = st.sampled_from(["", "python", "c++", "jsx title"])
LEAD = st.sampled_from(["", "Here is the missing code:\n\n", "Sure! The `middle` is:\n", "\n"])
AFTER = st.sampled_from(["", "\n", "\n\nThis adds the two numbers.\n"])


def shapes(draw, middle, prefix, suffix, *, fenced, echo, repeat):
    """The answer of a model that wraps the middle so."""
    text = middle
    if repeat:
        text += suffix
    if echo:
        text = prefix[prefix.rfind("\n", 0, draw(st.integers(0, len(prefix) - 1))) + 1 :] + text
    if fenced:
        text = f"{draw(LEAD)}```{draw(LANGUAGE)}\n{text}\n```{draw(AFTER)}"
    return text


@pytest.mark.parametrize("fenced", [False, True], ids=["bare", "fenced"])
@pytest.mark.parametrize("echo", [False, True], ids=["", "echo"])
@pytest.mark.parametrize("repeat", [False, True], ids=["", "suffix"])
@given(data=st.data(), prefix=BEFORE, indent=INDENT, middle=MIDDLE, suffix=BEHIND, cuts=CUTS)
def test_the_middle_comes_out_exactly(fenced, echo, repeat, data, prefix, indent, middle, suffix, cuts):
    """Bare, in a fence, behind the prefix's last lines, before the suffix, and all of it together."""
    prefix = f"{prefix}\n{indent}" if indent else prefix
    answer = shapes(data.draw, middle, prefix, suffix, fenced=fenced, echo=echo, repeat=repeat)
    assert middle_of(answer, prefix, suffix, cuts=cuts) == middle


TEXT = st.text("ab\n `{}x(HT:.", max_size=60)


@given(data=st.data(), prefix=TEXT, suffix=TEXT, cuts=CUTS, cut=st.booleans())
def test_how_the_answer_is_cut_into_pieces_changes_nothing(data, prefix, suffix, cuts, cut):
    """Any answer to any gap: what is held back is held back for a reason that the next pieces decide."""
    parts = st.sampled_from(
        [prefix, prefix[len(prefix) // 2 :], suffix, suffix[:20], "```", "\n```\n", "Ha: "]
    )
    answer = "".join(data.draw(st.lists(parts | TEXT, max_size=5)))
    assert middle_of(answer, prefix, suffix, cuts=cuts, cut=cut) == middle_of(answer, prefix, suffix, cut=cut)


@pytest.mark.parametrize("said", [" ", "\n", "\n    ", "Ha:\n\n"])
@pytest.mark.parametrize("suffix", ["", " " * 4000, "\n});\n", "\n" * 50 + "return total\n"])
def test_a_model_that_has_lost_itself_is_passed_on(said, suffix):
    """However long it repeats white space, most of it leaves as it comes: nothing grows, nothing is looked at again."""
    middle, answer = Middle("total = (", suffix), said * 400
    heard = "".join(map(middle.feed, answer))
    assert len(heard) > len(answer) - 100
    assert answer.startswith(heard)


def test_what_cannot_be_told_from_the_middle_is_not_held_back():
    """A bracket behind the gap may well be written twice: it comes at once."""
    middle = Middle("total = sum(", ")\n")
    assert middle.feed("x for x in f()") == "x for x in f()"
