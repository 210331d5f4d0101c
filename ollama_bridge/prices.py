"""What a call costs, in whole nano-dollars. Pure.

Who says it, in this order: the operator (`models[].price`); the provider's own list of models; that it runs on this
machine or network; the price list of the package `genai-prices`; a few rows of ours for models newer than that list. Else nobody knows.

The package's own calculation takes a third of a millisecond a call. So its prices are turned into a `Tariff` once,
and a test holds what that comes to equal to the package's own.
"""

import functools
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

from ollama_bridge.allowances import Price
from ollama_bridge.events import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

_PER_USD_PER_MILLION: Final = 10**12
_ATTO_PER_NANO: Final = 10**9
_UNBOUNDED: Final = 2**53

_FREE_KINDS: Final = frozenset({"demo", "ollama"})
_LISTED_KINDS: Final = frozenset({"anthropic", "openai", "google"})
"""Kinds of providers that the price list knows by the same name."""

_SAME_PRICE: Final[Mapping[str, str]] = {
    # https://platform.claude.com/docs/en/about-claude/pricing
    "claude-mythos-5-1": "claude-fable-5-1",
    "claude-mythos-5": "claude-fable-5",
    # https://ai.google.dev/gemini-api/docs/pricing: also the change on 1 December 2026
    "gemini-4-carbon": "gemini-4-argon",
}
"""Models that the list lacks, to those in it that cost the same."""

