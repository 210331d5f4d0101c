"""Budgets and limits of running daemons: never over, whoever asks, leaves, or is killed."""

import asyncio
import collections
import json
import re

import anthropic
import openai
import pytest
from structlog.testing import capture_logs

from children import served
from ollama_bridge.config import Config
from running import ask, connect, managed, request, running
from upstream import Upstream, sse
from wires import WIRES, Said

ANSWER_NUSD = 7 * 10_000  # what `wires` says is 7 tokens, at 10 USD for a million
RESERVED_NUSD = 100 * 10_000  # the answer may have 100
FIFTY_USD = 50 * RESERVED_NUSD / 10**9
CHAT = next(wire for wire in WIRES if wire.name == "chat")


def priced(wire, url, *, output=10, **extra):
    config = wire.config(url, **extra)
    config["models"][0]["price"] = {"input": 0, "output": output}
    config["discovery"] = {"enabled": False}  # every request counts
    config["streaming"] = {"heartbeat_s": 0}  # on a busy machine one begins a reply that is to be a 429
    return config


def question(**more):
    messages = [{"role": "user", "content": "Say hello."}]
    return {"model": "m", "messages": messages, "options": {"num_predict": 100}, **more}


def gateway(daemon):
    return daemon._gateway


async def spent(daemon):
    """Of everybody, in all windows; the same in each."""
    book = await gateway(daemon)._book.of("m:latest")
    till = gateway(daemon).shared.till
    purses = [drawer.purse for drawer in till.drawers(book.accounts, till._clock_s())]
    (nusd,) = set(await gateway(daemon).shared.store.spent(purses))
    return nusd


async def until_refused(calls, count):
    """The first `count` answers, all of which must be refusals."""
    refused = []
    for done in asyncio.as_completed(calls):
        refused.append(await done)
        if len(refused) == count:
            return refused
    return refused


async def test_two_hundred_at_once_with_a_budget_for_fifty():
    """Fifty are answered and the others told clearly; what the fifty did not need is there for the next."""
    async with Upstream() as upstream:
        hold = asyncio.Event()
        upstream.reply(CHAT.stream(Said("hello")), hold=hold)
        budgets = {"all": {"daily": FIFTY_USD, "monthly": FIFTY_USD}}
        async with running(Config(**priced(CHAT, upstream.url, budgets=budgets))) as daemon:
            calls = [
                asyncio.create_task(ask(daemon.url, "POST", "/api/chat", question())) for _ in range(200)
            ]
            refused = await until_refused(calls, 150)
            assert await spent(daemon) == 50 * RESERVED_NUSD
            hold.set()
            answers = await asyncio.gather(*calls)
            assert collections.Counter(one.status for one in answers) == {200: 50, 429: 150}
            for one in refused:  # calls under way may give back what is missing, and do
                assert 1 <= int(one.headers["Retry-After"]) <= 10
                assert "x-should-retry" not in one.headers  # the SDKs may wait for that
                assert re.search(
                    r"the daily budget of 0\.05 USD of all clients together is used up by what calls.* at \d{4}-\d\d-\d\d 00:00:00 UTC",
                    one.json["error"],
                )
            assert len(upstream.requests) == 50
            assert await spent(daemon) == 50 * ANSWER_NUSD
            assert (await ask(daemon.url, "POST", "/api/chat", question())).status == 200
            assert await spent(daemon) == 51 * ANSWER_NUSD


async def test_two_processes_share_a_budget_and_a_kill_forgets_nothing(tmp_path):
    """Of two hundred at once over both fifty are answered; those of a killed one stay spent, also when it is back."""
    path = tmp_path / "config.yaml"
    async with Upstream() as upstream:
        hold = asyncio.Event()
        upstream.reply(CHAT.stream(Said("hello")), hold=hold)
        budgets = {"all": {"monthly": FIFTY_USD}}
        path.write_text(json.dumps(priced(CHAT, upstream.url, budgets=budgets)))
        async with served(path) as (first, doomed), served(path) as (second, _):
            both = [first, second] * 100
            calls = [asyncio.create_task(ask(url, "POST", "/api/chat", question())) for url in both]
            refused = await until_refused(calls, 150)
            assert {one.status for one in refused} == {429}
            for _ in range(50):
                await upstream.arrivals.acquire()
            doomed.kill()
            await doomed.wait()
            hold.set()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            answered = sum(not isinstance(one, BaseException) and one.status == 200 for one in answers)
            killed = sum(isinstance(one, BaseException) for one in answers)
            assert answered + killed == len(upstream.requests) == 50
            async with served(path) as (again, _):
                nusd = killed * RESERVED_NUSD + answered * ANSWER_NUSD
                while nusd + RESERVED_NUSD <= 50 * RESERVED_NUSD:
                    assert (await ask(again, "POST", "/api/chat", question())).status == 200
                    nusd += ANSWER_NUSD
                assert (await ask(second, "POST", "/api/chat", question())).status == 429
                assert (await ask(again, "POST", "/api/chat", question())).status == 429


