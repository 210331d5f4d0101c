"""Who signs in in another way than by a bearer: what goes over the wire, and what never does."""

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
import ipaddress
import json
import ssl
from contextlib import asynccontextmanager
from dataclasses import replace

import platformdirs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ollama_bridge.backends import ProviderSettings, gigachat, glm
from ollama_bridge.backends.openai import OpenAIBackend
from ollama_bridge.backends.vendors import VENDORS
from ollama_bridge.catalog import facts_for
from ollama_bridge.chat import EmbedRequest, Message, Target, Tool, ToolChoice
from ollama_bridge.config import Config
from ollama_bridge.config.file import Source
from ollama_bridge.errors import UpstreamBroken, UpstreamBusy, UpstreamRejected, UpstreamUnreachable
from ollama_bridge.events import ToolCall
from openai_asking import ask, ask_until_it_fails, question, said
from running import ask as ask_daemon
from running import managed, running
from token_server import CHAT, JSON, Clock, TokenServer, failing, form, settled
from upstream import Upstream, sse

NOW_S = 1_800_000_000.0
ID, SECRET = "0123456789abcdef0123456789abcdef", "AbCdEfGhIjKlMnOp"
CREDENTIALS = base64.b64encode(b"client-id:client-secret").decode()


@asynccontextmanager
async def backend_of(kind, upstream, *keys, url="", clock=None, **settings):
    """The backend of a vendor, in front of a fake of it; with `clock` its times are ours."""
    if kind == "gigachat":
        settings.setdefault("token_url", f"{upstream.url}/oauth")
    backend = OpenAIBackend(ProviderSettings(kind, kind, keys, url or f"{upstream.url}/v1", **settings))
    if clock:
        sign_in = backend._sign_in
        sign_in._wall_s = clock
        if kind == "gigachat":
            sign_in._tokens._wall_s, sign_in._tokens._clock_s = clock, clock
    try:
        yield backend
    finally:
        await backend.aclose()


def answering(upstream):
    upstream.reply(sse(*CHAT, done=True))


def bearer(seen):
    scheme, _, token = seen.headers["authorization"].partition(" ")
    assert scheme == "Bearer"
    return token


def opened(token):
    """Header and payload of a JWT, its signature verified."""
    header, payload, signature = token.split(".")
    expected = hmac.new(SECRET.encode(), f"{header}.{payload}".encode(), hashlib.sha256).digest()
    decoded = [
        base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (header, payload, signature)
    ]
    assert decoded[2] == expected
    assert "=" not in token
    return json.loads(decoded[0]), json.loads(decoded[1])


# ------------------------------------------------------------------------------------------------- GLM


@pytest.mark.parametrize("kind", ["zai", "bigmodel"])
async def test_glm_is_sent_a_signed_token_and_never_the_secret(kind):
    clock = Clock(NOW_S)
    async with Upstream() as upstream, backend_of(kind, upstream, f"{ID}.{SECRET}", clock=clock) as backend:
        answering(upstream)
        for wait_s in (0, 1400, 200, -5000):
            clock.now_s += wait_s
            await ask(backend)
        tokens = [bearer(seen) for seen in upstream.requests]
        assert not [seen for seen in upstream.requests if SECRET in str(seen)]
    header, payload = opened(tokens[0])
    assert header == {"alg": "HS256", "sign_type": "SIGN"}
    ends_ms = int((NOW_S + glm.GOOD_FOR_S) * 1000)
    assert payload == {"api_key": ID, "exp": ends_ms, "timestamp": int(NOW_S * 1000)}
    assert tokens[1] == tokens[0]  # kept
    assert opened(tokens[2])[1]["timestamp"] == int((NOW_S + 1600) * 1000)  # renewed before its end
    assert opened(tokens[3])[1]["timestamp"] == int((NOW_S - 3400) * 1000)  # the clock was set back


@pytest.mark.parametrize("key", ["plain-key", "a.b.c", f".{SECRET}", f"{ID}."])
async def test_a_key_that_is_no_pair_is_a_bearer(key):
    async with Upstream() as upstream, backend_of("zai", upstream, key) as backend:
        answering(upstream)
        await ask(backend)
        upstream.only(b"{}", status=401)
        _, failure = await ask_until_it_fails(backend)
        assert bearer(upstream.requests[0]) == key
        assert (len(upstream.requests), failure.upstream_status) == (2, 401)  # there is no other token to try


