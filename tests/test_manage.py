"""The management routes over real sockets: the bytes that a real server answers with, and its errors."""

import asyncio
import re

import pytest

from ollama_bridge.config import Config
from running import answer, ask, connect, managed, request, running

FILE = """\
# mine
providers: {demo: {}}
models:
  - {name: one, backend: demo, aliases: [uno]}   # the first
  - {name: hidden, backend: demo, enabled: false}
  - {name: demo, backend: demo, enabled: false}
"""
NDJSON = "application/x-ndjson"
JSON = "application/json"
UTF8 = "application/json; charset=utf-8"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config.yaml"


async def names(url):
    return [
        model["name"].removesuffix(":latest") for model in (await ask(url, "GET", "/api/tags")).json["models"]
    ]


async def test_the_progress_of_a_pull(path):
    """The lines of a real server's, in its order, for a model that is here already; and in one object its last."""
    async with managed(path, FILE) as daemon:
        streamed = await ask(daemon.url, "POST", "/api/pull", {"name": "one", "model": "", "username": ""})
        whole = await ask(daemon.url, "POST", "/api/pull", {"model": "one", "stream": False})
    assert (streamed.status, streamed.headers["Content-Type"]) == (200, NDJSON)
    assert streamed.headers["Transfer-Encoding"] == "chunked"
    assert re.fullmatch(
        rb'\{"status":"pulling manifest"\}\n'
        rb'\{"status":"pulling ([0-9a-f]{12})","digest":"sha256:\1[0-9a-f]{52}","total":(\d+),"completed":\2\}\n'
        rb'\{"status":"verifying sha256 digest"\}\n'
        rb'\{"status":"writing manifest"\}\n'
        rb'\{"status":"success"\}\n',
        streamed.body,
    )
    assert (whole.status, whole.headers["Content-Type"], whole.body) == (200, JSON, b'{"status":"success"}')
    assert path.read_text() == FILE


async def test_a_pull_of_what_is_not_there(path):
    """The command line compares the text, which comes in a stream of status 200."""
    async with managed(path, FILE) as daemon:
        streamed = await ask(daemon.url, "POST", "/api/pull", {"model": "llama3.2"})
        whole = await ask(daemon.url, "POST", "/api/pull", {"model": "llama3.2", "stream": False})
    assert (streamed.status, streamed.headers["Content-Type"]) == (200, NDJSON)
    assert streamed.body == (
        b'{"status":"pulling manifest"}\n{"error":"pull model manifest: file does not exist"}\n'
    )
    assert (whole.status, whole.headers["Content-Type"]) == (500, JSON)
    assert whole.body == b'{"error":"pull model manifest: file does not exist"}'
    assert path.read_text() == FILE


async def test_the_progress_of_a_push(path):
    """A model that is here cannot be pushed anywhere, and one that is not is told as a real server tells it."""
    async with managed(path, FILE) as daemon:
        here = await ask(daemon.url, "POST", "/api/push", {"model": "one"})
        gone = await ask(daemon.url, "POST", "/api/push", {"model": "nope"})
        whole = await ask(daemon.url, "POST", "/api/push", {"model": "one", "stream": False})
    assert here.lines[0] == {"status": "retrieving manifest"}
    assert "there is nowhere to push 'one' to" in here.lines[1]["error"]
    assert gone.body == (
        b'{"status":"retrieving manifest"}\n{"status":"couldn\'t retrieve manifest"}\n'
        b'{"error":"open manifests/registry.ollama.ai/library/nope/latest: no such file or directory"}\n'
    )
    assert (whole.status, whole.headers["Content-Type"], list(whole.json)) == (500, JSON, ["error"])


async def test_the_progress_of_a_create(path):
    """A layer that was there, one for each thing that is new, and success; the model is there when it is told."""
    made = {"model": "mario", "from": "one", "system": "You are Mario.", "parameters": {"temperature": 0.5}}
    async with managed(path, FILE) as daemon:
        streamed = await ask(daemon.url, "POST", "/api/create", made)
        listed = await names(daemon.url)
        whole = await ask(daemon.url, "POST", "/api/create", {**made, "stream": False})
    assert re.fullmatch(
        rb'\{"status":"using existing layer sha256:[0-9a-f]{64}"\}\n'
        rb'(\{"status":"creating new layer sha256:[0-9a-f]{64}"\}\n){2}'
        rb'\{"status":"writing manifest"\}\n\{"status":"success"\}\n',
        streamed.body,
    )
    assert streamed.headers["Content-Type"] == NDJSON
    assert listed == ["one", "mario"]
    assert (whole.headers["Content-Type"], whole.body) == (JSON, b'{"status":"success"}')


