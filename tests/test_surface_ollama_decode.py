"""What /api/chat, /api/generate and /api/show ask: errors in Ollama's words and order, and what is understood."""

import contextlib
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import blocks
from offered import ask, chat, find, generate, refusal
from ollama_bridge.chat import Image, Message, Tool
from ollama_bridge.errors import BridgeError, InvalidRequest, ModelNotFound
from ollama_bridge.events import ToolCall
from ollama_bridge.surfaces import ollama
from ollama_bridge.surfaces.ollama import decode_chat, decode_generate, decode_show, error_body
from shared import SHARED

DECODE = {"/api/chat": decode_chat, "/api/generate": decode_generate, "/api/show": decode_show}


def _unreachable(block):
    """Errors of a failing runner, and about cloud stubs, have no counterpart here."""
    words = ("ERR400", "FIRSTERR", "MIDERR", "cloudy:local")
    return block.cut or any(word in block.body.decode() for word in words)


GOLDEN_ERRORS = [
    block
    for name in ("t3", "t4", "t6")
    for block in blocks(name)
    if block.status != 200 and not _unreachable(block)
]


def _serve(block, seen):
    call = DECODE[block.path](block.body)
    seen.append(call)
    if not isinstance(call, ollama.ShowCall):
        return ask(call)
    try:
        return find(call.lookup_name())
    except ModelNotFound:
        raise call.not_found() from None


@pytest.mark.skipif(SHARED is None, reason="no golden replies beside the project")
def test_the_golden_errors_were_found():
    """The files are read: otherwise the test below would test nothing."""
    assert len(GOLDEN_ERRORS) > 60


@pytest.mark.parametrize("block", GOLDEN_ERRORS, ids=lambda block: block.body.decode()[:60])
def test_errors_are_byte_for_byte_those_of_a_real_server(block):
    """Status, body and content type of every recorded refusal."""
    seen = []
    with pytest.raises(BridgeError) as caught:
        _serve(block, seen)
    assert error_body(caught.value).decode() == block.reply
    assert caught.value.status == block.status
    stream = all(getattr(call, "stream", True) for call in seen)
    assert ollama.content_type_of_error(caught.value, stream=stream) == block.content_type


@pytest.mark.parametrize(
    ("decode", "body", "message"),
    [
        (decode_show, b'{"model":{}}', "object into Go struct field ShowRequest.model of type string"),
        (decode_chat, b'{"messages":[{"images":"x"}]}', "string into Go struct field ChatRequest.messages.images of type []api.ImageData"),
        (decode_chat, b'{"messages":[{"tool_calls":{}}]}', "object into Go struct field ChatRequest.messages.tool_calls of type []api.ToolCall"),
        (decode_chat, b'{"messages":[{"tool_calls":[{"function":{"name":5}}]}]}', "number into Go struct field ChatRequest.messages.tool_calls.function.name of type string"),
        (decode_chat, b'{"tools":[5]}', "number into Go struct field ChatRequest.tools of type api.Tool"),
        (decode_chat, b'{"tools":[{"function":{"parameters":[]}}]}', "array into Go struct field ToolFunction.tools.function.parameters of type api.ToolFunctionParameters"),
        (decode_chat, b'{"top_logprobs":1.5}', "number 1.5 into Go struct field ChatRequest.top_logprobs of type int"),
        (decode_chat, b'{"keep_alive":1e999}', "number 1e999 into Go struct field ChatRequest.keep_alive of type float64"),
        (decode_generate, b'{"raw":"yes"}', "string into Go struct field GenerateRequest.raw of type bool"),
    ],
)  # fmt: skip
def test_more_mismatches(decode, body, message):
    """Fields that the golden replies do not cover; the texts are Go's."""
    assert refusal(lambda: decode(body)) == (400, f"json: cannot unmarshal {message}")


@pytest.mark.parametrize("sent", [True, False, "low", "medium", "high", "max", None])
def test_think_reaches_a_thinking_model_as_it_was_said(sent):
    """Absent stays None: the model's own default then holds."""
    assert ask(chat(model="think", think=sent)).think == sent
    assert ask(generate(model="think", think=sent)).think == sent


@pytest.mark.parametrize("sent", [False, None])
def test_not_thinking_suits_every_model(sent):
    """`think: false` is no demand."""
    assert ask(chat(think=sent)).think == sent


