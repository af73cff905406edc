"""Whatever happens in HubSpot, and however often and late its events come, the table ends there, too."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, Phase, example, given, note, settings
from hypothesis import strategies as st

from fairturn.rules.events import BULK_SOURCES, Kind, lead_key, read_event, sort_events
from fairturn.rules.record import Record, State
from fairturn_sandbox.faults import Lies
from fairturn_sandbox.portal import OWNER
from fairturn_sandbox.webhooks import DEFAULT_SUBSCRIPTIONS, Webhooks
from tests.integration.audit import Table, audit, read
from tests.integration.conftest import create_table
from tests.integration.inbox import Graveyard, Inbox
from tests.integration.world import ROTA, WRITES, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Self

    from mypy_boto3_dynamodb import DynamoDBClient

    from fairturn.edges.queues import Incoming
    from fairturn_sandbox.records import Contact

    Event = Mapping[str, Any]
    Action = tuple[Any, ...]

EXAMPLES: Final = settings().max_examples // 10
CONTACTS: Final = 5
ROUNDS: Final = 60
"""So often, at most, what is in the queues comes again."""
LIES: Final = Lies(stale=0.3, empty=0.03, partial=0.05)
"""How HubSpot's reads are, all through a history."""
DELAY: Final = 60
"""Seconds after which what was put back comes again."""
STATUS: Final = "hs_lead_status"
CLOSED: Final = "UNQUALIFIED"
POLICY: Final[Mapping[str, Any]] = {
    "rules": [
        {"name": "demos", "when": [{"source": ["IMPORT"]}, {"property": "message", "contains": "demo"}], "rota": ROTA}
    ],
}
CREATIONS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "form": ("FORM", {}),
    "closed form": ("FORM", {STATUS: CLOSED}),
    "import of a demo request": ("IMPORT", {"message": "a demo please"}),
    "import": ("IMPORT", {}),
    "by hand": ("CRM_UI", {OWNER: "somebody"}),
    "import of a client": ("IMPORT", {OWNER: "somebody"}),
    "long ago": ("FORM", {OWNER: "somebody"}),
}
OLD: Final = "long ago"
"""This one came before the installation: nobody ever tells of its creation."""
LEADS: Final = frozenset({"form", "closed form", "import of a demo request"})
"""The creations that make leads which should be somebody's."""
WRITERS: Final[Mapping[str, tuple[str, str | None]]] = {
    "a person": ("CRM_UI", None),
    "a person, in bulk": ("CRM_UI_BULK_ACTION", None),
    "a workflow": ("AUTOMATION_PLATFORM", "workflowId:77"),
    "another app": ("INTEGRATION", "999"),
}
_tables = itertools.count(1)


class Interrupted:
    """A collaborator before each of whose calls something else may happen."""

    def __init__(self, collaborator: object, pass_by: Callable[[], None]) -> None:
        self._collaborator = collaborator
        self._pass_by = pass_by

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._collaborator, name)
        if not callable(attribute):
            return attribute

        def act(*arguments: Any, **more: Any) -> Any:
            self._pass_by()
            return attribute(*arguments, **more)

        return act


class Town(World):
    """A world whose queues are in memory, whose portal sends webhooks, and whose services may be interrupted."""

    def __init__(self, dynamodb: DynamoDBClient, table: str, **policy: Any) -> None:
        super().__init__(dynamodb, table, **policy)
        self.graveyard = Graveyard()
        leads: Any = Inbox()
        changes: Any = Inbox()
        self.leads, self.changes = leads, changes
        self.portal.webhooks = Webhooks(
            Random(2),
            url="https://example.com/hubspot/key",
            secret="secret",
            portal_id=self.portal.id,
            app_id=self.portal.app_id,
            subscriptions=DEFAULT_SUBSCRIPTIONS,
        )
        self.meanwhile: dict[int, Callable[[], object]] = {}
        """Calls from now on → what happens before that one."""

    def interrupt(self) -> None:
        """Let the services that are made from now on be interrupted."""
        store: Any = Interrupted(self.store, self._pass_by)
        crm: Any = Interrupted(self.crm, self._pass_by)
        self.assign = self.worker(store, crm)
        self.track = self.tracker(store, crm)
        self.sweep = self.sweeper(store, crm)

    def _pass_by(self) -> None:
        due, later = self.meanwhile.pop(0, None), self.meanwhile
        self.meanwhile = {}  # nothing interrupts an interruption
        if due is not None:
            due()
        self.meanwhile = {calls - 1: what for calls, what in later.items()}


