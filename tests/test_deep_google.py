"""Gemini to its depths: what is sent over the real SDK, and what clients of the daemon get."""

import json

import pytest
from google.genai import types
from structlog.testing import capture_logs

import heard
from heard import TOOLS, bridged
from ollama_bridge.backends.google_calls import path_steps
from ollama_bridge.backends.google_words import EXPLANATIONS, FINISH_REASONS, PARTS
from upstream import split_at_random, sse
from wires import WIRES

USAGE = {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18}
ANSWER = ("Hi", "stop", "")
WORDS = {
    "stop": ("stop", "stop", "end_turn"),
    "length": ("length", "length", "max_tokens"),
    "refusal": ("stop", "content_filter", "refusal"),
}
WAYS = (heard.native, heard.openai, heard.anthropic)


def frame(*parts, finish=None, **fields):
    candidate = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish:
        candidate |= {"finishReason": finish}
    return {"candidates": [candidate], "responseId": "r1", "usageMetadata": USAGE, **fields}


def text(said, **fields):
    return {"text": said, **fields}


def called(**call):
    return {"functionCall": call}


def streamed(*frames):
    return sse(*(json.dumps(one) for one in frames))


async def answered(*frames, ask=heard.native, **fields):
    async with bridged("google") as (daemon, upstream):
        upstream.reply(split_at_random(streamed(*frames), seed=len(frames)))
        return await ask(daemon, **fields)


def pieces(*parts, name="look", finish="STOP"):
    """A call whose arguments come in these pieces."""
    frames = [frame(called(name=name, id="c", willContinue=True))]
    frames += [frame(called(partialArgs=[part], willContinue=True)) for part in parts]
    return [*frames, frame(called()), frame(text(""), finish=finish)]


def piece(path, value, kind="string", **fields):
    return {"jsonPath": path, f"{kind}Value": value, **fields}


ASSEMBLED = [
    ([], {}),
    ([piece("$.at", "Pa", willContinue=True), piece("$.at", "ris")], {"at": "Paris"}),
    (
        [piece("$.at", ""), piece("$.n", 0, "number"), piece("$.b", False, "bool")],
        {"at": "", "n": 0, "b": False},
    ),
    ([piece("$.none", "NULL_VALUE", "null"), {"jsonPath": "$.nothing"}], {"none": None, "nothing": None}),
    ([piece("$.n", 12.5, "number")], {"n": 12.5}),
    ([piece("$.a.b.c", "x"), piece("$.a.d", "y")], {"a": {"b": {"c": "x"}, "d": "y"}}),
    ([piece("$.l[0]", "a"), piece("$.l[1]", "b"), piece("$.l[1]", "c")], {"l": ["a", "bc"]}),
    ([piece("$.l[1].n", 1, "number"), piece("$.l[0]", "late")], {"l": ["late", {"n": 1}]}),
    ([piece("$.l[0][1]", True, "bool")], {"l": [[None, True]]}),
    ([piece("$['a.b']['it\\'s']", "x"), piece('$["c"][0]', "y")], {"a.b": {"it's": "x"}, "c": ["y"]}),
    ([piece("$.größe", "x"), piece("$.under_score-1", "y")], {"größe": "x", "under_score-1": "y"}),
]


@pytest.mark.parametrize(("parts", "arguments"), ASSEMBLED)
async def test_arguments_in_pieces_are_put_together(parts, arguments):
    """Each at its path, texts one behind the other."""
    found = await answered(*pieces(*parts), ask=heard.openai)
    assert (found.calls, found.ended, found.error) == ([("look", arguments)], "tool_calls", "")


@pytest.mark.parametrize(
    "part",
    [
        {"stringValue": "x"},
        piece("", "x"),
        piece("$", "x"),
        piece("at", "x"),
        piece("$.at[", "x"),
        piece("$..at", "x"),
        piece("$.l[*]", "x"),
        piece("$.l[99999999999]", "x"),
        piece("$.at.b", "x"),
        piece("$.at[0]", "x"),
        piece("$[0]", "x"),
        piece(7, "x"),
        piece("$.at", 7),
    ],
    ids=str,
)
async def test_a_piece_that_belongs_nowhere_is_a_broken_reply(part):
    """No tool is called with half of what the model wrote, or with something else."""
    found = await answered(*pieces(piece("$.at", "x"), part))
    assert (found.calls, found.ended) == ([], None)
    assert "unknown shape" in found.error


