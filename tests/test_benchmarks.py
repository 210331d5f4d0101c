"""The benchmark programs run; what they measure is nobody's test."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).parent / "benchmarks"


def run(*arguments, program="run.py"):
    done = subprocess.run(
        [sys.executable, PROGRAMS / program, "--quick", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_floor_carries_every_wire():
    """Each fake provider's reply arrives whole through the relay, streamed and not, at once and paced."""
    rows = [json.loads(line) for line in run("--floor", "--json")]

    assert {row["wire"] for row in rows} == {"anthropic", "chat", "vendor", "responses", "google"}
    assert {row["figure"].partition(":")[0] for row in rows} == {
        "burst",
        "fresh",
        "first token",
        "paced",
        "once",
    }
    assert all(value > 0 for row in rows for value in row["relay"])


def test_a_table_holds_the_bridge_against_the_floor():
    """The daemon answers every word of every wire under load, and its goals stand beside its figures."""
    head, *rows = run("--only", "burst,paced,once")

    assert head.split() == ["figure", "wire", "bridge", "relay", "ratio", "(rounds)", "goals"]
    assert len(rows) == 5 * 5
    assert all(verdict in rows[0] for verdict in ("<= 4x (issue)", "<= 3x (house)"))


def test_policies_are_held_against_the_bare_waist():
    """Everything that can be configured is in force at once, and the program reads every reply to its end."""
    rows = [json.loads(line) for line in run("--json", program="policies.py")]

    assert [sorted(row["rounds"]) for row in rows] == [["all", "bare", "plain"]] * 2 + [["hit", "version"]]
    assert all(value > 0 for row in rows for values in row["rounds"].values() for value in values)
