"""Sockets to listen on: for one process, or for several that share a port."""

import errno
import http.client
import socket
import sys
from collections.abc import Mapping
from typing import Final

import orjson

from ollama_bridge.errors import ConfigError

BACKLOG: Final = 1024


def bind(host: str, port: int, *, shared: bool = False, listens: bool = True) -> tuple[socket.socket, ...]:
    """Bind `host`; of the loopback names both families, because clients use both. One or two sockets.

    Args:
        host: Name or address; empty: every interface.
        port: 0: any free one.
        shared: Whether other processes bind the same; all of them have to say so.
        listens: Whether connections are taken; a port that is bound and does not listen is only kept.

    Raises:
        ConfigError: The address cannot be bound; when the port is taken it says by whom, probably.
    """
    hosts = ("127.0.0.1", "::1") if host in {"127.0.0.1", "localhost"} else (host,)
    sockets: list[socket.socket] = []
    for each in hosts:
        try:
            sockets.append(
                _bound(each, sockets[0].getsockname()[1] if sockets else port, shared=shared, listens=listens)
            )
        except OSError as exc:
            if port == 0 and sockets and exc.errno == errno.EADDRINUSE:
                sockets.pop().close()
                # Another program has that port of the other family: choose again.
                return bind(host, port, shared=shared, listens=listens)
            if each == "::1" and sockets and exc.errno != errno.EADDRINUSE:
                continue  # a machine without IPv6
            for opened in sockets:
                opened.close()
            raise ConfigError(_why_not(each, port, exc)) from exc
    return tuple(sockets)


def reserve(host: str, port: int) -> tuple[socket.socket, ...]:
    """Find the port free, and keep it from being chosen by others, as long as these sockets are open.

    Processes that share it, and only they, can listen on it once one of them does.

    Raises:
        ConfigError: As `bind`; or this system cannot share a port.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("this system cannot share a port among processes: leave out --workers")
    # First without sharing: another bridge of this user that shares its port would let us in.
    alone = bind(host, port, listens=False)
    chosen = alone[0].getsockname()[1]
    for each in alone:
        each.close()
    return bind(host, chosen, shared=True, listens=False)


def _bound(host: str, port: int, *, shared: bool, listens: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # `::` means both families, as it does for the real server; `::1` can only be itself.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        listener.bind((host, port))
        if listens:
            listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _why_not(host: str, port: int, exc: OSError) -> str:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if exc.errno != errno.EADDRINUSE:
        return f"cannot listen on {where}: {exc.strerror}"
    holder, way_out = _holder(host, port)
    return f"port {port} is in use: {holder} answers on {where}. {way_out}: `ollama-bridge serve --port {port + 1}`"


def _holder(host: str, port: int) -> tuple[str, str]:
    """Who has a port, and what to do about it, for people; no guess where it does not say so itself."""
    if _said(host, port, "/") != b"Ollama is running":
        return "another program", "Stop it, or choose another port"
    if _said(host, port, "/health") in _HEALTH:  # a real one has no such route, and ours needs no key
        return "another ollama-bridge", "Stop that one, or let this one have another port"
    try:
        version = orjson.loads(_said(host, port, "/api/version"))["version"]
    except (ValueError, LookupError, TypeError):
        version = "of an unknown version"
    moved = f"127.0.0.1:{port + 1}"
    how = _MOVES.get(sys.platform, _ANYWHERE).format(moved=moved)
    return f"a real Ollama ({version})", (
        f"To have the bridge in front of it, and its models in the bridge: {how}; write `providers: {{ollama: "
        f'{{base_url: "http://{moved}"}}}}` into the configuration (`ollama-bridge config path`); then '
        f"`ollama-bridge serve --host 127.0.0.1 --port {port}`. Or leave it where it is, and choose another port"
    )


_HEALTH: Final = frozenset({b'{"status":"ok"}', b'{"status":"degraded"}'})
_ANYWHERE: Final = "start it by `OLLAMA_HOST={moved} ollama serve`"
_MOVES: Final[Mapping[str, str]] = {
    "linux": (
        "where it is a service, `sudo systemctl edit ollama`, add the lines `[Service]` and "
        f'`Environment="OLLAMA_HOST={{moved}}"`, and `sudo systemctl restart ollama`; else {_ANYWHERE}'
    ),
    "darwin": (
        "`launchctl setenv OLLAMA_HOST {moved}`, quit Ollama's app, and open it again; where it runs without the app, "
        f"{_ANYWHERE}"
    ),
}
"""By system, how a real Ollama comes to listen elsewhere."""


def _said(host: str, port: int, path: str) -> bytes:
    """The beginning of what is answered there; empty: nothing that HTTP knows, or an error."""
    connection = http.client.HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read(256) if response.status == 200 else b""
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()
