"""The lists of models that providers publish, in all their shapes: JSON in, `facts.Listed` out.

Nobody who speaks OpenAI's language sends the same list. So each entry is shown to every one of a few readers, which
know the fields of some, and leave alone what is not theirs: a gateway in front of a vendor is read as well as the
vendor. An odd type is a fact that is not told, never an error.
"""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import orjson

from ollama_bridge.backends.embedding import whole_reply
from ollama_bridge.backends.failures import Failures, clean
from ollama_bridge.backends.listing_facts import read_all
from ollama_bridge.errors import UpstreamError
from ollama_bridge.facts import Listed

Get: TypeAlias = Callable[[str], Awaitable[tuple[str, bytes]]]
"""Asks for a URL: the reply's content type and its body, bounded."""

MAX_LIST_BYTES: Final = 16 * 1024 * 1024
"""Of one page; OpenRouter's whole list has one."""

MAX_PAGES: Final = 20

_PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    # What LM Studio itself knows of its models, and older versions of it do not tell.
    "lmstudio": ("/api/v0/models", "models"),
    "cohere": ("/v1/models?page_size=1000", "models"),
    "cloudflare": ("../models/search?per_page=1000",),
    # It lists what could be deployed: a deployment has a name of its own, which only its owner knows.
    "azure": (),
}
"""Of some vendors: where their list is, from the base URL; the first that exists."""

_USUAL_PLACES: Final = ("models",)
_NO_LIST: Final = frozenset({404, 405, 410, 501})
"""Statuses of those who publish none."""
_HOLDERS: Final = ("data", "models", "result")
"""Keys under which a list stands that does not stand alone."""
_LARGE_BYTES: Final = 1 << 18


def places(kind: str | None, base_url: str) -> list[str]:
    """Where the list of a vendor's models may be; `kind` as in `vendors.VENDORS`, None of somebody else."""
    return [urljoin(base_url.rstrip("/") + "/", place) for place in _PLACES.get(kind or "", _USUAL_PLACES)]


async def listed(
    get: Get, urls: Iterable[str], failures: Failures, reader: Callable[[Mapping[str, Any]], Listed | None]
) -> Sequence[Listed] | None:
    """Ask for a list at the first of `urls` that exists, all its pages.

    Args:
        get: Asks.
        urls: Where it may be.
        failures: Makes the errors.
        reader: What an entry says; None: it is none.

    Returns:
        Its models, each once; None: there is no list.

    Raises:
        UpstreamError: The provider failed, or what it sent is no list.
    """
    for url in urls:
        try:
            return await _pages(get, url, failures, reader)
        except UpstreamError as exc:
            if exc.upstream_status not in _NO_LIST:
                raise
    return None


async def bounded(chunks: AsyncIterable[bytes], failures: Failures) -> bytes:
    """A page, no larger than any list is; UpstreamBroken if it is."""
    return await whole_reply(chunks, failures, "", most_bytes=MAX_LIST_BYTES, remedy=" for a list of models")


async def _pages(
    get: Get, url: str, failures: Failures, reader: Callable[[Mapping[str, Any]], Listed | None]
) -> Sequence[Listed]:
    found: dict[str, Listed] = {}
    seen = {url}
    following: str | None = url
    while following is not None:
        kind, body = await get(following)

        def read(
            kind: str = kind, body: bytes = body, at: str = following
        ) -> tuple[list[Listed], str | None]:
            page = _page(body, kind, failures)
            return read_all(_entries(page, failures), reader), _following(at, page)

        models, following = read() if len(body) < _LARGE_BYTES else await asyncio.to_thread(read)
        for model in models:
            found.setdefault(model.id, model)
        if following in seen or len(seen) == MAX_PAGES:
            break
        seen.add(following or "")
    return list(found.values())


def _page(body: bytes, kind: str, failures: Failures) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        shown = clean(kind.partition(";")[0]) or "something else"
        raise failures.broken(
            f"answered with {shown} instead of a list of models: check providers.{failures.provider}.base_url",
            "",
            retryable="json" in kind,  # half of a list
        ) from None


def _entries(page: Any, failures: Failures) -> list[Any]:
    if isinstance(page, list):
        return page
    if isinstance(page, dict):
        for holder in _HOLDERS:
            if isinstance(entries := page.get(holder), list):
                return entries
        if page.get("error") or page.get("object") == "error":
            raise failures.told(page, "")
        if not page or page.get("object") == "list":
            return []  # Go writes nothing, or null, for a list of none
    raise failures.broken("answered with something else than a list of models", "", retryable=False)


def _following(url: str, page: Any) -> str | None:
    """Where the list goes on; never at another host, for the key would go there with the request."""
    if not isinstance(page, dict):
        return None
    if page.get("has_more") is True and isinstance(last := page.get("last_id"), str):  # Anthropic
        return _with(url, after_id=last)
    if isinstance(token := page.get("nextPageToken"), str) and token:  # Google
        return _with(url, pageToken=token)
    if isinstance(token := page.get("next_page_token"), str) and token:  # Cohere
        return _with(url, page_token=token)
    links = page.get("links")
    if isinstance(links, dict) and isinstance(link := links.get("next"), str) and link:  # OpenRouter
        there = urljoin(url, link)
        return there if urlsplit(there)[:2] == urlsplit(url)[:2] else None
    info = page.get("result_info")
    if isinstance(info, dict) and _is_below(info.get("page"), info.get("total_pages")):  # Cloudflare
        return _with(url, page=str(info["page"] + 1))
    return None


def _is_below(one: Any, other: Any) -> bool:
    return type(one) is int and type(other) is int and one < other


def _with(url: str, **values: str) -> str:
    parts = urlsplit(url)
    query = {**dict(parse_qsl(parts.query)), **values}
    return parts._replace(query=urlencode(query)).geturl()
