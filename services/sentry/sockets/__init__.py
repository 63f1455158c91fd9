"""services/sentry/sockets."""
