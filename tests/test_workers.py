"""Several processes on one port: they answer as one, and go on when one of them dies."""

import asyncio
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ollama_bridge.config import Config
from ollama_bridge.errors import ConfigError
from ollama_bridge.listening import bind, reserve
from ollama_bridge.siblings import Siblings
from ollama_bridge.sqlitefile import Limits
from ollama_bridge.store.vaults import vault_at
from ollama_bridge.workers import Supervisor
from running import ask, connect, request, running
from upstream import Script, Upstream
from wires import WIRES, Said

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux spreads connections over SO_REUSEPORT"),
    pytest.mark.timeout(90),
]

DEMO = "providers: {demo: {}}\nmodels: [{name: demo, backend: demo}]\n"
WITHIN_S = 60
"""Seconds for one test: starting two processes takes many on a busy machine."""
HELLO = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}


class Fleet:
    """`ollama-bridge serve --workers …`, and what it says."""

    def __init__(self, process, systemd):
        self.process = process
        self.lines = []
        self._words = []
        asyncio.get_running_loop().add_reader(systemd, lambda: self._words.append(systemd.recv(100).decode()))
        self._reading = asyncio.create_task(self._read())
        self._more = asyncio.Event()
        self.url = ""

    async def _read(self):
        async for line in self.process.stderr:
            self.lines.append(line.decode())
            self._more.set()

    async def says(self, pattern, times=1):
        """Wait for so many lines that match; their first groups."""
        while True:
            found = [match[1] for line in self.lines if (match := re.search(pattern, line))]
            if len(found) >= times:
                return found
            self._more.clear()
            await self._more.wait()

    def told(self):
        """What systemd has been told, without signs of life."""
        return [word for word in self._words if word != "WATCHDOG=1"]

    async def pids(self, started=2):
        """The process of each worker, the latest."""
        pattern = r"worker started. number=(\d+ pid=\d+)"
        await self.says(pattern, started)
        return dict(found.split(" pid=") for found in await self.says(pattern, started))

    async def served_by(self, path="/api/version", times=30):
        """So many connections, and the workers that took them."""
        before = len(self.lines)
        got = [await ask(self.url, "GET", path) for _ in range(times)]
        assert {one.status for one in got} == {200}
        pattern = re.compile(rf"path={path} .*worker=(\d)")
        while True:
            found = [match[1] for line in self.lines[before:] if (match := pattern.search(line))]
            if len(found) >= times:
                return set(found), got
            self._more.clear()
            await self._more.wait()

    async def ended(self):
        code = await self.process.wait()
        await self._reading
        assert "Traceback" not in "".join(self.lines)
        return code


def folder_of(pid):
    """Where a worker has its socket."""
    environ = Path(f"/proc/{pid}/environ").read_text()
    return Path(re.search(r"OLLAMA_BRIDGE_WORKER=([^\0]+)", environ)[1]).parent


def refused_if(seen, word):
    """401 to a key with this word in it; an answer to all others."""
    if word in seen.headers["authorization"]:
        return Script([b'{"error": {"message": "bad key"}}'], 401, {"content-type": "application/json"})
    return Script([next(wire for wire in WIRES if wire.name == "chat").stream(Said("Hello"))])


def left_in(folder):
    return list(Path(folder).glob("ollama-bridge-*"))


def closed_to_others(folder):
    return folder.is_dir() and folder.stat().st_mode & 0o077 == 0


def alive(pids):
    return [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()]


@asynccontextmanager
async def fleet(folder, text=DEMO, *flags, **environ):
    """Two workers, ready; whatever is left of them is killed."""
    (folder / "config.yaml").write_text(text)
    (folder / "run").mkdir()
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"{short}/notify")
        systemd.setblocking(False)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ollama_bridge", "serve", "--workers", "2", "--port", "0", *flags),
            *("--config", str(folder / "config.yaml")),
            env={**os.environ, "NOTIFY_SOCKET": f"{short}/notify", "TMPDIR": short, **environ},
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        one = Fleet(process, systemd)
        try:
            async with asyncio.timeout(WITHIN_S):
                await one.says("(all workers listen)")
                one.url = (await one.says(r"(http://127\S+)"))[0]
                yield one
        finally:
            asyncio.get_running_loop().remove_reader(systemd)
            print("".join(one.lines))
            if process.returncode is None:
                process.terminate()
                await one.ended()
            assert not left_in(short), "its folder is left behind"


