"""The one table of the ledger, and what tells a ledger from any other database."""

from typing import Final, TypeAlias

from ollama_bridge.record import CallRecord

Row: TypeAlias = tuple[str | int | float | None, ...]

VERSION: Final = 1
"""Of the schema, in the file's `user_version`."""

_COLUMNS: Final = {
    "time": "REAL",  # when it began, in seconds since the epoch
    "request_id": "TEXT",
    "surface": "TEXT",
    "client": "TEXT",
    "key": "TEXT",
    "asked": "TEXT",
    "model": "TEXT",
    "provider": "TEXT",
    "target": "TEXT",
    "attempts": "INTEGER",
    "input_tokens": "INTEGER",
    "output_tokens": "INTEGER",
    "cached_read_tokens": "INTEGER",
    "cached_write_tokens": "INTEGER",
    "reasoning_tokens": "INTEGER",
    "cost_nusd": "INTEGER",
    "saved_nusd": "INTEGER",
    "is_estimated": "INTEGER",
    "first_ms": "REAL",
    "total_ms": "REAL",
    "outcome": "TEXT",
    "cached": "TEXT",
}
"""Names and types; what they mean is said by `record.CallRecord`, tokens and money being those of all its charges."""

_MOST: Final = 2**53
"""What a provider says may be any number; SQLite holds 64 bits, and adds up no more than that."""

_MAY_BE_UNKNOWN: Final = frozenset({"cost_nusd", "first_ms"})

_DEFINITIONS: Final = ", ".join(
    f"{name} {kind}" + ("" if name in _MAY_BE_UNKNOWN else " NOT NULL") for name, kind in _COLUMNS.items()
)

SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS call (id INTEGER PRIMARY KEY, {_DEFINITIONS});
CREATE INDEX IF NOT EXISTS call_time ON call (time)
"""

INSERT: Final = f"INSERT INTO call ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - the names above


def row_of(record: CallRecord) -> Row:
    """What is kept of a call, in the order of the columns."""
    usage = record.usage
    return (
        record.began_s,
        record.request_id,
        record.surface,
        record.client,
        record.key,
        record.asked,
        record.model,
        record.provider,
        record.target,
        record.attempts,
        min(usage.input_tokens, _MOST),
        min(usage.output_tokens, _MOST),
        min(usage.cached_read_tokens, _MOST),
        min(usage.cached_write_tokens, _MOST),
        min(usage.reasoning_tokens, _MOST),
        None if record.cost_nusd is None else min(record.cost_nusd, _MOST),
        max(-_MOST, min(record.saved_nusd, _MOST)),
        record.is_estimated,
        record.first_ms,
        record.total_ms,
        record.outcome,
        record.cached,
    )
