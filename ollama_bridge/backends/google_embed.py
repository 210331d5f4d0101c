"""Embeddings of Gemini, `models:batchEmbedContents`: the request's body, and what comes of the reply. Sans I/O.

https://ai.google.dev/api/embeddings
"""

from collections.abc import Mapping
from typing import Any, Final

from ollama_bridge.backends import openai_wire as wire
from ollama_bridge.backends.embedding import Limits, never_empty
from ollama_bridge.chat import EmbedRequest

LIMITS: Final = Limits(inputs=100)


def to_body(request: EmbedRequest, path: str) -> dict[str, Any]:
    """The body of one call.

    Args:
        request: With no more inputs than the call may have.
        path: The model, as `models/…`.
    """
    rest: dict[str, Any] = {"model": path}
    if request.dimensions in request.target.rules.dimensions:
        rest["outputDimensionality"] = request.dimensions
    # A request of its own for each text: of several contents in one, gemini-embedding-2 makes one vector.
    texts = never_empty(request.inputs)
    return {"requests": [{**rest, "content": {"parts": [{"text": text}]}} for text in texts]}


def read(reply: Mapping[str, Any]) -> tuple[list[Any], int]:
    """The embeddings of one reply, in the order of the texts, and the tokens, if they were counted.

    Raises:
        AttributeError, LookupError, TypeError: It has not the shape of a reply.
    """
    return [entry["values"] for entry in reply["embeddings"]], wire.count(
        reply, "usageMetadata", "promptTokenCount"
    )
