"""The breaker, `auto` and what is shown of them, through the running daemon and the real SDKs."""

import asyncio
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ollama_bridge.config import Config
from ollama_bridge.events import Usage
from ollama_bridge.record import CallRecord, Charge
from redis_server import redis_server
from running import ask, managed, running
from upstream import Script, Upstream
from wires import WIRES, Said

WIRE = next(wire for wire in WIRES if wire.name == "chat")
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": False}
ONCE = {"retry": {"max_retries": 0}}
DOWN = {"body": b'{"error":{"message":"the secret words of the provider"}}', "status": 503}
LABELS = ("provider", "model", "outcome", "kind", "le")
WELL = {"body": WIRE.stream(Said("fine"))}


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self):
        self.now_s = 1000.0

    def __call__(self):
        return self.now_s


def clocked(daemon):
    """Let the circuits of a running daemon go by a clock of the test's."""
    clock = Clock()
    for circuit in daemon._gateway.shared.circuits:
        circuit.clock_s = clock
    return clock


def config(upstream, **extra):
    return Config.model_validate(WIRE.config(upstream.url, **ONCE, **extra))


async def chat(daemon, **more):
    return await ask(daemon.url, "POST", "/api/chat", QUESTION | more)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_five_failures_then_none_is_asked_for_a_minute(path, streamed):
    """The sixth is told at once, on every surface, with the wait; after it one tries, and all is well again."""
    question = {**QUESTION, "stream": streamed, "input": "hi", "max_tokens": 9}
    async with Upstream() as upstream, running(config(upstream)) as daemon:
        clock = clocked(daemon)
        upstream.only(**DOWN)
        for _ in range(5):
            assert (await ask(daemon.url, "POST", path, question)).status in {503, 529}
        assert len(upstream.requests) == 5
        clock.now_s += 17.5
        refused = await ask(daemon.url, "POST", path, question)
        assert len(upstream.requests) == 5
        assert refused.status in {503, 529}
        assert refused.headers["Retry-After"] == "43"
        assert b"my-chat: model 'acme-1': not asked since " in refused.body
        clock.now_s += 42.5
        upstream.only(**WELL)
        for _ in range(2):
            assert (await ask(daemon.url, "POST", path, question)).status == 200
        assert len(upstream.requests) == 7


async def test_of_twenty_clients_one_tries():
    """The others are refused while it is under way, and none of them reaches the provider."""
    held = asyncio.Event()
    async with Upstream() as upstream, running(config(upstream)) as daemon:
        clock = clocked(daemon)
        upstream.only(**DOWN)
        for _ in range(5):
            await chat(daemon)
        clock.now_s += 60
        upstream.only(**WELL, hold=held)
        tasks = [asyncio.create_task(chat(daemon)) for _ in range(20)]
        while sum(task.done() for task in tasks) < 19:
            await asyncio.wait([task for task in tasks if not task.done()], return_when="FIRST_COMPLETED")
        assert len(upstream.requests) == 6
        held.set()
        assert sorted([(await task).status for task in tasks]) == [200, *[503] * 19]


async def test_refusals_do_not_open_it():
    """A provider that says no is there; nor does its rate limit."""
    async with Upstream() as upstream, running(config(upstream)) as daemon:
        for status in (400, 401, 404, 429):
            upstream.only(b'{"error":{"message":"no"}}', status=status)
            for _ in range(6):
                await chat(daemon)
        assert len(upstream.requests) == 24


async def test_switched_off_it_never_opens():
    """`breaker.failures: 0`: every request is passed on."""
    async with Upstream() as upstream, running(config(upstream, breaker={"failures": 0})) as daemon:
        upstream.only(**DOWN)
        for _ in range(8):
            await chat(daemon)
        assert len(upstream.requests) == 8


async def test_it_outlives_a_change_of_the_configuration(tmp_path):
    """What failed before is still left alone, under a new name as well."""
    async with Upstream() as upstream:
        text = json.dumps(WIRE.config(upstream.url, **ONCE))
        async with managed(tmp_path / "config.yaml", text) as daemon:
            upstream.only(**DOWN)
            for _ in range(5):
                await chat(daemon)
            copied = await ask(daemon.url, "POST", "/api/copy", {"source": "m", "destination": "n"})
            assert copied.status == 200
            for name in ("m", "n"):
                assert b"not asked since" in (await chat(daemon, model=name)).body
            assert len(upstream.requests) == 5


