"""The command line: what it prints where, and how it fails."""

import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import ollama_bridge
from ollama_bridge.cli import main
from ollama_bridge.config import Config
from ollama_bridge.config.file import Source, default_path

ROOT = Path(__file__).resolve().parents[1]
KEY = "sk-ant-api03-0123456789abcdef"


@pytest.fixture
def run(monkeypatch):
    """Runs a command in this process, as in a pipe."""

    def run(*args, code=0, **environ):
        result = CliRunner().invoke(main, [str(arg) for arg in args], env=environ, prog_name="ollama-bridge")
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.stderr
        return result

    return run


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "models:\n"
        "  - {name: fast, backend: demo, aliases: [quick], context_length: 1000, display_name: '[b]Fast'}\n"
        "  - {name: hidden, backend: demo, enabled: false}\n"
    )
    return path


def every_command(group=main, above=()):
    """Each command and its words."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from every_command(command, (*above, name))


COMMANDS = dict(every_command())


def test_the_grammar():
    """Nouns, then verbs: scripts and fingers rely on them."""
    assert [" ".join(words) for words in COMMANDS] == [
        "serve",
        "models",
        "models add",
        "models alias",
        "models disable",
        "models discover",
        "models enable",
        "models forget",
        "models list",
        "models remove",
        "models show",
        "config",
        "config check",
        "config init",
        "config path",
        "config show",
        "usage",
    ]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(run, words):
    """In `-h`, `--help`, and a line one can type."""
    text = run(*words, "-h").stdout
    assert run(*words, "--help").stdout == text
    assert "$ ollama-bridge " in text or "ollama-bridge serve" in text
    assert "--config" in text
    examples = [line.strip() for line in text.splitlines() if line.strip().startswith("$ ")]
    assert any(" ".join(words[:1]) in example for example in examples)


def test_the_examples_of_the_help_run(run, tmp_path):
    """Every one of them that neither serves nor pipes, in the order of the grammar, and beginning with no file."""
    for words, command in COMMANDS.items():
        if words == ("config", "init"):
            default_path().unlink()
        for line in (command.help or "").splitlines():
            if line.strip().startswith("$ ollama-bridge ") and words != ("serve",):
                run(*line.partition("ollama-bridge ")[2].partition("|")[0].split())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["nope"], "No such command 'nope'"),
        (["--nope"], "No such option '--nope'"),
        (["models", "--nope"], "No such option '--nope'"),
        (["models", "show"], "Missing argument 'NAME'"),
        (["models", "show", "dem"], "model 'dem' not found; did you mean 'demo'?"),
        (["models", "disable", "demo", "dmeo"], "model 'dmeo' not found; did you mean 'demo'?"),
        (["models", "add", "x"], "Missing option '--backend'"),
        (["models", "add", "x", "--backend", "demoo"], "no provider is called 'demoo'"),
        (["models", "--config", "/nowhere/config.yaml"], "/nowhere/config.yaml: no such file"),
        (["--env-file", "/nowhere/env", "models"], "/nowhere/env: no such file"),
        (["serve", "--port", "70000"], "70000 is not in the range"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(run, args, message):
    result = run(*args, code=2)
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_bad_file_is_a_mistake_of_every_command(run, file):
    file.write_text("streaming:\n  chunksize: 3\n")
    for args in (
        ["models"],
        ["config", "check"],
        ["config", "show"],
        ["serve"],
        ["models", "disable", "demo"],
    ):
        result = run(*args, "--config", file, code=2)
        assert (
            result.stderr
            == f"Error: {file}:2: unknown key 'chunksize' in 'streaming'; did you mean 'chunk_size'?\n"
        )


def test_no_words_at_all_show_the_help(run):
    result = run(code=2)
    assert "Usage: ollama-bridge" in result.stderr
    assert "Error" not in result.stderr


def test_models_are_listed_in_columns(run, file):
    text = run("models", "--config", file).stdout
    head, *rows = (line.split() for line in text.splitlines())
    assert head == [
        "name",
        "backend",
        "backend_model",
        "context_length",
        "max_tokens",
        "capabilities",
        "aliases",
    ]
    assert [row[0] for row in rows] == ["fast:latest", "demo:latest"]
    assert rows[0][1:4] == ["demo", "fast", "1000"]
    assert rows[0][-1] == "quick"
    assert run("models", "list", "--config", file).stdout == text


def test_models_are_listed_for_scripts(run, file):
    """One object a line; with `--all` the disabled ones too; the option may stand before or behind the noun."""
    rows = [
        json.loads(line) for line in run("--config", file, "models", "--json", "--all").stdout.splitlines()
    ]
    assert [(row["name"], row["enabled"]) for row in rows] == [
        ("fast:latest", True),
        ("hidden:latest", False),
        ("demo:latest", True),
    ]
    assert rows[0] | {"family": "", "max_tokens": 0, "capabilities": []} == {
        "name": "fast:latest",
        "display_name": "[b]Fast",
        "backend": "demo",
        "backend_model": "fast",
        "family": "",
        "description": "",
        "context_length": 1000,
        "max_tokens": 0,
        "capabilities": [],
        "enabled": True,
        "aliases": ["quick"],
        "from": "",
    }


def test_models_are_a_table_on_a_terminal(run, file, monkeypatch):
    """With names as they are, whatever rich makes of brackets."""
    file.write_text(
        file.read_text()
        .replace("fast", "'[red]fast'")
        .replace("'[red]fast', backend", "fast, backend_model: '[red]x', backend")
    )
    monkeypatch.setattr("ollama_bridge.cli.listing.on_a_terminal", lambda: True)
    text = run("models", "--config", file, COLUMNS="200").stdout
    assert "[red]x" in text
    assert "backend model" in text


def test_when_all_models_are_disabled_stderr_says_so(run):
    run("models", "disable", "demo")
    result = run("models", "--json")
    assert result.stdout == ""
    assert "ollama-bridge models --all" in result.stderr


def test_one_model_is_shown_by_any_of_its_names(run, file):
    text = run("models", "show", "QUICK:latest", "--config", file).stdout
    facts = dict(line.split(maxsplit=1) for line in text.splitlines() if len(line.split()) > 1)
    assert (facts["name"], facts["context_length"], facts["enabled"]) == (
        "fast:latest",
        "1000  (config.yaml:2)",
        "yes",
    )
    assert json.loads(run("models", "show", "fast", "--json", "--config", file).stdout)["aliases"] == [
        "quick"
    ]


def test_one_model_is_shown_with_its_terms(run, file):
    """Who answers in its place, what it costs and who says so, and how much of it may be had."""
    file.write_text(
        "providers:\n"
        "  openai: {api_key: k, requests_per_minute: 50}\n"
        "  far: {kind: openai, base_url: 'https://far.example/v1', api_key: k}\n"
        "models:\n"
        "  - {name: own, backend: far, price: {input: 1, output: 2.5}, budget: {daily: 5, instead: demo}}\n"
        "  - {name: child, from: own, fallbacks: [demo], tokens_per_minute: 9, max_request_length: 10}\n"
        "  - {name: unknown, backend: far}\n"
        "  - {name: demo, backend: demo}\n"
    )

    def shown(name):
        return json.loads(run("models", "show", name, "--json", "--config", file).stdout)

    price = {"input": 1.0, "output": 2.5, "cached_read": 1.0, "cached_write": 1.0}
    child = shown("child")
    assert (child["price"], child["price_from"]) == (price, "models[].price")
    assert (child["fallbacks"], child["budget"]) == (["demo"], {"daily": 5.0, "instead": "demo"})
    assert (child["limits"], child["max_request_length"]) == ({"tokens_per_minute": 9}, 10)
    listed = shown("gpt-4o")
    assert (listed["price_from"], listed["provider_limits"]) == ("genai-prices", {"requests_per_minute": 50})
    assert listed["price"]["output"] > listed["price"]["input"] > listed["price"]["cached_read"] > 0
    assert (shown("demo")["price_from"], shown("demo")["price"]["output"]) == ("free", 0)
    assert (shown("unknown")["price_from"], shown("unknown")["price"]) == ("", {})
    text = run("models", "show", "own", "--config", file).stdout
    assert re.search(r"^price +input 1, output 2\.5, cached_read 1, cached_write 1$", text, re.MULTILINE)
    assert re.search(r"^budget +daily 5, instead demo$", text, re.MULTILINE)


def test_models_are_changed_in_the_file(run, file):
    """Status goes to stderr; what is written is what the next command reads."""
    assert run("models", "disable", "fast", "demo", "--config", file).stdout == ""
    assert run("models", "enable", "hidden", "--config", file).stderr == "enabled: hidden\n"
    run("models", "alias", "hidden", "seen", "--config", file)
    run("models", "add", "later", "--backend", "demo", "--config", file)
    assert "  - name: later\n    backend: demo\n" in file.read_text()
    run("models", "disable", "later", "--config", file)
    run(
        *(
            "models",
            "add",
            "new",
            "--backend",
            "demo",
            "--backend-model",
            "m",
            "--context-length",
            9,
            "--max-tokens",
            3,
        ),
        *(
            "--capability",
            "tools",
            "--capability",
            "vision",
            "--alias",
            "a",
            "--alias",
            "b",
            "--display-name",
            "N",
        ),
        *("--family", "f", "--description", "d", "--config", file),
    )
    rows = {
        row["name"]: row
        for row in map(json.loads, run("models", "--json", "--config", file).stdout.splitlines())
    }
    assert list(rows) == ["hidden:latest", "new:latest"]
    assert rows["hidden:latest"]["aliases"] == ["seen"]
    assert rows["new:latest"] == {
        "name": "new:latest",
        "display_name": "N",
        "backend": "demo",
        "backend_model": "m",
        "family": "f",
        "description": "d",
        "context_length": 9,
        "max_tokens": 3,
        "capabilities": ["tools", "vision"],
        "enabled": True,
        "aliases": ["a", "b"],
        "from": "",
    }


def test_config_show_tells_each_value_and_its_origin_but_no_key(run, file):
    file.write_text(
        "server: {port: 1}\nproviders:\n"
        "  acme:\n    kind: openai\n    base_url: http://x/v1\n    api_key: [plainsecret, k2]\n    headers: {X-Auth: othersecret}\n"
    )
    environ = {"ANTHROPIC_API_KEY": KEY, "STREAMING_DELAY_MS": "4"}
    text = run("config", "show", "--origin", "--config", file, **environ).stdout
    lines = dict(line.split(": ", 1) for line in text.splitlines())
    assert lines["server.port"] == f"1  # {file}:1"
    assert lines["server.host"] == "127.0.0.1  # default"
    assert lines["streaming.delay_ms"] == "4  # environment STREAMING_DELAY_MS"
    assert lines["providers.anthropic.api_key"] == '["•••"]  # environment ANTHROPIC_API_KEY'
    assert lines["providers.acme.api_key"] == f'["•••","•••"]  # {file}:6'
    assert lines["models[0].backend"] == "anthropic  # catalogue"
    rows = [
        json.loads(row)
        for row in run(
            "config", "show", "--json", "--origin", "--config", file, **environ
        ).stdout.splitlines()
    ]
    assert {"key": "server.port", "value": 1, "origin": f"{file}:1"} in rows
    plain = run("config", "--config", file, **environ).stdout
    assert plain == "".join(line.partition("  # ")[0] + "\n" for line in text.splitlines())
    for secret in (KEY, "plainsecret", "othersecret", "k2"):
        assert secret not in text + json.dumps(rows) + plain


def test_config_show_tells_of_every_section_and_of_no_secret(run, file):
    """What the keys and the address of Redis hold stays hidden; money is a number."""
    file.write_text(
        "limits: {key: {requests_per_minute: 7}}\nbudgets:\n  all:\n    daily: 2.50\n"
        "clients: {laptop: a-key-of-mine}\nmodels: [{name: demo, backend: demo, price: {input: 1, output: 2}}]\n"
    )
    environ = {"REDIS_ADDR": "rediss://me:hushhush@far:1/2?password=hushhush", "MAX_RETRIES": "1"}
    text = run("config", "show", "--origin", "--config", file, **environ).stdout
    lines = dict(line.split(": ", 1) for line in text.splitlines())
    for section, schema in Config.SECTIONS.items():
        if section in {"server", "streaming", "reasoning", "retry", "breaker", "cache", "ledger", "routing"}:
            assert {f"{section}.{key}" for key in schema.model_fields} <= lines.keys()
    assert lines["retry.max_retries"] == "1  # environment MAX_RETRIES"
    assert lines["limits.key.requests_per_minute"] == f"7  # {file}:1"
    assert lines["budgets.all.daily"] == f"2.5  # {file}:4"
    assert lines["clients.laptop"] == f"•••  # {file}:5"
    assert lines["state"] == "rediss://me:•••@far:1/2?•••  # environment REDIS_ADDR"
    assert lines["models[0].price"] == f'{{"input":1.0,"output":2.0}}  # {file}:6'
    assert "hushhush" not in text
    assert "a-key-of-mine" not in text


def test_config_check_says_which_variable_a_key_lacks(run, monkeypatch):
    """Half of an account makes no provider, and is no fault either."""
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "x")
    note = "note: CLOUDFLARE_API_TOKEN is set, but cloudflare also needs CLOUDFLARE_ACCOUNT_ID, and is left out\n"
    assert note in run("config", "check").stderr
    monkeypatch.setenv("CLOUDFLARE_ACCOUNT_ID", "y")
    assert "note" not in run("config", "check").stderr


def test_config_check_tells_a_key_that_is_anothers(run, file, monkeypatch):
    """Grok's key at Groq, and never a piece of it; a gateway at another address takes what it likes."""
    monkeypatch.setenv("GROQ_API_KEY", "xai-0123456789abcdef")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-0123456789")
    file.write_text("providers:\n  xai: {base_url: 'http://127.0.0.1:1/v1', api_key: gsk_0123456789}\n")
    told = run("config", "check", "--config", file).stderr
    assert [line for line in told.splitlines() if "looks like" in line] == [
        "note: the key of provider 'groq' looks like one of xai's"
    ]
    assert "0123456789" not in told


