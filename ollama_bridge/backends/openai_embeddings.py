"""Embeddings on OpenAI's wire, `POST /embeddings`: the request's body, and what comes of the reply. Sans I/O.

https://developers.openai.com/api/reference/resources/embeddings/methods/create
"""

from collections.abc import Mapping
from typing import Any, Final

from ollama_bridge.backends import openai_wire as wire
from ollama_bridge.backends.embedding import Limits, never_empty
from ollama_bridge.chat import EmbedRequest

OPENAI_LIMITS: Final = Limits(inputs=2048, text_bytes=600_000)
"""OpenAI takes 300,000 tokens in a call, and a token rarely has fewer than two bytes."""

VENDOR_LIMITS: Final = Limits(inputs=96, text_bytes=200_000)
"""What Cohere takes, and most others. Their decimals are also read faster in small parts."""


def to_body(request: EmbedRequest, *, is_openai: bool) -> dict[str, Any]:
    """The body of one call.

    Args:
        request: With no more inputs than the call may have.
        is_openai: Whether OpenAI itself will read this. Base64 halves the reply, and strict vendors refuse it.
    """
    body: dict[str, Any] = {
        "model": request.target.model,
        "input": never_empty(request.inputs),
        "encoding_format": "base64" if is_openai else "float",
    }
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
    return [entry["embedding"] for entry in data], wire.count(reply, "usage", "prompt_tokens")
