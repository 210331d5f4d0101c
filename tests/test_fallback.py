"""Another model answers: when, which, and what is told of it."""

import json
from dataclasses import replace

import pytest

from faults import error
from journal import journal
from ollama_bridge.catalog import ModelConfig, complete
from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Image, Infill, Message, Tool
from ollama_bridge.config import Config
from ollama_bridge.errors import (
    CircuitOpen,
    ContextOverflow,
    InvalidRequest,
    RateLimited,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamRejected,
    UpstreamUnreachable,
)
from ollama_bridge.events import Finish, TextDelta
from ollama_bridge.registry import ModelRegistry
from running import ask, running
from scripted import ScriptedBackend, collect
from upstream import Upstream, sse
from wires import WIRES, Said

ALL = ("completion", "tools", "vision", "thinking", "insert")
HELLO = [TextDelta("hello"), Finish()]
QUESTION = ChatRequest("a", (Message("user", "hi"),))


def upstream_error(kind, **more):
    return kind("no", provider="p", model="m", **more)


def stage(first, *others, **said):
    """A registry in which `a` fails with `first`, and a model for each of `others`, which are its fallbacks."""
    scripts = {"a": [first], **{name: said.get(name, HELLO) for name, _ in others}}
    backends = {name: ScriptedBackend(script) for name, script in scripts.items()}
    names = tuple(name for name, _ in others)
    models = [
        made("a", fallbacks=names, context_length=8000),
        *(made(name, **{"context_length": 8000, **more}) for name, more in others),
    ]
    return ModelRegistry(backends, models), backends


def made(name, **more):
    return complete(
        ModelConfig.model_validate({"name": name, "backend": name, "capabilities": ALL, **more}),
        kind="vendor",
    )


BUSY = upstream_error(UpstreamBusy)


@pytest.mark.parametrize(
    ("failure", "goes_on"),
    [
        (upstream_error(UpstreamBusy), True),
        (upstream_error(UpstreamUnreachable), True),
        (upstream_error(UpstreamBroken), True),
        (upstream_error(CircuitOpen), True),
        (upstream_error(UpstreamRejected, status=404), True),
        (upstream_error(UpstreamRejected), True),
        (upstream_error(UpstreamRejected, status=400), False),
        (upstream_error(ContextOverflow), False),  # the other's context is no longer
        (RateLimited("budget"), False),
        (RateLimited("limit", elsewhere=True), True),
        (InvalidRequest("no"), False),
    ],
)
async def test_what_another_model_may_do_better(failure, goes_on):
    """All but what would be refused everywhere; the answer then says who gave it, and the record too."""
    registry, backends = stage(failure, ("b", {}))
    if not goes_on:
        with pytest.raises(type(failure)):
            await collect(registry.chat(QUESTION))
        assert backends["b"].asked == []
        return
    assert await collect(registry.chat(QUESTION)) == [TextDelta("hello"), Finish(answered_by="b:latest")]
    [asked] = backends["b"].asked
    assert (asked.target.provider, asked.model) == ("b", "a")
    record = asked.record
    assert (record.model, record.provider, record.target) == ("b:latest", "b", "b")


@pytest.mark.parametrize(
    ("request_", "lacking"),
    [
        (replace(QUESTION, tools=(Tool("f"),)), "tools"),
        (ChatRequest("a", (Message("user", "hi"), Message("tool", "x", tool_name="f"))), "tools"),
        (ChatRequest("a", (Message("user", "hi", images=(Image("aGk=", "image/png"),)),)), "vision"),
        (replace(QUESTION, think=True), "thinking"),
        (replace(QUESTION, think="low"), "thinking"),
        (ChatRequest("a", infill=Infill("a = ", "\n")), "insert"),
        (QUESTION, "completion"),
    ],
)
async def test_a_model_that_lacks_what_is_needed_is_passed_over(request_, lacking):
    """The next one that has it all answers; the first may be asked whatever it lacks."""
    without = [one for one in ALL if one != lacking]
    registry, backends = stage(BUSY, ("b", {"capabilities": without}), ("c", {}))
    assert (await collect(registry.chat(request_)))[-1].answered_by == "c:latest"
    assert backends["b"].asked == []
    registry, _ = stage(upstream_error(UpstreamBusy), ("b", {"capabilities": without}))
    with pytest.raises(UpstreamBusy) as caught:
        await collect(registry.chat(request_))
    assert str(caught.value) == "p: model 'm': no"


