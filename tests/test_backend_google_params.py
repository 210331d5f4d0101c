"""What Gemini is asked: request goldens."""

import pytest

from ollama_bridge.backends.google_params import BUDGETS, LEVELS, UNSIGNED_CALL, build, nearest
from ollama_bridge.chat import ChatRequest, Image, Message, Rules, Target, Tool
from ollama_bridge.errors import InvalidRequest
from ollama_bridge.events import ToolCall
from ollama_bridge.history import NOTHING_SAID

ALL_OPTIONS = frozenset(
    {"temperature", "top_p", "top_k", "seed", "stop", "presence_penalty", "frequency_penalty", "logprobs"}
)
PLAIN = Rules(accepts=ALL_OPTIONS, max_stops=5, thinking=frozenset())
GEMINI_2_5_FLASH = Rules(
    accepts=ALL_OPTIONS, thinking=frozenset({"budget"}), efforts=("none", "low", "medium", "high")
)
GEMINI_2_5_PRO = Rules(
    accepts=ALL_OPTIONS, thinking=frozenset({"budget"}), efforts=("minimal", "low", "medium", "high")
)
GEMINI_3_FLASH = Rules(
    accepts=frozenset({"seed", "stop"}),
    max_stops=5,
    thinking=frozenset({"level"}),
    efforts=("minimal", "low", "medium", "high"),
)
GEMINI_3_PRO = Rules(thinking=frozenset({"level"}), efforts=("low", "medium", "high"))

PNG = Image("iVBORw0KGgo=", "image/png")
HEIC = Image("AAAAGGZ0eXBoZWlj", "image/heic")
HELLO = (Message("user", "Hello"),)
SCHEMA = {
    "type": "object",
    "properties": {"age": {"type": "integer"}},
    "required": ["age"],
    "additionalProperties": False,
}


def body_of(*messages, rules=PLAIN, capabilities=("completion", "tools"), **fields):
    target = Target("google", "gemini-x", capabilities=frozenset(capabilities), rules=rules)
    return build(ChatRequest("gemini", messages or HELLO, target=target, **fields)).body


def config_of(rules=PLAIN, **fields):
    return body_of(rules=rules, **fields).get("generationConfig", {})


def dropped_by(rules=PLAIN, **fields):
    return build(
        ChatRequest("gemini", HELLO, target=Target("google", "gemini-x", rules=rules), **fields)
    ).dropped


def test_the_least_there_is():
    """Nothing is sent that nobody asked for."""
    assert body_of() == {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}


def test_a_whole_conversation():
    """System messages are joined, roles alternate, results follow their calls in one turn."""
    call = ToolCall("abc", "add", {"b": 2, "a": 1})
    body = body_of(
        Message("system", "Be brief."),
        Message("user", "Look:"),
        Message("user", "here", images=(PNG, HEIC)),
        Message("assistant", "I'll add.", thinking="hm", tool_calls=(call, ToolCall("", "now"))),
        Message("tool", "3", tool_call_id="abc"),
        Message("tool", '{"hour": 5}', tool_name="now"),
        Message("system", "Be kind."),
        Message("user", "And?"),
    )
    made_up = body["contents"][1]["parts"][2]["functionCall"]["id"]
    assert len(made_up) == 9
    assert body == {
        "systemInstruction": {"parts": [{"text": "Be brief.\n\nBe kind."}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "Look:"},
                    {"text": "here"},
                    {"inlineData": {"mimeType": "image/png", "data": PNG.data}},
                    {"inlineData": {"mimeType": "image/heic", "data": HEIC.data}},
                ],
            },
            {
                "role": "model",
                "parts": [
                    {"text": "I'll add."},
                    {"functionCall": {"id": "abc", "name": "add", "args": {"b": 2, "a": 1}}},
                    {"functionCall": {"id": made_up, "name": "now", "args": {}}},
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "abc", "name": "add", "response": {"output": "3"}}},
                    {"functionResponse": {"id": made_up, "name": "now", "response": {"hour": 5}}},
                    {"text": "And?"},
                ],
            },
        ],
    }


