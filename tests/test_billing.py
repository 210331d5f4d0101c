"""Every attempt is reserved, priced and settled; what the log and the client are told when it may not be."""

import asyncio
import datetime as dt
from contextlib import aclosing, suppress
from dataclasses import replace
from decimal import Decimal
from functools import partial
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from ollama_bridge.allowances import Budget, Price, Rates
from ollama_bridge.backends.embedding import Limits as EmbedLimits
from ollama_bridge.backends.embedding import embed_in_parts
from ollama_bridge.chat import (
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Image,
    Infill,
    Message,
    Rules,
    Target,
    Tool,
)
from ollama_bridge.errors import CircuitOpen, InvalidRequest, RateLimited, UpstreamBroken, UpstreamSilent
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_bridge.policies.billing import Billing
from ollama_bridge.policies.client_limits import ClientLimits
from ollama_bridge.policies.limits import SOON_S, Account, Limits, stated
from ollama_bridge.policies.terms import Terms, account_of_key
from ollama_bridge.policies.till import Till
from ollama_bridge.prices import FREE, told
from ollama_bridge.record import CallRecord, Charge
from ollama_bridge.store.embedded import EmbeddedStore
from ollama_bridge.tokens import measure
from scripted import SILENCE, ScriptedBackend, collect

NOON_S = dt.datetime(2026, 11, 21, 12, 30, tzinfo=dt.UTC).timestamp()
CENT = 10**7  # nano-dollars
QUOTE = told(
    "openai", Price(input=Decimal(10), output=Decimal(100))
)  # 10_000 and 100_000 nano-dollars a token
TARGET = Target("acme", "m-1", max_output_tokens=4000, context_length=32_000, name="m:latest")
USED = Usage(20, 30)
COST = 20 * 10_000 + 30 * 100_000
ANSWER = [TextDelta("hello"), Finish(usage=USED)]
BROKEN = UpstreamBroken("cut off", provider="acme", model="m-1")


class Clock:
    """Stands still until it is set."""

    now_s = NOON_S

    def __call__(self):
        return self.now_s


@pytest.fixture
async def clock():
    return Clock()


@pytest.fixture
async def till(tmp_path, clock):
    store = EmbeddedStore(tmp_path / "state.sqlite3", clock)
    yield Till(store, clock_s=clock)
    await store.aclose()


def budget(**more):
    return Budget(
        **{name: value if name == "instead" else Decimal(str(value)) for name, value in more.items()}
    )


def of_all(**more):
    return Account("all", "of all clients together", budget(**more))


def of_model(**more):
    return Account("model/m:latest", "of model 'm:latest'", budget(**more), elsewhere=True)


def limited(**allowed):
    return stated(Limits.of("model/m:latest", "model 'm:latest'", Rates(**allowed), elsewhere=True))


def billing(inner, till, clock, quote=QUOTE, **terms):
    async def of(name):
        assert name == "m:latest"
        return Terms(quote, **terms)

    return Billing(inner, of, till, clock_s=clock)


def asking(text="hi", target=TARGET, **more):
    return ChatRequest("m", (Message("user", text),), target=target, record=CallRecord(key="k1"), **more)


async def spent(till, account):
    drawers = till.drawers([account], till._clock_s())
    return (await till.store.spent([drawer.purse for drawer in drawers]))[0]


async def test_a_whole_answer_costs_what_the_provider_counted(till, clock):
    """The charge stands in the record before `Finish` is passed on, and the budget holds exactly that."""
    account = of_all(daily=1)
    policy = billing(ScriptedBackend(ANSWER), till, clock, accounts=(account,))
    request = asking()
    seen = []
    async with aclosing(policy.chat(request)) as bursts:
        async for (event,) in bursts:
            seen.append((type(event), len(request.record.charges)))
    assert seen == [(TextDelta, 0), (Finish, 1)]
    assert request.record.charges == [Charge("acme", "m-1", USED, COST, 0)]
    assert await spent(till, account) == COST


