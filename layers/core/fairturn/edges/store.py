"""DynamoDB: the requests, and the conditions that keep the items true.

One method is one request with one named condition. A refusal carries the items as they are now, so whoever
was refused decides anew without reading again. items.py says which items there are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from botocore.exceptions import BotoCoreError, ClientError
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from fairturn.batches import batched
from fairturn.edges.items import (
    AUDIT,
    AWAY,
    BRAKE,
    CORRECTIONS,
    LOADS,
    POINTER,
    ROSTER,
    UNFINISHED,
    WATERMARK,
    Item,
    brake_item,
    by_due,
    checkpoint_item,
    claim_item,
    deserialize,
    due_lane,
    giving_back_item,
    journal_key,
    key_of,
    ledger_item,
    ledger_key,
    policy_key,
    record_item,
    record_key,
    roster_item,
    serialize,
    to_brake,
    to_checkpoint,
    to_entry,
    to_journal,
    to_ledger,
    to_loads,
    to_pointer,
    to_record,
    to_records,
    to_version,
    to_watermark,
    tries_key,
    watermark_item,
)
from fairturn.edges.refusals import BrakeMoved, ClaimRefused, LoadsCorrected, PolicyMoved, RecordsMoved, RosterMoved
from fairturn.errors import Contended, PolicyMissing, TableUnavailable
from fairturn.rules.brake import Brake
from fairturn.rules.events import lead_key
from fairturn.rules.ledger import Claim, ClaimKey, GivingBack, Ledger
from fairturn.rules.policy import Policy
from fairturn.rules.record import Record, Records, load_changes, new

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

    from fairturn.rules.findings import Checkpoint
    from fairturn.rules.missed import Watermark
    from fairturn.rules.roster import Owner
    from fairturn.rules.terms import Away, Pointer, Terms, Version

Moves = Sequence[tuple[Record, Record]]
T = TypeVar("T")

MAX_RECORDS: Final = 97
"""Leads in one claim: with the ledger, the journal and the loads they fill DynamoDB's 100 items."""
MAX_KEYS: Final = 100
MAX_READS: Final = 5
CONFLICT_ATTEMPTS: Final = 6
"""The first try and five more: botocore does not retry a TransactionConflict by itself."""
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

