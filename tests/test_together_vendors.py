"""What providers do differently, with all policies in force: keys, sign-ins, repairs, lists, a real Ollama, taking turns.

A running daemon, the real SDKs, and fake providers on loopback.
"""

import asyncio
import base64
import json
from collections import Counter

import pytest
from click.testing import CliRunner

from faults import WORDS, error, parts
from journal import journal
from ollama_bridge import lists
from ollama_bridge.cli import main
from ollama_bridge.config.file import Source
from ollama_bridge.facts import Listed
from ollama_bridge.lists import Shelf, to_entries
from running import ask, connect, managed, request, running
from test_discovery import JSON, Serving, script
from together import (
    ANSWER_NUSD,
    CHAT,
    IN_FORCE,
    Sums,
    chat,
    counted,
    house,
    model,
    provider,
    question,
    words,
    written,
)
from upstream import Script, Upstream
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
