"""Intake: verifies a webhook of HubSpot's, sorts its events, and puts them into queues.

HubSpot wants its answer within five seconds and, for any answer but a 2xx, sends the whole request again, up
to ten times in a day. So nothing here reads a table or HubSpot, and 200 means that SQS has taken all of it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NoReturn

from fairturn.edges.queues import Outgoing, Queue
from fairturn.errors import BodyRejected, BodyTooLarge, EventRejected, SignatureRejected, Unavailable
from fairturn.rules.events import (
    CONTACT,
    CONTACT_TYPE_ID,
    EVENTS,
    MAX_ID,
    OWNER,
    SOURCES,
    Event,
    Message,
    is_test,
    read_event,
    sort_events,
)
from fairturn.rules.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, verify
from fairturn.telemetry import Metric, count, logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fairturn.deadline import Deadline
    from fairturn.edges.credentials import Credentials

MAX_BODY_BYTES: Final = 1_048_576
"""1 MiB of raw body. A hundred events, HubSpot's most, are some 40 KB."""
MOST_AT_ONCE: Final = 10
"""Leads of one request that are assigned by themselves. More go through the bulk queue, in batches."""
MAX_EVENTS: Final = 1_000
"""Ten times what HubSpot says it sends at once: more could not be queued within its five seconds."""

NAMES: Final = frozenset(f"{noun}.{kind}" for noun in (CONTACT, "object") for kind in EVENTS)

SHOWN: Final[Mapping[str, frozenset[str]]] = {
    "eventId": frozenset(),
    "subscriptionId": frozenset(),
    "portalId": frozenset(),
    "appId": frozenset(),
    "occurredAt": frozenset(),
    "subscriptionType": NAMES,
    "eventType": NAMES,
    "attemptNumber": frozenset(),
    "objectId": frozenset(),
    "objectTypeId": frozenset({CONTACT_TYPE_ID}),
    "changeSource": SOURCES,
    "changeFlag": frozenset({"CREATED", "NEW", "DELETED"}),
    "sourceId": frozenset(),
    "propertyName": frozenset({OWNER}),
    "primaryObjectId": frozenset(),
    "newObjectId": frozenset(),
}
"""What a dead letter tells of an event: field → the words that it may hold besides whole numbers, all HubSpot's own.
Anything else may be what a person typed in, so only its type is told. All of it stays below 1 KB."""
DIGITS: Final = re.compile(r"[0-9]{1,19}")
"""A whole number as HubSpot may write it, in a text."""