async def test_several_keys_of_glm_sign_each_for_itself():
    keys = (f"{ID}.{SECRET}", "plain")
    async with Upstream() as upstream, backend_of("zai", upstream, *keys) as backend:
        answering(upstream)
        for key in (0, 1, 0):
            await ask(backend, question(key=key))
        tokens = [bearer(seen) for seen in upstream.requests]
    assert tokens[0] == tokens[2] != tokens[1] == "plain"


async def test_a_refused_token_of_glm_is_made_anew_once():
    clock = Clock(NOW_S)
    async with Upstream() as upstream, backend_of("zai", upstream, f"{ID}.{SECRET}", clock=clock) as backend:
        answering(upstream)
        await ask(backend)
        clock.now_s += 60
        upstream.only(
            json.dumps({"error": {"code": "1002", "message": f"bad key {SECRET}"}}).encode(), status=401
        )
        _, failure = await ask_until_it_fails(backend)
        times = [opened(bearer(seen))[1]["timestamp"] for seen in upstream.requests]
    assert times == [int(NOW_S * 1000)] * 2 + [int((NOW_S + 60) * 1000)]
    assert isinstance(failure, UpstreamRejected)
    assert SECRET not in str(failure)
    assert "ZAI_API_KEY" in str(failure)


# -------------------------------------------------------------------------------------------- GigaChat


async def test_gigachat_is_asked_with_a_token_for_its_credentials():
    """The credentials go to the token server alone, in the form that it documents."""
    clock = Clock(NOW_S)
    async with (
        TokenServer(clock) as server,
        backend_of("gigachat", server, CREDENTIALS, clock=clock) as backend,
    ):
        assert said(await ask(backend)) == "Hi"
        assert said(await ask(backend)) == "Hi"
        (asked,) = server.asked_for_tokens
        assert (asked.method, form(asked)) == ("POST", {"scope": "GIGACHAT_API_PERS"})
        assert asked.headers["authorization"] == f"Basic {CREDENTIALS}"
        assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
        assert len(asked.headers["rquid"]) == 36
        assert [seen.path for seen in server.asked_for_answers] == ["/v1/chat/completions"] * 2
        assert {bearer(seen) for seen in server.asked_for_answers} == {server.given[0]}
        assert CREDENTIALS not in str(server.asked_for_answers)


async def test_scope_and_credentials_as_people_have_them():
    """Client id and secret with a colon between are what the base64 is of."""
    async with TokenServer(Clock(NOW_S)) as server:
        async with backend_of(
            "gigachat", server, "client-id:client-secret", scope="GIGACHAT_API_CORP"
        ) as backend:
            await ask(backend)
        (asked,) = server.asked_for_tokens
    assert form(asked) == {"scope": "GIGACHAT_API_CORP"}
    assert asked.headers["authorization"] == f"Basic {CREDENTIALS}"


async def test_fifty_first_requests_cause_one_token():
    async with TokenServer(Clock(NOW_S)) as server, backend_of("gigachat", server, CREDENTIALS) as backend:
        server.hold = asyncio.Event()
        asking = [asyncio.create_task(ask(backend)) for _ in range(50)]
        await server.asked.wait()
        await settled()
        server.hold.set()
        replies = await asyncio.gather(*asking)
        assert {said(reply) for reply in replies} == {"Hi"}
        assert (len(server.asked_for_tokens), len(server.asked_for_answers)) == (1, 50)


async def test_a_token_is_renewed_behind_the_clients_back():
    """In its last minutes an answer comes with the old token while the new one is still being fetched."""
    clock = Clock(NOW_S)
    async with (
        TokenServer(clock) as server,
        backend_of("gigachat", server, CREDENTIALS, clock=clock) as backend,
    ):
        await ask(backend)
        clock.now_s += 1600
        server.hold = asyncio.Event()
        for _ in range(3):
            assert said(await ask(backend)) == "Hi"
        for _ in range(5):  # four answers, one request for a token
            await server.arrivals.acquire()
        server.hold.set()
        async with asyncio.timeout(10):
            while bearer(server.asked_for_answers[-1]) != "token-2-0123456789":
                await ask(backend)
        assert len(server.asked_for_tokens) == 2
        clock.now_s += 1795
        assert said(await ask(backend)) == "Hi"
        assert bearer(server.asked_for_answers[-1]) == "token-3-0123456789"


