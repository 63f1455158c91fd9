"""services/sentry/devices."""