@pytest.mark.parametrize(
    ("frames", "calls"),
    [
        # one that nobody says is at its end, and another behind it
        (
            [
                frame(called(name="look", willContinue=True)),
                frame(called(partialArgs=[piece("$.a", "x")], willContinue=True)),
                frame(called(name="ring", args={"n": 1})),
            ],
            [("look", {"a": "x"}), ("ring", {"n": 1})],
        ),
        # one that is named again with each piece
        (
            [
                frame(called(name="look", id="c", partialArgs=[piece("$.a", "x")], willContinue=True)),
                frame(called(name="look", id="c", partialArgs=[piece("$.a", "y")])),
            ],
            [("look", {"a": "xy"})],
        ),
        # the same tool twice, in one frame
        (
            [frame(called(name="look", args={"n": 1}), called(name="look", args={"n": 2}))],
            [("look", {"n": 1}), ("look", {"n": 2})],
        ),
        # whole, and an end behind it
        ([frame(called(name="look", args={"n": 1})), frame(called())], [("look", {"n": 1})]),
        # pieces behind arguments
        (
            [
                frame(called(name="look", args={"n": 1}, willContinue=True)),
                frame(called(partialArgs=[piece("$.m", 2, "number")])),
            ],
            [("look", {"n": 1, "m": 2})],
        ),
        ([frame(called(name="look", args=None))], [("look", {})]),
    ],
)
async def test_each_call_is_made_once(frames, calls):
    """Whoever says where one ends."""
    for ask in WAYS:
        found = await answered(*frames, frame(finish="STOP"), ask=ask)
        assert (found.calls, found.error) == (calls, "")


@pytest.mark.parametrize(
    ("finish", "ended", "error"),
    [("MAX_TOKENS", "length", ""), ("SAFETY", "stop", ""), ("STOP", None, "inside a tool call")],
)
async def test_half_a_call_is_never_made(finish, ended, error):
    """Cut off by a limit or a filter it is left out; by nothing at all it is a broken reply."""
    frames = [
        frame(text("Let me look.")),
        frame(called(name="look", willContinue=True)),
        frame(finish=finish),
    ]
    found = await answered(*frames)
    assert (found.text, found.calls, found.ended) == ("Let me look.", [], ended)
    assert error in found.error


async def test_calls_without_ids_have_the_same_ones_each_time():
    """Unlike those of any other turn, also where the provider does not name its replies."""

    async def ids(messages, **fields):
        async with bridged("google") as (daemon, upstream):
            call = called(name="look", args={})
            upstream.reply(streamed({**frame(call, call, finish="STOP"), **fields}))
            body = {"model": "m", "messages": messages, "stream": False}
            got = await heard.ask(daemon.url, "POST", "/v1/chat/completions", body)
            return [one["id"] for one in got.json["choices"][0]["message"]["tool_calls"]]

    one = [{"role": "user", "content": "?"}]
    two = [*one, {"role": "assistant", "content": "!"}, *one]
    unnamed = {"responseId": None}
    seen = [
        await ids(one),
        await ids(one, responseId="r2"),
        await ids(one, **unnamed),
        await ids(two, **unnamed),
    ]
    assert len({name for names in seen for name in names}) == 8
    assert [await ids(one), await ids(one, **unnamed)] == [seen[0], seen[2]]


# ---------------------------------------------------------------------------------------------- how it ends


@pytest.mark.parametrize("word", [*FINISH_REASONS, "BRAND_NEW"])
async def test_each_finish_reason_in_each_clients_words(word):
    """Behind a text, and behind nothing."""
    reason = FINISH_REASONS.get(word, "stop")
    for at, ask in enumerate(WAYS):
        found = await answered(frame(text("Hi")), frame(finish=word), ask=ask)
        empty = await answered(frame(finish=word), ask=ask)
        if reason == "broken":
            assert (found.text, found.ended, empty.status) == ("Hi", None, 502)
            assert word in found.error
            assert word in empty.error
            continue
        assert (found.text, found.ended, found.error) == ("Hi", WORDS[reason][at], "")
        assert empty.ended == WORDS[reason][at]
        explains = reason == "refusal" or word == "BRAND_NEW"
        assert (word in empty.text) == explains, "a refusal without a word would look like a fault"


@pytest.mark.parametrize("word", [*(reason.value for reason in types.BlockedReason), "BRAND_NEW"])
async def test_each_block_of_a_prompt_is_a_refusal(word):
    """In our words and in the provider's."""
    blocked = {
        "promptFeedback": {"blockReason": word, "blockReasonMessage": "Not\nhere."},
        "usageMetadata": USAGE,
    }
    for at, ask in enumerate(WAYS):
        found = await answered(blocked, ask=ask)
        assert found.ended == WORDS["refusal"][at]
        assert f"({word}); it says: Not here.]" in found.text
        assert EXPLANATIONS.get(word, "no further") in found.text


