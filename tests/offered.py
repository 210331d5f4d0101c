"""The models of the golden replies, as a registry would find them."""

from datetime import UTC, datetime

from ollama_bridge.catalog import Model, ModelConfig
from ollama_bridge.chat import Target
from ollama_bridge.errors import ModelNotFound
from ollama_bridge.names import parse_name

CAPABILITIES = {
    "plain": ("completion",),
    "jinja": ("completion", "tools"),
    "think": ("completion", "tools", "thinking"),
    "embed": ("embedding",),
    "vision": ("completion", "vision"),
    "coder": ("completion", "insert"),
    "MyNs/Copy:v1": ("completion",),
}


def offer(name, capabilities):
    """One model."""
    full = parse_name(name).shortest
    return Model(
        config=ModelConfig(name=name, backend="demo"),
        name=full,
        display_name=name,
        family=name,
        context_length=4096,
        max_output_tokens=1024,
        embedding_length=32,
        capabilities=capabilities,
        digest="0" * 64,
        modified_at=datetime(2026, 11, 21, tzinfo=UTC),
        target=Target(provider="demo", model=name),
    )


OFFERED = {parse_name(name).key: offer(name, able) for name, able in CAPABILITIES.items()}


def find(name):
    """A model by its normalised name."""
    try:
        return OFFERED[name.lower()]
    except KeyError:
        raise ModelNotFound(name) from None


def ask(call):
    """What the server does with a decoded call: look the model up, then complete the request."""
    name = call.lookup_name()
    try:
        model = find(name)
    except ModelNotFound:
        raise call.not_found() from None
    return call.request(model)
