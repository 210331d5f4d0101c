"""What a repair does to the request on each wire, and how repairs are kept."""

import json
import os
import stat
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from ollama_bridge.backends import anthropic_request, google_params, openai_chat, responses
from ollama_bridge.backends.dialect import OPENAI, PLAIN
from ollama_bridge.chat import ChatRequest, Message, Rules, Target, Tool, ToolChoice
from ollama_bridge.learned import LOOK_S, Learned
from ollama_bridge.lessons import DAYS, MOST_MODELS, forget, learned_path, remembered
from ollama_bridge.policies.adapted import adapted
from ollama_bridge.repairs import Repair, held, mend
from test_cli import file, run  # noqa: F401 - fixtures

DAY_S = 86_400
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOL = (Tool("f"),)
CLAUDE = Rules(
    thinking=frozenset({"adaptive", "disabled"}),
    efforts=("low", "medium", "high"),
    accepts=frozenset({"temperature", "top_p", "stop"}),
)
LEVELS = Rules(thinking=frozenset({"level"}), efforts=("minimal", "low", "high"))
BUDGETS = Rules(thinking=frozenset({"budget"}), efforts=("none", "minimal", "low", "high"))
O_SERIES = Rules(system_role="developer", max_tokens_field="max_completion_tokens")
WORDS = Rules(efforts=("none", "low", "high"))
REASONING = Rules(efforts=("low", "medium", "high"))

LEVEL_AT = "generationConfig.thinkingConfig.thinkingLevel"
BUDGET_AT = "generationConfig.thinkingConfig.thinkingBudget"

ASKED: dict[str, dict[str, Any]] = {
    "forced": {"tools": TOOL, "tool_choice": ToolChoice("required")},
    "free": {"tools": TOOL, "tool_choice": ToolChoice("none")},
    "schema": {"format": SCHEMA},
    "json": {"format": "json"},
    "thinking": {"think": "medium"},
    "quiet": {"think": False},
    "long": {"options": {"num_predict": 100_000}},
    "dials": {"options": {"temperature": 0.5, "top_p": 0.5, "stop": ["a", "b", "c"]}},
    "warm": {"options": {"temperature": 0.5, "top_p": 0.5}, "think": "medium"},
}


def asking(rules: Rules, what: str) -> ChatRequest:
    target = Target("p", "x", 128_000, frozenset({"completion", "tools", "thinking"}), rules)
    messages = (Message("system", "Be kind."), Message("user", "Hi"))
    return ChatRequest("m", messages, target=target, **ASKED[what])


def chat(request: ChatRequest) -> dict[str, Any]:
    return openai_chat.prepare(request, request.messages, PLAIN).body


def of_responses(request: ChatRequest) -> dict[str, Any]:
    return responses.prepare(request, request.messages, OPENAI).body


def claude(request: ChatRequest) -> dict[str, Any]:
    return anthropic_request.prepare(request).body


def gemini(request: ChatRequest) -> dict[str, Any]:
    return google_params.build(request).body


