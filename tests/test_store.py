"""What every store promises: all or nothing, never over a limit, and the truth about when there is enough again."""

import asyncio
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_bridge.store.shelf import Granted, Purse, Rate, Refused
from stores import rig

KINDS = ("embedded", "remote")
SOON = 3600.0


@pytest.fixture(params=KINDS)
async def made(request, tmp_path):
    async with rig(request.param, tmp_path) as made:
        yield made


def purse(made, limit, key="all/day/1", within_s=SOON):
    return Purse(key, limit, made.clock() + within_s)


def back(rate, units):
    return replace(rate, cost=-units)


async def test_what_one_takes_the_other_cannot_take(made):
    """Two connections see one state; what is spent is what was reserved."""
    one, other = made.store(), made.store()
    rates, purses = [Rate("a", 3, 60)], [purse(made, 100), purse(made, 60, "key/1")]
    first = await one.take(rates, purses, wanted=50, least=50)
    assert (first.amount, first.spent) == (50, (50, 50))
    second = await other.take(rates, purses, wanted=50, least=1)
    assert (second.amount, second.spent) == (10, (60, 60))
    assert await one.spent(purses) == await other.spent([*purses]) == (60, 60)
    assert await one.take(rates, purses, wanted=50, least=1) == Refused(purses[1], 0, SOON)
    assert await one.spent([purse(made, 1, "somebody else's")]) == (0,)


async def test_nothing_is_taken_when_one_refuses(made):
    """Neither of the rates and purses before it nor of those behind it."""
    store = made.store()
    rates, purses = [Rate("a", 5, 60), Rate("b", 9, 60, 3)], [purse(made, 100), purse(made, 10, "key")]
    for _ in range(7):
        assert await store.take(rates, purses, wanted=20, least=20) == Refused(purses[1], 10, None)
        assert (await store.take([rates[0], Rate("c", 1, 60, 2)], purses, wanted=5)).by.key == "c"
    assert await store.spent(purses) == (0, 0)
    assert isinstance(await store.take([Rate("a", 5, 60, 5), Rate("b", 9, 60, 9)], ()), Granted)


async def test_the_first_that_refuses_is_named(made):
    """Rates before purses, in their order."""
    store = made.store()
    low, high = Rate("low", 1, 60), Rate("high", 10, 60)
    await store.take([low], [purse(made, 10)], wanted=10)
    for rates, purses, by in (
        ([high, low], [purse(made, 10)], "low"),
        ([high], [purse(made, 10, "full"), purse(made, 10)], "all/day/1"),
    ):
        assert (await store.take(rates, purses, wanted=1, least=1)).by.key == by


async def test_who_needs_nothing_is_not_refused_by_an_empty_purse(made):
    """A model that costs nothing answers, also when more was spent than there was."""
    store = made.store()
    budget = purse(made, 10)
    granted = await store.take((), [budget], wanted=10)
    assert (await store.take((), [budget])).amount == 0
    store.settle(granted, (), [budget], 5)
    await made.told(store)
    assert (await store.take((), [budget], wanted=7)).spent == (15,)
    assert (await store.take((), [budget], wanted=1, least=1)).left == 0


async def test_what_is_given_back_can_be_taken_again(made):
    """By everybody, and never more than was taken."""
    one, other = made.store(), made.store()
    rate, budget = Rate("a", 100, 60, 100), purse(made, 100)
    granted = await one.take([rate], [budget], wanted=100)
    one.settle(granted, [back(rate, 70)], [budget], -70)
    await made.told(one)
    assert await other.spent([budget]) == (30,)
    assert await other.take([replace(rate, cost=70)], [budget], wanted=70, least=70)
    one.settle(granted, [back(rate, 1000)], [budget], -1000)
    await made.told(one)
    assert await other.spent([budget]) == (0,)
    assert isinstance(await other.take([rate], [budget], wanted=100, least=100), Granted)
    assert isinstance(await other.take([replace(rate, cost=1)], ()), Refused)


async def test_what_was_more_than_reserved_counts_beyond_the_limit(made):
    """It is spent, whatever was allowed; and has to be waited for."""
    store = made.store()
    rate, budget = Rate("a", 10, 60, 10), purse(made, 10)
    granted = await store.take([rate], [budget], wanted=10)
    store.settle(granted, [replace(rate, cost=20)], [budget], 20)
    await made.told(store)
    assert await store.spent([budget]) == (30,)
    made.wait(60)  # 30 in the window before: 1 fits when only a third of it still counts
    answer = await store.take([Rate("a", 10, 60)], ())
    assert answer.left == 0
    assert answer.retry_after_s == pytest.approx(40, abs=0.5)


