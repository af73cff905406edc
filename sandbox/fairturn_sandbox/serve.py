"""A sandbox that stays open, for functions that `sam local invoke` runs in containers.

The clock is the real one, and nothing moves by itself: which function runs, and on what, is the operator's choice.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import boto3

from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.store import Store
from fairturn_console.policy import applying
from fairturn_sandbox.cloud import Stack, aws, reachable
from fairturn_sandbox.events import KEY, SECRET, URL
from fairturn_sandbox.portal import OWNER, Portal
from fairturn_sandbox.portal_api import served
from fairturn_sandbox.story import furnish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fairturn.rules.policy import Policy
    from fairturn_sandbox.webhooks import WebhookRequest

TOKEN: Final = "pat-sandbox"  # noqa: S105 - it opens nothing
CONTACT: Final = "546500061938"
"""The contact that the stored events are about."""
INSIDE: Final = "host.docker.internal"
"""This machine, as a container calls it."""
LOOK_EVERY: Final = 0.5
"""Seconds."""


@contextmanager
def opened(policy: Policy, host: str, variables: Path) -> Iterator[Portal]:
    """Open AWS and a portal at `host`, the policy in force, with one contact that has no owner.

    `variables` takes each function's environment, as `sam local invoke --env-vars` reads it.
    """
    portal = Portal(
        Random(),
        token=TOKEN,
        secret=SECRET,
        webhook_url=URL,
        subscriptions=[f"propertyChange {OWNER}"],
    )
    with served(portal, host), aws(host) as endpoint:
        stack = Stack({"HubSpotPortalId": portal.id, "WebhookKey": KEY}, webhook_secret=SECRET, token=TOKEN)
        furnish(portal, policy)
        portal.create_contact({"email": "lead@example.net", "country": "United States"}, id=CONTACT)
        hubspot = f"http://{reachable(host)}:{urlsplit(portal.url).port}"
        store = Store(boto3.client("dynamodb"), stack.references["Table"])
        applying.apply(policy, store, HubSpot(lambda _: TOKEN, hubspot), int(time.time() * 1000))
        addresses = {"AWS_ENDPOINT_URL": endpoint, "HUBSPOT_API_URL": hubspot}
        environments = {name: stack.environment(name) | addresses for name in stack.functions()}
        here = f"http://{reachable(host)}:"
        variables.write_text(json.dumps(environments, indent=2).replace(here, f"http://{INSIDE}:"), encoding="utf-8")
        yield portal


def watch(portal: Portal, say: Callable[[str], None]) -> None:
    """Tell of every new owner of a contact, until interrupted."""

    def post(request: WebhookRequest) -> int:
        for event in json.loads(request.body):
            owner = portal.owners.get(event["propertyValue"])
            say(f"HubSpot: contact {event['objectId']} belongs to {owner.email if owner else 'nobody'} now.")
        return 200

    while True:
        portal.deliver(post)
        time.sleep(LOOK_EVERY)
