"""The file that says which repairs models turned out to need. Whoever has an event loop reads and writes it in a thread.

Commands that only look at it load nothing but this.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
from platformdirs import user_state_path

from ollama_bridge import wholefile
from ollama_bridge.repairs import Repair

DAYS: Final = 30
"""After which a repair is forgotten: a provider may have mended its model."""

MOST_MODELS: Final = 500
"""Of more, those that learned last stay."""

_DAY_S: Final = 86_400
_LOCK_S: Final = 5.0

Place: TypeAlias = tuple[str, str]
"""A provider's key in the configuration, and a model as that provider knows it."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One repair that one model needs.

    Args:
        repair: What is done.
        at_s: When it first helped, in seconds since the epoch.
    """

    repair: Repair
    at_s: float


Lessons: TypeAlias = Mapping[Place, Sequence[Lesson]]


def learned_path() -> Path:
    """Where the daemons of this user write, and the command line reads."""
    return user_state_path("ollama-bridge") / "learned.json"


def remembered(path: Path, *, clock_s: Callable[[], float] = time.time) -> Lessons:
    """What the file holds, without what is too old; nothing, if there is no such file or it cannot be read."""
    try:
        return bounded(read(path), clock_s())
    except (OSError, ValueError):
        return {}


def forget(path: Path, places: Iterable[Place]) -> int:
    """Forget what was learned of some models; how many repairs that were.

    Raises:
        OSError: The file cannot be changed.
    """
    if not path.exists():
        return 0
    with locked(path):
        found = dict(remembered(path))
        gone = sum(len(found.pop(place, ())) for place in set(places))
        if gone:
            write(path, found)
    return gone


def fresh_since_s(now_s: float) -> float:
    """What was learned before, in seconds since the epoch, is forgotten."""
    return now_s - DAYS * _DAY_S


def bounded(lessons: Lessons, now_s: float) -> Lessons:
    """Without what is too old, or too much."""
    oldest_s = fresh_since_s(now_s)
    fresh = {place: [one for one in each if one.at_s > oldest_s] for place, each in lessons.items()}
    places = sorted((place for place in fresh if fresh[place]), key=lambda place: fresh[place][-1].at_s)
    return {place: fresh[place] for place in places[-MOST_MODELS:]}


# ------------------------------------------------------------------------------------------ the file


def read(path: Path) -> Lessons:
    """All of it; nothing, if there is no file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is none of ours.
    """
    try:
        models = orjson.loads(path.read_bytes())["models"]
        return {
            (str(each["provider"]), str(each["model"])): [_lesson(one) for one in each["learned"]]
            for each in models
        }
    except FileNotFoundError:
        return {}
    except (AttributeError, KeyError, TypeError) as exc:
        raise ValueError(f"it holds something else ({type(exc).__name__})") from exc


def _lesson(one: Mapping[str, Any]) -> Lesson:
    instead = one.get("instead")
    if isinstance(instead, list):
        instead = tuple(str(word) for word in instead)
    elif not isinstance(instead, str | int | float | None):
        raise TypeError("instead")
    words = (one["parameter"], one.get("refused", ""), one.get("beside", ""))
    if not all(isinstance(word, str) for word in words) or not one["parameter"]:
        raise TypeError("parameter")
    return Lesson(Repair(words[0], instead, words[1], words[2]), float(one["at"]))


def _dumped(lesson: Lesson) -> dict[str, Any]:
    repair = lesson.repair
    said = {"instead": repair.instead, "refused": repair.refused, "beside": repair.beside}
    return {
        "parameter": repair.parameter,
        **{name: value for name, value in said.items() if value not in (None, "")},
        "at": round(lesson.at_s),
    }


def write(path: Path, lessons: Lessons) -> None:
    """Put these in the place of what it holds, whole or not at all; inside `locked`.

    Raises:
        OSError: It cannot be written.
    """
    models = [
        {"provider": provider, "model": model, "learned": [_dumped(lesson) for lesson in learned]}
        for (provider, model), learned in lessons.items()
    ]
    wholefile.replace(path, orjson.dumps({"models": models}, option=orjson.OPT_INDENT_2))


def locked(path: Path) -> AbstractContextManager[None]:
    """While inside, nobody else changes it; its folder is there.

    Raises:
        OSError: Somebody else is at it for too long, or the folder cannot be made.
    """
    return wholefile.locked(path, within_s=_LOCK_S)
