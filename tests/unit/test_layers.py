"""What import-linter's contracts cannot say. They stand in pyproject.toml, and `make check` holds them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "layers/core/fairturn/rules"
FUNCTIONS = {"intake", "assign", "track", "sweep"}
CLOCKS = {"now", "today", "utcnow"}


@pytest.mark.parametrize("path", sorted(RULES.rglob("*.py")), ids=lambda path: path.stem)
def test_a_rule_reads_no_clock(path: Path) -> None:
    methods = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert methods & CLOCKS == set()


def test_the_ledger_needs_the_standard_library_only() -> None:
    tree = ast.parse((RULES / "ledger.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name and name.split(".")[0] not in sys.stdlib_module_names} == {
        "fairturn.rules.verdict"
    }


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_function_calls_its_namesake_and_no_other_function(name: str) -> None:
    tree = ast.parse((ROOT / "functions" / name / "app.py").read_text())
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named |= {
        node.module.rpartition(".")[2] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    assert named & FUNCTIONS == {name}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_function_starts_without_what_only_the_console_needs(name: str) -> None:
    """Importing pydantic alone would be a quarter of a cold start; the layer does not even carry it."""
    script = f"import sys, functions.{name}.app; sys.exit(bool({{'pydantic', 'fairturn_console'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0  # noqa: S603


def test_intake_starts_without_what_reads_policies_and_answers() -> None:
    """HubSpot waits for what intake answers."""
    script = "import sys, functions.intake.app; sys.exit('msgspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0  # noqa: S603
