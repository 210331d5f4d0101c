"""Tool names within a provider's alphabet: `files.read` is a 400 there, so the model sees and says `files_read`."""

import re
from typing import Final

_REFUSED: Final = re.compile(r"[^a-zA-Z0-9_-]")


class ToolNames:
    """The names of one request's tools, on the wire and at the client.

    Args:
        longest: Characters a name may have on the wire.
        letter_first: Whether a name must begin with a letter or an underscore.
    """

    def __init__(self, longest: int, *, letter_first: bool = False) -> None:
        self.changed: dict[str, str] = {}
        """A name on the wire to the client's name, where the two differ."""
        self._longest = longest
        self._letter_first = letter_first
        self._wire: dict[str, str] = {}

    def to_wire(self, name: str) -> str:
        """The name to send: always the same for the same tool, never the same for two."""
        if name not in self._wire:
            wire = _REFUSED.sub("_", name)
            if self._letter_first and wire[:1] in "0123456789-":  # an empty name as well
                wire = f"_{wire}"
            wire = stem = wire[: self._longest] or "_"
            again = 1
            while wire in self._wire.values():
                again += 1
                ending = f"_{again}"
                wire = stem[: self._longest - len(ending)] + ending
            self._wire[name] = wire
            if wire != name:
                self.changed[wire] = name
        return self._wire[name]
