"""Editors' completions through the running daemon: what providers are asked, and what comes back."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from ollama_bridge.backends import ProviderSettings, fim
from ollama_bridge.config import Config
from ollama_bridge.infill import DEFAULT_TOKENS
from running import answer, ask, connect, request, running
from upstream import Upstream, split_at_random, sse
from wires import WIRES, Said

PREFIX = "def add(a, b):\n    "
SUFFIX = "\n\n\nprint(add(1, 2))\n"
MIDDLE = "return a + b"
OPTIONS = {"num_predict": 64, "temperature": 0.2}
ZED_STOPS = (
    "<|endoftext|> <|file_separator|> <|fim_pad|> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <fim_prefix> "
    "<fim_middle> <fim_suffix> <PRE> <SUF> <MID> [PREFIX] [SUFFIX]"
).split()

CLIENTS = {
    "Continue": {
        "prompt": PREFIX,
        "suffix": SUFFIX,
        "options": {"temperature": 0.01, "num_predict": 4096, "num_ctx": 8192, "stop": ["<fim_prefix>", "\n\n\n\n"]},
        "keep_alive": 1800,
        "stream": True,
    },
    "Zed": {
        "prompt": f"<fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>",
        "raw": True,
        "stream": False,
        "options": {**OPTIONS, "stop": ZED_STOPS},
    },
    "ProxyAI": {
        "prompt": PREFIX,
        "suffix": SUFFIX,
        "stream": False,
        "raw": True,
        "options": {**OPTIONS, "stop": ["<|endoftext|>", "diff --git"]},
    },
    "ProxyAI with markers": {
        "prompt": f"# b.py \nx = 1\n# a.py \n<|fim_prefix|> {PREFIX} <|fim_suffix|>{SUFFIX} <|fim_middle|>",
        "stream": False,
        "raw": True,
        "options": {**OPTIONS, "stop": ["diff --git", "package ", "import ", *ZED_STOPS]},
    },
    "DevoxxGenie": {"prompt": PREFIX, "suffix": SUFFIX, "stream": False, "options": OPTIONS},
    "twinny": {
        "prompt": f"<fim_prefix>\n{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>",
        "stream": True,
        "keep_alive": "5m",
        "options": OPTIONS,
    },
    "Tabby": {
        "prompt": f"<PRE> {PREFIX} <SUF>{SUFFIX} <MID>",
        "template": "{{ .Prompt }}",
        "stream": True,
        "options": OPTIONS,
    },
}  # fmt: skip


def config(url, wire, **provider):
    """The wire's configuration with one model that fills."""
    found = wire.config(url)
    found["providers"][wire.key] |= provider
    found["models"][0]["capabilities"] += ["insert"]
    return Config.model_validate(found)


async def fill(daemon, **body):
    got = await ask(daemon.url, "POST", "/api/generate", {"model": "m", **body})
    assert got.status == 200, got.body
    return got


def text_of(got):
    """The answer of either kind, and its last object."""
    lines = [got.json] if got.headers["Content-Type"].startswith("application/json") else got.lines
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    return "".join(line["response"] for line in lines), lines[-1]


def asked_by_chat(wire, body):
    """System prompt, question, and token limit, of any provider's request."""
    if wire.name == "anthropic":
        [turn] = body["messages"]
        return body["system"][0]["text"], turn["content"][0]["text"], body["max_tokens"]
    if wire.name == "google":
        [turn] = body["contents"]
        system = body["systemInstruction"]["parts"][0]["text"]
        return system, turn["parts"][0]["text"], body["generationConfig"]["maxOutputTokens"]
    if wire.name == "responses":
        [turn] = body["input"]
        return body["instructions"], turn["content"], body["max_output_tokens"]
    system, turn = body["messages"]
    return system["content"], turn["content"], body["max_tokens"]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_a_chat_model_fills_what_every_client_sends(wire, client):
    """The gap is asked for in a chat without thinking, and of a talkative answer only the middle comes back."""
    said = f"Here is the missing code:\n\n```python\n    {MIDDLE}{SUFFIX}```\n\nIt adds two numbers."
    async with Upstream() as upstream, running(config(upstream.url, wire)) as daemon:
        upstream.reply(split_at_random(wire.stream(Said(said)), seed=7))
        text, last = text_of(await fill(daemon, **CLIENTS[client]))
        body = upstream.requests[0].json
    assert text == MIDDLE
    assert ("context" in last) == (not CLIENTS[client].get("raw", False))
    assert last.get("context", []) == []
    system, question, limit = asked_by_chat(wire, body)
    assert f"{PREFIX}[[cursor]]{SUFFIX}" in question
    assert "[[cursor]]" in system
    assert limit == CLIENTS[client]["options"]["num_predict"]
    assert "fim" not in question
    assert "stop" not in json.dumps(body)  # they are looked for in the middle, not in what stands around it
    quiet = {
        "anthropic": ("thinking", {"type": "disabled"}),
        "responses": ("reasoning", {"effort": "none"}),
        "chat": ("reasoning_effort", "none"),
    }
    if wire.name in quiet:
        key, value = quiet[wire.name]
        assert body[key].items() >= value.items() if isinstance(value, dict) else body[key] == value
    else:
        assert body["generationConfig"]["thinkingConfig"]["thinkingBudget"] == 0


