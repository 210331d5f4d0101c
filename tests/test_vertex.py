"""Gemini on Vertex AI: who asks, where, and with which token; Google's own libraries sign."""

import asyncio
import base64
import json
import threading
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from ollama_bridge.backends import ProviderSettings, google
from ollama_bridge.backends.google import GoogleBackend
from ollama_bridge.backends.google_paths import LowerPath, TypedPath
from ollama_bridge.catalog import catalogue_models, facts_kind
from ollama_bridge.chat import ChatRequest, EmbedRequest, Message, Rules, Target
from ollama_bridge.config.file import Source
from ollama_bridge.errors import (
    ConfigError,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamRejected,
    UpstreamUnreachable,
)
from openai_asking import ask, ask_until_it_fails, recorded, recordings, said
from running import ask as ask_daemon
from running import managed
from token_server import JSON, failing
from upstream import Script, Upstream, split_at_random, sse

FRAME = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2},
}
MODEL = "gemini-3.1-pro-preview"
VERTEX_RECORDINGS = recordings("vertex/*.json", "gemini.streamGenerateContent")
VERTEX_RECORDINGS += recordings("vertex/*.json", "gemini.generateContent")
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = PRIVATE.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()


class Google(Upstream):
    """Google's token server at `/token`, Vertex AI at any other path."""

    def __init__(self, answer=None):
        super().__init__(self._decided)
        self.answer = answer or Script([sse(FRAME)])
        self.refusals = []
        self.withdrawn = set()
        self.given = []
        self.lock = threading.Lock()
        self.hold = None

    @property
    def asked_for_tokens(self):
        return [seen for seen in self.requests if seen.path == "/token"]

    @property
    def asked_for_answers(self):
        return [seen for seen in self.requests if seen.path != "/token"]

    def _decided(self, seen):
        if seen.path != "/token":
            token = seen.headers.get("authorization", "").removeprefix("Bearer ")
            if "x-goog-api-key" not in seen.headers and (token not in self.given or token in self.withdrawn):
                body = {"error": {"code": 401, "message": f"not {token}", "status": "UNAUTHENTICATED"}}
                return failing(401, json.dumps(body).encode())
            return self.answer
        if self.refusals:
            return self.refusals.pop(0)
        self.given.append(f"ya29.token-{len(self.given) + 1}-0123456789")
        told = {"access_token": self.given[-1], "expires_in": 3599, "token_type": "Bearer"}
        return Script([json.dumps(told).encode()], 200, JSON, hold=self.hold)


def service_account(path, upstream, **changed):
    """A service account's key file, with a key that was made for this test."""
    told = {
        "type": "service_account",
        "project_id": "file-project",
        "private_key_id": "key-1",
        "private_key": PEM,
        "client_email": "bridge@file-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": f"{upstream.url}/token",
        **changed,
    }
    path.write_text(json.dumps(told))
    return str(path)


@asynccontextmanager
async def vertex_at(upstream, **settings):
    backend = GoogleBackend(ProviderSettings("vertex", "vertex", base_url=upstream.url, **settings))
    try:
        yield backend
    finally:
        await backend.aclose()


def question(**fields):
    target = Target("vertex", MODEL, capabilities=frozenset({"completion", "tools"}))
    return ChatRequest("m", target=target, **{"messages": (Message("user", "Hello"),), **fields})


@pytest.fixture(params=["lower", "typed"])
def path(request, monkeypatch):
    if request.param == "typed":
        monkeypatch.setattr(google, "lower_path_misfit", lambda _: "for the test")
    return request.param


