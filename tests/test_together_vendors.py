"""What providers do differently, with all policies in force: keys, sign-ins, repairs, lists, a real Ollama, taking turns.

A running daemon, the real SDKs, and fake providers on loopback.
"""

import asyncio
import base64
import json
import sys
from collections import Counter

import pytest
from click.testing import CliRunner

import signed
from faults import WORDS, error, parts
from journal import journal
from ollama_bridge import lists
from ollama_bridge.cli import main
from ollama_bridge.config.file import Source
from ollama_bridge.facts import Listed
from ollama_bridge.lists import Shelf, to_entries
from real_ollama import RealOllama, line
from running import ask, connect, managed, request, running
from test_discovery import JSON, Serving, script
from test_workers import fleet
from together import (
    ANSWER_NUSD,
    CHAT,
    IN_FORCE,
    OWN,
    PRICE,
    Sums,
    chat,
    counted,
    house,
    model,
    provider,
    question,
    rows,
    words,
    written,
)
from upstream import Script, Upstream, sse
from wires import Said

REFUSED_PARAMETER = json.dumps(
    error(CHAT, 400, "Unsupported parameter: 'temperature' is not supported with this model.")
).encode()
WARM = {"temperature": 0.2, "num_predict": 100}


def fine(said=WORDS):
    return Script([CHAT.stream(Said(said))])


def refused(status, body=b'{"error": {"message": "no"}}', **headers):
    return Script([body], status, {**JSON, **headers})


def picky(seen, said=WORDS):
    """Takes no temperature."""
    return Script([REFUSED_PARAMETER], 400, JSON) if "temperature" in seen.json else fine(said)


def part(row, *names):
    return tuple(row[name] for name in names)


# --------------------------------------------------------------------------------------------- keys and sign-ins


def signer(seen):
    """The id of the key that a JWT was made of."""
    payload = seen.headers["authorization"].removeprefix("Bearer ").split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=="))["api_key"]


GLM = {"kind": "zai", "api_key": ["first.secret-of-the-first", "second.secret-of-the-second"]}


async def test_each_of_two_keys_signs_for_itself_and_gives_way_to_the_other():
    """One that is limited rests; the other's token is its own, and no secret is sent or told."""
    limited = {"first"}

    def decide(seen):
        return refused(429, **{"retry-after": "600"}) if signer(seen) in limited else fine()

    async with Upstream(decide) as upstream:
        config = house(
            {"z": {**GLM, "base_url": upstream.url}}, model("m", "z", CHAT), breaker={"failures": 1}
        )
        with journal() as logged:
            async with running(config) as daemon:
                answers = [await chat(daemon) for _ in range(3)]
                limited.add("second")
                told = await chat(daemon)
                sums = await counted(daemon)
    assert [words(one) for one in answers] == [WORDS] * 3
    assert [signer(seen) for seen in upstream.requests] == ["first", "second", "second", "second", "second"]
    assert (told.status, 590 <= int(told.headers["Retry-After"]) <= 600) == (429, True)
    assert sums == written() == Sums(Counter(answered=3, failed=1), 33, 21, 3 * ANSWER_NUSD)
    assert "secret-of" not in logged.text + str([seen.headers for seen in upstream.requests])


async def test_a_token_that_is_refused_is_made_anew_before_the_key_is():
    """401 once is the token's fault, twice the key's: then the other one answers, and the attempt is still one."""
    refusals = {"first": 2, "second": 1}

    def decide(seen):
        left = refusals[signer(seen)]
        refusals[signer(seen)] = max(left - 1, 0)
        return refused(401) if left else fine()

    async with Upstream(decide) as upstream:
        config = house(
            {"z": {**GLM, "base_url": upstream.url}}, model("m", "z", CHAT), breaker={"failures": 1}
        )
        async with running(config) as daemon:
            got = await chat(daemon)
            sums = await counted(daemon)
    assert words(got) == WORDS
    assert [signer(seen) for seen in upstream.requests] == ["first", "first", "second", "second"]
    assert sums == written() == Sums(Counter(answered=1), 11, 7, ANSWER_NUSD)


