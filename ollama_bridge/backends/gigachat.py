"""GigaChat's own sign-in: a token for half an hour, for credentials that are shown to nobody but its token server.

https://developers.sber.ru/docs/ru/gigachat/api/reference/rest/post-token
"""

import asyncio
import base64
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final
from urllib.parse import urlencode

import httpx2
import openai
import orjson

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.failures import Failures, clean
from ollama_bridge.backends.retry_after import retry_after_s, time_of
from ollama_bridge.backends.sdk import USER_AGENT
from ollama_bridge.backends.token_cache import Token, Tokens
from ollama_bridge.errors import UpstreamBusy, UpstreamError, UpstreamRejected

TOKEN_URL: Final = "https://ngw.devices.sberbank.ru:9443/api/v2/oauth"  # noqa: S105 - an address
SCOPE: Final = "GIGACHAT_API_PERS"
"""Of private persons; firms have `GIGACHAT_API_B2B` or `GIGACHAT_API_CORP`."""

GOOD_FOR_S: Final = 1800.0
"""As documented: where the answer says nothing, or what no clock can be right about."""
_LEAST_S: Final = 30.0
_MOST_S: Final = 86_400.0
_MILLISECONDS: Final = 1e11
"""Times from here on are milliseconds, as the server sends them; its documentation shows seconds."""

_WITHIN_S: Final = 30.0
_MAX_BYTES: Final = 1 << 16
_REFUSED: Final = frozenset({400, 401, 403})


class OAuth:
    """Gets tokens, and keeps each as long as it is good.

    Args:
        settings: Of the provider; its keys are the credentials: base64 of `id:secret`, or that itself.
        key_variable: The environment variable that may hold them, for messages.
        http: To ask the token server with.
        clock_s: Monotonic seconds.
        wall_s: Seconds since the epoch.
    """

    header: ClassVar[str] = "authorization"
    needs_key: ClassVar[bool] = True

    def __init__(
        self,
        settings: ProviderSettings,
        key_variable: str,
        http: httpx2.AsyncClient,
        *,
        clock_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._key_variable = key_variable
        self._http = http
        self._wall_s = wall_s
        self._url = settings.token_url or TOKEN_URL
        self._body = urlencode({"scope": settings.scope or SCOPE}).encode()
        self._tokens = Tokens(settings.name, self._fetch, clock_s=clock_s, wall_s=wall_s)
        asked = replace(settings, base_url=self._url)
        self._failures = Failures(asked, self._url, key_variable, openai.OpenAIError, place="token_url")

    async def headers(self, key: int) -> Mapping[str, str]:
        """See `SignIn`."""
        return {"Authorization": f"Bearer {await self._tokens.get(self._number(key))}"}

    def refused(self, key: int, headers: Mapping[str, str]) -> bool:
        """Forget the token."""
        self._tokens.forget(self._number(key), headers["Authorization"].removeprefix("Bearer "))
        return True

    def secrets(self) -> Iterable[str]:
        """The tokens."""
        return self._tokens.values()

    async def aclose(self) -> None:
        """Fetch no more."""
        await self._tokens.aclose()

    def _number(self, key: int) -> int:
        return key if key < len(self._settings.api_keys) else 0

    async def _fetch(self, key: int) -> Token:
        said = self._settings.api_keys[key]
        basic = base64.b64encode(said.encode()).decode() if ":" in said else said
        headers = {
            "Authorization": f"Basic {basic}",
            "RqUID": str(uuid.uuid4()),
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        }
        with self._failures.mapped(""):
            async with asyncio.timeout(_WITHIN_S):
                request = self._http.build_request("POST", self._url, headers=headers, content=self._body)
                response = await self._http.send(request)
                body = await _head(response)
        if response.status_code != 200:
            raise self._refusal(response.status_code, response.headers)
        return self._token(body, response.headers)

    def _refusal(self, status: int, headers: Mapping[str, str]) -> UpstreamError:
        # What the token server says is shown to nobody: it may quote what it was sent.
        name = self._settings.name
        if status in _REFUSED:
            what = f"the credentials were refused (HTTP {status}): check {self._key_variable} or "
            what += f"providers.{name}.api_key, and providers.{name}.scope"
            # 401 whatever it was: of several keys, this one is to rest
            return UpstreamRejected(what, provider=name, model="", upstream_status=401)
        if status == 429 or status >= 500:
            what = f"its token server cannot answer now (HTTP {status}): ask again in a moment"
            wait_s = retry_after_s(headers, limited=status == 429)
            return UpstreamBusy(what, provider=name, model="", retry_after_s=wait_s)
        what = f"its token server answered HTTP {status}: check providers.{name}.token_url"
        return UpstreamRejected(what, provider=name, model="")

    def _token(self, body: bytes, headers: Mapping[str, str]) -> Token:
        try:
            told: Any = orjson.loads(body)
        except orjson.JSONDecodeError:
            told = None
        if not isinstance(told, dict):
            told = {}
        # `tok` and `exp`: of its other token server, `/api/v1/token`, which takes a user's password.
        value = told.get("access_token") or told.get("tok")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
            kind = clean(headers.get("content-type", "something"))
            remedy = f"check providers.{self._settings.name}.token_url"
            raise self._failures.broken(
                f"its token server answered with {kind} that holds no token: {remedy}", "", retryable=False
            )
        ends = told.get("expires_at") or told.get("exp")
        return Token(value, lifetime_s(ends, headers.get("date", ""), self._wall_s()))


def lifetime_s(ends: object, date: str, now_s: float) -> float:
    """For how many seconds a token is good.

    Args:
        ends: Milliseconds since the epoch by the server's clock, or seconds.
        date: The time by that clock, as the header of its answer has it; without it the clocks are taken to agree.
        now_s: Seconds since the epoch by our clock.
    """
    if not isinstance(ends, int | float):
        return GOOD_FOR_S
    ends_s = ends / 1000 if ends >= _MILLISECONDS else float(ends)
    left_s = ends_s - (time_of(date) if date else now_s)
    # A clock that is wrong must not have a token fetched for every request.
    return left_s if _LEAST_S <= left_s <= _MOST_S else GOOD_FOR_S


async def _head(response: httpx2.Response) -> bytes:
    head = b""
    try:
        async for chunk in response.aiter_bytes():
            head += chunk
            if len(head) > _MAX_BYTES:
                break
    finally:
        await response.aclose()
    return head
