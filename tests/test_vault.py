"""The vault: bounded, there after a restart, and never in the way of an answer."""

import asyncio
import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections import deque
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from structlog.testing import capture_logs

from children import killed_at, python, said, small_disk
from ollama_bridge.store.file_depot import FileDepot
from ollama_bridge.vault import Limits, Vault

MEGABYTE = 1024 * 1024
ROOMY = Limits(8 * MEGABYTE, 86_400.0)


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now_s = 1_000_000.0

    def __call__(self):
        return self.now_s


def opened(path, limits=ROOMY, *, clock_s=time.time, **how):
    """A vault whose depot is that file."""
    return Vault(limits, FileDepot(path, limits, holds="things", clock_s=clock_s), clock_s=clock_s, **how)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "vault.sqlite3"


async def closed(vault):
    """What is in the file once everything is written."""
    await vault.aclose()


async def found_later(path, keys, limits=ROOMY, **how):
    """What a daemon that starts now finds."""
    vault = opened(path, limits, **how)
    try:
        return await vault.find(keys)
    finally:
        await vault.aclose()


async def test_what_is_put_is_found_at_once_and_after_a_restart(path):
    """Under each of its keys; other keys find nothing."""
    vault = opened(path)
    vault.put([b"a", b"b", b"a"], b"one")
    vault.put([b"c"], b"two")
    want = {b"a": b"one", b"b": b"one", b"c": b"two"}
    assert await vault.find([b"a", b"b", b"c", b"d"]) == want
    await vault.aclose()
    assert await found_later(path, [b"a", b"b", b"c", b"d"]) == want


class Interrupted(deque):
    """Writes that wait, to which one is added just as the first is taken."""

    def popleft(self):
        if self.interrupt is not None:
            interrupt, self.interrupt = self.interrupt, None
            interrupt()
        return super().popleft()


async def test_what_is_put_while_others_are_written_is_written_too(path):
    """It is in the file without anything being put after it, and without the vault being closed."""
    vault = opened(path)
    vault._depot._waiting = waiting = Interrupted()
    waiting.interrupt = lambda: vault.put([b"b"], b"two")
    vault.put([b"a"], b"one")
    await vault.find([b"nothing"])  # a look at the disk comes behind all that waits to be written
    await vault.find([b"nothing else"])
    assert await found_later(path, [b"a", b"b"]) == {b"a": b"one", b"b": b"two"}
    await vault.aclose()


async def test_the_newest_value_counts(path):
    """A key that is put again leads to the new value, its sisters still to the old one."""
    vault = opened(path)
    vault.put([b"a", b"b"], b"old")
    vault.put([b"b"], b"new")
    vault.forget([b"a"])
    await vault.aclose()
    assert await found_later(path, [b"a", b"b"]) == {b"b": b"new"}
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM vault").fetchone() == (1,), "no value is left without a key"
    db.close()


async def test_nothing_is_made_until_something_is_asked(path):
    """A daemon without a conversation that needs it touches no disk."""
    vault = opened(path)
    vault.forget([])
    assert await vault.find([]) == {}
    await vault.aclose()
    assert not path.exists()