async def test_a_service_account_signs_and_its_token_is_sent(path, tmp_path):
    """The assertion is signed by its key, for its token server and the scope of the cloud; the URL names project,
    location and publisher."""
    async with Google() as upstream:
        file = service_account(tmp_path / "sa.json", upstream)
        async with vertex_at(
            upstream, credentials=file, project="my-project", location="europe-west4"
        ) as backend:
            assert said(await ask(backend, question())) == "Hi"
            assert said(await ask(backend, question())) == "Hi"
            assert isinstance(backend._path, LowerPath if path == "lower" else TypedPath)
        (asked,) = upstream.asked_for_tokens
        seen = upstream.asked_for_answers
    assert [one.headers["authorization"] for one in seen] == [f"Bearer {upstream.given[0]}"] * 2
    assert "x-goog-api-key" not in seen[0].headers
    assert seen[0].path == (
        "/v1beta1/projects/my-project/locations/europe-west4/publishers/google/models/"
        f"{MODEL}:streamGenerateContent?alt=sse"
    )
    assert seen[0].json["contents"] == [{"role": "user", "parts": [{"text": "Hello"}]}]
    sent = {name: only for name, (only,) in parse_qs(asked.body.decode()).items()}
    assert sent["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    header, payload, signature = sent["assertion"].split(".")
    PRIVATE.public_key().verify(
        decoded(signature), f"{header}.{payload}".encode(), padding.PKCS1v15(), hashes.SHA256()
    )
    claims = json.loads(decoded(payload))
    assert claims["iss"] == "bridge@file-project.iam.gserviceaccount.com"
    assert claims["aud"] == "https://oauth2.googleapis.com/token"  # wherever it is sent
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"


def decoded(part):
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


async def test_the_project_is_that_of_the_credentials_and_the_location_global(tmp_path):
    async with Google() as upstream:
        async with vertex_at(
            upstream, credentials=service_account(tmp_path / "sa.json", upstream)
        ) as backend:
            await ask(backend, question())
        (seen,) = upstream.asked_for_answers
    assert seen.path.startswith("/v1beta1/projects/file-project/locations/global/publishers/google/models/")


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("global", "https://aiplatform.googleapis.com/"),
        ("", "https://aiplatform.googleapis.com/"),
        ("us-central1", "https://us-central1-aiplatform.googleapis.com/"),
        ("eu", "https://aiplatform.eu.rep.googleapis.com/"),
    ],
)
async def test_where_vertex_is_the_sdk_knows(location, url, tmp_path):
    async with Google() as upstream:
        file = service_account(tmp_path / "sa.json", upstream)
        backend = GoogleBackend(ProviderSettings("v", "vertex", credentials=file, location=location))
        try:
            await backend.warm()
            assert isinstance(backend._path, LowerPath)
            assert backend._client._api_client._http_options.base_url == url
        finally:
            await backend.aclose()
        assert not upstream.requests


async def test_an_api_key_is_express_mode():
    """No project in the URL, no token; several keys are used as they are told."""
    async with (
        Google() as upstream,
        vertex_at(upstream, api_keys=("express-1", "express-2"), project="p") as backend,
    ):
        await ask(backend, question())
        await ask(backend, question(key=1))
        assert isinstance(backend._path, LowerPath)
        assert [seen.headers["x-goog-api-key"] for seen in upstream.requests] == ["express-1", "express-2"]
        assert {seen.path for seen in upstream.requests} == {
            f"/v1beta1/publishers/google/models/{MODEL}:streamGenerateContent?alt=sse"
        }
        assert "authorization" not in upstream.requests[0].headers


async def test_default_credentials_serve_an_entry_without_any(tmp_path, monkeypatch):
    async with Google() as upstream:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", service_account(tmp_path / "sa.json", upstream))
        async with vertex_at(upstream) as backend:
            await backend.warm()
            assert backend._client is None  # to look for them may ask a server
            assert said(await ask(backend, question())) == "Hi"


async def test_fifty_first_requests_cause_one_token_and_the_loop_runs_on(tmp_path, path):
    """Google's library blocks, in a thread: a token server that takes its time stops nobody else, and who leaves
    while it does causes no second request."""
    async with Google() as upstream:
        upstream.hold = asyncio.Event()
        async with vertex_at(
            upstream, credentials=service_account(tmp_path / "sa.json", upstream)
        ) as backend:
            asking = [asyncio.create_task(ask(backend, question())) for _ in range(50)]
            await upstream.arrivals.acquire()  # on this very loop
            asking.pop(0).cancel()
            asking.append(asyncio.create_task(ask(backend, question())))
            upstream.hold.set()
            assert {said(reply) for reply in await asyncio.gather(*asking)} == {"Hi"}
        assert (len(upstream.asked_for_tokens), len(upstream.asked_for_answers)) == (1, 50)


