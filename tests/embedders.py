"""The wires of embeddings as a test sees them: how to configure one, what it is asked, and what it answers."""

import base64
import json
import math
import struct
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from ollama_bridge.backends import openai
from ollama_bridge.config import Config
from running import running
from upstream import Seen, Upstream

JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Embedder:
    """One provider's wire.

    Args:
        name: Of the provider in the configuration.
        provider: The configuration's entry, without base_url.
        base: What is appended to the upstream's URL for `base_url`.
        model: As the provider knows it.
        path: Where it is asked.
        texts: The texts of a request.
        reply: The body that holds these vectors.
        most: How many texts one call takes.
        counts: Whether it says how many tokens it read: 7 in `reply`.
    """

    name: str
    provider: dict[str, Any]
    base: str
    model: str
    path: str
    texts: Callable[[Seen], list[str]]
    reply: Callable[[Sequence[Sequence[float]]], bytes]
    most: int
    counts: bool = True

    def config(self, url: str, **model: Any) -> Config:
        """A configuration whose one model, `e`, embeds at the fake upstream."""
        return Config.model_validate(
            {
                "server": {"port": 0},
                "retry": {"max_retries": 0},
                "providers": {self.name: {**self.provider, "base_url": url + self.base}},
                "models": [{"name": "e", "backend": self.name, "backend_model": self.model, **model}],
            }
        )

    def answer(self, upstream: Upstream, *replies: Sequence[Sequence[float]], **how: Any) -> None:
        """Script these replies, one after the other."""
        for vectors in replies:
            upstream.reply(self.reply(vectors), headers=JSON, **how)


def _openai(vectors: Sequence[Sequence[float]], *, packed: bool = False) -> bytes:
    def shown(vector: Sequence[float]) -> Any:
        floats = struct.pack(f"<{len(vector)}f", *vector)
        return base64.b64encode(floats).decode() if packed else list(vector)

    data = [
        {"object": "embedding", "index": index, "embedding": shown(vector)}
        for index, vector in enumerate(vectors)
    ]
    body = {
        "object": "list",
        "data": data[::-1],
        "model": "m",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    return json.dumps(body).encode()


def _gemini(vectors: Sequence[Sequence[float]]) -> bytes:
    return json.dumps({"embeddings": [{"values": list(vector)} for vector in vectors]}).encode()


def _ollama(vectors: Sequence[Sequence[float]]) -> bytes:
    """Of unit length, as a real Ollama sends them."""
    lengths = [math.hypot(*vector) or 1.0 for vector in vectors]
    times = {"total_duration": 2, "load_duration": 1}
    unit = [[number / length for number in vector] for vector, length in zip(vectors, lengths, strict=True)]
    return json.dumps({"model": "m", "embeddings": unit, **times, "prompt_eval_count": 7}).encode()


def _texts_of_ollama(seen: Seen) -> list[str]:
    """Of `/api/embed`, or of `/api/embeddings`, which older clients ask; it comes through as it is asked."""
    asked = seen.json["input"] if "input" in seen.json else seen.json["prompt"]
    return [asked] if isinstance(asked, str) else asked


KEY = "0f3a9c-do-not-show-me-77b1"

OPENAI = Embedder(
    name="openai",
    provider={"api_key": KEY},
    base="/v1",
    model="text-embedding-3-small",
    path="/v1/embeddings",
    texts=lambda seen: seen.json["input"],
    reply=lambda vectors: _openai(vectors, packed=True),
    most=2048,
)
"""OpenAI itself, which answers in base64."""

VENDOR = Embedder(
    name="acme",
    provider={"kind": "openai", "api_key": KEY},
    base="/v1",
    model="mxbai-embed-large",
    path="/v1/embeddings",
    texts=lambda seen: seen.json["input"],
    reply=_openai,
    most=96,
)
GEMINI = Embedder(
    name="google",
    provider={"api_key": KEY},
    base="",
    model="gemini-embedding-2",
    path="/v1beta/models/gemini-embedding-2:batchEmbedContents",
    texts=lambda seen: [one["content"]["parts"][0]["text"] for one in seen.json["requests"]],
    reply=_gemini,
    most=100,
    counts=False,
)
OLLAMA = Embedder(
    name="den",
    provider={"kind": "ollama", "api_key": KEY},
    base="",
    model="nomic-embed-text",
    path="/api/embed",
    texts=_texts_of_ollama,
    reply=_ollama,
    most=512,
)
TRANSLATED = [OPENAI, VENDOR, GEMINI]
"""All whose wire is another than the client's; what a real Ollama is asked and answers is `test_real_ollama`'s."""

EMBEDDERS = [*TRANSLATED, OLLAMA]


@asynccontextmanager
async def embedding(embedder: Embedder, **model: Any):
    """The daemon in front of an upstream of that wire: `(daemon, upstream)`."""
    with pytest.MonkeyPatch.context() as patch:
        # OpenAI is known by its address, which no test reaches.
        patch.setattr(openai, "is_openai", lambda _: embedder.name == "openai")
        async with Upstream() as upstream:
            upstream.has = (embedder.model,)
            async with running(embedder.config(upstream.url, **model)) as daemon:
                yield daemon, upstream