ALL = Repair("temperature")
TABLE = [
    # wire, rules, what is asked, repair, where to look, what stands there before and after
    (chat, Rules(), "dials", ALL, "temperature", 0.5, None),
    (chat, Rules(), "dials", Repair("temperature", 0.3), "temperature", 0.5, 0.3),
    (chat, Rules(), "dials", Repair("top_p", beside="temperature"), "top_p", 0.5, None),
    (chat, Rules(), "dials", Repair("top_p", beside="seed"), "top_p", 0.5, 0.5),
    (chat, Rules(), "dials", Repair("stop"), "stop", ["a", "b", "c"], None),
    (chat, Rules(), "dials", Repair("stop", 2), "stop", ["a", "b", "c"], ["a", "b"]),
    (chat, Rules(), "long", Repair("max_tokens", 8192), "max_tokens", 100_000, 8192),
    (chat, Rules(), "long", Repair("max_tokens", "max_completion_tokens"), "max_completion_tokens", None, 100_000),
    (chat, O_SERIES, "long", Repair("max_completion_tokens", "max_tokens"), "max_tokens", None, 100_000),
    (chat, Rules(), "forced", Repair("tool_choice"), "tool_choice", "required", None),
    (chat, Rules(), "free", Repair("tool_choice"), "tool_choice", "none", "none"),
    (chat, Rules(), "free", Repair("tool_choice", refused="none"), "tool_choice", "none", None),
    (chat, WORDS, "thinking", Repair("reasoning_effort"), "reasoning_effort", "low", None),
    (chat, REASONING, "thinking", Repair("reasoning_effort", ("high",)), "reasoning_effort", "medium", "high"),
    (chat, WORDS, "quiet", Repair("reasoning_effort", refused="none"), "reasoning_effort", "none", "low"),
    (
        chat,
        Rules(),
        "schema",
        Repair("response_format.type", "json_object", refused="json_schema"),
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "response", "schema": SCHEMA, "strict": False}},
        {"type": "json_object"},
    ),
    (
        chat,
        Rules(),
        "json",
        Repair("response_format.type", refused="json_object"),
        "response_format",
        {"type": "json_object"},
        None,
    ),
    (
        chat,
        O_SERIES,
        "json",
        Repair("messages.role", "system", refused="developer"),
        "messages",
        [
            {"role": "developer", "content": "Answer with a JSON object."},
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "Hi"},
        ],
        [
            {"role": "system", "content": "Answer with a JSON object."},
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hi"},
        ],
    ),
    (
        of_responses,
        Rules(),
        "thinking",
        Repair("reasoning.summary"),
        "reasoning",
        {"effort": "medium", "summary": "auto"},
        {"effort": "medium"},
    ),
    (of_responses, WORDS, "thinking", Repair("reasoning"), "reasoning", {"effort": "low", "summary": "auto"}, None),
    (of_responses, Rules(), "json", Repair("text.format.type", refused="json_object"), "text",
     {"format": {"type": "json_object"}}, None),
    (of_responses, Rules(), "long", Repair("max_output_tokens", 16_384), "max_output_tokens", 100_000, 16_384),
    (of_responses, Rules(), "long", Repair("store"), "store", False, None),
    (claude, CLAUDE, "dials", Repair("stop_sequences"), "stop_sequences", ["a", "b", "c"], None),
    (claude, CLAUDE, "long", Repair("max_tokens", 64_000), "max_tokens", 100_000, 64_000),
    (claude, CLAUDE, "forced", Repair("tool_choice"), "tool_choice", {"type": "any"}, None),
    (claude, CLAUDE, "free", Repair("tool_choice.type", refused="none"), "tool_choice", {"type": "none"}, None),
    (claude, CLAUDE, "thinking", Repair("output_config.effort"), "output_config", {"effort": "medium"}, None),
    (claude, CLAUDE, "thinking", Repair("output_config"), "output_config", {"effort": "medium"}, None),
    (
        claude,
        CLAUDE,
        "thinking",
        Repair("thinking.type", ("enabled", "disabled"), refused="adaptive"),
        "thinking",
        {"type": "adaptive", "display": "summarized"},
        {"type": "enabled", "budget_tokens": 8192},
    ),
    (
        claude,
        replace(CLAUDE, thinking=frozenset({"budget", "disabled"})),
        "thinking",
        Repair("thinking.type", ("adaptive",), refused="enabled"),
        "thinking",
        {"type": "enabled", "budget_tokens": 8192},
        {"type": "adaptive", "display": "summarized"},
    ),
    (claude, CLAUDE, "quiet", Repair("thinking.type", refused="disabled"), "thinking", {"type": "disabled"}, None),
    (claude, CLAUDE, "quiet", Repair("thinking"), "thinking", {"type": "disabled"}, None),
    (
        claude,
        CLAUDE,
        "schema",
        Repair("output_config.format"),
        "output_config.format.type",
        "json_schema",
        None,
    ),
    (gemini, LEVELS, "dials", Repair("generationConfig.temperature"), "generationConfig.temperature", 0.5, None),
    (gemini, LEVELS, "quiet", Repair(LEVEL_AT, refused="minimal"), LEVEL_AT, "MINIMAL", "LOW"),
    (gemini, LEVELS, "quiet", Repair(LEVEL_AT), "generationConfig.thinkingConfig.thinkingLevel", "MINIMAL", None),
    (gemini, BUDGETS, "quiet", Repair(BUDGET_AT, refused="none"), BUDGET_AT, 0, 128),
    (gemini, BUDGETS, "quiet", Repair(BUDGET_AT), BUDGET_AT, 0, None),
    (
        gemini,
        LEVELS,
        "schema",
        Repair("generationConfig.responseJsonSchema"),
        "generationConfig",
        {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA, "thinkingConfig": {"includeThoughts": True}},
        {"responseMimeType": "application/json", "thinkingConfig": {"includeThoughts": True}},
    ),
    (
        gemini,
        LEVELS,
        "schema",
        Repair("generationConfig.responseMimeType"),
        "generationConfig",
        {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA, "thinkingConfig": {"includeThoughts": True}},
        {"thinkingConfig": {"includeThoughts": True}},
    ),
    (gemini, LEVELS, "forced", Repair("toolConfig"), "toolConfig.functionCallingConfig.mode", "ANY", None),
    (gemini, LEVELS, "long", Repair("generationConfig.maxOutputTokens", 65_536), "generationConfig.maxOutputTokens",
     100_000, 65_536),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "rules", "what", "repair", "where", "before", "after"), TABLE)
