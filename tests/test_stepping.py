"""Starting an awaitable without waiting."""

import asyncio

import pytest

from ollama_bridge.stepping import Waiting, start


async def value():
    return 7


async def test_what_is_ready_needs_no_waiting():
    """An awaitable that never suspends is finished by the first step."""
    assert start(value()) == 7


async def test_what_waits_is_finished_by_awaiting():
    """An unfinished step can be awaited after something else was awaited in between."""
    gate = asyncio.Event()

    async def wait():
        await gate.wait()
        await asyncio.sleep(0)
        return 7

    step = start(wait())
    assert isinstance(step, Waiting)
    asyncio.get_running_loop().call_soon(gate.set)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await step == 7


async def test_errors_come_out_where_they_happen():
    """At once from `start`, later from the await."""

    async def fail(wait):
        if wait:
            await asyncio.sleep(0)
        raise LookupError

    with pytest.raises(LookupError):
        start(fail(wait=False))
    step = start(fail(wait=True))
    with pytest.raises(LookupError):
        await step


async def test_failing_a_step_lets_it_clean_up():
    """What is thrown in reaches the awaitable, whose own awaits still run; a generator stays usable."""
    cleaned = []

    async def events():
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    reply = events()
    step = start(anext(reply))
    with pytest.raises(ConnectionResetError):
        await step.fail(ConnectionResetError())
    assert cleaned == [True]
    await reply.aclose()


async def test_cancelling_the_waiting_task_reaches_the_awaitable():
    """A timeout around `await step` cancels what is inside."""
    seen = []

    async def wait():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(True)
            raise

    step = start(wait())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await step
    assert seen == [True]


async def test_an_awaitable_may_swallow_what_is_thrown():
    """Then its result counts."""

    async def stubborn():
        try:
            await asyncio.Event().wait()
        except ConnectionResetError:
            return 7

    assert await start(stubborn()).fail(ConnectionResetError()) == 7
