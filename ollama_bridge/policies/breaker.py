"""Who fails again and again is not asked for a while: its clients learn it at once, and another may answer.

What counts as a failure is what another request would meet as well: no connection, silence, a broken answer, an
overload. Who refuses a request is alive. A rate limit says nothing of either kind, nor does a client that leaves.
"""

from collections.abc import Sequence
from contextlib import aclosing

from ollama_bridge.chat import Answerer, ChatRequest, Embeddings, EmbedRequest, Reply
from ollama_bridge.errors import (
    UpstreamBroken,
    UpstreamBusy,
    UpstreamError,
    UpstreamRejected,
    UpstreamUnreachable,
)
from ollama_bridge.events import Event, Finish
from ollama_bridge.policies.circuit_news import CircuitNews
from ollama_bridge.policies.circuits import UNDER_WAY_S, Circuit, Circuits, Tolerance


class Breaker:
    """Fails fast while a target's circuit is open.

    Args:
        inner: Who is asked otherwise.
        circuits: One for each target.
        tolerance: When they open, and for how long.
        news: Shares them with other workers and instances; None: there are none.

    Raises:
        CircuitOpen: 503, without asking.
    """

    def __init__(
        self, inner: Answerer, circuits: Circuits, tolerance: Tolerance, news: CircuitNews | None = None
    ) -> None:
        self._inner = inner
        self._circuits = circuits
        self._tolerance = tolerance
        self._news = news

    async def chat(self, request: ChatRequest) -> Reply:
        """Pass everything on, and learn from how it ends."""
        attempt = await self._admitted(request)
        burst: Sequence[Event] = ()
        try:
            async with aclosing(self._inner.chat(request)) as events:
                async for burst in events:
                    if attempt.is_probe:
                        attempt.began()
                    yield burst
        except UpstreamError as exc:
            attempt.failed(exc)
            raise
        finally:
            # Not after the loop: who has read the end may close the reply instead of reading on.
            if burst and type(burst[-1]) is Finish:
                attempt.answered()
            attempt.left()

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Pass the vectors on, and learn from whether they come."""
        attempt = await self._admitted(request)
        try:
            answer = await self._inner.embed(request)
        except UpstreamError as exc:
            attempt.failed(exc)
            raise
        else:
            attempt.answered()
            return answer
        finally:
            attempt.left()

    async def _admitted(self, request: ChatRequest | EmbedRequest) -> "_Attempt":
        circuit = self._circuits.of(request.target.provider, request.target.model)
        attempt = _Attempt(circuit, self._tolerance, self._news)
        if not circuit.is_closed:
            await attempt.claim()
        return attempt


class _Attempt:
    """One request that passes a circuit, and what it tells about the target."""

    __slots__ = ("_circuit", "_news", "_tolerance", "is_probe")

    def __init__(self, circuit: Circuit, tolerance: Tolerance, news: CircuitNews | None) -> None:
        self._circuit = circuit
        self._tolerance = tolerance
        self._news = news
        self.is_probe = False

    async def claim(self) -> None:
        """Be the probe, or raise CircuitOpen if it is too soon, or if somebody else is it, here or elsewhere."""
        circuit = self._circuit
        if refusal := circuit.blocks:
            raise refusal
        circuit.is_probing = self.is_probe = True
        if self._news is None:
            return
        is_ours = False
        try:
            is_ours = await self._news.claim(circuit, ttl_s=self._tolerance.open_s)
        finally:
            if not is_ours:
                self.is_probe = False
                circuit.give_up_probe(UNDER_WAY_S)
        if not is_ours:
            raise circuit.told()

    def began(self) -> None:
        """The first event has come: all may pass, but the next failure is one too many."""
        self.is_probe = False
        self._circuit.close(failures=self._tolerance.failures - 1)
        self._tell()

    def answered(self) -> None:
        """The answer is whole."""
        if self.is_probe:
            self.is_probe = False
            self._circuit.close()
            self._tell()
        elif self._circuit.is_closed:
            self._circuit.failures = 0

    def failed(self, exc: UpstreamError) -> None:
        """There was none, or it broke off."""
        if isinstance(exc, UpstreamRejected):
            self.answered()
        elif _is_failure(exc) and (self.is_probe or self._circuit.is_closed):
            # Who was let in before the circuit opened tells nothing new.
            self.is_probe = False
            if self._circuit.fail(exc.summary, self._tolerance):
                self._tell()

    def left(self) -> None:
        """Nothing more will be learned: if this was the probe, another may be it."""
        if self.is_probe:
            self.is_probe = False
            self._circuit.give_up_probe()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.tell(self._circuit)


def _is_failure(exc: UpstreamError) -> bool:
    if isinstance(exc, UpstreamBusy):
        return exc.status != 429  # a rate limit, or no credit left
    return isinstance(exc, UpstreamUnreachable | UpstreamBroken)
