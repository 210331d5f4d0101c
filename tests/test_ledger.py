"""The ledger's file: a row for each call, bounded, and never in the way of an answer."""

import asyncio
import os
import sqlite3
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from children import killed_at, python, said, small_disk
from ollama_bridge.chat import ChatRequest
from ollama_bridge.events import Finish, TextDelta, Usage
from ollama_bridge.ledger import writer
from ollama_bridge.ledger.writer import Ledger
from ollama_bridge.policies.meter import Meter
from ollama_bridge.record import CallRecord, Charge
from ollama_bridge.sqlitefile import Limits
from scripted import SILENCE, ScriptedBackend
from test_meter import ENDINGS, Clock

MEGABYTE = 1024 * 1024
ROOMY = Limits(8 * MEGABYTE, 400 * 86_400.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "ledger.sqlite3"


def rows(path, what="*"):
    """What the file says, in the order it was written."""
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in db.execute(f"SELECT {what} FROM call ORDER BY id")]
    finally:
        db.close()


async def noted(path, *records, limits=ROOMY, **how):
    """Keep these calls, and close."""
    ledger = Ledger(path, limits, **how)
    for record in records:
        ledger(record)
    await ledger.aclose()


def warnings(logged):
    return [line for line in logged if line["log_level"] == "warning"]


async def test_a_row_says_what_the_call_came_to(path):
    """Tokens and money are those of all attempts; what nobody knows is NULL."""
    call = CallRecord(
        request_id="1a2b3c4d",
        surface="/api/chat",
        client="laptop",
        key="0badcafe",
        address="10.0.0.7",
        asked="fast:latest",
        model="slow:latest",
        provider="acme",
        target="acme-1",
        attempts=2,
        charges=[
            Charge("acme", "acme-1", Usage(10, 1, 2, 3, 4, 5), cost_nusd=7, saved_nusd=-2),
            Charge("acme", "acme-1", Usage(20, 6, 1, 1, 1, 0), cost_nusd=30, saved_nusd=12),
        ],
        outcome="answered",
        began_s=1_700_000_000.5,
        first_ms=12.5,
        total_ms=99.0,
    )
    await noted(path, call, limits=Limits(MEGABYTE, 1e12))
    unknown = CallRecord(outcome="left", cached="shared", charges=[Charge("a", "b", Usage(1))])
    await noted(path, unknown, limits=Limits(MEGABYTE, 1e12))
    first, second = rows(path)
    assert first == {
        "id": 1,
        "time": 1_700_000_000.5,
        "request_id": "1a2b3c4d",
        "surface": "/api/chat",
        "client": "laptop",
        "key": "0badcafe",
        "asked": "fast:latest",
        "model": "slow:latest",
        "provider": "acme",
        "target": "acme-1",
        "attempts": 2,
        "input_tokens": 30,
        "output_tokens": 7,
        "cached_read_tokens": 3,
        "cached_write_tokens": 4,
        "reasoning_tokens": 5,
        "cost_nusd": 37,
        "saved_nusd": 10,
        "is_estimated": 0,
        "first_ms": 12.5,
        "total_ms": 99.0,
        "outcome": "answered",
        "cached": "",
    }
    assert (second["cost_nusd"], second["first_ms"], second["cached"]) == (None, None, "shared")


@pytest.mark.parametrize(
    ("costs", "estimated", "cost", "is_estimated"),
    [
        ([], False, 0, 0),
        ([None], False, None, 0),
        ([5, None], False, 5, 1),
        ([5], True, 5, 1),
        ([10**40], False, 2**53, 0),
    ],
)
async def test_a_price_that_is_not_known_hides_no_other(path, costs, estimated, cost, is_estimated):
    """Where no provider was asked, nothing was paid; where a part is not known, the row is an estimate."""
    charges = [Charge("p", "m", Usage(10**40), cost_nusd, is_estimated=estimated) for cost_nusd in costs]
    await noted(path, CallRecord(charges=charges))
    assert rows(path, "cost_nusd, is_estimated") == [{"cost_nusd": cost, "is_estimated": is_estimated}]


async def test_rows_are_there_a_moment_later(path, monkeypatch):
    """Without the ledger being closed, and those that come one by one too."""
    monkeypatch.setattr(writer, "BATCH_S", 0)
    ledger = Ledger(path, ROOMY)
    for number in range(3):
        ledger(CallRecord(request_id=str(number)))
        async with asyncio.timeout(20):
            while not path.exists() or len(await asyncio.to_thread(written, path)) <= number:  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.005)
    await ledger.aclose()
    assert [row["request_id"] for row in rows(path)] == ["0", "1", "2"]


def written(path):
    try:
        return rows(path)
    except sqlite3.OperationalError:  # the file is there, and its table is not yet
        return []


