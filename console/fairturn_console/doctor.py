"""Whether a deployment is whole and alive: each check with what it found, and how to mend it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Final

import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from fairturn.deadline import Deadline
from fairturn.errors import FairturnError, HubSpotDenied, PolicyInvalid, PolicyMissing
from fairturn.rules.events import CONTACT
from fairturn.rules.explain import PROPERTIES
from fairturn.rules.ledger import Claim
from fairturn.rules.policy import Mode
from fairturn.rules.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from fairturn_console.deployment import CallerUnknown, caller
from fairturn_console.hubspot import app
from fairturn_console.policy import definitions
from fairturn_console.policy.problems import listed
from fairturn_console.standings import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fairturn.rules.terms import Terms
    from fairturn_console.deployment import Deployment

WITHIN: Final = 30.0
"""Seconds that HubSpot is given for each question."""
SWEEP_SILENT_AFTER: Final = timedelta(minutes=20)
"""Sweep refreshes the owners every five minutes. It is late after three tries that failed."""
OUTPUTS: Final = frozenset(
    [
        "HubSpotPortalId",
        "WebhookUrl",
        "TableName",
        "JournalDays",
        "LeadsQueueUrl",
        "BulkQueueUrl",
        "LeadsDeadLettersUrl",
        "ChangesQueueUrl",
        "ChangesDeadLettersUrl",
        "WebhookSecretArn",
        "HubSpotTokenArn",
    ]
)
QUEUES: Final = {"LeadsQueueUrl": "leads", "BulkQueueUrl": "bulk", "ChangesQueueUrl": "changes"}
DEAD_LETTERS: Final = ("LeadsDeadLettersUrl", "ChangesDeadLettersUrl")
MANY_QUEUED: Final = 1_000
LOOKED_BACK: Final = 5
"""Versions of each ledger among which the last claim is looked for: some only gave a turn back."""


class Health(StrEnum):
    """What a check came to."""

    GOOD = "ok"
    WARN = "look"
    BAD = "BAD"
    UNKNOWN = "?"
    """The check could not be made."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check."""

    what: str
    health: Health
    found: str
    mend: str = ""
    """What to do; empty if there is nothing to do."""


