"""What all providers of embeddings have in common: bearable parts, texts that are too long, vectors that are none."""

import asyncio
import base64
import math
import sys
from array import array
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import orjson

from ollama_bridge.backends.failures import Failures, clean
from ollama_bridge.chat import Embeddings, EmbedRequest
from ollama_bridge.errors import InvalidRequest, UpstreamRejected
from ollama_bridge.events import Usage
from ollama_bridge.tokens import measure

Vector: TypeAlias = "array[float]"
"""`d` of a provider that writes decimals, `f` of one that sends the bytes."""

MAX_REPLY_BYTES: Final = 1 << 28
"""Of one call; 2,048 of 3,072 numbers are 80 MB as decimals."""

_AT_ONCE: Final = 4
_LARGE_BYTES: Final = 1 << 18
_BYTES_PER_TOKEN: Final = (3, 1)
"""To how many bytes for each token of the model's context a text is cut that was refused: first to what fits in
nearly every language, then to what certainly does."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may hold.

    Args:
        inputs: Texts.
        text_bytes: Bytes of all texts together; a single one may have more.
    """

    inputs: int
    text_bytes: int = 1 << 20


async def embed_in_parts(
    request: EmbedRequest,
    limits: Limits,
    ask: Callable[[EmbedRequest], Awaitable[Embeddings]],
    *,
    at_once: int = 0,
) -> Embeddings:
    """Ask for as many texts at once as the provider takes, a few calls at the same time.

    Args:
        request: With any number of inputs.
        limits: Of one call.
        ask: Makes one call; the vectors are in the order of its inputs.
        at_once: Most calls at the same time; 0: as many as is good.

    Raises:
        UpstreamError, InvalidRequest: Of the first call that fails; the others are then given up.
    """
    parts = [replace(request, inputs=part) for part in _parts(request.inputs, limits)]
    if len(parts) == 1:
        return await _fitted(parts[0], ask)
    slots = asyncio.Semaphore(min(at_once or _AT_ONCE, _AT_ONCE))

    async def answered(number: int) -> Embeddings:
        async with slots:
            begun.append(number)
            return await _fitted(parts[number], ask)

    begun: list[int] = []
    tasks: list[asyncio.Task[Embeddings]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(answered(number)) for number in range(len(parts))]
    except BaseExceptionGroup as failed:
        request.record.told = _billed((parts[number], tasks[number]) for number in begun)
        raise failed.exceptions[0] from None
    answers = [task.result() for task in tasks]
    return Embeddings(
        [vector for answer in answers for vector in answer.vectors],
        sum(answer.input_tokens for answer in answers),
    )


def _billed(begun: Iterable[tuple[EmbedRequest, asyncio.Task[Embeddings]]]) -> Usage | None:
    """What the parts that did not fail may be billed, though nobody gets them; None: there are none."""
    tokens = 0
    for part, task in begun:
        if task.cancelled():
            tokens += measure(part).likely
        elif not task.exception():
            tokens += task.result().input_tokens or measure(part).likely
    return Usage(tokens) if tokens else None


def _parts(inputs: Sequence[str], limits: Limits) -> Iterator[tuple[str, ...]]:
    part: list[str] = []
    size = 0
    for text in inputs:
        length = len(text.encode())
        if part and (len(part) == limits.inputs or size + length > limits.text_bytes):
            yield tuple(part)
            part, size = [], 0
        part.append(text)
        size += length
    yield tuple(part)


async def _fitted(request: EmbedRequest, ask: Callable[[EmbedRequest], Awaitable[Embeddings]]) -> Embeddings:
    """Ask; when that is refused, and a text may be too long for the model, ask again with less of it.

    Only a real Ollama cuts by itself. How long a text is in tokens, the provider alone knows.
    """
    longest = max(len(text.encode()) for text in request.inputs)
    context = request.target.context_length
    try:
        return await ask(request)
    except UpstreamRejected as refused:
        if refused.status != 400 or longest <= context:
            raise
        if not request.truncate:
            if longest <= context * _BYTES_PER_TOKEN[0]:
                raise
            raise InvalidRequest(f"the input length exceeds the context length ({refused})") from refused
        last = refused
    for most in (context * factor for factor in _BYTES_PER_TOKEN):
        if longest > most:
            try:
                return await ask(replace(request, inputs=tuple(_cut(text, most) for text in request.inputs)))
            except UpstreamRejected as refused:
                last = refused
    raise last


