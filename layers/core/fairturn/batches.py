"""Batches: cuts a list into parts that one request or one transaction takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")


def batched(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """All items in their order, at most so many at a time. Python has it from 3.12 on."""
    for start in range(0, len(items), most):
        yield items[start : start + most]
