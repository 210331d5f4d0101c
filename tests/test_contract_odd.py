"""Odd values in every field of every request: an answer or the contract's refusal, never a bug of ours.

A full request of each surface; in it, one field after the other is left out or gets a value that no client should
send. None may take the daemon more than a moment, none may leave an error in its log.
"""

import asyncio
import copy
import json
import random

import pytest

from contract_asking import HI, TOOL, configured
from journal import journal
from running import answer, connect, managed, request, running

PNG = "iVBORw0KGgo="
PNG_URL = f"data:image/png;base64,{PNG}"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}

FULL = {
    "/api/chat": {
        "model": "think",
        "messages": [
            {"role": "user", "content": "hi", "images": [PNG]},
            {
                "role": "assistant",
                "content": "",
                "thinking": "t",
                "tool_calls": [{"id": "a", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "content": "r", "tool_name": "f", "tool_call_id": "a"},
        ],
        "tools": [{**TOOL, "function": {**TOOL["function"], "description": "d", "parameters": SCHEMA}}],
        "stream": False,
        "format": SCHEMA,
        "keep_alive": 5,
        "options": {"temperature": 1, "stop": ["x"], "num_predict": 5, "seed": 1, "num_ctx": 10},
        "think": False,
        "truncate": True,
        "shift": True,
        "_debug_render_only": False,
        "logprobs": True,
        "top_logprobs": 2,
    },
    "/api/generate": {
        "model": "think",
        "prompt": "hi",
        "suffix": "",
        "system": "s",
        "template": "",
        "context": [1, 2],
        "stream": False,
        "raw": False,
        "images": [PNG],
        "format": "json",
        "keep_alive": "5m",
        "options": {"temperature": 1},
        "think": True,
    },
    "/api/show": {"model": "plain", "name": "x", "system": "s", "verbose": True, "options": {"num_ctx": 1}},
    "/api/embed": {
        "model": "embed",
        "input": ["a", "b"],
        "truncate": True,
        "dimensions": 3,
        "keep_alive": 1,
        "options": {"num_ctx": 1},
    },
    "/api/embeddings": {"model": "embed", "prompt": "x", "keep_alive": 1, "options": {}},
    "/v1/chat/completions": {
        "model": "think",
        "messages": [
            {"role": "system", "content": "s"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "f", "cache_control": {"type": "ephemeral"}},
                    {"type": "image_url", "image_url": {"url": PNG_URL}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning": "r",
                "tool_calls": [
                    {"id": "a", "index": 0, "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "content": "r", "tool_call_id": "a", "name": "f"},
        ],
        "stream": False,
        "stream_options": {"include_usage": True},
        "max_tokens": 5,
        "max_completion_tokens": 5,
        "seed": 1,
        "stop": ["a"],
        "temperature": 1,
        "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}},
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": True,
        "reasoning": {"effort": "low"},
        "reasoning_effort": "low",
        "logprobs": True,
        "top_logprobs": 1,
        "n": 1,
        "options": {"num_ctx": 1},
    },
    "/v1/completions": {
        "model": "think",
        "prompt": "x",
        "suffix": "",
        "max_tokens": 3,
        "stop": "a",
        "stream": False,
        "stream_options": {"include_usage": True},
        "logprobs": 1,
        "echo": True,
        "best_of": 1,
    },
    "/v1/embeddings": {"model": "embed", "input": ["a"], "dimensions": 2, "encoding_format": "base64"},
    "/v1/responses": {
        "model": "think",
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "f"},
                    {"type": "input_image", "image_url": PNG_URL},
                ],
            },
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "t"}],
                "encrypted_content": "t",
            },
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
            {
                "type": "function_call_output",
                "call_id": "a",
                "output": [{"type": "input_text", "text": "x"}],
            },
            {"type": "custom_tool_call", "call_id": "b", "name": "c", "input": "i"},
            {"type": "custom_tool_call_output", "call_id": "b", "output": "o"},
            {"type": "local_shell_call", "call_id": "d", "action": {"type": "exec", "command": ["ls"]}},
        ],
        "instructions": "i",
        "max_output_tokens": 5,
        "reasoning": {"effort": "low", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}, "verbosity": "low"},
        "truncation": "auto",
        "tools": [
            {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True},
            {"type": "custom", "name": "c", "description": "d", "format": {"type": "grammar"}},
            {
                "type": "namespace",
                "name": "n",
                "tools": [{"type": "function", "name": "g", "parameters": {}}],
            },
            {"type": "web_search"},
        ],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": True,
        "stream": False,
        "include": ["reasoning.encrypted_content"],
        "metadata": {"a": "b"},
        "top_logprobs": 1,
        "prompt_cache_key": "k",
    },
    "/v1/messages": {
        "model": "think",
        "max_tokens": 9,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "f"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                    },
                    {
                        "type": "document",
                        "source": {"type": "text", "data": "x"},
                        "title": "t",
                        "context": "c",
                    },
                    {
                        "type": "search_result",
                        "title": "t",
                        "source": "s",
                        "content": [{"type": "text", "text": "x"}],
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "t", "signature": "s"},
                    {"type": "tool_use", "id": "a", "name": "f", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "a",
                        "content": [{"type": "text", "text": "r"}],
                        "is_error": True,
                    }
                ],
            },
        ],
        "stream": False,
        "temperature": 1,
        "stop_sequences": ["a"],
        "tools": [
            {"name": "f", "description": "d", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 1},
        ],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    },
}
FULL["/v1/messages/count_tokens"] = FULL["/v1/messages"]

