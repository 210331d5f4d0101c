"""The middle of a gap out of what a chat model says about it, sans I/O.

Chat models are told to write the middle and nothing else, and mostly do. When they do not, they put it into a
code fence with a sentence before it, begin with the line the cursor stands in, or go on with what follows the
gap. Each stage below takes one of these away while the text streams, and holds back only what may yet turn out
to be something of that kind; how the text is cut into pieces changes nothing.
"""

import re
from collections.abc import Iterator
from typing import Final

_TELLING: Final = 4
"""Letters and digits by which a repetition is told from coincidence: a line such as `});` may well come twice."""

_WINDOW: Final = 4096
_LINES: Final = 40
"""In so many characters and lines of the prefix, and so many characters of the suffix, repetitions are looked for."""

_CERTAIN: Final = 160
"""Characters of the suffix that nobody writes by chance: whatever follows them, the middle ended before."""

_SENTENCE: Final = r"[A-Z][\w ,.'’!:`-]{0,200}"
_SPACE: Final = r"\s{0,80}"  # bounded, for a model that has lost itself says nothing but line ends
_INTRODUCTION: Final = rf"(?:{_SENTENCE}(?<=[.:!])[ \t]{{0,80}}\n{_SPACE})?"
_OPENING: Final = re.compile(rf"{_SPACE}{_INTRODUCTION}(`{{3,}})[^\n`]{{0,80}}\n")
_MAY_OPEN: Final = re.compile(
    rf"{_SPACE}(?:{_SENTENCE}[ \t]{{0,80}}|{_INTRODUCTION}(?:`{{1,2}}|`{{3,}}[^\n`]{{0,80}})?)"
)
_FENCE_LINE: Final = re.compile(r"[ \t]*(`{3,})[ \t\r]*([^`]*)")
_MAY_BE_FENCE: Final = re.compile(r"[ \t]*(?:`{1,2}|`{3,}[^\n`]{0,80})?")
_FENCES: Final = re.compile(r"^[ \t]*```", re.MULTILINE)
_WORD_START: Final = re.compile(r"\b\w")


class Middle:
    """Takes what the model says, piece by piece, and gives what belongs into the gap.

    Args:
        prefix: The text before the gap.
        suffix: The text after it.
    """

    def __init__(self, prefix: str, suffix: str) -> None:
        self._fence = _Fence(of_the_text=_has_fences_of_its_own(prefix, suffix))
        self._head = _Head(prefix)
        self._tail = _Tail(suffix)

    @property
    def over(self) -> bool:
        """Whether the middle has ended although the model still speaks."""
        return self._fence.over or self._tail.over

    def feed(self, text: str) -> str:
        """What is certain by now to belong into the gap."""
        return self._tail.feed(self._head.feed(self._fence.feed(text)))

    def close(self, *, cut: bool) -> str:
        """What was held back and belongs into the gap after all.

        Args:
            cut: Whether the model was stopped by a limit, perhaps in the middle of a line.
        """
        rest = self._head.feed(self._fence.close()) + self._head.close()
        return self._tail.feed(rest) + self._tail.close(cut=cut)


def _has_fences_of_its_own(prefix: str, suffix: str) -> bool:
    """Whether the gap is in a text where a fence may belong: in Markdown, and there not inside a fence."""
    before = len(_FENCES.findall(prefix))
    return before % 2 == 0 if before else bool(_FENCES.search(suffix))


class _Fence:
    """Takes away a code fence with all that stands before and behind it.

    Args:
        of_the_text: Whether fences belong to what is written, so that none may be taken away.
    """

    def __init__(self, *, of_the_text: bool) -> None:
        self.over = False
        self._is_decided = of_the_text
        self._held = ""
        self._ticks = 0  # of the opening fence; 0: there is none
        self._depth = 0
        self._is_closed = False
        self._is_first = True

    def feed(self, text: str) -> str:
        if self._is_closed:
            self.over = self.over or bool(text.strip())
            return ""
        self._held += text
        if not self._is_decided:
            opening = _OPENING.match(self._held)
            if opening is None and _MAY_OPEN.fullmatch(self._held):
                return ""
            self._is_decided = True
            if opening is not None:
                self._ticks = len(opening[1])
                self._held = self._held[opening.end() - 1 :]  # so that every line begins with a line end
        return self._within() if self._ticks else self._all()

    def close(self) -> str:
        last = self._held.strip()
        if self._ticks and not self._depth and len(last) >= self._ticks and not last.strip("`"):
            return ""
        return self._all()

    def _all(self) -> str:
        return self._take(len(self._held))

    def _take(self, size: int) -> str:
        taken, self._held = self._held[:size], self._held[size:]
        if self._ticks and self._is_first and taken:
            self._is_first = False
            return taken[1:]  # the line end of the opening fence
        return taken

    def _within(self) -> str:
        said = []
        while (at := self._held.find("\n")) >= 0:
            said.append(self._take(at))
            line, ended, behind = self._held[1:].partition("\n")
            if not ended and _MAY_BE_FENCE.fullmatch(line):
                return "".join(said)
            if not ended:
                break
            if self._closes(line):
                self._is_closed = True
                self._held = ""
                self.over = bool(behind.strip())
                return "".join(said)
            said.append(self._take(1 + len(line)))
        said.append(self._take(len(self._held.rstrip("`"))))
        return "".join(said)

    def _closes(self, line: str) -> bool:
        """Whether `line` is the end of the fence: fences within it come in pairs."""
        fence = _FENCE_LINE.fullmatch(line)
        if fence is None or len(fence[1]) < self._ticks:
            return False
        self._depth += 1 if fence[2] else -1
        return self._depth < 0


