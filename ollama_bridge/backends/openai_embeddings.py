"""Embeddings on OpenAI's wire, `POST /embeddings`: the request's body, and what comes of the reply. Sans I/O.

https://developers.openai.com/api/reference/resources/embeddings/methods/create
"""

from collections.abc import Mapping
from typing import Any

from ollama_bridge.backends.dialect import Dialect
from ollama_bridge.backends.embedding import Limits, never_empty
from ollama_bridge.backends.usage import count
from ollama_bridge.chat import EmbedRequest


def limits(dialect: Dialect) -> Limits:
    """What one call may hold."""
    return Limits(dialect.embed_inputs, dialect.embed_bytes)


def to_body(request: EmbedRequest, dialect: Dialect) -> dict[str, Any]:
    """The body of one call.

    Args:
        request: With no more inputs than the call may have.
        dialect: Of who will read this.
    """
    body: dict[str, Any] = {"model": request.target.model, "input": never_empty(request.inputs)}
    if dialect.encoding is not None:
        body["encoding_format"] = dialect.encoding
    if request.dimensions in request.target.rules.dimensions:
        body["dimensions"] = request.dimensions
    return body


def read(reply: Mapping[str, Any]) -> tuple[list[Any], int]:
    """The embeddings of one reply in the order of the inputs, whatever the order they came in, and the tokens.

    Raises:
        AttributeError, LookupError, TypeError: It has not the shape of a reply.
    """
    data = reply["data"]
    indexes = {entry.get("index") for entry in data}
    if indexes == set(range(len(data))):
        data = sorted(data, key=lambda entry: entry["index"])
    elif len(indexes) > 1:  # some servers give all of them the index 0, or none
        raise LookupError("index")
    return [entry["embedding"] for entry in data], count(reply, "usage", "prompt_tokens")
