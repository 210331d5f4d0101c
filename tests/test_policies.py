"""Complete, timeout and pace."""

import asyncio

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.chat import ChatRequest, Target
from ollama_bridge.errors import UpstreamBroken, UpstreamUnreachable
from ollama_bridge.events import Finish, TextDelta, ThinkingDelta, TokenLogprob, ToolCall
from ollama_bridge.policies.complete import Complete
from ollama_bridge.policies.pace import Pace, Pacing
from ollama_bridge.policies.timeout import Timeout
from ollama_bridge.policies.words import Words
from scripted import SILENCE, ScriptedBackend, collect

REQUEST = ChatRequest("m", target=Target("acme", "m-1"))
HELLO = [TextDelta("hel"), TextDelta("lo"), Finish()]


async def test_a_whole_reply_passes():
    """What the provider finished is passed on as it is."""
    assert await collect(Complete(ScriptedBackend(HELLO)).chat(REQUEST)) == HELLO


@pytest.mark.parametrize("said", [[], [TextDelta("hel")], [ToolCall("1", "f")]])
async def test_a_reply_without_an_end_is_an_error(said):
    """A clean end of the stream is no end of the answer; the error names provider and model."""
    with pytest.raises(UpstreamBroken, match=r"acme: model 'm-1': .*complete"):
        await collect(Complete(ScriptedBackend(said)).chat(REQUEST))


async def test_nothing_follows_the_end():
    """What a provider sends after the end, or how it breaks then, changes nothing."""
    backend = ScriptedBackend([*HELLO, TextDelta("x")], [*HELLO, UpstreamBroken("", provider="", model="")])
    assert await collect(Complete(backend).chat(REQUEST)) == HELLO
    assert await collect(Complete(backend).chat(REQUEST)) == HELLO


async def test_a_provider_that_never_closes_is_left_behind():
    """After the end its connection is closed soon, whatever it does."""
    backend = ScriptedBackend([*HELLO, SILENCE])
    assert await collect(Complete(backend).chat(REQUEST)) == HELLO
    assert backend.closed == 1


@pytest.mark.parametrize("said", [[], [TextDelta("hel")]])
async def test_silence_is_bounded(said):
    """Before the first event and after it, and the provider's connection is closed."""
    backend = ScriptedBackend([*said, SILENCE])
    reply = Timeout(backend, first_s=0.01, idle_s=0.01).chat(REQUEST)
    with pytest.raises(UpstreamUnreachable, match=r"silent for 0\.01 s") as caught:
        await collect(reply)
    assert caught.value.status == 504
    assert backend.closed == 1


async def test_a_slow_client_is_not_the_providers_fault():
    """The clock stands while the client reads."""
    reply = Timeout(ScriptedBackend(HELLO), first_s=0.01, idle_s=0.01).chat(REQUEST)
    said = []
    async for burst in reply:
        await asyncio.sleep(0.03)
        said += burst
    assert said == HELLO


async def test_progress_without_events_is_no_silence():
    """The arguments of a long tool call come without events for longer than the limit."""

    class Typing:
        async def chat(self, request):
            for _ in range(8):
                await asyncio.sleep(0.02)
                request.progress()
            yield (Finish(),)

    assert await collect(Timeout(Typing(), first_s=0.08, idle_s=0.08).chat(REQUEST)) == [Finish()]


graphemes = st.sampled_from(
    [*"ab .,\n\t-", "é", "e\u0301", "👩‍🚀", "🇩🇪", "字", "か", "\r\n", " \u0301", "🏽", "\u200d"]
)
texts = st.lists(st.lists(graphemes, min_size=1).map("".join))


@given(texts, st.integers(1, 4))
def test_words_joined_are_the_text(pieces, size):
    """Whatever the deltas, nothing is lost, added or cut inside a grapheme."""
    words = Words(size)
    lines = [line for text in pieces for line in words.feed(TextDelta(text))]
    *rest, last = words.feed(Finish())
    assert last == Finish()
    told = [line.text for line in [*lines, *rest]]
    whole = "".join(pieces)
    assert "".join(told) == whole
    borders = {0} | {match.end() for match in regex.finditer(r"\X", whole)}
    at = 0
    for text in told:
        at += len(text)
        assert at in borders


def test_a_line_holds_so_many_words():
    """Words keep the white space after them, and a new kind of event sends what is held back first."""
    words = Words(2)
    lines = list(words.feed(TextDelta("  one two  three four five")))
    assert lines == [TextDelta("  one two  "), TextDelta("three four ")]
    call = ToolCall("1", "f")
    assert list(words.feed(ThinkingDelta("hm so what"))) == [TextDelta("five"), ThinkingDelta("hm so ")]
    assert list(words.feed(call)) == [ThinkingDelta("what"), call]
    assert list(words.feed(Finish())) == [Finish()]


def test_scripts_without_spaces_come_in_characters_and_blobs_in_pieces():
    """Neither Chinese nor base64 stops the stream."""
    assert [line.text for line in Words(1).feed(TextDelta("你好吗"))] == ["你", "好"]
    assert [len(line.text) for line in Words(1).feed(TextDelta("x" * 150))] == [64, 64]


def test_tokens_with_probabilities_are_left_alone():
    """Their probabilities describe exactly this text."""
    delta = TextDelta("a b c", (TokenLogprob("a b c", -0.1),))
    assert list(Words(1).feed(delta)) == [delta]


class Time:
    """A clock that moves only when somebody sleeps."""

    def __init__(self):
        self.now_s = 0.0
        self.slept = []

    def clock(self):
        return self.now_s

    async def sleep(self, seconds):
        self.slept.append(round(seconds, 6))
        self.now_s += seconds


def paced(backend, size, delay_s, time):
    return Pace(backend, lambda _: Pacing(size, delay_s), clock_s=time.clock, sleep=time.sleep)


async def test_lines_keep_their_distance_and_nothing_else_waits():
    """Between two lines of text passes `delay_s`; tool calls and the end follow their text at once."""
    time = Time()
    call = ToolCall("1", "f")
    backend = ScriptedBackend([TextDelta("a b c"), call, Finish()])
    said = await collect(paced(backend, 1, 0.05, time).chat(REQUEST))
    assert said == [TextDelta("a "), TextDelta("b "), TextDelta("c"), call, Finish()]
    assert time.slept == [0.05, 0.05]


async def test_a_slow_provider_is_not_slowed_down_further():
    """Time that passed anyway counts."""
    time = Time()

    class Slow:
        async def chat(self, request):
            for text in ("a ", "b "):
                time.now_s += 0.04
                yield (TextDelta(text),)
            yield (Finish(),)

    await collect(paced(Slow(), 0, 0.05, time).chat(REQUEST))
    assert time.slept == [0.01]


async def test_pacing_ends_at_once_when_the_client_leaves():
    """A cancelled reader does not sleep to the end."""
    backend = ScriptedBackend([TextDelta("a b c d"), Finish()])
    pace = Pace(backend, lambda _: Pacing(1, 3600))
    task = asyncio.create_task(collect(pace.chat(REQUEST)))
    await backend.was_asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert backend.closed == 1


@pytest.mark.parametrize(("stream", "pacing"), [(False, Pacing(1, 1)), (True, Pacing())])
async def test_what_is_not_paced_costs_nothing(stream, pacing):
    """Answers in one piece, and models without pacing, get the provider's own reply object."""
    reply = object()

    class Direct:
        def chat(self, request):
            return reply

    assert Pace(Direct(), lambda _: pacing).chat(ChatRequest("m", stream=stream)) is reply
