"""The ledger of the contract is complete, and what it names is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from contract import DIFFERENT, GOTCHAS, NOT_SHOWN, SHOWN
from shared import SHARED

HERE = Path(__file__).parent
NAMED = sorted({name for _, _, where in (*SHOWN, *DIFFERENT) for name in where.split()}
               | {name for where in GOTCHAS.values() for name in re.findall(r"\w+::\w+", where)})  # fmt: skip


@cache
def defined_in(file: str) -> set[str]:
    tree = ast.parse((HERE / f"test_{file}.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("named", NAMED)
def test_what_is_named_exists(named):
    """A test that was renamed or removed leaves a fact without proof."""
    file, _, name = named.partition("::")
    assert f"test_{name}" in defined_in(file)


def test_every_fact_is_proved_or_excused():
    """No row without words, and none twice."""
    rows = [*SHOWN, *DIFFERENT, *NOT_SHOWN]
    assert all(section and fact and where for section, fact, where in rows)
    assert len({row[:2] for row in rows}) == len(rows)
    assert list(GOTCHAS) == list(range(1, 69))
    assert all(re.search(r"\w+::\w+", where) for where in GOTCHAS.values())


@pytest.mark.skipif(SHARED is None, reason="../shared/spec, the contract itself, is not here")
def test_every_section_with_a_verified_fact_is_in_the_ledger():
    """Of the contract's sections, those with a ✔."""
    sections: dict[str, str] = {}
    name = ""
    for line in (SHARED / "spec" / "ollama-api.md").read_text().splitlines():
        if found := re.match(r"#{2,3} ([\d.]+?)\.? ", line):
            name = found[1]
        sections[name] = sections.get(name, "") + line
    verified = {name for name, text in sections.items() if "✔" in text} - {"0", "9"}  # the legend; `GOTCHAS`
    told = {section for section, *_ in (*SHOWN, *DIFFERENT, *NOT_SHOWN)}
    assert verified <= told, sorted(verified - told)
