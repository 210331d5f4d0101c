"""Which tools are to be called, and where a prompt cache ends, as each provider is told."""

from dataclasses import replace

import pytest
import structlog

from ollama_bridge.backends import (
    anthropic_cache,
    anthropic_request,
    google_params,
    ollama,
    openai_chat,
    responses,
)
from ollama_bridge.backends.dialect import OPENAI
from ollama_bridge.catalog import facts_for
from ollama_bridge.chat import ChatRequest, Message, Rules, Target, Tool, ToolChoice
from ollama_bridge.events import ToolCall

HELLO = (Message("user", "Hello"),)
TOOLS = (Tool("get.it"), Tool("other"))
RULES = Rules(thinking=frozenset({"adaptive", "disabled"}), efforts=("low", "high"), prefill=False)


def asking(mode=None, *, rules=RULES, **fields):
    choice = mode and ToolChoice(mode, "get.it" if mode == "tool" else "")
    target = Target("p", "x", 4096, rules=rules)
    return ChatRequest(
        "m", **{"messages": HELLO, "tools": TOOLS, "tool_choice": choice, "target": target} | fields
    )


def to_anthropic(request):
    return anthropic_request.prepare(request).body.get("tool_choice")


def to_chat(request):
    body = openai_chat.prepare(request, request.messages, OPENAI).body
    return body.get("tool_choice"), body.get("parallel_tool_calls")


def to_responses(request):
    body = responses.prepare(request, request.messages, OPENAI).body
    return body.get("tool_choice"), body.get("parallel_tool_calls")


def to_google(request):
    return google_params.build(request).body.get("toolConfig")


def to_ollama(request):
    return [tool["function"]["name"] for tool in ollama.to_body(request).get("tools", ())]


def dropped(told, request):
    """What the log says was dropped; some backends collect it for whoever sends."""
    if told is to_google:
        return google_params.build(request).dropped
    if told in {to_chat, to_responses}:
        api = openai_chat if told is to_chat else responses
        return api.prepare(request, request.messages, OPENAI).dropped
    with structlog.testing.capture_logs() as logs:
        told(request)
    return logs[0]["options"] if logs else []


@pytest.mark.parametrize(
    ("mode", "anthropic", "chat", "by_responses", "google", "offered"),
    [
        (None, None, None, None, None, ["get.it", "other"]),
        ("auto", None, None, None, None, ["get.it", "other"]),
        ("none", {"type": "none"}, "none", "none", {"mode": "NONE"}, []),
        ("required", {"type": "any"}, "required", "required", {"mode": "ANY"}, ["get.it", "other"]),
        (
            "tool",
            {"type": "tool", "name": "get_it"},
            {"type": "function", "function": {"name": "get_it"}},
            {"type": "function", "name": "get_it"},
            {"mode": "ANY", "allowedFunctionNames": ["get_it"]},
            ["get.it"],
        ),
    ],
)
def test_each_mode_in_each_providers_words(mode, anthropic, chat, by_responses, google, offered):
    """`auto` is what happens anyway and is not said; names are those that the tools have on the wire."""
    assert to_anthropic(asking(mode)) == anthropic
    assert to_chat(asking(mode)) == (chat, None)
    assert to_responses(asking(mode)) == (by_responses, None)
    assert to_google(asking(mode)) == (google and {"functionCallingConfig": google})
    assert to_ollama(asking(mode)) == offered
    for told in (to_anthropic, to_chat, to_responses, to_google):
        assert dropped(told, asking(mode)) == []
    assert dropped(to_ollama, asking(mode)) == (["tool_choice"] if mode in {"required", "tool"} else [])


@pytest.mark.parametrize("mode", ["required", "tool"])
@pytest.mark.parametrize("told", [to_anthropic, to_chat, to_responses, to_google])
def test_a_model_that_cannot_be_forced_is_asked_as_usual(told, mode):
    """The rest of the request stands, and the log says what was dropped."""
    request = asking(mode, rules=replace(RULES, forced_tools=False))
    assert told(request) == told(asking("auto"))
    assert dropped(told, request) == ["tool_choice"]


@pytest.mark.parametrize("mode", ["none", "required", "tool"])
def test_claude_is_not_forced_while_it_thinks(mode):
    """Thinking and a forced call together are a 400; `none` forces nothing."""
    assert to_anthropic(asking(mode, think="high")) == ({"type": "none"} if mode == "none" else None)
    assert to_anthropic(asking(mode, think=False)) is not None


@pytest.mark.parametrize(
    ("mode", "more", "thinking"),
    [
        ("required", {}, {"type": "disabled"}),
        ("tool", {}, {"type": "disabled"}),
        ("auto", {}, None),
        ("none", {}, None),
        ("required", {"tools": ()}, None),
        ("required", {"rules": replace(RULES, forced_tools=False)}, None),
        ("required", {"rules": replace(RULES, thinking=frozenset({"budget", "disabled"}))}, None),
    ],
)
def test_claude_is_kept_from_thinking_by_default_where_it_is_to_call(mode, more, thinking):
    """Who says nothing of thinking and forces a call gets the call: a model that thinks by itself is told not to."""
    assert anthropic_request.prepare(asking(mode, **more)).body.get("thinking") == thinking