def test_a_model_lacks_several_things():
    """Thinking is checked before chat itself, and chat before tools, as a real server does."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert refusal(lambda: ask(chat(model="embed", think="low", tools=tools))) == (
        400,
        '"embed" does not support thinking',
    )
    assert refusal(lambda: ask(chat(model="embed", tools=tools))) == (400, '"embed" does not support chat')
    assert refusal(lambda: ask(generate(model="EMBED", suffix="x"))) == (
        400,
        '"EMBED" does not support generate',
    )
    assert refusal(lambda: ask(chat(model="PLAIN", tools=tools, options={"seed": "x"}))) == (
        400,
        "registry.ollama.ai/library/plain:latest does not support tools",
    )
    assert refusal(lambda: ask(chat(options={"seed": "x"}, format="xml"))) == (
        500,
        'option "seed" must be of type integer',
    )


@pytest.mark.parametrize(
    ("decode", "fields", "load"),
    [
        (chat, {"messages": []}, "load"),
        (chat, {"messages": None}, "load"),
        (chat, {"messages": [], "keep_alive": -1}, "load"),
        (chat, {"messages": [], "keep_alive": 0}, "unload"),
        (chat, {"messages": [], "keep_alive": "0s"}, "unload"),
        (chat, {"keep_alive": 0}, None),
        (generate, {"prompt": ""}, "load"),
        (generate, {"prompt": None, "system": "s"}, "load"),
        (generate, {"prompt": "", "keep_alive": "0"}, "unload"),
        (generate, {"prompt": "", "keep_alive": 0.0001}, "load"),
        (generate, {"keep_alive": 0}, None),
    ],
)
def test_a_call_without_a_question_loads_or_unloads(decode, fields, load):
    """Nothing to answer: keep_alive 0 unloads, anything else loads."""
    call = decode(**fields)
    assert call.load == load
    assert bool(ask(call).messages) == (load is None)


def test_a_load_checks_abilities_and_options_and_an_unload_does_not():
    """A real server unloads before it looks at anything but the name."""
    demand = {"think": True, "options": {"seed": "x"}}
    assert refusal(lambda: ask(chat(messages=[], **demand)))[0] == 400
    assert refusal(lambda: ask(chat(messages=[], options={"seed": "x"})))[0] == 500
    assert refusal(lambda: ask(generate(prompt="", suffix="x")))[0] == 400
    assert refusal(lambda: ask(generate(prompt="", raw=True, system="x")))[0] == 400
    assert ask(chat(messages=[], keep_alive=0, **demand)).messages == ()
    assert ask(generate(prompt="", keep_alive=0, raw=True, system="x", suffix="y")).messages == ()
    assert refusal(lambda: ask(chat(model="nope", messages=[], keep_alive=0)))[0] == 404


@pytest.mark.parametrize("sent", [{"template": "x"}, {"system": "x"}, {"context": [1]}])
def test_raw_excludes_what_would_shape_the_prompt(sent):
    """400, but only after the model was found."""
    message = "raw mode does not support template, system, or context"
    assert refusal(lambda: ask(generate(raw=True, **sent))) == (400, message)
    assert refusal(lambda: ask(generate(raw=True, model="nope", **sent))) == (404, "model 'nope' not found")


def test_errors_come_in_a_real_servers_order():
    """Body, top_logprobs, name, model, abilities."""
    assert refusal(lambda: chat(model=5, top_logprobs=21))[1].startswith("json: cannot unmarshal number")
    assert refusal(lambda: chat(model="a b", top_logprobs=21))[1].startswith("top_logprobs")
    assert refusal(lambda: ask(chat(model="a b", think=True)))[1] == "invalid model name"
    assert refusal(lambda: ask(chat(model="nope", think=True)))[1] == "model 'nope' not found"


def test_messages_become_ours():
    """Roles in lower case, developer is system, unknown is user; nothing else is lost."""
    image = "iVBORw0KGgo="
    call = {"function": {"name": "f", "arguments": {"b": 1, "a": [2]}}, "id": "c1", "type": "function"}
    request = ask(
        chat(
            model="jinja",
            messages=[
                {"role": "DEVELOPER", "content": "s"},
                {"role": "System", "content": "t"},
                {"content": None},
                {"role": "bogus", "content": "x", "images": [image, "", None, "/9j/\n"]},
                {"role": "assistant", "thinking": "hm", "tool_calls": [call, {"function": {"name": "g"}}]},
                {"role": "tool", "content": "5", "tool_name": "f", "tool_call_id": "c1"},
                None,
            ],
        )
    )
    assert request.messages == (
        Message("system", "s"),
        Message("system", "t"),
        Message("user"),
        Message("user", "x", images=(Image(image, "image/png"), Image("/9j/", "image/jpeg"))),
        Message("assistant", thinking="hm", tool_calls=(ToolCall("c1", "f", {"b": 1, "a": [2]}), ToolCall("", "g"))),
        Message("tool", "5", tool_call_id="c1", tool_name="f"),
        Message("user"),
    )  # fmt: skip
    assert list(request.messages[4].tool_calls[0].arguments) == ["b", "a"]


def test_tools_keep_their_schema():
    """Ollama drops the keywords it does not know; the providers know more."""
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 1}},
        "additionalProperties": False,
    }
    tools = [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}},
        {"type": "function", "function": {"name": "g", "parameters": None}},
        {"type": "web_search"},
    ]
    assert ask(chat(model="jinja", tools=tools)).tools == (Tool("f", "d", schema), Tool("g"))
    assert ask(chat(tools=[])).tools == ()
    assert ask(chat(tools=None)).tools == ()


def test_generate_becomes_a_conversation():
    """System and prompt, with the images on the prompt; another server's context is ignored."""
    request = ask(generate(model="vision", system="s", images=["iVBORw0KGgo="], context=[1, 2]))
    assert request.messages == (
        Message("system", "s"),
        Message("user", "hi", images=(Image("iVBORw0KGgo=", "image/png"),)),
    )
    assert ask(generate(raw=True)).messages == (Message("user", "hi"),)
    assert ask(generate(model="coder", suffix="end")).messages == ()


