"""Recorded lists, shows, downloads and refused lists, through the running daemon: what is no answer of a model.

Those of a real Ollama are replayed by one that answers with the recording where it is asked for that, and else lists
the models that the recording names.
"""

import json

import pytest

import recorded
from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.lazy import LazyProvider
from ollama_bridge.config import Config
from ollama_bridge.discovery import ask as asked_for_models
from ollama_bridge.facts import Listed
from ollama_bridge.lists import Shelf
from recorded import Recording, recordings, wire_of
from running import ask, running
from upstream import Script, Upstream, split_at_random

pytestmark = pytest.mark.skipif(not recorded.IS_HERE, reason="../shared/recordings is not here")

JSON = {"content-type": "application/json; charset=utf-8"}
CONFIG = {"server": {"port": 0}, "retry": {"max_retries": 0}}


def of(*apis: str) -> pytest.MarkDecorator:
    found = [one for one in recordings() if one.api in apis]
    return pytest.mark.parametrize("one", found, ids=lambda one: one.name)


def names(one: Recording) -> list[str]:
    """Of the models that a recording is about."""
    body = one.content["request"].get("body") or {}
    if asked := body.get("model") or body.get("name"):
        return [asked]
    return [row["name"] for row in json.loads(one.response["body"]).get("models", [])]


class Real(Upstream):
    """A real Ollama at the time of the recording."""

    def __init__(self, one: Recording) -> None:
        super().__init__(self._answered)
        self.has = None
        self._one = one

    def _answered(self, seen):
        sent = self._one.response["body"]
        if seen.path == self._one.content["request"]["path"]:
            if self._one.content["stream"] and seen.json.get("stream") is False:
                return Script([sent.splitlines()[-1].encode()], headers=JSON)
            pieces = split_at_random(sent.encode(), seed=len(sent))
            return Script(pieces, self._one.status, self._one.response["headers"])
        if seen.path == "/api/tags":
            rows = [{"name": name, "model": name} for name in names(self._one)]
            return Script([json.dumps({"models": rows}).encode()], headers=JSON)
        return Script([b'{"error":"not recorded"}'], 404, JSON)

    def config(self) -> Config:
        return Config.model_validate({**CONFIG, "providers": {"ollama": {"base_url": self.url}}})


def posts(real: Real, path: str) -> list[object]:
    return [seen.json for seen in real.requests if seen.path == path]


@of("ollama.tags")
async def test_a_list(one):
    """The same rows in the same order, down to every member; the names are real ones and stay."""
    async with Real(one) as real, running(real.config()) as daemon:
        got = await ask(daemon.url, "GET", "/api/tags")
    assert (got.status, got.headers["Content-Type"]) == (200, JSON["content-type"])
    assert got.json == json.loads(one.response["body"])


@of("ollama.ps")
async def test_what_is_loaded(one):
    """The same rows; who does not want to tell has nothing loaded, and no client is asked to sign in for that."""
    async with Real(one) as real, running(real.config()) as daemon:
        await ask(daemon.url, "GET", "/api/tags")
        got = await ask(daemon.url, "GET", "/api/ps")
        assert "/api/ps" in [seen.path for seen in real.requests]
    assert (got.status, got.headers["Content-Type"]) == (200, JSON["content-type"])
    assert got.json == ({"models": []} if one.is_error else json.loads(one.response["body"]))


@of("ollama.show")
async def test_a_model_that_is_shown(one):
    """To the byte, for who asks by `model` as for who asks by the old `name`."""
    (name,) = names(one)
    async with Real(one) as real, running(real.config()) as daemon:
        for key in ("model", "name"):
            got = await ask(daemon.url, "POST", "/api/show", {key: name})
            assert (got.status, got.headers["Content-Type"]) == (200, one.response["headers"]["content-type"])
            assert got.body.decode() == one.response["body"]
        assert posts(real, "/api/show")[-1]["model"] == name


@of("ollama.pull")
@pytest.mark.parametrize("how", [{}, {"stream": True}, {"stream": False}], ids=["plain", "streamed", "whole"])
async def test_a_download(one, how):
    """Its progress to the byte, or the last word of it, as it was asked for."""
    (name,) = names(one)
    async with Real(one) as real, running(real.config()) as daemon:
        got = await ask(daemon.url, "POST", "/api/pull", {"model": name, **how})
    assert posts(real, "/api/pull") == [{"model": name, **how}]
    assert got.status == 200
    if how.get("stream") is False:
        assert got.json == json.loads(one.response["body"].splitlines()[-1])
    else:
        assert got.headers["Content-Type"] == one.response["headers"]["content-type"]
        assert got.body.decode() == one.response["body"]


@of("ollama.version")
async def test_the_version_is_the_bridges_own(one):
    """Whatever the one behind is, clients get what the bridge's wire is; in the same form, which is all they read."""
    async with Real(one) as real, running(real.config()) as daemon:
        got = await ask(daemon.url, "GET", "/api/version")
        assert "/api/version" not in [seen.path for seen in real.requests]
    there, here = json.loads(one.response["body"]), got.json
    assert here.keys() == there.keys()
    assert [int(part) for part in here["version"].split(".")] >= [
        int(part) for part in there["version"].split(".")
    ]


@pytest.mark.parametrize(
    "one",
    [one for one in recordings() if one.is_error and one.api.endswith((".models", ".ps"))],
    ids=lambda one: one.name,
)
async def test_a_refused_list(one):
    """The error names the provider; what it said before stays known, and it is asked again some time."""
    wire = wire_of(one.api)
    entry, base = recorded.WIRES[wire]
    before = Shelf(asked_s=1.0, models={"kept": Listed("kept")})
    async with Upstream() as upstream:
        upstream.has = None
        one.serve(upstream, "models")
        config = Config.model_validate(
            {**CONFIG, "providers": {"acme": {**entry, "api_key": "k-test", "base_url": upstream.url + base}}}
        )
        provider = LazyProvider(
            ProviderSettings("acme", entry["kind"], api_keys=("k-test",), base_url=upstream.url + base)
        )
        try:
            outcome = await asked_for_models(config, "acme", provider, before, now_s=2.0)
        finally:
            await provider.aclose()
    assert outcome.shelf.models == before.models
    assert (outcome.shelf.failures, outcome.shelf.failed_s) == (1, 2.0)
    assert outcome.error.startswith("acme: ")
    assert "k-test" not in outcome.error + outcome.shown