async def test_copies_and_deletions_are_answered_with_nothing(path):
    """200, no body, no Content-Type; and the list has changed by then."""
    async with managed(path, FILE) as daemon:
        copied = await ask(daemon.url, "POST", "/api/copy", {"source": "one", "destination": "MyNs/Two:v1"})
        after_copy = await names(daemon.url)
        deleted = await ask(daemon.url, "DELETE", "/api/delete", {"model": "", "name": "myns/two:V1"})
        after_delete = await names(daemon.url)
    for got in (copied, deleted):
        assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "0")
        assert "Content-Type" not in got.headers
    assert (after_copy, after_delete) == (["one", "MyNs/Two:v1"], ["one"])
    assert path.read_text() == FILE


REFUSED = [
    ("POST", "/api/pull", b"", 400, "missing request body"),
    ("POST", "/api/pull", b"[]", 400, "json: cannot unmarshal array into Go value of type api.PullRequest"),
    ("POST", "/api/pull", {}, 400, "invalid model name"),
    ("POST", "/api/pull", {"name": "a b"}, 400, "invalid model name"),
    ("POST", "/api/pull", {"name": "x:cloud:local"}, 400, 'use either :local or :cloud, not both: "x:cloud:local"'),
    ("POST", "/api/pull", {"model": 5}, 400, "json: cannot unmarshal number into Go struct field PullRequest.model of type string"),
    ("POST", "/api/push", {}, 400, "model is required"),
    ("POST", "/api/push", b"{", 400, "unexpected EOF"),
    ("DELETE", "/api/delete", {}, 400, "model is required"),
    ("DELETE", "/api/delete", b"", 400, "missing request body"),
    ("DELETE", "/api/delete", {"name": "a b"}, 400, 'name "a b" is invalid'),
    ("DELETE", "/api/delete", {"model": "nope"}, 404, "model 'nope' not found"),
    ("DELETE", "/api/delete", {"model": "hidden"}, 404, "model 'hidden' not found"),
    ("POST", "/api/copy", {}, 400, 'source "" is invalid'),
    ("POST", "/api/copy", {"source": "a b", "destination": "x"}, 400, 'source "a b" is invalid'),
    ("POST", "/api/copy", {"source": "one", "destination": "a b"}, 400, 'destination "a b" is invalid'),
    ("POST", "/api/copy", {"source": "nope", "destination": "x"}, 404, 'model "nope" not found'),
    ("POST", "/api/copy", {"source": "one", "destination": "x:cloud"}, 400, "'x:cloud' is a name of ollama.com's cloud"),
    ("POST", "/api/copy", {"source": "one", "destination": "uno"}, 400, "'uno' is an alias of model 'one'"),
    ("POST", "/api/copy", {"source": "uno", "destination": "demo"}, 200, ""),
    ("POST", "/api/create", {}, 400, "invalid model name"),
    ("POST", "/api/create", {"name": "a b", "from": "one"}, 400, "invalid model name"),
    ("POST", "/api/create", {"name": "x"}, 400, "neither 'from' or 'files' was specified"),
    ("POST", "/api/create", {"name": "x:8b-cloud", "from": "one"}, 400, "'x:8b-cloud' is a name of ollama.com's cloud"),
    ("POST", "/api/create", {"name": "x", "from": "y:cloud"}, 400, "'y:cloud' is a name of ollama.com's cloud"),
    ("POST", "/api/create", {"name": "x", "files": {"a.gguf": "sha256:" + 64 * "0"}}, 400, "no model can be made from files here"),
    ("POST", "/api/create", {"name": "x", "from": "one", "adapters": {"a": "b"}}, 400, "no model can be made from files here"),
    ("POST", "/api/create", {"name": "x", "from": "one", "quantize": "q4_0"}, 400, "'quantize' means nothing here"),
    ("POST", "/api/create", {"name": "x", "from": "./a.gguf"}, 400, "is no model name; files cannot be used here"),
    ("POST", "/api/create", {"name": "x", "from": "onne"}, 404, "model 'onne' not found; did you mean 'one'?"),
    ("POST", "/api/create", {"name": "x", "from": "one", "template": "{{ .Prompt"}, 400, "template error: template: :1: unclosed action"),
    ("POST", "/api/create", {"name": "x", "from": "one", "parameters": {"num_ctx": "8"}}, 400, 'option "num_ctx" must be of type integer'),
    ("POST", "/api/create", b'{"name": "x", "from": "one", "parameters": {"a": 1e999}}', 400, "hold a number that is too large"),
    ("POST", "/api/create", {"name": "x", "from": "one", "parameters": {"a" * 101: 1}}, 400, "longer than 100 characters"),
    ("POST", "/api/create", {"name": "x", "from": "one", "system": "s" * 300_000}, 413, "longer than 131072 bytes"),
    ("POST", "/api/create", {"name": "one", "from": "demo"}, 400, "model 'one' is not one that was made here"),
    ("POST", "/api/create", {"name": "x", "from": "one", "messages": [5]}, 400, "json: cannot unmarshal number into Go struct field CreateRequest.messages of type api.Alias"),
    ("POST", "/api/experimental/web_search", b"", 400, "missing request body"),
    ("POST", "/api/experimental/web_search", {"query": "q"}, 503, "web search and web fetch are services of ollama.com"),
    ("POST", "/api/experimental/web_fetch", {"url": "u"}, 503, "which this bridge does not reach"),
    ("POST", "/api/me", b"", 503, "account unavailable: ollama-bridge has none at ollama.com, and needs none"),
    ("POST", "/api/signout", b"", 401, "you are not currently signed in"),
    ("DELETE", "/api/user/keys/abc", b"", 401, "you are not currently signed in"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "where", "body", "status", "words"), REFUSED)
