"""Answers of gin, the router of the real server: what clients see beside the handlers' replies.

`spec/ollama-api.md` §0.3: unknown paths and wrong methods are plain text, a trailing slash and a double
slash are redirected, paths are case-sensitive, query strings are ignored.
"""

import html
import posixpath
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Middleware

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Routes: TypeAlias = Mapping[str, Mapping[str, Handler]]
"""Path to method to handler; `{name}` stands for one segment of a path. The order of the methods is the order of
the `Allow` header."""

_SAFE_IN_PATHS: Final = "/$&+,:;=@"  # what Go leaves as it is in a URL's path, beside letters and digits
_STATUS_TEXT: Final = {301: "Moved Permanently", 307: "Temporary Redirect"}


def add_routes(app: web.Application, routes: Routes) -> None:
    """Mount `routes` so that everything else is answered as gin answers it."""
    for path, methods in routes.items():
        for method, handler in methods.items():
            app.router.add_route(method, path, handler)
    app.middlewares.append(_gin(routes))


def _gin(routes: Routes) -> Middleware:
    patterns = [
        (re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), methods)
        for path, methods in routes.items()
    ]

    def methods_of(path: str) -> Mapping[str, Handler] | None:
        return next((methods for pattern, methods in patterns if pattern.fullmatch(path)), None)

    @web.middleware
    async def gin(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.http_exception is None:
            return await handler(request)
        path = request.path
        if (cleaned := _cleaned(path)) != path:
            return _redirect(request, cleaned, 307)
        if path.endswith("/") and methods_of(path.rstrip("/")):
            return _redirect(request, path.rstrip("/"), 301 if request.method == "GET" else 307)
        if methods := methods_of(path):
            return _plain("405 method not allowed", 405, {"Allow": ", ".join(methods)})
        return _plain("404 page not found", 404)

    return gin


def _cleaned(path: str) -> str:
    """As Go's `path.Clean`, but a trailing slash stays."""
    if "//" not in path and "/." not in path:
        return path
    cleaned = posixpath.normpath(re.sub("/+", "/", path))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def _redirect(request: web.Request, path: str, status: int) -> web.Response:
    # The path is decoded: it may hold a line break, which ends a header.
    location = quote(path, safe=_SAFE_IN_PATHS)
    if query := request.rel_url.raw_query_string:
        location += f"?{query}"
    if request.method not in {"GET", "HEAD"}:
        return web.Response(status=status, headers={"Location": location})
    page = f'<a href="{html.escape(location)}">{_STATUS_TEXT[status]}</a>.\n\n'
    return web.Response(
        status=status,
        headers={"Location": location},
        body=page.encode(),
        content_type="text/html",
        charset="utf-8",
    )


def _plain(text: str, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=text.encode(), headers={"Content-Type": "text/plain", **(headers or {})}
    )
