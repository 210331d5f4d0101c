"""The worked examples of `ollama-api.md` §12, sent to the daemon: the provider says the words, the bridge the rest.

Only times, durations, context and ids are masked. C, a model whose calls come in the last line, is not to be had:
every call has a line of its own here, which is the other legitimate shape, and the safer (§2.4).
"""

import json
import re

import pytest

from golden_runner import configuration, script
from ollama_bridge.config import Config
from running import ask, running
from upstream import Upstream

TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
CLAUDES_TOOLS = [{"name": "get_weather", "input_schema": {"type": "object"}}]
PARIS = '{"id":"abc123","function":{"index":0,"name":"get_weather","arguments":{"city":"Paris","n":2}}}'
ROME = '{"id":"def456","function":{"index":1,"name":"get_weather","arguments":{"city":"\\u003cRome\\u003e"}}}'
METRICS = (
    '"total_duration":N,"load_duration":N,"prompt_eval_count":11,"prompt_eval_duration":N,"eval_count":4,'
    '"eval_duration":N'
)
NDJSON = "application/x-ndjson"
JSON = "application/json; charset=utf-8"
SSE = "text/event-stream"


def user(text):
    return [{"role": "user", "content": text}]


def chat_lines(model, *messages):
    """NDJSON of a chat; the last one is its end."""
    *said, last = messages
    head = f'{{"model":"{model}","created_at":"T","message":{{"role":"assistant","content":'
    lines = [f'{head}{one}}},"done":false}}' for one in said]
    return "\n".join([*lines, f'{head}{last}}},"done":true,"done_reason":"stop",{METRICS}}}', ""])


def chunks(*choices):
    head = '{"id":"I","object":"chat.completion.chunk","created":N,"model":"think","system_fingerprint":"fp_ollama"'
    return "".join(f'data: {head},"choices":[{one}}}\n\n' for one in choices) + "data: [DONE]\n\n"


def delta(said, reason="null"):
    return f'{{"index":0,"delta":{{{said}}},"finish_reason":{reason}}}]'


def events(*data):
    return "".join(f"event: {json.loads(one)['type']}\ndata: {one}\n\n" for one in data)


def block(index, start, *deltas):
    place = f'"index":{index}'
    return [
        f'{{"type":"content_block_start",{place},"content_block":{start}}}',
        *(f'{{"type":"content_block_delta",{place},"delta":{one}}}' for one in deltas),
        f'{{"type":"content_block_stop",{place}}}',
    ]


def token(text, logprob, *more):
    value = {"token": text, "logprob": logprob, "bytes": list(text.encode())}
    return {**value, "top_logprobs": more[0]} if more else value


def logprobs(text):
    return json.dumps([token(text, -0.25, [token(text, -0.25), token("x", -2.5)])], separators=(",", ":"))


