"""`small`, `big`, `auto` and `auto:<task>`: which of them exist, and who answers for one."""

from decimal import Decimal

import pytest

from ollama_bridge.catalog import ModelConfig, complete
from ollama_bridge.chat import ChatRequest, Image, Infill, Message, Tool
from ollama_bridge.errors import BridgeError, CircuitOpen, InvalidRequest, ModelNotFound
from ollama_bridge.policies.stand_ins import MOST, StandIns
from ollama_bridge.policies.tasks import TASKS, task_of
from ollama_bridge.registry import ModelRegistry
from scripted import ScriptedBackend

ABLE = ("completion", "tools", "vision", "thinking", "insert")
TALKS = ("completion",)
TOOLS = (Tool("f"),)


def model(name, usd=None, *, able=ABLE, **more):
    price = None if usd is None else {"input": usd, "output": usd}
    config = {"name": name, "backend": "demo", "capabilities": able, "price": price, **more}
    return complete(ModelConfig.model_validate(config), kind="demo")


def price_of(model):
    price = model.config.price
    return None if price is None else price.input + price.output


def registry(*models, **how):
    how.setdefault("price_of", price_of)
    return ModelRegistry({"demo": ScriptedBackend([])}, models, stand_ins=StandIns(**how))


def asks(text="hi", **more):
    return ChatRequest("auto", (Message("user", text),), **more)


def chosen(models, name, request=None, **how):
    found = registry(*models, **how).route(name, request or asks())
    return [one.name.removesuffix(":latest") for one in found]


DEAR, CHEAP, UNPRICED = model("dear", 9), model("cheap", 1), model("unpriced")
SMALL = [model("s2", 2, model_size="SMALL"), model("s1", 1, model_size="SMALL")]
BIG = [model("b9", 9, model_size="BIG"), model("b5", 5, model_size="BIG")]


@pytest.mark.parametrize(
    ("models", "name", "order"),
    [
        ([DEAR, UNPRICED, CHEAP], "auto:title", ["cheap", "dear", "unpriced"]),
        ([DEAR, UNPRICED, CHEAP], "AUTO:Commit_Message", ["cheap", "dear", "unpriced"]),
        ([DEAR, CHEAP], "auto:chat", ["dear", "cheap"]),  # as configured: the cheapest is not the strongest
        ([CHEAP, *SMALL, *BIG], "auto:agent", ["b5", "b9", "cheap", "s2", "s1"]),
        ([*BIG, *SMALL], "small", ["s1", "s2"]),
        ([*BIG, *SMALL], "small:latest", ["s1", "s2"]),
        ([*BIG, *SMALL], "big", ["b5", "b9"]),
        ([model("first", 9, priority=0), CHEAP], "auto:title", ["first", "cheap"]),
        ([model("last", 9, model_size="BIG", priority=2), *BIG], "big", ["b5", "b9", "last"]),
        ([DEAR, model("for-titles", 5, tasks=["title"])], "auto:chat", ["dear"]),
        ([DEAR, model("for-titles", 5, tasks=["title"])], "auto:title", ["for-titles", "dear"]),
        ([model("talks", able=TALKS), DEAR], "auto:agent", ["dear"]),
        ([model("talks", able=TALKS, tasks=["completion"]), DEAR], "auto:completion", ["dear", "talks"]),
        ([model("vectors", able=("embedding",)), DEAR], "auto", ["dear"]),
        ([model("hidden", 0, enabled=False), DEAR], "auto:title", ["dear"]),
        ([model(f"m{number}") for number in range(9)], "auto", [f"m{number}" for number in range(MOST)]),
    ],
)
def test_who_answers_in_which_order(models, name, order):
    """By the operator's priority, by size and price as the task leans, and of equals the first configured."""
    assert chosen(models, name) == order


