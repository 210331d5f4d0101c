"""What readers that forgive nothing have in common: no coercion, and null is not absence."""

import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """No coercion; keys that are not named may come."""

    model_config = ConfigDict(strict=True, frozen=True)


class Closed(Strict):
    """And no key that is not named."""

    model_config = ConfigDict(extra="forbid")


def _zoned(text: str) -> str:
    moment = datetime.fromisoformat(text)
    assert moment.tzinfo is not None, "OffsetDateTime, Instant and Go's time.Time demand a zone"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", text)
    return text


Moment = Annotated[str, AfterValidator(_zoned)]
Count = Annotated[int, Field(ge=0)]
