"""An answer that breaks off is gone on with, through every SDK; where it cannot be, its failure is told."""

import json
from dataclasses import replace

import pytest

from journal import journal
from ollama_bridge.backends.sdk import encode
from ollama_bridge.catalog import ModelConfig, complete
from ollama_bridge.chat import ChatRequest, Infill, Message, Tool
from ollama_bridge.config import Config
from ollama_bridge.errors import RateLimited, UpstreamBroken, UpstreamRejected, UpstreamUnreachable
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_bridge.history import CONTINUE
from ollama_bridge.registry import ModelRegistry
from running import ask, running
from scripted import ScriptedBackend, collect
from upstream import Upstream
from wires import WIRES, Said

WORDS = "one two three four five six seven eight nine ten"
BEGUN = "one two three f"
SPACED = "one two three four "  # where the cut falls behind white space

EXACT = replace(WIRES[0], model="claude-haiku-4-5")
"""Takes the beginning of its own answer, and goes on to the letter."""

FAULTS = {
    "end": {"then": "end"},
    "cut": {"then": "cut"},
    "reset": {"then": "reset"},
    "stall": {"then": "stall"},
    "malformed": {"more": b'data: {"type": broken\n\n'},
    "odd": {"more": b"data: [1, 2]\n\n"},
}


def part(wire, text, more=b""):
    """The stream of an answer up to where `text` has been said, and perhaps what breaks it."""
    piece = json.dumps(text[-(len(text) % 5 or 5) :])[1:-1].encode()
    return until(wire, Said(text), piece) + more


def until(wire, said, mark):
    """The stream of an answer up to and including the last event that holds `mark`."""
    events = [block + b"\n\n" for block in wire.stream(said).split(b"\n\n") if block]
    last = max(at for at, event in enumerate(events) if mark in event)
    return b"".join(events[: last + 1])


def configuration(wire, url, **model):
    made = wire.config(url, streaming={"idle_timeout_s": 0.3})
    made["models"][0] |= model
    return Config.model_validate(made)


async def exchange(wire, upstream, streamed=True, model=None, **question):
    """What a client of /api/chat gets."""
    body = {"model": "m", "messages": [{"role": "user", "content": "count"}], "stream": streamed, **question}
    with journal() as written:
        async with running(configuration(wire, upstream.url, **(model or {}))) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", body)
    assert written.alarming == []
    return got, [line for line in written.lines if line["event"].startswith("an answer broke off")]


def text_of(lines):
    return "".join(line["message"]["content"] for line in lines)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("wire", [EXACT, *WIRES[1:]], ids=lambda wire: wire.name)
async def test_the_client_sees_one_whole_answer(wire, fault):
    """Wherever and however it broke: by itself where the joint is exact, else where the operator wants it."""
    how = FAULTS[fault]
    async with Upstream() as upstream:
        upstream.reply(part(wire, BEGUN, how.get("more", b"")), then=how.get("then", "end"))
        upstream.reply(wire.stream(Said(WORDS.removeprefix(BEGUN))))
        got, told = await exchange(wire, upstream, model={} if wire is EXACT else {"resume": True})
        *lines, last = got.lines
        assert text_of(got.lines) == WORDS
        assert (last["done"], last["done_reason"], "answered_by" in last) == (True, "stop", False)
        assert not any(line["done"] for line in lines)
        # 15 characters were delivered: 4 tokens by our estimate, and 7 came after them.
        assert (last["prompt_eval_count"], last["eval_count"]) == (11 - 4, 4 + 7)
        assert len(upstream.requests) == 2
    [line] = told
    assert (line["level"], line["provider"], line["model"]) == ("warning", wire.key, wire.model)


