"""What clients of OpenAI's dialect send, as the bridge understands it."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.catalog import ModelConfig, complete
from ollama_bridge.chat import Image, Infill, Message, Tool, ToolChoice
from ollama_bridge.errors import InvalidRequest, ModelNotFound
from ollama_bridge.events import ToolCall
from ollama_bridge.surfaces import openai
from ollama_bridge.surfaces.converter import ConverterError, error_type
from ollama_bridge.surfaces.openai_errors import error_body

PNG = "iVBORw0KGgo="
GIF = "R0lGODlhAQABAAAAACw="
USER = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
ABLE = ["completion", "tools", "vision", "thinking", "insert"]


def model(*capabilities):
    config = ModelConfig(name="m", backend="demo", capabilities=capabilities or ABLE)
    return complete(config, kind="demo")


def chat(**fields):
    return openai.decode_chat(json.dumps({"model": "m", "messages": USER, **fields}).encode())


def request(**fields):
    return chat(**fields).request(model())


def completion(**fields):
    return openai.decode_completion(json.dumps({"model": "m", "prompt": "Hi", **fields}).encode())


def messages(*sent):
    return list(chat(messages=list(sent)).messages)


def parts(*sent, role="user", **fields):
    return messages({"role": role, "content": list(sent), **fields})


def text(words, **fields):
    return {"type": "text", "text": words, **fields}


def picture(url=f"data:image/png;base64,{PNG}"):
    return {"type": "image_url", "image_url": {"url": url}}


def fault(decode, **fields):
    with pytest.raises(InvalidRequest) as caught:
        decode(**fields)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------ messages


def test_a_conversation_of_every_role():
    """System by two names, thoughts, calls, results by their ids, and who is unknown is the user."""
    call = {"id": "c1", "type": "function", "index": 0, "function": {"name": "f", "arguments": '{"a": [1]}'}}
    assert messages(
        {"role": "developer", "content": "Be brief."},
        {"role": "System", "content": "Be kind."},
        {"role": "user", "name": "Ann", "content": "Hi"},
        {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
        {"role": "tool", "name": "g", "content": None},
        {"role": "ipython", "content": "x"},
    ) == [
        Message("system", "Be brief."),
        Message("system", "Be kind."),
        Message("user", "Hi"),
        Message("assistant", thinking="hm", tool_calls=(ToolCall("c1", "f", {"a": [1]}),)),
        Message("tool", "r", tool_call_id="c1", tool_name="f"),
        Message("tool", tool_name="g"),
        Message("user", "x"),
    ]


def test_what_there_was_before_tools():
    """Calls and results of `functions` in a history are calls and results."""
    assert messages(
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "r"},
    ) == [Message("assistant", tool_calls=(ToolCall("", "f", {}),)), Message("tool", "r", tool_name="f")]


def test_a_text_stays_with_its_images():
    """In either order; several texts are lines."""
    image = Image(PNG, "image/png")
    assert parts(text("a"), text("b"), picture(), picture()) == [
        Message("user", "a\nb", images=(image, image))
    ]
    assert parts(picture(), text("a")) == [Message("user", "a", images=(image,))]
    assert parts(text("r"), picture(), text("s"), role="tool", tool_call_id="c") == [
        Message("tool", "r\ns", images=(image,), tool_call_id="c")
    ]


def test_labelled_images_keep_their_labels():
    """Texts and images in turn become as many messages as it takes."""
    one, two = Image(PNG, "image/png"), Image(GIF, "image/gif")
    sent = (text("first"), picture(), text("second"), picture(f"data:image/gif;base64,{GIF}"))
    assert parts(*sent) == [
        Message("user", "first", images=(one,)),
        Message("user", "second", images=(two,)),
    ]


@pytest.mark.parametrize(
    ("url", "media_type"),
    [
        (f"data:image/png;base64,{PNG}", "image/png"),
        (f"DATA:IMAGE/PNG;BASE64,{PNG}", "image/png"),
        (f"data:image/jpg;charset=x;base64,{PNG}", "image/png"),
        (f"data:;base64,{PNG}", "image/png"),
        ("data:image/webp;base64,AAAA", "application/octet-stream"),
        (f"data:image/gif;base64,{GIF}", "image/gif"),
    ],
)
def test_images_are_data_urls(url, media_type):
    """In any case and of any kind that is an image; also as a plain string."""
    (message,) = parts(picture(url))
    assert [image.media_type for image in message.images] == [media_type]
    assert parts({"type": "image_url", "image_url": url}) == [message]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (picture("https://x/y.png"), "image URLs are not currently supported, please use base64 encoded data instead"),
        (picture("HTTP://x/y.png"), "image URLs are not currently supported, please use base64 encoded data instead"),
        (picture("data:image/png;base64,!!"), "invalid image input"),
        (picture("data:image/png;base64,"), "invalid image input"),
        (picture("data:text/plain;base64,AAAA"), "invalid image input"),
        (picture("data:image/png,AAAA"), "invalid image input"),
        (picture("iVBO"), "invalid image input"),
        ({"type": "image_url"}, "invalid message format"),
        ({"type": "text"}, "invalid message format"),
        ({"type": "text", "text": 5}, "invalid message format"),
        ({"type": "zzz"}, "invalid message format"),
        ("words", "invalid message format"),
        (None, "invalid message format"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "audio inputs are not currently supported"),
        ({"type": "input_audio", "input_audio": {"data": "!!"}}, "invalid input_audio base64 data: illegal base64 data at input byte 0"),
        ({"type": "input_audio", "input_audio": {"data": 5}}, "invalid message format"),
        ({"type": "file", "file": {"file_id": "x"}}, "file inputs are not currently supported"),
    ],
)  # fmt: skip
def test_parts_that_are_refused(part, words):
    """Each says why."""
    assert fault(chat, messages=[{"role": "user", "content": [part]}]) == words


@pytest.mark.parametrize(
    ("content", "name"),
    [(None, "<nil>"), (5, "float64"), (True, "bool"), ({"text": "x"}, "map[string]interface {}")],
)
def test_content_that_is_none(content, name):
    """In Go's words."""
    sent = [{"role": "user", "content": content}]
    assert fault(chat, messages=sent) == f"invalid message content type: {name}"


