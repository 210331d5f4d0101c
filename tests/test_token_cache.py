"""Tokens are fetched once however many wait, renewed while they serve, and a failure is told once."""

import asyncio

import pytest
from structlog.testing import capture_logs

from ollama_bridge.backends.token_cache import Token, Tokens
from ollama_bridge.errors import UpstreamBusy
from token_server import Clock, settled


class Fetcher:
    """Gives `t1`, `t2`, …, each when it is let go, or fails."""

    def __init__(self, good_for_s=1800.0):
        self.good_for_s = good_for_s
        self.asked = []
        self.go = asyncio.Event()
        self.go.set()
        self.failure = None

    async def __call__(self, key):
        self.asked.append(key)
        number = len(self.asked)
        await self.go.wait()
        if self.failure:
            raise self.failure
        return Token(f"t{number}", self.good_for_s)


def tokens_of(fetch):
    mono, wall = Clock(100.0), Clock(1_800_000_000.0)
    return Tokens("acme", fetch, clock_s=mono, wall_s=wall), mono, wall


async def test_many_who_wait_cause_one_fetch():
    fetch = Fetcher()
    fetch.go.clear()
    tokens, *_ = tokens_of(fetch)
    waiting = [asyncio.create_task(tokens.get(0)) for _ in range(50)]
    await settled()
    fetch.go.set()
    assert set(await asyncio.gather(*waiting)) == {"t1"}
    assert await tokens.get(0) == "t1"
    assert fetch.asked == [0]


async def test_each_key_has_a_token_of_its_own():
    fetch = Fetcher()
    tokens, *_ = tokens_of(fetch)
    assert [await tokens.get(key) for key in (0, 1, 0, 1)] == ["t1", "t2", "t1", "t2"]
    assert fetch.asked == [0, 1]


async def test_a_token_is_renewed_while_it_serves_and_nobody_waits():
    """In the last five of its thirty minutes one renewal is under way, and the old token is what everybody gets."""
    fetch = Fetcher()
    tokens, mono, wall = tokens_of(fetch)
    assert await tokens.get(0) == "t1"
    for clock in (mono, wall):
        clock.now_s += 1499
    assert await tokens.get(0) == "t1"
    assert len(fetch.asked) == 1
    fetch.go.clear()
    for clock in (mono, wall):
        clock.now_s += 2
    assert [await tokens.get(0) for _ in range(10)] == ["t1"] * 10
    await settled()
    assert len(fetch.asked) == 2
    fetch.go.set()
    await settled()
    assert await tokens.get(0) == "t2"
    assert len(fetch.asked) == 2


async def test_a_token_that_is_over_is_waited_for():
    fetch = Fetcher()
    tokens, mono, _ = tokens_of(fetch)
    await tokens.get(0)
    mono.now_s += 1790
    assert await tokens.get(0) == "t2"


async def test_sleep_of_the_machine_counts_and_a_clock_set_back_does_not():
    """The monotonic clock stands still while a laptop sleeps; the wall clock may be set back."""
    fetch = Fetcher()
    tokens, mono, wall = tokens_of(fetch)
    await tokens.get(0)
    wall.now_s += 30_000
    assert await tokens.get(0) == "t2"
    wall.now_s -= 1_000_000
    assert await tokens.get(0) == "t2"
    mono.now_s += 1790
    assert await tokens.get(0) == "t3"


async def test_who_leaves_takes_the_token_from_nobody():
    fetch = Fetcher()
    fetch.go.clear()
    tokens, *_ = tokens_of(fetch)
    first, second = (asyncio.create_task(tokens.get(0)) for _ in range(2))
    await settled()
    first.cancel()
    await settled()
    assert first.cancelled()
    fetch.go.set()
    assert await second == "t1"
    assert fetch.asked == [0]


async def test_when_all_have_left_the_token_is_kept_all_the_same():
    fetch = Fetcher()
    fetch.go.clear()
    tokens, *_ = tokens_of(fetch)
    only = asyncio.create_task(tokens.get(0))
    await settled()
    only.cancel()
    fetch.go.set()
    await settled()
    assert await tokens.get(0) == "t1"
    assert fetch.asked == [0]


async def test_a_failure_is_told_to_all_who_wait_and_the_next_one_asks_again():
    fetch = Fetcher()
    fetch.go.clear()
    fetch.failure = UpstreamBusy("no token", provider="acme", model="", retry_after_s=3.0)
    tokens, *_ = tokens_of(fetch)
    waiting = [asyncio.create_task(tokens.get(0)) for _ in range(5)]
    await settled()
    fetch.go.set()
    failed = await asyncio.gather(*waiting, return_exceptions=True)
    assert [(type(one), one.retry_after_s) for one in failed] == [(UpstreamBusy, 3.0)] * 5
    assert len({id(one) for one in failed}) == 5  # each with a traceback of its own
    assert fetch.asked == [0]
    fetch.failure = None
    assert await tokens.get(0) == "t2"


async def test_a_renewal_that_fails_is_logged_and_tried_again_later():
    """Nobody waits for it, so nobody is told; the old token serves on, and the token server is not run down."""
    fetch = Fetcher()
    tokens, mono, _ = tokens_of(fetch)
    await tokens.get(0)
    fetch.failure = UpstreamBusy("no token", provider="acme", model="")
    mono.now_s += 1600
    with capture_logs() as logs:
        for _ in range(5):
            assert await tokens.get(0) == "t1"
            await settled()
    assert [line["event"] for line in logs] == ["sign-in not renewed"]
    assert len(fetch.asked) == 2
    mono.now_s += 16
    fetch.failure = None
    assert await tokens.get(0) == "t1"
    await settled()
    assert await tokens.get(0) == "t3"


async def test_a_refused_token_is_forgotten_but_not_the_one_after_it():
    fetch = Fetcher()
    tokens, *_ = tokens_of(fetch)
    await tokens.get(0)
    tokens.forget(0, "t1")
    assert await tokens.get(0) == "t2"
    tokens.forget(0, "t1")
    assert await tokens.get(0) == "t2"
    assert len(fetch.asked) == 2


async def test_closing_ends_what_is_under_way():
    fetch = Fetcher()
    fetch.go.clear()
    tokens, *_ = tokens_of(fetch)
    waiting = asyncio.create_task(tokens.get(0))
    await settled()
    await tokens.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_no_representation_holds_a_token():
    fetch = Fetcher()
    tokens, *_ = tokens_of(fetch)
    await tokens.get(0)
    assert "t1" not in repr(tokens) + repr(tokens._held) + repr(Token("t1", 1.0))
    assert [*tokens.values()] == ["t1"]
