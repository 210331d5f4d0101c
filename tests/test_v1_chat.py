"""/v1 against the running daemon: OpenAI's own client over all four wires, and what editors really send."""

import asyncio
import json
from contextlib import asynccontextmanager

import openai
import pytest
import zstandard

from ollama_bridge.config import Config
from ollama_bridge.server import delivery
from running import ask, connect, request, running
from upstream import Upstream, split_at_random
from wires import WIRES, Said

PNG = "iVBORw0KGgo="
USER = [{"role": "user", "content": "hello"}]
CHAT = {"model": "m", "messages": USER}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
    },
}
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
OVERLOADED = b'{"error":{"type":"overloaded_error","message":"try later","code":503,"status":"UNAVAILABLE"}}'

every_wire = pytest.mark.parametrize("wire", WIRES, ids=lambda wire: wire.name)


@asynccontextmanager
async def served(*said, wire=WIRES[0], **extra):
    """The daemon, with one upstream that says `said`, one after the other, cut at random borders."""
    async with Upstream() as upstream:
        for number, one in enumerate(said):
            upstream.reply(split_at_random(wire.stream(one), seed=number))
        async with running(Config.model_validate(wire.config(upstream.url, **extra))) as daemon:
            yield daemon, upstream


@asynccontextmanager
async def client_of(daemon):
    async with openai.AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key="ollama", max_retries=0) as client:
        yield client


@asynccontextmanager
async def bridge(wire, *said):
    async with served(*said, wire=wire) as (daemon, upstream), client_of(daemon) as client:
        yield client, upstream


async def heard(stream):
    return [chunk async for chunk in stream]


def said_in(chunks, field="content"):
    deltas = (choice.delta for chunk in chunks for choice in chunk.choices)
    return "".join(getattr(delta, field, None) or "" for delta in deltas)


# ----------------------------------------------------------------------------- OpenAI's client, all wires


@every_wire
@pytest.mark.clients
async def test_lists_and_retrieves(wire):
    """What is on offer; the provider is not asked."""
    async with bridge(wire) as (client, upstream):
        (listed,) = (await client.models.list()).data
        found = await client.models.retrieve("m")
        with pytest.raises(openai.NotFoundError, match="model 'nope:latest' not found"):
            await client.models.retrieve("nope")
    assert (listed.id, found.id, found.owned_by) == ("m:latest", "m", "library")
    assert upstream.requests == []


@every_wire
@pytest.mark.clients
async def test_chats_streamed_and_whole(wire):
    """Both ways say the same, byte for byte, think the same and count the same."""
    words, thoughts = "Grüße, <b>world</b> & 你好 👩‍🚀!\n\tdone", "two and two"
    said = Said(words, thinking=thoughts)
    async with bridge(wire, said, said) as (client, _):
        usage = {"include_usage": True}
        chunks = await heard(
            await client.chat.completions.create(model="m", messages=USER, stream=True, stream_options=usage)
        )
        whole = await client.chat.completions.create(model="m", messages=USER)
    (choice,) = whole.choices
    assert said_in(chunks) == choice.message.content == words
    assert said_in(chunks, "reasoning") == choice.message.reasoning == thoughts
    assert chunks[-2].choices[0].finish_reason == choice.finish_reason == "stop"
    for told in (chunks[-1].usage, whole.usage):
        assert (told.prompt_tokens, told.completion_tokens, told.total_tokens) == (11, 7, 18)
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1


@every_wire
@pytest.mark.clients
async def test_tools_over_two_turns(wire):
    """Both calls come whole, and what they returned reaches the provider beside them."""
    calls = (("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Rom"}))
    async with bridge(wire, Said("Let me look.", calls=calls), Said("Cold.")) as (client, upstream):
        chunks = await heard(
            await client.chat.completions.create(model="m", messages=USER, tools=[WEATHER], stream=True)
        )
        asked = [
            call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()
        ]
        turn = {
            "role": "assistant",
            "content": said_in(chunks),
            "tool_calls": [call.model_dump(include={"id", "type", "function"}) for call in asked],
        }
        results = [
            {"role": "tool", "tool_call_id": call.id, "content": f"{number} degrees"}
            for number, call in enumerate(asked)
        ]
        second = await client.chat.completions.create(
            model="m", messages=[*USER, turn, *results], tools=[WEATHER]
        )
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert [(call.index, call.function.name, json.loads(call.function.arguments)) for call in asked] == [
        (0, "get_weather", {"city": "Oslo"}),
        (1, "get_weather", {"city": "Rom"}),
    ]
    assert len({call.id for call in asked}) == 2
    assert second.choices[0].message.content == "Cold."
    sent = upstream.requests[1].body.decode()
    for words in ("Let me look.", "Oslo", "Rom", "0 degrees", "1 degrees", "The weather of a city"):
        assert words in sent


