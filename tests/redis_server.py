"""A Redis of one's own: Debian's `redis-server` on a free port of loopback, without a disk; tests that need it skip."""

import asyncio
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """One server process at a time; what it holds is gone when it is killed."""

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self._folder = folder
        self._port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Begin to serve, the second time at the same port; returns when it accepts connections."""
        for _ in range(10):
            port = self._port or _free_port()
            self._process = await asyncio.create_subprocess_exec(
                PROGRAM,
                *("--bind", "127.0.0.1", "--port", str(port), "--dir", str(self._folder)),
                *("--save", "", "--appendonly", "no", "--logfile", "", "--daemonize", "no"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            async for line in self._process.stdout:
                if b"eady to accept connections" in line:
                    self._port = port
                    self.url = f"redis://127.0.0.1:{port}/0"
                    return
            await self._ended()  # somebody took that port
        raise AssertionError("redis-server does not start")

    async def kill(self) -> None:
        """SIGKILL: connections break, and all is forgotten."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._ended()

    async def restart(self) -> None:
        """Kill it and begin anew, empty."""
        await self.kill()
        await self.start()

    def pause(self) -> None:
        """Keep all connections, answer nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again, also what was asked meanwhile."""
        self._process.send_signal(signal.SIGCONT)

    async def _ended(self) -> None:
        # Reading to the end closes the pipe, so that nothing is left to the garbage collector.
        await self._process.communicate()


@asynccontextmanager
async def redis_server() -> AsyncIterator[RedisServer]:
    """A running server; skips the test where there is none."""
    if PROGRAM is None:
        pytest.skip("no redis-server on this machine; Debian has it in the package of that name")
    with TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            await server.start()
            yield server
        finally:
            await server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
