"""A HubSpot portal in memory: what the sandbox and the tests have instead of HubSpot.

It keeps owners, contacts and property definitions (records.py) and sends webhooks about every change (webhooks.py). Its
API is served by portal_api.py. It remembers a while of its past (portal_past.py), because its reads can lie
(faults.py). A story is told through the methods of `Portal`: `create_contact`, `change`, `merge` and so on. Its clock
is `time.time()`, its chance one seeded `Random`, and its times are epoch milliseconds.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from datetime import UTC, datetime
from math import inf
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from fairturn_sandbox.faults import BAD_GATEWAY, TEN_SECONDLY, Fault, Lies
from fairturn_sandbox.portal_past import Past
from fairturn_sandbox.records import Contact, Flaw, PortalOwner, Property
from fairturn_sandbox.webhooks import DEFAULT_SUBSCRIPTIONS, WebhookRequest, Webhooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

OWNER: Final = "hubspot_owner_id"
MERGED_IDS: Final = "hs_merged_object_ids"
PROPERTIES: Final = """
    annualrevenue associatedcompanyid city company country email firstname hs_analytics_source hs_language
    hs_latest_source hs_lead_status hubspot_owner_id hubspotscore industry jobtitle lastname lifecyclestage
    message mobilephone numemployees phone seats state website zip
""".split()  # noqa: SIM905 - a list of words
READ_ONLY: Final = """
    createdate hs_email_domain hs_is_unworked hs_merged_object_ids hs_object_id hs_object_source
    hubspot_owner_assigneddate ip_country_code lastmodifieddate notes_last_contacted
""".split()  # noqa: SIM905
LEAD_STATUSES: Final = """
    NEW OPEN IN_PROGRESS OPEN_DEAL UNQUALIFIED ATTEMPTED_TO_CONTACT CONNECTED BAD_TIMING
