"""A real Ollama behind us, in its own words: what passes unchanged between it and a client that speaks them.

Nothing of it is understood here; so what a later Ollama adds arrives as well.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Native:
    """A request in Ollama's own words, for a real Ollama behind us: with all that nobody here knows.

    It says what is asked as long as the parts of the request that were read from it are the very same objects: who
    changes the conversation replaces them, and so need not know of this (`backends.ollama_request.in_own_words`).

    Args:
        route: Below `/api/`, whose body it is.
        body: As the client sent it; keys that Ollama knows are spelled as it spells them.
        read_as: The request's messages, tools, format, think and infill, as they were read.
        options: Its options, as they were read.
    """

    route: Literal["chat", "generate", "embed", "embeddings"]
    body: Mapping[str, Any]
    read_as: tuple[object, ...] = ()
    options: object = None


@dataclass(frozen=True, slots=True)
class Relayed:
    """What an Ollama answers, as it comes.

    Args:
        status: Its HTTP status.
        content_type: Empty: it said none.
        chunks: The body, to be read inside the context that it came from.
    """

    status: int
    content_type: str
    chunks: AsyncGenerator[bytes, None]


class Relay(Protocol):
    """A provider that is an Ollama itself, asked for all that is no answer of a model."""

    def relay(
        self,
        method: str,
        path: str,
        body: bytes | AsyncIterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> AbstractAsyncContextManager[Relayed]:
        """Ask it; leaving the context closes the connection, unless the answer was read to its end.

        Args:
            method: HTTP's.
            path: From the root, `/api/tags` for example.
            body: Of the request; what comes piece by piece is passed on so.
            headers: Beside its own.

        Raises:
            UpstreamError: It cannot be reached, or its answer breaks off; a status of its own is an answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Resident:
    """What makes a model one of a real Ollama's.

    Args:
        entry: What that one's own list says of it; None: it is not in it, or that one does not answer.
        is_own: Whether the configuration names it; else it is there as long as it is in the list.
        is_listed: Whether lists show it; one that is not answers all the same, or its Ollama says why not.
    """

    entry: Mapping[str, Any] | None = None
    is_own: bool = True
    is_listed: bool = True


def called(asked: str, known: str) -> str:
    """What to call a model when a real Ollama is asked: as the client does, for errors and answers repeat it.

    Args:
        asked: As the client calls it.
        known: As that Ollama's list has it; older ones know it by no other case.
    """
    return asked if f"{asked}:latest" == known else known
