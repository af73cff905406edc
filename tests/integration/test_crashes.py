"""A worker dies between any two effects: nothing is lost, and nothing is done twice. The messages come again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import pytest

from fairturn.errors import HubSpotUnavailable
from fairturn.rules.events import Kind, Message, lead_key
from fairturn.rules.record import State
from fairturn_sandbox.faults import BAD_GATEWAY
from tests.integration.audit import Table, audit, read
from tests.integration.inbox import Graveyard, Inbox
from tests.integration.world import ROTA, WRITES, Sweeper, Worker, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn_sandbox.records import PortalOwner

DELIVERIES: Final = 16
"""So often the messages come at most: what HubSpot does not show is put off for a quarter of an hour."""
AGAIN: Final = 300
"""Seconds after which a message that nobody took out of the queue comes again in these stories."""
MOST_POINTS: Final = 100
EFFECTS: Final = frozenset(
    {
        *("claim", "give_back", "move", "finish", "mark_unavailable"),  # the table's
        *("put_roster", "hold_back", "note_overwrite"),
        "write_owners",  # HubSpot's
        *("send", "put_back", "delete"),  # the queues'
    }
)


Made = TypeVar("Made")


class Death(BaseException):
    """The process is killed: no code of ours gets to know."""


@dataclass(slots=True)
class Fate:
    """Lets the process die once: at its n-th point, where each effect has two, before it and after it."""

    dies_at: int
    points: int = 0
    seen: set[str] = field(default_factory=set)

    def pass_by(self, name: str) -> None:
        self.seen.add(name)
        self.points += 1
        if self.points == self.dies_at:
            raise Death

    @property
    def came(self) -> bool:
        return self.points >= self.dies_at


class Mortal:
    """One of the worker's collaborators, whose effects are points to die at."""

    def __init__(self, mortal: object, fate: Fate) -> None:
        self._mortal = mortal
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._mortal, name)
        return self._fatal(name, attribute) if name in EFFECTS else attribute

    def _fatal(self, name: str, effect: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **more: Any) -> Any:
            if arguments[0] == []:
                return effect(*arguments, **more)  # about nothing: no effect
            self._fate.pass_by(name)
            result = effect(*arguments, **more)
            self._fate.pass_by(name)
            return result

        return act


def mortal(
    make: Callable[..., Made], world: World, fate: Fate, leads: object, changes: object, dead_letters: object
) -> Made:
    """A function newly started, all of whose effects are points to die at."""
    queues = {"leads": leads, "changes": changes, "dead_letters": dead_letters}
    mortals = {name: Mortal(queue, fate) for name, queue in queues.items()}
    return make(Mortal(world.store, fate), Mortal(world.crm, fate), **mortals)


