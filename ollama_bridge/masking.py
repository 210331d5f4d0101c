"""Hide what looks like an API key, wherever text of unknown origin is shown.

A net under the rule that keys are never put into messages: providers quote the key they refuse, and an
operator pastes one where a name belongs.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

MASK: Final = "•••"

# Issuers' own prefixes, then the words that announce a credential. Each prefix is kept, so that a reader still
# sees whose key it was. The left border keeps `task-…` and `risk-…` readable.
_ISSUED: Final = (
    r"(?<![A-Za-z0-9])"
    r"(sk-ant-|sk-or-|sk-proj-|sk-|AIza|ya29\.|AQ\.|gsk_|xai-|hf_|ghp_|github_pat_|nvapi-|pplx-|AKIA|eyJ)"
    r"[A-Za-z0-9_.\-+/=*]{8,}"
)
_ANNOUNCED: Final = (
    r"(?i:(bearer\s+|authorization:\s*basic\s+|api[-_]?key[\"']?\s*[=:]\s*[\"']?))[^\s\"',;&}]{6,}"
)
_LOOKS_LIKE_A_KEY: Final = re.compile(f"{_ISSUED}|{_ANNOUNCED}")


def mask(text: str) -> str:
    """`text` with everything that looks like a key replaced; the issuer's prefix stays."""
    return _LOOKS_LIKE_A_KEY.sub(lambda found: (found[1] or found[2]) + MASK, text)


def masker(secrets: Iterable[str]) -> Callable[[str], str]:
    """A `mask` that also hides these very values, whatever they look like.

    Args:
        secrets: Known keys. Those of fewer than 6 characters are left out: hiding `test` would garble all else.
    """
    known = sorted({secret for secret in secrets if len(secret) >= 6}, key=len, reverse=True)
    if not known:
        return mask
    literal = re.compile("|".join(map(re.escape, known)))
    return lambda text: mask(literal.sub(MASK, text))
