"""A real Ollama elsewhere: its own wire, both ways, with nothing taken away.

`POST /api/chat`, for gaps `POST /api/generate`, and their stream of JSON lines: https://github.com/ollama/ollama/blob/main/docs/api.md.
"""

import itertools
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

import aiohttp
import orjson
import structlog

from ollama_bridge.backends import ProviderSettings, listing
from ollama_bridge.backends.bursts import bursts
from ollama_bridge.backends.embedding import Limits, embed_in_parts, read_reply, whole_reply
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.listing_facts import openai_entry
from ollama_bridge.backends.sdk import USER_AGENT, encode, other_key
from ollama_bridge.backends.session import client_session
from ollama_bridge.backends.tool_choice import AUTO
from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Message, Reply, Tool
from ollama_bridge.errors import UpstreamBroken, UpstreamError
from ollama_bridge.events import (
    Event,
    Finish,
    FinishReason,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCall,
    Usage,
)
from ollama_bridge.facts import Listed

DEFAULT_BASE_URL: Final = "http://127.0.0.1:11434"

EMBED_LIMITS: Final = Limits(inputs=512)
"""Of our own making, so that no reply is too large."""

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
_MAX_ERROR_BYTES: Final = 1 << 20

_REASONS: Final[Mapping[str, FinishReason]] = {"stop": "stop", "length": "length"}

log = structlog.get_logger(__name__)


class OllamaBackend:
    """Another Ollama. Make it inside the running event loop. A key is sent as a bearer token, if there is one."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._provider = settings.name
        self._settings = settings
        base_url = (settings.base_url or DEFAULT_BASE_URL).rstrip("/")
        self._url = base_url + "/api"
        self._failures = Failures(
            settings=settings,
            default_url=DEFAULT_BASE_URL,
            key_variable="OLLAMA_API_KEY",
            sdk_error=aiohttp.ClientError,
        )
        self._headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
        if settings.api_keys:
            self._headers["Authorization"] = f"Bearer {settings.api_keys[0]}"
        self._headers |= settings.headers
        self._session = client_session(settings, base_url)

    async def chat(self, request: ChatRequest) -> Reply:
        """Stream the reply.

        Raises:
            UpstreamError: The other Ollama failed.
            InvalidRequest: The request cannot be written as JSON.
        """
        model = request.target.model
        path = "/chat" if request.infill is None else "/generate"
        reader = ChatReader(self._failures, model)
        with self._failures.mapped(model):
            async with (
                aclosing(self._chunks(path, encode(to_body(request)), request)) as chunks,
                aclosing(bursts(reader, chunks, request.progress)) as said,
            ):
                async for burst in said:
                    yield burst

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Embed all inputs; see `chat.Embedder`."""
        return await embed_in_parts(request, EMBED_LIMITS, self._embed_part)

    async def _embed_part(self, request: EmbedRequest) -> Embeddings:
        model = request.target.model
        with self._failures.mapped(model):
            response = await self._post("/embed", encode(to_embed_body(request)), request)
            try:
                body = await whole_reply(response.content.iter_any(), self._failures, model)
            finally:
                response.close()  # nothing to do when it was read to its end
            return await read_reply(_read_embeddings, body, response.content_type, request, self._failures)

    async def models(self) -> Sequence[Listed] | None:
        """What it has; see `facts.Lister`."""
        with self._failures.mapped(""):
            return await listing.listed(self._tags, [self._url + "/tags"], self._failures, openai_entry)

    async def _tags(self, url: str) -> tuple[str, bytes]:
        async with self._session.get(url, headers=self._headers) as response:
            if response.status != 200:
                raise await self._refusal(response, "")
            return response.content_type, await listing.bounded(response.content.iter_any(), self._failures)

    async def warm(self) -> None:
        """Nothing to pay."""

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def _chunks(
        self, path: str, body: bytes, request: ChatRequest
    ) -> AsyncGenerator[tuple[bytes], None]:
        response = await self._post(path, body, request)
        try:
            async for chunk in response.content.iter_any():
                yield (chunk,)
        finally:
            response.close()  # nothing to do when it was read to its end

    async def _post(
        self, route: str, body: bytes, request: ChatRequest | EmbedRequest
    ) -> aiohttp.ClientResponse:
        headers = {**self._headers, **other_key(self._settings, request.key)}
        response = await self._session.post(self._url + route, data=body, headers=headers)
        if response.status == 200:
            return response
        try:
            raise await self._refusal(response, request.target.model)
        finally:
            response.close()

    async def _refusal(self, response: aiohttp.ClientResponse, model: str) -> UpstreamError:
        body = b""
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _MAX_ERROR_BYTES:
                break
        try:
            told = orjson.loads(body)
        except orjson.JSONDecodeError:
            told = body.decode("utf-8", "replace")
        return self._failures.told(told, model, status=response.status, headers=response.headers)


