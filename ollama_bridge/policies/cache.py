"""The same question, asked once: answers are kept for those who ask again, and shared by those who ask meanwhile.

Only what asks for temperature 0 is taken for the same question, unless the operator says otherwise; a vector is
always the same. Events are kept, not bytes of a wire: `/api/chat` answers `/v1/chat/completions`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Generic, TypeAlias, TypeVar

from ollama_bridge.chat import Answerer, ChatRequest, Embeddings, EmbedRequest, Reply, Target
from ollama_bridge.events import Event, Finish, TextDelta, ToolCall
from ollama_bridge.native import Native
from ollama_bridge.policies import kept_answer
from ollama_bridge.policies.question import chat_key, embed_key, is_large
from ollama_bridge.policies.sharing import SharedCall
from ollama_bridge.vault import Vault

Q = TypeVar("Q", ChatRequest, EmbedRequest)
T = TypeVar("T")

_KEPT_REASONS: Final = frozenset({"stop", "tool_calls", "length"})
"""What is cut at a limit is cut at the same limit again, which is part of the key. A refusal may be a mood."""

_HOW_TO_ANSWER: Final = frozenset({"model", "stream", "keep_alive"})
"""Fields of Ollama's that change no answer, or are known under another name."""

_Place: TypeAlias = tuple[bytes, str, bool]

_SAYS: Final = frozenset({TextDelta, ToolCall})


@dataclass(frozen=True, slots=True)
class Caching:
    """What is done about equal questions.

    Args:
        answers: Where answers are kept; None: nowhere.
        share: Whether those who ask at the same moment share one call.
        any_temperature: Whether that goes also for questions that do not ask for temperature 0.
    """

    answers: Vault | None = None
    share: bool = False
    any_temperature: bool = False

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return self.share or self.answers is not None


@dataclass(frozen=True, slots=True)
class Who:
    """Who answers to a name.

    Args:
        target: The model.
        details: What else can change its answers: JSON, dataclasses, sets of texts.
        is_native: Whether it is asked in a client's own words: what nobody here knows of them changes the answer too.
    """

    target: Target
    details: object = None
    is_native: bool = False


