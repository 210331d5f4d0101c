"""What a provider signed comes back to it with the turn it belongs to, whatever the client has made of that turn."""

import asyncio
import json
from dataclasses import replace

import pytest

from ollama_bridge.chat import ChatRequest, Message, Target
from ollama_bridge.config import Config
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, ToolCall
from ollama_bridge.gateway import assemble
from ollama_bridge.policies.recall import Recall
from ollama_bridge.store.file_depot import FileDepot
from ollama_bridge.vault import Limits, Vault
from running import ask, running
from scripted import ScriptedBackend, collect
from signed import ANTHROPIC, DEEPSEEK, GOOGLE, OPENROUTER, RESPONSES, THINKING, WIRES, Call, Text, Thought
from upstream import Upstream, sse
from wires import WIRES as PLAIN_WIRES
from wires import Said

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("list_files", "read")
]
LIST = Call("call_Zf81kQ0aa", "list_files", {})
READ = Call("call_Yp22mNb3c", "read", {"path": "a b.txt", "lines": 3})
TURN = [
    Thought("I should look. ", "c2lnbmF0dXJlIG9uZQ=="),
    Text(" Let me look.\n", ""),
    Call(LIST.id, LIST.name, {}, "Y2FsbCBzaWduYXR1cmU="),
    READ,
]
ANSWER = [Text("Two files.")]
ASK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is here?"}]


def faithful(lines):
    """The turn with all that the reply said."""
    message = {"role": "assistant", "content": "", "thinking": "", "tool_calls": []}
    for line in lines:
        said = line["message"]
        message["content"] += said["content"]
        message["thinking"] += said.get("thinking", "")
        message["tool_calls"] += said.get("tool_calls", [])
    return message


def without_ids(lines):
    message = faithful(lines)
    message["tool_calls"] = [{"function": call["function"]} for call in message["tool_calls"]]
    return message


def trimmed(lines):
    """Without ids, thinking, and white space around the text."""
    message = without_ids(lines)
    del message["thinking"]
    return {**message, "content": message["content"].strip()}


def renamed(lines):
    """With ids of the client's own making."""
    message = faithful(lines)
    for number, call in enumerate(message["tool_calls"]):
        call["id"] = f"call_{number}"
    return message


def without_content(lines):
    """As LangChain sends a turn that called tools."""
    message = trimmed(lines)
    return {**message, "content": None}


CLIENTS = [faithful, without_ids, trimmed, renamed, without_content]


def results(message):
    """What the tools returned, with ids if the client has them."""
    return [
        {"role": "tool", "content": f"result of {call['function']['name']}"}
        | ({"tool_call_id": call["id"]} if "id" in call else {})
        for call in message["tool_calls"]
    ]


async def said(daemon, messages, **more):
    body = {"model": "m", "messages": messages, "tools": TOOLS, "think": True, **more}
    got = await ask(daemon.url, "POST", "/api/chat", body)
    assert got.status == 200, got.body
    assert got.lines[-1].get("done"), got.lines[-1]
    return got.lines


async def looped(wire, turn, client=faithful, *, config=None, other=None):
    """Ask, let the tools be called, send their results; the second request's body."""
    async with Upstream() as upstream:
        configured = Config.model_validate(config or wire.config(upstream.url))
        upstream.reply(wire.stream(turn))
        upstream.reply(wire.stream(ANSWER))
        async with running(configured) as daemon:
            message = client(await said(daemon, ASK))
            await said(daemon, [*ASK, message, *results(message)], **(other or {}))
        return upstream.requests[1].json


def plain(block):
    """A block without what only its provider reads."""
    return type(block)(**{**vars(block), "signature": ""})


def unsigned(wire, turn):
    """The turn as it is sent when nothing is known of it."""
    return wire.again([plain(block) for block in turn if not isinstance(block, Thought)])


def ids_aside(held):
    """A turn with its calls' ids replaced by their order: a client may have made them anew."""
    number = 0
    for block in held:
        for call in block.get("tool_calls", [block.get("functionCall", block)]):
            for key in ("id", "call_id"):
                if key in call:
                    call[key] = number
                    number += 1
    return held