def test_an_assistant_may_have_said_nothing_but_no():
    """A refusal is its text; no content and no call is an empty message."""
    assert messages({"role": "assistant", "content": None, "refusal": "No."}) == [Message("assistant", "No.")]
    assert parts({"type": "refusal", "refusal": "No."}, role="assistant") == [Message("assistant", "No.")]
    assert messages({"role": "assistant"}) == [Message("assistant")]


@pytest.mark.parametrize(
    ("arguments", "read"),
    [('{"a": 1}', {"a": 1}), ("{}", {}), ("", {}), (" null ", {}), (None, {}), ({"a": 1}, {"a": 1}),
     ('{"a": "\\ud83d"}', {"a": "\ufffd"})],
)  # fmt: skip
def test_arguments_of_calls(arguments, read):
    """JSON in a string; nothing is none, an object is taken as one, and half a surrogate pair harms nobody."""
    call = {"function": {"name": "f", "arguments": arguments}}
    (message,) = messages({"role": "assistant", "tool_calls": [call]})
    assert message.tool_calls[0].arguments == read


@pytest.mark.parametrize(
    "arguments", ["notjson", '{"a": ', '{"a": 1', "[1]", "5", '"x"', "{}{}", "{},{}", 5, [1], True]
)
def test_arguments_that_are_cut_off_or_no_object(arguments):
    """The contract's words."""
    call = {"id": "a", "function": {"name": "f", "arguments": arguments}}
    sent = [{"role": "assistant", "tool_calls": [call]}]
    assert fault(chat, messages=sent) == "invalid tool call arguments"


# --------------------------------------------------------------------------------------- cache_control


def test_marks_of_messages_parts_and_tools():
    """What is cached ends with what is marked: the rest of a user's message is one of its own."""
    brief, hour = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
    assert messages(
        {"role": "system", "content": [text("manual", cache_control=hour), text("date")]},
        {"role": "user", "content": "a", "cache_control": brief},
        {"role": "user", "content": [text("b"), text("c", cache_control=brief), text("d")]},
        {"role": "tool", "content": [text("r", cache_control=brief), text("s")]},
        {"role": "assistant", "content": "e", "cache_control": {"type": "other"}},
    ) == [
        Message("system", "manual", cache="1h"),
        Message("system", "date"),
        Message("user", "a", cache="5m"),
        Message("user", "b\nc", cache="5m"),
        Message("user", "d"),
        Message("tool", "r\ns", cache="5m"),
        Message("assistant", "e"),
    ]
    inner = {"function": {"name": "g", "cache_control": hour}}
    assert chat(tools=[{**TOOL, "cache_control": brief}, inner]).tools == (
        Tool("f", "d", {"type": "object"}, cache="5m"),
        Tool("g", cache="1h"),
    )