def test_a_real_ollamas_models_are_told_of_where_they_cannot_be_listed(run, file):
    """They are asked for each time; who wants to hide or rename one gives it an entry."""
    file.write_text("providers:\n  ollama: {base_url: 'http://127.0.0.1:1'}\n")
    told = run("models", "--config", file).stderr
    assert "clients also see what ollama has just now: 'ollama-bridge models discover' asks" in told
    refused = run("models", "disable", "qwen3:4b", "--config", file, code=2).stderr
    assert "`ollama-bridge models add qwen3:4b --backend ollama` makes an entry of it" in refused
    run("models", "add", "qwen3:4b", "--backend", "ollama", "--config", file)
    run("models", "disable", "qwen3:4b", "--config", file)
    assert "enabled: false" in file.read_text()


def test_config_path_is_data(run, file):
    assert run("config", "path").stdout == f"{default_path()}\n"
    assert run("config", "path", "--config", file).stdout == f"{file}\n"


def test_config_check_says_what_will_be_offered_and_what_will_not_work(run, file):
    file.write_text("providers:\n  openai:\nmodels:\n- {name: a, backend: openai, enabled: false}\n")
    result = run("config", "check", "--config", file)
    assert result.stdout == ""
    assert result.stderr == (
        "note: provider 'openai' has no key: its models will answer with an error; set OPENAI_API_KEY\n"
        "note: no model is enabled\n"
        f"{file} is fine: 0 models of openai\n"
    )
    assert "does not exist, which is fine: 1 model of demo" in run("config", "check").stderr


