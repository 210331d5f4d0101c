"""What clients change in a real Ollama behind the bridge: pulled, made, copied and deleted there, and at once here."""

import asyncio
import hashlib
import random

import pytest

from real_ollama import BRAND_NEW, JSON, NDJSON, RealOllama, behind, line
from running import answer, ask, connect, request

USER = [{"role": "user", "content": "?"}]
SAID = [line(message={"role": "assistant", "content": "Hi"}, done=True, done_reason="stop", eval_count=1)]
PROGRESS = [
    b'{"status":"pulling manifest"}\n',
    b'{"status":"pulling 7cd4618c1faf","digest":"sha256:7c","total":815310432}\n',
    b'{"status":"pulling 7cd4618c1faf","digest":"sha256:7c","total":815310432,"completed":5,"brand_new":[1.50]}\n',
    b'{"status":"verifying sha256 digest"}\n',
    b'{"status":"success"}\n',
]


async def names(url):
    return [model["name"] for model in (await ask(url, "GET", "/api/tags")).json["models"]]


@pytest.fixture
async def real():
    async with RealOllama("qwen3:4b", "plain:latest") as server:
        server.lines = PROGRESS
        yield server


@pytest.fixture
async def url(real, tmp_path):
    async with behind(real, tmp_path) as address:
        assert await names(address) == ["demo:latest", "qwen3:4b", "plain:latest"]
        yield address


# ----------------------------------------------------------------------------------------------------------- pulling


@pytest.mark.parametrize(
    ("asked", "sent"),
    [("new", "new"), ("hf.co/u/M-GGUF:Q4", "hf.co/u/M-GGUF:Q4"), ("ollama/new", "new"), ("plain", "plain"),
     ("OLLAMA/x/new:1b", "x/new:1b"), ("gpt-oss:120b-cloud", "gpt-oss:120b-cloud")],
)  # fmt: skip
async def test_a_pull_is_told_as_it_is_done(real, url, asked, sent):
    """Its progress line by line, to the byte; afterwards the model is listed, and answers."""
    got = await ask(url, "POST", "/api/pull", {"name": asked, "insecure": True, "brand_new": BRAND_NEW})
    assert (got.status, got.headers["Content-Type"]) == (200, NDJSON)
    assert got.body == b"".join(PROGRESS)
    assert real.questions("/api/pull")[0].json == {
        "model": sent,
        "insecure": True,
        "brand_new": BRAND_NEW,
    }
    full = sent if ":" in sent else f"{sent}:latest"
    assert full in await names(url)
    real.lines = SAID
    assert (await ask(url, "POST", "/api/chat", {"model": full, "messages": USER})).status == 200


async def test_a_pull_that_is_not_streamed(real, url):
    got = await ask(url, "POST", "/api/pull", {"model": "new", "stream": False})
    assert (got.status, got.headers["Content-Type"], got.body) == (
        200,
        "application/json",
        b'{"status":"success"}',
    )


async def test_progress_comes_while_it_is_made(real, url):
    """Each line when it is there; who runs the model meanwhile is told as that Ollama tells it."""
    real.hold = asyncio.Event()
    reader, writer = await connect(url)
    writer.write(request(url, "POST", "/api/pull", {"model": "new"}))
    await reader.readuntil(PROGRESS[0])
    missing = await ask(url, "POST", "/api/chat", {"model": "new", "messages": USER})
    assert missing.status == 404
    real.hold.set()
    await reader.readuntil(b"0\r\n\r\n")
    writer.close()
    real.lines, real.hold = SAID, None
    assert (await ask(url, "POST", "/api/chat", {"model": "new", "messages": USER})).status == 200


