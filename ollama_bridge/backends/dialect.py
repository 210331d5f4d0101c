"""How compatible vendors differ from OpenAI on the wire they share: flags, and named functions for what needs more.

A vendor's row in `vendors` holds one `Dialect`; the backend reads it and knows no vendor by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Dialect:
    """What of a request is written in another way than OpenAI's documentation has it; nothing by default.

    Args:
        stream_options: Whether it may be asked for the usage of a stream; others tell it without, or refuse the word.
        rewrite: Puts a body of Chat Completions that is ready in its own way; gets also the list of what is dropped.
    """

    stream_options: bool = True
    rewrite: Callable[[dict[str, Any], list[str]], None] | None = None


PLAIN: Final = Dialect()
"""Of whoever nothing is known about."""
