"""What reps and managers read about a lead: one sentence in HubSpot, and the whole story."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fairturn.rules.explain import PROPERTIES, explanation, reason, story, verdict, why
from fairturn.rules.ledger import ANY, GUARD, PAST, TURN, Booking, Claim, Given, Ledger, Member
from fairturn.rules.record import Record, State
from fairturn.rules.verdict import Code, Source, Verdict
from fairturn_console.policy import reading

POLICY = reading.read(
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
    "104": Member(verdict=Verdict(Code.AWAY, until="2026-12-31")),
}
CLAIM = Claim(
    before=Ledger(balances={"fr": {"101": TURN // 4, "102": -TURN // 4}}),
    policy=2,
    at=1_795_424_400_000,
    lanes=frozenset({"fr", ANY}),
    members=MEMBERS,
    leads=(Given("contact#55", "fr", "101"),),
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


def booking(
    lane: str = ANY, passed_over: tuple[str, ...] = (), lanes: int = 2, **owed: tuple[float, float] | float
) -> Booking:
    """A lead that went to the first of these: whom is owed how many turns, in all and of such leads."""
    both = {rep: turns if isinstance(turns, tuple) else (turns, turns) for rep, turns in owed.items()}
    return Booking(
        lane=lane,
        winner=next(iter(both)),
        shares={rep: TURN // len(both) for rep in both},
        totals={rep: round(total * TURN) for rep, (total, _) in both.items()},
        books={rep: round(book * TURN) * lanes for rep, (_, book) in both.items()},
        lanes=lanes,
        passed_over=passed_over,
    )


ONLY = "The owner was the only rep of europe on duty with room for"


@pytest.mark.parametrize(
    ("booked", "sentence"),
    [
        (booking(r1=1), f"{ONLY} it."),
        (booking("fr@60", r1=1), f"{ONLY} it and the skill fr."),
        (booking("any@60", r1=1), f"{ONLY} it."),
        (booking(passed_over=("r2",), r1=1), f"{ONLY} it, who had not had it before."),
        (booking("fr", passed_over=("r2",), r1=1), f"{ONLY} it and the skill fr, who had not had it before."),
        (
            booking("de+fr", r1=0.5, r2=0),
            (
                "Of the 2 reps of europe on duty with room for it and the skill de and fr, "
                "the owner was owed the most (0.50 of a turn)."
            ),
        ),
        (
            booking(passed_over=("r3", "r4"), r1=2, r2=0.75),
            (
                "Of the 2 reps of europe on duty with room for it, who had not had it before, "
                "the owner was owed the most (2.00 turns)."
            ),
        ),
    ],
)
def test_the_reason_is_one_sentence_without_a_name(booked: Booking, sentence: str) -> None:
    assert reason(RECORD, booked) == sentence


@pytest.mark.parametrize(
    ("booked", "sentence"),
    [
        (booking("any@20", r1=1), f"{ONLY} a lead worth 20 to 60."),
        (booking("fr@20", r1=1), f"{ONLY} a lead worth 20 to 60 and the skill fr."),
        (
            booking("any@20", r1=1, r2=0),
            (
                "Of the 2 reps of europe on duty with room for a lead worth 20 to 60, "
                "the owner was owed the most (1.00 turns)."
            ),
        ),
    ],
)
def test_the_reason_says_what_the_lead_is_worth_where_the_policy_does(booked: Booking, sentence: str) -> None:
    assert reason(replace(RECORD, worth="worth 20 to 60"), booked) == sentence


ABLE = "Of the 3 reps of europe on duty with room for it,"


def test_who_alone_is_near_enough_to_the_largest_book_is_told_it_and_not_what_they_are_owed_in_all() -> None:
    booked = booking(r1=(-3, 2), r2=(4, 0.25), r3=(1, -1))
    assert booked.considered == ["r1"]
    assert reason(RECORD, booked) == f"{ABLE} the owner was owed the most of such leads (2.00 turns)."


def test_where_some_are_near_enough_the_reason_says_how_many_and_that_the_whole_decided() -> None:
    booked = booking(r1=(3, 1), r2=(0.25, 1.5), r3=(9, -1))
    assert booked.considered == ["r1", "r2"]
    assert reason(RECORD, booked) == (
        f"{ABLE} 2 were owed the most of such leads, and of these the owner was owed the most in all (3.00 turns)."
    )


def test_where_all_are_near_enough_the_reason_needs_no_word_of_such_leads() -> None:
    booked = booking(r1=(3, 0), r2=(2, 0.5), r3=(-1, GUARD / TURN))
    assert reason(RECORD, booked) == f"{ABLE} the owner was owed the most (3.00 turns)."


@pytest.mark.parametrize(
    ("booked", "level"),
    [
        (booking(r1=(0.5, 0.25), r2=(0.25, 0.5), r3=(0, 0)), "one"),  # what counts is both together
        (booking(r1=0.5, r2=0.5, r3=0.5), "2"),
        (booking(r1=0.5, r2=0.5 + 1 / TURN, r3=0.5 - 1 / TURN), "2"),  # a turn split in three leaves a unit or two
    ],
)
def test_who_is_level_with_others_had_waited_longest(booked: Booking, level: str) -> None:
    assert reason(RECORD, booked) == (
        f"{ABLE} the owner was owed the most (0.50 of a turn), level with {level} more, and had waited longest."
    )


def test_nobody_is_level_whose_book_is_too_far_behind_to_be_considered() -> None:
    booked = booking(r1=(1, 2), r2=(1, 2), r3=(3, 0))
    assert reason(RECORD, booked) == (
        f"{ABLE} 2 were owed the most of such leads, and of these the owner was owed the most in all (1.00 turns), "
        "level with one more, and had waited longest."
    )


@pytest.mark.parametrize("lanes", [2, 7])
def test_the_sentence_is_the_same_however_many_lanes_the_rota_has(lanes: int) -> None:
    sentences = {reason(RECORD, booking(lanes=count, r1=(3, 1), r2=(3, 1), r3=(9, -1))) for count in (1, lanes)}
    assert len(sentences) == 1


def test_the_explanation_fills_every_property_and_no_other() -> None:
    told = explanation(RECORD, CLAIM.bookings()["contact#55"], POLICY)
    assert tuple(told) == PROPERTIES
    assert told["fairturn_team"] == "europe"
    assert told["fairturn_rule"] == "french"
    assert told["fairturn_priority"] == "high"
    assert told["fairturn_assigned_at"] == "2026-11-23T09:00:00Z"


@pytest.mark.parametrize(
    ("rep", "words"),
    [
        ("101", "could take it: 3 of 9 open leads, owed 1.25 turns in all, 1.25 turns of such leads"),
        ("102", "full: 9 of 9 open leads"),
        ("103", "lacks fr"),
        ("104", "away until 2026-12-31"),
    ],
)
def test_each_rep_is_told_how_they_stood(rep: str, words: str) -> None:
    assert verdict(MEMBERS[rep], CLAIM.bookings()["contact#55"], rep) == words


def test_who_had_it_before_is_told_so_unless_they_could_not_have_taken_it_anyway() -> None:
    had = ("101", "104")
    members = MEMBERS | {"102": replace(MEMBERS["102"], load=0)}
    again = replace(CLAIM, members=members, leads=(Given("contact#55", "fr", "102", had),)).bookings()["contact#55"]
    assert (again.winner, again.passed_over) == ("102", ("101",))
    assert verdict(members["101"], again, "101") == "had it before, and others could take it"
    assert verdict(members["104"], again, "104") == "away until 2026-12-31"
    assert "who had not had it before" in reason(RECORD, again)


def test_who_had_it_before_and_alone_can_take_it_could_take_it() -> None:
    again = replace(CLAIM, leads=(Given("contact#55", "fr", "101", ("101",)),)).bookings()["contact#55"]
    assert verdict(MEMBERS["101"], again, "101").startswith("could take it: 3 of 9 open leads")
    assert "before" not in reason(RECORD, again)


def test_what_is_owed_of_such_leads_is_the_lane_and_its_part_of_the_past() -> None:
    balances = {"fr@0": {"101": TURN, "102": -TURN}, PAST: {"101": TURN // 2, "102": -TURN // 2}}
    lanes = frozenset({"fr@0", "fr@60"})
    leads = (Given("contact#55", "fr@60", "101"),)
    claim = replace(CLAIM, before=Ledger(balances=balances), lanes=lanes, leads=leads)
    told = verdict(MEMBERS["101"], claim.bookings()["contact#55"], "101")
    assert told == "could take it: 3 of 9 open leads, owed 2.50 turns in all, 1.25 turns of such leads"


def test_a_band_of_worth_is_no_skill_that_a_rep_may_lack() -> None:
    lanes = frozenset({"any@0", "any@60", "fr@60"})
    french = replace(CLAIM, lanes=lanes, leads=(Given("contact#55", "fr@60", "101"),)).bookings()["contact#55"]
    assert verdict(MEMBERS["103"], french, "103") == "lacks fr"
    anyones = replace(CLAIM, lanes=lanes, leads=(Given("contact#55", "any@60", "103"),)).bookings()["contact#55"]
    assert verdict(MEMBERS["103"], anyones, "103").startswith("could take it: 1 open leads")


def test_the_story_names_the_rules_tried_the_reps_and_the_winner() -> None:
    first, shown, *lines = story(replace(RECORD, shown={"country": "France"}), CLAIM, POLICY, {"101": "anna"})
    assert shown == "  Its country was France."
    lines = [first, *lines]
    assert lines[0] == "contact#55 came 2026-11-23 08:59:55 UTC (FORM), decided under policy version 2."
    assert lines[1] == '  Rule "tests" (email contains @test): no.'
    assert lines[2] == '  Rule "french" (country is France): yes.'
    assert lines[3] == "So it goes to the team europe, needs fr, priority high."
    assert lines[4].startswith("  anna: could take it")
    assert lines[-1].startswith("It went to anna. The owner was the only rep")


def test_the_story_says_so_where_the_journal_has_expired_and_tells_what_the_record_tells() -> None:
    told = story(RECORD, None, POLICY, {"101": "anna"})
    assert told[:4] == story(RECORD, CLAIM, POLICY, {})[:4]
    assert told[4:] == [
        "The journal of its claim has expired, so how the reps stood is not known any more.",
        "It is with anna now.",
    ]


@pytest.mark.parametrize(
    ("rule", "words"), [("french", 'rule "french" took it'), ("otherwise", "the catch-all took it")]
)
def test_the_story_says_so_where_the_version_of_the_policy_has_expired(rule: str, words: str) -> None:
    record = replace(RECORD, rule=rule)
    first, second, *rest = story(record, CLAIM, None, {})
    assert first.endswith("decided under policy version 2.")
    assert second == f"  That version has expired, so its conditions are not known any more: {words}."
    assert rest == story(RECORD, CLAIM, POLICY, {})[3:]


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
    claim = replace(CLAIM, leads=(Given("contact#54", ANY, "101"), *CLAIM.leads))
    assert any("101: could take it: 4 of 9" in line for line in story(RECORD, claim, POLICY, {}))


def test_the_story_says_what_the_lead_is_worth() -> None:
    claim = replace(CLAIM, lanes=frozenset({"fr@0", "fr@60"}), leads=(Given("contact#55", "fr@60", "101"),))
    lines = story(replace(RECORD, lane="fr@60", worth="worth 60 or more"), claim, POLICY, {})
    assert "So it goes to the team europe, needs fr, worth 60 or more, priority high." in lines
    assert lines[-1] == f"It went to 101. {ONLY} a lead worth 60 or more and the skill fr."


def test_the_story_of_a_lead_that_asks_for_no_skill_tells_its_worth_alone() -> None:
    claim = replace(CLAIM, lanes=frozenset({"any@0", "any@60"}), leads=(Given("contact#55", "any@60", "103"),))
    lines = story(replace(RECORD, lane="any@60", worth="worth 60 or more"), claim, POLICY, {})
    assert "So it goes to the team europe, worth 60 or more, priority high." in lines


def test_the_story_of_a_lead_that_was_taken_away_says_when_its_turn_stays_spent() -> None:
    taken = RECORD.external("900", "somebody else chose the owner", RECORD.changed_at + 60_000)
    told = story(taken, CLAIM, POLICY, {})
    assert story(taken.stays_spent(), CLAIM, POLICY, {}) == [
        *told,
        "Somebody else took it away soon after that. The turn stays spent: too many have come back lately.",
    ]


def test_the_story_of_a_lead_that_waited_says_who_shared_in_it_because_they_come_on_duty_soon() -> None:
    members = {
        "101": Member(came_lately=True),
        "102": Member(verdict=Verdict(Code.OFF), is_due=True),
        "103": Member(verdict=Verdict(Code.OFF)),
    }
    leads = (Given("contact#55", ANY, "101", is_patient=True),)
    owed = "0 open leads, owed 0.50 of a turn in all, 0.50 of a turn of such leads"
    told = story(RECORD, Claim(Ledger(), 1, 1, frozenset({ANY}), members, leads), POLICY, {})
    assert [line.strip() for line in told if line.startswith("  10")] == [
        f"101: could take it: {owed}.",
        f"102: will be on duty soon, so shares in it: {owed}.",
        "103: outside working hours.",
    ]
    assert "Of the 2 reps of europe on duty now or soon with room for it" in told[-1]


@pytest.mark.parametrize(
    ("stands", "words"),
    [
        (Verdict(), "on duty"),
        (Verdict(Code.OFF), "outside working hours"),
        (Verdict(Code.AWAY, until="2026-12-31"), "away until 2026-12-31"),
        (Verdict(Code.AWAY, until="2026-12-31T15:30"), "away until 2026-12-31 15:30"),
        (Verdict(Code.AWAY, until="2026-12-31T15:30+02:00"), "away until 2026-12-31 15:30"),
        (Verdict(Code.AWAY), "away"),
        (Verdict(Code.UNKNOWN, Source.HUBSPOT), "not known to HubSpot"),
        (Verdict(Code.DEACTIVATED, Source.HUBSPOT), "deactivated in HubSpot"),
        (Verdict(Code.REFUSED, Source.HUBSPOT), "refused by HubSpot"),
    ],
)
def test_a_verdict_is_put_into_words_when_it_is_shown(stands: Verdict, words: str) -> None:
    assert why(stands) == words


def test_there_are_words_for_every_code() -> None:
    assert all(why(Verdict(code)) for code in Code)


# Second teams, fixed owners, priorities by conditions, and names as they are written

ELSEWHERE = reading.read(
    {
        "reps": {"101": {"skills": "français"}, "102": None, "103": None},
        "teams": {"équipe française": ["101"], "日本": ["102", "103"]},
        "rules": [{"name": "partner", "when": {"property": "a", "known": True}, "owner": "103"}],
        "otherwise": {
            "team": "équipe française",
            "skills": "français",
            "priority": {"urgent": [{"property": "score", "at_least": 80}, {"property": "country", "known": True}]},
            "if_nobody": "日本",
        },
    }
)
FRENCH, JAPANESE, PARTNER = ELSEWHERE.rotas
OTHERWISE_ROUTED = replace(RECORD, rota=FRENCH, lane="francais", rule="otherwise", trace="0", priority="urgent")


def goes(record: Record) -> str:
    """The line of the story that says where a lead goes."""
    lines = story(record, None, ELSEWHERE, {})
    (line,) = [line for line in lines if ", priority " in line]
    return line


def test_the_story_names_teams_and_skills_as_the_policy_writes_them_and_says_why_a_lead_is_urgent() -> None:
    assert goes(OTHERWISE_ROUTED) == (
        "So it goes to the team équipe française, needs français, priority urgent because score is at least 80, "
        "and country is known."
    )
    assert goes(replace(OTHERWISE_ROUTED, priority="normal")).endswith("needs français, priority normal.")


def test_the_story_says_when_the_second_team_got_a_lead() -> None:
    assert goes(replace(OTHERWISE_ROUTED, rota=JAPANESE, lane=ANY, priority="normal")) == (
        "Nobody of équipe française could take it, so it goes to 日本, priority normal."
    )


def test_the_story_and_the_reason_of_a_fixed_owner_name_nobody() -> None:
    fixed = replace(RECORD, rota=PARTNER, lane=ANY, rule="partner", trace="1", priority="normal")
    assert goes(fixed) == "So it goes to one fixed owner, priority normal."
    assert reason(fixed, booking(r1=1), ELSEWHERE) == 'The rule "partner" gives its leads to this one owner.'
    assert explanation(fixed, booking(r1=1), ELSEWHERE)["fairturn_team"] == "one fixed owner"


def test_the_reason_names_teams_and_skills_as_the_policy_writes_them() -> None:
    sentence = "The owner was the only rep of équipe française on duty with room for it and the skill français."
    assert reason(OTHERWISE_ROUTED, booking("francais", r1=1), ELSEWHERE) == sentence


def test_a_priority_is_explained_by_its_conditions_only_where_nothing_else_gives_it() -> None:
    def told(priority: str) -> str:
        rule = {
            "name": "french",
            "team": "europe",
            "when": {"property": "country", "equals": "France"},
            "priority": {
                "urgent": {"property": "score", "at_least": 80},
                "normal": {"property": "email", "ends_with": ".edu"},
            },
        }
        policy = reading.read({"teams": {"europe": ["101"]}, "rules": [rule], "otherwise": {"team": "europe"}})
        return next(line for line in story(replace(RECORD, priority=priority), None, policy, {}) if "priority" in line)

    assert told("urgent").endswith("priority urgent because score is at least 80.")
    assert told("normal").endswith("priority normal.")


def test_the_owner_of_a_fixed_owner_rule_is_told_the_rule() -> None:
    fixed = replace(RECORD, rota="owner-12345678")
    assert reason(fixed, booking(r1=1)) == 'The rule "french" gives its leads to this one owner.'
    assert reason(replace(fixed, rule="otherwise"), booking(r1=1)) == "Leads that no rule takes go to this one owner."