async def test_what_is_refused_changes_nothing(path, method, where, body, status, words):
    """With the status and, where a real server has them, its very words."""
    async with managed(path, FILE) as daemon:
        got = await ask(daemon.url, method, where, body)
        listed = await names(daemon.url)
    assert got.status == status
    if status == 200:
        assert listed == ["one", "demo"]
        return
    assert words in got.json["error"]
    assert "signin_url" not in got.json
    assert got.headers["Content-Type"] in {UTF8, JSON}
    assert listed == ["one"]
    assert path.read_text() == FILE


@pytest.mark.parametrize(
    ("method", "where", "allow"),
    [
        ("GET", "/api/pull", "POST"),
        ("POST", "/api/delete", "DELETE"),
        ("GET", "/api/me", "POST"),
        ("HEAD", "/api/status", "GET"),
        ("GET", f"/api/blobs/sha256:{64 * '0'}", "HEAD, POST"),
    ],
)
async def test_wrong_methods_are_told_the_right_ones(path, method, where, allow):
    """As gin does."""
    async with managed(path, FILE) as daemon:
        got = await ask(daemon.url, method, where)
    assert (got.status, got.headers["Allow"]) == (405, allow)


async def test_what_is_told_about_ollama_com(path):
    """Nothing of it is used, and the models that it recommends are the bridge's own."""
    async with managed(path, FILE) as daemon:
        status = await ask(daemon.url, "GET", "/api/status")
        recommended = await ask(daemon.url, "GET", "/api/experimental/model-recommendations")
    assert status.body.startswith(b'{"cloud":{"disabled":true,"source":"config"},"providers":[')
    assert status.headers["Content-Type"] == recommended.headers["Content-Type"] == UTF8
    assert recommended.body == (
        b'{"recommendations":[{"model":"one","description":"one","context_length":32768,"max_output_tokens":4096}]}'
    )


async def test_a_cloud_name_is_refused_in_the_stream_of_a_pull(path):
    """And not with the text upon which the command line asks for the same name with `:cloud`."""
    async with managed(path, FILE) as daemon:
        got = await ask(daemon.url, "POST", "/api/pull", {"model": "gpt-oss:120b-cloud"})
    assert got.lines[0] == {"status": "pulling manifest"}
    assert "ollama.com's cloud, which this bridge does not reach" in got.lines[1]["error"]


