"""Models made from others: what is inherited, and which lineages cannot be."""

import pytest

from ollama_bridge.catalog import ModelConfig, complete
from ollama_bridge.config.file import Source
from ollama_bridge.errors import ConfigError
from ollama_bridge.lineage import folded


def model(name, **more):
    return ModelConfig.model_validate({"name": name, **more})


def test_a_chain_folds_into_one_model():
    """Who answers comes from the first, every value from the nearest that says it, options and licences add up."""
    base = model(
        "base",
        backend="demo",
        context_length=9,
        chunk_size=3,
        license="L1",
        display_name="Base",
        aliases=("b",),
    )
    first = model(
        "first",
        **{"from": "B"},
        system="one",
        parameters={"top_k": 1, "seed": 1},
        license="L2",
        enabled=False,
    )
    second = model("second", **{"from": "first:latest"}, parameters={"seed": 2}, license="L2", max_tokens=5)
    *_, found = folded([second, base, first])[:1]
    assert found.model_dump(by_alias=True, exclude_defaults=True) == {
        "name": "second", "display_name": "second", "from": "first", "backend": "demo", "backend_model": "base",
        "context_length": 9, "max_tokens": 5, "chunk_size": 3, "system": "one", "parameters": {"top_k": 1, "seed": 2},
        "license": "L1\nL2",
    }  # fmt: skip
    completed = complete(found, kind="demo")
    assert (completed.preset.parent, completed.preset.system, completed.target.model) == (
        "first:latest",
        "one",
        "base",
    )
    assert folded(folded([second, base, first])) == folded([second, base, first])


def test_an_empty_text_of_the_childs_is_its_own():
    """Said to be empty is not unsaid."""
    models = [model("a", backend="demo", system="S"), model("b", **{"from": "a"}, system="")]
    assert folded(models)[1].system == ""


def test_a_long_line_is_no_matter():
    """A thousand generations, in any order."""
    line = [
        model(f"m{number}", **{"from": f"m{number - 1}"}, parameters={f"p{number}": 1})
        for number in range(1, 1000)
    ]
    found = folded([*reversed(line), model("m0", backend="demo")])
    assert len(found[0].parameters) == 999


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {name: a, from: a}", ":2: model 'a' is made from itself, by way of its 'from'"),
        ("- {name: a, from: b}\n- {name: b, from: c}\n- {name: c, from: b}", ":3: model 'b' is made from itself, by way of its 'from'"),
        ("- {name: a, from: nope}", ":2: model 'a' is made from 'nope', which does not exist"),
        ("- {name: a, from: 'x y'}", ":2: model 'a' is made from 'x y', which does not exist"),
        ("- {name: a, from: demo, backend: demo}", ":2: model 'a' has the backend of the one it is made from: leave this out"),
        ("- {name: a}", ":2: models[0].backend is missing; or 'from', another model's name"),
        ("- {name: a, from: demo, parameters: {num_ctx: x}}", """:2: model 'a': option "num_ctx" must be of type integer"""),
        ("- {name: a, from: demo, parameters: {num_ctx: 1.5}}", ":2: model 'a': a parameter is empty, or no whole number"),
        ("- {name: a, from: demo, parameters: {temperature: .inf}}", ":2: model 'a': a parameter is no number that JSON has"),
        ("- {name: a, from: demo, parameters: {seed: 123456789012345678901234567890}}", ":2: model 'a': a parameter is nothing that JSON has"),
        ("- {name: a, from: demo, parameters: {stop: }}", ":2: model 'a': a parameter is empty, or no whole number"),
        ("- {name: a, from: demo, template: '{{ .Prompt'}", ":2: model 'a': template: :1: unclosed action"),
        ("- {name: a, from: demo, messages: [{role: tool, content: x}]}", ":2: models[0].messages[0].role must be 'system', 'user' or 'assistant', not 'tool'"),
        ("- {name: a, form: demo}", ":2: unknown key 'form' in 'models[0]'; did you mean 'from'?"),
    ],
)  # fmt: skip
def test_a_lineage_that_cannot_be_is_told_with_its_line(tmp_path, text, message):
    """Before anything is served."""
    (tmp_path / "config.yaml").write_text(f"models:\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        Source(tmp_path / "config.yaml", environ={}).load()
    assert str(caught.value).partition("config.yaml")[2].removesuffix(" (and 1 more)") == message