# ------------------------------------------------------------------------------------------------ learned repairs


async def test_twenty_equal_questions_are_one_repair():
    """They share the answer, which is paid once; nobody sees the refusal, and the breaker counts nothing."""
    async with Upstream(picky) as upstream:
        config = house({"p": provider(CHAT, upstream)}, model("m", "p", CHAT), breaker={"failures": 1})
        async with running(config) as daemon:
            answers = await asyncio.gather(*(chat(daemon, headers={}, options=WARM) for _ in range(20)))
            kept = await chat(daemon, headers={}, options=WARM)
            sums = await counted(daemon)
    assert {words(one) for one in (*answers, kept)} == {WORDS}
    assert len(upstream.requests) == 2
    assert sums.nusd == ANSWER_NUSD
    assert sums == written()


async def test_what_is_repaired_may_break_off_and_be_gone_on_with():
    """The rest is asked for as the repair taught; both parts are paid."""
    cut = Script([b"".join(parts(CHAT)[:2])], then="cut")
    rest = fine(WORDS.removeprefix("one two three f"))
    scripts = [cut, rest]

    def decide(seen):
        return Script([REFUSED_PARAMETER], 400, JSON) if "temperature" in seen.json else scripts.pop(0)

    async with Upstream(decide) as upstream:
        config = house({"p": provider(CHAT, upstream)}, model("m", "p", CHAT, resume=True))
        async with running(config) as daemon:
            got = await chat(daemon, stream=True, options=WARM)
            sums = await counted(daemon)
    assert words(got) == WORDS
    assert ["temperature" in seen.json for seen in upstream.requests] == [True, False, False]
    assert sums == written()


async def test_a_fallback_is_repaired_as_well():
    """What it taught is known of it, and of nobody else."""
    async with (
        Upstream(lambda _: refused(503)) as upstream,
        Upstream(picky) as other,
    ):
        config = house(
            {"p": provider(CHAT, upstream), "q": provider(CHAT, other)},
            model("m", "p", CHAT, fallbacks=["spare"]),
            model("spare", "q", CHAT),
            retry={"max_retries": 0},
        )
        async with running(config) as daemon:
            answers = [await chat(daemon, options=WARM) for _ in range(2)]
            sums = await counted(daemon)
    assert [one.json["answered_by"] for one in answers] == ["spare:latest"] * 2
    assert ["temperature" in seen.json for seen in upstream.requests] == [True, True]
    assert ["temperature" in seen.json for seen in other.requests] == [True, False, False]
    assert sums == written() == Sums(Counter(answered=2), 22, 14, 2 * ANSWER_NUSD)


async def test_a_repair_outlives_a_reload_that_happens_meanwhile(tmp_path):
    """The new configuration knows what the old one is about to learn."""
    hold, path = asyncio.Event(), tmp_path / "config.yaml"

    def decide(seen):
        refusal = Script([REFUSED_PARAMETER], 400, JSON, hold=hold)
        return refusal if "temperature" in seen.json else fine()

    async with Upstream(decide) as upstream:
        made = {**IN_FORCE, "providers": {"p": provider(CHAT, upstream)}, "models": [model("m", "p", CHAT)]}
        async with managed(path, json.dumps(made)) as daemon:
            first = asyncio.create_task(chat(daemon, options=WARM))
            await upstream.asked.wait()
            path.write_text(json.dumps({**made, "models": [model("m", "p", CHAT), model("n", "p", CHAT)]}))
            await daemon._take_over()
            hold.set()
            assert words(await first) == WORDS
            assert words(await chat(daemon, options=WARM)) == WORDS
    assert ["temperature" in seen.json for seen in upstream.requests] == [True, False, False]


