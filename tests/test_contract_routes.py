"""Every route with every method: `ollama-api.md` §0.3, §1.1 and §6.1 over real sockets."""

import pytest

from contract_asking import configured
from journal import journal
from ollama_bridge.server import all_routes
from running import answer, ask, connect, running

BLOB = "/api/blobs/sha256:" + "0" * 64
ROUTES = {
    "/": "HEAD, GET",
    "/api/version": "HEAD, GET",
    "/api/tags": "HEAD, GET",
    "/api/ps": "GET",
    "/api/show": "POST",
    "/api/generate": "POST",
    "/api/chat": "POST",
    "/api/embed": "POST",
    "/api/embeddings": "POST",
    "/v1/chat/completions": "POST",
    "/v1/completions": "POST",
    "/v1/embeddings": "POST",
    "/v1/responses": "POST",
    "/v1/messages": "POST",
    "/v1/audio/transcriptions": "POST",
    "/v1/models": "GET",
    "/v1/models/plain": "GET",
    "/api/status": "GET",
    "/api/pull": "POST",
    "/api/push": "POST",
    "/api/create": "POST",
    "/api/copy": "POST",
    "/api/delete": "DELETE",
    BLOB: "HEAD, POST",
    "/api/me": "POST",
    "/api/signout": "POST",
    "/api/user/keys/x": "DELETE",
    "/api/experimental/web_search": "POST",
    "/api/experimental/web_fetch": "POST",
    "/api/experimental/model-recommendations": "GET",
}
"""Path and `Allow`, of §1.1."""

OURS = {
    "/v1/messages/count_tokens": "POST",
    "/v1/providers/status": "GET",
    "/health": "HEAD, GET",
    "/v1/health": "HEAD, GET",
    "/metrics": "GET",
}
"""A real server answers 404 there. Claude Code and others ask the first, and go on better with an answer (§9, 52); the
others are for operators."""

EVERY = {**ROUTES, **OURS}
PATTERNS = {
    BLOB: "/api/blobs/{digest}",
    "/api/user/keys/x": "/api/user/keys/{key}",
    "/v1/models/plain": "/v1/models/{model}",
}

