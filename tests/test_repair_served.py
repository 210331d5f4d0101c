"""What a provider refuses is repaired behind the client's back: one more call, and from then on none.

The real SDKs over loopback; what was sent is compared with what would have been sent without the refused parameter.
"""

import asyncio
import copy
import json
from typing import Any

import pytest

import embedders
from faults import PROMPT, error, error_event
from journal import journal
from ollama_bridge.config import Config
from ollama_bridge.lessons import learned_path, remembered
from ollama_bridge.repairs import Repair
from running import ask, connect, request, running
from test_budgets_served import priced, spent
from test_ledger_served import rows
from upstream import Script, Seen, Upstream, sse
from wires import WIRES, Said, Wire

OF = {wire.name: wire for wire in WIRES}
CHAT = OF["chat"]
ANSWER = Said("Hello there")
JSON = {"content-type": "application/json"}

OPTIONS = {
    "anthropic": {"temperature": 0.2},
    "responses": {},
    "chat": {"temperature": 0.2, "top_p": 0.5, "seed": 7, "presence_penalty": 0.1},
    "google": {"temperature": 0.2, "top_k": 3},
}
"""Options of the client's that reach each wire."""

REFUSED = {
    "anthropic": ("temperature", "temperature: Extra inputs are not permitted"),
    "responses": (
        "reasoning.summary",
        "Unsupported parameter: 'reasoning.summary' is not supported with this model.",
    ),
    "chat": ("temperature", "Unsupported parameter: 'temperature' is not supported with this model."),
    "google": (
        "generationConfig.topK",
        "Invalid JSON payload received. Unknown name \"topK\" at 'generation_config': Cannot find field.",
    ),
}
"""A parameter that each wire sends, and how its provider would refuse it."""


def refusal(wire: Wire, message: str) -> dict[str, Any]:
    return {"body": json.dumps(error(wire, 400, message)).encode(), "status": 400}


