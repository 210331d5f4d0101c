"""What each attempt at a provider may take, and what it took in the end.

Before an attempt its rates and the most that it can cost are reserved; afterwards it is priced, noted in the call's
record, and what was not needed is given back: whether it ended well, failed, or the client left.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import structlog

from ollama_bridge.allowances import Budget
from ollama_bridge.chat import Answerer, ChatRequest, Embeddings, EmbedRequest, Reply
from ollama_bridge.errors import InvalidRequest, RateLimited
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_bridge.policies.limits import Account, Limits
from ollama_bridge.policies.till import Taken, Till
from ollama_bridge.prices import Quote, Tariff
from ollama_bridge.record import Charge
from ollama_bridge.tokens import BYTES_PER_TOKEN, call_bytes, estimate_prompt, most_tokens

log = structlog.get_logger(__name__)

LIKELY_OUTPUT_TOKENS: Final = 1024
"""Of an answer, as long as nobody knows: what is reserved of tokens a minute, and the least that is worth asking for
when a budget runs out."""

LEAST_OUTPUT_TOKENS: Final = 16
"""OpenAI takes no lower limit of an answer."""

R = TypeVar("R", ChatRequest, EmbedRequest)


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms a model is asked.

    Args:
        quote: What it costs.
        limits: Its own and its provider's.
        accounts: Of all calls together, and of the model.
        max_request_length: Most characters of a question.
    """

    quote: Quote
    limits: tuple[Limits, ...] = ()
    accounts: tuple[Account, ...] = ()
    max_request_length: int | None = None