def text_aside(held):
    """A turn whose text was trimmed or dropped by the client."""
    kept = []
    for block in held:
        for key in ("text", "content"):
            if key in block:
                block[key] = ""
        if block not in ({"type": "text", "text": ""}, {"text": ""}, {"role": "assistant", "content": ""}):
            kept.append(block)
    return kept


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("wire", THINKING, ids=lambda wire: wire.name)
async def test_a_signed_turn_returns_whole(wire, client):
    """Signatures to the byte, each in its place; only what the client itself changed is different."""
    held = wire.held(await looped(wire, TURN, client))
    want = wire.again(TURN)
    if client is faithful:
        assert held == want
    else:
        assert text_aside(ids_aside(held)) == text_aside(ids_aside(want))


MIXED = [
    Thought("First. ", "c2lnLTE="),
    Thought(data="cmVkYWN0ZWQ="),
    Text("Some words."),
    Thought("Second. ", "c2lnLTI="),
    LIST,
    Thought("Third. ", "c2lnLTM="),
    Text("More words."),
    READ,
]


@pytest.mark.parametrize("wire", [ANTHROPIC, RESPONSES], ids=lambda wire: wire.name)
async def test_thinking_between_text_and_calls_stays_between_them(wire):
    """Several blocks in one turn, a redacted one among them, return in their order."""
    assert wire.held(await looped(wire, MIXED)) == wire.again(MIXED)


async def test_gemini_signs_parts_of_every_kind():
    """Text in the middle, the first of two calls, the second not; text that was not signed is not joined to it."""
    turn = [
        Text("a "),
        Text("b ", "c2lnLWI="),
        Text("c"),
        Call("g1", "read", {}, "c2lnLTE="),
        Call("g2", "read", {"n": 1}),
    ]
    assert GOOGLE.held(await looped(GOOGLE, turn)) == GOOGLE.again(turn)


async def test_gemini_signs_an_empty_part_behind_the_last_word():
    """It comes back as it came, in a conversation without any tools."""
    async with Upstream() as upstream, running(Config.model_validate(GOOGLE.config(upstream.url))) as daemon:
        upstream.reply(GOOGLE.stream([Text("Hello."), Text("", "c2lnLWVuZA==")]))
        upstream.reply(GOOGLE.stream(ANSWER))
        message = trimmed(await said(daemon, ASK, tools=[]))
        await said(daemon, [*ASK, message, {"role": "user", "content": "And?"}], tools=[])
    assert GOOGLE.held(upstream.requests[1].json) == [
        {"text": "Hello."},
        {"text": "", "thoughtSignature": "c2lnLWVuZA=="},
    ]


async def test_the_phase_of_a_message_returns():
    """OpenAI wants it on all of the assistant's messages, last answers included; reasoning only where tools follow."""
    turn = [Thought("Hm.", "ZW5j"), Text("I look.", "commentary"), LIST]
    assert RESPONSES.held(await looped(RESPONSES, turn)) == RESPONSES.again(turn)
    async with (
        Upstream() as upstream,
        running(Config.model_validate(RESPONSES.config(upstream.url))) as daemon,
    ):
        upstream.reply(RESPONSES.stream([Thought("Hm.", "ZW5j"), Text("Done.", "final_answer")]))
        message = faithful(await said(daemon, ASK))
        await said(daemon, [*ASK, message, {"role": "user", "content": "And?"}])
    assert RESPONSES.held(upstream.requests[1].json) == [
        {"role": "assistant", "content": "Done.", "phase": "final_answer"}
    ]


@pytest.mark.parametrize("tools", [TOOLS, []])
async def test_encrypted_reasoning_is_asked_for_where_tools_are(tools):
    """It is paid for in bytes, and without tools nobody sends it back."""
    async with (
        Upstream() as upstream,
        running(Config.model_validate(RESPONSES.config(upstream.url))) as daemon,
    ):
        upstream.reply(RESPONSES.stream(ANSWER))
        await said(daemon, ASK, tools=tools)
    assert upstream.requests[0].json.get("include") == (["reasoning.encrypted_content"] if tools else None)


@pytest.mark.parametrize("wire", THINKING, ids=lambda wire: wire.name)
async def test_a_restart_in_between_loses_nothing(wire):
    """What one daemon was told the next one sends."""
    async with Upstream() as upstream:
        config = Config.model_validate(wire.config(upstream.url))
        upstream.reply(wire.stream(TURN))
        upstream.reply(wire.stream(ANSWER))
        async with running(config) as daemon:
            message = without_ids(await said(daemon, ASK))
        async with running(config) as daemon:
            await said(daemon, [*ASK, message, *results(message)])
    assert ids_aside(wire.held(upstream.requests[1].json)) == ids_aside(wire.again(TURN))


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_another_model_gets_nothing_of_it(wire):
    """It could not read what another one sealed, and might refuse it."""
    held = wire.held(await looped(wire, TURN, other={"model": "other"}))
    assert held == unsigned(wire, TURN)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_nothing_is_kept_where_that_is_not_wanted(wire, tmp_path):
    """Neither sent back nor on the disk."""
    async with Upstream() as upstream:
        config = Config.model_validate(wire.config(upstream.url, reasoning={"keep": False}))
        upstream.reply(wire.stream(TURN))
        upstream.reply(wire.stream(ANSWER))
        async with running(config) as daemon:
            assert daemon._gateway.shared.vault is None
            message = faithful(await said(daemon, ASK))
            await said(daemon, [*ASK, message, *results(message)])
    assert wire.held(upstream.requests[1].json) == unsigned(wire, TURN)


