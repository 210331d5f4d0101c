"""Asking providers which models they have, and keeping what they say: at a command, or by and by behind the daemon.

No client waits for any of it. What is asked is written to the file of lists, which the daemon follows as it follows
its configuration. Of several processes one asks: the file says when that was done last, and a lock who is at it.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from ollama_bridge import lists, prices
from ollama_bridge.catalog import facts_for, facts_kind
from ollama_bridge.config import Config
from ollama_bridge.config.offering import LIVE_KINDS, asks, shelf_of
from ollama_bridge.discovered import pruned
from ollama_bridge.errors import BridgeError
from ollama_bridge.facts import Listed, Lister
from ollama_bridge.gateway import Gateway
from ollama_bridge.lists import Shelf
from ollama_bridge.wholefile import locked

WITHIN_S: Final = 30.0
"""Seconds that a provider has for all pages of its list."""

_SOON_S: Final = 5.0
"""Seconds after which what has come is written, whoever is still asked."""
_AT_ONCE: Final = 4
_FIRST_AGAIN_S: Final = 60.0
_LONGEST_AGAIN_S: Final = 6 * 3600.0
_BUSY_S: Final = 15.0
"""Seconds until another look, while another process asks."""
_AFTER_FAULT_S: Final = 3600.0
"""Seconds until another try, after a fault of our own."""
_JITTER: Final = 0.1
_MOST_NAMED: Final = 20
_HOUR_S: Final = 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of asking one provider.

    Args:
        provider: Its key in the configuration.
        shelf: What is known of its models now.
        before: What was known until then.
        error: Why it did not say; empty: it did.
        shown: The same as a client may see it, with the provider's own words.
    """

    provider: str
    shelf: Shelf
    before: Shelf
    error: str = ""
    shown: str = ""

    @property
    def new(self) -> list[str]:
        """Ids that were not there before."""
        return sorted(self.shelf.models.keys() - self.before.models.keys())

    @property
    def gone(self) -> list[str]:
        """Ids that are there no more."""
        return sorted(self.before.models.keys() - self.shelf.models.keys())

    @property
    def changed(self) -> list[str]:
        """Ids of which something else is said."""
        both = self.before.models.keys() & self.shelf.models.keys()
        return sorted(one for one in both if self.before.models[one] != self.shelf.models[one])


async def ask(config: Config, name: str, provider: Lister, before: Shelf, *, now_s: float) -> Outcome:
    """Ask one provider; whatever goes wrong is in the outcome, and then what it said before stays."""
    try:
        async with asyncio.timeout(WITHIN_S):
            models = await provider.models()
    except TimeoutError:
        error = shown = f"{name}: no list of models within {WITHIN_S:g} s"
    except BridgeError as exc:
        error, shown = exc.summary, str(exc)
    else:
        if models is None:
            return Outcome(name, Shelf(asked_s=now_s, absent=True).after(before), before)
        shelf = await asyncio.to_thread(_shelf, config, name, models, now_s)
        return Outcome(name, shelf.after(before), before)
    failed = replace(before, failures=before.failures + 1, failed_s=now_s, error=error)
    return Outcome(name, failed, before, error, shown)


def keys_of(config: Config, names: Iterable[str]) -> dict[str, str]:
    """Under which the lists of these providers stand in the file."""
    return {
        name: lists.key(name, each.kind or name, each.address(name))
        for name in names
        if (each := config.providers[name])
    }


