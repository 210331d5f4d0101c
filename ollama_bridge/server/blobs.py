"""Files that clients upload for `ollama create`, by their content: HEAD and POST /api/blobs/{digest}.

No model can be made from them here, and `create` says so; but the command line uploads first and asks then. So they
are kept within bounds, the oldest go first, and what is unfinished or not what it says it is leaves nothing behind.
"""

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import platformdirs
from aiohttp import web

from ollama_bridge.errors import BodyTooLarge, BridgeError, InvalidRequest
from ollama_bridge.server.connection import piece
from ollama_bridge.surfaces.ollama_manage import blob_digest

MAX_BLOB_BYTES: Final = 256 * 1024 * 1024
MAX_ALL_BYTES: Final = 1024 * 1024 * 1024

_UNFINISHED: Final = ".part"
_MOST_UPLOADS: Final = 4
_STALE_S: Final = 3600.0


def state_folder() -> Path:
    """Where blobs lie, in the user's own state folder; it need not exist."""
    return platformdirs.user_state_path("ollama-bridge") / "blobs"


class Blobs:
    """One folder of files, each named by the digest of what is in it.

    Args:
        folder: Says where; asked at each use.
        max_bytes: Of one file.
        max_all_bytes: Of all of them.
    """

    def __init__(
        self,
        folder: Callable[[], Path] = state_folder,
        *,
        max_bytes: int = MAX_BLOB_BYTES,
        max_all_bytes: int = MAX_ALL_BYTES,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_all_bytes = max_all_bytes
        self._uploads = asyncio.Semaphore(_MOST_UPLOADS)

    async def head(self, request: web.Request) -> web.Response:
        """Whether a blob is there."""
        path = self._path(request)
        return web.Response(status=200 if await asyncio.to_thread(path.exists) else 404)

    async def post(self, request: web.Request) -> web.Response:
        """Take a blob: 201, or 200 if it is there."""
        path = self._path(request)
        if await asyncio.to_thread(path.exists):
            return web.Response(status=200)
        if (request.content_length or 0) > self._max_bytes:
            raise self._too_large()
        try:
            async with self._uploads:
                await self._keep(request, path)
        except OSError as exc:
            if isinstance(exc, ConnectionError):
                raise
            raise BridgeError(f"the blob cannot be kept: {exc.strerror or exc}") from exc
        return web.Response(status=201)

    def _path(self, request: web.Request) -> Path:
        return self._folder() / f"sha256-{blob_digest(request.match_info['digest'])}"

    async def _keep(self, request: web.Request, path: Path) -> None:
        handle, name = await asyncio.to_thread(self._begin, path.parent)
        beside = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                got = await self._receive(request, file.write)
            wanted = path.name.removeprefix("sha256-")
            if got != wanted:
                raise InvalidRequest(f'digest mismatch, expected "sha256:{wanted}", got "sha256:{got}"')
            await asyncio.to_thread(self._finish, beside, path)
        finally:
            beside.unlink(missing_ok=True)  # noqa: ASYNC240 - at once, also when the client left and we are cancelled

    async def _receive(self, request: web.Request, write: Callable[[bytes], object]) -> str:
        """The digest of the body, each piece of which is written."""
        digest = hashlib.sha256()
        total = 0

        def take(found: bytes) -> None:
            digest.update(found)
            write(found)

        while found := await piece(request):
            total += len(found)
            if total > self._max_bytes:
                raise self._too_large()
            await asyncio.to_thread(take, found)
        return digest.hexdigest()

    def _begin(self, folder: Path) -> tuple[int, str]:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        long_ago_s = time.time() - _STALE_S
        for stale, stat in _files(folder, f"*{_UNFINISHED}"):  # of a process that was killed
            if stat.st_mtime < long_ago_s:
                stale.unlink(missing_ok=True)
        return tempfile.mkstemp(suffix=_UNFINISHED, dir=folder)

    def _finish(self, beside: Path, path: Path) -> None:
        """Make room, and put the file in its place."""
        kept = sorted(
            (stat.st_mtime_ns, stat.st_size, other) for other, stat in _files(path.parent, "sha256-*")
        )
        room = self._max_all_bytes - beside.stat().st_size - sum(length for _, length, _ in kept)
        for _, length, oldest in kept:
            if room >= 0:
                break
            oldest.unlink(missing_ok=True)
            room += length
        beside.replace(path)

    def _too_large(self) -> BridgeError:
        return BodyTooLarge(
            f"the file is larger than {self._max_bytes} bytes; no model can be made from files here anyway, for the "
            "answers come from providers"
        )


def _files(folder: Path, pattern: str) -> Iterator[tuple[Path, os.stat_result]]:
    """Those that are still there when they are looked at."""
    for path in folder.glob(pattern):
        with suppress(FileNotFoundError):
            yield path, path.stat()
