"""Stop words for APIs that know none, or too few: the text is cut here, and the provider's stream closed."""

from collections import deque
from collections.abc import Iterable, Sequence

from ollama_bridge.events import Event, Finish, TextDelta, TokenLogprob, Usage


class StopWords:
    """Passes a reply's events on and ends it at the first stop word, which is not part of the answer.

    Only what may still become a stop word is held back. Of several words the one that is complete first
    ends the reply, as if the model had been stopped there; so the borders of the deltas change nothing.

    Args:
        words: Not empty, and no empty word among them.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.hit = False
        """Whether the reply has ended: `Finish` is out, and nothing more may be fed."""
        self._words = words
        self._starts = tuple({word[:size] for word in words for size in range(1, len(word))})
        self._held = ""
        self._tokens: deque[TokenLogprob] = deque()
        self._unclaimed = 0  # characters passed on whose token is not complete yet
        self._deltas = 0

    def feed(self, events: Iterable[Event]) -> list[Event]:
        """What of these events, and of what was held back, the client may see now."""
        out: list[Event] = []
        for event in events:
            if isinstance(event, TextDelta):
                self._text(event, out)
                if self.hit:
                    return out
            else:
                out += self.close()
                out.append(event)
        return out

    def close(self) -> list[Event]:
        """What was held back, when no text follows that could complete a stop word."""
        out: list[Event] = []
        self._say(self._held, out)
        self._held = ""
        return out

    def _text(self, delta: TextDelta, out: list[Event]) -> None:
        self._deltas += 1
        self._tokens.extend(delta.logprobs)
        text = self._held + delta.text
        found = [(at + len(word), at) for word in self._words if (at := text.find(word)) >= 0]
        if found:
            self.hit = True
            _, cut = min(found)
            self._say(text[:cut], out)
            # The usage comes with the end of the stream, which is not waited for: it would be paid for.
            # OpenAI streams a token an event, so the events count what was written, nearly.
            out.append(Finish("stop", Usage(output_tokens=self._deltas), detail="stop word"))
            return
        kept = self._hold(text)
        self._held = text[len(text) - kept :]
        self._say(text[: len(text) - kept], out)

    def _hold(self, text: str) -> int:
        """How many characters at the end of `text` may be the beginning of a stop word."""
        if not text.endswith(self._starts):
            return 0
        return max(len(start) for start in self._starts if text.endswith(start))

    def _say(self, text: str, out: list[Event]) -> None:
        if not text:
            return
        self._unclaimed += len(text)
        tokens = []
        while self._tokens and len(self._tokens[0].token) <= self._unclaimed:
            token = self._tokens.popleft()
            self._unclaimed -= len(token.token)
            tokens.append(token)
        out.append(TextDelta(text, tuple(tokens)))