async def test_without_a_limit_the_middle_is_short():
    """A client that waits for a line does not get a page; the model is asked to be exact, where it takes that."""
    wire = WIRES[2]
    async with Upstream() as upstream, running(config(upstream.url, wire)) as daemon:
        upstream.reply(wire.stream(Said(MIDDLE)))
        await fill(daemon, prompt=PREFIX, suffix=SUFFIX, stream=False)
        body = upstream.requests[0].json
    assert body["max_tokens"] == DEFAULT_TOKENS
    assert body["temperature"] == 0.2


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_an_empty_middle_is_an_answer(wire):
    """Nothing is missing: a fence around nothing, and nothing at all."""
    async with Upstream() as upstream, running(config(upstream.url, wire)) as daemon:
        for nothing in ("```\n```", "    "):
            upstream.only(wire.stream(Said(nothing)))
            text, last = text_of(await fill(daemon, prompt=PREFIX, suffix=SUFFIX))
            assert text == ""
            assert last["done_reason"] == "stop"


async def test_a_stop_word_ends_the_middle_and_the_providers_work():
    """It is looked for in the middle, not in the fence around it; the connection is closed at once."""
    wire = WIRES[0]
    said = wire.stream(Said("```python\nfirst = 1\nsecond = 2\n" + "x = 3\n" * 50))
    async with Upstream() as upstream, running(config(upstream.url, wire)) as daemon:
        upstream.reply(said[:1800], then="stall")
        got = await fill(daemon, prompt="a = 0\n", suffix="\n", options={"stop": ["\n"]}, stream=False)
        await asyncio.wait_for(upstream.closed_early.wait(), 5)
    assert text_of(got)[0] == "first = 1"


async def test_the_middle_streams():
    """What is certain comes before the model has ended."""
    wire = WIRES[2]
    go_on = asyncio.Event()
    chunks = wire.stream(Said("```python\nreturn alpha + beta\n```")).split(b"\n\n")
    pieces = [chunk + b"\n\n" for chunk in chunks if chunk]
    async with Upstream() as upstream, running(config(upstream.url, wire)) as daemon:
        upstream.reply(pieces, hold=go_on, held_after=5)
        reader, writer = await connect(daemon.url)
        writer.write(
            request(daemon.url, "POST", "/api/generate", {"model": "m", "prompt": PREFIX, "suffix": SUFFIX})
        )
        await reader.readuntil(b"\r\n\r\n")
        size = int(await reader.readline(), 16)
        first = json.loads(await reader.readexactly(size))
        assert "return alpha".startswith(first["response"])
        assert first["response"]
        go_on.set()
        await reader.readuntil(b'"done":true')
        writer.close()


@pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)
async def test_thinking_does_not_land_in_the_code(wire):
    """A model that thinks all the same is heard only where it fills."""
    async with Upstream() as upstream, running(config(upstream.url, wire)) as daemon:
        upstream.reply(wire.stream(Said(MIDDLE, thinking="Let me see what is missing.")))
        got = await fill(daemon, prompt=PREFIX, suffix=SUFFIX)
    assert text_of(got)[0] == MIDDLE
    assert b"thinking" not in got.body


