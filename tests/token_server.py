"""A fake token server and a fake API in one, on loopback: it gives tokens, and takes those that it gave."""

import asyncio
import json
from collections import deque
from urllib.parse import parse_qs

from upstream import Script, Upstream, sse

JSON = {"content-type": "application/json"}
CHAT = (
    {"choices": [{"index": 0, "delta": {"content": "Hi"}}]},
    {
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "precached_prompt_tokens": 1},
    },
)


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self, now_s):
        self.now_s = now_s

    def __call__(self):
        return self.now_s


class TokenServer(Upstream):
    """Asked at `/oauth` for tokens `token-1`, `token-2`, …; at any other path it answers to whoever has one of them.

    Args:
        clock: The wall clock, by which it says when a token ends.
    """

    def __init__(self, clock, *, good_for_s=1800):
        super().__init__(self._decided)
        self.clock = clock
        self.good_for_s = good_for_s
        self.refusals = deque()
        """What the next requests for tokens get instead: scripts."""
        self.hold = None
        """Requests for tokens wait for it."""
        self.withdrawn = set()
        self.given = []

    @property
    def asked_for_tokens(self):
        return [seen for seen in self.requests if seen.path == "/oauth"]

    @property
    def asked_for_answers(self):
        return [seen for seen in self.requests if seen.path != "/oauth"]

    def _decided(self, seen):
        if seen.path == "/oauth":
            return self.refusals.popleft() if self.refusals else self._token()
        token = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.given or token in self.withdrawn:
            return Script(
                [json.dumps({"status": 401, "message": f"Token has expired: {token}"}).encode()], 401, JSON
            )
        return Script([sse(*CHAT, done=True)])

    def _token(self):
        self.given.append(f"token-{len(self.given) + 1}-0123456789")
        told = {"access_token": self.given[-1], "expires_at": int((self.clock() + self.good_for_s) * 1000)}
        return Script([json.dumps(told).encode()], 200, JSON, hold=self.hold)


def failing(status=500, body=b"", then="end", headers=JSON):
    return Script([body], status, headers, then=then)


def form(seen):
    return {name: only for name, (only,) in parse_qs(seen.body.decode()).items()}


async def settled():
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)
