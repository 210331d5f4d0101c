"""The Responses API: what is asked, and what becomes of the answer."""

from typing import get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAIError
from openai.types.responses.response import IncompleteDetails
from structlog.testing import capture_logs

from ollama_bridge.backends import ProviderSettings, responses
from ollama_bridge.backends.dialect import OPENAI, PLAIN
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.openai import OPENAI_ERROR_TYPES
from ollama_bridge.backends.openai_wire import FILTERED
from ollama_bridge.backends.responses_stream import ResponsesReader
from ollama_bridge.backends.responses_words import INCOMPLETE
from ollama_bridge.backends.vendors import OPENAI_URL
from ollama_bridge.chat import Image, Message, Rules, Tool
from ollama_bridge.errors import UpstreamBroken, UpstreamBusy, UpstreamError, UpstreamRejected
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, TokenLogprob, ToolCall, Usage
from openai_asking import (
    ask,
    ask_until_it_fails,
    backend_at,
    question,
    said,
)
from upstream import Upstream, sse

FAILURES = Failures(
    ProviderSettings("acme", "openai"), OPENAI_URL, "OPENAI_API_KEY", OpenAIError, OPENAI_ERROR_TYPES
)
RULES = Rules(
    api="responses",
    accepts=frozenset({"temperature", "top_p", "logprobs", "seed", "stop", "presence_penalty"}),
    efforts=("none", "low", "medium", "high", "xhigh", "max"),
)
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 2},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 5},
}
COMPLETED = {"type": "response.completed", "response": {"status": "completed", "usage": USAGE}}
FINISH = Finish("stop", Usage(20, 9, 8, 2, 5), "completed")


def text(delta, **more):
    return {"type": "response.output_text.delta", "delta": delta, **more}


def call(**item):
    return {"type": "response.output_item.done", "item": {"type": "function_call", **item}}


async def asked(request):
    """The body of the one request that reaches the provider."""
    async with Upstream() as upstream, backend_at(upstream) as backend:
        upstream.reply(sse(text("ok"), COMPLETED))
        await ask(backend, request)
        (seen,) = upstream.requests
        assert (seen.method, seen.path) == ("POST", "/v1/responses")
        return seen.json


async def answered(*events, **fields):
    """Our events for these of theirs."""
    async with Upstream() as upstream, backend_at(upstream, api="responses") as backend:
        upstream.reply(sse(*events))
        return await ask(backend, question(**fields))


async def failed(*events):
    """Our events before the failure that these become, and the failure."""
    async with Upstream() as upstream, backend_at(upstream, api="responses") as backend:
        upstream.reply(sse(*events))
        return await ask_until_it_fails(backend)


# -------------------------------------------------------------------------------------------- requests


async def test_the_whole_request():
    """Everything a client can say arrives as the Responses API has it, and nothing else."""
    request = question(
        rules=RULES,
        messages=(
            Message("system", "Be brief."),
            Message("system", "Be kind."),
            Message("user", "What is this?", images=(Image("aGk=", "image/png"),)),
            Message("assistant", "A moment.", thinking="hm", tool_calls=(ToolCall("c1", "f.g", {"x": 1}),)),
            Message("tool", "a pen", tool_call_id="c1", images=(Image("aG8=", "image/gif"),)),
            Message("system", "It is late."),
            Message("user", "And?"),
        ),
        tools=(Tool("f.g", "Look.", {"type": "object"}), Tool("ring"), Tool("ring", "again")),
        format={"type": "object"},
        think="high",
        logprobs=True,
        top_logprobs=3,
        options={"temperature": 2.5, "top_p": 0.9, "num_predict": 3},
    )
    assert await asked(request) == {
        "model": "gpt-x",
        "instructions": "Be brief.\n\nBe kind.",
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is this?"},
                    {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aGk="},
                ],
            },
            {"role": "assistant", "content": "A moment."},
            {"type": "function_call", "call_id": "c1", "name": "f_g", "arguments": '{"x":1}'},
            {
                "type": "function_call_output",
                "call_id": "c1",
                "output": [
                    {"type": "input_text", "text": "a pen"},
                    {"type": "input_image", "detail": "auto", "image_url": "data:image/gif;base64,aG8="},
                ],
            },
            {"role": "developer", "content": "It is late."},
            {"role": "user", "content": "And?"},
        ],
        "stream": True,
        "store": False,
        "tools": [
            {
                "type": "function",
                "name": "f_g",
                "description": "Look.",
                "parameters": {"type": "object"},
                "strict": False,
            },
            {
                "type": "function",
                "name": "ring",
                "description": "again",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            },
        ],
        "max_output_tokens": 16,
        "reasoning": {"effort": "high", "summary": "auto"},
        "text": {
            "format": {
                "type": "json_schema",
                "name": "response",
                "schema": {"type": "object"},
                "strict": False,
            }
        },
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "top_logprobs": 3,
        "temperature": 2.0,
        "top_p": 0.9,
    }


