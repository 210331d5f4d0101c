"""Answers and reasoning that outlive a process, or are shared by several: a file, Redis, and what may become of them."""

import asyncio
import sqlite3
import stat

import pytest
from platformdirs import user_state_path
from structlog.testing import capture_logs

from ollama_bridge.config import Config
from ollama_bridge.store.link import RedisLink
from ollama_bridge.store.redis_depot import RedisDepot
from ollama_bridge.vault import Limits, Vault
from redis_server import redis_server
from running import ask, running
from scripted import until
from signed import ANTHROPIC, Call, Text, Thought
from upstream import Upstream
from wires import WIRES, Said

WORDS = "Hello there, whoever you are."
SECRET = "the prompt that nobody may read"
CHAT = {
    "model": "m",
    "messages": [{"role": "user", "content": SECRET}],
    "options": {"temperature": 0},
    "stream": False,
}
ROOMY = Limits(8 * 1024 * 1024, 600.0)


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now_s = 1e9

    def __call__(self):
        return self.now_s


def config(upstream, store, **more):
    return Config.model_validate(
        WIRES[0].config(upstream.url, cache={"enabled": True, "store": store}, **more)
    )


async def said(daemon):
    got = await ask(daemon.url, "POST", "/api/chat", CHAT)
    assert got.status == 200, got.body
    return got.json["message"]["content"]


def warned(logs):
    return [log for log in logs if log["log_level"] in {"warning", "error"}]


# ------------------------------------------------------------------------------------------- on the disk


async def test_answers_on_disk_are_there_after_a_restart():
    """In a file of its owner's alone, in which no prompt can be found."""
    async with Upstream() as upstream:
        upstream.reply(WIRES[0].stream(Said(WORDS)))
        for _ in range(2):
            async with running(config(upstream, "disk")) as daemon:
                assert [await said(daemon), await said(daemon)] == [WORDS] * 2
        assert len(upstream.requests) == 1
    folder = user_state_path("ollama-bridge")
    assert stat.S_IMODE((folder / "cache.sqlite3").stat().st_mode) == 0o600
    for file in folder.iterdir():
        assert SECRET.encode() not in file.read_bytes()


async def test_an_answer_on_disk_is_as_old_as_it_is():
    """Neither a restart nor being given makes it young again; in the end it is out of the file."""
    answers = []
    clock = Clock()
    async with Upstream() as upstream:
        for text in "one", "two":
            upstream.reply(WIRES[0].stream(Said(text)))
        for _ in range(4):
            async with running(config(upstream, "disk")) as daemon:
                vault = daemon._gateway.shared.answers
                vault._clock_s = vault._depot._clock_s = clock
                answers.append(await said(daemon))
            clock.now_s += 125
    assert answers == ["one", "one", "one", "two"]
    db = sqlite3.connect(user_state_path("ollama-bridge") / "cache.sqlite3")
    assert db.execute("SELECT count(*) FROM vault").fetchone() == (1,)
    db.close()


async def test_a_corrupt_file_of_answers_is_said_once_and_not_overwritten():
    """Memory serves on, and whoever wants to look at the file still can."""
    folder = user_state_path("ollama-bridge")
    folder.mkdir(parents=True)
    garbage = b"this is no database" * 1000
    (folder / "cache.sqlite3").write_bytes(garbage)
    async with Upstream() as upstream:
        upstream.reply(WIRES[0].stream(Said(WORDS)))
        with capture_logs() as logs:
            async with running(config(upstream, "disk")) as daemon:
                assert [await said(daemon) for _ in range(3)] == [WORDS] * 3
        assert len(upstream.requests) == 1
    assert [(log["event"], log["what"]) for log in warned(logs)] == [("kept in memory only", "answers")]
    assert (folder / "cache.sqlite3").read_bytes() == garbage


# ---------------------------------------------------------------------------------------------- in Redis


async def settled(daemon):
    """Let what was put into Redis arrive there."""
    for vault in (daemon._gateway.shared.vault, daemon._gateway.shared.answers):
        if vault is not None and vault._depot._writing is not None:
            await vault._depot._writing


