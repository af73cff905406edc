"""The pages for readers: every link leads somewhere, and the tree is that of the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from docs import tree

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
BLOCK: Final = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return BLOCK.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    found: set[str] = set()
    for heading in HEADING.findall(prose(page)):
        name = re.sub(r"[^\w\- ]", "", LINK.sub("]", heading).lower()).replace(" ", "-")
        same = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", anchor) is not None for anchor in found)
        found.add(f"{name}-{same}" if same else name)
    return found


def broken(page: Path) -> Iterator[str]:
    """The links of a page, within the repository, that lead nowhere."""
    for link in LINK.findall(prose(page)):
        if re.match("[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert list(broken(page)) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# What `a_b` is, and isn't\n\n```\n# no heading\n```\n\n# Twice\n\n# Twice\n")
    page.write_text(
        "# Here\n[1](other.md) [2](other.md#what-a_b-is-and-isnt) [3](other.md#twice-1) [4](#here) [5](https://a.b/#c)\n"
        "[6](missing.md) [7](other.md#no-heading) [8](other.md#twice-2) [9](#there)\n"
    )
    assert list(broken(page)) == ["missing.md", "other.md#no-heading", "other.md#twice-2", "#there"]


def test_the_tree_of_the_page_is_that_of_the_code() -> None:
    assert tree.page() == tree.PAGE.read_text(), "run `make tree`, and see what has changed"


def test_the_tree_shows_every_folder_whose_types_are_checked() -> None:
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    assert [each for each in checked if not {each, str(Path(each).parent)} & tree.PLACES.keys()] == []


@pytest.mark.parametrize(
    ("docstring", "problem"),
    [
        ("", "does not begin with a sentence"),
        ('"""No full stop"""', "does not begin with a sentence"),
        (f'"""{"a" * 100}."""', "has 101 characters"),
    ],
)
def test_a_module_without_a_short_first_sentence_is_refused(tmp_path: Path, docstring: str, problem: str) -> None:
    module = tmp_path / "module.py"
    module.write_text(docstring)
    with pytest.raises(ValueError, match=problem):
        tree.first_sentence(module)


def test_the_first_sentence_of_a_docstring_may_go_over_two_lines(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""Reads template.yaml\nas data. And more."""\n')
    assert tree.first_sentence(module) == "Reads template.yaml as data."