_OURS: Final[Mapping[str, Price]] = {
    # https://ai.google.dev/gemini-api/docs/pricing
    "gemini-4-hydrogen": Price(input=Decimal("1.5"), output=Decimal("7.5"), cached_read=Decimal("0.075")),
}
"""Models that the list lacks, and what they cost."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Atto-dollars (10⁻¹⁸ USD) for each token, and for each request.

    Args:
        input: Of the prompt, images included: no model that is served here has a price of its own for them.
        output: Of the answer.
        reasoning: Of the part of it that was reasoning.
        cached_read: Of what was read from the provider's prompt cache.
        cached_write: Of what was written to it.
        cached_hour: Of what was written to it to stay for an hour.
        request: Whatever it holds.
    """

    input: int = 0
    output: int = 0
    reasoning: int = 0
    cached_read: int = 0
    cached_write: int = 0
    cached_hour: int = 0
    request: int = 0

    def most(self, input_tokens: int, output_tokens: int) -> int:
        """Atto-dollars that so many tokens cost at most, whatever of them is cached or reasoning."""
        dearest = max(self.input, self.cached_write, self.cached_hour)
        return self.request + input_tokens * dearest + output_tokens * max(self.output, self.reasoning)


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a model costs now.

    Args:
        steps: The rates of prompts that are longer than so many tokens, ascending; the first of them hold for all.
            The longest step that is reached holds for every token of the request.
    """

    steps: tuple[tuple[int, Rates], ...]

    @property
    def is_free(self) -> bool:
        """Whether nothing costs anything."""
        return not any(rates.most(1, 1) for _, rates in self.steps)

    def cost_nusd(self, usage: Usage) -> int:
        """Nano-dollars, rounded up."""
        rates = self._rates(usage.input_tokens)
        hour = min(usage.cached_hour_tokens, usage.cached_write_tokens)
        write = usage.cached_write_tokens - hour
        # A provider that counts what it read beside the prompt and not in it must not make us owe it less.
        fresh = max(0, usage.input_tokens - usage.cached_read_tokens - usage.cached_write_tokens)
        reasoning = min(usage.reasoning_tokens, usage.output_tokens)
        atto = (
            rates.request
            + fresh * rates.input
            + usage.cached_read_tokens * rates.cached_read
            + write * rates.cached_write
            + hour * rates.cached_hour
            + reasoning * rates.reasoning
            + (usage.output_tokens - reasoning) * rates.output
        )
        return -(-atto // _ATTO_PER_NANO)

    def saved_nusd(self, usage: Usage) -> int:
        """Nano-dollars that reading from the prompt cache saved, less what writing to it cost more; may be negative."""
        rates = self._rates(usage.input_tokens)
        hour = min(usage.cached_hour_tokens, usage.cached_write_tokens)
        atto = (
            usage.cached_read_tokens * (rates.input - rates.cached_read)
            - (usage.cached_write_tokens - hour) * (rates.cached_write - rates.input)
            - hour * (rates.cached_hour - rates.input)
        )
        return atto // _ATTO_PER_NANO

    def most_nusd(self, input_tokens: int, output_tokens: int) -> int:
        """Nano-dollars that no request with at most so many tokens costs more than."""
        atto = max(rates.most(input_tokens, output_tokens) for rates in self._reached(input_tokens))
        return -(-atto // _ATTO_PER_NANO)

    def most_output(self, input_tokens: int, nusd: int) -> int:
        """Tokens of an answer that `nusd` are enough for, behind a prompt of at most `input_tokens`."""
        return min(
            (nusd * _ATTO_PER_NANO - rates.most(input_tokens, 0)) // dearest
            if (dearest := max(rates.output, rates.reasoning))
            else _UNBOUNDED
            for rates in self._reached(input_tokens)
        )

    def _rates(self, input_tokens: int) -> Rates:
        for start, rates in reversed(self.steps):
            if input_tokens > start:
                return rates
        return self.steps[0][1]

    def _reached(self, input_tokens: int) -> tuple[Rates, ...]:
        return tuple(rates for start, rates in self.steps if input_tokens > start) or (self.steps[0][1],)


FREE: Final = Tariff(((0, Rates()),))

Quote: TypeAlias = Callable[[float], Tariff | None]
"""What holds at a time (seconds since the epoch); None: nobody knows."""


def told(kind: str, price: Price | None) -> Quote | None:
    """What a target costs, where nothing needs to be looked up for it: `kind` as for `look_up`."""
    if price is not None:
        tariff = _of_operator(price, kind)
        return lambda _: tariff
    return _free if kind in _FREE_KINDS else None


@functools.lru_cache(maxsize=4096)
def look_up(kind: str, base_url: str | None, model_id: str) -> Quote:
    """What a target costs by the price list.

    The first time it takes a quarter of a second, and later milliseconds: for a thread.

    Args:
        kind: Whose models the provider has, as `catalog.facts_kind` says.
        base_url: Where it is, if the operator said so.
        model_id: The model as the provider knows it.
    """
    if kind in _LISTED_KINDS and (found := _listed(model_id, kind, None) or _newer(model_id)):
        return found
    if base_url is not None:
        return _listed(model_id, None, base_url) or (_free if is_near(base_url) else _unknown)
    return _unknown


@dataclass(frozen=True, slots=True)
class Found:
    """What a target costs, for people.

    Args:
        quote: What it costs.
        said_by: Who says it: `models[].price`, `provider's list`, `genai-prices`, `ollama-bridge` (a row of ours), or `free`: it runs on
            this machine or network; empty: nobody.
    """

    quote: Quote
    said_by: str

    def per_million(self, now_s: float) -> dict[str, float]:
        """USD per million tokens of a short prompt, by their keys in `models[].price`; empty: nobody knows."""
        if (tariff := self.quote(now_s)) is None:
            return {}
        return {key: getattr(tariff.steps[0][1], key) / _PER_USD_PER_MILLION for key in Price.model_fields}


def price_of(
    kind: str, base_url: str | None, model_id: str, price: Price | None, listed: Price | None = None
) -> Found:
    """What a target costs, and who says so; arguments as for `told` and `look_up`, and what its provider's list says."""
    quote = told(kind, price or listed) or look_up(kind, base_url, model_id)
    if price or listed:
        return Found(quote, "models[].price" if price else "provider's list")
    if quote is _unknown:
        return Found(quote, "")
    if quote is _free:
        return Found(quote, "free")
    return Found(quote, "genai-prices" if isinstance(quote, _Timetable) else "ollama-bridge")


