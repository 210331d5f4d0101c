"""Which models are offered without being told: whose, under which names, enabled or not."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.catalog import ModelConfig, complete, facts_for
from ollama_bridge.config import Config
from ollama_bridge.discovered import MANY, Offerer, kind_of, offers, other_name, pruned
from ollama_bridge.facts import Listed
from ollama_bridge.lists import Shelf, from_entry, to_entries
from ollama_bridge.names import fitted, parse_name
from ollama_bridge.registry import ModelRegistry
from scripted import ScriptedBackend


def shelf(*ids, **more):
    return Shelf(to_entries(Listed(one, **more) if isinstance(one, str) else one for one in ids), asked_s=1.0)


def acme(*ids, name="acme", **more):
    return Offerer(name, "openai", "compatible", builtin=False, lists=shelf(*ids), **more)


def offered(*offerers, written=(), hidden=True):
    return {offer.config.name: offer.config.enabled for offer in offers(written, offerers, hidden=hidden)}


def test_a_name_is_offered_once_and_whoever_comes_first_keeps_it():
    """The second is `provider/model`; who is added behind changes no name before it."""
    one, two = acme("x", "y", name="one"), acme("x", "z", name="two")
    assert list(offered(one)) == ["x", "y"]
    assert list(offered(one, two)) == ["x", "y", "two/x", "z"]
    assert list(offered(two, one)) == ["x", "z", "one/x", "y"]


def test_hidden_models_take_no_name_from_those_that_are_seen():
    one, two = acme("x", name="one", new_models="disabled"), acme("x", name="two")
    assert offered(one, two) == {"x": True, "one/x": False}
    assert offered(one, two, hidden=False) == {"x": True}


def test_the_catalogue_comes_first():
    """Its names are claimed before those of any list, and what it has is not offered again, dated or not."""
    claude = Offerer(
        "anthropic", "anthropic", "anthropic", lists=shelf("claude-opus-7", "claude-haiku-4-5-20251001")
    )
    named = offered(acme("claude-opus-5-5"), claude)
    assert named["claude-opus-5-5"]
    assert named["acme/claude-opus-5-5"]
    assert named["claude-opus-7"]
    assert not any("20251001" in name for name in named)


def test_a_model_that_a_list_lacks_stays_and_one_that_it_says_is_shut_down_does_not():
    """A list may be partial: of a restricted key, or of one region."""
    lists = shelf("claude-opus-5-5", Listed("claude-opus-5", gone=True))
    claude = Offerer("anthropic", "anthropic", "anthropic", lists=lists)
    named = offered(claude)
    assert (named["claude-opus-5-5"], named["claude-sonnet-5-5"], named["claude-opus-5"]) == (
        True,
        True,
        False,
    )


def test_the_operators_names_are_the_operators():
    """What is described in the file is not offered again; a name that is taken there is taken."""
    written = (
        ModelConfig(name="x", backend="acme", enabled=False),
        ModelConfig(name="y", backend="other", aliases=("z",)),
        ModelConfig(name="acme/w", backend="acme", backend_model="w"),
    )
    assert offered(acme("w", "x", "y", "z"), written=written) == {"acme/y": True, "acme/z": True}


def test_another_providers_key_in_front_of_an_id_is_not_taken_for_that_provider():
    """`openai/gpt-x` of a router is another thing than OpenAI's own, if that is there as well."""
    router = acme("openai/gpt-x", "meta/llama", name="router")
    assert list(offered(router)) == ["meta/llama", "openai/gpt-x"]
    openai = Offerer("openai", "openai", "openai")
    assert {"meta/llama", "router/openai/gpt-x"} < offered(openai, router).keys()


