"""The store in a file: several processes, a kill, a clock that moves, and files that cannot be used."""

import asyncio
import math
import sqlite3
import stat
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from children import killed_at, python, said, small_disk
from ollama_bridge import sqlitefile
from ollama_bridge.store import embedded
from ollama_bridge.store.embedded import EmbeddedStore
from ollama_bridge.store.shelf import Granted, Purse, Rate, Refused
from stores import Clock

FAR_S = 4e9
BUDGET = Purse("all/day/1", 50, FAR_S)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "state.sqlite3"


async def spent_later(path, purses=(BUDGET,)):
    """What a daemon that starts now knows."""
    store = EmbeddedStore(path)
    try:
        return await store.spent(purses)
    finally:
        await store.aclose()


def rows(path, table):
    db = sqlite3.connect(path)
    try:
        return db.execute(f"SELECT * FROM {table}").fetchall()
    finally:
        db.close()


def run(script, *arguments, **how):
    """A process with a store of its own."""
    preamble = (
        "import asyncio, ctypes, pathlib, sys\n"
        "from ollama_bridge.store.embedded import EmbeddedStore\n"
        "from ollama_bridge.store.shelf import Granted, Purse, Rate\n"
        f"BUDGET = {BUDGET!r}\npath = pathlib.Path(sys.argv[1])\n"
    )
    return python(preamble, script, *arguments, **how)


async def test_nothing_is_made_until_something_is_asked(path):
    """Who limits nothing has no file."""
    await EmbeddedStore(path).aclose()
    assert not path.parent.exists()


async def test_only_its_owner_can_read_it(path):
    """The folder, the file, and those that SQLite keeps beside it."""
    store = EmbeddedStore(path)
    await store.take((), [BUDGET], wanted=1)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    await store.aclose()
    assert modes == {f"state.sqlite3{end}": 0o600 for end in ("", "-wal", "-shm")}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_it_is_there_after_a_restart(path):
    """Also what was settled just before the end."""
    store = EmbeddedStore(path)
    granted = await store.take([Rate("a", 5, 86_400, 5)], [BUDGET], wanted=30)
    for _ in range(10):
        store.settle(granted, (), [BUDGET], -2)
    await store.aclose()
    store.settle(granted, (), [BUDGET], -2)  # nobody hears this: it stays taken
    await store.aclose()
    assert await spent_later(path) == (10,)


HAMMER = """
async def main():
    store = EmbeddedStore(path)
    sys.stdin.readline()
    granted = 0
    for _ in range(40):
        answers = [store.take([Rate("a", 1000, 86400)], [BUDGET], wanted=1, least=1) for _ in range(10)]
        granted += sum(isinstance(answer, Granted) for answer in await asyncio.gather(*answers))
    await store.aclose()
    print(granted)
asyncio.run(main())
"""


