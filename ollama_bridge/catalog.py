"""What is known about models, and how an operator describes one.

`Facts` are ours: context lengths, capabilities, and the `Rules` by which one upstream model differs from
its neighbours. A `ModelConfig` is the operator's: what it leaves out is filled in from the facts.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from ollama_bridge.allowances import Budget, ModelSize, Price, Rate, Task
from ollama_bridge.catalog_data import (
    CATALOG,
    CATALOGUE_DATE,
    EMBEDDERS,
    FAMILIES,
    FILLERS,
    SNAPSHOTS,
    TALKS_AND_FILLS,
    UNKNOWN,
)
from ollama_bridge.chat import Capability, Message, Target
from ollama_bridge.facts import Facts
from ollama_bridge.names import normalise_name
from ollama_bridge.native import Resident
from ollama_bridge.presets import NOTHING_ADDED, Preset

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
    "recognised",
    "renamed",
    "standing_for",
]

COMPATIBLE: Final = "compatible"
"""The kind, as far as facts go, of whoever speaks OpenAI's wire without being OpenAI."""

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


class FirstMessage(BaseModel):
    """A message with which every conversation with a model begins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str = Field(repr=False)


class ModelConfig(BaseModel):
    """One model as clients see it; everything but `name` and `backend`, or `from`, may be left to the catalogue.

    Args:
        name: What clients see and ask for; valid by Ollama's grammar, with or without a tag.
        display_name: For people, in lists.
        from_: In the file `from`: another model, by its name, that this one is made from. Instead of a backend.
        backend: A key of `providers`.
        backend_model: The model as the provider knows it; default: `name`.
        family: Groups models in clients, and is the prefix of the keys in `model_info`.
        description: For people.
        context_length: Tokens of prompt and answer together.
        max_tokens: Most tokens of one answer.
        capabilities: What clients may switch on: completion, tools, vision, thinking, insert, embedding.
        enabled: Whether clients see it.
        aliases: Other names it answers to.
        fallbacks: Models that answer when it cannot, in order.
        priority: Which of several models is chosen first; the lowest.
        model_size: Whether it is one of those that `small` or `big` stands for.
        tasks: For which `auto:<task>` it may be chosen; None: for all that it is able to do.
        requests_per_minute: In any minute; also per hour and day, and tokens per minute.
        max_request_length: Most characters of a question.
        price: None: from the price table.
        budget: Of this model alone.
        resume: Whether an answer that breaks off is continued; None: where that is known to work.
        prompt_cache: Whether parts of the prompt are marked for the provider's cache; None: where it pays; false
            takes clients' own marks away as well.
        chunk_size: Words a line for this model; None: as `streaming.chunk_size` says.
        delay_ms: Milliseconds between lines for this model; None: as `streaming.delay_ms` says.
        system: System prompt of conversations that bring none.
        parameters: Generation options, by Ollama's names, where the client does not set them.
        messages: How every conversation begins.
        template: How a prompt is worded: see `templates`.
        license: Shown to clients.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    name: Annotated[str, Field(min_length=1)]
    display_name: str = ""
    from_: str = Field("", alias="from")
    backend: str = ""
    backend_model: str = ""
    family: str = ""
    description: str = ""
    context_length: PositiveInt | None = None
    max_tokens: PositiveInt | None = None
    capabilities: tuple[Capability, ...] | None = None
    enabled: bool = True
    aliases: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    priority: NonNegativeInt = 1
    model_size: ModelSize | None = None
    tasks: tuple[Task, ...] | None = None
    requests_per_minute: Rate | None = None
    requests_per_hour: Rate | None = None
    requests_per_day: Rate | None = None
    tokens_per_minute: Rate | None = None
    max_request_length: PositiveInt | None = None
    price: Price | None = None
    budget: Budget | None = None
    resume: bool | None = None
    prompt_cache: bool | None = None
    chunk_size: NonNegativeInt | None = None
    delay_ms: NonNegativeInt | None = None
    system: str = Field("", repr=False)
    parameters: dict[str, Any] = Field(default_factory=dict, repr=False)
    messages: tuple[FirstMessage, ...] = ()
    template: str = Field("", repr=False)
    license: str = Field("", repr=False)


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
            borrowed, when it serves a model that we know: how to ask is the vendor's, not the maker's.
        model_id: As the provider knows it.
    """
    rows = _BY_ID.get(kind)
    if rows is None:
        return _facts_elsewhere(model_id)
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
    Completions'. A `base_url` of the entry `openai` itself is a gateway to OpenAI's own models.
    """
    return COMPATIBLE if kind == "openai" and base_url is not None and name != kind else kind


def complete(config: ModelConfig, *, kind: str, default_max_tokens: int | None = None) -> Model:
    """Fill in what the operator left out.

    Args:
        config: What the operator wrote, or what the catalogue wrote for them, with what it inherits (`lineage`).
        kind: The kind of the provider that `config.backend` names.
        default_max_tokens: `DEFAULT_MAX_TOKENS`: goes before a mere guess of the catalogue.

    Raises:
        InvalidName: The name is not one by Ollama's grammar.
    """
    upstream = config.backend_model or config.name.removesuffix(":latest")
    facts = facts_for(kind, upstream)
    context_length = config.context_length or facts.context_length
    guess = facts.max_output_tokens if facts.known else default_max_tokens or facts.max_output_tokens
    max_output_tokens = config.max_tokens or min(guess, context_length)
    asked = facts.capabilities if config.capabilities is None else config.capabilities
    able = frozenset(asked)
    name = normalise_name(config.name)
    target = Target(
        config.backend,
        upstream,
        max_output_tokens,
        able,
        facts.rules,
        context_length,
        name,
        config.prompt_cache,
        facts.context_length if facts.known else None,
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
        )
    )


def catalogue_models(kind: str, backend_name: str) -> tuple[ModelConfig, ...]:
    """What a provider of this kind offers without being told, the best choice first.

    Two providers of one kind would offer the same names; so one that is not called after its kind puts its own
    name in front: `work/claude-opus-5-5`.
    """
    prefix = "" if backend_name == kind else f"{backend_name.replace('.', '-')}/"
    return tuple(
        ModelConfig(name=f"{prefix}{facts.id}", backend=backend_name, backend_model=facts.id)
        for facts in CATALOG.get(kind, ())
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


def _facts_elsewhere(model_id: str) -> Facts:
    bare = _DATE.sub("", model_id.rpartition("/")[2].partition(":")[0].lower())
    for rows in _BY_ID.values():
        # OpenRouter writes `claude-sonnet-4.5` where Anthropic has `claude-sonnet-4-5`.
        same = rows.get(bare) or rows.get(bare.replace(".", "-"))
        if same is not None:
            return replace(same, id=model_id, rules=UNKNOWN.rules, offered=False)
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
    )


def _identifier(family: str) -> str:
    """Lower-case letters and digits: clients join it to `.context_length` to find their key."""
    return re.sub(r"[^a-z0-9]", "", family.lower()) or "model"
