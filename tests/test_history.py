"""The repair of conversations."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.chat import Image, Message
from ollama_bridge.events import ToolCall
from ollama_bridge.history import NO_RESULT, NOTHING_SAID, call_id, repair

text = st.sampled_from(["", " ", "alpha", "beta", "gamma\n"])
ids = st.sampled_from(["", "call_0", "call_1", "toolu_abc", "not valid!", call_id(1, 0, "look")])
names = st.sampled_from(["look", "find"])
images = st.lists(st.just(Image("iVBORw0KGgo=", "image/png")), max_size=1).map(tuple)
calls = st.lists(st.builds(ToolCall, ids, names, st.just({"q": 1})), max_size=3).map(tuple)
message = st.one_of(
    st.builds(Message, st.just("system"), text),
    st.builds(Message, st.just("user"), text, images=images),
    st.builds(Message, st.just("assistant"), text, thinking=text, tool_calls=calls),
    st.builds(
        Message,
        st.just("tool"),
        text,
        images=images,
        tool_call_id=ids,
        tool_name=st.one_of(st.just(""), names),
    ),
)
conversation = st.lists(message, max_size=12)


@given(conversation)
def test_results_stand_behind_their_calls_one_each(messages):
    """Behind an assistant message come the results of its calls, in their order, and no results elsewhere."""
    rest = list(repair(messages))
    seen = []
    while rest:
        one = rest.pop(0)
        assert one.role != "tool"
        for call in one.tool_calls:
            result = rest.pop(0)
            assert (result.role, result.tool_call_id, result.tool_name) == ("tool", call.id, call.name)
            seen.append(call.id)
    assert all(seen)
    assert len(set(seen)) == len(seen)


@given(conversation)
def test_nothing_said_is_lost(messages):
    """Every text that is more than white space, every call and every image is still there, if not every thought."""
    repaired = repair(messages)
    after = "\n".join(one.content for one in repaired)
    duplicates = Counter(
        (one.tool_call_id, one.content, one.images)
        for one in messages
        if one.role == "tool" and one.tool_call_id
    )
    for word in ("alpha", "beta", "gamma"):
        before = sum(one.content.count(word) for one in messages)
        repeated = sum(n - 1 for (_, content, _), n in duplicates.items() if word in content)
        assert before - repeated <= after.count(word) <= before
    assert Counter(call.name for one in repaired for call in one.tool_calls) == Counter(
        call.name for one in messages for call in one.tool_calls
    )
    repeated_images = sum((n - 1) * len(pictures) for (_, _, pictures), n in duplicates.items())
    assert sum(len(one.images) for one in repaired) >= (
        sum(len(one.images) for one in messages) - repeated_images
    )


@given(conversation)
def test_repairing_twice_changes_nothing(messages):
    """What was repaired needs no repair."""
    assert repair(repair(messages)) == repair(messages)


@given(conversation, conversation)
def test_ids_of_what_was_said_stay_when_more_is_said(before, more):
    """A prompt cache keeps hitting: the calls of the beginning have the same ids in the longer conversation."""
    short = [call.id for one in repair(before) for call in one.tool_calls]
    long = [call.id for one in repair(before + more) for call in one.tool_calls]
    assert long[: len(short)] == short


def test_ids_are_nine_letters_or_digits_and_known():
    """Mistral demands exactly nine; a changed recipe would empty every prompt cache."""
    assert call_id(1, 0, "get_weather") == call_id(1, 0, "get_weather")
    assert len(call_id(1, 0, "get_weather")) == 9
    assert call_id(1, 0, "get_weather").isalnum()
    assert call_id(1, 0, "get_weather") != call_id(1, 1, "get_weather")


def asked(*wanted, content=""):
    return Message("assistant", content, tool_calls=tuple(ToolCall(i, n, {}) for i, n in wanted))


def result(content, name="", id_=""):
    return Message("tool", content, tool_call_id=id_, tool_name=name)


def answers(messages):
    return {one.tool_call_id: one.content for one in repair(messages) if one.role == "tool"}


def test_results_find_their_call_by_id_then_name_then_order():
    """Each of the three ways clients use, and the id wins over the order."""
    calls = asked(("a", "look"), ("b", "find"), ("c", "look"))
    assert answers([calls, result("1", id_="c"), result("2", "find"), result("3")]) == {
        "a": "3",
        "b": "2",
        "c": "1",
    }
    assert answers([calls, result("x"), result("y", id_="a")]) == {"a": "y", "b": "x", "c": NO_RESULT}


def test_a_late_result_moves_up_to_its_call():
    """A user message in between stays, behind the result."""
    user = Message("user", "go on")
    repaired = repair([asked(("a", "look")), user, result("seen", id_="a")])
    assert [one.role for one in repaired] == ["assistant", "tool", "user"]
    assert repaired[1].content == "seen"


def test_ids_numbered_anew_in_every_turn_are_told_apart():
    """Two turns with `call_0`: each result goes to its own turn's call, and the second call gets a new id."""
    repaired = repair(
        [
            Message("user", "1"),
            asked(("call_0", "look")),
            result("first", id_="call_0"),
            Message("user", "2"),
            asked(("call_0", "look")),
            result("second", id_="call_0"),
        ]
    )
    results = [one for one in repaired if one.role == "tool"]
    assert [one.content for one in results] == ["first", "second"]
    assert results[0].tool_call_id == "call_0"
    assert results[1].tool_call_id == call_id(4, 0, "look")


