"""What the `/v1` surfaces refuse, word for word: `ollama-api.md` §7 over real sockets.

What the converter finds has a charset and no line end, what the native handler finds has it the other way round.
"""

import pytest

from contract_asking import ENDPOINTS, HI, NATIVE_JSON, TOOL, V1_JSON, configured, without_id
from running import ask, running

CHAT, COMPLETION, RESPONSES, MESSAGES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
)
AT = {endpoint.path: endpoint for endpoint in ENDPOINTS}
FULL = "registry.ollama.ai/library/plain:latest does not support"
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object"}}
CLAUDES_TOOL = {"name": "f", "input_schema": {"type": "object"}}


def said(*content):
    return [{"role": "user", "content": list(content)}]


def image(url):
    return {"messages": said({"type": "image_url", "image_url": {"url": url}})}


CONVERTER = [
    (CHAT, {"messages": []}, "[] is too short - 'messages'"),
    (CHAT, {"messages": None}, "[] is too short - 'messages'"),
    (CHAT, {"messages": [{"role": "user"}]}, "invalid message content type: <nil>"),
    (CHAT, {"messages": [{"role": "user", "content": 5}]}, "invalid message content type: float64"),
    (CHAT, {"messages": said({"type": "video"})}, "invalid message format"),
    (CHAT, image("http://x/y.png"), "image URLs are not currently supported, please use base64 encoded data instead"),
    (CHAT, image("https://x/y.png"), "image URLs are not currently supported, please use base64 encoded data instead"),
    (CHAT, image("nonsense"), "invalid image input"),
    (CHAT, image("data:image/png;base64,!!"), "invalid image input"),
    (
        CHAT,
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]}]},
        "invalid tool call arguments",
    ),
    (
        CHAT,
        {"reasoning_effort": "zz"},
        'invalid reasoning value: "zz" (must be "minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none")',
    ),
    (CHAT, {"stop": 5}, "invalid type for 'stop' field: it is a string, or an array of strings"),
    (COMPLETION, {"prompt": ["a", "b"]}, "json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string"),
    ("/v1/embeddings", {"input": []}, "invalid input"),
    ("/v1/embeddings", {"input": None}, "invalid input"),
    (
        "/v1/embeddings",
        {"encoding_format": "zz"},
        "Invalid value for 'encoding_format' = zz. Supported values: ['float', 'base64'].",
    ),
    (RESPONSES, {"input": [{"type": "zzz"}]}, 'input[0]: unknown input item type: "zzz"'),
    (RESPONSES, {"input": [{}]}, "input[0]: input item missing required 'type' field"),
    (RESPONSES, {"input": said({"type": "zz"})}, "input[0]: content[0]: unknown content type: zz"),
    (RESPONSES, {"input": said({"type": "input_file"})}, "file inputs are not currently supported"),
    (
        RESPONSES,
        {"input": 5},
        "input must be a string or array: json: cannot unmarshal number into Go value of type []json.RawMessage",
    ),
    (MESSAGES, {"model": ""}, "model is required"),
    (MESSAGES, {"model": "", "max_tokens": 0, "messages": []}, "model is required"),
    (MESSAGES, {"max_tokens": 0, "messages": []}, "max_tokens is required and must be positive"),
    (MESSAGES, {"max_tokens": -1}, "max_tokens is required and must be positive"),
    (MESSAGES, {"max_tokens": None}, "max_tokens is required and must be positive"),
    (MESSAGES, {"messages": []}, "messages is required"),
    (
        MESSAGES,
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}]},
        "tool_use block missing required 'id' field",
    ),
    (
        MESSAGES,
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a"}]}]},
        "tool_use block missing required 'name' field",
    ),
    (
        MESSAGES,
        {"messages": said({"type": "image", "source": {"type": "url", "url": "http://x/y"}})},
        "invalid image source type: url. Only base64 images are supported.",
    ),
]  # fmt: skip

HANDLER = [
    (CHAT, {"model": ""}, 400, "model is required"),
    (RESPONSES, {"model": ""}, 400, "model is required"),
    (COMPLETION, {"model": ""}, 404, "model '' not found"),
    ("/v1/embeddings", {"model": ""}, 404, "model '' not found"),
    ("/v1/embeddings", {"input": 5}, 400, "invalid input type"),
    ("/v1/embeddings", {"input": ["a", 5]}, 400, "invalid input type"),
    ("/v1/embeddings", {"input": {}}, 400, "invalid input type"),
    (CHAT, {"model": "embed"}, 400, '"embed" does not support chat'),
    (COMPLETION, {"model": "embed"}, 400, '"embed" does not support generate'),
    (RESPONSES, {"model": "embed"}, 400, '"embed" does not support chat'),
    (MESSAGES, {"model": "embed"}, 400, '"embed" does not support chat'),
    (CHAT, {"tools": [TOOL]}, 400, f"{FULL} tools"),
    (RESPONSES, {"tools": [FUNCTION]}, 400, f"{FULL} tools"),
    (MESSAGES, {"tools": [CLAUDES_TOOL]}, 400, f"{FULL} tools"),
    (COMPLETION, {"suffix": "x"}, 400, f"{FULL} insert"),
    (CHAT, {"reasoning_effort": "low"}, 400, '"plain" does not support thinking'),
    (CHAT, {"reasoning": {"effort": "max"}}, 400, '"plain" does not support thinking'),
    (RESPONSES, {"reasoning": {"effort": "high"}}, 400, '"plain" does not support thinking'),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, 400, "top_logprobs must be between 0 and 20"),
]

