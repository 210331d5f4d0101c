"""What is known about models, and how an operator describes one.

`Facts` are ours: context lengths, capabilities, and the `Rules` by which one upstream model differs from
its neighbours. A `ModelConfig` is the operator's: what it leaves out is filled in from what its provider lists, and else
from the facts.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import orjson

from ollama_bridge.allowances import Price
from ollama_bridge.backends.vendors import VENDORS, vendor_kind
from ollama_bridge.catalog_data import (
    CATALOG,
    CATALOGUE_DATE,
    EMBEDDERS,
    FAMILIES,
    FILLERS,
    SHORT_IDS,
    SNAPSHOTS,
    TALKS_AND_FILLS,
    UNKNOWN,
)
from ollama_bridge.chat import Capability, Message, Rules, Target
from ollama_bridge.facts import Facts, Listed
from ollama_bridge.modelconfig import ModelConfig
from ollama_bridge.names import fitted, normalise_name
from ollama_bridge.native import Resident
from ollama_bridge.presets import NOTHING_ADDED, Preset
from ollama_bridge.truth import ASSUMED, OPERATOR, Sources, known_of

__all__ = [
    "CATALOG",
    "CATALOGUE_DATE",
    "COMPATIBLE",
    "SNAPSHOTS",
    "Facts",
    "Model",
    "ModelConfig",
    "catalogue_models",
    "complete",
    "facts_for",
    "facts_kind",
    "known_ids",
    "recognised",
    "renamed",
    "standing_for",
    "undated",
]

COMPATIBLE: Final = "compatible"
"""The kind, as far as facts go, of whoever speaks OpenAI's wire without being OpenAI."""

_SAME_FACTS: Final = {"vertex": "google"}  # all of another kind's models, asked in the same way

_BY_ID: Final[Mapping[str, Mapping[str, Facts]]] = MappingProxyType(
    {kind: {facts.id: facts for facts in rows} for kind, rows in CATALOG.items()}
)
_CAPABILITY_ORDER: Final[tuple[Capability, ...]] = (
    "completion",
    "tools",
    "insert",
    "vision",
    "embedding",
    "thinking",
)
_DATE: Final = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")
_AFTER_LETTERS: Final = re.compile(r"[^a-z].*")


@dataclass(frozen=True, slots=True)
class Model:
    """A model as it is offered: the operator's configuration, completed from the facts.

    Args:
        config: What the operator wrote, or what the catalogue wrote for them, with what it inherits (`lineage`).
        name: As lists show it, always with a tag: `claude-sonnet:latest`.
        display_name: For people; unique among the models on offer.
        family: Also `general.architecture`, the prefix of its keys in `model_info`.
        context_length: Tokens.
        max_output_tokens: Tokens.
        embedding_length: Width of its embeddings; clients demand a number even of chat models.
        capabilities: What clients may switch on, in Ollama's order.
        digest: 64 hexadecimal digits, derived from all that is advertised: clients cache by it.
        modified_at: When the advertised facts last changed, with a zone.
        target: Who answers, and by which rules.
        preset: What it adds to every conversation.
        price: What its provider's list says that it costs.
        sources: Where each fact came from, by its key in the configuration.
        resident: If a real Ollama has it, which may then be asked in its own words; None: nobody like that has it.
    """

    config: ModelConfig
    name: str
    display_name: str
    family: str
    context_length: int
    max_output_tokens: int
    embedding_length: int
    capabilities: tuple[Capability, ...]
    digest: str
    modified_at: datetime
    target: Target
    preset: Preset = NOTHING_ADDED
    price: Price | None = None
    sources: Sources = field(default_factory=dict)
    resident: Resident | None = None

    @property
    def is_own(self) -> bool:
        """Whether the configuration has it, and not only a real Ollama."""
        return self.resident is None or self.resident.is_own