class Story:
    """A batch of leads, and a worker who dies once over it."""

    table: Table
    """As it stood after the last delivery."""

    def __init__(self, world: World, lost: PortalOwner, dies_at: int) -> None:
        self.world = world
        self.fate = Fate(dies_at)
        self.inbox, self.changes = Inbox(), Inbox()
        self.graveyard = Graveyard()
        one, two, three, self.lost = world.reps
        _empty(world)
        world.portal.owners[lost.id] = lost
        world.apply(
            reps={one: None, two: {"skills": ["fr"]}, three: {"skills": ["fr"]}, self.lost: None},
            rotas={
                ROTA: {"members": world.reps},
                "west": {"members": [two, three]},
                "full": {"members": [three], "capacity": 0},
            },
            rules=[
                {"name": "tests", "when": [{"property": "lastname", "equals": "test"}], "ignore": "a test"},
                {"name": "west", "when": [{"property": "state", "equals": "CA"}], "rota": "west"},
                {"name": "full", "when": [{"property": "city", "equals": "Nowhere"}], "rota": "full"},
                {"name": "fr", "when": [{"property": "hs_language", "equals": "fr"}], "rota": ROTA, "skills": ["fr"]},
            ],
        )
        del world.portal.owners[self.lost]  # our roster doesn't know yet
        self.chosen, *_ = self.given = world.arrive(2)
        self.expected = dict.fromkeys(self.given, State.HANDED)
        self.ignored: list[str] = []
        self.odd = '{"v": 9}'

    def meet_everything(self) -> None:
        """Let the batch hold one lead of each kind."""
        self.given += [*self.world.arrive(2, state="CA"), *self.world.arrive(hs_language="fr")]
        self.ignored += self.world.arrive(lastname="test")
        (waiting,) = self.world.arrive(city="Nowhere")
        (owned,) = self.world.arrive(hubspot_owner_id=self.world.reps[0])
        (refused,) = self.world.arrive()
        self.world.portal.refuse_owners(refused, "a phone number is wanted first")
        self.expected |= dict.fromkeys(self.given, State.HANDED) | {
            waiting: State.WAITING,
            owned: State.EXTERNAL,
            refused: State.REFUSED,
            "123": State.GONE,
        }

    def begin(self, receipts: int) -> None:
        """Let the messages come, received so often before."""
        self.leads = [*self.expected, *self.ignored]
        at = int(self.world.at.timestamp() * 1000) - 1000
        kinds = (Kind.CREATION,)
        bodies = [
            Message(type="contact", id=lead, kinds=kinds, occurred_at=at, change_source="FORM").body()
            for lead in self.leads
        ]
        for body in (self.odd, *bodies):
            self.inbox.arrive(body, receipts)

    def run(self, *, then: Callable[[], None] = lambda: None) -> None:
        """Deliver until nothing is left; after the death `then` happens, and a new worker goes on."""
        worker = self.worker()
        for _ in range(DELIVERIES):
            batch = self.inbox.receive()
            if not batch:
                return
            try:
                left = worker.take(batch)
            except Death:
                worker = self.worker()
                then()
            else:
                self.inbox.delete([received for received in batch if received not in left])
            self.check_what_always_holds()
            self.world.later(AGAIN)
        assert not self.inbox.messages, "the messages come again and again"

    def worker(self) -> Worker:
        return mortal(self.world.worker, self.world, self.fate, self.inbox, self.changes, self.graveyard)

    def check_what_always_holds(self) -> None:
        """The table is sound, and each message is in the queue, dead-lettered, or its record says what counts."""
        if WRITES & self.world.requests.keys():
            self.table = read(self.world.dynamodb, "fairturn", self.world.store)
            audit(self.table)
            self.world.requests.clear()
        kept = {each.body for each in self.inbox.messages.values()} | set(self.graveyard.bodies)
        for lead in self.leads:
            if lead not in self.ignored and not any(f'"{lead}"' in body for body in kept):
                assert self.table.records[lead_key("contact", lead)].state not in {State.CLAIMED, State.REFUSED}
        assert self.odd in kept

    def check_the_end(self) -> None:
        """Each lead is where it belongs, in the table and in HubSpot."""
        records = {record.id: record for record in self.table.records.values()}
        assert {lead: record.state for lead, record in records.items()} == self.expected
        for lead, state in self.expected.items():
            if state is State.HANDED:
                assert records[lead].rep == self.world.owner(lead) != self.lost
            elif state in {State.WAITING, State.REFUSED}:
                assert self.world.owner(lead) is None
        buried = {"odd" if body == self.odd else Message.read(body).id for body in self.graveyard.bodies}
        assert buried == {"odd", *(lead for lead, state in self.expected.items() if state is State.REFUSED)}


def _empty(world: World) -> None:
    pages = world.dynamodb.get_paginator("scan").paginate(TableName="fairturn", ProjectionExpression="pk, sk")
    deletes: list[Any] = [{"DeleteRequest": {"Key": key}} for page in pages for key in page["Items"]]
    for start in range(0, len(deletes), 25):
        world.dynamodb.batch_write_item(RequestItems={"fairturn": deletes[start : start + 25]})
    world.version = 0


@pytest.fixture
def world(dynamodb: DynamoDBClient) -> Iterator[World]:
    with World(dynamodb, "fairturn", reps=4) as world:
        yield world


class Fated(Protocol):
    fate: Fate


Fatal = TypeVar("Fatal", bound=Fated)