async def test_what_one_instance_was_answered_another_one_says():
    """Through Redis, in which no prompt can be found; a third one with a Redis of its own asks."""
    async with redis_server() as redis, redis_server() as another, Upstream() as upstream:
        upstream.reply(WIRES[0].stream(Said(WORDS)))
        async with (
            running(config(upstream, "state", state=redis.url)) as one,
            running(config(upstream, "state", state=redis.url)) as two,
            running(config(upstream, "state", state=another.url)) as three,
        ):
            assert await said(one) == WORDS
            await settled(one)
            assert await said(two) == WORDS
            assert len(upstream.requests) == 1
            assert await said(three) == WORDS
            assert len(upstream.requests) == 2
            client = one._gateway.shared.link._client
            names = await asyncio.to_thread(client.keys)
            held = await asyncio.to_thread(client.mget, names)
            assert all(name.startswith(b"ollama-bridge:") for name in names)
            assert not [value for value in (*names, *held) if SECRET.encode() in value]
            lives = [await asyncio.to_thread(client.pttl, name) for name in names]
            assert all(0 < life <= 300_000 for life in lives)


TURN = [Thought("I should look. ", "c2lnbmF0dXJlIG9uZQ=="), Call("toolu_01Zf81kQ0aa", "list_files", {})]
TOOLS = [{"type": "function", "function": {"name": "list_files", "parameters": {"type": "object"}}}]


async def test_what_a_provider_signed_returns_to_it_through_another_instance():
    """The second turn of a loop comes to a daemon that has never seen the first one."""
    async with redis_server() as redis, Upstream() as upstream:
        whole = Config.model_validate(ANTHROPIC.config(upstream.url, state=redis.url))
        async with running(whole) as one, running(whole) as two:
            upstream.reply(ANTHROPIC.stream(TURN))
            upstream.reply(ANTHROPIC.stream([Text("Two files.")]))
            messages = [{"role": "user", "content": "What is here?"}]
            body = {"model": "m", "messages": messages, "tools": TOOLS, "think": True, "stream": False}
            first = await ask(one.url, "POST", "/api/chat", body)
            await settled(one)
            [call] = first.json["message"]["tool_calls"]
            messages += [
                {"role": "assistant", "content": "", "tool_calls": [{"function": call["function"]}]},
                {"role": "tool", "content": "a b"},
            ]
            assert (await ask(two.url, "POST", "/api/chat", body)).status == 200
        held = ANTHROPIC.held(upstream.requests[1].json)
    assert [block.get("signature") for block in held if block["type"] == "thinking"] == [TURN[0].signature]
    assert not (user_state_path("ollama-bridge") / "reasoning.sqlite3").exists()


async def test_redis_may_die_and_come_back():
    """Each instance answers from what it has, says so once, asks where it must, and nobody sees an error."""
    async with redis_server() as redis, Upstream() as upstream:
        upstream.reply(WIRES[0].stream(Said(WORDS)))
        with capture_logs() as logs:
            async with (
                running(config(upstream, "state", state=redis.url)) as one,
                running(config(upstream, "state", state=redis.url)) as two,
            ):
                for daemon in (one, two):
                    daemon._gateway.shared.link._pause_s = 0.01
                assert await said(one) == WORDS
                await settled(one)
                await redis.kill()
                assert [await said(one), await said(two), await said(two)] == [WORDS] * 3
                assert len(upstream.requests) == 2
                assert [log["event"] for log in warned(logs)] == [
                    "Redis does not answer; this instance counts alone"
                ]
                await redis.start()
                await two._gateway.shared.link.up()
                vault = two._gateway.shared.answers
                vault.put([b"new"], b"value")
                await settled(two)
                assert await one._gateway.shared.answers.find([b"new"]) == {b"new": b"value"}


