"""What asking again may heal: every row of the tables of failures, and why."""

import pytest

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.google_failures import ERROR_STATUSES, SDK_ERRORS, GoogleFailures
from ollama_bridge.backends.openai import OPENAI_ERROR_TYPES
from ollama_bridge.backends.verdicts import BY_EXCEPTION, BY_STATUS, ERROR_TYPES, Verdict
from ollama_bridge.errors import CircuitOpen, RateLimited, UpstreamError

SETTINGS = ProviderSettings("acme", "x")

STATUSES = {
    400: (False, "the same request is as wrong the next time"),
    401: (False, "the key stays wrong"),
    402: (False, "credit does not come by itself"),
    403: (False, "the key stays forbidden"),
    404: (False, "the model stays unknown"),
    408: (True, "it was slow this time"),
    409: (True, "whatever is in conflict ends"),
    413: (False, "the request stays too large"),
    422: (False, "the same request is as wrong the next time"),
    425: (True, "'too early' says it"),
    429: (True, "a rate is a matter of time"),
    498: (True, "capacity comes and goes"),
    501: (False, "what it cannot do it cannot do"),
    503: (True, "overload passes"),
    504: (True, "it was slow this time"),
    524: (True, "it was slow this time"),
    529: (True, "overload passes"),
}
BEYOND = {
    405: False,
    410: False,
    418: False,
    431: False,
    499: False,
    500: True,
    502: True,
    520: True,
    599: True,
}

KINDS = {  # those that mean something whatever the HTTP status; all others are what their status is
    "billing_error": "credit does not come by itself",
    "insufficient_quota": "OpenAI says 429 to who cannot pay",
    "billing_hard_limit_reached": "the operator's own limit",
    "billing_not_active": "the account is closed",
    "credit_balance_exhausted": "credit does not come by itself",
    "organization_spend_limit_exceeded": "for the rest of the month",
    "organization_usage_limit_exceeded": "for the rest of the month",
    "project_spend_limit_exceeded": "for the rest of the month",
    "exceeded_current_quota_error": "Moonshot says 429 to who cannot pay",
    "PerDay": "a day is longer than anybody waits",
}

EXCEPTIONS = {
    "SSLEOFError": (True, "cut off, as any connection may be"),
    "SSLError": (False, "certificates do not change within a minute"),
    "ClientConnectorDNSError": (False, "a name that is unknown, or no network at all"),
    "ConnectionRefusedError": (True, "a server that restarts refuses for seconds"),
    "ServerTimeoutError": (True, "it was slow this time"),
    "InvalidURL": (False, "the address stays wrong"),
    "LocalProtocolError": (False, "the request stays wrong"),
    "ConnectError": (True, "networks come and go"),
    "ConnectionError": (True, "cut off, as any connection may be"),
    "EventTooLarge": (False, "the same question, the same flood"),
    "ValueError": (True, "generated anew, it may be whole"),
    "OSError": (True, "networks come and go"),
    "AttributeError": (True, "generated anew, it may make sense"),
    "HTTPError": (True, "cut off, as any connection may be"),
}


def failures(kinds=ERROR_TYPES):
    return Failures(SETTINGS, "https://x.example", "KEY", (), kinds)


def test_every_status_has_a_reason():
    """Each row, and what is in no row."""
    assert STATUSES.keys() == BY_STATUS.keys()
    for status, retryable in {**{one: why[0] for one, why in STATUSES.items()}, **BEYOND}.items():
        error = failures().told({}, "m", status=status)
        assert (error.retryable, error.upstream_status) == (retryable, status)
        assert error.status not in {401, 402, 403}


@pytest.mark.parametrize(
    "table", [ERROR_TYPES, OPENAI_ERROR_TYPES, ERROR_STATUSES], ids=["all", "openai", "google"]
)
def test_every_type_has_a_reason(table):
    """Inside a 200 a type is what its status is; some say more than the HTTP status that they come with."""
    for kind, meaning in table.items():
        inside = failures(table).told({"error": {"type": kind}}, "m")
        with_429 = failures(table).told({"error": {"type": kind}}, "m", status=429)
        if isinstance(meaning, Verdict):
            assert kind in KINDS
            assert (inside.retryable, with_429.retryable) == (False, False)
            assert inside.upstream_status == with_429.upstream_status == meaning.means
        else:
            assert inside.retryable == failures().told({}, "m", status=meaning).retryable
            assert (with_429.retryable, with_429.upstream_status) == (True, 429)
    assert {kind for kind, meaning in table.items() if isinstance(meaning, Verdict)} <= KINDS.keys()


