"""Asking providers for their models: when, how often, by whom, and what becomes of it; never while a client waits."""

import asyncio
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from ollama_bridge import lists
from ollama_bridge.cli import main
from ollama_bridge.config import edit
from ollama_bridge.config.file import Source
from ollama_bridge.daemon import Daemon
from ollama_bridge.discovery import Discovery
from ollama_bridge.errors import UpstreamUnreachable
from ollama_bridge.facts import Listed
from ollama_bridge.lists import Lists, Shelf, to_entries
from running import ask
from scripted import until
from upstream import Script, Upstream, sse

JSON = {"content-type": "application/json"}
DAY_S = 86_400.0
START_S = 1_700_000_000.0


def script(*entries, **how):
    models = [{"id": one} if isinstance(one, str) else one for one in entries]
    return Script([json.dumps({"object": "list", "data": models}).encode()], headers=JSON, **how)


class Told:
    """A provider that lists what it is told to."""

    def __init__(self, *ids):
        self.ids = ids
        self.asked = 0
        self.error = None

    async def models(self):
        self.asked += 1
        if self.error:
            raise self.error
        return None if self.ids == (None,) else [Listed(one) for one in self.ids]


class Clock:
    def __init__(self):
        self.now_s = START_S

    def __call__(self):
        return self.now_s


def config_of(text="", **providers):
    entries = providers or {"acme": ""}
    lines = [
        f"  {name}: {{kind: openai, base_url: 'http://127.0.0.1:9/v1'{more}}}"
        for name, more in entries.items()
    ]
    return "\n".join([text, "providers:", *lines]) + "\n"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "models.json"


@pytest.fixture
def config(tmp_path, cache):
    def load(text=None):
        path = tmp_path / "config.yaml"
        path.write_text(text or config_of())
        return Source(path, environ={}, lists=cache).load().config

    return load


def rounds(cache, clock):
    return Discovery(cache, now_s=clock, chance=lambda: 0.0)


# ----------------------------------------------------------------------------------------------- the file


def test_another_address_is_another_provider(cache):
    """And so is another kind or name; a password in the address counts for nothing, and is nowhere."""
    shelf = Shelf(to_entries([Listed("m")]), asked_s=START_S)
    address = "https://me:hunter2@host/v1"
    lists.write(cache, {lists.key("a", "openai", address): shelf}, now_s=START_S)
    found = lists.read(cache)
    assert found.of("a", "openai", "https://you:other@host/v1").models
    for other in (("b", "openai", address), ("a", "groq", address), ("a", "openai", "https://host/v2")):
        assert not found.of(*other).models
    assert b"hunter2" not in cache.read_bytes()
    assert b"https" not in cache.read_bytes()
    assert cache.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"\x00" * 100,
            b'{"version":1,"providers":{"a":',
            b'{"version":99,"providers":{}}',
            b"[]",
            b"null",
            b"3",
        ),
        *(b'{"version":1,"providers":{"a":{"models":{"m":3}}}}', b'{"version":1,"providers":[1]}'),
        b'{"version":1,"providers":{"a":{"asked":1e300}}}',
    ],
)
def test_a_file_that_makes_no_sense_is_as_none(cache, config, content):
    """It is said once, and everything else works on."""
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    assert lists.read(cache).fault
    assert config("models: [{name: m, backend: demo}]").models
    lists.write(cache, {"k": Shelf(asked_s=START_S)}, now_s=START_S)
    assert lists.read(cache) == Lists({"k": Shelf(asked_s=START_S)})


def test_two_that_write_at_once_lose_nothing_and_what_nobody_asks_for_is_forgotten(cache):
    """Each puts its own beside the others'."""
    lists.write(cache, {"old": Shelf(asked_s=START_S)}, now_s=START_S)
    lists.write(cache, {"a": Shelf(asked_s=START_S + DAY_S)}, now_s=START_S + DAY_S)
    assert lists.read(cache).shelves.keys() == {"old", "a"}
    lists.write(cache, {"b": Shelf(asked_s=START_S + 60.5 * DAY_S)}, now_s=START_S + 60.5 * DAY_S)
    assert lists.read(cache).shelves.keys() == {"a", "b"}


