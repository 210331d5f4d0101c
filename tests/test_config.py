"""Where a configuration comes from, and what is said when it cannot be used."""

import dataclasses
import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ollama_bridge.backends import BACKENDS, KINDS
from ollama_bridge.catalog import ModelConfig
from ollama_bridge.config import IMPLICIT_PROVIDERS, Config, Provider
from ollama_bridge.config.example import EXAMPLE
from ollama_bridge.config.file import CATALOGUE, Source, default_path, find, parse_host
from ollama_bridge.errors import ConfigError

KEY = "sk-ant-api03-0123456789abcdef"


@pytest.fixture
def load(tmp_path):
    """Loads a text as `config.yaml`, in an environment of one's own."""

    def load(text=None, flags=None, **environ):
        path = tmp_path / "config.yaml"
        if text is not None:
            path.write_text(text)
        return Source(path, environ=environ, flags=flags or {}).load()

    return load


@pytest.fixture
def refusal(load, tmp_path):
    """The message of the ConfigError that loading a text raises, the folder cut off."""

    def refusal(text=None, **environ):
        with pytest.raises(ConfigError) as caught:
            load(text, **environ)
        assert caught.value.__cause__ is None  # pydantic's own error would hold the values
        message = str(caught.value)
        assert "\n" not in message
        return message.replace(f"{tmp_path}/", "")

    return refusal


def test_without_file_and_key_the_demo_is_offered(load):
    """The connection can be proven before a key is bought."""
    loaded = load()
    assert [model.name for model in loaded.config.models] == ["demo"]
    assert loaded.config.providers["demo"].settings("demo").kind == "demo"
    assert (loaded.config.server.host, loaded.config.server.port) == ("127.0.0.1", 11434)


@pytest.mark.parametrize(
    ("variable", "kind"),
    [
        ("ANTHROPIC_API_KEY", "anthropic"),
        ("CLAUDE_API_KEY", "anthropic"),
        ("OPENAI_API_KEY", "openai"),
        ("GEMINI_API_KEY", "google"),
        ("GOOGLE_API_KEY", "google"),
    ],
)
def test_a_key_in_the_environment_is_all_a_provider_needs(load, variable, kind):
    """Its catalogue is offered, and nobody else's."""
    loaded = load(**{variable: f" {KEY}\n"})
    settings = loaded.config.providers[kind].settings(kind)
    assert settings.api_keys == (KEY,)
    assert {model.backend for model in loaded.config.models} == {kind}
    assert loaded.origin(("providers", kind, "api_key")) == f"environment {variable}"
    assert loaded.origin(("models", 0, "name")) == CATALOGUE


def test_flags_go_before_environment_before_file_before_default(load):
    text = "server: {host: 10.0.0.1, port: 1}\nstreaming:\n  chunk_size: 2\n  delay_ms: 3\n"
    flags = {("server", "port"): ("--port", 4)}
    loaded = load(text, flags, PORT="5", STREAMING_CHUNK_SIZE="6", LOG_LEVEL="WARN", DEFAULT_MAX_TOKENS="7")
    config = loaded.config
    assert (config.server.host, config.server.port) == ("10.0.0.1", 4)
    assert (config.streaming.chunk_size, config.streaming.delay_ms) == (6, 3)
    assert (config.log_level, config.default_max_tokens) == ("warning", 7)
    assert loaded.origin(("server", "port")) == "--port"
    assert loaded.origin(("streaming", "chunk_size")) == "environment STREAMING_CHUNK_SIZE"
    assert loaded.origin(("streaming", "delay_ms")).endswith("config.yaml:4")
    assert loaded.origin(("streaming", "idle_timeout_s")) == "default"


def test_an_env_file_gives_what_the_environment_lacks(load, tmp_path):
    """The real environment wins; the values also serve `${…}` in the file."""
    (tmp_path / ".env").write_text("# mine\nexport PORT=1\nSTREAMING_DELAY_MS='2'\nADDRESS=10.0.0.1\n")
    loaded = load("server: {host: '${ADDRESS}'}", PORT="3")
    assert loaded.config.server.port == 3
    assert loaded.config.server.host == "10.0.0.1"
    assert loaded.config.streaming.delay_ms == 2
    assert loaded.origin(("streaming", "delay_ms")) == f"{tmp_path}/.env STREAMING_DELAY_MS"

    (tmp_path / "other.env").write_text("STREAMING_DELAY_MS=9\n")
    source = Source(tmp_path / "config.yaml", env_file=tmp_path / "other.env", environ={"ADDRESS": "::1"})
    assert source.load().config.streaming.delay_ms == 9


