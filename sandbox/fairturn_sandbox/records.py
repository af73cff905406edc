"""What a portal keeps: contacts, their owners, and the properties that they may have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True)
class PortalOwner:
    """A user who can own contacts."""

    id: str
    email: str
    first: str
    last: str
    user: int
    archived: bool = False


@dataclass(slots=True)
class Contact:
    """A contact; `owners` is the history of its owner, latest first."""

    id: str
    properties: dict[str, str | None]
    owners: list[dict[str, str | None]] = field(default_factory=list)
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Property:
    """A property that contacts may have."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    """Internal value → label."""
    read_only: bool = False
    type: str = "string"
    label: str = ""
    group: str = "contactinformation"


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a property's value is refused, in HubSpot's words."""

    property: str
    code: str
    message: str
