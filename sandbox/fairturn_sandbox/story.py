"""The demo's story: a day of some 300 leads in a portal, with all that goes wrong on such a day.

It is told through the portal and the sandbox only: what Fairturn makes of it is Fairturn's own doing. The
policy is the one in policy.yaml. For half of the day one rep has not joined yet and another one is away; reps work
on their leads, people take some over, contacts are merged and erased, and one dead letter gets a second chance.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import boto3
from msgspec.structs import replace

from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.store import Store
from fairturn.rules.events import CONTACT, lead_key
from fairturn.rules.explain import PROPERTIES
from fairturn.rules.policy import OWNER, Moments, Policy
from fairturn.rules.record import milliseconds
from fairturn.settings import settings
from fairturn_console.policy import applying
from fairturn_sandbox.faults import BAD_GATEWAY, TEN_SECONDLY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from fairturn_sandbox.portal import Portal
    from fairturn_sandbox.sandbox import Sandbox

START: Final = datetime(2027, 1, 11, 9, 0, tzinfo=UTC)
"""A Monday."""
SWEEP_EVERY: Final = timedelta(minutes=10)
"""How often the schedule's time comes while nothing happens. It is every minute when something does, as deployed."""
MINUTE: Final = timedelta(minutes=1)
SECOND: Final = timedelta(seconds=1)
NOTHING_NEW: Final = timedelta(seconds=5)
HALF: Final = timedelta(hours=4)
BUSY: Final = timedelta(hours=1, minutes=30)
DOWN: Final = timedelta(hours=2)
"""How far into the day HubSpot has too much to do, and is down."""
BUSY_MOMENTS: Final = 24
"""The leads of each half, but for its campaign, come around so many moments."""
CAMPAIGN: Final = 4 / 15
"""The part of each half's leads that comes within one minute, 0 to 1."""
TWICE: Final = 0.05
"""How many events HubSpot sends a second time, 0 to 1."""
OWNED: Final = 0.05
"""How many come with an owner already, 0 to 1."""
MOMENTS: Final = 20_000
"""Steps of the clock, at most, until the day is over."""

VISITORS: Final[Mapping[str, tuple[int, dict[str, str]]]] = {
    "French": (20, {"country": "France", "numemployees": "25-50", "seats": "30"}),
    "from Réunion": (4, {"country": "reunion ", "numemployees": "5-25"}),
    "German": (12, {"country": "GERMANY", "numemployees": "50-100", "seats": "70"}),
    "Austrian": (4, {"country": "Austria"}),
    "American": (27, {"country": "United States", "numemployees": "5-25"}),
    "British": (14, {"country": "United Kingdom", "seats": "25"}),
    "a large company": (8, {"country": "United States", "numemployees": "1000+", "seats": "400"}),
    "Italian": (4, {"country": "Italia", "seats": "8"}),
    "a student": (4, {"country": "Ireland", "jobtitle": "Student"}),
    "a competitor": (3, {"country": "Spain"}),
}
"""Who fills in the form → how many of a hundred, and what they say."""


@dataclass
class Day:
    """The day as it went."""

    leads: list[str] = field(default_factory=list)
    """Every contact that arrived as a lead."""
    born: dict[str, float] = field(default_factory=dict)
    owned: dict[str, float] = field(default_factory=dict)
    """Contact → when it was created, and when it had its owner, in real seconds."""
    closed: int = 0
    """Leads that their reps were done with."""
    taken: list[str] = field(default_factory=list)
    """Leads that a colleague took over."""
    restored: dict[str, str] = field(default_factory=dict)
    """Lead → whom somebody chose while Fairturn was writing another owner."""
    merged: list[str] = field(default_factory=list)
    """The ids of the leads that a merge made one."""
    erased: dict[str, bool] = field(default_factory=dict)
    """Lead → whether Fairturn had given it to somebody; its record does not tell any more."""
    redriven: list[str] = field(default_factory=list)
    waited: set[str] = field(default_factory=set)
    """Leads that waited until somebody came on duty."""


