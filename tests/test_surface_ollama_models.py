"""What clients read of our models is what each of them, by its own source, demands."""

import re
from datetime import UTC, datetime, timedelta

import ollama
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.catalog import CATALOG, ModelConfig, complete
from ollama_bridge.registry import FOREVER, Loaded
from ollama_bridge.surfaces import ollama_models
from ollama_bridge.surfaces.ollama_models import ps_body, rfc3339, show_body, tags_body, version_body
from shared import SHARED

MODELS = tuple(
    complete(ModelConfig(name=facts.id, backend=kind), kind=kind)
    for kind, rows in CATALOG.items()
    for facts in rows
)
EACH = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.target.model)
NOW = datetime(2026, 11, 20, 12, 30, 15, 250_000, tzinfo=UTC)
KOOG_CAPABILITIES = {"audio", "completion", "embedding", "insert", "vision", "thinking", "tools"}
RFC3339 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)"


def show(model, **more):
    return orjson.loads(show_body(model, requested=model.name, **more))


def tag_of(model):
    [tag] = orjson.loads(tags_body((model,)))["models"]
    return tag


def strings(thing, *names):
    for name in names:
        assert type(thing[name]) is str, name


def integers(thing, *names):
    for name in names:
        assert type(thing[name]) is int, name


def embeds(shown):
    return shown["capabilities"] == ["embedding"]


def nulls(thing):
    if isinstance(thing, dict | list):
        return any(map(nulls, thing.values() if isinstance(thing, dict) else thing))
    return thing is None


# What clients demand of an entry of /api/tags and of /api/show, each from its source (clients.md §2).


def koog(tag, shown):
    """Kotlin serialization: what has no default is required, enums are closed, `!!` on two numbers."""
    strings(tag, "name", "model", "modified_at", "digest")
    integers(tag, "size")
    strings(tag["details"], "format", "family", "parameter_size")
    assert set(shown["capabilities"]) <= KOOG_CAPABILITIES
    assert shown["details"] is not None
    architecture = shown["model_info"]["general.architecture"]
    integers(shown["model_info"], f"{architecture}.context_length", f"{architecture}.embedding_length")


def zed(tag, shown):
    """Rust serde without defaults; models with `-embed` are hidden, as they should."""
    strings(tag, "name", "modified_at", "digest")
    assert 0 < tag["size"] < 2**64
    strings(tag["details"], "format", "family", "parameter_size", "quantization_level")
    assert ("-embed" in tag["name"]) == embeds(shown)
    assert isinstance(shown["capabilities"], list)


def opencode(tag, shown):
    """Effect Schema: `families` is an array or absent, optional strings are never null, a context above zero."""
    strings(tag, "name", "model", "modified_at", "digest")
    integers(tag, "size")
    strings(tag["details"], "format", "family", "parameter_size", "quantization_level", "parent_model")
    assert all(type(family) is str for family in tag["details"]["families"])
    strings(shown, "license", "modelfile", "parameters", "template")
    assert ("completion" in shown["capabilities"]) != embeds(shown)  # and then it is not taken for a chat
    assert next(v for k, v in shown["model_info"].items() if k.endswith(".context_length")) > 0


def roo(tag, shown):
    """zod: no nulls in details; without `tools` a model is dropped; the first context_length is taken."""
    strings(tag, "name", "model")
    for details in (tag["details"], shown["details"]):
        strings(details, "family", "parameter_size", "format", "quantization_level", "parent_model")
    assert ("tools" in shown["capabilities"]) != embeds(shown)
    assert type(next(v for k, v in shown["model_info"].items() if "context_length" in k)) is int


def go_cli(tag, shown):
    """Slices digests at 12, parses times strictly, and asks for an account at ollama.com by suffix."""
    assert re.fullmatch(r"[0-9a-f]{64}", tag["digest"])
    assert re.fullmatch(RFC3339, tag["modified_at"])
    assert re.fullmatch(RFC3339, shown["modified_at"])
    assert not re.search(r"[:-]cloud$", tag["name"])
    assert "remote_host" not in tag | shown


def ollama_kit(tag, shown):
    """Swift's Decodable, as Enchanted uses it."""
    strings(tag["details"], "format", "family", "parameter_size", "quantization_level")
    strings(shown, "license", "template", "modelfile", "parameters")
    assert re.fullmatch(RFC3339, tag["modified_at"])


