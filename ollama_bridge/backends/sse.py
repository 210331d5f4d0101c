"""Server-sent events, sans I/O: bytes in, `data` payloads out. One reader for all three SDKs' wires.

The event stream format is WHATWG's (https://html.spec.whatwg.org/multipage/server-sent-events.html), of
which providers use little: `data:` lines, sometimes `event:` (repeated inside the JSON), comments as
keep-alive. Events are split where they really end, whatever the borders of the reads.
"""

from typing import Final

MAX_EVENT_BYTES: Final = 64 * 1024 * 1024
"""An event larger than this is a broken upstream (inline images stay far below)."""


class EventTooLarge(ValueError):
    """One event grew past `MAX_EVENT_BYTES` without ending."""


class SseReader:
    """Feed it what arrives, get the payload of every event that is complete."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The `data` of each event that `chunk` completes, in order; events without data are skipped.

        Raises:
            EventTooLarge: The unfinished event exceeds the limit.
        """
        data = self._rest + chunk if self._rest else chunk
        if 0x0D in data:
            # A carriage return at the end may be half of a CRLF: it waits for its other half.
            held = b"\r" if data.endswith(b"\r") else b""
            data = data.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            held = b""
        *blocks, rest = data.split(b"\n\n")
        self._rest = rest + held
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLarge(f"an event of more than {MAX_EVENT_BYTES} bytes")
        return [
            payload
            for block in blocks
            # Nearly always it is one line of data. (A byte is looked for by its number: by `b"\n" in block` it
            # takes five times as long.)
            if (payload := block[6:] if block[:6] == b"data: " and 0x0A not in block else _payload(block))
        ]

    def close(self) -> list[bytes]:
        """At the end of the stream: the payload of an event whose closing blank line never came, if any.

        Browsers drop it; several providers end their last event so. Who reads it must expect half of one.
        """
        rest, self._rest = self._rest, b""
        payload = _payload(rest.removesuffix(b"\r"))
        return [payload] if payload else []


def _payload(block: bytes) -> bytes:
    if block.startswith(b"event: "):  # as Anthropic does, and OpenAI's Responses
        data = block.find(b"\n")
        if block.startswith(b"\ndata: ", data) and block.find(b"\n", data + 1) < 0:
            return block[data + 7 :]
    lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)
