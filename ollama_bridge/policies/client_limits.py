"""How often a client may ask, whatever it asks and whoever answers."""

import functools
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager

from ollama_bridge.allowances import Rates
from ollama_bridge.chat import Answerer, ChatRequest, Embeddings, EmbedRequest, Reply
from ollama_bridge.policies.billing import LIKELY_OUTPUT_TOKENS
from ollama_bridge.policies.limits import Limits, stated
from ollama_bridge.policies.till import Promise, Till
from ollama_bridge.tokens import measure


class ClientLimits:
    """Refuses who asks too often.

    Args:
        inner: Who answers.
        till: What limits are taken from.
        by_key: Of each client key; who brings none shares one with all who do not.
        by_address: Of each client's address.
        at_once: Whether a chat may be answered from elsewhere than a provider, or be paid for by another client: then
            its limits are asked first. Else what is taken for the provider takes them along, which is half the time.

    Raises:
        RateLimited: With the seconds to wait.
    """

    def __init__(
        self,
        inner: Answerer,
        till: Till,
        *,
        by_key: Rates | None = None,
        by_address: Rates | None = None,
        at_once: Callable[[ChatRequest], bool] = lambda _: True,
    ) -> None:
        self._inner = inner
        self._till = till
        self._at_once = at_once
        self._by_key = by_key
        self._by_address = by_address
        self._counts_tokens = any(each and each.tokens_per_minute for each in (by_key, by_address))
        self._limits = functools.lru_cache(maxsize=1024)(self._limits_of)

    async def chat(self, request: ChatRequest) -> Reply:
        """Pass everything on."""
        with self._promised(request) as promise:
            if self._at_once(request):
                await self._till.redeem(promise, self._tokens(request))
            async with aclosing(self._inner.chat(request)) as bursts:
                async for burst in bursts:
                    if promise.taken is None:
                        await self._till.redeem(promise, self._tokens(request))
                    yield burst

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Pass everything on."""
        with self._promised(request) as promise:
            await self._till.redeem(promise, self._tokens(request))
            return await self._inner.embed(request)

    @contextmanager
    def _promised(self, request: ChatRequest | EmbedRequest) -> Iterator[Promise]:
        record = request.record
        limits = self._limits(record.key, record.address)
        with self._till.promised(record, limits) as promise:
            try:
                yield promise
            finally:
                if promise.taken is not None:
                    usages = [charge.usage for charge in record.charges]
                    used = sum(usage.input_tokens + usage.output_tokens for usage in usages)
                    self._till.settle(promise.taken, tokens=used)

    def _tokens(self, request: ChatRequest | EmbedRequest) -> int:
        if not self._counts_tokens:
            return 0
        asked = int(request.options.get("num_predict", -1))
        likely = 0 if isinstance(request, EmbedRequest) else LIKELY_OUTPUT_TOKENS
        return measure(request).likely + (min(asked, likely) if asked > 0 else likely)

    def _limits_of(self, key: str, address: str) -> tuple[Limits, ...]:
        whose = "this client key" if key else "asking without a client key"
        return stated(
            Limits.of(f"key/{key or '-'}", whose, self._by_key),
            Limits.of(
                f"address/{address}", f"address {address}" if address else "this client", self._by_address
            ),
        )
