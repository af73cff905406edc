"""The benchmarks measure right: the polled queue, the counted calls, the page that is written."""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

from bench import contention, growth
from bench.burst import Audit, Burst
from bench.cold_start import Start, Starts
from bench.contention import Contention, Tally
from bench.imported import Import
from bench.lone_lead import Way
from bench.page import Findings, Machine, draw, goals, write
from bench.stack import Queue, most_within, sources
from bench.webhook import Answers
from fairturn.edges.queues import Outgoing

if TYPE_CHECKING:
    from pathlib import Path

GROWING = ("history", "reps", "lanes", "rules")
MACHINE = Machine(date(2026, 11, 28), 2, "some processor", 0.5, "1.0.0")


def found(*, built: bool) -> Findings:
    """What might have been found."""
    times = [0.3, 0.35, 0.4]
    start = Starts([Start(0.3, 0.4, 0.3)], 400)
    return Findings(
        lone={0.15: [Way(seconds, Counter(hubspot=2, dynamodb=7, sqs=2)) for seconds in times]},
        bursts=[Burst(name, 10, [1.0, 2.0], 20, 2.0, 0, 20) for name in ("Fairturn", "Naive")],
        audits=[Audit("room is short", "Naive", 10, 1, 2, 3)],
        imported=Import(100, 100, 2.0, times, times, 6, 6),
        contention=Contention(
            1.0,
            {(batch, workers): [Tally(100)] for batch in contention.BATCHES for workers in contention.WORKERS},
            {batch: ([Tally(100)], [Tally(110)]) for batch in contention.BATCHES},
        ),
        growth=[
            growth.Step(what, size, size / 5) for what in ("history", "reps", "lanes", "rules") for size in (5, 10)
        ],
        starts=dict.fromkeys(("floor", "intake", "assign"), start) if built else {},
        layer=5.5 if built else None,
        webhooks=[Answers(in_flight, times, 10) for in_flight in (1, 10)],
    )


def test_a_message_comes_again_until_it_is_deleted_and_no_more_often_than_it_may() -> None:
    queue = Queue(hidden=0, most=2)
    queue.send([Outgoing("lead")])
    received = [queue.receive(10, 0, patience=0) for _ in range(3)]
    assert [[message.receipts for message in batch] for batch in received] == [[1], [2], []]
    assert queue.given_up == ["lead"]


def test_a_message_that_is_deleted_or_put_back_does_not_come() -> None:
    queue = Queue(hidden=0)
    queue.send([Outgoing("done"), Outgoing("later")])
    done, later = queue.receive(10, 0, patience=0)
    queue.delete([done])
    queue.put_back([(later, 60)])
    assert queue.receive(10, 0, patience=0) == []


def test_the_most_within_some_seconds_are_found() -> None:
    assert most_within([], 10) == 0
    assert most_within([0, 1, 2, 10, 10.5, 11, 12], 10) == 4


def test_three_queues_are_read_as_the_template_says() -> None:
    assert {(each.queue, each.batch) for each in sources()} == {
        ("LeadsQueue", 10),
        ("BulkQueue", 97),
        ("ChangesQueue", 100),
    }


def test_a_goal_that_is_missed_is_told() -> None:
    missed = [row[0] for row in goals(found(built=True)).rows if row[3]]
    assert missed == ["the same beside the naive design in our batches"]


def test_the_page_says_when_and_on_what_it_was_measured_and_whether_that_was_noisy() -> None:
    page, noisy = (write(found(built=True), replace(MACHINE, load=load), 400) for load in (0.5, 3.0))
    for fact in ("2026-11-28", "2 processors", "some processor", platform.python_version(), "simulator 1.0.0"):
        assert fact in page
    assert "Not measured" not in page
    assert "Others were at work" in noisy
    assert "Others were at work" not in page


def test_without_a_build_the_page_says_so_and_keeps_the_rest() -> None:
    page = write(found(built=False), MACHINE, 400)
    assert "Not measured: nothing was built" in page
    assert "## Webhooks" in page


def test_the_picture_holds_its_words_as_text(tmp_path: Path) -> None:
    draw(found(built=True), tmp_path / "picture.svg")
    assert "Workers on one rota</text>" in (tmp_path / "picture.svg").read_text(encoding="utf-8")
