"""Where Claude's prompt cache is to end: `cache_control` marks, the client's or ours. Pure.

https://platform.claude.com/docs/en/build-with-claude/prompt-caching
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ollama_bridge.backends.prefix_tracker import Plan
from ollama_bridge.backends.sdk import encode
from ollama_bridge.chat import CacheTtl
from ollama_bridge.tokens import BYTES_PER_TOKEN, IMAGE_TOKENS

MOST: Final = 4
"""Marks in one request; a fifth is a 400."""

_UNMARKED: Final = frozenset({"thinking", "redacted_thinking"})
"""Kinds of blocks that take none; neither does a text that is empty."""


def mark(blocks: Sequence[dict[str, Any]], ttl: CacheTtl) -> None:
    """Let what is cached end with the last of `blocks`, if `ttl` says anything."""
    if not ttl:
        return
    for block in reversed(blocks):
        if block.get("type") not in _UNMARKED and block.get("text") != "":
            block["cache_control"] = {"type": "ephemeral", **({"ttl": ttl} if ttl == "1h" else {})}
            return


def keep_within_limits(body: dict[str, Any], most: int) -> bool:
    """Keep the last `most` marks, which hold the longest prefixes, and no longer life behind a shorter one.

    Returns:
        Whether there are any.
    """
    said = (block for turn in body["messages"] for block in turn["content"])
    blocks = (*body.get("tools", ()), *body.get("system", ()), *said)
    marked = [block for block in blocks if "cache_control" in block]
    beyond = max(0, len(marked) - most)
    for block in marked[:beyond]:
        del block["cache_control"]
    shorter = False
    for block in marked[beyond:]:
        if shorter:
            block["cache_control"].pop("ttl", None)
        shorter = "ttl" not in block["cache_control"]
    return len(marked) > beyond


def place(body: dict[str, Any], plan: Plan, least_tokens: int) -> None:
    """Mark what `plan` says, as far as it is long enough.

    The last request of a conversation ended with the user's turn before the last: marked again, it is found
    however many blocks have come since, where a mark at the end alone looks back over twenty.

    Args:
        body: A request without marks.
        plan: How many places, from the front, and for how long.
        least_tokens: Of the shortest prefix that is cached; what is marked too early is simply not cached.
    """
    turns = body["messages"]
    asked = [at for at, turn in enumerate(turns) if turn["role"] == "user"]
    # A conversation ends with the assistant where it is to go on writing: that end will be another next time.
    now = asked[-1] + 1
    before = asked[-2] + 1 if len(asked) > 1 else 0
    parts = (body.get("tools", ()), body.get("system", ()), _said(turns[:before]), _said(turns[before:now]))
    ttls = (plan.frame_ttl, plan.frame_ttl, plan.said_ttl, plan.said_ttl)
    size = 0
    for blocks, ttl in zip(parts[: plan.places], ttls, strict=False):
        if size < least_tokens:
            size += _tokens(blocks, least_tokens - size)
        if size >= least_tokens:
            mark(blocks, ttl)


def _said(turns: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [block for turn in turns for block in turn["content"]]


def _tokens(blocks: Iterable[Mapping[str, Any]], enough: int) -> int:
    """About how many tokens they have; counted no further than `enough`."""
    tokens = 0
    for block in blocks:
        tokens += sum(map(_size, _parts(block)))
        if tokens >= enough:
            break
    return tokens


def _parts(block: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The block, or what a tool's result consists of."""
    content = block.get("content")
    if isinstance(content, list):
        yield from content
    else:
        yield block


def _size(block: Mapping[str, Any]) -> int:
    return IMAGE_TOKENS if block.get("type") == "image" else len(encode(block)) // BYTES_PER_TOKEN
