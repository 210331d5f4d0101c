"""One aiohttp session per provider, for backends that speak through aiohttp itself."""

import urllib.parse
import urllib.request
from typing import Any, Final

import aiohttp

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.sdk import tls

_KEEPALIVE_S: Final = 60.0  # long enough for the next turn of a chat to find its connection open
_MAX_HEADER_BYTES: Final = 65536  # aiohttp's 8190 is too little for some rate-limit and CSP headers


def client_session(settings: ProviderSettings, base_url: str) -> aiohttp.ClientSession:
    """A session that keeps no cookies, waits for connections only so long, and knows no other deadline.

    Make it inside the running loop; how much silence is too much is decided by the `timeout` policy.
    """
    return aiohttp.ClientSession(
        connector=_Connector(
            settings.connect_timeout_s, limit=0, keepalive_timeout=_KEEPALIVE_S, ssl=tls(settings)
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(),
        proxy=_proxy(base_url) if settings.trust_env else None,
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
    )


def _proxy(base_url: str) -> str | None:
    # Not the session's own trust_env: that one also reads ~/.netrc and sends what it finds there.
    url = urllib.parse.urlsplit(base_url)
    if urllib.request.proxy_bypass(url.hostname or ""):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(url.scheme) or proxies.get("all")


class _Connector(aiohttp.TCPConnector):
    """Bounds the time to connect, even of requests that bring a timeout without such a bound, as google-genai's."""

    def __init__(self, connect_timeout_s: float, **options: Any) -> None:
        super().__init__(**options)
        self._connect_timeout_s = connect_timeout_s

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout
    ) -> Any:
        bounded = aiohttp.ClientTimeout(
            total=timeout.total, sock_read=timeout.sock_read, sock_connect=self._connect_timeout_s
        )
        return await super().connect(req, traces, bounded)