@every_wire
@pytest.mark.clients
async def test_images_and_structured_output(wire):
    """The picture's bytes and the schema arrive."""
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
    ]
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
    async with bridge(wire, Said('{"n": 1}')) as (client, upstream):
        reply = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": parts}], response_format=wanted
        )
    assert json.loads(reply.choices[0].message.content) == {"n": 1}
    sent = upstream.requests[0].body.decode()
    for words in ("What is it?", PNG, '"integer"'):
        assert words in sent


@every_wire
@pytest.mark.clients
async def test_the_newer_limit_and_its_end(wire):
    """`max_completion_tokens` reaches the provider, and its limit comes back as `length`."""
    async with bridge(wire, Said("cut", ended="length")) as (client, upstream):
        reply = await client.chat.completions.create(
            model="m", messages=USER, max_tokens=11, max_completion_tokens=77
        )
    assert reply.choices[0].finish_reason == "length"
    assert "77" in upstream.requests[0].body.decode()


@every_wire
@pytest.mark.clients
async def test_a_choice_of_tools_reaches_the_provider(wire):
    """In its own words."""
    async with bridge(wire, Said("ok")) as (client, upstream):
        await client.chat.completions.create(
            model="m", messages=USER, tools=[WEATHER], tool_choice="required", reasoning_effort="none"
        )
    sent = upstream.requests[0].json
    assert {
        "anthropic": sent.get("tool_choice") == {"type": "any"},
        "responses": sent.get("tool_choice") == "required",
        "chat": sent.get("tool_choice") == "required",
        "google": sent.get("toolConfig") == {"functionCallingConfig": {"mode": "ANY"}},
    }[wire.name]


@every_wire
@pytest.mark.clients
@pytest.mark.parametrize("stream", [True, False])
async def test_a_failure_before_the_first_word_has_its_status(wire, stream):
    """The client raises the class that goes with it, and can read what happened and when to come back."""
    async with Upstream() as upstream:
        upstream.reply(
            OVERLOADED, status=503, headers={"retry-after": "7", "content-type": "application/json"}
        )
        async with (
            running(Config.model_validate(wire.config(upstream.url))) as daemon,
            client_of(daemon) as client,
        ):
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(model="m", messages=USER, stream=stream)
    assert caught.value.status_code == 503
    assert caught.value.type == "api_error"
    assert wire.model in caught.value.message
    assert caught.value.response.headers["retry-after"] == "7"


@every_wire
@pytest.mark.clients
async def test_a_failure_in_the_middle_is_raised(wire):
    """What was said before it arrives; that the answer is not whole cannot be overlooked."""
    whole = wire.stream(Said("Hello there"))
    async with Upstream() as upstream:
        upstream.reply([whole[: whole.index(b" ther")]], then="cut")
        async with (
            running(Config.model_validate(wire.config(upstream.url))) as daemon,
            client_of(daemon) as client,
        ):
            chunks = []
            with pytest.raises(openai.APIError) as caught:  # noqa: PT012 - what came before it is wanted
                async for chunk in await client.chat.completions.create(
                    model="m", messages=USER, stream=True
                ):
                    chunks.append(chunk)  # noqa: PERF401 - it fails on the way
    assert said_in(chunks) == "Hello"
    assert wire.model in caught.value.message


@every_wire
@pytest.mark.clients
async def test_completes_a_text(wire):
    """Streamed and whole."""
    async with bridge(wire, Said("once upon"), Said("once upon")) as (client, upstream):
        chunks = await heard(await client.completions.create(model="m", prompt="Tell:", stream=True))
        whole = await client.completions.create(model="m", prompt="Tell:", echo=True)
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == "once upon"
    assert whole.choices[0].text == "Tell:once upon"
    assert (chunks[-1].choices[0].finish_reason, whole.choices[0].finish_reason) == ("stop", "stop")
    assert whole.usage.total_tokens == 18
    assert "Tell:" in upstream.requests[0].body.decode()


