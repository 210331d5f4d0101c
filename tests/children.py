"""Processes of a test's own, which run this copy of the package."""

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def environment(**extra):
    """The test's own, in which this copy is found."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **extra}


def python(preamble, script, *arguments, **how):
    """`preamble` and then `script`, whose arguments are in `sys.argv`; what it prints is text to be read."""
    return subprocess.Popen(
        [sys.executable, "-c", preamble + textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        **how,
    )


async def said(process):
    """All that it prints; it ends by itself, and well."""
    out, _ = await asyncio.to_thread(process.communicate, timeout=50)
    assert process.returncode == 0
    return out


def killed_at(process, is_enough):
    """SIGKILL in the middle of everything, once it prints a line that is enough; the line."""
    try:
        for line in process.stdout:
            if is_enough(line):
                return line
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    raise AssertionError("it ended by itself")


def small_disk(most_bytes):
    """For `preexec_fn`: no file of the process grows beyond this, as on a disk that is full."""

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    return limited


@asynccontextmanager
async def served(path, *, program=("-m", "ollama_bridge"), **environ):
    """A daemon with the configuration at `path`: its address and its process, which is killed in the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *program, "serve", "--config", str(path)),
        env=environment(**environ),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        while b"event=listening" not in (line := await process.stderr.readline()):
            assert line, "the daemon did not start"
        url = re.search(rb"url=(\S+)", line).group(1).decode()
        draining = asyncio.create_task(process.stderr.read())
        yield url, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await draining
