"""Lists and facts of models before readers that forgive nothing, as clients have them that cannot be run here.

Each is a small model of a client's own: what it demands, with its types. `clients.md` names the sources.
"""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, JsonValue, TypeAdapter

from ollama_bridge.catalog import catalogue_models
from ollama_bridge.config import Config
from running import ask, running
from strict import Count, Moment, Strict
from upstream import Upstream
from wires import WIRES, Said

USER = [{"role": "user", "content": "Hi"}]
TEXT = "Two\nlines, “quoted” & 👩‍🚀."

KOOGS_CAPABILITIES = Literal["audio", "completion", "embedding", "insert", "vision", "thinking", "tools"]


class KoogDetails(Strict):
    format: str
    family: str
    parameter_size: str
    families: list[str] | None = None
    quantization_level: str | None = None


class KoogTag(Strict):
    name: str
    model: str
    size: int
    modified_at: str
    digest: str
    details: KoogDetails | None = None


class KoogShow(Strict):
    capabilities: list[KOOGS_CAPABILITIES]  # a value more, and its whole list fails
    details: KoogDetails
    model_info: dict[str, JsonValue]


class OpencodeDetails(Strict):
    """Effect Schema: absent or an array, absent or a string; null is neither."""

    format: str
    family: str
    parameter_size: str
    quantization_level: str
    families: list[str] = Field(default_factory=list)
    parent_model: str = ""


class OpencodeTag(Strict):
    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: OpencodeDetails


class OpencodeShow(Strict):
    """All optional, none null."""

    license: str = ""
    modelfile: str = ""
    parameters: str = ""
    template: str = ""
    system: str = ""
    details: OpencodeDetails
    model_info: dict[str, JsonValue]
    capabilities: list[str]


class ZedDetails(Strict):
    format: str
    family: str
    parameter_size: str
    quantization_level: str
    families: list[str] | None = None


class ZedTag(Strict):
    """serde, without defaults; one bad entry is an error of all."""

    name: str
    modified_at: str
    size: Count
    digest: str
    details: ZedDetails


class ZedShow(Strict):
    capabilities: list[str] = Field(default_factory=list)


class RooDetails(Strict):
    """zod: `.optional()` is not `.nullable()`."""

    family: str
    parameter_size: str
    families: list[str] | None = None
    format: str = ""
    parent_model: str = ""
    quantization_level: str = ""


class RooTag(Strict):
    name: str
    model: str
    details: RooDetails


class RooShow(Strict):
    details: RooDetails
    model_info: dict[str, JsonValue]
    capabilities: list[str] = Field(default_factory=list)


class OllamaKitShow(Strict):
    license: str
    modelfile: str
    parameters: str
    template: str
    details: ZedDetails
    modified_at: Moment


class JavaTag(Strict):
    """langchain4j, Spring AI and OllamaSharp: dates with a zone, sizes as a long."""

    name: str
    model: str
    modified_at: Moment
    size: Annotated[int, Field(ge=1, lt=2**63)]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


TAGS = {"koog": KoogTag, "opencode": OpencodeTag, "zed": ZedTag, "roo": RooTag, "java": JavaTag}
SHOWS = {
    "koog": KoogShow,
    "opencode": OpencodeShow,
    "zed": ZedShow,
    "roo": RooShow,
    "ollamakit": OllamaKitShow,
}


@pytest.fixture(scope="module")
def everything():
    """All built-in models of all providers, and some of an operator's own."""
    unreachable = {"api_key": "k-test", "base_url": "http://127.0.0.1:9"}
    providers = dict.fromkeys(("anthropic", "openai", "google"), unreachable)
    bare = {"name": "of/my.own:7b", "backend": "acme", "backend_model": "x"}
    built_in = [model for name in (*providers, "demo") for model in catalogue_models(name, name)]
    return Config.model_validate(
        {
            "server": {"port": 0},
            "providers": {**providers, "acme": {"kind": "openai", **unreachable}, "demo": {}},
            "models": [
                bare,
                {**bare, "name": "fills", "capabilities": ["completion", "insert"], "aliases": ["fill-in"]},
                {**bare, "name": "embeds", "capabilities": ["embedding"]},
                {**bare, "name": "big", "context_length": 1_048_576, "display_name": "Big — 大"},
                *(model.model_dump() for model in built_in),
            ],
        }
    )


@pytest.fixture
async def known(everything):
    """What the daemon says of all of them: `(tags, {name: show})`."""
    async with running(everything) as daemon:
        tags = (await ask(daemon.url, "GET", "/api/tags")).json["models"]
        shows = [await ask(daemon.url, "POST", "/api/show", {"model": tag["model"]}) for tag in tags]
    return tags, {tag["model"]: show.json for tag, show in zip(tags, shows, strict=True)}


