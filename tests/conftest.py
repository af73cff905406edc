"""For all tests: what Hypothesis does. It never fails a test because the machine is busy."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("some", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)
settings.register_profile("many", settings.get_profile("some"), max_examples=400)
settings.load_profile("some")
