"""Retry: when a provider is asked again, when it is not, and how long is waited; clock, sleep and chance are injected."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Target
from ollama_bridge.errors import (
    CircuitOpen,
    InvalidRequest,
    RateLimited,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamRejected,
    UpstreamUnreachable,
)
from ollama_bridge.events import Finish, TextDelta
from ollama_bridge.policies.retry import Backoff, Retry
from scripted import Hours, ScriptedAnswerer, collect

TARGET = Target("acme", "m-1")
CHAT = ChatRequest("m", target=TARGET)
EMBED = EmbedRequest("m", ("text",), target=TARGET)
HELLO = [TextDelta("hel"), TextDelta("lo"), Finish()]
VECTORS = Embeddings([[1.0]])


def error(kind=UpstreamBusy, **known):
    return kind("it failed", provider="acme", model="m-1", **known)


def retrying(inner, hours, *, draw=0.5, **backoff):
    return Retry(inner, Backoff(**backoff), clock_s=hours.clock_s, sleep=hours.sleep, draw=lambda: draw)


async def both(*failures, draw=0.5, **backoff):
    """The waits before an answer after these failures, the same for chat and embeddings."""
    waits = []
    for asked, answer in ((CHAT, HELLO), (EMBED, VECTORS)):
        hours = Hours()
        said = answer if asked is CHAT else [answer]
        inner = ScriptedAnswerer(*([failure] for failure in failures), said)
        retry = retrying(inner, hours, draw=draw, **backoff)
        got = await collect(retry.chat(CHAT)) if asked is CHAT else await retry.embed(EMBED)
        assert got == answer
        assert inner.asked == [asked] * (len(failures) + 1)
        waits.append(hours.waits)
    assert waits[0] == waits[1]
    return waits[0]


async def refused(failure, **backoff):
    """The error and the number of times that it took, the same for chat and embeddings; nothing else is scripted."""
    counts = []
    for asked in (CHAT, EMBED):
        hours = Hours()
        inner = ScriptedAnswerer([failure])
        retry = retrying(inner, hours, **backoff)
        with pytest.raises(type(failure)) as caught:
            await (collect(retry.chat(CHAT)) if asked is CHAT else retry.embed(EMBED))
        assert caught.value is failure
        counts.append((len(inner.asked), hours.waits))
    assert counts[0] == counts[1]
    return counts[0]


async def test_the_wait_grows():
    """By the factor, from the first on; the answer that begins is the answer."""
    assert await both(error(), error(UpstreamBroken), error(UpstreamUnreachable)) == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(("draw", "waits"), [(0.0, [0.9, 1.8, 3.6, 4.5]), (1.0, [1.1, 2.2, 4.4, 5.0])])
async def test_the_wait_is_jittered_and_bounded(draw, waits):
    """Longer or shorter by the tenth; never longer than the longest, though shorter even then."""
    assert await both(*[error()] * 4, draw=draw, max_retries=4, max_s=5.0) == waits


@pytest.mark.parametrize(
    ("asked_s", "draw", "wait_s"),
    [
        (5.0, 0.0, 5.0),
        (5.0, 1.0, 5.5),
        (0.0, 0.5, 1.0),
        (0.3, 1.0, 1.1),
        (40.0, 0.0, 40.0),
        (57.0, 1.0, None),
    ],
)
async def test_the_provider_is_given_the_time_it_asks_for(asked_s, draw, wait_s):
    """Never less, a little more by chance, also past the longest wait of our own; the time left is the bound."""
    failure = error(retry_after_s=asked_s)
    if wait_s is None:
        assert await refused(failure, draw=draw) == (1, [])
    else:
        assert await both(failure, draw=draw) == [wait_s]


@pytest.mark.parametrize("asked_s", [60.1, 90_000.0, 1e300])
async def test_a_wait_that_does_not_fit_is_not_begun(asked_s):
    """The client learns at once, and how long it is to wait itself."""
    failure = error(retry_after_s=asked_s)
    assert await refused(failure) == (1, [])
    assert failure.retry_after_s == asked_s


async def test_the_time_of_the_attempts_counts():
    """A slow failure leaves less time; nothing is begun after the deadline."""

    class Slow(ScriptedAnswerer):
        async def embed(self, request):
            hours.now_s += 20
            return await super().embed(request)

    hours = Hours()
    slow = Slow([error()])
    with pytest.raises(UpstreamBusy):
        await retrying(slow, hours, max_retries=20).embed(EMBED)
    assert (len(slow.asked), hours.waits) == (3, [1.0, 2.0])  # at 0, 21 and 43 s; the next would be at 67 s


async def test_the_last_failure_is_told():
    """After so many times it is over."""
    assert await refused(error()) == (4, [1.0, 2.0, 4.0])
    assert await refused(error(), max_retries=1) == (2, [1.0])


@pytest.mark.parametrize(
    "failure",
    [
        error(UpstreamRejected),
        error(UpstreamBusy, retryable=False),
        error(UpstreamUnreachable, retryable=False),
        error(CircuitOpen, retry_after_s=1.0),
        RateLimited("the limit of the bridge", retry_after_s=1.0),
        RateLimited("the limit of the model", elsewhere=True),
        InvalidRequest("no"),
    ],
    ids=lambda failure: failure.summary,
)
async def test_what_time_does_not_heal_is_told_at_once(failure):
    """Refusals, a circuit that is open, limits of our own, requests that cannot be."""
    assert await refused(failure) == (1, [])


@pytest.mark.parametrize(("left_s", "waits"), [(60.0, []), (0.5, [1.0])], ids=["long", "over by then"])
async def test_no_wait_for_who_will_not_be_asked(left_s, waits):
    """Its last failure has opened the circuit: fallbacks need not wait for a second try that nobody makes."""
    hours = Hours()
    inner = ScriptedAnswerer([error()], HELLO)
    blocked = CircuitOpen("not asked", provider="acme", model="m-1", retry_after_s=left_s)
    retry = Retry(
        inner,
        Backoff(),
        blocks=lambda target: blocked if target == CHAT.target else None,
        clock_s=hours.clock_s,
        sleep=hours.sleep,
        draw=lambda: 0.5,
    )
    if waits:
        assert await collect(retry.chat(CHAT)) == HELLO
    else:
        with pytest.raises(UpstreamBusy, match="it failed"):
            await collect(retry.chat(CHAT))
    assert hours.waits == waits


async def test_never_repeats_what_the_client_has_seen():
    """After the first event a failure is final, however retryable."""
    inner = ScriptedAnswerer([TextDelta("hel"), error()], HELLO)
    reply = retrying(inner, Hours()).chat(CHAT)
    assert await anext(reply) == (TextDelta("hel"),)
    with pytest.raises(UpstreamBusy):
        await anext(reply)
    assert len(inner.asked) == 1


@pytest.mark.parametrize("asked", [CHAT, EMBED], ids=["chat", "embed"])
async def test_a_client_that_leaves_while_we_wait_ends_it(asked):
    """At once, and the provider is not asked again."""
    waiting = asyncio.Event()

    async def sleep(_seconds):
        waiting.set()
        await asyncio.Event().wait()

    inner = ScriptedAnswerer([error()])
    retry = Retry(inner, Backoff(), sleep=sleep)
    doing = collect(retry.chat(CHAT)) if asked is CHAT else retry.embed(EMBED)
    client = asyncio.create_task(doing)
    await waiting.wait()
    client.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client
    assert len(inner.asked) == 1


async def test_a_reply_that_is_closed_closes_the_providers():
    """No connection stays open behind a client that left."""
    inner = ScriptedAnswerer(HELLO)
    reply = retrying(inner, Hours()).chat(CHAT)
    await anext(reply)
    await reply.aclose()
    assert inner.closed == 1


async def test_each_retry_is_a_line_without_the_providers_words():
    """Who, why, and how long; what the provider said may quote the prompt."""
    with capture_logs() as lines:
        await both(error(said="; it says: the prompt", retry_after_s=2.0), draw=0.0)
    assert lines[0] == {
        "event": "provider asked again",
        "log_level": "info",
        "provider": "acme",
        "model": "m-1",
        "reason": "acme: model 'm-1': it failed",
        "retry": 1,
        "wait_s": 2.0,
    }


@given(
    st.builds(
        Backoff,
        max_retries=st.integers(0, 20),
        initial_s=st.floats(0, 1000),
        max_s=st.floats(0, 1000),
        factor=st.floats(1, 100),
        jitter=st.floats(0, 1),
    ),
    st.integers(1, 21),
    st.none() | st.floats(0, 1e9),
    st.floats(0, 1),
)
def test_any_wait_is_bounded(backoff, failed, asked_s, draw):
    """Never negative, never less than asked for, never longer than the longest or what was asked for and its jitter."""
    wait_s = backoff.wait_s(failed, asked_s, draw)
    assert wait_s >= (asked_s or 0)
    assert wait_s <= max(backoff.max_s, (asked_s or 0) * (1 + backoff.jitter))