VERBS = {
    "/api/create": {
        "model": "mine",
        "name": "mine",
        "from": "plain",
        "template": "{{ .Prompt }}",
        "license": ["x"],
        "system": "s",
        "parameters": {"temperature": 1, "stop": ["a"]},
        "messages": [{"role": "user", "content": "x"}],
        "stream": False,
    },
    "/api/copy": {"source": "plain", "destination": "other"},
    "/api/delete": {"model": "other", "name": "other"},
}
FILE = "providers: {demo: {}}\nmodels: [{name: plain, backend: demo}]\n"

ODD = (
    "null", "true", "0", "-1", "1.5", str(2**63), str(2**70), "1e400", "-1e400", "1e308", "1e-400", '""', '"x"',
    r'"\u0000"', r'"\ud800"', r'"\ud83d\ude00"', '"http://x/y"', '"data:,"', "[]", "{}", "[null]", "[[]]", "[{}]",
    '["x"]', '{"type":null}', '{"type":[]}', '{"type":"text"}', '{"a":{}}', '{"$ref":"#"}', ('{"type":"object","properties":'
    '{"a":{"$ref":"#"}},"required":["a"]}'), "[" * 5000 + "]" * 5000, '{"a":' * 300 + "1" + "}" * 300, json.dumps([HI]),
)  # fmt: skip
"""In JSON."""

LATE = ("must be of type", "must be of an array of strings", "invalid format")
"""What 500 may mean here: a real server finds it when it loads the model (§4.3)."""

SAMPLE = 200
_HERE = "@here@"


def _places(value, path=()):
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


def _bodies(full):
    """Each field left out, and with each odd value: name and bytes."""
    for path in _places(full):
        holder = changed = copy.deepcopy(full)
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = _HERE
        text = json.dumps(changed)
        for odd in ODD:
            yield f"{path} = {odd[:60]}", text.replace(f'"{_HERE}"', odd)
        del holder[path[-1]]
        yield f"{path} left out", json.dumps(changed)


def _fault(path, got):
    """What is wrong with an answer; empty: nothing."""
    if got.status == 200:
        return ""
    told = got.json
    if path.startswith("/v1/messages"):
        keys, words = ["type", "error", "request_id"], told["error"]["message"]
    elif path.startswith("/v1/"):
        keys, words = ["error"], told["error"]["message"]
        if list(told["error"]) != ["message", "type", "param", "code"]:
            return "envelope"
    else:
        keys, words = ["error"], told["error"]
    if list(told) != keys or not words:
        return "envelope"
    if got.status >= 500 and not any(late in words for late in LATE):
        return f"{got.status} {words}"
    return "" if got.status in {400, 404, 500} else f"status {got.status}"