async def test_a_redis_that_hangs_holds_nobody_up_for_long():
    """It is given up once; who asks then does not wait for it."""
    async with redis_server() as redis, Upstream() as upstream:
        upstream.reply(WIRES[0].stream(Said(WORDS)))
        async with running(config(upstream, "state", state=redis.url)) as daemon:
            assert await daemon._gateway.shared.answers.find([b"nothing"]) == {}
            redis.pause()
            try:
                assert await said(daemon) == WORDS
                assert not daemon._gateway.shared.link._up.is_set()
                assert await said(daemon) == WORDS
            finally:
                redis.resume()
    assert len(upstream.requests) == 1


@pytest.fixture
async def link():
    async with redis_server() as redis:
        link = RedisLink(redis.url)
        yield link
        await link.aclose()


def opened(link, *, renewed=True, limits=ROOMY, clock_s=None):
    depot = RedisDepot(link, limits.age_s, renewed=renewed, prefix="x")
    return Vault(limits, depot, renewed=renewed, clock_s=clock_s or Clock())


async def test_a_vault_in_redis_does_what_one_in_a_file_does(link):
    """What is put is found at once and by others, the newest counts, and what is forgotten is gone."""
    one, two = opened(link), opened(link)
    one.put([b"a", b"b", b"a"], b"old")
    one.put([b"b"], b"new")
    one.put([b"c"], b"gone")
    one.forget([b"c"])
    want = {b"a": b"old", b"b": b"new"}
    assert await one.find([b"a", b"b", b"c", b"d"]) == want
    await one.aclose()
    assert await two.find([b"a", b"b", b"c", b"d"]) == want
    two.put([b"large"], bytes(ROOMY.size_bytes))
    assert await two.find([b"large"]) == {}


async def test_what_was_looked_for_in_vain_is_looked_for_again(link):
    """Another instance may have put it there meanwhile."""
    one, two = opened(link), opened(link)
    assert await two.find([b"a"]) == {}
    one.put([b"a"], b"value")
    await one.aclose()
    assert await two.find([b"a"]) == {b"a": b"value"}


async def lives_ms(link):
    return await link.run(lambda client: client.pttl(b"ollama-bridge:x:" + b"a".hex().encode()))


@pytest.mark.parametrize(("renewed", "is_longer"), [(True, True), (False, False)])
async def test_a_use_makes_reasoning_young_again_and_an_answer_not(link, renewed, is_longer):
    """An instance that finds it after an hour tells Redis, or does not."""
    clock = Clock()
    one = opened(link, renewed=renewed, limits=Limits(1 << 20, 10_000.0), clock_s=clock)
    one.put([b"a"], b"value")
    await one.aclose()
    await link.run(lambda client: client.pexpire(b"ollama-bridge:x:61", 5000))
    clock.now_s += 7200
    two = opened(link, renewed=renewed, limits=Limits(1 << 20, 10_000.0), clock_s=clock)
    assert await two.find([b"a"]) == {b"a": b"value"}
    await two.aclose()
    assert (await lives_ms(link) > 5000) is is_longer


async def test_an_answer_of_another_instance_is_as_old_as_it_is(link):
    """It comes with the time of its being put, so that memory lets go of it when Redis does."""
    clock = Clock()
    one = opened(link, renewed=False, clock_s=clock)
    one.put([b"a"], b"value")
    await one.aclose()
    two = opened(link, renewed=False, clock_s=clock)
    clock.now_s += 500
    assert await two.find([b"a"]) == {b"a": b"value"}
    clock.now_s += 101
    assert await two.find([b"a"]) == {}
    assert await opened(link, renewed=False, clock_s=clock).find([b"a"]) == {}


async def test_what_is_no_entry_is_none(link):
    """As another program may have put it there."""
    await link.run(lambda client: client.set(b"ollama-bridge:x:61", b"short"))
    assert await opened(link).find([b"a"]) == {}


async def test_writes_that_come_while_others_are_sent_are_sent_too(link):
    """Without anything being put after them."""
    vault = opened(link)
    for number in range(50):
        vault.put([b"%d" % number], b"value")
        await asyncio.sleep(0)
    await until(vault._depot._writing.done)
    keys = [b"%d" % number for number in range(50)]
    assert len(await opened(link).find(keys)) == 50