async def test_a_token_that_was_withdrawn_is_fetched_anew_once():
    """No client sees the 401; when the new one is refused too, the client learns it, without the token."""
    async with TokenServer(Clock(NOW_S)) as server, backend_of("gigachat", server, CREDENTIALS) as backend:
        await ask(backend)
        server.withdrawn.add(server.given[0])
        assert said(await ask(backend)) == "Hi"
        assert (len(server.asked_for_tokens), len(server.asked_for_answers)) == (2, 3)
        server.withdrawn |= {f"token-{number}-0123456789" for number in range(9)}
        events, failure = await ask_until_it_fails(backend)
        assert (events, failure.status, failure.upstream_status) == ([], 502, 401)
        assert "GIGACHAT_CREDENTIALS" in str(failure)
        assert "token-" not in str(failure)


async def test_many_refusals_of_one_token_cause_one_token():
    async with TokenServer(Clock(NOW_S)) as server, backend_of("gigachat", server, CREDENTIALS) as backend:
        await ask(backend)
        server.withdrawn.add(server.given[0])
        await asyncio.gather(*(ask(backend) for _ in range(20)))
        assert len(server.asked_for_tokens) == 2


@pytest.mark.parametrize(
    ("script", "leaf", "retryable", "words"),
    [
        (failing(401, b'{"code":6}'), UpstreamRejected, False, ["GIGACHAT_CREDENTIALS", "scope"]),
        (failing(400, f'{{"message":"{CREDENTIALS}"}}'.encode()), UpstreamRejected, False, ["GIGACHAT_CREDENTIALS"]),
        (failing(404), UpstreamRejected, False, ["token_url"]),
        (failing(302, headers={"location": "http://127.0.0.1:9/"}), UpstreamRejected, False, ["token_url"]),
        (failing(429, headers={**JSON, "retry-after": "7"}), UpstreamBusy, True, ["429"]),
        (failing(503), UpstreamBusy, True, ["503"]),
        (failing(200, b"<html>soon</html>", headers={"content-type": "text/html"}), UpstreamBroken, False, ["text/html", "token_url"]),
        (failing(200, b'{"access_token": 7}'), UpstreamBroken, False, ["token_url"]),
        (failing(200, b'{"access_token": "a\\nb"}'), UpstreamBroken, False, ["token_url"]),
        (failing(200, b"[1]"), UpstreamBroken, False, ["token_url"]),
        (failing(200, b"{", then="cut"), UpstreamBroken, True, []),
        (failing(then="vanish"), UpstreamBroken, True, []),
    ],
)  # fmt: skip
async def test_what_a_token_server_may_do_instead(script, leaf, retryable, words):
    """Each failure is ours, says what to do, holds no secret, and is over with the next token."""
    async with TokenServer(Clock(NOW_S)) as server, backend_of("gigachat", server, CREDENTIALS) as backend:
        server.refusals.append(script)
        events, failure = await ask_until_it_fails(backend)
        assert events == []
        assert not server.asked_for_answers
        assert (type(failure), failure.retryable) == (leaf, retryable)
        assert failure.retry_after_s == (7.0 if script.status == 429 else None)
        assert [word for word in words if word not in str(failure)] == []
        assert CREDENTIALS not in str(failure) + failure.summary
        assert said(await ask(backend)) == "Hi"


async def test_a_token_server_that_is_not_there_or_says_nothing(monkeypatch):
    async with Upstream() as upstream:
        settings = {"token_url": "http://127.0.0.1:9/oauth"}
        async with backend_of("gigachat", upstream, CREDENTIALS, **settings) as backend:
            _, failure = await ask_until_it_fails(backend)
        assert (type(failure), failure.retryable) == (UpstreamUnreachable, True)
        assert "127.0.0.1:9/oauth" in str(failure)
        monkeypatch.setattr(gigachat, "_WITHIN_S", 0.05)
        upstream.reply(b"", then="stall")
        async with backend_of("gigachat", upstream, CREDENTIALS) as backend:
            _, failure = await ask_until_it_fails(backend)
    assert (type(failure), failure.retryable) == (UpstreamUnreachable, True)


