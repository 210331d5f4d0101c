"""What arrives together is passed on together."""

from contextlib import aclosing

import pytest

from ollama_bridge.backends.bursts import bursts, read_all
from ollama_bridge.chat import ChatRequest, singly
from ollama_bridge.events import Finish, TextDelta
from scripted import SILENCE, ScriptedBackend


def feed(payload):
    """A reader that says what it is fed, and fails at 0."""
    return (TextDelta(str(1 // payload)), TextDelta(str(payload))) if payload != 7 else (Finish(),)


def test_what_was_said_before_an_error_is_not_lost():
    """The events of the same read come out, and the error with them."""
    said, failure = read_all(feed, [1, 2, 0, 3])
    assert said == [TextDelta("1"), TextDelta("1"), TextDelta("0"), TextDelta("2")]
    assert isinstance(failure, ZeroDivisionError)


def test_a_payload_that_cannot_be_read_is_such_an_error():
    """Decoding happens in the same loop."""
    said, failure = read_all(feed, map(int, ["1", "x"]))
    assert said == [TextDelta("1"), TextDelta("1")]
    assert isinstance(failure, ValueError)


def test_nothing_is_read_behind_the_end():
    """What a provider sends after its end is neither said nor an error."""
    assert read_all(feed, [1, 7, 0]) == ([TextDelta("1"), TextDelta("1"), Finish()], None)


async def test_one_by_one_closes_what_it_reads():
    """Leaving `singly` leaves the provider."""
    backend = ScriptedBackend([TextDelta("a"), SILENCE])
    async with aclosing(singly(backend.chat(ChatRequest("m")))) as events:
        assert await anext(events) == TextDelta("a")
        assert backend.closed == 0
    assert backend.closed == 1
    with pytest.raises(StopAsyncIteration):
        await anext(events)


class Reader:
    """Says what `feed` does, and a last word."""

    moved = True

    feed = staticmethod(feed)

    def close(self):
        return (TextDelta("last"),)


async def reads(*payloads):
    for payload in payloads:
        yield payload


async def test_a_read_that_says_nothing_is_progress():
    """Each other read is one burst, and what is left to say comes at the end."""
    quiet = []
    said = [burst async for burst in bursts(Reader(), reads((1,), (), (2,)), lambda: quiet.append(True))]
    assert said == [
        [TextDelta("1"), TextDelta("1")],
        [TextDelta("0"), TextDelta("2")],
        [TextDelta("last")],
    ]
    assert quiet == [True]
