"""`context` of /api/generate: sent back, it makes the model remember, and no server keeps anything."""

import json
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from journal import journal
from offered import generate, offer
from ollama_bridge.chat import Image, Message
from ollama_bridge.config import Config
from ollama_bridge.presets import Preset
from ollama_bridge.surfaces.ollama_context import pack, unpack
from running import ask, running
from upstream import Upstream
from wires import WIRES, Said

TEXT = st.text(max_size=200)
MESSAGES = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), TEXT), min_size=1)


def config(url, wire=WIRES[2], **extra):
    return Config.model_validate(wire.config(url, **extra))


async def say(daemon, prompt, **more):
    got = await ask(daemon.url, "POST", "/api/generate", {"model": "m", "prompt": prompt, **more})
    assert got.status == 200, got.body
    return got.json if more.get("stream") is False else got.lines[-1]


def turns(body):
    """What a Chat Completions request says, in short."""
    return [(message["role"], message["content"]) for message in body["messages"]]


@given(MESSAGES, TEXT)
def test_a_conversation_comes_back_as_it_was(messages, answer):
    """Every text, in numbers that are small and few."""
    context = pack(messages, answer)
    assert unpack(context) == (*messages, Message("assistant", answer))
    assert all(type(number) is int and 0 <= number < 1 << 16 for number in context)
    assert unpack(json.loads(json.dumps(context))) == unpack(context)


@given(MESSAGES, TEXT, st.data())
def test_what_is_broken_is_not_understood_and_no_error(messages, answer, data):
    """One number changed, one missing: nothing is remembered rather than something wrong."""
    context = pack(messages, answer)
    at = data.draw(st.integers(0, len(context) - 1))
    assert unpack(context[:at] + context[at + 1 :]) == ()
    changed = [*context[:at], data.draw(st.integers(-(2**63), 2**63).filter(lambda n: n != context[at]))]
    # The number that says whether the last byte counts may be any but nought.
    assert unpack([*changed, *context[at + 1 :]]) in {(), unpack(context)}


@given(st.lists(st.integers(-(2**31), 2**31), max_size=50))
def test_the_tokens_of_another_server_are_not_understood(tokens):
    """They are numbers, and that is all."""
    assert unpack(tokens) == ()


def forged(text):
    """A context with whatever inside, as only somebody could make it by hand."""
    packed = zlib.compress(text)
    packed += b"\0" * (len(packed) % 2)
    pairs = [int.from_bytes(packed[at : at + 2], "big") for at in range(0, len(packed), 2)]
    return [*pack((Message("user", ""),), "")[:3], *divmod(zlib.crc32(packed), 1 << 16), 0, *pairs]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[",
        b"5",
        b"null",
        b'{"a": 1}',
        b'[["user"]]',
        b'[["user", 5]]',
        b'[["root", "x"]]',
        b'[[["user"], "x"]]',
        b'["us"]',
        b"[" * 100_000,
        b'[["user", "' + b"x" * 100_000_000 + b'"]]',
    ],
    ids=lambda text: text[:12].decode(),
)
def test_a_forged_context_is_not_understood(text):
    """Also when it would become a hundred megabytes."""
    assert unpack(forged(text)) == ()


def test_forging_works():
    """Otherwise the test above would prove nothing."""
    assert unpack(forged(b'[["user", "x"]]')) == (Message("user", "x"),)


