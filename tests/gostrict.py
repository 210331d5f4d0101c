"""Ollama's Go client as a reader: what it stumbles over in a native reply is an error here (`ollama-api.md` §8.1)."""

import json
import re
from typing import Any

from running import Got

LONGEST_LINE = 8_000_000
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?(Z|[+-]\d\d:\d\d)")
DURATIONS = {"total_duration", "load_duration", "prompt_eval_duration", "eval_duration"}
COUNTS = {
    "prompt_eval_count",
    "eval_count",
    "size",
    "size_vram",
    "context_length",
    "embedding_length",
    "index",
}
NULLABLE = {"families"}
"""Everything else is left out where there is none. In `model_info` the long arrays are null as well."""


def read(got: Got) -> list[dict[str, Any]]:
    """The objects of a reply, line by line, each of them checked; the last of a stream may be an error."""
    text = got.body.decode()  # strictly UTF-8
    assert "\r" not in text
    if got.headers["Content-Type"] == "application/x-ndjson":
        assert text.endswith("\n")
        lines = text[:-1].split("\n")
    else:
        assert "\n" not in text
        lines = [text]
    assert all(lines), "a blank line ends the client's reading"
    assert all(len(line.encode()) <= LONGEST_LINE for line in lines)
    objects = [json.loads(line, object_pairs_hook=_unique, parse_constant=_no_number) for line in lines]
    for one in objects:
        assert type(one) is dict
        assert isinstance(one.get("error", "text"), str)
        _check(one)
    return objects


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    assert len(found) == len(pairs), "a key twice"
    return found


def _no_number(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def _check(value: Any, key: str = "") -> None:
    if key.endswith("_at"):
        assert TIME.fullmatch(value), value
    elif key in DURATIONS:
        assert type(value) is int
        assert value > 0, "Go leaves a zero out"
    elif key in COUNTS:
        assert type(value) is int
    elif key == "digest":
        assert re.fullmatch(r"(sha256:)?[0-9a-f]{64}", value), "the client prints its first twelve"
    elif key in {"arguments", "model_info"}:
        assert type(value) is dict
        return
    assert value is not None or key in NULLABLE, key
    if isinstance(value, dict):
        for name, item in value.items():
            _check(item, name)
    elif isinstance(value, list):
        for item in value:
            _check(item)
