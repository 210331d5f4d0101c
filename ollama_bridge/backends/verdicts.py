"""What can go wrong with a provider, as data: what it means, what to do about it, and whether asking again may help.

`failures` reads these tables; a test walks them and says of each row why it is retryable or not.
"""

import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

import aiohttp
import httpx2

from ollama_bridge.backends.sse import EventTooLarge
from ollama_bridge.errors import (
    ContextOverflow,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamError,
    UpstreamRejected,
    UpstreamUnreachable,
)

_REFUSED: Final = "the provider refused the request"
_OTHER_REQUEST: Final = ": change the request or ask another model"
_OVERLOADED: Final = "the provider is overloaded"
_FAILED: Final = "the provider failed"
_TIMED_OUT: Final = "the provider timed out"
_BUSY: Final = "the provider cannot answer now"
_KEY: Final = "the API key was refused"
_KEY_REMEDY: Final = ": check {key_places}"
_AGAIN: Final = ": ask again"
_LATER: Final = ": ask again in a moment"
_PLACE: Final = ": check the network and providers.{provider}.{place}"
_TRUST: Final = (
    _PLACE + "; if its certificate is by an authority of its own, name that in providers.{provider}.ca_bundle"
)


class Verdict(NamedTuple):
    """What a provider's error amounts to.

    Args:
        leaf: Our error.
        status: For the client.
        what: Happened.
        remedy: What to do about it.
        retryable: Whether the same request may succeed soon.
        means: The HTTP status it stands for, where the answer's own says less.
    """

    leaf: type[UpstreamError]
    status: int
    what: str
    remedy: str
    retryable: bool
    means: int | None = None


NO_CREDIT: Final = Verdict(
    UpstreamBusy,
    429,
    "the account has no credit left",
    ": add some at the provider",
    retryable=False,
    means=402,
)
DAY_IS_OVER: Final = Verdict(
    UpstreamBusy,
    429,
    "the quota for this day is used up",
    ": ask another model, or tomorrow",
    retryable=False,
    means=429,
)
TOO_LONG: Final = Verdict(
    ContextOverflow,
    400,
    "the conversation is too long for this model",
    ": shorten it, or ask a model with a longer context",
    retryable=False,
)

Meaning: TypeAlias = int | Verdict
"""Of an error's `code` or `type`: the HTTP status it would have had, as inside a 200 nothing else tells; or, where
it says more than the HTTP status that it comes with, what to make of it."""

ERROR_TYPES: Final[Mapping[str, Meaning]] = {
    # Anthropic
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": NO_CREDIT,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
    # OpenAI and those who speak like it
    "invalid_api_key": 401,
    "insufficient_quota": NO_CREDIT,  # with 429
    "model_not_found": 404,
    "context_length_exceeded": 400,
    "rate_limit_exceeded": 429,
    "invalid_prompt": 400,
    "server_error": 500,
}

BY_STATUS: Final[Mapping[int, Verdict]] = {
    400: Verdict(UpstreamRejected, 400, _REFUSED, _OTHER_REQUEST, retryable=False),
    401: Verdict(UpstreamRejected, 502, _KEY, _KEY_REMEDY, retryable=False),
    402: NO_CREDIT,
    403: Verdict(UpstreamRejected, 502, _KEY, _KEY_REMEDY, retryable=False),
    404: Verdict(
        UpstreamRejected,
        404,
        "the provider does not know this model",
        ": check `backend_model`",
        retryable=False,
    ),
    408: Verdict(UpstreamUnreachable, 504, _TIMED_OUT, _AGAIN, retryable=True),
    409: Verdict(UpstreamBusy, 503, _BUSY, _LATER, retryable=True),
    413: Verdict(
        ContextOverflow,
        400,
        "the request is too large for the provider",
        ": shorten the conversation",
        retryable=False,
    ),
    422: Verdict(UpstreamRejected, 400, _REFUSED, _OTHER_REQUEST, retryable=False),
    425: Verdict(UpstreamBusy, 503, _BUSY, _LATER, retryable=True),
    429: Verdict(UpstreamBusy, 429, "the provider's rate limit is reached", _LATER, retryable=True),
    498: Verdict(UpstreamBusy, 503, _OVERLOADED, _LATER, retryable=True),  # Groq: flex tier capacity exceeded
    501: Verdict(UpstreamRejected, 502, "the provider cannot do this", _OTHER_REQUEST, retryable=False),
    503: Verdict(UpstreamBusy, 503, _OVERLOADED, _LATER, retryable=True),
    504: Verdict(UpstreamUnreachable, 504, _TIMED_OUT, _AGAIN, retryable=True),
    524: Verdict(UpstreamUnreachable, 504, _TIMED_OUT, _AGAIN, retryable=True),  # Cloudflare
    529: Verdict(UpstreamBusy, 503, _OVERLOADED, _LATER, retryable=True),  # Anthropic
}

