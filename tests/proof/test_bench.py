"""What a burst costs in calls to HubSpot, with several functions at work at once."""

from __future__ import annotations

from bench.stack import Fairturn, Neighbour, account
from fairturn.edges.store import MAX_RECORDS

BATCHES = 2


def test_a_burst_of_two_full_batches_costs_eight_calls_to_hubspot_at_most(url: str) -> None:
    portal = Neighbour(latency=0.0)
    with account(url, portal) as (client, table), Fairturn(portal, client, table) as stack:
        with portal.lock:
            leads = [portal.create_contact({"email": "lead@example.net"}) for _ in range(BATCHES * MAX_RECORDS)]
        stack.wait(leads, 30)
    assert {len(portal.owned[lead]) for lead in leads} == {1}
    # Two for a batch. The two that gather the leads may share them out in four.
    assert len(portal.asked) <= 2 * 2 * BATCHES
