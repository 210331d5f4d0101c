"""Small changes to the text of a configuration: every byte that is not part of the change stays as it was.

A YAML writer, even one that keeps comments, lays the whole file out anew. Here the nodes are only asked where things
stand, and the text is cut there. A layout may be too clever for that (anchors, merges, one-line files): so whoever
calls reads the result back and refuses it unless it says exactly what was meant.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ollama_bridge.config.yaml import compose
from ollama_bridge.errors import ConfigError

_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(:[A-Za-z0-9_./-]+)*\Z")
_SPECIAL: Final = frozenset("true false null yes no on off y n".split())
_MANY_LINES: Final = frozenset("|>")
_COMMA_BEHIND: Final = re.compile(r"\s*,\s*")
_WIDE: Final = 60
"""Characters from which a text of several lines gets them in the file, too."""


class Splice:
    """One text, to be cut.

    Args:
        text: The file as it stands.
        label: What to call it in errors.
    """

    def __init__(self, text: str, label: str) -> None:
        self._text = text
        self._label = label
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._root = compose(text, label)

    def set_enabled(self, index: int, enabled: bool) -> str:
        """The text with the model at `index` of `models` switched."""
        entry = self._entry(index)
        value = _value(entry, "enabled")
        if value is None:
            return self._after_name(entry, f"enabled: {_scalar(enabled)}")
        return self._replaced(value, _scalar(enabled))

    def add_alias(self, index: int, alias: str) -> str:
        """The text with one more alias of the model at `index`."""
        entry = self._entry(index)
        value = _value(entry, "aliases")
        if value is None:
            return self._after_name(entry, f"aliases: [{_scalar(alias)}]")
        if not isinstance(value, SequenceNode) or not value.value:
            return self._replaced(value, f"[{_scalar(alias)}]")
        if value.flow_style:
            return self._inserted(value.value[-1].end_mark.index, f", {_scalar(alias)}")
        return self._line_after(value, " " * value.start_mark.column + f"- {_scalar(alias)}")

    def append_model(self, entry: Mapping[str, Any]) -> str:
        """The text with one more model, the last."""
        root = self._root
        if root is None:
            return self._at_end(["models:", *_block(entry, "  ")])
        if not isinstance(root, MappingNode):
            raise self._too_clever()
        models = _value(root, "models")
        if models is None and root.flow_style:
            end = root.value[-1][1].end_mark.index if root.value else root.start_mark.index + 1
            return self._inserted(end, f"{', ' if root.value else ''}models: [{_flow(entry)}]")
        if models is None:
            margin = " " * root.start_mark.column
            return self._at_end([f"{margin}models:", *_block(entry, f"{margin}  ")])
        if not isinstance(models, SequenceNode) or not models.value:
            if root.flow_style:
                return self._replaced(models, f"[{_flow(entry)}]")
            margin = " " * (root.start_mark.column + 2)
            return self._replaced(models, self._newline + self._newline.join(_block(entry, margin)))
        if models.flow_style:
            return self._inserted(models.value[-1].end_mark.index, f", {_flow(entry)}")
        return self._line_after(models, *_block(entry, " " * models.start_mark.column))

    def replace_model(self, index: int, entry: Mapping[str, Any]) -> str:
        """The text with another model in the place of the one at `index`."""
        models = self._models()
        if models.flow_style:
            return self._replaced(self._entry(index), _flow(entry))
        start, end = self._lines_of(models, index)
        new = "".join(line + self._newline for line in _block(entry, " " * models.start_mark.column))
        return self._text[:start] + new + self._text[end:]

    def remove_model(self, index: int) -> str:
        """The text without the model at `index`."""
        return self._without(self._models(), index)

    def remove_alias(self, index: int, number: int) -> str:
        """The text without one alias of the model at `index`."""
        aliases = _value(self._entry(index), "aliases")
        if not isinstance(aliases, SequenceNode):
            raise self._too_clever()
        if len(aliases.value) > 1:
            return self._without(aliases, number)
        if aliases.flow_style:
            return self._replaced(aliases, "[]")
        start, end = self._lines_of(aliases, number)
        margin = " " * (aliases.start_mark.column + 2)
        return f"{self._text[:start]}{margin}[]{self._newline}{self._text[end:]}"

    def _models(self) -> SequenceNode:
        models = _value(self._root, "models") if isinstance(self._root, MappingNode) else None
        if not isinstance(models, SequenceNode):
            raise self._too_clever()
        return models

    def _entry(self, index: int) -> MappingNode:
        entry = self._models().value[index]
        if not isinstance(entry, MappingNode):
            raise self._too_clever()
        return entry

    def _without(self, items: SequenceNode, index: int) -> str:
        if not items.flow_style:
            start, end = self._lines_of(items, index)
            return self._text[:start] + self._text[end:]
        start, end = items.value[index].start_mark.index, items.value[index].end_mark.index
        if behind := _COMMA_BEHIND.match(self._text, end):
            return self._text[:start] + self._text[behind.end() :]
        before = self._text[:start].rstrip()
        return before.removesuffix(",") + self._text[end:]

    def _lines_of(self, items: SequenceNode, index: int) -> tuple[int, int]:
        """Where the lines of an item begin and end."""
        item = items.value[index]
        start = self._text.rfind("\n", 0, item.start_mark.index) + 1
        if self._text[start : item.start_mark.index].strip() != "-":
            raise self._too_clever()
        return start, self._end_of(item) or len(self._text)

    def _after_name(self, entry: MappingNode, pair: str) -> str:
        name = _value(entry, "name")
        if name is None:
            raise self._too_clever()
        if entry.flow_style:
            return self._inserted(name.end_mark.index, f", {pair}")
        return self._line_after(name, " " * entry.start_mark.column + pair)

    def _replaced(self, node: Node, new: str) -> str:
        before, after = self._text[: node.start_mark.index], self._text[node.end_mark.index :]
        if new.startswith(("\r", "\n")):
            before = before.rstrip(" ")
        elif before.endswith(":"):  # `aliases:` with nothing behind it
            before += " "
        return before + new + after

    def _inserted(self, at: int, new: str) -> str:
        return self._text[:at] + new + self._text[at:]

    def _line_after(self, node: Node, *lines: str) -> str:
        """Whole lines, put below the last line that belongs to `node`."""
        end = self._end_of(node)
        if end in {0, len(self._text)}:
            return self._at_end(list(lines))
        return self._inserted(end, "".join(line + self._newline for line in lines))

    def _end_of(self, node: Node) -> int:
        """The place below the last line that belongs to `node`; 0: the text ends before that line does."""
        last = node
        while isinstance(last, SequenceNode | MappingNode) and not last.flow_style and last.value:
            last = last.value[-1] if isinstance(last, SequenceNode) else last.value[-1][1]
        end: int = last.end_mark.index
        if isinstance(last, ScalarNode) and last.style in _MANY_LINES:
            return end
        return self._text.find("\n", end) + 1

    def _at_end(self, lines: list[str]) -> str:
        gap = "" if not self._text or self._text.endswith("\n") else self._newline
        return self._text + gap + "".join(line + self._newline for line in lines)

    def _too_clever(self) -> ConfigError:
        return ConfigError(
            f"{self._label}: `models` is laid out too cleverly for this command; edit the file by hand"
        )


def _value(node: MappingNode, key: str) -> Node | None:
    return next((value for name, value in node.value if name.value == key), None)


def _block(entry: Mapping[str, Any], margin: str) -> list[str]:
    lines: list[str] = []
    for key, value in entry.items():
        first, *rest = _literal(value) if _is_literal(value) else [_inline(value)]
        lines.append(f"{margin}{'  ' if lines else '- '}{key}: {first}")
        lines += [f"{margin}    {line}" if line else "" for line in rest]
    return lines


def _is_literal(value: object) -> bool:
    """Whether a text is best read, and surely read back, line by line."""
    if not isinstance(value, str) or "\n" not in value or len(value) < _WIDE:
        return False
    lines = value.removesuffix("\n").split("\n")
    clean = all(line.isprintable() and line == line.rstrip() for line in lines)
    return clean and bool(lines[0]) and not lines[0].startswith(" ") and bool(lines[-1])


def _literal(text: str) -> list[str]:
    return ["|" if text.endswith("\n") else "|-", *text.removesuffix("\n").split("\n")]


def _flow(entry: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{_scalar(key)}: {_inline(value)}" for key, value in entry.items()) + "}"


def _inline(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, Mapping):
        return _flow(value)
    return _scalar(value)


def _scalar(value: object) -> str:
    """A value on one line; text in quotes, as JSON has them, unless it is plainly a word."""
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _SPECIAL:
        return value
    # JSON leaves control characters above U+007F and line separators as they are, YAML forbids some of them.
    said = orjson.dumps(value).decode()
    return "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in said)