@pytest.mark.parametrize(
    ("settings", "enabled"),
    [
        ({}, {"a-one", "a-two", "b"}),
        ({"new_models": "disabled"}, set()),
        ({"many": True}, set()),
        ({"many": True, "new_models": "enabled"}, {"a-one", "a-two", "b"}),
        ({"include": ("A-*",)}, {"a-one", "a-two"}),
        ({"many": True, "include": ("a-*", "old")}, {"a-one", "a-two", "old"}),
        ({"exclude": ("*-two",)}, {"a-one", "b"}),
        ({"include": ("a-*",), "exclude": ("*-two",), "new_models": "disabled"}, {"a-one"}),
        ({"include": ("dead",)}, set()),
    ],
)
def test_patterns_and_numbers_decide_what_is_seen(settings, enabled):
    """`include` enables and nothing else is, `exclude` goes before all; what is hidden is there all the same."""
    lists = ("a-one", "a-two", "b", Listed("old", minor=True), Listed("dead", gone=True))
    named = offered(acme(*lists, **settings))
    assert {name for name, is_seen in named.items() if is_seen} == enabled
    assert named.keys() == {"a-one", "a-two", "b", "old", "dead"}


def test_patterns_concern_the_catalogue_too():
    """What nobody wants to see is hidden, and no less there for what is made from it."""
    claude = Offerer("anthropic", "anthropic", "anthropic", exclude=("*opus*",))
    named = offered(claude, hidden=False)
    assert (named["claude-opus-5-5"], named["claude-sonnet-5-5"]) == (False, True)
    work = Offerer("work", "anthropic", "anthropic", include=("claude-opus-5-5",))
    assert [name for name, is_seen in offered(work).items() if is_seen] == ["work/claude-opus-5-5"]


def test_hundreds_of_a_provider_that_nobody_knows_are_hidden():
    """They would bury the others, whoever it is."""
    assert all(offered(acme(*(f"m{number}" for number in range(MANY)))).values())
    assert not any(offered(acme(*(f"m{number}" for number in range(MANY + 1)))).values())


OPENAI = (
    "gpt-9 gpt-9-2026-11-01 gpt-4o-2024-08-06 gpt-4o-audio-preview gpt-4o-realtime-preview gpt-image-2 whisper-1 tts-1-hd "
    "omni-moderation-latest gpt-4o-search-preview gpt-4o-transcribe sora-2 dall-e-3 gpt-3.5-turbo gpt-4-turbo gpt-4 "
    "babbage-002 o3-deep-research computer-use-preview text-embedding-4 gpt-5-pro ft:gpt-4o:acme::1 chatgpt-4o-latest"
).split()
GEMINI = (
    "gemini-9-flash gemini-9-flash-001 gemini-9-pro-exp gemini-flash-latest gemini-9-tts gemini-9-flash-image "
    "gemini-9-flash-live gemini-embedding-9 gemini-robotics-er-2 aqa imagen-5 veo-4 gemini-9-pro-preview-05-20"
).split()


def test_of_openais_own_list_only_what_talks_or_embeds_is_kept_and_only_what_is_new_is_seen():
    """No dated twins, no predecessors, nothing that the catalogue knows and does not show."""
    kept = {one.id: one.minor for one in pruned("openai", map(Listed, OPENAI), "2026-11-21")}
    assert {model for model, minor in kept.items() if not minor} == {
        *("gpt-9", "text-embedding-4", "ft:gpt-4o:acme::1")
    }
    assert {model for model, minor in kept.items() if minor} == {
        *("gpt-9-2026-11-01", "gpt-4o-2024-08-06", "gpt-3.5-turbo", "gpt-4-turbo", "gpt-4", "gpt-5-pro"),
        "chatgpt-4o-latest",
    }
    kept = {one.id: one.minor for one in pruned("google", map(Listed, GEMINI), "2026-11-21")}
    assert {model for model, minor in kept.items() if not minor} == {
        *("gemini-9-flash", "gemini-embedding-9", "gemini-9-pro-preview-05-20")
    }


