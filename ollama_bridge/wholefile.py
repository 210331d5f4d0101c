"""Files that others read while we write: they find the old one or the new one, whole, also after a power cut."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(target: Path, *, within_s: float) -> Iterator[None]:
    """While inside, nobody else is who asked for the same; the folder is made if there is none.

    Raises:
        TimeoutError: Somebody else is, for so many seconds.
        OSError: There can be no lock file beside it.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 - 0.1 s that those who only read need not pay

    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Not of this thread alone: who waits for a provider meanwhile may go on in another.
    lock = FileLock(target.with_name(f".{target.name}.lock"), timeout=within_s, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise TimeoutError(f"{target}: somebody else has been changing it for {within_s:g} s") from None
    try:
        yield
    finally:
        lock.release()


def replace(target: Path, content: bytes) -> None:
    """Put `content` in the place of the file; hold its lock. Mode and owner stay; a new file is the user's own (0600).

    Raises:
        OSError: It cannot be written. Then it is as it was.
    """
    prefix, suffix = f".{target.name}.", ".tmp"
    # We hold the lock: whatever lies here was left by one who was killed.
    for stale in target.parent.glob(f"{prefix}*{suffix}"):
        stale.unlink(missing_ok=True)
    was = target.stat() if target.exists() else None
    if was is not None and not os.access(target, os.W_OK):
        raise PermissionError(None, "the file is read-only")
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=suffix, dir=target.parent)
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            if was is not None:
                _adopt(handle, was)
            file.write(content)
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
