"""The repairs that models turned out to need, kept for a while in a small file: what no table of ours knew.

Several processes may learn at once: each adds what is new to what the file holds by then, under a lock. What somebody
took out of it (`ollama-bridge models forget`) a running daemon has forgotten a few seconds later.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import orjson
import structlog
from platformdirs import user_state_path

from ollama_bridge.repairs import Repair
from ollama_bridge.store.lane import Lane

log = structlog.get_logger(__name__)

DAYS: Final = 30
"""After which a repair is forgotten: a provider may have mended its model."""

MOST_MODELS: Final = 500
"""Of more, those that learned last stay."""

LOOK_S: Final = 3.0
"""Seconds between two looks whether somebody changed the file."""

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


class Learned:
    """What was learned of all models.

    Args:
        path: Of the file; it and its folder are made when something is learned, readable by nobody else. None: it is
            kept in memory only.
        clock_s: Seconds since the epoch.
        monotonic_s: Monotonic seconds.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        clock_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._clock_s = clock_s
        self._monotonic_s = monotonic_s
        self._lane = Lane("learned")
        self._has_warned = False
        self._looked_s = monotonic_s()
        self._changed_ns = 0
        self._lessons: Lessons = {}
        if path is not None:
            self._refresh()

    def of(self, provider: str, model: str) -> tuple[Repair, ...]:
        """The repairs that a model is known to need."""
        if not self._lessons:
            return ()
        self._look()
        oldest_s = self._clock_s() - DAYS * _DAY_S
        lessons = self._lessons.get((provider, model), ())
        return tuple(lesson.repair for lesson in lessons if lesson.at_s > oldest_s)

    def learn(self, provider: str, model: str, repairs: Iterable[Repair]) -> None:
        """These helped; from now on they are made at once."""
        known = self.of(provider, model)
        new = [Lesson(repair, self._clock_s()) for repair in repairs if repair not in known]
        if not new:
            return
        for lesson in new:
            log.info(
                "parameter left out from now on"
                if lesson.repair.instead is None
                else "parameter replaced from now on",
                provider=provider,
                model=model,
                parameter=lesson.repair.subject,
                **({} if lesson.repair.instead is None else {"instead": lesson.repair.remedy}),
            )
        self._lessons = self._with(self._lessons, (provider, model), new)
        if self._path is not None:
            path = self._path
            self._lane.put(lambda: self._keep(path, (provider, model), new))

    async def aclose(self) -> None:
        """Write what is still to be written; what is learned afterwards stays in memory."""
        self._path = None
        await self._lane.end()

    def _with(self, lessons: Lessons, place: Place, new: Sequence[Lesson]) -> Lessons:
        repairs = [lesson.repair for lesson in new]
        kept = [lesson for lesson in lessons.get(place, ()) if lesson.repair not in repairs]
        return _bounded({**lessons, place: (*kept, *new)}, self._clock_s())

    def _look(self) -> None:
        now_s = self._monotonic_s()
        if self._path is None or now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        self._lane.put(self._refresh)

    # What follows runs in the lane's thread, but for the first refresh.

    def _refresh(self) -> None:
        """Take over what the file holds, if it is another one than before."""
        if self._path is None:
            return
        try:
            changed_ns = self._path.stat().st_mtime_ns
            if changed_ns != self._changed_ns:
                self._lessons = _bounded(_read(self._path), self._clock_s())
                self._changed_ns = changed_ns
        except FileNotFoundError:
            if self._changed_ns:
                self._changed_ns, self._lessons = 0, {}
        except (OSError, ValueError) as exc:
            self._warn(exc)

    def _keep(self, path: Path, place: Place, new: Sequence[Lesson]) -> None:
        try:
            with _locked(path):
                try:
                    found = _read(path)
                except ValueError as exc:
                    self._warn(exc)
                    found = {}
                self._lessons = lessons = self._with(found, place, new)
                _write(path, lessons)
                self._changed_ns = path.stat().st_mtime_ns
        except OSError as exc:  # filelock's Timeout is one, too
            self._warn(exc)

    def _warn(self, exc: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("what was learned of models is not kept", file=str(self._path), error=str(exc))


def remembered(path: Path, *, clock_s: Callable[[], float] = time.time) -> Lessons:
    """What the file holds, without what is too old; nothing, if there is no such file or it cannot be read."""
    try:
        return _bounded(_read(path), clock_s())
    except (OSError, ValueError):
        return {}


def forget(path: Path, places: Iterable[Place]) -> int:
    """Forget what was learned of some models; how many repairs that were.

    Raises:
        OSError: The file cannot be changed.
    """
    if not path.exists():
        return 0
    with _locked(path):
        found = dict(remembered(path))
        gone = sum(len(found.pop(place, ())) for place in set(places))
        if gone:
            _write(path, found)
    return gone


def _bounded(lessons: Lessons, now_s: float) -> Lessons:
    """Without what is too old, or too much."""
    oldest_s = now_s - DAYS * _DAY_S
    fresh = {place: [one for one in each if one.at_s > oldest_s] for place, each in lessons.items()}
    places = sorted((place for place in fresh if fresh[place]), key=lambda place: fresh[place][-1].at_s)
    return {place: fresh[place] for place in places[-MOST_MODELS:]}


# ------------------------------------------------------------------------------------------ the file


def _read(path: Path) -> Lessons:
    """All of it; ValueError, if it is none of ours."""
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


def _write(path: Path, lessons: Lessons) -> None:
    models = [
        {"provider": provider, "model": model, "learned": [_dumped(lesson) for lesson in learned]}
        for (provider, model), learned in lessons.items()
    ]
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # readable by nobody else
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps({"models": models}, option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(handle)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock  # noqa: PLC0415 - 0.1 s that only those pay who have something to write

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_S):
        yield
