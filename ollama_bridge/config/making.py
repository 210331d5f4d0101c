"""What `ollama pull`, `rm`, `cp` and `create` do to the configuration.

A model of one's own is an entry with `from`; it is made, replaced and removed by clients. What was made from it
keeps what it had from it, as a real server's layers do. An entry with a backend is the operator's: clients hide it, show it,
and may add a system prompt and the like to it, but never replace or remove it.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ollama_bridge.catalog import ModelConfig, recognised
from ollama_bridge.config.file import find
from ollama_bridge.config.schema import IMPLICIT_PROVIDERS, Config
from ollama_bridge.errors import ConfigError, InvalidRequest, ModelNotFound
from ollama_bridge.lineage import inherited, key_of, places
from ollama_bridge.names import DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, Name, parse_name

if TYPE_CHECKING:
    from ollama_bridge.config.draft import Draft

Change: TypeAlias = "Callable[[Draft], None]"
"""Works on a draft; what it raises leaves the file as it was."""

_MADE_OF: Final = frozenset(
    {"from", "backend", "backend_model", "enabled", "system", "parameters", "messages", "template", "license"}
)
"""Keys that making a model anew sets anew; the others of its entry are the operator's, and stay."""


def pull(draft: "Draft", name: str) -> None:
    """Show a model to clients: one that is known, or one that a provider with a key may well have.

    Raises:
        ModelNotFound: Neither.
    """
    _placed(draft, name)
    draft.set_enabled(name, True)


def remove(draft: "Draft", name: str) -> None:
    """Let clients no longer see a model: one of one's own is gone, any other hidden; an alias is taken away.

    Raises:
        ModelNotFound: Clients do not see such a model.
        ConfigError: 400: others fall back to it, or a budget does.
    """
    index = _index(draft, name)
    model = draft.loaded.config.models[index] if index is not None else None
    if index is None or model is None or not model.enabled:
        raise ModelNotFound(name)
    key = parse_name(name).key
    if parse_name(model.name).key != key:
        keys = [parse_name(alias).key for alias in model.aliases]
        with _unless_needed(draft, name):
            draft.remove_alias(index, keys.index(key))
    elif model.from_:
        _cut(draft, index)
        if (beneath := _index(draft, name)) is not None:  # a built-in one that it stood in front of
            draft.set_enabled(draft.loaded.config.models[beneath].name, False)
    else:
        draft.set_enabled(name, False)


def cut(draft: "Draft", name: str) -> None:
    """Take a model's entry out of the file, whoever made it.

    Raises:
        ConfigError: There is none; or others fall back to it, or a budget does.
    """
    index, model = find(draft.loaded.config, name)
    if draft.is_catalogues(index):
        raise ConfigError(f"model '{model.name}' is built in, and not in the file: `models disable` hides it")
    _cut(draft, index)


def create(draft: "Draft", name: str, parent: str, said: Mapping[str, Any]) -> None:
    """Make a model from another.

    Args:
        draft: The configuration.
        name: Valid by Ollama's grammar.
        parent: Pulled, if it is not there.
        said: What it adds: keys of a `ModelConfig`, in the order they are to be written. `${` in them is text.

    Raises:
        ModelNotFound: There is no such parent.
        InvalidRequest: The name is another model's.
    """
    said = {key: _verbatim(value) for key, value in said.items()}
    source = _placed(draft, parent)
    old = _index(draft, name)
    entry = {"name": _written(parse_name(name)), "from": draft.loaded.config.models[source].name, **said}
    if old is None:
        draft.append(entry)
        return
    model = draft.loaded.config.models[old]
    _check_free(draft, name, old, itself=source == old)
    entry["name"] = model.name  # as it is spelled already
    if source == old:
        del entry["from"]
        entry = inherited(entry, draft.entry(old))
    if model.from_:
        _release_children(draft, old)
    kept = {key: value for key, value in draft.entry(old).items() if key not in _MADE_OF}
    _put(draft, old, {**entry, **kept})


def discoverable(config: Config, name: str) -> dict[str, Any] | None:
    """The entry for a model that nobody has described, but that one provider with a key may well have.

    Not a real Ollama: what that one has is there without an entry, and what it has not it can pull.
    `provider/model` names it outright; a model alone must be of a family that exactly one such provider has.
    """
    wanted = parse_name(name)
    able = {
        key: provider.facts_kind(key)
        for key, provider in config.providers.items()
        if (provider.api_key or provider.base_url or (provider.kind or key) not in IMPLICIT_PROVIDERS)
        and (provider.kind or key) != "ollama"
    }
    upstream = wanted.model if wanted.tag == DEFAULT_TAG else f"{wanted.model}:{wanted.tag}"
    if wanted.host.lower() != DEFAULT_HOST:
        prefix, upstream = wanted.host, f"{wanted.namespace}/{upstream}"
    elif wanted.namespace.lower() != DEFAULT_NAMESPACE:
        prefix = wanted.namespace
    elif wanted.tag != DEFAULT_TAG:
        return None
    else:
        may_have = [key for key, kind in able.items() if kind == key and recognised(kind, upstream)]
        return _entry(wanted, may_have[0], upstream) if len(may_have) == 1 else None
    named = next(
        (key for key in able if key.replace(".", "-").lower() == prefix.lower().replace(".", "-")), None
    )
    return _entry(wanted, named, upstream) if named else None


