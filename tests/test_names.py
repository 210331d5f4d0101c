"""Model names."""

import pytest

from ollama_bridge.names import InvalidName, normalise_name, parse_name
from spellings import INVALID, LONG, SPELLINGS, TWO_SOURCES, UNKNOWN, VALID


@pytest.mark.parametrize(
    ("name", "shortest"),
    {
        **VALID,
        **UNKNOWN,
        LONG: f"{LONG}:latest",
        "  llama3 ": "llama3:latest",
        "llama3:8b": "llama3:8b",
        "Library/llama3": "llama3:latest",
        "registry.ollama.ai/library/jinja:latest": "jinja:latest",
        "https://registry.ollama.ai/library/jinja": "jinja:latest",
        "127.0.0.1:5000/good/tiny": "127.0.0.1:5000/good/tiny:latest",
        "x:LOCAL": "x:latest",
        "x:8b:local": "x:8b",
        "gpt-oss:120b:cloud": "gpt-oss:120b-cloud",
    }.items(),
)
def test_every_spelling_has_one_shortest_form(name, shortest):
    """Default host and namespace go, the tag stays, and the short form means the same again."""
    assert normalise_name(name) == shortest
    assert normalise_name(shortest) == shortest
    assert parse_name(parse_name(name).full) == parse_name(name)


@pytest.mark.parametrize(
    "name",
    [*INVALID, ":x", "x@sha256:00", "h/n/", "n/x:a/b", "a\nb", "x:tag\n!", "h\n/n/x"],
)
def test_what_ollama_refuses_is_refused(name):
    """Ollama's grammar, nothing wider: clients build names from what lists show."""
    with pytest.raises(InvalidName, match=r"^invalid model name$"):
        parse_name(name)


@pytest.mark.parametrize("name", ["", "  ", "\t"])
def test_no_name_is_not_an_invalid_one(name):
    """An empty name has a message of its own."""
    with pytest.raises(InvalidName, match=r"^model is required$"):
        parse_name(name)


@pytest.mark.parametrize("name", [*TWO_SOURCES, " x:cloud:cloud"])
def test_two_sources_exclude_each_other(name):
    """The message shows the name, trimmed."""
    with pytest.raises(InvalidName) as caught:
        parse_name(name)
    assert str(caught.value) == f'use either :local or :cloud, not both: "{name.strip()}"'


def test_names_are_looked_up_whatever_their_case():
    """`PLAIN:LATEST` is `plain`."""
    for name, spellings in SPELLINGS.items():
        assert {parse_name(spelled).key for spelled in spellings} == {parse_name(name).key}
    assert parse_name("PLAIN:LATEST").key == parse_name("Library/plain").key == "plain:latest"
