"""What a claim is said to cost before there is one, and what it costs."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from fairturn.edges.store import Store
from fairturn.rules.ledger import MOST_GRACE, PAST, TURN, Claim, Given, Ledger, Member, Offer, allot
from fairturn.rules.policy import Policy, Priority
from fairturn.rules.record import Record, new
from fairturn.rules.routing import Route
from fairturn.rules.verdict import Code, Verdict
from fairturn_console.policy import reading
from fairturn_console.policy.claim_cost import LOAD, Scales, write_units
from fairturn_console.request_units import TRANSACTIONAL, units


def policy(reps: int, bands: int = 0) -> Policy:
    keys = [str(number) for number in range(reps)]
    worth = {"property": "score", "bands": list(range(1, bands))} if bands else None
    return reading.read(
        {
            "leads": {"worth": worth},
            "reps": dict.fromkeys(keys),
            "rotas": {"inbound": {"members": keys}},
            "otherwise": {"rota": "inbound"},
        }
    )


def test_a_claim_in_a_small_rota_writes_four_items_of_one_unit_twice_each_and_the_entry_of_an_index() -> None:
    assert write_units(policy(5), "inbound") == 8 + 1


def test_every_lead_of_a_claim_adds_its_record_and_its_part_of_the_journal() -> None:
    assert write_units(policy(5), "inbound", leads=10) == 9 + 9 * 2
    assert write_units(policy(20, 3), "inbound") == 9
    assert write_units(policy(20, 3), "inbound", leads=25) == 9 + 24 * 2 + 2


@pytest.mark.parametrize(("reps", "bands"), [(100, 5), (500, 2), (500, 6)])
def test_each_number_is_written_as_some_bytes_to_the_ledger_and_fewer_to_the_journal(reps: int, bands: int) -> None:
    numbers = reps * (bands + 2)  # a balance in each lane and one from the past, and when they last got a lead
    kilobytes = (
        numbers * (8.5 + 5) + reps * (9 + 12)
    ) / 1024  # the journal also says how each rep stood; and the loads
    assert write_units(policy(reps, bands), "inbound") == pytest.approx(4 + 2 * kilobytes, rel=0.15)


def test_the_same_policy_always_costs_the_same() -> None:
    assert len({write_units(policy(200, 6), "inbound") for _ in range(3)}) == 1


@pytest.mark.parametrize(("reps", "bands"), [(5, 0), (20, 3), (100, 5), (200, 6), (500, 2), (500, 6)])
@pytest.mark.parametrize("leads", [1, 10, 50])
def test_what_is_said_is_what_a_claim_writes_but_for_a_few_in_a_hundred(reps: int, bands: int, leads: int) -> None:
    rules, random = policy(reps, bands), Random(reps + bands)
    lanes, members = rules.lanes("inbound"), [str(number) for number in random.sample(range(10**8), reps)]
    balances = {
        lane: dict(zip(members, (random.randint(-TURN, TURN) for _ in members), strict=True))
        for lane in (*sorted(lanes), PAST)
    }
    last = {rep: random.randint(119_000, 120_000) for rep in members}
    grace = {rep: random.randrange(MOST_GRACE) for rep in members[::3]}
    before = Ledger(90_000, 20, 120_000, balances, last, grace)
    seated = {
        rep: Member(
            weight=random.choice((1, 1, 2)),
            verdict=random.choice((Verdict(), Verdict(Code.OFF), Verdict(Code.AWAY, until="2026-12-31"))),
            load=random.randrange(40),
        )
        for rep in members
    }
    seated[members[0]] = Member(load=7)
    names = [str(70_000_000_000 + number) for number in range(leads)]
    offers = [Offer(random.choice(sorted(lanes))) for _ in names]
    allotment = allot(before, offers, seated, lanes)
    booked = [(new(name), booking) for name, booking in zip(names, allotment.bookings, strict=True) if booking]
    assert len(booked) == leads
    given = tuple(Given(record.key, booking.lane, booking.winner) for record, booking in booked)
    claim = Claim(before, 20, 1_795_424_400_000, lanes, seated, given)

    def claimed(record: Record, lane: str, rep: str) -> Record:
        placed = record.routed(Route("inbound", lane, Priority.NORMAL, "otherwise", ""), 20, None, {})
        return placed.claimed(rep, claim.version, "worker 1", claim.at)

    moves = [(record, claimed(record, booking.lane, booking.winner)) for record, booking in booked]
    scales = Scales()
    client: Any = scales
    Store(client, "fairturn").claim("inbound", claim, allotment.ledger, moves, {})
    real = sum(scales.units()) + TRANSACTIONAL * units(LOAD * reps)
    assert write_units(rules, "inbound", leads) == pytest.approx(real, abs=2 * TRANSACTIONAL, rel=0.06)
