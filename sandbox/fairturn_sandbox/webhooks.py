"""The webhooks of the HubSpot simulator: events in HubSpot's forms, signed, sent and sent again.

It sends what HubSpot sends: up to 100 events in a request, in no particular order, some of them twice; and a
request that isn't answered with 2xx again, as a whole, up to ten times within 24 hours. Then it is lost.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from random import Random

EVENTS_PER_REQUEST: Final = 100
RETRIES_AFTER: Final = (60, 180, 480, 1_200, 2_700, 5_400, 9_000, 14_400, 21_600, 28_800)
"""Seconds before each of the ten repetitions; scaled by 0.9 to 1, they all fit into 24 hours."""
DUPLICATE_WITHIN: Final = 60_000
"""Milliseconds within which an event is sent for the second time."""
DEFAULT_SUBSCRIPTIONS: Final = (
    "creation",
    "restore",
    "merge",
    "deletion",
    "privacyDeletion",
    "propertyChange hubspot_owner_id",
    "propertyChange hs_lead_status",
    "propertyChange lifecyclestage",
)
DECODED: Final = re.compile("%(3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)
USER_AGENT: Final = (
    "HubSpot Connect 2.0 (http://dev.hubspot.com/) "
    "(namespace: webhooks-nio-http-client) - WebhooksExecutorDaemon-executor"
)


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One signed request, as it arrives."""

    url: str
    method: str
    headers: Mapping[str, str]
    body: bytes


def sign(secret: str, method: str, url: str, body: bytes, timestamp: str) -> str:
    """Signature v3: over method, URL with twelve escapes decoded, body and timestamp (epoch milliseconds).

    It does not use Fairturn's own signature, so that each of them checks the other.
    """
    decoded = re.sub(DECODED, lambda escape: unquote(escape[0]), url)
    text = method.encode() + decoded.encode() + body + timestamp.encode()
    return base64.b64encode(hmac.digest(secret.encode(), text, "sha256")).decode()


@dataclass(slots=True)
class Sending:
    """Events that go out together, and the attempts made so far. Times are epoch milliseconds."""

    events: tuple[dict[str, Any], ...]
    attempt: int = 0
    due: int = 0


class Webhooks:
    """One app's subscriptions to one portal, and what is still to be sent for them."""

    def __init__(
        self,
        random: Random,
        *,
        url: str,
        secret: str,
        portal_id: int,
        app_id: int,
        subscriptions: Iterable[str] = DEFAULT_SUBSCRIPTIONS,
        generic: bool = False,
    ) -> None:
        """A subscription is a kind of event, with the property's name for `propertyChange`.

        `generic` chooses the newer form of events, `object.creation`, over the classic `contact.creation`.
        """
        self.url = url
        self.secret = secret
        self.duplicates = 0.0
        """How likely an event is sent a second time, 0 to 1."""
        self.disorder = 0.0
        """Seconds by which an event may fall behind those that came after it."""
        self.delivered = self.duplicated = self.redelivered = self.lost = 0
        """Events: taken by the receiver, sent twice on purpose, sent again after a failure, given up."""
        self._random = random
        self._portal_id = portal_id
        self._app_id = app_id
        self._generic = generic
        self._subscriptions = {name: 7_662_000 + place for place, name in enumerate(subscriptions)}
        self._fresh: list[tuple[int, float, int, bool, dict[str, Any]]] = []
        self._retries: list[Sending] = []
        self._number = count()

    def subscribe(self, name: str) -> None:
        """Send such events from now on."""
        self._subscriptions[name] = 7_663_000 + len(self._subscriptions)

    def unsubscribe(self, name: str) -> None:
        """Send no such events any more. KeyError: they are not sent."""
        del self._subscriptions[name]

    def announce(self, kind: str, record: str, source: str, at: int, by: str | None = None, **details: Any) -> None:
        """Make the event, if the app subscribes to it.

        `at`: epoch milliseconds; `by`: the event's sourceId, if not the usual one of its source; `details`: the
        fields that only this kind of event has.
        """
        subscription = self._subscriptions.get(" ".join(filter(None, (kind, details.get("propertyName")))))
        if subscription is None:
            return
        generic = self._generic and kind != "privacyDeletion"  # which has no generic form
        event = {
            "eventId": self._random.getrandbits(32),
            "subscriptionId": subscription,
            "portalId": self._portal_id,
            "appId": self._app_id,
            "occurredAt": at,
            "subscriptionType": f"{'object' if generic else 'contact'}.{kind}",
            "attemptNumber": 0,
            "objectId": int(record),
            **({"objectTypeId": "0-1"} if generic else {}),
            **details,
            "changeSource": source,
        }
        if by is not None:
            event["sourceId"] = by
        elif source == "INTEGRATION":
            event["sourceId"] = str(self._app_id)
        elif source.startswith("CRM_UI"):
            event["sourceId"] = "userId:52530071"
        if generic and kind == "propertyChange":
            event["isSensitive"] = False
        self._add(event, at + 1_000 * self.disorder * self._random.random(), first=True)

    def next_due(self) -> int | None:
        """When there is something to send, epoch milliseconds; None: nothing is left."""
        times = [sending.due for sending in self._retries] + [entry[0] for entry in self._fresh[:1]]
        return min(times, default=None)

    def due(self, now: int) -> list[Sending]:
        """Take out what is to be sent by now; each is to be reported to `answered`."""
        sendings = [sending for sending in self._retries if sending.due <= now]
        self._retries = [sending for sending in self._retries if sending.due > now]
        events = []
        while self._fresh and self._fresh[0][0] <= now:
            *_, first, event = heappop(self._fresh)
            events.append(event)
            if first and self._random.random() < self.duplicates:
                self.duplicated += 1
                self._add(event, now + DUPLICATE_WITHIN * self._random.random(), first=False)
        starts = range(0, len(events), EVENTS_PER_REQUEST)
        return sendings + [Sending(tuple(events[start : start + EVENTS_PER_REQUEST])) for start in starts]

    def request(self, sending: Sending, now: int) -> WebhookRequest:
        """The request of one attempt, signed now."""
        events = [{**event, "attemptNumber": sending.attempt} for event in sending.events]
        body = json.dumps(events, separators=(",", ":")).encode()
        headers = {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            "x-hubspot-request-timestamp": str(now),
            "x-hubspot-signature": hashlib.sha256(self.secret.encode() + body).hexdigest(),
            "x-hubspot-signature-v3": sign(self.secret, "POST", self.url, body, str(now)),
            "x-hubspot-signature-version": "v1",
            "x-hubspot-timeout-millis": "10000",
        }
        return WebhookRequest(self.url, "POST", headers, body)

    def answered(self, sending: Sending, status: int, now: int) -> None:
        """Take note of an answer: done, again later, or lost."""
        if sending.attempt:
            self.redelivered += len(sending.events)
        if 200 <= status < 300:
            self.delivered += len(sending.events)
        elif sending.attempt == len(RETRIES_AFTER):
            self.lost += len(sending.events)
        else:
            delay = RETRIES_AFTER[sending.attempt] * self._random.uniform(0.9, 1.0)
            self._retries.append(Sending(sending.events, sending.attempt + 1, now + int(1_000 * delay)))

    def _add(self, event: dict[str, Any], due: float, *, first: bool) -> None:
        # Events of one moment come in any order, as HubSpot's do.
        heappush(self._fresh, (int(due), self._random.random(), next(self._number), first, event))
