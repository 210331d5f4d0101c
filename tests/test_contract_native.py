"""What the native surface takes and how it says it: `ollama-api.md` §1 to §3 over real sockets, where no other test
of the wire has it already (`contract.py` says which do)."""

import json
from datetime import UTC, datetime, timedelta

import pytest

import gostrict
from contract_asking import ENDPOINTS, HI, NATIVE_JSON, TOOL, configured
from golden_runner import chunk
from ollama_bridge.config import Config
from running import ask, running
from upstream import Upstream, sse
from wires import WIRES, Said

NATIVE = [endpoint for endpoint in ENDPOINTS if not endpoint.v1]
CALLS = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
}
MESSAGES = {
    "an unknown role": [{"role": "narrator", "content": "x"}],
    "a role in capitals": [{"role": "USER", "content": "x"}],
    "developer": [{"role": "developer", "content": "x"}, *HI],
    "no role": [{"content": "x"}],
    "no content": [{"role": "user"}],
    "a null content": [{"role": "user", "content": None}],
    "a null message": [None, *HI],
    "unknown keys": [{"role": "user", "content": "x", "name": "n", "refusal": None}],
    "a result without a name": [*HI, CALLS, {"role": "tool", "content": "r"}],
    "a result with a name": [*HI, CALLS, {"role": "tool", "content": "r", "tool_name": "f"}],
    "a result with an id": [*HI, CALLS, {"role": "tool", "content": "r", "tool_call_id": "zz"}],
    "a result of nothing": [{"role": "tool", "content": "r"}],
    "an empty image list": [{"role": "user", "content": "x", "images": []}],
    "no image that is known": [{"role": "user", "content": "x", "images": ["AAAA"]}],
    "an image with line breaks": [{"role": "user", "content": "x", "images": ["iVBO\r\nRw0K\nGgo="]}],
}


@pytest.mark.parametrize("messages", MESSAGES.values(), ids=MESSAGES.keys())
async def test_messages_are_taken_as_they_come(messages):
    """Roles are not checked, contents may lack, nothing about a result is demanded (§1.8, §3.7; §9, 31)."""
    async with running(configured()) as daemon:
        got = await ask(daemon.url, "POST", "/api/chat", {"model": "plain", "messages": messages})
    assert gostrict.read(got)[-1]["done_reason"] == "stop"


TOOLS = {
    "none": [],
    "unknown keywords": [
        {
            "type": "function",
            "function": {
                "name": "f",
                "strict": True,
                "parameters": {
                    "type": "object",
                    "additionalProperties": False,
                    "$defs": {"d": {"type": "string"}},
                    "properties": {
                        "a": {"$ref": "#/$defs/d", "default": 1},
                        "b": {"type": ["string", "null"]},
                    },
                },
            },
        }
    ],
    "no parameters": [{"type": "function", "function": {"name": "f"}}],
    "no type": [{"function": TOOL["function"]}],
    "no function": [{"type": "web_search"}],
    "one thousand": [
        {**TOOL, "function": {**TOOL["function"], "name": f"f{number}"}} for number in range(1000)
    ],
}


@pytest.mark.parametrize("tools", TOOLS.values(), ids=TOOLS.keys())
async def test_tools_are_taken_as_they_come(tools):
    """A schema may hold more than Ollama's struct knows; some clients list tools that are no functions (§1.8)."""
    async with running(configured()) as daemon:
        got = await ask(daemon.url, "POST", "/api/chat", {"model": "jinja", "messages": HI, "tools": tools})
    assert gostrict.read(got)[-1]["done_reason"] == "stop"


async def test_a_call_says_what_it_says_natively():
    """No `type`, an index, an id, an object in the order it came in, `{}` for none, `""` beside it, `stop` at the end
    (§1.8, §2.3; §9, 14 to 18)."""
    calls = (("f", {"z": 1, "a": {"y": [], "b": None}}), ("g", {}))
    async with Upstream() as upstream:
        upstream.reply(WIRES[0].stream(Said(calls=calls)))
        async with running(Config.model_validate(WIRES[0].config(upstream.url))) as daemon:
            body = {"model": "m", "messages": HI, "tools": [TOOL], "stream": False}
            (reply,) = gostrict.read(await ask(daemon.url, "POST", "/api/chat", body))
    assert (reply["message"]["content"], reply["done_reason"]) == ("", "stop")
    for index, (call, (name, arguments)) in enumerate(
        zip(reply["message"]["tool_calls"], calls, strict=True)
    ):
        assert list(call) == ["id", "function"]
        assert call["id"]
        assert list(call["function"]) == ["index", "name", "arguments"]
        assert (call["function"]["index"], call["function"]["name"]) == (index, name)
        assert json.dumps(call["function"]["arguments"]) == json.dumps(arguments)


async def test_text_is_escaped_as_go_does_and_otherwise_as_it_is():
    """Five characters for the sake of HTML, everything else in UTF-8 (§0.2; §9, 44)."""
    odd = '<b>&\u2028\u2029é你👩‍🚀\t"\\\x7f'
    async with Upstream() as upstream:
        upstream.reply(sse(json.dumps(chunk({"content": odd}, "stop")), done=True))
        config = WIRES[2].config(upstream.url)
        async with running(Config.model_validate(config)) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", {"model": "m", "messages": HI, "stream": False})
    assert got.json["message"]["content"] == odd
    escaped = rb'"content":"\u003cb\u003e\u0026\u2028\u2029' + "é你👩‍🚀".encode() + rb"\t\"\\" + b'\x7f"'
    assert escaped in got.body


