"""What a call is for: what each task asks of a model, and how a request without a word about it is told. Pure.

Editors send small requests of their own, by the same model as the chat beside them: a title for it, a message for a
commit. They are known by how their prompts begin. What is taken for a chat by mistake costs a little more; so the
patterns look for the words of real clients, not for every mention of a title.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ollama_bridge.allowances import Task
from ollama_bridge.catalog import Model
from ollama_bridge.chat import Capability, ChatRequest


@dataclass(frozen=True, slots=True)
class Kind:
    """What a task is like.

    Args:
        leaning: Whether the cheapest does, or it is worth the best.
        needs: What a model must be able to do, beside answering.
    """

    leaning: Literal["cheap", "strong"]
    needs: frozenset[Capability] = frozenset()


TASKS: Final[Mapping[Task, Kind]] = {
    "chat": Kind("strong"),
    "agent": Kind("strong", frozenset({"tools"})),
    "completion": Kind("cheap", frozenset({"insert"})),
    "commit_message": Kind("cheap"),
    "title": Kind("cheap"),
    "text_generation": Kind("strong"),
    "question_answering": Kind("strong"),
    "summarization": Kind("cheap"),
    "sentiment_analysis": Kind("cheap"),
}

_LOOKED_AT: Final = 400
"""Characters at the beginning of a prompt; behind them come diffs and conversations."""

_HELPERS: Final[tuple[tuple[Task, tuple[str, ...]], ...]] = (
    (
        "commit_message",
        (
            # aider, Cline, Copilot, GitLens
            r"\b(?:generat|writ|creat|suggest|craft|summariz|come(?: up)? with)\w*\b[^.\n]{0,80}\bcommit messages?\b",
            r"\bcommit message generator\b",  # Kilo, Roo
            r"\bexpert at writing git commits\b",  # Zed
        ),
    ),
    (
        "title",
        (
            r"\btitle generator\b",  # opencode
            # Claude Code, Copilot, LibreChat, Open WebUI, Zed
            r"\b(?:concise|short|brief|pithy|ultra-compact|\d+(?:-\d+)?[ -]words?)\b[^.\n]{0,40}\btitles?\b",
            r"\btitle for (?:the|this) (?:chat|conversation|session|thread)\b",  # Continue
            r"\bdescription of this session in \d+ words\b",  # Goose
            r"\bindicates a new conversation topic\b",  # Claude Code
            r"\bcrafting pithy branch names\b",  # Copilot
            r"^### task:\s+(?:generate \d+-\d+ broad tags|suggest \d+-\d+ relevant follow-up)",  # Open WebUI
        ),
    ),
    ("completion", (r"^### task:\s+you are an autocompletion system\b",)),  # Open WebUI
)
"""A task, and how its prompts begin, in a system message or in the user's last."""


def task_of(request: ChatRequest) -> Task:
    """What a request is for, by its shape, or by the first words of its prompts."""
    if request.infill is not None:
        return "completion"
    if request.tools:
        return "agent"
    told = [message.content[:_LOOKED_AT] for message in request.messages[:1] if message.role == "system"]
    told += [message.content[:_LOOKED_AT] for message in request.messages[-1:] if message.role == "user"]
    for task, pattern in _patterns():
        if any(map(pattern.search, told)):
            return task
    return "chat"


def suits(model: Model, task: Task) -> bool:
    """Whether a model may be chosen for a task: as the operator says, or else whether it is able to."""
    if "completion" not in model.capabilities:
        return False
    if model.config.tasks is not None:
        return task in model.config.tasks
    return TASKS[task].needs <= set(model.capabilities)


@functools.cache
def _patterns() -> tuple[tuple[Task, re.Pattern[str]], ...]:
    return tuple((task, re.compile("|".join(patterns), re.IGNORECASE)) for task, patterns in _HELPERS)
