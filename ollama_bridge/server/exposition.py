"""The text that Prometheus reads, by its own client library, which is loaded when the text is first asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Final, TypeAlias

from ollama_bridge.allowances import NUSD_PER_USD
from ollama_bridge.metrics import BUCKETS_S, Totals
from ollama_bridge.surfaces.status import ProviderStatus

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The format that every version of Prometheus reads."""

_WHO: Final = ("provider", "model")

_Counted: TypeAlias = Callable[[Totals], Iterable[tuple[tuple[str, ...], float]]]

_COUNTERS: Final[tuple[tuple[str, str, tuple[str, ...], _Counted], ...]] = (
    (
        "ai_proxy_requests",
        "Calls that have ended.",
        (*_WHO, "outcome"),
        lambda sums: sums.calls.items(),
    ),
    (
        "ai_proxy_tokens_used",
        "Tokens; cached_read, cached_write and reasoning are parts of input and output.",
        (*_WHO, "kind"),
        lambda sums: sums.tokens.items(),
    ),
    (
        "ai_proxy_cost",
        "USD, as far as prices are known.",
        _WHO,
        lambda sums: ((who, nusd / NUSD_PER_USD) for who, nusd in sums.cost_nusd.items()),
    ),
    (
        "ai_proxy_cache_hits",
        "Calls that no provider was asked for.",
        ("model", "kind"),
        lambda sums: sums.cached.items(),
    ),
)
"""Name, what it says, labels, and what is counted under them."""

_STATES: Final = {"closed": 0, "half-open": 1, "open": 2}


def text(totals: Mapping[str, Totals], providers: Sequence[ProviderStatus]) -> bytes:
    """All metrics; takes milliseconds, and much longer the first time: for a thread.

    Args:
        totals: By the worker whose they are; of the only process there is, by an empty name, which is no label.
        providers: How they are, which is the same for all workers.
    """
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415 - few will need it
    from prometheus_client.registry import Collector  # noqa: PLC0415

    class Snapshot(Collector):
        def collect(self) -> Iterable["Metric"]:
            return _families(totals, providers)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Snapshot())
    return generate_latest(registry)


def _families(totals: Mapping[str, Totals], providers: Sequence[ProviderStatus]) -> Iterator["Metric"]:
    from prometheus_client.core import (  # noqa: PLC0415
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    mine = ["worker"] if any(totals) else []
    each = [([worker] if mine else [], sums) for worker, sums in totals.items()]
    for name, told, labels, counted in _COUNTERS:
        counter = CounterMetricFamily(name, told, labels=[*labels, *mine])
        for worker, sums in each:
            for key, number in counted(sums):
                counter.add_metric([*key, *worker], number)
        yield counter
    times = HistogramMetricFamily(
        "ai_proxy_request_duration_seconds", "Until their end.", labels=[*_WHO, *mine]
    )
    bounds = [*map(str, BUCKETS_S), "+Inf"]
    for worker, sums in each:
        for who, took in sums.times.items():
            buckets = list(zip(bounds, accumulate(took.buckets), strict=True))
            times.add_metric([*who, *worker], buckets, took.total_s)
    yield times
    states = GaugeMetricFamily(
        "ai_proxy_circuit_breaker_state", "0 closed, 1 half-open, 2 open.", labels=_WHO
    )
    for provider in providers:
        for model in provider.models:
            states.add_metric([provider.name, model.name], _STATES[model.state])
    yield states