def test_a_bad_env_file_is_named_with_its_line(refusal, tmp_path):
    (tmp_path / ".env").write_text(f"A=1\n{KEY} and more\n")
    assert refusal() == ".env:2: not a NAME=value line"
    with pytest.raises(ConfigError, match=r"none\.env: no such file"):
        Source(tmp_path / "config.yaml", env_file=tmp_path / "none.env", environ={}).load()


def test_a_file_that_was_named_must_exist(tmp_path):
    with pytest.raises(ConfigError, match="no such file; `ollama-bridge config init` writes one"):
        Source(tmp_path / "config.yaml", required=True, environ={}).load()


def test_the_environment_is_the_one_of_the_start(tmp_path, monkeypatch):
    """The daemon removes keys from its environment, and must find them when it loads again."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    source = Source(tmp_path / "config.yaml")
    before = source.load().config
    monkeypatch.delenv("OPENAI_API_KEY")
    assert source.load().config == before
    assert KEY not in repr(source)


@pytest.mark.parametrize(
    ("value", "host", "port"),
    [
        ("1.2.3.4", "1.2.3.4", None),
        (":1234", "", 1234),
        ("example.com:1234", "example.com", 1234),
        ("::1", "::1", None),
        ("[::1]", "::1", None),
        ("[::1]:1337", "::1", 1337),
        (":66000", "", None),
        (":-1", "", None),
        ("http://1.2.3.4", "1.2.3.4", 80),
        ("http://1.2.3.4:66000", "1.2.3.4", 80),
        ("https://1.2.3.4", "1.2.3.4", 443),
        ("https://example.com/ollama", "example.com", 443),
        ("ollama.com", "ollama.com", 443),
        (" '0.0.0.0' ", "0.0.0.0", None),
        ("http://", "127.0.0.1", 80),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(load, value, host, port):
    """Every form of ollama-api.md §6.4."""
    assert parse_host(value) == (host, port)
    server = load("server: {port: 7}", OLLAMA_HOST=value).config.server
    assert (server.host, server.port) == (host, port or 7)


def test_ollama_host_leaves_the_port_to_port_unless_it_names_one(load):
    assert load(OLLAMA_HOST="0.0.0.0", PORT="8").config.server.port == 8
    assert load(OLLAMA_HOST="0.0.0.0:9", PORT="8").config.server.port == 9
    assert load(OLLAMA_HOST="", PORT="").config.server.port == 11434


def test_variables_expand_in_the_file(load):
    text = """
server:
  host: "${HOST:-10.0.0.2}"
  port: ${HTTP_PORT}
providers:
  acme:
    kind: openai
    base_url: http://${HOST:-127.0.0.1}:9/v1
    api_key: ["${ONE}", "a$${b}"]
