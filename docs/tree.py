"""Writes the tree of the repository into docs/architecture.md: one line for each folder and module.

The line of a module is the first sentence of its docstring, and that of a package is its `__init__.py`'s. `make tree`
runs this; it is never deployed.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = Path(__file__).with_name("architecture.md")
BEGIN: Final = "<!-- What follows is written by docs/tree.py: run `make tree`. -->\n"
END: Final = "<!-- The end of what docs/tree.py writes. -->\n"

PLACES: Final = {
    "functions": "One folder for each Lambda function: it reads the event, calls its namesake, shapes the answer.",
    "layers/core": "The layer that all functions share: the package, its pinned dependencies, how it is built.",
    "console": "The `fairturn` command. Operators install it; it is never deployed.",
    "sandbox": "Fairturn without AWS and HubSpot, for the demo and the tests. It is never deployed.",
    "bench": "The benchmarks behind docs/benchmarks.md.",
    "docs": "The pages, and the programs that write pages and pictures.",
    "tests": "The tests. What a file tests is in its name.",
    "tests/unit": "No test here opens a socket.",
    "tests/integration": "Everything together on one machine; moto stands in for AWS.",
    "tests/proof": "What moto can't show: limits, races and states, on DynamoDB Local (`make prove`).",
    "tests/local": "What was built, run as Lambda runs it (`make smoke`, `make local`).",
}
"""The folders that hold modules, in the order in which a reader needs them, and what they are for."""

LONGEST: Final = 100
"""Characters of a module's line."""
SENTENCE: Final = re.compile(r".+?\.(?=\s|$)", re.DOTALL)


def first_sentence(module: Path) -> str:
    """What a module says of itself. Raises ValueError if that is no sentence, or too long for a line."""
    found = SENTENCE.match(ast.get_docstring(ast.parse(module.read_text())) or "")
    if found is None:
        raise ValueError(f"{module}: the docstring does not begin with a sentence")
    sentence = " ".join(found[0].split())
    if len(sentence) > LONGEST:
        raise ValueError(f"{module}: the first sentence has {len(sentence)} characters; at most {LONGEST} are allowed")
    return sentence


def rows(folder: Path, before: str = "  ") -> Iterator[tuple[str, str]]:
    """The name and the line of everything in a folder, modules first. `before` stands before each name."""
    for module in sorted(folder.glob("*.py")):
        if module.name != "__init__.py":
            yield before + module.name, first_sentence(module)
    for inner in sorted(folder.iterdir()):
        if not any(inner.rglob("*.py")) or str(inner.relative_to(ROOT)) in PLACES:
            continue
        package = inner / "__init__.py"
        if package.exists():
            yield f"{before}{inner.name}/", first_sentence(package)
            yield from rows(inner, before + "  ")
        else:
            yield from rows(inner, f"{before}{inner.name}/")


def tree() -> str:
    """The whole tree, each place with its names in one column."""
    blocks = []
    for place, purpose in PLACES.items():
        inside = list(rows(ROOT / place))
        width = max(len(name) for name, _ in inside)
        lines = [f"{name:<{width}}  {sentence}" for name, sentence in inside]
        blocks.append("\n".join([f"{place}/  {purpose}", *lines]))
    return "\n\n".join(blocks)


def page() -> str:
    """The page as it has to be: with the tree of the code as it is now."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"{PAGE.name} has not the two lines between which the tree stands")
    return f"{before}{BEGIN}\n```text\n{tree()}\n```\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
