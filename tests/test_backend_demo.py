"""The model that needs no key."""

import json
from contextlib import aclosing

import pytest

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.demo import DemoBackend, instance
from ollama_bridge.chat import ChatRequest, Image, Message, Tool, singly
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, ToolCall


async def ask(content="Hello there", **fields):
    messages = fields.pop("messages", (Message("user", content),))
    backend = DemoBackend(ProviderSettings(name="demo", kind="demo"))
    async with aclosing(singly(backend.chat(ChatRequest("demo:latest", messages, **fields)))) as events:
        return [event async for event in events]


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def test_it_echoes_the_question_and_says_how_to_get_a_real_model():
    """A person sees their own words come back, and what to do next."""
    image = Image("iVBORw0KGgo=", "image/png")
    events = await ask(messages=(Message("user", "Hello there", images=(image, image)),))
    text = text_of(events)
    assert "ollama-bridge" in text
    assert "You said: Hello there\n" in text
    assert ": 2." in text
    assert "ANTHROPIC_API_KEY" in text
    assert events[-1].reason == "stop"
    assert events[-1].usage.input_tokens == 2
    assert events[-1].usage.output_tokens == len(events) - 1 == len(text.split())


async def test_a_long_question_is_not_repeated_whole():
    text = text_of(await ask("x" * 201))
    assert "x" * 200 + "…" in text
    assert "x" * 201 not in text


async def test_it_says_the_same_every_time():
    assert await ask("Hi") == await ask("Hi")


async def test_thinking_only_when_asked_for():
    assert not any(isinstance(event, ThinkingDelta) for event in await ask())
    thought, *_, finish = await ask(think=True)
    assert isinstance(thought, ThinkingDelta)
    assert finish.usage.reasoning_tokens == len(thought.text.split())


TOOL = Tool(
    "get_weather",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
        "required": ["city", "days"],
    },
)


async def test_it_calls_a_tool_that_the_user_names():
    """The arguments satisfy the tool's schema, so that the client can run it."""
    call, finish = await ask("Please call get_weather.", tools=(TOOL,))
    assert call == ToolCall("call_demo", "get_weather", {"city": "demo", "days": 1})
    assert finish.reason == "tool_calls"


@pytest.mark.parametrize("content", ["What is the weather?", "forget_weather", ""])
async def test_it_calls_no_tool_that_the_user_does_not_name(content):
    assert not any(isinstance(event, ToolCall) for event in await ask(content, tools=(TOOL,)))


async def test_it_reports_a_tools_result():
    """The answer after a tool call is text, never the next call."""
    history = (
        Message("user", "call get_weather"),
        Message("assistant", tool_calls=(ToolCall("call_demo", "get_weather"),)),
        Message("tool", "11 degrees", tool_name="get_weather"),
    )
    assert "The tool get_weather answered: 11 degrees" in text_of(await ask(messages=history, tools=(TOOL,)))


async def test_the_token_limit_counts_words():
    whole = text_of(await ask())
    events = await ask(options={"num_predict": 3})
    assert len(events) == 4
    assert whole.startswith(text_of(events))
    assert events[-1].reason == "length"


@pytest.mark.parametrize("stop", ["ollama", ["nowhere", "ollama"]])
async def test_a_stop_word_ends_the_text_before_it(stop):
    events = await ask(options={"stop": stop})
    assert text_of(events) == "Hello! I am the demo model of "
    assert events[-1].reason == "stop"


async def test_any_json_is_an_object():
    assert isinstance(json.loads(text_of(await ask(format="json"))), dict)


PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (PERSON, {"name": "demo"}),
        ({"type": "object", "properties": {"a": {"type": "string"}}}, {}),
        ({"enum": ["red", "blue"]}, "red"),
        ({"const": 5}, 5),
        ({"type": "array", "items": PERSON, "minItems": 2}, [{"name": "demo"}] * 2),
        ({"type": ["boolean", "null"]}, True),
        ({"type": "number", "exclusiveMinimum": 0}, 0.5),
        ({"type": "integer", "minimum": 2, "maximum": 9}, 2),
        ({"type": "integer", "maximum": -1}, -1),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "string", "minLength": 6}, "demo.."),
        ({"type": "null"}, None),
        ({"anyOf": [{"type": "null"}, PERSON]}, None),
        ({"allOf": [PERSON, {"required": ["age"], "properties": {"age": {"type": "integer"}}}]}, {"name": "demo", "age": 0}),
        ({"$ref": "#/$defs/p", "$defs": {"p": PERSON}}, {"name": "demo"}),
        ({"$ref": "#/$defs/nowhere"}, None),
    ],
)  # fmt: skip
async def test_an_answer_by_schema_is_valid(schema, value):
    """What comes out as text is the smallest instance of the schema."""
    assert json.loads(text_of(await ask(format=schema))) == value


def test_a_schema_that_requires_itself_ends():
    """No finite instance exists; the demo must still answer."""
    schema = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert instance(schema)["next"]["next"] is not None


@pytest.mark.parametrize(
    "schema", [{"type": 5}, {"required": 7, "type": "object"}, {"$ref": 3}, {"allOf": []}]
)
def test_an_odd_schema_is_no_error(schema):
    assert instance(schema) == {}


async def test_every_reply_ends_in_one_finish():
    events = await ask("", messages=())
    assert [isinstance(event, Finish) for event in events].index(True) == len(events) - 1
