"""Every recorded reply of every provider, through the real SDK and the running daemon, read back by its clients.

`pytest tests/test_recordings_replayed.py -s` prints how many of which provider and API.
"""

from collections import Counter

import pytest

import recorded
from recorded import Recording, recordings
from running import running
from upstream import Upstream

ALL = 267
REPLAYED = 255
"""Of all; it may not fall."""

BY_WIRE: dict[str, list[Recording]] = {}
for found in recordings():
    if not found.excuse:
        BY_WIRE.setdefault(f"{found.provider} {recorded.wire_of(found.api)}", []).append(found)

pytestmark = pytest.mark.skipif(not recorded.IS_HERE, reason="../shared/recordings is not here")


@pytest.mark.parametrize("wire", BY_WIRE)
async def test_a_recorded_reply_is_what_its_clients_get(wire, subtests):
    """Raw bytes, split anywhere, mean to the clients of both dialects what an independent reading says they mean."""
    async with (
        Upstream() as upstream,
        running(recorded.config(BY_WIRE[wire], upstream.url)) as daemon,
    ):
        for one in (turn for found in BY_WIRE[wire] for turn in found.turns):
            for way, asked in recorded.ways(one).items():
                with subtests.test(one.name, way=way):
                    one.serve(upstream, way)
                    before = len(upstream.requests)
                    recorded.compare(one, await asked(daemon.url, one.name), way)
                    assert len(upstream.requests) == before + 1 + one.pauses


HALVES = {(one.api, one.content["stream"]): one for one in reversed(recordings()) if one.is_plain}
"""The first plain text of each API, streamed and not."""


@pytest.mark.parametrize("one", HALVES.values(), ids=lambda one: one.name)
async def test_half_of_a_recorded_reply_is_an_error(one, subtests):
    """Cut anywhere before its end, a reply never ends in `done`, nor in `[DONE]`."""
    body = one.response["body"].encode()
    async with Upstream() as upstream, running(recorded.config([one], upstream.url)) as daemon:
        for at in range(0, len(body) * 3 // 4, max(len(body) // 8, 1)):
            for way, asked in recorded.ways(one).items():
                with subtests.test(at=at, way=way):
                    one.serve(upstream, way, body[:at])
                    answer = await asked(daemon.url, one.name)
                    assert one.model in answer.error
                    assert answer.finish is None


def test_no_recording_is_left_out():
    """All are replayed but those of a short table, and never fewer than before."""
    rows = Counter((one.provider, one.api, bool(one.excuse)) for one in recordings())
    for (provider, api, is_excused), count in sorted(rows.items()):
        print(
            f"{provider:15} {api:30} {count:4} {'not replayed: ' + recorded.NOT_YET[api] if is_excused else ''}"
        )
    replayed = sum(not one.excuse for one in recordings())
    print(f"{replayed} of {len(recordings())} recordings are replayed")
    assert len(recordings()) == ALL
    assert replayed >= REPLAYED
    for one in recordings():
        assert bool(one.excuse) == (one.api in recorded.NOT_YET and one.status == 200)