def _entry(name: Name, provider: str, upstream: str) -> dict[str, Any]:
    entry = {"name": _written(name), "backend": provider, "backend_model": upstream}
    if upstream == entry["name"]:
        del entry["backend_model"]
    return entry


def _placed(draft: "Draft", name: str) -> int:
    """The place of a model, which is added if it can be."""
    index = _index(draft, name)
    if index is not None:
        return index
    entry = discoverable(draft.loaded.config, name)
    if entry is None:
        raise ModelNotFound(name)
    draft.append(entry)
    return find(draft.loaded.config, name)[0]


def _check_free(draft: "Draft", name: str, index: int, *, itself: bool) -> None:
    """Whether the model at `index`, which answers to `name`, may be made anew; InvalidRequest if not."""
    model = draft.loaded.config.models[index]
    if parse_name(model.name).key != parse_name(name).key:
        raise InvalidRequest(f"'{name}' is an alias of model '{model.name}'; choose another name")
    if model.from_ or itself:
        return
    hidden = not model.enabled and draft.entry(index).keys() <= {
        "name",
        "backend",
        "backend_model",
        "enabled",
    }
    if not hidden or _children(draft, index):
        raise InvalidRequest(
            f"model '{model.name}' is not one that was made here, and is not replaced; choose another name, "
            f"or make it from '{model.name}' itself"
        )


def _put(draft: "Draft", index: int, entry: Mapping[str, Any]) -> None:
    if draft.is_catalogues(index):
        draft.append(_ordered(entry))
    else:
        draft.replace(index, _ordered(entry))


def _cut(draft: "Draft", index: int) -> None:
    model = draft.loaded.config.models[index]
    with _unless_needed(draft, model.name, *model.aliases):
        _release_children(draft, index)
        draft.cut(index)


@contextmanager
def _unless_needed(draft: "Draft", *names: str) -> Iterator[None]:
    """While inside, these names may become nobody's; who counts on one of them is named if that cannot be."""
    before = draft.loaded.config
    keys = set(map(key_of, names))
    try:
        yield
    except ConfigError:
        if not (counting := ", ".join(_counting_on(before, keys))):
            raise
    else:
        # A name that somebody may have by and by is no fault of a file's, and yet one that this change makes nobody's.
        if not (
            counting := ", ".join(_counting_on(before, keys - places(draft.loaded.config.models).keys()))
        ):
            return
    raise ConfigError(
        f"'{names[0]}' is still needed, and stays: it is named by {counting}; take it out there first",
        status=400,
    )


def _counting_on(config: Config, keys: Container[str]) -> Iterator[str]:
    """Where these names are named to answer for others, for people."""
    for model in config.models:
        if any(key_of(name) in keys for name in model.fallbacks):
            yield f"'fallbacks' of model '{model.name}'"
        if model.budget is not None and key_of(model.budget.instead) in keys:
            yield f"'budget.instead' of model '{model.name}'"
    for who, budget in config.budgets.items():
        if key_of(budget.instead) in keys:
            yield f"'budgets.{who}.instead'"


def _release_children(draft: "Draft", index: int) -> None:
    """Give what is made from a model what it has from it."""
    for child in _children(draft, index):
        draft.replace(child, _ordered(inherited(draft.entry(child), draft.entry(index))))


def _children(draft: "Draft", index: int) -> list[int]:
    models = draft.loaded.config.models
    known = places(models)
    return [at for at, one in enumerate(models) if one.from_ and known[parse_name(one.from_).key] == index]


def _index(draft: "Draft", name: str) -> int | None:
    return places(draft.loaded.config.models).get(key_of(name))


def _written(name: Name) -> str:
    return name.shortest.removesuffix(f":{DEFAULT_TAG}")


def _ordered(entry: Mapping[str, Any]) -> dict[str, Any]:
    """In the order of the schema."""
    order = [field.alias or key for key, field in ModelConfig.model_fields.items()]
    return {key: entry[key] for key in order if key in entry}


def _verbatim(value: Any) -> Any:
    """The same, once `${…}` was expanded: a client must not read the operator's variables."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, Mapping):
        return {key: _verbatim(item) for key, item in value.items()}
    return [_verbatim(item) for item in value] if isinstance(value, list | tuple) else value
