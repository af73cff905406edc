"""Dead letters on moto: listed where they lie, and sent back to the queues that they came from."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import boto3
import pytest
import time_machine
from botocore.exceptions import ClientError, EndpointConnectionError

from fairturn.errors import QueueUnavailable
from fairturn.rules.events import Kind, Message
from fairturn_console import dead_letters as dead_letters_module
from fairturn_console.dead_letters import HELD_FOR, NO_MESSAGE, DeadLetters, Left

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_sqs import SQSClient

ACCOUNT: Final = "123456789012"
REFUSED: Final = {"reason": "HubSpot refuses to give this lead an owner", "stage": "assign"}
INTAKE: Final = {"reason": "objectId: missing", "stage": "intake"}
NOON: Final = datetime(2026, 11, 23, 12, tzinfo=UTC)
DOWN: Final = EndpointConnectionError(endpoint_url="https://sqs.eu-west-1.amazonaws.com/")


class Killed(BaseException):
    """The process is gone."""


class Queues:
    """The four queues: leads and changes, and what is dead of each."""

    def __init__(self, client: SQSClient) -> None:
        self.client = client
        self._urls: dict[str, str] = {}
        for name in ("leads", "changes"):
            dead = f"{name}-dead"
            target = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:{dead}"
            policy = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": 1})
            self._urls[dead] = client.create_queue(QueueName=dead)["QueueUrl"]
            self._urls[name] = client.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})["QueueUrl"]

    def put(self, queue: str, body: str, attributes: Mapping[str, str] = REFUSED) -> str:
        """Put a letter into a queue; gives its id."""
        answer = self.client.send_message(
            QueueUrl=self._urls[queue],
            MessageBody=body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
        )
        return answer["MessageId"]

    def take(self, queue: str, hide_for: int = 3600) -> dict[str, dict[str, Any]]:
        """Take all that can be received at this moment, and hide it: the attributes by body."""
        taken: dict[str, dict[str, Any]] = {}
        while messages := self.client.receive_message(
            QueueUrl=self._urls[queue],
            MaxNumberOfMessages=10,
            VisibilityTimeout=hide_for,
            MessageAttributeNames=["All"],
        ).get("Messages", []):
            taken |= {message["Body"]: dict(message.get("MessageAttributes", {})) for message in messages}
        return taken

    def dead_letters(self, *, wait: int = 0, **instead: Callable[..., Any]) -> DeadLetters:
        """What is tested, with some calls to SQS answered by something else."""
        client: Any = Instead(self.client, instead)
        urls = {name: (self._urls[f"{name}-dead"], self._urls[name]) for name in ("leads", "changes")}
        return DeadLetters(client, **urls, wait=wait)


class Instead:
    """A client of which some methods are others."""

    def __init__(self, client: SQSClient, instead: Mapping[str, Callable[..., Any]]) -> None:
        self._client = client
        self._instead = instead

    def __getattr__(self, name: str) -> Any:
        return self._instead.get(name) or getattr(self._client, name)


def fails(error: BaseException, real: Callable[..., Any] | None = None, *, good: int = 0) -> Callable[..., Any]:
    """A method that works `good` times and then ends in an error each time."""
    calls = iter(range(good))

    def call(**arguments: Any) -> Any:
        if real is None or next(calls, None) is None:
            raise error
        return real(**arguments)

    return call


def denied(operation: str) -> ClientError:
    return ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)


def body(contact: int) -> str:
    return Message(id=str(contact), kinds=(Kind.CREATION,), occurred_at=1, change_source="FORM").body()


@pytest.fixture
def queues(aws: None) -> Queues:  # noqa: ARG001 - it must be there first
    return Queues(boto3.client("sqs"))


# What is listed


def test_a_letter_tells_where_it_came_from_whom_it_is_about_when_and_why(queues: Queues) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        change = queues.put("changes-dead", body(2), {"reason": "no", "stage": "track"})
        clock.shift(60)
        lead = queues.put("leads-dead", body(1))
        clock.shift(60)
        listing = queues.dead_letters().list()
    noon = int(NOON.timestamp() * 1000)
    assert [(each.id, each.queue, each.lead, each.sent_at, each.stage, each.reason) for each in listing.letters] == [
        (change, "changes", "contact 2", noon, "track", "no"),
        (lead, "leads", "contact 1", noon + 60_000, "assign", REFUSED["reason"]),
    ]
    assert [each.body for each in listing.letters] == [body(2), body(1)]
    assert listing.complete


def test_a_letter_that_sqs_moved_says_so_and_keeps_the_time_at_which_it_was_queued(queues: Queues) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        queues.put("leads", body(1), {})
        assert queues.take("leads", hide_for=1) == {body(1): {}}
        clock.shift(3600)
        assert queues.take("leads") == {}
        (letter,) = queues.dead_letters().list().letters
    assert (letter.stage, letter.reason) == (None, "received too often")
    assert letter.sent_at == int(NOON.timestamp() * 1000)


def test_a_body_that_is_no_message_of_ours_names_no_lead(queues: Queues) -> None:
    queues.put("leads-dead", '{"objectId":7}', INTAKE)
    (letter,) = queues.dead_letters().list().letters
    assert letter.lead is None
    assert letter.body == '{"objectId":7}'


def test_no_letters_are_an_empty_list(queues: Queues) -> None:
    listing = queues.dead_letters().list()
    assert (listing.letters, listing.complete) == ((), True)


def test_listing_leaves_every_letter_where_it_is_to_be_received_at_once(queues: Queues) -> None:
    for contact in range(1, 26):
        queues.put("leads-dead", body(contact))
        queues.put("changes-dead", body(100 + contact))
    first, second = (queues.dead_letters().list() for _ in range(2))
    assert len(first.letters) == 50
    assert first == second
    assert queues.take("leads-dead").keys() == {body(contact) for contact in range(1, 26)}
    assert queues.take("changes-dead").keys() == {body(contact) for contact in range(101, 126)}
    assert queues.take("leads") == queues.take("changes") == {}


def test_sqs_is_asked_to_wait_so_that_it_looks_on_all_its_servers(queues: Queues) -> None:
    waits: list[int] = []

    def receive(**arguments: Any) -> Any:
        waits.append(arguments.pop("WaitTimeSeconds"))
        return queues.client.receive_message(**arguments)

    queues.dead_letters(wait=2, receive_message=receive).list()
    assert waits == [2, 2]


def test_an_interrupted_listing_hands_back_what_it_held(queues: Queues) -> None:
    for contact in range(1, 16):
        queues.put("leads-dead", body(contact))
    interrupted = fails(KeyboardInterrupt(), queues.client.receive_message, good=1)
    with pytest.raises(KeyboardInterrupt):
        queues.dead_letters(receive_message=interrupted).list()
    assert len(queues.take("leads-dead")) == 15


def test_what_cannot_be_handed_back_comes_back_by_itself(queues: Queues) -> None:
    queues.put("leads-dead", body(1))
    with time_machine.travel(NOON, tick=False) as clock:
        assert len(queues.dead_letters(change_message_visibility_batch=fails(DOWN)).list().letters) == 1
        assert queues.take("leads-dead") == {}
        clock.shift(timedelta(seconds=HELD_FOR, milliseconds=1))
        assert queues.take("leads-dead").keys() == {body(1)}


def test_a_queue_is_looked_at_up_to_a_bound_and_the_listing_says_so(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters_module, "MOST_LETTERS", 12)
    for contact in range(1, 14):
        queues.put("leads-dead", body(contact))
    queues.put("changes-dead", body(100))
    listing = queues.dead_letters().list()
    assert [sum(each.queue == name for each in listing.letters) for name in ("leads", "changes")] == [12, 1]
    assert not listing.complete
    assert len(queues.take("leads-dead")) == 13


@pytest.mark.parametrize(
    ("error", "code"), [(denied("ReceiveMessage"), "AccessDenied"), (DOWN, "EndpointConnectionError")]
)
def test_a_queue_that_cannot_be_read_says_what_to_check_and_nothing_stays_held(
    queues: Queues, error: Exception, code: str
) -> None:
    queues.put("leads-dead", body(1))
    unreadable = fails(error, queues.client.receive_message, good=2)
    with pytest.raises(QueueUnavailable, match=rf"changes queue cannot be read \({code}\): check .* credentials"):
        queues.dead_letters(receive_message=unreadable).list()
    assert queues.take("leads-dead").keys() == {body(1)}


# What is redriven


def test_one_letter_goes_back_unchanged_and_without_its_reason_and_the_others_stay(queues: Queues) -> None:
    text = '{"v":1, "spaced":  "as it came"}'
    wanted = queues.put("leads-dead", text)
    queues.put("leads-dead", body(1))
    result = queues.dead_letters().redrive([wanted])
    assert [letter.id for letter in result.redriven] == [wanted]
    assert (result.left, result.problems) == ((), ())
    assert queues.take("leads") == {text: {}}
    assert queues.take("leads-dead").keys() == {body(1)}


def test_each_letter_goes_to_the_queue_that_it_came_from(queues: Queues) -> None:
    lead, change = queues.put("leads-dead", body(1)), queues.put("changes-dead", body(2))
    queues.put("leads-dead", body(3))
    result = queues.dead_letters().redrive([change, lead, lead])
    assert sorted(letter.lead or "" for letter in result.redriven) == ["contact 1", "contact 2"]
    assert [queues.take(name).keys() for name in ("leads", "changes")] == [{body(1)}, {body(2)}]
    assert [queues.take(name).keys() for name in ("leads-dead", "changes-dead")] == [{body(3)}, set()]


def test_all_letters_go_back_and_none_stays(queues: Queues) -> None:
    for contact in range(1, 24):
        queues.put("leads-dead", body(contact))
    queues.put("changes-dead", body(100))
    nothing_to_hand_back = fails(Killed())
    result = queues.dead_letters(change_message_visibility_batch=nothing_to_hand_back).redrive_all()
    assert len(result.redriven) == 24
    assert (result.left, result.problems, result.complete) == ((), (), True)
    assert queues.take("leads").keys() == {body(contact) for contact in range(1, 24)}
    assert queues.take("changes").keys() == {body(100)}
    assert queues.take("leads-dead") == queues.take("changes-dead") == {}


def test_letters_of_intake_are_left_whether_all_are_wanted_or_they_are_named(queues: Queues) -> None:
    event = queues.put("leads-dead", '{"objectId":7}', INTAKE)
    queues.put("leads-dead", body(1))
    everything = queues.dead_letters().redrive_all()
    named = queues.dead_letters().redrive([event])
    assert [letter.lead for letter in everything.redriven] == ["contact 1"]
    assert everything.left == named.left == (Left(named.left[0].letter, NO_MESSAGE),)
    assert (everything.problems, named.redriven, named.problems) == ((), (), ())
    assert queues.take("leads").keys() == {body(1)}
    assert queues.take("leads-dead").keys() == {'{"objectId":7}'}


def test_an_id_may_be_cut_to_six_characters(queues: Queues) -> None:
    wanted = queues.put("leads-dead", body(1))
    assert queues.dead_letters().redrive([wanted[:5]]).problems == (
        f"{wanted[:5]}: too short; give at least 6 characters of the id",
    )
    assert [letter.id for letter in queues.dead_letters().redrive([wanted[:6]]).redriven] == [wanted]


def test_an_id_that_names_no_letter_is_a_problem_and_the_known_ones_are_redriven(queues: Queues) -> None:
    wanted = queues.put("leads-dead", body(1))
    result = queues.dead_letters().redrive(["ffffffff-none", wanted])
    assert result.problems == ("ffffffff-none: no dead letter has this id",)
    assert queues.take("leads").keys() == {body(1)}


def test_an_id_that_was_not_found_among_the_first_may_be_that_of_another(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters_module, "MOST_LETTERS", 1)
    queues.put("leads-dead", body(1))
    (problem,) = queues.dead_letters().redrive(["ffffffff-none"]).problems
    assert problem == "ffffffff-none: no dead letter has this id among the 1 of each queue that were looked at"


def test_a_beginning_that_two_letters_share_redrives_neither(queues: Queues) -> None:
    queues.put("leads-dead", body(1))
    queues.put("leads-dead", body(2))

    def alike(**arguments: Any) -> Any:
        answer = queues.client.receive_message(**arguments)
        for message in answer.get("Messages", []):
            message["MessageId"] = f"aaaaaaaa-{json.loads(message['Body'])['id']}"
        return answer

    result = queues.dead_letters(receive_message=alike).redrive(["aaaaaa"])
    assert result.problems == ("aaaaaa: more than one dead letter begins so: aaaaaaaa-1, aaaaaaaa-2",)
    assert result.redriven == ()
    assert len(queues.take("leads-dead")) == 2


# At least once


def test_a_death_between_sending_and_deleting_leaves_the_letters_in_both_places(queues: Queues) -> None:
    for contact in range(1, 13):
        queues.put("leads-dead", body(contact))
    with time_machine.travel(NOON, tick=False) as clock:
        dying = queues.dead_letters(
            delete_message_batch=fails(Killed()), change_message_visibility_batch=fails(Killed())
        )
        with pytest.raises(Killed):
            dying.redrive_all()
        assert len(queues.take("leads")) == 10
        clock.shift(timedelta(seconds=HELD_FOR, milliseconds=1))
        assert queues.take("leads-dead").keys() == {body(contact) for contact in range(1, 13)}


def test_a_death_before_sending_changes_nothing(queues: Queues) -> None:
    queues.put("leads-dead", body(1))
    with pytest.raises(Killed):
        queues.dead_letters(send_message_batch=fails(Killed())).redrive_all()
    assert queues.take("leads") == {}
    assert queues.take("leads-dead").keys() == {body(1)}


def test_what_the_queue_does_not_take_is_left_with_the_reason_and_stays_dead(queues: Queues) -> None:
    for contact in range(1, 13):
        queues.put("leads-dead", body(contact))
    failing = fails(denied("SendMessageBatch"), queues.client.send_message_batch, good=1)
    result = queues.dead_letters(send_message_batch=failing).redrive_all()
    assert len(result.redriven) == 10
    assert [left.why for left in result.left] == ["could not send 2 of 2: AccessDenied"] * 2
    assert len(result.problems) == 1
    assert "could not send 2 of 2: AccessDenied" in result.problems[0]
    alive, dead = queues.take("leads").keys(), queues.take("leads-dead").keys()
    assert alive == {letter.body for letter in result.redriven}
    assert dead == {left.letter.body for left in result.left}


def test_a_batch_that_its_queue_takes_only_in_part_stays_dead_as_a_whole(queues: Queues) -> None:
    def partly(**arguments: Any) -> Any:
        *taken, refused = arguments.pop("Entries")
        answer = queues.client.send_message_batch(Entries=taken, **arguments)
        return answer | {"Failed": [{"Id": refused["Id"], "Code": "InternalError", "SenderFault": False}]}

    bodies = {body(contact) for contact in (1, 2, 3)}
    for each in bodies:
        queues.put("leads-dead", each)
    result = queues.dead_letters(send_message_batch=partly).redrive_all()
    assert [left.why for left in result.left] == ["could not send 1 of 3: InternalError"] * 3
    assert result.redriven == ()
    assert len(queues.take("leads")) == 2
    assert queues.take("leads-dead").keys() == bodies


def test_letters_that_were_sent_but_cannot_be_deleted_are_redriven_and_a_problem(queues: Queues) -> None:
    queues.put("leads-dead", body(1))
    result = queues.dead_letters(delete_message_batch=fails(denied("DeleteMessageBatch"))).redrive_all()
    assert [letter.lead for letter in result.redriven] == ["contact 1"]
    assert result.left == ()
    assert "could not delete 1 of 1: AccessDenied" in result.problems[0]
    assert queues.take("leads").keys() == queues.take("leads-dead").keys() == {body(1)}
