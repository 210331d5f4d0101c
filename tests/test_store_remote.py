"""The store in Redis: instances that share it, its death in the middle of everything, and its return."""

import asyncio
import time
from dataclasses import replace

import pytest
import redis
from structlog.testing import capture_logs

from ollama_bridge.store.embedded import EmbeddedStore
from ollama_bridge.store.link import LinkDown, RedisLink
from ollama_bridge.store.remote import RemoteStore
from ollama_bridge.store.shelf import Granted, Purse, Rate, Refused
from stores import rig

QUICK = {"pause_s": 0.02}


@pytest.fixture
async def made(tmp_path):
    async with rig("remote", tmp_path) as made:
        yield made


def budget_of(made, limit, key="all/day/1"):
    return Purse(key, limit, made.clock() + 3600)


def warnings(logs):
    return [one for one in logs if one["log_level"] == "warning"]


async def back_and_told(made, store):
    await store._link.up()
    await made.told(store)


async def test_its_death_in_the_middle_is_no_error_and_nobody_overspends(made):
    """200 requests on each of two instances: one warning each, and no more is granted than was left to either."""
    stores = [made.store(**QUICK), made.store(**QUICK)]
    budget, rate = budget_of(made, 2000), Rate("a", 10_000, 3600)

    async def spend(store):
        amount = 0
        for number in range(200):
            if store is stores[0] and number == 60:
                await made.server.kill()
            answer = await store.take([rate], [budget], wanted=7, least=7)
            if isinstance(answer, Granted):
                amount += answer.amount - 1
                store.settle(answer, [replace(rate, cost=-1)], [budget], -1)
        return amount

    with capture_logs() as logs:
        spent = await asyncio.gather(*map(spend, stores))
    assert [one["event"] for one in warnings(logs)] == [
        "Redis does not answer; this instance counts alone"
    ] * 2
    assert all(0 < amount <= 200 * 6 for amount in spent)
    seen = [store._seen_of(budget) for store in stores]
    assert 60 * 6 <= max(seen) < 2000, "it died in the middle"
    # Each may spend what was left when it last heard of the other.
    assert sum(spent) <= 2000 + (2000 - min(seen))


async def test_what_was_spent_while_it_was_away_is_handed_in(made):
    """And what it forgot itself it is told again, so that a budget survives a Redis without a disk."""
    one, other = made.store(**QUICK), made.store(**QUICK)
    budget = budget_of(made, 100)
    before = await one.take((), [budget], wanted=40)
    await made.server.kill()
    away = await one.take((), [budget], wanted=70)
    assert (away.amount, away.spent, away.remote) == (60, (100,), False)
    assert await one.spent([budget]) == (100,)
    refused = await one.take((), [budget], wanted=1, least=1)
    assert refused == Refused(budget, 0, 3600)
    one.settle(away, (), [budget], -30)
    one.settle(before, (), [budget], -5)
    assert isinstance(await one.take((), [budget], wanted=30, least=30), Granted)
    one.settle(away, (), [budget], -30)
    with capture_logs() as logs:
        await made.server.start()
        await back_and_told(made, one)
    assert [one["event"] for one in logs] == ["Redis answers again"]
    assert await other.spent([budget]) == (40 - 5 + 30,)
    assert await one._local.spent([budget]) == (0,), "what was handed in is counted there"
    assert (await other.take((), [budget], wanted=90)).amount == 35


async def test_who_asks_while_it_is_away_does_not_wait(made):
    """One request finds out; all others are answered here, at once."""
    store = made.store(answer_s=0.5, pause_s=3600)
    budget = budget_of(made, 10_000)
    await store.take((), [budget], wanted=1)
    made.server.pause()
    began_s = time.monotonic()
    first = await asyncio.gather(*(store.take((), [budget], wanted=1) for _ in range(50)))
    took_s = time.monotonic() - began_s
    assert not any(answer.remote for answer in first)
    assert took_s < 5, "none waits behind another's timeout"  # 50 times 0.5
    await store.put("x", b"1", ttl_s=60)
    assert await store.get("x") == b"1"
    assert [await store.claim("y", ttl_s=60), await store.claim("y", ttl_s=60)] == [True, False]
    made.server.resume()


async def test_what_it_did_after_we_gave_up_is_undone(made):
    """A server that stops for a moment does later what it was asked: nothing of it stays reserved."""
    store, rate, budget = made.store(answer_s=0.5, **QUICK), Rate("a", 100, 3600, 30), budget_of(made, 100)
    assert (await store.take([rate], [budget], wanted=10)).remote
    made.server.pause()
    here = await store.take([rate], [budget], wanted=60)
    assert not here.remote
    made.server.resume()
    await back_and_told(made, store)
    other = made.store()
    assert await other.spent([budget]) == (70,)
    assert isinstance(await other.take([replace(rate, cost=70)], ()), Granted)
    assert isinstance(await other.take([replace(rate, cost=1)], ()), Refused)


