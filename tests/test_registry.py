"""Names find their models, models find their providers, and what is loaded is remembered for as long as it was asked."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.catalog import CATALOG, ModelConfig, catalogue_models, complete
from ollama_bridge.chat import ChatRequest, Message, singly
from ollama_bridge.errors import ConfigError, ModelNotFound
from ollama_bridge.events import Finish, TextDelta
from ollama_bridge.registry import FOREVER, ModelRegistry, Residency


class Recorder:
    """A backend that notes what it was asked, and whether its reply was closed."""

    def __init__(self):
        self.asked = []
        self.closed = asyncio.Event()

    async def chat(self, request):
        self.asked.append(request)
        try:
            yield (TextDelta("hi"),)
            yield (Finish(),)
        finally:
            self.closed.set()


def model(name, backend="demo", **more):
    return complete(ModelConfig(name=name, backend=backend, **more), kind="demo")


def registry(*models):
    return ModelRegistry({"demo": Recorder(), "other": Recorder()}, models)


NAME = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True)
TAG = st.sampled_from(["", ":latest", ":8b", ":V2"])


def test_claude_code_finds_its_model_for_small_tasks():
    """It asks for one version by itself, and gets the model that is it, unless something has that very name."""
    asked = "claude-haiku-4-5-20251001"
    haiku = model("small", backend_model="claude-haiku-4-5")
    assert registry(model("other-one"), haiku).resolve(asked) == haiku
    assert [one.name for one in registry(haiku).models()] == [haiku.name]
    own = model(asked)
    assert registry(haiku, own).resolve(asked) == own
    for without in (model("other-one"), model("claude-haiku-4-5", enabled=False)):
        with pytest.raises(ModelNotFound):
            registry(without).resolve(asked)


@given(
    st.lists(
        st.tuples(st.lists(st.tuples(NAME, TAG), min_size=1, max_size=4), st.booleans()),
        unique_by=lambda entry: entry[0][0][0].lower(),
        max_size=6,
    ),
    st.sampled_from([str.lower, str.upper, str.swapcase, str]),
)
def test_an_enabled_model_is_found_by_each_of_its_names_and_no_other_is(entries, change_case):
    """By name and by alias, with `:latest` and without it, in any case; a disabled one by none."""
    models, owners, taken = [], {}, set()
    for names, enabled in entries:
        spelled = [name + tag for name, tag in names]
        keys = [(name + (tag or ":latest")).lower() for name, tag in names]
        if taken & set(keys):
            continue
        taken |= set(keys)
        made = model(spelled[0], aliases=tuple(spelled[1:]), enabled=enabled)
        models.append(made)
        owners |= dict.fromkeys(keys, made.name if enabled else None)
    found = registry(*models)

    for key, owner in owners.items():
        for spelled in {key, key.removesuffix(":latest")}:
            asked = change_case(spelled)
            if owner is None:
                with pytest.raises(ModelNotFound):
                    found.resolve(asked)
            else:
                assert found.resolve(asked).name == owner
    assert {one.name for one in found.models()} == {owner for owner in owners.values() if owner}


def test_an_unknown_name_is_reported_as_the_client_sent_it():
    """Clients look for their own spelling in the message."""
    with pytest.raises(ModelNotFound) as caught:
        registry(model("a")).resolve("NoPe:Latest")

    assert caught.value.name == "NoPe:Latest"
    assert caught.value.status == 404


@pytest.mark.parametrize("name", ["", "  ", "a b", "a:b:c", "ü", "x:cloud:local"])
def test_what_is_no_name_is_the_name_of_no_model(name):
    """Whether that is a 400 or a 404 differs from endpoint to endpoint, and is the surface's to say."""
    with pytest.raises(ModelNotFound):
        registry(model("a")).resolve(name)


async def test_a_request_reaches_the_provider_of_its_model_with_its_target():
    """The backend learns the provider's id, the limits and the rules, and the rest of the request is untouched."""
    backends = {"demo": Recorder(), "other": Recorder()}
    found = ModelRegistry(backends, [model("a"), model("b", "other", backend_model="up", aliases=("c",))])
    request = ChatRequest(model="C:latest", messages=(Message("user", "hi"),))

    async with aclosing(singly(found.chat(request))) as reply:
        events = [event async for event in reply]

    assert events == [TextDelta("hi"), Finish()]
    assert not backends["demo"].asked
    [asked] = backends["other"].asked
    assert (asked.target.provider, asked.target.model) == ("other", "up")
    assert (asked.model, asked.messages) == (request.model, request.messages)


async def test_leaving_the_registry_closes_the_backends_reply():
    """A client that left must not leave a provider generating."""
    backends = {"demo": Recorder()}
    reply = ModelRegistry(backends, [model("a")]).chat(ChatRequest(model="a"))
    await anext(reply)

    await reply.aclose()

    assert backends["demo"].closed.is_set()


def test_added_disabled_and_enabled_again():
    """The seed's three verbs: each is seen at once, and by name only."""
    found = registry(model("a"))

    added = found.add_model(ModelConfig(name="b", backend="other", aliases=("bee",)))
    assert (found.resolve("bee"), added.name) == (added, "b:latest")

    found.disable_model("B")
    with pytest.raises(ModelNotFound):
        found.resolve("bee")
    assert [one.name for one in found.models()] == ["a:latest"]

    found.enable_model("b:latest")
    assert found.resolve("bee").digest == added.digest
    for verb in (found.enable_model, found.disable_model):
        with pytest.raises(ModelNotFound):
            verb("nope")


