"""Findings: where ledgers, journals, loads, records and HubSpot do not say the same. Pure.

- Every row of a ledger sums to 0, and the ledger is exactly what its journals, replayed, make of it.
- A journal's claim decides once more as it did, and rests on the ledger that the one before has made.
- A rep's load is the number of leads that they hold by the records.
- The claim that a record names has booked the lead, for the rep who has it by that claim, and its turn has not gone
  back. A booking is one record's. A lead that is claimed is one of a claim that sweep still looks at.
- No lead has more bookings that stand than it had rounds.

A replay begins with any claim, because its journal holds the whole ledger before it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from fairturn.errors import Mistake, attempt
from fairturn.rules.ledger import Claim, GivingBack, Ledger, give_back
from fairturn.rules.policy import OWNER
from fairturn.rules.record import KEPT_FOR, Record, Seen, State, follow
from fairturn.rules.routing import is_closed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set

    from fairturn.rules.ledger import Booking, ClaimKey
    from fairturn.rules.policy import Policy

AUDIT_EVERY: Final = 24 * 3_600_000
"""Milliseconds from the beginning of one audit to that of the next."""
LATE_AFTER: Final = 2 * AUDIT_EVERY
"""Milliseconds after the beginning of an audit in which it has to be over, and the next one begun."""
AGREES_AFTER: Final = 24 * 3_600_000
"""Milliseconds without a change after which a record has to be what HubSpot shows."""
NOTICED_WITHIN: Final = 3_600_000
"""Milliseconds that webhooks and reconciliation have to tell of what has changed in HubSpot."""


class What(StrEnum):
    """What is wrong."""

    LANE = "lane"
    """The balances of a lane do not sum to 0."""
    LEDGER = "ledger"
    """A ledger is not what its journals make of it."""
    JOURNAL = "journal"
    """A journal is missing, can't be read, or does not follow from the one before."""
    LOAD = "load"
    """A load is not the number of leads that the rep holds."""
    RECORD = "record"
    """A record can't be read."""
    CLAIM = "claim"
    """A record and the claim that it names do not agree."""
    TURNS = "turns"
    """A lead was booked more often than it came."""
    HUBSPOT = "hubspot"
    """A record is not what HubSpot shows, and nothing has told of it for a day."""
    LATE = "late"
    """The audit itself could not be done."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be. It names ids, never a person."""

    what: What
    where: str
    """The rota, the rep or the lead."""
    says: str
    """One sentence."""

    @property
    def do(self) -> str:
        """What to type."""
        lead = self.where.partition(",")[0]
        match self.what:
            case What.LANE | What.LEDGER:
                return f"See who writes to the table besides Fairturn; {_shown(f'ROTA#{self.where}', 'LEDGER')}"
            case What.JOURNAL:
                journal = _shown(f"ROTA#{self.where}", "CLAIM#<version, 12 digits>")
                return f"See who writes to the table besides Fairturn; {journal}"
            case What.CLAIM | What.TURNS | What.RECORD:
                return f"See who writes to the table besides Fairturn; {_shown(f'LEAD#{lead}', 'RECORD')}"
            case What.LOAD:
                return "`fairturn reps recount` sets loads right while leads flow."
            case What.HUBSPOT:
                return "It is followed now; `fairturn reconcile --since 7d` finds all that nobody told of."
            case What.LATE:
                return "`fairturn audit table` takes all the time that it needs."

    def __str__(self) -> str:
        return f"{self.where}: {self.says}"


def _shown(pk: str, sk: str) -> str:
    key = f'{{"pk": {{"S": "{pk}"}}, "sk": {{"S": "{sk}"}}}}'
    return f"`aws dynamodb get-item --table-name <TableName> --key '{key}'` shows the item."


Resting = tuple[Finding, tuple[Record, ...]]
"""A finding, and the records as they were read on which it rests. Journals that it rests on were read after them, so it
holds if these have not moved since."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the daily audit has come. Times are epoch milliseconds."""

    began_at: int
    done: bool = False
    left: tuple[str, ...] = ()
    """Rotas whose journals have still to be replayed."""
    since: Mapping[str, int] = field(default_factory=dict)
    """Rota → the claim with which this audit began its replay."""
    upto: Mapping[str, int] = field(default_factory=dict)
    """Rota → the last claim that was replayed, by this audit or the one before: the replay goes on with it."""
    counted: bool = False
    """Whether the loads were held against the records."""
    tries: int = 0
    """How often that was begun."""
    sample: tuple[str, ...] = ()
    """Leads that are to be compared with HubSpot."""
    late_logged_at: int = 0
    """When it was last told that the audit is late."""

    def is_over(self, at: int) -> bool:
        """Whether it is done, and time for the next one."""
        return self.done and at >= self.began_at + AUDIT_EVERY

    def next(self, at: int, rotas: Iterable[str]) -> Checkpoint:
        """The audit that is begun after this one, of these rotas and all that are known from before."""
        return Checkpoint(began_at=at, left=tuple(sorted({*rotas, *self.upto})), upto=self.upto)

    def is_late(self, at: int) -> bool:
        """Whether it should be over, and has not been told to be late for as long again."""
        return at >= max(self.began_at, self.late_logged_at) + LATE_AFTER