async def test_instances_with_one_redis_share_it():
    """What one has found out the other knows without having asked, and of all their clients one tries."""
    held = asyncio.Event()
    async with redis_server() as redis, Upstream() as upstream:
        shared = config(upstream, state=redis.url)
        async with running(shared) as one, running(shared) as other:
            upstream.only(**DOWN)
            for _ in range(5):
                await chat(one)
            await one._gateway.shared.news._saying
            await other._gateway.shared.news.look()
            assert b"after 5 failures in a row; it is tried again in" in (await chat(other)).body
            assert len(upstream.requests) == 5
            for daemon in (one, other):
                clocked(daemon)
                for circuit in daemon._gateway.shared.circuits:
                    circuit.retry_at_s = 1000.0
            upstream.only(**WELL, hold=held)
            tasks = [asyncio.create_task(chat(daemon)) for daemon in (one, other) for _ in range(5)]
            while sum(task.done() for task in tasks) < 9:
                await asyncio.wait([task for task in tasks if not task.done()], return_when="FIRST_COMPLETED")
            held.set()
            assert sorted([(await task).status for task in tasks]) == [200, *[503] * 9]
            assert len(upstream.requests) == 6
            await asyncio.gather(one._gateway.shared.news._saying, other._gateway.shared.news.look())
            await other._gateway.shared.news.look()
            await one._gateway.shared.news.look()
            assert {(await chat(daemon)).status for daemon in (one, other)} == {200}


async def test_what_is_shown_of_it():
    """Status, health and metrics say which model is left alone, since when and why; never in the provider's words."""
    async with Upstream() as upstream, running(config(upstream)) as daemon:
        clocked(daemon)
        healthy = await ask(daemon.url, "GET", "/health")
        assert (healthy.status, healthy.json) == (200, {"status": "ok"})
        upstream.only(**DOWN)
        for _ in range(5):
            await chat(daemon)
        for path in ("/api/status", "/v1/providers/status"):
            shown = (await ask(daemon.url, "GET", path)).json
            [provider] = shown.pop("providers")
            assert shown == ({"cloud": {"disabled": True, "source": "config"}} if "api" in path else {})
            [model] = provider.pop("models")
            assert provider == {"provider": "my-chat", "kind": "openai", "state": "open"}
            assert model.pop("since").endswith("Z")
            assert model.pop("last_error").startswith("my-chat: model 'acme-1': the provider is overloaded")
            assert model == {
                "model": "m:latest",
                "backend_model": "acme-1",
                "state": "open",
                "failures": 5,
                "retry_in_s": 60.0,
            }
        for path in ("/health", "/v1/health"):
            assert (await ask(daemon.url, "GET", path)).json == {"status": "degraded"}
        assert (await metrics(daemon))["ai_proxy_circuit_breaker_state"] == {("my-chat", "m:latest"): 2.0}


async def metrics(daemon):
    """Samples by name and labels, as Prometheus reads them."""
    got = await ask(daemon.url, "GET", "/metrics")
    assert got.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = {}
    for family in text_string_to_metric_families(got.body.decode()):
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in LABELS if name in sample.labels)
            samples.setdefault(sample.name, {})[labels] = sample.value
    return samples


async def test_calls_are_counted_under_the_seeds_names():
    """Requests, time, tokens, cost and cache hits, by provider and model, as Prometheus' own parser reads them."""
    async with Upstream() as upstream, running(config(upstream)) as daemon:
        meter = daemon._gateway.shared.metrics
        usage = Usage(100, 20, 40, 10, 5)
        whose = {"provider": "my-chat", "model": "m:latest", "target": "acme-1"}
        charge = Charge("my-chat", "acme-1", usage, 1_500_000_000)
        elsewhere = Charge("other", "o-1", Usage(7), None)
        meter(CallRecord(**whose, outcome="answered", total_ms=300, charges=[elsewhere, charge]))
        meter(CallRecord(**whose, outcome="answered", total_ms=400_000, charges=[charge]))
        meter(CallRecord(asked="m:latest", outcome="answered", cached="hit"))
        meter(CallRecord(asked="m:latest", outcome="limited"))
        shown = await metrics(daemon)
    me = ("my-chat", "m:latest")
    nobody = ("", "m:latest")
    assert shown["ai_proxy_requests_total"] == {
        (*me, "answered"): 2,
        (*nobody, "answered"): 1,
        (*nobody, "limited"): 1,
    }
    assert shown["ai_proxy_tokens_used_total"] == {
        (*me, "input"): 200,
        (*me, "output"): 40,
        (*me, "cached_read"): 80,
        (*me, "cached_write"): 20,
        (*me, "reasoning"): 10,
        ("other", "o-1", "input"): 7,
    }
    assert shown["ai_proxy_cost_total"] == {me: 3.0, ("other", "o-1"): 0}
    assert shown["ai_proxy_cache_hits_total"] == {("m:latest", "hit"): 1}
    buckets = shown["ai_proxy_request_duration_seconds_bucket"]
    assert [buckets[*me, bound] for bound in ("0.25", "0.5", "300.0", "+Inf")] == [0, 1, 1, 2]
    assert shown["ai_proxy_request_duration_seconds_sum"][me] == pytest.approx(400.3)
    assert shown["ai_proxy_request_duration_seconds_count"][me] == 2


