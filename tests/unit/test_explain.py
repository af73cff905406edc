"""What reps and managers read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fairturn.explain import PROPERTIES, explanation, reason, story, verdict
from fairturn.ledger import ANY, TURN, Booking, Claim, Ledger, Member
from fairturn.policy import Policy
from fairturn.record import Record, State

POLICY = Policy.read(
    {
        "reps": {"101": {"skills": ["fr"]}, "102": {"skills": ["fr"]}, "103": None},
        "rotas": {"europe": {"members": ["101", "102", "103"]}},
        "rules": [
            {"name": "tests", "when": [{"property": "email", "contains": "@test"}], "ignore": "a test"},
            {
                "name": "french",
                "when": [{"property": "country", "equals": "France"}],
                "rota": "europe",
                "skills": ["fr"],
            },
        ],
        "otherwise": {"rota": "europe"},
    }
)
MEMBERS = {
    "101": Member(skills=frozenset({"fr"}), load=3, capacity=9),
    "102": Member(skills=frozenset({"fr"}), load=9, capacity=9),
    "103": Member(load=1),
    "104": Member(on_duty=False, why="away until 2026-12-31"),
}
CLAIM = Claim(
    before=Ledger(balances={"fr": {"101": TURN // 4, "102": -TURN // 4}}),
    policy=2,
    at=1_795_424_400_000,
    lanes=frozenset({"fr", ANY}),
    members=MEMBERS,
    leads=(("contact#55", "fr", "101"),),
)
RECORD = Record(
    type="contact",
    id="55",
    state=State.HANDED,
    rev=2,
    changed_at=1_795_424_401_000,
    occurred_at=1_795_424_395_000,
    claimed_at=1_795_424_400_000,
    source="FORM",
    rep="101",
    rota="europe",
    lane="fr",
    priority="high",
    rule="french",
    trace="0 1",
    policy=2,
    claim=1,
)


def booking(lane: str = ANY, **owed: tuple[int, int]) -> Booking:
    reps = {name.removeprefix("r"): units for name, units in owed.items()}
    return Booking(lane, next(iter(reps)), {rep: TURN // len(reps) for rep in reps}, reps)


@pytest.mark.parametrize(
    ("booked", "sentence"),
    [
        (booking(r1=(TURN, TURN)), "The owner was the only rep of europe on duty with room for it."),
        (
            booking("de+fr", r1=(TURN // 2, TURN // 2), r2=(0, 0)),
            (
                "Of the 2 reps of europe on duty with room for it and the skill de and fr, "
                "the owner was owed the most (0.50 of a turn)."
            ),
        ),
        (
            booking(r1=(TURN // 2, 0), r2=(0, TURN // 2), r3=(0, 0)),
            (
                "Of the 3 reps of europe on duty with room for it, the owner was owed the most (0.50 of a turn), "
                "level with one more, and had waited longest."
            ),
        ),
    ],
)
def test_the_reason_is_one_sentence_without_a_name(booked: Booking, sentence: str) -> None:
    assert reason("europe", booked) == sentence


def test_the_explanation_fills_every_property_and_no_other() -> None:
    told = explanation(RECORD, CLAIM.bookings()["contact#55"])
    assert tuple(told) == PROPERTIES
    assert told["fairturn_rota"] == "europe"
    assert told["fairturn_rule"] == "french"
    assert told["fairturn_priority"] == "high"
    assert told["fairturn_assigned_at"] == "2026-11-23T09:00:00Z"


@pytest.mark.parametrize(
    ("rep", "words"),
    [
        ("101", "could take it: 3 of 9 open leads, owed 1.25 turns in all, 1.25 turns in this lane"),
        ("102", "full: 9 of 9 open leads"),
        ("103", "lacks fr"),
        ("104", "away until 2026-12-31"),
    ],
)
def test_each_rep_is_told_how_he_stood(rep: str, words: str) -> None:
    assert verdict(MEMBERS[rep], CLAIM.bookings()["contact#55"], rep) == words


def test_the_story_names_the_rules_tried_the_reps_and_the_winner() -> None:
    first, shown, *lines = story(replace(RECORD, shown={"country": "France"}), CLAIM, POLICY, {"101": "anna"})
    assert shown == "  Its country was France."
    lines = [first, *lines]
    assert lines[0] == "contact#55 came 2026-11-23 08:59:55 UTC (FORM), decided under policy version 2."
    assert lines[1] == '  Rule "tests" (email contains @test): no.'
    assert lines[2] == '  Rule "french" (country is France): yes.'
    assert lines[3] == "So it goes to the rota europe, needs fr, priority high."
    assert lines[4].startswith("  anna: could take it")
    assert lines[-1].startswith("It went to anna. The owner was the only rep")


def test_the_story_says_when_no_rule_took_the_lead() -> None:
    lines = story(replace(RECORD, rule="otherwise", trace="0 0"), CLAIM, POLICY, {})
    assert lines[1:4] == [
        '  Rule "tests" (email contains @test): no.',
        '  Rule "french" (country is France): no.',
        "  No rule took it, so the catch-all did.",
    ]


def test_the_story_of_a_lead_that_a_merge_gave_another_id_is_that_of_its_booking() -> None:
    merged = replace(RECORD, id="77", booked_as="contact#55")
    first, *lines = story(merged, CLAIM, POLICY, {})
    assert first.startswith("contact#77 came")
    assert lines == story(RECORD, CLAIM, POLICY, {})[1:]


def test_the_story_counts_in_what_its_own_claim_gave_before() -> None:
    claim = replace(CLAIM, leads=(("contact#54", ANY, "101"), *CLAIM.leads))
    assert any("101: could take it: 4 of 9" in line for line in story(RECORD, claim, POLICY, {}))
