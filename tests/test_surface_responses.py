"""What POST /v1/responses asks: items become a conversation, tools become functions, and nothing crashes."""

import json

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from offered import offer
from ollama_bridge.chat import Image, Message, Tool, ToolChoice
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.events import ToolCall
from ollama_bridge.surfaces.converter import ConverterError
from ollama_bridge.surfaces.responses_decode import decode_responses
from ollama_bridge.surfaces.responses_tools import Form

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}}
USER = {"role": "user", "content": "hi"}
TURN = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}


def decode(**sent):
    return decode_responses(json.dumps({"model": "m", **sent}).encode())


def said(*items, **more):
    return decode(input=list(items), **more).messages


def model(*capabilities):
    return offer("m", ("completion", *capabilities))


# ------------------------------------------------------------------------------------------- the conversation


def test_a_string_is_what_the_user_says():
    assert decode(input="hi", instructions="Be brief.").messages == (
        Message("system", "Be brief."),
        Message("user", "hi"),
    )


@pytest.mark.parametrize("empty", ["", [], None])
def test_nothing_asked_is_a_load(empty):
    """Instructions alone are no question."""
    assert decode(input=empty, instructions="Be brief.").messages == ()


@pytest.mark.parametrize(
    ("role", "ours"),
    [("developer", "system"), ("System", "system"), ("assistant", "assistant"), ("x", "user")],
)
def test_roles(role, ours):
    (message,) = said({"role": role, "content": [{"type": "input_text", "text": "hi"}]})
    assert message == Message(ours, "hi")


def test_parts_of_a_message_are_joined_and_images_stay_beside_their_text():
    """Each image follows the text that it followed."""
    image = {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{PNG}"}
    text = [{"type": "input_text", "text": text} for text in ("a", "b", "c")]
    picture = (Image(PNG, "image/png"),)
    assert said({"role": "user", "content": [*text[:2], image, text[2], image]}) == (
        Message("user", "a\nb", images=picture),
        Message("user", "c", images=picture),
    )


def test_a_turn_of_the_assistant_is_one_message():
    """Thinking, text and calls of one reply belong together, whatever their order; results follow."""
    messages = said(
        USER,
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Let me see. "}],
        },
        TURN,
        {"role": "assistant", "content": "And again."},
        {**TURN, "call_id": "c2", "arguments": ""},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
        {"role": "assistant", "content": "Done."},
    )
    assert messages[1:] == (
        Message(
            "assistant",
            "Let me see. And again.",
            thinking="Hm.",
            tool_calls=(ToolCall("c1", "f", {"a": 1}), ToolCall("c2", "f", {})),
        ),
        Message("tool", "one", tool_call_id="c1"),
        Message("tool", "two", tool_call_id="c2"),
        Message("assistant", "Done."),
    )


def test_two_messages_in_a_row_are_two_turns():
    assert [message.content for message in said(*2 * [{"role": "assistant", "content": "a"}])] == ["a", "a"]


@pytest.mark.parametrize(
    ("item", "thought"),
    [
        ({"summary": [{"text": "a"}, {"text": "b"}], "encrypted_content": "x"}, "a\n\nb"),
        ({"summary": [], "content": [{"type": "reasoning_text", "text": "a"}]}, "a"),
        (
            {"summary": [], "encrypted_content": "plain, as a real server writes it"},
            "plain, as a real server writes it",
        ),
        ({"summary": [], "encrypted_content": "gAAAAABsealed"}, ""),
        ({"summary": "odd", "content": [5, {"text": 5}]}, ""),
        ({}, ""),
    ],
)
def test_thinking_comes_back_from_wherever_it_is(item, thought):
    """What only OpenAI can read is not taken for thinking."""
    (message,) = said({"type": "reasoning", "id": "rs", **item})
    assert (message.role, message.thinking) == ("assistant", thought)


def test_results_of_tools_may_be_images_or_objects():
    output = [
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
    ]
    assert said(
        {"type": "function_call_output", "call_id": "a", "output": output},
        {"type": "function_call_output", "call_id": "b", "output": {"n": 1}},
        {"type": "function_call_output", "call_id": "c"},
    ) == (
        Message("tool", "look", images=(Image(PNG, "image/png"),), tool_call_id="a"),
        Message("tool", '{"n":1}', tool_call_id="b"),
        Message("tool", "", tool_call_id="c"),
    )