def to_body(request: ChatRequest) -> dict[str, Any]:
    """The body of `POST /api/chat` or `/api/generate`: everything the client asked for, in Ollama's own terms."""
    body: dict[str, Any] = {"model": request.target.model, **_question(request), "stream": True}
    if tools := _offered(request):
        body["tools"] = [_tool(tool) for tool in tools]
    if request.format is not None:
        body["format"] = request.format if isinstance(request.format, str) else dict(request.format)
    if request.think is not None:
        body["think"] = request.think
    if request.options:
        body["options"] = dict(request.options)
    if request.keep_alive_s is not None:
        body["keep_alive"] = request.keep_alive_s
    if request.logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    return body


def to_embed_body(request: EmbedRequest) -> dict[str, Any]:
    """The body of `POST /api/embed`."""
    body: dict[str, Any] = {
        "model": request.target.model,
        "input": list(request.inputs),
        "truncate": request.truncate,
    }
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if request.options:
        body["options"] = dict(request.options)
    if request.keep_alive_s is not None:
        body["keep_alive"] = request.keep_alive_s
    return body


def _read_embeddings(reply: Mapping[str, Any]) -> tuple[list[Any], int]:
    # `embedding`: as Ollama answered before it took several texts, and still does at /api/embeddings.
    found = reply["embeddings"] if "embeddings" in reply else [reply["embedding"]]
    return found, _count(reply.get("prompt_eval_count"))


def _offered(request: ChatRequest) -> Sequence[Tool]:
    """Ollama cannot be told which tools to call; but those that it is not offered it will not call."""
    choice, dropped = request.tool_choice or AUTO, []
    if request.tools:
        dropped += ["tool_choice"] * (choice.mode in {"required", "tool"})
        dropped += ["parallel_tool_calls"] * (request.parallel_tool_calls is False)
    if dropped:
        log.info("options dropped", options=dropped, model=request.target.model)
    if choice.mode == "none":
        return ()
    return [tool for tool in request.tools if choice.mode != "tool" or tool.name == choice.name]


def _question(request: ChatRequest) -> dict[str, Any]:
    gap = request.infill
    if gap is None:
        return {"messages": [_message(message) for message in request.messages]}
    # Without a suffix Ollama would take the prefix for a question, and answer it.
    return {"prompt": gap.prefix, **({"suffix": gap.suffix} if gap.suffix else {"raw": True})}