GIVEN = {
    "anthropic": {
        "model": "claude-haiku-4-5",
        "max_tokens": 96,
        "stream": True,
        "thinking": {"type": "disabled"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "count"}]},
            {"role": "assistant", "content": [{"type": "text", "text": SPACED.rstrip()}]},
        ],
    },
    "chat": {
        "model": "acme-1",
        "messages": [
            {"role": "user", "content": "count"},
            {"role": "assistant", "content": SPACED},
            {"role": "user", "content": CONTINUE},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 95,
        "reasoning_effort": "none",
    },
    "responses": {
        "model": "gpt-5.4",
        "input": [
            {"role": "user", "content": "count"},
            {"role": "assistant", "content": SPACED},
            {"role": "user", "content": CONTINUE},
        ],
        "stream": True,
        "store": False,
        "max_output_tokens": 95,
        "reasoning": {"effort": "none"},
    },
    "google": {
        "contents": [
            {"role": "user", "parts": [{"text": "count"}]},
            {"role": "model", "parts": [{"text": SPACED}]},
            {"role": "user", "parts": [{"text": CONTINUE}]},
        ],
        "generationConfig": {
            "maxOutputTokens": 95,
            "thinkingConfig": {"includeThoughts": False, "thinkingBudget": 0},
        },
    },
}


@pytest.mark.parametrize("wire", [EXACT, *WIRES[1:]], ids=lambda wire: wire.name)
async def test_what_is_asked_for_the_rest(wire):
    """The part that was delivered as the assistant's own, what is left of the limit, and no thinking again."""
    async with Upstream() as upstream:
        upstream.reply(part(wire, SPACED), then="cut")
        rest = WORDS.removeprefix(SPACED)
        upstream.reply(wire.stream(Said(f" {rest}" if wire is EXACT else rest)))
        got, _ = await exchange(
            wire,
            upstream,
            model={} if wire is EXACT else {"resume": True},
            options={"num_predict": 100},
            think=True if wire is EXACT else None,
        )
        assert text_of(got.lines) == WORDS
        given = GIVEN[wire.name]
        if wire is EXACT:
            given = {**given, "max_tokens": 95}
        assert upstream.requests[1].body == encode(given)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("wire", [EXACT, *WIRES[1:]], ids=lambda wire: wire.name)
async def test_the_switch_is_the_operators(wire, streamed):
    """Off, a stream ends with the error line; an answer that nobody has seen yet is whole all the same."""
    async with Upstream() as upstream:
        upstream.reply(part(wire, BEGUN), then="reset")
        upstream.reply(wire.stream(Said(WORDS)))
        got, told = await exchange(wire, upstream, streamed, {"resume": False})
        if streamed:
            *lines, last = got.lines
            assert (text_of(lines), list(last), told) == (BEGUN, ["error"], [])
            assert len(upstream.requests) == 1
        else:
            assert (text_of([got.json]), got.json["eval_count"]) == (WORDS, 7)
            assert upstream.requests[0].body == upstream.requests[1].body
            assert [line["event"] for line in told] == ["an answer broke off and is begun anew"]


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_where_the_joint_may_show_nothing_is_joined_unasked(wire):
    """Models that do not go on to the letter are off by default: the clear error line."""
    async with Upstream() as upstream:
        upstream.reply(part(wire, BEGUN), then="cut")
        got, told = await exchange(wire, upstream)
        assert (list(got.lines[-1]), told, len(upstream.requests)) == (["error"], [], 1)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


ARGUMENTS = {
    "anthropic": b"input_json_delta",
    "chat": b'"tool_calls": [',
    "responses": b"function_call_arguments.delta",
    "google": b"functionCall",  # whole
}


