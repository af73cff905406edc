"""Lambda may start many functions from one snapshot: what must not be the same in all of them."""

from __future__ import annotations

import gc
import random
import sys
from copy import copy
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from fairturn import ready
from fairturn.settings import Settings
from fairturn.wiring import wired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INITIALIZATION = "AWS_LAMBDA_INITIALIZATION_TYPE"


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """What Lambda is asked to do whenever a function has started from the snapshot."""
    registered: list[Callable[[], Any]] = []
    runtime = SimpleNamespace(register_after_restore=registered.append)
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", runtime)
    return registered


def test_workers_that_start_from_one_snapshot_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    started = wired(Settings("table", "l", "b", "c", "ld", "cd", "https://example.com", "ws", "ts", 1))
    workers = [copy(started).assign.claimer.worker for _ in range(3)]
    assert len(set(workers)) == 3


def test_what_starts_from_one_snapshot_does_not_pause_in_step(
    hooks: list[Callable[[], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INITIALIZATION, "snap-start")
    ready()
    snapshot = random.getstate()
    drawn = set()
    for _ in range(3):
        random.setstate(snapshot)
        for hook in hooks:
            hook()
        drawn.add(random.random())
    assert len(drawn) == 3


def test_a_start_without_a_snapshot_needs_nothing_of_the_runtime(
    hooks: list[Callable[[], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(INITIALIZATION, "on-demand")
    ready()
    assert hooks == []
