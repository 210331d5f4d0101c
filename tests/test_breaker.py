"""A target that fails is left alone for a while, tried by one, and asked by all again."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from journal import journal
from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Target
from ollama_bridge.errors import (
    CircuitOpen,
    InvalidRequest,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamRejected,
    UpstreamUnreachable,
)
from ollama_bridge.events import Finish, TextDelta
from ollama_bridge.policies.breaker import Breaker
from ollama_bridge.policies.circuit_news import CircuitNews
from ollama_bridge.policies.circuits import Circuits, Tolerance
from scripted import SILENCE, ScriptedBackend, collect

WHO = {"provider": "acme", "model": "m-1"}
REQUEST = ChatRequest("m", target=Target("acme", "m-1"))
TEXTS = EmbedRequest("m", ("a",), target=Target("acme", "m-1"))
WHOLE = [TextDelta("hi"), Finish()]
DOWN = UpstreamUnreachable("no connection", **WHO)
LIMITED = UpstreamBusy("rate limit", status=429, **WHO)
ENDS = {
    "whole": None,
    "unreachable": DOWN,
    "broken": UpstreamBroken("cut off", **WHO),
    "overloaded": UpstreamBusy("overloaded", **WHO),
    "rate limited": LIMITED,
    "rejected": UpstreamRejected("no such model", **WHO),
    "our own fault": InvalidRequest("nonsense"),
    "bug": ValueError("bug"),
    "left": "left",
}
FAILURES = {"unreachable", "broken", "overloaded"}
ALIVE = {"whole", "rejected"}


class Clock:
    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


class Held:
    """A provider whose answers come when the test says so."""

    def __init__(self):
        self.asked = 0
        self.orders = None

    async def chat(self, request):
        self.asked += 1
        orders = self.orders = asyncio.Queue()
        while True:
            order = await orders.get()
            if isinstance(order, Exception):
                raise order
            yield (order,)


class Machine(RuleBasedStateMachine):
    """Any number of requests at once, which end in any order and in any way.

    What is checked against is the promise, told from the outside: who is let through, and who is not.
    """

    requests = Bundle("requests")

    @initialize(failures=st.integers(1, 3))
    def begin(self, failures):
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.circuits = Circuits(clock_s=self.clock)
        self.backend = Held()
        self.breaker = Breaker(self.backend, self.circuits, Tolerance(failures, 60))
        self.limit = failures
        self.failures = 0
        self.open_until_s = None
        self.probe = None

    def teardown(self):
        if hasattr(self, "runner"):
            self.runner.close()

    def _may_pass(self):
        return self.open_until_s is None or (self.clock.now_s >= self.open_until_s and self.probe is None)

    @rule(target=requests)
    def ask(self):
        return self.runner.run(self._ask())

    async def _ask(self):
        may, before = self._may_pass(), self.backend.asked
        reply = self.breaker.chat(REQUEST)
        task = asyncio.ensure_future(anext(reply))
        for _ in range(3):
            await asyncio.sleep(0)
        if not may:
            with pytest.raises(CircuitOpen) as caught:
                await task
            assert caught.value.retry_after_s > 0
            assert self.backend.asked == before
            return None
        assert self.backend.asked == before + 1
        request = {"reply": reply, "task": task, "orders": self.backend.orders, "began": False}
        if self.open_until_s is not None:
            self.probe = request
        return request

    @rule(request=requests)
    def answer_begins(self, request):
        if request is None or request["began"]:
            return
        request["began"] = True
        self.runner.run(self._step(request, TextDelta("x")))
        if request is self.probe:
            self.probe, self.open_until_s, self.failures = None, None, self.limit - 1

    @rule(request=consumes(requests), how=st.sampled_from(sorted(ENDS)))
    def end(self, request, how):
        if request is None:
            return
        self.runner.run(self._end(request, how))
        is_probe = request is self.probe
        if is_probe:
            self.probe = None
        if how in ALIVE and (is_probe or self.open_until_s is None):
            self.failures, self.open_until_s = 0, None
        elif how in FAILURES and (is_probe or self.open_until_s is None):
            self.failures += 1
            if is_probe or self.failures >= self.limit:
                self.open_until_s = self.clock.now_s + 60

    async def _step(self, request, order):
        request["orders"].put_nowait(order)
        assert await request["task"] == (order,)
        request["task"] = asyncio.ensure_future(anext(request["reply"]))
        await asyncio.sleep(0)

    async def _end(self, request, how):
        if how == "left":
            request["task"].cancel()
            with suppress(asyncio.CancelledError):
                await request["task"]
        elif how == "whole":
            request["orders"].put_nowait(Finish())
            await request["task"]  # and who has read the end hangs up
        else:
            request["orders"].put_nowait(ENDS[how])
            with pytest.raises(type(ENDS[how])):
                await request["task"]
        await request["reply"].aclose()

    @rule(seconds=st.sampled_from([1, 30, 59.9, 60]))
    def wait(self, seconds):
        self.clock.now_s += seconds

    @invariant()
    def what_is_shown_is_so(self):
        if not hasattr(self, "circuits"):
            return
        circuit = self.circuits.of("acme", "m-1")
        if self.open_until_s is None:
            assert circuit.state == "closed"
        else:
            assert circuit.state == ("open" if self.clock.now_s < self.open_until_s else "half-open")


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def breaker(*scripts, failures=2, clock=None, news=None, circuits=None):
    backend = ScriptedBackend(*scripts)
    circuits = circuits or Circuits(clock_s=clock or Clock())
    return backend, Breaker(backend, circuits, Tolerance(failures, 60), news)


async def fails(policy, error=UpstreamUnreachable):
    with pytest.raises(error) as caught:
        await collect(policy.chat(REQUEST))
    return caught.value


async def test_who_is_refused_learns_who_fails_since_when_and_when_it_is_tried_again():
    """Provider, model, time, number of failures, and how long to wait; and nothing that the provider said."""
    clock = Clock()
    _, policy = breaker([UpstreamBroken("cut off", said=" SECRET", **WHO)], clock=clock)
    await fails(policy, UpstreamBroken)
    await fails(policy, UpstreamBroken)
    clock.now_s += 20
    refused = await fails(policy, CircuitOpen)
    assert (refused.status, refused.retry_after_s, refused.retryable) == (503, 40, False)
    message = str(refused)
    assert message.startswith("acme: model 'm-1': not asked since ")
    assert "UTC, after 2 failures in a row; it is tried again in 40 s" in message
    assert "SECRET" not in message
    clock.now_s += 39.7
    assert str(await fails(policy, CircuitOpen)).endswith("it is tried again in 1 s"), "never in 0 s"


async def test_opening_and_closing_are_logged_once():
    """A warning with the reason, and a line when it is over."""
    clock = Clock()
    with journal() as written:
        _, policy = breaker([DOWN], [DOWN], WHOLE, clock=clock)
        await fails(policy)
        await fails(policy)
        await fails(policy, CircuitOpen)
        clock.now_s += 60
        await collect(policy.chat(REQUEST))
    lines = written.text.splitlines()
    assert sum("a model is not asked for a while" in line for line in lines) == 1
    assert sum("a model is asked again" in line for line in lines) == 1
    assert "no connection" in written.text


async def test_answers_that_begin_and_break_off_open_it_too():
    """The count is set back by a whole answer only."""
    backend, policy = breaker([TextDelta("x"), UpstreamBroken("cut off", **WHO)])
    await fails(policy, UpstreamBroken)
    await fails(policy, UpstreamBroken)
    await fails(policy, CircuitOpen)
    assert len(backend.asked) == 2


async def test_a_probe_that_breaks_off_opens_it_at_once():
    """Its first words let the others in, its end shuts the door again."""
    clock = Clock()
    backend, policy = breaker([DOWN], [DOWN], [TextDelta("x"), DOWN], clock=clock)
    await fails(policy)
    await fails(policy)
    clock.now_s += 60
    await fails(policy)
    await fails(policy, CircuitOpen)
    assert len(backend.asked) == 3


async def test_who_ends_late_tells_nothing_new():
    """Who was let in before the circuit opened makes the wait no longer by failing, and no shorter by answering."""
    clock, held = Clock(), Held()
    policy = Breaker(held, Circuits(clock_s=clock), Tolerance(1, 60))
    replies = [policy.chat(REQUEST) for _ in range(3)]
    begun = []
    for reply in replies:
        end = asyncio.ensure_future(anext(reply))
        await settled()
        begun.append((end, held.orders))
    for (end, orders), order in zip(begun, [DOWN, DOWN, Finish()], strict=True):
        orders.put_nowait(order)
        await asyncio.wait({end})
        clock.now_s += 15
    assert [type(end.exception()) for end, _ in begun] == [
        UpstreamUnreachable,
        UpstreamUnreachable,
        type(None),
    ]
    await replies[-1].aclose()
    assert (await fails(policy, CircuitOpen)).retry_after_s == 60 - 3 * 15


async def test_of_twenty_at_once_one_tries():
    """The others are refused at once and without being sent on."""
    clock = Clock()
    backend, policy = breaker([DOWN], [DOWN], [SILENCE], clock=clock)
    await fails(policy)
    await fails(policy)
    clock.now_s += 60
    tasks = [asyncio.create_task(collect(policy.chat(REQUEST))) for _ in range(20)]
    done, (probe,) = await asyncio.wait(tasks, timeout=1)
    assert {type(task.exception()) for task in done} == {CircuitOpen}
    assert len(backend.asked) == 3
    probe.cancel()
    await asyncio.wait({probe})
    backend._scripts.append(WHOLE)
    backend._scripts.popleft()
    assert await collect(policy.chat(REQUEST)) == WHOLE


async def test_targets_fail_each_for_itself():
    """Another model of the same provider is still asked, and so is the same model elsewhere."""
    _, policy = breaker([DOWN], [DOWN], WHOLE)
    await fails(policy)
    await fails(policy)
    for target in (Target("acme", "m-2"), Target("other", "m-1")):
        assert await collect(policy.chat(ChatRequest("m", target=target))) == WHOLE


class Vectors:
    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def embed(self, request):
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_embeddings_count_as_answers_do():
    """They open the circuit, fail fast, and close it again; a rate limit in between frees the probe's place."""
    clock = Clock()
    inner = Vectors(DOWN, DOWN, LIMITED, Embeddings([[1.0]]), Embeddings([[2.0]]))
    policy = Breaker(inner, Circuits(clock_s=clock), Tolerance(2, 60))
    for error in (UpstreamUnreachable, UpstreamUnreachable, CircuitOpen):
        with pytest.raises(error):
            await policy.embed(TEXTS)
    clock.now_s += 60
    with pytest.raises(UpstreamBusy):
        await policy.embed(TEXTS)
    assert [(await policy.embed(TEXTS)).vectors for _ in range(2)] == [[[1.0]], [[2.0]]]
    assert inner.asked == 5


