"""What a client sees when embedding fails: bad requests, and every fault of a provider, through every SDK."""

import asyncio
import base64
import json
import math
import socket
import struct

import pytest

from embedders import JSON, KEY, TRANSLATED, VENDOR, embedding
from ollama_bridge.config import Config
from running import ask, running
from upstream import Upstream

EACH = pytest.mark.parametrize("embedder", TRANSLATED, ids=lambda embedder: embedder.name)
ROUTES = pytest.mark.parametrize("route", ["/api/embed", "/api/embeddings", "/v1/embeddings"])
SECRET = "the-text-of-the-client"
BODIES = {
    "/api/embed": {"model": "e", "input": [SECRET]},
    "/api/embeddings": {"model": "e", "prompt": SECRET},
    "/v1/embeddings": {"model": "e", "input": [SECRET]},
}


def told(got):
    """The message, in either envelope."""
    error = got.json["error"]
    return error["message"] if isinstance(error, dict) else error


def refusal(status):
    body = {"error": {"code": status, "message": f"no {SECRET} with {KEY}", "status": "X"}}
    return {"body": json.dumps(body).encode(), "status": status}


PAGE = {"body": b"<html><h1>Welcome</h1></html>", "headers": {"content-type": "text/html"}}
FAULTS = [
    ("400", refusal(400), 400, "change the request"),
    ("401", refusal(401), 502, "the API key was refused"),
    ("404", refusal(404), 404, "check `backend_model`"),
    ("429", refusal(429), 429, "ask again"),
    ("500", refusal(500), 502, "ask again"),
    ("503", refusal(503), 503, "overloaded"),
    ("a page", PAGE, 502, "base_url"),
    (
        "an error in a 200",
        {"body": b'{"error":{"code":429,"message":"busy"}}', "headers": JSON},
        429,
        "ask again",
    ),
    ("nothing", {"body": b"", "headers": JSON}, 502, "base_url"),
    ("half", {"body": b'{"data":[{"emb', "headers": JSON, "then": "cut"}, 502, "cut off"),
    ("a list", {"body": b"[]", "headers": JSON}, 502, "ask again"),
    ("null", {"body": b"null", "headers": JSON}, 502, "ask again"),
    ("no embeddings", {"body": b"{}", "headers": JSON}, 502, "ask again"),
    ("none", {"body": b'{"data":[],"embeddings":[]}', "headers": JSON}, 502, "0 embeddings for 1 texts"),
    ("null ones", {"body": b'{"data":null,"embeddings":null}', "headers": JSON}, 502, "ask again"),
    ("texts", {"body": b'{"data":["x"],"embeddings":["x"]}', "headers": JSON}, 502, "ask again"),
]


@EACH
@ROUTES
@pytest.mark.parametrize(("script", "status", "remedy"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])  # fmt: skip
async def test_a_providers_failure_is_told_with_its_remedy(embedder, route, script, status, remedy, capsys):
    """The right status, in the dialect of the route; the log holds neither key nor text, and no traceback."""
    async with embedding(embedder) as (daemon, upstream):
        upstream.reply(**script)
        got = await ask(daemon.url, "POST", route, BODIES[route])
    assert got.status == status
    message = told(got)
    assert remedy in message
    assert embedder.name in message
    assert KEY not in message
    assert isinstance(got.json["error"], dict) == route.startswith("/v1")
    logged = capsys.readouterr()
    assert SECRET not in logged.out + logged.err
    assert KEY not in logged.out + logged.err
    assert "Traceback" not in logged.out + logged.err


