"""The contact properties that say why a lead is whose: how they are defined and made."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from fairturn.rules.events import CONTACT
from fairturn.rules.policy import Priority

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fairturn.deadline import Deadline
    from fairturn.edges.hubspot.client import HubSpot

GROUP: Final = "fairturn"
LABEL: Final = "Fairturn"
"""What the group is called, in every language."""


class Language(StrEnum):
    """What labels and descriptions may be written in."""

    EN = "en"
    FR = "fr"


Text = dict[Language, str]


def _text(en: str, fr: str) -> Text:
    return {Language.EN: en, Language.FR: fr}


@dataclass(frozen=True, slots=True)
class Definition:
    """A contact property as it is made."""

    name: str
    type: str
    field_type: str
    label: Text
    description: Text
    options: Mapping[str, Text] = field(default_factory=dict)
    """Internal value → label."""

    def as_json(self, place: int, language: Language) -> dict[str, Any]:
        """As HubSpot takes it; `place` is where it stands in its group."""
        return {
            "groupName": GROUP,
            "name": self.name,
            "label": self.label[language],
            "description": self.description[language],
            "type": self.type,
            "fieldType": self.field_type,
            "displayOrder": place,
            "formField": False,
            "options": [
                {"value": value, "label": label[language], "displayOrder": number, "hidden": False}
                for number, (value, label) in enumerate(self.options.items())
            ],
        }


DEFINITIONS: Final = (
    Definition(
        "fairturn_team",
        "string",
        "text",
        _text("Fairturn team", "Équipe Fairturn"),
        _text("The team that shares such leads.", "L'équipe qui se partage ce type de leads."),
    ),
    Definition(
        "fairturn_rule",
        "string",
        "text",
        _text("Fairturn rule", "Règle Fairturn"),
        _text(
            "The rule of the policy that sent the lead there; otherwise: no rule fitted.",
            "La règle qui a orienté le lead vers cette équipe ; otherwise : aucune règle ne convenait.",
        ),
    ),
    Definition(
        "fairturn_reason",
        "string",
        "textarea",
        _text("Fairturn reason", "Raison Fairturn"),
        _text("Why the lead was given to this owner.", "Pourquoi le lead a été attribué à ce propriétaire."),
    ),
    Definition(
        "fairturn_priority",
        "enumeration",
        "select",
        _text("Fairturn priority", "Priorité Fairturn"),
        _text("How urgent the lead is by the policy.", "L'urgence du lead selon les règles."),
        {
            Priority.URGENT: _text("Urgent", "Urgente"),
            Priority.HIGH: _text("High", "Haute"),
            Priority.NORMAL: _text("Normal", "Normale"),
            Priority.LOW: _text("Low", "Basse"),
        },
    ),
    Definition(
        "fairturn_assigned_at",
        "datetime",
        "date",
        _text("Assigned by Fairturn", "Attribué par Fairturn"),
        _text("When the lead was given to this owner.", "Quand le lead a été attribué à ce propriétaire."),
    ),
)


@dataclass(frozen=True, slots=True)
class Made:
    """What became of the group or of one property."""

    name: str
    is_new: bool
    wanted: str = ""
    found: str = ""
    """The type that a property has, where it was there before."""

    @property
    def differs(self) -> bool:
        """Whether it was there with another type."""
        return self.found != self.wanted

    def __str__(self) -> str:
        """In words."""
        if self.differs:
            return f"{self.name}: is there as {self.found}, not as {self.wanted}; it was left as it is"
        return f"{self.name}: {'made' if self.is_new else 'is there'}"


def make(crm: HubSpot, language: Language, deadline: Deadline) -> Iterator[Made]:
    """Make the group and the properties that HubSpot lacks, one after the other. Raises Unavailable."""
    groups = crm.property_groups(CONTACT, deadline)
    if GROUP not in groups:
        crm.create_property_group(CONTACT, {"name": GROUP, "label": LABEL}, deadline)
    yield Made(f"group {LABEL}", is_new=GROUP not in groups)
    types = crm.property_types(CONTACT, deadline)
    for place, each in enumerate(DEFINITIONS):
        if each.name not in types:
            crm.create_property(CONTACT, each.as_json(place, language), deadline)
        yield Made(each.name, each.name not in types, each.type, types.get(each.name, each.type))
