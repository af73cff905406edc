"""Whether HubSpot has signed a request: its signature, version 3.

The signature is the base64 of the HMAC-SHA256, keyed with the app's client secret, of: method, full URL, raw
body, timestamp header. Versions 1 and 2 carry no timestamp, so whoever saw a request once could send it for
ever: they are not looked at. See HubSpot's page "Validating requests".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from fairturn.errors import SignatureRejected

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNATURE_HEADER: Final = "x-hubspot-signature-v3"
TIMESTAMP_HEADER: Final = "x-hubspot-request-timestamp"
MAX_AGE_MS: Final = 300_000
"""Five minutes, into the past and into the future, both ends included."""

_DECODED: Final = re.compile("%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)
"""The escapes that HubSpot decodes before it signs: : / ? @ ! $ ' ( ) * , ; and no others."""


def verify(
    *,
    secrets: Sequence[str],
    method: str,
    url: str,
    body: bytes,
    signature: str | None,
    timestamp: str | None,
    now_ms: int,
) -> None:
    """Return only if HubSpot signed this request within five minutes of `now_ms` with one of the `secrets`.

    `signature` and `timestamp` are the two headers as they came; `body` is the raw body. Empty secrets are
    passed over. Raises SignatureRejected, and nothing else, whatever the headers hold.
    """
    if not signature or not timestamp:
        raise SignatureRejected("a signature header is missing")
    if not signature.isascii():
        raise SignatureRejected("the signature is not ASCII")
    if not re.fullmatch("[0-9]{13}", timestamp):
        raise SignatureRejected("the timestamp is not 13 digits")
    age = now_ms - int(timestamp)
    if abs(age) > MAX_AGE_MS:
        raise SignatureRejected(f"the timestamp is {age} ms old")
    usable = [secret for secret in secrets if secret.strip()]
    if not usable:
        raise SignatureRejected("there is no secret to check with")
    given = signature.encode()
    expected = [
        sign(secret=secret, method=method, url=url, body=body, timestamp=timestamp).encode() for secret in usable
    ]
    if not any([hmac.compare_digest(given, each) for each in expected]):  # noqa: C419  every secret takes its time
        raise SignatureRejected("the signature does not match")


def sign(*, secret: str, method: str, url: str, body: bytes, timestamp: str) -> str:
    """Sign a request as HubSpot does; `timestamp` is epoch milliseconds. ValueError for an empty secret."""
    if not secret.strip():
        raise ValueError("nothing can be signed with an empty secret")
    text = method.encode() + signed_uri(url).encode() + body + timestamp.encode()
    return base64.b64encode(hmac.digest(secret.encode(), text, hashlib.sha256)).decode()


def signed_uri(url: str) -> str:
    """Give the URL as it stands in what HubSpot signs: twelve escapes are decoded, once; all others stay."""
    return _DECODED.sub(lambda escape: unquote(escape[0]), url)
