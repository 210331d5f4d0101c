"""What the policies cost above the bare waist when nothing triggers them, and how soon a kept answer is out.

    $ python tests/benchmarks/policies.py            # about a minute
    $ python tests/benchmarks/policies.py --quick    # does it run at all; figures mean little
    $ python tests/benchmarks/policies.py --json     # one object a figure, every round in it

One process, one event loop, and a provider that is nothing but a loop: `bare` reads its reply directly, `plain`
through a gateway of which everything that can be switched off is off, `all` through one of which everything is
configured: retries, a pool of keys, breaker, fallbacks, limits of client, provider and model, budgets of all, of
the key and of the model, ledger, cache, coalescing, kept reasoning. The three are measured in turn in each round,
and a figure is the median of the rounds.

    event     µs of wall clock that each event of a long reply takes, one event a burst
    request   µs that a reply of one event takes, from asking to the end of it
    hit       ms from a client's request to the first byte of an answer that is in the cache, over HTTP and from a
              daemon of its own, beside a `GET /api/version` of the same daemon
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import stage
from load import ask_all, crowd, post

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.chat import Backend, ChatRequest, Message, Reply
from ollama_bridge.config import Config
from ollama_bridge.daemon import _event_loop
from ollama_bridge.events import Finish, TextDelta, Usage
from ollama_bridge.gateway import Gateway, assemble

_USAGE: Final = Usage(input_tokens=1000, output_tokens=200)
_WORD: Final = (TextDelta("word "),)
_END: Final = (Finish("stop", _USAGE),)
_RATES: Final = {
    "requests_per_minute": 10**9,
    "requests_per_hour": 10**9,
    "requests_per_day": 10**9,
    "tokens_per_minute": 10**12,
}
_BUDGET: Final = {"hourly": 9_000_000, "daily": 9_000_000, "monthly": 9_000_000}
_PRICE: Final = {"input": 3.0, "output": 15.0, "cached_read": 0.3, "cached_write": 3.75}


class Talker:
    """A provider without a network: as many words as the request's `num_predict` asks for, each a burst."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings

    async def chat(self, request: ChatRequest) -> Reply:
        """The loop is given its turn before each word, as it is when bytes come from a socket."""
        for _ in range(request.options["num_predict"]):
            await asyncio.sleep(0)
            yield _WORD
        yield _END

    async def warm(self) -> None:
        """There is nothing to load."""

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Size:
    """How much is done; defaults for figures that mean something."""

    rounds: int = 7
    events: int = 5000
    requests: int = 400
    hits: int = 200


QUICK: Final = Size(rounds=1, events=50, requests=5, hits=5)


def configuration(*, everything: bool) -> Config:
    """A model of a `Talker`, with all policies or with none that can be left out."""
    kind = f"{Talker.__module__}:Talker"
    provider: dict[str, Any] = {"kind": kind, "api_key": ["key-number-one", "key-number-two"]}
    model: dict[str, Any] = {"name": "talker", "backend": "bench", "capabilities": ["completion"]}
    model |= {"context_length": 200_000, "max_tokens": 100_000, "price": _PRICE}
    if not everything:
        off: dict[str, Any] = {"retry": {"max_retries": 0}, "breaker": {"failures": 0}}
        off |= {"ledger": {"keep": False}, "cache": {"share": False}, "reasoning": {"keep": False}}
        provider["api_key"] = provider["api_key"][:1]
        return Config.model_validate({**off, "providers": {"bench": provider}, "models": [model]})
    return Config.model_validate(
        {
            "limits": {"key": _RATES, "address": _RATES},
            "budgets": {"all": _BUDGET, "key": _BUDGET},
            "cache": {"enabled": True},
            "providers": {"bench": provider | _RATES},
            "models": [
                model | _RATES | {"budget": _BUDGET, "fallbacks": ["other"], "max_request_length": 10**6},
                model | {"name": "other"},
            ],
        }
    )


def question(gateway: Gateway, events: int) -> ChatRequest:
    """What a client asks: a conversation of some length, temperature not said, so that nothing is kept."""
    turns = tuple(Message("user" if at % 2 == 0 else "assistant", "word " * 80) for at in range(9))
    asked = ChatRequest(
        "talker", turns, options={"num_predict": events}, target=gateway.registry.resolve("talker").target
    )
    asked.record.key, asked.record.address, asked.record.client = "0a1b2c3d", "127.0.0.1", "laptop"
    asked.record.asked, asked.record.surface = "talker:latest", "/api/chat"
    return asked