@pytest.mark.parametrize("wire", [EXACT, *WIRES[1:]], ids=lambda wire: wire.name)
async def test_a_turn_that_calls_tools_is_not_gone_on_with(wire):
    """Not once the arguments of a call have begun; not streamed it is begun anew."""
    said = Said(WORDS, calls=(("f", {"x": "a long argument in pieces"}),))
    broken = until(wire, said, ARGUMENTS[wire.name])
    async with Upstream() as upstream:
        upstream.reply(broken, then="cut")
        upstream.reply(broken, then="cut")
        upstream.reply(wire.stream(said))
        got, told = await exchange(wire, upstream, model={"resume": True}, tools=[TOOL])
        *lines, last = got.lines
        assert (text_of(lines), list(last), told) == (WORDS, ["error"], [])
        assert len(upstream.requests) == 1
        got, _ = await exchange(wire, upstream, False, {"resume": True}, tools=[TOOL])
        [call] = got.json["message"]["tool_calls"]
        assert (call["function"]["arguments"], got.json["message"]["content"]) == (said.calls[0][1], WORDS)


@pytest.mark.parametrize("streamed", [True, False])
async def test_another_model_goes_on_when_the_first_is_gone(streamed):
    """It is given what was delivered, in its own way, and named in the end."""
    other = WIRES[2]
    async with Upstream() as upstream, Upstream() as stand_in:
        upstream.reply(part(EXACT, BEGUN), then="cut")
        upstream.reply(b'{"type":"error","error":{"type":"overloaded_error"}}', status=529)
        stand_in.reply(other.stream(Said(WORDS.removeprefix(BEGUN))))
        made = EXACT.config(upstream.url)
        made["providers"] |= other.config(stand_in.url)["providers"]
        made["models"] = [
            {**made["models"][0], "resume": True, "fallbacks": ["n"]},
            {**other.config("")["models"][0], "name": "n"},
        ]
        question = {"model": "m", "messages": [{"role": "user", "content": "count"}], "stream": streamed}
        async with running(Config.model_validate(made)) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", question)
        lines = got.lines if streamed else [got.json]
        if streamed:
            assert text_of(lines) == WORDS
            assert stand_in.requests[0].json["messages"][1:] == [
                {"role": "assistant", "content": BEGUN},
                {"role": "user", "content": CONTINUE},
            ]
        assert len(stand_in.requests) == (1 if streamed else 0)
    if streamed:
        assert lines[-1]["answered_by"] == "n:latest"
    else:
        assert "overloaded" not in str(lines)  # what broke off is told, not who did not go on
        assert list(lines[-1]) == ["error"]


# ------------------------------------------------------------------------------------------ above the seam

QUESTION = ChatRequest("m", (Message("user", "count"),))
CUT = UpstreamBroken("cut", provider="p", model="m")


def registry(*scripts, **model):
    backend = ScriptedBackend(*scripts)
    config = ModelConfig.model_validate(
        {"name": "m", "backend": "p", "backend_model": "claude-haiku-4-5", **model}
    )
    return ModelRegistry({"p": backend}, [complete(config, kind="anthropic")]), backend


def said(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    ("request_", "delivered"),
    [
        (QUESTION, [ThinkingDelta("hm")]),
        (QUESTION, [TextDelta("\n ")]),
        (QUESTION, [TextDelta("so"), ToolCall("1", "f")]),
        (replace(QUESTION, format="json"), [TextDelta('{"a')]),
        (replace(QUESTION, format={"type": "object"}), [TextDelta('{"a')]),
        (replace(QUESTION, logprobs=True), [TextDelta("so")]),
        (replace(QUESTION, messages=(), infill=Infill("a", "b")), [TextDelta("so")]),
    ],
)
async def test_what_is_not_gone_on_with(request_, delivered):
    """Its failure is told to who has seen a part of it; to who has not, the answer is given anew."""
    whole = [TextDelta("all of it"), Finish()]
    models, backend = registry([*delivered, CUT], whole)
    with pytest.raises(UpstreamBroken, match="cut"):
        await collect(models.chat(request_))
    assert len(backend.asked) == 1
    models, backend = registry([*delivered, CUT], whole)
    assert await collect(models.chat(replace(request_, stream=False))) == whole
    assert backend.asked[0].messages == backend.asked[1].messages


