"""What makes two questions the same: every field of every class that a question is made of is classified here."""

from dataclasses import fields, replace

import pytest

from ollama_bridge.chat import (
    ChatRequest,
    EmbedRequest,
    Image,
    Infill,
    Message,
    Rules,
    Target,
    Tool,
    ToolChoice,
)
from ollama_bridge.events import Line, ToolCall
from ollama_bridge.native import Native
from ollama_bridge.policies.cache import Who
from ollama_bridge.policies.question import chat_key, embed_key, is_large
from ollama_bridge.record import CallRecord
from ollama_bridge.repairs import Repair

CALL = ToolCall("call_1", "read", {"path": "a", "lines": 3})
IMAGE = Image("QUJD", "image/png")
MESSAGE = Message("assistant", "Hi", "Hm", (IMAGE,), (CALL,), "call_1", "read", b"sealed", "5m")
TOOL = Tool("read", "Reads.", {"type": "object"}, "5m")
CHOICE = ToolChoice("tool", "read")
INFILL = Infill("a", "b")
RULES = Rules()
TARGET = Target("acme", "m-1", name="m:latest")
CHAT = ChatRequest("m", (MESSAGE,), (TOOL,), options={"temperature": 0}, tool_choice=CHOICE, infill=INFILL)
EMBED = EmbedRequest("m", ("a", "b"), options={"temperature": 0})
WHO = Who(TARGET, ("openai", "http://127.0.0.1/v1"))


def of_chat(request=CHAT, who=WHO):
    return chat_key(request, who)


HELD = {
    ChatRequest: (CHAT, of_chat),
    EmbedRequest: (EMBED, lambda request: embed_key(request, WHO)),
    Message: (MESSAGE, lambda message: of_chat(replace(CHAT, messages=(message,)))),
    Image: (IMAGE, lambda image: of_chat(replace(CHAT, messages=(replace(MESSAGE, images=(image,)),)))),
    ToolCall: (CALL, lambda call: of_chat(replace(CHAT, messages=(replace(MESSAGE, tool_calls=(call,)),)))),
    Tool: (TOOL, lambda tool: of_chat(replace(CHAT, tools=(tool,)))),
    ToolChoice: (CHOICE, lambda choice: of_chat(replace(CHAT, tool_choice=choice))),
    Infill: (INFILL, lambda infill: of_chat(replace(CHAT, infill=infill))),
    Who: (WHO, lambda who: of_chat(who=who)),
    Target: (TARGET, lambda target: of_chat(who=replace(WHO, target=target))),
    Rules: (RULES, lambda rules: of_chat(who=replace(WHO, target=replace(TARGET, rules=rules)))),
}
"""Of each class one, and the key of a question with it."""

COUNTS = {
    ChatRequest: {
        "messages": (MESSAGE, MESSAGE),
        "tools": (),
        "format": "json",
        "think": True,
        "options": {"temperature": 0, "seed": 1},
        "logprobs": True,
        "top_logprobs": 3,
        "tool_choice": None,
        "parallel_tool_calls": False,
        "infill": None,
    },
    EmbedRequest: {
        "inputs": ("b", "a"),
        "dimensions": 3,
        "truncate": False,
        "options": {"temperature": 0, "num_ctx": 1},
    },
    Message: {
        "role": "user",
        "content": "Hi ",
        "thinking": "",
        "images": (),
        "tool_calls": (),
        "tool_call_id": "",
        "tool_name": "",
        "sealed": b"other",
    },
    Image: {"data": "QUJE", "media_type": "image/jpeg"},
    ToolCall: {"id": "call_2", "name": "write", "arguments": {"path": "b", "lines": 3}, "line": Line(b"}")},
    Tool: {"name": "write", "description": "", "parameters": {}},
    ToolChoice: {"mode": "auto", "name": "write"},
    Infill: {"prefix": "b", "suffix": "a"},
    Who: {"target": Target(), "details": ("openai", "http://127.0.0.2/v1"), "is_native": True},
    Target: {
        "provider": "other",
        "model": "m-2",
        "max_output_tokens": 1,
        "capabilities": frozenset(),
        "rules": Rules(prefill=False),
        "context_length": 1,
        "name": "n:latest",
        "prompt_cache": True,
        "window": 1,
    },
    Rules: {
        "api": "responses",
        "accepts": frozenset(),
        "max_stops": 1,
        "thinking": frozenset(),
        "efforts": (),
        "max_tokens_field": "max_completion_tokens",
        "system_role": "developer",
        "schema": False,
        "prefill": False,
        "forced_tools": False,
        "dimensions": range(1),
        "continues": True,  # these two change prices and joints only, and no configuration changes them in passing
        "cached_from": 1,
        "short_ids": True,
        "repairs": (Repair("temperature"),),
    },
}
"""Another value of each field that can change the answer."""

