"""docs/policy.md: its examples are read, and its reference names every key and operator there is."""

from __future__ import annotations

import ast
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from fairturn_console.policy import written
from fairturn_console.policy.conditions import OPERATORS
from fairturn_console.policy.file import check
from fairturn_console.policy.hours import WrittenAbsence
from fairturn_console.policy.written import OLD_NAMES, PolicyWritten

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policy.md").read_text()
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"^```yaml( part)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TODAY = date(2026, 11, 25)
NOW = datetime(2026, 11, 25, tzinfo=UTC)
WHOLE, *OTHERS = [(part, text) for part, text in BLOCK.findall(PAGE)]


def parts(text: str) -> dict[str, str]:
    """Key at the top of a policy → its lines."""
    return {match[1]: match[0] for match in re.finditer(r"^(\w+):.*\n(?:[ #].*\n)*", text, re.MULTILINE)}


# Examples


def test_the_page_begins_with_a_whole_policy_of_eight_lines() -> None:
    part, text = WHOLE
    assert not part
    assert len(text.splitlines()) <= 8
    assert check(text, TODAY).warnings(NOW) == []


@pytest.mark.parametrize("number", range(len(OTHERS)))
def test_every_example_is_part_of_a_policy_of_which_nothing_is_doubted(number: int) -> None:
    part, text = OTHERS[number]
    assert part, "every example but the first is a part"
    together = parts(WHOLE[1]) | parts(text)
    assert "".join(parts(text).values()) == text
    assert check("".join(together.values()), TODAY).warnings(NOW) == []


def test_every_fenced_block_of_yaml_is_an_example() -> None:
    assert PAGE.count("```yaml") == len(BLOCK.findall(PAGE)) > 10


def test_the_example_of_the_readme_is_read() -> None:
    texts = [text for _, text in BLOCK.findall(README)]
    assert texts
    for text in texts:
        assert check(text, TODAY).warnings(NOW) == []


# The reference


def models(kind: Any) -> set[type[BaseModel]]:
    """Every mapping that may be in a value of this kind."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        inner = {each for field in kind.model_fields.values() for each in models(field.annotation)}
        return {kind} | inner
    return {each for argument in get_args(kind) for each in models(argument)}


def keys() -> set[str]:
    """Every key that a policy may have."""
    found = {field.alias or name for model in models(PolicyWritten) for name, field in model.model_fields.items()}
    return found - {"condition", "values"}


REFERENCE = PAGE[PAGE.index("## Reference") : PAGE.index("### What surprises")]
ROWS = [line.split(" | ")[0].removeprefix("| ") for line in REFERENCE.splitlines() if line.startswith("| `")]
NAMED = {name for row in ROWS for code in re.findall(r"`([^`]+)`", row) for name in code.partition(":")[0].split(".")}
"""What the first columns of the tables name."""


def test_every_key_is_in_the_reference() -> None:
    told = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", REFERENCE))))
    assert keys() - told == set()
    assert {"settle", "turn_back_within", "skills_from", "if_nobody", "holidays", "from", "column"} <= keys()


def test_every_operator_is_in_the_reference() -> None:
    assert set(OPERATORS) - NAMED == set()


def test_the_reference_names_no_key_and_no_operator_that_there_is_not() -> None:
    assert NAMED - keys() - set(OPERATORS) == set()
    assert NAMED.isdisjoint(OLD_NAMES)


def test_every_model_of_the_written_policy_is_looked_at() -> None:
    there = {
        each
        for each in vars(written).values()
        if isinstance(each, type) and issubclass(each, BaseModel) and each.__module__ == written.__name__
    }
    assert there <= models(PolicyWritten)
    assert WrittenAbsence in models(PolicyWritten)


# Words


def test_the_page_says_team_and_kind_of_leads() -> None:
    assert re.findall(r"(?i)\b(?:lane|rota)s?\b", PAGE) == []


def test_no_message_of_a_check_says_lane_or_rota() -> None:
    for path in sorted((ROOT / "console" / "fairturn_console" / "policy").glob("*.py")):
        tree = ast.parse(path.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docs)
        said = {str(node.value) for node in texts if isinstance(node.value, str)}
        wrong = {text for text in said - OLD_NAMES.keys() if re.search(r"\b(?:lane|rota)s?\b", text)}
        assert wrong == set(), path.name