class Cache:
    """Asks `inner` only what nobody has asked before or is asking now.

    A client that says `no-cache` gets an answer of its own, which others may have afterwards; one that says
    `no-store` has nothing to do with any of this.

    Args:
        inner: Whose answers these are.
        caching: What to do about equal questions.
        who: Who answers to the name of a model; ModelNotFound if nobody does.
    """

    def __init__(self, inner: Answerer, caching: Caching, who: Callable[[str], Who]) -> None:
        self._inner = inner
        self._any_temperature = caching.any_temperature
        self._chats = _Answers[ChatRequest, Event](
            caching,
            partial(_keyed, chat_key, who),
            inner.chat,
            is_last=lambda event: type(event) is Finish,
            value=_reply_value,
            read=kept_answer.read,
        )
        self._embeddings = _Answers[EmbedRequest, Embeddings](
            caching,
            partial(_keyed, embed_key, who),
            self._embedded,
            is_last=lambda _: True,
            value=_vectors_value,
            read=_read_vectors,
        )

    def chat(self, request: ChatRequest) -> Reply:
        """Answer, from where the answer comes soonest."""
        return self._chats.to(request) if self.concerns(request) else self._inner.chat(request)

    def concerns(self, request: ChatRequest) -> bool:
        """Whether another answer than one of its own may do."""
        is_steady = self._any_temperature or request.options.get("temperature") == 0
        return is_steady and request.reuse != "never"

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Embed, unless somebody has it done."""
        if request.reuse == "never":
            return await self._inner.embed(request)
        async with aclosing(self._embeddings.to(request)) as answers:
            (answer,) = [answer async for burst in answers for answer in burst]
        return answer

    async def _embedded(self, request: EmbedRequest) -> AsyncGenerator[Sequence[Embeddings], None]:
        yield (await self._inner.embed(request),)


class _Answers(Generic[Q, T]):
    """One kind of questions, and what is known of their answers.

    Args:
        caching: What to do about equal questions.
        keyed: The key of a question, None if it is like no other, and who answers it.
        ask: Asks a provider.
        is_last: Whether an answer is whole with this.
        value: A whole answer as bytes of at most so many; None: it is not to be kept.
        read: The same answer; None: it is none.
    """

    def __init__(
        self,
        caching: Caching,
        keyed: Callable[[Q], Awaitable[tuple[bytes | None, Target]]],
        ask: Callable[[Q], AsyncGenerator[Sequence[T], None]],
        *,
        is_last: Callable[[T], bool],
        value: Callable[[Sequence[T], int], bytes | None],
        read: Callable[[bytes], Sequence[T] | None],
    ) -> None:
        self._share = caching.share
        self._kept = caching.answers
        self._keyed: Callable[[Q], Awaitable[tuple[bytes | None, Target]]] = keyed
        self._ask: Callable[[Q], AsyncGenerator[Sequence[T], None]] = ask
        self._is_last = is_last
        self._value = value
        self._read = read
        self._under_way: dict[_Place, SharedCall[T]] = {}

    async def to(self, request: Q) -> AsyncGenerator[Sequence[T], None]:
        """The answer to one question."""
        key, target = await self._keyed(request)
        call = self._joined(key, request)
        if call is None and (found := await self._found(key, request)) is not None:
            record = request.record
            record.cached = "hit"
            record.model, record.provider, record.target = target.name, target.provider, target.model
            yield found
            return
        # Looking may have taken a while, in which somebody else has asked.
        call = call or self._joined(key, request) or self._begun(key, request)
        async with aclosing(call.read(request.record)) as reply:
            async for burst in reply:
                yield burst

    def _joined(self, key: bytes | None, request: Q) -> SharedCall[T] | None:
        if key is None or request.reuse == "renew":
            return None
        return next(filter(None, map(self._under_way.get, _places(key, request))), None)

    async def _found(self, key: bytes | None, request: Q) -> Sequence[T] | None:
        if key is None or self._kept is None or request.reuse == "renew":
            return None
        value = (await self._kept.find((key,))).get(key)
        return self._read(value) if value is not None else None

    def _begun(self, key: bytes | None, request: Q) -> SharedCall[T]:
        *_, place = _places(key or b"", request)

        def ended(said: Sequence[T] | None) -> None:
            if self._under_way.get(place) is call:
                del self._under_way[place]
            if said is not None and key is not None and self._kept is not None:
                value = self._value(said, self._kept.most_bytes)
                if value is not None:
                    self._kept.put((key,), value)

        call: SharedCall[T] = SharedCall(
            lambda record: self._ask(replace(request, record=record)),
            request.record,
            is_last=self._is_last,
            ended=ended,
        )
        if self._share and key is not None:
            self._under_way[place] = call
        return call


def _places(key: bytes, request: ChatRequest | EmbedRequest) -> Sequence[_Place]:
    """Where a call may be that answers `request`; the last one is where its own is.

    Not with another client's, whose budget may refuse what this one's allows. And who reads as it comes does not join
    who does not: that one's answer is held back until it is whole.
    """
    streams = isinstance(request, ChatRequest) and request.stream
    return [(key, request.record.key, how) for how in ((True,) if streams else (True, False))]


async def _keyed(
    key: Callable[[Q, object], bytes | None], who: Callable[[str], Who], request: Q
) -> tuple[bytes | None, Target]:
    answering = who(request.model)
    asked = (answering, _own_words(request.native)) if answering.is_native else answering
    if is_large(request):
        return await asyncio.to_thread(key, request, asked), answering.target
    return key(request, asked), answering.target


def _own_words(native: Native | None) -> object:
    if native is None:
        return None
    return native.route, {key: value for key, value in native.body.items() if key not in _HOW_TO_ANSWER}


def _reply_value(events: Sequence[Event], _most_bytes: int) -> bytes | None:
    """None of what is no whole answer, or another model's, which stood in for one that may be back soon."""
    last = events[-1]
    if not isinstance(last, Finish) or last.reason not in _KEPT_REASONS or last.answered_by:
        return None
    return kept_answer.written(events) if any(type(event) in _SAYS for event in events) else None


def _vectors_value(answers: Sequence[Embeddings], most_bytes: int) -> bytes | None:
    return kept_answer.written_vectors(answers[0], most_bytes)


def _read_vectors(value: bytes) -> Sequence[Embeddings] | None:
    answer = kept_answer.read_vectors(value)
    return None if answer is None else (answer,)
