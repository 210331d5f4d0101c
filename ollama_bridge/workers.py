"""Several processes on one port, each a whole daemon, and the one that starts them again when they die.

It answers no client itself. A worker tells it through the very words that a daemon has for systemd (`sd_notify`),
and it tells systemd what holds for all of them.
"""

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog

from ollama_bridge.config import Config
from ollama_bridge.errors import ConfigError
from ollama_bridge.listening import reserve
from ollama_bridge.sd_notify import notify, watchdog

WORKER_VARIABLE: Final = "OLLAMA_BRIDGE_WORKER"
"""Tells a process that it is a worker: its socket (`siblings`)."""

_SOON_S: Final = 10.0
"""A worker that lives no longer has died at once."""
_MOST_DEATHS: Final = 5
"""So many such deaths in a row, and no worker that answers: it is given up."""
_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 30.0
_GRACE_S: Final = 15.0
"""Beyond `drain_s`, for a worker to end."""
_SAME_S: Final = 0.5
"""`timeout` and its like signal a process, and then its group: that is no second wish."""
_LONGEST_PATH: Final = 70
"""Of the folder: a socket's whole path has at most 104 bytes."""
_MISTAKE: Final = 2
"""Exit code of a process whose configuration cannot be used."""

log = structlog.get_logger(__name__)