@dataclass
class Doctor:
    """Looks at everything that a deployment needs; changes nothing, and sends one signed request without an event."""

    deployment: Deployment
    hubspot_url: str
    now: datetime
    app: Path
    """The folder of the HubSpot app."""
    http: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(timeout=10, retries=False))

    @cached_property
    def _terms(self) -> Terms:
        """What is in force, read once for all checks that ask for it."""
        return self.deployment.store().terms()

    def examine(self) -> Iterator[Finding]:
        """Make each check; one that can't be made says so, and harms no other."""
        checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
            ("AWS account", self._account),
            ("stack", self._stack),
            ("webhook", self._webhook),
            ("HubSpot", self._hubspot),
            ("policy", self._policy),
            ("subscriptions", self._subscriptions),
            ("reps", self._reps),
            ("queues", self._queues),
            ("dead letters", self._dead_letters),
            ("alarms", self._alarms),
            ("sweep", self._sweep),
            ("last lead", self._last_lead),
        )
        for what, check in checks:
            try:
                yield from check()
            except (PolicyMissing, PolicyInvalid) as error:
                yield Finding(what, Health.UNKNOWN, str(error), "apply a policy: `fairturn policy apply`")
            except (FairturnError, ClientError, BotoCoreError) as error:
                said = str(error) if isinstance(error, FairturnError) else type(error).__name__
                yield Finding(what, Health.UNKNOWN, f"can't be checked: {said}")

    def _account(self) -> Iterator[Finding]:
        try:
            yield Finding("AWS account", Health.GOOD, f"{caller()}, in {self.deployment.region}")
        except CallerUnknown as error:
            yield Finding("AWS account", Health.UNKNOWN, str(error))

    def _stack(self) -> Iterator[Finding]:
        missing = OUTPUTS - self.deployment.outputs.keys()
        if missing:
            mend = "deploy this version: `make build`, then `sam deploy`"
            yield Finding("stack", Health.BAD, f"has no output {listed(sorted(missing))}", mend)
        else:
            yield Finding("stack", Health.GOOD, f"{self.deployment.stack} has all its outputs")

    def _webhook(self) -> Iterator[Finding]:
        """Send what HubSpot would send if nothing had happened: signed, and without an event."""
        url, now, body = self.deployment.webhook_url(), str(int(time.time() * 1000)), b"[]"
        secret = self.deployment.webhook_secret()
        signature = sign(secret=secret, method="POST", url=url, body=body, timestamp=now)
        headers = {SIGNATURE_HEADER: signature, TIMESTAMP_HEADER: now, "content-type": "application/json"}
        try:
            status = self.http.request("POST", url, body=body, headers=headers).status
        except urllib3.exceptions.HTTPError as error:
            mend = "look at the API of the stack, and at the parameter WebhookUrl if you set it"
            yield Finding("webhook", Health.BAD, f"nothing answers at the target URL ({type(error).__name__})", mend)
            return
        match status:
            case 200:
                yield Finding("webhook", Health.GOOD, "a signed request is taken: URL and secret fit each other")
            case 401:
                mend = "write the app's client secret into the secret of the output WebhookSecretArn"
                yield Finding(
                    "webhook", Health.BAD, "a signed request is refused: the function knows another secret", mend
                )
            case _:
                yield Finding("webhook", Health.BAD, f"answers {status}", "look at the log of the intake function")

    def _hubspot(self) -> Iterator[Finding]:
        crm = self.deployment.crm(self.hubspot_url)
        try:
            active = [owner for owner in crm.owners(Deadline.after(WITHIN)) if not owner.archived]
            defined = crm.options(CONTACT, Deadline.after(WITHIN))
        except HubSpotDenied as error:
            mend = "give the app the scope, or write a valid token into the secret of the output HubSpotTokenArn"
            yield Finding("HubSpot", Health.BAD, str(error), mend)
            return
        yield Finding("HubSpot", Health.GOOD, f"answers, with {len(active)} active owners")
        missing = [name for name in PROPERTIES if name not in defined]
        if missing:
            mend = "create them: `fairturn hubspot setup`"
            yield Finding("explanation", Health.BAD, f"HubSpot has no contact property {listed(missing)}", mend)
        else:
            yield Finding("explanation", Health.GOOD, "HubSpot has all properties that explain an owner")

    def _policy(self) -> Iterator[Finding]:
        store, terms = self.deployment.store(), self._terms
        mode = terms.policy.mode
        health = Health.GOOD if mode is Mode.LIVE else Health.WARN
        mend = "" if mode is Mode.LIVE else "set `mode: live` and apply it when leads are to get owners"
        yield Finding("policy", health, f"version {terms.number} is in force, mode {mode}", mend)
        unknown = definitions.unknown(terms.policy, self.deployment.crm(self.hubspot_url))
        for problem in unknown:
            mend = "change the policy, or the property in HubSpot; sensitive properties HubSpot does not list at all"
            yield Finding("policy", Health.WARN, str(problem), mend)
        if store.brake().is_pulled(terms.number):
            mend = "if these leads are welcome, apply the policy once more: `fairturn policy apply`"
            yield Finding("policy", Health.WARN, "leads from bulk sources are held back: there were too many", mend)

    def _subscriptions(self) -> Iterator[Finding]:
        """HubSpot does not tell what an app of this kind subscribes to; so the app's files are looked at."""
        missing = app.lacking(self.app, self._terms.policy)
        if missing:
            mend = "write them and upload the app: `fairturn hubspot app`"
            yield Finding("subscriptions", Health.BAD, f"the app's files lack {listed(map(str, missing))}", mend)
        else:
            found = "the app's files have all that the policy needs; whether they were uploaded HubSpot does not tell"
            yield Finding("subscriptions", Health.GOOD, found)

    def _reps(self) -> Iterator[Finding]:
        terms = self._terms
        called = names(terms)
        gone = [called[rep] for rep in terms.policy.reps if not terms.is_owner(rep)]
        if gone:
            mend = "activate them in HubSpot, or take them out of the policy"
            yield Finding("reps", Health.BAD, f"HubSpot does not take {listed(sorted(gone))}", mend)
        else:
            yield Finding("reps", Health.GOOD, f"all {len(terms.policy.reps)} are active owners in HubSpot")

    def _queues(self) -> Iterator[Finding]:
        waiting = {name: self.deployment.length(output) for output, name in QUEUES.items()}
        told = ", ".join(f"{name} {number}" for name, number in waiting.items())
        if max(waiting.values()) > MANY_QUEUED:
            yield Finding(
                "queues", Health.WARN, f"messages: {told}", "an import, or something holds them up: see the alarms"
            )
        else:
            yield Finding("queues", Health.GOOD, f"messages: {told}")

    def _dead_letters(self) -> Iterator[Finding]:
        dead = sum(self.deployment.length(output) for output in DEAD_LETTERS)
        if dead:
            yield Finding("dead letters", Health.BAD, f"there are {dead}", "`fairturn dead-letters` says why")
        else:
            yield Finding("dead letters", Health.GOOD, "there are none")

    def _alarms(self) -> Iterator[Finding]:
        alarms = self.deployment.alarms()
        if not alarms:
            yield Finding(
                "alarms", Health.BAD, "the stack has none", "deploy this version: `make build`, then `sam deploy`"
            )
            return
        deaf = [name for name, alarm in alarms.items() if not alarm["AlarmActions"]]
        if deaf:
            mend = "give the stack an SNS topic: the parameter AlarmTopicArn"
            yield Finding("alarms", Health.WARN, f"{len(deaf)} of {len(alarms)} tell nobody when they ring", mend)
        else:
            yield Finding("alarms", Health.GOOD, f"all {len(alarms)} are wired to a topic")
        for name, alarm in alarms.items():
            if alarm["StateValue"] == "ALARM":
                yield Finding("alarms", Health.BAD, f"{name} rings", "its description says what to do")

    def _sweep(self) -> Iterator[Finding]:
        refreshed = self.deployment.store().pointer().owners_at
        if not refreshed:
            yield Finding("sweep", Health.UNKNOWN, "has not refreshed the owners yet")
            return
        ago = self.now - datetime.fromtimestamp(refreshed / 1000, UTC)
        found = f"owners were refreshed {_ago(ago)}"
        if ago > SWEEP_SILENT_AFTER:
            yield Finding(
                "sweep", Health.BAD, found, "look at the log of the sweep function, and whether its schedule is on"
            )
        else:
            yield Finding("sweep", Health.GOOD, found)

    def _last_lead(self) -> Iterator[Finding]:
        store = self.deployment.store()
        ledgers = store.read(self._terms.policy.rotas, []).ledgers
        lately = [
            (rota, version)
            for rota, ledger in ledgers.items()
            for version in range(max(ledger.version - LOOKED_BACK, 0) + 1, ledger.version + 1)
        ]
        claims = [each.at for each, _ in store.entries(lately).values() if isinstance(each, Claim)]
        if claims:
            at = datetime.fromtimestamp(max(claims) / 1000, UTC)
            yield Finding("last lead", Health.GOOD, f"was assigned {_ago(self.now - at)}")
        else:
            yield Finding("last lead", Health.WARN, "none was assigned lately", "create a contact in HubSpot, and see")


def _ago(ago: timedelta) -> str:
    """Say how long ago something was."""
    minutes = int(ago.total_seconds()) // 60
    if minutes < 2:
        return "a moment ago"
    return f"{minutes} minutes ago" if minutes < 120 else f"{minutes // 60} hours ago"