# ------------------------------------------------------------------------------------------------- options


def test_options_by_their_own_names():
    """The newer limit wins, one stop word is a list, and what is absent stays absent."""
    assert request().options == {}
    assert request(
        max_tokens=5, max_completion_tokens=7, stop="a", seed=1, temperature=0, top_p=0.5,
        frequency_penalty=0.25, presence_penalty=1, options={"num_ctx": 8192, "temperature": 2},
    ).options == {
        "num_ctx": 8192, "temperature": 0, "seed": 1, "top_p": 0.5, "frequency_penalty": 0.25,
        "presence_penalty": 1, "num_predict": 7, "stop": ["a"],
    }  # fmt: skip
    assert request(max_tokens=5, stop=["a", ""], max_completion_tokens=None).options == {
        "num_predict": 5,
        "stop": ["a"],
    }


def test_what_nobody_can_have_is_ignored_whatever_its_type():
    """As a real server does."""
    odd = request(
        user=5, logit_bias={"50256": -100}, store=True, metadata={"a": "b"}, service_tier="auto", n=1,
        parallel_tool_calls="yes", options=["x"], prediction={}, modalities=["text"], tools=[], functions=[],
        tool_choice="auto", stream_options={"include_usage": True},
    )  # fmt: skip
    assert odd == request()


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "xhigh"}, "max"),
        ({"reasoning_effort": "ultra"}, "max"),
        ({"reasoning": {"effort": "high"}, "reasoning_effort": "low"}, "high"),
        ({"reasoning": {}, "reasoning_effort": "low"}, None),
        ({"reasoning_effort": ""}, None),
    ],
)
def test_effort(fields, think):
    """`reasoning` wins over `reasoning_effort`, even when it is empty."""
    assert chat(**fields).think == think


def test_formats():
    """JSON of any kind, by a schema, and none."""
    schema = {"type": "object"}
    described = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    assert request(response_format={"type": "json_object"}).format == "json"
    assert request(response_format=described).format == schema
    assert request(response_format={"type": "text"}).format is None
    assert request(response_format={"type": "json_schema"}).format is None


def test_log_probabilities():
    """As in Ollama's own dialect; completions ask by a number alone."""
    asked = request(logprobs=True, top_logprobs=3)
    assert (asked.logprobs, asked.top_logprobs) == (True, 3)
    asked = completion(logprobs=2).request(model())
    assert (asked.logprobs, asked.top_logprobs) == (True, 2)
    assert not completion().request(model()).logprobs


@pytest.mark.parametrize(
    ("choice", "read", "left"),
    [
        ("auto", ToolChoice(), "fg"),
        ("none", ToolChoice("none"), "fg"),
        ("required", ToolChoice("required"), "fg"),
        ("any", ToolChoice("required"), "fg"),
        ({"type": "none"}, ToolChoice("none"), "fg"),
        ({"type": "function", "function": {"name": "g"}}, ToolChoice("tool", "g"), "fg"),
        ({"type": "function", "name": "g"}, ToolChoice("tool", "g"), "fg"),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}},
            ToolChoice("required"),
            "g",
        ),
        (None, None, "fg"),
        ("", None, "fg"),
    ],
)  # fmt: skip
def test_choices_of_tools(choice, read, left):
    """In every form; `allowed_tools` leaves only those."""
    call = chat(
        tools=[TOOL, {"function": {"name": "g"}}, {"type": "custom", "custom": {}}], tool_choice=choice
    )
    assert call.tool_choice == read
    assert "".join(tool.name for tool in call.tools) == left


@pytest.mark.parametrize("choice", ["f", {"type": "zzz"}, {"type": "function"}, 5, ["auto"],
                                    {"type": "allowed_tools", "allowed_tools": {}}])  # fmt: skip
def test_choices_that_are_none(choice):
    """The words name what there is."""
    assert fault(chat, tools=[TOOL], tool_choice=choice).startswith("invalid tool_choice: ")


def test_a_choice_of_an_unknown_tool():
    """It is named."""
    choice = {"type": "function", "function": {"name": "zz"}}
    assert (
        fault(chat, tools=[TOOL], tool_choice=choice)
        == 'tool_choice names "zz", which is not among the tools'
    )
    assert chat(tool_choice=choice).tool_choice is None


