"""The two secrets: kept for five minutes, and read again early when one of them is doubted."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final, cast

from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

from fairturn.errors import SecretsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools.utilities.parameters import SecretsProvider

MAX_AGE: Final = 300
"""Seconds for which a secret that was read is taken as it is."""
MIN_REFRESH_INTERVAL: Final = 5.0
"""Seconds between two early readings of one secret. A reading that still finds the old one must not keep the next from
finding the new one for long. A flood of bad signatures costs 12 requests a minute for each warm function at most."""


class Credentials:
    """The app's client secrets and its token, from AWS Secrets Manager.

    Both methods raise SecretsUnavailable, which says what to put there, and never what is there. With
    `refresh` they read Secrets Manager again, at most every five seconds for each secret, and otherwise
    answer as without.
    """

    def __init__(
        self,
        provider: SecretsProvider,
        webhook_secret_arn: str,
        token_arn: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._webhook_secret_arn = webhook_secret_arn
        self._token_arn = token_arn
        self._clock = clock
        self._refreshed: dict[str, float] = {}

    def webhook_secrets(self, refresh: bool = False) -> tuple[str, ...]:  # noqa: FBT001, FBT002
        """Give what HubSpot may have signed with: the current secret and, if it is there, the previous."""
        what = '{"current": "<client secret of the HubSpot app>"}, and "previous" beside it while it is replaced'
        secret = self._read(self._webhook_secret_arn, what, refresh=refresh)
        current, previous = secret.get("current"), secret.get("previous")
        if not isinstance(current, str) or not isinstance(previous, str | None):
            raise self._useless(self._webhook_secret_arn, what)
        secrets = tuple(each.strip() for each in (current, previous) if each and not each.isspace())
        if not secrets:
            raise self._useless(self._webhook_secret_arn, what)
        return secrets

    def hubspot_token(self, refresh: bool = False) -> str:  # noqa: FBT001, FBT002  called as Callable[[bool], str]
        """Give the access token for HubSpot's API."""
        what = '{"token": "<access token of the HubSpot app>"}'
        token = self._read(self._token_arn, what, refresh=refresh).get("token")
        if not isinstance(token, str) or not token.strip():
            raise self._useless(self._token_arn, what)
        return token.strip()

    def _read(self, arn: str, what: str, *, refresh: bool) -> dict[str, Any]:
        try:
            text = self._provider.get(arn, max_age=MAX_AGE, force_fetch=refresh and self._may_refresh(arn))
        except GetParameterError as error:
            raise SecretsUnavailable(f"cannot read {arn}; it should hold {what}") from error
        try:
            secret = json.loads(cast("str | bytes", text))  # as no transform is asked for
        except ValueError:  # not told as the cause: it holds the whole text
            secret = None
        if not isinstance(secret, dict):
            raise self._useless(arn, what)
        return secret

    def _may_refresh(self, arn: str) -> bool:
        now = self._clock()
        if now - self._refreshed.get(arn, -MIN_REFRESH_INTERVAL) < MIN_REFRESH_INTERVAL:
            return False
        self._refreshed[arn] = now
        return True

    def _useless(self, arn: str, what: str) -> SecretsUnavailable:
        self._provider.store.clear()  # so that a mended secret counts at once
        return SecretsUnavailable(f"{arn} is of no use; it should hold {what}")
