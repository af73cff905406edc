"""An operator installs the extra `console`; what only the sandbox needs may be lacking."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
CONSOLE: Final = ROOT / "console/fairturn_console"
MODULES: Final = sorted(
    ".".join(path.relative_to(CONSOLE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in CONSOLE.rglob("*.py")
)
LACKING: Final = ("moto", "flask", "flask_cors", "time_machine")


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in which the sandbox's packages cannot be imported."""
    prepared = f"import sys; sys.modules.update(dict.fromkeys({LACKING})); {program}"
    command = [sys.executable, "-c", prepared, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603


def fairturn(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run("from fairturn_console.cli import app; app()", *arguments)


def test_every_module_of_the_console_imports_without_the_sandboxs_packages() -> None:
    result = run(f"import importlib; [importlib.import_module(name) for name in {MODULES}]")
    assert (result.returncode, result.stderr) == (0, "")


def test_the_commands_are_listed_without_the_sandboxs_packages() -> None:
    result = fairturn("--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert all(name in result.stdout for name in ("policy", "dead-letters", "demo", "sandbox", "event"))


@pytest.mark.parametrize("command", ["demo", "sandbox"])
def test_a_command_of_the_sandbox_names_the_extra_that_is_not_installed(command: str) -> None:
    result = fairturn(command)
    assert (result.returncode, result.stdout) == (1, "")
    assert "is not installed; it comes with the extra `sandbox`" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_stored_event_is_printed_without_the_sandboxs_packages() -> None:
    assert fairturn("event", "lead-queued").returncode == 0