def test_a_thousand_tools():
    """All arrive."""
    tools = [{"function": {"name": f"t{number}"}} for number in range(1000)]
    assert len(request(tools=tools).tools) == 1000


# ------------------------------------------------------------------------------------------- completions


def test_a_prompt_is_the_users_message():
    """Also as an array's only item; with a suffix there is a gap to fill instead."""
    assert completion().request(model()).messages == (Message("user", "Hi"),)
    assert completion(prompt=["Hi"]) == completion()
    asked = completion(prompt="def f(", suffix="):").request(model())
    assert (asked.infill, asked.messages) == (Infill("def f(", "):"), ())
    assert completion(prompt="", suffix="x").request(model()).infill == Infill("", "x")
    assert completion(suffix="").request(model()).infill is None
    assert fault(lambda: completion(suffix="x").request(model("completion"))) == (
        "registry.ollama.ai/library/m:latest does not support insert"
    )


def test_no_prompt_loads():
    """And asks nothing."""
    assert completion(prompt=None).load
    assert not completion().load
    assert not completion(prompt="", suffix="x").load


def test_completions_of_no_model():
    """404, as in /api/generate; a chat's is 400."""
    with pytest.raises(ModelNotFound, match="model '' not found"):
        completion(model="").lookup_name()
    assert fault(lambda: chat(model="").lookup_name()) == "model is required"
    assert fault(lambda: completion(model="a b").lookup_name()) == "invalid model name"


# ------------------------------------------------------------------------------------------------- faults

LIST_OF_TWO = ["a", "b"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"messages": []}, "[] is too short - 'messages'"),
        ({"messages": None}, "[] is too short - 'messages'"),
        ({"messages": "hi"}, "json: cannot unmarshal string into Go struct field ChatCompletionRequest.messages of type []openai.Message"),
        ({"messages": [5]}, "json: cannot unmarshal number into Go struct field ChatCompletionRequest.messages of type openai.Message"),
        ({"messages": [{"role": 5}]}, "json: cannot unmarshal number into Go struct field Message.messages.role of type string"),
        ({"model": 5}, "json: cannot unmarshal number into Go struct field ChatCompletionRequest.model of type string"),
        ({"max_tokens": 1.5}, "json: cannot unmarshal number 1.5 into Go struct field ChatCompletionRequest.max_tokens of type int"),
        ({"temperature": "hot"}, "json: cannot unmarshal string into Go struct field ChatCompletionRequest.temperature of type float64"),
        ({"tools": {}}, "json: cannot unmarshal object into Go struct field ChatCompletionRequest.tools of type []api.Tool"),
        ({"stream_options": 5}, "json: cannot unmarshal number into Go struct field ChatCompletionRequest.stream_options of type openai.StreamOptions"),
        ({"stop": 5}, "invalid type for 'stop' field: it is a string, or an array of strings"),
        ({"stop": ["a", 5]}, "invalid type for 'stop' field: it is a string, or an array of strings"),
        ({"n": 3}, "n must be 1: there is one answer to a request"),
        ({"functions": [{"name": "f"}]}, "functions are not supported: send them as tools"),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"top_logprobs": -1}, "top_logprobs must be between 0 and 20"),
        ({"reasoning_effort": "zz"}, 'invalid reasoning value: "zz" (must be "minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none")'),
    ],
)  # fmt: skip
def test_faults_of_a_chat(fields, words):
    """In Ollama's words, where it has any."""
    assert fault(chat, **fields) == words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": LIST_OF_TWO}, "json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string"),
        ({"prompt": [5]}, "json: cannot unmarshal number into Go struct field CompletionRequest.prompt of type string"),
        ({"prompt": [None]}, "json: cannot unmarshal null into Go struct field CompletionRequest.prompt of type string"),
        ({"temperature": "x"}, "json: cannot unmarshal string into Go struct field CompletionRequest.temperature of type float32"),
        ({"n": 2}, "n must be 1: there is one answer to a request"),
        ({"best_of": 2}, "best_of must be 1: there is one answer to a request"),
        ({"logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"logprobs": True}, "json: cannot unmarshal bool into Go struct field CompletionRequest.logprobs of type int"),
    ],
)  # fmt: skip
def test_faults_of_a_completion(fields, words):
    """In Ollama's words, where it has any."""
    assert fault(completion, **fields) == words