# ------------------------------------------------------------------------------------------------------ discovery


def told(source, *listed, former=(), now_s=1_700_000_000.0):
    """Have the file of lists say that acme lists these."""
    entry = json.loads(source.path.read_text())["providers"]["acme"]
    key = lists.key("acme", entry["kind"], entry["base_url"])
    models = to_entries(Listed(one) if isinstance(one, str) else one for one in listed)
    lists.write(source.lists_file, {key: Shelf(models, former=former, asked_s=now_s)}, now_s=now_s)


def source_of(tmp_path, upstream, *models, acme=None, **more):
    path = tmp_path / "config.yaml"
    acme = {"kind": "openai", "base_url": f"{upstream.url}/v1", "api_key": "none", **(acme or {})}
    path.write_text(json.dumps({"providers": {"acme": acme}, "models": models, **more}))
    return Source(path, environ={}, flags={("server", "port"): ("--port", 0)})


async def said(daemon, name, **more):
    got = await ask(daemon.url, "POST", "/api/chat", question(name, **more))
    return got.status, words(got) if got.status == 200 else got.json["error"]


DEMO = {"name": "demo", "backend": "demo"}


@pytest.mark.timeout(60)
async def test_a_list_that_arrives_in_the_middle_of_an_answer_does_not_cut_it(tmp_path):
    """The new model is there, the answer goes on."""
    lists_held, answer_held = asyncio.Event(), asyncio.Event()
    body = CHAT.stream(Said(WORDS))

    def decide(seen):
        if seen.method == "GET":
            return script("old", "new", hold=lists_held)
        return Script([body[:300], body[300:]], hold=answer_held, held_after=1)

    async with Upstream(decide) as upstream:
        source = source_of(tmp_path, upstream, {"name": "old", "backend": "acme"})
        async with Serving(source) as serving:
            reader, writer = await connect(serving.daemon.url)
            writer.write(request(serving.daemon.url, "POST", "/api/chat", question("old", stream=True)))
            while b"one" not in await reader.readline():
                pass
            lists_held.set()
            await serving.until("old:latest", "new:latest")
            answer_held.set()
            rest = b""
            while b'"done":true' not in rest:
                rest += await reader.readline()
            assert b"error" not in rest
            writer.close()
            assert await said(serving.daemon, "acme/new") == (200, WORDS)
    assert [seen.json["model"] for seen in upstream.requests if seen.method == "POST"] == ["old", "new"]


STATES = pytest.mark.parametrize("state", ["listed", "hidden", "lost", "no more"])
"""Of the model `new`."""


def listed_in(state, tmp_path, upstream, *models, **more):
    acme = {"new_models": "disabled"} if state == "hidden" else {}
    source = source_of(tmp_path, upstream, *models, acme=acme, **more)
    if state == "no more":
        told(source, "other", former=("new",))
    elif state != "lost":
        told(source, "new", "other")
    return source


def echo(seen):
    body = seen.json
    return (
        refused(503)
        if body["model"] == "down"
        else fine(f"{body['model']} says {body['messages'][0]['content']}")
    )


FREE = {"input": 0, "output": 0}


@pytest.mark.parametrize("name", ["new", "acme/new"])
@STATES
async def test_a_listed_model_may_be_fallen_back_to(tmp_path, name, state):
    """When it is not there the daemon goes on without it, and says so once."""
    async with Upstream(echo) as upstream:
        down = {"name": "m", "backend": "acme", "backend_model": "down", "price": FREE}
        budget = {"daily": 5, "instead": name}
        models = {**down, "fallbacks": [name]}, {**down, "name": "n", "budget": budget}
        source = listed_in(state, tmp_path, upstream, *models, retry={"max_retries": 0})
        with journal() as logged:
            async with running(load=lambda: source.load().config) as daemon:
                status, told_so = await said(daemon, "m")
                await daemon._warmed.wait()
    assert (status, "new says Count." in told_so) == ((200, True) if state == "listed" else (503, False))
    warned = [one["names"] for one in logged.lines if "nobody answers to these fallbacks" in one["event"]]
    assert warned == ([] if state == "listed" else [[name]])


