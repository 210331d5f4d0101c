"""The scripted runner of `../shared/golden`, as a provider: it says the same words to the same prompts."""

import json
from typing import Any

from upstream import Upstream, sse

MODELS = {
    "plain": ["completion"],
    "jinja": ["completion", "tools"],
    "think": ["completion", "tools", "thinking"],
    "embed": ["embedding"],
    "vision": ["completion", "vision"],
    "gotools": ["completion", "tools"],
    "qwen": ["completion", "tools"],
    "myns/copy:V1": ["completion"],
}


def configuration(upstream: Upstream) -> dict[str, Any]:
    """Of a daemon with the models of the recordings."""
    models = [
        {"name": model, "backend": "acme", "backend_model": "acme-1", "capabilities": able}
        for model, able in MODELS.items()
    ]
    acme = {"kind": "openai", "api": "chat", "base_url": f"{upstream.url}/v1", "api_key": "k-test"}
    # A real server asks its runner once, and goes on asking one that fails.
    patience = {"retry": {"max_retries": 0}, "breaker": {"failures": 0}}
    return {"server": {"port": 0}, **patience, "providers": {"acme": acme}, "models": models}


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason, **more}]}


def call(index: int, name: str, arguments: str) -> dict[str, Any]:
    return {"index": index, "id": name, "function": {"name": "get_weather", "arguments": arguments}}


def token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def logged(text: str, token_text: str, sent: str) -> dict[str, Any]:
    if '"logprobs": true' not in sent:
        return chunk({"content": text})
    top = [token(token_text, -0.25), token("x", -2.5)] if "top_logprobs" in sent else []
    return chunk({"content": text}, logprobs={"content": [{**token(token_text, -0.25), "top_logprobs": top}]})


def script(upstream: Upstream, sent: str) -> None:
    """Say what the scripted runner said to this prompt."""
    error = {"error": {"code": 500, "message": "kaboom"}}
    if "ERR400" in sent:
        bad = {"error": {"code": 400, "message": "bad thing", "type": "invalid_request_error"}}
        upstream.only(json.dumps(bad).encode(), status=400)
        return
    said: list[dict[str, Any]] = []
    if "THINK" in sent:
        said += [chunk({"reasoning_content": text}) for text in ("Let me ", "think.")]
    if "TOOLS" in sent and '"qwen"' in sent:
        calls = [call(0, "call_3wbbg8xo", '{"city":"Paris"}'), call(1, "call_63rwcjcb", '{"city":"Rome"}')]
        said += [chunk({"tool_calls": calls}, "tool_calls")]
    elif "TOOLS" in sent:
        said += [chunk({"content": "Calling."})]
        calls = [call(0, "abc123", '{"city":"Paris","n":2}'), call(1, "def456", '{"city":"<Rome>"}')]
        said += [chunk({"tool_calls": calls}, "tool_calls")]
    elif "FIRSTERR" in sent:
        said = [error]
    elif "MIDERR" in sent:
        said = [chunk({"content": "Hel"}), chunk({"content": "lo"}), error]
    elif "DIE" in sent:
        upstream.only(sse(json.dumps(chunk({"content": "Hel"}))), then="cut")
        return
    else:
        said += [logged("Hel", "Hel", sent), logged("lo <b>&", "lo", sent)]
        said += [chunk({}, "length" if "LEN" in sent else "stop")]
    usage = {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 4}}
    upstream.only(sse(*map(json.dumps, [*said, usage]), done=True))
