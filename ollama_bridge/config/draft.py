"""A configuration file with changes made to it that nobody sees yet, each of them checked."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from ollama_bridge.catalog import ModelConfig
from ollama_bridge.config.file import OFFERED, Source, find
from ollama_bridge.config.splice import Splice
from ollama_bridge.config.yaml import read
from ollama_bridge.errors import ConfigError

HEADER: Final = (
    "# ollama-bridge; `ollama-bridge config init --force` writes a commented example in place of this.\n"
)


class Draft:
    """The file as it is to be. Whoever makes one holds the file's lock until it is written, or not.

    Every change is checked when it is made: with it the file says exactly what was meant, and can be used.

    Args:
        source: Where the configuration is.

    Raises:
        ConfigError: The file cannot be used as it is; from any change: with it the configuration would be bad.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._label = str(source.path)
        text = source.text()
        self.loaded = source.parse(text, hidden=True)
        self.text = HEADER if text is None else text
        self.changed = False
        self._said: Any = read(self.text, self._label, None).data or {}

    def set_enabled(self, name: str, enabled: bool) -> None:
        """Show a model to clients, or hide it; what is so already is left alone."""
        index, model = find(self.loaded.config, name)
        if model.enabled == enabled:
            return
        data = self._data()
        if self.is_catalogues(index):
            self.append({**self.entry(index), "enabled": enabled})
            return
        data["models"][index]["enabled"] = enabled
        self._take(Splice(self.text, self._label).set_enabled(index, enabled), data)

    def add_alias(self, name: str, alias: str) -> None:
        """Let a model answer to one more name."""
        index, _ = find(self.loaded.config, name)
        data = self._data()
        if self.is_catalogues(index):
            self.append({**self.entry(index), "aliases": [alias]})
            return
        data["models"][index]["aliases"] = [*(data["models"][index].get("aliases") or ()), alias]
        self._take(Splice(self.text, self._label).add_alias(index, alias), data)

    def remove_alias(self, index: int, number: int) -> None:
        """Take one of its aliases from the model at `index`."""
        data = self._data()
        del data["models"][index]["aliases"][number]
        self._take(Splice(self.text, self._label).remove_alias(index, number), data)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add a model, the last: keys of a `ModelConfig` in the order they are to be written."""
        data = self._data()
        data["models"] = [*(data.get("models") or ()), _plain(entry)]
        self._take(Splice(self.text, self._label).append_model(entry), data)

    def replace(self, index: int, entry: Mapping[str, Any]) -> None:
        """Put another model in the place of the one at `index`."""
        data = self._data()
        data["models"][index] = _plain(entry)
        self._take(Splice(self.text, self._label).replace_model(index, entry), data)

    def cut(self, index: int) -> None:
        """Take the model at `index` out of the file."""
        data = self._data()
        del data["models"][index]
        self._take(Splice(self.text, self._label).remove_model(index), data)

    def entry(self, index: int) -> dict[str, Any]:
        """What the file says of the model at `index`, variables unexpanded; of the catalogue's, the least it could."""
        if not self.is_catalogues(index):
            entry: dict[str, Any] = self._data()["models"][index]
            return entry
        return _least(self.loaded.config.models[index])

    def is_catalogues(self, index: int) -> bool:
        """Whether the model at `index` is in no file."""
        return self.loaded.origins.get(("models", index)) in OFFERED

    def _take(self, text: str, meant: Mapping[str, Any]) -> None:
        try:
            said = read(text, self._label, None).data
        except ConfigError:
            said = None
        if _without_no_models(said or {}) != _without_no_models(meant):
            raise ConfigError(f"{self._label}: is laid out too cleverly for this command; edit it by hand")
        try:
            self.loaded = self._source.parse(text, hidden=True)
        except ConfigError as exc:  # the file was fine before: it is the fault of who asked for the change
            raise ConfigError(str(exc), status=400) from None
        self.text, self._said = text, said or {}
        self.changed = True

    def _data(self) -> dict[str, Any]:
        """What the file says, to be changed freely; variables unexpanded: `${NAME}` must not be taken for its value."""
        data: dict[str, Any] = deepcopy(self._said)
        return data


def _least(model: ModelConfig) -> dict[str, Any]:
    entry = {"name": model.name, "backend": model.backend, "backend_model": model.backend_model}
    if model.backend_model in {"", model.name}:
        del entry["backend_model"]
    return entry


def _plain(value: Any) -> Any:
    """As YAML reads it back: lists for tuples."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _without_no_models(data: Any) -> Any:
    """A list that has become empty may be written as `models:` or `models: []`."""
    if isinstance(data, Mapping) and not data.get("models"):
        return {key: value for key, value in data.items() if key != "models"}
    return data