@pytest.mark.parametrize("name", ["new", "acme/new"])
@STATES
async def test_a_model_may_be_made_of_a_listed_one(tmp_path, name, state):
    """It goes on when that is there no more, and asks who had it."""
    async with Upstream(echo) as upstream:
        child = {"name": "child", "from": name, "system": "Sing.", "aliases": ["kid"]}
        source = listed_in(state, tmp_path, upstream, child)
        async with running(load=lambda: source.load().config) as daemon:
            assert await said(daemon, "kid") == (200, "new says Sing.")
            known = (await ask(daemon.url, "GET", "/api/tags")).json["models"]
    wanted = {"listed": {"new", "other"}, "no more": {"other"}}.get(state, set())
    assert {one["name"] for one in known} == {f"{one}:latest" for one in ("child", *wanted)}


async def test_who_is_chosen_for_a_request_may_be_a_listed_model(tmp_path):
    """Where nothing else is there; an alias of the operator's keeps its name, and the listed model gets another."""
    async with Upstream(echo) as upstream:
        mine = {
            "name": "mine",
            "backend": "acme",
            "backend_model": "down",
            "aliases": ["new"],
            "enabled": True,
        }
        for models, asked, answers in (
            ([], "auto:chat", "new says Count."),
            ([{"name": "tiny", "from": "new", "model_size": "SMALL"}], "small", "new says Count."),
            ([mine], "acme/new", "new says Count."),
        ):
            source = source_of(tmp_path, upstream, *models)
            told(source, "new")
            async with running(load=lambda source=source: source.load().config) as daemon:
                assert await said(daemon, asked) == (200, answers)
                names = [one["name"] for one in (await ask(daemon.url, "GET", "/api/tags")).json["models"]]
            wanted = {"small": ["tiny:latest", "new:latest"], "acme/new": ["mine:latest", "acme/new:latest"]}
            assert names == wanted.get(asked, ["new:latest"])


class Nobody:
    url = "http://127.0.0.1:9"


def checked(source):
    done = CliRunner().invoke(main, ["config", "check", "--config", str(source.path)])
    return done.exit_code, done.stderr


@pytest.mark.parametrize(
    ("state", "notes"),
    [
        ("listed", []),
        ("hidden", ["acme lists it, and it is hidden: `ollama-bridge models enable new` shows it"]),
        ("lost", ["the list of acme is not there yet"]),
        ("no more", ["acme lists it no more", "acme lists 'new' no more"]),
    ],
)
def test_config_check_says_who_is_not_there(tmp_path, state, notes):
    """In a note, and the configuration is fine."""
    mine = {"name": "mine", "backend": "acme", "backend_model": "new"}
    other = {"name": "m", "backend": "acme", "fallbacks": ["new"]}
    source = listed_in(state, tmp_path, Nobody, other, mine)
    code, stderr = checked(source)
    assert code == 0, stderr
    found = [one for one in stderr.splitlines() if one.startswith("note: ")]
    assert len(found) == len(notes), stderr
    assert all(one.endswith(note) for one, note in zip(found, notes, strict=True))


@pytest.mark.parametrize(
    "bad", [{"fallbacks": ["nwe"]}, {"budget": {"daily": 1, "instead": "nwe"}}, {"fallbacks": ["auto:chat"]}]
)
@pytest.mark.parametrize("state", ["listed", "hidden", "no more"])
def test_a_slip_of_the_pen_is_one_when_all_lists_are_there(tmp_path, bad, state):
    """Exit code 2, and no daemon."""
    source = listed_in(state, tmp_path, Nobody, {"name": "m", "backend": "acme", **bad})
    assert checked(source)[0] == 2


