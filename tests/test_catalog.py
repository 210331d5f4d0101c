"""What is known about models is well-formed, follows the providers' rules, and can be advertised and cached."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.backends.vendors import VENDORS
from ollama_bridge.catalog import CATALOG, ModelConfig, complete, facts_for, facts_kind
from ollama_bridge.names import InvalidName, normalise_name

ROWS = [pytest.param(kind, facts, id=facts.id) for kind, rows in CATALOG.items() for facts in rows]
ORDER = ["completion", "tools", "insert", "vision", "embedding", "thinking"]
LITERALS = {
    "anthropic": ("anthropic", ("types/model.py",)),
    "openai": (
        "openai",
        ("types/shared/chat_model.py", "types/shared/responses_model.py", "types/embedding_model.py"),
    ),
    "google": ("google.genai", ("_gaos/types/interactions/model.py", "_transformers.py", "models.py")),
}
SAMPLING = {"temperature", "top_p", "top_k"}


@pytest.mark.parametrize(("kind", "facts"), ROWS)
def test_a_row_is_fit_to_be_advertised(kind, facts):
    """Names no client trips over, an architecture that is an identifier, numbers that can be true."""
    assert normalise_name(facts.id) == f"{facts.id}:latest"
    assert ("embed" in facts.id) == ("embedding" in facts.capabilities)  # Zed hides it from its chat
    assert (facts.family == "bert") == ("embedding" in facts.capabilities)  # and Page Assist by that
    assert "cloud" not in facts.id  # the Go client wants an account at ollama.com
    assert re.fullmatch(r"[a-z0-9]+", facts.family)
    assert 0 < facts.max_output_tokens <= facts.context_length
    assert facts.embedding_length > 0
    assert list(facts.capabilities) == [c for c in ORDER if c in facts.capabilities]
    assert ("completion" in facts.capabilities) != ("embedding" in facts.capabilities)
    assert ("thinking" in facts.capabilities) == bool(facts.rules.thinking)
    assert facts.known


@pytest.mark.parametrize("kind", LITERALS)
def test_every_id_is_one_that_the_installed_sdk_knows(kind):
    """The catalogue invents no names."""
    package, files = LITERALS[kind]
    [folder] = importlib.util.find_spec(package).submodule_search_locations
    known = set(
        re.findall(r"""["']([^"'\s]+)["']""", "".join((Path(folder) / file).read_text() for file in files))
    )

    assert {facts.id for facts in CATALOG[kind]} <= known


@pytest.mark.parametrize("kind", LITERALS)
def test_a_dozen_models_are_offered_and_none_twice(kind):
    """A person can read the list; a dated id or a second spelling of one model is not on it."""
    offered = [facts for facts in CATALOG[kind] if facts.offered and "completion" in facts.capabilities]

    assert 8 <= len(offered) <= 14
    assert len({facts.display_name for facts in CATALOG[kind]}) == len(CATALOG[kind])
    assert len({facts.id for facts in CATALOG[kind]}) == len(CATALOG[kind])
    assert not [facts.id for facts in offered if re.search(r"\d{8}$|\d{4}-\d{2}-\d{2}$|latest$", facts.id)]


@pytest.mark.parametrize(
    ("model", "thinking"),
    [
        ("claude-opus-5-5", {"adaptive"}),
        ("claude-fable-5-1", {"adaptive"}),
        ("claude-sonnet-5-5", {"adaptive", "between_tools"}),
        ("claude-haiku-5-5", {"adaptive", "disabled"}),
        ("claude-opus-5", {"adaptive", "disabled"}),
        ("claude-opus-4-8", {"adaptive", "disabled"}),
        ("claude-opus-4-6", {"adaptive", "disabled"}),
        ("claude-haiku-4-5", {"budget", "disabled"}),
    ],
)
def test_how_claude_may_be_asked_to_think(model, thinking):
    """As Anthropic's migration guides have it: what is not here is answered by a 400."""
    assert facts_for("anthropic", model).rules.thinking == thinking


