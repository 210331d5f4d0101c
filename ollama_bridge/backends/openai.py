"""OpenAI's models and those of everybody who speaks its APIs, through the official SDK.

Which API is asked, Chat Completions or Responses, the provider's settings say, or else each model's rules.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import openai
import structlog

from ollama_bridge.backends import (
    ProviderSettings,
    fim,
    listing,
    openai_chat,
    openai_embeddings,
    openai_fim,
    responses,
    whole,
)
from ollama_bridge.backends.bursts import Counts, Reader, read_all, told
from ollama_bridge.backends.dialect import OPENAI, PLAIN
from ollama_bridge.backends.embedding import embed_in_parts, read_reply, whole_reply
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.framing import DONE, Whole
from ollama_bridge.backends.listing_facts import openai_entry
from ollama_bridge.backends.openai_wire import Prepared
from ollama_bridge.backends.responses_stream import ResponsesReader
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
from ollama_bridge.backends.sign_in import sign_in_for
from ollama_bridge.backends.stopwords import StopWords
from ollama_bridge.backends.vendor import Vendor
from ollama_bridge.backends.vendors import OPENAI_URL, is_openai, vendor_kind, vendor_of
from ollama_bridge.backends.verdicts import ERROR_TYPES, NO_CREDIT, Meaning
from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Message, Reply
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.events import Event
from ollama_bridge.facts import Listed
from ollama_bridge.history import CONTINUE, repair
from ollama_bridge.repairs import mend
from ollama_bridge.tokens import estimate_tokens

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

OPENAI_ERROR_TYPES: Final[Mapping[str, Meaning]] = {
    **ERROR_TYPES,
    # Of OpenAI, beyond those every backend knows
    "billing_hard_limit_reached": NO_CREDIT,
    "billing_not_active": NO_CREDIT,
    "credit_balance_exhausted": NO_CREDIT,
    "organization_spend_limit_exceeded": NO_CREDIT,
    "organization_usage_limit_exceeded": NO_CREDIT,
    "project_spend_limit_exceeded": NO_CREDIT,
    "tokens": 429,
    "requests": 429,
    "bio_policy": 400,
    "misalignment_policy_violation": 400,
    "invalid_image": 400,
    "invalid_image_format": 400,
    "invalid_image_mode": 400,
    "invalid_image_url": 400,
    "invalid_base64_image": 400,
    "image_content_policy_violation": 400,
    "image_file_not_found": 400,
    "image_file_too_large": 400,
    "image_parse_error": 400,
    "image_too_large": 400,
    "image_too_small": 400,
    "empty_image_file": 400,
    "failed_to_download_image": 400,
    "unsupported_image_media_type": 400,
    "vector_store_timeout": 504,
    "data_residency_mismatch": 400,
    "server_is_overloaded": 503,
    "slow_down": 503,
    # Of vendors
    "exceeded_current_quota_error": NO_CREDIT,  # Moonshot
    "tool_use_failed": 400,
    "overloaded": 503,
    "service_unavailable": 503,
    "engine_overloaded_error": 503,
}
"""What an error's `code` or `type` means."""

_NO_KEY: Final = "none"
"""How an operator says that a server wants no key; also what it is sent, as the SDK insists on one."""