async def test_the_least_request():
    """Nothing is sent that was not asked for, and nothing is stored."""
    assert await asked(question(rules=RULES)) == {
        "model": "gpt-x",
        "input": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "store": False,
    }


def test_only_openai_is_told_of_obfuscation():
    """Padding is switched off where it exists; vendors might refuse the word."""
    for is_openai, expected in ((True, {"include_obfuscation": False}), (False, None)):
        prepared = responses.prepare(question(), (), OPENAI if is_openai else PLAIN)
        assert prepared.body.get("stream_options") == expected


def test_openai_is_not_asked_for_more_than_its_model_has():
    """Beyond the model's limit the request is a 400; what other servers' models have we do not know."""
    request = question(options={"num_predict": 10**6})
    for is_openai, expected in ((True, request.target.max_output_tokens), (False, 10**6)):
        prepared = responses.prepare(request, (), OPENAI if is_openai else PLAIN)
        assert prepared.body["max_output_tokens"] == expected


async def test_instructions_alone_are_the_input():
    """A conversation of system messages only still asks something."""
    body = await asked(question(rules=RULES, messages=(Message("system", "Say hi."),)))
    assert "instructions" not in body
    assert body["input"] == [{"role": "developer", "content": "Say hi."}]


async def test_what_the_api_does_not_know_is_dropped_with_one_line():
    """Seed and penalties do not exist here, whatever the model; stop words are kept by ourselves."""
    options = {"seed": 1, "presence_penalty": 0.5, "top_k": 4, "stop": ["x"]}
    with capture_logs() as lines:
        body = await asked(question(rules=RULES, options=options))
    assert set(body) == {"model", "input", "stream", "store"}
    assert [line["options"] for line in lines] == [["seed", "presence_penalty", "top_k"]]


@pytest.mark.parametrize(
    ("think", "capabilities", "reasoning"),
    [
        (None, ("thinking",), {"summary": "auto"}),
        (None, (), None),
        (False, ("thinking",), {"effort": "none"}),
        (True, (), {"effort": "medium", "summary": "auto"}),
        ("max", ("thinking",), {"effort": "max", "summary": "auto"}),
    ],
)
async def test_think(think, capabilities, reasoning):
    """Thinking models show their thoughts unless told not to, as Ollama's do."""
    body = await asked(question(rules=RULES, think=think, capabilities=capabilities))
    assert body.get("reasoning") == reasoning


async def test_a_model_without_efforts_is_not_told_to_think():
    """`reasoning` is refused by models that do not reason."""
    rules = Rules(api="responses", efforts=())
    assert "reasoning" not in await asked(question(rules=rules, think=True, capabilities=("thinking",)))


async def test_json_mode_says_json_where_the_api_looks_for_it():
    """The word has to stand in the input; among the instructions it does not count."""
    messages = (Message("system", "Speak JSON."), Message("user", "Hello"))
    body = await asked(question(rules=RULES, messages=messages, format="json"))
    assert body["text"] == {"format": {"type": "json_object"}}
    assert body["input"][0] == {"role": "developer", "content": "Answer with a JSON object."}
    body = await asked(question(rules=RULES, messages=(Message("user", "json?"),), format="json"))
    assert len(body["input"]) == 1


# --------------------------------------------------------------------------------------------- answers


async def test_a_whole_answer():
    """Thoughts, text and calls in their order, then one `Finish` with the usage; unknown events are nothing."""
    events = await answered(
        {"type": "response.created", "response": {}},
        {"type": "response.reasoning_summary_part.added", "summary_index": 0},
        {"type": "response.reasoning_summary_text.delta", "delta": "First"},
        {"type": "response.reasoning_summary_text.delta", "delta": ""},
        {"type": "response.reasoning_summary_part.added", "summary_index": 1},
        {"type": "response.reasoning_summary_text.delta", "delta": "then"},
        {"type": "response.reasoning_text.delta", "delta": "the same at length"},
        {"type": "response.brand_new", "delta": 3},
        text("Hel"),
        text(""),
        text("lo"),
        {"type": "response.output_item.done", "item": {"type": "message"}},
        call(call_id="c1", id="fc", name="f", arguments='{"x":1}'),
        call(name="g_h", arguments=""),
        COMPLETED,
        tools=(Tool("g.h"),),
    )
    made = events[-2].id
    assert events == [
        ThinkingDelta("First"),
        ThinkingDelta("\n\n"),
        ThinkingDelta("then"),
        TextDelta("Hel"),
        TextDelta("lo"),
        ToolCall("c1", "f", {"x": 1}),
        ToolCall(made, "g.h", {}),
        Finish("tool_calls", FINISH.usage, "completed"),
    ]
    assert made


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        *INCOMPLETE.items(),
        ("unheard of", "length"),
        (None, "length"),
    ],
)
async def test_every_way_to_be_incomplete(why, reason):
    """The reason is the provider's; an unknown one still means that the answer is not whole."""
    end = {"type": "response.incomplete", "response": {"incomplete_details": {"reason": why}, "usage": None}}
    assert await answered(text("a"), end) == [TextDelta("a"), Finish(reason, Usage(), why or "incomplete")]


