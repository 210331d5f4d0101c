"""What an operator may get wrong, walked from end to end: real processes, as they are typed."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from running import ask

ROOT = Path(__file__).resolve().parents[1]
GOOD = """\
providers: {acme: {kind: openai, base_url: "http://127.0.0.1:9/v1", discover: false}}
budgets: {all: {daily: 5, instead: b}}
cache: {enabled: true, store: disk}
models:
  - {name: a, backend: acme, price: {input: 1, output: 2}, fallbacks: [b]}
  - {name: b, backend: demo, aliases: [bee]}
  - {name: demo, backend: demo}
"""
BAD = {
    "a budget of 0": ("daily: 5", "daily: 0", "2: budgets.all.daily must be greater than 0, not 0"),
    "a budget below 0": ("daily: 5", "monthly: -1", "2: budgets.all.monthly must be greater than 0, not -1"),
    "no number": ("daily: 5", "daily: lots", "2: budgets.all.daily must be a valid decimal, not 'lots'"),
    "a budget of a model": (
        "fallbacks: [b]",
        "budget: {hourly: 0}",
        "5: models[0].budget.hourly must be greater than 0, not 0",
    ),
    "a negative price": (
        "input: 1",
        "input: -0.5",
        "5: models[0].price.input must be greater than or equal to 0, not -0.5",
    ),
    "half a price": (", output: 2", "", "5: models[0].price.output is missing"),
    "a limit of 0": (
        "fallbacks: [b]",
        "requests_per_minute: 0",
        "5: models[0].requests_per_minute must be greater than 0, not 0",
    ),
    "an unknown fallback": (
        "fallbacks: [b]",
        "fallbacks: [beee]",
        "5: model 'a' falls back to 'beee', which does not exist; did you mean 'bee'?",
    ),
    "a fallback that is chosen for each request": (
        "fallbacks: [b]",
        "fallbacks: ['auto:chat']",
        ("5: model 'a' falls back to 'auto:chat', which does not exist: that is a name for whoever is chosen for a "
        "request; name one model"),
    ),
    "a model that is its own fallback": (
        "fallbacks: [b]",
        "fallbacks: [A]",
        "5: model 'a' falls back to itself: take one of them out",
    ),
    "a circle": (
        "aliases: [bee]",
        "fallbacks: [a]",
        "5: model 'a' falls back to itself, by way of 'b': take one of them out",
    ),
    "an unknown model instead": (
        "instead: b",
        "instead: c",
        "2: budgets.all.instead: there is no model 'c'; name one that is cheaper",
    ),
    "whoever is small instead": (
        "instead: b",
        "instead: small",
        ("2: budgets.all.instead: there is no model 'small': that is a name for whoever is chosen for a request; name "
        "one model"),
    ),
    "two models of one name": ("name: b", "name: 'A:latest'", "6: model name 'A:latest' is taken by model 'a'"),
    "an alias that is another's name": ("[bee]", "[a]", "6: alias 'a' of model 'b' is taken by model 'a'"),
    "an unknown key": ("daily: 5", "dayly: 5", "2: unknown key 'dayly'"),
    "a Redis that nobody names": (
        "store: disk",
        "store: state",
        "3: cache.store is 'state', and no Redis is named: set 'state' (or REDIS_ADDR), or choose 'disk'",
    ),
    "no address of a Redis": (
        "cache:",
        "state: http://x\ncache:",
        "3: state must be a redis://, rediss:// or unix:// address, or host:port",
    ),
}  # fmt: skip

UNPRIVILEGED = """
import ctypes, os, sys
if os.geteuid() == 0:  # root may write what nobody may write, unless it gives that up
    class Header(ctypes.Structure):
        _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
    assert ctypes.CDLL(None).capset(ctypes.byref(Header(0x20080522, 0)), (ctypes.c_uint32 * 6)()) == 0
from ollama_bridge.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    return path


def check(file):
    return subprocess.run(
        [sys.executable, "-m", "ollama_bridge", "config", "check", "--config", str(file)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_configuration_that_is_spoiled_below_is_fine(file):
    done = check(file)
    assert (done.returncode, done.stdout) == (0, "")
    assert "is fine: 3 models of acme, demo" in done.stderr


@pytest.mark.parametrize(("good", "bad", "said"), BAD.values(), ids=BAD)
def test_what_cannot_be_meant_is_refused(file, good, bad, said):
    """One line: the file, the line in it, what is wrong, and what to do; and exit code 2."""
    assert GOOD.count(good) == 1
    file.write_text(GOOD.replace(good, bad))
    done = check(file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: {file}:{said}"), done.stderr
    assert done.stderr.count("\n") == 1


@contextmanager
def serving(file):
    """`serve`, which may write no more than anybody may; its address, and a list that its log is in afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", UNPRIVILEGED, "serve", "--port", "0", "--config", str(file)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    log = []
    try:
        while "event=listening" not in "".join(log[-1:]):
            log.append(process.stderr.readline())
            assert log[-1], f"it ended: {log}"
        url = next(word.partition("=")[2] for word in log[-1].split() if word.startswith("url="))
        yield url, log
    finally:
        process.terminate()
        log += process.communicate(timeout=20)[1].splitlines()
    assert process.returncode == 0, log


def spoil(folder, how):
    """Files of state that were there before, and what they hold."""
    folder.mkdir(parents=True, mode=0o700)
    files = [folder / f"{name}.sqlite3" for name in ("state", "ledger", "cache", "reasoning")]
    if how == "read-only":
        folder.chmod(0o500)
        return files, [None] * len(files)
    for path in files:
        path.write_bytes(b"this is no database" * 1000)
    return files, [path.read_bytes() for path in files]


@pytest.mark.skipif(sys.platform != "linux", reason="the rights of processes are Linux's here")
@pytest.mark.parametrize("how", ["corrupt", "read-only"])
async def test_state_that_cannot_be_used_is_said_and_served_without(file, how):
    """Limits hold all the same, answers are kept in memory, each file is named once, and none is written."""
    file.write_text(f"limits: {{address: {{requests_per_hour: 3}}}}\n{GOOD}")
    folder = Path(os.environ["XDG_STATE_HOME"]) / "ollama-bridge"
    files, before = spoil(folder, how)
    question = {"model": "demo", "prompt": "hello", "stream": False, "options": {"temperature": 0}}
    try:
        with serving(file) as (url, log):
            got = [await ask(url, "POST", "/api/generate", question) for _ in range(5)]
        after = [path.read_bytes() if path.exists() else None for path in files]
    finally:
        folder.chmod(0o700)
    # A window that begins meanwhile counts what was asked before by its part, rounded down.
    assert [one.status for one in got] in ([200] * 3 + [429] * 2, [200] * 4 + [429])
    assert got[0].json["response"] == got[1].json["response"]
    assert after == before
    named = [sum(f"file={path}" in line and "warning" in line for line in log) for path in files]
    assert named[:3] == [1, 1, 1]
    assert named[3] <= 1  # nothing of the demo's is kept for later turns
    assert "Traceback" not in "".join(log)