@dataclass(frozen=True)
class Terms:
    """What differs between policies."""

    cleared: str
    capacity: int | None
    keep_owner: bool = True


@dataclass(frozen=True)
class End:
    """How the rest is heard after the last action."""

    lost: frozenset[int]
    """The places of the events that never come, unless they are repeated."""
    seed: int
    """Of the order in which the others come."""
    most: int
    """How many events a request has, and a batch messages."""


LEAVING: Final = Terms("leave", None)
AGAIN: Final = Terms("allot again", None)
GIVING: Final = Terms("leave", None, keep_owner=False)
HEARD: Final = End(frozenset(), 1, 8)
OVERTAKEN: Final = (
    ("keep_up", 8),
    ("choose", 0, 1, "a person"),
    ("keep_up", 8),
    ("choose", 0, 2, "a person"),
    ("hear", [0]),
)


class History:
    """A portal in which anything happens to a few contacts, and Fairturn, which hears of it one way or another."""

    def __init__(self, client: DynamoDBClient, table: str, terms: Terms, end: End) -> None:
        self.client, self.table, self.terms, self.end = client, table, terms, end
        leads = {
            "closed": [{"property": STATUS, "reaches": [CLOSED]}],
            "cleared": terms.cleared,
            "keep_owner": terms.keep_owner,
            "show": ["country"],
        }
        self.world = Town(client, table, leads=leads, **POLICY)
        self.world.apply(leads=leads, rotas={ROTA: {"members": self.world.reps, "capacity": terms.capacity}}, **POLICY)
        self.owners = [*self.world.reps, self.world.portal.add_owner("manager@example.com")]
        self.ids: list[str] = []
        """The contacts as they came."""
        self.names: set[str] = set()
        """Every id that a contact ever had."""
        self.wanted: set[str] = set()
        """Ids of the contacts whom somebody should get."""
        self.old: dict[str, str] = {}
        """The contacts that were somebody's before we heard of them → whose they are."""
        self.cleared: set[str] = set()
        """Ids of the contacts from whom an owner was taken away."""
        self.events: list[Event] = []
        """All that the portal has told, as it happened."""
        self.heard: set[int] = set()
        """Places of those that have come to intake."""
        self.told: set[int] = set()
        """Places of those of which a message told whom they concern: of a change, track."""

    def __enter__(self) -> Self:
        self.world.__enter__()
        self.world.portal.lies = LIES
        self.world.interrupt()
        return self

    def __exit__(self, *_: object) -> None:
        self.world.__exit__()
        self.client.meta.events.unregister("before-call.dynamodb", self.world._counted)
        self.client.delete_table(TableName=self.table)

    # What happens in HubSpot

    def create(self, how: str, owner: int) -> None:
        if len(self.ids) == CONTACTS:
            return
        source, properties = CREATIONS[how]
        given = {name: self.owners[owner] if name == OWNER else value for name, value in properties.items()}
        contact = self.world.portal.create_contact({"country": "Ruritania", **given}, source=source)
        self._note("comes as", how, contact, self.world.owner(contact))
        self.ids.append(contact)
        self.names.add(contact)
        if how in LEADS:
            self.wanted.add(contact)
        if how == OLD:
            self.old[contact] = self.owners[owner]
            self._listen(unheard=True)
        else:
            self._listen()

    def choose(self, which: int, owner: int, who: str) -> None:
        contact = self._there(which)
        if contact is not None and contact.id in self.old:
            self.old[contact.id] = self.owners[owner]
        self._write(which, {OWNER: self.owners[owner]}, who)

    def clear(self, which: int, who: str) -> None:
        contact = self._there(which)
        if contact is not None and contact.properties.get(OWNER):
            self.cleared.add(contact.id)
            self.old.pop(contact.id, None)
            self._write(which, {OWNER: ""}, who)

    def close(self, which: int, who: str) -> None:
        self._write(which, {STATUS: CLOSED}, who)

    def reopen(self, which: int, who: str) -> None:
        self._write(which, {STATUS: "OPEN"}, who)

    def merge(self, which: int, other: int) -> None:
        first, second = self._there(which), self._there(other)
        if first is None or second is None or first is second:
            return
        one, two = first.id, second.id
        survivor = self.world.portal.merge(one, two)
        self._note("are merged:", one, two, survivor)
        self.names.add(survivor)
        for ids in (self.wanted, self.cleared):
            if ids & {one, two}:
                ids.add(survivor)
        old = [owner for each in (two, one) if (owner := self.old.pop(each, None))]
        if self.world.owner(survivor) in old[-1:]:
            self.old[survivor] = old[-1]
        self._listen()

    def delete(self, which: int) -> None:
        if (contact := self._there(which)) is not None:
            self._note("is deleted:", contact.id)
            self.world.portal.delete(contact.id)
            self._listen()

    def restore(self, which: int) -> None:
        contact = self._find(which)
        if contact is not None and contact.archived:
            self._note("is restored:", contact.id)
            self.world.portal.restore(contact.id)
            self._listen()

    def erase(self, which: int) -> None:
        if (contact := self._find(which)) is not None:
            self._note("is erased:", contact.id)
            self.old.pop(contact.id, None)
            self.world.portal.privacy_delete(contact.id)
            self._listen()

    def wait(self, seconds: int) -> None:
        self._note("seconds go by:", seconds)
        self.world.later(seconds)

    def _write(self, which: int, properties: Mapping[str, str], who: str) -> None:
        source, by = WRITERS[who]
        if (contact := self._there(which)) is not None:
            self._note("is changed by", who, contact.id, properties)
            self.world.portal.change(contact.id, properties, source=source, by=by)
            self._listen()

    def _find(self, which: int) -> Contact | None:
        """The contact that came as this one, deleted or not, unless it is erased."""
        try:
            return self.world.portal.contact(self.ids[which % len(self.ids)])
        except KeyError:
            return None

    def _there(self, which: int) -> Contact | None:
        found = self._find(which)
        return None if found is None or found.archived else found

    def _listen(self, *, unheard: bool = False) -> None:
        """Note what the portal tells, which is not yet what we hear; and let a second go by."""

        def post(request: Any) -> int:
            self.events += [] if unheard else json.loads(request.body)
            return 200

        self.world.portal.deliver(post)
        self.world.later(1)

    def _note(self, *words: object) -> None:
        note(f"{self.world.at:%H:%M:%S} {' '.join(map(str, words))}")

    # What we hear of it, and what we do

    def hear(self, back: Sequence[int]) -> None:
        """One request of HubSpot's, with some of the events: 0 is the latest."""
        if not self.events:
            return
        self._hear({len(self.events) - 1 - each % len(self.events) for each in back})

    def keep_up(self, most: int) -> None:
        """Hear of the last things that happened, and handle them."""
        self._hear(place for place in range(len(self.events))[-most:] if place not in self.heard | self.end.lost)
        self._drain()

    def track(self, most: int) -> None:
        self._take(self.world.track.take, self.world.changes, most)

    def assign(self, most: int) -> None:
        self._take(self.world.assign.take, self.world.leads, most)

    def sweep(self) -> None:
        self._note("sweep")
        self.world.sweep.run()
        self._listen()

    def interrupt(self, calls: int, what: str, which: int, owner: int) -> None:
        """Let something happen right before one of the next calls of whoever is next."""

        def happens() -> None:
            self._note("meanwhile:")
            match what:
                case "track":
                    self._take(self.world.tracker().take, self.world.changes, None)
                case "assign":
                    self._take(self.world.worker().take, self.world.leads, None)
                case "choose":
                    self.choose(which, owner, "a person")
                case "delete":
                    self.delete(which)
                case "overtake":
                    self.choose(which, owner, "a person")
                    self._hear([len(self.events) - 1])
                    self._take(self.world.tracker().take, self.world.changes, None)
                case _:
                    getattr(self, what)(which, "a person")

        self.world.meanwhile[calls] = happens

    def _hear(self, places: Iterable[int]) -> None:
        """Let events come in one request; intake makes messages of them."""
        places = sorted(places)
        self.heard |= set(places)
        events = [event for place in places if (event := read_event(self.events[place])) is not None]
        leads, changes = sort_events(events)
        self.told |= set(places)
        for name, messages, queue in (("leads", leads, self.world.leads), ("changes", changes, self.world.changes)):
            for message in messages:
                self._note("heard,", name, message.body())
                queue.arrive(message.body())  # type: ignore[attr-defined] # an Inbox

    def _take(self, take: Callable[[Sequence[Incoming]], list[Incoming]], queue: Any, most: int | None) -> None:
        batch = queue.receive(most)
        if not batch:
            return
        self._note("leads" if queue is self.world.leads else "changes", "taken:", [each.id for each in batch])
        left = take(batch)
        queue.delete([received for received in batch if received not in left])
        self._listen()

    # The end

    def finish(self) -> None:
        """Let what was not heard be heard unless it is lost, tell of each contact once more, and compare."""
        self._note("the end")
        self.world.meanwhile.clear()
        random = Random(self.end.seed)
        rest = [
            place
            for place, event in enumerate(self.events)
            if place not in self.heard and (place not in self.end.lost or _tells_alone(event))
        ]
        random.shuffle(rest)
        for start in range(0, len(rest), self.end.most):
            self._hear(rest[start : start + self.end.most])
            self._drain()
        for contact in sorted(self.names):
            about, telling = _about(contact, self.events)
            if not telling or (telling[-1] in self.told and random.random() < 0.7):
                continue  # nothing was ever told of it, or the last of it has been heard
            self._hear([random.choice(telling), *random.sample(about, random.randint(0, len(about)))])
        self._drain()
        self.world.later(1000)  # what is claimed and not handed over is late by now
        self.world.sweep.run()
        self._listen()
        self._drain()
        self._compare(self._read())
        self._tell_all_again()

    def _drain(self) -> None:
        queues: Any = {self.world.changes: self.world.track.take, self.world.leads: self.world.assign.take}
        for _ in range(ROUNDS):
            if not any(queue.messages for queue in queues):
                return
            for queue, take in queues.items():
                for _ in range(0, len(queue.messages), self.end.most):
                    self._take(take, queue, self.end.most)
            self.world.later(DELAY)
        left = [each.body for queue in queues for each in queue.messages.values()]
        assert not left, "messages come again and again"

    def _read(self) -> Table:
        return read(self.client, self.table, self.world.store)

    def _compare(self, table: Table) -> None:
        note(json.dumps({key: [r.state, r.rep, r.round] for key, r in table.records.items()}))
        audit(table)
        assert self.world.graveyard.letters == []
        contacts = self.world.portal.contacts
        present = {lead_key("contact", id_): each for id_, each in contacts.items() if not each.archived}
        for key, record in table.records.items():
            if key not in present:
                assert record.state in {State.GONE, State.ERASED}
                assert (record.holder, record.shown, record.trace) == (None, {}, None)
        owned: Counter[str] = Counter()
        for id_, whose in self.old.items():
            if lead_key("contact", id_) in present:
                assert self.world.owner(id_) == whose, "a contact was taken from its owner"
        for key, contact in present.items():
            found = table.records.get(key)
            about, _ = _about(contact.id, self.events)
            if found is None and not (about and self.terms.keep_owner):
                continue  # nobody told of it; or it never was a lead, and where no owner is kept that doesn't count
            closed = contact.properties.get(STATUS) == CLOSED
            owner = None if closed else contact.properties.get(OWNER)
            if found is not None and found.state is State.WAITING and owner is not None:
                assert (owner, self.terms.keep_owner) == (
                    found.found_owner,
                    False,
                )  # theirs until somebody else can take it
                continue
            assert (found.holder if found is not None else None) == owner
            if owner is not None:
                owned[owner] += 1
            elif (
                not closed
                and contact.id in self.wanted
                and (self.terms.cleared == "allot again" or contact.id not in self.cleared)
            ):
                assert found is not None
                assert found.state is State.WAITING
                room = float("inf") if self.terms.capacity is None else self.terms.capacity
                assert all(table.loads.get(rep, 0) >= room for rep in self.world.reps)
        assert table.loads == owned

    def _tell_all_again(self) -> None:
        """Nothing happens once more, but that assign notes that it looked at a lead that waits, notes as gone what was
        still there when it first heard of it, and that track then notes into what that was merged."""
        before = self._read()
        for _ in range(3):
            after = self._told_again()
            noted = {key for key, record in after.records.items() if not _is_as(record, before.records.get(key))}
            assert {key: after.records[key].state for key in noted} == dict.fromkeys(noted, State.GONE)
            assert all(before.records[key].state is State.GONE for key in noted & before.records.keys())
            assert (after.ledgers, after.journals, after.loads) == (before.ledgers, before.journals, before.loads)
            if not noted:
                assert after.records != before.records or not WRITES & self.world.requests.keys()
                return
            before = after
        raise AssertionError("something is noted again and again")

    def _told_again(self) -> Table:
        self.world.requests.clear()
        self.world.portal.calls.clear()
        for place in range(len(self.events)):
            self._hear([place])
        self._drain()
        assert not [path for _, path in self.world.portal.calls if path.endswith("update")]
        requests = Counter(self.world.requests)
        after = self._read()
        self.world.requests = requests
        return after


