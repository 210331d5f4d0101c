"""What Gemini says: `GenerateContentResponse` objects in, our events out. Sans I/O.

Every frame of `:streamGenerateContent` is a whole response object with the next parts of the answer
(https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse); what is not known is ignored.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from ollama_bridge.backends.failures import Failures, clean
from ollama_bridge.backends.google_calls import PartialCall, made_up_id
from ollama_bridge.backends.google_words import EXPLANATIONS, FINISH_REASONS, NOT_SAID, PARTS, UNSPECIFIED
from ollama_bridge.backends.sealing import CALL, Kept, seal
from ollama_bridge.backends.usage import count
from ollama_bridge.errors import UpstreamBroken
from ollama_bridge.events import (
    Event,
    Finish,
    TextDelta,
    ThinkingDelta,
    TokenLogprob,
    ToolCall,
    Usage,
)

Json: TypeAlias = Mapping[str, Any]

SIGNED: Final = "google"
"""The kind of what this backend seals: what stood in a part beside its text or call, the signature above all."""


_NUMBERED: Final[Mapping[Any, str]] = {1: "STOP", 2: "MAX_TOKENS", 3: "SAFETY", 4: "RECITATION", 5: "OTHER"}
"""Reasons as numbers, which proxies send that make JSON of protocol buffers by themselves."""


class GenerateReader:
    """Reads one reply.

    Args:
        failures: Makes the errors.
        model: Who is answering, for errors.
        turn: Position of the answer in the conversation, by which calls without an id are known.
        names: Names of tools on the wire to those the client knows, where they differ.
        logprobs: Whether log probabilities are wanted.
    """

    def __init__(
        self,
        failures: Failures,
        model: str,
        *,
        turn: int = 0,
        names: Mapping[str, str] | None = None,
        logprobs: bool = False,
    ) -> None:
        self._failures = failures
        self._model = model
        self._turn = turn
        self._names = names or {}
        self._logprobs = logprobs
        self.moved = False
        """Whether the last frame was more than a sign of life."""
        self._usage: dict[str, Any] = {}
        self._finish = ""
        self._blocked = ""
        self._message: object = None
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
            if self._blocked not in EXPLANATIONS:
                self._failures.odd("block reason", self._blocked, self._model)
            return [*self._explained(self._blocked), Finish("refusal", self._counted(), self._blocked)]
        if not self._finish:
            return []
        reason = FINISH_REASONS.get(self._finish, "stop")
        if reason == "broken":
            raise self._broken(f"it gave up ({self._finish}); asking again may help", said=self._said())
        if self._partial and reason == "stop":
            raise self._broken("it ended inside a tool call: ask again")
        if reason == "stop" and self._calls:
            reason = "tool_calls"
        explanation = self._explained(self._finish) if reason == "refusal" else []
        if self._finish not in FINISH_REASONS:
            self._failures.odd("finish reason", self._finish, self._model)
            explanation = self._explained(self._finish)
        sealed = seal(SIGNED, self._model, self._signed)
        return [*explanation, Finish(reason, self._counted(), self._finish, sealed)]

    def usage(self) -> Usage | None:
        """What the provider has told so far of the tokens: it does with every frame."""
        return self._counted() if self._usage else None

    def _read(self, frame: Any) -> list[Event]:
        events: list[Event] = []
        if "error" in frame:
            raise self._failures.told(frame, self._model)
        candidates = frame.get("candidates") or ()
        self.moved = bool(candidates)
        if usage := frame.get("usageMetadata"):
            if usage.__class__ is not dict:
                usage = self._failures.usage(usage, self._model)
            self._usage.update(usage)  # not each frame has all of it
        if (feedback := frame.get("promptFeedback")) and (blocked := feedback.get("blockReason")):
            self._blocked = str(blocked)
            self._message = feedback.get("blockReasonMessage")
        for candidate in candidates:
            if candidate.get("index"):  # another answer to the same question
                continue
            for part in (candidate.get("content") or {}).get("parts") or ():
                if signature := part.get("thoughtSignature"):
                    self._sign(part, signature)
                if text := part.get("text"):
                    if text.__class__ is not str:
                        raise TypeError("text")
                    if part.get("thought"):
                        events.append(ThinkingDelta(text))
                    else:
                        self._chars += len(text)
                        events.append(TextDelta(text))
                elif (call := part.get("functionCall")) is not None:
                    events += self._called(call, frame)
                else:
                    self._pass(part)
            if self._logprobs and (logprobs := candidate.get("logprobsResult")):
                _attach(_logprobs(logprobs), events)
            if finish := candidate.get("finishReason"):
                self._finished(_NUMBERED.get(finish, str(finish)), candidate.get("finishMessage"))
            break
        return events

    def _finished(self, reason: str, message: object) -> None:
        if reason != UNSPECIFIED or not self._finish:
            self._finish = reason
            self._message = message

    def _pass(self, part: Json) -> None:
        for name in part:
            if PARTS.get(name, True):
                self._failures.odd("part", name, self._model)

    def _sign(self, part: Json, signature: str) -> None:
        """Keep a signature. Not all parts have one: with parallel calls the first, with text often an empty last."""
        piece = {"thoughtSignature": signature}
        text = part.get("text") or ""
        if "functionCall" in part:
            self._signed.append(Kept(self._calls, self._chars, CALL, piece))
        elif part.get("thought"):
            self._signed.append(Kept(self._calls, self._chars, 0, {"text": text, "thought": True, **piece}))
        elif "text" in part or len(part) == 1:  # an empty text is left out by some who pass it on
            self._signed.append(Kept(self._calls, self._chars, len(text), piece))

    def _called(self, call: Json, frame: Json) -> list[Event]:
        """Calls come whole, except when the provider streams arguments: then in parts, until one without more."""
        events: list[Event] = []
        if name := call.get("name"):
            name, call_id = str(name), str(call.get("id") or "")
            if self._partial and not self._partial.is_gone_on_with(name, call_id):
                events.append(self._call_done(self._partial, frame))  # nobody said that it is
                self._partial = None
            self._partial = self._partial or PartialCall(name, call_id)
        if self._partial is None:
            if self._calls and not call:
                return events  # the end of one that was whole before
            raise KeyError("name")
        self._partial.add(call)
        if not call.get("willContinue"):
            events.append(self._call_done(self._partial, frame))
            self._partial = None
        return events

    def _call_done(self, call: PartialCall, frame: Json) -> ToolCall:
        self._calls += 1
        reply = str(frame.get("responseId") or f"turn {self._turn}")
        call_id = call.call_id or made_up_id(reply, self._calls, call.name)
        return ToolCall(call_id, self._names.get(call.name, call.name), call.arguments)

    def _explained(self, word: str) -> list[Event]:
        if self._chars or self._calls:
            return []
        why = EXPLANATIONS.get(word, NOT_SAID)
        return [TextDelta(f"[{self._model} declined to answer: {why} ({clean(word)}){self._said() or '.'}]")]

    def _said(self) -> str:
        message = self._message
        return f"; it says: {clean(message)}" if isinstance(message, str) and message else ""

    def _counted(self) -> Usage:
        usage = self._usage
        thoughts = count(usage, "thoughtsTokenCount")
        return Usage(
            input_tokens=count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount"),
            output_tokens=count(usage, "candidatesTokenCount") + thoughts,
            cached_read_tokens=count(usage, "cachedContentTokenCount"),
            reasoning_tokens=thoughts,
        )

    def _broken(self, message: str, *, said: str = "") -> UpstreamBroken:
        return UpstreamBroken(message, provider=self._failures.provider, model=self._model, said=said)


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