def test_calls_that_are_no_functions_become_some():
    """Codex's custom tools and local shell; what OpenAI's own tools did is passed over."""
    messages = said(
        {"type": "custom_tool_call", "call_id": "a", "name": "apply_patch", "input": "*** Begin"},
        {"type": "function_call", "call_id": "b", "namespace": "crm", "name": "find", "arguments": "{}"},
        {
            "type": "local_shell_call",
            "id": "lsh",
            "call_id": "c",
            "action": {"type": "exec", "command": ["ls"]},
        },
        {"type": "web_search_call", "id": "ws", "status": "completed"},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "ok"},
        {"type": "local_shell_call_output", "id": "c", "output": "x"},
    )
    assert messages[0].tool_calls == (
        ToolCall("a", "apply_patch", {"input": "*** Begin"}),
        ToolCall("b", "crm__find", {}),
        ToolCall("c", "local_shell", {"command": ["ls"]}),
    )
    assert messages[1:] == (Message("tool", "ok", tool_call_id="a"), Message("tool", "x", tool_call_id="c"))


# ------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"input": True}, "input must be a string or array: json: cannot unmarshal bool into Go value of type []json.RawMessage"),
        ({"input": {}}, "input must be a string or array: json: cannot unmarshal object into Go value of type []json.RawMessage"),
        ({"input": [USER, None]}, "input[1]: input item missing required 'type' field"),
        ({"input": [5]}, "input[0]: json: cannot unmarshal number into Go value of type openai.ResponsesInputItem"),
        ({"input": [{"role": 5}]}, "input[0]: json: cannot unmarshal number into Go struct field ResponsesInputItem.role of type string"),
        ({"input": [{"role": "user", "content": ["x"]}]}, "input[0]: content[0]: it must be an object"),
        ({"input": [{"role": "user", "content": [{}]}]}, "input[0]: content[0]: unknown content type: "),
        ({"input": [{"type": "function_call_output", "output": [{"type": "zz"}]}]}, "input[0]: output[0]: unknown content type: zz"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]: item_reference: no item is stored here, send the item itself (store: false)"),
        ({"input": [{**TURN, "arguments": "[]"}]}, "failed to parse function call arguments: json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ({"input": [{**TURN, "arguments": '{"a":'}]}, "failed to parse function call arguments: unexpected EOF"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 5}]}]}, "invalid message format"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "invalid image input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png"}]}]}, "image URLs are not currently supported, please use base64 encoded data instead"),
        ({"input": [{"type": "function_call_output", "output": [{"type": "input_file"}]}]}, "file inputs are not currently supported"),
        ({"previous_response_id": "resp_1"}, "previous_response_id: nothing is stored here, send the whole conversation as input"),
        ({"conversation": {"id": "c"}}, "conversation: nothing is stored here, send the whole conversation as input"),
        ({"prompt": {"id": "p"}}, "prompt: nothing is stored here, send its text as instructions"),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema is required, and must be a JSON Schema object"),
        ({"text": {"format": {"type": "xml"}}}, 'text.format: unknown type "xml"'),
        ({"tools": [{"type": "web_search"}]}, '"web_search" tools do not run here; offer functions'),
        ({"tools": [WEATHER], "tool_choice": "zz"}, "tool_choice: invalid value \"zz\": it must be 'none', 'auto' or 'required'"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "f"}}, 'tool_choice: there is no tool "f"'),
        ({"tools": [WEATHER], "tool_choice": {"type": "file_search"}}, 'tool_choice: "file_search" tools do not run here'),
        ({"temperature": "hot"}, "json: cannot unmarshal string into Go struct field ResponsesRequest.temperature of type float64"),
        ({"metadata": {"a": 10**400}}, "format, options, tools or tool_calls are nested too deeply or hold a number that is too large"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(sent, words):
    """400, in Ollama's words where it has any."""
    with pytest.raises(ConverterError) as wrong:
        decode(**sent)
    assert str(wrong.value) == words
    assert wrong.value.status == 400


def nested(levels):
    value = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "sent",
    [
        {"tools": [{**WEATHER, "parameters": nested(300)}]},
        {"text": {"format": {"type": "json_schema", "schema": nested(300)}}},
        {"input": [{**TURN, "arguments": json.dumps(nested(300))}]},
        {"input": [{"type": "local_shell_call", "action": nested(300)}]},
        {"input": [{"type": "function_call_output", "output": nested(300)}]},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "get_weather", "x": nested(300)}},
        {"tools": [{"type": "custom", "name": "c", "format": nested(300)}]},
    ],
)
def test_what_is_nested_too_deeply_for_a_provider_is_refused(sent):
    with pytest.raises(ConverterError, match="nested too deeply"):
        decode(**sent)


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KINDS = [
    *"message reasoning function_call function_call_output custom_tool_call local_shell_call".split(),
    *"local_shell_call_output web_search_call function custom namespace web_search zzz".split(),
    *"input_text output_text refusal input_image input_file summary_text allowed_tools json_schema".split(),
]
odd = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(KINDS) | json_value,
        "role": st.sampled_from(["user", "assistant", "developer"]) | json_value,
        **dict.fromkeys(
            "content output summary arguments name text image_url action input tools".split(), json_value
        ),
    },
)
odder = st.fixed_dictionaries(
    {}, optional={**dict.fromkeys("content output summary tools format".split(), st.lists(odd, max_size=3))}
)
items = st.lists(odd | st.tuples(odd, odder).map(lambda two: two[0] | two[1]) | json_value, max_size=4)


