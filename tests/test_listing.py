"""Lists of models in all the shapes that providers send, through the real SDKs over a real socket."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.allowances import Price
from ollama_bridge.backends import ProviderSettings, google
from ollama_bridge.backends.lazy import LazyProvider
from ollama_bridge.backends.listing_facts import anthropic_entry, google_entry, openai_entry
from ollama_bridge.errors import UpstreamBroken, UpstreamRejected
from ollama_bridge.facts import Listed
from upstream import Script, Upstream

KEY = "sk-listing-0123456789"
JSON = {"content-type": "application/json"}
RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "recordings"


def page(body, status=200, kind="application/json"):
    return Script(
        [body if isinstance(body, bytes) else json.dumps(body).encode()], status, {"content-type": kind}
    )


async def listed(kind, *pages, name="", path=""):
    """What a provider of that kind lists, and what it was asked."""
    async with Upstream() as upstream:
        upstream.has = None
        for each in pages:
            upstream._scripts.append(each)
        provider = LazyProvider(ProviderSettings(name or kind, kind, (KEY,), upstream.url + path))
        try:
            return await provider.models(), upstream.requests
        finally:
            await provider.aclose()


VENDORS = {
    "openai": (
        {"id": "gpt-9", "object": "model", "created": 1, "owned_by": "openai", "shutdown_date": "2027-01-14"},
        Listed("gpt-9", retires="2027-01-14"),
    ),
    "openrouter": (
        {
            "id": "deepseek/deepseek-r1:free",
            "name": "DeepSeek: R1",
            "context_length": 163840,
            "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
            "pricing": {"prompt": "0.0000003", "completion": "0.0000012", "input_cache_read": "0.00000003"},
            "top_provider": {"context_length": 64000, "max_completion_tokens": 32768},
            "supported_parameters": ["tools", "temperature", "repetition_penalty", "structured_outputs"],
            "expiration_date": None,
        },
        Listed(
            "deepseek/deepseek-r1:free",
            "DeepSeek: R1",
            "chat",
            163840,
            32768,
            {"vision": True, "tools": True, "thinking": False},
            frozenset({"temperature", "repeat_penalty"}),
            frozenset(),
            (),
            True,
            Price(input=Decimal("0.3"), output=Decimal("1.2"), cached_read=Decimal("0.03")),
        ),
    ),
    "groq": (
        {"id": "whisper-large-v3", "active": False, "context_window": 448, "max_completion_tokens": 448},
        Listed("whisper-large-v3", context_length=448, max_output_tokens=448, gone=True),
    ),
    "mistral": (
        {
            "id": "codestral-latest",
            "name": "codestral-2508",
            "max_context_length": 256000,
            "capabilities": {
                "completion_chat": True,
                "completion_fim": True,
                "function_calling": True,
                "vision": False,
            },
            "aliases": ["codestral-2508"],
            "deprecation": None,
        },
        Listed(
            "codestral-latest",
            "codestral-2508",
            "chat",
            256000,
            able={"insert": True, "tools": True, "vision": False},
        ),
    ),
    "mistral embeds": (
        {"id": "mistral-embed", "capabilities": {"completion_chat": False}, "max_context_length": 8192},
        Listed("mistral-embed", kind="embedding", context_length=8192),
    ),
    "xai": (
        {
            "id": "grok-4.7",
            "context_length": 256000,
            "capabilities": ["function_calling", "reasoning"],
            "input_modalities": ["text", "image"],
        },
        Listed("grok-4.7", context_length=256000, able={"tools": True, "thinking": True, "vision": True}),
    ),
    "huggingface": (
        {
            "id": "openai/gpt-oss-120b",
            "providers": [
                {"provider": "a", "status": "live", "context_length": 131072, "supports_tools": True},
                {"provider": "b", "status": "live", "context_length": 65536, "supports_tools": False},
                {"provider": "c", "status": "staging", "context_length": 1},
            ],
        },
        Listed("openai/gpt-oss-120b", context_length=65536, able={"tools": True}),
    ),
    "vllm": (
        {"id": "Qwen/Qwen3-32B", "owned_by": "vllm", "root": "Qwen/Qwen3-32B", "max_model_len": 40960},
        Listed("Qwen/Qwen3-32B", context_length=40960),
    ),
    "llama.cpp": (
        {"id": "gemma.gguf", "owned_by": "llamacpp", "meta": {"n_ctx_train": 131072, "n_embd": 2560}},
        Listed("gemma.gguf", context_length=131072),
    ),
    "fireworks": (
        {
            "id": "accounts/fireworks/models/qwen3",
            "kind": "HF_BASE_MODEL",
            "supports_chat": True,
            "supports_tools": True,
            "supports_image_input": False,
            "context_length": 262144,
        },
        Listed(
            "accounts/fireworks/models/qwen3",
            kind="chat",
            context_length=262144,
            able={"tools": True, "vision": False},
        ),
    ),
    "moonshot": (
        {"id": "kimi-k3", "context_length": 262144, "supports_image_in": True, "supports_reasoning": True},
        Listed("kimi-k3", context_length=262144, able={"vision": True, "thinking": True}),
    ),
    "gigachat": ({"id": "EmbeddingsGigaR", "type": "embedder"}, Listed("EmbeddingsGigaR", kind="embedding")),
}


@pytest.mark.parametrize("name", VENDORS)
async def test_what_each_vendor_says_is_read(name):
    """Sizes, abilities, prices and ends, whatever they are called; and nothing that is not said."""
    entry, expected = VENDORS[name]
    found, (request,) = await listed("openai", page({"object": "list", "data": [entry]}), path="/v1")
    assert found == [expected]
    assert (request.method, request.path, request.body) == ("GET", "/v1/models", b"")
    assert request.headers["authorization"] == f"Bearer {KEY}"


async def test_together_sends_an_array_alone():
    """With dollars a million as numbers, of which 0 says nothing."""
    entry = {"id": "x/chat", "type": "chat", "display_name": "X", "context_length": 8192}
    free = {**entry, "id": "x/own", "pricing": {"input": 0, "output": 0}}
    image = {"id": "x/flux", "type": "image"}
    found, _ = await listed(
        "openai", page([{**entry, "pricing": {"input": 0.88, "output": 0.9}}, free, image])
    )
    assert [(one.id, one.kind, one.display_name) for one in found] == [
        ("x/chat", "chat", "X"),
        ("x/own", "chat", "X"),
        ("x/flux", "other", ""),
    ]
    assert found[0].price == Price(input=Decimal("0.88"), output=Decimal("0.9"))
    assert found[1].price is None


async def test_lm_studio_is_asked_at_its_own_place_and_then_at_openais():
    """It tells more there, but an older one has no such place."""
    entry = {"id": "qwen2-vl", "type": "vlm", "state": "loaded", "max_context_length": 32768}
    loaded = {**entry, "id": "q", "loaded_context_length": 4096, "capabilities": ["tool_use"], "type": "llm"}
    found, (request,) = await listed("lmstudio", page({"data": [entry, loaded]}), path="/v1")
    assert request.path == "/api/v0/models"
    assert found == [
        Listed("qwen2-vl", kind="chat", context_length=32768, able={"vision": True}),
        Listed("q", kind="chat", context_length=4096, able={"tools": True}),
    ]
    found, requests = await listed("lmstudio", page({}, 404), page({"data": [{"id": "m"}]}), path="/v1")
    assert [one.path for one in requests] == ["/api/v0/models", "/v1/models"]
    assert found == [Listed("m")]


async def test_cloudflare_lists_in_pages_elsewhere():
    """By task and properties, and with the number of pages."""
    entry = {
        "id": "f8703a00-ed54-4f98-bdc3-cd9a813286f3",
        "name": "@cf/meta/llama-3.1-8b-instruct",
        "task": {"name": "Text Generation"},
        "properties": [
            {"property_id": "context_window", "value": "128000"},
            {"property_id": "function_calling", "value": "true"},
        ],
    }
    other = {"id": "1", "name": "@cf/flux", "task": {"name": "Text-to-Image"}, "properties": []}
    found, requests = await listed(
        "cloudflare",
        page({"result": [entry], "result_info": {"page": 1, "total_pages": 2}}),
        page({"result": [other], "result_info": {"page": 2, "total_pages": 2}}),
        path="/client/v4/accounts/a/ai/v1",
    )
    assert [one.path for one in requests] == [
        "/client/v4/accounts/a/ai/models/search?per_page=1000",
        "/client/v4/accounts/a/ai/models/search?per_page=1000&page=2",
    ]
    assert found == [
        Listed("@cf/meta/llama-3.1-8b-instruct", kind="chat", context_length=128000, able={"tools": True}),
        Listed("@cf/flux", kind="other"),
    ]


async def test_a_list_goes_on_where_it_says_but_never_elsewhere():
    """Paths at the same host are followed, another host's would be given the key; a list that goes in a circle ends."""
    one, two = {"data": [{"id": "a"}]}, {"data": [{"id": "a"}, {"id": "b"}]}
    found, requests = await listed(
        "openai", page({**one, "links": {"next": "/v1/models?offset=1"}}), page(two), path="/v1"
    )
    assert ([each.id for each in found], requests[1].path) == (["a", "b"], "/v1/models?offset=1")
    foreign = {**one, "links": {"next": "http://127.0.0.2:9/v1/models"}}
    found, requests = await listed("openai", page(foreign), path="/v1")
    assert (len(found), len(requests)) == (1, 1)
    _, requests = await listed("openai", page({**one, "links": {"next": "/v1/models"}}), path="/v1")
    assert len(requests) == 1


