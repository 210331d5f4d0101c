"""What the running daemon notes of each call, whatever surface it came by, and what it never notes."""

import asyncio
import sqlite3
import time
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

import embedders
from journal import journal
from ollama_bridge.config import Config
from ollama_bridge.ledger import ledger_path
from running import ask, connect, request, running
from upstream import Upstream
from wires import WIRES, Said

SECRET = "the secret of the prompt"
KEY, OTHER = "client-key-0123456789", "other-key-0123456789"
SHORT = {KEY: "cbabecbd", OTHER: "fa84dd91"}  # how their SHA-256 begins
CHAT = {"messages": [{"role": "user", "content": SECRET}]}
SURFACES = {
    "/api/chat": CHAT,
    "/api/generate": {"prompt": SECRET},
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": SECRET},
    "/v1/responses": {"input": SECRET},
    "/v1/messages": {**CHAT, "max_tokens": 100},
}
ANSWER = Said("an answer that nobody else may read")
EMBEDDER = next(one for one in embedders.EMBEDDERS if one.counts)


def rows():
    """What the ledger says, in the order of the calls."""
    db = sqlite3.connect(ledger_path())
    db.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in db.execute("SELECT * FROM call ORDER BY time, id")]
    finally:
        db.close()


def part(row, *names):
    return {name: row[name] for name in names}


@asynccontextmanager
async def bridge(wire, *replies, **extra):
    """A daemon whose one model, `m`, answers so."""
    async with Upstream() as upstream:
        for how in replies or ({},):
            upstream.reply(**{"body": wire.stream(ANSWER), **how})
        config = wire.config(upstream.url, retry={"max_retries": 0}, **extra)
        async with running(Config.model_validate(config)) as daemon:
            yield daemon, upstream


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_every_surface_has_its_row(wire):
    """Streamed or not, with what the provider's own bytes say, and the name that the log has for the request."""
    asked = [(path, stream) for path in SURFACES for stream in (True, False)]
    began_s = time.time()
    with capture_logs() as logged:
        async with bridge(wire) as (daemon, _):
            for path, stream in asked:
                body = {"model": "M", "stream": stream, **SURFACES[path]}
                assert (await ask(daemon.url, "POST", path, body)).status == 200
    found = rows()
    assert [row["surface"] for row in found] == [path for path, _ in asked]
    lines = [line for line in logged if line["event"] == "request"]
    assert len({row["request_id"] for row in found}) == len(lines) == len(asked)
    for row, line in zip(found, lines, strict=True):
        assert began_s <= row["time"] <= time.time()
        assert 0 < row["first_ms"] <= row["total_ms"]
        assert part(row, "asked", "model", "provider", "target", "outcome", "client", "key", "cached") == {
            "asked": "m:latest",
            "model": "m:latest",
            "provider": wire.key,
            "target": wire.model,
            "outcome": "answered",
            "client": "127.0.0.1",
            "key": "",
            "cached": "",
        }
        assert part(row, "input_tokens", "output_tokens") == {"input_tokens": 11, "output_tokens": 7}
        assert (line["model"], line["answered_by"], line["provider"]) == ("M", "m:latest", wire.key)
        assert (line["input_tokens"], line["output_tokens"]) == (11, 7)
        assert "outcome" not in line


async def test_the_log_and_the_ledger_have_one_name_for_a_call():
    """So that a row leads to the lines about it."""
    with journal() as written:
        async with bridge(WIRES[0]) as (daemon, _):
            await ask(daemon.url, "POST", "/api/chat", {"model": "m", **CHAT})
    (line,) = (line for line in written.lines if line["event"] == "request")
    assert [row["request_id"] for row in rows()] == [line["request_id"]]


async def test_what_a_call_costs_is_in_its_row_and_in_the_log():
    """In whole nano-dollars, and in dollars."""
    async with Upstream() as upstream:
        upstream.reply(WIRES[0].stream(ANSWER))
        config = WIRES[0].config(upstream.url)
        config["models"][0]["price"] = {"input": 3, "output": 15}
        with capture_logs() as logged:
            async with running(Config.model_validate(config)) as daemon:
                await ask(daemon.url, "POST", "/api/chat", {"model": "m", **CHAT})
    assert [part(row, "cost_nusd", "is_estimated") for row in rows()] == [
        {"cost_nusd": 11 * 3000 + 7 * 15_000, "is_estimated": 0}
    ]
    assert [line["cost_usd"] for line in logged if line["event"] == "request"] == [0.000138]


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings", "/v1/embeddings"])
async def test_embeddings_have_their_rows(path):
    """There is no first event, and there are no tokens of an answer."""
    async with Upstream() as upstream:
        EMBEDDER.answer(upstream, [[1.0, 2.0]])
        async with running(EMBEDDER.config(upstream.url)) as daemon:
            got = await ask(daemon.url, "POST", path, {"model": "e", "input": SECRET, "prompt": SECRET})
            assert got.status == 200
            nothing = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": []})
            assert nothing.status == 200, "of which no provider is asked"
    (row,) = rows()
    assert part(
        row, "surface", "asked", "target", "input_tokens", "output_tokens", "outcome", "first_ms"
    ) == {
        "surface": path,
        "asked": "e:latest",
        "target": EMBEDDER.model,
        "input_tokens": 7,
        "output_tokens": 0,
        "outcome": "answered",
        "first_ms": None,
    }