# ------------------------------------------------------------------------------------ what editors send


async def test_the_four_calls_of_vs_code():
    """Version, list, model, and a chat over /v1 with an empty key."""
    async with served(Said("Hello")) as (daemon, _):
        version = await ask(daemon.url, "GET", "/api/version")
        (tag,) = (await ask(daemon.url, "GET", "/api/tags")).json["models"]
        shown = await ask(daemon.url, "POST", "/api/show", {"model": tag["model"]})
        body = {
            "model": tag["model"],
            "messages": USER,
            "stream": True,
            "stream_options": {"include_usage": True},
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "t", "parameters": {"type": "object", "properties": {}}},
                }
            ],
        }
        headers = {"Authorization": "Bearer ", "Content-Type": "application/json"}
        got = await ask(daemon.url, "POST", "/v1/chat/completions", body, headers)
    assert tuple(map(int, version.json["version"].split("."))) >= (0, 6, 4)
    assert {"tools", "vision"} <= set(shown.json["capabilities"])
    assert got.status == 200
    assert got.headers["Content-Type"] == "text/event-stream"
    *_, usage, done, rest = got.body.decode().split("\n\n")
    assert json.loads(usage.removeprefix("data: "))["choices"] == []
    assert (done, rest) == ("data: [DONE]", "")


async def test_opencodes_marks_reach_claude():
    """`cache_control` on messages becomes marks on their last blocks."""
    mark = {"type": "ephemeral"}
    body = {
        "model": "m",
        "max_tokens": 32000,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tool_choice": "auto",
        "tools": [WEATHER],
        "messages": [
            {"role": "system", "content": "You are opencode.", "cache_control": mark},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}], "cache_control": mark},
        ],
    }
    async with served(Said("Hello")) as (daemon, upstream):
        got = await ask(daemon.url, "POST", "/v1/chat/completions", body, {"x-session-id": "1"})
    assert got.status == 200
    sent = upstream.requests[0].json
    assert sent["system"] == [{"type": "text", "text": "You are opencode.", "cache_control": mark}]
    assert sent["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": mark}]}
    ]
    assert "tool_choice" not in sent


async def test_gooses_options_are_borne_with():
    """They stand where OpenAI has none."""
    async with served(Said("Hello")) as (daemon, _):
        got = await ask(daemon.url, "POST", "/v1/chat/completions", {**CHAT, "options": {"num_ctx": 32768}})
    assert got.json["choices"][0]["message"]["content"] == "Hello"


async def test_temperature_is_the_providers_own_unless_it_is_set():
    """A real server would send 1."""
    async with served(Said("a"), Said("b")) as (daemon, upstream):
        await ask(daemon.url, "POST", "/v1/chat/completions", CHAT)
        await ask(daemon.url, "POST", "/v1/chat/completions", {**CHAT, "temperature": 0.25})
    assert "temperature" not in upstream.requests[0].json
    assert upstream.requests[1].json["temperature"] == 0.25


# -------------------------------------------------------------------------------------------- the wire


