"""Repairs what a provider refuses: a parameter that we set and the request can do without.

No table of models is ever complete. What helped once is done at once the next time, until it is forgotten.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from ollama_bridge.chat import Answerer, ChatRequest, Embeddings, EmbedRequest, Reply
from ollama_bridge.errors import UpstreamRejected
from ollama_bridge.events import Event
from ollama_bridge.learned import Learned
from ollama_bridge.policies.adapted import adapted
from ollama_bridge.repairs import Repair

MOST_REPAIRS: Final = 3
"""Of one request; each is a call that the provider refuses."""

Asked = TypeVar("Asked", ChatRequest, EmbedRequest)


class Repairing:
    """Asks once more, repaired, when a refusal says how, and nothing was heard yet.

    Args:
        inner: One provider. To all who stand outside, the calls that it refuses and the one that it answers are one
            attempt: it is billed once, and refusals that could be mended tell nobody anything.
        learned: What helped before; what helps now is added, once the answer begins.

    Raises:
        UpstreamRejected: The first refusal, if the repaired request is refused as well: it is the one that speaks of
            what the client asked.
    """

    def __init__(self, inner: Answerer, learned: Learned) -> None:
        self._inner = inner
        self._learned = learned

    def chat(self, request: ChatRequest) -> Reply:
        """Pass on the first reply that begins."""
        return _Mended(self._inner, _Course(self._learned, request), request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Hand back the first answer that is one."""
        course = _Course(self._learned, request)
        while True:
            try:
                answer = await self._inner.embed(course.repaired(request))
            except UpstreamRejected as exc:
                course.refused(exc)
            else:
                course.helped()
                return answer


class _Mended(AsyncGenerator[Sequence[Event], None]):
    """A reply whose beginning may be refused.

    No generator: it would be gone through at each event of the answer, and after the first there is nothing to do.
    """

    __slots__ = ("_course", "_inner", "_next", "_reply", "_request")

    def __init__(self, inner: Answerer, course: "_Course", request: ChatRequest) -> None:
        self._inner = inner
        self._course = course
        self._request = request
        self._reply = inner.chat(course.repaired(request))
        self._next: Callable[[], Coroutine[Any, Any, Sequence[Event]]] = self._first

    def __anext__(self) -> Coroutine[Any, Any, Sequence[Event]]:
        return self._next()

    async def _first(self) -> Sequence[Event]:
        while True:
            try:
                burst = await anext(self._reply)
            except UpstreamRejected as exc:
                await self._reply.aclose()
                self._course.refused(exc)
            else:
                self._next = self._reply.__anext__
                self._course.helped()
                return burst
            self._reply = self._inner.chat(self._course.repaired(self._request))

    def asend(self, _value: None) -> Coroutine[Any, Any, Sequence[Event]]:
        return self._next()

    async def athrow(self, *raised: Any) -> Sequence[Event]:
        return await self._reply.athrow(*raised)

    async def aclose(self) -> None:
        await self._reply.aclose()


class _Course:
    """One request's: what is known, what is tried, and what was said first."""

    __slots__ = ("_first", "_known", "_learned", "_target", "_tried")

    def __init__(self, learned: Learned, request: ChatRequest | EmbedRequest) -> None:
        self._target = target = request.target
        self._learned = learned
        self._known: Iterable[Repair] = learned.of(target.provider, target.model)
        self._tried: list[Repair] = []
        self._first: UpstreamRejected | None = None

    def repaired(self, request: Asked) -> Asked:
        """The request with all that is known or tried by now."""
        repairs = (*self._known, *self._tried)
        if not repairs:
            return request
        return replace(request, target=adapted(self._target, repairs))

    def refused(self, exc: UpstreamRejected) -> None:
        """Take up what may help; raise, if nothing may."""
        first, repair = self._first or exc, exc.repair
        self._first = first
        known = (*self._known, *self._tried)
        if repair is None or len(self._tried) == MOST_REPAIRS or repair in known:
            raise self._told(exc)
        if adapted(self._target, (*known, repair)) == adapted(self._target, known):
            raise self._told(exc)
        self._tried.append(repair)

    def helped(self) -> None:
        """There is an answer."""
        if self._tried:
            self._learned.learn(self._target.provider, self._target.model, self._tried)

    def _told(self, exc: UpstreamRejected) -> UpstreamRejected:
        # A key that is refused, or a conversation that is too long, is what others can do something about.
        return self._first if self._first and type(exc) is UpstreamRejected and exc.status == 400 else exc
