"""Re-chunking and pacing: how an answer is delivered, never what it says.

The seed's promise (`STREAMING_CHUNK_SIZE` words a line, `STREAMING_DELAY_MS` between lines) for clients
that render better in even steps. A word keeps its white space, so the lines joined are the answer to the
byte; a cut never falls inside a grapheme (an emoji with its modifiers, a letter with its accents).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import regex

from ollama_bridge.chat import Backend, ChatRequest, Reply
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


@dataclass(frozen=True, slots=True)
class Pacing:
    """How to deliver: `chunk_size` words a line (0: as it arrives), `delay_s` seconds between lines."""

    chunk_size: int = 0
    delay_s: float = 0.0

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return self.chunk_size > 0 or self.delay_s > 0


class Pace:
    """Delivers streamed replies in even steps; everything else passes untouched and at no cost.

    Tool calls and the end are never delayed by more than the text before them.

    Args:
        inner: Whose replies are paced.
        pacing: How to deliver the answers of the model of that name.
        clock_s: Monotonic seconds.
        sleep: Waits for so many seconds; cancelled when the client leaves.
    """

    def __init__(
        self,
        inner: Backend,
        pacing: Callable[[str], Pacing],
        *,
        clock_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inner = inner
        self._pacing = pacing
        self._clock_s = clock_s
        self._sleep = sleep

    def chat(self, request: ChatRequest) -> Reply:
        """Pace a streamed reply if its model is to be paced."""
        pacing = self._pacing(request.model)
        if not request.stream or not pacing:
            return self._inner.chat(request)
        return self._paced(request, pacing)

    async def _paced(self, request: ChatRequest, pacing: Pacing) -> Reply:
        due_s = self._clock_s()
        words = Words(pacing.chunk_size)
        async with aclosing(self._inner.chat(request)) as events:
            async for event in events:
                for ready in words.feed(event):
                    if isinstance(ready, TextDelta | ThinkingDelta):
                        if (wait_s := due_s - self._clock_s()) > 0:
                            await self._sleep(wait_s)
                        due_s = self._clock_s() + pacing.delay_s
                    yield ready


class Words:
    """Regroups deltas into lines of so many words; sans I/O.

    Deltas with log probabilities pass as they are: those describe exactly the tokens they came with.

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
        regroup = self._chunk_size > 0 and (
            isinstance(event, ThinkingDelta) or (isinstance(event, TextDelta) and not event.logprobs)
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
