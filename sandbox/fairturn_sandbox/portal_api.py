"""The API of the HubSpot simulator: the calls that Fairturn makes, in HubSpot's forms, over HTTP.

Refusals have HubSpot's forms too: 400 for a whole batch, 207 with errors, 401. What else may be wrong with an answer is
in faults.py.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from datetime import datetime
from threading import Thread
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from flask import Flask, Response, jsonify, request
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fairturn_sandbox.portal import Portal
    from fairturn_sandbox.records import Contact, Flaw, Property

Json = dict[str, Any]
Answer = tuple[Json, int]

BATCH_LIMIT: Final = 100
HISTORY_LIMIT: Final = 50
SEARCH_LIMIT: Final = 200
SEARCH_CAP: Final = 10_000
OWNERS_LIMIT: Final = 500
SCOPES: Final = {
    ("POST", "read"): "crm.objects.contacts.read",
    ("POST", "search"): "crm.objects.contacts.read",
    ("POST", "update"): "crm.objects.contacts.write",
    ("GET", "owners"): "crm.objects.owners.read",
    ("GET", "contacts"): "crm.schemas.contacts.read",
    ("GET", "groups"): "crm.schemas.contacts.read",
    ("POST", "contacts"): "crm.schemas.contacts.write",
    ("POST", "groups"): "crm.schemas.contacts.write",
}
"""Method and last word of the path → the scope that the call needs."""
FIELD_TYPES: Final = {"string": ("text", "textarea"), "enumeration": ("select", "radio"), "datetime": ("date",)}
"""The types that properties may have here → how they may be shown, the usual way first."""
ALWAYS_READ: Final = ("hs_object_id", "createdate", "lastmodifieddate")


class RefusedError(Exception):
    """The API refuses a call; `body` is HubSpot's JSON."""

    def __init__(self, status: int, category: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"status": "error", "category": category, "message": message, **more}


