"""What can go wrong with a provider behind an SDK, and which error of ours each of it is.

Statuses, error types inside a 200, and exceptions of SDK, transport and parsers are three tables; the
classes of `errors.py` say what may be tried again. Every message names the remedy and holds no secret.
"""

import email.utils
import json
import math
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import httpx2

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.overflow import overflows
from ollama_bridge.backends.sse import EventTooLarge
from ollama_bridge.errors import (
    ContextOverflow,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamError,
    UpstreamRejected,
    UpstreamUnreachable,
)

_MAX_MESSAGE: Final = 500
_MIN_KEY: Final = 8

ERROR_TYPES: Final[Mapping[str, int]] = {
    # Anthropic
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
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
    "insufficient_quota": 429,
    "model_not_found": 404,
    "context_length_exceeded": 400,
    "rate_limit_exceeded": 429,
    "invalid_prompt": 400,
    "server_error": 500,
}
"""An error's `code` or `type` to the HTTP status it would have had: inside a 200 nothing else tells."""

_REFUSED: Final = "the provider refused the request"
_OTHER_REQUEST: Final = ": change the request or ask another model"
_OVERLOADED: Final = "the provider is overloaded"
_FAILED: Final = "the provider failed"
_TIMED_OUT: Final = "the provider timed out"
_TOO_LONG: Final = "the conversation is too long for this model"
_LONGER: Final = ": shorten it, or ask a model with a longer context"
_KEY: Final = "the API key was refused"
_KEY_REMEDY: Final = ": check {key_variable} or providers.{provider}.api_key"
_AGAIN: Final = ": ask again"
_LATER: Final = ": ask again in a moment"
_PLACE: Final = ": check the network and providers.{provider}.base_url"

_BY_STATUS: Final[Mapping[int, tuple[type[UpstreamError], int, str, str]]] = {
    400: (UpstreamRejected, 400, _REFUSED, _OTHER_REQUEST),
    401: (UpstreamRejected, 502, _KEY, _KEY_REMEDY),
    402: (UpstreamBusy, 429, "the account has no credit left", ": add some at the provider"),
    403: (UpstreamRejected, 502, _KEY, _KEY_REMEDY),
    404: (UpstreamRejected, 404, "the provider does not know this model", ": check `backend_model`"),
    408: (UpstreamUnreachable, 504, _TIMED_OUT, _AGAIN),
    409: (UpstreamBusy, 503, "the provider cannot answer now", _LATER),
    413: (ContextOverflow, 400, "the request is too large for the provider", ": shorten the conversation"),
    422: (UpstreamRejected, 400, _REFUSED, _OTHER_REQUEST),
    425: (UpstreamBusy, 503, "the provider cannot answer now", _LATER),
    429: (UpstreamBusy, 429, "the provider's rate limit is reached", _LATER),
    498: (UpstreamBusy, 503, _OVERLOADED, _LATER),  # Groq: flex tier capacity exceeded
    503: (UpstreamBusy, 503, _OVERLOADED, _LATER),
    504: (UpstreamUnreachable, 504, _TIMED_OUT, _AGAIN),
    524: (UpstreamUnreachable, 504, _TIMED_OUT, _AGAIN),  # Cloudflare
    529: (UpstreamBusy, 503, _OVERLOADED, _LATER),  # Anthropic
}
"""HTTP status to: the error, the status for the client, what happened, what to do about it."""

_ANY_4XX: Final = (UpstreamRejected, 502, _REFUSED, _OTHER_REQUEST)
_ANY_5XX: Final = (UpstreamBroken, 502, _FAILED, _AGAIN)