class Shared:
    """A store's small values, in memory."""

    def __init__(self):
        self.values = {}
        self.gets = 0

    async def get(self, key):
        self.gets += 1
        await asyncio.sleep(0)
        return self.values.get(key)

    async def put(self, key, value, *, ttl_s):
        await asyncio.sleep(0)
        self.values[key] = value

    async def claim(self, key, *, ttl_s):
        await asyncio.sleep(0)
        return self.values.setdefault(key, owner := object()) is owner


class Instance:
    """One of several that share circuits."""

    def __init__(self, store, clock, *scripts):
        self.circuits = Circuits(clock_s=clock, now_s=clock)
        self.circuits.keep([REQUEST.target])
        self.news = CircuitNews(self.circuits, store)
        self.backend, self.policy = breaker(*scripts, news=self.news, circuits=self.circuits)

    @property
    def state(self):
        return self.circuits.of("acme", "m-1").state


async def settled():
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_one_finds_out_the_others_know_at_their_next_look():
    """That it opened, until when, and that it closed; a look without news is one question."""
    store, clock = Shared(), Clock()
    one, other = (Instance(store, clock, [DOWN], [DOWN], WHOLE) for _ in range(2))
    await fails(one.policy)
    await fails(one.policy)
    await settled()
    clock.now_s += 10
    await other.news.look()
    assert (other.state, other.circuits.of("acme", "m-1").left_s) == ("open", 50)
    await fails(other.policy, CircuitOpen)
    assert other.backend.asked == []
    before = store.gets
    await other.news.look()
    assert store.gets == before + 1
    clock.now_s += 60
    await collect(one.policy.chat(REQUEST))
    await settled()
    await other.news.look()
    assert other.state == "closed"


