"""The API side of the HubSpot simulator: the calls that Fairturn makes, in HubSpot's own forms, over HTTP.

Refusals have HubSpot's forms too: 400 for a whole batch, 207 with errors, 401, 409. What happens on a bad day
(429, a gateway's 502, a late answer) is a `Fault`. How far the answer to a read is from the truth, on any day, is
said by `Lies`; writes always meet the truth.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from flask import Flask, Response, jsonify, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fairturn_sandbox.portal import Flaw, Portal, Property, Record

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
}
"""Method and last word of the path → the scope that the call needs."""
ALWAYS_READ: Final = ("hs_object_id", "createdate", "lastmodifieddate")


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls one call: an answer that isn't the portal's, or (`status` None) the right one, late."""

    status: int | None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    """Seconds, real ones."""


def _limit(policy: str) -> Fault:
    body = {
        "status": "error",
        "message": f"You have reached your {policy.lower()} limit.",
        "errorType": "RATE_LIMIT",
        "policyName": policy,
    }
    return Fault(429, json.dumps(body).encode(), {"content-type": "application/json"})


TEN_SECONDLY: Final = _limit("TEN_SECONDLY_ROLLING")
SECONDLY: Final = _limit("SECONDLY")
DAILY: Final = _limit("DAILY")
BAD_GATEWAY: Final = Fault(502, b"<html><title>502 Bad Gateway</title></html>", {"content-type": "text/html"})


def slow(seconds: float) -> Fault:
    """The right answer, late."""
    return Fault(None, delay=seconds)


@dataclass(frozen=True, slots=True)
class Lies:
    """How the answers to reads may be wrong, although they look right. By default they are never wrong."""

    stale: float = 0.0
    """How likely a record of a read is shown as it was at a moment within the lag, 0 to 1."""
    lag: float = 15.0
    """How long ago that moment is at most, in seconds."""
    empty: float = 0.0
    """How likely the answer to a batch read, or a page of owners, is a 200 without results, 0 to 1."""
    partial: float = 0.0
    """How likely an answer lacks some of its results, without a word of them, 0 to 1."""


AS_HUBSPOT_DOES: Final = Lies(stale=0.2, empty=0.01, partial=0.02)


class RefusedError(Exception):
    """The API refuses a call; `body` is HubSpot's JSON."""

    def __init__(self, status: int, category: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"status": "error", "category": category, "message": message, **more}


