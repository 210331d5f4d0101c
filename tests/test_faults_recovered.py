"""What a client sees of its provider's faults with all policies in force: every fault, once and for ever, through every
SDK, streamed and whole; of a model that is asked again, of one whose answers are also gone on with, and of one that
has a fallback.

`pytest tests/test_faults_recovered.py -s` prints the table.
"""

import asyncio
import collections
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any, Final, Literal, NamedTuple

import pytest

from faults import KEY, PROMPT, SAID, WORDS, error, error_event, json_error, page, parts, refusal, stream
from journal import journal
from ollama_bridge.config import Config
from running import Got, ask, running
from together import IN_FORCE, house, model, provider
from upstream import Script, Seen, Upstream
from wires import WIRES, Said, Wire

RETRIES: Final = IN_FORCE["retry"]["max_retries"]
LONG_S: Final = 600.0

EXACT: Final = replace(WIRES[0], model="claude-haiku-4-5")
"""Goes on to the letter with what there is of its own answer."""

ALL_WIRES: Final = [*WIRES, EXACT]


class Saw(NamedTuple):
    """What a client gets, and how often the model that it asked was asked for it."""

    what: Literal["answer", "spare", "error"]
    """All of the answer, by that model or by its fallback; or an error."""
    asked: int


class Outcome(NamedTuple):
    """What comes of a fault: once, for ever."""

    alone: tuple[Saw, Saw]
    """Of a model that is only asked again."""
    spared: tuple[Saw, Saw]
    """Of one that has a fallback."""


ALL: Final = 1 + RETRIES
HEALED = Saw("answer", 2), Saw("error", ALL)
AT_ONCE = Saw("error", 1), Saw("error", 1)

RECOVERED = Outcome(HEALED, (Saw("answer", 2), Saw("spare", ALL)))
REFUSED = Outcome(AT_ONCE, (Saw("spare", 1), Saw("spare", 1)))
"""Asking the same model again would change nothing, or take too long."""
TOLD = Outcome(AT_ONCE, AT_ONCE)
"""It would be the same everywhere, or repeat what the client has seen."""
BEGUN_ANEW = Outcome(HEALED, (Saw("answer", 2), Saw("spare", 2)))
"""Of who waits for the whole answer: nobody has seen the part there was."""


@dataclass(frozen=True)
class Fault:
    """One way to fail.

    Args:
        name: For the table.
        script: What the provider sends: body, status, headers, then, gap_s.
        outcome: What comes of it.
        status: With the error, when there was no word of the answer yet.
        remedy: What the error tells the reader to do.
        said: What a streaming client sees before the error.
        waits: Whether the error says to wait for about `LONG_S`.
        wires: On which it can happen; empty: on all.
        model: `hasty` may be silent only for a moment before its answer begins, `halting` only within it; those who
            ask them do so all at the same time.
    """

    name: str
    script: Callable[[Wire], dict[str, Any]]
    outcome: Outcome
    status: int
    remedy: str = "ask again"
    said: str = ""
    waits: bool = False
    wires: tuple[str, ...] = ()
    model: str = "m"


