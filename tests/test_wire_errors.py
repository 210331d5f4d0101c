"""Every refusal of the native wire over HTTP, word for word: `spec/ollama-api.md` §3 and §4, as far as chat,
generate and show reach them."""

import json

import pytest

from ollama_bridge.config import Config
from running import ask, running

CHAT, GENERATE, SHOW = "/api/chat", "/api/generate", "/api/show"
JSON = "application/json; charset=utf-8"
LATE = "application/json"  # of a stream that the real server has already prepared

MODELS = {
    "plain": ["completion"],
    "jinja": ["completion", "tools"],
    "think": ["completion", "tools", "thinking"],
    "embed": ["embedding"],
}
CONFIG = Config.model_validate(
    {
        "server": {"port": 0},
        "providers": {"demo": {}},
        "models": [{"name": name, "backend": "demo", "capabilities": able} for name, able in MODELS.items()],
    }
)
HI = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(**fields):
    return CHAT, {"model": "plain", "messages": HI, **fields}


def generate(**fields):
    return GENERATE, {"model": "plain", "prompt": "hi", **fields}


def wrong(got, where, wanted):
    return 400, f"json: cannot unmarshal {got} into Go struct field {where} of type {wanted}"


def both(**fields):
    """The same question to both endpoints."""
    return [(CHAT, "ChatRequest", chat(**fields)[1]), (GENERATE, "GenerateRequest", generate(**fields)[1])]


MODEL_REFERENCES = [
    (GENERATE, {}, 404, "model '' not found"),
    (GENERATE, {"model": ""}, 404, "model '' not found"),
    (GENERATE, {"model": "  "}, 404, "model '  ' not found"),
    (GENERATE, b"null", 404, "model '' not found"),
    (CHAT, {}, 400, "model is required"),
    (CHAT, {"model": ""}, 400, "model is required"),
    (CHAT, {"model": " "}, 400, "model is required"),
    (CHAT, {"messages": HI}, 400, "model is required"),
    (CHAT, b"null", 400, "model is required"),
    (SHOW, {}, 400, "model is required"),
    (SHOW, {"model": ""}, 400, "model is required"),
    (SHOW, b"null", 400, "model is required"),
    *((path, {"model": "a b"}, 400, "invalid model name") for path in (CHAT, GENERATE, SHOW)),
    *(
        (GENERATE, {"model": name}, 400, "invalid model name")
        for name in ["/x", "x/", "x:", "-x", ".x", "x:-t", "a:b:c", "n.s/x", "a/b/c/d", "//x", "é", "m" * 81]
    ),
    *(
        (path, {"model": "x:cloud:local"}, 400, 'use either :local or :cloud, not both: "x:cloud:local"')
        for path in (CHAT, GENERATE, SHOW)
    ),
    (CHAT, {"model": "nope"}, 404, "model 'nope' not found"),
    (CHAT, {"model": "NoPe:1b"}, 404, "model 'NoPe:1b' not found"),
    (GENERATE, {"model": "nope"}, 404, "model 'nope' not found"),
    (SHOW, {"model": "nope"}, 404, "model 'nope:latest' not found"),
    (SHOW, {"name": "nope:1b"}, 404, "model 'nope:1b' not found"),
    (SHOW, {"model": "nope:local"}, 404, "model 'nope:latest' not found"),
    (GENERATE, {"model": "nope", "keep_alive": 0}, 404, "model 'nope' not found"),
]

STRUCTS = {CHAT: "api.ChatRequest", GENERATE: "api.GenerateRequest", SHOW: "api.ShowRequest"}
BODIES = [
    row
    for path, struct in STRUCTS.items()
    for row in [
        (path, b"", 400, "missing request body"),
        (path, b"{", 400, "unexpected EOF"),
        (path, b"not json", 400, "invalid character 'o' in literal null (expecting 'u')"),
        (
            path,
            b'{"a":1,}',
            400,
            "invalid character '}' looking for beginning of object key string",
        ),
        (path, b"[]", 400, f"json: cannot unmarshal array into Go value of type {struct}"),
        (path, b'"x"', 400, f"json: cannot unmarshal string into Go value of type {struct}"),
        (path, b'{"model":5}', *wrong("number", f"{struct[4:]}.model", "string")),
    ]
]