def test_a_repair_changes_this_and_nothing_else(wire, rules, what, repair, where, before, after):
    """What was refused is gone or another, and the rest of the body is what it was."""
    request = asking(rules, what)
    target = adapted(request.target, [repair])
    plain, repaired = wire(request), wire(replace(request, target=target))
    mend(repaired, target.rules.repairs)
    assert (held(plain, where), held(repaired, where)) == (before, after)
    touched = {where.partition(".")[0], repair.parameter.partition(".")[0]}
    if wire is claude:  # these three depend on each other
        touched |= {"thinking", "output_config", "tool_choice"}
    if "schema" in what or "json" in what:  # said in words instead
        touched |= {"messages", "system", "systemInstruction", "input"}
        assert "JSON" in json.dumps(repaired)
    assert {name: value for name, value in plain.items() if name not in touched} == {
        name: value for name, value in repaired.items() if name not in touched
    }


def test_a_repair_that_changes_nothing_is_none():
    """Nobody is asked again for its sake."""
    target = Target(rules=Rules(max_tokens_field="max_tokens"))
    for repair in (Repair("max_completion_tokens", "max_tokens"), Repair("messages.role", "system")):
        assert adapted(target, [repair]) == target


def test_a_body_without_the_parameter_is_left_alone():
    """Also where something else stands in its place."""
    for body in ({}, {"a": 1}, {"a": {"b": "x"}}, {"a": {"c": {}}}, {"a": None}):
        whole = json.dumps(body)
        mend(body, [Repair("a.b.c"), Repair("a.b", refused="y"), Repair("a.b", 3), Repair("b")])
        assert json.dumps(body) == whole


# ---------------------------------------------------------------------------------------- memory


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now_s


REPAIRS = [
    Repair("temperature"),
    Repair("max_tokens", "max_completion_tokens"),
    Repair("max_output_tokens", 4096),
    Repair("top_p", 0.95),
    Repair("reasoning_effort", ("low", "high")),
    Repair("thinking.type", refused="disabled"),
    Repair("top_p", beside="temperature"),
]


async def test_what_was_learned_is_there_after_a_restart(tmp_path):
    """All kinds of repairs; nobody else may read the file."""
    path = tmp_path / "folder" / "learned.json"
    learned = Learned(path)
    learned.learn("p", "m", REPAIRS)
    learned.learn("p", "m", REPAIRS[:2])
    learned.learn("p", "n", REPAIRS[:1])
    assert learned.of("p", "m") == tuple(REPAIRS)
    await learned.aclose()
    again = Learned(path)
    assert (again.of("p", "m"), again.of("p", "n"), again.of("q", "m")) == (tuple(REPAIRS), (REPAIRS[0],), ())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await again.aclose()


async def test_it_is_forgotten_after_thirty_days(tmp_path):
    """So that a mended model gets its parameter back."""
    clock = Clock()
    path = tmp_path / "learned.json"
    learned = Learned(path, clock_s=clock)
    learned.learn("p", "m", [ALL])
    clock.now_s += DAYS * DAY_S - 1
    assert learned.of("p", "m") == (ALL,)
    clock.now_s += 2
    assert learned.of("p", "m") == ()
    learned.learn("p", "n", [ALL])
    await learned.aclose()
    assert list(remembered(path, clock_s=clock)) == [("p", "n")]


async def test_several_processes_add_to_one_file(tmp_path):
    """What the others learned meanwhile is kept, and known from then on."""
    path = tmp_path / "learned.json"
    one, other = Learned(path), Learned(path)
    one.learn("p", "m", [ALL])
    await one.aclose()
    other.learn("p", "n", [ALL])
    await other.aclose()
    assert set(remembered(path)) == {("p", "m"), ("p", "n")}
    assert other.of("p", "m") == (ALL,)


async def test_of_many_models_those_that_learned_last_are_kept(tmp_path):
    """Neither memory nor file grows for ever."""
    clock = Clock()
    learned = Learned(clock_s=clock)
    for number in range(MOST_MODELS + 1):
        clock.now_s += 1
        learned.learn("p", f"m{number}", [ALL])
    assert (learned.of("p", "m0"), learned.of("p", "m1")) == ((), (ALL,))
    path = tmp_path / "learned.json"
    entry = {"learned": [{"parameter": "temperature", "at": clock.now_s}], "provider": "p"}
    path.write_text(json.dumps({"models": [{**entry, "model": f"m{at}"} for at in range(MOST_MODELS + 1)]}))
    assert len(remembered(path, clock_s=clock)) == MOST_MODELS


