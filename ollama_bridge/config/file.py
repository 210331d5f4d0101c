"""Where a configuration comes from: flag, environment, file, default, in this order of rank.

    source = Source(path, flags={("server", "port"): ("--port", 8080)})
    loaded = source.load()          # reads the file and the `.env` beside it anew each time
    loaded.config, loaded.origins   # the values, and where each came from

The process's environment is copied when a `Source` is made: the daemon later removes keys from it, and must
still find them when it loads again.
"""

import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from ollama_bridge.catalog import ModelConfig, catalogue_models
from ollama_bridge.config.faults import faults
from ollama_bridge.config.instead import instead_faults
from ollama_bridge.config.nearest import suggestion
from ollama_bridge.config.offering import live_providers, offered, parents, told
from ollama_bridge.config.schema import ENTRY_VARIABLES, IMPLICIT_PROVIDERS, Config, KeyPath, suffice
from ollama_bridge.discovered import other_name
from ollama_bridge.errors import ConfigError
from ollama_bridge.lineage import BrokenLineage, folded, key_of, places
from ollama_bridge.lists import NO_LISTS, Lists
from ollama_bridge.lists import default_path as default_lists
from ollama_bridge.lists import read as lists_of
from ollama_bridge.masking import mask
from ollama_bridge.names import parse_name

if TYPE_CHECKING:
    from ollama_bridge.config.yaml import Tree

FILE_NAME: Final = "config.yaml"
DEFAULT: Final = "default"
CATALOGUE: Final = "catalogue"
LISTED: Final = "provider's list"
OFFERED: Final = frozenset({CATALOGUE, LISTED})
"""Origins of models that stand in no file."""

VARIABLES: Final[Mapping[str, KeyPath]] = {
    "PORT": ("server", "port"),
    "OLLAMA_ORIGINS": ("server", "origins"),
    "AUTH_TOKEN": ("server", "api_keys"),
    "LOG_LEVEL": ("log_level",),
    "DEFAULT_MAX_TOKENS": ("default_max_tokens",),
    "STREAMING_CHUNK_SIZE": ("streaming", "chunk_size"),
    "STREAMING_DELAY_MS": ("streaming", "delay_ms"),
    "MAX_RETRIES": ("retry", "max_retries"),
    "INITIAL_BACKOFF": ("retry", "initial_backoff_ms"),
    "MAX_BACKOFF": ("retry", "max_backoff_ms"),
    "BACKOFF_FACTOR": ("retry", "backoff_factor"),
    "JITTER": ("retry", "jitter"),
    "CIRCUIT_BREAKER_MAX_REQUESTS": ("breaker", "failures"),
    "CIRCUIT_BREAKER_TIMEOUT": ("breaker", "open_s"),
    "CACHE_ENABLED": ("cache", "enabled"),
    "CACHE_TTL": ("cache", "ttl_s"),
    "REDIS_ADDR": ("state",),
}
"""Environment variables that hold one value each. An empty one counts as not set."""

Flags = Mapping[KeyPath, tuple[str, object]]
"""What the command line says: place to the flag's name and its value."""


def default_path() -> Path:
    """`config.yaml` in the user's own configuration folder; it need not exist."""
    import platformdirs  # noqa: PLC0415 - not needed with --config, and start-up time is counted in milliseconds

    return platformdirs.user_config_path("ollama-bridge") / FILE_NAME


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and where its values came from (`config.yaml:12`, `environment PORT`, `--port`, …).

    Args:
        origins: By place; `origin` knows how to read it.
        lists: What the providers said of their models.
        halves: Kinds of providers whose key the environment has, and not the rest; and the key's variable.
    """

    config: Config
    origins: Mapping[KeyPath, str]
    lists: Lists = NO_LISTS
    halves: Mapping[str, str] = field(default_factory=dict)

    def origin(self, path: KeyPath) -> str:
        """Where the value at `path` came from.

        An entry of `models` or `providers` speaks for what stands in it; a section does not, for its other values
        are defaults.
        """
        for length in range(len(path), min(len(path), 2) - 1, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return DEFAULT


@dataclass(frozen=True, slots=True)
class Source:
    """Everything a configuration is made of, ready to be read again.

    Args:
        path: The file.
        required: Whether the file must exist: somebody named it.
        env_file: Instead of the `.env` beside the file; must exist.
        environ: The process's environment, as it was when the process started.
        flags: What the command line says.
        lists: The file with the providers' lists of models; None: in the user's own cache folder.
    """

    path: Path
    required: bool = False
    env_file: Path | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    flags: Flags = field(default_factory=dict)
    lists: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """What is read, whether it exists or not: who follows changes watches these."""
        return self.path, self._env_file, self.lists_file

    @property
    def lists_file(self) -> Path:
        """Where the providers' lists of models are kept."""
        return self.lists or default_lists()

    @property
    def _env_file(self) -> Path:
        return self.env_file or self.path.with_name(".env")

    def load(self, *, hidden: bool = False) -> Loaded:
        """Read everything anew.

        Args:
            hidden: Whether also all models that providers list and that clients do not see: hundreds, perhaps.

        Raises:
            ConfigError: It cannot be used; the message names file, line and key, or the variable.
        """
        text = self.text()
        if text is None and self.required:
            raise ConfigError(f"{self.path}: no such file; `ollama-bridge config init` writes one")
        return self.parse(text, hidden=hidden)

    def text(self) -> str | None:
        """The file as it stands, line endings included; None when there is none."""
        return _read_text(self.path)

    def parse(self, text: str | None, *, hidden: bool = False) -> Loaded:
        """The configuration if the file held `text`; `hidden` as for `load`."""
        environ, names = self._environment()
        tree = _tree(text, str(self.path), environ) if text else None
        if tree is not None and not isinstance(tree.data, dict | None):
            raise ConfigError(f"{self.path}:1: must hold keys with values, as in 'server: {{port: 11434}}'")
        return _Assembly(self, tree, environ, names, hidden=hidden).loaded()

    def _environment(self) -> tuple[dict[str, str], dict[str, str]]:
        """Name to value, and name to what errors and origins call it."""
        file = self._env_file
        text = _read_text(file)
        if text is None and self.env_file:
            raise ConfigError(f"{file}: no such file")
        beside = _dotenv(text, file) if text else {}
        environ = {**beside, **self.environ}
        names = {name: f"environment {name}" for name in environ}
        names.update({name: f"{file} {name}" for name in beside if name not in self.environ})
        return environ, names


