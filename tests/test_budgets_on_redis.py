"""One budget over two machines: daemons of their own, with files of their own, that share one real Redis."""

import asyncio
import collections
import json
from contextlib import asynccontextmanager

import redis

from children import served
from redis_server import redis_server
from running import ask
from test_budgets_served import ANSWER_NUSD, CHAT, FIFTY_USD, RESERVED_NUSD, priced, question, until_refused
from upstream import Upstream
from wires import Said

PATIENT = """
from ollama_bridge.store.link import RedisLink
RedisLink.__init__.__kwdefaults__["answer_s"] = 20.0  # a busy machine is slow, and not away
from ollama_bridge.cli import main
main()
"""


def calls(count, *urls):
    """So many questions at once to each."""
    return [
        asyncio.create_task(ask(url, "POST", "/api/chat", question())) for _ in range(count) for url in urls
    ]


@asynccontextmanager
async def two_machines(folder, upstream, server):
    """Both with a budget for fifty, and ready: from now on upstream's answers wait for the event."""
    hold = asyncio.Event()
    config = priced(CHAT, upstream.url, budgets={"all": {"monthly": FIFTY_USD}}, state=server.url)
    config["models"].append({**config["models"][0], "name": "free", "price": {"input": 0, "output": 0}})
    path = folder / "config.yaml"
    path.write_text(json.dumps(config))
    homes = [folder / name for name in ("one", "other")]
    async with (
        served(path, program=("-c", PATIENT), XDG_STATE_HOME=str(homes[0])) as (one, _),
        served(path, program=("-c", PATIENT), XDG_STATE_HOME=str(homes[1])) as (other, _),
    ):
        upstream.reply(CHAT.stream(Said("hello")))
        for url in (one, other):  # which loads all that is slow, and takes nothing
            assert (await ask(url, "POST", "/api/chat", question(model="free"))).status == 200
            await upstream.arrivals.acquire()
        upstream.requests.clear()
        upstream.only(CHAT.stream(Said("hello")), hold=hold)
        yield one, other, hold


async def arrived(upstream, count):
    for _ in range(count):
        await upstream.arrivals.acquire()


def spent(server):
    """As Redis has it, of everybody."""
    with redis.Redis.from_url(server.url) as client:
        (purse,) = client.keys("ollama-bridge:purse:*")
        return int(client.get(purse))


async def test_two_hundred_at_once_with_a_budget_for_fifty(tmp_path):
    """Fifty are answered, whoever is asked; what they did not need is there for the next, whoever is asked."""
    async with (
        redis_server() as server,
        Upstream() as upstream,
        two_machines(tmp_path, upstream, server) as (one, other, hold),
    ):
        asked = calls(100, one, other)
        refused = await until_refused(asked, 150)
        assert {answer.status for answer in refused} == {429}
        await arrived(upstream, 50)
        assert spent(server) == 50 * RESERVED_NUSD
        hold.set()
        answers = await asyncio.gather(*asked)
        assert collections.Counter(answer.status for answer in answers) == {200: 50, 429: 150}
        assert len(upstream.requests) == 50
        async with asyncio.timeout(30):  # what is left is told to Redis behind the answer's back
            while any(answer.status == 429 for answer in await asyncio.gather(*calls(1, one, other))):
                pass
        assert 52 * ANSWER_NUSD <= spent(server) <= 50 * RESERVED_NUSD


async def test_each_spends_no_more_than_was_left_when_its_redis_died(tmp_path):
    """Nobody gets an error: it counts alone, from what it last heard; and what is under way is answered."""
    async with (
        redis_server() as server,
        Upstream() as upstream,
        two_machines(tmp_path, upstream, server) as (one, other, hold),
    ):
        before = calls(14, one, other)
        await arrived(upstream, 28)
        for url in (one, other):  # one by one: the first has heard of 29, the second of 30
            before += calls(1, url)
            await arrived(upstream, 1)
        assert spent(server) == 30 * RESERVED_NUSD
        await server.kill()
        after = {url: calls(50, url) for url in (one, other)}
        refused = [await until_refused(after[one], 50 - 21), await until_refused(after[other], 50 - 20)]
        assert {answer.status for some in refused for answer in some} == {429}
        await arrived(upstream, 21 + 20)
        assert len(upstream.requests) == 30 + 21 + 20
        hold.set()
        assert {answer.status for answer in await asyncio.gather(*before)} == {200}
        for url, left in ((one, 21), (other, 20)):
            answers = await asyncio.gather(*after[url])
            assert collections.Counter(answer.status for answer in answers) == {200: left, 429: 50 - left}
            assert (await ask(url, "POST", "/api/chat", question())).status == 200
