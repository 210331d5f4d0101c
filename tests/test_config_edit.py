"""Edits of the configuration file: what they change, what they leave, and what they survive."""

import multiprocessing
import os
import random
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ollama_bridge.config import edit, making
from ollama_bridge.config.draft import HEADER
from ollama_bridge.config.example import EXAMPLE
from ollama_bridge.config.file import Source, find
from ollama_bridge.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]

FILE = """\
# mine
server:    {host: 127.0.0.1,   port: 11434}   # aligned as I like it
providers:
    acme: {kind: openai, base_url: "http://${HOST:-127.0.0.1}:9/v1", api_key: 'none'}

models:
  # the first
  - name: one       # the name
    backend: acme
    description: >
      Of several
      lines.

  - {name: two, backend: demo, enabled: false}   # in a row
  -   name: three
      backend: demo
      enabled:   true   # for now
      aliases:
      - drei   # German
# the end
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(FILE)
    return Source(path, environ={})


def lines_added(before, after):
    """The lines that `after` has more; fails when one was lost."""
    rest = iter(after.splitlines())
    added = []
    for line in before.splitlines():
        for other in rest:
            if other == line:
                break
            added.append(other)
        else:
            raise AssertionError(f"lost: {line}")
    return [*added, *rest]


def test_switching_a_model_changes_one_place_and_nothing_else(source):
    """In all three layouts of an entry, there and back."""
    edit.set_enabled(source, ["ONE", "three:latest"], enabled=False)
    expected = FILE.replace("# the name\n", "# the name\n    enabled: false\n").replace(
        "enabled:   true", "enabled:   false"
    )
    assert source.path.read_text() == expected
    assert [model.enabled for model in source.load().config.models[:3]] == [False, False, False]

    edit.set_enabled(source, ["one", "two", "drei"], enabled=True)
    assert source.path.read_text() == FILE.replace("# the name\n", "# the name\n    enabled: true\n").replace(
        "enabled: false}", "enabled: true}"
    )


def test_what_is_so_already_is_not_written(source):
    before = source.path.stat()
    edit.set_enabled(source, ["one"], enabled=True)
    assert source.path.stat() == before


def test_a_catalogue_model_gets_the_least_entry_that_hides_it(source):
    """And enabling it needs no second representation."""
    source = Source(source.path, environ={"ANTHROPIC_API_KEY": "k"})
    name = next(model.name for model in source.load().config.models if model.backend == "anthropic")
    loaded = edit.set_enabled(source, [name], enabled=False)
    assert lines_added(FILE, source.path.read_text()) == [
        f"  - name: {name}",
        "    backend: anthropic",
        "    enabled: false",
    ]
    assert not find(loaded.config, name)[1].enabled
    assert loaded.config == source.load().config
    edit.set_enabled(source, [name], enabled=True)
    assert find(source.load().config, name)[1].enabled


def test_a_model_is_appended_with_its_keys_in_order(source):
    entry = {
        "name": "new:v1",
        "backend": "acme",
        "description": "a: b # c",
        "max_tokens": 5,
        "aliases": ("yes", "new"),
    }
    edit.add_model(source, entry)
    assert lines_added(FILE, source.path.read_text()) == [
        "  - name: new:v1",
        "    backend: acme",
        '    description: "a: b # c"',
        "    max_tokens: 5",
        '    aliases: ["yes", new]',
    ]
    assert source.load().config.models[3].aliases == ("yes", "new")


def test_an_alias_is_added_to_any_list(source):
    for name, alias in (("one", "uno"), ("one", "eins"), ("two", "due"), ("three", "tre")):
        edit.add_alias(source, name, alias)
    assert lines_added(FILE.replace("two, ", "two, aliases: [due], "), source.path.read_text()) == [
        "    aliases: [uno, eins]",
        "      - tre",
    ]
    assert find(source.load().config, "tre")[1].aliases == ("drei", "tre")


def test_a_missing_file_is_made_for_its_user_alone(tmp_path):
    """With its folder, and a word on what it is."""
    source = Source(tmp_path / "new" / "config.yaml", environ={})
    edit.set_enabled(source, ["demo"], enabled=False)
    assert source.path.read_text() == (
        f"{HEADER}models:\n  - name: demo\n    backend: demo\n    enabled: false\n"
    )
    assert stat.S_IMODE(source.path.stat().st_mode) == 0o600
    assert [model.enabled for model in source.load().config.models] == [False]


def test_mode_link_and_line_endings_stay(tmp_path):
    """A link to a file kept elsewhere stays one, as people do with their dotfiles."""
    real = tmp_path / "dotfiles" / "bridge.yaml"
    real.parent.mkdir()
    real.write_bytes(b"# mine\r\nmodels:\r\n- name: a\r\n  backend: demo\r\n")
    real.chmod(0o640)
    link = tmp_path / "config.yaml"
    link.symlink_to("dotfiles/bridge.yaml")
    edit.set_enabled(Source(link, environ={}), ["a"], enabled=False)
    assert link.is_symlink()
    assert real.read_bytes() == b"# mine\r\nmodels:\r\n- name: a\r\n  enabled: false\r\n  backend: demo\r\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_owner_stays(source):
    os.chown(source.path, 1234, 2345)
    edit.add_alias(source, "one", "uno")
    assert (source.path.stat().st_uid, source.path.stat().st_gid) == (1234, 2345)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: edit.set_enabled(s, ["one", "twoo"], enabled=False), "model 'twoo' not found; did you mean 'two'?"),
        (lambda s: edit.add_alias(s, "one", "DREI"), "is taken by model"),
        (lambda s: edit.add_alias(s, "one", "a:cloud"), "ask to sign in"),
        (lambda s: edit.add_model(s, {"name": "one", "backend": "demo"}), "model name 'one' is taken by model 'one'"),
        (lambda s: edit.add_model(s, {"name": "new", "backend": "acmee"}), "no provider is called 'acmee'"),
        (lambda s: edit.add_model(s, {"name": "new", "backend": "demo", "capabilities": ["x"]}), "capabilities"),
    ],
)  # fmt: skip
def test_an_edit_that_would_break_the_configuration_is_refused(source, edit, message):
    """All of it, also its good part."""
    with pytest.raises(ConfigError) as caught:
        edit(source)
    assert message in str(caught.value)
    assert source.path.read_text() == FILE


def test_a_broken_file_is_not_edited(source):
    source.path.write_text("models: [")
    with pytest.raises(ConfigError, match=r"config\.yaml:1: not valid YAML"):
        edit.set_enabled(source, ["demo"], enabled=False)
    assert source.path.read_text() == "models: ["


@pytest.mark.parametrize(
    "text",
    [
        "base: &a {name: x, backend: demo}",  # an unknown key
        "models:\n- &a {name: x, backend: demo}\n- {<<: *a, name: y}\n",
        "models: &m\n- name: x\n  backend: demo\n",
        "models:\n- {<<: {name: x}, backend: demo}\n",
        "models:\n- 'name': x\n  backend: demo\n",
        '{"models": [{"name": "x", "backend": "demo"}]}',
        "models: [{name: x, backend: demo}]\n...\n",
        "models:\n- ? name\n  : x\n  ? backend\n  : demo\n",
        "models:\n- backend: demo\n  name: |-\n    x\n",
        "models:\n-\n    backend: demo\n    name: x",
        "--- {models: [{name: x, backend: demo,},],}",
    ],
)
@pytest.mark.parametrize("command", ["disable", "alias", "add", "make", "make again"])
def test_a_clever_layout_is_changed_rightly_or_not_at_all(tmp_path, text, command):
    """Whoever lays the file out in a way the edit cannot follow keeps the file."""
    source = Source(tmp_path / "config.yaml", environ={})
    source.path.write_text(text)
    edits = {
        "disable": lambda: edit.set_enabled(source, ["x"], enabled=False),
        "alias": lambda: edit.add_alias(source, "x", "z"),
        "add": lambda: edit.add_model(source, {"name": "z", "backend": "demo"}),
        "make": lambda: edit.apply(source, lambda draft: making.create(draft, "z", "x", {"system": "s"})),
        "make again": lambda: edit.apply(
            source, lambda draft: making.create(draft, "x", "x", {"system": "s"})
        ),
    }
    try:
        before = {model.name: model for model in source.load().config.models}
        edits[command]()
    except ConfigError:
        assert source.path.read_text() == text
        return
    config = source.load().config
    index, model = find(config, "x" if command in {"disable", "make again"} else "z")
    assert model.enabled == (command != "disable")
    others = {other.name: other for other in config.models if other is not config.models[index]}
    assert {name: model for name, model in before.items() if name in others} == others


@pytest.mark.parametrize("text", ["", "# only words", "models:", "models: []", "models: [] # none\nlog_level: info\n", EXAMPLE, "{}", "server: {}"])  # fmt: skip
def test_the_first_model_finds_its_place(tmp_path, text):
    source = Source(tmp_path / "config.yaml", environ={})
    source.path.write_text(text)
    edit.add_model(source, {"name": "z", "backend": "demo", "aliases": ["y"]})
    assert source.load().config.models[0].aliases == ("y",)
    for comment in (line for line in text.splitlines() if line.startswith("#")):
        assert comment in source.path.read_text()


name = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}(:[A-Za-z0-9_][a-z0-9]{0,3})?", fullmatch=True).filter(
    lambda text: "cloud" not in text.lower()
)


@settings(deadline=None, max_examples=25)  # three flushes to the disk take what they take
@given(
    st.lists(name, min_size=1, max_size=5, unique_by=lambda text: text.lower().partition(":")[0]),
    # ruamel writes some other texts so that nobody can read them, and some that begin with a colon.
    st.text("aä :#'\"-,[]{}\n").filter(lambda text: not text.startswith(":")),
    st.text().map(lambda text: text.replace("$", "")),
    st.randoms(),
    st.sampled_from([None, True, False]),
)
def test_any_file_of_models_can_be_edited(tmp_path_factory, names, old, new, rng, flow):
    """As an ordinary YAML writer lays it out; what the edits say is what is read back."""
    path = tmp_path_factory.getbasetemp() / "edited.yaml"
    models = [{"name": text, "backend": "demo", "description": old} for text in names]
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = flow
    with path.open("w", encoding="utf-8") as file:
        writer.dump({"models": models, "server": {"port": 1}}, file)
    source = Source(path, environ={})
    chosen = rng.choice(names)
    before = path.read_text()
    edit.apply(source, lambda draft: making.create(draft, "zz.made", chosen, {"system": new, "license": old}))
    assert find(source.load().config, "zz.made")[1].system == new
    edit.apply(source, lambda draft: making.create(draft, "zz.made", "zz.made", {"system": "a\n" + old}))
    made = find(source.load().config, "zz.made")[1]
    assert (made.system, made.license) == ("a\n" + old, old)
    edit.apply(source, lambda draft: making.remove(draft, "zz.made"))
    assert path.read_text() in {before, before + "\n"}  # it may have had no newline at its end
    edit.set_enabled(source, [chosen], enabled=False)
    edit.add_model(source, {"name": "zz.added", "backend": "demo", "description": new})
    edit.add_alias(source, "zz.added", "zz.alias")
    loaded = source.load().config
    assert [(m.name, m.enabled) for m in loaded.models[:-1]] == [
        *((text, text != chosen) for text in names),
        ("zz.added", True),
    ]
    assert [m.description for m in loaded.models[:-1]] == [*(old for _ in names), new]
    assert loaded.models[len(names)].aliases == ("zz.alias",)


def test_what_is_made_replaced_and_removed_leaves_the_rest_as_it_was(source):
    """Every byte that is not the entry's own, in all layouts of an entry."""
    long = "You are Mario.\n\n  You live in the Mushroom Kingdom, and nowhere else at all.\n"
    said = {"system": long, "parameters": {"temperature": 0.5, "stop": ["<a>", "y"]}, "license": "MIT"}
    edit.apply(source, lambda draft: making.create(draft, "mario", "ONE", said))
    assert lines_added(FILE, source.path.read_text()) == [
        "  - name: mario",
        "    from: one",
        "    system: |",
        "      You are Mario.",
        "",
        "        You live in the Mushroom Kingdom, and nowhere else at all.",
        '    parameters: {temperature: 0.5, stop: ["<a>", "y"]}',
        "    license: MIT",
    ]
    edit.apply(source, lambda draft: making.create(draft, "mario", "two", {"system": "short"}))
    assert lines_added(FILE, source.path.read_text()) == [
        "  - name: mario",
        "    from: two",
        "    system: short",
    ]
    edit.apply(source, lambda draft: making.remove(draft, "mario"))
    assert source.path.read_text() == FILE

    edit.apply(source, lambda draft: making.remove(draft, "drei"))
    assert source.path.read_text() == FILE.replace("      - drei   # German\n", "        []\n")
    edit.remove_models(source, ["two"])
    assert [model.name for model in source.load().config.models[:2]] == ["one", "three"]
    assert "# the first" in source.path.read_text()
    edit.remove_models(source, ["three", "one"])
    assert source.load().config.models == ()
    assert source.path.read_text().startswith(FILE.partition("  # the first")[0])


