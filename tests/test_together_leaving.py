"""A client leaves, in whatever phase its call is: what is due is paid, once, and nothing of the call is left behind."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from faults import SAID, parts
from ollama_bridge.tokens import MESSAGE_TOKENS
from running import connect, request, running
from together import (
    ANTHROPIC,
    CHAT,
    chat,
    counted,
    house,
    model,
    provider,
    question,
    quiet,
    rows,
    tasks,
    written,
)
from upstream import Script, Upstream
from wires import WIRES, Said

EACH = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
ALONE = pytest.mark.parametrize("wish", ["no-cache", "no-store"], ids=["may be shared", "alone"])
"""In a task of its own, which others may join, or in that of the client's connection."""

PRICE = {"input": 1, "output": 10}
ESTIMATED = 5
"""Tokens of the prompt."""


async def until(condition):
    """Until it holds: there is nothing to wait for."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def client(daemon, stream, wish):
    """Asks, and leaves at the end, when nothing of its call may be left."""
    await until(lambda: not any("_warm" in str(task.get_coro()) for task in daemon._tasks))
    before = tasks()
    reader, writer = await connect(daemon.url)
    body = question(stream=stream)
    writer.write(request(daemon.url, "POST", "/api/chat", body, {"Cache-Control": wish}))
    async with asyncio.timeout(20):
        yield reader
        assert daemon._gateway._users == 1
        writer.close()
        await writer.wait_closed()
        await quiet(daemon)
    try:
        await until(lambda: not tasks() - before)
    except TimeoutError:
        raise AssertionError(tasks() - before) from None


async def read(reader, words):
    """Of a streamed answer."""
    while words.encode() not in await reader.readline():
        pass


def check(sums, *, asked, said=None, attempts):
    """One row, of who left, and the books agree."""
    (row,) = rows()
    assert sums == written()
    assert (row["outcome"], row["cached"], row["attempts"]) == ("left", "", attempts)
    assert row["input_tokens"] == asked
    assert said is None or row["output_tokens"] == said
    assert sums.nusd == 1_000 * sums.input + 10_000 * sums.output


@EACH
@STREAM
@ALONE
async def test_while_it_waits_to_ask_again(wire, stream, wish):
    """Nothing is due: the attempt that failed was not billed, and there is no other."""
    async with Upstream(lambda _: Script([b"{}"], status=500)) as upstream:
        config = house(
            {"p": provider(wire, upstream)},
            model("m", "p", wire, price=PRICE),
            retry={"initial_backoff_ms": 30_000},
        )
        async with running(config) as daemon:
            with capture_logs() as logged:
                async with client(daemon, stream, wish):
                    await until(lambda: [one for one in logged if one["event"] == "provider asked again"])
            sums = await counted(daemon)
    check(sums, asked=0, said=0, attempts=1)
    assert len(upstream.requests) == 1


@STREAM
@ALONE
@pytest.mark.parametrize("whose", ["client", "model"])
async def test_while_it_is_asked_whether_it_may(stream, wish, whose):
    """Nothing was taken: neither money nor one of the requests that are allowed."""
    once = {"requests_per_day": 1}
    go_on = threading.Event()
    async with Upstream(lambda _: Script([CHAT.stream(Said("hello"))])) as upstream:
        config = house(
            {"p": provider(CHAT, upstream)},
            model("m", "p", CHAT, price=PRICE, **(once if whose == "model" else {})),
            limits={"address": once} if whose == "client" else {},
        )
        async with running(config) as daemon:
            store = daemon._gateway.shared.store
            await store.spent(())
            store._lane.put(go_on.wait)
            try:
                async with client(daemon, stream, wish):
                    await until(store._lane._jobs.qsize)
            finally:
                go_on.set()
            sums = await counted(daemon)
            again = [(await chat(daemon)).status for _ in range(2)]
    left, *_ = rows()
    assert (left["outcome"], left["attempts"], left["cost_nusd"]) == ("left", 0, 0)
    assert (sums.calls, sums.nusd) == ({"left": 1}, 0)
    assert again == [200, 429]


@EACH
@STREAM
@ALONE
async def test_before_the_first_word(wire, stream, wish):
    """The provider has the question, and nobody can take it back: the prompt is paid, by our estimate."""
    async with Upstream(lambda _: Script([], hold=asyncio.Event())) as upstream:
        config = house({"p": provider(wire, upstream)}, model("m", "p", wire, price=PRICE))
        async with running(config) as daemon:
            async with client(daemon, stream, wish):
                await upstream.asked.wait()
            await upstream.closed_early.wait()
            sums = await counted(daemon)
    check(sums, asked=ESTIMATED, said=0, attempts=1)


@EACH
@ALONE
async def test_in_the_middle(wire, wish):
    """The words so far are paid too; who says at once how long the prompt was is believed."""
    async with Upstream(lambda _: Script([b"".join(parts(wire)[:2])], then="stall")) as upstream:
        config = house({"p": provider(wire, upstream)}, model("m", "p", wire, price=PRICE))
        async with running(config) as daemon:
            async with client(daemon, True, wish) as reader:
                await read(reader, SAID[-5:])
            await upstream.closed_early.wait()
            sums = await counted(daemon)
    check(sums, asked=11 if wire is ANTHROPIC else ESTIMATED, said=4, attempts=1)


def cut_off(wire):
    return Script([b"".join(parts(wire)[:2])], then="cut")


def going_on(wire, upstream):
    return house({"p": provider(wire, upstream)}, model("m", "p", wire, price=PRICE, resume=True))


@EACH
@STREAM
@ALONE
async def test_while_a_broken_answer_is_gone_on_with(wire, stream, wish):
    """Both attempts are paid: the one that broke off, and the prompt of the one that has said nothing yet."""
    scripts = [cut_off(wire), Script([], hold=asyncio.Event())]
    async with Upstream(lambda _: scripts.pop(0)) as upstream, running(going_on(wire, upstream)) as daemon:
        async with client(daemon, stream, wish):
            for _ in range(2):
                await upstream.arrivals.acquire()
        await upstream.closed_early.wait()
        sums = await counted(daemon)
    first = 11 if wire is ANTHROPIC else ESTIMATED
    second = ESTIMATED + (MESSAGE_TOKENS if stream else 0)  # and what there was of the answer
    assert first + second <= sums.input <= first + second + 100
    check(sums, asked=sums.input, said=4, attempts=2)


@EACH
@ALONE
async def test_in_the_middle_of_what_goes_on(wire, wish):
    """Both parts are paid."""
    body = wire.stream(Said("our five"))
    half = body[: body.index(b"\n\n", body.index(b'ive"')) + 2]
    scripts = [cut_off(wire), Script([half], then="stall")]
    async with Upstream(lambda _: scripts.pop(0)) as upstream, running(going_on(wire, upstream)) as daemon:
        async with client(daemon, True, wish) as reader:
            await read(reader, "our f")
        await upstream.closed_early.wait()
        sums = await counted(daemon)
    check(sums, asked=sums.input, said=4 + 2, attempts=2)


@STREAM
@ALONE
async def test_while_a_fallback_is_asked(stream, wish):
    """It is the fallback's price that is due."""
    async with (
        Upstream(lambda _: Script([b"{}"], status=401)) as upstream,
        Upstream(lambda _: Script([], hold=asyncio.Event())) as other,
    ):
        config = house(
            {"p": provider(CHAT, upstream), "q": provider(ANTHROPIC, other)},
            model("m", "p", CHAT, fallbacks=["spare"], price={"input": 100, "output": 100}),
            model("spare", "q", ANTHROPIC, price=PRICE),
        )
        async with running(config) as daemon:
            async with client(daemon, stream, wish):
                await other.asked.wait()
            await other.closed_early.wait()
            sums = await counted(daemon)
    check(sums, asked=ESTIMATED, said=0, attempts=2)
    (row,) = rows()
    assert (row["asked"], row["model"]) == ("m:latest", "spare:latest")


@EACH
async def test_a_client_that_leaves_a_shared_answer_leaves_it_to_the_others(wire):
    """Its own call has ended; nothing of it stays with the call of the others, who are answered."""
    hold = asyncio.Event()
    body = wire.stream(Said("hello"))
    async with Upstream(lambda _: Script([b"", body], hold=hold, held_after=1)) as upstream:
        config = house({"p": provider(wire, upstream)}, model("m", "p", wire, price=PRICE))
        async with running(config) as daemon:
            under_way = daemon._gateway._cache._chats._under_way
            _, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", question(stream=True)))
            await until(lambda: under_way)
            other = asyncio.create_task(chat(daemon, headers={}, stream=True))
            [call] = under_way.values()
            # Not when it is counted as a user: who leaves before it has joined leaves alone, and pays for that.
            await until(lambda: len(call._readers) == 2)
            writer.close()
            await until(lambda: daemon._gateway._users == 1)
            hold.set()
            assert (await other).status == 200
            sums = await counted(daemon)
            assert not under_way
    assert sums == written()
    assert sums.calls == {"left": 1, "answered": 1}
    assert (sums.input, sums.output) == (11, 7)
