"""The life of the daemon: bind, announce, reload, drain.

SIGTERM and SIGINT stop accepting and let answers finish under one deadline; a second one ends at once.
SIGHUP, or a change of the configuration file, builds a complete new gateway; only if that succeeds does it
take over, and the old one answers what it has begun.
"""

import asyncio
import gc
import importlib
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from ollama_bridge.backends import scrub_environment
from ollama_bridge.config import API_KEY_VARIABLES, Config, Server
from ollama_bridge.config.making import Change
from ollama_bridge.discovery import Discovery
from ollama_bridge.errors import BridgeError
from ollama_bridge.gateway import Gateway, assemble
from ollama_bridge.listening import bind
from ollama_bridge.policies.keyring import Resting
from ollama_bridge.registry import Uses
from ollama_bridge.sd_notify import notify, watchdog
from ollama_bridge.server import Door, Origins, Site, build_app, digest_of
from ollama_bridge.siblings import Siblings

POLL_S: Final = 0.5
"""Seconds between two looks at the configuration file; `models enable` promises one second."""

TAKE_OVER_S: Final = 5.0
"""Seconds for the other workers to take over what a client changed, before it is answered all the same."""

TOLD_S: Final = 1.0
"""Seconds for the other workers to tell what they know."""

log = structlog.get_logger(__name__)


def serve(
    load: Callable[[], Config],
    watched: Sequence[Path],
    change: Callable[[Change], object] | None = None,
    worker: Path | None = None,
    lists: Path | None = None,
) -> None:
    """Serve until told to stop.

    Args:
        load: Reads the configuration anew, from all its sources.
        watched: The files it comes from; a change of one of them is a reload.
        change: Changes the file, whole or not at all; None: there is no file.
        worker: As in `Daemon`.
        lists: As in `Daemon`.

    Raises:
        ConfigError: The configuration cannot be used, or the port is taken.
    """
    daemon = Daemon(load, watched, change=change, owns_process=True, worker=worker, lists=lists)
    config = load()
    scrub_environment(keep_proxies=any(provider.proxy for provider in config.providers.values()))
    with asyncio.Runner(loop_factory=_event_loop()) as runner:
        runner.run(daemon.run(config))


def _event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where there is one (there is none for Windows): a tenth less time for each wake-up."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


