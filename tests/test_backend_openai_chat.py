"""Chat Completions: what is asked, and what becomes of the answer."""

import re
from typing import get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAIError
from openai.types.chat.chat_completion_chunk import Choice
from structlog.testing import capture_logs

from ollama_bridge.backends import ProviderSettings, openai_chat
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.openai import DEFAULT_URL, OPENAI_ERROR_TYPES
from ollama_bridge.backends.openai_wire import FILTERED
from ollama_bridge.chat import Image, Message, Rules, Tool
from ollama_bridge.errors import UpstreamBroken, UpstreamBusy, UpstreamError, UpstreamRejected
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, TokenLogprob, ToolCall, Usage
from openai_asking import (
    ask,
    ask_until_it_fails,
    backend_at,
    calls,
    question,
    recorded,
    recordings,
    said,
    thought,
)
from upstream import Upstream, split_at_random, sse

ALL_OPTIONS = frozenset(
    "temperature top_p top_k min_p seed stop presence_penalty frequency_penalty repeat_penalty logprobs".split()
)
FAILURES = Failures(
    ProviderSettings("acme", "openai"), DEFAULT_URL, "OPENAI_API_KEY", OpenAIError, OPENAI_ERROR_TYPES
)


def chunk(delta=None, finish=None, **more):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}


USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
STOP = chunk(finish="stop")


async def asked(request, **settings):
    """The body of the one request that reaches the provider."""
    async with Upstream() as upstream, backend_at(upstream, **settings) as backend:
        upstream.reply(sse(chunk({"content": "ok"}), STOP, done=True))
        await ask(backend, request)
        (seen,) = upstream.requests
        assert (seen.method, seen.path) == ("POST", "/v1/chat/completions")
        return seen.json


async def answered(*chunks, request=None, done=True):
    """The events that these chunks become."""
    async with Upstream() as upstream, backend_at(upstream) as backend:
        upstream.reply(sse(*chunks, done=done))
        return await ask(backend, request)


async def failed(*chunks, request=None):
    """The events before the failure that these chunks become, and the failure."""
    async with Upstream() as upstream, backend_at(upstream) as backend:
        upstream.reply(sse(*chunks, done=True))
        return await ask_until_it_fails(backend, request)


# -------------------------------------------------------------------------------------------- requests


async def test_the_whole_request():
    """Everything a client can say arrives as Chat Completions has it, and nothing else."""
    calls = (ToolCall("call_1", "look", {"where": "desk"}), ToolCall("", "ring", {}))
    request = question(
        rules=Rules(accepts=ALL_OPTIONS, system_role="developer", max_tokens_field="max_completion_tokens"),
        messages=(
            Message("system", "Be brief."),
            Message("system", "Be kind."),
            Message(
                "user", "What is this?", images=(Image("aGk=", "image/png"), Image("aG8=", "image/webp"))
            ),
            Message("assistant", "A moment.", thinking="hm", tool_calls=calls),
            Message("tool", "a pen", tool_call_id="call_1", tool_name="look"),
            Message("tool", "", tool_name="ring"),
            Message("system", "It is late."),
            Message("user", "And?"),
        ),
        tools=(
            Tool("look", "Look somewhere.", {"type": "object", "properties": {"where": {}}}),
            Tool("ring"),
        ),
        format={"type": "object"},
        think="high",
        logprobs=True,
        top_logprobs=3,
        options={
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 40,
            "min_p": 0.1,
            "seed": 7,
            "stop": ["END"],
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "repeat_penalty": 1.1,
            "num_predict": 64,
            "num_ctx": 4096,
        },
    )
    body = await asked(request)
    made = body["messages"][3]["tool_calls"][1]["id"]
    assert re.fullmatch("[A-Za-z0-9]{9}", made)
    assert body == {
        "model": "gpt-x",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "developer", "content": "Be kind."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
                    {"type": "image_url", "image_url": {"url": "data:image/webp;base64,aG8="}},
                ],
            },
            {
                "role": "assistant",
                "content": "A moment.",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "look", "arguments": '{"where":"desk"}'},
                    },
                    {"id": made, "type": "function", "function": {"name": "ring", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "a pen"},
            {"role": "tool", "tool_call_id": made, "content": ""},
            {"role": "developer", "content": "It is late."},
            {"role": "user", "content": "And?"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "description": "Look somewhere.",
                    "parameters": {"type": "object", "properties": {"where": {}}},
                },
            },
            {
                "type": "function",
                "function": {"name": "ring", "parameters": {"type": "object", "properties": {}}},
            },
        ],
        "max_completion_tokens": 64,
        "reasoning_effort": "high",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "response", "schema": {"type": "object"}, "strict": False},
        },
        "logprobs": True,
        "top_logprobs": 3,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.1,
        "seed": 7,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "repetition_penalty": 1.1,
        "stop": ["END"],
    }


