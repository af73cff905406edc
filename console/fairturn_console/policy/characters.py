"""Characters that deceive whoever reads a policy: look-alikes, hidden ones, reversed text.

A policy may be in any script. A word is doubted if it mixes scripts by letters that look the same, or if it has only
such letters of a script of which the whole policy has no other.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

from fairturn.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Set

LOOK_ALIKE: Final = frozenset({"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE"})
"""Scripts that share shapes of letters, by the first word of their letters' names."""
TURNING: Final = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Bidirectional classes of the characters that change the order in which a text is shown."""
JOINERS: Final = frozenset("\u200c\u200d")
"""They have a meaning in Persian, in Indic scripts and in emoji, and none beside ASCII."""
MARKS: Final = frozenset("\u200e\u200f\u061c")
"""They have a meaning beside letters that are written from right to left."""
BLANK: Final = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")
"""Letters and marks that show nothing."""
WORD: Final = re.compile(r"\w+")
TWINS: Final = frozenset("ABCEHIJKMNOPSTXYZaceijopsvxyАВСЕНІЈКМОРЅТХУасеіјорѕхуЬԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧονυ")
"""Latin, Cyrillic and Greek letters that look like one of another of these scripts."""
BLACK_FLAG: Final = "\U0001f3f4"
TAGS: Final = range(0xE0020, 0xE0080)
"""They follow a black flag to make it a region's."""


def deceptive(text: str) -> Iterator[Problem]:
    """Yield the lines that hold characters which deceive, each with the first of them."""
    borrowed = {script for script in LOOK_ALIKE - {"LATIN"} if _is_borrowed(script, text)}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        what = None if line.isascii() else _hidden(line) or _mixed(line, borrowed)
        if what is not None:
            yield Problem(f"line {number}", what)


def named(letter: str) -> str:
    """Name a character: `U+0430 CYRILLIC SMALL LETTER A`."""
    name = unicodedata.name(letter, "NUL" if letter == "\0" else "")
    return f"U+{ord(letter):04X} {name}".rstrip()


def _hidden(line: str) -> str | None:
    for before, letter, after in zip(f" {line[:-1]}", line, f"{line[1:]} ", strict=True):
        if unicodedata.bidirectional(letter) in TURNING:
            return f"{named(letter)} turns around what is shown; take it out"
        if letter in JOINERS and not before.isascii() and not after.isascii():
            continue
        if letter in MARKS and any(unicodedata.bidirectional(each) in {"R", "AL"} for each in line if each.isalpha()):
            continue
        if ord(letter) in TAGS and (before == BLACK_FLAG or ord(before) in TAGS):
            continue
        if letter in BLANK or (unicodedata.category(letter) == "Cf" and unicodedata.bidirectional(letter) != "AN"):
            return f"{named(letter)} is there, and nobody sees it; take it out"
    return None


def _mixed(line: str, borrowed: Set[str]) -> str | None:
    for word in WORD.findall(line):
        letters = [letter for letter in word if letter.isalpha()]
        scripts = [script for script in dict.fromkeys(map(_script, letters)) if script in LOOK_ALIKE]
        if not scripts:
            continue
        rare = min(scripts, key=lambda script: sum(_script(letter) == script for letter in letters))
        strange = next((letter for letter in letters if _script(letter) == rare and letter in TWINS), None)
        if strange is not None and len(scripts) > 1:
            return f"{word!r} mixes {' and '.join(map(str.title, scripts))} letters: {named(strange)}"
        if strange is not None and rare in borrowed:
            return f"{word!r} is in {rare.title()} letters that look like Latin ones: {named(strange)}"
    return None


def _is_borrowed(script: str, text: str) -> bool:
    """Whether a text has letters of a script, and only such as look like Latin ones."""
    letters = {letter for letter in set(text) if not letter.isascii() and _script(letter) == script}
    return bool(letters) and letters <= TWINS


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]
