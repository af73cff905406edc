"""A person's data: all that is stored of a contact or a rep, given out or erased."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fairturn.edges.store import DAY
from fairturn.errors import Contended, FairturnError
from fairturn.rules.events import CONTACT, lead_key, lead_of
from fairturn.rules.ledger import Claim, GivingBack
from fairturn.rules.record import KEPT_FOR, State, milliseconds
from fairturn.steps.claim import Undoing
from fairturn.steps.moves import write_moves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from fairturn.edges.store import Store
    from fairturn.rules.record import Record
    from fairturn.steps.claim import Claimer
    from fairturn_console.dead_letters import DeadLetter, DeadLetters

MAX_PAGES: Final = 20_000
"""Pages of records, and of journals, that are looked at: 1 MB, or 100 journals, each."""
MAX_VERSIONS: Final = 10_000
"""Versions of the policy that are looked at, the newest ones."""
IDS: Final = ("id", "objectId", "primaryObjectId", "newObjectId")
"""Where the body of a dead letter names a contact."""
NEEDED: Final = frozenset({"skills", "weight", "capacity"})
"""What an old version of the policy keeps of a rep who is erased: without it, its rules can't be understood."""

Data = dict[str, Any]
"""What can be written as JSON."""


class NotErased(FairturnError):
    """It can't be erased now; the message says what to do first."""


class PersonUnknown(FairturnError):
    """Nobody is known by this e-mail address."""


