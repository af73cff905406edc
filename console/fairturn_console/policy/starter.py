"""A policy to begin with: everybody takes turns, in their working hours."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from fairturn_console.policy.hours import Hours
from fairturn_console.policy.values import RepKey, Zone

if TYPE_CHECKING:
    from collections.abc import Sequence

ALWAYS: Final = "24/7"
"""The hours of whoever works around the clock."""

T = TypeVar("T")
_REP: Final[TypeAdapter[str]] = TypeAdapter(RepKey)
_ZONE: Final[TypeAdapter[str]] = TypeAdapter(Zone)
_HOURS: Final[TypeAdapter[Any]] = TypeAdapter(Hours)
_TEXT: Final = """\
# New HubSpot contacts go to these people in turn, in their working hours. What more can be said: docs/policy.md
# `fairturn policy check` reads this file and says what is wrong with it; `fairturn policy apply` puts it into force.
mode: observe # decide and write down only; `live` gives leads to people
groups:
  everybody:
    reps: [{reps}]
    zone: {zone}
{hours}teams: {{inbound: everybody}}
otherwise: {{team: inbound}} # who gets the leads that no rule takes; there are no rules yet
"""


class AnswerUnusable(ValueError):
    """An answer is none that can be written; the message says why."""


def reps(answer: str) -> list[str]:
    """Read e-mail addresses or owner ids, with commas or blanks between them. Raises AnswerUnusable."""
    named = [_checked(_REP, each) for each in re.split(r"[\s,;]+", answer) if each]
    if not named:
        raise AnswerUnusable("name at least one")
    return list(dict.fromkeys(named))


def zone(answer: str) -> str:
    """Read a time zone. Raises AnswerUnusable."""
    return _checked(_ZONE, answer.strip())


def hours(answer: str) -> dict[str, list[str]]:
    """Read working hours such as `mon-thu 09:00-12:30, mon-thu 13:30-18:00, fri 09:00-15:00`; without days, they are
    those from Monday to Friday, and 24/7 is none. Raises AnswerUnusable."""
    found: dict[str, list[str]] = {}
    if answer.strip() == ALWAYS:
        return found
    for part in filter(None, map(str.strip, answer.split(","))):
        days, _, times = part.rpartition(" ")
        found.setdefault(days.strip().lower() or "mon-fri", []).append(times)
    _checked(_HOURS, found)
    return found


def text(reps: Sequence[str], zone: str, hours: dict[str, list[str]]) -> str:
    """Write the policy of these people, who all work in one time zone."""
    written = ", ".join(f"{days}: {_times(times)}" for days, times in hours.items())
    return _TEXT.format(
        reps=", ".join(map(_plain, reps)),
        zone=zone,
        hours=f"    hours: {{{written}}} # by the clock there\n" if hours else "",
    )


def _times(times: Sequence[str]) -> str:
    return times[0] if len(times) == 1 else f"[{', '.join(times)}]"


def _plain(rep: str) -> str:
    """A rep as YAML has them: in quotes if something in an address could be taken for YAML."""
    return rep if re.fullmatch(r"[a-z0-9][a-z0-9._+@-]*", rep) else json.dumps(rep, ensure_ascii=False)


def _checked(kind: TypeAdapter[T], answer: object) -> T:
    """What a policy file would take for this. Raises AnswerUnusable."""
    try:
        return kind.validate_python(answer)
    except ValidationError as error:
        raise AnswerUnusable(error.errors(include_url=False)[0]["msg"]) from error
