"""YAML text to plain values that remember their lines; `${NAME}` and `${NAME:-default}` expand on the way.

Only plain data comes out (dict, list, str, int, float, bool, None), whatever the file holds. Who edits a file wants
the nodes themselves, with their places in the text: `compose`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ollama_bridge.config.schema import KeyPath
from ollama_bridge.errors import ConfigError
from ollama_bridge.masking import mask

_TAG: Final = "tag:yaml.org,2002:"
_CONVERTED: Final = frozenset(_TAG + name for name in ("int", "float", "bool", "null"))
# A date is text to us: nothing in the file is one.
_TEXT: Final = frozenset(_TAG + name for name in ("str", "timestamp", "value"))
_MERGE: Final = _TAG + "merge"

_MOST_NODES: Final = 100_000
"""Ten aliases of ten aliases of … is a small file and a large memory."""

_VARIABLE: Final = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(slots=True)
class Tree:
    """One file's values.

    Args:
        data: What the file says, variables expanded.
        lines: Line of each key and list item, the first line being 1.
        expanded: Places whose text came out of a variable, and so may be a secret.
    """

    data: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    expanded: set[KeyPath] = field(default_factory=set)


def compose(text: str, label: str) -> Node | None:
    """The document's nodes; None for an empty one.

    Args:
        text: The file as it stands.
        label: What to call it in errors.

    Raises:
        ConfigError: It is no YAML.
    """
    try:
        node: Node | None = _loader().compose(text)
    except MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{label}{line}: not valid YAML: {mask(exc.problem or 'syntax error')}") from None
    except (YAMLError, ValueError, AttributeError, TypeError):
        # Characters that YAML forbids, and malformed directives on which ruamel trips over itself.
        raise ConfigError(
            f"{label}: not valid YAML: it holds characters or directives YAML forbids"
        ) from None
    except RecursionError:
        raise ConfigError(f"{label}: nested too deeply") from None
    return node


def read(text: str, label: str, variables: Mapping[str, str] | None) -> Tree:
    """All values of a file.

    Args:
        text: The file as it stands.
        label: What to call it in errors.
        variables: What `${NAME}` stands for; None: leave it as it is.

    Raises:
        ConfigError: It is no YAML, says a key twice, or wants a variable that is not set.
    """
    root = compose(text, label)
    reader = _Reader(label, variables)
    if root is not None:
        try:
            reader.tree.data = reader.value(root, ())
        except RecursionError:
            raise ConfigError(f"{label}: nested too deeply") from None
    return reader.tree


def _loader() -> YAML:
    return YAML(typ="safe", pure=True)


class _Reader:
    def __init__(self, label: str, variables: Mapping[str, str] | None) -> None:
        self.tree = Tree()
        self._label = label
        self._variables = variables
        self._constructor = _loader().constructor
        self._open: set[int] = set()
        self._nodes = 0

    def value(self, node: Node, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise self._error(node, f"more than {_MOST_NODES} values")
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if id(node) in self._open:
            raise self._error(node, "an alias that contains itself")
        self._open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return self._sequence(node, path)
            if isinstance(node, MappingNode):
                return self._mapping(node, path)
            raise self._error(node, "neither a value nor a list nor a mapping")
        finally:
            self._open.discard(id(node))

    def _sequence(self, node: SequenceNode, path: KeyPath) -> list[Any]:
        items = []
        for index, item in enumerate(node.value):
            self.tree.lines[(*path, index)] = item.start_mark.line + 1
            items.append(self.value(item, (*path, index)))
        return items

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self._error(key_node, "a key must be a word")
            if key_node.tag == _MERGE:
                for name, value in self._merged(value_node, path).items():
                    merged.setdefault(name, value)
                continue
            key = str(key_node.value)
            if key in own:
                raise self._error(key_node, f"the key '{mask(key)}' stands here twice")
            self.tree.lines[(*path, key)] = key_node.start_mark.line + 1
            own[key] = self.value(value_node, (*path, key))
        return {**merged, **own}

    def _merged(self, node: Node, path: KeyPath) -> dict[str, Any]:
        parts = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, MappingNode):
                raise self._error(node, "'<<' takes in mappings only")
            for name, value in self.value(part, path).items():
                merged.setdefault(name, value)
        return merged

    def _scalar(self, node: ScalarNode, path: KeyPath) -> Any:
        if node.tag in _CONVERTED:
            try:
                return self._constructor.construct_object(node)
            except (ValueError, OverflowError, KeyError):
                raise self._error(node, "a number that cannot be read") from None
        if node.tag not in _TEXT:
            raise self._error(node, f"the tag '{mask(str(node.tag))}' means nothing here")
        text = str(node.value)
        if self._variables is None or "${" not in text:
            return text
        variables = self._variables
        self.tree.expanded.add(path)
        return _VARIABLE.sub(lambda found: self._variable(found, variables, node), text)

    def _variable(self, found: re.Match[str], variables: Mapping[str, str], node: Node) -> str:
        if found[0] == "$${":
            return "${"
        name, colon, default = found[1].partition(":-")
        if not found[2] or not _VARIABLE_NAME.match(name):
            raise self._error(
                node, "'${' begins a variable, as in ${NAME} or ${NAME:-default}; write '$${' for the signs"
            )
        value = variables.get(name)
        if colon:
            return value or default
        if value is None:
            raise self._error(
                node, f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
            )
        return value

    def _error(self, node: Node, message: str) -> ConfigError:
        return ConfigError(f"{self._label}:{node.start_mark.line + 1}: {message}")
