"""A text that is told twice, in pieces and then as a whole, and what of the whole the pieces have left out. Pure.

OpenAI's Responses tell each text three times over: in deltas, when the part and the item are done, and once more when
the response is. Servers that speak the same API leave some of it out, and not always the same.
"""

from collections.abc import Callable
from typing import Final

_NOWHERE: Final = object()


class Retold:
    """One text, of one or more items, of one or more parts each.

    Nothing is ever told twice: where a whole does not begin with what was said of it, nothing is added from there on.
    """

    __slots__ = ("_is_at_odds", "_item", "_part", "_pieces", "_settled", "add")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.add: Callable[[str], None] = self._pieces.append  # once a token: no call of ours on the way
        """It goes on with a piece."""
        self._part = self._item = 0
        self._settled: object = _NOWHERE
        self._is_at_odds = False

    @property
    def length(self) -> int:
        """Characters so far."""
        return sum(map(len, self._pieces))

    def rest_of_part(self, whole: object, place: object) -> str:
        """What is new of a part that is done, by now added.

        Args:
            whole: Its text; what is none tells nothing.
            place: Names the part, which may be told of in several events.
        """
        if place == self._settled:
            return ""
        rest = self._rest(whole, self._part)
        self._settled = place
        self._part = len(self._pieces)
        return rest

    def rest_of_item(self, whole: object) -> str:
        """As `rest_of_part`, of an item that is done."""
        rest = self._rest(whole, self._item)
        self._settled = _NOWHERE
        self._part = self._item = len(self._pieces)
        return rest

    def rest_of_all(self, whole: object) -> str:
        """As `rest_of_part`, of everything."""
        return self._rest(whole, 0)

    def _rest(self, whole: object, since: int) -> str:
        if not isinstance(whole, str) or not whole or self._is_at_odds:
            return ""
        said = "".join(self._pieces[since:])
        if not whole.startswith(said):
            self._is_at_odds = True
            return ""
        rest = whole[len(said) :]
        if rest:
            self.add(rest)
        return rest
