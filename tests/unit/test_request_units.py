"""The units that a write costs, as DynamoDB counts them."""

from __future__ import annotations

from typing import Any

import pytest

from fairturn_console.request_units import Index, Item, indexes, size, units, units_of_read, units_of_write

KEY: Item = {"pk": {"S": "LEAD#contact#1"}, "sk": {"S": "RECORD"}}
BY_DUE = Index(("due_lane", "due"), frozenset({"state"}))


def item(bytes_: int, **more: str) -> Item:
    """An item of so many bytes, and what else is said."""
    named = {**KEY, **{name: {"S": value} for name, value in more.items()}}
    return {**named, "x": {"S": "x" * (bytes_ - size(named) - 1)}}


@pytest.mark.parametrize(
    ("value", "bytes_"),
    [
        ({"S": "zurück"}, 7),
        ({"N": "0"}, 1),
        ({"N": "7"}, 2),
        ({"N": "1795424400001"}, 8),
        ({"N": "1200"}, 2),
        ({"N": "-12"}, 3),
        ({"B": b"123"}, 3),
        ({"BOOL": True}, 1),
        ({"SS": ["a", "bc"]}, 3),
        ({"L": [{"S": "a"}, {"N": "1"}]}, 3 + 2 + 3),
        ({"M": {"ab": {"S": "c"}}}, 3 + 1 + 3),
    ],
)
def test_an_attribute_is_as_large_as_its_name_and_its_value(value: dict[str, Any], bytes_: int) -> None:
    assert size({"name": value}) == 4 + bytes_


def test_a_unit_writes_one_kilobyte_and_what_is_begun_counts_whole() -> None:
    assert [units(each) for each in (1, 1024, 1025, 4096)] == [1, 1, 2, 4]


def test_a_unit_reads_four_kilobytes_or_twice_that_if_it_may_be_a_moment_old_and_what_is_not_there_counts_too() -> None:
    assert [units_of_read(each, consistent=True) for each in (0, 1, 4096, 4097)] == [1, 1, 1, 2]
    assert [units_of_read(each, consistent=False) for each in (0, 4096, 4097)] == [0.5, 0.5, 1]


@pytest.mark.parametrize(("before", "after", "expected"), [(0, 900, 1), (900, 1100, 2), (2100, 900, 3)])
def test_a_write_counts_the_item_as_it_was_or_as_it_becomes_whichever_is_larger(
    before: int, after: int, expected: int
) -> None:
    old = item(before) if before else {}
    assert units_of_write(old, item(after), [], in_transaction=False) == expected


def test_a_transaction_writes_each_item_twice_and_each_entry_of_an_index_once() -> None:
    claimed = item(900, due_lane="claimed", due="1")
    assert units_of_write({}, claimed, [BY_DUE], in_transaction=False) == 1 + 1
    assert units_of_write({}, claimed, [BY_DUE], in_transaction=True) == 2 + 1


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, 0),
        ({"state": "closed"}, {"state": "gone"}, 0),  # it has no entry
        ({}, {"due_lane": "claimed", "due": "1"}, 1),
        ({"due_lane": "claimed", "due": "1"}, {}, 1),
        ({"due_lane": "claimed", "due": "1"}, {"due_lane": "claimed", "due": "1", "rep": "7"}, 0),  # not shown there
        ({"due_lane": "claimed", "due": "1", "state": "a"}, {"due_lane": "claimed", "due": "1", "state": "b"}, 1),
        ({"due_lane": "claimed", "due": "1"}, {"due_lane": "claimed", "due": "2"}, 2),  # removed, and put
    ],
)
def test_an_index_costs_what_changes_in_it(before: dict[str, str], after: dict[str, str], expected: int) -> None:
    alone = units_of_write(item(200, **before), item(200, **after), [], in_transaction=False)
    assert units_of_write(item(200, **before), item(200, **after), [BY_DUE], in_transaction=False) == alone + expected


def test_an_entry_is_as_large_as_what_the_index_shows() -> None:
    small, large = {"due_lane": "claimed", "due": "1"}, {"due_lane": "claimed", "due": "1", "state": "x" * 1100}
    assert units_of_write({}, item(5000, **small), [BY_DUE], in_transaction=False) == 5 + 1
    assert units_of_write({}, item(5000, **large), [BY_DUE], in_transaction=False) == 5 + 2


def test_the_indexes_are_those_of_the_template() -> None:
    assert indexes()[-1] == Index(("due_lane", "due"), frozenset({"state", "rev", "priority", "occurred_at"}))