async def test_who_seals_nothing_is_not_looked_up():
    """A history of many turns, with a provider of which no reply is sealed, does not even make the vault's file."""
    [wire] = [one for one in PLAIN_WIRES if one.name == "chat"]
    async with Upstream() as upstream, running(Config.model_validate(wire.config(upstream.url))) as daemon:
        upstream.reply(wire.stream(Said(calls=(("list_files", {}),))))
        upstream.reply(wire.stream(Said("Two files.")))
        message = faithful(await said(daemon, ASK))
        await said(daemon, [*ASK, message, *results(message)])
        vault = daemon._gateway.shared.vault
    assert len(upstream.requests) == 2
    assert not vault.place.exists()


@pytest.mark.parametrize("client", [without_ids, renamed])
@pytest.mark.parametrize("wire", THINKING, ids=lambda wire: wire.name)
async def test_conversations_with_the_same_calls_are_told_apart(wire, client):
    """Two clients at once, both begin by `list_files {}`; each turn gets its own signature back."""
    names = ["red", "green"]
    turns = {
        name: [Thought(f"{name}? ", f"c2ln{name}"), Call(f"call_{name}0000", "list_files", {}, f"Y2Fs{name}")]
        for name in names
    }
    asks = {name: [{"role": "user", "content": f"What is {name}?"}] for name in names}
    async with Upstream() as upstream, running(Config.model_validate(wire.config(upstream.url))) as daemon:
        messages = {}
        for name in names:
            upstream.only(wire.stream(turns[name]))
            messages[name] = client(await said(daemon, asks[name]))
        upstream.only(wire.stream(ANSWER))
        for name in names:
            await said(daemon, [*asks[name], messages[name], *results(messages[name])])
    for name, seen in zip(names, upstream.requests[2:], strict=True):
        assert ids_aside(wire.held(seen.json)) == ids_aside(wire.again(turns[name]))


@pytest.mark.parametrize("wire", THINKING, ids=lambda wire: wire.name)
async def test_a_long_loop_returns_every_turn(wire):
    """Five steps with the same call each; the last request holds all five signatures, in order."""
    turns = [
        [Thought(f"Step {n}. ", f"c2lnX{n}=="), Call(f"call_step000{n}", "list_files", {}, f"Y2FsbA{n}=")]
        for n in range(5)
    ]
    async with Upstream() as upstream, running(Config.model_validate(wire.config(upstream.url))) as daemon:
        messages = [*ASK]
        for number, turn in enumerate(turns):
            upstream.only(wire.stream(turn))
            message = without_ids(await said(daemon, messages))
            messages += [message, {"role": "tool", "content": f"{number} files"}]
        upstream.only(wire.stream(ANSWER))
        await said(daemon, messages)
    want = [block for turn in turns for block in wire.again(turn)]
    assert ids_aside(wire.held(upstream.requests[-1].json)) == ids_aside(want)


@pytest.mark.parametrize("client", [faithful, trimmed])
@pytest.mark.parametrize("wire", [DEEPSEEK, OPENROUTER], ids=lambda wire: wire.name)
async def test_an_answer_at_the_end_of_a_loop_returns_with_its_reasoning(wire, client):
    """A turn that calls nothing is wanted back as well where tools have been called before, and only there."""
    turn, last = [Thought("Look. ", "c2ln"), LIST], [Thought("So. ", "c28="), Text("Two files.")]
    async with Upstream() as upstream, running(Config.model_validate(wire.config(upstream.url))) as daemon:
        upstream.reply(wire.stream(turn))
        upstream.reply(wire.stream(last))
        upstream.reply(wire.stream(ANSWER))
        message = faithful(await said(daemon, ASK))
        messages = [*ASK, message, *results(message)]
        messages += [client(await said(daemon, messages)), {"role": "user", "content": "And?"}]
        messages[-2].pop("tool_calls")
        await said(daemon, messages)
    assert wire.held(upstream.requests[2].json) == [*wire.again(turn), *wire.again(last)]