async def test_without_credentials_nobody_is_asked():
    async with TokenServer(Clock(NOW_S)) as server, backend_of("gigachat", server) as backend:
        _, failure = await ask_until_it_fails(backend)
        assert "GIGACHAT_CREDENTIALS" in str(failure)
        assert not server.requests


async def test_an_operators_own_authorization_is_left_alone():
    headers = {"AUTHORIZATION": "Bearer mine"}
    async with (
        Upstream() as upstream,
        backend_of("gigachat", upstream, CREDENTIALS, headers=headers) as backend,
    ):
        answering(upstream)
        await ask(backend)
        (seen,) = upstream.requests
    assert (seen.path, seen.headers["authorization"]) == ("/v1/chat/completions", "Bearer mine")


async def test_embeddings_are_signed_for_as_well():
    request = EmbedRequest("e", ("x",), target=Target("gigachat", "Embeddings"))
    async with TokenServer(Clock(NOW_S)) as server, backend_of("gigachat", server, CREDENTIALS) as backend:
        with pytest.raises(UpstreamBroken):  # the fake has no embeddings, but took the token
            await backend.embed(request)
        (seen,) = server.asked_for_answers
        assert (seen.path, bearer(seen)) == ("/v1/embeddings", server.given[0])


@pytest.mark.parametrize(
    ("ends", "date", "lifetime_s"),
    [
        (int((NOW_S + 1800) * 1000), "", 1800),
        (NOW_S + 1700, "", 1700),  # as the documentation shows it: seconds
        (None, "", 1800),
        ("soon", "", 1800),
        (int((NOW_S - 50_000) * 1000), "", 1800),  # our clock is ahead: no token may seem to be over at once
        (int((NOW_S + 500_000) * 1000), "", 1800),
        (
            int((NOW_S - 5000 + 900) * 1000),
            "Fri, 15 Jan 2027 06:36:40 GMT",
            900,
        ),  # both times by the server's clock
        (int((NOW_S + 600) * 1000), "nonsense", 1800),
    ],
)
def test_how_long_a_token_is_good_for(ends, date, lifetime_s):
    assert gigachat.lifetime_s(ends, date, NOW_S) == lifetime_s


async def test_a_clock_that_is_wrong_causes_no_flood_of_tokens():
    """The server's clock is hours behind ours: one token all the same."""
    async with TokenServer(Clock(NOW_S - 20_000)) as server:
        async with backend_of("gigachat", server, CREDENTIALS, clock=Clock(NOW_S)) as backend:
            for _ in range(5):
                await ask(backend)
        assert len(server.asked_for_tokens) == 1


async def test_functions_are_what_gigachat_calls_tools():
    """Each call is followed by its own result, as a JSON object; a system message comes first; 0 is not a temperature."""
    row = VENDORS["gigachat"]
    tool = {
        "name": "weather",
        "description": "d",
        "parameters": {"type": "object", "properties": {"city": {}}},
    }

    request = question(
        rules=row.rules,
        tools=(Tool(**tool),),
        tool_choice=ToolChoice("required"),
        options={"temperature": 0, "seed": 7, "num_predict": 50},
        messages=(
            Message("user", "Weather?"),
            Message("assistant", "I look.", tool_calls=(ToolCall("a", "weather", {"city": "Rome"}), ToolCall("b", "weather", {"city": "Oslo"}))),
            Message("tool", "sunny", tool_call_id="a", tool_name="weather"),
            Message("tool", '{"sky": "grey"}', tool_call_id="b", tool_name="weather"),
            Message("system", "Be short."),
            Message("user", "Well?"),
        ),
    )  # fmt: skip
    call = {"name": "weather", "arguments": {"city": "Riga"}}
    reply = sse(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "", "function_call": call, "functions_state_id": "x"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "function_call"}], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "precached_prompt_tokens": 4}},
        done=True,
    )  # fmt: skip
    headers = {"authorization": "Bearer mine"}
    async with (
        Upstream() as upstream,
        backend_of("gigachat", upstream, CREDENTIALS, headers=headers) as backend,
    ):
        upstream.reply(reply)
        events = await ask(backend, request)
        body = upstream.requests[0].json
    assert body == {
        "model": "gpt-x",
        "stream": True,
        "max_tokens": 50,
        "temperature": 0.001,
        "functions": [tool],
        "function_call": {"name": "weather"},
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "I look.", "function_call": {"name": "weather", "arguments": {"city": "Rome"}}},
            {"role": "function", "name": "weather", "content": '{"result":"sunny"}'},
            {"role": "assistant", "content": "", "function_call": {"name": "weather", "arguments": {"city": "Oslo"}}},
            {"role": "function", "name": "weather", "content": '{"sky": "grey"}'},
            {"role": "user", "content": "Well?"},
        ],
    }  # fmt: skip
    called, finish = events
    assert (called.name, dict(called.arguments), finish.reason) == ("weather", {"city": "Riga"}, "tool_calls")
    assert (finish.usage.input_tokens, finish.usage.cached_read_tokens) == (9, 4)


