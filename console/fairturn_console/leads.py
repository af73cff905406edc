"""One lead: who has it and why, what happened since, and what would be decided now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from fairturn.deadline import Deadline
from fairturn.edges.hubspot.client import Filter
from fairturn.errors import FairturnError, PolicyInvalid, PolicyMissing
from fairturn.rules.events import CONTACT, OWNER, UNKNOWN_SOURCE, Kind, Message
from fairturn.rules.explain import reason, story
from fairturn.rules.ledger import Claim, Offer, allot
from fairturn.rules.record import State, milliseconds, new
from fairturn.rules.routing import Ignored, Lead, Route, is_closed, route
from fairturn.rules.wording import asked_in_words
from fairturn_console.standings import as_of_now

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.edges.store import Store
    from fairturn.rules.policy import Policy
    from fairturn.rules.record import Record
    from fairturn.rules.terms import Terms

WITHIN: Final = 30.0
"""Seconds that HubSpot is given to find a contact and to show it."""
MOST: Final = 5
"""Contacts that are told of, where an address or a domain has more."""
EMAIL: Final = "email"
DOMAIN: Final = "hs_email_domain"
SINCE: Final = {
    State.NEW: "Fairturn knows nothing of it: it never came as a lead, or a rule ignores it.",
    State.WAITING: "It waits",
    State.CLAIMED: "It is being handed over",
    State.HANDED: "It was handed over",
    State.OBSERVED: "It was decided and not assigned, because the mode was observe",
    State.EXTERNAL: "Its owner was chosen outside Fairturn",
    State.UNOWNED: "Somebody took its owner away",
    State.CLOSED: "It is closed",
    State.REFUSED: "It was given up",
    State.GONE: "HubSpot has it no more",
    State.ERASED: "The person was forgotten",
}


class LeadUnknown(FairturnError):
    """HubSpot has no such contact; the message says what was asked for."""


@dataclass(frozen=True, slots=True)
class Told:
    """What there is to say of one contact."""

    id: str
    state: str
    owner: str | None
    """Whom HubSpot has now, by name; None: nobody, or HubSpot does not show the contact."""
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leads:
    """Looks leads up, in HubSpot and in the table."""

    store: Store
    crm: HubSpot
    now: datetime

    def find(self, who: str) -> list[str]:
        """The ids of the contacts that somebody may mean: by id, e-mail address or domain; five at most.

        Raises LeadUnknown and Unavailable.
        """
        if who.isascii() and who.isdecimal():
            return [who]
        asked = Filter(EMAIL if "@" in who else DOMAIN, "EQ", who.strip().lower())
        found = self.crm.search(CONTACT, [[asked]], Deadline.after(WITHIN), most=MOST).page
        if not found:
            raise LeadUnknown(f"HubSpot finds no contact with {asked.property} {asked.value}")
        return [each.id for each in found]

    def tell(self, id: str, *, verify: bool = False, would: bool = False) -> Told:  # noqa: A002 - HubSpot's word
        """Tell of one contact. With `verify`, its decision is recomputed from the journal; with `would`, it is said
        what would be decided now. Nothing is written. Raises Unavailable, RecordUnreadable and PolicyMissing."""
        terms = self.store.terms()
        names = {rep: owner.email for rep, owner in terms.owners.items() if owner.email}
        record = self.store.records([(CONTACT, id)]).of(id)
        wanted = (*terms.policy.properties(), OWNER)
        shown = self.crm.read(CONTACT, [id], wanted, Deadline.after(WITHIN)).records.get(id)
        owner = (shown or {}).get(OWNER) or None
        lines = [*self._decision(record, terms, names, verify=verify), *_since(record, names)]
        if shown is None:
            lines.append("HubSpot does not show it.")
        elif owner is None:
            lines.append("In HubSpot nobody owns it.")
        else:
            lines.append(f"In HubSpot it is with {names.get(owner, f'the owner {owner}')}.")
        if would:
            lines += self._would(shown, record, terms, names)
        return Told(id, record.state.value, None if owner is None else names.get(owner, owner), tuple(lines))

    def _decision(self, record: Record, terms: Terms, names: Mapping[str, str], *, verify: bool) -> Iterator[str]:
        """How it was decided, if it was, and whether the journal gives the same once more."""
        if record.rule is None or record.rota is None:
            return
        claim = None
        if record.claim is not None:
            journal = self.store.journals([(record.rota, record.claim)]).get((record.rota, record.claim))
            claim = journal if isinstance(journal, Claim) else None
        yield from story(record, claim, self._policy(record, terms), names)
        if verify and claim is None:
            yield "There is no journal to recompute it from."
        elif verify and claim is not None:
            winners = {lead: booking.winner for lead, booking in claim.bookings().items()}
            same = winners == {given.lead: given.winner for given in claim.leads}
            outcome = "the same" if same else "NOT THE SAME: tell its developers"
            yield f"Recomputed from the journal of its claim: {outcome}."

    def _policy(self, record: Record, terms: Terms) -> Policy | None:
        if record.policy in {None, terms.number}:
            return terms.policy
        try:
            return self.store.policy(record.policy or 0)
        except (PolicyMissing, PolicyInvalid):  # it has expired
            return None

    def _would(
        self, shown: Mapping[str, str | None] | None, record: Record, terms: Terms, names: Mapping[str, str]
    ) -> Iterator[str]:
        """What would be decided if it came now as a new lead from a form."""
        if shown is None:
            yield "So nothing would be decided."
            return
        if is_closed(shown, terms.policy):
            yield "If it came now, it would be left alone: it is closed."
            return
        message = Message(
            id=record.id,
            kinds=(Kind.CREATION,),
            occurred_at=milliseconds(self.now),
            change_source=record.source or UNKNOWN_SOURCE,
        )
        towards = route(Lead(message, shown), terms.policy)
        if isinstance(towards, Ignored):
            yield f"If it came now, it would be ignored: {towards.reason}."
            return
        yield self._winner(towards, record, terms, names)

    def _winner(self, towards: Route, record: Record, terms: Terms, names: Mapping[str, str]) -> str:
        snapshot = self.store.read(towards.rotas(), [])
        for each in (towards, *([towards.fallback] if towards.fallback and not towards.after else [])):
            members, ledger = as_of_now(each.rota, terms, snapshot, self.now)
            offer, lanes = Offer(each.lane, record.owners), terms.policy.lanes(each.rota)
            (booking,) = allot(ledger, [offer], members, lanes).bookings
            if booking is not None:
                why = reason(new("").routed(each, terms.number, None, {}), booking, terms.policy)
                return f"If it came now, it would go to {names.get(booking.winner, booking.winner)}. {why}"
        asked = asked_in_words(towards.lane, terms.policy)
        wait = f"If it came now, it would wait for {terms.policy.team(towards.rota)}: nobody can take {asked} now"
        if towards.fallback and towards.after:
            return f"{wait}. After {towards.after} minutes it may go to {terms.policy.team(towards.fallback.rota)}."
        return f"{wait}."


def _since(record: Record, names: Mapping[str, str]) -> Iterator[str]:
    """What has become of it."""
    if record.state is State.NEW:
        yield SINCE[State.NEW]
        return
    at = datetime.fromtimestamp(record.changed_at / 1000).astimezone()
    whose = f", with {names.get(record.rep, record.rep)}" if record.rep is not None else ""
    yield f"{SINCE[record.state]}{whose}, since {at:%Y-%m-%d %H:%M %Z}{f': {record.reason}' if record.reason else ''}."
    if record.had:
        yield f"Before that it was with {', '.join(names.get(rep, rep) for rep in record.had)}."
    if record.round > 1:
        yield f"It has come {record.round} times."
    if record.merged_into is not None:
        yield f"It goes on as contact {record.merged_into}."
