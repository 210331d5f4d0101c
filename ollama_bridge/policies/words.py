"""Text in words: how `pace` cuts an answer into lines, sans I/O."""

from collections.abc import Iterator
from typing import Final

import regex

from ollama_bridge.events import Event, TextDelta, ThinkingDelta

LONGEST_WORD: Final = 64
"""Graphemes after which a run without white space is cut: a base64 blob must not stop the stream."""

_UNSPACED: Final = r"\p{Han}\p{Hiragana}\p{Katakana}"

# One word: leading white space only at the very start, then either one ideograph or kana (scripts that
# write no spaces) or a run of others, then the white space after it. `\X` is a whole grapheme; a
# grapheme counts as what its first character is.
_WORD: Final = regex.compile(
    r"(?:(?=\s)\X)*"
    rf"(?:(?=[{_UNSPACED}])\X|(?:(?![\s{_UNSPACED}])\X){{1,{LONGEST_WORD}}})"
    r"(?:(?=\s)\X)*"
)


class Words:
    """Regroups deltas into lines of so many words; sans I/O.

    Deltas with log probabilities pass as they are: those describe exactly the tokens they came with. So do those that
    a real Ollama sent with more than a text.

    Args:
        chunk_size: Words a line; 0 passes everything as it is.
    """

    def __init__(self, chunk_size: int) -> None:
        self._chunk_size = chunk_size
        self._kind: type[TextDelta | ThinkingDelta] = TextDelta
        self._text = ""

    def feed(self, event: Event) -> Iterator[Event]:
        """The lines that `event` completes; with anything but text, all that was held back and then `event`.

        A word is whole when the next one has begun.
        """
        regroup = (
            self._chunk_size > 0
            and (isinstance(event, ThinkingDelta) or (isinstance(event, TextDelta) and not event.logprobs))
            and (event.line is None or event.line.is_plain)
        )
        if not regroup or type(event) is not self._kind:
            yield from self._rest()
        if not regroup or not isinstance(event, TextDelta | ThinkingDelta):
            yield event
            return
        self._kind = type(event)
        self._text += event.text
        ends = [word.end() for word in _WORD.finditer(self._text)][:-1]
        yield from self._lines(ends[self._chunk_size - 1 :: self._chunk_size])

    def _rest(self) -> Iterator[Event]:
        if not self._text:
            return
        ends = [word.end() for word in _WORD.finditer(self._text)]
        yield from self._lines([*ends[self._chunk_size - 1 : -1 : self._chunk_size], len(self._text)])

    def _lines(self, ends: list[int]) -> Iterator[Event]:
        start = 0
        for end in ends:
            if end > start:
                yield self._kind(self._text[start:end])
            start = max(start, end)
        self._text = self._text[start:]