async def test_what_a_provider_says_that_it_costs_is_paid(tmp_path, monkeypatch):
    """By OpenRouter's own prices; and what nobody knows the price of is refused where a budget would pay."""
    monkeypatch.setattr("ollama_bridge.prices.is_near", lambda _: False)  # who is on loopback sends no bill
    priced = {"id": "lab/new", "name": "New", "pricing": {"prompt": "0.000001", "completion": "0.00001"}}

    def decide(seen):
        return script(priced, {"id": "lab/unpriced", "name": "Unpriced"}) if seen.method == "GET" else fine()

    async with Upstream(decide) as upstream:
        path = tmp_path / "config.yaml"
        entry = {"api_key": "k", "base_url": f"{upstream.url}/api/v1", "include": ["lab/*"]}
        path.write_text(json.dumps({**IN_FORCE, "providers": {"openrouter": entry}}))
        source = Source(path, environ={}, flags={("server", "port"): ("--port", 0)})
        async with Serving(source) as serving:
            while not {"lab/new:latest", "lab/unpriced:latest"} <= {*await serving.names()}:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert await said(serving.daemon, "lab/new") == (200, WORDS)
            status, why = await said(serving.daemon, "lab/unpriced")
            sums = await counted(serving.daemon)
    assert (status, "nobody knows what model 'lab/unpriced:latest'" in why, "set models[].price" in why) == (
        429,
        True,
        True,
    )
    assert sums.nusd == 11 * 1000 + 7 * 10_000
    assert sums == written()
    assert part(rows()[0], "provider", "model", "is_estimated") == ("openrouter", "lab/new:latest", 0)


# ---------------------------------------------------------------------------------------------------- a real Ollama

LAST = {"done": True, "done_reason": "stop", "prompt_eval_count": 46, "eval_count": 113, "total_duration": 5}
SAYS = [
    line(message={"role": "assistant", "content": "one two "}, done=False),
    line(message={"role": "assistant", "content": "three f"}, done=False),
    line(message={"role": "assistant", "content": "our five"}, done=False),
    line(message={"role": "assistant", "content": ""}, **LAST),
]


async def test_what_a_real_ollama_answers_is_free_and_in_the_books():
    """Under all policies: counted by its own numbers, kept where nothing is lost by it, limited as others are."""
    async with RealOllama("qwen3:4b") as real:
        real.lines = SAYS
        config = house(
            {"ollama": {"base_url": real.url, "requests_per_day": 2}}, budgets={"all": {"daily": 1}}
        )
        async with running(config) as daemon:
            await ask(daemon.url, "GET", "/api/tags")
            answers = [await chat(daemon, "qwen3:4b", headers={}, stream=True) for _ in range(2)]
            own = [await chat(daemon, "qwen3:4b", stream=True) for _ in range(2)]
            sums = await counted(daemon)
    assert [words(one) for one in (*answers, own[0])] == [WORDS] * 3
    assert own[0].lines == [json.loads(one) for one in SAYS]
    assert own[1].status == 429
    assert len(real.questions("/api/chat")) == 2
    assert [
        part(row, "provider", "cached", "input_tokens", "output_tokens", "cost_nusd") for row in rows()[:3]
    ] == [
        ("ollama", "", 46, 113, 0),
        ("ollama", "hit", 0, 0, 0),
        ("ollama", "", 46, 113, 0),
    ]
    assert sums == written()


