"""How much time an invocation has left, and what still begins in it."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from fairturn.deadline import Deadline
from fairturn.errors import OutOfTime, Unavailable


@dataclass
class Context:
    """What Lambda gives to a function, as far as it counts here."""

    milliseconds: int

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


def test_the_deadline_of_an_invocation_is_when_lambda_ends_it() -> None:
    context: Any = Context(12_500)
    deadline = Deadline.of(context)
    assert deadline.left() == 12.5
    context.milliseconds = 500
    assert deadline.left() == 0.5


def test_a_deadline_of_our_own_comes_nearer_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=lambda: 100.0)
    monkeypatch.setattr("fairturn.deadline.time", clock)
    deadline = Deadline.after(30)
    assert deadline.left() == 30
    clock.monotonic = lambda: 110.0
    assert deadline.left() == 20
    clock.monotonic = lambda: 135.0
    assert deadline.left() == -5


def test_what_is_kept_for_the_end_is_not_there_for_the_rest() -> None:
    context: Any = Context(30_000)
    whole = Deadline.of(context)
    assert whole.less(5).left() == 25
    assert whole.less(5).less(2).left() == 23
    assert whole.left() == 30
    context.milliseconds = 10_000
    assert whole.less(5).left() == 5


@pytest.mark.parametrize(
    ("left", "begins"), [(5_001, True), (5_000, True), (4_999, False), (0, False), (-9_000, False)]
)
def test_only_what_can_end_in_time_begins(left: int, *, begins: bool) -> None:
    context: Any = Context(left)
    deadline = Deadline.of(context)
    if begins:
        deadline.check(5)
    else:
        with pytest.raises(OutOfTime, match="no time is left"):
            deadline.check(5)


def test_a_lack_of_time_is_nobodys_mistake() -> None:
    assert issubclass(OutOfTime, Unavailable)
