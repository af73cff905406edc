"""DynamoDB: the keys, the items, and the conditions that keep them true.

One method is one request with one named condition. A refusal carries the items as they are now, so whoever
was refused decides anew without reading again. Which items there are, and what each is for:

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
    BRAKE               CURRENT            the leads from bulk sources of the last minutes
    LOOK                CURRENT            how far reconciliation has looked at HubSpot
    AUDIT               CURRENT            how far the daily audit has come
    OVERWRITES          <day>              one attribute per source: how often it took our choice back that day
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain, filterfalse
from typing import TYPE_CHECKING, Any, Final, cast

from boto3.dynamodb.types import Binary, TypeDeserializer, TypeSerializer
from botocore.exceptions import BotoCoreError, ClientError
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from fairturn.edges.refusals import BrakeMoved, ClaimRefused, LoadsCorrected, PolicyMoved, RecordsMoved, RosterMoved
from fairturn.errors import Contended, Mistake, PolicyMissing, RecordUnreadable, TableUnavailable, attempt
from fairturn.rules.brake import Brake
from fairturn.rules.events import CONTACT, lead_key
from fairturn.rules.findings import Mark
from fairturn.rules.ledger import Claim, Given, GivingBack, Ledger, Member, Returned
from fairturn.rules.missed import Look
from fairturn.rules.policy import Mode, Policy, Priority
from fairturn.rules.record import Record, State, load_changes, new
from fairturn.rules.roster import Owner
from fairturn.rules.verdict import Code, Source, Verdict
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

Item = dict[str, Any]
ClaimKey = tuple[str, int]
"""A claim: its rota, and the version of the ledger that it made."""
Moves = Sequence[tuple[Record, Record]]

MAX_RECORDS: Final = 97
"""Leads in one claim: with the ledger, the journal and the loads they fill DynamoDB's 100 items."""
MAX_KEYS: Final = 100
MAX_READS: Final = 5
CONFLICT_ATTEMPTS: Final = 6
"""The first try and five more: botocore does not retry a TransactionConflict by itself."""
IN_FORCE_FOR: Final = 30.0
"""Seconds for which a warm function trusts the policy and the roster that it has read."""
TRIES_KEPT_FOR: Final = 14 * 24 * 3600
"""Seconds: as long as a message can live."""
OVERWRITES_KEPT_FOR: Final = 7 * 24 * 3600
"""Seconds."""
JOURNAL_DAYS: Final = 400
"""For how many days journals and superseded versions of the policy are kept, where nobody says otherwise."""
DAY: Final = 24 * 3600
"""Seconds."""
MOST_COUNTED: Final = 1_000
"""Leads of a lane that are counted; beyond that it is `many`."""

CLAIMS: Final = "claims"
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
BRAKE: Final = {"pk": "BRAKE", "sk": "CURRENT"}
LOOK: Final = {"pk": "LOOK", "sk": "CURRENT"}
AUDIT: Final = {"pk": "AUDIT", "sk": "CURRENT"}
SEEN_BY_AUDIT: Final = ("pk", "type", "id", "state", "rev", "round", "rep", "rota", "claim", "booked_as")
"""What a scan shows of a record."""
EXPIRES_SOON: Final = 24 * 3600
"""Seconds before its time from which on a journal counts as gone: DynamoDB deletes in any order, and some days late."""


@dataclass(frozen=True, slots=True)
class Records:
    """The records of some leads, by the leads' names."""

    known: Mapping[str, Record]
    """Those that there are."""
    unreadable: Mapping[str, RecordUnreadable]

    def of(self, id: str, type: str = CONTACT) -> Record:  # noqa: A002 - HubSpot's words
        """A lead's record; a new one where there is none. Raises RecordUnreadable."""
        key = lead_key(type, id)
        if key in self.unreadable:
            raise self.unreadable[key]
        return self.known.get(key) or new(id, type)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one consistent read found. What is not there is an empty ledger, no load, a new record."""

    ledgers: Mapping[str, Ledger]
    loads: Mapping[str, int]
    records: Records


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a mistake of ours ended a try with a lead."""

    number: int
    at: int
    """When the last one did, epoch milliseconds."""
    what: str = ""
    """Which mistake that was."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """What points to the terms in force."""

    number: int = 0
    """The version of the policy; 0 if none was applied."""
    owners: Mapping[str, Owner] = field(default_factory=dict)
    owners_at: int = 0
    """When the owners were refreshed, epoch milliseconds."""
    lanes: frozenset[str] = frozenset()
    """Every due lane that any version of the policy ever named: in any of them leads may wait."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a due lane has."""

    leads: int
    since: int | None
    """When the oldest of them came, epoch milliseconds; None if there is none."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the policy, as it came into force."""

    number: int
    at: int
    """When it was applied, epoch milliseconds."""
    mode: Mode
    by: str | None = None
    """The ARN of whoever applied it; None if it was not to be had."""
    message: str | None = None
    """What they said about it."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is in force: the policy, its number, and the owners as HubSpot knows them."""

    number: int
    policy: Policy
    owners: Mapping[str, Owner]

    def is_owner(self, rep: str | None) -> bool:
        """Whether HubSpot knows the rep as an owner, active and not refused."""
        owner = self.owners.get(rep or "")
        return owner is not None and not owner.archived and not owner.unavailable


class _Conflict(Exception):
    """Somebody else's transaction holds an item; nothing is known about the condition."""