async def test_processes_that_hammer_one_purse_get_exactly_what_is_in_it(path):
    """Three at once ask 1200 times for a purse of 50; they make the file at the same moment, too."""
    processes = [run(HAMMER, path, stdin=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    granted = [int(await said(process)) for process in processes]
    assert sum(granted) == 50
    assert await spent_later(path) == (50,)


async def test_a_kill_between_taking_and_settling_gives_nothing_away(path):
    """What was reserved stays spent; what was settled by then is settled."""
    process = run(
        """
        async def main():
            store = EmbeddedStore(path)
            granted = await store.take((), [BUDGET], wanted=20, least=20)
            store.settle(granted, (), [BUDGET], -15)
            for _ in range(4):
                await store.take((), [BUDGET], wanted=10, least=10)
            print("taken", flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
        """,
        path,
    )
    assert killed_at(process, bool) == "taken\n"
    store = EmbeddedStore(path)
    assert await store.spent([BUDGET]) == (45,)
    assert (await store.take((), [BUDGET], wanted=10, least=1)).amount == 5
    assert isinstance(await store.take((), [BUDGET], wanted=1, least=1), Refused)
    await store.aclose()


async def test_what_nobody_needs_any_more_is_deleted(path):
    """Windows, values, and purses a day after their end; not what still counts."""
    clock = Clock()
    store = EmbeddedStore(path, clock)
    ends = Purse("ends", 9, clock() + 10)
    await store.take([Rate("minute", 9, 60), Rate("day", 9, 86_400)], [ends, BUDGET], wanted=1)
    await store.put("short", b"x", ttl_s=5)
    await store.put("long", b"x", ttl_s=1e6)
    clock.now_s += 86_400 + 60
    await store.claim("x", ttl_s=1)
    await store.aclose()
    assert [row[0] for row in rows(path, "rate")] == ["day"]
    assert [row[0] for row in rows(path, "purse")] == ["all/day/1"]
    assert [row[0] for row in rows(path, "shelf")] == ["long", "x"]


async def test_a_clock_that_is_put_back_gives_nothing_away_and_blocks_nobody_for_ever(path):
    """A little: the window goes on; a lot: what was counted in that future is nonsense."""
    clock = Clock()
    store = EmbeddedStore(path, clock)
    rate = Rate("a", 10, 60, 10)
    assert isinstance(await store.take([rate], ()), Granted)
    clock.now_s -= 1
    assert (await store.take([rate], ())).left == 0
    clock.now_s -= 3600
    assert isinstance(await store.take([rate], ()), Granted)
    await store.aclose()


STEPS = st.lists(
    st.tuples(st.integers(0, 70), st.integers(0, 12), st.one_of(st.none(), st.integers(0, 200))), max_size=30
)


@given(steps=STEPS)
@settings(max_examples=60)
def test_through_all_windows_it_grants_what_fits_and_no_more(steps):
    """Takes, pauses and late settlements: the weighted count of two windows, as a list of takes has it."""
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        runner.run(_through_windows(Path(folder) / "state.sqlite3", steps))


async def _through_windows(path, steps):
    clock, limit = Clock(), 20
    store = EmbeddedStore(path, clock)
    taken, granted = {}, []
    for pause_s, cost, gives_back in steps:
        clock.now_s += pause_s
        number, spent_s = divmod(clock.now_s, 60)
        weighted = math.floor(taken.get(number - 1, 0) * (60 - spent_s) / 60 + taken.get(number, 0))
        answer = await store.take([Rate("a", limit, 60, cost)], ())
        assert isinstance(answer, Granted) == (weighted + cost <= limit)
        if isinstance(answer, Granted):
            taken[number] = taken.get(number, 0) + cost
            granted.append((answer, number, cost))
        else:
            assert answer.left == max(0, limit - weighted)
        if gives_back is not None and granted:
            answer, number, units = granted.pop(gives_back % len(granted))
            taken[number] -= units
            store.settle(answer, [Rate("a", limit, 60, -units)], (), 0)
    await store.aclose()


def _garbage(path):
    path.write_bytes(b"this is no database" * 1000)


def _half(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _scribbled(path):
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 20_000)


def _another_programs(path):
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE purse (something TEXT)")
    db.close()


def _another_versions(path):
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 7")
    db.close()


def _folder_in_its_place(path):
    path.unlink()
    path.mkdir()


def _file_in_the_folders_place(path):
    path.unlink()
    path.parent.rmdir()
    path.parent.write_text("")


@pytest.mark.parametrize(
    "spoil",
    [
        _garbage,
        _half,
        _scribbled,
        _another_programs,
        _another_versions,
        _folder_in_its_place,
        _file_in_the_folders_place,
    ],
)
async def test_a_file_that_cannot_be_used_is_said_once_and_left_as_it_is(path, spoil):
    """This process counts in memory, by the same rules; and not a byte of the file changes."""
    store = EmbeddedStore(path)
    for number in range(400):  # several pages
        await store.put(f"key {number}", bytes(100), ttl_s=1e9)
    await store.aclose()
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with capture_logs() as logs:
        store = EmbeddedStore(path)
        granted = await store.take([Rate("a", 3, 60, 3)], [BUDGET], wanted=40)
        assert granted.amount == 40
        store.settle(granted, (), [BUDGET], -10)
        assert isinstance(await store.take([Rate("a", 3, 60)], ()), Refused)
        assert (await store.take((), [BUDGET], wanted=40, least=1)).amount == 20
        await store.put("b", b"value", ttl_s=60)
        assert await store.get("b") == b"value"
        await store.aclose()
    warnings = [one for one in logs if one["log_level"] == "warning"]
    assert [one["file"] for one in warnings] == [str(path)]
    assert warnings[0]["error"]
    assert (path.read_bytes() if path.is_file() else None) == before


READ_ONLY = """
# Root may write what nobody may write, unless it gives that up.
class Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]
header, none = Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capset(ctypes.byref(header), none) == 0
async def main():
    store = EmbeddedStore(path)
    answers = [await store.take((), [BUDGET], wanted=20, least=1) for _ in range(3)]
    print([getattr(answer, "amount", None) for answer in answers])
    await store.aclose()
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the rights of processes are Linux's here")
@pytest.mark.parametrize("folder_too", [False, True])
async def test_a_file_that_cannot_be_written_is_gone_on_from(path, folder_too):
    """What it says is spent stays spent, it does not change, and this is said once."""
    store = EmbeddedStore(path)
    await store.take((), [BUDGET], wanted=20)
    await store.aclose()
    before = path.read_bytes()
    path.chmod(0o400)
    if folder_too:
        path.parent.chmod(0o500)
    out = await said(run(READ_ONLY, path))
    path.parent.chmod(0o700)
    assert "[20, 10, None]" in out
    assert out.count("by this process alone") == 1
    assert path.read_bytes() == before


async def test_a_full_disk_loses_no_count(path):
    """Memory goes on from what the file holds."""
    process = run(
        """
        async def main():
            store = EmbeddedStore(path)
            purse = Purse("many", 190, 4e9)
            amounts = 0
            for number in range(200):
                answer = await store.take([Rate(f"key {number}", 9, 86400)], [purse], wanted=1, least=1)
                amounts += getattr(answer, "amount", 0)
            print(amounts, await store.spent([purse]))
            await store.aclose()
        asyncio.run(main())
        """,
        path,
        preexec_fn=small_disk(100_000),
    )
    out = await said(process)
    assert "190 (190,)" in out
    assert out.count("by this process alone") == 1
    (written,) = await spent_later(path, [Purse("many", 0, FAR_S)])
    assert 0 < written < 190


async def test_a_file_that_somebody_else_holds_is_not_waited_for_for_ever(path, monkeypatch):
    """After a bounded time this process goes on from what it knows."""
    monkeypatch.setattr(embedded, "BUSY_S", 0.05)
    store = EmbeddedStore(path)
    await store.take((), [BUDGET], wanted=20)
    holder = sqlite3.connect(path, isolation_level=None)
    with capture_logs() as logs, sqlitefile.transaction(holder):
        assert (await store.take((), [BUDGET], wanted=40)).spent == (50,)
    holder.close()
    assert (await store.take((), [BUDGET], wanted=1)).amount == 0
    await store.aclose()
    assert [one["known"] for one in logs] == ["what the file says so far"]
    assert await spent_later(path) == (20,)


async def test_workers_that_wait_for_each_other_say_nothing(path):
    """A short wait is part of the day."""
    one, other = EmbeddedStore(path), EmbeddedStore(path)
    rate = Rate("a", 300, 86_400)
    with capture_logs() as logs:
        takes = [(one, other)[n % 2].take([replace(rate)], ()) for n in range(400)]
        answers = await asyncio.gather(*takes)
        await one.aclose()
        await other.aclose()
    assert logs == []
    assert sum(isinstance(answer, Granted) for answer in answers) == 300
