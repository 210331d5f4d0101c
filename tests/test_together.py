"""How the policies work together, through a running daemon with all of them in force, and the real SDKs."""

import json
from collections import Counter

import pytest

from faults import SAID, WORDS, error, parts
from ollama_bridge.allowances import Budget
from ollama_bridge.policies.terms import account_of_key
from running import running
from together import (
    ANSWER_NUSD,
    ANTHROPIC,
    CHAT,
    IN_FORCE,
    OWN,
    RESERVED_NUSD,
    Sums,
    chat,
    counted,
    house,
    model,
    of_account,
    provider,
    rows,
    spent,
    usd,
    words,
    written,
)
from upstream import Script, Upstream, sse
from wires import WIRES, Said

EACH = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
STREAM = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
DAY_S = 86_400
CHEAP = {"input": 0, "output": 1}
ENOUGH_FOR_ONE = usd(RESERVED_NUSD + 50_000)
"""For the first answer, and not for what a second one may cost."""
ENOUGH_FOR_ONE_CHEAP = usd((RESERVED_NUSD + 50_000) // 10)


def fine(wire, said=WORDS):
    return Script([wire.stream(Said(said))])


def part(row, *names):
    return tuple(row[name] for name in names)


def last(got):
    """The object that ends an answer."""
    return (got.lines or [got.json])[-1]


# Budgets and limits


@EACH
@STREAM
@pytest.mark.parametrize("whose", ["all", "key", "model"])
async def test_a_cheaper_model_answers_when_a_budget_is_used_up(wire, stream, whose):
    """The answer, the ledger and the price say which; a client with a budget of its own is not concerned."""
    budget = {"daily": ENOUGH_FOR_ONE, "instead": "cheap"}
    budgets = IN_FORCE["budgets"] | ({} if whose == "model" else {whose: budget})
    of_dear = {"budget": budget} if whose == "model" else {}
    async with Upstream(lambda _: fine(wire)) as upstream:
        config = house(
            {"p": provider(wire, upstream)},
            model("dear", "p", wire, **of_dear),
            model("cheap", "p", wire, price=CHEAP),
            budgets=budgets,
        )
        async with running(config) as daemon:
            mine = {**OWN, "Authorization": "Bearer mine"}
            answers = [await chat(daemon, "dear", mine, stream=stream) for _ in range(2)]
            theirs = await chat(daemon, "dear", {**OWN, "Authorization": "Bearer theirs"}, stream=stream)
            if whose != "key":
                assert await spent(daemon) == {"all": 84_000, "model": 84_000}[whose]
            sums = await counted(daemon) if whose != "key" else None
    assert [words(one) for one in (*answers, theirs)] == [WORDS] * 3
    by = [last(one).get("answered_by") for one in (*answers, theirs)]
    assert by == [None, "cheap:latest", None if whose == "key" else "cheap:latest"]
    assert part(rows()[1], "asked", "model", "outcome", "cost_nusd") == (
        "dear:latest",
        "cheap:latest",
        "answered",
        ANSWER_NUSD // 10,
    )
    assert sums is None or sums == written()


async def test_a_chain_of_cheaper_models_ends_at_its_own_limit():
    """Each says who answers instead of it; the last one's limit is what the client is told in the end."""
    async with Upstream(lambda _: fine(CHAT)) as upstream:
        config = house(
            {"p": provider(CHAT, upstream)},
            model("dear", "p", CHAT, budget={"daily": ENOUGH_FOR_ONE, "instead": "cheap"}),
            model(
                "cheap", "p", CHAT, price=CHEAP, budget={"daily": ENOUGH_FOR_ONE_CHEAP, "instead": "cheapest"}
            ),
            model("cheapest", "p", CHAT, price={"input": 0, "output": 0}, requests_per_day=1),
        )
        async with running(config) as daemon:
            answers = [await chat(daemon, "dear") for _ in range(4)]
            assert await spent(daemon) == ANSWER_NUSD + ANSWER_NUSD // 10
    *answered, refused = answers
    assert [one.json.get("answered_by") for one in answered] == [None, "cheap:latest", "cheapest:latest"]
    assert refused.status == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 2 * DAY_S
    assert "model 'cheapest:latest' is limited to 1 request a day" in refused.json["error"]
    assert "(asked in turn: dear:latest, cheap:latest, cheapest:latest)" in refused.json["error"]
    assert rows()[-1]["outcome"] == "limited"


async def test_two_that_name_each_other_end_too():
    """A circle of cheaper models is gone round once."""
    async with Upstream(lambda _: fine(CHAT)) as upstream:
        config = house(
            {"p": provider(CHAT, upstream)},
            model("one", "p", CHAT, budget={"daily": ENOUGH_FOR_ONE, "instead": "two"}),
            model("two", "p", CHAT, budget={"daily": ENOUGH_FOR_ONE, "instead": "one"}),
        )
        async with running(config) as daemon:
            answers = [await chat(daemon, "one") for _ in range(3)]
    assert [one.status for one in answers] == [200, 200, 429]
    assert answers[1].json["answered_by"] == "two:latest"


@STREAM
@pytest.mark.parametrize("limited", ["model", "provider"])
async def test_where_a_limit_is_reached_a_fallback_answers(stream, limited):
    """A model's own: also one of the same provider; a provider's: only one elsewhere, and the others are passed by."""
    once = {"requests_per_day": 1}
    async with Upstream(lambda _: fine(CHAT)) as upstream, Upstream(lambda _: fine(ANTHROPIC)) as elsewhere:
        config = house(
            {
                "p": provider(CHAT, upstream, **(once if limited == "provider" else {})),
                "q": provider(ANTHROPIC, elsewhere),
            },
            model("m", "p", CHAT, fallbacks=["near", "far"], **(once if limited == "model" else {})),
            model("near", "p", CHAT, **once),
            model("far", "q", ANTHROPIC, **once),
        )
        async with running(config) as daemon:
            answers = [await chat(daemon, stream=stream) for _ in range(4)]
            sums = await counted(daemon)
    said = [last(one).get("answered_by", "none") for one in answers if one.status == 200]
    refused = [one for one in answers if one.status == 429]
    near = [] if limited == "provider" else ["near:latest"]
    assert said == ["none", *near, "far:latest"]
    for one in refused:
        assert 0 < int(one.headers["Retry-After"]) <= 2 * DAY_S
        assert "(asked in turn: m:latest, near:latest, far:latest)" in one.json["error"]
    assert len(elsewhere.requests) == 1
    assert sums == written()
    assert sums.calls == Counter(answered=len(said), limited=len(refused))


# Asking again, and going on


@EACH
@STREAM
async def test_of_two_attempts_that_is_paid_which_a_provider_bills(wire, stream):
    """One refused at once costs nothing; one that began may be billed, and the ledger, metrics and budget hold both."""
    broken, refused = [Script([parts(wire)[0]], then="reset")], [Script([b"{}"], status=500)]
    for first, second in ((refused, (11, 7)), (broken, (22, 8) if wire is ANTHROPIC else (11, 7))):
        scripts = [*first, fine(wire)]
        async with Upstream(lambda _, left=scripts: left.pop(0)) as upstream:
            config = house({"p": provider(wire, upstream)}, model("m", "p", wire))
            async with running(config) as daemon:
                before = await spent(daemon)
                got = await chat(daemon, stream=stream)
                after = await spent(daemon)
        assert words(got) == WORDS
        assert part(last(got), "prompt_eval_count", "eval_count") == (11, 7)
        row = rows()[-1]
        assert part(row, "attempts", "input_tokens", "output_tokens") == (2, *second)
        assert row["cost_nusd"] == after - before == second[1] * 10_000
        assert row["is_estimated"] == (second != (11, 7))


@EACH
async def test_both_parts_of_an_answer_are_paid(wire):
    """What broke off and what went on: the client is told of the whole answer, and the books of both."""
    scripts = [Script([b"".join(parts(wire)[:2])], then="cut"), fine(wire, WORDS.removeprefix(SAID))]
    async with Upstream(lambda _: scripts.pop(0)) as upstream:
        price = {"input": 1, "output": 10}
        config = house({"p": provider(wire, upstream)}, model("m", "p", wire, resume=True, price=price))
        async with running(config) as daemon:
            got = await chat(daemon, stream=True)
            sums = await counted(daemon)
    assert words(got) == WORDS
    asked = 11 if wire is ANTHROPIC else 5  # told by its provider, or estimated
    assert sums == written() == Sums(Counter(answered=1), asked + 11, 4 + 7, (asked + 11) * 1000 + 110_000)
    assert part(last(got), "prompt_eval_count", "eval_count") == (11 - 4, 4 + 7)
    assert part(rows()[0], "attempts", "is_estimated") == (2, 1)


async def test_another_models_part_is_paid_at_its_own_price():
    """The answer of one is gone on with by its fallback, through another SDK."""
    cut = Script([b"".join(parts(CHAT)[:2])], then="cut")
    scripts = [cut, Script([b"{}"], status=401)]
    async with (
        Upstream(lambda _: scripts.pop(0)) as upstream,
        Upstream(lambda _: fine(ANTHROPIC, WORDS.removeprefix(SAID))) as other,
    ):
        config = house(
            {"p": provider(CHAT, upstream), "q": provider(ANTHROPIC, other)},
            model("m", "p", CHAT, resume=True, fallbacks=["spare"]),
            model("spare", "q", ANTHROPIC, price=CHEAP),
        )
        async with running(config) as daemon:
            got = await chat(daemon, stream=True)
            sums = await counted(daemon)
    assert (words(got), last(got)["answered_by"]) == (WORDS, "spare:latest")
    assert sums == written()
    assert sums.nusd == 4 * 10_000 + 7 * 1_000
    assert part(rows()[0], "attempts", "asked", "model", "target") == (
        3,
        "m:latest",
        "spare:latest",
        ANTHROPIC.model,
    )


# The breaker


def told(input_tokens, output_tokens):
    """The beginning of an answer, and what it is to cost, of a provider that says so at once."""
    usage = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
    return sse(json.dumps({"choices": [{"index": 0, "delta": {"content": "hello"}}], "usage": usage}))


async def test_answers_that_are_cut_off_open_the_breaker():
    """Then its fallback answers at once; status, metrics, ledger, and what the provider told agree."""
    cut = Script([told(20, 5)], then="cut")
    async with Upstream(lambda _: cut) as upstream, Upstream(lambda _: fine(ANTHROPIC)) as other:
        config = house(
            {"p": provider(CHAT, upstream, requests_per_day=4), "q": provider(ANTHROPIC, other)},
            model("m", "p", CHAT, fallbacks=["spare"]),
            model("spare", "q", ANTHROPIC),
            breaker={"failures": 3},
        )
        async with running(config) as daemon:
            for _ in range(3):
                got = await chat(daemon, stream=True)
                assert "cut off" in got.lines[-1]["error"] or "ended before" in got.lines[-1]["error"]
            for _ in range(4):
                got = await chat(daemon, stream=True)
                assert (words(got), last(got)["answered_by"]) == (WORDS, "spare:latest")
            assert len(upstream.requests) == 3
            status = {one.name: one for one in daemon._gateway.status()}
            assert [(one.state, one.failures) for one in status["p"].models] == [("open", 3)]
            assert [(one.state, one.failures) for one in status["q"].models] == [("closed", 0)]
            # Who is not asked does not use up what its provider may be asked.
            for circuit in daemon._gateway.shared.circuits:
                circuit.close()
            got = await chat(daemon, stream=True)
            assert (len(upstream.requests), "error" in last(got)) == (4, True)
            sums = await counted(daemon)
    assert sums == written()
    assert sums == Sums(
        Counter(failed=4, answered=4), 4 * 20 + 4 * 11, 4 * 5 + 4 * 7, (4 * 5 + 4 * 7) * 10_000
    )


@EACH
async def test_one_bad_key_never_opens_the_breaker(wire):
    """The other one answers for it, from the first request on."""

    def decide(seen):
        if "bad" in str(seen.headers):
            return Script([json.dumps(error(wire, 401, "no")).encode()], status=401)
        return fine(wire)

    async with Upstream(decide) as upstream:
        config = house(
            {"p": provider(wire, upstream, api_key=["k-bad", "k-good"])},
            model("m", "p", wire),
            breaker={"failures": 1},
        )
        async with running(config) as daemon:
            assert [(await chat(daemon)).status for _ in range(6)] == [200] * 6
            sums = await counted(daemon)
    assert len(upstream.requests) == 7
    assert sums == written() == Sums(Counter(answered=6), 66, 42, 6 * ANSWER_NUSD)
    assert sorted(row["attempts"] for row in rows()) == [1, 1, 1, 1, 1, 2]


async def test_when_all_keys_are_limited_the_wait_is_told_or_a_fallback_answers():
    """Nor are they asked until then, which no limit of ours is used up by, and the breaker stays closed."""
    limited = Script(
        [json.dumps(error(CHAT, 429, "slow")).encode()], status=429, headers={"retry-after": "600"}
    )
    async with Upstream(lambda _: limited) as upstream, Upstream(lambda _: fine(ANTHROPIC)) as other:
        config = house(
            {
                "p": provider(CHAT, upstream, api_key=["k-1", "k-2"], requests_per_day=2),
                "q": provider(ANTHROPIC, other),
            },
            model("alone", "p", CHAT),
            model("m", "p", CHAT, fallbacks=["spare"]),
            model("spare", "q", ANTHROPIC),
            breaker={"failures": 1},
        )
        async with running(config) as daemon:
            refused = [await chat(daemon, "alone") for _ in range(4)]
            got = await chat(daemon)
            (status,) = {one.state for each in daemon._gateway.status() for one in each.models}
    assert [one.status for one in refused] == [429] * 4
    for one in refused:
        assert 590 <= int(one.headers["Retry-After"]) <= 600
        assert "limits the rate" in one.json["error"] or "slow" in one.json["error"]
    assert last(got)["answered_by"] == "spare:latest"
    assert len(upstream.requests) == 2
    assert status == "closed"


# Who answers for a name that stands for others


@STREAM
@pytest.mark.parametrize("name", ["auto:title", "small"])
async def test_a_name_that_stands_for_others_goes_on_to_who_may_be_asked(stream, name):
    """Past a budget that is used up, and past a breaker that is open; in the end it says why nobody may."""
    async with Upstream(lambda _: fine(CHAT)) as upstream, Upstream() as broken:
        broken.reply(b"{}", status=503)
        config = house(
            {"p": provider(CHAT, upstream), "q": provider(ANTHROPIC, broken)},
            model(
                "cheap", "p", CHAT, price=CHEAP, model_size="SMALL", budget={"daily": ENOUGH_FOR_ONE_CHEAP}
            ),
            model("broken", "q", ANTHROPIC, price={"input": 0, "output": 2}, model_size="SMALL"),
            model("dear", "p", CHAT, model_size="SMALL", budget={"daily": ENOUGH_FOR_ONE}),
            breaker={"failures": 1},
            retry={"max_retries": 0},
        )
        async with running(config) as daemon:
            answers = [await chat(daemon, name, stream=stream) for _ in range(3)]
            sums = await counted(daemon)
    assert [one.status for one in answers] == [200, 200, 429]
    assert [last(one)["answered_by"] for one in answers[:2]] == ["cheap:latest", "dear:latest"]
    assert "daily budget of" in answers[2].json["error"]
    assert len(broken.requests) == 1
    assert sums == written()
    assert sums.nusd == ANSWER_NUSD + ANSWER_NUSD // 10


async def test_of_each_key_its_own_budget():
    """What one client spends another one still has; what nobody brought a key for is one client's."""
    daily = {"daily": ENOUGH_FOR_ONE}
    async with Upstream(lambda _: fine(CHAT)) as upstream:
        config = house({"p": provider(CHAT, upstream)}, model("m", "p", CHAT), budgets={"key": daily})
        async with running(config) as daemon:
            for headers in (OWN, {**OWN, "x-api-key": "a"}, {**OWN, "x-api-key": "b"}):
                assert [(await chat(daemon, headers=headers)).status for _ in range(2)] == [200, 429]
    keys = {row["key"] for row in rows()}
    assert len(keys) == 3
    async with running(config) as daemon:
        for key in keys:
            assert await of_account(daemon, account_of_key(Budget(**daily), key)) == ANSWER_NUSD
