"""Whether it pays to have a prompt cached: what became of earlier prompts that began alike.

A write costs a quarter more than plain input (twice as much, if it is to be kept for an hour), a read a tenth or
less: it pays as soon as one request comes back to it. So who asks once does not write; how long is kept what is
written follows from the time between turns; and what was written three times and never read is written less and
less, until nothing is (https://github.com/theopenco/llmgateway/issues/3918).
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import structlog

from ollama_bridge.backends import prefix
from ollama_bridge.chat import CacheTtl, ChatRequest
from ollama_bridge.events import Usage

log = structlog.get_logger(__name__)

PLACES: Final = 4
"""Where a mark may stand: behind the tools, the system prompt, the last request, and this one."""
FRAME: Final = 2
"""How many of them stand before the conversation."""

_UNREAD: Final = 3
"""After so many writes that nobody read the last place is given up, with each further one the place before it, and if
nothing at all is read, all of them at once."""
_PAUSE_S: Final = 600.0
"""So long it stays given up."""
_MOST: Final = 1024
"""Beginnings that are remembered, of conversations and of what stands before them."""
_GAPS: Final = 9
_BEFORE: Final = 4
"""Clients ask more than one thing about a conversation, with other tools and instructions."""
_SHORT_S: Final = 300.0
_LONG_S: Final = 3600.0


@dataclass(slots=True)
class _Trace:
    """What is known of one beginning.

    Args:
        used_s: When it was last used.
        gaps_s: How long it was not used in between, each time.
        before: What stood before the conversation the last times: hashes of tools and system prompt.
        read: Tokens that the last request read, of those that are compared with one another.
        wrote: Whether that request wrote what the next one should read.
        unread: Writes in a row that nobody read.
        resumes_s: When writing is tried again.
        told: Whether the log knows.
    """

    used_s: float | None = None
    gaps_s: deque[float] = field(default_factory=lambda: deque(maxlen=_GAPS))
    before: deque[tuple[bytes, bytes]] = field(default_factory=lambda: deque(maxlen=_BEFORE))
    read: int = 0
    wrote: bool = False
    unread: int = 0
    resumes_s: float = 0.0
    told: bool = False

    def places(self, now_s: float) -> int:
        """How many places are worth a mark, from the front, by what became of earlier ones."""
        if self.unread >= _UNREAD and now_s >= self.resumes_s:
            self.unread = _UNREAD - 1
        return max(0, min(PLACES, PLACES + _UNREAD - 1 - self.unread))

    def unchanged(self, before: tuple[bytes, bytes]) -> int:
        """How many places still have the same before them: what changes between two turns changes again."""
        if before in self.before:
            return PLACES
        return 1 if before[0] in {tools for tools, _ in self.before} else 0

    def gap_s(self, now_s: float) -> tuple[float, ...]:
        """The time since the last use, if there was one."""
        return () if self.used_s is None or now_s <= self.used_s else (now_s - self.used_s,)

    def learn(self, usage: Usage, *, wrote: bool, read: int, now_s: float) -> bool:
        """Compare what a request read with what the one before it had read, and written.

        Returns:
            Whether something was read that had not been before.
        """
        self.wrote = usage.cached_write_tokens > 0
        self.read = usage.cached_read_tokens
        if self.read > read:
            self.unread = 0
            self.told = False
            return True
        if wrote:
            self.unread += 1
            if self.unread >= _UNREAD:
                self.resumes_s = now_s + _PAUSE_S
                # What this request wrote in the places that are given up now proves nothing about the others.
                self.wrote = False
                if not self.read:
                    self.unread = _UNREAD + PLACES - 1
        return False


def _is_spaced(gaps_s: Sequence[float], least: int) -> bool:
    """Whether something comes back, as a rule, too late for the short life and soon enough for the long one."""
    return len(gaps_s) >= least and _SHORT_S < median(gaps_s) < _LONG_S


@dataclass(frozen=True, slots=True)
class Plan:
    """What of one prompt is to be marked.

    Args:
        places: How many of `PLACES`, from the front.
        frame_ttl: How long what stands before the conversation is kept.
        said_ttl: How long the conversation is kept; never longer than that.
        learn: To be told what it came to: what the provider read and wrote.
    """

    places: int
    frame_ttl: CacheTtl
    said_ttl: CacheTtl
    learn: Callable[[Usage], None]


class PrefixTracker:
    """Remembers, for one provider, how prompts began and whether they came back. Bounded, and gone with the process.

    Args:
        now_s: A monotonic clock, in seconds.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._traces: OrderedDict[bytes, _Trace] = OrderedDict()

    def plan(self, request: ChatRequest) -> Plan:
        """What of this prompt to mark.

        Raises:
            InvalidRequest: It holds what JSON cannot.
        """
        now_s = self._now_s()
        before = prefix.tools(request), prefix.system(request)
        frame = self._trace(before[0] if request.tools else before[1])
        talk = self._trace(prefix.opening(request))
        said_ttl: CacheTtl = "1h" if _is_spaced((*talk.gaps_s, *talk.gap_s(now_s)), 1) else "5m"
        # Of the frame the time between two conversations counts, not that between two turns.
        begins = talk.used_s is None
        is_spaced = _is_spaced((*frame.gaps_s, *(frame.gap_s(now_s) if begins else ())), 2)
        # What is kept longer has to stand before what is kept shorter.
        frame_ttl: CacheTtl = "1h" if said_ttl == "1h" or is_spaced else "5m"
        places = PLACES
        if not request.target.prompt_cache:
            if request.tools or any(message.role == "assistant" for message in request.messages):
                places = _places(frame, talk, before, now_s)
            else:
                life_s = _LONG_S if is_spaced else _SHORT_S
                is_recent = frame.used_s is not None and now_s - frame.used_s < life_s
                places = min(FRAME, frame.places(now_s)) if is_recent else 0
        return Plan(places, frame_ttl, said_ttl, _learner(request, frame, talk, before, now_s))

    def _trace(self, key: bytes) -> _Trace:
        trace = self._traces.get(key)
        if trace is None:
            trace = self._traces[key] = _Trace()
            if len(self._traces) > _MOST:
                self._traces.popitem(last=False)
        else:
            self._traces.move_to_end(key)
        return trace


def _places(frame: _Trace, talk: _Trace, before: tuple[bytes, bytes], now_s: float) -> int:
    """Of a conversation that will come back. One that did speaks for itself, whatever became of others."""
    if talk.used_s is None:
        return frame.places(now_s)
    return min(talk.places(now_s), talk.unchanged(before))


def _learner(
    request: ChatRequest, frame: _Trace, talk: _Trace, before: tuple[bytes, bytes], now_s: float
) -> Callable[[Usage], None]:
    """Compares with what was known when the request was sent: what is asked at the same time reads nothing."""
    begins = talk.used_s is None
    judged = frame if begins else talk
    wrote, read = judged.wrote, judged.read

    def learn(usage: Usage) -> None:
        for trace in (frame, talk) if begins else (talk,):
            trace.gaps_s.extend(trace.gap_s(now_s))
        frame.used_s = talk.used_s = now_s
        if before not in talk.before:
            talk.before.append(before)
        found = judged.learn(usage, wrote=wrote, read=read, now_s=now_s)
        if begins:
            talk.read, talk.wrote = judged.read, judged.wrote
        elif found:
            frame.unread = 0
        if judged.unread >= _UNREAD and not judged.told:
            judged.told = True
            log.info(
                "the prompt cache is not read; less is written to it",
                provider=request.target.provider,
                model=request.target.model,
            )

    return learn
