"""What scenes of the demo have to do with: the portal, the sandbox, the policy, the day so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from fairturn.rules.conditions import Reached
from fairturn.rules.policy import OWNER
from fairturn.rules.record import milliseconds
from fairturn.rules.routing import Route, is_closed
from fairturn.rules.wording import as_text
from fairturn_console.policy import applying
from fairturn_sandbox import cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.edges.store import Store
    from fairturn.rules.policy import Policy
    from fairturn_sandbox.portal import Portal
    from fairturn_sandbox.sandbox import Sandbox
    from fairturn_sandbox.visitors import KindOfLead, Visitor, Visitors

LATER: Final = 0.5
"""How many contacts become leads some minutes after they came, where the policy waits for a value: 0 to 1."""
LATEST: Final = timedelta(minutes=20)
ENRICHED: Final = 2 / 3
"""How many contacts get the values that their leads wait for, 0 to 1."""


@dataclass
class Day:
    """The day as it went."""

    begins: datetime
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
    refused: list[str] = field(default_factory=list)
    """Leads whose owner HubSpot was to refuse."""
    redriven: list[str] = field(default_factory=list)
    waited: set[str] = field(default_factory=set)
    """Leads that waited until somebody came on duty."""
    troubles: list[tuple[datetime, datetime]] = field(default_factory=list)
    """From when until when the story kept HubSpot from its work."""
    unmet: list[KindOfLead] = field(default_factory=list)
    """Kinds of which no lead could be made."""


@dataclass
class Stage:
    """Where a scene is played."""

    portal: Portal
    sandbox: Sandbox
    store: Store
    crm: HubSpot
    policy: Policy
    visitors: Visitors
    random: Random
    day: Day
    leads: int
    """How many come in the day, besides those of scenes."""
    tell: Callable[[str], None]
    """Takes a line of progress."""
    opening: Policy
    """The policy of the morning; a scene may change it before the day begins."""
    opens_with: list[str] = field(default_factory=list)
    """What is to be said of the morning."""
    to_come: list[tuple[datetime, int, Callable[[], None]]] = field(default_factory=list)

    @property
    def start(self) -> datetime:
        """When the day begins."""
        return self.day.begins

    def at(self, after: timedelta, happens: Callable[[], None]) -> None:
        """Let something happen so long after the day has begun."""
        self.to_come.append((self.start + after, len(self.to_come), happens))

    def say(self, what: str) -> None:
        """Tell what happens now."""
        self.tell(f"{self.sandbox.now:%H:%M}  {what}")

    def apply(self, policy: Policy) -> None:
        """Put a version of the policy into force."""
        applying.apply(policy, self.store, self.crm, milliseconds(self.sandbox.now))

    # Leads

    def somebody(self, kind: KindOfLead | None = None) -> Visitor:
        """The next visitor, of this kind if one is named."""
        number = len(self.day.leads) + 1
        return self.visitors.somebody(number) if kind is None else self.visitors.one_of(kind, number)

    def arrive(self, visitor: Visitor, owner: str | None = None, *, in_time: bool = True) -> str:
        """Let a contact come, and be a lead at once; unless `in_time` is not said, it may become one later, and get
        late what its rule asks for."""
        said = {**visitor.properties} | ({OWNER: owner} if owner else {})
        late = {} if in_time else self._late(said)
        first = {name: value for name, value in said.items() if name not in late}
        lead = self.portal.create_contact(first, source="CRM_UI" if owner else visitor.source)
        self.day.leads.append(lead)
        self.day.born[lead] = time.perf_counter()
        for name, (value, after) in late.items():
            self._change_later(lead, {name: value}, after, visitor.source)
        if len(self.day.leads) % 50 == 0:
            self.say(f"{len(self.day.leads)} leads so far.")
        return lead

    def _late(self, said: dict[str, str]) -> dict[str, tuple[str, timedelta]]:
        """What a contact is said to be only later, and how much."""
        leads = self.policy.leads
        late: dict[str, tuple[str, timedelta]] = {}
        if isinstance(leads.when, Reached) and self.random.random() < LATER:
            reached = said.get(leads.when.property) or as_text(leads.when.reaches[0])
            late[leads.when.property] = (reached, LATEST * self.random.random())
        for name in leads.settle.known if leads.settle else ():
            if self.random.random() < ENRICHED:
                after = timedelta(seconds=(leads.settle.at_most if leads.settle else 0) / 3)
                late.setdefault(name, (said.get(name, "yes"), after))
        return late

    def _change_later(self, lead: str, values: dict[str, str], after: timedelta, source: str) -> None:
        def change() -> None:
            if not self.portal.contact(lead).archived:
                self.portal.change(lead, values, source=source)

        moment = self.sandbox.now + after
        self.to_come.append((moment, len(self.to_come), change))
        self.to_come.sort(key=lambda happening: happening[:2])

    def for_now(self) -> KindOfLead:
        """A kind of lead that somebody can take now, if there is one; else any that goes to a team."""
        kinds = self.visitors.to_a_team()
        now = [kind for kind in kinds if self.is_taken(kind, self.sandbox.now)]
        return (now or kinds)[-1]

    def is_taken(self, kind: KindOfLead, at: datetime) -> bool:
        """Whether somebody who may take leads of this kind is on duty at a moment of the day."""
        route = self.visitors.route(kind.examples[0])
        policy = self.opening if at < self.start + cast.HALF else self.policy
        return isinstance(route, Route) and cast.is_taken(route, policy, at)

    def assigned(self) -> list[str]:
        """The open leads that have an owner and to which nothing else has happened, oldest first."""
        day = self.day
        eventful = {*day.taken, *day.merged, *day.erased, *day.restored, *day.refused}
        leads = [lead for lead in day.leads if lead not in eventful]
        return [lead for lead in leads if self.owner(lead) and not self.is_closed(lead)]

    def owner(self, lead: str) -> str | None:
        """Whose a lead is in HubSpot."""
        return self.portal.contact(lead).properties.get(OWNER)

    def is_closed(self, lead: str) -> bool:
        """Whether a lead counts in nobody's load any more."""
        return is_closed(self.portal.contact(lead).properties, self.policy)
