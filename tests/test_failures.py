"""Everything that goes wrong with a provider becomes the right one of our errors."""

import json

import aiohttp
import anthropic
import httpx2
import openai
import orjson
import pytest

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.failures import Failures, clean
from ollama_bridge.backends.sse import EventTooLarge
from ollama_bridge.chat import ChatRequest, Target
from ollama_bridge.errors import (
    ContextOverflow,
    UpstreamBroken,
    UpstreamBusy,
    UpstreamError,
    UpstreamRejected,
    UpstreamUnreachable,
)

SETTINGS = ProviderSettings("acme", "anthropic", ("sk-secret",), "https://me:pass@acme.example/v1")


def failures(sdk_error=anthropic.AnthropicError):
    return Failures(SETTINGS, "https://default.example", "ACME_API_KEY", sdk_error)


def tree(base):
    return {base}.union(*map(tree, base.__subclasses__()))


def exported(module):
    return {
        one for one in list(vars(module).values()) if isinstance(one, type) and issubclass(one, Exception)
    }


def made(kind):
    """An instance of an exception class, however its constructor looks."""
    exc = kind.__new__(kind, "went wrong")
    if issubclass(kind, anthropic.APIStatusError | openai.APIStatusError):
        status = getattr(kind, "status_code", 418)
        exc.response = httpx2.Response(status, request=httpx2.Request("POST", "https://acme.example"))
        exc.body = None
    return exc


def mapped(exc, sdk_error=anthropic.AnthropicError):
    with pytest.raises(UpstreamError) as caught, failures(sdk_error).mapped("m"):
        raise exc
    return caught.value


OF_SDKS = [
    *((anthropic.AnthropicError, kind) for kind in tree(anthropic.AnthropicError)),
    *((openai.OpenAIError, kind) for kind in tree(openai.OpenAIError) | exported(openai)),
]
OF_WIRES = tree(aiohttp.ClientError) | exported(httpx2) | {EventTooLarge, orjson.JSONDecodeError}


@pytest.mark.parametrize(
    ("sdk_error", "kind"), sorted(OF_SDKS, key=str), ids=lambda kind: f"{kind.__module__}.{kind.__name__}"
)
def test_no_exception_of_an_sdk_gets_through(sdk_error, kind):
    """Every class the SDKs define is mapped; a status decides where there is one."""
    error = mapped(made(kind), sdk_error)
    status = getattr(made(kind), "status_code", None)
    if isinstance(status, int):
        assert f"HTTP {status}" in str(error)
        assert error.retryable == (status in {408, 409, 429} or (status >= 500 and status != 501))
        assert error.upstream_status == status


@pytest.mark.parametrize(
    "kind", sorted(OF_WIRES, key=str), ids=lambda kind: f"{kind.__module__}.{kind.__name__}"
)
def test_no_exception_of_a_wire_gets_through(kind):
    """Whatever aiohttp, httpx2, orjson or our own reader raises is mapped."""
    assert isinstance(mapped(made(kind)), UpstreamError)


@pytest.mark.parametrize(
    "exc", [KeyError("delta"), AttributeError(), TypeError(), ConnectionResetError(), TimeoutError()]
)
def test_no_exception_of_an_odd_reply_gets_through(exc):
    """A field of an unexpected type is the provider's fault, not a traceback."""
    assert mapped(exc).retryable


@pytest.mark.parametrize(
    ("status", "kind", "shown"),
    [
        (400, UpstreamRejected, 400),
        (401, UpstreamRejected, 502),
        (402, UpstreamBusy, 429),
        (403, UpstreamRejected, 502),
        (404, UpstreamRejected, 404),
        (405, UpstreamRejected, 502),
        (408, UpstreamUnreachable, 504),
        (409, UpstreamBusy, 503),
        (413, ContextOverflow, 400),
        (422, UpstreamRejected, 400),
        (429, UpstreamBusy, 429),
        (500, UpstreamBroken, 502),
        (502, UpstreamBroken, 502),
        (503, UpstreamBusy, 503),
        (504, UpstreamUnreachable, 504),
        (529, UpstreamBusy, 503),
    ],
)
def test_statuses(status, kind, shown):
    """Who may try again, and what the client is told, by the provider's status; never a 401."""
    error = failures().told({"error": {"message": "because"}}, "m", status=status)
    assert (type(error), error.status) == (kind, shown)
    assert str(error).startswith("acme: model 'm': ")
    assert f"(HTTP {status})" in str(error)
    assert str(error).endswith("because")


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"type": "invalid_request_error", "message": "prompt is too long: 201000 tokens > 200000 maximum"}},
        {"error": {"message": "input length and `max_tokens` exceed context limit: 190000 + 64000 > 200000"}},
        {"error": {"code": "context_length_exceeded", "type": "invalid_request_error"}},
        {"error": {"message": "Your input exceeds the context window of this model. Please adjust your input."}},
        {"error": {"message": "This endpoint's maximum context length is 200000 tokens. However, you", "code": 400}},
        {"error": {"message": "This model's maximum prompt length is 131072 but the request contains 537812"}},
        {"error": {"message": "Please reduce the length of the messages or completion."}},
        {
            "error": {
                "code": 400,
                "message": "The input token count (1048600) exceeds the maximum number of tokens allowed (1048576).",
                "status": "INVALID_ARGUMENT",
            }
        },
        {"error_type": "TOO_MANY_TOKENS", "message": "too many tokens: size limit exceeded by 25836 tokens."},
        {"error": {"code": 400, "type": "exceed_context_size_error", "message": "the request exceeds the available"}},
        {"error": "the prompt is longer than the context length currently available to the model"},
        {"object": "error", "message": "Prompt contains 40000 tokens", "type": "invalid_request_error", "code": "3051"},
    ],
)  # fmt: skip
def test_each_providers_word_for_a_prompt_that_is_too_long(body):
    """It is told from other bad requests, by code or by wording; a server's own trouble is not one."""
    error = failures().told(body, "m", status=400)
    assert (type(error), error.status) == (ContextOverflow, 400)
    assert "shorten it, or ask a model with a longer context" in str(error)
    assert type(failures().told(body, "m", status=500)) is UpstreamBroken
    assert type(failures().told(body, "m", status=401)) is UpstreamRejected


