"""HubSpot's API through its own client library: bounded, and translated in one place.

Every call is given a deadline, and nothing begins that can't end before it. A call has at most three attempts, a
second apart at most and only for what passes in a moment. Whatever wants a longer wait is raised as
`HubSpotUnavailable`, so that the queue waits instead of the function.

An attempt is bounded as a whole. A timeout of the client's bounds one wait for bytes only, and headers or a body
that drip have no end for it. So the attempt runs in a thread, and who waits for it gives up in time. A request that
was given up may still do its work at HubSpot; its thread ends when HubSpot or the connection does.

HubSpot's answers hold personal data: only status, category, codes, property names and scopes leave
this package, and no exception of ours is chained to one of the client's, whose text holds the whole answer.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec
import urllib3
from hubspot.crm import objects, owners
from hubspot.crm.objects.exceptions import ApiException as ObjectsApiException
from hubspot.crm.owners.exceptions import ApiException as OwnersApiException
from tenacity import RetryCallState, Retrying, retry_if_result, wait_random

from fairturn.edges.hubspot.answers import (
    CHANGED_AT,
    CREATED_AT,
    MERGED_IDS,
    RECORD_ID,
    SOURCE,
    UNACCOUNTED,
    Answer,
    BatchResponse,
    OwnerChange,
    OwnersPage,
    PropertyDefinition,
    PropertyDefinitions,
    PropertyGroup,
    PropertyGroups,
    PublicOwner,
    Refusal,
    SearchResponse,
    StandardError,
    read,
)
from fairturn.errors import HubSpotDenied, HubSpotUnavailable, Unavailable
from fairturn.rules.events import OWNER
from fairturn.rules.roster import Owner
from fairturn.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fairturn.deadline import Deadline
    from fairturn.rules.missed import Sighting

BATCH_LIMIT: Final = 100
"""Records in one batch read or update: HubSpot's limit."""
HISTORY_LIMIT: Final = 50
"""Records in one batch read with histories: HubSpot's limit."""
SEARCH_PAGE: Final = 200
"""Records in one answer to a search: HubSpot's limit."""
SEARCH_EVERY: Final = 1.0
"""Seconds from one search to the next: a whole account has five in a second, and other apps search as well."""
MOST_GROUPS: Final = 5
"""Groups of filters in one search: HubSpot's limit."""
OWNERS_PER_PAGE: Final = 500
OWNER_PAGES: Final = 40
"""Pages of owners read at most, of the active and of the archived ones each."""
CONNECT_TIMEOUT: Final = 2.0
"""Seconds to wait for the connection."""
READ_TIMEOUT: Final = 8.0
"""Seconds to wait for the next bytes of an answer."""
LEAST_CALL: Final = 1.0
"""Seconds that must be left for an attempt to begin: with less, it would most likely be given up."""
LONGEST_CALL: Final = CONNECT_TIMEOUT + READ_TIMEOUT
"""Seconds that one attempt may take as a whole, from the look-up of the name to the last byte of the body."""
CALLERS: Final = 4
"""Threads: one for the attempt that is waited for, the others for those given up that have not ended yet."""
ATTEMPTS: Final = 3
MOMENT: Final = wait_random(0.2, 0.6)
"""Seconds between attempts after a failed connection, a timeout or a 5xx."""
SECOND: Final = wait_random(1.0, 1.3)
"""Seconds between attempts after the limit per second."""
TEN_SECONDS: Final = 10.0
"""Seconds to wait after the limit per ten seconds."""
QUARTER_HOUR: Final = 900.0
"""Seconds to wait after the limit per day."""
LOCKED_FOR: Final = 2.0
"""Seconds to wait for a locked record or portal."""
LONGEST_RETRY_AFTER: Final = 86_400.0
"""HubSpot asks for 24 hours at most, while it moves a portal."""

UNAUTHORIZED: Final = 401
FORBIDDEN: Final = 403
CONFLICT: Final = 409
LOCKED: Final = 423
TOO_MANY: Final = 429
SERVER_ERROR: Final = 500
REJECTIONS: Final = frozenset({400, 404, 409, 413, 422})
"""Statuses that say: this request will never be right."""


