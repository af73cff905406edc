"""Arrows go one way: functions → services → their steps → store, queues, crm, credentials → pure modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "layers/core/fairturn"

PURE = {
    "signature",
    "policy",
    "routing",
    "roster",
    "verdict",
    "ledger",
    "record",
    "explain",
    "events",
    "errors",
    "brake",
    "strays",
    "findings",
}
EDGES = {"store", "queues", "crm", "credentials"}
STEPS = {"claim", "handover", "consumer", "reconcile", "audit"}
SERVICES = {"intake", "assign", "track", "sweep"}
CALLS = {"sweep": {"assign"}}
"""The services that a service calls: none, but sweep has waiting leads allotted as assign does it."""
SURROUNDINGS = {"settings", "telemetry", "deadline"}
WIRING = "wiring"
"""What puts the services together. Only functions know it."""
FUNCTIONS = {"intake", "assign", "track", "sweep"}

OUTSIDE = {
    "asyncio",
    "logging",
    "os",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "threading",
    "time",
    "uuid",
}
"""Modules of the standard library that know the clock, the environment, chance or the machine."""
CLOCKS = {"now", "today", "utcnow"}
LIBRARIES_OF_PURE = {"pydantic", "pydantic_core"}
CLIENTS = {"boto3", "botocore", "hubspot", "requests", "urllib3"}


def source(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def module(name: str) -> ast.Module:
    return source(PACKAGE / f"{name}.py")


def imported(tree: ast.Module) -> set[str]:
    """The dotted names of all modules that a module imports, for types as well."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            if node.module == "fairturn":
                names |= {f"fairturn.{alias.name}" for alias in node.names}
            else:
                names.add(node.module)
    return names


def of_the_package(tree: ast.Module) -> set[str]:
    return {name.split(".")[1] for name in imported(tree) if name.startswith("fairturn.")}


def libraries(tree: ast.Module) -> set[str]:
    return {name.split(".")[0] for name in imported(tree)} - {"fairturn", "__future__"}


def test_every_module_has_its_layer() -> None:
    written = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert written == PURE | EDGES | STEPS | SERVICES | SURROUNDINGS | {WIRING}


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_module_knows_only_pure_modules(name: str) -> None:
    assert of_the_package(module(name)) <= PURE


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_module_knows_no_clock_environment_or_service(name: str) -> None:
    tree = module(name)
    assert libraries(tree) <= LIBRARIES_OF_PURE | (sys.stdlib_module_names - OUTSIDE)
    methods = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert methods & CLOCKS == set()


def test_the_ledger_needs_the_standard_library_only() -> None:
    tree = module("ledger")
    assert of_the_package(tree) == {"verdict"}
    assert of_the_package(module("verdict")) == set()
    assert libraries(tree) <= sys.stdlib_module_names


@pytest.mark.parametrize("name", sorted(EDGES))
def test_an_edge_knows_neither_services_nor_the_environment(name: str) -> None:
    assert of_the_package(module(name)) <= PURE | {"telemetry", "deadline"}
    assert "os" not in libraries(module(name))


@pytest.mark.parametrize("name", sorted(STEPS | SERVICES))
def test_a_service_takes_its_collaborators_as_arguments(name: str) -> None:
    tree = module(name)
    assert of_the_package(tree) <= PURE | EDGES | STEPS | CALLS.get(name, set()) | {"telemetry", "deadline"}
    assert libraries(tree) & (CLIENTS | {"os"}) == set()


@pytest.mark.parametrize("name", sorted(SURROUNDINGS))
def test_what_surrounds_the_services_knows_no_more_than_the_errors(name: str) -> None:
    assert of_the_package(module(name)) <= {"errors"}


def test_the_wiring_is_told_the_environment_and_decides_nothing() -> None:
    tree = module(WIRING)
    assert of_the_package(tree) <= EDGES | STEPS | SERVICES | {"settings"}
    assert "os" not in libraries(tree)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_function_calls_its_namesake_and_no_other_function(name: str) -> None:
    tree = source(ROOT / "functions" / name / "app.py")
    of_the_wiring = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call)
    }
    assert (of_the_package(tree) | of_the_wiring) & SERVICES == {name}
    assert libraries(tree) & {"app", "functions"} == set()


def test_intake_starts_without_pydantic() -> None:
    """HubSpot waits for its answer, and importing pydantic would be a quarter of a cold start."""
    script = "import sys, functions.intake.app; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0  # noqa: S603


def test_nothing_that_is_deployed_knows_the_console() -> None:
    deployed = [*PACKAGE.rglob("*.py"), *(ROOT / "functions").rglob("*.py")]
    assert [path for path in deployed if "fairturn_console" in libraries(source(path))] == []
