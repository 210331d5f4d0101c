"""Circuits that several workers or instances share: each tells the others when one of its own opens or closes.

Nothing of it is in a request's way but the claim of a probe, which is rare. Everybody looks once a second at one
small value, and at the circuits themselves only if that has changed.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final
from urllib.parse import quote

import orjson

from ollama_bridge.policies.circuits import Circuit, Circuits
from ollama_bridge.store.shelf import Store

POLL_S: Final = 1.0
"""Seconds between two looks."""

KEPT_S: Final = 86_400.0
"""Seconds that news are kept."""

_CHANGED: Final = "breaker/changed"


class CircuitNews:
    """Keeps `circuits` in step with those of others.

    Args:
        circuits: Ours.
        store: Where all meet.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        circuits: Circuits,
        store: Store,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.circuits = circuits
        self.store = store
        self._sleep = sleep
        self._us = secrets.token_hex(8)
        self._seen: bytes | None = None
        self._claimed: dict[str, str] = {}
        self._unsaid: dict[str, bytes] = {}
        self._saying: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Follow what others find out, from now on until `aclose`."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(), name="circuits of others")

    async def aclose(self) -> None:
        """Stop listening, and let the last news out."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._saying is not None:
            await self._saying

    async def claim(self, circuit: Circuit, *, ttl_s: float) -> bool:
        """Whether the probe is ours to make, after this opening; for `ttl_s` seconds it is nobody else's."""
        place = _place(circuit)
        if self._claimed.get(place) == circuit.opening:
            return True  # our last one was given up: its client left
        if not await self.store.claim(f"{place}/{circuit.opening}", ttl_s=ttl_s):
            return False
        self._claimed[place] = circuit.opening
        return True

    def tell(self, circuit: Circuit) -> None:
        """Let the others know soon how it stands now; the last word about a circuit counts."""
        news = {
            "by": self._us,
            "open": not circuit.is_closed,
            "opening": circuit.opening,
            "failures": circuit.failures,
            "since_s": circuit.since_s,
            "told_s": circuit.now_s(),
            "left_s": circuit.left_s,
            "last": circuit.last,
        }
        self._unsaid[_place(circuit)] = orjson.dumps(news)
        if self._saying is None or self._saying.done():
            self._saying = asyncio.create_task(self._say(), name="circuits for others")

    async def look(self) -> None:
        """Take over what others have found out."""
        changed = await self.store.get(_CHANGED)
        if changed is None or changed == self._seen:
            return
        for circuit in self.circuits:
            place = _place(circuit)
            news = await self.store.get(place)
            if news is None or place in self._unsaid:
                continue  # what we have to say of it is newer
            with suppress(ValueError, TypeError, KeyError):  # another version's
                self._learn(circuit, news)
        self._seen = changed  # not before: who is interrupted has yet to learn it

    def _learn(self, circuit: Circuit, said: bytes) -> None:
        news = orjson.loads(said)
        if news["by"] == self._us:
            return
        if not news["open"]:
            if not circuit.is_closed:
                circuit.close(failures=news["failures"])
        elif news["opening"] != circuit.opening:
            circuit.failures, circuit.last = news["failures"], news["last"]
            # Their clock may be wrong: nobody waits longer than they do.
            left_s = min(max(0.0, news["told_s"] + news["left_s"] - circuit.now_s()), news["left_s"])
            circuit.open(left_s, since_s=news["since_s"], opening=news["opening"])

    async def _listen(self) -> None:
        while True:
            await self.look()
            await self._sleep(POLL_S)

    async def _say(self) -> None:
        while self._unsaid:
            place, news = next(iter(self._unsaid.items()))
            await self.store.put(place, news, ttl_s=KEPT_S)
            if self._unsaid[place] is news:
                del self._unsaid[place]
            await self.store.put(_CHANGED, secrets.token_bytes(8), ttl_s=KEPT_S)


def _place(circuit: Circuit) -> str:
    """The key of a circuit; keys are printable ASCII."""
    return f"breaker/{quote(circuit.provider, safe='')}/{quote(circuit.model, safe='')}"