def parse_host(value: str) -> tuple[str, int | None]:
    """Host and port of an `OLLAMA_HOST`, as Ollama's own `envconfig.Host` reads it.

    The host is empty for all interfaces; the port is None where the value leaves it open, or names an impossible
    one, in which case Ollama takes its default.
    """
    text = value.strip().strip("\"'").strip()
    scheme, sign, rest = text.partition("://")
    if not sign:
        scheme, rest = ("https", "ollama.com") if text == "ollama.com" else ("", text)
    address = rest.partition("/")[0]
    implied = {"http": 80, "https": 443}.get(scheme)
    if address.startswith("["):
        host, _, tail = address[1:].partition("]")
        port = tail.removeprefix(":")
    elif address.count(":") > 1:
        host, port = address, ""
    else:
        host, _, port = address.partition(":")
    if port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65_536:
        return host, int(port)
    return host if address else "127.0.0.1", implied


def find(config: Config, name: str) -> tuple[int, ModelConfig]:
    """The model of that name or alias, enabled or not, with or without tag, in any case; and its place in `models`.

    Raises:
        ConfigError: There is none; the message names the nearest.
    """
    key = key_of(name)
    index = places(config.models).get(key)
    if index is None:
        others = (at for at, model in enumerate(config.models) if key and key_of(other_name(model)) == key)
        index = next(others, None)
    if index is None:
        known = [spelling for model in config.models for spelling in (model.name, *model.aliases)]
        raise ConfigError(f"model '{name}' not found{suggestion(name, known) or _live_hint(config, name)}")
    return index, config.models[index]


def _live_hint(config: Config, name: str) -> str:
    """A real Ollama's models are in no file: the daemon asks for them each time."""
    live = next(iter(live_providers(config)), "")
    entry = f"`ollama-bridge models add {name} --backend {live}` makes an entry of it"
    return f"; if it is one of those that '{live}' has, {entry}" if live else ""


