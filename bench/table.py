"""A table of what was measured, as it is printed and as it stands in docs/benchmarks.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows; every cell is a text already."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]] = field(default_factory=tuple)

    def __str__(self) -> str:
        """The table in Markdown, its columns as wide as what they hold."""
        widths = [max(map(len, cells)) for cells in zip(self.columns, *self.rows, strict=True)]
        head, *rows = (
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in (self.columns, *self.rows)
        )
        return "\n".join([head, "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rows])
