"""Values that mean the same on every `/v1` surface of OpenAI's dialect: what is said in parts, images in a text, words for effort."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from ollama_bridge import media
from ollama_bridge.chat import CacheTtl, Image, Message, Role, Think
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.gotypes import IMAGE, Mismatch

Part: TypeAlias = str | Image

_EFFORTS: Final[Mapping[str, Think]] = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
    "none": False,
}
_EFFORT_WORDS: Final = '"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"'

_data_url: Final = re.compile(r"data:(?P<kind>[^;,]*)(?:;[^;,]*)*?;base64,", re.IGNORECASE)
_TAKEN_AS_TOLD: Final = frozenset({"", "image/jpeg", "image/jpg", "image/png", "image/webp"})
"""The kinds of Ollama's list. Of another kind, such as GIF, the bytes must prove that they are an image."""


def in_order(role: Role, parts: Iterable[tuple[Part, CacheTtl]], cache: CacheTtl = "") -> list[Message]:
    """What somebody said: one message, or, of a user or the system, as many as it takes to keep the parts' order.

    A message has its images in one place, and ends where a part marks the end of what is to be cached.

    Args:
        role: Who.
        parts: Texts and images, each with its mark.
        cache: The mark of the whole.
    """
    said: list[Message] = []
    some: list[Part] = []
    turns = 0
    for part, ttl in parts:
        turns += bool(some) and type(part) is not type(some[-1])
        if turns == 2 and role == "user":
            said.append(joined(role, some))
            some, turns = [], 0
        some.append(part)
        if ttl and role in {"user", "system"}:
            said.append(joined(role, some, ttl))
            some, turns = [], 0
        else:
            cache = cache or ttl
    if some or not said:
        return [*said, joined(role, some, cache)]
    return [*said[:-1], replace(said[-1], cache=cache)] if cache else said


def joined(role: Role, parts: Iterable[Part], cache: CacheTtl = "") -> Message:
    """One message of these parts."""
    said = list(parts)
    text = "\n".join(part for part in said if isinstance(part, str))
    return Message(role, text, images=tuple(part for part in said if isinstance(part, Image)), cache=cache)


def read_image(url: str) -> Image:
    """The image in a data URI.

    Raises:
        InvalidRequest: 400, in Ollama's words.
    """
    if url[:8].lower().startswith(("http://", "https://")):
        raise InvalidRequest("image URLs are not currently supported, please use base64 encoded data instead")
    head = _data_url.match(url)
    if head is None:
        raise InvalidRequest("invalid image input")
    try:
        data = IMAGE.read(url[head.end() :])
    except Mismatch:
        raise InvalidRequest("invalid image input") from None
    media_type = media.sniff(data)
    if not data or (media_type == media.UNKNOWN and head["kind"].lower() not in _TAKEN_AS_TOLD):
        raise InvalidRequest("invalid image input")
    return Image(data, media_type)


def read_effort(word: str) -> Think:
    """How hard to think; of an empty word nothing.

    Raises:
        InvalidRequest: 400, in Ollama's words.
    """
    if not word:
        return None
    if word not in _EFFORTS:
        raise InvalidRequest(f"invalid reasoning value: {gojson.quote(word)} (must be {_EFFORT_WORDS})")
    return _EFFORTS[word]
