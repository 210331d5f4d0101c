"""Several keys of one provider, used in turn; one that is limited or refused rests while the others answer."""

from contextlib import aclosing
from dataclasses import replace

from ollama_bridge.chat import Answerer, ChatRequest, Counter, Embeddings, EmbedRequest, Reply
from ollama_bridge.errors import UpstreamError
from ollama_bridge.policies.keyring import Keyring


class KeyPool:
    """Answers with the next key; with the one after it, at once, when that one is limited or refused.

    A conversation stays with the key that began it, as long as that does not rest.

    Args:
        inner: The provider; it uses the key that `request.key` names.
        ring: Its keys.

    Raises:
        UpstreamError: Every key rests: that of the one that is free first, with the seconds until then.
    """

    def __init__(self, inner: Answerer, ring: Keyring) -> None:
        self._inner = inner
        self._ring = ring

    async def chat(self, request: ChatRequest) -> Reply:
        """Pass on the reply of the first key with which one begins."""
        model = request.target.model
        for key in self._ring.usable(model, self._ring.turn_of(request)):
            has_begun = False
            asked = replace(request, key=key) if key else request
            try:
                async with aclosing(self._inner.chat(asked)) as reply:
                    async for burst in reply:
                        has_begun = True
                        yield burst
            except UpstreamError as exc:
                if has_begun or not self._ring.set_aside(key, model, exc):
                    raise
            else:
                return
        raise self._ring.exhausted(model)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Hand back the answer of the first key that gives one."""
        model = request.target.model
        for key in self._ring.usable(model, self._ring.turn()):
            try:
                return await self._inner.embed(replace(request, key=key))
            except UpstreamError as exc:
                if not self._ring.set_aside(key, model, exc):
                    raise
        raise self._ring.exhausted(model)


class KeyedCounter:
    """Counts with a key that does not rest. It takes nobody's turn, and limits of counting are not those of answers.

    Args:
        inner: The provider; it uses the key that `request.key` names.
        ring: Its keys.

    Raises:
        UpstreamError: No key counts, or every one rests.
    """

    def __init__(self, inner: Counter, ring: Keyring) -> None:
        self._inner = inner
        self._ring = ring

    async def count(self, request: ChatRequest) -> int:
        """What the provider says to the first key that it answers."""
        model = request.target.model
        failed: UpstreamError | None = None
        for key in self._ring.usable(model, 0):
            try:
                return await self._inner.count(replace(request, key=key))
            except UpstreamError as exc:
                if exc.upstream_status != 429 and not self._ring.set_aside(key, model, exc):
                    raise
                failed = exc
        raise failed or self._ring.exhausted(model)