# Ledgers


@dataclass(slots=True)
class Bookings:
    """What the claims of one rota have booked, from one version of its ledger to another."""

    since: int = 0
    """The first claim; 0 if there is none."""
    upto: int = 0
    """The last version, up to which everything is known."""
    given: dict[int, Mapping[str, str]] = field(default_factory=dict)
    """Claim → lead → rep."""
    made_at: dict[int, int] = field(default_factory=dict)
    """Claim → when, epoch milliseconds."""
    returned: set[tuple[str, int]] = field(default_factory=set)
    """Lead and claim of each turn that went back."""


@dataclass(slots=True)
class Replay:
    """The journals of one rota, followed one after the other."""

    rota: str
    claim_of: Callable[[int], Claim | None]
    """The claim that made a version, if its journal is kept."""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be replayed although nothing is wrong, in sentences."""
    bookings: Bookings = field(default_factory=Bookings)
    versions: int = 0
    """How many journals were followed."""
    last_claim: int = 0
    _ledger: Ledger | None = None
    """As it is after the last journal; None if that is not known."""

    def follow(self, version: int, entry: Claim | GivingBack | None) -> None:
        """Take the next journal that there is; None can't be read."""
        last = self.bookings.upto
        if self.versions and version != last + 1:
            self._find(What.JOURNAL, f"{_versions(last + 1, version - 1)} missing")
            self._ledger = None
        self.versions += 1
        self.bookings.upto = version
        match entry:
            case Claim():
                self._claim(version, entry)
            case GivingBack():
                self._give_back(version, entry)
            case None:
                self._find(What.JOURNAL, f"the journal of version {version} can't be read")
                self._ledger = None

    def close(self, ledger: Ledger) -> None:
        """Hold what the journals have made against the ledger, which was read before they were."""
        for lane, row in ledger.balances.items():
            if units := sum(row.values()):
                self._find(What.LANE, f"the balances of the lane {lane} sum to {units}, not to 0")
        last = self.bookings.upto
        if not self.versions:
            if ledger.version:
                self.notes.append(f"{self.rota}: no journal is kept.")
        elif last < ledger.version:
            self._find(What.JOURNAL, f"{_versions(last + 1, ledger.version)} missing")
        elif self._ledger is not None and self._ledger != ledger:
            self._find(
                What.LEDGER, f"the ledger is not what its journals make of it: {_difference(self._ledger, ledger)}"
            )

    def _claim(self, version: int, entry: Claim) -> None:
        if entry.version != version or (self._ledger is not None and self._ledger != entry.before):
            other = "" if self._ledger is None else f": {_difference(self._ledger, entry.before)}"
            self._find(What.JOURNAL, f"the claim {version} does not rest on what version {version - 1} made{other}")
        decided = attempt(entry.recompute)
        if isinstance(decided, Mistake):
            self._find(What.JOURNAL, f"the claim {version} can't be decided once more ({decided.what})")
            self._ledger = None
        else:
            self._ledger = decided.ledger
            for given, booking in zip(entry.leads, decided.bookings, strict=True):
                winner = None if booking is None else booking.winner
                if winner != given.winner:
                    says = (
                        f"the claim {version} gives {given.lead} to {given.winner}, by its own journal it is {winner}'s"
                    )
                    self._find(What.JOURNAL, says)
        self.last_claim = version
        self.bookings.since = self.bookings.since or version
        self.bookings.given[version] = {given.lead: given.winner for given in entry.leads}
        self.bookings.made_at[version] = entry.at

    def _give_back(self, version: int, entry: GivingBack) -> None:
        """A turn that somebody would have got back only by grace counts as returned if that is known."""
        bookings = self._booked(version, entry)
        back = [not each.is_regret for each in entry.leads]
        if self._ledger is not None and bookings is not None:
            ledger, regrets = self._ledger, [each.is_regret for each in entry.leads]
            done = attempt(lambda: give_back(ledger, zip(bookings, regrets, strict=True)))
            if isinstance(done, Mistake):
                self._find(What.JOURNAL, f"the giving back {version} can't be done once more ({done.what})")
                self._ledger = None
            else:
                back = list(done[1])
                self._ledger = replace(done[0], version=version)
        else:
            self._ledger = None
        self.bookings.returned |= {
            (each.lead, each.claim) for each, came in zip(entry.leads, back, strict=True) if came
        }

    def _booked(self, version: int, entry: GivingBack) -> list[Booking] | None:
        """How what goes back was booked; None if that is not known."""
        booked: dict[int, Mapping[str, Booking]] = {}
        for claim in dict.fromkeys(each.claim for each in entry.leads):
            made = self.claim_of(claim)
            if made is None:
                self.notes.append(
                    f"{self.rota}: version {version} is not replayed, as it gives back what claim {claim} booked, "
                    "whose journal is not kept."
                )
                return None
            decided = attempt(made.bookings)
            booked[claim] = {} if isinstance(decided, Mistake) else decided
        for each in entry.leads:
            if each.lead not in booked[each.claim]:
                says = f"version {version} gives back {each.lead}, which claim {each.claim} has not booked"
                self._find(What.JOURNAL, says)
                return None
        return [booked[each.claim][each.lead] for each in entry.leads]

    def _find(self, what: What, says: str) -> None:
        self.findings.append(Finding(what, self.rota, says))


