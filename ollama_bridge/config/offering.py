"""What providers offer without being told: the rooms below know how, this one knows the configuration."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from ollama_bridge.backends.vendors import VENDORS, vendor_of
from ollama_bridge.catalog import ModelConfig, catalogue_models, facts_kind
from ollama_bridge.config.schema import KEYLESS_KINDS, Config
from ollama_bridge.discovered import Offer, Offerer, offers
from ollama_bridge.facts import Listed
from ollama_bridge.lineage import key_of, places
from ollama_bridge.lists import NOTHING, Lists, Shelf
from ollama_bridge.names import fitted

LIVE_KINDS: Final = frozenset({"demo", "ollama"})
"""Kinds of providers whose models are not kept in a file: one has no list, and one is asked each time."""


def offered(written: Config, lists: Lists, *, hidden: bool) -> Iterator[Offer]:
    """The models of each provider that can answer, less the names that the operator has given.

    Args:
        written: What the operator wrote.
        lists: What the providers said.
        hidden: Whether also those that are in no catalogue and that clients do not see: hundreds, perhaps.
    """
    able = [_offerer(written, name, lists) for name in written.providers if can_answer(written, name)]
    return offers(written.models, able, hidden=hidden)


def parents(written: Config, offered_ones: Iterable[ModelConfig], lists: Lists) -> Iterator[ModelConfig]:
    """Hidden, what something is made from, and what nobody offers.

    A key that is taken away, or a list that is gone, must not keep the daemon from starting. Of providers without a key
    that is what the catalogue has; `provider/model` says outright who has it; else it is whoever lists it, hidden or no
    more, or the first whose list is not there.
    """
    models = (*written.models, *offered_ones)
    named = {key_of(model.from_): model.from_ for model in written.models if model.from_}
    wanted = named.keys() - places(models).keys()
    for name, provider in written.providers.items():
        for model in catalogue_models(provider.kind or name, name) if wanted else ():
            if (key := key_of(model.name)) in wanted:
                wanted.discard(key)
                yield model.model_copy(update={"enabled": False})
    for key in sorted(wanted):
        if (source := _source(written, lists, named[key])) is not None:
            name, model_id = source
            yield ModelConfig(name=named[key], backend=name, backend_model=model_id, enabled=False)


def perhaps(written: Config, lists: Lists, name: str) -> str:
    """Why a name that nobody offers may be a model's all the same; empty: it is nobody's.

    A list that is lost, or a model that a provider takes back, must not keep the daemon from starting.
    """
    if not key_of(name):
        return ""
    asked = [one for one in written.providers if asks(written, one)]
    for provider in asked:
        shelf = shelf_of(written, lists, provider)
        if _called(provider, name, shelf.models):
            return f"{provider} lists it, and it is hidden: `ollama-bridge models enable {name}` shows it"
        if _called(provider, name, shelf.former):
            return f"{provider} lists it no more"
    before, _, model_id = name.partition("/")
    if model_id and before in written.providers:
        has_list = shelf_of(written, lists, before).asked_s
        return f"{before} does not list it" if has_list else f"only {before} may have it"
    for provider in asked:
        if not shelf_of(written, lists, provider).asked_s:
            return f"the list of {provider} is not there yet"
    live = [one for one, each in written.providers.items() if (each.kind or one) == "ollama"]
    return f"only {' or '.join(live)} may have it" if live else ""


def _called(provider: str, name: str, ids: Iterable[str]) -> str:
    """Which of these ids of a provider's is the model of that name; empty: none."""
    key = key_of(name)
    return next((one for one in ids if key in {key_of(fitted(one)), key_of(fitted(one, provider))}), "")


def live_providers(written: Config) -> list[str]:
    """Those whose models are asked for each time, and stand in no list of ours."""
    return [name for name, each in written.providers.items() if (each.kind or name) == "ollama"]


def can_answer(written: Config, name: str) -> bool:
    """Whether a provider has a key, or needs none: others would only offer errors."""
    provider = written.providers[name]
    kind = provider.kind or name
    is_own = ":" in kind  # a class of the operator's, who knows what it needs
    return bool(provider.api_key) or kind in KEYLESS_KINDS or is_own or _is_elsewhere(written, name)


def _source(written: Config, lists: Lists, name: str) -> tuple[str, str] | None:
    """The provider that a model nobody offers may be of, and its id there."""
    shelves = {one: shelf_of(written, lists, one) for one in written.providers if asks(written, one)}
    for provider, shelf in shelves.items():
        if model_id := _called(provider, name, (*shelf.models, *shelf.former)):
            return provider, model_id
    before, _, model_id = name.partition("/")
    if before in written.providers and model_id:
        return before, model_id
    unasked = next((provider for provider, shelf in shelves.items() if not shelf.asked_s), None)
    return (unasked, name.removesuffix(":latest")) if unasked and key_of(name) else None


def shelf_of(written: Config, lists: Lists, name: str) -> Shelf:
    """What a provider said of its models."""
    provider = written.providers[name]
    kind = provider.kind or name
    return NOTHING if kind in LIVE_KINDS else lists.of(name, kind, provider.address(name))


def asks(written: Config, name: str) -> bool:
    """Whether a provider is to be asked for its models."""
    provider = written.providers[name]
    wanted = written.discovery.enabled if provider.discover is None else provider.discover
    return wanted and (provider.kind or name) not in LIVE_KINDS and can_answer(written, name)


def told(written: Config, models: Sequence[ModelConfig], lists: Lists) -> Mapping[tuple[str, str], Listed]:
    """What the providers say of these, by provider and id; their backends are known."""
    shelves = {name: shelf_of(written, lists, name) for name in written.providers} if lists.shelves else {}
    return {
        (model.backend, model.upstream): listed
        for model in models
        if (shelf := shelves.get(model.backend)) and (listed := shelf.listed(model.upstream))
    }


def _offerer(written: Config, name: str, lists: Lists) -> Offerer:
    provider = written.providers[name]
    kind = provider.kind or name
    vendor = vendor_of(kind, provider.base_url)
    return Offerer(
        name,
        kind,
        facts_kind(name, kind, provider.base_url),
        builtin=not _is_elsewhere(written, name),
        lists=shelf_of(written, lists, name) if asks(written, name) else NOTHING,
        new_models=provider.new_models or written.discovery.new_models,
        many=vendor is not None and vendor.many,
        include=provider.include,
        exclude=provider.exclude,
    )


def _is_elsewhere(written: Config, name: str) -> bool:
    """`acme: {kind: openai, base_url: …}` serves models of its own, not OpenAI's."""
    provider = written.providers[name]
    kind = provider.kind or name
    return provider.base_url is not None and name != kind and kind not in VENDORS
