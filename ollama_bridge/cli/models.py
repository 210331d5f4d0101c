"""`ollama-bridge models …`: which models clients can ask for, and who answers."""

from collections.abc import Sequence
from typing import Any

import click
import orjson

from ollama_bridge.catalog import Model, ModelConfig
from ollama_bridge.cli import listing
from ollama_bridge.cli.options import config_options, source
from ollama_bridge.cli.terms import learned, listed, said_by, terms, thinks
from ollama_bridge.config.file import find
from ollama_bridge.config.offering import live_providers
from ollama_bridge.errors import ConfigError
from ollama_bridge.lessons import forget, learned_path

_COLUMNS = ("name", "backend", "backend_model", "context_length", "max_tokens", "capabilities", "aliases")

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
names_argument = click.argument("names", nargs=-1, required=True, metavar="NAME…")


@click.group(invoke_without_command=True)
@config_options
@json_option
@click.option("--all", "show_all", is_flag=True, help="Disabled models too.")
@click.pass_context
def models(ctx: click.Context, as_json: bool, show_all: bool) -> None:
    """List the models clients can ask for, and who answers.

    \b
        $ ollama-bridge models
        $ ollama-bridge models --json | jq -r .name
    """
    if ctx.invoked_subcommand is None:
        _list(ctx, as_json=as_json, show_all=show_all)


@models.command("list")
@config_options
@json_option
@click.option("--all", "show_all", is_flag=True, help="Disabled models too.")
@click.pass_context
def list_models(ctx: click.Context, as_json: bool, show_all: bool) -> None:
    """The same as `models` alone.

    \b
        $ ollama-bridge models list --all
    """
    _list(ctx, as_json=as_json, show_all=show_all)


