"""One call of a provider for all who ask the same at one moment, each of whom may come, dawdle and leave as it likes."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Message, Target
from ollama_bridge.errors import RateLimited, UpstreamBroken, UpstreamBusy
from ollama_bridge.events import Finish, TextDelta, Usage
from ollama_bridge.policies.cache import Cache, Caching, Who
from ollama_bridge.policies.timeout import Timeout
from ollama_bridge.record import CallRecord, Charge
from ollama_bridge.vault import Limits, Vault
from scripted import collect, until

WHOLE = [TextDelta("a"), TextDelta("b"), Finish(usage=Usage(3, 2))]


class Provider:
    """Says what it is told to, when it is told to, and charges for it when it is closed, as billing does."""

    def __init__(self):
        self.words = asyncio.Queue()
        self.asked = []
        self.closed = asyncio.Event()
        self.charges = 0

    def says(self, *items):
        for item in items:
            self.words.put_nowait(item)

    async def chat(self, request):
        record = request.record
        self.asked.append(request)
        record.attempts += 1
        record.model, record.provider, record.target = "m:latest", "acme", "m-1"
        try:
            while True:
                item = await self.words.get()
                if isinstance(item, BaseException):
                    raise item
                yield (item,)
                if isinstance(item, Finish):
                    return
        finally:
            self.charges += 1
            record.charges.append(Charge("acme", "m-1", Usage(3, self.charges), self.charges))
            self.closed.set()

    async def embed(self, request):
        self.asked.append(request)
        request.record.attempts += 1
        try:
            item = await self.words.get()
        finally:
            self.closed.set()
        if isinstance(item, BaseException):
            raise item
        request.record.charges.append(Charge("acme", "m-1", Usage(3), 1))
        return item


class SlowDepot:
    """Has nothing, and takes a while to say so."""

    place = Path("somewhere")
    misses_last = True

    async def read(self, keys, oldest_s):
        await asyncio.sleep(0.01)
        return {}

    def write(self, write):
        pass


def shared(provider, **caching):
    return Cache(provider, Caching(share=True, **caching), lambda _: Who(Target("acme", "m-1")))


def asks(text="Hi", **more):
    return ChatRequest("m", (Message("user", text),), options={"temperature": 0}, record=CallRecord(**more))


@pytest.fixture
def provider():
    return Provider()


def reading(cache, request):
    """A client that reads all of it."""
    return asyncio.create_task(collect(cache.chat(request)))


async def test_all_get_the_whole_answer_of_one_call(provider):
    """Those from the beginning, and those who come in the middle; each record says what it was."""
    cache = shared(provider)
    requests = [asks() for _ in range(4)]
    early = [reading(cache, request) for request in requests[:2]]
    await until(lambda: provider.asked)
    provider.says(WHOLE[0])
    async with aclosing(cache.chat(asks())) as peek:
        assert list(await anext(peek)) == WHOLE[:1]
        late = [reading(cache, request) for request in requests[2:]]
        provider.says(*WHOLE[1:])
        assert await asyncio.gather(*early, *late) == [WHOLE] * 4
    assert len(provider.asked) == 1
    assert [request.record.cached for request in requests] == ["", "shared", "shared", "shared"]
    assert {request.record.model for request in requests} == {"m:latest"}


async def test_who_pays_is_who_came_first_and_only_that_one(provider):
    """What the call took is on one record, once."""
    cache = shared(provider)
    requests = [asks() for _ in range(3)]
    tasks = [reading(cache, request) for request in requests]
    provider.says(*WHOLE)
    await asyncio.gather(*tasks)
    assert [len(request.record.charges) for request in requests] == [1, 0, 0]
    assert [request.record.attempts for request in requests] == [1, 0, 0]


async def test_when_the_first_leaves_the_others_get_all_of_it_and_one_of_them_pays(provider):
    """Its record may have been told to the ledger before the call ended, so nothing more is added to it."""
    cache = shared(provider)
    first, second, third = (asks() for _ in range(3))
    leaving, *staying = (reading(cache, request) for request in (first, second, third))
    provider.says(WHOLE[0])
    await until(provider.words.empty)
    leaving.cancel()
    await asyncio.wait({leaving})
    told = replace(first.record, charges=[*first.record.charges])
    assert not provider.closed.is_set()
    provider.says(*WHOLE[1:])
    assert await asyncio.gather(*staying) == [WHOLE] * 2
    assert first.record == told
    assert [len(one.record.charges) for one in (first, second, third)] == [0, 1, 0]
    assert [one.record.cached for one in (first, second, third)] == ["shared", "", "shared"]


async def test_when_all_have_left_the_call_is_closed_and_the_last_one_pays(provider):
    """At once: when the last one is gone, so is the provider's connection; whoever asks then is asked for anew."""
    cache = shared(provider)
    requests = [asks() for _ in range(3)]
    tasks = [reading(cache, request) for request in requests]
    await until(lambda: provider.asked)
    for task in tasks:
        assert not provider.closed.is_set()
        task.cancel()
        await asyncio.wait({task})
    assert provider.closed.is_set()
    assert [len(request.record.charges) for request in requests] == [0, 0, 1]
    another = reading(cache, asks())
    provider.says(*WHOLE)
    assert await another == WHOLE
    assert len(provider.asked) == 2


