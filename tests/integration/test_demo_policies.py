"""The demo runs under any valid policy: of all shapes, those of the docs, and made-up ones."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Final

import pytest
from rich.console import Console

from fairturn.rules.policy import OTHERWISE, Mode
from fairturn_console.policy import file
from fairturn_sandbox.checks import checks
from fairturn_sandbox.demo import day
from fairturn_sandbox.report import Report
from tests.integration.test_demo import LAST_LINE
from tests.shapes import FILES, SHAPES, generated, read

if TYPE_CHECKING:
    from pathlib import Path

    from fairturn.rules.policy import Policy

SAMPLE: Final = ("everybody is away", "every operator", "observe")
"""What `make test` takes."""
LEADS: Final = 20
NO_SCENE: Final = {
    "one rep": [
        "a rep who joins",
        "the team has one rep",
        "a lead that a colleague takes over",
        "the policy has one rep",
    ],
    "observe": ["the mode is observe, so nobody gets a lead"],
    "pause": ["the mode is pause, so nobody gets a lead"],
    "everybody is away": ["nobody is on duty all day"],
    "everything is ignored": ["no rule gives a lead to anybody"],
    "two reps": ["leads that are closed", "a flood from a bulk source: no rule takes leads from bulk sources"],
}
"""Shape → what the demo says of scenes that are left out."""


def played(policy: Policy, log: Path, seed: int = 3) -> tuple[str, dict[str, int]]:
    """What the demo prints of a day under a policy, and what became of its leads. Everything that has to hold does."""
    told: list[str] = []
    shown = io.StringIO()
    with day(seed, LEADS, policy, log, told.append) as (books, _):
        report = Report(books)
        report.print(Console(file=shown, width=100, highlight=False))
        assert [check.what for check in checks(books) if check.held is False] == []
        fates = LAST_LINE.fullmatch(report.last_line())
        assert fates is not None
        leads, *ends = map(int, fates.groups())
        assert leads == sum(ends) >= LEADS
        unmet = {kind.rule for kind in books.day.unmet}
        wanted = {rule.name for rule in policy.rules} | {OTHERWISE}
        assert wanted - unmet <= books.rules().keys()
    named = dict(zip(("assigned", "waiting", "dead-lettered", "dropped"), ends, strict=True))
    return "\n".join([*told, shown.getvalue()]), named


@pytest.mark.parametrize(
    "shape", [pytest.param(each, marks=[] if each in SAMPLE else [pytest.mark.exhaustive]) for each in SHAPES]
)
def test_the_day_holds_under_a_policy_of_any_shape(shape: str, tmp_path: Path) -> None:
    policy = read(shape)
    text, fates = played(policy, tmp_path / "log")
    assert [said for said in NO_SCENE.get(shape, []) if said not in text] == []
    assert re.search(r"^team +rep +leads +fair share +open leads", text, re.MULTILINE)
    nobody = policy.mode is not Mode.LIVE or shape in {"everybody is away", "everything is ignored"}
    assert (fates["assigned"] == 0) is nobody


@pytest.mark.exhaustive
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_holds_under_the_policies_that_ship_with_fairturn(path: Path, tmp_path: Path) -> None:
    _, fates = played(file.check(path).policy, tmp_path / "log")
    assert fates["assigned"] > 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(12))
def test_it_holds_under_policies_that_are_made_up(seed: int, tmp_path: Path) -> None:
    played(generated(seed), tmp_path / "log", seed)


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(10))
def test_chance_breaks_nothing(seed: int, tmp_path: Path) -> None:
    played(file.check(FILES[0]).policy, tmp_path / "log", seed)


@pytest.mark.exhaustive
def test_a_rule_that_no_lead_can_meet_is_named_in_the_report(tmp_path: Path) -> None:
    text, _ = played(read("a rule that nothing meets"), tmp_path / "log")
    assert re.search(r"^never matched +never \(no lead could be made that it takes\)\.", text, re.MULTILINE)
