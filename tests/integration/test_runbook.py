"""The runbook's steps, typed as they stand there, as far as moto goes along."""

from __future__ import annotations

import json
import os
import re
import shlex
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
import pytest
from typer.testing import CliRunner
from werkzeug.serving import make_server

from fairturn.edges.store import Store
from fairturn.rules.policy import OWNER
from fairturn.settings import settings
from fairturn_console.cli import app
from fairturn_console.template import Template
from tests.integration.audit import audit, read
from tests.integration.shell import cloudformation
from tests.integration.test_alarms import REPS, Watch, watching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RUNBOOK: Final = Path(__file__).parents[2] / "docs/runbook.md"
RESTORE: Final = "The table is damaged, or somebody has deleted what was in it"
OPTION: Final = re.compile(r"--([a-z-]+)")


def steps(heading: str) -> list[list[str]]:
    """The commands of each step of a section."""
    section = RUNBOOK.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return [block.split("\n") for block in re.findall(r"```\n *(.*?)\n *```", section, re.DOTALL)]


def camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))


def value(text: str) -> Any:
    """A value in the shorthand of the AWS CLI."""
    if "=" not in text:
        return text
    pairs = (part.split("=", 1) for part in text.split(","))
    return {name: {"true": True, "false": False}.get(each, each) for name, each in pairs}


class Shell:
    """An operator's shell: a stack to be seen, and a checkout with its policy."""

    def __init__(self, watch: Watch, outputs: dict[str, str]) -> None:
        self.watch = watch
        self.outputs = outputs

    def type(self, command: str, **known: str) -> str:
        """What a command of the runbook prints."""
        for name, text in known.items():
            command = command.replace(f"<{name}>", text)
        assert "<" not in command
        match shlex.split(command):
            case ["fairturn", *arguments]:
                result = CliRunner().invoke(app, arguments)
                assert result.exit_code == 0, (command, result.output, result.exception)
                return result.output
            case ["aws", "dynamodb", "wait", what, "--table-name", table]:
                boto3.client("dynamodb").get_waiter(what.replace("-", "_")).wait(TableName=table)  # type: ignore[call-overload]
            case ["aws", "dynamodb", action, *options]:
                self._ask(action, options)
            case ["sam", "deploy", "--parameter-overrides", override]:
                self._deploy(override.removeprefix("ExistingTable="))
            case other:
                raise AssertionError(f"nobody can type this: {other}")
        return ""

    def _ask(self, action: str, options: list[str]) -> None:
        arguments: dict[str, Any] = {}
        names = [place for place, option in enumerate(options) if OPTION.fullmatch(option)]
        for start, end in zip(names, [*names[1:], len(options)], strict=True):
            values = options[start + 1 : end]
            arguments[camel(options[start][2:])] = value(values[0]) if values else True
        getattr(boto3.client("dynamodb"), action.replace("-", "_"))(**arguments)

    def _deploy(self, table: str) -> None:
        """Let all functions start anew, with that table."""
        pattern = Template().data["Parameters"]["ExistingTable"]["AllowedPattern"]
        assert re.fullmatch(pattern, table)
        self.outputs["TableName"] = os.environ["TABLE_NAME"] = table
        settings.cache_clear()
        self.watch.store = Store(boto3.client("dynamodb"), table)
        for function in self.watch.sandbox.functions.values():
            variables = {"Environment": {"Variables": {**os.environ, "POWERTOOLS_SERVICE_NAME": function.name}}}
            function.deploy(**variables)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    with watching() as watch:
        here = settings()
        outputs = {
            "TableName": here.table,
            "JournalDays": str(here.journal_days),
            "ChangesQueueUrl": here.changes_queue,
            "BulkQueueUrl": here.bulk_queue,
            "LeadsDeadLettersUrl": here.leads_dead_letters,
            "ChangesDeadLettersUrl": here.changes_dead_letters,
            "WebhookSecretArn": here.webhook_secret,
            "HubSpotTokenArn": here.token_secret,
        }
        server = make_server("127.0.0.1", 0, cloudformation({"fairturn": outputs}), threaded=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("TABLE_NAME", here.table)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "policy.yaml").write_text(
            json.dumps(
                {
                    "reps": dict.fromkeys(REPS),
                    "rotas": {"inbound": {"members": REPS}},
                    "rules": [],
                    "otherwise": {"rota": "inbound"},
                }
            )
        )
        yield Shell(watch, outputs)
        server.shutdown()
        thread.join()
        server.server_close()


def spoil(table: str) -> None:
    """Somebody deletes the ledgers, the loads and half of the records."""
    client = boto3.client("dynamodb")
    for number, item in enumerate(client.scan(TableName=table)["Items"]):
        if number % 2 or item["sk"]["S"] in {"LEDGER", "LOADS"}:
            client.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})


def live_on(watch: Watch) -> None:
    """Leads come, somebody hands one on, one is deleted, a policy is applied."""
    watch.go_on(30)
    first, second = watch.portal.owners
    watch.portal.change(watch.leads[0], {OWNER: first if watch.owner(watch.leads[0]) == second else second})
    watch.portal.delete(watch.leads[1])
    watch.apply()
    watch.go_on(15)


def test_a_table_is_restored_and_brought_up_to_date_as_the_runbook_says(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = shell.watch
    sleep: Callable[[float], None] = lambda seconds: watch.sandbox.travel(  # noqa: E731 - the clock is simulated
        watch.sandbox.now + timedelta(seconds=seconds)
    )
    monkeypatch.setattr("time.sleep", sleep)
    watch.go_on(20)
    table = settings().table
    known = {"table": table, "since": "3h", "moment": f"{watch.sandbox.now:%Y-%m-%dT%H:%M:%SZ}"}
    restore, rest, deploy, catch_up, check = steps(RESTORE)
    for command in restore:  # moto knows no past, so it goes back to now
        shell.type(command.strip(), **known)
    live_on(watch)
    spoil(table)
    for command in (*rest, *deploy, *catch_up):
        shell.type(command.strip(), **known)
    watch.go_on(10)
    told = [shell.type(command.strip(), **known) for command in check]
    assert "All is level." in told[0]
    assert told[1].startswith("0 strays")
    restored = boto3.client("dynamodb").describe_table(TableName=f"{table}-restored")["Table"]
    assert restored["DeletionProtectionEnabled"]
    assert [index["IndexName"] for index in restored["GlobalSecondaryIndexes"]] == ["by_due"]
    there = [lead for lead in watch.leads if not watch.portal.contact(lead).archived]
    assert [lead for lead in there if watch.owner(lead) is None] == []
    assert sum(watch.store.loads().values()) == len(there)
    audit(read(boto3.client("dynamodb"), f"{table}-restored", watch.store))