def test_which_claude_models_take_sampling_options_and_a_prefill():
    """Sampling: 4.5 and 4.6 only.  Prefill: 4.5 only."""
    rules = {facts.id: facts.rules for facts in CATALOG["anthropic"]}

    assert {model for model, r in rules.items() if r.accepts & SAMPLING} == {
        f"claude-{rest}" for rest in ("opus-4-6", "sonnet-4-6", "haiku-4-5", "opus-4-5", "sonnet-4-5")
    }
    assert {model for model, r in rules.items() if r.prefill} == {
        f"claude-{rest}" for rest in ("haiku-4-5", "opus-4-5", "sonnet-4-5")
    }
    assert all("stop" in r.accepts for r in rules.values())


def test_which_openai_models_need_which_api():
    """Chat Completions serves gpt-4.x with all options; o-series and gpt-5 and later go to Responses with none."""
    for facts in CATALOG["openai"]:
        rules = facts.rules
        if "completion" not in facts.capabilities:
            continue
        if facts.id.startswith("gpt-4"):
            assert (rules.api, rules.max_tokens_field, rules.system_role) == ("chat", "max_tokens", "system")
            assert {"temperature", "stop", "seed"} <= rules.accepts
            assert not rules.efforts
        else:
            assert (rules.api, rules.system_role) == ("responses", "developer")
            assert rules.max_tokens_field == "max_completion_tokens"
            assert not rules.accepts
            assert rules.efforts


@pytest.mark.parametrize(
    ("model", "weakest", "strongest"),
    [
        ("gpt-6-astra", "low", "max"),
        ("gpt-6.1-sol", "low", "max"),
        ("gpt-5.6-sol", "none", "max"),
        ("gpt-5.4", "none", "xhigh"),
        ("gpt-5.1", "none", "high"),
        ("gpt-5", "minimal", "high"),
        ("o3", "low", "high"),
    ],
)
def test_how_hard_openai_models_think(model, weakest, strongest):
    """The lowest is what `think: false` becomes, the highest what `max` becomes."""
    efforts = facts_for("openai", model).rules.efforts

    assert (efforts[0], efforts[-1]) == (weakest, strongest)


def test_gemini_2_5_has_a_budget_and_later_ones_a_level_and_no_sampling():
    """Both at once are a 400; a low temperature makes Gemini 3 loop."""
    for facts in CATALOG["google"]:
        if not facts.id.startswith("gemini") or "completion" not in facts.capabilities:
            continue
        old = facts.id.startswith("gemini-2.5")
        assert facts.rules.thinking == ({"budget"} if old else {"level"})
        assert bool(facts.rules.accepts & SAMPLING) == old
    assert "none" not in facts_for("google", "gemini-2.5-pro").rules.efforts


