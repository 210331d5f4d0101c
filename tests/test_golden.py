"""What a real Ollama answered, and what we answer to the same bytes.

`../shared/golden` holds raw exchanges with a server whose runner was scripted; here the provider is, with the
same words. Bodies are compared byte for byte once times, durations and token ids are masked. Where we
deliberately answer otherwise, `DIFFERENT` says why and what is compared nevertheless.
"""

import json
import re
from typing import Any

import pytest

from golden import Block, blocks, without_times
from ollama_bridge.config import Config
from running import Got, ask, running
from shared import SHARED
from upstream import Upstream, sse

MODELS = {
    "plain": ["completion"],
    "jinja": ["completion", "tools"],
    "think": ["completion", "tools", "thinking"],
    "embed": ["embedding"],
    "vision": ["completion", "vision"],
    "gotools": ["completion", "tools"],
    "myns/copy:V1": ["completion"],
}

# ---------------------------------------------------------------------------------------------- the requests

TOOL = '{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}'
CUT = {
    ', "tool_name": "f"': ', "tool_name": "f", "tool_call_id": "c1"}]}',
    ', "tools": [': f', "tools": [{TOOL}]}}',
}


def whole(block: Block) -> bytes | None:
    """The request's body as it was sent: the recorder cut it at 200 characters."""
    if not block.cut:
        return block.body or None
    sent = block.body.decode()
    cut = next(place for place in CUT if place in sent)
    body = json.loads(sent[: sent.index(cut)] + CUT[cut])
    return json.dumps({**body, "stream": False} if "charset" in block.content_type else body).encode()


# -------------------------------------------------------------------------------------- where we differ, and why

LATER = "this surface is not offered yet"
OTHER_MODEL = "there are no stubs of ollama.com's models here"
BETTER = "a real Ollama does not count tokens"
OURS = "a real model's facts: what the bridge knows of its own is compared"
WORDS = "the provider's failure is told with model, provider and remedy"

NOT_ASKED = {
    "HEAD /v1/models": LATER,
    "GET /api/delete": LATER,
    "POST /api/delete": LATER,
    "GET /api/me": LATER,
    "GET /api/status": LATER,
    "GET /v1/models/": LATER,
    "POST /v1/chat/completions/": LATER,
    "GET /v1/messages/count_tokens": BETTER,
    "POST /v1/messages/count_tokens": BETTER,
    'POST /api/show {"model": "cloudy"}': OTHER_MODEL,
    'POST /api/show {"model": "barecloud"}': OTHER_MODEL,
    'POST /api/show {"model": "cloudy:local"}': OTHER_MODEL,
}
"""Exchanges that are not replayed."""

DIFFERENT = [
    (r"/api/version", "version", "ours is the version that we are like"),
    (r'/api/show \{"(model|name)": "(plain|gotools|embed|vision|PLAIN)', "shape", OURS),
    (r'"template":"\{\{ .Bad"', "nothing", "templates are the provider's: ours is ignored"),
    (r'"content": null', "error 400", "no provider answers a conversation that says nothing"),
    (r"ERR400", "error", WORDS),
    (r"MIDERR.*false", "error 502", WORDS + ", and 502 says it was not us"),
    (r"FIRSTERR", "error 502", WORDS + ", and 502 says it was not us"),
    (r"MIDERR", "last error", WORDS),
    (r"DIE", "last error", "a cut answer is not left standing as if it were whole"),
    (r"TOOLS.*stream", "calls", "each call has a line of its own, before the last (§2.4: the safer shape)"),
]
"""Pattern, what is compared nevertheless, reason; the first that matches."""

# ------------------------------------------------------------------------------------------------- the provider


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason, **more}]}


def call(index: int, name: str, arguments: str) -> dict[str, Any]:
    return {"index": index, "id": name, "function": {"name": "get_weather", "arguments": arguments}}


def token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def logged(text: str, token_text: str, sent: str) -> dict[str, Any]:
    if '"logprobs": true' not in sent:
        return chunk({"content": text})
    top = [token(token_text, -0.25), token("x", -2.5)] if "top_logprobs" in sent else []
    return chunk({"content": text}, logprobs={"content": [{**token(token_text, -0.25), "top_logprobs": top}]})


def script(upstream: Upstream, sent: str) -> None:
    """Say what the scripted runner said to this prompt."""
    error = {"error": {"code": 500, "message": "kaboom"}}
    if "ERR400" in sent:
        bad = {"error": {"code": 400, "message": "bad thing", "type": "invalid_request_error"}}
        upstream.only(json.dumps(bad).encode(), status=400)
        return
    said: list[dict[str, Any]] = []
    if "THINK" in sent:
        said += [chunk({"reasoning_content": text}) for text in ("Let me ", "think.")]
    if "TOOLS" in sent:
        said += [chunk({"content": "Calling."})]
        calls = [call(0, "abc123", '{"city":"Paris","n":2}'), call(1, "def456", '{"city":"<Rome>"}')]
        said += [chunk({"tool_calls": calls}, "tool_calls")]
    elif "FIRSTERR" in sent:
        said = [error]
    elif "MIDERR" in sent:
        said = [chunk({"content": "Hel"}), chunk({"content": "lo"}), error]
    elif "DIE" in sent:
        upstream.only(sse(json.dumps(chunk({"content": "Hel"}))), then="cut")
        return
    else:
        said += [logged("Hel", "Hel", sent), logged("lo <b>&", "lo", sent)]
        said += [chunk({}, "length" if "LEN" in sent else "stop")]
    usage = {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 4}}
    upstream.only(sse(*map(json.dumps, [*said, usage]), done=True))


