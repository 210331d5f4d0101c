"""The figures: what is asked of a target, how it is timed, and that it really did the work."""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import stage
from load import BadReply, Client, Reply, ask_all, crowd, post
from stage import Child, Stage

SYSTEM: Final = "You are a coding assistant inside an editor. Answer briefly, with code where it helps."
PROMPT: Final = "Write a function that tells whether a string is a palindrome, and say what it costs."


@dataclass(frozen=True)
class Wire:
    """How the relay's client asks a provider for the reply that the bridge asks for.

    Args:
        path: Of a streamed request.
        path_once: Of one that is not.
        body: Without the wish to stream.
    """

    path: str
    path_once: str
    body: Mapping[str, Any]

    def request(self, *, stream: bool) -> bytes:
        """The request in the provider's own words."""
        if self.path != self.path_once:
            return post(self.path if stream else self.path_once, dict(self.body))
        return post(self.path, {**self.body, "stream": stream})


_GEMINI = "/v1beta/models/gemini-2.5-flash"
_TURNS = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}]
WIRES: Final[Mapping[str, Wire]] = {
    "anthropic": Wire(
        "/v1/messages",
        "/v1/messages",
        {"model": "claude-sonnet-5-5", "max_tokens": 64000, "system": SYSTEM, "messages": _TURNS[1:]},
    ),
    "chat": Wire("/v1/chat/completions", "/v1/chat/completions", {"model": "gpt-4.1", "messages": _TURNS}),
    "vendor": Wire(
        "/v1/chat/completions", "/v1/chat/completions", {"model": "deepseek-chat", "messages": _TURNS}
    ),
    "responses": Wire("/v1/responses", "/v1/responses", {"model": "gpt-5-mini", "input": _TURNS}),
    "google": Wire(
        f"{_GEMINI}:streamGenerateContent?alt=sse",
        f"{_GEMINI}:generateContent",
        {
            "systemInstruction": {"parts": [{"text": SYSTEM}]},
            "contents": [{"role": "user", "parts": [{"text": PROMPT}]}],
        },
    ),
}


@dataclass(frozen=True)
class Size:
    """How much is done; defaults for figures that mean something."""

    rounds: int = 5
    bursts: int = 10
    firsts: int = 60
    paced_s: float = 3.0
    onces: int = 10
    settle_s: float = 4.0


QUICK: Final = Size(rounds=1, bursts=1, firsts=5, paced_s=0.2, onces=1, settle_s=0.5)


Sample: TypeAlias = dict[str, float]
"""Figure to value, of one target in one round."""


@dataclass(frozen=True)
class Target:
    """Who is measured: the bridge, or the relay, for one wire."""

    name: Literal["bridge", "relay"]
    child: Child
    wire: str

    def request(self, *, stream: bool) -> bytes:
        """What a client of this target sends."""
        if self.name == "relay":
            return WIRES[self.wire].request(stream=stream)
        return post("/api/chat", {"model": f"bench-{self.wire}", "messages": _TURNS, "stream": stream})

    def check(self, replies: list[Reply], words: int, *, stream: bool) -> None:
        """See that every reply is whole.

        Raises:
            BadReply: Words are missing, or it is no answer at all.
        """
        for reply in replies:
            body = reply.body()
            if reply.status != 200 or b"word%d" % (words - 1) not in body:
                raise BadReply(f"{self.name}, {self.wire}: status {reply.status}, {body[-300:]!r}")
            if not stream:
                continue
            if self.name == "relay":
                whole = body.count(b"\r\n\r\n" if self.wire == "google" else b"\n\n") >= words
            else:
                last = body.rstrip(b"\n").rpartition(b"\n")[2]
                whole = body.count(b"\n") == words + 1 and b'"done":true' in last
            if not whole:
                lines = body.count(b"\n")
                raise BadReply(
                    f"{self.name}, {self.wire}: {words} words came as {lines} lines, last {body[-300:]!r}"
                )


async def set_pace(upstream: Child, chunks: int, per_s: float) -> None:
    """Tell the fake providers how to answer from now on."""
    async with crowd(upstream.port, 1) as (client,):
        await client.ask(post("/_reply", {"chunks": chunks, "per_s": per_s}, method="PUT"))


async def _timed(
    target: Target,
    clients: list[Client],
    times: int,
    words: int,
    *,
    stream: bool = True,
    apart_s: float = 0.0,
) -> tuple[list[Reply], float, float]:
    """The replies, and the seconds of wall clock and of the target's CPU that they took."""
    request = target.request(stream=stream)
    target.check(await ask_all(clients, request), words, stream=stream)  # connections and paths are warm
    wall, cpu = time.perf_counter(), stage.cpu_s(target.child.pid)
    replies = await ask_all(clients, request, times, apart_s)
    wall, cpu = time.perf_counter() - wall, stage.cpu_s(target.child.pid) - cpu
    target.check(replies, words, stream=stream)
    return replies, wall, cpu


async def burst(target: Target, upstream: Child, size: Size) -> Sample:
    """16 streams of 200 words, everything at once."""
    await set_pace(upstream, 200, 0)
    async with crowd(target.child.port, 16) as clients:
        replies, wall, cpu = await _timed(target, clients, size.bursts, 200)
    return {
        "burst: CPU µs a word": cpu * 1e6 / (len(replies) * 200),
        "burst: streams a second": len(replies) / wall,
    }


