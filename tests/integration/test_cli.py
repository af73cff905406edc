"""The operator's commands, on moto, a portal over loopback and a stand-in for CloudFormation."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import boto3
import pytest
import time_machine
from botocore.exceptions import ConnectTimeoutError
from typer.testing import CliRunner

from fairturn.edges.store import Store
from fairturn.rules.ledger import Claim, Given, Ledger, Member
from fairturn.rules.policy import Mode
from fairturn.rules.record import Record, State, new
from fairturn.rules.roster import Owner
from fairturn.rules.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER
from fairturn.rules.signature import sign as sign_request
from fairturn_console import dead_letters, deployment
from fairturn_console.cli import app
from fairturn_console.policy import reading
from fairturn_console.template import PATH
from fairturn_console.terminal import POLICY
from fairturn_sandbox import events
from fairturn_sandbox.cloud import ACCOUNT, Stack
from fairturn_sandbox.faults import Fault
from tests.integration.shell import run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fairturn_sandbox.portal import Portal


EXAMPLE: Final = str(PATH.parent / POLICY)
MESSAGE: Final = '{{"v":1,"type":"contact","id":"{}","kinds":["creation"],"occurredAt":1,"changeSource":"FORM"}}'
OWNERS: Final = ("GET", "/crm/v3/owners")
PROPERTIES: Final = ("GET", "/crm/v3/properties/contacts")
EVENT: Final = '{"objectId":7}'
INTAKE: Final = {"reason": "objectId: missing", "stage": "intake"}
SMALL: Final = """
reps: {anna@example.com: , bruno@example.com: }
teams: {inbound: {members: [anna@example.com, bruno@example.com]}}
rules: []
otherwise: {team: inbound}
"""


# fairturn policy check


def test_a_good_policy_has_no_problems() -> None:
    result = run("policy", "check", EXAMPLE)
    assert result.output.splitlines() == [
        f"{EXAMPLE}: 8 reps, 3 teams, 6 rules and a catch-all. No problems.",
        "  key-accounts: reps x kinds of leads = 3 x 3, about 9 write units for a claim of one lead",
        "  europe: reps x kinds of leads = 4 x 9, about 9 write units for a claim of one lead",
        "  inbound: reps x kinds of leads = 5 x 3, about 9 write units for a claim of one lead",
        "  Mode live, keeps owners, 24/7 for 1 rep without hours.",
    ]
    assert result.exit_code == 0


def test_a_policy_that_is_hardly_meant_is_warned_of_with_its_line_and_does_not_fail(tmp_path: Path) -> None:
    dear = tmp_path / "dear.yaml"
    dear.write_text(f"{SMALL}leads:\n  worth: {{property: hubspotscore, bands: [20, 60]}}\n")
    result = run("policy", "check", str(dear))
    assert result.exit_code == 0
    assert result.stderr.startswith(f"{dear}: warning: line 7, leads.worth.property: HubSpot works this out only after")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout.splitlines()[1].startswith("  inbound: reps x kinds of leads = 2 x 3, about ")


def test_strictly_a_warning_fails(tmp_path: Path) -> None:
    doubtful = tmp_path / "doubtful.yaml"
    doubtful.write_text(SMALL.replace("members: [anna@example.com, ", "members: ["))
    for arguments, code in (((), 0), (("--strict",), 1)):
        result = run("policy", "check", str(doubtful), *arguments)
        assert result.exit_code == code
        assert (
            result.stderr
            == f"{doubtful}: warning: line 2, reps.anna@example.com: is in no team, so they get no leads\n"
        )
        assert result.stdout.startswith(
            f"{doubtful}: 2 reps, 1 team, 0 rules and a catch-all. No problems, warnings: 1."
        )
    assert run("policy", "check", EXAMPLE, "--strict").exit_code == 0


def test_every_problem_of_a_policy_is_shown_with_its_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(SMALL.replace("[anna", "[nobody").replace("team: inbound", "team: outbound"))
    result = run("policy", "check", str(bad))
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"{bad}: line {number}" for number in (3, 5)]
    assert "nobody@example.com" in lines[0]
    assert "outbound" in lines[1]


def test_a_policy_that_is_not_there_is_named() -> None:
    result = run("policy", "check", "nowhere.yaml")
    assert result.exit_code == 2
    assert "nowhere.yaml" in result.stderr
    assert "does not exist" in result.stderr


# fairturn policy apply


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return str(path)


def test_each_policy_applied_is_a_new_version(deployed: Stack, portal: Portal, small: str) -> None:
    owners = [portal.add_owner(f"{name}@example.com") for name in ("anna", "bruno")]
    outputs = [run("policy", "apply", "--yes", small).output for _ in range(2)]
    applied = [f"Version {n} is in force; every function sees it within 30 seconds." for n in (1, 2)]
    recount = "Run `fairturn reps recount`: contacts from before are in no load yet."
    assert outputs[0] == f"No policy is in force yet.\n{applied[0]}\n{recount}\n"
    assert outputs[1] == f"Nothing changes; leads held back from bulk sources go on.\n{applied[1]}\n"
    store = Store(boto3.client("dynamodb"), deployed.references["Table"])
    pointer = store.pointer()
    assert pointer.number == 2
    assert sorted(pointer.owners) == sorted(store.policy(2).reps) == sorted(owners)


def test_a_policy_is_applied_only_after_a_yes_to_what_changes(
    deployed: Stack, owners: list[str], small: str, tmp_path: Path
) -> None:
    store = Store(boto3.client("dynamodb"), deployed.references["Table"])
    assert run("policy", "apply", "--yes", small).exit_code == 0
    paused = tmp_path / "paused.yaml"
    paused.write_text(f"{SMALL}mode: pause\n")
    result = run("policy", "apply", str(paused), typed="n\n")
    assert (result.exit_code, result.stdout) == (1, "mode: is new: pause\nApply it? [y/N]: n\n")
    assert result.stderr == "Nothing was applied.\n"
    assert run("policy", "apply", str(paused)).exit_code == 1  # a script that says neither yes nor no
    assert store.pointer().number == 1
    assert run("policy", "apply", str(paused), typed="y\n").exit_code == 0
    assert store.policy(2).mode is Mode.PAUSE
    assert store.policy(2).reps.keys() == set(owners)


def test_what_a_file_would_change_is_said_and_nothing_is_written(
    deployed: Stack, owners: list[str], small: str, tmp_path: Path
) -> None:
    assert run("policy", "diff", small).output == "No policy is in force yet.\n"
    assert run("policy", "apply", "--yes", small).exit_code == 0
    same = run("policy", "diff", small)
    assert (same.exit_code, same.output) == (0, "Nothing would change.\n")
    other = tmp_path / "other.yaml"
    other.write_text(SMALL.replace("members: [anna@example.com, ", "members: ["))
    result = run("policy", "diff", str(other))
    assert (result.exit_code, result.stdout) == (1, "teams.inbound.members: without anna@example.com\n")
    assert Store(boto3.client("dynamodb"), deployed.references["Table"]).pointer().number == 1
    assert len(owners) == 2


def test_the_policy_in_force_is_shown_as_a_file_that_means_the_same(
    deployed: Stack, owners: list[str], small: str, tmp_path: Path
) -> None:
    assert run("policy", "show").exit_code == 1
    assert run("policy", "apply", "--yes", small).exit_code == 0
    shown = run("policy", "show").output
    assert "anna@example.com" in shown
    again = tmp_path / "again.yaml"
    again.write_text(shown)
    assert run("policy", "diff", str(again)).output == "Nothing would change.\n"
    assert run("policy", "show", "1").output == shown
    assert run("policy", "show", "7").stderr.startswith("there is no version 7 of the policy")
    assert deployed
    assert owners


def test_an_earlier_version_comes_into_force_once_more(
    deployed: Stack, owners: list[str], small: str, tmp_path: Path
) -> None:
    store = Store(boto3.client("dynamodb"), deployed.references["Table"])
    assert run("policy", "apply", "--yes", small).exit_code == 0
    assert run("policy", "rollback", "--yes").stderr.startswith("There is no version before the one in force")
    paused = tmp_path / "paused.yaml"
    paused.write_text(f"{SMALL}mode: pause\n")
    assert run("policy", "apply", "--yes", str(paused)).exit_code == 0
    result = run("policy", "rollback", "--yes")
    assert result.stdout == (
        "mode: is gone (was pause)\nVersion 3 is in force; every function sees it within 30 seconds.\n"
    )
    assert store.policy(3) == store.policy(1)
    assert [version.message for version in store.versions(1)] == ["back to version 1"]
    assert owners


def test_reps_whom_hubspot_does_not_know_or_has_archived_are_named_and_nothing_is_applied(
    deployed: Stack, portal: Portal, small: str
) -> None:
    portal.deactivate_owner(portal.add_owner("bruno@example.com"))
    result = run("policy", "apply", "--yes", small)
    assert result.exit_code == 1
    assert result.stderr == (
        f"{small}: line 2, reps.anna@example.com: is not known to HubSpot as an owner\n"
        f"{small}: line 2, reps.bruno@example.com: is deactivated in HubSpot\n"
    )
    store = Store(boto3.client("dynamodb"), deployed.references["Table"])
    assert store.pointer().number == 0
    assert portal.calls[OWNERS] == 4  # active and archived ones, twice


def test_a_rep_whom_one_answer_of_hubspots_lacks_is_looked_up_once_more(
    deployed: Stack, portal: Portal, small: str
) -> None:
    anna, bruno = (portal.add_owner(f"{name}@example.com") for name in ("anna", "bruno"))
    lacking = {"results": [{"id": bruno, "email": "bruno@example.com", "archived": False}]}
    portal.faults.append(Fault(200, json.dumps(lacking).encode(), {"content-type": "application/json"}))
    assert run("policy", "apply", "--yes", small).exit_code == 0
    store = Store(boto3.client("dynamodb"), deployed.references["Table"])
    assert store.policy(1).reps.keys() == {anna, bruno}
    assert portal.calls[OWNERS] == 4


RULES: Final = """rules:
  - name: french
    when:
      - {property: country, equals: France}
      - {property: hs_lead_status, in: [open, NEW]}
    team: inbound
