"""services/sentry/files."""