async def test_who_is_killed_while_writing_leaves_the_old_file_or_the_new_one(cache):
    """Whole, whichever it is; and what was left beside it is cleared away."""
    lists.write(cache, {"k": Shelf(asked_s=1.0)}, now_s=1.0)
    writing = (
        "import sys, pathlib\nfrom ollama_bridge import lists\nfrom ollama_bridge.lists import Shelf\n"
        "models = {f'm{n}': {'name': 'x' * 50} for n in range(20000)}\nprint('go', flush=True)\nn = 2.0\n"
        "while True:\n    lists.write(pathlib.Path(sys.argv[1]), {'k': Shelf(models, n)}, now_s=n); n += 1\n"
    )
    for wait_s in (0.05, 0.11):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", writing, str(cache)), stdout=asyncio.subprocess.PIPE
        )
        await process.stdout.readline()
        await asyncio.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        process._transport.close()
        found = lists.read(cache)
        assert not found.fault
        assert len(found.shelves["k"].models) in {0, 20000}
    lists.write(cache, {"k": Shelf(asked_s=9.0)}, now_s=9.0)
    assert {one.name for one in cache.parent.iterdir()} == {"models.json", ".models.json.lock"}


# ------------------------------------------------------------------------------------------------- rounds


async def test_a_provider_is_asked_once_a_day(cache, config):
    """By the file, and so also after a restart; `refresh_h` may say otherwise."""
    clock, told, given = Clock(), Told("m"), config()
    assert await rounds(cache, clock).round(given, {"acme": told}) == DAY_S
    clock.now_s += DAY_S - 10
    assert await rounds(cache, clock).round(given, {"acme": told}) == 10
    assert told.asked == 1
    clock.now_s += 10
    await rounds(cache, clock).round(given, {"acme": told})
    assert told.asked == 2
    often = config(config_of("discovery: {refresh_h: 0.5}"))
    clock.now_s += 1800
    assert await rounds(cache, clock).round(often, {"acme": told}) == 1800
    assert told.asked == 3


async def test_who_fails_keeps_what_it_said_and_is_asked_ever_more_seldom(cache, config):
    """One warning for all of it; the next success ends it."""
    clock, told, given = Clock(), Told("m"), config()
    await rounds(cache, clock).round(given, {"acme": told})
    clock.now_s += DAY_S
    told.error = UpstreamUnreachable(
        "no connection", provider="acme", model="", said="; it says: secret words"
    )
    waits = []
    with structlog.testing.capture_logs() as logs:
        for _ in range(6):
            waits.append(await rounds(cache, clock).round(given, {"acme": told}))
            clock.now_s += waits[-1]
    assert waits == [60, 240, 960, 3840, 15360, 21600]
    warnings = [one for one in logs if one["log_level"] == "warning"]
    assert [one["error"] for one in warnings] == ["acme: no connection"]
    kept = lists.read(cache).shelves[lists.key("acme", "openai", "http://127.0.0.1:9/v1")]
    assert (list(kept.models), kept.failures) == (["m"], 6)
    told.error = None
    assert await rounds(cache, clock).round(given, {"acme": told}) == DAY_S


async def test_who_is_too_slow_is_given_up(cache, config, monkeypatch):
    """The others are not held up by it."""
    monkeypatch.setattr("ollama_bridge.discovery.WITHIN_S", 0.05)
    slow, quick = Told("s"), Told("q")
    slow.models = asyncio.Event().wait
    given = config(config_of(slow="", quick=""))
    await rounds(cache, Clock()).round(given, {"slow": slow, "quick": quick})
    shelves = lists.read(cache).shelves.values()
    assert sorted((list(one.models), one.failures) for one in shelves) == [([], 1), (["q"], 0)]