@pytest.mark.parametrize("name", ["qwen3:4b", "ollama/qwen3:4b"])
async def test_from_a_cloud_to_a_local_model_and_back(name):
    """By the name that the local one has without an entry: what the cloud began the local one ends, and the other way."""
    ask_in = {"stream": True, "brand_new": 1}
    cut = Script([b"".join(parts(CHAT)[:2])], then="cut")
    scripts = [cut, refused(503), refused(503), refused(503), fine(" five")]
    async with RealOllama("qwen3:4b") as real, Upstream(lambda _: scripts.pop(0)) as upstream:
        real.lines = SAYS[2:]
        config = house(
            {"p": provider(CHAT, upstream), "ollama": {"base_url": real.url}},
            model("m", "p", CHAT, resume=True, fallbacks=[name]),
            {
                "name": "mine",
                "backend": "ollama",
                "backend_model": "qwen3:4b",
                "resume": True,
                "fallbacks": ["m"],
            },
            retry={"max_retries": 0},
        )
        async with running(config) as daemon:
            await ask(daemon.url, "GET", "/api/tags")
            resumed = await chat(daemon, **ask_in)
            instead = await chat(daemon, **ask_in)
            real.lines = SAYS[:2]
            scripts[:] = [fine("our five")]
            back = await chat(daemon, "mine", **ask_in)
            sums = await counted(daemon)
    assert words(resumed) == words(back) == WORDS
    assert words(instead) == "our five"
    assert [one.lines[-1]["answered_by"] for one in (resumed, instead, back)] == [
        "qwen3:4b",
        "qwen3:4b",
        "m:latest",
    ]
    first, second, third, *_ = (one.json for one in real.questions("/api/chat"))
    assert first["messages"][1] == {"role": "assistant", "content": "one two three f"}
    assert "brand_new" not in first
    assert second["model"] == third["model"] == "qwen3:4b"
    assert third["brand_new"] == 1
    assert upstream.requests[-1].json["messages"][1]["content"] == "one two three f"
    assert sums == written()


# ------------------------------------------------------------------------------------------------- taking turns


async def test_who_waits_for_a_turn_may_leave_and_others_are_answered_before_the_end(tmp_path):
    """Answers and embeddings in one line, through a reload, and while the daemon stops."""
    hold, path = asyncio.Event(), tmp_path / "config.yaml"
    vectors = json.dumps(
        {"data": [{"index": 0, "embedding": [3.0, 4.0]}], "usage": {"prompt_tokens": 1}}
    ).encode()

    def decide(seen):
        if seen.path.endswith("embeddings"):
            return Script([vectors], headers=JSON)
        return Script([CHAT.stream(Said(seen.json["messages"][0]["content"]))], hold=hold)

    def asked(text):
        return question("m", messages=[{"role": "user", "content": text}], stream=True)

    async with Upstream(decide) as upstream:
        entry = provider(CHAT, upstream, at_once=1)
        embedder = {
            "name": "e",
            "backend": "p",
            "capabilities": ["embedding"],
            "price": {"input": 0, "output": 0},
        }
        made = {**IN_FORCE, "providers": {"p": entry}, "models": [model("m", "p", CHAT), embedder]}
        async with managed(path, json.dumps({**made, "server": {"drain_s": 30}})) as daemon:
            gate = daemon._gateway.shared.gates.of(daemon._gateway.providers["p"].settings)[0]
            first = asyncio.create_task(ask(daemon.url, "POST", "/api/chat", asked("first"), OWN))
            await upstream.arrivals.acquire()
            _, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", asked("leaves"), OWN))
            while gate.waiting < 1:  # noqa: ASYNC110
                await asyncio.sleep(0)
            embedded = asyncio.create_task(
                ask(daemon.url, "POST", "/api/embed", {"model": "e", "input": "x"}, OWN)
            )
            while gate.waiting < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
            path.write_text(json.dumps({**made, "models": [*made["models"], model("n", "p", CHAT)]}))
            await daemon._take_over()
            last_one = asyncio.create_task(ask(daemon.url, "POST", "/api/chat", asked("last"), OWN))
            while gate.waiting < 3:  # noqa: ASYNC110
                await asyncio.sleep(0)
            writer.close()
            while gate.waiting > 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
            assert len(upstream.requests) == 1
            daemon.stop()
            hold.set()
            assert words(await first) == "first"
            assert (await embedded).json["embeddings"] == [[0.6, 0.8]]
            assert words(await last_one) == "last"
    assert [seen.path.rpartition("/")[2] for seen in upstream.requests] == [
        "completions",
        "embeddings",
        "completions",
    ]
    assert sorted(row["outcome"] for row in rows()) == ["answered", "answered", "answered", "left"]