class PortalApi:
    """One portal's API. `serve` makes it answer on a free port."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._web = Flask("portal")
        self._web.before_request(self._befall)
        self._web.register_error_handler(RefusedError, self._refuse)
        for method, path, view in (
            ("POST", "/crm/v3/objects/<type>/batch/read", self._batch_read),
            ("POST", "/crm/v3/objects/<type>/batch/update", self._batch_update),
            ("POST", "/crm/v3/objects/<type>/search", self._search),
            ("PATCH", "/crm/v3/objects/<type>/<record>", self._update),
            ("GET", "/crm/v3/owners", self._owners),
            ("GET", "/crm/v3/properties/contacts", self._properties),
            ("POST", "/crm/v3/properties/contacts", self._create_property),
            ("GET", "/crm/v3/properties/contacts/groups", self._groups),
            ("POST", "/crm/v3/properties/contacts/groups", self._create_group),
        ):
            answer = self._answering(view)
            self._web.add_url_rule(path, f"{method} {path}", answer, methods=[method], strict_slashes=False)

    def serve(self, host: str) -> BaseWSGIServer:
        """Bind a port; the caller runs the server."""
        return make_server(host, 0, self._web, threaded=True, request_handler=_QuietHandler)

    def _answering(self, view: Callable[..., Answer]) -> Callable[..., tuple[Response, int]]:
        def answer(**arguments: str) -> tuple[Response, int]:
            with self._portal.lock:
                body, status = view(**arguments)
                return jsonify(body), status

        return answer

    def _befall(self) -> Response | None:
        """Count the call; then a fault may befall it, or its token be refused."""
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

    def _batch_read(self, type: str) -> Answer:  # noqa: A002 - HubSpot's word
        body = _body()
        found: dict[str, Record] = {}
        missing: list[str] = []
        inputs = _inputs(body, HISTORY_LIMIT if body.get("propertiesWithHistory") else BATCH_LIMIT)
        known = _known(type)
        if self._portal.is_silent():
            return _batch([], [])
        for wanted in inputs:
            record = self._portal.seen(known, wanted["id"])
            if record is None:
                missing.append(wanted["id"])
            else:
                found[record.id] = record
        errors = [_not_found({"ids": missing})] if missing else []
        return _batch(self._portal.told([_shown(record, body) for record in found.values()]), errors)

    def _batch_update(self, type: str) -> Answer:  # noqa: A002
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
            record = portal.find(_known(type), write["id"])
            if record is None or record.id != write["id"]:  # ids of merged contacts work everywhere but here
                errors.append(_not_found(context))
            elif flaws[record.id]:
                errors.append({**_invalid(flaws[record.id]).body, "context": context})
            else:
                portal.write(record, write["properties"], "INTEGRATION")
                results.append(_shown(record, {"properties": list(write["properties"])}))
        return _batch(results, errors)

    def _update(self, type: str, record: str) -> Answer:  # noqa: A002
        found = self._portal.find(_known(type), record)
        if found is None:
            raise RefusedError(404, "OBJECT_NOT_FOUND", "The record does not exist.")
        properties = _body()["properties"]
        if flaws := self._portal.flaws(properties, found.id):
            raise _invalid(flaws)
        self._portal.write(found, properties, "INTEGRATION")
        return _shown(found, {"properties": list(properties)}), 200

    def _search(self, type: str) -> Answer:  # noqa: A002
        body = _body()
        limit, after = int(body.get("limit", 10)), int(body.get("after", 0))
        if limit > SEARCH_LIMIT or after + limit > SEARCH_CAP:
            raise RefusedError(400, "VALIDATION_ERROR", "A search gives 200 results at once, and 10,000 in all.")
        groups = body.get("filterGroups") or [{"filters": []}]
        matches = [
            record
            for record in self._portal.listed(_known(type))
            if any(all(_matches(record.properties, each) for each in group["filters"]) for group in groups)
        ]
        for sort in body.get("sorts", [])[:1]:
            name, backwards = sort["propertyName"], sort.get("direction") == "DESCENDING"
            matches.sort(key=lambda record: _ordered(record.properties.get(name) or ""), reverse=backwards)
        page = [_shown(record, body) for record in matches[after : after + limit]]
        told = self._portal.told(page)
        total = len(matches) - len(page) + len(told)  # it says nothing of what the page lacks, either
        return {"total": total, "results": told, **_paging(after + limit, len(matches))}, 200

    def _owners(self) -> Answer:
        archived = request.args.get("archived", "false").lower() == "true"
        limit, after = int(request.args.get("limit", 100)), int(request.args.get("after", 0))
        if limit > OWNERS_LIMIT:
            raise RefusedError(400, "VALIDATION_ERROR", "A page has 500 owners at most.")
        if self._portal.is_silent():
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
        return {"results": self._portal.told(page), **_paging(after + limit, len(owners))}, 200

    def _properties(self) -> Answer:
        return {"results": [_defined(each) for each in self._portal.properties.values()]}, 200

    def _create_property(self) -> Answer:
        name, group = _body()["name"], _body()["groupName"]
        if name in self._portal.properties:
            raise RefusedError(409, "CONFLICT", f"There is a property named {name} already.")
        if group not in self._portal.groups:
            raise RefusedError(400, "VALIDATION_ERROR", f"There is no group named {group}.")
        options = {option["value"]: option["label"] for option in _body().get("options", [])}
        return _defined(self._portal.define_property(name, options=options, group=group)), 201

    def _groups(self) -> Answer:
        return {"results": [{"name": name} for name in sorted(self._portal.groups)]}, 200

    def _create_group(self) -> Answer:
        name = _body()["name"]
        if name in self._portal.groups:
            raise RefusedError(409, "CONFLICT", f"There is a group named {name} already.")
        self._portal.groups.add(name)
        return {"name": name}, 201


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        pass


def _body() -> Json:
    body: Json = request.get_json()
    return body


def _known(type: str) -> str:  # noqa: A002
    if type not in ("contacts", "companies", "users"):
        raise RefusedError(400, "VALIDATION_ERROR", "There is no such type of record.")
    return type


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


def _shown(record: Record, asked: Json) -> Json:
    names = (*ALWAYS_READ, *asked.get("properties", ()))
    history = {"hubspot_owner_id": record.owners} if asked.get("propertiesWithHistory") else None
    return {
        "id": record.id,
        "properties": {name: record.properties.get(name) for name in names},
        **({"propertiesWithHistory": history} if history else {}),
        "createdAt": record.properties["createdate"],
        "updatedAt": record.properties["lastmodifieddate"],
        "archived": record.archived,
    }


def _not_found(context: Json) -> Json:
    message = "Some of the records do not exist or are deleted."
    return {"status": "error", "category": "OBJECT_NOT_FOUND", "message": message, "context": context}


def _invalid(flaws: list[Flaw]) -> RefusedError:
    """HubSpot tells each flaw twice: as JSON within the message, and among the errors."""
    told = [{"isValid": False, "message": flaw.message, "error": flaw.code, "name": flaw.property} for flaw in flaws]
    errors = [
        {"message": flaw.message, "code": flaw.code, "context": {"propertyName": [flaw.property]}} for flaw in flaws
    ]
    message = f"Property values were not valid: {json.dumps(told, separators=(',', ':'))}"
    return RefusedError(400, "VALIDATION_ERROR", message, errors=errors)


def _defined(definition: Property) -> Json:
    is_owner = definition.name == "hubspot_owner_id"  # its options are the owners, and are not listed here
    chosen = bool(definition.options) or is_owner
    options = [
        {"label": label, "value": value, "displayOrder": place, "hidden": False}
        for place, (value, label) in enumerate(definition.options.items())
    ]
    return {
        "name": definition.name,
        "label": definition.name.replace("_", " ").capitalize(),
        "groupName": definition.group,
        "type": "enumeration" if chosen else "string",
        "fieldType": "select" if chosen else "text",
        "options": options,
        "externalOptions": is_owner,
        **({"referencedObjectType": "OWNER"} if is_owner else {}),
        "hasUniqueValue": False,
        "modificationMetadata": {"readOnlyValue": definition.read_only},
    }


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
    if operator in ("HAS_PROPERTY", "NOT_HAS_PROPERTY"):
        return bool(value) is (operator == "HAS_PROPERTY")
    if not value:
        return False
    present, wanted = _ordered(value), [_ordered(each) for each in asked.get("values") or [asked["value"]]]
    if operator in ("EQ", "IN"):
        return present in wanted
    if operator in ("GT", "GTE", "LT", "LTE"):
        beyond = present > wanted[0] if operator[0] == "G" else present < wanted[0]
        return beyond or (operator.endswith("E") and present == wanted[0])
    raise RefusedError(400, "VALIDATION_ERROR", "There is no such operator.")
