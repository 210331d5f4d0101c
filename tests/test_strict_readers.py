"""Readers that forgive nothing, as clients have them that cannot be run here; `clients.md` names the sources.

Each is a small model of a client's own: what it demands, with its types, where null is not absence.
"""

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from ollama_bridge.config import Config
from ollama_bridge.registry import catalogue_models
from running import ask, running
from upstream import Upstream, split_at_random
from wires import WIRES, Said

ON_EVERY_WIRE = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


class Strict(BaseModel):
    """No coercion; keys that are not named may come."""

    model_config = ConfigDict(strict=True, frozen=True)


class Closed(Strict):
    """And no key that is not named."""

    model_config = ConfigDict(extra="forbid")


def _zoned(text: str) -> str:
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo is not None, "OffsetDateTime, Instant and Go's time.Time demand a zone"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", text)
    return text


Moment = Annotated[str, AfterValidator(_zoned)]
Count = Annotated[int, Field(ge=0)]


# --- Lines of an answer: what is absent in Ollama's is never null -------------------------------------------------


class Called(Closed):
    index: Count
    name: str
    arguments: dict[str, JsonValue]  # an object, for ollama-python, LangChain, LlamaIndex and langchain4j


class ToolCall(Closed):
    id: str
    function: Called


class SaidNow(Closed):
    role: Literal["assistant"]
    content: str  # always there: koog, Zed, ollama-ai-provider-v2
    thinking: str = ""
    tool_calls: Annotated[
        list[ToolCall], Field(min_length=1, max_length=1)
    ] = []  # llm.el reads but the first


class Metrics(Closed):
    done: Literal[True]
    done_reason: Literal["stop", "length"]
    total_duration: Count
    load_duration: Count
    prompt_eval_count: Count
    prompt_eval_duration: Count
    eval_count: Count
    eval_duration: Count


class ChatLine(Closed):
    model: str
    created_at: Moment
    message: SaidNow
    done: Literal[False]


class SaidLast(SaidNow):
    content: Literal[""]


class ChatEnd(Metrics):
    model: str
    created_at: Moment
    message: SaidLast


class GenerateLine(Closed):
    model: str
    created_at: Moment
    response: str
    thinking: str = ""
    done: Literal[False]


class GenerateEnd(Metrics):
    model: str
    created_at: Moment
    response: Literal[""]
    context: list[int] = []


class SaidWhole(SaidNow):
    tool_calls: list[ToolCall] = []


class ChatWhole(Metrics):
    model: str
    created_at: Moment
    message: SaidWhole


class GenerateWhole(Metrics):
    model: str
    created_at: Moment
    response: str
    thinking: str = ""
    context: list[int] = []


class Failure(Closed):
    error: Annotated[str, Field(min_length=1)]


ORDER = (
    *("model", "created_at", "message", "response", "thinking", "done", "done_reason", "context"),
    *("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration"),
    *("eval_count", "eval_duration"),
)
"""Of the keys of a line. Readers that take the second key of a call for its function also take `model` for the first."""

CALLS = (("get_weather", {"city": "Paris <&>"}), ("get_weather", {"city": "Rome"}))
DEEP = Said("Two\nlines, “quoted” & 👩‍🚀.", thinking="hm, so it is", calls=CALLS)
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
USER = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "m", "messages": USER, "tools": TOOLS, "think": True}
GENERATE = {"model": "m", "prompt": "Hi", "think": True}
PLAIN = Said("Two\nlines, “quoted” & 👩‍🚀.", thinking="hm, so it is")


async def answered(wire, path, body, said=PLAIN, seed=1, cut=None, **how):
    """What the daemon says when the model says so; `cut` bytes of it."""
    async with Upstream() as upstream:
        stream = wire.stream(said)[:cut]
        upstream.reply(split_at_random(stream, seed), **how)
        async with running(Config.model_validate(wire.config(upstream.url))) as daemon:
            return await ask(daemon.url, "POST", path, json.dumps(body))


def lines_of(chunk: bytes) -> list[bytes]:
    """What ollama-rs parses of one chunk, without the ones around it."""
    assert chunk.endswith(b"\n"), "a line must not be spread over two writes"
    lines = chunk[:-1].split(b"\n")
    assert all(lines), "a blank line is an error to ollama-python, LangChain, Zed and OllamaSharp"
    return lines


def in_order(line: bytes) -> None:
    keys = list(json.loads(line))
    assert keys == sorted(keys, key=ORDER.index)
    assert b"null" not in line