async def test_anthropic_says_what_it_thinks_with():
    """Two pages, after which `Rules` need no table: no budget for who is adaptive, and only efforts that it has."""
    yes, no = {"supported": True}, {"supported": False}
    entry = {
        "type": "model",
        "id": "claude-next-7",
        "display_name": "Claude Next 7",
        "lifecycle": "deprecated",
        "retires_at": "2027-02-01T00:00:00Z",
        "max_input_tokens": 2_000_000,
        "max_tokens": 256_000,
        "capabilities": {
            "image_input": no,
            "structured_outputs": yes,
            "effort": {"supported": True, "low": yes, "medium": no, "high": yes, "max": yes, "xhigh": None},
            "thinking": {
                "supported": True,
                "types": {"adaptive": yes, "enabled": yes, "disabled": no, "between_tools": yes},
            },
        },
    }
    old = {"id": "claude-old", "lifecycle": "retired", "capabilities": None}
    found, requests = await listed(
        "anthropic",
        page({"data": [entry], "has_more": True, "last_id": "claude-next-7"}),
        page({"data": [old], "has_more": False}),
    )
    assert [one.path for one in requests] == [
        "/v1/models?limit=1000",
        "/v1/models?limit=1000&after_id=claude-next-7",
    ]
    assert found == [
        Listed(
            "claude-next-7",
            "Claude Next 7",
            "chat",
            2_000_000,
            256_000,
            {"vision": False, "thinking": True},
            None,
            frozenset({"adaptive", "between_tools"}),
            ("low", "high", "max"),
            schema=True,
            retires="2027-02-01",
        ),
        Listed("claude-old", kind="chat", gone=True),
    ]


