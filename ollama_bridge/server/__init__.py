"""The only floor that speaks HTTP to clients."""

from collections.abc import Callable

from aiohttp import web

from ollama_bridge.gateway import Gateway
from ollama_bridge.server.connection import Site
from ollama_bridge.server.embedding import EmbeddingHandlers
from ollama_bridge.server.guard import Door, Origins, allow_origin, digest_of, guard
from ollama_bridge.server.handlers import OllamaHandlers
from ollama_bridge.server.manage import Edit, ManageHandlers
from ollama_bridge.server.messages import MessagesHandlers
from ollama_bridge.server.middleware import exchange, no_server_header
from ollama_bridge.server.openai import OpenAIHandlers
from ollama_bridge.server.responses import ResponsesHandlers
from ollama_bridge.server.routing import Routes, add_routes
from ollama_bridge.server.watching import WatchingHandlers

__all__ = ["Door", "Origins", "Site", "all_routes", "build_app", "digest_of"]


def build_app(
    current: Callable[[], Gateway], *, door: Callable[[], Door], edit: Edit, max_body_bytes: int
) -> web.Application:
    """The application, to be run with `handler_cancellation` on, and to listen through `Site`.

    Args:
        current: The gateway to ask; called once per request, so that a reload shows at the next one.
        door: Who is let in; called once per request as well.
        edit: Changes the configuration; when it returns, `current` is the gateway of the new one.
        max_body_bytes: Larger request bodies are refused with 413.
    """
    app = web.Application(middlewares=[exchange, guard(door)], client_max_size=max_body_bytes)
    add_routes(app, all_routes(current, edit))
    app.on_response_prepare.append(allow_origin)
    app.on_response_prepare.append(no_server_header)
    return app


def all_routes(current: Callable[[], Gateway], edit: Edit) -> Routes:
    """Every route of every surface."""
    return {
        **OllamaHandlers(current).routes(),
        **ManageHandlers(current, edit).routes(),
        **OpenAIHandlers(current).routes(),
        **ResponsesHandlers(current).routes(),
        **MessagesHandlers(current).routes(),
        **EmbeddingHandlers(current).routes(),
        **WatchingHandlers(current).routes(),
    }
