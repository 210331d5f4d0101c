"""Files uploaded for `ollama create`: whole, verified, within bounds, and without litter."""

import asyncio
import hashlib
import os
from functools import partial

import pytest

from ollama_bridge.config import Config
from ollama_bridge.server import blobs, manage
from running import answer, ask, connect, request, running

CONFIG = Config.model_validate({"server": {"port": 0}, "providers": {"demo": {}}, "models": [{"name": "m", "backend": "demo"}]})  # fmt: skip
DATA = os.urandom(3_000_000)


def digest(data, sign=":"):
    return f"sha256{sign}{hashlib.sha256(data).hexdigest()}"


def where(data, sign=":"):
    return f"/api/blobs/{digest(data, sign)}"


def kept():
    folder = blobs.state_folder()
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def small(monkeypatch):
    """Bounds that a test can reach."""
    monkeypatch.setattr(manage, "Blobs", partial(blobs.Blobs, max_bytes=1000, max_all_bytes=2000))


def chunked(url, path, *pieces):
    """A request as the command line sends it: no length, and it says that it is JSON."""
    head = request(
        url, "POST", path, headers={"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    )
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


async def test_a_blob_is_taken_once_and_found_again():
    """404, 201, 200, 200; with `:` or `-` behind the algorithm, digits in any case."""
    async with running(CONFIG) as daemon:
        missing = await ask(daemon.url, "HEAD", where(DATA))
        new = await ask(daemon.url, "POST", where(DATA), DATA)
        found = await ask(
            daemon.url, "HEAD", where(DATA, "-").upper().replace("/API/BLOBS/SHA256", "/api/blobs/sha256")
        )
        again = await ask(daemon.url, "POST", where(DATA), DATA)
    assert (missing.status, new.status, found.status, again.status) == (404, 201, 200, 200)
    assert (new.body, again.body) == (b"", b"")
    assert kept() == [digest(DATA, "-")]
    assert (blobs.state_folder() / kept()[0]).read_bytes() == DATA


async def test_a_chunked_upload_is_streamed():
    """As `ollama create` sends files: in chunks of any size, without a length."""
    pieces = [DATA[at : at + 77_777] for at in range(0, len(DATA), 77_777)]
    async with running(CONFIG) as daemon:
        reader, writer = await connect(daemon.url)
        writer.write(chunked(daemon.url, where(DATA), *pieces) + b"0\r\n\r\n")
        got = await answer(reader)
        writer.write(request(daemon.url, "HEAD", where(DATA)))
        assert (await answer(reader, head=True)).status == 200
        writer.close()
    assert got.status == 201
    assert (blobs.state_folder() / kept()[0]).read_bytes() == DATA


@pytest.mark.parametrize("text", ["sha256", "sha256:" + "0" * 63, "sha256:" + "g" * 64, "sha512:" + "0" * 64, "..%2F" + "0" * 64, "sha256:" + "0" * 65])  # fmt: skip
async def test_what_is_no_digest_is_refused(text):
    async with running(CONFIG) as daemon:
        posted = await ask(daemon.url, "POST", f"/api/blobs/{text}", b"x")
        asked = await ask(daemon.url, "HEAD", f"/api/blobs/{text}")
    assert (posted.status, posted.json) == (400, {"error": "invalid digest format"})
    assert asked.status == 400
    assert kept() == []


async def test_other_content_is_refused_and_not_kept():
    """In Ollama's words, with both digests."""
    async with running(CONFIG) as daemon:
        got = await ask(daemon.url, "POST", where(b"a"), b"b")
    assert got.status == 400
    assert got.json == {"error": f'digest mismatch, expected "{digest(b"a")}", got "{digest(b"b")}"'}
    assert kept() == []


@pytest.mark.parametrize("leave", ["close", "eof", "malformed"])
async def test_a_client_that_leaves_in_the_middle_leaves_nothing(leave):
    """Closed, said no more, or sent something that is no chunk: no file stays behind."""
    async with running(CONFIG) as daemon:
        reader, writer = await connect(daemon.url)
        writer.write(chunked(daemon.url, where(DATA), DATA[:2_000_000]))
        await writer.drain()
        async with asyncio.timeout(10):
            while not kept():  # noqa: ASYNC110 - the daemon's own clock decides when it has begun
                await asyncio.sleep(0.01)
        assert [name.endswith(".part") for name in kept()] == [True]
        if leave == "close":
            writer.transport.abort()
        elif leave == "eof":
            writer.write_eof()
            assert (await answer(reader)).json == {"error": "unexpected EOF"}
        else:
            writer.write(b"zz\r\n")
            assert (await answer(reader)).json == {"error": "malformed chunked encoding"}
        writer.close()
        async with asyncio.timeout(10):
            while kept():  # noqa: ASYNC110 - nobody is told when the daemon notices
                await asyncio.sleep(0.01)


async def test_one_blob_is_bounded(small):
    """Announced or not, what is too large is refused, and not kept."""
    data = b"x" * 1001
    async with running(CONFIG) as daemon:
        announced = await ask(daemon.url, "POST", where(data), data)
        reader, writer = await connect(daemon.url)
        writer.write(chunked(daemon.url, where(data), data) + b"0\r\n\r\n")
        streamed = await answer(reader)
        writer.close()
        fits = await ask(daemon.url, "POST", where(data[:1000]), data[:1000])
    assert (announced.status, streamed.status, fits.status) == (413, 413, 201)
    assert "larger than 1000 bytes" in announced.json["error"]
    assert kept() == [digest(data[:1000], "-")]


async def test_all_blobs_together_are_bounded(small):
    """The oldest make room for the new."""
    files = [bytes([number]) * 900 for number in range(4)]
    async with running(CONFIG) as daemon:
        for number, data in enumerate(files):
            assert (await ask(daemon.url, "POST", where(data), data)).status == 201
            os.utime(blobs.state_folder() / digest(data, "-"), (number, number))
    assert kept() == sorted(digest(data, "-") for data in files[2:])


async def test_uploads_at_the_same_moment():
    """Of one file and of many: each is there, once."""
    files = [os.urandom(200_000) for _ in range(6)]
    async with running(CONFIG) as daemon:
        got = await asyncio.gather(*(ask(daemon.url, "POST", where(data), data) for data in files * 2))
    assert {one.status for one in got} <= {200, 201}
    assert kept() == sorted(digest(data, "-") for data in files)


async def test_a_folder_that_cannot_be_written_is_said(monkeypatch):
    """With what the system says."""

    def full(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(blobs.tempfile, "mkstemp", full)
    async with running(CONFIG) as daemon:
        got = await ask(daemon.url, "POST", where(b"x"), b"x")
    assert (got.status, got.json) == (500, {"error": "the blob cannot be kept: No space left on device"})


async def test_what_a_killed_process_left_is_cleared_away():
    """Unfinished files that nobody has written to for an hour."""
    folder = blobs.state_folder()
    folder.mkdir(parents=True)
    (folder / "tmpold.part").write_bytes(b"x")
    os.utime(folder / "tmpold.part", (1, 1))
    (folder / "tmpnew.part").write_bytes(b"x")
    async with running(CONFIG) as daemon:
        await ask(daemon.url, "POST", where(b"x"), b"x")
    assert kept() == [digest(b"x", "-"), "tmpnew.part"]