@pytest.mark.parametrize(
    "text",
    [
        "models: [{name: a, backend: demo, aliases: [x, y]}, {name: b, backend: demo}]\n",
        "models: [ {name: a, backend: demo, aliases: [x , y ] } , {name: b, backend: demo} , ]",
        "models:\n- name: a\n  backend: demo\n  aliases:\n  - x\n  # the second\n  - y\n- {name: b, backend: demo}",
    ],
)
def test_items_of_any_list_are_taken_out(tmp_path, text):
    """The first, then the last, then there is none."""
    source = Source(tmp_path / "config.yaml", environ={})
    source.path.write_text(text)
    for alias, left in (("x", ("y",)), ("y", ())):
        edit.apply(source, lambda draft, alias=alias: making.remove(draft, alias))
        assert source.load().config.models[0].aliases == left
    for name, left in (("a", ["b", "demo"]), ("b", ["demo"])):
        edit.remove_models(source, [name])
        assert [model.name for model in source.load().config.models] == left
    with pytest.raises(ConfigError, match="model 'demo' is built in, and not in the file"):
        edit.remove_models(source, ["demo"])
    edit.add_model(source, {"name": "c", "backend": "demo"})
    assert [model.name for model in source.load().config.models] == ["c", "demo"]


def test_what_is_made_from_an_entry_inherits_it_when_that_is_removed(source):
    """Who answers, and by which name."""
    edit.apply(source, lambda draft: making.create(draft, "child", "drei", {"system": "s"}))
    edit.remove_models(source, ["three"])
    _, child = find(source.load().config, "child")
    assert (child.from_, child.backend, child.backend_model, child.system) == ("", "demo", "three", "s")
    assert "# German" not in source.path.read_text()


