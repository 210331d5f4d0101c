"""What the backends on the Anthropic and OpenAI SDKs share: a transport for the SDK, a reader for its replies.

Both SDKs speak through httpx2 and take any transport. `SessionTransport` is aiohttp's client behind that
interface: 65 to 75 microseconds less for each read than httpx2's own, no cookies, no limit of 100
connections, response headers up to 64 KiB (`providers.md` §1.2, §8). Its errors are aiohttp's own, which
`failures` knows.
"""

import functools
import logging
import os
import ssl
import urllib.request
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx2
import orjson

from ollama_bridge import __version__
from ollama_bridge.backends import ProviderSettings, framing, scrub_environment
from ollama_bridge.backends.bursts import exhaust
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.framing import Whole
from ollama_bridge.errors import InvalidRequest, UpstreamRejected

with suppress(ImportError):
    # Both SDKs use of it what `sys.modules` holds, whenever they make a client or a request: while google-genai's module,
    # or anybody's, imports it in another thread, that is half a module, and an AttributeError.
    import httpx  # noqa: F401

USER_AGENT: Final = f"ollama-bridge/{__version__}"

REHEARSAL_URL: Final = "https://rehearsal.invalid/"
"""Asked for by `warm()`: the transport itself answers with an empty event stream. RFC 6761 keeps the name free."""

_MAX_HEADER_BYTES: Final = 65536  # aiohttp's 8190 is too little for some rate-limit and CSP headers
_KEEPALIVE_S: Final = 60.0  # the SDKs' 5 s mean a TLS handshake for nearly every turn of a chat
_SETTLE_S: Final = 0.2

TLS: Final = httpx2.create_ssl_context()
"""For all providers. Reading the certificate authorities takes 20 ms: once, while this module is imported in a thread."""


def tls(settings: ProviderSettings) -> ssl.SSLContext:
    """Whom a provider's connections trust: everybody's authorities, and those of its own file, if it has one.

    Raises:
        UpstreamRejected: The file cannot be read any more; it was looked at when the configuration was loaded.
    """
    if not settings.ca_bundle:
        return TLS
    try:
        changed_ns = Path(settings.ca_bundle).stat().st_mtime_ns
        return _tls_with(settings.ca_bundle, changed_ns)
    except OSError as exc:  # ssl.SSLError is one
        what = f"its certificates cannot be read: check providers.{settings.name}.ca_bundle"
        raise UpstreamRejected(what, provider=settings.name, model="") from exc


@functools.lru_cache(maxsize=8)
def _tls_with(ca_bundle: str, changed_ns: int) -> ssl.SSLContext:  # noqa: ARG001 - one that has changed is another
    context = httpx2.create_ssl_context()
    context.load_verify_locations(cafile=ca_bundle)
    return context


