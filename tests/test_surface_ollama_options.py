"""keep_alive, options and format: the parts of a request that validate themselves."""

import pytest

from offered import ask, chat, generate, refusal


@pytest.mark.parametrize(
    ("sent", "seconds"),
    {
        "5m": 300.0, "1.5h": 5400.0, "300ms": 0.3, "10m0s": 600.0, "0s": 0.0, "0": 0.0, "+1s": 1.0, ".5s": 0.5,
        "1h1m1s": 3661.0, "1µs": 1e-6, "1μs": 1e-6, "-1m": -1.0, "-0s": 0.0, 10: 10.0, 0: 0.0, 0.5: 0.5, -1: -1.0, -0.001: -1.0,
        1e-12: 0.0, None: None,
    }.items(),
)  # fmt: skip
def test_keep_alive_is_seconds(sent, seconds):
    """Numbers are seconds, strings Go durations; everything negative is forever."""
    assert chat(keep_alive=sent).keep_alive_s == seconds


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("abc", 'time: invalid duration "abc"'),
        ("-", 'time: invalid duration "-"'),
        (".s", 'time: invalid duration ".s"'),
        ("1m ", r'time: unknown unit "m " in duration "1m "'),
        ("10", 'time: missing unit in duration "10"'),
        ("1m30", 'time: missing unit in duration "1m30"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ('1é"', r'time: unknown unit "\xc3\xa9\"" in duration "1\xc3\xa9\""'),
        ("9999999h", 'time: invalid duration "9999999h"'),
        ("1" * 5000 + "s", 'time: invalid duration "' + "1" * 5000 + 's"'),
        (True, "Unsupported type: 'bool'"),
        ([], "Unsupported type: '[]interface {}'"),
        ({}, "Unsupported type: 'map[string]interface {}'"),
    ],
)
def test_keep_alive_that_is_no_duration(sent, message):
    """The words of Go's time package."""
    assert refusal(lambda: chat(keep_alive=sent)) == (400, message)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        *((name, "1", "type integer") for name in "num_keep seed num_predict top_k repeat_last_n num_ctx".split()),
        *((name, True, "type integer") for name in "num_batch num_gpu main_gpu num_thread draft_num_predict".split()),
        *((name, [], "type float32") for name in "top_p min_p typical_p temperature".split()),
        *((name, False, "type float32") for name in "repeat_penalty presence_penalty frequency_penalty".split()),
        ("use_mmap", 1, "type boolean"),
        ("stop", "x", "type array"),
        ("stop", ["a", 1], "an array of strings"),
    ],
)  # fmt: skip
def test_an_option_of_the_wrong_type(name, value, wanted):
    """500, in words that differ by type."""
    message = f'option "{name}" must be of {wanted}'
    assert refusal(lambda: ask(chat(options={name: value}))) == (500, message)
    assert refusal(lambda: ask(generate(options={name: value}))) == (500, message)


def test_options_take_their_types():
    """Whole numbers are truncated, nulls left out, unknown ones kept."""
    sent = {
        "seed": 1.9, "top_k": -1.9, "num_ctx": 1e300, "temperature": 1, "stop": ["a"], "use_mmap": True,
        "top_p": None, "zzz": None, "bogus": {"a": 1},
    }  # fmt: skip
    assert ask(chat(options=sent)).options == {
        "seed": 1,
        "top_k": -1,
        "num_ctx": 2**63 - 1,
        "temperature": 1,
        "stop": ["a"],
        "use_mmap": True,
        "bogus": {"a": 1},
    }


@pytest.mark.parametrize(
    ("sent", "wanted"),
    [(None, None), ("", None), ("json", "json"), ({}, {}), ({"type": "object"}, {"type": "object"})],
)
def test_format(sent, wanted):
    """Off, any JSON, or a schema."""
    assert ask(chat(format=sent)).format == wanted
    assert ask(generate(format=sent)).format == wanted


@pytest.mark.parametrize(
    ("sent", "shown"), [("xml", r'"\"xml\""'), (5, '"5"'), ([1, "a"], r'"[1,\"a\"]"'), (True, '"true"')]
)
def test_any_other_format_is_found_when_generation_starts(sent, shown):
    """So a load does not mind it, and neither does a debug rendering."""
    message = f'invalid format: {shown}; expected "json" or a valid JSON Schema object'
    assert refusal(lambda: ask(chat(format=sent))) == (500, message)
    assert ask(chat(format=sent, messages=[])).format is None
    assert ask(chat(format=sent, _debug_render_only=True)).format is None
