"""What a client sees when a vendor sends what no documentation has: on every wire, streamed and in one piece."""

from typing import Any

import pytest

from journal import journal
from odd_replies import ALL_WIRES, CALL, JSON, TEXT, Reply, streamed, whole
from ollama_bridge.config import Config
from running import ask, running
from upstream import Upstream
from wires import Wire

each_wire = pytest.mark.parametrize("wire", ALL_WIRES, ids=lambda wire: wire.name)
PAGE = b"<!doctype html><html><h1>Welcome</h1></html>"


def config(wire: Wire, url: str, **provider: Any) -> Config:
    made = wire.config(url, breaker={"failures": 0})
    made["providers"][wire.key] |= provider
    return Config.model_validate(made)


async def asked(url: str, *, stream: bool) -> tuple[int, list[Any]]:
    """The status, and every object that came."""
    question = {"model": "m", "messages": [{"role": "user", "content": "?"}], "stream": stream}
    got = await ask(url, "POST", "/api/chat", question)
    return got.status, got.lines if got.headers["Content-Type"] == "application/x-ndjson" else [got.json]


def text_of(lines: list[Any]) -> str:
    return "".join(line["message"]["content"] for line in lines if "message" in line)


def assert_told(wire: Wire, status: int, lines: list[Any]) -> str:
    """The error is told as it should be; the message."""
    *said, last = lines
    assert list(last) == ["error"]
    assert last["error"].startswith(f"{wire.key}: model '{wire.model}': ")
    assert not any(line.get("done") for line in said)
    assert status == 200 if said else status >= 400
    assert status != 500
    return last["error"]


@each_wire
async def test_any_value_of_an_answer_may_be_anything(wire):
    """An answer, or an error that names vendor and model; never a traceback, nor a client left without an end."""
    failures = []
    with journal() as written:
        async with Upstream() as upstream, running(config(wire, upstream.url)) as daemon:
            for made in (streamed(wire), whole(wire)):
                for number, (name, odd) in enumerate(made.with_each_value_as(None, 7, "x", {})):
                    upstream.only(**odd.script)
                    status, lines = await asked(daemon.url, stream=bool(number % 2))
                    try:
                        if not lines[-1].get("done"):
                            assert_told(wire, status, lines)
                    except AssertionError:
                        failures.append((made.is_whole, name, status, lines[-1]))
    assert failures == []
    assert written.alarming == []


@each_wire
async def test_a_page_is_no_answer(wire, subtests):
    """Whatever it is called: the error says where to look."""
    async with Upstream() as upstream, running(config(wire, upstream.url)) as daemon:
        for kind in ("text/html", "text/event-stream", "application/json", "application/x-ndjson"):
            upstream.only([PAGE[:1], PAGE[1:]], headers={"content-type": kind})
            for stream in (True, False):
                with subtests.test(kind=kind, stream=stream):
                    message = assert_told(wire, *await asked(daemon.url, stream=stream))
                    assert "check providers." in message
                    assert "<h1>" not in message


@each_wire
@pytest.mark.parametrize("make", [streamed, whole])
async def test_the_bytes_tell_what_they_are(wire, make, subtests):
    """A stream called JSON and JSON called a stream are both read, however the first bytes come."""
    body = make(wire).script["body"]
    async with Upstream() as upstream, running(config(wire, upstream.url)) as daemon:
        for kind in ("text/event-stream", "text/plain", "application/json", "application/octet-stream", ""):
            for pieces in ([body], [body[:1], body[1:4], body[4:]], [b"\r\n ", body]):
                with subtests.test(kind=kind, pieces=len(pieces)):
                    upstream.only(pieces, headers={"content-type": kind} if kind else {"x-none": "1"})
                    status, lines = await asked(daemon.url, stream=True)
                    assert status == 200
                    assert lines[-1]["done"]
                    assert text_of(lines).strip() == TEXT
                    calls = [
                        call["function"] for line in lines for call in line["message"].get("tool_calls", ())
                    ]
                    assert [(call["name"], call["arguments"]) for call in calls] == [CALL]
                    assert (lines[-1]["prompt_eval_count"], lines[-1]["eval_count"]) == (11, 7)


