"""The template's alarms and dashboard: what they watch and say, and that nothing is left out."""

from __future__ import annotations

import ast
import json
import re
import shlex
from typing import Any

import pytest
from typer.testing import CliRunner

from docs.dashboard import COLUMNS, SEARCH, TERM
from fairturn.telemetry import NAMESPACE, Metric
from fairturn_console.cli import app
from fairturn_console.policy.values import MAX_SETTLE
from fairturn_sandbox.cloudwatch import Alarm, Series
from tests.unit.test_template import FUNCTIONS, PARAMETERS, QUEUES, REFERENCES, ROOT, TEMPLATE, reached, resolve

ALARMS = {
    name: Alarm.model_validate(resolve(properties))
    for name, properties in TEMPLATE.resources("AWS::CloudWatch::Alarm").items()
}
(DASHBOARD,) = TEMPLATE.resources("AWS::CloudWatch::Dashboard").values()
WIDGETS: list[dict[str, Any]] = json.loads(resolve(DASHBOARD["DashboardBody"]))["widgets"]
SILENCE = {"SweepStoppedAlarm", "NoWebhooksAlarm"}
"""The alarms about news that do not come."""
BY_ROTA = {"LeadsAssigned", "LeadsDue", "LargestGap", "SecondsToOwner", "SecondsWaited"}
IN_ALL = {each.value for each in Metric} - BY_ROTA | {"LeadsDue"}
COMMAND = re.compile(r"`((?:aws|fairturn|sam) [^`]+)`")
LONGEST = {
    "AWS::StackName": "s" * 128,
    "WebhookSecret": "a" * 140,
    "HubSpotToken": "a" * 140,
    "AssignFunction": "f" * 64,
    "TrackFunction": "f" * 64,
}


def watched() -> set[str]:
    """Our metrics that an alarm watches."""
    return {alarm.metric_name for alarm in ALARMS.values() if alarm.namespace == NAMESPACE}


def shown() -> set[tuple[str, str, frozenset[str]]]:
    """Namespace, name and dimensions of every metric on the dashboard."""
    asked = set()
    for entry in (entry for widget in WIDGETS for entry in widget["properties"].get("metrics", ())):
        if "expression" in entry[-1]:
            search = SEARCH.fullmatch(entry[-1]["expression"])
            assert search is not None
            namespace, *dimensions = search["schema"].split(",")
            terms = dict(TERM.findall(search["terms"]))
            assert terms == {"MetricName": terms["MetricName"], "stack": "fairturn"}
            asked.add((namespace, terms["MetricName"], frozenset(dimensions)))
        else:
            namespace, name, *dimensions = [each for each in entry if isinstance(each, str)]
            asked.add((namespace, name, frozenset(dimensions[::2])))
    return asked


def emitted(function: str) -> set[str]:
    """The metrics that the code of a function names."""
    return {
        Metric[node.attr].value
        for each in reached(ROOT / FUNCTIONS[function]["CodeUri"] / "app.py")
        for node in ast.walk(each)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Metric"
    }


# What an alarm says


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_says_what_it_means_and_what_to_type(name: str) -> None:
    longest = TEMPLATE.resolve(
        TEMPLATE.resources("AWS::CloudWatch::Alarm")[name]["AlarmDescription"], PARAMETERS, REFERENCES | LONGEST
    )
    assert 100 < len(longest) <= 1024
    assert COMMAND.search(longest), "a command"