""".split()  # noqa: SIM905


class Portal:
    """One portal. While `portal_api.served` serves it, its API answers at `url`."""

    def __init__(
        self,
        random: Random,
        *,
        token: str,
        secret: str,
        webhook_url: str,
        id: int = 62515,  # noqa: A002 - HubSpot's word
        app_id: int = 54321,
        subscriptions: Iterable[str] = DEFAULT_SUBSCRIPTIONS,
        generic: bool = False,
    ) -> None:
        """`secret` signs the webhooks to `webhook_url`; for `subscriptions` and `generic` see `Webhooks`."""
        self.id = id
        self.app_id = app_id
        self.url = ""
        """Where its API answers; empty while it is not served."""
        self.token = token
        """The access token that the API takes."""
        self.lacking: set[str] = set()
        """The scopes that the token has not."""
        self.owners: dict[str, PortalOwner] = {}
        self.contacts: dict[str, Contact] = {}
        self.properties: dict[str, Property] = {}
        self.property_groups: dict[str, str] = {"contactinformation": "Contact information"}
        """The groups of properties: name → label."""
        self.calls: Counter[tuple[str, str]] = Counter()
        """How often each (method, path template) was called, failed calls included."""
        self.faults: deque[Fault] = deque()
        """What happens to the next calls, one each."""
        self.usual_faults: Sequence[Fault] = (TEN_SECONDLY, BAD_GATEWAY)
        self.fault_rate = 0.0
        """How likely a call has one of the usual faults, 0 to 1."""
        self.lies = Lies()
        """How the answers to reads may be wrong; a longer lag counts for what happens from now on."""
        self.judges_each = False
        """Whether a batch update of writes with trace ids does what is valid (207), or nothing (400)."""
        self.before_update: Callable[[], None] | None = None
        """Called once, when the next batch update comes, before it takes effect: what happens just then."""
        self.random = random
        self.lock = RLock()
        self.webhooks = Webhooks(
            random,
            url=webhook_url,
            secret=secret,
            portal_id=id,
            app_id=app_id,
            subscriptions=subscriptions,
            generic=generic,
        )
        self._past = Past()
        self._merged: dict[str, str] = {}
        self._down_until = 0
        self._unownable: dict[str, str] = {}
        self._last_id = 500_000_000_000 + random.randrange(1_000_000_000)
        for name in PROPERTIES:
            self.define_property(name, options=LEAD_STATUSES if name == "hs_lead_status" else ())
        for name in READ_ONLY:
            self.define_property(name, read_only=True)

    # The story ---------------------------------------------------------------------------------------------

    def add_owner(self, email: str, first: str = "", last: str = "", id: str | None = None) -> str:  # noqa: A002
        """Add an owner. Gives the owner's id, the given one or the next."""
        with self.lock:
            owner = id or self._next_id()[-9:].lstrip("0")
            self.owners[owner] = PortalOwner(owner, email, first, last, self.random.randrange(10**7, 10**8))
            return owner

    def deactivate_owner(self, owner: str) -> None:
        """Deactivate the owner's user: archived from now on, the records unchanged."""
        with self.lock:
            self.owners[owner].archived = True

    def define_property(
        self,
        name: str,
        *,
        options: Iterable[str] | Mapping[str, str] = (),
        read_only: bool = False,
        type: str = "",  # noqa: A002 - HubSpot's word
        label: str = "",
        group: str = "contactinformation",
    ) -> Property:
        """Let contacts have this property. Options go by internal value → label; without labels, they are made up.

        Without a type, it is a choice if it has options, else any text. KeyError: there is no such group.
        """
        labels = options if isinstance(options, Mapping) else {each: _label(each) for each in options}
        with self.lock:
            self.property_groups[group]
            kind = type or ("enumeration" if labels or name == OWNER else "string")
            self.properties[name] = Property(name, labels, read_only, kind, label or _label(name), group)
            return self.properties[name]

    def create_contact(
        self,
        properties: Mapping[str, str],
        source: str = "FORM",
        at: int | None = None,
        id: str | None = None,  # noqa: A002 - HubSpot's word
    ) -> str:
        """Create a contact. Gives its id, the given one or the next. ValueError: the API would refuse these values."""
        with self.lock:
            self._check(properties)
            moment, made = _iso(_now() if at is None else at), id or self._next_id()
            own = {
                "hs_object_id": made,
                "hs_object_source": source,
                "createdate": moment,
                "lastmodifieddate": moment,
            }
            contact = Contact(made, {**own})
            self._announce("creation", made, source, at, changeFlag="CREATED")
            self.write(contact, properties, source, at)
            self._remember(made)
            self.contacts[made] = contact  # at last, so that no read ever finds it without its properties
            return made

    def contact(self, contact: str) -> Contact:
        """The contact of this id, or the one that it was merged into. KeyError: there is none."""
        with self.lock:
            return self.contacts[self._survivor(contact)]

    def change(
        self,
        contact: str,
        properties: Mapping[str, str],
        source: str = "CRM_UI",
        at: int | None = None,
        by: str | None = None,
    ) -> None:
        """Change a contact; an empty text clears a property. ValueError: the API would refuse that.

        `by` is the sourceId, such as `workflowId:77`; without it, an INTEGRATION is our own app.
        """
        with self.lock:
            self._check(properties)
            self.write(self.contact(contact), properties, source, at, by)

    def merge(self, primary: str, merged: str, source: str = "CRM_UI", at: int | None = None) -> str:
        """Merge the second contact into the first. Gives the survivor's id, which is new.

        The survivor keeps all that the first one had, its owner too, and has the rest from the second.
        """
        with self.lock:
            other, survivor, new = self.contacts[merged], self.contacts[primary], self._next_id()
            self._remember(primary, merged, new)
            del self.contacts[merged], self.contacts[primary]
            earlier = [survivor.properties.get(MERGED_IDS), other.properties.pop(MERGED_IDS, None)]
            survivor.id = new
            self.contacts[new] = survivor
            self._merged |= {primary: survivor.id, merged: survivor.id}
            moved = {
                name: value for name, value in other.properties.items() if value and not survivor.properties.get(name)
            }
            merged_ids = ";".join(filter(None, [*earlier, primary, merged]))
            survivor.properties |= moved | {"hs_object_id": survivor.id, MERGED_IDS: merged_ids}
            self._announce(
                "merge",
                primary,
                source,
                at,
                primaryObjectId=int(primary),
                mergedObjectIds=[int(merged)],
                newObjectId=int(survivor.id),
                numberOfPropertiesMoved=len(moved),
            )
            return survivor.id

    def delete(self, contact: str, source: str = "CRM_UI", at: int | None = None) -> None:
        """Delete a contact; it can be restored."""
        with self.lock:
            found = self.contact(contact)
            self._remember(found.id)
            found.archived = True
            self._announce("deletion", found.id, source, at, changeFlag="DELETED")

    def restore(self, contact: str, source: str = "CRM_UI", at: int | None = None) -> None:
        """Restore a deleted contact. KeyError: it was erased, or merged into another."""
        with self.lock:
            self._remember(contact)
            self.contacts[contact].archived = False
            self._announce("restore", contact, source, at)

    def privacy_delete(self, contact: str, source: str = "CRM_UI", at: int | None = None) -> None:
        """Erase a contact for good. Two events tell of it, in any order."""
        with self.lock:
            self._remember(contact)
            del self.contacts[contact]
            self._announce("privacyDeletion", contact, source, at)
            self._announce("deletion", contact, source, at, changeFlag="DELETED")

    def refuse_owners(self, contact: str, message: str) -> None:
        """Let a validation rule of the portal's administrator refuse every owner for this contact."""
        with self.lock:
            self._unownable[contact] = message

    def allow_owners(self, contact: str) -> None:
        """Lift that rule for this contact. KeyError: there is none."""
        with self.lock:
            del self._unownable[contact]

    def down(self, until: int) -> None:
        """Let every call to the API fail until then."""
        with self.lock:
            self._down_until = until

    # Webhooks ----------------------------------------------------------------------------------------------

    def next_delivery(self) -> int | None:
        """When the next webhook is due; None: nothing is left to deliver."""
        with self.lock:
            return self.webhooks.next_due()

    def deliver(self, post: Callable[[WebhookRequest], int]) -> int:
        """Send all that is due by now; `post` gives the receiver's status. Gives the number of requests."""
        with self.lock:
            sendings = self.webhooks.due(_now())
        for sending in sendings:
            status = post(self.webhooks.request(sending, _now()))
            with self.lock:
                self.webhooks.answered(sending, status, _now())
        return len(sendings)

    # The API -----------------------------------------------------------------------------------------------

    def fault(self) -> Fault:
        """What happens to the call that is being made."""
        if _now() < self._down_until:
            return BAD_GATEWAY
        if self.faults:
            return self.faults.popleft()
        return self.random.choice(self.usual_faults) if self.random.random() < self.fault_rate else Fault(None)

    def find(self, contact: str, moment: float = inf) -> Contact | None:
        """The contact of this id, or the one that it was merged into, unless it is deleted; as it was at a moment."""
        found = self._at(contact, moment)
        if found is None and contact in self._merged:
            return self.find(self._merged[contact], moment)
        return None if found is None or found.archived else found

    def seen(self, contact: str) -> Contact | None:
        """What a read finds under this id, which may be the past."""
        return self.find(contact, self._moment())

    def all_seen(self) -> list[Contact]:
        """All that a search finds, each by itself, which may be the past."""
        ids = dict.fromkeys([*self.contacts, *self._past.ids()])
        found = [self._at(contact, self._moment()) for contact in ids]
        return [contact for contact in found if contact is not None and not contact.archived]

    def loses_all(self) -> bool:
        """Whether the answer that is being made has no results at all."""
        return self._happens(self.lies.empty)

    def without_lost(self, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the answer that is being made has of these results."""
        if not results or not self._happens(self.lies.partial):
            return results
        number = self.random.randint(1, len(results) - 1 or 1)
        lost = {*self.random.sample(range(len(results)), number)}
        return [result for place, result in enumerate(results) if place not in lost]

    def flaws(self, properties: Mapping[str, str], contact: str = "") -> list[Flaw]:
        """Why these values would be refused. An archived owner is not among the reasons."""
        flaws = []
        for name, value in properties.items():
            defined = self.properties.get(name)
            if defined is None:
                flaws.append(Flaw(name, "PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist'))
            elif defined.read_only:
                flaws.append(Flaw(name, "READ_ONLY_VALUE", f'"{name}" is a read only property'))
            elif value and defined.options and value not in defined.options:
                flaws.append(Flaw(name, "INVALID_OPTION", f"{value} was not one of the allowed options"))
            elif value and defined.type == "datetime" and not _is_time(value):
                flaws.append(Flaw(name, "INVALID_DATE", f"{value} was not a valid date"))
            elif value and name == OWNER and value not in self.owners:
                flaws.append(Flaw(name, "INVALID_OWNER_ID", f"{value} was not a valid owner ID"))
            elif name == OWNER and contact in self._unownable:  # the code is not documented
                flaws.append(Flaw(name, "VALIDATION_RULE", self._unownable[contact]))
        return flaws

    def write(
        self,
        contact: Contact,
        properties: Mapping[str, str],
        source: str,
        at: int | None = None,
        by: str | None = None,
    ) -> None:
        """Change a contact; only what becomes different is an event. `by`: as for `change`."""
        self._remember(contact.id)
        moment = _iso(_now() if at is None else at)
        for name, value in properties.items():
            if (contact.properties.get(name) or "") == value:
                continue
            contact.properties[name] = value or None
            contact.properties["lastmodifieddate"] = moment
            if name == OWNER:
                writer = by or (str(self.app_id) if source == "INTEGRATION" else None)
                change = {"value": value, "timestamp": moment, "sourceType": source, "sourceId": writer}
                contact.owners.insert(0, change)
                if value:
                    contact.properties["hubspot_owner_assigneddate"] = moment
            self._announce("propertyChange", contact.id, source, at, by=by, propertyName=name, propertyValue=value)

    # Within ------------------------------------------------------------------------------------------------

    def _next_id(self) -> str:
        self._last_id += self.random.randint(1, 50)
        return str(self._last_id)

    def _survivor(self, contact: str) -> str:
        while contact in self._merged:
            contact = self._merged[contact]
        return contact

    def _remember(self, *contacts: str) -> None:
        """Keep what is under these ids now, and will be no more."""
        now = _now()
        self._past.forget(now - self.lies.lag * 1_000)
        for contact in contacts:
            self._past.keep(contact, self.contacts.get(contact), now)

    def _at(self, contact: str, moment: float) -> Contact | None:
        """What was under this id at a moment."""
        return self._past.at(contact, moment, self.contacts.get(contact))

    def _moment(self) -> float:
        """As of when a read shows a contact; endless: as of now."""
        return _now() - self.random.uniform(0, self.lies.lag) * 1_000 if self._happens(self.lies.stale) else inf

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self.random.random() < rate  # what never happens draws no number: a seed's story stays

    def _check(self, properties: Mapping[str, str]) -> None:
        if flaws := self.flaws(properties):
            raise ValueError("; ".join(flaw.message for flaw in flaws))

    def _announce(
        self, kind: str, contact: str, source: str, at: int | None, by: str | None = None, **details: object
    ) -> None:
        self.webhooks.announce(kind, contact, source, _now() if at is None else at, by, **details)


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _is_time(value: str) -> bool:
    try:
        return value.isdecimal() or datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _now() -> int:
    return round(time.time() * 1_000)  # rounded, so that a clock set to a millisecond is at that millisecond


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
