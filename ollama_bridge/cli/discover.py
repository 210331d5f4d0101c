"""`ollama-bridge models discover`: ask now, say what is new, and what is gone."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import click
import orjson

from ollama_bridge import lists, logs
from ollama_bridge.backends import scrub_environment
from ollama_bridge.backends.lazy import LazyProvider
from ollama_bridge.cli import listing
from ollama_bridge.config import Config
from ollama_bridge.config.file import Source
from ollama_bridge.config.nearest import suggestion
from ollama_bridge.config.offering import LIVE_KINDS, asks, can_answer, shelf_of
from ollama_bridge.discovery import Outcome, ask, keys_of
from ollama_bridge.errors import ConfigError
from ollama_bridge.lists import Lists

_MOST_NAMED = 6
_COLUMNS = ("provider", "state", "models", "offered", "new", "gone", "changed")
_NUMBERS = frozenset({"models", "offered"})


def discover(source: Source, names: Sequence[str], *, as_json: bool) -> int:
    """Ask, keep, tell; the exit code: 1 if somebody did not answer.

    Args:
        source: Where the configuration comes from.
        names: Providers; none: all that are to be asked.
        as_json: One object a line.

    Raises:
        ConfigError: There is no such provider.
    """
    loaded = source.load()
    config = loaded.config
    logs.configure("error", secrets=config.secrets())
    chosen = _chosen(config, names)
    if not chosen:
        click.echo("no provider has a key, or all are told not to be asked (discovery.enabled)", err=True)
    if loaded.lists.fault:
        click.echo(f"note: {loaded.lists.fault}; asked anew", err=True)
    now_s = time.time()
    scrub_environment(keep_proxies=any(provider.proxy for provider in config.providers.values()))
    outcomes = asyncio.run(_ask_all(config, loaded.lists, chosen, now_s))
    unwritten = _kept(source, config, outcomes, now_s)
    offered = _offered(source.load().config, outcomes)
    _print(outcomes, offered, as_json=as_json)
    _explain(outcomes, offered)
    if unwritten:
        click.echo(unwritten, err=True)
    return int(bool(unwritten) or any(outcome.error for outcome in outcomes))


def _kept(source: Source, config: Config, outcomes: Sequence[Outcome], now_s: float) -> str:
    """Keep what was said; why that cannot be, or nothing."""
    kept = [outcome for outcome in outcomes if not _is_live(config, outcome.provider)]
    keys = keys_of(config, [outcome.provider for outcome in kept])
    try:
        if kept:
            shelves = {keys[outcome.provider]: outcome.shelf for outcome in kept}
            lists.write(source.lists_file, shelves, now_s=now_s)
    except OSError as exc:
        return f"{source.lists_file}: cannot be written: {exc.strerror or exc}; nothing was kept"
    return ""


def _explain(outcomes: Sequence[Outcome], offered: Mapping[str, int]) -> None:
    """Beside the table: who said nothing, and what of the others is not offered."""
    for outcome in outcomes:
        if outcome.error:
            click.echo(f"{outcome.shown}", err=True)
        elif outcome.shelf.absent:
            click.echo(f"{outcome.provider}: has no list of models; `models add` names them", err=True)
    if any(offered[outcome.provider] < len(outcome.shelf.models) for outcome in outcomes):
        click.echo(
            "`models --all` lists those that are not offered, `models enable` or providers.NAME.include shows them",
            err=True,
        )


async def _ask_all(config: Config, known: Lists, names: Sequence[str], now_s: float) -> list[Outcome]:
    async def one(name: str) -> Outcome:
        provider = LazyProvider(config.providers[name].settings(name))
        click.echo(f"asking {name} …", err=True)
        try:
            return await ask(config, name, provider, shelf_of(config, known, name), now_s=now_s)
        finally:
            await provider.aclose()

    return list(await asyncio.gather(*map(one, names)))


def _chosen(config: Config, names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in config.providers:
            raise ConfigError(f"no provider is called '{name}'{suggestion(name, list(config.providers))}")
    return list(dict.fromkeys(names)) or [
        name
        for name in config.providers
        if asks(config, name) or (_is_live(config, name) and name != "demo" and can_answer(config, name))
    ]


def _is_live(config: Config, name: str) -> bool:
    return (config.providers[name].kind or name) in LIVE_KINDS


def _offered(config: Config, outcomes: Sequence[Outcome]) -> Mapping[str, int]:
    """How many models of each provider clients see, now that it is known what they have."""
    live = {one.provider: len(one.shelf.models) for one in outcomes if _is_live(config, one.provider)}
    return Counter(live) + Counter(model.backend for model in config.models if model.enabled)


def _row(outcome: Outcome, offered: int) -> dict[str, Any]:
    state = "failed" if outcome.error else "no list" if outcome.shelf.absent else "ok"
    row: dict[str, Any] = {"provider": outcome.provider, "state": state, "models": len(outcome.shelf.models)}
    row |= {"offered": offered, "new": outcome.new, "gone": outcome.gone, "changed": outcome.changed}
    return row | ({"error": outcome.shown} if outcome.error else {})


def _print(outcomes: Sequence[Outcome], offered: Mapping[str, int], *, as_json: bool) -> None:
    rows = [_row(outcome, offered[outcome.provider]) for outcome in outcomes]
    if as_json:
        for row in rows:
            click.echo(orjson.dumps(row))
        return
    cells = [
        [_cell(column, row[column], outcome) for column in _COLUMNS]
        for row, outcome in zip(rows, outcomes, strict=True)
    ]
    if not rows:
        return
    if not listing.on_a_terminal():
        numbers = frozenset(index for index, column in enumerate(_COLUMNS) if column in _NUMBERS)
        listing.write_columns([_COLUMNS, *cells], numbers=numbers)
        return
    from rich.console import Console  # noqa: PLC0415 - 0.1 s that a script need not pay
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        table.add_column(column, overflow="fold", justify="right" if column in _NUMBERS else "left")
    for line in cells:
        table.add_row(*map(Text, line))
    Console().print(table)


def _cell(column: str, value: object, outcome: Outcome) -> str:
    if not isinstance(value, list):
        return str(value)
    if column == "new" and len(value) > _MOST_NAMED and not outcome.before.asked_s:
        return "all"
    more = f", and {len(value) - _MOST_NAMED} more" if len(value) > _MOST_NAMED else ""
    return ", ".join(value[:_MOST_NAMED]) + more if value else "-"
