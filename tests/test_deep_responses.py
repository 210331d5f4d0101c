"""OpenAI's Responses to its depths: what is sent over the real SDK, and what clients of the daemon get."""

import json

import pytest
from structlog.testing import capture_logs

import heard
from heard import TOOLS, bridged
from ollama_bridge.backends.responses_words import PASSED_EVENTS, PASSED_ITEMS
from upstream import split_at_random, sse

USAGE = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}


def event(kind, **fields):
    return {"type": f"response.{kind}", **fields}


def delta(text, kind="output_text", **place):
    return event(f"{kind}.delta", delta=text, **place)


def message(*texts, refusal="", **fields):
    parts = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    parts += [{"type": "refusal", "refusal": refusal}] if refusal else []
    return {"type": "message", "id": "msg", "role": "assistant", "content": parts, **fields}


def reasoning(*summary, content=(), **fields):
    return {
        "type": "reasoning",
        "id": "rs",
        "summary": [{"type": "summary_text", "text": text} for text in summary],
        "content": [{"type": "reasoning_text", "text": text} for text in content],
        **fields,
    }


def call(arguments='{"at": "x"}', kind="function_call", name="look", id_="call_1", **fields):
    said = {"input" if kind == "custom_tool_call" else "arguments": arguments}
    return {"type": kind, "id": f"fc_{id_}", "call_id": id_, "name": name, **said, **fields}


def ended(*output, kind="completed", **response):
    status = {"status": kind, "output": list(output), "usage": USAGE, **response}
    return event(kind, response=status)


def added(item, at=0):
    return event("output_item.added", item=item, output_index=at)


def done(item, at=0):
    return event("output_item.done", item=item, output_index=at)


async def answered(*events, ask=heard.native, **fields):
    """What a client gets of these events, which come in pieces of any size."""
    async with bridged("responses") as (daemon, upstream):
        upstream.reply(split_at_random(sse(*events), seed=len(events)))
        return await ask(daemon, **fields)


# --------------------------------------------------------------------------------------- told once, told again

WHOLE = message("Hello, ", "world")
TOLD = {
    "only in deltas": [delta("Hello, "), delta("world"), ended()],
    "only when its parts are done": [
        event("output_text.done", text="Hello, ", output_index=0, content_index=0),
        event("output_text.done", text="world", output_index=0, content_index=1),
        ended(),
    ],
    "only when its content parts are done": [
        event("content_part.done", part={"type": "output_text", "text": "Hello, "}, content_index=0),
        event("content_part.done", part={"type": "output_text", "text": "world"}, content_index=1),
        ended(),
    ],
    "only when the item is done": [done(WHOLE), ended()],
    "only when the response is done": [ended(WHOLE)],
    "as others call the end": [event("done", response={"output": [WHOLE], "usage": USAGE})],
    "in several messages": [done(message("Hello, ")), done(message("world"), 1), ended()],
    "the second message only at the end": [
        delta("Hello, "),
        done(message("Hello, ")),
        ended(message("Hello, "), message("world")),
    ],
    "the last delta lost": [delta("Hello, "), done(WHOLE), ended(WHOLE)],
    "in every way there is": [
        added(message()),
        event("content_part.added", part={"type": "output_text", "text": ""}),
        delta("Hel", content_index=0),
        delta("lo, ", content_index=0),
        event("output_text.done", text="Hello, ", content_index=0),
        event("content_part.done", part={"type": "output_text", "text": "Hello, "}, content_index=0),
        delta("world", content_index=1),
        event("output_text.done", text="world", content_index=1),
        event("content_part.done", part={"type": "output_text", "text": "world"}, content_index=1),
        done(WHOLE),
        ended(WHOLE),
    ],
    "without places": [
        delta("Hello, "),
        event("output_text.done", text="Hello, "),
        event("content_part.done", part={"type": "output_text", "text": "Hello, "}),
        delta("world"),
        event("output_text.done", text="world"),
        done(WHOLE),
        ended(WHOLE),
    ],
    "trimmed when it is told again": [
        delta("Hello, "),
        delta("world"),
        event("output_text.done", text="world"),
        done(message("Hello,", "world")),
        ended(message("Hello,", "world", "and more")),
    ],
    "null when it is told again": [
        delta("Hello, "),
        delta("world"),
        event("output_text.done", text=None),
        done(message(None, 7)),
        ended(None, "odd"),
    ],
    "no output when it is told again": [delta("Hello, world"), ended(), ended()],
}


@pytest.mark.parametrize("events", TOLD.values(), ids=TOLD)
async def test_a_text_is_told_once_however_it_is_sent(events):
    """Whatever of the stream a server leaves out, and however often it repeats the rest."""
    found = await answered(*events)
    assert (found.text, found.ended, found.error) == ("Hello, world", "stop", "")
    assert found.tokens == (11, 7)


