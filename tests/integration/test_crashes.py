"""A worker dies between any two effects; the messages come again, and in the end nothing is lost and nothing twice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from fairturn.assign import Assign
from fairturn.claim import Claims
from fairturn.events import Kind, Message
from fairturn.handover import Handover
from fairturn.queues import Letter, Received
from fairturn.record import State, lead_key
from fairturn.store import InForce
from fairturn_console.portal_api import BAD_GATEWAY
from tests.integration.audit import Table, audit, read
from tests.integration.world import ROTA, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn_console.portal import PortalOwner

DELIVERIES: Final = 6
"""So often the messages come at most, one death and one outage included."""
VISIBILITY: Final = 370
"""Seconds after which a message that nobody took out of the queue comes again."""
MOST_POINTS: Final = 100
EFFECTS: Final = frozenset(
    {
        *("claim", "give_back", "move", "note_faults", "mark_unavailable"),  # the table's
        "write_owners",  # HubSpot's
        *("send", "put_back", "delete"),  # the queues'
    }
)


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
        def act(*arguments: Any) -> Any:
            if not all(arguments):
                return effect(*arguments)  # about nothing: no effect
            self._fate.pass_by(name)
            result = effect(*arguments)
            self._fate.pass_by(name)
            return result

        return act


class Inbox:
    """The leads queue: what was not deleted comes again."""

    def __init__(self) -> None:
        self.messages: dict[str, Received] = {}

    def arrive(self, body: str, receipts: int) -> None:
        id_ = f"m{len(self.messages)}"
        self.messages[id_] = Received(id_, f"handle of {id_}", body, receipts)

    def receive(self) -> list[Received]:
        self.messages = {id_: replace(each, receipts=each.receipts + 1) for id_, each in self.messages.items()}
        return list(self.messages.values())

    def delete(self, received: Sequence[Received]) -> None:
        for each in received:
            self.messages.pop(each.id, None)

    def put_back(self, delays: Sequence[tuple[Received, int]]) -> None:
        """Time is not told here: everything comes again at once."""


class Graveyard:
    """The dead-letter queue."""

    def __init__(self) -> None:
        self.bodies: list[str] = []

    def send(self, letters: Sequence[Letter]) -> None:
        self.bodies += [letter.body for letter in letters]


class Story:
    """A batch of leads, and a worker who dies once over it."""

    table: Table
    """As it stood after the last delivery."""

    def __init__(self, world: World, lost: PortalOwner, dies_at: int) -> None:
        self.world = world
        self.fate = Fate(dies_at)
        self.inbox = Inbox()
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
            owned: State.ELSEWHERE,
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
            self.world.later(VISIBILITY)
        assert not self.inbox.messages, "the messages come again and again"

    def worker(self) -> Assign:
        world = self.world
        store: Any = Mortal(world.store, self.fate)
        crm: Any = Mortal(world.crm, self.fate)
        leads: Any = Mortal(self.inbox, self.fate)
        dead_letters: Any = Mortal(self.graveyard, self.fate)
        claims = Claims(store, now=lambda: world.at, jitter=lambda: 0.5, sleep=lambda _: None)
        return Assign(
            store=store,
            in_force=InForce(store, clock=lambda: world.seconds),
            crm=crm,
            claims=claims,
            handover=Handover(store, crm, claims, now=lambda: world.at, clock=lambda: world.seconds),
            leads=leads,
            dead_letters=dead_letters,
            now=lambda: world.at,
            jitter=lambda: 0.5,
            clock=lambda: world.seconds,
        )

    def check_what_always_holds(self) -> None:
        """The table is sound, and each message is in the queue, dead-lettered, or its record says what counts."""
        self.table = read(self.world.dynamodb, "fairturn", self.world.store)
        audit(self.table)
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


def stories(world: World) -> Iterator[Story]:
    """One story for each point to die at, and one in which nobody dies."""
    lost = world.portal.owners[world.reps[3]]
    for point in range(1, MOST_POINTS):
        story = Story(world, lost, dies_at=point)
        yield story
        if not story.fate.came:
            return
    raise AssertionError("there is no end of points to die at")


def test_wherever_a_worker_dies_each_lead_ends_where_it_belongs_and_none_is_lost(world: World) -> None:
    for story in stories(world):
        story.meet_everything()
        story.begin(receipts=0)
        story.run()
        story.check_the_end()
    assert story.fate.seen == {"claim", "give_back", "move", "mark_unavailable", "write_owners", "send"}


def test_wherever_a_worker_dies_the_owner_whom_a_person_chooses_before_it_goes_on_stays(world: World) -> None:
    person = world.portal.add_owner("somebody@example.com")
    for story in stories(world):
        chosen = story.chosen
        story.begin(receipts=0)
        story.run(then=lambda chosen=chosen: world.portal.change(chosen, {"hubspot_owner_id": person}))  # type: ignore[misc]
        if story.fate.came:
            assert world.owner(chosen) == person
            record = story.table.records[lead_key("contact", chosen)]
            assert (record.state, record.rep) == (State.ELSEWHERE, person) or record.state is State.HANDED


def test_wherever_a_worker_dies_in_an_outage_the_leads_are_given_when_it_is_over(world: World) -> None:
    for story in stories(world):
        story.begin(receipts=0)
        world.portal.faults.extend([BAD_GATEWAY] * 3)  # as often as one call is tried
        story.run()
        story.check_the_end()
    assert story.fate.seen >= {"note_faults", "put_back"}


def test_wherever_a_worker_dies_over_suspects_those_that_are_done_do_not_come_again(world: World) -> None:
    for story in stories(world):
        story.begin(receipts=2)
        story.run()
        story.check_the_end()
    assert story.fate.seen >= {"delete"}