async def test_nothing_is_made_until_somebody_calls(path):
    """A daemon that is asked nothing touches no disk."""
    await noted(path)
    assert not path.parent.exists()


async def test_only_its_owner_can_read_it(path):
    """The folder and the file, whatever the umask is."""
    umask = os.umask(0)
    try:
        await noted(path, CallRecord())
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_the_file_stays_within_its_bound_and_the_oldest_go_first(path):
    """By the time of the call, in whatever order they were written."""
    limits = Limits(MEGABYTE // 4, 1e9)
    calls = [CallRecord(request_id=f"{n:08}", began_s=1e9 + n, target="x" * 100) for n in range(3000)]
    for start in (1500, 0):
        for at in range(start, start + 1500, 300):
            await noted(path, *calls[at : at + 300], limits=limits, clock_s=lambda: 1e9)
    assert path.stat().st_size <= limits.size_bytes
    kept = sorted(int(row["request_id"]) for row in rows(path))
    assert kept == list(range(kept[0], 3000)), "without gaps: nothing newer went before something older"
    assert 400 < len(kept) < 1500


async def test_a_lower_bound_shrinks_the_file(path):
    """What is deleted is given back to the file system."""
    await noted(path, *(CallRecord(target="x" * 100) for _ in range(10_000)))
    before = path.stat().st_size
    await noted(path, CallRecord(request_id="last"), limits=Limits(MEGABYTE // 4, 1e9))
    assert before > MEGABYTE
    assert path.stat().st_size <= MEGABYTE // 4
    assert rows(path)[-1]["request_id"] == "last"


async def test_what_is_too_old_goes(path):
    """With the next row that is written."""
    clock = Clock()
    days = [CallRecord(request_id=str(day), began_s=clock.now_s + day * 86_400) for day in range(6)]
    clock.now_s += 5 * 86_400
    await noted(path, *days, limits=Limits(MEGABYTE, 2.5 * 86_400), clock_s=clock)
    assert [row["request_id"] for row in rows(path)] == ["3", "4", "5"]


def _garbage(path):
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 1000)


async def _half(path):
    """A ledger whose middle is gone."""
    await noted(path, *(CallRecord(target="x" * 500) for _ in range(200)))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 60_000)


def _somebody_elses(path):
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE call (something TEXT)")
    db.close()


def _newer(path):
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE call (something TEXT)")
    db.execute("PRAGMA user_version = 99")
    db.close()


def _folder_in_its_place(path):
    path.mkdir(parents=True)


def _file_in_the_folders_place(path):
    path.parent.write_text("")


def _dangling(path):
    path.parent.mkdir()
    path.symlink_to(path.parent / "no" / "such" / "file")


@pytest.mark.parametrize(
    "spoil",
    [_garbage, _half, _somebody_elses, _newer, _folder_in_its_place, _file_in_the_folders_place, _dangling],
)
async def test_a_file_that_cannot_be_used_is_one_warning_and_stays_as_it_is(path, spoil, monkeypatch):
    """Nothing raises, however many calls there are; the file is whoever's it was."""
    monkeypatch.setattr(writer, "BATCH_S", 0)
    if spoiling := spoil(path):
        await spoiling
    before = path.read_bytes() if path.is_file() else None
    with capture_logs() as logged:
        ledger = Ledger(path, ROOMY)
        for _ in range(3):
            ledger(CallRecord())
            await ledger._lane.do(int)  # behind what is under way
        await ledger.aclose()
    assert [line["file"] for line in warnings(logged)] == [str(path)]
    assert warnings(logged)[0]["error"]
    if spoil is _half:  # what can still be written to goes on a little, in its place
        assert path.stat().st_size >= len(before)
    else:
        assert (path.read_bytes() if path.is_file() else None) == before


async def test_it_is_tried_again_after_a_while(path, monkeypatch):
    """The operator moved what was in the way, or made room: the log says how much is missing."""
    monkeypatch.setattr(writer, "BATCH_S", 0)
    _garbage(path)
    clock = Clock()

    async def call(request_id):
        ledger(CallRecord(request_id=request_id))
        await ledger._lane.do(int)

    with capture_logs() as logged:
        ledger = Ledger(path, ROOMY, monotonic_s=clock)
        await call("lost")
        path.unlink()
        await call("lost too")
        assert not path.exists(), "not tried with every call"
        clock.now_s += writer.PAUSE_S
        await call("kept")
        path.unlink()
        await ledger.aclose()
    assert [line["event"].partition(";")[0] for line in logged] == [
        "the ledger cannot be written",
        "the ledger is written again",
    ]
    assert logged[1]["lost"] == 2


async def test_rows_wait_for_whoever_is_busy_with_the_file(path, monkeypatch):
    """Somebody who looks into it by hand, and holds it for a while, costs no row and no warning."""
    monkeypatch.setattr(writer, "BATCH_S", 0)
    monkeypatch.setattr(writer, "_BUSY_S", 0)
    await noted(path, CallRecord(request_id="before"))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with capture_logs() as logged:
        ledger = Ledger(path, ROOMY)
        ledger(CallRecord(request_id="first"))
        for _ in range(3):
            await ledger._lane.do(int)
        ledger(CallRecord(request_id="second"))
        other.execute("COMMIT")
        other.close()
        await ledger.aclose()
    assert [row["request_id"] for row in rows(path)] == ["before", "first", "second"]
    assert logged == []


async def test_what_waits_is_bounded(path, monkeypatch):
    """A disk that hangs does not fill the memory."""
    monkeypatch.setattr(writer, "MOST_WAITING", 5)
    with capture_logs() as logged:
        await noted(path, *(CallRecord() for _ in range(50)))
    assert len(rows(path)) == 5
    assert [line.get("lost") for line in logged] == [None, 45]


def run(script, *arguments, **how):
    """A process with a ledger of its own."""
    preamble = (
        "import asyncio, sys, pathlib\nfrom ollama_bridge.ledger.writer import Ledger\n"
        "from ollama_bridge.sqlitefile import Limits\nfrom ollama_bridge.record import CallRecord\n"
        f"ROOMY = Limits({ROOMY.size_bytes}, {ROOMY.age_s})\npath = pathlib.Path(sys.argv[1])\n"
    )
    return python(preamble, script, *arguments, **how)


async def test_a_full_disk_is_one_warning(path):
    """What was written before stays readable."""
    process = run(
        """
        async def main():
            ledger = Ledger(path, ROOMY)
            ledger._closing.set()  # batches need not wait
            for number in range(40):
                for _ in range(50):
                    ledger(CallRecord(target="x" * 300))
                await ledger._lane.do(int)
            await ledger.aclose()
        asyncio.run(main())
        """,
        path,
        preexec_fn=small_disk(300_000),
    )
    out = await said(process)
    assert out.count("the ledger cannot be written") == 1
    assert 50 <= len(rows(path)) < 2000


async def test_a_killed_daemon_loses_at_most_its_last_batch(path):
    """SIGKILL in the middle of writing: all earlier rows are there, once each, and the file is whole."""
    process = run(
        """
        async def main():
            ledger = Ledger(path, ROOMY)
            ledger._closing.set()
            for number in range(10_000):
                for one in range(20):
                    ledger(CallRecord(request_id=str(number * 20 + one)))
                await ledger._lane.do(int)
                print((number + 1) * 20, flush=True)
        asyncio.run(main())
        """,
        path,
    )
    there = int(killed_at(process, lambda line: int(line) >= 600))
    numbers = [int(row["request_id"]) for row in rows(path)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= there
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


async def test_several_daemons_write_to_one_file(path):
    """They make it at the same moment, write at the same time, and no row of any of them is lost."""
    processes = [
        run(
            """
            async def main():
                ledger = Ledger(path, ROOMY)
                for number in range(600):
                    ledger(CallRecord(request_id=f"{sys.argv[2]} {number}"))
                    if not number % 100:
                        await asyncio.sleep(0.1)
                await ledger.aclose()
            asyncio.run(main())
            """,
            path,
            name,
        )
        for name in "abc"
    ]
    for process in processes:
        assert await said(process) == ""
    found = sorted(row["request_id"] for row in rows(path))
    assert found == sorted(f"{name} {number}" for name in "abc" for number in range(600))


SAID = st.lists(
    st.sampled_from([TextDelta("one"), Finish(), SILENCE, *(fault for fault, _ in ENDINGS)]), max_size=4
)


@settings(max_examples=30)
@given(st.lists(st.tuples(SAID, st.integers(1, 5)), max_size=8))
def test_there_are_as_many_rows_as_calls(calls):
    """However they end, and however often the daemon was started anew meanwhile."""

    async def listen(reply, reads):
        try:
            for _ in range(reads):
                await anext(reply, None)
        finally:
            await reply.aclose()

    async def main(path):
        outcomes = []
        for number, (script, reads) in enumerate(calls):
            ledger = Ledger(path, ROOMY)
            request = ChatRequest("m", record=CallRecord(request_id=str(number)))
            task = asyncio.create_task(listen(Meter(ScriptedBackend(script), [ledger]).chat(request), reads))
            for _ in range(10):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await ledger.aclose()
            outcomes.append({"request_id": str(number), "outcome": request.record.outcome})
        assert (rows(path, "request_id, outcome") if calls else []) == outcomes

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(main(Path(folder) / "ledger.sqlite3"))