class Billing:
    """Reserves, prices and settles every attempt.

    Args:
        inner: Who is asked.
        terms: On which terms, by the model's name as lists show it.
        till: What limits and budgets are taken from; None: there are none.
        key_budget: Of each client key.
        clock_s: Seconds since the epoch.

    Raises:
        RateLimited: A limit or a budget does not allow it.
        InvalidRequest: The question is longer than the model may be asked.
    """

    def __init__(
        self,
        inner: Answerer,
        terms: Callable[[str], Awaitable[Terms]],
        till: Till | None = None,
        *,
        key_budget: Budget | None = None,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._terms = terms
        self._till = till
        self._key_budget = key_budget
        self._clock_s = clock_s

    async def chat(self, request: ChatRequest) -> Reply:
        """Pass everything on; what it costs is known before `Finish` is."""
        request, bill = await self._opened(request)
        written = 0
        try:
            async with aclosing(self._inner.chat(request)) as bursts:
                async for burst in bursts:
                    bill.began = True
                    for event in burst:
                        kind = event.__class__
                        if kind is TextDelta or kind is ThinkingDelta:
                            text = event.text  # type: ignore[union-attr] # compared above, faster than isinstance
                            written += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
                        elif kind is ToolCall:
                            written += call_bytes(event)  # type: ignore[arg-type] # as above
                        elif kind is Finish:
                            bill.ended(event.usage, written)  # type: ignore[union-attr] # as above
                    yield burst
        except (GeneratorExit, asyncio.CancelledError):
            bill.began = True  # nobody took the question back
            raise
        finally:
            bill.close(written)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Pass everything on."""
        request, bill = await self._opened(request)
        try:
            answer = await self._inner.embed(request)
            bill.ended(Usage(answer.input_tokens), 0)
        except asyncio.CancelledError:
            bill.began = True
            raise
        else:
            return answer
        finally:
            bill.close(0)

    async def _opened(self, request: R) -> tuple[R, "_Bill"]:
        """The request, within what is left of a budget, and its bill."""
        terms = await self._terms(request.target.name)
        _check_length(request, terms.max_request_length)
        request.record.told = None  # by an earlier attempt
        tariff = terms.quote(self._clock_s())
        accounts = terms.accounts
        if self._key_budget is not None:
            accounts = (*accounts, _of_key(request.record.key, self._key_budget))
        if self._till is None or not (accounts or terms.limits):
            return request, _Bill(request, tariff)
        if accounts and tariff is None:
            raise _unpriced(request)
        taken = await self._taken(self._till, request, terms, accounts, tariff)
        if taken is None:
            return request, _Bill(request, tariff)
        if taken.drawers and tariff is not None and isinstance(request, ChatRequest):
            request = _within(request, tariff, taken.granted.amount)
        return request, _Bill(request, tariff, taken, self._till)

    async def _taken(
        self,
        till: Till,
        request: ChatRequest | EmbedRequest,
        terms: Terms,
        accounts: tuple[Account, ...],
        tariff: Tariff | None,
    ) -> Taken | None:
        wanted = least = tokens = 0
        full = _output_limit(request)
        if accounts and tariff is not None and not tariff.is_free:
            prompt = most_tokens(request)
            wanted = tariff.most_nusd(prompt, full)
            least = tariff.most_nusd(prompt, min(full, LIKELY_OUTPUT_TOKENS))
        if any(limits.tokens for limits in terms.limits):
            tokens = estimate_prompt(request) + min(full, LIKELY_OUTPUT_TOKENS)
        if not (wanted or terms.limits):
            return None
        return await till.take(terms.limits, tokens, accounts, wanted=wanted, least=least)


class _Bill:
    """One attempt's: what was reserved for it, and what it came to."""

    __slots__ = ("_is_closed", "_request", "_taken", "_tariff", "_till", "began")

    def __init__(
        self,
        request: ChatRequest | EmbedRequest,
        tariff: Tariff | None,
        taken: Taken | None = None,
        till: Till | None = None,
    ) -> None:
        self.began = False
        """Whether the provider has worked, and so may want money."""
        self._request = request
        self._tariff = tariff
        self._taken = taken
        self._till = till
        self._is_closed = False

    def ended(self, usage: Usage, written: int) -> None:
        """It ended well. Some providers do not count; and nobody waits for the count behind a stop word of ours."""
        self._is_closed = True
        if usage.input_tokens:
            self._charge(usage, is_estimated=False)
        else:
            self._charge(self._estimate(usage, written), is_estimated=True)

    def close(self, written: int) -> None:
        """It ended somehow; `written` bytes had come."""
        if self._is_closed:
            return
        self._is_closed = True
        told = self._request.record.told
        if self.began or told is not None:
            self._charge(self._estimate(told or Usage(), written), is_estimated=True)
        else:
            self._settle(0, 0)

    def _estimate(self, told: Usage, written: int) -> Usage:
        """What the provider said, and what it did not say as it is likely to be."""
        return replace(
            told,
            input_tokens=told.input_tokens or estimate_prompt(self._request),
            output_tokens=max(told.output_tokens, -(-written // BYTES_PER_TOKEN)),
        )

    def _charge(self, usage: Usage, *, is_estimated: bool) -> None:
        target, tariff = self._request.target, self._tariff
        charge = Charge(target.provider, target.model, usage, is_estimated=is_estimated)
        if tariff is not None:
            charge.cost_nusd = tariff.cost_nusd(usage)
            charge.saved_nusd = tariff.saved_nusd(usage)
        self._request.record.charges.append(charge)
        self._settle(usage.input_tokens + usage.output_tokens, charge.cost_nusd or 0)

    def _settle(self, tokens: int, nusd: int) -> None:
        if self._till is not None and self._taken is not None:
            self._till.settle(self._taken, tokens=tokens, nusd=nusd)


def _check_length(request: ChatRequest | EmbedRequest, most: int | None) -> None:
    if most is None:
        return
    if isinstance(request, EmbedRequest):
        length = sum(map(len, request.inputs))
    else:
        length = sum(len(message.content) for message in request.messages)
        length += len(request.infill.prefix) + len(request.infill.suffix) if request.infill else 0
    if length > most:
        raise InvalidRequest(
            f"the question has {length} characters, and model '{request.target.name}' takes {most} "
            "(models[].max_request_length): ask something shorter, or in a new conversation"
        )


def _of_key(key: str, budget: Budget) -> Account:
    whose = "of this client key" if key else "of clients without a key"
    return Account(f"key/{key or '-'}", whose, budget)


def _output_limit(request: ChatRequest | EmbedRequest) -> int:
    """Tokens that the answer will be limited to."""
    if isinstance(request, EmbedRequest):
        return 0
    target = request.target
    asked = int(request.options.get("num_predict", -1))
    if asked <= 0:  # Ollama's words for no limit
        return target.max_output_tokens
    return max(LEAST_OUTPUT_TOKENS, min(asked, max(target.context_length, target.max_output_tokens)))


def _within(request: ChatRequest, tariff: Tariff, nusd: int) -> ChatRequest:
    """The request with the limit of its answer that was paid for: where there is none, providers have their own."""
    full = _output_limit(request)
    limit = min(full, tariff.most_output(most_tokens(request), nusd))
    if limit < full:
        log.info("answer limited by what is left of a budget", model=request.target.name, tokens=limit)
    return replace(request, options={**request.options, "num_predict": limit})


def _unpriced(request: ChatRequest | EmbedRequest) -> RateLimited:
    target = request.target
    return RateLimited(
        f"nobody knows what model '{target.name}' ({target.provider}: '{target.model}') costs, and so no budget can "
        "pay for it: set models[].price",
        elsewhere=True,
    )
