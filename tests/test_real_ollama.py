"""A real Ollama behind the bridge: what it is asked, and what it answers, come through unchanged."""

import json
import math
import random

import pytest

from ollama_bridge.chat import ChatRequest, Message
from ollama_bridge.config import Config
from real_ollama import BRAND_NEW, JSON, NDJSON, RealOllama, behind, line
from running import ask, connect, request, running
from shared import SHARED
from upstream import Upstream

USER = [{"role": "user", "content": "Grüße <b>", "brand_new": BRAND_NEW}]
LAST = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 5589157167,
    "load_duration": 3013701500,
    "prompt_eval_count": 46,
    "prompt_eval_duration": 1160282000,
    "eval_count": 113,
    "eval_duration": 1325948000,
}
SAID = [
    line(message={"role": "assistant", "content": "", "thinking": "Hm "}, done=False),
    line(message={"role": "assistant", "content": "Hel", "brand_new": BRAND_NEW}, done=False),
    line(message={"role": "assistant", "content": "lo", "thinking": "?"}, done=False, brand_new=[1.50]),
    line(message={"role": "assistant", "content": ""}, done=False, logprobs=[{"token": "x", "logprob": -1}]),
    line(message={"role": "assistant", "content": "", "brand_new": 1}, done=False),
    line(
        message={
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "call_1", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}, "new": 1},
                {"function": {"name": "g", "arguments": {}}},
            ],
        },
        done=False,
    ),
    line(message={"role": "assistant", "content": "!"}, remote_model="x", brand_new=BRAND_NEW, **LAST),
]


def loaded(lines):
    return [json.loads(one) for one in b"".join(lines).split(b"\n") if one]


@pytest.fixture
async def real():
    async with RealOllama("qwen3:4b", "plain:latest") as server:
        yield server


@pytest.fixture
async def url(real, tmp_path):
    async with behind(real, tmp_path) as address:
        yield address


# ------------------------------------------------------------------------------------------------- what it is asked

CHAT = {
    "model": "qwen3:4b",
    "messages": USER,
    "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "$new": 1}}},
        {"type": "brand_new", "brand_new": BRAND_NEW},
    ],
    "think": "high",
    "format": {"type": "object"},
    "options": {"temperature": 0, "num_ctx": 8192, "brand_new": BRAND_NEW},
    "keep_alive": "1h",
    "truncate": False,
    "shift": False,
    "logprobs": True,
    "top_logprobs": 3,
    "brand_new": BRAND_NEW,
}
GENERATE = {
    "model": "qwen3:4b",
    "prompt": "def f(",
    "suffix": "return 1",
    "system": "S",
    "template": "{{ .Prompt }}{{ .Suffix }}",
    "context": [1, 2, 3],
    "images": ["iVBORw0KGgo="],
    "width": 512,
    "height": 512,
    "steps": 20,
    "brand_new": BRAND_NEW,
}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", CHAT),
        ("/api/generate", GENERATE),
        ("/api/generate", {"model": "qwen3:4b", "prompt": "<fim_prefix>a<fim_suffix>b<fim_middle>", "raw": True}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [True, False, None])
async def test_a_question_arrives_as_it_was_sent(real, url, path, body, stream):
    """By its own route, with all that nobody here knows; only that the answer is to be streamed is said anew."""
    real.lines = SAID
    await ask(url, "POST", path, body | ({} if stream is None else {"stream": stream}))
    (asked,) = real.questions(path)
    assert asked.json == body | {"stream": True}
    assert [one.path for one in real.asked if one.path in {"/api/chat", "/api/generate"}] == [path]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [("qwen3:4b", "qwen3:4b"), ("QWEN3:4B", "qwen3:4b"), ("plain", "plain"), ("PLAIN", "plain:latest"),
     ("library/plain", "plain:latest"), ("plain:latest", "plain:latest")],
)  # fmt: skip
async def test_a_model_is_asked_for_by_a_name_that_it_knows(real, url, asked, sent):
    """As the client calls it where that Ollama would know it so; and the client reads the name it has used."""
    real.lines = [one.replace(b'"qwen3:4b"', json.dumps(sent).encode()) for one in SAID]
    got = await ask(url, "POST", "/api/chat", {"MODEL": asked, "messages": USER, "Stream": None})
    (question,) = real.questions("/api/chat")
    assert question.json == {"model": sent, "messages": USER, "stream": True}
    assert got.lines == [one | {"model": asked} for one in loaded(real.lines)]