@dataclass(frozen=True, slots=True)
class Request:
    """What HubSpot sent: the headers' names in lower case, the body as the bytes that came."""

    method: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes HubSpot's webhooks for one portal."""

    leads: Queue
    bulk: Queue
    changes: Queue
    dead_letters: Queue
    credentials: Credentials
    webhook_url: str
    """The target URL exactly as HubSpot has it: it is part of what HubSpot signs."""
    portal: int

    def receive(self, request: Request, *, now_ms: int, deadline: Deadline) -> HTTPStatus:
        """Take a request whole or not at all; the answer has no body.

        200: SQS has everything. 401: not signed by HubSpot. 400: not a JSON array of objects. 413: over 1 MiB
        or over 1,000 events. 503: SQS or Secrets Manager did not do its part, or SQS not before the deadline; what
        it has taken by then comes twice.
        """
        try:
            if len(request.body) > MAX_BODY_BYTES:
                raise BodyTooLarge(f"{len(request.body)} bytes")
            self._verify(request, now_ms)
            self._queue(_read_body(request.body), now_ms, deadline)
        except SignatureRejected as error:
            return _refuse(HTTPStatus.UNAUTHORIZED, error)
        except BodyRejected as error:
            return _refuse(HTTPStatus.BAD_REQUEST, error)
        except BodyTooLarge as error:
            return _refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, error)
        except Unavailable as error:
            return _refuse(HTTPStatus.SERVICE_UNAVAILABLE, error)
        return HTTPStatus.OK

    def _verify(self, request: Request, now_ms: int) -> None:
        """Verify the signature; if it fails, once more with secrets read anew, in case they were replaced."""
        secrets = self.credentials.webhook_secrets()
        try:
            self._verify_with(secrets, request, now_ms)
        except SignatureRejected:
            replaced = self.credentials.webhook_secrets(refresh=True)
            if replaced == secrets:
                raise
            self._verify_with(replaced, request, now_ms)

    def _verify_with(self, secrets: Sequence[str], request: Request, now_ms: int) -> None:
        verify(
            secrets=secrets,
            method=request.method,
            url=self.webhook_url,
            body=request.body,
            signature=request.headers.get(SIGNATURE_HEADER),
            timestamp=request.headers.get(TIMESTAMP_HEADER),
            now_ms=now_ms,
        )

    def _queue(self, raws: Sequence[Mapping[str, Any]], now_ms: int, deadline: Deadline) -> None:
        """Sort the events and queue all that somebody asked for; a test only shows that the way to us is open."""
        events: list[Event] = []
        rejected: list[tuple[Mapping[str, Any], str]] = []
        tests = unasked = of_another_portal = 0
        for raw in raws:
            if is_test(raw):
                tests += 1
                continue
            try:
                event = read_event(raw, now_ms)
            except EventRejected as error:
                rejected.append((raw, str(error)))
                continue
            if event is None:
                unasked += 1
            elif event.portal != self.portal:
                of_another_portal += 1
            else:
                events.append(event)
        leads, changes = sort_events(events)
        queue = self.leads if len(leads) <= MOST_AT_ONCE else self.bulk
        queue.send([Outgoing(message.body()) for message in leads], deadline)
        self.changes.send([Outgoing(message.body()) for message in changes], deadline)
        self.dead_letters.send([_dead_letter(raw, reason) for raw, reason in rejected], deadline)
        logger.info(
            "webhook taken",
            extra={
                "events": len(raws),
                "leads": _ids(leads),
                "changes": _ids(changes),
                "tests": tests,
                "unasked": unasked,
                "of_another_portal": of_another_portal,
                "dead_lettered": len(rejected),
                "reasons": sorted({reason for _, reason in rejected}),
            },
        )
        for metric, number in (
            (Metric.EVENTS_RECEIVED, len(raws)),
            (Metric.OTHER_PORTAL, of_another_portal),
            (Metric.DEAD_LETTERED, len(rejected)),
        ):
            if number:
                count(metric, number)


def _read_body(body: bytes) -> list[dict[str, Any]]:
    # Python's own parser, as it lets half a surrogate pair through: a value that was cut inside an emoji, and
    # that we never read, must not hold up the other events of its request.
    try:
        raws = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BodyRejected(f"not JSON: {type(error).__name__}") from error
    if not isinstance(raws, list) or not all(isinstance(raw, dict) for raw in raws):
        raise BodyRejected("not a JSON array of objects")
    if len(raws) > MAX_EVENTS:
        raise BodyTooLarge(f"{len(raws)} events")
    return raws


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _dead_letter(raw: Mapping[str, Any], reason: str) -> Outgoing:
    shown = {name: _shown(raw[name], words) for name, words in SHOWN.items() if name in raw}
    body = json.dumps(shown, separators=(",", ":"))
    return Outgoing(body, {"reason": reason, "stage": "intake"})


def _shown(value: object, words: frozenset[str]) -> str | int:
    """A whole number or a word as it is, of anything else the type only."""
    match value:
        case bool():
            return "true or false"
        case int() if abs(value) <= MAX_ID:
            return value
        case int() | float():
            return "another number"
        case str() if value in words or DIGITS.fullmatch(value):
            return value
        case str():
            return f"text of {len(value)} characters"
        case None:
            return "null"
    return "list" if isinstance(value, list) else "object"


def _ids(messages: Sequence[Message]) -> list[str]:
    return [message.id for message in messages]


def _refuse(status: HTTPStatus, error: Exception) -> HTTPStatus:
    logger.warning("webhook refused", extra={"status": status.value, "reason": str(error)})
    return status
