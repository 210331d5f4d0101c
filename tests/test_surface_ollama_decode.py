"""What /api/chat, /api/generate and /api/show ask: errors in Ollama's words and order, and what is understood."""

import contextlib
import json

import orjson
import pytest
from golden import blocks
from hypothesis import given
from hypothesis import strategies as st
from offered import ask, find
from shared import SHARED

from ollama_bridge.chat import Image, Message, Tool
from ollama_bridge.errors import BridgeError, InvalidRequest, ModelNotFound
from ollama_bridge.events import ToolCall
from ollama_bridge.surfaces import ollama
from ollama_bridge.surfaces.ollama import decode_chat, decode_generate, decode_show, error_body

DECODE = {"/api/chat": decode_chat, "/api/generate": decode_generate, "/api/show": decode_show}
HI = {"model": "plain", "messages": [{"role": "user", "content": "hi"}]}
PROMPT = {"model": "plain", "prompt": "hi"}


def chat(**fields):
    return decode_chat(orjson.dumps({**HI, **fields}))


def generate(**fields):
    return decode_generate(orjson.dumps({**PROMPT, **fields}))


def refusal(call):
    """Status and text of the error that `call()` ends in."""
    with pytest.raises(BridgeError) as caught:
        call()
    return caught.value.status, str(caught.value)


def _unreachable(block):
    """Errors of a template engine, of a failing runner, and about cloud stubs have no counterpart here."""
    words = ("{{ .Bad", "ERR400", "FIRSTERR", "MIDERR", "cloudy:local")
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


@pytest.mark.parametrize(
    ("sent", "seconds"),
    {
        "5m": 300.0, "1.5h": 5400.0, "300ms": 0.3, "10m0s": 600.0, "0s": 0.0, "0": 0.0, "+1s": 1.0, ".5s": 0.5,
        "1h1m1s": 3661.0, "1µs": 1e-6, "1μs": 1e-6, "-1m": -1.0, "-0s": 0.0, 10: 10.0, 0: 0.0, 0.5: 0.5, -1: -1.0, -0.001: -1.0,
        1e-12: 0.0, None: None,
    }.items(),
)  # fmt: skip
def test_keep_alive_is_seconds(sent, seconds):
    """Numbers are seconds, strings Go durations; everything negative is forever."""
    assert chat(keep_alive=sent).keep_alive_s == seconds


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("abc", 'time: invalid duration "abc"'),
        ("-", 'time: invalid duration "-"'),
        (".s", 'time: invalid duration ".s"'),
        ("1m ", r'time: unknown unit "m " in duration "1m "'),
        ("10", 'time: missing unit in duration "10"'),
        ("1m30", 'time: missing unit in duration "1m30"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ('1é"', r'time: unknown unit "\xc3\xa9\"" in duration "1\xc3\xa9\""'),
        ("9999999h", 'time: invalid duration "9999999h"'),
        ("1" * 5000 + "s", 'time: invalid duration "' + "1" * 5000 + 's"'),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
def test_keep_alive_that_is_no_duration(sent, message):
    """The words of Go's time package."""
    assert refusal(lambda: chat(keep_alive=sent)) == (400, message)


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
    ("name", "value", "wanted"),
    [
        *((name, "1", "type integer") for name in "num_keep seed num_predict top_k repeat_last_n num_ctx".split()),
        *((name, True, "type integer") for name in "num_batch num_gpu main_gpu num_thread draft_num_predict".split()),
        *((name, [], "type float32") for name in "top_p min_p typical_p temperature".split()),
        *((name, False, "type float32") for name in "repeat_penalty presence_penalty frequency_penalty".split()),
        ("use_mmap", 1, "type boolean"),
        ("stop", "x", "type array"),
        ("stop", ["a", 1], "an array of strings"),
    ],
)  # fmt: skip
def test_an_option_of_the_wrong_type(name, value, wanted):
    """500, in words that differ by type."""
    message = f'option "{name}" must be of {wanted}'
    assert refusal(lambda: ask(chat(options={name: value}))) == (500, message)
    assert refusal(lambda: ask(generate(options={name: value}))) == (500, message)


def test_options_take_their_types():
    """Whole numbers are truncated, nulls left out, unknown ones kept."""
    sent = {
        "seed": 1.9, "top_k": -1.9, "num_ctx": 1e300, "temperature": 1, "stop": ["a"], "use_mmap": True,
        "top_p": None, "zzz": None, "bogus": {"a": 1},
    }  # fmt: skip
    assert ask(chat(options=sent)).options == {
        "seed": 1,
        "top_k": -1,
        "num_ctx": 2**63 - 1,
        "temperature": 1,
        "stop": ["a"],
        "use_mmap": True,
        "bogus": {"a": 1},
    }


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [(None, None), ("", None), ("json", "json"), ({}, {}), ({"type": "object"}, {"type": "object"})],
)
def test_format(sent, wanted):
    """Off, any JSON, or a schema."""
    assert ask(chat(format=sent)).format == wanted
    assert ask(generate(format=sent)).format == wanted


@pytest.mark.parametrize(
    ("sent", "shown"), [("xml", r'"\"xml\""'), (5, '"5"'), ([1, "a"], r'"[1,\"a\"]"'), (True, '"true"')]
)
def test_any_other_format_is_found_when_generation_starts(sent, shown):
    """So a load does not mind it, and neither does a debug rendering."""
    message = f'invalid format: {shown}; expected "json" or a valid JSON Schema object'
    assert refusal(lambda: ask(chat(format=sent))) == (500, message)
    assert ask(chat(format=sent, messages=[])).format is None
    assert ask(chat(format=sent, _debug_render_only=True)).format is None


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
    """System and prompt, with the images on the prompt; template and context are ignored."""
    request = ask(
        generate(model="vision", system="s", images=["iVBORw0KGgo="], template="{{", context=[1, 2])
    )
    assert request.messages == (
        Message("system", "s"),
        Message("user", "hi", images=(Image("iVBORw0KGgo=", "image/png"),)),
    )
    assert ask(generate(raw=True)).messages == (Message("user", "hi"),)
    assert ask(generate(model="coder", suffix="end")).messages == (Message("user", "hi"),)


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
    """verbose and system reach whoever renders the answer."""
    call = decode_show(b'{"model":"plain","verbose":true,"system":"s","options":{},"template":""}')
    assert (call.verbose, call.system) == (True, "s")


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
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["plain", "json", "5m", "QQ=="]),
    lambda inner: st.lists(inner) | st.dictionaries(FIELDS, inner),
    max_leaves=30,
)


@pytest.mark.parametrize("decode", DECODE.values())
@given(value=st.dictionaries(FIELDS, VALUES), cut=st.integers(0, 400), junk=st.binary(max_size=3))
def test_decoding_raises_nothing_but_invalid_request(decode, value, cut, junk):
    """Whatever clients send, whole, cut off or spoilt, the answer is an error of ours or a call."""
    body = json.dumps(value).encode()
    for spoilt in (body, body[:cut], body[:cut] + junk + body[cut:]):
        with contextlib.suppress(InvalidRequest, ModelNotFound):
            call = decode(spoilt)
            call.lookup_name()
            if not isinstance(call, ollama.ShowCall):
                call.request(find("jinja:latest"))