async def test_what_is_given_back_late_leaves_newer_windows_alone(made):
    """It lowers the window that it was taken from as long as that counts, and nothing afterwards."""
    store = made.store()
    rate = Rate("a", 10, 60, 10)
    for wait_s, fits in ((60, 10), (120, 0)):
        granted = await store.take([rate], ())
        assert isinstance(granted, Granted)
        made.wait(wait_s)
        full = isinstance(await store.take([rate], ()), Granted)
        assert full == (wait_s == 120)
        store.settle(granted, [back(rate, 10)], (), 0)
        await made.told(store)
        assert isinstance(await store.take([replace(rate, cost=max(1, fits))], ()), Granted) == bool(fits)
        made.wait(240)


@pytest.mark.parametrize("late_s", [0, 20, 59, 60, 75, 100])
async def test_after_the_time_it_names_there_is_enough(made, late_s):
    """Exactly then: a second before it is refused again."""
    store = made.store()
    assert isinstance(await store.take([Rate("a", 10, 60, 9)], ()), Granted)
    made.wait(late_s)
    await store.take([Rate("a", 10, 60, 3)], ())
    for cost in (4, 8, 10):
        rate = Rate("a", 10, 60, cost)
        refused = await store.take([rate], ())
        if isinstance(refused, Granted):
            store.settle(refused, [back(rate, cost)], (), 0)
            await made.told(store)
            continue
        assert refused.left < cost
        made.wait(refused.retry_after_s - 1.0)
        again = await store.take([rate], ())
        assert isinstance(again, Refused)
        assert again.retry_after_s <= 1.01
        made.wait(again.retry_after_s + made.drift_s)
        granted = await store.take([rate], ())
        assert isinstance(granted, Granted)
        store.settle(granted, [back(rate, cost)], (), 0)
        await made.told(store)


async def test_what_can_never_fit_is_told_so(made):
    """No time is named for a request that is larger than a limit."""
    store = made.store()
    assert await store.take([Rate("a", 5, 60, 6)], ()) == Refused(Rate("a", 5, 60, 6), 5, None)
    budget = purse(made, 5)
    assert await store.take((), [budget], wanted=9, least=6) == Refused(budget, 5, None)


async def test_windows_of_one_key_are_counted_apart_and_limits_may_change(made):
    """A limit that is raised or lowered goes on from what was taken."""
    store = made.store()
    assert isinstance(await store.take([Rate("a", 5, 60, 4), Rate("a", 9, 3600, 4)], ()), Granted)
    assert (await store.take([Rate("a", 3, 60)], ())).left == 0
    assert (await store.take([Rate("a", 6, 60, 3)], ())).left == 2
    made.wait(120)
    assert isinstance(await store.take([Rate("a", 5, 60, 5)], ()), Granted)
    assert (await store.take([Rate("a", 9, 3600, 6)], ())).left == 5


async def test_who_stops_waiting_has_taken_nothing(made):
    """However far it had come when the client left."""
    store = made.store()
    rate, budget = Rate("a", 1000, 60), purse(made, 1000)
    for turns in range(12):
        taking = asyncio.create_task(store.take([rate], [budget], wanted=10))
        for _ in range(turns):
            await asyncio.sleep(0)
        if taking.cancel():
            with pytest.raises(asyncio.CancelledError):
                await taking
        else:
            store.settle(taking.result(), [back(rate, 1)], [budget], -taking.result().amount)
    await made.told(store)
    await made.told(store)
    assert await store.spent([budget]) == (0,)
    assert isinstance(await store.take([replace(rate, cost=1000)], ()), Granted)


async def test_small_values_are_kept_for_a_while(made):
    """The last one put, seen by all, until its time is over."""
    one, other = made.store(), made.store()
    assert await one.get("breaker/x") is None
    await one.put("breaker/x", b"open", ttl_s=60)
    await one.put("breaker/x", b"\x00half", ttl_s=30)
    assert await other.get("breaker/x") == b"\x00half"
    made.wait(31)
    assert await other.get("breaker/x") is None
    await one.put("breaker/x", b"open", ttl_s=60)
    await other.put("breaker/x", b"", ttl_s=0)
    assert await one.get("breaker/x") is None


