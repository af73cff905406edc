"""While leads flow, an audit finds nothing but what is planted. Workers claim, hand over and give back all the time."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from fairturn.deadline import Deadline
from fairturn.edges.store import Store
from fairturn.rules.findings import What
from fairturn.rules.record import new
from fairturn.steps.audit import Report, audit_table, read_loads
from fairturn_console.policy import reading
from tests.proof.test_races import LEADS, STRANGER, WITHIN, WORKERS, Race, _ready, shares_of, work

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ROTAS: Final = ("east", "west")
PLANTED: Final = 3
"""Leads by which a load is too high."""


def race(url: str, table: str) -> Race:
    reps = [str(rep) for rep in range(101, 113)]
    policy = {
        "reps": {rep: {"capacity": 60} for rep in reps},
        "rotas": {"east": {"members": reps[:8]}, "west": {"members": reps[4:]}},
        "rules": [{"name": rota, "when": [{"property": "city", "equals": rota}], "rota": rota} for rota in ROTAS],
        "otherwise": {"rota": "east"},
    }
    places = {str(1000 + n): (ROTAS[n % 2], "any") for n in range(LEADS)}
    return Race(url, table, policy, places, undoing=True)


@pytest.mark.parametrize("planted", [0, PLANTED])
def test_leads_that_flow_are_no_finding_and_hide_none(
    url: str, dynamodb: DynamoDBClient, table: str, planted: int
) -> None:
    store, running = Store(dynamodb, table), race(url, table)
    store.put_policy(1, reading.read(running.policy), 1)
    if planted:  # the stranger's load is too high from the start
        gone = [new(str(n)) for n in range(planted)]
        store.move([(record, record.external(STRANGER, None, 1)) for record in gone])
        for record in gone:
            key = {"pk": {"S": f"LEAD#{record.key}"}, "sk": {"S": "RECORD"}}
            dynamodb.delete_item(TableName=table, Key=key)
    shares = shares_of(sorted(running.leads), Random(9))
    processes = multiprocessing.get_context("spawn")
    start = processes.Barrier(WORKERS)
    reports: list[Report] = []
    with ProcessPoolExecutor(WORKERS, processes, initializer=_ready, initargs=(start,)) as pool:
        futures = [pool.submit(work, running, share, number) for number, share in enumerate(shares)]
        until = time.monotonic() + WITHIN
        while not all(future.done() for future in futures) and time.monotonic() < until:
            reports.append(audit_table(store, 1, Deadline.after(WITHIN)))
        for future in futures:
            future.result(WITHIN)
    busy = [report for report in reports if report.versions > 0]
    assert len({report.versions for report in busy}) > 2, "nothing moved meanwhile: that was no race"
    wanted = {f"rep {STRANGER}"} if planted else set()
    assert {(each.what, each.where) for report in reports for each in report.findings} <= {
        (What.LOAD, where) for where in wanted
    }
    assert {each.where for each in audit_table(store, 1, Deadline.after(WITHIN)).findings} == wanted
    drifts = read_loads(store, Deadline.after(WITHIN)).drifts
    assert {rep: drift.high for rep, drift in drifts.items() if drift.is_wrong} == (
        {STRANGER: planted} if planted else {}
    )
    assert all(drift.is_known for drift in drifts.values())
