"""Model names."""

import pytest

from ollama_bridge.names import InvalidName, normalise_name, parse_name


@pytest.mark.parametrize(
    ("name", "shortest"),
    {
        "llama3": "llama3:latest",
        "  llama3 ": "llama3:latest",
        "llama3:8b": "llama3:8b",
        "library/llama3": "llama3:latest",
        "Library/llama3": "llama3:latest",
        "registry.ollama.ai/library/jinja:latest": "jinja:latest",
        "https://registry.ollama.ai/library/jinja": "jinja:latest",
        "MyNs/Copy:V1": "MyNs/Copy:V1",
        "127.0.0.1:5000/good/tiny": "127.0.0.1:5000/good/tiny:latest",
        "claude-sonnet-4.5": "claude-sonnet-4.5:latest",
        "anthropic/claude-3.5-sonnet": "anthropic/claude-3.5-sonnet:latest",
        "models/gemini-2.5-pro": "models/gemini-2.5-pro:latest",
        "openai:gpt-4o": "openai:gpt-4o",
        "hf.co/u/Model-GGUF:Q4_K_M": "hf.co/u/Model-GGUF:Q4_K_M",
        "_x": "_x:latest",
        "h:80/n/x": "h:80/n/x:latest",
        "http://h/n/x:t": "h/n/x:t",
        "x:local": "x:latest",
        "x:LOCAL": "x:latest",
        "x:8b:local": "x:8b",
        "my-cloud": "my-cloud:latest",
        "x:cloud": "x:cloud",
        "gpt-oss:120b-cloud": "gpt-oss:120b-cloud",
        "gpt-oss:120b:cloud": "gpt-oss:120b-cloud",
        "a" * 80: "a" * 80 + ":latest",
    }.items(),
)
def test_every_spelling_has_one_shortest_form(name, shortest):
    """Default host and namespace go, the tag stays, and the short form means the same again."""
    assert normalise_name(name) == shortest
    assert normalise_name(shortest) == shortest
    assert parse_name(parse_name(name).full) == parse_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "n.s/x",
            "a:b:c",
            "-x",
            ".x",
            "x:-t",
            "x+y",
            "x~y",
            "a b",
            "x/",
            "//x",
            "/x",
            "x:",
            ":x",
            "a/b/c/d",
        ),
        *("a" * 81, "é", "x@sha256:00", "h/n/", "n/x:a/b", "a\nb", "x:tag\n!", "h\n/n/x"),
    ],
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


@pytest.mark.parametrize("name", ["x:cloud:local", "x:local:cloud", "x:8b-cloud:local", " x:cloud:cloud"])
def test_two_sources_exclude_each_other(name):
    """The message shows the name, trimmed."""
    with pytest.raises(InvalidName) as caught:
        parse_name(name)
    assert str(caught.value) == f'use either :local or :cloud, not both: "{name.strip()}"'


def test_names_are_looked_up_whatever_their_case():
    """`PLAIN:LATEST` is `plain`."""
    assert parse_name("PLAIN:LATEST").key == parse_name("Library/plain").key == "plain:latest"
