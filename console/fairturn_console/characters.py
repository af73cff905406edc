"""Characters that deceive whoever reads a policy: look-alikes, hidden ones, and those that turn the text around.

A policy may be in any script. Only a word that mixes scripts whose letters look the same is doubted.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

from fairturn.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOK_ALIKE: Final = frozenset({"LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE"})
"""Scripts that share shapes of letters, by the first word of their letters' names."""
TURNING: Final = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""Bidirectional classes of the characters that change the order in which a text is shown."""
JOINERS: Final = frozenset("\u200c\u200d")
"""They have a meaning in Persian, in Indic scripts and in emoji, and none beside ASCII."""
BLANK: Final = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")
"""Letters and marks that show nothing."""
WORD: Final = re.compile(r"[^\W\d_]+")


def deceptive(text: str) -> Iterator[Problem]:
    """Yield the lines that hold characters which deceive, each with the first of them."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        what = None if line.isascii() else _hidden(line) or _mixed(line)
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
        if letter in BLANK or (unicodedata.category(letter) == "Cf" and unicodedata.bidirectional(letter) != "AN"):
            return f"{named(letter)} is there, and nobody sees it; take it out"
    return None


def _mixed(line: str) -> str | None:
    for word in WORD.findall(line):
        letters = {_script(letter): letter for letter in reversed(word)}
        scripts = [script for script in dict.fromkeys(map(_script, word)) if script in LOOK_ALIKE]
        if len(scripts) > 1:
            rare = min(scripts, key=lambda script: sum(_script(letter) == script for letter in word))
            return f"{word!r} mixes {' and '.join(map(str.title, scripts))} letters: {named(letters[rare])}"
    return None


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]
