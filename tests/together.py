"""A daemon with all policies in force, and what its books say of a call: ledger, metrics, and the budget of all."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from ollama_bridge.config import Config
from ollama_bridge.daemon import Daemon
from ollama_bridge.ledger import ledger_path
from ollama_bridge.policies.limits import Account
from running import Got, ask
from upstream import Upstream
from wires import WIRES, Wire

PLENTY: Final = 10**6
IN_FORCE: Final[Mapping[str, Any]] = {
    "retry": {"max_retries": 2, "initial_backoff_ms": 1, "jitter": 0, "deadline_s": 30},
    "breaker": {"failures": PLENTY},
    "budgets": {"all": {"monthly": PLENTY}, "key": {"daily": PLENTY}},
    "limits": {"address": {"requests_per_minute": PLENTY, "tokens_per_minute": 10**9}},
    "cache": {"enabled": True, "any_temperature": True},
}
"""Every policy, and none that has a reason of its own to refuse."""

ANTHROPIC, RESPONSES, CHAT, GOOGLE = WIRES
MESSAGES: Final = [{"role": "user", "content": "Count."}]
OWN: Final = {"Cache-Control": "no-cache"}
"""Who sends this is answered by a provider."""

PRICE: Final = {"input": 0, "output": 10}
ANSWER_NUSD: Final = 7 * 10_000  # what `wires` says is 7 tokens
RESERVED_NUSD: Final = 100 * 10_000  # the answer may have 100


def provider(wire: Wire, upstream: Upstream, **more: Any) -> dict[str, Any]:
    """The configuration's entry: under any name, since only `openai` is asked for responses without a word."""
    api = {"api": "responses"} if wire.name == "responses" else {}
    return {**wire.provider, **api, "base_url": upstream.url + wire.base, **more}


def model(name: str, backend: str, wire: Wire, **more: Any) -> dict[str, Any]:
    """A model that costs 10 USD for a million tokens of its answers."""
    its = {"capabilities": ["completion", "tools"], "price": PRICE, "requests_per_minute": PLENTY}
    return {"name": name, "backend": backend, "backend_model": wire.model, **its, **more}


def house(providers: Mapping[str, Any], *models: Any, **extra: Any) -> Config:
    """A configuration with all policies."""
    server = {"server": {"port": 0}}
    return Config.model_validate({**server, **IN_FORCE, **extra, "providers": providers, "models": models})


def question(name: str = "m", **more: Any) -> dict[str, Any]:
    """For /api/chat, answered by 100 tokens at most."""
    return {"model": name, "messages": MESSAGES, "stream": False, "options": {"num_predict": 100}, **more}


async def chat(daemon: Daemon, name: str = "m", headers: Mapping[str, str] = OWN, **more: Any) -> Got:
    """Ask."""
    return await ask(daemon.url, "POST", "/api/chat", question(name, **more), headers)


def usd(nusd: int) -> float:
    """For budgets."""
    return nusd / 10**9


def words(got: Got) -> str:
    """All of an answer, streamed or not."""
    return "".join(line["message"]["content"] for line in got.lines or [got.json])


def rows() -> list[dict[str, Any]]:
    """What the ledger says once the daemon has ended, in the order of the calls."""
    with closing(sqlite3.connect(ledger_path())) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute("SELECT * FROM call ORDER BY time, id")]


async def quiet(daemon: Daemon) -> None:
    """Until every call has ended."""
    await daemon._gateway._unused.wait()


async def spent(daemon: Daemon) -> int:
    """Nano-dollars of everybody."""
    await quiet(daemon)
    till, book = daemon._gateway.shared.till, daemon._gateway._book
    (purse,) = [drawer.purse for drawer in till.drawers(book._accounts, till._clock_s())]
    (nusd,) = await daemon._gateway.shared.store.spent([purse])
    return nusd


async def of_account(daemon: Daemon, account: Account) -> int:
    """Nano-dollars of one account, which has one purse."""
    (purse,) = [
        drawer.purse for drawer in account.drawers(int(daemon._gateway.shared.till._clock_s() // 3600))
    ]
    (nusd,) = await daemon._gateway.shared.store.spent([purse])
    return nusd


async def samples(daemon: Daemon, name: str, label: str) -> Counter[str]:
    """A metric, summed up by one of its labels."""
    shown = (await ask(daemon.url, "GET", "/metrics")).body.decode()
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(shown):
        for sample in family.samples:
            if sample.name == name:
                found[sample.labels[label]] += sample.value
    return found


@dataclass(frozen=True)
class Sums:
    """What calls came to."""

    calls: Counter[str]
    input: int
    output: int
    nusd: int


async def counted(daemon: Daemon) -> Sums:
    """By the metrics, which the budget of all agrees with."""
    nusd = await spent(daemon)
    calls = await samples(daemon, "ai_proxy_requests_total", "outcome")
    tokens = await samples(daemon, "ai_proxy_tokens_used_total", "kind")
    cost = await samples(daemon, "ai_proxy_cost_total", "provider")
    assert round(sum(cost.values()) * 10**9) == nusd
    return Sums(calls, tokens["input"], tokens["output"], nusd)


def written() -> Sums:
    """By the ledger, once the daemon has ended."""
    found = rows()
    calls = Counter(row["outcome"] for row in found)
    tokens = (sum(row[kind] for row in found) for kind in ("input_tokens", "output_tokens"))
    return Sums(calls, *tokens, sum(row["cost_nusd"] for row in found))


def tasks() -> set["asyncio.Task[Any]"]:
    """All but those of the fake providers, whose connections stay open."""
    return {task for task in asyncio.all_tasks() if "Upstream." not in task.get_coro().__qualname__}
