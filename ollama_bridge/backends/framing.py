"""What a 200 holds: an event stream, JSON in one piece, or no answer at all. Its first bytes tell.

Everybody is asked for an event stream. Some send all at once all the same, as gateways do whose model cannot
stream, and some name their stream text/plain: a content type is only believed of what looks like nothing known.
"""

import itertools
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, nullcontext
from typing import Any, Final, TypeAlias

import orjson

from ollama_bridge.backends.failures import Failures, clean
from ollama_bridge.backends.sse import MAX_EVENT_BYTES, EventTooLarge, SseReader
from ollama_bridge.errors import UpstreamBroken

Whole: TypeAlias = Callable[[Any], Iterable[Any]]
"""Puts an answer in one piece as the events of the stream that it would have been; none, where it is no answer."""

DONE: Final[Mapping[str, Any]] = {"done": True}
"""What `[DONE]` reads as, for who wants to know of it."""

_EVENT_STREAM: Final = "text/event-stream"
_BLANK: Final = b" \t\r\n\xef\xbb\xbf"  # and the byte order mark
_FIELD: Final = re.compile(rb"(?:data|event|id|retry)?:")
_LONGEST_FIELD: Final = len(b"event:")
_END: Final = b"[DONE]"
_NO_HEADERS: Final[Mapping[str, str]] = {}
_MOST_OF_A_PAGE: Final = 65536


async def payloads(
    chunks: AsyncIterator[bytes],
    content_type: str,
    failures: Failures,
    model: str,
    *,
    whole: Whole,
    headers: Mapping[str, str] = _NO_HEADERS,
    done: Sequence[Any] = (),
) -> AsyncGenerator[Iterable[Any], None]:
    """The JSON of a reply, one iterable for each read that ends an event.

    Args:
        chunks: The body as it arrives; closed at the end, if it can be.
        content_type: As the provider named it; empty: it did not.
        failures: Makes our errors.
        model: Who is answering, for errors.
        whole: Reads an answer in one piece.
        headers: Of the response, for how long to wait after an error.
        done: What to yield for `[DONE]`.

    Raises:
        UpstreamError: The provider answered with an error, or with something else than an answer.
        ValueError: The JSON of an event is malformed (`Failures.mapped` makes it `UpstreamBroken`).
    """
    kind = content_type.partition(";")[0].strip().lower()
    async with aclosing(chunks) if isinstance(chunks, AsyncGenerator) else nullcontext():
        head = await _head(chunks, may_be_unnamed=kind != _EVENT_STREAM)
        opening = head.lstrip(_BLANK)
        if opening[:1] in (b"{", b"["):
            body = await _rest(head, chunks)
            yield whole_events(body, failures, model, whole=whole, headers=headers, kind=kind)
        elif opening[:1] == b"<" or (kind not in {"", _EVENT_STREAM} and not _FIELD.match(opening)):
            is_page = opening[:1] == b"<" and "html" not in kind
            raise _no_answer("a web page" if is_page else kind, failures, model)
        else:
            reader = SseReader()
            if found := reader.feed(opening):
                yield _decoded(found, done)
            async for chunk in chunks:
                if found := reader.feed(chunk):
                    yield _decoded(found, done)
            try:
                last = list(_decoded(reader.close(), done))
            except orjson.JSONDecodeError:
                return  # half an event: the stream was cut off, which the missing Finish tells
            yield last


def whole_events(
    body: bytes,
    failures: Failures,
    model: str,
    *,
    whole: Whole,
    headers: Mapping[str, str] = _NO_HEADERS,
    kind: str = "application/json",
) -> list[Any]:
    """The events of an answer in one piece, or of several in a list, as Gemini sends them where no stream is asked for.

    Raises:
        UpstreamError: It is an error, or no answer.
        ValueError: It is half of one.
    """
    found = orjson.loads(body)
    items = found if isinstance(found, list) else [found]
    if len(items) == 1 and _is_error(items[0]):
        raise failures.told(items[0], model, headers=headers)
    events = [event for item in items for event in ([item] if _is_error(item) else whole(item))]
    if not events:
        raise _no_answer(kind, failures, model)
    return events


def _is_error(found: Any) -> bool:
    return isinstance(found, dict) and bool(found.get("error") or found.get("object") == "error")


async def _head(chunks: AsyncIterator[bytes], *, may_be_unnamed: bool) -> bytes:
    """As much of the body as tells what it is, and what came with that."""
    head, enough = b"", _LONGEST_FIELD if may_be_unnamed else 1
    async for chunk in chunks:
        head += chunk
        opening = head.lstrip(_BLANK)
        if len(opening) >= enough or len(head) > _MOST_OF_A_PAGE:
            break
    return head


async def _rest(head: bytes, chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray(head)
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_EVENT_BYTES:
            raise EventTooLarge(f"a reply of more than {MAX_EVENT_BYTES} bytes")
    return bytes(body).strip(_BLANK)


def _decoded(found: list[bytes], done: Sequence[Any]) -> Iterable[Any]:
    # One by one, as they are read: what stands before a malformed one was said.
    if _END not in found:
        return map(orjson.loads, found)
    return itertools.chain(map(orjson.loads, (payload for payload in found if payload != _END)), done)


def _no_answer(what: str, failures: Failures, model: str) -> UpstreamBroken:
    return failures.broken(
        f"answered with {clean(what)} instead of an event stream: check providers.{failures.provider}.base_url",
        model,
        retryable=False,
    )