async def test_one_probe_among_all_instances():
    """Who comes second waits; it learns how the probe ended by its next look, and probes itself after a new opening."""
    store, clock = Shared(), Clock()
    one = Instance(store, clock, [DOWN], [DOWN], [SILENCE], [DOWN])
    other = Instance(store, clock, WHOLE)
    await fails(one.policy)
    await fails(one.policy)
    await settled()
    await other.news.look()
    clock.now_s += 60
    probe = asyncio.create_task(collect(one.policy.chat(REQUEST)))
    await settled()
    refused = await fails(other.policy, CircuitOpen)
    assert 0 < refused.retry_after_s <= 1
    probe.cancel()
    await asyncio.wait({probe})
    await fails(one.policy)  # it still has the claim, and tries again
    await settled()
    await other.news.look()
    clock.now_s += 60
    assert await collect(other.policy.chat(REQUEST)) == WHOLE


async def test_news_that_cannot_be_read_change_nothing():
    """Another version may say it in other words."""
    store, clock = Shared(), Clock()
    one = Instance(store, clock, WHOLE)
    for odd in (b"", b"{}", b"[]", b'{"by": 1, "open": true, "opening": "x"}'):
        store.values |= {"breaker/acme/m-1": odd, "breaker/changed": odd + b"1"}
        await one.news.look()
        assert one.state == "closed"


async def test_it_listens_until_it_is_closed():
    """One look a second, in the background, and the last news get out."""
    store, clock = Shared(), Clock()
    one = Instance(store, clock, [DOWN], [DOWN])
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        await asyncio.sleep(0)

    other = Instance(store, clock, WHOLE)
    other.news = CircuitNews(other.circuits, store, sleep=sleep)
    other.news.listen()
    await fails(one.policy)
    await fails(one.policy)
    await one.news.aclose()
    await settled()
    assert other.state == "open"
    assert set(slept) == {1.0}
    await other.news.aclose()
