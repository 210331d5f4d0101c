"""The prompt cache of Claude, marked by the bridge: what it costs, and what it does not."""

import json
import re
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from anthropic_asking import RULES, asking, block, reply, stop, text
from claude_cache import CachingClaude, Clock, marks_of, without_marks
from ollama_bridge.backends import ProviderSettings, anthropic_cache, openai
from ollama_bridge.backends.anthropic import AnthropicBackend
from ollama_bridge.backends.anthropic_request import prepare
from ollama_bridge.backends.prefix_tracker import Plan
from ollama_bridge.chat import Image, Message, Tool
from ollama_bridge.config import Config
from ollama_bridge.events import Finish, ToolCall
from running import ask, running
from upstream import Upstream
from wires import WIRES, Said

LONG = "You are a coding agent. " * 300  # about 1 800 tokens
TOOLS = (
    Tool("read", "Reads a file. " * 400, {"type": "object", "properties": {"path": {"type": "string"}}}),
)


# ---------------------------------------------------------------------------- through the daemon, over Ollama's wire


def config(url, **model):
    return Config.model_validate(
        {
            "server": {"port": 0},
            "providers": {"anthropic": {"api_key": "k", "base_url": url}},
            "models": [
                {"name": "m", "backend": "anthropic", "backend_model": "claude-sonnet-4-5", **model},
            ],
        }
    )


@asynccontextmanager
async def bridged(claude, **model):
    async with Upstream(claude) as upstream, running(config(upstream.url, **model)) as daemon:
        yield daemon


def reads(number, _body):
    """Thinks, and wants a file read."""
    thought = [
        {"type": "thinking_delta", "thinking": f"Thought {number}."},
        {"type": "signature_delta", "signature": f"signature-{number}"},
    ]
    arguments = {"type": "input_json_delta", "partial_json": json.dumps({"path": f"{number}.py"})}
    return [
        *block(0, "thinking", *thought, thinking="", signature=""),
        *text(1, f"I read file {number}."),
        *block(2, "tool_use", arguments, id=f"toolu_{number:08}abc", name="read", input={}),
        *stop("tool_use"),
    ]


async def session(daemon, turns=10, **extra):
    """An agent that works through a task, as Ollama's clients do: no ids, the whole history every time."""
    history = [
        {"role": "system", "content": LONG},
        {"role": "user", "content": "Make the tests pass. " * 20},
    ]
    tools = [
        {
            "type": "function",
            "function": {"name": t.name, "description": t.description, "parameters": t.parameters},
        }
        for t in TOOLS
    ]
    for turn in range(turns):
        body = {"model": "m", "messages": history, "tools": tools, "stream": False, **extra}
        got = await ask(daemon.url, "POST", "/api/chat", body)
        assert got.status == 200, got.body
        said = got.json["message"]
        said.pop("thinking", None)
        for call in said.get("tool_calls", ()):
            call.pop("id", None)
        history += [said, {"role": "tool", "tool_name": "read", "content": f"line {turn}\n" * 200}]


@pytest.mark.parametrize("think", [False, True])
async def test_an_agents_session_reads_all_but_its_newest_turn(think):
    """Each request finds all of the one before it in the cache, signed thinking and made-up ids included."""
    claude = CachingClaude(time.monotonic, says=reads)
    async with bridged(claude) as daemon:
        await session(daemon, think=think)
    bills = claude.bills
    assert len(bills) == 10
    assert bills[0].read == 0
    assert [bill.read for bill in bills[1:]] == [bill.all for bill in bills[:-1]]
    assert {bill.plain for bill in bills} == {0}
    assert max(bill.marks for bill in bills) == 4
    assert sum(bill.price for bill in bills) < sum(bill.all for bill in bills) / 3
    held = json.dumps(claude.bodies[-1])
    assert ("signature-9" in held) is think


