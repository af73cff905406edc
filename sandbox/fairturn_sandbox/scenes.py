"""The scenes of the demo's day: what goes wrong on such a day, and what people do meanwhile.

Each scene knows why it can't be played under a policy. The day then does without it, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from fairturn.rules.events import CONTACT, lead_key
from fairturn.rules.ledger import ANY, BAND
from fairturn.rules.policy import OWNER, Mode
from fairturn.rules.record import State, milliseconds
from fairturn.rules.routing import Route
from fairturn.rules.wording import as_text, asked_in_words
from fairturn_sandbox import cast
from fairturn_sandbox.cast import HALF, STEP
from fairturn_sandbox.faults import BAD_GATEWAY, TEN_SECONDLY

if TYPE_CHECKING:
    from collections.abc import Callable

    from fairturn_sandbox.stage import Stage
    from fairturn_sandbox.visitors import KindOfLead

MINUTE: Final = timedelta(minutes=1)
TWICE: Final = 0.05
"""How many events HubSpot sends a second time, 0 to 1."""
BUSY: Final = 90 * MINUTE
DOWN: Final = 120 * MINUTE
"""How far into the day HubSpot has too much to do, and is down."""
DOWN_FOR: Final = 5 * MINUTE
RECOVERS: Final = 2 * MINUTE
"""For how long after a trouble leads still come late because of it."""
FLOOD_BEYOND: Final = 5
"""By how many leads a flood is more than the policy allows."""
FLOOD_AT_MOST: Final = 0.25
"""How large a flood may be beside the leads of the day, 0 to 1."""


@dataclass(frozen=True)
class Scene:
    """Something that happens on the day."""

    of: str
    """What it is about."""
    lacks: Callable[[Stage], str | None]
    """Why it can't be played; None: it can."""
    plays: Callable[[Stage], None]
    """Put it on the stage, before the day begins."""


# Why a scene is not played


def _nothing(_: Stage) -> str | None:
    return None


def _leads(stage: Stage) -> str | None:
    """Why nobody gets a lead."""
    if stage.policy.mode is not Mode.LIVE:
        return f"the mode is {stage.policy.mode}, so nobody gets a lead"
    routes = [stage.visitors.route(kind.examples[0]) for kind in stage.visitors.to_a_team()]
    if not routes:
        return "no rule gives a lead to anybody"
    if not any(isinstance(route, Route) and cast.is_ever_taken(route, stage.policy, stage.start) for route in routes):
        return "nobody is on duty all day"
    return None


def _leads_and_colleagues(stage: Stage) -> str | None:
    return _leads(stage) or ("the policy has one rep" if len(stage.portal.owners) == 1 else None)


def _closing(stage: Stage) -> str | None:
    return _leads(stage) or (None if stage.policy.leads.closed else "the policy has no `closed`")


def _joiner(stage: Stage) -> str | None:
    if cast.joiner(stage.policy) is not None:
        return None
    return "the team has one rep" if len(stage.policy.rotas) == 1 else "some team would have nobody without them"


def _returner(stage: Stage) -> str | None:
    joins = cast.joiner(stage.policy)
    back = cast.returner(stage.policy, joins, stage.start)
    return None if back else "nobody can be spared in the morning and is at work in the afternoon"


def _wait(stage: Stage) -> str | None:
    return _leads(stage) or (None if _nobody_yet(stage) else "nobody comes on duty for whom a lead would have to wait")


def _flood(stage: Stage) -> str | None:
    if (lacks := _leads(stage)) is not None:
        return lacks
    if not stage.visitors.in_bulk():
        return "no rule takes leads from bulk sources"
    if stage.policy.flood.leads > stage.leads * FLOOD_AT_MOST:
        return f"more than {stage.policy.flood.leads} leads at once would be too many for this day"
    return None


# Who comes and goes


def _join(stage: Stage) -> None:
    joins = cast.joiner(stage.policy) or ""

    def join() -> None:
        stage.apply(stage.policy)
        stage.say(f"{joins} joins by a new version of the policy.")

    stage.opening = cast.without(stage.opening, joins)
    stage.opens_with.append(f"{joins} has not joined yet.")
    stage.at(HALF, join)


def _come_back(stage: Stage) -> None:
    back = stage.start + HALF
    rep = cast.returner(stage.policy, cast.joiner(stage.policy), stage.start) or ""
    stage.opening = cast.with_absence(stage.opening, rep, back)
    stage.opens_with.append(f"{rep} is away until {back:%H:%M}.")
    stage.at(HALF, lambda: stage.say(f"{rep} is back."))


