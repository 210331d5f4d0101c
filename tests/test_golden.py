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
from golden_runner import configuration, script
from ollama_bridge.config import Config
from running import Got, ask, running
from shared import SHARED
from upstream import Upstream

# ---------------------------------------------------------------------------------------------- the requests

TOOL = '{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}'
CUT = {
    ', "resp': ', "response_format": {"type": "json_object"}}',
    ', {"role": "tool", "tool_call_id":': ', {"role": "tool", "tool_call_id": "a", "content": "r"}]}',
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
    streams = {"ndjson": {}, "event-stream": {"stream": True}}
    how = next((how for kind, how in streams.items() if kind in block.content_type), {"stream": False})
    return json.dumps({**body, **how}).encode()


# -------------------------------------------------------------------------------------- where we differ, and why

LATER = "this surface is not offered yet"
OTHER_MODEL = "there are no stubs of ollama.com's models here"
BETTER = "a real Ollama does not count tokens"
OURS = "a real model's facts: what the bridge knows of its own is compared"
WORDS = "the provider's failure is told with model, provider and remedy"
LOUD = "a real server breaks off without a word: here the failure is told"

NOT_ASKED = {
    "GET /api/delete": LATER,
    "POST /api/delete": LATER,
    "GET /api/me": LATER,
    "GET /api/status": LATER,
    "GET /v1/messages/count_tokens": BETTER,
    "POST /v1/messages/count_tokens": BETTER,
    'POST /api/show {"model": "cloudy"}': OTHER_MODEL,
    'POST /api/show {"model": "barecloud"}': OTHER_MODEL,
    'POST /api/show {"model": "cloudy:local"}': OTHER_MODEL,
}
"""Exchanges that are not replayed."""

DIFFERENT = [
    (r"/v1/.*MIDERR.*stream", "told", LOUD),
    (r"/v1/.*MIDERR", "error 502", WORDS + ", and 502 says it was not us"),
    (r'/v1/.*"n": 3', "error 400", "one answer is not passed off as three"),
    (r"/v1/.*TOOLS.*tools.*stream", "chunks", "each call has a chunk of its own"),
    (r"/api/version", "version", "ours is the version that we are like"),
    (r'/api/show \{"(model|name)": "(plain|gotools|embed|vision|PLAIN)', "shape", OURS),
    (r'"template":"\{\{ .Bad"', "nothing", "templates are the provider's: ours is ignored"),
    (r"ERR400", "error", WORDS),
    (r"MIDERR.*false", "error 502", WORDS + ", and 502 says it was not us"),
    (r"FIRSTERR", "error 502", WORDS + ", and 502 says it was not us"),
    (r"MIDERR", "last error", WORDS),
    (r"DIE", "last error", "a cut answer is not left standing as if it were whole"),
    (r"TOOLS.*stream", "calls", "each call has a line of its own, before the last (§2.4: the safer shape)"),
]
"""Pattern, what is compared nevertheless, reason; the first that matches."""

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
    assert ("Transfer-Encoding" in got.headers) == bool(_stream(block))
    if block.method == "HEAD" or how == "version":
        return
    COMPARED[how.split()[0]](block.reply, ours)


def _stream(block: Block) -> str:
    return "stream" if re.search("ndjson|event-stream", block.content_type) else ""


def same(real: str, ours: str) -> None:
    assert without_times(ours) == without_times(real)


def an_error(_: str, ours: str) -> None:
    """An error, whatever the real server said."""
    assert list(json.loads(ours)) == ["error"]


def same_then_told(real: str, ours: str) -> None:
    """The same chunks but the last, which is an error's envelope; no `[DONE]`."""
    *chunks, told = without_times(ours).split("\n\n")
    assert chunks == without_times(real).split("\n\n")[:-1]
    an_error("", told.removeprefix("data: "))


def same_chunks(real: str, ours: str) -> None:
    """The same chunks, once a chunk with several calls has become as many."""
    expected = []
    for chunk in without_times(real).split("\n\n"):
        head, found, calls = chunk.partition('"tool_calls":[')
        calls, _, rest = calls.partition("]},")
        several = calls.replace('},{"id"', '}\n{"id"').split("\n")
        expected += [f"{head}{found}{call}]}},{rest}" for call in several] if found else [chunk]
    assert without_times(ours).split("\n\n") == expected


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
    "told": same_then_told,
    "chunks": same_chunks,
    "calls": same_calls,
    "shape": same_shape,
}


@pytest.mark.skipif(
    SHARED is None or not (SHARED / "golden").is_dir(),
    reason="../shared/golden, replies of a real Ollama, is not here",
)
@pytest.mark.parametrize("name", ["t1", "t3", "t4", "t6", "t8"])
async def test_as_the_real_server(name, subtests):
    """Status, headers and every byte of the body."""
    async with Upstream() as upstream, running(Config.model_validate(configuration(upstream))) as daemon:
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