async def test_the_least_request():
    """Nothing is sent that was not asked for."""
    assert await asked(question(options={"num_predict": -1, "seed": -1, "stop": []})) == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_only_openai_is_told_of_obfuscation():
    """Padding is switched off where it exists; vendors might refuse the word."""
    for is_openai, expected in (
        (True, {"include_usage": True, "include_obfuscation": False}),
        (False, {"include_usage": True}),
    ):
        prepared = openai_chat.prepare(question(), (), is_openai=is_openai)
        assert prepared.body["stream_options"] == expected


async def test_what_a_model_refuses_is_dropped_with_one_line():
    """Refused options never reach the provider, and the log names them once; the runner's are nobody's business."""
    request = question(
        rules=Rules(accepts=frozenset()),
        options={
            "temperature": 1.0,
            "top_k": 3,
            "typical_p": 1.0,
            "num_ctx": 8,
            "num_predict": 9,
            "stop": "x",
        },
        logprobs=True,
    )
    with capture_logs() as lines:
        body = await asked(request)
    assert set(body) == {"model", "messages", "stream", "stream_options", "max_tokens"}
    assert [line for line in lines if line["event"] == "options dropped"] == [
        {
            "event": "options dropped",
            "log_level": "info",
            "model": "gpt-x",
            "options": ["temperature", "top_k", "typical_p", "logprobs"],
        }
    ]


EFFORTS = ("none", "low", "medium", "high", "xhigh")


@pytest.mark.parametrize(
    ("think", "efforts", "sent"),
    [
        (None, EFFORTS, None),
        (False, EFFORTS, "none"),
        (False, ("minimal", "low", "high"), "minimal"),
        (True, EFFORTS, "medium"),
        (True, ("low", "medium", "high"), None),
        ("low", EFFORTS, "low"),
        ("max", EFFORTS, "xhigh"),
        ("low", ("none", "medium", "high"), "medium"),
        ("high", ("none",), None),
        ("high", (), None),
        (False, (), None),
    ],
)
async def test_think_becomes_the_nearest_effort_the_model_knows(think, efforts, sent):
    """A word the model lacks is replaced, never sent; `true` wakes a model that may not think by default."""
    body = await asked(question(think=think, rules=Rules(efforts=efforts)))
    assert body.get("reasoning_effort") == sent


async def test_a_model_that_cannot_be_told_is_not_told():
    """Thinking that is asked for in no way OpenAI knows is left alone."""
    body = await asked(question(think=True, rules=Rules(thinking=frozenset({"adaptive"}))))
    assert "reasoning_effort" not in body


@pytest.mark.parametrize(
    ("content", "rules", "first"),
    [
        ("Answer as json.", Rules(), {"role": "user", "content": "Answer as json."}),
        ("Hello", Rules(), {"role": "system", "content": "Answer with a JSON object."}),
    ],
)
async def test_json_mode_says_json(content, rules, first):
    """OpenAI refuses `json_object` unless some message says "JSON": one is added only then."""
    body = await asked(question(messages=(Message("user", content),), format="json", rules=rules))
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][0] == first


async def test_a_schema_for_a_model_that_takes_none_is_told_in_words():
    """The schema is not lost: it stands in a message, and the answer is at least JSON."""
    body = await asked(question(format={"type": "array"}, rules=Rules(schema=False)))
    assert body["response_format"] == {"type": "json_object"}
    assert body["messages"][0]["content"].endswith('JSON Schema: {"type":"array"}')


async def test_what_a_tool_shows_follows_as_the_users():
    """A tool message holds text only: its images come after all results of the turn."""
    picture = Image("aGk=", "image/png")
    messages = (
        Message("user", "Look"),
        Message("assistant", tool_calls=(ToolCall("a", "f"), ToolCall("b", "f"))),
        Message("tool", "1", tool_call_id="a", images=(picture,)),
        Message("tool", "2", tool_call_id="b"),
    )
    body = await asked(question(messages=messages))
    assert body["messages"][1]["content"] is None
    assert [m["role"] for m in body["messages"]] == ["user", "assistant", "tool", "tool", "user"]
    assert body["messages"][4]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    ]


@pytest.mark.parametrize(("prefill", "last"), [(True, "assistant"), (False, "user")])
async def test_the_last_word_is_the_users_where_it_must_be(prefill, last):
    """A model without prefill gets a user message behind the assistant's."""
    messages = (Message("user", "Count"), Message("assistant", "one, two"))
    body = await asked(question(messages=messages, rules=Rules(prefill=prefill)))
    assert body["messages"][-1]["role"] == last