def facts_for(kind: str, model_id: str) -> Facts:
    """What is known about a model; never fails.

    Args:
        kind: A provider's kind. The kinds of `CATALOG` are looked up by id, then by the id without its date, then
            by family. Of any other kind (a compatible vendor, a real Ollama) only sizes and capabilities are
            borrowed, when it serves a model that we know: how to ask is the vendor's, not the maker's. What a vendor's
            own rows say goes first.
        model_id: As the provider knows it.
    """
    rows = _BY_ID.get(kind)
    if rows is None:
        return _facts_at_vendor(kind, model_id) or _facts_elsewhere(model_id, UNKNOWN.rules)
    bare = model_id.rpartition("/")[2].lower()
    known = rows.get(bare) or rows.get(_DATE.sub("", bare))
    if known is not None:
        return replace(known, id=model_id)
    kin = next((row for prefix, row in FAMILIES.get(kind, ()) if bare.startswith(prefix)), "")
    # What a demo provider is asked for is the demo, whatever its name.
    facts = rows.get(kin) or CATALOG[kind][0]
    return replace(facts, id=model_id, display_name=model_id, offered=False, known=False)


def recognised(kind: str, model_id: str) -> bool:
    """Whether a provider of this kind may well know the model: it has a row, or is of a family that has one."""
    bare = model_id.lower()
    if {bare, _DATE.sub("", bare)} & _BY_ID.get(kind, {}).keys():
        return True
    # `gemma-4` is of the family `gemma`, `gemma3` is not.
    families = (prefix.rstrip(".") for prefix, _ in FAMILIES.get(kind, ()) if prefix)
    return any(bare.startswith((f"{prefix}-", f"{prefix}.")) for prefix in families)


def facts_kind(name: str, kind: str, base_url: str | None) -> str:
    """The `kind` to give to `facts_for` and `complete`, for a provider as it is configured.

    `acme: {kind: openai, base_url: …}` speaks OpenAI's wire, but its models follow nobody's rules but Chat
    Completions', unless the address is a vendor's. A `base_url` of the entry `openai` itself is a gateway to OpenAI's
    own models.
    """
    vendor = vendor_kind(kind, base_url) or _SAME_FACTS.get(kind)
    return vendor or (COMPATIBLE if kind == "openai" and base_url is not None and name != kind else kind)


def complete(
    config: ModelConfig, *, kind: str, default_max_tokens: int | None = None, listed: Listed | None = None
) -> Model:
    """Fill in what the operator left out.

    Args:
        config: What the operator wrote, or what the catalogue wrote for them, with what it inherits (`lineage`).
        kind: The kind of the provider that `config.backend` names.
        default_max_tokens: `DEFAULT_MAX_TOKENS`: goes before a mere guess of the catalogue.
        listed: What the provider's own list says of it.

    Raises:
        InvalidName: The name is not one by Ollama's grammar.
    """
    known = known_of(facts_for(kind, config.upstream), listed)
    facts, sources = known.facts, dict(known.sources)
    own = (key for key in config.model_fields_set & sources.keys() if getattr(config, key) not in {None, ""})
    sources |= dict.fromkeys(own, (OPERATOR,))
    context_length = config.context_length or facts.context_length
    is_guess = sources["max_tokens"] == (ASSUMED,)
    guess = default_max_tokens if is_guess and default_max_tokens else facts.max_output_tokens
    max_output_tokens = config.max_tokens or min(guess, context_length)
    able = frozenset(facts.capabilities if config.capabilities is None else config.capabilities)
    name = normalise_name(config.name)
    target = Target(
        config.backend,
        config.upstream,
        max_output_tokens,
        able,
        facts.rules,
        context_length,
        name,
        config.prompt_cache,
        known.window,
    )
    return _signed(
        Model(
            config=config,
            name=name,
            display_name=config.display_name or facts.display_name or config.name,
            family=_identifier(config.family or facts.family),
            context_length=context_length,
            max_output_tokens=max_output_tokens,
            embedding_length=facts.embedding_length,
            capabilities=tuple(one for one in _CAPABILITY_ORDER if one in able),
            digest="",
            modified_at=CATALOGUE_DATE,
            target=target,
            preset=_preset(config),
            price=listed.price if listed else None,
            sources=sources,
        )
    )


@lru_cache(maxsize=64)
def known_ids(kind: str) -> Mapping[str, bool]:
    """The ids of the models that a provider of this kind has a row for, and whether each is offered."""
    return MappingProxyType({facts.id: facts.offered for facts in _rows(kind)})


def undated(model_id: str) -> str:
    """The id without the date of one version."""
    return _DATE.sub("", model_id)


