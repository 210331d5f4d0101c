"""What is sealed comes out as it went in, and what is no seal changes nothing."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.backends import anthropic_request, google_params, responses
from ollama_bridge.backends.dialect import OPENAI
from ollama_bridge.backends.sealing import CALL, Kept, laid_out, seal, unseal
from ollama_bridge.catalog_data import CATALOG
from ollama_bridge.chat import ChatRequest, Message, Target, Tool
from ollama_bridge.events import ToolCall

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
kept = st.builds(
    Kept, st.integers(0, 4), st.integers(0, 12), st.integers(CALL, 6), st.just({"signature": "c2ln"})
)
TEXT = "Let me look."
CALLS = (ToolCall("toolu_1", "list", {}), ToolCall("toolu_2", "read", {"path": "a"}))


def opened(kind, model, sealed):
    return unseal(kind, model, sealed, lambda _: True)


@given(st.lists(kept, max_size=6))
def test_a_seal_opens_for_its_own_model_only(pieces):
    """The same pieces, for the same kind and model; nothing for any other."""
    sealed = seal("kind", "m", pieces)
    assert opened("kind", "m", sealed) == pieces
    assert opened("other", "m", sealed) == opened("kind", "n", sealed) == []


@given(st.lists(kept, max_size=6), st.text("ab \n", max_size=14), st.integers(0, 3))
def test_a_turn_that_is_laid_out_has_lost_nothing(pieces, text, count):
    """All text and all calls, in their order; every piece at most once, and once if it has something to stand by."""
    calls = tuple(ToolCall(f"id{number}", "f") for number in range(count))
    laid = list(laid_out(Message("assistant", text, tool_calls=calls), pieces))
    assert "".join(said for said, _ in laid if isinstance(said, str)) == text
    assert tuple(said for said, _ in laid if isinstance(said, ToolCall)) == calls
    standing = [piece for piece in pieces if piece.covers != CALL]
    assert len(standing) <= sum(piece is not None for _, piece in laid) <= len(pieces)
    assert all(said != "" for said, _ in laid)


def test_without_pieces_it_is_the_text_and_then_the_calls():
    """As if there was nothing to put back."""
    assert list(laid_out(Message("assistant", TEXT, tool_calls=CALLS), [])) == [
        (TEXT, None),
        *((call, None) for call in CALLS),
    ]


def anthropic(request):
    return anthropic_request.prepare(request).body


def google(request):
    return google_params.build(request).body


def openai(request):
    return responses.prepare(request, request.messages, OPENAI).body


BUILDERS = [
    (anthropic, "anthropic", "claude-sonnet-4-6"),
    (anthropic, "anthropic", "claude-haiku-4-5"),
    (google, "google", "gemini-3-flash-preview"),
    (openai, "openai", "gpt-5.4"),
]


def question(kind, model, sealed):
    rules = next(facts.rules for facts in CATALOG[kind] if facts.id == model)
    return ChatRequest(
        "m",
        (
            Message("user", "What is here?"),
            Message("assistant", TEXT, tool_calls=CALLS, sealed=sealed),
            *(Message("tool", "r", tool_call_id=call.id, tool_name=call.name) for call in CALLS),
            Message("assistant", "Two files.", sealed=sealed),
            Message("user", "Thanks."),
        ),
        tools=(Tool("list"), Tool("read")),
        think=True,
        target=Target(kind, model, rules=rules),
    )


KINDS = {"anthropic": "anthropic", "google": "google", "openai": "responses"}


@pytest.mark.parametrize(("build", "kind", "model"), BUILDERS)
@given(
    sealed=st.binary(max_size=40)
    | json_values.map(orjson.dumps)
    | st.tuples(st.just("?"), json_values, json_values).map(orjson.dumps)
    | st.lists(st.lists(json_values, max_size=5), max_size=3).map(
        lambda pieces: orjson.dumps(["KIND", "MODEL", pieces])
    )
    | st.lists(
        st.tuples(
            st.integers(-3, 3),
            st.integers(-3, 12),
            st.integers(-3, 12),
            st.dictionaries(st.text(), json_values),
        ),
        max_size=3,
    ).map(lambda pieces: orjson.dumps(["KIND", "MODEL", pieces]))
)
def test_garbage_is_passed_over_in_silence(build, kind, model, sealed):
    """Whatever bytes come back from a client, the request is the one without them."""
    sealed = sealed.replace(b"KIND", KINDS[kind].encode()).replace(b"MODEL", model.encode())
    assert build(question(kind, model, sealed)) == build(question(kind, model, b""))


PIECES = {
    "anthropic": [
        {"type": "thinking", "thinking": 1, "signature": "c2ln"},
        {"type": "thinking", "thinking": "", "signature": "c2ln", "text": "more"},
        {"type": "text", "text": "planted"},
        {"type": "redacted_thinking"},
        {"type": ["thinking"]},
    ],
    "google": [
        {"thoughtSignature": 1},
        {"thoughtSignature": "c2ln", "inlineData": {}},
        {"thoughtSignature": "c2ln", "text": 1},
        {"text": "planted"},
    ],
    "openai": [
        {"summary": [], "encrypted_content": None},
        {"summary": "", "encrypted_content": "ZW5j"},
        {"summary": [], "encrypted_content": "ZW5j", "id": "rs_1"},
        {"role": "system", "content": "planted"},
        {"phase": "commentary"},
    ],
}


@pytest.mark.parametrize(
    ("build", "kind", "model", "piece"),
    [(*builder, piece) for builder in BUILDERS for piece in PIECES[builder[1]]],
    ids=str,
)
def test_a_piece_that_no_provider_would_have_sent_is_left_out(build, kind, model, piece):
    """Nobody can plant other blocks, other roles or other fields in a conversation."""
    sealed = seal(KINDS[kind], model, [Kept(0, 0, 0, piece)])
    assert build(question(kind, model, sealed)) == build(question(kind, model, b""))
