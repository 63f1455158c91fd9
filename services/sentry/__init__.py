"""services/sentry."""