async def read(backend: Backend | Gateway, asked: ChatRequest) -> float:
    """Seconds that one reply takes to its end."""
    began = time.perf_counter()
    bursts = 0
    async with aclosing(backend.chat(asked)) as reply:
        async for _ in reply:
            bursts += 1
    took = time.perf_counter() - began
    if bursts != asked.options["num_predict"] + 1:
        raise RuntimeError(f"{bursts} bursts came")
    return took


@dataclass(frozen=True)
class Row:
    """One figure of all who were measured, with every round."""

    figure: str
    rounds: dict[str, list[float]]
    goal: float
    over: str

    def line(self) -> str:
        """As the table shows it."""
        medians = {name: statistics.median(values) for name, values in self.rounds.items()}
        last = list(medians)[-1]
        added = medians[last] - (medians[self.over] if self.over else 0.0)
        shown = "  ".join(f"{name} {value:.3g}" for name, value in medians.items())
        words = f"{added:.3g} above {self.over}" if self.over else f"{added:.3g}"
        return (
            f"{self.figure}: {shown}  ({words}; <= {self.goal:g} {'met' if added <= self.goal else 'MISSED'})"
        )


async def policies(size: Size) -> Iterator[Row]:
    """`event` and `request`, all three ways in turn."""
    gateways = {name: assemble(configuration(everything=name == "all")) for name in ("plain", "all")}
    ways: dict[str, Backend | Gateway] = {"bare": Talker(ProviderSettings("bench", "bench")), **gateways}
    events: dict[str, list[float]] = {name: [] for name in ways}
    requests: dict[str, list[float]] = {name: [] for name in ways}
    try:
        for way in ways.values():
            for _ in range(3):  # files are made, modules loaded
                await read(way, question(gateways["all"], 10))
        await asyncio.sleep(0.5)
        for _ in range(size.rounds):
            for name, way in ways.items():
                took = await read(way, question(gateways["all"], size.events))
                events[name].append(took / size.events * 1e6)
            for name, way in ways.items():
                took = [await read(way, question(gateways["all"], 1)) for _ in range(size.requests)]
                requests[name].append(statistics.median(took) * 1e6)
    finally:
        for gateway in gateways.values():
            await gateway.retire()
    return iter([Row("event, µs", events, 15, "bare"), Row("request, µs", requests, 500, "bare")])


async def hits(port: int, size: Size) -> Row:
    """First bytes of kept answers, and of the smallest answer there is."""
    asked = {"model": "demo", "messages": [{"role": "user", "content": "word " * 200}]}
    kept = post("/api/chat", asked | {"options": {"temperature": 0}})
    version = b"GET /api/version HTTP/1.1\r\nhost: localhost\r\n\r\n"
    rounds: dict[str, list[float]] = {"version": [], "hit": []}
    async with crowd(port, 1) as clients:
        await ask_all(clients, kept)
        for _ in range(size.rounds):
            for name, request in (("version", version), ("hit", kept)):
                replies = await ask_all(clients, request, size.hits)
                if any(reply.status != 200 for reply in replies):
                    raise RuntimeError(f"{name}: status {replies[0].status}")
                rounds[name].append(statistics.median(reply.first_s for reply in replies) * 1e3)
    return Row("hit, ms to the first byte", rounds, 1, "")


def served_hits(folder: Path, size: Size) -> Row:
    """The same from a daemon of its own."""
    path = folder / "cached.yaml"
    models = [{"name": "demo", "backend": "demo"}]
    path.write_text(
        json.dumps({"cache": {"enabled": True}, "providers": {"demo": None}, "models": models}),
        encoding="utf-8",
    )
    port = stage.free_port()
    command = ["-m", "ollama_bridge", "serve", "--config", str(path), "--port", str(port)]
    with stage.running(command, folder, "target", port) as child:
        stage.wait_for(child, folder)
        return asyncio.run(hits(port, size))


def measure(size: Size, folder: Path) -> Iterator[Row]:
    """Everything, one row after the other."""
    os.environ.update(stage.environment(folder))
    with asyncio.Runner(loop_factory=_event_loop()) as runner:
        yield from runner.run(policies(size))
    yield served_hits(folder, size)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description="What the policies cost above the bare waist.")
    parser.add_argument("--quick", action="store_true", help="one tiny round: does it run at all")
    parser.add_argument("--rounds", type=int, help="rounds of each figure")
    parser.add_argument("--json", action="store_true", help="one object a figure, with every round")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    size = QUICK if given.quick else Size()
    size = replace(size, rounds=given.rounds or size.rounds)
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        for row in measure(size, Path(folder)):
            print(json.dumps(asdict(row), ensure_ascii=False) if given.json else row.line(), flush=True)


if __name__ == "__main__":
    main()
