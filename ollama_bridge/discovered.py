"""Which models providers offer without being told: the catalogue's, then those that their own lists add. Pure.

A name is offered once. Whoever comes first keeps it, the catalogue's models before all others: what an IDE has selected
stays what it was when another provider is added behind. The second is called `provider/model`.
"""

import fnmatch
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from ollama_bridge.catalog import ModelConfig, catalogue_models, known_ids, undated
from ollama_bridge.facts import Listed, ModelKind
from ollama_bridge.lineage import key_of
from ollama_bridge.lists import NOTHING, Entry, Shelf
from ollama_bridge.names import fitted

NewModels = Literal["enabled", "disabled"]

MANY: Final = 60
"""Models beyond which a provider's would bury the others in a client's list."""

_EMBEDDING_WORDS: Final = frozenset("embed embedding embeddings embedder".split())
_OTHER_WORDS: Final = frozenset(
    [
        # speech and sound
        *"whisper tts audio realtime transcribe transcription speech voice live asr stt".split(),
        *"lyria playai orpheus translate diarize".split(),
        # pictures
        *"dall image imagen veo sora video flux diffusion sdxl banana kolors imagine".split(),
        # neither chat nor an index
        *"moderation guard safeguard rerank reranker ocr aqa robotics davinci babbage".split(),
        # another protocol
        *"search research computer".split(),
    ]
)
"""Words of an id, by which its kind is known where its provider does not say it."""

_WORDS: Final = re.compile(r"[^a-z0-9]+")
_TWIN: Final = re.compile(r"(-preview|-exp)?-(\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{2}|\d{2}-\d{4}|\d{4}|\d{3})$")
_MINOR: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "openai": ("gpt-3.5*", "gpt-4", "gpt-4-*", "chatgpt-*", "o1*", "*-chat-latest", "*-instruct"),
        "google": ("*-latest", "*-exp", "*-exp-*", "*-tuning", "*experimental*", "*-customtools"),
    }
)
"""By kind of provider: ids of predecessors, moving targets and trials."""


@dataclass(frozen=True, slots=True)
class Offerer:
    """A provider, as far as its models go.

    Args:
        name: Its key in the configuration.
        kind: Its kind there.
        facts_kind: Whose models it has, as `catalog.facts_kind` says.
        builtin: Whether the catalogue's models of its kind are its own.
        lists: What it said of its models.
        new_models: What becomes of those that the catalogue lacks; None: as many as they are.
        many: Whether it is known to have hundreds.
        include: Patterns of ids: what fits is enabled, and nothing else.
        exclude: Patterns of ids that are not enabled, whatever else holds.
    """

    name: str
    kind: str
    facts_kind: str
    builtin: bool = True
    lists: Shelf = NOTHING
    new_models: NewModels | None = None
    many: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def shows_new(self) -> bool:
        """Whether models that nobody has named are enabled."""
        if self.new_models is not None:
            return self.new_models == "enabled"
        return not self.many and sum("minor" not in entry for entry in self.lists.models.values()) <= MANY

    def wants(self, model_id: str, *, otherwise: bool) -> bool:
        """Whether the operator's patterns enable a model; where there are none, `otherwise`."""
        if _fits(self.exclude, model_id):
            return False
        return _fits(self.include, model_id) if self.include else otherwise


class Offer(NamedTuple):
    """One model that is offered; `from_list`: the catalogue has not got it."""

    config: ModelConfig
    from_list: bool


def offers(written: Sequence[ModelConfig], offerers: Sequence[Offerer], *, hidden: bool) -> Iterator[Offer]:
    """The models of providers that can answer, less those that the operator describes.

    Args:
        written: The operator's.
        offerers: In the order of the configuration.
        hidden: Whether also those from lists that are not enabled, hundreds perhaps.
    """
    names = _Names(written, offerers)
    for offerer in offerers:
        for model in catalogue_models(offerer.kind, offerer.name) if offerer.builtin else ():
            if name := names.builtin(model):
                told = offerer.lists.listed(model.backend_model) if offerer.lists.models else None
                gone = told is not None and told.gone
                if not offerer.wants(model.backend_model, otherwise=not gone):
                    model = model.model_copy(update={"enabled": False})  # noqa: PLW2901
                yield Offer(model.model_copy(update={"name": name}) if name != model.name else model, False)
    # Hidden ones last: they must not take a name from one that is seen.
    for enabled in (True, False) if hidden else (True,):
        for offerer in offerers:
            for model_id in _new(offerer, enabled=enabled):
                if name := names.new(offerer, model_id):
                    config = {"name": name, "backend": offerer.name, "backend_model": model_id}
                    yield Offer(ModelConfig(**config, enabled=enabled), True)


