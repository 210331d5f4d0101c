"""The unit file: systemd accepts it, and it agrees with the daemon."""

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ollama_bridge.cli.serve import serve
from ollama_bridge.config import Server
from ollama_bridge.sd_notify import notify

UNIT = Path(__file__).resolve().parents[1] / "systemd" / "ollama-bridge.service"

MOUNTS = {"BindPaths", "BindReadOnlyPaths", "RootDirectory", "TemporaryFileSystem", "PrivateUsers"}
"""What keeps a user service from starting where user namespaces are forbidden, instead of being ignored."""

BOUNDING = {
    "PrivateDevices",
    "ProtectClock",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "CapabilityBoundingSet",
}
"""What drops capabilities, which a user's own systemd may not."""


@pytest.fixture
def service():
    unit = configparser.ConfigParser(strict=True, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign] - the documented way
    unit.read_string(UNIT.read_text())
    return unit["Service"]


def test_it_starts_the_daemon_as_a_user_would(service):
    """`serve`, without options that it does not have, from where pipx and uv install it."""
    program, command, *options = shlex.split(service["ExecStart"])
    assert program == "%h/.local/bin/ollama-bridge"
    assert command == serve.name
    assert {option for option in options if option.startswith("-")} <= {
        name for parameter in serve.params for name in parameter.opts
    }


def test_it_waits_for_what_the_daemon_says(service, monkeypatch, tmp_path):
    """READY and WATCHDOG come from the main process, and a stop takes longer than the drain."""
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert int(service["WatchdogSec"]) == 30
    assert int(service["TimeoutStopSec"]) > Server().drain_s
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not notify("READY=1")


def test_it_starts_again_after_a_failure_but_not_after_a_mistake(service, tmp_path):
    """The exit code of a configuration that cannot be used is the one that systemd does not try again."""
    assert service["Restart"] == "on-failure"
    (tmp_path / "config.yaml").write_text("nonsense: 1\n")
    command = [sys.executable, "-m", "ollama_bridge", "serve", "--config", str(tmp_path / "config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert str(done.returncode) in service["RestartPreventExitStatus"].split()
    assert "unknown key 'nonsense'" in done.stderr


def test_it_is_hardened_with_what_user_services_can_have(service):
    """What must hold is there; what would keep it from starting for an ordinary user is not."""
    wanted = {
        "NoNewPrivileges": "yes",
        "LockPersonality": "yes",
        "MemoryDenyWriteExecute": "yes",
        "RestrictNamespaces": "yes",
        "SystemCallFilter": "@system-service",
        "ProtectSystem": "strict",
        "ProtectHome": "read-only",
        "PrivateTmp": "yes",
    }
    assert {key: service.get(key) for key in wanted} == wanted
    assert set(service["RestrictAddressFamilies"].split()) == {"AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"}
    assert not (MOUNTS | BOUNDING) & set(service)
    assert not service.get("EnvironmentFile"), "the daemon reads .env by itself, and follows its changes"


def test_systemd_accepts_it(tmp_path, monkeypatch):
    """`systemd-analyze verify` knows every key and value."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd on this machine")
    program = tmp_path / ".local" / "bin" / "ollama-bridge"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    done = subprocess.run(
        [analyze, "verify", "--user", str(UNIT)],
        env={**os.environ, "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(run)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if "Failed to initialize manager" in done.stderr:
        pytest.skip("systemd-analyze cannot run here")
    assert (done.returncode, done.stderr) == (0, "")
