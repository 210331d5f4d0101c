"""Names of models through every endpoint: `ollama-api.md` §4.1 and §5 over real sockets."""

import json
from urllib.parse import quote

import pytest

from contract_asking import ENDPOINTS, configured, without_id
from running import ask, running
from spellings import INVALID, SPELLINGS, TWO_SOURCES, UNKNOWN, VALID

each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=str)


def both():
    """Models that answer and embed, so that every endpoint may be asked for each."""
    names = [*VALID, "plain"]
    return configured({name: ["completion", "embedding"] for name in names})


@each_endpoint
async def test_every_spelling_finds_the_model_and_comes_back_as_it_was(endpoint, subtests):
    """Whatever its case, with what may be left out; the reply repeats it letter for letter (§9, 7).

    /api/embeddings too: a real server minds the case there, which helps nobody.
    """
    asked = [*VALID, *VALID.values(), *(spelled for some in SPELLINGS.values() for spelled in some)]
    async with running(both()) as daemon:
        for name in asked:
            with subtests.test(name[:60]):
                got = await ask(daemon.url, "POST", endpoint.path, endpoint.body(model=name))
                assert got.status == 200
                if endpoint.echo:
                    assert got.json[endpoint.echo] == name


@each_endpoint
async def test_no_name_beyond_the_grammar_is_looked_for(endpoint, subtests):
    """400 and the same two words everywhere, however odd the name is."""
    async with running(both()) as daemon:
        for name in INVALID:
            with subtests.test(name[:60]):
                got = await ask(daemon.url, "POST", endpoint.path, endpoint.body(model=name))
                assert (got.status, without_id(got.body).rstrip("\n")) == (
                    400,
                    endpoint.told(400, "invalid model name"),
                )


NOT_FOUND = "model '{name}' not found"
PULL = 'model "{name}" not found, try pulling it first'
WORDS = {
    "/api/show": "model '{full}' not found",
    "/api/embed": PULL,
    "/api/embeddings": PULL,
    "/v1/embeddings": PULL,
}
"""What an unknown model is told, where it is not `NOT_FOUND` (§4.1): do not unify."""


@each_endpoint
async def test_an_unknown_model_is_told_in_the_endpoints_own_words(endpoint, subtests):
    """404; most show the name as it was sent, /api/show the whole of it (§9, 8)."""
    words = WORDS.get(endpoint.path, NOT_FOUND)
    async with running(both()) as daemon:
        for name, full in UNKNOWN.items():
            with subtests.test(name):
                got = await ask(daemon.url, "POST", endpoint.path, endpoint.body(model=name))
                expected = endpoint.told(404, words.format(name=name, full=full))
                assert (got.status, without_id(got.body).rstrip("\n")) == (404, expected)


@each_endpoint
async def test_two_sources_exclude_each_other(endpoint):
    """400 on all of them."""
    async with running(both()) as daemon:
        for name in TWO_SOURCES:
            got = await ask(daemon.url, "POST", endpoint.path, endpoint.body(model=name))
            words = f'use either :local or :cloud, not both: "{name}"'
            assert (got.status, without_id(got.body).rstrip("\n")) == (400, endpoint.told(400, words))


async def test_lists_show_the_shortest_name_always_with_its_tag():
    """`name` is `model` is the id of /v1/models, its owner the namespace; the case is as configured (§1.2, §7.4)."""
    async with running(both()) as daemon:
        for endpoint in ENDPOINTS[:1]:
            for name in VALID:
                await ask(daemon.url, "POST", endpoint.path, {"model": name})
        tags, ps, v1 = [
            (await ask(daemon.url, "GET", path)).json for path in ("/api/tags", "/api/ps", "/v1/models")
        ]
    shown = {*VALID.values(), "plain:latest"}
    assert {one["name"] for one in tags["models"]} == {one["id"] for one in v1["data"]} == shown
    assert {one["name"] for one in ps["models"]} == set(VALID.values())
    assert all(one["name"] == one["model"] for one in (*tags["models"], *ps["models"]))
    owners = {one["id"]: one["owned_by"] for one in v1["data"]}
    assert owners["plain:latest"] == "library"
    assert owners["anthropic/claude-3.5-sonnet:latest"] == "anthropic"
    assert owners["hf.co/u/Model-GGUF:Q4_K_M"] == "u"


async def test_one_model_of_v1_by_any_name(subtests):
    """As asked for; an unknown one shows its tag. A real server takes one segment only: `%2F` helps here (§9, 54)."""
    async with running(both()) as daemon:

        async def of(name):
            return await ask(daemon.url, "GET", "/v1/models/" + quote(name, safe=""))

        for name in (*VALID, *(spelled for some in SPELLINGS.values() for spelled in some)):
            with subtests.test(name[:60]):
                got = await of(name)
                assert (got.status, got.json["id"]) == (200, name)
        for name in INVALID:
            with subtests.test(name[:60]):
                got = await of(name)
                assert (got.status, got.json["error"]["message"]) == (400, "invalid model name")
        got = await of("Nope")
        assert (got.status, got.json["error"]["message"]) == (404, "model 'Nope:latest' not found")
        assert (got.json["error"]["type"], got.headers["Content-Type"]) == (
            "not_found_error",
            "application/json",
        )


@pytest.mark.parametrize("name", INVALID)
async def test_no_odd_name_is_made_or_removed(name):
    """Each verb says so in its own words (§4.1), and nothing changes; a push says it in its stream."""
    shown = json.dumps(name, ensure_ascii=False)[1:-1]
    async with running(both()) as daemon:

        async def told(method, path, **body):
            got = await ask(daemon.url, method, path, body)
            return got.status, got.json["error"]

        before = (await ask(daemon.url, "GET", "/api/tags")).body
        assert await told("DELETE", "/api/delete", model=name) == (400, f'name "{_go(shown)}" is invalid')
        for source, destination, which in ((name, "x", "source"), ("plain", name, "destination")):
            words = f'{which} "{_go(shown)}" is invalid'
            assert await told("POST", "/api/copy", source=source, destination=destination) == (400, words)
        for path in ("/api/create", "/api/pull"):
            assert await told("POST", path, model=name, **{"from": "plain"}) == (400, "invalid model name")
        assert (await ask(daemon.url, "GET", "/api/tags")).body == before


def _go(shown):
    r"""As Go's `%q` has what JSON writes otherwise."""
    return shown.replace(r"\u0000", r"\x00")
