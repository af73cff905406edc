"""Policy files: YAML 1.2, read strictly, and every problem on its line.

YAML 1.2 knows no other words for true and false than these: `NO` is Norway. Of what YAML allows beyond plain
data (anchors, aliases, tags, directives, several documents) a policy needs nothing, and gets nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from fairturn.errors import PolicyInvalid, Problem
from fairturn_console.policy.characters import deceptive, named
from fairturn_console.policy.doubts import doubts
from fairturn_console.policy.problems import place
from fairturn_console.policy.reading import old_names, read
from fairturn_console.policy.written import OLD_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date, datetime

    from ruamel.yaml.events import Event

    from fairturn.rules.policy import Policy

MAX_BYTES = 256 * 1024
MAX_STORED = 360 * 1024  # DynamoDB keeps at most 400 KB in one item
MAX_DEPTH = 40

_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What YAML lets no file hold, quoted or not."""
_NO_CHARACTER = re.compile(r"\\U(?!000[0-9A-Fa-f]|0010)[0-9A-Fa-f]{8}")
"""An escape beyond the last character that there is."""
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FRACTION = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Checked:
    """A policy without problems."""

    policy: Policy
    located: Callable[[Problem], Problem]
    """Puts the line in front of a problem's place."""
    text: str
    notes: tuple[Problem, ...] = ()
    """What is told of the file itself: keys by names that they had once."""

    def warnings(self, at: datetime) -> list[Problem]:
        """What is hardly meant in the policy, each with its line. `at` is now, with a time zone."""
        return [*deceptive(self.text), *map(self.located, (*self.notes, *doubts(self.policy, at)))]


def load(source: Path | str) -> Policy:
    """Read a policy from a file, or from text. Raises PolicyInvalid with every problem and its line."""
    return check(source).policy


def check(source: Path | str, today: date | None = None) -> Checked:
    """Read a policy that may be doubted. Raises PolicyInvalid with every problem and its line.

    Files of lists are looked for beside it, or where the command runs if it is text. Public holidays are those from
    `today` on.
    """
    text = _read(source) if isinstance(source, Path) else source
    _refuse_too_large(text.encode("utf-8", "surrogatepass"))
    for number, line in enumerate(text.split("\n"), start=1):
        if "\t" in line[: len(line) - len(line.lstrip())]:
            _refuse(number, "indented with a tab; YAML wants blanks")
        if forbidden := _FORBIDDEN.search(line):
            _refuse(number, f"not YAML: {named(forbidden[0])} is a forbidden character")
    reader = _Reader(text)
    data = reader.document()
    if data is None:
        _refuse(None, "empty: there is no policy in it")
    try:
        policy = read(data, folder=source.parent if isinstance(source, Path) else Path(), today=today)
    except PolicyInvalid as error:
        raise PolicyInvalid([reader.located(problem) for problem in error.problems]) from error
    stored = policy.dump()
    if len(stored.encode()) > MAX_STORED:
        parts = json.loads(stored)
        largest = max(parts, key=lambda part: len(json.dumps(parts[part])))
        what = "too large to be stored: take out reps, hours, members or entries of lists; this part is the largest"
        raise PolicyInvalid([reader.located(Problem(largest, what))])
    return Checked(policy, reader.located, text, tuple(old_names(data)))