async def test_a_preset_of_options_comes_in_beside_the_clients(real, tmp_path):
    """The rest of the question stays as it was sent; the client's own value wins."""
    own = {"name": "mine", "backend": "ollama", "backend_model": "qwen3:4b"}
    preset = {"parameters": {"num_ctx": 32768, "temperature": 1}}
    async with behind(real, tmp_path, models=[own | preset]) as url:
        real.lines = SAID
        got = await ask(url, "POST", "/api/chat", CHAT | {"model": "mine"})
    (asked,) = real.questions("/api/chat")
    options = {"num_ctx": 8192, "temperature": 0, "brand_new": BRAND_NEW}
    assert asked.json == CHAT | {"stream": True, "options": options}
    assert got.lines == [one | {"model": "mine"} for one in loaded(SAID)]


async def test_a_conversation_that_the_bridge_changed_is_put_anew(real, tmp_path):
    """With a system prompt of the configuration's the client's own body would be another question."""
    own = {"name": "mine", "backend": "ollama", "backend_model": "qwen3:4b", "system": "Be brief."}
    async with behind(real, tmp_path, models=[own]) as url:
        real.lines = SAID
        chat = await ask(url, "POST", "/api/chat", {"model": "mine", "messages": USER, "brand_new": 1})
        generate = await ask(url, "POST", "/api/generate", {"model": "mine", "prompt": "Hi", "brand_new": 1})
    system = {"role": "system", "content": "Be brief."}
    first, second = real.questions("/api/chat")
    assert first.json["messages"] == [system, {"role": "user", "content": "Grüße <b>"}]
    assert second.json["messages"] == [system, {"role": "user", "content": "Hi"}]
    assert "brand_new" not in first.json | second.json
    assert "".join(one["message"]["content"] for one in chat.lines) == "Hello!"
    assert "".join(one["response"] for one in generate.lines) == "Hello!"
    assert not any("brand_new" in one for one in chat.lines + generate.lines)


async def test_a_context_of_ours_is_no_context_of_its_own(real, url):
    """What carries on a conversation with the bridge's own model would be nonsense there: it becomes messages."""
    first = await ask(url, "POST", "/api/generate", {"model": "demo", "prompt": "Hi", "stream": False})
    real.lines = SAID
    body = {"model": "qwen3:4b", "prompt": "And?", "context": first.json["context"]}
    await ask(url, "POST", "/api/generate", body)
    (asked,) = real.questions("/api/chat")
    assert [message["role"] for message in asked.json["messages"]] == ["user", "assistant", "user"]
    assert not real.questions("/api/generate")


async def test_other_wires_ask_it_in_ours(real, url):
    """A client of OpenAI's or Anthropic's wire sends nothing that Ollama would understand as it is."""
    real.lines = SAID
    got = await ask(url, "POST", "/v1/chat/completions", {"model": "qwen3:4b", "messages": USER[:1], "n": 1})
    message = got.json["choices"][0]["message"]
    assert (message["content"], message["reasoning"]) == ("Hello!", "Hm ?")
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["f", "g"]
    (asked,) = real.questions("/api/chat")
    assert asked.json.keys() == {"model", "messages", "stream"}


def test_a_question_does_not_show_what_was_sent():
    """Prompts do not reach logs by way of a repr."""
    from ollama_bridge.native import Native

    question = ChatRequest("m", (Message("user", "x"),), native=Native("chat", {"prompt": "s3cret"}))
    assert "s3cret" not in repr(question)
    assert question == ChatRequest("m", (Message("user", "x"),))


# --------------------------------------------------------------------------------------------------- what it answers


async def test_an_answer_comes_line_by_line_as_it_was_sent(real, url):
    """Each line, whatever is in it, to the byte but for the model's name; and none besides."""
    real.lines = SAID
    got = await ask(url, "POST", "/api/chat", {"model": "QWEN3:4b", "messages": USER})
    assert (got.status, got.headers["Content-Type"]) == (200, NDJSON)
    assert got.body == b"".join(SAID).replace(b'"model":"qwen3:4b"', b'"model":"QWEN3:4b"')


