"""A turn of Claude's that pauses for the provider's own tools is gone on with: one answer, one bill."""

import asyncio
import json
import sqlite3

import pytest

import heard
from anthropic_asking import block, call, start, stop, text
from heard import TOOLS, bridged
from ollama_bridge.backends.anthropic_turn import PAUSES
from ollama_bridge.ledger import ledger_path
from running import connect, request
from upstream import split_at_random, sse
from wires import WIRES

WAYS = (heard.native, heard.openai, heard.anthropic)
SEARCHED = [
    *block(
        0,
        "thinking",
        {"type": "thinking_delta", "thinking": "Hm."},
        {"type": "signature_delta", "signature": "c2ln"},
        thinking="",
        signature="",
    ),
    *text(1, "Let me ", "search."),
    *block(
        2,
        "server_tool_use",
        {"type": "input_json_delta", "partial_json": '{"query"'},
        {"type": "input_json_delta", "partial_json": ': "pens"}'},
        id="srvtoolu_1",
        name="web_search",
        input={},
        caller=None,
    ),
    *block(
        3,
        "web_search_tool_result",
        tool_use_id="srvtoolu_1",
        content=[{"type": "web_search_result", "url": "https://x", "encrypted_content": "ZW5j"}],
    ),
    *block(4, "redacted_thinking", data="cmVk"),
    *block(
        5,
        "text",
        {"type": "citations_delta", "citation": {"type": "web_search_result_location", "url": "https://x"}},
        {"type": "text_delta", "text": " A pen "},
        text="",
        citations=[],
    ),
    *block(6, "server_tool_use", id="srvtoolu_2", name="web_fetch", input={"url": "https://x"}),
]
SENT_BACK = [
    {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
    {"type": "text", "text": "Let me search."},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "pens"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [{"type": "web_search_result", "url": "https://x", "encrypted_content": "ZW5j"}],
    },
    {"type": "redacted_thinking", "data": "cmVk"},
    {
        "type": "text",
        "text": " A pen ",
        "citations": [{"type": "web_search_result_location", "url": "https://x"}],
    },
    {"type": "server_tool_use", "id": "srvtoolu_2", "name": "web_fetch", "input": {"url": "https://x"}},
]
PAUSED = [start(input_tokens=100), *SEARCHED, *stop("pause_turn", 40)]
REST = [start(input_tokens=150, cache_read_input_tokens=90), *text(0, "is a pen."), *stop("end_turn", 20)]


def rows(*names):
    """What the ledger says of each call."""
    db = sqlite3.connect(ledger_path())
    try:
        return db.execute(f"SELECT {', '.join(names)} FROM call ORDER BY time, id").fetchall()
    finally:
        db.close()


async def whole(daemon):
    """Over `/api/chat`, not streamed."""
    return await heard.native(daemon, stream=False)


@pytest.mark.parametrize("ask", [*WAYS, whole], ids=lambda ask: ask.__name__)
async def test_it_is_one_answer_whatever_the_client_speaks(ask):
    """The text of both parts, one end, the tokens of both."""
    async with bridged("anthropic") as (daemon, upstream):
        upstream.reply(split_at_random(sse(*PAUSED), seed=1))
        upstream.reply(split_at_random(sse(*REST), seed=2))
        found = await ask(daemon)
    assert (found.text, found.thinking) == ("Let me search. A pen is a pen.", "Hm.")
    assert found.ended in {"stop", "end_turn"}
    cached = 90 if ask is heard.anthropic else 0  # told apart there
    assert found.tokens == (100 + 150 + 90 - cached, 60)


async def test_what_is_asked_the_second_time():
    """The same again, with all that was said as it was said, and no more tokens than are left."""
    async with bridged("anthropic") as (daemon, upstream):
        upstream.reply(sse(*PAUSED))
        upstream.reply(sse(*REST))
        await heard.native(daemon, options={"num_predict": 1000}, think="high", tools=TOOLS)
    first, second = (seen.json for seen in upstream.requests)
    assert [seen.path for seen in upstream.requests] == ["/v1/messages"] * 2
    assert upstream.connections == 1, "the connection is used again"
    assert second == {
        **first,
        "messages": [*first["messages"], {"role": "assistant", "content": SENT_BACK}],
        "max_tokens": 960,
    }