"""


@pytest.fixture
def owners(portal: Portal) -> list[str]:
    return [portal.add_owner(f"{name}@example.com") for name in ("anna", "bruno")]


def with_rules(path: Path, rules: str) -> str:
    file = path / "rules.yaml"
    file.write_text(SMALL.replace("rules: []\n", rules))
    return str(file)


@pytest.mark.usefixtures("owners")
def test_properties_and_options_that_hubspot_does_not_have_are_named_and_nothing_is_applied(
    deployed: Stack, portal: Portal, tmp_path: Path
) -> None:
    assert run("policy", "apply", "--yes", with_rules(tmp_path, RULES)).exit_code == 0
    path = with_rules(tmp_path, RULES.replace("country", "contry").replace("NEW", "Bad timing"))
    result = run("policy", "apply", "--yes", path)
    assert result.exit_code == 1
    assert result.stderr == (
        f"{path}: not applied; HubSpot lists no sensitive properties: if it is only for these, apply with --no-lookup\n"
        f"{path}: line 7, rules[0].when[0].property: HubSpot has no contact property 'contry', "
        "did you mean 'country'?\n"
        f"{path}: line 8, rules[0].when[1].in[1]: 'Bad timing' is no option of 'hs_lead_status', "
        "but the label of one: write 'BAD_TIMING'\n"
    )
    assert Store(boto3.client("dynamodb"), deployed.references["Table"]).pointer().number == 1
    assert portal.calls[PROPERTIES] == 2
    assert run("policy", "apply", "--yes", path, "--no-lookup").exit_code == 0
    assert Store(boto3.client("dynamodb"), deployed.references["Table"]).pointer().number == 2
    assert portal.calls[PROPERTIES] == 2


@pytest.mark.usefixtures("deployed", "owners")
def test_a_policy_is_applied_with_a_warning_where_properties_cannot_be_looked_up(
    portal: Portal, tmp_path: Path
) -> None:
    path = with_rules(tmp_path, RULES.replace("country", "contry"))
    refusal = {"category": "MISSING_SCOPES", "context": {"missingScopes": ["crm.schemas.contacts.read"]}}
    portal.faults.append(Fault(403, json.dumps(refusal).encode(), {"content-type": "application/json"}))
    result = run("policy", "apply", "--yes", path)
    assert result.exit_code == 0
    assert result.stderr == (
        f"{path}: warning: properties and options are not looked up: HubSpot answers 403 MISSING_SCOPES "
        "crm.schemas.contacts.read. The app needs the scope crm.schemas.contacts.read for that.\n"
    )


@pytest.mark.usefixtures("deployed", "owners")
def test_a_policy_that_is_hardly_meant_is_applied_with_a_warning(tmp_path: Path) -> None:
    path = with_rules(tmp_path, RULES.replace("NEW]}", "NEW]}\n      - {property: country, equals: Spain}"))
    result = run("policy", "apply", "--yes", path)
    assert result.exit_code == 0
    assert result.stderr == (f"{path}: warning: line 9, rules[0].when[2]: never holds together with rules[0].when[0]\n")


# fairturn policy history


@pytest.mark.usefixtures("deployed", "owners")
def test_the_history_tells_the_versions_with_who_applied_them_and_what_they_said(small: str, tmp_path: Path) -> None:
    assert run("policy", "history").output == "No policy was applied yet.\n"
    paused = tmp_path / "paused.yaml"
    paused.write_text(f"{SMALL}mode: pause\n")
    with time_machine.travel(datetime(2026, 11, 23, 9, 30, tzinfo=UTC), tick=False):
        assert run("policy", "apply", "--yes", small).exit_code == 0
        assert run("policy", "apply", "--yes", str(paused), "--message", "no [leads] today").exit_code == 0
    header, *rows = (re.split(" {2,}", line.strip()) for line in run("policy", "history").stdout.splitlines())
    assert header == ["version", "applied (UTC)", "mode", "by", "message"]
    caller = f"arn:aws:sts::{ACCOUNT}:user/moto"
    assert rows == [
        ["2", "2026-11-23 09:30", "pause", caller, "no [leads] today"],
        ["1", "2026-11-23 09:30", "live", caller],
    ]
    first, second = map(json.loads, run("policy", "history", "--json").stdout.splitlines())
    at = "2026-11-23T09:30:00.000+00:00"
    assert first == {"version": 2, "appliedAt": at, "mode": "pause", "by": caller, "message": "no [leads] today"}
    assert second == {"version": 1, "appliedAt": at, "mode": "live", "by": caller, "message": None}
    assert len(run("policy", "history", "--json", "--last", "1").stdout.splitlines()) == 1


@pytest.mark.usefixtures("owners")
def test_a_policy_is_applied_by_somebody_unknown_if_sts_does_not_answer(
    deployed: Stack, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> object:
        raise ConnectTimeoutError(endpoint_url="https://sts.example.com")

    client = boto3.client

    def with_silent_sts(name: str, **options: Any) -> Any:
        return SimpleNamespace(get_caller_identity=refuse) if name == "sts" else client(name, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(boto3, "client", with_silent_sts)
    result = run("policy", "apply", "--yes", small)
    assert result.exit_code == 0
    assert result.stderr == (
        f"{small}: warning: the history will not tell who applied this: "
        "AWS STS does not say who calls (ConnectTimeoutError)\n"
    )
    (version,) = Store(client("dynamodb"), deployed.references["Table"]).versions(5)
    assert version.by is None
    assert " ?" in run("policy", "history").stdout.splitlines()[1]


@pytest.mark.parametrize("message", ["", "  ", "two\nlines", "\x1b[31mred", "\u202eright", "x" * 201])
def test_a_message_is_one_line_that_can_be_printed(small: str, message: str) -> None:
    result = run("policy", "apply", "--yes", small, "--message", message)
    assert result.exit_code == 2
    assert "must be one line of at most 200" in " ".join(result.stderr.replace("│", " ").split())


def test_a_stack_that_is_not_there_is_named_with_what_to_check(deployed: Stack, small: str) -> None:  # noqa: ARG001
    result = run("policy", "apply", "--yes", small, "--stack", "fairturm")
    assert result.exit_code == 1
    assert result.stderr == (
        "no stack 'fairturm' to be seen (ClientError): check --stack, the region and the credentials of this shell\n"
    )


def test_a_policy_with_problems_asks_nobody(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("teams: {}")
    result = run("policy", "apply", "--yes", str(bad))
    assert result.exit_code == 1
    assert f"{bad}: line 1" in result.stderr


# fairturn dead-letters


@pytest.fixture
def dead(deployed: Stack) -> dict[str, str]:
    """Three dead letters, by what they are about; their ids."""
    refused = {"reason": "HubSpot refuses [to give] an owner", "stage": "assign"}
    return {
        "lead": put(deployed, "LeadsDeadLetters", MESSAGE.format(1), refused),
        "change": put(deployed, "ChangesDeadLetters", MESSAGE.format(2), {}),
        "event": put(deployed, "LeadsDeadLetters", EVENT, INTAKE),
    }


def put(deployed: Stack, queue: str, body: str, attributes: Mapping[str, str]) -> str:
    answer = boto3.client("sqs").send_message(
        QueueUrl=deployed.references[queue],
        MessageBody=body,
        MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()},
    )
    return answer["MessageId"]


def at_hand(deployed: Stack, queue: str) -> list[str]:
    """What can be received now."""
    answer = boto3.client("sqs").receive_message(QueueUrl=deployed.references[queue], MaxNumberOfMessages=10)
    return [message["Body"] for message in answer.get("Messages", [])]


@pytest.mark.parametrize("arguments", [(), ("list",), ("--stack", "fairturn")])
def test_dead_letters_are_listed_in_a_table_and_counted_at_the_end(
    dead: Mapping[str, str], arguments: tuple[str, ...]
) -> None:
    result = run("dead-letters", *arguments)
    assert result.exit_code == 0, result.output
    header, *rows, last = (re.sub(" {2,}", " | ", line.strip()) for line in result.stdout.splitlines())
    assert header == "id | queue | lead | dead-lettered (UTC) | stage | reason"
    minute = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    wanted = {
        "lead": rf"leads \| contact 1 \| {minute} \| assign \| HubSpot refuses \[to give\] an owner",
        "change": rf"changes \| contact 2 \| after {minute} \| received too often",
        "event": rf"leads \| \? \| {minute} \| intake \| objectId: missing",
    }
    by_id = {row[:8]: row for row in rows}
    for name, row in wanted.items():
        assert re.fullmatch(rf"{dead[name][:8]} \| {row}", by_id[dead[name][:8]])
    assert last == "Dead letters: 3; leads 2, changes 1."


@pytest.mark.parametrize("arguments", [("--json",), ("list", "--json")])
def test_dead_letters_are_printed_as_json_one_a_line(dead: Mapping[str, str], arguments: tuple[str, ...]) -> None:
    result = run("dead-letters", *arguments)
    letters = {letter["id"]: letter for letter in map(json.loads, result.stdout.splitlines())}
    assert letters.keys() == set(dead.values())
    event = letters[dead["event"]]
    assert abs(datetime.fromisoformat(event.pop("sentAt")).timestamp() - time.time()) < 60
    assert event == {"id": dead["event"], "queue": "leads", "lead": None, "body": EVENT} | INTAKE
    assert letters[dead["change"]]["lead"] == "contact 2"
    assert letters[dead["change"]]["stage"] is None
    assert result.stderr == "Dead letters: 3; leads 2, changes 1.\n"


def test_without_dead_letters_there_is_only_the_count(deployed: Stack) -> None:  # noqa: ARG001
    assert run("dead-letters").output == "Dead letters: 0; leads 0, changes 0.\n"


def test_the_count_says_if_there_may_be_more(dead: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setattr(dead_letters, "MOST_LETTERS", 1)
    more = "There may be more: at most 1 of each queue are looked at."
    assert run("dead-letters").stdout.endswith(f"Dead letters: 2; leads 1, changes 1. {more}\n")
    assert run("dead-letters", "redrive", "--all").stdout.endswith(f". {more}\n")


def test_letters_are_redriven_by_the_ids_of_the_table(deployed: Stack, dead: Mapping[str, str]) -> None:
    wanted = dead["change"][:8]
    result = run("dead-letters", "redrive", wanted)
    assert result.exit_code == 0
    assert result.output == f"{wanted} (contact 2): redriven\nRedriven: 1; left: 0.\n"
    assert at_hand(deployed, "ChangesQueue") == [MESSAGE.format(2)]
    assert run("dead-letters").stdout.endswith("Dead letters: 2; leads 2, changes 0.\n")


def test_all_letters_are_redriven_but_those_that_hold_no_message(deployed: Stack, dead: Mapping[str, str]) -> None:
    result = run("dead-letters", "redrive", "--all")
    assert result.exit_code == 0
    *redriven, left, last = result.output.splitlines()
    assert sorted(redriven) == sorted(
        [
            f"{dead['lead'][:8]} (contact 1): redriven",
            f"{dead['change'][:8]} (contact 2): redriven",
        ]
    )
    assert left == f"{dead['event'][:8]} (?): left: {dead_letters.NO_MESSAGE}"
    assert last == "Redriven: 2; left: 1."
    assert at_hand(deployed, "BulkQueue") == [MESSAGE.format(1)]
    assert at_hand(deployed, "LeadsDeadLetters") == [EVENT]


def test_an_unknown_id_fails_after_the_known_ones_are_redriven(deployed: Stack, dead: Mapping[str, str]) -> None:
    result = run("dead-letters", "redrive", "ffffffff-none", dead["lead"])
    assert result.exit_code == 1
    assert result.stderr == "ffffffff-none: no dead letter has this id\n"
    assert result.stdout.endswith("\nRedriven: 1; left: 0.\n")
    assert at_hand(deployed, "BulkQueue") == [MESSAGE.format(1)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give the ids of the letters to redrive, as `fairturn dead-letters` lists them, or --all\n"),
        (("--all", "1f0c6f8e"), "give ids or --all, not both\n"),
    ],
)
def test_a_redrive_is_told_either_ids_or_all(arguments: tuple[str, ...], said: str) -> None:
    result = run("dead-letters", "redrive", *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", said)


def test_a_stack_named_before_the_redrive_is_refused_and_not_passed_over(
    deployed: Stack,
    dead: Mapping[str, str],  # noqa: ARG001
) -> None:
    assert run("dead-letters", "--stack", "another", "redrive", "--all").exit_code == 2
    assert at_hand(deployed, "BulkQueue") == []


@pytest.mark.parametrize("arguments", [("list",), ("redrive", "--all"), ("redrive", "1f0c6f8e")])
def test_queues_that_are_not_to_be_had_are_one_line_with_what_to_check(
    deployed: Stack, arguments: tuple[str, ...]
) -> None:
    boto3.client("sqs").delete_queue(QueueUrl=deployed.references["LeadsDeadLetters"])
    result = run("dead-letters", *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.fullmatch(
        r"the dead letters of the leads queue cannot be read \(\S+NonExistentQueue\): check .+\n", result.stderr
    )


@pytest.mark.parametrize("arguments", [("list",), ("redrive", "--all")])
def test_a_stack_that_is_not_fairturn_is_named_with_what_to_check(
    deployed: Stack,  # noqa: ARG001
    arguments: tuple[str, ...],
) -> None:
    result = run("dead-letters", *arguments, "--stack", "website")
    assert result.exit_code == 1
    assert result.stderr == (
        "stack 'website' has no output LeadsDeadLettersUrl: check --stack, and that it is deployed from this version\n"
    )


# fairturn event


def test_the_stored_events_are_listed() -> None:
    assert run("event").output.splitlines() == events.names()


def test_a_webhook_is_printed_as_signed_this_moment_for_the_sandbox() -> None:
    event = json.loads(run("event", "contact-created").output)
    timestamp = event["headers"][TIMESTAMP_HEADER]
    assert abs(int(timestamp) - time.time() * 1000) < 60_000
    assert event["headers"][SIGNATURE_HEADER] == sign_request(
        secret=events.SECRET, method="POST", url=events.URL, body=event["body"].encode(), timestamp=timestamp
    )


def test_a_webhook_can_be_signed_for_another_place() -> None:
    arguments = ("event", "contact-created", "--secret", "another", "--url", "https://hooks.example.com/x")
    event = json.loads(run(*arguments).output)
    assert event["rawPath"] == "/x"
    assert event["headers"][SIGNATURE_HEADER] == sign_request(
        secret="another",
        method="POST",
        url="https://hooks.example.com/x",
        body=event["body"].encode(),
        timestamp=event["headers"][TIMESTAMP_HEADER],
    )


def test_a_batch_of_messages_is_printed_as_it_is_stored() -> None:
    assert json.loads(run("event", "lead-queued").output) == events.load("lead-queued")


def test_an_event_that_is_not_stored_is_answered_with_those_that_are() -> None:
    result = run("event", "contact-kissed")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "contact-kissed" in result.stderr
    assert all(name in result.stderr for name in events.names())


# fairturn waiting


def test_what_waits_is_listed_by_lane_with_the_most_urgent_first(deployed: Stack) -> None:
    assert run("waiting").output == "Nothing waits.\n"
    store = Store(boto3.client("dynamodb"), deployed.references["Table"])
    policy = reading.read(
        {"reps": {"7": None}, "rotas": {"inbound": {"members": ["7"]}}, "otherwise": {"rota": "inbound"}}
    )
    store.put_policy(1, policy, 1)
    known: dict[str, Any] = {"type": "contact", "rev": 1, "changed_at": 1_795_400_000_000}
    lane: dict[str, Any] = {"rota": "inbound", "lane": "any", "reason": "nobody can take it now"}
    waits = [
        Record(id="1", state=State.WAITING, priority="low", occurred_at=1, **lane, **known),
        Record(id="2", state=State.WAITING, priority="urgent", occurred_at=2, **lane, **known),
        Record(id="3", state=State.WAITING, occurred_at=3, reason="too many leads from bulk sources", **known),
        Record(id="4", state=State.UNOWNED, reason="the owner was taken away", **known),
        Record(id="5", state=State.EXTERNAL, rep="7", **known),
        Record(id="6", state=State.REFUSED, reason="a rule of an administrator", **known),
    ]
    store.move([(new(record.id), record) for record in waits])
    claimed = replace(new("7"), rota="inbound").claimed("7", 1, "worker", 1_795_400_000_000)
    claim = Claim(
        Ledger(), 1, 1, frozenset({"any"}), {}, (Given("contact#7", "any", "7"), Given("contact#5", "any", "7"))
    )
    store.claim("inbound", claim, Ledger(version=1), [(new("7"), claimed)], {})
    lines = [" ".join(line.split()) for line in run("waiting", "--most", "9").output.splitlines()]
    assert lines[1:] == [
        "inbound, asking for anything 2 contact 2 2026-11-23 02:13 nobody can take it now",
        "contact 1 2026-11-23 02:13 nobody can take it now",
        "held back, from bulk sources 1 contact 3 2026-11-23 02:13 too many leads from bulk sources",
        "claimed, not handed over yet 1 contact 7 2026-11-23 02:13",
        "refused: see the dead letters 1 contact 6 2026-11-23 02:13 a rule of an administrator",
        "left without an owner 1 contact 4 2026-11-23 02:13 the owner was taken away",
    ]


def test_a_record_of_another_version_hides_no_other_lead_that_waits(deployed: Stack) -> None:
    client, table = boto3.client("dynamodb"), deployed.references["Table"]
    Store(client, table).move([(new("2"), new("2").refused("a rule of an administrator", 1_795_400_000_000))])
    strange = {"pk": "LEAD#contact#1", "sk": "RECORD", "due_lane": "refused", "due": "0", "state": "paused"}
    client.put_item(TableName=table, Item={name: {"S": value} for name, value in strange.items()})
    lines = [" ".join(line.split()) for line in run("waiting").output.splitlines()]
    assert lines[1:] == ["refused: see the dead letters 2 contact 2 2026-11-23 02:13 a rule of an administrator"]


# fairturn audit


@pytest.fixture
def claimed(deployed: Stack) -> Stack:
    """A table with one lead, claimed by the first claim of its rota."""
    store = Store(boto3.client("dynamodb"), deployed.references["Table"])
    policy = reading.read(
        {"reps": {"7": None}, "rotas": {"inbound": {"members": ["7"]}}, "otherwise": {"rota": "inbound"}}
    )
    store.put_policy(1, policy, 1)
    claim = Claim(
        Ledger(), 1, int(time.time() * 1000), frozenset({"any"}), {"7": Member()}, (Given("contact#1", "any", "7"),)
    )
    record = replace(new("1"), rota="inbound").claimed("7", 1, "worker", 1)
    store.claim("inbound", claim, claim.recompute().ledger, [(new("1"), record)], {})
    return deployed


def test_an_audit_says_what_it_has_looked_at(claimed: Stack) -> None:  # noqa: ARG001
    result = run("audit", "table")
    assert (result.exit_code, result.output) == (
        0,
        "Looked at 1 rotas, 1 versions of their ledgers, 1 records. Found: 0.\n",
    )


def test_what_an_audit_finds_is_said_with_what_to_type_and_fails(claimed: Stack) -> None:
    client, table = boto3.client("dynamodb"), claimed.references["Table"]
    client.put_item(TableName=table, Item={"pk": {"S": "LOADS"}, "sk": {"S": "LOADS"}, "7": {"N": "3"}})
    Store(client, table).finish("inbound", 1, 1_795_400_000_000)
    result = run("audit", "table")
    key = """'{"pk": {"S": "LEAD#contact#1"}, "sk": {"S": "RECORD"}}'"""
    shown = f"`aws dynamodb get-item --table-name <TableName> --key {key}`"
    assert (result.exit_code, result.output.splitlines()) == (
        1,
        [
            "rep 7: the load is 3, which is 2 too high.",
            "  `fairturn reps recount` sets loads right while leads flow.",
            "contact#1: it is claimed, and sweep does not look at its claim any more.",
            f"  See who writes to the table besides Fairturn; {shown} shows the item.",
            "Looked at 1 rotas, 1 versions of their ledgers, 1 records. Found: 2.",
        ],
    )
    result = run("audit", "table", "--json")
    assert result.exit_code == 1
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(row["what"], row["where"]) for row in rows] == [("load", "rep 7"), ("claim", "contact#1")]
    assert result.stderr == "Looked at 1 rotas, 1 versions of their ledgers, 1 records. Found: 2.\n"


# fairturn person


@pytest.fixture
def assigned(deployed: Stack) -> Store:
    """A lead that was handed over to a rep, whom the policy in force names no more."""
    store = Store(boto3.client("dynamodb"), deployed.references["Table"])
    for number, rep in ((1, "7"), (2, "8")):
        data = {"reps": {rep: None}, "rotas": {"inbound": {"members": [rep]}}, "otherwise": {"rota": "inbound"}}
        store.put_policy(number, reading.read(data), 1)
    store.put_roster([Owner("7", "anna@example.com", archived=False), Owner("8", "bo@example.com", archived=False)], 1)
    claim = Claim(Ledger(), 1, 1, frozenset({"any"}), {"7": Member()}, (Given("contact#1", "any", "7"),))
    record = replace(new("1"), rota="inbound", shown={"country": "France"}).claimed("7", 1, "worker", 1)
    store.claim("inbound", claim, claim.recompute().ledger, [(new("1"), record)], {})
    store.move([(record, record.handed(2))])
    return store


def test_a_contacts_data_is_printed_as_json_and_erased_once_that_is_confirmed(assigned: Store) -> None:
    data = json.loads(run("person", "export", "1").stdout)
    assert (data["contact"], data["records"][0]["shown"]) == ("1", {"country": "France"})
    result = CliRunner().invoke(app, ["person", "erase", "1"], input="n\n")
    assert result.exit_code == 1
    assert assigned.records([("contact", "1")]).of("1").state is State.HANDED
    result = CliRunner().invoke(app, ["person", "erase", "1"], input="y\n")
    assert (result.exit_code, result.stderr.split(":")[0]) == (0, "Erase contact 1 for good? [y/N]")
    _, first, *others = result.stdout.splitlines()
    assert first == "erased: records (1): all but the id, the state and when it was erased"
    assert [line.partition(":")[0] for line in others[:-1]] == ["stays", "stays"]
    assert assigned.records([("contact", "1")]).of("1").state is State.ERASED


def test_a_reps_data_is_printed_as_json_and_erased_by_e_mail_or_owner_id(assigned: Store) -> None:
    by_email, by_id = (run("person", "export", *who).stdout for who in (["anna@example.com"], ["7", "--rep"]))
    assert by_email == by_id
    assert json.loads(by_id)["roster"]["email"] == "anna@example.com"
    result = run("person", "erase", "Anna@example.com", "--yes")
    assert result.exit_code == 0
    assert result.stdout.startswith("erased: the entry in the roster, with the e-mail address\n")
    assert assigned.pointer().owners.keys() == {"8"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "anna"], "must be a contact's id"),
        (["export", "eve@example.com"], "no rep has this e-mail address here"),
        (["erase", "bo@example.com", "--yes"], "the policy in force names this rep"),
    ],
)
def test_who_is_nobody_or_still_at_work_is_not_given_out_or_erased(
    assigned: Store, arguments: list[str], said: str
) -> None:
    result = run("person", *arguments)
    assert result.exit_code != 0
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert assigned.pointer().owners.keys() == {"7", "8"}


def test_of_whom_nothing_is_stored_nothing_is_erased(assigned: Store) -> None:
    result = run("person", "erase", "404", "--yes")
    assert result.exit_code == 0
    assert result.stdout.startswith("Nothing that can be erased is stored of contact 404.\n")
    assert assigned.records([("contact", "404")]).known == {}


# fairturn demo


@pytest.mark.exhaustive
def test_the_demo_ends_in_one_line_and_its_seed_repeats_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (run("demo", EXAMPLE, "--seed", "7", "--leads", "20") for _ in range(2))
    assert first.exit_code == 0, first.output
    assert "BROKEN" not in first.output
    assert first.output.splitlines()[-1] == second.output.splitlines()[-1]
    assert first.output.splitlines()[-1].startswith("25 leads: ")


# fairturn reconcile


@pytest.fixture
def missed(deployed: Stack, portal: Portal, owners: list[str], small: str) -> str:  # noqa: ARG001
    """A contact of ten minutes ago of which no webhook told; and one that was a rep's long before."""
    run("policy", "apply", "--yes", small)
    at = int(time.time() * 1000)
    portal.create_contact({"email": "old@example.net", "hubspot_owner_id": owners[0]}, at=at - 3 * 86_400_000)
    return portal.create_contact({"email": "new@example.net"}, at=at - 600_000)