SPOILED = [
    "",
    "{",
    "[]",
    "null",
    '{"models": {}, "x": 1',
    '{"models": [1]}',
    '{"models": [{"provider": "p", "model": "m", "learned": [{"parameter": 3, "at": 1}]}]}',
    '{"models": [{"provider": "p", "model": "m", "learned": [{"parameter": "a", "at": "x"}]}]}',
    '{"models": [{"provider": "p", "model": "m", "learned": [{"parameter": "a", "instead": {}, "at": 1}]}]}',
]


@pytest.mark.parametrize("text", SPOILED)
async def test_a_spoiled_file_is_said_once_and_stays_until_something_is_learned(tmp_path, text):
    """It is as if there were none; commands that read it fail as little as the daemon."""
    path = tmp_path / "learned.json"
    path.write_text(text)
    with capture_logs() as logs:
        learned = Learned(path)
        assert learned.of("p", "m") == ()
        assert (path.read_text(), dict(remembered(path))) == (text, {})
        learned.learn("p", "m", [ALL])
        await learned.aclose()
    assert [line["log_level"] for line in logs] == ["warning", "info"]
    assert [lesson.repair for lesson in remembered(path)["p", "m"]] == [ALL]


@pytest.mark.skipif(os.name == "nt", reason="folders are written to by other rules there")
async def test_who_cannot_write_learns_all_the_same(tmp_path):
    """In memory, and the log says so once."""
    (tmp_path / "folder").write_text("in the way")
    with capture_logs() as logs:
        learned = Learned(tmp_path / "folder" / "learned.json")
        learned.learn("p", "m", [ALL])
        learned.learn("p", "n", [ALL])
        await learned.aclose()
    assert (learned.of("p", "m"), learned.of("p", "n")) == ((ALL,), (ALL,))
    assert [line["log_level"] for line in logs].count("warning") == 1


async def test_what_somebody_forgets_a_running_daemon_forgets(tmp_path):
    """At the first request after a few seconds it looks, beside the event loop."""
    clock = Clock()
    path = tmp_path / "learned.json"
    learned = Learned(path, monotonic_s=clock)
    learned.learn("p", "m", REPAIRS)
    learned.learn("p", "n", [ALL])
    await learned._lane.do(lambda: None)
    assert forget(path, [("p", "m"), ("p", "m"), ("p", "x")]) == len(REPAIRS)
    assert learned.of("p", "m") == tuple(REPAIRS)
    clock.now_s += LOOK_S
    learned.of("p", "m")
    await learned._lane.do(lambda: None)
    assert (learned.of("p", "m"), learned.of("p", "n")) == ((), (ALL,))
    path.unlink()
    clock.now_s += LOOK_S
    learned.of("p", "n")
    await learned._lane.do(lambda: None)
    assert learned.of("p", "n") == ()
    assert forget(path, [("p", "m")]) == 0
    await learned.aclose()


async def test_after_its_end_it_still_answers(tmp_path):
    """A reply may outlive the configuration that it began under."""
    clock = Clock()
    learned = Learned(tmp_path / "learned.json", monotonic_s=clock)
    learned.learn("p", "m", [ALL])
    await learned.aclose()
    clock.now_s += LOOK_S
    learned.learn("p", "n", [ALL])
    assert (learned.of("p", "m"), learned.of("p", "n")) == ((ALL,), (ALL,))


# ------------------------------------------------------------------------------------- command line


async def test_show_tells_what_was_learned_and_forget_forgets_it(run, file):  # noqa: F811 - fixtures
    """For people and for scripts; by any name of the model."""
    learned = Learned(learned_path(), clock_s=lambda: 1_795_219_200.0)
    learned.learn(
        "demo", "fast", [ALL, Repair("reasoning_effort", ("low", "high")), Repair("max_tokens", 4096)]
    )
    await learned.aclose()
    lessons = {
        "temperature": "left out (2026-11-21)",
        "reasoning_effort": "one of low, high (2026-11-21)",
        "max_tokens": "at most 4096 (2026-11-21)",
    }
    shown = run("models", "show", "quick", "--config", file)
    (line,) = (line for line in shown.stdout.splitlines() if line.startswith("learned "))
    assert line.split(maxsplit=1)[1] == ", ".join(f"{name} {what}" for name, what in lessons.items())
    assert json.loads(run("models", "show", "fast", "--json", "--config", file).stdout)["learned"] == lessons
    assert run("models", "forget", "quick", "--config", file).stderr == "forgotten: 3 repairs of quick\n"
    assert json.loads(run("models", "show", "fast", "--json", "--config", file).stdout)["learned"] == {}
    assert run("models", "forget", "fast", "--config", file).stderr == "forgotten: 0 repairs of fast\n"
    assert "not found" in run("models", "forget", "nobody", "--config", file, code=2).stderr
