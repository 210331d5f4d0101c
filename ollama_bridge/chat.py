"""What a client asks, and the protocols of those who answer: the narrow waist.

Every surface decodes to one `ChatRequest`; every `Backend` answers with a stream of `events.Event`;
a policy is a backend that holds a backend.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from ollama_bridge.events import Event, ToolCall
from ollama_bridge.native import Native
from ollama_bridge.record import CallRecord
from ollama_bridge.repairs import Repair

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]
Think: TypeAlias = bool | Literal["low", "medium", "high", "max"] | None
"""None: the client said nothing, the model's own default holds."""
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
CacheTtl: TypeAlias = Literal["", "5m", "1h"]
"""How long the provider shall keep the prompt up to here in its cache; empty: the client said nothing."""
Reuse: TypeAlias = Literal["yes", "renew", "never"]
"""Whether an answer that another call got may do: yes; no, but others may have this one; nor that."""
Capability: TypeAlias = Literal["completion", "tools", "vision", "thinking", "insert", "embedding"]

Reply: TypeAlias = AsyncGenerator[Sequence[Event], None]
"""What a model says, in bursts: each item holds the events that became known together, never none.

A provider's read often brings many events; passed on together, what each layer costs is paid once for all of
them. Who wants them one by one reads `singly(reply)`. A generator, not an iterator: it must be closable. Read
it only inside `aclosing(...)`.
"""


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a message.

    Args:
        data: Standard base64 with padding, no `data:` prefix: what clients send and providers take.
        media_type: As sniffed from the first bytes, `image/png` for example;
            `application/octet-stream` when the bytes are of no kind we know.
    """

    data: str
    media_type: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the conversation.

    Args:
        role: `developer` and unknown roles have become one of ours in the surface.
        thinking: What the assistant thought, as the client remembers it.
        tool_calls: Of an assistant message. An id may be empty: most clients forget it.
        tool_call_id: Of a tool message: whose result it is; often empty.
        tool_name: Of a tool message: the tool's name; often empty.
        sealed: Of an assistant message: `Finish.sealed` of the reply that it was, if it is still known. Bytes of
            another backend, or for another model, are passed over by whoever reads them.
        cache: Where the client marked a prefix for the provider's prompt cache; only Anthropic takes it.
    """

    role: Role
    content: str = ""
    thinking: str = ""
    images: tuple[Image, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    tool_name: str = ""
    sealed: bytes = field(default=b"", repr=False)
    cache: CacheTtl = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call. `parameters` is a JSON Schema object, `{}` when there are none."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    cache: CacheTtl = ""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether tools are to be called: as the model likes, never, at least one, or the one called `name`."""

    mode: Literal["auto", "none", "required", "tool"] = "auto"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Infill:
    """The two sides of a gap that is to be filled (`infill.py` finds them in what clients send)."""

    prefix: str = field(repr=False)
    suffix: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rules:
    """How one upstream model differs from its neighbours: data, so that backends need no ifs by name.

    Args:
        api: Which of OpenAI's APIs serves it; other backends ignore this.
        accepts: Ollama option names (`temperature`, `top_p`, `top_k`, `min_p`, `seed`, `stop`,
            `presence_penalty`, `frequency_penalty`, `repeat_penalty`, and `logprobs`) the model takes.
            `num_predict` is always taken. What is not here is dropped, with one log line.
        max_stops: How many stop words the API takes; the rest is dropped.
        thinking: How thinking is asked for, any of: `adaptive`, `budget`, `disabled`, `between_tools`
            (Anthropic's types); `effort` (OpenAI); `switch` (it can be on and off), `parsed` (else it thinks aloud in
            its answer), of vendors; `level`, `budget` (Gemini); empty: it cannot be asked for.
        efforts: Effort words the model takes, weakest first. A word it lacks is replaced by the nearest.
        max_tokens_field: What OpenAI's Chat Completions calls the output limit for this model.
        system_role: What it calls a system message: `system` or `developer`.
        schema: Whether it takes a JSON schema for the answer.
        prefill: Whether a conversation may end with an assistant message.
        continues: Whether such a message is then gone on with to the letter, as if the model had just written it;
            of all others it is known that they may repeat some of it, or begin anew.
        forced_tools: Whether it can be made to call a tool (`required`, or one by its name).
        short_ids: Whether the id of a call must have 9 letters and digits, as Mistral's models want it.
        dimensions: Of an embedding model: the widths it can be asked for, other than its own; to any other its
            vectors are cut.
        cached_from: Tokens of the shortest beginning of a prompt that Anthropic caches; other backends ignore this.
        repairs: What is done to the body of a request when all else is (`repairs.mend`): what no field above says.
    """

    api: Literal["chat", "responses"] = "chat"
    accepts: frozenset[str] = frozenset(
        {"temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "logprobs"}
    )
    max_stops: int = 4
    thinking: frozenset[str] = frozenset({"effort"})
    efforts: tuple[Effort, ...] = ("none", "low", "medium", "high")
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    system_role: Literal["system", "developer"] = "system"
    schema: bool = True
    prefill: bool = True
    continues: bool = False
    forced_tools: bool = True
    short_ids: bool = False
    dimensions: range = range(0)
    cached_from: int = 1024
    repairs: tuple[Repair, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Who answers: filled in by the registry when it has found the route.

    Args:
        provider: The provider's key in the configuration, for errors and logs.
        model: The model as the provider knows it.
        max_output_tokens: What to ask for where the API demands a limit and the client gave none.
        capabilities: What the model can do.
        rules: How it differs from its neighbours.
        context_length: Tokens that it can read.
        name: The model as lists show it.
        prompt_cache: Whether the prompt is marked for the provider's cache, as the operator says; None: where it pays.
        window: Tokens that the model is known to read, whatever the operator wants of it; None: nobody knows.
    """

    provider: str = ""
    model: str = ""
    max_output_tokens: int = 4096
    capabilities: frozenset[Capability] = frozenset({"completion", "tools"})
    rules: Rules = field(default_factory=Rules)
    context_length: int = 32_768
    name: str = ""
    prompt_cache: bool | None = None
    window: int | None = None


def _ignore() -> None:
    """Nobody counts."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question, the same for every surface.

    Args:
        model: The name the client asked for.
        format: None, `"json"` for any JSON, or a JSON Schema.
        think: Whether and how hard to think; None leaves it to the model.
        options: Ollama's generation options, names and types as in Ollama's `options`, validated, no
            nulls; unknown keys are kept for a real Ollama behind us and ignored by all others.
        stream: Whether the client reads as it comes. Backends always stream; pacing does not.
        keep_alive_s: Seconds the client wants the model kept; negative: forever; None: not said.
        top_logprobs: Alternatives per token, 0 to 20; only with `logprobs`.
        tool_choice: None: the client said nothing.
        parallel_tool_calls: Whether one turn may call several tools; None: the client said nothing.
        infill: Not a conversation but a gap to fill; `messages` is then empty.
        target: Who answers; set by the registry.
        progress: Called by a backend whenever the model generated something of which no event comes yet,
            such as a piece of a tool call's arguments: silence is counted from there.
        cache_key: What the client calls this conversation's place in the provider's cache, for those who take it.
        key: Which of the provider's keys to use, counted from 0; set by the key pool.
        reuse: What the client said of answers that are kept, or under way (`Cache-Control`).
        record: Where what the call comes to is noted by whoever learns something; limits and budgets are settled by it.
        native: The same in Ollama's own words, if it came in them; only a real Ollama is asked so.
    """

    model: str
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    format: Literal["json"] | Mapping[str, Any] | None = None
    think: Think = None
    options: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = True
    keep_alive_s: float | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    infill: Infill | None = None
    target: Target = field(default_factory=Target)
    progress: Callable[[], None] = field(default=_ignore, compare=False, repr=False)
    cache_key: str = field(default="", repr=False)
    key: int = 0
    reuse: Reuse = "yes"
    record: CallRecord = field(default_factory=CallRecord, compare=False, repr=False)
    native: Native | None = field(default=None, compare=False, repr=False)


class Backend(Protocol):
    """Anything that answers a chat: a provider, or a policy wrapped around one."""

    def chat(self, request: ChatRequest) -> Reply:
        """Stream the reply: zero or more deltas and tool calls, then exactly one `Finish`, in bursts.

        Closing the reply (`aclose`, or cancelling the reader) closes the provider's connection.

        Raises:
            UpstreamError: The provider failed.  Before the first event the call may be tried
                again; after it, the client has seen output and the failure is final.
            RequestError: The request cannot be served by this backend at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to be turned into vectors, the same for every surface.

    Args:
        model: The name the client asked for.
        inputs: One or more texts; one of them may be empty.
        dimensions: Width of the vectors; None: the model's own.
        truncate: Whether a text that is too long may be cut; else it is an error.
        options: As in `ChatRequest`.
        keep_alive_s: As in `ChatRequest`.
        target: Who answers; set by the registry.
        key: As in `ChatRequest`.
        reuse: As in `ChatRequest`.
        record: As in `ChatRequest`.
        native: As in `ChatRequest`.
    """

    model: str
    inputs: tuple[str, ...] = field(repr=False)
    dimensions: int | None = None
    truncate: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_alive_s: float | None = None
    target: Target = field(default_factory=Target)
    key: int = 0
    reuse: Reuse = "yes"
    record: CallRecord = field(default_factory=CallRecord, compare=False, repr=False)
    native: Native | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector for each input, in the order of the inputs, as the provider sent them.

    Args:
        vectors: Not normalised here.
        input_tokens: Of all inputs together; 0: the provider does not count.
        native: The whole reply of a real Ollama that was asked in the client's own words (`EmbedRequest.native`).
    """

    vectors: Sequence[Sequence[float]] = field(repr=False)
    input_tokens: int = 0
    native: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)


class Embedder(Protocol):
    """Anything that turns texts into vectors. A provider that has none of it lacks the method."""

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Embed all inputs, in as many calls as the provider needs for them.

        Raises:
            UpstreamError: The provider failed.
            RequestError: The request cannot be served by this provider at all.
        """
        ...


class Answerer(Backend, Embedder, Protocol):
    """What does both: a provider's whole stack of policies, each of which holds another."""


class Counter(Protocol):
    """Anything that counts the tokens of a prompt. A provider that cannot lacks the method."""

    async def count(self, request: ChatRequest) -> int:
        """Tokens of the request's messages, tools and images, without an answer being generated.

        Raises:
            UpstreamError: The provider failed.
            RequestError: The request cannot be asked of this provider at all.
        """
        ...


class Provider(Backend, Protocol):
    """A backend that owns connections: made once per provider, inside the running event loop."""

    async def warm(self) -> None:
        """Pay first-use costs (validators, TLS context) now, without asking the provider anything."""
        ...

    async def aclose(self) -> None:
        """Close all connections. The provider is not used afterwards."""
        ...


async def singly(reply: Reply) -> AsyncGenerator[Event, None]:
    """The events of `reply`, one by one; closing this closes `reply`."""
    async with aclosing(reply) as bursts:
        async for burst in bursts:
            for event in burst:
                yield event
