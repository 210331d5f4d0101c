"""How long a provider wants us to wait, from the headers of its answer. Pure.

`Retry-After` and its kin say it outright. The others tell when a limit is whole again, in every answer and in
five forms, so they count only where the answer is that a limit was reached:

- Anthropic, https://platform.claude.com/docs/en/api/rate-limits: `anthropic-ratelimit-tokens-reset`, an RFC 3339 time;
- OpenAI, Groq, Azure, Cerebras: `x-ratelimit-reset-requests`, such as `6m0s`, `7.66s`, `120ms`, or plain seconds;
- OpenRouter and others: `x-ratelimit-reset`, seconds or milliseconds since the epoch, or seconds from now;
- draft-ietf-httpapi-ratelimit-headers: `ratelimit-reset`, seconds from now.
"""

import email.utils
import math
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

_OUTRIGHT: Final = (("retry-after-ms", 0.001), ("x-ms-retry-after-ms", 0.001), ("retry-after", 1.0))
"""Names, the most exact first, and how many seconds the unit of a plain number is."""

_RESET: Final = re.compile(r"(?:\w+-)?ratelimit-(?:reset|reset-[\w-]+|[\w-]+-reset)\Z")
"""With `remaining` and `limit` in place of `reset` the name of what is left, and of how much there is."""

_EPOCH_S: Final = 1e8
"""Numbers from here on are times, not waits: three years, or 1973."""
_EPOCH_MS: Final = 1e11

_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|µs|ns|d|h|m|s))+\Z")
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)")
_UNIT_S: Final[Mapping[str, float]] = {
    "d": 86_400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}  # fmt: skip


def retry_after_s(headers: Mapping[str, str], *, limited: bool = False) -> float | None:
    """Seconds to wait, as the provider says; None: it says nothing that makes sense.

    Args:
        headers: Of its answer.
        limited: Whether the answer is that a limit was reached.
    """
    known = {name.lower(): value.strip() for name, value in headers.items()}
    for name, unit_s in _OUTRIGHT:
        wait_s = wait_of(known.get(name, ""), unit_s)
        if wait_s is not None:
            return wait_s
    return _scarcest_s(known) if limited else None


def wait_of(value: str, unit_s: float = 1.0) -> float | None:
    """Seconds from now, of a number, a duration or a time as headers have them; 0 for the past, None for nonsense.

    Args:
        value: `7`, `0.5`, `6m0s`, `1767225600`, `1767225600000`, `2026-01-01T00:00:00Z`, or an HTTP date.
        unit_s: How many seconds the unit of a plain number is.
    """
    try:
        wait_s = _number(float(value), unit_s)
    except ValueError:
        wait_s = _duration(value) if _DURATION.match(value) else time_of(value) - time.time()
    return max(wait_s, 0.0) if math.isfinite(wait_s) else None


def _number(value: float, unit_s: float) -> float:
    if value * unit_s < _EPOCH_S:
        return value * unit_s
    return (value / 1000 if value >= _EPOCH_MS else value) - time.time()


def _duration(value: str) -> float:
    return sum(float(amount) * _UNIT_S[unit] for amount, unit in _PART.findall(value))


def time_of(value: str) -> float:
    """Seconds since the epoch, of an HTTP date or an ISO 8601 time; NaN for what is neither."""
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        try:
            found = email.utils.parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError, OverflowError):  # years past 9999 among them
            return math.nan
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _scarcest_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until the limit is whole again that was most likely reached.

    That is the one of which the smallest part is left; of several, such as those of which nothing is left or is
    told, the one that takes longest. To wait for the others would be to wait for nothing: OpenAI's and Groq's
    limits of a day take minutes to fill up to the last request, which nobody needs.
    """
    waits = sorted(_resets(headers))
    if not waits:
        return None
    least, _ = waits[0]
    return max(wait_s for left, wait_s in waits if left == least)


def _resets(headers: Mapping[str, str]) -> Iterator[tuple[float, float]]:
    """Of each limit the part that is left, and the seconds until it is whole again."""
    for name, value in headers.items():
        if not _RESET.match(name):
            continue
        wait_s = wait_of(value)
        left = _count(headers.get(name.replace("reset", "remaining")), 0.0)
        most = _count(headers.get(name.replace("reset", "limit")), math.inf)
        if wait_s is not None and left >= 0:  # Azure writes -1 where it has no limit
            yield (left / most if 0 < most < math.inf else float(left > 0)), wait_s


def _count(value: str | None, default: float) -> float:
    try:
        count = float(value or "")
    except ValueError:
        return default
    return count if math.isfinite(count) else default