@pytest.mark.parametrize("streamed", [True, False])
async def test_attempts_are_bounded(streamed):
    """After the third time that it broke off, that is told; each time what there was is kept."""
    models, backend = registry(
        [TextDelta("one "), CUT], [TextDelta(" two "), CUT], [TextDelta(" three"), CUT]
    )
    heard = []

    async def listen():
        async for burst in models.chat(replace(QUESTION, stream=streamed)):
            heard.extend(burst)

    with pytest.raises(UpstreamBroken, match="cut"):
        await listen()
    assert said(heard) == ("one two three" if streamed else "")
    assert [asked.messages[1:] for asked in backend.asked] == [
        (),
        (Message("assistant", "one"),),
        (Message("assistant", "one two"),),
    ]


@pytest.mark.parametrize(
    "failure",
    [
        UpstreamRejected("policy", provider="p", model="m"),
        RateLimited("budget"),
    ],
)
async def test_what_was_refused_is_not_asked_again(failure):
    models, backend = registry([TextDelta("one"), failure])
    with pytest.raises(type(failure)):
        await collect(models.chat(QUESTION))
    assert len(backend.asked) == 1


async def test_a_continuation_that_fails_before_it_begins_leaves_the_first_failure():
    """What the client is told is what broke its answer."""
    later = UpstreamUnreachable("gone", provider="p", model="m")
    models, backend = registry([TextDelta("one"), CUT], [later])
    with pytest.raises(UpstreamBroken, match="cut"):
        await collect(models.chat(QUESTION))
    assert len(backend.asked) == 2


async def test_thoughts_do_not_stand_in_the_middle_of_an_answer_and_all_tokens_are_told():
    """A continuation's thinking is left out, its calls are not; the prompt counts once."""
    usage = Usage(input_tokens=110, output_tokens=30, cached_read_tokens=109, reasoning_tokens=20)
    models, _ = registry(
        [ThinkingDelta("x" * 8), TextDelta("y" * 40), CUT],
        [ThinkingDelta("hm"), TextDelta("y" * 4), TextDelta("z"), ToolCall("1", "f"), Finish("tool_calls", usage)],
    )  # fmt: skip
    events = await collect(models.chat(replace(QUESTION, tools=(Tool("f"),))))
    assert said(events) == "y" * 44 + "z"
    assert [event for event in events if isinstance(event, ThinkingDelta)] == [ThinkingDelta("x" * 8)]
    told = Usage(input_tokens=100, output_tokens=42, cached_read_tokens=100, reasoning_tokens=22)
    assert events[-2:] == [ToolCall("1", "f"), Finish("tool_calls", told)]


async def test_an_answer_that_the_client_began_is_still_one_message():
    """The part that was delivered belongs behind the client's own beginning."""
    models, backend = registry([TextDelta("two "), CUT], [TextDelta(" three"), Finish()])
    request = replace(QUESTION, messages=(*QUESTION.messages, Message("assistant", "one ")))
    assert said(await collect(models.chat(request))) == "two three"
    assert backend.asked[1].messages == (*QUESTION.messages, Message("assistant", "one two"))


async def test_a_client_that_leaves_closes_the_continuation():
    models, backend = registry([TextDelta("one"), CUT], [TextDelta(" two"), TextDelta(" three"), Finish()])
    reply = models.chat(QUESTION)
    assert [said(await anext(reply)) for _ in range(2)] == ["one", " two"]
    await reply.aclose()
    assert backend.closed == len(backend.asked) == 2


async def test_progress_reaches_who_counts_further_out():
    """Of what is held back at the joint too: silence is counted from there."""
    moved = []
    models, _ = registry(
        [TextDelta("one two"), CUT], [TextDelta(" "), TextDelta(" "), TextDelta("x"), Finish()]
    )
    await collect(models.chat(replace(QUESTION, progress=lambda: moved.append(1))))
    assert moved
