"""What is said of one vendor that speaks OpenAI's APIs: the shape of a row of `vendors`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Final

from ollama_bridge.backends.dialect import Dialect
from ollama_bridge.chat import Rules
from ollama_bridge.facts import Facts

_TEXT: Final = Rules()


@dataclass(frozen=True, slots=True)
class Fim:
    """Where a vendor fills gaps in code by itself.

    Args:
        path: Below `base_url`; with a slash in front: of the host.
        models: What the names of the models begin with that can.
    """

    path: str
    models: tuple[str, ...]


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
        fim: Where it fills gaps in code; None: it is asked in a chat.
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
    fim: Fim | None = None
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
