"""Budgets and prices that cannot be meant: refused when the configuration is read, with file, line and remedy."""

import pytest

from ollama_bridge.config.file import Source
from ollama_bridge.errors import ConfigError

FILE = """\
providers: {{acme: {{kind: openai, base_url: "http://127.0.0.1:9/v1", discover: false}}}}
budgets:
  all: {{daily: {daily}, instead: {all}}}
models:
  - name: a
    backend: acme
    price: {{input: {price}, output: 2}}
    budget: {{daily: 1, instead: {a}}}
  - {{name: b, backend: acme, aliases: [bee], enabled: false, budget: {{instead: {b}}}}}
  - {{name: c, from: b}}
"""
GOOD = {"daily": 5, "all": "bee", "price": 1, "a": "B:latest", "b": "demo"}


def refused(tmp_path, **bad):
    path = tmp_path / "config.yaml"
    text = FILE.format(**{**GOOD, **bad}) + "  - {name: demo, backend: demo}\n"
    with pytest.raises(ConfigError) as caught:
        Source(path, environ={}).parse(text)
    return str(caught.value).removeprefix(f"{path}:")


def test_names_and_aliases_of_any_model_may_answer_instead(tmp_path):
    """Also hidden ones, and those that the catalogue adds."""
    Source(tmp_path / "c", environ={}).parse(FILE.format(**GOOD) + "  - {name: demo, backend: demo}\n")
    offered = FILE.format(**{**GOOD, "b": "claude-haiku-5-5"})
    Source(tmp_path / "c", environ={"ANTHROPIC_API_KEY": "k"}).parse(offered)
    Source(tmp_path / "c", environ={}).parse(offered)  # a key that is taken away is no fault of the file's


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"all": "nobody"}, "3: budgets.all.instead: there is no model 'nobody'; name one that is cheaper"),
        (
            {"a": "nobody"},
            (
                "8: model 'a': its budget names 'nobody' to answer instead, and there is no such model; name one that "
                "is cheaper"
            ),
        ),
        (
            {"a": "a:latest"},
            "8: model 'a': what answers instead leads back to it (a -> a); leave one 'instead' out",
        ),
        (
            {"b": "A"},
            "8: model 'a': what answers instead leads back to it (a -> b -> a); leave one 'instead' out",
        ),
        # c inherits the budget of b, and with it who answers instead
        (
            {"b": "c"},
            "10: model 'c': what answers instead leads back to it (c -> c); leave one 'instead' out",
        ),
        ({"daily": 0}, "3: budgets.all.daily must be greater than 0, not 0"),
        ({"daily": -2}, "3: budgets.all.daily must be greater than 0, not -2"),
        ({"daily": ".inf"}, "3: budgets.all.daily must be a finite number, not inf"),
        ({"price": -1}, "7: models[0].price.input must be greater than or equal to 0, not -1"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, bad, said):
    """The message names the line, and what to do."""
    assert refused(tmp_path, **bad) == said
