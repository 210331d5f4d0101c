"""Lines that a real Ollama sent: put together for clients that do not stream, or under another name. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from ollama_bridge.surfaces import gojson

_PUT_TOGETHER: Final = frozenset({"content", "thinking", "response", "tool_calls", "logprobs"})


def folded(lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The lines of one reply in one object, as a real Ollama folds them itself.

    Texts, tool calls and log probabilities are put together; of all else, known or not, the last one counts. So it
    goes within `message` as well.
    """
    whole = _Fold()
    message: _Fold | None = None
    for line in lines:
        said = line.get("message")
        if isinstance(said, dict):
            message = message or _Fold()
            message.add(said)
        whole.add(line)
    one = whole.object()
    return one if message is None else {**one, "message": message.object()}


def renamed(body: bytes, model: str) -> bytes:
    """What a real Ollama answered, one object or several lines, under the name by which the client asked."""
    lines = [_renamed(line, model) if line.strip() else line for line in body.split(b"\n")]
    return b"\n".join(lines)


def _renamed(line: bytes, model: str) -> bytes:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return line
    return gojson.dump({**found, "model": model}) if isinstance(found, dict) and "model" in found else line


class _Fold:
    def __init__(self) -> None:
        self._last: dict[str, Any] = {}
        self._pieces: dict[str, list[Any]] = {}

    def add(self, fields: Mapping[str, Any]) -> None:
        self._last |= fields
        for key in _PUT_TOGETHER & fields.keys():
            if fields[key]:
                self._pieces.setdefault(key, []).append(fields[key])

    def object(self) -> dict[str, Any]:
        return {**self._last, **{key: _joined(pieces) for key, pieces in self._pieces.items()}}


def _joined(pieces: list[Any]) -> Any:
    if all(isinstance(piece, str) for piece in pieces):
        return "".join(pieces)
    if all(isinstance(piece, list) for piece in pieces):
        return [one for piece in pieces for one in piece]
    return pieces[-1]
