"""The wire of OpenAI's chat and text completions as Ollama speaks it, and its lists of models, sans I/O.

decode_chat, decode_completion         a body into a call; see `openai_decode`
ChatEncoder, CompletionEncoder         events into server-sent events, or into one object; see `openai_encode`
models_body, model_body                what is on offer
"""

from collections.abc import Iterable
from typing import Any

from ollama_bridge.catalog import Model
from ollama_bridge.names import parse_name
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.converter import JSON
from ollama_bridge.surfaces.openai_decode import (
    ChatCall,
    CompletionCall,
    decode_chat,
    decode_completion,
)
from ollama_bridge.surfaces.openai_encode import ChatEncoder, CompletionEncoder

__all__ = [
    "JSON",
    "ChatCall",
    "ChatEncoder",
    "CompletionCall",
    "CompletionEncoder",
    "decode_chat",
    "decode_completion",
    "model_body",
    "models_body",
]


def models_body(models: Iterable[Model]) -> bytes:
    """The body of /v1/models; of no models, a null."""
    listed = [_model(model, model.name) for model in models]
    return gojson.dump({"object": "list", "data": listed or None}) + b"\n"


def model_body(model: Model, *, requested: str) -> bytes:
    """The body of /v1/models/{model}, under the name that the client asked for."""
    return gojson.dump(_model(model, requested)) + b"\n"


def _model(model: Model, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(model.modified_at.timestamp()),
        "owned_by": parse_name(model.name).namespace,
    }