IGNORED = {
    ChatRequest: {
        "model": "alias",  # who answers to it counts
        "stream": False,
        "keep_alive_s": 1.0,
        "target": TARGET,  # set behind the cache
        "progress": print,
        "key": 1,
        "cache_key": "of the client",  # where the provider keeps the prompt
        "reuse": "renew",
        "record": CallRecord(request_id="1"),
        "native": Native(
            "chat", {"x": 1}
        ),  # of those whom it concerns the cache makes it a part of who answers
    },
    EmbedRequest: {
        "model": "alias",
        "keep_alive_s": 1.0,
        "target": TARGET,
        "key": 1,
        "reuse": "renew",
        "record": CallRecord(request_id="1"),
        "native": Native("embed", {"x": 1}),
    },
    Message: {"cache": "1h"},  # what the prompt costs, not what is answered
    Tool: {"cache": "1h"},
}
"""Another value of each field that cannot."""

CHANGES = [(kind, name, value) for kind, table in COUNTS.items() for name, value in table.items()]
SAME = [(kind, name, value) for kind, table in IGNORED.items() for name, value in table.items()]


@pytest.mark.parametrize("kind", HELD, ids=lambda kind: kind.__name__)
def test_every_field_is_classified(kind):
    """Who adds one has to say whether it can change an answer."""
    assert {field.name for field in fields(kind)} == {*COUNTS[kind], *IGNORED.get(kind, ())}


@pytest.mark.parametrize(("kind", "name", "value"), CHANGES)
def test_what_can_change_the_answer_changes_the_key(kind, name, value):
    """And whatever it was, the question with it has a key."""
    one, key = HELD[kind]
    other = key(replace(one, **{name: value}))
    assert other is not None
    assert other != key(one)


@pytest.mark.parametrize(("kind", "name", "value"), SAME)
def test_what_cannot_change_it_does_not(kind, name, value):
    """So that who streams and who does not share an answer."""
    one, key = HELD[kind]
    assert key(replace(one, **{name: value})) == key(one)


def test_options_have_no_order_and_zero_is_zero():
    """One surface reads `0`, another one `0.0`, and each in the order of its client."""
    one = replace(CHAT, options={"temperature": 0, "top_p": 1.0, "stop": ["a"]})
    other = replace(CHAT, options={"stop": ["a"], "top_p": 1, "temperature": 0.0})
    assert of_chat(one) == of_chat(other)


@pytest.mark.parametrize("strange", [2**70, object(), "\ud800"])
def test_what_no_json_holds_has_no_key(strange):
    """It is a question like no other."""
    assert of_chat(replace(CHAT, options={"x": strange})) is None


def test_a_chat_is_no_embedding():
    """Even if both were empty."""
    assert of_chat(ChatRequest("m")) != embed_key(EmbedRequest("m", ()), WHO)


def test_a_large_question_is_known_by_its_texts_and_images():
    """Its key is computed beside the event loop."""
    half = "x" * 60_000
    assert not is_large(ChatRequest("m", (Message("user", half),)))
    assert is_large(ChatRequest("m", (Message("user", half), Message("user", half))))
    assert is_large(ChatRequest("m", (Message("user", half, images=(Image(half, "image/png"),)),)))
    assert is_large(EmbedRequest("m", (half, half)))
