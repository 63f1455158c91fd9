"""Where the Sentry touches the outside: host descriptors, the control channel, the loop that sleeps. No logic."""
