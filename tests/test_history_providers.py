"""Whatever history a client sends, every provider accepts what is made of it.

The rules are those of the providers' references (`providers.md` §2.1, §2.2), written as a strict reader of the
request bodies; the messages come in as JSON, through the surface.
"""

import json
import re

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_bridge.backends import anthropic_request, google_params, openai_chat, responses
from ollama_bridge.backends.dialect import OPENAI
from ollama_bridge.backends.openai import conversation
from ollama_bridge.catalog import ModelConfig, complete
from ollama_bridge.surfaces.ollama import decode_chat

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="

# ---------------------------------------------------------------------- what clients send

blank = st.sampled_from(["", " ", "\n\t"])
ids = st.sampled_from(["", "call_0", "call_1", "toolu_abc", "not valid!", "x" * 200])
names = st.sampled_from(["look", "find.it", "a b", "3d", "näme", "n" * 80, ""])
arguments = st.sampled_from([{}, {"q": 1}, {"q": {"deep": ["x", None]}}])
calls = st.lists(
    st.fixed_dictionaries(
        {"function": st.fixed_dictionaries({"name": names}, optional={"arguments": arguments})},
        optional={"id": ids},
    ),
    max_size=3,
)
roles = st.sampled_from(["system", "user", "assistant", "tool", "developer", "function", "User", ""])
content = st.one_of(st.none(), blank, st.just("WORD"), st.just('{"a": "WORD"}'), st.just('["WORD"]'))
message = st.fixed_dictionaries(
    {"role": roles},
    optional={
        "content": content,
        "thinking": st.one_of(st.none(), st.just("a thought")),
        "images": st.sampled_from([[], None, [PIXEL]]),
        "tool_calls": st.one_of(st.none(), calls),
        "tool_name": names,
        "tool_call_id": ids,
    },
)


@st.composite
def histories(draw):
    """Messages whose texts are all different, so that a lost one shows."""
    drawn = draw(st.lists(message, min_size=1, max_size=10))
    counted = iter(range(1000))
    for one in drawn:
        if isinstance(one.get("content"), str):
            one["content"] = re.sub("WORD", lambda _: f"word{next(counted):03}", one["content"])
    tools = draw(st.sampled_from([[], ["look"], ["look", "look", "3d"]]))
    return {
        "model": "m",
        "messages": drawn,
        "tools": [{"type": "function", "function": {"name": name}} for name in tools],
    }


# ---------------------------------------------------------------------- what providers accept


def check_anthropic(body):
    """Messages: alternation, results in the very next turn, no blank text, unique ids, declared tools."""
    turns = body["messages"]
    assert [turn["role"] for turn in turns] == [("user", "assistant")[at % 2] for at in range(len(turns))]
    assert turns[-1]["role"] == "user"  # newer models refuse a prefill
    for block in body.get("system", []):
        assert block["text"].strip()
    seen = []
    asked: list[str] = []
    for turn in turns:
        assert turn["content"]
        blocks = turn["content"]
        results = [block for block in blocks if block["type"] == "tool_result"]
        assert [result["tool_use_id"] for result in results] == asked
        assert [block["type"] for block in blocks[: len(results)]] == ["tool_result"] * len(results)
        for block in [*blocks, *(inner for one in results if isinstance(one["content"], list) for inner in one["content"])]:  # fmt: skip
            if block["type"] == "text":
                assert block["text"].strip()
        uses = [block for block in blocks if block["type"] == "tool_use"]
        for use in uses:
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", use["id"])
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", use["name"])
            assert isinstance(use["input"], dict)
        asked = [use["id"] for use in uses]
        seen += asked
    assert not asked
    assert len(set(seen)) == len(seen)
    declared = [tool["name"] for tool in body.get("tools", [])]
    assert len(set(declared)) == len(declared)
    assert declared or not seen


