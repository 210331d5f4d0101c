"""Recordings as a test needs them: each served by a fake provider to the running daemon, and read back from it.

`check.py`, beside the recordings, is the oracle: what a client should end up with.
"""

import importlib.util
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import ModuleType
from typing import Any
from zlib import crc32

import pytest

from anthropic_asking import start, stop
from ollama_bridge.config import Config
from running import Got, ask
from shared import SHARED
from upstream import Upstream, split_at_random, sse

FOLDER = SHARED / "recordings" if SHARED else None
IS_HERE = FOLDER is not None and FOLDER.is_dir()

WIRES: dict[str, tuple[dict[str, Any], str]] = {
    "anthropic": ({"kind": "anthropic"}, ""),
    "openai.responses": ({"kind": "openai", "api": "responses"}, "/v1"),
    "openai": ({"kind": "openai", "api": "chat", "fim": "completions"}, "/v1"),
    "cohere": ({"kind": "openai", "api": "chat"}, "/v1"),
    "gemini": ({"kind": "google"}, ""),
    "ollama": ({"kind": "ollama"}, ""),
}
"""An API, or the first part of its name, to the provider that is asked over it, and the end of its `base_url`."""

NOT_YET = {
    "ollama.tags": "lists of a real Ollama's models come with its backend's",
    "ollama.ps": "lists of a real Ollama's models come with its backend's",
    "ollama.show": "what a real Ollama says of a model comes with its backend's lists",
    "ollama.pull": "its downloads come with its backend's lists",
    "ollama.version": "its version comes with its backend's lists",
}
"""Why recordings of these APIs are not replayed. An error is: it would be the same if anything else had been asked."""

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


@cache
def oracle() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recordings_oracle", FOLDER / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Recording:
    """One file: a provider's reply, and what it was an answer to."""

    name: str
    content: Mapping[str, Any] = field(repr=False)

    @property
    def provider(self) -> str:
        return self.content["provider"]

    @property
    def api(self) -> str:
        return self.content["api"]

    @property
    def model(self) -> str:
        return self.content["model"] or "x"

    @property
    def response(self) -> Mapping[str, Any]:
        return self.content["response"]

    @property
    def status(self) -> int:
        return self.response["status"]

    @property
    def facts(self) -> Mapping[str, Any]:
        return oracle().facts(self.content)[0]

    @property
    def is_error(self) -> bool:
        """Whether it is nothing but an error: of Mistral's flat ones the oracle makes nothing."""
        return self.status >= 400

    @property
    def fails(self) -> bool:
        """Whether it is an error, from the start or in the midst."""
        return self.is_error or bool(self.facts["errors"])

    @property
    def pauses(self) -> bool:
        """Whether the turn is to be gone on with by another request."""
        return self.facts["finish"] == "pause_turn"

    @property
    def excuse(self) -> str:
        """Why it is not replayed; empty: it is."""
        return "" if self.is_error else NOT_YET.get(self.api, "")

    @property
    def is_plain(self) -> bool:
        """Whether it is a text of some length, and nothing goes wrong."""
        return not self.fails and len(self.facts["text"]) > 50 and len(self.turns) == 1

    def serve(self, upstream: Upstream, way: str, body: bytes | None = None) -> None:
        """Answer with its bytes, or with these, from now on, split anew for every way of asking."""
        sent = self.response["body"].encode() if body is None else body
        pieces = split_at_random(sent, seed=crc32(f"{self.name} {way}".encode())) if sent else b""
        upstream.only(pieces, status=self.status, headers=self.response["headers"])
        if self.pauses:  # it is asked to go on, and has nothing to add
            upstream.reply(sse(start(input_tokens=0), *stop(output_tokens=0)))

    @property
    def turns(self) -> list["Recording"]:
        """Itself; of a file that holds a dialogue, the replies that stream something: the others end what a server-side
        tool had begun, which nobody who does not offer that tool gets."""
        body = self.response["body"]
        replies = re.split("(?=^event: message_start$)", body, flags=re.MULTILINE)
        if len(replies) <= 2:
            return [self]
        said = [reply for reply in replies if "content_block_start" in reply]
        return [
            replace(self, content={**self.content, "response": {**self.response, "body": reply}})
            for reply in said
        ]


@cache
def recordings() -> tuple[Recording, ...]:
    paths = sorted(FOLDER.glob("*/*.json")) if IS_HERE else []
    return tuple(
        Recording(f"{path.parent.name}/{path.stem}", json.loads(path.read_text(encoding="utf-8")))
        for path in paths
    )


def wire_of(api: str) -> str:
    """The key of `WIRES` for an API."""
    return api if api in WIRES else api.partition(".")[0]


def config(of: list[Recording], url: str) -> Config:
    """The recordings' models, each at a provider of the name that the recording says; each is asked once."""
    providers, models = {}, []
    for one in of:
        wire = wire_of(one.api)
        entry, base = WIRES[wire]
        key = f"{one.provider}-{wire}"
        providers[key] = {**entry, "api_key": "k-test", "base_url": url + base}
        models.append(
            {
                "name": one.name,
                "backend": key,
                "backend_model": one.model,
                "capabilities": ["completion", "tools", "vision", "thinking", "insert", "embedding"],
            }
        )
    return Config.model_validate(
        {
            "server": {"port": 0},
            "retry": {"max_retries": 0},
            "breaker": {"failures": 0},
            "providers": providers,
            "models": models,
        }
    )


# ---------------------------------------------------------------------------------------------- ways to ask


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


# ---------------------------------------------------------------------------------------------- what it should be