async def test_every_write_holds_whole_events():
    """However the provider's bytes were cut."""
    async with served(Said("Hello there, world. " * 5, thinking="well")) as (daemon, _):
        reader, writer = await connect(daemon.url)
        writer.write(request(daemon.url, "POST", "/v1/chat/completions", {**CHAT, "stream": True}))
        await reader.readuntil(b"\r\n\r\n")
        written = []
        while size := int(await reader.readline(), 16):
            written.append(await reader.readexactly(size))
            await reader.readline()
        writer.close()
    assert len(written) > 1
    for one in written:
        assert one.startswith(b"data: ")
        assert one.endswith(b"\n\n")
    assert b"".join(written).endswith(b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')


async def test_a_silent_stream_shows_that_it_lives(monkeypatch):
    """By chunks without content, the first of which tells the role; the failure after them is an event."""
    monkeypatch.setattr(delivery, "FIRST_HEARTBEAT_S", 0.02)
    go_on = asyncio.Event()
    async with Upstream() as upstream:
        config = WIRES[0].config(upstream.url, streaming={"heartbeat_s": 0.02})
        async with running(Config.model_validate(config)) as daemon:
            upstream.reply(OVERLOADED, status=529, hold=go_on)
            reader, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/v1/chat/completions", {**CHAT, "stream": True}))
            beats = [await reader.readuntil(b"}]}\n\n") for _ in range(2)]
            go_on.set()
            told = await reader.readuntil(b"}}\n\n")
            end = await reader.readuntil(b"0\r\n\r\n")
            writer.close()
    assert b'"delta":{"role":"assistant","content":""}' in beats[0]
    assert b'"delta":{"content":""}' in beats[1]
    assert b'data: {"error":{"message":"' in told
    assert b"DONE" not in end


async def test_a_compressed_body():
    """Codex compresses by zstd; what is none is told in the envelope."""
    body = zstandard.ZstdCompressor().compress(json.dumps(CHAT).encode())
    zstd = {"Content-Encoding": "zstd"}
    async with served(Said("Hello")) as (daemon, _):
        got = await ask(daemon.url, "POST", "/v1/chat/completions", body, zstd)
        bad = await ask(daemon.url, "POST", "/v1/chat/completions", b"{}", zstd)
    assert got.json["choices"][0]["message"]["content"] == "Hello"
    assert (bad.status, list(bad.json["error"])) == (400, ["message", "type", "param", "code"])


async def test_no_prompt_loads_the_model():
    """It counts as used, and the provider is not asked."""
    async with served() as (daemon, upstream):
        got = await ask(daemon.url, "POST", "/v1/completions", {"model": "m"})
        streamed = await ask(daemon.url, "POST", "/v1/completions", {"model": "m", "stream": True})
        loaded = (await ask(daemon.url, "GET", "/api/ps")).json["models"]
    assert got.json["choices"] == [{"text": "", "index": 0, "finish_reason": "load"}]
    assert streamed.headers["Content-Type"] == "text/event-stream"
    assert streamed.body.endswith(b"data: [DONE]\n\n")
    assert [one["name"] for one in loaded] == ["m:latest"]
    assert upstream.requests == []


async def test_a_prompt_can_be_looked_at():
    """`_debug_render_only` of a completion; the provider is not asked."""
    async with served() as (daemon, upstream):
        body = {"model": "m", "prompt": "Hi", "_debug_render_only": True}
        got = await ask(daemon.url, "POST", "/v1/completions", body)
    assert got.json["choices"] == [{"text": "", "index": 0, "finish_reason": None}]
    assert "Hi" in got.json["_debug_info"]["rendered_template"]
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/v1/models", 405),
        ("POST", "/v1/models", 405),
        ("HEAD", "/v1/models/m", 405),
        ("GET", "/v1/chat/completions", 405),
        ("GET", "/v1/models/team/m", 404),
        ("GET", "/v1/zzz", 404),
    ],
)
async def test_what_there_is_not(method, path, status):
    """As on every path: plain text, and what is allowed."""
    async with served() as (daemon, _):
        got = await ask(daemon.url, method, path)
    assert got.status == status
    assert got.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize("name", ["m", "M:Latest", "library/m", "alias"])
async def test_a_model_by_any_of_its_names(name):
    """It answers under the one that was asked for; a slash is written as %2F."""
    (model,) = WIRES[0].config("")["models"]
    async with served(models=[{**model, "aliases": ["alias"]}]) as (daemon, _):
        got = await ask(daemon.url, "GET", f"/v1/models/{name.replace('/', '%2F')}")
    assert got.json["id"] == name
    assert list(got.json) == ["id", "object", "created", "owned_by"]


async def test_no_models_are_a_null():
    """As a real server has it."""
    async with served(models=[{"name": "m", "backend": "my-anthropic", "enabled": False}]) as (daemon, _):
        got = await ask(daemon.url, "GET", "/v1/models")
    assert got.body == b'{"object":"list","data":null}\n'


# ---------------------------------------------------------------------------------------------- bad input

