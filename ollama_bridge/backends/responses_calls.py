"""Tool calls of OpenAI's Responses between their beginning and their end. Pure.

A call that is done tells all of itself. Some servers then leave out its arguments, which they have streamed, or never
say that it is done.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ollama_bridge.backends import openai_wire as wire

ARGUMENTS: Final[Mapping[str, str]] = {"function_call": "arguments", "custom_tool_call": "input"}
"""Kinds of items that ask the client to call something, and where the arguments stand."""


@dataclass(slots=True)
class _Begun:
    item: dict[str, Any]
    pieces: list[str] = field(default_factory=list)


class BegunCalls:
    """The calls that have begun and are not done, by their place in the output."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun: dict[object, _Begun] = {}

    def __bool__(self) -> bool:
        return bool(self._begun)

    def begin(self, item: dict[str, Any], place: object) -> None:
        """One begins."""
        self._begun[place] = _Begun(item)

    def add(self, piece: object, place: object) -> None:
        """A piece of the arguments of the one at `place`, or of the latest, where that is not said."""
        if isinstance(piece, str) and (begun := self._at(place)):
            begun.pieces.append(piece)

    def settle(self, whole: object, place: object) -> None:
        """As `add`, of all arguments at once."""
        if isinstance(whole, str) and whole and (begun := self._at(place)):
            begun.pieces = [whole]

    def end(self, item: dict[str, Any], place: object) -> object:
        """One is done; its arguments as it tells them, or else as they came before."""
        if place not in self._begun:
            place = next((at for at, one in self._begun.items() if _is_same(one.item, item)), None)
        begun = self._begun.pop(place, None)
        told: object = item.get(ARGUMENTS[item["type"]])
        return told or ("".join(begun.pieces) if begun else "")

    def rest(self) -> Iterator[dict[str, Any]]:
        """Those that never were done."""
        return (begun.item for begun in list(self._begun.values()))

    def _at(self, place: object) -> _Begun | None:
        return self._begun.get(place) or next(reversed(self._begun.values()), None)


def call_name(item: Mapping[str, Any]) -> str:
    """What tells one call from another: its id."""
    return str(item.get("call_id") or item.get("id") or "")


def arguments_of(item: Mapping[str, Any], text: object) -> Mapping[str, Any] | None:
    """The arguments of a call; None if they are no JSON object. A custom tool takes a text, which becomes its `input`."""
    found = wire.call_arguments(text)
    if item["type"] == "custom_tool_call" and not (found and isinstance(text, str)):
        return {"input": text} if isinstance(text, str) else found
    return found


def _is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(call_name(other)) and call_name(one) == call_name(other)
