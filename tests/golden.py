"""The replies of a real server, block by block (`../shared/golden/README.md`)."""

import json
import re
from dataclasses import dataclass

from shared import SHARED


@dataclass(frozen=True)
class Block:
    """One request and what a real Ollama answered."""

    path: str
    body: bytes
    status: int
    content_type: str
    reply: str

    @property
    def cut(self):
        """Whether the request was too long to be written down whole."""
        if len(self.body) < 200:
            return False
        try:
            json.loads(self.body)
        except json.JSONDecodeError:
            return True
        return False


def blocks(name):
    """All blocks of `../shared/golden/<name>.txt`; none when the folder is not there."""
    if SHARED is None:
        return []
    text = (SHARED / "golden" / f"{name}.txt").read_text()
    return [
        Block(path, body.encode(), int(status), content_type.strip(), reply.rstrip("\n"))
        for path, body, status, content_type, reply in re.findall(
            r"^### [^:\n]+: POST (\S+) (.*)\nHTTP/1.1 (\d+) [^|]*\| Content-Type: ([^\n]*?) ; (?:Content-Length|Transfer).*\n"
            r"((?:(?!### ).*\n?)*)",
            text,
            re.MULTILINE,
        )
    ]


def without_times(reply):
    """A reply with its times, durations and context blanked, for those differ by nature."""
    reply = re.sub(r'"created_at":"[^"]*Z"', '"created_at":"T"', reply)
    reply = re.sub(r'"(\w+_duration)":[1-9]\d*', r'"\1":0', reply)
    return re.sub(r'"context":\[[\d,]*\]', '"context":[]', reply)