def question(wire: Wire, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": PROMPT}]
    return {"model": "m", "messages": messages, "stream": False, "options": OPTIONS[wire.name], **more}


def without(body: Any, path: str) -> Any:
    body = copy.deepcopy(body)
    holder = body
    *parents, name = path.split(".")
    for parent in parents:
        holder = holder[parent]
    del holder[name]
    if parents and not holder:
        return without(body, ".".join(parents))
    return body


def config(wire: Wire, url: str, **extra: Any) -> Config:
    return Config.model_validate(wire.config(url, **extra))


def learned(wire: Wire) -> list[Repair]:
    return [lesson.repair for lesson in remembered(learned_path()).get((wire.key, wire.model), ())]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_a_refused_parameter_is_left_out_now_and_from_then_on(wire: Wire, streamed: bool) -> None:
    """The client sees the answer and nothing else; the next call is right at once, and after a restart as well."""
    path, message = REFUSED[wire.name]
    async with Upstream() as upstream:
        upstream.reply(**refusal(wire, message))
        upstream.reply(wire.stream(ANSWER))
        for asked in (3, 4):
            async with running(config(wire, upstream.url)) as daemon:
                while len(upstream.requests) < asked:
                    got = await ask(daemon.url, "POST", "/api/chat", question(wire, stream=streamed))
                    said = "".join(
                        line["message"]["content"] for line in (got.lines if streamed else [got.json])
                    )
                    assert (got.status, said) == (200, ANSWER.text)
        first, *others = [seen.json for seen in upstream.requests]
        assert others == [without(first, path)] * 3
        assert [repair.parameter for repair in learned(wire)] == [path]


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
@pytest.mark.parametrize(
    "message",
    [
        "The request is bad.",
        "messages.0.content: Extra inputs are not permitted",
        "Unsupported parameter: 'mirostat' is not supported with this model.",
    ],
)
async def test_what_names_no_parameter_of_ours_stays_the_error_it_is(wire: Wire, message: str) -> None:
    """One call, and its error."""
    async with Upstream() as upstream:
        upstream.reply(**refusal(wire, message))
        async with running(config(wire, upstream.url)) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", question(wire))
        assert (got.status, message in got.json["error"]) == (400, True)
        assert len(upstream.requests) == 1
        assert not learned_path().exists()


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_of_two_refusals_the_client_hears_the_first(wire: Wire) -> None:
    """A repair that does not help is neither shown nor remembered."""
    _, message = REFUSED[wire.name]
    async with Upstream() as upstream:
        upstream.reply(**refusal(wire, message))
        upstream.reply(**refusal(wire, "The request is bad."))
        async with running(config(wire, upstream.url)) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", question(wire))
        assert (got.status, message in got.json["error"]) == (400, True)
        assert len(upstream.requests) == 2
        assert not learned(wire)


async def test_at_most_three_parameters_are_repaired_in_one_request() -> None:
    """The fourth refusal ends it, though it names a parameter, too."""
    names = ("temperature", "top_p", "seed", "presence_penalty")
    refusals = [refusal(CHAT, f"Unsupported parameter: '{name}' is not supported.") for name in names]
    async with Upstream() as upstream:
        for each in refusals:
            upstream.reply(**each)
        async with running(config(CHAT, upstream.url)) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", question(CHAT))
            assert (got.status, "'temperature'" in got.json["error"]) == (400, True)
            assert len(upstream.requests) == 4
            for each in refusals[:3]:
                upstream.reply(**each)
            upstream.only(**refusals[0])
            for each in refusals[1:3]:
                upstream.reply(**each)
            upstream.reply(CHAT.stream(ANSWER))
            got = await ask(daemon.url, "POST", "/api/chat", question(CHAT))
            assert got.status == 200
        assert [name in upstream.requests[-1].json for name in names] == [False, False, False, True]
        assert [repair.parameter for repair in learned(CHAT)] == list(names[:3])


async def test_the_same_parameter_is_repaired_once() -> None:
    """A provider that goes on refusing what is not there any more is not asked again and again."""
    async with Upstream() as upstream:
        upstream.reply(**refusal(CHAT, REFUSED["chat"][1]))
        async with running(config(CHAT, upstream.url)) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", question(CHAT))
        assert (got.status, len(upstream.requests)) == (400, 2)


async def test_twenty_at_once_learn_once() -> None:
    """All of them are answered, and the log says it in one line that holds no value."""

    def decide(seen: Seen) -> Script:
        if "temperature" in seen.json:
            return Script([refusal(CHAT, REFUSED["chat"][1])["body"]], 400, JSON)
        return Script([CHAT.stream(ANSWER)])

    async with Upstream(decide) as upstream:
        with journal() as log:
            async with running(config(CHAT, upstream.url)) as daemon:
                replies = await asyncio.gather(
                    *(ask(daemon.url, "POST", "/api/chat", question(CHAT)) for _ in range(20))
                )
                before = len(upstream.requests)
                await ask(daemon.url, "POST", "/api/chat", question(CHAT))
                assert len(upstream.requests) == before + 1
        assert {got.status for got in replies} == {200}
        told = [line for line in log.lines if line["event"] == "parameter left out from now on"]
        assert [(one["provider"], one["model"], one["parameter"]) for one in told] == [
            (CHAT.key, CHAT.model, "temperature")
        ]
        assert told[0]["level"] == "info"
        assert PROMPT not in log.text
        assert not log.alarming


async def test_a_repaired_call_is_one_call_and_paid_once() -> None:
    """Budget, ledger and metrics see one answer; the breaker sees no failure."""
    async with Upstream() as upstream:
        upstream.reply(**refusal(CHAT, REFUSED["chat"][1]))
        upstream.reply(CHAT.stream(ANSWER))
        setup = priced(CHAT, upstream.url, budgets={"all": {"daily": 1}}, breaker={"failures": 1})
        async with running(Config.model_validate(setup)) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", question(CHAT))
            assert got.status == 200
            assert await spent(daemon) == 70_000
            exposed = (await ask(daemon.url, "GET", "/metrics")).body.decode()
        told = [line for line in exposed.splitlines() if line.startswith("ai_proxy_requests_total{")]
        assert [line.rpartition(" ")[2] for line in told] == ["1.0"]
        (state,) = (
            line for line in exposed.splitlines() if line.startswith("ai_proxy_circuit_breaker_state{")
        )
        assert state.endswith(" 0.0")
        (row,) = rows()
        assert (row["outcome"], row["attempts"]) == ("answered", 2)


async def test_who_leaves_while_it_is_repaired_closes_the_connection() -> None:
    """Nothing is learned of an answer that never began."""
    never = asyncio.Event()
    async with Upstream() as upstream:
        upstream.reply(**refusal(CHAT, REFUSED["chat"][1]))
        upstream.reply(CHAT.stream(ANSWER), hold=never)
        async with running(config(CHAT, upstream.url)) as daemon:
            _, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", question(CHAT)))
            for _ in range(2):
                await upstream.arrivals.acquire()
            writer.close()
            await upstream.closed_early.wait()
        assert not learned(CHAT)


async def test_another_failure_after_a_repair_is_told_as_it_is() -> None:
    """Who may do something about it, asking again for example, has to see it; then the repair is made anew, and kept."""
    async with Upstream() as upstream:
        upstream.reply(**refusal(CHAT, REFUSED["chat"][1]))
        upstream.reply(json.dumps(error(CHAT, 529, "busy")).encode(), status=529)
        upstream.reply(**refusal(CHAT, REFUSED["chat"][1]))
        upstream.reply(CHAT.stream(ANSWER))
        setup = CHAT.config(upstream.url, retry={"max_retries": 1, "initial_backoff_ms": 0})
        async with running(Config.model_validate(setup)) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", question(CHAT))
        assert (got.status, len(upstream.requests)) == (200, 4)
        assert learned(CHAT) == [Repair("temperature")]


async def test_a_refusal_inside_a_200_is_repaired_too() -> None:
    """OpenRouter answers before the provider behind it does, whose words then come in its own."""
    raw = json.dumps({"error": {"message": REFUSED["chat"][1], "param": "temperature"}})
    told = {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw}}}
    async with Upstream() as upstream:
        upstream.reply(sse(json.dumps(told)))
        upstream.reply(CHAT.stream(ANSWER))
        async with running(config(CHAT, upstream.url)) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", question(CHAT))
        assert (got.status, got.json["message"]["content"]) == (200, ANSWER.text)