def test_config_check_says_why_a_provider_at_another_address_offers_nothing(run, file, monkeypatch):
    """A key of the environment does not go to an address in the file by itself; and who lists models must be asked."""
    monkeypatch.setenv("GROQ_API_KEY", "x")
    file.write_text("providers:\n  groq: {base_url: 'http://127.0.0.1:1/v1'}\n  vllm:\n")
    assert run("config", "check", "--config", file).stderr == (
        "note: provider 'groq' has no key, and so its models are not offered: an entry with a base_url names its own, "
        "providers.groq.api_key: ${GROQ_API_KEY}\n"
        "note: no model is enabled yet: `ollama-bridge models discover` asks the providers which they have, "
        "`ollama-bridge models add` names one\n"
        f"{file} is fine: 0 models of groq, vllm\n"
    )


def test_config_check_notes_what_is_legal_and_hardly_meant(run, file):
    """Limits of keys that nobody brings, and models that no budget can pay for."""
    terms = "limits: {key: {requests_per_minute: 7}}\nbudgets: {key: {daily: 1}}\n"
    models = (
        "providers: {far: {kind: openai, base_url: 'https://far.example/v1', api_key: k}}\n"
        "models: [{name: free, backend: demo}, {name: m, backend: far}, {name: gone, backend: far, enabled: false}]\n"
    )
    file.write_text(terms + models)
    notes = run("config", "check", "--config", file).stderr.splitlines()
    assert notes[:-1] == [
        "note: limits.key: clients bring no key, and so all share one; name their keys under 'clients', or use 'address'",
        "note: budgets.key: clients bring no key, and so all share one; name their keys under 'clients', or use 'all'",
        "note: nobody knows what these models cost, and so no budget pays for them: m; set models[].price",
    ]
    file.write_text("clients: {me: a-key}\nlimits: {key: {requests_per_minute: 7}}\n" + models)
    assert "note: " not in run("config", "check", "--config", file).stderr


