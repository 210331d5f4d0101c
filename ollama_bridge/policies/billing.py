"""What each attempt at a provider may take, and what it took in the end.

Before an attempt its rates and the most that it can cost are reserved; afterwards it is priced, noted in the call's
record, and what was not needed is given back: whether it ended well, failed, or the client left.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Final

import structlog

from ollama_bridge.chat import Answerer, ChatRequest, Embeddings, EmbedRequest, Reply
from ollama_bridge.errors import InvalidRequest, RateLimited, UpstreamSilent
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_bridge.infill import DEFAULT_TOKENS
from ollama_bridge.policies.infill import THOUGHT_TOKENS
from ollama_bridge.policies.limits import Account
from ollama_bridge.policies.terms import Terms
from ollama_bridge.policies.till import Taken, Till
from ollama_bridge.prices import Tariff
from ollama_bridge.record import Charge
from ollama_bridge.tokens import BYTES_PER_TOKEN, call_bytes, characters, measure

log = structlog.get_logger(__name__)

LIKELY_OUTPUT_TOKENS: Final = 1024
"""Of an answer, as long as nobody knows: what is reserved of tokens a minute, and the least that is worth asking for
when a budget runs out."""

LEAST_OUTPUT_TOKENS: Final = 16
"""OpenAI takes no lower limit of an answer."""

_WRITTEN: Final = (TextDelta, ThinkingDelta)


class Billing:
    """Reserves, prices and settles every attempt.

    Args:
        inner: Who is asked.
        terms: On which terms, by the model's name as lists show it.
        till: What limits and budgets are taken from; None: there are none.
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
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._terms = terms
        self._till = till
        self._clock_s = clock_s

    async def chat(self, request: ChatRequest) -> Reply:
        """Pass everything on; what it costs is known before `Finish` is."""
        bill = await self._opened(request)
        if bill.answer_tokens is not None:
            request = _limited(request, bill.answer_tokens)
        written = 0
        try:
            async with aclosing(self._inner.chat(request)) as bursts:
                async for burst in bursts:
                    bill.began = True
                    for event in burst:
                        if isinstance(event, _WRITTEN):
                            text = event.text
                            written += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
                        elif isinstance(event, Finish):
                            bill.ended(event.usage)
                        elif isinstance(event, ToolCall):
                            written += call_bytes(event)
                    yield burst
        except (GeneratorExit, asyncio.CancelledError, UpstreamSilent):
            bill.began = True  # nobody took the question back
            raise
        finally:
            bill.close(written)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Pass everything on."""
        bill = await self._opened(request)
        try:
            answer = await self._inner.embed(request)
            bill.ended(Usage(answer.input_tokens))
        except (asyncio.CancelledError, UpstreamSilent):
            bill.began = True
            raise
        else:
            return answer
        finally:
            bill.close(0)

    async def _opened(self, request: ChatRequest | EmbedRequest) -> "_Bill":
        terms = await self._terms(request.target.name)
        _check_length(request, terms.max_request_length)
        request.record.told = None  # by an earlier attempt
        tariff = terms.quote(self._clock_s())
        bill = _Bill(request, tariff)
        if self._till is None:
            return bill
        accounts = terms.accounts
        if terms.of_key is not None:
            accounts = (*accounts, terms.of_key(request.record.key))
        if accounts and tariff is None:
            raise _unpriced(request)
        await self._reserve(self._till, bill, terms, accounts, tariff)
        return bill

    async def _reserve(
        self, till: Till, bill: "_Bill", terms: Terms, accounts: tuple[Account, ...], tariff: Tariff | None
    ) -> None:
        request = bill.request
        answer = _answer_tokens(request)
        worth = min(answer, LIKELY_OUTPUT_TOKENS)
        can_be_shorter = isinstance(request, ChatRequest) and request.infill is None
        pays = accounts and tariff is not None and not tariff.is_free
        promise = till.promise(request.record)
        if not (pays or terms.limits or promise):
            return
        prompt = measure(request)
        wanted = least = 0
        if pays and tariff is not None:
            wanted = tariff.most_nusd(prompt.most, answer)
            least = tariff.most_nusd(prompt.most, worth if can_be_shorter else answer)
        taken = await till.take(
            terms.limits, prompt.likely + worth, accounts, wanted=wanted, least=least, promise=promise
        )
        bill.reserved(till, taken)
        if wanted and tariff is not None and can_be_shorter:
            bill.answer_tokens = min(answer, tariff.most_output(prompt.most, taken.granted.amount))
            if bill.answer_tokens < answer:
                log.info(
                    "answer limited by what is left of a budget",
                    model=request.target.name,
                    tokens=bill.answer_tokens,
                )


class _Bill:
    """One attempt's: what was reserved for it, and what it came to."""

    __slots__ = (
        "_asked_before",
        "_is_closed",
        "_taken",
        "_tariff",
        "_till",
        "_usage",
        "answer_tokens",
        "began",
        "request",
    )

    def __init__(self, request: ChatRequest | EmbedRequest, tariff: Tariff | None) -> None:
        self.request = request
        self.began = False
        """Whether the provider has worked, and so may want money."""
        self.answer_tokens: int | None = None
        """What was paid for, if a budget pays."""
        self._asked_before = request.record.attempts
        self._tariff = tariff
        self._taken: Taken | None = None
        self._till: Till | None = None
        self._usage = Usage()
        self._is_closed = False

    def reserved(self, till: Till, taken: Taken) -> None:
        """This is to be settled."""
        self._till = till
        self._taken = taken

    def ended(self, usage: Usage) -> None:
        """It ended well. Some providers do not count; and nobody waits for the count behind a stop word of ours."""
        self.began = True
        self._usage = usage
        if usage.input_tokens:
            self._is_closed = True
            self._charge(usage, is_estimated=False)

    def close(self, written: int) -> None:
        """It is over, and `written` bytes had come: what the provider did not say is as it is likely to be."""
        if self._is_closed:
            return
        self._is_closed = True
        told = self.request.record.told
        if not self.began and told is None:
            # Nobody was asked where a circuit is open, or all keys rest.
            self._settle(0, 0, was_asked=self.request.record.attempts > self._asked_before)
            return
        counted = max(self._usage.output_tokens, -(-written // BYTES_PER_TOKEN))
        told = told or self._usage
        usage = replace(
            told,
            input_tokens=told.input_tokens or measure(self.request).likely,
            output_tokens=max(told.output_tokens, counted),
        )
        self._charge(usage, is_estimated=True)

    def _charge(self, usage: Usage, *, is_estimated: bool) -> None:
        target, tariff = self.request.target, self._tariff
        charge = Charge(target.provider, target.model, usage, is_estimated=is_estimated)
        if tariff is not None:
            charge.cost_nusd = tariff.cost_nusd(usage)
            charge.saved_nusd = tariff.saved_nusd(usage)
        self.request.record.charges.append(charge)
        self._settle(usage.input_tokens + usage.output_tokens, charge.cost_nusd or 0)

    def _settle(self, tokens: int, nusd: int, *, was_asked: bool = True) -> None:
        if self._till is not None and self._taken is not None:
            self._till.settle(self._taken, tokens=tokens, nusd=nusd, was_asked=was_asked)


def _check_length(request: ChatRequest | EmbedRequest, most: int | None) -> None:
    if most is None:
        return
    if (length := characters(request)) > most:
        raise InvalidRequest(
            f"the question has {length} characters, and model '{request.target.name}' takes {most} "
            "(models[].max_request_length): ask something shorter, or in a new conversation"
        )


def _answer_tokens(request: ChatRequest | EmbedRequest) -> int:
    """Tokens that the answer is limited to."""
    if isinstance(request, EmbedRequest):
        return 0
    target = request.target
    asked = _asked(request)
    if request.infill is not None:  # who fills it sees to its limit
        return (asked if asked > 0 else DEFAULT_TOKENS) + THOUGHT_TOKENS
    if asked <= 0:  # Ollama's words for no limit
        return target.max_output_tokens
    return max(LEAST_OUTPUT_TOKENS, min(asked, max(target.context_length, target.max_output_tokens)))


def _limited(request: ChatRequest, tokens: int) -> ChatRequest:
    """With the limit that was paid for: where none is asked for, providers have one of their own, or none."""
    asked = _asked(request)
    limit = min(asked, tokens) if asked > 0 else tokens
    return replace(request, options={**request.options, "num_predict": limit})


def _asked(request: ChatRequest) -> int:
    return int(request.options.get("num_predict", -1))


def _unpriced(request: ChatRequest | EmbedRequest) -> RateLimited:
    target = request.target
    return RateLimited(
        f"nobody knows what model '{target.name}' ({target.provider}: '{target.model}') costs, and so no budget can "
        "pay for it: set models[].price",
        elsewhere=True,
    )
