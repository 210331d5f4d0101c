"""What is known of a model, with what its refusals taught: here alone is known which rule a wire's parameter follows."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, Literal, TypeAlias, get_args

from ollama_bridge.chat import Effort, Rules, Target
from ollama_bridge.repairs import Repair

_Change: TypeAlias = Callable[[Rules, Repair], Rules]

_THINKING_RULES: Final[Mapping[str, str]] = {
    "adaptive": "adaptive",
    "enabled": "budget",
    "disabled": "disabled",
    "between_tools": "between_tools",
}
"""Anthropic's types of thinking to what `Rules.thinking` calls them."""


def adapted(target: Target, repairs: Iterable[Repair]) -> Target:
    """The target for which the repaired request is built; the same, if nothing can be done."""
    rules, most = target.rules, target.max_output_tokens
    for repair in repairs:
        if repair.parameter in _LIMITS and isinstance(repair.instead, int):
            most = min(most, repair.instead)  # what else is made to fit into the answer has to know
        change = _CHANGES.get(repair.parameter)
        before = rules
        if change is not None and not repair.beside:
            rules = change(rules, repair)
        if rules == before and not isinstance(repair.instead, str | tuple):
            rules = replace(rules, repairs=(*rules.repairs, repair))
    return replace(target, rules=rules, max_output_tokens=most)


def _without(option: str) -> _Change:
    """For who does not take an option; one that is too large is made smaller in the body."""

    def change(rules: Rules, repair: Repair) -> Rules:
        if isinstance(repair.instead, int | float):
            return replace(rules, max_stops=int(repair.instead)) if option == "stop" else rules
        return replace(rules, accepts=rules.accepts - {option})

    return change


def _efforts(*kinds: str) -> _Change:
    """For who takes other words, or none: then it cannot be told in one of these ways."""

    def change(rules: Rules, repair: Repair) -> Rules:
        known: tuple[Effort, ...] = rules.efforts or get_args(Effort)
        if isinstance(repair.instead, tuple):
            left = tuple(word for word in get_args(Effort) if word in repair.instead)
        else:
            left = tuple(word for word in known if repair.refused and word != repair.refused)
        if left:
            return replace(rules, efforts=left)
        return replace(rules, efforts=(), thinking=rules.thinking - set(kinds))

    return change


def _thinking_types(rules: Rules, repair: Repair) -> Rules:
    others = repair.instead if isinstance(repair.instead, tuple) else ()
    added = {_THINKING_RULES[word] for word in others if word in _THINKING_RULES}
    refused = {_THINKING_RULES.get(repair.refused, "")}
    return replace(rules, thinking=(rules.thinking - refused) | added)


def _no_schema(rules: Rules, _: Repair) -> Rules:
    return replace(rules, schema=False)


def _json(rules: Rules, repair: Repair) -> Rules:
    return replace(rules, schema=False) if repair.refused == "json_schema" else rules


def _limit_name(rules: Rules, repair: Repair) -> Rules:
    return replace(rules, max_tokens_field=_FIELDS.get(str(repair.instead), rules.max_tokens_field))


_LIMITS: Final = frozenset(
    {"max_tokens", "max_completion_tokens", "max_output_tokens", "generationConfig.maxOutputTokens"}
)
_FIELDS: Final[Mapping[str, Literal["max_tokens", "max_completion_tokens"]]] = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_completion_tokens",
}

_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "temperature": ("temperature", "generationConfig.temperature"),
    "top_p": ("top_p", "generationConfig.topP"),
    "top_k": ("top_k", "generationConfig.topK"),
    "min_p": ("min_p",),
    "seed": ("seed", "random_seed", "generationConfig.seed"),
    "stop": ("stop", "stop_sequences", "generationConfig.stopSequences"),
    "presence_penalty": ("presence_penalty", "generationConfig.presencePenalty"),
    "frequency_penalty": ("frequency_penalty", "generationConfig.frequencyPenalty"),
    "repeat_penalty": ("repetition_penalty",),
    "logprobs": ("logprobs", "generationConfig.responseLogprobs", "generationConfig.logprobs"),
}
"""Ollama's name of an option to what the wires call it."""

_CHANGES: Final[Mapping[str, _Change]] = {
    **{path: _without(option) for option, paths in _OPTIONS.items() for path in paths},
    "max_tokens": _limit_name,
    "max_completion_tokens": _limit_name,
    "reasoning_effort": _efforts("effort"),
    "reasoning.effort": _efforts("effort"),
    "reasoning": _efforts("effort"),
    "output_config.effort": _efforts(),
    "generationConfig.thinkingConfig.thinkingLevel": _efforts("level"),
    "generationConfig.thinkingConfig.thinkingBudget": _efforts("budget"),
    "generationConfig.thinkingConfig": _efforts("level", "budget"),
    "thinking": lambda rules, _: replace(rules, thinking=frozenset()),
    "thinking.type": _thinking_types,
    "response_format.type": _json,
    "text.format.type": _json,
    "output_config": lambda rules, _: replace(rules, schema=False, efforts=()),
    "output_config.format": _no_schema,
    "generationConfig.responseJsonSchema": _no_schema,
    "generationConfig.responseMimeType": lambda rules, repair: replace(
        rules, schema=False, repairs=(*rules.repairs, repair)
    ),
    "tool_choice": lambda rules, repair: rules if repair.refused else replace(rules, forced_tools=False),
    "toolConfig": lambda rules, _: replace(rules, forced_tools=False),
    "dimensions": lambda rules, _: replace(rules, dimensions=range(0)),
    "outputDimensionality": lambda rules, _: replace(rules, dimensions=range(0)),
    "messages.role": lambda rules, _: replace(rules, system_role="system"),
}
"""What a repair changes; where it changes nothing, and for all other parameters, it is done to the finished body."""
