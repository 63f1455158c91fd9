"""From a plan to running, confined processes."""
