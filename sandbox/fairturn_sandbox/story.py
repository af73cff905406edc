"""The demo's story: a day of some 300 leads in a portal, with all that goes wrong on such a day.

It is told through the portal and the sandbox only: what Fairturn makes of it is Fairturn's own doing. Who comes is told
by the policy's own conditions (visitors.py), and what happens by the scenes that can be played under it (scenes.py).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import boto3

from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.store import Store
from fairturn.rules.conditions import Reached
from fairturn.rules.explain import PROPERTIES
from fairturn.settings import settings
from fairturn_sandbox.cast import HALF
from fairturn_sandbox.scenes import BUSY, DOWN, MINUTE, SCENES
from fairturn_sandbox.stage import Day, Stage
from fairturn_sandbox.visitors import SET_BY_HUBSPOT, Visitors, named_values

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from fairturn.rules.policy import Policy
    from fairturn_sandbox.portal import Portal
    from fairturn_sandbox.sandbox import Sandbox

SWEEP_EVERY: Final = timedelta(minutes=10)
"""How often the schedule's time comes while nothing happens. It is every minute when something does, as deployed."""
SECOND: Final = timedelta(seconds=1)
NOTHING_NEW: Final = timedelta(seconds=5)
BUSY_MOMENTS: Final = 24
"""The leads of each half, but for its campaign, come around so many moments."""
CAMPAIGN: Final = 4 / 15
"""The part of each half's leads that comes within one minute, 0 to 1."""
OWNED: Final = 0.05
"""How many come with an owner already, 0 to 1."""
MOMENTS: Final = 20_000
"""Steps of the clock, at most, until the day is over."""


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
        """`say` takes a line of progress; `leads` come in the day, besides those with which something is wrong. The
        day begins now."""
        furnish(portal, policy)
        self._portal = portal
        self._sandbox = sandbox
        visitors = Visitors(policy, random, sandbox.now, portal.owners)
        self._stage = Stage(
            portal,
            sandbox,
            Store(boto3.client("dynamodb"), settings().table),
            HubSpot(lambda _: portal.token, portal.url),
            policy,
            visitors,
            random,
            Day(sandbox.now),
            leads,
            say,
            opening=policy,
        )
        for name in _followed(policy):
            portal.webhooks.subscribe(f"propertyChange {name}")
        self._to_meet = [*visitors.kinds]
        random.shuffle(self._to_meet)
        self._swept_at = sandbox.now

    def tell(self) -> Day:
        """Let the whole day happen."""
        stage = self._stage
        stage.day.unmet = stage.visitors.unmet
        lacking: dict[str, list[str]] = {}
        for scene in SCENES:
            lacks = scene.lacks(stage)
            if lacks is None:
                scene.plays(stage)
            else:
                lacking.setdefault(lacks, []).append(scene.of)
        for why, scenes in lacking.items():
            stage.tell(f"No scene of {', or of '.join(scenes)}: {why}.")
        stage.apply(stage.opening)
        stage.say(" ".join(["The day begins (UTC).", *stage.opens_with]))
        first = max(stage.leads // 2, len(self._to_meet))
        self._half(timedelta(), first)
        self._half(HALF, stage.leads // 2)
        for number in range(1, 2 * HALF // SWEEP_EVERY + 1):
            stage.at(number * SWEEP_EVERY, lambda: None)  # the schedule's time, if nothing else
        self._go()
        return stage.day

    # Who comes

    def _half(self, begin: timedelta, leads: int) -> None:
        stage, random = self._stage, self._stage.random
        in_campaign = round(leads * CAMPAIGN)
        hours = [begin + HALF * random.random() for _ in range(BUSY_MOMENTS)]
        hours += [begin + trouble + MINUTE for trouble in (BUSY, DOWN)]  # leads come then, too
        moments = [random.choice(hours) + timedelta(seconds=random.random()) for _ in range(leads - in_campaign)]
        campaign = begin + HALF * 0.6
        moments += [campaign + MINUTE * random.random() for _ in range(in_campaign)]
        for moment in moments:
            stage.at(moment, self._visit)
        stage.at(campaign, lambda: stage.say(f"A campaign: {in_campaign} leads within a minute."))

    def _visit(self) -> None:
        stage = self._stage
        if self._to_meet:  # one of each kind comes first
            stage.arrive(stage.somebody(self._to_meet.pop()))
        else:
            owner = stage.random.choice(sorted(self._portal.owners)) if stage.random.random() < OWNED else None
            stage.arrive(stage.somebody(), owner, in_time=False)

    # How time goes by

    def _go(self) -> None:
        to_come = self._stage.to_come
        to_come.sort(key=lambda happening: happening[:2])
        poll: datetime | None = None
        left = 0
        for _ in range(MOMENTS):
            while to_come and to_come[0][0] <= self._sandbox.now:
                to_come.pop(0)[2]()
                poll = self._sandbox.now  # whatever it was may have put something into a queue
            if self._portal.deliver(self._sandbox.post):
                poll = self._sandbox.now
            if poll is not None and poll <= self._sandbox.now:
                before, left = left, self._sandbox.poll()
                # What comes back later need not be asked for at once.
                pause = NOTHING_NEW if left == before and not self._sandbox.gathers else SECOND
                poll = self._sandbox.now + pause if left else None
                self._note_owners()
            self._sweep()
            coming = [moment for moment, *_ in to_come[:1]]
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
        self._stage.day.waited |= self._note_owners()

    def _note_owners(self) -> set[str]:
        """Note who has an owner by now; returns the leads that have one since the last look."""
        day = self._stage.day
        ownerless = day.born.keys() - day.owned.keys() - set(day.erased)
        owned = {lead for lead in ownerless if self._stage.owner(lead)}
        day.owned |= dict.fromkeys(owned, time.perf_counter())
        return owned


def furnish(portal: Portal, policy: Policy) -> None:
    """Let the portal have our properties, the policy's own with the options that it names, and its reps as owners."""
    for name in PROPERTIES:
        portal.define_property(name)
    values = named_values(policy)
    for name in policy.properties():
        known = portal.properties.get(name)
        if known is None or (known.read_only and name not in SET_BY_HUBSPOT):
            portal.define_property(name)
        elif known.options:
            portal.define_property(name, options={**{each: each for each in values.get(name, ())}, **known.options})
    for rep in policy.reps:
        portal.add_owner("" if rep.isdecimal() else rep, id=rep if rep.isdecimal() else None)


def _followed(policy: Policy) -> set[str]:
    """The properties whose changes HubSpot must tell."""
    followed = {closed.property for closed in policy.leads.closed}
    return followed | ({policy.leads.when.property} if isinstance(policy.leads.when, Reached) else set())
