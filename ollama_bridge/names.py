"""Model names by Ollama's grammar."""

from ollama_bridge.errors import InvalidRequest


def normalise_name(name: str) -> str:
    """The shortest form that lists show, always with a tag."""
    text = name.strip()
    if not text or " " in text:
        raise InvalidRequest("invalid model name")
    head, slash, last = text.rpartition("/")
    model, _, tag = last.partition(":")
    return f"{head}{slash}{model}:{tag or 'latest'}"