async def test_a_block_behind_a_text_leaves_the_text_as_it_is():
    """What was said was said; the end tells that there would have been more."""
    ends = ({"promptFeedback": {"blockReason": "SAFETY"}}, frame(finish="SAFETY", candidateIndex=0))
    for end in ends:
        found = await answered(frame(text("Once upon")), end, ask=heard.openai)
        assert (found.text, found.ended) == ("Once upon", "content_filter")


async def test_what_the_provider_says_of_a_failure_is_told_and_not_logged():
    """The words may hold what the model wrote."""
    failed = frame(finish="MALFORMED_FUNCTION_CALL")
    failed["candidates"][0]["finishMessage"] = "Malformed function call: look(at=secret"
    with capture_logs() as lines:
        found = await answered(failed)
    assert "it gave up (MALFORMED_FUNCTION_CALL)" in found.error
    assert "look(at=secret" in found.error
    assert not any("secret" in str(line) for line in lines)


@pytest.mark.parametrize(
    "frames",
    [
        [frame(text("Hi")), frame(text(""), finish="STOP")],
        [frame(text("Hi"), finish="STOP"), {"usageMetadata": USAGE}],
        [frame(text("Hi"), finish="STOP"), {"candidates": []}],
        [frame(text("Hi"), finish="STOP"), {"candidates": None, "promptFeedback": {}}],
        [frame(text("Hi"), finish="STOP"), {"candidates": [{"index": 0}]}],
        [frame(text("Hi"), finish="STOP"), {"candidates": [{"content": None, "finishReason": None}]}],
        [frame(text("H"), finish="STOP"), frame(text("i"), finish="STOP")],
        [frame(text("Hi"), finish="FINISH_REASON_UNSPECIFIED"), frame(finish="STOP")],
        [frame(text("Hi"), finish="STOP"), frame(finish="FINISH_REASON_UNSPECIFIED")],
    ],
)
async def test_an_end_in_any_form(frames):
    """Early, late, empty, more than once."""
    found = await answered(*frames)
    assert (found.text, found.ended, found.error) == ANSWER
    assert found.tokens == (11, 7)


async def test_of_several_answers_the_first_is_given():
    """Whether they come in one frame or each in its own."""
    other = {"index": 1, "content": {"parts": [text("Bye")]}, "finishReason": "MAX_TOKENS"}
    both = frame(text("H"))
    both["candidates"].insert(0, other)
    found = await answered(both, {"candidates": [other]}, frame(text("i"), finish="STOP"))
    assert (found.text, found.ended, found.error) == ANSWER


@pytest.mark.parametrize(
    ("usages", "tokens"),
    [
        ([USAGE | {"thoughtsTokenCount": 5, "toolUsePromptTokenCount": 3}], (14, 12)),
        ([USAGE, {"candidatesTokenCount": 9}], (11, 9)),
        ([{"promptTokenCount": "11", "candidatesTokenCount": 7.0}], (11, 7)),
        ([{"promptTokenCount": None, "candidatesTokenCount": "seven", "thoughtsTokenCount": -1}], None),
        ([None], None),
        (["many"], None),
        ([[1]], None),
    ],
)
async def test_usage_of_any_kind(usages, tokens):
    """Thoughts are output, what Google's tools read is input, and what is no number spoils no answer."""
    frames = [
        frame(text("Hi")) | {"usageMetadata": usages[0]},
        frame(finish="STOP") | {"usageMetadata": usages[-1]},
    ]
    found = await answered(*frames)
    assert (found.text, found.ended, found.error) == ANSWER
    assert tokens in (None, found.tokens)


# -------------------------------------------------------------------------------------- thoughts and parts


async def test_parts_of_all_kinds_lose_no_text():
    """Thoughts are thoughts, with and without text; of what no client can be shown the log tells once."""
    odd = [
        {name: {"data": "secret"}}
        for name in PARTS
        if name not in {"text", "thought", "thoughtSignature", "functionCall"}
    ]
    parts = [
        text("Hm.", thought=True),
        {"thought": True},
        text("", thought=True, thoughtSignature="c2ln"),
        text("H"),
        *odd,
        {"brandNew": {"x": 1}},
        {},
        text("i", thought=False, thoughtSignature="c2ln"),
    ]  # fmt: skip
    with capture_logs() as lines:
        async with bridged("google") as (daemon, upstream):
            upstream.reply(
                streamed(frame(*parts), frame({"text": "", "thoughtSignature": "c2ln"}, finish="STOP"))
            )
            for _ in range(2):
                found = await heard.native(daemon)
                assert (found.thinking, found.text, found.ended) == ("Hm.", "Hi", "stop")
    told = [line["word"] for line in lines if line["event"] == "passed over"]
    assert sorted(told) == sorted([name for name, is_told in PARTS.items() if is_told] + ["brandNew"])
    assert not any("secret" in str(line) for line in lines)


