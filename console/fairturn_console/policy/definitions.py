"""Whether HubSpot has the contact properties and options that a policy names.

A property or an option that HubSpot doesn't have matches nothing, for ever, and nothing else tells of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from fairturn.deadline import Deadline
from fairturn.errors import Problem
from fairturn.rules.conditions import AtLeast, AtMost, Between, Equals, FromSource, In, Reached, fold, matches
from fairturn.rules.events import CONTACT
from fairturn_console.policy.overlap import placed
from fairturn_console.policy.problems import place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fairturn.edges.hubspot.client import HubSpot
    from fairturn.rules.conditions import Comparison, Value
    from fairturn.rules.policy import Leads, Policy
    from fairturn_console.policy.overlap import Path

WITHIN: Final = 30.0
"""Seconds that HubSpot is given to list the properties."""
RANGE: Final = re.compile(r"[<>]?[0-9][0-9, ]*(-[0-9][0-9, ]*|\+)?")
"""An option such as 25-50 or 1000+."""
MAX_SHOWN: Final = 10
"""Options that are told where none is close."""


@dataclass(frozen=True, slots=True)
class Mention:
    """A place of the policy that names a property."""

    property: str
    path: Path
    """Where the name is."""
    values: Mapping[Path, Value]
    """What the property is to be equal to, by its place."""
    is_number: bool = False
    """Whether it is compared as a number."""


def unknown(policy: Policy, crm: HubSpot) -> list[Problem]:
    """Find the properties and options of a policy that HubSpot doesn't have, with their places.

    Takes one request, or none if the policy names no property. Raises Unavailable if HubSpot can't say.
    """
    mentions = list(_mentions(policy))
    if not mentions:
        return []
    defined = crm.options(CONTACT, Deadline.after(WITHIN))
    return [problem for mention in mentions for problem in _problems(mention, defined)]


def _problems(mention: Mention, defined: Mapping[str, Mapping[str, str] | None]) -> Iterator[Problem]:
    if mention.property not in defined:
        close = get_close_matches(mention.property, defined, n=1)
        meant = f", did you mean {close[0]!r}?" if close else " by this internal name"
        yield Problem(place(mention.path), f"HubSpot has no contact property {mention.property!r}{meant}")
        return
    options = defined[mention.property]
    if mention.is_number and options and all(map(RANGE.fullmatch, options)) and not all(map(str.isdecimal, options)):
        what = f"{mention.property!r} holds ranges such as {next(iter(options))}, which are no numbers: ask with `in`"
        yield Problem(place(mention.path), what)
    for path, value in mention.values.items():
        if options is not None and not _is_option(value, options):
            what = f"{_said(value)} is no option of {mention.property!r}{_meant(value, options)}"
            yield Problem(place(path), what)


def _is_option(value: Value, options: Mapping[str, str]) -> bool:
    # A property with several checkboxes has its options joined: A;B.
    parts: Sequence[Value] = value.split(";") if isinstance(value, str) else [value]
    return all(any(matches(part, option) for option in options) for part in parts)


def _meant(value: Value, options: Mapping[str, str]) -> str:
    labelled = [option for option, label in options.items() if matches(value, label)]
    if labelled:
        return f", but the label of one: write {labelled[0]!r}"
    by_name = {fold(name): option for option, label in options.items() for name in (label, option)}
    close = list(dict.fromkeys(by_name[name] for name in get_close_matches(fold(str(value)), by_name)))
    if close:
        return f", did you mean {' or '.join(map(repr, close))}?"
    more = ", …" if len(options) > MAX_SHOWN else ""
    return f"; it has {', '.join(list(options)[:MAX_SHOWN])}{more}"


def _said(value: Value) -> str:
    return repr(value) if isinstance(value, str) else str(value).lower()


def _mentions(policy: Policy) -> Iterator[Mention]:
    yield from _by_leads(policy.leads)
    for path, leaf in placed(policy):
        if not isinstance(leaf, FromSource):
            is_number = isinstance(leaf, (AtLeast, AtMost, Between))
            yield Mention(leaf.property, (*path, "property"), _values(leaf, path), is_number=is_number)
    for path, goal in policy.goals():
        for index, each in enumerate(goal.skills_from):
            at = (*path, "skills_from", index)
            listed = {(*at, "lists", policy.skill(skill), n): v for skill, vs in each.lists for n, v in enumerate(vs)}
            yield Mention(each.property, (*at, "property"), listed, is_number=bool(each.bounds))


def _by_leads(leads: Leads) -> Iterator[Mention]:
    if isinstance(leads.when, Reached):
        yield _reached(leads.when, ("leads", "when"))
    if leads.worth is not None:
        yield Mention(leads.worth.property, ("leads", "worth", "property"), {}, is_number=True)
    for index, name in enumerate(leads.settle.known if leads.settle else ()):
        yield Mention(name, ("leads", "settle", "known", index), {})
    for index, closed in enumerate(leads.closed):
        yield _reached(closed, ("leads", "closed", index))
    for index, name in enumerate(leads.show):
        yield Mention(name, ("leads", "keep_values", index), {})


def _values(leaf: Comparison, path: Path) -> Mapping[Path, Value]:
    match leaf:
        case Equals():
            return {(*path, "not_equals" if leaf.negated else "equals"): leaf.value}
        case In():
            return _each(leaf.value, (*path, "not_in" if leaf.negated else "in"))
        case _:
            return {}


def _reached(criterion: Reached, path: Path) -> Mention:
    return Mention(criterion.property, (*path, "property"), _each(criterion.reaches, (*path, "reaches")))


def _each(values: Sequence[Value], path: Path) -> dict[Path, Value]:
    return {(*path, index): value for index, value in enumerate(values)}