SEEN_BY_AUDIT: Final = ("pk", "type", "id", "state", "rev", "round", "rep", "rota", "claim", "booked_as")
"""What a scan shows of a record."""
EXPIRES_SOON: Final = 24 * 3600
"""Seconds before its time from which on a journal counts as gone: DynamoDB deletes in any order, and some days late."""


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
class Backlog:
    """What a due lane has."""

    leads: int
    since: int | None
    """When the oldest of them came, epoch milliseconds; None if there is none."""


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
        ledger_keys = {rota: ledger_key(rota) for rota in sorted(set(rotas))}
        record_keys = {lead_key(*lead): record_key(*lead) for lead in leads}
        found = self._get([LOADS, *ledger_keys.values(), *record_keys.values()])
        return Snapshot(
            ledgers={
                rota: to_ledger(item) if (item := found.get(key_of(key))) else Ledger()
                for rota, key in ledger_keys.items()
            },
            loads=to_loads(found.get(key_of(LOADS), {})),
            records=to_records({lead: found[key_of(key)] for lead, key in record_keys.items() if key_of(key) in found}),
        )

    def records(self, leads: Iterable[tuple[str, str]]) -> Records:
        """The records of leads given as (type, id). One request for up to 100."""
        keys = {lead_key(*lead): record_key(*lead) for lead in leads}
        return to_records(self._items(keys))

    def loads(self) -> dict[str, int]:
        """Every rep's open leads; who never had any is absent."""
        return to_loads(self._item(LOADS))

    def corrections(self) -> int:
        """How often loads were corrected."""
        return int(self._item(LOADS).get(CORRECTIONS, 0))

    def journal(self, rota: str, version: int) -> Claim | GivingBack:
        """What made this version of the rota's ledger. Raises KeyError if there is no such version."""
        return self.journals([(rota, version)])[rota, version]

    def journals(self, claims: Iterable[ClaimKey]) -> dict[ClaimKey, Claim | GivingBack]:
        """The same for several, as far as they are there. One request for up to 100."""
        keys = {(rota, version): journal_key(rota, version) for rota, version in claims}
        items = self._items(keys)
        return {claim: to_journal(item, claim[1]) for claim, item in items.items()}

    # What makes it true

    def claim(self, rota: str, claim: Claim, after: Ledger, moves: Moves, loads: Mapping[str, int]) -> None:
        """Make an allotment true, all or nothing.

        Condition: the ledger is still at the version that was read, each chosen rep is within their capacity (and who
        had no load still has none), and each record is still as it was read. `loads` is what was read.
        Raises ClaimRefused with what has moved.
        """
        limits = {rep: member.capacity for rep, member in claim.members.items() if member.capacity is not None}
        self._write(
            [
                self._put_ledger(rota, claim.before.version, after),
                self._put_journal(rota, claim.version, claim_item(claim) | by_due(UNFINISHED, claim.at)),
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
                self._put_journal(rota, entry.version, giving_back_item(entry) | {"ttl": self._expires_at(entry.at)}),
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
            "Key": serialize(LOADS),
            "UpdateExpression": f"ADD {added}, #corrections :one",
            "ConditionExpression": "#corrections = :seen" if corrections else "attribute_not_exists(#corrections)",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": serialize(values | ({":seen": corrections} if corrections else {})),
        }
        if not self._holds(lambda: self._client.update_item(**request)):
            raise LoadsCorrected("somebody else has corrected loads meanwhile")

    def finish(self, rota: str, version: int, at: int) -> None:
        """Note, at this time in epoch milliseconds, that no lead of a claim has still to be handed over.

        Its journal has so many days to live from then on: while a handover may need it, it never expires.

        Condition: that was not noted before. If it was, this changes nothing, whoever did it.
        """
        request: Item = {
            "TableName": self._table,
            "Key": serialize(journal_key(rota, version)),
            "UpdateExpression": "REMOVE due_lane, due SET #ttl = :ttl",
            "ConditionExpression": "attribute_exists(due_lane)",
            "ExpressionAttributeNames": {"#ttl": "ttl"},
            "ExpressionAttributeValues": serialize({":ttl": self._expires_at(at)}),
        }
        self._holds(lambda: self._client.update_item(**request))

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
        keys = self._due_keys(UNFINISHED, most, before)
        return [(pk.partition("#")[2], int(sk.partition("#")[2])) for pk, sk in keys]

    def backlog(self, lane: str) -> Backlog:
        """How many leads a due lane has, at most 1,000, and since when the oldest of these waits."""
        request = self._due(lane) | {"ProjectionExpression": "due", "Limit": MOST_COUNTED}
        items = self._call(lambda: self._client.query(**request))["Items"]
        since = [int(deserialize(item)["due"].rpartition("#")[2]) for item in items]
        return Backlog(len(since), min(since, default=None))

    def _due_keys(self, lane: str, most: int, before: int | None) -> list[tuple[str, str]]:
        request = self._due(lane) | {"Limit": most}
        if before is not None:
            request["KeyConditionExpression"] += " AND due < :before"
            request["ExpressionAttributeValues"] |= serialize({":before": f"{before:013d}"})
        items = self._call(lambda: self._client.query(**request))["Items"]
        return [key_of(deserialize(item)) for item in items]

    def _due(self, lane: str) -> Item:
        return {
            "TableName": self._table,
            "IndexName": "by_due",
            "KeyConditionExpression": "due_lane = :lane",
            "ExpressionAttributeValues": serialize({":lane": lane}),
        }

    # Policy and roster

    def pointer(self) -> Pointer:
        """The number of the policy in force, and the owners as last refreshed."""
        found = self._items({"pointer": POINTER, "roster": ROSTER, "away": AWAY})
        return to_pointer(found.get("pointer", {}), found.get("roster", {}), found.get("away", {}))

    def policy(self, number: int) -> Policy:
        """One version of the policy; 0 is none. Raises PolicyMissing, or PolicyInvalid if this program can't use it."""
        if number == 0:
            raise PolicyMissing("no policy is in force: apply one with `fairturn policy apply`")
        item = self._item(policy_key(number))
        if not item:
            raise PolicyMissing(f"there is no version {number} of the policy: apply one with `fairturn policy apply`")
        return Policy.load(item["policy"])

    def terms(self) -> Terms:
        """What is in force now. Raises PolicyMissing, or PolicyInvalid if this program can't use it."""
        pointer = self.pointer()
        return pointer.terms(self.policy(pointer.number))

    def versions(self, last: int) -> list[Version]:
        """The last versions of the policy, at most 100, the newest first; none if no policy was applied."""
        number = self.pointer().number
        keys = {each: policy_key(each) for each in range(number, max(number - last, 0), -1)}
        items = self._items(keys)
        return [to_version(each, item) for each, item in items.items()]

    def stored_versions(self, numbers: Iterable[int]) -> dict[int, Item]:
        """Versions of the policy as they are stored, whether this program can use them or not: `policy` as JSON has it,
        `at`, and where they are known `by` and `message`. What has expired is left out."""
        keys = {number: policy_key(number) for number in numbers}
        items = self._items(keys)
        return {number: item | {"policy": json.loads(item["policy"])} for number, item in items.items()}

    def amend_version(self, number: int, item: Item) -> None:
        """Write a version of the policy anew, as `stored_versions` has given it.

        Condition: it is still there. If it is not, this changes nothing.
        """
        text = json.dumps(item["policy"], separators=(",", ":"))
        request: Item = {
            "TableName": self._table,
            "Item": serialize({**item, **policy_key(number), "policy": text}),
            "ConditionExpression": "attribute_exists(pk)",
        }
        self._holds(lambda: self._client.put_item(**request))

    def put_policy(
        self, number: int, policy: Policy, at: int, *, by: str | None = None, message: str | None = None
    ) -> None:
        """Put a new version into force; `by` and `message` tell who applies it and what for. The one before has so many
        days to live from then on; the one in force never expires.

        Condition: it follows the one in force. Raises PolicyMoved.
        """
        said = {name: value for name, value in (("by", by), ("message", message)) if value is not None}
        version = {**policy_key(number), "policy": policy.dump(), "at": at, **said}
        lanes = {due_lane(rota, lane) for rota in policy.rotas for lane in policy.lanes(rota)}
        follows: Item = {
            "Key": serialize(POINTER),
            "UpdateExpression": "SET #number = :number" + (" ADD lanes :lanes" if lanes else ""),
            "ConditionExpression": "#number = :before" if number > 1 else "attribute_not_exists(pk)",
            "ExpressionAttributeNames": {"#number": "number"},
            "ExpressionAttributeValues": serialize(
                {":number": number}
                | ({":before": number - 1} if number > 1 else {})
                | ({":lanes": lanes} if lanes else {})
            ),
        }
        items: list[Item] = [
            {"Put": {"ConditionExpression": "attribute_not_exists(pk)", "Item": serialize(version)}},
            {"Update": follows},
        ]
        if number > 1:
            expires: Item = {
                "Key": serialize(policy_key(number - 1)),
                "UpdateExpression": "SET #ttl = :ttl",
                "ConditionExpression": "attribute_exists(pk)",
                "ExpressionAttributeNames": {"#ttl": "ttl"},
                "ExpressionAttributeValues": serialize({":ttl": self._expires_at(at)}),
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
        seen = None if read_at is None else ("at", read_at)
        if not self._put(roster_item(owners, at), seen):
            raise RosterMoved("somebody has refreshed the owners meanwhile")

    def mark_unavailable(self, rep: str) -> None:
        """Note that HubSpot refuses this owner, until the roster is refreshed. Who is not in it stays out."""
        request: Item = {
            "TableName": self._table,
            "Key": serialize(ROSTER),
            "UpdateExpression": "SET #owners.#rep.#unavailable = :true",
            "ConditionExpression": "attribute_exists(#owners.#rep)",
            "ExpressionAttributeNames": {"#owners": "owners", "#rep": rep, "#unavailable": "unavailable"},
            "ExpressionAttributeValues": serialize({":true": True}),
        }
        self._holds(lambda: self._client.update_item(**request))

    def put_away(self, rep: str, away: Away) -> None:
        """Note until when a rep is away; what was noted of them before is forgotten."""
        request: Item = {
            "TableName": self._table,
            "Key": serialize(AWAY),
            "UpdateExpression": "SET #rep = :away",
            "ExpressionAttributeNames": {"#rep": rep},
            "ExpressionAttributeValues": serialize({":away": asdict(away)}),
        }
        self._call(lambda: self._client.update_item(**request))

    def forget_away(self, rep: str) -> bool:
        """Forget that a rep is away. Condition: it is noted. Returns whether it was."""
        request: Item = {
            "TableName": self._table,
            "Key": serialize(AWAY),
            "UpdateExpression": "REMOVE #rep",
            "ConditionExpression": "attribute_exists(#rep)",
            "ExpressionAttributeNames": {"#rep": rep},
        }
        return self._holds(lambda: self._client.update_item(**request))

    # Floods and overwrites

    def brake(self) -> Brake:
        """The brake as it stands."""
        item = self._item(BRAKE)
        return to_brake(item) if item else Brake()

    def hold_back(self, before: Brake, after: Brake, moves: Moves) -> None:
        """Count leads from bulk sources and write down that they wait, at most 97, all or nothing: so each is counted
        once, however often its message comes.

        Condition: the brake is as it was read, and so is each record. Raises BrakeMoved or RecordsMoved.
        """
        brake = {"Put": {"Item": serialize(brake_item(after)), **_unless_moved("rev", before.rev)}}
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
            "Key": serialize({"pk": "OVERWRITES", "sk": day}),
            "UpdateExpression": "ADD #source :one SET #ttl = :ttl",
            "ExpressionAttributeNames": {"#source": source, "#ttl": "ttl"},
            "ExpressionAttributeValues": serialize({":one": 1, ":ttl": at // 1000 + OVERWRITES_KEPT_FOR}),
            "ReturnValues": "UPDATED_NEW",
        }
        answer = self._call(lambda: self._client.update_item(**request))
        return int(deserialize(answer["Attributes"])[source])

    # What no webhook told

    def watermark(self) -> Watermark | None:
        """How far reconciliation has come; None if it never looked."""
        item = self._item(WATERMARK)
        return to_watermark(item) if item else None

    def note_watermark(self, watermark: Watermark) -> None:
        """Write down how far reconciliation has come. Of two runs that look at once, the later word counts: all that
        the other has found is sent."""
        self._put(watermark_item(watermark), None)

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
            "ExpressionAttributeValues": serialize({":record": "RECORD"}),
            **({} if whole else shown),
        }
        if beyond is not None:
            request["ExclusiveStartKey"] = beyond
        answer = self._call(lambda: self._client.scan(**request))
        items = map(deserialize, answer["Items"])
        return to_records({item["pk"].partition("#")[2]: item for item in items}), answer.get("LastEvaluatedKey")

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
            "ExpressionAttributeValues": serialize(
                {
                    ":rota": ledger_key(rota)["pk"],
                    ":first": journal_key(rota, first)["sk"],
                    ":last": journal_key(rota, last)["sk"],
                }
            ),
            "Limit": MAX_KEYS,
        }
        answer = self._call(lambda: self._client.query(**request))
        items = {int(item["sk"].partition("#")[2]): item for item in map(deserialize, answer["Items"])}
        entries = {version: to_entry(item, version) for version, item in items.items()}
        soon = at // 1000 + EXPIRES_SOON
        expired = [version for version, item in items.items() if "ttl" in item and item["ttl"] < soon]
        expired += [version for version, entry in entries.items() if entry and self._expires_at(entry.at) < soon]
        more = max(items) + 1 if items and "LastEvaluatedKey" in answer else None
        return {version: entry for version, entry in entries.items() if version > max(expired, default=0)}, more

    def entries(self, claims: Iterable[ClaimKey]) -> dict[ClaimKey, tuple[Claim | GivingBack | None, bool]]:
        """Some journals, as far as they are there, None for one that can't be read, each with whether sweep still looks
        at it. One request for up to 100."""
        keys = {(rota, version): journal_key(rota, version) for rota, version in claims}
        items = self._items(keys)
        return {claim: (to_entry(item, claim[1]), "due_lane" in item) for claim, item in items.items()}

    def checkpoint(self) -> Checkpoint | None:
        """How far the daily audit has come; None if there never was one."""
        item = self._item(AUDIT)
        return to_checkpoint(item) if item else None

    def note_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write down how far the daily audit has come. Of two runs that audit at once, the later word counts: both have
        told what they found."""
        self._put(checkpoint_item(checkpoint), None)

    # Mistakes of ours

    def note_try(self, lead: tuple[str, str], what: str, at: int) -> int:
        """Count that a mistake of ours ended a try with a lead, given as (type, id). Returns how many did by now."""
        request: Item = {
            "TableName": self._table,
            "Key": serialize(tries_key(*lead)),
            "UpdateExpression": "ADD #number :one SET #what = :what, #at = :at, #ttl = :ttl",
            "ExpressionAttributeNames": {"#number": "number", "#what": "what", "#at": "at", "#ttl": "ttl"},
            "ExpressionAttributeValues": serialize(
                {":one": 1, ":what": what, ":at": at, ":ttl": at // 1000 + TRIES_KEPT_FOR}
            ),
            "ReturnValues": "UPDATED_NEW",
        }
        answer = self._call(lambda: self._client.update_item(**request))
        return int(deserialize(answer["Attributes"])["number"])

    def tries(self, leads: Iterable[tuple[str, str]]) -> dict[str, Tries]:
        """The tries of leads given as (type, id) that mistakes of ours ended, by the leads' names."""
        keys = {lead_key(*lead): tries_key(*lead) for lead in leads}
        items = self._items(keys)
        return {lead: Tries(int(item["number"]), int(item["at"]), item["what"]) for lead, item in items.items()}

    def forget_tries(self, leads: Iterable[tuple[str, str]]) -> None:
        """Forget the tries of leads given as (type, id). One request for each."""
        for lead in leads:
            key = serialize(tries_key(*lead))
            self._call(lambda key=key: self._client.delete_item(TableName=self._table, Key=key))  # type: ignore[misc]

    # Requests

    def _item(self, key: Mapping[str, str]) -> Item:
        """One item; an empty one if it is not there."""
        return self._get([key]).get(key_of(key), {})

    def _items(self, keys: Mapping[T, Mapping[str, str]]) -> dict[T, Item]:
        """Items by what they are asked for, as far as they are there."""
        found = self._get(list(keys.values()))
        return {name: found[key_of(key)] for name, key in keys.items() if key_of(key) in found}

    def _get(self, keys: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], Item]:
        found: dict[tuple[str, str], Item] = {}
        for batch in batched(keys, MAX_KEYS):
            wanted: Any = {self._table: {"Keys": [serialize(key) for key in batch], "ConsistentRead": True}}
            for _ in range(MAX_READS):
                answer = self._call(lambda wanted=wanted: self._client.batch_get_item(RequestItems=wanted))  # type: ignore[misc]
                for raw in answer["Responses"].get(self._table, []):
                    item = deserialize(raw)
                    found[key_of(item)] = item
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
        request: Item = {"TableName": self._table, "Item": serialize(item)}
        if seen is not None:
            request |= _unless_moved(*seen)
        return self._holds(lambda: self._client.put_item(**request))

    def _holds(self, request: Callable[[], Any]) -> bool:
        """Make one write; whether its condition held."""
        try:
            self._call(request)
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
        return {
            "Put": {
                "Item": serialize(ledger_item(rota, version + 1, after)),
                **_unless_moved("version", version),
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }

    def _put_journal(self, rota: str, version: int, entry: Item) -> Item:
        item = serialize({**journal_key(rota, version), **entry})
        return {"Put": {"Item": item, "ConditionExpression": "attribute_not_exists(pk)"}}

    def _put_record(self, before: Record, record: Record) -> Item:
        return {
            "Put": {
                "Item": serialize(record_item(record)),
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
            "Key": serialize(LOADS),
            "UpdateExpression": "ADD " + ", ".join(f"#r{n} :c{n}" for n in range(len(names))),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": serialize(values),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if conditions:
            update["ConditionExpression"] = " AND ".join(conditions)
        return [{"Update": update}]


# Conditions


def _unless_moved(name: str, seen: int) -> Item:
    """The condition that an item's attribute still is what was seen, 0 being that of an item that is not there."""
    if not seen:
        return {"ConditionExpression": "attribute_not_exists(pk)"}
    return {
        "ConditionExpression": "#seen = :seen",
        "ExpressionAttributeNames": {"#seen": name},
        "ExpressionAttributeValues": serialize({":seen": seen}),
    }


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
        present = deserialize(reason.get("Item", {}))
        if position >= first_record:
            record = moves[position - first_record][1]
            records[record.key] = to_record(present) if present else new(record.id, record.type)
        elif key["sk"]["S"] == "LEDGER":
            ledger = to_ledger(present) if present else Ledger()
        elif key["sk"]["S"] == "LOADS":
            loads = to_loads(present)
    return ClaimRefused(ledger=ledger, loads=loads, records=records)
