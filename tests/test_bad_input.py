"""Whatever a client sends: a clear answer, a quiet log, and the daemon serves on."""

import asyncio
import gzip
import json
import tracemalloc
from contextlib import asynccontextmanager

import pytest

from journal import journal
from ollama_bridge.config import Config
from running import Got, answer, ask, connect, request, running

DEMO = {"providers": {"demo": {}}, "models": [{"name": "demo", "backend": "demo"}]}
HELLO = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}
JSON = "application/json; charset=utf-8"
MB = 1_000_000


@asynccontextmanager
async def daemon(**server):
    """The daemon; in the end it still serves, and has logged nothing alarming."""
    with journal() as written:
        async with running(Config.model_validate({**DEMO, "server": {"port": 0, **server}})) as it:
            yield it
            assert (await ask(it.url, "GET", "/")).body == b"Ollama is running"
    assert written.alarming == []


async def say(url: str, *pieces: bytes, end: bool = False) -> Got:
    """Send these very bytes, one write each, and read one reply."""
    reader, writer = await connect(url)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if end:
            writer.write_eof()
        return await answer(reader)
    finally:
        writer.close()


def chunked(*chunks: bytes, path="/api/chat") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


def half(body: bytes = b'{"model":"demo"', path="/api/chat") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n".encode() + body


# ------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "missing request body"),
        (b" \n\t", "missing request body"),
        (b"{", "unexpected EOF"),
        (b'{"model":"demo","messages":[', "unexpected EOF"),
        (b"not json", "invalid character 'o' in literal null (expecting 'u')"),
        (b"\x00", r"invalid character '\x00' looking for beginning of value"),
        (b'{"model":"de\x00mo"}', r"invalid character '\x00' in string literal"),
        (b'{"model":"demo"\x00', r"invalid character '\x00' after object key:value pair"),
        (b"\xff\xfe{", "invalid character 'ÿ' looking for beginning of value"),
        (b"\xef\xbb\xbf{}", "invalid character 'ï' looking for beginning of value"),
        (b"[" * 10_000, "unexpected EOF"),
        (b"[" * 200_000, "invalid character '[' exceeded max depth"),
        (b'{"a":' * 200_000, "invalid character '{' exceeded max depth"),
        (
            b"[" * 10_000 + b"]" * 10_000,
            "json: cannot unmarshal array into Go value of type api.ChatRequest",
        ),
        (b'{"model":"\\ud800"}', "invalid model name"),
        (b'{"model":"caf\xe9"}', "invalid model name"),
        (
            gzip.compress(json.dumps(HELLO).encode()),
            r"invalid character '\x1f' looking for beginning of value",
        ),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else "",
)
async def test_a_body_that_is_no_request(body, error):
    """400, in Go's words, whatever the bytes are and whatever the headers say about them."""
    async with daemon() as it:
        got = await ask(it.url, "POST", "/api/chat", body, {"Content-Encoding": "gzip"})
    assert (got.status, got.json, got.headers["Content-Type"]) == (400, {"error": error}, JSON)


async def test_deep_nesting_where_anything_may_be_nested():
    """Unknown keys are ignored however deep; what would be sent on is refused, not crashed on."""
    deep = "[" * 9_000 + "]" * 9_000
    async with daemon() as it:
        ignored = await ask(it.url, "POST", "/api/chat", json.dumps(HELLO)[:-1] + f',"junk":{deep}}}')
        schema = await ask(
            it.url, "POST", "/api/chat", json.dumps(HELLO)[:-1] + f',"format":{{"a":{deep}}}}}'
        )
    assert (ignored.status, ignored.lines[-1]["done"]) == (200, True)
    assert schema.status == 400
    assert "nested too deeply" in schema.json["error"]


async def test_text_that_is_not_utf8_becomes_replacement_characters():
    """As Go has it: the request is answered."""
    body = json.dumps({**HELLO, "stream": False}).encode().replace(b"hello", b"caf\xe9 \\udc00")
    async with daemon() as it:
        got = await ask(it.url, "POST", "/api/chat", body)
    assert got.status == 200
    assert "caf\ufffd \ufffd" in got.json["message"]["content"]


@pytest.mark.parametrize(
    "kind", [None, "application/x-www-form-urlencoded", "multipart/form-data", "\xff;;=\x80; charset=none"]
)
async def test_the_content_type_does_not_matter(kind):
    """`curl -d` says it sends a form."""
    async with daemon() as it:
        got = await ask(it.url, "POST", "/api/chat", HELLO, {"Content-Type": kind} if kind else {})
    assert (got.status, got.lines[-1]["done"]) == (200, True)