THOUGHT = {
    "summary in deltas": [
        added(reasoning()),
        event("reasoning_summary_part.added"),
        delta("One.", "reasoning_summary_text", summary_index=0),
        event("reasoning_summary_text.done", text="One.", summary_index=0),
        event("reasoning_summary_part.done", part={"text": "One."}, summary_index=0),
        event("reasoning_summary_part.added"),
        delta("Two.", "reasoning_summary_text", summary_index=1),
        event("reasoning_summary_text.done", text="Two.", summary_index=1),
        done(reasoning("One.", "Two.")),
        ended(reasoning("One.", "Two."), message("ok")),
    ],
    "summary only when its parts are done": [
        event("reasoning_summary_part.added"),
        event("reasoning_summary_text.done", text="One.", summary_index=0),
        event("reasoning_summary_part.done", part={"text": "One."}, summary_index=0),
        event("reasoning_summary_part.added"),
        event("reasoning_summary_part.done", part={"text": "Two."}, summary_index=1),
        ended(message("ok")),
    ],
    "summary only in the item": [done(reasoning("One.", "Two.")), ended(message("ok"))],
    "content only in the item": [done(reasoning(content=["One.", "Two."])), ended(message("ok"))],
    "only in the response": [ended(reasoning("One."), reasoning("Two."), message("ok"))],
    "only in the response, behind a text": [delta("ok"), ended(reasoning("One."), reasoning("Two."), message("ok"))],
}  # fmt: skip


@pytest.mark.parametrize("events", THOUGHT.values(), ids=THOUGHT)
async def test_thoughts_are_told_once_however_they_are_sent(events):
    """Paragraph by paragraph."""
    found = await answered(*events)
    assert (found.thinking, found.text) == ("One.\n\nTwo.", "ok")


@pytest.mark.parametrize("first", ["reasoning_summary_text", "reasoning_text"])
async def test_an_items_reasoning_is_not_told_twice_in_two_forms(first):
    """Some send it in full and in short: what comes first is shown, in each item anew."""
    second = {"reasoning_summary_text": "reasoning_text", "reasoning_text": "reasoning_summary_text"}[first]
    found = await answered(
        added(reasoning()),
        delta("Thi", first),
        delta("Twice.", second),
        delta("nk.", first),
        event(f"{second}.done", text="Twice."),
        done(reasoning("Think." if "summary" in first else "Twice.", content=["Twice.", "Think."]["summary" not in first :][:1])),
        added(reasoning(), 1),
        delta(" Other form.", second),
        done(reasoning(), 1),
        ended(message("ok")),
    )  # fmt: skip
    assert (found.thinking, found.text) == ("Think. Other form.", "ok")


CALLED = {
    "done": [done(call()), ended()],
    "in every way there is": [
        added(call("")),
        event("function_call_arguments.delta", delta='{"at":', output_index=0),
        event("function_call_arguments.delta", delta='"x"}', output_index=0),
        event("function_call_arguments.done", arguments='{"at":"x"}', output_index=0),
        done(call()),
        ended(call()),
    ],
    "arguments done, and no more": [
        added(call("")),
        event("function_call_arguments.done", arguments='{"at":"x"}', item_id="fc_call_1"),
        ended(),
    ],
    "arguments in deltas, and no more": [
        added(call("")),
        event("function_call_arguments.delta", delta='{"at":', item_id="other"),
        event("function_call_arguments.delta", delta='"x"}', item_id="another"),
        ended(),
    ],
    "done without the arguments that came": [
        added(call(""), 3),
        event("function_call_arguments.done", arguments='{"at":"x"}', output_index=3),
        event("output_item.done", item=call("")),
        ended(),
    ],
    "only in the response": [ended(call())],
    "only in the response, behind a text": [delta("Let me look."), ended(message("Let me look."), call())],
    "without an id": [ended(call(id_=None, id=None))],
    "a custom tool's, whose text is an object": [done(call(kind="custom_tool_call")), ended()],
    "a custom tool's, in deltas": [
        added(call("", kind="custom_tool_call")),
        event("custom_tool_call_input.delta", delta='{"at":'),
        event("custom_tool_call_input.done", input='{"at": "x"}'),
        done(call("", kind="custom_tool_call")),
        ended(),
    ],
    "arguments that are an object": [done(call({"at": "x"})), ended()],
    "others' output index": [added(call("")), done(call(), 7), ended(call())],
}


@pytest.mark.parametrize("ask", [heard.native, heard.openai, heard.anthropic], ids=lambda ask: ask.__name__)
@pytest.mark.parametrize("events", CALLED.values(), ids=CALLED)
async def test_a_call_is_made_once_however_it_is_sent(events, ask):
    """With all of its arguments; twice would be a tool that runs twice."""
    found = await answered(*events, ask=ask)
    assert found.calls == [("look", {"at": "x"})]
    assert found.error == ""