@each_wire
@pytest.mark.parametrize("make", [streamed, whole])
async def test_an_odd_usage_costs_nobody_the_answer(wire, make, subtests):
    """The text is kept, and the oddity is logged once."""
    with journal() as written:
        async with Upstream() as upstream, running(config(wire, upstream.url)) as daemon:
            for usage in (None, "many", 5, [], {"prompt_tokens": "ten"}):
                reply = make(wire).changed(
                    lambda found, usage=usage: {
                        name: usage if name in USAGES else value for name, value in found.items()
                    }
                )
                for stream in (True, False):
                    with subtests.test(usage=usage, stream=stream):
                        upstream.only(**reply.script)
                        status, lines = await asked(daemon.url, stream=stream)
                        assert (status, lines[-1].get("done")) == (200, True)
                        assert text_of(lines).strip() == TEXT
            noted = [line for line in written.lines if line["event"] == "passed over"]
            assert {(one["provider"], one["model"], one["what"]) for one in noted} <= {
                (wire.key, wire.model, "usage")
            }
            assert sorted(one["word"] for one in noted) == ([] if wire.name == "ollama" else ["int", "str"])
    assert written.alarming == []


USAGES = {"usage", "usageMetadata", "eval_count", "prompt_eval_count"}


def _nameless(found: dict[str, Any]) -> dict[str, Any]:
    return {name: "" if name == "name" else value for name, value in found.items()}


def _half_arguments(found: dict[str, Any]) -> dict[str, Any]:
    """Of calls whose arguments are text; of others, that they are no object."""
    made = dict(found)
    for name in ("arguments", "partial_json", "args", "input"):
        if name in made:
            made[name] = made[name].replace("}", "") if isinstance(made[name], str) else '{"city": '
    return made


@each_wire
@pytest.mark.parametrize("make", [streamed, whole])
async def test_a_call_that_cannot_be_made_is_an_error(wire, make, subtests):
    """With an empty name or broken arguments there is nothing to call: what was said before stands, and no `done`."""
    with journal() as written:
        async with Upstream() as upstream, running(config(wire, upstream.url)) as daemon:
            for change in (_nameless, _half_arguments):
                upstream.only(**make(wire).changed(change).script)
                for stream in (True, False):
                    with subtests.test(change=change.__name__, stream=stream):
                        status, lines = await asked(daemon.url, stream=stream)
                        assert_told(wire, status, lines)
                        # In one piece with the call, a text may be given up with it: it was shown to nobody yet.
                        assert text_of(lines).strip() in (
                            [TEXT] if stream and make is streamed else [TEXT, ""]
                        )
    assert written.alarming == []


COMMENT = b": still here\n\n"
PINGS = {
    "anthropic": [COMMENT, b'event: ping\ndata: {"type": "ping"}\n\n'],
    "responses": [COMMENT, b'data: {"type": "keepalive", "sequence_number": 1}\n\n'],
    "chat": [
        COMMENT,
        b'data: {"choices": []}\n\n',
        b'data: {"choices": [{"index": 0, "delta": {"content": ""}}]}\n\n',
    ],
    "google": [COMMENT, b"data: {}\n\n", b'data: {"usageMetadata": {"promptTokenCount": 3}}\n\n'],
    "ollama": [b"\n"],
}


@each_wire
async def test_a_stream_of_pings_is_silence(wire, subtests):
    """Signs of life for ever are no answer, neither before its first word nor behind it: the idle timeout ends them."""
    made = streamed(wire)
    begun = Reply(wire, made.events[:-1], is_whole=False).body().removesuffix(b"data: [DONE]\n\n")
    async with Upstream() as upstream, running(config(wire, upstream.url, timeout_s=0.2)) as daemon:
        for opening in (b"", begun):
            for ping in PINGS[wire.name]:
                with subtests.test(ping=ping, begun=bool(opening)):
                    upstream.only([opening, *[ping] * 2000], gap_s=0.02, headers=made.script["headers"])
                    assert "silent for 0.2 s" in assert_told(wire, *await asked(daemon.url, stream=True))


@each_wire
async def test_nothing_is_no_answer(wire, subtests):
    """An empty stream, and JSON that holds nothing, are errors that name vendor and model."""
    with journal() as written:
        async with Upstream() as upstream, running(config(wire, upstream.url)) as daemon:
            for body in (
                b"",
                b"  \n",
                b": nothing\n\n",
                b"data: [DONE]\n\n",
                b"{}",
                b"[]",
                b"null",
                b"{",
                b"[1]",
            ):
                for kind in ("text/event-stream", JSON["content-type"]):
                    for stream in (True, False):
                        with subtests.test(body, kind=kind, stream=stream):
                            upstream.only(body, headers={"content-type": kind})
                            assert_told(wire, *await asked(daemon.url, stream=stream))
    assert written.alarming == []