@contextmanager
def served(portal: Portal, host: str = "127.0.0.1") -> Iterator[Portal]:
    """Let the portal's API answer on a free port of `host`."""
    server = make_server(host, 0, PortalApi(portal).web, threaded=True, request_handler=_QuietHandler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    portal.url = f"http://{host}:{server.server_port}"
    try:
        yield portal
    finally:
        portal.url = ""
        server.shutdown()
        server.server_close()


class PortalApi:
    """One portal's API, as a WSGI application."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self.web = Flask("portal")
        self.web.before_request(self._before)
        self.web.register_error_handler(RefusedError, self._refuse)
        for method, path, view in (
            ("POST", "/crm/v3/objects/contacts/batch/read", self._batch_read),
            ("POST", "/crm/v3/objects/contacts/batch/update", self._batch_update),
            ("POST", "/crm/v3/objects/contacts/search", self._search),
            ("GET", "/crm/v3/owners", self._owners),
            ("GET", "/crm/v3/properties/contacts", self._properties),
            ("POST", "/crm/v3/properties/contacts", self._create_property),
            ("GET", "/crm/v3/properties/contacts/groups", self._groups),
            ("POST", "/crm/v3/properties/contacts/groups", self._create_group),
        ):
            answer = self._answering(view)
            self.web.add_url_rule(path, f"{method} {path}", answer, methods=[method], strict_slashes=False)

    def _answering(self, view: Callable[[], Answer]) -> Callable[[], tuple[Response, int]]:
        def answer() -> tuple[Response, int]:
            with self._portal.lock:
                body, status = view()
                return jsonify(body), status

        return answer

    def _before(self) -> Response | None:
        """Count the call; then it may have a fault, or its token be refused."""
        portal = self._portal
        with portal.lock:
            portal.calls[request.method, request.url_rule.rule if request.url_rule else request.path] += 1
            fault = portal.fault()
        time.sleep(fault.delay)
        if fault.status is not None:
            return Response(fault.body, fault.status, dict(fault.headers))
        if request.headers.get("Authorization") != f"Bearer {portal.token}":
            raise RefusedError(401, "INVALID_AUTHENTICATION", "The access token is not valid.")
        scope = SCOPES.get((request.method, request.path.rstrip("/").rpartition("/")[2]))
        if scope in portal.lacking:
            context = {"requiredGranularScopes": [scope]}
            errors = [{"message": "The app lacks a scope.", "context": context}]
            raise RefusedError(403, "MISSING_SCOPES", "The app lacks a scope.", errors=errors)
        return None

    def _refuse(self, refused: RefusedError) -> tuple[Response, int]:
        with self._portal.lock:
            trace = UUID(int=self._portal.random.getrandbits(128))
        return jsonify({**refused.body, "correlationId": str(trace)}), refused.status

    def _batch_read(self) -> Answer:
        body = _body()
        found: dict[str, Contact] = {}
        missing: list[str] = []
        inputs = _inputs(body, HISTORY_LIMIT if body.get("propertiesWithHistory") else BATCH_LIMIT)
        if self._portal.loses_all():
            return _batch([], [])
        for wanted in inputs:
            contact = self._portal.seen(wanted["id"])
            if contact is None:
                missing.append(wanted["id"])
            else:
                found[contact.id] = contact
        errors = [_not_found({"ids": missing})] if missing else []
        return _batch(self._portal.without_lost([_shown(contact, body) for contact in found.values()]), errors)

    def _batch_update(self) -> Answer:
        portal, inputs = self._portal, _inputs(_body())
        meanwhile, portal.before_update = portal.before_update, None
        if meanwhile is not None:
            meanwhile()
        if len({write["id"] for write in inputs}) < len(inputs):
            raise RefusedError(400, "VALIDATION_ERROR", "Duplicate IDs found in batch input")
        flaws = {write["id"]: portal.flaws(write["properties"], write["id"]) for write in inputs}
        traced = all("objectWriteTraceId" in write for write in inputs)
        if any(flaws.values()) and not (portal.judges_each and traced):
            raise _invalid([flaw for each in flaws.values() for flaw in each])
        results: list[Json] = []
        errors: list[Json] = []
        for write in inputs:
            trace = write.get("objectWriteTraceId")
            context = {"objectWriteTraceId": [trace]} if trace else {"ids": [write["id"]]}
            contact = portal.find(write["id"])
            if contact is None or contact.id != write["id"]:  # ids of merged contacts work everywhere but here
                errors.append(_not_found(context))
            elif flaws[contact.id]:
                errors.append({**_invalid(flaws[contact.id]).body, "context": context})
            else:
                portal.write(contact, write["properties"], "INTEGRATION")
                results.append(_shown(contact, {"properties": list(write["properties"])}))
        return _batch(results, errors)

    def _search(self) -> Answer:
        body = _body()
        limit, after = int(body.get("limit", 10)), int(body.get("after", 0))
        if limit > SEARCH_LIMIT or after + limit > SEARCH_CAP:
            raise RefusedError(400, "VALIDATION_ERROR", "A search gives 200 results at once, and 10,000 in all.")
        groups = body.get("filterGroups") or [{"filters": []}]
        matches = [
            contact
            for contact in self._portal.all_seen()
            if any(all(_matches(contact.properties, each) for each in group["filters"]) for group in groups)
        ]
        for sort in body.get("sorts", [])[:1]:
            if sort.get("direction", "ASCENDING") != "ASCENDING":
                raise RefusedError(400, "VALIDATION_ERROR", "The simulator sorts in ascending order only.")
            matches.sort(key=lambda contact: _ordered(contact.properties.get(sort["propertyName"]) or ""))
        page = [_shown(contact, body) for contact in matches[after : after + limit]]
        results = self._portal.without_lost(page)
        total = len(matches) - len(page) + len(results)  # it counts nothing that the page lacks
        return {"total": total, "results": results, **_paging(after + limit, len(matches))}, 200

    def _owners(self) -> Answer:
        archived = request.args.get("archived", "false").lower() == "true"
        limit, after = int(request.args.get("limit", 100)), int(request.args.get("after", 0))
        if limit > OWNERS_LIMIT:
            raise RefusedError(400, "VALIDATION_ERROR", "A page has 500 owners at most.")
        if self._portal.loses_all():
            return {"results": []}, 200
        owners = [owner for owner in self._portal.owners.values() if owner.archived == archived]
        page = [
            {
                "id": owner.id,
                "email": owner.email,
                "type": "PERSON",
                "firstName": owner.first,
                "lastName": owner.last,
                "userId": None if archived else owner.user,
                "userIdIncludingInactive": owner.user,
                "archived": archived,
            }
            for owner in owners[after : after + limit]
        ]
        return {"results": self._portal.without_lost(page), **_paging(after + limit, len(owners))}, 200

    def _properties(self) -> Answer:
        return {"results": [_defined(each) for each in self._portal.properties.values()]}, 200

    def _create_property(self) -> Answer:
        body = _body()
        name, group, options = body["name"], body["groupName"], body.get("options", [])
        if name in self._portal.properties:
            raise RefusedError(409, "CONFLICT", f"There is a property named {name} already.")
        if group not in self._portal.property_groups:
            raise RefusedError(400, "VALIDATION_ERROR", f"There is no group named {group}.")
        if body["fieldType"] not in FIELD_TYPES[body["type"]]:
            raise RefusedError(400, "VALIDATION_ERROR", "The field type does not fit the type.")
        made = self._portal.define_property(
            name,
            options={option["value"]: option["label"] for option in options},
            type=body["type"],
            label=body["label"],
            group=group,
        )
        return _defined(made), 201

    def _groups(self) -> Answer:
        return {"results": [_group(*each) for each in self._portal.property_groups.items()]}, 200

    def _create_group(self) -> Answer:
        name, label = _body()["name"], _body()["label"]
        if name in self._portal.property_groups:
            raise RefusedError(409, "CONFLICT", f"There is a group named {name} already.")
        self._portal.property_groups[name] = label
        return _group(name, label), 201


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        pass


def _body() -> Json:
    body: Json = request.get_json()
    return body


def _inputs(body: Json, limit: int = BATCH_LIMIT) -> list[Json]:
    inputs = [{**each, "id": str(each["id"])} for each in body["inputs"]]
    if not 1 <= len(inputs) <= limit or not all(each["id"].isdecimal() for each in inputs):
        raise RefusedError(400, "VALIDATION_ERROR", f"A batch has 1 to {limit} inputs here, whose ids are numbers.")
    return inputs


def _batch(results: list[Json], errors: list[Json]) -> Answer:
    body: Json = {"status": "COMPLETE", "results": results}
    return ({**body, "numErrors": len(errors), "errors": errors}, 207) if errors else (body, 200)


def _paging(end: int, total: int) -> Json:
    return {"paging": {"next": {"after": str(end)}}} if end < total else {}


def _shown(contact: Contact, asked: Json) -> Json:
    names = (*ALWAYS_READ, *asked.get("properties", ()))
    history = {"hubspot_owner_id": contact.owners} if asked.get("propertiesWithHistory") else None
    return {
        "id": contact.id,
        "properties": {name: contact.properties.get(name) for name in names},
        **({"propertiesWithHistory": history} if history else {}),
        "createdAt": contact.properties["createdate"],
        "updatedAt": contact.properties["lastmodifieddate"],
        "archived": contact.archived,
    }


def _not_found(context: Json) -> Json:
    message = "Some of the records do not exist or are deleted."
    return {"status": "error", "category": "OBJECT_NOT_FOUND", "message": message, "context": context}


def _invalid(flaws: list[Flaw]) -> RefusedError:
    """HubSpot tells each flaw twice: as JSON within the message, and among the errors."""
    details = [{"isValid": False, "message": flaw.message, "error": flaw.code, "name": flaw.property} for flaw in flaws]
    errors = [
        {"message": flaw.message, "code": flaw.code, "context": {"propertyName": [flaw.property]}} for flaw in flaws
    ]
    message = f"Property values were not valid: {json.dumps(details, separators=(',', ':'))}"
    return RefusedError(400, "VALIDATION_ERROR", message, errors=errors)


def _defined(definition: Property) -> Json:
    is_owner = definition.name == "hubspot_owner_id"  # its options are the owners, and are not listed here
    options = [
        {"label": label, "value": value, "displayOrder": place, "hidden": False}
        for place, (value, label) in enumerate(definition.options.items())
    ]
    return {
        "name": definition.name,
        "label": definition.label,
        "groupName": definition.group,
        "type": definition.type,
        "fieldType": FIELD_TYPES[definition.type][0],
        "options": options,
        "externalOptions": is_owner,
        **({"referencedObjectType": "OWNER"} if is_owner else {}),
        "hasUniqueValue": False,
        "modificationMetadata": {"readOnlyValue": definition.read_only},
    }


def _group(name: str, label: str) -> Json:
    return {"name": name, "label": label, "displayOrder": -1, "archived": False}


def _ordered(value: str) -> tuple[int, float, str]:
    """Numbers and times come before texts, each in their own order."""
    for number in (float, lambda text: datetime.fromisoformat(text).timestamp() * 1_000):
        try:
            return 0, number(value), ""
        except ValueError:
            continue
    return 1, 0.0, value.lower()


def _matches(properties: Mapping[str, str | None], asked: Json) -> bool:
    value, operator = properties.get(asked["propertyName"]), asked["operator"]
    if not value:
        return False
    present, wanted = _ordered(value), [_ordered(each) for each in asked.get("values") or [asked["value"]]]
    if operator in ("EQ", "IN"):
        return present in wanted
    if operator in ("GT", "GTE"):
        return present > wanted[0] or (operator == "GTE" and present == wanted[0])
    raise RefusedError(400, "VALIDATION_ERROR", "The simulator has no such operator.")