def _is_as(record: Record, before: Record | None) -> bool:
    """Whether nothing has happened to a record; of one that waits it may be noted that it was looked at."""
    if before is not None and before.state is record.state is State.WAITING:
        record = replace(record, rev=before.rev, changed_at=before.changed_at)
    return record == before


def _brings(event: Event) -> bool:
    """Whether an event brings a contact: nobody can know of a lead whose coming is never told."""
    return _kind(event) in {Kind.CREATION, Kind.RESTORE}


def _tells_alone(event: Event) -> bool:
    """Whether no reading of HubSpot's tells what this event does: then nobody can know of it if it is lost."""
    return _brings(event) or _kind(event) in {Kind.DELETION, Kind.PRIVACY_DELETION}


def _kind(event: Event) -> str:
    return str(event["subscriptionType"]).partition(".")[2]


def _about(contact: str, events: Sequence[Event]) -> tuple[list[int], list[int]]:
    """The places of the events that are about a contact, and of those that tell track of it: if there are none,
    nothing has changed since it came."""
    about = [
        place
        for place, event in enumerate(events)
        if int(contact)
        in {
            event["objectId"],
            event.get("newObjectId"),
            event.get("primaryObjectId"),
            *event.get("mergedObjectIds", ()),
        }
    ]
    telling = [place for place in about if not _brings(events[place]) or events[place]["changeSource"] in BULK_SOURCES]
    return about, telling or about


