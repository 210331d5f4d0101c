"""The models of the golden replies, as a registry would find them, and calls to ask them with."""

from datetime import UTC, datetime

import orjson
import pytest

from ollama_bridge.catalog import Model, ModelConfig
from ollama_bridge.chat import Target
from ollama_bridge.errors import BridgeError, ModelNotFound
from ollama_bridge.names import parse_name
from ollama_bridge.surfaces.ollama import decode_chat, decode_generate

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


HI = {"model": "plain", "messages": [{"role": "user", "content": "hi"}]}
PROMPT = {"model": "plain", "prompt": "hi"}


def chat(**fields):
    return decode_chat(orjson.dumps({**HI, **fields}))


def generate(**fields):
    return decode_generate(orjson.dumps({**PROMPT, **fields}))


def refusal(call):
    """Status and text of the error that `call()` ends in."""
    with pytest.raises(BridgeError) as caught:
        call()
    return caught.value.status, str(caught.value)
