"""What a call costs, held to figures worked out by hand and to the price list's own calculation."""

import datetime as dt
import sys
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.allowances import Price
from ollama_bridge.catalog import CATALOG
from ollama_bridge.events import Usage
from ollama_bridge.prices import FREE, is_near, look_up, told

NOW_S = dt.datetime(2026, 11, 21, tzinfo=dt.UTC).timestamp()

UNLISTED = {"claude-mythos-5-1", "claude-mythos-5", "gemini-4-carbon", "gemini-4-hydrogen"}
"""Of our catalogue, what genai-prices does not know."""


def usage(asked, answered, *, read=0, written=0, hour=0, reasoning=0):
    return Usage(asked, answered, read, written, reasoning, hour)


@pytest.mark.parametrize(
    ("kind", "model", "tokens", "cost_nusd", "saved_nusd"),
    [
        # $3 in, $15 out; 0.30 read, 3.75 written, 6 written for an hour
        ("anthropic", "claude-sonnet-4-6", usage(1000, 500), 3_000_000 + 7_500_000, 0),
        (
            "anthropic",
            "claude-sonnet-4-6",
            usage(10_000, 100, read=6000, written=3000, hour=1000),
            1000 * 3000 + 6000 * 300 + 2000 * 3750 + 1000 * 6000 + 100 * 15_000,
            6000 * 2700 - 2000 * 750 - 1000 * 3000,
        ),
        # a prompt of more than 200 000 tokens costs twice, all of it
        ("anthropic", "claude-sonnet-4-5", usage(200_000, 10), 200_000 * 3000 + 10 * 15_000, 0),
        ("anthropic", "claude-sonnet-4-5", usage(200_001, 10), 200_001 * 6000 + 10 * 22_500, 0),
        # 0.05 of the input for what is read
        ("anthropic", "claude-opus-5-5", usage(1000, 0, read=1000), 200_000, 1000 * 3800),
        # a date behind the name
        ("anthropic", "claude-haiku-4-5-20251001", usage(1, 1), 6000, 0),
        # $2.50 in, $10 out, 1.25 read; reasoning is part of the output
        ("openai", "gpt-4o", usage(1000, 100, read=400), 600 * 2500 + 400 * 1250 + 100 * 10_000, 400 * 1250),
        ("openai", "gpt-5", usage(1000, 900, reasoning=800), 1000 * 1250 + 900 * 10_000, 0),
        ("openai", "text-embedding-3-small", usage(1001, 0), 20_020, 0),
        # $1.25 in, $10 out, 0.125 read, up to 200 000 tokens
        ("google", "gemini-2.5-pro", usage(1000, 10, read=8), 992 * 1250 + 8 * 125 + 10 * 10_000, 8 * 1125),
        ("google", "gemini-2.5-pro", usage(300_000, 1), 300_000 * 2500 + 15_000, 0),
        ("google", "gemini-4-hydrogen", usage(1000, 1, read=1), 999 * 1500 + 75 + 7500, 1425),
        ("google", "gemma-4-31b-it", usage(1000, 1000), 0, 0),
    ],
)
def test_costs_are_those_of_the_makers(kind, model, tokens, cost_nusd, saved_nusd):
    """In whole nano-dollars, cached tokens, long prompts and reasoning included."""
    tariff = look_up(kind, None, model)(NOW_S)
    assert (tariff.cost_nusd(tokens), tariff.saved_nusd(tokens)) == (cost_nusd, saved_nusd)


def test_a_price_that_changes_on_a_day_changes_on_that_day():
    """Introductory prices end."""
    quote = look_up("google", None, "gemini-4-carbon")
    december_s = dt.datetime(2026, 12, 1, tzinfo=dt.UTC).timestamp()
    costs = [quote(at_s).cost_nusd(usage(1000, 1000)) for at_s in (december_s - 1, december_s)]
    assert costs == [12_000_000, 24_000_000]


def test_every_model_of_ours_has_a_price():
    """Also those that the list does not know yet; when it does, its own price goes first."""
    from genai_prices.data_snapshot import get_snapshot

    for kind in ("anthropic", "openai", "google"):
        for facts in CATALOG[kind]:
            assert look_up(kind, None, facts.id)(NOW_S) is not None, facts.id
            if facts.id not in UNLISTED:
                get_snapshot().find_provider_model(facts.id, None, kind, None)


MODELS = [
    (kind, facts.id)
    for kind in ("anthropic", "openai", "google")
    for facts in CATALOG[kind]
    if facts.id not in UNLISTED
] + [("perplexity", "sonar-pro"), ("perplexity", "sonar-deep-research"), ("deepseek", "deepseek-chat")]


@given(
    st.sampled_from(MODELS),
    st.lists(st.integers(0, 400_000), min_size=3, max_size=3),
    st.integers(0, 100_000),
    st.floats(0, 1),
    st.integers(0, 10**9),
)
def test_our_arithmetic_is_the_price_lists(model, prompt, answered, part, ahead_s):
    """For any model, tokens and day, up to the rounding."""
    import genai_prices
    from genai_prices.data_snapshot import get_snapshot

    _, read, written = prompt
    hour, reasoning = int(written * part), int(answered * part)
    kind, name = model
    provider, listed = get_snapshot().find_provider_model(name, None, kind, None)
    theirs = listed.calc_price(
        genai_prices.Usage(
            input_tokens=sum(prompt),
            output_tokens=answered,
            cache_read_tokens=read,
            cache_write_tokens=written,
            cache_write_1h_tokens=hour,
            output_reasoning_tokens=reasoning,
        ),
        provider,
        genai_request_timestamp=dt.datetime.fromtimestamp(NOW_S + ahead_s, dt.UTC),
    ).total_price
    url = {"perplexity": "https://api.perplexity.ai", "deepseek": "https://api.deepseek.com/v1"}.get(kind)
    tariff = look_up("compatible" if url else kind, url, name)(NOW_S + ahead_s)
    tokens = usage(sum(prompt), answered, read=read, written=written, hour=hour, reasoning=reasoning)
    assert 0 <= tariff.cost_nusd(tokens) - theirs * 10**9 < 1