@pytest.mark.parametrize("turn", [200, 20_000, 300_000])
def test_a_long_conversation_loses_its_oldest_turns(turn):
    """It stays below 200 kB; the system prompt and the end are kept."""
    words = (zlib.crc32(str(number).encode()) for number in range(1_000_000))
    messages = [Message("system", "Be brief.")]
    for number in range(40_000 // turn + 4):
        text = ""
        while len(text) < turn:
            text += f"{next(words):x} "
        messages += [Message("user", f"{number}"), Message("assistant", text)]
    context = pack([*messages, Message("user", "last")], "answer")
    assert len(json.dumps(context, separators=(",", ":"))) < 200_000
    kept = unpack(context)
    assert kept[0] == messages[0]
    assert kept[-2:] == (Message("user", "last"), Message("assistant", "answer"))
    assert kept[1:] == (*messages, *kept[-2:])[-len(kept) + 1 :]
    assert turn == 200 or len(kept) < len(messages) + 2


def test_what_fits_no_more_is_dropped_and_no_error():
    """An answer alone that is too long leaves no memory at all."""
    import random

    noise = "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9FFF), k=100_000)))
    assert pack((Message("user", "hi"),), noise) == []


def test_images_are_not_kept_and_the_model_is_told():
    """They are large, and were seen."""
    message = Message("user", "What is it?", images=(Image("iVBORw0KGgo=", "image/png"),) * 2)
    first, _ = unpack(pack((message,), "A cat."))
    assert first.images == ()
    assert first.content == "What is it?\n[2 image(s) were shown here and are no longer.]"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_two_turns_across_a_restart(wire, stream):
    """The second daemon knows what the first was told, from the client's numbers alone."""
    async with Upstream() as upstream:
        upstream.reply(wire.stream(Said("Nice to meet you, Ada.", thinking="A name.")))
        upstream.reply(wire.stream(Said("Ada.")))
        async with running(config(upstream.url, wire)) as daemon:
            first = await say(daemon, "I am Ada.", stream=stream, system="Be brief.")
        async with running(config(upstream.url, wire)) as daemon:
            second = await say(daemon, "Who am I?", stream=stream, context=first["context"])
        sent = json.dumps(upstream.requests[1].json)
    positions = [sent.index(words) for words in ("I am Ada.", "Nice to meet you, Ada.", "Who am I?")]
    assert positions == sorted(positions)
    assert sent.count("Be brief.") == 1
    assert [message.content for message in unpack(second["context"])] == [
        "Be brief.",
        "I am Ada.",
        "Nice to meet you, Ada.",
        "Who am I?",
        "Ada.",
    ]


async def test_a_system_prompt_that_is_sent_again_is_said_once():
    """And another one is added, as a real server's template would."""
    wire = WIRES[2]
    async with Upstream() as upstream, running(config(upstream.url)) as daemon:
        upstream.reply(wire.stream(Said("Yes.")))
        first = await say(daemon, "Hi", system="Be brief.")
        await say(daemon, "Again", system="Be brief.", context=first["context"])
        await say(daemon, "Again", system="Be long.", context=first["context"])
    before = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes.")]
    assert turns(upstream.requests[1].json) == [*before, ("user", "Again")]
    said = turns(upstream.requests[2].json)
    assert ("system", "Be long.") in said
    assert [turn for turn in said if turn != ("system", "Be long.")] == [*before, ("user", "Again")]


@pytest.mark.parametrize("context", [[1, 2, 3], [128000, 882, 25] * 1000, [2**62], []])
async def test_the_context_of_another_server_is_left_out_with_one_line(context):
    """A client that moved here from a real Ollama is answered; the log says what happened, not what was said."""
    wire = WIRES[2]
    async with Upstream() as upstream:
        upstream.reply(wire.stream(Said("Hello")))
        with journal() as log:
            async with running(config(upstream.url)) as daemon:
                last = await say(daemon, "Hi", context=context)
    assert turns(upstream.requests[0].json) == [("user", "Hi")]
    assert last["context"]
    dropped = [line for line in log.lines if line["event"].startswith("context dropped")]
    assert len(dropped) == bool(context)
    assert not log.alarming


def test_what_a_model_of_ones_own_begins_with_is_said_once():
    """Its messages and its system prompt are in the context already when the conversation goes on."""
    begin = (Message("user", "Ping"), Message("assistant", "Pong"))
    model = replace(offer("plain", ("completion",)), preset=Preset(system="Be brief.", messages=begin))
    first = generate().request(model)
    assert [message.content for message in first.messages] == ["Be brief.", "Ping", "Pong", "hi"]
    second = generate(prompt="ho", context=pack(first.messages, "hello")).request(model)
    assert second.messages == (*first.messages, Message("assistant", "hello"), Message("user", "ho"))
    foreign = generate(prompt="ho", context=[1, 2, 3]).request(model)
    assert [message.content for message in foreign.messages] == ["Be brief.", "Ping", "Pong", "ho"]


async def test_a_reply_that_stops_early_is_remembered_as_far_as_it_went():
    """What the client saw is what it goes on from."""
    wire = WIRES[2]
    async with Upstream() as upstream, running(config(upstream.url)) as daemon:
        upstream.reply(wire.stream(Said("One two three", ended="length")))
        last = await say(daemon, "Count", options={"num_predict": 3})
    assert last["done_reason"] == "length"
    assert unpack(last["context"])[-1] == Message("assistant", "One two three")


async def test_raw_replies_have_none():
    """And a raw request may not bring any."""
    wire = WIRES[2]
    async with Upstream() as upstream, running(config(upstream.url)) as daemon:
        upstream.reply(wire.stream(Said("Hello")))
        assert "context" not in await say(daemon, "Hi", raw=True)
        body = {"model": "m", "prompt": "Hi", "raw": True, "context": [1]}
        refused = await ask(daemon.url, "POST", "/api/generate", body)
    assert refused.status == 400
    assert refused.json == {"error": "raw mode does not support template, system, or context"}