def queued(stack: Stack) -> list[dict[str, Any]]:
    answer = boto3.client("sqs").receive_message(QueueUrl=stack.references["ChangesQueue"], MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in answer.get("Messages", [])]


def test_reconcile_tells_what_no_webhook_told_and_sends_it_to_track(deployed: Stack, missed: str) -> None:
    result = run("reconcile", "--since", "2h")
    assert result.exit_code == 0
    counted, told = result.stdout.splitlines()
    assert counted == f"  created: 1 ({missed})"
    assert re.fullmatch(
        r"1 strays among 1 contacts that changed since [0-9-]{10} [0-9:]{5} UTC\. "
        r"They are sent to track, and done within minutes\.",
        told,
    )
    (message,) = queued(deployed)
    assert (message["id"], message["kinds"], message["changeSource"]) == (missed, ["creation", "found"], "FORM")


def test_a_dry_run_of_reconcile_sends_nothing(deployed: Stack, missed: str) -> None:
    result = run("reconcile", "--since", "7d", "--dry-run", "--json")
    strays = json.loads(result.stdout)
    assert (strays["contacts"], strays["sent"]) == (2, False)
    assert {"id": missed, "cause": "created"} in strays["strays"]
    assert sorted(stray["cause"] for stray in strays["strays"]) == ["created", "owner"]
    assert queued(deployed) == []


