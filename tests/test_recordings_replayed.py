"""Every recorded reply of every provider, through the real SDK and the running daemon, read back by its clients.

`pytest tests/test_recordings_replayed.py -s` prints how many of which provider and API.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

import recorded
from readback import Answer, ways
from recorded import Recording, oracle, recordings, wire_of
from running import running
from upstream import Upstream

ALL = 267
REPLAYED = 266
"""Of all; it may not fall."""

BY_WIRE: dict[str, list[Recording]] = {}
for found in recordings():
    if found.is_answer:
        BY_WIRE.setdefault(f"{found.provider} {wire_of(found.api)}", []).append(found)

pytestmark = pytest.mark.skipif(not recorded.IS_HERE, reason="../shared/recordings is not here")


@pytest.mark.parametrize("wire", BY_WIRE)
async def test_a_recorded_reply_is_what_its_clients_get(wire, subtests):
    """Raw bytes, split anywhere, mean to the clients of both dialects what an independent reading says they mean."""
    async with (
        Upstream() as upstream,
        running(recorded.config(BY_WIRE[wire], upstream.url)) as daemon,
    ):
        for one in (turn for found in BY_WIRE[wire] for turn in found.turns):
            for way, asked in ways(one).items():
                with subtests.test(one.name, way=way):
                    one.serve(upstream, way)
                    before = len(upstream.requests)
                    compare(one, await asked(daemon.url, one.name), way)
                    assert len(upstream.requests) == before + 1 + one.pauses


HALVES = {(one.api, one.content["stream"]): one for one in reversed(recordings()) if one.is_plain}
"""The first plain text of each API, streamed and not."""


@pytest.mark.parametrize("one", HALVES.values(), ids=lambda one: one.name)
async def test_half_of_a_recorded_reply_is_an_error(one, subtests):
    """Cut anywhere before its end, a reply never ends in `done`, nor in `[DONE]`."""
    body = one.response["body"].encode()
    async with Upstream() as upstream, running(recorded.config([one], upstream.url)) as daemon:
        for at in range(0, len(body) * 3 // 4, max(len(body) // 8, 1)):
            for way, asked in ways(one).items():
                with subtests.test(at=at, way=way):
                    one.serve(upstream, way, body[:at])
                    answer = await asked(daemon.url, one.name)
                    assert one.model in answer.error
                    assert answer.finish is None


def test_no_recording_is_left_out():
    """All are replayed but those of a short table, and never fewer than before."""
    rows = Counter((one.provider, one.api, bool(one.excuse)) for one in recordings())
    for (provider, api, is_excused), count in sorted(rows.items()):
        print(
            f"{provider:15} {api:30} {count:4} {'not replayed: ' + recorded.NOT_THROUGH[api] if is_excused else ''}"
        )
    replayed = sum(not one.excuse for one in recordings())
    print(f"{replayed} of {len(recordings())} recordings are replayed")
    assert len(recordings()) == ALL
    assert replayed >= REPLAYED
    # The table holds no row more than it needs, and excuses no error.
    excused = [one for one in recordings() if one.excuse]
    assert {one.api for one in excused} == set(recorded.NOT_THROUGH)
    assert not any(one.fails or one.is_answer for one in excused)


# ---------------------------------------------------------------------------------------------- what it should be


def tokens(api: str, usage: Mapping[str, Any]) -> tuple[int, int]:
    """Of the prompt and of the answer, cached and reasoning ones included, as each API counts them."""

    def total(*keys: str, of: Mapping[str, Any] = usage) -> int:
        return sum(of.get(key) or 0 for key in keys)

    match wire_of(api):
        case "anthropic":
            prompt = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
            return total(*prompt), total("output_tokens")
        case "gemini":
            prompt = ("promptTokenCount", "toolUsePromptTokenCount")
            return total(*prompt), total("candidatesTokenCount", "thoughtsTokenCount")
        case "cohere":
            counts = usage["tokens"]  # what is billed is without Cohere's own part of the prompt
            return total("input_tokens", "image_tokens", of=counts), total("output_tokens", of=counts)
        case "ollama":
            return total("prompt_eval_count"), total("eval_count")
        case "openai.responses":
            return total("input_tokens"), total("output_tokens")
    asked, answered = total("prompt_tokens"), total("completion_tokens")
    details = usage.get("completion_tokens_details") or {}
    if total("total_tokens") == asked + answered + total("reasoning_tokens", of=details):
        answered += total("reasoning_tokens", of=details)  # xAI counts reasoning beside the completion
    return asked, answered


REFUSALS = {"refusal", "content_filter", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "ERROR_TOXIC"}


def compare(one: Recording, answer: Answer, way: str) -> None:
    """The answer is what it should be."""
    if way.endswith("count_tokens"):
        counted = json.loads(one.response["body"]).get("totalTokens")
        assert (
            answer.asked == counted if counted else answer.asked > 0
        )  # where nobody counts, it is estimated
    elif one.fails:
        compare_error(one, answer, way)
    elif answer.vectors:
        compare_vectors(one, answer, way)
    else:
        compare_reply(one, answer, way)


def compare_reply(one: Recording, answer: Answer, way: str) -> None:
    """Text, thinking, tool calls, finish and usage are the oracle's, but for what is explained here."""
    facts, is_completion = one.facts, "completions" in way and "chat" not in way
    is_refusal = facts["finish"] in REFUSALS
    assert not answer.error
    if is_refusal and not facts["text"]:
        assert answer.text  # a client that knows no refusals would show an empty answer
    else:
        refusal = "" if is_refusal else facts["refusal"]
        assert answer.text == facts["text"] + refusal
    if not is_completion:  # a wire without thinking and tool calls
        # The oracle joins the parts of a summary without the blank line that stands between them.
        assert answer.thinking.replace("\n\n", "") == facts["thinking"].replace("\n\n", "")
        # Arguments that are no JSON are half of them, of a call that a token limit cut off: it is not to be called.
        called = [tool for tool in facts["tools"] if not isinstance(tool["args"], str)]
        assert answer.calls == [{"name": tool["name"], "args": tool["args"] or {}} for tool in called]
    assert answer.finish == expected_finish(facts, way, has_calls=bool(answer.calls))
    if facts["usage"]:
        asked, answered = tokens(one.api, facts["usage"])
        # Ollama's clients take no zero for a number: what the provider does not tell is estimated, or left out.
        assert answer.asked == asked or not asked
        assert answer.answered == answered or not answered
        if answer.cached is not None:
            # The oracle looks for Cohere's where others have theirs.
            assert answer.cached == (facts["cached"] or facts["usage"].get("cached_tokens") or 0)