async def test_two_calls_of_which_one_is_never_done():
    """Each is made, in its own arguments."""
    first, second = call('{"n": 1}', id_="a"), call("", id_="b", name="ring")
    found = await answered(
        added(first, 0),
        added(second, 1),
        event("function_call_arguments.delta", delta='{"n": ', output_index=1),
        done(first, 0),
        event("function_call_arguments.delta", delta="2}", output_index=1),
        ended(),
    )
    assert found.calls == [("look", {"n": 1}), ("ring", {"n": 2})]


async def test_a_custom_tools_text_is_its_input():
    """Which is how a client sees a tool that takes no JSON."""
    found = await answered(done(call("*** Begin Patch", kind="custom_tool_call", name="patch")), ended())
    assert found.calls == [("patch", {"input": "*** Begin Patch"})]


async def test_no_call_is_made_that_the_limit_cut_off():
    """Neither one that was never done, nor one that is done only by half."""
    limit = {"kind": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    half = call("", status="incomplete")
    for events in ([added(call("")), ended(**limit)], [done(half), ended(**limit)], [ended(half, **limit)]):
        found = await answered(delta("Let me"), *events)
        assert (found.text, found.calls, found.ended) == ("Let me", [], "length")


# ---------------------------------------------------------------------------------------------- how it ends

ENDS = [
    (ended(), "stop", "stop", "end_turn"),
    (ended(status=None), "stop", "stop", "end_turn"),
    (ended(status="in_progress"), "stop", "stop", "end_turn"),
    (ended(status="brand_new"), "stop", "stop", "end_turn"),
    (ended(status="incomplete", incomplete_details={"reason": "max_output_tokens"}), "length", "length", "max_tokens"),
    (ended(kind="incomplete", incomplete_details={"reason": "max_messages"}), "length", "length", "max_tokens"),
    (ended(kind="incomplete", incomplete_details={"reason": "brand_new"}), "length", "length", "max_tokens"),
    (ended(kind="incomplete", incomplete_details=None), "length", "length", "max_tokens"),
    (ended(kind="incomplete", incomplete_details={"reason": "content_filter"}), "stop", "content_filter", "refusal"),
]  # fmt: skip


@pytest.mark.parametrize(("end", "native", "openai", "anthropic"), ENDS)
async def test_each_end_in_each_clients_words(end, native, openai, anthropic):
    """By the response's status, or else by the event; what is not known is no end of another kind."""
    for ask, word in ((heard.native, native), (heard.openai, openai), (heard.anthropic, anthropic)):
        found = await answered(delta("Hi"), end, ask=ask)
        assert (found.text, found.ended, found.error) == ("Hi", word, "")


FAILED = {"code": "server_error", "message": "Sorry about that."}
FAILURES = {
    "failed": (ended(kind="failed", error=FAILED), "Sorry about that."),
    "failed, and calls itself completed": (ended(status="failed", error=FAILED), "Sorry about that."),
    "failed without a word": (ended(kind="failed", error=None), "the provider failed"),
    "cancelled": (event("cancelled", response={"status": "cancelled"}), "cancelled its answer"),
    "canceled without a response": (event("canceled"), "cancelled its answer"),
    "cancelled, and calls itself completed": (ended(status="cancelled"), "cancelled its answer"),
    "a flat error": ({"type": "error", **FAILED, "param": None}, "Sorry about that."),
    "a nested error": ({"type": "error", "error": FAILED}, "Sorry about that."),
    "an error without a type": ({"error": FAILED}, "Sorry about that."),
    "an object called error": ({"object": "error", **FAILED}, "Sorry about that."),
    "an error under a new name": (event("brand_new", error=FAILED), "Sorry about that."),
}


@pytest.mark.parametrize(("end", "words"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("said", ["", "Hi"])
async def test_each_failure_is_an_error(end, words, said):
    """Before the first event with a status, after it within the stream; never an answer that looks whole."""
    for ask in (heard.native, heard.openai, heard.anthropic):
        found = await answered(*([delta(said)] if said else []), end, ask=ask)
        assert (found.text, found.ended) == (said, None)
        assert words in found.error
        assert "gpt-5.4" in found.error
        assert found.status == (200 if said else 502)


@pytest.mark.parametrize(
    "events",
    [
        [delta("I ", "refusal"), delta("cannot.", "refusal"), event("refusal.done", refusal="I cannot."), ended()],
        [event("refusal.done", refusal="I cannot."), ended()],
        [event("content_part.done", part={"type": "refusal", "refusal": "I cannot."}), ended()],
        [done(message(refusal="I cannot.")), ended()],
        [ended(message(refusal="I cannot."))],
    ],
)  # fmt: skip
async def test_a_refusal_however_it_is_sent(events):
    """The model's words are the text, and each wire says that they are a refusal."""
    for ask, word in ((heard.native, "stop"), (heard.openai, "content_filter"), (heard.anthropic, "refusal")):
        found = await answered(*events, ask=ask)
        assert (found.text, found.ended) == ("I cannot.", word)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, (1, 0)),
        ("12", (1, 0)),
        ([], (1, 0)),
        ({"input_tokens": None, "output_tokens": "7"}, (1, 7)),
        ({"input_tokens": 11.0, "output_tokens": 7.9, "output_tokens_details": None}, (11, 7)),
        ({"input_tokens": "many", "output_tokens": -3, "input_tokens_details": "?"}, (1, 0)),
        ({"input_tokens": {}, "output_tokens": 1e400}, (1, 0)),
    ],
)
async def test_odd_usage_spoils_no_answer(usage, tokens):
    """What is no number counts nothing; the text is kept."""
    end = json.dumps(ended(usage=usage)).replace("Infinity", "1e300").encode()
    found = await answered(delta("Hi"), end)
    assert (found.text, found.ended, found.error) == ("Hi", "stop", "")
    assert found.tokens[0] == tokens[0]