class _Reader(Reader, Counts, Protocol):
    done: bool
    moved: bool

    @property
    def calling(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Api:
    path: str
    prepare: Callable[..., Prepared]
    reader: Callable[..., _Reader]
    whole: Whole


_APIS: Final = {
    "chat": _Api("/chat/completions", openai_chat.prepare, openai_chat.ChatReader, whole.completion),
    "responses": _Api("/responses", responses.prepare, ResponsesReader, whole.response),
}
_FIM: Final = _Api("", openai_fim.prepare, openai_chat.ChatReader, whole.completion)


class _Client(openai.AsyncOpenAI):
    def platform_headers(self) -> dict[str, str]:
        return {}  # what machine this is concerns nobody


class _SignedClient(_Client):
    """For those who sign in another way: nothing of the SDK's own is added to each request's headers."""

    def _auth_headers(self, security: Any) -> dict[str, str]:  # noqa: ARG002 - the SDK's
        return {}

    def _validate_headers(self, headers: Any, custom_headers: Any) -> None:
        """They need no `Authorization`."""


class OpenAIBackend:
    """One provider that speaks OpenAI's APIs.

    Args:
        settings: Where and with which key. Without `base_url` it is OpenAI itself, which wants a key; a
            server elsewhere may want none.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        pin_loggers()
        keys = tuple(key for key in settings.api_keys if key and key.lower() != _NO_KEY)
        self._settings = settings = replace(settings, api_keys=keys)
        self._vendor = vendor = vendor_of(settings.kind, settings.base_url)
        self._is_openai = vendor is None and is_openai(settings.base_url)
        self._dialect = vendor.dialect if vendor else OPENAI if self._is_openai else PLAIN
        variable = (
            next(iter(vendor.key_variables), "") if vendor else "OPENAI_API_KEY" if self._is_openai else ""
        )
        http = http_client(settings)
        self._sign_in = sign_in_for(vendor.sign_in, settings, variable, http) if vendor else None
        self._wants_key = self._is_openai or (vendor is not None and self._demands_key(vendor))
        self._failures = Failures(
            settings,
            OPENAI_URL,
            variable,
            openai.OpenAIError,
            OPENAI_ERROR_TYPES,
            secrets=self._sign_in.secrets if self._sign_in else tuple,
        )
        self._url = (settings.base_url or OPENAI_URL).rstrip("/")
        # Without this the SDK would send OPENAI_ORG_ID and OPENAI_CUSTOM_HEADERS to whoever base_url is.
        with neutral_environment():
            self._client = (_SignedClient if self._sign_in else _Client)(
                api_key=keys[0] if keys and self._sign_in is None else _NO_KEY,
                base_url=self._url,
                max_retries=0,  # the retry policy owns retrying
                http_client=http,
            )
        self._headers: dict[str, str] = {
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
            **self._dialect.headers,
            **settings.headers,
        }

    async def chat(self, request: ChatRequest) -> Reply:
        """Stream the reply; see `chat.Backend`."""
        model = request.target.model
        if self._wants_key:
            self._failures.key(request)
        url, api, prepared, turn = self._asked(request)
        mend(prepared.body, request.target.rules.repairs)
        content, failures = encode(prepared.body), self._failures.about(prepared.body)
        if prepared.dropped:
            log.info("options dropped", model=model, options=prepared.dropped)
        reader = api.reader(
            failures,
            model,
            turn=turn,
            logprobs=request.logprobs,
            tool_names=prepared.tool_names.changed,
            **prepared.reading,
        )
        words = StopWords(prepared.stops) if prepared.stops else None
        feed = reader.feed if words is None else _filtered(reader, words)
        with failures.mapped(model), told(request.record, reader):
            stream = await self._post(url, content, request.key)
            reply = payloads(stream.response, failures, model, api.whole, (DONE,))
            async with stream, aclosing(reply) as batches:
                async for batch in batches:
                    said, failure = read_all(feed, batch)
                    if said:
                        yield said
                    if reader.calling if said else reader.moved:
                        request.progress()
                    if failure is not None:
                        raise failure
                    if words is not None and words.hit:
                        return  # and close: nobody wants, nor wants to pay for, what would follow
                    if reader.done:
                        await settle(batches)
                        return
                if last := _rest(reader, words):
                    yield last

    async def count(self, request: ChatRequest) -> int:
        """Let OpenAI count the prompt's tokens; nobody else who speaks its APIs can. See `chat.Counter`."""
        model = request.target.model
        if not self._is_openai or (self._settings.api or request.target.rules.api) != "responses":
            return estimate_tokens(request.messages, request.tools)
        self._failures.key(request)
        body = responses.prepare(request, conversation(request), OPENAI).body
        asked = {name: value for name, value in body.items() if name in responses.COUNTED}
        with self._failures.mapped(model):
            counted: Any = await self._client.post(
                self._url + _APIS["responses"].path + "/input_tokens",
                content=encode(asked),
                cast_to=object,
                options={"headers": self._headers_of(request.key), "max_retries": 0},
            )
            return int(counted["input_tokens"])

    def _asked(self, request: ChatRequest) -> tuple[str, _Api, Prepared, int]:
        """Where to ask, over which API, what, and the position of the answer in the conversation."""
        model, gap = request.target.model, request.infill
        if gap is not None and (url := fim.endpoint(self._settings, model)):
            return url, _FIM, openai_fim.prepare(request, gap, url, self._dialect), 0
        api = _APIS[self._settings.api or request.target.rules.api]
        messages = conversation(request)
        prepared = api.prepare(request, messages, self._dialect)
        if self._dialect.rewrite is not None:
            self._dialect.rewrite(prepared.body, prepared.dropped)
        return self._endpoint(api.path, model), api, prepared, len(messages)

    def _demands_key(self, vendor: Vendor) -> bool:
        """Whether a vendor need not be asked without a key, as it may where it is not at an address of its own."""
        if self._sign_in is not None:
            return self._sign_in.needs_key
        if vendor.keyless or "authorization" in map(str.lower, self._settings.headers):
            return False
        return vendor_of("openai", self._settings.base_url) is vendor

    def _endpoint(self, path: str, model: str) -> str:
        route = self._vendor.route if self._vendor else None
        if route is None:
            return self._url + path
        return route(self._url, path, model, self._settings.api_version)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Embed all inputs; see `chat.Embedder`."""
        if self._wants_key:
            self._failures.key(request)
        limits = openai_embeddings.limits(self._dialect)
        return await embed_in_parts(request, limits, self._embed_part, at_once=self._settings.at_once)

    async def _embed_part(self, request: EmbedRequest) -> Embeddings:
        model = request.target.model
        body = openai_embeddings.to_body(request, self._dialect)
        mend(body, request.target.rules.repairs)
        failures = self._failures.about(body)
        with failures.mapped(model):
            stream = await self._post(self._endpoint("/embeddings", model), encode(body), request.key)
            async with stream:
                kind = stream.response.headers.get("content-type", "")
                reply = await whole_reply(stream.response.aiter_bytes(), failures, model)
            return await read_reply(openai_embeddings.read, reply, kind, request, failures)

    async def models(self) -> Sequence[Listed] | None:
        """What it has; see `facts.Lister`."""
        if self._wants_key:
            self._failures.key(ChatRequest(""))
        vendor = vendor_kind(self._settings.kind, self._settings.base_url)
        with self._failures.mapped(""):
            urls = listing.places(vendor, self._url)
            return await listing.listed(self._get, urls, self._failures, openai_entry)

    async def _get(self, url: str) -> tuple[str, bytes]:
        with self._failures.mapped(""):
            stream = await self._signed(0, partial(self._listed, url))
            async with stream:
                kind = stream.response.headers.get("content-type", "")
                return kind, await listing.bounded(stream.response.aiter_bytes(), self._failures)

    async def _listed(self, url: str, headers: dict[str, str]) -> openai.AsyncStream[object]:
        return await self._client.get(
            url,
            cast_to=object,
            stream=True,
            stream_cls=openai.AsyncStream[object],
            options={"headers": headers, "max_retries": 0},
        )

    async def warm(self) -> None:
        """Go once through all of the SDK that a request goes through, without a network."""
        stream = await self._sent(REHEARSAL_URL, b"{}", self._headers)
        reply = payloads(stream.response, self._failures, "", whole.completion)
        async with stream, aclosing(reply) as batches:
            async for _ in batches:
                pass

    async def aclose(self) -> None:
        """Close all connections."""
        if self._sign_in is not None:
            await self._sign_in.aclose()
        await self._client.close()

    def _headers_of(self, key: int) -> dict[str, str]:
        return {**self._headers, **other_key(self._settings, key)} if key else self._headers

    async def _signed(self, key: int, ask: Callable[[dict[str, str]], Awaitable[_T]]) -> _T:
        """Ask with the headers of that key; once more with others, if they are refused and others can be had."""
        if self._sign_in is None:
            return await ask(self._headers_of(key))
        signed = await self._sign_in.headers(key)
        try:
            return await ask({**self._headers, **signed})
        except openai.AuthenticationError:
            if not self._sign_in.refused(key, signed):
                raise
        return await ask({**self._headers, **await self._sign_in.headers(key)})

    async def _post(self, url: str, content: bytes, key: int = 0) -> openai.AsyncStream[object]:
        return await self._signed(key, partial(self._sent, url, content))

    async def _sent(self, url: str, content: bytes, headers: dict[str, str]) -> openai.AsyncStream[object]:
        # The SDK's verb for endpoints it has no method for: its URL, key and errors, but neither its walk
        # through every message (80 ms in a long conversation) nor its typed chunks (130 us each).
        return await self._client.post(
            url,
            content=content,
            cast_to=object,
            stream=True,
            stream_cls=openai.AsyncStream[object],
            options={"headers": headers, "max_retries": 0},
        )


def conversation(request: ChatRequest) -> tuple[Message, ...]:
    """The request's messages, repaired; where the model wants the user's word last, it gets it.

    Raises:
        InvalidRequest: There are none.
    """
    messages = repair(request.messages)
    if not messages:
        raise InvalidRequest("the conversation is empty: there is nothing to answer")
    if messages[-1].role == "assistant" and not request.target.rules.prefill:
        return (*messages, Message("user", CONTINUE))
    return messages


def _filtered(reader: _Reader, words: StopWords) -> Callable[[Any], Iterable[Event]]:
    return lambda payload: words.feed(reader.feed(payload))


def _rest(reader: _Reader, words: StopWords | None) -> list[Event]:
    """What is left to say when the stream has ended."""
    events = reader.close()
    return list(events) if words is None else [*words.feed(events), *words.close()]
