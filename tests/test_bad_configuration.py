"""What an operator may get wrong, walked from end to end: real processes, as they are typed."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from ollama_bridge.cli import main
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


PART = "is part of an address: letters, digits, '.', '_' and '-'"
SECRET = "sk-0123456789-secret"
BAD_PROVIDERS = {
    "a template of an address": (
        "{kind: cloudflare, base_url: 'https://api.example/{account}/v1'}",
        (
            "base_url must be the address itself: fill in what stands in braces, "
            "not 'https://api.example/{account}/v1'"
        ),
    ),
    "an address with a password": (
        "{kind: openai, base_url: 'htp://me:sk-0123456789-secret@x'}",
        "base_url must be an http:// or https:// address",
    ),
    "no account": (
        "{kind: cloudflare}",
        "nobody knows where Cloudflare Workers AI is: set providers.p.account or CLOUDFLARE_ACCOUNT_ID",
    ),
    "an account with a slash": ("{kind: cloudflare, account: a/b}", f"account {PART}, not 'a/b'"),
    "an account of no use": (
        "{kind: groq, account: a}",
        "account is of no use to kind 'groq', only to cloudflare, cloudflare-gateway, azure",
    ),
    "a gateway": ("{kind: cloudflare-gateway, account: a, gateway: 'x y'}", f"gateway {PART}, not 'x y'"),
    "a version": ("{kind: azure, account: a, api_version: '1?x'}", f"api_version {PART}, not '1?x'"),
    "a project": (
        "{kind: vertex, project: My Project}",
        "project must be a project's id, such as my-project-123456, not 'My Project'",
    ),
    "a location": (
        "{kind: vertex, project: my-project, location: eu/west}",
        f"location {PART}, not 'eu/west'",
    ),
    "no file of credentials": (
        f"{{kind: vertex, project: my-project, credentials: {SECRET}}}",
        "credentials must be the path of a file with Google credentials, JSON; there is no file at it",
    ),
    "a scope": (
        "{kind: gigachat, scope: A B}",
        "scope must be visible ASCII signs without spaces, not 'A B'",
    ),
    "no address of a token server": (
        f"{{kind: gigachat, token_url: 'ftp://x/{SECRET}'}}",
        "token_url must be an http:// or https:// address",
    ),
    "a password of a token server": (
        f"{{kind: gigachat, token_url: 'https://me:{SECRET}@x/'}}",
        "token_url must hold no user and no password: they would be shown",
    ),
    "no file of certificates": (
        f"{{kind: gigachat, ca_bundle: /nowhere/{SECRET}}}",
        "ca_bundle must be the path of a file of certificates, PEM; there is no file at it",
    ),
    "at once": ("{kind: groq, at_once: -1}", "at_once must be greater than or equal to 0, not -1"),
    "not at once": ("{kind: groq, at_once: many}", "at_once must be a whole number, not 'many'"),
    "a spacing": ("{kind: groq, spacing_s: 3601}", "spacing_s must be less than or equal to 3600, not 3601"),
    "discover": ("{kind: groq, discover: perhaps}", "discover must be true or false, not 'perhaps'"),
    "new models": (
        "{kind: groq, new_models: hidden}",
        "new_models must be 'enabled' or 'disabled', not 'hidden'",
    ),
    "include": ("{kind: groq, include: 3}", "include must be a list"),
    "exclude": ("{kind: groq, exclude: [a, '']}", "exclude[1] must not be empty, not ''"),
}
BAD_DISCOVERY = {
    "enabled: maybe": "enabled must be true or false, not 'maybe'",
    "refresh_h: 0": "refresh_h must be greater than or equal to 0.1, not 0",
    "new_models: some": "new_models must be 'enabled' or 'disabled', not 'some'",
}


def checked(file):
    done = CliRunner().invoke(main, ["config", "check", "--config", str(file)])
    assert (done.exit_code, done.stdout) == (2, "")
    return done.stderr.removesuffix("\n")


@pytest.mark.parametrize(("entry", "said"), BAD_PROVIDERS.values(), ids=BAD_PROVIDERS)
def test_what_cannot_be_meant_of_a_provider(file, entry, said):
    """The line, the key, what to do; and nothing of a value that may be a secret."""
    file.write_text(f"providers:\n  demo: {{}}\n  p: {entry}\n")
    where = "" if said.startswith("nobody") else "providers.p."
    told = checked(file)
    assert told == f"Error: {file}:3: {where}{said}"
    assert SECRET not in told


@pytest.mark.parametrize(("entry", "said"), BAD_DISCOVERY.items(), ids=BAD_DISCOVERY)
def test_what_cannot_be_meant_of_discovery(file, entry, said):
    file.write_text(f"providers: {{demo: {{}}}}\ndiscovery:\n  {entry}\n")
    assert checked(file) == f"Error: {file}:3: discovery.{said}"


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
