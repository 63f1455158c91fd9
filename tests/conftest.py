"""What all tests share: hypothesis without time limits (a loaded machine breaks them) and folder; Ctrl-C that works."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("sentrio", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sentrio")

# A shell that starts this in the background leaves SIGINT ignored, and so would every program that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
