"""What an operator allows: prices, budgets and rates, as the configuration has them."""

from decimal import Decimal
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Task: TypeAlias = Literal[
    "text_generation",
    "summarization",
    "sentiment_analysis",
    "question_answering",
    "commit_message",
    "title",
    "completion",
    "chat",
    "agent",
]
"""What a call is for: `auto:<task>` is a model that is chosen by it."""

ModelSize: TypeAlias = Literal["SMALL", "BIG"]

USD: TypeAlias = Annotated[Decimal, Field(gt=0, le=9_000_000, allow_inf_nan=False, max_digits=18)]
"""Of a budget. Its nano-dollars are numbers that a Lua script in Redis counts exactly, which end at 2⁵³."""


PricePerMillion: TypeAlias = Annotated[Decimal, Field(ge=0, allow_inf_nan=False, max_digits=18)]
Rate: TypeAlias = Annotated[int, Field(gt=0, le=2**53)]

NUSD_PER_USD: Final = 10**9
"""Nano-dollars; see `record`."""


class Price(BaseModel):
    """What a model costs, in USD per million tokens.

    Args:
        input: Of the prompt.
        output: Of the answer, reasoning included.
        cached_read: Of what is read from the provider's prompt cache; default: at Anthropic a tenth of `input`, which
            holds for nearly all of its models, and elsewhere `input`, so that nothing costs more than it says.
        cached_write: Of what is written to it; default: at Anthropic 1.25 of `input`, and elsewhere `input`. What
            Anthropic keeps for an hour costs 1.6 times as much.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: PricePerMillion
    output: PricePerMillion
    cached_read: PricePerMillion | None = None
    cached_write: PricePerMillion | None = None


class Budget(BaseModel):
    """Most money in a calendar window, in USD; windows begin and end in UTC.

    Args:
        hourly: Until the next full hour.
        daily: Until midnight.
        monthly: Until the first of the next month.
        warn_at: Part of it at which the log warns.
        instead: A cheaper model that answers when there is not enough left; empty: 429.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hourly: USD | None = None
    daily: USD | None = None
    monthly: USD | None = None
    warn_at: Annotated[float, Field(gt=0, le=1)] = 0.8
    instead: str = ""


class Rates(BaseModel):
    """How often somebody may ask. A request counts its question and its answer.

    Args:
        requests_per_minute: In any minute.
        requests_per_hour: In any hour.
        requests_per_day: In any day.
        tokens_per_minute: In any minute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: Rate | None = None
    requests_per_hour: Rate | None = None
    requests_per_day: Rate | None = None
    tokens_per_minute: Rate | None = None


def rates_of(entry: BaseModel) -> Rates:
    """Those that an entry of `models` or `providers` has among its other keys."""
    return Rates(**{name: getattr(entry, name) for name in Rates.model_fields})