@pytest.mark.parametrize("since", ["yesterday", "0d", "-1d", "401d", "7", "7w", "1.5h"])
def test_reconcile_says_how_to_write_how_far_back_it_looks(since: str) -> None:
    result = run("reconcile", "--since", since)
    assert result.exit_code == 2
    assert "such as 90m, 24h or 7d" in " ".join(result.stderr.replace("│", " ").split())


@pytest.mark.usefixtures("deployed")
def test_reconcile_without_a_policy_says_what_to_do(portal: Portal) -> None:
    result = run("reconcile", "--since", "1h")
    assert result.exit_code == 1
    assert "fairturn policy apply" in result.stderr
    assert portal.calls[OWNERS] == 0


def test_reconcile_whose_hubspot_is_down_may_be_repeated(portal: Portal, missed: str) -> None:  # noqa: ARG001
    portal.down(int(time.time() * 1000) + 3_600_000)
    result = run("reconcile", "--since", "1h")
    assert result.exit_code == 1
    assert "HubSpot" in result.stderr
    assert "may be repeated" in result.stderr
    assert result.stdout == ""


# fairturn dead-letters take-over


def test_what_is_left_of_a_deleted_stack_goes_into_the_queues_of_another(deployed: Stack) -> None:
    sqs = boto3.client("sqs")
    old = {name: sqs.create_queue(QueueName=f"old-{name}")["QueueUrl"] for name in deployment.QUEUES}
    for number, url in enumerate(old.values(), 1):
        sqs.send_message(QueueUrl=url, MessageBody=MESSAGE.format(number))
    result = run("dead-letters", "take-over", "old")
    assert result.output == "Moved: 5; left, because they are no messages of ours: 0.\n"
    assert {message["id"] for message in queued(deployed)} == {"3", "5"}
    bulk = sqs.receive_message(QueueUrl=deployed.references["BulkQueue"], MaxNumberOfMessages=10)["Messages"]
    assert {json.loads(message["Body"])["id"] for message in bulk} == {"1", "2", "4"}
    assert all("Messages" not in sqs.receive_message(QueueUrl=url) for url in old.values())


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize(("stack", "says"), [("gone", "gone-bulk"), ("fairturn", "the queues of the stack itself")])
def test_a_stack_that_left_no_queues_is_told(stack: str, says: str) -> None:
    result = run("dead-letters", "take-over", stack)
    assert result.exit_code == 1
    assert says in result.stderr