@pytest.mark.parametrize(
    ("model", "forced"),
    [
        ("claude-opus-5-5", False),
        ("claude-sonnet-5-5", False),
        ("claude-fable-5-1", False),
        ("claude-haiku-5-5", True),
        ("claude-opus-4-8", True),
        ("claude-haiku-4-5", True),
    ],
)
def test_which_claudes_can_be_forced(model, forced):
    """Those that always think cannot."""
    assert facts_for("anthropic", model).rules.forced_tools is forced


def test_one_call_at_a_time():
    """Told where there is a word for it, and only when the client does not want what happens anyway."""
    one, many = asking(parallel_tool_calls=False), asking(parallel_tool_calls=True)
    assert to_anthropic(one) == {"type": "auto", "disable_parallel_tool_use": True}
    assert to_anthropic(replace(one, tool_choice=ToolChoice("none"))) == {"type": "none"}
    assert to_chat(one) == to_responses(one) == (None, False)
    assert to_chat(many) == to_responses(many) == (None, None)
    assert to_anthropic(many) is None
    for told in (to_google, to_ollama):
        assert dropped(told, one) == ["parallel_tool_calls"]
        assert dropped(told, many) == []


@pytest.mark.parametrize("told", [to_anthropic, to_chat, to_responses, to_google, to_ollama])
def test_without_tools_there_is_nothing_to_choose(told):
    """A choice among no tools is a 400 at the providers."""
    request = asking("required", tools=(), parallel_tool_calls=False)
    assert told(request) == told(asking(tools=()))
    assert dropped(told, request) == []


# ------------------------------------------------------------------------------------------- prompt caching


def marks(body):
    """Every block that is marked, in the order of the prompt."""
    said = [block for turn in body["messages"] for block in turn["content"]]
    blocks = [*body.get("tools", ()), *body.get("system", ()), *said]
    return [
        (one.get("text", one.get("name", one.get("type", ""))), one["cache_control"])
        for one in blocks
        if "cache_control" in one
    ]


def test_a_mark_stands_on_the_block_that_ends_what_is_marked():
    """Of a tool, the system's text, a message with several blocks, and a tool's result."""
    history = (
        Message("system", "Be brief."),
        Message("system", "The manual.", cache="1h"),
        Message("user", "Look."),
        Message("assistant", "I will.", tool_calls=(ToolCall("c1", "get.it", {}),), cache="5m"),
        Message("tool", "found", tool_call_id="c1", cache="5m"),
    )
    tools = (TOOLS[0], replace(TOOLS[1], cache="1h"))
    body = anthropic_request.prepare(asking(messages=history, tools=tools)).body
    brief, hour = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
    assert marks(body) == [("other", hour), ("The manual.", hour), ("get_it", brief), ("tool_result", brief)]
    assert body["system"][0] == {"type": "text", "text": "Be brief."}


def test_the_last_four_marks_win():
    """A fifth is a 400; what ends later caches more."""
    history = tuple(Message("user", f"{n}", cache="5m") for n in range(6))
    body = anthropic_request.prepare(asking(messages=history, tools=(Tool("t", cache="5m"),))).body
    assert [name for name, _ in marks(body)] == ["2", "3", "4", "5"]


def test_a_longer_life_does_not_follow_a_shorter_one():
    """That order is a 400."""
    history = (
        Message("user", "a", cache="1h"),
        Message("user", "b", cache="5m"),
        Message("user", "c", cache="1h"),
    )
    body = anthropic_request.prepare(asking(messages=history)).body
    assert [mark.get("ttl") for _, mark in marks(body)] == ["1h", None, None]


def test_a_marked_message_that_says_nothing_marks_nothing():
    """It is not sent at all."""
    history = (Message("user", "a"), Message("assistant", " ", cache="5m"), Message("user", "b"))
    assert marks(anthropic_request.prepare(asking(messages=history)).body) == []


def test_thinking_takes_no_mark():
    """What is cached then ends before it, or nowhere."""
    text, thinking = {"type": "text", "text": "a"}, {"type": "thinking", "thinking": "b"}
    anthropic_cache.mark([text, thinking], "5m")
    anthropic_cache.mark([thinking], "5m")
    assert "cache_control" in text
    assert "cache_control" not in thinking


@pytest.mark.parametrize(
    "written",
    [
        lambda request: openai_chat.prepare(request, request.messages, OPENAI).body,
        lambda request: responses.prepare(request, request.messages, OPENAI).body,
        lambda request: google_params.build(request).body,
        ollama.to_body,
    ],
)
def test_nobody_else_is_told(written):
    """The word is Anthropic's."""
    marked = asking(messages=(replace(HELLO[0], cache="1h"),), tools=(replace(TOOLS[0], cache="1h"),))
    assert written(marked) == written(asking(tools=TOOLS[:1]))