def expected_finish(facts: Mapping[str, Any], way: str, *, has_calls: bool) -> str:
    """The word of the client's wire; a reply that says `[DONE]` but not why has stopped."""
    if facts["finish"] in oracle().TRUNC:
        return "length"
    if "/v1/" not in way:
        return "stop"  # Ollama has no word for calls and refusals
    if facts["finish"] in REFUSALS or facts["refusal"] or facts["blocked"]:
        return "content_filter"
    return "tool_calls" if has_calls else "stop"


STATUSES = {
    400: 400,
    401: 502,
    402: 429,
    403: 502,
    404: 404,
    413: 400,
    429: 429,
    500: 502,
    503: 503,
    529: 503,
}
"""A provider's status to ours; of the error alone, where nothing was said before it."""


def compare_error(one: Recording, answer: Answer, way: str) -> None:
    """It names provider and model, has a status that tells who is at fault, and the time to wait, if there is one."""
    assert answer.finish is None
    own_words = wire_of(one.api) == "ollama" and way.startswith("/api/") and one.status != 401
    if own_words:  # what a real Ollama says comes as it is, but for a key of ours that it refuses
        assert answer.error in one.response["body"]
        assert answer.reply.status == (one.status if one.is_error else 500)
        return
    assert answer.error.startswith(f"{one.provider}-{wire_of(one.api)}: model '{one.model}': ")
    said = one.facts["text"] + one.facts["thinking"]
    if one.is_error:
        refused_key = "API_KEY_INVALID" in one.response["body"]  # Google says 400, as for any bad argument
        assert answer.reply.status == STATUSES[401 if refused_key else one.status]
        told = one.response["headers"].get("retry-after")
        if told is not None:
            assert answer.reply.headers["Retry-After"] == str(math.ceil(float(told)))
    elif said and "streamed" in way:
        assert answer.reply.status == 200
        assert answer.text + answer.thinking == said
    else:
        assert answer.reply.status in {400, 429, 502, 503, 504}


def compare_vectors(one: Recording, answer: Answer, way: str) -> None:
    """The directions are those that were recorded: Ollama's clients are promised vectors of length one, but by the
    older route, by which a real Ollama's pass as they are.
    """
    sent = json.loads(one.response["body"])
    vectors = (
        sent.get("embeddings")
        or [entry["embedding"] for entry in sent.get("data", ())]
        or [sent["embedding"]]
    )
    assert len(answer.vectors) == len(vectors)
    for got, want in zip(answer.vectors, vectors, strict=True):
        length = 1 if way == "/api/embeddings" else math.hypot(*want)
        assert got == [pytest.approx(number / length) for number in want]