# fairturn reps recount


def test_recount_tells_of_each_rep_and_sends_what_differs_to_track(
    deployed: Stack, portal: Portal, owners: list[str], small: str
) -> None:
    run("policy", "apply", "--yes", small)
    at = int(time.time() * 1000)
    old = portal.create_contact({"email": "old@example.net", "hubspot_owner_id": owners[1]}, at=at - 86_400_000)
    result = run("reps", "recount")
    *rows, told = result.output.splitlines()
    assert [row.split() for row in rows] == [
        ["rep", "load", "in", "HubSpot", "was", "off", "by", "contacts", "that", "differ"],
        ["anna@example.com", "0", "0"],
        ["bruno@example.com", "0", "1", "1"],
    ]
    assert told == "1 contacts are sent to track; once more in a few minutes, the command should find none."
    (message,) = queued(deployed)
    assert (message["id"], message["kinds"]) == (old, ["found"])


def test_recount_of_one_rep_as_json_in_a_dry_run(
    deployed: Stack, portal: Portal, owners: list[str], small: str
) -> None:
    run("policy", "apply", "--yes", small)
    at = int(time.time() * 1000)
    old = portal.create_contact({"email": "old@example.net", "hubspot_owner_id": owners[1]}, at=at - 86_400_000)
    result = run("reps", "recount", "Bruno@example.com", "--dry-run", "--json")
    assert json.loads(result.stdout) == {
        "rep": "bruno@example.com",
        "owner": owners[1],
        "load": 0,
        "inHubSpot": 1,
        "wasOffBy": 0,
        "differ": [old],
    }
    assert queued(deployed) == []