class Discovery:
    """Asks by and by, for a daemon.

    Args:
        path: The file of lists.
        now_s: The wall clock, in seconds since the epoch.
        chance: A number from 0 to 1, so that not all bridges of the world ask at once.
    """

    def __init__(
        self,
        path: Path,
        *,
        now_s: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._path = path
        self._now_s = now_s
        self._chance = chance
        self._unwritten: dict[str, Shelf] = {}  # a folder that cannot be written must not make us ask all day
        self._complained: set[str] = set()

    async def forever(self, in_force: Callable[[], tuple[Config, Gateway]], changed: asyncio.Event) -> None:
        """Ask whoever is due, again and again.

        Args:
            in_force: The configuration, and its gateway.
            changed: Set when it is another one.
        """
        while True:
            changed.clear()
            config, gateway = in_force()
            wait_s = _AFTER_FAULT_S
            try:
                with gateway.in_use():
                    wait_s = await self.round(config, gateway.providers)
            except Exception:
                log.exception("asking providers for their models failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await changed.wait()

    async def round(self, config: Config, providers: Mapping[str, Lister]) -> float:
        """Ask whoever is due.

        Args:
            config: In force.
            providers: By their keys in it; those that it does not want asked are left alone.

        Returns:
            Seconds until somebody will be due.
        """
        names = [name for name in providers if name in config.providers and asks(config, name)]
        refresh_s = config.discovery.refresh_h * _HOUR_S
        known = await self._known(config, names)
        due = [name for name in names if self._due_in_s(known[name], refresh_s) <= 0]
        if due and not await self._asked_alone(config, {name: providers[name] for name in due}, refresh_s):
            return _BUSY_S
        known = await self._known(config, names)
        wait_s = min((self._due_in_s(known[name], refresh_s) for name in names), default=refresh_s)
        return max(wait_s, 1.0) * (1 + _JITTER * self._chance())

    def _due_in_s(self, shelf: Shelf, refresh_s: float) -> float:
        now_s = self._now_s()
        if max(shelf.asked_s, shelf.failed_s) > now_s + _HOUR_S:
            return 0.0  # the clock was wrong then, or is now
        if shelf.failures:
            again_s = min(_FIRST_AGAIN_S * 4.0 ** min(shelf.failures - 1, 10), _LONGEST_AGAIN_S)
            return shelf.failed_s + again_s - now_s
        return shelf.asked_s + refresh_s - now_s

    async def _known(self, config: Config, names: Sequence[str]) -> dict[str, Shelf]:
        found = await asyncio.to_thread(lists.read, self._path)
        if found.fault:
            self._complain("the lists of models cannot be used, and are asked for anew", found.fault)
        keys = keys_of(config, names)
        return {name: self._unwritten.get(keys[name]) or shelf_of(config, found, name) for name in names}

    async def _asked_alone(self, config: Config, providers: Mapping[str, Lister], refresh_s: float) -> bool:
        """Ask these, unless another process is at it."""
        asking = locked(self._path.with_name("asking"), within_s=0)
        try:
            await asyncio.to_thread(asking.__enter__)
        except TimeoutError:
            return False
        except OSError:
            await self._ask(config, providers)  # the folder cannot be written, which is told when it is tried
            return True
        try:
            # While we came to the lock, it may have been done.
            known = await self._known(config, list(providers))
            due = {
                name: one for name, one in providers.items() if self._due_in_s(known[name], refresh_s) <= 0
            }
            await self._ask(config, due)
        finally:
            await asyncio.to_thread(asking.__exit__, None, None, None)
        return True

    async def _ask(self, config: Config, providers: Mapping[str, Lister]) -> None:
        before = await self._known(config, list(providers))
        slots = asyncio.Semaphore(_AT_ONCE)

        async def asked(name: str) -> Outcome:
            async with slots:
                return await ask(config, name, providers[name], before[name], now_s=self._now_s())

        tasks = [asyncio.create_task(asked(name), name=f"models of {name}") for name in providers]
        try:
            # Who is quick is not held up by who is slow, and who is as quick makes no reload of its own.
            done, pending = await asyncio.wait(tasks, timeout=_SOON_S) if tasks else (set(), set())
            await self._keep(config, [task.result() for task in done])
            if pending:
                await asyncio.wait(pending)
                await self._keep(config, [task.result() for task in pending])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, config: Config, outcomes: Sequence[Outcome]) -> None:
        if not outcomes:
            return
        keys = keys_of(config, [outcome.provider for outcome in outcomes])
        shelves = {keys[outcome.provider]: outcome.shelf for outcome in outcomes}
        for outcome in outcomes:
            _tell(outcome)
        try:
            await asyncio.to_thread(lists.write, self._path, shelves, now_s=self._now_s())
        except OSError as exc:
            self._unwritten |= shelves
            why = f"{self._path}: {exc.strerror or exc}"
            self._complain("the lists of models cannot be kept: what providers add is not offered", why)
        else:
            self._unwritten = {key: shelf for key, shelf in self._unwritten.items() if key not in shelves}

    def _complain(self, what: str, why: str) -> None:
        if why not in self._complained:
            self._complained.add(why)
            log.warning(what, error=why)


def _tell(outcome: Outcome) -> None:
    name, before = outcome.provider, outcome.before
    if outcome.error:
        told = log.warning if outcome.shelf.failures == 1 else log.debug
        told("a provider does not list its models; what it listed before stays", error=outcome.error)
    elif outcome.shelf.absent:
        (log.debug if before.absent else log.info)("a provider has no list of models", provider=name)
    elif outcome.new or outcome.gone:
        changes = {"new": outcome.new, "gone": outcome.gone} if before.asked_s else {}
        shown = {key: ids[:_MOST_NAMED] for key, ids in changes.items() if ids}
        log.info("models listed by a provider", provider=name, models=len(outcome.shelf.models), **shown)


def _shelf(config: Config, name: str, models: Sequence[Listed], now_s: float) -> Shelf:
    """For a thread: where the list does not say how much a model reads, the price list is looked at, which is slow."""
    provider = config.providers[name]
    kind = facts_kind(name, provider.kind or name, provider.base_url)
    live = (provider.kind or name) in LIVE_KINDS
    kept = models if live else pruned(kind, models, lists.day_of(now_s))
    address = provider.address(name)
    return Shelf(
        lists.to_entries(
            model
            if live or model.context_length is not None or facts_for(kind, model.id).known
            else replace(model, window=prices.window_of(kind, address, model.id))
            for model in kept
        ),
        asked_s=now_s,
    )