async def test_an_answer_in_one_piece_has_all_of_it(real, url):
    """Texts, calls and log probabilities put together, as a real server does, and of all else the last."""
    real.lines = SAID
    got = await ask(url, "POST", "/api/chat", {"model": "qwen3:4b", "messages": USER, "stream": False})
    calls = json.loads(SAID[5])["message"]["tool_calls"]
    assert (got.status, got.headers["Content-Type"]) == (200, JSON)
    assert got.json == {
        **json.loads(SAID[-1]),
        "message": {
            "role": "assistant",
            "content": "Hello!",
            "thinking": "Hm ?",
            "tool_calls": calls,
            "brand_new": 1,
        },
        "logprobs": [{"token": "x", "logprob": -1}],
    }


@pytest.mark.parametrize("stream", [True, False])
async def test_steps_on_the_way_to_an_image_are_told(real, url, stream):
    """Lines without a word of text come at once, and the image with the last of them."""
    steps = [line(response="", done=False, completed=step, total=3) for step in (1, 2, 3)]
    real.lines = [*steps, line(response="", image="aW1hZ2U=", **LAST)]
    body = {"model": "qwen3:4b", "prompt": "a cat", "width": 64, "stream": stream}
    got = await ask(url, "POST", "/api/generate", body)
    if stream:
        assert got.lines == loaded(real.lines)
    else:
        assert got.json == json.loads(real.lines[-1]) | {"completed": 3, "total": 3}


@pytest.mark.parametrize("stream", [True, False])
async def test_its_own_context_returns_to_it(real, url, stream):
    real.lines = [line(response="Hi", done=False), line(response="", context=[9, 8, 7], **LAST)]
    body = {"model": "qwen3:4b", "prompt": "Hi", "stream": stream}
    got = await ask(url, "POST", "/api/generate", body)
    end = got.lines[-1] if stream else got.json
    assert end["context"] == [9, 8, 7]
    assert end["eval_duration"] == LAST["eval_duration"]
    await ask(url, "POST", "/api/generate", body | {"context": end["context"]})
    assert real.questions("/api/generate")[-1].json["context"] == [9, 8, 7]


@pytest.mark.parametrize(
    "odd", [b' {"done":false,"message":{"content":"x"},"model":"qwen3:4b"}\n', b'{"done":false}\r\n\n']
)
async def test_lines_written_in_another_way(real, url, odd):
    """The model's name need not come first, nor at all; blank lines are no lines."""
    real.lines = [odd, SAID[-1]]
    got = await ask(url, "POST", "/api/chat", {"model": "QWEN3:4b", "messages": USER})
    assert got.lines == [one | {"model": "QWEN3:4b"} for one in loaded([odd.strip(), b"\n", SAID[-1]])]


@pytest.mark.parametrize("chunk_size", [1, 2])
async def test_even_steps_lose_nothing(real, tmp_path, chunk_size):
    """Lines of nothing but text are cut anew; whatever says more comes once, as it was."""
    plain = [line(message={"role": "assistant", "content": "one two three four "}, done=False)]
    real.lines = plain + SAID
    async with behind(real, tmp_path, streaming={"chunk_size": chunk_size}) as url:
        got = await ask(url, "POST", "/api/chat", {"model": "qwen3:4b", "messages": USER})
    text = "".join(one["message"]["content"] for one in got.lines)
    assert text == "one two three four Hello!"
    assert len(got.lines) == len(SAID) + math.ceil(4 / chunk_size)
    assert [one for one in got.lines if one in loaded(SAID[1:])] == loaded(SAID[1:])


async def test_long_silence_is_its_own(real, tmp_path):
    """A real server sends no sign of life while it loads a model, and what then fails still has its status."""
    real.refusal = (500, JSON, b'{"error":"model requires more system memory (9 GiB) than is available"}')
    async with behind(real, tmp_path, streaming={"heartbeat_s": 0.01}) as url:
        got = await ask(url, "POST", "/api/chat", {"model": "qwen3:4b", "messages": USER})
    assert (got.status, got.body) == (500, real.refusal[2])
    assert len(real.questions("/api/chat")) == 1, "it is about this very request, and not asked again"