def window_of(kind: str, base_url: str | None, model_id: str) -> int | None:
    """Tokens that a model reads, by the same list; for a thread, and arguments as for `look_up`. None: it does not say."""
    model = _found(model_id, kind if kind in _LISTED_KINDS else None, base_url)
    return model.context_window if model else None


def is_near(base_url: str) -> bool:
    """Whether it is on this machine or in its network: nobody there sends a bill."""
    host = (urlsplit(base_url).hostname or "").rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A name without a dot is one of the local network: of a container, for example.
        return "." not in host or host.endswith((".localhost", ".local", ".lan", ".internal", ".home.arpa"))
    return address.is_private or address.is_loopback or address.is_link_local


def _free(_: float) -> Tariff:
    return FREE


def _unknown(_: float) -> None:
    return None


def _listed(model_id: str, provider: str | None, base_url: str | None) -> Quote | None:
    model = _found(model_id, provider, base_url)
    return _Timetable(model) if model else None


def _found(model_id: str, provider: str | None, base_url: str | None) -> "ModelInfo | None":
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - 230 ms, in a thread

    try:
        _, model = get_snapshot().find_provider_model(model_id, None, provider, base_url)
    except LookupError:
        return None
    return model


def _newer(model_id: str) -> Quote | None:
    if same := _SAME_PRICE.get(model_id):
        return _listed(same, None, None)
    return told("", _OURS[model_id]) if model_id in _OURS else None


class _Timetable:
    """A quote from the list: some prices hold from a day on, some by night."""

    def __init__(self, model: "ModelInfo") -> None:
        self._model = model
        self._known: dict[int, Tariff | None] = {}

    def __call__(self, now_s: float) -> Tariff | None:
        price = self._model.get_prices(datetime.fromtimestamp(now_s, UTC))
        if id(price) not in self._known:  # they live as long as the list does
            self._known[id(price)] = _compiled(price)
        return self._known[id(price)]


def _compiled(price: "ModelPrice") -> Tariff | None:
    """None: it has prices, but none for tokens."""
    given = {key: value for key, value in vars(price).items() if value is not None}
    if given and not given.keys() & {"input_mtok", "output_mtok"}:
        return None
    starts = {tier.start for value in given.values() for tier in getattr(value, "tiers", ())}
    return Tariff(tuple((start, _rates_beyond(given, start)) for start in sorted({0} | starts)))


def _rates_beyond(given: Mapping[str, object], start: int) -> Rates:
    """The rates of prompts that are just longer than `start`."""

    def rate(key: str, default: int = 0) -> int:
        value = given.get(key)
        for tier in getattr(value, "tiers", ()):
            if start >= tier.start:
                value = tier.price
        value = getattr(value, "base", value)
        return _atto(value) if isinstance(value, Decimal) else default

    fresh, output = rate("input_mtok"), rate("output_mtok")
    write = rate("cache_write_mtok", fresh)
    return Rates(
        input=fresh,
        output=output,
        reasoning=rate("output_reasoning_mtok", output),
        cached_read=rate("cache_read_mtok", fresh),
        cached_write=write,
        cached_hour=rate("cache_write_1h_mtok", write),
        request=rate("requests_kcount") * 1000,  # USD for a thousand
    )


def _of_operator(price: Price, kind: str) -> Tariff:
    """What is left out is as Anthropic has it for nearly all of its models, and elsewhere what costs more."""
    is_anthropic = kind == "anthropic"
    read, write = price.cached_read, price.cached_write
    if read is None:
        read = price.input / 10 if is_anthropic else price.input
    if write is None:
        write = price.input * 5 / 4 if is_anthropic else price.input
    hour = write * 8 / 5 if is_anthropic else write
    output = _atto(price.output)
    rates = Rates(_atto(price.input), output, output, _atto(read), _atto(write), _atto(hour))
    return Tariff(((0, rates),))


def _atto(usd_per_million: Decimal) -> int:
    """Atto-dollars a token, rounded up."""
    return int((usd_per_million * _PER_USD_PER_MILLION).to_integral_value(ROUND_CEILING))
