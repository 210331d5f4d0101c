"""What the README says is so: its tables are the code's, its commands work."""

import itertools
import json
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import get_args

import click
import pytest
from pydantic_core import PydanticUndefined

import ollama_bridge
from ollama_bridge.backends import BACKENDS
from ollama_bridge.backends.vendors import VENDORS
from ollama_bridge.cli import _NOUNS, main
from ollama_bridge.config import API_KEY_VARIABLES, IMPLICIT_PROVIDERS, Config, Server
from ollama_bridge.config.file import VARIABLES, Source
from ollama_bridge.server import all_routes
from running import ask, running

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SETUP = ["pip install . && ollama-bridge serve", "pip install -e '.[test]' && pytest"]
PLACES = {
    "providers": "providers.<name>.",
    "models": "models[].",
    "limits": "limits.<who>.",
    "budgets": "budgets.<who>.",
}
INHERITED = {
    "providers.<name>.kind": "the name",
    "models[].backend": "required",  # or `from`
    "models[].backend_model": "`name`",
    **{
        f"models[].{key}": "built-in"
        for key in ("display_name", "family", "context_length", "max_tokens", "capabilities")
    },
}
"""Keys whose default is worked out from something else."""


def section(title: str) -> str:
    """The text under a heading of the second or third level, deeper headings included."""
    found = re.search(rf"^(##+) {re.escape(title)}\n", README, flags=re.MULTILINE)
    assert found, title
    return re.split(rf"^#{{2,{len(found[1])}}} ", README[found.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    lines = list(itertools.dropwhile(lambda line: not line.startswith("|"), section(title).splitlines()))
    table = list(itertools.takewhile(lambda line: line.startswith("|"), lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def only(found: list[str]) -> str:
    (one,) = found
    return one


def keys() -> Iterator[tuple[str, object]]:
    """Every key of the file as the README writes it, with its default as the README writes it."""
    for name, model in Config.SECTIONS.items():
        for key, field in model.model_fields.items():
            place = PLACES.get(name, f"{name}.") + (field.alias or key)
            yield place, INHERITED.get(place) or shown(field.get_default(call_default_factory=True))
    for key, field in Config.model_fields.items():
        if key not in Config.SECTIONS:
            yield key, shown(field.get_default(call_default_factory=True))


def shown(default: object) -> str:
    if default is PydanticUndefined:
        return "required"
    if default is None or default == "":
        return "none" if default is None else "empty"
    if isinstance(default, float):
        return f"`{default:g}`"
    if isinstance(default, tuple | dict | bool):
        return f"`{json.dumps(default)}`"
    return f"`{default}`"


def test_every_key_is_in_the_table_with_its_default():
    """A key that is added, renamed or given another default shows here."""
    table = {only(quoted(key)): default for key, _, default, _ in rows("Configuration")}
    assert len(table) == len(rows("Configuration"))
    code = dict(keys())
    assert code["providers.<name>.api_key"] == "`[]`"
    assert code["server.api_keys"] == "`[]`"
    code["providers.<name>.api_key"] = code["server.api_keys"] = "`none`"  # the word for it
    assert table == code


def test_choices_in_the_table_are_the_codes():
    """Kinds, levels and capabilities, in order."""
    types = {only(quoted(key)): kind for key, kind, *_ in rows("Configuration")}
    assert quoted(types["log_level"]) == ["debug", "info", "warning", "error"]
    assert quoted(types["providers.<name>.kind"]) == [*BACKENDS, "module:Class"]
    known = {only(quoted(kind)): (title, quoted(names)) for kind, title, names in rows("Vendors")}
    assert known == {
        kind: (vendor.title, [*vendor.key_variables, *itertools.chain(*vendor.variables.values())])
        for kind, vendor in VENDORS.items()
    }
    provider = Config.SECTIONS["providers"].model_fields["api"].annotation
    choices = [get_args(part) for part in get_args(provider) if part is not NoneType]
    assert quoted(types["providers.<name>.api"]) == list(only(choices))
    meanings = {only(quoted(key)): meaning for key, _, _, meaning in rows("Configuration")}
    capability = Config.SECTIONS["models"].model_fields["capabilities"].annotation
    listed = set(re.findall(r"'(\w+)'", str(capability)))
    assert set(quoted(meanings["models[].capabilities"])) == listed
    implied = set(quoted(meanings["models[].backend"])) - {"providers"}
    assert implied | {kind for kind, vendor in VENDORS.items() if vendor.key_variables} == set(
        IMPLICIT_PROVIDERS
    )


def variables() -> dict[str, list[str]]:
    found = {name: [".".join(map(str, place))] for name, place in VARIABLES.items()}
    found["OLLAMA_HOST"] = ["server.host", "server.port"]
    for kind, names in API_KEY_VARIABLES.items():
        found.update({name: [f"providers.{kind}.api_key"] for name in names})
    for kind, vendor in VENDORS.items():
        for key, names in vendor.variables.items():
            found.update({name: [f"providers.{kind}.{key}"] for name in names})
    return found


def test_every_environment_variable_is_in_the_table():
    """With the key it sets."""
    table = {}
    for names, key in rows("Environment"):
        places = [
            place for place in quoted(key) if re.fullmatch(r"[a-z]\w*(\.\w+)*", place) and "0" not in place
        ]
        table.update(dict.fromkeys(quoted(names), places))
    assert table == variables()


@pytest.mark.parametrize("name", variables())
def test_every_environment_variable_does_what_the_table_says(name, tmp_path):
    """It reaches its key, and the origin names it."""
    values = {
        "OLLAMA_HOST": "0.0.0.0:11500",
        "LOG_LEVEL": "debug",
        "OLLAMA_ORIGINS": "app://*",
        "MAX_RETRIES": "5",
        "BACKOFF_FACTOR": "1.5",
        "JITTER": "0.3",
        "CACHE_ENABLED": "true",
        "REDIS_ADDR": "127.0.0.1:6379",
    }
    value = values.get(name, "12345")
    # Of a vendor that needs more than one thing, half is not enough.
    whole = next(
        (
            [vendor.key_variables[0], *(names[0] for names in vendor.variables.values())]
            for vendor in VENDORS.values()
            if vendor.needs and name in {*vendor.key_variables, *itertools.chain(*vendor.variables.values())}
        ),
        [],
    )
    environ = {**dict.fromkeys(whole, "12345"), name: value}
    loaded = Source(tmp_path / "none.yaml", environ=environ).load()
    for place in variables()[name]:
        assert loaded.origin(tuple(place.split("."))) == f"environment {name}"


def test_every_route_is_in_the_table():
    """With its methods, in the order of the Allow header."""
    table = {only(quoted(path)): methods.split(", ") for path, methods, _ in rows("Routes")}
    routes = all_routes(lambda: pytest.fail("asked for a gateway"), lambda _: pytest.fail("edited"))
    assert table == {path: list(methods) for path, methods in routes.items()}


def commands(command: click.Command, path: str) -> Iterator[tuple[str, list[str]]]:
    """What one types, and the options of it alone."""
    options = [option for option in command.params if isinstance(option, click.Option)]
    names = [
        option.opts[0] for option in options if option.opts[0] not in {"--config", "--env-file", "--help"}
    ]
    arguments = [
        parameter.human_readable_name for parameter in command.params if isinstance(parameter, click.Argument)
    ]
    yield " ".join([path, *arguments]), names
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, f"{path} {name}")


def test_every_command_and_option_is_in_the_table():
    """Of the whole tree, in the order of its help; two options go with every command."""
    table = {only(quoted(command)): quoted(options) for command, options, _ in rows("Commands")}
    assert {command: sorted(options) for command, options in table.items()} == {
        command: sorted(options) for command, options in commands(main, "ollama-bridge")
    }
    for path in _NOUNS.values():
        module, _, name = path.partition(":")
        given = {option.opts[0] for option in getattr(import_module(module), name).params}
        assert {"--config", "--env-file"} <= given


def test_setting_up_is_two_commands():
    """Each alone in its block, at the start; and the machine that decides runs the second as it stands."""
    assert [block.strip() for block in blocks("sh")[:2]] == SETUP
    assert len(re.findall(r"\bpip install", README)) == 2
    ci = ROOT / ".ci" / "run"
    if ci.exists():  # not in a source distribution
        assert SETUP[1] in ci.read_text()


async def test_the_first_answer_is_as_printed():
    """The curl command, sent to a daemon without any configuration, gives what stands below it."""
    start = section("Start in a minute")
    words = shlex.split(only([block for block in blocks("sh", start) if block.startswith("curl ")]))
    printed = json.loads(only(blocks("json", start)))
    assert words[:2] == ["curl", f"http://localhost:{Server().port}/api/chat"]
    path, body = words[1].removeprefix(f"http://localhost:{Server().port}"), words[words.index("-d") + 1]
    config = Source(ROOT / "none.yaml", flags={("server", "port"): ("--port", 0)}).load().config
    async with running(config) as daemon:
        # curl says that a body of -d is a form; the real server does not care either.
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        got = await ask(daemon.url, "POST", path, body, form)
    measured = {"created_at", *(key for key in printed if key.endswith("_duration"))}
    assert list(got.json) == list(printed)
    assert {k: v for k, v in got.json.items() if k not in measured} == {
        k: v for k, v in printed.items() if k not in measured
    }


def typed() -> Iterator[list[str]]:
    """Every command of ours in a block or in the text, up to a pipe or a comment; the table is tested above."""
    text = README.replace(section("Commands"), "")
    lines = [line for block in blocks("sh", text) for line in block.splitlines()]
    for line in [*lines, *re.findall(r"`([^`\n]+)`", text)]:
        if found := re.match(r"(?:[A-Z_]+=\S+ )?ollama-bridge (.*)", line):
            yield shlex.split(re.split(r"  +#| \| ", found[1])[0])


@pytest.mark.parametrize("words", list(typed()), ids=" ".join)
def test_every_command_that_is_shown_can_be_typed(words):
    """Nouns, arguments and options exist and fit."""
    command: click.Command = main
    context = click.Context(main, info_name="ollama-bridge", **main.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inner = command.get_command(context, words[0])
        assert inner is not None
        command, context, words = inner, click.Context(inner, parent=context, info_name=words[0]), words[1:]
    command.make_context(context.info_name, list(words), parent=context.parent)


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if "provider: ollama" not in block])
def test_configurations_load(block, tmp_path):
    """Each piece of `config.yaml` that is shown can be used as it stands, once the variables that it names are set."""
    (tmp_path / "config.yaml").write_text(block)
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)\}", block), "something")
    config = Source(tmp_path / "config.yaml", required=True, environ=environ).load().config
    assert config != Source(tmp_path / "none.yaml", environ={}).load().config


def test_the_map_names_every_room():
    """Each module and folder at the top of the package stands in its docstring, and nothing else does."""
    package = ROOT / "ollama_bridge"
    plain = {path.stem for path in package.glob("*.py") if not path.name.startswith("__")}
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    rooms = " ".join(line[:36] for line in ollama_bridge.__doc__.splitlines() if " floor " in line).split()
    assert sorted(rooms) == sorted(plain | folders)


def test_links_lead_somewhere():
    """Files exist, and so do headings."""
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^##+ (.*)$", README, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in anchors
        elif "://" not in target:
            assert (ROOT / target).exists(), target