async def test_who_leaves_ends_a_pull(real, url):
    real.hold = asyncio.Event()
    reader, writer = await connect(url)
    writer.write(request(url, "POST", "/api/pull", {"model": "new"}))
    await reader.readuntil(PROGRESS[0])
    writer.close()
    await asyncio.wait_for(real.left.wait(), 10)
    assert "new:latest" not in real.models


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (200, NDJSON, PROGRESS[0] + b'{"error":"pull model manifest: file does not exist"}\n'),
        (500, "application/json", b'{"error":"pull model manifest: file does not exist"}'),
    ],
)
async def test_a_pull_of_what_is_nowhere(real, url, status, content_type, body):
    """The command line compares the text."""
    real.refusal = (status, content_type, body)
    got = await ask(url, "POST", "/api/pull", {"model": "nope"})
    assert (got.status, got.headers["Content-Type"], got.body) == (status, content_type, body)


async def test_the_bridges_own_are_pulled_here(real, tmp_path):
    """A hidden model of the configuration is shown again; one that is there as well is pulled there besides."""
    models = [
        {"name": "hidden", "backend": "demo", "enabled": False},
        {"name": "theirs", "backend": "ollama", "backend_model": "plain", "enabled": False},
    ]
    async with behind(real, tmp_path, models=models) as url:
        here = await ask(url, "POST", "/api/pull", {"model": "hidden"})
        assert not real.questions("/api/pull")
        there = await ask(url, "POST", "/api/pull", {"model": "theirs"})
        assert {"hidden:latest", "theirs:latest"} <= {*(await names(url))}
    assert here.lines[-1] == {"status": "success"}
    assert there.body == b"".join(PROGRESS)
    assert real.questions("/api/pull")[0].json == {"model": "plain"}


async def test_a_dead_one_says_so(real, url):
    await real.stop()
    got = await ask(url, "POST", "/api/pull", {"model": "new"})
    assert (got.status, real.url in got.json["error"]) == (502, True)


async def test_pushing(real, url):
    """What it has is pushed from there; of what nobody has it says so itself."""
    for name in ("plain", "nope"):
        got = await ask(url, "POST", "/api/push", {"model": name, "insecure": True})
        assert got.body == b"".join(PROGRESS)
    assert [asked.json for asked in real.questions("/api/push")] == [
        {"model": "plain", "insecure": True},
        {"model": "nope", "insecure": True},
    ]
    own = await ask(url, "POST", "/api/push", {"model": "demo"})
    assert "nowhere to push" in own.lines[-1]["error"]


# ------------------------------------------------------------------------------------------------ copying, deleting


async def test_a_copy_is_made_where_the_model_is(real, url):
    got = await ask(url, "POST", "/api/copy", {"source": "PLAIN", "destination": "mine"})
    assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "0")
    assert "Content-Type" not in got.headers
    assert real.questions("/api/copy")[0].json == {"source": "plain:latest", "destination": "mine"}
    assert await names(url) == ["demo:latest", "qwen3:4b", "plain:latest", "mine:latest"]


async def test_a_copy_of_nothing_and_onto_another_model(real, url, tmp_path):
    """What the configuration has is not replaced by what it does not know, nor the other way round."""
    nothing = await ask(url, "POST", "/api/copy", {"source": "nope", "destination": "x"})
    assert (nothing.status, nothing.json) == (404, {"error": 'model "nope" not found'})
    onto_ours = await ask(url, "POST", "/api/copy", {"source": "plain", "destination": "demo"})
    onto_theirs = await ask(url, "POST", "/api/copy", {"source": "demo", "destination": "plain"})
    assert (onto_ours.status, onto_theirs.status) == (400, 400)
    assert "is not replaced" in onto_ours.json["error"]
    assert "is not replaced" in onto_theirs.json["error"]
    assert not real.questions("/api/copy")
    ours = await ask(url, "POST", "/api/copy", {"source": "demo", "destination": "other"})
    assert (ours.status, "other" in (tmp_path / "config.yaml").read_text()) == (200, True)


