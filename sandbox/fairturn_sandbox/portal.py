"""A HubSpot portal in memory, real over HTTP: what the sandbox and the tests talk to instead of HubSpot.

It keeps owners, contacts, companies, users and property definitions, answers calls to its API (portal_api.py)
and sends webhooks about every change (webhooks.py). It remembers a while of its past (portal_past.py), because its
reads can lie. A story is told through the methods of `Portal`:
`create_contact`, `change`, `merge` and so on. Its clock is `time.time()`, its chance one seeded `Random`, and
its times are epoch milliseconds.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from threading import RLock, Thread
from typing import TYPE_CHECKING, Final

from fairturn_sandbox.portal_api import BAD_GATEWAY, TEN_SECONDLY, Fault, Lies, PortalApi
from fairturn_sandbox.portal_past import Past
from fairturn_sandbox.webhooks import DEFAULT_SUBSCRIPTIONS, WebhookRequest, Webhooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random
    from typing import Self

    from werkzeug.serving import BaseWSGIServer

    from fairturn_sandbox.portal_api import Json

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


@dataclass(slots=True)
class PortalOwner:
    """A user who can own records."""

    id: str
    email: str
    first: str
    last: str
    user: int
    archived: bool = False


@dataclass(slots=True)
class Record:
    """A contact, company or user; `owners` is the history of its owner, latest first."""

    type: str
    id: str
    properties: dict[str, str | None]
    owners: list[dict[str, str | None]] = field(default_factory=list)
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Property:
    """A property that records may have; without options, any text."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    """Internal value → label."""
    read_only: bool = False
    group: str = "contactinformation"


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a property's value is refused, in HubSpot's words."""

    property: str
    code: str
    message: str


