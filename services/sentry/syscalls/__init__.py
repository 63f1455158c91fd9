"""services/sentry/syscalls."""
