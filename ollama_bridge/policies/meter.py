"""What a call came to, told once: to the ledger, to metrics, to whoever counts.

The outermost policy: it sees what the client sees, refusals, answers from the cache and clients that left included.
"""

import time
from asyncio import CancelledError
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import TypeAlias

import structlog

from ollama_bridge.chat import Answerer, ChatRequest, Embeddings, EmbedRequest, Reply
from ollama_bridge.errors import BridgeError, RateLimited, RequestError, UpstreamRejected
from ollama_bridge.events import Finish
from ollama_bridge.record import CallRecord, Outcome

Observer: TypeAlias = Callable[[CallRecord], None]
"""Told of every call when it has ended; must neither wait nor keep the record."""

log = structlog.get_logger(__name__)


class Meter:
    """Times every call, says how it ended, and tells each observer of it exactly once, whatever the ending.

    An answer has ended when its last event is on its way: a client that leaves then has been answered.

    Args:
        inner: Who answers.
        observers: Who counts. One that fails is the log's business, never the client's.
        clock_s: Monotonic seconds.
    """

    def __init__(
        self,
        inner: Answerer,
        observers: Sequence[Observer],
        *,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._observers = tuple(observers)
        self._clock_s = clock_s

    async def chat(self, request: ChatRequest) -> Reply:
        """Pass everything on."""
        record = request.record
        began_s = self._clock_s()
        try:
            async with aclosing(self._inner.chat(request)) as reply:
                async for burst in reply:
                    if record.first_ms is None:
                        record.first_ms = (self._clock_s() - began_s) * 1000
                    if type(burst[-1]) is Finish:
                        self._end(record, began_s, "answered")
                    yield burst
                self._end(record, began_s, "failed")  # it stopped without an end
        except BaseException as exc:
            self._end(record, began_s, _outcome(exc))
            raise
        finally:
            self._tell(record)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Pass everything on."""
        record = request.record
        began_s = self._clock_s()
        try:
            embeddings = await self._inner.embed(request)
            self._end(record, began_s, "answered")
        except BaseException as exc:
            self._end(record, began_s, _outcome(exc))
            raise
        finally:
            self._tell(record)
        return embeddings

    def _end(self, record: CallRecord, began_s: float, outcome: Outcome) -> None:
        """Note the first ending: what comes behind a whole answer is no part of it."""
        if not record.outcome:
            record.outcome = outcome
            record.total_ms = (self._clock_s() - began_s) * 1000

    def _tell(self, record: CallRecord) -> None:
        for observer in self._observers:
            try:
                observer(record)
            except Exception:  # a bug, and no reason to fail an answer
                log.exception("a call was not counted")


def _outcome(exc: BaseException) -> Outcome:
    match exc:
        case RateLimited():
            return "limited"
        case RequestError():
            return "refused"
        case UpstreamRejected(status=400):
            return "refused"  # the provider understood, and it is the question's fault
        case BridgeError():
            return "failed"
        case CancelledError() | GeneratorExit():
            return "left"
    return "failed"