async def test_only_its_owner_can_read_it(path):
    """The folder and all files in it, whatever the umask is and was."""
    path.parent.mkdir(mode=0o755)
    umask = os.umask(0)
    try:
        vault = opened(path)
        vault.put([b"a"], b"one")
        assert await vault.find([b"a", b"b"]) == {b"a": b"one"}
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        await vault.aclose()
    finally:
        os.umask(umask)
    assert modes == dict.fromkeys(["vault.sqlite3", "vault.sqlite3-wal", "vault.sqlite3-shm"], 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_the_file_stays_within_its_bound_and_what_was_used_last_stays(path):
    """The oldest go first; one that is read is no longer old."""
    clock = Clock()
    limits = Limits(MEGABYTE, 86_400.0 * 365)
    vault = opened(path, limits, clock_s=clock)
    value = os.urandom(20_000)
    vault.put([b"first"], value)
    for number in range(100):
        clock.now_s += 7200
        vault.put([b"%d" % number], value + b"%d" % number)
        assert await vault.find([b"first"])
    await vault.aclose()
    assert path.stat().st_size <= limits.size_bytes
    found = await found_later(path, [b"first", *(b"%d" % n for n in range(100))], limits, clock_s=clock)
    assert found[b"first"] == value
    numbers = sorted(int(key) for key in found if key != b"first")
    assert numbers == list(range(numbers[0], 100)), "without gaps: nothing newer went before something older"
    assert 30 < len(numbers) < 60


async def test_what_was_not_used_for_long_is_gone(path):
    """In memory, from the disk, and at last out of the file."""
    clock = Clock()
    vault = opened(path, clock_s=clock)
    vault.put([b"a"], b"old")
    clock.now_s += ROOMY.age_s + 1
    assert await vault.find([b"a"]) == {}
    await vault.aclose()
    assert await found_later(path, [b"a"], clock_s=clock) == {}
    vault = opened(path, clock_s=clock)
    vault.put([b"b"], b"new")
    await vault.aclose()
    assert b"old" not in await _rows(path)


async def _rows(path):
    db = sqlite3.connect(path)
    try:
        return [row[0] for row in db.execute("SELECT value FROM vault")]
    finally:
        db.close()


async def test_what_is_put_again_and_again_is_looked_for_again(path):
    """Another daemon may have made it meanwhile."""
    one, two = (opened(path, renewed=False) for _ in range(2))
    assert await two.find([b"a"]) == {}
    one.put([b"a"], b"value")
    await one.aclose()
    assert await two.find([b"a"]) == {b"a": b"value"}
    await two.aclose()


async def test_what_another_daemon_renewed_is_read_once(path):
    """Then memory has the new value instead of the one that is too old."""
    clock = Clock()
    one, two = (opened(path, Limits(MEGABYTE, 60.0), clock_s=clock) for _ in range(2))
    one.put([b"a"], b"old")
    assert await one.find([b"nothing"]) == {}  # behind what waits to be written
    clock.now_s += 61
    two.put([b"a"], b"new")
    await two.aclose()
    assert await one.find([b"a"]) == {b"a": b"new"}
    await one.aclose()
    assert await one.find([b"a"]) == {b"a": b"new"}


async def test_without_a_depot_memory_holds_all_of_it():
    """Up to its limit, for its time, and nothing lasts."""
    clock = Clock()
    vault = Vault(Limits(MEGABYTE, 60.0), renewed=False, clock_s=clock)
    for number in range(100):
        vault.put([b"%d" % number], bytes(20_000))
    found = await vault.find([b"%d" % number for number in range(100)])
    assert list(found) == [b"%d" % number for number in range(100 - len(found), 100)]
    assert 45 < len(found) < 55
    clock.now_s += 61
    assert await vault.find([b"99"]) == {}
    await vault.aclose()


async def test_a_value_too_large_for_it_is_not_kept(path):
    """It would throw everything else out."""
    vault = opened(path, Limits(MEGABYTE, 60.0))
    vault.put([b"small"], b"x")
    vault.put([b"large"], bytes(MEGABYTE))
    assert await vault.find([b"small", b"large"]) == {b"small": b"x"}
    await vault.aclose()


async def test_memory_is_bounded_too(path):
    """What memory had to give up comes from the disk."""
    vault = opened(path, memory_bytes=5_000)
    for number in range(50):
        vault.put([b"%d" % number], bytes(1000) + b"%d" % number)
    assert vault._memory._bytes <= 5_000
    assert len(await vault.find([b"%d" % number for number in range(50)])) == 50
    await vault.aclose()


def _garbage(path):
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 1000)


def _half(path):
    """A database whose middle is gone."""
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE vault (id INTEGER PRIMARY KEY, value BLOB NOT NULL, used REAL NOT NULL)")
    db.executemany("INSERT INTO vault (value, used) VALUES (?, 1e12)", [(bytes(3000),)] * 50)
    db.commit()
    db.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 60_000)


def _folder_in_its_place(path):
    path.mkdir(parents=True)


def _file_in_the_folders_place(path):
    path.parent.write_text("")


def _another_schema(path):
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE vault (something TEXT)")
    db.close()


@pytest.mark.parametrize(
    "spoil", [_garbage, _half, _folder_in_its_place, _file_in_the_folders_place, _another_schema]
)
async def test_a_file_that_cannot_be_used_leaves_memory_and_one_warning(path, spoil):
    """Nothing raises, what is put is found, and what is wrong is said once."""
    spoil(path)
    with capture_logs() as logs:
        vault = opened(path)
        assert await vault.find([b"z"]) == {}
        for number in range(5):
            vault.put([b"%d" % number], b"value")
            assert await vault.find([b"%d" % number, b"y"]) == {b"%d" % number: b"value"}
        await vault.aclose()
    warnings = [one for one in logs if one["log_level"] == "warning"]
    assert [one["file"] for one in warnings] == [str(path)]
    assert warnings[0]["error"]


