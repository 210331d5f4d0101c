"""One request at a time, and no faster than this: in order, with heartbeats, and nobody's silence."""

import asyncio
from contextlib import aclosing

import pytest

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Target
from ollama_bridge.config import Config
from ollama_bridge.errors import RateLimited
from ollama_bridge.events import Finish, TextDelta
from ollama_bridge.policies import turnstile
from ollama_bridge.policies.turnstile import Gate, Gates, Turnstile
from running import ask, connect, request, running
from token_server import Clock, settled
from upstream import Upstream, sse


class Answers:
    """Notes who is inside, and answers each when it is let go."""

    def __init__(self):
        self.begun = []
        self.inside = 0
        self.most = 0
        self.go = asyncio.Event()

    async def _in(self, request):
        self.begun.append(request.model)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await self.go.wait()
        finally:
            self.inside -= 1

    async def chat(self, request):
        await self._in(request)
        yield (TextDelta(request.model), Finish())

    async def embed(self, request):
        await self._in(request)
        return Embeddings([[1.0]])


async def read(policy, name, key=0):
    async with aclosing(policy.chat(ChatRequest(name, target=Target("acme"), key=key))) as reply:
        return [event async for burst in reply for event in burst]


def policy_of(*, at_once=1, spacing_s=0.0, keys=1):
    clock, slept = Clock(50.0), []

    async def sleep(wait_s):
        slept.append(wait_s)
        clock.now_s += wait_s

    inner = Answers()
    gates = tuple(Gate(at_once, spacing_s, clock_s=clock, sleep=sleep) for _ in range(keys))
    return Turnstile(inner, gates), inner, clock, slept


@pytest.mark.parametrize("at_once", [1, 3])
async def test_so_many_at_a_time_in_the_order_of_their_coming(at_once):
    policy, inner, *_ = policy_of(at_once=at_once)
    names = [f"m{number}" for number in range(10)]
    tasks = [asyncio.create_task(read(policy, name)) for name in names]
    await settled()
    assert inner.begun == names[:at_once]
    inner.go.set()
    replies = await asyncio.gather(*tasks)
    assert [reply[0].text for reply in replies] == names
    assert (inner.begun, inner.most) == (names, at_once)


async def test_between_two_beginnings_lies_the_spacing():
    """Also where any number may be under way; who comes late enough waits for nothing."""
    policy, inner, clock, slept = policy_of(at_once=0, spacing_s=1.0)
    inner.go.set()
    await asyncio.gather(*(read(policy, "m") for _ in range(3)))
    assert slept == [1.0, 1.0]
    clock.now_s += 5
    await read(policy, "m")
    assert slept == [1.0, 1.0]


async def test_who_leaves_gives_up_the_place():
    """In the queue, at the door, and inside."""
    policy, inner, *_ = policy_of()
    inside, door, queue, last = (asyncio.create_task(read(policy, name)) for name in "abcd")
    await settled()
    for task in (queue, door):
        task.cancel()
        await settled()
    assert inner.begun == ["a"]
    inside.cancel()
    await settled()
    assert inner.begun == ["a", "d"]
    inner.go.set()
    assert (await last)[0].text == "d"


async def test_who_leaves_while_the_spacing_is_waited_for_costs_nobody_a_second():
    clock, sleeping = Clock(0.0), asyncio.Event()

    async def sleep(_):
        sleeping.set()
        await asyncio.Event().wait()

    gate = Gate(1, 1.0, clock_s=clock, sleep=sleep)
    async with gate.passed():
        pass

    async def passing():
        async with gate.passed():
            return clock.now_s

    first = asyncio.create_task(passing())
    await sleeping.wait()
    second = asyncio.create_task(passing())
    first.cancel()
    clock.now_s = 1.0
    assert await second == 1.0
    assert gate.waiting == 0


async def test_each_key_has_its_own_turn():
    policy, inner, *_ = policy_of(keys=2)
    tasks = [asyncio.create_task(read(policy, name, key)) for name, key in (("a", 0), ("b", 0), ("c", 1))]
    await settled()
    assert sorted(inner.begun) == ["a", "c"]
    inner.go.set()
    await asyncio.gather(*tasks)


async def test_embeddings_take_turns_with_answers():
    policy, inner, *_ = policy_of()
    chat = asyncio.create_task(read(policy, "chat"))
    embed = asyncio.create_task(policy.embed(EmbedRequest("embed", ("x",), target=Target("acme"))))
    await settled()
    assert inner.begun == ["chat"]
    inner.go.set()
    await asyncio.gather(chat, embed)
    assert inner.most == 1


async def test_a_queue_that_is_too_long_is_said_at_once(monkeypatch):
    """Another model may answer; nobody waits for longer than clients do."""
    monkeypatch.setattr(turnstile, "MOST_WAITING", 2)
    policy, inner, *_ = policy_of()
    tasks = [asyncio.create_task(read(policy, "m")) for _ in range(3)]
    await settled()
    with pytest.raises(RateLimited, match=r"2 requests wait for acme already.*at_once") as caught:
        await read(policy, "m")
    assert caught.value.elsewhere
    inner.go.set()
    await asyncio.gather(*tasks)
    assert await read(policy, "m")


def test_a_reload_keeps_the_gates_of_who_has_not_changed():
    gates = Gates()
    settings = ProviderSettings("a", "openai", ("k",), at_once=1)
    assert gates.of(settings) is gates.of(
        ProviderSettings("a", "openai", ("k",), at_once=1, base_url="http://x")
    )
    assert gates.of(settings) is not gates.of(ProviderSettings("a", "openai", ("k",), at_once=2))
    assert len(gates.of(ProviderSettings("b", "openai", ("k", "l"), spacing_s=1.0))) == 2


async def test_a_client_that_waits_for_its_turn_is_shown_that_it_lives():
    """The provider is asked by one client at a time; the other one gets empty lines, no timeout, then its answer."""
    frame = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    go = asyncio.Event()
    async with Upstream() as upstream:
        upstream.reply([sse(frame), sse(end, done=True)], hold=go, held_after=1)
        upstream.reply(sse(frame, end, done=True))
        config = Config.model_validate(
            {
                "server": {"port": 0},
                "streaming": {"heartbeat_s": 0.05, "first_event_timeout_s": 0.2, "idle_timeout_s": 60},
                "providers": {
                    "acme": {
                        "kind": "openai",
                        "base_url": f"{upstream.url}/v1",
                        "at_once": 1,
                        "api_key": "none",
                    }
                },
                "models": [{"name": "m", "backend": "acme"}],
            }
        )
        async with running(config) as daemon:
            body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
            first = asyncio.create_task(ask(daemon.url, "POST", "/api/chat", body))
            await upstream.arrivals.acquire()
            reader, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", body))
            seen = b""
            while seen.count(b'"content":""') < 8:  # that is longer than the provider may be silent
                seen += await reader.read(65536)
            assert len(upstream.requests) == 1
            go.set()
            assert (await first).lines[-1]["done"]
            while b'"done":true' not in seen:
                seen += await reader.read(65536)
            assert b'"Hi"' in seen
            assert len(upstream.requests) == 2
            writer.close()
