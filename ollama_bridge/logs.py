"""How the daemon's log looks: one line an event, to stderr, and never a key in it.

On a terminal the lines are for eyes; elsewhere they are `key=value` (systemd, a file) or JSON; the journal has a
clock of its own. What other packages
log through the standard library comes out the same way, but only from WARNING on: at INFO they tell of every
request, and at DEBUG of what is in it.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from ollama_bridge.config import LogLevel
from ollama_bridge.masking import masker

QUIET: Final = ("anthropic", "openai", "google_genai", "httpx2", "httpcore2", "aiohttp.access", "asyncio")
"""Loggers of other packages that say nothing below WARNING, whatever our own level is."""

_DEEPEST: Final = 8


def configure(
    level: LogLevel, *, json: bool | None = None, secrets: Iterable[str] = (), worker: str = ""
) -> None:
    """Set up logging; may be called again, and then replaces what was set up before.

    Args:
        level: The lowest level of our own events that is shown.
        json: JSON lines; None: lines for eyes on a terminal, `key=value` elsewhere.
        secrets: Values that must not appear, beside all that looks like a key.
        worker: Which of several processes this is; empty: there is one.
    """
    early: list[Processor] = [
        *([_of(worker)] if worker else ()),
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *early,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # loggers made before a second call must follow it
    )
    handler = _Stderr(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=early,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,
                _masking(masker(secrets)),  # behind the traceback's rendering, for it may quote a key
                *_renderers(json),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Stderr(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the standard library's name
        """Name what went wrong and no more; the standard handler prints the event as it came, keys and all."""
        with suppress(Exception):
            self.stream.write(f"an event of {record.name} could not be logged: {sys.exc_info()[0]!r}\n")


def _renderers(json: bool | None) -> list[Processor]:
    utc = structlog.processors.TimeStamper(fmt="iso", utc=True)
    if json:
        return [utc, structlog.processors.JSONRenderer()]
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer(
            exception_formatter=structlog.dev.plain_traceback, pad_event_to=0, sort_keys=False
        )
        return [structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False), _without_logger, renderer]
    stamped: list[Processor] = [] if "JOURNAL_STREAM" in os.environ else [utc]
    first = ["timestamp", "level", "event"]
    return [
        *stamped,
        _as_words,
        structlog.processors.LogfmtRenderer(key_order=first, drop_missing=True, bool_as_flag=False),
    ]


def _of(worker: str) -> Processor:
    def process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["worker"] = worker
        return event

    return process


def _without_logger(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """For eyes the event says enough."""
    event.pop("logger", None)
    return event


def _as_words(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Values and keys that `key=value` can hold: one line, no spaces in a key."""
    return {
        "_".join(str(key).split()).replace("=", "_") or "_": value if isinstance(value, bool) else str(value)
        for key, value in event.items()
    }


def _masking(mask: Callable[[str], str]) -> Processor:
    def clean(value: Any, depth: int = 0) -> Any:
        if isinstance(value, str):
            return mask(value)
        if isinstance(value, bool | int | float) or value is None:
            return value
        if isinstance(value, dict) and depth < _DEEPEST:
            return {clean(str(key)): clean(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
            return [clean(item, depth + 1) for item in value]
        return mask(str(value))

    def process(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return {key: clean(value) for key, value in event.items()}

    return process
