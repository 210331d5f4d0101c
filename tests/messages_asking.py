"""Shared by the tests of Anthropic's surface: its official client, pointed at the daemon."""

import json
from contextlib import asynccontextmanager

import anthropic


@asynccontextmanager
async def client_of(daemon):
    """As Claude Code and all of Anthropic's SDKs are told where to go; it validates whatever it reads."""
    async with anthropic.AsyncAnthropic(
        base_url=daemon.url, auth_token="ollama", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def sent(upstream):
    """All that a provider was asked last, as one text."""
    return json.dumps(upstream.requests[-1].json, ensure_ascii=False)
