"""What all tests share: hypothesis without time limits, which a loaded machine would break, and without a folder."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("sentrio", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sentrio")
