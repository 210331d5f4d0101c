"""How long providers want us to wait, in every form that they have for it."""

import email.utils
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.backends import ProviderSettings, retry_after
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.retry_after import retry_after_s, wait_of

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


@pytest.fixture
def _new_year(monkeypatch):
    monkeypatch.setattr(retry_after.time, "time", lambda: NOW)


@pytest.mark.usefixtures("_new_year")
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("1s", 1.0),
        ("7.66s", 7.66),
        ("120ms", 0.12),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("1d", 86_400.0),
        ("250µs", 0.00025),
        ("1767225630", 30.0),
        ("1767225630500", 30.5),
        ("1767225000", 0.0),
        ("2026-01-01T00:01:00Z", 60.0),
        ("2026-01-01T01:00:30+01:00", 30.0),
        ("2025-12-31T23:00:00Z", 0.0),
        ("Thu, 01 Jan 2026 00:00:42 GMT", 42.0),
        ("Thu, 01 Jan 2026 00:00:42 -0000", 42.0),
        ("172801", 172_801.0),
        ("soon", None),
        ("", None),
        ("nan", None),
        ("inf", None),
        ("7 s", None),
        ("s", None),
        ("Thu, 01 Jan 99999 00:00:00 GMT", None),
        ("Thu, 99 Jan 2026 99:99:99 GMT", None),
    ],
)
def test_a_wait_is_read_in_any_form(value, seconds):
    """Numbers, durations, times; the past is now, and nonsense is nothing."""
    assert wait_of(value) == (None if seconds is None else pytest.approx(seconds, abs=1e-6))


@given(st.text(max_size=30) | st.from_regex(r"[\d.]{1,12}(ms|s|m|h|d|)", fullmatch=True))
def test_no_header_makes_it_stumble(value):
    """Whatever a provider writes: seconds that can be waited, or None."""
    for headers in ({"retry-after": value}, {"x-ratelimit-reset": value, "x-ratelimit-remaining": value}):
        seconds = retry_after_s(headers, limited=True)
        assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": " 7 "}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "99"}, 1.5),
        ({"x-ms-retry-after-ms": "1500", "retry-after": "99"}, 1.5),
        ({"retry-after-ms": "nonsense", "retry-after": "2"}, 2.0),
        ({"retry-after": "3", "x-ratelimit-reset-tokens": "9s"}, 3.0),
        ({"retry-after": "1000000"}, 1e6),
        ({}, None),
    ],
)
def test_what_is_said_outright_comes_first(headers, seconds):
    """Milliseconds before seconds, nonsense passed over, and all of it before the headers of limits."""
    assert retry_after_s(headers, limited=True) == seconds


@pytest.mark.usefixtures("_new_year")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        # Anthropic: only what is used up
        (
            {
                "anthropic-ratelimit-requests-remaining": "3",
                "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:50Z",
                "anthropic-ratelimit-output-tokens-remaining": "0",
                "anthropic-ratelimit-output-tokens-reset": "2026-01-01T00:00:20Z",
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2026-01-01T00:00:30Z",
            },
            30.0,
        ),
        # who says nothing of what is left: the latest
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
        # Groq: of the day's requests nearly all are left, of the minute's tokens too few
        (
            {
                "x-ratelimit-limit-requests": "14400",
                "x-ratelimit-remaining-requests": "14370",
                "x-ratelimit-reset-requests": "2m59.56s",
                "x-ratelimit-limit-tokens": "18000",
                "x-ratelimit-remaining-tokens": "300",
                "x-ratelimit-reset-tokens": "7.66s",
            },
            7.66,
        ),
        # Cerebras: plain seconds, and limits of several spans
        (
            {
                "x-ratelimit-remaining-requests-day": "90",
                "x-ratelimit-reset-requests-day": "33011.38",
                "x-ratelimit-remaining-tokens-minute": "0",
                "x-ratelimit-reset-tokens-minute": "11.38",
            },
            11.38,
        ),
        # Azure where it has no limit
        ({"x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "0"}, None),
        # OpenRouter, others, and the draft of the IETF
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1767225660000"}, 60.0),
        ({"x-ratelimit-reset": "1767225660"}, 60.0),
        ({"x-ratelimit-reset": "24"}, 24.0),
        ({"ratelimit-limit": "10", "ratelimit-remaining": "0", "ratelimit-reset": "5"}, 5.0),
        # none of them
        ({"x-ratelimit-limit": "9", "x-ratelimit-policy": "9;w=60", "x-reset": "5"}, None),
    ],
)
def test_the_limit_that_was_reached_says_when_it_is_whole(headers, seconds):
    """Only in the answer that a limit was reached: others carry the same headers and mean nothing by them."""
    assert retry_after_s(headers, limited=True) == (
        None if seconds is None else pytest.approx(seconds, abs=1e-4)
    )
    assert retry_after_s(headers) is None


def test_only_limits_are_told_by_the_headers_of_limits():
    """An overloaded provider says in passing when our requests of this minute are whole again."""
    failures = Failures(ProviderSettings("acme", "x"), "https://x.example", "KEY", ())
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "50s"}
    waits = [
        failures.told({}, "m", status=status, headers=headers).retry_after_s for status in (429, 503, 500)
    ]
    assert waits == [50.0, None, None]


def test_an_error_may_carry_its_headers():
    """OpenRouter puts them into the body: within a stream there is no other place."""
    failures = Failures(ProviderSettings("acme", "x"), "https://x.example", "KEY", ())
    reset = str(int((time.time() + 40) * 1000))
    metadata = {"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset, "X-Odd": 5}}
    error = failures.told(
        {"error": {"code": 429, "message": "free-models-per-min", "metadata": metadata}}, "m"
    )
    assert error.retry_after_s == pytest.approx(40, abs=5)
    for odd in ([], "x", {"headers": []}, {"headers": None}):
        assert failures.told({"error": {"code": 429, "metadata": odd}}, "m").retry_after_s is None


def test_a_date_is_read_by_our_own_clock():
    """RFC 9110 allows it, and some gateways send it."""
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert retry_after_s({"retry-after": date}) == pytest.approx(60, abs=5)
