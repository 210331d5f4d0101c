"""The models of a real Ollama behind the bridge: listed with the cloud's, as they are there, and as they are now."""

import asyncio
import time
from contextlib import suppress

import pytest

from journal import journal
from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.lazy import LazyProvider
from ollama_bridge.config import Config
from ollama_bridge.errors import ConfigError
from ollama_bridge.roster import FIRST_S, FRESH_S, PATIENCE_S, Known, Roster
from real_ollama import BRAND_NEW, RealOllama, behind, line
from running import ask, running

SAID = [line(message={"role": "assistant", "content": "Hi"}, done=True, done_reason="stop", eval_count=1)]
USER = [{"role": "user", "content": "?"}]


async def names(url):
    return [model["name"] for model in (await ask(url, "GET", "/api/tags")).json["models"]]


def chat(model):
    return {"model": model, "messages": USER}


async def until(true, within_s=10):
    async with asyncio.timeout(within_s):
        while not await true():  # noqa: ASYNC110 - what another process does is polled
            await asyncio.sleep(0.02)


# ------------------------------------------------------------------------------------------------------------- lists


async def test_a_list_has_their_own_entries(tmp_path):
    """Beside the bridge's own models, and down to fields that nobody here knows; `/v1/models` has them too."""
    async with RealOllama("qwen3:4b", "hf.co/u/M-GGUF:Q4_K_M") as real, behind(real, tmp_path) as url:
        found = (await ask(url, "GET", "/api/tags")).json["models"]
        ids = [model["id"] for model in (await ask(url, "GET", "/v1/models")).json["data"]]
    assert found[0]["name"] == "demo:latest"
    assert found[1:] == list(real.models.values())
    assert ids == ["demo:latest", "qwen3:4b", "hf.co/u/M-GGUF:Q4_K_M"]


async def test_what_is_running_is_told_by_itself(tmp_path):
    """Its rows as they are, among the bridge's own by the time that they are kept."""
    async with RealOllama("qwen3:4b", "plain:latest") as real, behind(real, tmp_path) as url:
        real.running = [
            {"name": "qwen3:4b", "model": "qwen3:4b", "size_vram": 77, "new": BRAND_NEW, "expires_at": "2318-07-23T00:00:00+02:00"},
            {"name": "plain:latest", "model": "plain:latest", "size": 5, "expires_at": "2020-01-01T00:00:00.123456789Z"},
            {"name": "gone:latest", "model": "gone:latest"},
            {"name": 5},
        ]  # fmt: skip
        await ask(url, "GET", "/api/tags")
        alone = (await ask(url, "GET", "/api/ps")).json["models"]
        await ask(url, "POST", "/api/chat", chat("demo"))
        real.lines = SAID
        await ask(url, "POST", "/api/chat", chat("qwen3:4b"))
        both = (await ask(url, "GET", "/api/ps")).json["models"]
    assert alone == real.running[:2]
    assert [row["name"] for row in both] == ["qwen3:4b", "demo:latest", "plain:latest"]
    assert (both[0], both[2]) == tuple(real.running[:2])


@pytest.mark.parametrize("verbose", [{}, {"verbose": True}, {"verbose": False, "brand_new": 1}])
async def test_a_model_is_shown_as_it_is_there(tmp_path, verbose):
    """To the byte, whatever is in it; what the client asks for goes there as well."""
    async with RealOllama("qwen3:4b") as real, behind(real, tmp_path) as url:
        real.show = {"license": "ß <b>", "projector_info": None, "brand_new": BRAND_NEW}
        got = await ask(url, "POST", "/api/show", {"name": "QWEN3:4b"} | verbose)
        direct = await ask(real.url, "POST", "/api/show", {"model": "qwen3:4b"} | verbose)
    assert (got.status, got.headers["Content-Type"], got.body) == (
        200,
        direct.headers["Content-Type"],
        direct.body,
    )
    assert real.questions("/api/show")[-2].json == {"name": "QWEN3:4b", "model": "qwen3:4b"} | verbose