class _Head:
    """Takes away a repetition of the prefix's end from the beginning."""

    def __init__(self, prefix: str) -> None:
        self._echoes = _echoes(prefix)
        self._held = ""

    def feed(self, text: str) -> str:
        if not self._echoes:
            return text
        self._held += text
        if any(len(echo) > len(self._held) and echo.startswith(self._held) for echo in self._echoes):
            return ""
        return self.close()

    def close(self) -> str:
        echo = next((echo for echo in self._echoes if self._held.startswith(echo)), "")
        rest, self._held, self._echoes = self._held[len(echo) :], "", []
        return rest


def _echoes(prefix: str) -> list[str]:
    """What a model may repeat of the prefix before it goes on, the longest first.

    The line of the cursor, with or without its indentation, also its indentation alone; from a word of it on;
    and whole lines before it. The shorter, the likelier it is the middle itself that begins so.
    """
    window = prefix[-_WINDOW:]
    line = window[window.rfind("\n") + 1 :]
    echoes = {echo for echo in (line, line.lstrip(" \t")) if len(echo) > 1 or echo.isspace()}
    echoes |= {
        tail for word in _WORD_START.finditer(line) if _tells(tail := line[word.start() :], 2 * _TELLING)
    }
    at = len(window) - len(line)
    for _ in range(_LINES):
        if at == 0:
            break
        at = window.rfind("\n", 0, at - 1) + 1
        if at == 0 and len(window) < len(prefix):
            break  # not the beginning of a line
        tail = window[at:]
        if _tells(tail):
            echoes |= {tail, tail.lstrip(" \t")}
    return sorted(echoes, key=len, reverse=True)


class _Tail:
    """Takes away a repetition of the suffix's beginning from the end."""

    def __init__(self, suffix: str) -> None:
        self.over = False
        window = suffix[:_WINDOW]
        self._suffix = window if _tells(window) else ""  # what cannot tell is never taken for a repetition
        self._is_whole = len(suffix) <= _WINDOW
        start = suffix[:_CERTAIN]
        self._certain = start if len(start) == _CERTAIN and _tells(start) else ""
        self._held = ""

    def feed(self, text: str) -> str:
        if self.over or not self._suffix:
            return "" if self.over else text
        text = self._held + text
        at = text.find(self._certain) if self._certain else -1
        if at >= 0:
            self.over, self._held = True, ""
            return text[:at]
        at = next(self._starts(text), len(text))
        self._held = text[at:]
        return text[:at]

    def close(self, *, cut: bool) -> str:
        for at in self._starts(self._held):
            if self._is_echo(self._held[at:], cut=cut):
                return self._held[:at]
        return self._held

    def _starts(self, text: str) -> Iterator[int]:
        """Where in `text` something begins that is the suffix, as far as the text goes."""
        suffix = self._suffix
        # From here on, what follows a whole suffix is white space.
        at = text.find(suffix[0], max(0, len(text.rstrip()) - len(suffix))) if text else -1
        while at >= 0:
            if len(text) - at <= len(suffix):
                found = suffix.startswith(text[at:])
            else:
                found = self._is_whole and text.startswith(suffix, at)
            if found:
                yield at
            at = text.find(suffix[0], at + 1)

    def _is_echo(self, tail: str, *, cut: bool) -> bool:
        """Whether it is a repetition and no coincidence: whole lines, unless the model was cut off."""
        follows = self._suffix[len(tail) :].lstrip(" \t\r")
        ends_a_line = not follows or follows[0] == "\n" or tail.endswith("\n")
        return _tells(tail) if ends_a_line else cut and _tells(tail, 2 * _TELLING)


def _tells(text: str, least: int = _TELLING) -> bool:
    return sum(map(str.isalnum, text)) >= least
