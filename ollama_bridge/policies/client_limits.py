"""How often a client may ask, whatever it asks and whoever answers."""

import functools
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from ollama_bridge.allowances import Rates
from ollama_bridge.chat import Answerer, ChatRequest, Embeddings, EmbedRequest, Reply
from ollama_bridge.policies.billing import LIKELY_OUTPUT_TOKENS
from ollama_bridge.policies.limits import Limits, stated
from ollama_bridge.policies.till import Till
from ollama_bridge.tokens import estimate_prompt


class ClientLimits:
    """Refuses who asks too often.

    Args:
        inner: Who answers.
        till: What limits are taken from.
        by_key: Of each client key; who brings none shares one with all who do not.
        by_address: Of each client's address.

    Raises:
        RateLimited: With the seconds to wait.
    """

    def __init__(
        self, inner: Answerer, till: Till, *, by_key: Rates | None = None, by_address: Rates | None = None
    ) -> None:
        self._inner = inner
        self._till = till
        self._by_key = by_key
        self._by_address = by_address
        self._counts_tokens = any(each and each.tokens_per_minute for each in (by_key, by_address))
        self._limits = functools.lru_cache(maxsize=1024)(self._limits_of)

    async def chat(self, request: ChatRequest) -> Reply:
        """Pass everything on."""
        async with self._taken(request), aclosing(self._inner.chat(request)) as bursts:
            async for burst in bursts:
                yield burst

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Pass everything on."""
        async with self._taken(request):
            return await self._inner.embed(request)

    @asynccontextmanager
    async def _taken(self, request: ChatRequest | EmbedRequest) -> AsyncIterator[None]:
        record = request.record
        limits = self._limits(record.key, record.address)
        tokens = 0
        if self._counts_tokens:
            asked = int(request.options.get("num_predict", -1))
            likely = 0 if isinstance(request, EmbedRequest) else LIKELY_OUTPUT_TOKENS
            tokens = estimate_prompt(request) + (min(asked, likely) if asked > 0 else likely)
        taken = await self._till.take(limits, tokens)
        try:
            yield
        finally:
            usages = [charge.usage for charge in record.charges]
            used = sum(usage.input_tokens + usage.output_tokens for usage in usages)
            self._till.settle(taken, tokens=used)

    def _limits_of(self, key: str, address: str) -> tuple[Limits, ...]:
        whose = "this client key" if key else "asking without a client key"
        return stated(
            Limits.of(f"key/{key or '-'}", whose, self._by_key),
            Limits.of(
                f"address/{address}", f"address {address}" if address else "this client", self._by_address
            ),
        )