async def test_they_share_a_port_and_say_so_once(tmp_path):
    """Both take connections; systemd hears READY once, and STOPPING; the folder of their sockets is closed to others."""
    async with fleet(tmp_path) as workers:
        served, _ = await workers.served_by()
        assert served == {"1", "2"}
        pids = await workers.pids()
        assert len(set(pids.values())) == 2
        assert closed_to_others(folder_of(pids["1"]))
        workers.process.send_signal(signal.SIGTERM)
        assert await workers.ended() == 0
        assert workers.told() == ["READY=1", "STOPPING=1"]


async def test_keys_of_the_environment_reach_all_of_them(tmp_path):
    """The one that starts them takes no key away from them."""
    async with fleet(tmp_path, "{}", ANTHROPIC_API_KEY="sk-ant-secret") as workers:
        served, got = await workers.served_by("/api/tags")
    assert served == {"1", "2"}
    assert all("claude-opus-5-5:latest" in one.body.decode() for one in got)
    assert "sk-ant-secret" not in "".join(workers.lines)


async def test_one_that_is_killed_is_started_again(tmp_path):
    """kill -9: the other one answers meanwhile, and after a moment both do; nothing is refused for long."""
    async with fleet(tmp_path) as workers:
        before = await workers.pids()
        os.kill(int(before["1"]), signal.SIGKILL)
        refused = 0
        while sum("event=listening" in line for line in workers.lines) < 3:
            try:
                await ask(workers.url, "GET", "/")
            except (OSError, asyncio.IncompleteReadError):
                refused += 1  # what the dead one had taken and not answered
        assert refused <= 2
        after = await workers.pids(started=3)
        assert after["1"] != before["1"]
        assert after["2"] == before["2"]
        served, _ = await workers.served_by()
        assert served == {"1", "2"}
        assert workers.told() == ["READY=1"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_lets_answers_of_all_of_them_finish(tmp_path, number):
    """Told as a terminal and `timeout` do it, the whole group at once: what has begun ends in peace."""
    slow = DEMO + "streaming: {chunk_size: 1, delay_ms: 30}\n"
    async with fleet(tmp_path, slow) as workers:
        streams = [await connect(workers.url) for _ in range(16)]
        for reader, writer in streams:
            writer.write(request(workers.url, "POST", "/api/chat", HELLO))
            await reader.readuntil(b'"done":false}')
        os.killpg(workers.process.pid, number)
        for reader, writer in streams:
            assert b'"done":true' in await reader.read()
            writer.close()
        assert await workers.ended() == 0
        served = {
            match[1] for line in workers.lines if (match := re.search(r"path=/api/chat .*worker=(\d)", line))
        }
        assert served == {"1", "2"}


async def test_what_systemd_does_to_the_whole_group_is_no_second_stop(tmp_path):
    """systemd signals the workers as well as the one that started them: their answers finish all the same."""
    slow = DEMO + "streaming: {chunk_size: 1, delay_ms: 30}\n"
    async with fleet(tmp_path, slow) as workers:
        streams = [await connect(workers.url) for _ in range(8)]
        for reader, writer in streams:
            writer.write(request(workers.url, "POST", "/api/chat", HELLO))
            await reader.readuntil(b'"done":false}')
        for pid in [*(await workers.pids()).values(), workers.process.pid]:
            os.kill(int(pid), signal.SIGTERM)
        for reader, writer in streams:
            assert b'"done":true' in await reader.read()
            writer.close()
        assert await workers.ended() == 0


async def test_a_change_is_in_force_everywhere_before_it_is_answered(tmp_path):
    """`ollama cp` and `rm` through one worker: the next request sees it, whoever takes it; and so with a new file."""
    async with fleet(tmp_path) as workers:

        async def names():
            _, got = await workers.served_by("/api/tags", times=12)
            return {tuple(sorted(model["name"] for model in one.json["models"])) for one in got}

        for number in range(3):
            copy = {"source": "demo", "destination": f"copy{number}"}
            assert (await ask(workers.url, "POST", "/api/copy", copy)).status == 200
            assert await names() == {(*(f"copy{n}:latest" for n in range(number + 1)), "demo:latest")}
        assert (await ask(workers.url, "DELETE", "/api/delete", {"model": "copy1"})).status == 200
        assert await names() == {("copy0:latest", "copy2:latest", "demo:latest")}
        (tmp_path / "config.yaml").write_text(DEMO.replace("name: demo,", "name: other,"))
        workers.process.send_signal(signal.SIGHUP)
        await workers.says("(configuration taken over).*worker=1.*", times=5)
        await workers.says("(configuration taken over).*worker=2.*", times=5)
        assert await names() == {("demo:latest", "other:latest")}
        while (told := workers.told())[-1] != "READY=1":  # noqa: ASYNC110 - it is another process that tells
            await asyncio.sleep(0.02)
        assert told[0] == told[-1] == "READY=1"
        assert told.count("RELOADING=1") + 1 == told.count("READY=1")


async def test_changes_through_several_at_once_are_all_made(tmp_path):
    """Twelve copies at the same time, whoever takes which: none is lost, and nobody waits for ever."""
    async with fleet(tmp_path) as workers:
        copies = ({"source": "demo", "destination": f"copy{number}"} for number in range(12))
        got = await asyncio.gather(*(ask(workers.url, "POST", "/api/copy", copy) for copy in copies))
        assert {one.status for one in got} == {200}
        _, lists = await workers.served_by("/api/tags", times=12)
    assert {len(one.json["models"]) for one in lists} == {13}
    assert not [line for line in workers.lines if "does not answer" in line]


async def test_what_is_kept_is_the_same_whoever_is_asked(tmp_path):
    """`ollama ps` and `ollama stop`: a use is a use, and a stop is a stop, of all of them."""
    async with fleet(tmp_path) as workers:
        await ask(workers.url, "POST", "/api/chat", {**HELLO, "keep_alive": -1})
        served, got = await workers.served_by("/api/ps")
        assert served == {"1", "2"}
        assert len({one.body for one in got}) == 1
        assert [model["name"] for model in got[0].json["models"]] == ["demo:latest"]
        await ask(workers.url, "POST", "/api/generate", {"model": "demo", "keep_alive": 0})
        _, got = await workers.served_by("/api/ps")
        assert {one.body for one in got} == {b'{"models":[]}'}


async def test_whoever_is_asked_for_metrics_tells_those_of_all(tmp_path):
    """Each under its worker's name: sums over all of them would fall, and so be misread, when one is started again."""
    async with fleet(tmp_path, DEMO, "--log-level", "debug") as workers:
        question = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "stream": False}
        asked = 20
        for _ in range(asked):
            assert (await ask(workers.url, "POST", "/api/chat", question)).status == 200
        _, got = await workers.served_by("/metrics")
        told = [
            dict(re.findall(rb'^ai_proxy_requests_total\{.*worker="(\d)"\} (\S+)', one.body, re.MULTILINE))
            for one in got
        ]
        assert set(told[0]) == {b"1", b"2"}
        assert sum(map(float, told[0].values())) == asked
        assert all(one == told[0] for one in told)


