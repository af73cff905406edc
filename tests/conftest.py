"""For all tests: what Hypothesis does, and that no time goes into collecting what stays."""

from __future__ import annotations

import gc

from hypothesis import HealthCheck, settings

# Hypothesis never fails a test because the machine is busy.
settings.register_profile("some", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)
settings.register_profile("many", settings.get_profile("some"), max_examples=400)
settings.load_profile("some")


def pytest_collection_finish() -> None:
    """What modules made when they were imported is no garbage: looking through it again takes a tenth of the time."""
    gc.collect()
    gc.freeze()