class Portal:
    """One portal. Start it, or use it as a context manager; then its API answers at `url`."""

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
        host: str = "127.0.0.1",
    ) -> None:
        """`secret` signs the webhooks to `webhook_url`; for `subscriptions` and `generic` see `Webhooks`.

        The API answers at `host`.
        """
        self.id = id
        self.app_id = app_id
        self.token = token
        """The access token that the API takes."""
        self.lacking: set[str] = set()
        """The scopes that the token has not."""
        self.owners: dict[str, PortalOwner] = {}
        self.records: dict[str, dict[str, Record]] = {"contacts": {}, "companies": {}, "users": {}}
        self.properties: dict[str, Property] = {}
        self.groups = {"contactinformation"}
        self.calls: Counter[tuple[str, str]] = Counter()
        """How often each (method, path template) was called, failed calls included."""
        self.faults: deque[Fault] = deque()
        """What befalls the next calls, one each."""
        self.usual_faults: Sequence[Fault] = (TEN_SECONDLY, BAD_GATEWAY)
        self.fault_rate = 0.0
        """How likely one of the usual faults befalls a call, 0 to 1."""
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
        self._api = PortalApi(self)
        self._host = host
        self._server: BaseWSGIServer | None = None
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

    def add_owner(self, email: str, first: str = "", last: str = "") -> str:
        """Add an owner. Gives the owner's id."""
        with self.lock:
            owner = self._next_id()[-9:].lstrip("0")
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
        group: str = "contactinformation",
    ) -> Property:
        """Let records have this property. Options go by internal value → label; without labels, they are made up."""
        labels = options if isinstance(options, Mapping) else {each: _label(each) for each in options}
        with self.lock:
            self.properties[name] = Property(name, labels, read_only, group)
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
            record = self._new("contacts", source, at, id)
            self._announce("creation", record.id, source, at, changeFlag="CREATED")
            self.write(record, properties, source, at)
            return self._insert(record)  # at last, so that no read ever finds it without its properties

    def add_company(self, properties: Mapping[str, str]) -> str:
        """Add a company. Gives its id."""
        return self._add("companies", properties)

    def add_user(self, properties: Mapping[str, str]) -> str:
        """Add a record of the users object (0-115). Gives its id."""
        return self._add("users", properties)

    def contact(self, contact: str) -> Record:
        """The contact of this id, or the one that it was merged into. KeyError: there is none."""
        with self.lock:
            return self.records["contacts"][self._survivor(contact)]

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
            contacts = self.records["contacts"]
            other, survivor, new = contacts[merged], contacts[primary], self._next_id()
            self._remember("contacts", primary, merged, new)
            del contacts[merged], contacts[primary]
            earlier = [survivor.properties.get(MERGED_IDS), other.properties.pop(MERGED_IDS, None)]
            survivor.id = new
            contacts[survivor.id] = survivor
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
            record = self.contact(contact)
            self._remember("contacts", record.id)
            record.archived = True
            self._announce("deletion", record.id, source, at, changeFlag="DELETED")

    def restore(self, contact: str, source: str = "CRM_UI", at: int | None = None) -> None:
        """Restore a deleted contact. KeyError: it was erased, or merged into another."""
        with self.lock:
            self._remember("contacts", contact)
            self.records["contacts"][contact].archived = False
            self._announce("restore", contact, source, at)

    def privacy_delete(self, contact: str, source: str = "CRM_UI", at: int | None = None) -> None:
        """Erase a contact for good. Two events tell of it, in any order."""
        with self.lock:
            self._remember("contacts", contact)
            del self.records["contacts"][contact]
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

    @property
    def url(self) -> str:
        """Where the API of the started portal answers."""
        if self._server is None:
            raise RuntimeError("the portal is not started")
        return f"http://{self._host}:{self._server.server_port}"

    def start(self) -> None:
        """Let the API answer, on a free port."""
        self._server = self._api.serve(self._host)
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Let the API answer no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def fault(self) -> Fault:
        """What befalls the call that is being made."""
        if _now() < self._down_until:
            return BAD_GATEWAY
        if self.faults:
            return self.faults.popleft()
        return self.random.choice(self.usual_faults) if self.random.random() < self.fault_rate else Fault(None)

    def find(self, type: str, record: str, moment: float = inf) -> Record | None:  # noqa: A002
        """The record of this id, or the one that it was merged into, unless it is deleted; as it was at a moment."""
        found = self._at(type, record, moment)
        if found is None and record in self._merged:
            return self.find(type, self._merged[record], moment)
        return None if found is None or found.archived else found

    def seen(self, type: str, record: str) -> Record | None:  # noqa: A002
        """What a read finds under this id, which may be the past."""
        return self.find(type, record, self._moment())

    def listed(self, type: str) -> list[Record]:  # noqa: A002
        """All that a search finds, each by itself, which may be the past."""
        ids = dict.fromkeys([*self.records[type], *self._past.ids(type)])
        found = [self._at(type, record, self._moment()) for record in ids]
        return [record for record in found if record is not None and not record.archived]

    def is_silent(self) -> bool:
        """Whether the answer that is being made has no results at all."""
        return self._happens(self.lies.empty)

    def told(self, results: list[Json]) -> list[Json]:
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
            elif value and name == OWNER and value not in self.owners:
                flaws.append(Flaw(name, "INVALID_OWNER_ID", f"{value} was not a valid owner ID"))
            elif name == OWNER and contact in self._unownable:  # the code is not documented
                flaws.append(Flaw(name, "VALIDATION_RULE", self._unownable[contact]))
        return flaws

    def write(
        self,
        record: Record,
        properties: Mapping[str, str],
        source: str,
        at: int | None = None,
        by: str | None = None,
    ) -> None:
        """Change a record; only what becomes different is an event. `by`: as for `change`."""
        self._remember(record.type, record.id)
        moment = _iso(_now() if at is None else at)
        for name, value in properties.items():
            if (record.properties.get(name) or "") == value:
                continue
            record.properties[name] = value or None
            record.properties["lastmodifieddate"] = moment
            if name == OWNER:
                writer = by or (str(self.app_id) if source == "INTEGRATION" else None)
                change = {"value": value, "timestamp": moment, "sourceType": source, "sourceId": writer}
                record.owners.insert(0, change)
                if value:
                    record.properties["hubspot_owner_assigneddate"] = moment
            self._announce("propertyChange", record.id, source, at, by=by, propertyName=name, propertyValue=value)

    # Within ------------------------------------------------------------------------------------------------

    def _next_id(self) -> str:
        self._last_id += self.random.randint(1, 50)
        return str(self._last_id)

    def _survivor(self, record: str) -> str:
        while record in self._merged:
            record = self._merged[record]
        return record

    def _new(self, type: str, source: str, at: int | None = None, id: str | None = None) -> Record:  # noqa: A002
        moment, record = _iso(_now() if at is None else at), id or self._next_id()
        own = {
            "hs_object_id": record,
            "hs_object_source": source,
            "createdate": moment,
            "lastmodifieddate": moment,
        }
        return Record(type, record, {**own})

    def _insert(self, record: Record) -> str:
        """Let the portal have a new record from now on."""
        self._remember(record.type, record.id)
        self.records[record.type][record.id] = record
        return record.id

    def _add(self, type: str, properties: Mapping[str, str]) -> str:  # noqa: A002
        with self.lock:
            record = self._new(type, "CRM_UI")
            record.properties |= properties
            return self._insert(record)

    def _remember(self, type: str, *records: str) -> None:  # noqa: A002
        """Keep what is under these ids now, and will be no more."""
        now = _now()
        self._past.forget(now - self.lies.lag * 1_000)
        for record in records:
            self._past.keep(type, record, self.records[type].get(record), now)

    def _at(self, type: str, record: str, moment: float) -> Record | None:  # noqa: A002
        """What was under this id at a moment."""
        return self._past.at(type, record, moment, self.records[type].get(record))

    def _moment(self) -> float:
        """As of when a read shows a record; endless: as of now."""
        return _now() - self.random.uniform(0, self.lies.lag) * 1_000 if self._happens(self.lies.stale) else inf

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self.random.random() < rate  # what never happens draws no number: a seed's story stays

    def _check(self, properties: Mapping[str, str]) -> None:
        if flaws := self.flaws(properties):
            raise ValueError("; ".join(flaw.message for flaw in flaws))

    def _announce(
        self, kind: str, record: str, source: str, at: int | None, by: str | None = None, **details: object
    ) -> None:
        self.webhooks.announce(kind, record, source, _now() if at is None else at, by, **details)


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _now() -> int:
    return round(time.time() * 1_000)  # rounded, so that a clock set to a millisecond is at that millisecond


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