async def test_without_a_file_nothing_can_be_changed():
    """As when a program of one's own serves a configuration made in Python."""
    config = Config.model_validate({"server": {"port": 0}, "providers": {"demo": {}}, "models": [{"name": "one", "backend": "demo"}]})  # fmt: skip
    async with running(config) as daemon:
        got = await ask(daemon.url, "DELETE", "/api/delete", {"model": "one"})
        made = await ask(daemon.url, "POST", "/api/create", {"model": "x", "from": "one"})
        pulled = await ask(daemon.url, "POST", "/api/pull", {"model": "one"})
        listed = await names(daemon.url)
    assert (got.status, made.status) == (501, 501)
    assert "has no configuration file" in got.json["error"]
    assert pulled.lines[-1] == {"status": "success"}
    assert listed == ["one"]


async def test_a_file_that_cannot_be_written_is_said(path, monkeypatch):
    """A full disk, and everything else that the system says: nothing has changed."""
    from ollama_bridge.config import edit

    def full(*_):
        raise OSError(28, "No space left on device")

    async with managed(path, FILE) as daemon:
        monkeypatch.setattr(edit.os, "fsync", full)
        deleted = await ask(daemon.url, "DELETE", "/api/delete", {"model": "one"})
        made = await ask(daemon.url, "POST", "/api/create", {"model": "x", "from": "one"})
        pulled = await ask(daemon.url, "POST", "/api/pull", {"model": "hidden"})
        listed = await names(daemon.url)
    words = f"{path}: cannot be written: No space left on device; nothing was changed"
    assert (deleted.status, deleted.json) == (500, {"error": words})
    assert (made.status, made.json) == (500, {"error": words})
    assert (pulled.status, pulled.lines[-1]) == (200, {"error": words})
    assert listed == ["one"]
    assert path.read_text() == FILE
    assert [one.name for one in path.parent.iterdir() if one.name.endswith(".tmp")] == []


NEEDED = """\
budgets: {all: {daily: 5, instead: cheap}}
models:
  - {name: base, backend: demo, aliases: [ally]}
  - {name: one, backend: demo, fallbacks: [own, ALLY], budget: {daily: 1, instead: dear}}
  - {name: own, from: base}
  - {name: cheap, from: base}
  - {name: dear, from: base}
  - {name: demo, backend: demo, enabled: false}
"""


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("own", "'fallbacks' of model 'one'"),
        ("ally", "'fallbacks' of model 'one'"),
        ("dear", "'budget.instead' of model 'one'"),
        ("cheap", "'budgets.all.instead'"),
    ],
)
async def test_what_others_count_on_is_not_removed(path, name, by):
    """400, who names it, and what to do; the file is as it was."""
    async with managed(path, NEEDED) as daemon:
        got = await ask(daemon.url, "DELETE", "/api/delete", {"model": name})
        listed = await names(daemon.url)
    words = f"'{name}' is still needed, and stays: it is named by {by}; take it out there first"
    assert (got.status, got.json) == (400, {"error": words})
    assert {"own", "cheap", "dear"} <= set(listed)
    assert path.read_text() == NEEDED


async def test_what_others_count_on_may_be_hidden(path):
    """It is passed over from then on."""
    async with managed(path, NEEDED) as daemon:
        got = await ask(daemon.url, "DELETE", "/api/delete", {"model": "base"})
        asked = await ask(
            daemon.url, "POST", "/api/generate", {"model": "one", "prompt": "x", "stream": False}
        )
    assert (got.status, asked.status) == (200, 200)


async def test_a_model_that_would_be_paid_for_by_itself_is_not_made(path):
    """What a client asks for, and the configuration does not allow, is the client's fault."""
    async with managed(path, NEEDED) as daemon:
        got = await ask(daemon.url, "POST", "/api/create", {"model": "dear", "from": "one"})
    assert got.status == 400
    assert "what answers instead leads back to it" in got.json["error"]
    assert path.read_text() == NEEDED


async def test_a_broken_file_is_not_changed(path):
    """An editor has just saved half of it: what is served stays, and the verb says why it did nothing."""
    async with managed(path, FILE) as daemon:
        path.write_text("models: [")
        got = await ask(daemon.url, "DELETE", "/api/delete", {"model": "one"})
        listed = await names(daemon.url)
    assert got.status == 500
    assert "not valid YAML" in got.json["error"]
    assert listed == ["one"]
    assert path.read_text() == "models: ["