def catalogue_models(kind: str, backend_name: str) -> tuple[ModelConfig, ...]:
    """What a provider of this kind offers without being told, the best choice first.

    Two providers of one kind would offer the same names; so one that is not called after its kind puts its own
    name in front: `work/claude-opus-5-5`.
    """
    under = "" if backend_name == kind else backend_name
    return tuple(
        ModelConfig(name=fitted(facts.id, under), backend=backend_name, backend_model=facts.id)
        for facts in _rows(kind)
        if facts.offered
    )


def renamed(model: Model, display_name: str) -> Model:
    """The same model under another `display_name`, with the digest that goes with it."""
    return _signed(replace(model, display_name=display_name))


def standing_for(name: str, display_name: str, models: Sequence[Model]) -> Model:
    """A model that stands for others: it can do what one of them can, and reads and writes what all of them can.

    Args:
        name: As lists show it.
        display_name: For people.
        models: At least one; the first of them counts the tokens of a prompt.
    """
    able = frozenset(one for model in models for one in model.capabilities) - {"embedding"}
    context_length = min(model.context_length for model in models)
    max_output_tokens = min(model.max_output_tokens for model in models)
    first = models[0]
    return _signed(
        replace(
            first,
            config=ModelConfig(name=name, display_name=display_name, backend=first.config.backend),
            name=name,
            display_name=display_name,
            family="auto",
            context_length=context_length,
            max_output_tokens=max_output_tokens,
            capabilities=tuple(one for one in _CAPABILITY_ORDER if one in able),
            target=replace(
                first.target,
                max_output_tokens=max_output_tokens,
                capabilities=able,
                context_length=context_length,
                name=name,
            ),
            preset=NOTHING_ADDED,
            resident=None,
        )
    )


def _signed(model: Model) -> Model:
    """Set the digest: over everything clients are told, in an order that never varies."""
    advertised: tuple[Any, ...] = (
        model.name,
        model.display_name,
        model.family,
        model.context_length,
        model.embedding_length,
        model.capabilities,
        model.modified_at,
    )
    added = model.preset
    if added != NOTHING_ADDED:
        begin = [(message.role, message.content) for message in added.messages]
        own = (added.system, begin, added.options, added.template, added.license, added.parent)
        advertised = (*advertised, own)
    return replace(model, digest=hashlib.sha256(orjson.dumps(advertised)).hexdigest())


def _preset(config: ModelConfig) -> Preset:
    return Preset(
        system=config.system,
        messages=tuple(Message(one.role, one.content) for one in config.messages),
        options=config.parameters,
        template=config.template,
        license=config.license,
        parent=normalise_name(config.from_) if config.from_ else "",
    )


def _rows(kind: str) -> Sequence[Facts]:
    return VENDORS[kind].models if kind in VENDORS else CATALOG.get(_SAME_FACTS.get(kind, kind), ())


def _facts_at_vendor(kind: str, model_id: str) -> Facts | None:
    if (vendor := VENDORS.get(kind)) is None:
        return None
    if vendor.same_as and recognised(vendor.same_as, model_id):
        return replace(facts_for(vendor.same_as, model_id), offered=False)
    known = next((facts for facts in vendor.models if facts.id == model_id), None)
    return known or _facts_elsewhere(model_id, vendor.rules)


def _facts_elsewhere(model_id: str, rules: Rules) -> Facts:
    bare = _DATE.sub("", model_id.rpartition("/")[2].partition(":")[0].lower())
    rules = replace(rules, short_ids=rules.short_ids or bare.startswith(SHORT_IDS))
    for rows in _BY_ID.values():
        # OpenRouter writes `claude-sonnet-4.5` where Anthropic has `claude-sonnet-4-5`.
        same = rows.get(bare) or rows.get(bare.replace(".", "-"))
        if same is not None:
            return replace(same, id=model_id, rules=rules, offered=False)
    words = "-" + bare.replace("_", "-")
    for part, facts in EMBEDDERS:
        if f"-{part}" in words:
            return replace(facts, id=model_id, display_name=model_id)
    fills = bare.startswith(FILLERS)
    return replace(
        UNKNOWN,
        id=model_id,
        display_name=model_id,
        family=_AFTER_LETTERS.sub("", bare),
        capabilities=TALKS_AND_FILLS if fills else UNKNOWN.capabilities,
        rules=rules,
    )


def _identifier(family: str) -> str:
    """Lower-case letters and digits: clients join it to `.context_length` to find their key."""
    return re.sub(r"[^a-z0-9]", "", family.lower()) or "model"
