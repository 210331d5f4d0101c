"""Every vendor's row: what one rich request looks like on its wire, and what its key in the environment brings.

`vendors.json` holds what is expected of each: bodies that the rows once made, read against the documentation that it
names (or, where that says nothing, against what others found out). The bodies that they make now must be those, to the
last member.
"""

import itertools
import json
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from ollama_bridge import prices
from ollama_bridge.backends import ProviderSettings, fim, openai_embeddings
from ollama_bridge.backends.openai import OpenAIBackend
from ollama_bridge.backends.vendors import VENDORS, vendor_kind
from ollama_bridge.catalog import ModelConfig, complete, facts_for
from ollama_bridge.chat import ChatRequest, EmbedRequest, Image, Message, Tool, ToolChoice
from ollama_bridge.cli import main
from ollama_bridge.errors import UpstreamRejected
from ollama_bridge.events import ToolCall
from ollama_bridge.history import short_id
from ollama_bridge.names import parse_name
from openai_asking import HELLO, ask, recorded, recordings, said, thought
from upstream import Script, Upstream, split_at_random, sse

EXPECTED = json.loads((Path(__file__).parent / "vendors.json").read_text(encoding="utf-8"))
KEY = "sk-test-0123456789abcdef"

PIXEL = Image("iVBORw0KGgo=", "image/png")
LOOK = Tool("look", "Look there.", {"type": "object", "properties": {"where": {"type": "string"}}})
SCHEMA = {"type": "object", "properties": {"animal": {"type": "string"}}, "required": ["animal"]}
OPTIONS = {
    "temperature": 1.8,
    "top_p": 1.0,
    "seed": 7,
    "stop": ["END", "HALT"],
    "presence_penalty": -0.5,
    "repeat_penalty": 1.1,
    "top_k": 40,
    "num_predict": 10**7,
}

FOLDERS = {
    "groq": "groq",
    "openrouter": "openrouter",
    "xai": "xai",
    "mistral": "mistral",
    "deepseek": "deepseek",
    "zai": "zai",
    "bigmodel": "zai",
    "huggingface": "huggingface",
    "perplexity": "perplexity",
    "together": "together",
    "dashscope": "alibaba",
    "llamacpp": "llamacpp",
    "vercel": "vercel_gateway",
}
"""Where a vendor's recordings lie."""

CHAT = sse({"choices": [{"delta": {"content": "Yes."}, "finish_reason": "stop"}]}, done=True)
RESPONSES = sse(
    {"type": "response.output_text.delta", "delta": "Yes."},
    {"type": "response.completed", "response": {}},
)

each = pytest.mark.parametrize("kind", VENDORS)


def richest(kind):
    """The first of a vendor's models that can do most; of a server of one's own, any that can do all."""
    able = sorted(VENDORS[kind].models, key=lambda facts: -len(set(facts.capabilities) - {"insert"}))
    if not able:
        return complete(
            ModelConfig(
                name="local", backend=kind, capabilities=("completion", "tools", "vision", "thinking")
            ),
            kind=kind,
        )
    return complete(ModelConfig(name="m", backend=kind, backend_model=able[0].id), kind=kind)


def rich_request(kind, think):
    """A picture, tools, a call of another provider's with its result, thoughts, a schema, options, two users in a row."""
    model = richest(kind)
    images = (PIXEL,) if "vision" in model.capabilities else ()
    call = ToolCall("toolu_01Bridge", "look", {"where": "there"})
    tools = "tools" in model.capabilities
    history = (
        Message("assistant", "", "I should look.", tool_calls=(call,)),
        Message("tool", "A cat.", tool_call_id="toolu_01Bridge", tool_name="look"),
    )
    return ChatRequest(
        "m",
        (
            Message("system", "Be brief."),
            Message("user", "What is there?", images=images),
            *(history if tools else ()),
            Message("user", "Well?"),
            Message("user", "Say it."),
        ),
        tools=(LOOK,) if tools else (),
        tool_choice=ToolChoice("required") if tools else None,
        parallel_tool_calls=False if tools else None,
        format=SCHEMA,
        think=think,
        options=OPTIONS,
        target=model.target,
    )


