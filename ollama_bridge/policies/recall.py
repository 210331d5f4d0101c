"""Reasoning that returns: what a provider sealed into a reply finds back to that reply when a client sends it again.

No client's wire carries it (`Finish.sealed`, `Message.sealed`), and most clients do not even return the ids of
tool calls, so a turn is recognised by what does come back: those ids, or else what was called, what was said,
and what was said before it. White space and thinking may have changed meanwhile, and ids been made anew.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

import orjson
import structlog

from ollama_bridge.chat import Backend, ChatRequest, Message, Reply, Target
from ollama_bridge.errors import UpstreamRejected
from ollama_bridge.events import Event, Finish, TextDelta, ThinkingDelta, ToolCall
from ollama_bridge.opening import ENDS, Ends, ends, hashed
from ollama_bridge.vault import Vault

log = structlog.get_logger(__name__)

_UNIQUE_ID: Final = re.compile(r"[A-Za-z0-9]{8,}\Z")
"""How an id ends that a provider made, unlike `call_0` or `functions.read:1`, which every conversation has."""

_DELTAS: Final = frozenset({TextDelta, ThinkingDelta})
_ASKS: Final = frozenset({"user", "tool"})


class Recall:
    """Keeps what `inner` seals, and gives it back with the turn it belongs to.

    A provider that refuses a request with such turns is asked once more without them, as signatures may be bound
    to what the client has changed; what it refused is forgotten.

    Args:
        inner: One provider.
        vault: Where it is kept; keys are hashes.
    """

    def __init__(self, inner: Backend, vault: Vault) -> None:
        self._inner = inner
        self._vault = vault

    async def chat(self, request: ChatRequest) -> Reply:
        """Complete the request, pass everything on, and keep what the reply sealed."""
        asked, keys = await self._recalled(request)
        refused: list[bytes] = []
        while True:
            heard, began = _Heard(), False
            try:
                async with aclosing(self._inner.chat(asked)) as reply:
                    async for burst in reply:
                        if not began:
                            began = True
                            self._vault.forget(refused)
                        # Nearly all of a long answer is one piece of text at a time: it passes unlooked at.
                        if len(burst) > 1 or heard.listens or burst[0].__class__ not in _DELTAS:
                            self._keep(asked, heard, burst)
                        yield burst
            except UpstreamRejected as exc:
                if began or not keys or exc.status != 400:
                    raise
                log.info("asked again without earlier reasoning", provider=exc.provider, model=exc.model)
                asked, refused, keys = request, keys, []
            else:
                return

    def _keep(self, asked: ChatRequest, heard: "_Heard", burst: Sequence[Event]) -> None:
        heard.add(burst)
        last = burst[-1]
        if isinstance(last, Finish) and last.sealed:
            before = [message for message in asked.messages if message.role in _ASKS]
            asks = [_ask(message) for message in before[-2:]]
            self._vault.put(_keys(asked.target, asks, heard.message()), last.sealed)

    async def _recalled(self, request: ChatRequest) -> tuple[ChatRequest, list[bytes]]:
        """The request with all that is known of its turns, and the keys by which that was found."""
        wanted = dict(_turns(request))
        if not wanted:
            return request, []
        found = await self._vault.find([key for keys in wanted.values() for key in keys])
        messages = list(request.messages)
        used: list[bytes] = []
        for at, keys in wanted.items():
            if key := next((key for key in keys if key in found), None):
                messages[at] = replace(messages[at], sealed=found[key])
                used += keys
        return (replace(request, messages=tuple(messages)), used) if used else (request, [])


class _Heard:
    """What of a reply its client will send back."""

    __slots__ = ("_calls", "_text", "listens")

    def __init__(self) -> None:
        self.listens = True
        """Whether more text is needed to tell this reply from others."""
        self._text = ""
        self._calls: list[ToolCall] = []

    def add(self, burst: Sequence[Event]) -> None:
        """Take in what matters of these events."""
        for event in burst:
            if isinstance(event, TextDelta):
                if self.listens:
                    self._text = (self._text + event.text).lstrip()
                    self.listens = len(self._text) < ENDS
            elif isinstance(event, ToolCall):
                self._calls.append(event)

    def message(self) -> Message:
        """The reply as it may come back."""
        return Message("assistant", self._text, tool_calls=tuple(self._calls))


def _turns(request: ChatRequest) -> Iterator[tuple[int, list[bytes]]]:
    """Where in the conversation the model spoke, and the keys of what it said there."""
    asks: list[Ends] = []
    for at, message in enumerate(request.messages):
        if message.role in _ASKS:
            asks = [*asks[-1:], _ask(message)]
        elif message.role == "assistant" and not message.sealed:
            yield at, _keys(request.target, asks, message)


def _keys(target: Target, asks: Sequence[Ends], turn: Message) -> list[bytes]:
    """What the turn can be recognised by, the surest first. None of what cannot be written as JSON.

    Args:
        target: Who said it; nobody else can read what it sealed.
        asks: The last two messages of user or tools ahead of it, so that two conversations that both begin by
            `list_files {}` are told apart.
        turn: What the model said.
    """
    try:
        # Once for all marks: calls that write files hold the files.
        calls = _NO_CALLS
        if turn.tool_calls:
            calls = _hashed([[call.name, _plain(call.arguments)] for call in turn.tool_calls]).hex()
        return [_hashed(mark) for mark in _marks(target, asks, turn, calls)]
    except TypeError:
        return []


def _marks(target: Target, asks: Sequence[Ends], turn: Message, calls: str) -> Iterator[Sequence[object]]:
    who = [target.provider, target.model]
    if turn.tool_calls and _UNIQUE_ID.search(turn.tool_calls[0].id):
        yield "id", *who, turn.tool_calls[0].id, turn.tool_calls[0].name
    yield "turn", *who, asks, calls, "".join(turn.content.lstrip()[:ENDS].split())
    if turn.tool_calls:
        yield "calls", *who, asks[-1:], calls


def _ask(message: Message) -> Ends:
    return ends(message.content.strip())


def _hashed(mark: Sequence[object]) -> bytes:
    return hashed(orjson.dumps(mark, option=orjson.OPT_SORT_KEYS))


_NO_CALLS: Final = _hashed([]).hex()


def _plain(value: object) -> object:
    """Arguments without what clients change: absent members are as good as empty ones, 1.0 is 1."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items() if one is not None and one != ""}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
