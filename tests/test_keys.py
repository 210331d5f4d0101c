"""Several keys of one provider: in turn, each with its own rest; as a policy, and on the wires of all providers."""

import asyncio
import collections
import gc
import json
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from embedders import JSON
from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.anthropic import AnthropicBackend
from ollama_bridge.backends.google import GoogleBackend
from ollama_bridge.backends.ollama import OllamaBackend
from ollama_bridge.backends.openai import OpenAIBackend
from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Message, Rules, Target
from ollama_bridge.config import Config
from ollama_bridge.errors import UpstreamBroken, UpstreamBusy, UpstreamError, UpstreamRejected
from ollama_bridge.events import Finish, TextDelta
from ollama_bridge.policies.keyring import LIMITED_S, REFUSED_S, Keyring
from ollama_bridge.policies.keys import KeyedCounter, KeyPool
from ollama_bridge.policies.retry import Backoff, Retry
from running import ask, managed, running
from scripted import Hours, collect
from upstream import Upstream
from wires import WIRES, Said

CHAT = ChatRequest("m", target=Target("acme", "m-1"))
OTHER = ChatRequest("n", target=Target("acme", "n-1"))
EMBED = EmbedRequest("m", ("text",), target=Target("acme", "m-1"))


def failure(status, kind=UpstreamBusy, **known):
    return kind("it failed", provider="acme", model="m-1", upstream_status=status, **known)


def limited(retry_after_s=None):
    return failure(429, retry_after_s=retry_after_s)


def refused(status=401):
    return failure(status, UpstreamRejected)


class Keyed:
    """Answers with the key it was asked with, or fails as is said of that key."""

    def __init__(self, **failures):
        self.failures = {int(key[1:]): found for key, found in failures.items()}
        self.keys = []

    def _answer(self, request):
        self.keys.append(request.key)
        found = self.failures.get(request.key)
        if isinstance(found, UpstreamError):
            raise found.anew()

    async def chat(self, request):
        self._answer(request)
        yield (TextDelta(str(request.key)), Finish())

    async def embed(self, request):
        self._answer(request)
        return Embeddings([[float(request.key)]])

    async def count(self, request):
        self._answer(request)
        return 42


async def asked(pool, inner, *requests):
    """The keys that were asked, for each request."""
    keys = []
    for request in requests:
        inner.keys.clear()
        if isinstance(request, EmbedRequest):
            answer = await pool.embed(request)
            assert answer.vectors == [[float(inner.keys[-1])]]
        else:
            assert (await collect(pool.chat(request)))[0] == TextDelta(str(inner.keys[-1]))
        keys.append([*inner.keys])
    return keys


def pool_of(keys, hours=None, **failures):
    inner = Keyed(**failures)
    return KeyPool(inner, Keyring("acme", keys, clock_s=(hours or Hours()).clock_s)), inner


async def test_keys_are_used_in_turn():
    """One request each, chats and embeddings alike."""
    pool, inner = pool_of(3)
    assert await asked(pool, inner, CHAT, EMBED, OTHER, CHAT) == [[0], [1], [2], [0]]


async def test_requests_at_once_use_all_keys_alike():
    """Whoever comes meanwhile takes the next."""
    pool, inner = pool_of(3)
    await asyncio.gather(*(collect(pool.chat(CHAT)) for _ in range(30)))
    assert collections.Counter(inner.keys) == {0: 10, 1: 10, 2: 10}


@pytest.mark.parametrize("request_", [CHAT, EMBED], ids=["chat", "embed"])
@pytest.mark.parametrize(
    ("cause", "rest_s", "also_other"),
    [
        (limited(7.0), 7.0, False),
        (limited(), LIMITED_S, False),
        (limited(1e9), 86_400.0, False),
        (failure(429, retryable=False), REFUSED_S, False),  # the quota of a day
        (refused(401), REFUSED_S, True),
        (failure(402, retryable=False), REFUSED_S, True),
        (refused(403), REFUSED_S, False),
    ],
    ids=["told", "guessed", "for ever", "day", "refused", "no credit", "not allowed"],
)
async def test_a_key_rests_while_the_others_answer(request_, cause, rest_s, also_other):
    """The next one answers at once; it itself is asked again when its time has come, and another model of it sooner,
    unless all of the account is meant."""
    hours = Hours()
    pool, inner = pool_of(2, hours, k0=cause)
    assert await asked(pool, inner, request_, request_, request_) == [[0, 1], [1], [1]]
    inner.failures.clear()
    keys = [key for used in await asked(pool, inner, OTHER, OTHER) for key in used]
    assert sorted(keys) == ([1, 1] if also_other else [0, 1])
    hours.now_s += rest_s - 1
    assert await asked(pool, inner, request_, request_) == [[1], [1]]
    hours.now_s += 1
    assert sorted(await asked(pool, inner, request_, request_)) == [[0], [1]]