async def test_a_provider_that_refuses_writes_no_excuse_into_the_code():
    """What a content filter says is not part of the file."""
    chunk = {"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]}
    async with Upstream() as upstream, running(config(upstream.url, WIRES[2])) as daemon:
        upstream.reply(sse(json.dumps(chunk), done=True))
        assert text_of(await fill(daemon, prompt=PREFIX, suffix=SUFFIX))[0] == ""


async def test_a_model_without_insert_is_asked_as_ever():
    """A suffix is refused in Ollama's words, and markers stay what they are: text."""
    wire = WIRES[2]
    async with (
        Upstream() as upstream,
        running(Config.model_validate(wire.config(upstream.url))) as daemon,
    ):
        upstream.reply(wire.stream(Said("Hello")))
        body = {"model": "m", "prompt": PREFIX, "suffix": SUFFIX}
        got = await ask(daemon.url, "POST", "/api/generate", body)
        assert got.status == 400
        assert got.json == {"error": "registry.ollama.ai/library/m:latest does not support insert"}
        assert text_of(await fill(daemon, **CLIENTS["Zed"]))[0] == "Hello"
        [message] = upstream.requests[0].json["messages"]
        assert message == {"role": "user", "content": CLIENTS["Zed"]["prompt"]}


async def test_a_raw_prompt_without_markers_is_a_prompt():
    """Also for a model that fills."""
    wire = WIRES[2]
    async with Upstream() as upstream, running(config(upstream.url, wire)) as daemon:
        upstream.reply(wire.stream(Said("Hello")))
        await fill(daemon, prompt="[INST] Hi [/INST]", raw=True)
        [message] = upstream.requests[0].json["messages"]
    assert message == {"role": "user", "content": "[INST] Hi [/INST]"}


async def test_the_prompt_of_a_gap_can_be_looked_at():
    """`_debug_render_only` asks nobody."""
    async with Upstream() as upstream, running(config(upstream.url, WIRES[0])) as daemon:
        got = await fill(daemon, prompt="a", suffix="b", _debug_render_only=True)
        raw = await fill(daemon, **CLIENTS["Zed"], _debug_render_only=True)
        assert not upstream.requests
    shown = "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"
    assert got.json["_debug_info"] == {"rendered_template": shown}
    assert raw.json["_debug_info"] == {"rendered_template": CLIENTS["Zed"]["prompt"]}


# ------------------------------------------------------------------------- providers that fill by themselves


def completions(*texts, key="text", reason="stop", usage_alone=True):
    """A stream of `/completions`, or with `key="delta"` of Mistral's `/fim/completions`."""
    chunks = []
    for index, text in enumerate(texts):
        said = {"delta": {"content": text}} if key == "delta" else {"text": text}
        last = index == len(texts) - 1
        chunks.append({"choices": [{"index": 0, **said, "finish_reason": reason if last else None}]})
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    if usage_alone:
        chunks.append({"choices": [], "usage": usage})
    else:
        chunks[-1]["usage"] = usage
    return sse(*map(json.dumps, chunks), done=True)


def native(url, path):
    found = {
        "server": {"port": 0},
        "retry": {"max_retries": 0},
        "providers": {"acme": {"kind": "openai", "base_url": f"{url}/v1", "api_key": "k-test", "fim": path}},
        "models": [{"name": "m", "backend": "acme", "backend_model": "codestral-latest"}],
    }
    return Config.model_validate(found)


@pytest.mark.parametrize(
    ("path", "reply", "more"),
    [
        ("fim/completions", completions("return", " a", " + b", key="delta", usage_alone=False), {}),
        ("completions", completions("return", " a", " + b"), {"stream_options": {"include_usage": True}}),
    ],
)
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_native_endpoint_gets_the_gap_as_it_is(client, path, reply, more):
    """Prefix, suffix, limit, temperature and the stop words of the language first; what it writes is passed on."""
    async with Upstream() as upstream, running(native(upstream.url, path)) as daemon:
        upstream.reply(split_at_random(reply, seed=3))
        text, last = text_of(await fill(daemon, **CLIENTS[client]))
        [seen] = upstream.requests
    assert text == MIDDLE
    assert (last["prompt_eval_count"], last["eval_count"]) == (9, 3)
    assert (seen.path, seen.headers["authorization"]) == (f"/v1/{path}", "Bearer k-test")
    body = seen.json
    options = CLIENTS[client]["options"]
    stops = sorted(options.get("stop", ()), key=lambda word: "<" in word or "[" in word)
    before = {"ProxyAI with markers": "# b.py \nx = 1\n# a.py \n", "twinny": "\n"}.get(client, "")
    assert body == {
        "model": "codestral-latest",
        "prompt": before + PREFIX,
        "suffix": SUFFIX,
        "max_tokens": options["num_predict"],
        "temperature": options["temperature"],
        **({"stop": stops[:4]} if stops else {}),
        "stream": True,
        **more,
    }


async def test_a_native_endpoint_is_not_asked_for_chats():
    """The same provider answers both, each where it belongs; without a limit the middle is short here too."""
    async with Upstream() as upstream, running(native(upstream.url, "completions")) as daemon:
        upstream.reply(WIRES[2].stream(Said("Hello")))
        upstream.reply(completions("x"))
        assert text_of(await fill(daemon, prompt="Hi"))[0] == "Hello"
        assert text_of(await fill(daemon, prompt="a", suffix="b"))[0] == "x"
        chat, gap = upstream.requests
    assert [chat.path, gap.path] == ["/v1/chat/completions", "/v1/completions"]
    assert gap.json["max_tokens"] == DEFAULT_TOKENS


@pytest.mark.parametrize(
    ("script", "status", "words"),
    [
        ({"body": b'{"error":{"message":"no such model"}}', "status": 404}, 404, "no such model"),
        ({"body": b'{"message":"Unauthorized"}', "status": 401}, 502, "key"),
        ({"body": completions("x").split(b"\n\n")[0][:20], "then": "cut"}, 502, "cut off"),
        ({"body": completions("x", "y").split(b"\n\n")[0] + b"\n\n"}, 502, "ended before"),
        ({"body": sse('{"choices": [{"index": 0, "text": 5}]}')}, 502, "acme"),
        ({"body": sse('{"choices": 5}')}, 502, "acme"),
    ],
)
async def test_a_failing_native_endpoint_is_told_as_ever(script, status, words):
    """A status before the first word, whatever is wrong; never a traceback."""
    async with Upstream() as upstream, running(native(upstream.url, "completions")) as daemon:
        upstream.reply(**script)
        got = await ask(
            daemon.url, "POST", "/api/generate", {"model": "m", "prompt": "a", "suffix": "b", "stream": False}
        )
    assert got.status == status
    assert words in got.json["error"]


@pytest.mark.parametrize(
    ("base", "model", "url"),
    [
        ("https://api.mistral.ai/v1", "codestral-latest", "https://api.mistral.ai/v1/fim/completions"),
        ("https://codestral.mistral.ai/v1/", "codestral-2508", "https://codestral.mistral.ai/v1/fim/completions"),
        ("https://api.mistral.ai/v1", "mistral-large-latest", None),
        ("https://api.deepseek.com", "deepseek-chat", "https://api.deepseek.com/beta/completions"),
        ("https://api.deepseek.com/v1", "deepseek-v4-pro", "https://api.deepseek.com/beta/completions"),
        ("https://api.deepseek.com", "deepseek-reasoner", None),
        (None, "gpt-3.5-turbo-instruct", "https://api.openai.com/v1/completions"),
        (None, "gpt-4.1-mini", None),
        ("http://127.0.0.1:8000/v1", "codestral-latest", None),
    ],
)  # fmt: skip
def test_who_fills_is_known_by_the_host(base, model, url):
    """Mistral, DeepSeek and OpenAI's last completion model; anybody else only where the configuration says so."""
    settings = ProviderSettings("acme", "openai", base_url=base)
    assert fim.endpoint(settings, model) == url
    assert fim.fills(settings, model) == (url is not None)
    off = ProviderSettings("acme", "openai", base_url=base, fim="none")
    assert not fim.fills(off, model)
    on = ProviderSettings("acme", "openai", base_url=base, fim="completions")
    assert urlsplit(fim.endpoint(on, model)).path.endswith("/completions")


# --------------------------------------------------------------------------------------- a real Ollama behind


def den(url, **provider):
    found = {
        "server": {"port": 0},
        "providers": {"ollama": {"base_url": url, **provider}},
        "models": [{"name": "m", "backend": "ollama", "backend_model": "qwen2.5-coder:7b"}],
    }
    return Config.model_validate(found)


def ndjson(*lines):
    return b"".join(json.dumps({"model": "q", "created_at": "T", **line}).encode() + b"\n" for line in lines)


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": PREFIX, "suffix": SUFFIX},
        CLIENTS["Zed"],
        {"prompt": f"<fim_prefix>{PREFIX}<fim_suffix><fim_middle>"},
    ],
)
async def test_a_real_ollama_gets_the_gap_as_it_came(body):
    """On its own route: what a client of Ollama's asks, suffix or markers, is what that one is asked."""
    said = ndjson(
        {"response": "return a", "done": False},
        {"response": " + b", "done": False},
        {"response": "", "done": True, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 4},
    )
    async with Upstream() as upstream, running(den(upstream.url)) as daemon:
        upstream.reply(said, headers={"content-type": "application/x-ndjson"})
        text, last = text_of(await fill(daemon, **body))
        [seen] = upstream.requests
    assert text == MIDDLE
    assert last["eval_count"] == 4
    asked = {**body, "model": "qwen2.5-coder:7b", "stream": True}
    assert (seen.path, seen.json) == ("/api/generate", asked)