async def test_copilot_reads_the_name_that_it_asked_for(tmp_path):
    """As a real server does it for that client alone; it is told who asks."""
    agent = {"User-Agent": "GitHubCopilotChat/0.30"}
    async with RealOllama("qwen3:4b") as real, behind(real, tmp_path) as url:
        got = await ask(url, "POST", "/api/show", {"model": "qwen3:4b"}, agent)
    assert got.json["model_info"]["general.basename"] == "qwen3:4b"
    assert got.json["brand_new"] == 1
    assert real.questions("/api/show")[-1].headers["User-Agent"] == agent["User-Agent"]


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"null", b'{"model_info":null}', b'{"model_info":3}'])
async def test_a_model_that_is_shown_oddly(tmp_path, body):
    """Where something of it is to be changed, that says so, and whose fault it is."""
    agent = {"User-Agent": "GitHubCopilotChat/0.30"}
    async with RealOllama("qwen3:4b") as real, behind(real, tmp_path) as url:
        real.shown = body
        got = await ask(url, "POST", "/api/show", {"model": "qwen3:4b"}, agent)
        plain = await ask(url, "POST", "/api/show", {"model": "qwen3:4b"})
    assert (got.status, plain.status, plain.body) == (502, 200, body)
    assert "answered /api/show with something unknown" in got.json["error"]


async def test_the_configuration_goes_before(tmp_path):
    """What the operator says of a model is shown in place of what its Ollama says; the rest stays."""
    own = {"name": "mine", "backend": "ollama", "backend_model": "qwen3:4b"}
    said = {"context_length": 1000, "capabilities": ["completion"], "system": "S"}
    models = [own | said, {"name": "plain", "backend": "ollama", "aliases": ["p"]}]
    async with RealOllama("qwen3:4b", "plain:latest") as real, behind(real, tmp_path, models=models) as url:
        tags = {model["name"]: model for model in (await ask(url, "GET", "/api/tags")).json["models"]}
        shown = (await ask(url, "POST", "/api/show", {"model": "mine"})).json
        real.lines = SAID
        alias = await ask(url, "POST", "/api/chat", chat("p"))
    assert tags.keys() == {"demo:latest", "mine:latest", "plain:latest", "qwen3:4b"}
    entry = real.models["qwen3:4b"]
    assert tags["qwen3:4b"] == entry
    assert tags["plain:latest"] == real.models["plain:latest"]
    details = entry["details"] | {"context_length": 1000}
    named = {"name": "mine:latest", "model": "mine:latest"}
    assert tags["mine:latest"] == entry | named | {"details": details, "capabilities": ["completion"]}
    assert (shown["capabilities"], shown["system"], shown["brand_new"]) == (["completion"], "S", 1)
    assert shown["model_info"]["qwen3.context_length"] == 1000
    assert alias.lines[0]["model"] == "p"


async def test_names_are_told_apart(tmp_path):
    """A name that is somebody else's here has the provider in front; a hidden entry hides what it names."""
    models = [
        {"name": "qwen3:4b", "backend": "demo"},
        {"name": "hidden", "backend": "ollama", "enabled": False},
        {"name": "mine", "backend": "demo", "aliases": ["taken"]},
    ]
    there = ["qwen3:4b", "hidden:latest", "Taken:latest", "library2/demo:latest", "demo:latest"]
    async with RealOllama(*there) as real, behind(real, tmp_path, models=models) as url:
        listed = await names(url)
        real.lines = SAID
        got = await ask(url, "POST", "/api/chat", chat("ollama/qwen3:4b"))
        hidden = await ask(url, "POST", "/api/chat", chat("hidden"))
    assert listed == [
        *("qwen3:4b", "mine:latest", "demo:latest"),
        *("ollama/qwen3:4b", "ollama/Taken:latest", "library2/demo:latest", "ollama/demo:latest"),
    ]
    assert got.lines[0]["model"] == "ollama/qwen3:4b"
    assert real.questions("/api/chat")[0].json["model"] == "qwen3:4b"
    assert hidden.status == 404


async def test_two_of_them(tmp_path):
    """The first keeps a name that both have; each answers for its own."""
    async with RealOllama("a:latest", "b:latest") as one, RealOllama("b:latest", "c:latest") as two:
        providers = {
            "one": {"kind": "ollama", "base_url": one.url},
            "my.two": {"kind": "ollama", "base_url": two.url},
        }
        async with running(Config.model_validate({"server": {"port": 0}, "providers": providers})) as daemon:
            assert await names(daemon.url) == ["a:latest", "b:latest", "my-two/b:latest", "c:latest"]
            one.lines = two.lines = SAID
            for model in ("b", "my-two/b", "c"):
                await ask(daemon.url, "POST", "/api/chat", chat(model))
    assert [[asked.json["model"] for asked in server.questions("/api/chat")] for server in (one, two)] == [
        ["b"],
        ["b:latest", "c"],
    ]


