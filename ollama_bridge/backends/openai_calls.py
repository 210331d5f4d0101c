"""Tool calls of Chat Completions, put together from the pieces in which every vendor sends them differently."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ollama_bridge.backends import openai_wire as wire
from ollama_bridge.backends.failures import Failures
from ollama_bridge.events import ToolCall
from ollama_bridge.history import call_id


class Calls:
    """The tool calls of one reply.

    Args:
        failures: Tells who the provider is, for errors.
        model: Who is answering, for errors.
        turn: Position of the answer in the conversation, from which missing ids are made.
        tool_names: A tool's name on the wire to the client's, where they differ.
    """

    def __init__(self, failures: Failures, model: str, turn: int, tool_names: Mapping[str, str]) -> None:
        self.were_taken = False
        """Whether the reply had any."""
        self._failures = failures
        self._model = model
        self._turn = turn
        self._tool_names = tool_names
        self._calls: list[_Call] = []
        self._by_index: dict[Any, _Call] = {}
        self._taken = 0

    @property
    def are_pending(self) -> bool:
        """Whether some have begun and are not taken."""
        return self._taken < len(self._calls)

    def add(self, fragment: dict[str, Any]) -> None:
        """Add a piece to the call it belongs to, or begin a new one."""
        said = fragment.get("function") or {}
        index, given, name = fragment.get("index"), str(fragment.get("id") or ""), said.get("name") or ""
        if not isinstance(name, str):
            raise TypeError("a name that is no text")
        if index is None:
            begun = self._calls[-1] if self._calls and not name else None
        else:
            begun = self._by_index.get(index)
        if begun is None or begun.is_other_than(given, name):
            begun = _Call()
            self._calls.append(begun)
        if index is not None:
            self._by_index[index] = begun
        begun.id = begun.id or given
        begun.name = begun.name or name
        begun.add(said.get("arguments"))

    def take(self, *, is_cut_off: bool) -> list[ToolCall]:
        """The calls not taken yet, when no more pieces of them will come.

        Args:
            is_cut_off: Whether the reply ended at a token limit: half a call is then dropped.

        Raises:
            UpstreamBroken: A call is not whole, for no reason.
        """
        calls = []
        for call in self._calls[self._taken :]:
            place, self._taken = self._taken, self._taken + 1
            arguments = call.arguments()
            if arguments is None or not call.name or (is_cut_off and call.has_no_arguments):
                if is_cut_off:
                    continue
                raise self._failures.broken(wire.HALF_CALL, self._model)
            made = call_id(self._turn, place, call.name)
            name = self._tool_names.get(call.name, call.name)
            calls.append(ToolCall(call.id or made, name, arguments))
        self.were_taken = self.were_taken or bool(calls)
        return calls


@dataclass(slots=True)
class _Call:
    """A tool call on its way, in pieces."""

    id: str = ""
    name: str = ""
    text: str = ""
    whole: Mapping[str, Any] | None = None

    def add(self, arguments: Any) -> None:
        if isinstance(arguments, dict):
            self.whole = arguments
        elif arguments:
            self.text += arguments

    def arguments(self) -> Mapping[str, Any] | None:
        return wire.call_arguments(self.text) if self.whole is None else self.whole

    @property
    def has_no_arguments(self) -> bool:
        """Whether not even an empty object has come."""
        return self.whole is None and not self.text

    def is_other_than(self, given: str, name: str) -> bool:
        """Whether a fragment at this call's index starts another call all the same.

        Some vendors give every call index 0: a new id tells, or a name after complete arguments.
        """
        if given and self.id:
            return given != self.id
        return bool(name) and not self.has_no_arguments and self.arguments() is not None
