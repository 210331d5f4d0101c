"""Providers that load at their first use.

Importing an SDK costs 0.5 to 1.5 seconds, so it happens in a thread, and only for providers that are
configured: `LazyProvider` is what the gateway holds, `warm()` is what the daemon calls in the background.
"""

import asyncio
import importlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from types import ModuleType
from typing import cast

from ollama_bridge.backends import ProviderSettings, location
from ollama_bridge.chat import ChatRequest, Embeddings, EmbedRequest, Provider, Reply
from ollama_bridge.errors import InvalidRequest, UpstreamRejected
from ollama_bridge.facts import Listed
from ollama_bridge.native import Relay, Relayed
from ollama_bridge.tokens import estimate_tokens


class LazyProvider:
    """A provider whose module is imported, in a thread, at the first use or at `warm()`."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.settings = settings
        self._loading: asyncio.Task[Provider] | None = None
        self._loaded: Provider | None = None

    def chat(self, request: ChatRequest) -> Reply:
        """Load if need be, then pass everything on."""
        request.record.attempts += 1  # whoever asks again comes by; but see `AnthropicBackend`, of pauses
        if self._loaded is not None:
            return self._loaded.chat(request)
        return self._load_and_chat(request)

    async def _load_and_chat(self, request: ChatRequest) -> Reply:
        provider = await self._provider()
        async with aclosing(provider.chat(request)) as events:
            async for burst in events:
                yield burst

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Load if need be, then embed.

        Raises:
            InvalidRequest: This kind of provider has no embeddings.
        """
        request.record.attempts += 1
        embed = getattr(await self._provider(), "embed", None)
        if embed is None:
            raise InvalidRequest(
                f"{self.settings.name} has no embeddings: choose a model of another provider"
            )
        answer: Embeddings = await embed(request)
        return answer

    async def count(self, request: ChatRequest) -> int:
        """Load if need be, then count; a kind of provider that cannot count is spared the question."""
        count = getattr(await self._provider(), "count", None)
        if count is None:
            return estimate_tokens(request.messages, request.tools)
        counted: int = await count(request)
        return counted

    async def models(self) -> Sequence[Listed] | None:
        """Load if need be, then ask which models it has; a kind of provider that cannot be asked has no list."""
        models = getattr(await self._provider(), "models", None)
        if models is None:
            return None
        listed: Sequence[Listed] | None = await models()
        return listed

    @asynccontextmanager
    async def relay(
        self,
        method: str,
        path: str,
        body: bytes | AsyncIterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Relayed]:
        """Load if need be, then relay (`native.Relay`); only for kinds of providers that are an Ollama themselves."""
        provider = cast("Relay", await self._provider())
        async with provider.relay(method, path, body, headers) as relayed:
            yield relayed

    async def warm(self) -> None:
        """Import, construct, and pay first-use costs."""
        await (await self._provider()).warm()

    async def aclose(self) -> None:
        """Close what was opened; nothing if it was never used."""
        if self._loading is None:
            return
        if not self._loading.done():
            self._loading.cancel()
        try:
            provider = await self._loading
        except (asyncio.CancelledError, Exception):  # noqa: BLE001 - what could not be loaded holds nothing open
            return
        await provider.aclose()

    async def _provider(self) -> Provider:
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loading = asyncio.create_task(self._load(), name=f"load {self.settings.kind}")
        # Shielded: the client that asked first may leave; those behind it still want the import.
        return await asyncio.shield(self._loading)

    def _imported(self, module: str) -> ModuleType:
        """For a thread, as is what reads the certificate authorities of its own: 20 ms that would stop the loop."""
        if self.settings.ca_bundle:
            from ollama_bridge.backends.sdk import tls  # noqa: PLC0415 - it imports what only providers need

            tls(self.settings)
        return importlib.import_module(module)

    async def _load(self) -> Provider:
        backend: Callable[[ProviderSettings], Provider]
        kind = self.settings.kind
        module, _, name = location(kind).partition(":")
        try:
            backend = getattr(await asyncio.to_thread(self._imported, module), name)
        except (ImportError, AttributeError) as exc:
            problem = f"its kind '{kind}' cannot be loaded: {exc}"
            raise UpstreamRejected(problem, provider=self.settings.name, model="") from exc
        self._loaded = backend(self.settings)
        return self._loaded
