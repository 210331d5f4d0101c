"""Models as they are served, and on which terms: what a command says of price, limits and budget."""

import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ollama_bridge import prices
from ollama_bridge.allowances import Budget, rates_of
from ollama_bridge.catalog import Model
from ollama_bridge.config import Config
from ollama_bridge.lessons import learned_path, remembered


def terms(config: Config, model: Model) -> dict[str, Any]:
    """Who answers in its place, what it costs (USD per million tokens) and who says so, and how much may be had."""
    name, own = model.target.provider, model.config
    provider = config.providers[name]
    price = prices.price_of(provider.facts_kind(name), provider.address(name), model.target.model, own.price)
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
    return {
        each.repair.subject: f"{each.repair.remedy} ({datetime.fromtimestamp(each.at_s, UTC):%Y-%m-%d})"
        for each in lessons
    }


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