# ------------------------------------------------------------------------------------------------------- its errors


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (400, JSON, b'{"error":"registry.ollama.ai/library/qwen3:4b does not support tools"}'),
        (404, JSON, b'{"error":"model \'qwen3:4b\' not found","brand_new":1}'),
        (500, JSON, b'{"error":"template: :1: unclosed action"}'),
        (500, "application/json", b'{"error":"model runner has unexpectedly stopped"}'),
        (503, JSON, b'{"error":"server busy, please try again.  maximum pending requests exceeded"}'),
        (401, JSON, b'{"error":"unauthorized","signin_url":"https://ollama.com/connect?name=x"}'),
        (429, JSON, b'{"StatusCode":429,"Status":"429 Too Many Requests","error":"usage limit"}'),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("path", "more"),
    [("/api/chat", {"messages": USER}), ("/api/generate", {"prompt": "Hi"}), ("/api/embed", {"input": "Hi"})],
)
async def test_an_error_is_told_as_it_was(real, url, path, more, stream, status, content_type, body):
    """Status, content type and words are that Ollama's own."""
    real.refusal = (status, content_type, body)
    got = await ask(url, "POST", path, {"model": "qwen3:4b", "stream": stream} | more)
    assert (got.status, got.headers["Content-Type"], got.body) == (status, content_type, body)


async def test_an_error_on_another_wire_is_told_in_that_ones_way(real, url):
    real.refusal = (400, JSON, b'{"error":"\\"qwen3:4b\\" does not support thinking"}')
    got = await ask(url, "POST", "/v1/chat/completions", {"model": "qwen3:4b", "messages": USER[:1]})
    assert (got.status, got.json["error"]["type"]) == (400, "invalid_request_error")
    assert "does not support thinking" in got.json["error"]["message"]


async def test_a_key_that_is_refused_is_ours(real, tmp_path):
    """Who brings a key to ollama.com is told that it is wrong; a 401 would have the command line ask to sign in."""
    real.refusal = (401, JSON, b'{"error": "unauthorized"}')
    async with behind(real, tmp_path, ollama={"api_key": "s3cret-s3cret"}) as url:
        got = await ask(url, "POST", "/api/chat", {"model": "qwen3:4b", "messages": USER})
    assert got.status == 502
    assert "OLLAMA_API_KEY" in got.json["error"]
    assert {one.headers.get("Authorization") for one in real.asked} == {"Bearer s3cret-s3cret"}


@pytest.mark.parametrize("end", [b"\n", b""])
async def test_an_error_in_the_middle_is_the_last_line(real, url, end):
    """Under status 200, as it was sent, and nothing behind it."""
    failure = b'{"error":"an error was encountered while running the model: boom","brand_new":1}' + end
    real.lines = [*SAID[:2], failure]
    got = await ask(url, "POST", "/api/chat", {"model": "qwen3:4b", "messages": USER})
    assert (got.status, got.lines) == (200, loaded(real.lines))
    whole = await ask(url, "POST", "/api/chat", {"model": "qwen3:4b", "messages": USER, "stream": False})
    assert (whole.status, whole.json) == (500, json.loads(failure))


async def test_half_an_answer_is_none(real, url):
    real.lines = SAID[:3]
    got = await ask(url, "POST", "/api/chat", {"model": "qwen3:4b", "messages": USER})
    assert got.lines[:-1] == loaded(SAID[:3])
    assert "ended before the answer was complete" in got.lines[-1]["error"]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_breaks_off_can_be_gone_on_with(stream):
    """What was said stays as it was; the rest is another question, put in the bridge's own words, and told in them."""
    first = line(message={"role": "assistant", "content": "The answer "}, done=False, brand_new=1)
    rest = line(message={"role": "assistant", "content": "is 42."}, done=False, brand_new=2)
    model = {"name": "m", "backend": "ollama", "backend_model": "qwen3:4b", "resume": True}
    async with Upstream() as upstream:
        config = {
            "server": {"port": 0},
            "providers": {"ollama": {"base_url": upstream.url}},
            "models": [model],
        }
        kind = {"content-type": NDJSON}
        upstream.reply(first, headers=kind, then="cut")
        upstream.reply(rest + SAID[-1].replace(b"!", b""), headers=kind)
        async with running(Config.model_validate(config)) as daemon:
            body = {"model": "m", "messages": USER, "stream": stream, "brand_new": 1}
            got = await ask(daemon.url, "POST", "/api/chat", body)
        one, two = upstream.requests
    assert one.json == body | {"model": "qwen3:4b", "stream": True}
    if not stream:  # nobody has seen any of it: it is begun anew
        assert (two.json, got.json["message"]["content"]) == (one.json, "is 42.")
        return
    assert "brand_new" not in two.json
    assert two.json["messages"][1] == {"role": "assistant", "content": "The answer "}
    assert got.lines[0] == json.loads(first) | {"model": "m"}
    assert "".join(piece["message"]["content"] for piece in got.lines) == "The answer is 42."
    assert not any("brand_new" in piece for piece in got.lines[1:])
    assert got.lines[-1]["done"] is True