@pytest.mark.parametrize("cause", [failure(500, UpstreamBroken), failure(529), failure(None), refused(404)])
async def test_what_is_not_the_keys_fault_is_not_blamed_on_it(cause):
    """An overloaded provider is so with every key: that is for others to try again."""
    pool, inner = pool_of(2, k0=cause)
    with pytest.raises(UpstreamError, match="it failed"):
        await collect(pool.chat(CHAT))
    assert inner.keys == [0]
    inner.failures.clear()
    assert await asked(pool, inner, CHAT, CHAT) == [[1], [0]]


async def test_no_other_key_after_the_first_event():
    """The client has seen output: the failure is final."""

    class Breaks(Keyed):
        async def chat(self, request):
            self.keys.append(request.key)
            yield (TextDelta("hel"),)
            raise limited(7.0)

    inner = Breaks()
    pool = KeyPool(inner, Keyring("acme", 2))
    with pytest.raises(UpstreamBusy):
        await collect(pool.chat(CHAT))
    assert inner.keys == [0]


@pytest.mark.parametrize("request_", [CHAT, EMBED], ids=["chat", "embed"])
async def test_when_all_were_told_to_wait_the_soonest_says_how_long(request_):
    """Nobody is asked in vain; the time is that of the key that is free first."""
    hours = Hours()
    pool, inner = pool_of(3, hours, k0=limited(30.0), k1=limited(20.0), k2=refused())

    async def fails():
        with pytest.raises(UpstreamBusy) as caught:
            await asked(pool, inner, request_)
        return caught.value.retry_after_s, [*inner.keys]

    assert await fails() == (20.0, [0, 1, 2])
    hours.now_s += 5
    assert await fails() == (15.0, [])
    hours.now_s += 16
    inner.failures.clear()
    assert await asked(pool, inner, request_) == [[1]]


async def test_nobody_is_refused_because_of_a_guess():
    """Limits without a time, and refusals: when no other key is left, one of them is asked all the same."""
    hours = Hours()
    pool, inner = pool_of(2, hours, k0=limited(), k1=limited())
    for keys in ([0, 1], [0], [1], [0]):
        with pytest.raises(UpstreamBusy) as caught:
            await asked(pool, inner, CHAT)
        assert caught.value.retry_after_s is None
        assert inner.keys == keys
        hours.now_s += 1
    inner.failures.clear()
    assert await asked(pool, inner, CHAT) == [[1]]


async def test_a_later_guess_does_not_shorten_what_was_told():
    """Two requests at once hear different things of one key: the longer rest holds."""
    hours = Hours()
    pool, inner = pool_of(2, hours)
    pool._ring.set_aside(0, "m-1", limited(300.0))
    pool._ring.set_aside(0, "m-1", limited())
    hours.now_s += 100
    assert await asked(pool, inner, CHAT, CHAT) == [[1], [1]]


async def test_a_refused_key_is_named_by_its_place_once():
    """One warning: an operator finds it; no line for each request that came meanwhile."""
    pool, _ = pool_of(2, k0=limited(5.0), k1=refused())
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(UpstreamBusy):
                await collect(pool.chat(CHAT))
    assert [(line["log_level"], line["key"], line["rest_s"]) for line in lines] == [
        ("info", "providers.acme.api_key[0]", 5.0),
        ("warning", "providers.acme.api_key[1]", REFUSED_S),
    ]


async def test_what_is_remembered_holds_no_request():
    """A key rests for minutes; the prompt must not stay that long because of a traceback."""

    class Prompt(tuple):  # noqa: SLOT001 - a subclass can be found among all objects
        pass

    pool, _ = pool_of(2, k0=refused())
    await collect(pool.chat(ChatRequest("m", Prompt([Message("user", "hi")]))))
    gc.collect()
    assert not [one for one in gc.get_objects() if type(one) is Prompt]


