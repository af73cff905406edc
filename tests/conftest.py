"""For all tests: Hypothesis never fails a test because the machine is busy."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("fairturn", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fairturn")
