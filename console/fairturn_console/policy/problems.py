"""How problems of a policy are told: each with its place in the file, in plain words."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from fairturn.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.fields import FieldInfo

MAX_LISTED = 25  # names given as allowed in one message


def place(path: Iterable[str | int]) -> str:
    """Write the way to a value in the file: `rules[2].when[0].at_least`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def wrong(what: str, at: str | None = None) -> PydanticCustomError:
    """Say in plain words what is wrong with a value, or with its entry `at`."""
    return PydanticCustomError("policy", "{what}", {"what": what, "at": at})


def listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = get_close_matches(name, known, n=1)
    meant = f", did you mean {close[0]!r}?" if close else ";"
    return f"unknown {kind} {name!r}{meant} allowed: {listed(known) or 'none'}"


_PLAIN = {
    "missing": "is missing",
    "model_type": "must be a mapping of keys to values",
    "dict_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "string_type": "must be text; put it in quotes if it looks like something else",
    "string_unicode": "holds characters that are no text",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length}, has {actual_length}",
    "too_long": "must have at most {max_length}, has {actual_length}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
}


def problems(error: ValidationError, data: object, models: Mapping[int, type[BaseModel]]) -> list[Problem]:
    lines = error.errors(include_url=False)
    places = [line["loc"] for line in lines]

    def only_seems(line: ErrorDetails) -> bool:
        # Entries that are wrong are not counted, so a list of nothing else seems too short as well.
        loc = line["loc"]
        return line["type"] == "too_short" and any(len(at) > len(loc) and at[: len(loc)] == loc for at in places)

    return [_problem(line, data, models) for line in lines if not only_seems(line)]


def _problem(error: ErrorDetails, data: Any, models: Mapping[int, type[BaseModel]]) -> Problem:
    path: list[str | int] = []
    mapping: object = None
    for step in error["loc"]:
        present = _has(data, step)
        if not present and (str(step)[:1] in ("<", "[") or (step == 0 and not isinstance(data, (list, tuple)))):
            continue  # the name of a kind of condition or of a key, or the list of an only entry: no place in the file
        path.append(step)
        mapping, data = data, data[step] if present else None
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden" and id(mapping) in models:
        what = _extra(str(path[-1]), models[id(mapping)].model_fields)
    elif kind in ("enum", "literal_error"):
        what = f"must be {context['expected']}".replace("'", "")
    else:
        what = _PLAIN.get(kind, "{what}").format_map({"what": error["msg"], **context})
    at = context.get("at")
    return Problem(place([*path, at] if at else path), what)


def _extra(key: str, fields: Mapping[str, FieldInfo]) -> str:
    for name, field in fields.items():
        if isinstance(field.validation_alias, AliasChoices) and key in field.validation_alias.choices:
            return f"is what `{name}` was called once, and that is there already"
    return unknown("key", key, [field.alias or name for name, field in fields.items()])


def _has(data: Any, step: str | int) -> bool:
    if isinstance(data, dict):
        return step in data
    return isinstance(data, (list, tuple)) and isinstance(step, int) and step < len(data)


class Strict(BaseModel):
    """A mapping of the file: frozen, and an unknown key is an error that names the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _remember(cls, data: object, info: ValidationInfo) -> object:
        if info.context is not None:
            info.context[id(data)] = cls
        return data