async def test_the_ledger_learns_what_was_read_and_written():
    """The tokens of the cache reach the client of /v1/messages, who is the one that can show them."""
    claude = CachingClaude(time.monotonic)
    body = {"model": "m", "max_tokens": 9, "system": LONG, "messages": [{"role": "user", "content": "Hello"}]}
    async with bridged(claude, prompt_cache=True) as daemon:
        first = (await ask(daemon.url, "POST", "/v1/messages", body)).json["usage"]
        second = (await ask(daemon.url, "POST", "/v1/messages", body)).json["usage"]
    assert (
        first["cache_creation_input_tokens"]
        == second["cache_read_input_tokens"]
        == claude.bills[0].wrote
        > 1024
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/api/chat",
            {"messages": [{"role": "system", "content": LONG}, {"role": "user", "content": "Name it."}]},
        ),
        ("/api/generate", {"system": LONG, "prompt": "Write a commit message."}),
        ("/api/generate", {"prompt": LONG, "suffix": LONG}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": LONG}]}),
    ],
)
async def test_who_asks_once_writes_nothing(path, body):
    """Titles, commit messages and gaps in code are asked once: nobody would read what was written for them."""
    claude = CachingClaude(time.monotonic)
    async with bridged(claude) as daemon:
        got = await ask(daemon.url, "POST", path, {"model": "m", "stream": False, **body})
    assert got.status == 200
    assert [bill.marks for bill in claude.bills] == [0]


@pytest.mark.parametrize("switch", [None, True])
async def test_a_clients_own_marks_are_left_as_they_are(switch):
    """Who says what is to be cached knows better: nothing is added."""
    claude = CachingClaude(time.monotonic)
    mark = {"type": "ephemeral", "ttl": "1h"}
    body = {
        "model": "m",
        "max_tokens": 9,
        "system": [{"type": "text", "text": LONG, "cache_control": mark}],
        "messages": [
            {"role": "user", "content": LONG},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "Go on."},
        ],
    }
    async with bridged(claude, prompt_cache=switch) as daemon:
        await ask(daemon.url, "POST", "/v1/messages", body)
    assert [one["cache_control"] for one in marks_of(claude.bodies[0])] == [mark]
    assert claude.bodies[0]["system"][0]["cache_control"] == mark


async def test_a_model_that_is_not_to_be_cached_never_is():
    """`prompt_cache: false` goes before what clients want."""
    claude = CachingClaude(time.monotonic, says=reads)
    async with bridged(claude, prompt_cache=False) as daemon:
        await session(daemon, turns=3)
        marked = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
        body = {
            "model": "m",
            "max_tokens": 9,
            "system": marked,
            "messages": [{"role": "user", "content": "Hi"}],
        }
        await ask(daemon.url, "POST", "/v1/messages", body)
    assert [bill.marks for bill in claude.bills] == [0, 0, 0, 0]


async def test_a_model_that_is_always_to_be_cached_always_is():
    """`prompt_cache: true` marks even a single question, if it is long enough."""
    claude = CachingClaude(time.monotonic)
    async with bridged(claude, prompt_cache=True) as daemon:
        for system in (LONG, "Be brief."):
            said = [{"role": "system", "content": system}, {"role": "user", "content": "Hello"}]
            await ask(daemon.url, "POST", "/api/chat", {"model": "m", "messages": said, "stream": False})
    assert [bill.wrote > 0 for bill in claude.bills] == [True, False]
    assert [bill.marks for bill in claude.bills] == [2, 0]


# ----------------------------------------------------------------------------- through the SDK, by a clock of our own


@asynccontextmanager
async def asked(least=1024, says=None):
    """A backend and its Claude, whose clock stands still until it is told otherwise."""
    clock = Clock()
    claude = CachingClaude(clock, least, **({"says": says} if says else {}))
    async with Upstream(claude) as upstream:
        backend = AnthropicBackend(ProviderSettings("claude", "anthropic", ("k",), upstream.url), now_s=clock)

        async def turn(*messages, after_s=0.0, **fields):
            clock.sleep(after_s)
            finish = (await reply(backend, asking(*messages, **fields)))[-1]
            assert isinstance(finish, Finish)
            bill = claude.bills[-1]
            assert finish.usage.cached_hour_tokens == bill.wrote_hour
            return bill

        yield turn, claude
        await backend.aclose()


def conversation(turns, *, system=LONG, first="Hello"):
    """A system prompt, and so many turns of which the last waits for its answer."""
    said = [Message("system", system)] if system else []
    for turn in range(turns):
        said += [Message("user", f"{first} {turn}. " * 30), Message("assistant", f"Yes {turn}. " * 30)]
    return said[:-1]


