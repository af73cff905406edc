"""Whatever is done to the table, in any order, it stands as a simple model of the rules says."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fairturn.edges.refusals import BrakeMoved, ClaimRefused, RecordsMoved
from fairturn.edges.store import Snapshot, Store
from fairturn.rules.brake import Brake, register
from fairturn.rules.ledger import (
    ANY,
    Claim,
    Given,
    GivingBack,
    Ledger,
    Member,
    Offer,
    Returned,
    align,
    allot,
    give_back,
)
from fairturn.rules.policy import Flood, Priority
from fairturn.rules.record import MOVES, Move, Record, State, load_changes, new
from fairturn.rules.routing import Route
from fairturn.rules.verdict import Code, Verdict
from fairturn.steps.claim import bookings_of
from fairturn.steps.merging import HEIRS
from tests.integration.audit import Table, audit, read
from tests.proof.conftest import empty

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence, Set

    from mypy_boto3_dynamodb import DynamoDBClient

ROTAS = ("east", "west")
REPS = ("101", "102", "103", "104")
LEADS = tuple(str(n) for n in range(1, 25))
LANES = (f"{ANY}@0", f"{ANY}@60", "fr@60")
FLOOD = Flood(leads=6, minutes=10)
Moves = list[tuple[Record, Record]]

MADE: Final[Mapping[Move, Callable[[Record, str, int], Record]]] = {
    Move.WAIT: lambda record, _, at: record.waiting("full", at),
    Move.RESUME: lambda record, rep, at: record.resumed(f"worker {rep}", at),
    Move.RELEASE: lambda record, _, at: record.released(at),
    Move.HAND_OVER: lambda record, _, at: record.handed(at),
    Move.OBSERVE: lambda record, rep, at: record.observed(rep, at),
    Move.TAKE_OVER: lambda record, rep, at: record.external(rep, "chosen", at),
    Move.CLEAR: lambda record, _, at: record.unowned(at),
    Move.CLOSE: lambda record, _, at: record.closed(None, at),
    Move.REFUSE: lambda record, _, at: record.refused("no", at),
    Move.LOSE: lambda record, _, at: record.gone("not shown", at, unseen_at=at),
    Move.ERASE: lambda record, _, at: record.erased(at),
}
"""What each move makes of a record; a claim is made together with its turn."""
KEEPS_CLAIM = (Move.RESUME, Move.RELEASE, Move.HAND_OVER)
"""What may become of a claim without its turn going back."""
ENDS_CLAIM = tuple(what for what in MADE if (State.CLAIMED, what) in MOVES and what not in KEEPS_CLAIM)
"""How a claim may end that was never handed over."""
TAKEN_AWAY = (Move.TAKE_OVER, Move.CLEAR)
"""What may become of a lead that was handed over so that its turn goes back, if the rep has the grace for it."""


class Model:
    """The table as plain dicts, and what moves it or refuses to."""

    def __init__(self) -> None:
        self.ledgers: dict[str, Ledger] = {}
        self.journals: dict[str, dict[int, Claim | GivingBack]] = {}
        self.loads: dict[str, int] = {}
        self.records: dict[str, Record] = {}
        self.brake = Brake()

    def moved_records(self, moves: Moves) -> dict[str, Record]:
        """What stands where somebody believes otherwise."""
        today = {after.key: self.records.get(after.key, new(after.id)) for _, after in moves}
        return {after.key: today[after.key] for before, after in moves if today[after.key] != before}

    def moved_ledger(self, rota: str, version: int) -> Ledger | None:
        ledger = self.ledgers.get(rota, Ledger())
        return ledger if ledger.version != version else None

    def moved_loads(self, claim: Claim, moves: Moves, seen: Mapping[str, int]) -> dict[str, int] | None:
        """The loads of today, if the claim would lift somebody over their capacity.

        It is refused as well where somebody who had no load when it was decided has one now.
        """
        for rep, more in load_changes(moves).items():
            capacity = claim.members[rep].capacity if rep in claim.members else None
            if (
                more > 0
                and capacity is not None
                and (self.loads.get(rep, 0) + more > capacity or (rep not in seen and rep in self.loads))
            ):
                return self.loads
        return None

    def write(self, moves: Moves) -> None:
        for before, after in moves:
            for record, change in ((before, -1), (after, +1)):
                if record.holder is not None:
                    self.loads[record.holder] = self.loads.get(record.holder, 0) + change
            self.records[after.key] = after

    def enter(self, rota: str, entry: Claim | GivingBack, after: Ledger) -> None:
        self.ledgers[rota] = after
        self.journals.setdefault(rota, {})[entry.version] = entry


class Machine(RuleBasedStateMachine):
    """Works with what was read just now or some time ago. Each rule leaves what it went by for later ones."""

    client: DynamoDBClient
    table: str
    snapshots: Bundle[Snapshot] = Bundle("snapshots")
    brakes: Bundle[Brake] = Bundle("brakes")

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(self.client, self.table, sleep=_never)
        self.model = Model()
        self.at = 0

    def teardown(self) -> None:
        empty(self.client, self.table)

    @initialize(target=snapshots)
    def begin(self) -> Snapshot:
        """Somebody has used their grace up: five leads were theirs, and were taken away from them at once."""
        self.claim(
            self._read(),
            now=True,
            rota=ROTAS[0],
            leads=dict.fromkeys(LEADS[:5], LANES[0]),
            room={},
            away={*REPS[1:]},
            due=set(),
            weights=[1] * len(REPS),
            handed=True,
            ends=[Move.TAKE_OVER],
        )
        assert self.model.ledgers[ROTAS[0]].grace == {REPS[0]: 0}
        return self._read()

    @initialize(target=brakes)
    def begin_to_count(self) -> Brake:
        return self.store.brake()

    def _read(self) -> Snapshot:
        return self.store.read(ROTAS, [("contact", lead) for lead in LEADS])

    @rule(
        target=snapshots,
        snapshot=snapshots,
        now=st.booleans(),
        rota=st.sampled_from(ROTAS),
        leads=st.dictionaries(st.sampled_from(LEADS), st.sampled_from(LANES), min_size=4, max_size=10),
        room=st.dictionaries(st.sampled_from(REPS), st.integers(-2, 2)),
        away=st.sets(st.sampled_from(REPS), max_size=2),
        due=st.sets(st.sampled_from(REPS)),
        weights=st.lists(st.integers(1, 3), min_size=len(REPS), max_size=len(REPS)),
        handed=st.booleans(),
        ends=st.lists(st.sampled_from((*ENDS_CLAIM, None)), max_size=4),
    )
    def claim(
        self,
        snapshot: Snapshot,
        now: bool,  # noqa: FBT001 - Hypothesis draws it
        rota: str,
        leads: Mapping[str, str],
        room: Mapping[str, int],
        away: Set[str],
        due: Set[str],
        weights: Sequence[int],
        handed: bool,  # noqa: FBT001
        ends: Sequence[Move | None],
    ) -> Snapshot:
        """If it is not refused, what is claimed may be handed over, and may be taken away again, right after that."""
        snapshot = self._read() if now else snapshot
        members = {
            rep: Member(
                weight=weights[n],
                skills=frozenset({"fr"}) if n % 2 else frozenset(),
                verdict=Verdict(Code.AWAY) if rep in away else Verdict(),
                is_due=rep in away & due,
                came_lately=rep in due - away,
                load=snapshot.loads.get(rep, 0),
                capacity=max(0, snapshot.loads.get(rep, 0) + room[rep]) if rep in room else None,
            )
            for n, rep in enumerate(REPS)
        }
        wanted = [
            (record, lane)
            for record, lane in ((snapshot.records.of(lead), lane) for lead, lane in leads.items())
            if (record.state, Move.CLAIM) in MOVES
        ]
        before = snapshot.ledgers[rota]
        offers = [Offer(lane, record.owners, record.state is State.WAITING) for record, lane in wanted]
        allotment = allot(align(before, members, LANES), offers, members, LANES)
        booked = [(record, booking) for (record, _), booking in zip(wanted, allotment.bookings, strict=True) if booking]
        if not booked:
            return snapshot
        journal = Claim(
            before=before,
            policy=1,
            at=self._time(),
            lanes=frozenset(LANES),
            members=members,
            leads=tuple(
                Given(record.key, lane, each.winner, record.owners, record.state is State.WAITING)
                for (record, lane), each in zip(wanted, allotment.bookings, strict=True)
                if each
            ),
        )
        moves: Moves = [
            (record, _placed(record, rota, each.lane).claimed(each.winner, journal.version, "worker", self._time()))
            for record, each in booked
        ]
        after = journal.recompute().ledger
        ledger, records = self.model.moved_ledger(rota, before.version), self.model.moved_records(moves)
        loads = self.model.moved_loads(journal, moves, snapshot.loads)
        if ledger is None and loads is None and not records:
            self.store.claim(rota, journal, after, moves, snapshot.loads)
            self.model.write(moves)
            self.model.enter(rota, journal, after)
            if handed:
                self.hand_over(rota)
            if ends:
                self.give_back(snapshot, now=True, rota=rota, ends=ends, taker="900")
            return snapshot
        with pytest.raises(ClaimRefused) as refused:
            self.store.claim(rota, journal, after, moves, snapshot.loads)
        assert (refused.value.ledger, refused.value.records) == (ledger, records)
        assert refused.value.loads == loads
        return snapshot

    @rule(
        target=snapshots,
        snapshot=snapshots,
        now=st.sampled_from((True, True, False)),
        rota=st.sampled_from(ROTAS),
        ends=st.lists(st.sampled_from((*ENDS_CLAIM, None)), min_size=3, max_size=8),
        taker=st.sampled_from((*REPS, "900")),
    )
    def give_back(
        self,
        snapshot: Snapshot,
        now: bool,  # noqa: FBT001
        rota: str,
        ends: Sequence[Move | None],
        taker: str,
    ) -> Snapshot:
        snapshot = self._read() if now else snapshot
        held = [
            record
            for record in map(snapshot.records.of, LEADS)
            if record.rota == rota and record.claim is not None and record.state in {State.CLAIMED, State.HANDED}
        ]
        known = {record.key: (record, end) for record, end in zip(held, cycle(ends), strict=False) if end is not None}
        if not known:
            return snapshot
        before = snapshot.ledgers[rota]
        bookings = bookings_of(self.store, [record for record, _ in known.values()])
        entries: list[Returned] = []
        returns: list[tuple[Record, Move]] = []
        for key in bookings:
            record, end = known[key]
            is_regret = record.state is State.HANDED
            entries.append(Returned(*record.booking, is_regret))
            returns.append((record, TAKEN_AWAY[ENDS_CLAIM.index(end) % 2] if is_regret else end))
        regrets = [each.is_regret for each in entries]
        returned, came_back = give_back(before, list(zip(bookings.values(), regrets, strict=True)))
        moves: Moves = []
        for (record, end), back in zip(returns, came_back, strict=True):
            ended = MADE[end](record, taker, self._time())
            moves.append((record, ended.given_back() if back else ended.stays_spent()))
        entry = GivingBack(before.version, self._time(), tuple(entries))
        after = replace(returned, version=entry.version)
        ledger, records = self.model.moved_ledger(rota, before.version), self.model.moved_records(moves)
        if ledger is None and not records:
            self.store.give_back(rota, entry, after, moves)
            self.model.write(moves)
            self.model.enter(rota, entry, after)
            return snapshot
        with pytest.raises(ClaimRefused) as refused:
            self.store.give_back(rota, entry, after, moves)
        assert (refused.value.ledger, refused.value.loads, refused.value.records) == (ledger, None, records)
        return snapshot

    @rule(
        target=snapshots,
        snapshot=snapshots,
        now=st.booleans(),
        wanted=st.lists(
            st.tuples(st.sampled_from(LEADS), st.integers(0, 59), st.sampled_from((*REPS, "900"))),
            unique_by=lambda one: one[0],
            min_size=4,
        ),
    )
    def move(self, snapshot: Snapshot, now: bool, wanted: Sequence[tuple[str, int, str]]) -> Snapshot:  # noqa: FBT001
        snapshot = self._read() if now else snapshot
        moves: Moves = []
        for lead, choice, rep in wanted:
            record = snapshot.records.of(lead)
            able = [what for what in MADE if (record.state, what) in MOVES]
            if record.state is State.CLAIMED:  # if it ends before it was handed over, it gives its turn back
                able = list(KEEPS_CLAIM)
            if able:
                what = able[choice % len(able)]
                moves.append((record, MADE[what](record, rep, self._time())))
        return self._written(snapshot, moves)

    def hand_over(self, rota: str) -> None:
        """Everything that is claimed in a rota."""
        held = [record for record in map(self._read().records.of, LEADS) if record.rota == rota]
        claimed = [record for record in held if record.state is State.CLAIMED]
        self._written(self._read(), [(record, record.handed(self._time())) for record in claimed])

    @rule(
        target=snapshots,
        snapshot=snapshots,
        now=st.booleans(),
        heirs=st.lists(st.sampled_from(LEADS), min_size=4, unique=True),
        into=st.sampled_from(LEADS),
    )
    def inherit(self, snapshot: Snapshot, now: bool, heirs: Sequence[str], into: str) -> Snapshot:  # noqa: FBT001
        """A merge: a lead lives on under an id of which there is no record yet."""
        snapshot = self._read() if now else snapshot
        alive = (record for record in map(snapshot.records.of, heirs) if record.state in HEIRS)
        heir, there = next(alive, None), snapshot.records.of(into)
        if heir is None or there.state is not State.NEW:
            return snapshot
        at = self._time()
        moves = [(there, heir.carried_to(into).touched(at)), (heir, heir.merged(into, at).given_back())]
        return self._written(snapshot, moves)

    def _written(self, snapshot: Snapshot, moves: Moves) -> Snapshot:
        if not moves:
            return snapshot
        records = self.model.moved_records(moves)
        if not records:
            self.store.move(moves)
            self.model.write(moves)
            return snapshot
        with pytest.raises(RecordsMoved) as refused:
            self.store.move(moves)
        assert refused.value.records == records
        return snapshot

    @rule(
        target=brakes,
        snapshot=snapshots,
        before=brakes,
        now=st.booleans(),
        leads=st.sets(st.sampled_from(LEADS), min_size=1, max_size=2),
        policy=st.integers(1, 3),
    )
    def hold_back(self, snapshot: Snapshot, before: Brake, now: bool, leads: Set[str], policy: int) -> Brake:  # noqa: FBT001
        if now:
            snapshot, before = self._read(), self.store.brake()
        known = [snapshot.records.of(lead) for lead in sorted(leads)]
        moves: Moves = [
            (record, record.unrouted(None).waiting("comes from a bulk source", self._time()))
            for record in known
            if (record.state, Move.WAIT) in MOVES and record.state is not State.CLAIMED
        ]
        after = register(before, len(moves), self.at, FLOOD, policy) if moves else before
        if after is before:
            return before
        records = self.model.moved_records(moves)
        if not records and before == self.model.brake:
            self.store.hold_back(before, after, moves)
            self.model.write(moves)
            self.model.brake = after
            return after
        if records:
            with pytest.raises(RecordsMoved) as moved:
                self.store.hold_back(before, after, moves)
            assert moved.value.records == records
        else:
            with pytest.raises(BrakeMoved):
                self.store.hold_back(before, after, moves)
        return before

    def _time(self) -> int:
        self.at += 1
        return self.at

    @invariant()
    def the_table_stands_as_the_model_does(self) -> None:
        present = read(self.client, self.table, self.store)
        loads = {rep: load for rep, load in self.model.loads.items() if load}
        assert present == Table(self.model.ledgers, self.model.journals, loads, self.model.records)
        assert self.store.brake() == self.model.brake
        audit(present)


def _placed(record: Record, rota: str, lane: str) -> Record:
    return record.routed(Route(rota, lane, Priority.NORMAL, "otherwise", ""), 1, None, {})


def _never(_: float) -> None:
    raise AssertionError("nobody else is at the table, so there is nothing to wait for")


@pytest.mark.timeout(600)  # finding the smallest example of a failure takes minutes
def test_the_table_stands_as_the_rules_say_after_any_sequence_of_claims_givings_back_and_moves(
    dynamodb: DynamoDBClient, table: str
) -> None:
    run_state_machine_as_test(
        type("OnDynamoDBLocal", (Machine,), {"client": dynamodb, "table": table}),
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            phases=(Phase.generate, Phase.shrink),  # to explain would take minutes
            database=None,
            print_blob=True,
        ),
    )
