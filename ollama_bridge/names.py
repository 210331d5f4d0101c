"""Model names as Ollama reads and writes them: `[scheme://][host/][namespace/]model[:tag]`.

Clients spell one model in many ways: `llama3`, `llama3:latest`, `LLAMA3`, `library/llama3`,
`registry.ollama.ai/library/llama3:latest`. `parse_name` takes any of them, `Name.shortest` is the one
spelling that lists show, and two names mean the same model when their `Name.key` is the same.

    parse_name("claude-sonnet").shortest                  'claude-sonnet:latest'
    parse_name("https://registry.ollama.ai/library/x")    Name('registry.ollama.ai', 'library', 'x', 'latest')
    normalise_name("MyNs/Copy:V1")                        'MyNs/Copy:V1'    (the case is kept)
    parse_name("a b")                                     InvalidName: invalid model name

A trailing `:local` says "this server's own" and is dropped, for every model here is that. `:cloud` and a
tag that ends in `-cloud` would make a real Ollama ask ollama.com; here they are a part of the tag, so that
such a name is found if the operator offers it, and unknown otherwise.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import orjson

DEFAULT_HOST: Final = "registry.ollama.ai"
DEFAULT_NAMESPACE: Final = "library"
DEFAULT_TAG: Final = "latest"

_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_LONGEST_PART: Final = 72  # of 80
_FOLDERS: Final = frozenset({"", "@cf", "@hf", "accounts", "models", "publishers"})
"""Parts of providers' ids that tell nothing of the model: `accounts/fireworks/models/x`, `@cf/meta/x`."""
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


class InvalidName(ValueError):
    """Not a model name; the message is Ollama's own."""


@dataclass(frozen=True, slots=True)
class Name:
    """A complete name; whatever was left out has its default. The case is as written."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def full(self) -> str:
        """`registry.ollama.ai/library/llama3:latest`, as some error messages have it."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def shortest(self) -> str:
        """As lists show it: without the default host and namespace, always with the tag."""
        short = f"{self.model}:{self.tag}"
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{short}"
        return short if self.namespace.lower() == DEFAULT_NAMESPACE else f"{self.namespace}/{short}"

    @property
    def key(self) -> str:
        """What to look a model up by: names differ only in more than case."""
        return self.shortest.lower()


@lru_cache(maxsize=16_384)  # several for each of some thousand models
def parse_name(name: str) -> Name:
    """Read a name in any of its spellings.

    Raises:
        InvalidName: `model is required`, `invalid model name`, or the complaint about `:cloud:local`.
    """
    path = _without_source(name.strip())
    if not path:
        raise InvalidName("model is required")
    tag = DEFAULT_TAG
    if path.rfind(":") > path.rfind("/"):
        path, _, tag = path.rpartition(":")
    rest, _, model = path.rpartition("/")
    host, namespace = DEFAULT_HOST, DEFAULT_NAMESPACE
    if "/" in path:
        before, slash, namespace = rest.rpartition("/")
        if slash:
            host = before.partition("://")[2] or before
    valid = (
        _PART.fullmatch(tag)
        and _PART.fullmatch(model)
        and _NAMESPACE.fullmatch(namespace)
        and _HOST.fullmatch(host)
    )
    if not valid:
        raise InvalidName("invalid model name")
    return Name(host, namespace, model, tag)


def normalise_name(name: str) -> str:
    """The one spelling that lists show, always with a tag; see `Name.shortest`.

    Raises:
        InvalidName: As `parse_name`.
    """
    return parse_name(name).shortest


@lru_cache(maxsize=8192)
def fitted(model_id: str, under: str = "") -> str:
    """A name made of what a provider calls a model; the same for the same id, and valid whatever it is.

        fitted("@cf/meta/llama-3.1-8b")                   'meta/llama-3.1-8b'
        fitted("accounts/fireworks/models/x")             'fireworks/x'
        fitted("deepseek/deepseek-r1:free", "openrouter") 'openrouter/deepseek/deepseek-r1:free'

    Args:
        model_id: Any text.
        under: What to put in front: the provider's key in the configuration, any text too.
    """
    parts = [part for part in model_id.strip().split("/") if part not in _FOLDERS]
    last = parts.pop() if parts else ""
    model, _, tag = last.rpartition(":")
    model, tag = (model, _fit(tag)) if model and _fit(tag) else (last, "")
    if tag.lower() in {"local", "latest"}:  # `x:local` is `x`, which may be another model
        model, tag = f"{model}-{tag}" if tag.lower() == "local" else model, ""
    above = [_fit(part).replace(".", "-") for part in parts[-1:]]
    front = [_fit(under).replace(".", "-")] if under else []
    if above and above == front:  # `fireworks/x` of the provider `fireworks`
        above = []
    path = "/".join([*filter(None, (*front, *above)), _fit(model) or f"model-{_mark(model_id)}"])
    name = f"{path}:{tag}" if tag else path
    # Clients take `…-cloud` for a model of ollama.com.
    return f"{name[: -len('cloud')]}hosted" if name.lower().endswith(("-cloud", ":cloud")) else name


def _fit(part: str) -> str:
    """Of the letters that a part of a name may have; what was longer is told apart by a mark at its end."""
    fit = _UNFIT.sub("-", part).strip("-.")
    return fit if len(fit) <= _LONGEST_PART else f"{fit[: _LONGEST_PART - 9]}-{_mark(part)}"


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _without_source(name: str) -> str:
    base, source = _source(name)
    if not source:
        return name
    if _source(base)[1]:
        quoted = orjson.dumps(name).decode()
        raise InvalidName(f"use either :local or :cloud, not both: {quoted}")
    if source == "local":
        return base
    # `x:8b:cloud` and `x:8b-cloud` are the same; a bare `x:cloud` has the tag `cloud`.
    tagged = base.rfind(":") > base.rfind("/")
    return f"{base}-cloud" if tagged else f"{base}:cloud"


def _source(name: str) -> tuple[str, str]:
    """The name without its `:local`, `:cloud` or `-cloud`, and which it was ("": none)."""
    base, colon, suffix = name.rpartition(":")
    word = suffix.strip().lower()
    if colon and word in {"local", "cloud"}:
        return base, word
    if colon and "/" not in word and word.endswith("-cloud"):
        return base + colon + suffix.strip()[: -len("-cloud")], "cloud"
    return name, ""
