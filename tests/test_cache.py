"""What was answered once is answered again without asking anybody: over every surface, for a while, and nothing else."""

import asyncio
import json

import anthropic
import ollama
import openai
import pytest

from embedders import VENDOR
from ollama_bridge.chat import ChatRequest, Message, Target
from ollama_bridge.config import Config
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, ToolCall
from ollama_bridge.gateway import assemble
from ollama_bridge.policies.cache import Cache, Caching, Who
from ollama_bridge.record import CallRecord
from ollama_bridge.vault import Limits, Vault
from running import answer, ask, connect, managed, request, running
from scripted import ScriptedBackend, collect, until
from upstream import Upstream
from wires import WIRES, Said

WORDS = "Hello there, whoever you are."
USER = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "m", "messages": USER, "options": {"temperature": 0}}
TURN = Said(WORDS, "Let me see.", (("read", {"path": "a", "lines": 3}),))
TIMES = ("created_at", "total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


def config(upstream, wire=WIRES[0], *, cache=None, **more):
    return Config.model_validate(wire.config(upstream.url, cache={"enabled": True, **(cache or {})}, **more))


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now_s = 1_000_000.0

    def __call__(self):
        return self.now_s


async def by_ollama(url, *, stream):
    async with ollama.AsyncClient(host=url, trust_env=False) as client:
        got = await client.chat("m", USER, options={"temperature": 0}, stream=stream)
        if not stream:
            return got.message.content
        return "".join([part.message.content async for part in got])


async def by_openai(url, *, stream):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        got = await client.chat.completions.create(model="m", messages=USER, temperature=0, stream=stream)
        if not stream:
            return got.choices[0].message.content
        return "".join([chunk.choices[0].delta.content or "" async for chunk in got if chunk.choices])


async def by_responses(url, *, stream):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        got = await client.responses.create(model="m", input="Hi", temperature=0, stream=stream)
        if not stream:
            return got.output_text
        return "".join([event.delta async for event in got if event.type == "response.output_text.delta"])


async def by_anthropic(url, *, stream):
    how = {"model": "m", "max_tokens": 100, "messages": USER, "extra_body": {"temperature": 0}}
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as client:
        if not stream:
            return (await client.messages.create(**how)).content[-1].text
        async with client.messages.stream(**how) as events:
            return await events.get_final_text()


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_what_one_surface_asked_answers_the_others(wire):
    """Streamed or not, through three official packages, from one request to the provider."""
    async with Upstream() as upstream, running(config(upstream, wire)) as daemon:
        upstream.reply(wire.stream(Said(WORDS)))
        for client in (by_ollama, by_openai, by_responses):
            for stream in (True, False):
                assert await client(daemon.url, stream=stream) == WORDS
    assert len(upstream.requests) == 1


async def test_the_messages_api_has_its_own_questions():
    """It must say how long an answer may be; asked again, it is answered from the cache as well."""
    async with Upstream() as upstream, running(config(upstream)) as daemon:
        upstream.reply(WIRES[0].stream(Said(WORDS)))
        for stream in (True, False):
            assert await by_anthropic(daemon.url, stream=stream) == WORDS
    assert len(upstream.requests) == 1


def untimed(line):
    return {name: value for name, value in line.items() if name not in TIMES}


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_a_hit_is_the_same_to_the_byte_but_for_its_times(wire):
    """Thinking, text, calls with their ids and usage; re-chunked like a live answer where answers are paced."""
    body = {**CHAT, "think": True, "tools": [{"type": "function", "function": {"name": "read"}}]}
    async with (
        Upstream() as upstream,
        running(config(upstream, wire, streaming={"chunk_size": 2})) as daemon,
    ):
        upstream.reply(wire.stream(TURN))
        live, hit = [await ask(daemon.url, "POST", "/api/chat", body) for _ in range(2)]
        whole = await ask(daemon.url, "POST", "/api/chat", {**body, "stream": False})
    assert len(upstream.requests) == 1
    assert len(live.lines) > 4
    assert [untimed(line) for line in hit.lines] == [untimed(line) for line in live.lines]
    assert hit.headers | {"Date": ""} == live.headers | {"Date": ""}
    assert whole.json["message"]["content"] == WORDS
    [call] = [call for line in live.lines for call in line["message"].get("tool_calls", ())]
    assert whole.json["message"]["tool_calls"] == [call]
    assert whole.json["prompt_eval_count"] == live.lines[-1]["prompt_eval_count"] == 11


async def test_an_answer_is_good_for_its_time_and_no_longer():
    """However often it was given meanwhile."""
    clock = Clock()
    async with Upstream() as upstream, running(config(upstream, cache={"ttl_s": 60})) as daemon:
        daemon._gateway.shared.answers._clock_s = clock
        for text in ("one", "two"):
            upstream.reply(WIRES[0].stream(Said(text)))
        got = []
        for _ in range(5):
            got.append(await by_ollama(daemon.url, stream=True))
            clock.now_s += 25
    assert got == ["one", "one", "one", "two", "two"]


@pytest.mark.parametrize(
    "body",
    [
        {**CHAT, "options": {}},
        {**CHAT, "options": {"temperature": 0.1}},
        {**CHAT, "messages": [{"role": "user", "content": "Hi "}]},
        {**CHAT, "options": {"temperature": 0, "seed": 1}},
        {**CHAT, "format": "json"},
        {**CHAT, "model": "n"},
    ],
)
async def test_another_question_is_asked(body):
    """Also the same one without temperature 0, and each time."""
    async with Upstream() as upstream:
        whole = WIRES[0].config(upstream.url, cache={"enabled": True})
        whole["models"].append({**whole["models"][0], "name": "n", "system": "Be brief."})
        async with running(Config.model_validate(whole)) as daemon:
            upstream.reply(WIRES[0].stream(Said(WORDS)))
            await ask(daemon.url, "POST", "/api/chat", CHAT)
            assert (await ask(daemon.url, "POST", "/api/chat", body)).status == 200
    assert len(upstream.requests) == 2


async def test_without_being_asked_for_nothing_is_kept():
    """The default: one request after the other, each asks the provider."""
    async with (
        Upstream() as upstream,
        running(Config.model_validate(WIRES[0].config(upstream.url))) as daemon,
    ):
        upstream.reply(WIRES[0].stream(Said(WORDS)))
        for _ in range(2):
            await by_ollama(daemon.url, stream=True)
        assert daemon._gateway.shared.answers is None
    assert len(upstream.requests) == 2


async def test_a_client_may_want_an_answer_of_its_own():
    """`no-cache` asks anew, and others then get that answer; `no-store` asks and leaves no trace."""
    async with Upstream() as upstream, running(config(upstream)) as daemon:
        for text in "one", "two", "three":
            upstream.reply(WIRES[0].stream(Said(text)))
        got = []
        for wish in ("max-age=60", "", "no-cache", "", "No-Store", ""):
            reply = await ask(
                daemon.url, "POST", "/api/chat", {**CHAT, "stream": False}, headers={"Cache-Control": wish}
            )
            got.append(reply.json["message"]["content"])
    assert got == ["one", "one", "two", "two", "three", "two"]


@pytest.mark.parametrize("how", [{"then": "cut"}, {"then": "reset"}, {"status": 529}])
async def test_failures_are_not_kept(how):
    """Neither an error nor half an answer: who asks again is answered."""
    body = WIRES[0].stream(Said(WORDS))
    async with Upstream() as upstream, running(config(upstream, retry={"max_retries": 0})) as daemon:
        upstream.reply(body[: len(body) // 2] if "then" in how else b"{}", **how)
        upstream.reply(body)
        got = await ask(daemon.url, "POST", "/api/chat", CHAT)
        assert b'"error"' in got.body
        assert await by_ollama(daemon.url, stream=True) == WORDS
        assert await by_ollama(daemon.url, stream=True) == WORDS
    assert len(upstream.requests) == 2


QUESTION = ChatRequest("m", (Message("user", "Hi"),), options={"temperature": 0})
SAID = TextDelta("x")
CALL = ToolCall("1", "f", {})


@pytest.mark.parametrize(
    ("reply", "is_kept"),
    [
        ([SAID, Finish()], True),
        ([ThinkingDelta("hm"), CALL, Finish("tool_calls")], True),
        ([SAID, Finish("length")], True),
        ([SAID, Finish("refusal")], False),
        ([SAID, Finish(answered_by="another")], False),
        ([ThinkingDelta("hm"), Finish()], False),
        ([Finish()], False),
        ([SAID], False),
    ],
)
async def test_only_whole_answers_that_say_something_are_kept(reply, is_kept):
    """Not refusals, nor another model's answer that stood in, nor the silence of a provider that hiccups."""
    backend = ScriptedBackend(reply)
    cache = Cache(backend, Caching(Vault(Limits(1 << 20, 60.0))), lambda _: Who(Target("acme", "m-1")))
    for _ in range(2):
        assert await collect(cache.chat(QUESTION)) == reply
    assert len(backend.asked) == (1 if is_kept else 2)


async def test_a_hit_is_noted_as_one():
    """Who would have answered, that nobody was asked, and no charge."""
    vault = Vault(Limits(1 << 20, 60.0))
    backend = ScriptedBackend([SAID, Finish()])
    target = Target("acme", "m-1", name="m:latest")
    cache = Cache(backend, Caching(vault), lambda _: Who(target))
    first, second = CallRecord(), CallRecord()
    for record in (first, second):
        await collect(cache.chat(ChatRequest("m", options={"temperature": 0}, record=record)))
    assert (first.cached, second.cached) == ("", "hit")
    assert (second.model, second.provider, second.target) == ("m:latest", "acme", "m-1")
    assert (second.attempts, second.charges) == (0, [])


async def test_a_hit_in_memory_waits_for_nothing():
    """It is answered in the same turn of the event loop in which it was asked."""
    cache = Cache(
        ScriptedBackend([SAID, Finish()]), Caching(Vault(Limits(1 << 20, 60.0))), lambda _: Who(Target())
    )
    await collect(cache.chat(QUESTION))
    turned = asyncio.create_task(asyncio.sleep(0))
    assert await collect(cache.chat(QUESTION)) == [SAID, Finish()]
    assert not turned.done()
    await turned


async def test_what_is_no_answer_is_asked_for_again():
    """Whatever lies under its key."""
    vault = Vault(Limits(1 << 20, 60.0))
    backend = ScriptedBackend([SAID, Finish()])
    cache = Cache(backend, Caching(vault), lambda _: Who(Target()))
    await collect(cache.chat(QUESTION))
    [key] = vault._memory._entries
    vault.put([key], b"[[1")
    assert await collect(cache.chat(QUESTION)) == [SAID, Finish()]
    assert await collect(cache.chat(QUESTION)) == [SAID, Finish()]
    assert len(backend.asked) == 2


# ----------------------------------------------------------------------------------------- embeddings


async def test_vectors_are_kept_too():
    """Over both dialects, to the last digit; another width is another question."""
    async with Upstream() as upstream:
        whole = VENDOR.config(upstream.url).model_dump()
        whole["cache"]["enabled"] = True
        VENDOR.answer(upstream, [[0.6, 0.8], [1.0, 0.0]], [[1.0], [1.0]])
        async with running(Config.model_validate(whole)) as daemon:
            body = {"model": "e", "input": ["a", "b"]}
            first, again = [await ask(daemon.url, "POST", "/api/embed", body) for _ in range(2)]
            v1 = await ask(daemon.url, "POST", "/v1/embeddings", body)
            assert len(upstream.requests) == 1
            narrow = await ask(daemon.url, "POST", "/api/embed", {**body, "dimensions": 1})
            own = await ask(daemon.url, "POST", "/api/embed", body, headers={"Cache-Control": "no-store"})
    assert first.json["embeddings"] == again.json["embeddings"] == [[0.6, 0.8], [1, 0]]
    assert again.json["prompt_eval_count"] == 7
    assert [one["embedding"] for one in v1.json["data"]] == [[0.6, 0.8], [1, 0]]
    assert narrow.json["embeddings"] == [[1], [1]]
    assert own.status == 200
    assert len(upstream.requests) == 3


# -------------------------------------------------------------------------- the same at the same moment


async def leave(writer):
    writer.close()
    await writer.wait_closed()


async def test_twenty_ask_once_and_three_of_them_leave():
    """One request to the provider; all others get the whole answer, streamed or not, whoever came first."""
    go_on = asyncio.Event()
    whole = WIRES[0].stream(Said(WORDS))
    half = whole.index(b" ther")
    async with (
        Upstream() as upstream,
        running(Config.model_validate(WIRES[0].config(upstream.url))) as daemon,
    ):
        upstream.reply([whole[:half], whole[half:]], hold=go_on, held_after=1)
        clients = []
        for number in range(20):
            reader, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", {**CHAT, "stream": number % 2 == 0}))
            clients.append((reader, writer))
            if not number:
                await reader.readuntil(b'"content":"Hello"')  # the first has had a part of it
        await upstream.asked.wait()
        [call] = daemon._gateway._cache._chats._under_way.values()
        await until(lambda: len(call._readers) == 20)
        for _, writer in clients[:3]:
            await leave(writer)
        await until(lambda: len(call._readers) == 17)
        assert not upstream.closed_early.is_set()
        go_on.set()
        for number, (reader, writer) in enumerate(clients[3:], 3):
            got = await answer(reader)
            lines = got.lines if number % 2 == 0 else [got.json]
            assert "".join(line["message"]["content"] for line in lines) == WORDS
            assert lines[-1]["done"] is True
            await leave(writer)
    assert len(upstream.requests) == 1


async def test_when_all_leave_the_provider_is_told_at_once():
    """Its connection is closed, and who comes afterwards is asked for anew."""
    async with (
        Upstream() as upstream,
        running(Config.model_validate(WIRES[0].config(upstream.url))) as daemon,
    ):
        upstream.reply(b"", hold=asyncio.Event())
        upstream.reply(WIRES[0].stream(Said(WORDS)))
        clients = [await connect(daemon.url) for _ in range(3)]
        for _, writer in clients:
            writer.write(request(daemon.url, "POST", "/api/chat", CHAT))
        await upstream.asked.wait()
        for _, writer in clients:
            await leave(writer)
        await asyncio.wait_for(upstream.closed_early.wait(), 5)
        assert await by_ollama(daemon.url, stream=True) == WORDS
    assert len(upstream.requests) == 2


async def test_a_refusal_is_everybodys():
    """With its status and the provider's words."""
    go_on = asyncio.Event()
    error = b'{"type":"error","error":{"type":"invalid_request_error","message":"too odd"}}'
    async with (
        Upstream() as upstream,
        running(Config.model_validate(WIRES[0].config(upstream.url))) as daemon,
    ):
        upstream.reply(error, status=400, hold=go_on)
        asking = [asyncio.create_task(ask(daemon.url, "POST", "/api/chat", CHAT)) for _ in range(4)]
        await upstream.asked.wait()
        [call] = daemon._gateway._cache._chats._under_way.values()
        await until(lambda: len(call._readers) == 4)
        go_on.set()
        replies = await asyncio.gather(*asking)
    assert [reply.status for reply in replies] == [400] * 4
    assert {reply.body for reply in replies} == {replies[0].body}
    assert b"too odd" in replies[0].body
    assert len(upstream.requests) == 1


async def test_sharing_can_be_turned_off():
    """Then nothing stands in the way at all."""
    async with Upstream() as upstream:
        whole = Config.model_validate(WIRES[0].config(upstream.url, cache={"share": False}))
        async with running(whole) as daemon:
            upstream.reply(WIRES[0].stream(Said(WORDS)), head_delay_s=0.05)
            got = await asyncio.gather(*(by_ollama(daemon.url, stream=True) for _ in range(3)))
            assert daemon._gateway._cache is None
    assert got == [WORDS] * 3
    assert len(upstream.requests) == 3


# ------------------------------------------------------------------------------------------- reloading


async def test_a_reload_keeps_what_is_still_true(tmp_path):
    """Answers of models that have not changed; the same name at another address, or with another prompt, asks."""
    path = tmp_path / "config.yaml"
    async with Upstream() as one, Upstream() as other:
        whole = WIRES[0].config(one.url, cache={"enabled": True})
        del whole["server"]
        async with managed(path, json.dumps(whole)) as daemon:
            one.reply(WIRES[0].stream(Said("one")))
            other.reply(WIRES[0].stream(Said("other")))

            async def asked_after(changed):
                before = daemon._gateway
                path.write_text(json.dumps(changed))
                daemon._reload.set()
                await until(lambda: daemon._gateway is not before)
                return await by_ollama(daemon.url, stream=False)

            assert await by_ollama(daemon.url, stream=False) == "one"
            assert await asked_after({**whole, "streaming": {"heartbeat_s": 3}}) == "one"
            assert len(one.requests) == 1
            [model] = whole["models"]
            assert await asked_after({**whole, "models": [{**model, "system": "Be brief."}]}) == "one"
            assert len(one.requests) == 2
            moved = WIRES[0].config(other.url)["providers"]
            assert await asked_after({**whole, "providers": moved}) == "other"
            assert await asked_after(whole) == "one"
            assert (len(one.requests), len(other.requests)) == (2, 1)


async def test_a_reload_with_other_limits_begins_anew():
    """The old answers are let go of, and a file of them is closed."""
    base = {"providers": {"demo": {}}, "models": [{"name": "a", "backend": "demo"}]}
    first = assemble(Config.model_validate({**base, "cache": {"enabled": True}}))
    second = assemble(Config.model_validate({**base, "cache": {"enabled": True, "share": False}}), first)
    third = assemble(Config.model_validate({**base, "cache": {"enabled": True, "max_mb": 1}}), second)
    assert second.shared.answers is first.shared.answers
    assert third.shared.answers is not second.shared.answers
    for before, after in ((first, second), (second, third), (third, None)):
        await before.retire(after)
