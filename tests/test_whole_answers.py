"""Answers in one piece, and Cohere's own, as the backends read them."""

import json

import pytest

from ollama_bridge.backends import cohere_stream, whole
from ollama_bridge.errors import UpstreamBroken, UpstreamBusy, UpstreamError
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, ToolCall, Usage
from openai_asking import ask, ask_until_it_fails, backend_at, calls, said, thought
from upstream import Upstream, sse

JSON = {"content-type": "application/json"}


def completion(**message):
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}


def response(status="completed", **more):
    content = [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}]
    return {
        "object": "response",
        "status": status,
        "output": [{"type": "message", "content": content}],
        **more,
    }


async def answered(body, *, api="chat", headers=JSON):
    async with Upstream() as upstream, backend_at(upstream, api=api) as backend:
        upstream.reply(body if isinstance(body, bytes) else json.dumps(body).encode(), headers=headers)
        return await ask_until_it_fails(backend)


async def test_a_list_that_holds_one_answer():
    """Some gateways send lists."""
    events, failure = await answered([completion(content="yes")])
    assert failure is None
    assert events == [TextDelta("yes"), Finish("stop", Usage(3, 4), "stop")]


async def test_a_message_beside_an_empty_delta():
    """Perplexity's."""
    reply = completion(content="yes")
    reply["choices"][0]["delta"] = {"role": "assistant", "content": ""}
    events, _ = await answered(reply)
    assert said(events) == "yes"


async def test_a_stream_of_one_message():
    """A proxy that pretends to stream sends the whole answer as one event."""
    async with Upstream() as upstream, backend_at(upstream) as backend:
        upstream.reply(sse(json.dumps(completion(content="yes")), done=True))
        assert said(await ask(backend)) == "yes"


async def test_a_message_that_repeats_what_was_streamed_is_not_said_again():
    """Neither text nor calls."""
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    deltas = [{"choices": [{"delta": {"content": "yes"}}]}, {"choices": [{"delta": {"tool_calls": [call]}}]}]
    last = completion(content="yes", tool_calls=[call])
    async with Upstream() as upstream, backend_at(upstream) as backend:
        upstream.reply(sse(*map(json.dumps, [*deltas, last]), done=True))
        events = await ask(backend)
    assert said(events) == "yes"
    assert calls(events) == [{"name": "f", "args": {}}]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (response(), Finish("stop", detail="completed")),
        (response("complete"), Finish("stop", detail="completed")),
        (
            response("incomplete", incomplete_details={"reason": "max_output_tokens"}),
            Finish("length", detail="max_output_tokens"),
        ),
    ],
)
async def test_a_response_ends_as_its_status_says(reply, expected):
    """Its texts are one answer."""
    events, failure = await answered(reply, api="responses")
    assert failure is None
    assert said(events) == "ab"
    assert events[-1] == expected


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled"])
async def test_a_response_that_is_not_done_has_no_end(status):
    """Nobody takes it for whole."""
    events, _ = await answered(response(status), api="responses")
    assert not any(isinstance(event, Finish) for event in events)


async def test_a_failed_response_is_an_error():
    """In the provider's words."""
    error = {"code": "rate_limit_exceeded", "message": "slowly"}
    _, failure = await answered(response("failed", error=error), api="responses")
    assert isinstance(failure, UpstreamBusy)
    assert "slowly" in str(failure)


async def test_an_error_in_a_list_tells_how_long_to_wait():
    """As it does outside of one."""
    body = [{"error": {"code": 429, "message": "slowly"}}]
    _, failure = await answered(body, headers={**JSON, "retry-after": "7"})
    assert isinstance(failure, UpstreamBusy)
    assert failure.retry_after_s == 7


async def test_half_of_an_answer_may_be_asked_for_again():
    """It was cut off, and nothing of it said."""
    events, failure = await answered(json.dumps(completion(content="yes")).encode()[:-9])
    assert events == []
    assert isinstance(failure, UpstreamBroken)
    assert failure.retryable


async def test_an_answer_without_an_end_is_none():
    """`[DONE]` ends what was said without a reason, as Snowflake does; nothing ends what was not said."""
    word = {"choices": [{"delta": {"content": "yes"}}]}
    async with Upstream() as upstream, backend_at(upstream) as backend:
        upstream.only(sse(json.dumps(word), done=True))
        assert await ask(backend) == [TextDelta("yes"), Finish("stop", detail="stop")]
        for silent in (sse(json.dumps(word)), sse(done=True)):
            upstream.only(silent)
            assert not any(isinstance(event, Finish) for event in await ask(backend))


@pytest.mark.parametrize("odd", [None, 3, "x", [], {}, {"choices": []}, {"content": []}, {"message": "no"}])
@pytest.mark.parametrize("read", [whole.completion, whole.generation, whole.message, whole.response])
def test_what_is_no_answer_has_no_events(read, odd):
    """On any wire."""
    assert list(read(odd)) == []


# ---------------------------------------------------------------------------------------------- Cohere's own


def event(kind, **more):
    return {"type": kind, **more}


def delta(kind, index=0, **message):
    return event(kind, index=index, delta={"message": message})


END = event(
    "message-end",
    delta={
        "finish_reason": "TOOL_CALL",
        "usage": {
            "billed_units": {"input_tokens": 1},
            "tokens": {"input_tokens": 30, "image_tokens": 5, "output_tokens": 9, "reasoning_tokens": 2},
            "cached_tokens": 16,
        },
    },
)


async def test_coheres_own_stream():
    """Text, thinking and calls by their names; of the rest nothing."""
    function = {"name": "f", "arguments": ""}
    events = [
        event("message-start", delta={"message": {"role": "assistant", "content": []}}),
        delta("tool-plan-delta", tool_plan="I will"),
        delta("content-start", content={"type": "thinking", "thinking": ""}),
        delta("content-delta", content={"thinking": "hm"}),
        delta("content-delta", 1, content={"text": "yes"}),
        delta("citation-start", citations={"text": "yes"}),
        delta("tool-call-start", 0, tool_calls={"id": "c0", "type": "function", "function": function}),
        delta("tool-call-delta", 0, tool_calls={"function": {"arguments": '{"a"'}}),
        delta("tool-call-delta", 0, tool_calls={"function": {"arguments": ":1}"}}),
        END,
    ]
    async with Upstream() as upstream, backend_at(upstream) as backend:
        upstream.reply(sse(*events, done=True))
        got = await ask(backend)
    assert got == [
        ThinkingDelta("hm"),
        TextDelta("yes"),
        ToolCall("c0", "f", {"a": 1}),
        Finish(
            "tool_calls",
            Usage(input_tokens=35, output_tokens=9, cached_read_tokens=16, reasoning_tokens=2),
            "TOOL_CALL",
        ),
    ]


async def test_coheres_own_answer_in_one_piece():
    """Its content is a list."""
    message = {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "yes"}]}
    events, failure = await answered({"message": message, "finish_reason": "MAX_TOKENS"})
    assert failure is None
    assert (thought(events), said(events)) == ("hm", "yes")
    assert events[-1] == Finish("length", detail="MAX_TOKENS")


async def test_coheres_own_failures_are_errors():
    """Its words for them are in the place of a reason."""
    _, failure = await answered(sse(event("message-end", delta={"finish_reason": "ERROR"})), headers=None)
    assert isinstance(failure, UpstreamError)


def test_other_chunks_are_not_coheres():
    """An event of a kind that is not read is none."""
    assert cohere_stream.chunk_of({"type": "message-start"}) is None
    assert cohere_stream.chunk_of({"usage": {}}) is None
