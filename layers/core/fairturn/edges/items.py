"""The items of the table: their keys, what is written in them, and the lanes in which they are due.

pk                  sk                 what it holds
ROTA#<rota>         LEDGER             version, policy, turns; balances, last turns and grace, packed
ROTA#<rota>         CLAIM#<version>    the journal of the claim or giving back that made this version; a claim's is
                                       due until all its leads are known to be handed over, and expires only then
LOADS               LOADS              one attribute per rep: their open leads; and how often loads were corrected
LEAD#<type>#<id>    RECORD             the lead's record
LEAD#<type>#<id>    TRIES              how often a mistake of ours ended a try with this lead, and which
POLICY              CURRENT            the number of the version in force, and every lane that a version named
POLICY              V#<number>         a version of the policy, who applied it, when and what for; it expires once
                                       another one is in force
ROSTER              CURRENT            the owners as HubSpot knows them
AWAY                CURRENT            one attribute per rep: until when they are away, as somebody told the console
BRAKE               CURRENT            the leads from bulk sources of the last minutes
WATERMARK           CURRENT            how far reconciliation has looked at HubSpot
AUDIT               CURRENT            how far the daily audit has come
OVERWRITES          <day>              one attribute per source: how often it took our choice back that day
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, fields
from decimal import Decimal
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from boto3.dynamodb.types import Binary, TypeDeserializer, TypeSerializer

from fairturn.errors import Mistake, RecordUnreadable, attempt
from fairturn.rules.brake import Brake
from fairturn.rules.events import lead_key
from fairturn.rules.findings import Checkpoint
from fairturn.rules.ledger import Claim, Given, GivingBack, Ledger, Member, Returned
from fairturn.rules.missed import Watermark
from fairturn.rules.policy import Mode, Priority
from fairturn.rules.record import Record, Records, State
from fairturn.rules.roster import Owner
from fairturn.rules.terms import Away, Pointer, Version
from fairturn.rules.verdict import ON_DUTY, Code, Source, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Item = dict[str, Any]

UNFINISHED: Final = "claims"
"""The due lane of the claims of which some leads may not be handed over yet."""
UNOWNED: Final = "unowned"
"""The due lane of the leads whose owner was taken away: nothing is to be done, but everybody can list them."""
REFUSED: Final = "refused"
"""The due lane of the leads that were given up; as a rule there is a dead letter of each."""
HELD_BACK: Final = "bulk"
"""The due lane of the leads from bulk sources that wait, unrouted."""
UNSEEN: Final = "unseen"
"""The due lane of the leads that were given up because HubSpot did not show them: they are looked for again."""

LOADS: Final = {"pk": "LOADS", "sk": "LOADS"}
CORRECTIONS: Final = "corrections"
POINTER: Final = {"pk": "POLICY", "sk": "CURRENT"}
ROSTER: Final = {"pk": "ROSTER", "sk": "CURRENT"}
AWAY: Final = {"pk": "AWAY", "sk": "CURRENT"}
BRAKE: Final = {"pk": "BRAKE", "sk": "CURRENT"}
WATERMARK: Final = {"pk": "WATERMARK", "sk": "CURRENT"}
AUDIT: Final = {"pk": "AUDIT", "sk": "CURRENT"}

# Keys


def ledger_key(rota: str) -> dict[str, str]:
    """The key of a rota's ledger."""
    return {"pk": f"ROTA#{rota}", "sk": "LEDGER"}


def journal_key(rota: str, version: int) -> dict[str, str]:
    """The key of the journal of what made this version of a rota's ledger."""
    return {"pk": f"ROTA#{rota}", "sk": f"CLAIM#{version:012d}"}


def record_key(record_type: str, record_id: str) -> dict[str, str]:
    """The key of a lead's record."""
    return {"pk": f"LEAD#{lead_key(record_type, record_id)}", "sk": "RECORD"}


def tries_key(record_type: str, record_id: str) -> dict[str, str]:
    """The key of what counts a lead's tries."""
    return {"pk": f"LEAD#{lead_key(record_type, record_id)}", "sk": "TRIES"}


def policy_key(number: int) -> dict[str, str]:
    """The key of a version of the policy."""
    return {"pk": "POLICY", "sk": f"V#{number:06d}"}


def key_of(item: Mapping[str, Any]) -> tuple[str, str]:
    """The key of an item, to find it by."""
    return item["pk"], item["sk"]


def due_lane(rota: str, lane: str) -> str:
    """Where the leads of a lane wait in the index `by_due`."""
    return f"{rota}#{lane}"


def by_due(lane: str, at: int) -> Item:
    """The key of an item in the index `by_due`, in a lane that goes by time alone."""
    return {"due_lane": lane, "due": f"{at:013d}"}


# Items