async def test_somebody_else_may_answer_for_it(real, tmp_path):
    """A fallback's answer says whose it is; what fails everywhere names all who were asked."""
    own = {"name": "mine", "backend": "ollama", "backend_model": "qwen3:4b", "fallbacks": ["demo"]}
    other = {"name": "other", "backend": "ollama", "backend_model": "plain", "fallbacks": ["qwen"]}
    third = {"name": "qwen", "backend": "ollama", "backend_model": "qwen3:4b"}
    real.refusal = (503, JSON, b'{"error":"server busy"}')
    async with behind(real, tmp_path, models=[own, other, third]) as url:
        got = await ask(url, "POST", "/api/chat", {"model": "mine", "messages": USER})
        none = await ask(url, "POST", "/api/chat", {"model": "other", "messages": USER})
        real.refusal, real.lines = None, SAID
        first = await ask(url, "POST", "/api/chat", {"model": "mine", "messages": USER})
    assert got.lines[-1]["answered_by"] == "demo:latest"
    assert "(asked in turn: other:latest, qwen:latest)" in none.json["error"]
    assert first.lines == [one | {"model": "mine"} for one in loaded(SAID)]


# -------------------------------------------------------------------------------------------- loading, and rendering


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"messages": [], "keep_alive": "30m", "brand_new": 1}),
        ("/api/chat", {"keep_alive": 0}),
        ("/api/generate", {"keep_alive": -1, "stream": True}),
        ("/api/generate", {"prompt": "x", "_debug_render_only": True}),
        ("/api/embed", {"input": []}),
        ("/api/embeddings", {"prompt": "", "keep_alive": "1m"}),
    ],
)
async def test_a_model_is_loaded_where_it_is(real, url, path, body):
    """Loading, unloading and rendering are that Ollama's business, and so is what they come to."""
    real.reply = b'{"model":"plain","created_at":"x","done":true,"done_reason":"load","brand_new":[1]}'
    got = await ask(url, "POST", path, {"model": "plain"} | body)
    (asked,) = real.questions(path)
    assert asked.json == {"model": "plain"} | body
    assert (got.status, got.headers["Content-Type"], got.json) == (200, JSON, json.loads(real.reply))


# --------------------------------------------------------------------------------------------------------- embedding


@pytest.mark.parametrize("number", [1, 3, 600])
async def test_vectors_are_as_they_were_sent(real, url, number):
    """To the last digit, with all that comes with them; and all texts are sent at once."""
    vector = [0.010071029, -0.0017594862, 0.05007221]
    found = {"model": "qwen3:4b", "embeddings": [vector] * number, "total_duration": 14143917}
    real.reply = json.dumps(found | {"prompt_eval_count": 8, "brand_new": BRAND_NEW}).encode()
    body = {"model": "qwen3:4b", "input": ["Hi"] * number, "dimensions": 2, "brand_new": BRAND_NEW}
    got = await ask(url, "POST", "/api/embed", body)
    assert got.json == json.loads(real.reply)
    (asked,) = real.questions("/api/embed")
    assert asked.json == body


async def test_the_older_route_is_asked_by_the_older_route(real, url):
    """Whose vectors are not of unit length."""
    real.reply = b'{"embedding":[0.6, 12.25, -3],"brand_new":1}'
    got = await ask(url, "POST", "/api/embeddings", {"model": "plain", "prompt": "Hi", "input": "no"})
    assert got.json == json.loads(real.reply)
    assert real.questions("/api/embeddings")[0].json == {"model": "plain", "prompt": "Hi", "input": "no"}