def test_a_number_that_is_too_large():
    """It is shown as it was written."""
    body = b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":1e999}'
    assert fault(lambda: openai.decode_chat(body)) == (
        "json: cannot unmarshal number 1e999 into Go struct field ChatCompletionRequest.temperature of type float64"
    )


@pytest.mark.parametrize("nested", ["tools", "response_format", "arguments", "options"])
def test_what_is_nested_without_end(nested):
    """Nothing that could not be sent on is taken."""
    deep = {"a": 1}
    for _ in range(300):
        deep = {"a": deep}
    fields = {
        "tools": {"tools": [{"function": {"name": "f", "parameters": deep}}]},
        "response_format": {"response_format": {"type": "json_schema", "json_schema": {"schema": deep}}},
        "arguments": {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "f", "arguments": json.dumps(deep)}}],
                }
            ]
        },
        "options": {"options": deep},
    }
    assert "nested too deeply" in fault(chat, **fields[nested])


def test_abilities_are_checked_in_ollamas_order():
    """Thinking, answering at all, tools."""
    call = chat(tools=[TOOL], reasoning_effort="high")
    assert fault(lambda: call.request(model("embedding"))) == '"m" does not support thinking'
    assert fault(lambda: chat().request(model("embedding"))) == '"m" does not support chat'
    assert fault(lambda: completion().request(model("embedding"))) == '"m" does not support generate'
    assert fault(lambda: call.request(model("completion", "thinking"))) == (
        "registry.ollama.ai/library/m:latest does not support tools"
    )


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (404, "not_found_error"), (401, "api_error"), (500, "api_error")]
)  # fmt: skip
def test_the_envelope(status, kind):
    """The type follows the status; who found the error shows in charset and line end."""
    native, converter = InvalidRequest("a < b", status=status), ConverterError("a < b", status=status)
    envelope = b'{"error":{"message":"a \\u003c b","type":"%b","param":null,"code":null}}' % kind.encode()
    assert error_body(converter) == envelope
    assert error_body(native) == envelope + b"\n"
    assert error_type(converter, stream=True) == "application/json; charset=utf-8"
    assert error_type(native, stream=True) == error_type(native, stream=False) == "application/json"


# --------------------------------------------------------------------------------------------- properties

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "model messages stream stream_options max_tokens max_completion_tokens seed stop temperature top_p n tools "
    "tool_choice parallel_tool_calls functions reasoning reasoning_effort response_format logprobs options "
    "top_logprobs prompt suffix echo best_of _debug_render_only"
).split()
message = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["system", "user", "assistant", "tool", "function", "x"]) | anything,
        "content": st.text()
        | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": st.text()}))
        | anything,
        "tool_calls": st.lists(st.fixed_dictionaries({"function": anything})) | anything,
        "function_call": anything,
        "cache_control": anything,
        "name": anything,
        "refusal": anything,
    },
)
bodies = st.dictionaries(st.sampled_from(FIELDS), anything) | st.builds(
    lambda sent, rest: {**rest, "messages": sent},
    st.lists(message, min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(FIELDS), anything, max_size=2),
)


@pytest.mark.parametrize("decode", [openai.decode_chat, openai.decode_completion])
@given(body=bodies | anything)
def test_decoding_raises_nothing_but_invalid_request(decode, body):
    """Whatever a client sends; and what was understood can be asked of a model that can do everything."""
    with suppress(InvalidRequest):
        decode(json.dumps(body).encode()).request(model())


@given(
    st.lists(
        st.tuples(st.sampled_from(["system", "user", "tool", "assistant"]), st.lists(st.text(), max_size=4))
    )
)
def test_no_text_is_lost(sent):
    """However it is cut into parts, and whoever said it, in its order."""
    conversation = [{"role": role, "content": [text(one) for one in said]} for role, said in sent]
    found = messages({"role": "user", "content": ""}, *conversation)[1:]
    assert [(one.role, one.content) for one in found] == [(role, "\n".join(said)) for role, said in sent]


def test_nothing_said_shows_in_a_repr():
    """Calls may be logged by mistake."""
    secret = "The secret"
    call = chat(messages=[{"role": "user", "content": secret}], tools=[TOOL], options={"stop": [secret]})
    assert secret not in repr(call)
    assert secret not in repr(completion(prompt=secret, suffix=secret))
