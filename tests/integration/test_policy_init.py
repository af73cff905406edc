"""`fairturn policy init`: a policy to begin with, after three questions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from typer.testing import CliRunner

from fairturn_console.cli import app
from tests.integration.shell import run

if TYPE_CHECKING:
    from pathlib import Path

ANSWERS: Final = ("--reps", "anna@example.com,bruno@example.com", "--zone", "Europe/Paris", "--hours", "09:00-18:00")


def test_a_policy_to_begin_with_is_written_from_options_and_passes_the_strict_check(tmp_path: Path) -> None:
    file = str(tmp_path / "policy.yaml")
    result = run("policy", "init", file, *ANSWERS)
    assert (result.exit_code, result.output) == (
        0,
        f"Wrote {file}. Look at it, then run `fairturn policy check {file}`.\n",
    )
    assert run("policy", "check", file, "--strict").exit_code == 0


def test_what_no_option_says_is_asked_until_it_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    answers = "anna\nanna@example.com\nParis\n\n9-18\n08:30-17:00\n"
    result = CliRunner().invoke(app, ["policy", "init", str(file)], input=answers)
    assert result.exit_code == 0
    assert "'anna' is no HubSpot e-mail address or owner id" in result.output
    assert "unknown time zone 'Paris'; allowed: IANA names such as Europe/Paris" in result.output
    assert "'9-18' is no time of work such as 09:00-18:00" in result.output
    assert "zone: Europe/Paris\n    hours: {mon-fri: 08:30-17:00}" in file.read_text()


def test_a_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("mine")
    result = run("policy", "init", str(file), *ANSWERS)
    assert (result.exit_code, file.read_text()) == (1, "mine")
    assert result.stderr == f"{file} is there already; name another file, or take it away first.\n"


def test_an_option_that_can_not_be_read_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    result = run("policy", "init", str(file), *ANSWERS[:-1], "9 to 5")
    assert (result.exit_code, file.exists()) == (2, False)
    assert "'9 to' is no day or range of days" in result.stderr


def test_a_policy_is_not_written_where_there_is_no_folder(tmp_path: Path) -> None:
    result = run("policy", "init", str(tmp_path / "none" / "policy.yaml"), *ANSWERS)
    assert (result.exit_code, result.stderr.endswith("can't be written: No such file or directory\n")) == (1, True)