def test_what_a_list_says_of_a_kind_goes_before_its_name():
    assert [
        one.id for one in pruned("x", [Listed("m-image", kind="chat"), Listed("m", kind="other")], "")
    ] == ["m-image"]
    assert (kind_of("Qwen/Qwen3-Embedding-8B"), kind_of("llama-guard-4"), kind_of("llama-4")) == (
        *("embedding", "other"),
        "",
    )


def test_the_day_of_its_end_ends_a_model():
    """Told when it is asked, and so the same until it is asked again."""
    models = [Listed("a", retires="2026-11-21"), Listed("b", retires="2026-11-22")]
    assert [one.gone for one in pruned("x", models, "2026-11-21")] == [True, False]


IDS = (
    st.text(max_size=120)
    | st.from_regex(r"[@a-zA-Z0-9_./:-]{1,40}", fullmatch=True)
    | st.sampled_from(
        [
            *(
                "@cf/meta/llama-3.1-8b-instruct",
                "accounts/fireworks/models/x",
                "a/b/c/d/e",
                "deepseek/deepseek-r1:free",
            ),
            *(
                "x:cloud",
                "x-cloud",
                "x:local",
                "x:8b-cloud",
                "X",
                "x",
                "library/x",
                "x:latest",
                "/",
                ":",
                "модель",
                "",
            ),
        ]
    )
)


@given(st.lists(IDS, max_size=12, unique=True), st.lists(IDS, max_size=6, unique=True), IDS)
def test_names_are_valid_unique_and_stay_when_others_come_behind(ids, others, provider):
    """Whatever providers call their models and operators their providers."""
    one, two = acme(*ids, name=f"one{provider}"), acme(*others, name="two")
    alone = [offer.config for offer in offers((), [one], hidden=True)]
    both = [offer.config for offer in offers((), [one, two], hidden=True)]
    keys = [parse_name(config.name).key for config in both]
    assert len(set(keys)) == len(keys)
    assert {config.backend_model for config in alone} == set(ids)
    Config(
        providers={one.name: {"kind": "demo"}, "two": {"kind": "demo"}}, models=both
    )  # names that it accepts
    shared = {"two", fitted(f"one{provider}").lower()}  # unless an id begins as a provider is called
    for config in alone:
        if config.name.lower().partition("/")[0] not in shared:
            assert config.name in {each.name for each in both if each.backend_model == config.backend_model}


@given(IDS, IDS)
def test_a_fitted_name_is_a_name(model_id, under):
    """With or without something in front; and clients do not take it for ollama.com's."""
    for name in (fitted(model_id), fitted(model_id, under)):
        assert parse_name(name)
        assert not name.lower().endswith(("-cloud", ":cloud"))


def made(config, listed=None, kind="compatible"):
    return complete(config, kind=kind, listed=listed)


def test_a_model_answers_to_both_of_its_names():
    """`model` and `provider/model`, whichever of them is listed; but never in another's place, or a hidden one's."""
    models = [
        ModelConfig(name="x", backend="one"),
        ModelConfig(name="two/x", backend="two", backend_model="x"),
        ModelConfig(name="two/y", backend="two", backend_model="y"),
        ModelConfig(name="mine", backend="one", backend_model="z"),
        ModelConfig(name="w", backend="one", enabled=False),
        ModelConfig(name="two/w", backend="two", backend_model="w"),
    ]
    registry = ModelRegistry({"one": ScriptedBackend(), "two": ScriptedBackend()}, map(made, models))
    asked = ("x", "one/x", "two/x", "y", "TWO/Y", "mine", "two/w")
    assert [registry.resolve(name).name for name in asked] == [
        *(
            "x:latest",
            "x:latest",
            "two/x:latest",
            "two/y:latest",
            "two/y:latest",
            "mine:latest",
            "two/w:latest",
        )
    ]
    assert len(registry.models()) == 5
    for name in ("z", "one/z", "w", "one/w"):
        with pytest.raises(Exception, match="not found"):
            registry.resolve(name)
    assert other_name(ModelConfig.model_validate({"name": "a", "from": "b", "backend": "c"})) == ""


