"""A prompt's length, told by the provider if it does so soon, and else estimated.

Coding agents ask for it before nearly every turn, to decide whether to compact their history: a rough figure at once
is worth more to them than an exact one late, and an error is worth nothing.
"""

import asyncio

import structlog

from ollama_bridge.chat import ChatRequest, Counter
from ollama_bridge.errors import UpstreamError
from ollama_bridge.tokens import estimate_tokens

log = structlog.get_logger(__name__)


class Counting:
    """Falls back to an estimate.

    Args:
        inner: Who is asked.
        within_s: Most seconds to wait for the answer.
    """

    def __init__(self, inner: Counter, *, within_s: float) -> None:
        self._inner = inner
        self._within_s = within_s

    async def count(self, request: ChatRequest) -> int:
        """The provider's figure, or ours."""
        try:
            async with asyncio.timeout(self._within_s):
                return await self._inner.count(request)
        except UpstreamError as exc:
            reason = exc.summary
        except TimeoutError:
            reason = f"{request.target.provider}: silent for {self._within_s:g} s"
        log.info("tokens estimated", reason=reason)
        return estimate_tokens(request.messages, request.tools)