# --------------------------------------------------------------------------------------------------- size


async def test_100_megabytes_are_refused_unread():
    """413 by the declared length; a client that sends all of it first still reads the reply; none of it is kept."""
    piece = b"x" * MB
    async with daemon() as it:
        reader, writer = await connect(it.url)
        writer.write(
            f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {100 * MB}\r\n\r\n".encode()
        )
        tracemalloc.start()
        try:
            for _ in range(100):
                writer.write(piece)
                await writer.drain()
            got = await answer(reader)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # All of the body was taken away, so the connection can go on.
        writer.write(request(it.url, "GET", "/"))
        assert (await answer(reader)).status == 200
        writer.close()
    assert (got.status, got.headers["Content-Type"]) == (413, JSON)
    assert got.json["error"].startswith("the request body is larger than 67108864 bytes; `max_body_bytes`")
    assert peak < 20 * MB


async def test_a_body_of_unknown_length_is_read_no_further_than_the_limit():
    """The reply comes while the client still sends."""
    async with daemon(max_body_bytes=MB) as it:
        got = await say(it.url, chunked(b"x" * MB, b"x" * 100))
        fits = await ask(it.url, "POST", "/api/show", b'{"model":"demo","a":"' + b"x" * (MB - 23) + b'"}')
    assert (got.status, "larger than 1000000 bytes" in got.json["error"]) == (413, True)
    assert fits.status == 200


async def test_a_client_that_waits_for_leave_to_send():
    """`Expect: 100-continue`, as curl sends with large bodies."""
    body = json.dumps(HELLO).encode()
    head = request("http://localhost", "POST", "/api/chat", body, {"Expect": "100-continue"})[: -len(body)]
    async with daemon() as it:
        reader, writer = await connect(it.url)
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        got = await answer(reader)
        writer.close()
    assert (got.status, got.lines[-1]["done"]) == (200, True)


# ------------------------------------------------------------------------------------------ half a request


@pytest.mark.parametrize("sent", [half(), half(b""), chunked(b'{"model":"demo"'), chunked()])
async def test_half_a_body_and_nothing_more_to_come(sent):
    """The client shuts down its side and is told, as by Go; a whole first value in half a body changes nothing."""
    async with daemon() as it:
        got = await say(it.url, sent, end=True)
        whole = await say(it.url, half(json.dumps(HELLO).encode()), end=True)
    for one in (got, whole):
        assert (one.status, one.json, one.headers["Content-Type"]) == (400, {"error": "unexpected EOF"}, JSON)


async def test_half_a_request_behind_a_whole_one():
    """The whole one is answered as ever."""
    async with daemon() as it:
        got = await say(
            it.url, request(it.url, "POST", "/api/chat", {**HELLO, "stream": False}) + half(), end=True
        )
    assert (got.status, got.json["done"]) == (200, True)


async def test_half_a_body_and_gone():
    """With a proper close or with a reset: nobody is told, nothing is logged as a fault."""
    async with daemon() as it:
        for abort in (False, True):
            for sent in (half(), chunked(b"{"), b"POST /api/chat HT"):
                _, writer = await connect(it.url)
                writer.write(sent)
                await writer.drain()
                if abort:
                    writer.transport.abort()
                writer.close()


async def test_half_a_body_and_silence(monkeypatch):
    """408 when the rest does not come in time."""
    monkeypatch.setattr("ollama_bridge.server.connection.BODY_TIMEOUT_S", 0.05)
    async with daemon() as it:
        got = await say(it.url, half())
    assert (got.status, got.json) == (408, {"error": "the request body did not arrive in time"})


async def test_chunks_that_are_none():
    """400, whether the fault comes with the head or later, and the connection is closed."""
    patient = chunked().replace(b"Host: localhost", b"Host: localhost\r\nExpect: 100-continue")
    async with daemon() as it:
        at_once = await say(it.url, chunked() + b"zz\r\n\r\n")
        reader, writer = await connect(it.url)
        writer.write(patient)
        await reader.readuntil(b"\r\n\r\n")  # the body is being read
        writer.write(b"zz\r\n\r\n")
        later = await answer(reader)
        assert await reader.read() == b""
        writer.close()
    assert (at_once.status, at_once.json) == (400, {"error": "malformed HTTP request"})
    assert (later.status, later.json) == (400, {"error": "malformed chunked encoding"})


