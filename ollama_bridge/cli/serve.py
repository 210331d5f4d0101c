"""`ollama-bridge serve`."""

import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final, cast

import click

from ollama_bridge.cli.options import chosen, config_options, source

if TYPE_CHECKING:
    from ollama_bridge.config import Config
    from ollama_bridge.config.file import Flags
    from ollama_bridge.config.making import Change

_PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "host": ("server", "host"),
    "port": ("server", "port"),
    "insecure": ("server", "insecure"),
    "log_level": ("log_level",),
    "chunk_size": ("streaming", "chunk_size"),
    "delay_ms": ("streaming", "delay_ms"),
}


@click.command()
@click.option("--host", help="Name or address to listen on; 0.0.0.0 for every network.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Default: 11434, where clients look for Ollama.")
@config_options
@click.option(
    "--insecure", is_flag=True, default=None, help="Let other machines in without a key, with --host."
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False))
@click.option("--chunk-size", type=click.IntRange(0), help="Words a line; 0: as they arrive.")
@click.option("--delay-ms", type=click.IntRange(0, 60_000), help="Milliseconds between lines.")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, help="Processes that share the port; default: 1."
)
@click.pass_context
def serve(ctx: click.Context, /, **given: object) -> None:
    """Answer clients until told to stop.

    Changes of the configuration file take effect at once; a bad one changes nothing.

    \b
        $ ollama-bridge serve
        $ ANTHROPIC_API_KEY=… ollama-bridge serve --port 11500
        $ ollama-bridge serve --workers 4
    """
    worker = os.environ.pop("OLLAMA_BRIDGE_WORKER", "")  # as `workers` sets it
    if given["workers"] != 1 and not worker:
        ctx.exit(_supervise(ctx, given))
    gc.disable()  # there is nothing to collect in what is imported; the daemon turns it on when that is done
    where = source(ctx, _flags(given))
    where.load()  # before anything heavy is imported: a mistake is told at once

    # structlog would import it to draw tracebacks as we never draw them, which takes a tenth of a second.
    sys.modules.setdefault("rich", cast("ModuleType", None))
    from ollama_bridge import daemon, logs  # noqa: PLC0415 - an HTTP server, which no other command needs

    def load() -> "Config":
        config = where.load().config
        logs.configure(config.log_level, secrets=config.secrets(), worker=Path(worker).stem)
        return config

    def change(wanted: "Change") -> None:
        from ollama_bridge.config import edit  # noqa: PLC0415 - most daemons never write

        edit.apply(where, wanted)

    daemon.serve(load, where.files, change, Path(worker) if worker else None, where.lists_file)


def _flags(given: Mapping[str, object]) -> "Flags":
    return {
        place: (f"--{name.replace('_', '-')}", given[name])
        for name, place in _PLACES.items()
        if given[name] is not None
    }


def _supervise(ctx: click.Context, given: Mapping[str, object]) -> int:
    """Start workers with the same flags and the same environment, and stay with them."""
    config = source(ctx, _flags(given)).load().config
    from ollama_bridge import logs, workers  # noqa: PLC0415 - as above

    logs.configure(config.log_level, secrets=config.secrets())
    arguments = ["serve", *chosen(ctx)]
    for name in _PLACES.keys() - {"port"}:
        if given[name] is not None:
            flag = f"--{name.replace('_', '-')}"
            arguments += [flag] if given[name] is True else [flag, str(given[name])]
    count = cast("int", given["workers"])
    return workers.supervise(arguments, count, config)
