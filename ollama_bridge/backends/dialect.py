"""How compatible vendors differ from OpenAI on the wire they share: flags, and named functions for what needs more.

A vendor's row in `vendors` holds one `Dialect`; the backend reads it and knows no vendor by name.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Dialect:
    """What of a request is written in another way than OpenAI's documentation has it; nothing by default.

    Args:
        stream_options: Whether it may be asked for the usage of a stream; others tell it without, or refuse the word.
    """

    stream_options: bool = True


PLAIN: Final = Dialect()
"""Of whoever nothing is known about."""