async def test_retry_waits_for_the_key_that_is_free_first():
    """The two policies together: every key told when, and the answer comes then."""
    hours = Hours()
    pool, inner = pool_of(2, hours, k0=limited(8.0), k1=limited(5.0))

    async def sleep(seconds):
        await hours.sleep(seconds)
        inner.failures.clear()

    retry = Retry(pool, Backoff(), clock_s=hours.clock_s, sleep=sleep, draw=lambda: 0.0)
    assert await collect(retry.chat(CHAT)) == [TextDelta("1"), Finish()]
    assert (inner.keys, hours.waits) == ([0, 1, 1], [5.0])


def turn(number, opening="Fix the bug."):
    """A later turn of a conversation."""
    said = [Message("user", opening)]
    for turn in range(number):
        said += [Message("assistant", f"Answer {turn}."), Message("user", f"And {turn}?")]
    return replace(CHAT, messages=tuple(said))


async def test_a_conversation_stays_with_its_key():
    """Another account has nothing of it in its prompt cache; new conversations begin with the next key in turn."""
    pool, inner = pool_of(3)
    asked_in_turn = [
        turn(0),
        turn(0, "Hi."),
        turn(1),
        turn(2),
        turn(1, "Hi."),
        turn(0, "Ho."),
        turn(3),
        turn(0),
    ]
    assert await asked(pool, inner, *asked_in_turn) == [[0], [1], [0], [0], [1], [2], [0], [0]]


async def test_a_conversation_goes_on_with_another_key_while_its_own_rests():
    """And comes back to it: what the cache holds of it is still worth something."""
    hours = Hours()
    pool, inner = pool_of(2, hours)
    assert await asked(pool, inner, turn(0)) == [[0]]
    inner.failures[0] = limited(7.0)
    assert await asked(pool, inner, turn(1), turn(2)) == [[0, 1], [1]]
    inner.failures.clear()
    hours.now_s += 7
    assert await asked(pool, inner, turn(3)) == [[0]]


async def test_conversations_that_are_remembered_are_bounded(monkeypatch):
    """Who was forgotten goes on with the next key in turn."""
    monkeypatch.setattr("ollama_bridge.policies.keyring._MOST_TALKS", 2)
    pool, inner = pool_of(5)
    first = [turn(0, f"Opening {number}.") for number in range(3)]
    assert await asked(pool, inner, *first, turn(1, "Opening 0.")) == [[0], [1], [2], [3]]
    assert len(pool._ring._talks) == 2


@pytest.mark.parametrize(
    ("cause", "keys", "rests"),
    [(limited(7.0), [[0, 1], [0, 1]], []), (refused(), [[0, 1], [1]], [(0, "", REFUSED_S)])],
    ids=["limited", "refused"],
)
async def test_counting_uses_a_key_that_does_not_rest(cause, keys, rests):
    """It takes no turn of an answer's; that it is limited itself says nothing of answers."""
    pool, inner = pool_of(2, k0=cause)
    counter = KeyedCounter(inner, pool._ring)
    for used in keys:
        inner.keys.clear()
        assert await counter.count(CHAT) == 42
        assert inner.keys == used
    assert pool._ring.resting() == rests
    inner.failures.clear()
    assert sorted(await asked(pool, inner, CHAT, CHAT)) == ([[1], [1]] if rests else [[0], [1]])


async def test_counting_fails_when_no_key_counts():
    """And then it is estimated."""
    for failures in ({"k0": limited(9.0), "k1": limited(5.0)}, {"k0": failure(500)}):
        pool, inner = pool_of(2, **failures)
        with pytest.raises(UpstreamBusy):
            await KeyedCounter(inner, pool._ring).count(CHAT)
    pool, inner = pool_of(2, k0=limited(9.0), k1=limited(5.0))
    with pytest.raises(UpstreamBusy):
        await collect(pool.chat(CHAT))
    inner.keys.clear()
    with pytest.raises(UpstreamBusy) as caught:
        await KeyedCounter(inner, pool._ring).count(CHAT)
    assert (caught.value.retry_after_s, inner.keys) == (5.0, [])


# ------------------------------------------------------------------------------------------- on the wires

KEYS = ("0f3a9c-first-key-77b1", "0f3a9c-second-key-88c2", "0f3a9c-third-key-99d3")
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def key_of(seen):
    """The place of the key that the provider saw; None if it saw none, or more than one."""
    found = [name for name in ("authorization", "x-api-key", "x-goog-api-key") if name in seen.headers]
    values = [seen.headers[name].removeprefix("Bearer ") for name in found]
    return KEYS.index(values[0]) if len(values) == 1 and values[0] in KEYS else None


