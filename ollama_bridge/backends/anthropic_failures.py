"""What goes wrong with Claude, where its error says more than everybody's."""

from collections.abc import Mapping, Sequence
from typing import Any

from ollama_bridge.backends.failures import Failures
from ollama_bridge.errors import UpstreamError


class AnthropicFailures(Failures):
    """`Failures` that looks into an error's `details`: a limit of spending comes as a 429 that no waiting helps."""

    def told(
        self,
        body: Any,
        model: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        codes: Sequence[str] = (),
    ) -> UpstreamError:
        """As `Failures.told`."""
        error = body.get("error") if isinstance(body, dict) else None
        details = error.get("details") if isinstance(error, dict) else None
        code = details.get("error_code") if isinstance(details, dict) else None
        if isinstance(code, str):
            codes = (*codes, code)
        return super().told(body, model, status=status, headers=headers, codes=codes)
