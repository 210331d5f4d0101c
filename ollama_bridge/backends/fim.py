"""Which providers fill gaps in code by themselves, and where they are asked to: data, without any SDK.

Mistral: https://docs.mistral.ai/api/#tag/fim; DeepSeek: https://api-docs.deepseek.com/guides/fim_completion.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from ollama_bridge.backends import BACKENDS, ProviderSettings, location


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Where a provider fills gaps.

    Args:
        path: Below `base_url`; with a slash in front: of the host.
        models: What the names of the models begin with that can.
    """

    path: str
    models: tuple[str, ...]


_BY_HOST: Final[Mapping[str, _Endpoint]] = {
    "api.mistral.ai": _Endpoint("fim/completions", ("codestral",)),
    "codestral.mistral.ai": _Endpoint("fim/completions", ("codestral",)),
    "api.deepseek.com": _Endpoint("/beta/completions", ("deepseek-chat", "deepseek-coder", "deepseek-v")),
    "api.openai.com": _Endpoint("completions", ("gpt-3.5-turbo-instruct",)),
}

_OPENAI: Final = "https://api.openai.com/v1"


def endpoint(settings: ProviderSettings, model: str) -> str | None:
    """The URL at which the provider fills gaps with `model`; None: it does not.

    Only who speaks OpenAI's APIs has such URLs. What the configuration says holds for all models of the provider; else the host
    of its `base_url` tells.
    """
    if location(settings.kind) != BACKENDS["openai"] or settings.fim == "none":
        return None
    base = (settings.base_url or _OPENAI).rstrip("/")
    if settings.fim is not None:
        return f"{base}/{settings.fim}"
    parts = urlsplit(base)
    known = _BY_HOST.get(parts.hostname or "")
    if known is None or not model.lower().startswith(known.models):
        return None
    return f"{parts.scheme}://{parts.netloc}{known.path}" if known.path[0] == "/" else f"{base}/{known.path}"


def fills(settings: ProviderSettings, model: str) -> bool:
    """Whether the provider's backend takes a gap as it is; all others have to be asked in a chat."""
    if settings.kind == "ollama":
        return settings.fim != "none"
    return endpoint(settings, model) is not None