async def test_routes_of_different_wires_do_not_share_an_answer(real, tmp_path):
    """One text, asked for at one moment by three routes, is three questions, for its answers differ."""
    real.reply = b'{"model":"plain","embedding":[3, 4],"embeddings":[[0.6, 0.8]]}'
    async with behind(real, tmp_path, cache={"enabled": True}) as url:
        older = await ask(url, "POST", "/api/embeddings", {"model": "plain", "prompt": "Hi"})
        newer = await ask(url, "POST", "/api/embed", {"model": "plain", "input": "Hi"})
        other = await ask(url, "POST", "/v1/embeddings", {"model": "plain", "input": "Hi"})
    assert older.json["embedding"] == [3, 4]
    assert newer.json["embeddings"] == [[0.6, 0.8]]
    assert other.json["data"][0]["embedding"] == [0.6, 0.8]
    assert len(real.questions("/api/embed") + real.questions("/api/embeddings")) == 3


async def test_what_nobody_here_knows_is_part_of_the_question(real, tmp_path):
    """A kept answer is for who asks the same in all, known or not; it is told with our own times and counts."""
    real.lines = [line(response="Hi", done=False), line(response="", context=[1], **LAST)]
    body = {"model": "qwen3:4b", "prompt": "Hi", "options": {"temperature": 0}}
    async with behind(real, tmp_path, cache={"enabled": True}) as url:
        await ask(url, "POST", "/api/generate", body)
        await ask(url, "POST", "/api/generate", body | {"context": [1]})
        again = await ask(url, "POST", "/api/generate", body)
    assert len(real.questions("/api/generate")) == 2
    assert "".join(one["response"] for one in again.lines) == "Hi"
    assert again.lines[-1]["total_duration"] != LAST["total_duration"]


async def test_what_only_its_wire_can_say_is_not_kept(real, tmp_path):
    real.lines = [line(response="Hi", done=False, brand_new=1), line(response="", **LAST)]
    body = {"model": "qwen3:4b", "prompt": "Hi", "options": {"temperature": 0}}
    async with behind(real, tmp_path, cache={"enabled": True}) as url:
        for _ in range(2):
            got = await ask(url, "POST", "/api/generate", body)
            assert got.lines == loaded(real.lines)


# ------------------------------------------------------------------------------------------------------------ leaving


async def test_who_leaves_ends_the_work(real, url):
    """A client that hangs up in the middle of an answer frees that Ollama."""
    import asyncio

    real.lines, real.hold = SAID, asyncio.Event()
    reader, writer = await connect(url)
    writer.write(request(url, "POST", "/api/chat", {"model": "qwen3:4b", "messages": USER}))
    await reader.readuntil(b"Hm ")
    writer.close()
    await asyncio.wait_for(real.left.wait(), 10)


# --------------------------------------------------------------------------------------------------------- recordings


def recordings(kind):
    folder = SHARED and SHARED / "recordings"
    return sorted(folder.glob(f"ollama*/native-{kind}-*.json")) if folder and folder.is_dir() else []


@pytest.mark.parametrize(
    "path", [*recordings("chat-stream"), *recordings("generate-stream")], ids=lambda path: path.stem
)
async def test_a_recorded_stream_comes_through(path, tmp_path):
    """What real servers sent from 2024 to 2026, ollama.com among them, line by line; cut at random borders."""
    found = json.loads(path.read_text())
    model, body = found["model"] or "x", found["response"]["body"].encode()
    route = "/api/chat" if "-chat-" in path.name else "/api/generate"
    rng = random.Random(path.name)
    cuts = sorted(rng.sample(range(1, len(body)), min(30, len(body) - 1)))
    async with RealOllama(model) as real, behind(real, tmp_path) as url:
        real.lines = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        got = await ask(url, "POST", route, {"model": model, "messages": USER, "prompt": "?"})
    lines = loaded([body])
    if lines[0].get("error"):
        assert (got.status, got.json) == (500, lines[0])
    else:
        assert got.lines == lines


@pytest.mark.parametrize(
    "path", [*recordings("embed-once"), *recordings("embeddings-once")], ids=lambda path: path.stem
)
async def test_recorded_vectors_come_through(path, tmp_path):
    found = json.loads(path.read_text())
    reply = found["response"]["body"]
    reply = json.dumps(reply) if isinstance(reply, dict) else reply
    route = "/api/embeddings" if "-embeddings-" in path.name else "/api/embed"
    number = len(json.loads(reply).get("embeddings", [0]))
    async with RealOllama("m:latest") as real, behind(real, tmp_path) as url:
        real.reply = reply.encode()
        got = await ask(url, "POST", route, {"model": "m", "input": ["?"] * number, "prompt": "?"})
    assert got.json | {"model": 0} == json.loads(reply) | {"model": 0}
