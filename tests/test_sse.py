"""The event stream reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.backends import sse
from ollama_bridge.backends.sse import EventTooLarge, SseReader

payload = st.text(st.characters(codec="utf-8", exclude_characters="\r\n")).map(str.encode).filter(bool)


@given(st.lists(payload), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.randoms())
def test_events_are_whole_whatever_the_borders_of_the_reads(payloads, newline, random):
    """Any stream, cut anywhere, in any of the three line endings, gives its payloads in order."""
    blocks = [b": ping", *(b"event: x\ndata: " + data for data in payloads)]
    wire = b"".join(block.replace(b"\n", newline) + newline * 2 for block in blocks)
    reader, found = SseReader(), []
    while wire:
        size = random.randint(1, len(wire))
        found += reader.feed(wire[:size])
        wire = wire[size:]
    # A lone CR at the very end might have been half of a CRLF, so its event comes at the close.
    assert found + reader.close() == payloads


def test_several_data_lines_are_one_payload():
    """As the standard has it: joined by newlines, one leading space each removed."""
    assert SseReader().feed(b"data: a\ndata:b\ndata:  c\n\n") == [b"a\nb\n c"]


def test_what_follows_the_last_blank_line_comes_at_the_close():
    """Some providers never end their last event."""
    reader = SseReader()
    assert reader.feed(b"data: a\n\ndata: [DONE]") == [b"a"]
    assert reader.close() == [b"[DONE]"]
    assert reader.close() == []


def test_an_endless_event_is_refused(monkeypatch):
    """A provider cannot fill our memory with one event."""
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 10)
    with pytest.raises(EventTooLarge):
        SseReader().feed(b"data: 123456789")