def in_s(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat().replace("+00:00", "Z")


FORMS: dict[str, Callable[[float], dict[str, str]]] = {
    "retry-after": lambda s: {"retry-after": f"{s:g}"},
    "retry-after, date": lambda s: {"retry-after": formatdate(time.time() + s, usegmt=True)},
    "retry-after-ms": lambda s: {"retry-after-ms": f"{s * 1000:g}", "retry-after": "9999"},
    "x-ms-retry-after-ms": lambda s: {"x-ms-retry-after-ms": f"{s * 1000:g}"},
    "anthropic-ratelimit-*-reset": lambda s: {
        "anthropic-ratelimit-input-tokens-remaining": "0",
        "anthropic-ratelimit-input-tokens-reset": in_s(s),
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": in_s(s + 3000),
    },
    "x-ratelimit-reset-*, duration": lambda s: {
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "120",
        "x-ratelimit-reset-tokens": f"{s // 60:.0f}m{s % 60:g}s" if s >= 60 else f"{s * 1000:g}ms",
        "x-ratelimit-limit-requests": "14400",
        "x-ratelimit-remaining-requests": "14370",
        "x-ratelimit-reset-requests": "1h2m59.56s",
    },
    "x-ratelimit-reset, ms of epoch": lambda s: {
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": str(int((time.time() + s) * 1000)),
    },
    "x-ratelimit-reset, s of epoch": lambda s: {"x-ratelimit-reset": str(int(time.time() + s))},
    "x-ratelimit-reset, seconds": lambda s: {"x-ratelimit-reset": f"{s:g}"},
    "ratelimit-reset": lambda s: {"ratelimit-remaining": "0", "ratelimit-reset": f"{s:g}"},
}
"""Every way to say on a 429 how long to wait."""


def limited(form: str, seconds: float) -> Callable[[Wire], dict[str, Any]]:
    return lambda wire: refusal(429, **FORMS[form](seconds))(wire)  # noqa: PLW0108 - a date is of its moment


def google_429(detail: dict[str, Any]) -> Callable[[Wire], dict[str, Any]]:
    def script(wire: Wire) -> dict[str, Any]:
        body = error(wire, 429, "You exceeded your current quota.")
        body["error"]["details"] = [detail, {"@type": "type.googleapis.com/google.rpc.Help"}]
        return {"body": json.dumps(body).encode(), "status": 429}

    return script


def retry_info(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


PER_DAY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
}


def no_credit(wire: Wire) -> dict[str, Any]:
    return {**refusal(402)(wire), "status": 429}  # as OpenAI does it


def event(status: int, *before: int) -> Callable[[Wire], dict[str, Any]]:
    return lambda wire: {"body": b"".join(parts(wire)[at] for at in before) + error_event(wire, status)}


def loris(*before: int) -> Callable[[Wire], dict[str, Any]]:
    """An event that never ends, a byte at a time."""

    def script(wire: Wire) -> dict[str, Any]:
        head = b"".join(parts(wire)[at] for at in before)
        return {"body": [head, *(b"%c" % byte for byte in b"data: {" + b" " * 500)], "gap_s": 0.02}

    return script


def comments(wire: Wire) -> dict[str, Any]:
    """What keeps connections open, and nothing else."""
    return {"body": [parts(wire)[0], *[b": still here\n\n"] * 500], "gap_s": 0.02}


BROKEN_EVENT = b'data: {"type": broken\n\n'

FAULTS = [
    *(Fault(f"429, {form}: soon", limited(form, 0.02), RECOVERED, 429) for form in FORMS),
    *(Fault(f"429, {form}: long", limited(form, LONG_S), REFUSED, 429, waits=True) for form in FORMS),
    Fault("429, RetryInfo: soon", google_429(retry_info("0.02s")), RECOVERED, 429, wires=("google",)),
    Fault(
        "429, RetryInfo: long", google_429(retry_info("600s")), REFUSED, 429, waits=True, wires=("google",)
    ),
    Fault("429, of a day", google_429(PER_DAY), REFUSED, 429, "or tomorrow", wires=("google",)),
    Fault("429, no word of a wait", refusal(429), RECOVERED, 429),
    Fault("429, no credit", no_credit, REFUSED, 429, "add some", wires=("anthropic", "responses", "chat")),
    Fault("429, said not to ask again", refusal(429, **{"x-should-retry": "false"}), REFUSED, 429),
    Fault("400", refusal(400), TOLD, 400, "change the request"),
    Fault("401", refusal(401), REFUSED, 502, "check "),
    Fault("500", refusal(500), RECOVERED, 502),
    Fault("503", refusal(503), RECOVERED, 503),
    Fault("529", refusal(529), RECOVERED, 503),
    Fault("overloaded inside a 200", event(529), RECOVERED, 503),
    Fault("overloaded before the text", event(529, 0), RECOVERED, 503),
    Fault("overloaded in the text", event(529, 0, 1), TOLD, 503, said=SAID),
    Fault("JSON error with 200", json_error, RECOVERED, 429),
    Fault("reset before any byte", lambda _: {"then": "vanish"}, RECOVERED, 502),
    Fault("reset before the text", stream(0, then="reset"), RECOVERED, 502),
    Fault("reset in the text", stream(0, 1, then="reset"), TOLD, 502, said=SAID),
    Fault("cut before the text", stream(0, then="cut"), RECOVERED, 502),
    Fault("end before the text", stream(0), RECOVERED, 502),
    Fault("nothing at all", stream(), RECOVERED, 502),
    Fault("end in the text", stream(0, 1), TOLD, 502, said=SAID),
    Fault("malformed event before the text", stream(0, BROKEN_EVENT, 1, 2), RECOVERED, 502),
    Fault("malformed event in the text", stream(0, 1, BROKEN_EVENT, 2), TOLD, 502, said=SAID),
    Fault("wrong content type", page, REFUSED, 502, "base_url"),
    Fault("stall before the text", stream(0, then="stall"), RECOVERED, 504, "timeout_s", model="hasty"),
    Fault("stall in the text", stream(0, 1, then="stall"), TOLD, 504, "timeout_s", SAID, model="halting"),
    Fault("slow loris before the text", loris(0), RECOVERED, 504, "timeout_s", model="hasty"),
    Fault("only comments before the text", comments, RECOVERED, 504, "timeout_s", model="hasty"),
    Fault("slow loris in the text", loris(0, 1), TOLD, 504, "timeout_s", SAID, model="halting"),
]


MODELS: Final = ("m", "hasty", "halting")
MODES: Final = {
    "without resume": {"resume": False},
    "with resume": {"resume": True},
    "with a fallback": {"resume": False, "fallbacks": ["spare"]},
}
"""The three columns of the table: what is said of the model that fails."""


@dataclass
class Check:
    """One question of a client, and what the provider of the model that it asks was asked for it."""

    wire: Wire
    fault: Fault
    mode: str
    forever: bool
    streamed: bool
    seen: list[Seen] = field(default_factory=list)
    spared: int = 0
    got: Got | None = None

    @property
    def expected(self) -> Saw:
        """What is to come of it."""
        outcome = self.fault.outcome
        if self.fault.said and not self.streamed:
            outcome = BEGUN_ANEW
        elif self.goes_on:
            outcome = RECOVERED
        return (outcome.spared if self.mode == "with a fallback" else outcome.alone)[self.forever]

    @property
    def goes_on(self) -> bool:
        """Whether what there is of the answer is shown to the model, to go on with."""
        is_seen = self.streamed or self.wire is EXACT
        return bool(self.fault.said) and is_seen and self.mode == "with resume"

    def answer(self, seen: Seen) -> Script:
        """What the provider sends."""
        self.seen.append(seen)
        if not self.forever and len(self.seen) > 1:
            return Script([self.wire.stream(Said(WORDS.removeprefix(SAID) if self.goes_on else WORDS))])
        how = {"body": b"", "status": 200, **self.fault.script(self.wire)}
        body = how.pop("body")
        how.setdefault(
            "headers", {"content-type": "text/event-stream" if how["status"] == 200 else "application/json"}
        )
        return Script([body] if isinstance(body, bytes) else body, **how)

    def verify(self) -> str:
        """The cell of the table, if everything is as it should be."""
        got, (what, asked) = self.got, self.expected
        assert KEY not in got.body.decode()
        saw = self._verify_error(got) if what == "error" else self._verify_answer(got)
        assert self.spared == (what == "spare")
        # On a busy machine even a good answer may begin too late for the hasty one.
        assert len(self.seen) == asked or (self.fault.model == "hasty" and asked < len(self.seen) <= ALL)
        first, *others = [seen.body for seen in self.seen]
        assert all((SAID.encode() in other) if self.goes_on else (other == first) for other in others)
        return f"{len(self.seen)}x, {saw}"

    def _verify_answer(self, got: Got) -> str:
        lines = got.lines if self.streamed else [got.json]
        assert got.status == 200
        assert "".join(line["message"]["content"] for line in lines) == WORDS
        assert [line["done"] for line in lines].count(True) == 1
        assert lines[-1].get("answered_by") == ("spare:latest" if self.spared else None)
        return "the fallback's" if self.spared else "answer"

    def _verify_error(self, got: Got) -> str:
        fault = self.fault
        in_stream = self.streamed and bool(fault.said)
        *lines, last = got.lines if in_stream else [got.json]
        assert list(last) == ["error"]
        assert fault.remedy in last["error"]
        # Who goes on to the letter is taken at its word, if it says the same again; but what seems to repeat a longer
        # text is held back until that is certain, and here it breaks off before.
        times = 2 if self.goes_on and self.wire is EXACT else 1
        assert "".join(line["message"]["content"] for line in lines) == fault.said * times * in_stream
        assert not any(line["done"] for line in lines)
        assert got.status == (200 if in_stream else fault.status)
        wait_s = got.headers.get("Retry-After")
        if fault.waits:
            assert LONG_S - 50 <= int(wait_s) <= LONG_S + 1
        elif wait_s is not None:
            assert int(wait_s) == 1
        if in_stream:
            return f"{len(lines)} lines, error"
        return f"{got.status}, wait {wait_s} s" if wait_s else f"{got.status}"


def config(wire: Wire, upstream: Upstream, spare: Wire, other: Upstream, mode: str) -> Config:
    """The wire's model, two whose providers may be silent only for a moment, and one that stands in for them."""
    silent_s = {wire.key: 60, "hasty": 0.4, "halting": None}
    return house(
        {
            "spare": provider(spare, other, timeout_s=60),
            **{
                key: provider(wire, upstream, api_key=KEY, timeout_s=most_s)
                for key, most_s in silent_s.items()
            },
        },
        model("spare", "spare", spare),
        *(model(name, key, wire, **MODES[mode]) for name, key in zip(MODELS, silent_s, strict=True)),
        streaming={"idle_timeout_s": 0.3},
    )


async def asked(check: Check, number: int, url: str) -> None:
    prompt = f"{PROMPT} #{number}#"
    messages = [{"role": "user", "content": prompt}]
    question = {"model": check.fault.model, "messages": messages, "stream": check.streamed}
    check.got = await ask(url, "POST", "/api/chat", question)


async def all_asked(wire: Wire, spare: Wire, mode: str) -> list[Check]:
    """Every fault of a wire, of a model in one of the modes."""
    checks = [
        Check(wire, fault, mode, forever, streamed)
        for fault in FAULTS
        for forever in (False, True)
        for streamed in (True, False)
        if not fault.wires or wire.name in fault.wires
    ]

    def which(seen: Seen) -> Check:
        return checks[int(re.search(rb"#(\d+)#", seen.body)[1])]

    def fail(seen: Seen) -> Script:
        return which(seen).answer(seen)

    def stand_in(seen: Seen) -> Script:
        which(seen).spared += 1
        return Script([spare.stream(Said(WORDS))])

    async with Upstream(fail) as upstream, Upstream(stand_in) as other:
        made = config(wire, upstream, spare, other, mode)
        async with running(made) as daemon:
            asking = [(check.fault.model, asked(check, at, daemon.url)) for at, check in enumerate(checks)]
            for name, one in asking:
                if name == "m":
                    await one
            await asyncio.gather(*(one for name, one in asking if name != "m"))
    return checks


@pytest.mark.parametrize(
    ("wire", "spare"),
    # Who stands in is asked through another SDK, or at least in another way.
    list(zip(ALL_WIRES, [*WIRES[1:], WIRES[0], WIRES[2]], strict=True)),
    ids=lambda wire: wire.model,
)
async def test_a_fault_is_hardly_noticed(wire, spare, subtests):
    """What asking again, going on or somebody else can heal, the client never sees; of the rest it is told at once or in
    the end, by a status or after the words it has seen by one error line; who is asked again gets the same body, or what
    there is of the answer to go on with; and the log no prompt."""
    with journal() as written:
        checks = [check for mode in MODES for check in await all_asked(wire, spare, mode)]
    rows = collections.defaultdict(lambda: collections.defaultdict(list))
    for check in checks:
        row = check.fault.name, "for ever" if check.forever else "once"
        with subtests.test(" ".join(row), mode=check.mode, streamed=check.streamed):
            rows[row][check.mode].append(check.verify())
    print(f"\n{f'{wire.name}: {wire.model}':48}", *(f"{f'{mode}: streamed | whole':42}" for mode in MODES))
    for (name, how_often), cells in rows.items():
        seen = (f"{' | '.join(cells[mode]):42}" for mode in MODES)
        print(f"  {name:36} {how_often:9}", *seen)
    assert written.alarming == []
    assert KEY not in written.text
    assert PROMPT not in written.text
