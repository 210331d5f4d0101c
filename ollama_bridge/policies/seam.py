"""Where a continued answer is joined to what was delivered of it, sans I/O.

The continuation may begin with the white space at the end of what was delivered (who goes on to the letter was
given it without), or repeat its last words. Both are taken away while it streams; held back is only what may yet
turn out to be a repetition, and how the text is cut into pieces changes nothing.
"""

from typing import Final

LONGEST: Final = 400
"""Characters at the end of what was delivered in which a repetition is looked for; no more are held back."""

TELLING: Final = 4
"""Letters and digits by which a repetition is told from coincidence."""

TELLING_EXACT: Final = 40
"""The same for who goes on to the letter: what it seems to repeat is nearly always the answer's own."""


class Seam:
    """Takes the continuation piece by piece, and gives what goes behind what was delivered.

    Args:
        said: What was delivered.
        exact: Whether the continuation is to the letter, of `said` without the white space at its end.
    """

    def __init__(self, said: str, *, exact: bool) -> None:
        self.settled = False
        """Whether all that follows passes as it is."""
        end = len(said.rstrip())
        self._said = said[max(0, end - LONGEST) : end]
        self._space = said[end:]
        self._exact = exact
        self._telling = TELLING_EXACT if exact else TELLING
        self._held = ""

    def feed(self, text: str) -> str:
        """What is certain by now to follow."""
        if self.settled:
            return text
        self._held += text
        return "" if self._may_repeat() else self.close()

    def close(self) -> str:
        """What was held back and follows after all."""
        if self.settled:
            return ""
        self.settled = True
        repeated = self._repeated()
        rest = self._held[repeated:]
        return self._behind_space(rest) if repeated or self._exact else rest

    def _may_repeat(self) -> bool:
        """Whether more text could make a longer repetition of what is held, or more of the white space."""
        body = self._held.lstrip()
        if not body:
            return len(self._held) <= LONGEST + len(self._space)
        if any(0 <= self._said.find(text) < len(self._said) - len(text) for text in (self._held, body)):
            return True
        repeated = self._repeated()
        rest = self._held[repeated:]
        return bool(repeated) and len(rest) < len(self._space) and self._space.startswith(rest)

    def _repeated(self) -> int:
        """How many characters of what is held repeat the end of what was delivered."""
        lead = len(self._held) - len(self._held.lstrip())
        for start in dict.fromkeys((0, lead)):
            body = self._held[start:]
            for size in range(min(len(body), len(self._said)), 0, -1):
                if self._said.endswith(body[:size]):
                    if self._tells(body[:size]):
                        return start + size
                    break
        return 0

    def _tells(self, repeated: str) -> bool:
        """Whether it is long enough, and not what the answer itself says again and again (`0, 0, 0, 0`)."""
        if sum(map(str.isalnum, repeated)) < self._telling:
            return False
        return not any(repeated.startswith(repeated[at:]) for at in range(1, len(repeated) // 2 + 1))

    def _behind_space(self, rest: str) -> str:
        """What follows the white space that was delivered, which `rest` begins with, or with less of it."""
        lead = rest[: len(rest) - len(rest.lstrip())]
        return rest[len(lead) :] if self._space.startswith(lead) else rest.removeprefix(self._space)