# ---------------------------------------------------------------------------------------------- vendors' own ways


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/api/chat", {"think": True}),
        ("/v1/chat/completions", {"reasoning_effort": "high"}),
        ("/v1/messages", {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 4000}),
        ("/v1/responses", {"reasoning": {"effort": "high"}}),
    ],
)
async def test_to_think_is_asked_for_in_a_vendors_words_on_any_wire(path, more):
    """And what it thought is told in the client's."""
    async with Upstream(lambda _: Script([CHAT.stream(Said(WORDS, thinking="Hm."))])) as upstream:
        config = house(
            {"z": {"kind": "zai", "api_key": "k", "base_url": upstream.url}},
            {"name": "m", "backend": "z", "backend_model": "glm-4.7", "price": {"input": 0, "output": 0}},
        )
        async with running(config) as daemon:
            text = (
                {"input": "Hi"}
                if path.endswith("responses")
                else {"messages": [{"role": "user", "content": "Hi"}]}
            )
            got = await ask(daemon.url, "POST", path, {"model": "m", "stream": False, **text, **more})
    assert got.status == 200, got.body
    assert upstream.requests[0].json["thinking"] == {"type": "enabled"}
    assert "Hm." in got.body.decode()


async def test_tokens_of_a_vendors_model_are_estimated():
    """Nobody is asked for that."""
    async with Upstream() as upstream:
        config = house({"p": provider(CHAT, upstream)}, model("m", "p", CHAT))
        async with running(config) as daemon:
            body = {"model": "m", "messages": [{"role": "user", "content": "one two three four"}]}
            got = await ask(daemon.url, "POST", "/v1/messages/count_tokens", body)
    assert (got.status, upstream.requests) == (200, [])
    assert 4 <= got.json["input_tokens"] <= 20