async def test_a_model_is_deleted_where_it_is(real, url, tmp_path):
    """It is gone from both lists; the configuration is not touched."""
    before = (tmp_path / "config.yaml").read_text()
    got = await ask(url, "DELETE", "/api/delete", {"name": "plain"})
    assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "0")
    assert real.questions("/api/delete")[0].json == {"model": "plain"}
    assert await names(url) == ["demo:latest", "qwen3:4b"]
    again = await ask(url, "DELETE", "/api/delete", {"name": "plain"})
    assert (again.status, again.json) == (404, {"error": "model 'plain' not found"})
    assert (tmp_path / "config.yaml").read_text() == before


async def test_what_the_operator_wrote_is_hidden_and_not_deleted(real, tmp_path):
    """Gigabytes are not lost by a client that wants a configured name out of sight."""
    models = [{"name": "plain", "backend": "ollama"}]
    async with behind(real, tmp_path, models=models) as url:
        got = await ask(url, "DELETE", "/api/delete", {"name": "plain"})
        assert (got.status, await names(url)) == (200, ["demo:latest", "qwen3:4b"])
    assert "plain:latest" in real.models
    assert not real.questions("/api/delete")


# -------------------------------------------------------------------------------------------------- making, uploading


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"from": "PLAIN"}, {"from": "plain:latest"}),
        ({"from": "plain", "system": "S", "parameters": {"stop": ["x"]}, "new": BRAND_NEW}, {}),
        ({"files": {"x.gguf": "sha256:" + "0" * 64}, "quantize": "q4_K_M"}, {}),
        ({"from": "plain", "adapters": {"a": "sha256:" + "0" * 64}}, {}),
        ({"from": "gpt-oss:120b", "remote_host": "https://ollama.com", "info": {"new": 1}}, {}),
        ({"from": "nobody-knows-it"}, {}),
    ],
)
async def test_a_model_is_made_where_it_can_be(real, url, tmp_path, body, sent):
    """On top of one of its own, from files, or of what it would have to pull first: progress and all."""
    before = (tmp_path / "config.yaml").read_text()
    got = await ask(url, "POST", "/api/create", {"name": "mario"} | body)
    assert (got.status, got.headers["Content-Type"], got.body) == (200, NDJSON, b"".join(PROGRESS))
    assert real.questions("/api/create")[0].json == {"model": "mario"} | body | sent
    assert "mario:latest" in await names(url)
    assert (tmp_path / "config.yaml").read_text() == before


async def test_a_model_of_ours_is_made_here(real, url, tmp_path):
    """On top of one of the bridge's own, as ever; and never in the place of one of the other's."""
    got = await ask(url, "POST", "/api/create", {"model": "luigi", "from": "demo", "system": "S"})
    assert got.lines[-1] == {"status": "success"}
    assert not real.questions("/api/create")
    assert "luigi" in (tmp_path / "config.yaml").read_text()
    onto_theirs = await ask(url, "POST", "/api/create", {"model": "plain", "from": "demo"})
    onto_ours = await ask(url, "POST", "/api/create", {"model": "demo", "from": "plain"})
    assert (onto_theirs.status, onto_ours.status) == (400, 400)
    assert "is not replaced" in onto_theirs.json["error"]
    assert "is not replaced" in onto_ours.json["error"]


@pytest.mark.parametrize(
    "refusal", [(400, JSON, b'{"error":"invalid model name"}'), (500, "application/json", b'{"error":"x"}')]
)
async def test_an_error_of_making(real, url, refusal):
    real.refusal = refusal
    got = await ask(url, "POST", "/api/create", {"model": "mario", "from": "plain"})
    assert (got.status, got.headers["Content-Type"], got.body) == refusal


