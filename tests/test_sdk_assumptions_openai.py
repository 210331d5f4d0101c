"""What the bridge assumes of the openai SDK. A failure here says which floor of ours has moved."""

import inspect
from typing import get_args

import openai
from openai._models import FinalRequestOptions
from openai.types.chat.chat_completion_chunk import Choice
from openai.types.shared import ReasoningEffort

from ollama_bridge.backends import SDK_ENVIRONMENT
from ollama_bridge.backends.openai import _SignedClient
from ollama_bridge.backends.openai_chat import FINISH_REASONS
from ollama_bridge.backends.vendors import OPENAI_URL
from ollama_bridge.chat import Effort


def test_the_verb_for_undocumented_endpoints():
    """`post` takes our bytes and gives us a stream, with options that switch its retries off."""
    parameters = inspect.signature(openai.AsyncOpenAI.post).parameters
    assert {"path", "cast_to", "content", "options", "stream", "stream_cls"} <= set(parameters)


async def test_a_stream_shows_its_response(monkeypatch):
    """`AsyncStream.response` is what we read from, and `async with` closes it."""
    assert "response" in openai.AsyncStream.__annotations__
    assert {"__aenter__", "__aexit__"} <= set(dir(openai.AsyncStream))


def test_the_address_is_the_sdks(monkeypatch):
    """Where we ask when nothing else is said."""
    client = openai.AsyncOpenAI(api_key="k")
    assert str(client.base_url).rstrip("/") == OPENAI_URL


def test_all_variables_it_reads_are_hidden():
    """Whatever `OPENAI_*` the client's constructor names is in the list that is hidden from it."""
    words = inspect.getdoc(openai.AsyncOpenAI.__init__).split("`")
    named = {word for word in words if word.startswith("OPENAI_")}
    assert named
    assert named <= set(SDK_ENVIRONMENT)


def test_the_finish_reasons():
    """Each of OpenAI's has its place in the table."""
    literal, _ = get_args(Choice.model_fields["finish_reason"].annotation)
    assert set(get_args(literal)) <= set(FINISH_REASONS)


def test_the_efforts():
    """The words for how hard to think, weakest first, are OpenAI's."""
    literal, _ = get_args(ReasoningEffort)
    assert get_args(literal) == get_args(Effort)


async def test_its_key_is_added_where_we_leave_it_out():
    """`_auth_headers` and `_validate_headers` are what `_SignedClient` takes out: Azure is sent no `Authorization`."""
    for name in ("_auth_headers", "_validate_headers"):
        assert inspect.isfunction(getattr(openai.AsyncOpenAI, name))
    client = _SignedClient(api_key="k")
    built = client._build_headers(FinalRequestOptions.construct(method="post", url="/x"))
    assert "authorization" not in built
    plain = openai.AsyncOpenAI(api_key="k")
    built = plain._build_headers(FinalRequestOptions.construct(method="post", url="/x"))
    assert built["authorization"] == "Bearer k"
