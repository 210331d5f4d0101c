"""Stop words that no provider sees to."""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from ollama_bridge.backends.stopwords import StopWords
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, TokenLogprob, ToolCall

letters = st.text("ab\n", max_size=12)  # few letters: stop words are found, overlap, and begin without ending
words = st.lists(st.text("ab\n", min_size=1, max_size=4), min_size=1, max_size=4)


def pieces(text, cuts):
    borders = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(borders)]


def before_the_first(text, words):
    """The text up to the stop word that is complete first; None when there is none."""
    found = [(text.find(word) + len(word), text.find(word)) for word in words if word in text]
    return text[: min(found)[1]] if found else None


@given(letters, words, st.lists(st.integers(0, 20)))
@example("xSTOPy", ["STOP"], [2, 3, 4])
@example("abc", ["abcd", "b"], [1, 2])
def test_text_ends_at_the_first_stop_word_whatever_the_deltas(text, words, cuts):
    """Any text, any stop words, any borders: cut at the word that is complete first, and `Finish` is last."""
    stop, events = StopWords(words), []
    for piece in pieces(text, cuts):
        events += stop.feed([TextDelta(piece)])
        if stop.hit:
            break
    else:
        events += stop.feed([Finish("length")])
    expected = before_the_first(text, words)
    assert "".join(e.text for e in events[:-1]) == (text if expected is None else expected)
    assert all(isinstance(e, TextDelta) and e.text for e in events[:-1])
    assert events[-1].reason == ("length" if expected is None else "stop")
    assert stop.hit == (expected is not None)


def test_only_what_may_become_a_stop_word_is_held_back():
    """A client sees each delta at once, but for the beginning of a stop word at its end."""
    stop = StopWords(["</s>"])
    assert stop.feed([TextDelta("a <")]) == [TextDelta("a ")]
    assert stop.feed([TextDelta("/")]) == []
    assert stop.feed([TextDelta("b")]) == [TextDelta("</b")]
    assert stop.feed([TextDelta("c")]) == [TextDelta("c")]


def test_what_is_held_back_comes_before_what_follows():
    """Thinking, a tool call, the end: each comes after the text that was written before it."""
    for event in (ThinkingDelta("x"), ToolCall("1", "f"), Finish()):
        stop = StopWords(["STOP"])
        assert stop.feed([TextDelta("ST"), event]) == [TextDelta("ST"), event]
    stop = StopWords(["STOP"])
    assert stop.feed([TextDelta("ST")]) == []
    assert stop.close() == [TextDelta("ST")]


def test_tokens_stay_with_their_text():
    """A token's log probability comes with the delta that completes it; those behind the cut never come."""
    tokens = [TokenLogprob(text, -0.5) for text in ("a", "ST", "O", "b", "STOP", "c")]
    stop, events = StopWords(["STOP"]), []
    for token in tokens[:5]:
        events += stop.feed([TextDelta(token.token, (token,))])
    assert [(e.text, [t.token for t in e.logprobs]) for e in events[:-1]] == [
        ("a", ["a"]),
        ("STOb", ["ST", "O", "b"]),
    ]
    assert events[-1].usage.output_tokens == 5