def vs_code(tag, shown):
    """Copilot Chat: `capabilities.includes` on what may be missing, a context by architecture."""
    strings(tag, "model")
    assert ("completion" in shown["capabilities"]) != embeds(shown)
    info = shown["model_info"]
    integers(info, f"{info['general.architecture']}.context_length")
    strings(info, "general.basename")


def continue_dev(tag, shown):
    """Reads `num_ctx` from the parameters, and offers completion where the template has a suffix."""
    [num_ctx] = re.findall(r"^num_ctx\s+(\d+)$", shown["parameters"], re.MULTILINE)
    assert int(num_ctx) == tag["details"]["context_length"]
    assert (".Suffix" in shown["template"]) == ("insert" in shown["capabilities"])


def litellm(tag, shown):
    """Tool support is the word in the template."""
    assert ("tools" in shown["template"].lower()) == ("tools" in shown["capabilities"])
    assert "{{ .Prompt }}" in shown["template"]


def code_companion(tag, shown):
    """Joins the family to its key, without asking for the architecture."""
    integers(shown["model_info"], f"{shown['details']['family']}.context_length")


def spring_ai(tag, shown):
    """Compares by name with `:latest` appended."""
    assert tag["name"] == tag["model"]
    assert tag["name"].endswith(":latest")


CLIENTS = [
    koog, zed, opencode, roo, go_cli, ollama_kit, vs_code, continue_dev, litellm, code_companion, spring_ai,
]  # fmt: skip


@EACH
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
def test_every_model_is_what_the_client_demands(client, model):
    """One entry that a client cannot read empties its whole list."""
    client(tag_of(model), show(model))


def test_nothing_is_null_anywhere():
    """Ollama leaves out what it has not; half of the clients fail on null."""
    assert not nulls(orjson.loads(tags_body(MODELS)))
    assert not any(nulls(show(model)) for model in MODELS)


def test_what_lists_are_keyed_by_is_unique():
    """llm-ollama merges equal digests, VS Code shows only base names, everybody asks by name."""
    shown = orjson.loads(tags_body(MODELS))["models"]
    for values in (
        [tag["name"] for tag in shown],
        [tag["digest"] for tag in shown],
        [show(model)["model_info"]["general.basename"] for model in MODELS],
    ):
        assert len(set(values)) == len(MODELS)


@EACH
def test_the_official_package_reads_it(model):
    """By the pydantic types of `ollama` from PyPI, with our numbers in them."""
    [listed] = ollama.ListResponse.model_validate_json(tags_body((model,))).models
    shown = ollama.ShowResponse.model_validate_json(show_body(model))
    loaded = ollama.ProcessResponse.model_validate_json(ps_body([model], [Loaded(model.name, NOW)]))

    assert (listed.model, listed.digest, listed.details.families) == (
        model.name,
        model.digest,
        [model.family],
    )
    assert listed.modified_at == shown.modified_at == model.modified_at
    assert tuple(shown.capabilities) == model.capabilities
    assert shown.modelinfo[f"{model.family}.context_length"] == model.context_length
    assert (loaded.models[0].expires_at, loaded.models[0].context_length) == (NOW, model.context_length)


def golden_shows():
    text = (SHARED / "golden" / "t6.txt").read_text()
    return [orjson.loads(line) for line in text.splitlines() if line.startswith('{"') and "details" in line]


@pytest.mark.skipif(SHARED is None, reason="the golden replies lie beside the repository, and are not there")
def test_show_has_the_keys_of_a_real_server_in_its_order():
    """Each of ours is in the real server's reply, and in the same place."""
    real = max(golden_shows(), key=len)
    ours = show(MODELS[0], system="You are T.")

    assert [key for key in real if key in ours] == list(ours)
    assert list(ours["details"]) == list(real["details"])
    assert list(ours["model_info"]) == sorted(ours["model_info"])
    head = real["modelfile"].split("# FROM")[0]
    assert ours["modelfile"].startswith(f"{head}# FROM {MODELS[0].name}\n\nFROM ")
    for word in ("TEMPLATE", "SYSTEM", "PARAMETER num_ctx", "LICENSE"):
        assert f"\n{word} " in ours["modelfile"]
        assert f"\n{word} " in real["modelfile"]
    assert ours["parameters"].index(" 1") == real["parameters"].index(" 2")  # both padded to 30 columns


