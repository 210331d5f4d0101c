"""The guard at the door: a web page, or another machine, must not spend the user's money.

CORS and the check of `Host` are the real server's (`ollama-api.md` §6), quirks included: gin-contrib/cors with
Ollama's list, then its `allowedHostsMiddleware` against DNS rebinding. Client keys are ours.
"""

import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from ollama_bridge.errors import Unauthorized
from ollama_bridge.server.middleware import SHOWN

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

ALWAYS_ALLOWED: Final = (
    *(
        f"{scheme}://{host}{port}"
        for host in ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - a page's origin, nothing is bound to it
        for scheme in ("http", "https")
        for port in ("", ":*")
    ),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)
"""Origins of pages that may always ask, in the order of Ollama's own list."""

_PREFLIGHT: Final = (
    ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
    (
        "Access-Control-Allow-Headers",
        ",".join(
            "Authorization Content-Type User-Agent Accept X-Requested-With Openai-Beta X-Stainless-Arch "
            "X-Stainless-Async X-Stainless-Custom-Poll-Interval X-Stainless-Helper-Method X-Stainless-Lang "
            "X-Stainless-Os X-Stainless-Package-Version X-Stainless-Poll-Helper X-Stainless-Retry-Count "
            "X-Stainless-Runtime X-Stainless-Runtime-Version X-Stainless-Timeout".split()
        ),
    ),
    ("Access-Control-Max-Age", "43200"),
    ("Vary", "Access-Control-Request-Method"),
    ("Vary", "Access-Control-Request-Headers"),
)
_PRIVATE: Final = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)
"""What Go calls private; Python's `is_private` means much more, link-local and carrier-grade NAT among it."""

_LOCAL_SUFFIXES: Final = (".localhost", ".local", ".internal")
_WITH_PORT: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*)):([^:\[\]]*)\Z")
_USUAL: Final = {"localhost": "name", "127.0.0.1": "address", "::1": "address"}
"""What nearly all clients write; an address is parsed in 15 us, each time."""

_OPEN_PATHS: Final = frozenset({"/", "/health", "/v1/health"})
"""Answered without a client key: whether somebody is there may be known, and health checks carry none."""

log = structlog.get_logger(__name__)


