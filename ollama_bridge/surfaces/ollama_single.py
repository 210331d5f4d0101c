"""The replies of /api/chat and /api/generate that are no answer of a model: one object each, never streamed."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import orjson

from ollama_bridge.chat import ChatRequest, Message
from ollama_bridge.surfaces import gojson
from ollama_bridge.surfaces.ollama_decode import ChatCall, GenerateCall
from ollama_bridge.surfaces.ollama_encode import EPOCH, rfc3339, utc_now


def load_reply(call: ChatCall | GenerateCall, *, now: Callable[[], datetime] = utc_now) -> bytes:
    """The answer to a call that only loads or unloads: one object, never streamed, without metrics."""
    reply = {
        "model": call.model,
        "created_at": _created_at(now()),
        **_empty(call, "assistant"),
        "done": True,
        "done_reason": call.load,
    }
    return gojson.dump(reply)


def debug_reply(
    call: ChatCall | GenerateCall, request: ChatRequest, *, now: Callable[[], datetime] = utc_now
) -> bytes:
    """The answer to `_debug_render_only`: a readable rendering of the prompt; one object, never streamed."""
    raw = call.prompt if isinstance(call, GenerateCall) and call.raw else None
    reply = {
        "model": call.model,
        "created_at": _created_at(now()),
        **_empty(call, ""),
        "done": False,
        "_debug_info": debug_info(request, raw=raw),
    }
    return gojson.dump(reply)


def debug_info(request: ChatRequest, *, raw: str | None = None) -> dict[str, Any]:
    """What `_debug_render_only` asks for: the prompt, rendered readably, or as it is if it is raw."""
    info: dict[str, Any] = {"rendered_template": _rendered(request) if raw is None else raw}
    if images := sum(len(message.images) for message in request.messages):
        info["image_count"] = images
    return info


def _created_at(moment: datetime) -> str:
    second, microsecond = divmod((moment - EPOCH) // timedelta(microseconds=1), 1_000_000)
    return rfc3339(second) + f".{microsecond:06}".rstrip("0").rstrip(".") + "Z"


def _empty(call: ChatCall | GenerateCall, role: str) -> dict[str, Any]:
    return {"response": ""} if isinstance(call, GenerateCall) else {"message": {"role": role, "content": ""}}


def _rendered(request: ChatRequest) -> str:
    if gap := request.infill:
        return f"<|fim_prefix|>{gap.prefix}<|fim_suffix|>{gap.suffix}<|fim_middle|>"
    tools = [
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
        for tool in request.tools
    ]
    start = f"<|tools|>{orjson.dumps(tools).decode()}" if tools else ""
    return start + "".join(map(_rendered_message, request.messages)) + "<|assistant|>"


def _rendered_message(message: Message) -> str:
    calls = "".join(
        "<|tool_call|>" + orjson.dumps({"name": call.name, "arguments": dict(call.arguments)}).decode()
        for call in message.tool_calls
    )
    return f"<|{message.role}|>{message.content}{calls}"