async def test_a_body_in_chunks():
    """Node's and Go's clients send them; extensions and trailers are ignored."""
    body = json.dumps(HELLO).encode()
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    async with daemon() as it:
        got = await say(it.url, chunked(*pieces) + b"0\r\nTrailer: x\r\n\r\n")
        extended = await say(
            it.url, chunked(path="/api/show") + b'f;a=b\r\n{"model":"demo"\r\n1\r\n}\r\n0\r\n\r\n'
        )
    assert (got.status, got.lines[-1]["done"]) == (200, True)
    assert extended.status == 200


# ------------------------------------------------------------------------------------------------ no HTTP

SECRET = b"sk-ant-do-not-show-me"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"hello there\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
        (b"GET api HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + SECRET + b"\x00\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 1_001 + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 900 + b"\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: " + b"a" * 60_000 + b"\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 403),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Odd: \xff\xfe\r\n\r\n", 200),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"GET http://elsewhere/api/version HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", 200),
        (b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 404),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /a%0Ab%ff%00=%22c HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nExpect: wonders\r\nContent-Length: 0\r\n\r\n", 417),
    ],
    ids=lambda value: repr(value[:50]) if isinstance(value, bytes) else "",
)
async def test_what_is_hardly_http(sent, status):
    """A status, for what is malformed an `{"error"}` that quotes nothing of it, and no traceback."""
    with journal() as written:
        async with running(Config.model_validate({**DEMO, "server": {"port": 0}})) as it:
            got = await say(it.url, sent)
            assert (await ask(it.url, "GET", "/")).status == 200
    assert got.status == status
    if status in {400, 431}:
        assert set(got.json) == {"error"}
        assert got.headers["Content-Type"] == JSON
    assert written.alarming == []
    assert SECRET not in got.body + written.text.encode()
    assert "aiohttp" not in got.headers.get("Server", "")


async def test_http_1_0_gets_a_stream_without_chunks():
    """The end of the connection is the end of the answer."""
    body = json.dumps(HELLO).encode()
    head = b"POST /api/chat HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with daemon() as it:
        reader, writer = await connect(it.url)
        writer.write(head + body)
        top, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert top.startswith(b"HTTP/1.0 200 ")
    assert b"chunked" not in top
    lines = [json.loads(line) for line in rest.splitlines()]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]


async def test_pipelined_requests_are_answered_in_their_order():
    """Sent at once on one connection, a failing one among them."""
    whole = {**HELLO, "stream": False}
    asked = [("GET", "/", None), ("POST", "/api/chat", HELLO), ("POST", "/api/chat", b"{")]
    asked += [("HEAD", "/api/chat", None), ("POST", "/api/chat", whole), ("GET", "/api/version", None)]
    async with daemon() as it:
        reader, writer = await connect(it.url)
        writer.write(b"".join(request(it.url, *one) for one in asked))
        got = [await answer(reader, head=method == "HEAD") for method, _, _ in asked]
        writer.close()
    assert [one.status for one in got] == [200, 200, 400, 405, 200, 200]
    assert got[3].headers["Allow"] == "POST"
    assert got[1].lines[-1]["done"] is got[4].json["done"] is True


async def test_200_clients_at_once():
    """Streamed and whole, each gets its own answer."""

    async def one(number):
        content = f"I am number {number}."
        question = {
            "model": "demo",
            "messages": [{"role": "user", "content": content}],
            "stream": bool(number % 2),
        }
        got = await ask(it.url, "POST", "/api/chat", question)
        lines = got.lines if number % 2 else [got.json]
        assert lines[-1]["done"] is True
        return content in "".join(line["message"]["content"] for line in lines)

    async with daemon() as it:
        assert all(await asyncio.gather(*map(one, range(200))))


async def test_a_name_of_a_megabyte_does_not_fill_the_log():
    """It is echoed to the client, as the real server does, and cut in the log."""
    with journal() as written:
        async with running(Config.model_validate({**DEMO, "server": {"port": 0}})) as it:
            got = await ask(it.url, "POST", "/api/generate", {"model": "m" * MB})
            await ask(it.url, "GET", "/" + "p" * 50_000)
    assert got.status == 400
    assert len(written.text) < 5_000
    assert written.alarming == []


async def test_small_answers_say_their_length_and_the_connection_stays():
    """Many requests on one connection; no `Server` in any of them."""
    async with daemon() as it:
        reader, writer = await connect(it.url)
        for method, path, body in [("GET", "/api/tags", None), ("POST", "/api/show", {"model": "demo"})] * 3:
            writer.write(request(it.url, method, path, body))
            got = await answer(reader)
            assert got.status == 200
            assert int(got.headers["Content-Length"]) == len(got.body)
            assert "Server" not in got.headers
        writer.close()