# ------------------------------------------------------------------------------------------- its own CA


def made_authority(folder):
    """A certificate authority, a server certificate for 127.0.0.1 by it, and the server's TLS context."""
    now = dt.datetime.now(dt.UTC)

    def certificate(name, key, issuer, signer, *extensions):
        builder = x509.CertificateBuilder(
            issuer, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(),
            x509.random_serial_number(), now - dt.timedelta(hours=1), now + dt.timedelta(hours=1),
        )  # fmt: skip
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(signer, hashes.SHA256())

    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    ski = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    root = certificate(
        "root", root_key, root_name, root_key, (x509.BasicConstraints(True, None), True), (ski, False), (usage, True)
    )  # fmt: skip
    aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = certificate("127.0.0.1", key, root_name, root_key, (names, False), (aki, False))
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(root.public_bytes(pem))
    (folder / "server.pem").write_bytes(
        server.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return str(folder / "ca.pem"), context


async def test_the_ca_bundle_is_what_makes_both_hosts_trusted(tmp_path):
    """Token server and API have certificates by an authority that nobody knows: with its file they are asked."""
    ca_bundle, context = made_authority(tmp_path)
    async with TokenServer(Clock(NOW_S)) as server:
        tls = await asyncio.start_server(server._serve, "127.0.0.1", 0, ssl=context)
        async with tls:
            url = f"https://127.0.0.1:{tls.sockets[0].getsockname()[1]}"
            where = {"url": f"{url}/v1", "token_url": f"{url}/oauth"}
            async with backend_of("gigachat", server, CREDENTIALS, **where) as backend:
                _, failure = await ask_until_it_fails(backend)
                assert not server.requests
            assert (type(failure), failure.retryable) == (UpstreamUnreachable, False)
            assert "providers.gigachat.ca_bundle" in str(failure)
            async with backend_of("gigachat", server, CREDENTIALS, ca_bundle=ca_bundle, **where) as backend:
                assert said(await ask(backend)) == "Hi"
            assert (len(server.asked_for_tokens), len(server.asked_for_answers)) == (1, 1)
            async with backend_of("gigachat", server, CREDENTIALS, ca_bundle=ca_bundle, **where) as backend:
                await ask(backend)
            (tmp_path / "ca.pem").unlink()
            with pytest.raises(UpstreamRejected, match="ca_bundle"):
                OpenAIBackend(ProviderSettings("g", "gigachat", (CREDENTIALS,), ca_bundle=ca_bundle))


# ------------------------------------------------------------------------------ Azure and Cloudflare


@pytest.mark.parametrize(
    ("below", "version", "api", "asked"),
    [
        ("", "", "chat", "/openai/v1/chat/completions"),
        ("/", "", "responses", "/openai/v1/responses"),
        ("/openai/v1/", "", "chat", "/openai/v1/chat/completions"),
        ("", "preview", "responses", "/openai/v1/responses?api-version=preview"),
        (
            "",
            "2024-10-21",
            "chat",
            "/openai/deployments/my%20gpt%2F4/chat/completions?api-version=2024-10-21",
        ),
        ("/openai", "2025-03-01-preview", "responses", "/openai/responses?api-version=2025-03-01-preview"),
        ("/models", "2024-05-01-preview", "chat", "/models/chat/completions?api-version=2024-05-01-preview"),
    ],
)
async def test_where_azure_is_asked_and_with_what(below, version, api, asked):
    """The key is in `api-key`, nowhere else; the deployment is the model."""
    async with Upstream() as upstream:
        where = {"url": upstream.url + below, "api_version": version, "api": api}
        async with backend_of("azure", upstream, "azure-key-0123456789", **where) as backend:
            upstream.reply(b"{}", status=401)
            target = Target("azure", "my gpt/4")
            _, failure = await ask_until_it_fails(backend, replace(question(), target=target))
        (seen,) = upstream.requests
    assert (seen.path, seen.json["model"]) == (asked, "my gpt/4")
    assert seen.headers["api-key"] == "azure-key-0123456789"
    assert "authorization" not in seen.headers
    assert "AZURE_OPENAI_API_KEY" in str(failure)


async def test_azure_takes_several_keys_and_embeds_at_the_deployment():
    request = EmbedRequest("e", ("x",), target=Target("azure", "emb"), key=1)
    async with Upstream() as upstream:
        where = {"url": upstream.url, "api_version": "2024-10-21"}
        async with backend_of("azure", upstream, "key-one", "key-two", **where) as backend:
            reply = {"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 1}}
            upstream.reply(json.dumps(reply).encode(), headers=JSON)
            assert (await backend.embed(request)).input_tokens == 1
        (seen,) = upstream.requests
    assert seen.path == "/openai/deployments/emb/embeddings?api-version=2024-10-21"
    assert seen.headers["api-key"] == "key-two"


@pytest.mark.parametrize(
    ("provider", "variables", "url"),
    [
        ({}, {"AZURE_OPENAI_API_KEY": "k", "AZURE_RESOURCE_NAME": "res"}, "https://res.openai.azure.com"),
        (
            {},
            {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://x.example/"},
            "https://x.example/",
        ),
        (
            {"account": "mine", "api_key": "k"},
            {"AZURE_RESOURCE_NAME": "res"},
            "https://mine.openai.azure.com",
        ),
    ],
)
def test_where_azure_is(provider, variables, url, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"providers": {"azure": provider} if provider else {}}))
    config = Source(file, environ={**variables, "OPENAI_API_VERSION": "2024-10-21"}).load().config
    settings = config.providers["azure"].settings("azure")
    assert (settings.base_url, settings.api_version, settings.api) == (url, "2024-10-21", "chat")


@pytest.mark.parametrize(("key", "sent"), [("sk-openai", "Bearer sk-openai"), ("none", None), (None, None)])
async def test_cloudflares_gateway_gets_the_key_of_who_is_behind_it_or_none(key, sent):
    headers = {"cf-aig-authorization": "Bearer cf-token"}
    async with Upstream() as upstream:
        keys = [key] if key else []
        async with backend_of("cloudflare-gateway", upstream, *keys, headers=headers) as backend:
            answering(upstream)
            await ask(backend)
        (seen,) = upstream.requests
    assert seen.headers.get("authorization") == sent
    assert seen.headers["cf-aig-authorization"] == "Bearer cf-token"


def test_azures_deployments_of_openais_models_are_asked_as_those_are():
    """A deployment mostly has its model's name; of any other name nothing is known, and Chat Completions are asked."""
    known, other = facts_for("azure", "gpt-5-mini"), facts_for("azure", "my-grok")
    assert known.rules == facts_for("openai", "gpt-5-mini").rules
    assert (known.rules.api, known.known, known.offered) == ("responses", True, False)
    assert (other.rules, other.known) == (VENDORS["azure"].rules, False)


def test_cloudflares_addresses_hold_account_and_gateway():
    config = Config.model_validate(
        {
            "providers": {
                "cloudflare": {"account": "acc", "api_key": "k"},
                "edge": {"kind": "cloudflare-gateway", "account": "acc", "gateway": "gw"},
            }
        }
    )
    assert {name: provider.address(name) for name, provider in config.providers.items()} == {
        "cloudflare": "https://api.cloudflare.com/client/v4/accounts/acc/ai/v1",
        "edge": "https://gateway.ai.cloudflare.com/v1/acc/gw/compat",
    }


# ------------------------------------------------------------------------------------- the whole bridge


async def test_no_secret_is_shown_anywhere(capfd, tmp_path):
    """Of credentials, keys and tokens nothing is in the log at its most talkative, in errors, in what a client gets, in
    the ledger, or in a representation."""
    secrets = [
        CREDENTIALS,
        "client-secret",
        SECRET,
        "azure-key-0123456789",
        "token-1-0123456789",
        "token-2-0123456789",
    ]

    def quoting(seen):
        """Refuses, and quotes what it was sent and what belongs to it."""
        sent = seen.headers.get("api-key") or f"{bearer(seen)} of {SECRET}"
        return failing(401, json.dumps({"error": {"message": f"refused: {sent}"}}).encode())

    async with TokenServer(Clock(NOW_S)) as server, Upstream(quoting) as other:
        config = Config.model_validate(
            {
                "server": {"port": 0},
                "log_level": "debug",
                "retry": {"max_retries": 0},
                "providers": {
                    "gigachat": {"base_url": f"{server.url}/v1", "token_url": f"{server.url}/oauth", "api_key": CREDENTIALS, "spacing_s": 0},
                    "zai": {"base_url": f"{other.url}/v1", "api_key": f"{ID}.{SECRET}"},
                    "azure": {"base_url": other.url, "api_key": "azure-key-0123456789"},
                },
                "models": [{"name": name, "backend": name} for name in ("gigachat", "zai", "azure")],
            }
        )  # fmt: skip
        shown = []
        async with running(config) as daemon:

            async def chat(model):
                body = {"model": model, "messages": [{"role": "user", "content": "x"}], "stream": False}
                got = await ask_daemon(daemon.url, "POST", "/api/chat", body)
                shown.append(got.body.decode())
                return got.status

            assert await chat("gigachat") == 200
            server.withdrawn |= set(secrets)
            assert await chat("gigachat") == 502
            assert await chat("zai") == 502
            assert await chat("azure") == 502
            server.refusals += [failing(401, CREDENTIALS.encode()), failing(200, CREDENTIALS.encode())]
            assert await chat("gigachat") == 502
            assert await chat("gigachat") == 502
            for path in ("/v1/providers/status", "/metrics"):
                got = await ask_daemon(daemon.url, "GET", path)
                shown.append(got.body.decode())
            gateway = daemon._gateway
            for provider in gateway.providers.values():
                shown.append(repr(provider.settings) + repr(vars(provider._loaded)))
                shown.append(repr(provider._loaded._sign_in) + repr(provider._loaded._failures))
                shown.append(
                    repr(vars(provider._loaded._sign_in)) if provider.settings.kind == "gigachat" else ""
                )
        shown += [repr(config), *capfd.readouterr()]
        state = platformdirs.user_state_path("ollama-bridge")
        files = [file for file in state.rglob("*") if file.is_file()]
        assert files
        shown += [file.read_bytes().decode("latin-1") for file in files]
    everything = "\n".join(shown)
    assert len(everything) > 3000
    assert [secret for secret in (*secrets, "eyJ") if secret in everything] == []


async def reloaded(daemon, before):
    async with asyncio.timeout(20):
        while daemon._gateway is before:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


async def test_a_reload_with_other_credentials_takes_over(tmp_path):
    async with TokenServer(Clock(NOW_S)) as server:

        def text(credentials):
            return json.dumps(
                {
                    "providers": {"gigachat": {"base_url": f"{server.url}/v1", "token_url": f"{server.url}/oauth", "api_key": credentials, "spacing_s": 0}},
                    "models": [{"name": "m", "backend": "gigachat"}],
                }
            )  # fmt: skip

        path = tmp_path / "config.yaml"
        async with managed(path, text("first-credentials")) as daemon:
            body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": False}
            before = daemon._gateway
            assert (await ask_daemon(daemon.url, "POST", "/api/chat", body)).status == 200
            path.write_text(text("second-credentials"))
            daemon._reload.set()
            await reloaded(daemon, before)
            assert (await ask_daemon(daemon.url, "POST", "/api/chat", body)).status == 200
        assert [seen.headers["authorization"] for seen in server.asked_for_tokens] == [
            "Basic first-credentials",
            "Basic second-credentials",
        ]
