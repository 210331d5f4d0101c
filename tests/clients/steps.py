"""How the tests drive a client package in a process of its own: one line of JSON in, one out.

An order is `{"step": "chat", "url": …, …}`, its answer `{"result": …}`, or `{"raised": "Type: text"}` when the client
raised, which is an answer as well. The first line out tells which version of the package is driven.
"""

import faulthandler
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

HANGS_S = 30
"""When a step is taken to hang: its stack is shown before the tests lose their patience."""

SECRET = "not-a-secret"
"""For clients that insist on a key; the bridge asks for none."""


def weather(city: str) -> str:
    """What the tool of these dialogues answers."""
    return f"{city}: rain, 9 degrees"


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string", "description": "Where"}},
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


def serve(package: str, *steps: Callable[..., Any]) -> None:
    """Answer orders until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a package prints is no answer
    _stay_here()
    by_name = {step.__name__.rstrip("_"): step for step in steps}
    _say(answers, {"version": version(package)})
    for line in sys.stdin:
        order = json.loads(line)
        faulthandler.dump_traceback_later(HANGS_S)
        try:
            answer = {"result": by_name[order.pop("step")](**order)}
        except Exception as error:  # noqa: BLE001 - the test decides what may be raised
            traceback.print_exc()
            answer = {"raised": f"{type(error).__name__}: {error}"}
        faulthandler.cancel_dump_traceback_later()
        _say(answers, answer)


def _say(answers: Any, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _stay_here() -> None:
    """Nothing but the bridge is reached; a look for another host fails at once, where it would hang."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> Any:
        return connect(self, _here(address, address[0] if isinstance(address, tuple) else None))

    def guarded_look_up(host: Any, *args: Any, **how: Any) -> Any:
        return look_up(_here(host, host), *args, **how)

    socket.socket.connect = guarded_connect
    socket.getaddrinfo = guarded_look_up


def _here(value: Any, host: Any) -> Any:
    if host not in {None, "127.0.0.1", "::1", "localhost", b"127.0.0.1", b"localhost"}:
        traceback.print_stack()
        raise ConnectionError(f"wanted to reach {host}")
    return value
