"""What operators and their programs look at: health, providers, metrics."""

import asyncio

from aiohttp import web

from ollama_bridge.server import exposition
from ollama_bridge.server.answering import Handlers, json_response
from ollama_bridge.server.routing import Routes
from ollama_bridge.surfaces import status
from ollama_bridge.surfaces.status import ProviderStatus


class WatchingHandlers(Handlers):
    """The handlers of status, health and metrics. No provider is asked for any of them."""

    def routes(self) -> Routes:
        """Every path with its methods."""
        return {
            "/api/status": {"GET": self.status},
            "/v1/providers/status": {"GET": self.providers},
            "/health": {"HEAD": self.health, "GET": self.health},
            "/v1/health": {"HEAD": self.health, "GET": self.health},
            "/metrics": {"GET": self.metrics},
        }

    async def status(self, _: web.Request) -> web.Response:
        """Nothing of ollama.com's is to be had; and how the providers are."""
        return json_response(status.status_body(await self._all()))

    async def providers(self, _: web.Request) -> web.Response:
        """How the providers are."""
        return json_response(status.providers_body(await self._all()))

    async def health(self, _: web.Request) -> web.Response:
        """200 as long as the bridge answers: to start it anew would not help a provider."""
        return json_response(status.health_body(self._current().status()))

    async def metrics(self, _: web.Request) -> web.Response:
        """Everything Prometheus collects."""
        gateway = self._current()
        totals = await gateway.shared.metrics.everybodys()
        body = await asyncio.to_thread(exposition.text, totals, gateway.status())
        return web.Response(body=body, headers={"Content-Type": exposition.CONTENT_TYPE})

    async def _all(self) -> tuple[ProviderStatus, ...]:
        gateway = self._current()
        return gateway.status(await gateway.shared.keyrings.resting_anywhere())