async def test_details_of_every_kind_return_as_they_came():
    """Pieces of one are joined; what is encrypted, of another place or signed already stays on its own."""
    encrypted = {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "format": "o", "index": 0}
    summary = {"type": "reasoning.summary", "summary": "Pa", "id": "rs_1", "index": 0}
    whole = {"type": "reasoning.text", "text": "a", "signature": "s1", "index": 1}
    pieces = [
        summary,
        {**summary, "summary": "ris"},
        encrypted,
        encrypted,
        whole,
        {**whole, "text": "b"},
        {"odd": 1},
    ]
    calling = [{"tool_calls": [{"index": 0, "id": LIST.id, "function": {"name": "read", "arguments": "{}"}}]}]
    deltas = [
        *({"reasoning_details": [piece, "odd"]} for piece in pieces),
        {"reasoning_details": "?"},
        *calling,
    ]
    chunks = [{"choices": [{"delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    async with (
        Upstream() as upstream,
        running(Config.model_validate(OPENROUTER.config(upstream.url))) as daemon,
    ):
        upstream.reply(sse(*map(json.dumps, chunks), "[DONE]"))
        upstream.reply(OPENROUTER.stream(ANSWER))
        message = trimmed(await said(daemon, ASK))
        await said(daemon, [*ASK, message, *results(message)])
    (held,) = OPENROUTER.held(upstream.requests[1].json)
    assert held["reasoning_details"] == [{**summary, "summary": "Paris"}, *pieces[2:]]


@pytest.mark.parametrize(("kind", "unknown"), [("deepseek", ""), ("moonshot", " "), ("groq", None)])
async def test_thinking_that_nobody_has_kept(kind, unknown):
    """Where it is wanted something takes its place; where it is not, nothing is kept, and nothing goes back."""
    wire = replace(DEEPSEEK, kind=kind)
    async with Upstream() as upstream:
        config = Config.model_validate(wire.config(upstream.url, reasoning={"keep": kind == "groq"}))
        upstream.reply(wire.stream(TURN))
        upstream.reply(wire.stream(ANSWER))
        async with running(config) as daemon:
            message = trimmed(await said(daemon, ASK))
            await said(daemon, [*ASK, message, *results(message)])
    assert wire.held(upstream.requests[1].json)[0].get("reasoning_content") == unknown


@pytest.mark.parametrize(
    ("kind", "keeps"), [("deepseek", True), ("zai", True), ("groq", False), ("openai", False)]
)
async def test_a_vault_is_opened_for_vendors_that_want_reasoning(kind, keeps):
    """Of those that are asked over Chat Completions, as their entry says."""
    wire = replace(DEEPSEEK, kind=kind)
    async with Upstream() as upstream:
        config = wire.config(upstream.url)
        config["providers"][kind] |= {"api": "chat", "api_key": "k.test"}
        upstream.reply(wire.stream(TURN))
        async with running(Config.model_validate(config)) as daemon:
            await said(daemon, ASK)
            vault = daemon._gateway.shared.vault
    assert vault.place.exists() == keeps


async def test_thinking_by_budget_stays_on_in_a_loop_that_is_known():
    """Claude 4.5 would refuse it without the thinking that began the loop; later steps have none of their own."""
    turn = [Thought("Look. ", "c2ln"), LIST]
    second = [READ]
    async with Upstream() as upstream:
        wire = ANTHROPIC.config(upstream.url)
        wire["models"][0]["backend_model"] = "claude-haiku-4-5"
        upstream.reply(ANTHROPIC.stream(turn))
        upstream.reply(ANTHROPIC.stream(second))
        upstream.reply(ANTHROPIC.stream(ANSWER))
        async with running(Config.model_validate(wire)) as daemon:
            messages = [*ASK]
            for _ in range(2):
                message = without_ids(await said(daemon, messages))
                messages += [message, *results(message)]
            await said(daemon, messages)
            await said(daemon, messages, think=False)
            unknown = [{"role": "user", "content": "Something else"}, *messages[2:]]
            await said(daemon, unknown)
    bodies = [seen.json for seen in upstream.requests]
    budget = {"type": "enabled", "budget_tokens": 8192}
    assert [body.get("thinking") for body in bodies] == [budget] * 3 + [{"type": "disabled"}, None]
    assert ids_aside(ANTHROPIC.held(bodies[2])) == ids_aside(ANTHROPIC.again([*turn, *second]))
    for body in bodies[3:]:
        assert {block["type"] for block in ANTHROPIC.held(body)} == {"tool_use"}


REFUSAL = (
    b'{"type":"error","error":{"type":"invalid_request_error","message":"Invalid `signature` in block"}}'
)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_what_a_provider_refuses_is_asked_without_and_forgotten(wire):
    """Signatures may be bound to a conversation that the client has changed: the answer comes all the same."""
    async with Upstream() as upstream, running(Config.model_validate(wire.config(upstream.url))) as daemon:
        upstream.reply(wire.stream(TURN))
        upstream.reply(REFUSAL, status=400)
        upstream.reply(wire.stream(ANSWER))
        message = faithful(await said(daemon, ASK))
        history = [*ASK, message, *results(message)]
        assert faithful(await said(daemon, history))["content"] == "Two files."
        await said(daemon, history)
    held = [wire.held(seen.json) for seen in upstream.requests[1:]]
    assert held == [wire.again(TURN), unsigned(wire, TURN), unsigned(wire, TURN)]


async def test_a_refusal_for_another_reason_is_told_and_nothing_is_forgotten():
    """Asked again without them it is refused as well: it was not the signatures."""
    async with (
        Upstream() as upstream,
        running(Config.model_validate(ANTHROPIC.config(upstream.url))) as daemon,
    ):
        upstream.reply(ANTHROPIC.stream(TURN))
        upstream.reply(REFUSAL, status=400)
        upstream.reply(REFUSAL, status=400)
        upstream.reply(ANTHROPIC.stream(ANSWER))
        message = faithful(await said(daemon, ASK))
        history = [*ASK, message, *results(message)]
        refused = await ask(daemon.url, "POST", "/api/chat", {"model": "m", "messages": history})
        assert refused.status == 400
        await said(daemon, history)
    assert ANTHROPIC.held(upstream.requests[-1].json) == ANTHROPIC.again(TURN)


async def test_a_reload_keeps_the_vault_until_its_limits_change():
    """Another model is no reason to forget; the last gateway closes it."""
    config = Config.model_validate({"providers": {"demo": {}}, "models": [{"name": "a", "backend": "demo"}]})
    first = assemble(config)
    second = assemble(config.model_copy(update={"models": ()}), first)
    assert second.shared.vault is first.shared.vault
    await first.retire(second)
    second.shared.vault.put([b"k"], b"v")
    reasoning = config.reasoning.model_copy(update={"max_mb": 1})
    third = assemble(config.model_copy(update={"reasoning": reasoning}), second)
    assert third.shared.vault is not second.shared.vault
    await second.retire(third)
    assert await third.shared.vault.find([b"k"]) == {b"k": b"v"}, "the same file"
    await third.retire()


# ------------------------------------------------------------------------------------- the policy alone

TARGET = Target("p", "m")
QUESTION = Message("user", "What is here?")
SEALED = Finish("tool_calls", sealed=b"opaque")


@pytest.fixture
async def vault():
    opened = Vault(Limits(1024 * 1024, 3600.0))
    yield opened
    await opened.aclose()


async def recalled(vault, turn, messages, *, reply=(SEALED,), before=(QUESTION,), target=TARGET):
    """What is known of `turn` in `messages`, after it was `reply` to `before`."""
    backend = ScriptedBackend([*reply], [Finish()])
    policy = Recall(backend, vault)
    await collect(policy.chat(ChatRequest("m", before, target=TARGET)))
    await collect(policy.chat(ChatRequest("m", (*messages, turn, Message("tool", "r")), target=target)))
    (found,) = [message.sealed for message in backend.asked[1].messages if message.role == "assistant"]
    return found


CALL = ToolCall("toolu_01AbCdEfGh", "read", {"path": "a", "n": 1.0, "why": None, "deep": [{"x": ""}]})
SAME = ToolCall("", "read", {"deep": [{}], "n": 1, "path": "a"})


@pytest.mark.parametrize(
    ("turn", "messages"),
    [
        (Message("assistant", tool_calls=(CALL,)), (QUESTION,)),
        (Message("assistant", tool_calls=(SAME,)), (QUESTION,)),
        (Message("assistant", "\n So:  ", tool_calls=(SAME,)), (QUESTION,)),
        (Message("assistant", "Other words.", tool_calls=(SAME,)), (QUESTION,)),
        (Message("assistant", "So:", tool_calls=(SAME,)), (Message("user", "  What is here?\n"),)),
        (Message("assistant", "So:", tool_calls=(SAME,)), (Message("system", "new"), QUESTION)),
        # The id alone, whatever became of the rest.
        (Message("assistant", tool_calls=(ToolCall(CALL.id, "read", {}),)), (Message("user", "(trimmed)"),)),
    ],
)
async def test_a_turn_is_known_by_what_comes_back(vault, turn, messages):
    """Ids, or else calls and what stood before them; white space, order and empty members do not matter."""
    reply = (ThinkingDelta("hm"), TextDelta(" So"), TextDelta(":\n"), CALL, SEALED)
    assert await recalled(vault, turn, messages, reply=reply) == b"opaque"


@pytest.mark.parametrize(
    ("turn", "messages", "target"),
    [
        (Message("assistant", "So:", tool_calls=(SAME,)), (Message("user", "What is there?"),), TARGET),
        (Message("assistant", "So:", tool_calls=(ToolCall("", "read", {"path": "b"}),)), (QUESTION,), TARGET),
        (
            Message("assistant", "So:", tool_calls=(ToolCall("", "write", SAME.arguments),)),
            (QUESTION,),
            TARGET,
        ),
        (Message("assistant", "So:", tool_calls=(SAME, SAME)), (QUESTION,), TARGET),
        (Message("assistant", "So:"), (QUESTION,), TARGET),
        (Message("assistant", "So:", tool_calls=(CALL,)), (QUESTION,), Target("p", "n")),
        (Message("assistant", "So:", tool_calls=(CALL,)), (QUESTION,), Target("q", "m")),
    ],
)
async def test_another_turn_is_not_taken_for_it(vault, turn, messages, target):
    """Other words before it, other calls, another model or provider."""
    reply = (TextDelta("So:"), CALL, SEALED)
    assert await recalled(vault, turn, messages, reply=reply, target=target) == b""


async def test_ids_that_every_conversation_has_identify_none(vault):
    """`call_0` is no reason to take one turn for another."""
    numbered = ToolCall("call_0", "read", {})
    turn = Message("assistant", tool_calls=(numbered,))
    other = (Message("user", "Another question"),)
    assert await recalled(vault, turn, other, reply=(numbered, SEALED)) == b""


async def test_what_a_client_brings_itself_stays(vault):
    """A surface whose wire carries it knows better."""
    turn = Message("assistant", tool_calls=(CALL,), sealed=b"of the client")
    assert await recalled(vault, turn, (QUESTION,), reply=(CALL, SEALED)) == b"of the client"


async def test_arguments_that_no_json_holds_are_passed_over(vault):
    """A turn that cannot be hashed is simply not known."""
    strange = ToolCall("", "read", {"n": 2**70})
    turn = Message("assistant", tool_calls=(strange,))
    assert await recalled(vault, turn, (QUESTION,), reply=(strange, SEALED)) == b""


async def test_bursts_pass_as_they_are(vault):
    """The same objects in the same order; of a long answer only the beginning is looked at."""

    class Bursts:
        def __init__(self):
            long = [(TextDelta("x" * 50),) for _ in range(200)]
            self.said = [*long, (ThinkingDelta("y"), TextDelta("z")), (CALL,), (SEALED,)]

        async def chat(self, _request):
            for burst in self.said:
                yield burst

    backend = Bursts()
    got = [burst async for burst in Recall(backend, vault).chat(ChatRequest("m", (QUESTION,), target=TARGET))]
    assert all(one is other for one, other in zip(got, backend.said, strict=True))


async def test_a_conversation_that_begins_asks_the_vault_for_nothing(tmp_path):
    """No assistant's turn, no look into the vault: the file is not even made."""
    path = tmp_path / "v" / "vault.sqlite3"
    limits = Limits(1024 * 1024, 3600.0)
    vault = Vault(limits, FileDepot(path, limits, holds="reasoning"))
    messages = (Message("system", "S"), QUESTION)
    await collect(Recall(ScriptedBackend([TextDelta("a"), Finish()]), vault).chat(ChatRequest("m", messages)))
    await vault.aclose()
    assert not path.exists()


async def test_a_client_that_leaves_closes_the_provider(vault):
    """As without the policy: at once."""
    backend = ScriptedBackend([TextDelta("a"), asyncio.CancelledError()])
    reply = Recall(backend, vault).chat(ChatRequest("m", (QUESTION,), target=TARGET))
    await anext(reply)
    await reply.aclose()
    assert backend.closed == 1
