"""Another configuration in the middle of an answer, with all policies in force: nothing is lost, nothing paid twice."""

import asyncio
import json

import pytest

from faults import WORDS
from journal import journal
from running import connect, managed, request
from together import ANSWER_NUSD, CHAT, IN_FORCE, OWN, chat, model, provider, question, rows, spent, words
from upstream import Script, Upstream
from wires import Said


def part(row, *names):
    return tuple(row[name] for name in names)


@pytest.mark.parametrize("after", ["more", "none"])
async def test_a_reload_in_the_middle_of_an_answer_loses_nothing(tmp_path, after):
    """It is settled once, in the budget that it began in, whether that still holds or is gone."""
    path, hold = tmp_path / "config.yaml", asyncio.Event()
    body = CHAT.stream(Said(WORDS))
    async with Upstream() as upstream:

        def text(budgets):
            providers = {"p": provider(CHAT, upstream)}
            made = {**IN_FORCE, "providers": providers, "models": [model("m", "p", CHAT)], "budgets": budgets}
            return json.dumps(made if budgets else {**made, "limits": {}, "models": [unlimited]})

        unlimited = model("m", "p", CHAT)
        del unlimited["requests_per_minute"]
        upstream.reply([body[:300], body[300:]], hold=hold, held_after=1)
        async with managed(path, text({"all": {"daily": 1}})) as daemon:
            old = daemon._gateway
            reader, writer = await connect(daemon.url)
            writer.write(request(daemon.url, "POST", "/api/chat", question(stream=True), OWN))
            while b"one" not in await reader.readline():
                pass
            path.write_text(text({"all": {"daily": 2}} if after == "more" else {}))
            await daemon._take_over()
            assert daemon._gateway is not old
            upstream.only(CHAT.stream(Said(WORDS)))
            assert words(await chat(daemon)) == WORDS
            hold.set()
            while b'"done":true' not in await reader.readline():
                pass
            writer.close()
            await old._unused.wait()
            if after == "none":
                path.write_text(text({"all": {"daily": 2}}))
                await daemon._take_over()
            assert await spent(daemon) == (2 if after == "more" else 1) * ANSWER_NUSD
    assert [part(row, "outcome", "cost_nusd") for row in rows()] == [("answered", ANSWER_NUSD)] * 2


async def test_a_stop_behind_a_reload_leaves_nothing_open(tmp_path):
    """What only the earlier configuration used is closed when its last answer has ended, and that one is paid."""
    path = tmp_path / "config.yaml"
    async with Upstream(lambda _: Script([CHAT.stream(Said(WORDS))[:300]], then="stall")) as upstream:
        plain = {"models": [{"name": "demo", "backend": "demo"}], "providers": {"demo": {}}}
        made = {**IN_FORCE, "providers": {"p": provider(CHAT, upstream)}, "models": [model("m", "p", CHAT)]}
        with journal() as logged:
            async with managed(path, json.dumps({**made, "server": {"drain_s": 0.05}})) as daemon:
                old = daemon._gateway
                reader, writer = await connect(daemon.url)
                writer.write(request(daemon.url, "POST", "/api/chat", question(stream=True), OWN))
                while b"one" not in await reader.readline():
                    pass
                path.write_text(json.dumps(plain))
                await daemon._take_over()
            writer.close()
        assert old.shared.store._closed
        assert logged.alarming == []
    (row,) = rows()
    assert (row["outcome"], row["input_tokens"]) == ("left", 5)