async def test_what_a_list_does_not_say_is_looked_up(tmp_path):
    """Older servers say in `show` alone what a model can do; other wires depend on it."""
    async with (
        RealOllama("qwen3:4b", says_what_they_can=False) as real,
        behind(real, tmp_path) as url,
    ):
        thinks = {"model": "qwen3:4b", "messages": USER, "reasoning_effort": "high"}
        tools = {
            "model": "qwen3:4b",
            "messages": USER,
            "tools": [{"type": "function", "function": {"name": "f"}}],
        }
        real.lines = SAID

        async def knows():
            await names(url)
            return (await ask(url, "POST", "/v1/chat/completions", tools)).status == 400

        await until(knows)
        assert (await ask(url, "POST", "/v1/chat/completions", thinks)).status == 200
        assert await names(url) == ["demo:latest", "qwen3:4b"]
    assert len(real.questions("/api/show")) == 1


async def test_its_models_are_no_choice_of_the_bridges(tmp_path):
    """`auto` chooses among what was configured; where nothing was, among what is there."""
    async with RealOllama("qwen3:4b") as real:
        real.lines = SAID
        async with behind(real, tmp_path) as url:
            await names(url)
            got = await ask(url, "POST", "/api/chat", chat("auto"))
            assert got.lines[-1]["answered_by"] == "demo:latest"
        only = {"server": {"port": 0}, "providers": {"ollama": {"base_url": real.url}}}
        async with running(Config.model_validate(only)) as daemon:
            await names(daemon.url)
            got = await ask(daemon.url, "POST", "/api/chat", chat("auto:chat"))
            assert got.lines[-1]["answered_by"] == "qwen3:4b"


# ------------------------------------------------------------------------------------------------- coming and going


async def test_a_model_that_is_there_since_just_now_answers(tmp_path):
    """Whoever pulled it: nobody waits for a list to be asked for again. `ollama/…` names the provider."""
    async with RealOllama("qwen3:4b") as real, behind(real, tmp_path) as url:
        assert await names(url) == ["demo:latest", "qwen3:4b"]
        real.lines = SAID
        for number, (method, path, body) in enumerate(
            [
                ("POST", "/api/chat", {"messages": USER}),
                ("POST", "/api/show", {}),
                ("POST", "/v1/chat/completions", {"messages": USER}),
                ("POST", "/v1/messages", {"messages": USER, "max_tokens": 9}),
            ]
        ):
            await asyncio.sleep(2.05)  # as long as a list without it is believed
            real.models[f"new{number}:latest"] = real._entry(f"new{number}:latest")
            got = await ask(url, method, path, {"model": f"New{number}"} | body)
            assert got.status == 200, got.body


async def test_a_name_that_nobody_has_is_looked_for_once(tmp_path):
    """A client that asks for it again and again does not become a burden."""
    async with RealOllama() as real, behind(real, tmp_path) as url:
        await names(url)
        for _ in range(20):
            got = await ask(url, "POST", "/api/chat", chat("nope"))
            assert (got.status, got.json) == (404, {"error": "model 'nope' not found"})
    assert len(real.questions("/api/tags")) <= 2


async def test_one_that_is_down_is_not_in_the_way(tmp_path):
    """The rest is listed at once, the log says it once, and who asks for its models is told why; then it is back."""
    with journal() as written:
        await _down_and_up(tmp_path)
    told = [line for line in written.lines if line["event"].startswith("a real Ollama does not")]
    assert len(told) == 1


