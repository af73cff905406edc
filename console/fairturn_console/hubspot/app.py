"""The files of the HubSpot app: its subscriptions, its scopes, and a profile for each stack.

They lie in `hubspot/`, and `hs project upload` builds the app from them. What differs from one HubSpot account to the
next is in its profile, which is not under version control; so one repository serves every account.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fairturn.errors import FairturnError
from fairturn.rules.conditions import Reached
from fairturn.rules.events import CONTACT, EVENTS, OWNER, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fairturn.rules.policy import Policy

APP: Final = Path("src/app/app-hsmeta.json")
WEBHOOKS: Final = Path("src/app/webhooks/webhooks-hsmeta.json")
TARGET_URL: Final = "WEBHOOK_URL"
"""The variable of a profile that holds the URL of a stack's webhooks."""
SCOPES: Final = (
    "oauth",
    "crm.objects.contacts.read",
    "crm.objects.contacts.write",
    "crm.objects.owners.read",
    "crm.schemas.contacts.read",
)
"""What the app may do: HubSpot wants `oauth` of every app, and `policy apply` looks properties up."""
MEND: Final = "run this in Fairturn's repository, or take the file from there anew"


class AppUnreadable(FairturnError):
    """A file of the app can't be read; the message says which, and what to do."""


@dataclass(frozen=True, slots=True, order=True)
class Subscription:
    """One kind of event of contacts that HubSpot sends to the app."""

    kind: Kind
    property: str = ""
    """Of a change: which property's."""

    def as_json(self) -> dict[str, object]:
        """As it stands in the file."""
        if self.kind is Kind.PRIVACY_DELETION:  # the one that has no form for objects of every type
            return {"subscriptionType": f"{CONTACT}.{self.kind}", "active": True}
        name = {"propertyName": self.property} if self.property else {}
        return {"subscriptionType": f"object.{self.kind}", "objectType": CONTACT, **name, "active": True}

    def __str__(self) -> str:
        """In words, with HubSpot's name for it."""
        return f"{self.kind} of {self.property}" if self.property else self.kind.value


def needed(policy: Policy) -> frozenset[Subscription]:
    """What HubSpot must tell for a policy to be followed: all that happens to contacts, and the changes of their owner
    and of the properties that make a lead, or close one."""
    leads = policy.leads
    reached = [*leads.closed, *([leads.when] if isinstance(leads.when, Reached) else [])]
    changes = {OWNER, *(each.property for each in reached)}
    happenings = {Subscription(kind) for kind in EVENTS.values() if kind is not Kind.PROPERTY_CHANGE}
    return frozenset(happenings | {Subscription(Kind.PROPERTY_CHANGE, name) for name in changes})


def subscribed(folder: Path) -> frozenset[Subscription]:
    """What the app of this folder subscribes to, as far as Fairturn understands it. Raises AppUnreadable."""
    path = folder / WEBHOOKS
    with _in_form(path):
        found = {_understood(entry) for entry in _entries(_read(path)["config"]["subscriptions"])}
    return frozenset(each for each in found if each)


def lacking(folder: Path, policy: Policy) -> list[Subscription]:
    """What a policy needs and the app of this folder does not subscribe to. Raises AppUnreadable."""
    return sorted(needed(policy) - subscribed(folder))


def write(folder: Path, policy: Policy, *, profile: str, portal: int, webhook_url: str) -> list[str]:
    """Bring the app's files to what a policy and a stack need. Returns what has changed, in words.

    Subscriptions to changes of what the policy only looks at stay, and so do scopes that somebody has added. Raises
    AppUnreadable, before anything is written.
    """
    app, webhooks, own = folder / APP, folder / WEBHOOKS, folder / f"src/hsprofile.{profile}.json"
    contents = {app: _read(app), webhooks: _read(webhooks), own: _read(own) if own.exists() else {}}
    with _in_form(webhooks):
        found = list(_subscribe(contents[webhooks]["config"], policy))
    with _in_form(app):
        found += _ask_for_scopes(contents[app]["config"]["auth"])
    with _in_form(own):
        found += _set_profile(contents[own], own.name, portal, webhook_url)
    for path, content in contents.items():
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    return found


def _subscribe(config: dict[str, Any], policy: Policy) -> Iterator[str]:
    subscriptions, looked_at = config["subscriptions"], policy.properties()
    before = {_understood(entry) for entry in _entries(subscriptions)} - {None}
    wanted = needed(policy) | {each for each in before if each and each.property in looked_at}
    erasure = Subscription(Kind.PRIVACY_DELETION)
    config["subscriptions"] = {
        "crmObjects": [each.as_json() for each in sorted(wanted - {erasure})],
        "hubEvents": [erasure.as_json()],
    }
    yield from (f"subscribes to {each}" for each in sorted(wanted - before))
    for entry in _entries(subscriptions):
        if _understood(entry) not in wanted:
            of = entry.get("propertyName") or entry.get("objectType")
            yield f"no more subscribes to {entry['subscriptionType']}{f' of {of}' if of else ''}"
    if config["settings"]["targetUrl"] != f"${{{TARGET_URL}}}":
        config["settings"]["targetUrl"] = f"${{{TARGET_URL}}}"
        yield "has its target URL from the profile"


def _ask_for_scopes(auth: dict[str, Any]) -> Iterator[str]:
    missing = [scope for scope in SCOPES if scope not in auth["requiredScopes"]]
    auth["requiredScopes"] += missing
    yield from (f"asks for the scope {scope}" for scope in missing)


def _set_profile(content: dict[str, Any], name: str, portal: int, webhook_url: str) -> Iterator[str]:
    variables = {**content.get("variables", {}), TARGET_URL: webhook_url}
    if (content.get("accountId"), content.get("variables")) != (portal, variables):
        content |= {"accountId": portal, "variables": variables}
        yield f"has the account and the webhook URL of the stack in {name}"


def _entries(subscriptions: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for entries in subscriptions.values():
        yield from (entry for entry in entries if entry.get("active", True))


def _understood(entry: dict[str, Any]) -> Subscription | None:
    """An entry as Fairturn understands it; None if it tells nothing of contacts that intake would take."""
    noun, _, verb = entry["subscriptionType"].partition(".")
    of_contacts = noun == CONTACT or (noun == "object" and entry.get("objectType") == CONTACT)
    return Subscription(EVENTS[verb], entry.get("propertyName", "")) if of_contacts and verb in EVENTS else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AppUnreadable(f"{path} can't be read ({type(error).__name__}): {MEND}") from error
    return content


@contextmanager
def _in_form(path: Path) -> Iterator[None]:
    """Raises AppUnreadable where a file has not what files of its kind have."""
    try:
        yield
    except (AttributeError, KeyError, TypeError) as error:
        raise AppUnreadable(f"{path} is not in the form of HubSpot's projects: {MEND}") from error
