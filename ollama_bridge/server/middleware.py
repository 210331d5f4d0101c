"""What every HTTP exchange gets, whatever it is about: an id, one log line, and no traceback for the client."""

import math
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import structlog
from aiohttp import web

from ollama_bridge.errors import BridgeError, UpstreamError
from ollama_bridge.surfaces import ollama

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

MODEL: Final = web.RequestKey("model", str)
"""Set by handlers that know it: the model as the client named it, for the log."""

log = structlog.get_logger(__name__)


@web.middleware
async def exchange(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the exchange, log it once, and turn what nobody handled into `{"error"}`."""
    request_id = uuid.uuid4().hex[:8]
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    began_s = time.monotonic()
    status: int | str = "left"  # the client, before there was an answer
    try:
        response = await handler(request)
        status = response.status
    except web.HTTPException as exc:
        status = exc.status
        raise
    except BridgeError as exc:
        status = exc.status
        if isinstance(exc, UpstreamError):
            log.warning("no answer", error=str(exc))
        return error(exc)
    except ConnectionResetError:
        raise
    except Exception:
        status = 500
        log.exception("unexpected error")
        return error(BridgeError(f"internal error; the log says more under request_id {request_id}"))
    else:
        return response
    finally:
        named = {"model": request[MODEL]} if MODEL in request else {}
        log.info(
            "request",
            method=request.method,
            path=request.path,
            status=status,
            **named,
            took_ms=round((time.monotonic() - began_s) * 1000, 1),
        )


def error(exc: BridgeError) -> web.Response:
    """The native wire's error: `{"error": "…"}` with its status."""
    headers = {"Content-Type": ollama.JSON}
    if exc.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(exc.retry_after_s)))
    return web.Response(status=exc.status, headers=headers, body=ollama.error_body(exc))


async def no_server_header(_: web.Request, response: web.StreamResponse) -> None:
    """The real server sends none, and nobody needs to know our versions."""
    response.headers.popall("Server", None)