def keyed(wire, url):
    made = wire.config(url)
    made["providers"][wire.key]["api_key"] = list(KEYS)
    return Config.model_validate(made)


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_every_provider_sees_the_keys_in_turn(wire):
    """In the header that it reads, and no other key in the same request."""
    async with Upstream() as upstream, running(keyed(wire, upstream.url)) as daemon:
        upstream.reply(wire.stream(Said("Hello")))
        for _ in range(4):
            assert (await ask(daemon.url, "POST", "/api/chat", QUESTION)).status == 200
    assert [key_of(seen) for seen in upstream.requests] == [0, 1, 2, 0]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_keys_that_are_limited_or_refused_are_passed_over(wire, streamed):
    """The client sees only answers; the second key is asked the same at once, and the first not again."""
    asks = []
    async with Upstream() as upstream, running(keyed(wire, upstream.url)) as daemon:
        upstream.reply(
            b'{"error": {"message": "slow down"}}', status=429, headers={**JSON, "retry-after": "60"}
        )
        upstream.reply(b'{"error": {"message": "bad key"}}', status=401)
        upstream.reply(wire.stream(Said("Hello")))
        for _ in range(3):
            upstream.requests.clear()
            got = await ask(daemon.url, "POST", "/api/chat", {**QUESTION, "stream": streamed})
            lines = got.lines if streamed else [got.json]
            assert "".join(line["message"]["content"] for line in lines) == "Hello"
            assert len({seen.body for seen in upstream.requests}) == 1
            asks.append([key_of(seen) for seen in upstream.requests])
    assert asks == [[0, 1, 2], [2], [2]]


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_when_no_key_is_left_the_client_learns_how_long(wire):
    """429 with `Retry-After`, no key in any message, and nobody is asked meanwhile."""
    async with Upstream() as upstream, running(keyed(wire, upstream.url)) as daemon:
        body = json.dumps({"error": {"message": f"{' '.join(KEYS)} are too fast"}}).encode()
        for seconds in ("90", "30", "60"):
            upstream.reply(body, status=429, headers={**JSON, "retry-after": seconds})
        first = await ask(daemon.url, "POST", "/api/chat", QUESTION)
        second = await ask(daemon.url, "POST", "/api/chat", QUESTION)
    assert [key_of(seen) for seen in upstream.requests] == [0, 1, 2]
    for got in (first, second):
        assert got.status == 429
        assert 15 <= int(got.headers["Retry-After"]) <= 30
        assert "x-should-retry" not in got.headers
        assert "too fast" in got.json["error"]
        assert not [key for key in KEYS if key in got.body.decode()]


def as_text(wire, url, **provider):
    made = wire.config(url)
    made["providers"][wire.key] |= {"api_key": list(KEYS), **provider}
    return json.dumps(made)


async def test_rests_outlive_a_reload_that_does_not_touch_the_provider(tmp_path):
    """Status shows them, by place and never by key; a provider that has changed begins anew."""
    wire, path = next(wire for wire in WIRES if wire.name == "chat"), tmp_path / "config.yaml"

    async def keys(daemon):
        got = await ask(daemon.url, "GET", "/v1/providers/status")
        assert not [key for key in KEYS if key in got.body.decode()]
        told = got.json["providers"][0]["keys"]
        return told["usable"], [(rest["key"], rest.get("backend_model")) for rest in told["resting"]]

    async def reloaded(daemon, text):
        before = daemon._gateway
        path.write_text(text)
        while daemon._gateway is before:
            daemon._reload.set()
            await asyncio.sleep(0.01)

    async with Upstream() as upstream, managed(path, text := as_text(wire, upstream.url)) as daemon:
        assert await keys(daemon) == (3, [])
        upstream.reply(b'{"error": {"message": "bad key"}}', status=401)
        upstream.reply(b"{}", status=429, headers={**JSON, "retry-after": "60"})
        upstream.reply(wire.stream(Said("Hello")))
        assert (await ask(daemon.url, "POST", "/api/chat", QUESTION)).status == 200
        resting = (1, [(0, None), (1, wire.model)])
        assert await keys(daemon) == resting
        await reloaded(daemon, text.replace('"name": "m"', '"name": "m", "aliases": ["n"]'))
        assert await keys(daemon) == resting
        upstream.requests.clear()
        assert (await ask(daemon.url, "POST", "/api/chat", {**QUESTION, "model": "n"})).status == 200
        assert [key_of(seen) for seen in upstream.requests] == [2]
        await reloaded(daemon, as_text(wire, upstream.url, headers={"x-more": "1"}))
        assert await keys(daemon) == (3, [])