def _message(message: Message) -> dict[str, Any]:
    sent: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thinking:
        sent["thinking"] = message.thinking
    if message.images:
        sent["images"] = [image.data for image in message.images]
    if message.tool_calls:
        sent["tool_calls"] = [
            {
                **({"id": call.id} if call.id else {}),
                "function": {"name": call.name, "arguments": dict(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_name:
        sent["tool_name"] = message.tool_name
    if message.tool_call_id:
        sent["tool_call_id"] = message.tool_call_id
    return sent


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "description": tool.description}
    function["parameters"] = dict(tool.parameters) or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


class ChatReader:
    """Reads one reply of `/api/chat` or `/api/generate`: bytes in, events out. Sans I/O.

    Args:
        failures: Makes the right error of an `error` line.
        model: For errors.
    """

    def __init__(self, failures: Failures, model: str) -> None:
        self._failures = failures
        self._model = model
        self.moved = False
        """Whether the last chunk was more than a sign of life, for which an empty line would do."""
        self._rest = b""
        self._calls = itertools.count(1)
        self._called = False
        self._held: tuple[TokenLogprob, ...] = ()

    def feed(self, chunk: bytes) -> Iterable[Event]:
        """The events of every line that `chunk` completes.

        Raises:
            UpstreamError: A line is an error, or no line of a chat at all.
        """
        self.moved = not chunk.isspace()
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise self._broken("it sent a line that is too large: ask for less at once", retryable=False)
        for line in lines:
            if line.strip():
                yield from self._line(line)

    def close(self) -> Iterable[Event]:
        """The events of a last line without its line end, as Ollama sends errors of the cloud; half a line is none."""
        rest, self._rest = self._rest.strip(), b""
        if rest.startswith(b"{"):
            try:
                orjson.loads(rest)
            except orjson.JSONDecodeError:
                return []
        return self._line(rest) if rest else []

    def _line(self, line: bytes) -> list[Event]:
        try:
            found = orjson.loads(line)
            return self._events(found)
        except orjson.JSONDecodeError:
            start = line[:80].decode("utf-8", "replace")
            what = "a web page" if start.lstrip().startswith("<") else "something else"
            raise self._broken(
                f"it answered with {what} instead of JSON lines: "
                f"check providers.{self._failures.provider}.base_url",
                retryable=False,
            ) from None
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise self._broken("it sent a line of an unknown shape: ask again") from exc

    def _events(self, line: Mapping[str, Any]) -> list[Event]:
        if line.get("error"):
            raise self._failures.told(line, self._model)
        events: list[Event] = []
        message = line.get("message") or line  # of a chat, or of a generation
        if thinking := message.get("thinking"):
            events.append(ThinkingDelta(_text(thinking)))
        if logprobs := line.get("logprobs"):
            self._held += tuple(map(_logprob, logprobs))
        if content := message.get("content") or message.get("response"):
            # Tokens whose text Ollama's parser still held back came before, on lines without content.
            held, self._held = self._held, ()
            events.append(TextDelta(_text(content), held))
        events += map(self._call, message.get("tool_calls") or ())
        if line.get("done"):
            events.append(self._finish(line))
        return events

    def _call(self, call: Mapping[str, Any]) -> ToolCall:
        self._called = True
        function = call["function"]
        arguments = function.get("arguments") or {}
        if not isinstance(arguments, dict):
            raise TypeError("arguments")
        name = _text(function["name"])
        if not name:
            raise KeyError("name")
        return ToolCall(str(call.get("id") or f"call_{next(self._calls)}"), name, arguments)

    def _finish(self, line: Mapping[str, Any]) -> Finish:
        word = str(line.get("done_reason") or "stop")
        reason = _REASONS.get(word, "stop")
        if reason == "stop" and self._called:
            reason = "tool_calls"
        usage = Usage(_count(line.get("prompt_eval_count")), _count(line.get("eval_count")))
        return Finish(reason, usage, word)

    def _broken(self, message: str, *, retryable: bool = True) -> UpstreamBroken:
        return self._failures.broken(message, self._model, retryable=retryable)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("text")
    return value


def _logprob(found: Mapping[str, Any]) -> TokenLogprob:
    top = tuple(TokenLogprob(each["token"], each["logprob"]) for each in found.get("top_logprobs") or ())
    return TokenLogprob(found["token"], found["logprob"], top)


def _count(value: Any) -> int:
    return value if type(value) is int else 0
