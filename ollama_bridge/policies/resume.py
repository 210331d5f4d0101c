"""An answer that breaks off is gone on with: by the same model, or by one of its fallbacks.

Once a client has seen a part of the answer, only its rest can be asked for: the part is sent back as the beginning
of the model's own message, with an instruction to continue where the model would not do so to the letter. Of an
answer that nobody has seen yet, because the client does not stream, there is no need to keep anything.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

import structlog

from ollama_bridge.catalog import Model
from ollama_bridge.chat import ChatRequest, Message, Reply
from ollama_bridge.errors import BridgeError, UpstreamError
from ollama_bridge.events import Event, Finish, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_bridge.history import CONTINUE
from ollama_bridge.policies.fallback import Fallback
from ollama_bridge.policies.seam import Seam
from ollama_bridge.tokens import text_tokens

log = structlog.get_logger(__name__)

ATTEMPTS: Final = 2
"""How often an answer is gone on with before its failure is told."""


class Resume:
    """Answers by the first of several models that begins, and sees to it that the answer has an end.

    Args:
        fallback: Who asks them.
    """

    def __init__(self, fallback: Fallback) -> None:
        self._fallback = fallback

    async def chat(self, request: ChatRequest, candidates: Sequence[Model], asked: str) -> Reply:
        """The answer; its `Finish` names who gave it, if it is not the model called `asked`.

        Args:
            request: The question.
            candidates: Who may answer, in order; at least one.
            asked: The model that the client means, as lists show it.

        Raises:
            BridgeError: None of them answers, or the answer broke off and cannot be gone on with.
        """
        answer = _Answer(request, candidates, asked)
        while candidates:
            try:
                begun = await self._fallback.begun(request, candidates, answer.ask)
                async with aclosing(begun.rest):
                    take = answer.begin(begun.model)
                    if said := take(begun.first):
                        yield said
                    async for burst in begun.rest:
                        if said := take(burst):
                            yield said
                        else:
                            request.progress()
            except BridgeError as exc:
                candidates = answer.broke_off(exc)
            else:
                return
        raise answer.failure()


class _Answer:
    """One client's answer, in as many attempts as it takes.

    Args:
        request: The question.
        candidates: Who may answer it.
        asked: The model that the client means.
    """

    def __init__(self, request: ChatRequest, candidates: Sequence[Model], asked: str) -> None:
        self._request = request
        self._candidates = candidates
        self._asked = asked
        self._model = candidates[0]
        self._is_plain = request.infill is None and request.format is None and not request.logprobs
        self._attempts = 0
        self._broken: Model | None = None
        self._has_begun = False
        self._failure: BridgeError | None = None
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._has_called = False
        self._moved = False
        self._before = ""
        self._seam: Seam | None = None
        self._held: list[Event] = []

    def ask(self, model: Model) -> ChatRequest:
        """The question to `model`: for an answer, or for the rest of one."""
        asked = replace(self._request, target=model.target)
        if self._request.tools:
            asked = replace(asked, progress=self._move)
        return continuation(asked, self._before) if self._before else asked

    def begin(self, model: Model) -> Callable[[Sequence[Event]], Sequence[Event]]:
        """`model` begins to answer; what makes of each burst what is to be passed on of it now."""
        self._model = model
        self._has_begun = True
        self._seam = Seam(self._before, exact=model.target.rules.continues) if self._before else None
        may_go_on = self._is_plain and any(map(self._goes_on, self._candidates))
        passes = self._request.stream and model.name == self._asked and not (self._before or may_go_on)
        return _as_it_is if passes else self._take

    def _take(self, burst: Sequence[Event]) -> Sequence[Event]:
        if self._seam is not None:
            burst = list(_joined(self._seam, burst))
        is_end = False
        for event in burst:
            if event.__class__ is TextDelta:
                self._texts.append(event.text)
                self._moved = False
            elif event.__class__ is ThinkingDelta:
                self._thoughts.append(event.text)
            elif event.__class__ is ToolCall:
                self._has_called = True
            elif event.__class__ is Finish:
                is_end = True
        if is_end:
            burst = [*burst[:-1], self._ended(burst[-1])]
        if self._request.stream:
            return burst
        self._held += burst
        return self._held if is_end else ()

    def broke_off(self, exc: BridgeError) -> Sequence[Model]:
        """Who is to go on, or to begin anew; nobody: the failure is to be told."""
        if not self._has_begun:
            # If it is not the first attempt, what broke off says more than who did not go on.
            self._failure = self._failure or exc
            return ()
        self._has_begun = False
        self._failure = exc
        if self._attempts == ATTEMPTS or not isinstance(exc, UpstreamError) or not exc.retryable:
            return ()
        self._attempts += 1
        model = self._model
        others = [other for other in self._candidates if other is not model]
        # Once may be chance; whoever else there is goes on when the same one breaks off again.
        order = [*others, model] if model is self._broken else [model, *others]
        self._broken = model
        able = [other for other in order if self._goes_on(other)] if self._can_be_continued() else []
        if able:
            self._before = "".join(self._texts)
        elif self._request.stream:
            return ()
        else:
            self._forget()
        log.warning(
            "an answer broke off and is continued" if able else "an answer broke off and is begun anew",
            provider=model.target.provider,
            model=model.target.model,
            reason=exc.summary,
        )
        return able or order

    def failure(self) -> BridgeError:
        """What to raise when nobody goes on."""
        assert self._failure is not None  # noqa: S101 - `broke_off` was told of it
        return self._failure

    def _move(self) -> None:
        self._moved = True
        self._request.progress()

    def _goes_on(self, model: Model) -> bool:
        """Whether `model` may be asked for the rest, as the operator says of the one that broke off."""
        switch, exact = self._model.config.resume, model.target.rules.continues
        if not self._request.stream:  # a new answer is better than one with a joint that may show
            return exact and switch is not False
        return exact if switch is None else switch

    def _can_be_continued(self) -> bool:
        """Whether there is a text to go on with, and it is nothing but text.

        A tool call may have begun when something moved that was no text.
        """
        in_flight = bool(self._request.tools) and self._moved
        has_text = any(map(str.strip, self._texts))
        return self._is_plain and has_text and not self._has_called and not in_flight

    def _forget(self) -> None:
        for kept in (self._texts, self._thoughts, self._held):
            kept.clear()
        self._before, self._has_called, self._moved = "", False, False

    def _ended(self, end: Event) -> Event:
        if end.__class__ is not Finish:
            return end
        other = "" if self._model.name == self._asked else self._model.name
        if not (other or self._before):
            return end
        usage = self._summed(end.usage) if self._before else end.usage
        return replace(end, usage=usage, answered_by=other)

    def _summed(self, usage: Usage) -> Usage:
        """What the whole answer took: the prompt once, and all that was written, which is estimated where it was cut."""
        before, thought = text_tokens(self._before), text_tokens("".join(self._thoughts))
        after = text_tokens("".join(self._texts)[len(self._before) :])
        asked = max(usage.input_tokens - before, min(1, usage.input_tokens))
        return replace(
            usage,
            input_tokens=asked,
            output_tokens=before + thought + (usage.output_tokens or after),
            cached_read_tokens=(read := min(usage.cached_read_tokens, asked)),
            cached_write_tokens=min(usage.cached_write_tokens, asked - read),
            reasoning_tokens=usage.reasoning_tokens + thought,
        )


def continuation(request: ChatRequest, said: str) -> ChatRequest:
    """What to ask for the rest of an answer.

    Args:
        request: The question, with the target that is to go on.
        said: What there is of the answer; not only white space.
    """
    target, options = request.target, dict(request.options)
    last = request.messages[-1] if request.messages else Message("user")
    if last.role == "assistant" and not last.tool_calls:  # the client itself had begun the answer
        messages = (*request.messages[:-1], replace(last, content=last.content + said, sealed=b""))
    else:
        messages = (*request.messages, Message("assistant", said))
    if target.rules.continues:
        # White space at the end is refused there, and the first of what comes.
        messages = (*messages[:-1], replace(messages[-1], content=messages[-1].content.rstrip()))
    else:
        messages = (*messages, Message("user", CONTINUE))
    if (limit := options.get("num_predict", -1)) > 0:
        options["num_predict"] = max(1, limit - text_tokens(said))
    # It was thought about already, and who thinks cannot be given the beginning of the answer.
    think = False if "thinking" in target.capabilities else None
    return replace(request, messages=messages, options=options, think=think)


def _as_it_is(burst: Sequence[Event]) -> Sequence[Event]:
    return burst


def _joined(seam: Seam, burst: Sequence[Event]) -> Iterator[Event]:
    """The events of a continuation behind what was delivered; thoughts in the middle of a text are left out."""
    for event in burst:
        if isinstance(event, TextDelta):
            text = seam.feed(event.text)
        else:
            text = "" if isinstance(event, ThinkingDelta) else seam.close()
        if text:
            yield TextDelta(text)
        if isinstance(event, ToolCall | Finish):
            yield event
