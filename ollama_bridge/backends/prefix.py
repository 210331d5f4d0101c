"""How a prompt begins, as hashes: by them a conversation is known again, and nothing of it is kept. Pure."""

from itertools import takewhile
from typing import Any

from ollama_bridge.backends.sdk import encode
from ollama_bridge.chat import ChatRequest
from ollama_bridge.opening import first_asked, hashed


def tools(request: ChatRequest) -> bytes:
    """Of the tools on offer, for this model and key: neither shares a cache with another."""
    return _hash("tools", _who(request), _tools(request))


def system(request: ChatRequest) -> bytes:
    """Of the system prompt."""
    return _hash("system", _who(request), _system(request))


def opening(request: ChatRequest) -> bytes:
    """Of the user's first message, whatever stands before it."""
    return _hash("opening", _who(request), first_asked(request.messages))


def conversation(request: ChatRequest) -> str:
    """Of all of these together, whoever answers; 32 hexadecimal digits."""
    return _hash(_tools(request), _system(request), first_asked(request.messages)).hex()


def _who(request: ChatRequest) -> list[object]:
    return [request.target.model, request.key]


def _tools(request: ChatRequest) -> list[object]:
    return [[tool.name, tool.description, dict(tool.parameters)] for tool in request.tools]


def _system(request: ChatRequest) -> list[str]:
    return [
        message.content for message in takewhile(lambda message: message.role == "system", request.messages)
    ]


def _hash(*parts: Any) -> bytes:
    return hashed(encode({"parts": parts}))