async def test_it_may_pause_again():
    """All parts are sent back in one message, and the provider's tools find their place of work again."""
    container = {"id": "container_1", "expires_at": "2026-11-22T00:00:00Z"}
    again = [start(input_tokens=1), *text(0, "is red"), *stop("pause_turn", 5)]
    async with bridged("anthropic") as (daemon, upstream):
        upstream.reply(sse(start(), *text(0, "It "), *stop("pause_turn", 5, container=container)))
        upstream.reply(sse(*again))
        upstream.reply(sse(start(input_tokens=1), *text(0, " and blue."), *stop("end_turn", 5)))
        found = await heard.native(daemon)
    assert (found.text, found.ended) == ("It is red and blue.", "stop")
    bodies = [seen.json for seen in upstream.requests]
    assert [body.get("container") for body in bodies] == [None, "container_1", "container_1"]
    assert bodies[1]["messages"][-1]["content"] == [{"type": "text", "text": "It"}]
    assert bodies[2]["messages"][-1]["content"] == [
        {"type": "text", "text": "It "},
        {"type": "text", "text": "is red"},
    ]


async def test_an_answer_that_the_client_has_begun_is_gone_on_with():
    """Its beginning and the rest are one message of the assistant's."""
    begun = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "So"}]
    models = [{**WIRES[0].config("")["models"][0], "backend_model": "claude-haiku-4-5"}]
    async with bridged("anthropic", models=models) as (daemon, upstream):
        upstream.reply(sse(start(), *text(0, ": it "), *stop("pause_turn", 5)))
        upstream.reply(sse(*REST))
        assert (await heard.native(daemon, messages=begun)).text == ": it is a pen."
    assert upstream.requests[1].json["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "So"}, {"type": "text", "text": ": it"}]},
    ]


async def test_it_does_not_go_on_for_ever():
    """After so many pauses the answer ends, as one that is not whole."""
    async with bridged("anthropic") as (daemon, upstream):
        upstream.reply(sse(start(input_tokens=1), *text(0, "on "), *stop("pause_turn", 5)))
        for at, ask in enumerate(WAYS, 1):
            found = await ask(daemon)
            assert (found.text, found.error) == ("on " * (PAUSES + 1), "")
            assert found.ended in {"length", "max_tokens"}
            assert len(upstream.requests) == (PAUSES + 1) * at


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ([], {}),  # nothing
        (text(0, "  "), {}),
        (block(0, "thinking", {"type": "thinking_delta", "thinking": "Hm."}, thinking=""), {}),  # not signed
        (block(0, "server_tool_use", {"type": "input_json_delta", "partial_json": '{"q'}, id="s", name="w"), {}),
        (text(0, "It is"), {"num_predict": 40}),  # no tokens left
    ],
    ids=["nothing", "blank", "unsigned", "half", "no tokens"],
)  # fmt: skip
async def test_what_cannot_be_gone_on_with_ends(said, options):
    """With what was said, as an answer that is not whole, and without asking for the impossible."""
    async with bridged("anthropic") as (daemon, upstream):
        upstream.reply(sse(start(), *said, *stop("pause_turn", 40)))
        found = await heard.native(daemon, options=options)
    assert (found.ended, found.error, len(upstream.requests)) == ("length", "", 1)


async def test_a_budget_of_thinking_has_to_fit_into_what_is_left():
    """`max_tokens` not above the budget would be a 400."""
    models = [{**WIRES[0].config("")["models"][0], "backend_model": "claude-haiku-4-5"}]
    for written, requests in ((1900, 2), (2000, 1)):
        async with bridged("anthropic", models=models) as (daemon, upstream):
            upstream.reply(sse(start(), *text(0, "It"), *stop("pause_turn", written)))
            upstream.reply(sse(*REST))
            await heard.native(daemon, think="low", options={"num_predict": 4000})
            assert len(upstream.requests) == requests


async def test_a_call_of_the_clients_ends_the_turn():
    """Its result is what it is waiting for."""
    async with bridged("anthropic") as (daemon, upstream):
        upstream.reply(sse(start(), *call(0, "look", "{}"), *stop("pause_turn")))
        found = await heard.openai(daemon, tools=TOOLS)
    assert (found.calls, found.ended, len(upstream.requests)) == ([("look", {})], "tool_calls", 1)


async def test_calls_behind_a_pause_come_back_with_the_thinking_before_it():
    """To the client it was one turn, and to the provider it is one again."""
    thinking = [
        *block(0, "thinking", {"type": "signature_delta", "signature": "c2ln"}, thinking="", signature="")
    ]
    conversation = [
        {"role": "user", "content": "?"},
        {
            "role": "assistant",
            "content": "Let me look. Yes.",
            "tool_calls": [{"id": "toolu_1", "function": {"name": "look", "arguments": {}}}],
        },
        {"role": "tool", "content": "a pen", "tool_call_id": "toolu_1"},
    ]
    async with bridged("anthropic") as (daemon, upstream):
        upstream.reply(sse(start(), *text(1, "Let me look."), *thinking, *stop("pause_turn")))
        upstream.reply(sse(start(), *text(0, " Yes."), *call(1, "look"), *stop("tool_use")))
        upstream.reply(sse(*REST))
        assert (await heard.native(daemon, tools=TOOLS, think=True)).calls == [("look", {})]
        await heard.native(daemon, tools=TOOLS, think=True, messages=conversation)
    assert upstream.requests[2].json["messages"][1]["content"] == [
        {"type": "text", "text": "Let me look."},
        {"type": "thinking", "thinking": "", "signature": "c2ln"},
        {"type": "text", "text": " Yes."},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}},
    ]