async def test_only_who_is_wanted_is_asked(cache, config):
    """Neither the demo, nor a real Ollama, nor who is told not to be; and who has no list is not asked again soon."""
    text = (
        config_of("discovery: {enabled: false}", yes=", discover: true", no="") + "  ollama: {}\n  demo: {}\n"
    )
    told = {name: Told(None) for name in ("yes", "no", "ollama", "demo")}
    given = config(text)
    clock = Clock()
    with structlog.testing.capture_logs() as logs:
        await rounds(cache, clock).round(given, told)
    assert {name: one.asked for name, one in told.items()} == {"yes": 1, "no": 0, "ollama": 0, "demo": 0}
    assert [(one["event"], one["provider"]) for one in logs] == [("a provider has no list of models", "yes")]
    assert await rounds(cache, clock).round(given, told) == DAY_S


async def test_of_several_processes_one_asks(cache, config):
    """The others look again when it should be done, and find it done."""
    clock, told, given = Clock(), Told("m"), config()
    began, go_on, models = asyncio.Event(), asyncio.Event(), told.models

    async def held():
        began.set()
        await go_on.wait()
        return await models()

    told.models = held
    first = asyncio.create_task(rounds(cache, clock).round(given, {"acme": told}))
    await began.wait()
    other = rounds(cache, clock)
    assert await other.round(given, {"acme": told}) == 15
    go_on.set()
    assert await first == DAY_S
    assert await other.round(given, {"acme": told}) == DAY_S
    assert told.asked == 1


async def test_a_folder_that_cannot_be_written_is_one_warning(cache, config):
    """And providers are not asked all day because of it."""
    cache.parent.write_text("a file where the folder should be")
    clock, told, given = Clock(), Told("m"), config()
    discovery = rounds(cache, clock)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            assert await discovery.round(given, {"acme": told}) == DAY_S
    assert told.asked == 1
    assert [one["event"] for one in logs if one["log_level"] == "warning"] == [
        "the lists of models cannot be kept: what providers add is not offered"
    ]


async def test_a_full_disk_leaves_the_old_list(cache, config, monkeypatch):
    """As a whole, with nothing beside it."""
    clock, told, given = Clock(), Told("m"), config()
    await rounds(cache, clock).round(given, {"acme": told})
    before = cache.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ollama_bridge.wholefile.os.fsync", full)
    clock.now_s += DAY_S
    await rounds(cache, clock).round(given, {"acme": told})
    assert (cache.read_bytes(), told.asked) == (before, 2)
    assert not list(cache.parent.glob("*.tmp"))


# -------------------------------------------------------------------------------------------- the daemon


def _source(tmp_path, text, **environ):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return Source(path, environ=environ, flags={("server", "port"): ("--port", 0)})


class Serving:
    """A daemon that asks its providers, as `serve` starts it."""

    def __init__(self, source):
        self.source = source

    async def __aenter__(self):
        load = lambda: self.source.load().config  # noqa: E731 - as `serve` has it
        change = partial(edit.apply, self.source)
        self.daemon = Daemon(load, self.source.files, change=change, lists=self.source.lists_file)
        self.task = asyncio.create_task(self.daemon.run(load()))
        await self.daemon.started.wait()
        return self

    async def __aexit__(self, *_):
        self.daemon.stop()
        await self.task

    async def names(self):
        got = await ask(self.daemon.url, "GET", "/api/tags")
        return [model["name"] for model in got.json["models"]]

    async def until(self, *wanted):
        while await self.names() != list(wanted):  # noqa: ASYNC110 - a client polls as well
            await asyncio.sleep(0.05)


