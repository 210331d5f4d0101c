"""What the contract's tests ask: a daemon with models of every ability, and every endpoint that reads JSON."""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from ollama_bridge.config import Config

ABILITIES = {
    "plain": ["completion"],
    "jinja": ["completion", "tools"],
    "think": ["completion", "tools", "thinking"],
    "embed": ["embedding"],
}
HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

NATIVE_JSON = "application/json; charset=utf-8"
V1_JSON = "application/json"


def configured(models: dict[str, list[str]] = ABILITIES, **more: Any) -> Config:
    """A daemon on a free port whose models need no provider."""
    listed = [{"name": name, "backend": "demo", "capabilities": able} for name, able in models.items()]
    return Config.model_validate({"server": {"port": 0}, "providers": {"demo": {}}, "models": listed, **more})


@dataclass(frozen=True)
class Endpoint:
    """One route that reads a JSON body and names a model in it.

    Args:
        struct: What Go calls the request, in errors.
        model: One that can do it.
        asks: The least that is answered, and in one object; without the model.
        unnamed: What `{}` is told: status and words.
        echo: The key under which the reply repeats the model's name; empty: it does not.
        key: Where the request names the model.
    """

    path: str
    struct: str
    model: str
    asks: dict[str, Any] = field(default_factory=dict)
    unnamed: tuple[int, str] = (400, "model is required")
    echo: str = "model"
    method: str = "POST"
    key: str = "model"

    def __str__(self) -> str:
        return self.path

    @property
    def v1(self) -> bool:
        return self.path.startswith("/v1/")

    @property
    def content_type(self) -> str:
        return V1_JSON if self.v1 else NATIVE_JSON

    @property
    def go_type(self) -> str:
        package = "api" if not self.v1 else "anthropic" if "/messages" in self.path else "openai"
        return f"{package}.{self.struct}"

    def body(self, **fields: Any) -> dict[str, Any]:
        return {"model": self.model, **self.asks, **fields}

    def told(self, status: int, words: str) -> str:
        """The whole body of an error, on this surface; Anthropic's `request_id` is blanked."""
        if not self.v1:
            value: Any = {"error": words}
        elif "/messages" in self.path:
            kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
            value = {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_"}
        else:
            kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
            value = {"error": {"message": words, "type": kind, "param": None, "code": None}}
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        for sign in "<>&":
            text = text.replace(sign, f"\\u{ord(sign):04x}")
        return text


def without_id(body: bytes) -> str:
    """Anthropic's errors have an id of their own each."""
    return re.sub(r'"req_[0-9a-f]{24}"', '"req_"', body.decode())


ENDPOINTS = (
    Endpoint("/api/chat", "ChatRequest", "plain", {"messages": HI, "stream": False}),
    Endpoint(
        "/api/generate",
        "GenerateRequest",
        "plain",
        {"prompt": "hi", "stream": False},
        (404, "model '' not found"),
    ),
    Endpoint("/api/show", "ShowRequest", "plain", echo=""),
    Endpoint("/api/embed", "EmbedRequest", "embed", {"input": "hi"}, (404, "model '' not found")),
    Endpoint("/api/embeddings", "EmbeddingRequest", "embed", {"prompt": "hi"}, echo=""),
    Endpoint(
        "/v1/chat/completions",
        "ChatCompletionRequest",
        "plain",
        {"messages": HI},
        (400, "[] is too short - 'messages'"),
    ),
    Endpoint("/v1/completions", "CompletionRequest", "plain", {"prompt": "hi"}, (404, "model '' not found")),
    Endpoint("/v1/embeddings", "EmbedRequest", "embed", {"input": "hi"}, (400, "invalid input")),
    Endpoint("/v1/responses", "ResponsesRequest", "plain", {"input": "hi"}),
    Endpoint("/v1/messages", "MessagesRequest", "plain", {"max_tokens": 9, "messages": HI}),
    Endpoint("/v1/messages/count_tokens", "MessagesRequest", "plain", {"messages": HI}, echo=""),
)
"""Those that only read."""

_INVALID = (400, "invalid model name")
MANAGING = (
    Endpoint("/api/pull", "PullRequest", "plain", unnamed=_INVALID, echo=""),
    Endpoint("/api/push", "PushRequest", "plain", echo=""),
    Endpoint("/api/create", "CreateRequest", "plain", unnamed=_INVALID, echo=""),
    Endpoint(
        "/api/copy", "CopyRequest", "plain", unnamed=(400, 'source "" is invalid'), echo="", key="source"
    ),
    Endpoint("/api/delete", "DeleteRequest", "plain", echo="", method="DELETE"),
)
"""Those that change what is offered."""
