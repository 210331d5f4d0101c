"""The processes of a benchmark: where they run, what they cost, and that they end.

Targets run on one CPU, the upstream and the load generator on another (where the system can pin), so that
what a target takes is not hidden in what the harness takes. Every child is a process of its own: Python's
one lock and one garbage collector are part of what is measured.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
START_S: Final = 30.0
"""Longest wait for a process to answer."""

Place = Literal["target", "harness"]


def pin(place: Place) -> None:
    """Move this process (and what it starts from now on) to the CPU of `place`, where the system can."""
    if hasattr(os, "sched_setaffinity") and len(_CPUS) > 1:
        os.sched_setaffinity(0, {_CPUS[0 if place == "target" else 1]})


_CPUS: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def cpu_s(pid: int) -> float:
    """CPU seconds that process has used, user and system, all its threads."""
    try:
        # The process's own CPU clock as clock_getcpuclockid(3) names it: nanoseconds, where /proc counts
        # ticks of 10 ms.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Resident memory of that process in MB (10^6 bytes)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass
class Child:
    """A process that was started, and the port it listens on."""

    process: subprocess.Popen[bytes]
    port: int
    spawned: float

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid


@dataclass
class Stage:
    """Everything a benchmark needs running, in one temporary folder.

    Args:
        folder: Home of the children: configuration, state and logs.
        upstream: The fake providers.
        relay: The floor.
    """

    folder: Path
    upstream: Child
    relay: Child

    @property
    def upstream_url(self) -> str:
        """Of the fake providers, without a path."""
        return f"http://127.0.0.1:{self.upstream.port}"


def bridge_config(upstream_url: str, wires: tuple[str, ...]) -> dict[str, Any]:
    """The bridge's configuration (JSON is YAML): a provider and a model `bench-<wire>` for each wire."""
    openai = {"kind": "openai", "api_key": "bench", "base_url": upstream_url + "/v1"}
    providers: dict[str, dict[str, Any]] = {
        "anthropic": {"api_key": "bench", "base_url": upstream_url},
        "chat": openai | {"api": "chat"},
        "vendor": openai | {"kind": "deepseek"},  # whose dialect is not OpenAI's
        "responses": openai | {"api": "responses"},
        "google": {"kind": "google", "api_key": "bench", "base_url": upstream_url},
    }
    models = {
        "anthropic": "claude-sonnet-5-5",
        "chat": "gpt-4.1",
        "vendor": "deepseek-chat",
        "responses": "gpt-5-mini",
        "google": "gemini-2.5-flash",
    }
    return {
        "discovery": {"enabled": False},  # what is measured is chat
        "providers": {wire: providers[wire] for wire in wires},
        "models": [
            {"name": f"bench-{wire}", "backend": wire, "backend_model": models[wire]} for wire in wires
        ],
    }


def environment(folder: Path) -> dict[str, str]:
    """Nothing of the person who runs this: a home of its own, no keys, no proxies."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
    homes = {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "CACHE", "STATE", "DATA")}
    return kept | homes | {"HOME": str(folder)}


def write_config(folder: Path, upstream_url: str, wires: tuple[str, ...]) -> Path:
    """Write the configuration where every command of the bridge finds it by itself."""
    path = folder / "config" / "ollama-bridge" / "config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bridge_config(upstream_url, wires), indent=2))
    return path


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], folder: Path, place: Place, port: int = 0) -> Iterator[Child]:
    """Start a Python program with `command`, and end it afterwards; `port` 0: it prints its own."""
    with (folder / f"{Path(command[0]).stem}.log").open("ab") as log:
        pin(place)
        spawned = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment(folder),
            stdout=log if port else subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        pin("harness")
    try:
        if not port:
            assert process.stdout is not None
            port = int(process.stdout.readline() or 0)
        yield Child(process, port, spawned)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_for(child: Child, folder: Path) -> float:
    """Seconds from the spawn to the first `GET /` that is answered with 200.

    Raises:
        RuntimeError: It ended, or did not answer in time; with the end of its log.
    """
    while time.perf_counter() - child.spawned < START_S and child.process.poll() is None:
        if get_root(child.port):
            return time.perf_counter() - child.spawned
        time.sleep(0.002)
    logs = "".join(path.read_text()[-3000:] for path in folder.glob("*.log"))
    raise RuntimeError(f"no answer on port {child.port}, exit code {child.process.poll()}\n{logs}")


def get_root(port: int) -> bool:
    """Whether `GET /` on a fresh connection is answered with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=START_S) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@contextmanager
def relay(folder: Path, upstream_url: str) -> Iterator[Child]:
    """The floor, running."""
    port = free_port()
    command = [str(HERE / "relay.py"), "--upstream", upstream_url, "--port", str(port)]
    with running(command, folder, "target", port) as child:
        yield child


@contextmanager
def bridge(folder: Path, upstream_url: str, wires: tuple[str, ...]) -> Iterator[Child]:
    """The daemon, starting, with a provider and a model for each of `wires`."""
    port, config = free_port(), write_config(folder, upstream_url, wires)
    command = ["-m", "ollama_bridge", "serve", "--config", str(config), "--port", str(port)]
    with running(command, folder, "target", port) as child:
        yield child


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Upstream and relay, ready."""
    with ExitStack() as stack:
        upstream = stack.enter_context(running([str(HERE / "upstreams.py")], folder, "harness"))
        floor = stack.enter_context(relay(folder, f"http://127.0.0.1:{upstream.port}"))
        wait_for(floor, folder)
        yield Stage(folder, upstream, floor)