async def _down_and_up(tmp_path):
    async with RealOllama("qwen3:4b") as real, behind(real, tmp_path) as url:
        assert await names(url) == ["demo:latest", "qwen3:4b"]
        await real.stop()

        async def gone():
            return await names(url) == ["demo:latest"]

        await until(gone, within_s=FRESH_S + 5)
        for _ in range(5):
            assert await names(url) == ["demo:latest"]
            assert (await ask(url, "GET", "/api/ps")).json == {"models": []}
        got = await ask(url, "POST", "/api/chat", chat("qwen3:4b"))
        show = await ask(url, "POST", "/api/show", {"model": "qwen3:4b"})
        await real.start()
        real.lines = SAID
        answered = await ask(url, "POST", "/api/chat", chat("qwen3:4b"))
    assert (got.status, show.status) == (502, 502)
    assert f"connection refused: is {real.url} right, and running?" in got.json["error"]
    assert f"connection refused: is {real.url} right, and running?" in show.json["error"]
    assert answered.lines[0]["message"]["content"] == "Hi"


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


async def test_a_list_is_asked_for_when_it_is_no_longer_fresh():
    """At most once in some seconds, by all who want to see it together."""
    clock = Clock()
    async with RealOllama("qwen3:4b") as real:
        provider = LazyProvider(ProviderSettings("ollama", "ollama", base_url=real.url))
        roster = Roster(provider, clock_s=clock)
        changes = []

        def changed():
            changes.append(roster.entries)

        roster.changed = changed
        await asyncio.gather(*(roster.fresh() for _ in range(5)))
        assert len(real.questions("/api/tags")) == 1
        clock.now_s += FRESH_S - 0.1
        await roster.fresh()
        assert len(real.questions("/api/tags")) == 1
        clock.now_s += 0.2
        await roster.fresh()
        assert (len(real.questions("/api/tags")), changes) == (2, [(real.models["qwen3:4b"],)])
        with roster.changing():
            await roster.fresh()
            await roster.fresh()
        await roster.fresh()
        assert len(real.questions("/api/tags")) == 5
        await roster.aclose()
        await provider.aclose()


async def test_a_list_that_was_on_its_way_during_a_change_is_not_believed():
    """It may be from before: whoever wants lists afterwards has them asked for anew."""
    async with RealOllama("old:latest") as real:
        provider = LazyProvider(ProviderSettings("ollama", "ollama", base_url=real.url))
        roster = Roster(provider)
        real.hold_lists = asyncio.Event()
        with roster.changing():
            early = asyncio.create_task(roster.fresh())
            while not real.questions("/api/tags"):  # noqa: ASYNC110 - the other server's own memory
                await asyncio.sleep(0.01)
            real.models["new:latest"] = real._entry("new:latest")
        real.hold_lists.set()
        await roster.fresh()
        await early
        assert [entry["name"] for entry in roster.entries] == ["old:latest", "new:latest"]
        await roster.aclose()
        await provider.aclose()


async def test_ollama_com_is_not_asked_again_and_again():
    """Its models are pulled by nobody, and it runs none for us."""
    clock = Clock()
    provider = LazyProvider(ProviderSettings("cloud", "ollama", base_url="https://ollama.com"))
    roster = Roster(provider, clock_s=clock)
    asked = []

    async def tags(method, path, body=b""):
        asked.append(path)
        return {"models": [{"name": "gpt-oss:120b", "capabilities": ["completion"]}]}

    roster._get = tags
    for _ in range(3):
        await roster.fresh()
        clock.now_s += 59
        await roster.look()
        await roster.running()
    assert (asked, [entry["name"] for entry in roster.entries]) == (
        ["/api/tags", "/api/tags"],
        ["gpt-oss:120b"],
    )
    await roster.aclose()
    await provider.aclose()


async def test_nobody_waits_long_for_a_list():
    """One that does not come is waited for a moment, the first time and later; who comes later waits less."""
    never = asyncio.Event()

    async def silent(reader, writer):
        await never.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    provider = LazyProvider(ProviderSettings("ollama", "ollama", base_url=url))
    await provider.warm()
    roster = Roster(provider)
    began_s = time.monotonic()
    await roster.fresh()
    first_s = time.monotonic() - began_s
    await roster.fresh()
    later_s = time.monotonic() - began_s - first_s
    assert FIRST_S <= first_s < FIRST_S + 3
    assert later_s < first_s
    await roster.aclose()
    await provider.aclose()
    never.set()
    server.close()