# ------------------------------------------------------------------------------------------------- the bill

ROW = ("outcome", "attempts", "input_tokens", "output_tokens", "cost_nusd", "is_estimated")
PRICED = [{**WIRES[0].config("")["models"][0], "price": {"input": 3, "output": 15}}]


async def test_the_bill_is_for_all_parts():
    """One call, two requests, the tokens of both at the model's price."""
    async with bridged("anthropic", models=PRICED) as (daemon, upstream):
        upstream.reply(sse(start(input_tokens=100), *text(0, "It "), *stop("pause_turn", 40)))
        upstream.reply(sse(start(input_tokens=150), *text(0, "is"), *stop("end_turn", 20)))
        await heard.native(daemon)
    assert rows(*ROW) == [("answered", 2, 250, 60, 250 * 3000 + 60 * 15_000, 0)]


@pytest.mark.parametrize("said", ["", "It "])
async def test_a_failure_behind_a_pause_is_an_error_and_is_billed(said):
    """Nothing looks whole, and what the first part took is not forgotten."""
    failure = b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}'
    paused = [
        *block(0, "server_tool_use", id="s", name="web_search", input={}),
        *(text(1, said) if said else []),
    ]
    async with bridged("anthropic", models=PRICED) as (daemon, upstream):
        upstream.reply(sse(start(input_tokens=100), *paused, *stop("pause_turn", 40)))
        upstream.reply(failure, status=529)
        found = await heard.native(daemon)
    assert (found.status, found.text, found.ended) == (200 if said else 503, said, None)
    assert "Overloaded" in found.error
    assert rows(*ROW) == [("failed", 2, 100, 40, 100 * 3000 + 40 * 15_000, 1)]


@pytest.mark.parametrize("body", [b"", sse(start(input_tokens=1), *text(0, "is"))], ids=["empty", "cut off"])
async def test_a_rest_that_just_ends_is_an_error(body):
    """A part without its end is no end of the whole."""
    async with bridged("anthropic", models=[{**PRICED[0], "resume": False}]) as (daemon, upstream):
        upstream.reply(sse(start(), *text(0, "It "), *stop("pause_turn")))
        upstream.reply(body)
        found = await heard.native(daemon)
    assert found.ended is None
    assert "before the answer was complete" in found.error


async def test_a_pause_before_any_word_may_be_tried_again():
    """Nobody has seen anything: the whole question is asked once more."""
    tools = block(0, "server_tool_use", id="s", name="web_search", input={})
    retry = {"max_retries": 1, "initial_backoff_ms": 0}
    async with bridged("anthropic", retry=retry) as (daemon, upstream):
        upstream.reply(sse(start(input_tokens=100), *tools, *stop("pause_turn", 40)))
        upstream.reply(b"{}", status=529)
        upstream.reply(sse(*REST))
        found = await heard.native(daemon)
    assert (found.text, found.ended) == ("is a pen.", "stop")
    assert [len(seen.json["messages"]) for seen in upstream.requests] == [1, 2, 1]
    assert rows("attempts") == [(3,)]


@pytest.mark.parametrize("where", ["head", "body"])
async def test_a_client_that_leaves_closes_the_connection_of_the_part_that_is_under_way(where):
    """Whether that has begun to answer or not; what was told of its tokens is billed."""
    async with bridged("anthropic", models=PRICED) as (daemon, upstream):
        upstream.reply(sse(start(input_tokens=100), *text(0, "It "), *stop("pause_turn", 40)))
        never = asyncio.Event()
        rest = [sse(start(input_tokens=150), *text(0, "is")), sse(*stop())]
        upstream.reply(rest, hold=never, held_after=int(where == "body"))
        reader, writer = await connect(daemon.url)
        question = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
        writer.write(request(daemon.url, "POST", "/api/chat", question))
        said = b"is" if where == "body" else b"It "
        while json.dumps(said.decode()).encode() not in await reader.readline():
            pass
        await upstream.arrivals.acquire()
        await upstream.arrivals.acquire()
        writer.close()
        await asyncio.wait_for(upstream.closed_early.wait(), 5)
    ((outcome, attempts, asked, written, _, is_estimated),) = rows(*ROW)
    assert (outcome, attempts, is_estimated) == ("left", 2, 1)
    assert asked == (250 if where == "body" else 100)
    assert written >= 40