def test_config_init_never_replaces_a_file_unasked(run, file):
    run("config", "init")
    assert (
        Source(default_path(), environ={}).load().config == Source(Path("nowhere"), environ={}).load().config
    )
    before = file.read_text()
    assert "--force replaces it" in run("config", "init", "--config", file, code=2).stderr
    assert file.read_text() == before
    run("config", "init", "--force", "--config", file)
    assert file.read_text() == default_path().read_text()


def test_serve_hands_the_daemon_what_it_needs_to_load_again(run, file, monkeypatch):
    """Flags stay in force over later changes of the file, and of the environment."""
    daemon = types.ModuleType("ollama_bridge.daemon")
    served = []
    daemon.serve = lambda load, watched, change, worker, lists: served.extend([load, watched, change, lists])
    monkeypatch.setitem(sys.modules, "ollama_bridge.daemon", daemon)
    monkeypatch.setattr(ollama_bridge, "daemon", daemon, raising=False)
    flags = ("--host", "::1", "--port", 0, "--chunk-size", 2, "--delay-ms", 0, "--log-level", "ERROR")
    run("serve", *flags, "--config", file, OPENAI_API_KEY=KEY, STREAMING_DELAY_MS="5")
    load, watched, change, lists = served
    assert watched == (file, file.with_name(".env"), lists)
    change(lambda draft: draft.set_enabled("hidden", enabled=True))
    assert "enabled: true" in file.read_text()
    file.write_text("server: {port: 7, drain_s: 3}\n")
    config = load()
    assert (config.server.host, config.server.port, config.server.drain_s) == ("::1", 0, 3)
    assert (config.streaming.chunk_size, config.streaming.delay_ms, config.log_level) == (2, 0, "error")
    assert config.secrets() == (KEY,)


