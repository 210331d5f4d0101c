"""What a client sees when its provider fails: every fault through every SDK, streamed and whole.

`pytest tests/test_upstream_faults.py -s` prints the table.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from faults import KEY, PROMPT, SAID, error_event, json_error, page, parts, refusal, stream
from journal import journal
from ollama_bridge.config import Config
from running import ask, running
from upstream import Upstream
from wires import WIRES, Wire


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
