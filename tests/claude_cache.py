"""Anthropic's prompt cache, as its documentation describes it: small, strict, and with a clock of the test's.

    claude = CachingClaude(clock)
    async with Upstream(claude) as upstream: ...
    claude.bills[-1].read     # tokens of the last request that came from the cache

https://platform.claude.com/docs/en/build-with-claude/prompt-caching
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from anthropic_asking import start, stop, text
from upstream import Script, Seen, sse

LOOKBACK = 20
LIFE_S = {"5m": 300, "1h": 3600}
NO_MARK = {"thinking", "redacted_thinking"}


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass
class Bill:
    """Tokens of one prompt, by what they cost."""

    plain: int
    read: int
    wrote: int
    wrote_hour: int
    marks: int

    @property
    def all(self) -> int:
        return self.plain + self.read + self.wrote + self.wrote_hour

    @property
    def price(self) -> float:
        """In prices of a token that is not cached."""
        return self.plain + 0.1 * self.read + 1.25 * self.wrote + 2 * self.wrote_hour

    @property
    def usage(self) -> dict[str, Any]:
        return {
            "input_tokens": self.plain,
            "cache_read_input_tokens": self.read,
            "cache_creation_input_tokens": self.wrote + self.wrote_hour,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.wrote,
                "ephemeral_1h_input_tokens": self.wrote_hour,
            },
        }


@dataclass
class _Place:
    """One block of a prompt: the hash of all up to it, how many tokens that is, and where it stands in line."""

    prefix: bytes
    tokens: int
    position: int
    ttl: str


def marks_of(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The blocks that are marked."""
    said = [block for turn in body["messages"] for block in turn["content"]]
    blocks = [*body.get("tools", ()), *body.get("system", ()), *said]
    return [block for block in blocks if "cache_control" in block]


def without_marks(body: Any) -> Any:
    """The same JSON with no `cache_control` in it."""
    if isinstance(body, dict):
        return {name: without_marks(value) for name, value in body.items() if name != "cache_control"}
    return [without_marks(one) for one in body] if isinstance(body, list) else body


def _blocks(body: dict[str, Any]) -> Iterator[tuple[object, dict[str, Any]]]:
    """Every block, with what else its prefix depends on."""
    yield from ((body["model"], tool) for tool in body.get("tools", ()))
    yield from (("system", block) for block in body.get("system", ()))
    level = [body.get(name) for name in ("tool_choice", "thinking", "output_config")]
    for turn in body["messages"]:
        yield from (([turn["role"], level], block) for block in turn["content"])


def _ttl(block: dict[str, Any]) -> str:
    mark = block.get("cache_control")
    if mark is None:
        return ""
    assert mark["type"] == "ephemeral"
    assert block.get("type") not in NO_MARK, "thinking takes no mark"
    assert block.get("text") != "", "an empty text takes no mark"
    ttl = mark.get("ttl", "5m")
    assert ttl in LIFE_S
    return ttl


def _places(body: dict[str, Any]) -> list[_Place]:
    places: list[_Place] = []
    prefix, tokens, position, before = b"", 0, 0, ""
    for level, block in _blocks(body):
        plain = json.dumps([level, without_marks(block)]).encode()
        prefix = hashlib.blake2b(prefix + plain).digest()
        tokens += len(plain) // 4
        kind = block.get("type", "tool")
        # A run of calls counts as one position, and so does a run of their results.
        position += not (kind == before and kind in {"tool_use", "tool_result"})
        before = kind
        places.append(_Place(prefix, tokens, position, _ttl(block)))
    return places


class CachingClaude:
    """What `Upstream(decide=…)` asks. Refuses what the API refuses, by a failed assertion and a 400.

    Args:
        now_s: Seconds.
        least: Tokens of the shortest prefix that is cached.
        says: The blocks of an answer as stream events, by its number and the request.
    """

    def __init__(
        self,
        now_s: Callable[[], float],
        least: int = 1024,
        says: Callable[[int, dict[str, Any]], list[dict[str, Any]]] = lambda number, _: [
            *text(0, f"Answer {number}."),
            *stop(),
        ],
    ) -> None:
        self.now_s = now_s
        self.least = least
        self.says = says
        self.bodies: list[dict[str, Any]] = []
        self.bills: list[Bill] = []
        self.forgets = False
        """Whether nothing that is written is found again, as where requests go to another organisation each time."""
        self._until_s: dict[bytes, tuple[float, float]] = {}

    def __call__(self, seen: Seen) -> Script:
        body = seen.json
        try:
            bill = self._bill(body)
        except AssertionError as exc:
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": str(exc)}}
            return Script([json.dumps(error).encode()], 400, {"content-type": "application/json"})
        self.bodies.append(body)
        self.bills.append(bill)
        events = [start(**bill.usage), *self.says(len(self.bills), body)]
        return Script([sse(*events)])

    def _bill(self, body: dict[str, Any]) -> Bill:
        if self.forgets:
            self._until_s.clear()
        places = _places(body)
        marked = [place for place in places if place.ttl]
        assert len(marked) <= 4, "more than four marks"
        assert "5m1h" not in "".join(place.ttl for place in marked), "a longer life behind a shorter one"
        hit = max((self._found(places, mark) for mark in marked), default=0)
        wrote = dict.fromkeys(LIFE_S, 0)
        end = hit
        for mark in marked:
            life_s = LIFE_S[mark.ttl]
            if mark.tokens <= hit:
                if self._alive(mark):
                    life_s = self._until_s[mark.prefix][1]
                    self._until_s[mark.prefix] = (self.now_s() + life_s, life_s)
            elif mark.tokens >= self.least:
                self._until_s[mark.prefix] = (self.now_s() + life_s, life_s)
                wrote[mark.ttl] += mark.tokens - end
                end = mark.tokens
        return Bill(places[-1].tokens - end, hit, wrote["5m"], wrote["1h"], len(marked))

    def _found(self, places: list[_Place], mark: _Place) -> int:
        """Tokens of the longest prefix that is still cached, looking back from a mark."""
        for place in reversed(places):
            if place.position <= mark.position - LOOKBACK:
                break
            if place.tokens <= mark.tokens and self._alive(place):
                life_s = self._until_s[place.prefix][1]
                self._until_s[place.prefix] = (self.now_s() + life_s, life_s)
                return place.tokens
        return 0

    def _alive(self, place: _Place) -> bool:
        return self._until_s.get(place.prefix, (0.0, 0.0))[0] > self.now_s()