async def test_nothing_is_counted_where_nothing_is_limited(clock):
    """Without limits and budgets the request itself is passed on, and still priced; an unknown price is none."""
    for quote, cost in ((QUOTE, COST), (lambda _: None, None)):
        inner = ScriptedBackend(ANSWER)
        request = asking()
        assert await collect(billing(inner, None, clock, quote).chat(request)) == ANSWER
        assert inner.asked[0] is request
        assert [charge.cost_nusd for charge in request.record.charges] == [cost]


async def test_what_fails_before_it_begins_costs_nothing(till, clock):
    """Unless the provider said otherwise; and what was reserved is given back."""
    account = of_all(daily=1)
    request = asking()
    with pytest.raises(UpstreamBroken):
        await collect(billing(ScriptedBackend([BROKEN]), till, clock, accounts=(account,)).chat(request))
    assert request.record.charges == []
    assert await spent(till, account) == 0


async def test_what_the_provider_said_before_it_failed_is_billed(till, clock):
    """Also where no event came of it; what an earlier attempt was told is forgotten."""

    class Telling(ScriptedBackend):
        async def chat(self, request):
            try:
                async with aclosing(super().chat(request)) as bursts:
                    async for burst in bursts:
                        yield burst
            finally:
                request.record.told = Usage(50, 2, cached_read_tokens=10)

    account = of_all(daily=1)
    request = asking()
    request.record.told = Usage(999, 999)
    policy = billing(Telling([BROKEN]), till, clock, accounts=(account,))
    with pytest.raises(UpstreamBroken):
        await collect(policy.chat(request))
    cost = 50 * 10_000 + 2 * 100_000
    assert request.record.charges == [
        Charge("acme", "m-1", Usage(50, 2, cached_read_tokens=10), cost, is_estimated=True)
    ]
    assert await spent(till, account) == cost


