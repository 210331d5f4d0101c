"""Every example runs, without a key."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.lazy import LazyProvider
from ollama_bridge.config import Config
from ollama_bridge.config.file import Source
from ollama_bridge.errors import UpstreamRejected
from real_ollama import RealOllama
from running import ask, running
from upstream import Script, Upstream
from wires import WIRES, Said

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
HELLO = {"messages": [{"role": "user", "content": "hello world"}], "stream": False}


def environment(**extra):
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(EXAMPLES)]), **extra}


def run(*command, **extra):
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


@contextmanager
def started(*command):
    """A program that serves, and the line in which it says where; ended by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        said = ""
        while "event=listening" not in said:
            line = process.stderr.readline()
            assert line, f"it ended: {said}"
            said += line
        yield next(word.partition("=")[2] for word in said.split() if word.startswith("url="))
    finally:
        process.terminate()
        _, rest = process.communicate(timeout=20)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest


def test_every_example_is_tested_and_in_the_readme():
    """A file that nobody runs rots."""
    here = Path(__file__).read_text()
    readme = (ROOT / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.name != "__pycache__":
            assert f'"{path.name}"' in here
            assert f"(examples/{path.name})" in readme


def test_the_minimal_configuration_is_fine():
    """`config check` accepts it, and says that Claude still wants a key."""
    done = run("-m", "ollama_bridge", "config", "check", "--config", EXAMPLES / "minimal.yaml")
    assert (done.returncode, done.stdout) == (0, "")
    assert "2 models of anthropic, demo" in done.stderr
    assert "ANTHROPIC_API_KEY" in done.stderr


async def test_the_minimal_configuration_serves():
    """The demo answers; Claude answers under both names, or says which key is missing."""
    config = (
        Source(EXAMPLES / "minimal.yaml", required=True, flags={("server", "port"): ("--port", 0)})
        .load()
        .config
    )
    async with running(config) as daemon:
        tags = (await ask(daemon.url, "GET", "/api/tags")).json
        demo = await ask(daemon.url, "POST", "/api/chat", {"model": "demo", **HELLO})
        claude = await ask(daemon.url, "POST", "/api/chat", {"model": "sonnet", **HELLO})
    assert [model["name"] for model in tags["models"]] == ["claude:latest", "demo:latest"]
    assert "You said: hello world" in demo.json["message"]["content"]
    assert claude.status == 502
    assert "ANTHROPIC_API_KEY" in claude.json["error"]


KEYS = {
    "ANTHROPIC_API_KEY": "a-key-of-anthropic",
    "OPENAI_KEY_1": "one-key-of-openai",
    "OPENAI_KEY_2": "another-of-openai",
    "LAPTOP_KEY": "a-key-of-mine",
    "CI_KEY": "a-key-of-ci",
}


def test_the_configuration_with_budgets_is_fine():
    """`config check` accepts it without a note: every model has a price, every limit somebody it is for."""
    file = EXAMPLES / "budget.yaml"
    done = run("-m", "ollama_bridge", "config", "check", "--config", file, **KEYS)
    assert (done.returncode, done.stdout) == (0, "")
    assert "note: " not in done.stderr
    assert "is fine: " in done.stderr
    text = file.read_text()
    assert all(f"#     {name}=" in text for name in KEYS)


async def test_the_configuration_with_budgets_holds_them(tmp_path):
    """When too little is left, the cheaper model answers; when that is too much as well, nobody is asked."""
    mine = {"Authorization": f"Bearer {KEYS['LAPTOP_KEY']}"}
    text = (EXAMPLES / "budget.yaml").read_text()
    got = []
    async with Upstream() as upstream:
        for number, left in enumerate(("0.005", "0.0001")):
            file = tmp_path / f"{number}.yaml"
            entry = f"anthropic:\n    base_url: {upstream.url}"
            file.write_text(text.replace("anthropic:", entry, 1).replace("daily: 10.00", f"daily: {left}"))
            source = Source(file, environ=KEYS, flags={("server", "port"): ("--port", 0)})
            async with running(source.load().config) as daemon:
                question = {"model": "claude-sonnet-5-5", **HELLO}
                stranger = await ask(daemon.url, "POST", "/api/chat", question)
                upstream.reply(WIRES[0].stream(Said("Hi.")))
                got.append(await ask(daemon.url, "POST", "/api/chat", question, mine))
        asked = [json.loads(request.body)["model"] for request in upstream.requests]
    assert stranger.status == 401
    assert asked == ["claude-haiku-5-5"]
    assert (got[0].status, got[0].json["answered_by"]) == (200, "claude-haiku-5-5:latest")
    assert got[1].status == 429
    assert "the daily budget of 0.0001 USD of all clients together" in got[1].json["error"]


async def test_vendors_known_and_unknown_and_a_real_ollama_are_at_one_address(tmp_path):
    """Three providers, asked for their models by the command, and what the patterns take of them in one list; the unknown one answers."""
    lists = {
        "/v1/models": ["deepseek/deepseek-x", "deepseek/deepseek-x:free", "qwen/qwen9-coder", "other/one"],
        "/acme/models": ["acme-1"],
    }

    def decide(seen):
        listed = [{"id": one} for one in lists[seen.path]]
        return Script([json.dumps({"data": listed}).encode()], headers={"content-type": "application/json"})

    text = (EXAMPLES / "vendors.yaml").read_text()
    async with Upstream(decide) as upstream, RealOllama("llama3.2:3b") as real:
        for old, new in (
            ("  openrouter:", f"  openrouter:\n    base_url: {upstream.url}/v1\n    api_key: or-key #"),
            ("https://api.acme.example/v1", f"{upstream.url}/acme"),
            ("http://127.0.0.1:11435", real.url),
        ):
            assert old in text
            text = text.replace(old, new)
        file = tmp_path / "config.yaml"
        file.write_text(text)
        command = ("-m", "ollama_bridge", "models", "discover", "--json", "--config", file)
        told = await asyncio.to_thread(run, *command, ACME_API_KEY="acme-key")
        rows = {row["provider"]: row for row in map(json.loads, told.stdout.splitlines())}
        assert {name: row["models"] for name, row in rows.items()} == {
            "openrouter": 4,
            "acme": 1,
            "ollama": 1,
        }
        source = Source(file, environ={"ACME_API_KEY": "acme-key"}, flags={("server", "port"): ("--port", 0)})
        async with running(source.load().config) as daemon:
            tags = (await ask(daemon.url, "GET", "/api/tags")).json["models"]
            upstream.decide = None
            upstream.reply(WIRES[2].stream(Said("Hi.")))
            got = await ask(daemon.url, "POST", "/api/chat", {"model": "acme-1", **HELLO})
    names = {model["name"] for model in tags}
    assert {"deepseek/deepseek-x:latest", "qwen/qwen9-coder:latest", "acme-1:latest", "llama3.2:3b"} <= names
    assert not names & {"deepseek/deepseek-x:free", "other/one:latest"}
    assert got.json["message"]["content"] == "Hi."
    assert upstream.requests[-1].headers["authorization"] == "Bearer acme-key"


def test_who_is_overloaded_is_stood_in_for():
    """`failover.py`: retried and stood in for, then not asked at all, then itself again; each at its own price."""
    done = run(EXAMPLES / "failover.py")
    assert done.returncode == 0, done.stderr
    assert [re.sub(r"\d+ ms", "… ms", line) for line in done.stdout.splitlines()] == [
        "Here is spare.  # spare:latest, 3 asked, … ms, 0.0002 USD",
        "Here is spare.  # spare:latest, 1 asked, … ms, 0.0002 USD",
        "Here is best.  # best:latest, 1 asked, … ms, 0.0006 USD",
    ]
    assert "Traceback" not in done.stderr


async def test_who_is_overloaded_is_stood_in_for_from_a_configuration_file(tmp_path):
    """The lines in its docstring work as they stand; the reply names who answered."""
    text = (EXAMPLES / "failover.py").read_text()
    lines = text[text.index("    retry:") : text.index('"""\n\nimport')]
    (tmp_path / "config.yaml").write_text("".join(line[4:] for line in lines.splitlines(keepends=True)))
    with started("-m", "ollama_bridge", "serve", "--port", 0, "--config", tmp_path / "config.yaml") as url:
        got = await ask(url, "POST", "/api/chat", {"model": "best", **HELLO})
    assert got.json["message"]["content"] == "Here is spare."
    assert got.json["answered_by"] == "spare:latest"


def test_models_are_added_disabled_and_enabled():
    """The lists before and after are printed, and a disabled model is not found."""
    done = run(EXAMPLES / "add_model.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if line.startswith(("At", "With", "  demo", "  fast", "  and"))] == [
        "At first:",
        "  demo:latest  32768 tokens, can completion, tools, vision, thinking",
        "With one more:",
        "  demo:latest  32768 tokens, can completion, tools, vision, thinking",
        "  fast:latest, quick  8192 tokens, can completion, tools, vision, thinking",
        "With demo disabled:",
        "  fast:latest, quick  8192 tokens, can completion, tools, vision, thinking",
        "  and who asks for it reads: model 'demo' not found",
        "With demo enabled again:",
        "  demo:latest  32768 tokens, can completion, tools, vision, thinking",
        "  fast:latest, quick  8192 tokens, can completion, tools, vision, thinking",
    ]  # fmt: skip
    assert "quick says: Hello!" in done.stdout


async def test_a_backend_of_ones_own_serves():
    """The file run as a program is a whole bridge with one more kind of provider."""
    with started(EXAMPLES / "custom_backend.py", 0) as url:
        got = await ask(url, "POST", "/api/chat", {"model": "shout", **HELLO})
    assert got.json["message"]["content"] == "HELLO WORLD !!!"
    assert (got.json["prompt_eval_count"], got.json["eval_count"]) == (2, 3)


async def test_a_backend_of_ones_own_is_found_from_a_configuration_file(tmp_path):
    """The lines in its docstring work as they stand."""
    text = (EXAMPLES / "custom_backend.py").read_text()
    lines = text[text.index("    providers:") : text.index('"""\n\nimport')]
    (tmp_path / "config.yaml").write_text("".join(line[4:] for line in lines.splitlines(keepends=True)))
    with started("-m", "ollama_bridge", "serve", "--port", 0, "--config", tmp_path / "config.yaml") as url:
        got = await ask(url, "POST", "/api/chat", {"model": "shout", **HELLO})
    assert got.json["message"]["content"] == "HELLO WORLD !!!"


def test_a_port_that_is_taken_is_one_line():
    """Who tries the example beside a running bridge reads why it does not start."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = run(EXAMPLES / "custom_backend.py", other.getsockname()[1])
    assert done.returncode == 1
    assert "is in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("kind", ["no_such_module:X", "json:NoSuchClass"])
async def test_a_kind_that_cannot_be_loaded_names_itself(kind):
    """The operator's typo is an error that says what was looked for, not a traceback."""
    config = Config.model_validate(
        {
            "server": {"port": 0},
            "providers": {"mine": {"kind": kind}},
            "models": [{"name": "m", "backend": "mine"}],
        }
    )
    async with running(config) as daemon:
        got = await ask(daemon.url, "POST", "/api/chat", {"model": "m", **HELLO})
    assert got.status == 502
    assert got.json["error"].startswith(f"mine: its kind '{kind}' cannot be loaded: ")
    with pytest.raises(UpstreamRejected):
        await LazyProvider(ProviderSettings("mine", kind)).warm()


@pytest.mark.clients
@pytest.mark.parametrize("by", ["argument", "OLLAMA_HOST"])
async def test_the_official_client_lists_and_chats(by):
    """It finds the bridge either way, prints the models, and the answer as it comes."""
    with started("-m", "ollama_bridge", "serve", "--port", 0) as url:
        done = (
            run(EXAMPLES / "chat.py", url) if by == "argument" else run(EXAMPLES / "chat.py", OLLAMA_HOST=url)
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("models: demo:latest\ndemo:latest: Hello!")
    assert "You said: Who are you?" in done.stdout
    assert "(3 tokens asked, " in done.stdout


@pytest.mark.parametrize("example", ["chat.py", "openai_client.py", "own_model.py", "search.py"])
def test_every_example_says_when_nobody_serves(example):
    """One line, and what to do."""
    with socket.socket() as unused:  # held while it runs, or somebody else may get the port
        unused.bind(("127.0.0.1", 0))
        done = run(EXAMPLES / example, f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert done.returncode == 1
    assert "`ollama-bridge serve`" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_openais_client_streams_and_calls_a_tool(wire):
    """`openai_client.py`: the tool is called, its result goes to the provider, the answer is printed."""
    async with Upstream() as upstream, running(Config.model_validate(wire.config(upstream.url))) as daemon:
        upstream.reply(wire.stream(Said(calls=(("clock", {"hours": 1}),))))
        upstream.reply(wire.stream(Said("It is late.")))
        done = await asyncio.to_thread(run, EXAMPLES / "openai_client.py", daemon.url, "m", "How late?")
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "It is late.\n")
        assert b"clock" in upstream.requests[1].body
        assert re.search(rb"\d\d:\d\d", upstream.requests[1].body)


async def test_a_model_of_ones_own_is_made_and_removed(tmp_path):
    """`own_model.py`: made, shown, asked, and gone again, through the configuration file."""
    file = tmp_path / "config.yaml"
    file.write_text("# mine\nmodels: [{name: demo, backend: demo}]\n")
    with started("-m", "ollama_bridge", "serve", "--port", 0, "--config", file) as url:
        done = run(EXAMPLES / "own_model.py", url)
        left = (await ask(url, "GET", "/api/tags")).json["models"]
    assert (done.returncode, done.stderr) == (0, "")
    assert "pirate: success" in done.stdout
    assert re.search(r"temperature +0.2", done.stdout)
    assert "You said: Where is the treasure?" in done.stdout
    assert [model["name"] for model in left] == ["demo:latest"]
    assert file.read_text().startswith("# mine\n")


def test_texts_are_found_by_their_meaning(tmp_path):
    """`search.py`: the note that shares words with the question comes first; without a model it says so."""
    file = tmp_path / "config.yaml"
    file.write_text("models: [{name: demo-embed, backend: demo}]\n")
    with started("-m", "ollama_bridge", "serve", "--port", 0, "--config", file) as url:
        done = run(EXAMPLES / "search.py", url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Stop it with Ctrl-C" in done.stdout.splitlines()[0]
    with started("-m", "ollama_bridge", "serve", "--port", 0) as url:
        none = run(EXAMPLES / "search.py", url)
    assert none.returncode == 1
    assert "no model on offer embeds" in none.stderr