@pytest.mark.parametrize(
    ("kind", "model", "like"),
    [
        ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("anthropic", "claude-opus-4-1-20250805", "claude-opus-4-5"),
        ("anthropic", "claude-sonnet-7", "claude-sonnet-5-5"),
        ("anthropic", "claude-something-new", "claude-opus-5-5"),
        ("openai", "gpt-5.4-mini-2026-03-17", "gpt-5.4-mini"),
        ("openai", "gpt-6.2-astra", "gpt-6.1-sol"),
        ("openai", "gpt-5.7-sol", "gpt-5.6-sol"),
        ("openai", "gpt-5.3-codex", "gpt-5.2"),
        ("openai", "gpt-4o-2024-08-06", "gpt-4o"),
        ("openai", "o9", "gpt-6.1-sol"),
        ("openai", "o4-mini", "o3"),
        ("google", "models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("google", "gemini-5-neon", "gemini-4-argon"),
        ("google", "gemma-5-9b", "gemma-4-31b-it"),
        ("demo", "anything", "demo"),
    ],
)
def test_an_id_without_a_row_follows_its_family(kind, model, like):
    """A model released after this version works by the rules of the nearest one, and keeps its own id."""
    facts = facts_for(kind, model)

    assert facts.id == model
    assert facts.rules == facts_for(kind, like).rules
    assert facts.capabilities == facts_for(kind, like).capabilities


def test_a_vendor_lends_the_sizes_of_a_known_model_but_not_its_rules():
    """OpenRouter's Claude has Claude's context, and is asked as OpenRouter wants: by plain Chat Completions."""
    facts = facts_for("openrouter", "anthropic/claude-sonnet-4.5")

    assert facts.context_length == facts_for("anthropic", "claude-sonnet-4-5").context_length
    assert facts.rules == VENDORS["openrouter"].rules
    assert facts.rules.api == "chat"
    assert (facts_for("groq", "llama-3.3-70b").family, facts.family) == ("llama", "claude")


@pytest.mark.parametrize(
    ("kind", "model", "width"),
    [
        ("openai", "text-embedding-3-small", 1536),
        ("openai", "text-embedding-5-huge", 3072),
        ("google", "models/gemini-embedding-001", 3072),
        ("google", "text-embedding-004", 3072),
        ("openrouter", "openai/text-embedding-3-small", 1536),
        ("ollama", "nomic-embed-text:v1.5", 768),
        ("ollama", "mxbai-embed-large:latest", 1024),
        ("compatible", "BAAI/bge-m3", 1024),
        ("compatible", "intfloat/multilingual-e5-large", 1024),
        ("compatible", "sentence-transformers/all-MiniLM-L6-v2", 384),
        ("compatible", "text_embed_of_ours", 1024),
        ("mistral", "mistral-embed", 1024),
    ],
)
def test_who_embeds_is_known_by_name_wherever_it_is_served(kind, model, width):
    """It is offered for that alone, with the width of its vectors."""
    made = complete(ModelConfig(name="m", backend="b", backend_model=model), kind=kind)

    assert made.capabilities == ("embedding",)
    assert (made.family, made.embedding_length) == ("bert", width)


@pytest.mark.parametrize(
    "model", ["llama3.2", "qwen3:8b", "phi-4", "mixtral-8x7b", "gpt-oss:120b", "magpie5-x"]
)
def test_who_chats_is_not_taken_for_an_embedder(model):
    """A part of a name in the middle of a word means nothing."""
    assert "completion" in facts_for("compatible", model).capabilities


@pytest.mark.parametrize(
    ("name", "kind", "base_url", "api"),
    [
        ("openai", "openai", None, "responses"),
        ("openai", "openai", "https://gateway.example/v1", "responses"),
        ("work", "openai", None, "responses"),
        ("acme", "openai", "http://127.0.0.1:9000/v1", "chat"),
    ],
)
def test_somebody_elses_base_url_means_somebody_elses_rules(name, kind, base_url, api):
    """An unknown id is OpenAI's newest at OpenAI, and anything at all elsewhere."""
    rules = facts_for(facts_kind(name, kind, base_url), "qwen-or-what").rules

    assert (rules.api, "temperature" in rules.accepts) == (api, api == "chat")


@given(st.sampled_from([*CATALOG, "groq", "ollama"]), st.text(max_size=40))
def test_any_model_id_has_facts_that_can_be_advertised(kind, model):
    """Whatever an operator writes as `backend_model`, the model is listed with an architecture and a size."""
    config = ModelConfig(name="m", backend="b", backend_model=model)
    made = complete(config, kind=kind)

    assert re.fullmatch(r"[a-z0-9]+", made.family)
    assert 0 < made.max_output_tokens <= made.context_length
    assert made.target.model == (model or "m")


def test_the_operators_word_goes_before_the_catalogues():
    """Everything an operator may write is taken over; the rest is filled in."""
    config = ModelConfig(
        name="Big",
        display_name="The big one",
        backend="work",
        backend_model="claude-opus-5-5",
        family="GPT-OSS",
        context_length=1000,
        capabilities=("thinking", "completion"),
    )
    model = complete(config, kind="anthropic", default_max_tokens=7)

    assert (model.name, model.display_name, model.family) == ("Big:latest", "The big one", "gptoss")
    assert (model.context_length, model.max_output_tokens) == (1000, 1000)
    assert model.capabilities == ("completion", "thinking")
    assert (model.target.provider, model.target.model) == ("work", "claude-opus-5-5")
    assert model.target.rules == facts_for("anthropic", "claude-opus-5-5").rules
    assert model.target.max_output_tokens == 1000


@pytest.mark.parametrize(
    ("max_tokens", "model", "default", "expected"),
    [
        (5, "claude-opus-5-5", 9, 5),
        (None, "claude-opus-5-5", 9, 128_000),
        (None, "claude-opus-99", 9, 9),
        (None, "claude-opus-99", None, 128_000),
    ],
)
def test_who_decides_the_output_limit(max_tokens, model, default, expected):
    """The model's entry, else what is known, else DEFAULT_MAX_TOKENS, else what its family has."""
    config = ModelConfig(name="m", backend="anthropic", backend_model=model, max_tokens=max_tokens)

    assert complete(config, kind="anthropic", default_max_tokens=default).max_output_tokens == expected


def test_latest_is_our_tag_and_never_goes_upstream():
    """Clients append it to everything; no provider knows it. Other tags are part of a real Ollama's names."""

    def upstream(name):
        return complete(ModelConfig(name=name, backend="b"), kind="ollama").target.model

    assert (upstream("gpt-4o:latest"), upstream("gpt-4o"), upstream("llama3:8b")) == (
        "gpt-4o",
        "gpt-4o",
        "llama3:8b",
    )


def test_a_name_outside_the_grammar_is_refused():
    """Better at start than in a client's list."""
    with pytest.raises(InvalidName):
        complete(ModelConfig(name="a b", backend="b"), kind="demo")


BASE = {"name": "m", "backend": "b", "context_length": 9, "capabilities": ("completion",)}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "n"},
        {"display_name": "Other"},
        {"family": "other"},
        {"context_length": 10},
        {"capabilities": ("completion", "tools")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_digest_changes_with_everything_that_is_advertised(change):
    """opencode and llm-ollama keep what they once read for as long as the digest stays."""
    before = complete(ModelConfig(**BASE), kind="demo")
    after = complete(ModelConfig(**BASE | change), kind="demo")

    assert before.digest != after.digest
    assert re.fullmatch(r"[0-9a-f]{64}", after.digest)


DIGESTS = """
from ollama_bridge.catalog import CATALOG, ModelConfig, complete
print([complete(ModelConfig(name=f.id, backend=k), kind=k).digest for k, rows in CATALOG.items() for f in rows])
"""


def test_digests_are_the_same_in_every_process_and_differ_between_models():
    """A restart must not make every client ask again; equal ones would be merged into aliases by llm-ollama."""
    root = Path(sys.modules["ollama_bridge"].__file__).parents[1]
    seen = [
        subprocess.run(
            [sys.executable, "-c", DIGESTS],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]

    assert seen[0] == seen[1]
    digests = re.findall(r"[0-9a-f]{64}", seen[0])
    assert len(set(digests)) == len(digests) == sum(map(len, CATALOG.values()))


def test_the_least_that_is_cached_is_the_models_own():
    """As platform.claude.com states it, in tokens; a model without a row follows its family's newest."""
    stated = {
        "claude-opus-5-5": 512,
        "claude-opus-5": 512,
        "claude-sonnet-5-5": 512,
        "claude-fable-5-1": 512,
        "claude-opus-4-8": 1024,
        "claude-sonnet-5": 1024,
        "claude-sonnet-4-6": 1024,
        "claude-sonnet-4-5-20250929": 1024,
        "claude-opus-4-7": 2048,
        "claude-opus-4-6": 4096,
        "claude-opus-4-5": 4096,
        "claude-haiku-4-5-20251001": 4096,
        "claude-opus-9": 512,
    }
    assert {name: facts_for("anthropic", name).rules.cached_from for name in stated} == stated


@pytest.mark.parametrize("switch", [None, True, False])
def test_the_switch_of_the_prompt_cache_reaches_who_answers(switch):
    """`models[].prompt_cache` is the backend's to obey."""
    config = ModelConfig(name="m", backend="anthropic", prompt_cache=switch)
    assert complete(config, kind="anthropic").target.prompt_cache is switch