SIGNATURES = {
    "on a call": ([called(name="look", args={}, id="c") | {"thoughtSignature": "c2ln"}],),
    "on a thought": (
        [text("Hm.", thought=True, thoughtSignature="c2ln"), called(name="look", args={}, id="c")],
    ),
    "on a text": ([text("Wait.", thoughtSignature="c2ln"), called(name="look", args={}, id="c")],),
    "on an empty text": ([called(name="look", args={}, id="c"), text("", thoughtSignature="c2ln")],),
    "on nothing": ([called(name="look", args={}, id="c"), {"thoughtSignature": "c2ln"}],),
    "on the first piece of a call": (
        [called(name="look", id="c", willContinue=True) | {"thoughtSignature": "c2ln"}],
        [called(partialArgs=[piece("$.n", 1, "number")], willContinue=True)],
        [called()],
    ),
}


@pytest.mark.parametrize("turn", SIGNATURES.values(), ids=SIGNATURES)
async def test_a_signature_goes_back_on_the_part_that_had_it(turn):
    """Whatever part it was, and however little that held."""
    signed = next(part for parts in turn for part in parts if "thoughtSignature" in part)
    async with bridged("google") as (daemon, upstream):
        upstream.reply(streamed(*(frame(*parts) for parts in turn), frame(finish="STOP")))
        upstream.reply(streamed(frame(text("A pen."), finish="STOP")))
        first = await heard.native(daemon, tools=TOOLS)
        arguments = first.calls[0][1]
        assistant = {
            "role": "assistant",
            "content": first.text,
            "tool_calls": [{"id": "c", "function": {"name": "look", "arguments": arguments}}],
        }
        result = {"role": "tool", "content": "a pen", "tool_call_id": "c"}
        await heard.native(
            daemon, tools=TOOLS, messages=[{"role": "user", "content": "?"}, assistant, result]
        )
    (back,) = [
        part
        for content in upstream.requests[1].json["contents"]
        for part in content["parts"]
        if part.get("thoughtSignature") == "c2ln"
    ]
    if "functionCall" in signed:
        assert back["functionCall"] == {"id": "c", "name": "look", "args": arguments}
    else:
        assert back["text"] == signed.get("text", "")
        assert back.get("thought") == signed.get("thought")


@pytest.mark.parametrize(
    ("model", "think", "sent"),
    [
        ("gemini-3-pro-preview", None, {"includeThoughts": True}),
        ("gemini-3-pro-preview", "low", {"includeThoughts": True, "thinkingLevel": "LOW"}),
        ("gemini-3-pro-preview", "high", {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        ("gemini-3-pro-preview", "max", {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        ("gemini-3-pro-preview", False, {"includeThoughts": False, "thinkingLevel": "LOW"}),
        ("gemini-3-flash-preview", False, {"includeThoughts": False, "thinkingLevel": "MINIMAL"}),
        ("gemini-3-flash-preview", True, {"includeThoughts": True}),
        ("gemini-2.5-flash", None, {"includeThoughts": True}),
        ("gemini-2.5-flash", False, {"includeThoughts": False, "thinkingBudget": 0}),
        ("gemini-2.5-flash", True, {"includeThoughts": True, "thinkingBudget": -1}),
        ("gemini-2.5-flash", "medium", {"includeThoughts": True, "thinkingBudget": 8192}),
        ("gemini-2.5-flash", "max", {"includeThoughts": True, "thinkingBudget": 24576}),
        ("gemini-2.5-pro", False, {"includeThoughts": False, "thinkingBudget": 128}),
    ],
)
async def test_how_hard_to_think_is_asked_for(model, think, sent):
    """A level or a budget by the catalogue's rules for the model, never both, beside a schema as the client wrote it."""
    schema = {"$schema": "x", "type": "object", "properties": {"n": {"type": "integer"}}}
    config = next(wire for wire in WIRES if wire.name == "google").config("")["models"][0]
    async with bridged("google", models=[{**config, "backend_model": model}]) as (daemon, upstream):
        upstream.reply(streamed(frame(text("{}"), finish="STOP")))
        await heard.native(daemon, format=schema, **({} if think is None else {"think": think}))
    (seen,) = upstream.requests
    assert seen.path == f"/v1beta/models/{model}:streamGenerateContent?alt=sse"
    generation = seen.json["generationConfig"]
    assert generation["thinkingConfig"] == sent
    assert generation["responseMimeType"] == "application/json"
    assert generation["responseJsonSchema"] == schema


def test_a_path_in_its_steps():
    """Names, indexes and quoted names, in any order."""
    assert path_steps('$.a[0][\'b c\'].d["e\\"f"][12]') == ["a", 0, "b c", "d", 'e"f', 12]
