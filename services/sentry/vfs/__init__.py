"""services/sentry/vfs."""