which = st.integers(0, CONTACTS - 1)
owner = st.integers(0, 3)
who = st.sampled_from(sorted(WRITERS))
most = st.integers(1, 8)


def action(name: str, *strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(name), *strategies)


creations = action("create", st.sampled_from(sorted(CREATIONS)), owner)
in_hubspot = st.one_of(
    creations,
    action("choose", which, owner, who),
    action("clear", which, who),
    action("close", which, who),
    action("reopen", which, who),
    action("merge", which, which),
    action("delete", which),
    action("restore", which),
    action("erase", which),
    action("wait", st.sampled_from([2, 60, 599, 601, 7200])),
)
in_fairturn = st.one_of(
    action("hear", st.lists(st.integers(0, 20), min_size=1, max_size=6)),
    action("keep_up", most),
    action("keep_up", most),
    action("track", most),
    action("assign", most),
    action("sweep"),
    action(
        "interrupt",
        st.integers(0, 7),
        st.sampled_from(["choose", "overtake", "clear", "close", "reopen", "delete", "track", "assign"]),
        which,
        owner,
    ),
)


@pytest.mark.timeout(600)  # finding the smallest example of a failure takes minutes
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),  # to explain would take minutes
)
@given(
    terms=st.builds(Terms, st.sampled_from(["leave", "allot again"]), st.sampled_from([None, 1, 2]), st.booleans()),
    first=st.lists(creations, min_size=2, max_size=4),
    then=st.lists(st.one_of(in_hubspot, in_fairturn), min_size=10, max_size=35),
    end=st.builds(End, st.frozensets(st.integers(0, 40)), st.integers(0, 99), most),
)
@example(LEAVING, [("create", "closed form", 0)], [("keep_up", 8), ("reopen", 0, "a person")], HEARD)
@example(  # a lead waits, and its turn comes when others are closed
    Terms("leave", 1), [("create", "form", 0)] * 4, [("keep_up", 8), ("close", 0, "a person"), ("keep_up", 8)], HEARD
)
@example(  # a waiting lead is merged with a contact
    Terms("leave", 1), [("create", "form", 0)] * 4 + [("create", "import", 0)], [("keep_up", 8), ("merge", 3, 4)], HEARD
)
@example(  # two leads are merged, and the second keeps its rep
    LEAVING, [("create", "form", 0)] * 2, [("keep_up", 8), ("merge", 0, 1), ("keep_up", 8), ("delete", 0)], HEARD
)
@example(  # a worker is overtaken between its reading of the table and its reading of HubSpot
    LEAVING, [("create", "by hand", 0)], [*OVERTAKEN, ("interrupt", 2, "overtake", 0, 3), ("track", 8)], HEARD
)
@example(  # and between its reading and its writing
    LEAVING, [("create", "by hand", 0)], [*OVERTAKEN, ("interrupt", 3, "overtake", 0, 3), ("track", 8)], HEARD
)
@example(  # a person chooses while a claim is handed over, and is followed before that is noted
    LEAVING,
    [("create", "form", 0), ("create", "form", 0)],
    [("hear", [1]), ("assign", 8), ("keep_up", 8), ("hear", [1, 2]), ("interrupt", 5, "overtake", 1, 3), ("assign", 8)],
    HEARD,
)
@example(  # one batch holds the merge of a contact that is deleted since, and a change of one of the two
    LEAVING,
    [("create", "form", 0), ("create", "import", 0)],
    [("keep_up", 8), ("merge", 1, 0), ("delete", 0), ("hear", [0, 1, 2])],
    HEARD,
)
@example(  # an owner's change is told before the creation, and is not taken for what brought the lead
    AGAIN,
    [("create", "form", 0)],
    [("choose", 0, 1, "a person, in bulk"), ("hear", [0]), ("track", 8), ("clear", 0, "a person")],
    HEARD,
)
@example(  # a wanted import comes closed
    AGAIN,
    [("create", "import of a demo request", 0)],
    [("close", 0, "a person"), ("keep_up", 8), ("reopen", 0, "a person")],
    HEARD,
)
@example(  # an old contact is deleted and restored
    GIVING, [("create", OLD, 1), ("create", "form", 0)], [("delete", 0), ("keep_up", 8), ("restore", 0)], HEARD
)
@example(  # a new contact is merged into an old one within seconds, which is told first
    GIVING, [("create", OLD, 1), ("create", "form", 0)], [("merge", 0, 1), ("hear", [0]), ("track", 8)], HEARD
)
@example(  # a creation is told again, in one request with a later change
    LEAVING, [("create", "form", 0)], [("keep_up", 8), ("choose", 0, 1, "a person"), ("hear", [0, 2])], HEARD
)
def test_each_load_and_turn_moves_once_whatever_the_order_and_number_of_events(
    dynamodb: DynamoDBClient, terms: Terms, first: Sequence[Action], then: Sequence[Action], end: End
) -> None:
    table = f"histories-{next(_tables)}"
    create_table(dynamodb, table)
    with History(dynamodb, table, terms, end) as history:
        for name, *details in [*first, *then]:
            getattr(history, name)(*details)
        history.finish()