async def test_one_of_many_claims_a_key(made):
    """Until its time is over, or it is given up."""
    stores = [made.store() for _ in range(4)]
    for _ in range(2):
        claims = [store.claim("probe", ttl_s=60) for store in stores for _ in range(5)]
        assert sorted(await asyncio.gather(*claims)) == [False] * 19 + [True]
        made.wait(61)
    assert await stores[0].claim("probe", ttl_s=60)
    await stores[0].put("probe", b"", ttl_s=0)
    assert await stores[1].claim("probe", ttl_s=60)


async def test_many_at_once_get_what_there_is_and_no_more(made):
    """200 at once on two connections, money for 50 and tokens for 60."""
    stores = [made.store(), made.store()]
    budget, rate = purse(made, 50 * 7 + 6), Rate("tokens", 600, 3600, 10)
    takes = [stores[n % 2].take([rate], [budget], wanted=7, least=7) for n in range(200)]
    answers = await asyncio.gather(*takes)
    assert sum(isinstance(answer, Granted) for answer in answers) == 50
    assert await stores[0].spent([budget]) == (350,)
    assert isinstance(await stores[1].take([replace(rate, cost=100)], ()), Granted)
    assert isinstance(await stores[1].take([replace(rate, cost=1)], ()), Refused)


LIMITS = {"a": 20, "b": 50}
MONEY = {"all": 1000, "key": 300}
TAKES = st.tuples(
    st.integers(0, 1),
    st.dictionaries(st.sampled_from(sorted(LIMITS)), st.integers(0, 25), max_size=2),
    st.sets(st.sampled_from(sorted(MONEY))),
    st.integers(0, 400),
    st.integers(0, 400),
)
STEPS = st.lists(
    st.one_of(TAKES, st.tuples(st.integers(0, 1), st.integers(0, 9), st.fractions(0, 2))), max_size=25
)


class Model:
    """What a store must say, as long as one window lasts."""

    def __init__(self):
        self.taken = dict.fromkeys(LIMITS, 0)
        self.spent = dict.fromkeys(MONEY, 0)

    def take(self, rates, purses, wanted, least):
        if any(self.taken[rate.key] + rate.cost > rate.limit for rate in rates):
            return None
        amount = min([wanted, *(max(0, each.limit - self.spent[each.key]) for each in purses)])
        if amount < min(least, wanted):
            return None
        self.add(rates, purses, amount)
        return amount

    def add(self, rates, purses, amount):
        for rate in rates:
            self.taken[rate.key] = max(0, self.taken[rate.key] + rate.cost)
        for each in purses:
            self.spent[each.key] = max(0, self.spent[each.key] + amount)


async def play(made, steps):
    """Take and settle as told, and hold every answer against the model."""
    stores, model, granted = (made.store(), made.store()), Model(), []
    for which, *step in steps:
        store = stores[which]
        if len(step) == 4:
            costs, keys, wanted, least = step
            rates = [Rate(key, LIMITS[key], 3600, cost) for key, cost in costs.items()]
            purses = [purse(made, MONEY[key], key) for key in sorted(keys)]
            answer = await store.take(rates, purses, wanted=wanted, least=least)
            want = model.take(rates, purses, wanted, least)
            assert (answer.amount if isinstance(answer, Granted) else None) == want
            if want is not None:
                granted.append((answer, rates, purses))
        elif granted:
            number, part = step
            answer, rates, purses = granted.pop(number % len(granted))
            rates = [replace(rate, cost=math.floor(rate.cost * (part - 1))) for rate in rates]
            amount = math.floor(answer.amount * (part - 1))
            store.settle(answer, rates, purses, amount)
            await made.told(store)
            model.add(rates, purses, amount)
        everything = [purse(made, limit, key) for key, limit in MONEY.items()]
        assert await stores[0].spent(everything) == tuple(model.spent.values())


@pytest.mark.parametrize("kind", KINDS)
def test_takes_and_settlements_in_any_order_say_what_a_model_says(kind):
    """Over two connections: granted exactly what fits, refused exactly what does not."""

    @given(steps=STEPS)
    @settings(max_examples=40)
    def plays(steps):
        runner.run(play(made, steps))
        runner.run(made.forget())

    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        context = rig(kind, Path(folder))
        made = runner.run(context.__aenter__())
        try:
            plays()
        finally:
            runner.run(context.__aexit__(None, None, None))
