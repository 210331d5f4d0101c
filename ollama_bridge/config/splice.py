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

    def _entry(self, index: int) -> MappingNode:
        models = _value(self._root, "models") if isinstance(self._root, MappingNode) else None
        entry = models.value[index] if isinstance(models, SequenceNode) else None
        if not isinstance(entry, MappingNode):
            raise self._too_clever()
        return entry

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
        last = node
        while isinstance(last, SequenceNode | MappingNode) and not last.flow_style and last.value:
            last = last.value[-1] if isinstance(last, SequenceNode) else last.value[-1][1]
        end = last.end_mark.index
        if not (isinstance(last, ScalarNode) and last.style in _MANY_LINES):
            end = self._text.find("\n", end) + 1
        if end == 0:
            return self._at_end(list(lines))
        return self._inserted(end, "".join(line + self._newline for line in lines))

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
    pairs = [f"{key}: {_inline(value)}" for key, value in entry.items()]
    return [f"{margin}{'  ' if number else '- '}{pair}" for number, pair in enumerate(pairs)]


def _flow(entry: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {_inline(value)}" for key, value in entry.items()) + "}"


def _inline(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_scalar, value))}]"
    return _scalar(value)


def _scalar(value: object) -> str:
    """A value on one line; text in quotes, as JSON has them, unless it is plainly a word."""
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _SPECIAL:
        return value
    # JSON leaves control characters above U+007F and line separators as they are, YAML forbids some of them.
    said = orjson.dumps(value).decode()
    return "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in said)
