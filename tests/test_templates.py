"""Go templates: what of them words a prompt, and what is wrong with those that are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.chat import ChatRequest, Message
from ollama_bridge.presets import Preset, primed
from ollama_bridge.templates import InvalidTemplate, wording


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ .Prompt }}", "hi"),
        ("{{.Prompt}}", "hi"),
        ("In French: {{ .Prompt }}!", "In French: hi!"),
        ("a  {{- .Prompt -}}  b", "ahib"),
        ("a  {{-  .Prompt}} }} b", "ahi }} b"),
        ("{{/* a }} comment */}}{{ .Prompt }}", "hi"),
        ("{{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}", "hi"),
        ("{{ if .Prompt }}Q: {{ .Prompt }}{{ else }}nothing{{ end }}", "Q: hi"),
        ("{{ if .System }}s{{ else if .Prompt }}P {{ .Prompt }}{{ else }}n{{ end }}", "P hi"),
        ("{{ .Prompt }} A: {{ .Response }} the end", "hi A: "),
    ],
)
def test_the_wording_of_a_prompt(template, said):
    """Text around the prompt and simple choices; where the answer begins, the question ends."""
    assert wording(template).of("hi") == said


@pytest.mark.parametrize(
    "template",
    [
        "", "no prompt", "{{ .System }}", "{{ .Prompt }}{{ .Prompt }}", "<|im_start|>{{ .Prompt }}", "[INST]{{ .Prompt }}",
        "<start_of_turn>{{ .Prompt }}", "{{ range .Messages }}{{ .Content }}{{ end }}", "{{ .Tools }}{{ .Prompt }}",
        '{{ "}}" }}{{ .Prompt }}', "{{ if and .Prompt .System }}{{ .Prompt }}{{ end }}", "{{ $x := .Prompt }}{{ .Prompt }}",
        "{{ if .Prompt }}" * 60 + "{{ .Prompt }}" + "{{ end }}" * 60, "x" * 70_000 + "{{ .Prompt }}",
    ],
)  # fmt: skip
def test_everything_else_has_no_effect(template):
    """Control tokens, loops, functions, and whatever would lose or repeat the prompt."""
    assert wording(template) is None


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ .Prompt", "template: :1: unclosed action"),
        ("\n\n{{ .Prompt", "template: :3: unclosed action"),
        ("{{", "template: :1: unclosed action"),
        ("{{ if .Prompt }}", "template: :1: unexpected EOF"),
        ("{{ range .Messages }}\n", "template: :2: unexpected EOF"),
        ("{{ end }}", "template: :1: unexpected {{end}}"),
        ("{{ else }}", "template: :1: unexpected {{else}}"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{/* a", "template: :1: unclosed comment"),
        ('{{ "a }}', "template: :1: unterminated quoted string"),
    ],
)
def test_what_is_no_template_is_told_in_gos_words(template, message):
    """With the line, and the status of /api/generate."""
    with pytest.raises(InvalidTemplate) as caught:
        wording(template)
    assert (str(caught.value), caught.value.status) == (message, 500)


@given(st.lists(st.sampled_from([*'{}-. \n"`/*a', "{{", "}}", "if", "else", "end", ".Prompt", ".System", "range"])).map("".join), st.text())  # fmt: skip
def test_whatever_a_template_is_the_prompt_is_in_it_once_or_it_has_no_effect(template, prompt):
    """And nothing but InvalidTemplate comes out."""
    try:
        told = wording(template)
    except InvalidTemplate:
        return
    if told is not None:
        assert prompt in told.of(prompt)
        assert len(told.of(prompt)) - len(prompt) <= len(template)


def test_prompts_are_worded_and_nothing_else():
    """Every prompt of a conversation; of one that continues by `context` the last alone."""
    said = (Message("user", "a"), Message("assistant", "b"), Message("tool", "c"), Message("user", "d"))
    preset = Preset(template="T {{ .Prompt }}", system="S")
    whole = primed(ChatRequest("m", said), preset).messages
    continued = primed(ChatRequest("m", said), preset, begins=False).messages
    assert [message.content for message in whole] == ["S", "T a", "b", "c", "T d"]
    assert [message.content for message in continued] == ["S", "a", "b", "c", "T d"]
