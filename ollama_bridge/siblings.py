"""What the workers of one daemon say to each other: one question, one answer, over a socket of each.

A worker that has died does not answer and is not waited for; one that hangs is, but not for long.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

log = structlog.get_logger(__name__)

_MOST_BYTES: Final = 8 * 1024 * 1024


class Siblings:
    """The other workers.

    Args:
        path: Of this worker's own socket; its folder, which nobody else can open, holds those of all of them.
        answers: What this worker is asked, to who answers, in what JSON can hold.
    """

    def __init__(self, path: Path, answers: Mapping[str, Callable[[], Awaitable[Any]]]) -> None:
        self._path = path
        self._answers = answers
        self._server: asyncio.Server | None = None

    @property
    def name(self) -> str:
        """Of this worker, as the log has it."""
        return self._path.stem

    async def listen(self) -> None:
        """Answer from now on."""
        self._path.unlink(missing_ok=True)  # of a worker that died in this one's place
        self._server = await asyncio.start_unix_server(self._serve, str(self._path))

    async def aclose(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def ask(self, question: str, *, within_s: float) -> list[Any]:
        """What the others answer, all of them at the same time; nothing from who does not within so many seconds."""
        others = [path for path in self._path.parent.glob(f"*{self._path.suffix}") if path != self._path]
        answers = await asyncio.gather(*(self._ask(path, question, within_s) for path in others))
        return [answer for answer in answers if answer is not None]

    async def _ask(self, path: Path, question: str, within_s: float) -> Any:
        try:
            async with asyncio.timeout(within_s):
                reader, writer = await asyncio.open_unix_connection(str(path), limit=_MOST_BYTES)
                try:
                    writer.write(question.encode() + b"\n")
                    return orjson.loads(await reader.readline())
                finally:
                    writer.close()
        except TimeoutError:
            log.warning("a worker does not answer", asked=path.stem, question=question)
        except (OSError, ValueError):
            log.debug("a worker is gone", asked=path.stem)
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question = (await reader.readline()).decode().rstrip("\n")
            if answer := self._answers.get(question):
                writer.write(orjson.dumps(await answer()) + b"\n")
                await writer.drain()
        except OSError:
            pass  # who asked has left
        finally:
            writer.close()
