"""What changes from one policy to another, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fairturn_console.policy.writing import as_written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fairturn.rules.policy import Policy

SHOWN: Final = 6
"""Entries of a list that are named; of more it is said how many there are."""


def changes(before: Policy, after: Policy, names: Mapping[str, str]) -> list[str]:
    """Say what changes, one line each; none if nothing does. `names` says how to call each rep."""
    old, new = as_written(before, names), as_written(after, names)
    rules = _of_rules(old.pop("rules", []), new.pop("rules", []))
    return [*_of(old, new, ""), *rules]


def _of(old: Any, new: Any, place: str) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            inside = f"{place}.{key}" if place else str(key)
            if key not in new:
                yield f"{inside}: is gone (was {_said(old[key])})"
            elif key not in old:
                yield f"{inside}: is new: {_said(new[key])}"
            else:
                yield from _of(_mapping(old[key]), _mapping(new[key]), inside)
    elif isinstance(old, list) and isinstance(new, list):
        gone, added = [each for each in old if each not in new], [each for each in new if each not in old]
        told = [f"without {_several(gone)}"] if gone else []
        told += [f"with {_several(added)}"] if added else []
        yield f"{place}: {', '.join(told) or 'in another order'}"
    else:
        yield f"{place}: {_said(old)} becomes {_said(new)}"


def _mapping(value: Any) -> Any:
    """A rep of whom nothing is said has the defaults."""
    return {} if value is None else value


def _of_rules(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[str]:
    before, after = ({rule["name"]: rule for rule in rules} for rules in (old, new))
    for name in before.keys() - after.keys():
        yield f"rule {name!r}: is gone"
    for number, (name, rule) in enumerate(after.items(), start=1):
        if name not in before:
            yield f"rule {name!r}: is new, number {number} of {len(after)}"
        else:
            yield from _of(before[name], rule, f"rule {name!r}")
    kept = [name for name in before if name in after]
    if kept != [name for name in after if name in before]:
        yield f"rules: are tried in another order: {', '.join(after)}"


def _several(entries: list[Any]) -> str:
    more = f" and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
    return ", ".join(map(_said, entries[:SHOWN])) + more


def _said(value: Any) -> str:
    match value:
        case None | []:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict() if not value:
            return "nothing"
        case dict():
            return "{" + ", ".join(f"{key}: {_said(each)}" for key, each in value.items()) + "}"
        case list():
            return f"[{_several(value)}]"
        case _:
            return str(value)