@pytest.mark.timeout(60)
async def test_no_client_waits_for_a_list_and_what_it_adds_appears_by_itself(tmp_path):
    """An empty cache and a provider that takes its time: clients are served at once; and after a restart without it too."""
    held = asyncio.Event()
    async with Upstream(lambda _: script({"id": "new", "max_model_len": 4321}, hold=held)) as upstream:
        text = f"providers: {{acme: {{kind: openai, base_url: '{upstream.url}/v1', api_key: none}}}}\nmodels:\n  - {{name: old, backend: acme}}\n"
        source = _source(tmp_path, text)
        async with Serving(source) as serving:
            assert await serving.names() == ["old:latest"]
            await upstream.asked.wait()
            assert await serving.names() == ["old:latest"]
            held.set()
            await serving.until("old:latest", "new:latest")
            got = await ask(serving.daemon.url, "POST", "/api/show", {"model": "acme/new"})
            assert got.json["model_info"]["new.context_length"] == 4321
            assert [one.path for one in upstream.requests] == ["/v1/models"]
    async with Serving(source) as serving:  # nobody is there to be asked
        assert await serving.names() == ["old:latest", "new:latest"]


@pytest.mark.timeout(60)
async def test_a_provider_that_is_added_is_asked_and_one_that_moves_is_another(tmp_path):
    """At once, and not a day later."""
    async with Upstream(lambda seen: script(seen.path.split("/")[1])) as upstream:

        def entry(name, place):
            return f"  {name}: {{kind: openai, base_url: '{upstream.url}/{place}/v1', api_key: none}}\n"

        source = _source(tmp_path, "providers:\n" + entry("acme", "x"))
        async with Serving(source) as serving:
            await serving.until("x:latest")
            source.path.write_text("providers:\n" + entry("acme", "x") + entry("b", "x"))
            await serving.until("x:latest", "b/x:latest")
            source.path.write_text("providers:\n" + entry("acme", "y"))
            await serving.until("y:latest")


@pytest.mark.timeout(60)
async def test_clients_bring_a_hidden_model_by_pulling_it_and_hide_one_by_removing_it(tmp_path):
    """As they do with those of the catalogue: it stands in the file then."""
    async with Upstream(lambda _: script("meta/llama:free", "b")) as upstream:
        text = f"discovery: {{new_models: disabled}}\nproviders: {{acme: {{kind: openai, base_url: '{upstream.url}', api_key: none}}}}\n"
        source = _source(tmp_path, text)
        async with Serving(source) as serving:
            await until(lambda: source.load(hidden=True).config.models)
            assert await serving.names() == []
            for name in ("meta/llama:free", "acme/b"):
                got = await ask(serving.daemon.url, "POST", "/api/pull", {"model": name, "stream": False})
                assert got.json == {"status": "success"}
            assert sorted(await serving.names()) == ["acme/b:latest", "meta/llama:free"]
            got = await ask(serving.daemon.url, "DELETE", "/api/delete", {"model": "acme/b"})
            assert got.status == 200
            assert await serving.names() == ["meta/llama:free"]
    assert "- name: meta/llama:free\n    backend: acme\n    enabled: true\n" in source.path.read_text()


