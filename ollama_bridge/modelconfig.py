"""How an operator describes a model: an entry of `models`. What it leaves out, `catalog.complete` fills in."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from ollama_bridge.allowances import Budget, ModelSize, Price, Rate, Task
from ollama_bridge.chat import Capability


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

    @property
    def upstream(self) -> str:
        """The model as its provider knows it."""
        return self.backend_model or self.name.removesuffix(":latest")