def check_chat(body):
    """Chat Completions: every call answered at once by a tool message, no other tool messages."""
    waiting: list[str] = []
    seen = []
    assert body["messages"]
    for one in body["messages"]:
        if one["role"] == "tool":
            assert one["tool_call_id"] == waiting.pop(0)
            assert isinstance(one["content"], str)
            continue
        assert not waiting
        assert one["role"] in {"system", "developer", "user", "assistant"}
        asked = one.get("tool_calls", [])
        assert one["content"] or (asked and one["content"] is None)
        for call in asked:
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", call["id"]) or len(call["id"]) <= 64
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", call["function"]["name"])
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
        waiting = [call["id"] for call in asked]
        seen += waiting
    assert not waiting
    assert len(set(seen)) == len(seen)


def check_responses(body):
    """Responses: every call has one output, behind it; there is an input."""
    assert body["input"]
    open_calls = set()
    seen = set()
    for item in body["input"]:
        kind = item.get("type", "message")
        if kind == "function_call":
            assert item["call_id"] not in seen
            assert 1 <= len(item["call_id"]) <= 64
            assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", item["name"])
            open_calls.add(item["call_id"])
            seen.add(item["call_id"])
        elif kind == "function_call_output":
            open_calls.remove(item["call_id"])
        else:
            assert item["role"] in {"user", "assistant", "developer"}
            assert item["content"]
            assert not open_calls
    assert not open_calls


def check_google(body):
    """generateContent: alternation from the user on, as many responses as calls in the very next turn."""
    turns = body["contents"]
    assert [turn["role"] for turn in turns] == [("user", "model")[at % 2] for at in range(len(turns))]
    asked: list[tuple[str, str]] = []
    for turn in turns:
        assert turn["parts"]
        answered = [
            (one["functionResponse"]["id"], one["functionResponse"]["name"])
            for one in turn["parts"]
            if "functionResponse" in one
        ]
        assert answered == asked
        for part in turn["parts"]:
            if "functionResponse" in part:
                assert isinstance(part["functionResponse"]["response"], dict)
            if "text" in part:
                assert part["text"]
        asked = [
            (part["functionCall"]["id"], part["functionCall"]["name"])
            for part in turn["parts"]
            if "functionCall" in part
        ]
        assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}", name) for _, name in asked)
    assert not asked


def anthropic_body(request):
    return anthropic_request.prepare(request).body


def chat_body(request):
    return openai_chat.prepare(request, conversation(request), OPENAI).body


def responses_body(request):
    return responses.prepare(request, conversation(request), OPENAI).body


def google_body(request):
    return google_params.build(request).body


PROVIDERS = {
    "anthropic": ("claude-sonnet-4-6", anthropic_body, check_anthropic),
    "chat": ("gpt-4o", chat_body, check_chat),
    "responses": ("gpt-5.4", responses_body, check_responses),
    "gemini 2.5": ("gemini-2.5-flash", google_body, check_google),
    "gemini 3": ("gemini-3-pro-preview", google_body, check_google),
}


@pytest.mark.parametrize("name", PROVIDERS)
@settings(deadline=None, max_examples=60)
@given(histories())
def test_any_history_becomes_one_that_the_provider_accepts(name, history):
    """And every text, every image of the user's and every call's arguments are still in it."""
    upstream, body_of, check = PROVIDERS[name]
    kind = "google" if "gemini" in name else "anthropic" if name == "anthropic" else "openai"
    config = ModelConfig(name="m", backend=kind, backend_model=upstream)
    request = decode_chat(json.dumps(history).encode()).request(complete(config, kind=kind))
    body = body_of(request)
    check(body)
    written = orjson.dumps(body).decode()
    for one in history["messages"]:
        for word in re.findall(r"word\d+", str(one.get("content"))):
            assert word in written
    pictures = sum(
        bool(one.get("images")) and one["role"].lower() != "assistant" for one in history["messages"]
    )
    spoken = sum(
        bool(one.get("images")) and one["role"] in {"system", "developer"} for one in history["messages"]
    )
    assert written.count(PIXEL) >= pictures - spoken
