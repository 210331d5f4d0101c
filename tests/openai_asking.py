"""How the tests ask the openai backend: over loopback, through the real SDK."""

import importlib.util
import json
from contextlib import aclosing, asynccontextmanager

from ollama_bridge.backends import ProviderSettings
from ollama_bridge.backends.openai import OpenAIBackend
from ollama_bridge.chat import ChatRequest, Message, Rules, Target, singly
from ollama_bridge.errors import BridgeError
from ollama_bridge.events import TextDelta, ThinkingDelta, ToolCall
from shared import SHARED

HELLO = (Message("user", "Hello"),)


@asynccontextmanager
async def backend_at(upstream, *, api=None, keys=("sk-test-0123456789abcdef",), **settings):
    """The backend, in front of a scripted upstream."""
    backend = OpenAIBackend(ProviderSettings("acme", "openai", keys, f"{upstream.url}/v1", api, **settings))
    try:
        yield backend
    finally:
        await backend.aclose()


def question(*, rules=None, capabilities=("completion", "tools"), **fields):
    """A request whose route has been found."""
    target = Target("acme", "gpt-x", capabilities=frozenset(capabilities), rules=rules or Rules())
    return ChatRequest("gpt", target=target, **{"messages": HELLO, **fields})


async def ask(backend, request=None):
    """All events of one reply."""
    async with aclosing(singly(backend.chat(request or question()))) as events:
        return [event async for event in events]


async def ask_until_it_fails(backend, request=None):
    """The events before the failure, and the failure."""
    events = []
    try:
        async with aclosing(singly(backend.chat(request or question()))) as reply:
            async for event in reply:
                events.append(event)  # noqa: PERF401 - what came before the failure is wanted
    except BridgeError as exc:
        return events, exc
    return events, None


def said(events):
    """The answer's text."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def thought(events):
    """The text of its reasoning."""
    return "".join(event.text for event in events if isinstance(event, ThinkingDelta))


def calls(events):
    """Its tool calls, as the oracle of the recordings writes them."""
    return [{"name": e.name, "args": dict(e.arguments)} for e in events if isinstance(e, ToolCall)]


def recordings(pattern, api):
    """Recorded exchanges of an API, by name; none when the folder is not there."""
    folder = SHARED / "recordings" if SHARED else None
    paths = sorted(folder.glob(pattern)) if folder and folder.is_dir() else []
    return [path for path in paths if json.loads(path.read_text(encoding="utf-8"))["api"] == api]


def recorded(path):
    """A recording, and what a client should end up with: `(recording, facts)`."""
    spec = importlib.util.spec_from_file_location("recordings_check", SHARED / "recordings" / "check.py")
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    recording = json.loads(path.read_text(encoding="utf-8"))
    return recording, check.facts(recording)[0]
