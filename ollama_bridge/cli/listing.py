"""Listings for pipes: plain columns."""

import sys
from collections.abc import Sequence

import click


def on_a_terminal() -> bool:
    """Whether somebody looks at what is printed; else a script may read it."""
    return sys.stdout.isatty()


def write_columns(lines: Sequence[Sequence[str]], *, numbers: frozenset[int] = frozenset()) -> None:
    """Print `lines` of as many cells each; `numbers` are the columns that stand to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            cell.rjust(width) if index in numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        click.echo("  ".join(cells).rstrip())