async def test_who_does_not_read_stops_nobody(provider):
    """Not even by having come first; what it then reads is all there, and in few bursts."""
    cache = shared(provider)
    async with aclosing(cache.chat(asks())) as dawdling:
        provider.says(WHOLE[0])
        said = list(await anext(dawdling))
        eager = reading(cache, asks())
        await asyncio.sleep(0)
        provider.says(*[TextDelta("x")] * 500, WHOLE[-1])
        whole = await asyncio.wait_for(eager, 5)
        assert len(whole) == 502
        bursts = [burst async for burst in dawdling]
    assert said + [event for burst in bursts for event in burst] == whole
    assert len(bursts) == 1


@pytest.mark.parametrize("said", [0, 1])
@pytest.mark.parametrize(
    "failure",
    [
        UpstreamBusy("overloaded", provider="acme", model="m-1", retry_after_s=3.0, said=": x"),
        UpstreamBroken("cut off", provider="acme", model="m-1", status=504),
        RateLimited("spent", elsewhere=True, retry_after_s=9.0),
    ],
)
async def test_a_failure_is_everybodys_and_each_has_its_own(provider, failure, said):
    """Before the first event or in the middle: the same words, status and patience, as an error that nobody shares."""
    cache = shared(provider)
    tasks = [reading(cache, asks()) for _ in range(3)]
    provider.says(*WHOLE[:said], failure)
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    for error in errors:
        assert type(error) is type(failure)
        assert str(error) == str(failure)
        assert vars(error) == vars(failure)
    assert len({id(error) for error in errors}) == 3
    provider.says(*WHOLE)
    assert await collect(cache.chat(asks())) == WHOLE, "and nobody after them gets it"


async def test_a_bug_is_told_as_it_is(provider):
    """What is no error of ours is raised as well, and no reader waits for ever."""
    cache = shared(provider)
    tasks = [reading(cache, asks()) for _ in range(2)]
    provider.says(ZeroDivisionError("bug"))
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in errors] == ["bug", "bug"]


async def test_silence_is_bounded_for_all_who_share_it(provider):
    """The clocks run inside, in the shared call."""
    timed = Timeout(provider, first_s=0.01, idle_s=0.01)
    timed.embed = provider.embed
    cache = shared(timed)
    errors = await asyncio.gather(*(reading(cache, asks()) for _ in range(3)), return_exceptions=True)
    assert [error.status for error in errors] == [504] * 3
    assert provider.closed.is_set()