def lives(body):
    return [one["cache_control"].get("ttl", "5m") for one in marks_of(body)]


async def test_turns_close_together_are_kept_for_minutes():
    """Whose turns come every minute pays for no longer life."""
    async with asked() as (turn, claude):
        for number in range(1, 6):
            await turn(*conversation(number), tools=TOOLS, after_s=60)
    assert {ttl for body in claude.bodies for ttl in lives(body)} == {"5m"}
    assert all(bill.read for bill in claude.bills[1:])


async def test_turns_far_apart_are_kept_for_an_hour():
    """Whose turns come every ten minutes writes for an hour from the second on, and reads from the third on."""
    async with asked() as (turn, claude):
        for number in range(1, 11):
            await turn(*conversation(number), tools=TOOLS, after_s=600)
    bills = claude.bills
    assert set(lives(claude.bodies[0])) == {"5m"}
    assert set(lives(claude.bodies[1])) == {"1h"}
    assert [bill.read for bill in bills[2:]] == [bill.all for bill in bills[1:-1]]
    assert sum(bill.price for bill in bills) < sum(bill.all for bill in bills)


async def test_what_many_conversations_begin_with_is_kept_longer_than_they_are():
    """A new conversation every twenty minutes: tools and system prompt live an hour, each conversation minutes."""
    async with asked() as (turn, claude):
        for number in range(5):
            said = conversation(2, first=f"Task {number}")
            await turn(*said[:2], tools=TOOLS, after_s=1200)
            await turn(*said, tools=TOOLS, after_s=20)
    assert lives(claude.bodies[-1]) == ["1h", "1h", "5m", "5m"]
    assert claude.bills[-2].read > 2500  # the first request of the last conversation


async def test_a_single_question_asked_again_and_again_reads_its_instructions():
    """Instructions that were sent a minute ago are worth a write; the question itself is not."""
    async with asked() as (turn, claude):
        for number in range(4):
            await turn(Message("system", LONG), Message("user", f"Question {number}? " * 200), after_s=60)
    assert [bill.marks for bill in claude.bills] == [0, 1, 1, 1]
    first, second, third, fourth = claude.bills
    assert (first.wrote, first.read) == (0, 0)
    assert second.wrote == third.read == fourth.read > 1024
    assert third.wrote == fourth.wrote == 0


async def test_a_turn_of_many_blocks_does_not_lose_the_one_before():
    """The mark looks back over twenty blocks; a turn of thirty would hide what was cached before it."""
    async with asked() as (turn, claude):
        said = conversation(2)
        await turn(*said, tools=TOOLS)
        await turn(
            *said,
            Message("assistant", "Well?"),
            *(Message("user", f"File {number}") for number in range(30)),
            tools=TOOLS,
        )
    assert claude.bills[1].read == claude.bills[0].all


async def test_what_is_too_short_is_not_marked():
    """Below the model's least length nothing is cached, and nothing is marked; where it is reached, marks begin."""
    async with asked(least=2048) as (turn, claude):
        rules = replace(RULES, cached_from=2048)
        await turn(*conversation(3, system="Be brief."), rules=rules)
        await turn(*conversation(9, first="Well"), rules=rules)
        await turn(*conversation(9, first="So"), tools=TOOLS, rules=rules)
    # Nothing; from the last request on; from the system prompt on.
    assert [bill.marks for bill in claude.bills] == [0, 2, 3]
    assert all(bill.wrote > 2048 for bill in claude.bills[1:])


async def test_pictures_and_results_count():
    """A conversation may be long by what it shows."""
    async with asked() as (turn, claude):
        picture = Image("iVBORw0KGgo=", "image/png")
        call = ToolCall("toolu_1", "read", {"path": "a"})
        await turn(
            Message("user", "Look", images=(picture,)),
            Message("assistant", "", tool_calls=(call,)),
            Message("tool", "a dot", images=(picture,), tool_call_id="toolu_1"),
        )
    assert claude.bills[0].marks == 2


# ------------------------------------------------------------------------------------------------ writes never read