async def test_what_fails_after_the_first_word_is_not_repaired() -> None:
    """The client has seen output."""
    begun = CHAT.stream(ANSWER).partition(b'"there"')[0].rpartition(b"data:")[0]
    async with Upstream() as upstream:
        upstream.reply(begun + error_event(CHAT))
        async with running(config(CHAT, upstream.url)) as daemon:
            await ask(daemon.url, "POST", "/api/chat", question(CHAT, stream=True))
        assert len(upstream.requests) == 1


async def test_a_schema_that_is_refused_is_said_in_words() -> None:
    """First as some JSON and the schema in words, and if that is refused, too, in words alone."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    refused = refusal(CHAT, "This response_format type is unavailable now")
    async with Upstream() as upstream:
        upstream.reply(**refused)
        upstream.reply(**refused)
        upstream.reply(CHAT.stream(Said("{}")))
        async with running(config(CHAT, upstream.url)) as daemon:
            for _ in range(2):
                got = await ask(daemon.url, "POST", "/api/chat", question(CHAT, format=schema))
                assert got.status == 200
        bodies = [seen.json for seen in upstream.requests]
        kinds = [body.get("response_format", {}).get("type") for body in bodies]
        assert kinds == ["json_schema", "json_object", None, None]
        assert ["JSON Schema" in body["messages"][0]["content"] for body in bodies] == [
            False,
            True,
            True,
            True,
        ]


async def test_stop_words_that_are_refused_still_stop() -> None:
    """They are looked for here."""
    async with Upstream() as upstream:
        upstream.reply(**refusal(CHAT, "Argument not supported on this model: stop"))
        upstream.reply(CHAT.stream(Said("one two three")))
        async with running(config(CHAT, upstream.url)) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", question(CHAT, options={"stop": ["two"]}))
        assert (got.status, got.json["message"]["content"]) == (200, "one ")
        assert [seen.json.get("stop") for seen in upstream.requests] == [["two"], None]


EMBEDDERS = [one for one in embedders.EMBEDDERS if one.name in {"openai", "google"}]


@pytest.mark.parametrize("embedder", EMBEDDERS, ids=lambda embedder: embedder.name)
async def test_embeddings_are_repaired_as_answers_are(embedder: Any) -> None:
    """A width that cannot be asked for is cut here."""
    name = "dimensions" if embedder.name == "openai" else "outputDimensionality"
    told = {"error": {"message": f"Unsupported parameter: '{name}' is not supported.", "code": 400}}
    asked = {"model": "e", "input": "x", "dimensions": 256}
    async with Upstream() as upstream:
        upstream.reply(json.dumps(told).encode(), status=400)
        upstream.reply(embedder.reply([[float(number) for number in range(1, 301)]]), headers=JSON)
        async with running(embedder.config(upstream.url)) as daemon:
            for _ in range(2):
                got = await ask(daemon.url, "POST", "/api/embed", asked)
                assert (got.status, len(got.json["embeddings"][0])) == (200, 256)
        sent = [name in seen.body.decode() for seen in upstream.requests]
        assert sent == [True, False, False]


async def test_gaps_are_filled_after_a_repair() -> None:
    """Fill in the middle has a body of its own."""
    refused = refusal(CHAT, "Extra inputs are not permitted, field: 'top_p'")
    async with Upstream() as upstream:
        upstream.reply(**refused)
        upstream.reply(CHAT.stream(Said("b")))
        setup = CHAT.config(upstream.url)
        setup["providers"][CHAT.key]["fim"] = "completions"
        setup["models"][0]["capabilities"] = ["completion", "insert"]
        asked = {"model": "m", "prompt": "a", "suffix": "c", "stream": False, "options": {"top_p": 0.5}}
        async with running(Config.model_validate(setup)) as daemon:
            got = await ask(daemon.url, "POST", "/api/generate", asked)
        assert (got.status, got.json["response"]) == (200, "b")
        first, second = (seen.json for seen in upstream.requests)
        assert second == without(first, "top_p")