def record_item(record: Record) -> Item:
    """The record with the key of the index `by_due`, which says what has still to happen. A claimed one has none: its
    claim has."""
    item: Item = {field.name: getattr(record, field.name) for field in fields(record)}
    item |= record_key(record.type, record.id)
    if record.state is State.WAITING and record.rota is not None and record.lane is not None:
        rank = Priority(record.priority).rank if record.priority else Priority.NORMAL.rank
        item["due_lane"] = due_lane(record.rota, record.lane)
        item["due"] = f"{rank}#{record.occurred_at:013d}"
    elif record.state is State.WAITING:
        item |= by_due(HELD_BACK, record.occurred_at)
    elif record.state is State.REFUSED:
        item |= by_due(REFUSED, record.changed_at)
    elif record.state is State.UNOWNED:
        item |= by_due(UNOWNED, record.changed_at)
    elif record.look_again_at is not None:
        item |= by_due(UNSEEN, record.look_again_at)
    item["ttl"] = record.expires_at
    item["had"] = list(record.had)
    return {name: value for name, value in item.items() if value not in (None, {}, [], 0)}


def to_records(items: Mapping[str, Item]) -> Records:
    """The records that are written in some items, by the leads' names."""
    known: dict[str, Record] = {}
    unreadable: dict[str, RecordUnreadable] = {}
    for lead, item in items.items():
        try:
            known[lead] = to_record(item)
        except RecordUnreadable as error:
            unreadable[lead] = error
    return Records(known, unreadable)


def to_record(item: Item) -> Record:
    """A lead's record. Raises RecordUnreadable: another version of the program has written it, or something else."""
    known = {field.name for field in fields(Record)}
    try:
        state = State(item["state"])
        facts = {name: value for name, value in item.items() if name in known}
        return Record(**facts | {"state": state, "had": tuple(item.get("had", ()))})
    except (KeyError, TypeError, ValueError) as error:
        raise RecordUnreadable(f"this version cannot read the record of this lead ({type(error).__name__})") from error


def to_version(number: int, item: Item) -> Version:
    """A version of the policy, without the policy itself."""
    mode = Mode(json.loads(item["policy"]).get("mode", Mode.LIVE))
    return Version(number, item["at"], mode, item.get("by"), item.get("message"))


def ledger_item(rota: str, version: int, ledger: Ledger) -> Item:
    """A rota's ledger, as this version of it."""
    return {
        **ledger_key(rota),
        "version": version,
        "policy": ledger.policy,
        "turns": ledger.turns,
        "books": packed({"balances": ledger.balances, "last": ledger.last, "grace": ledger.grace}),
    }


def to_ledger(item: Item) -> Ledger:
    """A rota's ledger."""
    return Ledger(item["version"], item["policy"], item["turns"], **_unpacked(item["books"]))


def to_loads(item: Item) -> dict[str, int]:
    """Rep → their open leads."""
    return {rep: load for rep, load in item.items() if rep not in {*LOADS, CORRECTIONS}}


def claim_item(claim: Claim) -> Item:
    """The journal of a claim. All of it is packed, because a journal costs two write units for each KB. Each rep is
    named once, and what is known of them stands in the same place of each row."""
    before = claim.before
    known = (*before.balances.values(), before.last, before.grace)
    reps = list(dict.fromkeys([*claim.members, *chain.from_iterable(known)]))
    journal = (
        (before.version, before.policy, before.turns),
        (claim.policy, claim.at, sorted(claim.lanes)),
        reps,
        {lane: [row.get(rep) for rep in reps] for lane, row in before.balances.items()},
        [before.last.get(rep) for rep in reps],
        [before.grace.get(rep) for rep in reps],
        [_member_row(member) for member in claim.members.values()],
        [(given.lead, given.lane, given.winner, given.is_patient, *given.had) for given in claim.leads],
    )
    return {"kind": "claim", "journal": packed(journal)}


def to_entry(item: Item, version: int) -> Claim | GivingBack | None:
    """A journal, or None if it can't be read."""
    entry = attempt(lambda: to_journal(item, version))
    return None if isinstance(entry, Mistake) else entry


def to_journal(item: Item, version: int) -> Claim | GivingBack:
    """The journal of what made this version of a rota's ledger."""
    return _to_claim(item) if item["kind"] == "claim" else _to_giving_back(item, version)


def _to_claim(item: Item) -> Claim:
    (version, policy, turns), (now, at, lanes), reps, balances, last, grace, members, leads = _unpacked(item["journal"])

    def of_each(row: Iterable[Any]) -> dict[str, Any]:
        return {rep: value for rep, value in zip(reps, row, strict=False) if value is not None}

    rows = {lane: of_each(row) for lane, row in balances.items()}
    return Claim(
        before=Ledger(version, policy, turns, rows, of_each(last), of_each(grace)),
        policy=now,
        at=at,
        lanes=frozenset(lanes),
        members={rep: _to_member(row) for rep, row in of_each(members).items()},
        leads=_to_given(leads),
    )


