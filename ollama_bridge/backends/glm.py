"""GLM's own sign-in, at Z.ai and at bigmodel.cn: a short-lived JWT made of a key that is `id.secret`.

https://docs.z.ai/api-reference/introduction and https://docs.bigmodel.cn/cn/guide/develop/http/introduction. HS256 is
one HMAC, and its header has a field that is in no standard: no library is wanted for it.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final

import httpx2
import orjson

from ollama_bridge.backends import ProviderSettings

GOOD_FOR_S: Final = 1800.0
"""Seconds from a token's making to its end: enough for clocks that differ by minutes."""
_RENEWED_S: Final = 300.0

_HEADER: Final = {"alg": "HS256", "sign_type": "SIGN"}


class SignedKey:
    """Makes tokens of keys; a key that is no `id.secret` is a bearer as it is.

    Args:
        settings: Of the provider.
        key_variable: For messages.
        http: Nobody need be asked.
        wall_s: Seconds since the epoch.
    """

    header: ClassVar[str] = "authorization"
    needs_key: ClassVar[bool] = True

    def __init__(
        self,
        settings: ProviderSettings,
        key_variable: str,  # noqa: ARG002 - as SCHEMES has it
        http: httpx2.AsyncClient,  # noqa: ARG002
        *,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._keys = settings.api_keys
        self._wall_s = wall_s
        self._made: dict[str, tuple[float, Mapping[str, str]]] = {}

    async def headers(self, key: int) -> Mapping[str, str]:
        """See `SignIn`."""
        api_key = self._key(key)
        now_s = self._wall_s()
        since_s, headers = self._made.get(api_key, (now_s, {}))
        if not headers or not 0 <= now_s - since_s < GOOD_FOR_S - _RENEWED_S:
            token = signed(api_key, now_s) if _is_pair(api_key) else api_key
            headers = {"Authorization": f"Bearer {token}"}
            self._made[api_key] = now_s, headers
        return headers

    def refused(self, key: int, headers: Mapping[str, str]) -> bool:
        """Forget the token, if these were its headers."""
        api_key = self._key(key)
        if not _is_pair(api_key):
            return False
        if self._made.get(api_key, (0.0, None))[1] is headers:
            del self._made[api_key]
        return True

    def secrets(self) -> Iterable[str]:
        """The tokens, and the halves of the keys that sign."""
        yield from (headers["Authorization"].removeprefix("Bearer ") for _, headers in self._made.values())
        yield from (key.partition(".")[2] for key in self._keys if _is_pair(key))

    async def aclose(self) -> None:
        """Nothing is under way."""

    def _key(self, number: int) -> str:
        return self._keys[number if number < len(self._keys) else 0]


def signed(api_key: str, now_s: float) -> str:
    """The JWT for a key that is `id.secret`; its times are milliseconds, whatever the standard says."""
    key_id, _, secret = api_key.partition(".")
    now_ms = int(now_s * 1000)
    payload = {"api_key": key_id, "exp": now_ms + int(GOOD_FOR_S * 1000), "timestamp": now_ms}
    said = f"{_part(_HEADER)}.{_part(payload)}"
    return f"{said}.{_base64url(hmac.digest(secret.encode(), said.encode(), hashlib.sha256))}"


def _is_pair(api_key: str) -> bool:
    key_id, _, secret = api_key.partition(".")
    return bool(key_id and secret) and "." not in secret


def _part(value: Mapping[str, Any]) -> str:
    return _base64url(orjson.dumps(value))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