@ON_EVERY_WIRE
@pytest.mark.parametrize(
    ("path", "body", "said", "one", "last"),
    [
        ("/api/chat", CHAT, DEEP, ChatLine, ChatEnd),
        ("/api/generate", GENERATE, PLAIN, GenerateLine, GenerateEnd),
    ],
    ids=["chat", "generate"],
)
async def test_every_line_is_whole_closed_and_typed(wire, path, body, said, one, last):
    """Each write holds whole lines; every line has the keys of its kind and no other, in order; metrics come last."""
    got = await answered(wire, path, body, said)
    assert got.headers["Content-Type"] == "application/x-ndjson"
    lines = [line for chunk in got.chunks for line in lines_of(chunk)]
    assert len(lines) > 3
    for line in lines:
        in_order(line)
    for line in lines[:-1]:
        one.model_validate_json(line)
    last.model_validate_json(lines[-1])


@ON_EVERY_WIRE
async def test_the_second_key_of_a_call_is_its_function(wire):
    """`{"id":…,"function":{…}}` and nothing else, in this order: llm.el takes the second key, whatever it is."""
    got = await answered(wire, "/api/chat", CHAT, DEEP)
    calls = [line for line in got.lines if "tool_calls" in line["message"]]
    assert len(calls) == len(CALLS)
    for number, line in enumerate(calls):
        [call] = line["message"]["tool_calls"]
        assert list(call) == ["id", "function"]
        assert list(call["function"]) == ["index", "name", "arguments"]
        assert call["function"]["index"] == number
        assert line["message"]["content"] == ""
    assert len({line["message"]["tool_calls"][0]["id"] for line in calls}) == len(calls)


@ON_EVERY_WIRE
@pytest.mark.parametrize(
    ("path", "body", "said", "whole"),
    [
        ("/api/chat", CHAT, DEEP, ChatWhole),
        ("/api/generate", GENERATE, PLAIN, GenerateWhole),
    ],
    ids=["chat", "generate"],
)
async def test_the_whole_answer_is_as_strict(wire, path, body, said, whole):
    """`stream: false`: one object of the type that older koogs demand, with all metrics as integers."""
    got = await answered(wire, path, {**body, "stream": False}, said)
    assert got.headers["Content-Type"] == "application/json; charset=utf-8"
    in_order(got.body)
    whole.model_validate_json(got.body)


@ON_EVERY_WIRE
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_a_failure_in_mid_stream_is_one_line_and_the_last(wire, path):
    """After good lines one `{"error": "…"}`, in a write of whole lines, and nothing behind it."""
    body = CHAT if path == "/api/chat" else GENERATE
    half = len(wire.stream(PLAIN)) * 2 // 3
    got = await answered(wire, path, body, cut=half, then="cut")
    assert got.status == 200
    lines = [line for chunk in got.chunks for line in lines_of(chunk)]
    assert len(lines) > 1
    for line in lines[:-1]:
        (ChatLine if path == "/api/chat" else GenerateLine).model_validate_json(line)
    Failure.model_validate_json(lines[-1])


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 529])
async def test_a_failure_before_the_first_word_never_asks_for_a_sign_in(status):
    """`{"error": "…"}` with a status; 401 and 403 of a provider would make the CLI say "sign in to Ollama"."""
    async with Upstream() as upstream:
        upstream.reply(json.dumps({"error": {"message": "no"}}).encode(), status=status)
        config = Config.model_validate(WIRES[0].config(upstream.url))
        async with running(config) as daemon:
            got = await ask(daemon.url, "POST", "/api/chat", json.dumps(CHAT))
    assert got.status >= 400
    assert got.status not in {401, 403}
    assert got.headers["Content-Type"].startswith("application/json")
    Failure.model_validate_json(got.body)


# --- Lists and facts of models ------------------------------------------------------------------------------------

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
    families: list[str] = []
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
    capabilities: list[str] = []


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
    capabilities: list[str] = []


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


# --- VS Code Copilot: four calls ----------------------------------------------------------------------------------


async def test_vs_code_makes_its_four_calls():
    """Version, list, facts of each, and a chat on /v1 with an empty bearer; in mid-discovery no provider is asked."""
    wire, headers = WIRES[0], {"Authorization": "Bearer ", "User-Agent": "GitHubCopilotChat/0.30.0"}
    async with Upstream() as upstream:
        upstream.reply(wire.stream(PLAIN))
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
    assert "".join(content) == PLAIN.text


def events_of(chunks: Sequence[bytes]):
    """The data of each event; every write holds whole events."""
    for chunk in chunks:
        assert chunk.endswith(b"\n\n")
        for event in chunk[:-2].split(b"\n\n"):
            yield event.removeprefix(b"data: ")
