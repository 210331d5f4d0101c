"""What /v1/messages asks: errors in Ollama's words and order, and what is understood beyond the real server."""

import base64
import contextlib

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offered import ask, refusal
from ollama_bridge.chat import Image, Message, Tool, ToolChoice
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.events import ToolCall
from ollama_bridge.surfaces.anthropic_messages import decode_count_tokens, decode_messages
from ollama_bridge.surfaces.converter import ConverterError

USER = {"role": "user", "content": "hi"}
HI = {"model": "think", "max_tokens": 100, "messages": [USER]}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()
JPEG = base64.b64encode(b"\xff\xd8\xff" + bytes(8)).decode()
HOUR = {"type": "ephemeral", "ttl": "1h"}
CACHED = {"type": "ephemeral"}


def messages(**fields):
    return decode_messages(orjson.dumps({**HI, **fields}))


def said(*blocks, role="user"):
    return messages(messages=[{"role": role, "content": list(blocks)}]).messages


def text(words, **fields):
    return {"type": "text", "text": words, **fields}


def image(data=PNG, named="image/png"):
    return {"type": "image", "source": {"type": "base64", "media_type": named, "data": data}}


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "EOF"),
        (b" \n", "EOF"),
        (b"{", "unexpected EOF"),
        (b"{}", "model is required"),
        (b'{"model":""}', "model is required"),
        (b'{"model":"m"}', "max_tokens is required and must be positive"),
        (b'{"model":"m","max_tokens":0}', "max_tokens is required and must be positive"),
        (b'{"model":"m","max_tokens":-1,"messages":[]}', "max_tokens is required and must be positive"),
        (b'{"model":"m","max_tokens":1}', "messages is required"),
        (b'{"model":"m","max_tokens":1,"messages":[]}', "messages is required"),
        (b"[]", "json: cannot unmarshal array into Go value of type anthropic.MessagesRequest"),
    ],
)
def test_what_is_wrong_with_a_body_is_found_in_the_order_of_a_real_server(body, words):
    """JSON, then model, then max_tokens, then messages."""
    with pytest.raises(ConverterError) as caught:
        decode_messages(body)
    assert (caught.value.status, str(caught.value)) == (400, words)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"max_tokens": "9"}, "string into Go struct field MessagesRequest.max_tokens of type int"),
        ({"stream": "yes"}, "string into Go struct field MessagesRequest.stream of type bool"),
        ({"temperature": "hot"}, "string into Go struct field MessagesRequest.temperature of type float64"),
        (
            {"messages": "hi"},
            "string into Go struct field MessagesRequest.messages of type []anthropic.MessageParam",
        ),
        (
            {"messages": [{"role": "user", "content": 5}]},
            "number into Go struct field MessagesRequest.messages of type []anthropic.ContentBlock",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
            "number into Go struct field MessagesRequest.messages.text of type string",
        ),
        ({"tools": {}}, "object into Go struct field MessagesRequest.tools of type []anthropic.Tool"),
    ],
)
def test_a_wrong_type_is_told_in_gos_words(fields, place):
    """With the field's place, before anything is missed; the model is missing too."""
    body = orjson.dumps({**HI, "model": "", **fields})
    assert refusal(lambda: decode_messages(body)) == (400, f"json: cannot unmarshal {place}")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"type": "tool_use", "name": "f"}, "tool_use block missing required 'id' field"),
        ({"type": "tool_use", "id": "1"}, "tool_use block missing required 'name' field"),
        ({"type": "image"}, "invalid image source"),
        (
            {"type": "image", "source": {"type": "url", "url": "http://x/y.png"}},
            "invalid image source type: url. Only base64 images are supported.",
        ),
        (image("!!"), "invalid base64 image data: illegal base64 data at input byte 0"),
        (
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="},
            },
            "documents of source type base64 are not supported: send the document's text",
        ),
        ({"type": "document"}, "documents of source type none are not supported: send the document's text"),
    ],
)
def test_blocks_that_cannot_be_taken_are_named(block, words):
    """In an assistant's turn; also within a tool's result, as far as they may stand there."""
    assert refusal(lambda: said(block, role="assistant")) == (400, words)
    if block["type"] != "tool_use":
        assert refusal(lambda: said({"type": "tool_result", "content": [block]})) == (400, words)