@settings(deadline=None)  # the machine may be busy
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "input": items | json_value,
            "tools": items | json_value,
            "tool_choice": odd | st.sampled_from(["auto", "none", "required"]) | json_value,
            "text": st.fixed_dictionaries({"format": odd}) | json_value,
            "reasoning": json_value,
            "include": json_value,
            "metadata": json_value,
            "stream": json_value,
            "instructions": st.text(max_size=3),
        },
    )
)
def test_whatever_is_sent_is_a_call_or_an_invalid_request(sent):
    """No body makes the decoder stumble."""
    try:
        call = decode(**sent)
        call.request(model("tools", "thinking"))
    except InvalidRequest:
        event("refused")


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
told = st.one_of(
    st.tuples(st.sampled_from(["user", "developer", "assistant"]), texts).map(
        lambda one: {"role": one[0], "content": one[1]}
    ),
    texts.map(lambda text: {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}),
    texts.map(lambda text: {**TURN, "arguments": json.dumps({"a": text})}),
    texts.map(lambda text: {"type": "function_call_output", "call_id": "c", "output": text}),
)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(told, max_size=8))
def test_nothing_that_was_said_is_lost(history):
    """Every text of a history is in the conversation, in its order within its kind."""
    found, sent = {}, {}
    for message in said(*history):
        found.setdefault(message.role, []).append(message.content)
        found.setdefault("thinking", []).append(message.thinking)
        found.setdefault("calls", []).extend(call.arguments["a"] for call in message.tool_calls)
    for item in history:
        match item:
            case {"role": role, "content": text}:
                sent.setdefault("system" if role == "developer" else role, []).append(text)
            case {"summary": [{"text": text}]}:
                sent.setdefault("thinking", []).append(text)
            case {"arguments": arguments}:
                sent.setdefault("calls", []).append(json.loads(arguments)["a"])
            case {"output": text}:
                sent.setdefault("tool", []).append(text)
    assert all("".join(found[kind]) == "".join(texts) for kind, texts in sent.items())


# --------------------------------------------------------------------------------------------- tools, options


def test_functions_are_taken_and_hosted_tools_are_not():
    """Codex sends `web_search` with its functions: what remains is offered, and what is dropped is told."""
    box = decode(tools=[WEATHER, {"type": "web_search"}, {"type": "function"}]).toolbox
    assert box.tools == (Tool("get_weather", "", {"type": "object"}),)
    assert box.dropped == ("web_search", "function")
    assert [tool["name"] for tool in box.echo] == ["get_weather"]
    assert box.forms == {}


