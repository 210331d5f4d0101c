"""The replies of a real server, block by block (`../shared/golden/README.md`)."""

import json
import re
from dataclasses import dataclass

from shared import SHARED


@dataclass(frozen=True)
class Block:
    """One request and what a real Ollama answered."""

    label: str
    method: str
    path: str
    body: bytes
    status: int
    headers: dict[str, str]
    reply: str

    def __str__(self):
        return f"{self.method} {self.path} {self.body.decode()}".strip()

    @property
    def content_type(self):
        return self.headers.get("Content-Type", "")

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
    return [_block(part) for part in re.split(r"^### ", text, flags=re.MULTILINE)[1:]]


def _block(text):
    asked, answered, reply = text.split("\n", 2)
    label, _, line = asked.partition(": ")
    method, path, *body = line.split(" ", 2)
    status, _, headers = answered.partition(" | ")
    pairs = (header.partition(": ") for header in headers.split(" ; "))
    found = {name: value.strip() for name, _, value in pairs}
    return Block(
        label, method, path, "".join(body).encode(), int(status.split()[1]), found, reply.rstrip("\n")
    )


def without_times(reply):
    """A reply with its times, durations, context and numbers of completions blanked, for those differ by nature."""
    reply = re.sub(r'"created_at":"[^"]*Z"', '"created_at":"T"', reply)
    reply = re.sub(r'"id":"chatcmpl-\d+"', '"id":"chatcmpl-0"', reply)
    reply = re.sub(r'"created":1\d+', '"created":0', reply)
    reply = re.sub(r'"(\w+_duration)":[1-9]\d*', r'"\1":0', reply)
    return re.sub(r'"context":\[[\d,]*\]', '"context":[]', reply)