ANY_4XX: Final = Verdict(UpstreamRejected, 502, _REFUSED, _OTHER_REQUEST, retryable=False)
ANY_5XX: Final = Verdict(UpstreamBroken, 502, _FAILED, _AGAIN, retryable=True)

SHOULD_RETRY: Final = {"true": True, "false": False}
"""Of the header `x-should-retry`, by which Anthropic and OpenAI tell their SDKs better than any status does."""

BY_EXCEPTION: Final[tuple[tuple[tuple[type[BaseException], ...], Verdict], ...]] = (
    (
        (ssl.SSLEOFError, ssl.SSLZeroReturnError),
        Verdict(UpstreamBroken, 502, "the connection was cut off", _AGAIN, retryable=True),
    ),
    (
        (ssl.SSLError, ssl.CertificateError),
        Verdict(UpstreamUnreachable, 502, "no trusted connection to {base_url}", _TRUST, retryable=False),
    ),
    (
        (aiohttp.ClientConnectorDNSError,),
        Verdict(UpstreamUnreachable, 502, "the host of {base_url} was not found", _PLACE, retryable=False),
    ),
    (
        (ConnectionRefusedError,),
        Verdict(
            UpstreamUnreachable,
            502,
            "connection refused",
            ": is {base_url} right, and running?",
            retryable=True,
        ),
    ),
    (
        (aiohttp.ServerTimeoutError, httpx2.TimeoutException, TimeoutError),
        Verdict(UpstreamUnreachable, 504, "no answer from {base_url} in time", _PLACE, retryable=True),
    ),
    (
        (
            aiohttp.InvalidURL,
            httpx2.InvalidURL,
            httpx2.UnsupportedProtocol,
            httpx2.TooManyRedirects,
            aiohttp.TooManyRedirects,
        ),
        Verdict(
            UpstreamRejected,
            502,
            "{base_url} cannot be used",
            ": check providers.{provider}.{place}",
            retryable=False,
        ),
    ),
    (
        (httpx2.LocalProtocolError,),
        Verdict(
            UpstreamRejected,
            502,
            "the request cannot be sent",
            ": check providers.{provider}",
            retryable=False,
        ),
    ),
    (
        (httpx2.ConnectError, httpx2.ProxyError, aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError),
        Verdict(UpstreamUnreachable, 502, "no connection to {base_url}", _PLACE, retryable=True),
    ),
    (
        (ConnectionError, aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError),
        Verdict(UpstreamBroken, 502, "the connection was cut off", _AGAIN, retryable=True),
    ),
    (
        (EventTooLarge,),
        Verdict(
            UpstreamBroken,
            502,
            "the reply holds an event that is too large",
            ": ask for less at once",
            retryable=False,
        ),
    ),
    ((ValueError,), Verdict(UpstreamBroken, 502, "the reply is malformed JSON", _AGAIN, retryable=True)),
    ((OSError,), Verdict(UpstreamUnreachable, 502, "no connection to {base_url}", _PLACE, retryable=True)),
    (
        (AttributeError, LookupError, TypeError),
        Verdict(UpstreamBroken, 502, "the reply holds a field of an unexpected type", _AGAIN, retryable=True),
    ),
    (
        (httpx2.HTTPError, httpx2.StreamError, httpx2.CookieConflict, aiohttp.ClientError),
        Verdict(UpstreamBroken, 502, "the connection broke", _AGAIN, retryable=True),
    ),
)
"""Exceptions, the most telling first."""