@pytest.mark.parametrize(
    ("request_", "able"),
    [
        (asks(tools=TOOLS), "tools"),
        (ChatRequest("auto", (Message("user", "x", images=(Image("", "image/png"),)),)), "vision"),
        (asks(think=True), "thinking"),
        (ChatRequest("auto", infill=Infill("a", "b")), "insert"),
    ],
)
def test_who_cannot_is_passed_over(request_, able):
    """A model that lacks what the request has does not answer, however cheap or preferred it is."""
    lacking = tuple(each for each in ABLE if each != able)
    models = [model("lacks", 0, able=lacking, priority=0), model("has", 9)]
    assert chosen(models, "auto", request_) == ["has"]


@pytest.mark.parametrize("limit", [{"context_length": 100}, {"max_request_length": 500}])
def test_what_is_too_long_for_one_goes_to_another(limit):
    """By its tokens, and by the operator's limit of characters."""
    models = [model("short", 0, **limit), model("long", 9)]
    assert chosen(models, "auto:title", asks("x" * 501)) == ["long"]
    assert chosen(models, "auto:title") == ["short", "long"]


def test_prices_may_come_from_elsewhere():
    """What is not in the configuration is known by somebody else."""
    prices = {"dear:latest": Decimal(1), "cheap:latest": Decimal(2)}
    assert chosen([CHEAP, DEAR], "auto:title", price_of=lambda one: prices[one.name]) == ["dear", "cheap"]


def refuses(*names):
    exc = CircuitOpen("not asked", provider="demo", model="x", retry_after_s=7)
    return lambda model: exc if model.name.removesuffix(":latest") in names else None


def test_who_is_not_asked_now_is_passed_over():
    """Availability goes before price, not before priority among those that are left."""
    models = [CHEAP, DEAR, model("last", 0, priority=5)]
    assert chosen(models, "auto:title", blocks=refuses("cheap")) == ["dear", "last"]


def test_nobody_left_names_all_with_their_reasons():
    """503 with the shortest wait if some are only not asked now, else 404; and why each was passed over."""
    models = [CHEAP, model("talks", 0, able=TALKS)]
    with pytest.raises(BridgeError) as now:
        chosen(models, "auto", asks(tools=TOOLS), blocks=refuses("cheap"))
    assert (now.value.status, now.value.retry_after_s) == (503, 7)
    assert "'auto' finds no model that answers now: demo: model 'x': not asked" in str(now.value)
    with pytest.raises(InvalidRequest) as ever:
        chosen([model("a", able=TALKS), model("b", context_length=1)], "auto", asks("long", think=True))
    assert ever.value.status == 404
    assert "'auto' finds no model for this: " in str(ever.value)
    assert "a:latest lacks thinking" in str(ever.value)
    assert "b:latest reads 1 tokens, and these are about " in str(ever.value)


def names(found):
    return {one.name for one in found.models()}


def test_which_exist():
    """`small` and `big` if a model has that size, `auto` unless it is switched off; in lists only if asked for."""
    every = {"auto:latest", *(f"auto:{task}" for task in TASKS)}
    assert names(registry(DEAR)) == {"dear:latest"}
    assert names(registry(DEAR, listed=True)) == {"dear:latest", *every}
    assert names(registry(SMALL[0], listed=True)) == {"s2:latest", "small:latest", *every}
    assert names(registry(BIG[0], auto=False, listed=True)) == {"b9:latest", "big:latest"}
    talks = names(registry(model("talks", able=TALKS), listed=True))
    assert talks == {"talks:latest", *every} - {"auto:agent", "auto:completion"}
    for name in ("small", "big", "auto:agent:x", "auto:poem"):
        with pytest.raises(ModelNotFound):
            registry(DEAR).resolve(name)
    with pytest.raises(ModelNotFound):
        registry(DEAR, auto=False).resolve("auto")


def test_a_configured_name_wins():
    """Also an alias, and the name of a model that is hidden."""
    assert registry(model("auto"), DEAR).resolve("auto").target.model == "auto"
    assert chosen([model("auto"), CHEAP], "auto") == ["auto"]
    assert registry(model("m", aliases=["auto:chat"])).resolve("auto:chat").name == "m:latest"
    with pytest.raises(ModelNotFound):
        registry(model("big", enabled=False), BIG[0]).resolve("big")