def test_a_custom_tool_becomes_a_function_with_one_text():
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    box = decode(
        tools=[{"type": "custom", "name": "apply_patch", "description": "d", "format": grammar}]
    ).toolbox
    (tool,) = box.tools
    assert (tool.name, tool.description) == ("apply_patch", "d")
    assert tool.parameters["required"] == ["input"]
    assert "lark" in tool.parameters["properties"]["input"]["description"]
    assert "start: x" in tool.parameters["properties"]["input"]["description"]
    assert box.forms == {"apply_patch": Form("apply_patch", custom=True)}


def test_tools_of_a_namespace_have_longer_names():
    inner = [{"type": "function", "name": "find"}, {"type": "custom", "name": "note"}, {"type": "web_search"}]
    namespaces = [{"type": "namespace", "name": name, "tools": inner} for name in ("crm", "mcp__x__")]
    box = decode(tools=namespaces).toolbox
    assert [tool.name for tool in box.tools] == ["crm__find", "crm__note", "mcp__x__find", "mcp__x__note"]
    assert box.forms["mcp__x__note"] == Form("note", "mcp__x__", custom=True)
    assert [len(tool["tools"]) for tool in box.echo] == [2, 2]


@pytest.mark.parametrize(
    ("choice", "ours", "left"),
    [
        (None, None, 2),
        ("auto", ToolChoice(), 2),
        ("none", ToolChoice("none"), 2),
        ("required", ToolChoice("required"), 2),
        ({"type": "function", "name": "get_weather"}, ToolChoice("tool", "get_weather"), 2),
        ({"type": "custom", "name": "note"}, ToolChoice("tool", "crm__note"), 2),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "note"}]}, ToolChoice("required"), 1),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}, None, 0),
    ],
)  # fmt: skip
def test_tool_choice(choice, ours, left):
    namespace = {"type": "namespace", "name": "crm", "tools": [{"type": "custom", "name": "note"}]}
    request = decode(input="hi", tools=[WEATHER, namespace], tool_choice=choice).request(model("tools"))
    assert request.tool_choice == ours
    assert len(request.tools) == left


def test_a_choice_among_no_tools_is_none():
    """As a real server, which ignores it."""
    assert decode(input="hi", tool_choice="required").request(model()).tool_choice is None


@pytest.mark.parametrize(
    ("sent", "ours"),
    [
        ({"max_output_tokens": 4}, {"options": {"num_predict": 4}}),
        ({"temperature": 0, "top_p": 0.5}, {"options": {"temperature": 0, "top_p": 0.5}}),
        ({}, {"options": {}, "think": None, "format": None, "parallel_tool_calls": None}),
        ({"reasoning": {"effort": "minimal"}}, {"think": "low"}),
        ({"reasoning": {"effort": "xhigh"}}, {"think": "max"}),
        ({"reasoning": {"effort": "none"}}, {"think": False}),
        ({"reasoning": {"summary": "auto"}}, {"think": None}),
        ({"text": {"format": {"type": "json_object"}}}, {"format": "json"}),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": 1}}}}, {"format": {"a": 1}}),
        ({"text": {"verbosity": "low"}}, {"format": None}),
        ({"parallel_tool_calls": False, "tools": [WEATHER]}, {"parallel_tool_calls": False}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": None}),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"include": ["reasoning.encrypted_content"]}, {"logprobs": False}),
        ({"stream": True}, {"stream": True}),
    ],
)  # fmt: skip
def test_what_else_is_asked(sent, ours):
    request = decode(input="hi", **sent).request(model("tools", "thinking"))
    assert {name: getattr(request, name) for name in ours} == ours


def test_a_model_that_cannot_is_not_asked():
    with pytest.raises(InvalidRequest, match="does not support tools"):
        decode(input="hi", tools=[WEATHER]).request(model())
    with pytest.raises(InvalidRequest, match='"m" does not support thinking'):
        decode(input="hi", reasoning={"effort": "high"}).request(model())


def test_repr_shows_nothing_of_the_conversation():
    assert "secret" not in repr(
        decode(input="secret", instructions="secret", tools=[{**WEATHER, "name": "secret"}])
    )
