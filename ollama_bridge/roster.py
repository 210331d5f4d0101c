"""What a real Ollama has, which comes and goes by other hands than ours: its list of models, as it is now.

A list is asked for at the start, when somebody wants to see lists and it is not fresh, when a client names a model
that nobody has, and after each change that went through us. Nobody waits for it longer than for a moment; who does not
answer is told of in the log once, and its models are not listed until it does.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, get_args
from urllib.parse import urlsplit

import orjson
import structlog

from ollama_bridge.backends.lazy import LazyProvider
from ollama_bridge.chat import Capability
from ollama_bridge.errors import BridgeError, UpstreamError
from ollama_bridge.lineage import key_of

FRESH_S: Final = 5.0
"""Seconds for which a list is taken for what is there."""

MISSED_S: Final = 2.0
"""The same, when a client names a model that is not in it."""

CLOUD_FRESH_S: Final = 600.0
CLOUD_MISSED_S: Final = 60.0
"""The same two of ollama.com, whose models nobody pulls."""

PATIENCE_S: Final = 0.2
"""Seconds that a client waits for lists that are no longer fresh, before it gets those."""

FIRST_S: Final = 1.0
"""The same, where there has been no list yet, or where one is certainly no longer right."""

MISSING_S: Final = 2.0
"""Seconds that a client which names an unknown model waits for somebody to have it."""

_ASK_S: Final = 5.0
_SHOW_S: Final = 30.0
_SHOWN_AT_ONCE: Final = 2
_MOST_BYTES: Final = 64 * 1024 * 1024
_CAPABILITIES: Final[Mapping[str, Capability]] = {one: one for one in get_args(Capability)}
_CLOUD: Final = "ollama.com"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """What a real Ollama says of a model, as far as the bridge needs it; None: it does not say.

    Args:
        capabilities: Those that other wires can speak of.
        context_length: Tokens that it was made to read.
    """

    capabilities: tuple[Capability, ...] | None = None
    context_length: int | None = None

    @classmethod
    def of_entry(cls, entry: Mapping[str, Any]) -> "Known":
        """From its place in `/api/tags`; older servers say less there."""
        details = entry.get("details")
        length = details.get("context_length") if isinstance(details, dict) else None
        return cls(_capabilities(entry.get("capabilities")), _length(length))

    @classmethod
    def of_show(cls, shown: Mapping[str, Any]) -> "Known":
        """From `/api/show`."""
        info = shown.get("model_info")
        info = info if isinstance(info, dict) else {}
        length = info.get(f"{info.get('general.architecture')}.context_length")
        return cls(_capabilities(shown.get("capabilities")), _length(length))


class Roster:
    """What one real Ollama has, as it last said.

    Args:
        provider: How to ask it.
        clock_s: Monotonic seconds.
    """

    def __init__(self, provider: LazyProvider, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.entries: tuple[Mapping[str, Any], ...] = ()
        self.is_down = False
        self.changed: Callable[[], None] = lambda: None
        """Called when there is something new."""
        self.relay = provider.relay
        """Asks it anything; see `native.Relay`."""
        self._provider = provider
        self._clock_s = clock_s
        self._asked_s: float | None = None
        self._began_s = 0.0
        self._changes = 0
        self._is_outdated = False
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._shown: dict[tuple[str, str], Known] = {}

    @property
    def name(self) -> str:
        """The provider's key in the configuration."""
        return self._provider.settings.name

    @property
    def prefix(self) -> str:
        """What stands in front of its models' names where they are somebody else's too: no dots, says Ollama."""
        return self.name.replace(".", "-").lower()

    @property
    def is_cloud(self) -> bool:
        """Whether it is ollama.com itself, which has all of its models and takes none."""
        host = urlsplit(self._provider.settings.base_url or "").hostname or ""
        return host == _CLOUD or host.endswith(f".{_CLOUD}")

    def known(self, entry: Mapping[str, Any]) -> Known:
        """What it says of one of its models."""
        listed, shown = Known.of_entry(entry), self._shown.get(_version(entry), Known())
        return Known(
            shown.capabilities if listed.capabilities is None else listed.capabilities,
            listed.context_length or shown.context_length,
        )

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While inside, and until it has been asked again, the list is certainly not right."""
        self._changes += 1
        try:
            yield
        finally:
            self._changes -= 1
            self._asked_s = None
            self._is_outdated = True  # also of an answer that is on its way

    async def fresh(self) -> None:
        """See to it that the list is, as far as nobody has to wait long for it."""
        fresh_s = CLOUD_FRESH_S if self.is_cloud else FRESH_S
        await self._asked(fresh_s, FIRST_S if self._asked_s is None or self._changes else PATIENCE_S)

    async def look(self) -> None:
        """As `fresh`, for who misses something in it."""
        missed_s = CLOUD_MISSED_S if self.is_cloud else FRESH_S if self.is_down else MISSED_S
        await self._asked(missed_s, MISSING_S)

    async def running(self) -> Sequence[Mapping[str, Any]]:
        """Which of its models are loaded, as it says itself; none, if it does not say so soon."""
        if self.is_down or self.is_cloud:
            return ()
        try:
            async with asyncio.timeout(FIRST_S):
                return _rows(await self._get("GET", "/api/ps"))
        except (BridgeError, TimeoutError) as exc:
            log.debug("a real Ollama does not say what it runs", provider=self.name, error=_reason(exc))
            return ()

    async def aclose(self) -> None:
        """Ask no more."""
        tasks = [task for task in (self._task, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _asked(self, fresh_s: float, within_s: float) -> None:
        if self._is_younger_than(fresh_s) and not self._changes:
            return
        if self._is_outdated and self._task is not None:
            self._task.cancel()
        if self._is_outdated or self._task is None or self._task.done():
            self._is_outdated = False
            self._began_s = self._clock_s()
            self._task = asyncio.create_task(self._ask(), name=f"list {self.name}")
        waited_s = self._clock_s() - self._began_s  # who comes later waits less
        await asyncio.wait((self._task,), timeout=max(0.0, within_s - waited_s))

    def _is_younger_than(self, age_s: float) -> bool:
        return self._asked_s is not None and self._clock_s() - self._asked_s < age_s

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(_ASK_S):
                entries = tuple(_rows(await self._get("GET", "/api/tags")))
        except (BridgeError, TimeoutError) as exc:
            if not self.is_down:
                log.warning(
                    "a real Ollama does not answer; its models are not listed until it does",
                    provider=self.name,
                    error=_reason(exc),
                )
            self._take(self.entries, is_down=True)
        else:
            if self.is_down:
                log.info("a real Ollama answers again", provider=self.name, models=len(entries))
            self._take(entries, is_down=False)
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look_closer(), name=f"look at {self.name}")
        self._asked_s = self._clock_s()

    def _take(self, entries: tuple[Mapping[str, Any], ...], *, is_down: bool) -> None:
        if (entries, is_down) != (self.entries, self.is_down):
            self.entries, self.is_down = entries, is_down
            self.changed()

    async def _look_closer(self) -> None:
        """Ask about the models of which the list says too little, as older servers' lists do; once for each."""
        slots = asyncio.Semaphore(_SHOWN_AT_ONCE)
        versions = {_version(entry) for entry in self.entries}
        self._shown = {version: known for version, known in self._shown.items() if version in versions}

        async def look(entry: Mapping[str, Any]) -> None:
            async with slots:
                try:
                    async with asyncio.timeout(_SHOW_S):
                        body = orjson.dumps({"model": entry["name"]})
                        shown = Known.of_show(await self._get("POST", "/api/show", body))
                except (BridgeError, TimeoutError) as exc:
                    shown = Known()
                    log.debug("a model is not shown", provider=self.name, error=_reason(exc))
                self._shown[_version(entry)] = shown

        wanting = [
            entry
            for entry in self.entries
            if Known.of_entry(entry).capabilities is None and _version(entry) not in self._shown
        ]
        await asyncio.gather(*map(look, wanting))
        if wanting:
            self.changed()

    async def _get(self, method: str, path: str, body: bytes = b"") -> Mapping[str, Any]:
        async with self.relay(method, path, body) as relayed:
            found = bytearray()
            async for chunk in relayed.chunks:
                found += chunk
                if len(found) > _MOST_BYTES:
                    raise BridgeError(f"the reply to {path} is too large")
            if relayed.status != 200:
                raise BridgeError(f"HTTP {relayed.status} to {path}")
        try:
            reply = orjson.loads(found)
        except orjson.JSONDecodeError:
            reply = None
        if not isinstance(reply, dict):
            raise BridgeError(f"the reply to {path} is no JSON object: is this an Ollama?")
        return reply


def _rows(reply: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The models of a list, those that have a name."""
    rows = reply.get("models")
    named = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [row for row in named if isinstance(row.get("name"), str) and key_of(row["name"])]


def _version(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["name"], str(entry.get("digest"))


def _capabilities(said: Any) -> tuple[Capability, ...] | None:
    if not isinstance(said, list):
        return None
    return tuple(_CAPABILITIES[one] for one in said if isinstance(one, str) and one in _CAPABILITIES)


def _length(said: Any) -> int | None:
    return said if type(said) is int and said > 0 else None


def _reason(exc: BridgeError | TimeoutError) -> str:
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    return exc.summary if isinstance(exc, UpstreamError) else str(exc)