async def test_stop_words_beyond_what_the_model_takes_are_seen_to_here():
    """The first go to the provider; the others cut the text all the same."""
    async with Upstream() as upstream, backend_at(upstream) as backend:
        upstream.reply(sse(chunk({"content": "one t"}), chunk({"content": "wo three"})), then="stall")
        events = await ask(backend, question(rules=Rules(max_stops=1), options={"stop": ["x", "two"]}))
        assert upstream.requests[0].json["stop"] == ["x"]
        assert (said(events), events[-1].reason) == ("one ", "stop")
        await upstream.closed_early.wait()


# --------------------------------------------------------------------------------------------- answers


async def test_a_plain_answer():
    """Text as it came, then one `Finish` with the reason and the usage of the chunk behind it."""
    usage = {
        "prompt_tokens": 20,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 12, "cache_write_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    events = await answered(
        chunk({"role": "assistant", "content": ""}, usage=None),
        chunk({"content": "Hel"}),
        chunk({"content": "lo"}),
        STOP,
        {"choices": [], "usage": usage},
    )
    assert events == [TextDelta("Hel"), TextDelta("lo"), Finish("stop", Usage(20, 9, 12, 3, 4), "stop")]


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ({"content": "a", "role": "assistant"}, [TextDelta("a")]),
        ({"reasoning_content": "a", "content": None}, [ThinkingDelta("a")]),
        ({"reasoning": "a", "content": "b"}, [ThinkingDelta("a"), TextDelta("b")]),
        ({"reasoning": {"text": "a"}}, [ThinkingDelta("a")]),
        (
            {"reasoning_details": [{"type": "reasoning.text", "text": "a"}, {"summary": "b"}]},
            [ThinkingDelta("ab")],
        ),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]},
            [ThinkingDelta("a")],
        ),
        (
            {"content": [{"type": "text", "text": "a"}, {"type": "reference"}, "b"]},
            [TextDelta("a"), TextDelta("b")],
        ),
    ],
)
async def test_every_shape_of_a_delta(delta, expected):
    """Vendors differ in where they put text and reasoning; each spelling is understood."""
    assert (await answered(chunk(delta), STOP))[:-1] == expected


@pytest.mark.parametrize(
    "fragments",
    [
        [  # OpenAI: by index, the arguments in pieces
            [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}],
            [{"index": 0, "function": {"arguments": '{"x"'}}],
            [{"index": 0, "function": {"arguments": ": 1}"}}],
            [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}],
        ],
        [  # interleaved
            [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x"'}}],
            [{"index": 1, "id": "b", "function": {"name": "g"}}],
            [{"index": 0, "function": {"arguments": ":1}"}}],
        ],
        [  # without index: a name begins a call
            [{"id": "a", "function": {"name": "f", "arguments": '{"x"'}}],
            [{"function": {"arguments": ":1}"}}],
            [{"id": "b", "function": {"name": "g", "arguments": ""}}],
        ],
        [  # index 0 for all, new ids
            [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}}],
            [{"index": 0, "function": {"arguments": "1}"}}],
            [{"index": 0, "id": "b", "function": {"name": "g", "arguments": "{}"}}],
        ],
        [  # two whole calls in one delta, arguments as object or null
            [
                {"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}},
                {"index": 1, "id": "b", "function": {"name": "g", "arguments": None}},
            ]
        ],
        [  # id and name in every piece; encoded twice; "null"
            [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '"{\\"x\\"'}}],
            [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ':1}"'}}],
            [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "null"}}],
        ],
    ],
)
async def test_every_way_to_send_tool_calls(fragments):
    """However vendors cut them, calls come out whole, in order, with the provider's ids."""
    deltas = [chunk({"tool_calls": piece}) for piece in fragments]
    events = await answered(*deltas, chunk(finish="tool_calls"), USAGE)
    assert events == [
        ToolCall("a", "f", {"x": 1}),
        ToolCall("b", "g", {}),
        Finish("tool_calls", Usage(7, 2), "tool_calls"),
    ]


async def test_calls_without_an_id_get_one():
    """The same place in the same conversation gets the same id; index 0 for all is no hindrance."""
    fragment = {"index": 0, "function": {"name": "f", "arguments": "{}"}}
    first, second = [
        await answered(chunk({"tool_calls": [fragment]}), chunk({"tool_calls": [fragment]}), STOP)
        for _ in range(2)
    ]
    assert first == second
    assert [event.name for event in first[:-1]] == ["f", "f"]
    assert len({event.id for event in first[:-1]}) == 2
    assert first[-1].reason == "tool_calls"  # though it said "stop"