TYPE = "json: cannot unmarshal "
BODIES = [
    (b"", "EOF"),
    (b" \n", "EOF"),
    (b"{", "unexpected EOF"),
    (b"not json", "invalid character 'o' in literal null (expecting 'u')"),
    (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
    (b"\xef\xbb\xbf{}", "invalid character 'ï' looking for beginning of value"),
    (b"\x1f\x8b", r"invalid character '\x1f' looking for beginning of value"),
    (b"[]", TYPE + "array into Go value of type openai.{struct}"),
    (b'"x"', TYPE + "string into Go value of type openai.{struct}"),
    (b'{"stream":"yes"}', TYPE + "string into Go struct field {struct}.stream of type bool"),
    (b'{"model":5}', TYPE + "number into Go struct field {struct}.model of type string"),
    (b'{"STREAM":5}', TYPE + "number into Go struct field {struct}.stream of type bool"),
]


@pytest.mark.parametrize(
    ("path", "struct"),
    [("/v1/chat/completions", "ChatCompletionRequest"), ("/v1/completions", "CompletionRequest")],
)
async def test_bodies_that_are_none(path, struct, subtests):
    """Go's words in OpenAI's envelope; nobody is asked."""
    async with served() as (daemon, upstream):
        for body, words in BODIES:
            with subtests.test(body):
                got = await ask(daemon.url, "POST", path, body)
                assert got.status == 400
                assert got.headers["Content-Type"] == "application/json; charset=utf-8"
                message = words.format(struct=struct) if words.startswith(TYPE) else words
                envelope = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
                assert got.json == {"error": envelope}
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/chat/completions", "null", 400, "[] is too short - 'messages'"),
        ("/v1/completions", "null", 404, "model '' not found"),
        ("/v1/completions", '{"model":"nope","prompt":"x"}', 404, "model 'nope' not found"),
        ("/v1/completions", '{"model":"m","prompt":"x","suffix":"y"}', 400, "registry.ollama.ai/library/m:latest does not support insert"),
        ("/v1/chat/completions", '{"model":"m","messages":[{"role":"user","content":"x"}],"options":{"num_ctx":"8k"}}', 500, 'option "num_ctx" must be of type integer'),
    ],
)  # fmt: skip
async def test_what_the_native_handler_would_find(path, body, status, words):
    """Without a charset and with a line end, as a real server passes it on."""
    async with served() as (daemon, _):
        got = await ask(daemon.url, "POST", path, body)
    assert (got.status, got.json["error"]["message"]) == (status, words)
    if body != "null" or status == 404:
        assert got.headers["Content-Type"] == "application/json"
        assert got.body.endswith(b"\n")


async def test_a_body_with_something_behind_it_and_any_content_type():
    """Only the first value counts, keys match whatever their case, nulls are nothing."""
    body = (
        '{"MODEL":"m","Messages":[{"ROLE":"user","content":"x"}],"stream":null,"tools":null,"stop":null} junk'
    )
    async with served(Said("Hello")) as (daemon, _):
        got = await ask(daemon.url, "POST", "/v1/chat/completions", body, {"Content-Type": "text/plain"})
    assert got.json["choices"][0]["message"]["content"] == "Hello"


async def test_a_body_that_is_too_large():
    """413, in the envelope."""
    async with served(server={"port": 0, "max_body_bytes": 2000}) as (daemon, _):
        got = await ask(daemon.url, "POST", "/v1/chat/completions", b" " * 3000)
    assert (got.status, got.json["error"]["type"]) == (413, "api_error")


async def test_a_client_that_leaves_ends_the_call():
    """The provider's connection is closed."""
    async with served() as (daemon, upstream):
        upstream.reply(b"", hold=asyncio.Event())
        _, writer = await connect(daemon.url)
        writer.write(request(daemon.url, "POST", "/v1/chat/completions", {**CHAT, "stream": True}))
        await asyncio.wait_for(upstream.asked.wait(), 5)
        writer.close()
        await asyncio.wait_for(upstream.closed_early.wait(), 5)


async def test_nobody_listens():
    """A transcription is refused in words, and before that whatever is no form, in a real server's."""
    async with served() as (daemon, upstream):
        path = "/v1/audio/transcriptions"
        none = await ask(daemon.url, "POST", path, {})
        client = openai.AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.BadRequestError, match="no provider is asked to listen"):
            await client.audio.transcriptions.create(model="m", file=("a.wav", b"RIFF"))
        await client.close()
        assert not upstream.requests
    assert none.status == 400
    assert none.json["error"] == {
        "message": "failed to parse multipart form: request Content-Type isn't multipart/form-data",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
