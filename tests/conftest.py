"""Every test starts from an empty environment and a home of its own, and reaches loopback only."""

import os
import socket

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is slow, and says nothing about the code.
settings.register_profile("bridge", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("bridge")

KEPT = {"PATH", "LANG", "LC_ALL", "TZ", "PYTEST_CURRENT_TEST", "COVERAGE_PROCESS_START", "CI", "VIRTUAL_ENV"}
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@pytest.fixture(autouse=True)
def _clean_machine(monkeypatch, tmp_path_factory):
    """No keys, no proxies, no configuration of the person who runs the tests."""
    home = tmp_path_factory.mktemp("home")
    for name in set(os.environ) - KEPT:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    for name, folder in {"CONFIG": ".config", "CACHE": ".cache", "STATE": ".state", "DATA": ".data"}.items():
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / folder))


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch):
    """A test that would reach the internet fails, and says so."""
    connect = socket.socket.connect

    def guarded(self, address):
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            raise AssertionError(f"a test wanted to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