async def test_keys_that_rest_are_shown_whoever_is_asked(tmp_path):
    """Each worker finds out for itself that a key is refused; all of them say so."""
    async with Upstream(lambda seen: refused_if(seen, "first")) as upstream:
        wire = next(wire for wire in WIRES if wire.name == "chat")
        config = wire.config(upstream.url)
        config["providers"][wire.key]["api_key"] = ["the-first-key", "the-second-key"]
        async with fleet(tmp_path, json.dumps(config)) as workers:
            question = {**HELLO, "model": "m", "stream": False}
            assert (await ask(workers.url, "POST", "/api/chat", question)).status == 200
            served, got = await workers.served_by("/v1/providers/status")
    assert served == {"1", "2"}
    keys = [one.json["providers"][0]["keys"] for one in got]
    assert {(one["usable"], *(rest["key"] for rest in one["resting"])) for one in keys} == {(1, 0)}
    assert all(500 < rest["for_s"] <= 600 for one in keys for rest in one["resting"])
    assert "the-first-key" not in "".join(workers.lines) + "".join(one.body.decode() for one in got)


async def test_workers_end_with_the_one_that_started_them(tmp_path):
    """kill -9 of that one: nobody is left who holds the port."""
    async with fleet(tmp_path) as workers:
        pids = await workers.pids()
        folder = folder_of(pids["1"])
        workers.process.kill()
        await workers.ended()
        while alive(pids):  # noqa: ASYNC110 - they are no children of ours
            await asyncio.sleep(0.05)
        for listener in bind("127.0.0.1", int(workers.url.rpartition(":")[2])):
            listener.close()
        shutil.rmtree(folder)  # the one who made it could not


async def test_one_that_hangs_is_killed_and_started_again(tmp_path):
    """Where systemd watches the service, a worker whose event loop stands still does not take the others with it."""
    async with fleet(tmp_path, DEMO, WATCHDOG_USEC="1000000") as workers:
        pids = await workers.pids()
        os.kill(int(pids["2"]), signal.SIGSTOP)
        await workers.says(r"(a worker hangs)")
        assert (await workers.pids(started=3))["2"] != pids["2"]
        assert workers.told() == ["READY=1"]


# ------------------------------------------------------------------------------------------------- before they start


async def serve(*flags):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ollama_bridge", "serve", "--workers", "2", *flags), stderr=subprocess.PIPE
    )
    _, said = await process.communicate()
    return process.returncode, said.decode()


