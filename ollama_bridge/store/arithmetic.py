"""The arithmetic of rates and purses: how much there is left, and when there is enough again.

Rates are sliding window counters: the window before counts by the part of it that the last `window_s` seconds still
touch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ollama_bridge.store.shelf import Granted, Purse, Rate, Refused


@dataclass(frozen=True, slots=True)
class Counts:
    """What was taken of one rate.

    Args:
        previous: Units taken in the window before.
        previous_s: Seconds until it counts no more.
        current: Units taken in this window.
        current_s: Seconds until another window begins.
    """

    previous: int
    previous_s: float
    current: int
    current_s: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """What `Store.settle` was told."""

    granted: Granted
    rates: Sequence[Rate]
    purses: Sequence[Purse]
    amount: int


def refused(rate: Rate, counts: Counts) -> Refused:
    """Why `rate` cannot give its cost now."""
    taken = math.floor(counts.previous * counts.previous_s / rate.window_s + counts.current)
    return Refused(rate, max(0, rate.limit - taken), _wait_s(rate, counts))


def empty(purse: Purse, left: int, least: int, now_s: float) -> Refused:
    """Why `purse` cannot give `least` now."""
    return Refused(purse, left, max(0.0, purse.until_s - now_s) if least <= purse.limit else None)


def negative(rates: Sequence[Rate]) -> list[Rate]:
    """The settlement that undoes a take of them."""
    return [replace(rate, cost=-rate.cost) for rate in rates]


def _wait_s(rate: Rate, counts: Counts) -> float | None:
    """Seconds until it fits, a millisecond later than the last moment at which it does not."""
    if rate.cost > rate.limit:
        return None
    room = rate.limit - rate.cost + 1  # what is taken has to be less: parts of a unit do not count
    if counts.current < room and counts.previous:
        wait_s = counts.previous_s - rate.window_s * (room - counts.current) / counts.previous
    elif counts.current < room:
        wait_s = 0.0
    else:
        wait_s = counts.current_s + rate.window_s * (1 - room / counts.current)
    return (math.floor(max(0.0, wait_s) * 1000) + 1) / 1000