class Store:
    """The table. Raises TableUnavailable when DynamoDB can't answer for now, Contended when others hold its items."""

    def __init__(
        self,
        client: DynamoDBClient,
        table: str,
        *,
        journal_days: int = JOURNAL_DAYS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._table = table
        self.journal_days = journal_days
        self._sleep = sleep

    # What a claim rests on

    def read(self, rotas: Iterable[str], leads: Iterable[tuple[str, str]]) -> Snapshot:
        """The ledgers of rotas, every rep's load, and the records of leads given as (type, id).

        One consistent BatchGetItem for up to 100 items, which is a whole batch of leads of one rota.
        """
        ledger_keys = {rota: _ledger_key(rota) for rota in sorted(set(rotas))}
        record_keys = {lead_key(*lead): _record_key(*lead) for lead in leads}
        found = self._get([LOADS, *ledger_keys.values(), *record_keys.values()])
        return Snapshot(
            ledgers={
                rota: _to_ledger(item) if (item := found.get(_name(key))) else Ledger()
                for rota, key in ledger_keys.items()
            },
            loads=_to_loads(found.get(_name(LOADS), {})),
            records=_to_records({lead: found[_name(key)] for lead, key in record_keys.items() if _name(key) in found}),
        )

    def records(self, leads: Iterable[tuple[str, str]]) -> Records:
        """The records of leads given as (type, id). One request for up to 100."""
        keys = {lead_key(*lead): _record_key(*lead) for lead in leads}
        found = self._get(list(keys.values()))
        return _to_records({lead: found[_name(key)] for lead, key in keys.items() if _name(key) in found})

    def loads(self) -> dict[str, int]:
        """Every rep's open leads; who never had any is absent."""
        return _to_loads(self._get([LOADS]).get(_name(LOADS), {}))

    def corrections(self) -> int:
        """How often loads were corrected."""
        return int(self._get([LOADS]).get(_name(LOADS), {}).get(CORRECTIONS, 0))

    def journal(self, rota: str, version: int) -> Claim | GivingBack:
        """What made this version of the rota's ledger. Raises KeyError if there is no such version."""
        return self.journals([(rota, version)])[rota, version]

    def journals(self, claims: Iterable[ClaimKey]) -> dict[ClaimKey, Claim | GivingBack]:
        """The same for several, as far as they are there. One request for up to 100."""
        keys = {(rota, version): _journal_key(rota, version) for rota, version in claims}
        found = self._get(list(keys.values()))
        items = {claim: found[_name(key)] for claim, key in keys.items() if _name(key) in found}
        return {claim: _to_journal(item, claim[1]) for claim, item in items.items()}

    # What makes it true

    def claim(self, rota: str, claim: Claim, after: Ledger, moves: Moves, loads: Mapping[str, int]) -> None:
        """Make an allotment true, all or nothing.

        Condition: the ledger is still at the version that was read, each chosen rep is within his capacity (and
        who had no load still has none), and each record is still as it was read. `loads` is what was read.
        Raises ClaimRefused with what has moved.
        """
        limits = {rep: member.capacity for rep, member in claim.members.items() if member.capacity is not None}
        self._write(
            [
                self._put_ledger(rota, claim.before.version, after),
                self._put_journal(rota, claim.version, {**_claim_item(claim), **_due(CLAIMS, claim.at)}),
                *self._add_loads(load_changes(moves), limits=limits, seen=loads),
                *(self._put_record(before, record) for before, record in moves),
            ],
            moves,
        )

    def give_back(self, rota: str, entry: GivingBack, after: Ledger, moves: Moves) -> None:
        """Undo claims: turns, loads and records in one, all or nothing.

        Condition: the ledger is still at the version that was read, and so is each record. Raises ClaimRefused.
        """
        self._write(
            [
                self._put_ledger(rota, entry.before, after),
                self._put_journal(rota, entry.version, {**_giving_back_item(entry), "ttl": self._expires_at(entry.at)}),
                *self._add_loads(load_changes(moves)),
                *(self._put_record(before, record) for before, record in moves),
            ],
            moves,
        )

    def move(self, moves: Moves) -> None:
        """Move records, and the loads with them; no turn is touched.

        Condition: each record is still as it was read. Raises RecordsMoved with those that are not.
        """
        try:
            self._write(
                [
                    *self._add_loads(load_changes(moves)),
                    *(self._put_record(before, record) for before, record in moves),
                ],
                moves,
            )
        except ClaimRefused as refused:
            if len(moves) == 1 and refused.records == {record.key: record for _, record in moves}:
                return  # the answer was lost, and botocore has asked once more: only a transaction knows its own again
            raise RecordsMoved(refused.records) from refused

    def correct_loads(self, changes: Mapping[str, int], corrections: int) -> None:
        """Correct reps' loads by so much. Claims that are made meanwhile make no difference to what is wrong with them.

        Condition: loads have been corrected just so often, and not again. Raises LoadsCorrected.
        """
        names = {f"#r{n}": rep for n, rep in enumerate(sorted(changes))} | {"#corrections": CORRECTIONS}
        values = {f":c{n}": changes[rep] for n, rep in enumerate(sorted(changes))} | {":one": 1}
        added = ", ".join(f"#r{n} :c{n}" for n in range(len(changes)))
        request: Item = {
            "TableName": self._table,
            "Key": _serialize(LOADS),
            "UpdateExpression": f"ADD {added}, #corrections :one",
            "ConditionExpression": "#corrections = :seen" if corrections else "attribute_not_exists(#corrections)",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": _serialize(values | ({":seen": corrections} if corrections else {})),
        }
        try:
            self._call(lambda: self._client.update_item(**request))
        except ClientError as error:
            if not _is_refused(error):
                raise
            raise LoadsCorrected("somebody else has corrected loads meanwhile") from error

    def finish(self, rota: str, version: int, at: int) -> None:
        """Note, at this time in epoch milliseconds, that no lead of a claim has still to be handed over.

        Its journal has so many days to live from then on: while a handover may need it, it never expires.

        Condition: that was not noted before. If it was, this changes nothing, whoever did it.
        """
        request: Item = {
            "TableName": self._table,
            "Key": _serialize(_journal_key(rota, version)),
            "UpdateExpression": "REMOVE due_lane, due SET #ttl = :ttl",
            "ConditionExpression": "attribute_exists(due_lane)",
            "ExpressionAttributeNames": {"#ttl": "ttl"},
            "ExpressionAttributeValues": _serialize({":ttl": self._expires_at(at)}),
        }
        try:
            self._call(lambda: self._client.update_item(**request))
        except ClientError as error:
            if not _is_refused(error):
                raise

    # What is due

    def due(self, lane: str, most: int, before: int | None = None) -> list[tuple[str, str]]:
        """Leads of a due lane as (type, id), at most so many: by urgency, then the oldest first.

        `before`, epoch milliseconds, leaves out what is younger, where a due lane goes by time alone. The index
        lags behind by moments, so each record is to be read before anything is decided.
        """
        keys = [pk.split("#") for pk, _ in self._due_keys(lane, most, before)]
        return [(record_type, record_id) for _, record_type, record_id in keys]

    def unfinished(self, most: int, before: int | None = None) -> list[ClaimKey]:
        """Claims of which some leads may not be handed over yet, at most so many, the oldest first.

        `before`, epoch milliseconds, leaves out what is younger. The index lags behind here, too.
        """
        keys = self._due_keys(CLAIMS, most, before)
        return [(pk.partition("#")[2], int(sk.partition("#")[2])) for pk, sk in keys]

    def backlog(self, lane: str) -> Backlog:
        """How many leads a due lane has, at most 1,000, and since when the oldest of these waits."""
        request = self._due(lane) | {"ProjectionExpression": "due", "Limit": MOST_COUNTED}
        items = self._call(lambda: self._client.query(**request))["Items"]
        since = [int(_deserialize(item)["due"].rpartition("#")[2]) for item in items]
        return Backlog(len(since), min(since, default=None))

    def _due_keys(self, lane: str, most: int, before: int | None) -> list[tuple[str, str]]:
        request = self._due(lane) | {"Limit": most}
        if before is not None:
            request["KeyConditionExpression"] += " AND due < :before"
            request["ExpressionAttributeValues"] |= _serialize({":before": f"{before:013d}"})
        items = self._call(lambda: self._client.query(**request))["Items"]
        return [_name(_deserialize(item)) for item in items]

    def _due(self, lane: str) -> Item:
        return {
            "TableName": self._table,
            "IndexName": "by_due",
            "KeyConditionExpression": "due_lane = :lane",
            "ExpressionAttributeValues": _serialize({":lane": lane}),
        }

    # Policy and roster

    def pointer(self) -> Pointer:
        """The number of the policy in force, and the owners as last refreshed."""
        found = self._get([POINTER, ROSTER])
        pointer, roster = found.get(_name(POINTER), {}), found.get(_name(ROSTER), {})
        owners = {rep: Owner(id=rep, **owner) for rep, owner in roster.get("owners", {}).items()}
        return Pointer(
            number=int(pointer.get("number", 0)),
            owners=owners,
            owners_at=int(roster.get("at", 0)),
            lanes=frozenset(pointer.get("lanes", ())),
        )

    def policy(self, number: int) -> Policy:
        """One version of the policy. Raises PolicyMissing, or PolicyInvalid if this program can't use it."""
        key = _policy_key(number)
        found = self._get([key])
        if _name(key) not in found:
            raise PolicyMissing(f"there is no version {number} of the policy: apply one with `fairturn policy apply`")
        return Policy.load(found[_name(key)]["policy"])

    def terms(self) -> Terms:
        """What is in force now. Raises PolicyMissing, or PolicyInvalid if this program can't use it."""
        pointer = self.pointer()
        if pointer.number == 0:
            raise PolicyMissing("no policy is in force: apply one with `fairturn policy apply`")
        return Terms(pointer.number, self.policy(pointer.number), pointer.owners)

    def versions(self, last: int) -> list[Version]:
        """The last versions of the policy, at most 100, the newest first; none if no policy was applied."""
        number = self.pointer().number
        keys = {each: _policy_key(each) for each in range(number, max(number - last, 0), -1)}
        found = self._get(list(keys.values()))
        items = {each: found[_name(key)] for each, key in keys.items() if _name(key) in found}
        return [_to_version(each, item) for each, item in items.items()]

    def stored_versions(self, numbers: Iterable[int]) -> dict[int, Item]:
        """Versions of the policy as they are stored, whether this program can use them or not: `policy` as JSON has it,
        `at`, and where they are known `by` and `message`. What has expired is left out."""
        keys = {number: _policy_key(number) for number in numbers}
        found = self._get(list(keys.values()))
        items = {number: found[_name(key)] for number, key in keys.items() if _name(key) in found}
        return {number: item | {"policy": json.loads(item["policy"])} for number, item in items.items()}

    def amend_version(self, number: int, item: Item) -> None:
        """Write a version of the policy anew, as `stored_versions` has given it.

        Condition: it is still there. If it is not, this changes nothing.
        """
        text = json.dumps(item["policy"], separators=(",", ":"))
        request: Item = {
            "TableName": self._table,
            "Item": _serialize({**item, **_policy_key(number), "policy": text}),
            "ConditionExpression": "attribute_exists(pk)",
        }
        try:
            self._call(lambda: self._client.put_item(**request))
        except ClientError as error:
            if not _is_refused(error):
                raise

    def put_policy(
        self, number: int, policy: Policy, at: int, *, by: str | None = None, message: str | None = None
    ) -> None:
        """Put a new version into force; `by` and `message` tell who applies it and what for. The one before has so many
        days to live from then on; the one in force never expires.

        Condition: it follows the one in force. Raises PolicyMoved.
        """
        said = {name: value for name, value in (("by", by), ("message", message)) if value is not None}
        version = {**_policy_key(number), "policy": policy.dump(), "at": at, **said}
        lanes = {due_lane(rota, lane) for rota in policy.rotas for lane in policy.lanes(rota)}
        follows: Item = {
            "Key": _serialize(POINTER),
            "UpdateExpression": "SET #number = :number" + (" ADD lanes :lanes" if lanes else ""),
            "ConditionExpression": "#number = :before" if number > 1 else "attribute_not_exists(pk)",
            "ExpressionAttributeNames": {"#number": "number"},
            "ExpressionAttributeValues": _serialize(
                {":number": number}
                | ({":before": number - 1} if number > 1 else {})
                | ({":lanes": lanes} if lanes else {})
            ),
        }
        items: list[Item] = [
            {"Put": {"ConditionExpression": "attribute_not_exists(pk)", "Item": _serialize(version)}},
            {"Update": follows},
        ]
        if number > 1:
            expires: Item = {
                "Key": _serialize(_policy_key(number - 1)),
                "UpdateExpression": "SET #ttl = :ttl",
                "ConditionExpression": "attribute_exists(pk)",
                "ExpressionAttributeNames": {"#ttl": "ttl"},
                "ExpressionAttributeValues": _serialize({":ttl": self._expires_at(at)}),
            }
            items.append({"Update": expires})
        try:
            self._write(items, ())
        except ClaimRefused as refused:
            raise PolicyMoved(f"somebody has applied version {number} meanwhile") from refused

    def put_roster(self, owners: Iterable[Owner], at: int, *, read_at: int | None = None) -> None:
        """Write down the owners as HubSpot knows them now; this also forgets who was marked unavailable.

        Condition, where `read_at` is given: they are still those that were refreshed then. Raises RosterMoved.
        """
        rows = {
            owner.id: {"email": owner.email, "archived": owner.archived} | ({"missed": True} if owner.missed else {})
            for owner in owners
        }
        seen = None if read_at is None else ("at", read_at)
        if not self._put({**ROSTER, "owners": rows, "at": at}, seen):
            raise RosterMoved("somebody has refreshed the owners meanwhile")

    def mark_unavailable(self, rep: str) -> None:
        """Note that HubSpot refuses this owner, until the roster is refreshed. Who is not in it stays out."""
        request: Item = {
            "TableName": self._table,
            "Key": _serialize(ROSTER),
            "UpdateExpression": "SET #owners.#rep.#unavailable = :true",
            "ConditionExpression": "attribute_exists(#owners.#rep)",
            "ExpressionAttributeNames": {"#owners": "owners", "#rep": rep, "#unavailable": "unavailable"},
            "ExpressionAttributeValues": _serialize({":true": True}),
        }
        try:
            self._call(lambda: self._client.update_item(**request))
        except ClientError as error:
            if not _is_refused(error):
                raise

    # Floods and overwrites

    def brake(self) -> Brake:
        """The brake as it stands."""
        item = self._get([BRAKE]).get(_name(BRAKE))
        if item is None:
            return Brake()
        minutes = {int(minute): leads for minute, leads in item["minutes"].items()}
        return Brake(item["rev"], minutes, item["pulled_under"])

    def hold_back(self, before: Brake, after: Brake, moves: Moves) -> None:
        """Count leads from bulk sources and write down that they wait, at most 97, all or nothing: so each is counted
        once, however often its message comes.

        Condition: the brake is as it was read, and so is each record. Raises BrakeMoved or RecordsMoved.
        """
        item = {
            **BRAKE,
            "rev": after.rev,
            "minutes": {str(minute): leads for minute, leads in after.minutes.items()},
            "pulled_under": after.pulled_under,
        }
        brake = {"Put": {"Item": _serialize(item), **_unless_moved("rev", before.rev)}}
        try:
            self._write([brake, *(self._put_record(record, held) for record, held in moves)], moves)
        except ClaimRefused as refused:
            if refused.records:
                raise RecordsMoved(refused.records) from refused
            raise BrakeMoved("somebody has counted leads meanwhile") from refused

    def note_overwrite(self, source: str, at: int) -> int:
        """Count that a source took our choice of an owner back. Returns how often it has done so on that day (UTC)."""
        day = datetime.fromtimestamp(at / 1000, UTC).date().isoformat()
        request: Item = {
            "TableName": self._table,
            "Key": _serialize({"pk": "OVERWRITES", "sk": day}),
            "UpdateExpression": "ADD #source :one SET #ttl = :ttl",
            "ExpressionAttributeNames": {"#source": source, "#ttl": "ttl"},
            "ExpressionAttributeValues": _serialize({":one": 1, ":ttl": at // 1000 + OVERWRITES_KEPT_FOR}),
            "ReturnValues": "UPDATED_NEW",
        }
        answer = self._call(lambda: self._client.update_item(**request))
        return int(_deserialize(answer["Attributes"])[source])

    # What no webhook told

    def last_look(self) -> Look | None:
        """How far reconciliation has come; None if it never looked."""
        item = self._get([LOOK]).get(_name(LOOK))
        return None if item is None else Look(item["began_at"], item["since"], item["beyond"], item["done"])

    def note_look(self, look: Look) -> None:
        """Write down how far reconciliation has come. Of two runs that look at once, the later word counts: all that
        the other has found is sent."""
        self._put({**LOOK, **asdict(look)}, None)

    # What an audit reads

    def page_of_records(self, beyond: Item | None = None, *, whole: bool = False) -> tuple[Records, Item | None]:
        """A page of all records, in no order, each with what an audit needs of it, or `whole`; and where the next page
        begins, None after the last one. Each record is read consistently, the page as a whole is not."""
        names = {f"#{name}": name for name in SEEN_BY_AUDIT}
        shown: Item = {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names}
        request: Item = {
            "TableName": self._table,
            "ConsistentRead": True,
            "FilterExpression": "sk = :record",
            "ExpressionAttributeValues": _serialize({":record": "RECORD"}),
            **({} if whole else shown),
        }
        if beyond is not None:
            request["ExclusiveStartKey"] = beyond
        answer = self._call(lambda: self._client.scan(**request))
        items = map(_deserialize, answer["Items"])
        return _to_records({item["pk"].partition("#")[2]: item for item in items}), answer.get("LastEvaluatedKey")

    def journals_from(
        self, rota: str, first: int, last: int, at: int
    ) -> tuple[dict[int, Claim | GivingBack | None], int | None]:
        """The journals of a rota from one version to another, at most 100 of them, None for one that can't be read; and
        with which version to go on, None after the last one. What has expired at `at`, epoch milliseconds, is left out,
        and so is one whose claim was finished so late that its neighbours are gone before it.
        """
        request: Item = {
            "TableName": self._table,
            "ConsistentRead": True,
            "KeyConditionExpression": "pk = :rota AND sk BETWEEN :first AND :last",
            "ExpressionAttributeValues": _serialize(
                {
                    ":rota": _ledger_key(rota)["pk"],
                    ":first": _journal_key(rota, first)["sk"],
                    ":last": _journal_key(rota, last)["sk"],
                }
            ),
            "Limit": MAX_KEYS,
        }
        answer = self._call(lambda: self._client.query(**request))
        items = {int(item["sk"].partition("#")[2]): item for item in map(_deserialize, answer["Items"])}
        entries = {version: _to_entry(item, version) for version, item in items.items()}
        soon = at // 1000 + EXPIRES_SOON
        expired = [version for version, item in items.items() if "ttl" in item and item["ttl"] < soon]
        expired += [version for version, entry in entries.items() if entry and self._expires_at(entry.at) < soon]
        more = max(items) + 1 if items and "LastEvaluatedKey" in answer else None
        return {version: entry for version, entry in entries.items() if version > max(expired, default=0)}, more

    def entries(self, claims: Iterable[ClaimKey]) -> dict[ClaimKey, tuple[Claim | GivingBack | None, bool]]:
        """Some journals, as far as they are there, None for one that can't be read, each with whether sweep still looks
        at it. One request for up to 100."""
        keys = {(rota, version): _journal_key(rota, version) for rota, version in claims}
        found = self._get(list(keys.values()))
        items = {claim: found[_name(key)] for claim, key in keys.items() if _name(key) in found}
        return {claim: (_to_entry(item, claim[1]), "due_lane" in item) for claim, item in items.items()}

    def last_audit(self) -> Mark | None:
        """How far the daily audit has come; None if there never was one."""
        item = self._get([AUDIT]).get(_name(AUDIT))
        if item is None:
            return None
        facts = {each.name: item[each.name] for each in fields(Mark)}
        return Mark(**facts | {"left": tuple(item["left"]), "sample": tuple(item["sample"])})

    def note_audit(self, mark: Mark) -> None:
        """Write down how far the daily audit has come. Of two runs that audit at once, the later word counts: both have
        told what they found."""
        self._put({**AUDIT, **asdict(mark)}, None)

    # Mistakes of ours

    def note_try(self, lead: tuple[str, str], what: str, at: int) -> int:
        """Count that a mistake of ours ended a try with a lead, given as (type, id). Returns how many did by now."""
        request: Item = {
            "TableName": self._table,
            "Key": _serialize(_tries_key(*lead)),
            "UpdateExpression": "ADD #number :one SET #what = :what, #at = :at, #ttl = :ttl",
            "ExpressionAttributeNames": {"#number": "number", "#what": "what", "#at": "at", "#ttl": "ttl"},
            "ExpressionAttributeValues": _serialize(
                {":one": 1, ":what": what, ":at": at, ":ttl": at // 1000 + TRIES_KEPT_FOR}
            ),
            "ReturnValues": "UPDATED_NEW",
        }
        answer = self._call(lambda: self._client.update_item(**request))
        return int(_deserialize(answer["Attributes"])["number"])

    def tries(self, leads: Iterable[tuple[str, str]]) -> dict[str, Tries]:
        """The tries of leads given as (type, id) that mistakes of ours ended, by the leads' names."""
        keys = {lead_key(*lead): _tries_key(*lead) for lead in leads}
        found = self._get(list(keys.values()))
        items = {lead: found[_name(key)] for lead, key in keys.items() if _name(key) in found}
        return {lead: Tries(int(item["number"]), int(item["at"]), item["what"]) for lead, item in items.items()}

    def forget_tries(self, leads: Iterable[tuple[str, str]]) -> None:
        """Forget the tries of leads given as (type, id). One request for each."""
        for lead in leads:
            key = _serialize(_tries_key(*lead))
            self._call(lambda key=key: self._client.delete_item(TableName=self._table, Key=key))  # type: ignore[misc]

    # Requests

    def _get(self, keys: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], Item]:
        found: dict[tuple[str, str], Item] = {}
        for start in range(0, len(keys), MAX_KEYS):
            wanted: Any = {
                self._table: {
                    "Keys": [_serialize(key) for key in keys[start : start + MAX_KEYS]],
                    "ConsistentRead": True,
                }
            }
            for _ in range(MAX_READS):
                answer = self._call(lambda wanted=wanted: self._client.batch_get_item(RequestItems=wanted))  # type: ignore[misc]
                for raw in answer["Responses"].get(self._table, []):
                    item = _deserialize(raw)
                    found[_name(item)] = item
                wanted = answer.get("UnprocessedKeys")
                if not wanted:
                    break
            else:
                raise TableUnavailable("DynamoDB left keys unread")
        return found

    def _expires_at(self, at: int) -> int:
        """Epoch seconds from which DynamoDB may delete what is of no use any more since `at`, epoch milliseconds."""
        return at // 1000 + self.journal_days * DAY

    def _put(self, item: Item, seen: tuple[str, int] | None) -> bool:
        """Put an item, on condition that one of its attributes still is what was seen, 0 being that of an item that
        is not there. Returns whether the condition held."""
        request: Item = {"TableName": self._table, "Item": _serialize(item)}
        if seen is not None:
            request |= _unless_moved(*seen)
        try:
            self._call(lambda: self._client.put_item(**request))
        except ClientError as error:
            if not _is_refused(error):
                raise
            return False
        return True

    def _write(self, items: Sequence[Item], moves: Moves) -> None:
        for item in items:
            next(iter(item.values()))["TableName"] = self._table
        try:
            self._call(lambda: self._request(items))
        except ClientError as error:
            reasons = _reasons(error)
            if not any(reason.get("Code") == "ConditionalCheckFailed" for reason in reasons):
                raise
            raise _who_won(reasons, items, moves) from error

    def _request(self, items: Sequence[Item]) -> None:
        """All or nothing. A put alone needs no transaction, which costs double."""
        match items:
            case [{"Put": put}]:
                self._client.put_item(**put)
            case _:
                request = cast("Sequence[TransactWriteItemTypeDef]", items)
                self._client.transact_write_items(TransactItems=request)

    def _call(self, request: Callable[[], Any]) -> Any:
        """Make one request; while it is in conflict with somebody's transaction, a few times more."""
        retrying = Retrying(
            retry=retry_if_exception_type(_Conflict),
            stop=stop_after_attempt(CONFLICT_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.02, max=0.5),
            sleep=self._sleep,
        )
        try:
            return retrying(_once, request)
        except RetryError as error:
            raise Contended("in conflict with other transactions too often") from error

    def _put_ledger(self, rota: str, version: int, after: Ledger) -> Item:
        item = {
            **_ledger_key(rota),
            "version": version + 1,
            "policy": after.policy,
            "turns": after.turns,
            "books": packed({"balances": after.balances, "last": after.last, "grace": after.grace}),
        }
        return {
            "Put": {
                "Item": _serialize(item),
                **_unless_moved("version", version),
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _put_journal(self, rota: str, version: int, entry: Item) -> Item:
        item = _serialize({**_journal_key(rota, version), **entry})
        return {"Put": {"Item": item, "ConditionExpression": "attribute_not_exists(pk)"}}

    def _put_record(self, before: Record, record: Record) -> Item:
        return {
            "Put": {
                "Item": _serialize(_record_item(record)),
                **_unless_moved("rev", before.rev),
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _add_loads(
        self,
        changes: Mapping[str, int],
        *,
        limits: Mapping[str, int] | None = None,
        seen: Mapping[str, int] | None = None,
    ) -> list[Item]:
        """One update for every rep's load. A condition costs two operators per rep: 97 reps stay under 300."""
        if not changes:
            return []
        names = {f"#r{n}": rep for n, rep in enumerate(sorted(changes))}
        values = {f":c{n}": changes[rep] for n, rep in enumerate(sorted(changes))}
        conditions = []
        for n, rep in enumerate(sorted(changes)):
            if limits is None or rep not in limits:
                continue
            if rep in (seen or {}):
                conditions.append(f"#r{n} <= :l{n}")
                values[f":l{n}"] = limits[rep] - changes[rep]
            else:
                conditions.append(f"attribute_not_exists(#r{n})")
        update: Item = {
            "Key": _serialize(LOADS),
            "UpdateExpression": "ADD " + ", ".join(f"#r{n} :c{n}" for n in range(len(names))),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": _serialize(values),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if conditions:
            update["ConditionExpression"] = " AND ".join(conditions)
        return [{"Update": update}]


class InForce:
    """The policy and the roster that a warm function works under, read again after 30 seconds.

    The clock is the wall's: while Lambda keeps a function frozen between two calls, others may stand still.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._read_at = float("-inf")
        self._terms: Terms | None = None

    def current(self) -> Terms:
        """The terms to decide by. Raises PolicyMissing or PolicyInvalid."""
        if self._terms is None or self._clock() - self._read_at >= IN_FORCE_FOR:
            return self.anew()[1]
        return self._terms

    def anew(self) -> tuple[Pointer, Terms]:
        """Read what is in force now, and decide by that from here on. Raises PolicyMissing or PolicyInvalid."""
        pointer = self._store.pointer()
        if pointer.number == 0:
            raise PolicyMissing("no policy is in force: apply one with `fairturn policy apply`")
        if self._terms is None or pointer.number != self._terms.number:
            policy = self._store.policy(pointer.number)
        else:
            policy = self._terms.policy
        self._terms = Terms(pointer.number, policy, pointer.owners)
        self._read_at = self._clock()
        for rep in filterfalse(self._terms.is_owner, self._terms.policy.reps):
            count(Metric.REPS_UNAVAILABLE)
            logger.error("the policy names a rep whom HubSpot does not know or has archived", extra={"rep": rep})
        return pointer, self._terms

    def forget(self) -> None:
        """Read again at the next look: something has shown that there is a newer truth."""
        self._read_at = float("-inf")


# Keys


def _ledger_key(rota: str) -> dict[str, str]:
    return {"pk": f"ROTA#{rota}", "sk": "LEDGER"}


def _journal_key(rota: str, version: int) -> dict[str, str]:
    return {"pk": f"ROTA#{rota}", "sk": f"CLAIM#{version:012d}"}


def _record_key(record_type: str, record_id: str) -> dict[str, str]:
    return {"pk": f"LEAD#{lead_key(record_type, record_id)}", "sk": "RECORD"}


def _tries_key(record_type: str, record_id: str) -> dict[str, str]:
    return {"pk": f"LEAD#{lead_key(record_type, record_id)}", "sk": "TRIES"}


def _policy_key(number: int) -> dict[str, str]:
    return {"pk": "POLICY", "sk": f"V#{number:06d}"}


def _name(key: Mapping[str, Any]) -> tuple[str, str]:
    return key["pk"], key["sk"]


def due_lane(rota: str, lane: str) -> str:
    """Where the leads of a lane wait in the index `by_due`."""
    return f"{rota}#{lane}"


def _due(lane: str, at: int) -> Item:
    """The key of an item in the index `by_due`, in a lane that goes by time alone."""
    return {"due_lane": lane, "due": f"{at:013d}"}


# Conditions


def _unless_moved(name: str, seen: int) -> Item:
    """The condition that an item's attribute still is what was seen, 0 being that of an item that is not there."""
    if not seen:
        return {"ConditionExpression": "attribute_not_exists(pk)"}
    return {
        "ConditionExpression": "#seen = :seen",
        "ExpressionAttributeNames": {"#seen": name},
        "ExpressionAttributeValues": _serialize({":seen": seen}),
    }


# Items


def _record_item(record: Record) -> Item:
    """The record with the key of the index `by_due`, which says what has still to happen. A claimed one has none: its
    claim has."""
    item: Item = {field.name: getattr(record, field.name) for field in fields(record)}
    item |= _record_key(record.type, record.id)
    if record.state is State.WAITING and record.rota is not None and record.lane is not None:
        rank = Priority(record.priority).rank if record.priority else Priority.NORMAL.rank
        item["due_lane"] = due_lane(record.rota, record.lane)
        item["due"] = f"{rank}#{record.occurred_at:013d}"
    elif record.state is State.WAITING:
        item |= _due(HELD_BACK, record.occurred_at)
    elif record.state is State.REFUSED:
        item |= _due(REFUSED, record.changed_at)
    elif record.state is State.UNOWNED:
        item |= _due(UNOWNED, record.changed_at)
    elif record.look_at is not None:
        item |= _due(UNSEEN, record.look_at)
    item["ttl"] = record.expires_at
    item["had"] = list(record.had)
    return {name: value for name, value in item.items() if value not in (None, {}, [], 0)}


def _to_records(items: Mapping[str, Item]) -> Records:
    known: dict[str, Record] = {}
    unreadable: dict[str, RecordUnreadable] = {}
    for lead, item in items.items():
        try:
            known[lead] = _to_record(item)
        except RecordUnreadable as error:
            unreadable[lead] = error
    return Records(known, unreadable)


def _to_record(item: Item) -> Record:
    """Raises RecordUnreadable: another version of the program has written it, or something else."""
    known = {field.name for field in fields(Record)}
    try:
        state = State(item["state"])
        facts = {name: value for name, value in item.items() if name in known}
        return Record(**facts | {"state": state, "had": tuple(item.get("had", ()))})
    except (KeyError, TypeError, ValueError) as error:
        raise RecordUnreadable(f"this version cannot read the record of this lead ({type(error).__name__})") from error


def _to_version(number: int, item: Item) -> Version:
    mode = Mode(json.loads(item["policy"]).get("mode", Mode.LIVE))
    return Version(number, item["at"], mode, item.get("by"), item.get("message"))


def _to_ledger(item: Item) -> Ledger:
    return Ledger(item["version"], item["policy"], item["turns"], **_unpacked(item["books"]))


def _to_loads(item: Item) -> dict[str, int]:
    return {rep: load for rep, load in item.items() if rep not in {*LOADS, CORRECTIONS}}


def _claim_item(claim: Claim) -> Item:
    """All of it is packed, because a journal costs two write units for each KB. Each rep is named once, and what is
    known of them stands in the same place of each row."""
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


def _to_entry(item: Item, version: int) -> Claim | GivingBack | None:
    """A journal, or None if it can't be read."""
    entry = attempt(lambda: _to_journal(item, version))
    return None if isinstance(entry, Mistake) else entry


def _to_journal(item: Item, version: int) -> Claim | GivingBack:
    return _to_claim(item) if item["kind"] == "claim" else _to_giving_back(item, version)


def _to_claim(item: Item) -> Claim:
    if "journal" not in item:
        return _to_claim_of_old(item)
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


def _to_claim_of_old(item: Item) -> Claim:
    """A journal as earlier versions of this program have written it."""
    return Claim(
        before=Ledger(**_unpacked(item["before"])),
        policy=item["policy"],
        at=item["at"],
        lanes=frozenset(item["lanes"]),
        members={rep: _to_member(row) for rep, row in _unpacked(item["members"]).items()},
        leads=_to_given(item["leads"]),
    )


def _member_row(member: Member) -> Item:
    """What is not as usual with a rep."""
    usual = asdict(Member())
    row = {name: value for name, value in asdict(member).items() if value != usual[name]}
    row |= {"skills": sorted(member.skills)} if member.skills else {}
    said = member.verdict
    return row | ({"verdict": [said.code, said.source, *filter(None, [said.until])]} if "verdict" in row else {})


def _to_member(row: Item) -> Member:
    told = {name: row[name] for name in row.keys() - {"on_duty", "why", "has_left"}}
    verdict = _to_verdict(*row["verdict"]) if "verdict" in row else _to_verdict_of_old(row)
    return Member(**told | {"skills": frozenset(row.get("skills", ())), "verdict": verdict})


def _to_verdict(code: str, source: str, until: str | None = None) -> Verdict:
    return Verdict(Code(code), Source(source), until)


def _to_verdict_of_old(row: Item) -> Verdict:
    """A verdict as earlier versions of this program have written it: whether somebody may get leads, and a text."""
    if row.get("has_left"):
        codes = {"deactivated in HubSpot": Code.DEACTIVATED, "refused by HubSpot": Code.REFUSED}
        return Verdict(codes.get(row.get("why", ""), Code.UNKNOWN), Source.HUBSPOT)
    if row.get("on_duty", True):
        return Verdict()
    _, away, until = row.get("why", "").partition("away until ")
    return Verdict(Code.AWAY, until=until.replace(" ", "T")) if away else Verdict(Code.OFF)


def _to_given(rows: Iterable[Sequence[Any]]) -> tuple[Given, ...]:
    return tuple(Given(lead, lane, winner, tuple(had), patient) for lead, lane, winner, patient, *had in rows)


def _giving_back_item(entry: GivingBack) -> Item:
    return {"kind": "giving back", "at": entry.at, "leads": [list(returned) for returned in entry.leads]}


def _to_giving_back(item: Item, version: int) -> GivingBack:
    return GivingBack(version - 1, item["at"], tuple(Returned(*returned) for returned in item["leads"]))


# Failures


def _once(request: Callable[[], Any]) -> Any:
    """Make a request. Refused conditions, and mistakes of ours, stay ClientErrors."""
    try:
        return request()
    except ClientError as error:
        code = error.response["Error"]["Code"]
        causes = {str(reason.get("Code")) for reason in _reasons(error)} - {"None"} or {code}
        if causes & {"ConditionalCheckFailed", "ConditionalCheckFailedException"}:
            raise
        if causes & {"ValidationError", "ValidationException"}:
            raise
        if causes & {"TransactionConflict", "TransactionConflictException"}:
            raise _Conflict from error
        raise TableUnavailable(f"DynamoDB answers {', '.join(sorted(causes))}") from error
    except BotoCoreError as error:
        raise TableUnavailable(f"DynamoDB is not reached: {type(error).__name__}") from error


def _is_refused(error: ClientError) -> bool:
    """Whether a single write did not happen because its condition did not hold."""
    return error.response["Error"]["Code"] == "ConditionalCheckFailedException"


def _reasons(error: ClientError) -> list[dict[str, Any]]:
    """Why a transaction was cancelled, item by item, or a write alone; nothing for any other error."""
    response = cast("dict[str, Any]", error.response)
    if _is_refused(error):
        return [{"Code": "ConditionalCheckFailed", "Item": response.get("Item", {})}]
    reasons: list[dict[str, Any]] = response.get("CancellationReasons", [])
    return reasons


def _who_won(reasons: Sequence[Mapping[str, Any]], items: Sequence[Item], moves: Moves) -> ClaimRefused:
    """Translate a cancelled transaction: the items whose condition did not hold, as they are now."""
    first_record = len(items) - len(moves)
    ledger, loads = None, None
    records: dict[str, Record] = {}
    for position, (item, reason) in enumerate(zip(items, reasons, strict=True)):
        if reason.get("Code") != "ConditionalCheckFailed":
            continue
        key = item["Put"]["Item"] if "Put" in item else item["Update"]["Key"]
        present = _deserialize(reason.get("Item", {}))
        if position >= first_record:
            record = moves[position - first_record][1]
            records[record.key] = _to_record(present) if present else new(record.id, record.type)
        elif key["sk"]["S"] == "LEDGER":
            ledger = _to_ledger(present) if present else Ledger()
        elif key["sk"]["S"] == "LOADS":
            loads = _to_loads(present)
    return ClaimRefused(ledger=ledger, loads=loads, records=records)


# Values

_serializer = TypeSerializer()
_deserializer = TypeDeserializer()


def _serialize(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _serializer.serialize(value) for name, value in item.items()}


def _deserialize(item: Mapping[str, Any]) -> Item:
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