@dataclass(frozen=True, slots=True)
class OwnerWrite:
    """The owner of one record, and the properties that explain them (name → value)."""

    id: str
    owner: str
    explanation: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BatchRead:
    """What came of a batch read. A record that is named nowhere in it is not known to HubSpot."""

    records: Mapping[str, Mapping[str, str | None]]
    """Record id → its properties."""
    unreadable: Mapping[str, Unavailable]
    """Record id → why HubSpot could not say anything of it now."""
    merged: Mapping[str, str] = field(default_factory=dict)
    """Id that was asked for → id of the record that it was merged into, which is among the records."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a batch of writes; every record that is not named here has its owner."""

    refused: Mapping[str, tuple[Refusal, str]]
    """Record id → kind, and a short reason without personal data."""
    put_off: Mapping[str, Unavailable] = field(default_factory=dict)
    """Record id → why HubSpot didn't get to it; the owner may have been written all the same."""
    explained: bool = True
    """False: HubSpot refused a property of the explanation, and owners were written without it."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a search asks of one property."""

    property: str
    operator: str
    """One of HubSpot's, such as EQ, IN or GTE."""
    value: str | tuple[str, ...]
    """Text as HubSpot compares it: a time is epoch milliseconds, and a tuple is for IN."""

    def as_json(self) -> dict[str, object]:
        """As HubSpot takes it."""
        name = "value" if isinstance(self.value, str) else "values"
        return {"propertyName": self.property, "operator": self.operator, name: self.value}


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of a search, by id."""

    total: int
    """How many records there are from the page's first one on, by HubSpot's count."""
    page: tuple[Sighting, ...]

    @property
    def is_last(self) -> bool:
        """Whether no page comes after it."""
        return self.total <= len(self.page)


@dataclass(frozen=True, slots=True)
class _Failure:
    """A call that brought no answer."""

    status: int
    """0: no answer of HubSpot's at all."""
    error: StandardError
    what: str
    retry_after: float = 0.0
    again: wait_random | None = None
    """How long to pause before the next attempt in this process; None: no attempt."""

    @property
    def rejected(self) -> bool:
        """Whether HubSpot itself, and nothing on the way to it, says that this will never be right."""
        return self.status in REJECTIONS and self.error.category is not None

    def unavailable(self) -> HubSpotUnavailable:
        kind = HubSpotDenied if self.status in {UNAUTHORIZED, FORBIDDEN} else HubSpotUnavailable
        return kind(self.what, retry_after=self.retry_after)


_Shape = TypeVar("_Shape", bound=Answer)


