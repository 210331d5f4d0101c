"""What is odd about a reply and costs nobody the answer: it is passed over, and logged."""

from collections.abc import Mapping
from typing import Any, Final

import structlog

log = structlog.get_logger(__name__)

_NOTHING: Final[Mapping[str, Any]] = {}


class Oddities:
    """Those of one reply, each logged once, however often they come.

    Args:
        provider: The provider's key in the configuration.
        model: As the provider knows it.
    """

    __slots__ = ("_model", "_noted", "_provider")

    def __init__(self, provider: str, model: str) -> None:
        self._provider = provider
        self._model = model
        self._noted: frozenset[str] = frozenset()

    def note(self, what: str) -> None:
        """Log it, if it is new. `what` is ours: nothing that the provider says goes into a log."""
        if what not in self._noted:
            self._noted |= {what}
            log.warning("odd reply", provider=self._provider, model=self._model, what=what)

    def usage(self, found: Any) -> Mapping[str, Any]:
        """What the provider tells of the tokens; nothing, where that is of another type than an object."""
        if isinstance(found, dict):
            return found
        if found:
            self.note(f"its usage is a {type(found).__name__}")
        return _NOTHING