def _wait_for_somebody(stage: Stage) -> None:
    """A lead comes that nobody can take, until somebody comes on duty."""
    found = _nobody_yet(stage)
    if found is None:
        return
    kind, after, until = found

    def come() -> None:
        route = stage.visitors.route(kind.examples[0])
        stage.arrive(stage.somebody(kind))
        if isinstance(route, Route):
            skills = route.lane.partition(BAND)[0]
            asks = "" if skills == ANY else f" that asks for {asked_in_words(skills, stage.policy)}"
            team = stage.policy.team(route.rota)
            stage.say(
                f"A lead comes for {team}{asks}; nobody who can take it is on duty until {stage.start + until:%H:%M}."
            )

    def look() -> None:
        waited = len(stage.day.waited)
        stage.say(f"Leads that waited for a rep to come on duty, and have an owner now: {waited}.")

    stage.at(after, come)
    stage.at(until + MINUTE, look)


def _nobody_yet(stage: Stage) -> tuple[KindOfLead, timedelta, timedelta] | None:
    """A kind of lead that nobody can take at one time of the day, and somebody at a later one: both times, the first
    of them as near as can be to when the day is busy."""
    moments = [number * STEP for number in range(2, 2 * HALF // STEP - 2)]
    found: list[tuple[timedelta, KindOfLead, timedelta, timedelta]] = []
    for kind in stage.visitors.to_a_team():
        route = stage.visitors.route(kind.examples[0])
        if isinstance(route, Route) and route.fallback is None:
            taken = [moment for moment in moments if stage.is_taken(kind, stage.start + moment)]
            for moment in moments:
                later = [each for each in taken if each >= moment][:1]
                if later and later[0] > moment:
                    found.append((abs(moment - DOWN - 2 * STEP), kind, moment, later[0]))
    if not found:
        return None
    _, kind, moment, later_one = min(found, key=lambda each: each[0])
    return kind, moment, later_one


# What HubSpot does


def _send_twice(stage: Stage) -> None:
    """Some events come twice all day; of one lead all of them do, so that even a short day has some."""

    def twice(chance: float) -> Callable[[], None]:
        def send() -> None:
            stage.portal.webhooks.duplicates = chance

        return send

    stage.portal.webhooks.duplicates = TWICE
    stage.portal.webhooks.disorder = 1.0
    stage.at(55 * MINUTE, twice(1.0))
    stage.at(56 * MINUTE, lambda: _come(stage, stage.visitors.kinds[-1]))
    stage.at(58 * MINUTE, twice(TWICE))


def _come(stage: Stage, kind: KindOfLead) -> None:
    stage.arrive(stage.somebody(kind))


def _lose_an_answer(stage: Stage) -> None:
    def lose() -> None:
        lost = iter([True])
        stage.sandbox.lose_answers = lambda: next(lost, False)
        _trouble(stage, RECOVERS)
        stage.say("An answer to HubSpot gets lost; HubSpot will send those events again.")

    stage.at(50 * MINUTE, lose)


def _be_busy(stage: Stage) -> None:
    def be_busy() -> None:
        stage.portal.faults.extend([TEN_SECONDLY, BAD_GATEWAY, TEN_SECONDLY])
        _trouble(stage, RECOVERS)
        stage.say("HubSpot says 429 and 502 for a while.")

    stage.at(BUSY, be_busy)


def _be_down(stage: Stage) -> None:
    def be_down() -> None:
        stage.portal.down(milliseconds(stage.sandbox.now + DOWN_FOR))
        _trouble(stage, DOWN_FOR + RECOVERS)
        stage.say("HubSpot's API is down for five minutes.")

    stage.at(DOWN, be_down)


def _trouble(stage: Stage, lasts: timedelta) -> None:
    stage.day.troubles.append((stage.sandbox.now, stage.sandbox.now + lasts))


def _refuse(stage: Stage) -> None:
    """HubSpot refuses the owner of two leads; what the first one dies of is mended."""

    def come() -> None:
        lead = stage.arrive(stage.somebody(stage.for_now()))
        stage.day.refused.append(lead)
        stage.portal.refuse_owners(lead, "An administrator's rule wants a phone number before there is an owner")
        stage.say("A lead comes whose owner HubSpot will refuse, by an administrator's rule.")

    def redrive() -> None:
        lead = stage.day.refused[0]
        letters = [each.id for each in stage.sandbox.letters().list().letters if each.lead == f"contact {lead}"]
        stage.portal.allow_owners(lead)
        stage.sandbox.travel(stage.sandbox.now + timedelta(seconds=1))
        if letters and stage.sandbox.letters().redrive(letters).redriven:
            stage.day.redriven.append(lead)
            stage.say("The administrator lifts the rule for the first of them; it is redriven.")

    for hours in (1, 5):
        stage.at(timedelta(hours=hours), come)
    stage.at(390 * MINUTE, redrive)


def _come_in_a_flood(stage: Stage) -> None:
    """More leads come from a bulk source than the policy allows; they are held back until somebody has looked."""
    kind = stage.visitors.in_bulk()[-1]
    leads = stage.policy.flood.leads + FLOOD_BEYOND

    def flood() -> None:
        for _ in range(leads):
            _come(stage, kind)
        stage.say(f"{leads} leads at once from a bulk source: more than {stage.policy.flood.leads} are held back.")

    def release() -> None:
        stage.apply(stage.policy)
        stage.say("The policy is applied once more, so those that were held back go on.")

    stage.at(330 * MINUTE, flood)
    stage.at(370 * MINUTE, release)


# What people do


def _take_over(stage: Stage) -> None:
    """A rep takes a colleague's lead: the last one assigned."""

    def take() -> None:
        for lead in stage.assigned()[-1:]:
            others = [rep for rep in sorted(stage.portal.owners) if rep != stage.owner(lead)]
            stage.portal.change(lead, {OWNER: stage.random.choice(others)})
            stage.day.taken.append(lead)
            stage.say("A rep takes a colleague's lead over.")

    for minutes in (65, 170, 320):
        stage.at(minutes * MINUTE, take)


def _choose_meanwhile(stage: Stage) -> None:
    """Somebody chooses an owner in the moment between Fairturn's reading of the owner and its writing."""

    def come() -> None:
        kind = stage.for_now()
        lead = stage.arrive(stage.somebody(kind))
        route = stage.visitors.route(kind.examples[0])
        members = (
            {rep for rota in route.rotas() for rep in stage.policy.rotas[rota].members}
            if isinstance(route, Route)
            else set()
        )
        others = [owner.id for owner in stage.portal.owners.values() if not {owner.id, owner.email} & members]
        chosen = stage.random.choice(sorted(others or stage.portal.owners))

        def choose() -> None:
            record = stage.store.records([(CONTACT, lead)]).of(lead)
            if record.state is State.CLAIMED:
                stage.portal.change(lead, {OWNER: chosen})
                stage.day.restored[lead] = chosen
            elif record.state in {State.NEW, State.WAITING}:
                stage.portal.before_update = choose  # it was another lead's owner that was written

        stage.portal.before_update = choose
        stage.say("Somebody chooses an owner in the very moment in which Fairturn writes another.")

    stage.at(75 * MINUTE, come)


def _close(stage: Stage) -> None:
    """Reps are done with a third of their leads."""
    closed = stage.policy.leads.closed[-1]

    def close() -> None:
        assigned = stage.assigned()
        done = stage.random.sample(assigned, len(assigned) // 3)
        for lead in done:
            stage.portal.change(lead, {closed.property: as_text(closed.reaches[0])})
        stage.day.closed += len(done)
        stage.say(f"{len(done)} leads are closed; their reps have room again.")

    for minutes in (100, 160, 230, 290, 350, 410):
        stage.at(minutes * MINUTE, close)


def _merge(stage: Stage) -> None:
    def merge() -> None:
        leads = stage.assigned()
        if len(leads) > 1:
            lead, other = stage.day.merged = stage.random.sample(leads, 2)
            stage.portal.merge(lead, other)
            stage.say("Two leads turn out to be one person; HubSpot merges them under a new id.")

    stage.at(205 * MINUTE, merge)


def _erase(stage: Stage) -> None:
    def erase() -> None:
        if leads := stage.assigned():
            lead = stage.random.choice(leads)
            record = stage.store.records([(CONTACT, lead)]).known.get(lead_key(CONTACT, lead))
            stage.day.erased[lead] = record is not None and record.handed_at is not None
            stage.portal.privacy_delete(lead)
            stage.say("A person asks to be forgotten; the contact is erased.")

    stage.at(215 * MINUTE, erase)


SCENES: Final = (
    Scene("a rep who comes back", _returner, _come_back),
    Scene("a rep who joins", _joiner, _join),
    Scene("events that come twice", _nothing, _send_twice),
    Scene("an answer that gets lost", _nothing, _lose_an_answer),
    Scene("HubSpot being busy", _nothing, _be_busy),
    Scene("HubSpot being down", _nothing, _be_down),
    Scene("a lead that HubSpot refuses to give away", _leads, _refuse),
    Scene("a lead that waits for somebody to come on duty", _wait, _wait_for_somebody),
    Scene("a flood from a bulk source", _flood, _come_in_a_flood),
    Scene("a lead that a colleague takes over", _leads_and_colleagues, _take_over),
    Scene("an owner chosen while another is written", _leads_and_colleagues, _choose_meanwhile),
    Scene("leads that are closed", _closing, _close),
    Scene("leads that are merged", _leads, _merge),
    Scene("a contact that is erased", _leads, _erase),
)
"""In the order in which they are put on the stage: who is there in the morning comes first."""
