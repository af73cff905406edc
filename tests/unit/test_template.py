"""Guards for what neither `sam validate --lint` nor `sam build` notices."""

from __future__ import annotations

import ast
import importlib
import json
import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import pytest
from aws_lambda_powertools.shared import constants

from fairturn import sweep
from fairturn.edges.hubspot.client import BATCH_LIMIT
from fairturn.edges.queues import Queue
from fairturn.edges.store import JOURNAL_DAYS, MAX_RECORDS
from fairturn.settings import Settings
from fairturn.steps import consumer
from fairturn.steps.claim import LONGEST_RUN
from fairturn.track import BACK_WITHIN
from fairturn_console.template import PATH, Template

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = PATH.parent
TEMPLATE = Template()
PARAMETERS = {"HubSpotPortalId": "123456", "WebhookKey": "k" * 32}
FUNCTIONS = TEMPLATE.functions()
VERSIONED = {name: function for name, function in FUNCTIONS.items() if "AutoPublishAlias" in function}
"""The functions that may start from snapshots, which Lambda takes of versions only."""
QUEUES = TEMPLATE.resources("AWS::SQS::Queue")
LAYERS = {name: each for name, each in TEMPLATE.data["Resources"].items() if each["Type"].endswith("::LayerVersion")}
REFERENCES: dict[str, str | int] = {
    **{name: f"ref:{name}" for name in TEMPLATE.data["Resources"]},
    **{f"{name}.Arn": f"arn:{name}" for name in TEMPLATE.data["Resources"]},
    **{f"{name}.QueueName": f"name:{name}" for name in QUEUES},
    **{f"{name}.Alias": f"arn:{name}:{function['AutoPublishAlias']}" for name, function in VERSIONED.items()},
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::AccountId": "123456789012",
    "AWS::StackName": "fairturn",
}

LONGEST_RETENTION = 1_209_600
"""Seconds: SQS keeps no message for longer than 14 days."""
BATCHES = {"LeadsQueue": 10, "BulkQueue": MAX_RECORDS, "ChangesQueue": BATCH_LIMIT}
"""The most that is done at once with the messages of a queue: what Lambda takes without a window, one claim, one batch
read at HubSpot."""
SHORTEST_INTERVAL = 60
"""Seconds between two runs of what is scheduled."""
TRACES = {("xray:PutTraceSegments", "*"), ("xray:PutTelemetryRecords", "*")}
"""What X-Ray takes; it has no resources that a policy could name."""

STACK = "STACK_NAME"
"""What the metrics carry; only telemetry reads it."""
LOCAL = {"AWS_ENDPOINT_URL", "HUBSPOT_API_URL"}
"""What only `sam local` sets; it sets nothing that the template does not name."""

