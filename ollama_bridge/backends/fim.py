"""Which providers fill gaps in code by themselves, and where they are asked to: data, without any SDK.

Mistral: https://docs.mistral.ai/api/#tag/fim; DeepSeek: https://api-docs.deepseek.com/guides/fim_completion.
"""

from typing import Final
from urllib.parse import urlsplit

from ollama_bridge.backends import BACKENDS, ProviderSettings, location
from ollama_bridge.backends.vendor import Fim
from ollama_bridge.backends.vendors import OPENAI_URL, is_openai, vendor_of

_OPENAI: Final = Fim("completions", ("gpt-3.5-turbo-instruct",))


def endpoint(settings: ProviderSettings, model: str) -> str | None:
    """The URL at which the provider fills gaps with `model`; None: it does not.

    Only who speaks OpenAI's APIs has such URLs. What the configuration says holds for all models of the provider; else
    the row of the vendor that it is tells.
    """
    if location(settings.kind) != BACKENDS["openai"] or settings.fim == "none":
        return None
    base = (settings.base_url or OPENAI_URL).rstrip("/")
    if settings.fim is not None:
        return f"{base}/{settings.fim}"
    parts = urlsplit(base)
    vendor = vendor_of(settings.kind, settings.base_url)
    known = vendor.fim if vendor else _OPENAI if is_openai(settings.base_url) else None
    if known is None or not model.lower().startswith(known.models):
        return None
    return f"{parts.scheme}://{parts.netloc}{known.path}" if known.path[0] == "/" else f"{base}/{known.path}"


def fills(settings: ProviderSettings, model: str) -> bool:
    """Whether the provider's backend takes a gap as it is; all others have to be asked in a chat."""
    if settings.kind == "ollama":
        return settings.fim != "none"
    return endpoint(settings, model) is not None