async def _ask_all(daemon, path, bodies, method="POST"):
    """Over one connection: a request after the other, as a client with keep-alive."""
    faults = []
    reader, writer = await connect(daemon.url)
    try:
        for name, body in bodies:
            writer.write(request(daemon.url, method, path, body))
            try:
                async with asyncio.timeout(5):
                    fault = _fault(path, await answer(reader))
            except (TimeoutError, OSError, EOFError) as broken:
                raise AssertionError(f"{path} {name}: {broken!r}") from None
            if fault:
                faults.append(f"{name}: {fault}")
    finally:
        writer.close()
    return faults


@pytest.mark.parametrize("path", FULL)
async def test_no_odd_value_is_a_bug(path):
    """Some of all, others on each run, and half of them as streams: the whole takes minutes."""
    bodies = list(_bodies(FULL[path]))
    chosen = random.sample(bodies, min(len(bodies), SAMPLE))
    half = len(chosen) // 2
    streamed = [(name, body.replace('"stream": false', '"stream": true')) for name, body in chosen[:half]]
    with journal() as kept:
        async with running(configured()) as daemon:
            faults = await _ask_all(daemon, path, [*streamed, *chosen[half:]])
    assert faults == []
    assert kept.alarming == []


@pytest.mark.parametrize("path", VERBS)
async def test_no_odd_value_is_a_bug_of_a_verb(path, tmp_path):
    """The same, where clients change the configuration; whatever they made of it can be loaded afterwards."""
    bodies = list(_bodies(VERBS[path]))
    chosen = random.sample(bodies, min(len(bodies), SAMPLE // 2))
    with journal() as kept:
        async with managed(tmp_path / "config.yaml", FILE) as daemon:
            method = "DELETE" if path == "/api/delete" else "POST"
            faults = await _ask_all(daemon, path, chosen, method)
        async with managed(tmp_path / "config.yaml", (tmp_path / "config.yaml").read_text()):
            pass
    assert faults == []
    assert kept.alarming == []


FOUND = [
    ("/api/chat", {"model": "plain", "keep_alive": 1e308}, 200, '"done_reason":"load"'),
    ("/api/generate", {"model": "plain", "keep_alive": 1e300, "prompt": "x", "stream": False}, 200, "done"),
    ("/api/embed", {"model": "embed", "keep_alive": 1e308}, 200, '"embeddings":[]'),
    (
        "/v1/responses",
        {"model": "plain", "input": [{"role": "user", "content": [{"type": []}]}]},
        400,
        "input[0]: content[0]: unknown content type: ",
    ),
    (
        "/v1/messages",
        {
            "model": "plain",
            "max_tokens": 1,
            "messages": [{"role": "user", "content": [{"type": "document", "source": {"type": []}}]}],
        },
        400,
        "documents of source type none are not supported",
    ),
    (
        "/v1/messages",
        {
            "model": "plain",
            "max_tokens": 1,
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "search_result", "content": [{"type": {}, "text": "x"}]}],
                }
            ],
        },
        200,
        '"role":"assistant"',
    ),
]
"""Each was an internal error once."""


@pytest.mark.parametrize(("path", "body", "status", "words"), FOUND)
async def test_what_was_a_bug_once(path, body, status, words):
    """Answered, or refused in words; and `/api/ps` can tell until when."""
    with journal() as kept:
        async with running(configured()) as daemon:
            reader, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", path, body))
            got = await answer(reader)
            writer.write(request(daemon.url, "GET", "/api/ps"))
            shown = await answer(reader)
            writer.close()
    assert (got.status, words in got.body.decode()) == (status, True)
    assert shown.status == 200
    assert kept.alarming == []
