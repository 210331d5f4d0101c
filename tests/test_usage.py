"""`ollama-bridge usage`: what the ledger adds up to, for eyes and for scripts."""

import asyncio
import csv
import io
import json
import sqlite3
import subprocess
import sys
import time
from datetime import datetime

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.cli import main
from ollama_bridge.cli.usage import Moment
from ollama_bridge.events import Usage
from ollama_bridge.ledger import ledger_path
from ollama_bridge.ledger.totals import GROUPS
from ollama_bridge.ledger.writer import Ledger
from ollama_bridge.record import CallRecord, Charge
from ollama_bridge.sqlitefile import Limits

USD = 10**9


@pytest.fixture(autouse=True)
def _new_york(monkeypatch):
    """A zone in which the day is another one than in UTC for some hours."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def call(when, model="claude", provider="anthropic", cost=0, *, client="laptop", first_ms=None, **more):
    usage = Usage(1000, 50, cached_read_tokens=600, cached_write_tokens=10, reasoning_tokens=5)
    charges = [Charge(provider, model, usage, cost, saved_nusd=USD // 8)] if provider else []
    more = {"outcome": "answered", "asked": "fast", "model": provider and model, **more}
    return CallRecord(
        began_s=datetime.fromisoformat(when).timestamp(),
        client=client,
        provider=provider,
        charges=charges,
        first_ms=first_ms,
        total_ms=1000.0,
        **more,
    )


CALLS = [
    call("2026-11-01T23:30-05:00", cost=USD, first_ms=100.0),
    call("2026-11-02T00:30-05:00", cost=2 * USD, first_ms=200.0),
    call("2026-11-02T12:00-05:00", cost=3 * USD, first_ms=400.0, client="ci"),
    call("2026-11-02T13:00-05:00", cost=None, first_ms=900.0, client="ci"),
    call("2026-11-02T14:00-05:00", "[red]gpt", "openai", None, outcome="left"),
    call("2026-11-02T15:00-05:00", provider="", outcome="limited", client="ci"),
    call("2026-11-02T16:00-05:00", provider="", cached="hit", first_ms=1.0, client="ci"),
]
ALL = ("--since", "2026-11-01")


@pytest.fixture
def run():
    def run(*args, code=0, env=None):
        result = CliRunner().invoke(main, ["usage", *args], env=env, prog_name="ollama-bridge")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.stderr
        return result

    return run


def keep(*calls):
    async def write():
        ledger = Ledger(ledger_path(), Limits(2**20, 1e12))
        for one in calls:
            ledger(one)
        await ledger.aclose()

    asyncio.run(write())


def test_in_a_pipe_it_is_plain_columns(run):
    """By day in the local zone, then by cost; `+` where some price is not known, `-` where nothing is."""
    keep(*CALLS)
    result = run(*ALL)
    assert result.stdout == (
        "day         model     calls  input  output  cached  cost_usd  saved_usd  first_ms\n"
        "2026-11-01  claude        1   1000      50     600    1.0000     0.1250       100\n"
        "2026-11-02  claude        3   3000     150    1800   5.0000+     0.3750       400\n"
        "2026-11-02  fast          2      0       0       0    0.0000     0.0000         1\n"
        "2026-11-02  [red]gpt      1   1000      50     600         -     0.1250         -\n"
    )
    assert result.stderr == ""


def test_on_a_terminal_it_is_a_table_with_a_sum(run, monkeypatch):
    """Names are shown as they are, whatever rich takes for markup."""
    keep(*CALLS)
    monkeypatch.setattr("ollama_bridge.cli.listing.on_a_terminal", lambda: True)
    lines = run(*ALL, "--by", "model", "--by", "client", env={"COLUMNS": "100"}).stdout.splitlines()
    assert [line.rstrip() for line in lines] == [
        "model     client  calls  input  output  cached  cost USD  saved USD  first ms",
        "claude    ci          2  2,000     100   1,200   3.0000+     0.2500       400",
        "claude    laptop      2  2,000     100   1,200    3.0000     0.2500       100",
        "fast      ci          2      0       0       0    0.0000     0.0000         1",
        "[red]gpt  laptop      1  1,000      50     600         -     0.1250         -",
        "all                   7  5,000     250   3,000   6.0000+     0.6250       200",
    ]


@pytest.mark.parametrize("width", [30, 40, 50, 60, 72, 80, 100, 140])
@pytest.mark.parametrize("by", [("model",), ("day", "model"), ("day", "model", "client")])
def test_on_a_narrow_terminal_no_number_is_cut(run, monkeypatch, width, by):
    """Columns are left out, the money last; names are folded, to the letter; no line is longer than the terminal."""
    name = "a-model-with-a-really-very-long-name-indeed-v2.5-preview"
    keep(call("2026-11-01T12:00-05:00", name, cost=12345 * USD + USD // 3), *CALLS)
    monkeypatch.setattr("ollama_bridge.cli.listing.on_a_terminal", lambda: True)
    args = [part for one in by for part in ("--by", one)]
    lines = run(*ALL, *args, env={"COLUMNS": str(width)}).stdout.splitlines()
    assert "…" not in "".join(lines)
    if width > 12 * len(by) + 14:
        assert max(map(len, lines)) <= width
        assert any("12,345.3333" in line for line in lines)
        assert any(line.startswith("all") and "12,351.3333+" in line for line in lines)
        at = 12 * by.index("model")
        assert name in "".join(line[at:].partition(" ")[0] for line in lines)


def test_for_scripts_it_is_an_object_a_line(run):
    """All there is to know, money in dollars."""
    keep(*CALLS)
    rows = [json.loads(line) for line in run(*ALL, "--by", "provider", "--json").stdout.splitlines()]
    assert rows[0] == {
        "provider": "anthropic",
        "calls": 4,
        "answered": 4,
        "refused": 0,
        "limited": 0,
        "failed": 0,
        "left": 0,
        "cached": 0,
        "estimated": 0,
        "unpriced": 1,
        "input_tokens": 4000,
        "output_tokens": 200,
        "cached_read_tokens": 2400,
        "cached_write_tokens": 40,
        "reasoning_tokens": 20,
        "cost_usd": 6.0,
        "saved_usd": 0.5,
        "first_ms": 200.0,
        "total_ms": 1000.0,
    }
    assert [
        (row["provider"], row["limited"], row["cached"], row["left"], row["cost_usd"]) for row in rows[1:]
    ] == [
        ("", 1, 1, 0, 0),
        ("openai", 0, 0, 1, None),
    ]


def test_for_spreadsheets_it_is_the_same_with_a_head(run):
    """Cells of what nobody knows are empty."""
    keep(*CALLS)
    rows = [json.loads(line) for line in run(*ALL, "--json").stdout.splitlines()]
    sheet = list(csv.DictReader(io.StringIO(run(*ALL, "--csv").stdout)))
    assert sheet == [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
    assert run("--csv", "--since", "2030-01-01").stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        (["--since", "2026-11-02"], 6),
        (["--since", "2026-11-01", "--until", "2026-11-01"], 1),
        (["--since", "2026-11-01", "--until", "2026-11-02"], 7),
        (["--since", "2026-11-02T12:30", "--until", "2026-11-02T14:00"], 1),
        (["--since", "2026-11-02T18:30+00:00"], 3),
        (["--since", "2026-11-01", "--until", "1m"], 7),
    ],
)
def test_a_span_of_time_is_local_and_half_open(run, options, calls):
    """A day alone is all of it, as an end too."""
    keep(*CALLS)
    rows = run("--by", "day", "--json", *options).stdout.splitlines()
    assert sum(json.loads(row)["calls"] for row in rows) == calls


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("24h", 86_400), ("7d", 604_800), (" 2w ", 1_209_600)]
)
def test_ago_is_counted_from_now(text, seconds):
    """Minutes, hours, days, weeks."""
    assert Moment().convert(text, None, None) == pytest.approx(time.time() - seconds, abs=60)


@given(st.text(max_size=20))
def test_any_text_is_a_time_or_a_mistake(text):
    """Never a traceback."""
    result = CliRunner().invoke(main, ["usage", f"--since={text}"], prog_name="ollama-bridge")
    assert result.exit_code in {0, 2}
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_without_calls_one_line_says_so(run):
    """On stderr, for scripts read the other; where there is no ledger, none is made."""
    result = run("--json")
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    assert result.stderr.startswith("no calls yet: 'ollama-bridge serve' ")
    assert not ledger_path().exists()
    keep(*CALLS)
    result = run("--since", "2030-01-01")
    assert result.stdout == ""
    assert result.stderr == "no calls in that time; --since reaches further back\n"


def _garbage(path):
    path.write_bytes(b"this is no database" * 1000)


def _newer(path):
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()


@pytest.mark.parametrize(
    "spoil", [_garbage, _newer, lambda path: path.mkdir()], ids=["garbage", "newer", "folder"]
)
def test_a_file_that_is_no_ledger_is_a_mistake_in_one_line(run, spoil):
    """With its name."""
    ledger_path().parent.mkdir(parents=True)
    spoil(ledger_path())
    result = run(code=2)
    assert result.stdout == ""
    assert str(ledger_path()) in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "moon"], "'moon' is not one of 'day', 'model', 'client', 'provider'"),
        (["--since", "yesterday"], "'yesterday' is no time such as 7d, 24h, 2026-11-01"),
        (["--json", "--csv"], "either --json or --csv"),
    ],
)
def test_a_mistake_is_one_line(run, options, message):
    result = run(*options, code=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_it_reads_while_a_daemon_writes(run):
    """In the middle of a transaction too: what was written before."""
    keep(*CALLS[:2])
    db = sqlite3.connect(ledger_path(), isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    db.execute("DELETE FROM call")
    assert json.loads(run(*ALL, "--by", "client", "--json").stdout)["calls"] == 2
    db.execute("ROLLBACK")
    db.close()


def test_it_loads_nothing_that_takes_long():
    """Neither the configuration nor a server, nor what draws tables."""
    code = (
        "import sys\nfrom ollama_bridge.cli import main\n"
        "main(['usage', '--json'], standalone_mode=False)\n"
        "print([name for name in ('pydantic', 'aiohttp', 'rich', 'asyncio', 'structlog') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_every_group_is_a_column(run):
    """Each alone, and all together."""
    keep(*CALLS)
    for by in (*([name] for name in GROUPS), list(GROUPS)):
        rows = run(*ALL, "--json", *(f"--by={name}" for name in by)).stdout.splitlines()
        assert sum(json.loads(row)["calls"] for row in rows) == len(CALLS)
        assert [*json.loads(rows[0])][: len(by)] == by
