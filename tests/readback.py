"""How clients of both dialects ask for a recorded reply, and what they end up with."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from recorded import Recording
from running import Got, ask

HELLO = [{"role": "user", "content": "?"}]


@dataclass
class Answer:
    """What a client ends up with.

    Args:
        reply: As it came.
        error: What the client is told instead of an end.
        finish: The client's wire's own word.
        asked: Tokens of the prompt.
        answered: Tokens of the answer, reasoning included.
        cached: Of `asked`, where the client's wire tells.
    """

    reply: Got
    text: str = ""
    thinking: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    finish: str | None = None
    asked: int | None = None
    answered: int | None = None
    cached: int | None = None
    error: str = ""
    vectors: list[list[float]] = field(default_factory=list)


async def native(url: str, model: str, *, stream: bool, logprobs: bool = False) -> Answer:
    """`/api/chat`."""
    question = {"model": model, "messages": HELLO, "stream": stream, "logprobs": logprobs}
    return _lines(await ask(url, "POST", "/api/chat", question))


async def generated(url: str, model: str, *, stream: bool, **more: Any) -> Answer:
    """`/api/generate`."""
    question = {"model": model, "prompt": "?", "stream": stream, **more}
    return _lines(await ask(url, "POST", "/api/generate", question))


async def v1(url: str, model: str, *, stream: bool, logprobs: bool = False) -> Answer:
    """`/v1/chat/completions`."""
    question = {"model": model, "messages": HELLO, "stream": stream, "logprobs": logprobs}
    return _chunks(await _v1_asked(url, "/v1/chat/completions", question))


async def completed(url: str, model: str, *, stream: bool, **more: Any) -> Answer:
    """`/v1/completions`."""
    question = {"model": model, "prompt": "?", "stream": stream, **more}
    return _chunks(await _v1_asked(url, "/v1/completions", question))


async def embedded(url: str, model: str) -> Answer:
    """`/api/embed`."""
    reply = await ask(url, "POST", "/api/embed", {"model": model, "input": "?"})
    found = reply.json
    if reply.status != 200:
        return Answer(reply, error=found["error"])
    return Answer(reply, vectors=found["embeddings"], asked=found.get("prompt_eval_count"))


async def embedded_once(url: str, model: str) -> Answer:
    """`/api/embeddings`, which is older."""
    reply = await ask(url, "POST", "/api/embeddings", {"model": model, "prompt": "?"})
    found = reply.json
    if reply.status != 200:
        return Answer(reply, error=found["error"])
    return Answer(reply, vectors=[found["embedding"]])


async def v1_embedded(url: str, model: str) -> Answer:
    """`/v1/embeddings`."""
    reply = await ask(url, "POST", "/v1/embeddings", {"model": model, "input": "?"})
    found = reply.json
    if reply.status != 200:
        return Answer(reply, error=found["error"]["message"])
    vectors = [entry["embedding"] for entry in found["data"]]
    return Answer(reply, vectors=vectors, asked=found["usage"]["prompt_tokens"])


async def counted(url: str, model: str) -> Answer:
    """`/v1/messages/count_tokens`."""
    reply = await ask(url, "POST", "/v1/messages/count_tokens", {"model": model, "messages": HELLO})
    found = reply.json
    if reply.status != 200:
        return Answer(reply, error=found["error"]["message"])
    return Answer(reply, asked=found["input_tokens"])


async def _v1_asked(url: str, path: str, question: dict[str, Any]) -> Got:
    if question["stream"]:
        question["stream_options"] = {"include_usage": True}
    return await ask(
        url, "POST", path, {name: value for name, value in question.items() if value is not False}
    )


def _lines(reply: Got) -> Answer:
    is_stream = reply.headers["Content-Type"] == "application/x-ndjson"
    *parts, last = reply.lines if is_stream else [reply.json]
    made = Answer(reply, error=last.get("error", ""))
    assert not any(part["done"] for part in parts)
    if made.error:
        assert list(last) == ["error"]
    else:
        assert reply.status == 200
        assert last["done"]
        parts.append(last)
        made.finish = last["done_reason"]
        made.asked, made.answered = last.get("prompt_eval_count"), last.get("eval_count")
    for part in parts:
        said = part.get("message", part)
        made.text += said.get("content") or said.get("response") or ""
        made.thinking += said.get("thinking") or ""
        for call in said.get("tool_calls") or ():
            made.calls.append({"name": call["function"]["name"], "args": call["function"]["arguments"]})
    return made


def _chunks(reply: Got) -> Answer:
    is_stream = reply.headers["Content-Type"].startswith("text/event-stream")
    events = [block.removeprefix(b"data: ") for block in reply.body.split(b"\n\n")[:-1]] if is_stream else []
    chunks = [json.loads(event) for event in events if event != b"[DONE]"] or [reply.json]
    made = Answer(reply)
    if "error" in chunks[-1]:
        assert b"[DONE]" not in events
        made.error = chunks.pop()["error"]["message"]
    else:
        assert reply.status == 200
        assert events[-1:] in ([b"[DONE]"], [])
    for chunk in chunks:
        for choice in chunk["choices"]:
            _add(made, choice)
        if usage := chunk.get("usage"):
            made.asked, made.answered = usage["prompt_tokens"], usage["completion_tokens"]
            made.cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    if made.error:
        assert made.finish is None
    return made


def _add(made: Answer, choice: Mapping[str, Any]) -> None:
    said = choice.get("delta", choice.get("message", choice))
    made.text += said.get("content") or said.get("text") or ""
    made.thinking += said.get("reasoning") or ""
    for call in said.get("tool_calls") or ():
        function = call["function"]
        made.calls.append({"name": function["name"], "args": json.loads(function["arguments"])})
    made.finish = choice["finish_reason"] or made.finish


Way = Callable[[str, str], Any]


def ways(one: Recording) -> dict[str, Way]:
    """How its answer is asked for: by both of the dialects, streamed and whole, where the answer can be."""
    kind = one.api.partition(".")[2]
    if one.api == "ollama.embeddings":  # what a real Ollama answers is no answer to `/api/embed`
        return {"/api/embeddings": embedded_once, "/v1/embeddings": v1_embedded}
    if kind in {"embed", "embeddings", "embedContent"}:
        return {"/api/embed": embedded, "/v1/embeddings": v1_embedded}
    if kind in {"countTokens", "count_tokens"}:
        return {"/v1/messages/count_tokens": counted}
    made: dict[str, Way] = {}
    for stream in (True, False):
        how = "streamed" if stream else "whole"
        if kind in {"generate", "completions"}:
            gap = {"suffix": "!"} if kind == "completions" else {}
            made[f"/api/generate {how}"] = _bound(generated, stream=stream, **gap)
            made[f"/v1/completions {how}"] = _bound(completed, stream=stream, **gap)
        else:
            logprobs = {"logprobs": True} if one.facts["logprobs"] else {}
            made[f"/api/chat {how}"] = _bound(native, stream=stream, **logprobs)
            made[f"/v1/chat/completions {how}"] = _bound(v1, stream=stream, **logprobs)
    return made


def _bound(way: Callable[..., Any], **how: Any) -> Way:
    return lambda url, model: way(url, model, **how)
