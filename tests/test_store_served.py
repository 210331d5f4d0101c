"""The store in the gateway: made when something needs it, handed on by a reload, closed with the last that uses it."""

import redis
from platformdirs import user_state_path
from structlog.testing import capture_logs

from ollama_bridge.config import Config
from ollama_bridge.gateway import assemble
from ollama_bridge.store.embedded import EmbeddedStore
from ollama_bridge.store.remote import RemoteStore
from ollama_bridge.store.shelf import Granted, Purse
from redis_server import redis_server
from running import ask, running

DEMO = {"providers": {"demo": {}}, "models": [{"name": "a", "backend": "demo"}], "server": {"port": 0}}
LIMITED = {**DEMO, "limits": {"key": {"requests_per_minute": 5}}}


def config(**more):
    return Config.model_validate({**LIMITED, **more})


def state_file():
    return user_state_path("ollama-bridge") / "state.sqlite3"


async def test_who_limits_nothing_has_none():
    """No thread, no file, no connection."""
    gateway = assemble(Config.model_validate(DEMO))
    assert (gateway.store, gateway.link) == (None, None)
    await gateway.retire()


def _with(part, **fields):
    return {**DEMO, part: [{**DEMO[part][0], **fields}] if part == "models" else {"demo": fields}}


async def test_whatever_limits_something_has_one():
    """A rate or a budget of a model, a provider, a client, or of all."""
    for limited in (
        LIMITED,
        _with("models", tokens_per_minute=5),
        _with("models", budget={"daily": 1}),
        _with("providers", requests_per_day=5),
        {**DEMO, "budgets": {"all": {"monthly": 5}}},
    ):
        gateway = assemble(Config.model_validate(limited))
        assert isinstance(gateway.store, EmbeddedStore), limited
        await gateway.retire()
    assert not state_file().exists()


async def test_a_reload_hands_it_on_and_what_is_not_handed_on_is_closed():
    """Counts go on; a change of the address makes another one, which the old gateway's end does not close."""
    budget = Purse("a", 10, 4e9)
    first = assemble(config())
    await first.store.take((), [budget], wanted=4)
    second = assemble(config(log_level="debug"), first)
    assert second.store is first.store
    await first.retire(second)
    assert isinstance(await second.store.take((), [budget], wanted=4), Granted)

    async with redis_server() as server:
        third = assemble(config(state=server.url), second)
        assert isinstance(third.store, RemoteStore)
        await second.retire(third)
        granted = await third.store.take((), [budget], wanted=4)
        assert granted.remote
        fourth = assemble(config(state=server.url), third)
        assert (fourth.store, fourth.link) == (third.store, third.link)
        await third.retire(fourth)
        fourth.store.settle(granted, (), [budget], -3)
        await fourth.retire()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("ollama-bridge:purse:a") == b"1", "what was settled last is told before the end"


async def test_a_daemon_whose_redis_is_away_answers():
    """It says so once, at its start, and serves."""
    with capture_logs() as logs:
        async with running(config(state="redis://127.0.0.1:1")) as daemon:
            body = {"model": "a", "messages": [{"role": "user", "content": "hi"}], "stream": False}
            got = await ask(daemon.url, "POST", "/api/chat", body)
            assert (got.status, got.json["done"]) == (200, True)
    assert len([one for one in logs if one["event"].startswith("Redis")]) <= 1