@pytest.mark.parametrize(
    ("content", "response"),
    [
        ('{"a": 1}', {"a": 1}),
        ("[1, 2]", {"output": [1, 2]}),
        ("007", {"output": "007"}),
        ("1e400", {"output": "1e400"}),
        ("null", {"output": "null"}),
        ("plain words", {"output": "plain words"}),
        ("", {"output": ""}),
    ],
)
def test_a_tools_result_is_an_object(content, response):
    """Gemini demands one; what is none is wrapped, and no number loses its spelling."""
    call = Message("assistant", tool_calls=(ToolCall("i", "f"),))
    body = body_of(*HELLO, call, Message("tool", content, tool_call_id="i"))
    assert body["contents"][2]["parts"][0]["functionResponse"]["response"] == response


def test_the_first_call_of_a_step_is_signed_from_gemini_3_on():
    """Gemini 3 refuses a step whose first function call has no signature; the others need none."""
    two = (ToolCall("1", "f"), ToolCall("2", "f"))
    history = (
        *HELLO,
        Message("assistant", tool_calls=two),
        Message("tool", "a", tool_call_id="1"),
        Message("tool", "b", tool_call_id="2"),
        Message("assistant", "so", tool_calls=(ToolCall("3", "g"),)),
        Message("tool", "c", tool_call_id="3"),
    )

    def signatures(rules):
        contents = body_of(*history, rules=rules)["contents"]
        return [
            part.get("thoughtSignature")
            for turn in contents
            for part in turn["parts"]
            if "functionCall" in part
        ]

    assert signatures(GEMINI_3_FLASH) == [UNSIGNED_CALL, None, UNSIGNED_CALL]
    assert signatures(GEMINI_2_5_FLASH) == [None, None, None]


def test_a_system_message_alone_is_asked_as_a_user():
    """Gemini wants at least one turn."""
    body = body_of(Message("system", "Say hi."))
    assert body == {"contents": [{"role": "user", "parts": [{"text": "Say hi."}]}]}


def test_an_unknown_image_is_the_clients_mistake():
    with pytest.raises(InvalidRequest, match="PNG"):
        body_of(Message("user", "?", images=(Image("AAAA", "application/octet-stream"),)))


def test_tools():
    """Schemas go as they are, which `parameters` would refuse; a tool without parameters has no schema."""
    tools = (
        Tool("add", "Adds", SCHEMA),
        Tool("now", "", {}),
        Tool("go", "x", {"type": "object", "properties": {}}),
    )
    assert body_of(tools=tools)["tools"] == [
        {
            "functionDeclarations": [
                {"name": "add", "description": "Adds", "parametersJsonSchema": SCHEMA},
                {"name": "now", "description": ""},
                {"name": "go", "description": "x"},
            ]
        }
    ]


def test_names_of_tools_fit_googles_alphabet():
    """A name Gemini would refuse is written so that it does not, everywhere the same; two tools stay two."""
    tools = (Tool("a.b"), Tool("a b"), Tool("2fa"), Tool("x" * 70), Tool("ok"), Tool("ok", "again"))
    history = (*HELLO, Message("assistant", tool_calls=(ToolCall("1", "2fa"),)), Message("tool", "r"))
    body = body_of(*history, tools=tools)
    assert [each["name"] for each in body["tools"][0]["functionDeclarations"]] == [
        "a_b",
        "a_b_2",
        "_2fa",
        "x" * 64,
        "ok",
    ]
    assert body["contents"][1]["parts"][0]["functionCall"]["name"] == "_2fa"
    assert body["contents"][2]["parts"][0]["functionResponse"]["name"] == "_2fa"


def test_a_conversation_that_says_nothing_is_asked_all_the_same():
    """A real server answers it."""
    assert body_of(Message("user", " "))["contents"][0]["parts"] == [{"text": NOTHING_SAID}]


def test_a_conversation_that_begins_with_the_assistant_gets_a_turn_before_it():
    """A function call has to follow a turn of the user's."""
    talk = (Message("assistant", tool_calls=(ToolCall("", "look"),)), Message("user", "x"))
    assert [turn["role"] for turn in body_of(*talk)["contents"]] == ["user", "model", "user"]