# -------------------------------------------------------------------------------------- what is passed over


async def test_what_the_providers_own_tools_do_passes_in_silence():
    """All events and items that are not read, among a text and a call: nothing of these is lost, and one line tells of each that a client might have wanted."""
    passed = [event("x") | {"type": kind, "delta": "?", "item_id": "ws"} for kind in PASSED_EVENTS]
    items = [
        done({"type": kind, "id": "x", "status": "completed"}, at) for at, kind in enumerate(PASSED_ITEMS)
    ]
    events = [
        delta("Hel"),
        *passed,
        *items,
        delta("lo"),
        done(call()),
        event("brand_new", delta="?"),
        ended(),
    ]
    with capture_logs() as lines:
        async with bridged("responses") as (daemon, upstream):
            upstream.reply(sse(*events))
            for _ in range(2):
                found = await heard.native(daemon)
                assert (found.text, found.calls, found.ended) == ("Hello", [("look", {"at": "x"})], "stop")
    told = [(line["what"], line["word"]) for line in lines if line["event"] == "passed over"]
    wanted = {kind for table in (PASSED_EVENTS, PASSED_ITEMS) for kind, is_told in table.items() if is_told}
    assert sorted(told) == sorted(
        [("event" if word.startswith("response.") else "item", word) for word in wanted]
        + [("event", "response.brand_new")]
    )


async def test_reasoning_that_comes_only_with_the_response_goes_back_with_the_results():
    """Encrypted, before the call that it led to, with the phase of what was said; for a client that has no place for it."""
    output = [
        reasoning("Hm.", encrypted_content="ZW5j"),
        message("Let me look.", phase="commentary"),
        call(),
    ]
    conversation = [
        {"role": "user", "content": "?"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [{"id": "call_1", "function": {"name": "look", "arguments": {"at": "x"}}}],
        },
        {"role": "tool", "content": "a pen", "tool_call_id": "call_1"},
    ]
    async with bridged("responses") as (daemon, upstream):
        upstream.reply(sse(ended(*output)))
        upstream.reply(sse(delta("A pen."), ended()))
        assert (await heard.native(daemon, tools=TOOLS)).calls == [("look", {"at": "x"})]
        assert (await heard.native(daemon, tools=TOOLS, messages=conversation)).text == "A pen."
    assert upstream.requests[1].json["input"] == [
        {"role": "user", "content": "?"},
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "Hm."}],
            "encrypted_content": "ZW5j",
        },
        {"role": "assistant", "content": "Let me look.", "phase": "commentary"},
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"at":"x"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "a pen"},
    ]


@pytest.mark.parametrize(
    ("think", "sent"),
    [
        (None, {"summary": "auto"}),
        (False, {"effort": "none"}),
        (True, {"effort": "medium", "summary": "auto"}),
        ("low", {"effort": "low", "summary": "auto"}),
        ("high", {"effort": "high", "summary": "auto"}),
        ("max", {"effort": "xhigh", "summary": "auto"}),
    ],
)
async def test_how_hard_to_think_is_asked_for(think, sent):
    """By the catalogue's rules for the model, beside a schema that stays as the client wrote it."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    async with bridged("responses") as (daemon, upstream):
        upstream.reply(sse(ended(message("{}"))))
        await heard.native(daemon, format=schema, **({} if think is None else {"think": think}))
    body = upstream.requests[0].json
    assert body["reasoning"] == sent
    assert body["text"]["format"] == {
        "type": "json_schema",
        "name": "response",
        "schema": schema,
        "strict": False,
    }
