"""The meter: what it tells of a call, once, however the call ends."""

import asyncio
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest
from ollama_bridge.errors import (
    CircuitOpen,
    InvalidRequest,
    ModelNotFound,
    RateLimited,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamRejected,
)
from ollama_bridge.events import Finish, TextDelta, Usage
from ollama_bridge.policies.meter import Meter
from ollama_bridge.record import CallRecord, Charge
from scripted import SILENCE, ScriptedBackend, collect

WHO = {"provider": "p", "model": "m"}
TEXT, END = TextDelta("one"), Finish(usage=Usage(3, 1))
ENDINGS = [
    (RateLimited("no more today"), "limited"),
    (InvalidRequest("no tools"), "refused"),
    (InvalidRequest("odd", status=500), "refused"),
    (ModelNotFound("m"), "refused"),
    (UpstreamRejected("no", **WHO, status=400), "refused"),
    (UpstreamRejected("bad key", **WHO), "failed"),
    (UpstreamRejected("unknown model", **WHO, status=404), "failed"),
    (UpstreamBusy("their limit", **WHO, status=429), "failed"),
    (UpstreamBroken("cut", **WHO), "failed"),
    (CircuitOpen("resting", **WHO), "failed"),
    (RuntimeError("a bug"), "failed"),
]


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class Told(list):
    """An observer that remembers, also what it was told in the moment it was told."""

    def __call__(self, record: CallRecord) -> None:
        self.append((record, record.outcome))


class Embedder:
    """Embeds as scripted."""

    def __init__(self, does):
        self._does = does

    async def embed(self, _: EmbedRequest) -> Embeddings:
        if isinstance(self._does, Exception):
            raise self._does
        if self._does is SILENCE:
            await asyncio.Event().wait()
        return self._does


async def test_what_is_said_passes_untouched():
    """Every burst, and nothing else."""
    told = Told()
    meter = Meter(ScriptedBackend([TEXT, TEXT, END]), [told])
    request = ChatRequest("m")
    assert await collect(meter.chat(request)) == [TEXT, TEXT, END]
    assert told == [(request.record, "answered")]


@pytest.mark.parametrize(("fault", "outcome"), ENDINGS, ids=lambda one: repr(one)[:40])
@pytest.mark.parametrize("before", [[], [TEXT]], ids=["before the first event", "after it"])
async def test_how_it_failed_is_told_and_the_client_hears_it(fault, outcome, before):
    """By whose fault it was, and with the time of the first event if there was one."""
    told = Told()
    request = ChatRequest("m")
    with pytest.raises(type(fault)) as raised:
        await collect(Meter(ScriptedBackend([*before, fault]), [told]).chat(request))
    assert raised.value is fault
    assert told == [(request.record, outcome)]
    assert (request.record.first_ms is None) is (not before)


async def test_a_backend_that_refuses_at_once_is_told_as_well():
    """It may raise before there is a reply, as the registry does."""

    class Refuses:
        def chat(self, request):
            raise ModelNotFound(request.model)

    told = Told()
    with pytest.raises(ModelNotFound):
        await collect(Meter(Refuses(), [told]).chat(ChatRequest("m")))
    assert [outcome for _, outcome in told] == ["refused"]


async def test_a_reply_without_an_end_has_failed():
    """Whatever the policies below promise."""
    told = Told()
    await collect(Meter(ScriptedBackend([TEXT]), [told]).chat(ChatRequest("m")))
    assert [outcome for _, outcome in told] == ["failed"]


async def test_times_are_those_of_the_first_event_and_of_the_end():
    """In milliseconds; a client that reads slowly, and what the provider does behind the end, are no part of it."""
    clock, told = Clock(), Told()

    class Slow:
        async def chat(self, _):
            clock.now_s += 0.25
            yield (TEXT,)
            clock.now_s += 1
            yield (TEXT, END)
            clock.now_s += 60

    request = ChatRequest("m")
    async with aclosing(Meter(Slow(), [told], clock_s=clock).chat(request)) as reply:
        async for _ in reply:
            assert request.record.first_ms == 250
    assert (request.record.first_ms, request.record.total_ms) == (250, 1250)