THINK = '(must be "high", "medium", "low", "max", true, or false)'
FIELDS = [
    *((p, b, *wrong("string", f"{s}.stream", "bool")) for p, s, b in both(stream="yes")),
    *((p, b, *wrong("array", f"{s}.options", "map[string]interface {}")) for p, s, b in both(options=[])),
    *((p, b, 400, 'time: invalid duration "abc"') for p, _, b in both(keep_alive="abc")),
    *((p, b, 400, 'time: invalid duration ""') for p, _, b in both(keep_alive="")),
    *((p, b, 400, 'time: missing unit in duration "10"') for p, _, b in both(keep_alive="10")),
    *((p, b, 400, 'time: unknown unit "d" in duration "1d"') for p, _, b in both(keep_alive="1d")),
    *((p, b, 400, "Unsupported type: 'bool'") for p, _, b in both(keep_alive=True)),
    *((p, b, 400, "Unsupported type: '[]interface {}'") for p, _, b in both(keep_alive=[1])),
    *((p, b, 400, "Unsupported type: 'map[string]interface {}'") for p, _, b in both(keep_alive={})),
    *((p, b, 400, f'invalid think value: "huge" {THINK}') for p, _, b in both(think="huge")),
    *(
        (p, b, 400, 'think must be a boolean or string ("high", "medium", "low", "max", true, or false)')
        for odd in (5, [], {})
        for p, _, b in both(think=odd)
    ),
    *(
        (p, b, 400, "top_logprobs must be between 0 and 20")
        for odd in (21, -1)
        for p, _, b in both(top_logprobs=odd, model="nope")  # checked before the model is looked for
    ),
    (*chat(messages="hi"), *wrong("string", "ChatRequest.messages", "[]api.Message")),
    (*chat(messages=[5]), *wrong("number", "ChatRequest.messages", "api.Alias")),
    (
        *chat(messages=[{"role": "user", "content": [{"type": "text", "text": "x"}]}]),
        *wrong("array", "ChatRequest.messages.content", "string"),
    ),
    (*chat(tools={}), *wrong("object", "ChatRequest.tools", "api.Tools")),
    (
        *chat(
            messages=[{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]
        ),
        400,
        "Value looks like object, but can't find closing '}' symbol",
    ),
    (*chat(messages=[{"content": "x", "images": ["!!"]}]), 400, "illegal base64 data at input byte 0"),
    (
        *chat(messages=[{"content": "x", "images": ["data:image/png;base64,iVBORw0KGgo="]}]),
        400,
        "illegal base64 data at input byte 4",
    ),
    (*generate(images=["!!"]), 400, "illegal base64 data at input byte 0"),
    (*generate(images="x"), *wrong("string", "GenerateRequest.images", "[]api.ImageData")),
    (*generate(context=["a"]), *wrong("string", "GenerateRequest.context", "int")),
    (*generate(prompt=5), *wrong("number", "GenerateRequest.prompt", "string")),
    (SHOW, {"name": 5}, *wrong("number", "ShowRequest.name", "string")),
]

FULL = "registry.ollama.ai/library/plain:latest does not support"
ABILITIES = [
    (*generate(model="embed"), 400, '"embed" does not support generate'),
    (*chat(model="embed"), 400, '"embed" does not support chat'),
    (*chat(model="EMBED:latest"), 400, '"EMBED:latest" does not support chat'),
    *((p, b, 400, '"plain" does not support thinking') for p, _, b in both(think=True)),
    *((p, b, 400, '"plain" does not support thinking') for p, _, b in both(think="low")),
    (GENERATE, {"model": "plain", "think": True}, 400, '"plain" does not support thinking'),  # also to load
    (CHAT, {"model": "plain", "think": "max"}, 400, '"plain" does not support thinking'),
    (*chat(tools=[TOOL]), 400, f"{FULL} tools"),
    (*generate(suffix="s"), 400, f"{FULL} insert"),
    (GENERATE, {"model": "plain", "suffix": "s"}, 400, f"{FULL} insert"),
    *(
        (*generate(raw=True, **more), 400, "raw mode does not support template, system, or context")
        for more in ({"system": "s"}, {"template": "t"}, {"context": [1]})
    ),
]

TYPES = {
    "integer": "num_keep seed num_predict top_k repeat_last_n num_ctx num_batch num_gpu main_gpu num_thread "
    "draft_num_predict",
    "float32": "top_p min_p typical_p temperature repeat_penalty presence_penalty frequency_penalty",
    "boolean": "use_mmap",
    "array": "stop",
}
OPTIONS = [
    *(
        (p, b, 500, f'option "{name}" must be of type {wanted}')
        for wanted, names in TYPES.items()
        for name in names.split()
        for p, _, b in both(options={name: "x"})
    ),
    (*chat(options={"use_mmap": 1}), 500, 'option "use_mmap" must be of type boolean'),
    (*chat(options={"stop": [1]}), 500, 'option "stop" must be of an array of strings'),
]


def told(text):
    return json.dumps({"error": text}, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    "rows",
    [MODEL_REFERENCES, BODIES, FIELDS, ABILITIES, OPTIONS],
    ids=["model references", "bodies", "fields", "abilities", "options"],
)
async def test_refusals(rows, subtests):
    """Status, content type and body are those of the real server, whether or not a stream was asked for."""
    async with running(CONFIG) as daemon:
        for path, body, status, error in rows:
            variants = (
                [body, {"stream": False, **body}] if isinstance(body, dict) and path != SHOW else [body]
            )
            for one in variants:
                with subtests.test(path=path, body=one):
                    got = await ask(daemon.url, "POST", path, one)
                    assert (got.status, got.body) == (status, told(error))
                    assert got.headers["Content-Type"] == JSON
                    assert got.headers["Content-Length"] == str(len(got.body))


@pytest.mark.parametrize(
    ("sent", "shown"), [("xml", r"\"xml\""), (5, "5"), (True, "true"), ([1], "[1]"), ("JSON", r"\"JSON\"")]
)
async def test_a_format_that_is_none(sent, shown):
    """500, found only when generation starts: a stream has lost its charset by then, a load never gets there."""
    async with running(CONFIG) as daemon:
        for path, _, body in both(format=sent):
            for stream, kind in ((None, LATE), (False, JSON)):
                got = await ask(daemon.url, "POST", path, {**body, "stream": stream})
                assert (got.status, got.headers["Content-Type"]) == (500, kind)
                assert (
                    got.json["error"]
                    == f'invalid format: "{shown}"; expected "json" or a valid JSON Schema object'
                )
        load = await ask(daemon.url, "POST", CHAT, {"model": "plain", "format": sent})
        assert (load.status, load.json["done_reason"]) == (200, "load")


FINE = [
    *(
        {"keep_alive": value}
        for value in (5, 1.5, -1, "5m", "1.5h", "300ms", "-1m", "10m0s", "1h15m30.5s", None)
    ),
    *({"think": value} for value in (False, None)),
    *({"format": value} for value in ("", None, "json", {"type": "object"})),
    *({"options": value} for value in (None, {}, {"bogus": 1}, {"num_ctx": 2048.7}, {"temperature": None})),
    *({"logprobs": True, "top_logprobs": value} for value in (0, 20, None)),
    *({"stream": value} for value in (None, True, False)),
    {"tools": [], "images": [], "messages": None, "truncate": None, "shift": None},
    {"Model": "PLAIN"},
]


async def test_what_is_fine(subtests):
    """All of it loads and answers: `spec/ollama-api.md` §3.2 to §3.6."""
    async with running(CONFIG) as daemon:
        for fields in FINE:
            with subtests.test(fields=fields):
                for path, empty in ((CHAT, {"messages": []}), (GENERATE, {"prompt": ""})):
                    got = await ask(daemon.url, "POST", path, {"model": "plain", **empty, **fields})
                    assert (got.status, got.headers["Content-Type"]) == (200, JSON)
                    assert got.json["done_reason"] == "load"
                for path, _, body in both(**{**fields, "messages": HI}):
                    got = await ask(daemon.url, "POST", path, body)
                    assert got.status == 200
                    last = got.json if fields.get("stream") is False else got.lines[-1]
                    assert last["done"] is True


@pytest.mark.parametrize("keep_alive", [0, 0.0, "0", "0s", "0h0m"])
async def test_unloading(keep_alive):
    """Nothing to say and no time to stay: one object without metrics, even of a stream."""
    async with running(CONFIG) as daemon:
        for path, rest in (
            (CHAT, '"message":{"role":"assistant","content":""}'),
            (GENERATE, '"response":""'),
        ):
            for more in ({}, {"stream": True}):
                body = {"model": "plain", "keep_alive": keep_alive, **more}
                got = await ask(daemon.url, "POST", path, body)
                assert (got.status, got.headers["Content-Type"]) == (200, JSON)
                assert got.body.startswith(b'{"model":"plain","created_at":"')
                assert got.body.endswith(f'Z",{rest},"done":true,"done_reason":"unload"}}'.encode())
        answered = await ask(daemon.url, "POST", CHAT, {**chat()[1], "keep_alive": keep_alive})
        assert answered.lines[-1]["done_reason"] == "stop"
        assert (await ask(daemon.url, "GET", "/api/ps")).json == {"models": []}


async def test_showing_the_prompt():
    """`_debug_render_only`: one object, never done; without the underscore it is no such thing."""
    image = "iVBORw0KGgo="
    async with running(CONFIG) as daemon:
        body = {**chat()[1], "_debug_render_only": True}
        body["messages"] = [{**HI[0], "images": [image]}]
        shown = await ask(daemon.url, "POST", CHAT, body)
        raw = await ask(
            daemon.url, "POST", GENERATE, {**generate()[1], "raw": True, "_debug_render_only": True}
        )
        other = await ask(daemon.url, "POST", CHAT, {**chat()[1], "debug_render_only": True})
    assert shown.headers["Content-Type"] == raw.headers["Content-Type"] == JSON
    assert list(shown.json) == ["model", "created_at", "message", "done", "_debug_info"]
    assert (shown.json["message"], shown.json["done"]) == ({"role": "", "content": ""}, False)
    assert shown.json["_debug_info"] == {"rendered_template": "<|user|>hi<|assistant|>", "image_count": 1}
    assert list(raw.json) == ["model", "created_at", "response", "done", "_debug_info"]
    assert raw.json["_debug_info"] == {"rendered_template": "hi"}
    assert other.lines[-1]["done"] is True