async def test_a_gap_in_openais_dialect_becomes_prefix_and_suffix():
    """There a real Ollama knows its models' markers."""
    said = ndjson({"response": MIDDLE, "done": True, "done_reason": "stop", "eval_count": 4})
    async with Upstream() as upstream, running(den(upstream.url)) as daemon:
        upstream.reply(said, headers={"content-type": "application/x-ndjson"})
        body = {"model": "m", "prompt": PREFIX, "suffix": SUFFIX}
        got = await ask(daemon.url, "POST", "/v1/completions", body)
        [seen] = upstream.requests
    assert got.json["choices"][0]["text"] == MIDDLE
    assert seen.path == "/api/generate"
    assert (seen.json["prompt"], seen.json["suffix"]) == (PREFIX, SUFFIX)


async def test_a_real_ollama_may_be_asked_by_chat():
    """`fim: none`, for a model that has learned no markers."""
    said = ndjson(
        {"message": {"role": "assistant", "content": f"```\n{MIDDLE}\n```"}, "done": False},
        {"message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"},
    )
    async with Upstream() as upstream, running(den(upstream.url, fim="none")) as daemon:
        upstream.reply(said, headers={"content-type": "application/x-ndjson"})
        assert text_of(await fill(daemon, prompt=PREFIX, suffix=SUFFIX))[0] == MIDDLE
        assert upstream.requests[0].path == "/api/chat"


