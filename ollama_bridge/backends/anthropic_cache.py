"""Where Claude's prompt cache is to end: `cache_control` marks, as the client set them.

https://platform.claude.com/docs/en/build-with-claude/prompt-caching
"""

from collections.abc import Sequence
from typing import Any, Final

from ollama_bridge.chat import CacheTtl

MOST: Final = 4
"""Marks in one request; a fifth is a 400."""

_UNMARKED: Final = frozenset({"thinking", "redacted_thinking"})
"""Kinds of blocks that take none."""


def mark(blocks: Sequence[dict[str, Any]], ttl: CacheTtl) -> None:
    """Let what is cached end with the last of `blocks`, if `ttl` says anything."""
    if not ttl:
        return
    for block in reversed(blocks):
        if block.get("type") not in _UNMARKED:
            block["cache_control"] = {"type": "ephemeral", **({"ttl": ttl} if ttl == "1h" else {})}
            return


def keep_within_limits(body: dict[str, Any]) -> None:
    """Keep the last `MOST` marks, which hold the longest prefixes, and no longer life behind a shorter one."""
    said = (block for turn in body["messages"] for block in turn["content"])
    blocks = (*body.get("tools", ()), *body.get("system", ()), *said)
    marked = [block for block in blocks if "cache_control" in block]
    for block in marked[:-MOST]:
        del block["cache_control"]
    shorter = False
    for block in marked[-MOST:]:
        if shorter:
            block["cache_control"].pop("ttl", None)
        shorter = "ttl" not in block["cache_control"]