GEMINI = {
    "models": [
        {
            "name": "models/gemini-next",
            "displayName": "Gemini Next",
            "inputTokenLimit": 2_000_000,
            "outputTokenLimit": 65_536,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
            "thinking": True,
        },
        {"name": "models/gemini-embedding-9", "supportedGenerationMethods": ["embedContent"]},
        {"name": "models/veo", "supportedGenerationMethods": ["predictLongRunning"]},
    ]
}


@pytest.mark.parametrize("is_lower", [True, False])
async def test_gemini_says_what_it_is_for(is_lower, monkeypatch):
    """Over the SDK's lower path as over its types."""
    if not is_lower:
        monkeypatch.setattr(google, "lower_path_misfit", lambda _: "tested")
    found, requests = await listed("google", page(GEMINI))
    assert requests[0].path.startswith("/v1beta/models?pageSize=1000")
    assert requests[0].headers["x-goog-api-key"] == KEY
    assert [(one.id, one.kind) for one in found] == [
        ("gemini-next", ""),
        ("gemini-embedding-9", "embedding"),
        ("veo", "other"),
    ]
    assert (found[0].context_length, found[0].max_output_tokens, found[0].able) == (
        2_000_000,
        65_536,
        {"thinking": True},
    )


async def test_gemini_in_pages():
    """By the token of the next one."""
    one = {"models": GEMINI["models"][:1], "nextPageToken": "t/1"}
    found, requests = await listed("google", page(one), page({"models": GEMINI["models"][1:]}))
    assert requests[1].path in {f"/v1beta/models?pageSize=1000&pageToken=t{sign}1" for sign in ("/", "%2F")}
    assert len(found) == 3


