"""Every fact of the trade that stops something, one exception each.

FairturnError
├── SignatureRejected        the request is not signed by HubSpot              (intake answers 401)
├── BodyRejected             the request is not a JSON array of objects        (intake answers 400)
├── BodyTooLarge             the request is larger than HubSpot ever sends     (intake answers 413)
├── EventRejected            one event of a request cannot be understood       (dead-lettered)
├── MessageRejected          a queued message cannot be understood             (dead-lettered)
├── PolicyInvalid            the policy has problems, each with its place
├── PolicyMissing            no policy has been applied                        (dead-lettered)
├── PolicySuperseded         the ledger has seen a newer policy than ours      (decided anew)
├── Refused                  a condition of the table did not hold; it says who won
│   ├── ClaimRefused         the ledger, the loads or some records have moved
│   ├── RecordsMoved         some records have moved
│   ├── PolicyMoved          somebody else has applied a policy meanwhile
│   ├── RosterMoved          somebody else has refreshed the owners meanwhile
│   └── BrakeMoved           somebody else has counted leads from bulk sources meanwhile
└── Unavailable              it may work later                                 (back to the queue)
    ├── HubSpotUnavailable
    ├── TableUnavailable
    ├── Contended            somebody else was faster, again and again
    ├── OutOfTime            the invocation ends too soon to begin it
    ├── QueueUnavailable
    └── SecretsUnavailable
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fairturn.ledger import Ledger
    from fairturn.record import Record


class FairturnError(Exception):
    """The root of all that Fairturn raises."""


class SignatureRejected(FairturnError):
    """The signature does not hold. The message is for the log, never for the caller."""


class BodyRejected(FairturnError):
    """The body is not a JSON array of objects."""


class BodyTooLarge(FairturnError):
    """The body is over the limit."""


class EventRejected(FairturnError):
    """One event cannot be understood; the message says why."""


class MessageRejected(FairturnError):
    """A queued message cannot be understood; the message says why."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a policy: the place in the file, and what is wrong with what is allowed."""

    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" if self.place else self.what


class PolicyInvalid(FairturnError):
    """The policy cannot be used."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class PolicyMissing(FairturnError):
    """No policy is in force."""


class PolicySuperseded(FairturnError):
    """Turns have been allotted under a newer policy than the one at hand."""


class Refused(FairturnError):
    """A conditional write did not happen."""


class ClaimRefused(Refused):
    """A claim or its undoing did not happen. What won is carried along; what is None or absent did hold.

    `ledger` and `loads` are as they stand now; `records` holds each record that moved, None where it is gone.
    """

    def __init__(
        self,
        *,
        ledger: Ledger | None = None,
        loads: Mapping[str, int] | None = None,
        records: Mapping[str, Record | None] | None = None,
    ) -> None:
        moved = [name for name, item in (("ledger", ledger), ("loads", loads)) if item is not None]
        super().__init__(f"moved: {', '.join([*moved, *(records or {})])}")
        self.ledger = ledger
        self.loads = loads
        self.records = dict(records or {})


class RecordsMoved(Refused):
    """Some records were not as read; `records` holds them as they are now, None where there is none."""

    def __init__(self, records: Mapping[str, Record | None]) -> None:
        super().__init__(f"moved: {', '.join(records)}")
        self.records = dict(records)


class PolicyMoved(Refused):
    """Another version of the policy came into force first."""


class RosterMoved(Refused):
    """The owners were refreshed by somebody else first."""


class BrakeMoved(Refused):
    """Leads from bulk sources were counted by somebody else first."""


class Unavailable(FairturnError):
    """A neighbour is not to be had now. `retry_after` is the least number of seconds to wait; 0 if unsaid."""

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class HubSpotUnavailable(Unavailable):
    """HubSpot answers too late, too busy or not at all."""


class TableUnavailable(Unavailable):
    """DynamoDB refuses for now: throttled, in conflict too often, or down."""


class Contended(Unavailable):
    """Somebody else was faster, again and again: what was decided could not be written."""


class OutOfTime(Unavailable):
    """There is too little time left to begin this."""


class QueueUnavailable(Unavailable):
    """SQS did not take everything."""


class SecretsUnavailable(Unavailable):
    """A secret cannot be read."""