NOWHERE = (
    "/api",
    "/api/",
    "/v1",
    "/v1/",
    "/nope",
    "/API/TAGS",
    "/Api/chat",
    "/V1/models",
    "/api/web_search",
    "/api/chat/x",
    "/api/tags.json",
    "/api/show/plain",
    "/v1/models/ns/plain",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/rerank",
    "/v1/chat",
    "/v1/responses/resp_1",
    "/v1/api/chat",
    "/debug/pprof/",
    "/debug/pprof/cmdline",
    "/favicon.ico",
    "/robots.txt",
    "/.env",
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
EVIL = ({"Host": "evil.com"}, {"Origin": "https://example.com"})


def test_every_route_is_here():
    """None beyond Ollama's but those that clients want, and each with the methods that it has there."""
    offered = {path: ", ".join(methods) for path, methods in all_routes(lambda: None, None).items()}
    assert offered == {PATTERNS.get(path, path): methods for path, methods in EVERY.items()}


@pytest.mark.parametrize("path", EVERY)
async def test_a_route_knows_its_methods_and_no_other(path):
    """405 in plain text with the methods there are, in gin's order; HEAD only where there is one (§9, 10 to 12)."""
    async with running(configured()) as daemon:
        for method in METHODS:
            got = await ask(daemon.url, method, path)
            if method in EVERY[path].split(", "):
                assert got.status != 405
                assert (got.status, got.headers.get("Content-Type")) != (404, "text/plain")
                continue
            assert (got.status, got.headers["Allow"]) == (405, EVERY[path])
            assert (got.headers["Content-Type"], got.headers["Content-Length"]) == ("text/plain", "22")
            assert got.body == (b"" if method == "HEAD" else b"405 method not allowed")


@pytest.mark.parametrize("path", [path for path in EVERY if path != "/"])
async def test_slashes_and_dots_are_redirected(path, subtests):
    """301 of a GET and 307 of anything else without a trailing slash; 307 to the path cleaned of the rest."""
    async with running(configured()) as daemon:
        for method in METHODS:
            for spelled, where, status in (
                (path + "/", path, 301 if method == "GET" else 307),
                (path + "/?a=b&c", path + "?a=b&c", 301 if method == "GET" else 307),
                ("/" + path, path, 307),
                (path.replace("/", "//"), path, 307),
                ("/x/.." + path, path, 307),
                ("/." + path + "?q", path + "?q", 307),
            ):
                with subtests.test(method=method, path=spelled):
                    got = await ask(daemon.url, method, spelled)
                    assert (got.status, got.headers["Location"]) == (status, where)
                    if method not in {"GET", "HEAD"}:
                        assert (got.body, got.headers["Content-Length"]) == (b"", "0")
                        assert "Content-Type" not in got.headers


@pytest.mark.parametrize(
    ("path", "location", "status"),
    [
        ("//a%0d%0aSet-Cookie:%20x=y", "/a%0D%0ASet-Cookie:%20x=y", 307),
        ("/v1/models/a%0ab/", "/v1/models/a%0Ab", 301),
        ("/v1/models/a%20b/", "/v1/models/a%20b", 301),
        ("/v1/models/a%3Fb%23c%25d/", "/v1/models/a%3Fb%23c%25d", 301),
        ("/v1/models/m:1b@2/", "/v1/models/m:1b@2", 301),
        ("/v1/models/%E4%BD%A0/?q=%0d%0a+%C3%A9", "/v1/models/%E4%BD%A0?q=%0d%0a+%C3%A9", 301),
        ("//evil.com/..//api/tags", "/api/tags", 307),
    ],
)
async def test_a_redirect_leads_where_it_says(path, location, status):
    """What a path holds is escaped again: no line break gets into a header, no question mark into the query."""
    with journal() as kept:
        async with running(configured()) as daemon:
            got = await ask(daemon.url, "GET", path)
            followed = await ask(daemon.url, "GET", got.headers["Location"])
    assert (got.status, got.headers["Location"]) == (status, location)
    assert "Set-Cookie" not in got.headers
    assert followed.status in {200, 400, 404}
    assert kept.alarming == []


@pytest.mark.parametrize("path", NOWHERE)
async def test_what_there_is_not(path):
    """Plain text of 18 bytes, whatever the method, on /v1 too: no JSON, no envelope."""
    async with running(configured()) as daemon:
        for method in METHODS:
            got = await ask(daemon.url, method, path)
            assert (got.status, got.headers["Content-Type"]) == (404, "text/plain")
            assert got.headers["Content-Length"] == "18"
            assert got.body == (b"" if method == "HEAD" else b"404 page not found")


@pytest.mark.parametrize("path", [*EVERY, "/nope", "/api/chat/"])
async def test_the_guard_stands_before_every_route(path):
    """A page from elsewhere and a name from elsewhere get 403 and nothing, before 404, 405 and redirects (§6.1)."""
    async with running(configured()) as daemon:
        for method in METHODS:
            for headers in EVIL:
                got = await ask(daemon.url, method, path, headers=headers)
                assert (got.status, got.body, got.headers.get("Content-Length", "0")) == (403, b"", "0")
                assert "Content-Type" not in got.headers
            got = await ask(daemon.url, method, path, headers={"Origin": "http://localhost:3000"})
            assert got.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
            assert got.headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    "path", ["/", "/api/version", "/api/tags", "/api/ps", "/v1/models", "/v1/models/plain"]
)
async def test_a_query_is_ignored(path):
    """`/v1/messages?beta=true` is what Claude Code sends."""
    async with running(configured()) as daemon:
        plain = await ask(daemon.url, "GET", path)
        asked = await ask(daemon.url, "GET", f"{path}?beta=true&model=x&%ff=&&")
    assert (asked.status, asked.body) == (200, plain.body)


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags"])
async def test_head_is_get_without_its_body(path):
    """The command line asks `HEAD /` before every command; 17 bytes are what it would get (§11, 1)."""
    async with running(configured()) as daemon:
        head, got = [await ask(daemon.url, method, path) for method in ("HEAD", "GET")]
    assert head.status == got.status == 200
    for name in ("Content-Type", "Content-Length"):
        assert head.headers[name] == got.headers[name]
    assert path != "/" or (got.body, got.headers["Content-Length"]) == (b"Ollama is running", "17")


ODD = (
    b"", b"x", b"\xff\xfe", b"http://localhost:\xff", b"app://\x80\xc3\xa9", b"[fe80::1%x]:1", b"[fe80::1%\xff]:80",
    b"localhost:\xff", b"[::ffff:8.8.8.8]:1", b"1.1.1.1.local", b"x" * 9000, b"Bearer \xff", b"-1", b"zstd, \xff",
)  # fmt: skip
HEADERS = (
    "Host Origin Expect Accept Content-Type Content-Encoding Authorization X-Api-Key User-Agent Connection Upgrade Range "
    "If-None-Match Cookie Access-Control-Request-Headers anthropic-beta"
).split()


@pytest.mark.parametrize("name", HEADERS)
async def test_no_odd_header_is_a_bug(name):
    """An answer, or a refusal, whatever its bytes; nothing that looks like an error of ours in the log."""
    with journal() as kept:
        async with running(configured()) as daemon:
            for value in ODD:
                for method, path in (("GET", "/api/tags"), ("POST", "/v1/messages"), ("GET", "/nope")):
                    reader, writer = await connect(daemon.url)
                    head = {"Host": b"localhost", "Content-Length": b"2", name: value}
                    lines = b"".join(b"%b: %b\r\n" % (key.encode(), text) for key, text in head.items())
                    writer.write(f"{method} {path} HTTP/1.1\r\n".encode() + lines + b"\r\n{}")
                    got = await answer(reader)
                    writer.close()
                    assert got.status < 500, value
    assert kept.alarming == []
