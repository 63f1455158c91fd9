"""services/sentry/mm."""