@pytest.mark.parametrize("reader", TAGS)
def test_the_list_is_read_by(reader, known):
    """No entry fails, since one would take all the others with it."""
    tags, _ = known
    assert len(tags) > 20
    TypeAdapter(list[TAGS[reader]]).validate_json(json.dumps(tags))


@pytest.mark.parametrize("reader", SHOWS)
def test_each_model_is_read_by(reader, known):
    """Every model's facts, by the client's own types."""
    for show in known[1].values():
        SHOWS[reader].model_validate_json(json.dumps(show))


def context_length(info: dict[str, Any]) -> Any:
    """As Roo, LiteLLM and opencode find it: the first key that ends so."""
    return next(value for key, value in info.items() if key.endswith("context_length"))


def test_names_and_digests_tell_models_apart(known):
    """`name` and `model` the same and tagged; digests of 64 digits, unique, else `llm` makes aliases of them."""
    tags, shows = known
    assert all(tag["name"] == tag["model"] and ":" in tag["name"].rpartition("/")[2] for tag in tags)
    assert len({tag["digest"] for tag in tags}) == len({tag["name"] for tag in tags}) == len(tags)
    for tag in tags:
        assert not tag["name"].endswith((":cloud", "-cloud")), "the CLI would ask for an account"
        if "completion" in tag["capabilities"]:
            assert "-embed" not in tag["name"], "Zed hides it"
    names = [show["model_info"]["general.basename"] for show in shows.values()]
    assert len(set(names)) == len(names), "what VS Code shows"


def test_each_model_says_what_koog_and_code_companion_compute_with(known):
    """`general.architecture` is the family, and leads to both lengths, as numbers."""
    for name, show in known[1].items():
        info, family = show["model_info"], show["details"]["family"]
        assert info["general.architecture"] == family
        for key in ("context_length", "embedding_length"):
            assert type(info[f"{family}.{key}"]) is int, name
            assert info[f"{family}.{key}"] > 0
        assert context_length(info) == info[f"{family}.context_length"]
        assert type(info["general.parameter_count"]) is int


def test_continue_and_litellm_find_words_in_texts(known):
    """`num_ctx` in the parameters, `.Suffix` and `tools` in the template exactly where the model can."""
    for show in known[1].values():
        [window] = re.findall(r"^num_ctx\s+(\d+)$", show["parameters"], flags=re.MULTILINE)
        assert int(window) == context_length(show["model_info"])
        assert (".Suffix" in show["template"]) == ("insert" in show["capabilities"])
        assert ("tools" in show["template"].lower()) == ("tools" in show["capabilities"])


async def test_vs_code_makes_its_four_calls():
    """Version, list, facts of each, and a chat on /v1 with an empty bearer; in mid-discovery no provider is asked."""
    wire, headers = WIRES[0], {"Authorization": "Bearer ", "User-Agent": "GitHubCopilotChat/0.30.0"}
    async with Upstream() as upstream:
        upstream.reply(wire.stream(Said(TEXT)))
        async with running(Config.model_validate(wire.config(upstream.url))) as daemon:
            version = (await ask(daemon.url, "GET", "/api/version", headers=headers)).json["version"]
            [model] = (await ask(daemon.url, "GET", "/api/tags", headers=headers)).json["models"]
            show = (await ask(daemon.url, "POST", "/api/show", {"model": model["model"]}, headers)).json
            assert upstream.requests == []
            body = {
                "model": model["model"],
                "messages": [{"role": "system", "content": "Be brief."}, *USER],
                "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            got = await ask(daemon.url, "POST", "/v1/chat/completions", json.dumps(body), headers)
    assert tuple(map(int, version.split("."))) >= (0, 6, 4)
    assert {"tools", "vision"} <= set(show["capabilities"])
    assert show["model_info"]["general.basename"] == model["model"]
    assert context_length(show["model_info"]) > 4096
    assert got.status == 200
    assert got.headers["Content-Type"].startswith("text/event-stream")
    events = list(events_of(got.chunks))
    assert events.pop() == b"[DONE]"
    chunks = [json.loads(event) for event in events]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["prompt_tokens"] == 11
    content = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(content) == TEXT


def events_of(chunks: Sequence[bytes]):
    """The data of each event; every write holds whole events."""
    for chunk in chunks:
        assert chunk.endswith(b"\n\n")
        for event in chunk[:-2].split(b"\n\n"):
            yield event.removeprefix(b"data: ")