class _Assembly:
    """Puts flags over environment over file, then adds what the catalogue offers."""

    def __init__(
        self,
        source: Source,
        tree: "Tree | None",
        environ: Mapping[str, str],
        names: Mapping[str, str],
        *,
        hidden: bool,
    ) -> None:
        self._source = source
        self._hidden = hidden
        self._lines = tree.lines if tree else {}
        self._expanded = tree.expanded if tree else set()
        self._environ = environ
        self._names = names
        self._data: dict[str, Any] = (tree and tree.data) or {}
        self._origins = {place: f"{source.path}:{line}" for place, line in self._lines.items()}
        self._halves: dict[str, str] = {}

    def loaded(self) -> Loaded:
        self._take_variables()
        self._take_keys()
        for place, (flag, value) in self._source.flags.items():
            self._put(place, value, flag)
        self._imply_providers()
        written = self._validated()
        lists = lists_of(self._source.lists_file)
        offers = tuple(offered(written, lists, hidden=self._hidden))
        added = tuple(offer.config for offer in offers)
        origins = [LISTED if offer.from_list else CATALOGUE for offer in offers]
        added += tuple(parents(written, added, lists))
        places = enumerate((*origins, *(CATALOGUE for _ in added[len(origins) :])), start=len(written.models))
        self._origins.update({("models", place): origin for place, origin in places})
        models = written.models + added
        try:
            whole = folded(models)
        except BrokenLineage as exc:
            _, origin = self._place(("models", exc.index, "from"))
            raise ConfigError(f"{origin}: {exc}") from None
        for place, message in instead_faults(written, models, whole, lists):
            raise ConfigError(mask(f"{self._place(place)[1]}: {message}"))
        return Loaded(
            written.offering(models, told(written, whole, lists)), self._origins, lists, self._halves
        )

    def _take_variables(self) -> None:
        for name in VARIABLES:
            if value := self._environ.get(name, "").strip():
                self._put(VARIABLES[name], value, self._names[name])
        if address := self._environ.get("OLLAMA_HOST", "").strip():
            host, port = parse_host(address)
            self._put(("server", "host"), host, self._names["OLLAMA_HOST"])
            if port is not None:
                self._put(("server", "port"), port, self._names["OLLAMA_HOST"])

    def _take_keys(self) -> None:
        providers = self._data.get("providers") or {}
        for kind, names in ENTRY_VARIABLES.items():
            written = isinstance(providers, dict) and kind in providers
            entry = (providers[kind] if written else None) or {}
            if not isinstance(entry, dict) or entry.get("kind") not in {None, "", kind}:
                continue
            # An entry with an address of its own gets no key that it does not name: the address may be a
            # third party's.
            if entry.get("base_url"):
                continue
            taken = {
                key: set_by
                for key, variables in names.items()
                if (set_by := self._first_set(variables)) and (key == "api_key" or not entry.get(key))
            }
            if written or suffice(kind, {key: self._environ[name] for key, name in taken.items()}):
                for key, name in taken.items():
                    self._put(("providers", kind, key), self._environ[name], self._names[name])
            elif "api_key" in taken:
                self._halves[kind] = taken["api_key"]

    def _first_set(self, names: Iterable[str]) -> str | None:
        return next((name for name in names if self._environ.get(name, "").strip()), None)

    def _imply_providers(self) -> None:
        """Entries nobody needs to write: of a built-in provider that a model names, and of the demo."""
        models = self._data.get("models") or []
        providers = self._data.get("providers") or {}
        if not isinstance(providers, dict) or not isinstance(models, list):
            return
        named = {str(model.get("backend")) for model in models if isinstance(model, dict)}
        parents = {
            str(model.get("from")).removesuffix(":latest") for model in models if isinstance(model, dict)
        }
        parents -= {str(model.get("name")) for model in models if isinstance(model, dict)}
        named |= {
            kind
            for kind in IMPLICIT_PROVIDERS
            if any(one.name in parents for one in catalogue_models(kind, kind))
        }
        implied: dict[str, Any] = {name: {} for name in sorted(named & IMPLICIT_PROVIDERS)}
        self._data["providers"] = {**providers, **implied, **providers} or {"demo": {}}

    def _put(self, place: KeyPath, value: object, origin: str) -> None:
        """Set one value; where the file has something else than a mapping above it, validation will say so."""
        *above, last = place
        section: Any = self._data
        for key in above:
            if section.get(key) is None:
                section[key] = {}
            section = section[key]
            if not isinstance(section, dict):
                return
        section[last] = value
        self._origins[place] = origin

    def _validated(self) -> Config:
        try:
            return Config.model_validate(self._data)
        except ValidationError as exc:
            found = sorted(
                ((self._place(fault.path), fault) for fault in faults(exc)), key=lambda pair: pair[0][0]
            )
        (_, origin), first = found[0]
        shown = first.text(hide_value=self._is_expanded(first.path))
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        # `from None`, above all: pydantic's own error holds the values, keys among them.
        raise ConfigError(mask(f"{origin}: {shown}{more}")) from None

    def _place(self, path: KeyPath) -> tuple[tuple[int, str], str]:
        """For sorting: the line in the file (others first); for people: the origin nearest to `path`."""
        nearest = path
        while nearest and nearest not in self._origins:
            nearest = nearest[:-1]
        origin = self._origins.get(nearest, str(self._source.path))
        return (self._lines.get(nearest, 0), origin), origin

    def _is_expanded(self, path: KeyPath) -> bool:
        return any(place[: len(path)] == path for place in self._expanded)


def _key(name: str) -> str:
    return parse_name(name).key


def _tree(text: str, label: str, variables: Mapping[str, str]) -> "Tree":
    from ollama_bridge.config.yaml import read  # noqa: PLC0415 - who has no file need not wait for a YAML reader

    return read(text, label, variables)


def _read_text(path: Path) -> str | None:
    try:
        # newline="": an edit must give back the line endings it found.
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {exc.start})") from None
    except (OSError, ValueError) as exc:
        raise ConfigError(f"{path}: cannot be read: {getattr(exc, 'strerror', None) or exc}") from None


def _dotenv(text: str, path: Path) -> dict[str, str]:
    """What a `.env` file sets. `${…}` in it stays as it is: its values are keys, and may hold any sign."""
    from dotenv.parser import parse_stream  # noqa: PLC0415 - only who has such a file pays for it

    values = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            raise ConfigError(f"{path}:{binding.original.line}: not a NAME=value line")
        if binding.key is not None and binding.value is not None:
            values[binding.key] = binding.value
    return values