def tokens(api: str, usage: Mapping[str, Any]) -> tuple[int, int]:
    """Of the prompt and of the answer, cached and reasoning ones included, as each API counts them."""

    def total(*keys: str, of: Mapping[str, Any] = usage) -> int:
        return sum(of.get(key) or 0 for key in keys)

    match wire_of(api):
        case "anthropic":
            prompt = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
            return total(*prompt), total("output_tokens")
        case "gemini":
            prompt = ("promptTokenCount", "toolUsePromptTokenCount")
            return total(*prompt), total("candidatesTokenCount", "thoughtsTokenCount")
        case "cohere":
            counts = usage["tokens"]  # what is billed is without Cohere's own part of the prompt
            return total("input_tokens", "image_tokens", of=counts), total("output_tokens", of=counts)
        case "ollama":
            return total("prompt_eval_count"), total("eval_count")
        case "openai.responses":
            return total("input_tokens"), total("output_tokens")
    asked, answered = total("prompt_tokens"), total("completion_tokens")
    details = usage.get("completion_tokens_details") or {}
    if total("total_tokens") == asked + answered + total("reasoning_tokens", of=details):
        answered += total("reasoning_tokens", of=details)  # xAI counts reasoning beside the completion
    return asked, answered


REFUSALS = {"refusal", "content_filter", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "ERROR_TOXIC"}


def compare(one: Recording, answer: Answer, way: str) -> None:
    """The answer is what it should be."""
    if way.endswith("count_tokens"):
        counted = json.loads(one.response["body"]).get("totalTokens")
        assert (
            answer.asked == counted if counted else answer.asked > 0
        )  # where nobody counts, it is estimated
    elif one.fails:
        compare_error(one, answer, way)
    elif answer.vectors:
        compare_vectors(one, answer)
    else:
        compare_reply(one, answer, way)


def compare_reply(one: Recording, answer: Answer, way: str) -> None:
    """Text, thinking, tool calls, finish and usage are the oracle's, but for what is explained here."""
    facts, is_completion = one.facts, "completions" in way and "chat" not in way
    is_refusal = facts["finish"] in REFUSALS
    assert not answer.error
    if is_refusal and not facts["text"]:
        assert answer.text  # a client that knows no refusals would show an empty answer
    else:
        refusal = "" if is_refusal else facts["refusal"]
        assert answer.text == facts["text"] + refusal
    if not is_completion:  # a wire without thinking and tool calls
        # The oracle joins the parts of a summary without the blank line that stands between them.
        assert answer.thinking.replace("\n\n", "") == facts["thinking"].replace("\n\n", "")
        # Arguments that are no JSON are half of them, of a call that a token limit cut off: it is not to be called.
        called = [tool for tool in facts["tools"] if not isinstance(tool["args"], str)]
        assert answer.calls == [{"name": tool["name"], "args": tool["args"] or {}} for tool in called]
    assert answer.finish == expected_finish(facts, way, has_calls=bool(answer.calls))
    if facts["usage"]:
        asked, answered = tokens(one.api, facts["usage"])
        # Ollama's clients take no zero for a number: what the provider does not tell is estimated, or left out.
        assert answer.asked == asked or not asked
        assert answer.answered == answered or not answered
        if answer.cached is not None:
            # The oracle looks for Cohere's where others have theirs.
            assert answer.cached == (facts["cached"] or facts["usage"].get("cached_tokens") or 0)


def expected_finish(facts: Mapping[str, Any], way: str, *, has_calls: bool) -> str:
    """The word of the client's wire; a reply that says `[DONE]` but not why has stopped."""
    if facts["finish"] in oracle().TRUNC:
        return "length"
    if "/v1/" not in way:
        return "stop"  # Ollama has no word for calls and refusals
    if facts["finish"] in REFUSALS or facts["refusal"] or facts["blocked"]:
        return "content_filter"
    return "tool_calls" if has_calls else "stop"


STATUSES = {
    400: 400,
    401: 502,
    402: 429,
    403: 502,
    404: 404,
    413: 400,
    429: 429,
    500: 502,
    503: 503,
    529: 503,
}
"""A provider's status to ours; of the error alone, where nothing was said before it."""


def compare_error(one: Recording, answer: Answer, way: str) -> None:
    """It names provider and model, has a status that tells who is at fault, and the time to wait, if there is one."""
    assert answer.error.startswith(f"{one.provider}-{wire_of(one.api)}: model '{one.model}': ")
    assert answer.finish is None
    said = one.facts["text"] + one.facts["thinking"]
    if one.is_error:
        refused_key = "API_KEY_INVALID" in one.response["body"]  # Google says 400, as for any bad argument
        assert answer.reply.status == STATUSES[401 if refused_key else one.status]
        told = one.response["headers"].get("retry-after")
        if told is not None:
            assert answer.reply.headers["Retry-After"] == str(math.ceil(float(told)))
    elif said and "streamed" in way:
        assert answer.reply.status == 200
        assert answer.text + answer.thinking == said
    else:
        assert answer.reply.status in {400, 429, 502, 503, 504}


def compare_vectors(one: Recording, answer: Answer) -> None:
    """The directions are those that were recorded: Ollama's clients are promised vectors of length one."""
    sent = json.loads(one.response["body"])
    vectors = (
        sent.get("embeddings")
        or [entry["embedding"] for entry in sent.get("data", ())]
        or [sent["embedding"]]
    )
    assert len(answer.vectors) == len(vectors)
    for got, want in zip(answer.vectors, vectors, strict=True):
        length = math.hypot(*want)
        assert got == [pytest.approx(number / length) for number in want]