"""
    config = load(text, HTTP_PORT="12", ONE="k1", HOST="").config
    assert (config.server.host, config.server.port) == ("10.0.0.2", 12)
    settings = config.providers["acme"].settings("acme")
    assert settings.api_keys == ("k1", "a${b}")
    assert settings.base_url == "http://127.0.0.1:9/v1"


def test_a_provider_of_ones_own_gets_no_key_it_does_not_name(load):
    """An address may be a third party's: the environment's key is not sent there."""
    text = "providers:\n  openai: {base_url: 'http://127.0.0.1:1/v1'}\n  google: {kind: openai, base_url: 'http://x'}\n"
    config = load(text, OPENAI_API_KEY=KEY, GEMINI_API_KEY=KEY).config
    assert config.secrets() == ()


def test_a_backend_of_ones_own_is_a_kind_too(load):
    """`module:Class`, as `examples/custom_backend.py` has it."""
    config = load(
        "providers: {mine: {kind: 'my.package:Backend'}}\nmodels: [{name: a, backend: mine}]"
    ).config
    assert config.providers["mine"].settings("mine").kind == "my.package:Backend"


@pytest.mark.parametrize("written", ["none", "''", "[]", "~", "'${NOTHING:-}'"])
def test_a_provider_may_have_no_key(load, written):
    config = load(f"providers:\n  acme: {{kind: openai, base_url: 'http://x/v1', api_key: {written}}}").config
    assert config.providers["acme"].settings("acme").api_keys == ()


def test_every_setting_of_a_provider_reaches_its_backend(load):
    """What the file can say about a provider is what the backend's constructor is told."""
    text = """
providers:
  acme:
    kind: openai
    api: responses
    fim: completions
    base_url: http://127.0.0.1:9/v1
    api_key: secret-one
    timeout_s: 60
    connect_timeout_s: 2.5
    proxy: true
    headers: {X-Team: editors}
    at_once: 2
    spacing_s: 0.5
"""
    provider = load(text).config.providers["acme"]
    assert provider.timeout_s == 60
    assert dataclasses.asdict(provider.settings("acme")) == {
        "name": "acme",
        "kind": "openai",
        "api_keys": ("secret-one",),
        "base_url": "http://127.0.0.1:9/v1",
        "api": "responses",
        "fim": "completions",
        "connect_timeout_s": 2.5,
        "trust_env": True,
        "headers": {"X-Team": "editors"},
        "account": "",
        "api_version": "",
        "project": "",
        "location": "",
        "credentials": "",
        "scope": "",
        "token_url": "",
        "ca_bundle": "",
        "at_once": 2,
        "spacing_s": 0.5,
    }
    assert "secret-one" not in repr(provider)
    assert "editors" not in repr(provider)


def test_the_catalogue_is_offered_by_those_who_serve_it(load):
    """By a second account under names of its own, by a compatible vendor not at all."""
    text = """
providers:
  anthropic: {api_key: k1}
  work: {kind: anthropic, api_key: k2}
  acme: {kind: openai, base_url: "http://x/v1", api_key: none}
  openai: {}
"""
    names = [model.name for model in load(text).config.models]
    own = [name for name in names if not name.startswith("work/")]
    assert own
    assert names == own + [f"work/{name}" for name in own]
    assert all(name.startswith("claude") for name in own)


def test_a_name_the_operator_uses_is_not_the_catalogues(load):
    """An entry changes the model of that name; an alias takes the name over."""
    first, second, *_ = (model.name for model in load(ANTHROPIC_API_KEY=KEY).config.models)
    text = f"models:\n  - {{name: '{first.upper()}:latest', backend: anthropic, max_tokens: 5}}\n"
    text += f"  - {{name: mine, backend: demo, aliases: ['{second}']}}\n"
    config = load(text, ANTHROPIC_API_KEY=KEY).config
    assert find(config, first)[1].max_tokens == 5
    assert find(config, second)[1].name == "mine"
    assert sum(model.name.lower().removesuffix(":latest") in {first, second} for model in config.models) == 1