def pin_loggers() -> None:
    """At DEBUG the SDKs log whole request bodies and headers, prompts and keys; httpx2 logs each URL at INFO."""
    for name in ("anthropic", "openai", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def neutral_environment() -> Iterator[None]:
    """Hide what the SDKs' constructors read by themselves, even beside explicit arguments."""
    before = dict(os.environ)
    scrub_environment()
    try:
        yield
    finally:
        os.environ.update(before)


def other_key(
    settings: ProviderSettings, number: int, *, header: str = "Authorization", scheme: str = "Bearer "
) -> dict[str, str]:
    """What a request's headers need to use another key than the first, which clients have from the start.

    Args:
        settings: Of the provider; a header that the operator wrote there himself stays as it is.
        number: Of the key; without such a key the first is used.
        header: Which holds it.
        scheme: What stands before it.
    """
    if not 0 < number < len(settings.api_keys) or header.lower() in map(str.lower, settings.headers):
        return {}
    return {header: scheme + settings.api_keys[number]}


def http_client(settings: ProviderSettings) -> httpx2.AsyncClient:
    """The client to hand to an SDK as `http_client=`; make it inside the running loop, the SDK closes it.

    There is no read timeout: how much silence is too much is decided by the `timeout` policy.
    """
    return _Client(
        transport=SessionTransport(trust_env=settings.trust_env, trusted=tls(settings)),
        timeout=httpx2.Timeout(None, connect=settings.connect_timeout_s),
        trust_env=False,
    )


class _Client(httpx2.AsyncClient):
    """Builds a request and sends it, and no more.

    No redirect takes a key elsewhere, no cookie of one tenant travels with the next one's request, and nothing
    is merged that the SDK has already put together: half of httpx2's own time for a request.
    """

    def build_request(
        self, method: str, url: httpx2.URL | str, *, headers: Any = None, content: Any = None, **rest: Any
    ) -> httpx2.Request:
        rest.pop("timeout", None)  # ours is the only one
        if any(rest.values()):
            return super().build_request(method, url, headers=headers, content=content, **rest)
        timeout = {"timeout": self.timeout.as_dict()}
        return httpx2.Request(method, url, headers=headers, content=content, extensions=timeout)

    async def send(self, request: httpx2.Request, **_: Any) -> httpx2.Response:
        response = await self._transport.handle_async_request(request)
        response.request = request
        return response


class SessionTransport(httpx2.AsyncBaseTransport):
    """An httpx2 transport over one `aiohttp.ClientSession`.

    Args:
        trust_env: Whether `*_PROXY` variables are honoured.
        trusted: Who may vouch for a server.
    """

    def __init__(self, *, trust_env: bool = False, trusted: ssl.SSLContext = TLS) -> None:
        self._trust_env = trust_env
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S, ssl=trusted),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # httpx2 does it
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send; the answer's body is read as it comes. Raises aiohttp's errors as they are."""
        url = str(request.url)
        if url.startswith(REHEARSAL_URL):
            return httpx2.Response(
                200, headers={"content-type": "text/event-stream"}, stream=httpx2.ByteStream(b"")
            )
        timeout = request.extensions.get("timeout", {})
        response = await self._session.request(
            request.method,
            url,
            # What the SDKs tell about this machine is of no use to a provider. To leave it out here costs a
            # fraction of what the SDKs' own `Omit()` does.
            headers=[
                header for header in request.headers.multi_items() if not header[0].startswith("x-stainless-")
            ],
            data=await request.aread() or None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                connect=timeout.get("connect"),
                sock_connect=timeout.get("connect"),
                sock_read=timeout.get("read"),
            ),
            proxy=self._proxy(request.url),
            server_hostname=request.extensions.get("sni_hostname"),
        )
        return httpx2.Response(response.status, headers=response.raw_headers, stream=_Body(response))

    def _proxy(self, url: httpx2.URL) -> str | None:
        # Not the session's own trust_env: that one also reads ~/.netrc, whose entry takes the key's place.
        if not self._trust_env or urllib.request.proxy_bypass(url.host):
            return None
        proxies = urllib.request.getproxies()
        return proxies.get(url.scheme) or proxies.get("all")

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()


class _Body(httpx2.AsyncByteStream):
    """A response body; closing it before its end closes the connection."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    def __aiter__(self) -> Any:
        # Each read gives all that has arrived: a burst of events is one wake-up of the loop.
        return self._response.content.iter_any()

    async def aclose(self) -> None:
        self._response.close()  # does nothing to a connection whose reply has ended: it is back in the pool


def encode(body: Mapping[str, Any]) -> bytes:
    """A request body as JSON, for the SDK's `content=`.

    Raises:
        InvalidRequest: It holds what JSON cannot, such as half a surrogate pair or a number past 64 bits.
    """
    try:
        return orjson.dumps(body)
    except TypeError as exc:
        raise InvalidRequest(f"the request cannot be written as JSON: {exc}") from None


def payloads(
    response: httpx2.Response, failures: Failures, model: str, whole: Whole, done: Sequence[Any] = ()
) -> AsyncGenerator[Iterable[Any], None]:
    """The JSON of a reply; see `framing.payloads`. Read it inside `aclosing(...)` and `failures.mapped(...)`.

    The SDKs' own iterators drop events without a name, take HTML for an empty stream, and cost four times
    as much.
    """
    headers = response.headers
    chunks = response.aiter_bytes() if "content-encoding" in headers else response.aiter_raw()
    kind = headers.get("content-type", "")
    return framing.payloads(chunks, kind, failures, model, whole=whole, headers=headers, done=done)


async def settle(batches: AsyncGenerator[object, None]) -> None:
    """After the last event, read to the end of the body: only then can the connection be used again.

    The end follows the last event at once; a provider that holds it back loses the connection.
    """
    await exhaust(batches, within_s=_SETTLE_S)
