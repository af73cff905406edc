"""The environment as one typed object, read on first use."""

from __future__ import annotations

import os
from functools import cache

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """What the template tells the functions. Every function gets all of it; none of it is secret."""

    model_config = ConfigDict(frozen=True)

    table: str = Field(alias="TABLE_NAME", min_length=1)
    leads_queue: str = Field(alias="LEADS_QUEUE_URL", min_length=1)
    bulk_queue: str = Field(alias="BULK_QUEUE_URL", min_length=1)
    changes_queue: str = Field(alias="CHANGES_QUEUE_URL", min_length=1)
    leads_dead_letters: str = Field(alias="LEADS_DEAD_LETTERS_URL", min_length=1)
    changes_dead_letters: str = Field(alias="CHANGES_DEAD_LETTERS_URL", min_length=1)
    webhook_url: str = Field(alias="WEBHOOK_URL", pattern=r"^https://")
    """The target URL exactly as HubSpot has it: it is part of what HubSpot signs."""
    webhook_secret: str = Field(alias="WEBHOOK_SECRET_ARN", min_length=1)
    token_secret: str = Field(alias="HUBSPOT_TOKEN_ARN", min_length=1)
    portal: int = Field(alias="HUBSPOT_PORTAL_ID", ge=1)
    hubspot_url: str = Field(alias="HUBSPOT_API_URL", default="https://api.hubapi.com", pattern=r"^https?://")


@cache
def settings() -> Settings:
    """Read the environment, once. Raises pydantic's ValidationError, naming each variable that is missing."""
    return Settings.model_validate(dict(os.environ))