async def test_a_settlement_whose_answer_is_lost_is_done_once(made):
    """It is sent again under the same name."""
    store, budget = made.store(answer_s=0.5, **QUICK), budget_of(made, 100)
    granted = await store.take((), [budget], wanted=80)
    made.server.pause()
    store.settle(granted, (), [budget], -20)
    with pytest.raises(LinkDown):
        await store._link.run(lambda client: client.ping())
    made.server.resume()
    await back_and_told(made, store)
    assert await made.store().spent([budget]) == (60,)


async def test_a_take_that_is_sent_twice_is_done_once(made):
    """A connection that broke under the answer is tried again by the client library."""
    store, rate, budget = made.store(), Rate("a", 100, 3600, 30), budget_of(made, 100)
    await store.take([rate], [budget], wanted=10)
    send = store._take
    store._take = lambda *asked: (send(*asked), send(*asked))[1]
    assert (await store.take([rate], [budget], wanted=10)).spent == (20,)
    assert (await store.take([replace(rate, cost=41)], ())).left == 40


async def test_connections_that_it_closed_meanwhile_are_no_failure(made):
    """Idle ones, or all of them at a restart that nobody noticed."""
    store, budget = made.store(), budget_of(made, 100)
    await store.take((), [budget], wanted=10)
    with capture_logs() as logs:
        await made.server.restart()
        answer = await store.take((), [budget], wanted=10)
    assert (answer.remote, answer.spent) == (True, (20,)), "what it forgot it was told again"
    assert logs == []


@pytest.mark.parametrize(
    "setting", [("requirepass", "s3cret-pass"), ("maxmemory", "1"), ("min-replicas-to-write", "1")]
)
async def test_a_server_that_refuses_is_as_good_as_none(made, setting):
    """A password is asked for, no memory is left, writing is forbidden: said once with its words, until it is over."""
    store, budget = made.store(**QUICK), budget_of(made, 100)
    with redis.Redis.from_url(made.server.url) as admin:
        admin.config_set(*setting)
        with capture_logs() as logs:
            for _ in range(3):
                assert not (await store.take((), [budget], wanted=10)).remote
            for _ in range(3):
                with pytest.raises(LinkDown):
                    await store._link.run(lambda client: client.ping())
                await asyncio.sleep(0.05)  # it looks again meanwhile, and finds the same
        assert len(warnings(logs)) == 1
        assert warnings(logs)[0]["error"]
        assert "s3cret" not in str(logs)
        admin.config_set(setting[0], {"requirepass": ""}.get(setting[0], "0"))
    await back_and_told(made, store)
    assert (await store.take((), [budget], wanted=10)).spent == (40,)


async def test_an_odd_value_under_our_key_is_no_error(made):
    """Somebody else wrote there: this instance counts alone."""
    store, budget = made.store(pause_s=3600), budget_of(made, 100)
    with redis.Redis.from_url(made.server.url) as other:
        other.hset("ollama-bridge:purse:all/day/1", "x", "y")
    with capture_logs() as logs:
        assert (await store.take((), [budget], wanted=10)).spent == (10,)
    assert "WRONGTYPE" in warnings(logs)[0]["error"]


@pytest.mark.parametrize(
    "url",
    ["redis://:s3cret@127.0.0.1:1/0", "redis://127.0.0.1:port", "redis://127.0.0.1:1?x=y", "unix:///no/such"],
)
async def test_without_a_server_from_the_beginning(tmp_path, url):
    """Everything is answered here, with one warning that names no password."""
    link = RedisLink(url, answer_s=0.2, pause_s=3600)
    store = RemoteStore(link, EmbeddedStore(tmp_path / "state.sqlite3"))
    budget = Purse("a", 100, 4e9)
    with capture_logs() as logs:
        granted = await store.take([Rate("a", 5, 60)], [budget], wanted=10)
        store.settle(granted, (), [budget], -4)
        assert await store.spent([budget]) == (6,)
        assert await store.claim("x", ttl_s=60)
        assert not await store.claim("x", ttl_s=60)
        await store.aclose()
        await link.aclose()
    assert len(warnings(logs)) == 1
    assert "s3cret" not in str(logs)


async def test_all_keys_are_ours_and_end_by_themselves(made):
    """Under one prefix; nothing stays in a server that is used by others."""
    store = made.store()
    granted = await store.take([Rate("a", 5, 60)], [budget_of(made, 100)], wanted=10)
    store.settle(granted, [Rate("a", 5, 60, -1)], [budget_of(made, 100)], 5)
    await made.told(store)
    await store.put("x", b"1", ttl_s=60)
    await store.claim("y", ttl_s=60)
    with redis.Redis.from_url(made.server.url) as server:
        lives = {key: server.pttl(key) for key in server.scan_iter()}
    assert len(lives) >= 5
    assert all(key.startswith(b"ollama-bridge:") and life > 0 for key, life in lives.items())
