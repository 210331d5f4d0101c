"""A long tool call comes without events for longer than the idle timeout, and is no silence."""

import pytest

from ollama_bridge.config import Config
from running import ask, running
from upstream import Upstream
from wires import WIRES, Said

WRITE = {"type": "function", "function": {"name": "write_file", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    "wire", [wire for wire in WIRES if wire.name != "google"], ids=lambda wire: wire.name
)
async def test_arguments_that_keep_coming_are_progress(wire):
    """Gemini sends its calls whole; of the others each piece of the arguments sets the clock back."""
    call = ("write_file", {"text": "x" * 40})
    whole = wire.stream(Said("Writing.", calls=(call,)))
    pieces = [block + b"\n\n" for block in whole.split(b"\n\n") if block]
    if wire.name == "responses":  # its pieces are larger: the same one again and again
        at = next(i for i, piece in enumerate(pieces) if b"arguments.delta" in piece)
        pieces[at:at] = [pieces[at]] * 8
    async with Upstream() as upstream:
        upstream.reply(pieces, gap_s=0.12)
        limits = {"first_event_timeout_s": 20, "idle_timeout_s": 0.5}
        config = Config.model_validate(wire.config(upstream.url, streaming=limits))
        async with running(config) as daemon:
            question = {"model": "m", "messages": [{"role": "user", "content": "?"}], "tools": [WRITE]}
            got = await ask(daemon.url, "POST", "/api/chat", question)
    calls = [one for line in got.lines for one in line.get("message", {}).get("tool_calls", ())]
    assert [one["function"]["arguments"] for one in calls] == [call[1]], got.lines[-1]
    assert got.lines[-1]["done"] is True


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_silence_in_the_middle_is_told(wire):
    """What was said stays, then comes one line that says why it ends; never `done`."""
    whole = wire.stream(Said("one two three four five"))
    async with Upstream() as upstream:
        upstream.reply(whole[: len(whole) // 2], then="stall")
        limits = {"first_event_timeout_s": 20, "idle_timeout_s": 0.1}
        config = Config.model_validate(wire.config(upstream.url, streaming=limits))
        async with running(config) as daemon:
            question = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
            got = await ask(daemon.url, "POST", "/api/chat", question)
    assert got.status == 200
    assert "silent for 0.1 s" in got.lines[-1]["error"]
    assert wire.model in got.lines[-1]["error"]
    assert not any(line.get("done") for line in got.lines)