async def test_a_port_that_is_taken_is_told_before_anything_starts(tmp_path):
    """As by one process alone: who holds it, and what to do; also where the holder shares the port with its own."""
    config = Config.model_validate(
        {"providers": {"demo": {}}, "models": [{"name": "demo", "backend": "demo"}], "server": {"port": 0}}
    )
    async with running(config) as daemon:
        port = daemon.url.rpartition(":")[2]
        code, said = await serve("--port", port)
    assert (code, "worker started" in said) == (2, False)
    assert re.search(rf"port {port} is in use: another ollama-bridge .*--port {int(port) + 1}", said)
    async with fleet(tmp_path) as workers:
        port = workers.url.rpartition(":")[2]
        code, said = await serve("--port", port)
    assert (code, "worker started" in said) == (2, False)
    assert f"port {port} is in use: another ollama-bridge" in said


async def test_a_configuration_that_cannot_be_used_is_told_once(tmp_path):
    """By the one that would start them."""
    (tmp_path / "config.yaml").write_text("server: {prot: 1}")
    code, said = await serve("--config", str(tmp_path / "config.yaml"))
    assert code == 2
    assert said.count("prot") == 1
    assert "worker started" not in said


def test_a_port_that_is_reserved_answers_nobody():
    """Nothing listens on it until somebody does who shares it; then nobody else gets it."""
    kept = reserve("127.0.0.1", 0)
    port = kept[0].getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    sharing = [bind("127.0.0.1", port, shared=True) for _ in range(2)]
    with pytest.raises(ConfigError):
        bind("127.0.0.1", port)
    with pytest.raises(ConfigError):
        reserve("127.0.0.1", port)
    for each in itertools.chain(kept, *sharing):
        each.close()


@pytest.mark.parametrize(
    ("program", "code", "starts"), [("raise SystemExit(3)", 1, 10), ("raise SystemExit(2)", 2, 2)]
)
async def test_workers_that_die_at_once_are_given_up(tmp_path, monkeypatch, program, code, starts):
    """After five deaths in a row, and at once where the configuration is the reason: the exit code says which."""
    waits = []
    monkeypatch.setattr("ollama_bridge.workers._FIRST_WAIT_S", 0.001)
    supervisor = Supervisor((sys.executable, "-c", f"print(); {program}"), 2, tmp_path, drain_s=1)
    start = supervisor._start

    async def counted(number):
        waits.append(number)
        return await start(number)

    monkeypatch.setattr(supervisor, "_start", counted)
    assert await supervisor.run() == code
    assert len(waits) <= starts


# ------------------------------------------------------------------------------------------------- one to the other


async def test_siblings_answer_each_other_and_the_dead_are_passed_over(tmp_path):
    """Whoever is there answers; nobody waits for a worker that was killed, nor long for one that hangs."""

    def saying(word):
        async def say():
            return {"word": word}

        return say

    async def hang():
        await asyncio.Event().wait()

    one = Siblings(tmp_path / "1.worker", {"name": saying("one")})
    two = Siblings(tmp_path / "2.worker", {"name": saying("two"), "big": saying("x" * 300_000)})
    three = Siblings(tmp_path / "3.worker", {"name": hang})
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "4.worker"))
    for each in (one, two, three):
        await each.listen()
    began_s = time.monotonic()
    assert await one.ask("name", within_s=0.2) == [{"word": "two"}]
    assert time.monotonic() - began_s < 5
    assert [len(said["word"]) for said in await one.ask("big", within_s=5)] == [300_000]
    await two.aclose()
    assert await one.ask("big", within_s=5) == []
    for each in (one, three):
        await each.aclose()


async def test_a_vault_that_is_shared_finds_what_another_process_has_put_since(tmp_path):
    """Alone, what was looked for in vain is not looked for again; with others, it may be there by now."""
    limits = Limits(10**6, 3600)
    mine, theirs = (
        vault_at(
            tmp_path / "kept.sqlite3",
            limits,
            holds="answers",
            prefix="answer",
            renewed=True,
            siblings=True,
            before=None,
        )
        for _ in range(2)
    )
    assert await mine.find([b"key"]) == {}
    theirs.put([b"key"], b"value")
    await theirs.aclose()
    assert await mine.find([b"key"]) == {b"key": b"value"}
    await mine.aclose()


async def test_json_of_a_use_is_what_the_others_read(tmp_path):
    """What one worker tells of its uses another can show."""
    from ollama_bridge.registry import Residency

    mine, other = Residency(), Residency()

    async def elsewhere():
        return [json.loads(json.dumps(other.uses()))]

    mine.elsewhere = elsewhere
    other.touch("demo:latest", -1)
    assert [one.name for one in await mine.loaded()] == ["demo:latest"]