async def test_tokens_are_counted_with_a_key_that_is_not_refused():
    """Through the daemon: the first key is refused, and the second one counts."""
    body = {**QUESTION, "messages": [{"role": "user", "content": "hi"}]}
    wire = next(wire for wire in WIRES if wire.name == "anthropic")
    async with Upstream() as upstream, running(keyed(wire, upstream.url)) as daemon:
        upstream.reply(b'{"error": {"message": "bad key"}}', status=401)
        upstream.reply(b'{"input_tokens": 4242}', headers=JSON)
        for _ in range(2):
            got = await ask(daemon.url, "POST", "/v1/messages/count_tokens", body)
            assert got.json == {"input_tokens": 4242}
    assert [key_of(seen) for seen in upstream.requests] == [0, 1, 1]


async def test_a_long_rest_is_not_slept_through_by_the_client():
    """Anthropic's SDK would wait for an hour without a word."""
    wire = next(wire for wire in WIRES if wire.name == "chat")
    async with Upstream() as upstream, running(keyed(wire, upstream.url)) as daemon:
        upstream.reply(b"{}", status=429, headers={**JSON, "retry-after": "3600"})
        got = await ask(daemon.url, "POST", "/v1/messages", {**QUESTION, "max_tokens": 9})
    assert (got.status, got.headers["x-should-retry"]) == (429, "false")
    assert 3500 < int(got.headers["Retry-After"]) <= 3600


BACKENDS = [
    (AnthropicBackend, "anthropic", ""),
    (OpenAIBackend, "openai", "/v1"),
    (GoogleBackend, "google", ""),
    (OllamaBackend, "ollama", ""),
]


@pytest.mark.parametrize(
    ("backend", "kind", "base"), BACKENDS, ids=lambda one: one if isinstance(one, str) else ""
)
@pytest.mark.parametrize("key", [0, 2])
async def test_counting_and_embedding_use_the_requests_key(backend, kind, base, key, monkeypatch):
    """As chats do, whatever the path."""
    monkeypatch.setattr("ollama_bridge.backends.openai.is_openai", lambda _: True)
    rules = Rules(api="responses")
    chat = ChatRequest("m", (Message("user", "hi"),), target=Target(kind, "m", rules=rules), key=key)
    async with Upstream() as upstream:
        made = backend(ProviderSettings(kind, kind, KEYS, upstream.url + base))
        upstream.reply(b'{"error": {"message": "no"}}', status=500)
        for verb, request in (("count", chat), ("embed", EmbedRequest("m", ("x",), key=key))):
            if call := getattr(made, verb, None):
                with pytest.raises(UpstreamBroken):
                    await call(request)
        await made.aclose()
    assert upstream.requests
    assert {key_of(seen) for seen in upstream.requests} == {key}


@pytest.mark.parametrize(
    ("backend", "kind", "base"), BACKENDS, ids=lambda one: one if isinstance(one, str) else ""
)
async def test_a_key_in_the_operators_own_headers_stays(backend, kind, base):
    """What `headers` of the provider says about the key, it says about all keys."""
    name = "X-Goog-Api-Key" if kind == "google" else "Authorization"
    chat = ChatRequest("m", (Message("user", "hi"),), target=Target(kind, "m"), key=1)
    async with Upstream() as upstream:
        made = backend(ProviderSettings(kind, kind, KEYS, upstream.url + base, headers={name: "mine"}))
        upstream.reply(b'{"error": {"message": "no"}}', status=500)
        with pytest.raises(UpstreamBroken):
            await collect(made.chat(chat))
        await made.aclose()
    assert "mine" in upstream.requests[0].headers[name.lower()]


async def test_the_typed_path_of_google_uses_the_requests_key(monkeypatch):
    """The SDK's public path, which serves when its lower one is not known."""
    monkeypatch.setattr("ollama_bridge.backends.google.lower_path_misfit", lambda _: "a test")
    chat = ChatRequest("m", (Message("user", "hi"),), target=Target("google", "m"), key=1)
    async with Upstream() as upstream:
        made = GoogleBackend(ProviderSettings("google", "google", KEYS, upstream.url))
        upstream.reply(b'{"error": {"message": "no"}}', status=500)
        for asking in (collect(made.chat(chat)), made.embed(EmbedRequest("m", ("x",), key=1))):
            with pytest.raises(UpstreamBroken):
                await asking
        await made.aclose()
    assert [key_of(seen) for seen in upstream.requests] == [1, 1]