def test_serve_hands_its_workers_what_it_was_given(run, file, monkeypatch):
    """The same flags, but for the port, which is chosen once; and keys stay out of what other users can see."""
    given = []
    monkeypatch.setattr("ollama_bridge.workers.supervise", lambda *args: given.extend(args) or 3)
    env_file = file.with_name("keys.env")
    env_file.write_text(f"OPENAI_API_KEY={KEY}\n")
    flags = ("--workers", 4, "--host", "::1", "--port", 0, "--delay-ms", 0, "--log-level", "ERROR")
    run("serve", *flags, "--insecure", "--config", file, "--env-file", env_file, code=3)
    (command, *arguments), count, config = given
    assert (command, count, config.server.host, config.server.port) == ("serve", 4, "::1", 0)
    assert "--insecure" in arguments
    arguments.remove("--insecure")
    assert dict(zip(arguments[::2], arguments[1::2], strict=True)) == {
        "--host": "::1",
        "--delay-ms": "0",
        "--log-level": "error",
        "--config": str(file),
        "--env-file": str(env_file),
    }


@pytest.mark.parametrize(
    "args", [["--version"], ["models"], ["models", "disable", "demo"], ["config", "show"]]
)
def test_no_provider_sdk_and_no_http_is_imported_by_commands_that_only_look(args):
    """They would cost a second each time."""
    code = (
        "import sys; from ollama_bridge.cli import main\n"
        f"try: main({args!r})\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'anthropic', 'openai', 'google.genai', 'aiohttp', 'httpx2', 'structlog', 'rich', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=_environment(), capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "[]"


def test_version_imports_no_configuration():
    code = (
        "import sys; from ollama_bridge.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "assert not {'pydantic', 'ruamel.yaml', 'ollama_bridge.catalog'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == f"ollama-bridge, version {ollama_bridge.__version__}\n"


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "ollama_bridge", "models", "--json"],
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["name"] == "demo:latest"


def _environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}
