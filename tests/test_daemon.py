"""The daemon over real sockets: routing as gin's, leaving, reloading, draining, a port that is taken."""

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from ollama_bridge.config import Config
from ollama_bridge.daemon import bind
from ollama_bridge.errors import ConfigError
from real_ollama import RealOllama
from running import answer, ask, connect, request, running

DEMO = {"providers": {"demo": {}}, "models": [{"name": "demo", "backend": "demo"}]}
HELLO = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}


def demo(**extra) -> Config:
    return Config.model_validate({**DEMO, "server": {"port": 0}, **extra})


@pytest.mark.parametrize(
    ("method", "path", "status", "body", "headers"),
    [
        ("GET", "/", 200, b"Ollama is running", {"Content-Type": "text/plain; charset=utf-8"}),
        ("HEAD", "/", 200, b"", {"Content-Length": "17"}),
        ("HEAD", "/api/version", 200, b"", {"Content-Type": "application/json; charset=utf-8"}),
        ("HEAD", "/api/tags", 200, b"", {"Content-Type": "application/json; charset=utf-8"}),
        ("HEAD", "/api/ps", 405, b"", {"Allow": "GET"}),
        ("GET", "/nope", 404, b"404 page not found", {"Content-Type": "text/plain"}),
        ("POST", "/nope", 404, b"404 page not found", {"Content-Length": "18"}),
        ("GET", "/api/chat", 405, b"405 method not allowed", {"Allow": "POST", "Content-Type": "text/plain"}),
        ("PUT", "/api/tags", 405, b"405 method not allowed", {"Allow": "HEAD, GET"}),
        ("POST", "/", 405, b"405 method not allowed", {"Allow": "HEAD, GET"}),
        ("OPTIONS", "/api/tags", 405, b"405 method not allowed", {"Allow": "HEAD, GET"}),
        ("GET", "/api/", 404, b"404 page not found", {}),
        ("GET", "/api", 404, b"404 page not found", {}),
        ("GET", "/API/TAGS", 404, b"404 page not found", {}),
        ("GET", "/debug/pprof/cmdline", 404, b"404 page not found", {}),
        (
            "GET",
            "/api/tags/",
            301,
            b'<a href="/api/tags">Moved Permanently</a>.\n\n',
            {"Location": "/api/tags", "Content-Type": "text/html; charset=utf-8"},
        ),
        (
            "GET",
            "//api/tags",
            307,
            b'<a href="/api/tags">Temporary Redirect</a>.\n\n',
            {"Location": "/api/tags"},
        ),
        ("POST", "/api/chat/", 307, b"", {"Location": "/api/chat", "Content-Length": "0"}),
        ("GET", "/api/ps", 200, b'{"models":[]}', {"Content-Type": "application/json; charset=utf-8"}),
    ],
)
async def test_routing_is_gins(method, path, status, body, headers):
    """Unknown paths, wrong methods and slashes are answered as the real server answers them, without a Server."""
    async with running(demo()) as daemon:
        got = await ask(daemon.url, method, path)
    assert (got.status, got.body) == (status, body)
    assert {name: got.headers.get(name) for name in headers} == headers
    assert "Server" not in got.headers


async def test_query_strings_are_ignored():
    """`/api/version?x=1` is `/api/version`."""
    async with running(demo()) as daemon:
        got = await ask(daemon.url, "GET", "/api/version?x=1")
    assert got.status == 200
    assert all(part.isdigit() for part in got.json["version"].split("."))


@pytest.mark.parametrize("body", [None, HELLO])
async def test_a_java_clients_upgrade_to_http2_changes_nothing(body):
    """JDK's HttpClient offers h2c on every first request, with and without a body."""
    h2c = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAAB"}
    async with running(demo()) as daemon:
        method, path = ("GET", "/api/tags") if body is None else ("POST", "/api/chat")
        reader, writer = await connect(daemon.url)
        writer.write(request(daemon.url, method, path, body, h2c))
        got = await answer(reader)
        assert got.status == 200
        if body is None:
            assert [model["name"] for model in got.json["models"]] == ["demo:latest"]
        else:
            assert got.lines[-1]["done"] is True
        # And the connection goes on as HTTP/1.1.
        writer.write(request(daemon.url, "GET", "/"))
        assert (await answer(reader)).body == b"Ollama is running"
        writer.close()


