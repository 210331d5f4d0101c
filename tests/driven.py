"""Client packages as the tests drive them, each in a process of its own; `tests/clients/` has their side.

What is not installed is skipped. `OLLAMA_BRIDGE_CLIENTS` names a folder with `node_modules` and with environments of
Python for packages that cannot live beside the bridge, as `.ci/run` makes it; where it is set nothing is skipped
but npm's packages on a machine without Node.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parent / "clients"
FOLDER = os.environ.get("OLLAMA_BRIDGE_CLIENTS")
PATIENCE_S = 50
OLDEST_NODE = 20


class Raised(Exception):
    """What the client raised."""


@dataclass(frozen=True)
class Client:
    """One client.

    Args:
        name: As the tests show it.
        script: In `tests/clients/`.
        package: What has to be importable; of npm the package's name.
        steps: What it can do besides chat, stream, tools, image and schema.
        own_python: The environment of Python under `OLLAMA_BRIDGE_CLIENTS` that has it; empty: the tests' own.
        swallows: An error in mid-stream is not told to whoever called; it only ends for no known reason.
        mute: Of an error's text nothing is shown either.
        joins_calls: Streamed calls of one turn are mixed up where they come in lines of their own, as Ollama sends them.
    """

    name: str
    script: str
    package: str
    steps: frozenset[str] = frozenset()
    own_python: str = ""
    swallows: bool = False
    mute: bool = False
    joins_calls: bool = False

    @property
    def lacking(self) -> str:
        """Why it cannot be driven here; empty when it can."""
        if self.own_python and not self._python.exists():
            return f"OLLAMA_BRIDGE_CLIENTS has no environment with {self.package}"
        if self.script.endswith(".mjs"):
            return self._lacking_of_node()
        top = self.package.partition(".")[0]  # of a missing package `find_spec` finds no part, and raises
        if not self.own_python and importlib.util.find_spec(top) is None:
            return f"{self.package} is not installed: pip install -e '.[clients]'"
        return ""

    def _lacking_of_node(self) -> str:
        if (node := shutil.which("node")) is None:
            return "there is no Node"
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.lstrip("v").split(".")[0]) < OLDEST_NODE:
            return f"Node {version.strip()} is older than {OLDEST_NODE}"
        if not (Path(FOLDER or "/nowhere") / "node_modules" / self.package).exists():
            return f"OLLAMA_BRIDGE_CLIENTS has no node_modules with {self.package}"
        return ""

    @property
    def _python(self) -> Path:
        return Path(FOLDER or "/nowhere") / self.own_python / "bin" / "python"

    def command(self, scripts: Path) -> list[str]:
        script = str(scripts / self.script)
        if self.script.endswith(".mjs"):
            return ["node", script]
        return [str(self._python) if self.own_python else sys.executable, script]


def _has_node_modules(client: Client) -> bool:
    """Whether what the client runs on was to be had; a machine may have no Node, or one that is too old."""
    return not client.script.endswith(".mjs") or (Path(FOLDER or "/nowhere") / "node_modules").exists()


class Driven:
    """A running client."""

    def __init__(self, command: list[str], home: Path) -> None:
        home.mkdir(exist_ok=True)
        self._errors = (home / "stderr").open("w+b")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"},
            cwd=home,
        )
        self.version = self._read()["version"]

    def ask(self, step: str, **order: Any) -> Any:
        """One step's result. Blocks.

        Raises:
            Raised: The client raised.
        """
        line = json.dumps({"step": step, **order}) + "\n"
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
        answer = self._read()
        if "raised" in answer:
            raise Raised(answer["raised"])
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        timer = threading.Timer(PATIENCE_S, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            self._errors.seek(0)
            raise AssertionError(f"the client ended: {self._errors.read()[-2000:].decode(errors='replace')}")
        return json.loads(line)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        with suppress(BrokenPipeError):  # it may have ended while it was written to
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


class Fleet:
    """The clients that run; each is started when it is first wanted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Driven] = {}
        self._scripts = folder / "scripts"
        shutil.copytree(SCRIPTS, self._scripts)
        if FOLDER:
            # Where an ES module looks for packages: above itself, and nowhere else.
            (self._scripts / "node_modules").symlink_to(Path(FOLDER) / "node_modules")

    def __getitem__(self, client: Client) -> Driven:
        driven = self._running.get(client.name)
        if driven and driven.alive:
            return driven
        if driven:
            driven.close()
        if client.lacking and not (FOLDER and _has_node_modules(client)):
            pytest.skip(client.lacking)
        assert not client.lacking, client.lacking
        self._running[client.name] = Driven(client.command(self._scripts), self._folder / client.name)
        return self._running[client.name]

    def close(self) -> None:
        for driven in self._running.values():
            driven.close()
