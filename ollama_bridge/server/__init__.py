"""The only floor that speaks HTTP to clients."""

from collections.abc import Callable

from aiohttp import web

from ollama_bridge.gateway import Gateway
from ollama_bridge.server.connection import BACKLOG, Site
from ollama_bridge.server.handlers import OllamaHandlers
from ollama_bridge.server.manage import Edit, ManageHandlers
from ollama_bridge.server.middleware import exchange, no_server_header
from ollama_bridge.server.routing import add_routes

__all__ = ["BACKLOG", "Site", "build_app"]


def build_app(current: Callable[[], Gateway], *, edit: Edit, max_body_bytes: int) -> web.Application:
    """The application, to be run with `handler_cancellation` on, and to listen through `Site`.

    Args:
        current: The gateway to ask; called once per request, so that a reload shows at the next one.
        edit: Changes the configuration; when it returns, `current` is the gateway of the new one.
        max_body_bytes: Larger request bodies are refused with 413.
    """
    app = web.Application(middlewares=[exchange], client_max_size=max_body_bytes)
    add_routes(app, {**OllamaHandlers(current).routes(), **ManageHandlers(current, edit).routes()})
    app.on_response_prepare.append(no_server_header)
    return app