async def test_both_loopback_addresses_answer():
    """Clients use `localhost`, `127.0.0.1` and `::1`."""
    async with running(demo()) as daemon:
        port = daemon.url.rpartition(":")[2]
        if not socket.has_ipv6:
            pytest.skip("no IPv6 on this machine")
        try:
            got = await ask(f"http://[::1]:{port}", "GET", "/")
        except OSError as exc:
            if exc.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                pytest.skip("no IPv6 loopback on this machine")
            raise
    assert got.body == b"Ollama is running"


async def test_a_streamed_answer_and_its_whole_say_the_same():
    """The demo model answers with no key at all, streamed by default and in one piece when asked."""
    async with running(demo()) as daemon:
        streamed = await ask(daemon.url, "POST", "/api/chat", HELLO)
        whole = await ask(daemon.url, "POST", "/api/chat", {**HELLO, "stream": False})
    assert streamed.headers["Content-Type"] == "application/x-ndjson"
    assert whole.headers["Content-Type"] == "application/json; charset=utf-8"
    assert "".join(line["message"]["content"] for line in streamed.lines) == whole.json["message"]["content"]
    assert [line["done"] for line in streamed.lines] == [False] * (len(streamed.lines) - 1) + [True]
    assert streamed.lines[-1]["eval_count"] == whole.json["eval_count"] > 0


async def test_a_configuration_change_reaches_a_running_daemon(tmp_path):
    """A new file takes over by itself; a broken one changes nothing; what runs goes on."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(DEMO))

    def load():
        try:
            return demo(**json.loads(path.read_text()))
        except ValueError as exc:
            raise ConfigError(str(exc)) from exc

    async def names(url):
        return [model["name"] for model in (await ask(url, "GET", "/api/tags")).json["models"]]

    async def becomes(url, wanted):
        async with asyncio.timeout(10):
            while await names(url) != wanted:  # noqa: ASYNC110 - a client of another process polls as well
                await asyncio.sleep(0.05)

    async with running(load=load, watched=[path]) as daemon:
        path.write_text(json.dumps({**DEMO, "models": [{"name": "other", "backend": "demo"}]}))
        await becomes(daemon.url, ["other:latest"])
        path.write_text("{broken")
        await asyncio.sleep(1.2)
        assert await names(daemon.url) == ["other:latest"]
        path.write_text(json.dumps(DEMO))
        await becomes(daemon.url, ["demo:latest"])


async def test_a_port_in_use_names_the_holder_and_the_way_out():
    """The message says what answers there and which flag chooses another port; it guesses at nobody."""
    async with running(demo()) as daemon:
        port = int(daemon.url.rpartition(":")[2])
        with pytest.raises(
            ConfigError, match=rf"port {port} is in use: another ollama-bridge .*--port {port + 1}"
        ):
            await asyncio.to_thread(bind, "127.0.0.1", port)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"another program .*--port {port + 1}"):
            await asyncio.to_thread(bind, "127.0.0.1", port)


@pytest.mark.parametrize("locked", [False, True])
async def test_a_bridge_is_told_from_a_real_ollama(locked):
    """By what needs no key of a client's."""
    keys = {"port": 0, "api_keys": ["s3cret-s3cret"] if locked else []}
    async with running(Config.model_validate({**DEMO, "server": keys})) as daemon:
        with pytest.raises(ConfigError, match="another ollama-bridge"):
            await asyncio.to_thread(bind, "127.0.0.1", int(daemon.url.rpartition(":")[2]))


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ("linux", r"sudo systemctl edit ollama.*OLLAMA_HOST={moved}.*sudo systemctl restart ollama"),
        ("darwin", r"launchctl setenv OLLAMA_HOST {moved}"),
        ("other", r"OLLAMA_HOST={moved} ollama serve"),
    ],
)
async def test_a_real_ollama_is_shown_the_way(system, words, monkeypatch):
    """Its version, how to move it, what to write into the configuration then, and how to start."""
    monkeypatch.setattr(sys, "platform", system)
    async with RealOllama() as real:
        moved = f"127.0.0.1:{real.port + 1}"
        with pytest.raises(ConfigError, match=words.format(moved=moved)) as caught:
            await asyncio.to_thread(bind, "127.0.0.1", real.port)
    said = str(caught.value)
    assert said.startswith(
        f"port {real.port} is in use: a real Ollama (0.99.1) answers on 127.0.0.1:{real.port}. "
    )
    assert f'providers: {{ollama: {{base_url: "http://{moved}"}}}}' in said
    assert f"`ollama-bridge serve --host 127.0.0.1 --port {real.port}`" in said
    assert "\n" not in said


