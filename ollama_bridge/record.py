"""What one client's call came to: filled in by whoever learns something, told once to whoever counts.

A `CallRecord` rides on the request (`chat.ChatRequest.record`) through all policies. It holds no prompt, no
answer and no key. Money is in whole nano-dollars (10⁻⁹ USD), always rounded up: integers add up exactly, in
SQLite, in Redis and here.
"""

import time
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ollama_bridge.events import Usage, total

Outcome: TypeAlias = Literal["", "answered", "refused", "limited", "failed", "left"]
"""How a call ended: with a whole answer; for a fault of the client's (4xx); at a limit or budget of ours (429);
for a fault of the provider's or ours (5xx, or cut off); because the client left. Empty: not yet."""

CacheState: TypeAlias = Literal["", "hit", "shared"]
"""Whether the answer came from the cache, or from another client's call for the same thing at the same moment."""


@dataclass(slots=True)
class Charge:
    """What one attempt at one provider took, as far as the provider may bill it.

    Args:
        provider: Key in the configuration.
        target: The model as the provider knows it.
        usage: Tokens.
        cost_nusd: Nano-dollars; None: nobody knows the price.
        saved_nusd: Nano-dollars that the provider's prompt cache saved, less what writing to it cost.
        is_estimated: Whether the tokens are our estimate, because the attempt ended before the provider said.
    """

    provider: str
    target: str
    usage: Usage
    cost_nusd: int | None = None
    saved_nusd: int = 0
    is_estimated: bool = False


@dataclass(slots=True)
class CallRecord:
    """One client's call.

    Args:
        request_id: As in the log.
        surface: The path that was asked, such as `/api/chat`.
        client: Who asked, for people: the name of its key, or else its address.
        key: Names its client key without revealing it; empty: it brought none.
        address: Its IP address.
        asked: The model that was asked for, as lists show it.
        model: The model that answered, as lists show it; differs from `asked` after a fallback.
        provider: Who answered: key in the configuration.
        target: The model that answered, as its provider knows it.
        attempts: How often a provider was asked.
        charges: What may be billed, in order; usually one.
        told: What the provider had said of the last attempt's tokens when it ended; a client that leaves is billed by it.
        cached: Whether no provider was asked.
        outcome: How it ended.
        began_s: Seconds since the epoch.
        first_ms: Milliseconds until the first event; None: there was none.
        total_ms: Milliseconds until the end.
    """

    request_id: str = ""
    surface: str = ""
    client: str = ""
    key: str = ""
    address: str = ""
    asked: str = ""
    model: str = ""
    provider: str = ""
    target: str = ""
    attempts: int = 0
    charges: list[Charge] = field(default_factory=list)
    told: Usage | None = None
    cached: CacheState = ""
    outcome: Outcome = ""
    began_s: float = field(default_factory=time.time)
    first_ms: float | None = None
    total_ms: float = 0.0

    @property
    def usage(self) -> Usage:
        """Tokens of all charges together."""
        return total(charge.usage for charge in self.charges)

    @property
    def cost_nusd(self) -> int | None:
        """Nano-dollars of all charges together, as far as they are known; None: of none, though there are some."""
        known = [charge.cost_nusd for charge in self.charges if charge.cost_nusd is not None]
        return sum(known) if known or not self.charges else None

    @property
    def saved_nusd(self) -> int:
        """Nano-dollars that prompt caches saved."""
        return sum(charge.saved_nusd for charge in self.charges)

    @property
    def is_estimated(self) -> bool:
        """Whether tokens are estimated, or the price of some is not known."""
        unknown = {charge.cost_nusd is None for charge in self.charges}
        return len(unknown) > 1 or any(charge.is_estimated for charge in self.charges)