SAID = [ThinkingDelta("so"), TextDelta("é" * 10), ToolCall("1", "f", {"a": 1})]
SAID_TOKENS = -(-(2 + 20 + 1 + len('{"a":1}')) // 4)


@pytest.mark.parametrize("how", ["fails", "closed", "cancelled"])
async def test_what_breaks_off_costs_what_came_of_it(till, clock, how):
    """A quarter of the bytes, and the prompt, where the provider said nothing itself."""
    account = of_all(daily=1)
    request = asking("x" * 400)
    backend = ScriptedBackend([*SAID, BROKEN if how == "fails" else SILENCE])
    reply = billing(backend, till, clock, accounts=(account,)).chat(request)
    if how == "fails":
        with pytest.raises(UpstreamBroken):
            await collect(reply)
    else:
        for _ in SAID:
            await anext(reply)
        if how == "closed":
            await reply.aclose()
        else:
            task = asyncio.ensure_future(anext(reply))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    usage = Usage(measure(request).likely, SAID_TOKENS)
    cost = usage.input_tokens * 10_000 + usage.output_tokens * 100_000
    assert request.record.charges == [Charge("acme", "m-1", usage, cost, is_estimated=True)]
    assert await spent(till, account) == cost
    assert backend.closed == 1


async def test_who_leaves_before_it_begins_has_asked_all_the_same(till, clock):
    """The prompt was sent."""
    account = of_all(daily=1)
    request = asking("x" * 400)
    backend = ScriptedBackend([SILENCE])
    task = asyncio.create_task(collect(billing(backend, till, clock, accounts=(account,)).chat(request)))
    await backend.was_asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [charge.usage for charge in request.record.charges] == [Usage(measure(request).likely)]
    assert await spent(till, account) == measure(request).likely * 10_000


async def test_who_is_silent_has_been_asked_all_the_same(till, clock):
    """What a model thinks about until we give up is billed: the prompt at least."""
    silence = UpstreamSilent("silent for 300 s", provider="acme", model="m-1")

    async def embed(request):
        raise silence

    account = of_all(daily=1)
    chats = billing(ScriptedBackend([silence]), till, clock, accounts=(account,))
    embeddings = billing(SimpleNamespace(embed=embed), till, clock, accounts=(account,))
    asked, embedded = asking("x" * 400), EmbedRequest("m", ("x" * 400,), target=TARGET)
    with pytest.raises(UpstreamSilent):
        await collect(chats.chat(asked))
    with pytest.raises(UpstreamSilent):
        await embeddings.embed(embedded)
    tokens = measure(asked).likely + measure(embedded).likely
    assert await spent(till, account) == tokens * 10_000


async def test_parts_of_embeddings_that_nobody_gets_are_billed_too(till, clock):
    """One that is answered, and one under way, when a third fails: each attempt at all of them has its price."""
    others = asyncio.Barrier(3)

    async def part(request):
        if request.inputs == ("slow",):
            await others.wait()
            await asyncio.Event().wait()
        if request.inputs == ("bad",):
            await others.wait()
            await answered.wait()
            raise BROKEN
        await others.wait()
        answered.set()
        return Embeddings([[1.0]], 7)

    async def embed(request):
        return await embed_in_parts(request, EmbedLimits(inputs=1), part)

    account = of_all(daily=1)
    answered = asyncio.Event()
    request = EmbedRequest("m", ("counted", "slow", "bad"), target=TARGET)
    with pytest.raises(UpstreamBroken):
        await billing(SimpleNamespace(embed=embed), till, clock, accounts=(account,)).embed(request)
    tokens = 7 + measure(replace(request, inputs=("slow",))).likely
    assert [(each.usage, each.is_estimated) for each in request.record.charges] == [(Usage(tokens), True)]
    assert await spent(till, account) == tokens * 10_000


@pytest.mark.parametrize("said", [Usage(10**300, 10**300), Usage(-(10**9), -(10**9))])
async def test_a_count_that_cannot_be_breaks_no_budget(till, clock, said):
    """What is absurd is settled as the most, or as nothing: never less than that, and others are settled with it."""
    account = of_all(daily=1)
    for usage in (USED, said):
        policy = billing(ScriptedBackend([Finish(usage=usage)]), till, clock, accounts=(account,))
        await collect(policy.chat(asking()))
    assert await spent(till, account) == (COST if said.input_tokens < 0 else COST + 2**53)


async def test_an_answer_without_a_count_is_estimated(till, clock):
    """Vendors that never count, and answers that end at a stop word of ours."""
    request = asking("x" * 400)
    backend = ScriptedBackend([TextDelta("y" * 40), Finish(usage=Usage(output_tokens=12))])
    await collect(billing(backend, till, clock).chat(request))
    usage = Usage(measure(request).likely, 12)
    assert [(charge.usage, charge.is_estimated) for charge in request.record.charges] == [(usage, True)]


async def test_embeddings_are_billed_too(till, clock):
    """By the provider's count, or else by the bytes; a failure costs nothing."""

    async def embed(request):
        if request.inputs == ("bad",):
            raise BROKEN
        return Embeddings([[1.0]], 7 if request.inputs == ("counted",) else 0)

    account = of_all(daily=1)
    policy = billing(SimpleNamespace(embed=embed), till, clock, accounts=(account,))
    costs = []
    for text in ("counted", "x" * 400):
        request = EmbedRequest("m", (text,), target=TARGET)
        await policy.embed(request)
        costs += [(charge.cost_nusd, charge.is_estimated) for charge in request.record.charges]
    with pytest.raises(UpstreamBroken):
        await policy.embed(EmbedRequest("m", ("bad",), target=TARGET))
    assert costs == [(70_000, False), (1_000_000, True)]
    assert await spent(till, account) == 1_070_000


async def test_the_most_that_it_can_cost_is_reserved(till, clock):
    """While an answer is under way, all that it may come to is spent; and the provider is held to it."""
    account = of_all(daily=5)
    backend = ScriptedBackend([TextDelta("a"), SILENCE])
    request = asking()
    reply = billing(backend, till, clock, accounts=(account,)).chat(request)
    await anext(reply)
    assert await spent(till, account) == measure(request).most * 10_000 + 4000 * 100_000
    assert backend.asked[0].options["num_predict"] == 4000
    await reply.aclose()


async def test_a_budget_can_be_used_up_to_its_end(till, clock):
    """The answer is limited to what is left, as long as it is worth asking; then it is 429."""
    room = measure(asking()).most * 10_000
    limit = (room + 2000 * 100_000) / 10**9
    account = of_all(daily=limit)
    backend = ScriptedBackend(ANSWER)
    policy = billing(backend, till, clock, accounts=(account,))
    with capture_logs() as logs:
        await collect(policy.chat(asking()))
    assert backend.asked[0].options["num_predict"] == 2000
    assert [line["event"] for line in logs] == ["answer limited by what is left of a budget"]
    await collect(policy.chat(asking(options={"num_predict": 50})))
    assert backend.asked[1].options["num_predict"] == 50
    while True:
        try:
            await collect(policy.chat(asking()))
        except RateLimited as exc:
            refused = exc
            break
        assert 1024 <= backend.asked[-1].options["num_predict"] <= 2000
    assert refused.retry_after_s == 11.5 * 3600
    assert await spent(till, account) <= limit * 10**9


async def test_a_gap_is_filled_within_its_own_limit(till, clock):
    """Who fills it sees to it: a limit of ours would make a long answer of a short one."""
    account = of_all(daily=1)
    backend = ScriptedBackend(ANSWER)
    request = asking(infill=Infill("def f(", ")"))
    await collect(billing(backend, till, clock, accounts=(account,)).chat(request))
    assert "num_predict" not in backend.asked[0].options


async def test_what_costs_nothing_needs_no_budget(till, clock):
    """A local model answers on when the money is spent."""
    account = of_all(daily=0.000000001)
    request = asking()
    policy = billing(ScriptedBackend(ANSWER), till, clock, lambda _: FREE, accounts=(account,))
    assert await collect(policy.chat(request)) == ANSWER
    assert request.record.charges[0].cost_nusd == 0


async def refusal(policy, request=None):
    with pytest.raises(RateLimited) as caught:
        await collect(policy.chat(request or asking()))
    return caught.value


async def test_a_budget_says_whose_it_is_and_when_it_begins_anew(till, clock):
    """And nothing of what others spent."""
    for span, until in (
        ("hourly", "2026-11-21 13:00:00"),
        ("daily", "2026-11-22 00:00:00"),
        ("monthly", "2026-12-01 00:00:00"),
    ):
        account = of_all(instead="cheap", **{span: 0.5})
        drawer = account.drawers(int(NOON_S // 3600))[0]
        await till.store.take((), [drawer.purse], wanted=40 * CENT, least=1)
        exc = await refusal(billing(ScriptedBackend(ANSWER), till, clock, accounts=(account,)))
        assert str(exc) == (
            f"the {span} budget of 0.5 USD of all clients together is used up: too little is left for this "
            f"request, which may cost 0.1233 USD; it begins anew at {until} UTC"
        )
        assert (exc.status, exc.elsewhere, exc.instead) == (429, False, "cheap")
        assert exc.retry_after_s == drawer.purse.until_s - NOON_S


async def test_a_request_that_no_budget_could_ever_pay_for_says_so(till, clock):
    """Waiting would not help; another model may."""
    exc = await refusal(billing(ScriptedBackend(ANSWER), till, clock, accounts=(of_model(daily=0.01),)))
    assert str(exc) == (
        "the daily budget of 0.01 USD of model 'm:latest' cannot pay for this request, which may cost 0.1233 USD: "
        "limit the answer (num_predict, max_tokens), or ask a cheaper model"
    )
    assert (exc.elsewhere, exc.retry_after_s) == (True, None)


async def test_under_a_budget_an_unknown_price_is_no_price(till, clock):
    """The message says what to set, and the provider is not asked."""
    backend = ScriptedBackend(ANSWER)
    exc = await refusal(billing(backend, till, clock, lambda _: None, accounts=(of_all(daily=1),)))
    assert "model 'm:latest' (acme: 'm-1')" in str(exc)
    assert "models[].price" in str(exc)
    assert exc.elsewhere
    assert backend.asked == []


async def test_each_client_key_has_its_own_budget(till, clock):
    """What one spends is not another's; who brings none shares one with all others who bring none."""
    policy = billing(ScriptedBackend(ANSWER), till, clock, of_key=partial(account_of_key, budget(daily=0.5)))
    for key in ("k1", ""):
        drawer = account_of_key(budget(daily=0.5), key).drawers(int(NOON_S // 3600))[0]
        await till.store.take((), [drawer.purse], wanted=50 * CENT, least=1)
    assert "budget of 0.5 USD of this client key is used up" in str(await refusal(policy))
    nobody = ChatRequest("m", target=TARGET)
    assert "budget of 0.5 USD of clients without a key is used up" in str(await refusal(policy, nobody))
    other = ChatRequest("m", target=TARGET, record=CallRecord(key="kлюч\n"))
    assert await collect(policy.chat(other)) == ANSWER


async def test_the_log_warns_once_a_window(till, clock):
    """Before it is used up, and when it is; the next day again."""
    account = of_all(daily=0.2, warn_at=0.015)
    policy = billing(ScriptedBackend(ANSWER), till, clock, accounts=(account,))
    request = {"options": {"num_predict": 16}}
    for day in ("2026-11-21", "2026-11-22"):
        with capture_logs() as logs:
            for _ in range(70):
                with suppress(RateLimited):
                    await collect(policy.chat(asking(**request)))
        assert logs == [
            {
                "event": "budget nearly used up",
                "budget": f"all/daily/{day}",
                "limit_usd": "0.2",
                "spent_usd": "0.0032",
                "log_level": "warning",
            },
            {
                "event": "budget used up",
                "budget": f"all/daily/{day}",
                "limit_usd": "0.2",
                "spent_usd": "0.1792",
                "log_level": "warning",
            },
        ]
        clock.now_s += 86_400


async def test_what_calls_under_way_may_cost_is_not_said_to_be_spent(till, clock):
    """They give most of it back: who is refused meanwhile is told to wait for that, and nobody is warned of it."""
    account = of_all(daily=0.2, warn_at=0.5)
    drawer = account.drawers(int(NOON_S // 3600))[0]
    policy = billing(ScriptedBackend(ANSWER), till, clock, accounts=(account,))
    request = {"options": {"num_predict": 16}}
    with capture_logs() as logs:
        taken = await till.take((), 0, [account], wanted=15 * CENT, least=1)
        exc = await refusal(policy)
        assert "is used up by what calls under way may cost: too little is left" in str(exc)
        assert str(exc).endswith("ask again when they have ended; it begins anew at 2026-11-22 00:00:00 UTC")
        assert exc.retry_after_s == SOON_S
        await collect(policy.chat(asking(**request)))
        till.settle(taken, tokens=0, nusd=CENT)
        await collect(policy.chat(asking(**request)))
    assert logs == []
    with capture_logs() as logs:
        await till.take((), 0, [account], wanted=2 * CENT, least=1)
        await till.store.take((), [drawer.purse], wanted=15 * CENT, least=1)  # by others, or before a restart
        exc = await refusal(policy)
    assert "is used up: too little is left" in str(exc)
    assert exc.retry_after_s == drawer.purse.until_s - NOON_S
    (line,) = logs
    assert line["event"] == "budget used up"
    assert 0.16 <= float(line["spent_usd"]) < 0.18


async def test_what_is_settled_while_a_refusal_is_worded_counts_as_under_way(till, clock, monkeypatch):
    """The store may still count it as spent: nobody is sent away until midnight for that."""
    account = of_all(daily=0.2)
    policy = billing(ScriptedBackend(ANSWER), till, clock, accounts=(account,))
    taken = await till.take((), 0, [account], wanted=15 * CENT, least=1)
    spent = till.store.spent

    async def spent_then_settled(purses):
        found = await spent(purses)
        till.settle(taken, tokens=0, nusd=CENT)
        return found

    monkeypatch.setattr(till.store, "spent", spent_then_settled)
    exc = await refusal(policy)
    assert "is used up by what calls under way may cost" in str(exc)
    assert exc.retry_after_s == SOON_S


async def test_a_call_that_no_budget_could_pay_for_is_no_budget_used_up(till, clock):
    """One warning for each, and the first does not hide the second."""
    account = of_all(daily=0.2)
    policy = billing(ScriptedBackend(ANSWER), till, clock, accounts=(account,))
    large = asking("x" * 200_000)
    with capture_logs() as logs:
        for _ in range(2):
            with pytest.raises(RateLimited, match="cannot pay"):
                await collect(policy.chat(large))
        await till.store.take((), [till.drawers([account], NOON_S)[0].purse], wanted=19 * CENT, least=1)
        await refusal(policy)
    assert [line["event"] for line in logs] == ["a call costs more than a budget holds", "budget used up"]


async def test_rates_say_whose_they_are_and_when_to_ask_again(till, clock):
    """429 with the seconds to wait, and another model may answer meanwhile."""
    policy = billing(ScriptedBackend(ANSWER), till, clock, limits=limited(requests_per_minute=2))
    for _ in range(2):
        await collect(policy.chat(asking()))
    exc = await refusal(policy)
    assert str(exc).startswith(
        "model 'm:latest' is limited to 2 requests a minute: ask again at 2026-11-21 12:3"
    )
    assert 0 < exc.retry_after_s <= 120
    assert (exc.status, exc.elsewhere, exc.instead) == (429, True, "")


async def test_an_open_circuit_uses_up_no_limit(till, clock):
    """Who was not asked has a request more; so a model is not limited as soon as it is back."""
    stays_shut = CircuitOpen("not asked", provider="acme", model="m-1")
    scripted = ScriptedBackend([stays_shut], [stays_shut], [stays_shut], ANSWER)
    policy = billing(scripted, till, clock, limits=limited(requests_per_minute=1, tokens_per_minute=2000))
    for _ in range(3):
        with pytest.raises(CircuitOpen):
            await collect(policy.chat(asking()))
    await collect(policy.chat(asking()))
    assert (await refusal(policy)).status == 429


async def test_tokens_are_reserved_by_estimate_and_settled_by_count(till, clock):
    """One request that is larger than the limit has a minute to itself."""
    prompt = measure(asking()).likely
    policy = billing(ScriptedBackend(ANSWER), till, clock, limits=limited(tokens_per_minute=prompt + 130))
    for _ in range(2):  # 50 each, once they are over
        await collect(policy.chat(asking(options={"num_predict": 30})))
    exc = await refusal(policy, asking(options={"num_predict": 100}))
    assert "is limited to" in str(exc)
    assert "tokens a minute" in str(exc)
    clock.now_s += 600
    assert await collect(policy.chat(asking("x" * 10_000))) == ANSWER


async def test_a_question_can_be_too_long(clock):
    """400, in words: a conversation, a gap, and texts to embed."""
    policy = billing(ScriptedBackend(ANSWER), None, clock, max_request_length=10)
    assert await collect(policy.chat(asking("x" * 10))) == ANSWER
    for request in (asking("x" * 11), asking("", infill=Infill("x" * 6, "y" * 5))):
        with pytest.raises(
            InvalidRequest, match=r"has 11 characters, and model 'm:latest' takes 10 .*shorter"
        ):
            await collect(policy.chat(request))
    with pytest.raises(InvalidRequest):
        await policy.embed(EmbedRequest("m", ("x" * 6, "y" * 5), target=TARGET))


def test_the_bound_of_a_prompt_holds_all_that_is_sent():
    """Everything that a client can put into it makes it larger, and a known model's window is its end."""
    bare = asking("")
    least = measure(bare).most
    for more in (
        {"messages": (Message("user", "é" * 100),)},
        {"messages": (Message("user", thinking="x" * 200),)},
        {"messages": (Message("assistant", tool_calls=(ToolCall("1", "f", {"a": "x" * 200}),)),)},
        {"messages": (Message("user", images=(Image("", "image/png"),)),)},
        {"tools": (Tool("f", "x" * 200),)},
        {"tools": (Tool("f", parameters={"a": "x" * 200}),)},
        {"infill": Infill("x" * 100, "y" * 100)},
        {"format": {"a": "x" * 200}},
    ):
        request = ChatRequest("m", **{"messages": bare.messages, "target": TARGET, **more})
        assert measure(request).most - least >= 200
    known = replace(TARGET, window=32_000)
    assert measure(asking("x" * 40_000, known)).most == 32_000
    assert measure(asking("x" * 400_000, known)).most >= 200_000  # windows grow
    assert (
        measure(asking("x" * 40_000)).most >= 40_000
    )  # the operator's `context_length` keeps nobody from reading
    assert measure(EmbedRequest("m", ("é" * 100, "x"), target=TARGET)).most >= 201
    assert measure(EmbedRequest("m", ("x" * 30_000,) * 9, target=known)).most >= 270_000  # each has a window


async def test_a_clients_own_limits(till):
    """Of its key and of its address; tokens are those that its attempts came to in the end."""

    class Charging(ScriptedBackend):
        async def chat(self, request):
            request.record.charges += [Charge("a", "m", Usage(30, 10)), Charge("b", "n", Usage(30, 10))]
            async with aclosing(super().chat(request)) as bursts:
                async for burst in bursts:
                    yield burst

    policy = ClientLimits(
        Charging(ANSWER), till, by_key=Rates(requests_per_hour=3), by_address=Rates(tokens_per_minute=1300)
    )

    def call(key, address):
        return ChatRequest("m", (Message("user", "hi"),), record=CallRecord(key=key, address=address))

    for _ in range(3):
        await collect(policy.chat(call("k1", "10.0.0.1")))
    exc = await refusal(policy, call("k1", "10.0.0.1"))
    assert str(exc).startswith("this client key is limited to 3 requests an hour: ask again at ")
    assert not exc.elsewhere
    await collect(policy.chat(call("k2", "10.0.0.1")))  # 320 tokens so far, and 1029 may follow
    exc = await refusal(policy, call("k3", "10.0.0.1"))
    assert str(exc).startswith("address 10.0.0.1 is limited to 1300 tokens a minute")
    assert await collect(policy.chat(call("k3", "10.0.0.2"))) == ANSWER


async def test_a_clients_embeddings_count_too(till):
    """And a failure takes its request from the limit all the same."""

    async def embed(request):
        raise BROKEN

    policy = ClientLimits(SimpleNamespace(embed=embed), till, by_key=Rates(requests_per_minute=1))
    with pytest.raises(UpstreamBroken):
        await policy.embed(EmbedRequest("m", ("x",)))
    with pytest.raises(RateLimited, match="asking without a client key is limited to 1 request a minute"):
        await policy.embed(EmbedRequest("m", ("x",)))


async def test_thoughts_that_are_sent_again_are_in_the_bound():
    """What a provider wants back of its thinking is put in behind us."""
    call = Message("assistant", tool_calls=(ToolCall("1", "f"),))
    thinks = Target("a", "m", rules=Rules(thinking=frozenset({"adaptive"})), context_length=10**6)
    plain = Target("a", "m", rules=Rules(thinking=frozenset()), context_length=10**6)
    with_thoughts, without = (measure(ChatRequest("m", (call,), target=one)).most for one in (thinks, plain))
    assert with_thoughts - without >= 4096