def _member_row(member: Member) -> Item:
    """What is not as usual with a rep."""
    usual = asdict(Member())
    row = {name: value for name, value in asdict(member).items() if value != usual[name]}
    row |= {"skills": sorted(member.skills)} if member.skills else {}
    verdict = member.verdict
    code = {"verdict": [verdict.code, verdict.source, *filter(None, [verdict.until])]}
    return row | (code if "verdict" in row else {})


def _to_member(row: Item) -> Member:
    verdict = _to_verdict(*row["verdict"]) if "verdict" in row else ON_DUTY
    return Member(**row | {"skills": frozenset(row.get("skills", ())), "verdict": verdict})


def _to_verdict(code: str, source: str, until: str | None = None) -> Verdict:
    return Verdict(Code(code), Source(source), until)


def _to_given(rows: Iterable[Sequence[Any]]) -> tuple[Given, ...]:
    return tuple(Given(lead, lane, winner, tuple(had), patient) for lead, lane, winner, patient, *had in rows)


def giving_back_item(entry: GivingBack) -> Item:
    """The journal of a giving back."""
    return {"kind": "giving back", "at": entry.at, "leads": [list(returned) for returned in entry.leads]}


def _to_giving_back(item: Item, version: int) -> GivingBack:
    return GivingBack(version - 1, item["at"], tuple(Returned(*returned) for returned in item["leads"]))


def to_pointer(pointer: Item, roster: Item, away: Item) -> Pointer:
    """What points to the terms in force; each item may be empty."""
    return Pointer(
        number=int(pointer.get("number", 0)),
        owners={rep: Owner(id=rep, **owner) for rep, owner in roster.get("owners", {}).items()},
        owners_at=int(roster.get("at", 0)),
        lanes=frozenset(pointer.get("lanes", ())),
        away={rep: Away(**each) for rep, each in away.items() if rep not in AWAY},
    )


def roster_item(owners: Iterable[Owner], at: int) -> Item:
    """The owners as HubSpot knows them at this time. Nobody in it is unavailable."""
    rows = {
        owner.id: {"email": owner.email, "archived": owner.archived} | ({"missed": True} if owner.missed else {})
        for owner in owners
    }
    return {**ROSTER, "owners": rows, "at": at}


def brake_item(brake: Brake) -> Item:
    """The brake; the names of a map's entries are texts."""
    minutes = {str(minute): leads for minute, leads in brake.minutes.items()}
    return {**BRAKE, "rev": brake.rev, "minutes": minutes, "pulled_under": brake.pulled_under}


def to_brake(item: Item) -> Brake:
    """The brake."""
    minutes = {int(minute): leads for minute, leads in item["minutes"].items()}
    return Brake(item["rev"], minutes, item["pulled_under"])


def watermark_item(watermark: Watermark) -> Item:
    """How far reconciliation has come."""
    return {**WATERMARK, **asdict(watermark)}


def to_watermark(item: Item) -> Watermark:
    """How far reconciliation has come."""
    return Watermark(item["began_at"], item["since"], item["beyond"], item["done"])


def checkpoint_item(checkpoint: Checkpoint) -> Item:
    """How far the daily audit has come."""
    return {**AUDIT, **asdict(checkpoint)}


def to_checkpoint(item: Item) -> Checkpoint:
    """How far the daily audit has come."""
    facts = {each.name: item[each.name] for each in fields(Checkpoint)}
    return Checkpoint(**facts | {"left": tuple(item["left"]), "sample": tuple(item["sample"])})


# Values

_serializer = TypeSerializer()
_deserializer = TypeDeserializer()


def serialize(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item, or a part of one, as DynamoDB takes it."""
    return {name: _serializer.serialize(value) for name, value in item.items()}


def deserialize(item: Mapping[str, Any]) -> Item:
    """The same, as DynamoDB gives it."""
    return {name: _plain(_deserializer.deserialize(value)) for name, value in item.items()}


def packed(data: Mapping[str, Any] | Sequence[Any]) -> bytes:
    """A value as the table keeps ledgers and journals, in few bytes."""
    return zlib.compress(json.dumps(data, separators=(",", ":")).encode(), zlib.Z_BEST_COMPRESSION)


def _unpacked(packed: bytes) -> Any:
    return json.loads(zlib.decompress(packed))


def _plain(value: Any) -> Any:
    """DynamoDB's numbers are decimals; all of ours are integers."""
    if isinstance(value, Binary):
        return value.value  # type: ignore[attr-defined] # the stubs leave it out
    if isinstance(value, Decimal):
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value