@pytest.mark.parametrize(
    "command",
    sorted(
        command
        for text in [
            *(alarm.alarm_description for alarm in ALARMS.values()),
            *(widget["properties"].get("markdown", "") for widget in WIDGETS),
        ]
        for command in COMMAND.findall(text)
        if command.startswith("fairturn ")
    ),
)
def test_what_is_to_be_typed_goes_as_far_as_the_stack(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Deployed(Exception):
        pass

    def deployment(stack: str) -> None:
        raise Deployed(stack)

    monkeypatch.setattr("fairturn_console.deployment.Deployment", deployment)
    monkeypatch.chdir(ROOT)
    outcome = CliRunner().invoke(app, shlex.split(command)[1:])
    assert repr(outcome.exception) == "Deployed('fairturn')", outcome.output


def test_the_logs_that_are_named_are_those_of_the_functions() -> None:
    texts = " ".join(alarm.alarm_description for alarm in ALARMS.values()) + json.dumps(WIDGETS)
    named = set(re.findall(r"aws logs tail (\S+)", texts))
    assert named <= {group["LogGroupName"] for group in resolve(TEMPLATE.resources("AWS::Logs::LogGroup")).values()}


@pytest.mark.parametrize(
    ("name", "module", "said"),
    [
        ("OwnersOverwrittenAlarm", "steps/restoring", "owners are overwritten again and again"),
        ("SweepStoppedAlarm", "sweep", "left for the next run"),
        ("SweepStoppedAlarm", "sweep", "a mistake of ours"),
        ("AuditFindingsAlarm", "steps/audit", "found by the audit"),
        ("LeadsUnseenAlarm", "assign", "gone"),
        ("LeadsUnseenAlarm", "assign", "HubSpot does not show the contact"),
        ("HubSpotDeniedAlarm", "sweep", "left for the next run"),
        ("HubSpotDeniedAlarm", "steps/consumer", "put back"),
        ("PutBackAlarm", "steps/consumer", "put back"),
        ("ExplanationRefusedAlarm", "edges/hubspot/client", "HubSpot refuses the explanation"),
    ],
)
def test_an_alarm_quotes_the_lines_of_the_log_that_say_more(name: str, module: str, said: str) -> None:
    assert f'"{said}' in (ROOT / f"layers/core/fairturn/{module}.py").read_text()
    pattern = re.search(r"--filter-pattern (\w+)", ALARMS[name].alarm_description)
    assert said in ALARMS[name].alarm_description or (pattern and pattern[1] in said)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_tells_the_topic_that_is_given_and_nobody_else(name: str) -> None:
    topic = "arn:aws:sns:eu-central-1:123456789012:revops"
    alarm = TEMPLATE.resources("AWS::CloudWatch::Alarm")[name]
    actions = {"AlarmActions", "OKActions"}
    assert not resolve(alarm).keys() & actions
    told = resolve(alarm, AlarmTopicArn=topic)
    assert {each: told[each] for each in actions} == {"AlarmActions": [topic], "OKActions": [topic]}


@pytest.mark.parametrize(
    ("topic", "accepted"),
    [
        ("", True),
        ("arn:aws:sns:eu-central-1:123456789012:rev-ops_1", True),
        ("arn:aws-us-gov:sns:us-gov-west-1:123456789012:revops", True),
        ("arn:aws:sqs:eu-central-1:123456789012:revops", False),
        ("arn:aws:sns:eu-central-1:123456789012:", False),
        ("revops@example.com", False),
    ],
)
def test_a_topic_is_named_by_its_arn(topic: str, *, accepted: bool) -> None:
    assert bool(re.fullmatch(TEMPLATE.data["Parameters"]["AlarmTopicArn"]["AllowedPattern"], topic)) is accepted


# What it watches


@pytest.mark.parametrize("name", sorted(ALARMS.keys() - SILENCE))
def test_no_news_is_no_alarm(name: str) -> None:
    alarm = ALARMS[name]
    assert alarm.treat_missing_data == "notBreaching"
    assert alarm.comparison_operator == "GreaterThanThreshold"
    assert alarm.threshold >= 0


@pytest.mark.parametrize("name", sorted(SILENCE))
def test_no_news_is_the_alarm_where_news_has_to_come(name: str) -> None:
    alarm = ALARMS[name]
    assert alarm.treat_missing_data == "breaching"
    assert (alarm.comparison_operator, alarm.threshold) == ("LessThanThreshold", 1)
    assert alarm.datapoints_to_alarm == alarm.evaluation_periods


@pytest.mark.parametrize("name", [name for name, alarm in ALARMS.items() if alarm.namespace == NAMESPACE])
def test_an_alarm_of_ours_watches_one_stack_and_all_its_functions(name: str) -> None:
    alarm = ALARMS[name]
    assert alarm.series == Series.of(NAMESPACE, Metric(alarm.metric_name), stack="fairturn")


def test_two_stacks_watch_nothing_together() -> None:
    other = {
        **REFERENCES,
        **{f"{name}.QueueName": f"staging:{name}" for name in QUEUES},
        **{name: f"staging:{name}" for name in (*FUNCTIONS, "Api")},
        "AWS::StackName": "staging",
    }
    theirs = {
        Alarm.model_validate(TEMPLATE.resolve(properties, PARAMETERS, other)).series
        for properties in TEMPLATE.resources("AWS::CloudWatch::Alarm").values()
    }
    assert not theirs & {alarm.series for alarm in ALARMS.values()}


def test_no_two_alarms_watch_the_same() -> None:
    assert len({alarm.series for alarm in ALARMS.values()}) == len(ALARMS)


def test_every_queue_has_its_alarm() -> None:
    watched = {
        (dict(alarm.series.dimensions)["QueueName"], alarm.metric_name)
        for alarm in ALARMS.values()
        if alarm.namespace == "AWS/SQS"
    }
    assert watched == {
        (
            f"name:{name}",
            "ApproximateAgeOfOldestMessage" if "RedrivePolicy" in queue else "ApproximateNumberOfMessagesVisible",
        )
        for name, queue in QUEUES.items()
    }


@pytest.mark.parametrize("name", ["LeadsOldAlarm", "BulkOldAlarm"])
def test_a_lead_that_waits_for_its_properties_as_long_as_it_may_is_not_old(name: str) -> None:
    assert ALARMS[name].threshold >= 2 * MAX_SETTLE


def test_a_lead_that_waits_for_its_properties_as_long_as_it_may_is_not_put_back_for_long() -> None:
    assert ALARMS["PutBackAlarm"].threshold >= MAX_SETTLE


@pytest.mark.parametrize(
    ("parameter", "name", "what"),
    [("WaitingAlarm", "LeadsDueAlarm", "threshold"), ("SilentHours", "NoWebhooksAlarm", "evaluation_periods")],
)
def test_what_is_much_or_long_is_a_parameter(parameter: str, name: str, what: str) -> None:
    properties = TEMPLATE.resources("AWS::CloudWatch::Alarm")[name]
    assert getattr(ALARMS[name], what) == TEMPLATE.data["Parameters"][parameter]["Default"]
    assert getattr(Alarm.model_validate(resolve(properties, **{parameter: 7})), what) == 7
    Alarm.model_validate(
        resolve(properties, **{parameter: TEMPLATE.data["Parameters"][parameter].get("MaxValue", 10**6)})
    )


@pytest.mark.parametrize(("hours", "is_made"), [(0, False), (1, True), (72, True)])
def test_silence_can_be_no_alarm(hours: int, *, is_made: bool) -> None:
    parameters = PARAMETERS | {"SilentHours": hours}
    assert TEMPLATE.is_made("NoWebhooksAlarm", parameters, REFERENCES) is is_made
    assert ("NoWebhooksAlarm" in resolve(DASHBOARD["DashboardBody"], SilentHours=hours)) is is_made


# The dashboard


def test_the_dashboard_begins_with_every_alarm() -> None:
    assert WIDGETS[0]["type"] == "alarm"
    assert sorted(WIDGETS[0]["properties"]["alarms"]) == sorted(f"arn:{name}" for name in ALARMS)
    assert min((widget["y"], widget["x"]) for widget in WIDGETS) == (WIDGETS[0]["y"], WIDGETS[0]["x"])


def test_one_look_is_enough() -> None:
    assert len(WIDGETS) <= 12
    cells = [
        (x, y)
        for widget in WIDGETS
        for x in range(widget["x"], widget["x"] + widget["width"])
        for y in range(widget["y"], widget["y"] + widget["height"])
    ]
    assert len(cells) == len(set(cells)), "no widget covers another"
    rows = max(y for _, y in cells) + 1
    assert len(cells) == COLUMNS * rows, "no hole, and nothing beyond the border"


def test_each_text_says_what_is_normal_and_what_to_type() -> None:
    texts = [widget["properties"]["markdown"] for widget in WIDGETS if widget["type"] == "text"]
    assert len(texts) == 3
    assert all("Normal:" in text and COMMAND.search(text) for text in texts)


def test_a_dashboard_is_named_by_stack_and_region_as_dashboards_know_no_region() -> None:
    assert resolve(DASHBOARD["DashboardName"]) == "fairturn-eu-central-1"


def test_each_metric_that_is_emitted_is_watched_or_shown_and_no_other_is() -> None:
    emits = set().union(*(emitted(name) for name in FUNCTIONS))
    ours = {(name, dimensions) for namespace, name, dimensions in shown() if namespace == NAMESPACE}
    assert emits == {each.value for each in Metric}
    assert {name for name, _ in ours} | watched() == emits
    assert ours <= {(name, frozenset({"stack"})) for name in IN_ALL} | {
        (name, frozenset({"stack", "rota"})) for name in BY_ROTA
    }


def test_each_function_and_queue_is_on_the_dashboard() -> None:
    text = resolve(DASHBOARD["DashboardBody"])
    assert all(f"ref:{name}" in text for name in FUNCTIONS)
    assert all(f"name:{name}" in text for name in QUEUES)


# What the README says of them


def test_the_readme_explains_every_alarm() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme[readme.index("| alarm `<stack>-") :].split("\n\n", maxsplit=1)[0]
    named = {name for row in table.splitlines() for name in re.findall("`([A-Za-z]+)`", row.split("|")[1])}
    assert {f"{name}Alarm" for name in named} == ALARMS.keys()


def test_the_readme_names_every_metric_and_no_other() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme[readme.index("| metric |") :].split("\n\n", maxsplit=1)[0]
    named = {name for row in table.splitlines() for name in re.findall("`([A-Za-z]+)`", row.split("|")[1])}
    starred = {name for row in table.splitlines() for name in re.findall(r"`([A-Za-z]+)`\\\*", row.split("|")[1])}
    assert named == {each.value for each in Metric}
    assert starred == BY_ROTA


def test_the_readme_says_what_all_of_it_costs() -> None:
    readme = " ".join((ROOT / "README.md").read_text().split())
    said = re.search(
        r"(\d+) alarms \(([\d.]+) \$ a month\), .*? at most (\d+) metrics, and (\d+) for each rota", readme
    )
    assert said is not None
    number = len(ALARMS)
    assert said.groups() == (str(number), f"{number * 0.10:.2f}", str(len(IN_ALL)), str(len(BY_ROTA)))