def run(script, *arguments, **how):
    """A process with a vault of its own."""
    preamble = (
        "import asyncio, pathlib, sys\nfrom ollama_bridge.vault import Limits\n"
        "from ollama_bridge.store.vaults import vault_at\n"
        f"ROOMY = Limits({ROOMY.size_bytes}, {ROOMY.age_s})\npath = pathlib.Path(sys.argv[1])\n"
        "def opened(path):\n    return vault_at(path, ROOMY, holds='x', prefix='x', renewed=True, before=None)\n"
    )
    return python(preamble, script, *arguments, **how)


async def test_a_full_disk_leaves_memory_and_one_warning(path):
    """What no longer fits on the disk is found nevertheless; what was written before stays readable."""
    process = run(
        """
        async def main():
            vault = opened(path)
            for number in range(60):
                vault.put([b"%d" % number], bytes(20_000))
                await vault.find([b"%d" % number, b"nothing %d" % number])
            found = await vault.find([b"%d" % number for number in range(60)])
            print("found", len(found))
            await vault.aclose()
        asyncio.run(main())
        """,
        path,
        preexec_fn=small_disk(300_000),
    )
    out = await said(process)
    assert "found 60" in out
    assert out.count("kept in memory only") == 1
    assert await found_later(path, [b"0"]) == {b"0": bytes(20_000)}


async def test_a_killed_daemon_loses_at_most_its_last_moments(path):
    """SIGKILL in the middle of writing: what was written by then is whole, and the file is."""
    process = run(
        """
        async def main():
            vault = opened(path)
            for number in range(100_000):
                vault.put([b"%d" % number], b"value %d " % number * 200)
                if not number % 20:
                    # A look at the disk comes behind all that waits to be written.
                    await vault.find([b"nothing %d" % number])
                    print(number, flush=True)
        asyncio.run(main())
        """,
        path,
    )
    killed_at(process, lambda line: int(line) >= 500)
    keys = [b"%d" % number for number in range(501)]
    assert await found_later(path, keys) == {key: (b"value " + key + b" ") * 200 for key in keys}
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


async def test_several_daemons_share_one_file(path):
    """They open it at the same moment, write at the same time, and nothing of any of them is lost."""
    processes = [
        run(
            """
            async def main():
                vault = opened(path)
                for number in range(200):
                    vault.put([b"%s %d" % (sys.argv[2].encode(), number)], b"value" * 100)
                    if not number % 10:
                        await vault.find([b"nothing %d" % number])
                await vault.aclose()
            asyncio.run(main())
            """,
            path,
            name,
        )
        for name in "abc"
    ]
    for process in processes:
        assert await said(process) == ""
    keys = [f"{name} {number}".encode() for name in "abc" for number in range(200)]
    assert await found_later(path, keys) == dict.fromkeys(keys, b"value" * 100)


KEYS = st.sampled_from([b"%d" % number for number in range(12)])


class AgainstADict(RuleBasedStateMachine):
    """However it is used, restarted and squeezed, it says what a dict says, as long as nothing has to go."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.clock = Clock()
        self.runner = asyncio.Runner()
        self.model = {}
        self._open()

    def _open(self):
        path = Path(self.folder) / "vault.sqlite3"
        # So little memory that most is read from the disk.
        self.vault = opened(path, Limits(4 * MEGABYTE, 1e9), memory_bytes=1500, clock_s=self.clock)

    @rule(keys=st.lists(KEYS, min_size=1, max_size=4), value=st.binary(min_size=1, max_size=400))
    def put(self, keys, value):
        self.vault.put(keys, value)
        self.model.update(dict.fromkeys(keys, value))

    @rule(keys=st.lists(KEYS, max_size=3))
    def forget(self, keys):
        self.vault.forget(keys)
        for key in keys:
            self.model.pop(key, None)

    @rule(keys=st.lists(KEYS, max_size=12))
    def find(self, keys):
        want = {key: self.model[key] for key in keys if key in self.model}
        assert self.runner.run(self.vault.find(keys)) == want

    @rule(seconds=st.integers(0, 10_000))
    def wait(self, seconds):
        self.clock.now_s += seconds

    @rule()
    def restart(self):
        self.runner.run(self.vault.aclose())
        self._open()

    @invariant()
    def memory_is_bounded(self):
        assert self.vault._memory._bytes <= 1500

    def teardown(self):
        assert self.runner.run(self.vault.find(list(self.model))) == self.model
        self.runner.run(self.vault.aclose())
        self.runner.close()
        shutil.rmtree(self.folder)


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
