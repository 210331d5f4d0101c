"""Answers that are kept or shared, with all policies in force: paid once, and each client counted for itself."""

import asyncio
from collections import Counter

import pytest

from faults import WORDS
from running import ask, connect, request, running
from together import (
    ANSWER_NUSD,
    CHAT,
    PLENTY,
    RESERVED_NUSD,
    Sums,
    chat,
    counted,
    house,
    model,
    provider,
    question,
    quiet,
    rows,
    usd,
    words,
    written,
)
from upstream import Upstream
from wires import WIRES, Said

ME, YOU = {"x-api-key": "me"}, {"x-api-key": "you"}
EACH = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])


async def joined(daemon, count):
    """Until so many read one call."""
    under_way = daemon._gateway._cache._chats._under_way
    async with asyncio.timeout(10):
        while [len(call._readers) for call in under_way.values()] != [count]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@EACH
@STREAM
async def test_twenty_who_ask_the_same_pay_once(wire, stream):
    """The budget has no more than one answer may cost; but each of the twenty counts as a request of the client."""
    async with Upstream() as upstream:
        hold = asyncio.Event()
        upstream.reply([b"", wire.stream(Said(WORDS))], hold=hold, held_after=1)
        config = house(
            {"p": provider(wire, upstream, requests_per_day=1)},
            model("m", "p", wire, requests_per_day=1),
            budgets={"all": {"daily": usd(RESERVED_NUSD)}},
            limits={"key": {"requests_per_day": 20}, "address": {"requests_per_minute": PLENTY}},
        )
        async with running(config) as daemon:
            calls = [asyncio.create_task(chat(daemon, headers=ME, stream=stream)) for _ in range(20)]
            await joined(daemon, 20)
            hold.set()
            answers = await asyncio.gather(*calls)
            refused = await chat(daemon, headers=ME, stream=stream)
            kept = await chat(daemon, headers=YOU, stream=stream)
            sums = await counted(daemon)
    assert {words(one) for one in (*answers, kept)} == {WORDS}
    assert refused.status == 429
    assert "this client key is limited to 20 requests a day" in refused.json["error"]
    assert len(upstream.requests) == 1
    assert sums == written() == Sums(Counter(answered=21, limited=1), 11, 7, ANSWER_NUSD)
    assert Counter(row["cached"] for row in rows()) == {"shared": 19, "": 2, "hit": 1}
    assert sum(row["attempts"] for row in rows()) == 1


@STREAM
async def test_the_first_leaves_and_the_others_are_answered(stream):
    """It was one call, and somebody who got the answer pays for it, once."""
    async with Upstream() as upstream:
        hold = asyncio.Event()
        body = CHAT.stream(Said(WORDS))
        upstream.reply([body[:300], body[300:]], hold=hold, held_after=1)
        config = house({"p": provider(CHAT, upstream)}, model("m", "p", CHAT))
        async with running(config) as daemon:
            reader, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", question(stream=stream)))
            await joined(daemon, 1)
            calls = [asyncio.create_task(chat(daemon, headers={}, stream=stream)) for _ in range(3)]
            await joined(daemon, 4)
            writer.close()
            await joined(daemon, 3)
            hold.set()
            assert [words(one) for one in await asyncio.gather(*calls)] == [WORDS] * 3
            sums = await counted(daemon)
    assert reader is not None
    assert len(upstream.requests) == 1
    assert not upstream.closed_early.is_set()
    assert sums == written() == Sums(Counter(answered=3, left=1), 11, 7, ANSWER_NUSD)
    (left,) = [row for row in rows() if row["outcome"] == "left"]
    assert (left["cached"], left["cost_nusd"], left["attempts"]) == ("shared", 0, 0)


@STREAM
async def test_all_leave_and_what_there_was_is_paid(stream):
    """The last one ends the call, and it is in the books of one of them."""
    async with Upstream() as upstream:
        upstream.reply([CHAT.stream(Said(WORDS))[:300]], then="stall")
        config = house(
            {"p": provider(CHAT, upstream)}, model("m", "p", CHAT, price={"input": 1, "output": 10})
        )
        async with running(config) as daemon:
            clients = []
            for number in range(1, 4):
                clients.append(await connect(daemon.url))
                clients[-1][1].write(request(daemon.url, "POST", "/api/chat", question(stream=stream)))
                await joined(daemon, number)
            await upstream.asked.wait()
            for _, writer in clients:
                writer.close()
            async with asyncio.timeout(5):
                await upstream.closed_early.wait()
            await quiet(daemon)
            sums = await counted(daemon)
    assert sums == written()
    assert sums.calls == Counter(left=3)
    assert sums.input == 5
    assert [row["attempts"] for row in rows() if row["cost_nusd"]] == [1]


async def test_who_reads_as_it_comes_does_not_wait_for_who_does_not():
    """The same question, streamed and whole at one moment, is two calls: one of them shows its words at once."""
    async with Upstream() as upstream:
        hold = asyncio.Event()
        body = CHAT.stream(Said(WORDS))
        upstream.reply([body[:300], body[300:]], hold=hold, held_after=1)
        config = house({"p": provider(CHAT, upstream)}, model("m", "p", CHAT))
        async with running(config) as daemon:
            whole = asyncio.create_task(chat(daemon, headers={}))
            await joined(daemon, 1)
            reader, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", question(stream=True)))
            async with asyncio.timeout(10):
                while b"one" not in await reader.readline():
                    pass
            hold.set()
            while b'"done":true' not in await reader.readline():
                pass
            writer.close()
            assert words(await whole) == WORDS
            sums = await counted(daemon)
    assert len(upstream.requests) == 2
    assert sums == written() == Sums(Counter(answered=2), 22, 14, 2 * ANSWER_NUSD)


@EACH
async def test_what_is_kept_costs_nothing(wire):
    """No charge, and nothing of what model and provider allow; but it is a request of its client."""
    once = {"requests_per_day": 1}
    async with Upstream() as upstream:
        upstream.reply(wire.stream(Said(WORDS)))
        config = house(
            {"p": provider(wire, upstream, **once)},
            model("m", "p", wire, **once),
            limits={"key": {"requests_per_day": 3}},
            budgets={"all": {"daily": usd(RESERVED_NUSD)}},
        )
        async with running(config) as daemon:
            answers = [await chat(daemon, headers=ME, stream=stream) for stream in (True, False, True)]
            refused = await chat(daemon, headers=ME)
            other = await ask(
                daemon.url,
                "POST",
                "/v1/chat/completions",
                {"model": "m", "messages": question()["messages"], "max_tokens": 100},
                YOU,
            )
            sums = await counted(daemon)
    assert [words(one) for one in answers] == [WORDS] * 3
    assert refused.status == 429
    assert other.json["choices"][0]["message"]["content"] == WORDS
    assert len(upstream.requests) == 1
    assert sums == written() == Sums(Counter(answered=4, limited=1), 11, 7, ANSWER_NUSD)
    assert [row["cached"] for row in rows()] == ["", "hit", "hit", "", "hit"]
    assert [row["cost_nusd"] for row in rows()] == [ANSWER_NUSD, 0, 0, 0, 0]