class Origins:
    """Which web pages may ask.

    Args:
        configured: `OLLAMA_ORIGINS`, already checked; `*` alone lets every page in.
    """

    def __init__(self, configured: Iterable[str] = ()) -> None:
        allowed = (*(entry.strip().lower() for entry in configured), *ALWAYS_ALLOWED)
        self.any = "*" in allowed
        self._exact = frozenset(entry for entry in allowed if "*" not in entry)
        self._around = tuple(
            (before, after) for entry in allowed for before, sign, after in [entry.partition("*")] if sign
        )

    def allow(self, origin: str) -> bool:
        """Whether a page of this origin may; the comparison minds case, as gin's does."""
        return (
            self.any
            or origin in self._exact
            or any(origin.startswith(before) and origin.endswith(after) for before, after in self._around)
        )


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as a client key tells.

    Args:
        key: Names the key without revealing it; empty: none was brought.
        name: What the operator calls whoever brings it; empty: nothing.
    """

    key: str = ""
    name: str = ""


CALLER: Final = web.RequestKey("caller", Caller)
"""Set for every request that was let in."""


@dataclass(frozen=True, slots=True)
class Door:
    """Who is let in; a reload of the configuration makes a new one.

    Args:
        origins: Web pages.
        checks_host: Whether the `Host` header is looked at, as it is when nobody but this machine can connect.
        keys: Names of client keys by their digests (`digest_of`), of which one must come with each request; none:
            nobody needs one. A name may be empty.
    """

    origins: Origins
    checks_host: bool = True
    keys: Mapping[bytes, str] = field(default_factory=dict, repr=False)

    def caller(self, request: web.Request) -> Caller | None:
        """Who asks; None: it needs a client key and brings none. Takes the same time for every wrong key."""
        offered = [digest_of(key) for key in _keys(request) if key]
        if not self.keys:  # who brings one all the same wants to be told from the others
            return Caller(_short(offered[0])) if offered else _NOBODY
        # All are compared, always: which key nearly matched must not show in the time it takes.
        known = [
            Caller(_short(digest), name)
            for digest, name in self.keys.items()
            for one in offered
            if hmac.compare_digest(digest, one)
        ]
        return known[0] if known else _NOBODY if request.path in _OPEN_PATHS else None


def digest_of(key: str) -> bytes:
    """What a client key is known by: of one length, so that its own does not show in the time to compare it."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def guard(current: Callable[[], Door]) -> Middleware:
    """Let in whom `current()` lets in, asked for each request; everybody else gets 403 with an empty body, or 401."""

    @web.middleware
    async def at_the_door(request: web.Request, handler: Handler) -> web.StreamResponse:
        door = current()
        host = request.headers.get("Host", "")
        origin = request.headers.get("Origin", "")
        if origin and origin not in {f"http://{host}", f"https://{host}"}:
            if not door.origins.allow(origin):
                log.warning("refused a web page; OLLAMA_ORIGINS would allow it", origin=origin[:SHOWN])
                return web.Response(status=403)
            request[_ALLOWED] = "*" if door.origins.any else origin
            if request.method == "OPTIONS":
                return _preflight()
        if door.checks_host:
            kind = _host_kind(host)
            if not kind:
                log.warning("refused a Host that is not this machine", host=host[:SHOWN])
                return web.Response(status=403)
            if kind == "name" and request.method == "OPTIONS":
                return web.Response(status=204)
        caller = door.caller(request)
        if caller is None:
            raise Unauthorized(
                "a client key is required: `Authorization: Bearer …`, with one of the bridge's `server.api_keys` or `clients`"
            )
        request[CALLER] = caller
        return await handler(request)

    return at_the_door


async def allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Tell the browser of a page that was let in so, on every reply: errors and streams too."""
    if (origin := request.get(_ALLOWED)) is None:
        return
    response.headers["Access-Control-Allow-Origin"] = origin
    if origin != "*":
        response.headers.add("Vary", "Origin")


_NOBODY: Final = Caller()
_ALLOWED: Final = web.RequestKey("allowed_origin", str)


def _short(digest: bytes) -> str:
    return digest[:4].hex()


def _preflight() -> web.Response:
    response = web.Response(status=204)
    response.headers.extend(_PREFLIGHT)
    return response


def _keys(request: web.Request) -> Iterator[str]:
    """What the request offers as a key: a bearer token, or what Anthropic's and Google's clients send instead."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield token.strip()
    for name in ("x-api-key", "api-key"):
        if name in request.headers:
            yield request.headers[name].strip()


def _host_kind(host: str) -> str:
    """`address` or `name` of this machine; empty: neither, the name of somebody who had it resolved to us."""
    if not host.isascii():  # a name on the wire never is; an address with such a zone could not even be tried
        return ""
    parts = _WITH_PORT.match(host)
    bare = host if parts is None else parts[1] if parts[1] is not None else parts[2]
    if usual := _USUAL.get(bare):
        return usual
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return "name" if _is_our_name(bare.lower()) else ""
    mapped = address.ipv4_mapped if address.version == 6 else None
    return "address" if _is_ours(mapped or address) else ""


def _is_our_name(name: str) -> bool:
    return name in {"", "localhost", socket.gethostname().lower()} or name.endswith(_LOCAL_SUFFIXES)


def _is_ours(address: Address) -> bool:
    if address.is_loopback or address.is_unspecified:
        return True
    if any(address in network for network in _PRIVATE if network.version == address.version):
        return True
    return _is_assigned(address)


def _is_assigned(address: Address) -> bool:
    """Whether an interface of this machine has the address: only then can a socket be bound to it."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return not address.is_multicast