async def fresh(target: Target, upstream: Child, size: Size) -> Sample:
    """The same, each stream over a connection of its own, as `curl` and many a plugin have it."""
    await set_pace(upstream, 200, 0)
    request = target.request(stream=True)
    async with crowd(target.child.port, 16) as clients:
        target.check(await ask_all(clients, request), 200, stream=True)
    replies: list[Reply] = []
    cpu = stage.cpu_s(target.child.pid)
    for _ in range(size.bursts):
        async with crowd(target.child.port, 16) as clients:
            replies += await ask_all(clients, request)
    cpu = stage.cpu_s(target.child.pid) - cpu
    target.check(replies, 200, stream=True)
    return {"fresh: CPU µs a word": cpu * 1e6 / (len(replies) * 200)}


async def first(target: Target, upstream: Child, size: Size) -> Sample:
    """One user, one request after the other; the first word comes at once, the rest later."""
    await set_pace(upstream, 3, 200)
    async with crowd(target.child.port, 1) as clients:
        replies, _, cpu = await _timed(target, clients, size.firsts, 3)
    firsts_ms = sorted(reply.first_s * 1e3 for reply in replies)
    return {
        "first token: ms p50, one user": statistics.median(firsts_ms),
        "first token: ms p10, one user": firsts_ms[len(firsts_ms) // 10],
        "first token: CPU ms a request": cpu * 1e3 / len(replies),
    }


async def paced(target: Target, upstream: Child, size: Size) -> Sample:
    """20 streams of 50 words a second, evenly out of step with each other."""
    await set_pace(upstream, 2, 0)
    words = max(2, int(size.paced_s * 50))
    async with crowd(target.child.port, 20) as clients:
        await ask_all(clients, target.request(stream=True))
        await set_pace(upstream, words, 50)
        cpu = stage.cpu_s(target.child.pid)
        replies = await ask_all(clients, target.request(stream=True), apart_s=1 / 50 / 20)
        cpu = stage.cpu_s(target.child.pid) - cpu
    target.check(replies, words, stream=True)
    return {"paced: CPU µs a word": cpu * 1e6 / (len(replies) * words)}


async def once(target: Target, upstream: Child, size: Size) -> Sample:
    """64 users who do not stream, 20 words each."""
    await set_pace(upstream, 20, 0)
    async with crowd(target.child.port, 64) as clients:
        replies, wall, cpu = await _timed(target, clients, size.onces, 20, stream=False)
    return {
        "once: requests a second, 64 users": len(replies) / wall,
        "once: CPU ms a request": cpu * 1e3 / len(replies),
    }


SAMPLES: Final[Mapping[str, Callable[[Target, Child, Size], Awaitable[Sample]]]] = {
    "burst": burst,
    "fresh": fresh,
    "first": first,
    "paced": paced,
    "once": once,
}


def starts(of: Stage, size: Size, wires: tuple[str, ...]) -> tuple[Sample, Sample]:
    """Seconds that a fresh bridge and a fresh relay take to their first `GET /`, and the slowest of those after it."""
    samples: list[Sample] = []
    for child in (stage.bridge(of.folder, of.upstream_url, wires), stage.relay(of.folder, of.upstream_url)):
        with child as started:
            first_s = stage.wait_for(started, of.folder)
            slowest_s, until = 0.0, time.perf_counter() + size.settle_s
            while time.perf_counter() < until:
                began = time.perf_counter()
                stage.get_root(started.port)
                slowest_s = max(slowest_s, time.perf_counter() - began)
                time.sleep(0.005)
        samples.append(
            {
                "start: s to the first GET /": first_s,
                "start: ms, slowest GET / while loading": slowest_s * 1e3,
            }
        )
    return samples[0], samples[1]


def command_s(of: Stage, *command: str) -> float:
    """Seconds that one command of the bridge's takes.

    Raises:
        RuntimeError: It failed.
    """
    stage.pin("target")
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "ollama_bridge", *command],
        cwd=stage.ROOT,
        env=stage.environment(of.folder),
        capture_output=True,
        timeout=stage.START_S,
        check=False,
    )
    took_s = time.perf_counter() - began
    stage.pin("harness")
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr.decode()}")
    return took_s


def resident(of: Stage, size: Size, wire: str) -> tuple[float, float]:
    """MB of a bridge and of a relay that have answered one client for one wire, and now rest."""

    async def chat(target: Target) -> None:
        await set_pace(of.upstream, 20, 0)
        async with crowd(target.child.port, 1) as clients:
            target.check(await ask_all(clients, target.request(stream=True), 3), 20, stream=True)

    found: list[float] = []
    with ExitStack() as stack:
        ours = stack.enter_context(stage.bridge(of.folder, of.upstream_url, (wire,)))
        floor = stack.enter_context(stage.relay(of.folder, of.upstream_url))
        for target in (Target("bridge", ours, wire), Target("relay", floor, wire)):
            stage.wait_for(target.child, of.folder)
            asyncio.run(chat(target))
        time.sleep(size.settle_s)
        found = [stage.rss_mb(child.pid) for child in (ours, floor)]
    return found[0], found[1]