@pytest.mark.parametrize(("schema", "what"), [([], "array"), ("x", "string"), (5, "number")])
def test_a_schema_that_is_no_object_is_named(schema, what):
    """With the tool's name."""
    assert refusal(lambda: messages(tools=[{"name": "x", "input_schema": schema}])) == (
        400,
        (
            f'invalid input_schema for tool "x": json: cannot unmarshal {what} into Go value of type '
            "api.ToolFunctionParameters"
        ),
    )


def test_arguments_that_no_provider_could_be_sent_are_refused():
    """Endless nesting ends here, and not in a traceback."""
    deep = b"[" * 300 + b"]" * 300
    call = b'{"type":"tool_use","id":"1","name":"f","input":{"a":%b}}' % deep
    body = b'{"model":"m","max_tokens":1,"messages":[{"role":"assistant","content":[%b]}]}' % call
    status, words = refusal(lambda: decode_messages(body))
    assert status == 400
    assert "nested too deeply" in words


def test_the_models_name_is_judged_after_the_body():
    """The native handler's words, and no converter's error: its body ends with a newline."""
    for name, words in (("a b", "invalid model name"), ("nope", "model 'nope' not found")):
        call = messages(model=name)
        with pytest.raises(Exception, match=words) as caught:
            ask(call)
        assert not isinstance(caught.value, ConverterError)


# --------------------------------------------------------------------------------------------- what is understood


def test_a_model_that_cannot_think_is_asked_without():
    """Claude Code always asks for it; a real server relaxes it on this surface alone."""
    thinking = {"type": "enabled", "budget_tokens": 2000}
    assert ask(messages(model="plain", thinking=thinking)).think is None
    assert ask(messages(model="think", thinking=thinking)).think == "low"


def test_a_model_without_tools_refuses_them():
    """In the words of the native handler."""
    call = messages(model="plain", tools=[{"name": "f", "input_schema": {}}])
    assert refusal(lambda: ask(call)) == (
        400,
        "registry.ollama.ai/library/plain:latest does not support tools",
    )


@pytest.mark.parametrize(
    ("thinking", "effort", "think"),
    [
        (None, None, None),
        ({"type": "adaptive"}, None, None),
        ({"type": "adaptive"}, "medium", "medium"),
        ({"type": "enabled"}, None, True),
        ({"type": "enabled", "budget_tokens": 1024}, None, "low"),
        ({"type": "enabled", "budget_tokens": 10000}, None, "medium"),
        ({"type": "enabled", "budget_tokens": 31999}, None, "high"),
        ({"type": "enabled", "budget_tokens": 31999}, "low", "low"),
        ({"type": "disabled"}, "high", False),
        (None, "xhigh", "high"),
        (None, " MAX ", "max"),
        (None, "enormous", None),
    ],
)
def test_how_hard_to_think(thinking, effort, think):
    """`adaptive` is no wish; an effort says more than a budget; unknown efforts are ignored."""
    assert messages(thinking=thinking, output_config={"effort": effort}).think == think


def test_options_have_ollamas_names_and_nothing_is_made_up():
    """Neither temperature nor top_p has a default on this surface."""
    assert messages().options == {"num_predict": 100}
    call = messages(temperature=0, top_p=0.5, top_k=3, stop_sequences=["a", "b"], metadata={"user_id": "u"})
    assert call.options == {
        "num_predict": 100,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "stop": ["a", "b"],
    }


def test_a_stream_only_if_asked_for():
    """The other way round than on the native surface."""
    assert [messages().stream, messages(stream=None).stream, messages(stream=True).stream] == [
        False,
        False,
        True,
    ]


def test_a_count_needs_no_limit_and_is_no_stream():
    """Otherwise it is the same request."""
    call = decode_count_tokens(orjson.dumps({"model": "m", "messages": [USER], "stream": True}))
    assert (call.messages, call.stream) == ((Message("user", "hi"),), False)
    assert refusal(lambda: decode_count_tokens(b'{"model":"m"}')) == (400, "messages is required")


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_a_schema_for_the_answer(field):
    """Under its name of today and that of the beta."""
    wanted = {"type": "json_schema", "schema": {"type": "object"}}
    sent = {"format": wanted} if field == "output_config" else wanted
    assert messages(**{field: sent}).format == {"type": "object"}


def test_system_prompts():
    """A text, or blocks with their cache marks; and in the middle of a conversation."""
    assert messages(system="be").messages[0] == Message("system", "be")
    call = messages(
        system=[text("a"), text("b", cache_control=CACHED), text(""), {"type": "other"}, 5],
        messages=[USER, {"role": "system", "content": "late"}, USER],
    )
    assert call.messages == (
        Message("system", "a"),
        Message("system", "b", cache="5m"),
        Message("user", "hi"),
        Message("system", "late"),
        Message("user", "hi"),
    )


