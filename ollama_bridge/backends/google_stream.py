"""What Gemini says: `GenerateContentResponse` objects in, our events out. Sans I/O.

Every frame of `:streamGenerateContent` is a whole response object with the next parts of the answer
(https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse); what is not known is ignored.
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from ollama_bridge.backends.oddities import Oddities
from ollama_bridge.backends.sealing import CALL, Kept, seal
from ollama_bridge.errors import UpstreamBroken, UpstreamError
from ollama_bridge.events import (
    Event,
    Finish,
    FinishReason,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCall,
    Usage,
)

Json: TypeAlias = Mapping[str, Any]
ErrorOf: TypeAlias = Callable[[Json], UpstreamError]

SIGNED: Final = "google"
"""The kind of what this backend seals: what stood in a part beside its text or call, the signature above all."""

FINISH_REASONS: Final[Mapping[str, FinishReason | Literal["broken"]]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    "SAFETY": "refusal",
    "RECITATION": "refusal",
    "LANGUAGE": "refusal",
    "OTHER": "refusal",
    "BLOCKLIST": "refusal",
    "PROHIBITED_CONTENT": "refusal",
    "SPII": "refusal",
    "IMAGE_SAFETY": "refusal",
    "IMAGE_PROHIBITED_CONTENT": "refusal",
    "IMAGE_OTHER": "refusal",
    "IMAGE_RECITATION": "refusal",
    "NO_IMAGE": "refusal",
    "ESCALATION": "refusal",
    "PUP_LIMITED_DISABLED": "refusal",
    "MODEL_ARMOR": "refusal",
    "FINISH_REASON_UNSPECIFIED": "broken",
    "MALFORMED_FUNCTION_CALL": "broken",
    "UNEXPECTED_TOOL_CALL": "broken",
    "TOO_MANY_TOOL_CALLS": "broken",
    "MISSING_THOUGHT_SIGNATURE": "broken",
    "MALFORMED_RESPONSE": "broken",
}
"""`finishReason` to ours. A reason that is not here counts as a refusal: it did not end by itself."""

_NUMBERED: Final[Mapping[Any, str]] = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER"}
"""Reasons as numbers, which proxies send that make JSON of protocol buffers by themselves."""

_EXPLANATIONS: Final[Mapping[str, str]] = {
    "SAFETY": "its safety filter stopped it",
    "RECITATION": "the answer would have recited a protected source",
    "LANGUAGE": "it does not support the language",
    "BLOCKLIST": "the text contains a blocked term",
    "PROHIBITED_CONTENT": "the content may be prohibited",
    "SPII": "the text may contain sensitive personal information",
    "PUP_LIMITED_DISABLED": "Google has limited the account behind the API key",
    "JAILBREAK": "the prompt looks like an attempt to break its rules",
}


class GenerateReader:
    """Reads one reply.

    Args:
        provider: For errors.
        model: For errors.
        error_of: Makes the right error of an `error` object in the stream.
        names: Names of tools on the wire to those the client knows, where they differ.
        logprobs: Whether log probabilities are wanted.
    """

    def __init__(
        self,
        *,
        provider: str,
        model: str,
        error_of: ErrorOf,
        names: Mapping[str, str] | None = None,
        logprobs: bool = False,
    ) -> None:
        self._provider = provider
        self._model = model
        self._error_of = error_of
        self._names = names or {}
        self._logprobs = logprobs
        self.moved = False
        """Whether the last frame was more than a sign of life."""
        self._odd = Oddities(provider, model)
        self._usage: Json = {}
        self._finish = ""
        self._blocked = ""
        self._chars = 0
        self._calls = 0
        self._partial: PartialCall | None = None
        self._signed: list[Kept] = []

    def feed(self, frame: Any) -> list[Event]:
        """The events of one frame.

        Raises:
            UpstreamError: The frame is an error, or makes no sense.
        """
        try:
            return self._read(frame)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exc:
            raise self._broken("it sent a reply of an unknown shape: ask again") from exc

    def close(self) -> list[Event]:
        """The events that the end of the stream brings: the `Finish`, if the model said that it has finished.

        Raises:
            UpstreamBroken: The model ended in the middle of a tool call, or by a failure of its own.
        """
        if self._blocked:
            return [*self._explained(self._blocked), Finish("refusal", self._counted(), self._blocked)]
        if not self._finish:
            return []
        reason = FINISH_REASONS.get(self._finish, "refusal")
        if reason == "broken":
            raise self._broken(f"it gave up ({self._finish}); asking again may help")
        if self._partial and reason != "length":
            raise self._broken("it ended inside a tool call: ask again")
        if reason == "stop" and self._calls:
            reason = "tool_calls"
        explanation = self._explained(self._finish) if reason == "refusal" else []
        sealed = seal(SIGNED, self._model, self._signed)
        return [*explanation, Finish(reason, self._counted(), self._finish, sealed)]

    def usage(self) -> Usage | None:
        """What the provider has told so far of the tokens: it does with every frame."""
        return self._counted() if self._usage else None

    def _read(self, frame: Any) -> list[Event]:
        events: list[Event] = []
        if "error" in frame:
            raise self._error_of(frame)
        self.moved = bool(frame.get("candidates"))
        if usage := self._odd.usage(frame.get("usageMetadata")):
            self._usage = usage
        if (feedback := frame.get("promptFeedback")) and (blocked := feedback.get("blockReason")):
            self._blocked = str(blocked)
        for candidate in (frame.get("candidates") or ())[:1]:
            for part in (candidate.get("content") or {}).get("parts") or ():
                if signature := part.get("thoughtSignature"):
                    self._sign(part, signature)
                if text := part.get("text"):
                    if type(text) is not str:
                        raise TypeError("text")
                    if part.get("thought"):
                        events.append(ThinkingDelta(text))
                    else:
                        self._chars += len(text)
                        events.append(TextDelta(text))
                elif (call := part.get("functionCall")) is not None:
                    events += self._called(call, frame)
            if self._logprobs and (logprobs := candidate.get("logprobsResult")):
                _attach(_logprobs(logprobs), events)
            if finish := candidate.get("finishReason"):
                self._finish = _NUMBERED.get(finish, str(finish))
        return events

    def _sign(self, part: Json, signature: str) -> None:
        """Keep a signature. Not all parts have one: with parallel calls the first, with text often an empty last."""
        piece = {"thoughtSignature": signature}
        text = part.get("text") or ""
        if "functionCall" in part:
            self._signed.append(Kept(self._calls, self._chars, CALL, piece))
        elif part.get("thought"):
            self._signed.append(Kept(self._calls, self._chars, 0, {"text": text, "thought": True, **piece}))
        elif "text" in part:
            self._signed.append(Kept(self._calls, self._chars, len(text), piece))

    def _called(self, call: Json, frame: Json) -> list[Event]:
        """Calls come whole, except when the provider streams arguments: then in parts, until one without more."""
        if name := call.get("name"):
            self._partial = PartialCall(str(name), str(call.get("id") or ""))
        if self._partial is None:
            raise KeyError("name")
        self._partial.add(call)
        if call.get("willContinue"):
            return []
        whole, self._partial = self._partial, None
        self._calls += 1
        call_id = whole.call_id or made_up_id(str(frame.get("responseId", "")), self._calls, whole.name)
        return [ToolCall(call_id, self._names.get(whole.name, whole.name), whole.arguments)]

    def _explained(self, word: str) -> list[Event]:
        if self._chars or self._calls:
            return []
        why = _EXPLANATIONS.get(word, "it gave no further explanation")
        return [TextDelta(f"[{self._model} declined to answer: {why} ({word}).]")]

    def _counted(self) -> Usage:
        usage = self._usage
        thoughts = _count(usage.get("thoughtsTokenCount"))
        return Usage(
            input_tokens=_count(usage.get("promptTokenCount")) + _count(usage.get("toolUsePromptTokenCount")),
            output_tokens=_count(usage.get("candidatesTokenCount")) + thoughts,
            cached_read_tokens=_count(usage.get("cachedContentTokenCount")),
            reasoning_tokens=thoughts,
        )

    def _broken(self, message: str) -> UpstreamBroken:
        return UpstreamBroken(message, provider=self._provider, model=self._model)


class PartialCall:
    """A tool call whose arguments arrive in pieces, each with the JSON path where it belongs."""

    __slots__ = ("arguments", "call_id", "name")

    def __init__(self, name: str, call_id: str) -> None:
        self.name = name
        self.call_id = call_id
        self.arguments: dict[str, Any] = {}

    def add(self, call: Json) -> None:
        """Take in what one `functionCall` part adds."""
        if args := call.get("args"):
            self.arguments |= args
        for piece in call.get("partialArgs") or ():
            self._put(_path(piece["jsonPath"]), piece)

    def _put(self, path: list[str | int], piece: Json) -> None:
        here: Any = self.arguments
        for step, following in itertools.pairwise(path):
            inner: Any = [] if isinstance(following, int) else {}
            if isinstance(here, list):
                if step == len(here):
                    here.append(inner)
                here = here[int(step)]
            else:
                here = here.setdefault(step, inner)
        last = path[-1]
        if isinstance(here, list) and last == len(here):
            here.append(None)
        if "stringValue" in piece:
            before = here.get(last) if isinstance(here, dict) else here[int(last)]
            here[last] = (before or "") + piece["stringValue"]
        else:
            here[last] = piece.get("numberValue", piece.get("boolValue"))


_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\['([^']*)'\]")


def _path(path: str) -> list[str | int]:
    """`$.a[0].b` in its steps."""
    return [int(index) if index else name or quoted for name, index, quoted in _STEP.findall(path)]


def made_up_id(response_id: str, number: int, name: str) -> str:
    """An id for a call that came without: unlike those of other replies, the same for the same reply."""
    seed = f"{response_id}:{number}:{name}"
    return f"call_{hashlib.blake2s(seed.encode(), digest_size=6).hexdigest()}"


def _logprobs(result: Json) -> tuple[TokenLogprob, ...]:
    chosen, top = result.get("chosenCandidates") or (), result.get("topCandidates") or ()
    alternatives = [tuple(map(_logprob, each.get("candidates") or ())) for each in top]
    alternatives += [()] * (len(chosen) - len(alternatives))
    return tuple(
        TokenLogprob(token["token"], token["logProbability"], others)
        for token, others in zip(chosen, alternatives, strict=False)
    )


def _logprob(candidate: Json) -> TokenLogprob:
    return TokenLogprob(candidate["token"], candidate["logProbability"])


def _attach(logprobs: tuple[TokenLogprob, ...], events: list[Event]) -> None:
    # They describe all tokens of the frame, whose text is in practice one part.
    for event in events:
        if isinstance(event, TextDelta):
            event.logprobs = logprobs
            return


def _count(value: Any) -> int:
    return value if type(value) is int else 0