GRANTS = {
    "IntakeFunction": {
        ("sqs:SendMessage", "arn:LeadsQueue"),
        ("sqs:SendMessage", "arn:BulkQueue"),
        ("sqs:SendMessage", "arn:ChangesQueue"),
        ("sqs:SendMessage", "arn:LeadsDeadLetters"),
        ("secretsmanager:GetSecretValue", "ref:WebhookSecret"),
        ("logs:CreateLogStream", "arn:IntakeLogs"),
        ("logs:PutLogEvents", "arn:IntakeLogs"),
    },
    "AssignFunction": {
        ("sqs:ReceiveMessage", "arn:LeadsQueue"),
        ("sqs:DeleteMessage", "arn:LeadsQueue"),
        ("sqs:GetQueueAttributes", "arn:LeadsQueue"),
        ("sqs:ChangeMessageVisibility", "arn:LeadsQueue"),
        ("sqs:ReceiveMessage", "arn:BulkQueue"),
        ("sqs:DeleteMessage", "arn:BulkQueue"),
        ("sqs:GetQueueAttributes", "arn:BulkQueue"),
        ("sqs:ChangeMessageVisibility", "arn:BulkQueue"),
        ("sqs:SendMessage", "arn:LeadsQueue"),
        ("sqs:SendMessage", "arn:ChangesQueue"),
        ("sqs:SendMessage", "arn:LeadsDeadLetters"),
        ("dynamodb:BatchGetItem", "arn:Table"),
        ("dynamodb:PutItem", "arn:Table"),
        ("dynamodb:UpdateItem", "arn:Table"),
        ("secretsmanager:GetSecretValue", "ref:HubSpotToken"),
        ("logs:CreateLogStream", "arn:AssignLogs"),
        ("logs:PutLogEvents", "arn:AssignLogs"),
    },
    "TrackFunction": {
        ("sqs:ReceiveMessage", "arn:ChangesQueue"),
        ("sqs:DeleteMessage", "arn:ChangesQueue"),
        ("sqs:GetQueueAttributes", "arn:ChangesQueue"),
        ("sqs:ChangeMessageVisibility", "arn:ChangesQueue"),
        ("sqs:SendMessage", "arn:ChangesDeadLetters"),
        ("sqs:SendMessage", "arn:LeadsQueue"),
        ("sqs:SendMessage", "arn:BulkQueue"),
        ("dynamodb:BatchGetItem", "arn:Table"),
        ("dynamodb:PutItem", "arn:Table"),
        ("dynamodb:UpdateItem", "arn:Table"),
        ("secretsmanager:GetSecretValue", "ref:HubSpotToken"),
        ("logs:CreateLogStream", "arn:TrackLogs"),
        ("logs:PutLogEvents", "arn:TrackLogs"),
    },
    "SweepFunction": {
        ("sqs:SendMessage", "arn:LeadsQueue"),
        ("sqs:SendMessage", "arn:ChangesQueue"),
        ("sqs:GetQueueAttributes", "arn:LeadsQueue"),
        ("sqs:GetQueueAttributes", "arn:BulkQueue"),
        ("sqs:GetQueueAttributes", "arn:ChangesQueue"),
        ("dynamodb:BatchGetItem", "arn:Table"),
        ("dynamodb:PutItem", "arn:Table"),
        ("dynamodb:UpdateItem", "arn:Table"),
        ("dynamodb:Query", "arn:Table/index/by_due"),
        ("dynamodb:Query", "arn:Table"),
        ("dynamodb:Scan", "arn:Table"),
        ("secretsmanager:GetSecretValue", "ref:HubSpotToken"),
        ("logs:CreateLogStream", "arn:SweepLogs"),
        ("logs:PutLogEvents", "arn:SweepLogs"),
    },
}
NOWHERE = {"AWS_DEFAULT_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}
"""What a client of AWS has to be given to be made."""
POLLED = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
"""What Lambda itself does, in the function's name, with a queue that it reads."""
CALLS = {
    "batch_get_item": "dynamodb:BatchGetItem",
    "batch_write_item": "dynamodb:BatchWriteItem",
    "delete_item": "dynamodb:DeleteItem",
    "get_item": "dynamodb:GetItem",
    "put_item": "dynamodb:PutItem",
    "query": "dynamodb:Query",
    "scan": "dynamodb:Scan",
    "update_item": "dynamodb:UpdateItem",
    "change_message_visibility": "sqs:ChangeMessageVisibility",
    "change_message_visibility_batch": "sqs:ChangeMessageVisibility",
    "delete_message": "sqs:DeleteMessage",
    "delete_message_batch": "sqs:DeleteMessage",
    "get_queue_attributes": "sqs:GetQueueAttributes",
    "receive_message": "sqs:ReceiveMessage",
    "send_message": "sqs:SendMessage",
    "send_message_batch": "sqs:SendMessage",
}
"""The action that a method of a client needs."""
ITEMS = {
    "ConditionCheck": "dynamodb:ConditionCheckItem",
    "Delete": "dynamodb:DeleteItem",
    "Put": "dynamodb:PutItem",
    "Update": "dynamodb:UpdateItem",
}
"""The action that an item of a transaction needs."""
READS = {"webhook_secrets": "ref:WebhookSecret", "hubspot_token": "ref:HubSpotToken"}
"""The secret that a method of the credentials reads."""

Definitions = dict[str, list[tuple[str, ast.FunctionDef]]]
"""Name → the functions of that name, each with its class, or "" where it has none."""


def resolve(value: Any, **parameters: str | int) -> Any:
    return TEMPLATE.resolve(value, PARAMETERS | parameters, REFERENCES)


def queue_sources() -> Iterator[tuple[str, dict[str, Any], str, dict[str, Any]]]:
    """Each function that reads a queue: its name and properties, the queue's name, the event's properties."""
    for name, function in FUNCTIONS.items():
        for event in function.get("Events", {}).values():
            if event["Type"] == "SQS":
                yield name, function, event["Properties"]["Queue"]["Fn::GetAtt"][0], event["Properties"]


def schedules() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The properties of each function that the clock calls, and those of the event."""
    for function in FUNCTIONS.values():
        for event in function.get("Events", {}).values():
            if event["Type"] == "Schedule":
                yield function, event["Properties"]


def grants(function: str, **parameters: str) -> set[tuple[str, str]]:
    """Every action that a function's role allows, with each resource it allows it on."""
    role = TEMPLATE.resource(FUNCTIONS[function]["Role"]["Fn::GetAtt"][0])["Properties"]
    assert "ManagedPolicyArns" not in role
    statements = [statement for policy in role["Policies"] for statement in policy["PolicyDocument"]["Statement"]]
    return {
        (action, resource)
        for statement in resolve(statements, **parameters)
        if statement["Effect"] == "Allow"
        for action in statement["Action"]
        for resource in statement["Resource"]
    }


def imported(source: Path, seen: dict[Path, ast.Module]) -> dict[Path, ast.Module]:
    """A file of ours, and all of ours that it imports."""
    if source not in seen and source.exists():
        seen[source] = ast.parse(source.read_text())
        for node in ast.walk(seen[source]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fairturn":
                for name in [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]:
                    imported(ROOT / "layers/core" / f"{name.replace('.', '/')}.py", seen)
    return seen


def defined(app: Path) -> Definitions:
    """All functions, and all methods both by their class and without, of a handler's file and of what it imports."""
    functions: Definitions = {}
    for module in imported(app, {}).values():
        for node in module.body:
            if isinstance(node, ast.FunctionDef):
                functions.setdefault(node.name, []).append(("", node))
            if isinstance(node, ast.ClassDef):
                for method in (each for each in node.body if isinstance(each, ast.FunctionDef)):
                    for name in (f".{method.name}", f"{node.name}.{method.name}"):
                        functions.setdefault(name, []).append((node.name, method))
    return functions


def used(owner: str, function: ast.FunctionDef, functions: Definitions) -> Iterator[str]:
    """What a function, or a method of the class `owner`, names: a method of another object may be any of that name."""
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            yield from (node.id, f"{node.id}.__init__")
        if isinstance(node, ast.Attribute):
            own = f"{owner}.{node.attr}"
            yield own if ast.unparse(node.value) == "self" and own in functions else f".{node.attr}"


def reached(app: Path) -> Iterator[ast.FunctionDef]:
    """Every function and method that a handler may come to: rather too many than too few."""
    functions = defined(app)
    names, known = ["handler"], {"handler"}
    while names:
        for owner, function in functions.get(names.pop(), ()):
            yield function
            new = set(used(owner, function, functions)) - known
            names += new
            known |= new


def needed(function: str) -> set[str]:
    """Every action on the table or a queue, and every secret, that the code of a function needs."""
    nodes = [node for each in reached(ROOT / FUNCTIONS[function]["CodeUri"] / "app.py") for node in ast.walk(each)]
    methods = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    keys = {key.value for node in nodes if isinstance(node, ast.Dict) for key in node.keys if _is_text(key)}
    return {
        *(what for method, what in (CALLS | READS).items() if method in methods),
        *(action for kind, action in ITEMS.items() if kind in keys),
    }


def _is_text(node: ast.expr | None) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def held(function: str) -> set[str]:
    """The URL of every queue that a function can reach."""
    app = importlib.import_module(f"functions.{Path(FUNCTIONS[function]['CodeUri']).name}.app")
    if function == "IntakeFunction":
        return set(_queues(app.intake()))
    services = set(re.findall(r"services\(\)\.(\w+)", Path(app.__file__ or "").read_text()))
    assert services
    return {url for service in services for url in _queues(getattr(app.services(), service))}


def _queues(service: object) -> Iterator[str]:
    if isinstance(service, Queue):
        yield service._url
    elif is_dataclass(service):
        for field in fields(service):
            yield from _queues(getattr(service, field.name))


# Functions


def test_each_folder_of_functions_is_one_function() -> None:
    folders = {path.name for path in (ROOT / "functions").iterdir() if path.is_dir()} - {"__pycache__"}
    assert sorted(function["CodeUri"] for function in FUNCTIONS.values()) == sorted(
        f"functions/{folder}" for folder in folders
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_one_file_with_its_handler(name: str) -> None:
    function = FUNCTIONS[name]
    folder = ROOT / function["CodeUri"]
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {"app.py"}
    module, _, handler = function["Handler"].rpartition(".")
    assert callable(getattr(importlib.import_module(f"functions.{folder.name}.{module}"), handler))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_compiled_by_the_python_that_runs_it(name: str) -> None:
    assert TEMPLATE.data["Resources"][name]["Metadata"] == {"BuildMethod": "makefile", "ContextPath": "functions"}
    assert f"\t@{FUNCTIONS[name]['Runtime']} -m compileall " in (ROOT / "functions/Makefile").read_text()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_named_after_its_folder(name: str) -> None:
    folder = Path(FUNCTIONS[name]["CodeUri"]).name
    assert name == f"{folder.title()}Function"
    assert FUNCTIONS[name]["Environment"]["Variables"]["POWERTOOLS_SERVICE_NAME"] == folder


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_all_settings_and_nothing_that_nobody_reads(name: str) -> None:
    known = {field.metadata["variable"] for field in fields(Settings)}
    needed = {field.metadata["variable"] for field in fields(Settings) if field.default is MISSING}
    powertools = {constants.SERVICE_NAME_ENV, constants.POWERTOOLS_LOG_LEVEL_ENV}
    environment = FUNCTIONS[name]["Environment"]["Variables"].keys()
    assert environment >= needed | powertools | {STACK}
    assert environment <= known | powertools | {STACK} | LOCAL
    assert f'"{STACK}"' in (ROOT / "layers/core/fairturn/telemetry.py").read_text()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_variables_for_sam_local_are_named_but_left_out_of_what_is_deployed(name: str) -> None:
    variables = FUNCTIONS[name]["Environment"]["Variables"]
    assert variables.keys() >= LOCAL
    assert not resolve(variables).keys() & LOCAL


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_settings_accept_what_the_template_sets(name: str) -> None:
    variables = resolve(FUNCTIONS[name]["Environment"]["Variables"])
    settings = Settings.read({variable: str(value) for variable, value in variables.items()})
    assert settings.webhook_url == f"https://ref:Api.execute-api.eu-central-1.amazonaws.com/hubspot/{'k' * 32}"
    assert settings.portal == 123456
    assert settings.journal_days == JOURNAL_DAYS


def test_journals_are_kept_for_longer_than_a_turn_can_go_back() -> None:
    assert TEMPLATE.data["Parameters"]["JournalDays"]["MinValue"] * 24 * 3_600_000 > BACK_WITHIN


def test_a_domain_of_ones_own_is_what_hubspot_signs() -> None:
    own = "https://hooks.example.com/hubspot"
    for function in FUNCTIONS.values():
        assert resolve(function["Environment"]["Variables"], WebhookUrl=own)["WEBHOOK_URL"] == own
    assert resolve(TEMPLATE.data["Outputs"]["WebhookUrl"]["Value"], WebhookUrl=own) == own


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_logs_to_a_group_that_is_kept_for_a_while_only(name: str) -> None:
    group = TEMPLATE.resource(FUNCTIONS[name]["LoggingConfig"]["LogGroup"]["Ref"])
    assert group["Type"] == "AWS::Logs::LogGroup"


def test_every_log_is_kept_for_a_while_only() -> None:
    groups = TEMPLATE.resources("AWS::Logs::LogGroup")
    assert {resolve(group["RetentionInDays"]) for group in groups.values()} == {30}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_traced_only_if_that_is_asked_for_because_it_costs(name: str) -> None:
    assert resolve(FUNCTIONS[name]["Tracing"]) == "PassThrough"
    assert resolve(FUNCTIONS[name]["Tracing"], Tracing="true") == "Active"
    assert grants(name, Tracing="true") == grants(name) | TRACES


@pytest.mark.parametrize("name", VERSIONED)
def test_snapshots_are_taken_only_if_that_is_asked_for_because_they_cost(name: str) -> None:
    assert resolve(FUNCTIONS[name]["SnapStart"]) == {"ApplyOn": "None"}
    assert resolve(FUNCTIONS[name]["SnapStart"], SnapStart="true") == {"ApplyOn": "PublishedVersions"}
    assert FUNCTIONS[name]["VersionDeletionPolicy"] == "Delete", "each version costs as long as it is there"


@pytest.mark.parametrize("name", VERSIONED)
@pytest.mark.parametrize("own", ["", "https://hooks.example.com/hubspot"])
def test_a_version_has_another_description_exactly_if_a_parameter_makes_it_another(name: str, own: str) -> None:
    """Neither SAM nor Lambda publishes another version otherwise: the alias would go on with what was before."""
    no_part_of_it = ("VersionDescription", "ReservedConcurrentExecutions", "Events")
    version = {part: value for part, value in FUNCTIONS[name].items() if part not in no_part_of_it}
    description = FUNCTIONS[name]["VersionDescription"]
    before = TEMPLATE.parameters(PARAMETERS | {"WebhookUrl": own})
    for parameter, old in before.items():
        allowed = TEMPLATE.data["Parameters"][parameter].get("AllowedValues", [f"{old}1"])
        after = before | {parameter: next(each for each in allowed if each != old)}
        is_another = resolve(version, **before) != resolve(version, **after)
        assert (resolve(description, **before) != resolve(description, **after)) is is_another, parameter


@pytest.mark.parametrize("own", ["", "https://" + "a" * 100])
def test_the_description_of_a_version_fits_into_what_lambda_takes(own: str) -> None:
    table = "t" * 70
    longest = {"HubSpotPortalId": "9" * 15, "WebhookKey": "k" * 64, "LogLevel": "WARNING", "ExistingTable": table}
    longest["WebhookUrl"] = own
    for parameter, value in longest.items():
        assert re.fullmatch(TEMPLATE.data["Parameters"][parameter].get("AllowedPattern", ".*"), value)
    assert not re.fullmatch(TEMPLATE.data["Parameters"]["ExistingTable"]["AllowedPattern"], table + "t")
    assert not re.fullmatch(TEMPLATE.data["Parameters"]["WebhookUrl"]["AllowedPattern"], "https://" + "a" * 101)
    for function in VERSIONED.values():
        assert len(resolve(function["VersionDescription"], **longest)) <= 256


def test_a_new_layer_makes_a_new_version() -> None:
    assert all(function["AutoPublishAliasAllProperties"] is True for function in VERSIONED.values())
    assert all(layer["Properties"]["PublishLambdaVersion"] is True for layer in LAYERS.values())


def test_the_webhook_calls_the_version_that_was_published_last() -> None:
    (permission,) = TEMPLATE.resources("AWS::Lambda::Permission").values()
    (integration,) = TEMPLATE.resources("AWS::ApiGatewayV2::Integration").values()
    assert resolve(permission["FunctionName"]) == resolve(integration["IntegrationUri"]) == "arn:IntakeFunction:live"


# The layer


def test_every_function_carries_the_layer() -> None:
    assert list(LAYERS) == ["CoreLayer"]
    assert all(function["Layers"] == [{"Ref": "CoreLayer"}] for function in FUNCTIONS.values())


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_the_layer_is_built_for_the_processor_and_python_of_the_functions(name: str, architecture: str) -> None:
    layer = resolve(LAYERS[name], Architecture=architecture)
    (runtime,) = {function["Runtime"] for function in FUNCTIONS.values()}
    assert layer["Properties"]["CompatibleRuntimes"] == [runtime]
    assert layer["Metadata"]["BuildMethod"] == "makefile"
    makefile = (ROOT / layer["Metadata"]["ContextPath"] / "Makefile").read_text()
    assert makefile == f'build-{name}:\n\t@{runtime} build.py {architecture} "$(ARTIFACTS_DIR)/python"\n'
    assert layer["Metadata"]["BuildArchitecture"] == architecture
    assert layer["Properties"]["CompatibleArchitectures"] == [architecture]
    for function in FUNCTIONS.values():
        assert resolve(function["Architectures"], Architecture=architecture) == [architecture]


@pytest.mark.parametrize("name", LAYERS)
def test_an_old_layer_is_not_left_behind(name: str) -> None:
    assert LAYERS[name]["Properties"]["RetentionPolicy"] == "Delete"


@pytest.mark.parametrize("name", LAYERS)
def test_the_layers_folder_holds_the_package_and_its_requirements_only(name: str) -> None:
    folder = ROOT / LAYERS[name]["Properties"]["ContentUri"]
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {
        *("fairturn", "requirements.txt", "build.py", "arm64", "x86_64")
    }


@pytest.mark.parametrize("name", LAYERS)
def test_the_package_holds_nothing_but_modules(name: str) -> None:
    package = ROOT / LAYERS[name]["Properties"]["ContentUri"] / "fairturn"
    for path in package.rglob("*"):
        if "__pycache__" in path.parts:
            continue
        assert path.is_dir() or path.suffix == ".py" or path.name == "py.typed"


# Queues


def test_every_queue_that_is_read_has_dead_letters_and_they_are_of_leads_or_of_changes() -> None:
    dead_letters = {
        name: queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
        for name, queue in QUEUES.items()
        if "RedrivePolicy" in queue
    }
    assert dead_letters == {
        "LeadsQueue": "LeadsDeadLetters",
        "BulkQueue": "LeadsDeadLetters",
        "ChangesQueue": "ChangesDeadLetters",
    }
    assert {name for name, queue in QUEUES.items() if "RedrivePolicy" not in queue} == set(dead_letters.values())


def test_a_dead_letter_queue_takes_the_letters_of_its_own_queues_only() -> None:
    for name, dead_letters in QUEUES.items():
        if "RedrivePolicy" in dead_letters:
            continue
        sources = [
            f"arn:aws:sqs:eu-central-1:123456789012:{resolve(queue['QueueName'])}"
            for queue in QUEUES.values()
            if queue.get("RedrivePolicy", {}).get("deadLetterTargetArn") == {"Fn::GetAtt": [name, "Arn"]}
        ]
        assert resolve(dead_letters["RedriveAllowPolicy"]) == {
            "redrivePermission": "byQueue",
            "sourceQueueArns": sources,
        }


@pytest.mark.parametrize("name", QUEUES)
def test_a_queue_keeps_its_messages_encrypted_for_as_long_as_sqs_can(name: str) -> None:
    assert QUEUES[name]["MessageRetentionPeriod"] == LONGEST_RETENTION
    assert QUEUES[name]["SqsManagedSseEnabled"] is True


def test_a_day_of_growing_delays_does_not_dead_letter_a_message() -> None:
    for queue in QUEUES.values():
        if "RedrivePolicy" in queue:
            assert queue["RedrivePolicy"]["maxReceiveCount"] == 100


def test_a_message_stays_hidden_while_its_batch_waits_and_is_worked_on() -> None:
    sources = list(queue_sources())
    assert sources
    for _, function, queue, source in sources:
        window = source.get("MaximumBatchingWindowInSeconds", 0)
        assert QUEUES[queue]["VisibilityTimeout"] >= 3 * function["Timeout"] + window
        # Without it the pollers call more than may run, and hold on to what is throttled: then it had to be six times.
        assert "MaximumConcurrency" in source["ScalingConfig"]


def test_a_message_stays_hidden_for_longer_than_a_claim_may_be_under_way() -> None:
    for _, _, queue, _ in queue_sources():
        assert QUEUES[queue]["VisibilityTimeout"] > LONGEST_RUN


def test_a_batch_is_what_is_done_at_once_and_says_which_of_its_messages_failed() -> None:
    assert {queue: source["BatchSize"] for _, _, queue, source in queue_sources()} == BATCHES
    for _, _, _, source in queue_sources():
        # Lambda wants a window for more than ten messages, and waits for no more without one.
        assert source.get("MaximumBatchingWindowInSeconds", 0) == (source["BatchSize"] > 10)
        assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_concurrency_is_bounded_and_nothing_is_reserved_by_default() -> None:
    for _, _, _, source in queue_sources():
        assert resolve(source["ScalingConfig"]) == {"MaximumConcurrency": 2}
    for function in FUNCTIONS.values():
        assert "ReservedConcurrentExecutions" not in resolve(function)


@pytest.mark.parametrize("concurrency", [2, 10])
def test_what_is_reserved_is_what_the_queues_may_use(concurrency: int) -> None:
    parameters: dict[str, str | int] = {"AssignConcurrency": concurrency, "ReserveConcurrency": "true"}
    most = {
        queue: resolve(source["ScalingConfig"]["MaximumConcurrency"], **parameters)
        for name, _, queue, source in queue_sources()
        if name == "AssignFunction"
    }
    functions = {name: resolve(function, **parameters) for name, function in FUNCTIONS.items()}
    reserved = {
        name: function["ReservedConcurrentExecutions"]
        for name, function in functions.items()
        if "ReservedConcurrentExecutions" in function
    }
    assert most == {"LeadsQueue": concurrency, "BulkQueue": 2}
    assert reserved == {"AssignFunction": sum(most.values())}


@pytest.mark.parametrize("name", QUEUES)
def test_no_queue_keeps_a_message_to_itself(name: str) -> None:
    assert "DelaySeconds" not in QUEUES[name]


# The schedule


def test_the_sweep_runs_every_minute_is_over_within_it_and_is_never_tried_again() -> None:
    ((function, event),) = schedules()
    assert function["CodeUri"] == "functions/sweep"
    assert event == {"Schedule": "rate(1 minute)"}
    assert function["EventInvokeConfig"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": SHORTEST_INTERVAL}
    assert function["Timeout"] == 50 < SHORTEST_INTERVAL


# Rights


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_may_do_exactly_what_is_declared(name: str) -> None:
    assert grants(name) == GRANTS[name]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_may_do_all_that_its_code_does_and_nothing_else(name: str) -> None:
    polled = POLLED if name in {function for function, *_ in queue_sources()} else set()
    allowed = {
        resource if action == "secretsmanager:GetSecretValue" else action
        for action, resource in grants(name)
        if not action.startswith("logs:")
    }
    assert allowed - polled <= needed(name) <= allowed


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_may_use_the_queues_that_it_has_and_no_other(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = resolve(FUNCTIONS[name]["Environment"]["Variables"])
    for variable, value in (NOWHERE | variables).items():
        monkeypatch.setenv(variable, str(value))
    app = importlib.import_module(f"functions.{Path(FUNCTIONS[name]['CodeUri']).name}.app")
    caches = [app.settings, app.intake if name == "IntakeFunction" else app.services]
    for cache in caches:
        cache.cache_clear()
    urls = held(name)
    for cache in caches:
        cache.cache_clear()
    assert urls == {res.replace("arn:", "ref:") for action, res in grants(name) if action.startswith("sqs:")}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_policy_has_no_wildcard(name: str) -> None:
    for action, resource in grants(name):
        assert "*" not in action
        assert "*" not in resource


def test_only_lambda_takes_on_a_role_and_each_has_one_user() -> None:
    roles = TEMPLATE.resources("AWS::IAM::Role")
    assert sorted(roles) == sorted(function["Role"]["Fn::GetAtt"][0] for function in FUNCTIONS.values())
    for role in roles.values():
        (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}
        assert statement["Action"] == "sts:AssumeRole"


def test_secrets_have_no_value_in_the_template() -> None:
    secrets = TEMPLATE.resources("AWS::SecretsManager::Secret")
    assert sorted(secrets) == ["HubSpotToken", "WebhookSecret"]
    assert all(secret.keys() == {"Description"} for secret in secrets.values())


# The webhook


def test_one_path_is_answered_and_its_last_part_is_the_key() -> None:
    (route,) = TEMPLATE.resources("AWS::ApiGatewayV2::Route").values()
    assert resolve(route["RouteKey"]) == f"POST /hubspot/{'k' * 32}"
    (stage,) = TEMPLATE.resources("AWS::ApiGatewayV2::Stage").values()
    assert stage["StageName"] == "$default"
    (permission,) = TEMPLATE.resources("AWS::Lambda::Permission").values()
    assert resolve(permission["SourceArn"]).endswith(f":ref:Api/*/POST/hubspot/{'k' * 32}")


@pytest.mark.parametrize(
    ("key", "accepted"),
    [
        ("a" * 23, False),
        ("a" * 24, True),
        ("Az09_-" * 10, True),
        ("a" * 65, False),
        ("a/b" * 10, False),
        ("a.b" * 10, False),
    ],
)
def test_the_key_is_long_and_needs_no_escaping(key: str, *, accepted: bool) -> None:
    pattern = TEMPLATE.data["Parameters"]["WebhookKey"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, key)) is accepted


def test_hubspot_gets_an_answer_before_it_gives_up() -> None:
    (integration,) = TEMPLATE.resources("AWS::ApiGatewayV2::Integration").values()
    assert FUNCTIONS["IntakeFunction"]["Timeout"] < 5
    assert integration["TimeoutInMillis"] <= 5000


def test_the_webhook_is_throttled_above_what_hubspot_sends_at_once() -> None:
    (stage,) = TEMPLATE.resources("AWS::ApiGatewayV2::Stage").values()
    limits = stage["DefaultRouteSettings"]
    assert limits["ThrottlingBurstLimit"] >= 10
    assert limits["ThrottlingRateLimit"] >= 10


def test_the_access_log_shows_neither_key_nor_query_nor_body() -> None:
    (stage,) = TEMPLATE.resources("AWS::ApiGatewayV2::Stage").values()
    shown = json.loads(stage["AccessLogSettings"]["Format"])
    assert shown["status"] == "$context.status"
    for value in shown.values():
        assert not re.search(r"path|routeKey|query|body|authorizer|request\.header", value)


# The table


def test_the_table_outlives_the_stack_and_can_be_restored() -> None:
    table = TEMPLATE.resource("Table")
    assert table["DeletionPolicy"] == table["UpdateReplacePolicy"] == "Retain"
    properties = table["Properties"]
    assert resolve(properties["DeletionProtectionEnabled"]) is True
    assert resolve(properties["DeletionProtectionEnabled"], DeletionProtection="false") is False
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}


def test_a_table_that_is_there_already_takes_the_place_of_a_new_one() -> None:
    given = PARAMETERS | {"ExistingTable": "restored"}
    assert not TEMPLATE.is_made("Table", given, {})
    assert TEMPLATE.is_made("Table", PARAMETERS, {})
    assert resolve(TEMPLATE.data["Outputs"]["TableName"]["Value"], ExistingTable="restored") == "restored"
    for function in FUNCTIONS.values():
        assert resolve(function["Environment"]["Variables"]["TABLE_NAME"], ExistingTable="restored") == "restored"
    arn = "arn:aws:dynamodb:eu-central-1:123456789012:table/restored"
    for role in TEMPLATE.resources("AWS::IAM::Role").values():
        statements = resolve(role["Policies"], ExistingTable="restored")[0]["PolicyDocument"]["Statement"]
        granted = [each["Resource"] for each in statements if any("dynamodb:" in action for action in each["Action"])]
        assert all(set(resources) <= {arn, f"{arn}/index/by_due"} for resources in granted)


def test_leads_in_flight_outlive_the_stack() -> None:
    for name in TEMPLATE.resources("AWS::SQS::Queue"):
        queue = TEMPLATE.resource(name)
        assert queue["DeletionPolicy"] == queue["UpdateReplacePolicy"] == "Retain"


def test_an_index_shows_only_what_is_asked_of_it() -> None:
    indexes = TEMPLATE.resource("Table")["Properties"]["GlobalSecondaryIndexes"]
    shown = {index["IndexName"]: index["Projection"] for index in indexes}
    assert shown == {
        "by_due": {
            "ProjectionType": "INCLUDE",
            "NonKeyAttributes": ["state", "rev", "priority", "occurred_at"],
        },
    }


# The whole


def test_the_outputs_name_what_an_operator_needs() -> None:
    outputs = {name: resolve(each["Value"]) for name, each in TEMPLATE.data["Outputs"].items()}
    assert outputs == {
        "HubSpotPortalId": "123456",
        "WebhookUrl": f"https://ref:Api.execute-api.eu-central-1.amazonaws.com/hubspot/{'k' * 32}",
        "TableName": "ref:Table",
        "JournalDays": 400,
        "LeadsQueueUrl": "ref:LeadsQueue",
        "BulkQueueUrl": "ref:BulkQueue",
        "LeadsDeadLettersUrl": "ref:LeadsDeadLetters",
        "ChangesQueueUrl": "ref:ChangesQueue",
        "ChangesDeadLettersUrl": "ref:ChangesDeadLetters",
        "WebhookSecretArn": "ref:WebhookSecret",
        "HubSpotTokenArn": "ref:HubSpotToken",
    }


def test_every_parameter_says_what_it_is_and_is_constrained() -> None:
    for name, parameter in TEMPLATE.data["Parameters"].items():
        assert parameter["Description"], name
        assert parameter.keys() & {"AllowedPattern", "AllowedValues", "MinValue"}, name


def test_every_resource_says_what_it_is_for() -> None:
    lines = PATH.read_text().splitlines()
    for name in TEMPLATE.data["Resources"]:
        above = lines[lines.index(f"  {name}:") - 1]
        assert above.startswith("  # "), name


def test_everything_in_the_template_can_be_resolved() -> None:
    for part in ("Resources", "Outputs"):
        assert "Fn::" not in json.dumps(resolve(TEMPLATE.data[part]))


def test_a_parameter_that_the_template_does_not_have_is_refused() -> None:
    with pytest.raises(KeyError, match="Arkitecture"):
        resolve(1, Arkitecture="arm64")


def test_a_function_of_cloudformation_that_nobody_taught_the_reader_is_refused() -> None:
    with pytest.raises(ValueError, match="Fn::Select"):
        resolve({"Fn::Select": [0, ["a"]]})


# Time


def test_a_claim_that_may_be_under_way_is_left_alone_for_as_long_as_a_run_lasts() -> None:
    assert max(FUNCTIONS[name]["Timeout"] for name in ("AssignFunction", "SweepFunction")) == LONGEST_RUN


@pytest.mark.parametrize(
    ("name", "kept", "least"),
    [
        ("AssignFunction", consumer.RESERVE, consumer.LEAST),
        ("TrackFunction", consumer.RESERVE, consumer.LEAST),
        ("SweepFunction", sweep.RESERVE, sweep.LEAST),
    ],
)
def test_most_of_a_run_is_left_for_its_work(name: str, kept: float, least: float) -> None:
    assert kept + least < FUNCTIONS[name]["Timeout"] / 2