KEPT = [
    ({}, timedelta(minutes=5)),
    ({"keep_alive": 3600}, timedelta(hours=1)),
    ({"keep_alive": 90.5}, timedelta(seconds=90.5)),
    ({"keep_alive": "1.5h"}, timedelta(hours=1.5)),
    ({"keep_alive": "10m0s"}, timedelta(minutes=10)),
    ({"keep_alive": -1}, timedelta(days=292 * 365)),
    ({"keep_alive": "-1m"}, timedelta(days=292 * 365)),
    ({"keep_alive": 1e300}, timedelta(days=292 * 365)),
]


@pytest.mark.parametrize(("fields", "kept"), KEPT, ids=[str(row[0]) for row in KEPT])
@pytest.mark.parametrize("endpoint", [one for one in NATIVE if one.path != "/api/show"], ids=str)
async def test_how_long_a_model_is_kept(endpoint, fields, kept):
    """`/api/ps` tells it, in a time with a zone; for ever is a date far away (§1.3, §3.2; §9, 27 and 65)."""
    async with running(configured()) as daemon:
        before = datetime.now(UTC)
        assert (await ask(daemon.url, "POST", endpoint.path, endpoint.body(**fields))).status == 200
        shown = await ask(daemon.url, "GET", "/api/ps")
        after = datetime.now(UTC)
    gostrict.read(shown)
    (model,) = shown.json["models"]
    until = datetime.fromisoformat(model["expires_at"][:19] + "+00:00")
    if kept > timedelta(days=36500):
        assert until.year > 2300
    else:
        assert before + kept - timedelta(seconds=1) <= until <= after + kept


@pytest.mark.parametrize("endpoint", [one for one in NATIVE if "embed" in one.path], ids=str)
async def test_embedding_nothing_loads(endpoint):
    """`[]` and no more keys (§1.9, §1.10, §3.1; §9, 62); a number is no text."""
    empty = {"/api/embed": b'{"model":"embed","embeddings":[]}', "/api/embeddings": b'{"embedding":[]}'}
    key = next(iter(endpoint.asks))
    async with running(configured()) as daemon:
        for fields in ({key: ""}, {key: None}, {"keep_alive": 5, key: ""}):
            got = await ask(daemon.url, "POST", endpoint.path, endpoint.body(**fields))
            assert (got.status, got.headers["Content-Type"]) == (200, NATIVE_JSON)
            assert got.body == empty[endpoint.path]
        got = await ask(daemon.url, "POST", endpoint.path, endpoint.body(**{key: 5}))
        assert got.status == 400


async def test_a_load_is_checked_and_an_unload_is_not():
    """Thinking, inserting and options of a load; an unload only needs a model (§3.1)."""
    async with running(configured()) as daemon:

        async def of(path, **fields):
            got = await ask(daemon.url, "POST", path, {"model": "plain", **fields})
            return got.status, got.json.get("done_reason") or got.json["error"]

        for path in ("/api/chat", "/api/generate"):
            assert await of(path) == (200, "load")
            assert await of(path, think=True) == (400, '"plain" does not support thinking')
            assert await of(path, options={"top_k": "x"}) == (500, 'option "top_k" must be of type integer')
            assert await of(path, format="xml") == (200, "load")
            for nothing in (0, "0s", 0.0):
                assert await of(path, keep_alive=nothing, think=True, options={"top_k": "x"}) == (
                    200,
                    "unload",
                )
            assert (await of(path, model="nope", keep_alive=0))[0] == 404
        assert (await of("/api/generate", suffix="s"))[0] == 400


async def test_no_stream_where_there_is_one_object():
    """Asked for or not (§2.1; §9, 2)."""
    async with running(configured()) as daemon:
        for path, fields in (
            ("/api/chat", {}),
            ("/api/generate", {"keep_alive": 0}),
            ("/api/chat", {"messages": HI, "_debug_render_only": True}),
            ("/api/show", {}),
        ):
            got = await ask(daemon.url, "POST", path, {"model": "plain", **fields, "stream": True})
            assert (got.headers["Content-Type"], got.body[-1:]) == (NATIVE_JSON, b"}")
            assert got.headers["Content-Length"] == str(len(got.body))


async def test_copilot_reads_the_name_that_it_asked_for():
    """In `general.basename`, as no other client does (§1.4; §9, 24)."""
    async with running(configured()) as daemon:
        names = [
            (
                await ask(daemon.url, "POST", "/api/show", {"model": "PLAIN:latest"}, {"User-Agent": agent})
            ).json["model_info"]["general.basename"]
            for agent in ("GitHubCopilotChat/0.30.1", "curl/8")
        ]
    assert names[0] == "PLAIN:latest"
    assert names[1] != "PLAIN:latest"


async def test_no_models_are_an_empty_list_natively_and_null_on_v1():
    """§1.2, §1.3, §7.4; §9, 55."""
    config = Config.model_validate(
        {
            "server": {"port": 0},
            "providers": {"demo": {}},
            "models": [{"name": "demo", "backend": "demo", "enabled": False}],
        }
    )
    async with running(config) as daemon:
        bodies = [
            (await ask(daemon.url, "GET", path)).body for path in ("/api/tags", "/api/ps", "/v1/models")
        ]
    assert bodies == [b'{"models":[]}', b'{"models":[]}', b'{"object":"list","data":null}\n']
