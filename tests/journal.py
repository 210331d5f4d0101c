"""What the daemon logs, as it would reach a file: every record of every package, through our own set-up."""

import gc
import io
import json
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from ollama_bridge import logs


@dataclass
class Journal:
    """`text` is what was written; it grows while the daemon runs."""

    stream: io.StringIO = field(default_factory=io.StringIO)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def alarming(self) -> list[dict[str, Any]]:
        """What an operator would take for a bug: ERROR and above, or a traceback at any level."""
        return [
            line for line in self.lines if line["level"] in {"error", "critical"} or "Traceback" in str(line)
        ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def journal(
    secrets: Iterable[str] = (), *, json: bool | None = True, terminal: bool = False
) -> Iterator[Journal]:
    """Log everything from DEBUG on into the journal, in any of the log's forms; afterwards logging is as it was."""
    kept = Journal(_Terminal() if terminal else io.StringIO())
    root = logging.getLogger()
    before = (root.handlers, root.level)
    stderr, sys.stderr = sys.stderr, kept.stream
    try:
        logs.configure("debug", json=json, secrets=secrets)
        yield kept
        gc.collect()  # tasks nobody waited for complain when they are collected
    finally:
        sys.stderr = stderr
        root.handlers, level = before
        root.setLevel(level)
        structlog.reset_defaults()
