"""Options that every command takes, before or behind the noun, and what they amount to."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from ollama_bridge.config.file import Flags, Source

F = TypeVar("F", bound=Callable[..., Any])

_META: Final = "ollama_bridge.options."


def config_options(command: F) -> F:
    """Add `--config` and `--env-file`; `source` finds what they were given, on whichever level."""
    file = click.Path(dir_okay=False, path_type=Path)
    for flag, variable, text in (
        (
            "--env-file",
            "env_file",
            "Environment values for names that are not set; default: .env beside the file.",
        ),
        ("--config", "config", "The configuration file; default: see 'ollama-bridge config path'."),
    ):
        option = click.option(flag, variable, type=file, expose_value=False, callback=_remember, help=text)
        command = option(command)
    return command


def source(ctx: click.Context, flags: "Flags | None" = None) -> "Source":
    """Where this command's configuration comes from.

    Args:
        ctx: The command's context.
        flags: What the command's own options say.
    """
    from ollama_bridge.config.file import Source, default_path  # noqa: PLC0415 - `--version` must not wait for it

    path: Path | None = ctx.meta.get(_META + "config")
    env_file: Path | None = ctx.meta.get(_META + "env_file")
    return Source(path or default_path(), required=path is not None, env_file=env_file, flags=flags or {})


def chosen(ctx: click.Context) -> list[str]:
    """What these options were given, as another process would be given it."""
    given = {"--config": ctx.meta.get(_META + "config"), "--env-file": ctx.meta.get(_META + "env_file")}
    return [word for flag, path in given.items() if path is not None for word in (flag, str(path))]


def _remember(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    # `meta` is shared by a command and the group it is in; what stands nearest to the command's end wins.
    if value is not None:
        ctx.meta[_META + str(param.name)] = value