@pytest.mark.parametrize(
    "other",
    [
        asks("Bye"),
        asks(key="another client key"),
        replace(asks(), options={}),
        replace(asks(), reuse="renew"),
        replace(asks(), reuse="never"),
    ],
)
async def test_others_ask_for_themselves(provider, other):
    """Another question, another budget, no temperature 0, or a client that wants no other's answer."""
    cache = shared(provider)
    tasks = [reading(cache, asks()), reading(cache, other)]
    await until(lambda: len(provider.asked) == 2)
    provider.says(*WHOLE)
    provider.says(*WHOLE)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_who_waits_for_the_disk_shares_what_begins_meanwhile(provider):
    """Both look for a kept answer in vain, at the same time, and then one asks."""
    cache = shared(provider, answers=Vault(Limits(1 << 20, 60.0), SlowDepot()))
    tasks = [reading(cache, asks()) for _ in range(2)]
    provider.says(*WHOLE)
    assert await asyncio.gather(*tasks) == [WHOLE] * 2
    assert len(provider.asked) == 1


async def test_the_newest_call_is_the_one_to_join(provider):
    """Also after an older one for the same has ended."""
    cache = shared(provider)
    old = reading(cache, asks())
    await until(lambda: provider.asked)
    new = reading(cache, replace(asks(), reuse="renew"))
    await until(lambda: len(provider.asked) == 2)
    provider.says(*WHOLE)
    assert await old == WHOLE
    joining = reading(cache, asks())
    await asyncio.sleep(0)
    provider.says(*WHOLE)
    assert [await new, await joining] == [WHOLE] * 2
    assert len(provider.asked) == 2


async def test_any_temperature_is_shared_where_the_operator_says_so(provider):
    """Not asked for, it is nobody's."""
    cache = shared(provider, any_temperature=True)
    tasks = [reading(cache, replace(asks(), options={"temperature": 0.7})) for _ in range(2)]
    provider.says(*WHOLE)
    assert await asyncio.gather(*tasks) == [WHOLE] * 2


async def test_large_questions_are_shared_too(provider):
    """Their keys are computed in threads."""
    cache = shared(provider)
    tasks = [reading(cache, asks("x" * 300_000)) for _ in range(3)]
    await until(lambda: [len(call._readers) for call in cache._chats._under_way.values()] == [3])
    provider.says(*WHOLE)
    assert await asyncio.gather(*tasks) == [WHOLE] * 3


async def test_questions_that_have_no_key_are_not_shared(provider):
    """They are asked, each for itself."""
    cache = shared(provider)
    strange = replace(asks(), options={"temperature": 0, "x": object()})
    tasks = [reading(cache, strange) for _ in range(2)]
    await until(lambda: len(provider.asked) == 2)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_vectors_are_shared_at_any_temperature(provider):
    """One call, one charge, and the error of one is the error of all."""
    cache = shared(provider)
    requests = [EmbedRequest("m", ("a",)) for _ in range(3)]
    answer = Embeddings([[0.5]], 3)
    provider.says(answer)
    assert await asyncio.gather(*map(cache.embed, requests)) == [answer] * 3
    assert [len(request.record.charges) for request in requests] == [1, 0, 0]
    assert len(provider.asked) == 1
    provider.says(UpstreamBusy("busy", provider="acme", model="m-1"))
    errors = await asyncio.gather(*map(cache.embed, requests), return_exceptions=True)
    assert [type(error) for error in errors] == [UpstreamBusy] * 3


async def test_vectors_that_nobody_waits_for_any_more_are_given_up(provider):
    """When the last one has left, and not before."""
    cache = shared(provider)
    tasks = [asyncio.create_task(cache.embed(EmbedRequest("m", ("a",)))) for _ in range(2)]
    await until(lambda: provider.asked)
    for task in tasks:
        assert not provider.closed.is_set()
        task.cancel()
        await asyncio.wait({task})
    assert provider.closed.is_set()