async def test_what_is_never_read_is_not_written_for_long():
    """After three writes that nobody read writing stops, which is said once; it is tried again ten minutes later."""
    async with asked() as (turn, claude):
        claude.forgets = True
        with structlog.testing.capture_logs() as logs:
            for number in range(1, 9):
                await turn(*conversation(number), tools=TOOLS, after_s=10)
            await turn(*conversation(9), tools=TOOLS, after_s=700)
            await turn(*conversation(10), tools=TOOLS, after_s=10)
            await turn(*conversation(11), tools=TOOLS, after_s=10)
    # One to write, three to find that nothing is read.
    assert [bill.wrote > 0 for bill in claude.bills] == [True] * 4 + [False] * 4 + [True, True, False]
    said = [line for line in logs if line["event"] == "the prompt cache is not read; less is written to it"]
    assert [(line["log_level"], line["model"]) for line in said] == [("info", "claude-test")]


async def test_writing_goes_on_where_it_is_read_again():
    """What was given up and then is read counts as new: three more misses are borne."""
    async with asked() as (turn, claude):
        claude.forgets = True
        for number in range(1, 7):
            await turn(*conversation(number), tools=TOOLS, after_s=10)
        claude.forgets = False
        for number in range(7, 11):
            await turn(*conversation(number), tools=TOOLS, after_s=10 if number > 7 else 700)
        claude.forgets = True
        for number in range(11, 14):
            await turn(*conversation(number), tools=TOOLS, after_s=10)
    assert [bill.read for bill in claude.bills[7:10]] == [bill.all for bill in claude.bills[6:9]]
    assert all(bill.wrote for bill in claude.bills[6:])


@pytest.mark.parametrize(("tools", "marks"), [((), 0), (TOOLS, 1)])
async def test_instructions_that_change_with_every_turn_are_not_written(tools, marks):
    """A client that tells the time in its system prompt: only what stands before that can ever be read."""
    async with asked() as (turn, claude):
        for number in range(6):
            system = f"It is {number} o'clock. {LONG}"
            await turn(*conversation(number + 2, system=system), tools=tools, after_s=30)
    assert [bill.marks for bill in claude.bills[1:]] == [marks] * 5
    assert [bill.wrote for bill in claude.bills[1:]] == [0] * 5
    assert {bill.read > 1024 for bill in claude.bills[1:]} == {bool(tools)}


async def test_a_question_beside_the_conversation_does_not_disturb_it():
    """A client that asks for a title, say, of the same first message before every turn: the conversation is cached."""
    async with asked() as (turn, claude):
        for number in range(1, 6):
            said = conversation(number)
            await turn(Message("system", "Find a title."), said[1])
            await turn(*said, tools=TOOLS, after_s=10)
    asides, turns = claude.bills[::2], claude.bills[1::2]
    assert {bill.wrote for bill in asides} == {0}
    assert [bill.read for bill in turns[2:]] == [bill.all for bill in turns[1:-1]]


async def test_a_window_that_slides_keeps_what_stands_before_it():
    """A client that forgets its oldest turns: tools and system prompt are read, the rest is no longer written."""
    async with asked() as (turn, claude):
        whole = conversation(40)
        for number in range(12):
            await turn(whole[0], *whole[1 + 2 * number : 12 + 2 * number], tools=TOOLS, after_s=30)
    assert [bill.marks for bill in claude.bills[-3:]] == [2] * 3
    assert all(bill.read > 2500 and not bill.wrote for bill in claude.bills[-3:])


async def test_conversations_at_the_same_time_are_no_proof_against_the_cache():
    """Five of one kind, turn by turn in rotation: each is cached to its end, whatever the others read."""
    async with asked() as (turn, claude):
        for number in range(1, 7):
            for talk in range(5):
                said = conversation(number * (talk + 1), first=f"Task {talk}")
                await turn(*said, tools=TOOLS, after_s=1)
    assert all(bill.read for bill in claude.bills[1:])
    assert {bill.plain for bill in claude.bills[10:]} == {0}
    assert {bill.marks for bill in claude.bills[10:]} == {4}


# ------------------------------------------------------------------------------------------------------------ OpenAI


