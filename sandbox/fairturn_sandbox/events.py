"""The stored events of `events/`, and how to make one look as if it came this moment."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from fairturn.rules.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER
from fairturn.rules.signature import sign as sign_request

FOLDER: Final = Path(__file__).parents[2] / "events"
SECRET: Final = "sandbox"  # noqa: S105 - it opens nothing
KEY: Final = "sandbox-sandbox-sandbox-key"
URL: Final = f"https://sandbox.execute-api.eu-west-1.amazonaws.com/hubspot/{KEY}"
"""Where and with which secret HubSpot's webhooks come to the sandbox."""
V1_HEADER: Final = "x-hubspot-signature"


def names() -> list[str]:
    """Name every stored event, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(name: str) -> dict[str, Any]:
    """Read one stored event as Lambda gets it. Raises LookupError, naming those that there are."""
    if name not in names():
        raise LookupError(f"there is no event {name!r}; there are {', '.join(names())}")
    event: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return event


def sign(event: dict[str, Any], secret: str, url: str, now_ms: int) -> dict[str, Any]:
    """Give a copy of an HTTP API's event as if HubSpot had sent it to `url` at `now_ms`, epoch milliseconds.

    The latest event of the body happens now, the others as long before it as they did. An event without
    HubSpot's signature stays without.
    """
    event = addressed(event, url, now_ms)
    body = _moved(b64decode(event["body"]) if event["isBase64Encoded"] else event["body"].encode(), now_ms)
    event["body"] = (b64encode(body) if event["isBase64Encoded"] else body).decode()
    headers = event["headers"]
    headers["content-length"] = str(len(body))
    if SIGNATURE_HEADER in headers:
        method, timestamp = event["requestContext"]["http"]["method"], str(now_ms)
        headers[TIMESTAMP_HEADER] = timestamp
        headers[V1_HEADER] = hashlib.sha256(secret.encode() + body).hexdigest()
        headers[SIGNATURE_HEADER] = sign_request(secret=secret, method=method, url=url, body=body, timestamp=timestamp)
    return event


def addressed(event: dict[str, Any], url: str, now_ms: int) -> dict[str, Any]:
    """Give a copy of an HTTP API's event as if it had come to `url` at `now_ms`, epoch milliseconds."""
    event = deepcopy(event)
    address = urlsplit(url)
    event["rawPath"] = address.path
    event["rawQueryString"] = address.query
    context = event["requestContext"]
    event["routeKey"] = context["routeKey"] = f"{context['http']['method']} {address.path}"
    context["domainName"] = address.netloc
    context["domainPrefix"] = address.netloc.partition(".")[0]
    context["http"]["path"] = address.path
    context["timeEpoch"] = now_ms
    context["time"] = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%d/%b/%Y:%H:%M:%S %z")
    event["headers"]["host"] = address.netloc
    return event


def _moved(body: bytes, now_ms: int) -> bytes:
    events = json.loads(body)
    latest = max(event["occurredAt"] for event in events)
    for event in events:
        event["occurredAt"] += now_ms - latest
    return json.dumps(events, separators=(",", ":")).encode()
