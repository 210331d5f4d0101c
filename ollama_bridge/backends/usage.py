"""Numbers of tokens in what providers tell of them, of whatever type. Pure."""

import math
from collections.abc import Mapping
from typing import Any, Final

_MOST: Final = 2**53  # what every reader of JSON holds exactly; a vendor may write 1e300


def count(usage: Mapping[str, Any], *path: str) -> int:
    """A number of tokens somewhere in a usage object; 0 for whatever is not one, and never more than JSON can tell."""
    value: Any = usage
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        value = int(value)
    return int(min(value, _MOST)) if isinstance(value, int | float) and 0 < value < math.inf else 0