def test_each_fact_is_whose_it_is():
    """Operator, provider's list, catalogue, price list, guess: in this order, and each says so."""
    config = ModelConfig(name="m", backend="acme", max_tokens=100)
    listed = Listed("m", "Em", "chat", 9000, 8000, {"tools": False, "vision": True}, window=7)
    model = made(config, listed)
    assert (model.context_length, model.max_output_tokens, model.display_name) == (9000, 100, "Em")
    assert model.capabilities == ("completion", "vision")
    assert model.target.window == 9000
    assert {key: " ".join(whose) for key, whose in model.sources.items()} == {
        "display_name": "provider's list",
        "family": "assumed",
        "context_length": "provider's list",
        "max_tokens": "operator",
        "capabilities": "provider's list",
        "thinking": "assumed",
        "efforts": "assumed",
    }
    guessed = made(config, Listed("m", window=70_000))
    assert (guessed.context_length, guessed.sources["context_length"]) == (70_000, ("genai-prices",))
    claude = made(
        ModelConfig(name="claude-opus-5-5", backend="anthropic"), Listed("x", window=7), kind="anthropic"
    )
    assert (claude.context_length, claude.sources["context_length"]) == (1_000_000, ("catalogue",))
    assert made(config).target.window is None


def test_what_a_list_says_of_thinking_is_how_it_is_asked_for():
    """Fields that it does not tell stay those of the family."""
    config = ModelConfig(name="claude-next-7", backend="anthropic")
    listed = Listed(
        "claude-next-7",
        thinking=frozenset({"adaptive", "between_tools"}),
        efforts=("low", "max"),
        schema=False,
    )
    rules = made(config, listed, "anthropic").target.rules
    assert (rules.thinking, rules.efforts, rules.schema) == (
        {"adaptive", "between_tools"},
        ("low", "max"),
        False,
    )
    assert rules.accepts == facts_for("anthropic", "claude-next-7").rules.accepts
    rules = made(ModelConfig(name="m", backend="b"), Listed("m", able={"thinking": False})).target.rules
    assert (rules.thinking, rules.efforts) == (frozenset(), ())


def test_what_embeds_does_not_chat():
    """By its list, where its name does not tell."""
    model = made(
        ModelConfig(name="vectors", backend="b"), Listed("vectors", kind="embedding", context_length=512)
    )
    assert (model.capabilities, model.context_length, model.family) == (("embedding",), 512, "bert")


LISTED = st.builds(
    Listed,
    st.text(min_size=1, max_size=9),
    display_name=st.text(max_size=9),
    kind=st.sampled_from(["chat", "embedding", ""]),
    context_length=st.none() | st.integers(1, 10**9),
    max_output_tokens=st.none() | st.integers(1, 10**9),
    able=st.dictionaries(st.sampled_from(["tools", "vision", "thinking", "insert"]), st.booleans()),
    accepts=st.none() | st.frozensets(st.sampled_from(["seed", "stop", "top_p"])),
    thinking=st.none() | st.frozensets(st.sampled_from(["adaptive", "effort"])),
    efforts=st.none() | st.sampled_from([(), ("low", "high")]),
    schema=st.none() | st.booleans(),
    retires=st.sampled_from(["", "2027-01-01"]),
    gone=st.booleans(),
    minor=st.booleans(),
    window=st.none() | st.integers(1, 10**9),
)


@given(LISTED)
def test_what_is_kept_is_what_was_said(model):
    """Through JSON and back."""
    kept = orjson.loads(orjson.dumps(to_entries([model])))
    assert from_entry(model.id, kept[model.id]) == model
    shown = made(ModelConfig(name="m", backend="b"), model)
    assert shown.max_output_tokens <= max(shown.context_length, 1)
    assert not (frozenset(shown.capabilities) & {ability for ability, has in model.able.items() if not has})