@pytest.mark.timeout(60)
async def test_what_a_list_says_of_thinking_is_what_is_sent(tmp_path):
    """Of a Claude that is in no catalogue: turned off in the way that it takes, and as hard as it can."""
    yes, no = {"supported": True}, {"supported": False}
    types = {"adaptive": yes, "enabled": no, "disabled": no, "between_tools": yes}
    capabilities = {
        "thinking": {"supported": True, "types": types},
        "effort": {"supported": True, "low": yes, "high": yes},
    }
    said = sse(
        {"type": "message_start", "message": {"usage": {"input_tokens": 1}}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    )

    def decide(seen):
        if seen.method == "GET":
            return script({"id": "claude-next-7", "capabilities": capabilities})
        return Script([said])

    async with Upstream(decide) as upstream:
        text = f"providers: {{anthropic: {{api_key: sk-0123456789, base_url: '{upstream.url}', include: [claude-next-7]}}}}\n"
        async with Serving(_source(tmp_path, text)) as serving:
            await serving.until("claude-next-7:latest")
            for think in (False, "max"):
                chat = {
                    "model": "claude-next-7",
                    "messages": [{"role": "user", "content": "hi"}],
                    "think": think,
                }
                assert (await ask(serving.daemon.url, "POST", "/api/chat", chat)).status == 200
        off, hard = (one.json for one in upstream.requests if one.method == "POST")
        assert off["thinking"] == {"type": "between_tools"}
        assert (hard["thinking"]["type"], hard["output_config"]) == ("adaptive", {"effort": "high"})


@pytest.mark.timeout(90)
async def test_workers_ask_once(tmp_path):
    """Whichever of them comes first; all of them offer what it finds."""
    async with Upstream(lambda _: script("new")) as upstream:
        (tmp_path / "config.yaml").write_text(
            f"providers: {{acme: {{kind: openai, base_url: '{upstream.url}/v1', api_key: none}}}}\n"
        )
        environ = {**os.environ, "PYTHONPATH": str(Path(lists.__file__).parents[1])}
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "ollama_bridge",
                "serve",
                "--workers",
                "2",
                "--port",
                "0",
                "--log-level",
                "info",
            ),
            *("--config", str(tmp_path / "config.yaml")),
            stderr=asyncio.subprocess.PIPE,
            env=environ,
        )
        taken = set()
        try:
            async for line in process.stderr:
                if b"configuration taken over" in line or b"models=1" in line:
                    taken.add(line.split(b"worker=")[1].split()[0])
                if len(taken) == 2:
                    break
        finally:
            process.terminate()
            await process.communicate()
        assert len(taken) == 2
        assert len(upstream.requests) == 1


# ---------------------------------------------------------------------------------------------- commands


def run(*args, code=0):
    result = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
    assert result.exit_code == code, result.output + result.stderr
    return result


async def _asking(upstream, tmp_path, *args, code=0):
    file = tmp_path / "config.yaml"
    return await asyncio.to_thread(run, "models", "discover", *args, "--config", file, code=code)


@pytest.fixture
async def upstream(tmp_path):
    replies = {
        "/a/models": script("one", {"id": "two", "max_model_len": 9}, "whisper-1"),
        "/none/models": Script([], 404),
    }

    def decide(seen):
        return replies.get(seen.path, Script([b'{"error": {"message": "bad key"}}'], 401, JSON))

    async with Upstream(decide) as upstream:
        upstream.replies = replies
        entries = "".join(
            f"  {name}: {{kind: openai, base_url: '{upstream.url}/{name}', api_key: sk-0123456789}}\n"
            for name in ("a", "bad", "none")
        )
        (tmp_path / "config.yaml").write_text(f"providers:\n{entries}")
        yield upstream