def _add_some(path, worker, count):
    for number in range(count):
        edit.add_model(Source(path, environ={}), {"name": f"m-{worker}-{number}", "backend": "demo"})


def test_edits_at_the_same_moment_lose_nothing(source):
    """Four processes, each adding models as fast as it can."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add_some, args=(source.path, worker, 5)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    names = {model.name for model in source.load().config.models}
    assert {f"m-{worker}-{number}" for worker in range(4) for number in range(5)} < names


KILLED = """
import os, signal, sys
from pathlib import Path
from ollama_bridge.config import edit
from ollama_bridge.config.file import Source

step = int(sys.argv[2])
def dying(name):
    real = getattr(os, name)
    def call(*args, **kwargs):
        global step
        step -= 1
        if step == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(os, name, call)
for name in ("fdopen", "fchmod", "fsync", "replace", "open", "close"):
    dying(name)
edit.add_model(Source(Path(sys.argv[1]), environ={}), {"name": "late", "backend": "demo"})
"""


def test_a_kill_in_the_middle_leaves_the_old_or_the_new_file_whole(source):
    """Killed before every system call of the writing in turn; the next edit works and clears up."""
    outcomes = set()
    for step in range(1, 40):
        source.path.write_text(FILE)
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(source.path), str(step)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        text = source.path.read_text()
        assert text in {
            FILE,
            FILE.replace("# the end\n", "") + "  - name: late\n    backend: demo\n# the end\n",
        }
        outcomes.add(text == FILE)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        edit.add_alias(source, "one", f"again-{random.random()}")
        assert [file.name for file in source.path.parent.iterdir() if file.name.endswith(".tmp")] == []
    assert done.returncode == 0
    assert outcomes == {True, False}


def _with_a_full_disk(path, channel):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    try:
        edit.add_model(Source(path, environ={}), {"name": "late", "backend": "demo"})
    except ConfigError as exc:
        channel.send(str(exc))


def test_a_full_disk_changes_nothing_and_is_said(source):
    """The system refuses to write more than 100 bytes."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_with_a_full_disk, args=(source.path, theirs))
    process.start()
    process.join()
    assert ours.recv() == f"{source.path}: cannot be written: File too large; nothing was changed"
    assert source.path.read_text() == FILE
    assert sorted(file.name for file in source.path.parent.iterdir()) in (
        ["config.yaml"],
        [".config.yaml.lock", "config.yaml"],
    )


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written: .*; nothing was changed$"):
        edit.write(tmp_path / "file" / "config.yaml", "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_file_is_respected(source):
    source.path.chmod(0o400)
    with pytest.raises(ConfigError, match="read-only"):
        edit.add_alias(source, "one", "uno")
    assert source.path.read_text() == FILE


def test_a_lock_that_is_never_released_is_said(source, monkeypatch):
    """Rather than waiting for ever."""
    monkeypatch.setattr(edit, "LOCK_TIMEOUT_S", 0.0)
    with edit._locked(source.path):
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        process = context.Process(target=_edit_anyway, args=(source, theirs))
        process.start()
        process.join()
    assert "another command has been changing it" in ours.recv()


def _edit_anyway(source, channel):
    try:
        edit.add_alias(source, "one", "uno")
    except ConfigError as exc:
        channel.send(str(exc))
