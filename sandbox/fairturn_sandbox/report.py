"""What the demo shows of its day, for whoever is responsible for the sales team."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from statistics import quantiles
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from fairturn.rules.explain import reason, why
from fairturn.rules.ledger import ANY, BAND, Claim, Offer, align, allot
from fairturn.rules.policy import FIXED, OTHERWISE, Mode
from fairturn.rules.record import State
from fairturn.rules.verdict import ON_DUTY
from fairturn.rules.wording import asked_in_words, describe
from fairturn.steps.claim import members_of
from fairturn_console.terminal import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console

    from fairturn.rules.ledger import Member
    from fairturn.rules.record import Record
    from fairturn_sandbox.books import Books

Line = tuple[str, str]
"""What a line is about, and what it says."""

LOOK_EVERY: Final = timedelta(minutes=5)
"""How often the alarms of the day are looked at."""
MOST_REPS: Final = 12
"""Of a team that are shown."""
MOST_NAMED: Final = 12
"""Rules, reasons or letters that are named in a line."""


class Report:
    """The day in about fifteen lines and a table."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._terms = books.terms
        self._policy = books.terms.policy
        self._members = {
            rota: members_of(rota, self._terms, books.snapshot.loads, books.sandbox.now) for rota in self._policy.rotas
        }
        self._names = _names({owner.id: owner.email for owner in books.portal.owners.values()})

    def print(self, console: Console) -> None:
        """Show everything but the last line."""
        console.print(self._table())
        console.print()
        lines = Table.grid(padding=(0, 2))
        for said in (
            self._fairness(),
            self._worths(),
            self._waits(),
            self._drops(),
            self._rules(),
            self._next(),
            self._times(),
            self._dead_letters(),
            self._alarms(),
            self._one_lead(),
        ):
            for of, text in said:
                lines.add_row(Text(of), Text(text))
        console.print(lines)

    def last_line(self) -> str:
        """The day in one line."""
        books = self._books
        return (
            f"{len(books.day.leads)} leads: {books.assigned} assigned, {books.waiting} waiting, "
            f"{books.dead_lettered} dead-lettered, {books.dropped} dropped; largest gap {books.gap:.2f} turns"
        )

    # Who got what

    def _table(self) -> Table:
        made = table("team", "rep", "leads", "fair share", "open leads", "on duty at the end, or why not")
        for column in made.columns[2:5]:
            column.justify = "right"
        for rota in self._policy.rotas:
            got, shares = self._books.shares(rota)
            if self._policy.mode is Mode.OBSERVE:  # nothing is booked: these are whom they would have gone to
                got = Counter(each.rep for each in self._records(State.OBSERVED) if each.rota == rota and each.rep)
            members = self._members[rota]
            shown = [*islice(members, MOST_REPS)]
            for rep in shown:
                cells = (self._names[rep], str(got[rep]), f"{shares.get(rep, 0):.2f}", *_stands(members[rep]))
                made.add_row(self._policy.team(rota) if rep == shown[0] else "", *cells)
            if len(members) > len(shown):
                more = [rep for rep in members if rep not in shown]
                sums = (sum(got[rep] for rep in more), sum(shares.get(rep, 0) for rep in more))
                made.add_row("", f"and {len(more)} more", f"{sums[0]}", f"{sums[1]:.2f}", "", "")
        return made

    def _fairness(self) -> Iterator[Line]:
        if self._policy.mode is Mode.OBSERVE:
            yield "fairness", "Mode observe: nobody gets a lead. The table says to whom each would have gone by itself."
        elif not any(replay.entries for replay in self._books.replays.values()):
            yield "fairness", "Nobody got a lead, so there is nothing to share out."
        else:
            spent = sum(replay.spent for replay in self._books.replays.values())
            but = f" Turns that stay spent, as too many leads of the rep were taken away: {spent}." if spent else ""
            yield "fairness", f"Nobody is more than {self._books.gap:.2f} of a lead from their fair share.{but}"

    def _worths(self) -> Iterator[Line]:
        """How the leads of each band of worth were shared out, the most worth first."""
        worth = self._policy.leads.worth
        parts = []
        for band in reversed(worth.names() if worth else ()):
            each = [self._books.shares(rota, f"{BAND}{band}") for rota in self._policy.rotas]
            if worth and any(got for got, _ in each):
                most = max(abs(got[rep] - share) for got, shares in each for rep, share in shares.items())
                parts.append(f"{most:.2f} in the {sum(got.total() for got, _ in each)} {worth.in_words(band)}")
        if parts:
            yield "by worth", f"Nobody is further from it than {', '.join(parts)}."

    # What became of the leads

    def _waits(self) -> Iterator[Line]:
        late = Counter(self._place(record) for record in self._books.records.values() if record.id in self._waited())
        if late:
            yield "waited", f"{_listed(late)}: until somebody could take them. They have an owner now."
        waiting = Counter(f"{self._place(record)} ({record.reason})" for record in self._records(State.WAITING))
        if waiting:
            yield "still waiting", f"{_listed(waiting)}."

    def _waited(self) -> set[str]:
        return {lead for lead in self._books.day.waited if self._books.was_given(lead)}

    def _place(self, record: Record) -> str:
        if record.rota is None or record.lane is None:
            return "for no team yet"
        asked = asked_in_words(record.lane.partition(BAND)[0], self._policy)
        return f"for {self._policy.team(record.rota)}" + ("" if asked == "anything" else f" with {asked}")

    def _drops(self) -> Iterator[Line]:
        if why_dropped := self._books.why_dropped():
            yield "nobody's", f"{_listed(why_dropped)}."

    def _rules(self) -> Iterator[Line]:
        taken = self._books.rules()
        names = [*(rule.name for rule in self._policy.rules), OTHERWISE]
        said = {OTHERWISE: "all others"}
        if any(taken.values()):
            yield "rules", f"{_listed({said.get(name, name): taken[name] for name in names if taken[name]})}."
        unmet = {kind.rule for kind in self._books.day.unmet}
        never = [
            f"{said.get(name, name)}{' (no lead could be made that it takes)' if name in unmet else ''}"
            for name in names
            if not taken[name]
        ]
        if never:
            yield "never matched", f"{', '.join(never[:MOST_NAMED])}{_and_more(never)}."

    # What comes next

    def _next(self) -> Iterator[Line]:
        following = []
        for rota, members in self._members.items():
            if rota.startswith(FIXED):
                continue
            lane = self._usual_lane(rota)
            team, winner = self._policy.team(rota), self._winner(rota, lane, members)
            if winner is not None:
                asked = asked_in_words(lane, self._policy).removeprefix("anything, ")
                for_what = "" if asked == "anything" else f" ({asked})"
                following.append(f"{team}{for_what}: {self._names[winner]}")
                continue
            all_there = {
                rep: member if member.verdict.has_left else replace(member, verdict=ON_DUTY)
                for rep, member in members.items()
            }
            winner = self._winner(rota, lane, all_there)
            would = f" ({self._names[winner]}, if all were)" if winner else ""
            following.append(f"{team}: nobody who can take it is on duty now{would}")
        if following:
            yield "next", f"{'; '.join(following[:MOST_NAMED])}{_and_more(following)}."

    def _usual_lane(self, rota: str) -> str:
        """That of the most leads, or any."""
        lanes = Counter(entry.booking.lane for entry in self._books.replays[rota].entries)
        return max(sorted(self._policy.lanes(rota)), key=lambda lane: lanes[lane], default=ANY)

    def _winner(self, rota: str, lane: str, members: dict[str, Member]) -> str | None:
        lanes = self._policy.lanes(rota)
        ledger = align(self._books.snapshot.ledgers[rota], members, lanes)
        (booking,) = allot(ledger, [Offer(lane)], members, lanes).bookings
        return None if booking is None else booking.winner

    # How it went

    def _times(self) -> Iterator[Line]:
        handed = [*self._records(State.HANDED)]
        smooth = [record for record in handed if not record.waited and not self._was_in_trouble(record)]
        waits = [((record.handed_at or 0) - record.occurred_at) / 1000 for record in smooth]
        if len(waits) < 2:
            return
        day = self._books.day
        real = [day.owned[record.id] - day.born[record.id] for record in smooth if record.id in day.owned]
        on_this = f"; work on this machine {_quantile(real, 50):.2f} s" if len(real) > 1 else ""
        text = (
            f"From event to owner: half of them within {_quantile(waits, 50):.1f} s, 95 of 100 within "
            f"{_quantile(waits, 95):.1f} s{on_this}."
        )
        if left_out := len(handed) - len(smooth):
            text += f" Left out: {left_out} that waited for somebody, or came while this story kept HubSpot away."
        yield "times", text

    def _was_in_trouble(self, record: Record) -> bool:
        """Whether it came, or waited, while the story had HubSpot in trouble."""
        came, had = _moment(record.occurred_at), _moment(record.handed_at or 0)
        return any(came <= until and had >= since for since, until in self._books.day.troubles)

    def _dead_letters(self) -> Iterator[Line]:
        if reasons := Counter(why_dead for _, why_dead in self._books.dead):
            yield "dead letters", f"{_listed(reasons)}."

    def _alarms(self) -> Iterator[Line]:
        rang = self._rang()
        if rang:
            each = (
                f"{name.removesuffix('Alarm')} {first:%H:%M} to {last:%H:%M}" for name, (first, last) in rang.items()
            )
            yield "alarms", f"{', '.join(each)} rang, of {len(self._books.sandbox.alarms)}."

    def _rang(self) -> dict[str, tuple[datetime, datetime]]:
        """Alarm → when it rang first and last. Those that are about news which does not come ring until the first of
        it is there, as after an installation: the first minutes are left out."""
        sandbox, start = self._books.sandbox, self._books.day.begins
        rang: dict[str, tuple[datetime, datetime]] = {}
        moments = [start + number * LOOK_EVERY for number in range(4, (sandbox.now - start) // LOOK_EVERY + 1)]
        for name, alarm in sandbox.alarms.items():
            ringing = [at for at in moments if alarm.rings(sandbox.metrics, at)]
            if ringing:
                rang[name] = ringing[0], ringing[-1]
        return rang

    def _one_lead(self) -> Iterator[Line]:
        """Why the latest lead that asked for something went where it went."""
        explained = [record for record in self._records(State.HANDED) if record.policy == self._terms.number]
        if not explained:
            return
        record = max(explained, key=lambda record: (not (record.lane or "").startswith("any"), record.claimed_at or 0))
        claim = self._books.store.journal(record.rota or "", record.claim or 0)
        if isinstance(claim, Claim):
            booking = claim.bookings()[record.booking[0]]
            rule = next((rule for rule in self._policy.rules if rule.name == record.rule), None)
            by = f'rule "{rule.name}" took it ({_cut(describe(rule.when))})' if rule else "no rule took it"
            winner = self._names.get(booking.winner, booking.winner)
            why_it = reason(record, booking, self._policy)
            yield "one lead", f"Lead {record.id} went to {winner}: {by}. {why_it}"

    def _records(self, state: State) -> Iterable[Record]:
        return (record for record in self._books.records.values() if record.state is state)


def _stands(member: Member) -> tuple[str, str]:
    """How many open leads a rep has, and whether they could get more now."""
    load = str(member.load) if member.capacity is None else f"{member.load} of {member.capacity}"
    return load, why(member.verdict) if not member.verdict.on_duty or member.has_room() else "full"


def _names(emails: dict[str, str]) -> dict[str, str]:
    """Owner id → what comes before the @, the whole address where two begin alike, the id where there is none."""
    short = Counter(email.partition("@")[0] for email in emails.values())
    return {
        owner: (email if short[email.partition("@")[0]] > 1 else email.partition("@")[0]) or owner
        for owner, email in emails.items()
    }


def _listed(counted: dict[str, int]) -> str:
    """`12 this, 3 that`, the most first."""
    most = sorted(counted.items(), key=lambda item: -item[1])
    return ", ".join(f"{number} {what}" for what, number in most[:MOST_NAMED]) + _and_more(most)


def _and_more(items: Sequence[object]) -> str:
    return f" and {len(items) - MOST_NAMED} more" if len(items) > MOST_NAMED else ""


def _cut(text: str, most: int = 120) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _moment(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)


def _quantile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1]