async def test_the_command_says_what_is_new_gone_and_changed(upstream, tmp_path):
    """One object for each provider; who fails is told on stderr and by the exit code, and stops nobody."""
    result = await _asking(upstream, tmp_path, "--json", code=1)
    rows = {row["provider"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert rows["a"] == {
        "provider": "a",
        "state": "ok",
        "models": 2,
        "offered": 2,
        "new": ["one", "two"],
        "gone": [],
        "changed": [],
    }
    assert (rows["bad"]["state"], rows["none"]["state"]) == ("failed", "no list")
    assert "bad: the API key was refused (HTTP 401): check providers.bad.api_key" in result.stderr
    assert "none: has no list of models" in result.stderr
    upstream.replies["/a/models"] = script({"id": "two", "max_model_len": 10}, "three")
    result = await _asking(upstream, tmp_path, "a", "--json")
    (row,) = map(json.loads, result.stdout.splitlines())
    assert (row["new"], row["gone"], row["changed"]) == (["three"], ["one"], ["two"])
    result = await _asking(upstream, tmp_path, "nope", code=2)
    assert "no provider is called 'nope'" in result.stderr


async def test_the_command_draws_a_table_for_people_and_columns_for_pipes(upstream, tmp_path, monkeypatch):
    """The same in both."""
    plain = (await _asking(upstream, tmp_path, "a")).stdout
    assert plain.splitlines()[0].split() == [
        "provider",
        "state",
        "models",
        "offered",
        "new",
        "gone",
        "changed",
    ]
    assert plain.splitlines()[1].split() == ["a", "ok", "2", "2", "one,", "two", "-", "-"]
    monkeypatch.setattr("ollama_bridge.cli.listing.on_a_terminal", lambda: True)
    drawn = (await _asking(upstream, tmp_path, "a")).stdout
    assert drawn.splitlines()[1].split() == ["a", "ok", "2", "2", "-", "-", "-"]


async def test_the_command_names_few_and_says_how_many_clients_see(upstream, tmp_path):
    """Of hundreds that are new, or were never asked for, a table names some or none; and how to show the hidden ones."""
    upstream.replies["/a/models"] = script(*(f"m{number}" for number in range(90)))
    first = await _asking(upstream, tmp_path, "a")
    assert first.stdout.splitlines()[1].split() == ["a", "ok", "90", "0", "all", "-", "-"]
    assert "`models enable` or providers.NAME.include shows them" in first.stderr
    upstream.replies["/a/models"] = script(*(f"n{number}" for number in range(90)))
    (row,) = (await _asking(upstream, tmp_path, "a")).stdout.splitlines()[1:]
    assert "n0, n1, n10, n11, n12, n13, and 84 more  m0, m1, m10, m11, m12, m13, and 84 more" in row


async def test_what_was_found_can_be_shown_enabled_and_disabled(upstream, tmp_path):
    """With where each fact came from."""
    await _asking(upstream, tmp_path, "a")
    file = tmp_path / "config.yaml"
    text = file.read_text()
    file.write_text(
        text + "discovery: {new_models: disabled}\nmodels:\n  - {name: mine, backend: a, max_tokens: 7}\n"
    )
    assert [row.split()[0] for row in run("models", "--config", file).stdout.splitlines()] == [
        "name",
        "mine:latest",
    ]
    rows = run("models", "--all", "--json", "--config", file).stdout.splitlines()
    assert [(row["name"], row["enabled"]) for row in map(json.loads, rows)] == [
        *(("mine:latest", True), ("one:latest", False), ("two:latest", False))
    ]
    day = lists.read(lists.default_path()).shelves.popitem()[1].day
    shown = json.loads(run("models", "show", "a/two", "--json", "--config", file).stdout)
    assert (shown["context_length"], shown["sources"]["context_length"]) == (9, f"provider's list, {day}")
    assert (shown["listed"], shown["sources"]["max_tokens"]) == ("yes", "assumed")
    plain = run("models", "show", "mine", "--config", file).stdout
    assert "max_tokens          7  (config.yaml:7)" in plain.splitlines()
    assert f"listed              not in the provider's list of {day}" in plain.splitlines()
    run("models", "enable", "a/two", "--config", file)
    run("models", "disable", "mine", "--config", file)
    assert [row.split()[0] for row in run("models", "--config", file).stdout.splitlines()] == [
        "name",
        "two:latest",
    ]


async def test_what_is_made_from_a_model_of_a_list_outlives_the_list(upstream, tmp_path):
    """Named as `provider/model`, in `from` as in `fallbacks`: a cache that is gone must not keep anybody from starting."""
    await _asking(upstream, tmp_path, "a")
    file = tmp_path / "config.yaml"
    made = (
        "models:\n  - {name: child, from: a/two, system: hi}\n  - {name: m, backend: a, fallbacks: [a/two]}\n"
    )
    file.write_text(file.read_text() + made)
    for expected in (["child:latest", "m:latest", "one:latest", "two:latest"], ["child:latest", "m:latest"]):
        rows = run("models", "--json", "--config", file).stdout.splitlines()
        assert [json.loads(row)["name"] for row in rows] == expected
        lists.default_path().unlink(missing_ok=True)
