"""Every word that the installed SDKs have for what a model says has been decided upon: a new one fails here first."""

import typing
from typing import get_args, get_origin

import pytest
from google.genai import types as gemini
from openai.types.responses import (
    ResponseContentPartDoneEvent,
    ResponseError,
    ResponseOutputItem,
    ResponseStatus,
    ResponseStreamEvent,
)
from openai.types.responses.response import IncompleteDetails

from ollama_bridge.backends.google_params import LEVELS
from ollama_bridge.backends.google_words import EXPLANATIONS, FINISH_REASONS, PARTS, UNSPECIFIED
from ollama_bridge.backends.openai import OPENAI_ERROR_TYPES
from ollama_bridge.backends.responses_stream import ResponsesReader
from ollama_bridge.backends.responses_words import (
    END_EVENTS,
    INCOMPLETE,
    PASSED_EVENTS,
    PASSED_ITEMS,
    STATUSES,
)


def members(union):
    """The classes of a union, whatever it is wrapped in."""
    if get_origin(union) is typing.Annotated:
        return members(get_args(union)[0])
    if isinstance(union, type):
        return [union] if union is not type(None) else []
    return [one for part in get_args(union) for one in members(part)]


def words(annotation):
    """The words of a literal, wherever it stands in an annotation."""
    if get_origin(annotation) is typing.Literal:
        return set(get_args(annotation))
    return {word for part in get_args(annotation) for word in words(part)}


def kinds(union):
    """What the members of a union call themselves in their `type`."""
    return {word for one in members(union) for word in words(one.model_fields["type"].annotation)}


def test_the_events_of_a_response():
    """Each is read or passed over, none both; what is read besides ends a response of somebody else's."""
    read, passed = set(ResponsesReader._table), set(PASSED_EVENTS)
    assert read & passed == set()
    assert kinds(ResponseStreamEvent) <= read | passed
    assert (read | passed) - kinds(ResponseStreamEvent) <= set(END_EVENTS)


def test_the_events_that_hold_a_response():
    """Those end it, or come before anything is said."""
    holding = {
        word
        for one in members(ResponseStreamEvent)
        if "response" in one.model_fields
        for word in words(one.model_fields["type"].annotation)
    }
    assert holding - set(END_EVENTS) == {"response.created", "response.in_progress", "response.queued"}


def test_the_items_of_a_response():
    """Each is read or passed over, none both."""
    read, passed = set(ResponsesReader._items_table), set(PASSED_ITEMS)
    assert read & passed == set()
    assert kinds(ResponseOutputItem) == read | passed


def test_the_parts_of_an_item():
    """Text, refusal and reasoning are all there are."""
    parts = kinds(ResponseContentPartDoneEvent.model_fields["part"].annotation)
    assert parts == {"output_text", "refusal", "reasoning_text"}


@pytest.mark.parametrize(
    ("known", "annotation"),
    [
        (STATUSES, ResponseStatus),
        (INCOMPLETE, IncompleteDetails.model_fields["reason"].annotation),
    ],
    ids=["status", "reason"],
)
def test_how_a_response_ends(known, annotation):
    """Each status and each reason to be incomplete has its meaning."""
    assert set(known) == words(annotation)


def test_the_errors_of_a_response():
    """Each code has a meaning; without one all would be failures that may pass."""
    assert words(ResponseError.model_fields["code"].annotation) <= set(OPENAI_ERROR_TYPES)


# -------------------------------------------------------------------------------------------------- Gemini


def values(enum):
    return {member.value for member in enum}


def test_the_finish_reasons_of_gemini():
    """Each is a stop, a limit, a refusal or a failure."""
    assert set(FINISH_REASONS) == values(gemini.FinishReason)
    assert UNSPECIFIED in FINISH_REASONS


def test_every_refusal_of_gemini_has_its_words():
    """Of an answer and of a prompt: a client that is shown nothing else is shown these."""
    refusals = {word for word, reason in FINISH_REASONS.items() if reason == "refusal"}
    assert set(EXPLANATIONS) == refusals | values(gemini.BlockedReason)


def test_the_parts_of_gemini():
    """Each is read, or passed over in silence, or told of in the log."""
    assert set(PARTS) == {field.alias or name for name, field in gemini.Part.model_fields.items()}


def test_the_fields_of_a_call_of_gemini():
    """A call and a piece of its arguments hold nothing that is not put together."""
    assert set(gemini.FunctionCall.model_fields) == {"id", "args", "name", "partial_args", "will_continue"}
    assert set(gemini.PartialArg.model_fields) == {
        *("bool_value", "json_path", "null_value", "number_value", "string_value", "will_continue")
    }


def test_the_levels_of_thinking():
    """Each that Gemini knows can be asked for."""
    assert set(LEVELS.values()) == values(gemini.ThinkingLevel) - {"THINKING_LEVEL_UNSPECIFIED"}


def test_the_counts_of_gemini():
    """A count of tokens that is new may have to be added to ours."""
    counts = {
        name for name in gemini.GenerateContentResponseUsageMetadata.model_fields if "token_count" in name
    }
    assert counts == {
        *(
            "prompt_token_count",
            "tool_use_prompt_token_count",
            "candidates_token_count",
            "thoughts_token_count",
        ),
        *("cached_content_token_count", "total_token_count"),
    }