def supervise(arguments: Sequence[str], count: int, config: Config) -> int:
    """Keep `count` workers running until told to stop.

    Args:
        arguments: Of `ollama-bridge`, without the port.
        count: How many workers.
        config: Whose `server` says where they listen; port 0: any free one, the same for all.

    Returns:
        The exit code.

    Raises:
        ConfigError: The port is taken, or cannot be shared.
    """
    config.check_served()
    server = config.server
    kept = reserve(server.host, server.port)
    port = kept[0].getsockname()[1]
    if sys.platform != "linux":
        log.warning("this system may give all connections to one of the workers: only Linux spreads them")
    command = (sys.executable, "-m", "ollama_bridge", *arguments, "--port", str(port))
    try:
        with _folder() as folder:
            return asyncio.run(Supervisor(command, count, folder, drain_s=server.drain_s).run())
    finally:
        for each in kept:
            each.close()


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for sockets that nobody else can open; gone afterwards."""
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - made with mkdtemp
        if not base or len(os.fsencode(base)) > _LONGEST_PATH:
            continue
        try:
            folder = Path(tempfile.mkdtemp(prefix="ollama-bridge-", dir=base))
        except OSError:
            continue  # systemd made it read-only, or there is none
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    raise ConfigError("there is no folder for the workers' sockets: set TMPDIR, or leave out --workers")


class Supervisor:
    """Starts workers, starts them again, and passes on what concerns all of them.

    Args:
        command: What starts one.
        count: How many.
        folder: For their sockets.
        drain_s: Seconds that a worker's running answers get to end.
    """

    def __init__(self, command: Sequence[str], count: int, folder: Path, *, drain_s: float) -> None:
        self._command = command
        self._folder = folder
        self._drain_s = drain_s
        self._numbers = range(1, count + 1)
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._ready: set[int] = set()
        self._heard_s: dict[int, float] = {}
        self._told = ""
        self._was_ready = False
        self._stopping = asyncio.Event()
        self._stopped_s = 0.0
        self._code = 0

    async def run(self) -> int:
        """Until told to stop, or given up; the exit code."""
        listening = [self._listen(number) for number in self._numbers]
        pulse = asyncio.create_task(watchdog())
        care = asyncio.create_task(self._care())
        try:
            with self._signals():
                async with asyncio.TaskGroup() as workers:
                    for number in self._numbers:
                        workers.create_task(self._keep(number))
        finally:
            pulse.cancel()
            care.cancel()
            await asyncio.gather(pulse, care, return_exceptions=True)
            for each in listening:
                asyncio.get_running_loop().remove_reader(each)
                each.close()
        return self._code

    # ------------------------------------------------------------------------------------------ one worker's life

    async def _keep(self, number: int) -> None:
        """Start a worker, and again whenever it ends."""
        deaths = 0
        while not self._stopping.is_set():
            began_s = time.monotonic()
            process = await self._start(number)
            code = await self._end_of(number, process)
            if self._stopping.is_set():
                return
            deaths = deaths + 1 if time.monotonic() - began_s < _SOON_S else 0
            log.warning("a worker ended", number=number, pid=process.pid, code=code, deaths_in_a_row=deaths)
            # A mistake in the configuration stays one; but workers that answer by an older one go on.
            is_mistake = code == _MISTAKE and not self._was_ready
            if is_mistake or (deaths >= _MOST_DEATHS and not self._ready):
                self._give_up(_MISTAKE if is_mistake else 1)
                return
            wait_s = min(_FIRST_WAIT_S * 2 ** max(deaths - 1, 0), _LONGEST_WAIT_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()

    async def _start(self, number: int) -> asyncio.subprocess.Process:
        # A group of its own: Ctrl-C in a terminal reaches this process alone, which then asks each worker once. Its
        # standard input ends with this process, however that ends.
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._environment(number),
            stdin=asyncio.subprocess.PIPE,
            process_group=0,
        )
        self._processes[number] = process
        log.info("worker started", number=number, pid=process.pid)
        if self._stopping.is_set():
            _let_go(process)
        return process

    async def _end_of(self, number: int, process: asyncio.subprocess.Process) -> int:
        """Wait for it; once all are to stop, no longer than they may take."""
        ending = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ending.done():
            await asyncio.wait({ending}, timeout=self._drain_s + _GRACE_S)
            if not ending.done():
                log.error("a worker does not end, and is killed", number=number, pid=process.pid)
                _signal(process, signal.SIGKILL)
        code = await ending
        del self._processes[number]
        self._ready.discard(number)
        self._heard_s.pop(number, None)
        return code

    def _environment(self, number: int) -> Mapping[str, str]:
        environ = {name: value for name, value in os.environ.items() if name != "WATCHDOG_PID"}
        return {
            **environ,
            WORKER_VARIABLE: str(self._folder / f"{number}.worker"),
            "NOTIFY_SOCKET": str(self._path(number)),
        }

    def _give_up(self, code: int) -> None:
        log.error("the workers cannot be kept running; giving up", workers=len(self._numbers))
        self._code = code
        self._stop()

    # ---------------------------------------------------------------------------------------------- what they tell

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.notify"

    def _listen(self, number: int) -> socket.socket:
        words = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        words.bind(str(self._path(number)))
        words.setblocking(False)
        asyncio.get_running_loop().add_reader(words, self._hear, number, words)
        return words

    def _hear(self, number: int, words: socket.socket) -> None:
        with suppress(BlockingIOError):
            while True:
                word = words.recv(4096)
                self._heard_s[number] = time.monotonic()
                if word == b"READY=1":
                    self._ready.add(number)
                elif word == b"RELOADING=1":
                    self._ready.discard(number)
                    if self._was_ready:
                        self._tell("RELOADING=1")
                if len(self._ready) == len(self._numbers):
                    self._tell("READY=1")

    def _tell(self, word: str) -> None:
        if word == self._told or self._stopping.is_set():
            return
        self._told = word
        notify(word)
        if word == "READY=1" and not self._was_ready:
            self._was_ready = True
            log.info("all workers listen", workers=len(self._numbers))

    async def _care(self) -> None:
        """Kill a worker whose event loop hangs, so that it is started again: its signs of life come from there."""
        usec = os.environ.get("WATCHDOG_USEC", "")
        if not usec.isdigit():
            return
        while True:
            await asyncio.sleep(int(usec) / 2_000_000)
            for number, heard_s in self._heard_s.items():
                if time.monotonic() - heard_s > int(usec) / 1_000_000 and not self._stopping.is_set():
                    log.error("a worker hangs, and is killed", number=number)
                    _signal(self._processes[number], signal.SIGKILL)

    # ------------------------------------------------------------------------------------------------- what they are told

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._all, signal.SIGHUP)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        """Let all of them drain; told once more, they end at once."""
        if self._stopping.is_set():
            if time.monotonic() - self._stopped_s > _SAME_S:
                self._all(signal.SIGTERM)
            return
        log.info("stopping", workers=len(self._processes))
        notify("STOPPING=1")
        self._stopped_s = time.monotonic()
        self._stopping.set()
        for process in self._processes.values():
            _let_go(process)

    def _all(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            _signal(process, number)


def _let_go(process: asyncio.subprocess.Process) -> None:
    """Have it drain. Not by a signal: systemd has sent one to all of us, and a second would end it at once."""
    if process.stdin is not None:
        process.stdin.close()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(number)
