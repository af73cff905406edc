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
├── RecordUnreadable         this version cannot read a record                 (its lead alone fails)
├── Refused                  a condition of the table did not hold             (edges/refusals.py names each)
└── Unavailable              it may work later                                 (back to the queue)
    ├── HubSpotUnavailable
    │   ├── ContactUnseen    it does not show a contact, and nothing says why
    │   └── HubSpotDenied    it does not take the token, or the token lacks a scope
    ├── TableUnavailable
    ├── Contended            somebody else was faster, again and again
    ├── OutOfTime            the invocation ends too soon to begin it
    ├── QueueUnavailable
    └── SecretsUnavailable

Whatever else is raised is a mistake of ours. `attempt` tells the two apart.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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


class RecordUnreadable(FairturnError):
    """A lead's record can't be read by this version of the program; the message says why, without any value."""


class Refused(FairturnError):
    """A conditional write did not happen."""


class Unavailable(FairturnError):
    """A neighbour is not to be had now, or it is too early to tell.

    `retry_after` is the least number of seconds to wait, 0 if unsaid; `retry_within` is the most, None if unsaid.
    """

    def __init__(self, message: str, *, retry_after: float = 0.0, retry_within: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.retry_within = retry_within


class HubSpotUnavailable(Unavailable):
    """HubSpot answers too late, too busy or not at all."""


class ContactUnseen(HubSpotUnavailable):
    """HubSpot does not show a contact, and no event tells why: its reads may lag."""


class HubSpotDenied(HubSpotUnavailable):
    """HubSpot does not take the token (401), or it lacks a scope (403): somebody has to mend it."""


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


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mistake:
    """An exception that is no fact of the trade."""

    what: str
    """Its type and its place. Never its text, which may hold anything."""

    @classmethod
    def of(cls, error: Exception) -> Mistake:
        """Name an exception by where our own code was last."""
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "fairturn" in Path(frame.filename).parts] or frames
        place = f" in {Path(ours[-1].filename).name}, line {ours[-1].lineno}" if ours else ""
        return cls(f"{type(error).__name__}{place}")


def attempt(what: Callable[[], T]) -> T | Mistake:
    """Do something of which a mistake of ours must harm nothing else. Raises Unavailable as it comes."""
    try:
        return what()
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 - the one place: what we didn't foresee has to end somewhere
        return Mistake.of(error)
