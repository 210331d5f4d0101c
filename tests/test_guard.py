"""Who is let in: `ollama-api.md` §6, seen over the wire, and client keys."""

import asyncio
import socket

import pytest

from ollama_bridge.config import Config
from ollama_bridge.errors import ConfigError
from ollama_bridge.server.guard import Origins
from running import ask, running
from upstream import Upstream
from wires import WIRES, Said

CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}
KEY = "client-key-0123456789"


def config(**server):
    return Config.model_validate(
        {
            "server": {"port": 0, **server},
            "providers": {"demo": {}},
            "models": [{"name": "demo", "backend": "demo"}],
        }
    )


@pytest.fixture
async def daemon():
    async with running(config()) as daemon:
        yield daemon


PREFLIGHT_HEADERS = (
    "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,X-Stainless-Arch,X-Stainless-Async,"
    "X-Stainless-Custom-Poll-Interval,X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,"
    "X-Stainless-Package-Version,X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
    "X-Stainless-Runtime-Version,X-Stainless-Timeout"
)


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "https://localhost",
        "http://localhost:3000",
        "https://127.0.0.1:8443",
        "http://0.0.0.0:1",
        "http://localhost:evil.com",  # a prefix match, as the real server's
        "app://obsidian.md",
        "file://x",
        "tauri://localhost",
        "vscode-webview://abc",
        "vscode-file://vscode-app",
    ],
)
async def test_pages_of_this_machine_may_ask(daemon, origin):
    """The origin is echoed, on answers and on errors alike."""
    got = await ask(daemon.url, "GET", "/api/tags", headers={"Origin": origin})
    assert (got.status, got.headers["Access-Control-Allow-Origin"], got.headers["Vary"]) == (
        200,
        origin,
        "Origin",
    )
    for method, path in (("GET", "/nope"), ("GET", "/api/chat"), ("POST", "/api/show")):
        failed = await ask(daemon.url, method, path, headers={"Origin": origin})
        assert failed.status >= 400
        assert failed.headers["Access-Control-Allow-Origin"] == origin


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.com",
        "http://example.com:11434",
        "null",
        "http://[::1]:3000",
        "chrome-extension://abcdef",
        "moz-extension://abcdef",
        "HTTP://LOCALHOST",
        "http://localhost.evil.com",
        "ftp://localhost",
        "x" * 5000,
    ],
)
async def test_other_pages_may_not(daemon, origin):
    """403 and an empty body, whatever the method and the path: no question reaches a provider."""
    for method, path in (
        ("GET", "/api/tags"),
        ("POST", "/api/chat"),
        ("OPTIONS", "/api/chat"),
        ("GET", "/x"),
    ):
        got = await ask(daemon.url, method, path, CHAT if method == "POST" else None, {"Origin": origin})
        assert (got.status, got.body) == (403, b"")
        assert "Access-Control-Allow-Origin" not in got.headers


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_page_of_the_same_origin_is_no_matter_of_cors(daemon, scheme):
    """It passes, and nothing is said about it."""
    host = "my-machine.local:11434"
    got = await ask(daemon.url, "GET", "/api/tags", headers={"Host": host, "Origin": f"{scheme}://{host}"})
    assert got.status == 200
    assert "Access-Control-Allow-Origin" not in got.headers


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/nowhere"])
async def test_a_preflight_is_answered_as_gin_answers_it(daemon, path):
    """204 with the real server's headers, on any path."""
    got = await ask(daemon.url, "OPTIONS", path, headers={"Origin": "http://localhost:3000"})
    assert (got.status, got.body) == (204, b"")
    assert got.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert got.headers["Access-Control-Allow-Methods"] == "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
    assert got.headers["Access-Control-Allow-Headers"] == PREFLIGHT_HEADERS
    assert got.headers["Access-Control-Max-Age"] == "43200"
    assert "Access-Control-Allow-Credentials" not in got.headers


async def test_a_stream_is_a_reply_too(daemon):
    """A page that was let in may read a streamed answer."""
    got = await ask(daemon.url, "POST", "/api/chat", CHAT, {"Origin": "http://localhost:3000"})
    assert got.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert got.lines[-1]["done"] is True


async def test_origins_of_the_operator():
    """`OLLAMA_ORIGINS` adds to the list; the star is a prefix and a suffix."""
    origins = "https://chat.example.com, https://*.example.org ,chrome-extension://*"
    async with running(config(origins=origins)) as daemon:
        for origin, status in {
            "https://chat.example.com": 200,
            "https://a.example.org": 200,
            "chrome-extension://abc": 200,
            "http://localhost:1": 200,
            "https://example.org": 403,
            "http://chat.example.com": 403,
        }.items():
            assert (await ask(daemon.url, "GET", "/", headers={"Origin": origin})).status == status


async def test_a_star_alone_lets_every_page_in():
    """The browser is told `*`, and nothing varies."""
    async with running(config(origins=["*"])) as daemon:
        got = await ask(daemon.url, "GET", "/", headers={"Origin": "https://example.com"})
        assert got.headers["Access-Control-Allow-Origin"] == "*"
        assert "Vary" not in got.headers


@pytest.mark.parametrize("origin", ["example.com", "a*b*", "ws://x", ""])
def test_an_origin_gin_refuses_is_refused(origin):
    """The real server panics at start."""
    with pytest.raises(ValueError, match="origins"):
        config(origins=[origin])


def test_a_star_at_either_end():
    """Prefix or suffix alone."""
    assert Origins(["*.example.com"]).allow("https://x.example.com")
    assert not Origins(["*.example.com"]).allow("https://example.com.evil")


