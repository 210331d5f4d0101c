"""What a client sees when its provider fails: every fault through every SDK, streamed and whole.

`pytest tests/test_upstream_faults.py -s` prints the table.
"""

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from journal import journal
from ollama_bridge.config import Config
from running import ask, running
from upstream import Upstream, sse
from wires import WIRES, Said, Wire

KEY = "0f3a9c-do-not-show-me-77b1"
PROMPT = "the-prompt-of-the-client"
WORDS = "one two three four five"
SAID = "one two three f"  # what stands in the first half of the stream

CODES = {  # as each provider names them: Anthropic's type, OpenAI's type, Google's status
    400: ("invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
    401: ("authentication_error", "invalid_request_error", "UNAUTHENTICATED"),
    402: ("billing_error", "insufficient_quota", "FAILED_PRECONDITION"),
    403: ("permission_error", "permission_error", "PERMISSION_DENIED"),
    404: ("not_found_error", "invalid_request_error", "NOT_FOUND"),
    413: ("request_too_large", "invalid_request_error", "INVALID_ARGUMENT"),
    429: ("rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"),
    500: ("api_error", "server_error", "INTERNAL"),
    503: ("overloaded_error", "server_error", "UNAVAILABLE"),
    529: ("overloaded_error", "server_error", "UNAVAILABLE"),
}


def error(wire: Wire, status: int, message: str) -> dict[str, Any]:
    """An error as this provider puts it."""
    anthropic, openai, google = CODES[status]
    if wire.name == "anthropic":
        return {"type": "error", "error": {"type": anthropic, "message": message}}
    if wire.name == "google":
        return {"error": {"code": status, "message": message, "status": google}}
    return {"error": {"message": message, "type": openai, "param": None, "code": None}}


def error_event(wire: Wire) -> bytes:
    if wire.name == "responses":
        return sse({"type": "error", "code": "rate_limit_exceeded", "message": "kaboom", "param": None})
    body = error(wire, 429, "kaboom")
    return sse(body if wire.name == "anthropic" else json.dumps(body))


def parts(wire: Wire) -> tuple[bytes, bytes, bytes]:
    """A streamed reply: what comes before the first word, half of the words, the rest."""
    events = [block + b"\n\n" for block in wire.stream(Said(WORDS)).split(b"\n\n") if block]
    first = next(at for at, event in enumerate(events) if b"one t" in event)
    third = next(at for at, event in enumerate(events) if b"ree f" in event) + 1
    return b"".join(events[:first]), b"".join(events[first:third]), b"".join(events[third:])


@dataclass(frozen=True)
class Fault:
    """One way to fail.

    Args:
        name: For the table.
        script: What the provider sends, as arguments of `Upstream.only`; None: it is not asked.
        status: What the client gets when there was no word of the answer yet.
        remedy: What the message tells the reader to do.
        said: What a streaming client has seen before.
        model: Which of the models is asked.
    """

    name: str
    script: Callable[[Wire], dict[str, Any]] | None
    status: int
    remedy: str
    said: str = ""
    model: str = "m"
    headers: dict[str, str] = field(default_factory=dict)


def refusal(status: int, **headers: str) -> Callable[[Wire], dict[str, Any]]:
    def script(wire: Wire) -> dict[str, Any]:
        # Providers quote the key they refuse, and some the prompt.
        message = f"No {PROMPT if status == 400 else ''} with {KEY}."
        body = json.dumps(error(wire, status, message)).encode()
        return {"body": body, "status": status, "headers": {"content-type": "application/json", **headers}}

    return script


def page(_: Wire) -> dict[str, Any]:
    return {"body": b"<html><h1>Welcome</h1></html>", "headers": {"content-type": "text/html"}}


def json_error(wire: Wire) -> dict[str, Any]:
    body = json.dumps(error(wire, 429, f"busy {KEY}")).encode()
    return {"body": body, "headers": {"content-type": "application/json"}}


def stream(
    *which: int | bytes, then: str = "end", half_more: bool = False
) -> Callable[[Wire], dict[str, Any]]:
    """These parts of the reply, these bytes between them, perhaps half of what would follow, and the end."""

    def script(wire: Wire) -> dict[str, Any]:
        pieces = [parts(wire)[one] if isinstance(one, int) else one for one in which]
        body = b"".join(pieces) + (parts(wire)[2][:25] if half_more else b"")
        return {"body": body, "then": then}

    return script


FAULTS = [
    Fault("400", refusal(400), 400, "change the request or ask another model"),
    Fault("401", refusal(401), 502, "check "),
    Fault("402", refusal(402), 429, "add some at the provider"),
    Fault("403", refusal(403), 502, "check "),
    Fault("404, unknown model", refusal(404), 404, "check `backend_model`"),
    Fault("413", refusal(413), 400, "shorten the conversation"),
    Fault(
        "429 for 7 s", refusal(429, **{"retry-after": "7"}), 429, "ask again", headers={"Retry-After": "7"}
    ),
    Fault("500", refusal(500), 502, "ask again"),
    Fault(
        "503 for 2.5 s",
        refusal(503, **{"retry-after-ms": "2500"}),
        503,
        "ask again",
        headers={"Retry-After": "3"},
    ),
    Fault("529", refusal(529), 503, "ask again"),
    Fault("refused connection", None, 502, "is http://127.0.0.1:", model="refused"),
    Fault("no key", None, 502, "set ", model="keyless"),
    Fault("HTML with 200", page, 502, "base_url"),
    Fault("JSON error with 200", json_error, 429, "ask again"),
    Fault("nothing at all", stream(), 502, "ask again"),
    Fault("end before the text", stream(0), 502, "ask again"),
    Fault("cut before the text", stream(0, then="cut"), 502, "ask again"),
    Fault("end in the text", stream(0, 1), 502, "ask again", SAID),
    Fault("end in an event", stream(0, 1, half_more=True), 502, "ask again", SAID),
    Fault("cut in an event", stream(0, 1, half_more=True, then="cut"), 502, "ask again", SAID),
    Fault("reset in the text", stream(0, 1, then="reset"), 502, "ask again", SAID),
    Fault("malformed event", stream(0, 1, b'data: {"type": broken\n\n', 2), 502, "ask again", SAID),
    Fault("odd event", stream(0, 1, b"data: [1, 2]\n\n", 2), 502, "ask again", SAID),
    Fault(
        "error event",
        lambda wire: {"body": b"".join(parts(wire)[:2]) + error_event(wire)},
        429,
        "ask again",
        SAID,
    ),
]


def config(wire: Wire, url: str) -> Config:
    """The wire's model, one whose provider is not there, and one whose provider has no key."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    made = wire.config(url, breaker={"failures": 0})  # each fault is to be met, not the first five
    kind = {key: value for key, value in wire.provider.items() if key != "api"}
    made["providers"][wire.key]["api_key"] = KEY
    made["providers"]["refused"] = {**wire.provider, "api_key": KEY, "base_url": nobody + wire.base}
    made["providers"]["keyless"] = {**kind, "api_key": "none"}
    (model,) = made["models"]
    made["models"] = [model, *({**model, "name": name, "backend": name} for name in ("refused", "keyless"))]
    return Config.model_validate(made)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_a_fault_is_told_with_its_remedy(wire, subtests):
    """Before the first word a status, never the provider's 401 or 403; after it the words so far and one error
    line, never `done`; not streamed, nothing of half an answer; no key anywhere, no prompt in the log."""
    rows = []
    with journal() as written:
        async with Upstream() as upstream, running(config(wire, upstream.url)) as daemon:
            for fault in FAULTS:
                for streamed in (True, False):
                    with subtests.test(fault.name, streamed=streamed):
                        rows.append(await _check(wire, fault, upstream, daemon.url, streamed=streamed))
    print(f"\n{wire.name}", *(f"  {row}" for row in rows), sep="\n")
    assert written.alarming == []
    assert KEY not in written.text
    assert PROMPT not in written.text


async def _check(wire: Wire, fault: Fault, upstream: Upstream, url: str, *, streamed: bool) -> str:
    if fault.script:
        upstream.only(**fault.script(wire))
    question = {"model": fault.model, "messages": [{"role": "user", "content": PROMPT}], "stream": streamed}
    got = await ask(url, "POST", "/api/chat", question)
    in_stream = streamed and bool(fault.said)
    *lines, last = got.lines if in_stream else [got.json]
    assert list(last) == ["error"]
    message = last["error"]
    provider = wire.key if fault.model == "m" else fault.model
    assert message.startswith(f"{provider}: model '{wire.model}': ")
    assert fault.remedy in message
    assert KEY not in got.body.decode()
    assert "<h1>" not in message
    if fault.name != "400":
        assert PROMPT not in message
    if in_stream:
        assert (got.status, got.headers["Content-Type"]) == (200, "application/x-ndjson")
        assert "".join(line["message"]["content"] for line in lines) == fault.said
        assert not any(line["done"] for line in lines)
    else:
        kind = "application/json" if streamed else "application/json; charset=utf-8"
        assert (got.status, got.headers["Content-Type"]) == (fault.status, kind)
        assert got.headers.get("Retry-After") == fault.headers.get("Retry-After")
        assert "one two" not in message
    shown = f"{len(lines)} lines, then" if in_stream else str(got.status)
    return f"{fault.name:20} {'streamed' if streamed else 'whole':8} {shown:15} {message}"