@asynccontextmanager
async def at_loopback(kind, upstream):
    """The vendor's backend, sent to loopback with the path of its real address."""
    path = urlsplit(VENDORS[kind].base_url.format(account="acc0unt")).path
    backend = OpenAIBackend(ProviderSettings(kind, kind, (KEY,), upstream.url + path))
    try:
        yield backend
    finally:
        await backend.aclose()


async def sent(kind, think):
    """What one rich request looks like on the wire."""
    model = richest(kind)
    async with Upstream() as upstream, at_loopback(kind, upstream) as backend:
        upstream.reply(RESPONSES if model.target.rules.api == "responses" else CHAT)
        assert said(await ask(backend, rich_request(kind, think))) == "Yes."
    (seen,) = upstream.requests
    return seen


def test_every_row_has_an_expectation_and_every_expectation_a_row():
    """Who adds a vendor writes down what its requests look like, and where that is documented."""
    assert set(EXPECTED) == set(VENDORS)
    assert all(one["source"].startswith("https://") for one in EXPECTED.values())


@each
async def test_one_rich_request(kind):
    """URL, headers and the whole body are what the vendor's documentation has."""
    expected = EXPECTED[kind]
    assert VENDORS[kind].base_url == expected["url"]
    seen = await sent(kind, None)
    base = urlsplit(expected["url"].format(account="acc0unt")).path
    assert (seen.method, seen.path) == ("POST", base + expected["path"])
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    own = {
        name: value
        for name, value in seen.headers.items()
        if name not in {"authorization", "content-length", "host", "connection", "accept", "accept-encoding"}
    }
    assert own.pop("user-agent").startswith("ollama-bridge/")
    assert own == {"content-type": "application/json", **expected["headers"]}
    body = seen.json
    if "prompt_cache_key" in body:  # a hash of the conversation
        assert len(body.pop("prompt_cache_key")) <= 64
        body["prompt_cache_key"] = "…"
    assert body == expected["body"]


@each
async def test_thinking_is_asked_for_in_the_vendors_words(kind):
    """On, off and hard: what that adds to the body of a request that says nothing of it."""
    plain = EXPECTED[kind]["body"]
    for word, expected in EXPECTED[kind]["think"].items():
        body = (await sent(kind, json.loads(word))).json
        body.pop("prompt_cache_key", None)
        assert {name: value for name, value in body.items() if value != plain.get(name, "…")} == expected, (
            word
        )


@each
async def test_an_answer_of_the_vendor_is_read_back(kind):
    """One of those that were recorded, where there is one: text and thinking are the vendor's."""
    api = richest(kind).target.rules.api
    pattern = "responses-stream-*" if api == "responses" else "chat-stream-*"
    names = {"responses": "openai.responses", "chat": "openai.chat"}
    found = recordings(f"{FOLDERS.get(kind, '-')}/{pattern}.json", names[api])
    good = [path for path in found if not any(word in path.stem for word in ("error", "no-terminal"))]
    async with Upstream() as upstream, at_loopback(kind, upstream) as backend:
        if not good:
            upstream.reply(RESPONSES if api == "responses" else CHAT)
            assert said(await ask(backend, rich_request(kind, None))) == "Yes."
            return
        recording, facts = recorded(good[0])
        body = recording["response"]["body"].encode()
        upstream.reply(split_at_random(body, seed=7), headers=recording["response"]["headers"])
        request = rich_request(kind, None)
        events = await ask(backend, ChatRequest("m", request.messages, target=request.target))
    assert said(events) == facts["text"]
    assert thought(events).replace("\n\n", "") == facts["thinking"].replace("\n\n", "")


# ------------------------------------------------------------------------------------------ single deviations


async def body_of(kind, model, messages=HELLO, **fields):
    """The body of one request to a model, whether or not it has a row."""
    target = complete(ModelConfig(name="m", backend=kind, backend_model=model), kind=kind).target
    async with Upstream() as upstream, at_loopback(kind, upstream) as backend:
        upstream.reply(CHAT)
        await ask(backend, ChatRequest("m", messages, target=target, **fields))
    return upstream.requests[0].json


def called(call_id):
    return (
        Message("user", "Hi"),
        Message("assistant", tool_calls=(ToolCall(call_id, "look", {}),)),
        Message("tool", "A cat.", tool_call_id=call_id),
    )