def test_the_bytes_of_tags_ps_and_version():
    """Key order and absent keys, as recorded from a real server."""
    model = complete(
        ModelConfig(name="m", backend="b", context_length=9, capabilities=("completion",)), kind="demo"
    )
    bare = complete(ModelConfig(name="m", backend="b", context_length=9, capabilities=()), kind="demo")
    size = len(show(model)["modelfile"])
    details = (
        b'"details":{"parent_model":"","format":"gguf","family":"demo","families":["demo"],'
        b'"parameter_size":"unknown","quantization_level":"unknown"'
    )

    assert tags_body((model,)) == (
        b'{"models":[{"name":"m:latest","model":"m:latest","modified_at":"2026-11-20T00:00:00Z","size":%d,'
        b'"digest":"%b",%b,"context_length":9,"embedding_length":8192},"capabilities":["completion"]}]}'
        % (size, model.digest.encode(), details)
    )
    assert b"capabilities" not in tags_body((bare,)) + show_body(bare)
    assert ps_body([model], [Loaded("gone", NOW), Loaded("m:latest", NOW)]) == (
        b'{"models":[{"name":"m:latest","model":"m:latest","size":%d,"digest":"%b",%b},'
        b'"expires_at":"2026-11-20T12:30:15.25Z","size_vram":%d,"context_length":9}]}'
        % (size, model.digest.encode(), details, size)
    )
    assert tags_body(()) == ps_body([model], []) == b'{"models":[]}'
    assert re.fullmatch(rb'\{"version":"\d+\.\d+\.\d+"\}', version_body())
    assert tuple(map(int, ollama_models.VERSION.split("."))) >= (0, 17, 6)


def test_copilot_is_told_the_name_it_asked_for():
    """As the real server does, by user agent; everybody else reads the display name."""
    model = MODELS[0]
    told = {
        agent: orjson.loads(show_body(model, requested="AsKed", user_agent=agent))["model_info"]
        for agent in ("GitHubCopilotChat/0.30", "curl GitHubCopilotChat/0.30", "")
    }

    assert [info["general.basename"] for info in told.values()] == [
        "AsKed",
        model.display_name,
        model.display_name,
    ]


def test_system_and_options_of_a_show_request_are_echoed():
    """The system prompt in its place and in the modelfile, options in the modelfile only."""
    shown = show(
        MODELS[0],
        system='say "hi"\nand <go>',
        options={"num_ctx": 4, "stop": ["<a>", " b"], "temperature": 0.5, "penalize_newline": True},
    )

    assert shown["system"] == 'say "hi"\nand <go>'
    assert 'SYSTEM """say "hi"\nand <go>"""\n' in shown["modelfile"]
    parameters = [line for line in shown["modelfile"].splitlines() if line.startswith("PARAMETER")]
    assert parameters == [
        "PARAMETER num_ctx 4",
        "PARAMETER penalize_newline true",
        "PARAMETER stop <a>",
        'PARAMETER stop " b"',
        "PARAMETER temperature 0.5",
    ]
    assert shown["parameters"] == show(MODELS[0])["parameters"]
    assert "system" not in show(MODELS[0])


@given(
    st.text(),
    st.text(),
    st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.text())),
)
def test_whatever_a_client_asks_the_body_is_json_as_go_writes_it(requested, system, options):
    """One line, no raw `<`, `>` or `&`, and the client's own text comes back unchanged."""
    body = show_body(
        MODELS[0], requested=requested, system=system, options=options, user_agent="GitHubCopilotChat/1"
    )

    assert not re.search(rb"[<>&\n]|\xe2\x80[\xa8\xa9]", body)
    shown = orjson.loads(body)
    assert shown["model_info"]["general.basename"] == requested
    assert shown.get("system", "") == system


def test_a_thousand_models_are_encoded_once():
    """Editors poll the list: until the registry changes, the answer is the very same bytes."""
    many = tuple(complete(ModelConfig(name=f"m{i}", backend="b"), kind="demo") for i in range(1000))
    body = tags_body(many)

    assert tags_body(many) is body
    assert len(orjson.loads(body)["models"]) == 1000
    assert tags_body(many[:1]) != body
    assert tags_body(many) == body


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (NOW, "2026-11-20T12:30:15.25Z"),
        (NOW.replace(microsecond=0), "2026-11-20T12:30:15Z"),
        (NOW.replace(second=20, microsecond=0), "2026-11-20T12:30:20Z"),
        (NOW.replace(microsecond=1), "2026-11-20T12:30:15.000001Z"),
    ],
)
def test_times_are_written_as_go_writes_them(moment, text):
    """Trailing zeros are cut from fractions, never from seconds; another zone becomes UTC."""
    assert rfc3339(moment) == text
    assert rfc3339((moment + timedelta(0)).astimezone()) == text
    assert re.fullmatch(RFC3339, rfc3339(NOW + FOREVER))
