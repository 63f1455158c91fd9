"""services/sentry/loader."""