_BY_EXCEPTION: Final[tuple[tuple[tuple[type[BaseException], ...], type[UpstreamError], int, str], ...]] = (
    (
        (ssl.SSLError, ssl.CertificateError),
        UpstreamUnreachable,
        502,
        "no trusted connection to {base_url}" + _PLACE,
    ),
    (
        (aiohttp.ClientConnectorDNSError,),
        UpstreamUnreachable,
        502,
        "the host of {base_url} was not found" + _PLACE,
    ),
    (
        (ConnectionRefusedError,),
        UpstreamUnreachable,
        502,
        "connection refused: is {base_url} right, and running?",
    ),
    (
        (aiohttp.ServerTimeoutError, httpx2.TimeoutException, TimeoutError),
        UpstreamUnreachable,
        504,
        "no answer from {base_url} in time" + _PLACE,
    ),
    (
        (
            aiohttp.InvalidURL,
            httpx2.InvalidURL,
            httpx2.UnsupportedProtocol,
            httpx2.TooManyRedirects,
            aiohttp.TooManyRedirects,
        ),
        UpstreamRejected,
        502,
        "{base_url} cannot be used: check providers.{provider}.base_url",
    ),
    (
        (httpx2.LocalProtocolError,),
        UpstreamRejected,
        502,
        "the request cannot be sent: check providers.{provider}",
    ),
    (
        (httpx2.ConnectError, httpx2.ProxyError, aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError),
        UpstreamUnreachable,
        502,
        "no connection to {base_url}" + _PLACE,
    ),
    (
        (ConnectionError, aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError),
        UpstreamBroken,
        502,
        "the connection was cut off" + _AGAIN,
    ),
    ((EventTooLarge,), UpstreamBroken, 502, "the reply holds an event that is too large" + _AGAIN),
    ((ValueError,), UpstreamBroken, 502, "the reply is malformed JSON" + _AGAIN),
    ((OSError,), UpstreamUnreachable, 502, "no connection to {base_url}" + _PLACE),
    (
        (AttributeError, LookupError, TypeError),
        UpstreamBroken,
        502,
        "the reply holds a field of an unexpected type" + _AGAIN,
    ),
    (
        (httpx2.HTTPError, httpx2.StreamError, httpx2.CookieConflict, aiohttp.ClientError),
        UpstreamBroken,
        502,
        "the connection broke" + _AGAIN,
    ),
)
"""Exceptions, the most telling first, to: the error, the status for the client, what happened."""

MAPPED_EXCEPTIONS: Final = tuple(kind for kinds, *_ in _BY_EXCEPTION for kind in kinds)


