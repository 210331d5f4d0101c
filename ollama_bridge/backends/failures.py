"""What can go wrong with a provider behind an SDK, and which error of ours each of it is.

Statuses, error types, and exceptions of SDK, transport and parsers are the three tables of `verdicts`. Every message
names the remedy and holds no secret.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import httpx2

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.oddities import Oddities
from ollama_bridge.backends.overflow import overflows
from ollama_bridge.backends.refusals import repair_for
from ollama_bridge.backends.retry_after import retry_after_s
from ollama_bridge.backends.verdicts import (
    ANY_4XX,
    ANY_5XX,
    BY_EXCEPTION,
    BY_STATUS,
    ERROR_TYPES,
    SHOULD_RETRY,
    TOO_LONG,
    Meaning,
    Verdict,
)
from ollama_bridge.chat import ChatRequest, EmbedRequest
from ollama_bridge.errors import UpstreamBroken, UpstreamError, UpstreamRejected

_MAX_MESSAGE: Final = 500
_MIN_KEY: Final = 8

MAPPED_EXCEPTIONS: Final = tuple(kind for kinds, *_ in BY_EXCEPTION for kind in kinds)


@dataclass(frozen=True, slots=True)
class Failures:
    """Turns whatever goes wrong with one provider into our errors.

    Args:
        settings: Of the provider.
        default_url: Where we ask when the settings do not say.
        key_variable: The environment variable that may hold the key, for messages; empty: none does.
        sdk_error: The base class of the SDK's exceptions, or several.
        error_types: What the provider's error codes and types mean.
        oddities: What of its replies is passed over.
        sent: The body of the request that may fail, if one is under way: its parameters may be what is refused.
        place: The key of the provider's entry that says where we ask.
        secrets: What else than its keys must never be shown, as it is now.
    """

    settings: ProviderSettings
    default_url: str
    key_variable: str
    sdk_error: type[Exception] | tuple[type[Exception], ...]
    error_types: Mapping[str, Meaning] = field(default_factory=lambda: ERROR_TYPES)
    oddities: Oddities = field(default_factory=Oddities, compare=False, repr=False)
    sent: Mapping[str, Any] | None = field(default=None, repr=False)
    place: str = "base_url"
    secrets: Callable[[], Iterable[str]] = tuple

    @property
    def provider(self) -> str:
        """The provider's key in the configuration."""
        return self.settings.name

    @property
    def _key_places(self) -> str:
        own = f"providers.{self.provider}.api_key"
        return f"{self.key_variable} or {own}" if self.key_variable else own

    def about(self, sent: Mapping[str, Any]) -> Self:
        """Those of one request, by its body."""
        return replace(self, sent=sent)

    def key(self, request: ChatRequest | EmbedRequest) -> str:
        """The key to use.

        Raises:
            UpstreamRejected: There is none, which needs no network to find out.
        """
        keys = self.settings.api_keys
        for key in (*keys[request.key :], *keys):
            if key:
                return key
        raise UpstreamRejected(
            f"no API key: set {self._key_places}",
            provider=self.provider,
            model=request.target.model,
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
        self,
        body: Any,
        model: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        codes: Sequence[str] = (),
    ) -> UpstreamError:
        """The error that a provider's JSON tells of, in an event, in a 200 or in an error response.

        Args:
            body: The decoded JSON, of any shape that providers use; text, if it was none.
            model: The model as the provider knows it.
            status: The HTTP status it came with; below 400 it says nothing.
            headers: Of the response, for how long to wait.
            codes: What it tells at other places than everybody's, as in `error_types`.
        """
        kinds, message, carried = _read_error(body)
        headers, repair = headers or {}, None
        verdict, means = self._verdict([*codes, *kinds], status, headers)
        if verdict.leaf is UpstreamRejected and verdict.status == 400 and overflows(kinds, message):
            verdict = TOO_LONG
        elif verdict.leaf is UpstreamRejected and verdict.status == 400 and self.sent is not None:
            repair = repair_for(body, message, self.sent)
        shown = f"HTTP {status}" if status >= 400 else next(map(str, kinds), "")
        error = self._error(
            verdict,
            verdict.what + (f" ({self._clean(shown)})" if shown else ""),
            model,
            retry_after_s=retry_after_s({**carried, **headers}, limited=means == 429),
            upstream_status=means,
            said=f"; it says: {self._clean(message)}" if message else "",
        )
        if repair is not None and isinstance(error, UpstreamRejected):
            error.repair = repair
        return error

    def _verdict(
        self, kinds: Sequence[str | int], status: int, headers: Mapping[str, str]
    ) -> tuple[Verdict, int]:
        """What to make of an error of these codes, and the HTTP status it stands for."""
        meanings = [meaning for kind in kinds if (meaning := self._meaning(kind))]
        for meaning in meanings:
            if isinstance(meaning, Verdict):
                return meaning, meaning.means or status
        means = status if status >= 400 else next((one for one in meanings if isinstance(one, int)), 500)
        verdict = BY_STATUS.get(means) or (ANY_4XX if means < 500 else ANY_5XX)
        should_retry = SHOULD_RETRY.get(headers.get("x-should-retry", ""), verdict.retryable)
        return verdict._replace(retryable=should_retry), means

    def _error(self, verdict: Verdict, what: str, model: str, **known: Any) -> UpstreamError:
        words = {
            "base_url": self.where,
            "provider": self.provider,
            "key_places": self._key_places,
            "place": self.place,
        }
        return verdict.leaf(
            what + verdict.remedy.format_map(words),
            provider=self.provider,
            model=model,
            status=verdict.status,
            retryable=verdict.retryable,
            **known,
        )

    def broken(self, what: str, model: str, *, retryable: bool = True) -> UpstreamBroken:
        """The error for a reply that makes no sense; `what` says why."""
        return UpstreamBroken(what, provider=self.provider, model=model, retryable=retryable)

    def odd(self, what: str, word: object, model: str) -> None:
        """Something of a reply is passed over, such as a block of a kind that is not known; the log says so once."""
        self.oddities.tell(what, word, provider=self.provider, model=model)

    def usage(self, found: object, model: str) -> Mapping[str, Any]:
        """What a reply tells of its tokens; nothing, where that is of another type than an object."""
        if isinstance(found, dict):
            return found
        if found:
            self.odd("usage", type(found).__name__, model)
        return {}

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
            for kinds, verdict in BY_EXCEPTION:
                if isinstance(link, kinds):
                    return self._error(verdict, verdict.what.format(base_url=self.where), model)
        return self._by_sdk(exc, model)

    def _clean(self, message: str) -> str:
        for key in (*self.settings.api_keys, *self.secrets()):
            if len(key) >= _MIN_KEY:  # local servers have keys such as `none`
                message = message.replace(key, "***")
        return clean(message)

    @property
    def where(self) -> str:
        """The address that is asked, without a password that it may hold."""
        return _USER_INFO.sub("//", self.settings.base_url or self.default_url)

    def _by_sdk(self, exc: BaseException, model: str) -> UpstreamError:
        body = getattr(exc, "body", None)
        if body is not None:
            return self.told(body, model)
        return self.broken(f"the SDK failed ({type(exc).__name__}): ask again", model)

    def _meaning(self, kind: str | int) -> Meaning | None:
        if isinstance(kind, int) or kind.isdecimal():
            return int(kind) if 400 <= int(kind) <= 599 else None
        return self.error_types.get(kind)


