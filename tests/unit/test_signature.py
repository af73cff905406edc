"""Requests that claim to be HubSpot's and are not, and those that still have to pass."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.errors import SignatureRejected
from fairturn.rules.signature import sign, signed_uri, verify

SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
URL = "https://www.example.com/webhook_uri"
BODY = b"{'example_field':'example_value'}"
NOW = 1_693_657_560_000
SIGNATURE = "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y="

characters = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)
"""Any characters, halves of surrogate pairs included: headers are text that a stranger wrote."""


def check(
    *,
    secrets: tuple[str, ...] = (SECRET,),
    method: str = "POST",
    url: str = URL,
    body: bytes = BODY,
    signature: str | None = SIGNATURE,
    timestamp: str | None = str(NOW),
    now_ms: int = NOW,
) -> None:
    verify(
        secrets=secrets,
        method=method,
        url=url,
        body=body,
        signature=signature,
        timestamp=timestamp,
        now_ms=now_ms,
    )


def signed(secret: str = SECRET, *, body: bytes = BODY, url: str = URL, timestamp: str = str(NOW)) -> str:
    return sign(secret=secret, method="POST", url=url, body=body, timestamp=timestamp)


def test_known_signatures_hold() -> None:
    check()
    check(
        signature="RnbPH7+UMKVkbV32P8bz450N4M56aPmcru1+D3kSDtw=",
        timestamp="1700000300000",
        now_ms=1_700_000_300_000,
    )


def test_a_url_with_escapes_is_checked_as_hubspot_signs_it() -> None:
    check(
        secrets=("autopilot-test-client-secret-0001",),
        url="https://example.com/api/hubspot/webhooks?src=hs%3Aapp%2Fv3&x=%28a%29",
        body=b"[]",
        signature="G8ddQlikFQ0ScZOZn+MHQ0E3WCV7vOJTzKlvrkvbvuk=",
        timestamp="1790000004000",
        now_ms=1_790_000_004_000,
    )


@pytest.mark.parametrize(
    ("escape", "character"),
    [
        ("%3A", ":"),
        ("%2F", "/"),
        ("%3F", "?"),
        ("%40", "@"),
        ("%21", "!"),
        ("%24", "$"),
        ("%27", "'"),
        ("%28", "("),
        ("%29", ")"),
        ("%2A", "*"),
        ("%2C", ","),
        ("%3B", ";"),
    ],
)
def test_twelve_escapes_are_decoded_in_either_case(escape: str, character: str) -> None:
    assert signed_uri(f"https://a.example/{escape}x{escape.lower()}") == f"https://a.example/{character}x{character}"


@pytest.mark.parametrize("url", ["https://a.example/%20%26%3D%2B%25%23%C3%A9", "https://a.example/?a=b&c=%2B%"])
def test_other_escapes_stay(url: str) -> None:
    assert signed_uri(url) == url


def test_an_escape_is_decoded_once() -> None:
    assert signed_uri("https://a.example/%253A%25%32F") == "https://a.example/%253A%25%32F"


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("GET", URL, BODY),
        ("POST", URL + "/", BODY),
        ("POST", URL + "?a=b", BODY),
        ("POST", "http://www.example.com/webhook_uri", BODY),
        ("POST", "None", BODY),
        ("POST", URL, BODY + b" "),
        ("POST", URL, b""),
    ],
)
def test_a_signature_holds_only_for_its_method_url_and_body(method: str, url: str, body: bytes) -> None:
    with pytest.raises(SignatureRejected, match="match"):
        check(method=method, url=url, body=body)


@pytest.mark.parametrize("missing", [None, ""])
def test_both_headers_are_required(missing: str | None) -> None:
    with pytest.raises(SignatureRejected, match="missing"):
        check(signature=missing)
    with pytest.raises(SignatureRejected, match="missing"):
        check(timestamp=missing)


@pytest.mark.parametrize(
    "timestamp",
    [
        f"{NOW}.0",
        "1693657.56e6",
        "1.693657560e12",
        f"+{NOW}",
        f"-{NOW}",
        f" {NOW}",
        f"{NOW}\n",
        f"0{NOW}",
        f"{NOW // 1000}",
        "1_693_657_560",
        "١٦٩٣٦٥٧٥٦٠٠٠٠",
        "１６９３６５７５６００００",
        "now",
        "nan",
    ],
)
def test_a_timestamp_that_is_not_thirteen_plain_digits_is_rejected_though_signed(timestamp: str) -> None:
    with pytest.raises(SignatureRejected, match="13 digits"):
        check(timestamp=timestamp, signature=signed(timestamp=timestamp))


@pytest.mark.parametrize("age", [-300_000, -300_000 + 1, -1, 0, 999, 300_000 - 1, 300_000])
def test_a_timestamp_up_to_five_minutes_away_holds(age: int) -> None:
    check(now_ms=NOW + age)


@pytest.mark.parametrize("age", [-31_536_000_000, -300_000 - 1, 300_000 + 1, 31_536_000_000])
def test_a_timestamp_over_five_minutes_away_is_rejected_in_the_future_too(age: int) -> None:
    with pytest.raises(SignatureRejected, match="old"):
        check(now_ms=NOW + age)


def test_a_timestamp_that_was_moved_after_signing_is_rejected() -> None:
    with pytest.raises(SignatureRejected, match="match"):
        check(timestamp=str(NOW + 1))


@pytest.mark.parametrize("secrets", [(), ("",), ("", " "), ("\n",)])
def test_an_empty_secret_signs_and_checks_nothing(secrets: tuple[str, ...]) -> None:
    text = f"POST{URL}".encode() + BODY + str(NOW).encode()
    for secret in ("", *secrets):
        forged = base64.b64encode(hmac.digest(secret.encode(), text, hashlib.sha256)).decode()
        with pytest.raises(SignatureRejected, match="no secret"):
            check(secrets=secrets, signature=forged)
        with pytest.raises(ValueError, match="empty secret"):
            signed(secret)


def test_an_empty_secret_beside_a_good_one_is_passed_over() -> None:
    check(secrets=("", SECRET))


def test_the_current_and_the_previous_secret_both_hold_and_no_other() -> None:
    check(secrets=(SECRET, "previous"), signature=signed(SECRET))
    check(secrets=(SECRET, "previous"), signature=signed("previous"))
    with pytest.raises(SignatureRejected, match="match"):
        check(secrets=(SECRET, "previous"), signature=signed("another"))


def test_older_versions_of_the_signature_are_rejected() -> None:
    v1 = hashlib.sha256(SECRET.encode() + BODY).hexdigest()
    v2 = hashlib.sha256(SECRET.encode() + b"POST" + URL.encode() + BODY).hexdigest()
    for signature in (v1, v2):
        with pytest.raises(SignatureRejected, match="match"):
            check(signature=signature)


@pytest.mark.parametrize("signature", ["é", SIGNATURE[:-1] + "＝", "\ud800", "🙂"])
def test_a_signature_that_is_not_ascii_is_rejected_like_any_other(signature: str) -> None:
    with pytest.raises(SignatureRejected, match="ASCII"):
        check(signature=signature)


@pytest.mark.parametrize("signature", [f"{SIGNATURE} ", SIGNATURE.rstrip("="), f"{SIGNATURE},{SIGNATURE}"])
def test_a_signature_must_be_the_very_same_characters(signature: str) -> None:
    with pytest.raises(SignatureRejected, match="match"):
        check(signature=signature)


@pytest.mark.parametrize("body", [b"", b"\xff\xfe\x00", "é🙂".encode(), b"[]\r\n"])
def test_the_raw_bytes_are_signed_whatever_they_are(body: bytes) -> None:
    check(body=body, signature=signed(body=body))


@given(signature=st.none() | characters, timestamp=st.none() | characters | st.from_regex(r"\A\d{13}\Z"))
def test_arbitrary_headers_are_rejected_and_never_anything_else(signature: str | None, timestamp: str | None) -> None:
    with pytest.raises(SignatureRejected):
        check(signature=signature, timestamp=timestamp)


@given(body=st.binary(), secret=st.text(min_size=1).filter(str.strip), age=st.integers(-300_000, 300_000))
def test_what_is_signed_holds(body: bytes, secret: str, age: int) -> None:
    check(secrets=(secret,), body=body, signature=signed(secret, body=body), now_ms=NOW + age)
