"""The text that Prometheus reads, by its own client library, which is loaded when the text is first asked for."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from ollama_bridge.allowances import NUSD_PER_USD
from ollama_bridge.metrics import BUCKETS_S, Totals
from ollama_bridge.surfaces.status import ProviderStatus

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The format that every version of Prometheus reads."""

_STATES: Final = {"closed": 0, "half-open": 1, "open": 2}


def text(totals: Totals, providers: Sequence[ProviderStatus]) -> bytes:
    """All metrics; takes milliseconds, and much longer the first time: for a thread."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - few will need it
    from prometheus_client.registry import Collector  # noqa: PLC0415

    class Snapshot(Collector):
        def collect(self) -> Iterable["Metric"]:
            return _families(totals, providers)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot())
    return generate_latest(registry)


def _families(totals: Totals, providers: Sequence[ProviderStatus]) -> Iterator["Metric"]:
    from prometheus_client.core import (  # noqa: PLC0415
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    who = ["provider", "model"]
    calls = CounterMetricFamily("ai_proxy_requests", "Calls that have ended.", labels=[*who, "outcome"])
    for key, number in totals.calls.items():
        calls.add_metric(key, number)
    yield calls
    times = HistogramMetricFamily("ai_proxy_request_duration_seconds", "Until their end.", labels=who)
    bounds = [*map(str, BUCKETS_S), "+Inf"]
    for whose, took in totals.times.items():
        times.add_metric(whose, list(zip(bounds, accumulate(took.buckets), strict=True)), took.total_s)
    yield times
    tokens = CounterMetricFamily(
        "ai_proxy_tokens_used",
        "Tokens; cached_read, cached_write and reasoning are parts of input and output.",
        labels=[*who, "kind"],
    )
    for key, number in totals.tokens.items():
        tokens.add_metric(key, number)
    yield tokens
    cost = CounterMetricFamily("ai_proxy_cost", "USD, as far as prices are known.", labels=who)
    for whose, nusd in totals.cost_nusd.items():
        cost.add_metric(whose, nusd / NUSD_PER_USD)
    yield cost
    cached = CounterMetricFamily(
        "ai_proxy_cache_hits", "Calls that no provider was asked for.", labels=["model", "kind"]
    )
    for hit, number in totals.cached.items():
        cached.add_metric(hit, number)
    yield cached
    states = GaugeMetricFamily("ai_proxy_circuit_breaker_state", "0 closed, 1 half-open, 2 open.", labels=who)
    for provider in providers:
        for model in provider.models:
            states.add_metric([provider.name, model.name], _STATES[model.state])
    yield states