async def test_verbs_at_the_same_moment_lose_nothing(path):
    """Twenty clients make models, copy, hide and pull at once: each finds its own done."""
    async with managed(path, FILE) as daemon:
        made = [
            ask(
                daemon.url,
                "POST",
                "/api/create",
                {"model": f"m{number}", "from": "one", "system": f"s{number}"},
            )
            for number in range(10)
        ]
        copied = [
            ask(daemon.url, "POST", "/api/copy", {"source": "one", "destination": f"c{number}"})
            for number in range(8)
        ]
        pulled = [ask(daemon.url, "POST", "/api/pull", {"model": "hidden"}) for _ in range(2)]
        got = await asyncio.gather(*made, *copied, *pulled)
        listed = await names(daemon.url)
        shown = [await ask(daemon.url, "POST", "/api/show", {"model": f"m{number}"}) for number in range(10)]
    assert [one.status for one in got] == [200] * 20
    assert set(listed) == {"one", "hidden", *(f"m{n}" for n in range(10)), *(f"c{n}" for n in range(8))}
    assert [one.json["system"] for one in shown] == [f"s{number}" for number in range(10)]
    assert path.read_text().startswith(FILE.partition("  - {name: hidden")[0])


async def test_a_client_that_leaves_does_not_undo_what_it_asked_for(path, monkeypatch):
    """The edit goes on without it, and is taken over."""
    from ollama_bridge.config import edit

    began, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    replace = edit.replace

    def slow(*args):
        asyncio.run_coroutine_threadsafe(_meet(began, go_on), loop).result()
        replace(*args)

    async with managed(path, FILE) as daemon:
        monkeypatch.setattr(edit, "replace", slow)
        _, writer = await connect(daemon.url)
        writer.write(request(daemon.url, "POST", "/api/copy", {"source": "one", "destination": "two"}))
        await began.wait()
        writer.close()
        await writer.wait_closed()
        monkeypatch.setattr(edit, "replace", replace)
        after = asyncio.create_task(
            ask(daemon.url, "POST", "/api/copy", {"source": "one", "destination": "three"})
        )
        await asyncio.sleep(0)
        go_on.set()
        assert (await after).status == 200
        assert await names(daemon.url) == ["one", "two", "three"]


async def _meet(began, go_on):
    began.set()
    await go_on.wait()


async def test_the_sequence_of_ollama_rm(path):
    """Show, unload, delete, as the command line sends them; afterwards the model is neither listed nor in use."""
    async with managed(path, FILE) as daemon:
        shown = await ask(daemon.url, "POST", "/api/show", {"model": "one", "name": "", "verbose": False})
        await ask(daemon.url, "POST", "/api/generate", {"model": "one", "prompt": "hi"})
        unload = {
            "model": "one",
            "prompt": "",
            "suffix": "",
            "system": "",
            "template": "",
            "keep_alive": "0s",
        }
        unloaded = await ask(daemon.url, "POST", "/api/generate", {**unload, "options": None})
        await ask(daemon.url, "POST", "/api/generate", {"model": "one", "prompt": "hi"})
        deleted = await ask(daemon.url, "DELETE", "/api/delete", {"model": "", "name": "one"})
        after = await ask(daemon.url, "POST", "/api/show", {"model": "one"})
        used = await ask(daemon.url, "GET", "/api/ps")
        again = await ask(daemon.url, "POST", "/api/pull", {"model": "one"})
        used_again = await ask(daemon.url, "GET", "/api/ps")
    assert (shown.status, deleted.status, after.status) == (200, 200, 404)
    assert unloaded.json["done_reason"] == "unload"
    assert used.body == used_again.body == b'{"models":[]}'
    assert again.lines[-1] == {"status": "success"}


async def test_one_connection_serves_many_verbs(path):
    """Whatever the answer's framing, the next request on the connection is understood."""
    async with managed(path, FILE) as daemon:
        reader, writer = await connect(daemon.url)
        for method, where, body, status in (
            ("POST", "/api/pull", {"model": "one"}, 200),
            ("POST", "/api/copy", {"source": "one", "destination": "two"}, 200),
            ("DELETE", "/api/delete", {"model": "two"}, 200),
            ("POST", "/api/me", None, 503),
            ("POST", "/api/create", {"model": "x"}, 400),
        ):
            writer.write(request(daemon.url, method, where, body))
            assert (await answer(reader)).status == status
        writer.close()