@given(st.sampled_from(MODELS[:-3]), st.integers(0, 500_000), st.integers(0, 200_000), st.data())
def test_the_bound_is_never_exceeded(model, most_in, most_out, data):
    """Whatever part of the prompt is cached, and however short it is after all; and it buys what it says."""
    tariff = look_up(model[0], None, model[1])(NOW_S)
    asked = data.draw(st.integers(0, most_in))
    read = data.draw(st.integers(0, asked))
    written = data.draw(st.integers(0, asked - read))
    tokens = usage(asked, data.draw(st.integers(0, most_out)), read=read, written=written, hour=written // 2)
    bound = tariff.most_nusd(most_in, most_out)
    assert tariff.cost_nusd(tokens) <= bound
    assert tariff.most_output(most_in, bound) >= most_out
    if tariff.most_nusd(most_in, 0) < bound:
        enough = tariff.most_output(most_in, bound - 1)
        assert tariff.most_nusd(most_in, enough) <= bound - 1


def test_the_operators_price_goes_first():
    """What it leaves out is as Anthropic has it, and elsewhere as the input."""
    tokens = usage(1_000_000, 1_000_000, read=100_000, written=300_000, hour=100_000)
    bare = Price(input=Decimal(10), output=Decimal(20))
    claude = told("anthropic", bare)(NOW_S)
    assert claude.cost_nusd(tokens) == 10**9 * (6 + 20) + 10**8 * (1 + 2 * 12.5 + 20)
    assert told("compatible", bare)(NOW_S).cost_nusd(tokens) == 30 * 10**9
    whole = Price(input=Decimal(10), output=Decimal(20), cached_read=Decimal(1), cached_write=Decimal(5))
    assert told("openai", whole)(NOW_S).cost_nusd(tokens) == 10**9 * (6 + 20) + 10**8 * (1 + 15)
    assert told("anthropic", whole)(NOW_S).cost_nusd(tokens) == 10**9 * (6 + 20) + 10**8 * (1 + 2 * 5 + 8)
    odd = Price(input=Decimal("0.0000000000015"), output=Decimal(0))
    assert told("openai", odd)(NOW_S).cost_nusd(usage(1, 0)) == 1


@pytest.mark.parametrize(
    ("kind", "base_url", "model", "cost_nusd"),
    [
        ("compatible", "http://127.0.0.1:8000/v1", "qwen3", 0),
        ("compatible", "http://[::1]:8000/v1", "qwen3", 0),
        ("compatible", "http://192.168.1.20/v1", "qwen3", 0),
        ("compatible", "http://vllm:8000/v1", "qwen3", 0),
        ("anthropic", "http://localhost:8000", "my-own", 0),
        (
            "anthropic",
            "http://localhost:8000",
            "claude-haiku-4-5",
            6000,
        ),  # somebody's way to Anthropic itself
        ("compatible", "https://api.groq.com/openai/v1", "openai/gpt-oss-120b", 150 + 600),
        ("compatible", "https://openrouter.ai/api/v1", "openai/gpt-4o", 12_500),
        ("compatible", "https://api.groq.com/openai/v1", "no-such-model", None),
        ("compatible", "https://api.example.com/v1", "gpt-4o", None),
        ("my.module:Class", None, "gpt-4o", None),
        ("openai", None, "gpt-99-unheard-of", None),
    ],
)
def test_who_answers_decides(kind, base_url, model, cost_nusd):
    """A vendor's own price by its address, nothing for what runs nearby, and otherwise nobody knows."""
    tariff = look_up(kind, base_url, model)(NOW_S)
    assert (tariff and tariff.cost_nusd(usage(1, 1))) == (None if cost_nusd is None else cost_nusd)


def test_what_needs_no_list_does_not_load_it(monkeypatch):
    """A quarter of a second, and for the demo and a real Ollama for nothing."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    monkeypatch.setitem(sys.modules, "genai_prices.data_snapshot", None)
    assert told("demo", None)(NOW_S) is told("ollama", None)(NOW_S) is FREE
    assert told("openai", None) is None
    assert told("openai", Price(input=Decimal(1), output=Decimal(1)))(NOW_S).cost_nusd(usage(1, 0)) == 1000


def test_near_is_what_sends_no_bill():
    """Names of the local network, and private addresses."""
    near = "http://127.0.0.1 http://10.1.2.3:1 http://nas.local http://host.docker.internal:1 http://box http://[fe80::1]/"
    far = "https://api.openai.com http://8.8.8.8 http://[2606:4700::1]/ https://local.example.com"
    assert all(map(is_near, near.split()))
    assert not any(map(is_near, far.split()))


def test_a_provider_that_counts_oddly_costs_no_less_than_nothing():
    """Tokens read beside the prompt instead of in it, and more reasoning than output."""
    tariff = look_up("anthropic", None, "claude-sonnet-4-6")(NOW_S)
    assert tariff.cost_nusd(usage(10, 0, read=100)) == 100 * 300
    assert tariff.cost_nusd(usage(0, 5, reasoning=9, hour=7)) == 5 * 15_000
