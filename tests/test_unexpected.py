"""Bugs, ours or a backend's: the client gets an error in the wire's own form, the log a traceback and no secrets."""

import asyncio
import re

import pytest

from journal import journal
from ollama_bridge.config import Config
from running import ask, connect, request, running

KEY = "0f3a9c-do-not-show-me-77b1"
PROMPT = "the-prompt-of-the-client"
CONFIG = {
    "server": {"port": 0},
    "providers": {"buggy": {"kind": "misbehaving:Misbehaving", "api_key": KEY}},
    "models": [{"name": "m", "backend": "buggy", "capabilities": ["completion"]}],
}
TOLD = re.compile(r"internal error; the log says more under request_id ([0-9a-f]{8})")


@pytest.fixture
def config():
    return Config.model_validate(CONFIG)


def question(how, **fields):
    return {"model": "m", "messages": [{"role": "user", "content": f"{PROMPT} {how}"}], **fields}


@pytest.mark.parametrize(
    ("how", "stream"),
    [
        ("before", True),
        ("before", False),
        ("after", False),
        ("at-once", False),
        ("nonsense", False),
        ("reset", True),
    ],
)
async def test_before_the_first_byte_it_is_a_500(config, how, stream):
    """`{"error"}` with an id that finds the one traceback in the log; the connection goes on."""
    with journal() as written:
        async with running(config) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", question(how, stream=stream))
            assert (await ask(daemon.url, "GET", "/")).status == 200
    assert (got.status, list(got.json)) == (500, ["error"])
    _told_once(got.json["error"], written)


@pytest.mark.parametrize("how", ["after", "at-once", "nonsense", "reset-later"])
async def test_after_the_first_byte_it_is_the_last_line(config, how):
    """What was said stays; one error line ends the stream properly, and nothing is done."""
    with journal() as written:
        async with running(config) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", question(how))
    *lines, last = got.lines
    assert (got.status, [line["message"]["content"] for line in lines]) == (200, ["one "])
    assert not any(line["done"] for line in lines)
    _told_once(last["error"], written)


def _told_once(error, written):
    (line,) = written.alarming
    assert TOLD.fullmatch(error)[1] == line["request_id"]
    assert "Traceback" in line["exception"]
    assert any(name in written.text for name in ("misbehaving.py", "ollama_encode.py", "recall.py"))
    assert KEY not in written.text
    assert PROMPT not in written.text


async def test_after_the_end_it_is_nobodys_business(config):
    """The client has its whole answer, and the next request of the connection is answered."""
    with journal() as written:
        async with running(config) as daemon:
            reader, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", question("too-late")))
            writer.write(request(daemon.url, "GET", "/"))
            head, _, rest = (await reader.readuntil(b"Ollama is running")).partition(b'"done":true')
            writer.close()
    assert head.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 200" in rest
    assert b"error" not in head + rest
    assert KEY not in written.text


@pytest.mark.parametrize(
    "form",
    [{"json": True}, {"json": None}, {"json": None, "terminal": True}],
    ids=["json", "words", "terminal"],
)
async def test_no_form_of_the_log_shows_local_variables(config, form):
    """A traceback tells where, not with what: prompts and keys stand in the variables around it."""
    with journal(**form) as written:
        async with running(config) as daemon:
            await ask(daemon.url, "POST", "/api/chat", question("before"))
    assert "a bug before the first word" in written.text
    assert "Traceback" in written.text
    assert KEY not in written.text
    assert PROMPT not in written.text


async def test_a_bug_outside_of_any_backend(config, monkeypatch):
    """Every route is guarded, not only those that ask a provider."""

    def broken(*_):
        raise LookupError("a bug of ours")

    monkeypatch.setattr("ollama_bridge.surfaces.ollama_models.tags_body", broken)
    with journal() as written:
        async with running(config) as daemon:
            got = await ask(daemon.url, "GET", "/api/tags")
    assert (got.status, got.headers["Content-Type"]) == (500, "application/json; charset=utf-8")
    _told = TOLD.fullmatch(got.json["error"])
    assert _told
    assert [line["request_id"] for line in written.alarming] == [_told[1]]


@pytest.mark.parametrize("how", ["silence", "flood"])
@pytest.mark.parametrize("abort", [False, True], ids=["closed", "reset"])
async def test_a_client_that_leaves_is_no_fault(config, how, abort):
    """Whether the model is silent or the client's buffers are full: one line at INFO, `status: left`."""
    with journal() as written:
        async with running(config) as daemon:
            reader, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", question(how)))
            await reader.readuntil(b'"done":false}')
            if abort:
                writer.transport.abort()
            writer.close()
            async with asyncio.timeout(5):
                while not any(line["event"] == "request" for line in written.lines):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    assert written.alarming == []
    (line,) = (line for line in written.lines if line["event"] == "request")
    assert (line["level"], line["status"]) == ("info", "left")