def frames(*payloads):
    return [sse(payload) for payload in payloads]


TOLD = {
    "anthropic": frames(
        {"type": "message_start", "message": {"usage": {"input_tokens": 11, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
    ),
    "responses": frames(
        {"type": "response.output_text.delta", "delta": "hello", "item_id": "m", "content_index": 0}
    ),
    "chat": frames(
        json.dumps(
            {
                "choices": [{"index": 0, "delta": {"content": "hello"}}],
                "usage": {"prompt_tokens": 11, "completion_tokens": 1},
            }
        )
    ),
    "google": frames(
        json.dumps(
            {
                "candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}]}}],
                "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 1},
            }
        )
    ),
}
"""What each wire says until its client leaves."""


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_who_leaves_in_the_middle_is_billed(wire):
    """By what the provider has said of the prompt, or an estimate, and by the answer so far."""
    async with Upstream() as upstream:
        upstream.reply(TOLD[wire.name], then="stall")
        config = wire.config(upstream.url, budgets={"all": {"daily": 10}})
        config["models"][0]["price"] = {"input": 1, "output": 10}
        async with running(Config(**config)) as daemon:
            reader, writer = await connect(daemon.url)
            body = question(stream=True, messages=[{"role": "user", "content": "x" * 400}])
            writer.write(request(daemon.url, "POST", "/api/chat", body))
            while b"hello" not in await reader.readline():
                pass
            assert await spent(daemon) > 100 * 10_000
            writer.close()
            await upstream.closed_early.wait()
            await gateway(daemon)._unused.wait()
            prompt = 104 if wire.name == "responses" else 11
            assert await spent(daemon) == prompt * 1000 + 2 * 10_000


async def test_the_output_is_what_was_paid_for():
    """A client that asks for no limit gets the one that was reserved, on the wire."""
    async with Upstream() as upstream:
        upstream.reply(CHAT.stream(Said("hello")))
        config = priced(CHAT, upstream.url, budgets={"all": {"daily": FIFTY_USD}})
        config["models"][0]["max_tokens"] = 9000
        async with running(Config(**config)) as daemon:
            assert (await ask(daemon.url, "POST", "/api/chat", question(options={}))).status == 200
            assert upstream.requests[0].json["max_tokens"] == 5000  # 0.05 USD at 10 USD for a million


async def test_without_budgets_nothing_is_said_of_limits():
    """The request is the client's own, and no state is kept."""
    async with Upstream() as upstream:
        upstream.reply(CHAT.stream(Said("hello")))
        async with running(Config(**CHAT.config(upstream.url))) as daemon:
            assert (await ask(daemon.url, "POST", "/api/chat", question(options={}))).status == 200
            assert "max_tokens" not in upstream.requests[0].json
            assert gateway(daemon).shared.store is None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/chat", lambda told: told["error"]),
        ("/v1/chat/completions", lambda told: told["error"]["message"]),
        ("/v1/messages", lambda told: told["error"]["message"]),
        ("/v1/responses", lambda told: told["error"]["message"]),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_every_surface_says_no_before_it_begins(path, words, stream):
    """429 with the seconds to wait, streamed or not, and the provider is not asked."""
    async with Upstream() as upstream:
        upstream.reply(CHAT.stream(Said("hello")))
        config = Config(**priced(CHAT, upstream.url, limits={"key": {"requests_per_hour": 1}}))
        async with running(config) as daemon:
            body = {
                "model": "m",
                "messages": [{"role": "user", "content": "hi"}],
                "max_tokens": 9,
                "input": "hi",
            }
            first = await ask(daemon.url, "POST", path, {**body, "stream": stream})
            second = await ask(daemon.url, "POST", path, {**body, "stream": stream})
            assert (first.status, second.status) == (200, 429)
            assert 0 < int(second.headers["Retry-After"]) <= 7200
            assert "limited to 1 request an hour: ask again at 20" in words(second.json)
            assert len(upstream.requests) == 1


@pytest.mark.parametrize("surface", ["openai", "anthropic"])
async def test_sdks_do_not_ask_again_where_no_wait_of_theirs_would_help(surface):
    """A coding agent says at once that there is no more today, instead of asking again and again."""
    made = {
        "openai": lambda url: openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k"),
        "anthropic": lambda url: anthropic.AsyncAnthropic(base_url=url, api_key="k"),
    }
    question = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    async with Upstream() as upstream:
        upstream.reply(CHAT.stream(Said("hello")))
        config = Config(**priced(CHAT, upstream.url, limits={"key": {"requests_per_day": 1}}))
        async with running(config) as daemon, made[surface](daemon.url) as sdk:
            create = sdk.chat.completions.create if surface == "openai" else sdk.messages.create
            await create(**question)
            with (
                capture_logs() as logs,
                pytest.raises(Exception, match="limited to 1 request a day") as caught,
            ):
                await create(**question)
    assert type(caught.value).__name__ == "RateLimitError"
    assert [line["status"] for line in logs if line["event"] == "request"] == [429]


async def test_embeddings_fall_under_budgets_and_limits():
    """They cost money too."""
    vector = json.dumps({"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 5}}).encode()
    async with Upstream() as upstream:
        upstream.reply(vector, headers={"content-type": "application/json"})
        config = priced(CHAT, upstream.url, budgets={"all": {"daily": 1}})
        config["models"][0] |= {
            "capabilities": ["embedding"],
            "price": {"input": 1000, "output": 0},
            "requests_per_hour": 2,
        }
        async with running(Config(**config)) as daemon:
            body = {"model": "m", "input": "x" * 100}
            assert (await ask(daemon.url, "POST", "/api/embed", body)).status == 200
            assert await spent(daemon) == 5_000_000
            refused = await ask(daemon.url, "POST", "/api/embed", {**body, "input": "x" * 2000})
            assert refused.status == 429
            assert "daily budget of 1 USD of all clients together cannot pay" in refused.json["error"]
            assert (await ask(daemon.url, "POST", "/v1/embeddings", body)).status == 200
            refused = await ask(daemon.url, "POST", "/api/embed", body)
            assert "model 'm:latest' is limited to 2 requests an hour" in refused.json["error"]


async def test_what_is_made_from_a_model_shares_its_limits_and_its_price():
    """A model that somebody makes is no way around them."""
    async with Upstream() as upstream:
        upstream.reply(CHAT.stream(Said("hello")))
        config = priced(CHAT, upstream.url)
        config["models"][0] |= {"budget": {"daily": FIFTY_USD}, "requests_per_minute": 2, "enabled": False}
        config["models"] += [{"name": "child", "from": "m"}, {"name": "grandchild", "from": "child"}]
        async with running(Config(**config)) as daemon:
            said = [
                await ask(daemon.url, "POST", "/api/chat", question(model=name))
                for name in ("child", "grandchild", "child")
            ]
            assert [one.status for one in said] == [200, 200, 429]
            assert "model 'm:latest' is limited to 2 requests a minute" in said[2].json["error"]
            assert await spent(daemon) == 2 * ANSWER_NUSD


async def test_a_model_that_nobody_can_price_is_named_at_the_start():
    """And refused with what to set; without a budget nobody asks for a price."""
    config = {
        "server": {"port": 0},
        "providers": {"acme": {"kind": "openai", "base_url": "https://api.acme.example/v1"}},
        "models": [{"name": "odd", "backend": "acme"}, {"name": "demo", "backend": "demo"}],
    }
    config["providers"]["demo"] = {}
    for budgets, named in (
        ({"all": {"daily": 1}}, ["odd:latest"]),
        ({"key": {"daily": 1}}, ["odd:latest"]),
        ({}, []),
    ):
        with capture_logs() as logs:
            async with running(Config(**config, budgets=budgets)) as daemon:
                await gateway(daemon).warm()
                if budgets:
                    refused = await ask(daemon.url, "POST", "/api/chat", question(model="odd"))
                    assert refused.status == 429
                    assert "set models[].price" in refused.json["error"]
        lines = [
            line["models"] for line in logs if line["event"].startswith("nobody knows what these models cost")
        ]
        assert lines[:1] == ([named] if named else [])


async def test_a_reload_goes_on_counting(tmp_path):
    """What was spent stays spent, and a larger budget counts at once."""
    path = tmp_path / "config.yaml"
    async with Upstream() as upstream:
        upstream.reply(CHAT.stream(Said("hello")))

        def text(usd):
            config = priced(CHAT, upstream.url, budgets={"all": {"daily": usd}})
            del config["server"]
            return json.dumps(config)

        async with managed(path, text(RESERVED_NUSD / 10**9)) as daemon:
            assert (await ask(daemon.url, "POST", "/api/chat", question())).status == 200
            store = gateway(daemon).shared.store
            assert (await ask(daemon.url, "POST", "/api/chat", question())).status == 429
            path.write_text(text(2 * RESERVED_NUSD / 10**9))
            await daemon._take_over()
            assert gateway(daemon).shared.store is store
            assert (await ask(daemon.url, "POST", "/api/chat", question())).status == 200
            assert await spent(daemon) == 2 * ANSWER_NUSD