def test_a_model_may_name_a_built_in_provider_without_an_entry(load):
    config = load("models: [{name: a, backend: anthropic}, {name: b, backend: demo}]").config
    assert [model.name for model in config.models if model.backend == "anthropic"] == ["a"]
    assert config.providers["anthropic"].settings("anthropic").api_keys == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\nstreaming:\n  chunksize: 3\n", "config.yaml:4: unknown key 'chunksize' in 'streaming'; did you mean 'chunk_size'?"),
        ("modles: []", "config.yaml:1: unknown key 'modles'; did you mean 'models'?"),
        ("models:\n- name: a\n  backend: demo\n  alias: b", "config.yaml:4: unknown key 'alias' in 'models[0]'; did you mean 'aliases'?"),
        ("providers:\n  demo: {url: x}", "config.yaml:2: unknown key 'url' in 'providers.demo'; known: kind, api, fim, base_url, api_key, timeout_s, connect_timeout_s, proxy, headers, account, gateway, api_version, project, location, credentials, scope, token_url, ca_bundle, at_once, spacing_s, discover, new_models, include, exclude, requests_per_minute, requests_per_hour, requests_per_day, tokens_per_minute"),
        ("server: {port: many}", "config.yaml:1: server.port must be a whole number, not 'many'"),
        ("server: {port: 70000}", "config.yaml:1: server.port must be less than or equal to 65535, not 70000"),
        ("server: 3", "config.yaml:1: server must hold keys with values"),
        ("server:\n  host: 1.2.3.4:80", "config.yaml:2: server.host must be a name or an address alone; the port is a key of its own, not '1.2.3.4:80'"),
        ("streaming: {idle_timeout_s: .inf}", "config.yaml:1: streaming.idle_timeout_s must be a finite number, not inf"),
        ("log_level: loud", "config.yaml:1: log_level must be 'debug', 'info', 'warning' or 'error', not 'loud'"),
        ("models: {}", "config.yaml:1: models must be a list"),
        ("models:\n- backend: demo", "config.yaml:2: models[0].name is missing"),
        ("models:\n- name: 3\n  backend: demo", "config.yaml:2: models[0].name must be text, not 3"),
        ("models:\n- {name: a, backend: zz}", f"config.yaml:2: model 'a': no provider is called 'zz'; known: {', '.join(sorted(IMPLICIT_PROVIDERS))}"),
        ("models:\n- {name: a, backend: grok}", "config.yaml:2: model 'a': no provider is called 'grok'; did you mean 'xai'?"),
        ("providers:\n  acme: {api_key: none}", f"config.yaml:2: provider 'acme' needs a kind: {', '.join(KINDS)}, or module:Class; who else speaks OpenAI's API is openai, with a base_url"),
        ("providers:\n  acme: {kind: q}", f"config.yaml:2: provider 'acme': no kind is called 'q'; known: {', '.join(KINDS)}, or module:Class; who else speaks OpenAI's API is openai, with a base_url"),
        ("providers:\n  acme: {kind: grok}", "config.yaml:2: provider 'acme': no kind is called 'grok'; did you mean 'xai'?"),
        ("providers:\n  gorq: {api_key: x}", "config.yaml:2: provider 'gorq' needs a kind; did you mean 'groq'?"),
        ("models:\n- {name: a, backend: demo}\n- {name: 'A:latest', backend: demo}", "config.yaml:3: model name 'A:latest' is taken by model 'a'"),
        ("models:\n- {name: a, backend: demo}\n- name: b\n  backend: demo\n  aliases:\n  - c\n  - A", "config.yaml:7: alias 'A' of model 'b' is taken by model 'a'"),
        ("models:\n- {name: a, backend: demo, aliases: [b, 'B:latest']}", "config.yaml:2: alias 'B:latest' of model 'a' is taken by model 'a'"),
        ("models:\n- {name: 'a b', backend: demo}", "config.yaml:2: model name 'a b' is not a name Ollama clients accept; letters, digits, '.', '_', '-', then ':tag' if you like"),
        ("a: 1\nb: [", "config.yaml:2: not valid YAML: expected the node content, but found '<stream end>'"),
        ("a: *b", "config.yaml:1: not valid YAML: found undefined alias 'b'"),
        ("a: &a [*a]", "config.yaml:1: an alias that contains itself"),
        ("server: {}\nserver: {}", "config.yaml:2: the key 'server' stands here twice"),
        ("? [a]\n: 1", "config.yaml:1: a key must be a word"),
        ("a: !!python/object:os.system x", "config.yaml:1: the tag 'tag:yaml.org,2002:python/object:os.system' means nothing here"),
        ("- a", "config.yaml:1: must hold keys with values, as in 'server: {port: 11434}'"),
        ("a: 1\n---\nb: 1", "config.yaml:2: not valid YAML: but found another document"),
        ("server:\n  host: ${WHERE}", "config.yaml:2: the environment variable WHERE is not set; set it, or write ${WHERE:-default}"),
        ("server:\n  host: ${WHERE", "config.yaml:2: '${' begins a variable, as in ${NAME} or ${NAME:-default}; write '$${' for the signs"),
        ("\x00", "config.yaml: not valid YAML: it holds characters or directives YAML forbids"),
        ("a: " + "[" * 10_000, "config.yaml: nested too deeply"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_and_its_cure(refusal, text, message):
    assert refusal(text) == message


@pytest.mark.parametrize("name", ["gpt:cloud", "gpt:120b-cloud", "GPT-Cloud"])
@pytest.mark.parametrize(
    "text", ["{{name: '{}', backend: demo}}", "{{name: a, backend: demo, aliases: ['{}']}}"]
)
def test_names_that_clients_take_for_ollamas_cloud_are_refused(refusal, text, name):
    message = refusal(f"models:\n- {text.format(name)}")
    assert message.startswith("config.yaml:2: ")
    assert message.endswith("clients take such models for ollama.com's and ask to sign in")


def test_several_mistakes_are_counted(refusal):
    assert refusal("log_level: x\nserver: {port: x, prot: 1}\n").endswith("'error', not 'x' (and 2 more)")


@pytest.mark.parametrize(
    "variable", ["PORT", "DEFAULT_MAX_TOKENS", "STREAMING_CHUNK_SIZE", "STREAMING_DELAY_MS"]
)
def test_a_bad_variable_is_named(refusal, variable):
    assert re.fullmatch(
        rf"environment {variable}: \w+(\.\w+)? must be a whole number, not 'x'", refusal(**{variable: "x"})
    )


@pytest.mark.parametrize(
    "url",
    [
        "redis://:plain/secret@host:6379",
        "redis://:plain#secret@host:6379",
        "redis://:123?secret@host",
        "redis://me:123#secret@host:6379/0",
        "redis://host:99999",
        "redis://host:0",
        "redis://:6379",
    ],
)
def test_a_store_whose_password_would_be_taken_for_its_host_is_refused(refusal, url):
    """With what to write instead; a part of a password that is read as an address would be logged as one."""
    message = refusal(f"state: '{url}'")
    assert "in a password, write / ? # @ : as %2F" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    "url",
    [
        "redis://:plain%2Fsecret@host",
        "redis://host/0?password=plain/secret",
        "unix://:plain%2Fsecret@/run/r.sock",
    ],
)
def test_the_password_of_a_store_is_a_secret(load, url):
    """Wherever it stands in the address: no log may show it."""
    assert "plain/secret" in load(f"state: '{url}'").config.secrets()