@models.command("show")
@click.argument("name")
@config_options
@json_option
@click.pass_context
def show_model(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show all that is known about a model.

    \b
        $ ollama-bridge models show demo
    """
    loaded = source(ctx).load(hidden=True)
    config = loaded.config
    index, _ = find(config, name)
    model = config.completed()[index]
    sources = said_by(loaded, index, model)
    facts = {**_facts(model), **thinks(model), **terms(config, model), **listed(loaded, model)}
    facts["learned"] = learned(model)
    if as_json:
        click.echo(orjson.dumps({**facts, "sources": sources}))
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        said = f"  ({sources[key]})" if key in sources else ""
        click.echo(f"{key:{width}}  {_cell(value)}{said}".rstrip())


@models.command("enable")
@names_argument
@config_options
@click.pass_context
def enable_models(ctx: click.Context, names: Sequence[str]) -> None:
    """Show models to clients again; a running daemon follows within a second.

    \b
        $ ollama-bridge models enable demo
    """
    _switch(ctx, names, enabled=True)


@models.command("disable")
@names_argument
@config_options
@click.pass_context
def disable_models(ctx: click.Context, names: Sequence[str]) -> None:
    """Hide models from clients; a running daemon follows within a second.

    \b
        $ ollama-bridge models disable demo
    """
    _switch(ctx, names, enabled=False)


@models.command("discover")
@click.argument("providers", nargs=-1, metavar="[PROVIDER…]")
@config_options
@json_option
@click.pass_context
def discover_models(ctx: click.Context, providers: Sequence[str], as_json: bool) -> None:
    """Ask providers which models they have, and keep what they say; a running daemon follows within a second.

    \b
        $ ollama-bridge models discover
        $ ollama-bridge models discover --json | jq -r '.new[]'
    """
    from ollama_bridge.cli.discover import discover  # noqa: PLC0415 - it asks, which takes an event loop

    ctx.exit(discover(source(ctx), providers, as_json=as_json))


@models.command("add")
@click.argument("name")
@config_options
@click.option("--backend", required=True, help="Who answers: a key of 'providers' in the configuration.")
@click.option("--backend-model", help="The model as the provider knows it; default: NAME.")
@click.option("--display-name", help="For people.")
@click.option("--family")
@click.option("--description")
@click.option("--context-length", type=click.IntRange(1), help="Tokens of prompt and answer together.")
@click.option("--max-tokens", type=click.IntRange(1), help="Most tokens of an answer.")
@click.option(
    "--capability", "capabilities", multiple=True, help="tools, vision, thinking, …; may be repeated."
)
@click.option("--alias", "aliases", multiple=True, help="Another name for it; may be repeated.")
@click.pass_context
def add_model(ctx: click.Context, /, **entry: Any) -> None:
    """Add a model to the configuration file.

    \b
        $ ollama-bridge models add fast --backend demo --alias quick
    """
    from ollama_bridge.config import edit  # noqa: PLC0415 - only those who write need it

    where = source(ctx)
    # click hands options over in the order they were typed; the file has them in the schema's.
    edit.add_model(where, {key: entry[key] for key in ModelConfig.model_fields if entry.get(key)})
    click.echo(f"added '{entry['name']}' to {where.path}", err=True)


@models.command("alias")
@click.argument("name")
@click.argument("alias")
@config_options
@click.pass_context
def alias_model(ctx: click.Context, name: str, alias: str) -> None:
    """Let a model answer to one more name.

    \b
        $ ollama-bridge models alias demo gpt-4
    """
    from ollama_bridge.config import edit  # noqa: PLC0415 - only those who write need it

    edit.add_alias(source(ctx), name, alias)
    click.echo(f"'{alias}' is '{name}' now", err=True)


@models.command("remove")
@names_argument
@config_options
@click.pass_context
def remove_models(ctx: click.Context, names: Sequence[str]) -> None:
    """Take models out of the configuration file: those that 'add', or a client's 'create' and 'cp', put there.

    \b
        $ ollama-bridge models remove fast
    """
    from ollama_bridge.config import edit  # noqa: PLC0415 - only those who write need it

    where = source(ctx)
    edit.remove_models(where, names)
    click.echo(f"removed from {where.path}: {', '.join(names)}", err=True)


@models.command("forget")
@names_argument
@config_options
@click.pass_context
def forget_learned(ctx: click.Context, names: Sequence[str]) -> None:
    """Forget what a provider's refusals taught about models; a running daemon follows within a few seconds.

    \b
        $ ollama-bridge models forget demo
    """
    config = source(ctx).load().config
    known = config.completed()
    targets = [known[find(config, name)[0]].target for name in names]
    path = learned_path()
    try:
        gone = forget(path, [(target.provider, target.model) for target in targets])
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be written: {exc.strerror or exc}; nothing was forgotten") from exc
    click.echo(f"forgotten: {gone} {'repair' if gone == 1 else 'repairs'} of {', '.join(names)}", err=True)


def _switch(ctx: click.Context, names: Sequence[str], *, enabled: bool) -> None:
    from ollama_bridge.config import edit  # noqa: PLC0415 - only those who write need it

    edit.set_enabled(source(ctx), names, enabled=enabled)
    click.echo(f"{'enabled' if enabled else 'disabled'}: {', '.join(names)}", err=True)


def _list(ctx: click.Context, *, as_json: bool, show_all: bool) -> None:
    config = source(ctx).load(hidden=show_all).config
    rows = [_facts(model) for model in config.completed() if model.config.enabled or show_all]
    if as_json:
        for row in rows:
            click.echo(orjson.dumps(row))
    elif listing.on_a_terminal():
        _print_table(rows)
    else:
        listing.write_columns([_COLUMNS, *([_cell(row[column]) for column in _COLUMNS] for row in rows)])
    if not rows:
        click.echo("no model is enabled; 'ollama-bridge models --all' shows the others", err=True)
    if live := ", ".join(live_providers(config)):
        click.echo(
            f"clients also see what {live} has just now: 'ollama-bridge models discover' asks", err=True
        )


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - 0.1 s that a script need not pay
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    # Columns that would say nothing are left out, so that the others fit into a narrow terminal.
    plain = {
        "aliases": not any(row["aliases"] for row in rows),
        "backend_model": all(row["backend_model"] == row["name"].removesuffix(":latest") for row in rows),
    }
    columns = [column for column in _COLUMNS if not plain.get(column)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        number = column in {"context_length", "max_tokens"}
        table.add_column(
            column.replace("_", " "),
            justify="right" if number else "left",
            overflow="fold",
            max_width=9 if number else None,
            no_wrap=column in {"name", "backend"},
        )
    for row in rows:
        # Text, not str: names may hold what rich takes for markup. That a model completes goes without saying.
        cells = [
            Text(_cell(row[column]).removeprefix("completion,").replace(",", ", ")) for column in columns
        ]
        table.add_row(*cells, style="" if row["enabled"] else "dim strike")
    Console().print(table)


def _facts(model: Model) -> dict[str, Any]:
    """What lists and `--json` say; keys as in the configuration file."""
    return {
        "name": model.name,
        "display_name": model.display_name,
        "backend": model.target.provider,
        "backend_model": model.target.model,
        "family": model.family,
        "description": model.config.description,
        "context_length": model.context_length,
        "max_tokens": model.max_output_tokens,
        "capabilities": model.capabilities,
        "enabled": model.config.enabled,
        "aliases": model.config.aliases,
        "from": model.preset.parent,
    }


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(one)}" for key, one in value.items())
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value)
