"""The HubSpot app subscribes to what any policy needs, and to nothing that intake would not take."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairturn.intake import NAMES
from fairturn.rules.conditions import Equals, Reached
from fairturn.rules.events import EVENTS, Kind, read_event
from fairturn.rules.policy import Ignoring, IgnoringRule, Leads, Policy
from fairturn_console.hubspot import app
from fairturn_console.hubspot.app import APP, WEBHOOKS, AppUnreadable, Subscription
from fairturn_console.policy import file
from fairturn_console.template import PATH
from fairturn_sandbox.webhooks import DEFAULT_SUBSCRIPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = PATH.parent
COMMITTED = REPOSITORY / "hubspot"
URL = "https://example.com/hubspot/key"
names = st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True)
reached = st.builds(Reached, names, st.just((True,)))


def policy(leads: Leads = Leads(), *looked_at: str) -> Policy:  # noqa: B008 - it is frozen
    rules = tuple(IgnoringRule(f"by {name}", "no buyer", (Equals(name, "x"),)) for name in looked_at)
    return Policy(reps={}, rotas={}, otherwise=Ignoring("nobody is there"), leads=leads, rules=rules)


@contextmanager
def copied() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(shutil.copytree(COMMITTED, Path(folder) / "hubspot", ignore=shutil.ignore_patterns("hsprofile.*")))


@pytest.fixture
def folder() -> Iterator[Path]:
    with copied() as folder:
        yield folder


def write(folder: Path, needing: Policy, url: str = URL) -> list[str]:
    return app.write(folder, needing, profile="fairturn", portal=62515, webhook_url=url)


def content(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def change(path: Path, **config: Any) -> None:
    data = content(path)
    data["config"] |= config
    path.write_text(json.dumps(data))


def entries(folder: Path) -> list[dict[str, Any]]:
    return [each for part in content(folder / WEBHOOKS)["config"]["subscriptions"].values() for each in part]


def happened(entry: dict[str, Any]) -> dict[str, Any]:
    """An event that HubSpot sends for an entry."""
    return {
        "subscriptionType": entry["subscriptionType"],
        "portalId": 62515,
        "objectId": 5,
        "occurredAt": 1_795_396_873_667,
        **({"objectTypeId": "0-1"} if entry.get("objectType") == "contact" else {}),
        **({"primaryObjectId": 5, "mergedObjectIds": [6]} if entry["subscriptionType"].endswith("merge") else {}),
        **({"propertyName": entry["propertyName"]} if "propertyName" in entry else {}),
    }


@given(st.just("created") | reached, st.lists(reached, max_size=4))
def test_what_any_policy_needs_is_subscribed_to_and_all_of_that_is_understood(when: Any, closed: list[Reached]) -> None:
    any_policy = policy(Leads(when=when, closed=tuple(closed)))
    with copied() as folder:
        change(folder / WEBHOOKS, subscriptions={})
        write(folder, any_policy)
        written, found = entries(folder), app.subscribed(folder)
        assert app.lacking(folder, any_policy) == []
    events = [read_event(happened(entry)) for entry in written]
    kinds = [event.kind for event in events if event is not None]
    assert len(kinds) == len(written) == len(found)
    assert set(kinds) == set(EVENTS.values())
    assert {entry["subscriptionType"] for entry in written} <= NAMES
    # What a policy without rules reads of a contact is what its leads go by.
    assert {entry["propertyName"] for entry in written if "propertyName" in entry} == set(any_policy.properties())


def test_the_files_that_are_here_are_as_the_example_policy_needs_them(folder: Path) -> None:
    example = file.check(REPOSITORY / "policy.yaml").policy
    assert write(folder, example) == ["has the account and the webhook URL of the stack in hsprofile.fairturn.json"]
    for path in (APP, WEBHOOKS):
        assert (folder / path).read_text() == (COMMITTED / path).read_text()


def test_the_sandbox_subscribes_to_what_the_app_subscribes_to() -> None:
    assert {str(each).replace(" of ", " ") for each in app.subscribed(COMMITTED)} == set(DEFAULT_SUBSCRIPTIONS)


def test_nothing_of_one_account_is_in_the_files() -> None:
    assert content(COMMITTED / WEBHOOKS)["config"]["settings"]["targetUrl"] == "${WEBHOOK_URL}"
    ignored = (REPOSITORY / ".gitignore").read_text().splitlines()
    assert "hubspot/src/hsprofile.*.json" in ignored


def test_a_second_time_changes_nothing(folder: Path) -> None:
    needing = policy(Leads(when=Reached("stage", ("hot",))))
    assert "subscribes to propertyChange of stage" in write(folder, needing)
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    assert write(folder, needing) == []
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before
    assert len(before) == 4


def test_changes_of_what_the_policy_looks_at_stay_subscribed_to_and_others_do_not(folder: Path) -> None:
    write(folder, policy(Leads(closed=(Reached("country", ("x",)), Reached("stage", ("lost",))))))
    found = write(folder, policy(Leads(), "country"))
    assert found == ["no more subscribes to object.propertyChange of stage"]
    assert Subscription(Kind.PROPERTY_CHANGE, "country") in app.subscribed(folder)


def test_what_is_not_active_or_not_understood_is_written_as_fairturn_takes_it(folder: Path) -> None:
    subscriptions = {
        "crmObjects": [
            {"subscriptionType": "object.creation", "objectType": "contact", "active": False},
            {"subscriptionType": "object.creation", "objectType": "company", "active": True},
            {"subscriptionType": "object.associationChange", "objectType": "contact", "active": True},
        ],
        "legacyCrmObjects": [{"subscriptionType": "contact.deletion", "active": True}],
    }
    change(folder / WEBHOOKS, subscriptions=subscriptions, settings={"targetUrl": URL, "maxConcurrentRequests": 6})
    assert app.subscribed(folder) == {Subscription(Kind.DELETION)}
    found = write(folder, policy())
    assert "subscribes to creation" in found
    assert "subscribes to deletion" not in found
    assert found[-4:-1] == [
        "no more subscribes to object.creation of company",
        "no more subscribes to object.associationChange of contact",
        "has its target URL from the profile",
    ]
    assert app.subscribed(folder) == app.needed(policy())
    settings = content(folder / WEBHOOKS)["config"]["settings"]
    assert settings == {"targetUrl": "${WEBHOOK_URL}", "maxConcurrentRequests": 6}


def test_scopes_that_are_lacking_are_asked_for_and_those_that_somebody_added_stay(folder: Path) -> None:
    auth = {"type": "static", "requiredScopes": ["crm.objects.contacts.sensitive.read.v2", *app.SCOPES[1:]]}
    change(folder / APP, auth=auth)
    assert "asks for the scope oauth" in write(folder, policy())
    scopes = content(folder / APP)["config"]["auth"]["requiredScopes"]
    assert scopes == ["crm.objects.contacts.sensitive.read.v2", *app.SCOPES[1:], "oauth"]


def test_a_profile_keeps_what_else_is_in_it(folder: Path) -> None:
    profile = folder / "src/hsprofile.fairturn.json"
    profile.write_text(json.dumps({"accountId": 1, "variables": {"OTHER": 5, "WEBHOOK_URL": "https://old"}}))
    write(folder, policy())
    assert content(profile) == {"accountId": 62515, "variables": {"OTHER": 5, "WEBHOOK_URL": URL}}


@pytest.mark.parametrize("path", [APP, WEBHOOKS])
@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"config": {}}', '{"config": {"auth": [], "subscriptions": [5]}}'])
def test_a_file_that_is_not_the_apps_is_named_and_nothing_is_written(folder: Path, path: Path, text: str) -> None:
    (folder / path).write_text(text)
    with pytest.raises(AppUnreadable, match=path.name):
        write(folder, policy(Leads(when=Reached("stage", ("hot",)))))
    other = APP if path == WEBHOOKS else WEBHOOKS
    assert (folder / other).read_text() == (COMMITTED / other).read_text()
    assert not list(folder.rglob("hsprofile.*"))
    (folder / path).unlink()
    with pytest.raises(AppUnreadable, match=path.name):
        write(folder, policy())