@dataclass(frozen=True, slots=True)
class Failures:
    """Turns whatever goes wrong with one provider into our errors.

    Args:
        settings: Of the provider.
        default_url: Where we ask when the settings do not say.
        key_variable: The environment variable that holds the key, for messages.
        sdk_error: The base class of the SDK's exceptions, or several.
        error_types: The provider's error codes and types to the HTTP status each stands for.
    """

    settings: ProviderSettings
    default_url: str
    key_variable: str
    sdk_error: type[Exception] | tuple[type[Exception], ...]
    error_types: Mapping[str, int] = field(default_factory=lambda: ERROR_TYPES)

    @property
    def provider(self) -> str:
        """The provider's key in the configuration."""
        return self.settings.name

    def key(self, model: str) -> str:
        """The key to use.

        Raises:
            UpstreamRejected: There is none, which needs no network to find out.
        """
        for key in self.settings.api_keys:
            if key:
                return key
        raise UpstreamRejected(
            f"no API key: set {self.key_variable} or providers.{self.provider}.api_key",
            provider=self.provider,
            model=model,
        )

    @contextmanager
    def mapped(self, model: str) -> Iterator[None]:
        """Within it, whatever the SDK, the transport or a reader raises becomes an `UpstreamError`."""
        try:
            yield
        except self.sdk_error as exc:
            # Its text is the provider's, unmasked: it must not follow ours into a log.
            raise self.raised(exc, model) from None
        except MAPPED_EXCEPTIONS as exc:
            raise self.raised(exc, model) from exc

    def told(
        self, body: Any, model: str, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> UpstreamError:
        """The error that a provider's JSON tells of, in an event, in a 200 or in an error response.

        Args:
            body: The decoded JSON, of any shape that providers use; text, if it was none.
            model: The model as the provider knows it.
            status: The HTTP status it came with; below 400 it says nothing.
            headers: Of the response, for how long to wait.
        """
        kinds, message = _read_error(body)
        if status >= 400:
            means, shown = status, f"HTTP {status}"
        else:
            means = next((code for kind in kinds if (code := self._status_of(kind))), 500)
            shown = next((str(kind) for kind in kinds), "")
        leaf, client_status, what, remedy = _BY_STATUS.get(means) or (_ANY_4XX if means < 500 else _ANY_5XX)
        if leaf is UpstreamRejected and client_status == 400 and overflows(kinds, message):
            leaf, what, remedy = ContextOverflow, _TOO_LONG, _LONGER
        remedy = remedy.format(key_variable=self.key_variable, provider=self.provider)
        return leaf(
            what + (f" ({self._clean(shown)})" if shown else "") + remedy,
            provider=self.provider,
            model=model,
            status=client_status,
            retry_after_s=retry_after_s(headers or {}),
            said=f"; it says: {self._clean(message)}" if message else "",
        )

    def broken(self, what: str, model: str) -> UpstreamBroken:
        """The error for a reply that makes no sense; `what` says why."""
        return UpstreamBroken(what, provider=self.provider, model=model)

    def raised(self, exc: BaseException, model: str) -> UpstreamError:
        """The error for an exception of the SDK, the transport, a JSON parser or our own reader."""
        response = getattr(exc, "response", None)
        if isinstance(response, httpx2.Response):
            body = getattr(exc, "body", None)
            return self.told(body, model, status=response.status_code, headers=response.headers)
        chain = [exc]
        while (cause := chain[-1].__cause__) is not None and cause not in chain:
            chain.append(cause)
        for link in reversed(chain):  # the root knows best: openai reports a refused connection as a timeout
            for kinds, leaf, status, words in _BY_EXCEPTION:
                if isinstance(link, kinds):
                    what = words.format(base_url=self._where(), provider=self.provider)
                    return leaf(what, provider=self.provider, model=model, status=status)
        return self._by_sdk(exc, model)

    def _clean(self, message: str) -> str:
        for key in self.settings.api_keys:
            if len(key) >= _MIN_KEY:  # local servers have keys such as `none`
                message = message.replace(key, "***")
        return clean(message)

    def _where(self) -> str:
        return _USER_INFO.sub("//", self.settings.base_url or self.default_url)

    def _by_sdk(self, exc: BaseException, model: str) -> UpstreamError:
        body = getattr(exc, "body", None)
        if body is not None:
            return self.told(body, model)
        return self.broken(f"the SDK failed ({type(exc).__name__}): ask again", model)

    def _status_of(self, kind: str | int) -> int | None:
        if isinstance(kind, int) or kind.isdecimal():
            return int(kind) if 400 <= int(kind) <= 599 else None
        return self.error_types.get(kind)


def _read_error(body: Any) -> tuple[list[str | int], str]:
    """An error's codes, the most telling first, and its message, of whatever shape the JSON has."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        is_prose = isinstance(body, str) and not body.lstrip().startswith("<")  # not a proxy's HTML page
        return [], body if is_prose else ""
    inner = body.get("error")
    error = inner if isinstance(inner, dict) else body
    kinds = [error.get("code"), error.get("type"), error.get("status")]
    message = error.get("message") or error.get("detail") or (inner if isinstance(inner, str) else "")
    return (
        [kind for kind in kinds if isinstance(kind, str | int) and kind != "error"],
        message if isinstance(message, str) else json.dumps(message),
    )


_USER_INFO: Final = re.compile(r"//[^/@]*@")
_SECRET: Final = re.compile(
    r"\bbearer\s+\S+|\b(?:sk|pk|rk|gsk|xai|hf|csk|r8|pplx|nvapi|tgp|fw)[-_][\w*.-]{8,}|\b(?:aiza|ya29)[\w*.-]{12,}",
    re.IGNORECASE,
)


def clean(message: str) -> str:
    """A provider's words, fit for our messages: one line, of bearable length, without what looks like a key."""
    message = _SECRET.sub("***", " ".join(message.split()))
    return message if len(message) <= _MAX_MESSAGE else message[:_MAX_MESSAGE] + "…"


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: `retry-after-ms`, or `retry-after` as seconds or HTTP date (RFC 9110 §10.2.3)."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            date = email.utils.parsedate_tz(value)
            seconds = math.nan if date is None else email.utils.mktime_tz(date) - time.time()
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    return None