async def test_the_call_of_before_there_were_tools():
    """`function_call` is still what some vendors send."""
    events = await answered(
        chunk({"function_call": {"name": "f", "arguments": '{"x":'}}),
        chunk({"function_call": {"arguments": "2}"}}),
        chunk(finish="function_call"),
    )
    assert (calls(events), events[-1].reason) == ([{"name": "f", "args": {"x": 2}}], "tool_calls")


async def test_half_a_call_is_dropped_at_the_token_limit_only():
    """A call cut off by `length` is no call; broken arguments anywhere else are a broken reply."""
    whole = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    half = {"index": 1, "id": "b", "function": {"name": "g", "arguments": '{"x": "y'}}
    pieces = [chunk({"tool_calls": [whole]}), chunk({"tool_calls": [half]})]
    begun = chunk({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": ""}}]})
    for cut_off in (pieces, [pieces[0], begun]):
        events = await answered(*cut_off, chunk(finish="length"))
        assert events == [ToolCall("a", "f", {}), Finish("length", Usage(), "length")]
    events, failure = await failed(*pieces, chunk(finish="tool_calls"))
    assert isinstance(failure, UpstreamBroken)
    assert '"y' not in str(failure)


@pytest.mark.parametrize(
    ("chunks", "usage"),
    [
        ([chunk(finish="stop", usage=USAGE["usage"])], Usage(7, 2)),
        ([chunk(finish="stop", x_groq={"id": "r", "usage": USAGE["usage"]})], Usage(7, 2)),
        ([STOP, chunk(finish="stop", usage=USAGE["usage"])], Usage(7, 2)),
        ([STOP, {"choices": [], "usage": None}], Usage()),
        ([STOP, {"usage": {"prompt_tokens": "7", "completion_tokens": None}}], Usage()),
        (
            [STOP, {"choices": [], "usage": {"prompt_tokens": 9, "prompt_cache_hit_tokens": 5}}],
            Usage(9, 0, 5),
        ),
        (  # xAI counts reasoning beside the completion
            [
                STOP,
                {
                    "choices": [],
                    "usage": {
                        "prompt_tokens": 10,
                        "completion_tokens": 5,
                        "total_tokens": 35,
                        "completion_tokens_details": {"reasoning_tokens": 20},
                    },
                },
            ],
            Usage(10, 25, reasoning_tokens=20),
        ),
    ],
)
async def test_usage_wherever_it_stands(chunks, usage):
    """The last usage counts, and `Finish` waits for it."""
    assert await answered(*chunks) == [Finish("stop", usage, "stop")]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        *(
            (word, openai_chat.FINISH_REASONS[word])
            for word in get_args(get_args(Choice.model_fields["finish_reason"].annotation)[0])
        ),
        ("STOP", "stop"),
        ("eos", "stop"),
        ("model_length", "length"),
        ("something new", "stop"),
    ],
)
async def test_every_finish_reason(word, reason):
    """OpenAI's words, as its SDK lists them, and those of vendors; an unknown one is an end like any other."""
    events = await answered(chunk({"content": "a"}), chunk(finish=word))
    assert events == [TextDelta("a"), Finish(reason, Usage(), word)]


async def test_a_filtered_answer_says_so():
    """A refusal in the model's words is its answer; a filter that explains nothing is explained."""
    events = await answered(chunk({"refusal": "No", "content": None}), chunk({"refusal": "."}), STOP)
    assert events == [TextDelta("No"), TextDelta("."), Finish("refusal", Usage(), "stop")]
    events = await answered(chunk(finish="content_filter"))
    assert events == [TextDelta(FILTERED), Finish("refusal", Usage(), "content_filter")]


async def test_log_probabilities():
    """Each text comes with its tokens; those of a chunk without text come with the next text."""

    def tokens(*names):
        return {
            "content": [
                {"token": n, "logprob": -1, "bytes": [1], "top_logprobs": [{"token": "z", "logprob": -2.5}]}
                for n in names
            ]
        }

    def with_tokens(text, found):
        made = chunk({"content": text})
        made["choices"][0]["logprobs"] = found
        return made

    request = question(logprobs=True, top_logprobs=1)
    events = await answered(
        with_tokens("", {"content": [], "refusal": None}),
        with_tokens("a", tokens("a")),
        with_tokens("", tokens("b1")),
        with_tokens("b", tokens("b2")),
        STOP,
        request=request,
    )
    top = (TokenLogprob("z", -2.5),)
    assert events[:-1] == [
        TextDelta("a", (TokenLogprob("a", -1, top),)),
        TextDelta("b", (TokenLogprob("b1", -1, top), TokenLogprob("b2", -1, top))),
    ]