async def test_a_withdrawn_token_is_fetched_anew_once_with_the_key_that_is_there_now(tmp_path):
    """No client sees the 401. Somebody has meanwhile put another key into the file."""
    async with Google() as upstream:
        file = tmp_path / "sa.json"
        async with vertex_at(upstream, credentials=service_account(file, upstream)) as backend:
            await ask(backend, question())
            upstream.withdrawn.add(upstream.given[0])
            service_account(file, upstream, client_email="other@x.iam.gserviceaccount.com")
            assert said(await ask(backend, question())) == "Hi"
            assert (len(upstream.asked_for_tokens), len(upstream.asked_for_answers)) == (2, 3)
            assertion = parse_qs(upstream.asked_for_tokens[1].body.decode())["assertion"][0]
            assert b"other@x" in decoded(assertion.split(".")[1])
            upstream.withdrawn.add(upstream.given[1])
            upstream.withdrawn.add("ya29.token-3-0123456789")
            _, failure = await ask_until_it_fails(backend, question())
    assert (failure.status, failure.upstream_status) == (502, 401)
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(failure)
    assert "token-" not in str(failure)


@pytest.mark.parametrize(
    ("script", "leaf", "retryable"),
    [
        (
            failing(400, b'{"error": "invalid_grant", "error_description": "secret words"}'),
            UpstreamRejected,
            False,
        ),
        (failing(401, b'{"error": "invalid_client"}'), UpstreamRejected, False),
        (failing(200, b"<html>secret words</html>"), UpstreamBroken, False),
        (failing(200, b"{}"), UpstreamRejected, False),
        (failing(then="vanish"), UpstreamUnreachable, True),
    ],
)
async def test_what_googles_token_server_may_do_instead(script, leaf, retryable, tmp_path):
    async with Google() as upstream:
        upstream.refusals.append(script)
        async with vertex_at(
            upstream, credentials=service_account(tmp_path / "sa.json", upstream)
        ) as backend:
            _, failure = await ask_until_it_fails(backend, question())
            assert (type(failure), failure.retryable) == (leaf, retryable)
            assert "secret words" not in str(failure)
            assert not upstream.asked_for_answers
            assert said(await ask(backend, question())) == "Hi"


async def test_a_token_server_that_is_overloaded_may_be_asked_again(tmp_path, monkeypatch):
    """google-auth tries three times by itself, before it says so."""
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
    async with Google() as upstream:
        upstream.refusals += [failing(503, b"{}")] * 3
        async with vertex_at(
            upstream, credentials=service_account(tmp_path / "sa.json", upstream)
        ) as backend:
            _, failure = await ask_until_it_fails(backend, question())
            assert (type(failure), failure.retryable) == (UpstreamBusy, True)


@pytest.mark.parametrize("content", ['{"type": "service_account"}', '{"type": "odd"}', "{", None])
async def test_credentials_that_are_none(content, tmp_path):
    """They are named, not shown; the next request looks again."""
    file = tmp_path / "sa.json"
    if content:
        file.write_text(content)
    async with Google() as upstream, vertex_at(upstream, credentials=str(file)) as backend:
        await backend.warm()
        _, failure = await ask_until_it_fails(backend, question())
        assert isinstance(failure, UpstreamRejected)
        assert "check providers.vertex.credentials" in str(failure)
        service_account(file, upstream)
        assert said(await ask(backend, question())) == "Hi"


@pytest.mark.parametrize(
    ("model", "where"),
    [
        ("google/gemini-x", "publishers/google/models/gemini-x"),
        ("models/gemini-x", "publishers/google/models/gemini-x"),
        ("meta/llama-x", "publishers/meta/models/llama-x"),
        ("publishers/google/models/gemini-x", "publishers/google/models/gemini-x"),
        ("endpoints/123", "endpoints/123"),
    ],
)
async def test_how_models_may_be_named(model, where, tmp_path):
    async with Google() as upstream:
        async with vertex_at(
            upstream, credentials=service_account(tmp_path / "sa.json", upstream)
        ) as backend:
            await ask(backend, ChatRequest("m", (Message("user", "x"),), target=Target("vertex", model)))
        (seen,) = upstream.asked_for_answers
    assert (
        seen.path == f"/v1beta1/projects/file-project/locations/global/{where}:streamGenerateContent?alt=sse"
    )