def test_the_order_of_a_users_blocks_is_kept():
    """Each text is a message, an image goes with the text behind it."""
    one, two = Image(PNG, "image/png"), Image(JPEG, "image/jpeg")
    assert said(text("a"), image(), text("b"), image(JPEG), image()) == (
        Message("user", "a"),
        Message("user", "b", images=(one,)),
        Message("user", images=(two, one)),
    )


def test_an_image_is_what_its_bytes_say():
    """Else what the client says, if that is an image at all."""
    assert said(image(JPEG, "image/png"))[0].images[0].media_type == "image/jpeg"
    assert said(image("QUJD", "image/avif"))[0].images[0].media_type == "image/avif"
    assert said(image("QUJD", "text/html"))[0].images[0].media_type == "application/octet-stream"


def test_results_of_tools_come_first():
    """As messages of their own; text, images and documents in them are kept, an error is marked as one."""
    assert said(
        text("now"),
        {"type": "tool_result", "tool_use_id": "1", "content": "21 C", "cache_control": HOUR},
        {
            "type": "tool_result",
            "tool_use_id": "2",
            "content": [text("a"), image(), text("b"), {"type": "tool_reference"}, 5],
        },
        {"type": "tool_result", "tool_use_id": "3", "content": "no such file", "is_error": True},
        {"type": "tool_result", "tool_use_id": "4", "content": "<tool_use_error>x", "is_error": True},
        {"type": "tool_result", "tool_use_id": "5", "is_error": True},
        {"type": "tool_result"},
    ) == (
        Message("tool", "21 C", tool_call_id="1", cache="1h"),
        Message("tool", "a\nb", images=(Image(PNG, "image/png"),), tool_call_id="2"),
        Message("tool", "Error: no such file", tool_call_id="3"),
        Message("tool", "<tool_use_error>x", tool_call_id="4"),
        Message("tool", "Error", tool_call_id="5"),
        Message("tool"),
        Message("user", "now"),
    )


def test_an_assistants_turn_stays_whole():
    """Thinking, text and calls in one message, put together as they were told; signatures are not for us."""
    turn = [
        {"type": "thinking", "thinking": "Let me ", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "thinking", "thinking": "think."},
        text("Cal"),
        {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}},
        text("ling."),
        {"type": "tool_use", "id": "1", "name": "f", "cache_control": CACHED},
    ]
    assert said(*turn, role="assistant") == (
        Message(
            "assistant",
            "Calling.",
            thinking="Let me think.",
            tool_calls=(ToolCall("1", "f", {"a": 1}), ToolCall("1", "f", {})),
            cache="5m",
        ),
    )


def test_plain_documents_and_search_results_are_text():
    """With title and context."""
    plain = {"type": "text", "media_type": "text/plain", "data": "words"}
    assert said(
        {"type": "document", "source": plain, "title": "T", "context": "C"},
        {"type": "document", "source": {"type": "content", "content": [text("a"), image(), text("b")]}},
        {"type": "document", "source": {"type": "content", "content": "c"}},
        {"type": "search_result", "title": "S", "source": "http://s", "content": [text("found")]},
    ) == (
        Message("user", "T\nC\nwords"),
        Message("user", "a\nb", images=(Image(PNG, "image/png"),)),
        Message("user", "c"),
        Message("user", "S\nhttp://s\nfound"),
    )


def test_unknown_blocks_and_roles_do_no_harm():
    """Tomorrow's blocks are passed over; whoever speaks is a user; nothing at all is no message."""
    assert said({"type": "hologram", "source": 5, "content": {}}, text("hi"), {}) == (Message("user", "hi"),)
    assert said({"type": "hologram"}, role="assistant") == ()
    assert said(text("x"), role="Narrator") == (Message("user", "x"),)
    assert messages(messages=[None, {"role": "user"}, {"role": "user", "content": None}, USER]).messages == (
        Message("user", "hi"),
    )


def test_the_cache_mark_of_the_whole_request_is_at_its_end():
    """Unless a mark stands there already."""
    assert messages(cache_control=HOUR).messages[-1].cache == "1h"
    marked = [{"role": "user", "content": [text("hi", cache_control=CACHED)]}]
    assert messages(cache_control=HOUR, messages=marked).messages[-1].cache == "5m"
    assert messages(cache_control={"type": "eternal"}).messages[-1].cache == ""


