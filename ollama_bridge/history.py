"""Repair the conversation a client sends, so that every provider accepts it. Pure.

Ollama is lenient and its clients have learned to be careless: calls without ids, results without the id
of their call, results that come late, twice or never (`clients.md` §3). Anthropic, OpenAI and Gemini
answer each of these with a 400. Nothing a person or a tool said is lost in the repair.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ollama_bridge.chat import Message
from ollama_bridge.events import ToolCall

NO_RESULT: Final = "(no result)"
"""What a call is said to have returned when the client never said."""

NOTHING_SAID: Final = "(The message is empty.)"
"""What a conversation is turned into that holds nothing but white space: a real server answers it as well."""

BEGINNING: Final = "(The conversation begins with your message.)"
"""Said by the user before a conversation that begins with the assistant, for providers that refuse one."""

CONTINUE: Final = "Continue your last message exactly where it stopped, without repeating any of it."
"""Said by the user behind a conversation that ends with the assistant, for models that want the user's word last."""

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_VALID_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what all providers but Mistral take
_SHORT_ID: Final = re.compile(r"[A-Za-z0-9]{9}")


def call_id(turn: int, index: int, name: str, again: int = 0) -> str:
    """A tool call id of 9 letters and digits (what even Mistral takes), the same for the same place.

    Being the same each time the conversation is sent again, it leaves the provider's prompt cache valid.
    """
    return _nine(f"{turn}:{index}:{name}" + (f":{again}" if again else ""))


def short_id(given: str) -> str:
    """A call's id as Mistral takes it, which knows only those of 9 letters and digits: the same for the same id."""
    return given if _SHORT_ID.fullmatch(given) else _nine(given)


def _nine(seed: str) -> str:
    number = int.from_bytes(hashlib.blake2s(seed.encode(), digest_size=8).digest(), "big")
    digits = []
    for _ in range(9):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(digits)


def repair(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same conversation, well-formed.

    Every tool call has an id, unique in the conversation; directly behind an assistant message stand the
    results of its calls, one each, in their order, with `tool_call_id` and `tool_name`. A call that was
    never answered gets `NO_RESULT`, a result that answers no call becomes a user message, and messages
    that say nothing are gone: if all do, one comes instead that says so. Repairing twice changes nothing.
    """
    messages = _spoken_results([part for message in messages for part in _plain(message)])
    calls = _Calls(messages)
    placed: list[Message | _Call] = []
    for position, message in enumerate(messages):
        if message.role == "tool":
            if orphan := calls.answer(message, position):
                placed.append(orphan)
        elif message.role == "assistant" and message.tool_calls:
            asked = calls.ask(message, position)
            placed.append(replace(message, tool_calls=tuple(call.call for call in asked)))
            placed += asked
        elif not _is_empty(message):
            placed.append(message)
            calls.run += message.role == "user"
    repaired = tuple(item.answer() if isinstance(item, _Call) else item for item in placed)
    return repaired or ((Message("user", NOTHING_SAID),) if messages else ())


def _plain(message: Message) -> Sequence[Message]:
    """The message as what its role can hold: only assistants call tools, only users and tools show images."""
    if message.role == "assistant":
        if not message.images or message.tool_calls:
            return (message,)
    elif message.tool_calls or message.thinking:
        message = replace(message, tool_calls=(), thinking="")
    if message.images and message.role in {"system", "assistant"}:
        return replace(message, images=()), Message("user", images=message.images)
    return (message,)


def _spoken_results(messages: Sequence[Message]) -> Sequence[Message]:
    """Take what the user says behind tool calls for their results, where a client knows no tool messages at all.

    Roo Code and avante.nvim send each result as a message of the user's, in the order of the calls.
    """
    if any(message.role == "tool" for message in messages):
        return messages
    adopted: list[Message] = []
    waiting = 0
    for message in messages:
        if message.role == "assistant":
            waiting = len(message.tool_calls)
        elif message.role == "user" and waiting and not _is_empty(message):
            waiting -= 1
            adopted.append(replace(message, role="tool"))
            continue
        adopted.append(message)
    return adopted


@dataclass(slots=True)
class _Call:
    """One tool call on its way to its result.

    Args:
        asked_id: Its id as the client wrote it; what a result may refer to.
        call: The call with its final id.
        run: Which stretch between two user messages it belongs to.
    """

    asked_id: str
    call: ToolCall
    run: int
    result: Message | None = None

    def answer(self) -> Message:
        if self.result is None:
            return Message("tool", NO_RESULT, tool_call_id=self.call.id, tool_name=self.call.name)
        return replace(self.result, tool_call_id=self.call.id, tool_name=self.call.name)


class _Calls:
    """The calls of a conversation: which ids are taken, which calls still wait for a result."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.run = 0
        self._taken: set[str] = set()
        self._waiting: list[_Call] = []
        self._answered: dict[str, _Call] = {}
        self._last_claim = {
            message.tool_call_id: position
            for position, message in enumerate(messages)
            if message.role == "tool"
        }

    def ask(self, message: Message, turn: int) -> list[_Call]:
        """Give every call of an assistant message its id."""
        asked = []
        for index, call in enumerate(message.tool_calls):
            unique = self._unique(call, turn, index)
            asked.append(_Call(call.id, call if unique == call.id else replace(call, id=unique), self.run))
        self._waiting += asked
        return asked

    def answer(self, result: Message, position: int) -> Message | None:
        """Hand a result to its call; if there is none, return it as a user message, if it says anything."""
        call = self._find(result, position)
        if call is None:
            told = self._answered.get(result.tool_call_id)
            is_twice = told is not None and told.result is not None and _said(told.result) == _said(result)
            return None if is_twice else _as_user(result)
        call.result = result
        self._waiting.remove(call)
        if call.asked_id:
            self._answered[call.asked_id] = call
        return None

    def _find(self, result: Message, position: int) -> _Call | None:
        # The newest stretch first: clients that number their calls anew in every turn reuse ids, and a call
        # that was abandoned long ago must not take the result of today's.
        waiting = sorted(self._waiting, key=lambda call: -call.run)
        if result.tool_call_id:
            for call in waiting:
                if call.asked_id == result.tool_call_id:
                    return call
            if result.tool_call_id in self._answered:
                return None
        # A call whose own result is still to come, under its id, is not to be had by name or order.
        free = [call for call in waiting if not self._is_claimed_after(call, position)]
        named = (call for call in free if call.call.name == result.tool_name)
        return next(named, None) or next(iter(free), None)

    def _is_claimed_after(self, call: _Call, position: int) -> bool:
        return bool(call.asked_id) and self._last_claim.get(call.asked_id, -1) > position

    def _unique(self, call: ToolCall, turn: int, index: int) -> str:
        unique, again = call.id, 0
        while unique in self._taken or not _VALID_ID.fullmatch(unique):
            unique = call_id(turn, index, call.name, again)
            again += 1
        self._taken.add(unique)
        return unique


def _as_user(result: Message) -> Message | None:
    if _is_empty(result):
        return None
    name = f" of {result.tool_name}" if result.tool_name else ""
    told = f"[Tool result{name}]\n{result.content}"
    return Message("user", told, images=result.images, cache=result.cache)


def _said(message: Message) -> tuple[object, ...]:
    return message.content, message.images


def _is_empty(message: Message) -> bool:
    """Thinking alone says nothing: no provider takes a turn of nothing else."""
    return not (message.content.strip() or message.images)
