"""services/sentry/filesystems."""
