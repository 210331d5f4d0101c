"""What is known of a provider's keys: whose turn it is, and which of them rest until when.

Providers limit each model for itself, and a key may be allowed one model and not another, so that a rest is of one
key for one model, except where all of the account is meant.
"""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import structlog

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.chat import ChatRequest
from ollama_bridge.errors import UpstreamError
from ollama_bridge.opening import first_asked, hashed

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

_MOST_TALKS: Final = 1024

Resting: TypeAlias = dict[str, list[tuple[int, str, float]]]
"""By provider: keys that rest, counted from 0; for which model, as the provider knows it, or empty for all of them;
and how many seconds more."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """Why a key rests, until when, and whether the provider said so: else it is a guess of ours."""

    until_s: float
    cause: UpstreamError
    told: bool


class Keyring:
    """The keys of one provider.

    Args:
        provider: Its key in the configuration, for the log.
        keys: How many there are.
        clock_s: Monotonic seconds.
    """

    def __init__(self, provider: str, keys: int, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.keys = keys
        self._provider = provider
        self._clock_s = clock_s
        self._next = 0
        self._rests: dict[tuple[int, str], _Rest] = {}
        self._talks: OrderedDict[bytes, int] = OrderedDict()

    def turn(self) -> int:
        """The next key in turn."""
        key = self._next
        self._next = (key + 1) % self.keys
        return key

    def turn_of(self, request: ChatRequest) -> int:
        """The key that began this conversation, whose account has it in its prompt cache; of a new one, the next."""
        # No JSON, which half a surrogate pair cannot be written as: the provider is to say what it thinks of it.
        talk = hashed(repr(first_asked(request.messages)).encode())
        key = (
            self._talks.get(talk)
            if any(message.role == "assistant" for message in request.messages)
            else None
        )
        if key is None:
            key = self.turn()
        self._talks[talk] = key
        self._talks.move_to_end(talk)
        if len(self._talks) > _MOST_TALKS:
            self._talks.popitem(last=False)
        return key

    def usable(self, model: str, first: int) -> Iterator[int]:
        """The keys for one request, in turn from `first`.

        When all rest, the one that is free first, if its rest is a guess: nobody is refused because of a guess.
        """
        asked = False
        for key in (*range(first, self.keys), *range(first)):
            rest = self._rest(key, model)
            if rest is None or rest.until_s <= self._clock_s() + _EARLY_S:
                asked = True
                yield key
        if not asked:
            key, rest = self._free_first(model)
            if not rest.told:
                yield key

    def set_aside(self, key: int, model: str, exc: UpstreamError) -> bool:
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

    def exhausted(self, model: str) -> UpstreamError:
        """What to raise when every key rests: why the one does that is free first, and for how long."""
        _, rest = self._free_first(model)
        left_s = max(rest.until_s - self._clock_s(), 0.0) if rest.told else None
        return rest.cause.anew(retry_after_s=left_s)

    def resting(self) -> list[tuple[int, str, float]]:
        """See `Resting`."""
        now_s = self._clock_s()
        rests = ((*place, rest.until_s - now_s) for place, rest in self._rests.items())
        return [rest for rest in rests if rest[2] > 0]

    def _rest(self, key: int, model: str) -> _Rest | None:
        """The longer one of the key's rests for this model and for all; it may be over."""
        rests = (self._rests.get((key, model)), self._rests.get((key, "")))
        return max(filter(None, rests), key=_until_s, default=None)

    def _free_first(self, model: str) -> tuple[int, _Rest]:
        rests = ((key, rest) for key in range(self.keys) if (rest := self._rest(key, model)))
        return min(rests, key=lambda found: found[1].until_s)


class Keyrings:
    """Those of all providers; handed on by a reload."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[ProviderSettings, Keyring]] = {}
        self.elsewhere: Callable[[], Awaitable[Iterable[Resting]]] | None = None
        """Asks the other processes which keys rest there; None: there are none."""

    def of(self, settings: ProviderSettings) -> Keyring:
        """The keyring of a provider: a new one if anything about it has changed."""
        known = self._known.get(settings.name)
        if known is None or known[0] != settings:
            known = self._known[settings.name] = settings, Keyring(settings.name, len(settings.api_keys))
        return known[1]

    def resting(self) -> Resting:
        """As far as this process knows."""
        return {provider: ring.resting() for provider, (_, ring) in self._known.items()}

    async def resting_anywhere(self) -> Resting:
        """As far as any process knows: of each rest the longest."""
        found: dict[str, dict[tuple[int, str], float]] = {}
        for told in (self.resting(), *(await self.elsewhere() if self.elsewhere else ())):
            for provider, rests in told.items():
                longest = found.setdefault(provider, {})
                for key, model, for_s in rests:
                    longest[key, model] = max(for_s, longest.get((key, model), 0.0))
        return {
            provider: [(*place, for_s) for place, for_s in sorted(rests.items())]
            for provider, rests in found.items()
        }


def _until_s(rest: _Rest) -> float:
    return rest.until_s