FINE = [
    (CHAT, {"reasoning_effort": "none"}),
    (CHAT, {"reasoning": {"effort": ""}, "reasoning_effort": "high"}),  # `reasoning` wins, even when it is empty
    (CHAT, {"model": "think", "reasoning_effort": "ultra"}),
    (CHAT, {"tools": [], "tool_choice": "auto"}),
    (CHAT, {"messages": [*HI, {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "content": "r", "tool_call_id": "a"}]}),
    (CHAT, {"messages": [{"role": "developer", "content": "x"}, {"role": "whoever", "content": "y"}, {"content": "z"}]}),
    (CHAT, {"user": "u", "logit_bias": {"1": 2}, "store": True, "n": 1, "parallel_tool_calls": False, "metadata": {}}),
    (CHAT, {"stop": "x"}),
    (CHAT, {"stop": ["x", "y"]}),
    (CHAT, {"response_format": {"type": "text"}}),
    (COMPLETION, {"prompt": ["only one"]}),
    (COMPLETION, {"logit_bias": {}, "user": "u"}),
    ("/v1/embeddings", {"input": ""}),
    ("/v1/embeddings", {"encoding_format": "base64", "dimensions": -1}),
    (RESPONSES, {"input": [{"role": "user", "content": "x"}, {"type": "web_search_call", "id": "w"}]}),
    (RESPONSES, {"store": True, "metadata": {"a": "b"}, "include": ["x"], "reasoning": {"effort": "none"}}),
    (RESPONSES, {"input": None}),
    (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 1024}}),  # here it is "no thinking" (§9, 57)
    (MESSAGES, {"thinking": {"type": "adaptive"}, "output_config": {"effort": "whatever"}}),
    (MESSAGES, {"system": "s", "metadata": {"user_id": "u"}, "tool_choice": {"type": "auto"}, "tools": []}),
    (MESSAGES, {"messages": said({"type": "text", "text": "x"}, {"type": "what_will_come", "x": 1})}),
]  # fmt: skip


def ids(rows):
    return [f"{row[0]} {row[-1] if isinstance(row[-1], str) else list(row[1])}"[:90] for row in rows]


@pytest.mark.parametrize(("path", "fields", "words"), CONVERTER, ids=ids(CONVERTER))
async def test_what_cannot_be_translated(path, fields, words):
    """400, before the model is looked for; whether or not a stream was asked for."""
    async with running(configured()) as daemon:
        for more in ({}, {"stream": True}, {"model": fields.get("model", "nope")}):
            got = await ask(daemon.url, "POST", path, AT[path].body(**fields) | more)
            assert (got.status, got.headers["Content-Type"]) == (400, NATIVE_JSON)
            assert without_id(got.body) == AT[path].told(400, words)


@pytest.mark.parametrize(("path", "fields", "status", "words"), HANDLER, ids=ids(HANDLER))
async def test_what_the_model_cannot_do(path, fields, status, words):
    """In the native handler's words, inside the envelope."""
    async with running(configured()) as daemon:
        for more in ({}, {"stream": True}):
            got = await ask(daemon.url, "POST", path, AT[path].body(**fields) | more)
            expected = NATIVE_JSON if path == MESSAGES and words == "model is required" else V1_JSON
            assert (got.status, got.headers["Content-Type"]) == (status, expected)
            assert without_id(got.body) == AT[path].told(status, words) + "\n"


@pytest.mark.parametrize(("path", "fields"), FINE, ids=ids(FINE))
async def test_what_is_borne(path, fields):
    """What a real server takes, or passes over."""
    async with running(configured()) as daemon:
        got = await ask(daemon.url, "POST", path, AT[path].body(**fields))
        assert (got.status, got.headers["Content-Type"]) == (200, V1_JSON)


@pytest.mark.parametrize("path", [CHAT, COMPLETION, RESPONSES, MESSAGES])
async def test_streams_are_asked_for(path):
    """Default and null are no stream (§9, 1); a stream is of events, without a charset (§7.0)."""
    async with running(configured()) as daemon:
        for stream in ({}, {"stream": None}, {"stream": False}):
            got = await ask(daemon.url, "POST", path, AT[path].body(**stream))
            assert (got.headers["Content-Type"], got.json["model"]) == (V1_JSON, "plain")
        got = await ask(daemon.url, "POST", path, AT[path].body(stream=True))
    assert got.headers["Content-Type"] == "text/event-stream"
    assert got.headers.get("Cache-Control") == ("no-cache" if path in {RESPONSES, MESSAGES} else None)
    assert got.headers["Transfer-Encoding"] == "chunked"
    assert got.body.endswith(b"\n\n")
    assert (b"[DONE]" in got.body) == (path in {CHAT, COMPLETION})
    named = b"\nevent: " in got.body or got.body.startswith(b"event: ")
    assert named == (path in {RESPONSES, MESSAGES})
