"""Those who speak OpenAI's APIs without being OpenAI: data, one row each.

A row is a kind of provider, served by `backends.openai`. To add a vendor, add a row; a test then sends it a request
and looks at URL, headers and body.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from string import Formatter
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from ollama_bridge.backends import azure, openai_functions
from ollama_bridge.backends.dialect import Dialect
from ollama_bridge.chat import Capability, Rules
from ollama_bridge.facts import Facts, embedder

_TEXT: Final = Rules()

_CALLS: Final[tuple[Capability, ...]] = ("completion", "tools")

_GIGACHAT: Final = Rules(
    accepts=frozenset({"temperature", "top_p", "repeat_penalty"}),
    thinking=frozenset(),
    efforts=(),
    schema=False,
)


@dataclass(frozen=True, slots=True)
class Vendor:
    """One vendor.

    Args:
        title: For people.
        base_url: Where it answers; a name in braces is a key of its entry in the configuration.
        key_variables: Environment variables that may hold its key, the first that is set counts.
        variables: Other keys of its entry that environment variables fill, by the key.
        keyless: Whether it answers without a key: it runs on a machine of one's own.
        rules: Of its models that have no row.
        dialect: How its wire differs.
        models: What it offers without being told, the best choice first; and what is known of others.
        hosts: Beside that of `base_url`, at which it answers too.
        many: Whether it has hundreds of models, which would bury the others in a client's list.
        sign_in: How it is told who asks: a key of `sign_in.SCHEMES`; empty: the key is a bearer.
        route: The URL for one request, of base URL, path, model and API version; None: the path follows the base URL.
        same_as: A kind of the catalogue whose models it has by the same names, and that are asked in the same way.
        at_once: Most requests at a time with each key; 0: any number.
        spacing_s: Least seconds between the beginnings of two.
    """

    title: str
    base_url: str
    key_variables: tuple[str, ...] = ()
    variables: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keyless: bool = False
    rules: Rules = _TEXT
    dialect: Dialect = field(default_factory=Dialect)
    models: tuple[Facts, ...] = ()
    hosts: tuple[str, ...] = ()
    many: bool = False
    sign_in: str = ""
    route: Callable[[str, str, str, str], str] | None = None
    same_as: str = ""
    at_once: int = 0
    spacing_s: float = 0.0

    @property
    def takes(self) -> frozenset[str]:
        """Keys of its entry that are of use to it, of those that are of use to few."""
        return frozenset({*self.needs, *self.variables})

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of its entry without which nobody knows where it is."""
        return tuple(name for _, name, _, _ in Formatter().parse(self.base_url) if name)


VENDORS: Final[Mapping[str, Vendor]] = MappingProxyType(
    {
        "groq": Vendor("Groq", "https://api.groq.com/openai/v1", ("GROQ_API_KEY",)),
        "openrouter": Vendor(
            "OpenRouter", "https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",), many=True
        ),
        "cloudflare": Vendor(
            "Cloudflare Workers AI",
            "https://api.cloudflare.com/client/v4/accounts/{account}/ai/v1",
            ("CLOUDFLARE_API_TOKEN",),
            {"account": ("CLOUDFLARE_ACCOUNT_ID",)},
            many=True,
        ),
        "lmstudio": Vendor("LM Studio", "http://127.0.0.1:1234/v1", keyless=True),
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
            dialect=Dialect(stream_options=False, rewrite=openai_functions.rewrite),
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
        "zai": Vendor("Z.ai", "https://api.z.ai/api/paas/v4", ("ZAI_API_KEY",), sign_in="glm"),
        "bigmodel": Vendor(
            "Zhipu BigModel", "https://open.bigmodel.cn/api/paas/v4", ("GLM_API_KEY",), sign_in="glm"
        ),
    }
)
"""By the kind of provider that each is."""

_BY_HOST: Final[Mapping[str, str]] = {
    host: kind
    for kind, vendor in VENDORS.items()
    for host in (urlsplit(vendor.base_url).hostname or "", *vendor.hosts)
    if host and not vendor.keyless and "{" not in host
}


def vendor_kind(kind: str, base_url: str | None) -> str | None:
    """The key in `VENDORS` of whom a provider is; None: nobody's.

    Kind `openai` with an address of its own is the vendor whose host that is.
    """
    if kind in VENDORS:
        return kind
    if kind != "openai" or base_url is None:
        return None
    return _BY_HOST.get(urlsplit(base_url).hostname or "")


def vendor_of(kind: str, base_url: str | None) -> Vendor | None:
    """The vendor that a provider is, as for `vendor_kind`."""
    found = vendor_kind(kind, base_url)
    return VENDORS[found] if found else None