def test_the_reasons_are_the_sdks():
    """OpenAI's list of reasons is ours."""
    literal, _ = get_args(IncompleteDetails.model_fields["reason"].annotation)
    assert set(get_args(literal)) == set(INCOMPLETE)


async def test_a_refusal_is_one():
    """In the model's words where there are any, in ours where a filter gave none."""
    events = await answered({"type": "response.refusal.delta", "delta": "No."}, COMPLETED)
    assert events == [TextDelta("No."), Finish("refusal", FINISH.usage, "completed")]
    end = {
        "type": "response.incomplete",
        "response": {"incomplete_details": {"reason": "content_filter"}},
    }
    assert await answered(end) == [TextDelta(FILTERED), Finish("refusal", Usage(), "content_filter")]


async def test_half_a_call_is_dropped_at_the_token_limit_only():
    """A call cut off by the limit is no call; broken arguments anywhere else are a broken reply."""
    half = call(call_id="c", name="f", arguments='{"x": "y')
    end = {
        "type": "response.incomplete",
        "response": {"incomplete_details": {"reason": "max_output_tokens"}},
    }
    assert await answered(half, end) == [Finish("length", Usage(), "max_output_tokens")]
    events, failure = await failed(half, COMPLETED)
    assert (events, type(failure)) == ([], UpstreamBroken)


async def test_log_probabilities():
    """Each text comes with its tokens."""
    logprobs = [{"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "b", "logprob": -1}]}]
    rules = Rules(api="responses")
    events = await answered(text("a", logprobs=logprobs), COMPLETED, rules=rules, logprobs=True)
    assert events[0] == TextDelta("a", (TokenLogprob("a", -0.5, (TokenLogprob("b", -1),)),))


@pytest.mark.parametrize(
    ("report", "kind", "status"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "Slow down"}, UpstreamBusy, 429),
        ({"type": "error", "code": "server_error", "message": "Sorry"}, UpstreamBroken, 502),
        (
            {"type": "error", "error": {"type": "invalid_request_error", "message": "Bad"}},
            UpstreamRejected,
            400,
        ),
        ({"type": "response.failed", "response": {"error": {"code": "server_error"}}}, UpstreamBroken, 502),
        (
            {"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded"}}},
            UpstreamBusy,
            429,
        ),
        (
            {"type": "response.failed", "response": {"error": {"code": "invalid_prompt"}}},
            UpstreamRejected,
            400,
        ),
        ({"type": "response.failed", "response": {"error": None}}, UpstreamBroken, 502),
        ({"object": "error", "message": "Bad", "code": 400}, UpstreamRejected, 400),
        ({"error": {"message": "Busy", "code": "503"}}, UpstreamBusy, 503),
    ],
)
async def test_an_error_inside_the_stream(report, kind, status):
    """The SDK would pass these on as events; here they end the reply, classified, without `Finish`."""
    events, failure = await failed(text("a"), orjson.dumps(report), COMPLETED)
    assert events == [TextDelta("a")]
    assert (type(failure), failure.status) == (kind, status)


async def test_stop_words_end_the_reply_and_the_stream():
    """The API knows no stop words: the text ends before the first, and the provider's stream is closed."""
    async with Upstream() as upstream, backend_at(upstream, api="responses") as backend:
        upstream.reply([sse(text("one <")), sse(text("/s")), sse(text("> two"))], gap_s=0.01, then="stall")
        events = await ask(backend, question(options={"stop": ["</s>"]}))
        assert (said(events), events[-1].reason) == ("one ", "stop")
        await upstream.closed_early.wait()


async def test_text_that_may_begin_a_stop_word_is_not_lost():
    """At the end of the reply, and when it breaks off, what was held back comes out."""
    request = {"options": {"stop": ["</s>"]}}
    assert await answered(text("a <"), COMPLETED, **request) == [TextDelta("a "), TextDelta("<"), FINISH]
    assert await answered(text("a <"), **request) == [TextDelta("a "), TextDelta("<")]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["", "a", "function_call", "content_filter"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                "delta item type name arguments call_id response incomplete_details reason usage error logprobs "
                "input_tokens output_tokens_details message code".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
kinds = st.sampled_from(sorted(ResponsesReader._table))


@given(
    st.lists(
        json_values
        | st.builds(
            lambda kind, rest: {**rest, "type": kind} if isinstance(rest, dict) else rest, kinds, json_values
        ),
        max_size=3,
    ),
    st.booleans(),
)
def test_no_json_makes_the_reader_stumble(events, logprobs):
    """Any JSON is understood, or is a broken reply: never another exception, never an odd event."""
    reader = ResponsesReader(FAILURES, "m", logprobs=logprobs)
    try:
        with FAILURES.mapped("m"):
            for value in events:
                for event in reader.feed(value):
                    if isinstance(event, TextDelta | ThinkingDelta):
                        assert event.text
                        assert isinstance(event.text, str)
    except UpstreamError:
        pass
