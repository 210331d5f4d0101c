"""Those who speak OpenAI's APIs without being OpenAI: data, one row each.

A row is a kind of provider, served by `backends.openai`. To add a vendor, add a row; a test then sends it a request
and looks at URL, headers and body.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from ollama_bridge.backends.dialect import Dialect
from ollama_bridge.chat import Rules
from ollama_bridge.facts import Facts

_TEXT: Final = Rules()


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