THINK = {"model": "think", "messages": user("THINK TOOLS")}
EXAMPLES = {
    "A: chat with thinking and two calls": (
        "/api/chat",
        {**THINK, "tools": TOOLS},
        NDJSON,
        chat_lines(
            "think",
            '"","thinking":"Let me "',
            '"","thinking":"think."',
            '"Calling."',
            f'"","tool_calls":[{PARIS}]',
            f'"","tool_calls":[{ROME}]',
            '""',
        ),
    ),
    "B: the same in one object": (
        "/api/chat",
        {**THINK, "tools": TOOLS, "stream": False},
        JSON,
        chat_lines("think", f'"Calling.","thinking":"Let me think.","tool_calls":[{PARIS},{ROME}]').rstrip(
            "\n"
        ),
    ),
    "D: the turn that follows": (
        "/api/chat",
        {
            "model": "jinja",
            "messages": [
                *user("weather?"),
                {"role": "assistant", "content": "", "tool_calls": [json.loads(PARIS)]},
                {"role": "tool", "content": "22C", "tool_name": "get_weather", "tool_call_id": "abc123"},
            ],
        },
        NDJSON,
        chat_lines("jinja", '"Hel"', '"lo \\u003cb\\u003e\\u0026"', '""'),
    ),
    "E: generate": (
        "/api/generate",
        {"model": "think", "prompt": "THINK"},
        NDJSON,
        "".join(
            f'{{"model":"think","created_at":"T","response":{one}}}\n'
            for one in (
                '"","thinking":"Let me ","done":false',
                '"","thinking":"think.","done":false',
                '"Hel","done":false',
                '"lo \\u003cb\\u003e\\u0026","done":false',
                f'"","done":true,"done_reason":"stop","context":[C],{METRICS}',
            )
        ),
    ),
    "F: log probabilities of a chat stand before its metrics": (
        "/api/chat",
        {"model": "plain", "messages": user("hi"), "logprobs": True, "top_logprobs": 2, "stream": False},
        JSON,
        (
            '{"model":"plain","created_at":"T","message":{"role":"assistant","content":"Hello \\u003cb\\u003e\\u0026"},'
            f'"done":true,"done_reason":"stop","logprobs":{logprobs("Hel")[:-1]},{logprobs("lo")[1:]},{METRICS}}}'
        ),
    ),
    "F: those of a generation come last": (
        "/api/generate",
        {"model": "plain", "prompt": "hi", "raw": True, "logprobs": True, "top_logprobs": 2, "stream": False},
        JSON,
        (
            '{"model":"plain","created_at":"T","response":"Hello \\u003cb\\u003e\\u0026","done":true,"done_reason":"stop",'
            f'{METRICS},"logprobs":{logprobs("Hel")[:-1]},{logprobs("lo")[1:]}}}'
        ),
    ),
    "G: a load": (
        "/api/generate",
        {"model": "plain", "stream": True},
        JSON,
        '{"model":"plain","created_at":"T","response":"","done":true,"done_reason":"load"}',
    ),
    "G: an unload": (
        "/api/chat",
        {"model": "plain", "keep_alive": 0, "stream": True},
        JSON,
        '{"model":"plain","created_at":"T","message":{"role":"assistant","content":""},"done":true,"done_reason":"unload"}',
    ),
    "G: the prompt": (
        "/api/chat",
        {"model": "plain", "messages": user("hi"), "_debug_render_only": True},
        JSON,
        (
            '{"model":"plain","created_at":"T","message":{"role":"","content":""},"done":false,'
            '"_debug_info":{"rendered_template":"\\u003c|user|\\u003ehi\\u003c|assistant|\\u003e"}}'
        ),
    ),
    "H: a failure in the middle": (
        "/api/chat",
        {"model": "plain", "messages": user("MIDERR")},
        NDJSON,
        "".join(
            f'{{"model":"plain","created_at":"T","message":{{"role":"assistant","content":"{one}"}},"done":false}}\n'
            for one in ("Hel", "lo")
        )
        + '{"error":"E"}\n',
    ),
    "L: /v1/chat/completions": (
        "/v1/chat/completions",
        {**THINK, "tools": TOOLS, "stream": True, "stream_options": {"include_usage": True}},
        SSE,
        chunks(
            delta('"role":"assistant","content":"","reasoning":"Let me "'),
            delta('"content":"","reasoning":"think."'),
            delta('"content":"Calling."'),
            delta(
                '"content":"","tool_calls":[{"id":"abc123","index":0,"type":"function","function":{"name":"get_weather",'
                '"arguments":"{\\"city\\":\\"Paris\\",\\"n\\":2}"}}]'
            ),
            delta(
                '"content":"","tool_calls":[{"id":"def456","index":1,"type":"function","function":{"name":"get_weather",'
                '"arguments":"{\\"city\\":\\"\\\\u003cRome\\\\u003e\\"}"}}]'
            ),
            delta("", '"tool_calls"'),
            '],"usage":{"prompt_tokens":11,"completion_tokens":4,"total_tokens":15}',
        ),
    ),
    "M: /v1/messages": (
        "/v1/messages",
        {
            "model": "jinja",
            "max_tokens": 9,
            "messages": user("TOOLS"),
            "tools": CLAUDES_TOOLS,
            "stream": True,
        },
        SSE,
        events(
            '{"type":"message_start","message":{"id":"I","type":"message","role":"assistant","model":"jinja","content":[],'
            '"usage":{"input_tokens":0,"output_tokens":0}}}',
            *block(0, '{"type":"text","text":""}', '{"type":"text_delta","text":"Calling."}'),
            *block(
                1,
                '{"type":"tool_use","id":"abc123","name":"get_weather","input":{}}',
                '{"type":"input_json_delta","partial_json":"{\\"city\\":\\"Paris\\",\\"n\\":2}"}',
            ),
            *block(
                2,
                '{"type":"tool_use","id":"def456","name":"get_weather","input":{}}',
                '{"type":"input_json_delta","partial_json":"{\\"city\\":\\"\\\\u003cRome\\\\u003e\\"}"}',
            ),
            '{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"input_tokens":11,"output_tokens":4}}',
            '{"type":"message_stop"}',
        ),
    ),
}


def masked(reply):
    for pattern, mask in (
        (r'"created_at":"[^"]+Z"', '"created_at":"T"'),
        (r'_duration":[1-9]\d*', '_duration":N'),
        (r'"context":\[[\d,]+\]', '"context":[C]'),
        (r'"created":1\d{9}', '"created":N'),
        (r'"id":"(chatcmpl-\d+|msg_[0-9a-f]{24})"', '"id":"I"'),
        (r'"input_tokens":\d+,"output_tokens":0', '"input_tokens":0,"output_tokens":0'),
        (r'\{"error":"[^"]+"\}', '{"error":"E"}'),
    ):
        reply = re.sub(pattern, mask, reply)
    return reply


@pytest.mark.parametrize(("path", "body", "content_type", "reply"), EXAMPLES.values(), ids=EXAMPLES.keys())
async def test_an_example(path, body, content_type, reply):
    """Every byte of it."""
    async with Upstream() as upstream, running(Config.model_validate(configuration(upstream))) as daemon:
        script(upstream, json.dumps(body))
        got = await ask(daemon.url, "POST", path, body)
    assert (got.status, got.headers["Content-Type"]) == (200, content_type)
    assert masked(got.body.decode()) == reply
    assert ("Transfer-Encoding" in got.headers) == (content_type in {NDJSON, SSE})


@pytest.mark.parametrize(
    ("path", "body", "reply"),
    [
        (
            "/api/chat",
            {"model": "nope", "messages": user("hi")},
            """{"error":"model 'nope' not found"}""",
        ),
        (
            "/v1/chat/completions",
            {"model": "nope", "messages": user("hi")},
            """{"error":{"message":"model 'nope' not found","type":"not_found_error","param":null,"code":null}}\n""",
        ),
        (
            "/v1/messages",
            {"model": "nope", "max_tokens": 1, "messages": user("hi")},
            """{"type":"error","error":{"type":"not_found_error","message":"model 'nope' not found"},"request_id":"R"}\n""",
        ),
    ],
)
async def test_the_envelopes_of_errors(path, body, reply):
    """N: native, OpenAI's, Anthropic's; the same whether or not a stream was asked for."""
    async with Upstream() as upstream, running(Config.model_validate(configuration(upstream))) as daemon:
        for stream in (False, True):
            got = await ask(daemon.url, "POST", path, {**body, "stream": stream})
            assert got.status == 404
            assert re.sub(r'"req_[0-9a-f]{24}"', '"R"', got.body.decode()) == reply
