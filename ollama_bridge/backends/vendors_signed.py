"""Vendors that are told in another way who asks, or are at an address of each user's own: data, as in `vendors`."""

from collections.abc import Mapping
from typing import Final

from ollama_bridge.backends import azure, openai_functions
from ollama_bridge.backends.dialect import Dialect
from ollama_bridge.backends.vendor import Vendor
from ollama_bridge.chat import Capability, Rules
from ollama_bridge.facts import Facts, embedder

_CALLS: Final[tuple[Capability, ...]] = ("completion", "tools")

# https://developers.sber.ru/docs/ru/gigachat/models
_GIGACHAT: Final = Rules(
    accepts=frozenset({"temperature", "top_p", "repeat_penalty"}),
    thinking=frozenset(),
    efforts=(),
    schema=False,
)

SIGNED: Final[Mapping[str, Vendor]] = {
    # https://developers.cloudflare.com/ai-gateway/usage/chat-completion/: models are `provider/model`, the key is
    # that provider's, or none where the gateway keeps it.
    "cloudflare-gateway": Vendor(
        "Cloudflare AI Gateway",
        "https://gateway.ai.cloudflare.com/v1/{account}/{gateway}/compat",
        variables={"account": ("CLOUDFLARE_ACCOUNT_ID",), "gateway": ("CLOUDFLARE_GATEWAY_ID",)},
        many=True,
        sign_in="maybe",
    ),
    "azure": Vendor(
        "Azure OpenAI",
        "https://{account}.openai.azure.com",
        ("AZURE_OPENAI_API_KEY",),
        {
            "account": ("AZURE_RESOURCE_NAME",),
            "base_url": ("AZURE_OPENAI_ENDPOINT",),
            "api_version": ("OPENAI_API_VERSION", "AZURE_OPENAI_API_VERSION"),
        },
        dialect=Dialect(asks_all=True),
        sign_in="api-key",
        route=azure.route,
        same_as="openai",
    ),
    "gigachat": Vendor(
        "GigaChat",
        "https://gigachat.devices.sberbank.ru/api/v1",
        ("GIGACHAT_CREDENTIALS",),
        {
            "scope": ("GIGACHAT_SCOPE",),
            "token_url": ("GIGACHAT_AUTH_URL",),
            "ca_bundle": ("GIGACHAT_CA_BUNDLE_FILE",),
        },
        rules=_GIGACHAT,
        dialect=Dialect(
            bounds={"temperature": (0.001, 2.0), "top_p": (0.0, 1.0)},  # 0 is refused
            stream_options=False,
            parallel_tool_calls=False,
            null_content=False,
            encoding=None,
            rewrite=openai_functions.rewrite,
        ),
        models=(
            Facts("GigaChat-2-Max", "GigaChat 2 Max", "gigachat", 131_072, 8192, _CALLS, _GIGACHAT),
            Facts("GigaChat-2-Pro", "GigaChat 2 Pro", "gigachat", 131_072, 8192, _CALLS, _GIGACHAT),
            Facts("GigaChat-2", "GigaChat 2 Lite", "gigachat", 131_072, 8192, _CALLS, _GIGACHAT),
            embedder("Embeddings", "GigaChat Embeddings", 512, 1024),
            embedder("EmbeddingsGigaR", "GigaChat EmbeddingsGigaR", 4096, 2560, offered=False),
        ),
        hosts=("api.giga.chat",),
        sign_in="gigachat",
        at_once=1,
        spacing_s=1.0,
    ),
}
"""By the kind of provider that each is."""
