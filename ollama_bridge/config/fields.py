"""Values of the configuration that need more than a type: read leniently, checked strictly."""

import re
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

_ORIGIN_SCHEMES: Final = (
    "http://",
    "https://",
    "chrome-extension://",
    "safari-extension://",
    "moz-extension://",
    "ms-browser-extension://",
)


def _key_list(value: object) -> object:
    if isinstance(value, SecretStr):
        return (value,)
    if isinstance(value, str):
        return () if value.strip().lower() in {"", "none"} else (value,)
    return value


def _usable_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value().strip()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise PydanticCustomError("config", "an API key is printable ASCII without spaces; this one is not")
    return SecretStr(text)


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise PydanticCustomError("config", "must be an http:// or https:// address")
    if "{" in url or "}" in url:  # as vendors' documents and our own tables write it
        raise PydanticCustomError("config", "must be the address itself: fill in what stands in braces")
    return url


def _bare_host(host: str) -> str:
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if (":" in host and not _is_ipv6(host)) or any(sign in host for sign in "/[] \t\n\r\0"):
        raise PydanticCustomError(
            "config", "must be a name or an address alone; the port is a key of its own"
        )
    return host


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True


def _lower(value: object) -> object:
    if not isinstance(value, str):
        return value
    level = value.strip().lower()
    return "warning" if level == "warn" else level


def _origin_list(value: object) -> object:
    if isinstance(value, str):
        return tuple(entry for entry in (part.strip() for part in value.split(",")) if entry)
    return value


def _usable_origin(origin: str) -> str:
    """As gin-contrib/cors judges it; the real server does not start with one it refuses."""
    text = origin.strip().lower()
    if text.count("*") > 1:
        raise PydanticCustomError("config", "may hold one '*' only")
    if "*" not in text and not text.startswith(_ORIGIN_SCHEMES):
        raise PydanticCustomError(
            "config", "must begin with http://, https:// or a browser extension's scheme, or hold a '*'"
        )
    return text


def reaches_others(host: str) -> bool:
    """Whether other machines can connect to what listens there."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _store_url(value: str) -> str:
    """`host:port`, as `REDIS_ADDR` has it, or a URL."""
    text = value.strip()
    if text and "://" not in text:
        text = f"redis://{text}"
    if text and not (_STORE_URL.match(text) and text.isprintable() and _is_whole(text)):
        raise PydanticCustomError(
            "config",
            "must be a redis://, rediss:// or unix:// address, or host:port; in a password, write / ? # @ : as %2F %3F "
            "%23 %40 %3A",
        )
    return text


def _is_whole(url: str) -> bool:
    """Whether all of a password is read as one: what is left of it would be taken for a host, and shown."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "unix" or (bool(parts.hostname) and parts.port != 0)
    except ValueError:
        return False
    return usable and "@" not in f"{parts.path}{parts.query}{parts.fragment}"


def _url_part(text: str) -> str:
    if text and not _URL_PART.match(text):
        raise PydanticCustomError("config", "is part of an address: letters, digits, '.', '_' and '-'")
    return text


def _bare_url(url: str) -> str:
    if "@" in urlsplit(_http_url(url)).netloc:
        raise PydanticCustomError("config", "must hold no user and no password: they would be shown")
    return url


def _project(text: str) -> str:
    if text and not _PROJECT.match(text):
        raise PydanticCustomError("config", "must be a project's id, such as my-project-123456")
    return text


def _file(path: str, what: str) -> Path:
    # It is not shown: who mistakes the key writes a secret here.
    found = Path(path).expanduser()
    try:
        if found.is_file():
            return found
    except (OSError, ValueError):
        pass
    raise PydanticCustomError("config", "must be the path of {what}; there is no file at it", {"what": what})


def _ca_bundle(path: str) -> str:
    if not path:
        return path
    import ssl  # noqa: PLC0415 - what commands and most configurations do without

    found = _file(path, "a file of certificates, PEM")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=found)
    except OSError as exc:  # ssl.SSLError is one
        message = "must be the path of a file of certificates, PEM; that file cannot be read as one"
        raise PydanticCustomError("config", message) from exc
    return str(found)


def _credentials_file(path: str) -> str:
    if not path:
        return path
    found = _file(path, "a file with Google credentials, JSON")
    try:
        told = orjson.loads(found.read_bytes())
    except (OSError, ValueError):
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("type"), str):
        message = "must be the path of a file with Google credentials, JSON with a 'type'; that file is none"
        raise PydanticCustomError("config", message)
    return str(found)


_PROJECT: Final = re.compile(r"[a-z0-9][a-z0-9.:-]*\Z")
_URL_PART: Final = re.compile(r"[\w.-]+\Z", re.ASCII)
_STORE_URL: Final = re.compile(r"(rediss?|unix)://\S+\Z")

Key: TypeAlias = Annotated[SecretStr, AfterValidator(_usable_key)]
ApiKeys: TypeAlias = Annotated[tuple[Key, ...], BeforeValidator(_key_list)]
HttpUrl: TypeAlias = Annotated[str, AfterValidator(_http_url)]
UrlPart: TypeAlias = Annotated[str, AfterValidator(_url_part)]
BareUrl: TypeAlias = Annotated[str, AfterValidator(_bare_url)]
ProjectName: TypeAlias = Annotated[str, AfterValidator(_project)]
CaBundle: TypeAlias = Annotated[str, AfterValidator(_ca_bundle)]
CredentialsFile: TypeAlias = Annotated[str, AfterValidator(_credentials_file)]
Host: TypeAlias = Annotated[str, AfterValidator(_bare_host)]
Origins: TypeAlias = Annotated[
    tuple[Annotated[str, AfterValidator(_usable_origin)], ...], BeforeValidator(_origin_list)
]
Patterns: TypeAlias = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_origin_list)
]
"""Of names, with `*` and `?`; text with commas will do."""
StoreUrl: TypeAlias = Annotated[str, AfterValidator(_store_url)]
Milliseconds: TypeAlias = Annotated[int, Field(ge=0, le=60_000)]
LogLevel: TypeAlias = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