HERE = [
    "localhost:1", "LOCALHOST", "localhost", "10.1.2.3", "192.168.1.5:80", "172.16.0.1", "0.0.0.0", "127.0.0.1:11434",
    "127.8.8.8", "[::1]:11434", "[fd00::1]:1", "[::]:1", "foo.local", "FOO.LOCAL:80", "host.docker.internal:11434",
    "a.localhost", socket.gethostname(), "",
]  # fmt: skip
ELSEWHERE = [
    "evil.com", "evil.com:11434", "8.8.8.8", "100.64.1.1", "169.254.1.1", "172.32.0.1", "127.1", "localhost.", "local",
    "[::1]", "[::]", "[fd00::1]", "[2001:db8::1]:1", "evil.com:localhost:1", "224.0.0.1", "[ff02::1]:1",
]  # fmt: skip


@pytest.mark.parametrize("host", HERE)
async def test_hosts_of_this_machine(daemon, host):
    """Names and addresses by which it may be called."""
    assert (await ask(daemon.url, "GET", "/api/tags", headers={"Host": host})).status == 200


@pytest.mark.parametrize("host", ELSEWHERE)
async def test_other_hosts_are_dns_rebinding(daemon, host):
    """403 and an empty body, on every path."""
    for path in ("/api/tags", "/nope"):
        got = await ask(daemon.url, "GET", path, headers={"Host": host})
        assert (got.status, got.body) == (403, b"")


async def test_options_without_an_origin(daemon):
    """204 under a name of this machine, 405 under its address: the real server's quirk."""
    assert (await ask(daemon.url, "OPTIONS", "/api/chat", headers={"Host": "localhost"})).status == 204
    assert (await ask(daemon.url, "OPTIONS", "/api/chat", headers={"Host": "127.0.0.1"})).status == 405


async def test_bound_to_the_network_no_host_is_checked():
    """As the real server: it is called by names that nobody here knows."""
    async with running(config(host="0.0.0.0", insecure=True)) as daemon:
        url = daemon.url.replace("0.0.0.0", "127.0.0.1")
        assert (await ask(url, "GET", "/api/tags", headers={"Host": "evil.com"})).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.168.1.5", "my-machine"])
async def test_the_network_is_not_served_by_accident(host):
    """Without a key, and without a word that it is meant, the daemon does not start."""
    with pytest.raises(ConfigError, match=r"AUTH_TOKEN.*--insecure"):
        async with running(config(host=host)):
            pass


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY}"},
        {"X-Api-Key": KEY},
        {"api-key": KEY},
        {"Authorization": "Bearer other", "x-api-key": KEY},
    ],
)
async def test_a_client_with_a_key_is_let_in(headers):
    """Each of the keys does, in each of the places where clients put it."""
    async with running(config(api_keys=["first-key", KEY])) as daemon:
        got = await ask(daemon.url, "POST", "/api/chat", {**CHAT, "stream": False}, headers)
        assert got.json["done"] is True


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": f"Basic {KEY}"},
     {"Authorization": f"Bearer {KEY[:-1]}"}, {"x-api-key": "schlüssel"}],
)  # fmt: skip
async def test_a_client_without_one_is_not(headers):
    """401, and a provider is not asked; that somebody is there may be known."""
    async with Upstream() as upstream:
        upstream.reply(WIRES[0].stream(Said("Hi")))
        asked = Config.model_validate(
            {**WIRES[0].config(upstream.url), "server": {"port": 0, "api_keys": KEY}}
        )
        async with running(asked) as daemon:
            headers = {name: value.encode().decode("latin-1") for name, value in headers.items()}
            for method, path, body in (("POST", "/api/chat", CHAT), ("GET", "/api/tags", None)):
                got = await ask(daemon.url, method, path, body, headers)
                assert got.status == 401
                assert "client key" in got.json["error"]
                assert KEY not in got.body.decode()
            assert (await ask(daemon.url, "HEAD", "/", headers=headers)).status == 200
        assert not upstream.requests


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/chat", lambda body: body["error"]),
        ("/v1/chat/completions", lambda body: body["error"]["message"]),
        ("/v1/models", lambda body: body["error"]["message"]),
        ("/v1/messages", lambda body: body["type"] == "error" and body["error"]["message"]),
        ("/v1/messages/count_tokens", lambda body: body["error"]["message"]),
        ("/nowhere", lambda body: body["error"]),
    ],
)
async def test_each_dialect_is_refused_in_its_own_way(path, words):
    """What a client would show of a 401 is the reason."""
    async with running(config(api_keys=KEY)) as daemon:
        got = await ask(daemon.url, "POST", path, CHAT)
        assert got.status == 401
        assert "client key" in words(got.json)


async def test_a_preflight_needs_no_key():
    """Browsers send none with it."""
    async with running(config(api_keys=KEY)) as daemon:
        got = await ask(daemon.url, "OPTIONS", "/api/chat", headers={"Origin": "http://localhost:3000"})
        assert got.status == 204


async def test_keys_and_origins_change_while_it_runs(tmp_path):
    """A reload takes over who is let in; one that would open the door to the network is refused."""
    file = tmp_path / "config.yaml"
    states = {"now": config()}
    file.write_text("1")
    async with running(load=lambda: states["now"], watched=(file,)) as daemon:
        assert (await ask(daemon.url, "GET", "/api/tags")).status == 200
        states["now"] = config(api_keys=KEY, origins=["https://a.example"])
        file.write_text("two")
        async with asyncio.timeout(10):
            while (await ask(daemon.url, "GET", "/api/tags")).status != 401:  # noqa: ASYNC110 - as a client would
                await asyncio.sleep(0.05)
        headers = {"Authorization": f"Bearer {KEY}", "Origin": "https://a.example"}
        assert (await ask(daemon.url, "GET", "/api/tags", headers=headers)).status == 200
