"""How a provider is told who asks, where that is not a key sent as it is: the headers of one request.

A vendor's row names a scheme; its class is imported when a provider needs it.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final, Protocol

import httpx2

from ollama_bridge.backends import ProviderSettings

SCHEMES: Final[Mapping[str, str]] = {
    "api-key": "ollama_bridge.backends.sign_in:ApiKey",
    "maybe": "ollama_bridge.backends.sign_in:MaybeBearer",
    "glm": "ollama_bridge.backends.glm:SignedKey",
    "gigachat": "ollama_bridge.backends.gigachat:OAuth",
}
"""`Vendor.sign_in` to the class, called with the provider's settings, the variable that holds its key, and a client for
whatever else must be asked."""


class SignIn(Protocol):
    """Gives the headers by which a provider knows who asks."""

    header: ClassVar[str]
    """The one that it sets, in lower case: an operator who writes it himself signs in himself."""
    needs_key: ClassVar[bool]
    """Whether nothing can be asked without a key."""

    async def headers(self, key: int) -> Mapping[str, str]:
        """For one request with the key of that number.

        Raises:
            UpstreamError: They cannot be had.
        """
        ...

    def refused(self, key: int, headers: Mapping[str, str]) -> bool:
        """The provider answered 401 to these headers; whether others may be had that it takes."""
        ...

    def secrets(self) -> Iterable[str]:
        """What else than the keys must never be shown."""
        ...

    async def aclose(self) -> None:
        """Let go of whatever is under way."""
        ...


class ApiKey:
    """The key as it is, in a header of its own: Azure."""

    header: ClassVar[str] = "api-key"
    needs_key: ClassVar[bool] = True
    scheme: ClassVar[str] = ""

    def __init__(self, settings: ProviderSettings, key_variable: str, http: httpx2.AsyncClient) -> None:  # noqa: ARG002 - as SCHEMES has it
        self._headers = [{self.header: self.scheme + key} for key in settings.api_keys]

    async def headers(self, key: int) -> Mapping[str, str]:
        """See `SignIn`."""
        return self._headers[key if key < len(self._headers) else 0] if self._headers else {}

    def refused(self, key: int, headers: Mapping[str, str]) -> bool:  # noqa: ARG002 - as SignIn has it
        """There are no others."""
        return False

    def secrets(self) -> Iterable[str]:
        """None but the keys."""
        return ()

    async def aclose(self) -> None:
        """Nothing is under way."""


class MaybeBearer(ApiKey):
    """A bearer, and without a key nothing at all: gateways that know their users' keys themselves."""

    header: ClassVar[str] = "authorization"
    needs_key: ClassVar[bool] = False
    scheme: ClassVar[str] = "Bearer "


def sign_in_for(
    scheme: str, settings: ProviderSettings, key_variable: str, http: httpx2.AsyncClient
) -> SignIn | None:
    """Who signs in for a provider; None: its key is sent as a bearer, or the operator's own header is.

    Args:
        scheme: A key of `SCHEMES`, or empty.
        settings: Of the provider.
        key_variable: The environment variable that may hold its key, for messages.
        http: To ask token servers with; stays the caller's.
    """
    if not scheme:
        return None
    module, _, name = SCHEMES[scheme].partition(":")
    made: Callable[..., SignIn] = getattr(importlib.import_module(module), name)
    sign_in = made(settings, key_variable, http)
    own = {header.lower() for header in settings.headers}
    return None if own & {"authorization", sign_in.header} else sign_in
