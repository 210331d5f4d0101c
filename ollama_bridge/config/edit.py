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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ollama_bridge.config import making
from ollama_bridge.config.draft import Draft
from ollama_bridge.config.file import Loaded, Source
from ollama_bridge.errors import ConfigError
from ollama_bridge.wholefile import locked, replace

LOCK_TIMEOUT_S: Final = 10.0


def set_enabled(source: Source, names: Sequence[str], *, enabled: bool) -> Loaded:
    """Show models to clients, or hide them; what is so already is left alone.

    Raises:
        ConfigError: There is no such model, or the file cannot be changed. Then it is as it was.
    """

    def change(draft: Draft) -> None:
        for name in names:
            draft.set_enabled(name, enabled)

    return apply(source, change)


def add_model(source: Source, entry: Mapping[str, Any]) -> Loaded:
    """Append a model.

    Args:
        source: Where the configuration is.
        entry: Keys of a `ModelConfig`, in the order they are to be written.

    Raises:
        ConfigError: With it the configuration would be bad, or the file cannot be changed. Then it is as it was.
    """
    return apply(source, lambda draft: draft.append(entry))


def add_alias(source: Source, name: str, alias: str) -> Loaded:
    """Let a model answer to one more name.

    Raises:
        ConfigError: As for the others.
    """
    return apply(source, lambda draft: draft.add_alias(name, alias))


def write(path: Path, text: str) -> None:
    """Put `text` in the place of the file, in one step that happens or does not.

    A link is followed; mode and owner stay; a new file is the user's own (0600).

    Raises:
        ConfigError: It cannot be written. Then it is as it was.
    """
    target = Path(os.path.realpath(path))
    try:
        with _locked(target):
            replace(target, text.encode())
    except OSError as exc:
        raise _unwritten(path, exc) from exc


def remove_models(source: Source, names: Sequence[str]) -> Loaded:
    """Take models out of the file; what was made from them keeps what it had from them.

    Raises:
        ConfigError: As for the others; or one of them is not in the file, but a built-in one.
    """

    def change(draft: Draft) -> None:
        for name in names:
            making.cut(draft, name)

    return apply(source, change)


def apply(source: Source, change: making.Change) -> Loaded:
    """Change the file, whole or not at all, and never at the same moment as somebody else.

    Args:
        source: Where the configuration is.
        change: Works on the draft, and raises what it likes to leave the file as it is.

    Raises:
        ConfigError: With it the configuration would be bad, or the file cannot be changed. Then it is as it was.
    """
    target = Path(os.path.realpath(source.path))
    try:
        with _locked(target):
            draft = Draft(source)
            change(draft)
            if draft.changed:
                replace(target, draft.text.encode())
            return draft.loaded
    except OSError as exc:
        raise _unwritten(source.path, exc) from exc


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    try:
        with locked(target, within_s=LOCK_TIMEOUT_S):
            yield
    except TimeoutError:
        raise ConfigError(
            f"{target}: another command has been changing it for {LOCK_TIMEOUT_S:g} s; try again"
        ) from None


def _unwritten(path: Path, exc: OSError) -> ConfigError:
    return ConfigError(f"{path}: cannot be written: {exc.strerror or exc}; nothing was changed")
