"""Keeps what the functions log and emit from the page and the screen."""

from __future__ import annotations

import os
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairturn.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def silence() -> Iterator[None]:
    """Let it go nowhere meanwhile. It is made all the same, so it takes its time."""
    handler: Any = logger.registered_handler
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        before = handler.setStream(nowhere)
        try:
            yield
        finally:
            handler.setStream(before)