# -------------------------------------------------------------------------------------------- who offers it


async def test_quick_models_offer_to_fill_and_slow_ones_do_not():
    """Continue looks for `.Suffix` in the template, koog reads `insert`; models that always think are not for it."""
    config = Config.model_validate({
        "server": {"port": 0},
        "providers": {"anthropic": {"api_key": "k"}},
        "models": [{"name": name, "backend": "anthropic"} for name in ("claude-haiku-5-5", "claude-opus-5-5")],
    })  # fmt: skip
    async with running(config) as daemon:
        shown = {
            name: (await ask(daemon.url, "POST", "/api/show", {"model": name})).json
            for name in ("claude-haiku-5-5", "claude-opus-5-5")
        }
    for name, fills in {"claude-haiku-5-5": True, "claude-opus-5-5": False}.items():
        assert ("insert" in shown[name]["capabilities"]) == fills
        assert (".Suffix" in shown[name]["template"]) == fills


async def test_a_reply_that_is_cut_off_is_no_middle():
    """What was certain is out; then comes the error, and no end."""
    wire = WIRES[0]
    whole = wire.stream(Said(MIDDLE))
    async with Upstream() as upstream, running(config(upstream.url, wire)) as daemon:
        upstream.reply(whole[: whole.index(b"message_delta") - 20], then="cut")
        reader, writer = await connect(daemon.url)
        writer.write(
            request(daemon.url, "POST", "/api/generate", {"model": "m", "prompt": PREFIX, "suffix": SUFFIX})
        )
        lines = (await answer(reader)).lines
        writer.close()
    assert "error" in lines[-1]
    assert not any(line.get("done") for line in lines)
    assert MIDDLE.startswith("".join(line.get("response", "") for line in lines))


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": f"<fim_prefix>{PREFIX}<fim_suffix>{SUFFIX}<fim_middle>"},
        {"prompt": PREFIX, "suffix": SUFFIX},
    ],
    ids=["markers", "suffix"],
)
async def test_openais_completions_fill_as_well(body):
    """`/v1/completions` knows both ways of asking, and answers with the middle alone."""
    wire = WIRES[0]
    async with Upstream() as upstream, running(config(upstream.url, wire)) as daemon:
        upstream.reply(wire.stream(Said(f"```python\n{MIDDLE}\n```")))
        got = await ask(daemon.url, "POST", "/v1/completions", {"model": "m", **body})
        assert got.json["choices"][0]["text"] == MIDDLE
        assert "<fim_prefix>" not in upstream.requests[0].body.decode()
