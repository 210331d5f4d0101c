"""What a real Ollama answered on /v1/responses, and what we answer to the same bytes.

Bodies are compared byte for byte once ids and times are
masked. Where we deliberately answer otherwise, `DIFFERENT` says why and what is compared nevertheless.
"""

import json
import re

import pytest

from golden import blocks
from golden_runner import configuration, script
from ollama_bridge.config import Config
from running import ask, running
from shared import SHARED
from upstream import Upstream

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "d",
    "strict": None,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}

DIFFERENT = [
    (r'"TOOLS".*stream', "calls", "a real server's text item is never closed, and its index is used again"),
    (r'"TOOLS"', "calls", "a real server drops the text beside calls"),
    (r'"LEN"', "length", "a reply that was cut short says so"),
    (r'"MIDERR"', "failed", "a real server falls silent"),
    (r'"FIRSTERR"', "error 502", "502 says it was not us, and the words name model and provider"),
    (r'"ERR400"', "error 400", "the words name model and provider"),
    (
        r"previous_response_id",
        "error 400",
        "an answer that does not know the conversation is worse than none",
    ),
]
"""Pattern, what is compared nevertheless, reason; the first that matches."""


def whole(block):
    """The request as it was sent: the recorder cut it at 200 characters."""
    if not block.cut:
        return block.body
    sent = json.loads(block.body.decode().partition(', "tools"')[0] + "}")
    stream = {"stream": True} if "event-stream" in block.content_type else {}
    return json.dumps({**sent, "tools": [WEATHER], **stream}).encode()


def masked(reply):
    """Without ids and times, nor the one key that is ours: the `openai` package's types demand it."""
    reply = reply.replace(',"cache_write_tokens":0', "").replace('"cache_write_tokens":0,', "")
    reply = re.sub(r'"(resp|rs_resp|rs|msg)_\d+"', r'"\1_N"', reply).replace("rs_resp_N", "rs_N")
    reply = re.sub(r'"fc_(?:resp_)?\d+_(\d+)"', r'"fc_N_\1"', reply)
    return re.sub(r'"(created|completed)_at":\d+', r'"\1_at":0', reply)


def events(reply):
    return [json.loads(line[6:]) for line in masked(reply).split("\n") if line.startswith("data: ")]


def compare(how, real, ours):
    if how == "all":
        assert masked(ours) == masked(real)
    elif how == "failed":
        *said, last = ours.split("\n\n")
        assert masked("\n\n".join(said)) == masked(real)
        assert last.startswith("event: response.failed\n")
    elif how == "calls":
        said, theirs = (final(one) for one in (ours, real))
        calls = [item for item in theirs["output"] if item["type"] == "function_call"]
        assert [item["type"] for item in said["output"]] == ["message", "function_call", "function_call"]
        assert said["output"][1:] == calls
        assert {**said, "output": []} == {**theirs, "output": []}
    elif how == "length":
        *said, last = events(ours)
        *heard, end = events(real)
        said[-1]["item"]["status"] = "completed"
        assert said == heard
        assert last["response"].pop("incomplete_details") == {"reason": "max_output_tokens"}
        assert last["response"].pop("status") == "incomplete"
        last["response"]["output"][0]["status"] = "completed"
        assert last["response"].items() <= end["response"].items()
        assert last["type"] == end["type"]
    else:
        assert list(json.loads(ours)["error"]) == ["message", "type", "param", "code"]


def final(reply):
    return events(reply)[-1]["response"] if "data: " in reply else json.loads(masked(reply))


@pytest.mark.skipif(
    SHARED is None or not (SHARED / "golden").is_dir(),
    reason="../shared/golden, replies of a real Ollama, is not here",
)
async def test_as_the_real_server(subtests):
    """Status, content type and every byte of the body."""
    async with Upstream() as upstream:
        config = Config.model_validate(configuration(upstream))
        async with running(config) as daemon:
            for block in blocks("t10"):
                sent = whole(block)
                shown = f"{block} {'stream' if 'event-stream' in block.content_type else ''}"
                how = next((how for pattern, how, _ in DIFFERENT if re.search(pattern, shown)), "all")
                with subtests.test(shown):
                    script(upstream, sent.decode())
                    got = await ask(daemon.url, "POST", "/v1/responses", sent)
                    status = int(how[6:]) if how.startswith("error ") else block.status
                    assert got.status == status
                    if status == block.status:
                        assert got.headers["Content-Type"] == block.content_type
                    body = got.body.decode()
                    assert body.endswith("\n") == ("charset" not in got.headers["Content-Type"])
                    compare(how, block.reply, body.rstrip("\n"))
