"""A budget holds to the cent, whatever happens in whatever order: a state machine over the policy and a real file."""

import asyncio
import shutil
import tempfile
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from ollama_bridge.allowances import Budget, Price
from ollama_bridge.chat import ChatRequest, Message, Target
from ollama_bridge.errors import RateLimited, UpstreamBroken
from ollama_bridge.events import Finish, TextDelta, Usage
from ollama_bridge.policies.billing import Billing
from ollama_bridge.policies.limits import Account
from ollama_bridge.policies.terms import Terms
from ollama_bridge.policies.till import Till
from ollama_bridge.prices import told
from ollama_bridge.record import CallRecord
from ollama_bridge.store.embedded import EmbeddedStore
from ollama_bridge.tokens import measure

NOW_S = 1_795_000_000.0
QUOTE = told("anthropic", Price(input=Decimal(10), output=Decimal(100)))
TARGET = Target("acme", "m-1", max_output_tokens=4000, context_length=32_000, name="m:latest")


class Puppet:
    """Says one word, and then what it is told to."""

    def __init__(self):
        self.strings = {}
        self.asked = {}

    async def chat(self, request):
        number = int(request.messages[0].tool_name)
        self.asked[number] = request
        yield (TextDelta("word"),)
        said = await self.strings[number]
        if isinstance(said, Exception):
            raise said
        yield (said,)


class Budgets(RuleBasedStateMachine):
    """Any calls at once, by two keys, through two workers on one file, one of which may be killed."""

    calls = Bundle("calls")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.count = 0
        self.live = {}
        self.lost = {}  # of a worker that was killed: what was reserved stays spent
        self.cost = dict.fromkeys(("all", "k0", "k1"), 0)
        self.workers = [self.worker(), self.worker()]

    def worker(self):
        async def of(_):
            return Terms(QUOTE, (), (self.account("all"),), self.account)

        puppet = Puppet()
        till = Till(EmbeddedStore(self.folder / "state.sqlite3", lambda: NOW_S), clock_s=lambda: NOW_S)
        return puppet, till, Billing(puppet, of, till, clock_s=lambda: NOW_S)

    @staticmethod
    def account(key):
        budget = Budget(daily=Decimal(3 if key == "all" else 2))
        return Account("all" if key == "all" else f"key/{key}", "", budget, elsewhere=False)

    @rule(
        target=calls,
        who=st.sampled_from(["k0", "k1"]),
        worker=st.integers(0, 1),
        size=st.integers(0, 40_000),
        num_predict=st.sampled_from([-1, 5, 700, 4000, 10**9]),
    )
    def ask(self, who, worker, size, num_predict):
        self.count += 1
        number = self.count
        message = Message("user", "x" * size, tool_name=str(number))
        options = {"num_predict": num_predict}
        request = ChatRequest("m", (message,), options=options, target=TARGET, record=CallRecord(key=who))
        puppet, _, billing = self.workers[worker]

        async def begin():
            puppet.strings[number] = asyncio.get_running_loop().create_future()
            reply = billing.chat(request)
            await anext(reply)
            return reply

        with suppress(RateLimited):
            self.live[number] = (self.runner.run(begin()), request, puppet, worker)
        return number

    def end(self, number, said, how):
        if number not in self.live:
            return
        reply, request, puppet, _ = self.live.pop(number)

        async def go_on():
            if how == "left":
                await reply.aclose()
                return
            puppet.strings[number].set_result(said)
            with suppress(UpstreamBroken, StopAsyncIteration):
                while True:
                    await anext(reply)

        self.runner.run(go_on())
        (charge,) = request.record.charges
        self.cost["all"] += charge.cost_nusd
        self.cost[request.record.key] += charge.cost_nusd

    @rule(number=consumes(calls), part=st.floats(0, 1), read=st.floats(0, 1))
    def finish(self, number, part, read):
        if number in self.live:
            _, request, puppet, _ = self.live[number]
            asked = max(1, int(measure(request).most * part))
            answered = int(max(16, puppet.asked[number].options["num_predict"]) * part)
            self.end(number, Finish(usage=Usage(asked, answered, int(asked * read))), "finished")

    @rule(number=consumes(calls))
    def fail(self, number):
        self.end(number, UpstreamBroken("cut", provider="acme", model="m-1"), "failed")

    @rule(number=consumes(calls))
    def leave(self, number):
        self.end(number, None, "left")

    @rule(worker=st.integers(0, 1))
    def kill(self, worker):
        """It settles nothing any more; another takes its place."""
        for number, (_, request, _, its) in list(self.live.items()):
            if its == worker:
                self.lost[number] = self.live.pop(number)
                assert request.record.charges == []
        self.runner.run(self.workers[worker][1].store.aclose())
        self.workers[worker] = self.worker()

    def reserved(self, key):
        """The most that those can cost that are not over, or never will be."""
        price = QUOTE(NOW_S)
        held = 0
        for number, (_, request, puppet, _) in {**self.live, **self.lost}.items():
            if key in {"all", request.record.key}:
                answer = max(16, puppet.asked[number].options["num_predict"])
                held += price.most_nusd(measure(request).most, answer)
        return held

    @invariant()
    def nobody_overspends(self):
        for key in ("all", "k0", "k1"):
            account = self.account(key)
            limit = int(account.budget.daily * 10**9)
            drawers = account.drawers(int(NOW_S // 3600))
            for _, till, _ in (
                *self.workers,
                self.workers[0],
            ):  # who answers has written what it had to settle
                (spent,) = self.runner.run(till.store.spent([drawer.purse for drawer in drawers]))
            assert self.cost[key] <= spent <= limit
            rounding = 100_001 * (len(self.live) + len(self.lost))  # less than a token of the answer each
            assert 0 <= spent - self.cost[key] - self.reserved(key) <= rounding

    def teardown(self):
        async def close():
            for reply, *_ in (*self.live.values(), *self.lost.values()):
                await reply.aclose()
            for _, till, _ in self.workers:
                await till.store.aclose()

        self.runner.run(close())
        self.runner.close()
        shutil.rmtree(self.folder)


TestBudgets = Budgets.TestCase
TestBudgets.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