async def test_an_address_of_another_machine_is_no_traceback():
    """What cannot be bound is the operator's mistake, said in one line."""
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:1"):
        bind("192.0.2.1", 1)


async def test_stopping_lets_answers_finish():
    """A stop in the middle of an answer does not cut it, as long as the deadline allows."""
    slow = demo(streaming={"chunk_size": 1, "delay_ms": 20})
    async with running(slow) as daemon:
        reader, writer = await connect(daemon.url)
        writer.write(request(daemon.url, "POST", "/api/chat", HELLO))
        await reader.readuntil(b'"done":false}')
        daemon.stop()
        rest = await reader.read()
        writer.close()
    assert b'"done":true' in rest


async def test_stopping_takes_the_rest_of_a_request():
    """A request of which only a part has come when the stop begins is read to its end, and answered."""
    async with asyncio.timeout(10), running(demo(server={"port": 0, "drain_s": 30})) as daemon:
        reader, writer = await connect(daemon.url)
        whole = request(daemon.url, "POST", "/api/chat", {**HELLO, "stream": False})
        writer.write(whole[:-9])
        await ask(daemon.url, "GET", "/")  # by now the part before it has been read
        daemon.stop()
        for _ in range(50):  # turns of the loop, in which the stop begins
            await asyncio.sleep(0)
        writer.write(whole[-9:])
        got = await answer(reader)
        writer.close()
    assert got.json["done"] is True


async def test_stopping_does_not_wait_for_who_has_just_come():
    """A connection that is made as the stop begins, and asks nothing, does not hold it up."""
    async with asyncio.timeout(10), running(demo(server={"port": 0, "drain_s": 30})) as daemon:
        address = ("127.0.0.1", urlsplit(daemon.url).port)
        daemon.stop()
        await asyncio.sleep(0)
        visitor = socket.create_connection(address)
    visitor.close()


async def test_the_deadline_ends_what_does_not_finish():
    """A stop is over after `drain_s`, whatever still runs."""
    slow = demo(streaming={"chunk_size": 1, "delay_ms": 20_000}, server={"port": 0, "drain_s": 0.1})
    async with asyncio.timeout(15), running(slow) as daemon:
        reader, writer = await connect(daemon.url)
        writer.write(request(daemon.url, "POST", "/api/chat", HELLO))
        await reader.readuntil(b'"done":false}')
        daemon.stop()
        assert b'"done":true' not in await reader.read()
        writer.close()


def test_a_signal_ends_the_process_cleanly(tmp_path):
    """SIGTERM: exit status 0, said to systemd as READY and STOPPING, no traceback."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        process = subprocess.Popen(
            [sys.executable, "-m", "ollama_bridge", "serve", "--port", "0"],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert systemd.recv(100) == b"READY=1"
            assert systemd.recv(100) == b"WATCHDOG=1"
            assert systemd.recv(100) == b"WATCHDOG=1"
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0
    assert "Traceback" not in said