# ------------------------------------------------------------------------------------------------ the comparison


def compare(block: Block, got: Got) -> None:
    how = next(
        (how for pattern, how, _ in DIFFERENT if re.search(pattern, f"{block} {_stream(block)}")), "all"
    )
    ours = got.body.decode().rstrip("\n")
    if how == "nothing":
        return
    status = int(how[6:]) if how.startswith("error ") else block.status
    assert got.status == status
    for header in ("Content-Type", "Allow", "Location"):
        assert got.headers.get(header) == block.headers.get(header), header
    assert ("Transfer-Encoding" in got.headers) == ("ndjson" in block.content_type)
    if block.method == "HEAD" or how == "version":
        return
    COMPARED[how.split()[0]](block.reply, ours)


def _stream(block: Block) -> str:
    return "stream" if "ndjson" in block.content_type else ""


def same(real: str, ours: str) -> None:
    assert without_times(ours) == without_times(real)


def an_error(_: str, ours: str) -> None:
    """An error, whatever the real server said."""
    assert list(json.loads(ours)) == ["error"]


def same_but_the_last(real: str, ours: str) -> None:
    """The same lines, then one error, and nothing is done."""
    *lines, last = without_times(ours).split("\n")
    assert lines == [line for line in without_times(real).split("\n") if line.startswith('{"model"')]
    assert list(json.loads(last)) == ["error"]


def same_calls(real: str, ours: str) -> None:
    """The same lines once the calls have been moved from the last one to lines of their own, of the same shape."""
    *said, last = map(json.loads, without_times(real).split("\n"))
    calls = last["message"].pop("tool_calls")
    frame = {key: last[key] for key in ("model", "created_at")}
    lines = [{**frame, "message": {**last["message"], "tool_calls": [one]}, "done": False} for one in calls]
    expected = [json.dumps(line) for line in [*said, *lines, last]]
    assert [json.dumps(json.loads(line)) for line in without_times(ours).split("\n")] == expected


def same_shape(real: str, ours: str) -> None:
    """What both tell stands in the same order and has the same types."""
    theirs, mine = json.loads(real), json.loads(ours)
    _same_order(mine, theirs)
    _same_order(mine["details"], theirs["details"])
    assert list(mine["details"]) == list(theirs["details"])
    assert {"details", "model_info", "capabilities", "modified_at", "modelfile"} <= mine.keys()
    assert list(mine["model_info"]) == sorted(mine["model_info"])
    assert mine["modelfile"].split("\n")[:3] == theirs["modelfile"].split("\n")[:3]
    assert mine["capabilities"] == theirs["capabilities"]
    assert mine.get("system") == (theirs.get("system") if "OVR" in real else None)


def _same_order(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    both = [key for key in mine if key in theirs]
    assert both == [key for key in theirs if key in mine]
    assert [type(mine[key]) for key in both] == [type(theirs[key]) for key in both]


COMPARED = {
    "all": same,
    "error": an_error,
    "last": same_but_the_last,
    "calls": same_calls,
    "shape": same_shape,
}


@pytest.mark.skipif(
    SHARED is None or not (SHARED / "golden").is_dir(),
    reason="../shared/golden, replies of a real Ollama, is not here",
)
@pytest.mark.parametrize("name", ["t1", "t3", "t4", "t6"])
async def test_as_the_real_server(name, subtests):
    """Status, headers and every byte of the body."""
    models = [
        {"name": model, "backend": "acme", "backend_model": "acme-1", "capabilities": able}
        for model, able in MODELS.items()
    ]
    async with Upstream() as upstream:
        acme = {"kind": "openai", "api": "chat", "base_url": f"{upstream.url}/v1", "api_key": "k-test"}
        config = {"server": {"port": 0}, "providers": {"acme": acme}, "models": models}
        async with running(Config.model_validate(config)) as daemon:
            for block in blocks(name):
                if str(block) in NOT_ASKED:
                    continue
                with subtests.test(str(block)):
                    sent = whole(block)
                    script(upstream, (sent or b"").decode())
                    agent = {"User-Agent": "GitHubCopilotChat/0.30"} if block.label == "copilot" else {}
                    got = await ask(daemon.url, block.method, block.path, sent, agent)
                    compare(block, got)
                    if agent:
                        assert got.json["model_info"]["general.basename"] == json.loads(block.body)["model"]
