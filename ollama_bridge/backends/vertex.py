"""Gemini on Vertex AI: who asks there, and where it differs from Gemini's own API.

google-auth knows every kind of credentials and how a token is got with them; it blocks, and so does it in a thread. When
that is done is ours to say (`token_cache`): the SDK's own way has clients wait for it, and does it twice at once when the
client that began it leaves.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import google.auth
from google.auth import exceptions
from google.auth.credentials import Credentials

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.token_cache import Token, Tokens
from ollama_bridge.errors import (
    UpstreamBroken,
    UpstreamBusy,
    UpstreamError,
    UpstreamRejected,
    UpstreamUnreachable,
)

API_VERSION: Final = "v1beta1"
LOCATION: Final = "global"

_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
_WITHIN_S: Final = 20.0
_LEAST_S: Final = 30.0
_GOOD_FOR_S: Final = 3600.0

_COUNTED: Final = frozenset({"contents", "systemInstruction", "tools", "generationConfig"})
"""What of a request `:countTokens` takes here."""

for _name in ("google.auth", "google.oauth2", "urllib3", "requests"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Held(Credentials):
    """What the SDK is given: the token that is good now. It renews nothing by itself."""

    def __init__(self, quota_project_id: str | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # google-auth has types for some
        self._quota_project_id = quota_project_id

    def refresh(self, request: Any) -> None:  # noqa: ARG002 - google-auth's
        """Never comes to it: there is always a token, and it never expires."""
        raise exceptions.RefreshError("tokens are renewed elsewhere")  # type: ignore[no-untyped-call]


class Account:
    """Who asks at Vertex, by the credentials of Google Cloud. Make it in a thread: it reads files, and may ask a server.

    Args:
        settings: Of the provider.

    Raises:
        UpstreamRejected: There are no credentials, or nobody knows of which project.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._changed_ns = 0
        self._credentials, project = self._loaded()
        self.project: str = settings.project or project or ""
        self.location = settings.location or LOCATION
        if not self.project:
            raise self._failed(
                UpstreamRejected,
                f"no project of Google Cloud: set providers.{settings.name}.project or GOOGLE_CLOUD_PROJECT",
            )
        self.held = Held(getattr(self._credentials, "quota_project_id", None))
        self._tokens = Tokens(settings.name, self._fetch)

    async def sign(self) -> str:
        """See to it that `held` has a token that is good, and say which.

        Raises:
            UpstreamError: There is none to be had.
        """
        token = await self._tokens.get(0)
        self.held.token = token
        return token

    def refused(self, token: str) -> None:
        """It was answered with 401: forget it."""
        self._tokens.forget(0, token)

    def secrets(self) -> Iterable[str]:
        """What must never be shown."""
        return self._tokens.values()

    async def aclose(self) -> None:
        """Fetch no more."""
        await self._tokens.aclose()

    def _loaded(self) -> tuple[Any, str | None]:
        where = f"providers.{self._settings.name}.credentials"
        try:
            if self._settings.credentials:
                self._changed_ns = Path(self._settings.credentials).stat().st_mtime_ns
                load: Any = google.auth.load_credentials_from_file
                found: tuple[Any, str | None] = load(self._settings.credentials, scopes=_SCOPES)
                return found
            return google.auth.default(scopes=_SCOPES)
        except (exceptions.GoogleAuthError, OSError, ValueError) as exc:
            # Its text is not ours to show: it may quote the file.
            if self._settings.credentials:
                problem = f"its file of credentials cannot be used ({type(exc).__name__}): check {where}"
            else:
                problem = (
                    f"no credentials of Google Cloud: set {where} or GOOGLE_APPLICATION_CREDENTIALS, "
                    "or run `gcloud auth application-default login`"
                )
            raise self._failed(UpstreamRejected, problem) from None

    async def _fetch(self, _: int) -> Token:
        try:
            return await asyncio.to_thread(self._renewed)
        except exceptions.TransportError:
            message = "its token server cannot be reached: check the network"
            raise self._failed(UpstreamUnreachable, message) from None
        except (AttributeError, LookupError, TypeError) as exc:
            message = (
                f"its token server gave something that is no token ({type(exc).__name__}): check its address"
            )
            raise self._failed(UpstreamBroken, message, retryable=False) from None
        except (exceptions.GoogleAuthError, ValueError) as exc:
            if getattr(exc, "retryable", False):
                message = "its token server cannot answer now: ask again in a moment"
                raise self._failed(UpstreamBusy, message) from None
            raise self._failed(
                UpstreamRejected,
                f"the credentials were refused ({type(exc).__name__}): "
                f"check providers.{self._settings.name}.credentials or GOOGLE_APPLICATION_CREDENTIALS",
                upstream_status=401,
            ) from None

    def _renewed(self) -> Token:
        import requests  # noqa: PLC0415 - takes its time, which only who signs in need spend
        from google.auth.transport.requests import Request  # noqa: PLC0415

        file = self._settings.credentials
        if file and Path(file).exists() and Path(file).stat().st_mtime_ns != self._changed_ns:
            self._credentials, _ = self._loaded()  # somebody put a new key there
        with requests.Session() as session:
            session.trust_env = self._settings.trust_env
            if self._settings.ca_bundle:
                session.verify = self._settings.ca_bundle
            self._credentials.refresh(partial(Request(session), timeout=_WITHIN_S))
        token, ends = self._credentials.token, self._credentials.expiry
        if not isinstance(token, str) or not token:
            raise exceptions.RefreshError("no token")  # type: ignore[no-untyped-call]
        left_s = (ends.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds() if ends else _GOOD_FOR_S
        return Token(token, max(left_s, _LEAST_S))

    def _failed(self, leaf: type[UpstreamError], message: str, **known: Any) -> UpstreamError:
        return leaf(message, provider=self._settings.name, model="", **known)


def model_path(model: str) -> str:
    """`publishers/google/models/…`, or what the operator wrote of a path."""
    if model.startswith(("projects/", "publishers/", "endpoints/")):
        return model
    publisher, _, name = model.removeprefix("models/").rpartition("/")
    return f"publishers/{publisher or 'google'}/models/{name}"


def counted(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of `:countTokens` for that of an answer."""
    return {name: value for name, value in body.items() if name in _COUNTED}