@pytest.mark.parametrize(
    "text",
    [
        f"providers: {{anthropic: {{api_key: [['{KEY}']]}}}}",
        f"providers: {{anthropic: {{api_key: '{KEY} x'}}}}",
        f"providers: {{anthropic: {{api_key: '{KEY}ü'}}}}",
        f"providers: {{anthropic: {KEY}}}",
        f"providers: {{anthropic: {{{KEY}: 1}}}}",
        f"providers: {{anthropic: {{headers: {{a: ['{KEY}']}}}}}}",
        f"providers: {KEY}",
        f"{KEY}: 1",
        f"models: [{{name: x, backend: {KEY}}}]",
        f"server: {{port: {KEY}}}",
        "server: {port: '${SECRET}'}",
        "log_level: ${SECRET}",
        "models: [{name: a, backend: demo, max_tokens: '${SECRET}'}]",
        f"a: [{KEY}\n- : {{",
    ],
)
def test_no_error_shows_a_key(refusal, text):
    """Neither one that looks like a key nor one that came out of a variable."""
    message = refusal(text, SECRET="plainsecret")
    assert KEY[12:] not in message
    assert "plainsecret" not in message


def test_two_configurations_that_do_the_same_are_equal(load):
    """The daemon reloads only for a change that matters."""
    one = load("server: {port: 1}\n# a comment\n").config
    assert load("\n\nserver:\n  port: 1\n").config == one
    assert load("server: {}", PORT="1").config == one
    assert load("server: {port: 2}").config != one
    key_a, key_b = (load("", OPENAI_API_KEY=key).config for key in ("k1", "k2"))
    assert key_a != key_b


def test_merges_and_anchors_are_understood(load):
    text = """
models:
  - &base {name: a, backend: demo, max_tokens: 5}
  - {<<: *base, name: b}
  - {<<: [{max_tokens: 6}, *base], name: c}
"""
    assert [(m.name, m.max_tokens) for m in load(text).config.models[:3]] == [("a", 5), ("b", 5), ("c", 6)]