@dataclass(slots=True)
class Erased:
    """What was erased of a person, and what stays and why, in sentences."""

    gone: list[str] = field(default_factory=list)
    stays: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class People:
    """Reads and erases what is stored of people. Every method raises Unavailable."""

    store: Store
    dead_letters: DeadLetters
    claimer: Claimer
    now: Callable[[], datetime]
    """An aware datetime."""

    # A contact

    def contact(self, id: str) -> Data:  # noqa: A002 - HubSpot's word
        """All that is stored of a contact, those included that were merged into it; `complete` says whether all was
        looked at. Raises QueueUnavailable, too."""
        data = self._in_table(id)
        listing = self.dead_letters.list()
        ids = {id, *(each["id"] for each in data["records"])}
        letters = [asdict(letter) for letter in listing.letters if _names(letter, ids)]
        return data | {"deadLetters": letters, "complete": data["complete"] and listing.complete}

    def _in_table(self, id: str) -> Data:  # noqa: A002 - HubSpot's word
        records, is_all = self._records()
        own = {key: record for key, record in records.items() if id in {record.id, record.merged_into}}
        keys = {lead_key(CONTACT, id), *own}
        names = keys | {record.booked_as for record in own.values() if record.booked_as}
        journals, looked_at_all = self._said(records, partial(_of_contact, names=names))
        return {
            "contact": id,
            "records": [asdict(record) for record in own.values()],
            "tries": [
                {"lead": lead, **asdict(each)} for lead, each in self.store.tries(map(lead_of, sorted(keys))).items()
            ],
            "journals": journals,
            "complete": is_all and looked_at_all,
        }

    def erase_contact(self, id: str) -> Erased:  # noqa: A002 - HubSpot's word
        """Erase a contact as far as it can be, and those that were merged into it. Raises NotErased, Contended,
        RecordUnreadable and QueueUnavailable; then it may be done once more."""
        data = self._in_table(id)
        ids = {id, *(each["id"] for each in data["records"])}
        dropped = self.dead_letters.drop(lambda letter: _names(letter, ids))
        erased = Erased()
        if not (dropped.letters or data["records"] or data["tries"] or data["journals"]):
            return erased
        known = self.store.records((CONTACT, each) for each in sorted(ids))
        for each in sorted(ids):
            if known.of(each).state is not State.ERASED:
                self._erase(known.of(each))
        erased.gone.append(f"records ({len(ids)}): all but the id, the state and when it was erased")
        erased.stays.append(f"the id, for {KEPT_FOR // DAY} days: what is told of the contact later must find that")
        for each in data["records"]:
            if each["merged_into"] is not None and each["id"] == id:
                erased.stays.append(f"contact {each['merged_into']}, into which it was merged: erase that, too")
        if data["tries"]:
            self.store.forget_tries(map(lead_of, (each["lead"] for each in data["tries"])))
            erased.gone.append(f"what is known of mistakes ({len(data['tries'])})")
        if dropped.letters:
            erased.gone.append(f"dead letters ({len(dropped.letters)})")
        if data["journals"]:
            erased.stays.append(
                f"the id in {len(data['journals'])} rows of journals, each for {self.store.journal_days} days after "
                "its claim was handed over: every rep's balance is computed from them"
            )
        if not (data["complete"] and dropped.complete):
            erased.stays.append("what was not looked at: there is too much, or something that this version cannot read")
        return erased

    def _erase(self, record: Record) -> None:
        after = record.erased(milliseconds(self.now()))
        if record.state is not State.CLAIMED:
            written = write_moves(self.store, [(record, after)])
        elif self.claimer.left_to(record) > 0:
            raise NotErased(f"{record.key} is being handed over: repeat the command in a minute")
        else:
            written = self.claimer.undo([Undoing(record, after)])
        if not written:
            raise Contended(f"{record.key} has moved meanwhile: repeat the command")

    # A rep

    def owner_ids(self, email: str) -> set[str]:
        """Whom HubSpot knows by this address. Raises PersonUnknown."""
        owners = self.store.pointer().owners.values()
        found = {owner.id for owner in owners if owner.email.strip().casefold() == email.strip().casefold()}
        if not found:
            raise PersonUnknown(
                "no rep has this e-mail address here. Whom the policy names no more is forgotten within minutes, but "
                "for the owner id: with --rep, give that"
            )
        return found

    def rep(self, rep: str, email: str | None = None) -> Data:
        """All that is stored of a rep, by owner id; `complete` says whether all was looked at."""
        records, is_all = self._records()
        journals, looked_at_all = self._said(records, partial(_of_rep, rep=rep, booked=set()))
        pointer = self.store.pointer()
        owner = pointer.owners.get(rep)
        email = owner.email if owner is not None else email
        versions = self._versions(pointer.number)
        rotas = self._rotas(records)
        return {
            "rep": rep,
            "roster": None if owner is None else asdict(owner),
            "away": asdict(pointer.away[rep]) if rep in pointer.away else None,
            "load": self.store.loads().get(rep, 0),
            "leads": [row for record in records.values() if (row := _as_owner(record, rep)) is not None],
            "ledgers": {
                rota: {
                    "balances": {lane: row[rep] for lane, row in ledger.balances.items() if rep in row},
                    "last": ledger.last.get(rep),
                    "grace": ledger.grace.get(rep),
                }
                for rota, ledger in self.store.read(rotas, []).ledgers.items()
                if rep in {*ledger.reps(), *ledger.last, *ledger.grace}
            },
            "journals": journals,
            "policies": [row for number, each in versions if (row := _in_policy(number, each, rep, email)) is not None],
            "complete": is_all and looked_at_all and pointer.number <= MAX_VERSIONS,
        }

    def erase_rep(self, rep: str, email: str | None = None) -> Erased:
        """Erase a rep, by owner id, as far as it can be. Raises NotErased, and RosterMoved if somebody refreshes the
        owners meanwhile."""
        pointer = self.store.pointer()
        versions = self._versions(pointer.number)
        in_force = next((each for number, each in versions if number == pointer.number), None)
        if in_force is not None and rep in in_force["policy"].get("reps", {}):
            raise NotErased(
                "the policy in force names this rep: take them out of it, `fairturn policy apply` it, and repeat this"
            )
        data = self.rep(rep, email)
        if any(row["state"] is State.CLAIMED and row["is"] == "owner" for row in data["leads"]):
            raise NotErased("a lead is being handed over to this rep: repeat the command in some minutes")
        erased = Erased()
        owner = pointer.owners.get(rep)
        email = owner.email if owner is not None else email
        if owner is not None:
            others = [each for each in pointer.owners.values() if each.id != rep]
            self.store.put_roster(others, milliseconds(self.now()), read_at=pointer.owners_at)
            erased.gone.append("the entry in the roster, with the e-mail address")
        if self.store.forget_away(rep):
            erased.gone.append("the note until when they are away")
        emptied = 0
        for number, each in versions:
            without = _without_rep(each, rep, email)
            if without != each:
                self.store.amend_version(number, without)
                emptied += 1
        if emptied:
            kept = ", ".join(sorted(NEEDED))
            erased.gone.append(
                f"versions of the policy: {emptied} keep nothing of the rep but the owner id, {kept}; and neither who "
                "applied them nor their message where these have the address"
            )
        erased.stays += self._stays(data)
        return erased

    def _stays(self, data: Data) -> Iterator[str]:
        """What of a rep can't be erased, and why."""
        days = self.store.journal_days
        if data["ledgers"] or data["journals"]:
            yield (
                f"the owner id in {len(data['ledgers'])} ledgers until the next claim of each, and in "
                f"{len(data['journals'])} journals, each for {days} days after its claim was handed over: every rep's "
                "balance is computed from them"
            )
        if data["leads"]:
            yield (
                f"the owner id in the records of {len(data['leads'])} leads, each until {KEPT_FOR // DAY} days after "
                "it was closed: whose a lead was decides who may get it again"
            )
        versions = sum(row["rep"] is not None for row in data["policies"])
        if versions:
            yield f"the owner id in {versions} versions of the policy, each for {days} days after the next one"
        if not data["complete"]:
            yield "what was not looked at: there is too much, or something that this version cannot read"

    # What is looked at

    def _records(self) -> tuple[dict[str, Record], bool]:
        """All records that can be read, and whether they are all that there are."""
        records: dict[str, Record] = {}
        is_all = True
        beyond: Data | None = None
        for _ in range(MAX_PAGES):
            page, beyond = self.store.page_of_records(beyond, whole=True)
            records |= page.known
            is_all &= not page.unreadable
            if beyond is None:
                return records, is_all
        return records, False

    def _rotas(self, records: Mapping[str, Record]) -> list[str]:
        named = {lane.partition("#")[0] for lane in self.store.pointer().lanes}
        return sorted(named | {record.rota for record in records.values() if record.rota is not None})

    def _said(
        self, records: Mapping[str, Record], of: Callable[[str, int, Claim | GivingBack], Iterable[Data]]
    ) -> tuple[list[Data], bool]:
        """What all journals say of somebody, rota by rota, and whether all that there are could be looked at."""
        said: list[Data] = []
        pages, is_all = 0, True
        for rota, ledger in self.store.read(self._rotas(records), []).ledgers.items():
            first: int | None = 1
            while first is not None and first <= ledger.version:
                if pages == MAX_PAGES:
                    return said, False
                entries, first = self.store.journals_from(rota, first, ledger.version, 0)
                said += [
                    row for version, each in entries.items() if each is not None for row in of(rota, version, each)
                ]
                is_all &= None not in entries.values()
                pages += 1
        return said, is_all

    def _versions(self, number: int) -> list[tuple[int, Data]]:
        """The versions of the policy up to this one, as they are stored, the newest first."""
        last = max(number - MAX_VERSIONS, 0)
        return sorted(self.store.stored_versions(range(number, last, -1)).items(), reverse=True)


