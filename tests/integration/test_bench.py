"""What is measured by hand has counts that hold anywhere."""

from __future__ import annotations

import io
from random import Random

import boto3

from bench.lone_lead import START, ways
from fairturn.crm import HubSpot
from fairturn.record import milliseconds
from fairturn.settings import settings
from fairturn.store import Store
from fairturn_console import events, policies
from fairturn_console.cli import POLICY
from fairturn_console.portal import Portal
from fairturn_console.sandbox import Sandbox
from fairturn_console.story import furnish
from fairturn_console.template import PATH


def test_a_lone_lead_costs_two_calls_to_hubspot_seven_to_the_table_and_two_to_sqs() -> None:
    portal = Portal(Random(1), token="pat", secret=events.SECRET, webhook_url=events.URL)
    parameters: dict[str, str | int] = {"HubSpotPortalId": portal.id, "WebhookKey": events.KEY}
    policy = policies.load(PATH.parent / POLICY)
    with portal, Sandbox(portal, start=START, log=io.StringIO(), parameters=parameters) as sandbox:
        furnish(portal, policy)
        crm = HubSpot(lambda _: portal.token, portal.url)
        policies.apply(policy, Store(boto3.client("dynamodb"), settings().table), crm, milliseconds(START))
        found = ways(sandbox, 3, 0.0)
    # Of those to the table, four are the assignment's and one tells the echo; two look whether the policy is another.
    assert [dict(way.calls) for way in found] == [{"hubspot": 2, "dynamodb": 7, "sqs": 2}] * 3
