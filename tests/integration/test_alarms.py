"""Every failure that Fairturn can meet, caused in the sandbox: the named alarms ring, and no others."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final

import boto3
import pytest

from fairturn.edges.hubspot.client import HubSpot
from fairturn.edges.queues import Outgoing, Queue
from fairturn.edges.store import Store
from fairturn.rules.findings import Checkpoint
from fairturn.rules.policy import OWNER, Policy
from fairturn.rules.record import milliseconds
from fairturn.settings import settings
from fairturn_console.policy import applying, reading
from fairturn_console.template import Template
from fairturn_sandbox import events
from fairturn_sandbox.faults import DAILY, Lies
from fairturn_sandbox.portal import Portal
from fairturn_sandbox.portal_api import served
from fairturn_sandbox.sandbox import Sandbox
from fairturn_sandbox.story import furnish
from fairturn_sandbox.webhooks import WebhookRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

START = datetime(2026, 11, 23, 9, tzinfo=UTC)
"""A Monday."""
STRIDE = 5
"""Minutes between two steps of the clock."""
ENDS_WITHIN = 80
"""Minutes after the mending in which every alarm has to be over."""
REPS = ("rep1@example.com", "rep2@example.com")
WORKFLOW = "workflowId:77"


class Watch:
    """A stack to which a lead comes with every step of the clock, and the alarms that rang."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.portal = sandbox.portal
        self.store = Store(boto3.client("dynamodb"), settings().table)
        self.crm = HubSpot(lambda _: self.portal.token, self.portal.url)
        self.leads: list[str] = []
        self.lost: Any = None
        self.is_quiet = False
        """Whether no leads come."""
        self.happens: Callable[[Watch], None] = lambda _: None
        """What happens with every step."""
        furnish(self.portal, policy())
        self.apply()

    def apply(self, **changed: Any) -> None:
        applying.apply(policy(**changed), self.store, self.crm, milliseconds(self.sandbox.now))

    def arrive(self, source: str = "FORM") -> str:
        self.leads.append(self.portal.create_contact({"email": f"lead{len(self.leads)}@example.net"}, source=source))
        return self.leads[-1]

    def owner(self, lead: str) -> str | None:
        return self.portal.contact(lead).properties.get(OWNER)

    def go_on(self, minutes: int, stride: int = STRIDE) -> set[str]:
        """Let time pass. Returns the alarms that rang meanwhile."""
        rang: set[str] = set()
        for _ in range(minutes // stride):
            end = self.sandbox.now + timedelta(minutes=stride)
            if not self.is_quiet:
                self.arrive()
            self.happens(self)
            self.sandbox.travel(self.sandbox.now + timedelta(seconds=2))
            self.portal.deliver(self.sandbox.post)
            if self.sandbox.poll():
                self.sandbox.travel(self.sandbox.now + timedelta(seconds=1))
                self.sandbox.poll()
            self.sandbox.travel(end - timedelta(minutes=1))
            self.sandbox.tick()
            self.sandbox.travel(end)
            rang |= self.sandbox.ringing
        return rang

    def redrive(self) -> None:
        """As `fairturn dead-letters redrive --all` does."""
        letters = [letter.id for letter in self.sandbox.letters().list().letters]
        self.sandbox.travel(self.sandbox.now + timedelta(seconds=1))
        self.sandbox.letters().redrive(letters)

    def put_secret(self, arn: str, value: Mapping[str, str]) -> None:
        boto3.client("secretsmanager").put_secret_value(SecretId=arn, SecretString=json.dumps(value))


def policy(**changed: Any) -> Policy:
    return reading.read(
        {
            "reps": {rep: {} for rep in REPS},
            "rotas": {"inbound": {"members": list(REPS)}},
            "rules": [{"name": "imports", "when": [{"source": ["IMPORT"]}], "rota": "inbound"}],
            "otherwise": {"rota": "inbound"},
            "flood": {"leads": 2, "minutes": 10},
            **changed,
        }
    )


@contextmanager
def watching(**parameters: str | int) -> Iterator[Watch]:
    portal = Portal(Random(1), token="pat", secret=events.SECRET, webhook_url=events.URL)
    given: dict[str, str | int] = {"HubSpotPortalId": portal.id, "WebhookKey": events.KEY, **parameters}
    with served(portal), Sandbox(portal, start=START, log=io.StringIO(), parameters=given) as sandbox:
        yield Watch(sandbox)


Happening = Callable[[Watch], Any]


@dataclass(frozen=True)
class Failure:
    """What goes wrong, what rings, and how it is mended."""

    cause: Happening
    rings: set[str]
    """Without the ending `Alarm`."""
    mend: Happening
    lasts: int = 25
    """Minutes."""
    ends_within: int = ENDS_WITHIN
    stride: int = STRIDE
    parameters: Mapping[str, str | int] = field(default_factory=dict)


def both(*happenings: Happening) -> Happening:
    return lambda watch: [happens(watch) for happens in happenings]


def deploy(function: str, **properties: Any) -> Happening:
    return lambda watch: watch.sandbox.functions[function].deploy(**properties)


def switch(function: str, *, on: bool) -> Happening:
    return lambda watch: watch.sandbox.functions[function].switch(on=on)


def refuse(request: str, code: str) -> Happening:
    return lambda watch: watch.sandbox.refused.update({request: code})


def allow(watch: Watch) -> None:
    watch.sandbox.refused.clear()


def lack(scope: str) -> Happening:
    return lambda watch: watch.portal.lacking.add(scope)


def grant(watch: Watch) -> None:
    watch.portal.lacking.clear()


def put_webhook_secret(value: Mapping[str, str]) -> Happening:
    return lambda watch: watch.put_secret(settings().webhook_secret, value)


RIGHT_SECRET = put_webhook_secret({"current": events.SECRET})


def revoke_token(watch: Watch) -> None:
    watch.portal.token = "another"


def put_token(watch: Watch) -> None:
    watch.put_secret(settings().token_secret, {"token": watch.portal.token})


def apply(**changed: Any) -> Happening:
    return lambda watch: watch.apply(**changed)


def observe(watch: Watch) -> None:
    watch.apply(mode="observe")
    watch.is_quiet = True  # a day of leads takes long, and shows nothing more


def silence(watch: Watch) -> None:
    watch.is_quiet = True


def speak(watch: Watch) -> None:
    watch.is_quiet = False


def install_elsewhere(watch: Watch) -> None:
    """The app is in a second account, too."""
    other = Portal(Random(2), token="", secret=events.SECRET, webhook_url=events.URL, id=watch.portal.id + 1)

    def happens(watch: Watch) -> None:
        other.create_contact({"email": "somebody@example.org"})
        other.deliver(watch.sandbox.post)

    watch.happens = happens


def nothing(watch: Watch) -> None:
    watch.happens = lambda _: None


def send_nonsense(watch: Watch) -> None:
    """Somebody who knows the webhook's address calls it."""
    nonsense = WebhookRequest(events.URL, "POST", {}, b"x" * 1_100_000)

    def happens(watch: Watch) -> None:
        assert watch.sandbox.post(nonsense) == 413

    watch.happens = happens


def mistype_target(watch: Watch) -> None:
    watch.portal.webhooks.url = f"{events.URL}x"


def correct_target(watch: Watch) -> None:
    watch.portal.webhooks.url = events.URL


def subscribe(name: str) -> Happening:
    return lambda watch: watch.portal.webhooks.subscribe(name)


def unsubscribe(name: str) -> Happening:
    return lambda watch: watch.portal.webhooks.unsubscribe(name)


def hand_around(watch: Watch) -> None:
    """A rep gives their leads to the other, by hand, some time after they got them."""
    first, second = watch.portal.owners

    def happens(watch: Watch) -> None:
        for lead in watch.leads[-4:-3]:
            watch.portal.change(lead, {OWNER: first if watch.owner(lead) == second else second})

    watch.happens = happens


def lose_policy(watch: Watch) -> None:
    """Somebody deletes what points to the policy in force."""
    table = boto3.resource("dynamodb").Table(settings().table)
    watch.lost = table.delete_item(Key={"pk": "POLICY", "sk": "CURRENT"}, ReturnValues="ALL_OLD")["Attributes"]


def restore_policy(watch: Watch) -> None:
    boto3.resource("dynamodb").Table(settings().table).put_item(Item=watch.lost)
    watch.redrive()


def lock_lead(watch: Watch) -> None:
    watch.portal.refuse_owners(watch.arrive(), "no phone number")


def unlock_lead(watch: Watch) -> None:
    watch.portal.allow_owners(next(lead for lead in watch.leads if not watch.owner(lead)))
    watch.redrive()


def queue_nonsense(_: Watch) -> None:
    Queue(boto3.client("sqs"), settings().changes_queue).send([Outgoing('{"v": 99}')])


def purge_changes(_: Watch) -> None:
    boto3.client("sqs").purge_queue(QueueUrl=settings().changes_dead_letters)


def misspell_event(watch: Watch) -> None:
    watch.portal.webhooks.announce("creation", "1", "FORM", milliseconds(watch.sandbox.now), objectId="abc")


def purge_leads(_: Watch) -> None:
    boto3.client("sqs").purge_queue(QueueUrl=settings().leads_dead_letters)


def spoil_record(watch: Watch) -> None:
    """A record that this version can't read: a mistake of ours, for each try with it."""
    lead = watch.arrive()
    table = boto3.resource("dynamodb").Table(settings().table)
    table.put_item(Item={"pk": f"LEAD#contact#{lead}", "sk": "RECORD", "rev": 1, "state": "unheard of"})


def overwrite(watch: Watch) -> None:
    """A workflow gives what we have given to somebody else."""
    first, second = watch.portal.owners

    def happens(watch: Watch) -> None:
        for lead in watch.leads[-2:-1]:
            other = first if watch.owner(lead) == second else second
            watch.portal.change(lead, {OWNER: other}, source="AUTOMATION_PLATFORM", by=WORKFLOW)

    watch.happens = happens


def exhaust(watch: Watch) -> None:
    watch.portal.usual_faults, watch.portal.fault_rate = (DAILY,), 1.0


def refill(watch: Watch) -> None:
    watch.portal.fault_rate = 0.0


def queue_unreadable(_: Watch) -> None:
    client = boto3.client("sqs")
    client.send_message(QueueUrl=settings().leads_queue, MessageBody='{"v": 99}')


def fill_up(watch: Watch) -> None:
    """One lead comes, and nobody has room for it."""
    watch.apply(reps={rep: {"capacity": 0} for rep in REPS})
    watch.happens = silence


def import_many(watch: Watch) -> None:
    for _ in range(5):
        watch.arrive(source="IMPORT")


def remove_property(watch: Watch) -> None:
    del watch.portal.properties["fairturn_rule"]


def miscount(watch: Watch) -> None:
    """Somebody writes a load by hand, and the day's audit is due."""
    watch.store.note_checkpoint(Checkpoint(began_at=0, done=True, late_logged_at=milliseconds(watch.sandbox.now)))
    add_load(watch, 5)


def count_rightly(watch: Watch) -> None:
    add_load(watch, -5)


def add_load(watch: Watch, leads: int) -> None:
    table = boto3.resource("dynamodb").Table(settings().table)
    names = {"#rep": next(iter(watch.portal.owners))}
    table.update_item(
        Key={"pk": "LOADS", "sk": "LOADS"},
        UpdateExpression="ADD #rep :leads",
        ExpressionAttributeNames=names,
        ExpressionAttributeValues={":leads": leads},
    )


def deactivate(watch: Watch) -> None:
    watch.portal.deactivate_owner(next(iter(watch.portal.owners)))


def activate(watch: Watch) -> None:
    for owner in watch.portal.owners.values():
        owner.archived = False


def lag(watch: Watch) -> None:
    """HubSpot shows nothing of what has happened lately."""
    watch.portal.lies = Lies(stale=1.0, lag=10**7)


def catch_up(watch: Watch) -> None:
    watch.portal.lies = Lies()


AWAY = {rep: {"absences": [{"from": "2026-11-23", "to": "2026-11-24"}], "zone": "UTC"} for rep in REPS}

FAILURES = {
    # What comes in
    "the client secret is wrong": Failure(
        put_webhook_secret({"current": "wrong"}), {"WebhooksRefused"}, RIGHT_SECRET, lasts=15
    ),
    "the target URL has another key": Failure(mistype_target, {"WebhooksRefused"}, correct_target, lasts=15),
    "the target URL has had another key for long": Failure(
        mistype_target, {"WebhooksRefused", "LeadsFound"}, correct_target, lasts=45
    ),
    "creations are not subscribed to": Failure(
        unsubscribe("creation"), {"LeadsFound"}, subscribe("creation"), lasts=45
    ),
    "changes of the owner are not subscribed to": Failure(
        both(unsubscribe(f"propertyChange {OWNER}"), hand_around),
        {"ChangesFound"},
        both(subscribe(f"propertyChange {OWNER}"), nothing),
        lasts=45,
    ),
    "somebody else calls the webhook": Failure(send_nonsense, {"WebhooksRefused"}, nothing, lasts=15),
    "the client secret was never put": Failure(put_webhook_secret({}), {"WebhooksFailed"}, RIGHT_SECRET, lasts=15),
    "SQS refuses": Failure(refuse("sqs.SendMessageBatch", "ServiceUnavailable"), {"WebhooksFailed"}, allow, lasts=15),
    "intake fails": Failure(
        deploy("IntakeFunction", Handler="gone.handler"),
        {"WebhooksFailed"},
        deploy("IntakeFunction", Handler="app.handler"),
        lasts=15,
    ),
    "intake is throttled": Failure(
        deploy("IntakeFunction", ReservedConcurrentExecutions=0),
        {"WebhooksFailed"},
        deploy("IntakeFunction", ReservedConcurrentExecutions=1),
        lasts=15,
    ),
    "no webhook comes": Failure(silence, {"NoWebhooks"}, speak, lasts=4 * 60, stride=10, parameters={"SilentHours": 1}),
    "the app is installed in another account": Failure(install_elsewhere, {"EventsOfAnotherPortal"}, nothing, lasts=10),
    "HubSpot sends an event that can't be understood": Failure(
        misspell_event, {"LeadsDeadLetters"}, purge_leads, lasts=10
    ),
    # Neighbours
    "the token is revoked": Failure(revoke_token, {"HubSpotDenied", "PutBack", "SweepStopped"}, put_token),
    "the scope to read contacts is missing": Failure(
        lack("crm.objects.contacts.read"), {"HubSpotDenied", "PutBack"}, grant
    ),
    "the scope to write contacts is missing": Failure(
        lack("crm.objects.contacts.write"), {"HubSpotDenied", "PutBack", "SweepStopped"}, grant
    ),
    "the scope to read owners is missing": Failure(
        lack("crm.objects.owners.read"), {"HubSpotDenied", "SweepStopped"}, grant
    ),
    "HubSpot is down": Failure(
        lambda watch: watch.portal.down(milliseconds(watch.sandbox.now + timedelta(hours=9))),
        {"PutBack", "SweepStopped"},
        lambda watch: watch.portal.down(0),
    ),
    "HubSpot's reads lag": Failure(lag, {"LeadsUnseen"}, catch_up),
    "HubSpot's limit of the day is reached": Failure(
        exhaust, {"PutBack", "SweepStopped", "LeadsOld"}, refill, lasts=45
    ),
    "no secret can be read": Failure(
        refuse("secretsmanager", "InternalServiceError"), {"WebhooksFailed"}, allow, lasts=15
    ),
    "SQS takes no dead letters": Failure(
        both(refuse("sqs.SendMessageBatch", "ServiceUnavailable"), queue_unreadable),
        {"WebhooksFailed", "PutBack", "SweepStopped"},
        both(allow, lambda watch: watch.go_on(20), purge_leads, lambda watch: watch.go_on(10)),
        lasts=40,
    ),
    "DynamoDB is throttled": Failure(
        refuse("dynamodb", "ThrottlingException"), {"TableUnavailable", "PutBack", "SweepStopped"}, allow
    ),
    # Functions
    "assign fails": Failure(
        deploy("AssignFunction", Handler="gone.handler"),
        {"AssignErrors"},
        deploy("AssignFunction", Handler="app.handler"),
    ),
    "assign is throttled": Failure(
        deploy("AssignFunction", ReservedConcurrentExecutions=0),
        {"AssignThrottles"},
        deploy("AssignFunction", ReservedConcurrentExecutions=1),
    ),
    "nobody fetches leads": Failure(
        switch("AssignFunction", on=False), {"LeadsOld"}, switch("AssignFunction", on=True), lasts=40
    ),
    "nobody fetches leads, imported ones neither": Failure(
        both(switch("AssignFunction", on=False), lambda watch: watch.arrive(source="IMPORT")),
        {"LeadsOld", "BulkOld"},
        switch("AssignFunction", on=True),
        lasts=40,
    ),
    "track fails": Failure(
        deploy("TrackFunction", Handler="gone.handler"),
        {"TrackErrors"},
        deploy("TrackFunction", Handler="app.handler"),
    ),
    "track is throttled": Failure(
        deploy("TrackFunction", ReservedConcurrentExecutions=0),
        {"TrackThrottles"},
        deploy("TrackFunction", ReservedConcurrentExecutions=1),
    ),
    "nobody fetches changes": Failure(
        switch("TrackFunction", on=False), {"ChangesOld"}, switch("TrackFunction", on=True), lasts=40
    ),
    "sweep fails": Failure(
        deploy("SweepFunction", Handler="gone.handler"),
        {"SweepStopped"},
        deploy("SweepFunction", Handler="app.handler"),
    ),
    "sweep's schedule is off": Failure(
        switch("SweepFunction", on=False), {"SweepStopped"}, switch("SweepFunction", on=True)
    ),
    # The policy and its leads
    "the policy is missing": Failure(
        lose_policy,
        {"PolicyMissing", "LeadsDeadLetters", "ChangesDeadLetters", "SweepStopped"},
        restore_policy,
    ),
    "the policy is paused": Failure(apply(mode="pause"), {"PolicyPaused"}, apply(), lasts=30),
    "the policy observes for hours": Failure(
        observe, {"PolicyObserving"}, apply(), lasts=10 * 60, stride=20, ends_within=200
    ),
    "an import floods": Failure(import_many, {"BulkPaused"}, apply(), lasts=10),
    "all reps are away": Failure(apply(reps=AWAY), {"LeadsDue"}, apply(), lasts=40, parameters={"WaitingAlarm": 2}),
    "a load is wrong": Failure(miscount, {"AuditFindings"}, count_rightly, lasts=10, ends_within=26 * 60),
    "a rep is deactivated": Failure(deactivate, {"RepsUnavailable"}, activate, lasts=10),
    "a workflow overwrites owners": Failure(overwrite, {"OwnersOverwritten"}, nothing, lasts=30),
    "the properties for the reasons are gone": Failure(
        remove_property, {"ExplanationRefused"}, lambda watch: watch.portal.define_property("fairturn_rule"), lasts=10
    ),
    "HubSpot refuses a lead": Failure(lock_lead, {"LeadsDeadLetters"}, unlock_lead, lasts=10),
    "a mistake of ours with one lead": Failure(spoil_record, {"LeadsDeadLetters"}, purge_leads, lasts=40),
    "one lead waits for days": Failure(fill_up, {"HoursDue"}, apply(), lasts=80, parameters={"WaitingHours": 1}),
    "a change can't be understood": Failure(queue_nonsense, {"ChangesDeadLetters"}, purge_changes, lasts=10),
}


LONG: Final = {"a load is wrong", "the policy observes for hours"}
"""Those that take a day."""


@pytest.mark.parametrize(
    "what", [pytest.param(each, marks=[pytest.mark.exhaustive] if each in LONG else []) for each in FAILURES]
)
def test_a_failure_rings_what_is_named_and_nothing_else_until_it_is_mended(what: str) -> None:
    failure = FAILURES[what]
    with watching(**failure.parameters) as watch:
        watch.go_on(STRIDE)
        assert watch.sandbox.ringing == set(), "before"
        failure.cause(watch)
        assert watch.go_on(failure.lasts, failure.stride) == {f"{name}Alarm" for name in failure.rings}
        failure.mend(watch)
        rang = watch.go_on(STRIDE)
        watch.is_quiet = True
        rang |= watch.go_on(failure.ends_within, 4 * STRIDE)
        assert rang <= {f"{name}Alarm" for name in failure.rings}, "no other rings because of the mending"
        assert watch.sandbox.ringing == set(), "after"


def test_each_alarm_rings_for_some_failure() -> None:
    rung = {f"{name}Alarm" for failure in FAILURES.values() for name in failure.rings}
    assert rung == Template().resources("AWS::CloudWatch::Alarm").keys()