@pytest.mark.parametrize(
    ("kind", "model"),
    [("mistral", "mistral-next"), ("openrouter", "mistralai/mistral-next"), ("vllm", "Mixtral-8x7B")],
)
async def test_mistrals_models_get_ids_of_nine_wherever_they_are(kind, model):
    """A foreign id always becomes the same short one; Mistral's own goes back as it came."""
    (call, result) = (await body_of(kind, model, called("call_0123456789abcdef")))["messages"][1:3]
    assert call["tool_calls"][0]["id"] == result["tool_call_id"] == short_id("call_0123456789abcdef")
    assert len(result["tool_call_id"]) == 9
    assert (await body_of(kind, model, called("aB3dE6gH9")))["messages"][2]["tool_call_id"] == "aB3dE6gH9"
    assert (await body_of("groq", "llama-next", called("call_1")))["messages"][2]["tool_call_id"] == "call_1"


async def test_a_model_that_is_not_known_to_think_is_not_told_not_to():
    """Most vendors answer 400 to the word; who can think, and a server of one's own, is told."""
    assert "reasoning_effort" not in await body_of("groq", "llama-next", think=False)
    assert "thinking" not in await body_of("deepseek", "deepseek-next", think=False)
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    assert (await body_of("vllm", "Qwen3-8B", think=False)).items() >= off.items()


async def test_who_may_only_call_as_it_likes_is_shown_no_tools_when_it_shall_call_none():
    """GLM knows no `tool_choice` but `auto`."""
    told = {"tools": (LOOK,), "tool_choice": ToolChoice("none")}
    assert not {"tools", "tool_choice", "tool_stream"} & (await body_of("zai", "glm-5.3", **told)).keys()
    assert (await body_of("mistral", "codestral-latest", **told))["tool_choice"] == "none"