def _read(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    _refuse_too_large(content)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise PolicyInvalid([Problem(f"line {line}", "not UTF-8; save the file in that encoding")]) from error


def _refuse_too_large(content: bytes) -> None:
    if len(content) > MAX_BYTES:
        line = content.count(b"\n", 0, MAX_BYTES) + 1
        _refuse(line, f"larger than {MAX_BYTES // 1024} KB from here on")


def _refuse(line: int | None, what: str) -> NoReturn:
    raise PolicyInvalid([Problem(f"line {line}" if line else "", what)])


class _Reader:
    """Makes plain data of one YAML document, and remembers the line of every place in it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines: dict[str, int] = {}
        self._mentioned: dict[str, int] = {}
        """Where a rep is named first, for those who have no entry of their own."""

    def document(self) -> object:
        """Give the data of the only document; None if there is nothing in the text."""
        try:
            return self._document(YAML(typ="safe", pure=True).parse(self._text))
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = ", ".join(part for part in (error.context, error.problem) if part)
            line = f"line {mark.line + 1}" if mark else ""
            raise PolicyInvalid([Problem(line, f"not YAML: {what}")]) from error
        except (YAMLError, ValueError, OverflowError):
            # ruamel.yaml lets through what Python says of an escape that names no character.
            escape = _NO_CHARACTER.search(self._text)
            if escape is None:
                _refuse(None, "not YAML: it holds forbidden characters")
            _refuse(self._text.count("\n", 0, escape.start()) + 1, f"not YAML: {escape[0]} names no character")

    def located(self, problem: Problem) -> Problem:
        """Put the line in front of a problem's place: its own, or that of what surrounds it."""
        around, lines = problem.place.casefold(), self._mentioned | self._lines
        while around and around not in lines:
            around = around[: max(around.rfind("."), around.rfind("["), 0)]
        line = f"line {lines.get(around, 1)}"
        return Problem(f"{line}, {problem.place}" if problem.place else line, problem.what)

    def _document(self, events: Iterator[Event]) -> object:
        data: object = None
        documents = 0
        for event in events:
            match event:
                case StreamStartEvent() | StreamEndEvent() | DocumentEndEvent():
                    continue
                case DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        _refuse(_line(event), "a second document begins here; a policy is one")
                    if event.version or event.tags:
                        _refuse(_line(event), "directives (%) are not allowed in a policy")
                case _:
                    data = self._value(event, events, ())
        return data

    def _value(self, event: Event, events: Iterator[Event], path: tuple[str | int, ...]) -> object:
        self._lines.setdefault(place(path).casefold(), _line(event))
        if len(path) > MAX_DEPTH:
            _refuse(_line(event), f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
            _refuse(
                _line(event),
                "anchors (&) and aliases (*) are not allowed; put a text that begins so in quotes",
            )
        match event:
            case ScalarEvent():
                self._mentioned.setdefault(place(("reps", str(event.value).strip())).casefold(), _line(event))
                return _scalar(event)
            case SequenceStartEvent():
                _refuse_tag(event)
                items: list[object] = []
                while not isinstance(event := next(events), SequenceEndEvent):
                    items.append(self._value(event, events, (*path, len(items))))
                return items
            case MappingStartEvent():
                _refuse_tag(event)
                return self._mapping(events, path)
        raise AssertionError(event)

    def _mapping(self, events: Iterator[Event], path: tuple[str | int, ...]) -> dict[str, object]:
        mapping: dict[str, object] = {}
        while not isinstance(key := next(events), MappingEndEvent):
            if not isinstance(key, ScalarEvent) or key.anchor:
                _refuse(_line(key), "a key must be plain text")
            _refuse_tag(key)
            name = str(key.value)
            inside = (*path, OLD_NAMES.get(name, name))
            if name in mapping:
                first = self._lines[place(inside).casefold()]
                _refuse(_line(key), f"{place((*path, name))}: this key is there already, on line {first}")
            for each in (inside, (*path, name)):
                self._lines.setdefault(place(each).casefold(), _line(key))
            mapping[name] = self._value(next(events), events, inside)
        return mapping


def _line(event: Event) -> int:
    return int(event.start_mark.line) + 1


def _refuse_tag(event: Event) -> None:
    if getattr(event, "tag", None) is not None:
        _refuse(_line(event), "tags (!) are not allowed; put a text that begins with ! in quotes")


def _scalar(event: ScalarEvent) -> object:
    _refuse_tag(event)
    text = str(event.value)
    if event.style:  # quoted, or a block of text
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return Decimal(text) if _FRACTION.fullmatch(text) else text
