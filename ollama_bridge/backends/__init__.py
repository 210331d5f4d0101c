"""Those who answer: one file per SDK, found through one table, imported only when used (`lazy`).

lazy                               a provider whose module is loaded at its first use
anthropic google openai ollama demo  the backends; what begins with the name of one is a part of it
responses_*                        OpenAI's other API: what is asked, read and meant
vendors vendor vendor_* dialect    who speaks OpenAI's APIs, as data; how each differs from OpenAI
azure glm gigachat vertex          what those have of their own: addresses and ways to sign in
sign_in token_cache                headers that say who asks; tokens that run out
sdk session                        connections, for the SDKs' clients and for aiohttp alone
framing sse whole bursts           from bytes to JSON to events: a stream, or an answer in one piece
cohere_stream retold usage         another wire as OpenAI's; texts that are told twice; numbers of tokens
failures verdicts overflow         what goes wrong, and which error of ours that is
refusals retry_after oddities      what may be repaired; how long to wait; what was passed over
listing listing_facts              providers' lists of models
embedding fim                      embeddings in bearable parts; who fills gaps in code
tool_choice tool_names stopwords   what not every API takes as it is said
sealing prefix prefix_tracker      what goes back to its provider; by what a prompt is known again, and cached

This module itself imports next to nothing: `ollama-bridge models` needs the table, and no event loop.
"""

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Final, Literal

from ollama_bridge.backends.vendors import VENDORS

BACKENDS: Final[Mapping[str, str]] = {
    "anthropic": "ollama_bridge.backends.anthropic:AnthropicBackend",
    "openai": "ollama_bridge.backends.openai:OpenAIBackend",
    "google": "ollama_bridge.backends.google:GoogleBackend",
    "vertex": "ollama_bridge.backends.google:GoogleBackend",
    "ollama": "ollama_bridge.backends.ollama:OllamaBackend",
    "demo": "ollama_bridge.backends.demo:DemoBackend",
}
"""Kind of provider to `module:Class`. The class is called with one `ProviderSettings`.

A kind that is itself a `module:Class` needs no row here: `examples/custom_backend.py` shows one.
"""

KINDS: Final = (*BACKENDS, *VENDORS)
"""Kinds of providers that have a name."""

SDK_ENVIRONMENT: Final = (
    "ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL ANTHROPIC_CUSTOM_HEADERS ANTHROPIC_PROFILE "
    "ANTHROPIC_CONFIG_DIR ANTHROPIC_WEBHOOK_SIGNING_KEY ANTHROPIC_LOG "
    "OPENAI_API_KEY OPENAI_ADMIN_KEY OPENAI_BASE_URL OPENAI_ORG_ID OPENAI_PROJECT_ID OPENAI_CUSTOM_HEADERS "
    "OPENAI_WEBHOOK_SECRET OPENAI_LOG "
    "GOOGLE_API_KEY GEMINI_API_KEY GOOGLE_GENAI_USE_ENTERPRISE GOOGLE_GENAI_USE_VERTEXAI GOOGLE_CLOUD_PROJECT "
    "GOOGLE_CLOUD_LOCATION GOOGLE_GENAI_API_VERSION GOOGLE_GEMINI_BASE_URL GOOGLE_VERTEX_BASE_URL "
    "GOOGLE_GENAI_HTTP_CLIENT GOOGLE_GENAI_CLIENT_MODE GOOGLE_GENAI_REPLAYS_DIRECTORY GOOGLE_GENAI_REPLAY_ID "
    "GOOGLE_API_USE_MTLS_ENDPOINT GOOGLE_API_USE_CLIENT_CERTIFICATE"
).split()
"""What the SDKs read by themselves, even beside explicit arguments: keys, redirections, extra headers."""

_PROXY_ENVIRONMENT: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What a backend's constructor is told; plain values, so that tests need no configuration file.

    Args:
        name: The provider's key in the configuration, such as `anthropic` or `acme`.
        kind: One of `KINDS`, or a `module:Class` of one's own.
        api_keys: Zero or more keys; never logged, never in an error.
        base_url: As the SDK takes it: openai with `/v1`, anthropic and google without a version.
            None: the SDK's own default.
        api: For `openai`: which API; None lets each model's rules decide.
        fim: Where gaps are filled, below `base_url`; `none`: nowhere, so that the chat is asked;
            None: as its vendor has it.
        connect_timeout_s: Seconds for a connection. Silence afterwards is the timeout policy's business.
        trust_env: Whether `*_PROXY` variables are honoured.
        headers: Added to every request.
        account: For vendors whose address holds it.
        api_version: Of Azure: a dated one has a path for each deployment.
        project: Of Google Cloud; empty: the one of the credentials.
        location: Of Google Cloud; empty: `global`.
        credentials: A file of Google's; empty: application default credentials.
        scope: What a token is asked for; empty: as its vendor has it.
        token_url: Where; empty: as its vendor has it.
        ca_bundle: A file with further certificate authorities, PEM.
        at_once: Most requests at a time with each key; 0: any number.
        spacing_s: Least seconds between the beginnings of two requests with a key.
    """

    name: str
    kind: str
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    base_url: str | None = None
    api: Literal["chat", "responses"] | None = None
    fim: Literal["fim/completions", "completions", "none"] | None = None
    connect_timeout_s: float = 10.0
    trust_env: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    account: str = ""
    api_version: str = ""
    project: str = ""
    location: str = ""
    credentials: str = ""
    scope: str = ""
    token_url: str = ""
    ca_bundle: str = ""
    at_once: int = 0
    spacing_s: float = 0.0


def location(kind: str) -> str:
    """`module:Class` of what serves a kind of provider."""
    return BACKENDS["openai"] if kind in VENDORS else BACKENDS.get(kind, kind)


def scrub_environment(environ: MutableMapping[str, str] = os.environ, *, keep_proxies: bool = False) -> None:
    """Remove what would redirect the SDKs' traffic or leak into it.

    Called once by the daemon, after the configuration has taken the keys and before any SDK is imported:
    `ANTHROPIC_BASE_URL` is obeyed even beside an explicit key, and `OPENAI_ORG_ID` is sent to third parties.
    """
    for name in SDK_ENVIRONMENT:
        environ.pop(name, None)
    for name in list(environ):
        if name.startswith("ANTHROPIC_OPEN_TELEMETRY") or (
            not keep_proxies and name.upper() in _PROXY_ENVIRONMENT
        ):
            environ.pop(name)
