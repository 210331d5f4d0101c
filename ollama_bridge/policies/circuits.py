"""Which targets are asked and which are left alone for a while: one circuit each, as in an electric installation.

    closed ──`failures` in a row──▶ open ──after `open_s`──▶ half-open: one request tries
       ▲                             ▲                          │
       └── its answer began ─────────┼──────────────────────────┤
                                     └── it failed ─────────────┘

A probe whose answer has begun lets the others in again: they need not fail for as long as it goes on. But the circuit
is then on trial, and the next failure, such as the probe's answer being cut off, opens it again. Only a whole answer
forgets all failures.
"""

import math
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

import structlog

from ollama_bridge.chat import Target
from ollama_bridge.errors import CircuitOpen

State: TypeAlias = Literal["closed", "half-open", "open"]

UNDER_WAY_S: Final = 1.0
"""What who comes during a probe is told to wait."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much is borne: `failures` in a row, then `open_s` seconds without asking."""

    failures: int = 5
    open_s: float = 60.0


@dataclass(slots=True)
class Circuit:
    """One target's. `is_closed` is all that a request to a healthy target looks at.

    Args:
        provider: Key in the configuration.
        model: As the provider knows it.
        clock_s: Monotonic seconds.
        now_s: Seconds since the epoch.
        failures: In a row.
        is_closed: Whether requests pass.
        is_probing: Whether one request is trying.
        since_s: When it was opened, in seconds since the epoch.
        retry_at_s: When one may try, on the monotonic clock.
        last: The last failure, without the provider's own words.
        opening: Names its last opening.
    """

    provider: str
    model: str
    clock_s: Callable[[], float]
    now_s: Callable[[], float]
    failures: int = 0
    is_closed: bool = True
    is_probing: bool = False
    since_s: float = 0.0
    retry_at_s: float = 0.0
    last: str = ""
    opening: str = ""

    @property
    def state(self) -> State:
        """Where it is in the drawing above."""
        if self.is_closed:
            return "closed"
        return "half-open" if self.is_probing or self.left_s == 0 else "open"

    @property
    def left_s(self) -> float:
        """Seconds until one may try; 0: now, or always."""
        return 0.0 if self.is_closed else max(0.0, self.retry_at_s - self.clock_s())

    @property
    def blocks(self) -> CircuitOpen | None:
        """What a request that came now would be told; None: it would pass."""
        if self.is_closed or not (self.is_probing or self.left_s):
            return None
        return self.told()

    def told(self) -> CircuitOpen:
        """Since when it is not asked, and when it will be."""
        since = datetime.fromtimestamp(self.since_s, UTC)
        wait_s = self.left_s or UNDER_WAY_S
        again = f"it is tried again in {math.ceil(wait_s)} s"
        then = "one request is trying it now" if self.is_probing else again
        return CircuitOpen(
            f"not asked since {since:%H:%M:%S} UTC, after {self.failures} failures in a row; {then}",
            provider=self.provider,
            model=self.model,
            retry_after_s=wait_s,
        )

    def fail(self, summary: str, tolerance: Tolerance) -> bool:
        """Count one failure more, of a probe or while all may pass; whether the circuit is open by it."""
        self.last = summary
        self.failures += 1
        if self.is_closed and self.failures < tolerance.failures:
            return False
        self.open(tolerance.open_s)
        return True

    def give_up_probe(self, wait_s: float = 0.0) -> None:
        """Leave the only place, without having learned anything, to who comes after `wait_s` seconds."""
        self.is_probing = False
        self.retry_at_s = self.clock_s() + wait_s

    def open(self, for_s: float, *, since_s: float | None = None, opening: str = "") -> None:
        """Let nobody pass for `for_s` seconds; the other arguments are what another instance says of it."""
        if self.is_closed:
            self.since_s = self.now_s() if since_s is None else since_s
        self.opening = opening or secrets.token_hex(8)
        self.is_closed = self.is_probing = False
        self.retry_at_s = self.clock_s() + for_s
        log.warning(
            "a model is not asked for a while",
            provider=self.provider,
            model=self.model,
            failures=self.failures,
            for_s=round(for_s, 1),
            error=self.last,
        )

    def close(self, *, failures: int = 0) -> None:
        """Let all pass; so many failures are remembered."""
        self.is_closed, self.is_probing, self.failures = True, False, failures
        log.info(
            "a model is asked again",
            provider=self.provider,
            model=self.model,
            after_s=round(self.now_s() - self.since_s, 1),
        )


class Circuits:
    """The circuits of all targets; handed on by a reload.

    Args:
        clock_s: Monotonic seconds.
        now_s: Seconds since the epoch.
    """

    def __init__(
        self, *, clock_s: Callable[[], float] = time.monotonic, now_s: Callable[[], float] = time.time
    ) -> None:
        self._clock_s = clock_s
        self._now_s = now_s
        self._known: dict[tuple[str, str], Circuit] = {}

    def __iter__(self) -> Iterator[Circuit]:
        """All of them."""
        return iter(tuple(self._known.values()))

    def keep(self, targets: Iterable[Target]) -> None:
        """Have a circuit for each of these, and forget all others."""
        known, self._known = self._known, {}
        for target in targets:
            place = target.provider, target.model
            self._known[place] = known.get(place) or self.of(*place)

    def of(self, provider: str, model: str) -> Circuit:
        """The circuit of a target."""
        circuit = self._known.get((provider, model))
        if circuit is None:
            circuit = Circuit(provider, model, self._clock_s, self._now_s)
            self._known[provider, model] = circuit
        return circuit

    def blocks(self, target: Target) -> CircuitOpen | None:
        """What a request to `target` would be told now; None: it would pass."""
        circuit = self._known.get((target.provider, target.model))
        return None if circuit is None else circuit.blocks