async def test_embeddings_that_fail_have_their_rows():
    """The provider was asked, and may have worked."""
    async with Upstream() as upstream:
        upstream.reply(b'{"error": {"message": "no"}}', status=401)
        async with running(EMBEDDER.config(upstream.url)) as daemon:
            assert (await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": "x"})).status == 502
    assert [(row["outcome"], row["provider"]) for row in rows()] == [("failed", EMBEDDER.name)]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_what_no_model_is_asked_has_no_row(stream):
    """Lists, loading, counting, mistakes, and models that are not there."""
    async with bridge(WIRES[0]) as (daemon, _):
        for method, path, body, status in (
            ("GET", "/api/tags", None, 200),
            ("POST", "/api/show", {"model": "m"}, 200),
            ("POST", "/api/chat", {"model": "m", "messages": []}, 200),
            ("POST", "/api/generate", {"model": "m"}, 200),
            ("POST", "/api/chat", {"model": "nobody", **CHAT, "stream": stream}, 404),
            ("POST", "/api/chat", {"model": "m", "messages": 7, "stream": stream}, 400),
            ("POST", "/v1/messages/count_tokens", {"model": "m", **CHAT}, 200),
        ):
            assert (await ask(daemon.url, method, path, body)).status == status
    assert not ledger_path().exists()


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_provider_that_fails_has_its_row(stream):
    """With its status, or in the middle of its answer: which the log tells too, since the status no longer does."""
    wire = WIRES[2]
    half = {"body": wire.stream(ANSWER)[: len(wire.stream(ANSWER)) // 2], "then": "cut"}
    question = {"model": "m", **CHAT, "stream": stream}
    with capture_logs() as logged:
        async with bridge(wire, {"body": b"{}", "status": 500}, half) as (daemon, _):
            assert (await ask(daemon.url, "POST", "/api/chat", question)).status == 502
            assert (await ask(daemon.url, "POST", "/api/chat", question)).status == (200 if stream else 502)
    assert [line["outcome"] for line in logged if line["event"] == "request"] == ["failed", "failed"]
    whole, cut = rows()
    assert part(whole, "outcome", "first_ms", "provider") == {
        "outcome": "failed",
        "first_ms": None,
        "provider": wire.key,
    }
    assert (cut["outcome"], cut["first_ms"] is not None) == (
        "failed",
        stream,
    )  # who does not stream saw nothing


async def test_a_limit_of_ours_has_its_row():
    """The client reads 429; nobody was asked, and nothing was paid."""
    async with bridge(WIRES[0], limits={"address": {"requests_per_minute": 1}}) as (daemon, _):
        for status in (200, 429):
            assert (await ask(daemon.url, "POST", "/api/chat", {"model": "m", **CHAT})).status == status
    _, row = rows()
    assert part(row, "outcome", "asked", "model", "provider", "cost_nusd") == {
        "outcome": "limited",
        "asked": "m:latest",
        "model": "m:latest",
        "provider": WIRES[0].key,  # who would have been asked
        "cost_nusd": 0,
    }


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("when", ["before the first token", "after the first token"])
async def test_a_client_that_leaves_has_its_row(stream, when):
    """Once, as one who left."""
    wire = WIRES[0]
    body = wire.stream(ANSWER)
    pieces = [] if when.startswith("before") else [body[: len(body) // 2]]
    async with bridge(wire, {"body": pieces, "then": "stall"}) as (daemon, upstream), asyncio.timeout(20):
        with capture_logs() as logged:
            reader, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", {"model": "m", **CHAT, "stream": stream}))
            await upstream.asked.wait()
            if stream and pieces:
                await reader.readuntil(b'"done":false}')
            writer.close()
            await upstream.closed_early.wait()
            while not any(line["event"] == "request" for line in logged):  # noqa: ASYNC110 - nothing to wait for
                await asyncio.sleep(0.01)
    (row,) = rows()
    assert row["outcome"] == "left"
    if not pieces:
        assert row["first_ms"] is None
    elif stream:
        assert row["first_ms"] > 0
        assert row["input_tokens"] == 11, "which the provider had said by then"
        assert row["is_estimated"] == 1
    assert [line["outcome"] for line in logged if line["event"] == "request"] == ["left"]


async def test_what_ends_with_the_daemon_has_its_row():
    """Who is still being answered when the time to stop is over is in the ledger before the process ends."""
    wire = WIRES[0]
    async with bridge(
        wire, {"body": [wire.stream(ANSWER)[:900]], "then": "stall"}, server={"port": 0, "drain_s": 0.05}
    ) as (daemon, _):
        reader, writer = await connect(daemon.url)
        writer.write(request(daemon.url, "POST", "/api/chat", {"model": "m", **CHAT}))
        await reader.readuntil(b'"done":false}')
    writer.close()
    assert [row["outcome"] for row in rows()] == ["left"]


@pytest.mark.parametrize(
    ("extra", "headers", "key", "client"),
    [
        ({}, {}, "", "127.0.0.1"),
        ({}, {"Authorization": "Bearer "}, "", "127.0.0.1"),
        ({}, {"Authorization": f"Bearer {OTHER}"}, SHORT[OTHER], SHORT[OTHER]),
        ({"server": {"port": 0, "api_keys": [KEY]}}, {"x-api-key": KEY}, SHORT[KEY], SHORT[KEY]),
        ({"clients": {"laptop": KEY}}, {"Authorization": f"Bearer {KEY}"}, SHORT[KEY], "laptop"),
        (
            {"clients": {"laptop": KEY, "ci": OTHER}},
            {"Authorization": "Bearer whatever", "api-key": OTHER},
            SHORT[OTHER],
            "ci",
        ),
        (
            {"clients": {"ci": KEY}, "server": {"port": 0, "api_keys": [KEY]}},
            {"api-key": KEY},
            SHORT[KEY],
            "ci",
        ),
    ],
)
async def test_a_client_is_known_by_its_name_its_key_or_its_address(extra, headers, key, client):
    """In this order; a name is the operator's word for a key."""
    async with bridge(WIRES[0], **extra) as (daemon, _):
        assert (await ask(daemon.url, "POST", "/api/chat", {"model": "m", **CHAT}, headers)).status == 200
    assert [part(row, "key", "client") for row in rows()] == [{"key": key, "client": client}]


async def test_keys_of_clients_are_demanded_like_any_others():
    """Who brings none is not let in, and not in the ledger."""
    async with bridge(WIRES[0], clients={"laptop": KEY}) as (daemon, _):
        for headers in ({}, {"Authorization": f"Bearer {OTHER}"}):
            assert (await ask(daemon.url, "POST", "/api/chat", {"model": "m", **CHAT}, headers)).status == 401
        assert (await ask(daemon.url, "GET", "/")).status == 200
    assert not ledger_path().exists()


async def test_no_word_of_a_conversation_and_no_key_is_in_the_file():
    """Nor in what SQLite keeps beside it."""
    async with bridge(WIRES[0], clients={"laptop": KEY}) as (daemon, _):
        for path, body in SURFACES.items():
            question = {"model": "m", **body}
            assert (await ask(daemon.url, "POST", path, question, {"x-api-key": KEY})).status == 200
    assert len(rows()) == len(SURFACES)
    for file in ledger_path().parent.glob("ledger*"):
        written = file.read_bytes()
        for secret in (SECRET, ANSWER.text, "secret", KEY, KEY[:10], "k-test"):
            assert secret.encode() not in written


async def test_a_daemon_that_keeps_no_ledger_makes_no_file():
    """The operator said so."""
    async with bridge(WIRES[0], ledger={"keep": False}) as (daemon, _):
        assert (await ask(daemon.url, "POST", "/api/chat", {"model": "m", **CHAT})).status == 200
    assert not ledger_path().exists()


async def test_a_reload_obeys_what_changed_and_loses_no_row(tmp_path):
    """It is turned off, on, and given other limits, while it is asked."""
    watched = tmp_path / "watched"
    states = [{"keep": True}, {"keep": False}, {"max_days": 3.0}, {"max_days": 3.0, "max_mb": 1}]
    async with Upstream() as upstream:
        upstream.reply(WIRES[0].stream(ANSWER))

        def load():
            return Config.model_validate(WIRES[0].config(upstream.url, ledger=states[0]))

        async with running(load=load, watched=[watched]) as daemon:
            for number in range(len(states)):
                gateway = daemon._gateway
                for _ in range(3):
                    await ask(daemon.url, "POST", "/api/chat", {"model": "m", **CHAT})
                if states.pop(0) and states:
                    watched.write_text(str(number))
                    async with asyncio.timeout(10):
                        while daemon._gateway is gateway:  # noqa: ASYNC110 - nothing to wait for
                            await asyncio.sleep(0.01)
    assert len(rows()) == 9


async def test_a_reload_that_changes_something_else_goes_on_with_the_same_ledger(tmp_path):
    """Its file stays open."""
    watched = tmp_path / "watched"
    levels = ["info", "error"]

    def load():
        return Config.model_validate(
            {"server": {"port": 0}, "providers": {"demo": {}}, "log_level": levels[-1]}
        )

    async with running(load=load, watched=[watched]) as daemon:
        before = daemon._gateway
        levels.pop()
        watched.write_text("")
        async with asyncio.timeout(10):
            while daemon._gateway is before:  # noqa: ASYNC110 - nothing to wait for
                await asyncio.sleep(0.01)
        assert daemon._gateway.shared.ledger is before.shared.ledger is not None


async def test_two_clients_with_one_key_are_a_mistake():
    """Nobody could tell them apart; and the message shows no key."""
    with pytest.raises(ValueError, match="clients 'a' and 'b' have the same key") as raised:
        Config.model_validate({"clients": {"a": KEY, "b": KEY}})
    assert KEY not in str(raised.value)