def floats(*numbers):
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ([[1, 0]], "1 embeddings for 2 texts"),
        ([[1, 0]] * 3, "3 embeddings for 2 texts"),
        ([[1, 0], [1]], "not of one length"),
        ([[], []], "empty"),
        ([[1, "a"], [1, 0]], "no list of numbers"),
        ([[1, None], [1, 0]], "no list of numbers"),
        ([[1, [2]], [1, 0]], "no list of numbers"),
        ([None, [1, 0]], "no list of numbers"),
        ([5, [1, 0]], "no list of numbers"),
        (["???", [1, 0]], "no list of numbers"),
        (["AAAA", floats(1)], "no list of numbers"),
        ([floats(1, math.nan), floats(1, 0)], "NaN or Inf"),
        ([floats(1, math.inf), floats(1, 0)], "NaN or Inf"),
        ([[1e400, 0], [1, 0]], "malformed JSON|base_url"),
    ],
)
async def test_vectors_that_are_none_are_the_providers_fault(vectors, words):
    """502, and what is wrong with them; nothing of it reaches an index."""
    data = [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    body = json.dumps({"data": data}).replace("Infinity", "1e999").encode()
    async with embedding(VENDOR) as (daemon, upstream):
        upstream.reply(body, headers=JSON)
        got = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": ["a", "b"]})
    assert got.status == 502
    assert any(word in told(got) for word in words.split("|"))


async def test_vectors_whose_owner_is_unclear_are_refused():
    """Two say that they are the second's: better none than the wrong one."""
    data = [{"index": index, "embedding": [1, 0]} for index in (1, 1, 0)]
    async with embedding(VENDOR) as (daemon, upstream):
        upstream.reply(json.dumps({"data": data}).encode(), headers=JSON)
        got = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": ["a", "b", "c"]})
    assert got.status == 502


@EACH
async def test_one_part_that_fails_is_the_failure_of_all(embedder):
    """No client gets vectors for some of its texts; the calls that are still open are given up."""
    texts = ["x"] * (embedder.most * 2 + 1)
    async with embedding(embedder) as (daemon, upstream):
        upstream.reply(b"{", headers=JSON, then="stall")
        upstream.reply(**refusal(429), headers={**JSON, "retry-after": "7"})
        upstream.reply(b"{", headers=JSON, then="stall")
        got = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": texts})
        assert (got.status, got.headers["Retry-After"]) == (429, "7")
        await asyncio.wait_for(upstream.closed_early.wait(), 5)


async def test_a_provider_that_is_not_there_and_one_without_a_key():
    """Both are told with what to do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}"
        async with running(VENDOR.config(nowhere)) as daemon:
            refused = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": "x"})
    config = {
        "server": {"port": 0},
        "providers": {"openai": {}, "google": {}},
        "models": [
            {"name": name, "backend": name, "backend_model": "text-embedding-3-small"}
            for name in ("openai", "google")
        ],
    }
    async with running(Config.model_validate(config)) as daemon:
        keyless = [
            await ask(daemon.url, "POST", "/v1/embeddings", {"model": name, "input": "x"})
            for name in ("openai", "google")
        ]
    assert (refused.status, "connection refused" in told(refused)) == (502, True)
    assert [got.status for got in keyless] == [502, 502]
    assert ["OPENAI_API_KEY" in told(keyless[0]), "GEMINI_API_KEY" in told(keyless[1])] == [True, True]


async def test_a_provider_that_is_silent_is_given_up():
    """Within its own time limit, with 504."""
    config = VENDOR.config("http://x").model_dump()
    async with Upstream() as upstream:
        provider = {**VENDOR.provider, "base_url": upstream.url + VENDOR.base, "timeout_s": 0.2}
        config = {**config, "server": {"port": 0}, "providers": {"acme": provider}}
        async with running(Config.model_validate(config)) as daemon:
            upstream.reply(b"{", headers=JSON, then="stall")
            got = await ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": "x"})
            assert got.status == 504
            assert "silent for 0.2 s" in told(got)
            await asyncio.wait_for(upstream.closed_early.wait(), 5)


@ROUTES
async def test_models_that_do_not_embed_are_named(route):
    """Whether it is the model or all of its provider; the provider is not asked."""
    config = {
        "server": {"port": 0},
        "providers": {"anthropic": {"api_key": KEY}},
        "models": [
            {"name": "claude", "backend": "anthropic", "backend_model": "claude-opus-5-5"},
            {"name": "e", "backend": "anthropic", "capabilities": ["embedding"]},
        ],
    }
    async with running(Config.model_validate(config)) as daemon:
        chat_only = await ask(daemon.url, "POST", route, {**BODIES[route], "model": "claude"})
        no_embedder = await ask(daemon.url, "POST", route, BODIES[route])
        loads = await ask(daemon.url, "POST", "/api/embed", {"model": "claude"})
    assert chat_only.status == no_embedder.status == 400
    assert told(chat_only) == (
        '"claude" does not support embeddings: ask a model that is listed with the capability `embedding`'
    )
    assert told(no_embedder) == "anthropic has no embeddings: choose a model of another provider"
    assert loads.json == {"model": "claude", "embeddings": []}  # as Ollama, which asks for no capability here


NATIVE = [
    ("/api/embed", b"", 400, "missing request body"),
    ("/api/embed", b"{", 400, "unexpected EOF"),
    ("/api/embed", b"[]", 400, "json: cannot unmarshal array into Go value of type api.EmbedRequest"),
    (
        "/api/embeddings",
        b'"x"',
        400,
        "json: cannot unmarshal string into Go value of type api.EmbeddingRequest",
    ),
    (
        "/api/embed",
        b'{"model":5}',
        400,
        "json: cannot unmarshal number into Go struct field EmbedRequest.model of type string",
    ),
    (
        "/api/embed",
        b'{"dimensions":1.5}',
        400,
        "json: cannot unmarshal number 1.5 into Go struct field EmbedRequest.dimensions of type int",
    ),
    (
        "/api/embeddings",
        b'{"prompt":["x"]}',
        400,
        "json: cannot unmarshal array into Go struct field EmbeddingRequest.prompt of type string",
    ),
    ("/api/embed", b'{"model":"e","input":5}', 400, "invalid input type"),
    ("/api/embed", b'{"model":"e","input":true}', 400, "invalid input type"),
    ("/api/embed", b'{"model":"e","input":{}}', 400, "invalid input type"),
    ("/api/embed", b'{"model":"e","input":["a",null]}', 400, "invalid input type"),
    ("/api/embed", b'{"model":"e","input":["a",5]}', 400, "invalid input type"),
    ("/api/embed", b'{"model":"e","input":[[1,2]]}', 400, "invalid input type"),
    ("/api/embed", b'{"model":"nope","input":5}', 400, "invalid input type"),
    ("/api/embed", b'{"model":"e","keep_alive":"1d"}', 400, 'time: unknown unit "d" in duration "1d"'),
    (
        "/api/embed",
        b'{"model":"e","options":{"num_ctx":"x"}}',
        500,
        'option "num_ctx" must be of type integer',
    ),
    ("/api/embed", b'{"input":"x"}', 404, "model '' not found"),
    ("/api/embed", b'{"model":"nope","input":"x"}', 404, 'model "nope" not found, try pulling it first'),
    ("/api/embed", b'{"model":"a b","input":"x"}', 400, "invalid model name"),
    ("/api/embeddings", b'{"prompt":"x"}', 400, "model is required"),
    ("/api/embeddings", b'{"model":"no:pe"}', 404, 'model "no:pe" not found, try pulling it first'),
    ("/api/embeddings", b'{"model":"a b"}', 400, "invalid model name"),
]


@pytest.mark.parametrize(("route", "body", "status", "words"), NATIVE)
async def test_a_bad_request_is_answered_in_ollamas_words(route, body, status, words):
    """`ollama-api.md` §4; the provider is not asked."""
    async with embedding(VENDOR) as (daemon, upstream):
        got = await ask(daemon.url, "POST", route, body)
    assert (got.status, got.json) == (status, {"error": words})
    assert got.headers["Content-Type"] == "application/json; charset=utf-8"
    assert upstream.requests == []


CONVERTER, HANDLER = "application/json; charset=utf-8", "application/json"
DIALECT = [
    (b"", 400, CONVERTER, "EOF"),
    (b"[]", 400, CONVERTER, "json: cannot unmarshal array into Go value of type openai.EmbedRequest"),
    (b'{"model":"e"}', 400, CONVERTER, "invalid input"),
    (b'{"model":"e","input":[]}', 400, CONVERTER, "invalid input"),
    (
        b'{"model":"e","input":"x","encoding_format":"zz"}',
        400,
        CONVERTER,
        "Invalid value for 'encoding_format' = zz. Supported values: ['float', 'base64'].",
    ),
    (b'{"model":"e","input":[1,2]}', 400, HANDLER, "invalid input type"),
    (b'{"model":"e","input":5}', 400, HANDLER, "invalid input type"),
    (b'{"model":"nope","input":"x"}', 404, HANDLER, 'model "nope" not found, try pulling it first'),
    (b'{"input":"x"}', 404, HANDLER, "model '' not found"),
]


@pytest.mark.parametrize(("body", "status", "kind", "words"), DIALECT)
async def test_a_bad_request_is_answered_in_openais_envelope(body, status, kind, words):
    """`ollama-api.md` §7.0 and §7.3: what the converter finds has a charset, what the handler finds a line end."""
    async with embedding(VENDOR) as (daemon, upstream):
        got = await ask(daemon.url, "POST", "/v1/embeddings", body)
    sort = "not_found_error" if status == 404 else "invalid_request_error"
    assert (got.status, got.headers["Content-Type"]) == (status, kind)
    assert got.json == {"error": {"message": words, "type": sort, "param": None, "code": None}}
    assert got.body.endswith(b"\n") == (kind == HANDLER)
    assert upstream.requests == []