async def test_tokens_are_counted_as_vertex_wants_it(tmp_path):
    """The body is that of an answer, less what `:countTokens` does not know; nothing is wrapped."""
    async with Google(Script([b'{"totalTokens": 42}'], 200, JSON)) as upstream:
        async with vertex_at(
            upstream, credentials=service_account(tmp_path / "sa.json", upstream)
        ) as backend:
            messages = (Message("system", "s"), Message("user", "Hello"))
            assert await backend.count(question(messages=messages)) == 42
        (seen,) = upstream.asked_for_answers
    assert seen.path.endswith(f"{MODEL}:countTokens")
    assert seen.json == {
        "systemInstruction": {"parts": [{"text": "s"}]},
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
    }


@pytest.mark.parametrize(
    ("model", "verb", "body", "reply"),
    [
        (
            "gemini-embedding-2",
            "batchEmbedContents",
            {
                "requests": [
                    {"content": {"role": "user", "parts": [{"text": text}]}, "embedContentConfig": {"outputDimensionality": 2}}
                    for text in "ab"
                ]
            },
            {"embeddings": [{"values": [1.0, 0.0]}, {"values": [0.0, 1.0]}], "usageMetadata": {"promptTokenCount": 7}},
        ),
        (
            "text-embedding-005",
            "predict",
            {"instances": [{"content": "a"}, {"content": "b"}], "parameters": {"outputDimensionality": 2}},
            {"predictions": [{"embeddings": {"values": [1.0, 0.0], "statistics": {"token_count": 3}}}, {"embeddings": {"values": [0.0, 1.0], "statistics": {"token_count": 4}}}]},
        ),
    ],
)  # fmt: skip
async def test_embeddings_have_two_ways(model, verb, body, reply, path, tmp_path):
    target = Target("vertex", model, rules=Rules(dimensions=range(1, 10)))
    async with Google(Script([json.dumps(reply).encode()], 200, JSON)) as upstream:
        async with vertex_at(
            upstream, credentials=service_account(tmp_path / "sa.json", upstream)
        ) as backend:
            answer = await backend.embed(EmbedRequest("e", ("a", "b"), dimensions=2, target=target))
        (seen,) = upstream.asked_for_answers
    assert seen.path.endswith(f"/publishers/google/models/{model}:{verb}")
    assert seen.json == body
    assert [list(vector) for vector in answer.vectors] == [[1.0, 0.0], [0.0, 1.0]]
    assert path == "typed" or answer.input_tokens == 7


@pytest.mark.parametrize("file", VERTEX_RECORDINGS, ids=lambda file: file.stem)
async def test_recorded_replies(file, tmp_path):
    """What Vertex really sent reads as the oracle of the recordings has it; its errors are told."""
    recording, facts = recorded(file)
    body = recording["response"]["body"].encode()
    headers = {"content-type": recording["response"]["headers"].get("content-type", "application/json")}
    status = recording["response"]["status"]
    async with (
        Google(Script(split_at_random(body, 7), status, headers)) as upstream,
        vertex_at(upstream, credentials=service_account(tmp_path / "sa.json", upstream)) as backend,
    ):
        events, failure = await ask_until_it_fails(backend, question())
    if status >= 400:
        assert failure.status == status
    else:
        assert failure is None
        assert said(events) == facts["text"]


# ------------------------------------------------------------------------------------------ configuration


def loaded(path, text="", **environ):
    (path / "config.yaml").write_text(text)
    return Source(path / "config.yaml", environ=environ).load()


def test_a_project_alone_is_no_wish_for_vertex(tmp_path):
    """Other tools read the same variables: project and an existing file together are."""
    (tmp_path / "sa.json").write_text('{"type": "service_account"}')
    file = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "sa.json")}
    project = {"GOOGLE_CLOUD_PROJECT": "my-project"}
    for some in (project, file, {**project, "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json"}):
        assert "vertex" not in loaded(tmp_path, **some).config.providers
    found = loaded(tmp_path, **project, **file, GOOGLE_CLOUD_LOCATION="europe-west4")
    settings = found.config.providers["vertex"].settings("vertex")
    assert (settings.project, settings.location) == ("my-project", "europe-west4")
    assert settings.credentials == str(tmp_path / "sa.json")
    assert found.origin(("providers", "vertex", "project")) == "environment GOOGLE_CLOUD_PROJECT"
    assert {model.backend for model in found.config.models} == {"vertex"}