async def test_a_file_goes_there_piece_by_piece(real, url):
    """It is not held back until it is whole, nor bounded as what the bridge itself would keep."""
    blob = random.Random(2).randbytes(3_000_000)
    path = f"/api/blobs/sha256:{hashlib.sha256(blob).hexdigest()}"
    assert (await ask(url, "HEAD", path)).status == 404
    reader, writer = await connect(url)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode() + b"%x\r\n" % 2_000_000 + blob[:2_000_000] + b"\r\n")
    async with asyncio.timeout(20):
        while sum(map(len, real.pieces)) < 1_000_000:  # noqa: ASYNC110 - the other server's own memory
            await asyncio.sleep(0.01)
    writer.write(b"%x\r\n" % 1_000_000 + blob[2_000_000:] + b"\r\n0\r\n\r\n")
    got = await answer(reader)
    writer.close()
    assert (got.status, got.body, b"".join(real.pieces)) == (201, b"", blob)
    assert (await ask(url, "HEAD", path)).status == 200
    assert (await ask(url, "POST", path, blob)).status == 200


async def test_a_file_that_is_another(real, url):
    got = await ask(url, "POST", f"/api/blobs/sha256:{'0' * 64}", b"x")
    assert got.status == 400
    assert got.json["error"].startswith("digest mismatch, expected")


@pytest.mark.parametrize(
    ("end", "words"), [(b"64\r\nabc", "unexpected EOF"), (b"nonsense\r\n", "malformed chunked encoding")]
)
async def test_half_a_file_is_none(real, url, end, words):
    """Who stops in the middle of it is told so; the other server keeps nothing."""
    path = f"/api/blobs/sha256:{hashlib.sha256(b'abc').hexdigest()}"
    reader, writer = await connect(url)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(head.encode() + b"%x\r\n" % 2_000_000 + b"abcd" * 500_000 + b"\r\n")
    async with asyncio.timeout(10):
        while not real.pieces:  # noqa: ASYNC110 - the other server's own memory
            await asyncio.sleep(0.01)
    writer.write(end)
    if words == "unexpected EOF":
        writer.write_eof()
    got = await answer(reader)
    writer.close()
    assert (got.status, got.json) == (400, {"error": words})
    await asyncio.wait_for(real.left.wait(), 10)
    assert not real.blobs


async def test_without_one_files_stay_here(tmp_path):
    """And nothing of all this changes for who has no real Ollama."""
    async with RealOllama() as real, behind(real, tmp_path) as url:
        (tmp_path / "config.yaml").write_text('{"providers": {"demo": {}}}')
        async with asyncio.timeout(10):
            while (await ask(url, "POST", "/api/me", {})).status != 503:  # noqa: ASYNC110 - a reload is polled
                await asyncio.sleep(0.05)
        assert (await ask(url, "HEAD", f"/api/blobs/sha256:{'0' * 64}")).status == 404
        assert (await ask(url, "POST", "/api/signout", {})).status == 401
        assert (
            (await ask(url, "POST", "/api/pull", {"model": "new"}))
            .lines[-1]["error"]
            .startswith("pull model")
        )
        assert not real.questions("/api/pull")


async def test_the_account_is_that_ones(real, url):
    """Who signs in to ollama.com does so with the real server's key."""
    assert (await ask(url, "POST", "/api/me", {})).json == {"id": "1", "name": "me", "plan": "free"}
    assert (await ask(url, "POST", "/api/signout", {})).status == 404  # of this one


async def test_ollama_com_takes_nothing(tmp_path, real):
    """It has its models, and is asked for no pull; who has only that keeps files here."""
    from ollama_bridge.backends import ProviderSettings
    from ollama_bridge.backends.lazy import LazyProvider
    from ollama_bridge.live import Live
    from ollama_bridge.roster import Roster

    def roster(name, base_url):
        return Roster(LazyProvider(ProviderSettings(name, "ollama", base_url=base_url)))

    cloud, den = roster("cloud", "https://ollama.com"), roster("my.den", "http://den:11434")
    assert (cloud.is_cloud, den.is_cloud, roster("x", None).is_cloud) == (True, False, False)
    assert Live({"cloud": cloud}).keeper("x") is None
    both = Live({"cloud": cloud, "my.den": den})
    assert both.keeper("x/y") == (den, "x/y")
    assert both.keeper("My-Den/y") == (den, "y")
    assert both.keeper("cloud/y") == (den, "cloud/y")