@pytest.mark.parametrize("request_", [replace(QUESTION, think=False), replace(QUESTION, think=None)])
async def test_thinking_is_only_needed_where_it_is_asked_for(request_):
    registry, _ = stage(BUSY, ("b", {"capabilities": ["completion"]}))
    assert (await collect(registry.chat(request_)))[-1].answered_by == "b:latest"


async def test_a_schema_needs_a_model_that_takes_one():
    registry, backends = stage(BUSY, ("b", {}), ("c", {}))
    registry = ModelRegistry(
        backends,
        [
            replace(one, target=replace(one.target, rules=replace(one.target.rules, schema=one.name != "b:latest")))
            for one in registry.models()
        ],
    )  # fmt: skip
    assert (await collect(registry.chat(replace(QUESTION, format={}))))[-1].answered_by == "c:latest"


async def test_a_prompt_that_is_too_long_goes_to_a_longer_context():
    """Of the fallbacks, those that can read no more than who overflowed are passed over."""
    overflow = upstream_error(ContextOverflow)
    registry, backends = stage(
        overflow, ("b", {}), ("c", {"context_length": 9000}), ("d", {"context_length": 90_000})
    )
    assert (await collect(registry.chat(QUESTION)))[-1].answered_by == "c:latest"
    assert backends["b"].asked == []
    registry, backends = stage(
        overflow, ("c", {"context_length": 9000}), ("d", {"context_length": 90_000}), c=[upstream_error(ContextOverflow)]
    )  # fmt: skip
    assert (await collect(registry.chat(QUESTION)))[-1].answered_by == "d:latest"


async def test_a_prompt_is_not_given_to_a_context_that_is_too_short():
    """By our estimate, whatever the first failed with; a hidden fallback is none at all."""
    long = replace(QUESTION, messages=(Message("user", "word " * 8000),))
    registry, backends = stage(
        BUSY,
        ("b", {}),
        ("c", {"enabled": False, "context_length": 90_000}),
        ("d", {"context_length": 90_000}),
    )
    assert (await collect(registry.chat(long)))[-1].answered_by == "d:latest"
    assert backends["b"].asked == backends["c"].asked == []


async def test_a_limit_may_name_who_answers_instead():
    """It is asked next, though it is nobody's fallback; once; and nobody else then, unless they may be."""
    limited = RateLimited("budget", instead="c")
    registry, backends = stage(limited, ("b", {}))
    backends["c"] = cheap = ScriptedBackend(HELLO)
    registry = ModelRegistry(backends, [*registry.models(), made("c")])
    assert (await collect(registry.chat(QUESTION)))[-1].answered_by == "c:latest"
    backends["c"] = ScriptedBackend([limited])
    registry = ModelRegistry(backends, registry.models())
    with pytest.raises(RateLimited, match=r"^budget \(asked in turn: a:latest, c:latest\)$"):
        await collect(registry.chat(QUESTION))
    assert (len(cheap.asked), backends["b"].asked) == (1, [])


async def test_all_fail():
    """The last one's error is told, with all who were asked; what only a stand-in cannot do is not."""
    first, second = upstream_error(UpstreamBusy), upstream_error(UpstreamUnreachable, status=504)
    registry, _ = stage(first, ("b", {}), ("c", {}), b=[second], c=[InvalidRequest("no BMP")])
    with journal() as written, pytest.raises(UpstreamUnreachable) as caught:
        await collect(registry.chat(QUESTION))
    assert str(caught.value) == "p: model 'm': no (asked in turn: a:latest, b:latest, c:latest)"
    assert caught.value.status == 504
    told = [line for line in written.lines if line["level"] == "info"]
    assert [(line["model"], line["instead"], line["reason"]) for line in told] == [
        ("a", "b:latest", "p: model 'm': no"),
        ("b", "c:latest", "p: model 'm': no"),
    ]


async def test_who_is_asked_by_an_alias_is_no_stand_in():
    """The answer names nobody else."""
    registry = ModelRegistry({"a": ScriptedBackend(HELLO)}, [made("a", aliases=("x",))])
    assert await collect(registry.chat(replace(QUESTION, model="X"))) == HELLO


class Embedder:
    def __init__(self, failure=None):
        self.failure = failure
        self.asked = []

    async def embed(self, request):
        self.asked.append(request)
        if self.failure:
            raise self.failure
        return Embeddings([[1.0]])