def _names(letter: DeadLetter, ids: set[str]) -> bool:
    """Whether a dead letter is about one of these contacts."""
    try:
        body = json.loads(letter.body)
    except ValueError:
        return False
    if not isinstance(body, dict):
        return False
    merged = body.get("merged")
    named = [*(body.get(name) for name in IDS), *(merged if isinstance(merged, list) else ())]
    return not ids.isdisjoint(map(str, named))


def _of_contact(rota: str, version: int, journal: Claim | GivingBack, names: set[str]) -> Iterator[Data]:
    """What a journal says of a contact."""
    row = {"rota": rota, "version": version}
    match journal:
        case Claim():
            given = [each for each in journal.leads if each.lead in names]
            bookings = journal.bookings() if given else {}
            for each in given:
                booking = {"booking": asdict(bookings[each.lead])} if each.lead in bookings else {}
                yield row | {"at": journal.at, "policy": journal.policy, **each._asdict(), **booking}
        case GivingBack():
            for returned in journal.leads:
                if returned.lead in names:
                    yield row | {"at": journal.at, "gaveBack": returned._asdict()}


def _of_rep(
    rota: str, version: int, journal: Claim | GivingBack, rep: str, booked: set[tuple[str, int, str]]
) -> Iterator[Data]:
    """What a journal says of a rep; `booked` remembers what they got, for the journals that give it back."""
    row = {"rota": rota, "version": version}
    match journal:
        case Claim():
            got = [given.lead for given in journal.leads if given.winner == rep]
            booked.update((rota, version, lead) for lead in got)
            member = journal.members.get(rep)
            had = [given.lead for given in journal.leads if rep in given.had]
            owed = {lane: units[rep] for lane, units in journal.before.balances.items() if rep in units}
            if member is not None or got or had or owed:
                stood = None if member is None else asdict(member) | {"skills": sorted(member.skills)}
                yield row | {"at": journal.at, "owed": owed, "stood": stood, "got": got, "hadBefore": had}
        case GivingBack():
            back = [each._asdict() for each in journal.leads if (rota, each.claim, each.lead) in booked]
            if back:
                yield row | {"at": journal.at, "gaveBack": back}


def _as_owner(record: Record, rep: str) -> Data | None:
    """What a lead's record says of a rep."""
    roles = {"owner": rep == record.rep, "owner before": rep in record.had, "found owner": rep == record.found_owner}
    role = next((name for name, holds in roles.items() if holds), None)
    if role is None:
        return None
    times = {"claimedAt": record.claimed_at, "handedAt": record.handed_at, "changedAt": record.changed_at}
    return {"lead": record.key, "is": role, "state": record.state, "rota": record.rota, **times}


def _in_policy(number: int, version: Data, rep: str, email: str | None) -> Data | None:
    """What a version of the policy says of a rep."""
    policy = version["policy"]
    said = {name: version[name] for name in ("by", "message") if _has(version.get(name), email)}
    if rep not in policy.get("reps", {}) and not said:
        return None
    rotas = [name for name, rota in policy.get("rotas", {}).items() if rep in rota.get("members", ())]
    return {"version": number, "at": version["at"], "rep": policy.get("reps", {}).get(rep), "rotas": rotas, **said}


def _without_rep(version: Data, rep: str, email: str | None) -> Data:
    """A version of the policy with nothing of a rep but what its rules need."""
    policy = version["policy"]
    reps = policy.get("reps", {})
    if reps.get(rep) is not None:
        kept = {name: value for name, value in reps[rep].items() if name in NEEDED}
        policy = {**policy, "reps": {**reps, rep: kept}}
    return {name: each for name, each in version.items() if not (name in {"by", "message"} and _has(each, email))} | {
        "policy": policy
    }


def _has(text: str | None, email: str | None) -> bool:
    return bool(text and email and email.strip().casefold() in text.casefold())
