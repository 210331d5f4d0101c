"""Chat Completions: what becomes of the answer."""

from typing import get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAIError
from openai.types.chat.chat_completion_chunk import Choice

from ollama_bridge.backends import ProviderSettings, openai_chat
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.openai import OPENAI_ERROR_TYPES
from ollama_bridge.backends.openai_wire import FILTERED
from ollama_bridge.backends.vendors import OPENAI_URL
from ollama_bridge.chat import Tool
from ollama_bridge.errors import UpstreamBroken, UpstreamBusy, UpstreamError, UpstreamRejected
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, TokenLogprob, ToolCall, Usage
from openai_asking import (
    ask,
    ask_until_it_fails,
    backend_at,
    calls,
    question,
)
from upstream import Upstream, sse

FAILURES = Failures(
    ProviderSettings("acme", "openai"), OPENAI_URL, "OPENAI_API_KEY", OpenAIError, OPENAI_ERROR_TYPES
)


def chunk(delta=None, finish=None, **more):
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more}


USAGE = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
STOP = chunk(finish="stop")


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


async def test_tools_keep_the_clients_names():
    """OpenAI takes letters, digits, `_` and `-` only; the client hears of its tool by the name it gave."""
    fragments = [{"index": 0, "id": "a", "function": {"name": "files_read", "arguments": "{}"}}]
    async with Upstream() as upstream, backend_at(upstream) as backend:
        upstream.reply(sse(chunk({"tool_calls": fragments}), chunk(finish="tool_calls")))
        tools = (Tool("files.read"), Tool("files_read"), Tool("x" * 70))
        events = await ask(backend, question(tools=tools))
        names = [tool["function"]["name"] for tool in upstream.requests[0].json["tools"]]
    assert names == ["files_read", "files_read_2", "x" * 64]
    assert calls(events) == [{"name": "files.read", "args": {}}]


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
        ([STOP, {"usage": {"prompt_tokens": "7", "completion_tokens": None}}], Usage(7)),
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


async def test_nothing_follows_the_end():
    """What a vendor sends behind its last chunk is not read."""
    events = await answered(chunk({"content": "a"}), STOP, USAGE, chunk({"content": "late"}), STOP)
    assert events == [TextDelta("a"), Finish("stop", Usage(7, 2), "stop")]


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
    *events, finish = await answered(other, chunk({"content": "yes"}), other)
    assert events == [TextDelta("yes")]
    assert finish.usage == Usage()


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
