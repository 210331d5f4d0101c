"""Recognise fill-in-the-middle prompts: text with the markers that models of code were trained on. Pure.

Editors put the markers in themselves and send the whole as an ordinary prompt, raw or not. Only a prompt that
is such a prompt from its beginning to its end is taken for one: text that mentions a marker stays text, and of
what stands before and after the gap no character is lost.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

from ollama_bridge.chat import Infill

DEFAULT_TOKENS: Final = 256
"""Most tokens of a middle when the client sets no limit: nobody types on while a page is written."""


@dataclass(frozen=True, slots=True)
class _Family:
    """The markers of one family of models, and the orders in which its prompts have them.

    Args:
        prefix: Before the text before the gap.
        suffix: Before the text after it.
        middle: Before what the model will write.
        orders: Of the markers, by their initials.
        spaces: Around which markers the family's prompts have a space that is no part of the text: `p` behind
            the first, `s` before the second, `m` before the last. In brackets: it may be missing.
    """

    prefix: str
    suffix: str
    middle: str
    orders: tuple[str, ...] = ("psm", "spm", "pm")
    spaces: str = ""


_FAMILIES: Final = (
    # Qwen, CodeGemma, Granite; with spaces as ProxyAI writes them
    _Family("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", spaces="psm"),
    # StarCoder, Stable Code, CodeQwen; what Zed, Continue and twinny take for models they do not know
    _Family("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    _Family("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    _Family("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>"),  # Seed-Coder
    _Family("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),  # GLM, CodeGeeX
    _Family("<PRE>", "<SUF>", "<MID>", spaces="(p)sm"),  # CodeLlama
    _Family("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", ("psm", "pm")),  # DeepSeek
    _Family("[PREFIX]", "[SUFFIX]", "[MIDDLE]", ("sp", "spm", "psm")),  # Codestral
)

_CONTEXT: Final = (
    *("<repo_name>", "<reponame>", "<file_sep>", "<filename>"),
    *("<|repo_name|>", "<|file_sep|>", "<|file_separator|>"),
    *("###PATH:", "###REFERENCE:"),  # CodeGeeX
)
"""What blocks of other files begin with, in front of the file with the gap."""

_BEGINNINGS: Final = ("<s>", "<bos>", "<|begin_of_text|>", "<｜begin▁of▁sentence｜>")
_TURN: Final = ("<|user|>\n", "<|assistant|>\n")  # CodeGeeX's prompts are a turn of a chat
_QUOTES: Final = frozenset("\"'`")
_MOST_MARKERS: Final = 1000  # of one family: beyond, it is a text about markers, and a large one

_Marker: TypeAlias = tuple[int, int, str]
"""Where a marker starts, where it ends, its initial."""

_CONTROL_WORDS: Final = frozenset(
    {
        *(word for family in _FAMILIES for word in (family.prefix, family.suffix, family.middle)),
        *(*_CONTEXT[:7], "<|fim_pad|>", "<fim_pad>", "<|cursor|>", "</fim_middle>"),
        *("<EOT>", "<|EOT|>", "<|endoftext|>", "<｜end▁of▁sentence｜>", "<eos>", "</s>", "<end_of_turn>"),
        *("<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>"),
    }
)


def recognise(prompt: str, *, raw: bool = False) -> Infill | None:
    """The gap that `prompt` asks to be filled; None: it is an ordinary prompt.

    What stands before the first marker, such as other files of the repository, becomes part of the prefix.

    Args:
        prompt: As the client sent it.
        raw: Whether the client says that it is complete as it is. Then anything may stand before the first marker;
            else only blocks that begin with a marker of their own.
    """
    text = _unwrapped(prompt)
    for anything_before in (False, True) if raw else (False,):
        for family in _FAMILIES:
            if found := _read(text, family, anything_before=anything_before):
                return found
    return None


def urgent_first(stops: Sequence[str]) -> list[str]:
    """Stop words in the order of their worth to an API that takes but a few.

    Clients send a dozen markers along, which no API lets a model write; what is of the language comes first.
    """
    return sorted(stops, key=_CONTROL_WORDS.__contains__)


def _unwrapped(prompt: str) -> str:
    """Without what stands around every prompt of some models."""
    text = prompt
    for beginning in _BEGINNINGS:
        text = text.removeprefix(beginning)
    begin, end = _TURN
    return text[len(begin) : -len(end)] if text.startswith(begin) and text.endswith(end) else text


def _read(text: str, family: _Family, *, anything_before: bool) -> Infill | None:
    markers = sorted(islice(_markers(text, family), _MOST_MARKERS))
    # Between two quotation marks a marker is probably text about markers. Not so where that makes no sense: the
    # gap may stand between two quotation marks as well.
    for found in (markers, [m for m in markers if m in (markers[0], markers[-1]) or not _is_quoted(text, m)]):
        order = "".join(kind for _, _, kind in found)
        if order not in family.orders or (found is not markers and order == "pm"):
            continue
        before, between, behind = _parts(text, found)
        if before.strip() and not anything_before and not before.lstrip().startswith(_CONTEXT):
            return None
        if gap := _gap(family, order, between, behind):
            prefix, suffix = gap
            return Infill(before + prefix, suffix)
    return None


def _markers(text: str, family: _Family) -> Iterator[_Marker]:
    for kind, word in (("p", family.prefix), ("s", family.suffix), ("m", family.middle)):
        at = text.find(word)
        while at >= 0:
            yield at, at + len(word), kind
            at = text.find(word, at + len(word))


def _is_quoted(text: str, marker: _Marker) -> bool:
    start, end, _ = marker
    return start > 0 and text[start - 1] in _QUOTES and text[end : end + 1] == text[start - 1]


def _parts(text: str, markers: Sequence[_Marker]) -> tuple[str, list[str], str]:
    """What stands before the first marker, between two each, and behind the last."""
    ends = [end for _, end, _ in markers]
    between = [text[end:start] for end, (start, _, _) in zip(ends, markers[1:], strict=False)]
    return text[: markers[0][0]], between, text[ends[-1] :]


def _gap(family: _Family, order: str, between: list[str], behind: str) -> tuple[str, str] | None:
    if order == "sp":  # the prefix comes last, and the model goes on behind it
        return behind, between[0]
    if behind and order == "psm" and not between[0].strip(" " if family.spaces else ""):
        # Suffix first as StarCoder and CodeLlama were trained: both markers at once, the prefix behind the last.
        suffix = between[1]
        if family.spaces and suffix.endswith(" ") and behind.startswith(" "):
            return behind[1:], suffix[:-1]
        return behind, suffix
    if behind.strip():
        return None
    if order == "pm":
        return between[0], ""
    prefix, suffix = between if order == "psm" else reversed(between)
    return _without_spaces(family, prefix, suffix) if order == "psm" else (prefix, suffix)


def _without_spaces(family: _Family, prefix: str, suffix: str) -> tuple[str, str]:
    """Only where all spaces are there that the family's prompts have: else they are of the text."""
    if not family.spaces or not (prefix.endswith(" ") and suffix.endswith(" ")):
        return prefix, suffix
    leading = prefix.startswith(" ") and len(prefix) > 1
    if not leading and not family.spaces.startswith("("):
        return prefix, suffix
    return prefix[leading:-1], suffix[:-1]