def told(make: Callable[[int], Fatal], step: int = 1) -> Iterator[Fatal]:
    """One story for each `step`th point to die at, and one in which nobody dies."""
    for point in range(1, MOST_POINTS + step, step):
        story = make(point)
        yield story
        if not story.fate.came:
            return
    raise AssertionError("there is no end of points to die at")


def stories(world: World, step: int = 1) -> Iterator[Story]:
    lost = world.portal.owners[world.reps[3]]
    return told(lambda point: Story(world, lost, dies_at=point), step)


@pytest.fixture(params=[11, pytest.param(1, marks=pytest.mark.exhaustive)], ids=["here and there", "everywhere"])
def step(request: pytest.FixtureRequest) -> int:
    """How far one point to die at is from the next: odd, so that some come before an effect and some after one."""
    chosen: int = request.param
    return chosen


def test_wherever_a_worker_dies_each_lead_ends_where_it_belongs_and_none_is_lost(world: World, step: int) -> None:
    for story in stories(world, step):
        story.meet_everything()
        story.begin(receipts=0)
        story.run()
        story.check_the_end()
    assert story.fate.seen == {
        "claim",
        "give_back",
        "move",
        "finish",
        "mark_unavailable",
        "write_owners",
        "send",
        "put_back",
    }


def test_wherever_a_worker_dies_the_owner_whom_a_person_chooses_before_it_goes_on_stays(world: World) -> None:
    person = world.portal.add_owner("somebody@example.com")
    for story in stories(world):
        chosen = story.chosen
        story.begin(receipts=0)
        story.run(then=lambda chosen=chosen: world.portal.change(chosen, {"hubspot_owner_id": person}))  # type: ignore[misc]
        if story.fate.came:
            assert world.owner(chosen) == person
            record = story.table.records[lead_key("contact", chosen)]
            assert (record.state, record.rep) == (State.EXTERNAL, person) or record.state is State.HANDED


def test_wherever_a_worker_dies_in_an_outage_the_leads_are_given_when_it_is_over(world: World) -> None:
    for story in stories(world):
        story.begin(receipts=0)
        world.portal.faults.extend([BAD_GATEWAY] * 3)  # as often as one call is tried
        story.run()
        story.check_the_end()
    assert story.fate.seen >= {"put_back"}


def test_wherever_a_worker_dies_over_suspects_those_that_are_done_do_not_come_again(world: World) -> None:
    for story in stories(world):
        story.begin(receipts=2)
        story.run()
        story.check_the_end()
    assert story.fate.seen >= {"delete"}


CLOSED: Final = [{"property": "hs_lead_status", "reaches": ["UNQUALIFIED"]}]
IMPORTS: Final = [{"name": "imports", "when": [{"source": ["IMPORT"]}], "rota": ROTA}]
AFTERWARDS: Final[Mapping[str, Any]] = {"leads": {"closed": CLOSED, "cleared": "allot again"}, "rules": IMPORTS}
LATE: Final = 1000
"""Seconds after which a claim that was not handed over is late."""