async def test_who_needs_a_key_to_look():
    """Health tells everybody that it is there; all else is for those who bring a client key."""
    async with Upstream() as upstream:
        wanted = config(upstream, server={"port": 0, "api_keys": ["k-123"]})
        async with running(wanted) as daemon:
            for path, status in {
                "/health": 200,
                "/v1/health": 200,
                "/metrics": 401,
                "/v1/providers/status": 401,
                "/api/status": 401,
            }.items():
                assert (await ask(daemon.url, "GET", path)).status == status, path
            key = {"Authorization": "Bearer k-123"}
            assert (await ask(daemon.url, "GET", "/metrics", headers=key)).status == 200


def two(first, second, **extra):
    """Two providers: the models of the first are cheaper."""
    made = WIRE.config(first.url, **ONCE, **extra)
    (provider,) = made["providers"].values()
    made["providers"] = {
        "one": provider,
        "two": {**provider, "base_url": second.url + WIRE.base},
    }
    (model,) = made["models"]
    made["models"] = [
        {**model, "name": name, "backend": backend, "price": {"input": usd, "output": usd}}
        for name, backend, usd in (("cheap", "one", 1), ("dear", "two", 9))
    ]
    return Config.model_validate(made)


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/v1/chat/completions", "/v1/messages"])
async def test_auto_asks_who_is_available(path):
    """The cheap one while it answers, the other one while it is left alone; and both when nobody is there: 503."""
    question = {**QUESTION, "model": "auto:title", "prompt": "hi", "max_tokens": 9}
    async with Upstream() as one, Upstream() as other, running(two(one, other)) as daemon:
        clock = clocked(daemon)
        one.only(**WELL)
        other.only(**WELL)
        assert b"fine" in (await ask(daemon.url, "POST", path, question)).body
        assert (len(one.requests), len(other.requests)) == (1, 0)
        one.only(**DOWN)
        for _ in range(5):
            assert (await ask(daemon.url, "POST", path, question)).status == 200
        assert (len(one.requests), len(other.requests)) == (6, 5)
        assert (await ask(daemon.url, "POST", path, question)).status == 200
        assert (len(one.requests), len(other.requests)) == (6, 6)
        other.only(**DOWN)
        for _ in range(5):
            await ask(daemon.url, "POST", path, question)
        nobody = await ask(daemon.url, "POST", path, question)
        assert (len(one.requests), len(other.requests)) == (6, 11)
        assert nobody.status in {503, 529}
        assert b"one: model 'acme-1': not asked since" in nobody.body
        assert b"two: model 'acme-1': not asked since" in nobody.body
        clock.now_s += 60
        one.only(**WELL)
        assert (await ask(daemon.url, "POST", path, question)).status == 200
        assert len(one.requests) == 7


async def test_auto_is_a_model_to_clients():
    """`show` tells what it can do, lists hide it unless told otherwise, and an answer says who gave it."""
    async with Upstream() as upstream, running(two(upstream, upstream)) as daemon:
        upstream.only(**WELL)
        shown = await ask(daemon.url, "POST", "/api/show", {"model": "auto"})
        assert shown.json["capabilities"] == ["completion", "tools", "vision", "thinking"]
        assert (await ask(daemon.url, "GET", "/v1/models/auto")).json["id"] == "auto"
        for path in ("/api/tags", "/v1/models"):
            assert b"auto" not in (await ask(daemon.url, "GET", path)).body
        answered = await chat(daemon, model="auto")
        assert answered.json["model"] == "auto"
        assert answered.json["message"]["content"] == "fine"
        vectors = await ask(daemon.url, "POST", "/api/embed", {"model": "auto", "input": "a"})
        assert vectors.status == 400
    async with Upstream() as upstream, running(two(upstream, upstream, routing={"listed": True})) as daemon:
        for path in ("/api/tags", "/v1/models"):
            assert b"auto:commit_message" in (await ask(daemon.url, "GET", path)).body
    async with Upstream() as upstream, running(two(upstream, upstream, routing={"auto": False})) as daemon:
        assert (await chat(daemon, model="auto")).status == 404


async def test_what_a_chosen_model_adds_is_added():
    """A model of one's own brings its system prompt along when `small` stands for it."""
    async with Upstream(lambda _: Script([WIRE.stream(Said("fine"))])) as upstream:
        made = WIRE.config(upstream.url, **ONCE)
        made["models"][0] |= {
            "model_size": "SMALL",
            "system": "Be brief.",
            "parameters": {"temperature": 0.5},
        }
        async with running(Config.model_validate(made)) as daemon:
            await chat(daemon, model="small")
    [seen] = upstream.requests
    assert seen.json["messages"][0] == {"role": "system", "content": "Be brief."}
    assert seen.json["temperature"] == 0.5
