"""Prompts with the markers of fill in the middle: recognised whole, by every client's template, and losing nothing."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ollama_bridge.chat import Infill
from ollama_bridge.infill import recognise, urgent_first

TEMPLATES = {
    "starcoder": "<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>",
    "starcoder, suffix first": "<fim_prefix><fim_suffix>{suffix}<fim_middle>{prefix}",
    "suffix, prefix": "<fim_suffix>{suffix}<fim_prefix>{prefix}<fim_middle>",
    "santacoder": "<fim-prefix>{prefix}<fim-suffix>{suffix}<fim-middle>",
    "qwen": "<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>",
    "qwen, suffix first": "<|fim_suffix|>{suffix}<|fim_prefix|>{prefix}<|fim_middle|>",
    "glm": "<|code_prefix|>{prefix}<|code_suffix|>{suffix}<|code_middle|>",
    "seed": "<[fim-suffix]>{suffix}<[fim-prefix]>{prefix}<[fim-middle]>",
    "codellama": "<PRE> {prefix} <SUF>{suffix} <MID>",
    "codellama, suffix first": "<PRE> <SUF>{suffix} <MID> {prefix}",
    "deepseek": "<｜fim▁begin｜>{prefix}<｜fim▁hole｜>{suffix}<｜fim▁end｜>",
    "codestral": "[SUFFIX]{suffix}[PREFIX]{prefix}",
    "codestral of ProxyAI": "[SUFFIX]{suffix}[PREFIX]{prefix}[MIDDLE]",
    "qwen of ProxyAI": "<|fim_prefix|> {prefix} <|fim_suffix|>{suffix} <|fim_middle|>",
}
# No letters that a marker could be written with.
SIDE = st.text("ab {}\n\t\"'<>|_é", max_size=80)


def filled(template, prefix, suffix):
    return template.replace("{suffix}", suffix).replace("{prefix}", prefix)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("raw", [False, True])
@given(prefix=SIDE, suffix=SIDE)
def test_both_sides_come_out_to_the_byte(template, raw, prefix, suffix):
    """Any text before and after the gap, in every family's order."""
    if (
        template == TEMPLATES["qwen"]
    ):  # the one that ProxyAI writes with spaces, which cannot be told apart then
        assume(not (prefix.startswith(" ") and prefix.endswith(" ") and suffix.endswith(" ")))
    if template == TEMPLATES["starcoder, suffix first"] or template == TEMPLATES["codellama, suffix first"]:
        assume(prefix)
    assert recognise(filled(template, prefix, suffix), raw=raw) == Infill(prefix, suffix)


@pytest.mark.parametrize(
    "prompt",
    [
        "<fim_prefix>def f():\n    <fim_middle>",
        "<|fim_prefix|>def f():\n    <|fim_middle|>",
        "<｜fim▁begin｜>def f():\n    <｜fim▁end｜>",
        "[SUFFIX][PREFIX]def f():\n    ",
        "<s>[SUFFIX][PREFIX]def f():\n    ",
    ],
)
def test_a_gap_at_the_end_needs_no_suffix(prompt):
    """Some clients leave the marker out with the text."""
    assert recognise(prompt) == Infill("def f():\n    ", "")


@pytest.mark.parametrize(
    "before",
    [
        "<repo_name>acme<file_sep>a.py\nx = 1\n<file_sep>",
        "<|repo_name|>acme\n<|file_sep|>a.py\nx = 1\n<|file_sep|>b.py\n",
        "<|file_separator|>a.py \nx = 1\n<|file_separator|>b.py \n",
        "<reponame>acme<filename>a.py\nx = 1<|endoftext|>\n<filename>b.py \n",
    ],
)
def test_other_files_stay_in_front(before):
    """What a client sends of the repository is what makes the middle right."""
    prompt = before + "<fim_prefix>y = <fim_suffix>\n<fim_middle>"
    assert recognise(prompt) == Infill(before + "y = ", "\n")


def test_only_a_raw_prompt_may_begin_with_anything():
    """ProxyAI puts other files as comments in front, raw; in an ordinary prompt it is a question about markers."""
    prompt = "# a.py \nx = 1\n# b.py \n<fim_prefix>y = <fim_suffix>\n<fim_middle>"
    assert recognise(prompt, raw=True) == Infill("# a.py \nx = 1\n# b.py \ny = ", "\n")
    assert recognise(prompt) is None


def test_codegeex_wraps_its_prompt_into_a_turn():
    """As Continue writes it."""
    path = "###PATH:a.py\n###LANGUAGE:python\n###MODE:BLOCK\n"
    prompt = f"<|user|>\n{path}<|code_suffix|>\n<|code_prefix|>y = <|code_middle|><|assistant|>\n"
    assert recognise(prompt) == Infill(f"{path}y = ", "\n")


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "What does <fim_prefix> mean?",
        "Explain `<fim_prefix>a<fim_suffix>b<fim_middle>`.",
        "Explain this prompt: <fim_prefix>a<fim_suffix>b<fim_middle>",
        "<fim_prefix>a<fim_suffix>b<fim_middle> is how StarCoder is asked.",
        "<fim_prefix>a<fim_suffix>b",
        "<fim_prefix>a",
        "<fim_middle>",
        "<fim_prefix>a<fim_suffix>b<fim_suffix>c<fim_middle>",
        "[PREFIX] and [SUFFIX] are Codestral's",
        "The order is [SUFFIX] first and then [PREFIX].",
        "<PRE>\nsome HTML\n</PRE>",
    ],
)
def test_text_about_markers_is_text(prompt):
    """Only a prompt that is one from its beginning to its end is taken for one."""
    assert recognise(prompt) is None


def test_a_source_file_about_markers_can_be_filled():
    """What stands between two quotation marks is a string of the program, unless the gap is between them."""
    before = 'P, S, M = "<fim_prefix>", "<fim_suffix>", "<fim_middle>"\n'
    after = 'print("<fim_suffix>")\n'
    assert recognise(f"<fim_prefix>{before}<fim_suffix>{after}<fim_middle>") == Infill(before, after)
    assert recognise('<fim_prefix>print("<fim_suffix>")<fim_middle>') == Infill('print("', '")')


@given(st.lists(st.sampled_from(["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "[PREFIX]", "[SUFFIX]", "a", '"', " "])).map("".join), st.booleans())  # fmt: skip
def test_no_sequence_of_markers_makes_up_text(prompt, raw):
    """Whatever is recognised is made of the prompt's own characters, in the prompt's own pieces."""
    gap = recognise(prompt, raw=raw)
    if gap is not None:
        assert gap.suffix in prompt
        assert len(gap.prefix) + len(gap.suffix) <= len(prompt)


def test_stop_words_of_the_language_go_first():
    """An API that takes four of Zed's fourteen stop words gets those that can stop it."""
    stops = ["<|endoftext|>", "<EOT>", "\n\n", "<|fim_pad|>", "class ", "[PREFIX]"]
    assert urgent_first(stops)[:2] == ["\n\n", "class "]
    assert sorted(urgent_first(stops)) == sorted(stops)