class Sequel:
    """What comes after the assignment, and a track or a sweep that dies once over it."""

    table: Table

    def __init__(self, world: World, dies_at: int, **policy: Any) -> None:
        self.world = world
        self.fate = Fate(dies_at)
        self.leads, self.changes, self.graveyard = Inbox(), Inbox(), Graveyard()
        self.expected: dict[str, tuple[State, str | None]] = {}
        """Lead → how it ends, and whose it is then, where that is sure."""
        self.leaver = ""
        _empty(world)
        for owner in world.portal.owners.values():
            owner.archived = False
        world.apply(**policy)

    def handed(self) -> str:
        """A lead that has been handed over."""
        (lead,) = self.world.arrive()
        assert self.world.worker().take(self.world.received([lead])) == []
        return lead

    def other(self, lead: str) -> str:
        return next(rep for rep in self.world.reps if rep != self.world.owner(lead))

    def tell(self, lead: str, kind: Kind, source: str = "CRM_UI", merged: tuple[str, ...] = ()) -> None:
        at = int(self.world.at.timestamp() * 1000)
        message = Message(id=lead, kinds=(kind,), occurred_at=at, change_source=source, merged=merged)
        self.changes.arrive(message.body())

    def tracker(self) -> Worker:
        return mortal(self.world.tracker, self.world, self.fate, self.leads, self.changes, self.graveyard)

    def worker(self) -> Worker:
        return mortal(self.world.worker, self.world, self.fate, self.leads, self.changes, self.graveyard)

    def sweeper(self) -> Sweeper:
        return mortal(self.world.sweeper, self.world, self.fate, self.leads, self.changes, self.graveyard)

    def run(self, *, sweeping: bool) -> None:
        """Let each service have its turn until nothing is left; whoever dies is started anew."""
        track, assign, sweep = self.tracker(), self.worker(), self.sweeper()
        for _ in range(DELIVERIES):
            try:
                if sweeping:
                    sweep.run()
                for take, queue in ((track.take, self.changes), (assign.take, self.leads)):
                    if batch := queue.receive():
                        left = take(batch)
                        queue.delete([received for received in batch if received not in left])
            except Death:
                track, assign, sweep = self.tracker(), self.worker(), self.sweeper()
            self.check_what_always_holds(sweeping=sweeping)
            if self.is_over():
                return
            self.world.later(LATE if sweeping else AGAIN)
        raise AssertionError("the messages come again and again")

    def is_over(self) -> bool:
        ends = {record.id: record.state for record in self.table.records.values()}
        settled = all(ends.get(lead) is state for lead, (state, _) in self.expected.items())
        return settled and not self.changes.messages and not self.leads.messages

    def check_what_always_holds(self, *, sweeping: bool) -> None:
        """The table is sound, and each lead is in a queue, or dead-lettered, or its record says what counts."""
        if WRITES & self.world.requests.keys():
            self.table = read(self.world.dynamodb, "fairturn", self.world.store)
            audit(self.table)
            self.world.requests.clear()
        queued = [each.body for queue in (self.changes, self.leads) for each in queue.messages.values()]
        kept = [*queued, *self.graveyard.bodies]
        swept = {State.WAITING, State.CLAIMED} if sweeping else set()
        for lead, (state, _) in self.expected.items():
            if not any(f'"{lead}"' in body for body in queued):
                found = self.table.records[lead_key("contact", lead)]
                assert found.state is state or found.state in swept
                assert found.state is not State.REFUSED or any(f'"{lead}"' in body for body in kept)

    def check_the_end(self) -> None:
        """Each lead is where it belongs, in the table and in HubSpot."""
        records = {record.id: record for record in self.table.records.values()}
        assert {lead: records[lead].state for lead in self.expected} == {
            lead: state for lead, (state, _) in self.expected.items()
        }
        for lead, (state, rep) in self.expected.items():
            if state in {State.HANDED, State.EXTERNAL}:
                assert records[lead].rep == self.world.owner(lead) == (rep or self.world.owner(lead))
        buried = {Message.read(body).id for body in self.graveyard.bodies}
        assert buried == {lead for lead, (state, _) in self.expected.items() if state is State.REFUSED}


