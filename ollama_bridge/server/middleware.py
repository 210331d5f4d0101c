"""What every HTTP exchange gets, whatever it is about: an id, one log line, and no traceback for the client."""

import math
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import structlog
from aiohttp import web

from ollama_bridge.allowances import NUSD_PER_USD
from ollama_bridge.errors import BridgeError, RateLimited, UpstreamError
from ollama_bridge.record import CallRecord
from ollama_bridge.server.connection import ClientLeft
from ollama_bridge.server.dialects import dialect_of

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

MODEL: Final = web.RequestKey("model", str)
"""Set by handlers that know it: the model as the client named it, for the log."""

STREAM: Final = web.RequestKey("stream", bool)
"""Set by handlers that know it: whether the client asked for a stream, which shows in an error's content type."""

REQUEST_ID: Final = web.RequestKey("request_id", str)
"""Set for every request: its name in the log."""

RECORD: Final = web.RequestKey("record", CallRecord)
"""Set by handlers that ask a model: what came of it, for the log."""

SHOWN: Final = 200
"""Characters of what a client chose, in a line of the log."""

PROBES: Final = frozenset({"/health", "/v1/health", "/metrics"})
"""Asked by programs every few seconds, for ever: as long as all is well, no line of the log at its usual level."""

_PATIENCE_S: Final = 60.0
"""Seconds that a client may wait by itself. Anthropic's SDK sleeps as long as `Retry-After` says, be it until the next
month, and shows nothing meanwhile, unless it is told not to ask again."""

log = structlog.get_logger(__name__)


@web.middleware
async def exchange(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Name the exchange, log it once, and turn what nobody handled into an error."""
    request_id = secrets.token_hex(4)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id)
    request[REQUEST_ID] = request_id
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
        note(exc)
        return error(exc, request)
    except ClientLeft:
        raise
    except Exception as exc:  # noqa: BLE001 - a bug; it is logged
        status = 500
        return error(internal_error(exc), request)
    else:
        return response
    finally:
        named = {"model": request[MODEL][:SHOWN]} if MODEL in request else {}
        tell = log.debug if request.path in PROBES and status == 200 else log.info
        tell(
            "request",
            method=request.method,
            path=request.path[:SHOWN],
            status=status,
            **named,
            **(_said_of(request[RECORD]) if RECORD in request else {}),
            took_ms=round((time.monotonic() - began_s) * 1000, 1),
        )


def _said_of(record: CallRecord) -> dict[str, object]:
    """What the log says of a call beside its status; nothing that goes without saying."""
    said: dict[str, object] = {"client": record.client} if record.key else {}
    if record.outcome == "answered" or record.first_ms is not None:
        said["answered_by"] = record.model or record.asked
    if record.provider:
        said["provider"] = record.provider
    if record.attempts > 1:
        said["attempts"] = record.attempts
    if record.charges:
        usage = record.usage
        said |= {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
        if (cost_nusd := record.cost_nusd) is not None:
            said["cost_usd"] = cost_nusd / NUSD_PER_USD
    if record.cached:
        said["cached"] = record.cached
    if record.outcome not in {"", "answered"}:
        said["outcome"] = record.outcome
    return said


def note(exc: BridgeError) -> None:
    """Log a provider's failure, and a limit of the operator's; a client's mistake is its own business."""
    if isinstance(exc, UpstreamError):
        log.warning("no answer", error=exc.summary)
    elif isinstance(exc, RateLimited):
        log.info("refused", reason=exc.summary)


def internal_error(exc: Exception) -> BridgeError:
    """Log a bug of ours with its traceback, and make what the client is told instead."""
    log.error("unexpected error", exc_info=exc)
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return BridgeError(f"internal error; the log says more under request_id {request_id}")


def error(exc: BridgeError, request: web.Request) -> web.Response:
    """The error with its status, as the clients of the request's surface expect it."""
    dialect = dialect_of(request.path)
    headers = {"Content-Type": dialect.error_type(exc, request.get(STREAM, False))}
    wait_s = exc.retry_after_s
    if wait_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
    if wait_s > _PATIENCE_S if wait_s is not None else isinstance(exc, RateLimited):
        headers["x-should-retry"] = "false"
    return web.Response(status=exc.status, headers=headers, body=dialect.error_body(exc))


async def no_server_header(_: web.Request, response: web.StreamResponse) -> None:
    """The real server sends none, and nobody needs to know our versions."""
    response.headers.popall("Server", None)
