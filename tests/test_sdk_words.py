"""Every word that the installed SDKs have for what a model says has been decided upon: a new one fails here first."""

import typing
from typing import get_args, get_origin

import pytest
from openai.types.responses import (
    ResponseContentPartDoneEvent,
    ResponseError,
    ResponseOutputItem,
    ResponseStatus,
    ResponseStreamEvent,
)
from openai.types.responses.response import IncompleteDetails

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