def test_wherever_track_dies_each_record_ends_as_hubspot_has_it_and_no_lead_is_lost(world: World, step: int) -> None:
    manager = world.portal.add_owner("manager@example.com")

    def begin(dies_at: int) -> Sequel:
        sequel = Sequel(world, dies_at, **AFTERWARDS)
        taken, closed, merged, cleared, deleted, overwritten = [sequel.handed() for _ in range(6)]
        (contact,) = world.arrive()
        (restored,) = world.arrive()
        world.portal.before_update = lambda: world.portal.change(restored, {"hubspot_owner_id": manager})
        assert world.worker().take(world.received([restored])) == []
        sequel.tell(restored, Kind.PROPERTY_CHANGE)
        world.later(60)
        taker = sequel.other(taken)
        world.portal.change(taken, {"hubspot_owner_id": taker})
        world.portal.change(closed, {"hs_lead_status": "UNQUALIFIED"})
        rep = world.owner(merged)
        survivor = world.portal.merge(merged, contact)
        world.portal.change(cleared, {"hubspot_owner_id": ""})
        world.portal.delete(deleted)
        workflow = {"hubspot_owner_id": sequel.other(overwritten)}
        world.portal.change(overwritten, workflow, source="AUTOMATION_PLATFORM", by="workflowId:77")
        (imported,) = world.arrive()
        for lead in (taken, closed, cleared):
            sequel.tell(lead, Kind.PROPERTY_CHANGE)
        sequel.tell(survivor, Kind.MERGE, merged=(merged, contact))
        sequel.tell(deleted, Kind.DELETION)
        sequel.tell(overwritten, Kind.PROPERTY_CHANGE, "AUTOMATION_PLATFORM")
        sequel.tell(imported, Kind.CREATION, "IMPORT")
        sequel.expected = {
            taken: (State.EXTERNAL, taker),
            closed: (State.CLOSED, None),
            merged: (State.GONE, None),
            survivor: (State.HANDED, rep),
            cleared: (State.HANDED, None),
            deleted: (State.GONE, None),
            overwritten: (State.EXTERNAL, workflow["hubspot_owner_id"]),
            restored: (State.EXTERNAL, manager),
            imported: (State.HANDED, None),
        }
        return sequel

    for sequel in told(begin, step):
        sequel.run(sweeping=True)  # which brings what was held back, and not passed on
        sequel.check_the_end()
        for lead, (state, _) in sequel.expected.items():
            if state is State.EXTERNAL:
                assert sequel.table.records[lead_key("contact", lead)].claim is None
    assert sequel.fate.seen >= {"give_back", "move", "hold_back", "note_overwrite", "write_owners", "send"}


def test_wherever_track_dies_in_a_flood_each_lead_from_bulk_sources_is_given_or_held_back(world: World) -> None:
    def begin(dies_at: int) -> Sequel:
        sequel = Sequel(world, dies_at, **AFTERWARDS, flood={"leads": 2, "minutes": 10})
        imported = world.arrive(3)
        for lead in imported:
            sequel.tell(lead, Kind.CREATION, "IMPORT")
        sequel.expected = dict.fromkeys(imported, (State.WAITING, None))
        return sequel

    for sequel in told(begin):
        sequel.run(sweeping=False)
        sequel.check_the_end()
        world.apply(**AFTERWARDS)
        world.sweeper().run()
        assert world.states(sequel.expected) == {"handed": 3}
        audit(read(world.dynamodb, "fairturn", world.store))
    assert sequel.fate.seen == {"hold_back"}


def test_wherever_sweep_dies_each_lead_that_was_due_ends_where_it_belongs(world: World, step: int) -> None:
    def begin(dies_at: int) -> Sequel:
        sequel = Sequel(world, dies_at)
        late, left = world.arrive(2)
        write, world.crm.write_owners = world.crm.write_owners, _down  # type: ignore[method-assign, assignment]
        try:
            batch = world.received([late, left])
            assert world.worker().take(batch) == batch
        finally:
            world.crm.write_owners = write  # type: ignore[method-assign]
        claimed = {lead: found.rep for lead in (late, left) if (found := world.record(lead)) is not None}
        world.apply(reps={rep: {"capacity": 0} for rep in world.reps})
        waiting, refused = world.arrive(2)
        assert world.worker().take(world.received([waiting, refused])) == []
        world.portal.refuse_owners(refused, "a phone number is wanted first")
        world.apply()
        leaver = claimed[left]
        assert leaver is not None
        world.portal.deactivate_owner(leaver)
        sequel.leaver = leaver
        sequel.expected = {
            late: (State.HANDED, claimed[late]),
            left: (State.HANDED, None),
            waiting: (State.HANDED, None),
            refused: (State.REFUSED, None),
        }
        world.later(LATE)
        return sequel

    for sequel in told(begin, step):
        sequel.run(sweeping=True)
        sequel.check_the_end()
        assert sequel.leaver not in {record.holder for record in sequel.table.records.values()}
    assert sequel.fate.seen == {"put_roster", "claim", "give_back", "move", "finish", "write_owners", "send"}


def _down(*_: object) -> Any:
    raise HubSpotUnavailable("down")