class Story:
    """Tells the day to the portal and lets the sandbox work on it."""

    def __init__(
        self,
        portal: Portal,
        sandbox: Sandbox,
        policy: Policy,
        random: Random,
        say: Callable[[str], None],
        leads: int,
    ) -> None:
        """`say` takes a line of progress; `leads` come in the day, besides those with which something is wrong."""
        self.day = Day()
        self._portal = portal
        self._sandbox = sandbox
        self._policy = policy
        self._random = random
        self._say = say
        self._leads_per_half = leads // 2
        self._store = Store(boto3.client("dynamodb"), settings().table)
        self._crm = HubSpot(lambda _: portal.token, portal.url)
        self._locked: list[str] = []
        self._to_come: list[tuple[datetime, int, Callable[[], None]]] = []
        self._swept_at = START

    def tell(self) -> Day:
        """Let the whole day happen."""
        furnish(self._portal, self._policy)
        self._send_twice(TWICE)
        self._portal.webhooks.disorder = 1.0
        joiner, returner = _joiner(self._policy), _returner(self._policy)
        self._apply(_without(self._policy, joiner, returner, START + HALF))
        self._say(f"09:00  The day begins. {returner} is away until 13:00; {joiner} has not joined yet.")
        self._half(START)
        self._at(START + timedelta(minutes=50), self._lose_an_answer)
        self._at(START + BUSY, self._hubspot_is_busy)
        self._at(START + DOWN, self._hubspot_is_down)
        for hours in (1, 5):
            self._at(START + timedelta(hours=hours), self._locked_lead)
        # A lead comes in this minute, so that even a short day has events that come twice.
        self._at(START + timedelta(minutes=59), lambda: self._send_twice(1.0))
        self._at(START + timedelta(minutes=61), lambda: self._send_twice(TWICE))
        for minutes in (65, 170, 320):
            self._at(START + timedelta(minutes=minutes), self._take_over)
        for minutes in (100, 160, 230, 290, 350, 410):
            self._at(START + timedelta(minutes=minutes), self._close)
        self._at(START + timedelta(minutes=75), self._choose_meanwhile)
        self._at(START + timedelta(minutes=140), self._come_at_lunch)
        self._at(START + timedelta(minutes=181), self._look_who_waited)
        self._at(START + timedelta(minutes=205), self._merge)
        self._at(START + timedelta(minutes=215), self._erase)
        self._at(START + timedelta(minutes=390), self._redrive)
        for number in range(1, 2 * HALF // SWEEP_EVERY + 1):
            self._at(START + number * SWEEP_EVERY, lambda: None)  # the schedule's time, if nothing else
        self._at(START + HALF, lambda: self._join(joiner, returner))
        self._half(START + HALF)
        self._go()
        return self.day

    # What happens

    def _half(self, begin: datetime) -> None:
        in_campaign = round(self._leads_per_half * CAMPAIGN)
        hours = [begin + HALF * self._random.random() for _ in range(BUSY_MOMENTS)]
        hours += [begin + trouble + timedelta(minutes=1) for trouble in (BUSY, DOWN)]  # leads come then, too
        moments = [
            self._random.choice(hours) + timedelta(seconds=self._random.random())
            for _ in range(self._leads_per_half - in_campaign)
        ]
        campaign = begin + HALF * 0.6
        moments += [campaign + timedelta(minutes=self._random.random()) for _ in range(in_campaign)]
        for moment in moments:
            self._at(moment, self._visit)
        self._at(campaign, lambda: self._say(f"{self._clock()}  A campaign: {in_campaign} leads within a minute."))

    def _visit(self) -> None:
        visitors = list(VISITORS.values())
        ((_, said),) = self._random.choices(visitors, [often for often, _ in visitors])
        number = len(self.day.leads) + 1
        host = "rival.example.com" if said["country"] == "Spain" else "example.net"
        contact = {"email": f"lead{number}@{host}", **said}
        if self._random.random() < OWNED:
            contact[OWNER] = self._random.choice(sorted(self._portal.owners))
        self._arrive(contact)

    def _locked_lead(self) -> None:
        contact = self._arrive({"email": "locked@example.net", "country": "United States"})
        self._locked.append(contact)
        self._portal.refuse_owners(contact, "An administrator's rule wants a phone number before there is an owner")
        self._say(f"{self._clock()}  A lead comes whose owner HubSpot will refuse, by an administrator's rule.")

    def _redrive(self) -> None:
        """Mend what the first dead letter died of, and give it another chance."""
        lead = self._locked[0]
        self._portal.allow_owners(lead)
        letters = [letter.id for letter in self._sandbox.letters().list().letters if letter.lead == f"contact {lead}"]
        self._sandbox.travel(self._sandbox.now + timedelta(seconds=1))
        if self._sandbox.letters().redrive(letters).redriven:
            self.day.redriven.append(lead)
            self._say(f"{self._clock()}  The administrator lifts the rule for the first of them; it is redriven.")

    def _take_over(self) -> None:
        """A rep takes a colleague's lead: the last one assigned."""
        for lead in self._assigned()[-1:]:
            others = [rep for rep in sorted(self._portal.owners) if rep != self._owner(lead)]
            self._portal.change(lead, {OWNER: self._random.choice(others)})
            self.day.taken.append(lead)
            self._say(f"{self._clock()}  A rep takes a colleague's lead over.")

    def _choose_meanwhile(self) -> None:
        """Somebody chooses an owner in the moment between Fairturn's reading of the owner and its writing."""
        lead = self._arrive({"email": "chosen@example.net", "country": "United States"})
        members = self._policy.rotas[_last_rota(self._policy)].members
        owners = self._portal.owners.values()
        others = [owner.id for owner in owners if not {owner.id, owner.email} & {*members}]
        chosen = self._random.choice(sorted(others or self._portal.owners))

        def choose() -> None:
            self._portal.change(lead, {OWNER: chosen})
            self.day.restored[lead] = chosen

        self._portal.before_update = choose
        self._say(f"{self._clock()}  Somebody chooses an owner in the very moment in which Fairturn writes another.")

    def _close(self) -> None:
        """Reps are done with a third of their leads."""
        done = self._random.sample(self._assigned(), len(self._assigned()) // 3)
        for lead in done:
            self._portal.change(lead, {"lifecyclestage": "customer"})
        self.day.closed += len(done)
        self._say(f"{self._clock()}  {len(done)} leads are closed; their reps have room again.")

    def _come_at_lunch(self) -> None:
        self._arrive({"email": "lunch@example.net", "country": "Italy"})
        self._say(f"{self._clock()}  A lead comes from Italy; the only rep who speaks Italian is at lunch until noon.")

    def _look_who_waited(self) -> None:
        waited = len(self.day.waited)
        self._say(f"{self._clock()}  Leads that waited for a rep to come on duty, and have an owner now: {waited}.")

    def _merge(self) -> None:
        leads = self._assigned()
        if len(leads) > 1:
            lead, other = self.day.merged = self._random.sample(leads, 2)
            self._portal.merge(lead, other)
            self._say(f"{self._clock()}  Two leads turn out to be one person; HubSpot merges them under a new id.")

    def _erase(self) -> None:
        if leads := self._assigned():
            lead = self._random.choice(leads)
            record = self._store.records([(CONTACT, lead)]).known.get(lead_key(CONTACT, lead))
            self.day.erased[lead] = record is not None and record.handed_at is not None
            self._portal.privacy_delete(lead)
            self._say(f"{self._clock()}  A person asks to be forgotten; the contact is erased.")

    def _assigned(self) -> list[str]:
        """The open leads that have an owner and to which nothing else has happened, oldest first."""
        eventful = {*self.day.taken, *self.day.merged, *self.day.erased, *self.day.restored, *self._locked}
        leads = [lead for lead in self.day.leads if lead not in eventful]
        return [lead for lead in leads if self._owner(lead) and not self._is_closed(lead)]

    def _owner(self, lead: str) -> str | None:
        return self._portal.contact(lead).properties.get(OWNER)

    def _is_closed(self, lead: str) -> bool:
        return self._portal.contact(lead).properties.get("lifecyclestage") == "customer"

    def _arrive(self, contact: dict[str, str]) -> str:
        lead = self._portal.create_contact(contact, source="CRM_UI" if OWNER in contact else "FORM")
        self.day.leads.append(lead)
        self.day.born[lead] = time.perf_counter()
        if len(self.day.leads) % 50 == 0:
            self._say(f"{self._clock()}  {len(self.day.leads)} leads so far.")
        return lead

    def _send_twice(self, chance: float) -> None:
        """Let HubSpot send so many of its events, 0 to 1, a second time."""
        self._portal.webhooks.duplicates = chance

    def _lose_an_answer(self) -> None:
        lost = iter([True])
        self._sandbox.lose_answers = lambda: next(lost, False)
        self._say(f"{self._clock()}  An answer to HubSpot gets lost; HubSpot will send those events again.")

    def _hubspot_is_busy(self) -> None:
        self._portal.faults.extend([TEN_SECONDLY, BAD_GATEWAY, TEN_SECONDLY])
        self._say(f"{self._clock()}  HubSpot says 429 and 502 for a while.")

    def _hubspot_is_down(self) -> None:
        self._portal.down(milliseconds(self._sandbox.now + timedelta(minutes=5)))
        self._say(f"{self._clock()}  HubSpot's API is down for five minutes.")

    def _join(self, joiner: str, returner: str) -> None:
        self._apply(self._policy)
        self._say(f"{self._clock()}  {joiner} joins by a new version of the policy; {returner} is back.")

    def _apply(self, policy: Policy) -> None:
        applying.apply(policy, self._store, self._crm, milliseconds(self._sandbox.now))

    # How time goes by

    def _at(self, moment: datetime, happens: Callable[[], None]) -> None:
        self._to_come.append((moment, len(self._to_come), happens))

    def _go(self) -> None:
        self._to_come.sort(key=lambda happening: happening[:2])
        poll: datetime | None = None
        left = 0
        for _ in range(MOMENTS):
            while self._to_come and self._to_come[0][0] <= self._sandbox.now:
                self._to_come.pop(0)[2]()
            if self._portal.deliver(self._sandbox.post):
                poll = self._sandbox.now
            if poll is not None and poll <= self._sandbox.now:
                before, left = left, self._sandbox.poll()
                # What comes back later need not be asked for at once.
                pause = NOTHING_NEW if left == before and not self._sandbox.gathers else SECOND
                poll = self._sandbox.now + pause if left else None
                self._note_owners()
            self._sweep()
            coming = [moment for moment, *_ in self._to_come[:1]]
            if (delivery := self._portal.next_delivery()) is not None:
                # HubSpot gathers what happens within a second into one request.
                coming.append(datetime.fromtimestamp(delivery // 1000 + 1, UTC))
            if poll is not None:
                coming.append(poll)
            if not coming:
                return
            self._sandbox.travel(min(coming))
        raise TimeoutError(f"the day was not over after {MOMENTS} steps")

    def _sweep(self) -> None:
        """Let the schedule's time come, at most once a minute."""
        if self._sandbox.now - self._swept_at < MINUTE:
            return
        self._swept_at = self._sandbox.now
        self._note_owners()
        self._sandbox.tick()
        self.day.waited |= self._note_owners()

    def _note_owners(self) -> set[str]:
        """Note who has an owner by now; returns the leads that have one since the last look."""
        ownerless = self.day.born.keys() - self.day.owned.keys() - set(self.day.erased)
        owned = {lead for lead in ownerless if self._owner(lead)}
        self.day.owned |= dict.fromkeys(owned, time.perf_counter())
        return owned

    def _clock(self) -> str:
        return self._sandbox.now.strftime("%H:%M")


def furnish(portal: Portal, policy: Policy) -> None:
    """Let the portal have our properties, and the policy's reps as its owners."""
    for name in PROPERTIES:
        portal.define_property(name)
    for rep in policy.reps:
        portal.add_owner(rep)


def _last_rota(policy: Policy) -> str:
    *_, (_, goal) = policy.goals()
    return goal.rota


def _joiner(policy: Policy) -> str:
    """The last member of the catch-all's rota."""
    return policy.rotas[_last_rota(policy)].members[-1]


def _returner(policy: Policy) -> str:
    """The last rep, the joiner apart, who has no absence of their own and serves the most rotas."""
    rotas = {rep: sum(rep in rota.members for rota in policy.rotas.values()) for rep in policy.reps}
    free = [rep for rep in policy.reps if not policy.reps[rep].absences and rep != _joiner(policy)]
    return max(reversed(free), key=lambda rep: rotas[rep])


def _without(policy: Policy, joiner: str, returner: str, back: datetime) -> Policy:
    """The policy without one rep, and with another one away until they are back."""
    rotas = {
        name: replace(rota, members=tuple(member for member in rota.members if member != joiner))
        for name, rota in policy.rotas.items()
    }
    reps = {rep: rules for rep, rules in policy.reps.items() if rep != joiner}
    reps[returner] = replace(reps[returner], absences=(Moments(back - timedelta(days=7), back),))
    return replace(policy, reps=reps, rotas=rotas)
