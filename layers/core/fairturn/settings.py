"""The environment as one typed object, read on first use."""

from __future__ import annotations

import os
import re
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def _variable(name: str, pattern: str = ".+", default: Any = MISSING) -> Any:
    """A field that is read from a variable of the environment, whose text matches the pattern as a whole."""
    return field(default=default, metadata={"variable": name, "pattern": pattern})


@dataclass(frozen=True, slots=True)
class Settings:
    """What the template tells the functions. Every function gets all of it; none of it is secret."""

    table: str = _variable("TABLE_NAME")
    leads_queue: str = _variable("LEADS_QUEUE_URL")
    bulk_queue: str = _variable("BULK_QUEUE_URL")
    changes_queue: str = _variable("CHANGES_QUEUE_URL")
    leads_dead_letters: str = _variable("LEADS_DEAD_LETTERS_URL")
    changes_dead_letters: str = _variable("CHANGES_DEAD_LETTERS_URL")
    webhook_url: str = _variable("WEBHOOK_URL", "https://.*")
    """The target URL exactly as HubSpot has it: it is part of what HubSpot signs."""
    webhook_secret: str = _variable("WEBHOOK_SECRET_ARN")
    token_secret: str = _variable("HUBSPOT_TOKEN_ARN")
    portal: int = _variable("HUBSPOT_PORTAL_ID", "0*[1-9][0-9]*")
    journal_days: int = _variable("JOURNAL_DAYS", "[1-9][0-9]{0,4}", 400)
    """For how many days journals and superseded versions of the policy are kept."""
    hubspot_url: str = _variable("HUBSPOT_API_URL", "https?://.*", "https://api.hubapi.com")

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Settings:
        """Raises ValueError, naming each variable that is missing or can't be right."""
        found: dict[str, Any] = {}
        wrong: list[str] = []
        for each in fields(cls):
            variable = each.metadata["variable"]
            text = environment.get(variable)
            if text is None and each.default is not MISSING:
                continue
            if text is None or not re.fullmatch(each.metadata["pattern"], text):
                wrong.append(variable)
            else:
                found[each.name] = int(text) if each.type == "int" else text
        if wrong:
            raise ValueError(f"missing or wrong in the environment: {', '.join(wrong)}")
        return cls(**found)


@cache
def settings() -> Settings:
    """Read the environment, once. Raises ValueError, naming each variable that is missing or can't be right."""
    return Settings.read(os.environ)