async def test_a_client_that_leaves_has_left_before_the_end_and_been_answered_behind_it():
    """Codex hangs up at the last event of every answer."""
    for reads, outcome in ((1, "left"), (2, "answered")):
        told, scripted = Told(), ScriptedBackend([TEXT, END])
        reply = Meter(scripted, [told]).chat(ChatRequest("m"))
        for _ in range(reads):
            await anext(reply)
        assert told == []
        await reply.aclose()
        assert [ending for _, ending in told] == [outcome]
        assert scripted.closed == 1


async def test_a_client_that_leaves_while_the_provider_is_silent_has_left():
    """Its handler is cancelled, and the provider's reply closed before anybody is told."""
    told, scripted = Told(), ScriptedBackend([SILENCE])

    def observer(record):
        told(record)
        assert scripted.closed == 1

    task = asyncio.create_task(collect(Meter(scripted, [observer]).chat(ChatRequest("m"))))
    await scripted.was_asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [outcome for _, outcome in told] == ["left"]


async def test_what_is_charged_while_the_reply_is_closed_is_there_when_it_is_told():
    """A client that leaves is still billed."""
    told = []

    class Charges:
        async def chat(self, request):
            try:
                yield (TEXT,)
                yield (END,)
            finally:
                request.record.charges.append(Charge("p", "m", Usage(3, 1), 5))

    reply = Meter(Charges(), [lambda record: told.append(record.cost_nusd)]).chat(ChatRequest("m"))
    await anext(reply)
    await reply.aclose()
    assert told == [5]


@pytest.mark.parametrize(
    ("does", "outcome"), [(Embeddings([[1.0]], 3), "answered"), (SILENCE, "left"), *ENDINGS], ids=repr
)
async def test_embeddings_are_told_as_well(does, outcome):
    """There is no first event."""
    told, request = Told(), EmbedRequest("m", ("text",))
    task = asyncio.create_task(Meter(Embedder(does), [told]).embed(request))
    if does is SILENCE:
        asyncio.get_running_loop().call_soon(task.cancel)
    (result,) = await asyncio.gather(task, return_exceptions=True)
    assert result is does or does is SILENCE
    assert told == [(request.record, outcome)]
    assert request.record.first_ms is None


async def test_an_observer_that_fails_is_the_logs_business():
    """The client has its answer, and the other observers are told."""

    def fails(record):
        raise RuntimeError("a bug")

    told = Told()
    with capture_logs() as logged:
        assert await collect(Meter(ScriptedBackend([END]), [fails, told]).chat(ChatRequest("m"))) == [END]
    assert [line["event"] for line in logged] == ["a call was not counted"]
    assert len(told) == 1


SCRIPTS = st.lists(st.sampled_from([TEXT, END, SILENCE, *(fault for fault, _ in ENDINGS)]), max_size=5)


@given(st.lists(st.tuples(SCRIPTS, st.integers(0, 6)), max_size=8))
def test_every_call_that_was_begun_is_told_exactly_once(calls):
    """Whatever is said, and however long somebody listens: of calls that end on their own, are closed or cancelled."""

    async def listen(meter, reads):
        async with aclosing(meter.chat(ChatRequest("m"))) as reply:
            for _ in range(reads):
                await anext(reply, None)

    async def main():
        told = Told()
        tasks = [
            asyncio.create_task(listen(Meter(ScriptedBackend(script), [told]), reads))
            for script, reads in calls
        ]
        for _ in range(20):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(told) == sum(reads > 0 for _, reads in calls)
        assert len({id(record) for record, _ in told}) == len(told)
        assert all(outcome for _, outcome in told)

    asyncio.run(main())