def test_who_waits_for_lists_has_time():
    """opencode gives each of these calls one second."""
    assert PATIENCE_S < FIRST_S <= 1


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"[]",
        b"{}",
        b'{"models":null}',
        b'{"models":[1,{},{"name":5},{"name":"a b"}]}',
        b"<html>",
        b"null",
    ],
)
async def test_an_odd_list_is_an_empty_one(tmp_path, reply):
    """Or none; never a traceback."""

    async def odd(reader, writer):
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(reply), reply))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(odd, "127.0.0.1", 0)
    config = {
        "server": {"port": 0},
        "providers": {"demo": {}, "ollama": {}},
        "models": [{"name": "demo", "backend": "demo"}],
    }
    config["providers"]["ollama"]["base_url"] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with running(Config.model_validate(config)) as daemon:
        assert await names(daemon.url) == ["demo:latest"]
        assert (await ask(daemon.url, "GET", "/api/ps")).json == {"models": []}
    server.close()
    await asyncio.sleep(0)  # its connections have ended, and are to notice


@pytest.mark.parametrize(
    ("entry", "shown", "known"),
    [
        ({"capabilities": ["completion", "image", 5], "details": {"context_length": 9}}, {}, (("completion",), 9)),
        ({"capabilities": None, "details": None}, {}, (None, None)),
        ({"details": {"context_length": "9"}}, {"model_info": [], "capabilities": {}}, (None, None)),
        ({}, {"model_info": {"general.architecture": "x", "x.context_length": 7}, "capabilities": ["vision"]}, (("vision",), 7)),
        ({}, {"model_info": {"general.architecture": [], "x.context_length": True}}, (None, None)),
    ],
)  # fmt: skip
def test_what_is_said_of_a_model(entry, shown, known):
    """Tolerantly read: another type is nothing said."""
    found = Known.of_entry(entry), Known.of_show(shown)
    assert (
        found[0].capabilities or found[1].capabilities,
        found[0].context_length or found[1].context_length,
    ) == known


# ------------------------------------------------------------------------------------------------- the bridge itself


@pytest.mark.parametrize(
    "base_url", [None, "http://127.0.0.1:11434", "http://localhost:11434/", "http://[::1]:11434"]
)
def test_a_bridge_is_not_asked_by_itself(base_url):
    """A provider at our own address would ask us what we ask it."""
    config = Config.model_validate({"providers": {"ollama": {"base_url": base_url}}})
    with pytest.raises(ConfigError, match=r"this bridge itself.*OLLAMA_HOST=127\.0\.0\.1:11435"):
        config.check_served()


@pytest.mark.parametrize(
    "provider",
    [
        {"base_url": "http://127.0.0.1:11435"},
        {"base_url": "http://den:11434"},
        {"base_url": "https://ollama.com"},
    ],
)
def test_others_may_be_asked(provider):
    Config.model_validate({"providers": {"ollama": provider}}).check_served()


async def test_a_bridge_behind_a_bridge(tmp_path):
    """Is an Ollama like any other: its models, its answers, and the errors of what is behind it."""
    async with RealOllama("qwen3:4b") as real, behind(real, tmp_path) as inner:
        real.lines = [line(message={"role": "assistant", "content": "Hi", "new": 1}, done=False), *SAID]
        outer = {"server": {"port": 0}, "providers": {"ollama": {"base_url": inner}}}
        async with running(Config.model_validate(outer)) as daemon:
            assert await names(daemon.url) == await names(inner) == ["demo:latest", "qwen3:4b"]
            for path, body in (
                ("/api/chat", chat("qwen3:4b")),
                ("/api/chat", chat("qwen3:4b") | {"stream": False}),
                ("/api/show", {"model": "qwen3:4b"}),
                ("/api/show", {"model": "demo"}),
            ):
                one, two = [await ask(url, "POST", path, body) for url in (inner, daemon.url)]
                assert (one.status, one.body) == (two.status, two.body)
            spoken = await ask(daemon.url, "POST", "/api/chat", chat("demo"))
            assert "demo model" in "".join(piece["message"]["content"] for piece in spoken.lines)
            real.refusal = (400, "application/json", b'{"error":"no"}')
            got = await ask(daemon.url, "POST", "/api/chat", chat("qwen3:4b"))
            assert (got.status, got.body) == (400, b'{"error":"no"}')