class HubSpot:
    """One portal. The client's API objects, and with them the connections, are kept for life."""

    def __init__(
        self,
        token: Callable[[bool], str],
        url: str = "https://api.hubapi.com",
        *,
        timeout: tuple[float, float] = (CONNECT_TIMEOUT, READ_TIMEOUT),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`token(refresh)` gives the access token; with refresh it is read anew, after a 401.

        `timeout` is that of connecting and of waiting for the next bytes, in seconds. `sleep` pauses between two
        attempts.
        """
        self._token = token
        self._timeout = timeout
        self._sleep = sleep
        self._objects = objects.BatchApi(_client(objects, url))
        self._search = objects.SearchApi(self._objects.api_client)
        self._owners = owners.OwnersApi(_client(owners, url))
        self._searched_at = float("-inf")
        self._callers = ThreadPoolExecutor(CALLERS, thread_name_prefix="hubspot")

    def read(
        self,
        type: str,  # noqa: A002 - the word of the trade
        ids: Sequence[str],
        properties: Sequence[str],
        deadline: Deadline,
    ) -> BatchRead:
        """Read up to 100 records in one request.

        Records that HubSpot doesn't know are absent. A record merged into another answers under the id of
        the survivor, and `merged` says so. Raises HubSpotUnavailable, and OutOfTime if too little is left to ask.
        """
        wanted = list(dict.fromkeys([*properties, MERGED_IDS]))
        batch = self._read(type, ids, BATCH_LIMIT, deadline, properties=wanted)
        records: dict[str, dict[str, str | None]] = {each.id: each.shown(properties) for each in batch.results}
        absent = set(ids) - records.keys()
        merged = {lead: record.id for record in batch.results for lead in absent & record.merged()}
        unreadable: dict[str, HubSpotUnavailable] = {}
        for error in batch.errors:
            if error.refusal() is not Refusal.GONE:
                unreadable |= dict.fromkeys((error.ids() or absent) - merged.keys(), _not_read(error))
        return BatchRead(records, unreadable, merged)

    def owner_histories(
        self,
        type: str,  # noqa: A002 - as above
        ids: Sequence[str],
        deadline: Deadline,
    ) -> Mapping[str, Sequence[OwnerChange]]:
        """Read the histories of up to 50 records' owners in one request: record id → changes, latest first.

        Records that HubSpot doesn't know are absent; a record merged into another answers under the id of the
        survivor. Raises HubSpotUnavailable, also when there is one record of which HubSpot could say nothing, and
        OutOfTime if too little is left to ask.
        """
        batch = self._read(type, ids, HISTORY_LIMIT, deadline, propertiesWithHistory=[OWNER])
        for error in batch.errors:
            if error.refusal() is not Refusal.GONE:
                raise _not_read(error)
        return {record.id: record.owner_changes() for record in batch.results}

    def write_owners(
        self,
        type: str,  # noqa: A002 - as above
        writes: Sequence[OwnerWrite],
        deadline: Deadline,
    ) -> WriteResult:
        """Give up to 100 records, each named once, their owners: one request when all goes well.

        When HubSpot refuses the whole for the sake of some, these are found by halving: at most two requests
        per record. Where HubSpot is not to be had, and at the deadline, the writes that it didn't get to are put
        off; what was written and what was refused by then stands.
        """
        if len(writes) > BATCH_LIMIT:
            raise ValueError(f"at most {BATCH_LIMIT} records at once")
        refused: dict[str, tuple[Refusal, str]] = {}
        put_off: dict[str, Unavailable] = {}
        explanation = frozenset(name for write in writes for name in write.explanation)
        explained = True
        # Sorted by owner, because one bad owner is the likeliest reason to halve.
        parts = [sorted(writes, key=lambda write: write.owner)] if writes else []
        while parts:
            part = parts.pop()
            try:
                batch = self._update(type, part, deadline, explained=explained)
            except Unavailable as failure:
                put_off |= {write.id: failure for left in (part, *parts) for write in left}
                break
            errors = _errors(part, batch)
            put_off |= {lead: _not_written(error) for lead, error in errors.items() if error.passes()}
            errors = {lead: error for lead, error in errors.items() if not error.passes()}
            unexplained = [write for write in part if write.id in errors and errors[write.id].names(explanation)]
            if explained and unexplained:
                logger.warning("HubSpot refuses the explanation", why=errors[unexplained[0].id].summary())
                explained = False
                parts.append(unexplained)
                errors = {lead: error for lead, error in errors.items() if not error.names(explanation)}
            elif errors and isinstance(batch, _Failure) and _worth_halving(part, batch.error):
                half = len(part) // 2
                parts += [part[half:], part[:half]]
                continue
            refused |= {lead: (error.refusal(), error.summary()) for lead, error in errors.items()}
        return WriteResult(refused, put_off, explained=explained)

    def search(
        self,
        type: str,  # noqa: A002 - as above
        groups: Sequence[Sequence[Filter]],
        deadline: Deadline,
        *,
        beyond: str = "0",
        most: int = SEARCH_PAGE,
    ) -> SearchPage:
        """The records for which all filters of one of the groups hold, at most five, by id: the first page, of at most
        200, of those whose id is greater than `beyond`.

        Going on like that, and not by HubSpot's own pages, a search has no end at 10,000 records. It begins a second
        after the last one at the earliest. It does not show what was created or changed a moment ago, and may lack
        others. Raises HubSpotUnavailable, and OutOfTime if too little is left to ask.
        """
        if not 1 <= len(groups) <= MOST_GROUPS:
            raise ValueError(f"1 to {MOST_GROUPS} groups of filters")
        further = Filter(RECORD_ID, "GT", beyond)
        body = {
            "filterGroups": [{"filters": [each.as_json() for each in (*group, further)]} for group in groups],
            "sorts": [{"propertyName": RECORD_ID, "direction": "ASCENDING"}],
            "properties": [CREATED_AT, CHANGED_AT, SOURCE, MERGED_IDS],
            "limit": most,
        }
        early = self._searched_at + SEARCH_EVERY - time.time()
        if early > 0:
            deadline.check(early + LEAST_CALL)
            self._sleep(min(early, SEARCH_EVERY))
        self._searched_at = time.time()
        answer = self._call(deadline, SearchResponse, self._search.do_search, f"{type}s", body)
        if isinstance(answer, _Failure):
            raise answer.unavailable()
        sightings = [record.sighting() for record in answer.results]
        return SearchPage(answer.total, tuple(sorted(sightings, key=lambda each: int(each.id))))

    def owners(self, deadline: Deadline) -> list[Owner]:
        """Every owner of the portal, archived ones (deactivated users) last.

        Raises HubSpotUnavailable, and OutOfTime if too little is left to ask for a page.
        """
        return [
            Owner(id=owner.id, email=owner.email or "", archived=archived)
            for archived in (False, True)
            for owner in self._listed(deadline, archived=archived)
        ]

    def options(
        self,
        type: str,  # noqa: A002 - as above
        deadline: Deadline,
    ) -> dict[str, dict[str, str] | None]:
        """The properties that records of this type may have, and the options of each: internal value → label.

        A property that may have any value, or one from elsewhere such as an owner, has None. Takes one request.
        Raises HubSpotUnavailable, also if the token lacks the scope for it, and OutOfTime if too little is left to ask.
        """
        return {each.name: each.choices() for each in self._defined(type, deadline)}

    def property_types(
        self,
        type: str,  # noqa: A002 - as above
        deadline: Deadline,
    ) -> dict[str, str]:
        """The properties that records of this type may have, and the type of each. Raises as `options` does."""
        return {each.name: each.type or "unknown" for each in self._defined(type, deadline)}

    def property_groups(
        self,
        type: str,  # noqa: A002 - as above
        deadline: Deadline,
    ) -> set[str]:
        """The groups of properties of this type of records. Raises as `options` does."""
        answer = self._call(deadline, PropertyGroups, self._properties("GroupsApi").get_all, f"{type}s")
        if isinstance(answer, _Failure):
            raise answer.unavailable()
        return {each.name for each in answer.results}

    def create_property_group(
        self,
        type: str,  # noqa: A002 - as above
        group: Mapping[str, object],
        deadline: Deadline,
    ) -> None:
        """Make a group of properties; one that is there already stays as it is. Raises as `options` does."""
        _made(self._call(deadline, PropertyGroup, self._properties("GroupsApi").create, f"{type}s", group))

    def create_property(
        self,
        type: str,  # noqa: A002 - as above
        definition: Mapping[str, object],
        deadline: Deadline,
    ) -> None:
        """Make a property; one that is there already stays as it is. Raises as `options` does."""
        _made(self._call(deadline, PropertyDefinition, self._properties("CoreApi").create, f"{type}s", definition))

    def _defined(
        self,
        type: str,  # noqa: A002 - as above
        deadline: Deadline,
    ) -> Sequence[PropertyDefinition]:
        answer = self._call(deadline, PropertyDefinitions, self._properties("CoreApi").get_all, f"{type}s")
        if isinstance(answer, _Failure):
            raise answer.unavailable()
        if not answer.results:  # no portal is without any
            raise HubSpotUnavailable("HubSpot lists no properties")
        return answer.results

    def _properties(self, api: str) -> Any:
        from hubspot.crm import properties  # here, because no function ever asks

        return getattr(properties, api)(self._objects.api_client)

    def _listed(self, deadline: Deadline, *, archived: bool) -> Iterator[PublicOwner]:
        asked: dict[str, Any] = {"limit": OWNERS_PER_PAGE, "archived": archived}
        for _ in range(OWNER_PAGES):
            page = self._call(deadline, OwnersPage, self._owners.get_page, **asked)
            if isinstance(page, _Failure):
                raise page.unavailable()
            yield from page.results
            if page.paging is None or page.paging.next is None:
                return
            asked["after"] = page.paging.next.after
        raise HubSpotUnavailable(f"HubSpot lists owners beyond {OWNER_PAGES} pages")

    def _read(
        self,
        type: str,  # noqa: A002 - as above
        ids: Sequence[str],
        limit: int,
        deadline: Deadline,
        **asked: Sequence[str],
    ) -> BatchResponse:
        """Read so many records at most in one request; none, in no request. Raises Unavailable."""
        if len(ids) > limit:
            raise ValueError(f"at most {limit} records at once")
        if not ids:
            return BatchResponse(results=())
        body = {"inputs": [{"id": record} for record in dict.fromkeys(ids)], **asked}
        batch = self._call(deadline, BatchResponse, self._objects.read, f"{type}s", body)
        if isinstance(batch, _Failure):
            raise batch.unavailable()
        return batch

    def _update(
        self,
        type: str,  # noqa: A002 - as above
        writes: Sequence[OwnerWrite],
        deadline: Deadline,
        *,
        explained: bool,
    ) -> BatchResponse | _Failure:
        inputs = [
            {
                "id": write.id,
                "objectWriteTraceId": write.id,
                "properties": {**(write.explanation if explained else {}), OWNER: write.owner},
            }
            for write in writes
        ]
        return self._call(deadline, BatchResponse, self._objects.update, f"{type}s", {"inputs": inputs})

    def _call(
        self, deadline: Deadline, shape: type[_Shape], call: Callable[..., Any], *arguments: Any, **options: Any
    ) -> _Shape | _Failure:
        """One call, with its attempts. Gives the answer or HubSpot's rejection; raises all else as Unavailable."""
        retrying = Retrying(
            sleep=self._sleep,
            stop=lambda state: state.attempt_number >= ATTEMPTS or deadline.left() < state.upcoming_sleep + LEAST_CALL,
            retry=retry_if_result(lambda outcome: isinstance(outcome, _Failure) and outcome.again is not None),
            wait=_wait,
            before_sleep=_log_retry,
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )
        outcome: _Shape | _Failure
        for refresh in (False, True):
            deadline.check(LEAST_CALL)
            access_token = self._token(refresh)
            for api in (self._objects, self._owners):
                api.api_client.configuration.access_token = access_token
            outcome = retrying(self._attempt, deadline, shape, call, *arguments, **options)
            if not (isinstance(outcome, _Failure) and outcome.status == UNAUTHORIZED):
                break
        if isinstance(outcome, _Failure) and not outcome.rejected:
            raise outcome.unavailable()
        return outcome

    def _attempt(
        self, deadline: Deadline, shape: type[_Shape], call: Callable[..., Any], *arguments: Any, **options: Any
    ) -> _Shape | _Failure:
        """One request, waited for until the deadline, or for as long as one may take. Raises OutOfTime."""
        deadline.check(LEAST_CALL)  # again: reading the token or pausing may have taken long
        future = self._callers.submit(self._request, shape, call, *arguments, **options)
        try:
            return future.result(min(deadline.left(), LONGEST_CALL))
        except TimeoutError:
            future.cancel()  # as long as no caller was free for it, it has not begun, and never shall
            return _Failure(0, StandardError(), "HubSpot answers too slowly", again=MOMENT)

    def _request(
        self, shape: type[_Shape], call: Callable[..., Any], *arguments: Any, **options: Any
    ) -> _Shape | _Failure:
        # The plain response, because the client's own models turn all that they don't know into None.
        try:
            response = call(*arguments, **options, _preload_content=False, _request_timeout=self._timeout)
            return read(shape, response.data)
        except (ObjectsApiException, OwnersApiException) as error:
            return _failure(error.status, error.headers or {}, error.body or "")
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            return _Failure(0, StandardError(), f"HubSpot does not answer: {type(reason).__name__}", again=MOMENT)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # the client decodes bodies of errors strictly
            return _Failure(0, StandardError(), "HubSpot answers something else than expected", again=MOMENT)


def _client(package: Any, url: str) -> Any:
    configuration = package.Configuration(host=url.rstrip("/"))
    # None of urllib3's own retries: they sleep for as long as a header says. And no redirects: the token
    # stays with HubSpot. (False instead of a Retry would make the client trip over errors of TLS.)
    configuration.retries = urllib3.Retry(0, raise_on_redirect=False)
    return package.ApiClient(configuration)


def _wait(state: RetryCallState) -> float:
    again = _failed(state).again
    return again(state) if again else 0.0


def _log_retry(state: RetryCallState) -> None:
    logger.info("HubSpot is asked again", why=_failed(state).what, attempt=state.attempt_number)


def _failed(state: RetryCallState) -> _Failure:
    return cast("_Failure", state.outcome and state.outcome.result())


def _failure(status: int, headers: Mapping[str, str], body: str) -> _Failure:
    """What a status other than 2xx means."""
    try:
        error = read(StandardError, body)
    except msgspec.MsgspecError:  # a gateway's HTML
        error = StandardError()
    again = None
    retry_after = _seconds(headers.get("Retry-After"))
    if status == TOO_MANY:
        limit = f"{error.policy_name} {error.message}".upper()
        if "DAILY" in limit:
            retry_after = QUARTER_HOUR
        elif "SECONDLY" in limit and "TEN_SECONDLY" not in limit:
            again, retry_after = SECOND, 1.0
        else:
            retry_after = TEN_SECONDS
    elif status == LOCKED:
        retry_after = LOCKED_FOR
    elif status >= SERVER_ERROR:
        again = MOMENT
    return _Failure(status, error, f"HubSpot answers {status} {error.summary()}", retry_after, again)


def _seconds(retry_after: str | None) -> float:
    if retry_after is None or not retry_after.isdecimal():
        return 0.0
    return min(float(retry_after), LONGEST_RETRY_AFTER)


def _errors(writes: Sequence[OwnerWrite], batch: BatchResponse | _Failure) -> dict[str, StandardError]:
    """The error of each write that failed; of all of them when the whole batch was rejected.

    A write that HubSpot says nothing of has an error that passes: the next try will see what became of it.
    """
    if isinstance(batch, _Failure):
        return {write.id: batch.error for write in writes}
    named = {lead: error for error in batch.errors for lead in error.ids()}
    nameless = next((error for error in batch.errors if not error.ids()), UNACCOUNTED)
    written = {lead for record in batch.results for lead in (record.id, record.object_write_trace_id)}
    return {write.id: named.get(write.id, nameless) for write in writes if write.id not in written}


def _made(answer: Answer | _Failure) -> None:
    """Raises HubSpotUnavailable unless it is there now."""
    if isinstance(answer, _Failure) and answer.status != CONFLICT:
        raise answer.unavailable()


def _not_read(error: StandardError) -> HubSpotUnavailable:
    return HubSpotUnavailable(f"HubSpot could not read some records: {error.summary()}")


def _not_written(error: StandardError) -> HubSpotUnavailable:
    return HubSpotUnavailable(f"HubSpot has not written the record: {error.summary()}")


def _worth_halving(writes: Sequence[OwnerWrite], error: StandardError) -> bool:
    """Whether a part of a rejected batch may pass: not of one record, nor of one unknown owner."""
    if error.refusal() is Refusal.OWNER:
        return len({write.owner for write in writes}) > 1
    return len(writes) > 1