@pytest.mark.usefixtures("deployed", "owners")
def test_recount_names_the_reps_where_somebody_else_is_named(small: str) -> None:
    run("policy", "apply", "--yes", small)
    result = run("reps", "recount", "carla@example.com")
    assert result.exit_code == 1
    assert "carla@example.com is no rep of the policy; those are: anna@example.com, bruno@example.com" in result.stderr


@pytest.mark.usefixtures("deployed", "owners")
def test_a_policy_says_when_loads_are_to_be_counted_anew(small: str, tmp_path: Path) -> None:
    assert run("policy", "apply", "--yes", small).output.endswith("contacts from before are in no load yet.\n")
    assert "recount" not in run("policy", "apply", "--yes", small).output
    closing = tmp_path / "closing.yaml"
    closing.write_text(f"{SMALL}leads: {{closed: [{{property: hs_lead_status, reaches: [UNQUALIFIED]}}]}}\n")
    assert (
        "Run `fairturn reps recount`: leads.closed has changed." in run("policy", "apply", "--yes", str(closing)).output
    )
    fewer = tmp_path / "fewer.yaml"
    fewer.write_text(closing.read_text().replace(", bruno@example.com: ", "").replace(", bruno@example.com", ""))
    assert "recount" not in run("policy", "apply", "--yes", str(fewer)).output
    assert "there are new reps" in run("policy", "apply", "--yes", str(closing)).output
