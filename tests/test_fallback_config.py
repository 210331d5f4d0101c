"""Fallbacks that cannot be meant are refused when the configuration is read, with file, line and remedy."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.catalog import ModelConfig
from ollama_bridge.config.file import Source
from ollama_bridge.config.instead import instead_faults
from ollama_bridge.errors import ConfigError

HEAD = "models:\n- {name: a, backend: demo, aliases: [uno]}\n"


def load(text, **environ):
    return Source(Path("config.yaml"), environ=environ).parse(text).config


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("fallbacks: [gpt-55]", "3: model 'b' falls back to 'gpt-55', which does not exist; did you mean 'gpt-5.5'?"),
        ("fallbacks: [Unoo]", "3: model 'b' falls back to 'Unoo', which does not exist; did you mean 'uno'?"),
        ("fallbacks: ['', a]", "3: model 'b' falls back to '', which does not exist"),
        ("fallbacks: [a, B:latest]", "3: model 'b' falls back to itself: take one of them out"),
        ("fallbacks: [c]}\n- {name: c, backend: demo, fallbacks: [d]}\n- {name: d, backend: demo, fallbacks: [bee], aliases: [x]",
         "3: model 'b' falls back to itself, by way of 'c', by way of 'd': take one of them out"),
        ("fallbacks:\n  - a\n  - nope", None),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(entry, message):
    text = f"{HEAD}- {{name: b, backend: demo, aliases: [bee], {entry}}}\n"
    if message is None:  # in block style each name has a line of its own
        text = f"{HEAD}- name: b\n  backend: demo\n  {entry.replace(chr(10), chr(10) + '  ')}\n"
        message = "7: model 'b' falls back to 'nope', which does not exist"
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert str(caught.value).startswith(f"config.yaml:{message}")


def test_built_in_models_may_be_named_with_or_without_their_key():
    """A key that is taken away must not keep the daemon from starting."""
    text = f"{HEAD}- {{name: b, backend: demo, fallbacks: [gpt-5.5, UNO, claude-haiku-4-5:latest]}}\n"
    for environ in ({}, {"OPENAI_API_KEY": "k"}):
        assert load(text, **environ).models[1].fallbacks == ("gpt-5.5", "UNO", "claude-haiku-4-5:latest")


def test_a_model_made_from_another_has_its_fallbacks():
    """Unless it has its own; hiding a fallback is no mistake."""
    text = f"{HEAD}- {{name: b, backend: demo, enabled: false, fallbacks: [a]}}\n- {{name: c, from: b}}\n"
    assert load(text).models[2].from_ == "b"


@given(st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=6, max_size=6))
def test_circles_of_any_size_are_found_and_nothing_else_is(ways):
    """A model is refused exactly if it can be reached from itself."""
    models = [
        ModelConfig(name=f"m{index}", backend="demo", fallbacks=tuple(f"m{way}" for way in to))
        for index, to in enumerate(ways)
    ]
    reached = [set(to) for to in ways]
    for _ in ways:
        reached = [to.union(*(reached[way] for way in to)) for to in reached]
    circular = [index for index, to in enumerate(reached) if index in to]
    refused = [place for place, _ in instead_faults({}, models, models)]
    assert sorted({index for _, index, _, _ in refused}) == circular
    assert refused == sorted(refused), "the first one is told"