def test_what_clients_are_told_of_it():
    """It can do what one of them can, and reads and writes what all of them can; it embeds nothing."""
    models = [
        model("a", able=("completion", "tools"), context_length=1000, max_tokens=500),
        model("b", able=("completion", "vision", "embedding"), context_length=2000, max_tokens=100),
    ]
    found = registry(*models)
    auto = found.resolve("auto")
    assert (auto.name, auto.display_name, auto.context_length) == ("auto:latest", "Auto", 1000)
    assert auto.max_output_tokens == auto.target.max_output_tokens == 100
    assert auto.capabilities == ("completion", "tools", "vision")
    assert auto.target.name == "auto:latest"
    assert len(auto.digest) == 64
    assert auto.digest != found.resolve("auto:chat").digest


def system(text):
    return ChatRequest("auto", (Message("system", text), Message("user", "diff --git a b")))


TOLD = [
    (asks(), "chat"),
    (asks(tools=TOOLS), "agent"),
    (ChatRequest("auto", infill=Infill("a", "b")), "completion"),
    (ChatRequest("auto", (Message("system", "You are a coding assistant."), Message("user", "x"))), "chat"),
    (asks("write a function that sets the title of a window"), "chat"),
    (asks("why does git commit hang?"), "chat"),
    # the beginnings of what clients send, from their sources
    (system("You are a title generator. You output ONLY a thread title. Nothing else."), "title"),  # opencode
    (
        system("You are an expert in crafting pithy titles for chatbot conversations. You are"),
        "title",
    ),  # Copilot
    (system("You are an expert in crafting ultra-compact titles for chatbot"), "title"),  # Copilot
    (system("You are an expert in crafting pithy branch names based on"), "title"),  # Copilot
    (
        system("Analyze if this message indicates a new conversation topic. If it does"),
        "title",
    ),  # Claude Code
    (system("Generate a concise, sentence-case title (3-7 words) that captures"), "title"),  # Claude Code
    (
        asks("Generate a concise 3-7 word title for this conversation, omitting punctuation. Go"),
        "title",
    ),  # Zed
    (asks("Given the following... please reply with a title for the chat that is 3-4 words"), "title"),
    (
        asks("Based on the conversation so far, provide a concise description of this session in 4 words"),
        "title",
    ),
    (asks("### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat"), "title"),
    (asks("### Task:\nGenerate 1-3 broad tags categorizing the main themes"), "title"),
    (asks("### Task:\nSuggest 3-5 relevant follow-up questions or prompts"), "title"),
    (asks("### Task:\nYou are an autocompletion system. Continue the text in `<text>`"), "completion"),
    (
        system(
            "You are an AI programming assistant, helping a software developer to come with the best git commit message for their code changes."
        ),
        "commit_message",
    ),
    (
        system(
            "You are a helpful assistant that generates informative git commit messages based on git diffs"
        ),
        "commit_message",
    ),
    (
        system(
            "You are an expert software engineer that generates concise, one-line Git commit messages based"
        ),
        "commit_message",
    ),
    (
        asks("You are an expert at writing Git commits. Your job is to write a short clear commit message"),
        "commit_message",
    ),
    (system("# Conventional Commit Message Generator\n## System Instructions"), "commit_message"),
]


@pytest.mark.parametrize(("request_", "task"), TOLD)
def test_what_a_request_is_for(request_, task):
    """By its shape, and by how editors' own prompts begin."""
    assert task_of(request_) == task


def test_agents_stay_agents_whatever_they_talk_about():
    """Tools weigh more than words, and what stands far behind the beginning weighs nothing."""
    assert task_of(asks("Generate a concise 3-7 word title", tools=TOOLS)) == "agent"
    assert task_of(asks("x" * 500 + "You are a title generator")) == "chat"


def test_plain_auto_chooses_by_what_it_sees():
    """A title by the cheapest, a chat by the first; and somebody answers though no model is for chats."""
    title = asks("Generate a concise 3-7 word title for this conversation")
    assert chosen([DEAR, CHEAP], "auto", title) == ["cheap", "dear"]
    assert chosen([DEAR, CHEAP], "auto") == ["dear", "cheap"]
    assert chosen([model("for-titles", tasks=["title"])], "auto") == ["for-titles"]