def test_messages_name_the_remedy():
    """A key, a model name or an address: the message says which setting to look at."""
    assert "check ACME_API_KEY or providers.acme.api_key" in str(failures().told({}, "m", status=401))
    assert "check `backend_model`" in str(failures().told({}, "m", status=404))
    refused = mapped(ConnectionRefusedError(111, "refused"))
    assert "connection refused" in str(refused)
    assert "https://acme.example/v1" in str(refused)
    assert "pass@" not in str(refused)
    for keys in ((), ("",)):
        settings = ProviderSettings("acme", "x", keys)
        without = Failures(settings, "https://default.example", "ACME_API_KEY", anthropic.AnthropicError)
        with pytest.raises(UpstreamRejected, match=r"set ACME_API_KEY or providers\.acme\.api_key"):
            without.key(ChatRequest("m", target=Target("acme", "m")))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, UpstreamBusy),
        ({"type": "error", "error": {"type": "authentication_error", "message": "x"}}, UpstreamRejected),
        ({"error": {"code": "rate_limit_exceeded", "type": "requests"}}, UpstreamBusy),
        ({"error": {"code": "invalid_api_key", "type": "invalid_request_error"}}, UpstreamRejected),
        ({"error": {"code": 502, "message": "OpenRouter's numbers"}}, UpstreamBroken),
        ({"object": "error", "message": "vLLM", "type": "BadRequestError", "code": 400}, UpstreamRejected),
        ([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], UpstreamBusy),
        ({"error": "only words"}, UpstreamBroken),
        ({"type": "error", "error": None}, UpstreamBroken),
        ("nonsense", UpstreamBroken),
        (None, UpstreamBroken),
    ],
)
def test_an_error_inside_a_200_is_known_by_its_type(body, kind):
    """The status says nothing there; codes are looked at before types."""
    assert type(failures().told(body, "m")) is kind


def test_an_sdks_error_inside_a_200_is_known_by_its_type():
    """anthropic raises mid-stream errors as `APIStatusError` with status 200."""
    response = httpx2.Response(200, request=httpx2.Request("POST", "https://acme.example"))
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    error = mapped(anthropic.APIStatusError("Overloaded", response=response, body=body))
    assert isinstance(error, UpstreamBusy)
    assert error.status == 503


def test_a_proxys_html_page_is_not_repeated():
    """The status is enough."""
    error = failures().told("<html><body>502 Bad Gateway</body></html>", "m", status=502)
    assert "<" not in str(error)


def test_a_refused_connection_is_not_a_timeout():
    """openai's transport reports it as one; the root of the chain knows better."""
    exc = openai.APITimeoutError(httpx2.Request("POST", "https://acme.example"))
    exc.__cause__ = ConnectionRefusedError()
    assert mapped(exc, openai.OpenAIError).status == 502


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-api03-abcdefghijklmnopqrstuvwxyz",
        "sk-proj-abc***************xyz",
        "AIzaSyA1234567890abcdefghijk",
        "gsk_abcdefghijklmnop1234",
        "Bearer abcdef",
    ],
)
def test_keys_in_a_providers_message_are_masked(secret):
    """OpenAI repeats a part of the key it was sent."""
    assert secret.split()[-1][4:] not in clean(f"Incorrect API key provided: {secret}. Find it at https://x.")


def test_our_own_key_is_masked_whatever_it_looks_like():
    """Some vendors' keys are plain hexadecimal digits."""
    error = failures().told({"error": {"message": "no account for sk-secret here"}}, "m", status=401)
    assert "sk-secret" not in str(error)
    assert str(error).endswith("no account for *** here")


def test_ordinary_words_are_not_masked():
    """A message has to stay readable."""
    message = "skeletonization of keyboard_shortcuts: pkgresources-and-more, risk-assessment-model"
    assert clean(message) == message


def test_a_providers_message_is_bounded_and_on_one_line():
    """It may quote a prompt at length."""
    assert len(clean("word\n" * 1000)) <= 501
    assert "\n" not in clean("a\nb")


def test_an_sdks_own_words_do_not_follow_ours():
    """A log with the traceback must not show the unmasked body."""
    body = {"error": {"message": "key sk-ant-api03-abcdefghijklmnop"}}
    response = httpx2.Response(401, request=httpx2.Request("POST", "https://x.example"))
    error = mapped(anthropic.AuthenticationError(json.dumps(body), response=response, body=body))
    assert error.__suppress_context__
    assert error.__cause__ is None
    assert "abcdefghijklmnop" not in str(error)
