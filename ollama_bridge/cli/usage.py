"""`ollama-bridge usage`: what the calls of the last weeks took, from the ledger."""

import csv
import json
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import date, datetime, timedelta
from typing import Any, Final

import click

from ollama_bridge.cli import listing
from ollama_bridge.cli.options import config_options
from ollama_bridge.errors import ConfigError
from ollama_bridge.ledger import ledger_path
from ollama_bridge.ledger.totals import GROUPS, Totals, UnreadableLedger, totals

_UNITS_S: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_AGO: Final = re.compile(r"(\d{1,6})([mhdw])\Z")
_NUSD_PER_USD: Final = 1e9  # `allowances` would load pydantic, which takes longer than all of this

_SPARED: Final = ("first_ms", "saved_usd", "cached", "input", "output", "calls")
"""What a narrow terminal goes without, in this order: half a number would be a wrong one."""

_GAP: Final = 2
_NAME: Final = 12
"""Characters between columns, and of names at least: longer ones may be folded."""

_SHOWN: Final = {
    "calls": "calls",
    "input": "input_tokens",
    "output": "output_tokens",
    "cached": "cached_read_tokens",
    "cost_usd": "cost_nusd",
    "saved_usd": "saved_nusd",
    "first_ms": "first_ms",
}
"""Columns for eyes: tokens, dollars, and milliseconds until the first event (the median)."""


class Moment(click.ParamType[float]):
    """A point in time, in seconds since the epoch: `7d` ago, a day, or a day with a time, in the local zone.

    Args:
        ends_day: Whether a day alone means its end.
    """

    name = "time"

    def __init__(self, *, ends_day: bool = False) -> None:
        self._ends_day = ends_day

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        if ago := _AGO.match(text):
            return time.time() - int(ago[1]) * _UNITS_S[ago[2]]
        try:
            if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
                day = date.fromisoformat(text) + timedelta(days=self._ends_day)
                return datetime(day.year, day.month, day.day).timestamp()  # noqa: DTZ001 - the local zone is meant
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(f"'{text}' is no time such as 7d, 24h, 2026-11-01 or 2026-11-01T08:30", param, ctx)


@click.command()
@click.option(
    "--by",
    type=click.Choice(list(GROUPS)),
    multiple=True,
    default=("day", "model"),
    help="What to add up by; may be repeated. Default: day and model.",
)
@click.option(
    "--since", type=Moment(), default="30d", help="30m, 24h, 7d or 2w ago, or 2026-11-01; default: 30d."
)
@click.option(
    "--until",
    type=Moment(ends_day=True),
    default=math.inf,
    help="The same; a day is included. Default: now.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
@click.option("--csv", "as_csv", is_flag=True, help="For spreadsheets.")
@config_options
def usage(by: Sequence[str], since: float, until: float, as_json: bool, as_csv: bool) -> None:
    """Add up calls, tokens and money; days are those of the local time zone.

    \b
        $ ollama-bridge usage
        $ ollama-bridge usage --by client --since 7d
        $ ollama-bridge usage --by day --json | jq .cost_usd
    """
    if as_json and as_csv:
        raise click.UsageError("either --json or --csv")
    path = ledger_path()
    by = tuple(dict.fromkeys(by))
    try:
        found = totals(path, by, since_s=since, until_s=until) if path.exists() else []
    except UnreadableLedger as exc:
        raise ConfigError(str(exc)) from exc
    if as_json:
        for row in found:
            click.echo(json.dumps(_facts(by, row), ensure_ascii=False))
    elif as_csv:
        sheet = csv.writer(sys.stdout, lineterminator="\n")
        sheet.writerow([*by, *(_dollars_instead(each.name) for each in fields(Totals)[1:])])
        sheet.writerows([*_facts(by, row).values()] for row in found)
    elif found and listing.on_a_terminal():
        _print_table(by, [*found, *totals(path, (), since_s=since, until_s=until)])
    elif found:
        lines = [(*by, *_SHOWN), *([*_names(row), *_numbers(row)] for row in found)]
        listing.write_columns(lines, numbers=frozenset(range(len(by), len(by) + len(_SHOWN))))
    if not path.exists():
        click.echo(f"no calls yet: 'ollama-bridge serve' will note them in {path}", err=True)
    elif not found:
        click.echo("no calls in that time; --since reaches further back", err=True)


def _facts(by: Sequence[str], row: Totals) -> dict[str, object]:
    """What scripts read: all there is, money in dollars."""
    said: dict[str, object] = dict(zip(by, row.group, strict=True))
    for each in fields(Totals)[1:]:
        value = getattr(row, each.name)
        if each.name.endswith("_nusd") and value is not None:
            value /= _NUSD_PER_USD
        elif each.name.endswith("_ms") and value is not None:
            value = round(value, 1)
        said[_dollars_instead(each.name)] = value
    return said


def _dollars_instead(name: str) -> str:
    return name.replace("_nusd", "_usd")


def _names(row: Totals) -> list[str]:
    return [name or "-" for name in row.group]


def _numbers(row: Totals, thousands: str = "") -> list[str]:
    """Cells of the columns for eyes. A `+` behind money: the price of some calls is not known."""
    cells = []
    for attribute in _SHOWN.values():
        value = getattr(row, attribute)
        if value is None:
            cells.append("-")
        elif attribute.endswith("_nusd"):
            more = "+" if attribute == "cost_nusd" and row.unpriced else ""
            cells.append(f"{value / _NUSD_PER_USD:{thousands}.4f}{more}")
        else:
            cells.append(f"{value:{thousands}.0f}")
    return cells


def _print_table(by: Sequence[str], rows: Sequence[Totals]) -> None:
    from rich.console import Console  # noqa: PLC0415 - 0.1 s that a script need not pay
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    names = [_names(row) or ["all", *[""] * (len(by) - 1)] for row in rows]
    numbers = [dict(zip(_SHOWN, _numbers(row, ","), strict=True)) for row in rows]
    widths = {name: max(len(name), *(len(row[name]) for row in numbers)) for name in _SHOWN}
    folded = [min(max(map(len, column)), _NAME) for column in zip(by, *names, strict=True)]
    shown = _fitting(widths, console.width - sum(folded) - _GAP * len(by))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, width in zip(by, folded, strict=True):
        table.add_column(name, overflow="fold", no_wrap=name == "day", min_width=width)
    for name in shown:
        heading = name.replace("_usd", " USD").replace("_", " ")
        table.add_column(heading, justify="right", no_wrap=True, min_width=widths[name])
    for row, named, numbered in zip(rows, names, numbers, strict=True):
        # Text, not str: names may hold what rich takes for markup.
        table.add_row(
            *map(Text, [*named, *(numbered[name] for name in shown)]), style="" if row.group else "bold"
        )
    console.print(table)


def _fitting(widths: Mapping[str, int], left: int) -> list[str]:
    """The columns of numbers for which there is room."""
    shown = list(widths)
    for name in _SPARED:
        if sum(widths[one] + _GAP for one in shown) - _GAP <= left:
            break
        shown.remove(name)
    return shown
