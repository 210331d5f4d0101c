"""What /api/embed and /api/embeddings ask and answer, sans I/O.

As with conversations, a call is decoded first, then its model is looked up, then `call.request(model)` checks what
that can do. A call without a text only loads the model: nobody is asked, and it is answered with `NO_EMBEDDINGS`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from ollama_bridge.catalog import Model
from ollama_bridge.chat import Embeddings, EmbedRequest
from ollama_bridge.errors import InvalidRequest, ModelNotFound
from ollama_bridge.native import Native
from ollama_bridge.surfaces import gojson, vectors
from ollama_bridge.surfaces.calls import NamedCall, refuse_endless
from ollama_bridge.surfaces.gotypes import decode_whole
from ollama_bridge.surfaces.ollama_options import read_options
from ollama_bridge.surfaces.ollama_structs import EMBED, EMBEDDINGS

NO_EMBEDDINGS: Final = Embeddings(())

_CHARACTERS_PER_TOKEN: Final = 4
"""A guess, for providers that do not count: clients fail where a count is missing."""


class NotPulled(ModelNotFound):
    """No model of that name, in the words of those endpoints that ask Ollama's scheduler for it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.args = (f"model {gojson.quote(name)} not found, try pulling it first",)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedCall(NamedCall):
    """One POST of texts; repr shows none of them.

    Args:
        inputs: The texts; none: the client wants the model loaded, or unloaded.
        dimensions: Width of the vectors; None: the model's own. What is wider than the model's is ignored.
        truncate: Whether a text that is too long may be cut.
        keep_alive_s: Seconds; negative: forever; None: not said.
        options_sent: Not validated before `request`.
        sent: All of it, with what nobody here knows; None: it did not come in Ollama's own words.
    """

    inputs: tuple[str, ...] = field(default=(), repr=False)
    dimensions: int | None = None
    truncate: bool = True
    keep_alive_s: float | None = None
    options_sent: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sent: Mapping[str, Any] | None = field(default=None, repr=False)

    needs_name: ClassVar[bool] = False
    route: ClassVar[Literal["embed", "embeddings"]] = "embed"

    def not_found(self) -> ModelNotFound:
        """What to raise when there is no such model: an empty name is looked up by nobody."""
        return NotPulled(self.model) if self.model.strip() else ModelNotFound(self.model)

    def request(self, model: Model) -> EmbedRequest:
        """The question to `model`; also for a load, where only the options are checked.

        Raises:
            InvalidRequest: The model does not embed (400); an option is wrong (500).
        """
        options = read_options(self.options_sent)
        if self.inputs and "embedding" not in model.capabilities and model.resident is None:
            raise InvalidRequest(
                f"{gojson.quote(self.model)} does not support embeddings: ask a model that is listed with the "
                "capability `embedding`"
            )
        return EmbedRequest(
            model=self.model,
            inputs=self.inputs,
            dimensions=self.dimensions,
            truncate=self.truncate,
            options={**model.preset.options, **options},
            keep_alive_s=self.keep_alive_s,
            target=model.target,
            native=Native(self.route, self.sent, options=options) if self.sent is not None else None,
        )


class EmbeddingsCall(EmbedCall):
    """One POST /api/embeddings, which has to name a model."""

    __slots__ = ()

    needs_name: ClassVar[bool] = True
    route: ClassVar[Literal["embed", "embeddings"]] = "embeddings"


def decode_embed(body: bytes) -> EmbedCall:
    """Read the body of POST /api/embed.

    Raises:
        InvalidRequest: 400, in Ollama's words.
    """
    sent, whole = decode_whole(body, EMBED)
    return EmbedCall(
        **_common(sent),
        sent=whole,
        inputs=read_input(sent.get("input")),
        dimensions=read_dimensions(sent),
        truncate=sent.get("truncate", True),
    )


def decode_embeddings(body: bytes) -> EmbedCall:
    """Read the body of POST /api/embeddings.

    Raises:
        InvalidRequest: 400, in Ollama's words.
    """
    sent, whole = decode_whole(body, EMBEDDINGS)
    return EmbeddingsCall(**_common(sent), sent=whole, inputs=read_input(sent.get("prompt")))


def _common(sent: Mapping[str, Any]) -> dict[str, Any]:
    refuse_endless(sent.get("options"))
    return {
        "model": sent.get("model", ""),
        "keep_alive_s": sent.get("keep_alive"),
        "options_sent": sent.get("options", {}),
    }


def read_input(sent: Any) -> tuple[str, ...]:
    """A text that is not empty, any texts in a list, or none at all.

    Raises:
        InvalidRequest: 400.
    """
    if sent is None or sent == "":
        return ()
    texts = [sent] if isinstance(sent, str) else sent
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("invalid input type")
    return tuple(texts)


def read_dimensions(sent: Mapping[str, Any]) -> int | None:
    """`dimensions`; what is not positive counts as not said."""
    wanted: int = sent.get("dimensions", 0)
    return wanted if wanted > 0 else None


def tokens_of(call: EmbedCall, answer: Embeddings) -> int:
    """How many tokens were read: as the provider counted, or guessed."""
    return answer.input_tokens or sum(len(text) // _CHARACTERS_PER_TOKEN + 1 for text in call.inputs)


class EmbedReply:
    """The reply of /api/embed; make it when the call is understood, for its clock.

    Args:
        call: What was asked.
        arrived_ns: When it arrived.
        clock_ns: A monotonic clock in nanoseconds.
    """

    def __init__(
        self, call: EmbedCall, *, arrived_ns: int, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._call = call
        self._arrived_ns = arrived_ns
        self._clock_ns = clock_ns
        self._asked_ns = clock_ns()

    def __call__(self, answer: Embeddings) -> bytes:
        """Unit vectors in float32; no number is zero, for Go would leave it out, and clients would fail.

        What a real Ollama said is shown as it said it.

        Raises:
            InvalidRequest: A vector cannot be scaled.
        """
        if answer.native is not None:
            return gojson.dump({**answer.native, "model": self._call.model})
        width = self._call.dimensions
        written = b",".join([vectors.numbers(vectors.unit(vector, width)) for vector in answer.vectors])
        return b'{"model":%b,"embeddings":[%b]%b}' % (
            gojson.dump(self._call.model),
            written,
            self._metrics(answer) if written else b"",
        )

    def _metrics(self, answer: Embeddings) -> bytes:
        return b',"total_duration":%d,"load_duration":%d,"prompt_eval_count":%d' % (
            max(1, self._clock_ns() - self._arrived_ns),
            max(1, self._asked_ns - self._arrived_ns),
            tokens_of(self._call, answer),
        )


def embeddings_reply(answer: Embeddings) -> bytes:
    """The reply of /api/embeddings: one vector, as the provider gave it, or none."""
    if answer.native is not None:
        return gojson.dump(answer.native)
    vector = next(iter(answer.vectors), ())
    return b'{"embedding":%b}' % vectors.doubles(vector)