async def test_embeddings_come_from_the_same_model_or_not_at_all():
    """Vectors of two models do not mix: another provider of the same one may stand in."""
    embeds = {"capabilities": ["embedding"]}
    fallbacks = ("other", "same", "chat")
    models = [
        made("a", backend_model="embed-3", fallbacks=fallbacks, **embeds),
        made("other", backend_model="embed-4", **embeds),
        made("chat", backend_model="embed-3"),
        made("same", backend_model="maker/Embed-3", **embeds),
    ]
    embedders = {"a": Embedder(BUSY), "other": Embedder(), "chat": Embedder(), "same": Embedder()}
    registry = ModelRegistry(dict.fromkeys(embedders, ScriptedBackend(HELLO)), models, embedders=embedders)
    request = EmbedRequest("a", ("x",))
    assert await registry.embed(request) == Embeddings([[1.0]])
    assert request.record.model == "same:latest"
    assert embedders["other"].asked == embedders["chat"].asked == []
    del embedders["same"]
    registry = ModelRegistry(registry._backends, models[:3], embedders=embedders)
    with pytest.raises(UpstreamBusy):
        await registry.embed(request)


# ---------------------------------------------------------------------------------------- through the daemon


def two(first, second, url, other_url, **models):
    """A configuration of two wires: `m` of the first, `n` of the second, its fallback."""
    one, other = first.config(url), second.config(other_url)
    [provider] = other["providers"].values()
    one["providers"]["stand-in" if second.name != "responses" else second.key] = provider
    [model], [stand_in] = one["models"], other["models"]
    key = "stand-in" if second.name != "responses" else second.key
    one["models"] = [
        {**model, "fallbacks": ["n"], **models.get("m", {})},
        {**stand_in, "name": "n", "backend": key, **models.get("n", {})},
    ]
    return Config.model_validate(one)


OVERFLOWS = {
    "anthropic": {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"},
    },
    "chat": {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}},
    "responses": {
        "error": {"message": "Your input exceeds the context window of this model.", "type": "invalid_request_error"}
    },
    "google": {
        "error": {
            "code": 400,
            "message": "The input token count (9) exceeds the maximum number of tokens allowed (8).",
            "status": "INVALID_ARGUMENT",
        }
    },
}  # fmt: skip


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_overflow_through_each_sdk(wire, streamed):
    """A prompt that the provider finds too long is answered by who can read more, and only by them."""
    other = next(one for one in WIRES if one is not wire and one.name != "responses")
    async with Upstream() as upstream, Upstream() as stand_in:
        upstream.reply(json.dumps(OVERFLOWS[wire.name]).encode(), status=400)
        stand_in.reply(other.stream(Said("from the other")))
        made = two(
            wire, other, upstream.url, stand_in.url, m={"context_length": 8000}, n={"context_length": 90_000}
        )
        question = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": streamed}
        async with running(made) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", question)
        told = got.lines if streamed else [got.json]
        assert "".join(line["message"]["content"] for line in told) == "from the other"
        assert told[-1]["answered_by"] == "n:latest"
        short = two(
            wire, other, upstream.url, stand_in.url, m={"context_length": 8000}, n={"context_length": 4000}
        )
        async with running(short) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", question)
    assert got.status == 400
    assert "the conversation is too long for this model" in got.json["error"]
    assert len(stand_in.requests) == 1


@pytest.mark.parametrize("status", [401, 404, 429, 500, 529])
@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_a_provider_that_cannot_answer_is_hardly_noticed(wire, status):
    """Refusals and failures before the first word, also those inside a 200, are another model's to answer."""
    other = next(one for one in WIRES if one is not wire and one.name != "responses")
    body = error(wire, status, "no")
    async with Upstream() as upstream, Upstream() as stand_in:
        upstream.reply(json.dumps(body).encode(), status=status)
        if status == 529:
            upstream.only(sse(json.dumps(body)))
        stand_in.reply(other.stream(Said("from the other")))
        question = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        with journal() as written:
            async with running(two(wire, other, upstream.url, stand_in.url)) as daemon:
                got = await ask(daemon.url, "POST", "/api/chat", question)
    assert "".join(line["message"]["content"] for line in got.lines) == "from the other"
    assert got.lines[-1]["answered_by"] == "n:latest"
    [told] = [line for line in written.lines if line["event"] == "another model is asked"]
    assert (told["provider"], told["model"], told["instead"]) == (wire.key, wire.model, "n:latest")
    assert written.alarming == []