def pruned(kind: str, models: Iterable[Listed], today: str) -> list[Listed]:
    """Those that one can chat with or embed by, each told whether it is of interest to nobody but who asks for it.

    Args:
        kind: Whose models they are, as `catalog.facts_kind` says.
        models: All that a provider lists.
        today: `2026-11-21`.
    """
    served = [
        replace(model, kind=what)
        for model in models
        if (what := model.kind or kind_of(model.id)) in {"chat", "embedding", ""}
    ]
    known = known_ids(kind)
    ids = {model.id for model in served} | {model_id for model_id, is_offered in known.items() if is_offered}
    return [
        replace(
            model,
            minor=known.get(model.id) is False or _is_minor(kind, model.id, ids),
            gone=model.gone or bool(model.retires and model.retires <= today),
        )
        for model in served
    ]


def kind_of(model_id: str) -> ModelKind:
    """What a model is for, by its name; empty: it does not tell."""
    words = set(_WORDS.split(model_id.lower()))
    return "embedding" if words & _EMBEDDING_WORDS else "other" if words & _OTHER_WORDS else ""


def _is_minor(kind: str, model_id: str, ids: set[str]) -> bool:
    twin = _TWIN.sub("", model_id)
    if twin != model_id and ids & {twin, f"{twin}-latest"}:
        return True
    return _fits(_MINOR.get(kind, ()), model_id)


def _new(offerer: Offerer, *, enabled: bool) -> Iterator[str]:
    """Ids that the catalogue does not offer, and that are to be seen, or not."""
    shows = offerer.shows_new
    if not offerer.lists.models or (enabled and not shows and not offerer.include):
        return
    known = known_ids(offerer.facts_kind) if offerer.builtin else {}
    offered = {model_id for model_id, is_offered in known.items() if is_offered}

    def is_seen(model_id: str, entry: Entry) -> bool:
        return offerer.wants(model_id, otherwise=shows and "minor" not in entry) and "gone" not in entry

    found = (
        model_id
        for model_id, entry in offerer.lists.models.items()
        if model_id not in offered
        and undated(model_id) not in offered
        and is_seen(model_id, entry) is enabled
    )
    # Of two ids that amount to one name the one that is that name gets it, whatever the order of the list.
    yield from sorted(found, key=lambda model_id: (fitted(model_id) != model_id, model_id))


class _Names:
    """Gives each model a name that no other has."""

    def __init__(self, written: Sequence[ModelConfig], offerers: Sequence[Offerer]) -> None:
        self._written = {key_of(model.name): (model.backend, model.upstream) for model in written}
        shown = {key_of(alias) for model in written if model.enabled for alias in model.aliases}
        self._others = {*self._written, *shown}
        self._taken = set(self._others)
        self._providers = {fitted(offerer.name).lower() for offerer in offerers}

    def builtin(self, model: ModelConfig) -> str:
        """Of a model of the catalogue; empty: the operator's own goes by that name."""
        if key_of(model.name) in self._others:
            return ""
        full = full_name(model)
        return self._first(*([model.name] if self._is_clear(model.name, model.backend) else []), full)

    def new(self, offerer: Offerer, model_id: str) -> str:
        """Of a model from a list; empty: the operator describes it."""
        bare, full = fitted(model_id), fitted(model_id, offerer.name)
        if any(self._written.get(key_of(name)) == (offerer.name, model_id) for name in (bare, full)):
            return ""
        own = offerer.builtin and offerer.name != offerer.kind
        is_clear = not own and self._is_clear(bare, offerer.name)
        return self._first(*([bare] if is_clear else []), full, fitted(f"{model_id}-{offerer.name}"))

    def _is_clear(self, name: str, provider: str) -> bool:
        """Whether a name is not to be taken for another's.

        `openai/gpt-x` of OpenRouter is not OpenAI's own, if that is there too.
        """
        above = name.rpartition("/")[0].lower()
        return above not in self._providers - {fitted(provider).lower()}

    def _first(self, *names: str) -> str:
        for name in names:
            if (key := key_of(name)) not in self._taken:
                self._taken.add(key)
                return name
        return ""


def full_name(model: ModelConfig) -> str:
    """`provider/model`: the name by which it is told from the same model of others."""
    return fitted(model.upstream, model.backend)


def other_name(model: ModelConfig) -> str:
    """The one of `model` and `provider/model` that is not its name; empty: it is called otherwise.

    Which of the two a model is listed by depends on who else has it; who asks for the other means this one too.
    """
    bare, full = fitted(model.upstream), full_name(model)
    own = key_of(model.name)
    if model.from_ or own not in {key_of(bare), key_of(full)}:
        return ""
    return full if own == key_of(bare) else bare


def _fits(patterns: tuple[str, ...], model_id: str) -> bool:
    return bool(patterns) and _compiled(patterns).match(model_id.lower()) is not None


@functools.lru_cache(maxsize=256)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern.lower()) for pattern in patterns))