def test_an_entry_goes_before_the_environment_and_needs_nothing_else(tmp_path):
    entry = "providers: {vertex: {project: mine}}"
    config = loaded(tmp_path, entry, GOOGLE_CLOUD_PROJECT="theirs", GOOGLE_CLOUD_LOCATION="eu").config
    provider = config.providers["vertex"]
    assert (provider.project, provider.location) == ("mine", "eu")
    assert config.models
    assert loaded(tmp_path, "providers: {vertex: }").config.models


def test_vertex_has_googles_models_and_facts():
    assert facts_kind("v", "vertex", None) == "google"
    ours = [model.name for model in catalogue_models("vertex", "vertex")]
    assert ours == [model.name for model in catalogue_models("google", "google")]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("vertex: {credentials: /nowhere/sa.json}", "credentials must be the path of a file with Google credentials"),
        ("vertex: {credentials: FILE}", "JSON with a 'type'; that file is none"),
        ('vertex: {credentials: "{\\"type\\": \\"service_account\\"}"}', "credentials must be the path"),
        ("vertex: {project: My Project}", "must be a project's id"),
        ("vertex: {api_key: k, credentials: GOOD}", "both an API key and a file of credentials"),
        ("gigachat: {api_key: k, ca_bundle: /nowhere.pem}", "ca_bundle must be the path of a file of certificates"),
        ("gigachat: {api_key: k, ca_bundle: FILE}", "that file cannot be read as one"),
        ("gigachat: {api_key: k, credentials: GOOD}", "providers.gigachat.credentials is of no use to kind 'gigachat', only to vertex"),
        ("gigachat: {api_key: k, token_url: 'https://u:p@x/y'}", "must hold no user and no password"),
        ("gigachat: {api_key: k, scope: 'a b'}", "scope"),
        ("groq: {api_key: k, api_version: '1'}", "providers.groq.api_version is of no use to kind 'groq', only to azure"),
        ("azure: {api_key: k}", "nobody knows where Azure OpenAI is: set providers.azure.account or AZURE_RESOURCE_NAME or AZURE_OPENAI_ENDPOINT"),
        ("cloudflare-gateway: {account: a}", "set providers.cloudflare-gateway.gateway or CLOUDFLARE_GATEWAY_ID"),
        ("groq: {api_key: k, at_once: -1}", "at_once must be"),
        ("groq: {api_key: k, spacing_s: .nan}", "spacing_s must be"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(entry, says, tmp_path):
    """With file, line, key and cure, and without what may be a secret in the wrong place."""
    (tmp_path / "FILE").write_text("BASE64SECRET")
    (tmp_path / "GOOD").write_text('{"type": "service_account"}')
    for name in ("FILE", "GOOD"):
        entry = entry.replace(name, str(tmp_path / name))
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"# first line\nproviders:\n  {entry}\n")
    assert says in str(caught.value)
    assert "config.yaml:3: " in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert str(tmp_path / "FILE") not in str(caught.value)


async def test_the_whole_bridge_asks_vertex(tmp_path):
    async with Google() as upstream:
        file = service_account(tmp_path / "sa.json", upstream)
        text = f"providers:\n  vertex: {{base_url: '{upstream.url}', credentials: '{file}', project: my-project}}\n"
        async with managed(tmp_path / "config.yaml", text) as daemon:
            tags = (await ask_daemon(daemon.url, "GET", "/api/tags")).json["models"]
            model = next(model["name"] for model in tags if "embed" not in model["name"])
            body = {"model": model, "messages": [{"role": "user", "content": "x"}], "stream": False}
            got = await ask_daemon(daemon.url, "POST", "/api/chat", body)
    assert (got.status, got.json["message"]["content"]) == (200, "Hi")