def test_the_rest_of_a_request():
    """Names are echoed as sent, the target is the model's, streaming is the default."""
    request = ask(chat(model=" PLAIN:latest ", logprobs=True, top_logprobs=20, keep_alive="1m", shift=False))
    assert request.model == " PLAIN:latest "
    assert request.target.model == "plain"
    assert (request.stream, request.logprobs, request.top_logprobs, request.keep_alive_s) == (
        True,
        True,
        20,
        60.0,
    )
    assert ask(chat(stream=None)).stream is True
    assert ask(chat(stream=False)).stream is False


@pytest.mark.parametrize(
    ("body", "name"),
    {
        b'{"model":"a","name":"b"}': "a:latest",
        b'{"model":"","name":"b"}': "b:latest",
        b'{"name":"b:1"}': "b:1",
    }.items(),
)
def test_show_takes_model_or_name(body, name):
    """The command line sends an empty model beside the name."""
    assert decode_show(body).lookup_name() == name


def test_show_asks_for_more():
    """The system prompt reaches whoever renders the answer, and all of it a real Ollama, by Ollama's own spelling."""
    call = decode_show(b'{"Model":"plain","VERBOSE":true,"system":"s","New":{"Model":1}}')
    assert call.system == "s"
    assert call.sent == {"model": "plain", "verbose": True, "system": "s", "New": {"Model": 1}}


@pytest.mark.parametrize("field", ["format", "options", "tools", "messages"])
@pytest.mark.parametrize("depth", [300, 3000])
def test_what_no_provider_could_be_sent_is_refused(field, depth):
    """Values are nested deeper than JSON is written anywhere: 400 now, not a crash later."""
    deep = b'{"x":' * depth + b"1" + b"}" * depth
    wrapped = {
        "tools": b'[{"function":{"name":"f","parameters":%b}}]' % deep,
        "messages": b'[{"tool_calls":[{"function":{"name":"f","arguments":%b}}]}]' % deep,
    }.get(field, deep)
    status, text = refusal(lambda: decode_chat(b'{"model":"plain","%b":%b}' % (field.encode(), wrapped)))
    assert (status, "nested too deeply" in text) == (400, True)


def test_an_infinite_number_is_refused_where_it_would_be_sent_on():
    """JSON has no infinity; beside the fields that matter it is ignored, as in Go."""
    assert refusal(lambda: decode_chat(b'{"options":{"temperature":1e999}}'))[0] == 400
    assert decode_chat(b'{"model":"plain","zzz":1e999}').model == "plain"


def test_a_call_does_not_show_what_was_said():
    """Prompts reach no log by way of a repr."""
    calls = [
        chat(messages=[{"content": "SECRET"}], format={"SECRET": 1}, options={"stop": ["SECRET"]}),
        generate(prompt="SECRET", suffix="SECRET", system="SECRET", template="SECRET"),
    ]
    assert "SECRET" not in repr(calls)


FIELDS = st.sampled_from(
    "model messages role content images tool_calls function name arguments tools parameters options format think "
    "keep_alive stream prompt suffix raw context top_logprobs temperature stop".split()
)
LEAVES = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        1.5,
        2**64,
        1e300,
        "",
        "x",
        "\ud800",
        "plain",
        "json",
        "5m",
        "QQ==",
        "high",
        [],
        {},
        [None],
    ]
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(value=st.dictionaries(FIELDS, VALUES, max_size=6), cut=st.integers(0, 200), junk=st.binary(max_size=3))
def test_decoding_raises_nothing_but_invalid_request(value, cut, junk):
    """Whatever clients send, whole, cut off or spoilt, the answer is an error of ours or a call."""
    body = json.dumps(value).encode()
    for spoilt, decode in itertools.product(
        (body, body[:cut], body[:cut] + junk + body[cut:]), DECODE.values()
    ):
        with contextlib.suppress(InvalidRequest, ModelNotFound):
            call = decode(spoilt)
            call.lookup_name()
            if not isinstance(call, ollama.ShowCall):
                call.request(find("jinja:latest"))