# ------------------------------------------------------------------------------------------------------- tools


def test_tools_with_schema_and_cache_mark():
    """A client's own; one without a name cannot be called."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    call = messages(
        tools=[
            {"name": "f", "description": "d", "input_schema": schema, "cache_control": CACHED},
            {"type": "custom", "name": "g"},
            {"type": "custom"},
        ]
    )
    assert call.tools == (Tool("f", "d", schema, "5m"), Tool("g"))


def test_what_runs_at_the_client_is_described_and_what_runs_at_anthropic_is_left_out():
    """Any model can call a shell whose arguments it knows; nobody here searches the web."""
    call = messages(
        tools=[
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 9},
            {"type": "memory_20250818", "name": "memory"},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
            {"type": "computer_20250124", "name": "computer", "display_width_px": 9},
            {"type": "odd_20990101", "name": "odd", "input_schema": {"type": "object"}},
        ],
        tool_choice={"type": "tool", "name": "web_search"},
    )
    assert [tool.name for tool in call.tools] == ["bash", "str_replace_based_edit_tool", "memory", "odd"]
    assert "command" in call.tools[0].parameters["properties"]
    assert call.tools[1].parameters["required"] == ["command", "path"]
    assert call.tool_choice is None


@pytest.mark.parametrize(
    ("sent", "choice"),
    [
        (None, None),
        ({"type": "auto"}, ToolChoice("auto")),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "none"}, ToolChoice("none")),
        ({"type": "tool", "name": "f"}, ToolChoice("tool", "f")),
        ({"type": "tool", "name": "gone"}, None),
        ({"type": "perhaps"}, None),
    ],
)
def test_the_choice_of_a_tool(sent, choice):
    """What a real server ignores and agents rely on."""
    assert messages(tools=[{"name": "f"}], tool_choice=sent).tool_choice == choice


def test_one_tool_at_a_time():
    """Only where the client says so."""
    tools = [{"name": "f"}]
    one = messages(tools=tools, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert one.parallel_tool_calls is False
    many = messages(tools=tools, tool_choice={"type": "auto", "disable_parallel_tool_use": False})
    assert many.parallel_tool_calls is None


def test_a_thousand_tools():
    """All of them, in their order."""
    tools = [{"name": f"t{at}", "input_schema": {"type": "object"}} for at in range(1000)]
    assert [tool.name for tool in messages(tools=tools).tools] == [f"t{at}" for at in range(1000)]


def test_nothing_of_the_conversation_shows_in_a_repr():
    """It would in a log."""
    assert "hi" not in repr(messages(system="hi")).replace("think", "")


# --------------------------------------------------------------------------------------------------- properties

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = ["text", "image", "tool_use", "tool_result", "thinking", "document", "search_result", "odd"]
BLOCK = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional=dict.fromkeys(
        "text source id name input tool_use_id content is_error thinking title cache_control".split(),
        JSON | WORDS,
    ),
)


@settings(max_examples=150)
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(HI, JSON) | {"tools": st.lists(JSON), "system": JSON})
)
def test_any_json_is_a_call_or_an_invalid_request(fields):
    """Nothing else comes of a body."""
    with contextlib.suppress(InvalidRequest):
        decode_messages(orjson.dumps({**HI, **fields}))


@settings(max_examples=150)
@given(st.lists(BLOCK, max_size=4), st.sampled_from(["user", "assistant", "system"]))
def test_any_blocks_are_messages_or_an_invalid_request(blocks, role):
    """Nothing else comes of a message."""
    with contextlib.suppress(InvalidRequest):
        said(*blocks, role=role)


@given(st.lists(st.tuples(st.sampled_from(["text", "tool_result", "image"]), WORDS), min_size=1))
def test_no_text_is_lost(pieces):
    """Whatever a user's turn is made of."""
    blocks = {
        "text": text,
        "tool_result": lambda words: {"type": "tool_result", "tool_use_id": "1", "content": words},
        "image": lambda _: image(),
    }
    got = said(*(blocks[kind](words) for kind, words in pieces))
    results = [words for kind, words in pieces if kind == "tool_result"]
    told = [words for kind, words in pieces if kind == "text"]
    assert [message.content for message in got if message.role == "tool"] == results
    assert "".join(message.content for message in got if message.role == "user") == "".join(told)
    assert sum(len(message.images) for message in got) == [kind for kind, _ in pieces].count("image")
