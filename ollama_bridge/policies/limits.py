"""Whose limits and budgets there are, and in which words they refuse. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

from ollama_bridge import allowances
from ollama_bridge.allowances import NUSD_PER_USD, Budget
from ollama_bridge.errors import RateLimited
from ollama_bridge.store.shelf import Purse, Rate, Refused

Span: TypeAlias = Literal["hourly", "daily", "monthly"]

_SPANS: Final[tuple[Span, ...]] = ("hourly", "daily", "monthly")
_WINDOWS: Final[Mapping[int, str]] = {60: "a minute", 3600: "an hour", 86_400: "a day"}
TOKENS_S: Final = 60
TOKENS: Final = f"/tokens/{TOKENS_S}"
"""How keys of rates of tokens end."""

_REQUESTS: Final = (
    ("requests_per_minute", 60),
    ("requests_per_hour", 3600),
    ("requests_per_day", 86_400),
)

SOON_S: Final = 10.0
"""Seconds in which a call that is under way is likely to end."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How often somebody may ask.

    Args:
        key: Whose, in the store: `model/claude:latest`.
        whose: Whose, for people: `model 'claude'`.
        requests: One of each.
        tokens: Of the question and the answer together.
        elsewhere: Whether another model may still answer.
    """

    key: str
    whose: str
    requests: tuple[Rate, ...]
    tokens: tuple[Rate, ...]
    elsewhere: bool = False

    @classmethod
    def of(
        cls, key: str, whose: str, allowed: allowances.Rates | None, *, elsewhere: bool = False
    ) -> "Limits | None":
        """What `allowed` says; None: nothing."""
        if allowed is None:
            return None
        key = printable(key)
        requests = tuple(
            Rate(f"{key}/requests/{window_s}", most, window_s)
            for name, window_s in _REQUESTS
            if (most := getattr(allowed, name)) is not None
        )
        most = allowed.tokens_per_minute
        tokens = () if most is None else (Rate(f"{key}{TOKENS}", most, TOKENS_S),)
        return cls(key, whose, requests, tokens, elsewhere) if requests or tokens else None

    def taking(self, tokens: int) -> tuple[Rate, ...]:
        """A request of so many tokens. One that is larger than all of a window has one to itself."""
        costing = (Rate(one.key, one.limit, one.window_s, min(tokens, one.limit)) for one in self.tokens)
        return (*self.requests, *costing)

    def refusal(self, by: Rate, retry_after_s: float | None, now_s: float) -> RateLimited:
        """What to raise."""
        unit = "token" if by.key.endswith(TOKENS) else "request"
        most = f"{by.limit} {unit}{'s' if by.limit > 1 else ''} {_WINDOWS[by.window_s]}"
        again = f": ask again at {_moment(now_s + retry_after_s)}" if retry_after_s is not None else ""
        return RateLimited(
            f"{self.whose} is limited to {most}{again}",
            elsewhere=self.elsewhere,
            retry_after_s=retry_after_s,
        )


@dataclass(frozen=True, slots=True)
class Account:
    """Whose money a call is paid from.

    Args:
        key: Whose, in the store: `all`, `key/…`, `model/claude:latest`.
        whose: Whose, for people, behind "the daily budget": `of model 'claude'`.
        budget: How much.
        elsewhere: Whether another model may still answer.
    """

    key: str
    whose: str
    budget: Budget
    elsewhere: bool = False

    def drawers(self, hour: int) -> tuple["Drawer", ...]:
        """Its purses in this hour of the epoch."""
        return tuple(
            Drawer(self, span, Purse(f"{printable(self.key)}/{span}/{label}", nusd(limit), until_s))
            for span in _SPANS
            if (limit := getattr(self.budget, span)) is not None
            for label, until_s in (_window(span, hour),)
        )


@dataclass(frozen=True, slots=True)
class Drawer:
    """One purse, and whose it is."""

    account: Account
    span: Span
    purse: Purse

    @property
    def words(self) -> str:
        """`daily budget of 5 USD of model 'claude'`."""
        return f"{self.span} budget of {usd(self.purse.limit)} USD {self.account.whose}"

    def refusal(
        self, refused: Refused, least_nusd: int, now_s: float, *, is_held: bool = False
    ) -> RateLimited:
        """What to raise. It tells nothing of what others spent.

        Args:
            refused: What the store says.
            least_nusd: What it did not hold.
            now_s: Seconds since the epoch.
            is_held: Whether calls under way may give enough of it back.
        """
        retry_after_s = None if refused.retry_after_s is None else max(1.0, self.purse.until_s - now_s)
        cost = f"this request, which may cost {_about(least_nusd)} USD"
        resets = f"it begins anew at {_moment(self.purse.until_s)}"
        if least_nusd > self.purse.limit:
            problem = (
                f"cannot pay for {cost}: limit the answer (num_predict, max_tokens), or ask a cheaper model"
            )
        elif is_held:
            problem = f"is used up by what calls under way may cost: too little is left for {cost}; ask again when they have ended; {resets}"
            retry_after_s = min(SOON_S, self.purse.until_s - now_s)
        else:
            problem = f"is used up: too little is left for {cost}; {resets}"
        return RateLimited(
            f"the {self.words} {problem}",
            elsewhere=self.account.elsewhere,
            instead=self.account.budget.instead,
            retry_after_s=retry_after_s,
        )


def nusd(amount: Decimal) -> int:
    """USD in nano-dollars, what is less than one left out."""
    return int(amount * NUSD_PER_USD)


def usd(amount: int) -> str:
    """Nano-dollars in USD, without zeros at the end."""
    return f"{(Decimal(amount) / NUSD_PER_USD).normalize():f}"


def _about(amount: int) -> str:
    """The same, rounded up to what people want to read."""
    return usd(-(-amount // 10**5) * 10**5)


def printable(key: str) -> str:
    """A key for the store: names that people choose may hold anything."""
    return key if key.isascii() and key.isprintable() else quote(key, safe="/:")


def stated(*limits: Limits | None) -> tuple[Limits, ...]:
    """Those that there are."""
    return tuple(one for one in limits if one is not None)


def owner(limits: Sequence[Limits], rate: Rate) -> Limits:
    """Whose of these a rate is."""
    return next(one for one in limits if rate.key.startswith(f"{one.key}/"))


def _window(span: Span, hour: int) -> tuple[str, float]:
    """The name of the window in which an hour of the epoch lies, and when it ends."""
    now = datetime.fromtimestamp(hour * 3600, UTC)
    if span == "hourly":
        return now.strftime("%Y-%m-%dT%H"), (hour + 1) * 3600.0
    day = now.replace(hour=0)
    if span == "daily":
        return day.strftime("%Y-%m-%d"), (day + timedelta(days=1)).timestamp()
    following = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return day.strftime("%Y-%m"), following.timestamp()


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
