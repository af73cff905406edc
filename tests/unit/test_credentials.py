"""Secrets are read seldom, believed for five minutes, and read early at most every five seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest
import time_machine
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from botocore.exceptions import ClientError

from fairturn.edges.credentials import Credentials
from fairturn.errors import SecretsUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_secretsmanager import SecretsManagerClient

WEBHOOK, TOKEN = "arn:webhook", "arn:token"


class SecretsManager:
    """Holds what the test puts there, and counts the readings."""

    def __init__(self) -> None:
        self.values: dict[str, str | bytes] = {WEBHOOK: '{"current": "new"}', TOKEN: '{"token": "pat-1"}'}
        self.readings: list[str] = []

    def get_secret_value(self, SecretId: str) -> dict[str, Any]:  # noqa: N803
        self.readings.append(SecretId)
        try:
            value = self.values[SecretId]
        except KeyError as error:
            response = {"Error": {"Code": "ResourceNotFoundException", "Message": "can't find AWSCURRENT"}}
            raise ClientError(cast("Any", response), "GetSecretValue") from error
        return {"SecretString" if isinstance(value, str) else "SecretBinary": value}


class Clock:
    """Both clocks at once: the one of facts, and the one of ages."""

    def __init__(self, wall: time_machine.Traveller) -> None:
        self._wall = wall
        self._seconds = 0.0

    def __call__(self) -> float:
        return self._seconds

    def shift(self, seconds: float) -> None:
        self._seconds += seconds
        self._wall.shift(seconds)


@pytest.fixture
def clock() -> Iterator[Clock]:
    with time_machine.travel(datetime(2026, 11, 1, 10, tzinfo=UTC), tick=False) as wall:
        yield Clock(wall)


@pytest.fixture
def manager() -> SecretsManager:
    return SecretsManager()


@pytest.fixture
def credentials(manager: SecretsManager, clock: Clock) -> Credentials:
    provider = SecretsProvider(boto3_client=cast("SecretsManagerClient", manager))
    return Credentials(provider, WEBHOOK, TOKEN, clock)


def test_both_secrets_are_read_once_and_kept(credentials: Credentials, manager: SecretsManager) -> None:
    for _ in range(3):
        assert credentials.webhook_secrets() == ("new",)
        assert credentials.hubspot_token() == "pat-1"
    assert manager.readings == [WEBHOOK, TOKEN]


def test_a_secret_is_kept_for_five_minutes_whatever_the_environment_says(
    credentials: Credentials, manager: SecretsManager, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POWERTOOLS_PARAMETERS_MAX_AGE", "5")
    credentials.hubspot_token()
    manager.values[TOKEN] = '{"token": "pat-2"}'
    clock.shift(300)
    assert credentials.hubspot_token() == "pat-1"
    clock.shift(1)
    assert credentials.hubspot_token() == "pat-2"


def test_a_refresh_reads_again_at_most_every_five_seconds(
    credentials: Credentials, manager: SecretsManager, clock: Clock
) -> None:
    credentials.webhook_secrets()
    manager.values[WEBHOOK] = '{"current": "newer", "previous": "new"}'
    assert credentials.webhook_secrets(refresh=True) == ("newer", "new")
    manager.values[WEBHOOK] = '{"current": "newest", "previous": "newer"}'
    clock.shift(4.9)
    assert credentials.webhook_secrets(refresh=True) == ("newer", "new")
    clock.shift(0.1)
    assert credentials.webhook_secrets(refresh=True) == ("newest", "newer")
    assert manager.readings == [WEBHOOK] * 3


def test_a_refresh_that_finds_the_old_secret_does_not_hide_the_new_one_for_long(
    credentials: Credentials, manager: SecretsManager, clock: Clock
) -> None:
    credentials.hubspot_token()
    assert credentials.hubspot_token(refresh=True) == "pat-1"
    manager.values[TOKEN] = '{"token": "pat-2"}'
    assert credentials.hubspot_token(refresh=True) == "pat-1"
    clock.shift(5)
    assert credentials.hubspot_token(refresh=True) == "pat-2"


def test_a_minute_of_bad_signatures_costs_twelve_readings(
    credentials: Credentials, manager: SecretsManager, clock: Clock
) -> None:
    for _ in range(240):
        credentials.webhook_secrets(refresh=True)
        clock.shift(0.25)
    assert manager.readings == [WEBHOOK] * 12


def test_each_secret_has_its_own_interval(credentials: Credentials, manager: SecretsManager) -> None:
    for refresh in (False, True, True):
        credentials.webhook_secrets(refresh)
        credentials.hubspot_token(refresh)
    assert manager.readings == [WEBHOOK, TOKEN] * 2


def test_a_refresh_that_fails_is_not_repeated_at_once(credentials: Credentials, manager: SecretsManager) -> None:
    credentials.webhook_secrets()
    del manager.values[WEBHOOK]
    with pytest.raises(SecretsUnavailable):
        credentials.webhook_secrets(refresh=True)
    assert credentials.webhook_secrets(refresh=True) == ("new",)
    assert manager.readings == [WEBHOOK] * 2


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        ('{"current": "a"}', ("a",)),
        ('{"current": "a", "previous": null}', ("a",)),
        ('{"current": "a", "previous": ""}', ("a",)),
        ('{"current": "", "previous": "b"}', ("b",)),
        ('{"current": " a\\n", "previous": "b "}', ("a", "b")),
        ('{"current": "a", "note": "put by the admin"}', ("a",)),
        (b'{"current": "a"}', ("a",)),
    ],
)
def test_the_current_comes_first_and_empty_ones_are_left_out(
    credentials: Credentials, manager: SecretsManager, value: str | bytes, secrets: tuple[str, ...]
) -> None:
    manager.values[WEBHOOK] = value
    assert credentials.webhook_secrets() == secrets


USELESS = [
    "",
    "sesame",
    '"sesame"',
    "null",
    "[]",
    "{}",
    '{"current": 7, "token": "  "}',
    '{"current": "", "token": ""}',
    b"\xff",
]


@pytest.mark.parametrize("value", USELESS)
def test_a_secret_of_no_use_says_what_belongs_there_and_not_what_is(
    credentials: Credentials, manager: SecretsManager, value: str | bytes
) -> None:
    manager.values = {WEBHOOK: value, TOKEN: value}
    with pytest.raises(SecretsUnavailable, match=r'arn:webhook is of no use; it should hold {"current": ') as first:
        credentials.webhook_secrets()
    with pytest.raises(SecretsUnavailable, match=r'arn:token is of no use; it should hold {"token": ') as second:
        credentials.hubspot_token()
    for failure in (first, second):
        assert "sesame" not in f"{failure.value} {failure.value.__cause__}"


def test_a_secret_never_put_there_says_what_belongs_there(credentials: Credentials, manager: SecretsManager) -> None:
    manager.values = {}
    with pytest.raises(SecretsUnavailable, match=r'cannot read arn:webhook; it should hold {"current": '):
        credentials.webhook_secrets()
    with pytest.raises(SecretsUnavailable, match=r'cannot read arn:token; it should hold {"token": '):
        credentials.hubspot_token()


@pytest.mark.parametrize("value", USELESS)
def test_a_mended_secret_counts_at_once(credentials: Credentials, manager: SecretsManager, value: str | bytes) -> None:
    manager.values[WEBHOOK] = value
    with pytest.raises(SecretsUnavailable):
        credentials.webhook_secrets()
    manager.values[WEBHOOK] = '{"current": "mended"}'
    assert credentials.webhook_secrets() == ("mended",)
