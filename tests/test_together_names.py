"""Whatever providers list, and however they are called: names are told apart, lists agree, and each name reaches its model."""

import asyncio
import json
import tempfile
from collections import Counter
from pathlib import Path

from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_bridge import lists
from ollama_bridge.cli import main
from ollama_bridge.config.file import Source
from ollama_bridge.facts import Listed
from ollama_bridge.lineage import key_of
from ollama_bridge.lists import Shelf, to_entries
from ollama_bridge.names import fitted, parse_name
from running import ask, running
from together import CHAT
from upstream import Script, Upstream
from wires import Said

KINDS = ["openai", "groq", "openrouter", "deepseek", "mistral", "zai", "huggingface", "vllm", "lmstudio"]
NAMES = ["acme", "Acme.two", "meta", "groq", "deepseek", "x", "a_b", "vllm", "open-router"]
IDS = [
    *("gpt-x", "GPT-X", "meta/llama-3:free", "llama-3:free", "deepseek-chat", "x:latest", "x", "@cf/meta/x"),
    *("auto", "small", "a b", "lab/big-cloud", "deepseek/deepseek-chat", "llama-3.3-70b-versatile", "größe"),
    *("glm-5", "acme/gpt-x", "x/x", "mistral-large-latest", "models/x", "some.model_v1-2024-05-13"),
]
PATTERNS = ["*", "meta/*", "*x", "deepseek*", "nothing"]
ONE = st.fixed_dictionaries(
    {"kind": st.sampled_from(KINDS), "listed": st.lists(st.sampled_from(IDS), unique=True, max_size=8)},
    optional={
        "include": st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2),
        "exclude": st.lists(st.sampled_from(PATTERNS[1:]), min_size=1, max_size=2),
        "new_models": st.sampled_from(["enabled", "disabled"]),
    },
)


@settings(max_examples=12, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    providers=st.dictionaries(st.sampled_from(NAMES), ONE, min_size=1, max_size=6),
    written=st.lists(st.sampled_from(IDS[:6]), unique_by=key_of, max_size=2),
)
def test_every_name_is_one_models_and_reaches_it(providers, written):
    """`/api/tags`, `/v1/models` and `models --json` agree; each name answers, and so does `provider/model`."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_checked(Path(folder), providers, written))


async def _checked(folder, providers, written):
    def answer(seen):
        return Script([CHAT.stream(Said(f"{seen.path.split('/')[1]} {seen.json['model']}"))])

    async with Upstream(answer) as upstream:
        source = _source(folder, upstream.url, providers, written)
        told = CliRunner().invoke(main, ["models", "--json", "--config", str(source.path)])
        assert told.exit_code == 0, told.stderr
        rows = {row["name"]: row for row in map(json.loads, told.stdout.splitlines())}
        async with running(load=lambda: source.load().config) as daemon:
            tags = [one["name"] for one in (await ask(daemon.url, "GET", "/api/tags")).json["models"]]
            models = [one["id"] for one in (await ask(daemon.url, "GET", "/v1/models")).json["data"] or ()]
            assert sorted(tags) == sorted(models) == sorted(rows)
            assert all(parse_name(name).shortest == name for name in tags)
            assert len({key_of(name) for name in tags}) == len(tags)
            full = Counter(key_of(fitted(row["backend_model"], row["backend"])) for row in rows.values())
            for name, row in rows.items():
                if "completion" not in row["capabilities"]:
                    continue
                other = fitted(row["backend_model"], row["backend"])
                is_its_own = full[key_of(other)] == 1 and key_of(other) not in {*map(key_of, rows)} - {
                    key_of(name)
                }
                for called in (name, other) if is_its_own else (name,):
                    body = {"model": called, "messages": [{"role": "user", "content": "?"}], "stream": False}
                    got = await ask(daemon.url, "POST", "/api/chat", body)
                    assert got.status == 200, (called, row, got.body)
                    number = list(providers).index(row["backend"])
                    assert got.json["message"]["content"] == f"{number} {row['backend_model']}", called


def _source(folder, url, providers, written):
    entries, shelves = {}, {}
    for number, (name, said) in enumerate(providers.items()):
        own = {key: value for key, value in said.items() if key != "listed"}
        entries[name] = {**own, "base_url": f"{url}/{number}/v1", "api_key": "k"}
        key = lists.key(name, said["kind"], entries[name]["base_url"])
        shelves[key] = Shelf(to_entries(map(Listed, said["listed"])), asked_s=1.7e9)
    models = [{"name": fitted(one), "backend": next(iter(entries)), "backend_model": one} for one in written]
    path = folder / "config.yaml"
    path.write_text(json.dumps({"providers": entries, "models": models}))
    source = Source(path, environ={}, flags={("server", "port"): ("--port", 0)}, lists=lists.default_path())
    lists.write(source.lists_file, shelves, now_s=1.7e9)
    return source
