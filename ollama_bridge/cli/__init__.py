"""`ollama-bridge …`: nouns with `list` as their default, one file per noun, imported when it is used.

Data goes to stdout, all else to stderr. An operator's mistake is one line and exit code 2; a bug keeps its traceback.
"""

import importlib
import os
from collections.abc import Mapping
from typing import Any, Final

import click

from ollama_bridge import __version__
from ollama_bridge.cli.options import config_options
from ollama_bridge.errors import ConfigError

# Looking for plugins of pydantic's among all that is installed would double the time that `models` takes to begin.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

_NOUNS: Final[Mapping[str, str]] = {
    "serve": "ollama_bridge.cli.serve:serve",
    "models": "ollama_bridge.cli.models:models",
    "config": "ollama_bridge.cli.config:config",
    "usage": "ollama_bridge.cli.usage:usage",
}


class Mistake(click.ClickException):
    """The operator's; said in one line."""

    exit_code = 2


class Cli(click.Group):
    """Loads a noun when it is asked for, and says what the operator did wrong in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """In the order a newcomer needs them."""
        return list(_NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """The noun's own module knows it."""
        if cmd_name not in _NOUNS:
            return None
        module, _, name = _NOUNS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as exc:
            raise _in_one_line(exc) from exc

    def invoke(self, ctx: click.Context) -> Any:
        """As click does."""
        try:
            return super().invoke(ctx)
        except ConfigError as exc:
            raise Mistake(str(exc)) from exc
        except click.UsageError as exc:
            raise _in_one_line(exc) from exc


def _in_one_line(exc: click.UsageError) -> click.ClickException:
    if isinstance(exc, click.exceptions.NoArgsIsHelpError):
        return exc  # shows the help, and says no more
    command = exc.ctx.command_path if exc.ctx else "ollama-bridge"
    return Mistake(f"{' '.join(exc.format_message().split())} ('{command} -h' helps)")


@click.group(
    cls=Cli,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@config_options
@click.version_option(__version__, prog_name="ollama-bridge")
def main() -> None:
    """Be Ollama to every IDE and client, and answer from Claude, GPT, Gemini and others.

    \b
        $ ollama-bridge serve
        $ ollama-bridge models
    """
