"""Claude, through the official SDK's `post` (`providers.md` §7.8): its auth and errors, without its typed chunks."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Any, Final

import anthropic
import orjson
from anthropic import AsyncAnthropic, AsyncStream

from ollama_bridge.backends import ProviderSettings, anthropic_cache, listing
from ollama_bridge.backends.anthropic_request import Prepared, prepare
from ollama_bridge.backends.anthropic_thinking import Thoughts
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
from ollama_bridge.events import Event, Finish, FinishReason, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_bridge.facts import Listed
from ollama_bridge.history import call_id

DEFAULT_URL: Final = "https://api.anthropic.com"

STOP_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
"""Anthropic's `stop_reason` to ours; a test holds it to the SDK's literal. An unknown one is a stop."""

COUNTED: Final = frozenset(
    {"messages", "model", "system", "thinking", "tool_choice", "tools", "output_config", "cache_control"}
)
"""What of a request is sent to have its tokens counted: the rest is refused there."""

_DECLINED: Final = "The model declined to answer."


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
        self._failures = Failures(settings, DEFAULT_URL, "ANTHROPIC_API_KEY", anthropic.AnthropicError)
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
        content = encode(prepared.body)
        reader = Reader(self._failures, model, prepared.tool_names)
        with self._failures.mapped(model), told(request.record, reader), _learning(plan, reader):
            headers = {**prepared.headers, **other_key(self._settings, request.key)}
            stream = await self._post(self._url, content, headers)
            async with stream, aclosing(payloads(stream.response, self._failures, model)) as batches:
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
def _learning(plan: Plan | None, reader: "Reader") -> Iterator[None]:
    """Tell what became of the marks, also where the client leaves in the middle: it is said at the beginning."""
    try:
        yield
    finally:
        # Numbers that are none are a fault, which is told by who reads the reply.
        with suppress(TypeError, AttributeError):
            if plan is not None and (usage := reader.usage()):
                plan.learn(usage)


class _Arguments:
    """A tool call while its arguments arrive."""

    __slots__ = ("call", "pieces")

    def __init__(self, call: ToolCall) -> None:
        self.call = call
        self.pieces: list[str] = []

    def whole(self) -> ToolCall:
        """The call with all its arguments; ValueError if they are no JSON object."""
        if text := "".join(self.pieces):
            arguments = orjson.loads(text)
            if not isinstance(arguments, dict):
                raise ValueError
            self.call.arguments = arguments
        return self.call


class Reader:
    """Messages stream events in, our events out. Sans I/O.

    https://platform.claude.com/docs/en/build-with-claude/streaming. Blocks of kinds that no client of ours
    could show (server tools, redacted thinking, citations) pass without a trace, the text in them stays.
    Signed thinking is sealed into the `Finish` of a reply that calls tools: in answering them it is wanted
    back. Of other replies nobody wants it.

    Args:
        failures: Makes the errors.
        model: For errors.
        tool_names: A tool's name on the wire to its name at the client, where they differ.
    """

    __slots__ = (
        "_calls", "_chars", "_failures", "_handlers", "_model", "_stop", "_thoughts", "_told", "_tool_names",
        "_usage", "finished", "moved",
    )  # fmt: skip

    def __init__(self, failures: Failures, model: str, tool_names: Mapping[str, str] | None = None) -> None:
        self.finished = False
        self.moved = False
        """Whether the last payload was more than a sign of life."""
        self._failures = failures
        self._model = model
        self._tool_names = tool_names or {}
        self._calls: dict[int, _Arguments] = {}
        self._chars = 0
        self._told = 0  # whole tool calls
        self._thoughts = Thoughts()
        self._stop: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._handlers: dict[str, Callable[[dict[str, Any]], Iterable[Event]]] = {
            "message_start": self._start,
            "content_block_start": self._block_start,
            "content_block_delta": self._block_delta,
            "content_block_stop": self._block_stop,
            "message_delta": self._message_delta,
            "message_stop": self._message_stop,
            "error": self._error,
        }

    @property
    def calling(self) -> bool:
        """Whether a tool call has begun and is not whole."""
        return bool(self._calls)

    def feed(self, payload: dict[str, Any]) -> Iterable[Event]:
        """The events that one stream event amounts to; unknown ones amount to none.

        Raises:
            UpstreamError: The provider reports an error, or a tool call makes no sense.
            TypeError, KeyError, AttributeError: A field is missing or of the wrong type.
        """
        kind = payload["type"]
        self.moved = kind != "ping"
        handler = self._handlers.get(kind)
        return handler(payload) if handler else ()

    def usage(self) -> Usage | None:
        """What the provider has told so far of the tokens; None before the reply has begun."""
        return _usage(self._usage) if self._usage else None

    def _block_delta(self, payload: dict[str, Any]) -> Iterable[Event]:
        delta = payload["delta"]
        kind = delta["type"]
        if kind == "text_delta":
            return self._text(delta["text"])
        if kind == "thinking_delta":
            self._thoughts.add("thinking", _checked(delta["thinking"]))
            return _thinking(delta["thinking"])
        if kind == "signature_delta":
            self._thoughts.add("signature", _checked(delta["signature"]))
        if kind == "input_json_delta" and (arguments := self._calls.get(payload["index"])):
            arguments.pieces.append(delta["partial_json"])
        return ()

    def _text(self, text: str) -> Iterable[Event]:
        if not text:
            return ()
        self._chars += len(text)
        return (TextDelta(_checked(text)),)

    def _block_start(self, payload: dict[str, Any]) -> Iterable[Event]:
        block = payload["content_block"]
        kind = block["type"]
        if kind == "text":
            return self._text(block.get("text"))
        if kind == "thinking":
            self._thoughts.begin(block, calls=self._told, chars=self._chars)
            return _thinking(block.get("thinking"))
        if kind == "redacted_thinking":
            self._thoughts.begin(block, calls=self._told, chars=self._chars)
        if kind == "tool_use":
            name = _checked(block["name"])
            index = payload["index"]
            self._calls[index] = _Arguments(
                ToolCall(
                    _checked(block.get("id") or call_id(0, index, name)),
                    self._tool_names.get(name, name),
                    dict(block.get("input") or {}),
                )
            )
        return ()

    def _block_stop(self, payload: dict[str, Any]) -> Iterable[Event]:
        self._thoughts.end()
        arguments = self._calls.get(payload["index"])
        if arguments is None:
            return ()
        try:
            call = arguments.whole()
        except ValueError:
            return ()  # perhaps cut off at the token limit, which the stop reason will tell
        del self._calls[payload["index"]]
        self._told += 1
        return (call,)

    def _start(self, payload: dict[str, Any]) -> Iterable[Event]:
        self._usage = dict(payload["message"].get("usage") or {})
        return ()

    def _message_delta(self, payload: dict[str, Any]) -> Iterable[Event]:
        self._stop = payload["delta"]
        usage = payload.get("usage") or {}
        self._usage |= {name: value for name, value in usage.items() if value is not None}
        return ()

    def _message_stop(self, _payload: dict[str, Any]) -> Iterable[Event]:
        detail = self._stop.get("stop_reason") or ""
        reason = STOP_REASONS.get(detail, "stop")
        if self._calls and reason != "length":
            name = next(iter(self._calls.values())).call.name
            raise self._failures.broken(
                f"the arguments of its call of '{name}' are no JSON object: ask again", self._model
            )
        self.finished = True
        sealed = self._thoughts.sealed(self._model) if self._told else b""
        finish = Finish(reason, _usage(self._usage), detail, sealed)
        if reason == "refusal" and not self._chars and not self._told:
            explanation = (self._stop.get("stop_details") or {}).get("explanation")
            return (TextDelta(explanation or _DECLINED), finish)
        return (finish,)

    def _error(self, payload: dict[str, Any]) -> Iterable[Event]:
        raise self._failures.told(payload, self._model)


def _thinking(text: str) -> Iterable[Event]:
    return (ThinkingDelta(_checked(text)),) if text else ()


def _checked(text: str) -> str:
    if type(text) is not str:
        raise TypeError
    return text


def _usage(usage: Mapping[str, Any]) -> Usage:
    read = usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    return Usage(
        input_tokens=(usage.get("input_tokens") or 0) + read + written,
        output_tokens=usage.get("output_tokens") or 0,
        cached_read_tokens=read,
        cached_write_tokens=written,
        cached_hour_tokens=(usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0,
        reasoning_tokens=(usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
    )