async def test_only_the_first_choice_is_read():
    """More than one answer was never asked for."""
    other = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]}
    events = await answered(other, chunk({"content": "yes"}), other)
    assert events == [TextDelta("yes")]


@pytest.mark.parametrize(
    ("report", "kind", "status"),
    [
        (
            {"error": {"message": "Rate limit", "code": "rate_limit_exceeded", "type": "tokens"}},
            UpstreamBusy,
            429,
        ),
        ({"error": {"message": "Sorry", "type": "server_error"}}, UpstreamBroken, 502),
        ({"error": {"message": "Bad", "code": "tool_use_failed"}}, UpstreamRejected, 400),
        (
            {"error": {"message": "Provider down", "code": 503}, "choices": [{"finish_reason": "error"}]},
            UpstreamBusy,
            503,
        ),
        ({"object": "error", "message": "Too long", "type": "invalid_request_error"}, UpstreamRejected, 400),
        ({"error": "plain words"}, UpstreamBroken, 502),
        (chunk(finish="error"), UpstreamBroken, 502),
        (chunk(finish="insufficient_system_resource"), UpstreamBusy, 503),
        ({"choices": [{"index": 0, "error": {"code": 429, "message": "Slow down"}}]}, UpstreamBusy, 429),
    ],
)
async def test_an_error_inside_the_stream(report, kind, status):
    """Whatever a vendor's error looks like, it is one, classified, and it ends the reply without `Finish`."""
    events, failure = await failed(chunk({"content": "a"}), report, STOP)
    assert events == [TextDelta("a")]
    assert (type(failure), failure.status) == (kind, status)
    assert str(failure).startswith("acme: model 'gpt-x': ")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "a", "stop", "text"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "choices delta content index finish_reason tool_calls function name arguments id usage error "
                "type text thinking reasoning logprobs token logprob prompt_tokens x_groq message refusal".split()
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(
    st.lists(st.one_of(json_values, st.builds(lambda c: {"choices": [c]}, json_values)), max_size=3),
    st.booleans(),
)
def test_no_json_makes_the_reader_stumble(chunks, logprobs):
    """Any JSON is understood, or is a broken reply: never another exception, never an odd event."""
    reader = openai_chat.ChatReader(FAILURES, "m", logprobs=logprobs)
    try:
        with FAILURES.mapped("m"):
            for value in chunks:
                for event in reader.feed(orjson.loads(orjson.dumps(value))):
                    assert not isinstance(event, TextDelta | ThinkingDelta) or (
                        event.text and isinstance(event.text, str)
                    )
            reader.close()
    except UpstreamError:
        pass


# ------------------------------------------------------------------------------------------ recordings

STREAMS = recordings("*/chat-stream-*.json")


@pytest.mark.skipif(not STREAMS, reason="the recordings are not there")
@pytest.mark.parametrize("path", STREAMS, ids=lambda path: f"{path.parent.name}/{path.stem}")
async def test_recorded_replies_of_all_vendors(path):
    """Every recorded stream, cut at random byte borders, gives what an independent reading of it gives."""
    recording, facts = recorded(path)
    if recording["api"] != "openai.chat":
        pytest.skip("of another API")
    response = recording["response"]
    async with Upstream() as upstream, backend_at(upstream) as backend:
        pieces = split_at_random(response["body"].encode(), seed=len(response["body"]))
        upstream.reply(pieces, status=response["status"], headers=response["headers"])
        events, failure = await ask_until_it_fails(backend)
    if facts["errors"] or response["status"] >= 400:
        assert isinstance(failure, UpstreamError)
        assert not any(isinstance(event, Finish) for event in events)
        assert response["status"] >= 400 or thought(events) == facts["thinking"]
        return
    assert failure is None
    assert said(events) == facts["text"] + facts["refusal"]
    assert thought(events) == facts["thinking"]
    # An argument text that is no JSON is half of one: the oracle keeps it, we drop the call.
    whole = [call for call in facts["tools"] if not isinstance(call["args"], str)]
    assert calls(events) == [{"name": call["name"], "args": call["args"] or {}} for call in whole]
    if facts["finish"] is None:
        assert not any(isinstance(event, Finish) for event in events)
        return
    finish = events[-1]
    assert finish.detail == facts["finish"]
    assert finish.usage.input_tokens == facts["usage"].get("prompt_tokens", 0)
    assert finish.usage.cached_read_tokens == facts["cached"]
