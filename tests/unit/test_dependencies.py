"""What is deployed is what was tested: every dependency pinned, with hashes, the same everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LAYER = ROOT / "layers/core/requirements.txt"
TESTS = ROOT / "tests/requirements.txt"
SAM = ROOT / "tests/requirements-sam.txt"
FILES = [LAYER, TESTS, SAM]
OF_THE_RUNTIME = {"boto3", "botocore", "s3transfer"}
"""What Lambda brings along: 30 MB that the layer can do without."""

HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})(?=\s|$)")


def read_pins(path: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """The version and the hashes of each package of a requirements file."""
    pins: dict[str, tuple[str, frozenset[str]]] = {}
    for line in path.read_text().replace("\\\n", " ").splitlines():
        requirement = Requirement(HASH.sub("", line).strip())
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        pins[canonicalize_name(requirement.name)] = specifier.version, frozenset(HASH.findall(line))
    return pins


def declared(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for."""
    optional = PROJECT["optional-dependencies"]
    lines = PROJECT["dependencies"] + [line for extra in extras for line in optional[extra]]
    return [asked for line in lines if (asked := Requirement(line)).name != PROJECT["name"]]


def disagreements(wanted: list[Requirement], path: Path) -> list[str]:
    """Each dependency that a file doesn't pin, or pins to a version that pyproject.toml excludes."""
    pins = read_pins(path)
    return [
        str(requirement)
        for requirement in wanted
        if canonicalize_name(requirement.name) not in pins
        or pins[canonicalize_name(requirement.name)][0] not in requirement.specifier
    ]


def test_the_layer_pins_every_dependency_of_the_package() -> None:
    assert disagreements(declared(), LAYER) == []


def test_the_tests_pin_every_dependency() -> None:
    assert disagreements(declared(*PROJECT["optional-dependencies"]), TESTS) == []


@pytest.mark.parametrize("path", FILES, ids=["layer", "tests", "sam"])
def test_every_pin_has_its_hashes(path: Path) -> None:
    assert [name for name, (_, hashes) in read_pins(path).items() if not hashes] == []


def test_the_sam_cli_is_pinned_to_the_version_that_make_names() -> None:
    (version,) = re.findall(r"^SAM_VERSION := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert read_pins(SAM)["aws-sam-cli"][0] == version


def test_the_layer_carries_what_the_tests_ran_with() -> None:
    tested = read_pins(TESTS)
    assert {name: tested.get(name) for name in read_pins(LAYER)} == read_pins(LAYER)


@pytest.mark.parametrize("path", FILES, ids=["layer", "tests", "sam"])
def test_requirements_name_no_address(path: Path) -> None:
    assert "://" not in path.read_text()


def test_the_build_of_the_layer_takes_only_wheels_and_checks_their_hashes() -> None:
    build = (ROOT / "layers/core/build.py").read_text()
    assert '"--require-hashes", "--only-binary", ":all:", "--no-deps"' in build


def test_the_layer_leaves_out_what_the_runtime_brings_along() -> None:
    assert read_pins(LAYER).keys() & OF_THE_RUNTIME == set()