async def test_a_real_ollama_lists_its_tags():
    """For `models discover`; the daemon asks it each time."""
    found, (request,) = await listed(
        "ollama", page({"models": [{"name": "llama3:8b", "model": "llama3:8b"}]})
    )
    assert (request.path, [one.id for one in found]) == ("/api/tags", ["llama3:8b"])


@pytest.mark.parametrize("kind", ["openai", "groq", "ollama"])
async def test_who_has_no_list_says_so_with_a_404(kind):
    """That is no failure; nor is a kind of provider that cannot be asked."""
    assert (await listed(kind, page({"error": {"message": "no such route"}}, 404)))[0] is None
    assert (await listed("demo"))[0] is None


@pytest.mark.parametrize("provider", ["anthropic", "openai", "deepseek", "gemini"])
async def test_recorded_refusals_are_told_as_refusals(provider):
    """What the providers really sent for a bad key, with the remedy."""
    files = sorted((RECORDINGS / provider).glob("models-*.json"))
    if not files:
        pytest.skip("the recordings are not here")
    for file in files:
        told = json.loads(file.read_text())["response"]
        kind = {"gemini": "google", "deepseek": "openai"}.get(provider, provider)
        script = Script([told["body"].encode()], told["status"], JSON)
        with pytest.raises(UpstreamRejected, match=r"key"):
            await listed(kind, script)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            page(b"<html>Sign in</html>", kind="text/html"),
            "text/html instead of a list of models: check providers.acme",
        ),
        (page(b'{"data": [{"id"', kind="application/json"), "instead of a list of models"),
        (page({"object": "error", "message": "no"}), "no"),
        (page(3), "something else than a list"),
        (page({"data": {"id": "m"}}), "something else than a list"),
    ],
)
async def test_what_is_no_list_is_said_to_be_none(script, words):
    """An error with a name, never a traceback."""
    with pytest.raises((UpstreamBroken, UpstreamRejected), match=words):
        await listed("openai", script, name="acme")


async def test_a_list_without_an_end_is_given_up(monkeypatch):
    """Before it fills the memory."""
    monkeypatch.setattr("ollama_bridge.backends.listing.MAX_LIST_BYTES", 1000)
    with pytest.raises(UpstreamBroken, match="too large for a list of models"):
        await listed("openai", page([{"id": "m" * 100}] * 100))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    "id name key display_name context_length max_model_len meta capabilities able pricing providers properties task "
    "architecture top_provider supported_parameters type kind endpoints features tags shutdown_date active lifecycle "
    "inputTokenLimit supportedGenerationMethods thinking max_input_tokens max_tokens input_modalities"
).split()


@given(st.dictionaries(st.sampled_from(FIELDS), JUNK))
def test_any_odd_type_is_a_fact_that_is_not_told(entry):
    """Never an error: a list is of use even where one entry of it is not."""
    for reader in (openai_entry, anthropic_entry, google_entry):
        found = reader({"id": "m", "name": "m", **entry})
        assert found is None or (isinstance(found.id, str) and (found.context_length or 1) > 0)
