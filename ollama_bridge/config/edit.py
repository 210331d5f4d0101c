"""Edits of `config.yaml` that a daemon may be reading and another command may be making at the same moment.

Lock, read, change, check, write beside, flush to the disk, rename: whoever reads the file finds the old or the new
one, whole, also after a power cut; and of two edits neither is lost.

A model of the catalogue that is not in the file gets an entry there, which says no more than it must::

    models:
      - name: claude-haiku-4-5
        backend: anthropic
        enabled: false
"""

import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ollama_bridge.catalog import ModelConfig
from ollama_bridge.config.file import CATALOGUE, Loaded, Source, find
from ollama_bridge.config.splice import Splice
from ollama_bridge.config.yaml import read
from ollama_bridge.errors import ConfigError

LOCK_TIMEOUT_S: Final = 10.0

HEADER: Final = (
    "# ollama-bridge; `ollama-bridge config init --force` writes a commented example in place of this.\n"
)


def set_enabled(source: Source, names: Sequence[str], *, enabled: bool) -> Loaded:
    """Show models to clients, or hide them; what is so already is left alone.

    Raises:
        ConfigError: There is no such model, or the file cannot be changed. Then it is as it was.
    """

    def change(draft: "_Draft") -> None:
        for name in names:
            draft.set_enabled(name, enabled)

    return _edit(source, change)


def add_model(source: Source, entry: Mapping[str, Any]) -> Loaded:
    """Append a model.

    Args:
        source: Where the configuration is.
        entry: Keys of a `ModelConfig`, in the order they are to be written.

    Raises:
        ConfigError: With it the configuration would be bad, or the file cannot be changed. Then it is as it was.
    """
    return _edit(source, lambda draft: draft.add_model(entry))


def add_alias(source: Source, name: str, alias: str) -> Loaded:
    """Let a model answer to one more name.

    Raises:
        ConfigError: As for the others.
    """
    return _edit(source, lambda draft: draft.add_alias(name, alias))


def write(path: Path, text: str) -> None:
    """Put `text` in the place of the file, in one step that happens or does not.

    A link is followed; mode and owner stay; a new file is the user's own (0600).

    Raises:
        ConfigError: It cannot be written. Then it is as it was.
    """
    target = Path(os.path.realpath(path))
    try:
        with _locked(target):
            _replace(target, text)
    except OSError as exc:
        raise _unwritten(path, exc) from exc


def _edit(source: Source, change: Callable[["_Draft"], None]) -> Loaded:
    target = Path(os.path.realpath(source.path))
    try:
        with _locked(target):
            draft = _Draft(source)
            change(draft)
            if draft.changed:
                _replace(target, draft.text)
            return draft.loaded
    except OSError as exc:
        raise _unwritten(source.path, exc) from exc


class _Draft:
    """The file with changes made to it, each of them checked."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._label = str(source.path)
        text = source.text()
        self.loaded = source.parse(text)
        self.text = HEADER if text is None else text
        self.changed = False

    def set_enabled(self, name: str, enabled: bool) -> None:
        index, model = find(self.loaded.config, name)
        if model.enabled == enabled:
            return
        data = self._data()
        if self._is_catalogues(index):
            self._append({**_as_entry(model), "enabled": enabled})
            return
        data["models"][index]["enabled"] = enabled
        self._take(Splice(self.text, self._label).set_enabled(index, enabled), data)

    def add_alias(self, name: str, alias: str) -> None:
        index, model = find(self.loaded.config, name)
        data = self._data()
        if self._is_catalogues(index):
            self._append({**_as_entry(model), "aliases": [alias]})
            return
        data["models"][index]["aliases"] = [*(data["models"][index].get("aliases") or ()), alias]
        self._take(Splice(self.text, self._label).add_alias(index, alias), data)

    def add_model(self, entry: Mapping[str, Any]) -> None:
        self._append(entry)

    def _append(self, entry: Mapping[str, Any]) -> None:
        data = self._data()
        said = {key: list(value) if isinstance(value, tuple) else value for key, value in entry.items()}
        data["models"] = [*(data.get("models") or ()), said]
        self._take(Splice(self.text, self._label).append_model(entry), data)

    def _take(self, text: str, meant: Mapping[str, Any]) -> None:
        try:
            said = read(text, self._label, None).data
        except ConfigError:
            said = None
        if said != meant:
            raise ConfigError(f"{self._label}: is laid out too cleverly for this command; edit it by hand")
        self.loaded = self._source.parse(text)
        self.text = text
        self.changed = True

    def _data(self) -> dict[str, Any]:
        """What the file says, variables unexpanded: `${NAME}` must not be taken for its value."""
        return read(self.text, self._label, None).data or {}

    def _is_catalogues(self, index: int) -> bool:
        return self.loaded.origins.get(("models", index)) == CATALOGUE


def _as_entry(model: ModelConfig) -> dict[str, Any]:
    entry = {"name": model.name, "backend": model.backend, "backend_model": model.backend_model}
    if model.backend_model in {"", model.name}:
        del entry["backend_model"]
    return entry


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout  # noqa: PLC0415 - 0.1 s that commands which only read need not pay

    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(target.with_name(f".{target.name}.lock"), timeout=LOCK_TIMEOUT_S)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"{target}: another command has been changing it for {LOCK_TIMEOUT_S:g} s; try again"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _replace(target: Path, text: str) -> None:
    prefix, suffix = f".{target.name}.", ".tmp"
    # We hold the lock: whatever lies here was left by an edit that was killed.
    for stale in target.parent.glob(f"{prefix}*{suffix}"):
        stale.unlink(missing_ok=True)
    was = target.stat() if target.exists() else None
    if was is not None and not os.access(target, os.W_OK):
        raise PermissionError(None, "the file is read-only")
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=target.parent)
    beside = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            if was is not None:
                _adopt(handle, was)
            file.write(text)
            file.flush()
            os.fsync(handle)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


def _adopt(handle: int, was: os.stat_result) -> None:
    """Owner and mode of the file that is replaced; the owner first, for a change of owner clears bits of the mode."""
    now = os.fstat(handle)
    if (now.st_uid, now.st_gid) != (was.st_uid, was.st_gid):
        os.fchown(handle, was.st_uid, was.st_gid)
    os.fchmod(handle, stat.S_IMODE(was.st_mode))


def _flush_folder(folder: Path) -> None:
    """Without this the rename itself may be lost in a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritten(path: Path, exc: OSError) -> ConfigError:
    return ConfigError(f"{path}: cannot be written: {exc.strerror or exc}; nothing was changed")
