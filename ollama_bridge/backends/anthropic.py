"""Claude, through the official SDK's `post` (`providers.md` §7.8): its auth and errors, without its typed chunks."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Any, Final

import anthropic
import structlog
from anthropic import AsyncAnthropic, AsyncStream

from ollama_bridge.backends import ProviderSettings, anthropic_cache, listing, whole
from ollama_bridge.backends.anthropic_request import Prepared, prepare
from ollama_bridge.backends.anthropic_stream import Reader
from ollama_bridge.backends.anthropic_turn import continued
from ollama_bridge.backends.anthropic_words import ANTHROPIC_ERROR_TYPES
from ollama_bridge.backends.bursts import read_all, told
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.listing_facts import anthropic_entry
from ollama_bridge.backends.prefix_tracker import Plan, PrefixTracker
from ollama_bridge.backends.sdk import (
    REHEARSAL_URL,
    USER_AGENT,
    encode,
    http_client,
    neutral_environment,
    other_key,
    payloads,
    pin_loggers,
    settle,
)
from ollama_bridge.chat import ChatRequest, Reply
from ollama_bridge.events import Usage
from ollama_bridge.facts import Listed
from ollama_bridge.repairs import mend

log = structlog.get_logger(__name__)

DEFAULT_URL: Final = "https://api.anthropic.com"

COUNTED: Final = frozenset(
    {"messages", "model", "system", "thinking", "tool_choice", "tools", "output_config", "cache_control"}
)
"""What of a request is sent to have its tokens counted: the rest is refused there."""


class _Client(AsyncAnthropic):
    def platform_headers(self) -> dict[str, str]:
        return {}  # what machine this is concerns nobody


class AnthropicBackend:
    """One Anthropic account, or somebody who speaks its Messages API. Make it inside the running loop.

    Args:
        settings: Where and with which keys.
        now_s: A monotonic clock, in seconds, for the life of what is cached.
    """

    def __init__(self, settings: ProviderSettings, *, now_s: Callable[[], float] = time.monotonic) -> None:
        pin_loggers()
        self._settings = settings
        self._prompts = PrefixTracker(now_s)
        self._failures = Failures(
            settings, DEFAULT_URL, "ANTHROPIC_API_KEY", anthropic.AnthropicError, ANTHROPIC_ERROR_TYPES
        )
        base_url = settings.base_url or DEFAULT_URL
        # As a whole: the SDK would put it together anew for every request.
        self._url = f"{base_url.rstrip('/')}/v1/messages"
        with neutral_environment():
            self._client = _Client(
                api_key=next(filter(None, settings.api_keys), "none"),
                base_url=base_url,
                max_retries=0,
                default_headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **settings.headers},
                http_client=http_client(settings),
            )

    async def chat(self, request: ChatRequest) -> Reply:
        """Stream the reply; see `chat.Backend`."""
        model = request.target.model
        self._failures.key(request)
        prepared = prepare(request)
        plan = self._marked(request, prepared)
        mend(prepared.body, request.target.rules.repairs)
        failures = self._failures.about(prepared.body)
        reader = Reader(failures, model, prepared.tool_names, place=len(request.messages))
        headers = {**prepared.headers, **other_key(self._settings, request.key)}
        content: bytes | None = encode(prepared.body)
        with failures.mapped(model), told(request.record, reader), _learning(plan, reader):
            while content is not None:
                stream = await self._post(self._url, content, headers)
                reply = payloads(stream.response, failures, model, whole.message)
                async with stream, aclosing(reply) as batches:
                    async for batch in batches:
                        said, failure = read_all(reader.feed, batch)
                        if said:
                            yield said
                        if reader.calling if said else reader.moved:
                            request.progress()
                        if failure is not None:
                            raise failure
                        if reader.finished:
                            break
                    await settle(batches)
                content = self._going_on(request, prepared.body, reader)
            if reader.paused:
                yield [*reader.give_up()]

    def _going_on(self, request: ChatRequest, body: dict[str, Any], reader: Reader) -> bytes | None:
        """What to ask when the turn pauses; None when it has ended, or cannot be gone on with."""
        again = continued(body, reader.turn, reader.usage() or Usage()) if reader.paused else None
        if again is None:
            return None
        reader.resume()
        request.record.attempts += 1
        request.progress()
        log.info("a paused turn is gone on with", provider=self._settings.name, model=request.target.model)
        return encode(again)

    def _marked(self, request: ChatRequest, prepared: Prepared) -> Plan | None:
        """Mark what the provider is to cache, unless the client does so, or the operator will not have it."""
        if prepared.marked or request.target.prompt_cache is False:
            return None
        plan = self._prompts.plan(request)
        anthropic_cache.place(prepared.body, plan, request.target.rules.cached_from)
        return plan

    async def count(self, request: ChatRequest) -> int:
        """Count the prompt's tokens, which costs nothing; see `chat.Counter`."""
        model = request.target.model
        self._failures.key(request)
        body = {name: value for name, value in prepare(request).body.items() if name in COUNTED}
        with self._failures.mapped(model):
            counted: Any = await self._client.post(
                f"{self._url}/count_tokens",
                content=encode(body),
                cast_to=object,
                options={"headers": other_key(self._settings, request.key), "max_retries": 0},
            )
            return int(counted["input_tokens"])

    async def models(self) -> Sequence[Listed] | None:
        """What it has; see `facts.Lister`."""
        self._failures.key(ChatRequest(""))
        url = self._url.removesuffix("messages") + "models?limit=1000"
        with self._failures.mapped(""):
            return await listing.listed(self._get, [url], self._failures, anthropic_entry)

    async def _get(self, url: str) -> tuple[str, bytes]:
        with self._failures.mapped(""):
            stream = await self._client.get(
                url,
                cast_to=object,
                stream=True,
                stream_cls=AsyncStream[object],
                options={"max_retries": 0},
            )
            async with stream:
                kind = stream.response.headers.get("content-type", "")
                return kind, await listing.bounded(stream.response.aiter_bytes(), self._failures)

    async def warm(self) -> None:
        """Pay the first call's costs; the transport answers it, no network is touched."""
        async with await self._post(REHEARSAL_URL, b"{}", {}):
            pass

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _post(self, path: str, content: bytes, headers: dict[str, str]) -> AsyncStream[object]:
        return await self._client.post(
            path,
            content=content,
            cast_to=object,
            stream=True,
            stream_cls=AsyncStream[object],
            options={"headers": headers, "max_retries": 0},
        )


@contextmanager
def _learning(plan: Plan | None, reader: Reader) -> Iterator[None]:
    """Tell what became of the marks, also where the client leaves in the middle: it is said at the beginning."""
    try:
        yield
    finally:
        # Numbers that are none are a fault, which is told by who reads the reply.
        with suppress(TypeError, AttributeError):
            if plan is not None and (usage := reader.first_usage()):
                plan.learn(usage)
