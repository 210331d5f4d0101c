"""Models as they are served, and on which terms: what a command says of price, limits and budget."""

import time
from decimal import Decimal
from typing import Any

from ollama_bridge import prices
from ollama_bridge.allowances import Budget, rates_of
from ollama_bridge.catalog import Model
from ollama_bridge.config import Config
from ollama_bridge.config.file import Loaded
from ollama_bridge.config.offering import shelf_of
from ollama_bridge.lessons import learned_path, remembered
from ollama_bridge.lists import day_of
from ollama_bridge.truth import LIST, OPERATOR


def terms(config: Config, model: Model) -> dict[str, Any]:
    """Who answers in its place, what it costs (USD per million tokens) and who says so, and how much may be had."""
    name, own = model.target.provider, model.config
    provider = config.providers[name]
    price = prices.price_of(
        provider.facts_kind(name), provider.address(name), model.target.model, own.price, model.price
    )
    return {
        "fallbacks": own.fallbacks,
        "price": price.per_million(time.time()),
        "price_from": price.said_by,
        "limits": rates_of(own).model_dump(exclude_none=True),
        "provider_limits": rates_of(provider).model_dump(exclude_none=True),
        "budget": _written(own.budget),
        "max_request_length": own.max_request_length,
    }


def learned(model: Model) -> dict[str, str]:
    """Which parameters its provider refused, what is done about each, and since when."""
    lessons = remembered(learned_path()).get((model.target.provider, model.target.model), ())
    return {each.repair.subject: f"{each.repair.remedy} ({day_of(each.at_s)})" for each in lessons}


def thinks(model: Model) -> dict[str, Any]:
    """How thinking is asked for, and how hard it may be."""
    rules = model.target.rules
    return {"thinking": tuple(sorted(rules.thinking)), "efforts": rules.efforts}


def listed(loaded: Loaded, model: Model) -> dict[str, Any]:
    """What its provider's own list says of it being there; nothing where there is no list."""
    shelf = shelf_of(loaded.config, loaded.lists, model.target.provider)
    if not shelf.asked_s or shelf.absent:
        return {}
    found = shelf.listed(model.target.model)
    if found is None:
        return {"listed": f"not in the provider's list of {shelf.day}"}
    state = "shut down" if found.gone else "yes"
    return {"listed": state, **({"retires": found.retires} if found.retires else {})}


def said_by(loaded: Loaded, index: int, model: Model) -> dict[str, str]:
    """Who says each fact of the model at `index`: `config.yaml:12`, `provider's list, 2026-11-21`, `catalogue` and so on."""
    day = shelf_of(loaded.config, loaded.lists, model.target.provider).day

    def source(key: str, who: str) -> str:
        if who == LIST:
            return f"{LIST}, {day}"
        if who != OPERATOR:
            return who
        written = {one for place in loaded.origins if place[:2] == ("models", index) for one in place[2:]}
        if model.preset.parent and key not in written:
            return f"from {model.preset.parent}"
        return loaded.origin(("models", index, key)).rpartition("/")[2]

    return {key: ", ".join(source(key, who) for who in whose) for key, whose in model.sources.items()}


def unpayable(config: Config) -> list[str]:
    """Names of the enabled models that fall under a budget, and that nobody knows the price of."""
    limited = bool(config.budgets)
    if not (limited or any(model.budget for model in config.models)):
        return []
    return [
        model.name.removesuffix(":latest")
        for model in config.completed()
        if model.config.enabled and (limited or model.config.budget) and not terms(config, model)["price"]
    ]


def _written(budget: Budget | None) -> dict[str, Any]:
    said = budget.model_dump(exclude_unset=True) if budget else {}
    return {key: float(value) if isinstance(value, Decimal) else value for key, value in said.items()}
