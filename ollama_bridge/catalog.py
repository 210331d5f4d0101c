"""What is known about models, and how an operator describes one.

`Facts` are ours: context lengths, capabilities, and the `Rules` by which one upstream model differs from
its neighbours. A `ModelConfig` is the operator's: what it leaves out is filled in from the facts.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from ollama_bridge.chat import Capability, Target


class ModelConfig(BaseModel):
    """One model as clients see it; everything but `name` and `backend` may be left to the catalogue.

    Args:
        name: What clients see and ask for; valid by Ollama's grammar, with or without a tag.
        display_name: For people, in lists.
        backend: A key of `providers`.
        backend_model: The model as the provider knows it; default: `name`.
        family: Groups models in clients, and is the prefix of the keys in `model_info`.
        description: For people.
        context_length: Tokens of prompt and answer together.
        max_tokens: Most tokens of one answer.
        capabilities: What clients may switch on: completion, tools, vision, thinking, insert, embedding.
        enabled: Whether clients see it.
        aliases: Other names it answers to.
        chunk_size: Words a line for this model; None: as `streaming.chunk_size` says.
        delay_ms: Milliseconds between lines for this model; None: as `streaming.delay_ms` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1)]
    display_name: str = ""
    backend: Annotated[str, Field(min_length=1)]
    backend_model: str = ""
    family: str = ""
    description: str = ""
    context_length: PositiveInt | None = None
    max_tokens: PositiveInt | None = None
    capabilities: tuple[Capability, ...] | None = None
    enabled: bool = True
    aliases: tuple[str, ...] = ()
    chunk_size: NonNegativeInt | None = None
    delay_ms: NonNegativeInt | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A model as it is offered: the operator's configuration, completed from the facts.

    Args:
        config: What the operator wrote, or what the catalogue wrote for them.
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