def test_an_added_model_has_the_facts_of_its_providers_kind():
    """A provider's name says nothing about its SDK; `kinds` does."""
    found = ModelRegistry({"work": Recorder()}, kinds={"work": "anthropic"}, default_max_tokens=3)

    known = found.add_model(ModelConfig(name="opus", backend="work", backend_model="claude-opus-5-5"))
    guessed = found.add_model(ModelConfig(name="new", backend="work", backend_model="claude-opus-77"))

    assert (known.family, known.max_output_tokens) == ("claude", 128_000)
    assert guessed.max_output_tokens == 3


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([("a", {}), ("A:latest", {})], "both answer to 'A:latest'"),
        ([("a", {}), ("b", {"aliases": ("a",)})], "'a:latest' and 'b:latest' both answer to 'a'"),
        ([("a", {"aliases": ("x",)}), ("b", {"aliases": ("X",)})], "both answer to 'X'"),
        ([("a", {"aliases": ("x y",)})], "'a:latest': 'x y'"),
        ([("a", {"backend": "gone"})], "there is no provider 'gone'"),
    ],
)
def test_what_cannot_be_told_apart_is_the_operators_mistake(models, message):
    """Said at start, or by `add_model`, which then leaves everything as it was."""
    made = [model(name, **more) for name, more in models]
    with pytest.raises(ConfigError, match=message):
        registry(*made)

    found = registry(*made[:-1])
    before = found.models()
    with pytest.raises(ConfigError, match=message):
        found.add_model(made[-1].config)
    assert found.models() is before


def test_a_disabled_models_aliases_are_free():
    """Disable a model of the catalogue, and its name can be an alias of your own; then it cannot come back."""
    found = registry(model("a", enabled=False), model("b", aliases=("a",)))

    assert found.resolve("a").name == "b:latest"
    with pytest.raises(ConfigError):
        found.enable_model("a")
    assert found.resolve("a").name == "b:latest"


@given(st.lists(st.sampled_from(["", "X", "X (a)", "X (b)", "X (b) (b)"]), min_size=2, max_size=5))
def test_no_two_models_have_one_display_name(display_names):
    """VS Code's list shows nothing else, and whatever operators call their models, digests differ as well."""
    names = "abcde"[: len(display_names)]
    pairs = zip(names, display_names, strict=True)
    found = registry(*(model(n, display_name=d, backend_model="m") for n, d in pairs)).models()

    assert len({one.display_name for one in found}) == len({one.digest for one in found}) == len(names)


def test_the_list_is_one_object_until_something_changes():
    """What is made from it, the body of /api/tags for one, can be kept as long."""
    found = registry(model("a"), model("b"))
    before = found.models()

    assert found.models() is before
    found.disable_model("b")
    assert found.models() is not before


@pytest.mark.parametrize("kind", CATALOG)
def test_what_a_provider_offers_by_itself(kind):
    """Every offered row, as a model that completes to its own facts; a second account has names of its own."""
    plain, work = catalogue_models(kind, kind), catalogue_models(kind, "my.work")
    made = [complete(config, kind=kind) for config in (*plain, *work)]

    found = ModelRegistry({kind: Recorder(), "my.work": Recorder()}, made)

    assert [one.target.model for one in found.models()] == [
        facts.id for facts in CATALOG[kind] if facts.offered
    ] * 2
    assert found.resolve(f"my-work/{work[0].backend_model}").target.provider == "my.work"
    assert catalogue_models("lmstudio", "lmstudio") == ()


NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


async def test_what_is_kept_and_for_how_long():
    """Five minutes unless said otherwise, the longest first; negative is Ollama's forever; zero is gone."""
    clock = [NOW]
    residency = Residency(now=lambda: clock[0])
    for name, keep_alive_s in {"a": None, "b": -1, "c": 600.5, "d": 1, "e": 9}.items():
        residency.touch(name, keep_alive_s)
    residency.touch("e", 0)
    residency.touch("never used", 0)

    async def loaded():
        return [(one.name, one.expires_at - NOW) for one in await residency.loaded()]

    assert await loaded() == [
        ("b", FOREVER),
        ("c", timedelta(seconds=600.5)),
        ("a", timedelta(minutes=5)),
        ("d", timedelta(seconds=1)),
    ]
    assert (NOW + FOREVER).year == 2319

    clock[0] += timedelta(seconds=1)
    assert [name for name, _ in await loaded()] == ["b", "c", "a"]
    residency.touch("a")
    assert dict(await loaded())["a"] == timedelta(minutes=5, seconds=1)


@given(st.floats())
async def test_no_keep_alive_is_too_large_for_a_date(keep_alive_s):
    """Infinity, NaN and 1e300 seconds are all forever."""
    residency = Residency(now=lambda: NOW)
    residency.touch("a", keep_alive_s)

    assert all(NOW < one.expires_at <= NOW + FOREVER for one in await residency.loaded())


async def test_what_other_processes_keep_is_shown_as_if_it_were_ones_own():
    """Of one model the last use counts, whoever it was asked of: also that which stopped it."""
    clock = [NOW]
    mine, other = (Residency(now=lambda: clock[0]) for _ in range(2))

    async def elsewhere():
        return [other.uses()]

    mine.elsewhere = elsewhere
    mine.touch("both", -1)
    mine.touch("mine", 60)
    other.touch("theirs", 600)
    clock[0] += timedelta(seconds=1)
    other.touch("both", 30)

    async def names():
        return [one.name for one in await mine.loaded()]

    assert await names() == ["theirs", "mine", "both"]
    clock[0] += timedelta(seconds=1)
    other.touch("mine", 0)
    assert await names() == ["theirs", "both"]
    mine.touch("mine")
    assert await names() == ["theirs", "mine", "both"]
