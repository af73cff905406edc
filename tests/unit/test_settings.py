"""The environment of a function, as the template sets it, or not."""

from __future__ import annotations

import pytest

from fairturn.settings import Settings

WHOLE = {
    "TABLE_NAME": "table",
    "LEADS_QUEUE_URL": "https://queues/leads",
    "BULK_QUEUE_URL": "https://queues/bulk",
    "CHANGES_QUEUE_URL": "https://queues/changes",
    "LEADS_DEAD_LETTERS_URL": "https://queues/dead-leads",
    "CHANGES_DEAD_LETTERS_URL": "https://queues/dead-changes",
    "WEBHOOK_URL": "https://example.com/hubspot/key",
    "WEBHOOK_SECRET_ARN": "arn:webhook",
    "HUBSPOT_TOKEN_ARN": "arn:token",
    "HUBSPOT_PORTAL_ID": "62515",
    "PATH": "/usr/bin",
}


def test_every_variable_finds_its_place() -> None:
    assert Settings.read(WHOLE) == Settings(
        table="table",
        leads_queue="https://queues/leads",
        bulk_queue="https://queues/bulk",
        changes_queue="https://queues/changes",
        leads_dead_letters="https://queues/dead-leads",
        changes_dead_letters="https://queues/dead-changes",
        webhook_url="https://example.com/hubspot/key",
        webhook_secret="arn:webhook",
        token_secret="arn:token",
        portal=62515,
        journal_days=400,
        hubspot_url="https://api.hubapi.com",
    )
    assert Settings.read({**WHOLE, "JOURNAL_DAYS": "150"}).journal_days == 150
    assert Settings.read({**WHOLE, "HUBSPOT_API_URL": "http://127.0.0.1:1"}).hubspot_url == "http://127.0.0.1:1"


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"TABLE_NAME.*HUBSPOT_PORTAL_ID$"):
        Settings.read({})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("TABLE_NAME", ""),
        ("WEBHOOK_URL", "http://example.com"),
        ("HUBSPOT_PORTAL_ID", "0"),
        ("HUBSPOT_PORTAL_ID", "-1"),
        ("HUBSPOT_PORTAL_ID", "my portal"),
        ("JOURNAL_DAYS", "0"),
        ("JOURNAL_DAYS", "for ever"),
        ("HUBSPOT_API_URL", ""),
        ("HUBSPOT_API_URL", "api.hubapi.com"),
    ],
)
def test_what_cannot_be_right_is_named(variable: str, text: str) -> None:
    with pytest.raises(ValueError, match=f": {variable}$"):
        Settings.read({**WHOLE, variable: text})