def test_a_small_file_cannot_fill_the_memory(refusal):
    """Aliases of aliases of aliases."""
    rows = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "more than 100000 values" in refusal("\n".join(["a0: &a0 x", *rows]))


def test_empty_sections_are_sections_left_out(load):
    """As after all keys of a section were commented out."""
    text = "server:\n  port:\nstreaming:\nproviders:\n  demo:\nmodels:\nlog_level:\n"
    assert load(text).config == load("").config


def test_the_example_is_good_and_names_every_key(load):
    """As it is, and with every comment that holds a setting taken for the setting."""
    assert load(EXAMPLE).config == load("").config
    uncommented = "\n".join(
        re.sub(r"^( *)# ( *-? ?[a-z_]+:)", r"\1\2", line)
        for line in EXAMPLE.splitlines()
        if not line.startswith("# A ")
    )
    loaded = load(uncommented, ANTHROPIC_API_KEY=KEY)
    for schema in (Config, *Config.SECTIONS.values()):
        for key in (field.alias or name for name, field in schema.model_fields.items()):
            assert re.search(rf"^[ -]*{key}:", uncommented, re.MULTILINE), f"{key} is not in the example"
    assert {"acme", "anthropic"} <= set(loaded.config.providers)
    assert loaded.config.models[0].name == "claude-sonnet"


def test_unreadable_files_are_a_mistake_too(tmp_path, refusal):
    (tmp_path / "config.yaml").write_bytes(b"a: \xff")
    assert refusal() == "config.yaml: is not UTF-8 text (byte 3)"
    (tmp_path / "config.yaml").unlink()
    (tmp_path / "config.yaml").mkdir()
    assert refusal() == "config.yaml: cannot be read: Is a directory"


def test_a_model_is_found_by_name_or_alias_in_any_case(load):
    config = load("models:\n- {name: One, backend: demo, aliases: [uno], enabled: false}\n").config
    assert [find(config, name)[0] for name in ("one", "ONE:latest", "Uno")] == [0, 0, 0]
    with pytest.raises(ConfigError, match=r"^model 'onn' not found; did you mean 'One'\?$"):
        find(config, "onn")


def test_a_configuration_can_be_made_in_python():
    """The same rules hold without a file."""
    model = ModelConfig(name="a", backend="demo")
    assert Config(providers={"demo": Provider()}, models=(model,)).models == (model,)
    with pytest.raises(ValueError, match="taken by model 'a'"):
        Config(providers={"demo": Provider()}, models=(model, model))


def test_the_file_is_in_the_users_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_path() == tmp_path / "ollama-bridge" / "config.yaml"


scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(list(BACKENDS))
words = st.sampled_from(
    [
        field.alias or name
        for schema in (Config, *Config.SECTIONS.values())
        for name, field in schema.model_fields.items()
    ]
    + list(BACKENDS)
)
anything = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(), inner, max_size=4)
)


@settings(deadline=None)  # the machine may be busy
@example({"\n": None})
@given(st.dictionaries(words | st.text(), anything, max_size=6))
def test_whatever_a_file_holds_nothing_but_a_config_error_comes_out(tmp_path_factory, data):
    """Any tree of values."""
    _load_or_refuse(tmp_path_factory.getbasetemp() / "config.yaml", json.dumps(data))


@settings(deadline=None)  # the machine may be busy
@given(
    st.text()
    | st.lists(
        st.sampled_from([*"[]{}:-,?&*!|>'\"%@`#\n\t ${}~<", "a", "<<", "server", "${A}", "..."]), max_size=30
    ).map("".join)
)
def test_whatever_a_file_is_nothing_but_a_config_error_comes_out(tmp_path_factory, text):
    """Any text."""
    _load_or_refuse(tmp_path_factory.getbasetemp() / "config.yaml", text)


def _load_or_refuse(path, text):
    try:
        Source(path, environ={}).parse(text)
    except ConfigError as exc:
        assert "\n" not in str(exc)  # noqa: PT017 - both outcomes are fine
