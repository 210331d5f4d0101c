"""How providers fail: what they send then, on each of the four wires."""

import json
from collections.abc import Callable
from typing import Any

from upstream import sse
from wires import Said, Wire

KEY = "0f3a9c-do-not-show-me-77b1"
PROMPT = "the-prompt-of-the-client"
WORDS = "one two three four five"
SAID = "one two three f"  # what stands in the first half of the stream

CODES = {  # as each provider names them: Anthropic's type, OpenAI's type, Google's status
    400: ("invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"),
    401: ("authentication_error", "invalid_request_error", "UNAUTHENTICATED"),
    402: ("billing_error", "insufficient_quota", "FAILED_PRECONDITION"),
    403: ("permission_error", "permission_error", "PERMISSION_DENIED"),
    404: ("not_found_error", "invalid_request_error", "NOT_FOUND"),
    413: ("request_too_large", "invalid_request_error", "INVALID_ARGUMENT"),
    429: ("rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED"),
    500: ("api_error", "server_error", "INTERNAL"),
    503: ("overloaded_error", "server_error", "UNAVAILABLE"),
    529: ("overloaded_error", "server_is_overloaded", "UNAVAILABLE"),
}


def error(wire: Wire, status: int, message: str) -> dict[str, Any]:
    """An error as this provider puts it."""
    anthropic, openai, google = CODES[status]
    if wire.name == "anthropic":
        return {"type": "error", "error": {"type": anthropic, "message": message}}
    if wire.name == "google":
        return {"error": {"code": status, "message": message, "status": google}}
    return {"error": {"message": message, "type": openai, "param": None, "code": None}}


def error_event(wire: Wire, status: int = 429) -> bytes:
    """The same inside a stream."""
    if wire.name == "responses":
        code = {429: "rate_limit_exceeded", 529: "server_is_overloaded"}[status]
        return sse({"type": "error", "code": code, "message": "kaboom", "param": None})
    body = error(wire, status, "kaboom")
    return sse(body if wire.name == "anthropic" else json.dumps(body))


def parts(wire: Wire) -> tuple[bytes, bytes, bytes]:
    """A streamed reply: what comes before the first word, half of the words, the rest."""
    events = [block + b"\n\n" for block in wire.stream(Said(WORDS)).split(b"\n\n") if block]
    first = next(at for at, event in enumerate(events) if b"one t" in event)
    third = next(at for at, event in enumerate(events) if b"ree f" in event) + 1
    return b"".join(events[:first]), b"".join(events[first:third]), b"".join(events[third:])


def refusal(status: int, **headers: str) -> Callable[[Wire], dict[str, Any]]:
    def script(wire: Wire) -> dict[str, Any]:
        # Providers quote the key they refuse, and some the prompt.
        message = f"No {PROMPT if status == 400 else ''} with {KEY}."
        body = json.dumps(error(wire, status, message)).encode()
        return {"body": body, "status": status, "headers": {"content-type": "application/json", **headers}}

    return script


def page(_: Wire) -> dict[str, Any]:
    return {"body": b"<html><h1>Welcome</h1></html>", "headers": {"content-type": "text/html"}}


def json_error(wire: Wire) -> dict[str, Any]:
    body = json.dumps(error(wire, 429, f"busy {KEY}")).encode()
    return {"body": body, "headers": {"content-type": "application/json"}}


def stream(
    *which: int | bytes, then: str = "end", half_more: bool = False
) -> Callable[[Wire], dict[str, Any]]:
    """These parts of the reply, these bytes between them, perhaps half of what would follow, and the end."""

    def script(wire: Wire) -> dict[str, Any]:
        pieces = [parts(wire)[one] if isinstance(one, int) else one for one in which]
        body = b"".join(pieces) + (parts(wire)[2][:25] if half_more else b"")
        return {"body": body, "then": then}

    return script