async def test_turns_are_taken_where_they_must_be():
    """System first, then user and assistant in turn; what stands elsewhere is heard from the user."""
    messages = (
        Message("assistant", "Hello."),
        Message("assistant", "How are you?"),
        Message("system", "Be brief."),
        Message("user", "Look.", images=(PIXEL,)),
        Message("assistant", "I look."),
    )
    body = await body_of("perplexity", "sonar", messages)
    assert [message["role"] for message in body["messages"]] == [
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert body["messages"][1]["content"] == "Hello.\n\nHow are you?"
    assert [part["type"] for part in body["messages"][2]["content"]] == ["text", "text", "image_url"]


async def test_any_json_is_a_schema_where_that_is_all_there_is():
    """LM Studio and Perplexity refuse `json_object`; the words that ask for JSON are said as well."""
    body = await body_of("lmstudio", "qwen3", format="json")
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert "JSON" in body["messages"][0]["content"]
    assert (await body_of("groq", "llama-next", format="json"))["response_format"] == {"type": "json_object"}


async def test_thoughts_go_back_only_where_they_are_wanted():
    """With every turn of the assistant once tools were called; what the client forgot is stood in for."""
    forgotten = (*called("call_1"), Message("assistant", "A cat."), Message("user", "And?"))
    turns = (await body_of("moonshot", "kimi-k2.6", forgotten))["messages"]
    assert [turn["reasoning_content"] for turn in turns if turn["role"] == "assistant"] == [" ", " "]
    talk = (Message("user", "Hi"), Message("assistant", "Hello", "A greeting."), Message("user", "So?"))
    assert "reasoning_content" not in (await body_of("deepseek", "deepseek-flash", talk))["messages"][1]
    assert "reasoning_content" not in (await body_of("groq", "llama-next", forgotten))["messages"][1]


async def test_a_limit_beyond_the_models_is_lowered_where_it_would_be_refused():
    """Of models that are known; a guess limits nothing."""
    much = {"options": {"num_predict": 10**7}}
    assert (await body_of("zai", "glm-5.3", **much))["max_tokens"] == 131_072
    assert (await body_of("zai", "glm-next", **much))["max_tokens"] == 10**7
    assert (await body_of("together", "zai-org/GLM-5.3", **much))["max_tokens"] == 10**7


def vectors(seen):
    """An answer to a request for embeddings."""
    data = [{"index": at, "embedding": [1.0]} for at in range(len(seen.json["input"]))]
    return Script([json.dumps({"data": data}).encode()], headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    ("kind", "encoding", "calls"),
    [("mistral", "float", 1), ("dashscope", "float", 2), ("zai", None, 1), ("lmstudio", "float", 1)],
)
async def test_embeddings_are_asked_for_as_the_vendor_takes_them(kind, encoding, calls):
    """So many texts in a call, and `encoding_format` only to whom it does not upset."""
    limits = openai_embeddings.limits(VENDORS[kind].dialect)
    texts = tuple(map(str, range(11)))
    assert -(-len(texts) // limits.inputs) == calls

    async with Upstream(vectors) as upstream, at_loopback(kind, upstream) as backend:
        target = complete(ModelConfig(name="m", backend=kind, backend_model="e"), kind=kind).target
        got = await backend.embed(EmbedRequest("m", texts, target=target))
    assert len(got.vectors) == len(texts)
    assert [seen.json.get("encoding_format") for seen in upstream.requests] == [encoding] * calls


@pytest.mark.parametrize("kind", [kind for kind, vendor in VENDORS.items() if not vendor.keyless])
async def test_without_a_key_nobody_is_asked(kind):
    """The error names the variable."""
    vendor = VENDORS[kind]
    backend = OpenAIBackend(ProviderSettings(kind, kind, (), vendor.base_url.format(account="acc0unt")))
    try:
        with pytest.raises(UpstreamRejected, match=vendor.key_variables[0]):
            await ask(backend, rich_request(kind, None))
    finally:
        await backend.aclose()


@each
def test_an_address_tells_the_vendor(kind):
    """`kind: openai` with a vendor's `base_url` is asked as the vendor is."""
    vendor = VENDORS[kind]
    known = vendor_kind("openai", vendor.base_url.format(account="acc0unt"))
    assert known == (None if vendor.keyless else kind)
    assert all(vendor_kind("openai", f"https://{host}/v1") == kind for host in vendor.hosts)


def test_who_fills_gaps_says_its_row():
    """Of kinds and addresses alike, and only for models that can."""
    url = VENDORS["mistral"].base_url
    for settings in (
        ProviderSettings("m", "mistral", base_url=url),
        ProviderSettings("m", "openai", base_url=url),
    ):
        assert fim.endpoint(settings, "codestral-latest") == f"{url}/fim/completions"
        assert fim.endpoint(settings, "mistral-small-latest") is None
    deepseek = ProviderSettings("d", "deepseek", base_url="https://api.deepseek.com")
    assert fim.endpoint(deepseek, "deepseek-flash") == "https://api.deepseek.com/beta/completions"


# --------------------------------------------------------------------------------------------- configuration


@each
def test_its_variables_alone_bring_its_models(kind):
    """With names that clients can ask for, context lengths and capabilities, and prices where they are listed."""
    vendor = VENDORS[kind]
    environ = {vendor.key_variables[0]: KEY} if vendor.key_variables else {}
    environ |= {names[0]: "acc0unt" for names in vendor.variables.values()}
    result = CliRunner().invoke(main, ["models", "--json"], env=environ)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    if vendor.keyless:
        assert {row["backend"] for row in rows} == {"demo"}
        return
    assert {row["backend"] for row in rows} == {kind}
    assert len(rows) == len([facts for facts in vendor.models if facts.offered]) >= 2
    for row in rows:
        assert parse_name(row["name"]).shortest == row["name"]
        facts = facts_for(kind, row["backend_model"])
        assert facts.known
        assert (row["context_length"], set(row["capabilities"])) == (
            facts.context_length,
            set(facts.capabilities),
        )


@pytest.mark.parametrize(
    "kind",
    "openrouter groq xai mistral deepseek zai bigmodel cohere cloudflare perplexity together fireworks cerebras moonshot novita".split(),
)
def test_prices_are_known_by_the_address(kind):
    """Of those vendors that the price list knows, at least one model has a price."""
    url = VENDORS[kind].base_url.format(account="acc0unt")
    quotes = [prices.look_up(kind, url, facts.id)(1_795_000_000.0) for facts in VENDORS[kind].models]
    assert any(quotes)


def test_models_of_a_vendor_have_ids_of_their_own():
    """No id twice in a row, and no name twice."""
    for kind, vendor in VENDORS.items():
        ids = [facts.id for facts in vendor.models]
        assert len(ids) == len(set(ids)), kind


def test_no_variable_is_two_vendors():
    """Else its key would go to whoever comes first."""
    names = list(itertools.chain(*(vendor.key_variables for vendor in VENDORS.values())))
    assert len(names) == len(set(names))
