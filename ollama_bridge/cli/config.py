"""`ollama-bridge config …`: what is set, where it came from, and a file to start with."""

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import click
import orjson
from pydantic import BaseModel

from ollama_bridge.backends.vendors import VENDORS
from ollama_bridge.cli.options import config_options, source
from ollama_bridge.cli.terms import unpayable
from ollama_bridge.config import API_KEY_VARIABLES, Config, KeyPath
from ollama_bridge.config.faults import dotted
from ollama_bridge.config.file import Loaded
from ollama_bridge.config.instead import unanswered
from ollama_bridge.config.offering import asks, can_answer
from ollama_bridge.config.schema import ENTRY_VARIABLES
from ollama_bridge.errors import ConfigError
from ollama_bridge.masking import MASK, mask


@click.group(invoke_without_command=True)
@config_options
@click.pass_context
def config(ctx: click.Context) -> None:
    """Show, check or begin the configuration.

    \b
        $ ollama-bridge config
        $ ollama-bridge config check
    """
    if ctx.invoked_subcommand is None:
        _show(source(ctx).load(), with_origin=False, as_json=False)


@config.command("show")
@config_options
@click.option("--origin", is_flag=True, help="Where each value came from.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
@click.pass_context
def show(ctx: click.Context, origin: bool, as_json: bool) -> None:
    """Print every value in force, keys masked.

    \b
        $ ollama-bridge config show --origin
        $ ollama-bridge config show --json | jq -r .key
    """
    _show(source(ctx).load(), with_origin=origin, as_json=as_json)


@config.command("path")
@config_options
@click.pass_context
def path(ctx: click.Context) -> None:
    """Print where the configuration file is, or would be.

    \b
        $ ollama-bridge config path
    """
    click.echo(source(ctx).path)


@config.command("check")
@config_options
@click.pass_context
def check(ctx: click.Context) -> None:
    """Say whether `serve` would accept the configuration: exit code 0 or 2.

    \b
        $ ollama-bridge config check
    """
    where = source(ctx)
    found = where.load()
    loaded = found.config
    loaded.check_served()
    for note in (*_half(found), *_strange_keys(loaded), *_notes(loaded), *unanswered(loaded, found.lists)):
        click.echo(f"note: {note}", err=True)
    shown = sum(model.enabled for model in loaded.models)
    what = where.path if where.text() is not None else f"{where.path} does not exist, which"
    click.echo(
        f"{what} is fine: {shown} model{'' if shown == 1 else 's'} of {', '.join(loaded.providers)}", err=True
    )


@config.command("init")
@config_options
@click.option("--force", is_flag=True, help="Replace the file that is there.")
@click.pass_context
def init(ctx: click.Context, force: bool) -> None:
    """Write a commented example to start with.

    \b
        $ ollama-bridge config init
    """
    from ollama_bridge.config import edit  # noqa: PLC0415 - only those who write need it
    from ollama_bridge.config.example import EXAMPLE  # noqa: PLC0415

    where = source(ctx)
    if not force and where.path.exists():
        raise ConfigError(f"{where.path} is there already; --force replaces it")
    edit.write(where.path, EXAMPLE)
    click.echo(f"wrote {where.path}", err=True)


def _without_password(url: str) -> str:
    """A Redis may also have it behind the question mark."""
    parts = urlsplit(url)
    user, sign, where = parts.netloc.rpartition("@")
    name = user.partition(":")[0] + (f":{MASK}" if ":" in user else "")
    return parts._replace(netloc=f"{name}{sign}{where}", query=MASK if parts.query else "").geturl()


_KEYS_BEGIN: Final[Mapping[str, str]] = {
    "sk-ant-": "anthropic",
    "sk-or-": "openrouter",
    "gsk_": "groq",
    "xai-": "xai",
    "AIza": "google",
    "pplx-": "perplexity",
    "hf_": "huggingface",
    "nvapi-": "nvidia",
    "csk-": "cerebras",
}
"""What the keys of some begin with: Groq's and Grok's, above all, are easily taken for each other's."""


def _strange_keys(loaded: Config) -> Iterator[str]:
    """Keys that look like another provider's; at an address of its own a provider may take whichever it likes."""
    for name, provider in loaded.providers.items():
        kind = provider.kind or name
        if kind not in API_KEY_VARIABLES or provider.base_url is not None:
            continue
        owners = {
            owner
            for key in provider.api_key
            for begin, owner in _KEYS_BEGIN.items()
            if key.get_secret_value().startswith(begin)
        }
        for owner in sorted(owners - {kind}):
            yield f"the key of provider '{name}' looks like one of {owner}'s"


def _half(whole: Loaded) -> Iterator[str]:
    """The same variables serve a vendor's other tools, so that one of them alone is no fault."""
    for kind, key_variable in whole.halves.items():
        if kind not in whole.config.providers:
            missing = " and ".join(ENTRY_VARIABLES[kind][part][0] for part in VENDORS[kind].needs)
            yield f"{key_variable} is set, but {kind} also needs {missing}, and is left out"


def _notes(loaded: Config) -> Iterator[str]:
    """What is legal and yet hardly meant."""
    for name, provider in loaded.providers.items():
        variables = API_KEY_VARIABLES.get(provider.kind or name)
        if not variables or provider.api_key:
            continue
        if provider.base_url is None:
            yield f"provider '{name}' has no key: its models will answer with an error; set {variables[0]}"
        elif not can_answer(loaded, name):
            # A key of the environment is its vendor's: it must not go elsewhere unasked.
            yield (
                f"provider '{name}' has no key, and so its models are not offered: an entry with a base_url names its "
                f"own, providers.{name}.api_key: ${{{variables[0]}}}"
            )
    for section, each in (("limits", loaded.limits), ("budgets", loaded.budgets)):
        if "key" in each and not loaded.demands_keys:
            yield (
                f"{section}.key: clients bring no key, and so all share one; name their keys under 'clients', or "
                "use " + ("'address'" if section == "limits" else "'all'")
            )
    if not any(model.enabled for model in loaded.models):
        asked = "`ollama-bridge models discover` asks the providers which they have, "
        lists = any(asks(loaded, name) for name in loaded.providers)
        remedy = f" yet: {asked if lists else ''}`ollama-bridge models add` names one"
        yield "no model is enabled" + ("" if loaded.models else remedy)
    if names := ", ".join(unpayable(loaded)):
        yield f"nobody knows what these models cost, and so no budget pays for them: {names}; set models[].price"


def _show(loaded: Loaded, *, with_origin: bool, as_json: bool) -> None:
    for place, value in _values(loaded):
        key, origin = dotted(place), mask(loaded.origin(place))
        if as_json:
            found = {"key": key, "value": value, **({"origin": origin} if with_origin else {})}
            click.echo(orjson.dumps(found, default=float))
        else:
            said = value if isinstance(value, str) else orjson.dumps(value, default=float).decode()
            click.echo(f"{key}: {said}" + (f"  # {origin}" if with_origin else ""))


def _values(loaded: Loaded) -> Iterator[tuple[KeyPath, Any]]:
    """Each value with its place, those of models and providers only where they are not the default."""
    values = loaded.config
    for section in values.SECTIONS:
        if isinstance(own := getattr(values, section), BaseModel):
            for key, value in own:
                yield (section, key), [MASK for _ in value] if key == "api_keys" else value
    for section, allowed in (("limits", values.limits), ("budgets", values.budgets)):
        for who, most in allowed.items():
            for key, value in most.model_dump(exclude_unset=True).items():
                yield (section, who, key), value
    for client in values.clients:
        yield ("clients", client), MASK
    yield ("state",), _without_password(values.state)
    yield ("default_max_tokens",), values.default_max_tokens
    yield ("log_level",), values.log_level
    for name, provider in values.providers.items():
        yield ("providers", name, "kind"), provider.kind or name
        keys = [MASK for _ in provider.api_key]
        yield ("providers", name, "api_key"), keys or "none"
        for key, value in provider.model_dump(
            exclude_defaults=True, exclude={"kind", "api_key", "headers"}
        ).items():
            yield ("providers", name, key), value
        for header in provider.headers:
            yield ("providers", name, "headers", header), MASK
    for index, model in enumerate(values.models):
        for key, value in model.model_dump(exclude_defaults=True).items():
            yield ("models", index, key), value