def _read_error(body: Any) -> tuple[list[str | int], str, dict[str, str]]:
    """An error's codes, the most telling first, its message, and the headers it carries, of whatever shape it is."""
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        is_prose = isinstance(body, str) and not body.lstrip().startswith("<")  # not a proxy's HTML page
        return [], body if is_prose else "", {}
    inner = body.get("error")
    error = inner if isinstance(inner, dict) else body
    details = error.get("details")  # of Claude: a limit of spending comes as a 429 that no waiting helps
    own = details.get("error_code") if isinstance(details, dict) else None
    kinds = [own, error.get("code"), error.get("type"), error.get("status")]
    message = error.get("message") or error.get("detail") or (inner if isinstance(inner, str) else "")
    return (
        [kind for kind in kinds if isinstance(kind, str | int) and kind != "error"],
        message if isinstance(message, str) else json.dumps(message),
        _carried(error.get("metadata")),
    )


def _carried(metadata: Any) -> dict[str, str]:
    """The headers that OpenRouter puts into its errors, for they may come in the midst of a stream."""
    headers = metadata.get("headers") if isinstance(metadata, dict) else None
    if not isinstance(headers, dict):
        return {}
    return {name.lower(): value for name, value in headers.items() if isinstance(value, str)}


_USER_INFO: Final = re.compile(r"//[^/@]*@")
_SECRET: Final = re.compile(
    r"\bbearer\s+\S+|\b(?:sk|pk|rk|gsk|xai|hf|csk|r8|pplx|nvapi|tgp|fw)[-_][\w*.-]{8,}|\b(?:aiza|ya29)[\w*.-]{12,}",
    re.IGNORECASE,
)


def clean(message: str) -> str:
    """A provider's words, fit for our messages: one line, of bearable length, without what looks like a key."""
    message = _SECRET.sub("***", " ".join(message.split()))
    return message if len(message) <= _MAX_MESSAGE else message[:_MAX_MESSAGE] + "…"
