"""The audit finds every corruption that is planted in a table, and nothing where there is none."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from fairturn.deadline import Deadline
from fairturn.edges.in_force import InForce
from fairturn.edges.items import claim_item, deserialize, packed, serialize
from fairturn.errors import OutOfTime, TableUnavailable
from fairturn.rules.events import Kind, Message
from fairturn.rules.findings import AUDIT_EVERY, Checkpoint, What
from fairturn.rules.ledger import Claim, Ledger
from fairturn.rules.policy import OWNER, Priority
from fairturn.rules.record import State, milliseconds
from fairturn.rules.routing import Lead, Route
from fairturn.steps.audit import MOST_TRIES, Audit, Report, audit_table, read_loads
from fairturn.steps.claim import Candidate
from fairturn.telemetry import logger
from tests.integration.audit import audit, findings, read
from tests.integration.world import ROTA, World, deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.rules.findings import Finding
    from fairturn.rules.record import Record
    from fairturn.rules.terms import Terms

TABLE: Final = "fairturn"
DAY: Final = AUDIT_EVERY / 1000


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    with World(dynamodb, TABLE) as world:
        yield world


def key(pk: str, sk: str) -> dict[str, Any]:
    return serialize({"pk": pk, "sk": sk})


def journal_key(version: int) -> dict[str, Any]:
    return key(f"ROTA#{ROTA}", f"CLAIM#{version:012d}")


def item(world: World, where: Mapping[str, Any]) -> dict[str, Any]:
    return deserialize(world.dynamodb.get_item(TableName=TABLE, Key=where, ConsistentRead=True)["Item"])


def put(world: World, what: Mapping[str, Any]) -> None:
    world.dynamodb.put_item(TableName=TABLE, Item=serialize(what))


def change_item(world: World, where: Mapping[str, Any], **changed: Any) -> None:
    put(world, item(world, where) | changed)


def change_record(world: World, lead: str, **changed: Any) -> None:
    change_item(world, key(f"LEAD#contact#{lead}", "RECORD"), **changed)


def change_ledger(world: World, changed: Callable[[Ledger], Ledger]) -> None:
    ledger = changed(world.store.read([ROTA], []).ledgers[ROTA])
    books = packed({"balances": ledger.balances, "last": ledger.last, "grace": ledger.grace})
    change_item(world, key(f"ROTA#{ROTA}", "LEDGER"), version=ledger.version, turns=ledger.turns, books=books)


def change_journal(world: World, version: int, changed: Callable[[Claim], Claim]) -> None:
    claim = world.store.journal(ROTA, version)
    assert isinstance(claim, Claim)
    change_item(world, journal_key(version), **claim_item(changed(claim)))


def add_load(world: World, rep: str, leads: int) -> None:
    where = key("LOADS", "LOADS")
    change_item(world, where, **{rep: item(world, where).get(rep, 0) + leads})


def other(world: World, rep: str | None) -> str:
    return next(each for each in world.reps if each != rep)


def record(world: World, lead: str) -> Record:
    found = world.record(lead)
    assert found is not None
    return found


@dataclass
class Told:
    """A table after a busy day, and what its leads have become."""

    world: World
    handed: list[str]
    claimed: str
    """Claimed, not handed over."""
    back: str
    """Its turn has gone back."""


@pytest.fixture
def told(world: World) -> Told:
    handed = world.arrive(6)
    for start in range(0, 6, 2):
        assert world.take(handed[start : start + 2]) == []
    (back,) = world.arrive()
    world.take([back])
    world.later(60)
    world.portal.change(back, {OWNER: other(world, world.owner(back))})
    world.follow(back)
    assert record(world, back).claim is None
    more = world.arrive()
    world.take(more)
    (claimed,) = world.arrive()
    claim_alone(world, claimed)
    world.passed_on("changes")
    return Told(world, [*handed, *more], claimed, back)


def claim_alone(world: World, lead: str) -> None:
    """Claim a lead as a worker does that dies before it hands it over."""
    message = Message(id=lead, kinds=(Kind.CREATION,), occurred_at=milliseconds(world.at), change_source="FORM")
    snapshot = world.store.read([ROTA], [("contact", lead)])
    route = Route(ROTA, "any", Priority.NORMAL, "otherwise", "")
    candidate = Candidate(snapshot.records.of(lead), Lead(message, {}), route, 1, {})
    world.services().claimer.claim(ROTA, [candidate], terms(world), snapshot.ledgers[ROTA], snapshot.loads)


def terms(world: World) -> Terms:
    return InForce(world.store, clock=world.clock).current()


def audit_of(world: World) -> Audit:
    return Audit(world.store, world.crm, world.changes, lambda: world.at)


def checkpoint(world: World) -> Checkpoint:
    mark = world.store.checkpoint()
    assert mark is not None
    return mark


Plant = Callable[[Told], Any]


@dataclass(frozen=True)
class Corruption:
    """What is wrong with a table, and what an audit says of it."""

    plant: Plant
    what: What
    says: str
    """Part of a sentence."""
    daily: bool = True
    """Whether the daily audit finds it, which looks at no more than a day."""


def shift(ledger: Ledger, *units: int) -> Ledger:
    """The ledger with so much more for the first reps of its only lane."""
    ((lane, row),) = ledger.balances.items()
    more = {rep: row[rep] + each for rep, each in zip(sorted(row), units, strict=False)}
    return replace(ledger, balances={lane: {**row, **more}})


def first_given(claim: Claim, **changed: Any) -> Claim:
    return replace(claim, leads=(claim.leads[0]._replace(**changed), *claim.leads[1:]))


CORRUPTIONS = {
    "a lane does not sum to 0": Corruption(
        lambda told: change_ledger(told.world, lambda ledger: shift(ledger, 1)),
        What.LANE,
        "lane any sum to 1, not to 0",
    ),
    "a balance is another, though the lane sums to 0": Corruption(
        lambda told: change_ledger(told.world, lambda ledger: shift(ledger, 1, -1)),
        What.LEDGER,
        "not what its journals make of it: in lane any the rep",
    ),
    "a last turn is another": Corruption(
        lambda told: change_ledger(told.world, lambda ledger: replace(ledger, last=dict.fromkeys(ledger.last, 1))),
        What.LEDGER,
        "in the last turns the rep",
    ),
    "grace was given as a present": Corruption(
        lambda told: change_ledger(told.world, lambda ledger: replace(ledger, grace={})), What.LEDGER, "in the grace"
    ),
    "the ledger is an older one": Corruption(
        lambda told: change_ledger(told.world, lambda ledger: replace(ledger, version=ledger.version - 1)),
        What.LEDGER,
        "there is a journal of a later one",
    ),
    "a journal is missing": Corruption(
        lambda told: told.world.dynamodb.delete_item(TableName=TABLE, Key=journal_key(2)),
        What.JOURNAL,
        "the journal of version 2 is missing",
    ),
    "two journals are missing": Corruption(
        lambda told: [told.world.dynamodb.delete_item(TableName=TABLE, Key=journal_key(each)) for each in (2, 3)],
        What.JOURNAL,
        "the journals of the versions 2 to 3 are missing",
    ),
    "the last journal is missing": Corruption(
        lambda told: told.world.dynamodb.delete_item(TableName=TABLE, Key=journal_key(7)),
        What.JOURNAL,
        "the journal of version 7 is missing",
    ),
    "a giving back is missing": Corruption(
        lambda told: told.world.dynamodb.delete_item(TableName=TABLE, Key=journal_key(5)),
        What.JOURNAL,
        "the journal of version 5 is missing",
    ),
    "a journal can't be read": Corruption(
        lambda told: change_item(told.world, journal_key(2), journal=b"nonsense"),
        What.JOURNAL,
        "the journal of version 2 can't be read",
    ),
    "a journal gives to somebody else": Corruption(
        lambda told: change_journal(
            told.world, 2, lambda claim: first_given(claim, winner=other(told.world, claim.leads[0].winner))
        ),
        What.JOURNAL,
        "by its own journal it is",
    ),
    "a journal gives to nobody whom it knows": Corruption(
        lambda told: change_journal(told.world, 2, lambda claim: first_given(claim, winner="1")),
        What.JOURNAL,
        "to 1, by its own journal",
    ),
    "a journal rests on another ledger": Corruption(
        lambda told: change_journal(told.world, 3, lambda claim: replace(claim, before=shift(claim.before, 7, -7))),
        What.JOURNAL,
        "the claim 3 does not rest on what version 2 made: in lane any the rep",
    ),
    "a journal tells of other members": Corruption(
        lambda told: change_journal(told.world, 3, lambda claim: replace(claim, members={})),
        What.JOURNAL,
        "the claim 3 ",
    ),
    "a journal names another lead": Corruption(
        lambda told: change_journal(told.world, 2, lambda claim: first_given(claim, lead="contact#1")),
        What.CLAIM,
        "it names claim 2 of inbound, which has not booked it",
    ),
    "a giving back names another lead": Corruption(
        lambda told: change_item(told.world, journal_key(5), leads=[["contact#1", 4, True]]),
        What.JOURNAL,
        "version 5 gives back contact#1, which claim 4 has not booked",
    ),
    "a load is one too high": Corruption(
        lambda told: add_load(told.world, told.world.reps[0], 1), What.LOAD, "which is 1 too high"
    ),
    "a load is one too low": Corruption(
        lambda told: add_load(told.world, told.world.reps[0], -1), What.LOAD, "which is 1 too low"
    ),
    "somebody has a load who holds nothing": Corruption(
        lambda told: add_load(told.world, "999", 2), What.LOAD, "the load is 2, which is 2 too high"
    ),
    "a record is another rep's": Corruption(
        lambda told: change_record(told.world, told.handed[0], rep="999"), What.CLAIM, "it is rep 999's, and claim 1"
    ),
    "a record is another rep's, and counts there": Corruption(
        lambda told: change_record(told.world, told.handed[0], rep="999"),
        What.LOAD,
        "the load is 0, which is 1 too low",
    ),
    "a record has vanished": Corruption(
        lambda told: told.world.dynamodb.delete_item(
            TableName=TABLE, Key=key(f"LEAD#contact#{told.handed[0]}", "RECORD")
        ),
        What.LOAD,
        "which is 1 too high",
    ),
    "a record can't be read": Corruption(
        lambda told: change_record(told.world, told.handed[0], state="lost"), What.RECORD, "cannot read the record"
    ),
    "a record names a claim that there is not": Corruption(
        lambda told: change_record(told.world, told.handed[0], claim=5), What.CLAIM, "of which there is no journal"
    ),
    "a record names another claim": Corruption(
        lambda told: change_record(told.world, told.handed[0], claim=2), What.CLAIM, "which has not booked it"
    ),
    "a record names no claim": Corruption(
        lambda told: change_record(told.world, told.handed[0], claim=None), What.CLAIM, "by a claim, and names none"
    ),
    "a record names a claim whose turn went back": Corruption(
        lambda told: change_record(told.world, told.back, claim=4), What.CLAIM, "whose turn has gone back"
    ),
    "a claimed record is none of an unfinished claim": Corruption(
        lambda told: told.world.store.finish(
            ROTA, record(told.world, told.claimed).claim or 0, milliseconds(told.world.at)
        ),
        What.CLAIM,
        "sweep does not look at its claim any more",
    ),
    "two records share a booking": Corruption(
        lambda told: put(
            told.world,
            item(told.world, key(f"LEAD#contact#{told.handed[0]}", "RECORD"))
            | {"pk": "LEAD#contact#1", "id": "1", "booked_as": f"contact#{told.handed[0]}"},
        ),
        What.CLAIM,
        "they share one booking, of claim 1 of inbound",
    ),
    "a lead was booked twice in one round": Corruption(
        lambda told: change_journal(told.world, 7, lambda claim: first_given(claim, lead=f"contact#{told.handed[0]}")),
        What.TURNS,
        "it came 1 times, and 2 bookings of it stand",
        daily=False,
    ),
}


def daily(world: World, mark: Checkpoint | None = None) -> list[Finding]:
    """What the audit of this day finds."""
    mark = (mark or Checkpoint(began_at=0, done=True)).next(milliseconds(world.at), [ROTA])
    found: list[Finding] = []
    while not mark.done:
        mark, report = audit_of(world)._go_on(mark, terms(world), deadline(50))
        found += report.findings
    world.store.note_checkpoint(mark)
    return found


def whole(world: World) -> Report:
    return audit_table(world.store, milliseconds(world.at), deadline(50))


def of(found: list[Finding], corruption: Corruption) -> list[str]:
    """The sentences that are about a corruption."""
    return [each.says for each in found if each.what is corruption.what and corruption.says in each.says]


def test_nothing_is_found_in_a_table_in_which_all_is_as_it_must_be(told: Told) -> None:
    assert whole(told.world) == Report(rotas=1, versions=7, records=9)
    assert daily(told.world) == []
    assert findings(read(told.world.dynamodb, TABLE, told.world.store)) == []


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_planted_corruption_is_found_and_named_by_every_audit(told: Told, name: str) -> None:
    corruption = CORRUPTIONS[name]
    corruption.plant(told)
    report = whole(told.world)
    assert of(report.findings, corruption), report
    assert all(each.do and each.where for each in report.findings)
    with pytest.raises((AssertionError, KeyError, zlib.error)):
        audit(read(told.world.dynamodb, TABLE, told.world.store))
    assert bool(of(daily(told.world), corruption)) is corruption.daily


# From day to day


def test_the_next_day_begins_with_the_last_claim_so_that_the_chain_has_no_gap(told: Told) -> None:
    world = told.world
    assert daily(world) == []
    mark = checkpoint(world)
    assert (mark.upto, mark.since) == ({ROTA: 7}, {ROTA: 1})
    change_journal(world, 7, lambda claim: replace(claim, before=shift(claim.before, 7, -7)))
    world.take(world.arrive())
    assert {each.what for each in daily(world, mark)} == {What.JOURNAL}
    assert checkpoint(world).since == {ROTA: 7}


def test_what_was_audited_is_not_replayed_again(told: Told) -> None:
    world = told.world
    assert daily(world) == []
    world.dynamodb.delete_item(TableName=TABLE, Key=journal_key(2))
    world.take(world.arrive())
    assert daily(world, checkpoint(world)) == []
    assert whole(world).findings != []


def test_what_comes_back_the_next_day_is_replayed_with_its_claim_of_the_day_before(told: Told) -> None:
    world, lead = told.world, told.handed[-1]
    assert daily(world) == []
    world.portal.change(lead, {OWNER: other(world, world.owner(lead))})
    world.follow(lead)
    assert record(world, lead).claim is None
    world.take(world.arrive())
    assert daily(world, checkpoint(world)) == []
    change_record(world, lead, claim=6)
    assert [each.says for each in daily(world, Checkpoint(0, done=True, upto={ROTA: 7}))] == [
        "it names claim 6 of inbound, whose turn has gone back"
    ]


def test_a_long_replay_is_gone_on_with_by_the_next_run(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairturn.edges.store.MAX_KEYS", 2)
    world = told.world
    auditing, mark = audit_of(world), Checkpoint(0, done=True).next(1, [ROTA])
    steps: list[Mapping[str, int]] = []
    while mark.left:
        mark, report = auditing._go_on(mark, terms(world), three_requests())
        steps.append(mark.upto)
        assert report.findings == []
    assert steps == [{ROTA: 4}, {ROTA: 7}]
    assert mark.since == {ROTA: 1}


def three_requests() -> Deadline:
    left = iter([50.0, 50.0])
    return Deadline(lambda: next(left, 0.0))


def test_a_replay_begins_with_the_oldest_claim_that_is_kept(told: Told) -> None:
    world = told.world
    expire(world, 1, 2)
    assert whole(world).findings == []
    assert daily(world) == []
    assert checkpoint(world).since == {ROTA: 3}
    world.dynamodb.delete_item(TableName=TABLE, Key=journal_key(1))  # DynamoDB deletes in any order
    assert whole(world) == Report(rotas=1, versions=5, records=9)


def test_what_gives_back_a_claim_that_has_expired_is_left_out_and_named(told: Told) -> None:
    world = told.world
    expire(world, 1, 2, 3, 4)
    world.dynamodb.delete_item(TableName=TABLE, Key=journal_key(4))
    report = whole(world)
    assert report.findings == []
    assert report.notes == [
        "inbound: version 5 is not replayed, as it gives back what claim 4 booked, whose journal is not kept."
    ]
    assert daily(world) == []


def test_a_rota_without_any_journal_left_is_named(told: Told) -> None:
    expire(told.world, *range(1, 8))
    report = whole(told.world)
    assert (report.findings, report.notes) == ([], ["inbound: no journal is kept."])


def expire(world: World, *versions: int) -> None:
    for version in versions:
        change_item(world, journal_key(version), ttl=milliseconds(world.at) // 1000 + 60)


# HubSpot


def test_what_hubspot_shows_otherwise_is_followed_and_is_no_finding_yet(told: Told) -> None:
    world, lead = told.world, told.handed[0]
    world.portal.change(lead, {OWNER: other(world, world.owner(lead))})
    assert daily(world) == []
    assert told_of(world) == [lead]
    world.follow(lead)
    assert record(world, lead).rep == world.owner(lead)


@pytest.mark.parametrize(("hours", "is_found"), [(0.9, False), (1.1, True)])
def test_what_nobody_has_told_of_for_long_is_found(told: Told, hours: float, *, is_found: bool) -> None:
    world, lead = told.world, told.handed[0]
    world.later(DAY)
    world.portal.change(lead, {OWNER: other(world, world.owner(lead))})
    world.later(hours * 3600)
    found = daily(world)
    assert [(each.what, each.where) for each in found] == [(What.HUBSPOT, f"contact#{lead}")] * is_found
    assert told_of(world) == [lead]


def test_a_record_that_has_moved_today_is_no_finding_however_old_hubspots_side_is(told: Told) -> None:
    world, lead = told.world, told.handed[0]
    world.later(DAY)
    world.portal.change(lead, {OWNER: other(world, world.owner(lead))})
    world.later(7200)
    change_record(world, lead, changed_at=milliseconds(world.at))
    assert daily(world) == []
    assert told_of(world) == [lead]


def test_a_contact_that_hubspot_does_not_show_is_named_and_no_more(told: Told) -> None:
    world, lead = told.world, told.handed[0]
    world.portal.delete(lead)
    world.later(2 * DAY)
    mark, report = Checkpoint(0, counted=True, sample=(f"contact#{lead}",)), Report()
    after = audit_of(world)._compare(mark, terms(world), deadline(50), report)
    assert after.sample == ()
    assert report == Report(
        compared=1, notes=[f"contact#{lead}: HubSpot does not show it, and its deletion was not told."]
    )
    assert told_of(world) == []


def test_each_day_has_its_own_sample_of_at_most_97(world: World) -> None:
    for _ in range(2):
        world.take(world.arrive(80))
    samples = []
    for _ in range(3):
        mark, _ = audit_of(world)._go_on(Checkpoint(0), terms(world), deadline(50))
        again, _ = audit_of(world)._go_on(Checkpoint(0), terms(world), deadline(50))
        assert mark.sample == again.sample
        samples.append(mark.sample)
        world.later(DAY)
    assert [len(set(sample)) for sample in samples] == [97, 97, 97]
    assert len(set(samples)) == 3


def told_of(world: World) -> list[str]:
    return sorted(json.loads(each.body)["id"] for each in world.passed_on("changes"))


# As sweep runs it


def lines(caplog: Captured) -> list[dict[str, Any]]:
    return [each for each in caplog() if each["message"] in {"found by the audit", "audited"}]


Captured = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Captured:
    """What was logged since the last look."""
    output = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", output)

    def since() -> list[dict[str, Any]]:
        said = [json.loads(line) for line in output.getvalue().splitlines()]
        output.truncate(0)
        output.seek(0)
        return [line for line in said if "message" in line]

    return since


def test_the_first_audit_is_made_a_day_after_the_installation_and_then_once_a_day(told: Told, logged: Captured) -> None:
    world = told.world
    made = []
    for _ in range(5):
        world.sweep.run()
        made.append([each["done"] for each in lines(logged)])
        world.later(DAY / 2)
    first = [False, False, False, True]
    assert made == [[], [], first, [], first]


def test_a_finding_is_an_error_in_the_log_and_counted(
    told: Told, logged: Captured, capsys: pytest.CaptureFixture[str]
) -> None:
    world = told.world
    world.sweep.run()
    add_load(world, "999", 2)
    world.later(DAY)
    world.sweep.run()
    (line, *_) = (each for each in logged() if each["message"] == "found by the audit")
    assert (line["level"], line["what"], line["where"]) == ("ERROR", "load", "rep 999")
    assert line["says"] == "the load is 2, which is 2 too high"
    assert "fairturn reps recount" in line["do"]
    assert counted(capsys.readouterr().out) == [1.0, 0.0]


def counted(output: str) -> list[float]:
    metrics = [json.loads(line) for line in output.splitlines() if '"AuditFindings"' in line]
    return [each["AuditFindings"][0] for each in metrics]


def test_one_run_logs_20_findings_and_counts_all(
    told: Told, logged: Captured, capsys: pytest.CaptureFixture[str]
) -> None:
    world = told.world
    world.sweep.run()
    for rep in range(1, 31):
        add_load(world, str(rep), 1)
    world.later(DAY)
    world.sweep.run()
    assert len([each for each in logged() if each["message"] == "found by the audit"]) == 20
    assert counted(capsys.readouterr().out) == [30.0, 0.0]


def test_an_audit_that_comes_to_no_end_for_two_days_says_so_once_in_two_days(told: Told, logged: Captured) -> None:
    world = told.world
    world.sweep.run()
    world.portal.down(milliseconds(world.at) + 30 * 86_400_000)
    said = []
    for _ in range(9):
        world.later(DAY / 2)
        world.sweep.run()
        said.append([each["says"] for each in lines(logged) if "says" in each])
    late = ["it was not begun or not finished for two days"]
    assert [day for day, each in enumerate(said) if each] == [5]
    assert said[5] == late


def test_an_audit_that_is_held_up_does_not_hold_up_the_sign_of_life(
    told: Told, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = told.world
    world.store.note_checkpoint(Checkpoint(began_at=0, done=True))

    def fail(*_: Any) -> None:
        raise TableUnavailable("not now")

    monkeypatch.setattr(world.store, "page_of_records", fail)
    world.sweep.run()
    assert '"Swept"' in capsys.readouterr().out
    assert not checkpoint(world).counted


def test_a_table_that_can_not_be_read_in_one_run_is_told_of_and_not_tried_for_ever(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = told.world

    def fail(*_: Any) -> None:
        raise OutOfTime("no time is left in this run")

    monkeypatch.setattr(world.store, "page_of_records", fail)
    mark, tries, found = Checkpoint(0), 0, []
    while not mark.done:
        mark, report = audit_of(world)._go_on(mark, terms(world), deadline(50))
        tries += 1
        found += [each.what for each in report.findings]
    assert (tries, found) == (MOST_TRIES + 1, [What.LATE])


def test_all_records_are_not_read_without_time_for_it(told: Told) -> None:
    with pytest.raises(OutOfTime):
        audit_of(told.world)._go_on(Checkpoint(0), terms(told.world), deadline(19))


def test_the_mark_is_read_as_it_was_written(world: World) -> None:
    mark = Checkpoint(
        5, done=True, left=("a",), since={"a": 1}, upto={"b": 2}, counted=True, tries=3, sample=("x",), late_logged_at=4
    )
    world.store.note_checkpoint(mark)
    assert world.store.checkpoint() == mark


# While leads flow


def test_what_moves_between_the_two_readings_is_no_finding(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    world = told.world
    loads, moving = world.store.loads, iter(told.handed)

    def meanwhile() -> dict[str, int]:
        lead = next(moving)
        before = loads()
        world.portal.change(lead, {OWNER: other(world, world.owner(lead))})
        world.follow(lead)
        return before

    monkeypatch.setattr(world.store, "loads", meanwhile)
    reading = read_loads(world.store, deadline(50))
    assert not any(drift.is_wrong for drift in reading.drifts.values())


def test_a_wrong_load_is_found_though_leads_move_in_every_reading(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    world, (rep, *_) = told.world, told.world.reps
    add_load(world, rep, 1)
    loads = world.store.loads

    def meanwhile() -> dict[str, int]:
        before = loads()
        world.take(world.arrive())
        return before

    monkeypatch.setattr(world.store, "loads", meanwhile)
    reading = read_loads(world.store, deadline(50))
    assert reading.drifts[rep].low <= 1 <= reading.drifts[rep].high
    assert reading.drifts[rep].is_known


def test_a_record_that_has_moved_since_is_no_finding(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    world = told.world
    world.store.finish(ROTA, 7, milliseconds(world.at))
    entries = world.store.entries

    def meanwhile(claims: Any) -> Any:
        found = entries(claims)
        waiting = record(world, told.claimed)
        if waiting.state is State.CLAIMED:
            world.store.move([(waiting, waiting.handed(milliseconds(world.at)))])
        return found

    monkeypatch.setattr(world.store, "entries", meanwhile)
    assert whole(world).findings == []