class Daemon:
    """One process: its listeners, and the gateway in force.

    Args:
        load: Reads the configuration anew.
        watched: The files it comes from.
        change: Changes the file, whole or not at all; None: there is no file.
        owns_process: Whether nothing else runs in this process, so that its garbage collector is ours to tune.
        worker: Of one of several processes that share the port: where the others find it (`siblings`); its standard
            input ends with the one that started it.
        lists: Where providers' lists of models are kept; None: they are not asked for any.
    """

    def __init__(
        self,
        load: Callable[[], Config],
        watched: Sequence[Path],
        *,
        change: Callable[[Change], object] | None = None,
        owns_process: bool = False,
        worker: Path | None = None,
        lists: Path | None = None,
    ) -> None:
        self._discovery = Discovery(lists) if lists else None
        self._owns_process = owns_process
        answers = {
            "take over": self._taken_over,
            "uses": self._asked_for_uses,
            "metrics": self._asked_for_metrics,
            "resting": self._asked_who_rests,
        }
        self._siblings = Siblings(worker, answers) if worker else None
        self._load = load
        self._watched = watched
        self._seen = _stamps(watched)
        self._change = change
        self._changing = asyncio.Lock()
        self._config: Config
        self._gateway: Gateway
        self._door: Door
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._warmed = asyncio.Event()
        self._has_changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._retiring: asyncio.Task[None] | None = None
        self.started = asyncio.Event()
        """Set when requests are accepted."""
        self.url = ""

    async def run(self, config: Config) -> None:
        """Serve until `stop` is called or a signal says so."""
        config.check_served()
        listeners = bind(config.server.host, config.server.port, shared=self._siblings is not None)
        self._config = config
        self._gateway = assemble(config, siblings=self._siblings is not None)
        self._door = _door(config)
        app = build_app(
            lambda: self._gateway,
            door=lambda: self._door,
            edit=self.edit,
            max_body_bytes=config.server.max_body_bytes,
        )
        runner = web.AppRunner(
            app,
            # A client that leaves cancels its handler, and so the provider's work (TestServer always does this).
            handler_cancellation=True,
            shutdown_timeout=config.server.drain_s,
        )
        await runner.setup()
        try:
            sites = [Site(runner, listener) for listener in listeners]
            if self._siblings is not None:
                await self._join(self._siblings)
            for site in sites:
                await site.start()
            self.url = sites[0].name
            with _signals(self.stop, self._reload.set):
                self._announce(config)
                await self._stop.wait()
            log.info("stopping", drain_s=config.server.drain_s)
            notify("STOPPING=1")
        finally:
            await self._end(runner)

    def stop(self) -> None:
        """Stop accepting, let answers finish within `drain_s`, end."""
        self._stop.set()

    async def edit(self, change: Change) -> None:
        """Change the configuration file, and take it over before this returns.

        Once begun it goes on, whoever stops waiting for it.

        Raises:
            BridgeError: There is no file, it cannot be written, or with the change it could not be used: nothing has
                changed. Or what `change` raises itself.
        """
        if self._change is None:
            raise BridgeError(
                "this bridge has no configuration file, and so its models cannot be changed", status=501
            )
        task = self._spawn(self._edited(self._change, change))
        # Who waited may have left: then nobody asks what became of it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(task)

    async def _edited(self, apply: Callable[[Change], object], change: Change) -> None:
        async with self._changing:
            await asyncio.to_thread(apply, change)
            await self._take_over()
        if self._siblings is not None:
            await self._siblings.ask("take over", within_s=TAKE_OVER_S)

    async def _join(self, siblings: Siblings) -> None:
        """Become one of several: who asks any of them is answered the same."""
        shared = self._gateway.shared
        shared.residency.elsewhere = partial(siblings.ask, "uses", within_s=TOLD_S)
        shared.metrics.worker = siblings.name
        shared.metrics.elsewhere = partial(siblings.ask, "metrics", within_s=TOLD_S)
        shared.keyrings.elsewhere = partial(siblings.ask, "resting", within_s=TOLD_S)
        await siblings.listen()
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: _Leash(self.stop), sys.stdin)
        # The others do not ask who is not here yet.
        if await asyncio.to_thread(_stamps, self._watched) != self._seen:
            async with self._changing:
                await self._take_over()

    async def _taken_over(self) -> bool:
        """Whether what the configuration says now is served; else the old one stays, and the log says why."""
        async with self._changing:
            try:
                await self._take_over()
            except BridgeError as exc:
                log.error("the new configuration cannot be used; the old one stays", error=str(exc))  # noqa: TRY400
                return False
        return True

    async def _asked_for_uses(self) -> Uses:
        return self._gateway.shared.residency.uses()

    async def _asked_for_metrics(self) -> tuple[str, Mapping[str, object]]:
        metrics = self._gateway.shared.metrics
        return metrics.worker, metrics.totals.rows()

    async def _asked_who_rests(self) -> Resting:
        return self._gateway.shared.keyrings.resting()

    def _announce(self, config: Config) -> None:
        self._spawn(self._warm())
        self._spawn(self._watch())
        if self._discovery is not None:
            self._spawn(self._discover(self._discovery))
        self._spawn(watchdog())
        log.info("listening", url=self.url, models=len(self._gateway.registry.models()))
        if {provider.kind or name for name, provider in config.providers.items()} == {"demo"}:
            first = [variables[0] for variables in API_KEY_VARIABLES.values()][:3]
            log.info(
                "only the demo model answers until a key is set",
                names=", ".join(first),
                others=len(API_KEY_VARIABLES) - len(first),  # the README has them
            )
        if config.server.reaches_others and not config.demands_keys:
            log.warning(
                "other machines can reach this port, and spend on your keys; AUTH_TOKEN demands a key of them"
            )
        notify("READY=1")
        self.started.set()

    async def _end(self, runner: web.AppRunner) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await runner.cleanup()
        if self._retiring is not None:
            # What earlier configurations had, whose last answers have ended just now.
            await asyncio.wait({self._retiring})
        await self._gateway.retire()
        if self._siblings is not None:
            await self._siblings.aclose()

    async def _warm(self) -> None:
        """Import and exercise the SDKs behind the clients' back."""
        gateway = self._gateway
        try:
            await gateway.warm()
        except Exception as exc:  # noqa: BLE001 - the first request will say it to somebody who asked
            log.warning("a provider could not be loaded", error=str(exc))
        self._warmed.set()
        if self._owns_process:
            # A full collection over three SDKs stops the loop for a quarter of a second: out of its sight.
            gc.freeze()
            # What a request leaves is freed by reference counts; looking for cycles every 700 objects is a
            # visible part of a burst's cost.
            gc.set_threshold(50_000, 20, 50)
            gc.enable()

    async def _discover(self, discovery: Discovery) -> None:
        """Ask providers for their models, once nothing else is to be loaded; what they add comes in by `_watch`."""
        await self._warmed.wait()
        await discovery.forever(lambda: (self._config, self._gateway), self._has_changed)

    async def _watch(self) -> None:
        """Take over changes of the configuration, and say so when it cannot be used."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._reload.wait()
            stamps = await asyncio.to_thread(_stamps, self._watched)
            if stamps == self._seen and not self._reload.is_set():
                continue
            self._seen = stamps
            self._reload.clear()
            await self._taken_over()

    async def _take_over(self) -> None:
        """Read the configuration, and serve it if it has changed.

        Raises:
            BridgeError: It cannot be used, and the old one stays.
        """
        notify("RELOADING=1")
        try:
            new = await asyncio.to_thread(self._load)
            new.check_served()
            old = self._config
            if new != old:
                models = await asyncio.to_thread(new.completed)  # of thousands, not while others wait
                before = self._gateway
                self._gateway = assemble(new, before, siblings=self._siblings is not None, models=models)
                self._door = replace(_door(new), checks_host=self._door.checks_host)
                self._config = new
                self._has_changed.set()
                self._retiring = asyncio.create_task(_retire(before, self._gateway, behind=self._retiring))
                self._spawn(self._warm())
                log.info("configuration taken over", models=len(self._gateway.registry.models()))
                if _fixed(new.server) != _fixed(old.server):
                    log.warning("host, port and limits of the server change at the next start")
        finally:
            notify("READY=1")

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Leash(asyncio.Protocol):
    """Held by who started this process; it is let go when that one ends, in whatever way."""

    def __init__(self, let_go: Callable[[], None]) -> None:
        self._let_go = let_go

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """See `asyncio.BaseProtocol`."""
        self._let_go()


async def _retire(gateway: Gateway, successor: Gateway, *, behind: asyncio.Task[None] | None) -> None:
    """Close what `successor` has not taken over, behind all earlier gateways: what they handed on they may still use."""
    if behind is not None:
        await asyncio.wait({behind})
    await gateway.retire(successor)


@contextmanager
def _signals(stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """Handle signals while inside. Afterwards they do what they always do, so a second one ends at once."""
    loop = asyncio.get_running_loop()
    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def _stamps(paths: Iterable[Path]) -> list[tuple[int, int, int] | None]:
    """What changes when a file is written or replaced."""
    stamps: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return stamps


def _fixed(server: Server) -> tuple[object, ...]:
    """What holds until the process ends."""
    return server.host, server.port, server.max_body_bytes, server.drain_s


def _door(config: Config) -> Door:
    nameless = dict.fromkeys(config.server.api_keys, "")
    named = {key: name for name, key in config.clients.items()}
    return Door(
        Origins(config.server.origins),
        checks_host=not config.server.reaches_others,
        keys={digest_of(key.get_secret_value()): name for key, name in (nameless | named).items()},
    )
