"""Embeddings of Gemini, `models:batchEmbedContents`: the request's body, and what comes of the reply. Sans I/O.

https://ai.google.dev/api/embeddings
"""

from collections.abc import Mapping
from typing import Any, Final

from ollama_bridge.backends.embedding import Limits, never_empty
from ollama_bridge.backends.usage import count
from ollama_bridge.chat import EmbedRequest

LIMITS: Final = Limits(inputs=100)

_BATCH: Final = "batchEmbedContents"


def to_body(request: EmbedRequest, path: str | None) -> tuple[str, dict[str, Any]]:
    """The verb and the body of one call.

    Args:
        request: With no more inputs than the call may have.
        path: The model, as `models/…`; None: Vertex AI is asked.
    """
    if path is None:
        return _to_vertex(request)
    rest: dict[str, Any] = {"model": path}
    if request.dimensions in request.target.rules.dimensions:
        rest["outputDimensionality"] = request.dimensions
    # A request of its own for each text: of several contents in one, gemini-embedding-2 makes one vector.
    texts = never_empty(request.inputs)
    return _BATCH, {"requests": [{**rest, "content": {"parts": [{"text": text}]}} for text in texts]}


def _to_vertex(request: EmbedRequest) -> tuple[str, dict[str, Any]]:
    """Vertex AI has two ways to embed.

    https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api; which of its models takes
    which, the SDK says (`t_is_vertex_embed_content_model`).
    """
    texts = never_empty(request.inputs)
    width = {"outputDimensionality": request.dimensions}
    wanted = request.dimensions in request.target.rules.dimensions
    if "gemini" in request.target.model.rpartition("/")[2]:
        config = {"embedContentConfig": width} if wanted else {}
        contents = [{"role": "user", "parts": [{"text": text}]} for text in texts]
        return _BATCH, {"requests": [{"content": content, **config} for content in contents]}
    parameters = {"parameters": width} if wanted else {}
    return "predict", {"instances": [{"content": text} for text in texts], **parameters}


def read(reply: Mapping[str, Any]) -> tuple[list[Any], int]:
    """The embeddings of one reply, in the order of the texts, and the tokens, if they were counted.

    Raises:
        AttributeError, LookupError, TypeError: It has not the shape of a reply.
    """
    if "predictions" in reply:  # Vertex AI's older way
        found = [entry["embeddings"] for entry in reply["predictions"]]
        return [each["values"] for each in found], sum(
            count(each, "statistics", "token_count") for each in found
        )
    return [entry["values"] for entry in reply["embeddings"]], count(
        reply, "usageMetadata", "promptTokenCount"
    )