def _versions(first: int, last: int) -> str:
    if first == last:
        return f"the journal of version {first} is"
    return f"the journals of the versions {first} to {last} are"


def _difference(made: Ledger, there: Ledger) -> str:
    """The first thing in which two ledgers differ, in words."""
    for name, one, other in (
        ("the version is", made.version, there.version),
        ("the policy is", made.policy, there.policy),
        ("the leads allotted are", made.turns, there.turns),
    ):
        if one != other:
            return f"{name} {other} instead of {one}"
    pairs = {
        f"in lane {lane}": (made.balances.get(lane, {}), there.balances.get(lane, {}))
        for lane in sorted({*made.balances, *there.balances})
    }
    pairs |= {"in the last turns": (made.last, there.last), "in the grace": (made.grace, there.grace)}
    for name, (one_row, other_row) in pairs.items():
        for rep in sorted({*one_row, *other_row}):
            if one_row.get(rep) != other_row.get(rep):
                return f"{name} the rep {rep} has {other_row.get(rep)} instead of {one_row.get(rep)}"
    return "in how it is written"


# Loads


@dataclass(frozen=True, slots=True)
class Drift:
    """By how much a rep's load is too high, as far as is known: from `low` to `high`. Below 0, it is too low."""

    low: int
    high: int

    @property
    def is_wrong(self) -> bool:
        """Whether the load is wrong for certain."""
        return not self.low <= 0 <= self.high

    @property
    def is_known(self) -> bool:
        """Whether there is no doubt about it."""
        return self.low == self.high


@dataclass(frozen=True, slots=True)
class Tally:
    """Loads, and what each rep held when they were read, by the records from before and from after that.

    No transaction changes the drift of a load, whether it comes before that moment or after it.
    """

    loads: Mapping[str, int]
    certain: Mapping[str, int]
    """Rep → leads that they held for certain."""
    possible: Mapping[str, int]
    """Rep → leads that they may have held besides."""
    unknown: int = 0
    """Leads that anybody may have held: their records were written more than once meanwhile, or can't be read."""

    @classmethod
    def of(
        cls, before: Mapping[str, Record], loads: Mapping[str, int], after: Mapping[str, Record], *, unreadable: int = 0
    ) -> Tally:
        """Hold loads against records that were read before them, and again after them."""
        certain: Counter[str] = Counter()
        possible: Counter[str] = Counter()
        unknown = unreadable
        for key in before.keys() | after.keys():
            one, other = before.get(key), after.get(key)
            if _writes(one, other) > 1:
                unknown += 1
                continue
            holders = {record.holder if record is not None else None for record in (one, other)}
            tally = certain if len(holders) == 1 else possible
            tally.update(holder for holder in holders if holder is not None)
        return cls(loads, certain, possible, unknown)

    def reps(self) -> Set[str]:
        """All who have a load or hold a lead."""
        return self.loads.keys() | self.certain.keys() | self.possible.keys()

    def drift(self, rep: str) -> Drift:
        """The rep's."""
        high = self.loads.get(rep, 0) - self.certain.get(rep, 0)
        return Drift(high - self.possible.get(rep, 0) - self.unknown, high)


def _writes(before: Record | None, after: Record | None) -> int:
    """How many writes lie between two readings of a record, of which the one in the middle is not known."""
    if before is not None and (after is None or after.rev < before.rev):
        return 1 if after is None else 2  # it has expired; or come again since
    first, last = before.rev if before is not None else 0, after.rev if after is not None else 0
    # Before it was handed over it was claimed, for the same rep.
    return last - first - (after is not None and after.state is State.HANDED and last - first > 1)