async def test_sealed_reasoning_of_another_vendor_of_responses_returns_to_it():
    """xAI's, with the turn that it belongs to."""
    turn = [signed.Thought("I look.", "c2VhbGVk"), signed.Call("call_1", "f", {"a": 1})]
    async with Upstream() as upstream:
        upstream.reply(signed.responses(turn))
        upstream.reply(signed.responses([signed.Text("Done.")]))
        config = house(
            {"xai": {"api_key": "k", "base_url": f"{upstream.url}/v1"}},
            {"name": "m", "backend": "xai", "backend_model": "grok-4.7"},
        )
        tools = [
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
            }
        ]
        async with running(config) as daemon:
            first = {"role": "user", "content": "Look."}
            got = await chat(daemon, messages=[first], tools=tools)
            back = [first, got.json["message"], {"role": "tool", "content": "1", "tool_name": "f"}]
            assert words(await chat(daemon, messages=back, tools=tools)) == "Done."
    one, two = (seen.json for seen in upstream.requests)
    assert one["include"] == ["reasoning.encrypted_content"]
    assert [item["encrypted_content"] for item in two["input"] if item.get("type") == "reasoning"] == [
        "c2VhbGVk"
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux spreads connections over SO_REUSEPORT")
@pytest.mark.timeout(90)
async def test_two_workers_ask_for_one_list_and_learn_from_each_other(tmp_path):
    """One of them asks, both show what is new; and what one was refused the other soon leaves out as well."""

    def decide(seen):
        return script("new", "old") if seen.method == "GET" else picky(seen)

    async with Upstream(decide) as upstream:
        acme = {"kind": "openai", "base_url": f"{upstream.url}/v1", "api_key": "none"}
        text = json.dumps({"providers": {"acme": acme}, "breaker": {"failures": 1}})
        async with fleet(tmp_path, text) as served:

            async def shown(_):
                got = await ask(served.url, "GET", "/api/tags")
                return {one["name"] for one in got.json["models"]} == {"new:latest", "old:latest"}

            async def answered(_):
                return (await ask(served.url, "POST", "/api/chat", question("new", options=WARM))).status

            while not all([await shown(number) for number in range(20)]):  # noqa: ASYNC110 - a client polls as well
                await asyncio.sleep(0.1)
            assert sum(seen.method == "GET" for seen in upstream.requests) == 1
            refusals = 1
            while refusals:
                before = len(upstream.requests)
                assert {await answered(number) for number in range(20)} == {200}
                refusals = sum("temperature" in seen.json for seen in upstream.requests[before:])
            bodies = [seen.json for seen in upstream.requests if seen.method == "POST"]
            assert sum("temperature" in body for body in bodies) <= 2


@pytest.mark.parametrize(
    ("kind", "at", "name"),
    [
        ("mistral", "/v1/fim/completions", "codestral-latest"),
        ("deepseek", "/beta/completions", "deepseek-flash"),
    ],
)
async def test_gaps_are_filled_where_a_vendor_fills_them(kind, at, name):
    """Under all policies; paid as an answer is."""

    def decide(seen):
        choice = {"index": 0, "finish_reason": "stop", "text": "b", "delta": {"content": "b"}, "message": {}}
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        return Script([sse(json.dumps({"choices": [choice], "usage": usage}), done=True)])

    async with Upstream(decide) as upstream:
        base = upstream.url + ("/v1" if kind == "mistral" else "")
        config = house(
            {kind: {"api_key": "k", "base_url": base}},
            {"name": "m", "backend": kind, "backend_model": name, "price": PRICE},
        )
        async with running(config) as daemon:
            body = {"model": "m", "prompt": "a", "suffix": "c", "stream": False}
            got = await ask(daemon.url, "POST", "/api/generate", body, OWN)
            sums = await counted(daemon)
    assert (got.status, got.json.get("response")) == (200, "b"), got.body
    assert [seen.path for seen in upstream.requests] == [at]
    assert part(upstream.requests[0].json, "prompt", "suffix") == ("a", "c")
    assert sums == written() == Sums(Counter(answered=1), 11, 7, ANSWER_NUSD)


async def test_what_others_fall_back_to_is_not_removed_though_a_list_may_have_it(tmp_path):
    """A name that a real Ollama, or a list that is not there, may have is in order in a file; but no client makes it so."""
    async with RealOllama("qwen3:4b") as real:
        made = {
            "providers": {"demo": {}, "ollama": {"base_url": real.url}},
            "models": [
                {"name": "m", "backend": "demo", "fallbacks": ["child", "qwen3:4b"]},
                {"name": "child", "from": "demo"},
            ],
        }
        async with managed(tmp_path / "config.yaml", json.dumps(made)) as daemon:
            got = await ask(daemon.url, "DELETE", "/api/delete", {"model": "child"})
            assert (got.status, "is still needed" in got.json["error"]) == (400, True)
    assert "child" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize("name", ["qwen3:4b", "ollama/qwen3:4b"])
def test_config_check_does_not_ask_a_real_ollama(tmp_path, name):
    """What only that one may have is a note: it says itself what it has when it is asked."""
    models = [{"name": "m", "backend": "demo", "fallbacks": [name]}]
    path = tmp_path / "config.yaml"
    path.write_text(
        json.dumps({"providers": {"demo": {}, "ollama": {"base_url": Nobody.url}}, "models": models})
    )
    code, stderr = checked(Source(path, environ={}))
    note = f"note: model 'm' falls back to '{name}', which nobody offers: only ollama may have it"
    assert (code, note in stderr.splitlines()) == (0, True), stderr