def test_an_abandoned_call_does_not_take_todays_result():
    """A result without an id goes to the newest turn that waits."""
    repaired = repair(
        [asked(("", "look")), Message("user", "stop; again"), asked(("", "look")), result("today", "look")]
    )
    assert [one.content for one in repaired if one.role == "tool"] == [NO_RESULT, "today"]


def test_orphans_and_second_results_become_user_text():
    """A result nobody asked for, and another result for an answered call, are told as text; a repeat is dropped."""
    orphan = repair([result("lonely", "look")])
    assert orphan == (Message("user", "[Tool result of look]\nlonely"),)
    calls = asked(("a", "look"))
    twice = repair([calls, result("same", id_="a"), result("same", id_="a"), result("other", id_="a")])
    assert [one.role for one in twice] == ["assistant", "tool", "user"]
    assert twice[2].content == "[Tool result]\nother"


def test_a_healthy_conversation_is_left_alone():
    """Messages that need nothing come back equal."""
    healthy = (
        Message("system", "be brief"),
        Message("user", "hi"),
        asked(("toolu_1", "look"), content="let me see"),
        result("seen", "look", "toolu_1"),
        Message("assistant", "it is there"),
    )
    assert repair(healthy) == healthy


def test_results_said_by_the_user_are_results():
    """Roo Code and avante send them so, in the order of the calls; what comes after them is the user's own."""
    calls = (ToolCall("", "look"), ToolCall("", "find"))
    talk = (
        Message("user", "go"),
        Message("assistant", tool_calls=calls),
        Message("user", "seen"),
        Message("user", "found"),
        Message("user", "and now?"),
    )
    repaired = repair(talk)
    assert [(one.role, one.content, one.tool_name) for one in repaired[2:]] == [
        ("tool", "seen", "look"),
        ("tool", "found", "find"),
        ("user", "and now?", ""),
    ]


def test_where_tools_answer_the_user_is_the_user():
    """A client that knows tool messages means what it says."""
    talk = (
        Message("assistant", tool_calls=(ToolCall("a", "look"),)),
        Message("tool", "seen", tool_call_id="a"),
        Message("assistant", tool_calls=(ToolCall("b", "look"),)),
        Message("user", "stop that"),
    )
    assert [(one.role, one.content) for one in repair(talk)[2:]] == [
        ("assistant", ""),
        ("tool", NO_RESULT),
        ("user", "stop that"),
    ]


def test_a_conversation_that_says_nothing_says_so():
    """There is always something that a provider accepts; of no messages nothing is made."""
    silent = (Message("user", " \n"), Message("assistant"))
    assert repair(silent) == (Message("user", NOTHING_SAID),)
    assert repair(()) == ()