def test_all_options():
    options = {
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 7,
        "seed": 3,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "num_predict": 99,
        "stop": ["a", "", "b"],
        "num_ctx": 4096,
    }
    assert config_of(options=options) == {
        "temperature": 0.0,
        "topP": 0.5,
        "topK": 7,
        "seed": 3,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.2,
        "maxOutputTokens": 99,
        "stopSequences": ["a", "b"],
    }
    assert dropped_by(options=options) == []


@pytest.mark.parametrize("limit", [-1, -2, 0])
def test_no_limit_is_no_limit(limit):
    assert config_of(options={"num_predict": limit}) == {}


def test_what_a_model_refuses_is_dropped_and_named():
    """Gemini 3 loops at low temperatures; nothing that would fail or harm is sent."""
    options = {"temperature": 0.1, "top_k": 3, "min_p": 0.1, "seed": 1, "stop": list("abcdefg")}
    assert config_of(GEMINI_3_FLASH, options=options, logprobs=True) == {
        "seed": 1,
        "stopSequences": list("abcde"),
    }
    assert dropped_by(GEMINI_3_FLASH, options=options, logprobs=True) == [
        "temperature",
        "top_k",
        "min_p",
        "stop",
        "logprobs",
    ]


def test_log_probabilities():
    assert config_of(logprobs=True) == {"responseLogprobs": True}
    assert config_of(logprobs=True, top_logprobs=3) == {"responseLogprobs": True, "logprobs": 3}


def test_json():
    assert config_of(format="json") == {"responseMimeType": "application/json"}
    assert config_of(format=SCHEMA) == {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}


def test_json_beside_tools_only_where_it_is_taken():
    """Up to Gemini 2.5 the combination is a 400; the tools matter more."""
    tools = (Tool("f"),)
    assert config_of(GEMINI_2_5_PRO, format="json", tools=tools) == {}
    assert dropped_by(GEMINI_2_5_PRO, format="json", tools=tools) == ["format"]
    assert config_of(GEMINI_3_PRO, format="json", tools=tools) == {"responseMimeType": "application/json"}


@pytest.mark.parametrize(
    ("rules", "think", "config"),
    [
        (GEMINI_3_FLASH, None, {"includeThoughts": True}),
        (GEMINI_3_FLASH, True, {"includeThoughts": True}),
        (GEMINI_3_FLASH, False, {"includeThoughts": False, "thinkingLevel": "MINIMAL"}),
        (GEMINI_3_PRO, False, {"includeThoughts": False, "thinkingLevel": "LOW"}),
        (GEMINI_3_PRO, "medium", {"includeThoughts": True, "thinkingLevel": "MEDIUM"}),
        (GEMINI_3_PRO, "max", {"includeThoughts": True, "thinkingLevel": "HIGH"}),
        (GEMINI_2_5_FLASH, None, {"includeThoughts": True}),
        (GEMINI_2_5_FLASH, True, {"includeThoughts": True, "thinkingBudget": -1}),
        (GEMINI_2_5_FLASH, False, {"includeThoughts": False, "thinkingBudget": 0}),
        (GEMINI_2_5_PRO, False, {"includeThoughts": False, "thinkingBudget": 128}),
        (GEMINI_2_5_FLASH, "low", {"includeThoughts": True, "thinkingBudget": 1024}),
        (GEMINI_2_5_FLASH, "max", {"includeThoughts": True, "thinkingBudget": 24576}),
        (PLAIN, None, None),
        (PLAIN, True, None),
        (PLAIN, False, None),
    ],
)
def test_thinking(rules, think, config):
    """Level or budget by the model's rules, never both; where thinking cannot be switched off, the least of it."""
    sent = config_of(rules, think=think, capabilities=("completion", "thinking"))
    assert sent == ({"thinkingConfig": config} if config else {})


def test_a_model_that_does_not_think_is_not_asked_for_thoughts():
    assert config_of(GEMINI_3_FLASH, think=None) == {}


def test_the_nearest_effort():
    """A word the model lacks becomes the nearest one it has, the weaker of two."""
    assert nearest("medium", ("low", "high"), LEVELS) == "low"
    assert nearest("max", ("low", "high", "xhigh"), LEVELS) == "xhigh"
    assert nearest("none", ("none", "low"), LEVELS) == "low"  # no level says "none"
    assert nearest("max", ("max",), BUDGETS) == "high"  # nothing in common: the whole scale serves
