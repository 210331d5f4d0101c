"""What the log shows, and what it never shows."""

import json
import logging
import sys

import pytest
import structlog

from ollama_bridge import logs
from ollama_bridge.masking import MASK, mask, masker

KEYS = [
    "sk-ant-api03-AbCdEfGh_1234-5678",
    "sk-proj-AbCdEfGh12345678",
    "sk-AbCdEfGh12345678",
    "AIzaSyAbCdEfGh12345678",
    "AQ.Ab8RN6AbCdEfGh12345678",
    "gsk_AbCdEfGh12345678",
    "xai-AbCdEfGh12345678",
    "hf_AbCdEfGh12345678",
    "eyJhbGciOi.eyJzdWIi.AbCdEfGh",
]


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """The root logger is everybody's."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    levels = {name: logging.getLogger(name).level for name in logs.QUIET}
    yield
    root.handlers = handlers
    root.setLevel(level)
    for name, was in levels.items():
        logging.getLogger(name).setLevel(was)
    structlog.reset_defaults()


@pytest.fixture(params=["lines", "json", "terminal"])
def written(request, capsys, monkeypatch):
    """Sets up the log in one of its looks when it is first called; gives what was written since."""
    begun = []

    def written():
        if not begun:
            # Not before: pytest replaces stderr between a fixture and the test.
            monkeypatch.setattr(sys.stderr, "isatty", lambda: request.param == "terminal")
            logs.configure("info", json=request.param == "json" or None, secrets=["Zaubertrank", "tiny"])
            begun.append(True)
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return written


@pytest.mark.parametrize("key", [*KEYS, "Zaubertrank"])
def test_a_key_never_appears(written, key):
    """Not in the event, a value, a nested value, a key, an exception or another package's message."""
    written()
    log = structlog.get_logger("test")
    log.info(
        f"asked with {key}",  # noqa: G004 - careless code is what the mask is for
        key=key,
        nested={"a": [key, {key: (key,)}]},
        obj=ValueError(key),
        raw=key.encode(),
    )
    try:
        int(f"Incorrect API key provided: {key}.")
    except ValueError:
        log.exception("refused")
        logging.getLogger("openai").exception("refused %s", key)
    logging.getLogger("aiohttp.server").error("Authorization: Bearer %s", key, stack_info=True)
    text = written()
    assert text.count("refused") >= 2
    assert MASK in text or json.dumps(MASK)[1:-1] in text
    assert key[-8:] not in text


def test_other_packages_speak_from_warning_on(written):
    written()
    logs.configure("debug", json=False)
    for name in logs.QUIET:
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble")
    text = written()
    assert "chatter" not in text
    assert text.count("trouble") == len(logs.QUIET)


def test_the_level_follows_the_last_call(written):
    """Also for loggers that were made before: a reload changes it."""
    written()
    log = structlog.get_logger("test")
    log.debug("first")
    logs.configure("debug")
    log.debug("second")
    logs.configure("error")
    log.warning("third")
    text = written()
    assert "second" in text
    assert "first" not in text
    assert "third" not in text


class Unprintable:
    def __str__(self):
        raise RuntimeError("sk-proj-AbCdEfGh12345678")


def test_an_event_that_cannot_be_logged_is_not_shown_raw(written):
    """The standard library would print its arguments as they came."""
    written()
    logging.getLogger("test").warning("%s %s", Unprintable(), "Zaubertrank")
    assert written() == "an event of test could not be logged: <class 'RuntimeError'>\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_an_event_is_one_line_whatever_it_holds(capsys, as_json):
    """What a client sends cannot forge a second one."""
    logs.configure("info", json=as_json)
    log = structlog.get_logger("test")
    log.info("asked\nlevel=error", model='a\n"b" c=d', ok=True, none=None, **{"odd key=": 1})
    (line,) = capsys.readouterr().err.splitlines()
    if as_json:
        event = json.loads(line)
        assert (event["event"], event["model"], event["ok"]) == ("asked\nlevel=error", 'a\n"b" c=d', True)
        assert (event["level"], event["logger"]) == ("info", "test")
    else:
        assert 'level=info event="asked\\nlevel=error"' in line
        assert line.endswith("odd_key_=1 logger=test") or "odd_key_=1" in line


@pytest.mark.parametrize("key", KEYS)
def test_masking_keeps_the_issuer_and_hides_the_rest(key):
    assert mask(f"'{key}'") in {
        f"'{prefix}{MASK}'"
        for prefix in ("sk-ant-", "sk-proj-", "sk-", "AIza", "AQ.", "gsk_", "xai-", "hf_", "eyJ")
    }


@pytest.mark.parametrize(
    "text",
    [
        "the task-management-service",
        "risk-assessment-report",
        "claude-sonnet-4-5-20250929",
        "sk-short",
        "basic idea",
        "ask-me-anything",
    ],
)
def test_masking_leaves_ordinary_words(text):
    assert mask(text) == text


def test_known_secrets_are_masked_but_not_short_ones():
    """A key called `test` would garble every other word."""
    clean = masker(["hunter22", "hunter2222", "test", ""])
    assert clean("hunter2222 hunter22 tested") == f"{MASK} {MASK} tested"
