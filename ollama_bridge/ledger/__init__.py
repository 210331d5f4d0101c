"""The ledger: one row for each call, who asked what of whom, tokens, money and times; never what was said.

table    the columns, and what tells a ledger from any other database
writer   an observer of calls that writes the rows
totals   what the rows add up to
"""

from pathlib import Path

from platformdirs import user_state_path


def ledger_path() -> Path:
    """Where the daemons of this user write, and the command line reads."""
    return user_state_path("ollama-bridge") / "ledger.sqlite3"
