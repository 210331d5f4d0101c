"""Everything the bridge raises on purpose.

    BridgeError                     .status for HTTP, .retry_after_s (seconds) when known
    ├── RequestError                the client's fault; trying again changes nothing
    │   ├── InvalidRequest          400  (a few of Ollama's own validation errors are 500: .status says)
    │   ├── ModelNotFound           404
    │   ├── Unauthorized            401  a client key of the bridge's own is missing or wrong
    │   ├── BodyTooLarge            413
    │   └── RateLimited             429
    ├── UpstreamError               the provider's fault; .retryable, .provider, .model, .upstream_status
    │   ├── UpstreamRejected        502  it understood and refused (bad key 502, bad parameter 400, unknown model 404)
    │   │   └── ContextOverflow     400  the conversation is longer than the model can read
    │   ├── UpstreamBusy            503  mostly retryable: overloaded (503) or rate limited (429)
    │   ├── UpstreamUnreachable     502  mostly retryable: no connection
    │   │   └── UpstreamSilent      504  it was asked, and said nothing
    │   ├── UpstreamBroken          502  mostly retryable: the reply was cut off or made no sense
    │   └── CircuitOpen             503  we stopped asking for a while
    └── ConfigError                 the operator's fault; only ever raised before serving

Who is at fault decides the branch; what the caller may do about it decides the leaf. A message says
what failed, which model and provider, and what to do. It never holds a key or a piece of a prompt.

A provider's 401 or 403 is never passed on as such: the Ollama command line answers every 401 with
"You need to be signed in to Ollama", and Home Assistant shows `invalid_auth`.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from ollama_bridge.repairs import Repair


class BridgeError(Exception):
    """What every error of ours has.

    Args:
        message: For people: what failed and what to do about it.
        status: The HTTP status to answer with, where the class's own does not fit.
        retry_after_s: Seconds after which the same request may succeed, when somebody said so.
    """

    default_status: ClassVar[int] = 500

    def __init__(
        self, message: str, *, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status: int = self.default_status if status is None else status
        self.retry_after_s = retry_after_s

    @property
    def summary(self) -> str:
        """What a log may say of it: nothing that a client or a provider wrote."""
        return type(self).__name__

    def anew(self, **changed: float | None) -> Self:
        """The same once more, but for these attributes: for who remembers it, or raises it again.

        What its traceback holds, the request among it, is not remembered.
        """
        made = type(self).__new__(type(self), *self.args)
        made.__dict__.update(self.__dict__, **changed)
        return made

    def append(self, words: str) -> None:
        """Put something behind the message."""
        self.args = (f"{self}{words}",)


class RequestError(BridgeError):
    """The client asked for something that cannot be; asking again changes nothing."""

    default_status = 400


class InvalidRequest(RequestError):
    """The request is malformed or asks what the model cannot do."""


class ModelNotFound(RequestError):
    """No model of that name.

    Args:
        name: The name as the client sent it; each surface words the message as its own wire does.
    """

    default_status = 404

    def __init__(self, name: str) -> None:
        super().__init__(f"model '{name}' not found")
        self.name = name


class Unauthorized(RequestError):
    """The bridge itself wants a client key, and did not get a valid one."""

    default_status = 401


class BodyTooLarge(RequestError):
    """The request body is larger than the bridge reads."""

    default_status = 413


class RateLimited(RequestError):
    """A limit or a budget of the bridge's own was reached.

    Args:
        message: Which, and when it resets.
        elsewhere: Whether another model may still answer: it is a limit of this one or of its provider.
        instead: The model, by its name, that the operator wants to answer then.
        retry_after_s: Seconds until it may be asked again.
    """

    default_status = 429

    def __init__(
        self,
        message: str,
        *,
        elsewhere: bool = False,
        instead: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.elsewhere = elsewhere
        self.instead = instead

    @property
    def summary(self) -> str:
        """All of it: it names limits and models of the configuration."""
        return str(self)


@dataclass(frozen=True, slots=True)
class Told:
    """An error in the words of a real Ollama, for a client that asked it in its own words and may read it as it is.

    Args:
        body: What it answered, or the line that ended its answer.
        content_type: What it called that; empty: it did not.
    """

    body: bytes
    content_type: str = ""


class UpstreamError(BridgeError):
    """The provider failed.

    Args:
        message: What failed and what to do, without naming model or provider: they are put in front of it.
        provider: The provider's key in the configuration, such as `anthropic`.
        model: The model as the provider knows it.
        status: HTTP status for the client, where the class's own does not fit.
        retry_after_s: Seconds the provider asked us to wait.
        retryable: Whether the same request may succeed soon, where it is not as the class has it.
        upstream_status: The HTTP status of the provider's answer, or the one that its error stands for; None: no
            answer came, or it told of no error.
        said: What the provider says, put behind it. Shown to the client and never logged: some quote the prompt.

    Attributes:
        told: What a native client is told instead of all this; None: nothing else.
    """

    default_status = 502
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        model: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        retryable: bool | None = None,
        upstream_status: int | None = None,
        said: str = "",
    ) -> None:
        who = f"{provider}: model '{model}'" if model else provider
        super().__init__(f"{who}: {message}{said}", status=status, retry_after_s=retry_after_s)
        self.provider = provider
        self.model = model
        self.retryable = self.default_retryable if retryable is None else retryable
        self.upstream_status = upstream_status
        self.told: Told | None = None
        self._summary = f"{who}: {message}"

    @property
    def summary(self) -> str:
        """All but the provider's own words."""
        return self._summary

    def append(self, words: str) -> None:
        """Put something behind the message, which then says more than the provider did."""
        super().append(words)
        self.told = None


class UpstreamRejected(UpstreamError):
    """The provider understood the request and refused it."""

    repair: Repair | None = None
    """What may be done about it: it named a parameter that the request can do without."""


class ContextOverflow(UpstreamRejected):
    """The conversation is longer than the model can read; one with a longer context may answer it."""

    default_status = 400


class UpstreamBusy(UpstreamError):
    """The provider is overloaded or limits our rate."""

    default_status = 503
    default_retryable = True


class UpstreamUnreachable(UpstreamError):
    """No connection to the provider, or it fell silent."""

    default_retryable = True


class UpstreamSilent(UpstreamUnreachable):
    """The provider has the request and says nothing more: it may have worked on it, and want money for that."""

    default_status = 504


class UpstreamBroken(UpstreamError):
    """The provider's reply was cut off or cannot be understood."""

    default_retryable = True


class CircuitOpen(UpstreamError):
    """The provider failed so often that it is not asked for a while."""

    default_status = 503


class ConfigError(BridgeError):
    """The operator's configuration cannot be used; the message names file, line and key."""
