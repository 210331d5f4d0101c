"""What a provider sends that nobody here knows, or that no client of ours can be shown: said once in the log."""

import re
from typing import Final

import structlog

log = structlog.get_logger(__name__)

MOST: Final = 1000
"""How many are remembered; what comes after them is not told."""

_WORD: Final = re.compile(r"[\w./-]{1,64}")


class Oddities:
    """Those of one provider."""

    __slots__ = ("_told",)

    def __init__(self) -> None:
        self._told: set[tuple[str, str, str]] = set()

    def tell(self, what: str, word: object, *, provider: str, model: str) -> None:
        """Log it, if this model has not sent it before.

        Args:
            what: What it is, such as `part` or `finish reason`.
            word: What the provider calls it; of anything but a plain word only the type is told.
            provider: Who sent it.
            model: Who said it.
        """
        shown = word if isinstance(word, str) and _WORD.fullmatch(word) else type(word).__name__
        oddity = (model, what, shown)
        if oddity not in self._told and len(self._told) < MOST:
            self._told.add(oddity)
            log.info("passed over", what=what, word=shown, provider=provider, model=model)