def openai_config(url, api, **model):
    return Config.model_validate(
        {
            "server": {"port": 0},
            "providers": {"openai": {"api_key": "k", "base_url": url, "api": api}},
            "models": [{"name": "m", "backend": "openai", "backend_model": "gpt-5.4", **model}],
        }
    )


ANSWERS = {wire.name: wire for wire in WIRES}


@asynccontextmanager
async def openai_bridge(monkeypatch, api, *, is_openai=True, **model):
    monkeypatch.setattr(openai, "is_openai", lambda _: is_openai)
    async with Upstream() as upstream:
        upstream.reply(ANSWERS[api].stream(Said("Hi")))
        async with running(openai_config(upstream.url, api, **model)) as daemon:

            async def key_of(path, **body):
                got = await ask(daemon.url, "POST", path, {"model": "m", "stream": False, **body})
                assert got.status == 200, got.body
                return upstream.requests[-1].json.get("prompt_cache_key")

            yield key_of


def said(*texts, system="Be brief."):
    roles = ["user", "assistant"] * len(texts)
    return [
        {"role": "system", "content": system},
        *({"role": role, "content": text} for role, text in zip(roles, texts, strict=False)),
    ]


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_openai_is_told_which_requests_belong_together(monkeypatch, api):
    """All turns of a conversation have one key, others another; nothing of the prompt can be read in it."""
    async with openai_bridge(monkeypatch, api) as key_of:
        first = await key_of("/api/chat", messages=said("Hello"))
        later = await key_of("/api/chat", messages=said("Hello", "Hi", "And now?"))
        other = await key_of("/api/chat", messages=said("Good evening"))
        told = await key_of("/api/chat", messages=said("Hello", system="Be long."))
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first == later
    assert len({first, other, told}) == 3


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_openai_gets_the_key_that_the_client_chose(monkeypatch, api):
    """Codex names its sessions; a name longer than the API takes is replaced."""
    async with openai_bridge(monkeypatch, api) as key_of:
        for path, asked in (
            ("/v1/responses", {"input": "Hello"}),
            ("/v1/chat/completions", {"messages": said("Hello")}),
        ):
            assert await key_of(path, **asked, prompt_cache_key="session-1") == "session-1"
            assert len(await key_of(path, **asked, prompt_cache_key="s" * 65)) == 32
        # A real server reads over it, whatever it is.
        assert len(await key_of("/v1/chat/completions", messages=said("Hello"), prompt_cache_key=7)) == 32


@pytest.mark.parametrize(("is_openai", "switch"), [(False, None), (True, False)])
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_no_other_vendor_is_sent_a_key(monkeypatch, api, is_openai, switch):
    """Vendors may refuse what only OpenAI knows; and the operator may not want it."""
    async with openai_bridge(monkeypatch, api, is_openai=is_openai, prompt_cache=switch) as key_of:
        assert await key_of("/v1/responses", input="Hello", prompt_cache_key="session-1") is None


# ------------------------------------------------------------------------------------------------------- any request

words = st.text(alphabet="ab \n", max_size=40)
messages = st.lists(
    st.one_of(
        st.builds(Message, st.sampled_from(["system", "user", "assistant"]), words),
        st.builds(
            Message,
            st.just("assistant"),
            words,
            tool_calls=st.just((ToolCall("", "read", {"path": "x"}),)),
        ),
        st.builds(Message, st.just("tool"), words),
    ),
    min_size=1,
    max_size=12,
)
plans = st.builds(
    Plan,
    st.integers(0, 4),
    st.just("1h"),
    st.sampled_from(["5m", "1h"]),
    st.just(lambda usage: None),
)


@given(messages, st.sampled_from([(), TOOLS]), plans, st.sampled_from([0, 10, 512]))
def test_marks_are_all_that_is_added(said, tools, plan, least):
    """With its marks taken away a request is what it was; they are no more than planned, and where marks may be."""
    request = asking(*said, tools=tools)
    body = prepare(request).body
    anthropic_cache.place(body, plan, least)
    assert without_marks(body) == prepare(request).body
    marked = marks_of(body)
    assert len(marked) <= plan.places
    assert "5m1h" not in "".join(lives(body))
    assert all(one.get("text") != "" and one.get("type") != "thinking" for one in marked)
