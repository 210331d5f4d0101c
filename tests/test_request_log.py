"""What an operator reads about a request."""

from structlog.testing import capture_logs

from ollama_bridge.config import Config
from running import ask, running

MODELS = {
    "server": {"port": 0},
    "providers": {"demo": {}, "anthropic": {}},
    "models": [{"name": "demo", "backend": "demo"}, {"name": "claude", "backend": "anthropic"}],
}
SECRET = {"messages": [{"role": "user", "content": "my secret"}], "stream": False}


async def lines(method, path, body=None):
    async with running(Config.model_validate(MODELS)) as daemon:
        with capture_logs() as logged:
            await ask(daemon.url, method, path, body)
    return [line for line in logged if line["event"] in {"request", "no answer"}]


async def test_a_request_is_one_line_that_names_the_model_if_there_is_one():
    """Nothing is said to be None."""
    (version,) = await lines("GET", "/api/version")
    (chat,) = await lines("POST", "/api/chat", {"model": "demo", **SECRET})
    assert "model" not in version
    assert (version["method"], version["path"], version["status"]) == ("GET", "/api/version", 200)
    assert (chat["model"], chat["status"]) == ("demo", 200)
    assert "secret" not in repr([version, chat])


async def test_a_provider_that_failed_is_told_with_its_reason():
    """The operator reads what the client read; a client's own mistake is the client's."""
    no_key, request = await lines("POST", "/api/chat", {"model": "claude", **SECRET})
    assert "ANTHROPIC_API_KEY" in no_key["error"]
    assert no_key["log_level"] == "warning"
    assert request["status"] == 502
    assert [line["status"] for line in await lines("POST", "/api/chat", {"model": "nope", **SECRET})] == [404]
    assert "secret" not in repr([no_key, request])


async def test_who_is_refused_at_a_limit_is_told_with_the_reason():
    """Who it was, if it has a name, and which limit; a call over the limit tells nothing of what was asked."""
    limited = {
        **MODELS,
        "limits": {"key": {"requests_per_day": 1}},
        "clients": {"laptop": "key-of-the-laptop"},
    }
    key = {"Authorization": "Bearer key-of-the-laptop"}
    async with running(Config.model_validate(limited)) as daemon:
        with capture_logs() as logged:
            for _ in range(2):
                await ask(daemon.url, "POST", "/api/chat", {"model": "demo", **SECRET}, headers=key)
    answered, refused, request = [line for line in logged if line["event"] in {"request", "refused"}]
    assert "this client key is limited to 1 request a day" in refused["reason"]
    assert [(line["status"], line["client"]) for line in (answered, request)] == [
        (200, "laptop"),
        (429, "laptop"),
    ]
    assert "secret" not in repr(logged)
    assert "key-of-the-laptop" not in repr(logged)


async def test_probes_are_not_told_of_while_all_is_well():
    """Prometheus asks every few seconds: at the usual level only what went wrong is a line."""
    locked = {**MODELS, "server": {"port": 0, "api_keys": ["a-key-of-the-bridge"]}}
    async with running(Config.model_validate(locked)) as daemon:
        with capture_logs() as logged:
            for path in ("/health", "/v1/health", "/metrics"):
                await ask(daemon.url, "GET", path)
    levels = [
        (line["path"], line["status"], line["log_level"]) for line in logged if line["event"] == "request"
    ]
    assert levels == [("/health", 200, "debug"), ("/v1/health", 200, "debug"), ("/metrics", 401, "info")]


async def test_without_a_key_the_start_says_what_to_set():
    """A newcomer who sees only `demo` is told why."""
    with capture_logs() as logged:
        async with running(Config.model_validate({"server": {"port": 0}, "providers": {"demo": {}}})):
            pass
        async with running(Config.model_validate(MODELS)):
            pass
    (hint,) = [line for line in logged if line["event"].startswith("only the demo")]
    assert hint["names"] == "ANTHROPIC_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY"
