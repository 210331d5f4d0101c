"""Embeddings with all policies in force: asked again, by another key, or elsewhere; paid, and limited."""

import asyncio
import json
from collections import Counter

import pytest

from embedders import GEMINI, JSON, OLLAMA, VENDOR
from ollama_bridge.backends.embedding import Limits, embed_in_parts
from ollama_bridge.chat import Embeddings, EmbedRequest, Target
from ollama_bridge.errors import UpstreamBusy
from ollama_bridge.policies.billing import Billing
from ollama_bridge.policies.terms import Terms
from ollama_bridge.prices import Rates, Tariff
from running import ask, running
from together import OWN, Sums, counted, house, rows, written
from upstream import Script, Upstream

EACH = pytest.mark.parametrize("embedder", [VENDOR, GEMINI, OLLAMA], ids=lambda embedder: embedder.name)
PRICE = {"input": 1000, "output": 0}  # a milli-dollar a token
TEXT = "a text of twenty-eight bytes"
TOKENS = 7
"""Of that text, by who counts and by our estimate."""


def provider(embedder, upstream, **more):
    kind = embedder.provider.get("kind", embedder.name)
    return {**embedder.provider, "kind": kind, "base_url": upstream.url + embedder.base, **more}


def model(name, backend, embedder, **more):
    its = {"capabilities": ["embedding"], "price": PRICE}
    return {"name": name, "backend": backend, "backend_model": embedder.model, **its, **more}


def fine(embedder, count=1):
    return Script([embedder.reply([[3.0, 4.0]] * count)], headers=JSON)


def refused(status, **headers):
    body = json.dumps({"error": {"code": status, "message": "no", "status": "X"}}).encode()
    return Script([body], status=status, headers={**JSON, **headers})


async def embed(daemon, text=TEXT):
    return await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": text}, OWN)


@EACH
async def test_who_fails_is_asked_again_and_paid_once(embedder):
    """The vectors come, and what failed costs nothing. A 500 of a real Ollama's would be asked only once."""
    scripts = [refused(503 if embedder is OLLAMA else 500), refused(503), fine(embedder)]
    async with Upstream(lambda _: scripts.pop(0)) as upstream:
        config = house({embedder.name: provider(embedder, upstream)}, model("e", embedder.name, embedder))
        async with running(config) as daemon:
            got = await embed(daemon)
            sums = await counted(daemon)
    assert got.json["embeddings"] == [[0.6, 0.8]]
    assert sums == written() == Sums(Counter(answered=1), TOKENS, 0, TOKENS * 10**6)
    assert [(row["attempts"], row["is_estimated"]) for row in rows()] == [(3, embedder is GEMINI)]


@EACH
async def test_a_limited_key_gives_way_to_the_other(embedder):
    """Within the attempt; and when both are, the client is told how long to wait, and nobody is asked until then."""
    keys = []

    def decide(seen):
        key = next(key for key in ("k-1", "k-2") if key in str(seen.headers))
        keys.append(key)
        return fine(embedder) if key not in limited else refused(429, **{"retry-after": "600"})

    async with Upstream(decide) as upstream:
        config = house(
            {embedder.name: provider(embedder, upstream, api_key=["k-1", "k-2"])},
            model("e", embedder.name, embedder, requests_per_day=5),
            breaker={"failures": 1},
        )
        async with running(config) as daemon:
            limited = {"k-1"}
            assert [(await embed(daemon)).status for _ in range(3)] == [200] * 3
            limited = {"k-1", "k-2"}
            told = [await embed(daemon) for _ in range(3)]
            sums = await counted(daemon)
    assert keys == ["k-1", "k-2", "k-2", "k-2", "k-2"]
    for one in told:
        assert one.status == 429
        assert 590 <= int(one.headers["Retry-After"]) <= 600
    assert sums == written() == Sums(Counter(answered=3, failed=3), 3 * TOKENS, 0, 3 * TOKENS * 10**6)


@EACH
async def test_the_same_model_elsewhere_embeds_when_the_breaker_is_open(embedder):
    """At once; when a budget is used up, no model with other vectors takes its place."""
    down = refused(503)
    async with Upstream(lambda _: down) as upstream, Upstream(lambda _: fine(embedder)) as other:
        config = house(
            {embedder.name: provider(embedder, upstream), "q": provider(embedder, other)},
            model("e", embedder.name, embedder, fallbacks=["same"]),
            model("same", "q", embedder, budget={"daily": "0.2", "instead": "alien"}),
            {**model("alien", "q", embedder), "backend_model": "another"},
            breaker={"failures": 2},
            retry={"max_retries": 0},
        )
        async with running(config) as daemon:
            answers = [await embed(daemon) for _ in range(4)]
            too_dear = await embed(daemon, TEXT * 10)
            sums = await counted(daemon)
    assert [one.status for one in answers] == [200] * 4
    assert len(upstream.requests) == 2
    assert too_dear.status == 429
    assert "daily budget of 0.2 USD of model 'same:latest'" in too_dear.json["error"]
    assert sums == written()
    assert sums.nusd == 4 * TOKENS * 10**6
    assert [row["model"] for row in rows()] == ["same:latest"] * 5


async def test_parts_that_came_are_paid_though_another_failed():
    """More texts than one call takes: what a provider has read it bills, also when nobody gets the vectors."""
    came = asyncio.Event()

    async def ask_one(part):
        if part.inputs == ("good",):
            came.set()
            return Embeddings([[1.0]], 5)
        await came.wait()
        raise UpstreamBusy("no", provider="p", model="e")

    class Parted:
        async def embed(self, asked):
            return await embed_in_parts(asked, Limits(1), ask_one)

    request = EmbedRequest("e", ("good", "bad"), target=Target("p", "e", name="e"))
    tariff = Tariff(((0, Rates(input=10**15)),))

    async def terms(_):
        return Terms(lambda _: tariff)

    with pytest.raises(UpstreamBusy):
        await Billing(Parted(), terms).embed(request)
    (charge,) = request.record.charges
    assert (charge.usage.input_tokens, charge.cost_nusd, charge.is_estimated) == (5, 5 * 10**6, True)