def _cut(text: str, most_bytes: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= most_bytes else encoded[:most_bytes].decode("utf-8", "ignore")


def never_empty(inputs: Sequence[str]) -> list[str]:
    """The texts, a blank in place of an empty one: providers refuse what a real Ollama embeds."""
    return [text or " " for text in inputs]


async def whole_reply(
    chunks: AsyncIterable[bytes],
    failures: Failures,
    model: str,
    *,
    most_bytes: int = MAX_REPLY_BYTES,
    remedy: str = ": ask for fewer embeddings at once",
) -> bytes:
    """The body of a reply.

    Raises:
        UpstreamBroken: It does not end.
    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > most_bytes:
            raise failures.broken(f"sent a reply that is too large{remedy}", model, retryable=False)
    return bytes(body)


async def read_reply(
    read: Callable[[Mapping[str, Any]], tuple[Sequence[Any], int]],
    body: bytes,
    content_type: str,
    request: EmbedRequest,
    failures: Failures,
) -> Embeddings:
    """What the reply to one call amounts to; a large one is read in a thread, for the loop may not stand still.

    Args:
        read: Takes the embeddings as they were sent, in the order of the inputs, and the number of tokens out of
            the reply's JSON.
        body: All of the reply.
        content_type: For the error, if it is no JSON.
        request: What was asked for.
        failures: Makes our errors.

    Raises:
        UpstreamError: The reply is an error, or makes no sense.
        AttributeError, LookupError, TypeError: It has not the shape that `read` knows (`Failures.mapped`).
    """
    model = request.target.model

    def embeddings() -> Embeddings:
        sent, tokens = read(_object(body, content_type, failures, model))
        return Embeddings(_vectors(sent, len(request.inputs), failures, model), tokens)

    return embeddings() if len(body) < _LARGE_BYTES else await asyncio.to_thread(embeddings)


def _object(body: bytes, content_type: str, failures: Failures, model: str) -> Mapping[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        shown = clean(content_type.partition(";")[0]) or "something else"
        raise failures.broken(
            f"answered with {shown} instead of embeddings: check providers.{failures.provider}.base_url",
            model,
            retryable="json" in content_type,  # half of a reply
        ) from None
    if isinstance(found, dict) and not found.get("error") and found.get("object") != "error":
        return found
    raise failures.told(found, model)


def _vectors(sent: Sequence[Any], wanted: int, failures: Failures, model: str) -> list[Vector]:
    """The embeddings as numbers: each was a list of them, or the base64 of little-endian float32s."""
    if len(sent) != wanted:
        raise failures.broken(f"sent {len(sent)} embeddings for {wanted} texts: ask again", model)
    try:
        found = [_vector(one) for one in sent]
    except (TypeError, ValueError, OverflowError):
        raise failures.broken("sent an embedding that is no list of numbers: ask again", model) from None
    if len({len(one) for one in found}) != 1 or not found[0]:
        raise failures.broken("sent embeddings that are empty, or not of one length: ask again", model)
    if not all(map(_is_finite, found)):
        raise failures.broken("sent an embedding that contains NaN or Inf values: ask again", model)
    return found


def _vector(sent: Any) -> Vector:
    if isinstance(sent, list):
        return array("d", sent)
    made = array("f")
    made.frombytes(base64.b64decode(sent, validate=True))
    if sys.byteorder == "big":
        made.byteswap()
    return made


def _is_finite(vector: Vector) -> bool:
    # The sum of finite numbers can be infinite, and then they are looked at one by one.
    return math.isfinite(sum(vector)) or all(map(math.isfinite, vector))