def test_every_exception_has_a_reason():
    """By the first class of each row."""
    rows = {kinds[0].__name__: verdict.retryable for kinds, verdict in BY_EXCEPTION}
    assert rows == {name: why[0] for name, why in EXCEPTIONS.items()}
    for kinds, verdict in BY_EXCEPTION:
        for kind in kinds:
            error = failures().raised(kind.__new__(kind), "m")
            assert (error.retryable, error.upstream_status) == (verdict.retryable, None)


@pytest.mark.parametrize(
    ("word", "retryable"), [("true", True), ("false", False), ("perhaps", None), ("", None)]
)
def test_a_provider_may_say_it_itself(word, retryable):
    """As it says it to its own SDK; but not that money comes by itself."""
    for status in (400, 429):
        error = failures().told({}, "m", status=status, headers={"x-should-retry": word})
        assert error.retryable == (status == 429 if retryable is None else retryable)
    no_credit = {"error": {"code": "insufficient_quota"}}
    assert not failures().told(no_credit, "m", status=429, headers={"x-should-retry": word}).retryable


GOOGLE = GoogleFailures(SETTINGS, "https://x.example", "KEY", SDK_ERRORS, ERROR_STATUSES)
QUOTA = "type.googleapis.com/google.rpc.QuotaFailure"
INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}


@pytest.mark.parametrize(
    ("violations", "day"),
    [
        ([{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}], True),
        (
            [
                {"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"},
                {"quotaId": "GenerateContentInputTokensPerModelPerDay-FreeTier"},
            ],
            True,
        ),
        ([{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}], False),
        ([{"quotaId": None}, "x", {}], False),
        ("PerDay", False),
        (None, False),
    ],
)
def test_geminis_quota_of_a_day_is_not_waited_for(violations, day):
    """Its own `retryDelay` is then that of the minute; the message says what helps."""
    details = [{"@type": QUOTA, "violations": violations}, INFO]
    error = GOOGLE.told(
        {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}}, "m", status=429
    )
    assert (error.retryable, error.retry_after_s) == ((False, None) if day else (True, 34.07))
    assert ("or tomorrow" in str(error)) == day
    assert (error.status, error.upstream_status) == (429, 429)


@pytest.mark.parametrize("delay", ["nans", "infs", "soon", "", None, 7])
def test_geminis_delay_is_a_number_or_nothing(delay):
    """No NaN finds its way into a header."""
    error = GOOGLE.told({"error": {"code": 429, "details": [{**INFO, "retryDelay": delay}]}}, "m", status=429)
    assert error.retry_after_s is None


def test_geminis_refused_key_is_one_whatever_the_status():
    """It says 400; who holds several keys is to try the next."""
    body = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}}
    error = GOOGLE.told(body, "m", status=400)
    assert (error.upstream_status, error.status, error.retryable) == (401, 502, False)


def test_our_own_refusals_are_never_asked_again():
    """A circuit that is open, a limit of the bridge."""
    assert not CircuitOpen("open", provider="acme", model="m").retryable
    assert not issubclass(RateLimited, UpstreamError)


def test_an_error_anew_is_the_same_without_its_past():
    """All that it says, another wait; no traceback, no cause."""
    with pytest.raises(UpstreamError) as caught, failures().mapped("m"):
        raise ValueError("the prompt")
    exc = caught.value
    anew = exc.anew(retry_after_s=5.0)
    assert (exc.__traceback__ is None, exc.__cause__ is None) == (False, False)
    assert (anew.__traceback__, anew.__cause__, anew.__context__) == (None, None, None)
    assert (type(anew), str(anew), anew.summary, anew.status) == (
        type(exc),
        str(exc),
        exc.summary,
        exc.status,
    )
    assert (anew.provider, anew.model, anew.retryable) == ("acme", "m", True)
    assert (anew.retry_after_s, exc.retry_after_s) == (5.0, None)
