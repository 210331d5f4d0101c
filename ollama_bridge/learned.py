"""The repairs that models turned out to need, remembered for a while: what no table of ours knew.

Several processes may learn at once: each adds what is new to what the file holds by then, under a lock. What somebody
took out of it (`ollama-bridge models forget`) a running daemon has forgotten a few seconds later.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import structlog

from ollama_bridge.lessons import Lesson, Lessons, Place, bounded, fresh_since_s, locked, read, write
from ollama_bridge.repairs import Repair
from ollama_bridge.store.lane import Lane

log = structlog.get_logger(__name__)

LOOK_S: Final = 3.0
"""Seconds between two looks whether somebody changed the file."""


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
        oldest_s = fresh_since_s(self._clock_s())
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
        return bounded({**lessons, place: (*kept, *new)}, self._clock_s())

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
                self._lessons = bounded(read(self._path), self._clock_s())
                self._changed_ns = changed_ns
        except FileNotFoundError:
            if self._changed_ns:
                self._changed_ns, self._lessons = 0, {}
        except (OSError, ValueError) as exc:
            self._warn(exc)

    def _keep(self, path: Path, place: Place, new: Sequence[Lesson]) -> None:
        try:
            with locked(path):
                try:
                    found = read(path)
                except ValueError as exc:
                    self._warn(exc)
                    found = {}
                self._lessons = lessons = self._with(found, place, new)
                write(path, lessons)
                self._changed_ns = path.stat().st_mtime_ns
        except OSError as exc:
            self._warn(exc)

    def _warn(self, exc: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("what was learned of models is not kept", file=str(self._path), error=str(exc))
