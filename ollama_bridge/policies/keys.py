"""Several keys of one provider, used in turn; one that is limited or refused rests while the others answer.

Providers limit each model for itself, and a key may be allowed one model and not another, so that a rest is of one
key for one model, except where all of the account is meant.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

import structlog

from ollama_bridge.chat import Answerer, ChatRequest, Embeddings, EmbedRequest, Reply
from ollama_bridge.errors import UpstreamError

log = structlog.get_logger(__name__)

LIMITED_S: Final = 60.0
"""A key's rest when its limit is reached and the provider does not say for how long: most limits are of a minute."""

REFUSED_S: Final = 600.0
"""A key's rest when it is refused, without credit, or out of quota for the day."""

_GUESS_S: Final = {True: LIMITED_S, False: REFUSED_S}
_MAX_REST_S: Final = 86_400.0
_EARLY_S: Final = 0.05
"""Who was told to wait may be back by so much too soon: timers of event loops are coarse."""

_OF_THE_KEY: Final[Mapping[int, bool]] = {401: True, 402: True, 403: False, 429: False}
"""HTTP statuses that are the key's fault, and whether for every model."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """Why a key rests, until when, and whether the provider said so: else it is a guess of ours."""

    until_s: float
    cause: UpstreamError
    told: bool


class KeyPool:
    """Answers with the next key; with the one after it, at once, when that one is limited or refused.

    Args:
        inner: The provider; it uses the key that `request.key` names.
        provider: Its key in the configuration, for the log.
        keys: How many there are.
        clock_s: Monotonic seconds.

    Raises:
        UpstreamError: Every key rests: that of the one that is free first, with the seconds until then.
    """

    def __init__(
        self, inner: Answerer, provider: str, keys: int, *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._inner = inner
        self._provider = provider
        self._keys = keys
        self._clock_s = clock_s
        self._next = 0
        self._rests: dict[tuple[int, str], _Rest] = {}

    async def chat(self, request: ChatRequest) -> Reply:
        """Pass on the reply of the first key with which one begins."""
        model = request.target.model
        for key in self._usable(model):
            has_begun = False
            asked = replace(request, key=key) if key else request
            try:
                async with aclosing(self._inner.chat(asked)) as reply:
                    async for burst in reply:
                        has_begun = True
                        yield burst
            except UpstreamError as exc:
                if has_begun or not self._set_aside(key, model, exc):
                    raise
            else:
                return
        raise self._exhausted(model)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Hand back the answer of the first key that gives one."""
        model = request.target.model
        for key in self._usable(model):
            try:
                return await self._inner.embed(replace(request, key=key))
            except UpstreamError as exc:
                if not self._set_aside(key, model, exc):
                    raise
        raise self._exhausted(model)

    def _usable(self, model: str) -> Iterator[int]:
        """The keys for one request, the next in turn first.

        When all rest, the one that is free first, if its rest is a guess: nobody is refused because of a guess.
        """
        first = self._next
        self._next = (first + 1) % self._keys
        asked = False
        for key in (*range(first, self._keys), *range(first)):
            rest = self._rest(key, model)
            if rest is None or rest.until_s <= self._clock_s() + _EARLY_S:
                asked = True
                yield key
        if not asked:
            key, rest = self._free_first(model)
            if not rest.told:
                yield key

    def _set_aside(self, key: int, model: str, exc: UpstreamError) -> bool:
        """Let the key rest, if the failure is its fault."""
        whole_account = _OF_THE_KEY.get(exc.upstream_status or 0)
        if whole_account is None:
            return False
        now_s, told_s = self._clock_s(), exc.retry_after_s
        rest_s = _GUESS_S[exc.retryable] if told_s is None else min(told_s, _MAX_REST_S)
        rest = _Rest(now_s + rest_s, exc.anew(), told_s is not None)
        place = (key, "" if whole_account else model)
        before = self._rests.get(place)
        if before is None or before.until_s <= rest.until_s:
            self._rests[place] = rest
        if before is None or before.until_s <= now_s:
            tell = log.info if exc.upstream_status == 429 else log.warning
            named = f"providers.{self._provider}.api_key[{key}]"
            tell("API key set aside", key=named, rest_s=round(rest_s, 3), reason=exc.summary)
        return True

    def _rest(self, key: int, model: str) -> _Rest | None:
        """The longer one of the key's rests for this model and for all; it may be over."""
        rests = (self._rests.get((key, model)), self._rests.get((key, "")))
        return max(filter(None, rests), key=_until_s, default=None)

    def _free_first(self, model: str) -> tuple[int, _Rest]:
        rests = ((key, rest) for key in range(self._keys) if (rest := self._rest(key, model)))
        return min(rests, key=lambda found: found[1].until_s)

    def _exhausted(self, model: str) -> UpstreamError:
        _, rest = self._free_first(model)
        left_s = max(rest.until_s - self._clock_s(), 0.0) if rest.told else None
        return rest.cause.anew(retry_after_s=left_s)


def _until_s(rest: _Rest) -> float:
    return rest.until_s