def drifts(tallies: Sequence[Tally]) -> dict[str, Drift]:
    """The drift of each rep's load, by all tallies: what one leaves open another may know. Of two that can't both be
    right, because somebody has set the load right meanwhile, the later counts."""
    found: dict[str, Drift] = {}
    for rep in sorted({rep for tally in tallies for rep in tally.reps()}):
        for tally in tallies:
            last, now = found.get(rep), tally.drift(rep)
            both = now if last is None else Drift(max(last.low, now.low), min(last.high, now.high))
            found[rep] = both if both.low <= both.high else now
    return found


def misloaded(loads: Mapping[str, int], drift: Mapping[str, Drift]) -> list[Finding]:
    """Loads that are wrong for certain."""
    return [_misloaded(rep, loads.get(rep, 0), each) for rep, each in drift.items() if each.is_wrong]


def _misloaded(rep: str, load: int, drift: Drift) -> Finding:
    least, direction = (drift.low, "high") if drift.low > 0 else (-drift.high, "low")
    doubt = "" if drift.is_known else "at least "
    return Finding(What.LOAD, f"rep {rep}", f"the load is {load}, which is {doubt}{least} too {direction}")


# Records


def misbooked(records: Iterable[Record], books: Mapping[str, Bookings], unfinished: Set[ClaimKey]) -> Iterator[Resting]:
    """Records that do not agree with the claims which they name; `unfinished` are the claims that sweep looks at."""
    holding: defaultdict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for record in records:
        if says := _misnamed(record, books.get(record.rota or "")):
            yield Finding(What.CLAIM, record.key, says), (record,)
        if record.state is State.CLAIMED and (record.rota, record.claim) not in unfinished:
            yield (
                Finding(What.CLAIM, record.key, "it is claimed, and sweep does not look at its claim any more"),
                (record,),
            )
        if record.holder is not None and record.rota is not None and record.claim is not None:
            holding[record.rota, *record.booking].append(record)
    for (rota, _, claim), group in holding.items():
        if len(group) > 1:
            names = ", ".join(sorted(record.key for record in group))
            yield Finding(What.CLAIM, names, f"they share one booking, of claim {claim} of {rota}"), tuple(group)


def _misnamed(record: Record, bookings: Bookings | None) -> str | None:
    """What is wrong with the claim that a record names, in words; None if nothing is, or if that is not known."""
    if record.claim is None:
        return "it is somebody's by a claim, and names none" if record.state in {State.CLAIMED, State.HANDED} else None
    if bookings is None or not bookings.since <= record.claim <= bookings.upto:
        return None
    name, claim = record.booking
    given, named = bookings.given.get(claim), f"it names claim {claim} of {record.rota}"
    if given is None:
        return f"{named}, of which there is no journal"
    if name not in given:
        return f"{named}, which has not booked it"
    if (name, claim) in bookings.returned:
        return f"{named}, whose turn has gone back"
    if record.state in {State.CLAIMED, State.HANDED} and given[name] != record.rep:
        return f"it is rep {record.rep}'s, and claim {claim} of {record.rota} gave it to rep {given[name]}"
    return None


def overbooked(records: Mapping[str, Record], books: Mapping[str, Bookings]) -> Iterator[Resting]:
    """Leads with more bookings that stand than they had rounds, where all journals that are kept were followed."""
    standing: defaultdict[str, list[int]] = defaultdict(list)
    for bookings in books.values():
        for claim, given in bookings.given.items():
            for lead in given:
                if (lead, claim) not in bookings.returned:
                    standing[lead].append(bookings.made_at[claim])
    for lead, times in standing.items():
        record = records.get(lead)
        if record is not None and (count := _since_it_is_there(sorted(times))) > record.round:
            says = f"it came {record.round} times, and {count} bookings of it stand"
            yield Finding(What.TURNS, lead, says), (record,)


def _since_it_is_there(times: Sequence[int]) -> int:
    """How many of some bookings were made after the last pause in which the record may have expired."""
    pauses = [n for n in range(1, len(times)) if times[n] - times[n - 1] >= KEPT_FOR * 1000]
    return len(times) - max(pauses, default=0)


# HubSpot


def differs(record: Record, properties: Mapping[str, str | None], policy: Policy, at: int) -> bool:
    """Whether HubSpot shows a lead that somebody holds otherwise than the record has it."""
    return follow(record, Seen(properties.get(OWNER) or None, is_closed(properties, policy)), at) is not None


def stale(record: Record, changed_at: Iterable[int], at: int) -> Finding | None:
    """A finding about a record that differs from what HubSpot shows, if it has been so for long; `changed_at` is when
    HubSpot's side has changed, epoch milliseconds."""
    if record.changed_at + AGREES_AFTER > at or any(each + NOTICED_WITHIN > at for each in changed_at):
        return None
    return Finding(What.HUBSPOT, record.key, "the record is not what HubSpot shows, and nothing has told of it")
