"""Tell systemd how the service does (sd_notify(3)): one datagram each, nothing where no systemd listens."""

import asyncio
import os
import socket
from typing import Final

_TIMEOUT_S: Final = 1.0  # the queue of such a socket holds ten words


def notify(state: str) -> bool:
    """Send `state` (`READY=1`, `STOPPING=1`, `RELOADING=1`, `STATUS=…`); False when nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        out.settimeout(_TIMEOUT_S)
        try:
            out.connect(address)
            out.sendall(state.encode())
        except OSError:
            return False  # a supervisor that went away, or reads no more, must not take the service with it
    return True


async def watchdog() -> None:
    """Say `WATCHDOG=1` at half of `WATCHDOG_USEC`, from inside the event loop, so that a stuck loop is noticed.

    Returns at once where systemd set no watchdog for this process.
    """
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or (pid and pid != str(os.getpid())):
        return
    while notify("WATCHDOG=1"):  # noqa: ASYNC110 - nothing to wait for but time
        await asyncio.sleep(int(usec) / 2_000_000)
