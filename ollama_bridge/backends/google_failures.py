"""What goes wrong with Gemini: google.rpc errors, and the exceptions that google-genai makes of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson
from google.genai import errors as genai_errors

from ollama_bridge.backends.failures import Failures
from ollama_bridge.backends.retry_after import wait_of
from ollama_bridge.backends.verdicts import DAY_IS_OVER, Meaning
from ollama_bridge.errors import UpstreamError

ERROR_STATUSES: Final[Mapping[str, Meaning]] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INTERNAL": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
    "PerDay": DAY_IS_OVER,
}
"""An error's `status` to its HTTP status (https://cloud.google.com/apis/design/errors#handling_errors), and the part
of a `quotaId` that says more, such as that of `GenerateRequestsPerDayPerProjectPerModel-FreeTier`."""

SDK_ERRORS: Final = (
    genai_errors.APIError,
    genai_errors.UnknownApiResponseError,
    genai_errors.ContinuationInterruptedError,
)
"""What google-genai raises of its own; its other classes are `ValueError`s about calling Python functions."""


class GoogleFailures(Failures):
    """`Failures` that reads google.rpc errors, and google-genai's exceptions around them."""

    def told(
        self,
        body: Any,
        model: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        codes: Sequence[str] = (),
    ) -> UpstreamError:
        """As `Failures.told`; a refused key is told from a bad request, and `RetryInfo` is obeyed."""
        details = _details(body)
        if any(detail.get("reason") == "API_KEY_INVALID" for detail in details):
            status = 401  # Google says 400, as for any invalid argument
        if any("PerDay" in quota for detail in details for quota in _quotas(detail)):
            codes = (*codes, "PerDay")
        error = super().told(body, model, status=status, headers=headers, codes=codes)
        # With a day's quota it names the seconds until the minute's is whole again.
        if error.retry_after_s is None and error.retryable:
            error.retry_after_s = next(filter(None, map(_retry_delay_s, details)), None)
        return error

    def raised(self, exc: BaseException, model: str) -> UpstreamError:
        """As `Failures.raised`, for google-genai's exceptions too."""
        if not isinstance(exc, genai_errors.APIError):
            return super().raised(exc, model)
        body = exc.details
        if isinstance(body, dict) and body.keys() <= {"message", "status"}:
            # Made by the SDK of a text; as text/event-stream that is the JSON of an ordinary error.
            body = _decoded(exc.message)
        headers = getattr(exc.response, "headers", None)
        return self.told(body, model, status=exc.code if type(exc.code) is int else 200, headers=headers)


def _decoded(text: str | None) -> Any:
    try:
        return orjson.loads(text or "")
    except orjson.JSONDecodeError:
        return text


def _details(body: Any) -> list[Mapping[str, Any]]:
    """The `details` of a google.rpc.Status, of whatever odd shape."""
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error", body) if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _quotas(detail: Mapping[str, Any]) -> Iterator[str]:
    """The names of the quotas that a google.rpc.QuotaFailure says are used up."""
    violations = detail.get("violations")
    for violation in violations if isinstance(violations, list) else ():
        if isinstance(violation, dict) and isinstance(quota := violation.get("quotaId"), str):
            yield quota


def _retry_delay_s(detail: Mapping[str, Any]) -> float | None:
    """Of a google.rpc.RetryInfo: `"34.07s"` as 34.07."""
    delay = detail.get("retryDelay")
    return wait_of(delay) if isinstance(delay, str) else None
